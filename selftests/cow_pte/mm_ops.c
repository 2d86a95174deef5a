// SPDX-License-Identifier: GPL-2.0
/*
 * Operations on one process's memory while its page tables are shared: they change
 * that process only, and the pages they name only.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, ACTOR, OTHER, CHILD, THIRD };
enum { DID, WROTE, LEAVE, READY, LAST };

#define NR	3UL
#define PAGES	(NR * BLOCK_PAGES)
#define AT(n)	(p + (n) * PAGE)

/*
 * One sharer acts, two others look, and then write one after the other.  @view checks
 * what the actor must see, after its act and again after each of the others' writes.
 * They see nothing of the act.  Exactly @breaks tables are copied by it; -1 if that
 * cannot be told, because the act forks or works on all of the process's memory.
 */
struct act {
	void (*act)(char *p);
	void (*view)(char *p);
	long breaks;
};

static void every_nth(char *p, unsigned int n, unsigned int owner)
{
	unsigned int i;

	for (i = 0; i < PAGES; i += n)
		fill(p, i, 1, owner);
	for (i = 0; i < PAGES; i++)
		verify(p, i, 1, i % n ? ORIGIN : owner);
}

/* The grandchild. */
static void third_side(char *p)
{
	arrive(READY);
	await(DID, 1);
	verify(p, 0, PAGES, ORIGIN);
	await(WROTE, 1);
	verify(p, 0, PAGES, ORIGIN);
	check(plain || own_tables() >= (long)NR, "%ld tables are shared", own_tables());
	every_nth(p, 7, THIRD);
	arrive(LAST);
	done();
}

static void one_side(const struct act *a, bool child_acts)
{
	char *p = map_blocks(NR);
	pid_t pid, third = 0;
	long before, breaks;
	unsigned int i;

	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		third = fork_sharing(NR);
		if (!third)
			third_side(p);
	}
	await(READY, 1);
	check(plain || own_tables() >= (long)NR, "%ld tables are shared", own_tables());
	if ((pid == 0) == child_acts) {
		/* errno is in a table that is shared too, and is not meant */
		errno = 0;
		before = own_breaks();
		a->act(p);
		breaks = own_breaks() - before;
		check(plain || a->breaks < 0 || breaks == a->breaks,
		      "%ld tables were copied, expected %ld", breaks, a->breaks);
		a->view(p);
		arrive(DID);
		await(WROTE, 1);
		a->view(p);
		await(LAST, 1);
		a->view(p);
	} else {
		await(DID, 1);
		verify(p, 0, PAGES, ORIGIN);
		every_nth(p, 13, OTHER);
		arrive(WROTE);
		await(LAST, 1);
		for (i = 0; i < PAGES; i++)
			verify(p, i, 1, i % 13 ? ORIGIN : OTHER);
	}
	if (!pid) {
		join(third);
		done();
	}
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
 * For cases that need more than one_side(): a child and a grandchild that share memory
 * with the actor, look at all of it when they are told to, and write at the end.
 */
struct span {
	unsigned long first, nr;
};

static void fill_spans(char *p, const struct span *s, unsigned int owner)
{
	for (; s->nr; s++)
		fill(p, s->first, s->nr, owner);
}

static void verify_spans_at(int line, char *p, const struct span *s, unsigned int owner)
{
	for (; s->nr; s++)
		verify_at(__FILE__, line, p, s->first, s->nr, owner);
}

#define verify_spans(p, s, owner)	verify_spans_at(__LINE__, p, s, owner)

enum { SLOT_LAST };

static unsigned int looks;

static void look_on(char *p, const struct span *spans, void (*look)(char *p, bool last),
		    unsigned int owner)
{
	unsigned int n = 0;
	bool last;

	arrive(READY);
	do {
		await(DID, ++n);
		last = slots[SLOT_LAST];
		verify_spans(p, spans, ORIGIN);
		if (look)
			look(p, last);
		arrive(WROTE);
	} while (!last);
	fill_spans(p, spans, owner);
	verify_spans(p, spans, owner);
}

/* @spans are of ORIGIN for them, @look is for what else there is to see. */
static pid_t bystanders(char *p, unsigned long nr, const struct span *spans,
			void (*look)(char *p, bool last))
{
	pid_t pid, third;

	steps_reset();
	looks = 0;
	slots[SLOT_LAST] = 0;
	pid = fork_sharing(nr);
	if (!pid) {
		third = fork_sharing(nr);
		look_on(p, spans, look, third ? CHILD : THIRD);
		if (third)
			join(third);
		done();
	}
	await(READY, 2);
	check(plain || own_tables() >= (long)nr, "%ld tables are shared", own_tables());
	/* errno is in a table that is shared too, and is not meant by own_breaks() */
	errno = 0;
	return pid;
}

static void let_look(bool last)
{
	slots[SLOT_LAST] = last;
	arrive(DID);
	await(WROTE, 2 * ++looks);
	errno = 0;
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
CASE(protect, 3)

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
CASE(move_block, 1)

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
CASE(move_away, 1)

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

/*
 * To a hole in a block that is shared, which the kernel finds by a hint, so that nothing
 * is unmapped there before.
 */
#define GAP		(BLOCK_PAGES + 100)
#define GAP_PAGES	20UL

static void look_into_gap(char *p, bool last)
{
	check(read_faults(AT(GAP)) && read_faults(AT(GAP + GAP_PAGES - 1)),
	      "the hole is filled here too");
	if (!last)
		return;
	check(mmap(AT(GAP), GAP_PAGES * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == AT(GAP), "mmap");
	verify(p, GAP, GAP_PAGES, OWNER_ZERO);
}

static void move_into_hole(void)
{
	static const struct span spans[] = {
		{ 0, GAP }, { GAP + GAP_PAGES, 2 * BLOCK_PAGES - GAP - GAP_PAGES }, { }
	};
	const unsigned long from = 40;
	char *p = map_blocks(2), *ret;
	long before;
	pid_t pid;

	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	check(!munmap(AT(GAP), GAP_PAGES * PAGE), "munmap");
	pid = bystanders(p, 2, spans, look_into_gap);
	before = own_breaks();
	ret = mremap(AT(from), GAP_PAGES * PAGE, GAP_PAGES * PAGE,
		     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, AT(GAP));
	if (ret == MAP_FAILED && errno == EINVAL)
		skip_case("no MREMAP_DONTUNMAP");
	check(ret == AT(GAP), "moved to %p, not to %p", ret, AT(GAP));
	expect_own_breaks(before, 2);
	verify_moved(p, GAP, from, GAP_PAGES, ORIGIN);
	let_look(false);
	verify_moved(p, GAP, from, GAP_PAGES, ORIGIN);
	fill(p, GAP, GAP_PAGES, ACTOR);
	let_look(true);
	join(pid);
	verify(p, GAP, GAP_PAGES, ACTOR);
	verify(p, 0, from, ORIGIN);
	verify(p, from, GAP_PAGES, OWNER_ZERO);
	verify(p, from + GAP_PAGES, GAP - from - GAP_PAGES, ORIGIN);
	verify_spans(p, spans + 1, ORIGIN);
	unmap_blocks(p, 2);
}

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
CASE(lock, 3)

/* Advice that changes no data: cold, pageout, willneed, populate. */
static void advice_act(char *p)
{
	static const int advice[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_POPULATE_READ,
	};
	long before = own_breaks();
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(advice); i++)
		check(!madvise(AT(0), NR * BLOCK, advice[i]), "advice %d", advice[i]);
	/* refused, and not for want of a page: the guard behind is inaccessible */
	check(madvise(AT(PAGES - 1), 2 * PAGE, MADV_POPULATE_READ) && errno == EINVAL,
	      "MADV_POPULATE_READ of inaccessible memory");
	verify(p, 0, PAGES, ORIGIN);
	expect_own_breaks(before, 0);
	check(!madvise(AT(500), BLOCK + 30 * PAGE, MADV_POPULATE_WRITE),
	      "MADV_POPULATE_WRITE");
	expect_own_breaks(before, 3);
}

static void advice_view(char *p)
{
	verify(p, 0, PAGES, ORIGIN);
}
CASE(advice, 3)

/* MADV_PAGEOUT of tables that others share: nothing happens. */
static void advice_to_shared(char *p)
{
	unsigned long i, out = 0;
	struct events before;

	events_get(&before);
	madvise(p, NR * BLOCK, MADV_PAGEOUT);
	for (i = 0; i < PAGES; i++)
		out += !!(pagemap(0, AT(i)) & PM_SWAP);
	expect_events(&before, EV_BREAK, ==, 0);
	check(plain || out == 0, "%lu pages of a shared table went to swap", out);
	check(plain || own_tables() >= (long)NR, "%ld tables are shared", own_tables());
}

/*
 * When the grandchild is gone, and then the child, the parent's tables are its own:
 * MADV_PAGEOUT, which leaves shared ones alone, pages out.
 */
static void dormant_advice(void)
{
	char *p = map_blocks(NR);
	struct events before;
	unsigned long i, out = 0;
	pid_t pid, third;

	if (!have_swap())
		skip_case("no swap");
	fill(p, 0, PAGES, ORIGIN);
	steps_reset();
	pid = fork_sharing(NR);
	if (!pid) {
		third = fork_sharing(NR);
		arrive(READY);
		if (!third) {
			await(DID, 1);
			verify(p, 0, PAGES, ORIGIN);
			done();
		}
		join(third);
		verify(p, 0, PAGES, ORIGIN);
		arrive(WROTE);
		await(DID, 2);
		verify(p, 0, PAGES, ORIGIN);
		done();
	}
	/* they have broken what they cannot run without */
	await(READY, 2);
	advice_to_shared(p);
	arrive(DID);
	await(WROTE, 1);
	verify(p, 0, PAGES, ORIGIN);
	advice_to_shared(p);
	arrive(DID);
	join(pid);
	events_get(&before);
	check(!madvise(p, NR * BLOCK, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	check(!madvise(AT(BLOCK_PAGES), BLOCK, MADV_COLLAPSE) ||
	      errno == EAGAIN || errno == ENOMEM ||
	      /* an ordinary fork has left no page that can be written without a copy */
	      (plain && errno == EINVAL),
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
CASE(hidden, -1)

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
CASE(uffd, 3)

/*
 * A mapping is armed, and then grows in place into a block that was shared before:
 * PAGEMAP_SCAN leaves markers in empty entries of the shared table.
 */
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
	pid_t pid, third;

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
		third = fork_sharing(2);
		arrive(READY);
		await(DID, 1);
		check(mmap(AT(BLOCK_PAGES), BLOCK / 2, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		      MAP_FAILED, "mmap");
		check(!(pagemap(0, AT(BLOCK_PAGES)) >> 57 & 1),
		      "the parent's marker is here too");
		verify(p, BLOCK_PAGES, BLOCK_PAGES / 2, OWNER_ZERO);
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		if (third)
			join(third);
		done();
	}
	await(READY, 2);
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

/* ---- userfaultfd, more of it ---- */

/* Newer than some headers */
#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};

#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE	(1 << 16)
#endif
#ifndef UFFDIO_CONTINUE
struct uffdio_continue {
	struct uffdio_range range;
	__u64 mode;
	__s64 mapped;
};

#define UFFDIO_CONTINUE			_IOWR(UFFDIO, 0x07, struct uffdio_continue)
#define UFFDIO_REGISTER_MODE_MINOR	((__u64)1 << 2)
#endif
#ifndef UFFD_FEATURE_MINOR_SHMEM
#define UFFD_FEATURE_MINOR_SHMEM	(1 << 10)
#endif

static bool uffd_wp_bit(char *at)
{
	return pagemap(0, at) >> 57 & 1;
}

static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		skip_case("userfaultfd: %s", strerror(errno));
	if (ioctl(fd, UFFDIO_API, &api))
		skip_case("userfaultfd without feature %#llx: %s",
			  (unsigned long long)features, strerror(errno));
	return fd;
}

static void uffd_register(int fd, char *at, size_t len, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)at, len }, .mode = mode,
	};

	check(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
}

static int uffd_protect(int fd, char *at, size_t len, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)at, len },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp);
}

static int uffd_move(int fd, char *to, char *from, size_t len)
{
	struct uffdio_move move = {
		.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = len,
	};

	return ioctl(fd, UFFDIO_MOVE, &move);
}

static int uffd_copy(int fd, char *to, unsigned long page, unsigned int owner)
{
	static char buf[PAGE] __attribute__((aligned(4096)));
	struct uffdio_copy copy = {
		.dst = (uintptr_t)to, .src = (uintptr_t)buf, .len = PAGE,
	};

	pattern_page(buf, page, owner);
	return ioctl(fd, UFFDIO_COPY, &copy);
}

/*
 * UFFDIO_MOVE out of a block that is shared: the destination is armed, the source need
 * not be.  A page that others have too is refused, as after any fork, and the table is
 * copied before that is found out.  A page that was written since is moved.  A page of
 * zeroes is nobody's.
 */
static void uffd_move_from_shared(void)
{
	/* what is left is more than one folio of --thp */
	static const struct span spans[] = { { BLOCK_PAGES, BLOCK_PAGES - 32 }, { } };
	const unsigned long from = BLOCK_PAGES, zero = 2 * BLOCK_PAGES - 32;
	char *p = map_blocks(2);
	int fd = uffd_open(UFFD_FEATURE_MOVE);
	long before;
	pid_t pid;

	uffd_register(fd, p, BLOCK, UFFDIO_REGISTER_MODE_MISSING);
	fill_spans(p, spans, ORIGIN);
	read_pages(p, zero, 32);
	/* one that may be in swap: an entry of the table all the same */
	madvise(AT(from + 9), PAGE, MADV_PAGEOUT);
	pid = bystanders(p, 1, spans, NULL);
	before = own_breaks();
	check(uffd_move(fd, AT(3), AT(from + 3), PAGE) && errno == EBUSY,
	      "UFFDIO_MOVE of a page that others have");
	expect_own_breaks(before, 1);
	check(uffd_move(fd, AT(9), AT(from + 9), PAGE) && errno == EBUSY,
	      "UFFDIO_MOVE of a swap entry that others have");
	verify_spans(p, spans, ORIGIN);
	let_look(false);
	fill(p, from + 3, 1, ACTOR);
	check(!uffd_move(fd, AT(3), AT(from + 3), PAGE), "UFFDIO_MOVE: %s",
	      strerror(errno));
	check(page_is(AT(3), from + 3, ACTOR), "not moved");
	verify(p, from + 3, 1, OWNER_ZERO);
	check(!uffd_move(fd, AT(zero - from), AT(zero), PAGE),
	      "UFFDIO_MOVE of zeroes: %s", strerror(errno));
	verify(p, zero - from, 1, OWNER_ZERO);
	let_look(false);
	check(uffd_move(fd, AT(4), AT(from + 4), PAGE) && errno == EBUSY,
	      "UFFDIO_MOVE of a page that others have");
	let_look(true);
	join(pid);
	check(page_is(AT(3), from + 3, ACTOR), "not moved");
	verify(p, from, 3, ORIGIN);
	verify(p, from + 4, BLOCK_PAGES - 36, ORIGIN);
	close(fd);
	unmap_blocks(p, 2);
}

/*
 * The other ways to put entries where a mapping has grown into a block that was shared
 * before: its first block is armed, and it goes on in the hole of the second one.
 */
#define HOLE	BLOCK_PAGES
#define GROWN	64UL

static const struct span around_hole[] = {
	{ 0, BLOCK_PAGES }, { HOLE + BLOCK_PAGES / 2, BLOCK_PAGES / 2 }, { }
};

/* Nothing has come into the hole for the others: no page, no marker. */
static void look_into_hole(char *p, bool last)
{
	unsigned long i;

	check(mmap(AT(HOLE), BLOCK / 2, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == AT(HOLE), "mmap");
	for (i = 0; i < BLOCK_PAGES / 2; i++)
		check(!(pagemap(0, AT(HOLE + i)) & (PM_PRESENT | PM_SWAP | 1ULL << 57)),
		      "page %lu of the hole is there: %#llx", i,
		      (unsigned long long)pagemap(0, AT(HOLE + i)));
	if (last)
		verify(p, HOLE, BLOCK_PAGES / 2, OWNER_ZERO);
	check(!munmap(AT(HOLE), BLOCK / 2), "munmap");
}

static void uffd_in_hole(int file, uint64_t features, uint64_t mode,
			 void (*act)(char *p, int fd), void (*view)(char *p))
{
	int fd = uffd_open(features);
	char *p = file < 0 ? map_blocks(2) : map_file_blocks(2, file);
	long before;
	pid_t pid;

	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	check(!munmap(AT(HOLE), BLOCK / 2), "munmap");
	pid = bystanders(p, 2, around_hole, look_into_hole);
	before = own_breaks();
	uffd_register(fd, p, BLOCK, mode);
	check(mremap(p, BLOCK, BLOCK + GROWN * PAGE, 0) == p, "mremap: %s",
	      strerror(errno));
	expect_own_breaks(before, 1);
	act(p, fd);
	expect_own_breaks(before, 2);
	view(p);
	let_look(false);
	view(p);
	verify_spans(p, around_hole, ORIGIN);
	let_look(true);
	join(pid);
	view(p);
	verify_spans(p, around_hole, ORIGIN);
	close(fd);
	unmap_blocks(p, 2);
}

/* UFFDIO_COPY fills a part of the hole. */
static void copy_grown_act(char *p, int fd)
{
	char *from = map_blocks(1);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)AT(HOLE), .src = (uintptr_t)from, .len = 2 * PAGE,
	};

	pattern_page(from, HOLE, ACTOR);
	pattern_page(from + PAGE, HOLE + 1, ACTOR);
	check(!ioctl(fd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s", strerror(errno));
	unmap_blocks(from, 1);
}

static void copy_grown_view(char *p)
{
	verify(p, HOLE, 2, ACTOR);
}

static void uffd_grown(void)
{
	uffd_in_hole(-1, 0, UFFDIO_REGISTER_MODE_MISSING, copy_grown_act,
		     copy_grown_view);
}

static void move_grown_act(char *p, int fd)
{
	char *from = map_blocks(1);

	check(uffd_move(fd, AT(HOLE), AT(HOLE + 300), PAGE) && errno == EBUSY,
	      "UFFDIO_MOVE of a page that others have");
	pattern_page(from, HOLE, ACTOR);
	pattern_page(from + PAGE, HOLE + 1, ACTOR);
	check(!uffd_move(fd, AT(HOLE), from, 2 * PAGE), "UFFDIO_MOVE: %s",
	      strerror(errno));
	unmap_blocks(from, 1);
}

static void move_grown_view(char *p)
{
	verify(p, HOLE, 2, ACTOR);
}

static void uffd_move_grown(void)
{
	uffd_in_hole(-1, UFFD_FEATURE_MOVE, UFFDIO_REGISTER_MODE_MISSING,
		     move_grown_act, move_grown_view);
}

/* The first thing that UFFDIO_MOVE does to the block. */
static void move_first_act(char *p, int fd)
{
	char *from = map_blocks(1);

	pattern_page(from, HOLE + GROWN - 1, ACTOR);
	check(!uffd_move(fd, AT(HOLE + GROWN - 1), from, PAGE), "UFFDIO_MOVE: %s",
	      strerror(errno));
	unmap_blocks(from, 1);
}

static void move_first_view(char *p)
{
	verify(p, HOLE + GROWN - 1, 1, ACTOR);
}

static void uffd_move_to_grown(void)
{
	uffd_in_hole(-1, UFFD_FEATURE_MOVE, UFFDIO_REGISTER_MODE_MISSING,
		     move_first_act, move_first_view);
}

static void zero_grown_act(char *p, int fd)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)AT(HOLE), 2 * PAGE } };

	check(!ioctl(fd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE: %s",
	      strerror(errno));
}

static void zero_grown_view(char *p)
{
	check(pagemap(0, AT(HOLE + 1)) & PM_PRESENT, "no page");
	verify(p, HOLE, 2, OWNER_ZERO);
}

static void uffd_zero_grown(void)
{
	uffd_in_hole(-1, 0, UFFDIO_REGISTER_MODE_MISSING, zero_grown_act,
		     zero_grown_view);
}

static void protect_grown_act(char *p, int fd)
{
	long before = own_breaks();

	/* the shared table has nothing that could be taken away */
	check(!uffd_protect(fd, p, BLOCK + GROWN * PAGE, false),
	      "UFFDIO_WRITEPROTECT of nothing: %s", strerror(errno));
	expect_own_breaks(before, 0);
	check(!uffd_protect(fd, AT(HOLE), GROWN * PAGE, true),
	      "UFFDIO_WRITEPROTECT: %s", strerror(errno));
}

static void protect_grown_view(char *p)
{
	check(uffd_wp_bit(AT(HOLE)) && uffd_wp_bit(AT(HOLE + GROWN - 1)),
	      "not write-protected");
	check(!uffd_wp_bit(AT(HOLE - 1)), "write-protected");
}

static void uffd_protect_grown(void)
{
	uffd_in_hole(-1, UFFD_WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP,
		     UFFDIO_REGISTER_MODE_WP, protect_grown_act, protect_grown_view);
}

/*
 * A mapping that is armed for protection, then for missing pages, then not at all, is left
 * with entries that are protected, in swap too.  fork() does not pass that on: it copies.
 */
static void uffd_left_behind(void)
{
	int fd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	char *p = map_blocks(NR), *swapped = AT(BLOCK_PAGES + 9);
	struct uffdio_range range = { (uintptr_t)p, 2 * BLOCK };
	struct events before;
	pid_t pid;

	fill(p, 0, PAGES, ORIGIN);
	uffd_register(fd, p, 2 * BLOCK, UFFDIO_REGISTER_MODE_WP);
	check(!uffd_protect(fd, AT(70), PAGE, true) && !uffd_protect(fd, swapped, PAGE, true),
	      "UFFDIO_WRITEPROTECT: %s", strerror(errno));
	madvise(swapped, PAGE, MADV_PAGEOUT);
	uffd_register(fd, p, 2 * BLOCK, UFFDIO_REGISTER_MODE_MISSING);
	check(!ioctl(fd, UFFDIO_UNREGISTER, &range), "UFFDIO_UNREGISTER: %s", strerror(errno));
	if (!uffd_wp_bit(AT(70)) || !uffd_wp_bit(swapped))
		skip_case("this kernel leaves nothing behind");
	if (!(pagemap(0, swapped) & PM_SWAP))
		note("the second page is not in swap");
	events_get(&before);
	pid = fork_sharing(NR - 2);
	if (!pid) {
		check(!uffd_wp_bit(AT(70)) && !uffd_wp_bit(swapped),
		      "a page of the child is protected");
		verify(p, 0, PAGES, ORIGIN);
		fill(p, 70, 1, CHILD);
		fill(p, BLOCK_PAGES + 9, 1, CHILD);
		done();
	}
	expect_events(&before, EV_FB_ENTRY, ==, 2);
	join(pid);
	check(uffd_wp_bit(AT(70)) && uffd_wp_bit(swapped), "protection is gone");
	verify(p, 0, PAGES, ORIGIN);
	close(fd);
	unmap_blocks(p, NR);
}

/*
 * Who is killed while it copies tables for a system call stops there: it may be because
 * there is no memory.
 */
#define MANY	128UL

static void killed(void)
{
	char *p = map_blocks(MANY);
	struct events before;
	unsigned long i;
	int status;
	pid_t pid;

	if (plain || !delay_windows(20000, WINDOW_COPY))
		skip_case("no delays");
	for (i = 0; i < MANY; i++)
		fill(p, i * BLOCK_PAGES, 64, ORIGIN);
	events_get(&before);
	pid = fork_sharing(MANY);
	if (!pid) {
		mprotect(p, MANY * BLOCK, PROT_READ);
		fail("mprotect() came to its end");
	}
	/* the first ones may be of what else the two of them have in common */
	while (event_delta(&before, EV_BREAK) < 8)
		;
	check(!kill(pid, SIGKILL), "kill: %s", strerror(errno));
	status = join_status(pid);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "wait status %#x", status);
	/* all of them, for who goes on */
	expect_events(&before, EV_BREAK, <, (long)MANY);
	delay_windows(0, 0);
	for (i = 0; i < MANY; i++)
		verify(p, i * BLOCK_PAGES, 64, ORIGIN);
	unmap_blocks(p, MANY);
}

static void continue_grown_act(char *p, int fd)
{
	struct uffdio_continue cont = { .range = { (uintptr_t)AT(HOLE), 2 * PAGE } };

	if (ioctl(fd, UFFDIO_CONTINUE, &cont))
		skip_case("UFFDIO_CONTINUE in a private mapping: %s", strerror(errno));
}

static void continue_grown_view(char *p)
{
	verify(p, HOLE, 2, OTHER);
}

static void uffd_continue_grown(void)
{
	int file = memfd_create("cow_pte", 0);
	char buf[PAGE];
	unsigned long i;

	check(file >= 0, "memfd_create");
	for (i = 0; i < 2 * BLOCK_PAGES; i++) {
		pattern_page(buf, i, OTHER);
		check(pwrite(file, buf, PAGE, i * PAGE) == PAGE, "pwrite");
	}
	uffd_in_hole(file, UFFD_FEATURE_MINOR_SHMEM, UFFDIO_REGISTER_MODE_MINOR,
		     continue_grown_act, continue_grown_view);
	close(file);
}

/*
 * UFFDIO_WRITEPROTECT over several mappings: it ends, as ever, with ENOENT where the
 * first one is that is not armed, and that one stays shared.
 */
static void uffd_protect_several(void)
{
	static const struct span spans[] = { { 0, PAGES }, { } };
	int fd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	char *p = map_blocks(NR);
	long before, tables;
	pid_t pid;

	fill_spans(p, spans, ORIGIN);
	pid = bystanders(p, NR, spans, NULL);
	before = own_breaks();
	uffd_register(fd, p, BLOCK, UFFDIO_REGISTER_MODE_WP);
	uffd_register(fd, AT(2 * BLOCK_PAGES), BLOCK, UFFDIO_REGISTER_MODE_WP);
	expect_own_breaks(before, 2);
	tables = own_tables();

	check(uffd_protect(fd, p, NR * BLOCK, true) && errno == ENOENT,
	      "the armed ones at both ends");
	check(uffd_wp_bit(AT(0)) && uffd_wp_bit(AT(BLOCK_PAGES - 1)),
	      "not write-protected");
	check(!uffd_wp_bit(AT(BLOCK_PAGES)) && !uffd_wp_bit(AT(2 * BLOCK_PAGES)),
	      "write-protected");
	check(uffd_protect(fd, AT(BLOCK_PAGES), 2 * BLOCK, true) && errno == ENOENT,
	      "the armed one behind");
	check(!uffd_wp_bit(AT(2 * BLOCK_PAGES)), "write-protected");
	check(uffd_protect(fd, AT(BLOCK_PAGES + 100), 10 * PAGE, true) &&
	      errno == ENOENT, "none armed");
	check(uffd_protect(fd, p, NR * BLOCK, false) && errno == ENOENT,
	      "protection taken away");
	check(!uffd_wp_bit(AT(0)), "write-protected");
	expect_own_breaks(before, 2);
	check(own_tables() == tables, "%ld tables are shared, before %ld", own_tables(),
	      tables);
	let_look(false);
	fill(p, 0, 10, ACTOR);
	fill(p, BLOCK_PAGES, 10, ACTOR);
	let_look(true);
	join(pid);
	verify(p, 0, 10, ACTOR);
	verify(p, 10, BLOCK_PAGES - 10, ORIGIN);
	verify(p, BLOCK_PAGES, 10, ACTOR);
	verify(p, BLOCK_PAGES + 10, PAGES - BLOCK_PAGES - 10, ORIGIN);
	close(fd);
	unmap_blocks(p, NR);
}

static int uffd_event(int fd, struct uffd_msg *msg)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int tries;

	for (tries = 0; tries < 600; tries++)
		if (poll(&poll_fd, 1, 100) == 1)
			break;
	check(read(fd, msg, sizeof(*msg)) == sizeof(*msg), "no event");
	return msg->event;
}

static void *take_fork(void *arg)
{
	struct uffd_msg msg;
	int fd = *(int *)arg, *child = arg;

	check(uffd_event(fd, &msg) == UFFD_EVENT_FORK, "event %#x", msg.event);
	*child = msg.arg.fork.ufd;
	return NULL;
}

static void look_into_child_hole(char *p)
{
	look_into_hole(p - BLOCK, true);
}

/*
 * A fork that the userfaultfd is told of, beside shared blocks: the child gets one of
 * its own, and the parent fills the child's memory with it, also where the child's
 * mapping has grown into a block that both share.
 */
static void uffd_event_fork(void)
{
	/* the end of the second block is armed, the third begins with a hole */
	const unsigned long armed = 2 * BLOCK_PAGES - 100, hole = 2 * BLOCK_PAGES;
	char *p = map_blocks(NR);
	int fd = uffd_open(UFFD_FEATURE_EVENT_FORK), child;
	struct events before;
	struct uffd_msg msg;
	pthread_t thread;
	long breaks;
	pid_t pid;

	fill(p, 0, armed + 20, ORIGIN);
	fill(p, hole + BLOCK_PAGES / 2, BLOCK_PAGES / 2, ORIGIN);
	check(!munmap(AT(hole), BLOCK / 2), "munmap");
	uffd_register(fd, AT(armed), 100 * PAGE, UFFDIO_REGISTER_MODE_MISSING);
	steps_reset();
	child = fd;
	check(!pthread_create(&thread, NULL, take_fork, &child), "pthread_create");
	events_get(&before);
	pid = fork_sharing(2);
	if (!pid) {
		verify(p, 0, armed + 20, ORIGIN);
		check(mremap(AT(armed), 100 * PAGE, (100 + GROWN) * PAGE, 0) == AT(armed),
		      "mremap: %s", strerror(errno));
		check(plain || own_tables() >= 2, "%ld tables are shared", own_tables());
		errno = 0;
		breaks = own_breaks();
		/* the parent brings both pages */
		verify(p, armed + 50, 1, ACTOR);
		expect_own_breaks(breaks, 0);
		verify(p, hole + 1, 1, ACTOR);
		expect_own_breaks(breaks, 1);
		fill(p, 0, 10, CHILD);
		fill(p, armed, 10, CHILD);
		verify(p, 10, armed - 10, ORIGIN);
		verify(p, hole + BLOCK_PAGES / 2, BLOCK_PAGES / 2, ORIGIN);
		done();
	}
	expect_events(&before, EV_FB_VMA, >=, 1);
	pthread_join(thread, NULL);
	check(child != fd, "no userfaultfd of the child");
	check(uffd_event(child, &msg) == UFFD_EVENT_PAGEFAULT &&
	      (char *)(uintptr_t)msg.arg.pagefault.address == AT(armed + 50),
	      "event %#x", msg.event);
	/* not armed, and so not touched */
	check(uffd_copy(child, AT(5), 5, ACTOR) && errno == ENOENT,
	      "UFFDIO_COPY where nothing is armed");
	check(!uffd_copy(child, AT(armed + 50), armed + 50, ACTOR), "UFFDIO_COPY: %s",
	      strerror(errno));
	check(uffd_event(child, &msg) == UFFD_EVENT_PAGEFAULT &&
	      (char *)(uintptr_t)msg.arg.pagefault.address == AT(hole + 1),
	      "event %#x", msg.event);
	check(!uffd_copy(child, AT(hole + 1), hole + 1, ACTOR), "UFFDIO_COPY: %s",
	      strerror(errno));
	join(pid);
	verify(p, 0, armed + 20, ORIGIN);
	verify(p, hole + BLOCK_PAGES / 2, BLOCK_PAGES / 2, ORIGIN);
	look_into_child_hole(AT(hole));
	close(child);
	close(fd);
	unmap_blocks(p, NR);
}

/* Address space of whole entries of the level that covers a GiB. */
#define GIB	(1UL << 30)

static char *reserve_gib(unsigned long nr, char **at)
{
	char *p = mmap(NULL, (nr + 1) * GIB, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	check(p != MAP_FAILED, "mmap of %lu GiB", nr + 1);
	*at = p;
	return (char *)(((uintptr_t)p + GIB - 1) & ~(GIB - 1));
}

/*
 * UFFDIO_WRITEPROTECT of a GiB, again and again, while memory comes there, is shared,
 * and goes with all its page tables.  Some of it is armed.  KASAN sees who walks page
 * tables that are being freed.
 */
static struct {
	char *at;
	int fd;
	bool stop;
	unsigned long rounds;
} storm;

static void *protect_on_and_on(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&storm.stop, __ATOMIC_SEQ_CST)) {
		check(!uffd_protect(storm.fd, storm.at, GIB, storm.rounds % 2) ||
		      errno == ENOENT || errno == EAGAIN, "UFFDIO_WRITEPROTECT");
		__atomic_add_fetch(&storm.rounds, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void uffd_protect_storm(void)
{
	const unsigned long used = 48;
	unsigned int round, i, nr;
	uint64_t state = seed;
	pthread_t thread;
	unsigned long seen;
	char *all, *g, *p;
	pid_t pid;

	storm.fd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	g = reserve_gib(3, &all) + GIB;
	storm.at = g;
	/* its stack must not come to lie there */
	check(!pthread_create(&thread, NULL, protect_on_and_on, NULL), "pthread_create");
	check(!munmap(g, GIB), "munmap");
	for (round = 0; round < rounds(60); round++) {
		nr = 1 + rnd(&state) % 3;
		p = g + rnd(&state) % (GIB / BLOCK - nr) * BLOCK;
		check(mmap(p, nr * BLOCK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p, "mmap");
		if (!large_folios)
			madvise(p, nr * BLOCK, MADV_NOHUGEPAGE);
		for (i = 0; i < nr; i++)
			fill(p, i * BLOCK_PAGES, used, ORIGIN);
		steps_reset();
		pid = fork_sharing(nr);
		if (!pid) {
			for (i = 0; i < nr; i++)
				verify(p, i * BLOCK_PAGES, used, ORIGIN);
			await(DID, 1);
			for (i = 0; i < nr; i++) {
				verify(p, i * BLOCK_PAGES, used, ORIGIN);
				fill(p, i * BLOCK_PAGES, used / 2, CHILD);
				verify(p, i * BLOCK_PAGES, used / 2, CHILD);
			}
			done();
		}
		if (round % 2)
			uffd_register(storm.fd, p, BLOCK, UFFDIO_REGISTER_MODE_WP);
		seen = __atomic_load_n(&storm.rounds, __ATOMIC_SEQ_CST);
		for (i = 0; i < nr; i++)
			verify(p, i * BLOCK_PAGES, used, ORIGIN);
		/* let it be at work in some of the rounds when all goes */
		while (round % 4 < 2 &&
		       __atomic_load_n(&storm.rounds, __ATOMIC_SEQ_CST) == seen)
			sched_yield();
		check(!munmap(g, GIB), "munmap");
		arrive(DID);
		join(pid);
	}
	__atomic_store_n(&storm.stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	note("%lu times over the GiB in %u rounds", storm.rounds, round);
	close(storm.fd);
	munmap(all, 4 * GIB);
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
		pid_t pid, third;
		long before;

		steps_reset();
		p = (char *)(((uintptr_t)old + BLOCK - 1) & ~(BLOCK - 1));
		end = p + NR * BLOCK;
		check(!brk(end), "brk");
		madvise(p, NR * BLOCK, MADV_NOHUGEPAGE);
		fill(p, 0, PAGES, ORIGIN);
		/* the last block may have to be copied: the heap ends in it */
		pid = fork_sharing(NR - 1);
		third = pid ? 0 : fork_sharing(NR - 1);
		barrier(READY, 3);
		if ((pid == 0) == round % 2 && (pid || third)) {
			errno = 0;
			before = own_breaks();
			check(!brk(AT(700)), "brk");
			expect_own_breaks(before, 1);
			check(read_faults(AT(700)), "still mapped");
			check(!brk(AT(900)), "brk");
			verify(p, 0, 700, ORIGIN);
			verify(p, 700, 200, OWNER_ZERO);
			fill(p, 690, 20, ACTOR);
			arrive(DID);
			await(WROTE, 2);
			verify(p, 0, 690, ORIGIN);
			verify(p, 690, 20, ACTOR);
			verify(p, 710, 190, OWNER_ZERO);
		} else {
			unsigned int owner = pid || third ? OTHER : THIRD;

			await(DID, 1);
			verify(p, 0, PAGES, ORIGIN);
			barrier(LEAVE, 2);
			fill(p, 0, PAGES, owner);
			barrier(LEAVE, 2);
			verify(p, 0, PAGES, owner);
			arrive(WROTE);
		}
		if (third)
			join(third);
		if (!pid)
			done();
		join(pid);
		check(!brk(old), "brk");
	}
}

/* What is locked in the system, exactly. */
static long locked_pages(void)
{
	vmstat_refresh();
	return vmstat("nr_mlock");
}

/* munlock lets go of pages in batches */
#define LOCK_FUZZ	64

/*
 * nr_mlock is the whole system's, which in plain mode is not ours alone.  A large folio
 * that is locked in part counts as a whole or not at all.
 */
static void check_locked(long before, long at_least, long at_most)
{
	long now = locked_pages() - before, fuzz = large_folios ? LOCK_FUZZ : 0;

	check(plain || (now >= at_least - fuzz && now - fuzz <= at_most),
	      "nr_mlock rose by %ld, expected %ld to %ld", now, at_least, at_most);
}

/*
 * mlockall: all tables of the process become its own, and all that is locked is its
 * own.
 */
static void lock_all_now(char *p, int flags)
{
	long tables, before, locked, breaks;

	tables = own_tables();
	before = own_breaks();
	locked = locked_pages();
	if (flags & MCL_ONFAULT)
		check(!madvise(AT(700), PAGE, MADV_DONTNEED), "madvise");
	if (mlockall(flags))
		skip_case("mlockall: %s", strerror(errno));
	breaks = own_breaks() - before;
	/* a table that the others have left is taken back without a copy */
	check(plain || (breaks >= (long)NR && breaks <= tables),
	      "%ld tables of %ld were copied", breaks, tables);
	check(own_tables() == 0, "%ld tables are shared", own_tables());
	check(status_kb(0, "VmLck") >= (long)PAGES * 4, "VmLck %ld kB",
	      status_kb(0, "VmLck"));
	check_locked(locked, PAGES - 1, LONG_MAX);
	verify(p, 0, 600, ORIGIN);
	fill(p, 200, 10, ACTOR);
	check(!munlockall(), "munlockall");
	check(!status_kb(0, "VmLck"), "VmLck %ld kB", status_kb(0, "VmLck"));
	check_locked(locked, -LOCK_FUZZ, LOCK_FUZZ);
}

static void lock_all_act(char *p)
{
	lock_all_now(p, MCL_CURRENT);
}

static void lock_all_view(char *p)
{
	verify(p, 0, 200, ORIGIN);
	verify(p, 200, 10, ACTOR);
	verify(p, 210, PAGES - 210, ORIGIN);
}
CASE(lock_all, -1)

/* MCL_ONFAULT: what is there is locked, and nothing is brought in. */
static void lock_on_fault_act(char *p)
{
	lock_all_now(p, MCL_CURRENT | MCL_ONFAULT);
	check(!(pagemap(0, AT(700)) & (PM_PRESENT | PM_SWAP)), "page 700 is there");
}

static void lock_on_fault_view(char *p)
{
	verify(p, 0, 200, ORIGIN);
	verify(p, 200, 10, ACTOR);
	verify(p, 210, 490, ORIGIN);
	verify(p, 700, 1, OWNER_ZERO);
	verify(p, 701, PAGES - 701, ORIGIN);
}
CASE(lock_on_fault, -1)

/* mlock2: the same for a range. */
static void lock_range_act(char *p)
{
	long locked, before;

	check(!madvise(AT(650), PAGE, MADV_DONTNEED), "madvise");
	locked = locked_pages();
	before = own_breaks();
	if (syscall(SYS_mlock2, AT(100), 600 * PAGE, 1 /* MLOCK_ONFAULT */))
		skip_case("mlock2: %s", strerror(errno));
	expect_own_breaks(before, 1);
	check(status_kb(0, "VmLck") == 600 * 4, "VmLck %ld kB", status_kb(0, "VmLck"));
	check_locked(locked, 599, 599);
	check(!(pagemap(0, AT(650)) & (PM_PRESENT | PM_SWAP)), "page 650 is there");
	fill(p, 650, 1, ACTOR);
	check_locked(locked, 600, 600);
	fill(p, 200, 10, ACTOR);
	check(!munlock(AT(100), 600 * PAGE), "munlock");
	check(!status_kb(0, "VmLck"), "VmLck %ld kB", status_kb(0, "VmLck"));
	check_locked(locked, -LOCK_FUZZ, LOCK_FUZZ);
}

static void lock_range_view(char *p)
{
	verify(p, 0, 200, ORIGIN);
	verify(p, 200, 10, ACTOR);
	verify(p, 210, 440, ORIGIN);
	verify(p, 650, 1, ACTOR);
	verify(p, 651, PAGES - 651, ORIGIN);
}
CASE(lock_range, 2)

/*
 * MCL_FUTURE: what is mapped into the hole of a shared block is locked, at once or when
 * it is touched, and its neighbours are not.
 */
static void lock_future(void)
{
	unsigned int round;

	for (round = 0; round < 2; round++) {
		const int flags = MCL_FUTURE | (round ? MCL_ONFAULT : 0);
		char *p = map_blocks(2);
		long before, locked;
		unsigned long i;
		pid_t pid;

		fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
		check(!munmap(AT(HOLE), BLOCK / 2), "munmap");
		pid = bystanders(p, 2, around_hole, look_into_hole);
		locked = locked_pages();
		before = own_breaks();
		if (mlockall(flags))
			skip_case("mlockall: %s", strerror(errno));
		expect_own_breaks(before, 0);
		check(mmap(AT(HOLE), GROWN * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == AT(HOLE),
		      "mmap: %s", strerror(errno));
		check(status_kb(0, "VmLck") == (long)GROWN * 4, "VmLck %ld kB",
		      status_kb(0, "VmLck"));
		if (round) {
			expect_own_breaks(before, 0);
			check_locked(locked, 0, 0);
			check(!(pagemap(0, AT(HOLE)) & PM_PRESENT), "is there");
			fill(p, HOLE, GROWN, ACTOR);
		} else {
			for (i = 0; i < GROWN; i++)
				check(pagemap(0, AT(HOLE + i)) & PM_PRESENT,
				      "page %lu is not there", i);
		}
		expect_own_breaks(before, 1);
		check_locked(locked, GROWN, GROWN);
		let_look(false);
		fill(p, HOLE, GROWN, ACTOR);
		verify_spans(p, around_hole, ORIGIN);
		check(!munlockall(), "munlockall");
		check(!status_kb(0, "VmLck"), "VmLck %ld kB", status_kb(0, "VmLck"));
		check_locked(locked, -LOCK_FUZZ, LOCK_FUZZ);
		let_look(true);
		join(pid);
		verify(p, HOLE, GROWN, ACTOR);
		verify_spans(p, around_hole, ORIGIN);
		unmap_blocks(p, 2);
	}
}

/*
 * MADV_WILLNEED of a shared block whose pages are in swap: they come into memory, and
 * the table still says swap.
 */
static unsigned long in_swap(char *p, unsigned long pages, bool and_in_memory)
{
	unsigned char there[2 * BLOCK_PAGES];
	unsigned long i, n = 0;

	check(!mincore(p, pages * PAGE, there), "mincore");
	for (i = 0; i < pages; i++)
		n += pagemap(0, AT(i)) & PM_SWAP && (there[i] & 1 || !and_in_memory);
	return n;
}

static void will_need(void)
{
	static const struct span spans[] = { { 0, 2 * BLOCK_PAGES }, { } };
	unsigned long swapped, there, tries;
	char *p = map_blocks(2);
	long before, tables;
	pid_t pid;

	if (!have_swap())
		skip_case("no swap");
	fill_spans(p, spans, ORIGIN);
	check(!madvise(p, 2 * BLOCK, MADV_PAGEOUT), "MADV_PAGEOUT");
	swapped = in_swap(p, 2 * BLOCK_PAGES, false);
	check(swapped >= BLOCK_PAGES, "only %lu pages went to swap", swapped);
	pid = bystanders(p, 2, spans, NULL);
	there = in_swap(p, 2 * BLOCK_PAGES, true);
	check(there < swapped / 2, "%lu pages of %lu are in memory before", there, swapped);
	tables = own_tables();
	before = own_breaks();
	check(!madvise(p, 2 * BLOCK, MADV_WILLNEED), "MADV_WILLNEED");
	for (tries = 0; tries < 1000; tries++) {
		there = in_swap(p, 2 * BLOCK_PAGES, true);
		if (there == swapped)
			break;
		usleep(1000);
	}
	check(there == swapped, "%lu of %lu pages came into memory", there, swapped);
	expect_own_breaks(before, 0);
	check(own_tables() == tables, "%ld tables are shared, before %ld", own_tables(),
	      tables);
	let_look(false);
	verify_spans(p, spans, ORIGIN);
	fill(p, 0, 100, ACTOR);
	let_look(true);
	join(pid);
	verify(p, 0, 100, ACTOR);
	verify(p, 100, 2 * BLOCK_PAGES - 100, ORIGIN);
	unmap_blocks(p, 2);
}

/* MADV_POPULATE_READ copies a table if it brings something in, and only then. */
static void populate_read(void)
{
	static const struct span spans[] = {
		{ 0, BLOCK_PAGES }, { BLOCK_PAGES + 32, BLOCK_PAGES - 32 }, { }
	};
	char *p = map_blocks(2);
	unsigned long i;
	long before;
	pid_t pid;

	fill_spans(p, spans, ORIGIN);
	pid = bystanders(p, 2, spans, NULL);
	before = own_breaks();
	check(!madvise(p, BLOCK, MADV_POPULATE_READ), "MADV_POPULATE_READ");
	check(!madvise(AT(BLOCK_PAGES + 32), BLOCK - 32 * PAGE, MADV_POPULATE_READ),
	      "MADV_POPULATE_READ");
	expect_own_breaks(before, 0);
	check(!madvise(p, 2 * BLOCK, MADV_POPULATE_READ), "MADV_POPULATE_READ");
	expect_own_breaks(before, 1);
	for (i = 0; i < 32; i++)
		check(pagemap(0, AT(BLOCK_PAGES + i)) & PM_PRESENT,
		      "page %lu is not there", i);
	let_look(false);
	check(!madvise(AT(BLOCK_PAGES), BLOCK, MADV_POPULATE_WRITE),
	      "MADV_POPULATE_WRITE");
	expect_own_breaks(before, 1);
	fill(p, BLOCK_PAGES, 32, ACTOR);
	let_look(false);
	check(!madvise(p, PAGE, MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE");
	expect_own_breaks(before, 2);
	let_look(true);
	join(pid);
	verify_spans(p, spans, ORIGIN);
	verify(p, BLOCK_PAGES, 32, ACTOR);
	unmap_blocks(p, 2);
}

/*
 * mremap of a whole GiB moves a page of PMD entries, and with it what is known of the
 * tables' sharers.  Then the moved tables are shared again, and their sharers leave in
 * any order.
 */
static void move_gib(void)
{
	static const unsigned char orders[][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
	};
	static const struct span two[] = {
		{ 0, BLOCK_PAGES }, { GIB / PAGE - BLOCK_PAGES, BLOCK_PAGES }, { }
	}, one[] = { { GIB / PAGE - BLOCK_PAGES, BLOCK_PAGES }, { } };
	char *all, *from = reserve_gib(4, &all), *to = from + 2 * GIB;
	unsigned int round, i, rank;

	for (round = 0; round < ARRAY_LEN(orders); round++) {
		const struct span *spans = round % 2 ? one : two;
		const long nr = round % 2 ? 1 : 2;
		char *p = from;
		pid_t child;
		long before;

		check(mmap(p, GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			   MAP_NORESERVE | MAP_FIXED, -1, 0) == p, "mmap");
		if (!large_folios)
			madvise(p, GIB, MADV_NOHUGEPAGE);
		fill_spans(p, spans, ORIGIN);
		steps_reset();
		child = fork_sharing(nr);
		if (!child) {
			unsigned int who = 0;

			slots[0] = getpid();
			if (!fork_sharing(nr)) {
				who = 1;
				slots[1] = getpid();
			}
			arrive(READY);
			await(DID, 1);
			verify_spans(p, spans, ORIGIN);
			/* the child moves as well, the grandchild stays */
			if (!who && round >= 3) {
				check(mremap(p, GIB, GIB, MREMAP_MAYMOVE | MREMAP_FIXED,
					     to) == to, "mremap");
				p = to;
				verify_spans(p, spans, ORIGIN);
			}
			arrive(WROTE);
			for (rank = 0; orders[round][rank] != who; rank++)
				;
			await(LEAVE, rank + 1);
			verify_spans(p, spans, ORIGIN);
			fill_spans(p, spans, who ? THIRD : CHILD);
			verify_spans(p, spans, who ? THIRD : CHILD);
			done();
		}
		await(READY, 2);
		errno = 0;
		check(plain || own_tables() >= nr, "%ld tables are shared", own_tables());
		before = own_breaks();
		p = mremap(from, GIB, GIB, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		check(p == to, "mremap");
		expect_own_breaks(before, nr);
		verify_spans(p, spans, ORIGIN);
		check(read_faults(from) && read_faults(from + GIB - PAGE), "still mapped");
		/* once more from the new place */
		child = fork_sharing(nr);
		if (!child) {
			slots[2] = getpid();
			arrive(READY);
			for (rank = 0; orders[round][rank] != 2; rank++)
				;
			await(LEAVE, rank + 1);
			verify_spans(p, spans, ORIGIN);
			fill_spans(p, spans, OTHER);
			verify_spans(p, spans, OTHER);
			done();
		}
		await(READY, 3);
		arrive(DID);
		await(WROTE, 2);
		for (i = 0; i < 3; i++) {
			arrive(LEAVE);
			wait_gone(slots[orders[round][i]]);
			verify_spans(p, spans, ORIGIN);
		}
		join(slots[0]);
		join(child);
		fill_spans(p, spans, ACTOR);
		verify_spans(p, spans, ACTOR);
		check(!munmap(p, GIB), "munmap");
	}
	munmap(all, 5 * GIB);
}

/*
 * What is mapped into the hole of a shared block and unmapped untouched has no entry
 * there: nothing is copied for it.
 */
static void unmap_untouched(void)
{
	static const char *const kinds[] = {
		"private", "shared", "file", "map over", "shm",
	};
	const size_t len = GROWN * PAGE;
	char *p = map_blocks(2), *at = AT(HOLE + 10);
	int fd = test_file(GROWN, OTHER), id;
	unsigned int kind;
	long before;
	pid_t pid;

	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	check(!munmap(AT(HOLE), BLOCK / 2), "munmap");
	pid = bystanders(p, 2, around_hole, look_into_hole);
	before = own_breaks();
	for (kind = 0; kind < ARRAY_LEN(kinds); kind++) {
		int flags = MAP_FIXED | (kind == 1 ? MAP_SHARED : MAP_PRIVATE) |
			    (kind == 2 ? 0 : MAP_ANONYMOUS);

		if (kind == 4) {
			id = shmget(IPC_PRIVATE, len, 0600);
			if (id < 0) {
				note("shmget: %s", strerror(errno));
				continue;
			}
			check(shmat(id, at, 0) == at, "shmat: %s", strerror(errno));
			check(!shmctl(id, IPC_RMID, NULL), "IPC_RMID");
			check(!shmdt(at), "shmdt");
			expect_own_breaks(before, 0);
			continue;
		}
		check(mmap(at, len, PROT_READ | PROT_WRITE, flags, kind == 2 ? fd : -1,
			   0) == at, "mmap");
		if (kind == 3)
			check(mmap(at + PAGE, PAGE, PROT_READ, flags, -1, 0) == at + PAGE,
			      "mmap over it");
		check(!munmap(at, len), "munmap");
		check(plain || own_breaks() == before, "%s: a table was copied",
		      kinds[kind]);
		verify_spans(p, around_hole, ORIGIN);
	}
	let_look(false);
	/* and if it was touched, one is */
	check(mmap(at, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at, "mmap");
	fill(at, 0, GROWN, ACTOR);
	check(!munmap(at, len), "munmap");
	expect_own_breaks(before, 1);
	let_look(true);
	join(pid);
	verify_spans(p, around_hole, ORIGIN);
	close(fd);
	unmap_blocks(p, 2);
}

/*
 * MADV_DONTNEED of a whole block and of parts without entries of those beside it, whose
 * other parts live: none of them is copied, and none of them is emptied.
 */
static void drop_beside_living(void)
{
	static const struct span living[] = {
		{ 0, BLOCK_PAGES / 2 },
		{ 2 * BLOCK_PAGES + BLOCK_PAGES / 2, BLOCK_PAGES / 2 }, { }
	}, all[] = {
		{ 0, BLOCK_PAGES / 2 }, { BLOCK_PAGES, BLOCK_PAGES },
		{ 2 * BLOCK_PAGES + BLOCK_PAGES / 2, BLOCK_PAGES / 2 }, { }
	};
	const unsigned long half = BLOCK_PAGES / 2;
	unsigned int round;

	for (round = 0; round < 4; round++) {
		/* before the block, behind it, both */
		unsigned long first = round == 1 ? BLOCK_PAGES : half;
		unsigned long last = round ? 2 * BLOCK_PAGES + half : 2 * BLOCK_PAGES;
		bool fresh = round == 3;	/* the parts are mappings of their own */
		char *p = map_blocks(NR);
		struct events events;
		long before;
		pid_t pid;

		if (fresh) {
			check(!munmap(AT(half), half * PAGE), "munmap");
			check(!munmap(AT(2 * BLOCK_PAGES), half * PAGE), "munmap");
		}
		fill_spans(p, all, ORIGIN);
		pid = bystanders(p, NR, all, NULL);
		if (fresh) {
			check(mmap(AT(half), half * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
			      AT(half), "mmap");
			check(mmap(AT(2 * BLOCK_PAGES), half * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
			      AT(2 * BLOCK_PAGES), "mmap");
		}
		events_get(&events);
		before = own_breaks();
		check(!madvise(AT(first), (last - first) * PAGE, MADV_DONTNEED), "madvise");
		expect_own_breaks(before, 0);
		expect_events(&events, EV_DETACH, >=, 1);
		verify_spans(p, living, ORIGIN);
		check(!(pagemap(0, AT(BLOCK_PAGES + 100)) & (PM_PRESENT | PM_SWAP)),
		      "still mapped");
		verify(p, first, last - first, OWNER_ZERO);
		verify_spans(p, living, ORIGIN);
		let_look(false);
		fill(p, first, last - first, ACTOR);
		fill(p, 5, 1, ACTOR);
		let_look(true);
		join(pid);
		verify(p, first, last - first, ACTOR);
		verify(p, 5, 1, ACTOR);
		verify(p, 6, half - 6, ORIGIN);
		verify(p, PAGES - half, half, ORIGIN);
		unmap_blocks(p, NR);
	}
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

static void *drop_all(void *p)
{
	arrive(DID);
	madvise(p, BLOCK, MADV_DONTNEED);
	return NULL;
}

/*
 * A thread drops a block, which gets an empty table; another one drops a page of it and
 * finds nothing to do, but the first may not have flushed yet.  When the call of the
 * second returns the page is gone all the same.
 */
static void gone_for_both(void)
{
	bool delays = delay_windows(20000, WINDOW_LEAVE);
	unsigned int round;
	uint64_t state = seed;

	for (round = 0; round < rounds(30); round++) {
		char *p = map_blocks(1);
		volatile char *page = AT(5);
		volatile uint64_t spin;
		pthread_t thread;
		pid_t pid;

		fill(p, 0, BLOCK_PAGES, ORIGIN);
		steps_reset();
		pid = fork_sharing(1);
		if (!pid) {
			await(LEAVE, 1);
			verify(p, 0, BLOCK_PAGES, ORIGIN);
			done();
		}
		check(!pthread_create(&thread, NULL, drop_all, p), "pthread_create");
		*page;
		await(DID, 1);
		for (spin = rnd(&state) % 100000; spin; spin--)
			;
		*page;
		madvise((char *)page, PAGE, MADV_DONTNEED);
		check(!*page, "round %u: a page could be read after MADV_DONTNEED", round);
		pthread_join(thread, NULL);
		verify(p, 0, BLOCK_PAGES, OWNER_ZERO);
		arrive(LEAVE);
		join(pid);
		unmap_blocks(p, 1);
	}
	delay_windows(0, 0);
	note("%u rounds%s", round, delays ? ", with delays" : "");
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
 * A hole is punched in the private file: its pages read as zero for all three, the
 * pages that were written stay.
 */
static void punch_hole(void)
{
	unsigned int round, i;

	for (round = 0; round < rounds(2); round++) {
		int fd = memory_file(PAGES, OTHER);
		pid_t pid, third = 0;
		struct events before;
		unsigned int me;
		char *p;

		steps_reset();
		map_private_file(fd, &p);
		pid = fork_sharing(NR);
		if (!pid)
			third = fork_sharing(NR);
		me = pid ? ACTOR : third ? CHILD : THIRD;
		barrier(READY, 3);
		check(plain || own_tables() >= (long)NR, "%ld tables are shared",
		      own_tables());
		barrier(READY, 3);
		if (pid) {
			events_get(&before);
			if (fallocate(fd, FALLOC_FL_PUNCH_HOLE |
				      FALLOC_FL_KEEP_SIZE, 400 * PAGE,
				      300 * PAGE))
				skip_case("fallocate: %s", strerror(errno));
			expect_events(&before, EV_INPLACE, >=, 1);
			expect_events(&before, EV_BREAK, ==, 0);
			arrive(WROTE);
		}
		await(WROTE, 1);
		for (i = 0; i < PAGES; i++)
			verify(p, i, 1, !(i % 3) ? ORIGIN :
			       i >= 400 && i < 700 ? OWNER_ZERO : OTHER);
		barrier(LEAVE, 3);
		fill(p, 0, PAGES, me);
		barrier(LEAVE, 3);
		verify(p, 0, PAGES, me);
		if (third)
			join(third);
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
	{ "gone at once for two who drop it", gone_for_both },
	{ "MADV_DONTNEED beside living neighbours", drop_beside_living },
	{ "MADV_FREE", madv_free },
	{ "munmap of pages with neighbours", unmap_pages },
	{ "munmap of blocks with unaligned ends", unmap_many },
	{ "munmap of a block", unmap_block },
	{ "munmap of what was not touched", unmap_untouched },
	{ "mmap over pages", map_over },
	{ "mremap of pages to another shared block", move_pages },
	{ "mremap of a block to another shared block", move_block },
	{ "mremap of a block away and back", move_away },
	{ "mremap of a GiB, shared again", move_gib },
	{ "mremap with MREMAP_DONTUNMAP", dontunmap },
	{ "mremap into a hole of a shared block", move_into_hole },
	{ "mremap that shrinks and grows", resize },
	{ "mlock and munlock", lock },
	{ "mlockall", lock_all },
	{ "mlockall on fault", lock_on_fault },
	{ "mlockall of what comes into a hole", lock_future },
	{ "mlock2 on fault", lock_range },
	{ "cold, pageout, willneed, populate", advice },
	{ "willneed of pages in swap", will_need },
	{ "populate with and without a hole", populate_read },
	{ "advice on a table that nobody else shares", dormant_advice },
	{ "collapse into huge pages", collapse },
	{ "KSM advice", merge },
	{ "DONTFORK and WIPEONFORK set after sharing", hidden },
	{ "userfaultfd", uffd },
	{ "userfaultfd on a mapping that grew", uffd_grown },
	{ "UFFDIO_MOVE from a shared block", uffd_move_from_shared },
	{ "UFFDIO_MOVE to a mapping that grew", uffd_move_to_grown },
	{ "UFFDIO_MOVE within a block that is shared", uffd_move_grown },
	{ "UFFDIO_ZEROPAGE in a mapping that grew", uffd_zero_grown },
	{ "UFFDIO_WRITEPROTECT of a mapping that grew", uffd_protect_grown },
	{ "UFFDIO_WRITEPROTECT over several mappings", uffd_protect_several },
	{ "UFFDIO_WRITEPROTECT while all is unmapped", uffd_protect_storm },
	{ "UFFDIO_CONTINUE in a mapping that grew", uffd_continue_grown },
	{ "userfaultfd of the child", uffd_event_fork },
	{ "what a userfaultfd leaves behind", uffd_left_behind },
	{ "killed while it copies tables", killed },
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
