// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on the memory of a tree of processes, against a model of every
 * page.  Each process knows what each of its pages must hold; the model is private
 * memory too, but in a mapping that is inherited at a fork exactly as it is then.
 *
 * Operations are decided by one number generator and done one at a time, so that a
 * seed repeats a run; in the concurrent case all processes run at once, each with
 * its own generator.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cow_pte_util.h"

#ifndef MADV_COLD
#define MADV_COLD		20
#define MADV_PAGEOUT		21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#define NR		4UL
#define PAGES		(NR * BLOCK_PAGES)
#define MEMBERS		6

/* What a page must be: an owner and the page number its pattern was made for. */
struct page_model {
	uint16_t at;
	uint8_t owner;
	uint8_t state;
};

enum state { MAPPED, READ_ONLY, UNMAPPED, MAYBE_ZERO };

static struct page_model *model;
static char *p;
static uint64_t state;
static unsigned long operations;

#define AT(n)	(p + (n) * PAGE)

static unsigned long pick(unsigned long n)
{
	return rnd(&state) % n;
}

/* Mostly short ranges, some with block-aligned ends, a few long ones. */
static void pick_range(unsigned long *first, unsigned long *nr)
{
	unsigned long len;

	*first = pick(PAGES);
	switch (pick(6)) {
	case 0:
		*first &= ~(BLOCK_PAGES - 1);
		len = BLOCK_PAGES;
		break;
	case 1:
		len = 1 + pick(BLOCK_PAGES + 40);
		break;
	case 2:
		/* around the edge of a block */
		*first = (1 + pick(NR - 1)) * BLOCK_PAGES - pick(3);
		len = 1 + pick(4);
		break;
	default:
		len = 1 + pick(24);
		break;
	}
	*nr = *first + len > PAGES ? PAGES - *first : len;
}

static void check_page(unsigned long n)
{
	struct page_model *m = &model[n];

	switch (m->state) {
	case UNMAPPED:
		check(read_faults(AT(n)), "page %lu is mapped", n);
		return;
	case MAYBE_ZERO:
		if (page_is(AT(n), n, OWNER_ZERO)) {
			m->owner = OWNER_ZERO;
			m->at = n;
			return;
		}
		break;
	}
	check(page_is(AT(n), m->at, m->owner),
	      "page %lu: %#llx is not what owner %u wrote for page %u", n,
	      (unsigned long long)*(uint64_t *)AT(n), m->owner, m->at);
}

static void check_all(void)
{
	unsigned long n;

	/* of what must be zero or must not be there, a sample */
	for (n = 0; n < PAGES; n++) {
		if (model[n].owner != OWNER_ZERO || !(n % 8))
			check_page(n);
	}
}

static void check_some(void)
{
	unsigned int i;

	for (i = 0; i < 24; i++)
		check_page(pick(PAGES));
}

static void write_pages(unsigned long first, unsigned long nr)
{
	unsigned int owner = 2 + pick(200);
	unsigned long n;

	for (n = first; n < first + nr; n++) {
		if (model[n].state == UNMAPPED || model[n].state == READ_ONLY)
			continue;
		fill(p, n, 1, owner);
		model[n].owner = owner;
		model[n].at = n;
		model[n].state = MAPPED;
	}
}

static void set_zero(unsigned long n, enum state s)
{
	model[n].owner = OWNER_ZERO;
	model[n].at = n;
	model[n].state = s;
}

static bool any(unsigned long first, unsigned long nr, enum state s)
{
	unsigned long n;

	for (n = first; n < first + nr; n++)
		if (model[n].state == s)
			return true;
	return false;
}

static void op_write(void)
{
	unsigned long first, nr;

	pick_range(&first, &nr);
	write_pages(first, nr > 64 ? 64 : nr);
}

static void op_read(void)
{
	check_some();
}

static void op_drop(void)
{
	unsigned long first, nr, n;

	pick_range(&first, &nr);
	if (any(first, nr, UNMAPPED))
		return;
	check(!madvise(AT(first), nr * PAGE, MADV_DONTNEED), "MADV_DONTNEED");
	for (n = first; n < first + nr; n++)
		set_zero(n, model[n].state == READ_ONLY ? READ_ONLY : MAPPED);
}

static void op_free(void)
{
	unsigned long first, nr, n;

	pick_range(&first, &nr);
	if (any(first, nr, UNMAPPED) || any(first, nr, READ_ONLY))
		return;
	check(!madvise(AT(first), nr * PAGE, MADV_FREE), "MADV_FREE");
	for (n = first; n < first + nr; n++)
		model[n].state = MAYBE_ZERO;
}

static void op_unmap(void)
{
	unsigned long first, nr, n;

	pick_range(&first, &nr);
	if (nr > BLOCK_PAGES / 4 && pick(3))
		return;
	check(!munmap(AT(first), nr * PAGE), "munmap");
	for (n = first; n < first + nr; n++)
		set_zero(n, UNMAPPED);
}

static void op_map(void)
{
	unsigned long first, nr, n;
	void *ret;

	pick_range(&first, &nr);
	ret = mmap(AT(first), nr * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	check(ret == AT(first), "mmap");
	madvise(AT(first), nr * PAGE, MADV_NOHUGEPAGE);
	for (n = first; n < first + nr; n++)
		set_zero(n, MAPPED);
	write_pages(first, nr > 40 ? 40 : nr);
}

static void op_protect(void)
{
	bool writable = pick(2);
	unsigned long first, nr, n;

	pick_range(&first, &nr);
	if (any(first, nr, UNMAPPED) || any(first, nr, MAYBE_ZERO))
		return;
	check(!mprotect(AT(first), nr * PAGE,
			PROT_READ | (writable ? PROT_WRITE : 0)), "mprotect");
	for (n = first; n < first + nr; n++)
		model[n].state = writable ? MAPPED : READ_ONLY;
	check(write_faults(AT(first)) == !writable, "page %lu is %swritable",
	      first, writable ? "not " : "");
}

static void op_move(void)
{
	unsigned long first, nr, to, n;
	struct page_model moved[BLOCK_PAGES];
	void *ret;

	pick_range(&first, &nr);
	if (nr > BLOCK_PAGES)
		return;
	to = nr == BLOCK_PAGES ? pick(NR) * BLOCK_PAGES : pick(PAGES - nr + 1);
	if (to < first + nr && first < to + nr)
		return;
	/* one mapping only can be moved at a time */
	if (any(first, nr, UNMAPPED) || any(first, nr, READ_ONLY))
		return;
	memcpy(moved, model + first, nr * sizeof(*moved));
	ret = mremap(AT(first), nr * PAGE, nr * PAGE,
		     MREMAP_MAYMOVE | MREMAP_FIXED, AT(to));
	/* pieces of different mappings: the destination may be gone */
	if (ret == MAP_FAILED) {
		check(errno == EFAULT, "mremap");
		munmap(AT(to), nr * PAGE);
		for (n = to; n < to + nr; n++)
			set_zero(n, UNMAPPED);
		return;
	}
	for (n = 0; n < nr; n++) {
		model[to + n] = moved[n];
		if (moved[n].owner == OWNER_ZERO)
			model[to + n].at = to + n;
		/* whether it has become zero must be looked up there */
		if (moved[n].state == MAYBE_ZERO) {
			if (page_is(AT(to + n), 0, OWNER_ZERO))
				set_zero(to + n, MAPPED);
			else
				model[to + n].state = MAPPED;
		}
		set_zero(first + n, UNMAPPED);
	}
}

static void op_advise(void)
{
	static const int advice[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE,
	};
	unsigned long first, nr;

	pick_range(&first, &nr);
	if (any(first, nr, UNMAPPED))
		return;
	madvise(AT(first), nr * PAGE, advice[pick(ARRAY_LEN(advice))]);
}

static void op_lock(void)
{
	unsigned long first, nr;

	pick_range(&first, &nr);
	if (any(first, nr, UNMAPPED) || any(first, nr, MAYBE_ZERO))
		return;
	if (mlock(AT(first), nr * PAGE))
		return;
	check_page(first);
	check(!munlock(AT(first), nr * PAGE), "munlock");
}

/* Through a pipe, by reference. */
static void op_splice(void)
{
	unsigned long n = pick(PAGES);
	struct iovec iov = { AT(n), PAGE };
	static char buf[PAGE];
	int fd[2];

	if (model[n].state != MAPPED)
		return;
	check(!pipe(fd), "pipe");
	check(vmsplice(fd[1], &iov, 1, 0) == PAGE, "vmsplice");
	if (pick(2))
		op_write();
	else
		op_drop();
	check(read(fd[0], buf, PAGE) == PAGE, "read");
	close(fd[0]);
	close(fd[1]);
	check_page(n);
}

static void op_clear_refs(void)
{
	write_file("/proc/self/clear_refs", "%lu", pick(2) ? 1UL : 4UL);
}

static void op_smaps(void)
{
	smaps_kb(0, p, "Rss");
}

/* A process of the family that forks once more, and a short-lived child. */
static void op_short_child(void)
{
	unsigned int n = 1 + pick(6);
	pid_t pid = xfork();

	if (!pid) {
		pick(7);
		while (n--)
			op_write();
		check_some();
		done();
	}
	if (pick(2))
		op_write();
	join(pid);
}

static void (*const ops[])(void) = {
	op_write, op_write, op_write, op_write, op_read, op_read, op_drop,
	op_drop, op_free, op_unmap, op_map, op_map, op_protect, op_protect,
	op_move, op_advise, op_lock, op_splice, op_clear_refs, op_smaps,
	op_short_child,
};

static void one_operation(void)
{
	ops[pick(ARRAY_LEN(ops))]();
	operations++;
	if (!(operations % 16))
		check_some();
}

static void setup(void)
{
	unsigned long n;

	p = map_blocks(NR);
	model = mmap(NULL, PAGES * sizeof(*model), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(model != MAP_FAILED, "mmap");
	for (n = 0; n < PAGES; n++)
		set_zero(n, MAPPED);
	for (n = 0; n < NR; n++)
		write_pages(n * BLOCK_PAGES + pick(100), 1 + pick(300));
}

static void teardown(void)
{
	unmap_blocks(p, NR);
	munmap(model, PAGES * sizeof(*model));
}

/*
 * One at a time: the conductor names a member and what it is to do.  Each member
 * waits for commands of its own, so that nobody can mistake one for his.
 */
enum { DONE, FORKED, COMMAND };
enum { SLOT_WHAT, SLOT_STATE, SLOT_NEW, SLOT_COUNT, SLOT_PID };
enum what { OPERATE, FORK, LEAVE };

/* how many commands each member has been given */
static unsigned int commands[MEMBERS], commands_done;

static void serve(unsigned int me, unsigned int count)
{
	for (;;) {
		await(COMMAND + me, ++count);
		state = slots[SLOT_STATE];
		switch (slots[SLOT_WHAT]) {
		case OPERATE:
			one_operation();
			break;
		case FORK:
			if (!xfork()) {
				me = slots[SLOT_NEW];
				count = slots[SLOT_COUNT];
				slots[SLOT_PID + me] = getpid();
				arrive(FORKED);
				continue;
			}
			break;
		case LEAVE:
			check_all();
			done();
		}
		arrive(DONE);
	}
}

static void command(unsigned int who, unsigned int what)
{
	slots[SLOT_WHAT] = what;
	slots[SLOT_STATE] = rnd(&state);
	commands[who]++;
	arrive(COMMAND + who);
	if (what == LEAVE) {
		wait_gone(slots[SLOT_PID + who]);
		slots[SLOT_PID + who] = 0;
		return;
	}
	await(DONE, ++commands_done);
}

static void one_at_a_time(void)
{
	unsigned int turns = rounds(250), turn = 0, members = 1, forks = 0;
	unsigned int who, free;
	struct events before;
	pid_t pid;

	state = seed;
	events_get(&before);
	pid = xfork();
	if (!pid) {
		setup();
		slots[SLOT_PID] = getpid();
		serve(0, 0);
	}
	while (turn < turns) {
		who = pick(MEMBERS);
		while (turn && !slots[SLOT_PID + who])
			who = (who + 1) % MEMBERS;
		if (!turn)
			who = 0;
		turn++;
		for (free = 0; free < MEMBERS; free++)
			if (!slots[SLOT_PID + free] && free)
				break;
		if (members < MEMBERS && free < MEMBERS && !pick(6)) {
			slots[SLOT_NEW] = free;
			slots[SLOT_COUNT] = commands[free];
			command(who, FORK);
			await(FORKED, ++forks);
			members++;
		} else if (members > 1 && !pick(14)) {
			command(who, LEAVE);
			members--;
		} else {
			command(who, OPERATE);
		}
	}
	for (who = 0; who < MEMBERS; who++)
		if (slots[SLOT_PID + who])
			command(who, LEAVE);
	while (waitpid(-1, NULL, 0) > 0)
		;
	note("%u turns", turn);
	expect_events(&before, EV_SHARE, >=, 1);
	expect_events(&before, EV_BREAK, >=, 1);
}

/*
 * All at once: a tree in which each process forks others, operates, and checks all
 * of its memory before it leaves.
 */
static void live(unsigned int depth)
{
	unsigned int n = rounds(60), i, children = 0;
	pid_t pid[2];

	for (i = 0; i < n; i++) {
		one_operation();
		if (children < 2 && depth < 2 && !pick(20)) {
			pid[children] = xfork();
			if (!pid[children]) {
				state += 1 + children + 2 * depth;
				live(depth + 1);
				done();
			}
			children++;
		}
	}
	check_all();
	for (i = 0; i < children; i++)
		join(pid[i]);
	check_all();
}

static void all_at_once(void)
{
	struct events before;
	unsigned int round;

	state = seed + 1;
	events_get(&before);
	for (round = 0; round < rounds(2); round++) {
		setup();
		live(0);
		teardown();
	}
	expect_events(&before, EV_SHARE, >=, 1);
}

/* The same until a given time is over (COW_PTE_TEST_SECONDS), with new seeds. */
static void for_a_time(void)
{
	const char *env = getenv("COW_PTE_TEST_SECONDS");
	time_t end = time(NULL) + (env ? atoi(env) : 2);
	unsigned int round = 0;

	do {
		state = seed + 1000 + round++;
		setup();
		live(0);
		teardown();
	} while (time(NULL) < end);
	note("%u rounds, %lu operations of the first process", round, operations);
}

static const struct cow_case cases[] = {
	{ "one operation at a time", one_at_a_time },
	{ "all at once", all_at_once },
	{ "all at once, for some seconds", for_a_time },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
