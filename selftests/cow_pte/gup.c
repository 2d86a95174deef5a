// SPDX-License-Identifier: GPL-2.0
/*
 * References that the kernel takes to user pages: none through a shared table,
 * and what was pinned before the fork stays with the process that pinned it.
 */
#include "util.h"
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>

static char *mem;

static void setup(struct proc *c, int pages)
{
	mem = blocks(1);
	fill(mem, pages, 1);
	cow_on();
	proc_init(c);
	proc_spawn_shared(c, 1);
}

static long o_bad(long tag, long pages)
{
	return bad_page(mem, pages, tag);
}

static int direct_file(void)
{
	static const char *const dirs[] = { "/mnt/disk", "/var/tmp", "/tmp" };

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		char name[64];
		int fd;

		snprintf(name, sizeof(name), "%s/cow_pte_direct", dirs[i]);
		fd = open(name, O_RDWR | O_CREAT | O_DIRECT, 0600);
		if (fd < 0)
			continue;
		unlink(name);
		return fd;
	}
	SKIP("no file system with O_DIRECT");
}

static int direct_fd;

static long o_direct_read(long page, long pages)
{
	return pread(direct_fd, mem + page * PAGE, pages * PAGE, 0) == pages * (long)PAGE ? 0 : -errno;
}

static long o_direct_write(long page, long pages)
{
	return pwrite(direct_fd, mem + page * PAGE, pages * PAGE, 0) == pages * (long)PAGE ? 0 : -errno;
}

/* O_DIRECT reads into, and writes from, a shared block. */
static void t_direct(void)
{
	struct proc c;
	char *buf;

	direct_fd = direct_file();
	setup(&c, BLOCK_PAGES);
	buf = blocks(1);
	fill(buf, 8, 2);
	EXPECT(pwrite(direct_fd, buf, 8 * PAGE, 0) == 8 * PAGE, "pwrite: %s", strerror(errno));
	EXPECT(on(&c, o_direct_read, 0, 8) == 0, "read");
	EXPECT(on(&c, o_bad, 2, 8) == -1, "the child did not get the data");
	CHECK(mem, BLOCK_PAGES, 1);
	proc_exit(&c);

	proc_init(&c);
	proc_spawn_shared(&c, 1);
	EXPECT(on(&c, o_direct_write, 0, 8) == 0, "write");
	EXPECT(pread(direct_fd, buf, 8 * PAGE, 0) == 8 * PAGE, "pread");
	CHECK(buf, 8, 1);
	EXPECT(o_direct_read(100, 8) == 0, "parent reads");
	EXPECT(on(&c, o_bad, 1, BLOCK_PAGES) == -1, "the child saw the parent's read");
	proc_exit(&c);
	close(direct_fd);
}

static int pipe_fd[2];

static long o_vmsplice(long page, long unmap)
{
	struct iovec iov = { mem + page * PAGE, PAGE };

	if (vmsplice(pipe_fd[1], &iov, 1, 0) != PAGE)
		return -errno;
	return unmap ? munmap(mem, BLOCK) : 0;
}

static uint64_t pipe_word(void)
{
	char buf[PAGE];

	EXPECT(read(pipe_fd[0], buf, PAGE) == PAGE, "pipe");
	return *(uint64_t *)buf;
}

/* A child keeps a page in a pipe and leaves; the parent's secret must not show. */
static void t_vmsplice_child(void)
{
	for (int unmap = 0; unmap < 2; unmap++) {
		struct proc c;

		SYS(pipe(pipe_fd));
		setup(&c, BLOCK_PAGES);
		EXPECT(on(&c, o_vmsplice, 0, unmap) == 0, "vmsplice");
		*(uint64_t *)mem = 0x5ec2e7;
		EXPECT(pipe_word() == pattern(1, 0), "the parent's write is in the pipe");
		proc_exit(&c);
		EXPECT(*(uint64_t *)mem == 0x5ec2e7, "lost");
	}
}

static void t_vmsplice_parent(void)
{
	struct proc c;

	SYS(pipe(pipe_fd));
	setup(&c, BLOCK_PAGES);
	EXPECT(o_vmsplice(3, 0) == 0, "vmsplice");
	on(&c, o_write, (long)(mem + 3 * PAGE), 0x5ec2e7);
	EXPECT(pipe_word() == pattern(1, 3), "the child's write is in the pipe");
	proc_exit(&c);
}

/*
 * The page went into the pipe before the fork.  The parent lets go of the block,
 * so the child is the last to map it, and writes.
 */
static void t_vmsplice_before_fork(void)
{
	struct proc c;

	SYS(pipe(pipe_fd));
	mem = blocks(1);
	fill(mem, BLOCK_PAGES, 1);
	EXPECT(o_vmsplice(5, 0) == 0, "vmsplice");
	cow_on();
	proc_init(&c);
	proc_spawn_shared(&c, 1);
	munmap(mem, BLOCK);
	on(&c, o_write, (long)(mem + 5 * PAGE), 0x5ec2e7);
	EXPECT(pipe_word() == pattern(1, 5), "the child's write is in the parent's pipe");
	EXPECT(on(&c, o_read, (long)(mem + 5 * PAGE), 0) == 0x5ec2e7, "lost");
	proc_exit(&c);
}

static long o_self(long a, long b)
{
	(void)a;
	(void)b;
	return getpid();
}

static void t_process_vm(void)
{
	struct iovec local, remote;
	char *buf;
	struct proc c;
	pid_t pid;

	setup(&c, BLOCK_PAGES);
	buf = blocks(1);
	pid = on(&c, o_self, 0, 0);
	fill(buf, 4, 9);
	local = (struct iovec){ buf, 4 * PAGE };
	remote = (struct iovec){ mem + 10 * PAGE, 4 * PAGE };
	SYS(process_vm_writev(pid, &local, 1, &remote, 1, 0));
	CHECK(mem, BLOCK_PAGES, 1);
	for (int i = 0; i < 4; i++)
		EXPECT((uint64_t)on(&c, o_read, (long)(mem + (10 + i) * PAGE), 0) == pattern(9, i),
		       "page %d", i);
	remote.iov_base = mem + 100 * PAGE;
	SYS(process_vm_readv(pid, &local, 1, &remote, 1, 0));
	for (int i = 0; i < 4; i++)
		EXPECT(*(uint64_t *)(buf + i * PAGE) == pattern(1, 100 + i), "page %d", i);
	proc_exit(&c);
	CHECK(mem, BLOCK_PAGES, 1);
}

/* ptrace and /proc/PID/mem write to one process, read-only mappings included. */
static void t_ptrace(void)
{
	struct proc c;
	char path[64];
	uint64_t v = 0x77;
	int fd, status;

	mem = blocks(1);
	fill(mem, BLOCK_PAGES, 1);
	SYS(mprotect(mem, BLOCK, PROT_READ));
	cow_on();
	proc_init(&c);
	proc_spawn_shared(&c, 1);
	SYS(ptrace(PTRACE_ATTACH, c.pid, 0, 0));
	waitpid(c.pid, &status, 0);
	SYS(ptrace(PTRACE_POKEDATA, c.pid, mem + 8 * PAGE, 0x1234));
	snprintf(path, sizeof(path), "/proc/%d/mem", c.pid);
	fd = SYS(open(path, O_RDWR));
	EXPECT(pwrite(fd, &v, 8, (off_t)(long)(mem + 9 * PAGE)) == 8, "pwrite");
	EXPECT(pread(fd, &v, 8, (off_t)(long)(mem + 8 * PAGE)) == 8 && v == 0x1234, "pread");
	SYS(ptrace(PTRACE_DETACH, c.pid, 0, 0));
	close(fd);
	CHECK(mem, BLOCK_PAGES, 1);
	EXPECT(on(&c, o_read, (long)(mem + 8 * PAGE), 0) == 0x1234, "poke");
	EXPECT(on(&c, o_read, (long)(mem + 9 * PAGE), 0) == 0x77, "mem");
	proc_exit(&c);
}

/* A futex that is not declared private, in private memory, after a fork. */
static void *futex_waiter(void *arg)
{
	uint32_t *f = arg;

	while (__atomic_load_n(f, __ATOMIC_ACQUIRE) == 1)
		syscall(SYS_futex, f, FUTEX_WAIT, 1, NULL, NULL, 0);
	return NULL;
}

static long o_futex(long page, long b)
{
	uint32_t *f = (uint32_t *)(mem + page * PAGE);
	pthread_t t;

	(void)b;
	*f = 1;
	if (pthread_create(&t, NULL, futex_waiter, f))
		return -1;
	for (int i = 0; i < 1000; i++)
		sched_yield();
	__atomic_store_n(f, 2, __ATOMIC_RELEASE);
	syscall(SYS_futex, f, FUTEX_WAKE, 1, NULL, NULL, 0);
	pthread_join(t, NULL);
	return *f;
}

static void t_futex(void)
{
	struct proc c;

	setup(&c, BLOCK_PAGES);
	EXPECT(on(&c, o_futex, 20, 0) == 2, "child");
	CHECK(mem, BLOCK_PAGES, 1);
	EXPECT(o_futex(21, 0) == 2, "parent");
	EXPECT(on(&c, o_read, (long)(mem + 21 * PAGE), 0) == (long)pattern(1, 21), "seen");
	proc_exit(&c);
}

/* A registered buffer is pinned: its block is copied, and stays the parent's. */
static void t_pinned(void)
{
	struct io_uring_params params = { 0 };
	struct iovec iov;
	long pinned, share;
	struct proc c;
	int ring;

	mem = blocks(2);
	fill(mem, 2 * BLOCK_PAGES, 1);
	ring = syscall(SYS_io_uring_setup, 4, &params);
	if (ring < 0)
		SKIP("no io_uring: %s", strerror(errno));
	iov = (struct iovec){ mem + 4 * PAGE, 2 * PAGE };
	SYS(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1));
	cow_on();
	pinned = ev("fallback_pinned");
	share = ev("share");
	proc_init(&c);
	proc_spawn(&c);
	if (!plain()) {
		EXPECT(ev("fallback_pinned") > pinned, "the pinned block was not refused");
		EXPECT(ev("share") > share, "the other block was not shared");
	}
	EXPECT(on(&c, o_bad, 1, 2 * BLOCK_PAGES) == -1, "child");
	on(&c, o_write, (long)(mem + 4 * PAGE), 5);
	fill(mem, 2 * BLOCK_PAGES, 3);
	CHECK(mem, 2 * BLOCK_PAGES, 3);
	EXPECT(on(&c, o_read, (long)(mem + 5 * PAGE), 0) == (long)pattern(1, 5), "child");
	proc_exit(&c);
	close(ring);
}

/* A pin that follows on a fork finds the pages of the process that pins. */
static void t_pin_after(void)
{
	struct io_uring_params params = { 0 };
	struct iovec iov;
	struct proc c;
	long breaks;
	int ring = syscall(SYS_io_uring_setup, 4, &params);

	if (ring < 0)
		SKIP("no io_uring: %s", strerror(errno));
	setup(&c, BLOCK_PAGES);
	breaks = ev("break");
	iov = (struct iovec){ mem + 4 * PAGE, 2 * PAGE };
	SYS(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1));
	if (!plain())
		EXPECT(ev("break") > breaks, "pinned through a shared table");
	fill(mem, BLOCK_PAGES, 2);
	EXPECT(on(&c, o_bad, 1, BLOCK_PAGES) == -1, "child");
	proc_exit(&c);
	CHECK(mem, BLOCK_PAGES, 2);
	close(ring);
}

static const struct test tests[] = {
	{ "O_DIRECT", t_direct },
	{ "vmsplice in the child, the parent writes", t_vmsplice_child },
	{ "vmsplice in the parent, the child writes", t_vmsplice_parent },
	{ "vmsplice before the fork, the child is the last sharer", t_vmsplice_before_fork },
	{ "process_vm_readv and _writev", t_process_vm },
	{ "ptrace and /proc/PID/mem", t_ptrace },
	{ "futex", t_futex },
	{ "a block with pinned pages is copied", t_pinned },
	{ "pin after fork", t_pin_after },
};

MAIN(tests)
