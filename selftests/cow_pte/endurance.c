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

/* Ask for all pages of @p to be on @node; what cannot move stays. */
static void migrate(char *p, int node)
{
	static void *addr[PAGES];
	static int nodes[PAGES], status[PAGES];
	unsigned long i;

	for (i = 0; i < PAGES; i++) {
		addr[i] = p + i * PAGE;
		nodes[i] = node;
	}
	syscall(SYS_move_pages, 0, PAGES, addr, nodes, status, 2 /* MPOL_MF_MOVE */ | 4);
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
	unsigned int nr = rounds(10000), round;
	struct events since;
	uint64_t state = seed;
	char *p;

	events_get(&since);
	cgroup_enter();
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
		if (!(round % 20) && have_swap())
			cgroup_write("memory.reclaim", "1M");
		if (!(round % 50))
			madvise(p, NR * BLOCK, MADV_PAGEOUT);
		if (!(round % 100))
			migrate(p, (round / 100) % 2);
		if (!(round % 200))
			write_file("/proc/sys/vm/compact_memory", "1");
		if (!(round % 250)) {
			madvise(p, BLOCK, MADV_COLLAPSE);
			madvise(p, BLOCK, MADV_NOHUGEPAGE);
		}
		if (!(round % 1000))
			cycle_swap();
		join(pid);
		if (!(round % 1000))
			note("%u forks", round);
	}
	for (round = 0; round < NR; round++)
		verify(p, round * BLOCK_PAGES, BLOCK_PAGES / 2, ORIGIN);
	note("%u forks: %ld shared, %ld broken, %ld reused, %ld in place", nr,
	     event_delta(&since, EV_SHARE), event_delta(&since, EV_BREAK),
	     event_delta(&since, EV_REUSE), event_delta(&since, EV_INPLACE));
	expect_events(&since, EV_SHARE, >=, (long)nr);
	expect_events(&since, EV_INPLACE, >, 0);
	unmap_blocks(p, NR);
}

static void thousand_sharers(void)
{
	unsigned int nr = rounds(1000), i;
	pid_t *pid = calloc(nr, sizeof(*pid));
	uint64_t state = seed;
	struct events since;
	char *p;

	check(pid, "calloc");
	cgroup_enter();
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
	expect_events(&since, EV_SHARE, >=, 2L * nr);
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
	note("%u sharers: %ld shared, %ld broken, %ld in place", nr,
	     event_delta(&since, EV_SHARE), event_delta(&since, EV_BREAK),
	     event_delta(&since, EV_INPLACE));
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
	char *p;

	cgroup_enter();
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
	expect_events(&since, EV_SHARE, >=, 50L * rounds(10));
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
