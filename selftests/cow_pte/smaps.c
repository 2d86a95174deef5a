// SPDX-License-Identifier: GPL-2.0
/*
 * Observers: looking at shared memory through /proc and mincore leaves it shared
 * and bit-identical, and what they tell of it is what they tell of ordinary pages
 * that several processes map.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, PARENT, CHILD };
enum { READY, GO, DONE, LEAVE };

#define NR	4UL
#define PAGES	(NR * BLOCK_PAGES)
#define AT(n)	(p + (n) * PAGE)

static char buf[1 << 16];

/* Reads a file to its end. */
static bool swallow(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
	return true;
}

static void read_pagemap(pid_t pid, char *p)
{
	static uint64_t entries[PAGES];
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY);
	check(fd >= 0, "%s", path);
	check(pread(fd, entries, sizeof(entries), (uintptr_t)p / PAGE * 8) ==
	      sizeof(entries), "%s", path);
	close(fd);
}

/* Everything that only looks, at this process and at the other. */
static void observe(char *p, pid_t other)
{
	static unsigned char vec[PAGES];
	pid_t pids[] = { getpid(), other };
	char path[64];
	unsigned int i, n;

	for (i = 0; i < 2; i++) {
		check(swallow(pids[i], "smaps"), "smaps");
		check(swallow(pids[i], "smaps_rollup"), "smaps_rollup");
		swallow(pids[i], "maps");
		swallow(pids[i], "numa_maps");
		swallow(pids[i], "status");
		swallow(pids[i], "statm");
		swallow(pids[i], "oom_score");
		read_pagemap(pids[i], p);
		snprintf(path, sizeof(path), "/proc/%d/clear_refs", pids[i]);
		check(!write_file(path, "1"), "%s", path);
		check(swallow(pids[i], "smaps"), "smaps");
	}
	check(!mincore(p, NR * BLOCK, vec), "mincore");
	for (i = 0, n = 0; i < PAGES; i++)
		n += vec[i] & 1;
	check(plain || n == PAGES - BLOCK_PAGES / 2, "mincore sees %u pages", n);
}

/* Three and a half blocks, so that there are holes to look at. */
static void fill_most(char *p, unsigned int owner)
{
	fill(p, 0, PAGES - BLOCK_PAGES / 2, owner);
}

static void verify_most(char *p, unsigned int owner)
{
	verify(p, 0, PAGES - BLOCK_PAGES / 2, owner);
}

/*
 * No observer breaks a table: no break is counted while they look, and the write
 * that follows has to break each.
 */
static void observers_leave_it_shared(void)
{
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(NR);
		struct events before;
		pid_t pid;

		steps_reset();
		fill_most(p, ORIGIN);
		pid = fork_sharing(NR);
		if (!pid) {
			unsigned int i;

			arrive(READY);
			await(GO, 1);
			events_get(&before);
			for (i = 0; i < NR; i++)
				fill(p, i * BLOCK_PAGES, 1, CHILD);
			expect_events(&before, EV_BREAK, >=, (long)NR);
			for (i = 0; i < NR; i++)
				verify(p, i * BLOCK_PAGES + 1,
				       BLOCK_PAGES / 2 - 1, ORIGIN);
			verify(p, PAGES - BLOCK_PAGES / 2, BLOCK_PAGES / 2,
			       OWNER_ZERO);
			done();
		}
		await(READY, 1);
		/* once to break what the observer itself writes to */
		observe(p, pid);
		events_get(&before);
		observe(p, pid);
		expect_events(&before, EV_BREAK, ==, 0);
		expect_events(&before, EV_REUSE, ==, 0);
		verify_most(p, ORIGIN);
		expect_events(&before, EV_BREAK, ==, 0);
		arrive(GO);
		join(pid);
		verify_most(p, ORIGIN);
		observe(p, getpid());
		unmap_blocks(p, NR);
	}
}

/*
 * The numbers of smaps: all of it shared, none private, and the proportional share
 * divided by the processes that map it.
 */
static void proportions(pid_t pid, char *p, long kb, unsigned int sharers)
{
	long rss = smaps_kb(pid, p, "Rss");
	long pss = smaps_kb(pid, p, "Pss");
	long priv = smaps_kb(pid, p, "Private_Dirty") +
		    smaps_kb(pid, p, "Private_Clean");
	long shared = smaps_kb(pid, p, "Shared_Dirty") +
		      smaps_kb(pid, p, "Shared_Clean");

	check(rss == kb, "Rss %ld kB, expected %ld kB", rss, kb);
	check(labs(pss - kb / (long)sharers) <= 4,
	      "Pss %ld kB of %ld kB for %u processes", pss, kb, sharers);
	check(sharers > 1 ? shared == kb && !priv : priv == kb && !shared,
	      "%u processes: %ld kB shared, %ld kB private", sharers, shared,
	      priv);
}

static void smaps_numbers(void)
{
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		const long kb = (PAGES - BLOCK_PAGES / 2) * 4;
		char *p = map_blocks(NR);
		pid_t pid[2];
		unsigned int i;

		steps_reset();
		fill_most(p, ORIGIN);
		proportions(0, p, kb, 1);
		for (i = 0; i < 2; i++) {
			pid[i] = fork_sharing(NR);
			if (!pid[i]) {
				arrive(READY);
				await(GO, i + 1);
				if (i)
					fill(p, 0, BLOCK_PAGES, CHILD);
				arrive(DONE);
				await(LEAVE, 1);
				done();
			}
			await(READY, i + 1);
			proportions(0, p, kb, i + 2);
			proportions(pid[i], p, kb, i + 2);
		}
		arrive(GO);
		arrive(GO);
		await(DONE, 2);
		/* the second child has a block to itself now */
		check(smaps_kb(pid[1], p, "Private_Dirty") +
		      smaps_kb(pid[1], p, "Private_Clean") == BLOCK_PAGES * 4,
		      "%ld kB private after the write of a block",
		      smaps_kb(pid[1], p, "Private_Dirty"));
		check(labs(smaps_kb(0, p, "Pss") -
			   (long)(BLOCK_PAGES * 2 +
			    (kb - BLOCK_PAGES * 4) / 3)) <= 8,
		      "Pss %ld kB", smaps_kb(0, p, "Pss"));
		arrive(LEAVE);
		join(pid[0]);
		join(pid[1]);
		proportions(0, p, kb, 1);
		unmap_blocks(p, NR);
	}
}

/* pagemap: a page that two processes can reach is not exclusive to one. */
static void expect_exclusive(pid_t pid, char *p, unsigned long page, bool exclusive)
{
	uint64_t entry = pagemap(pid, AT(page));

	check(entry & PM_PRESENT, "page %lu is not present", page);
	check(!!(entry & PM_EXCLUSIVE) == exclusive,
	      "page %lu of %d is %sexclusive", page, pid,
	      exclusive ? "not " : "");
}

static void exclusive_bit(void)
{
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(NR);
		unsigned int i;
		pid_t pid;

		steps_reset();
		fill_most(p, ORIGIN);
		expect_exclusive(0, p, 700, true);
		pid = fork_sharing(NR);
		if (!pid) {
			arrive(READY);
			await(GO, 1);
			fill(p, 700, 1, CHILD);
			arrive(DONE);
			await(LEAVE, 1);
			done();
		}
		await(READY, 1);
		for (i = 0; i < PAGES - BLOCK_PAGES / 2; i += 61) {
			expect_exclusive(0, p, i, false);
			expect_exclusive(pid, p, i, false);
		}
		arrive(GO);
		await(DONE, 1);
		expect_exclusive(pid, p, 700, true);
		expect_exclusive(pid, p, 701, false);
		expect_exclusive(0, p, 701, false);
		/* the page the child has copied is the parent's alone */
		expect_exclusive(0, p, 700, true);
		expect_exclusive(0, p, 5, false);
		arrive(LEAVE);
		join(pid);
		for (i = 0; i < PAGES - BLOCK_PAGES / 2; i += 61)
			expect_exclusive(0, p, i, true);
		unmap_blocks(p, NR);
	}
}

/*
 * Soft-dirty bits: cleared for one process, they are for that process only, and
 * both see their own writes since.
 */
static bool soft_dirty(pid_t pid, char *p, unsigned long page)
{
	return pagemap(pid, AT(page)) & PM_SOFT_DIRTY;
}

static void soft_dirty_bits(void)
{
	unsigned int round;

	for (round = 0; round < rounds(4); round++) {
		char *p = map_blocks(NR);
		struct events before;
		pid_t pid;

		steps_reset();
		fill_most(p, ORIGIN);
		if (write_file("/proc/self/clear_refs", "4"))
			skip_case("no soft-dirty bits");
		fill(p, 3, 1, ORIGIN);
		if (!soft_dirty(0, p, 3))
			skip_case("no soft-dirty bits");
		check(!soft_dirty(0, p, 700), "not cleared");
		fill_most(p, ORIGIN);
		pid = fork_sharing(NR);
		if (!pid) {
			arrive(READY);
			await(GO, 1);
			/* the parent has cleared its bits, not these */
			check(soft_dirty(0, p, 700), "cleared by the parent");
			check(!write_file("/proc/self/clear_refs", "4"),
			      "clear_refs");
			check(!soft_dirty(0, p, 700), "not cleared");
			fill(p, 100, 1, CHILD);
			check(soft_dirty(0, p, 100), "a write is missing");
			check(!soft_dirty(0, p, 101), "dirty without a write");
			check(!soft_dirty(0, p, 50), "the parent's write");
			verify(p, 0, 100, ORIGIN);
			arrive(DONE);
			await(LEAVE, 1);
			verify(p, 101, 500, ORIGIN);
			done();
		}
		await(READY, 1);
		events_get(&before);
		check(!write_file("/proc/self/clear_refs", "4"), "clear_refs");
		expect_events(&before, EV_BREAK, >=, (long)NR);
		check(!soft_dirty(0, p, 700), "not cleared");
		fill(p, 50, 1, PARENT);
		check(soft_dirty(0, p, 50), "a write is missing");
		arrive(GO);
		await(DONE, 1);
		check(!soft_dirty(0, p, 100), "the child's write");
		verify(p, 51, 1000, ORIGIN);
		arrive(LEAVE);
		join(pid);
		unmap_blocks(p, NR);
	}
}

/* Idle page tracking and accessed bits are one hint for all: nothing breaks. */
static void idle_pages(void)
{
	const char *path = "/sys/kernel/mm/page_idle/bitmap";
	char *p = map_blocks(NR);
	struct events before;
	uint64_t ones = -1;
	unsigned int i;
	pid_t pid;
	int fd = open(path, O_RDWR);

	if (fd < 0)
		skip_case("no %s", path);
	fill_most(p, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		arrive(READY);
		await(GO, 1);
		verify_most(p, ORIGIN);
		done();
	}
	await(READY, 1);
	pagemap(0, p);
	events_get(&before);
	for (i = 0; i < PAGES - BLOCK_PAGES / 2; i += 8) {
		uint64_t pfn = pagemap(0, AT(i)) & ((1ULL << 55) - 1);

		if (pwrite(fd, &ones, 8, pfn / 64 * 8) != 8)
			break;
		pread(fd, &ones, 8, pfn / 64 * 8);
		ones = -1;
	}
	expect_events(&before, EV_BREAK, ==, 0);
	verify_most(p, ORIGIN);
	arrive(GO);
	join(pid);
	verify_most(p, ORIGIN);
	close(fd);
	unmap_blocks(p, NR);
}

/* Looking at a process while it forks, writes and unmaps. */
static void observers_against_writers(void)
{
	char *p = map_blocks(NR);
	pid_t watched = getpid(), pid;
	unsigned int round;

	fill_most(p, ORIGIN);
	pid = xfork();
	if (!pid) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/clear_refs", watched);
		while (!slots[10]) {
			swallow(watched, "smaps");
			read_pagemap(watched, p);
			swallow(watched, "numa_maps");
			write_file(path, "1");
		}
		done();
	}
	for (round = 0; round < rounds(10); round++) {
		pid_t child = fork_sharing(NR);

		if (!child) {
			fill(p, round, 30, CHILD);
			munmap(p + BLOCK + round * PAGE, BLOCK);
			verify(p, round, 30, CHILD);
			done();
		}
		fill(p, 2 * BLOCK_PAGES + round, 30, ORIGIN);
		join(child);
		verify_most(p, ORIGIN);
	}
	slots[10] = 1;
	join(pid);
	unmap_blocks(p, NR);
}

/*
 * CowPTE in /proc/PID/status follows the tables that a process shares,
 * CowPTEBreaks those that it had to copy, and CowPTEMode the prctl.
 */
static void status_lines(void)
{
	static const char *const names[] = { "CowPTE", "CowPTEBreaks" };
	char *p = map_blocks(NR);
	long before[2], now[2];
	pid_t pid;

	if (plain || !feature_present())
		skip_case("no tables are shared");
	fill(p, 0, PAGES, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		arrive(READY);
		await(GO, 1);
		done();
	}
	await(READY, 1);
	check(status_kb(pid, "CowPTEMode") == 1 && status_kb(0, "CowPTEMode") == 1,
	      "CowPTEMode: child %ld, parent %ld", status_kb(pid, "CowPTEMode"),
	      status_kb(0, "CowPTEMode"));
	set_mode(0);
	check(status_kb(pid, "CowPTEMode") == 1 && status_kb(0, "CowPTEMode") == 0,
	      "CowPTEMode switched off: child %ld, parent %ld",
	      status_kb(pid, "CowPTEMode"), status_kb(0, "CowPTEMode"));
	set_mode(1);
	status_fields(pid, names, before, 2);
	check(before[0] >= (long)NR * 4, "CowPTE of the child: %ld kB", before[0]);
	/* it wrote to its own data, but to none of these blocks */
	check(before[1] < (long)NR, "CowPTEBreaks of a new child: %ld", before[1]);
	status_fields(0, names, before, 2);
	check(before[0] >= (long)NR * 4, "CowPTE of the parent: %ld kB", before[0]);

	fill(p, 0, 1, PARENT);
	status_fields(0, names, now, 2);
	check(now[0] <= before[0] - 4, "CowPTE after a write: %ld, was %ld kB",
	      now[0], before[0]);
	check(now[1] >= before[1] + 1, "CowPTEBreaks after a write: %ld, was %ld",
	      now[1], before[1]);
	arrive(GO);
	join(pid);

	/* the last sharer takes back the rest, and that is no copy */
	status_fields(0, names, before, 2);
	fill(p, BLOCK_PAGES, PAGES - BLOCK_PAGES, PARENT);
	status_fields(0, names, now, 2);
	check(now[0] <= before[0] - (long)(NR - 1) * 4,
	      "CowPTE after the child left: %ld, was %ld kB", now[0], before[0]);
	unmap_blocks(p, NR);
	status_fields(0, names, before, 2);
	check(before[0] == now[0], "CowPTE after munmap: %ld, was %ld kB", before[0],
	      now[0]);
}

#define TRACEFS	"/sys/kernel/tracing"

/* Does a line with all three words stand in the trace? */
static bool traced(const char *event, unsigned long addr, const char *word)
{
	char line[512], where[32];
	FILE *f = fopen(TRACEFS "/trace", "r");
	bool found = false;

	check(f, TRACEFS "/trace: %s", strerror(errno));
	snprintf(where, sizeof(where), "addr=0x%lx ", addr);
	while (!found && fgets(line, sizeof(line), f))
		found = strstr(line, event) && strstr(line, where) &&
			strstr(line, word);
	fclose(f);
	return found;
}

/* Each event has a tracepoint that says which block, and why it was not shared. */
static void tracepoints(void)
{
	char *p = map_blocks(NR), *q;
	pid_t pid;

	if (plain || !feature_present())
		skip_case("no tables are shared");
	mount("none", TRACEFS, "tracefs", 0, NULL);
	if (write_file(TRACEFS "/events/cow_pte/enable", "1"))
		skip_case("no " TRACEFS "/events/cow_pte");
	write_file(TRACEFS "/trace", "\n");
	fill(p, 0, PAGES, ORIGIN);
	q = p + (NR - 1) * BLOCK;
	check(!madvise(q, PAGE, MADV_DONTFORK), "MADV_DONTFORK");
	pid = fork_sharing(NR - 1);
	if (!pid) {
		fill(p, 0, 1, CHILD);
		munmap(p + BLOCK, BLOCK);
		done();
	}
	join(pid);
	fill(p, 0, 1, PARENT);
	write_file(TRACEFS "/events/cow_pte/enable", "0");
	check(traced("cow_pte_share:", (unsigned long)p, "sharers=2"), "share");
	check(traced("cow_pte_break:", (unsigned long)p, "sharers=1"), "break");
	check(traced("cow_pte_reuse:", (unsigned long)p, "sharers=1"), "reuse");
	check(traced("cow_pte_detach:", (unsigned long)p + BLOCK, "sharers=1"),
	      "detach");
	check(traced("cow_pte_fallback:", (unsigned long)q, "reason=vma"),
	      "fallback");
	check(!traced("cow_pte_fallback:", (unsigned long)p, "reason"),
	      "a fallback where there was none");
	unmap_blocks(p, NR);
}

static const struct cow_case cases[] = {
	{ "observers leave it shared", observers_leave_it_shared },
	{ "numbers of smaps", smaps_numbers },
	{ "exclusive bit of pagemap", exclusive_bit },
	{ "soft-dirty bits", soft_dirty_bits },
	{ "idle pages", idle_pages },
	{ "observers against writers", observers_against_writers },
	{ "lines of status", status_lines },
	{ "tracepoints", tracepoints },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
