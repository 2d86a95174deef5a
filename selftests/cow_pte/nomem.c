// SPDX-License-Identifier: GPL-2.0
/*
 * No memory: each allocation that an operation makes fails once, the first, the
 * second, and so on until the operation needs no more.  When it reports the
 * failure, nothing has changed: mappings, protections, every byte of every sharer.
 * When it is tried again, it succeeds.
 *
 * Needs fault injection (failslab, fail_page_alloc) and its fail-nth file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, ACTOR };
enum { READY, GO };

#define NR		4UL
#define PAGES		(NR * BLOCK_PAGES)
#define AT(n)		(p + (n) * PAGE)
#define HOLE		7UL	/* this page of each block was never touched */
#define MAX_NTH		200

static const char *const injectors[] = { "failslab", "fail_page_alloc" };

static void inject_setting(const char *name, const char *value, bool must)
{
	char path[96];
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(injectors); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s",
			 injectors[i], name);
		if (write_file(path, "%s", value) && must)
			skip_case("cannot write %s", path);
	}
}

static void needs_injection(void)
{
	if (plain || !feature_present())
		skip_case("no tables are shared");
	if (access("/proc/thread-self/fail-nth", W_OK))
		skip_case("no fault injection");
	/* fail-nth counts in each injector that would be asked at all */
	inject_setting("ignore-gfp-wait", "N", true);
	inject_setting("verbose", "0", true);
	write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	write_file("/sys/kernel/debug/fail_page_alloc/min-order", "0");
}

static int nth_fd = -1;

/* The @nth allocation of this thread from now on fails; 0 ends it. */
static void arm(unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	if (nth_fd < 0)
		nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	check(pwrite(nth_fd, text, len, 0) == len, "fail-nth: %s", strerror(errno));
}

/* Has an allocation failed since arm()? */
static bool disarm(void)
{
	char text[16] = "";

	check(pread(nth_fd, text, sizeof(text) - 1, 0) > 0, "fail-nth");
	arm(0);
	return !strtol(text, NULL, 10);
}

static void fill_most(char *p, unsigned int owner)
{
	unsigned long b;

	for (b = 0; b < NR; b++) {
		fill(p, b * BLOCK_PAGES, HOLE, owner);
		fill(p, b * BLOCK_PAGES + HOLE + 1, BLOCK_PAGES - HOLE - 1, owner);
	}
}

/* All pages from @first to the end, holes as zeroes. */
static void verify_most(char *p, unsigned long first, unsigned long nr,
			unsigned int owner)
{
	unsigned long i;

	for (i = first; i < first + nr; i++)
		verify(p, i, 1, i % BLOCK_PAGES == HOLE ? OWNER_ZERO : owner);
}

/*
 * What of [p, p + PAGES) is mapped and how, one letter a page: where the kernel
 * draws the borders between mappings does not matter.
 */
static void layout(char *p, char *letters)
{
	unsigned long start, end, base = (unsigned long)p, i;
	char line[512], perm[8];
	FILE *f = fopen("/proc/self/maps", "r");

	check(f, "maps");
	memset(letters, '-', PAGES);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %7s", &start, &end, perm) != 3)
			continue;
		for (i = 0; i < PAGES; i++)
			if (base + i * PAGE >= start && base + i * PAGE < end)
				letters[i] = perm[1] == 'w' ? 'w' :
					     perm[0] == 'r' ? 'r' : 'n';
	}
	fclose(f);
}

/*
 * An operation in a process that shares the tables of @p.  @run returns 0 or an
 * errno; @after looks at the effect.  With @silent, a failure is never reported to
 * the program: a page fault is tried again until it succeeds.
 */
struct op {
	int (*run)(char *p);
	void (*after)(char *p);
	int also;		/* an errno besides ENOMEM, or 0 */
	bool silent;
	unsigned long at, gap;	/* pages that may be unmapped after a failure */
	bool split;		/* several mappings, whose borders are within blocks */
};

static int report(long ret)
{
	return ret < 0 ? errno : 0;
}

static int do_write(char *p)
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		*(volatile char *)AT(b * BLOCK_PAGES + 3) =
			*(volatile char *)AT(b * BLOCK_PAGES + 3);
	return 0;
}

static void after_write(char *p)
{
	verify_most(p, 0, PAGES, ORIGIN);
	fill(p, 3, 1, ACTOR);
	verify(p, 3, 1, ACTOR);
}

static int do_read_hole(char *p)
{
	return *(volatile char *)AT(HOLE);
}

static void after_read_hole(char *p)
{
	verify_most(p, 0, PAGES, ORIGIN);
}

static int do_protect(char *p)
{
	return report(mprotect(AT(1), PAGE * (2 * BLOCK_PAGES + 3), PROT_READ));
}

static void after_protect(char *p)
{
	verify_most(p, 0, PAGES, ORIGIN);
	check(!write_faults(AT(0)), "the page before is read-only");
	check(write_faults(AT(1)), "the first page is writable");
	check(write_faults(AT(2 * BLOCK_PAGES + 3)), "the last page is writable");
	check(!write_faults(AT(2 * BLOCK_PAGES + 4)), "the page behind is read-only");
}

static int do_unmap(char *p)
{
	return report(munmap(AT(100), PAGE * 2 * BLOCK_PAGES));
}

static void after_unmap(char *p)
{
	verify_most(p, 0, 100, ORIGIN);
	check(read_faults(AT(100)), "the first page is mapped");
	check(read_faults(AT(2 * BLOCK_PAGES + 99)), "the last page is mapped");
	verify_most(p, 2 * BLOCK_PAGES + 100, PAGES - 2 * BLOCK_PAGES - 100, ORIGIN);
}

static int do_map_over(char *p)
{
	return mmap(AT(100), PAGE * BLOCK_PAGES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ?
		errno : 0;
}

static void after_map_over(char *p)
{
	verify_most(p, 0, 100, ORIGIN);
	verify(p, 100, BLOCK_PAGES, OWNER_ZERO);
	verify_most(p, BLOCK_PAGES + 100, PAGES - BLOCK_PAGES - 100, ORIGIN);
}

static int do_drop(char *p)
{
	return report(madvise(AT(10), PAGE * (2 * BLOCK_PAGES), MADV_DONTNEED));
}

static void after_drop(char *p)
{
	verify_most(p, 0, 10, ORIGIN);
	verify(p, 10, 2 * BLOCK_PAGES, OWNER_ZERO);
	verify_most(p, 2 * BLOCK_PAGES + 10, PAGES - 2 * BLOCK_PAGES - 10, ORIGIN);
}

static int do_free(char *p)
{
	return report(madvise(AT(10), PAGE * BLOCK_PAGES, MADV_FREE));
}

static void after_free(char *p)
{
	/* it is up to the kernel whether they are gone already */
	fill(p, 10, BLOCK_PAGES, ACTOR);
	verify(p, 10, BLOCK_PAGES, ACTOR);
	verify_most(p, BLOCK_PAGES + 10, PAGES - BLOCK_PAGES - 10, ORIGIN);
}

/* The last block moves by pages onto the first, which is shared too. */
static int do_move(char *p)
{
	return mremap(AT(3 * BLOCK_PAGES + 5), 20 * PAGE, 20 * PAGE,
		      MREMAP_MAYMOVE | MREMAP_FIXED, AT(50)) == MAP_FAILED ?
		errno : 0;
}

static void after_move(char *p)
{
	unsigned long i;

	verify_most(p, 0, 50, ORIGIN);
	for (i = 0; i < 20; i++)
		check(page_is(AT(50 + i), 3 * BLOCK_PAGES + 5 + i,
			      i == HOLE - 5 ? OWNER_ZERO : ORIGIN), "moved page %lu", i);
	verify_most(p, 70, 3 * BLOCK_PAGES + 5 - 70, ORIGIN);
	/* without memory to split the mapping the kernel leaves the source empty */
	if (!read_faults(AT(3 * BLOCK_PAGES + 5)))
		verify(p, 3 * BLOCK_PAGES + 5, 20, OWNER_ZERO);
}

static int do_lock(char *p)
{
	return report(mlock(AT(BLOCK_PAGES - 5), 10 * PAGE));
}

static void after_lock(char *p)
{
	verify_most(p, 0, PAGES, ORIGIN);
	check(!munlock(AT(BLOCK_PAGES - 5), 10 * PAGE), "munlock");
}

static int do_vm_write(char *p)
{
	char buf[PAGE];
	struct iovec local = { buf, PAGE }, remote = { AT(20), PAGE };
	ssize_t n;

	pattern_page(buf, 20, ACTOR);
	n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	return n == (ssize_t)PAGE ? 0 : n < 0 ? errno : EIO;
}

static void after_vm_write(char *p)
{
	verify_most(p, 0, 20, ORIGIN);
	verify(p, 20, 1, ACTOR);
	verify_most(p, 21, PAGES - 21, ORIGIN);
}

static int do_uffd(char *p)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (unsigned long)AT(10), PAGE * BLOCK_PAGES },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC), ret = 0;

	if (fd < 0)
		return errno;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		ret = errno;
	close(fd);
	return ret;
}

static void after_uffd(char *p)
{
	verify_most(p, 0, PAGES, ORIGIN);
}

/* Do it under every single failure. */
static void try_all(const struct op *op)
{
	unsigned int nth, failed = 0, reported = 0;
	static char old[PAGES], now[PAGES];
	char *p = map_blocks(NR);
	struct events before;

	needs_injection();
	fill_most(p, ORIGIN);
	if (op->split) {
		check(!madvise(AT(100), 500 * PAGE, MADV_RANDOM), "MADV_RANDOM");
		check(!madvise(AT(BLOCK_PAGES + 400), 300 * PAGE, MADV_SEQUENTIAL),
		      "MADV_SEQUENTIAL");
	}
	for (nth = 1; ; nth++) {
		pid_t pid;

		check(nth < MAX_NTH, "no end of failures");
		slots[0] = slots[1] = 0;
		pid = fork_sharing(NR);
		if (!pid) {
			unsigned long gap;
			int err;

			/* page in what the test itself uses */
			layout(p, old);
			layout(p, now);
			arm(0);
			arm(nth);
			err = op->run(p);
			slots[0] = disarm();
			if (err) {
				check(err == ENOMEM || err == op->also,
				      "allocation %u: %s", nth, strerror(err));
				check(slots[0], "%s without a reason",
				      strerror(err));
				slots[1] = 1;
				layout(p, now);
				/* all of it or nothing */
				gap = op->gap && now[op->at] == '-' ? op->gap : 0;
				memset(old + op->at, '-', gap);
				check(!memcmp(old, now, PAGES),
				      "allocation %u: mappings have changed", nth);
				verify_most(p, 0, op->at, ORIGIN);
				verify_most(p, op->at + gap, PAGES - op->at - gap,
					    ORIGIN);
				err = op->run(p);
				check(!err, "second try: %s", strerror(err));
			}
			op->after(p);
			done();
		}
		join(pid);
		failed += slots[0];
		reported += slots[1];
		if (!slots[0])
			break;
	}
	/* the last sharer takes each table back */
	events_get(&before);
	verify_most(p, 0, PAGES, ORIGIN);
	fill_most(p, ACTOR);
	expect_events(&before, EV_REUSE, >=, (long)NR);
	unmap_blocks(p, NR);
	note("%u allocations failed, %u times the operation did", failed, reported);
	check(failed >= NR - 2, "only %u allocations could fail", failed);
	check(op->silent || reported, "no failure was reported");
}

#define OP_CASE(name, ...)						\
	static void nomem_##name(void)					\
	{								\
		static const struct op op = {				\
			do_##name, after_##name, __VA_ARGS__		\
		};							\
									\
		try_all(&op);						\
	}

OP_CASE(write, 0, true, 0, 0, false)
OP_CASE(read_hole, 0, true, 0, 0, false)
OP_CASE(protect, 0, false, 0, 0, false)
OP_CASE(unmap, 0, false, 0, 0, false)
/* The kernel leaves a gap where MAP_FIXED fails late, see vms_abort_munmap_vmas(). */
OP_CASE(map_over, 0, false, 100, BLOCK_PAGES, false)
OP_CASE(drop, 0, false, 0, 0, false)
OP_CASE(free, 0, false, 0, 0, false)
#define do_drop_several		do_drop
#define after_drop_several	after_drop
#define do_free_several		do_free
#define after_free_several	after_free
OP_CASE(drop_several, 0, false, 0, 0, true)
OP_CASE(free_several, 0, false, 0, 0, true)
/* And so it does where mremap() fails when the destination has been unmapped. */
OP_CASE(move, 0, false, 50, 20, false)
OP_CASE(lock, EAGAIN, false, 0, 0, false)
OP_CASE(vm_write, EFAULT, false, 0, 0, false)
OP_CASE(uffd, 0, false, 0, 0, false)

/* fork: no child, or one that has everything, shared or copied. */
static void nomem_fork(void)
{
	unsigned int nth, failed = 0, refused = 0;
	struct events before;
	char *p = map_blocks(NR);

	needs_injection();
	fill_most(p, ORIGIN);
	events_get(&before);
	for (nth = 1; ; nth++) {
		bool hit;
		pid_t pid;

		check(nth < 4 * MAX_NTH, "no end of failures");
		/* private again, so that each fork allocates all it can */
		fill_most(p, ORIGIN);
		arm(0);
		arm(nth);
		pid = syscall(SYS_fork);
		if (!pid) {
			verify_most(p, 0, PAGES, ORIGIN);
			fill(p, 30, 5, ACTOR);
			verify(p, 30, 5, ACTOR);
			_exit(0);
		}
		hit = disarm();
		failed += hit;
		if (pid < 0) {
			check(hit, "fork failed without a reason");
			check(errno == ENOMEM || errno == EAGAIN, "fork: %s",
			      strerror(errno));
			refused++;
		} else {
			join(pid);
		}
		verify_most(p, 0, PAGES, ORIGIN);
		if (!hit)
			break;
	}
	note("%u allocations failed, %u forks", failed, refused);
	check(refused, "no fork failed");
	/* the sharers of all blocks are one allocation; their tables stay */
	expect_events(&before, EV_FB_NOMEM, >=, 1);
	expect_events(&before, EV_SHARE, >=, (long)NR);
	unmap_blocks(p, NR);
}

/* The same for the child of a sharer, whose tables may have to be copied. */
static void nomem_second_fork(void)
{
	unsigned int nth, refused = 0;
	char *p = map_blocks(NR);
	pid_t first, pid;
	bool hit = true;

	needs_injection();
	fill_most(p, ORIGIN);
	for (nth = 1; hit; nth++) {
		check(nth < 4 * MAX_NTH, "no end of failures");
		steps_reset();
		first = fork_sharing(NR);
		if (!first) {
			arrive(READY);
			await(GO, 1);
			verify_most(p, 0, PAGES, ORIGIN);
			done();
		}
		await(READY, 1);
		arm(0);
		arm(nth);
		pid = syscall(SYS_fork);
		if (!pid) {
			verify_most(p, 0, PAGES, ORIGIN);
			_exit(0);
		}
		hit = disarm();
		refused += pid < 0;
		if (pid > 0)
			join(pid);
		arrive(GO);
		join(first);
		verify_most(p, 0, PAGES, ORIGIN);
		fill_most(p, ORIGIN);
	}
	note("%u of %u forks failed", refused, nth - 1);
	check(refused, "no fork failed");
	unmap_blocks(p, NR);
}

/* The half of a block that another thread unmaps, and how long it waits before. */
static char *half;
static volatile unsigned long spins;
static volatile int go;

static void *unmapper(void *arg)
{
	unsigned long i;

	(void)arg;
	while (!go)
		;
	for (i = 0; i < spins; i++)
		__asm__ volatile("" ::: "memory");
	check(!munmap(half, BLOCK / 2), "munmap: %s", strerror(errno));
	return NULL;
}

/*
 * A fork that fails between two mappings of a block, whose table is shared by then,
 * gives it back before another thread of the parent can unmap the one the child has
 * not got: else the child would be the last sharer of pages it has no mapping for.
 */
static void nomem_fork_unmap(void)
{
	unsigned int nth = 0, round, failed;
	uint64_t state = seed;
	struct events before;

	needs_injection();
	events_get(&before);
	do {
		check(++nth < MAX_NTH, "no end of failures");
		failed = 0;
		for (round = 0; round < rounds(4); round++) {
			char *p = map_blocks(1);
			pthread_t thread;
			pid_t pid;

			half = AT(BLOCK_PAGES / 2);
			check(!madvise(half, BLOCK / 2, MADV_RANDOM), "MADV_RANDOM");
			fill(p, 0, BLOCK_PAGES, ORIGIN);
			go = 0;
			spins = rnd(&state) % 200000;
			check(!pthread_create(&thread, NULL, unmapper, NULL),
			      "pthread_create");
			arm(0);
			arm(nth);
			go = 1;
			pid = fork();
			if (!pid)
				_exit(0);
			failed += disarm();
			pthread_join(thread, NULL);
			if (pid > 0)
				join(pid);
			verify(p, 0, BLOCK_PAGES / 2, ORIGIN);
			unmap_blocks(p, 1);
		}
	} while (failed);
	expect_events(&before, EV_SHARE, >=, 1);
}

/* What must not fail needs no memory: munmap of whole blocks and exit. */
static void nomem_leave(void)
{
	char *p = map_blocks(NR);
	struct events before;
	pid_t pid;

	needs_injection();
	fill_most(p, ORIGIN);
	events_get(&before);
	pid = fork_sharing(NR);
	if (!pid) {
		/* every allocation of this thread fails from now on */
		check(!write_file("/proc/thread-self/make-it-fail", "1"),
		      "make-it-fail");
		arrive(READY);
		await(GO, 1);
		_exit(0);
	}
	await(READY, 1);
	inject_setting("task-filter", "Y", true);
	inject_setting("times", "-1", true);
	inject_setting("probability", "100", true);
	arrive(GO);
	join(pid);
	inject_setting("probability", "0", true);
	inject_setting("task-filter", "N", true);
	expect_events(&before, EV_DETACH, >=, (long)NR);
	verify_most(p, 0, PAGES, ORIGIN);
	unmap_blocks(p, NR);
}

#define MAX_REGIONS	(BLOCK_PAGES + 64)

/* PAGEMAP_SCAN of @arg: pages found below @end, or -1. */
static long scan_pages(struct scan_arg *arg, uint64_t flags, char *end)
{
	static struct { uint64_t start, end, categories; } vec[MAX_REGIONS];
	static int fd = -1;
	long n, i, pages = 0;

	if (fd < 0)
		fd = open("/proc/self/pagemap", O_RDONLY);
	check(fd >= 0, "pagemap");
	arg->vec = (uintptr_t)vec;
	arg->vec_len = MAX_REGIONS;
	arg->flags = flags;
	n = ioctl(fd, PAGEMAP_SCAN_IOCTL, arg);
	if (n < 0)
		return -1;
	for (i = 0; i < n; i++) {
		if (vec[i].end > (uintptr_t)end)
			vec[i].end = (uintptr_t)end;
		if (vec[i].start < vec[i].end)
			pages += (vec[i].end - vec[i].start) / PAGE;
	}
	return pages;
}

/*
 * Reset what is known of written pages in a private block, and of the pages of a
 * shared block behind it that the mapping has grown into.  @nth fails: then the first
 * block must not have been reset.  Returns 0 if there was no such allocation, 1, or
 * 2 if the call failed.
 */
static int scan_once(unsigned int nth)
{
	char *p = map_blocks(2);
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_ASYNC_WP | UFFD_WP_UNPOPULATED,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, BLOCK }, .mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct scan_arg scan = {
		.size = sizeof(scan), .start = (uintptr_t)p,
		.end = (uintptr_t)AT(BLOCK_PAGES + 64),
		.category_mask = SCAN_IS_WRITTEN, .return_mask = SCAN_IS_WRITTEN,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), ret;
	long pages;
	pid_t pid;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		skip_case("userfaultfd: %s", strerror(errno));
	steps_reset();
	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	check(!munmap(AT(BLOCK_PAGES), BLOCK / 2), "munmap");
	check(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	pid = fork_sharing(1);
	if (!pid) {
		await(GO, 1);
		verify(p, BLOCK_PAGES + BLOCK_PAGES / 2, BLOCK_PAGES / 2, ORIGIN);
		done();
	}
	check(mremap(p, BLOCK, BLOCK + 64 * PAGE, 0) == p, "mremap: %s",
	      strerror(errno));
	/* page in what the test itself uses */
	check(scan_pages(&scan, 0, AT(BLOCK_PAGES)) == BLOCK_PAGES,
	      "not all is written");
	arm(0);
	arm(nth);
	pages = scan_pages(&scan, SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
			   AT(BLOCK_PAGES));
	ret = disarm();
	if (pages < 0) {
		check(errno == ENOMEM && ret, "allocation %u: %s", nth, strerror(errno));
		ret = 2;
		check(scan_pages(&scan, 0, AT(BLOCK_PAGES)) == BLOCK_PAGES,
		      "allocation %u: reset, and the caller was not told", nth);
		pages = scan_pages(&scan, SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
				   AT(BLOCK_PAGES));
	}
	check(pages == BLOCK_PAGES, "allocation %u: %ld pages", nth, pages);
	check(scan_pages(&scan, 0, AT(BLOCK_PAGES)) == 0, "not reset");
	arrive(GO);
	join(pid);
	close(fd);
	unmap_blocks(p, 2);
	return ret;
}

static void nomem_scan(void)
{
	unsigned int nth = 0, reported = 0;
	int ret;

	needs_injection();
	do {
		check(++nth < MAX_NTH, "no end of failures");
		ret = scan_once(nth);
		reported += ret == 2;
	} while (ret);
	note("%u allocations failed, %u times the call did", nth - 1, reported);
	check(reported, "no failure was reported");
}

static const struct cow_case cases[] = {
	{ "fork", nomem_fork },
	{ "fork beside another child", nomem_second_fork },
	{ "fork that fails while another thread unmaps", nomem_fork_unmap },
	{ "write fault", nomem_write },
	{ "fault of an empty page", nomem_read_hole },
	{ "mprotect", nomem_protect },
	{ "munmap", nomem_unmap },
	{ "mmap over a part", nomem_map_over },
	{ "MADV_DONTNEED", nomem_drop },
	{ "MADV_FREE", nomem_free },
	{ "MADV_DONTNEED of several mappings", nomem_drop_several },
	{ "MADV_FREE of several mappings", nomem_free_several },
	{ "mremap", nomem_move },
	{ "mlock", nomem_lock },
	{ "process_vm_writev", nomem_vm_write },
	{ "userfaultfd", nomem_uffd },
	{ "PAGEMAP_SCAN", nomem_scan },
	{ "exit", nomem_leave },
};

int main(int argc, char **argv)
{
	/*
	 * The kernel writes to the rseq area of a thread that was preempted, and
	 * kills the thread if that fails, which it may after fork: without.
	 */
	if (!getenv("GLIBC_TUNABLES")) {
		setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
		execv("/proc/self/exe", argv);
	}
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
