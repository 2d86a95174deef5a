// SPDX-License-Identifier: GPL-2.0
/*
 * No memory: each allocation that an operation makes fails once, the first, the
 * second, and so on until the operation needs no more.  When it reports the
 * failure, nothing has changed: mappings, protections, every byte of every sharer.
 * When it is tried again, it succeeds.
 *
 * Needs fault injection (failslab, fail_page_alloc) and its fail-nth file.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow_pte_util.h"

#ifndef SYS_process_madvise
#define SYS_process_madvise	440
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease	448
#endif

enum { ORIGIN = 1, ACTOR, FILE_DATA };
enum { READY, GO, DID, OVER };

#define NR		4UL
#define PAGES		(NR * BLOCK_PAGES)
#define AT(n)		(p + (n) * PAGE)
#define HOLE		7UL	/* this page of each block was never touched */
#define MAX_NTH		200

/* "Y": only allocations from caches that are marked, of which there is none, can fail */
#define SLAB_FILTER	"/sys/kernel/debug/failslab/cache-filter"

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
	/* what a case that failed may have left */
	inject_setting("probability", "0", true);
	inject_setting("task-filter", "N", true);
	inject_setting("space", "0", true);
	inject_setting("verbose", "0", true);
	write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	write_file("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	write_file(SLAB_FILTER, "N");
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

/* Of a mapping, a bit each: what may be done there, what has been asked for */
static const char *const vm_flags[] = {
	"mr", "rd", "wr", "sh", "lo", "um", "uw", "mg", "dc", "wf", "hg", "nh",
};

#define LOCKED		0x10
#define KEY_SHIFT	12

/*
 * What of [p, p + PAGES) is mapped and how, a word for each page: where the kernel
 * draws the borders between mappings does not matter.
 */
static void layout(char *p, uint16_t *pages)
{
	static char text[1 << 17];
	unsigned long start = 0, end = 0, key = 0, base = (unsigned long)p, i, a, b;
	int fd = open("/proc/self/smaps", O_RDONLY);
	char *line, *next;
	size_t n = 0;
	ssize_t ret;

	check(fd >= 0, "smaps");
	while ((ret = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += ret;
	close(fd);
	check(n < sizeof(text) - 1, "too many mappings");
	text[n] = '\0';
	memset(pages, 0, PAGES * sizeof(*pages));
	for (line = text; *line; line = next) {
		uint16_t word = 0;

		next = strchr(line, '\n');
		*next++ = '\0';
		/* "AnonHugePages" begins with a number too */
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2) {
			start = a;
			end = b;
			key = 0;
		}
		sscanf(line, "ProtectionKey: %lu", &key);
		/* the last line of each mapping */
		if (strncmp(line, "VmFlags:", 8))
			continue;
		for (i = 0; i < ARRAY_LEN(vm_flags); i++)
			if (strstr(line + 8, vm_flags[i]))
				word |= 1 << i;
		for (i = 0; i < PAGES; i++)
			if (base + i * PAGE >= start && base + i * PAGE < end)
				pages[i] = word | key << KEY_SHIFT;
	}
}

/*
 * An operation in a process that shares the tables of @p.  @run returns 0 or an
 * errno; @after looks at the effect.  With @silent, a failure is never reported to
 * the program: a page fault is tried again until it succeeds.
 */
struct op {
	int (*run)(char *p);
	void (*after)(char *p);
	void (*before)(char *p);	/* in the child, while nothing fails */
	void (*intact)(char *p);	/* looks at more after a failure */
	char *(*map)(void);		/* else map_blocks() and unmap_blocks() */
	void (*unmap)(char *p);
	int also;		/* an errno besides ENOMEM, or 0 */
	bool silent;
	unsigned long at, gap;	/* pages that may be unmapped after a failure */
	bool split;		/* several mappings, whose borders are within blocks */
	bool one_block;		/* no other is touched */
	bool pages;		/* only these fail, not the kernel's own objects */
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

static int uffd = -1;

/* Stays open after a failure, so that one sees what it has armed. */
static int do_uffd(char *p)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (unsigned long)AT(10), PAGE * BLOCK_PAGES },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (uffd < 0) {
		uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
		if (uffd < 0)
			return errno;
		if (ioctl(uffd, UFFDIO_API, &api))
			return errno;
	}
	return report(ioctl(uffd, UFFDIO_REGISTER, &reg));
}

static void after_uffd(char *p)
{
	close(uffd);
	verify_most(p, 0, PAGES, ORIGIN);
}

static int pkey;

static void before_pkey(char *p)
{
	(void)p;
	pkey = syscall(SYS_pkey_alloc, 0, 0);
	if (pkey < 0)
		skip_case("no protection keys: %s", strerror(errno));
}

static int do_pkey(char *p)
{
	return report(syscall(SYS_pkey_mprotect, AT(1), PAGE * (2 * BLOCK_PAGES + 3),
			      PROT_READ, pkey));
}

static void after_pkey(char *p)
{
	static uint16_t pages[PAGES];

	after_protect(p);
	layout(p, pages);
	check(pages[1] >> KEY_SHIFT == pkey && !(pages[0] >> KEY_SHIFT),
	      "key %d of the first page, %d of the one before", pages[1] >> KEY_SHIFT,
	      pages[0] >> KEY_SHIFT);
}

/* Blocks at the end of the heap; nobody calls malloc() meanwhile. */
static char *map_brk(void)
{
	char *old = sbrk(0);
	char *p = (char *)(((uintptr_t)old + 2 * BLOCK - 1) & ~(BLOCK - 1));

	if (sbrk(p + NR * BLOCK - old) == (void *)-1)
		skip_case("brk: %s", strerror(errno));
	return p;
}

static void unmap_brk(char *p)
{
	check(!brk(p), "brk: %s", strerror(errno));
}

static int do_brk(char *p)
{
	char *to = AT(2 * BLOCK_PAGES + 100);

	return syscall(SYS_brk, to) == (long)to ? 0 : ENOMEM;
}

static void after_brk(char *p)
{
	verify_most(p, 0, 2 * BLOCK_PAGES + 100, ORIGIN);
	check(read_faults(AT(2 * BLOCK_PAGES + 100)), "the first page is mapped");
	check(read_faults(AT(PAGES - 1)), "the last page is mapped");
}

/* Without MCL_ONFAULT each page would be a failure of its own, that nobody hears of. */
static int do_lock_all(char *p)
{
	(void)p;
	return report(mlockall(MCL_CURRENT | MCL_ONFAULT));
}

static void after_lock_all(char *p)
{
	verify_most(p, 0, PAGES, ORIGIN);
	check(!munlockall(), "munlockall");
}

/* A whole block moves, its table with it. */
static int do_move_block(char *p)
{
	return mremap(AT(BLOCK_PAGES), BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED,
		      AT(3 * BLOCK_PAGES)) == MAP_FAILED ? errno : 0;
}

static void moved_block(char *p)
{
	unsigned long i;

	verify_most(p, 0, BLOCK_PAGES, ORIGIN);
	verify_most(p, 2 * BLOCK_PAGES, BLOCK_PAGES, ORIGIN);
	for (i = 0; i < BLOCK_PAGES; i++)
		check(page_is(AT(3 * BLOCK_PAGES + i), BLOCK_PAGES + i,
			      i == HOLE ? OWNER_ZERO : ORIGIN), "moved page %lu", i);
}

static void after_move_block(char *p)
{
	moved_block(p);
	/* as in after_move() */
	if (!read_faults(AT(BLOCK_PAGES)))
		verify(p, BLOCK_PAGES, BLOCK_PAGES, OWNER_ZERO);
}

static int do_move_pages(char *p)
{
	return mremap(AT(BLOCK_PAGES), BLOCK, BLOCK,
		      MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		      AT(3 * BLOCK_PAGES)) == MAP_FAILED ? errno : 0;
}

static void after_move_pages(char *p)
{
	moved_block(p);
	verify(p, BLOCK_PAGES, BLOCK_PAGES, OWNER_ZERO);
}

static int clear_fd;

static bool soft_dirty(char *p, unsigned long page)
{
	return pagemap(0, AT(page)) & PM_SOFT_DIRTY;
}

static void intact_clear_refs(char *p)
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		check(soft_dirty(p, b * BLOCK_PAGES), "page %lu is not soft-dirty",
		      b * BLOCK_PAGES);
}

static void before_clear_refs(char *p)
{
	clear_fd = open("/proc/self/clear_refs", O_WRONLY);
	if (clear_fd < 0 || !soft_dirty(p, 0))
		skip_case("no soft-dirty bits");
	intact_clear_refs(p);
}

static int do_clear_refs(char *p)
{
	(void)p;
	return report(write(clear_fd, "4", 1));
}

static void after_clear_refs(char *p)
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		check(!soft_dirty(p, b * BLOCK_PAGES), "page %lu is soft-dirty",
		      b * BLOCK_PAGES);
	fill(p, 3, 1, ORIGIN);
	check(soft_dirty(p, 3) && !soft_dirty(p, 4), "page 3 was written, and not page 4");
	verify_most(p, 0, PAGES, ORIGIN);
}

static void before_collapse(char *p)
{
	if (madvise(p, NR * BLOCK, MADV_HUGEPAGE))
		skip_case("MADV_HUGEPAGE: %s", strerror(errno));
}

/* The kernel collapses nothing that nobody can write, as after the fork. */
static int do_collapse(char *p)
{
	if (!madvise(p, 2 * BLOCK, MADV_COLLAPSE) || errno == EINVAL || errno == EAGAIN)
		return 0;
	return errno;
}

static int do_collapse_other(char *p)
{
	struct iovec iov = { p, 2 * BLOCK };
	int fd = syscall(SYS_pidfd_open, getpid(), 0), err;

	if (fd < 0)
		return errno;
	err = syscall(SYS_process_madvise, fd, &iov, 1, MADV_COLLAPSE, 0) < 0 ? errno : 0;
	close(fd);
	return err == EINVAL || err == EAGAIN ? 0 : err;
}

static void after_collapse(char *p)
{
	verify_most(p, 0, PAGES, ORIGIN);
	fill(p, 3, 5, ACTOR);
	verify(p, 3, 5, ACTOR);
}

/* Around a border of blocks. */
static int do_populate(char *p)
{
	return report(madvise(AT(BLOCK_PAGES - 5), 10 * PAGE, MADV_POPULATE_WRITE));
}

static void after_populate(char *p)
{
	verify_most(p, 0, PAGES, ORIGIN);
}

static int pipe_fds[2];

static void before_vmsplice(char *p)
{
	(void)p;
	check(!pipe(pipe_fds), "pipe");
}

static int do_vmsplice(char *p)
{
	struct iovec iov = { AT(20), PAGE };
	ssize_t n = vmsplice(pipe_fds[1], &iov, 1, 0);

	return n == (ssize_t)PAGE ? 0 : n < 0 ? errno : EIO;
}

static void after_vmsplice(char *p)
{
	static char buf[PAGE];

	/* the pipe has the page of that time, as any process that shared it */
	fill(p, 20, 1, ACTOR);
	check(read(pipe_fds[0], buf, PAGE) == (ssize_t)PAGE, "pipe");
	verify(p, 20, 1, ACTOR);
	verify_most(p, 21, PAGES - 21, ORIGIN);
	verify_most(p, 0, 20, ORIGIN);
}

static int mem_fd;

static void before_mem_write(char *p)
{
	(void)p;
	mem_fd = open("/proc/self/mem", O_RDWR);
	check(mem_fd >= 0, "/proc/self/mem");
}

static int do_mem_write(char *p)
{
	static char buf[PAGE];
	ssize_t n;

	pattern_page(buf, 20, ACTOR);
	n = pwrite(mem_fd, buf, PAGE, (uintptr_t)AT(20));
	return n == (ssize_t)PAGE ? 0 : n < 0 ? errno : EIO;
}

/* As gup.c has it: a file of ours, past the page cache. */
static int direct_fd = -1;

static void before_direct(char *p)
{
	char path[64];
	int fd = disk_file(24, FILE_DATA);

	(void)p;
	fsync(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	direct_fd = open(path, O_RDONLY | O_DIRECT);
	if (direct_fd < 0)
		skip_case("no file system with O_DIRECT, see COW_PTE_TEST_DIR");
	close(fd);
}

static int do_direct(char *p)
{
	ssize_t n = pread(direct_fd, AT(20), PAGE, 20 * PAGE);

	return n == (ssize_t)PAGE ? 0 : n < 0 ? errno : EIO;
}

static void after_direct(char *p)
{
	close(direct_fd);
	verify_most(p, 0, 20, ORIGIN);
	verify(p, 20, 1, FILE_DATA);
	verify_most(p, 21, PAGES - 21, ORIGIN);
}

/* The kernel copies from a pipe: the fault is its own, and what is not copied stays there. */
static void before_pipe_read(char *p)
{
	static char buf[PAGE];

	(void)p;
	check(!pipe(pipe_fds), "pipe");
	pattern_page(buf, 20, ACTOR);
	check(write(pipe_fds[1], buf, PAGE) == (ssize_t)PAGE, "pipe");
}

static int do_pipe_read(char *p)
{
	ssize_t n = read(pipe_fds[0], AT(20), PAGE);

	return n == (ssize_t)PAGE ? 0 : n < 0 ? errno : EIO;
}

static void after_pipe_read(char *p)
{
	after_vm_write(p);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static int ring_fd;

static void before_ring(char *p)
{
	struct io_uring_params params = { 0 };

	(void)p;
	ring_fd = syscall(SYS_io_uring_setup, 4, &params);
	if (ring_fd < 0)
		skip_case("io_uring: %s", strerror(errno));
}

static int do_ring(char *p)
{
	struct iovec iov = { AT(20), 4 * PAGE };

	return report(syscall(SYS_io_uring_register, ring_fd, IORING_REGISTER_BUFFERS,
			      &iov, 1));
}

/* A fork finds the pins: they are in the table of this process. */
static void after_ring(char *p)
{
	struct events before;
	pid_t pid;

	events_get(&before);
	pid = xfork();
	if (!pid) {
		verify_most(p, 0, PAGES, ORIGIN);
		done();
	}
	join(pid);
	expect_events(&before, EV_FB_PINNED, >=, 1);
	verify_most(p, 0, PAGES, ORIGIN);
	close(ring_fd);
}

/*
 * A debugger writes a word into a process that shares the table with it.  Where the cgroup
 * of that process has no memory for the table, the debugger pays: it is the only one of
 * these that asks twice, and fails for the page only.
 */
#define POKED		0x5eed5eed5eed5eedL

static pid_t tracee;
static long tracee_breaks;

static void before_poke(char *p)
{
	int status;

	tracee = fork_sharing(NR);
	if (!tracee) {
		check(!ptrace(PTRACE_TRACEME, 0, NULL, NULL), "PTRACE_TRACEME: %s",
		      strerror(errno));
		raise(SIGSTOP);
		check(*(volatile long *)AT(20) == POKED, "the word is not there");
		verify_most(p, 0, 20, ORIGIN);
		verify_most(p, 21, PAGES - 21, ORIGIN);
		done();
	}
	status = join_status(tracee);
	check(WIFSTOPPED(status), "wait status %#x", status);
	tracee_breaks = status_kb(tracee, "CowPTEBreaks");
}

static int do_poke(char *p)
{
	return report(ptrace(PTRACE_POKEDATA, tracee, AT(20), POKED));
}

static void intact_poke(char *p)
{
	long word = ptrace(PTRACE_PEEKDATA, tracee, AT(20), NULL);

	check(word == *(long *)AT(20), "the word is %#lx", word);
}

static void after_poke(char *p)
{
	long breaks = status_kb(tracee, "CowPTEBreaks") - tracee_breaks;

	check(breaks == 1, "%ld tables were copied for the other process", breaks);
	check(!ptrace(PTRACE_CONT, tracee, NULL, NULL), "PTRACE_CONT: %s",
	      strerror(errno));
	join(tracee);
	verify_most(p, 0, PAGES, ORIGIN);
}

static int mirror_fd;

static void before_notifier(char *p)
{
	(void)p;
	if (access("/dev/hmm_dmirror0", R_OK | W_OK))
		skip_case("no /dev/hmm_dmirror0");
}

/* A device that mirrors the memory of the process. */
static int do_notifier(char *p)
{
	(void)p;
	mirror_fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	return report(mirror_fd);
}

static void after_notifier(char *p)
{
	struct events before;
	pid_t pid;

	events_get(&before);
	pid = xfork();
	if (!pid) {
		verify_most(p, 0, PAGES, ORIGIN);
		done();
	}
	join(pid);
	expect_events(&before, EV_FB_NOTIFIER, >=, (long)NR);
	close(mirror_fd);
	verify_most(p, 0, PAGES, ORIGIN);
}

/* What a failed operation must not have changed. */
static void unchanged(const struct op *op, char *p, uint16_t *old, uint16_t *now,
		      unsigned int nth, int err)
{
	unsigned long gap, i;

	layout(p, now);
	/* all of it or nothing */
	gap = op->gap && !now[op->at] ? op->gap : 0;
	for (i = 0; i < PAGES; i++) {
		uint16_t changed = old[i] ^ now[i];

		if (i >= op->at && i < op->at + gap)
			continue;
		/* mlock() has locked a mapping when it fails to populate it */
		if (err == op->also)
			changed &= ~LOCKED;
		check(!changed, "allocation %u: page %lu is mapped as %#x, was %#x",
		      nth, i, now[i], old[i]);
	}
	if (op->intact)
		op->intact(p);
	verify_most(p, 0, op->at, ORIGIN);
	verify_most(p, op->at + gap, PAGES - op->at - gap, ORIGIN);
}

/* Do it under every single failure, in one of three who share the tables. */
static void try_all(const struct op *op)
{
	unsigned int nth, failed = 0, reported = 0, passes = op->pages ? 2 : 1;
	static uint16_t old[PAGES], now[PAGES];
	struct events before;
	pid_t bystander;
	char *p;

	needs_injection();
	if (op->pages && write_file(SLAB_FILTER, "Y"))
		skip_case("no " SLAB_FILTER);
	p = op->map ? op->map() : map_blocks(NR);
	fill_most(p, ORIGIN);
	if (op->split) {
		check(!madvise(AT(100), 500 * PAGE, MADV_RANDOM), "MADV_RANDOM");
		check(!madvise(AT(BLOCK_PAGES + 400), 300 * PAGE, MADV_SEQUENTIAL),
		      "MADV_SEQUENTIAL");
	}
	bystander = fork_sharing(NR);
	if (!bystander) {
		await(OVER, 1);
		verify_most(p, 0, PAGES, ORIGIN);
		done();
	}
	/* twice where only pages fail, see move_whole_or_not() */
	for (nth = 1; passes; nth++) {
		pid_t pid;

		check(nth < MAX_NTH, "no end of failures");
		slots[0] = slots[1] = 0;
		pid = fork_sharing(NR);
		if (!pid) {
			int err;

			if (op->before)
				op->before(p);
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
				unchanged(op, p, old, now, nth, err);
				err = op->run(p);
				check(!err, "second try: %s", strerror(err));
			}
			op->after(p);
			done();
		}
		join(pid);
		failed += slots[0];
		reported += slots[1];
		if (!slots[0]) {
			passes--;
			nth = 0;
		}
	}
	write_file(SLAB_FILTER, "N");
	arrive(OVER);
	join(bystander);
	/* the last sharer takes each table back */
	events_get(&before);
	verify_most(p, 0, PAGES, ORIGIN);
	fill_most(p, ACTOR);
	expect_events(&before, EV_REUSE, >=, (long)NR);
	if (op->unmap)
		op->unmap(p);
	else
		unmap_blocks(p, NR);
	note("%u allocations failed, %u times the operation did", failed, reported);
	check(failed >= (op->one_block ? 1 : NR - 2), "only %u allocations could fail",
	      failed);
	check(op->silent || reported, "no failure was reported");
}

#define OP_CASE(name, ...)						\
	static void nomem_##name(void)					\
	{								\
		static const struct op op = {				\
			.run = do_##name, .after = after_##name,	\
			__VA_ARGS__					\
		};							\
									\
		try_all(&op);						\
	}

/* Where a folio would fill the hole. */
static char *map_four(void)
{
	return map_small_pages(NR);
}

static void unmap_four(char *p)
{
	unmap_blocks(p, NR);
}

OP_CASE(write, .silent = true)
OP_CASE(read_hole, .silent = true, .map = map_four, .unmap = unmap_four)
OP_CASE(protect)
OP_CASE(unmap)
/* The kernel leaves a gap where MAP_FIXED fails late, see vms_abort_munmap_vmas(). */
OP_CASE(map_over, .at = 100, .gap = BLOCK_PAGES)
/* That is not for want of a table: all of those are there before anything is unmapped. */
#define do_map_over_whole	do_map_over
#define after_map_over_whole	after_map_over
OP_CASE(map_over_whole, .pages = true)
OP_CASE(drop)
OP_CASE(free)
#define do_drop_several		do_drop
#define after_drop_several	after_drop
#define do_free_several		do_free
#define after_free_several	after_free
OP_CASE(drop_several, .split = true)
OP_CASE(free_several, .split = true)
/* And so it does where mremap() fails when the destination has been unmapped. */
OP_CASE(move, .at = 50, .gap = 20)
OP_CASE(move_block, .at = 3 * BLOCK_PAGES, .gap = BLOCK_PAGES)
OP_CASE(move_pages, .at = 3 * BLOCK_PAGES, .gap = BLOCK_PAGES)

/*
 * mremap() of @old pages at @from to @len pages at @to.  When it fails nothing has changed,
 * the destination is mapped still.  Only pages fail here, as for the kernel's own objects
 * plain mremap() fails after it has unmapped the destination.
 */
static void move_whole_or_not(char *p, unsigned long blocks, unsigned long end,
			      unsigned long from, unsigned long old,
			      unsigned long to, unsigned long len, unsigned int tables)
{
	unsigned int nth, failed = 0, reported = 0, passes = 2;

	if (write_file(SLAB_FILTER, "Y"))
		skip_case("no " SLAB_FILTER);
	/*
	 * Twice: where the nth page is one that is not needed each time (for stack
	 * traces, say), a table is passed over.
	 */
	for (nth = 1; passes; nth++) {
		pid_t pid;

		check(nth < MAX_NTH, "no end of failures");
		slots[0] = slots[1] = 0;
		pid = fork_sharing(blocks);
		if (!pid) {
			unsigned long i;
			char *ret;

			arm(0);
			arm(nth);
			ret = mremap(AT(from), old * PAGE, len * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, AT(to));
			slots[0] = disarm();
			if (ret == MAP_FAILED) {
				check(errno == ENOMEM && slots[0], "mremap: %s",
				      strerror(errno));
				slots[1] = 1;
				check(!msync(AT(to), len * PAGE, MS_ASYNC),
				      "page %u: the destination is not mapped any more", nth);
				verify(p, 0, end, ORIGIN);
				ret = mremap(AT(from), old * PAGE, len * PAGE,
					     MREMAP_MAYMOVE | MREMAP_FIXED, AT(to));
			}
			check(ret == AT(to), "mremap: %s", strerror(errno));
			for (i = 0; i < len; i++)
				check(page_is(AT(to + i), from + i, ORIGIN),
				      "moved page %lu", i);
			for (i = from; i < from + old; i++)
				check(msync(AT(i), PAGE, MS_ASYNC) && errno == ENOMEM,
				      "page %lu is still mapped", i);
			verify(p, 0, from, ORIGIN);
			verify(p, from + old, (to < end ? to : end) - from - old, ORIGIN);
			done();
		}
		join(pid);
		failed += slots[0];
		reported += slots[1];
		if (!slots[0]) {
			passes--;
			nth = 0;
		}
	}
	write_file(SLAB_FILTER, "N");
	note("%u pages failed, %u times the operation did", failed, reported);
	check(plain || reported >= tables, "%u failures were reported", reported);
	verify(p, 0, end, ORIGIN);
	unmap_blocks(p, blocks);
}

/*
 * To where nothing was touched, beside what was: the table there is broken before the
 * destination is unmapped.
 */
static void nomem_move_beside(void)
{
	char *p;

	needs_injection();
	p = map_blocks(2);
	fill(p, 0, BLOCK_PAGES + 256, ORIGIN);
	move_whole_or_not(p, 2, BLOCK_PAGES + 256, 10, 64, BLOCK_PAGES + 300, 64, 2);
}

/*
 * What mremap() is to make shorter ends in another mapping, in the next block: the table
 * there is broken before the destination is unmapped, too.
 */
static void nomem_move_shorter(void)
{
	char *p;

	needs_injection();
	p = map_blocks(3);
	check(!madvise(AT(BLOCK_PAGES - 2), 100 * PAGE, MADV_DONTDUMP),
	      "MADV_DONTDUMP: %s", strerror(errno));
	fill(p, 0, 2 * BLOCK_PAGES + 256, ORIGIN);
	move_whole_or_not(p, 3, 2 * BLOCK_PAGES + 256, BLOCK_PAGES - 12, 24,
			  2 * BLOCK_PAGES + 100, 8, 3);
}

OP_CASE(lock, .also = EAGAIN)
OP_CASE(lock_all)
OP_CASE(vm_write, .also = EFAULT)
#define after_mem_write		after_vm_write
OP_CASE(mem_write, .before = before_mem_write, .also = EIO, .one_block = true)
OP_CASE(vmsplice, .before = before_vmsplice, .also = EFAULT, .one_block = true)
OP_CASE(direct, .before = before_direct, .one_block = true)
OP_CASE(pipe_read, .before = before_pipe_read, .also = EFAULT, .one_block = true)
OP_CASE(ring, .before = before_ring, .also = EFAULT, .one_block = true)
OP_CASE(poke, .before = before_poke, .intact = intact_poke, .also = EIO,
	.one_block = true)
/*
 * What is armed is never shared, and so what a userfaultfd does with pages meets a shared
 * table only where an armed mapping grew: see grown_once().
 */
OP_CASE(uffd)
OP_CASE(pkey, .before = before_pkey)
OP_CASE(brk, .map = map_brk, .unmap = unmap_brk)
OP_CASE(clear_refs, .before = before_clear_refs, .intact = intact_clear_refs)
OP_CASE(collapse, .before = before_collapse)
#define after_collapse_other	after_collapse
OP_CASE(collapse_other, .before = before_collapse)
OP_CASE(populate)
OP_CASE(notifier, .before = before_notifier)

/* fork: no child, or one that has everything, shared or copied. */
static void nomem_fork(void)
{
	unsigned int nth, failed = 0, refused = 0, passes = 0;
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
		if (hit)
			continue;
		/* their number is not always the same: one may have been missed */
		if (event_delta(&before, EV_FB_NOMEM) || ++passes == 8)
			break;
		nth = 0;
	}
	note("%u allocations failed, %u forks", failed, refused);
	check(refused, "no fork failed");
	/* the sharers of all blocks are one allocation; their tables stay */
	expect_events(&before, EV_FB_NOMEM, >=, 1);
	expect_events(&before, EV_SHARE, >=, (long)NR);
	/*
	 * What was shared was let go of, or copied, also where fork() failed.  More may
	 * be: of the tables that this process has in common with who forked it.
	 */
	check(event_delta(&before, EV_SHARE) <=
	      event_delta(&before, EV_BREAK) + event_delta(&before, EV_DETACH),
	      "share %ld, break %ld, detach %ld", event_delta(&before, EV_SHARE),
	      event_delta(&before, EV_BREAK), event_delta(&before, EV_DETACH));
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
			/* a few in each of the two, for there are many rounds */
			fill(p, 0, 64, ORIGIN);
			fill(p, BLOCK_PAGES / 2, 64, ORIGIN);
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
			verify(p, 0, 64, ORIGIN);
			unmap_blocks(p, 1);
		}
	} while (failed);
	expect_events(&before, EV_SHARE, >=, 1);
}

/*
 * What must not fail needs no memory.  Between all_fail(true) and all_fail(false)
 * each allocation of a task that says so fails; starve() says so for the caller, and
 * needs nothing itself.
 */
static int starve_fd;

static void all_fail(bool on)
{
	/* in this order: never for all tasks */
	inject_setting("probability", "0", true);
	inject_setting("task-filter", on ? "Y" : "N", true);
	inject_setting("times", "-1", true);
	if (on)
		inject_setting("probability", "100", true);
}

static void starve(bool on)
{
	check(pwrite(starve_fd, on ? "1" : "0", 1, 0) == 1, "make-it-fail");
}

/* In each process anew; pages in what starve() uses. */
static void starve_ready(void)
{
	starve_fd = open("/proc/thread-self/make-it-fail", O_RDWR);
	check(starve_fd >= 0, "make-it-fail");
	starve(false);
	errno = 0;
}

static void starved_exit(void)
{
	char *p = map_blocks(NR);
	struct events before;
	pid_t pid;

	needs_injection();
	fill_most(p, ORIGIN);
	events_get(&before);
	pid = fork_sharing(NR);
	if (!pid) {
		starve_ready();
		arrive(READY);
		await(GO, 1);
		starve(true);
		_exit(0);
	}
	await(READY, 1);
	all_fail(true);
	arrive(GO);
	join(pid);
	all_fail(false);
	expect_events(&before, EV_DETACH, >=, (long)NR);
	verify_most(p, 0, PAGES, ORIGIN);
	unmap_blocks(p, NR);
}

/*
 * The whole of a mapping, because the kernel needs memory to split one; @drop leaves
 * the mapping there.  First where nothing is shared, to see that the kernel can.
 */
static int unmap_starved(char *p, bool drop)
{
	int ret;

	starve(true);
	ret = report(drop ? madvise(p, NR * BLOCK, MADV_DONTNEED) :
			    munmap(p, NR * BLOCK));
	starve(false);
	return ret;
}

static void unmap_without_memory(bool drop)
{
	char *p = map_blocks(NR);
	pid_t pid, other;

	needs_injection();
	fill_most(p, ORIGIN);
	steps_reset();
	other = fork_sharing(NR);
	if (!other) {
		await(GO, 1);
		verify_most(p, 0, PAGES, ORIGIN);
		fill_most(p, ACTOR);
		done();
	}
	all_fail(true);
	pid = fork_sharing(NR);
	if (!pid) {
		const long size = (PAGES - NR) * PAGE / 1024;
		char *own = map_blocks(NR);
		struct events before;
		long anon, breaks;
		int ret;

		starve_ready();
		fill_most(own, ACTOR);
		ret = unmap_starved(own, drop);
		if (ret)
			skip_case("without shared tables: %s", strerror(ret));
		breaks = own_breaks();
		anon = status_kb(0, "RssAnon");
		events_get(&before);
		ret = unmap_starved(p, drop);
		check(!ret, "%s", strerror(ret));
		expect_events(&before, EV_DETACH, >=, (long)NR);
		check(own_breaks() == breaks, "%ld tables were copied",
		      own_breaks() - breaks);
		anon -= status_kb(0, "RssAnon");
		check(labs(anon - size) <= 64, "RssAnon fell by %ld kB, not %ld", anon,
		      size);
		if (drop)
			verify(p, 0, PAGES, OWNER_ZERO);
		else
			check(read_faults(AT(0)) && read_faults(AT(PAGES - 1)),
			      "still mapped");
		done();
	}
	join(pid);
	all_fail(false);
	verify_most(p, 0, PAGES, ORIGIN);
	arrive(GO);
	join(other);
	verify_most(p, 0, PAGES, ORIGIN);
	unmap_blocks(p, NR);
}

static void starved_unmap(void)
{
	unmap_without_memory(false);
}

static void starved_drop(void)
{
	unmap_without_memory(true);
}

/*
 * exec needs memory for the new program, so there each allocation fails alone: it
 * fails and nothing has changed, or the process is killed without the old memory, or
 * it succeeds.  The other sharers do not notice.  The new program tells whether the
 * failure was used up.
 */
#define STILL_ARMED	42
/* of the C library, without memory for the first thread's variables */
#define NO_START	127

static int say_if_armed(void)
{
	char text[16] = "0";
	int fd = open("/proc/thread-self/fail-nth", O_RDONLY);

	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strtol(text, NULL, 10) ?
		STILL_ARMED : 0;
}

static void nomem_exec(void)
{
	unsigned int nth, tried = 0, refused = 0, killed = 0;
	char *p = map_blocks(NR);
	struct events before;
	int status;

	needs_injection();
	fill_most(p, ORIGIN);
	/* there are many, most of them before the tables are let go of */
	for (nth = 1; ; nth += 1 + nth / 16) {
		static char *const argv[] = { "nomem", "--say-if-armed", NULL };
		static char *const envp[] = {
			"GLIBC_TUNABLES=glibc.pthread.rseq=0", NULL
		};
		pid_t pid;

		check(nth < 4 * MAX_NTH, "no end of failures");
		slots[0] = 0;
		events_get(&before);
		pid = fork_sharing(NR);
		if (!pid) {
			arm(0);
			arm(nth);
			execve("/proc/self/exe", argv, envp);
			/* the errno is not always what one would like */
			check(disarm(), "exec failed without a reason: %s",
			      strerror(errno));
			slots[0] = 1;
			verify_most(p, 0, PAGES, ORIGIN);
			arm(0);
			execve("/proc/self/exe", argv, envp);
			fail("second try: %s", strerror(errno));
		}
		status = join_status(pid);
		check(WIFSIGNALED(status) ||
		      (WIFEXITED(status) && (!WEXITSTATUS(status) ||
					     WEXITSTATUS(status) == NO_START ||
					     WEXITSTATUS(status) == STILL_ARMED)),
		      "allocation %u: wait status %#x", nth, status);
		/* who was refused has read all, empty pages too, and so copied tables */
		check(event_delta(&before, EV_DETACH) +
		      (slots[0] ? event_delta(&before, EV_BREAK) : 0) >= (long)NR,
		      "allocation %u: the tables were not shared", nth);
		verify_most(p, 0, PAGES, ORIGIN);
		refused += slots[0];
		killed += WIFSIGNALED(status);
		if (WIFEXITED(status) && WEXITSTATUS(status) == STILL_ARMED)
			break;
		tried++;
	}
	note("%u of less than %u allocations failed: %u times exec did, %u processes were killed",
	     tried, nth, refused, killed);
	check(refused, "exec never failed");
	fill_most(p, ACTOR);
	unmap_blocks(p, NR);
}

static void one_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	check(!sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
}

/*
 * Who reaps a killed process has no memory.  The victim does not come to exit before
 * that: it may run on this CPU only, and the reaper does not give it away.
 */
static void starved_reap(void)
{
	struct sched_param fifo = { .sched_priority = 1 }, other = { 0 };
	char *p = map_blocks(NR);
	struct events before;
	int fd, ret;
	pid_t pid;

	needs_injection();
	one_cpu();
	fill_most(p, ORIGIN);
	steps_reset();
	pid = fork_sharing(NR);
	if (!pid) {
		arrive(READY);
		for (;;)
			pause();
	}
	await(READY, 1);
	starve_ready();
	all_fail(true);
	fd = syscall(SYS_pidfd_open, pid, 0);
	check(fd >= 0, "pidfd_open: %s", strerror(errno));
	/* pages in what the calls below use */
	syscall(SYS_process_mrelease, -1, 0);
	events_get(&before);
	if (sched_setscheduler(0, SCHED_FIFO, &fifo))
		note("SCHED_FIFO: %s", strerror(errno));
	starve(true);
	kill(pid, SIGKILL);
	ret = report(syscall(SYS_process_mrelease, fd, 0));
	starve(false);
	sched_setscheduler(0, SCHED_OTHER, &other);
	all_fail(false);
	if (ret == ENOSYS)
		skip_case("no process_mrelease");
	/* a kernel thread of that CPU may have let it run */
	check(!ret || ret == ESRCH, "process_mrelease: %s", strerror(ret));
	note("%s", ret ? "it was gone already" : "reaped");
	if (!ret)
		expect_events(&before, EV_DETACH, >=, (long)NR);
	close(fd);
	check(WIFSIGNALED(join_status(pid)), "not killed");
	verify_most(p, 0, PAGES, ORIGIN);
	fill_most(p, ACTOR);
	unmap_blocks(p, NR);
}

/*
 * Forks so that three processes share @p, one inside the other; returns which the
 * caller is, and its child.
 */
static unsigned int three_sharers(unsigned long blocks, pid_t *pid)
{
	unsigned int me;

	steps_reset();
	for (me = 0; me < 2; me++) {
		*pid = fork_sharing(blocks);
		if (*pid)
			break;
	}
	/* what barrier() uses, and the stack */
	barrier(READY, 3);
	return me;
}

static void three_leave(unsigned int me, pid_t pid)
{
	if (me < 2)
		join(pid);
	if (me)
		done();
}

/* Truncate takes pages from the tables of three sharers, private copies too. */
static void starved_truncate(void)
{
	enum { BLOCKS = 2, LEFT = 700 };
	struct events before;
	unsigned long i;
	unsigned int me;
	pid_t pid = 0;
	int fd, ret;
	char *p;

	needs_injection();
	fd = test_file_in("/dev/shm", BLOCKS * BLOCK_PAGES, FILE_DATA);
	if (fd < 0)
		skip_case("no file in /dev/shm");
	p = map_file_blocks(BLOCKS, fd);
	for (i = 0; i < BLOCKS * BLOCK_PAGES; i++)
		if (i % 2)
			fill(p, i, 1, ORIGIN);
		else
			read_pages(p, i, 1);
	me = three_sharers(BLOCKS, &pid);
	if (!me) {
		starve_ready();
		all_fail(true);
		events_get(&before);
		starve(true);
		ret = report(ftruncate(fd, LEFT * PAGE));
		starve(false);
		all_fail(false);
		check(!ret, "ftruncate: %s", strerror(ret));
		expect_events(&before, EV_INPLACE, >=, 1);
		expect_events(&before, EV_BREAK, ==, 0);
	}
	barrier(DID, 3);
	check(smaps_kb(0, p, "Rss") == LEFT * 4, "sharer %u: Rss %ld kB, not %d", me,
	      smaps_kb(0, p, "Rss"), LEFT * 4);
	for (i = 0; i < LEFT; i++)
		verify(p, i, 1, i % 2 ? ORIGIN : FILE_DATA);
	check(read_faults(AT(LEFT)) && read_faults(AT(LEFT + 1)) &&
	      read_faults(AT(BLOCKS * BLOCK_PAGES - 1)), "pages behind the end are there");
	barrier(GO, 3);
	fill(p, 0, 20, ACTOR + 8 + me);
	barrier(GO, 3);
	verify(p, 0, 20, ACTOR + 8 + me);
	three_leave(me, pid);
	unmap_blocks(p, BLOCKS);
	close(fd);
}

/*
 * Reclaim takes clean pages of a file from the tables of three sharers.  Not those
 * that go to swap: the compressed memory of this machine's swap must come from
 * somewhere.
 */
static void starved_reclaim(void)
{
	enum { BLOCKS = 2 };
	long start, now;
	char path[128];
	struct events before;
	unsigned int me, tries;
	unsigned long i;
	pid_t pid = 0;
	int fd, reclaim_fd, ret;
	char *p;

	needs_injection();
	cgroup_enter();
	cgroup_write("memory.swap.max", "0");
	fd = disk_file(BLOCKS * BLOCK_PAGES, FILE_DATA);
	fsync(fd);
	p = map_file_blocks(BLOCKS, fd);
	for (i = 0; i < BLOCKS; i++) {
		fill(p, i * BLOCK_PAGES, 16, ORIGIN);
		read_pages(p, i * BLOCK_PAGES, BLOCK_PAGES);
	}
	me = three_sharers(BLOCKS, &pid);
	if (!me) {
		snprintf(path, sizeof(path), "%s/memory.reclaim", cgroup);
		reclaim_fd = open(path, O_WRONLY);
		check(reclaim_fd >= 0, "%s: %s", path, strerror(errno));
		starve_ready();
		start = now = smaps_kb(0, p, "Rss");
		all_fail(true);
		events_get(&before);
		for (tries = 0; tries < 60 && now > start / 2; tries++) {
			/* a copy of what is written, and nothing else */
			check(!write_file("/sys/kernel/debug/failslab/space", "9"), "space");
			starve(true);
			ret = report(pwrite(reclaim_fd, "4M", 2, 0));
			starve(false);
			/* it got less than asked for */
			check(!ret || ret == EAGAIN, "memory.reclaim: %s", strerror(ret));
			now = smaps_kb(0, p, "Rss");
		}
		all_fail(false);
		write_file("/sys/kernel/debug/failslab/space", "0");
		close(reclaim_fd);
		check(now <= start / 2, "Rss is %ld kB, was %ld kB", now, start);
		expect_events(&before, EV_INPLACE, >=, 1);
		expect_events(&before, EV_BREAK, ==, 0);
		slots[0] = now;
	}
	barrier(DID, 3);
	check(smaps_kb(0, p, "Rss") == (long)slots[0], "sharer %u: Rss %ld kB, not %ld", me,
	      smaps_kb(0, p, "Rss"), (long)slots[0]);
	barrier(GO, 3);
	for (i = 0; i < BLOCKS; i++) {
		verify(p, i * BLOCK_PAGES, 16, ORIGIN);
		verify(p, i * BLOCK_PAGES + 16, BLOCK_PAGES - 16, FILE_DATA);
	}
	three_leave(me, pid);
	unmap_blocks(p, BLOCKS);
	close(fd);
}

/*
 * Migration needs memory for the pages, and so each allocation fails alone.  A page
 * stays where it is or moves, for all sharers, and no table is copied for that.
 */
static void nomem_migrate(void)
{
	enum { BLOCKS = 2, FEW = 8, MOVE_ALL = 4 };
	unsigned int me, nth, node = 0, left_behind = 0, failed = 0;
	static void *addr[BLOCKS * FEW];
	static int nodes[BLOCKS * FEW], status[BLOCKS * FEW];
	char *p = map_blocks(BLOCKS);
	struct events before;
	unsigned long i, n;
	pid_t pid = 0;
	bool hit;

	needs_injection();
	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node only");
	for (i = 0; i < BLOCKS; i++)
		fill(p, i * BLOCK_PAGES, FEW, ORIGIN);
	me = three_sharers(BLOCKS, &pid);
	/* the first time nothing fails: it pages in what the test itself uses */
	for (nth = 0, hit = true; !me && hit; nth++) {
		long ret;

		check(nth < MAX_NTH, "no end of failures");
		node = !node;
		for (n = 0; n < BLOCKS * FEW; n++) {
			addr[n] = AT(n / FEW * BLOCK_PAGES + n % FEW);
			nodes[n] = node;
			status[n] = -1;
		}
		events_get(&before);
		arm(0);
		arm(nth);
		ret = syscall(SYS_move_pages, 0, BLOCKS * FEW, addr, nodes, status,
			      MOVE_ALL);
		hit = disarm();
		failed += hit && nth;
		check(ret >= 0 || (errno == ENOMEM && hit), "move_pages: %s",
		      strerror(errno));
		/* what has not moved does so now */
		for (n = 0; n < BLOCKS * FEW; n++)
			left_behind += ret < 0 || status[n] != (int)node;
		/* A folio that moves with its first page is busy for the others. */
		for (i = 0; i < (large_folios ? 2 : 1); i++)
			check(syscall(SYS_move_pages, 0, BLOCKS * FEW, addr, nodes, status,
				      MOVE_ALL) >= 0, "second try: %s", strerror(errno));
		for (n = 0; n < BLOCKS * FEW; n++)
			check(status[n] == (int)node, "allocation %u: page %lu: %d", nth,
			      n, status[n]);
		expect_events(&before, EV_INPLACE, >=, 1);
		if (nth)
			expect_events(&before, EV_BREAK, ==, 0);
		for (i = 0; i < BLOCKS; i++)
			verify(p, i * BLOCK_PAGES, FEW, ORIGIN);
	}
	if (!me) {
		note("%u allocations failed, %u pages stayed behind", failed, left_behind);
		check(left_behind, "no page stayed behind");
	}
	barrier(DID, 3);
	check(smaps_kb(0, p, "Rss") == BLOCKS * FEW * 4, "sharer %u: Rss %ld kB", me,
	      smaps_kb(0, p, "Rss"));
	for (i = 0; i < BLOCKS; i++)
		verify(p, i * BLOCK_PAGES, FEW, ORIGIN);
	barrier(GO, 3);
	fill(p, 0, FEW, ACTOR + 8 + me);
	barrier(GO, 3);
	verify(p, 0, FEW, ACTOR + 8 + me);
	three_leave(me, pid);
	unmap_blocks(p, BLOCKS);
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

/* A scan that has nothing to report and needs a table: without memory it fails. */
static void scan_nothing(struct scan_arg *scan)
{
	unsigned int nth = 0;
	long pages;
	bool hit;

	do {
		arm(0);
		arm(++nth);
		pages = scan_pages(scan, SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC, NULL);
		hit = disarm();
		check(pages >= 0 || (errno == ENOMEM && hit), "allocation %u of the rest: %s",
		      nth, strerror(errno));
	} while (pages < 0);
	check(nth > 1, "the rest of the scan needed no memory");
	check(scan->walk_end == scan->end, "the rest of the scan ended early");
}

/*
 * Reset what is known of written pages in a private block, and of the pages of a
 * shared block behind it that the mapping has grown into.  @nth fails: then the call
 * may end before the second block, and says what it has reset.  Returns 0 if there was
 * no such allocation, 1, or 2 if the call ended early.
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
		check(scan_pages(&scan, 0, AT(BLOCK_PAGES)) == BLOCK_PAGES,
		      "allocation %u: reset, and the caller was not told", nth);
		pages = scan_pages(&scan, SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
				   AT(BLOCK_PAGES));
		ret = 2;
	} else if (scan.walk_end != scan.end) {
		check(ret && scan.walk_end == (uintptr_t)AT(BLOCK_PAGES),
		      "allocation %u: the scan ended at page %lu", nth,
		      (unsigned long)(scan.walk_end - scan.start) / PAGE);
		scan.start = scan.walk_end;
		scan_nothing(&scan);
		scan.start = (uintptr_t)p;
		ret = 2;
	}
	check(pages == BLOCK_PAGES, "allocation %u: %ld pages", nth, pages);
	check(scan_pages(&scan, 0, AT(BLOCK_PAGES)) == 0, "not reset");
	arrive(GO);
	join(pid);
	close(fd);
	unmap_blocks(p, 2);
	return ret;
}

/* @once returns as scan_once() does. */
static void until_none(int (*once)(unsigned int nth))
{
	unsigned int nth = 0, reported = 0;
	int ret;

	needs_injection();
	do {
		check(++nth < MAX_NTH, "no end of failures");
		ret = once(nth);
		reported += ret == 2;
	} while (ret);
	note("%u allocations failed, %u times the call did", nth - 1, reported);
	check(reported, "no failure was reported");
}

static void nomem_scan(void)
{
	until_none(scan_once);
}

#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};
#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFDIO_CONTINUE
struct uffdio_continue {
	struct uffdio_range range;
	__u64 mode;
	__s64 mapped;
};
#define UFFDIO_CONTINUE		_IOWR(UFFDIO, 0x07, struct uffdio_continue)
#define UFFDIO_REGISTER_MODE_MINOR	((__u64)1 << 2)
#endif
#ifndef UFFD_FEATURE_MINOR_SHMEM
#define UFFD_FEATURE_MINOR_SHMEM	(1 << 10)
#endif
#define PM_UFFD_WP		(1ULL << 57)

/*
 * A call of userfaultfd on a mapping that has grown into a block that is shared: the
 * first block is armed and private, page GROWN is the fourth of the shared one.
 */
#define GROWN		(BLOCK_PAGES + 3)
#define MOVED		5UL

struct grown {
	int (*run)(int fd, char *p);
	void (*intact)(char *p);
	void (*after)(char *p);
	bool file;	/* of memory, for minor faults */
};

static void grown_empty(char *p)
{
	check(!(pagemap(0, AT(GROWN)) & (PM_PRESENT | PM_SWAP)), "there is a page");
	verify(p, 0, BLOCK_PAGES, ORIGIN);
}

static int grown_copy(int fd, char *p)
{
	static char page[PAGE];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)AT(GROWN), .src = (uintptr_t)page, .len = PAGE,
	};

	pattern_page(page, GROWN, ACTOR);
	return report(ioctl(fd, UFFDIO_COPY, &copy));
}

static void after_grown_copy(char *p)
{
	verify(p, GROWN, 1, ACTOR);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
}

static int grown_protect(int fd, char *p)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)p, BLOCK + 64 * PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return report(ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
}

static void grown_protected(char *p, bool expected)
{
	unsigned long i;

	for (i = 0; i < BLOCK_PAGES; i += 37)
		check(!!(pagemap(0, AT(i)) & PM_UFFD_WP) == expected,
		      "page %lu is %sprotected", i, expected ? "not " : "");
	verify(p, 0, BLOCK_PAGES, ORIGIN);
}

static void grown_not_protected(char *p)
{
	grown_protected(p, false);
}

static void after_grown_protect(char *p)
{
	grown_protected(p, true);
}

static int grown_move(int fd, char *p)
{
	struct uffdio_move move = {
		.dst = (uintptr_t)AT(GROWN), .src = (uintptr_t)AT(MOVED), .len = PAGE,
	};
	int err = report(ioctl(fd, UFFDIO_MOVE, &move));

	if (err == EINVAL)
		skip_case("no UFFDIO_MOVE");
	return err;
}

static void after_grown_move(char *p)
{
	check(page_is(AT(GROWN), MOVED, ORIGIN), "the page has not moved");
	check(!(pagemap(0, AT(MOVED)) & (PM_PRESENT | PM_SWAP)), "the page is still there");
	verify(p, 0, MOVED, ORIGIN);
	verify(p, MOVED + 1, BLOCK_PAGES - MOVED - 1, ORIGIN);
}

static int grown_zero(int fd, char *p)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)AT(GROWN), PAGE } };

	return report(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
}

static void after_grown_zero(char *p)
{
	check(pagemap(0, AT(GROWN)) & PM_PRESENT, "there is no page");
	verify(p, GROWN, 1, OWNER_ZERO);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
}

/* A page that the file has, and this process has not yet. */
static int grown_file(void)
{
	char page[PAGE];
	int fd = memfd_create("cow_pte", 0);

	pattern_page(page, GROWN, FILE_DATA);
	check(fd >= 0 && !ftruncate(fd, 2 * BLOCK) &&
	      pwrite(fd, page, PAGE, GROWN * PAGE) == (ssize_t)PAGE, "memfd: %s",
	      strerror(errno));
	return fd;
}

static int grown_continue(int fd, char *p)
{
	struct uffdio_continue cont = { .range = { (uintptr_t)AT(GROWN), PAGE } };

	return report(ioctl(fd, UFFDIO_CONTINUE, &cont));
}

static void after_grown_continue(char *p)
{
	check(pagemap(0, AT(GROWN)) & PM_PRESENT, "there is no page");
	verify(p, GROWN, 1, FILE_DATA);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
}

static int grown_once(unsigned int nth, const struct grown *g)
{
	const unsigned long rest = BLOCK_PAGES + BLOCK_PAGES / 2;
	int file = g->file ? grown_file() : -1;
	char *p = g->file ? map_file_blocks(2, file) : map_blocks(2);
	struct uffdio_api api = {
		.api = UFFD_API, .features = g->file ? UFFD_FEATURE_MINOR_SHMEM : 0,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, BLOCK },
		.mode = g->file ? UFFDIO_REGISTER_MODE_MINOR :
				  UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), ret, err;
	long breaks;
	pid_t pid;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		skip_case("userfaultfd: %s", strerror(errno));
	steps_reset();
	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	check(!munmap(AT(BLOCK_PAGES), BLOCK / 2), "munmap");
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		skip_case("UFFDIO_REGISTER: %s", strerror(errno));
	pid = fork_sharing(1);
	if (!pid) {
		await(GO, 1);
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		verify(p, rest, BLOCK_PAGES / 2, ORIGIN);
		done();
	}
	check(mremap(p, BLOCK, BLOCK + 64 * PAGE, 0) == p, "mremap: %s",
	      strerror(errno));
	/* a page of this process alone, as UFFDIO_MOVE wants it */
	fill(p, MOVED, 1, ORIGIN);
	g->intact(p);
	breaks = own_breaks();
	arm(0);
	arm(nth);
	err = g->run(fd, p);
	ret = disarm();
	if (err) {
		check(err == ENOMEM && ret, "allocation %u: %s", nth, strerror(err));
		ret = 2;
		g->intact(p);
		err = g->run(fd, p);
		check(!err, "second try: %s", strerror(err));
	}
	/* the block was shared up to here */
	expect_own_breaks(breaks, 1);
	g->after(p);
	verify(p, rest, BLOCK_PAGES / 2, ORIGIN);
	arrive(GO);
	join(pid);
	close(fd);
	if (g->file)
		close(file);
	unmap_blocks(p, 2);
	return ret;
}

#define GROWN_CASE(name, intact, after, file)				\
	static int name##_once(unsigned int nth)			\
	{								\
		static const struct grown g = {				\
			name, intact, after, file			\
		};							\
									\
		return grown_once(nth, &g);				\
	}								\
									\
	static void nomem_##name(void)					\
	{								\
		until_none(name##_once);				\
	}

GROWN_CASE(grown_copy, grown_empty, after_grown_copy, false)
GROWN_CASE(grown_protect, grown_not_protected, after_grown_protect, false)
GROWN_CASE(grown_move, grown_empty, after_grown_move, false)
GROWN_CASE(grown_zero, grown_empty, after_grown_zero, false)
GROWN_CASE(grown_continue, grown_empty, after_grown_continue, true)

/* The pages of a packet ring are inserted where a shared block has a hole. */
#define RING_AT		112UL	/* neighbours may come in sixteens */
#define RING_PAGES	16UL

/* How often mmap() failed and left what was mapped before. */
static unsigned int packet_kept;

/* With @over there is a mapping, whose pages were never touched. */
static int packet_insert(unsigned int nth, bool over)
{
	struct tpacket_req req = {
		.tp_block_size = 4 * PAGE, .tp_block_nr = RING_PAGES / 4,
		.tp_frame_size = 2048, .tp_frame_nr = RING_PAGES * 2,
	};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), ret;
	char *p = map_blocks(1), *at = AT(RING_AT), *ring;
	unsigned char in_core[RING_PAGES];
	pid_t pid;

	if (fd < 0)
		skip_case("AF_PACKET: %s", strerror(errno));
	check(!setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)),
	      "PACKET_RX_RING: %s", strerror(errno));
	steps_reset();
	fill(p, 0, RING_AT, ORIGIN);
	fill(p, RING_AT + RING_PAGES, BLOCK_PAGES - RING_AT - RING_PAGES, ORIGIN);
	check(over || !munmap(at, RING_PAGES * PAGE), "munmap");
	pid = fork_sharing(1);
	if (!pid) {
		await(GO, 1);
		if (over)
			verify(p, RING_AT, RING_PAGES, OWNER_ZERO);
		else
			check(read_faults(at), "the ring is mapped here too");
		verify(p, 0, RING_AT, ORIGIN);
		verify(p, RING_AT + RING_PAGES, BLOCK_PAGES - RING_AT - RING_PAGES, ORIGIN);
		done();
	}
	arm(0);
	arm(nth);
	ring = mmap(at, RING_PAGES * PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED, fd, 0);
	ret = disarm();
	if (ring == MAP_FAILED) {
		check(errno == ENOMEM && ret, "allocation %u: %s", nth, strerror(errno));
		ret = 2;
		if (over)
			packet_kept += !mincore(at, RING_PAGES * PAGE, in_core);
		else
			check(read_faults(at), "something is mapped");
		verify(p, 0, RING_AT, ORIGIN);
		ring = mmap(at, RING_PAGES * PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, fd, 0);
	}
	check(ring == at, "mmap: %s", strerror(errno));
	check(((volatile struct tpacket_hdr *)at)->tp_status == TP_STATUS_KERNEL,
	      "the ring is not there");
	verify(p, 0, RING_AT, ORIGIN);
	verify(p, RING_AT + RING_PAGES, BLOCK_PAGES - RING_AT - RING_PAGES, ORIGIN);
	arrive(GO);
	join(pid);
	close(fd);
	unmap_blocks(p, 1);
	return ret;
}

static int packet_once(unsigned int nth)
{
	return packet_insert(nth, false);
}

static void nomem_packet(void)
{
	until_none(packet_once);
}

/*
 * The table must be there before the old mapping goes.  Only pages fail: without a VMA
 * mmap() fails later, and leaves a hole, in any case.  So it does where the page is for
 * a new slab of them; but the page of the table is one of those that fail.
 */
static int packet_over_once(unsigned int nth)
{
	if (write_file(SLAB_FILTER, "Y"))
		skip_case("no " SLAB_FILTER);
	return packet_insert(nth, true);
}

static void nomem_packet_over(void)
{
	packet_kept = 0;
	until_none(packet_over_once);
	write_file(SLAB_FILTER, "N");
	check(packet_kept, "mmap() failed, and what was mapped is gone");
}

/*
 * A mapping that grows down, armed, has grown into a shared block and got no table of
 * its own there.  Closing the userfaultfd cannot fail: it goes on to the pages above.
 */
#define STACK		(BLOCK_PAGES)
#define STACK_PAGES	16UL
#define BELOW		200UL

static void stack_close_once(unsigned int nth)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), pipes[2];
	struct uffdio_writeprotect protect = {
		.range.len = STACK_PAGES * PAGE, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct uffdio_register reg = {
		.range.len = STACK_PAGES * PAGE, .mode = UFFDIO_REGISTER_MODE_WP,
	};
	unsigned int try;
	unsigned long i;
	long breaks;
	pid_t pid;
	char *p;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		skip_case("userfaultfd: %s", strerror(errno));
	if (write_file(SLAB_FILTER, "Y"))
		skip_case("no " SLAB_FILTER);
	steps_reset();
	p = map_blocks(2);
	check(!munmap(AT(BELOW), (2 * BLOCK_PAGES - BELOW) * PAGE), "munmap");
	check(mmap(AT(STACK), STACK_PAGES * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0) ==
	      AT(STACK), "MAP_GROWSDOWN: %s", strerror(errno));
	fill(p, 0, BELOW, ORIGIN);
	fill(p, STACK, STACK_PAGES, ORIGIN);
	protect.range.start = reg.range.start = (uintptr_t)AT(STACK);
	check(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s", strerror(errno));
	check(!ioctl(fd, UFFDIO_WRITEPROTECT, &protect), "UFFDIO_WRITEPROTECT: %s",
	      strerror(errno));
	check(!pipe(pipes), "pipe: %s", strerror(errno));
	pid = fork_sharing(1);
	if (!pid) {
		close(fd);
		arrive(READY);
		await(GO, 1);
		verify(p, 0, BELOW, ORIGIN);
		verify(p, STACK, STACK_PAGES, ORIGIN);
		done();
	}
	await(READY, 1);
	breaks = own_breaks();
	/* The kernel reads the page below, and has no memory for the table. */
	for (try = 1; try < MAX_NTH; try++) {
		ssize_t n;

		arm(try);
		n = write(pipes[1], AT(STACK - 1), 1);
		disarm();
		check(n < 0, "the mapping has grown, and has a page there");
		if (errno == EFAULT)
			break;
	}
	check(pagemap(0, AT(STACK)) & PM_UFFD_WP, "the page is not protected");
	expect_own_breaks(breaks, 0);
	arm(nth);
	close(fd);
	disarm();
	for (i = STACK; i < STACK + STACK_PAGES; i++)
		check(!(pagemap(0, AT(i)) & PM_UFFD_WP),
		      "page %lu is protected by a userfaultfd that is closed", i - STACK);
	/* below the pages it has grown */
	check(smaps_kb(0, AT(STACK), "Size") > (long)(STACK_PAGES * PAGE / 1024),
	      "the mapping has not grown");
	fill(p, STACK, STACK_PAGES, ACTOR);
	fill(p, 0, BELOW, ACTOR);
	arrive(GO);
	join(pid);
	close(pipes[0]);
	close(pipes[1]);
	verify(p, 0, BELOW, ACTOR);
	verify(p, STACK, STACK_PAGES, ACTOR);
	munmap(p, 2 * BLOCK);
}

static void nomem_stack_close(void)
{
	unsigned int nth;

	needs_injection();
	for (nth = 1; nth < 4; nth++)
		stack_close_once(nth);
	write_file(SLAB_FILTER, "N");
}

/*
 * Have pages in swap; true if all of them went.  Another CPU would keep what was
 * faulted in there from the lists of reclaim for a while, so see one_cpu().
 */
static bool swap_pages(char *p, unsigned long first, unsigned long nr)
{
	unsigned long i, swapped = 0;
	int tries;

	for (tries = 0; tries < 10 && swapped < nr; tries++) {
		check(!madvise(AT(first), nr * PAGE, MADV_PAGEOUT), "MADV_PAGEOUT: %s",
		      strerror(errno));
		for (i = first, swapped = 0; i < first + nr; i++)
			swapped += !!(pagemap(0, AT(i)) & PM_SWAP);
	}
	return swapped == nr;
}

/*
 * swapoff under each failure: ENOMEM is an answer, and then both sharers have what
 * they had, in memory or in swap, and the second try succeeds.
 */
static int swapoff_once(unsigned int nth)
{
	enum { BLOCKS = 2, FEW = 3 };
	const long size = BLOCKS * FEW * PAGE / 1024;
	char *p = map_blocks(BLOCKS), device[64];
	struct events before;
	pid_t pid;
	long b;
	int ret;

	if (!have_swap())
		skip_case("no swap");
	one_cpu();
	strcpy(device, swap_device());
	steps_reset();
	for (b = 0; b < BLOCKS; b++) {
		fill(p, b * BLOCK_PAGES, FEW, ORIGIN);
		if (!swap_pages(p, b * BLOCK_PAGES, FEW))
			skip_case("the pages do not go to swap");
	}
	pid = fork_sharing(BLOCKS);
	if (!pid) {
		arrive(READY);
		await(GO, 1);
		for (b = 0; b < BLOCKS; b++)
			verify(p, b * BLOCK_PAGES, FEW, ORIGIN);
		done();
	}
	await(READY, 1);
	events_get(&before);
	arm(0);
	arm(nth);
	ret = report(swapoff(device));
	b = disarm();
	if (ret) {
		check(ret == ENOMEM && b, "allocation %u: %s", nth, strerror(ret));
		b = 2;
		check(smaps_kb(0, p, "Rss") + smaps_kb(0, p, "Swap") == size &&
		      smaps_kb(pid, p, "Rss") + smaps_kb(pid, p, "Swap") == size,
		      "allocation %u: Rss %ld and %ld, Swap %ld and %ld kB", nth,
		      smaps_kb(0, p, "Rss"), smaps_kb(pid, p, "Rss"),
		      smaps_kb(0, p, "Swap"), smaps_kb(pid, p, "Swap"));
		ret = report(swapoff(device));
		check(!ret, "allocation %u, second try: %s", nth, strerror(ret));
	}
	check(smaps_kb(0, p, "Rss") == size && smaps_kb(pid, p, "Rss") == size,
	      "allocation %u: Rss %ld and %ld kB", nth, smaps_kb(0, p, "Rss"),
	      smaps_kb(pid, p, "Rss"));
	expect_events(&before, EV_BREAK, >=, BLOCKS);
	check(!swapon(device, 0), "swapon: %s", strerror(errno));
	ret = b;
	arrive(GO);
	join(pid);
	for (b = 0; b < BLOCKS; b++)
		verify(p, b * BLOCK_PAGES, FEW, ORIGIN);
	unmap_blocks(p, BLOCKS);
	return ret;
}

static void nomem_swapoff(void)
{
	until_none(swapoff_once);
}

/*
 * A swap entry counts to 62 in a byte; for more the kernel allocates a continuation,
 * while it copies a table and holds locks.  If that fails, the copy is undone, memory
 * for the continuation is allocated without the locks, and the copy begins again.
 *
 * So many sharers copy a table, one after the other, which has pages in memory, then
 * pages in swap that the first sharers drop and which count less, and then those whose
 * count will be full halfway through a copy.
 */
enum {
	SHARERS = 70, DROPPERS = 20, FULL = 0x3e,
	LESS = 80, MANY = LESS + 8, END = MANY + 8, WRITTEN = 300,
};

#define PAGE_INJECTOR	"/sys/kernel/debug/fail_page_alloc/"
#define MANY_TIMES	1000

/* @space - 1 pages can be allocated by a starved task, then none. */
static void pages_fail(unsigned int space)
{
	check(!write_file(PAGE_INJECTOR "space", "%u", space) &&
	      !write_file(PAGE_INJECTOR "times", "%u", MANY_TIMES), "fail_page_alloc");
}

static unsigned int pages_failed(void)
{
	return MANY_TIMES - read_long(PAGE_INJECTOR "times");
}

static void entries_of(char *p, uint64_t *entries)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);

	check(fd >= 0, "pagemap");
	check(pread(fd, entries, BLOCK_PAGES * sizeof(*entries),
		    (uintptr_t)p / PAGE * sizeof(*entries)) ==
	      (ssize_t)(BLOCK_PAGES * sizeof(*entries)), "pagemap");
	close(fd);
}

/* mprotect() of a page with ever more memory, until it succeeds. */
static unsigned int protect_with_few(char *p)
{
	static uint64_t old[BLOCK_PAGES], now[BLOCK_PAGES];
	static uint16_t old_layout[PAGES], now_layout[PAGES];
	unsigned int space, most = 0;
	int ret = ENOMEM;

	entries_of(p, old);
	layout(p, old_layout);
	for (space = 1; ret; space++) {
		long breaks = own_breaks();
		unsigned int failed;

		check(space < 50, "it never succeeds");
		pages_fail(space);
		starve(true);
		ret = report(mprotect(AT(WRITTEN), PAGE, PROT_READ));
		starve(false);
		failed = pages_failed();
		if (!ret)
			break;
		check(ret == ENOMEM && failed, "mprotect: %s", strerror(ret));
		/* a table that is copied already is no change, the split may still fail */
		if (own_breaks() == breaks && failed > most)
			most = failed;
		entries_of(p, now);
		check(!memcmp(old, now, sizeof(old)), "mprotect failed, the entries changed");
		layout(p, now_layout);
		check(!memcmp(old_layout, now_layout, BLOCK_PAGES * sizeof(*old_layout)),
		      "mprotect failed, the mappings changed");
	}
	check(write_faults(AT(WRITTEN)), "mprotect did nothing");
	return most;
}

static void continuation(bool fails)
{
	char *p = map_blocks(1);
	pid_t pid[SHARERS], swapper;
	unsigned int i;
	int all_there[2];
	char c;

	needs_injection();
	if (!have_swap())
		skip_case("no swap");
	one_cpu();
	fill(p, 0, END, ORIGIN);
	fill(p, WRITTEN, 2, ORIGIN);
	if (!swap_pages(p, LESS, END - LESS))
		skip_case("the pages do not go to swap");
	steps_reset();
	slots[0] = 0;
	/* so many in await() keep a small machine busy */
	check(!pipe(all_there), "pipe");
	/* slab objects do not fail, and pages only for who is starved */
	check(!write_file(PAGE_INJECTOR "ignore-gfp-wait", fails ? "N" : "Y") &&
	      !write_file(PAGE_INJECTOR "task-filter", "Y") &&
	      !write_file(PAGE_INJECTOR "times", "0") &&
	      !write_file(PAGE_INJECTOR "probability", "100"), "fail_page_alloc");
	for (i = 0; i < SHARERS; i++) {
		/* the shared table counts, and the copies of those before */
		const bool full = 1 + i == FULL;

		pid[i] = fork_sharing(1);
		if (!pid[i]) {
			long breaks;

			starve_ready();
			breaks = own_breaks();
			if (full && fails) {
				slots[0] = protect_with_few(p);
			} else {
				if (full) {
					pages_fail(0);
					starve(true);
				}
				*(volatile char *)AT(WRITTEN + 1) = 1;
				if (full) {
					starve(false);
					slots[0] = pages_failed();
				}
				fill(p, WRITTEN, 2, ACTOR);
			}
			check(own_breaks() > breaks, "the table was not copied");
			if (i < DROPPERS)
				check(!madvise(AT(LESS), (MANY - LESS) * PAGE,
					       MADV_DONTNEED), "MADV_DONTNEED");
			close(all_there[1]);
			arrive(READY);
			check(!read(all_there[0], &c, 1), "pipe: %s", strerror(errno));
			verify(p, 0, LESS, ORIGIN);
			verify(p, LESS, MANY - LESS, i < DROPPERS ? OWNER_ZERO : ORIGIN);
			verify(p, MANY, END - MANY, ORIGIN);
			verify(p, WRITTEN, 2, full && fails ? ORIGIN : ACTOR);
			done();
		}
		await(READY, i + 1);
	}
	write_file(PAGE_INJECTOR "probability", "0");
	write_file(PAGE_INJECTOR "task-filter", "N");
	write_file(PAGE_INJECTOR "ignore-gfp-wait", "N");
	note("%ld allocations failed", (long)slots[0]);
	/* of one call: for the table, or at once and again without the locks */
	check(slots[0] >= (fails ? 2 : 1), "no continuation was needed");
	close(all_there[1]);
	for (i = 0; i < SHARERS; i++)
		join(pid[i]);
	verify(p, 0, END, ORIGIN);
	verify(p, WRITTEN, 2, ORIGIN);
	unmap_blocks(p, 1);
	/* while an entry counts for somebody who is not there, swapoff does not end */
	swapper = xfork();
	if (!swapper) {
		signal(SIGALRM, SIG_DFL);
		alarm(60);
		check(!cycle_swap(), "swapoff");
		done();
	}
	i = join_status(swapper);
	check(!WIFSIGNALED(i), "swap entries are lost");
	check(WIFEXITED(i) && !WEXITSTATUS(i), "swapoff: wait status %#x", i);
}

static void continuation_undone(void)
{
	continuation(false);
}

static void continuation_fails(void)
{
	continuation(true);
}

/*
 * No memory, as a cgroup has none that may not use a page more than it does.  A sharer
 * is alone in it, and an operation of its own needs a table: when the kernel may not
 * kill it, the operation fails, with nothing changed, and succeeds when the limit is
 * lifted; when it may, it is the one that dies.  The other sharers do not notice.
 */
static long full_event(const char *name)
{
	char path[128], line[64];
	long v = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.events.local", cgroup);
	f = fopen(path, "r");
	check(f, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ' ')
			v = atol(line + strlen(name));
	fclose(f);
	return v;
}

/* As in reclaim.c: without the pages that the CPUs hold in reserve for the cgroup. */
static void fill_group(void)
{
	char path[160], value[32];

	cgroup_write("memory.max", "max");
	cgroup_write("memory.swap.max", "0");
	/* it is reclaim that gives back the reserve */
	cgroup_write("memory.high", "0");
	snprintf(path, sizeof(path), "%s/memory.current", cgroup);
	snprintf(value, sizeof(value), "%ld", read_long(path));
	check(!cgroup_write("memory.max", value), "memory.max");
	cgroup_write("memory.high", "max");
}

#define SURVIVED	3

static void full_sharer(const struct op *op, char *p, bool may_die)
{
	static uint16_t old[PAGES], now[PAGES];
	long breaks, tables;
	int err;

	check(may_die || !write_file("/proc/self/oom_score_adj", "-1000"),
	      "oom_score_adj: %s", strerror(errno));
	if (op->before)
		op->before(p);
	/* page in what the test itself uses */
	layout(p, old);
	layout(p, now);
	breaks = own_breaks();
	tables = own_tables();
	check(tables >= (long)NR, "%ld shared tables", tables);
	/* last: it brings along nothing that could be reclaimed, such as inodes of /proc */
	check(!cgroup_write("cgroup.procs", "0"), "cgroup.procs");
	arrive(READY);
	await(GO, 1);
	err = op->run(p);
	if (may_die)
		_exit(err ? SURVIVED : 0);
	slots[0] = err;
	arrive(DID);
	/* the limit is lifted */
	await(GO, 2);
	check(err == ENOMEM || (err && err == op->also), "it had memory: %s",
	      strerror(err));
	expect_own_breaks(breaks, 0);
	check(own_tables() == tables, "%ld shared tables, were %ld", own_tables(), tables);
	unchanged(op, p, old, now, 0, err);
	err = op->run(p);
	check(!err, "second try: %s", strerror(err));
	op->after(p);
	done();
}

static void in_full_group(const struct op *op)
{
	unsigned int round, killed = 0;
	struct events before;
	char *p;

	if (plain || !feature_present())
		skip_case("no tables are shared");
	cgroup_enter();
	/* the kernel's own, at the first OOM kill, without sharing as well */
	allow_tables(8);
	cgroup_make("cow_pte_full");
	p = op->map ? op->map() : map_blocks(NR);
	fill_most(p, ORIGIN);
	for (round = 0; round < 2; round++) {
		bool may_die = round;
		long kill, max;
		int status;
		pid_t pid;

		steps_reset();
		cgroup_write("memory.max", "max");
		pid = fork_sharing(NR);
		if (!pid)
			full_sharer(op, p, may_die);
		await(READY, 1);
		fill_group();
		kill = full_event("oom_kill");
		max = full_event("max");
		arrive(GO);
		if (may_die) {
			status = join_status(pid);
			check((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
			      (WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED),
			      "wait status %#x", status);
			killed = WIFSIGNALED(status);
		} else {
			await(DID, 1);
		}
		kill = full_event("oom_kill") - kill;
		max = full_event("max") - max;
		cgroup_write("memory.max", "max");
		check(kill == killed, "the cgroup killed %ld", kill);
		check(max > 0, "the cgroup was not full");
		note("%ld times at the limit: %s", max, may_die ?
		     (killed ? "killed" : "survived") : strerror(slots[0]));
		if (!may_die) {
			arrive(GO);
			join(pid);
		}
		events_get(&before);
		verify_most(p, 0, PAGES, ORIGIN);
		fill_most(p, ORIGIN);
		/* nobody else has them any more */
		expect_events(&before, EV_REUSE, >=, (long)NR);
	}
	if (op->unmap)
		op->unmap(p);
	else
		unmap_blocks(p, NR);
}

#define FULL_CASE(name, ...)						\
	static void full_##name(void)					\
	{								\
		static const struct op op = {				\
			.run = do_##name, .after = after_##name,	\
			__VA_ARGS__					\
		};							\
									\
		in_full_group(&op);					\
	}

/* Opens it while there is memory. */
static void before_full_uffd(char *p)
{
	struct uffdio_api api = { .api = UFFD_API };

	(void)p;
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		skip_case("userfaultfd: %s", strerror(errno));
}

#define do_full_uffd		do_uffd
#define after_full_uffd		after_uffd

FULL_CASE(map_over, .at = 100, .gap = BLOCK_PAGES)
FULL_CASE(brk, .map = map_brk, .unmap = unmap_brk)
FULL_CASE(full_uffd, .before = before_full_uffd)
FULL_CASE(direct, .before = before_direct)
FULL_CASE(pipe_read, .before = before_pipe_read, .also = EFAULT)

static const struct cow_case cases[] = {
	{ "fork", nomem_fork },
	{ "fork beside another child", nomem_second_fork },
	{ "fork that fails while another thread unmaps", nomem_fork_unmap },
	{ "write fault", nomem_write },
	{ "fault of an empty page", nomem_read_hole },
	{ "mprotect", nomem_protect },
	{ "munmap", nomem_unmap },
	{ "mmap over a part", nomem_map_over },
	{ "mmap over a part without a table", nomem_map_over_whole },
	{ "MADV_DONTNEED", nomem_drop },
	{ "MADV_FREE", nomem_free },
	{ "MADV_DONTNEED of several mappings", nomem_drop_several },
	{ "MADV_FREE of several mappings", nomem_free_several },
	{ "mremap", nomem_move },
	{ "mremap of a block", nomem_move_block },
	{ "mremap beside what was touched", nomem_move_beside },
	{ "mremap to what is shorter", nomem_move_shorter },
	{ "MREMAP_DONTUNMAP", nomem_move_pages },
	{ "mlock", nomem_lock },
	{ "mlockall", nomem_lock_all },
	{ "process_vm_writev", nomem_vm_write },
	{ "/proc/self/mem", nomem_mem_write },
	{ "vmsplice", nomem_vmsplice },
	{ "O_DIRECT read", nomem_direct },
	{ "read of a pipe", nomem_pipe_read },
	{ "io_uring buffers", nomem_ring },
	{ "ptrace", nomem_poke },
	{ "userfaultfd", nomem_uffd },
	{ "UFFDIO_COPY where a mapping grew", nomem_grown_copy },
	{ "UFFDIO_WRITEPROTECT where a mapping grew", nomem_grown_protect },
	{ "UFFDIO_MOVE where a mapping grew", nomem_grown_move },
	{ "UFFDIO_ZEROPAGE where a mapping grew", nomem_grown_zero },
	{ "UFFDIO_CONTINUE where a mapping grew", nomem_grown_continue },
	{ "pkey_mprotect", nomem_pkey },
	{ "brk", nomem_brk },
	{ "clear_refs", nomem_clear_refs },
	{ "MADV_COLLAPSE", nomem_collapse },
	{ "process_madvise", nomem_collapse_other },
	{ "MADV_POPULATE_WRITE", nomem_populate },
	{ "AF_PACKET ring into a hole", nomem_packet },
	{ "AF_PACKET ring over a mapping", nomem_packet_over },
	{ "userfaultfd of a stack is closed", nomem_stack_close },
	{ "mmu notifier", nomem_notifier },
	{ "PAGEMAP_SCAN", nomem_scan },
	{ "swapoff", nomem_swapoff },
	{ "swap count continuation", continuation_undone },
	{ "no memory for a swap count continuation", continuation_fails },
	{ "move_pages", nomem_migrate },
	{ "exec", nomem_exec },
	{ "exit needs no memory", starved_exit },
	{ "munmap of blocks needs no memory", starved_unmap },
	{ "MADV_DONTNEED of blocks needs no memory", starved_drop },
	{ "process_mrelease needs no memory", starved_reap },
	{ "truncate needs no memory", starved_truncate },
	{ "reclaim needs no memory", starved_reclaim },
	{ "a full cgroup: mmap over a part", full_map_over },
	{ "a full cgroup: brk", full_brk },
	{ "a full cgroup: userfaultfd", full_full_uffd },
	{ "a full cgroup: O_DIRECT read", full_direct },
	{ "a full cgroup: read of a pipe", full_pipe_read },
};

int main(int argc, char **argv)
{
	/* what nomem_exec() runs */
	if (argc == 2 && !strcmp(argv[1], "--say-if-armed"))
		return say_if_armed();
	without_rseq(argv);
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
