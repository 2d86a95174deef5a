// SPDX-License-Identifier: GPL-2.0
/*
 * bench_fork - the time fork takes, ordinary and with shared page tables
 *
 * Touches memory without huge pages, then measures, as medians of several runs:
 *   first    fork after every page was written
 *   second   fork again, nothing written since the last one
 *   wait     the child's exit and the parent's wait for it
 *   rewrite  the parent's write to every page after the child has left
 *   fault    the slowest single write of those
 * and what the child's life costs in page tables.
 */
#include <getopt.h>
#include <sys/prctl.h>

#include "bench_util.h"

#define MAX_RUNS	101

static const char help[] =
"Usage: bench_fork [options]\n"
"\n"
"Measures fork of a process with N MiB of 4 KiB pages; times are medians.\n"
"\n"
"  -s, --size-mib N        memory to touch (default 256; 0 measures fork alone)\n"
"  -m, --mode plain|cow    ordinary fork or shared page tables (default plain)\n"
"  -n, --runs N            runs, 1 to 101 (default 5)\n"
"  -c, --csv               one header line and one record\n"
"  -h, --help              this text\n"
"\n"
"Exit status: 0 measured; 1 something failed; 2 usage; 3 tables were to be shared\n"
"and were not; 4 the kernel lacks the feature.\n";

/* Writes every page; the slowest write goes to @worst if that is not NULL. */
static void touch(volatile char *p, size_t len, uint64_t *worst)
{
	size_t i;

	for (i = 0; i < len; i += PAGE) {
		uint64_t t;

		if (!worst) {
			p[i]++;
			continue;
		}
		t = now();
		p[i]++;
		t = now() - t;
		if (t > *worst)
			*worst = t;
	}
}

struct life {
	long rss;
	long pte;
	long tables_before;
	long tables_during;
	long parent_rss;
};

/* What a child costs while it lives and does nothing. */
static void look_at_child(struct life *l)
{
	char path[64], c = 0;
	int up[2], down[2];
	pid_t pid;

	refresh();
	l->tables_before = field("/proc/meminfo", "PageTables");
	if (pipe(up) || pipe(down))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		if (write(up[1], &c, 1) != 1 || read(down[0], &c, 1) != 1)
			_exit(1);
		_exit(0);
	}
	if (read(up[0], &c, 1) != 1)
		die("child");
	refresh();
	l->tables_during = field("/proc/meminfo", "PageTables");
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	l->rss = field(path, "VmRSS");
	l->pte = field(path, "VmPTE");
	l->parent_rss = field("/proc/self/status", "VmRSS");
	if (write(down[1], &c, 1) != 1)
		die("child");
	waitpid(pid, NULL, 0);
	close(up[0]);
	close(up[1]);
	close(down[0]);
	close(down[1]);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size-mib", required_argument, NULL, 's' },
		{ "mode", required_argument, NULL, 'm' },
		{ "runs", required_argument, NULL, 'n' },
		{ "csv", no_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	static uint64_t first[MAX_RUNS], second[MAX_RUNS], leave[MAX_RUNS],
		rewrite[MAX_RUNS], fault[MAX_RUNS];
	unsigned long mib = 256, runs = 5, i;
	bool csv = false, cow = false;
	struct life life;
	long shares, tables;
	size_t len;
	char *p = NULL;
	int opt;

	bench_name = "bench_fork";
	while ((opt = getopt_long(argc, argv, "s:m:n:ch", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			mib = number(optarg, 1UL << 24);
			break;
		case 'm':
			cow = !strcmp(optarg, "cow");
			if (!cow && strcmp(optarg, "plain")) {
				fprintf(stderr, "bench_fork: no mode '%s'\n",
					optarg);
				return 2;
			}
			break;
		case 'n':
			runs = number(optarg, MAX_RUNS);
			if (!runs) {
				fprintf(stderr, "bench_fork: no runs\n");
				return 2;
			}
			break;
		case 'c':
			csv = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			fputs(help, stderr);
			return 2;
		}
	}
	if (optind != argc) {
		fputs(help, stderr);
		return 2;
	}
	/* Kernels without the feature can only do plain forks. */
	if (prctl(PR_SET_COW_PTE, cow, 0, 0, 0) && cow) {
		fprintf(stderr, "bench_fork: this kernel has no COW page tables (CONFIG_COW_PTE)\n");
		return 4;
	}

	len = mib << 20;
	if (len)
		p = bench_map(len, MADV_NOHUGEPAGE);
	shares = field("/proc/vmstat", "cow_pte_share");
	/* The first fork of a process also breaks its own data and stack. */
	touch(p, len, NULL);
	fork_time(NULL);
	touch(p, len, NULL);
	for (i = 0; i < runs; i++) {
		uint64_t start;

		first[i] = fork_time(&leave[i]);
		second[i] = fork_time(NULL);
		start = now();
		touch(p, len, NULL);
		rewrite[i] = now() - start;
		/* Once more for the slowest write: the clock itself takes time. */
		fork_time(NULL);
		touch(p, len, &fault[i]);
	}
	shares = field("/proc/vmstat", "cow_pte_share") - shares;
	look_at_child(&life);
	if (cow && mib && shares < (long)(mib / 2 * runs)) {
		fprintf(stderr, "bench_fork: only %ld tables were shared, see vm.cow_pte\n",
			shares);
		return 3;
	}
	tables = life.tables_during - life.tables_before;
	if (csv) {
		printf("mode,size_mib,runs,first_us,second_us,wait_us,rewrite_us,worst_write_us,child_rss_kb,parent_rss_kb,child_vmpte_kb,child_tables_kb,shares\n");
		printf("%s,%lu,%lu,%.1f,%.1f,%.1f,%.1f,%.1f,%ld,%ld,%ld,%ld,%ld\n",
		       cow ? "cow" : "plain", mib, runs, median_us(first, runs),
		       median_us(second, runs), median_us(leave, runs),
		       median_us(rewrite, runs), median_us(fault, runs),
		       life.rss, life.parent_rss, life.pte, tables, shares);
		return 0;
	}
	printf("%s fork of %lu MiB, medians of %lu runs\n",
	       cow ? "cow" : "plain", mib, runs);
	printf("  first fork                  %12.1f us\n", median_us(first, runs));
	printf("  second fork                 %12.1f us\n", median_us(second, runs));
	printf("  child's exit and wait       %12.1f us\n", median_us(leave, runs));
	printf("  parent writes all again     %12.1f us\n", median_us(rewrite, runs));
	printf("  slowest of those writes     %12.1f us\n", median_us(fault, runs));
	printf("  child's VmRSS (parent's)    %12ld kB (%ld kB)\n", life.rss,
	       life.parent_rss);
	printf("  child's VmPTE               %12ld kB\n", life.pte);
	printf("  PageTables for the child    %12ld kB\n", tables);
	return 0;
}
