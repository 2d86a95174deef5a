/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers for the tests of shared PTE tables: TAP, counters, memory patterns, and
 * processes that do on request what a test tells them, one step at a time.
 *
 * Each test case runs in a process of its own.  A false EXPECT() prints what and
 * where, and ends the case; SKIP() ends it too.
 */
#ifndef COW_PTE_UTIL_H
#define COW_PTE_UTIL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_SET_COW_PTE
#define PR_SET_COW_PTE	0x43505445
#define PR_GET_COW_PTE	0x43505446
#endif
#ifndef CLONE_COW_PTE
#define CLONE_COW_PTE	0x800000000000ULL
#endif

#define PAGE		4096UL
#define BLOCK		(2UL << 20)
#define BLOCK_PAGES	(BLOCK / PAGE)

#define KSFT_SKIP	4

static int test_failed, test_skipped, test_count;

#define EXPECT(cond, fmt, ...) do {					\
	if (!(cond)) {							\
		printf("# %s:%d: expected %s: " fmt "\n", __FILE__,	\
		       __LINE__, #cond, ##__VA_ARGS__);			\
		fflush(stdout);						\
		_exit(1);						\
	}								\
} while (0)

#define SKIP(fmt, ...) do {						\
	printf("# skip: " fmt "\n", ##__VA_ARGS__);			\
	fflush(stdout);							\
	_exit(KSFT_SKIP);						\
} while (0)

#define SYS(call) ({							\
	long __ret = (long)(call);					\
	EXPECT(__ret != -1, "%s: %s", #call, strerror(errno));		\
	__ret;								\
})

struct test {
	const char *name;
	void (*fn)(void);
};

/* With COW_PTE_TEST_PLAIN=1 the mode stays off, and no counter is looked at. */
static inline bool plain(void)
{
	static int on = -1;

	if (on < 0)
		on = getenv("COW_PTE_TEST_PLAIN") != NULL;
	return on;
}

static inline long ev(const char *name)
{
	char line[128], key[64];
	long value, found = -1;
	FILE *f = fopen("/proc/vmstat", "r");

	if (!f)
		return -1;
	snprintf(key, sizeof(key), "cow_pte_%s ", name);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key))) {
			value = atol(line + strlen(key));
			found = value;
		}
	fclose(f);
	return found;
}

static inline long file_field(const char *path, const char *key)
{
	char line[256];
	long value = -1;
	FILE *f = fopen(path, "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key))) {
			value = strtol(line + strlen(key) +
				       strspn(line + strlen(key), ": \t"), NULL, 10);
			break;
		}
	fclose(f);
	return value;
}

static inline long status_kb(pid_t pid, const char *key)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return file_field(path, key);
}

static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static inline int sysctl_set(const char *name, long value)
{
	char path[96], text[32];

	snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
	snprintf(text, sizeof(text), "%ld", value);
	return write_file(path, text);
}

static inline long sysctl_get(const char *name)
{
	char path[96];

	snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
	return file_field(path, "");
}

static inline void cow_on(void)
{
	if (!plain())
		SYS(prctl(PR_SET_COW_PTE, 1, 0, 0, 0));
}

static inline void cow_off(void)
{
	prctl(PR_SET_COW_PTE, 0, 0, 0, 0);
}

/* ---- memory ---- */

/* @blocks blocks, aligned, 4K pages, in the middle of nothing. */
static inline char *blocks_at(size_t blocks, int prot, int flags)
{
	size_t len = (blocks + 3) * BLOCK;
	char *p = mmap(NULL, len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *start;

	EXPECT(p != MAP_FAILED, "mmap: %s", strerror(errno));
	start = (char *)(((uintptr_t)p + 2 * BLOCK - 1) & ~(BLOCK - 1));
	munmap(p, len);
	p = mmap(start, blocks * BLOCK, prot,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
	EXPECT(p == start, "mmap fixed: %s", strerror(errno));
	madvise(p, blocks * BLOCK, MADV_NOHUGEPAGE);
	return p;
}

static inline char *blocks(size_t n)
{
	return blocks_at(n, PROT_READ | PROT_WRITE, 0);
}

static inline uint64_t pattern(uint64_t tag, size_t page)
{
	return (tag * 0x9e3779b97f4a7c15ULL) ^ (page * 0xbf58476d1ce4e5b9ULL) ^ tag;
}

static inline void fill(char *p, size_t pages, uint64_t tag)
{
	for (size_t i = 0; i < pages; i++) {
		*(volatile uint64_t *)(p + i * PAGE) = pattern(tag, i);
		*(volatile uint64_t *)(p + i * PAGE + PAGE - 8) = ~pattern(tag, i);
	}
}

/* Index of the first page that is not as fill() left it, or -1. */
static inline long bad_page(char *p, size_t pages, uint64_t tag)
{
	for (size_t i = 0; i < pages; i++)
		if (*(volatile uint64_t *)(p + i * PAGE) != pattern(tag, i) ||
		    *(volatile uint64_t *)(p + i * PAGE + PAGE - 8) != ~pattern(tag, i))
			return i;
	return -1;
}

static inline long bad_zero(char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		for (size_t j = 0; j < PAGE; j += 512)
			if (p[i * PAGE + j])
				return i;
	return -1;
}

#define CHECK(p, pages, tag) do {					\
	long __bad = bad_page((char *)(p), pages, tag);			\
	EXPECT(__bad < 0, "page %ld holds %llx", __bad, (unsigned long long) \
	       *(uint64_t *)((char *)(p) + __bad * PAGE));		\
} while (0)

/* ---- processes that wait for orders ---- */

struct proc {
	int req[2], rsp[2];
	pid_t pid;
};

struct order {
	long (*fn)(long a, long b);
	long a, b;
};

static inline void proc_init(struct proc *p)
{
	SYS(pipe(p->req));
	SYS(pipe(p->rsp));
	p->pid = 0;
}

static inline void proc_serve(struct proc *p)
{
	struct order o;

	/* The parent may go away: nobody is left who could tell us to. */
	while (read(p->req[0], &o, sizeof(o)) == sizeof(o)) {
		long ret = o.fn ? o.fn(o.a, o.b) : 0;

		if (write(p->rsp[1], &ret, sizeof(ret)) != sizeof(ret))
			_exit(3);
		if (!o.fn)
			_exit(0);
	}
	_exit(0);
}

static inline void proc_spawn(struct proc *p)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	EXPECT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid)
		proc_serve(p);
	p->pid = pid;
}

/* As proc_spawn(), and the fork must share at least @min tables. */
static inline void proc_spawn_shared(struct proc *p, long min)
{
	long before = ev("share");

	proc_spawn(p);
	if (!plain())
		EXPECT(ev("share") - before >= min, "shared %ld tables, not %ld",
		       ev("share") - before, min);
}

static inline void proc_send(struct proc *p, long (*fn)(long, long), long a, long b)
{
	struct order o = { fn, a, b };

	EXPECT(write(p->req[1], &o, sizeof(o)) == sizeof(o), "order");
}

static inline long proc_wait(struct proc *p)
{
	long ret;

	EXPECT(read(p->rsp[0], &ret, sizeof(ret)) == sizeof(ret),
	       "process %d has gone", p->pid);
	return ret;
}

/* Have @p call @fn, wait until it has. */
static inline long on(struct proc *p, long (*fn)(long, long), long a, long b)
{
	proc_send(p, fn, a, b);
	return proc_wait(p);
}

static inline void proc_exit(struct proc *p)
{
	int status = 0;

	on(p, NULL, 0, 0);
	if (p->pid > 0 && waitpid(p->pid, &status, 0) == p->pid)
		EXPECT(status == 0, "exit status %x", status);
	close(p->req[0]);
	close(p->req[1]);
	close(p->rsp[0]);
	close(p->rsp[1]);
}

/* Orders */
static long __attribute__((unused)) o_spawn(long a, long b)
{
	struct proc *p = (struct proc *)a;

	(void)b;
	proc_spawn(p);
	return p->pid;
}

static long __attribute__((unused)) o_wait(long a, long b)
{
	(void)b;
	return waitpid((pid_t)a, NULL, 0);
}

static long __attribute__((unused)) o_write(long a, long b)
{
	*(volatile uint64_t *)a = b;
	return 0;
}

static long __attribute__((unused)) o_read(long a, long b)
{
	(void)b;
	return *(volatile uint64_t *)a;
}

/* ---- faults that are expected ---- */

static sigjmp_buf fault_env;
static volatile int fault_sig;

static void fault_handler(int sig)
{
	fault_sig = sig;
	siglongjmp(fault_env, 1);
}

/* 0, or the signal that an access to @p raises. */
static inline int probe(volatile char *p, bool write)
{
	struct sigaction sa = { .sa_handler = fault_handler }, segv, bus;
	int ret = 0;

	sigaction(SIGSEGV, &sa, &segv);
	sigaction(SIGBUS, &sa, &bus);
	if (!sigsetjmp(fault_env, 1)) {
		if (write)
			*p = *p;
		else
			(void)*p;
	} else {
		ret = fault_sig;
	}
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return ret;
}

/* ---- random numbers ---- */

static uint64_t rnd_state = 1;

static inline uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state;
}

static inline void rnd_seed(void)
{
	const char *s = getenv("SEED");
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	rnd_state = s ? strtoull(s, NULL, 0) : (uint64_t)ts.tv_nsec * 2654435761u + ts.tv_sec;
	if (!rnd_state)
		rnd_state = 1;
	printf("# seed %llu\n", (unsigned long long)rnd_state);
	fflush(stdout);
}

/* ---- running ---- */

static inline int run_tests(const struct test *tests, int n)
{
	long min = sysctl_get("cow_pte_min_entries"), mode = sysctl_get("cow_pte");

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
	if (!plain() && prctl(PR_GET_COW_PTE, 0, 0, 0, 0) < 0) {
		printf("1..0 # SKIP this kernel has no shared PTE tables (CONFIG_COW_PTE)\n");
		return KSFT_SKIP;
	}
	if (!plain() && geteuid()) {
		printf("1..0 # SKIP not root: the tests set sysctls\n");
		return KSFT_SKIP;
	}
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		int status;
		pid_t pid;

		sysctl_set("cow_pte", 1);
		sysctl_set("cow_pte_min_entries", 1);
		fflush(stdout);
		pid = fork();
		if (!pid) {
			setpgid(0, 0);
			alarm(240);
			tests[i].fn();
			fflush(stdout);
			_exit(0);
		}
		waitpid(pid, &status, 0);
		kill(-pid, SIGKILL);
		test_count++;
		if (status == KSFT_SKIP << 8) {
			test_skipped++;
			printf("ok %d # SKIP %s\n", i + 1, tests[i].name);
		} else if (status) {
			test_failed++;
			printf("not ok %d %s # status %x\n", i + 1, tests[i].name, status);
		} else {
			printf("ok %d %s\n", i + 1, tests[i].name);
		}
	}
	if (min >= 0)
		sysctl_set("cow_pte_min_entries", min);
	if (mode >= 0)
		sysctl_set("cow_pte", mode);
	printf("# %d cases, %d failed, %d skipped\n", test_count, test_failed, test_skipped);
	return test_failed ? 1 : 0;
}

#define MAIN(tests)							\
int main(void)								\
{									\
	return run_tests(tests, sizeof(tests) / sizeof((tests)[0]));	\
}

#endif
