// SPDX-License-Identifier: GPL-2.0
/*
 * Operations on one process's memory while its page tables are shared: they change
 * that process only, and the pages they name only.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, ACTOR, OTHER, CHILD };
enum { DID, WROTE, LEAVE, READY };

#define NR	3UL
#define PAGES	(NR * BLOCK_PAGES)
#define AT(n)	(p + (n) * PAGE)

/*
 * One sharer acts, the other looks and then writes.  @view checks what the actor
 * must see, after its act and again after the other's writes.  The other sees
 * nothing of the act.  At least @breaks tables are copied by it.
 */
struct act {
	void (*act)(char *p);
	void (*view)(char *p);
	long breaks;
};

static void one_side(const struct act *a, bool child_acts)
{
	char *p = map_blocks(NR);
	struct events before;
	unsigned int i;
	pid_t pid;

	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	pid = fork_sharing(NR);
	if ((pid == 0) == child_acts) {
		events_get(&before);
		a->act(p);
		expect_events(&before, EV_BREAK, >=, a->breaks);
		a->view(p);
		arrive(DID);
		await(WROTE, 1);
		a->view(p);
	} else {
		await(DID, 1);
		verify(p, 0, PAGES, ORIGIN);
		for (i = 0; i < PAGES; i += 13)
			fill(p, i, 1, OTHER);
		for (i = 0; i < PAGES; i++)
			verify(p, i, 1, i % 13 ? ORIGIN : OTHER);
		arrive(WROTE);
	}
	if (!pid)
		done();
	join(pid);
	if (child_acts)
		for (i = 0; i < PAGES; i++)
			verify(p, i, 1, i % 13 ? ORIGIN : OTHER);
	else
		a->view(p);
	unmap_blocks(p, NR);
}

static void both_sides(const struct act *a)
{
	unsigned int round;

	for (round = 0; round < rounds(1); round++) {
		one_side(a, true);
		one_side(a, false);
	}
}

#define CASE(name, breaks)						\
static void name(void)							\
{									\
	static const struct act a = { name##_act, name##_view, breaks };\
									\
	both_sides(&a);							\
}

/*
 * mprotect of a part of a block, of a part that crosses a block boundary, and of a
 * whole block; then writable again, written, and protected once more.
 */
static void protect_act(char *p)
{
	check(!mprotect(AT(10), 20 * PAGE, PROT_READ), "mprotect");
	check(!mprotect(AT(500), 30 * PAGE, PROT_READ), "mprotect");
	check(!mprotect(AT(1024), BLOCK, PROT_READ), "mprotect");
	check(write_faults(AT(10)) && write_faults(AT(29)), "writable");
	check(!write_faults(AT(9)) && !write_faults(AT(30)), "not writable");
	check(!mprotect(AT(10), 10 * PAGE, PROT_READ | PROT_WRITE), "mprotect");
	fill(p, 10, 10, ACTOR);
	check(!mprotect(AT(10), 10 * PAGE, PROT_READ), "mprotect");
}

static void protect_view(char *p)
{
	verify(p, 0, 10, ORIGIN);
	verify(p, 10, 10, ACTOR);
	verify(p, 20, PAGES - 20, ORIGIN);
	check(write_faults(AT(10)) && write_faults(AT(25)), "writable");
	check(write_faults(AT(500)) && write_faults(AT(529)), "writable");
	check(!write_faults(AT(499)) && !write_faults(AT(530)), "not writable");
	check(!write_faults(AT(1023)) && write_faults(AT(1024)) &&
	      write_faults(AT(1535)), "at the edge of a block");
}
CASE(protect, 2)

/* PROT_NONE: not even readable, and the data is there again afterwards. */
static void protect_none_act(char *p)
{
	check(!mprotect(AT(100), BLOCK, PROT_NONE), "mprotect");
	check(read_faults(AT(100)) && read_faults(AT(611)), "readable");
	check(!mprotect(AT(200), PAGE, PROT_READ), "mprotect");
}

static void protect_none_view(char *p)
{
	verify(p, 0, 100, ORIGIN);
	verify(p, 612, PAGES - 612, ORIGIN);
	verify(p, 200, 1, ORIGIN);
	check(read_faults(AT(100)) && read_faults(AT(511)) &&
	      read_faults(AT(512)) && read_faults(AT(611)), "readable");
	check(!mprotect(AT(300), PAGE, PROT_READ | PROT_WRITE), "mprotect");
	verify(p, 300, 1, ORIGIN);
	check(!mprotect(AT(300), PAGE, PROT_NONE), "mprotect");
	check(write_faults(AT(300)), "writable");
}
CASE(protect_none, 2)

/* One page dropped in the middle of a block. */
static void drop_page_act(char *p)
{
	check(!madvise(AT(700), PAGE, MADV_DONTNEED), "madvise");
}

static void drop_page_view(char *p)
{
	verify(p, 0, 700, ORIGIN);
	verify(p, 700, 1, OWNER_ZERO);
	verify(p, 701, PAGES - 701, ORIGIN);
}
CASE(drop_page, 1)

/* Three scattered pages, the first and the last of a block among them. */
static void drop_three_act(char *p)
{
	check(!madvise(AT(512), PAGE, MADV_DONTNEED), "madvise");
	check(!madvise(AT(700), PAGE, MADV_DONTNEED), "madvise");
	check(!madvise(AT(1023), PAGE, MADV_DONTNEED), "madvise");
}

static void drop_three_view(char *p)
{
	verify(p, 0, 512, ORIGIN);
	verify(p, 512, 1, OWNER_ZERO);
	verify(p, 513, 187, ORIGIN);
	verify(p, 700, 1, OWNER_ZERO);
	verify(p, 701, 322, ORIGIN);
	verify(p, 1023, 1, OWNER_ZERO);
	verify(p, 1024, PAGES - 1024, ORIGIN);
}
CASE(drop_three, 1)

/* A whole block, and exactly that, needs no copy of the table. */
static void drop_block_act(char *p)
{
	struct events before;

	events_get(&before);
	check(!madvise(AT(512), BLOCK, MADV_DONTNEED), "madvise");
	expect_events(&before, EV_DETACH, >=, 1);
	check(!(pagemap(0, AT(600)) & (PM_PRESENT | PM_SWAP)), "still mapped");
}

static void drop_block_view(char *p)
{
	verify(p, 0, 512, ORIGIN);
	verify(p, 512, 512, OWNER_ZERO);
	verify(p, 1024, 512, ORIGIN);
}
CASE(drop_block, 0)

/* Several blocks with unaligned ends. */
static void drop_many_act(char *p)
{
	check(!madvise(AT(511), BLOCK + 2 * PAGE, MADV_DONTNEED), "madvise");
}

static void drop_many_view(char *p)
{
	verify(p, 0, 511, ORIGIN);
	verify(p, 511, 514, OWNER_ZERO);
	verify(p, 1025, PAGES - 1025, ORIGIN);
}
CASE(drop_many, 2)

/* Dropped memory is written again, then dropped again. */
static void drop_and_write_act(char *p)
{
	check(!madvise(AT(300), 600 * PAGE, MADV_DONTNEED), "madvise");
	fill(p, 400, 300, ACTOR);
	check(!madvise(AT(400), PAGE, MADV_DONTNEED), "madvise");
}

static void drop_and_write_view(char *p)
{
	verify(p, 0, 300, ORIGIN);
	verify(p, 300, 101, OWNER_ZERO);
	verify(p, 401, 299, ACTOR);
	verify(p, 700, 200, OWNER_ZERO);
	verify(p, 900, PAGES - 900, ORIGIN);
}
CASE(drop_and_write, 2)

/* MADV_FREE: the actor's pages may become zero, the other's may not. */
static void madv_free_act(char *p)
{
	check(!madvise(AT(100), 600 * PAGE, MADV_FREE), "madvise");
	fill(p, 200, 1, ACTOR);
}

static void madv_free_view(char *p)
{
	unsigned int i;

	verify(p, 0, 100, ORIGIN);
	verify(p, 200, 1, ACTOR);
	verify(p, 700, PAGES - 700, ORIGIN);
	for (i = 100; i < 700; i++)
		check(i == 200 || page_is(AT(i), i, ORIGIN) ||
		      page_is(AT(i), i, OWNER_ZERO), "page %u", i);
}
CASE(madv_free, 2)

/* munmap of pages in the middle; their neighbours in the block stay. */
static void unmap_pages_act(char *p)
{
	check(!munmap(AT(100), 5 * PAGE), "munmap");
	check(!munmap(AT(512), PAGE), "munmap");
	check(!munmap(AT(1535), PAGE), "munmap");
}

static void unmap_pages_view(char *p)
{
	verify(p, 0, 100, ORIGIN);
	verify(p, 105, 407, ORIGIN);
	verify(p, 513, 1022, ORIGIN);
	check(read_faults(AT(100)) && read_faults(AT(104)) &&
	      read_faults(AT(512)) && read_faults(AT(1535)), "still mapped");
}
CASE(unmap_pages, 3)

/* munmap from the middle of one block to the middle of another. */
static void unmap_many_act(char *p)
{
	check(!munmap(AT(400), BLOCK + 200 * PAGE), "munmap");
}

static void unmap_many_view(char *p)
{
	verify(p, 0, 400, ORIGIN);
	verify(p, 1112, PAGES - 1112, ORIGIN);
	check(read_faults(AT(400)) && read_faults(AT(511)) &&
	      read_faults(AT(700)) && read_faults(AT(1111)), "still mapped");
}
CASE(unmap_many, 2)

/* munmap of exactly one block does not touch the next one. */
static void unmap_block_act(char *p)
{
	check(!munmap(AT(512), BLOCK), "munmap");
}

static void unmap_block_view(char *p)
{
	verify(p, 0, 512, ORIGIN);
	verify(p, 1024, 512, ORIGIN);
	check(read_faults(AT(512)) && read_faults(AT(1023)), "still mapped");
}
CASE(unmap_block, 0)

/* New memory mapped over pages in the middle of a shared block. */
static void map_over_act(char *p)
{
	void *ret;

	ret = mmap(AT(600), 20 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	check(ret == AT(600), "mmap");
	ret = mmap(AT(1020), 8 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	check(ret == AT(1020), "mmap");
	fill(p, 610, 10, ACTOR);
	fill(p, 1020, 8, ACTOR);
}

static void map_over_view(char *p)
{
	verify(p, 0, 600, ORIGIN);
	verify(p, 600, 10, OWNER_ZERO);
	verify(p, 610, 10, ACTOR);
	verify(p, 620, 400, ORIGIN);
	verify(p, 1020, 8, ACTOR);
	verify(p, 1028, PAGES - 1028, ORIGIN);
}
CASE(map_over, 2)

/* The pages of an area that was moved: page n of it holds what page @was held. */
static void verify_moved(char *p, unsigned long at, unsigned long was,
			 unsigned long nr, unsigned int owner)
{
	unsigned long i;

	for (i = 0; i < nr; i++)
		check(page_is(AT(at + i), was + i, owner),
		      "page %lu is not what page %lu was", at + i, was + i);
}

/* mremap of pages of one shared block over pages of another. */
static void move_pages_act(char *p)
{
	void *ret = mremap(AT(100), 50 * PAGE, 50 * PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED, AT(1100));

	check(ret == AT(1100), "mremap");
}

static void move_pages_view(char *p)
{
	verify(p, 0, 100, ORIGIN);
	check(read_faults(AT(100)) && read_faults(AT(149)), "still mapped");
	verify(p, 150, 950, ORIGIN);
	verify_moved(p, 1100, 100, 50, ORIGIN);
	verify(p, 1150, PAGES - 1150, ORIGIN);
	check(!write_faults(AT(1100)), "not writable");
}
CASE(move_pages, 2)

/* mremap of a whole block, which moves the PMD entry, over another shared one. */
static void move_block_act(char *p)
{
	long before = own_breaks();

	check(mremap(AT(0), BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED,
		     AT(1024)) == AT(1024), "mremap");
	/* what is unmapped is not copied */
	check(plain || own_breaks() == before + 1, "%ld tables were copied",
	      own_breaks() - before);
}

static void move_block_view(char *p)
{
	check(read_faults(AT(0)) && read_faults(AT(511)), "still mapped");
	verify(p, 512, 512, ORIGIN);
	verify_moved(p, 1024, 0, 512, ORIGIN);
	check(!write_faults(AT(1024)), "not writable");
}
CASE(move_block, 0)

/* The same to a place of its own, and back by pages. */
static void move_away_act(char *p)
{
	char *q = map_blocks(1);
	void *ret;

	ret = mremap(AT(512), BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, q);
	check(ret == q, "mremap");
	check(page_is(q + 5 * PAGE, 517, ORIGIN), "data is lost");
	ret = mremap(q, 256 * PAGE, 256 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     AT(512));
	check(ret == AT(512), "mremap back");
	ret = mremap(q + 256 * PAGE, 256 * PAGE, 256 * PAGE,
		     MREMAP_MAYMOVE | MREMAP_FIXED, AT(768));
	check(ret == AT(768), "mremap back");
	unmap_blocks(q, 1);
}

static void move_away_view(char *p)
{
	verify(p, 0, PAGES, ORIGIN);
}
CASE(move_away, 0)

/* MREMAP_DONTUNMAP: the source stays mapped, and empty. */
static void dontunmap_act(char *p)
{
	void *ret = mremap(AT(40), 20 * PAGE, 20 * PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
			   AT(800));

	if (ret == MAP_FAILED && errno == EINVAL)
		skip_case("no MREMAP_DONTUNMAP");
	check(ret == AT(800), "mremap");
}

static void dontunmap_view(char *p)
{
	verify(p, 0, 40, ORIGIN);
	verify(p, 40, 20, OWNER_ZERO);
	verify(p, 60, 740, ORIGIN);
	verify_moved(p, 800, 40, 20, ORIGIN);
	verify(p, 820, PAGES - 820, ORIGIN);
}
CASE(dontunmap, 2)

/* mremap that shrinks, then grows in place. */
static void resize_act(char *p)
{
	check(mremap(AT(0), PAGES * PAGE, 700 * PAGE, 0) == p, "shrink");
	check(mremap(AT(0), 700 * PAGE, 1000 * PAGE, 0) == p, "grow");
	fill(p, 900, 10, ACTOR);
}

static void resize_view(char *p)
{
	verify(p, 0, 700, ORIGIN);
	verify(p, 700, 200, OWNER_ZERO);
	verify(p, 900, 10, ACTOR);
	check(read_faults(AT(1000)), "still mapped");
}
CASE(resize, 1)

/* mlock and munlock: what is locked is the actor's, and the count comes back. */
static void lock_act(char *p)
{
	long before = own_breaks(), locked;

	/* nothing is locked, and so nothing changes */
	check(!munlock(p, PAGES * PAGE), "munlock");
	check(plain || own_breaks() == before, "munlock has copied %ld tables",
	      own_breaks() - before);
	vmstat_refresh();
	before = vmstat("nr_mlock");
	if (mlock(AT(100), 600 * PAGE))
		skip_case("mlock: %s", strerror(errno));
	check(status_kb(0, "VmLck") >= 600 * 4, "VmLck %ld kB",
	      status_kb(0, "VmLck"));
	fill(p, 200, 10, ACTOR);
	check(!munlock(AT(100), 600 * PAGE), "munlock");
	vmstat_refresh();
	locked = vmstat("nr_mlock") - before;
	check(plain || locked <= 64, "nr_mlock is %ld higher after munlock", locked);
	check(!status_kb(0, "VmLck"), "VmLck %ld kB", status_kb(0, "VmLck"));
	before = own_breaks();
	check(!syscall(SYS_mlock2, AT(1030), 10 * PAGE, 1 /* MLOCK_ONFAULT */),
	      "mlock2: %s", strerror(errno));
	check(plain || own_breaks() == before + 1, "locked in a shared table");
}

static void lock_view(char *p)
{
	verify(p, 0, 200, ORIGIN);
	verify(p, 200, 10, ACTOR);
	verify(p, 210, PAGES - 210, ORIGIN);
}
CASE(lock, 2)

/* Advice that changes no data: cold, pageout, willneed, populate. */
static void advice_act(char *p)
{
	struct events before;

	madvise(AT(0), NR * BLOCK, MADV_COLD);
	madvise(AT(0), NR * BLOCK, MADV_PAGEOUT);
	madvise(AT(0), NR * BLOCK, MADV_WILLNEED);
	madvise(AT(0), NR * BLOCK, MADV_POPULATE_READ);
	verify(p, 0, PAGES, ORIGIN);
	events_get(&before);
	if (!madvise(AT(500), BLOCK + 30 * PAGE, MADV_POPULATE_WRITE))
		expect_events(&before, EV_BREAK, >=, 3);
}

static void advice_view(char *p)
{
	verify(p, 0, PAGES, ORIGIN);
}
CASE(advice, 0)

/*
 * When the child is gone the parent's tables are its own: MADV_PAGEOUT, which leaves
 * shared ones alone, pages out.
 */
static void dormant_advice(void)
{
	char *p = map_blocks(NR);
	struct events before;
	unsigned long i, out = 0;
	pid_t pid;

	if (!have_swap())
		skip_case("no swap");
	fill(p, 0, PAGES, ORIGIN);
	steps_reset();
	pid = fork_sharing(NR);
	if (!pid) {
		arrive(READY);
		await(DID, 1);
		verify(p, 0, PAGES, ORIGIN);
		done();
	}
	/* the child has broken what it cannot run without */
	await(READY, 1);
	events_get(&before);
	madvise(p, NR * BLOCK, MADV_PAGEOUT);
	for (i = 0; i < PAGES; i++)
		out += !!(pagemap(0, AT(i)) & PM_SWAP);
	expect_events(&before, EV_BREAK, ==, 0);
	check(plain || out == 0, "%lu pages of a shared table went to swap", out);
	arrive(DID);
	join(pid);
	events_get(&before);
	check(!madvise(p, NR * BLOCK, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	check(!madvise(AT(BLOCK_PAGES), BLOCK, MADV_COLLAPSE) ||
	      errno == EAGAIN || errno == ENOMEM,
	      "MADV_COLLAPSE: %s", strerror(errno));
	check(!madvise(p, NR * BLOCK, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
	check(!madvise(p, NR * BLOCK, MADV_PAGEOUT), "MADV_PAGEOUT");
	for (i = 0; i < PAGES; i++)
		out += !!(pagemap(0, AT(i)) & PM_SWAP);
	expect_events(&before, EV_REUSE, >=, (long)NR);
	check(out >= PAGES / 2, "only %lu pages went to swap", out);
	verify(p, 0, PAGES, ORIGIN);
	unmap_blocks(p, NR);
}

/* Huge pages collapsed from a shared block are the actor's alone, or none. */
static void collapse_act(char *p)
{
	long before;

	madvise(AT(0), NR * BLOCK, MADV_HUGEPAGE);
	before = own_breaks();
	/* EINVAL: fork has left no page that can be written without a copy */
	if (madvise(AT(512), BLOCK, MADV_COLLAPSE))
		check(errno == EAGAIN || errno == EINVAL, "MADV_COLLAPSE: %s",
		      strerror(errno));
	check(plain || own_breaks() == before + 1, "%ld tables were copied",
	      own_breaks() - before);
	madvise(AT(0), NR * BLOCK, MADV_NOHUGEPAGE);
	verify(p, 0, PAGES, ORIGIN);
	fill(p, 600, 20, ACTOR);
}

static void collapse_view(char *p)
{
	verify(p, 0, 600, ORIGIN);
	verify(p, 600, 20, ACTOR);
	verify(p, 620, PAGES - 620, ORIGIN);
}
CASE(collapse, 1)

/* Pages KSM may merge: a merge in one table is not one in the other. */
static void merge_act(char *p)
{
	if (madvise(AT(0), NR * BLOCK, MADV_MERGEABLE))
		skip_case("no KSM");
	madvise(AT(512), BLOCK, MADV_UNMERGEABLE);
}

static void merge_view(char *p)
{
	verify(p, 0, PAGES, ORIGIN);
}
CASE(merge, 0)

/*
 * MADV_DONTFORK and MADV_WIPEONFORK set on shared tables: the other sharer keeps
 * the memory, the next child has none of it, or zeroes.
 */
static void hidden_act(char *p)
{
	pid_t pid;

	check(!madvise(AT(100), 20 * PAGE, MADV_DONTFORK), "DONTFORK");
	check(!madvise(AT(1024), 20 * PAGE, MADV_WIPEONFORK), "WIPEONFORK");
	pid = fork_sharing(1);
	if (!pid) {
		check(read_faults(AT(100)) && read_faults(AT(119)),
		      "inherited DONTFORK memory");
		verify(p, 0, 100, ORIGIN);
		verify(p, 120, 904, ORIGIN);
		verify(p, 1024, 20, OWNER_ZERO);
		verify(p, 1044, PAGES - 1044, ORIGIN);
		fill(p, 0, 100, CHILD);
		fill(p, 1024, 20, CHILD);
		done();
	}
	join(pid);
	verify(p, 0, PAGES, ORIGIN);
}

static void hidden_view(char *p)
{
	verify(p, 0, PAGES, ORIGIN);
	check(!madvise(AT(100), 20 * PAGE, MADV_DOFORK), "DOFORK");
	check(!madvise(AT(1024), 20 * PAGE, MADV_KEEPONFORK), "KEEPONFORK");
}
CASE(hidden, 0)

/* userfaultfd registered on a shared block: copy into a hole, write-protect. */
static void uffd_act(char *p)
{
	static char buf[PAGE] __attribute__((aligned(4096)));
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, NR * BLOCK },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_copy copy = {
		.dst = (uintptr_t)AT(300), .src = (uintptr_t)buf, .len = PAGE,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)AT(1000), 100 * PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	long before = own_breaks();

	if (fd < 0)
		skip_case("userfaultfd: %s", strerror(errno));
	if (ioctl(fd, UFFDIO_API, &api))
		skip_case("userfaultfd without write protection");
	check(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	check(plain || own_breaks() == before + (long)NR, "registered and shared");
	check(!madvise(AT(300), PAGE, MADV_DONTNEED), "madvise");
	pattern_page(buf, 300, ACTOR);
	check(!ioctl(fd, UFFDIO_COPY, &copy), "UFFDIO_COPY");
	check(!ioctl(fd, UFFDIO_WRITEPROTECT, &wp), "UFFDIO_WRITEPROTECT");
	check(pagemap(0, AT(1000)) >> 57 & 1 && pagemap(0, AT(1099)) >> 57 & 1,
	      "not write-protected");
	check(!(pagemap(0, AT(999)) >> 57 & 1), "write-protected");
	wp.mode = 0;
	check(!ioctl(fd, UFFDIO_WRITEPROTECT, &wp), "UFFDIO_WRITEPROTECT");
	close(fd);
}

static void uffd_view(char *p)
{
	verify(p, 0, 300, ORIGIN);
	verify(p, 300, 1, ACTOR);
	verify(p, 301, PAGES - 301, ORIGIN);
}
CASE(uffd, 2)

/*
 * A mapping is armed, and then grows in place into a block that was shared before:
 * UFFDIO_COPY fills a hole of the shared table.
 */
static void uffd_grown(void)
{
	static char buf[PAGE] __attribute__((aligned(4096)));
	char *p = map_blocks(2);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, BLOCK },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_copy copy = {
		.dst = (uintptr_t)AT(BLOCK_PAGES), .src = (uintptr_t)buf, .len = PAGE,
	};
	struct events before;
	pid_t pid;
	int fd;

	fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		skip_case("userfaultfd: %s", strerror(errno));
	check(!ioctl(fd, UFFDIO_API, &api), "UFFDIO_API");
	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	check(!munmap(AT(BLOCK_PAGES), BLOCK / 2), "munmap");
	steps_reset();
	pid = fork_sharing(2);
	if (!pid) {
		await(DID, 1);
		check(mmap(AT(BLOCK_PAGES), BLOCK / 2, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		      MAP_FAILED, "mmap");
		verify(p, BLOCK_PAGES, BLOCK_PAGES / 2, OWNER_ZERO);
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		done();
	}
	check(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	check(mremap(p, BLOCK, BLOCK + 64 * PAGE, 0) == p, "mremap: %s",
	      strerror(errno));
	pattern_page(buf, BLOCK_PAGES, ACTOR);
	events_get(&before);
	check(!ioctl(fd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s", strerror(errno));
	expect_events(&before, EV_BREAK, >=, 1);
	verify(p, BLOCK_PAGES, 1, ACTOR);
	arrive(DID);
	join(pid);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	verify(p, BLOCK_PAGES, 1, ACTOR);
	close(fd);
	unmap_blocks(p, 2);
}

/* The same with PAGEMAP_SCAN, which leaves markers in empty entries. */
static void scan_grown(void)
{
	char *p = map_blocks(2);
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_ASYNC_WP | UFFD_WP_UNPOPULATED,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, BLOCK }, .mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct scan_arg scan = {
		.size = sizeof(scan), .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)AT(BLOCK_PAGES),
		.end = (uintptr_t)AT(BLOCK_PAGES + 64),
		.category_mask = SCAN_IS_WRITTEN, .return_mask = SCAN_IS_WRITTEN,
	};
	struct events before;
	int fd, map;
	pid_t pid;

	fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	map = open("/proc/self/pagemap", O_RDONLY);
	check(map >= 0, "pagemap");
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		skip_case("userfaultfd: %s", strerror(errno));
	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	check(!munmap(AT(BLOCK_PAGES), BLOCK / 2), "munmap");
	steps_reset();
	pid = fork_sharing(2);
	if (!pid) {
		await(DID, 1);
		check(mmap(AT(BLOCK_PAGES), BLOCK / 2, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		      MAP_FAILED, "mmap");
		check(!(pagemap(0, AT(BLOCK_PAGES)) >> 57 & 1),
		      "the child has the parent's marker");
		verify(p, BLOCK_PAGES, BLOCK_PAGES / 2, OWNER_ZERO);
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		done();
	}
	check(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	check(mremap(p, BLOCK, BLOCK + 64 * PAGE, 0) == p, "mremap: %s",
	      strerror(errno));
	events_get(&before);
	if (ioctl(map, PAGEMAP_SCAN_IOCTL, &scan) < 0)
		skip_case("PAGEMAP_SCAN: %s", strerror(errno));
	expect_events(&before, EV_BREAK, >=, 1);
	check(pagemap(0, AT(BLOCK_PAGES)) >> 57 & 1, "not write-protected");
	arrive(DID);
	join(pid);
	fill(p, BLOCK_PAGES, 64, ACTOR);
	verify(p, BLOCK_PAGES, 64, ACTOR);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	close(map);
	close(fd);
	unmap_blocks(p, 2);
}

/*
 * Page tables of hugetlb, which the kernel shares in a way of its own, beside ours:
 * two processes map the same huge page through one table of the level above.
 */
static void huge_neighbour(void)
{
	const char *path = "/proc/sys/vm/nr_hugepages";
	const unsigned long gib = 1UL << 30;
	volatile char *h;
	long old = read_long(path);
	char *p, *at;
	pid_t pid;
	int fd;

	if (old < 0 || write_file(path, "%ld", old + 4) || read_long(path) < old + 4) {
		write_file(path, "%ld", old);
		skip_case("no huge pages");
	}
	fd = memfd_create("cow_pte", MFD_HUGETLB);
	check(fd >= 0 && !ftruncate(fd, gib), "memfd_create: %s", strerror(errno));
	at = mmap(NULL, 3 * gib, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		  -1, 0);
	check(at != MAP_FAILED, "mmap");
	h = (char *)(((uintptr_t)at + gib - 1) & ~(gib - 1));
	/* an anonymous block just before it */
	p = (char *)h - BLOCK;
	check(mmap(p, BLOCK, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p, "mmap");
	madvise(p, BLOCK, MADV_NOHUGEPAGE);
	check(mmap((void *)h, gib, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) == h, "mmap");
	fill(p, 0, BLOCK_PAGES, ORIGIN);
	h[0] = 1;
	steps_reset();
	pid = fork_sharing(1);
	if (!pid) {
		check(h[0] == 1, "the child does not see the huge page");
		h[BLOCK] = 2;
		arrive(DID);
		await(WROTE, 1);
		check(h[2 * BLOCK] == 3, "the child does not see the second one");
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		check(!mprotect((void *)h, BLOCK, PROT_READ), "mprotect");
		done();
	}
	await(DID, 1);
	check(h[BLOCK] == 2, "the parent does not see the write");
	h[2 * BLOCK] = 3;
	fill(p, 0, 10, OTHER);
	arrive(WROTE);
	join(pid);
	h[0] = 4;
	verify(p, 0, 10, OTHER);
	verify(p, 10, BLOCK_PAGES - 10, ORIGIN);
	munmap(at, 3 * gib);
	close(fd);
	write_file(path, "%ld", old);
}

/* brk down into the middle of a shared block, and up again. */
static void heap(void)
{
	unsigned int round;

	for (round = 0; round < rounds(2); round++) {
		char *old = sbrk(0), *p, *end;
		pid_t pid;

		steps_reset();
		p = (char *)(((uintptr_t)old + BLOCK - 1) & ~(BLOCK - 1));
		end = p + NR * BLOCK;
		check(!brk(end), "brk");
		madvise(p, NR * BLOCK, MADV_NOHUGEPAGE);
		fill(p, 0, PAGES, ORIGIN);
		/* the last block may have to be copied: the heap ends in it */
		pid = fork_sharing(NR - 1);
		if ((pid == 0) == round % 2) {
			check(!brk(AT(700)), "brk");
			check(read_faults(AT(700)), "still mapped");
			check(!brk(AT(900)), "brk");
			verify(p, 0, 700, ORIGIN);
			verify(p, 700, 200, OWNER_ZERO);
			fill(p, 690, 20, ACTOR);
			arrive(DID);
			await(WROTE, 1);
			verify(p, 0, 690, ORIGIN);
			verify(p, 690, 20, ACTOR);
		} else {
			await(DID, 1);
			verify(p, 0, PAGES, ORIGIN);
			fill(p, 0, PAGES, OTHER);
			arrive(WROTE);
		}
		if (!pid)
			done();
		join(pid);
		check(!brk(old), "brk");
	}
}

/* mlockall of a child with shared tables, and of the parent. */
static void lock_all(void)
{
	unsigned int round;

	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(NR);
		pid_t pid;

		steps_reset();
		fill(p, 0, PAGES / 2, ORIGIN);
		pid = fork_sharing(1);
		if ((pid == 0) == round % 2) {
			if (mlockall(MCL_CURRENT))
				skip_case("mlockall: %s", strerror(errno));
			verify(p, 0, PAGES / 2, ORIGIN);
			fill(p, 0, PAGES, ACTOR);
			check(!munlockall(), "munlockall");
			arrive(DID);
		} else {
			await(DID, 1);
			verify(p, 0, PAGES / 2, ORIGIN);
			verify(p, PAGES / 2, PAGES / 2, OWNER_ZERO);
		}
		if (!pid)
			done();
		join(pid);
		unmap_blocks(p, NR);
	}
	vmstat_refresh();
}

/*
 * Memory that must not be shared, at and around the edges of blocks.  Blocks it
 * reaches into are copied, those it only touches at the edge are shared.
 */
enum kind { SHARED_MAP, DONTFORK, WIPEONFORK, LOCKED, KINDS };

static const struct geometry {
	unsigned short from, to;
	unsigned char shared;
} geometries[] = {
	{ 512, 1024, 2 }, { 511, 512, 2 }, { 512, 513, 2 }, { 511, 513, 1 },
	{ 1023, 1024, 2 }, { 1024, 1025, 2 }, { 0, 1, 2 }, { 1535, 1536, 2 },
	{ 500, 520, 1 }, { 256, 1280, 0 }, { 0, 512, 2 }, { 1024, 1536, 2 },
};

static void one_geometry(const struct geometry *g, enum kind kind)
{
	static const unsigned int in_child[] = { ORIGIN, 0, OWNER_ZERO, ORIGIN };
	unsigned int n = g->to - g->from, i;
	long background = background_shares(), shared;
	struct events before;
	char *p = map_blocks(NR);
	pid_t pid;

	switch (kind) {
	case SHARED_MAP:
		check(mmap(AT(g->from), n * PAGE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		      AT(g->from), "mmap");
		break;
	case DONTFORK:
		check(!madvise(AT(g->from), n * PAGE, MADV_DONTFORK), "madvise");
		break;
	case WIPEONFORK:
		check(!madvise(AT(g->from), n * PAGE, MADV_WIPEONFORK),
		      "madvise");
		break;
	case LOCKED:
		if (mlock(AT(g->from), n * PAGE))
			skip_case("mlock: %s", strerror(errno));
		break;
	default:
		break;
	}
	/* a few pages of each block, and those around the edges */
	for (i = 0; i < PAGES; i++)
		if (i % 32 < 2 || i % 32 == 31)
			fill(p, i, 1, ORIGIN);
	fill(p, g->from, 1, ORIGIN);
	fill(p, g->to - 1, 1, ORIGIN);
	events_get(&before);
	pid = xfork();
	if (!pid) {
		for (i = 0; i < PAGES; i++) {
			bool inside = i >= g->from && i < g->to;

			if (i % 32 >= 2 && i % 32 != 31)
				continue;
			if (inside && kind == DONTFORK) {
				check(read_faults(AT(i)), "page %u inherited", i);
				continue;
			}
			verify(p, i, 1, inside ? in_child[kind] : ORIGIN);
			fill(p, i, 1, CHILD);
		}
		done();
	}
	shared = event_delta(&before, EV_SHARE) - background;
	check(plain || shared == g->shared,
	      "kind %d, pages %u to %u: %ld blocks shared, expected %u", kind,
	      g->from, g->to, shared, g->shared);
	if (kind != DONTFORK || g->to - g->from > 2)
		expect_events(&before, EV_FB_VMA, >=,
			      kind == DONTFORK ? 0 : (long)(NR - g->shared));
	join(pid);
	for (i = 0; i < PAGES; i++) {
		bool inside = i >= g->from && i < g->to;

		if (i % 32 < 2 || i % 32 == 31)
			verify(p, i, 1, inside && kind == SHARED_MAP ? CHILD :
			       ORIGIN);
	}
	unmap_blocks(p, NR);
}

static void geometry_of(enum kind kind)
{
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(geometries); i++)
		one_geometry(&geometries[i], kind);
}

static void beside_shared_mapping(void)
{
	geometry_of(SHARED_MAP);
}

static void beside_dontfork(void)
{
	geometry_of(DONTFORK);
}

static void beside_wipeonfork(void)
{
	geometry_of(WIPEONFORK);
}

static void beside_locked(void)
{
	geometry_of(LOCKED);
}

/*
 * Several mappings that may all be shared, with boundaries at an edge of a block,
 * a page before, a page after, and in the middle: all blocks are shared, and each
 * mapping's pages are its own.
 */
static void many_mappings(void)
{
	static const unsigned int bounds[] = { 511, 512, 513, 700, 1023, 1024, 1025 };
	unsigned int i, round;

	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(NR);
		pid_t pid;

		fill(p, 0, PAGES, ORIGIN);
		/* every other piece is not dumped: an attribute that splits */
		for (i = 0; i + 1 < ARRAY_LEN(bounds); i += 2)
			check(!madvise(AT(bounds[i]),
				       (bounds[i + 1] - bounds[i]) * PAGE,
				       MADV_DONTDUMP), "madvise");
		check(!mprotect(AT(100), 10 * PAGE, PROT_READ), "mprotect");
		pid = fork_sharing(NR);
		if (!pid) {
			verify(p, 0, PAGES, ORIGIN);
			check(write_faults(AT(100)) && write_faults(AT(109)),
			      "writable");
			check(!munmap(AT(511), 2 * PAGE), "munmap");
			verify(p, 0, 511, ORIGIN);
			verify(p, 513, PAGES - 513, ORIGIN);
			check(read_faults(AT(511)) && read_faults(AT(512)),
			      "still mapped");
			fill(p, 1023, 2, CHILD);
			done();
		}
		join(pid);
		verify(p, 0, PAGES, ORIGIN);
		check(!munmap(AT(512), BLOCK), "munmap");
		verify(p, 0, 512, ORIGIN);
		verify(p, 1024, 512, ORIGIN);
		unmap_blocks(p, NR);
	}
}

/*
 * The private file under shared tables is truncated: both sides lose the pages
 * past the end, written or not, and only those; VmRSS of both follows.
 */
static void map_private_file(int fd, char **p)
{
	unsigned int i;

	*p = map_file_blocks(NR, fd);
	for (i = 0; i < PAGES; i++) {
		if (i % 3)
			read_pages(*p, i, 1);
		else
			fill(*p, i, 1, ORIGIN);
	}
}

static int memory_file(unsigned long pages, unsigned int owner)
{
	int fd = test_file_in("/dev/shm", pages, owner);

	return fd < 0 ? test_file(pages, owner) : fd;
}

#define RSS_FUZZ_KB	(64 * 4)

static void truncate_with(int (*make)(unsigned long, unsigned int))
{
	unsigned int round, i;

	for (round = 0; round < rounds(2); round++) {
		const unsigned int size = round % 2 ? 1024 : 600;
		int fd = make(PAGES, OTHER);
		struct events before;
		long rss[2];
		pid_t pid;
		char *p;

		steps_reset();
		map_private_file(fd, &p);
		pid = fork_sharing(NR);
		if (!pid) {
			arrive(DID);
			await(WROTE, 1);
			for (i = 0; i < size; i++)
				verify(p, i, 1, i % 3 ? OTHER : ORIGIN);
			check(read_faults(AT(size)) && read_faults(AT(1535)),
			      "there are pages past the end");
			fill(p, 0, size, CHILD);
			done();
		}
		await(DID, 1);
		rss[0] = status_kb(0, "VmRSS");
		rss[1] = status_kb(pid, "VmRSS");
		events_get(&before);
		check(!ftruncate(fd, size * PAGE), "ftruncate");
		expect_events(&before, EV_INPLACE, >=, 1);
		rss[0] -= status_kb(0, "VmRSS");
		rss[1] -= status_kb(pid, "VmRSS");
		/*
		 * What /proc shows may be off by a batch of the per-CPU
		 * counters; when an mm goes, the kernel checks the exact sum.
		 */
		check(labs(rss[0] - (long)(PAGES - size) * 4) <= RSS_FUZZ_KB,
		      "the parent's VmRSS fell by %ld kB", rss[0]);
		check(labs(rss[1] - (long)(PAGES - size) * 4) <= RSS_FUZZ_KB,
		      "the child's VmRSS fell by %ld kB", rss[1]);
		arrive(WROTE);
		join(pid);
		for (i = 0; i < size; i++)
			verify(p, i, 1, i % 3 ? OTHER : ORIGIN);
		check(read_faults(AT(size)) && read_faults(AT(1535)),
		      "there are pages past the end");
		check(!ftruncate(fd, PAGES * PAGE), "ftruncate");
		verify(p, size, PAGES - size, OWNER_ZERO);
		unmap_blocks(p, NR);
		close(fd);
	}
}

static void truncate_file(void)
{
	truncate_with(disk_file);
}

static void truncate_shmem(void)
{
	truncate_with(memory_file);
}

/*
 * What is unmapped is gone at once: a shared table that is let go leaves no translation
 * in the TLB.  The pages are read before, so that there is one, and at once after.
 */
static void gone_at_once(void)
{
	static const char *const ops[] = { "munmap", "mmap", "mremap", "MADV_DONTNEED" };
	unsigned int round, i, op;
	pid_t pid;

	for (round = 0; round < 5 * ARRAY_LEN(ops); round++) {
		char *p = map_blocks(NR), *q = map_blocks(NR);
		volatile char *page = AT(BLOCK_PAGES + 5);

		op = round % ARRAY_LEN(ops);
		fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
		steps_reset();
		pid = fork_sharing(2);
		if (!pid) {
			bool ok = false;

			for (i = 0; i < BLOCK_PAGES; i++)
				*(volatile char *)AT(BLOCK_PAGES + i);
			switch (op) {
			case 0:
				munmap(p, NR * BLOCK);
				ok = read_faults((char *)page);
				break;
			case 1:
				mmap(p, NR * BLOCK, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
				ok = !*page;
				break;
			case 2:
				mremap(p, NR * BLOCK, NR * BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, q);
				ok = read_faults((char *)page);
				break;
			case 3:
				madvise(p, NR * BLOCK, MADV_DONTNEED);
				ok = !*page;
			}
			check(ok, "a page could be read after %s", ops[op]);
			done();
		}
		join(pid);
		verify(p, 0, 2 * BLOCK_PAGES, ORIGIN);
		unmap_blocks(p, NR);
		unmap_blocks(q, NR);
	}
}

/*
 * The last two sharers leave at the same moment, and the file is truncated while
 * they do: as long as a page is mapped, truncation finds where.
 */
static void leave_and_truncate(void)
{
	unsigned int round, i, k;
	uint64_t state = seed;

	for (round = 0; round < rounds(4); round++) {
		int fd = round % 2 ? disk_file(PAGES, OTHER) :
				     memory_file(PAGES, OTHER);
		pid_t pid[2];
		char *p;

		steps_reset();
		map_private_file(fd, &p);
		for (k = 0; k < 2; k++) {
			unsigned int wait = rnd(&state) % 20000;

			pid[k] = fork_sharing(NR);
			if (!pid[k]) {
				spin_barrier(WROTE, 3);
				for (i = 0; i < wait; i++)
					__asm__ volatile("" ::: "memory");
				_exit(0);
			}
		}
		/* now the children are the only ones */
		unmap_blocks(p, NR);
		spin_barrier(WROTE, 3);
		for (i = rnd(&state) % 40000; i; i--)
			__asm__ volatile("" ::: "memory");
		check(!ftruncate(fd, 0), "ftruncate");
		join(pid[0]);
		join(pid[1]);
		close(fd);
	}
}

/*
 * A hole is punched in the private file: its pages read as zero on both sides, the
 * pages that were written stay.
 */
static void punch_hole(void)
{
	unsigned int round, i;

	for (round = 0; round < rounds(2); round++) {
		int fd = memory_file(PAGES, OTHER);
		struct events before;
		pid_t pid;
		char *p;

		steps_reset();
		map_private_file(fd, &p);
		pid = fork_sharing(NR);
		if (pid) {
			events_get(&before);
			if (fallocate(fd, FALLOC_FL_PUNCH_HOLE |
				      FALLOC_FL_KEEP_SIZE, 400 * PAGE,
				      300 * PAGE))
				skip_case("fallocate: %s", strerror(errno));
			expect_events(&before, EV_INPLACE, >=, 1);
			arrive(WROTE);
		}
		await(WROTE, 1);
		for (i = 0; i < PAGES; i++)
			verify(p, i, 1, !(i % 3) ? ORIGIN :
			       i >= 400 && i < 700 ? OWNER_ZERO : OTHER);
		barrier(LEAVE, 2);
		fill(p, 0, PAGES, pid ? ACTOR : CHILD);
		barrier(LEAVE, 2);
		verify(p, 0, PAGES, pid ? ACTOR : CHILD);
		if (!pid)
			done();
		join(pid);
		unmap_blocks(p, NR);
		close(fd);
	}
}

static const struct cow_case cases[] = {
	{ "mprotect", protect },
	{ "mprotect to PROT_NONE", protect_none },
	{ "MADV_DONTNEED of a page", drop_page },
	{ "MADV_DONTNEED of three pages", drop_three },
	{ "MADV_DONTNEED of a block", drop_block },
	{ "MADV_DONTNEED of blocks with unaligned ends", drop_many },
	{ "MADV_DONTNEED, written, dropped again", drop_and_write },
	{ "gone at once", gone_at_once },
	{ "MADV_FREE", madv_free },
	{ "munmap of pages with neighbours", unmap_pages },
	{ "munmap of blocks with unaligned ends", unmap_many },
	{ "munmap of a block", unmap_block },
	{ "mmap over pages", map_over },
	{ "mremap of pages to another shared block", move_pages },
	{ "mremap of a block to another shared block", move_block },
	{ "mremap of a block away and back", move_away },
	{ "mremap with MREMAP_DONTUNMAP", dontunmap },
	{ "mremap that shrinks and grows", resize },
	{ "mlock and munlock", lock },
	{ "mlockall", lock_all },
	{ "cold, pageout, willneed, populate", advice },
	{ "advice on a table that nobody else shares", dormant_advice },
	{ "collapse into huge pages", collapse },
	{ "KSM advice", merge },
	{ "DONTFORK and WIPEONFORK set after sharing", hidden },
	{ "userfaultfd", uffd },
	{ "userfaultfd on a mapping that grew", uffd_grown },
	{ "PAGEMAP_SCAN of a mapping that grew", scan_grown },
	{ "hugetlb beside a shared table", huge_neighbour },
	{ "brk", heap },
	{ "edges beside a shared mapping", beside_shared_mapping },
	{ "edges beside MADV_DONTFORK", beside_dontfork },
	{ "edges beside MADV_WIPEONFORK", beside_wipeonfork },
	{ "edges beside locked memory", beside_locked },
	{ "many mappings in a block", many_mappings },
	{ "truncate on disk", truncate_file },
	{ "truncate in memory", truncate_shmem },
	{ "punch a hole", punch_hole },
	{ "two leave while a file is truncated", leave_and_truncate },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
