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
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cow_pte_util.h"

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

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "bench_fork: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* The number after @key in a file of /proc, or -1. */
static long field(const char *path, const char *key)
{
	char line[256];
	long value = -1;
	size_t len = strlen(key);
	FILE *f = fopen(path, "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, len) &&
		    (line[len] == ':' || line[len] == ' ')) {
			value = strtol(line + len + 1, NULL, 10);
			break;
		}
	}
	fclose(f);
	return value;
}

static void refresh(void)
{
	FILE *f = fopen("/proc/sys/vm/stat_refresh", "w");

	if (f) {
		fputs("1", f);
		fclose(f);
	}
}

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

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double median_us(uint64_t *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), compare);
	return (n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2) / 1000.0;
}

/*
 * The new child must not run, and exit, before fork has returned to the parent, or
 * its exit would count as a part of the fork.
 */
static void stay_on_cpu(bool on)
{
	struct sched_param param = { .sched_priority = on };

	if (sched_setscheduler(0, on ? SCHED_FIFO | SCHED_RESET_ON_FORK :
			       SCHED_OTHER, &param) && on)
		fprintf(stderr, "bench_fork: not SCHED_FIFO, the child may run first: %s\n",
			strerror(errno));
}

/* A fork whose child exits at once: the time of the fork, and until it is gone. */
static uint64_t fork_time(uint64_t *wait_time)
{
	uint64_t start, end;
	int status;
	pid_t pid;

	stay_on_cpu(true);
	start = now();
	pid = fork();
	if (!pid)
		_exit(0);
	end = now();
	stay_on_cpu(false);
	if (pid < 0)
		die("fork");
	if (waitpid(pid, &status, 0) != pid || status)
		die("child");
	if (wait_time)
		*wait_time = now() - end;
	return end - start;
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

static unsigned long number(const char *s, unsigned long max)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || v > max) {
		fprintf(stderr, "bench_fork: '%s' is no number up to %lu\n", s,
			max);
		exit(2);
	}
	return v;
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
	if (len) {
		p = mmap(NULL, len + BLOCK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			die("mmap");
		madvise(p, len + BLOCK, MADV_NOHUGEPAGE);
		p = (char *)(((uintptr_t)p + BLOCK - 1) & ~(BLOCK - 1));
	}
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
