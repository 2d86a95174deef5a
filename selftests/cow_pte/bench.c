// SPDX-License-Identifier: GPL-2.0
/*
 * bench - what fork costs, and what comes after it
 *
 * Each workload prints lines "bench,WORKLOAD,PARAMETER,METRIC,UNIT,VALUE".  Run on
 * the unpatched kernel, on the patched one with plain fork and with shared tables
 * the same lines can be laid side by side; scripts/bench.sh does that.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "bench_util.h"

#define MAX_SAMPLES	8192

static const char help[] =
"Usage: bench [options] workload [size [parameter]]\n"
"       bench [options] command name command [argument...]\n"
"\n"
"Sizes are MiB of 4 KiB pages, unless said.  Times are medians.\n"
"\n"
"  fork MIB [4k|mthp|thp]  first fork, repeated fork, exit and wait, by kind of page;\n"
"                          0 is the program alone\n"
"  write MIB               writes after a fork: the first in each block, the second\n"
"  all MIB WHO             fork, child|parent|both write all, exit\n"
"  retouch MIB             all written again after the child has left\n"
"  random MIB PERMILLE     fork, the child writes that many of the pages, each once,\n"
"                          in a random order, exit\n"
"  sparse BLOCKS ENTRIES   fork, the child writes one page in each block, exit\n"
"  again BLOCKS ROUNDS     the parent writes a page in each block after each fork\n"
"  children MIB N          memory for N idle children\n"
"  spawn exit|exec [PATH]  fork and exit, or fork and exec PATH and wait\n"
"  ops MIB                 mmap and touch, fault, mprotect, munmap without a fork\n"
"  reclaim MIB N           memory.reclaim of pages that N processes share by fork\n"
"  command NAME ...        the time until the command has ended\n"
"\n"
"  -m, --mode plain|cow    ordinary fork or shared page tables (default plain)\n"
"  -n, --runs N            runs (default 5)\n"
"  -s, --seed N            for random (default 1)\n"
"  -h, --help              this text\n"
"\n"
"Exit status: 0 measured; 1 something failed; 2 usage; 3 tables were to be shared\n"
"and were not; 4 the kernel lacks the feature; that of the command.\n";

static unsigned long runs = 5;
static uint64_t seed_value = 1;
static bool cow;
static const char *workload, *parameter = "-";
static uint64_t sample[MAX_SAMPLES];

static void result(const char *metric, const char *unit, double value)
{
	printf("bench,%s,%s,%s,%s,%.2f\n", workload, parameter, metric, unit,
	       value);
	fflush(stdout);
}

static void touch(char *p, size_t len)
{
	volatile char *v = p;
	size_t i;

	for (i = 0; i < len; i += PAGE)
		v[i]++;
}

static void ok(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status)
		die("child");
}

/* A child that lives until release() and does nothing. */
struct idle {
	pid_t pid;
	int fd;
};

static struct idle idle_child(void)
{
	int up[2], down[2];
	struct idle idle;
	char c = 0;

	if (pipe(up) || pipe(down))
		die("pipe");
	idle.pid = fork();
	if (idle.pid < 0)
		die("fork");
	if (!idle.pid) {
		close(down[1]);
		if (write(up[1], &c, 1) != 1 || read(down[0], &c, 1) < 0)
			_exit(1);
		_exit(0);
	}
	if (read(up[0], &c, 1) != 1)
		die("child");
	close(up[0]);
	close(up[1]);
	close(down[0]);
	idle.fd = down[1];
	return idle;
}

/* The youngest first: it also has the write ends of the pipes of its elders. */
static void release(struct idle idle)
{
	close(idle.fd);
	ok(idle.pid);
}

static char *fork_map(size_t len, const char *kind)
{
	bool huge = kind && strcmp(kind, "4k");
	/* fork of 0: of what the program is without */
	char *p = !len ? NULL : bench_map(len, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);

	/* A read comes first in touch(), and would map zero pages. */
	if (len)
		memset(p, 1, len);
	if (huge && !strcmp(kind, "thp") &&
	    field("/proc/self/smaps_rollup", "AnonHugePages") < (long)(len >> 11)) {
		fprintf(stderr, "bench: only %ld kB are in huge pages\n",
			field("/proc/self/smaps_rollup", "AnonHugePages"));
		exit(1);
	}
	if (huge && !strcmp(kind, "mthp") &&
	    field("/proc/self/smaps_rollup", "AnonHugePages") > 0) {
		fprintf(stderr, "bench: these are huge pages of the whole block\n");
		exit(1);
	}
	return p;
}

static void bench_fork(size_t len, const char *kind)
{
	static uint64_t second[MAX_SAMPLES], leave[MAX_SAMPLES];
	bool fresh = kind && !strcmp(kind, "mthp");
	char *p = fork_map(len, kind);
	unsigned long i;

	fork_time(NULL);
	for (i = 0; i < runs; i++) {
		/*
		 * A write after fork copies 4 KiB out of a larger folio: only
		 * memory that was never shared is in folios of that size.
		 */
		if (fresh) {
			munmap(p, len);
			p = fork_map(len, kind);
		} else {
			touch(p, len);
		}
		sample[i] = fork_time(&leave[i]);
		second[i] = fork_time(&leave[i]);
	}
	result("first", "us", midmean_us(sample, runs));
	result("repeated", "us", midmean_us(second, runs));
	result("exit", "us", midmean_us(leave, runs));
}

/*
 * The worst of a round may be due to a timer or a kernel thread: so it is the median
 * of the rounds' worst.  The maximum is what it says.  The second write to a block is
 * the fault and the copy of the page, the first one a break more.
 */
static void bench_write(size_t len)
{
	static uint64_t typical[2][MAX_SAMPLES], worst[2][MAX_SAMPLES], most[2];
	unsigned long blocks = len / BLOCK, i, round;
	uint64_t t, clock = ~0ULL;
	struct idle idle;
	volatile char *p;
	int offset;

	p = bench_map(len, MADV_NOHUGEPAGE);
	touch((char *)p, len);
	fork_time(NULL);
	for (i = 0; i < 100; i++) {
		t = now();
		t = now() - t;
		if (t < clock)
			clock = t;
	}
	for (round = 0; round < runs; round++) {
		touch((char *)p, len);
		/* The child stays, so that the parent cannot take anything back. */
		idle = idle_child();
		for (offset = 0; offset < 2; offset++) {
			for (i = 0; i < blocks; i++) {
				volatile char *q = p + i * BLOCK + BLOCK / 2 +
						   offset * PAGE;

				t = now();
				q[0]++;
				sample[i] = now() - t - clock;
			}
			qsort(sample, blocks, sizeof(*sample), compare);
			typical[offset][round] = sample[blocks / 2];
			worst[offset][round] = sample[blocks - 1];
			if (sample[blocks - 1] > most[offset])
				most[offset] = sample[blocks - 1];
		}
		release(idle);
	}
	result("first_in_block", "us", median_us(typical[0], runs));
	result("first_worst", "us", median_us(worst[0], runs));
	result("first_maximum", "us", most[0] / 1000.0);
	result("second_in_block", "us", median_us(typical[1], runs));
	result("second_worst", "us", median_us(worst[1], runs));
	result("second_maximum", "us", most[1] / 1000.0);
	result("break_alone", "us", median_us(typical[0], runs) - median_us(typical[1], runs));
}

static void bench_all(size_t len, const char *who)
{
	bool child = !strcmp(who, "child") || !strcmp(who, "both");
	bool parent = !strcmp(who, "parent") || !strcmp(who, "both");
	unsigned long i;
	char *p;

	if (!child && !parent) {
		fprintf(stderr, "bench: '%s' is not child, parent or both\n", who);
		exit(2);
	}
	p = bench_map(len, MADV_NOHUGEPAGE);
	touch(p, len);
	for (i = 0; i < runs; i++) {
		uint64_t start;
		int hold[2];
		char c = 0;
		pid_t pid;

		touch(p, len);
		if (pipe(hold))
			die("pipe");
		start = now();
		pid = fork();
		if (pid < 0)
			die("fork");
		if (!pid) {
			close(hold[1]);
			if (child)
				touch(p, len);
			/* until the parent has written */
			_exit(read(hold[0], &c, 1) < 0);
		}
		close(hold[0]);
		if (parent)
			touch(p, len);
		close(hold[1]);
		ok(pid);
		sample[i] = now() - start;
	}
	result("total", "us", median_us(sample, runs));
}

static void bench_retouch(size_t len)
{
	unsigned long i;
	char *p;

	p = bench_map(len, MADV_NOHUGEPAGE);
	touch(p, len);
	for (i = 0; i < runs; i++) {
		uint64_t start;

		fork_time(NULL);
		start = now();
		touch(p, len);
		sample[i] = now() - start;
	}
	result("rewrite", "us", median_us(sample, runs));
}

static uint64_t next_random(uint64_t *state)
{
	/* xorshift64 */
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void bench_random(size_t len, unsigned long permille)
{
	unsigned long pages = len / PAGE, nr = pages * permille / 1000, i, k;
	uint64_t state = seed_value * 0x9e3779b97f4a7c15ULL;
	unsigned int *order;
	char *p;

	if (nr > pages)
		nr = pages;
	order = malloc(pages * sizeof(*order));
	if (!order)
		die("malloc");
	for (k = 0; k < pages; k++)
		order[k] = k;
	p = bench_map(len, MADV_NOHUGEPAGE);
	touch(p, len);
	for (i = 0; i < runs; i++) {
		uint64_t start;
		pid_t pid;

		/* Without replacement: 100 % are all pages. */
		for (k = 0; k < nr; k++) {
			unsigned long other = k + next_random(&state) % (pages - k);
			unsigned int page = order[other];

			order[other] = order[k];
			order[k] = page;
		}
		touch(p, len);
		start = now();
		pid = fork();
		if (pid < 0)
			die("fork");
		if (!pid) {
			volatile char *v = p;

			for (k = 0; k < nr; k++)
				v[(size_t)order[k] * PAGE]++;
			_exit(0);
		}
		ok(pid);
		sample[i] = now() - start;
	}
	free(order);
	result("total", "us", median_us(sample, runs));
}

/* Is it worth while to share a table with few entries, if it will be broken? */
static void bench_sparse(unsigned long blocks, unsigned long entries)
{
	static uint64_t idle[MAX_SAMPLES];
	unsigned long i, b, e;
	volatile char *p;
	int write;

	p = bench_map(blocks * BLOCK, MADV_NOHUGEPAGE);
	for (i = 0; i < runs; i++) {
		for (write = 0; write < 2; write++) {
			uint64_t start;
			pid_t pid;

			for (b = 0; b < blocks; b++)
				for (e = 0; e < entries; e++)
					p[b * BLOCK + e * PAGE]++;
			start = now();
			pid = fork();
			if (pid < 0)
				die("fork");
			if (!pid) {
				for (b = 0; write && b < blocks; b++)
					p[b * BLOCK]++;
				_exit(0);
			}
			ok(pid);
			*(write ? &sample[i] : &idle[i]) = now() - start;
		}
	}
	result("untouched", "us", median_us(idle, runs) / blocks);
	result("written", "us", median_us(sample, runs) / blocks);
}

/* Blocks that are written after each fork while the child lives. */
static void bench_again(unsigned long blocks, unsigned long rounds)
{
	unsigned long i, b;
	volatile char *p;

	p = bench_map(blocks * BLOCK, MADV_NOHUGEPAGE);
	touch((char *)p, blocks * BLOCK);
	for (i = 0; i < rounds && i < MAX_SAMPLES; i++) {
		uint64_t start = now();
		struct idle idle = idle_child();

		for (b = 0; b < blocks; b++)
			p[b * BLOCK]++;
		release(idle);
		sample[i] = now() - start;
	}
	result("round", "us", median_us(sample, i) / blocks);
}

/* kB of the records of shared tables, as /proc/slabinfo counts them */
static long records_kb(void)
{
	unsigned long active, total, size, bytes = 0;
	char line[512], name[64];
	FILE *f = fopen("/proc/slabinfo", "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %lu %lu %lu", name, &active, &total,
			   &size) == 4 && !strncmp(name, "cow_pte_", 8))
			bytes += total * size;
	fclose(f);
	return bytes / 1024;
}

static void bench_children(size_t len, unsigned long nr)
{
	struct idle *idle = calloc(nr, sizeof(*idle));
	long tables, records, rss;
	unsigned long i;
	char path[64], *p;

	if (!idle)
		die("calloc");
	p = bench_map(len, MADV_NOHUGEPAGE);
	touch(p, len);
	refresh();
	tables = field("/proc/meminfo", "PageTables");
	records = records_kb();
	for (i = 0; i < nr; i++)
		idle[i] = idle_child();
	refresh();
	tables = field("/proc/meminfo", "PageTables") - tables;
	records = records_kb() - records;
	snprintf(path, sizeof(path), "/proc/%d/status", idle[nr - 1].pid);
	rss = field(path, "VmRSS");
	while (nr--)
		release(idle[nr]);
	result("tables", "kB", tables);
	result("records", "kB", records);
	result("tables_and_records", "kB", tables + records);
	result("rss_of_last", "kB", rss);
}

static void spawn(const char *path)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		if (path) {
			execl(path, path, NULL);
			_exit(127);
		}
		_exit(0);
	}
	ok(pid);
}

static void bench_spawn(const char *path)
{
	unsigned long i, k;

	for (i = 0; i < 10; i++)
		spawn(path);
	for (i = 0; i < runs; i++) {
		uint64_t start = now();

		for (k = 0; k < 100; k++)
			spawn(path);
		sample[i] = (now() - start) / 100;
	}
	result("each", "us", median_us(sample, runs));
}

static void bench_ops(size_t len)
{
	static const char *const name[] = {
		"touch", "mprotect_ro", "mprotect_rw", "write_again", "dontneed",
		"munmap", "mmap_munmap_page",
	};
	static uint64_t v[ARRAY_LEN(name)][MAX_SAMPLES];
	unsigned long i, k;

	for (i = 0; i < runs; i++) {
		uint64_t t[ARRAY_LEN(name) + 1];
		char *p = bench_map(len, MADV_NOHUGEPAGE);

		t[0] = now();
		touch(p, len);
		t[1] = now();
		if (mprotect(p, len, PROT_READ))
			die("mprotect");
		t[2] = now();
		if (mprotect(p, len, PROT_READ | PROT_WRITE))
			die("mprotect");
		t[3] = now();
		touch(p, len);
		t[4] = now();
		if (madvise(p, len / 2, MADV_DONTNEED))
			die("madvise");
		t[5] = now();
		munmap(p, len);
		t[6] = now();
		for (k = 0; k < 100; k++) {
			char *q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (q == MAP_FAILED)
				die("mmap");
			*(volatile char *)q = 1;
			munmap(q, PAGE);
		}
		t[7] = now();
		for (k = 0; k < ARRAY_LEN(name); k++)
			v[k][i] = t[k + 1] - t[k];
	}
	for (k = 0; k < ARRAY_LEN(name); k++)
		result(name[k], "us", median_us(v[k], runs));
}

static int put(const char *path, const char *s)
{
	int fd = open(path, O_WRONLY), n;

	if (fd < 0)
		return -1;
	n = write(fd, s, strlen(s));
	close(fd);
	return n < 0 ? -1 : 0;
}

static long reclaimed(const char *cg)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/memory.stat", cg);
	return field(path, "pgsteal");
}

static void bench_reclaim(size_t len, unsigned long nr)
{
	static const char cg[] = "/sys/fs/cgroup/bench";
	struct idle *idle = calloc(nr, sizeof(*idle));
	unsigned long i;
	char number[32], path[128];
	long stolen;
	uint64_t t;
	char *p;

	if (!idle)
		die("calloc");
	put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(cg, 0755) && errno != EEXIST)
		die(cg);
	snprintf(path, sizeof(path), "%s/cgroup.procs", cg);
	snprintf(number, sizeof(number), "%d", getpid());
	if (put(path, number))
		die(path);
	p = bench_map(len, MADV_NOHUGEPAGE);
	/* The same word all over, which zram keeps without compressing it. */
	memset(p, 0x5a, len);
	for (i = 0; i < nr; i++)
		idle[i] = idle_child();
	if (put("/sys/fs/cgroup/cgroup.procs", number))
		die("cgroup.procs");
	stolen = reclaimed(cg);
	snprintf(path, sizeof(path), "%s/memory.reclaim", cg);
	snprintf(number, sizeof(number), "%zu", len / 2);
	t = now();
	put(path, number);	/* EAGAIN if it was less */
	t = now() - t;
	stolen = reclaimed(cg) - stolen;
	while (nr--)
		release(idle[nr]);
	rmdir(cg);
	if (stolen < (long)(len / 4 / PAGE)) {
		fprintf(stderr, "bench: only %ld pages were reclaimed\n", stolen);
		exit(1);
	}
	result("page", "us", t / 1000.0 / stolen);
	result("pages", "pages", stolen);
}

static int bench_command(char **argv)
{
	uint64_t start = now();
	int status;
	pid_t pid;

	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		execvp(argv[0], argv);
		fprintf(stderr, "bench: %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid)
		die("wait");
	result("time", "us", (now() - start) / 1000.0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static __attribute__((noreturn)) void usage(void)
{
	fputs(help, stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "mode", required_argument, NULL, 'm' },
		{ "runs", required_argument, NULL, 'n' },
		{ "seed", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	static char what[128];
	unsigned long mib = 0, x = 0;
	const char *arg = NULL;
	bool shares = true;
	long before;
	int opt;

	while ((opt = getopt_long(argc, argv, "+m:n:s:h", options, NULL)) != -1) {
		switch (opt) {
		case 'm':
			cow = !strcmp(optarg, "cow");
			if (!cow && strcmp(optarg, "plain"))
				usage();
			break;
		case 'n':
			runs = number(optarg, MAX_SAMPLES);
			if (!runs)
				usage();
			break;
		case 's':
			seed_value = number(optarg, ~0UL >> 1) ?: 1;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			usage();
		}
	}
	argv += optind;
	argc -= optind;
	if (!argc)
		usage();
	workload = argv[0];
	if (!strcmp(workload, "command")) {
		if (argc < 3)
			usage();
		parameter = argv[1];
	} else if (!strcmp(workload, "spawn")) {
		if (argc < 2 || argc > 3)
			usage();
		parameter = argv[1];
		shares = false;
	} else {
		if (argc < 2 || argc > 3)
			usage();
		mib = number(argv[1], 1UL << 20);
		arg = argc > 2 ? argv[2] : NULL;
		snprintf(what, sizeof(what), "%s%s%s", argv[1], arg ? " " : "",
			 arg ?: "");
		parameter = what;
		if ((!mib && strcmp(workload, "fork")) || (mib % 2 && strcmp(workload, "sparse") &&
			     strcmp(workload, "again")) ||
		    mib * MAX_SAMPLES < mib) {
			fprintf(stderr, "bench: sizes are even, and 0 is for fork only\n");
			return 2;
		}
	}
	/* Kernels without the feature can only do plain forks. */
	if (prctl(PR_SET_COW_PTE, cow, 0, 0, 0) && cow) {
		fprintf(stderr, "bench: this kernel has no COW page tables (CONFIG_COW_PTE)\n");
		return 4;
	}
	before = field("/proc/vmstat", "cow_pte_share");

#define NEEDS_NUMBER()	do { if (!arg) usage(); x = number(arg, 1UL << 20); } while (0)
	if (!strcmp(workload, "fork")) {
		bench_fork(mib << 20, arg);
		shares = !arg || strcmp(arg, "thp");
	} else if (!strcmp(workload, "write")) {
		if (mib / 2 > MAX_SAMPLES)
			usage();
		bench_write(mib << 20);
	} else if (!strcmp(workload, "all")) {
		if (!arg)
			usage();
		bench_all(mib << 20, arg);
	} else if (!strcmp(workload, "retouch")) {
		bench_retouch(mib << 20);
	} else if (!strcmp(workload, "random")) {
		NEEDS_NUMBER();
		bench_random(mib << 20, x);
	} else if (!strcmp(workload, "sparse")) {
		NEEDS_NUMBER();
		if (!x || x > BLOCK_PAGES)
			usage();
		bench_sparse(mib, x);
		shares = false;	/* depends on vm.cow_pte_min_entries */
	} else if (!strcmp(workload, "again")) {
		NEEDS_NUMBER();
		bench_again(mib, x ?: 1);
	} else if (!strcmp(workload, "children")) {
		NEEDS_NUMBER();
		bench_children(mib << 20, x ?: 1);
	} else if (!strcmp(workload, "spawn")) {
		if (strcmp(argv[1], "exit") && argc < 3)
			usage();
		bench_spawn(argc > 2 ? argv[2] : NULL);
	} else if (!strcmp(workload, "ops")) {
		bench_ops(mib << 20);
		shares = false;
	} else if (!strcmp(workload, "reclaim")) {
		NEEDS_NUMBER();
		bench_reclaim(mib << 20, x ?: 1);
	} else if (!strcmp(workload, "command")) {
		return bench_command(argv + 2);
	} else {
		fprintf(stderr, "bench: no workload '%s'\n", workload);
		return 2;
	}
	if (cow && shares && field("/proc/vmstat", "cow_pte_share") - before < (long)mib / 2) {
		fprintf(stderr, "bench: the tables were not shared, see vm.cow_pte\n");
		return 3;
	}
	return 0;
}
