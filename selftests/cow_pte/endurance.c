// SPDX-License-Identifier: GPL-2.0
/*
 * endurance - many forks, many sharers, many generations
 *
 * Not a part of the quick set: scripts/endurance.sh runs it.  What counts is the
 * comparison with the state before that the runner makes after each case, and that
 * every process finds its own bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cow_pte_util.h"

#define NR	6UL
#define PAGES	(NR * BLOCK_PAGES)

enum { READY = 1, GO };
enum { ORIGIN = 1, PARENT = 2 };

#define THP	"/sys/kernel/mm/transparent_hugepage/enabled"

/* Ask for all pages of @p to be on @node; what cannot move stays.  Returns how many moved. */
static unsigned long migrate(char *p, int node)
{
	static void *addr[PAGES];
	static int nodes[PAGES], before[PAGES], status[PAGES];
	unsigned long i, moved = 0;

	for (i = 0; i < PAGES; i++) {
		addr[i] = p + i * PAGE;
		nodes[i] = node;
	}
	if (syscall(SYS_move_pages, 0, PAGES, addr, NULL, before, 0) ||
	    syscall(SYS_move_pages, 0, PAGES, addr, nodes, status,
		    2 /* MPOL_MF_MOVE */ | 4) < 0)
		return 0;
	for (i = 0; i < PAGES; i++)
		moved += before[i] >= 0 && before[i] != node && status[i] == node;
	return moved;
}

/*
 * Have a huge page instead of the small ones of block @b.  The advice is needed: memory that
 * must not have huge pages is not collapsed.  Nor is a block without a writable page, which
 * all are after a fork or when they come from swap, so one of the parent's is written to.
 * A page that the child of this moment has isolated is a reason to try again.
 */
static bool collapse(char *p, unsigned long b)
{
	char *block = p + b * BLOCK;
	bool ok = false;
	int try;

	check(!madvise(block, BLOCK, MADV_HUGEPAGE), "MADV_HUGEPAGE: %s", strerror(errno));
	/* the advice has made the block a mapping of its own; it may be huge from last time */
	if (smaps_kb(0, block, "AnonHugePages") > 0)
		goto out;
	for (try = 0; !ok && try < 5; try++) {
		fill(p, b * BLOCK_PAGES + BLOCK_PAGES / 2, 1, PARENT);
		ok = !madvise(block, BLOCK, MADV_COLLAPSE);
	}
	if (!ok && errno != EAGAIN && errno != ENOMEM && errno != EBUSY)
		note("MADV_COLLAPSE: %s", strerror(errno));
	ok = ok && smaps_kb(0, block, "AnonHugePages") > 0;
out:
	madvise(block, BLOCK, MADV_NOHUGEPAGE);
	return ok;
}

static unsigned long compact(void)
{
	long before = vmstat("pgmigrate_success");

	write_file("/proc/sys/vm/compact_memory", "1");
	return vmstat("pgmigrate_success") - before;
}

/* One child of ten thousand: writes a little, sometimes has a child itself. */
static void short_life(char *p, unsigned int round, uint64_t *state)
{
	unsigned long page = rnd(state) % PAGES, n = 1 + rnd(state) % 3, i;
	unsigned int me = 100 + round % 100;

	fill(p, page, page + n > PAGES ? 1 : n, me);
	verify(p, page, 1, me);
	for (i = 0; i < 8; i++) {
		unsigned long other = rnd(state) % PAGES;

		/* The parent keeps one half of each block, and writes the other. */
		if (other % BLOCK_PAGES < BLOCK_PAGES / 2 &&
		    (other < page || other >= page + n))
			verify(p, other, 1, ORIGIN);
	}
	if (!(rnd(state) % 8)) {
		pid_t pid = xfork();

		if (!pid) {
			madvise(p, BLOCK, MADV_DONTNEED);
			verify(p, 0, 4, OWNER_ZERO);
			done();
		}
		join(pid);
	}
	done();
}

static void ten_thousand_forks(void)
{
	/* successes: huge pages; pages written to swap, moved on request, moved by compaction */
	unsigned long collapsed = 0, swapped = 0, migrated = 0, compacted = 0, swapoffs = 0;
	bool thp = !access(THP, R_OK), nodes = !access("/sys/devices/system/node/node1", F_OK);
	unsigned int nr = rounds(10000), round;
	struct events since;
	uint64_t state = seed;
	long out, background;
	char *p;

	cgroup_enter();
	background = background_shares();
	events_get(&since);
	p = map_blocks(NR);
	fill(p, 0, PAGES, ORIGIN);
	for (round = 0; round < nr; round++) {
		unsigned long block = rnd(&state) % NR;
		uint64_t child_state = rnd(&state) | 1;
		pid_t pid = xfork();

		if (!pid)
			short_life(p, round, &child_state);
		if (!(round % 3))
			fill(p, block * BLOCK_PAGES + BLOCK_PAGES / 2 +
			     rnd(&state) % (BLOCK_PAGES / 2), 1, PARENT);
		if (have_swap() && !(round % 10)) {
			out = vmstat("pswpout");
			if (!(round % 20))
				cgroup_write("memory.reclaim", "1M");
			if (!(round % 50))
				madvise(p, NR * BLOCK, MADV_PAGEOUT);
			swapped += vmstat("pswpout") - out;
		}
		/* pages in swap do not move: have them back first, long after the last PAGEOUT */
		if (round % 100 == 25) {
			read_pages(p, 0, PAGES);
			migrated += migrate(p, (round / 100) % 2);
		}
		if (!(round % 200))
			compacted += compact();
		/* each block in turn; what writes and reclaim leave of it is small pages again */
		if (thp && !(round % 50))
			collapsed += collapse(p, round / 50 % NR);
		if (!(round % 1000) && !cycle_swap())
			swapoffs++;
		join(pid);
		if (!(round % 1000))
			note("%u forks", round);
	}
	for (round = 0; round < NR; round++)
		verify(p, round * BLOCK_PAGES, BLOCK_PAGES / 2, ORIGIN);
	note("seed %llu, %u forks: %ld shared (%ld of each fork not of the test), %ld broken, %ld reused, %ld in place",
	     (unsigned long long)seed, nr, event_delta(&since, EV_SHARE), background,
	     event_delta(&since, EV_BREAK), event_delta(&since, EV_REUSE),
	     event_delta(&since, EV_INPLACE));
	note("%lu blocks collapsed, %lu pages swapped out, %lu migrated, %lu moved by compaction, %lu swapoffs",
	     collapsed, swapped, migrated, compacted, swapoffs);
	/* a huge page has no table: of one block now and then, until it is written or reclaimed */
	expect_events(&since, EV_SHARE, >=, (background + (long)NR - 1) * nr);
	expect_events(&since, EV_INPLACE, >, 0);
	/* What the machine lacks is said; what it has must have worked. */
	if (thp)
		check(collapsed, "no block was ever collapsed");
	else
		note("no huge pages: nothing collapsed");
	if (have_swap())
		check(swapped && swapoffs, "nothing was swapped out, or no swapoff succeeded");
	else
		note("no swap: nothing swapped out");
	if (nodes)
		check(migrated, "no page was migrated");
	else
		note("one node: nothing migrated");
	check(compacted, "compaction moved nothing");
	unmap_blocks(p, NR);
}

static void thousand_sharers(void)
{
	unsigned int nr = rounds(1000), i;
	pid_t *pid = calloc(nr, sizeof(*pid));
	uint64_t state = seed;
	struct events since;
	long background;
	char *p;

	check(pid, "calloc");
	cgroup_enter();
	background = background_shares();
	p = map_blocks(2);
	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	events_get(&since);
	for (i = 0; i < nr; i++) {
		pid[i] = xfork();
		if (!pid[i]) {
			arrive(READY);
			await(GO, 1);
			verify(p, i % (2 * BLOCK_PAGES), 1, ORIGIN);
			/* one in fifty has a table of its own in the end */
			if (!(i % 50)) {
				fill(p, BLOCK_PAGES, 1, 3);
				verify(p, BLOCK_PAGES, 1, 3);
			}
			verify(p, BLOCK_PAGES + 1, 4, ORIGIN);
			done();
		}
	}
	await(READY, nr);
	expect_events(&since, EV_SHARE, >=, (background + 2) * nr);
	if (have_swap()) {
		cgroup_write("memory.reclaim", "2M");
		expect_events(&since, EV_INPLACE, >, 0);
	}
	write_file("/proc/sys/vm/compact_memory", "1");
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	/* some are killed, in no order, while the others go on */
	for (i = 0; i < nr / 10; i++) {
		unsigned int victim = rnd(&state) % nr;

		if (pid[victim] > 0 && victim % 50) {
			kill(pid[victim], 9);
			join_status(pid[victim]);
			pid[victim] = 0;
		}
	}
	arrive(GO);
	for (i = 0; i < nr; i++)
		if (pid[i] > 0)
			join(pid[i]);
	verify(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	fill(p, 0, 2 * BLOCK_PAGES, PARENT);
	verify(p, 0, 2 * BLOCK_PAGES, PARENT);
	note("seed %llu, %u sharers: %ld shared (%ld of each fork not of the test), %ld broken, %ld in place",
	     (unsigned long long)seed, nr, event_delta(&since, EV_SHARE), background,
	     event_delta(&since, EV_BREAK), event_delta(&since, EV_INPLACE));
	unmap_blocks(p, 2);
	free(pid);
}

/* Each generation writes its page, has the next one, and looks again at the end. */
static void generations(char *p, unsigned int max)
{
	unsigned int depth, i;
	pid_t pid = 0;

	for (depth = 1; !pid; depth++) {
		fill(p, depth, 1, 10 + depth);
		if (depth == max) {
			/* The youngest sees the page of each ancestor. */
			for (i = 1; i <= max; i++)
				verify(p, i, 1, 10 + i);
			cgroup_write("memory.reclaim", "2M");
			arrive(READY);
			break;
		}
		pid = xfork();
		if (pid)
			break;
	}
	await(READY, 1);
	verify(p, depth, 1, 10 + depth);
	verify(p, max + 1, BLOCK_PAGES - max - 1, ORIGIN);
	verify(p, BLOCK_PAGES, BLOCK_PAGES, ORIGIN);
	if (pid)
		join(pid);
	done();
}

static void fifty_generations(void)
{
	struct events since;
	unsigned int round;
	long background;
	char *p;

	cgroup_enter();
	background = background_shares();
	events_get(&since);
	for (round = 0; round < rounds(10); round++) {
		pid_t pid;

		steps_reset();
		p = map_blocks(2);
		fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
		pid = xfork();
		if (!pid)
			generations(p, 50);
		join(pid);
		verify(p, 0, 2 * BLOCK_PAGES, ORIGIN);
		unmap_blocks(p, 2);
	}
	note("seed %llu, %u chains of 50: %ld shared (%ld of each fork not of the test), %ld broken, %ld in place",
	     (unsigned long long)seed, rounds(10), event_delta(&since, EV_SHARE), background,
	     event_delta(&since, EV_BREAK), event_delta(&since, EV_INPLACE));
	expect_events(&since, EV_SHARE, >=, (background + 2) * 50 * rounds(10));
}

static const struct cow_case cases[] = {
	{ "ten thousand forks", ten_thousand_forks },
	{ "a thousand sharers", thousand_sharers },
	{ "fifty generations", fifty_generations },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
