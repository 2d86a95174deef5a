// SPDX-License-Identifier: GPL-2.0
/* System calls that change what one process maps, on shared blocks. */
#include "util.h"
#include <linux/userfaultfd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif

#define N	3			/* blocks */
#define PAGES	(N * BLOCK_PAGES)
#define TAG	77

static char *mem;

static long o_bad(long from, long pages)
{
	for (long i = from; i < from + pages; i++)
		if (*(volatile uint64_t *)(mem + i * PAGE) != pattern(TAG, i))
			return i;
	return -1;
}

static long o_zero(long from, long pages)
{
	return bad_zero(mem + from * PAGE, pages);
}

static long o_madvise_page(long page, long advice)
{
	return madvise(mem + page * PAGE, PAGE, advice) ? -errno : 0;
}

/* What an order works on: in shared memory, as it is set after the fork. */
struct range {
	char *p;
	size_t len;
	int arg;
};

static struct range *range;

static void __attribute__((constructor)) range_init(void)
{
	range = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static long o_madvise(long a, long b)
{
	struct range *r = (struct range *)a;

	(void)b;
	return madvise(r->p, r->len, r->arg) ? -errno : 0;
}

static long o_mprotect(long a, long b)
{
	struct range *r = (struct range *)a;

	(void)b;
	return mprotect(r->p, r->len, r->arg) ? -errno : 0;
}

static long o_munmap(long a, long b)
{
	struct range *r = (struct range *)a;

	(void)b;
	return munmap(r->p, r->len) ? -errno : 0;
}

static long o_mlock(long a, long b)
{
	struct range *r = (struct range *)a;

	return (b ? munlock(r->p, r->len) : mlock(r->p, r->len)) ? -errno : 0;
}

static long o_probe(long addr, long write)
{
	return probe((char *)addr, write);
}

static void setup(struct proc *c)
{
	mem = blocks(N);
	fill(mem, PAGES, TAG);
	cow_on();
	proc_init(c);
	proc_spawn_shared(c, N);
}

/* All pages of the parent are as they were. */
#define PARENT_OK() do {						\
	long __b = o_bad(0, PAGES);					\
	EXPECT(__b < 0, "parent lost page %ld", __b);			\
} while (0)
#define CHILD_OK(c, from, n) do {					\
	long __b = on(c, o_bad, from, n);				\
	EXPECT(__b < 0, "child lost page %ld", __b);			\
} while (0)
#define CHILD_ZERO(c, from, n) do {					\
	long __b = on(c, o_zero, from, n);				\
	EXPECT(__b < 0, "child: page %ld + %ld is not zero", (long)(from), __b); \
} while (0)

/* Read-only in one process: it faults, the other does not; and back. */
static void t_mprotect(void)
{
	struct proc c;
	long breaks;

	setup(&c);
	*range = (struct range){ mem + 100 * PAGE, 700 * PAGE, PROT_READ };
	breaks = ev("break");
	EXPECT(on(&c, o_mprotect, (long)range, 0) == 0, "mprotect");
	if (!plain())
		EXPECT(ev("break") - breaks == 2, "%ld broken", ev("break") - breaks);
	EXPECT(on(&c, o_probe, (long)range->p, 1) == SIGSEGV, "the child can write");
	EXPECT(on(&c, o_probe, (long)range->p + range->len - 1, 1) == SIGSEGV, "the child can write");
	EXPECT(on(&c, o_probe, (long)range->p - 1, 1) == 0, "the page before");
	EXPECT(on(&c, o_probe, (long)range->p + range->len, 1) == 0, "the page behind");
	EXPECT(probe(range->p, true) == 0, "the parent cannot write");
	PARENT_OK();
	CHILD_OK(&c, 0, PAGES);
	range->arg = PROT_READ | PROT_WRITE;
	EXPECT(on(&c, o_mprotect, (long)range, 0) == 0, "mprotect back");
	on(&c, o_write, (long)range->p, 1);
	PARENT_OK();
	proc_exit(&c);
	PARENT_OK();
}

static void t_mprotect_none(void)
{
	struct proc c;

	setup(&c);
	SYS(mprotect(mem, BLOCK + PAGE, PROT_NONE));
	EXPECT(probe(mem, false) == SIGSEGV, "readable");
	EXPECT(probe(mem + BLOCK, false) == SIGSEGV, "readable");
	CHILD_OK(&c, 0, PAGES);
	SYS(mprotect(mem, BLOCK + PAGE, PROT_READ | PROT_WRITE));
	PARENT_OK();
	proc_exit(&c);
}

static void t_dontneed_page(void)
{
	struct proc c;
	long breaks;

	setup(&c);
	breaks = ev("break");
	EXPECT(on(&c, o_madvise_page, 5, MADV_DONTNEED) == 0, "madvise");
	if (!plain())
		EXPECT(ev("break") > breaks, "not broken");
	PARENT_OK();
	CHILD_OK(&c, 0, 5);
	CHILD_ZERO(&c, 5, 1);
	CHILD_OK(&c, 6, PAGES - 6);
	proc_exit(&c);
	PARENT_OK();
}

static void t_dontneed_scattered(void)
{
	static const int at[] = { 0, 511, 700 };
	struct proc c;

	setup(&c);
	for (int i = 0; i < 3; i++)
		EXPECT(on(&c, o_madvise_page, at[i], MADV_DONTNEED) == 0, "madvise");
	PARENT_OK();
	for (int i = 0; i < 3; i++)
		CHILD_ZERO(&c, at[i], 1);
	CHILD_OK(&c, 1, 510);
	CHILD_OK(&c, 512, 188);
	CHILD_OK(&c, 701, PAGES - 701);
	proc_exit(&c);
	PARENT_OK();
}

/* A whole block goes without a copy; what is written then is new. */
static void t_dontneed_block(void)
{
	struct proc c;
	long detach, breaks;

	setup(&c);
	*range = (struct range){ mem + BLOCK, BLOCK, MADV_DONTNEED };
	detach = ev("detach");
	breaks = ev("break");
	EXPECT(on(&c, o_madvise, (long)range, 0) == 0, "madvise");
	if (!plain()) {
		EXPECT(ev("detach") > detach, "not detached");
		EXPECT(ev("break") == breaks, "copied");
	}
	CHILD_ZERO(&c, BLOCK_PAGES, BLOCK_PAGES);
	CHILD_OK(&c, 0, BLOCK_PAGES);
	CHILD_OK(&c, 2 * BLOCK_PAGES, BLOCK_PAGES);
	on(&c, o_write, (long)(mem + BLOCK), 3);
	PARENT_OK();
	/* and the parent, in between of two blocks */
	SYS(madvise(mem + 10 * PAGE, 2 * BLOCK, MADV_DONTNEED));
	EXPECT(o_bad(0, 10) < 0 && o_zero(10, 2 * BLOCK_PAGES) < 0 &&
	       o_bad(10 + 2 * BLOCK_PAGES, BLOCK_PAGES - 10) < 0, "parent's range");
	CHILD_OK(&c, 0, BLOCK_PAGES);
	CHILD_OK(&c, 2 * BLOCK_PAGES, BLOCK_PAGES);
	proc_exit(&c);
}

/* munmap of the middle leaves the neighbours in the block. */
static void t_munmap(void)
{
	struct proc c;

	setup(&c);
	*range = (struct range){ mem + 256 * PAGE, BLOCK + 16 * PAGE, 0 };
	EXPECT(on(&c, o_munmap, (long)range, 0) == 0, "munmap");
	PARENT_OK();
	CHILD_OK(&c, 0, 256);
	CHILD_OK(&c, 256 + 16 + BLOCK_PAGES, PAGES - 256 - 16 - BLOCK_PAGES);
	EXPECT(on(&c, o_probe, (long)range->p, 0) == SIGSEGV, "still mapped");
	EXPECT(on(&c, o_probe, (long)range->p + range->len - 1, 0) == SIGSEGV, "still mapped");
	proc_exit(&c);
	PARENT_OK();
}

static long o_map_over(long a, long b)
{
	struct range *r = (struct range *)a;
	char *p = mmap(r->p, r->len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	(void)b;
	if (p != r->p)
		return -errno;
	fill(p, r->len / PAGE, 5);
	return bad_page(p, r->len / PAGE, 5);
}

static void t_map_fixed(void)
{
	struct proc c;

	setup(&c);
	*range = (struct range){ mem + 3 * PAGE, 4 * PAGE, 0 };
	EXPECT(on(&c, o_map_over, (long)range, 0) == -1, "part");
	*range = (struct range){ mem + BLOCK, BLOCK, 0 };
	EXPECT(on(&c, o_map_over, (long)range, 0) == -1, "block");
	PARENT_OK();
	CHILD_OK(&c, 0, 3);
	CHILD_OK(&c, 7, BLOCK_PAGES - 7);
	CHILD_OK(&c, 2 * BLOCK_PAGES, BLOCK_PAGES);
	proc_exit(&c);
	PARENT_OK();
}

/*
 * A table that several VMAs share goes as a whole, at once, without a copy; the
 * sharers that stay keep all of it.
 */
static void t_munmap_vmas(void)
{
	struct proc c;
	long breaks;

	mem = blocks(N);
	fill(mem, PAGES, TAG);
	SYS(mprotect(mem + BLOCK + 100 * PAGE, 50 * PAGE, PROT_READ));
	cow_on();
	proc_init(&c);
	proc_spawn_shared(&c, N);
	breaks = ev("break");
	*range = (struct range){ mem + BLOCK, BLOCK, 0 };
	EXPECT(on(&c, o_munmap, (long)range, 0) == 0, "munmap");
	if (!plain())
		EXPECT(ev("break") == breaks, "copied for nothing");
	PARENT_OK();
	CHILD_OK(&c, 0, BLOCK_PAGES);
	CHILD_OK(&c, 2 * BLOCK_PAGES, BLOCK_PAGES);
	proc_exit(&c);
	PARENT_OK();
}

static long o_mremap(long a, long b)
{
	struct range *r = (struct range *)a;

	return mremap(r->p, r->len, r->len, r->arg, (void *)b) == (void *)b ? 0 : -errno;
}

static long move_at, move_from, move_pages;

static long o_moved(long a, long b)
{
	(void)a;
	(void)b;
	for (long i = 0; i < move_pages; i++)
		if (*(volatile uint64_t *)(move_at + i * PAGE) != pattern(TAG, move_from + i))
			return i;
	return -1;
}

/* Move a part, a block, all; to elsewhere and into a shared block. */
static void t_mremap(void)
{
	static const struct { int from, pages; bool into; int flags; } row[] = {
		{ 10, 5, false, 0 },
		{ 0, BLOCK_PAGES, false, 0 },
		{ 0, N * BLOCK_PAGES, false, 0 },
		{ 5, 3, true, 0 },
		{ 0, BLOCK_PAGES, false, MREMAP_DONTUNMAP },
		{ 7, 20, false, MREMAP_DONTUNMAP },
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct proc c;
			char *to;

		setup(&c);
		to = blocks(N);	/* after the fork: the address is free in the child */
		move_at = (long)(row[i].into ? mem + 600 * PAGE : to);
		move_from = row[i].from;
		move_pages = row[i].pages;
		if (row[i].into) {
			/* the child knows these only from a new fork */
			proc_exit(&c);
			proc_init(&c);
			proc_spawn_shared(&c, N);
		} else {
			munmap(to, N * BLOCK);
			proc_exit(&c);
			proc_init(&c);
			proc_spawn_shared(&c, N);
		}
		*range = (struct range){ mem + row[i].from * PAGE, row[i].pages * PAGE,
				    MREMAP_MAYMOVE | MREMAP_FIXED | row[i].flags };
		EXPECT(on(&c, o_mremap, (long)range, move_at) == 0, "mremap, row %zu", i);
		EXPECT(on(&c, o_moved, 0, 0) == -1, "moved, row %zu", i);
		PARENT_OK();
		if (row[i].flags)
			CHILD_ZERO(&c, row[i].from, row[i].pages);
		else
			EXPECT(on(&c, o_probe, (long)range->p, 0) == SIGSEGV, "row %zu", i);
		on(&c, o_write, move_at, 1);
		PARENT_OK();
		proc_exit(&c);
		PARENT_OK();
		munmap(mem, N * BLOCK);
	}
}

/* The heap grows into, and shrinks out of, a shared block. */
static void t_brk(void)
{
	char *base = sbrk(0), *end;
	struct proc c;

	end = (char *)(((uintptr_t)base + 2 * BLOCK - 1) & ~(BLOCK - 1));
	SYS(brk(end + BLOCK / 2));
	mem = end;
	madvise(mem, BLOCK / 2, MADV_NOHUGEPAGE);
	fill(mem, BLOCK_PAGES / 2, TAG);
	cow_on();
	proc_init(&c);
	proc_spawn_shared(&c, 1);
	SYS(brk(end + BLOCK));
	EXPECT(bad_zero(mem + BLOCK / 2, BLOCK_PAGES / 2) < 0, "new heap is not zero");
	fill(mem + BLOCK / 2, 10, 1);
	CHILD_OK(&c, 0, BLOCK_PAGES / 2);
	SYS(brk(end + BLOCK / 4));
	EXPECT(o_bad(0, BLOCK_PAGES / 4) < 0, "parent");
	CHILD_OK(&c, 0, BLOCK_PAGES / 2);
	proc_exit(&c);
	SYS(brk(base));
}

static void t_madv_free(void)
{
	struct proc c;

	setup(&c);
	*range = (struct range){ mem + 5 * PAGE, BLOCK, MADV_FREE };
	EXPECT(on(&c, o_madvise, (long)range, 0) == 0, "madvise");
	PARENT_OK();
	proc_exit(&c);
	PARENT_OK();
}

/* The pages of a shared table are not one process's to push out. */
static void t_madv_cold(void)
{
	struct proc c;

	setup(&c);
	for (int i = 0; i < 2; i++) {
		*range = (struct range){ mem, N * BLOCK, i ? MADV_PAGEOUT : MADV_COLD };
		EXPECT(on(&c, o_madvise, (long)range, 0) == 0, "madvise");
		PARENT_OK();
		CHILD_OK(&c, 0, PAGES);
	}
	proc_exit(&c);
	PARENT_OK();
}

static void t_populate(void)
{
	struct proc c;
	long breaks;

	setup(&c);
	*range = (struct range){ mem, N * BLOCK, MADV_POPULATE_READ };
	EXPECT(on(&c, o_madvise, (long)range, 0) == 0, "populate read");
	breaks = ev("break");
	range->arg = MADV_POPULATE_WRITE;
	EXPECT(on(&c, o_madvise, (long)range, 0) == 0, "populate write");
	if (!plain())
		EXPECT(ev("break") - breaks >= N, "%ld broken", ev("break") - breaks);
	CHILD_OK(&c, 0, PAGES);
	PARENT_OK();
	on(&c, o_write, (long)mem, 1);
	PARENT_OK();
	proc_exit(&c);
}

static long o_collapse(long a, long b)
{
	struct range *r = (struct range *)a;

	(void)b;
	madvise(r->p, r->len, MADV_HUGEPAGE);
	madvise(r->p, r->len, MADV_COLLAPSE);	/* may say no */
	return 0;
}

static void t_collapse(void)
{
	struct proc c;

	setup(&c);
	*range = (struct range){ mem, N * BLOCK, 0 };
	on(&c, o_collapse, (long)range, 0);
	CHILD_OK(&c, 0, PAGES);
	PARENT_OK();
	o_collapse((long)range, 0);
	PARENT_OK();
	on(&c, o_write, (long)mem, 9);
	PARENT_OK();
	*(uint64_t *)(mem + PAGE) = 9;
	CHILD_OK(&c, 1, PAGES - 1);
	proc_exit(&c);
}

/* mlock breaks first; nr_mlock is what plain fork gives, and zero at the end. */
static void t_mlock(void)
{
	long before = file_field("/proc/vmstat", "nr_mlock"), after = 0;
	struct proc c;

	setup(&c);
	*range = (struct range){ mem + PAGE, BLOCK, 0 };
	EXPECT(on(&c, o_mlock, (long)range, 0) == 0, "mlock");
	EXPECT(status_kb(c.pid, "VmLck") == BLOCK / 1024, "VmLck %ld", status_kb(c.pid, "VmLck"));
	PARENT_OK();
	CHILD_OK(&c, 0, PAGES);
	EXPECT(on(&c, o_mlock, (long)range, 1) == 0, "munlock");
	SYS(mlock(mem, BLOCK));
	proc_exit(&c);
	PARENT_OK();
	/* mlocked blocks are not shared */
	proc_init(&c);
	proc_spawn(&c);
	CHILD_OK(&c, 0, PAGES);
	proc_exit(&c);
	SYS(munlock(mem, BLOCK));
	munmap(mem, N * BLOCK);
	for (int i = 0; i < 50; i++) {
		after = file_field("/proc/vmstat", "nr_mlock");
		if (after <= before + 32)
			return;
		usleep(100000);
	}
	EXPECT(after <= before + 32, "nr_mlock %ld, then %ld", before, after);
}

/* Flags set after sharing count from the next fork on. */
static void t_dontfork(void)
{
	struct proc c, d;

	setup(&c);
	SYS(madvise(mem + 10 * PAGE, 4 * PAGE, MADV_DONTFORK));
	PARENT_OK();
	CHILD_OK(&c, 0, PAGES);
	proc_init(&d);
	proc_spawn(&d);
	EXPECT(on(&d, o_probe, (long)(mem + 10 * PAGE), 0) == SIGSEGV, "leaked to the child");
	EXPECT(on(&d, o_probe, (long)(mem + 13 * PAGE), 0) == SIGSEGV, "leaked to the child");
	CHILD_OK(&d, 0, 10);
	CHILD_OK(&d, 14, PAGES - 14);
	proc_exit(&d);
	CHILD_OK(&c, 0, PAGES);
	proc_exit(&c);
	PARENT_OK();
}

static void t_wipeonfork(void)
{
	struct proc c, d;

	setup(&c);
	SYS(madvise(mem + 10 * PAGE, 4 * PAGE, MADV_WIPEONFORK));
	proc_init(&d);
	proc_spawn(&d);
	CHILD_ZERO(&d, 10, 4);
	CHILD_OK(&d, 0, 10);
	CHILD_OK(&d, 14, PAGES - 14);
	proc_exit(&d);
	proc_exit(&c);
	PARENT_OK();
}

/* VMAs that begin or end at, before and behind the edge of a block. */
static void t_geometry(void)
{
	for (int from = -1; from <= 1; from++)
		for (int to = -1; to <= 1; to++) {
			struct proc c;
			char *area = blocks_at(4, PROT_NONE, 0), *p;
			size_t pages;

			p = area + BLOCK + from * (long)PAGE;
			pages = 2 * BLOCK_PAGES - from + to;
			SYS(mprotect(p, pages * PAGE, PROT_READ | PROT_WRITE));
			munmap(area, p - area);
			munmap(p + pages * PAGE, area + 4 * BLOCK - p - pages * PAGE);
			mem = p;
			fill(mem, pages, TAG);
			cow_on();
			proc_init(&c);
			proc_spawn_shared(&c, 1);
			CHILD_OK(&c, 0, pages);
			on(&c, o_write, (long)p, 1);
			on(&c, o_write, (long)(p + (pages - 1) * PAGE), 1);
			EXPECT(o_bad(0, pages) < 0, "parent, from %d to %d", from, to);
			fill(mem, pages, TAG + 1);
			CHILD_OK(&c, 1, pages - 2);
			proc_exit(&c);
			CHECK(mem, pages, TAG + 1);
			munmap(mem, pages * PAGE);
		}
}

/* One VMA that must not be shared keeps its whole block from it. */
static void t_neighbour(void)
{
	for (int kind = 0; kind < 2; kind++) {
		struct proc c;
		long vma, share;
		char *p;

		mem = blocks(1);
		p = mem + 300 * PAGE;
		if (kind)
			EXPECT(mmap(p, 4 * PAGE, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p, "mmap");
		else
			SYS(madvise(p, 4 * PAGE, MADV_DONTFORK));
		fill(mem, BLOCK_PAGES, TAG);
		cow_on();
		vma = ev("fallback_vma");
		share = ev("share");
		proc_init(&c);
		proc_spawn(&c);
		if (!plain())
			EXPECT(ev("fallback_vma") > vma, "kind %d not refused", kind);
		(void)share;
		CHILD_OK(&c, 0, 300);
		CHILD_OK(&c, 304, BLOCK_PAGES - 304);
		if (kind) {
			on(&c, o_write, (long)p, 99);
			EXPECT(*(uint64_t *)p == 99, "shared memory is not shared");
		} else {
			EXPECT(on(&c, o_probe, (long)p, 0) == SIGSEGV, "leaked");
		}
		proc_exit(&c);
		munmap(mem, BLOCK);
	}
}

/* A new mapping in a hole of a shared block. */
static void t_hole_mapping(void)
{
	struct proc c;
	char *p;

	mem = blocks(1);
	fill(mem, 100, TAG);
	munmap(mem + 200 * PAGE, 100 * PAGE);
	cow_on();
	proc_init(&c);
	proc_spawn_shared(&c, 1);
	p = mmap(mem + 200 * PAGE, 100 * PAGE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
	EXPECT(p == mem + 200 * PAGE, "mmap");
	fill(p, 100, 1);
	EXPECT(on(&c, o_probe, (long)p, 0) == SIGSEGV, "the child sees the new mapping");
	CHILD_OK(&c, 0, 100);
	munmap(p, 100 * PAGE);
	EXPECT(o_bad(0, 100) < 0, "parent");
	proc_exit(&c);
}

/* Truncation and hole punch of the file below a shared private mapping. */
static void t_truncate(void)
{
	for (int punch = 0; punch < 2; punch++) {
		char name[] = "/tmp/cow_pte_XXXXXX";
		int fd = mkstemp(name);
		long inplace;
		struct proc c;

		EXPECT(fd >= 0, "mkstemp");
		unlink(name);
		SYS(ftruncate(fd, BLOCK));
		mem = blocks(1);
		EXPECT(mmap(mem, BLOCK, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, fd, 0) == mem, "mmap");
		fill(mem, BLOCK_PAGES, TAG);
		EXPECT(mmap(mem, BLOCK, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_FIXED, fd, 0) == mem, "mmap");
		/* 0..99 are copies, 100..511 pages of the file */
		for (int i = 0; i < (int)BLOCK_PAGES; i++)
			(void)*(volatile char *)(mem + i * PAGE);
		fill(mem, 100, TAG);
		cow_on();
		proc_init(&c);
		proc_spawn_shared(&c, 1);
		inplace = ev("inplace");
		if (punch) {
			SYS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      50 * PAGE, 100 * PAGE));
			CHILD_OK(&c, 0, 100);	/* copies survive */
			CHILD_ZERO(&c, 100, 50);
			CHILD_OK(&c, 150, BLOCK_PAGES - 150);
			EXPECT(o_bad(0, 100) < 0 && o_zero(100, 50) < 0 &&
			       o_bad(150, BLOCK_PAGES - 150) < 0, "parent");
		} else {
			SYS(ftruncate(fd, 50 * PAGE));
			CHILD_OK(&c, 0, 50);	/* copies go too */
			EXPECT(on(&c, o_probe, (long)(mem + 50 * PAGE), 0) == SIGBUS, "child");
			EXPECT(on(&c, o_probe, (long)(mem + 511 * PAGE), 1) == SIGBUS, "child");
			EXPECT(probe(mem + 50 * PAGE, false) == SIGBUS, "parent");
			EXPECT(o_bad(0, 50) < 0, "parent");
		}
		if (!plain())
			EXPECT(ev("inplace") > inplace, "not in place");
		proc_exit(&c);
		close(fd);
		munmap(mem, BLOCK);
	}
}

static int uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		SKIP("no userfaultfd: %s", strerror(errno));
	return fd;
}

/* To register a range breaks it; copies land in one process. */
static void t_uffd(void)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_copy copy = { 0 };
	char *src = blocks(1);
	long breaks, share;
	struct proc c;
	int fd = uffd_open();

	fill(src, 1, 5);
	setup(&c);
	reg.range.start = (long)mem;
	reg.range.len = BLOCK;
	breaks = ev("break");
	SYS(ioctl(fd, UFFDIO_REGISTER, &reg));
	if (!plain())
		EXPECT(ev("break") > breaks, "not broken");
	SYS(madvise(mem + 3 * PAGE, PAGE, MADV_DONTNEED));
	copy.dst = (long)(mem + 3 * PAGE);
	copy.src = (long)src;
	copy.len = PAGE;
	SYS(ioctl(fd, UFFDIO_COPY, &copy));
	EXPECT(*(uint64_t *)(mem + 3 * PAGE) == pattern(5, 0), "not copied");
	CHILD_OK(&c, 0, PAGES);
	proc_exit(&c);
	/* and while it is armed its block is not shared */
	share = ev("fallback_vma");
	proc_init(&c);
	proc_spawn(&c);
	if (!plain())
		EXPECT(ev("fallback_vma") > share, "armed block shared");
	proc_exit(&c);
	close(fd);
}

static const struct test tests[] = {
	{ "mprotect a part", t_mprotect },
	{ "mprotect PROT_NONE", t_mprotect_none },
	{ "MADV_DONTNEED one page", t_dontneed_page },
	{ "MADV_DONTNEED three scattered pages", t_dontneed_scattered },
	{ "MADV_DONTNEED whole blocks", t_dontneed_block },
	{ "munmap with neighbours in the block", t_munmap },
	{ "munmap of several VMAs in one block", t_munmap_vmas },
	{ "MAP_FIXED over a part and over a block", t_map_fixed },
	{ "mremap", t_mremap },
	{ "brk", t_brk },
	{ "MADV_FREE", t_madv_free },
	{ "MADV_COLD and MADV_PAGEOUT", t_madv_cold },
	{ "MADV_POPULATE_READ and _WRITE", t_populate },
	{ "MADV_HUGEPAGE and MADV_COLLAPSE", t_collapse },
	{ "mlock and munlock", t_mlock },
	{ "MADV_DONTFORK after sharing", t_dontfork },
	{ "MADV_WIPEONFORK after sharing", t_wipeonfork },
	{ "VMAs that end at the edges of blocks", t_geometry },
	{ "neighbours that must not be shared", t_neighbour },
	{ "a new mapping in a hole of a shared block", t_hole_mapping },
	{ "truncate and hole punch", t_truncate },
	{ "userfaultfd", t_uffd },
};

MAIN(tests)
