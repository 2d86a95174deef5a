// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own ways to user pages while page tables are shared: whoever takes
 * a reference to a page gets the page of the process it asked for, and nobody
 * else's writes appear in it, nor its writes elsewhere.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, ACTOR, OTHER, FILE_DATA, CHILD, THIRD };
enum { READY, DID, WROTE, LEAVE, LAST };

#define NR	2UL
/* pages written in each block */
#define FEW	64UL
#define AT(n)	(p + (n) * PAGE)
/* a page of the second block */
#define SECOND	(BLOCK_PAGES + 8)

static char *setup(void)
{
	char *p = map_blocks(NR);

	fill(p, 0, FEW, ORIGIN);
	fill(p, BLOCK_PAGES, FEW, ORIGIN);
	steps_reset();
	return p;
}

static void verify_origin(char *p)
{
	verify(p, 0, FEW, ORIGIN);
	verify(p, BLOCK_PAGES, FEW, ORIGIN);
}

/* The grandchild looks after each step, and writes last. */
static void third_side(char *p)
{
	arrive(READY);
	await(DID, 1);
	verify_origin(p);
	await(WROTE, 1);
	verify_origin(p);
	check(plain || own_tables() >= (long)NR, "%ld tables are shared", own_tables());
	fill(p, 0, FEW, THIRD);
	fill(p, BLOCK_PAGES, FEW, THIRD);
	verify(p, 0, FEW, THIRD);
	verify(p, BLOCK_PAGES, FEW, THIRD);
	arrive(LAST);
	done();
}

static void verify_other(char *p)
{
	verify(p, 0, FEW, OTHER);
	verify(p, BLOCK_PAGES, FEW, OTHER);
}

/*
 * One side runs @act, which must break both tables and no other; two sharers see
 * nothing of it and write their own pages; then @view checks the actor's memory.
 */
static void both_sides(void (*act)(char *p), void (*view)(char *p))
{
	unsigned int round;

	for (round = 0; round < rounds(8); round++) {
		char *p = setup();
		pid_t pid, third = 0;
		long before;

		pid = fork_sharing(NR);
		if (!pid) {
			third = fork_sharing(NR);
			if (!third)
				third_side(p);
		}
		await(READY, 1);
		check(plain || own_tables() >= (long)NR, "%ld tables are shared",
		      own_tables());
		if ((pid == 0) == round % 2) {
			/* errno is in a table that is shared too, and is not meant */
			errno = 0;
			before = own_breaks();
			act(p);
			expect_own_breaks(before, (long)NR);
			view(p);
			arrive(DID);
			await(WROTE, 1);
			view(p);
			await(LAST, 1);
			view(p);
		} else {
			await(DID, 1);
			verify_origin(p);
			fill(p, 0, FEW, OTHER);
			fill(p, BLOCK_PAGES, FEW, OTHER);
			arrive(WROTE);
			await(LAST, 1);
			verify_other(p);
		}
		if (!pid) {
			join(third);
			done();
		}
		join(pid);
		if (round % 2)
			verify_other(p);
		else
			view(p);
		unmap_blocks(p, NR);
	}
}

/* Open a file of ours once more, past the page cache. */
static int direct_file(void)
{
	char path[64];
	int fd = disk_file(FEW, FILE_DATA), dfd;

	fsync(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	dfd = open(path, O_RDWR | O_DIRECT);
	if (dfd < 0)
		skip_case("no file system with O_DIRECT, see COW_PTE_TEST_DIR");
	close(fd);
	return dfd;
}

static int file;

/* The disk writes into shared memory. */
static void direct_read_act(char *p)
{
	check(pread(file, AT(4), 16 * PAGE, 4 * PAGE) == 16 * PAGE, "pread");
	check(pread(file, AT(SECOND), PAGE, 0) == PAGE, "pread");
}

static void direct_read_view(char *p)
{
	verify(p, 0, 4, ORIGIN);
	verify(p, 4, 16, FILE_DATA);
	verify(p, 20, FEW - 20, ORIGIN);
	check(page_is(AT(SECOND), 0, FILE_DATA), "data not read");
}

static void direct_read(void)
{
	file = direct_file();
	both_sides(direct_read_act, direct_read_view);
}

/* The disk reads from shared memory. */
static void direct_write(void)
{
	unsigned int round, i;
	char buf[PAGE];

	file = direct_file();
	for (round = 0; round < rounds(8); round++) {
		char *p = setup();
		struct events before;
		pid_t pid = fork_sharing(NR);

		if ((pid == 0) == round % 2) {
			events_get(&before);
			check(pwrite(file, AT(0), 16 * PAGE, 0) == 16 * PAGE,
			      "pwrite");
			expect_events(&before, EV_BREAK, >=, 1);
			verify_origin(p);
			fill(p, 0, 16, ACTOR);
			arrive(DID);
		} else {
			await(DID, 1);
			verify_origin(p);
			fill(p, 0, 16, OTHER);
		}
		if (!pid)
			done();
		join(pid);
		for (i = 0; i < 16; i++) {
			static char aligned[PAGE]
				__attribute__((aligned(4096)));

			check(pread(file, aligned, PAGE, i * PAGE) == PAGE,
			      "pread");
			memcpy(buf, aligned, PAGE);
			check(page_is(buf, i, ORIGIN), "page %u of the file", i);
		}
		unmap_blocks(p, NR);
	}
}

/* read() into shared memory and write() from it: faults of the kernel. */
static void copy_act(char *p)
{
	static char buf[PAGE];
	int fd[2];

	check(!pipe(fd), "pipe");
	pattern_page(buf, 3, ACTOR);
	check(write(fd[1], buf, PAGE) == PAGE, "write");
	check(read(fd[0], AT(3), PAGE) == PAGE, "read");
	check(write(fd[1], AT(SECOND), PAGE) == PAGE, "write");
	check(read(fd[0], AT(SECOND + 1), PAGE) == PAGE, "read");
	close(fd[0]);
	close(fd[1]);
}

static void copy_view(char *p)
{
	verify(p, 0, 3, ORIGIN);
	verify(p, 3, 1, ACTOR);
	verify(p, 4, FEW - 4, ORIGIN);
	verify(p, SECOND, 1, ORIGIN);
	check(page_is(AT(SECOND + 1), SECOND, ORIGIN), "data not copied");
}

static void read_and_write(void)
{
	both_sides(copy_act, copy_view);
}

/*
 * CVE-2020-29374: one side puts a page into a pipe by reference and unmaps it; what
 * the other side writes afterwards must not appear in the pipe.  With the pipe
 * filled before or after the fork, and either side being the victim.
 */
static void splice_page(char *p, int fd, unsigned int page)
{
	struct iovec iov = { AT(page), PAGE };

	check(vmsplice(fd, &iov, 1, 0) == PAGE, "vmsplice");
}

static void read_pipe(int fd, unsigned int page)
{
	static char buf[PAGE];
	size_t n = 0;

	while (n < PAGE) {
		ssize_t ret = read(fd, buf + n, PAGE - n);

		check(ret > 0, "read from the pipe");
		n += ret;
	}
	check(page_is(buf, page, ORIGIN),
	      "the pipe has what was written after the splice");
}

static void vmsplice_leak(bool child_splices, bool before_fork, bool unmaps)
{
	char *p = setup();
	struct events before;
	int fd[2];
	pid_t pid;

	check(!pipe(fd), "pipe");
	if (before_fork) {
		splice_page(p, fd[1], 5);
		splice_page(p, fd[1], SECOND);
	}
	pid = fork_sharing(NR);
	if ((pid == 0) == child_splices) {
		if (!before_fork) {
			events_get(&before);
			splice_page(p, fd[1], 5);
			splice_page(p, fd[1], SECOND);
			expect_events(&before, EV_BREAK, >=, (long)NR);
		}
		if (unmaps)
			check(!munmap(p, NR * BLOCK), "munmap");
		arrive(DID);
		await(WROTE, 1);
		read_pipe(fd[0], 5);
		read_pipe(fd[0], SECOND);
		if (!unmaps)
			verify_origin(p);
	} else {
		await(DID, 1);
		fill(p, 0, FEW, OTHER);
		fill(p, BLOCK_PAGES, FEW, OTHER);
		arrive(WROTE);
	}
	if (!pid)
		done();
	join(pid);
	close(fd[0]);
	close(fd[1]);
	munmap(p, NR * BLOCK);
}

static void vmsplice_all(void)
{
	unsigned int round, variant;

	for (round = 0; round < rounds(2); round++)
		for (variant = 0; variant < 8; variant++)
			vmsplice_leak(variant & 1, variant & 2, variant & 4);
}

/*
 * The splicer itself writes after the splice: it has its page to itself, so the
 * pipe shows the new data or the old, but the other side none.
 */
static void vmsplice_reuse(void)
{
	unsigned int round;

	for (round = 0; round < rounds(8); round++) {
		char *p = setup();
		int fd[2];
		pid_t pid;

		check(!pipe(fd), "pipe");
		pid = fork_sharing(NR);
		if (!pid) {
			await(DID, 1);
			verify_origin(p);
			/* leave: the parent's tables become dormant */
			done();
		}
		if (round % 2) {
			arrive(DID);
			join(pid);
			splice_page(p, fd[1], 5);
			pid = fork_sharing(NR);
			if (!pid) {
				verify_origin(p);
				fill(p, 0, FEW, CHILD);
				read_pipe(fd[0], 5);
				done();
			}
		} else {
			splice_page(p, fd[1], 5);
			fill(p, 6, 10, ACTOR);
			arrive(DID);
		}
		join(pid);
		verify(p, 0, 6, ORIGIN);
		close(fd[0]);
		close(fd[1]);
		unmap_blocks(p, NR);
	}
}

/*
 * A page goes into a pipe and then to swap, where the reference keeps it in the
 * swap cache.  The process leaves, its child is the last sharer, maps the page again
 * and writes: nothing of that may come out of the pipe.
 */
static void vmsplice_swapped(void)
{
	unsigned int round;

	if (!have_swap())
		skip_case("no swap");
	if (large_folios)
		skip_case("reclaim leaves large folios with references alone");
	for (round = 0; round < rounds(8); round++) {
		char *p = setup();
		int fd[2];
		pid_t pid;

		check(!pipe(fd), "pipe");
		splice_page(p, fd[1], 5);
		check(!madvise(AT(5), PAGE, MADV_PAGEOUT), "MADV_PAGEOUT");
		check(pagemap(0, AT(5)) & PM_SWAP, "the page is not in swap");
		pid = fork_sharing(NR);
		if ((pid == 0) == round % 2) {
			/* the one who stays */
			await(DID, 1);
			fill(p, 5, 1, CHILD);
			verify(p, 0, 5, ORIGIN);
			verify(p, 5, 1, CHILD);
			arrive(WROTE);
		} else {
			check(!munmap(p, NR * BLOCK), "munmap");
			arrive(DID);
			await(WROTE, 1);
			read_pipe(fd[0], 5);
		}
		if (!pid)
			done();
		join(pid);
		close(fd[0]);
		close(fd[1]);
		unmap_blocks(p, NR);
	}
}

/* process_vm_writev and process_vm_readv from outside. */
static pid_t target;

static void remote(bool write, void *buf, char *at)
{
	struct iovec local = { buf, PAGE }, there = { at, PAGE };
	ssize_t ret;

	ret = write ? process_vm_writev(target, &local, 1, &there, 1, 0) :
		      process_vm_readv(target, &local, 1, &there, 1, 0);
	if (ret < 0 && errno == ENOSYS)
		skip_case("no process_vm_readv");
	check(ret == PAGE, "process_vm_%s", write ? "writev" : "readv");
}

static void mem_file(bool write, void *buf, char *at)
{
	char path[64];
	ssize_t ret;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", target);
	fd = open(path, O_RDWR);
	check(fd >= 0, "%s", path);
	ret = write ? pwrite(fd, buf, PAGE, (uintptr_t)at) :
		      pread(fd, buf, PAGE, (uintptr_t)at);
	check(ret == PAGE, "%s", path);
	close(fd);
}

static void poke(bool write, void *buf, char *at)
{
	unsigned long *words = buf;
	unsigned int i;
	int status;

	check(!ptrace(PTRACE_ATTACH, target, NULL, NULL), "PTRACE_ATTACH");
	check(waitpid(target, &status, 0) == target && WIFSTOPPED(status),
	      "wait status %#x", status);
	for (i = 0; i < PAGE / sizeof(long); i++) {
		if (write) {
			check(!ptrace(PTRACE_POKEDATA, target, at + i * 8,
				      words[i]), "PTRACE_POKEDATA");
		} else {
			errno = 0;
			words[i] = ptrace(PTRACE_PEEKDATA, target, at + i * 8, 0);
			check(!errno, "PTRACE_PEEKDATA");
		}
	}
	check(!ptrace(PTRACE_DETACH, target, NULL, NULL), "PTRACE_DETACH");
}

/*
 * The parent changes pages of a child, one of them in memory the child has made
 * read-only; neither the parent nor another child sees it, and the parent reads
 * what is the child's, not its own.
 */
static void from_outside(void (*transfer)(bool write, void *buf, char *at),
			 bool forced)
{
	static char buf[PAGE];
	unsigned int round;

	for (round = 0; round < rounds(4); round++) {
		char *p = setup();
		struct events before;
		pid_t bystander;

		bystander = fork_sharing(NR);
		if (!bystander) {
			arrive(READY);
			await(DID, 1);
			verify_origin(p);
			fill(p, 0, FEW, OTHER);
			arrive(WROTE);
			done();
		}
		target = fork_sharing(NR);
		if (!target) {
			if (forced && round % 2)
				mprotect(AT(9), PAGE, PROT_READ);
			arrive(READY);
			await(WROTE, 1);
			verify(p, 0, 9, ORIGIN);
			verify(p, 9, 1, ACTOR);
			verify(p, 10, FEW - 10, ORIGIN);
			verify(p, SECOND, 1, ACTOR);
			done();
		}
		await(READY, 2);
		transfer(false, buf, AT(9));
		check(page_is(buf, 9, ORIGIN), "read other data");
		events_get(&before);
		pattern_page(buf, 9, ACTOR);
		transfer(true, buf, AT(9));
		pattern_page(buf, SECOND, ACTOR);
		transfer(true, buf, AT(SECOND));
		expect_events(&before, EV_BREAK, >=, 1);
		transfer(false, buf, AT(9));
		check(page_is(buf, 9, ACTOR), "read other data");
		verify_origin(p);
		fill(p, 0, FEW, CHILD);
		arrive(DID);
		join(bystander);
		join(target);
		verify(p, 0, FEW, CHILD);
		verify(p, BLOCK_PAGES, FEW, ORIGIN);
		unmap_blocks(p, NR);
	}
}

static void process_vm(void)
{
	from_outside(remote, false);
}

static void proc_mem(void)
{
	from_outside(mem_file, true);
}

static void ptrace_poke(void)
{
	from_outside(poke, true);
}

/* The other direction: a child writes into its parent. */
static void into_the_parent(void)
{
	static char buf[PAGE];
	unsigned int round;

	for (round = 0; round < rounds(4); round++) {
		char *p = setup();
		pid_t pid;

		target = getpid();
		pid = fork_sharing(NR);
		if (!pid) {
			pattern_page(buf, 9, ACTOR);
			if (round % 2)
				remote(true, buf, AT(9));
			else
				mem_file(true, buf, AT(9));
			verify_origin(p);
			done();
		}
		join(pid);
		verify(p, 9, 1, ACTOR);
		verify(p, 10, FEW - 10, ORIGIN);
		unmap_blocks(p, NR);
	}
}

/*
 * A futex that is not FUTEX_PRIVATE in private memory: waiter and waker of one
 * process meet while the table is shared, those of two processes never do.
 */
static void *wait_on_futex(void *arg)
{
	uint32_t *word = arg;

	arrive(READY);
	while (!__atomic_load_n(word, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
	return NULL;
}

static long wake(uint32_t *word)
{
	return syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void wake_in_process(uint32_t *word, unsigned int waiters)
{
	pthread_t thread;

	check(!pthread_create(&thread, NULL, wait_on_futex, word),
	      "pthread_create");
	await(READY, waiters);
	__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
	/* it may not be asleep yet, or may have seen the word */
	wake(word);
	pthread_join(thread, NULL);
}

static void shared_futex(void)
{
	unsigned int round;

	for (round = 0; round < rounds(12); round++) {
		char *p = setup();
		uint32_t *word = (uint32_t *)AT(FEW);
		pthread_t thread;
		pid_t pid;

		*word = 0;
		if (round % 2) {
			/* the parent waits over the fork */
			check(!pthread_create(&thread, NULL, wait_on_futex, word),
			      "pthread_create");
			await(READY, 1);
		}
		pid = fork_sharing(NR);
		if (!pid) {
			check(!wake(word), "woke a thread of the parent");
			check(*word == 0, "the word is %u", *word);
			wake_in_process(word, 1 + round % 2);
			done();
		}
		join(pid);
		check(*word == 0, "the word is %u", *word);
		if (round % 2) {
			__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
			wake(word);
			pthread_join(thread, NULL);
		} else {
			steps_reset();
			wake_in_process(word, 1);
		}
		verify_origin(p);
		unmap_blocks(p, NR);
	}
}

/* A minimal io_uring: one submission at a time. */
struct ring {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static void *ring_map(int fd, size_t size, off_t what)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, fd, what);

	check(p != MAP_FAILED, "mmap of the ring");
	return p;
}

static void ring_open(struct ring *r)
{
	struct io_uring_params params = { 0 };
	char *sq, *cq;

	r->fd = syscall(SYS_io_uring_setup, 4, &params);
	if (r->fd < 0)
		skip_case("io_uring: %s", strerror(errno));
	sq = ring_map(r->fd, params.sq_off.array +
		      params.sq_entries * sizeof(unsigned int), IORING_OFF_SQ_RING);
	cq = ring_map(r->fd, params.cq_off.cqes +
		      params.cq_entries * sizeof(struct io_uring_cqe),
		      IORING_OFF_CQ_RING);
	r->sqes = ring_map(r->fd, params.sq_entries * sizeof(*r->sqes),
			   IORING_OFF_SQES);
	r->sq_tail = (unsigned int *)(sq + params.sq_off.tail);
	r->sq_mask = (unsigned int *)(sq + params.sq_off.ring_mask);
	r->sq_array = (unsigned int *)(sq + params.sq_off.array);
	r->cq_head = (unsigned int *)(cq + params.cq_off.head);
	r->cq_tail = (unsigned int *)(cq + params.cq_off.tail);
	r->cq_mask = (unsigned int *)(cq + params.cq_off.ring_mask);
	r->cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
}

static void ring_rw(struct ring *r, int op, int fd, void *buf, unsigned int len,
		    off_t offset)
{
	unsigned int tail = *r->sq_tail, i = tail & *r->sq_mask;
	struct io_uring_sqe *sqe = &r->sqes[i];
	struct io_uring_cqe *cqe;

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = op;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)buf;
	sqe->len = len;
	sqe->off = offset;
	r->sq_array[i] = i;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	check(syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS,
		      NULL, 0) == 1, "io_uring_enter");
	check(__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) != *r->cq_head,
	      "no completion");
	cqe = &r->cqes[*r->cq_head & *r->cq_mask];
	check(cqe->res == (int)len, "operation %d: %d", op, cqe->res);
	__atomic_store_n(r->cq_head, *r->cq_head + 1, __ATOMIC_RELEASE);
}

static void ring_pin(struct ring *r, void *buf, size_t len)
{
	struct iovec iov = { buf, len };

	if (syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &iov,
		    1))
		skip_case("IORING_REGISTER_BUFFERS: %s", strerror(errno));
}

/*
 * Buffers pinned before the fork: their block is copied the ordinary way, and the
 * parent's page stays the one the ring writes to.
 */
static void pinned_before_fork(void)
{
	unsigned int round;
	int fd;

	fd = disk_file(FEW, FILE_DATA);
	for (round = 0; round < rounds(6); round++) {
		char *p = setup();
		struct events before;
		struct ring r;
		pid_t pid;

		ring_open(&r);
		ring_pin(&r, AT(4), 4 * PAGE);
		events_get(&before);
		/* the second block has no pinned page, it may be shared */
		pid = xfork();
		if (!pid) {
			await(DID, 1);
			verify_origin(p);
			fill(p, 0, FEW, CHILD);
			done();
		}
		expect_events(&before, EV_FB_PINNED, >=, 1);
		ring_rw(&r, IORING_OP_READ_FIXED, fd, AT(4), PAGE, 4 * PAGE);
		verify(p, 4, 1, FILE_DATA);
		fill(p, 5, 1, ACTOR);
		ring_rw(&r, IORING_OP_READ_FIXED, fd, AT(6), PAGE, 6 * PAGE);
		verify(p, 5, 1, ACTOR);
		verify(p, 6, 1, FILE_DATA);
		arrive(DID);
		join(pid);
		/* what the processor writes is what the ring sees */
		fill(p, 7, 1, ACTOR);
		ring_rw(&r, IORING_OP_WRITE_FIXED, fd, AT(7), PAGE, 50 * PAGE);
		ring_rw(&r, IORING_OP_READ_FIXED, fd, AT(4), PAGE, 50 * PAGE);
		check(page_is(AT(4), 7, ACTOR), "the ring sees another page");
		verify(p, 0, 4, ORIGIN);
		verify(p, 8, FEW - 8, ORIGIN);
		close(r.fd);
		unmap_blocks(p, NR);
	}
	close(fd);
}

/* Buffers pinned while the table is shared: by the child, then by the parent. */
static void pinned_after_fork(void)
{
	unsigned int round;
	int fd;

	fd = disk_file(FEW, FILE_DATA);
	for (round = 0; round < rounds(6); round++) {
		char *p = setup();
		struct events before;
		struct ring r;
		pid_t pid;

		pid = fork_sharing(NR);
		if ((pid == 0) == round % 2) {
			events_get(&before);
			ring_open(&r);
			ring_pin(&r, AT(4), 4 * PAGE);
			expect_events(&before, EV_BREAK, >=, 1);
			fill(p, 5, 1, ACTOR);
			ring_rw(&r, IORING_OP_READ_FIXED, fd, AT(4), PAGE,
				4 * PAGE);
			ring_rw(&r, IORING_OP_READ_FIXED, fd, AT(6), PAGE,
				6 * PAGE);
			verify(p, 0, 4, ORIGIN);
			verify(p, 4, 1, FILE_DATA);
			verify(p, 5, 1, ACTOR);
			verify(p, 6, 1, FILE_DATA);
			verify(p, 7, FEW - 7, ORIGIN);
			arrive(DID);
			await(WROTE, 1);
			verify(p, 4, 1, FILE_DATA);
			/* a fork of a process with a pin */
			if (!round) {
				pid_t other = xfork();

				if (!other) {
					verify(p, 4, 1, FILE_DATA);
					done();
				}
				fill(p, 4, 4, ACTOR);
				ring_rw(&r, IORING_OP_READ_FIXED, fd, AT(5),
					PAGE, 5 * PAGE);
				verify(p, 5, 1, FILE_DATA);
				join(other);
			}
			close(r.fd);
		} else {
			await(DID, 1);
			verify_origin(p);
			fill(p, 0, FEW, OTHER);
			verify(p, 0, FEW, OTHER);
			arrive(WROTE);
		}
		if (!pid)
			done();
		join(pid);
		unmap_blocks(p, NR);
	}
	close(fd);
}

/* A page of the core file @core that was dumped from @addr, or NULL. */
static const char *core_page(const char *core, size_t size, const char *addr)
{
	const Elf64_Ehdr *ehdr = (const void *)core;
	const Elf64_Phdr *phdr = (const void *)(core + ehdr->e_phoff);
	unsigned long at = (unsigned long)addr, offset;
	unsigned int i;

	for (i = 0; i < ehdr->e_phnum; i++, phdr++) {
		if (phdr->p_type != PT_LOAD || at < phdr->p_vaddr ||
		    at >= phdr->p_vaddr + phdr->p_filesz)
			continue;
		offset = phdr->p_offset + at - phdr->p_vaddr;
		return offset + PAGE <= size ? core + offset : NULL;
	}
	return NULL;
}

#define GUP_TEST		"/sys/kernel/debug/gup_test"
#define FOLL_WRITE		0x01	/* include/linux/mm_types.h */
#define FOLL_NOFAULT		0x20

/* mm/gup_test.h */
struct gup_test {
	__u64 get_delta_usec, put_delta_usec, addr, size;
	__u32 nr_pages_per_call, gup_flags, test_flags, which_pages[8];
};

/* How many of @n pages from @p get_user_pages_fast() or pin_user_pages_fast() gets. */
static unsigned long gup_pages(int fd, bool pin, char *p, unsigned long n, unsigned int flags)
{
	struct gup_test gup = {
		.addr = (uintptr_t)p, .size = n * PAGE, .nr_pages_per_call = n,
		.gup_flags = flags,
	};

	if (ioctl(fd, pin ? _IOWR('g', 2, struct gup_test) : _IOWR('g', 1, struct gup_test),
		  &gup))
		return 0;
	return gup.size / PAGE;
}

/*
 * Who holds locks that a fault may want asks with FOLL_NOFAULT, and is refused by a
 * shared table, as by a page that is not exclusive.  It gets the pages when nobody
 * shares any more, for which no memory is needed.
 */
static void no_fault(void)
{
	int fd = open(GUP_TEST, O_RDWR);
	unsigned int round;

	if (fd < 0)
		skip_case(GUP_TEST ": %s", strerror(errno));
	for (round = 0; round < rounds(10); round++) {
		/*
		 * Pages that had references when they came to be shared are not
		 * exclusive, and cannot be pinned or written to without a fault.
		 */
		bool exit_first = round % 5 == 4;
		bool pin = !exit_first && round & 2;
		unsigned int flags = !exit_first && round & 1 ? FOLL_WRITE : 0;
		char *p = setup();
		struct events before;
		pid_t pid;

		pid = fork_sharing(NR);
		if (!pid) {
			own_breaks();
			arrive(READY);
			await(DID, 1);
			verify_origin(p);
			done();
		}
		/* what looking itself writes to is copied, or taken back, now */
		await(READY, 1);
		own_breaks();
		events_get(&before);
		check(!gup_pages(fd, pin, AT(4), 8, flags | FOLL_NOFAULT),
		      "got pages of a shared table");
		expect_events(&before, EV_BREAK, ==, 0);
		expect_events(&before, EV_REUSE, ==, 0);
		if (exit_first) {
			arrive(DID);
			join(pid);
			check(gup_pages(fd, pin, AT(4), 8, flags | FOLL_NOFAULT) == 8,
			      "got no pages");
			expect_events(&before, EV_REUSE, ==, 1);
		} else {
			/* who may fault gets them, and then there is nothing to fault for */
			check(gup_pages(fd, pin, AT(4), 8, flags) == 8, "got no pages");
			check(gup_pages(fd, pin, AT(4), 8, flags | FOLL_NOFAULT) == 8,
			      "got no pages");
			expect_events(&before, EV_BREAK, ==, 1);
			arrive(DID);
			join(pid);
		}
		verify_origin(p);
		unmap_blocks(p, NR);
	}
	close(fd);
}

/* The child @pid dumps core after WROTE; its core file, in memory. */
static const char *dumped(pid_t pid, size_t *size)
{
	static const char pattern[] = "/proc/sys/kernel/core_pattern";
	const char *dir = getenv("COW_PTE_TEST_DIR");
	char name[128], old[128] = "";
	int fd = open(pattern, O_RDONLY), status;
	const char *core;
	struct stat st;

	check(fd >= 0 && read(fd, old, sizeof(old) - 1) > 0, "core_pattern");
	close(fd);
	snprintf(name, sizeof(name), "%s/cow_pte_core.%d", dir ? dir : "/tmp", getpid());
	if (write_file(pattern, "%s", name))
		skip_case("core_pattern: %s", strerror(errno));
	arrive(WROTE);
	check(waitpid(pid, &status, 0) == pid, "waitpid");
	write_file(pattern, "%s", old);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGQUIT, "status %#x", status);
	fd = open(name, O_RDONLY);
	unlink(name);
	if (!WCOREDUMP(status) || fd < 0)
		skip_case("no core file");
	check(!fstat(fd, &st), "fstat");
	*size = st.st_size;
	core = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	check(core != MAP_FAILED, "mmap of the core file");
	close(fd);
	return core;
}

static void dump_core(void)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &unlimited);
	prctl(PR_SET_DUMPABLE, 1);
	arrive(DID);
	await(WROTE, 1);
	kill(getpid(), SIGQUIT);
	fail("alive");
}

static void verify_core(const char *core, size_t size, char *p, unsigned long first,
			unsigned long n, int who)
{
	unsigned long i;

	for (i = first; i < first + n; i++) {
		const char *page = core_page(core, size, p + i * PAGE);

		check(page && page_is(page, i, who), "page %lu in the core file", i);
	}
}

/*
 * A core dump has every page of the process, and copies no table for it.  What the
 * sharers wrote before is not in it, and they go on as ever.
 */
static void core_dump(void)
{
	unsigned long i, pages = 8 * BLOCK_PAGES;
	char *p = map_blocks(8);
	struct events before;
	const char *core;
	size_t size;
	pid_t pid;

	steps_reset();
	fill(p, 0, pages, ORIGIN);
	pid = fork_sharing(8);
	if (!pid) {
		fill(p, 5, 1, ACTOR);
		dump_core();
	}
	await(DID, 1);
	fill(p, BLOCK_PAGES + 3, 1, OTHER);
	events_get(&before);
	core = dumped(pid, &size);
	/* those of the stack and the like, if any, and not the blocks */
	expect_events(&before, EV_BREAK, <=, 3);
	expect_events(&before, EV_DETACH, >=, 6);
	verify_core(core, size, p, 0, 5, ORIGIN);
	verify_core(core, size, p, 5, 1, ACTOR);
	verify_core(core, size, p, 6, pages - 6, ORIGIN);
	munmap((void *)core, size);
	fill(p, 2 * BLOCK_PAGES, 1, OTHER);
	for (i = 0; i < pages; i++)
		verify(p, i, 1, i == BLOCK_PAGES + 3 || i == 2 * BLOCK_PAGES ?
		       OTHER : ORIGIN);
	unmap_blocks(p, 8);
}

/*
 * The pages of a huge page are in two tables, and a page in the second is pinned.
 * Pages in the first, which is shared, look as if they were pinned too.
 */
static void core_dump_pinned(void)
{
	const unsigned long half = BLOCK_PAGES / 2;
	unsigned int round;

	for (round = 0; round < rounds(4); round++) {
		/* the child is the only one left in the first block, or is not */
		bool alone = round % 2;
		char *p = map_blocks(NR);
		struct events before;
		const char *core;
		struct ring r;
		size_t size;
		pid_t pid;

		steps_reset();
		if (madvise(p, BLOCK, MADV_HUGEPAGE))
			skip_case("MADV_HUGEPAGE: %s", strerror(errno));
		fill(p, 0, BLOCK_PAGES, ORIGIN);
		if (smaps_kb(0, p, "AnonHugePages") < 2048)
			skip_case("no huge page");
		check(mremap(AT(half), half * PAGE, half * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			     AT(BLOCK_PAGES)) == AT(BLOCK_PAGES), "mremap: %s", strerror(errno));
		pid = fork_sharing(NR);
		if (!pid) {
			await(READY, 1);
			ring_open(&r);
			ring_pin(&r, AT(BLOCK_PAGES + 7), PAGE);
			dump_core();
		}
		/* whole blocks: nothing is copied */
		check(!munmap(AT(BLOCK_PAGES), BLOCK), "munmap");
		if (alone)
			check(!munmap(p, BLOCK), "munmap");
		arrive(READY);
		await(DID, 1);
		events_get(&before);
		core = dumped(pid, &size);
		expect_events(&before, EV_REUSE, >=, (long)alone);
		/* those of the stack and the like are as many again */
		expect_events(&before, EV_BREAK, >=, (long)!alone);
		expect_events(&before, EV_BREAK, <=, 4);
		verify_core(core, size, p, 0, half, ORIGIN);
		munmap((void *)core, size);
		if (!alone)
			verify(p, 0, half, ORIGIN);
		unmap_blocks(p, NR);
	}
}

static const struct cow_case cases[] = {
	{ "O_DIRECT read", direct_read },
	{ "O_DIRECT write", direct_write },
	{ "read and write", read_and_write },
	{ "vmsplice, and no leak into the pipe", vmsplice_all },
	{ "vmsplice and reuse", vmsplice_reuse },
	{ "vmsplice of a page that goes to swap", vmsplice_swapped },
	{ "process_vm_readv and process_vm_writev", process_vm },
	{ "/proc/PID/mem", proc_mem },
	{ "ptrace", ptrace_poke },
	{ "a child writes into its parent", into_the_parent },
	{ "shared futex in private memory", shared_futex },
	{ "io_uring buffers pinned before the fork", pinned_before_fork },
	{ "io_uring buffers pinned after the fork", pinned_after_fork },
	{ "core dump", core_dump },
	{ "core dump of a huge page that is pinned elsewhere", core_dump_pinned },
	{ "references of who must not fault", no_fault },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
