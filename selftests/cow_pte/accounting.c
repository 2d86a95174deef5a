// SPDX-License-Identifier: GPL-2.0
/*
 * The same tree of processes does the same steps, once with plain fork and once
 * with shared tables.  After each step all numbers of all processes are equal.
 */
#include "util.h"

#define N	4

static char *mem;

static const char *const fields[] = {
	"RssAnon", "RssFile", "RssShmem", "VmSwap", "VmPTE", "VmSize", "VmLck",
};
#define NF	(sizeof(fields) / sizeof(fields[0]))

struct sample {
	char what[48];
	long v[3][NF];
};

static struct sample samples[2][32];
static int nr;

static long o_fill(long from, long pages)
{
	fill(mem + from * PAGE, pages, 5);
	return 0;
}

static long o_dontneed(long from, long pages)
{
	return madvise(mem + from * PAGE, pages * PAGE, MADV_DONTNEED);
}

static long o_unmap(long from, long pages)
{
	return munmap(mem + from * PAGE, pages * PAGE);
}

static long o_protect(long from, long pages)
{
	return mprotect(mem + from * PAGE, pages * PAGE, PROT_READ);
}

static void sample(int mode, const char *what, pid_t *pid)
{
	struct sample *s = &samples[mode][nr++];

	snprintf(s->what, sizeof(s->what), "%s", what);
	for (int p = 0; p < 3; p++)
		for (size_t f = 0; f < NF; f++)
			s->v[p][f] = pid[p] ? status_kb(pid[p], fields[f]) : 0;
}

/* Runs in a process of its own, so that both start alike. */
static void run(int mode, int out)
{
	struct proc c, g;
	pid_t pid[3] = { getpid() };
	int fd = memfd_create("file", 0);

	if (mode)
		cow_on();
	else
		cow_off();
	nr = 0;
	SYS(ftruncate(fd, BLOCK));
	mem = blocks(N);
	EXPECT(mmap(mem + 3 * BLOCK, BLOCK, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_FIXED, fd, 0) != MAP_FAILED, "mmap");
	fill(mem, 2 * BLOCK_PAGES + 100, 1);
	for (int i = 0; i < 200; i++)
		(void)*(volatile char *)(mem + 3 * BLOCK + i * PAGE);
	fill(mem + 3 * BLOCK, 50, 1);
	proc_init(&c);
	proc_init(&g);
	proc_spawn(&c);
	pid[1] = c.pid;
	sample(mode, "fork", pid);
	pid[2] = on(&c, o_spawn, (long)&g, 0);
	sample(mode, "fork of the child", pid);
	on(&c, o_fill, 3, 1);
	sample(mode, "child writes a page", pid);
	on(&c, o_fill, 2 * BLOCK_PAGES + 200, 10);
	sample(mode, "child writes to a hole", pid);
	fill(mem, BLOCK_PAGES, 2);
	sample(mode, "parent writes a block", pid);
	on(&g, o_dontneed, 5, 10);
	sample(mode, "grandchild drops pages", pid);
	on(&c, o_dontneed, BLOCK_PAGES, BLOCK_PAGES);
	sample(mode, "child drops a block", pid);
	on(&g, o_unmap, BLOCK_PAGES, BLOCK_PAGES);
	sample(mode, "grandchild unmaps a block", pid);
	on(&c, o_protect, 20, 20);
	sample(mode, "child protects pages", pid);
	SYS(ftruncate(fd, 20 * PAGE));
	sample(mode, "the file is truncated", pid);
	SYS(madvise(mem + 2 * BLOCK, 50 * PAGE, MADV_DONTNEED));
	sample(mode, "parent drops pages", pid);
	proc_exit(&c);
	pid[1] = 0;
	sample(mode, "child exits", pid);
	on(&g, o_fill, 2 * BLOCK_PAGES, 60);
	sample(mode, "grandchild writes", pid);
	munmap(mem, N * BLOCK);
	sample(mode, "parent unmaps all", pid);
	on(&g, NULL, 0, 0);
	EXPECT(write(out, samples[mode], sizeof(samples[mode])) == sizeof(samples[mode]), "write");
	EXPECT(write(out, &nr, sizeof(nr)) == sizeof(nr), "write");
}

static void t_equal(void)
{
	long share = ev("share");
	int steps = 0;

	for (int mode = 0; mode < 2; mode++) {
		int p[2], status;
		pid_t pid;

		SYS(pipe(p));
		fcntl(p[1], F_SETPIPE_SZ, 1 << 20);
		pid = fork();
		if (!pid) {
			run(mode, p[1]);
			_exit(0);
		}
		waitpid(pid, &status, 0);
		EXPECT(!status, "mode %d: status %x", mode, status);
		EXPECT(read(p[0], samples[mode], sizeof(samples[mode])) == sizeof(samples[mode]), "read");
		EXPECT(read(p[0], &steps, sizeof(steps)) == sizeof(steps), "read");
	}
	if (!plain())
		EXPECT(ev("share") - share >= N, "nothing was shared");
	for (int i = 0; i < steps; i++)
		for (int p = 0; p < 3; p++)
			for (size_t f = 0; f < NF; f++)
				EXPECT(samples[0][i].v[p][f] == samples[1][i].v[p][f],
				       "step '%s', process %d, %s: plain %ld kB, shared %ld kB",
				       samples[0][i].what, p, fields[f],
				       samples[0][i].v[p][f], samples[1][i].v[p][f]);
}

/* The child's RSS is the parent's; the system has one set of tables. */
static void t_saving(void)
{
	long before, plain_kb, shared_kb;
	struct proc c;
	size_t n = 64;

	mem = blocks(n);
	fill(mem, n * BLOCK_PAGES, 1);
	cow_off();
	before = file_field("/proc/meminfo", "PageTables");
	proc_init(&c);
	proc_spawn(&c);
	plain_kb = file_field("/proc/meminfo", "PageTables") - before;
	proc_exit(&c);
	cow_on();
	usleep(300000);
	before = file_field("/proc/meminfo", "PageTables");
	proc_init(&c);
	proc_spawn_shared(&c, n);
	shared_kb = file_field("/proc/meminfo", "PageTables") - before;
	EXPECT(status_kb(c.pid, "VmRSS") + 512 > status_kb(getpid(), "VmRSS"),
	       "child %ld kB, parent %ld kB", status_kb(c.pid, "VmRSS"),
	       status_kb(getpid(), "VmRSS"));
	printf("# PageTables: plain fork %ld kB, shared %ld kB\n", plain_kb, shared_kb);
	if (!plain())
		EXPECT(shared_kb < plain_kb / 2, "plain %ld kB, shared %ld kB", plain_kb, shared_kb);
	proc_exit(&c);
}

static const struct test tests[] = {
	{ "all counters are those of plain fork after each step", t_equal },
	{ "system PageTables shows the saving", t_saving },
};

MAIN(tests)
