// SPDX-License-Identifier: GPL-2.0
/*
 * What processes see of each other's memory after a fork that shares page
 * tables: nothing that happens after the fork, in whatever order they write, fork
 * again and leave.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow_pte_util.h"

/* Steps for await(): which is which is local to a case. */
enum { GO, READY, WROTE, LEAVE };

/* Data written before the fork, owners of data written later. */
enum { ORIGIN = 1, PARENT, CHILD, GRANDCHILD, OTHER };

/*
 * The child sees what was there at the fork; writes of either side stay its own.
 */
static void isolation(void)
{
	const unsigned long nr = 4, pages = nr * BLOCK_PAGES;
	unsigned int round, i;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(nr);
		pid_t pid;

		steps_reset();
		fill(p, 0, pages, ORIGIN);
		pid = fork_sharing(nr);
		if (!pid) {
			verify(p, 0, pages, ORIGIN);
			arrive(READY);
			await(GO, 1);
			verify(p, 0, pages, ORIGIN);
			for (i = 1; i < pages; i += 2)
				fill(p, i, 1, CHILD);
			arrive(WROTE);
			await(LEAVE, 1);
			for (i = 0; i < pages; i++)
				verify(p, i, 1, i % 2 ? CHILD : ORIGIN);
			done();
		}
		await(READY, 1);
		for (i = 0; i < pages; i += 3)
			fill(p, i, 1, PARENT);
		arrive(GO);
		await(WROTE, 1);
		for (i = 0; i < pages; i++)
			verify(p, i, 1, i % 3 ? ORIGIN : PARENT);
		arrive(LEAVE);
		join(pid);
		for (i = 0; i < pages; i++)
			verify(p, i, 1, i % 3 ? ORIGIN : PARENT);
		unmap_blocks(p, nr);
	}
}

/*
 * A write by either side copies the table (break); with the other side gone it
 * needs no copy (reuse).  Leaving without a write is a detach.
 */
static void events_of_one_fork(void)
{
	const unsigned long nr = 8, pages = nr * BLOCK_PAGES;
	struct events before;
	unsigned int i;
	char *p;
	pid_t pid;

	p = map_blocks(nr);
	fill(p, 0, pages, ORIGIN);
	pid = fork_sharing(nr);
	if (!pid) {
		events_get(&before);
		read_pages(p, 0, pages);
		for (i = 0; i < nr; i++)
			fill(p, i * BLOCK_PAGES + 7, 1, CHILD);
		expect_events(&before, EV_BREAK, >=, (long)nr);
		done();
	}
	join(pid);
	verify(p, 0, pages, ORIGIN);
	events_get(&before);
	for (i = 0; i < nr; i++)
		fill(p, i * BLOCK_PAGES + 9, 1, PARENT);
	expect_events(&before, EV_REUSE, >=, (long)nr);
	expect_events(&before, EV_BREAK, <, (long)nr);

	events_get(&before);
	pid = fork_sharing(nr);
	if (!pid)
		done();
	join(pid);
	expect_events(&before, EV_DETACH, >=, (long)nr);
	unmap_blocks(p, nr);
}

/*
 * Three generations share the same tables; each writes to one part and sees none
 * of the others' writes.
 */
static void three_generations(void)
{
	const unsigned long nr = 3, pages = nr * BLOCK_PAGES;
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(nr);
		pid_t child, grandchild;

		steps_reset();
		fill(p, 0, pages, ORIGIN);
		child = fork_sharing(nr);
		if (!child) {
			grandchild = fork_sharing(nr);
			if (!grandchild) {
				verify(p, 0, pages, ORIGIN);
				fill(p, BLOCK_PAGES, BLOCK_PAGES, GRANDCHILD);
				barrier(READY, 3);
				barrier(GO, 3);
				verify(p, 0, BLOCK_PAGES, ORIGIN);
				verify(p, BLOCK_PAGES, BLOCK_PAGES, GRANDCHILD);
				verify(p, 2 * BLOCK_PAGES, BLOCK_PAGES, ORIGIN);
				done();
			}
			fill(p, 0, BLOCK_PAGES, CHILD);
			barrier(READY, 3);
			verify(p, 0, BLOCK_PAGES, CHILD);
			verify(p, BLOCK_PAGES, 2 * BLOCK_PAGES, ORIGIN);
			barrier(GO, 3);
			join(grandchild);
			verify(p, 0, BLOCK_PAGES, CHILD);
			done();
		}
		barrier(READY, 3);
		verify(p, 0, pages, ORIGIN);
		fill(p, BLOCK_PAGES, 2 * BLOCK_PAGES, PARENT);
		barrier(GO, 3);
		join(child);
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		verify(p, BLOCK_PAGES, 2 * BLOCK_PAGES, PARENT);
		unmap_blocks(p, nr);
	}
}

/*
 * Eight generations, each of which writes one page before it forks the next: the
 * tables are shared, private and shared again on the way.
 */
static void descend(char *p, unsigned long pages, unsigned int depth)
{
	unsigned int i;
	pid_t pid;

	for (i = 0; i < depth; i++) {
		verify(p, i, 1, 10 + i);
		verify(p, BLOCK_PAGES + i, 1, 10 + i);
	}
	verify(p, depth, BLOCK_PAGES - depth, ORIGIN);
	verify(p, BLOCK_PAGES + depth, BLOCK_PAGES - depth, ORIGIN);
	if (depth == 8)
		return;
	/* the second block is broken, the first only in every other one */
	fill(p, BLOCK_PAGES + depth, 1, 10 + depth);
	fill(p, depth, 1, 10 + depth);
	pid = fork_sharing(2);
	if (!pid) {
		descend(p, pages, depth + 1);
		done();
	}
	if (depth % 2)
		fill(p, 300, 1, PARENT);
	join(pid);
	verify(p, depth + 1, 299 - depth, ORIGIN);
	verify(p, 300, 1, depth % 2 ? PARENT : ORIGIN);
}

static void many_generations(void)
{
	unsigned int round;

	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(2);

		fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
		descend(p, 2 * BLOCK_PAGES, 0);
		unmap_blocks(p, 2);
	}
}

/*
 * Parent, child and grandchild leave in each of the six orders.  Those that stay
 * keep their data and can write it, and the last one frees everything.
 */
static const unsigned char orders[6][3] = {
	{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
};

static void member(char *p, unsigned long pages, const unsigned char *order,
		   unsigned int me, bool write)
{
	unsigned int step, i;

	slots[me] = getpid();
	arrive(READY);
	for (step = 0; step < 3; step++) {
		await(GO, step + 1);
		for (i = 0; i < pages; i++)
			verify(p, i, 1,
			       write && i % BLOCK_PAGES < step ? 10 + me : ORIGIN);
		if (order[step] == me)
			done();
		if (!write)
			continue;
		await(LEAVE, step + 1);
		for (i = 0; i < pages; i += BLOCK_PAGES)
			fill(p, i + step, 1, 10 + me);
		arrive(WROTE);
	}
	fail("process %u was not told to leave", me);
}

static void exit_order(const unsigned char *order, bool write)
{
	const unsigned long nr = 2, pages = nr * BLOCK_PAGES;
	unsigned int step, expect = 0;
	pid_t pid;

	steps_reset();
	pid = xfork();
	if (!pid) {
		char *p = map_blocks(nr);

		signal(SIGCHLD, SIG_IGN);
		fill(p, 0, pages, ORIGIN);
		if (!fork_sharing(nr)) {
			if (!fork_sharing(nr))
				member(p, pages, order, 2, write);
			member(p, pages, order, 1, write);
		}
		member(p, pages, order, 0, write);
	}
	await(READY, 3);
	for (step = 0; step < 3; step++) {
		arrive(GO);
		if (order[step] == 0)
			join(pid);
		else
			wait_gone(slots[order[step]]);
		arrive(LEAVE);
		expect += 2 - step;
		if (write)
			await(WROTE, expect);
	}
	/* orphans */
	while (waitpid(-1, NULL, 0) > 0)
		;
}

static void exit_orders(void)
{
	unsigned int round, i;

	for (round = 0; round < rounds(1); round++)
		for (i = 0; i < ARRAY_LEN(orders); i++)
			exit_order(orders[i], false);
}

static void exit_orders_with_writes(void)
{
	unsigned int round, i;

	for (round = 0; round < rounds(1); round++)
		for (i = 0; i < ARRAY_LEN(orders); i++)
			exit_order(orders[i], true);
}

/*
 * A second child, forked while the first still shares the tables, joins the same
 * ones; a third, after the parent's write, gets the parent's new data.
 */
static void second_child(void)
{
	const unsigned long nr = 2, pages = nr * BLOCK_PAGES;
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(nr);
		pid_t a, b, c;

		steps_reset();
		fill(p, 0, pages, ORIGIN);
		a = fork_sharing(nr);
		if (!a) {
			await(GO, 1);
			verify(p, 0, pages, ORIGIN);
			fill(p, 0, BLOCK_PAGES, CHILD);
			arrive(WROTE);
			await(LEAVE, 1);
			verify(p, 0, BLOCK_PAGES, CHILD);
			verify(p, BLOCK_PAGES, BLOCK_PAGES, ORIGIN);
			done();
		}
		b = fork_sharing(nr);
		if (!b) {
			await(WROTE, 1);
			verify(p, 0, pages, ORIGIN);
			fill(p, 5, pages - 5, OTHER);
			arrive(WROTE);
			await(LEAVE, 1);
			verify(p, 0, 5, ORIGIN);
			verify(p, 5, pages - 5, OTHER);
			done();
		}
		arrive(GO);
		await(WROTE, 2);
		verify(p, 0, pages, ORIGIN);
		fill(p, 3, 600, PARENT);
		c = fork_sharing(nr);
		if (!c) {
			verify(p, 0, 3, ORIGIN);
			verify(p, 3, 600, PARENT);
			verify(p, 603, pages - 603, ORIGIN);
			done();
		}
		join(c);
		arrive(LEAVE);
		join(a);
		join(b);
		verify(p, 0, 3, ORIGIN);
		verify(p, 3, 600, PARENT);
		verify(p, 603, pages - 603, ORIGIN);
		unmap_blocks(p, nr);
	}
}

/*
 * Sixteen children at once, all sharers of the same tables; each writes one page,
 * they leave in the reverse order.
 */
static void many_children(void)
{
	const unsigned long nr = 2, pages = nr * BLOCK_PAGES;
	enum { CHILDREN = 16 };
	unsigned int round;

	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(nr);
		pid_t pid[CHILDREN];
		unsigned int i;

		steps_reset();
		fill(p, 0, pages, ORIGIN);
		for (i = 0; i < CHILDREN; i++) {
			pid[i] = fork_sharing(nr);
			if (pid[i])
				continue;
			await(GO, 1);
			fill(p, i * 30, 1, 10 + i);
			barrier(READY, CHILDREN);
			verify(p, 0, i * 30, ORIGIN);
			verify(p, i * 30, 1, 10 + i);
			verify(p, i * 30 + 1, pages - i * 30 - 1, ORIGIN);
			arrive(WROTE);
			await(LEAVE, CHILDREN - i);
			done();
		}
		arrive(GO);
		await(WROTE, CHILDREN);
		for (i = CHILDREN; i-- > 0;) {
			arrive(LEAVE);
			join(pid[i]);
		}
		verify(p, 0, pages, ORIGIN);
		fill(p, 0, pages, PARENT);
		unmap_blocks(p, nr);
	}
}

/* Threads that write to the same blocks, from a barrier on. */
#define THREADS		8
/* pages written in each block before the fork */
#define FEW		64UL

struct team {
	char *p;
	unsigned long nr;
	unsigned int step;
};

struct worker {
	pthread_t thread;
	const struct team *team;
	unsigned int me;
};

static void *write_blocks(void *arg)
{
	const struct worker *w = arg;
	const struct team *t = w->team;
	unsigned long block;

	for (block = 0; block < t->nr; block++) {
		char *b = t->p + block * BLOCK;

		spin_barrier(t->step, THREADS);
		/* One page for all of them, each its own word, and own pages. */
		((volatile uint64_t *)b)[100 + w->me] = w->me + 1;
		fill(t->p, block * BLOCK_PAGES + 1 + w->me, 1, 10 + w->me);
	}
	return NULL;
}

static void fill_few(char *p, unsigned long nr)
{
	unsigned long b;

	for (b = 0; b < nr; b++)
		fill(p, b * BLOCK_PAGES, FEW, ORIGIN);
}

static void verify_few(char *p, unsigned long nr)
{
	unsigned long b;

	for (b = 0; b < nr; b++)
		verify(p, b * BLOCK_PAGES, FEW, ORIGIN);
}

static void write_with_threads(char *p, unsigned long nr, unsigned int step)
{
	struct team team = { p, nr, step };
	struct worker w[THREADS];
	unsigned long block;
	unsigned int i;

	for (i = 0; i < THREADS; i++) {
		w[i].team = &team;
		w[i].me = i;
		check(!pthread_create(&w[i].thread, NULL, write_blocks, &w[i]),
		      "pthread_create");
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	for (block = 0; block < nr; block++) {
		unsigned long first = block * BLOCK_PAGES;
		volatile uint64_t *words = (uint64_t *)(p + block * BLOCK);

		for (i = 0; i < THREADS; i++) {
			check(words[100 + i] == i + 1,
			      "block %lu: the write of thread %u is lost",
			      block, i);
			verify(p, first + 1 + i, 1, 10 + i);
		}
		verify(p, first + 1 + THREADS, FEW - 1 - THREADS, ORIGIN);
	}
}

/*
 * Many threads of the child write to one shared block at once: one of them copies
 * the table, no write is lost, the parent sees none.
 */
static void threads_in_child(void)
{
	const unsigned long nr = 8;
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(nr);
		struct events before;
		pid_t pid;

		steps_reset();
		fill_few(p, nr);
		pid = fork_sharing(nr);
		if (!pid) {
			events_get(&before);
			write_with_threads(p, nr, GO);
			expect_events(&before, EV_BREAK, >=, (long)nr);
			done();
		}
		join(pid);
		verify_few(p, nr);
		unmap_blocks(p, nr);
	}
}

/* The same in the parent while the child lives, and with a dormant table. */
static void threads_in_parent(void)
{
	const unsigned long nr = 8;
	unsigned int round;

	for (round = 0; round < rounds(4); round++) {
		char *p = map_blocks(nr);
		struct events before;
		pid_t pid;

		steps_reset();
		fill_few(p, nr);
		pid = fork_sharing(nr);
		if (!pid) {
			await(LEAVE, 1);
			verify_few(p, nr);
			done();
		}
		events_get(&before);
		if (round % 2) {
			write_with_threads(p, nr, GO);
			expect_events(&before, EV_BREAK, >=, (long)nr);
			arrive(LEAVE);
			join(pid);
		} else {
			arrive(LEAVE);
			join(pid);
			write_with_threads(p, nr, GO);
			expect_events(&before, EV_REUSE, >=, (long)nr);
		}
		unmap_blocks(p, nr);
	}
}

/*
 * The memory of the child is that of one instant: a thread that writes page A, then
 * page B of another block, over and over, is never caught with B ahead of A.  This
 * fails if a CPU can still write through a shared table when fork returns.
 */
static volatile bool stop_writer;

static void *write_pairs(void *arg)
{
	volatile uint64_t *a = arg, *b = (uint64_t *)((char *)arg + BLOCK);
	uint64_t i;

	for (i = 1; !stop_writer; i++) {
		a[i % 512 * 8] = i;
		a[WROTE] = i;
		b[WROTE] = i;
		b[i % 512 * 8] = i;
	}
	return NULL;
}

static void fork_is_one_instant(void)
{
	char *p = map_blocks(2);
	volatile uint64_t *a = (uint64_t *)p, *b = (uint64_t *)(p + BLOCK);
	unsigned int round;
	pthread_t thread;

	fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	a[WROTE] = 0;
	b[WROTE] = 0;
	check(!pthread_create(&thread, NULL, write_pairs, p), "pthread_create");
	for (round = 0; round < rounds(24); round++) {
		pid_t pid = fork_sharing(2);

		if (!pid) {
			uint64_t va = a[WROTE], vb = b[WROTE];
			unsigned int i;

			check(va == vb || va == vb + 1,
			      "the child sees A = %llu, B = %llu",
			      (unsigned long long)va, (unsigned long long)vb);
			for (i = 0; i < 3; i++)
				sched_yield();
			check(a[WROTE] == va && b[WROTE] == vb,
			      "a write of the parent reached the child");
			if (round % 3 == 0)
				a[WROTE] = 1;
			done();
		}
		join(pid);
	}
	stop_writer = true;
	pthread_join(thread, NULL);
	check(a[WROTE] == b[WROTE], "a write of the parent is lost");
	unmap_blocks(p, 2);
}

/*
 * Two mappings in one block, and a thread that writes to the second one at the
 * moment fork is at the first: the table may be broken or taken back while fork
 * looks at it.
 */
#define COUNTERS	8

struct second_writer {
	uint64_t state;
	volatile uint64_t *words;
};

static void *write_second(void *arg)
{
	struct second_writer *w = arg;
	unsigned int i, wait;

	for (;;) {
		spin_barrier(GO, 2);
		if (stop_writer)
			return NULL;
		wait = rnd(&w->state) % 4096;
		for (i = 0; i < wait; i++)
			__asm__ volatile("" ::: "memory");
		for (i = 0; i < COUNTERS; i++)
			w->words[i * 512]++;
		spin_barrier(LEAVE, 2);
	}
}

static void two_mappings_of_a_block(void)
{
	char *p = map_blocks(1);
	struct second_writer w = {
		.state = seed, .words = (uint64_t *)(p + 300 * PAGE),
	};
	uint64_t state = seed + 1;
	unsigned int round, i;
	pthread_t thread;
	pid_t before, pid;

	stop_writer = false;
	fill(p, 0, 200, ORIGIN);
	fill(p, 300, 100, ORIGIN);
	check(!munmap(p + 250 * PAGE, PAGE), "munmap");
	check(!pthread_create(&thread, NULL, write_second, &w), "pthread_create");
	for (round = 0; round < rounds(100); round++) {
		uint64_t seen[COUNTERS];

		/* shared with this one, or dormant if it is gone */
		before = fork_sharing(1);
		if (!before) {
			await(READY, round + 1);
			done();
		}
		arrive(READY);
		if (round % 2)
			join(before);
		spin_barrier(GO, 2);
		for (i = rnd(&state) % 4096; i; i--)
			__asm__ volatile("" ::: "memory");
		pid = xfork();
		if (!pid) {
			for (i = 0; i < COUNTERS; i++)
				seen[i] = w.words[i * 512];
			await(WROTE, round + 1);
			for (i = 0; i < COUNTERS; i++)
				check(w.words[i * 512] == seen[i],
				      "a write of the parent reached the child");
			for (i = 0; i < COUNTERS; i++)
				w.words[i * 512] = 0;
			done();
		}
		spin_barrier(LEAVE, 2);
		for (i = 0; i < COUNTERS; i++)
			seen[i] = ++w.words[i * 512];
		arrive(WROTE);
		join(pid);
		if (!(round % 2))
			join(before);
		for (i = 0; i < COUNTERS; i++)
			check(w.words[i * 512] == seen[i],
			      "a write of the child reached the parent");
		verify(p, 0, 200, ORIGIN);
	}
	stop_writer = true;
	spin_barrier(GO, 2);
	pthread_join(thread, NULL);
	unmap_blocks(p, 1);
}

/*
 * Two, and three, sharers write to the same block at the same instant: each gets a
 * table of its own, and the old one is neither lost nor freed twice.
 */
static void break_at_once(unsigned int sharers)
{
	const unsigned long nr = 16;
	unsigned int round;

	for (round = 0; round < rounds(10); round++) {
		char *p = map_blocks(nr);
		unsigned int me, i;
		unsigned long b;
		pid_t pid[3];

		steps_reset();
		for (b = 0; b < nr; b++)
			fill(p, b * BLOCK_PAGES, 20, ORIGIN);
		for (me = 0; me < sharers - 1; me++) {
			pid[me] = fork_sharing(nr);
			if (!pid[me])
				break;
		}
		for (b = 0; b < nr; b++) {
			unsigned long first = b * BLOCK_PAGES;

			spin_barrier(GO, sharers);
			fill(p, first + 2, 1, 10 + me);
			fill(p, first + 3 + me, 1, 20 + me);
			verify(p, first, 2, ORIGIN);
			verify(p, first + 2, 1, 10 + me);
			for (i = 0; i < 3; i++)
				verify(p, first + 3 + i, 1,
				       i == me ? 20 + me : ORIGIN);
			verify(p, first + 6, 14, ORIGIN);
			verify(p, first + 20, 4, OWNER_ZERO);
		}
		barrier(LEAVE, sharers);
		for (b = 0; b < nr; b++)
			verify(p, b * BLOCK_PAGES + 2, 1, 10 + me);
		if (me != sharers - 1)
			done();
		for (i = 0; i < sharers - 1; i++)
			join(pid[i]);
		unmap_blocks(p, nr);
	}
}

static void two_break_at_once(void)
{
	break_at_once(2);
}

static void three_break_at_once(void)
{
	break_at_once(3);
}

/* One sharer writes while the other exits: a copy or a reuse, never a loss. */
static void break_against_exit(void)
{
	const unsigned long nr = 8;
	unsigned int round;

	for (round = 0; round < rounds(40); round++) {
		char *p = map_blocks(nr);
		unsigned long b;
		pid_t pid;

		steps_reset();
		for (b = 0; b < nr; b++)
			fill(p, b * BLOCK_PAGES, 8, ORIGIN);
		pid = fork_sharing(nr);
		if (!pid) {
			/* odd rounds: the child writes, the parent unmaps */
			spin_barrier(GO, 2);
			for (b = 0; round % 2 && b < nr; b++)
				fill(p, b * BLOCK_PAGES + 1, 1, CHILD);
			for (b = 0; b < nr; b++) {
				verify(p, b * BLOCK_PAGES, 1, ORIGIN);
				verify(p, b * BLOCK_PAGES + 1, 1,
				       round % 2 ? CHILD : ORIGIN);
			}
			done();
		}
		spin_barrier(GO, 2);
		if (round % 2) {
			unmap_blocks(p, nr);
			join(pid);
			continue;
		}
		for (b = 0; b < nr; b++)
			fill(p, b * BLOCK_PAGES + 1, 1, PARENT);
		for (b = 0; b < nr; b++) {
			verify(p, b * BLOCK_PAGES, 1, ORIGIN);
			verify(p, b * BLOCK_PAGES + 1, 1, PARENT);
			verify(p, b * BLOCK_PAGES + 2, 6, ORIGIN);
		}
		join(pid);
		unmap_blocks(p, nr);
	}
}

/* The last two sharers leave at the same instant: exactly one of them is last. */
static void exit_against_exit(void)
{
	const unsigned long nr = 4;
	unsigned int round;

	for (round = 0; round < rounds(40); round++) {
		char *p = map_blocks(nr);
		unsigned long b;
		unsigned int i;
		pid_t pid[2];

		steps_reset();
		for (b = 0; b < nr; b++)
			fill(p, b * BLOCK_PAGES, 32, ORIGIN);
		for (i = 0; i < 2; i++) {
			pid[i] = fork_sharing(nr);
			if (!pid[i]) {
				await(READY, 1);
				spin_barrier(GO, 2);
				done();
			}
		}
		unmap_blocks(p, nr);
		arrive(READY);
		join(pid[0]);
		join(pid[1]);
	}
}

/*
 * A fork whose tables are dormant (shared once, alone again, not written since)
 * shares them again.
 */
static void refork_of_dormant_tables(void)
{
	const unsigned long nr = 3, pages = nr * BLOCK_PAGES;
	struct events before;
	unsigned int round;
	char *p;

	p = map_blocks(nr);
	fill(p, 0, pages, ORIGIN);
	for (round = 0; round < rounds(18); round++) {
		pid_t pid;

		steps_reset();
		pid = fork_sharing(nr);
		if (!pid) {
			if (round % 3 == 0)
				done();
			await(WROTE, 1);
			verify(p, 0, pages, ORIGIN);
			if (round % 3 == 1)
				fill(p, 500, 200, CHILD);
			done();
		}
		if (round % 3 == 2) {
			events_get(&before);
			fill(p, 10, 1, PARENT);
			fill(p, pages - 1, 1, PARENT);
			expect_events(&before, EV_BREAK, >=, 2);
		}
		arrive(WROTE);
		join(pid);
		if (round % 3 == 2) {
			verify(p, 10, 1, PARENT);
			verify(p, pages - 1, 1, PARENT);
			fill(p, 10, 1, ORIGIN);
			fill(p, pages - 1, 1, ORIGIN);
		}
		verify(p, 0, pages, ORIGIN);
	}
	unmap_blocks(p, nr);
}

/*
 * Between two forks the parent changes the number of pages in the tables; the
 * child's resident set is the parent's each time.
 */
static void refork_after_changes(void)
{
	const unsigned long nr = 2, pages = nr * BLOCK_PAGES;
	unsigned int round;
	char *p;

	p = map_blocks(nr);
	for (round = 0; round < rounds(14); round++) {
		unsigned long n = round * 37 % pages;
		pid_t pid;

		fill(p, 0, n + 1, ORIGIN);
		if (n + 40 < pages)
			madvise(p + (n + 1) * PAGE, 30 * PAGE, MADV_DONTNEED);
		pid = n > BLOCK_PAGES ? fork_sharing(2) : fork_sharing(1);
		if (!pid) {
			long mine = smaps_kb(0, p, "Rss");

			verify(p, 0, n + 1, ORIGIN);
			check(mine == smaps_kb(getppid(), p, "Rss"),
			      "Rss %ld kB in the child, %ld kB in the parent",
			      mine, smaps_kb(getppid(), p, "Rss"));
			fill(p, 0, 1, CHILD);
			done();
		}
		join(pid);
	}
	unmap_blocks(p, nr);
}

/* Children that exit or exec at once cost the parent nothing that lasts. */
static void child_exits_or_execs(void)
{
	const unsigned long nr = 4, pages = nr * BLOCK_PAGES;
	unsigned int round;
	char *p;

	p = map_blocks(nr);
	fill(p, 0, pages, ORIGIN);
	for (round = 0; round < rounds(40); round++) {
		pid_t pid = fork_sharing(nr);

		if (!pid) {
			if (round % 2) {
				execl("/proc/self/exe", "fork", "--list",
				      (char *)NULL);
				fail("exec");
			}
			done();
		}
		join(pid);
		fill(p, round, 1, ORIGIN);
	}
	verify(p, 0, pages, ORIGIN);
	unmap_blocks(p, nr);
}

static int silent_list(int argc, char **argv)
{
	/* What the exec above runs; its output would spoil the TAP. */
	return argc == 2 && !strcmp(argv[0], "fork") && !strcmp(argv[1], "--list");
}

/*
 * A fork that fails after the memory was duplicated (the pid asked for is taken)
 * leaves the parent as it was.
 */
static void fork_that_fails(void)
{
	const unsigned long nr = 4, pages = nr * BLOCK_PAGES;
	pid_t taken = getpid();
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&taken,
		.set_tid_size = 1,
	};
	unsigned int round;
	long rss;
	char *p;

	p = map_blocks(nr);
	fill(p, 0, pages, ORIGIN);
	rss = smaps_kb(0, p, "Rss");
	for (round = 0; round < rounds(12); round++) {
		struct events before;
		long ret;
		pid_t pid;

		events_get(&before);
		ret = syscall(SYS_clone3, &args, sizeof(args));
		if (!ret)
			done();
		if (ret < 0 && errno != EEXIST)
			skip_case("clone3 with set_tid: %s", strerror(errno));
		check(ret < 0, "clone3 made a second process %d", taken);
		expect_events(&before, EV_SHARE, >=, (long)nr);
		check(smaps_kb(0, p, "Rss") == rss, "Rss %ld kB, was %ld kB",
		      smaps_kb(0, p, "Rss"), rss);
		verify(p, 0, pages, ORIGIN);
		fill(p, round * 90, 50, ORIGIN);
		pid = fork_sharing(nr);
		if (!pid) {
			verify(p, 0, pages, ORIGIN);
			done();
		}
		join(pid);
	}
	unmap_blocks(p, nr);
}

/*
 * A mapping that was read and never written to is empty in the child, as after any fork,
 * also where it has a block in common with one that was: the zero pages do not come along.
 * One that was not even read does not keep its block from being shared.
 */
static void only_read(void)
{
	const unsigned long half = BLOCK_PAGES / 2;
	struct events before;
	unsigned long n;
	char *p = map_blocks(2);
	pid_t pid;

	/* mappings of their own */
	for (n = 0; n < 2 * BLOCK_PAGES; n += BLOCK_PAGES) {
		check(!madvise(p + n * PAGE, half * PAGE, MADV_DONTDUMP), "MADV_DONTDUMP: %s",
		      strerror(errno));
		fill(p, n + half, half, ORIGIN);
	}
	read_pages(p, 3, 200);
	check(pagemap(0, p + 3 * PAGE) >> 63, "page 3 was read and is not there");
	events_get(&before);
	pid = fork_sharing(1);
	if (!pid) {
		for (n = 0; n < half; n++)
			check(!(pagemap(0, p + n * PAGE) >> 63), "page %lu is there", n);
		fill(p, 5, 1, CHILD);
		verify(p, 6, half - 6, OWNER_ZERO);
		verify(p, BLOCK_PAGES, half, OWNER_ZERO);
		verify(p, half, half, ORIGIN);
		done();
	}
	if (!plain)
		expect_events(&before, EV_FB_VMA, >=, 1);
	join(pid);
	verify(p, 0, half, OWNER_ZERO);
	verify(p, half, half, ORIGIN);
	verify(p, BLOCK_PAGES + half, half, ORIGIN);
	unmap_blocks(p, 2);
}

/*
 * Blocks with one page, with zero pages only, with nothing, and with a mixture
 * keep their content, and untouched pages read as zero on both sides.
 */
static void sparse_blocks(void)
{
	const unsigned long nr = 4;
	unsigned int round;

	for (round = 0; round < rounds(4); round++) {
		char *p = map_blocks(nr);
		unsigned long one = round * 31 % BLOCK_PAGES;
		const unsigned long zero = BLOCK_PAGES, none = 2 * BLOCK_PAGES,
				    mixed = 3 * BLOCK_PAGES;
		unsigned int i;
		pid_t pid;

		steps_reset();
		fill(p, one, 1, ORIGIN);
		read_pages(p, zero, BLOCK_PAGES);
		for (i = 0; i < BLOCK_PAGES; i++) {
			if (i % 3 == 0)
				fill(p, mixed + i, 1, ORIGIN);
			else if (i % 3 == 1)
				read_pages(p, mixed + i, 1);
		}
		pid = fork_sharing(2);
		if (!pid) {
			/* odd rounds read first, even ones write first */
			if (round % 2) {
				verify(p, none, BLOCK_PAGES, OWNER_ZERO);
				for (i = 0; i < BLOCK_PAGES; i++)
					verify(p, mixed + i, 1,
					       i % 3 ? OWNER_ZERO : ORIGIN);
			}
			fill(p, zero + 3, 1, CHILD);
			fill(p, none + 3, 1, CHILD);
			fill(p, mixed + 1, 2, CHILD);
			verify(p, zero, 3, OWNER_ZERO);
			verify(p, zero + 4, BLOCK_PAGES - 4, OWNER_ZERO);
			for (i = 0; i < BLOCK_PAGES; i++)
				verify(p, i, 1, i == one ? ORIGIN : OWNER_ZERO);
			arrive(WROTE);
			await(LEAVE, 1);
			verify(p, zero + 3, 1, CHILD);
			verify(p, none + 3, 1, CHILD);
			verify(p, mixed, 1, ORIGIN);
			verify(p, mixed + 1, 2, CHILD);
			done();
		}
		await(WROTE, 1);
		for (i = 0; i < BLOCK_PAGES; i++) {
			verify(p, i, 1, i == one ? ORIGIN : OWNER_ZERO);
			verify(p, zero + i, 1, OWNER_ZERO);
			verify(p, none + i, 1, OWNER_ZERO);
			verify(p, mixed + i, 1, i % 3 ? OWNER_ZERO : ORIGIN);
		}
		fill(p, zero, nr * BLOCK_PAGES - zero, PARENT);
		arrive(LEAVE);
		join(pid);
		verify(p, zero, nr * BLOCK_PAGES - zero, PARENT);
		unmap_blocks(p, nr);
	}
}

/*
 * Filling a hole of a shared block is seen by nobody else, whether it is filled by
 * a write or by a read (which would install a zero page for all), on either side.
 */
static void holes(void)
{
	const unsigned long nr = 4, half = BLOCK_PAGES / 2;
	unsigned int round;

	for (round = 0; round < rounds(8); round++) {
		bool child_fills = round % 2, by_read = round % 4 < 2;
		char *p = map_blocks(nr);
		struct events before;
		unsigned long b;
		pid_t pid;

		steps_reset();
		for (b = 0; b < nr; b++)
			fill(p, b * BLOCK_PAGES, half, ORIGIN);
		pid = fork_sharing(nr);
		if (!!pid != child_fills) {
			events_get(&before);
			for (b = 0; b < nr; b++) {
				unsigned long hole = b * BLOCK_PAGES + half + b;

				if (by_read)
					read_pages(p, hole, 1);
				else
					fill(p, hole, 1, OTHER);
			}
			expect_events(&before, EV_BREAK, >=, (long)nr);
			arrive(WROTE);
			for (b = 0; b < nr; b++)
				verify(p, b * BLOCK_PAGES + half + b, 1,
				       by_read ? OWNER_ZERO : OTHER);
		} else {
			await(WROTE, 1);
			for (b = 0; b < nr; b++) {
				unsigned long hole = b * BLOCK_PAGES + half + b;

				check(!(pagemap(0, p + hole * PAGE) &
					(PM_PRESENT | PM_SWAP)),
				      "the hole is filled here as well");
				verify(p, hole, 1, OWNER_ZERO);
				verify(p, b * BLOCK_PAGES, half, ORIGIN);
			}
		}
		if (!pid)
			done();
		join(pid);
		unmap_blocks(p, nr);
	}
}

/*
 * Pages that are in swap at the fork: both sides read the data back and write it
 * without disturbing the other.
 */
static void swap_entries(void)
{
	const unsigned long nr = 2, pages = nr * BLOCK_PAGES;
	unsigned int round;

	if (!have_swap())
		skip_case("no swap");
	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(nr);
		unsigned int i;
		pid_t pid;

		steps_reset();
		fill(p, 0, pages, ORIGIN);
		for (i = 0; i < 10; i++) {
			madvise(p, pages * PAGE, MADV_PAGEOUT);
			if (smaps_kb(0, p, "Swap") > (long)pages)
				break;
		}
		if (smaps_kb(0, p, "Swap") <= 0)
			skip_case("MADV_PAGEOUT swaps nothing out");
		pid = fork_sharing(nr);
		if (!pid) {
			check(smaps_kb(0, p, "Swap") > 0, "no Swap");
			if (round % 2)
				await(WROTE, 1);
			for (i = 0; i < pages; i++) {
				verify(p, i, 1, ORIGIN);
				if (i % 2)
					fill(p, i, 1, CHILD);
			}
			arrive(WROTE);
			await(LEAVE, 1);
			for (i = 0; i < pages; i++)
				verify(p, i, 1, i % 2 ? CHILD : ORIGIN);
			done();
		}
		if (!(round % 2))
			await(WROTE, 1);
		for (i = 0; i < pages; i++) {
			verify(p, i, 1, ORIGIN);
			if (i % 3)
				fill(p, i, 1, PARENT);
		}
		arrive(WROTE);
		await(WROTE, 2);
		arrive(LEAVE);
		join(pid);
		for (i = 0; i < pages; i++)
			verify(p, i, 1, i % 3 ? PARENT : ORIGIN);
		unmap_blocks(p, nr);
	}
}

/*
 * A private file mapping that was written to is shared like anonymous memory;
 * neither the file nor the other side sees later writes.
 */
static void private_file(void)
{
	const unsigned long nr = 2, pages = nr * BLOCK_PAGES;
	int fd = test_file(pages, OTHER);
	char buf[PAGE];
	unsigned int round;

	for (round = 0; round < rounds(4); round++) {
		char *p = map_file_blocks(nr, fd);
		unsigned int i;
		pid_t pid;

		steps_reset();
		/* a third written, a third read, the rest untouched */
		for (i = 0; i < pages; i++) {
			if (i % 3 == 0)
				fill(p, i, 1, ORIGIN);
			else if (i % 3 == 1)
				read_pages(p, i, 1);
		}
		pid = fork_sharing(nr);
		if (!pid) {
			if (round % 2)
				await(WROTE, 1);
			for (i = 0; i < pages; i++)
				verify(p, i, 1, i % 3 ? OTHER : ORIGIN);
			for (i = 0; i < pages; i += 5)
				fill(p, i, 1, CHILD);
			arrive(WROTE);
			await(LEAVE, 1);
			for (i = 0; i < pages; i++)
				verify(p, i, 1, !(i % 5) ? CHILD :
				       i % 3 ? OTHER : ORIGIN);
			done();
		}
		if (!(round % 2))
			await(WROTE, 1);
		for (i = 0; i < pages; i++)
			verify(p, i, 1, i % 3 ? OTHER : ORIGIN);
		for (i = 0; i < pages; i += 7)
			fill(p, i, 1, PARENT);
		arrive(WROTE);
		arrive(LEAVE);
		join(pid);
		for (i = 0; i < pages; i++)
			verify(p, i, 1, !(i % 7) ? PARENT :
			       i % 3 ? OTHER : ORIGIN);
		unmap_blocks(p, nr);
		for (i = 0; i < pages; i++) {
			check(pread(fd, buf, PAGE, i * PAGE) == PAGE, "pread");
			check(page_is(buf, i, OTHER), "the file has changed");
		}
	}
	close(fd);
}

/*
 * A private file mapping nobody wrote to has nothing to copy: fork leaves it to
 * faults of the child, as always.
 */
static void private_file_unwritten(void)
{
	const unsigned long nr = 4, pages = nr * BLOCK_PAGES;
	int fd = test_file(pages, OTHER);
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_file_blocks(nr, fd);
		struct events before;
		pid_t pid;

		read_pages(p, 0, pages);
		events_get(&before);
		pid = xfork();
		if (!pid) {
			verify(p, 0, pages, OTHER);
			fill(p, 0, 2, CHILD);
			done();
		}
		expect_events(&before, EV_SHARE, <,
			      background_shares() + (long)nr);
		join(pid);
		verify(p, 0, pages, OTHER);
		unmap_blocks(p, nr);
	}
	close(fd);
}

/*
 * Reading an untouched page of a private file mapping through a shared table maps
 * it for the reader only.
 */
static void private_file_hole(void)
{
	const unsigned long nr = 2, pages = nr * BLOCK_PAGES;
	int fd = test_file(pages, OTHER);
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_file_blocks(nr, fd);
		pid_t pid;

		steps_reset();
		fill(p, 0, 3, ORIGIN);
		fill(p, BLOCK_PAGES, 3, ORIGIN);
		pid = fork_sharing(nr);
		if (!pid) {
			await(WROTE, 1);
			check(!(pagemap(0, p + 300 * PAGE) & PM_PRESENT),
			      "mapped by a fault of the parent");
			verify(p, 3, BLOCK_PAGES - 3, OTHER);
			verify(p, 0, 3, ORIGIN);
			done();
		}
		verify(p, 300, 1, OTHER);
		verify(p, BLOCK_PAGES + 300, 1, OTHER);
		check(pagemap(0, p + 300 * PAGE) & PM_PRESENT, "not mapped");
		arrive(WROTE);
		join(pid);
		verify(p, 3, BLOCK_PAGES - 3, OTHER);
		unmap_blocks(p, nr);
	}
	close(fd);
}

/* Killed sharers, in the middle of their writes, leave nothing behind. */
static void killed_sharers(void)
{
	const unsigned long nr = 4, pages = nr * BLOCK_PAGES;
	unsigned int round;
	char *p;

	p = map_blocks(nr);
	fill(p, 0, pages, ORIGIN);
	for (round = 0; round < rounds(24); round++) {
		pid_t pid;
		int status;

		steps_reset();
		pid = fork_sharing(nr);
		if (!pid) {
			arrive(READY);
			for (;;)
				fill(p, round * 16, pages - round * 16, CHILD);
		}
		await(READY, 1);
		kill(pid, SIGKILL);
		status = join_status(pid);
		check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		      "wait status %#x", status);
		verify(p, 0, pages, ORIGIN);
		fill(p, round, 1, ORIGIN);
	}
	unmap_blocks(p, nr);
}

/* vfork and threads share the whole memory as ever, tables or not. */
static void vfork_of_a_sharer(void)
{
	const unsigned long nr = 2, pages = nr * BLOCK_PAGES;
	unsigned int round;
	char *p;

	p = map_blocks(nr);
	fill(p, 0, pages, ORIGIN);
	for (round = 0; round < rounds(12); round++) {
		volatile char *c = p + round * PAGE + 16;
		pid_t a, b;

		steps_reset();
		a = fork_sharing(nr);
		if (!a) {
			await(WROTE, 1);
			verify(p, 0, pages, ORIGIN);
			done();
		}
		b = vfork();
		if (!b) {
			*c = 1;
			_exit(0);
		}
		check(b > 0, "vfork");
		join(b);
		check(*c == 1, "a write of the vforked child is lost");
		*c = 0;
		arrive(WROTE);
		join(a);
		verify(p, 0, pages, ORIGIN);
	}
	unmap_blocks(p, nr);
}

/*
 * fork shares several tables in one go.  A mapping that ends in a block ends the run:
 * what else is mapped there decides about that block.
 */
static void run_of_tables(void)
{
	const unsigned long nr = 40, few = 4, half = BLOCK_PAGES / 2;
	char *p = map_blocks(nr + 1), *rest = p + nr * BLOCK + BLOCK / 2;
	struct events before;
	unsigned long b;
	long background;
	pid_t pid;

	for (b = 0; b <= nr; b++)
		fill(p, b * BLOCK_PAGES, few, ORIGIN);
	fill(p, nr * BLOCK_PAGES + half, few, PARENT);
	check(!madvise(rest, BLOCK / 2, MADV_DONTFORK), "MADV_DONTFORK");
	/* also makes these tables shared, and dormant */
	background = background_shares() - (long)nr;
	steps_reset();
	for (b = 0; b <= nr; b++)
		fill(p, b * BLOCK_PAGES + b % few, 1, PARENT);
	events_get(&before);
	pid = xfork();
	if (!pid) {
		check(read_faults(rest), "memory that is not to be inherited is");
		for (b = 0; b <= nr; b++) {
			verify(p, b * BLOCK_PAGES + b % few, 1, PARENT);
			verify(p, b * BLOCK_PAGES + (b + 1) % few, 1, ORIGIN);
			fill(p, b * BLOCK_PAGES + (b + 1) % few, 1, CHILD);
		}
		verify(p, few, half - few, OWNER_ZERO);
		done();
	}
	expect_events(&before, EV_SHARE, ==, (long)nr + background);
	expect_events(&before, EV_FB_VMA, >=, 1);
	join(pid);
	for (b = 0; b <= nr; b++) {
		verify(p, b * BLOCK_PAGES + b % few, 1, PARENT);
		verify(p, b * BLOCK_PAGES + (b + 1) % few, 1, ORIGIN);
	}
	verify(p, nr * BLOCK_PAGES + half, few, PARENT);
	unmap_blocks(p, nr + 1);
}

static const struct cow_case cases[] = {
	{ "writes of parent and child stay apart", isolation },
	{ "break, reuse and detach are counted", events_of_one_fork },
	{ "three generations", three_generations },
	{ "eight generations", many_generations },
	{ "six orders of exit", exit_orders },
	{ "six orders of exit, with writes between", exit_orders_with_writes },
	{ "second child while the first lives", second_child },
	{ "sixteen children", many_children },
	{ "threads of the child write to one block at once", threads_in_child },
	{ "threads of the parent write to one block at once", threads_in_parent },
	{ "fork is one instant for a writing thread", fork_is_one_instant },
	{ "two mappings of a block, one written while forking", two_mappings_of_a_block },
	{ "two sharers break at once", two_break_at_once },
	{ "three sharers break at once", three_break_at_once },
	{ "break against exit", break_against_exit },
	{ "exit against exit", exit_against_exit },
	{ "dormant tables are shared again", refork_of_dormant_tables },
	{ "fork again after the number of pages changed", refork_after_changes },
	{ "child exits or execs at once", child_exits_or_execs },
	{ "fork that fails", fork_that_fails },
	{ "sparse blocks and zero pages", sparse_blocks },
	{ "zero pages that were only read", only_read },
	{ "holes are filled for one process only", holes },
	{ "swap entries", swap_entries },
	{ "private file mapping", private_file },
	{ "private file mapping without a written page", private_file_unwritten },
	{ "hole of a private file mapping", private_file_hole },
	{ "killed sharers", killed_sharers },
	{ "vfork of a sharer", vfork_of_a_sharer },
	{ "a run of tables, and a mapping that ends in a block", run_of_tables },
};

int main(int argc, char **argv)
{
	if (silent_list(argc, argv))
		return 0;
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
