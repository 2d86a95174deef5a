// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are changed in a shared table on behalf of somebody who does not share
 * it: KSM of one process, a device of another one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, ACTOR, WRITER };
enum { READY, MERGED, COMPARED, MOVING, MOVED, WROTE, LOOKED, LEAVE };

#define AT(n)		(p + (n) * PAGE)
#define SAME		32UL	/* pages with the same contents */
#define SAME_BYTE	0x5a
#define ALL_MOVED	SAME	/* a slot; those before are page frames */
#define KSM		"/sys/kernel/mm/ksm/"
#define MOVE_ALL	4	/* MPOL_MF_MOVE_ALL */

static void verify_same(char *p)
{
	unsigned long i;

	for (i = 0; i < SAME; i++)
		check(*AT(i) == SAME_BYTE && *(AT(i + 1) - 1) == SAME_BYTE, "page %lu", i);
}

static void verify_block(char *p)
{
	verify_same(p);
	verify(p, SAME, BLOCK_PAGES - SAME, ORIGIN);
}

static uint64_t pfn_of(char *at)
{
	uint64_t entry = pagemap(0, at);

	return entry & PM_PRESENT ? entry & ((1ULL << 55) - 1) : 0;
}

static void move_same(char *p)
{
	void *pages[SAME];
	int nodes[SAME], status[SAME], k;
	unsigned long i;

	for (k = 0; k < 4; k++) {
		for (i = 0; i < SAME; i++) {
			pages[i] = AT(i);
			nodes[i] = k % 2;
		}
		/* that a page cannot be moved is an answer */
		syscall(SYS_move_pages, 0, SAME, pages, nodes, status, MOVE_ALL);
	}
}

/* The one whose memory ksmd scans; its child shares the table with its parent still. */
static void merger(char *p)
{
	long sleep_ms = read_long(KSM "sleep_millisecs"), run = read_long(KSM "run");
	long scan = read_long(KSM "pages_to_scan");
	unsigned long i;
	long breaks;
	int tries;
	pid_t pid = fork_sharing(1);

	if (!pid) {
		breaks = own_breaks();
		arrive(READY);
		await(MOVING, 1);
		for (i = 0; i < SAME && slots[i] != pfn_of(AT(i)); i++)
			;
		check(i < SAME, "no page of KSM is in the table of the child's child");
		/* leave the table while its page is on the way, if it goes at all */
		while (!slots[ALL_MOVED] && pfn_of(AT(i)))
			;
		fill(p, SAME, 5, WRITER);
		check(own_breaks() == breaks + 1, "%ld tables copied", own_breaks() - breaks);
		verify_same(p);
		verify(p, SAME, 5, WRITER);
		verify(p, SAME + 5, BLOCK_PAGES - SAME - 5, ORIGIN);
		arrive(WROTE);
		await(LEAVE, 1);
		verify_same(p);
		done();
	}
	await(READY, 1);
	check(!madvise(p, BLOCK, MADV_MERGEABLE), "MADV_MERGEABLE: %s", strerror(errno));
	write_file(KSM "sleep_millisecs", "1");
	write_file(KSM "pages_to_scan", "4096");
	/* what was merged in processes that are gone does not count */
	write_file(KSM "run", "2");
	write_file(KSM "run", "1");
	for (tries = 0; tries < 600 && read_long(KSM "pages_sharing") < (long)SAME - 1;
	     tries++)
		usleep(100 * 1000);
	write_file(KSM "run", "%ld", run);
	write_file(KSM "sleep_millisecs", "%ld", sleep_ms);
	write_file(KSM "pages_to_scan", "%ld", scan);
	note("%ld pages merged, %ld shared, %ld unshared, %ld volatile, %ld skipped, %ld scans",
	     read_long(KSM "pages_sharing"), read_long(KSM "pages_shared"),
	     read_long(KSM "pages_unshared"), read_long(KSM "pages_volatile"),
	     read_long(KSM "pages_skipped"), read_long(KSM "full_scans"));
	check(tries < 600, "nothing is merged");
	for (i = 0; i < SAME; i++)
		slots[i] = pfn_of(AT(i));
	arrive(MERGED);
	await(COMPARED, 1);
	/* who changes the table in place holds its lock for long */
	delay_windows(20000, WINDOW_CLEARED);
	arrive(MOVING);
	move_same(p);
	slots[ALL_MOVED] = 1;
	delay_windows(0, 0);
	verify_block(p);
	await(LOOKED, 1);
	verify_block(p);
	join(pid);
	done();
}

/*
 * rmap finds a page of KSM by the process whose memory was scanned, and its children.
 * Here that is a child; its own child leads to the table that its parent shares, and
 * leaves it while the page is on the way.  Nobody would find the parent's entry again to
 * restore it.
 */
static void ksm_page_moves(void)
{
	unsigned int round, found;
	unsigned long i;

	if (read_long(KSM "run") < 0)
		skip_case("no KSM");
	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node only");
	for (round = 0; round < rounds(4); round++) {
		char *p = map_blocks(1);
		pid_t pid;

		steps_reset();
		slots[ALL_MOVED] = 0;
		fill(p, 0, BLOCK_PAGES, ORIGIN);
		memset(p, SAME_BYTE, SAME * PAGE);
		pid = fork_sharing(1);
		if (!pid)
			merger(p);
		await(MERGED, 1);
		/* the page that all were merged into is in this table too */
		for (found = i = 0; i < SAME; i++)
			found += slots[i] && slots[i] == pfn_of(AT(i));
		check(found, "no page of KSM is in the table of the parent");
		arrive(COMPARED);
		await(WROTE, 1);
		verify_block(p);
		arrive(LEAVE);
		arrive(LOOKED);
		join(pid);
		verify_block(p);
		fill(p, 0, BLOCK_PAGES, ACTOR);
		verify(p, 0, BLOCK_PAGES, ACTOR);
		unmap_blocks(p, 1);
	}
}

/* lib/test_hmm_uapi.h */
struct dmirror_cmd {
	uint64_t addr, ptr, npages, cpages, faults;
};
#define DMIRROR_MIGRATE_TO_DEV	_IOWR('H', 0x02, struct dmirror_cmd)

#define FEW	64UL

/* A sharer writes beside the pages that are in the device, and reads them, or not. */
static void device_sharer(char *p, unsigned int me, bool reads)
{
	arrive(READY);
	await(MOVED, 1);
	fill(p, FEW + me, 1, WRITER + me);
	if (reads)
		verify(p, 0, FEW, ORIGIN);
	arrive(WROTE);
	await(LOOKED, 1);
	verify(p, FEW + me, 1, WRITER + me);
	verify(p, FEW + 2, BLOCK_PAGES - FEW - 2, ORIGIN);
	if (reads)
		verify(p, 0, FEW, ORIGIN);
	done();
}

/*
 * A process with a device moves pages there that two others map, who share a table;
 * they have no notifiers and know nothing of it.  The table is changed in place, and then
 * copied with what it has: entries that stand for pages of the device.
 */
static void one_device(unsigned int round)
{
	static char mirror[FEW * PAGE];
	struct dmirror_cmd cmd = { .npages = FEW };
	char *p = map_blocks(1);
	struct events before;
	unsigned int me;
	pid_t pids[2];
	int fd;

	fill(p, 0, BLOCK_PAGES, ORIGIN);
	for (me = 0; me < 2; me++) {
		pids[me] = fork_sharing(1);
		if (!pids[me])
			device_sharer(p, me, round >> me & 1);
	}
	await(READY, 2);
	events_get(&before);
	fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	check(fd >= 0, "/dev/hmm_dmirror0: %s", strerror(errno));
	expect_events(&before, EV_BREAK, >=, 1);
	cmd.addr = (uintptr_t)p;
	cmd.ptr = (uintptr_t)mirror;
	events_get(&before);
	check(!ioctl(fd, DMIRROR_MIGRATE_TO_DEV, &cmd), "MIGRATE_TO_DEV: %s", strerror(errno));
	check(cmd.cpages, "no page went to the device");
	check(page_is(mirror, 0, ORIGIN), "the device has something else");
	/* there are no ways to the table of the two but in place */
	expect_events(&before, EV_INPLACE, >=, (long)cmd.cpages);
	expect_events(&before, EV_BREAK, ==, 0);
	arrive(MOVED);
	await(WROTE, 2);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	arrive(LOOKED);
	join(pids[0]);
	join(pids[1]);
	close(fd);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	done();
}

static void pages_go_to_a_device(void)
{
	unsigned int round;
	pid_t pid;

	if (access("/dev/hmm_dmirror0", R_OK | W_OK))
		skip_case("no /dev/hmm_dmirror0");
	for (round = 0; round < rounds(4); round++) {
		steps_reset();
		/* who had a device once shares no more */
		pid = xfork();
		if (!pid)
			one_device(round);
		join(pid);
	}
}

static const struct cow_case cases[] = {
	{ "KSM pages that migrate", ksm_page_moves },
	{ "pages that another process moves to a device", pages_go_to_a_device },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
