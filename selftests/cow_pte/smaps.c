// SPDX-License-Identifier: GPL-2.0
/*
 * Observers: looking at shared memory through /proc and mincore leaves it shared
 * and bit-identical, and what they tell of it is what they tell of ordinary pages
 * that several processes map.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, PARENT, CHILD };
enum { READY, GO, DONE, LEAVE };

#define NR	4UL
#define PAGES	(NR * BLOCK_PAGES)
#define AT(n)	(p + (n) * PAGE)
/* pages written in each block where more would only take longer */
#define FEW	24UL

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

static uint64_t pfn_of(pid_t pid, void *addr)
{
	uint64_t entry = pagemap(pid, addr);

	check(entry & PM_PRESENT, "%p is not present", addr);
	return entry & ((1ULL << 55) - 1);
}

/* ---- the same numbers elsewhere ---- */

/* A field of smaps_rollup, in kB. */
static long rollup_kb(pid_t pid, const char *field)
{
	char path[64], line[256];
	size_t len = strlen(field);
	long kb = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	f = fopen(path, "r");
	check(f, "%s", path);
	while (kb < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, len) && line[len] == ':')
			kb = strtol(line + len + 1, NULL, 10);
	fclose(f);
	check(kb >= 0, "no %s in %s", field, path);
	return kb;
}

/* The same field of all mappings in smaps; @nr is how many there are. */
static long smaps_sum(pid_t pid, const char *field, long *nr)
{
	char path[64], line[256];
	size_t len = strlen(field);
	long kb = 0;
	FILE *f;

	*nr = 0;
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	f = fopen(path, "r");
	check(f, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, field, len) || line[len] != ':')
			continue;
		kb += strtol(line + len + 1, NULL, 10);
		(*nr)++;
	}
	fclose(f);
	check(*nr, "no %s in %s", field, path);
	return kb;
}

/*
 * smaps_rollup is the sum of smaps, but for what is lost by rounding each.  The first
 * look is for the tables that looking itself copies, as the other process shares them.
 */
static void rolled_up(pid_t pid)
{
	static const char *const fields[] = {
		"Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean",
		"Private_Dirty", "Anonymous", "Swap", "SwapPss",
	};
	long nr, sum, rollup;
	unsigned int i;

	if (pid != getpid())
		await_asleep(pid);
	smaps_sum(pid, "Rss", &nr);
	for (i = 0; i < ARRAY_LEN(fields); i++) {
		sum = smaps_sum(pid, fields[i], &nr);
		rollup = rollup_kb(pid, fields[i]);
		check(rollup >= sum && rollup <= sum + nr,
		      "%s: %ld kB in smaps_rollup, %ld kB in %ld mappings of smaps",
		      fields[i], rollup, sum, nr);
	}
}

/* Takes pages out of the cgroup until @kb more of @p are in swap. */
static void swap_out(char *p, long kb)
{
	long start = smaps_kb(0, p, "Swap");
	int tries;

	for (tries = 0; tries < 60; tries++) {
		/* EAGAIN means that it got less than asked for. */
		cgroup_write("memory.reclaim", "2M");
		if (smaps_kb(0, p, "Swap") - start >= kb)
			return;
	}
	skip_case("reclaim takes too little: Swap is %ld kB, was %ld kB",
		  smaps_kb(0, p, "Swap"), start);
}

/*
 * Memory of which a part is in swap: what is present is divided by the processes that
 * map it, and so is what is in swap.
 */
static void swap_proportions(pid_t pid, char *p, long kb, unsigned int sharers)
{
	long swap = smaps_kb(pid, p, "Swap");
	long swap_pss = smaps_kb(pid, p, "SwapPss");

	check(swap > 0 && swap < kb, "%ld kB of %ld kB in swap", swap, kb);
	check(labs(swap_pss - swap / (long)sharers) <= 1,
	      "SwapPss %ld kB of %ld kB for %u processes", swap_pss, swap, sharers);
	proportions(pid, p, kb - swap, sharers);
}

static void rollup_and_swap(void)
{
	const long kb = (PAGES - BLOCK_PAGES / 2) * 4;
	long pss, swap_pss, copied, breaks;
	struct events before;
	unsigned int i;
	pid_t pid[2];
	char *p;

	if (!have_swap())
		skip_case("no swap");
	cgroup_enter();
	p = map_blocks(NR);
	fill_most(p, ORIGIN);
	rolled_up(getpid());
	swap_out(p, kb / 4);
	swap_proportions(0, p, kb, 1);
	for (i = 0; i < 2; i++) {
		pid[i] = fork_sharing(NR);
		if (!pid[i]) {
			arrive(READY);
			await(GO, 1);
			if (i)
				fill(p, 2, 1, CHILD);
			arrive(DONE);
			await(LEAVE, 1);
			verify(p, 0, 2, ORIGIN);
			verify(p, 2, 1, i ? CHILD : ORIGIN);
			verify(p, 3, PAGES - BLOCK_PAGES / 2 - 3, ORIGIN);
			done();
		}
		await(READY, i + 1);
		swap_proportions(0, p, kb, i + 2);
		swap_proportions(pid[i], p, kb, i + 2);
		rolled_up(pid[i]);
	}
	/* and what goes to swap while it is shared */
	breaks = own_breaks();
	events_get(&before);
	swap_out(p, kb / 4);
	expect_events(&before, EV_INPLACE, >=, kb / 4 / 4);
	check(own_breaks() == breaks, "swapping out copied %ld tables",
	      own_breaks() - breaks);
	swap_proportions(0, p, kb, 3);
	for (i = 0; i < 2; i++) {
		swap_proportions(pid[i], p, kb, 3);
		rolled_up(pid[i]);
	}

	/*
	 * A table is copied: two have their swap entries by the one, and the third by
	 * the other.  However the parts are cut, they are one whole and the page that
	 * was written to.
	 */
	arrive(GO);
	await(DONE, 2);
	copied = smaps_kb(pid[1], p, "Private_Dirty") +
		 smaps_kb(pid[1], p, "Private_Clean");
	check(copied == 4, "%ld kB private after one write", copied);
	pss = smaps_kb(0, p, "Pss");
	swap_pss = smaps_kb(0, p, "SwapPss");
	for (i = 0; i < 2; i++) {
		pss += smaps_kb(pid[i], p, "Pss");
		swap_pss += smaps_kb(pid[i], p, "SwapPss");
		rolled_up(pid[i]);
	}
	check(labs(pss + swap_pss - kb - copied) <= 8,
	      "Pss %ld kB and SwapPss %ld kB of three processes, of %ld kB", pss,
	      swap_pss, kb + copied);
	arrive(LEAVE);
	join(pid[0]);
	join(pid[1]);
	verify_most(p, ORIGIN);
	unmap_blocks(p, NR);
}

/* The line of numa_maps of a mapping: how often its pages are mapped at most. */
static void numa_line(pid_t pid, char *p, unsigned long pages, unsigned int sharers)
{
	unsigned long start, anon = 0, mapmax = 1, on_nodes = 0, nr;
	char path[64], line[1024], *word, *save;
	unsigned int node;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/numa_maps", pid);
	f = fopen(path, "r");
	if (!f)
		skip_case("no numa_maps");
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%lx ", &start) == 1 && start == (uintptr_t)p;
	fclose(f);
	check(found, "%p is not in %s", p, path);
	for (word = strtok_r(line, " \n", &save); word;
	     word = strtok_r(NULL, " \n", &save)) {
		if (sscanf(word, "anon=%lu", &nr) == 1)
			anon = nr;
		else if (sscanf(word, "mapmax=%lu", &nr) == 1)
			mapmax = nr;
		else if (sscanf(word, "N%u=%lu", &node, &nr) == 2)
			on_nodes += nr;
	}
	check(anon == pages && on_nodes == pages,
	      "numa_maps of %d: anon=%lu, %lu on the nodes, expected %lu", pid, anon,
	      on_nodes, pages);
	check(mapmax == sharers, "numa_maps of %d: mapmax=%lu for %u processes", pid,
	      mapmax, sharers);
}

static void numa_maps(void)
{
	const unsigned long pages = PAGES - BLOCK_PAGES / 2;
	unsigned int round;

	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(NR);
		struct events before;
		unsigned int i;
		pid_t pid[2];

		steps_reset();
		fill_most(p, ORIGIN);
		numa_line(getpid(), p, pages, 1);
		for (i = 0; i < 2; i++) {
			pid[i] = fork_sharing(NR);
			if (!pid[i]) {
				arrive(READY);
				await(LEAVE, 1);
				verify_most(p, ORIGIN);
				fill_most(p, CHILD);
				done();
			}
			await(READY, i + 1);
			/* once to break what the reader itself writes to */
			numa_line(getpid(), p, pages, i + 2);
			events_get(&before);
			numa_line(getpid(), p, pages, i + 2);
			numa_line(pid[i], p, pages, i + 2);
			numa_line(pid[0], p, pages, i + 2);
			expect_events(&before, EV_BREAK, ==, 0);
			expect_events(&before, EV_REUSE, ==, 0);
		}
		arrive(LEAVE);
		join(pid[0]);
		join(pid[1]);
		numa_line(getpid(), p, pages, 1);
		verify_most(p, ORIGIN);
		unmap_blocks(p, NR);
	}
}

/* A word of /proc/kpagecount or /proc/kpageflags. */
static uint64_t page_word(const char *path, uint64_t pfn)
{
	uint64_t word;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		skip_case("no %s", path);
	check(pread(fd, &word, sizeof(word), pfn * 8) == sizeof(word),
	      "%s, page %#llx", path, (unsigned long long)pfn);
	close(fd);
	return word;
}

#define KPF_SLAB	(1ULL << 7)
#define KPF_MMAP	(1ULL << 11)
#define KPF_ANON	(1ULL << 12)
#define KPF_SWAPBACKED	(1ULL << 14)
#define KPF_HUGE	(1ULL << 17)
#define KPF_NOPAGE	(1ULL << 20)
#define KPF_THP		(1ULL << 22)
#define KPF_PGTABLE	(1ULL << 26)
/*
 * These do not change from moment to moment.  KPF_KSM is not one of them: some kernels
 * say it of every anonymous page.
 */
#define KPF_KIND	(KPF_SLAB | KPF_MMAP | KPF_ANON | KPF_SWAPBACKED | KPF_HUGE | \
			 KPF_NOPAGE | KPF_THP | KPF_PGTABLE)

/* How many tables map the pages first, first + 61, ... of a process. */
static void page_counts(pid_t pid, char *p, unsigned long first, unsigned long end,
			uint64_t expected)
{
	unsigned long i;

	for (i = first; i < end; i += 61) {
		uint64_t pfn = pfn_of(pid, AT(i));
		uint64_t count = page_word("/proc/kpagecount", pfn);
		uint64_t flags = page_word("/proc/kpageflags", pfn);

		check(plain || count == expected,
		      "kpagecount of page %lu: %llu, expected %llu", i,
		      (unsigned long long)count, (unsigned long long)expected);
		if (large_folios)
			flags &= ~KPF_THP;
		check((flags & KPF_KIND) == (KPF_MMAP | KPF_ANON | KPF_SWAPBACKED),
		      "kpageflags of page %lu: %#llx", i, (unsigned long long)flags);
	}
}

/*
 * The mapcount of a page counts page tables, and kpagecount tells it as it is: one
 * for a shared table, whoever shares it, and one more for each copy.  Looking breaks
 * nothing and takes no table back.
 */
static void kernel_pages(void)
{
	const unsigned long end = PAGES - BLOCK_PAGES / 2;
	unsigned int round;

	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(NR);
		struct events before;
		unsigned int i;
		pid_t pid[2];
		long shared;

		steps_reset();
		fill_most(p, ORIGIN);
		page_counts(0, p, 0, end, 1);
		for (i = 0; i < 2; i++) {
			pid[i] = fork_sharing(NR);
			if (!pid[i]) {
				arrive(READY);
				await(GO, 1);
				if (i)
					fill(p, 5, 1, CHILD);
				arrive(DONE);
				await(LEAVE, 1);
				verify(p, 0, 5, ORIGIN);
				verify(p, 5, 1, i ? CHILD : ORIGIN);
				verify(p, 6, end - 6, ORIGIN);
				done();
			}
			await(READY, i + 1);
			/* once to break what the reader itself writes to */
			page_counts(0, p, 0, end, 1);
			own_breaks();
			shared = status_kb(0, "CowPTE");
			events_get(&before);
			page_counts(0, p, 0, end, 1);
			page_counts(pid[i], p, 0, end, 1);
			expect_events(&before, EV_BREAK, ==, 0);
			expect_events(&before, EV_REUSE, ==, 0);
			check(status_kb(0, "CowPTE") == shared,
			      "CowPTE %ld kB, was %ld kB", status_kb(0, "CowPTE"),
			      shared);
			verify_most(p, ORIGIN);
		}
		arrive(GO);
		await(DONE, 2);
		/* the page written to is two pages now, the others have two tables */
		page_counts(0, p, 5, 6, 1);
		page_counts(pid[1], p, 5, 6, 1);
		page_counts(0, p, 6, BLOCK_PAGES, 2);
		page_counts(pid[1], p, 6, BLOCK_PAGES, 2);
		page_counts(pid[0], p, BLOCK_PAGES, end, 1);
		verify_most(p, ORIGIN);
		arrive(LEAVE);
		join(pid[0]);
		join(pid[1]);
		page_counts(0, p, 0, end, 1);
		verify_most(p, ORIGIN);
		unmap_blocks(p, NR);
	}
}

/* ---- who is charged ---- */

#define MARKER_PAGES	256UL

/* A field of the memory.stat of a cgroup, in bytes. */
static long cgroup_stat(const char *dir, const char *field)
{
	char path[128], line[128];
	size_t len = strlen(field);
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	f = fopen(path, "r");
	check(f, "%s", path);
	while (value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, len) && line[len] == ' ')
			value = strtol(line + len + 1, NULL, 10);
	fclose(f);
	if (value < 0)
		skip_case("no %s in memory.stat", field);
	return value;
}

/* The statistics may be some seconds old: wait for what must come. */
static void await_stat(const char *dir, const char *field, long min, long max)
{
	long value = 0;
	int tries;

	for (tries = 0; tries < 300; tries++) {
		value = cgroup_stat(dir, field);
		if (value >= min && value <= max)
			return;
		usleep(50 * 1000);
	}
	fail("%s of %s is %ld, expected %ld to %ld", field, dir, value, min, max);
}

/* Memory that the statistics must show before the rest of them is believed. */
static void leave_marker(void)
{
	char *p = mmap(NULL, MARKER_PAGES * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long i;

	check(p != MAP_FAILED, "mmap");
	madvise(p, MARKER_PAGES * PAGE, MADV_NOHUGEPAGE);
	for (i = 0; i < MARKER_PAGES; i++)
		p[i * PAGE] = 1;
}

#define CHARGED		64UL	/* tables */
#define CHARGED_FEW	16UL	/* pages in each */
#define CHARGED_BYTES	((long)(CHARGED * PAGE))
/* the tables of stack and data, and the upper levels of a process */
#define CHARGE_NOISE	(CHARGED_BYTES / 4)

static void fill_charged(char *p, unsigned long first, unsigned long nr,
			 unsigned int owner)
{
	unsigned long i;

	for (i = first; i < first + nr; i++)
		fill(p, i * BLOCK_PAGES, CHARGED_FEW, owner);
}

static void verify_charged(char *p, unsigned long first, unsigned long nr,
			   unsigned int owner)
{
	unsigned long i;

	for (i = first; i < first + nr; i++)
		verify(p, i * BLOCK_PAGES, CHARGED_FEW, owner);
}

enum { FILLED, SHARED, BREAK, BROKEN, UNMAP, REUSE, REUSED, EXIT };

/* In the second cgroup: shares, copies half of the tables, inherits the rest. */
static void charged_child(char *p)
{
	cgroup_make("cow_pte_full");
	check(!cgroup_write("cgroup.procs", "0"), "cgroup.procs: %s", strerror(errno));
	leave_marker();
	arrive(SHARED);
	await(BREAK, 1);
	fill_charged(p, 0, CHARGED / 2, CHILD);
	arrive(BROKEN);
	await(REUSE, 1);
	verify_charged(p, 0, CHARGED / 2, CHILD);
	verify_charged(p, CHARGED / 2, CHARGED / 2, ORIGIN);
	fill_charged(p, CHARGED / 2, CHARGED / 2, CHILD);
	leave_marker();
	arrive(REUSED);
	await(EXIT, 1);
	verify_charged(p, 0, CHARGED, CHILD);
	done();
}

/* In the first cgroup: allocates the tables, and ends when they are shared. */
static void charged_parent(void)
{
	char *p;
	pid_t pid;

	cgroup_enter();
	p = map_blocks(CHARGED);
	fill_charged(p, 0, CHARGED, ORIGIN);
	arrive(FILLED);
	await(FILLED, 2);
	pid = fork_sharing(CHARGED);
	if (!pid)
		charged_child(p);
	slots[0] = pid;
	leave_marker();
	arrive(SHARED);
	await(UNMAP, 1);
	verify_charged(p, 0, CHARGED, ORIGIN);
	/* the child is left to the process of the case */
	done();
}

/*
 * A table is charged to the cgroup of who allocated it until its last user has left:
 * a child in another cgroup shares for nothing, and pays for what it copies.  The
 * tables of a parent that has ended stay charged to the parent's cgroup.
 */
static void memory_cgroup(void)
{
	const long marker = MARKER_PAGES * PAGE, pages = CHARGED * CHARGED_FEW * PAGE;
	char first[64], second[64];
	struct events before;
	long tables;
	pid_t pid;

	if (plain || !feature_present())
		skip_case("no tables are shared");
	pid = xfork();
	if (!pid)
		charged_parent();
	await(FILLED, 1);
	cgroup_make("cow_pte_full");
	strcpy(second, cgroup);
	cgroup_make("cow_pte_test");
	strcpy(first, cgroup);
	await_stat(first, "anon", pages, LONG_MAX);
	tables = cgroup_stat(first, "pagetables");
	check(tables >= CHARGED_BYTES, "%ld bytes of tables, expected %ld", tables,
	      CHARGED_BYTES);
	arrive(FILLED);

	await(SHARED, 2);
	await_stat(second, "anon", marker, LONG_MAX);
	check(cgroup_stat(second, "pagetables") <= CHARGE_NOISE,
	      "the child's cgroup has %ld bytes of tables",
	      cgroup_stat(second, "pagetables"));
	await_stat(first, "anon", pages + marker, LONG_MAX);
	check(labs(cgroup_stat(first, "pagetables") - tables) <= CHARGE_NOISE,
	      "the parent's cgroup has %ld bytes of tables, had %ld",
	      cgroup_stat(first, "pagetables"), tables);

	/* who breaks pays */
	events_get(&before);
	arrive(BREAK);
	await(BROKEN, 1);
	expect_events(&before, EV_BREAK, >=, (long)CHARGED / 2);
	await_stat(second, "pagetables", CHARGED_BYTES / 2,
		   CHARGED_BYTES / 2 + CHARGE_NOISE);

	/* who shared and ended leaves the charge where it was */
	arrive(UNMAP);
	join(pid);
	await_stat(first, "pagetables", 0, CHARGED_BYTES / 2 + CHARGE_NOISE);
	check(cgroup_stat(first, "pagetables") >= CHARGED_BYTES / 2,
	      "%ld bytes of tables after the parent's end, expected %ld",
	      cgroup_stat(first, "pagetables"), CHARGED_BYTES / 2);

	/* and who takes a table back pays nothing */
	events_get(&before);
	arrive(REUSE);
	await(REUSED, 1);
	expect_events(&before, EV_REUSE, >=, (long)CHARGED / 2);
	/* at most one more for the second marker */
	await_stat(second, "anon", 2 * marker + pages / 2, LONG_MAX);
	check(cgroup_stat(second, "pagetables") <= CHARGED_BYTES / 2 + CHARGE_NOISE,
	      "the child's cgroup has %ld bytes of tables after the reuse",
	      cgroup_stat(second, "pagetables"));
	check(cgroup_stat(first, "pagetables") >= CHARGED_BYTES / 2,
	      "%ld bytes of tables after the reuse, expected %ld",
	      cgroup_stat(first, "pagetables"), CHARGED_BYTES / 2);
	arrive(EXIT);
	join(slots[0]);
	await_stat(first, "pagetables", 0, CHARGE_NOISE);
	await_stat(second, "pagetables", 0, CHARGE_NOISE);
}

/* ---- the OOM killer's view ---- */

static long oom_score(pid_t pid)
{
	char path[64];
	long score;

	snprintf(path, sizeof(path), "/proc/%d/oom_score", pid);
	score = read_long(path);
	check(score >= 0, "%s", path);
	return score;
}

/* The score of a child that does nothing, and shares @blocks tables at least. */
static long score_of_child(char *p, unsigned long blocks)
{
	struct events before;
	long score;
	pid_t pid;

	steps_reset();
	events_get(&before);
	pid = xfork();
	if (!pid) {
		arrive(READY);
		await(LEAVE, 1);
		if (p)
			verify(p, 0, 3 * BLOCK_PAGES, ORIGIN);
		done();
	}
	expect_events(&before, EV_SHARE, >=, (long)blocks);
	if (!blocks)
		expect_events(&before, EV_SHARE, ==, 0);
	await(READY, 1);
	score = oom_score(pid);
	arrive(LEAVE);
	join(pid);
	return score;
}

/* A sharer weighs what an ordinary child weighs, and the parent what it did. */
static void oom_scores(void)
{
	enum { BLOCKS = 24 };
	long own, small, copied, shared;
	char *p;

	set_mode(0);
	small = score_of_child(NULL, 0);
	p = map_blocks(BLOCKS);
	fill(p, 0, BLOCKS * BLOCK_PAGES, ORIGIN);
	own = oom_score(getpid());
	copied = score_of_child(p, 0);
	if (copied - small < 4)
		skip_case("so much memory that %u MiB do not count", BLOCKS * 2);
	set_mode(1);
	shared = score_of_child(p, BLOCKS);
	note("oom_score of a small child %ld, of a copy %ld, of a sharer %ld", small, copied,
	     shared);
	/* rounding, and a page more or less */
	check(labs(shared - copied) <= 1, "oom_score of a sharer %ld, of a copy %ld",
	      shared, copied);
	check(labs(oom_score(getpid()) - own) <= 1, "oom_score %ld, was %ld",
	      oom_score(getpid()), own);
	verify(p, 0, BLOCKS * BLOCK_PAGES, ORIGIN);
	unmap_blocks(p, BLOCKS);
}

/* ---- pagemap ---- */

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
		pid_t pid, third;

		steps_reset();
		fill_most(p, ORIGIN);
		if (write_file("/proc/self/clear_refs", "4"))
			skip_case("no soft-dirty bits");
		fill(p, 3, 1, ORIGIN);
		if (!soft_dirty(0, p, 3))
			skip_case("no soft-dirty bits");
		check(!soft_dirty(0, p, 700), "not cleared");
		fill_most(p, ORIGIN);
		third = bystander(round % 2, p, NR, PAGES - BLOCK_PAGES / 2, ORIGIN);
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
		bystander_ends(third);
		unmap_blocks(p, NR);
	}
}

/* ---- idle page tracking ---- */

static bool is_idle(int fd, uint64_t pfn)
{
	uint64_t word;
	ssize_t ret = pread(fd, &word, sizeof(word), pfn / 64 * 8);

	check(ret == sizeof(word), IDLE_BITMAP ": read %zd bytes for page %#llx", ret,
	      (unsigned long long)pfn);
	return word >> pfn % 64 & 1;
}

/* Every eighth page is marked; who reads it goes round. */
#define IDLE_STEP	8
enum { BY_NOBODY, BY_CHILD, BY_PARENT, BY_BOTH };

static unsigned int idle_reader(unsigned long page)
{
	return page / IDLE_STEP % 4;
}

/* Reads the pages that are for @who, which must not cost a table. */
static void idle_read(char *p, unsigned int who)
{
	long breaks = own_breaks();
	unsigned long i;

	for (i = 0; i < PAGES - BLOCK_PAGES / 2; i += IDLE_STEP)
		if (idle_reader(i) & who)
			read_pages(p, i, 1);
	check(own_breaks() == breaks, "reading idle pages copied %ld tables",
	      own_breaks() - breaks);
}

/*
 * Idle page tracking and accessed bits are one hint for all: a page that any of the
 * sharers reads is idle to none of them, and nothing breaks.
 */
static void idle_pages(void)
{
	const unsigned long end = PAGES - BLOCK_PAGES / 2;
	unsigned int round;
	int fd = open(IDLE_BITMAP, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		skip_case("no " IDLE_BITMAP);
	for (round = 0; round < rounds(2); round++) {
		/* The bitmap knows the first page of a folio only. */
		char *p = map_small_pages(NR);
		struct events before;
		long shared;
		unsigned long i;
		pid_t pid;

		steps_reset();
		fill_most(p, ORIGIN);
		/* What waits for its LRU list cannot be marked; this puts it there. */
		check(!write_file("/proc/sys/vm/drop_caches", "1"), "drop_caches");
		/*
		 * From the fork on no TLB has a translation of these pages: the next to
		 * read one sets its accessed bit.
		 */
		pid = fork_sharing(NR);
		if (!pid) {
			arrive(READY);
			await(GO, 1);
			idle_read(p, BY_CHILD);
			arrive(DONE);
			await(LEAVE, 1);
			verify_most(p, ORIGIN);
			fill(p, 0, 1, CHILD);
			verify(p, 1, BLOCK_PAGES - 1, ORIGIN);
			done();
		}
		await(READY, 1);
		/* what looking itself writes to is copied now */
		mark_idle(fd, pfn_of(0, p));
		own_breaks();
		shared = status_kb(0, "CowPTE");
		events_get(&before);
		for (i = 0; i < end; i += IDLE_STEP)
			mark_idle(fd, pfn_of(0, AT(i)));
		for (i = 0; i < end; i += IDLE_STEP)
			check(is_idle(fd, pfn_of(0, AT(i))),
			      "page %lu is not idle, and nobody has read it", i);
		expect_events(&before, EV_BREAK, ==, 0);
		expect_events(&before, EV_REUSE, ==, 0);
		check(status_kb(0, "CowPTE") == shared, "CowPTE %ld kB, was %ld kB",
		      status_kb(0, "CowPTE"), shared);
		arrive(GO);
		await(DONE, 1);
		for (i = 0; i < end; i += IDLE_STEP)
			check(is_idle(fd, pfn_of(0, AT(i))) ==
			      !(idle_reader(i) & BY_CHILD),
			      "page %lu is %sidle after the child's reads", i,
			      idle_reader(i) & BY_CHILD ? "" : "not ");
		idle_read(p, BY_PARENT);
		for (i = 0; i < end; i += IDLE_STEP) {
			check(is_idle(fd, pfn_of(0, AT(i))) ==
			      (idle_reader(i) == BY_NOBODY),
			      "page %lu is %sidle after the reads of both", i,
			      idle_reader(i) == BY_NOBODY ? "not " : "");
			check(pfn_of(pid, AT(i)) == pfn_of(0, AT(i)),
			      "page %lu is not the same for both", i);
		}
		check(status_kb(0, "CowPTE") == shared, "CowPTE %ld kB, was %ld kB",
		      status_kb(0, "CowPTE"), shared);
		verify_most(p, ORIGIN);
		arrive(LEAVE);
		join(pid);
		verify_most(p, ORIGIN);
		unmap_blocks(p, NR);
	}
	close(fd);
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

/*
 * The last line of the trace with all of the words.  Each line gets a space at its
 * end, so that a word with a space behind is a whole one.
 */
static bool trace_line(char *line, size_t size, const char *const *words)
{
	char now[512];
	FILE *f = fopen(TRACEFS "/trace", "r");
	bool found = false;

	check(f, TRACEFS "/trace: %s", strerror(errno));
	while (fgets(now, sizeof(now), f)) {
		const char *const *word = words;

		now[strcspn(now, "\n")] = ' ';
		while (*word && strstr(now, *word))
			word++;
		if (!*word) {
			snprintf(line, size, "%s", now);
			found = true;
		}
	}
	fclose(f);
	return found;
}

/* Does a line with all three words stand in the trace? */
static bool traced(const char *event, unsigned long addr, const char *word)
{
	char line[512], where[32];
	const char *const words[] = { event, where, word, NULL };

	snprintf(where, sizeof(where), "addr=0x%lx ", addr);
	return trace_line(line, sizeof(line), words);
}

/* Processes of other cases had memory at the same addresses. */
static void trace_clear(void)
{
	int fd = open(TRACEFS "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	check(fd >= 0, TRACEFS "/trace: %s", strerror(errno));
	close(fd);
}

static void trace_start(void)
{
	if (plain || !feature_present())
		skip_case("no tables are shared");
	mount("none", TRACEFS, "tracefs", 0, NULL);
	if (write_file(TRACEFS "/events/cow_pte/enable", "1"))
		skip_case("no " TRACEFS "/events/cow_pte");
	trace_clear();
}

static void trace_stop(void)
{
	write_file(TRACEFS "/events/cow_pte/enable", "0");
}

/* Each event has a tracepoint that says which block, and why it was not shared. */
static void tracepoints(void)
{
	char *p = map_blocks(NR), *q;
	pid_t pid;

	trace_start();
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
	trace_stop();
	check(traced("cow_pte_share:", (unsigned long)p, "sharers=2 "), "share");
	check(traced("cow_pte_break:", (unsigned long)p, "sharers=1 "), "break");
	check(traced("cow_pte_reuse:", (unsigned long)p, "sharers=1 "), "reuse");
	check(traced("cow_pte_detach:", (unsigned long)p + BLOCK, "sharers=1 "),
	      "detach");
	check(traced("cow_pte_fallback:", (unsigned long)q, "reason=vma "),
	      "fallback");
	check(!traced("cow_pte_fallback:", (unsigned long)p, "reason"),
	      "a fallback where there was none");
	unmap_blocks(p, NR);
}

/* Pins pages for as long as the process lives. */
static void pin(char *p, size_t len)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { p, len };
	int fd = syscall(SYS_io_uring_setup, 4, &params);

	if (fd < 0)
		skip_case("io_uring: %s", strerror(errno));
	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1))
		skip_case("IORING_REGISTER_BUFFERS: %s", strerror(errno));
}

/* Since Linux 6.6 */
struct poison_arg {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;
};
#define POISON_IOCTL	_IOWR(UFFDIO, 0x08, struct poison_arg)

/*
 * Leaves a marker in the place of a page that was never touched: an entry that is
 * neither a page nor swap.  The mapping is an ordinary one again afterwards.
 */
static void poison(char *p)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct poison_arg arg = { .range = { (uintptr_t)p, PAGE } };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		skip_case("userfaultfd: %s", strerror(errno));
	check(!ioctl(fd, UFFDIO_API, &api), "UFFDIO_API");
	check(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	if (ioctl(fd, POISON_IOCTL, &arg))
		skip_case("UFFDIO_POISON: %s", strerror(errno));
	check(!ioctl(fd, UFFDIO_UNREGISTER, &reg.range), "UFFDIO_UNREGISTER");
	close(fd);
}

/* One block each that is too small, has a pinned page, has a strange entry. */
static void trace_reasons(void)
{
	enum { FIRST, SMALL, PINNED, ENTRY, LAST };
	char *p = map_blocks(LAST + 1);
	unsigned long addr[LAST + 1];
	struct events before;
	unsigned int i;
	pid_t pid;

	trace_start();
	check(!write_file(SYSCTL_MIN, "10"), SYSCTL_MIN);
	for (i = 0; i <= LAST; i++) {
		addr[i] = (unsigned long)p + i * BLOCK;
		fill(p, i * BLOCK_PAGES, i == SMALL ? 9 : 20, ORIGIN);
	}
	pin(p + PINNED * BLOCK, PAGE);
	poison(p + ENTRY * BLOCK + 30 * PAGE);
	events_get(&before);
	pid = xfork();
	if (!pid) {
		for (i = 0; i <= LAST; i++) {
			verify(p, i * BLOCK_PAGES, i == SMALL ? 9 : 20, ORIGIN);
			fill(p, i * BLOCK_PAGES, 1, CHILD);
		}
		check(read_faults(p + ENTRY * BLOCK + 30 * PAGE),
		      "the child can read the poisoned page");
		done();
	}
	join(pid);
	trace_stop();
	expect_events(&before, EV_SHARE, >=, 2);
	expect_events(&before, EV_FB_SMALL, >=, 1);
	expect_events(&before, EV_FB_PINNED, ==, 1);
	expect_events(&before, EV_FB_ENTRY, ==, 1);
	for (i = 0; i <= LAST; i++)
		verify(p, i * BLOCK_PAGES, i == SMALL ? 9 : 20, ORIGIN);
	check(traced("cow_pte_fallback:", addr[SMALL], "reason=small "), "small");
	check(traced("cow_pte_fallback:", addr[PINNED], "reason=pinned "), "pinned");
	check(traced("cow_pte_fallback:", addr[ENTRY], "reason=entry "), "entry");
	for (i = 0; i <= LAST; i++) {
		bool shared = i == FIRST || i == LAST;

		check(traced("cow_pte_share:", addr[i], "sharers=2 ") == shared,
		      "block %u is %sshared", i, shared ? "not " : "");
		check(traced("cow_pte_fallback:", addr[i], "reason=") == !shared,
		      "block %u: %s reason", i, shared ? "a" : "no");
	}
	unmap_blocks(p, LAST + 1);
}

/*
 * Without memory for its records a table is copied.  How many allocations come before
 * them depends on what the kernel has at hand, such as a stack of a child that has ended:
 * they may be missed, and then it begins again.
 */
static void trace_nomem(void)
{
	static const char *const injectors[] = { "failslab", "fail_page_alloc" };
	char *p = map_blocks(NR), path[96], text[16];
	unsigned int nth, i, passes = 0;
	struct events before;
	int fd;

	trace_start();
	for (i = 0; i < ARRAY_LEN(injectors); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/verbose", injectors[i]);
		if (write_file(path, "0"))
			skip_case("no fault injection");
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/ignore-gfp-wait",
			 injectors[i]);
		write_file(path, "N");
	}
	fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		skip_case("no fail-nth");
	for (nth = 1; ; nth++) {
		char left[16] = "";
		pid_t pid;

		check(nth < 1000, "no end of allocations");
		/* private again, so that each fork allocates all it can */
		for (i = 0; i < NR; i++)
			fill(p, i * BLOCK_PAGES, FEW, ORIGIN);
		events_get(&before);
		snprintf(text, sizeof(text), "%u", nth);
		check(pwrite(fd, "0", 1, 0) == 1, "fail-nth");
		check(pwrite(fd, text, strlen(text), 0) > 0, "fail-nth");
		pid = syscall(SYS_fork);
		if (!pid) {
			for (i = 0; i < NR; i++)
				verify(p, i * BLOCK_PAGES, FEW, ORIGIN);
			fill(p, 7, 5, CHILD);
			_exit(0);
		}
		check(pread(fd, left, sizeof(left) - 1, 0) > 0, "fail-nth");
		check(pwrite(fd, "0", 1, 0) == 1, "fail-nth");
		if (pid < 0)
			continue;
		join(pid);
		for (i = 0; i < NR; i++)
			verify(p, i * BLOCK_PAGES, FEW, ORIGIN);
		/* other blocks of the process may have been the first */
		if (event_delta(&before, EV_FB_NOMEM) &&
		    traced("cow_pte_fallback:", (unsigned long)p, "reason=nomem "))
			break;
		/* no allocation has failed: these were all */
		if (atoi(left)) {
			note("a fork of %u allocations", nth - 1);
			check(++passes < 8, "no fork without memory for the records");
			nth = 0;
		}
	}
	trace_stop();
	note("allocation %u of the fork", nth);
	close(fd);
	unmap_blocks(p, NR);
}

/* A process with an MMU notifier, for which the kernel's HMM test stands. */
static void trace_notifier(void)
{
	char *p = map_blocks(NR);
	struct events before;
	unsigned int i;
	pid_t pid;
	int fd;

	trace_start();
	fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		skip_case("no /dev/hmm_dmirror0");
	fill(p, 0, PAGES, ORIGIN);
	events_get(&before);
	pid = xfork();
	if (!pid) {
		verify(p, 0, PAGES, ORIGIN);
		fill(p, 7, 5, CHILD);
		done();
	}
	join(pid);
	trace_stop();
	expect_events(&before, EV_FB_NOTIFIER, >=, (long)NR);
	expect_events(&before, EV_SHARE, ==, 0);
	verify(p, 0, PAGES, ORIGIN);
	for (i = 0; i < NR; i++)
		check(traced("cow_pte_fallback:", (unsigned long)p + i * BLOCK,
			     "reason=notifier "), "notifier, block %u", i);
	close(fd);
	unmap_blocks(p, NR);
}

/* The table that cow_pte_share told for a block, when it had so many sharers. */
static unsigned long traced_table(unsigned long addr, unsigned int sharers)
{
	char line[512], where[32], users[24], *pfn;
	const char *const words[] = { "cow_pte_share:", where, users, NULL };

	snprintf(where, sizeof(where), "addr=0x%lx ", addr);
	snprintf(users, sizeof(users), "sharers=%u ", sharers);
	check(trace_line(line, sizeof(line), words), "no cow_pte_share of %#lx", addr);
	pfn = strstr(line, "table_pfn=");
	check(pfn, "no table in '%s'", line);
	return strtoul(pfn + strlen("table_pfn="), NULL, 0);
}

/* Is there an event for a change in place of this table, with so many sharers? */
static bool traced_inplace(unsigned long pfn, unsigned int sharers)
{
	char line[512], table[40], users[24];
	const char *const words[] = { "cow_pte_inplace:", table, users, NULL };

	snprintf(table, sizeof(table), "table_pfn=0x%lx ", pfn);
	snprintf(users, sizeof(users), "sharers=%u ", sharers);
	return trace_line(line, sizeof(line), words);
}

/*
 * Swapping out changes a shared table for all: the event names the table as that of
 * the fork did, and how many share it.
 */
static void trace_inplace(void)
{
	unsigned int sharers, i, n;
	unsigned long pfn[2];
	pid_t pid[2];
	char *p;

	trace_start();
	if (access(TRACEFS "/events/cow_pte/cow_pte_inplace", F_OK))
		skip_case("no cow_pte_inplace");
	if (!have_swap())
		skip_case("no swap");
	cgroup_enter();
	p = map_blocks(2);
	for (sharers = 2; sharers <= 3; sharers++) {
		struct events before;

		steps_reset();
		fill(p, 0, 2 * BLOCK_PAGES, ORIGIN);
		trace_clear();
		for (n = 0; n < sharers - 1; n++) {
			pid[n] = fork_sharing(2);
			if (!pid[n]) {
				arrive(READY);
				await(LEAVE, 1);
				verify(p, 0, 2 * BLOCK_PAGES, ORIGIN);
				done();
			}
			await(READY, n + 1);
		}
		events_get(&before);
		/* more than one block, so that both tables have their turn */
		swap_out(p, (BLOCK_PAGES + BLOCK_PAGES / 4) * 4);
		expect_events(&before, EV_INPLACE, >=, (long)BLOCK_PAGES);
		for (i = 0; i < 2; i++) {
			pfn[i] = traced_table((unsigned long)p + i * BLOCK, sharers);
			for (n = 1; n <= 4; n++)
				check(traced_inplace(pfn[i], n) == (n == sharers),
				      "table %#lx of %u: %s cow_pte_inplace with %u sharers",
				      pfn[i], sharers, n == sharers ? "no" : "a", n);
		}
		check(pfn[0] != pfn[1], "one table for two blocks");
		verify(p, 0, 2 * BLOCK_PAGES, ORIGIN);
		arrive(LEAVE);
		for (n = 0; n < sharers - 1; n++)
			join(pid[n]);
		verify(p, 0, 2 * BLOCK_PAGES, ORIGIN);
	}
	trace_stop();
	unmap_blocks(p, 2);
}

static const struct cow_case cases[] = {
	{ "observers leave it shared", observers_leave_it_shared },
	{ "numbers of smaps", smaps_numbers },
	{ "smaps_rollup and swap", rollup_and_swap },
	{ "lines of numa_maps", numa_maps },
	{ "kpagecount and kpageflags", kernel_pages },
	{ "memory cgroup of a table", memory_cgroup },
	{ "oom_score of a sharer", oom_scores },
	{ "exclusive bit of pagemap", exclusive_bit },
	{ "soft-dirty bits", soft_dirty_bits },
	{ "idle pages", idle_pages },
	{ "observers against writers", observers_against_writers },
	{ "lines of status", status_lines },
	{ "tracepoints", tracepoints },
	{ "tracepoint of a fallback: reasons of a block", trace_reasons },
	{ "tracepoint of a fallback: no memory", trace_nomem },
	{ "tracepoint of a fallback: MMU notifier", trace_notifier },
	{ "tracepoint of changes in place", trace_inplace },
};

int main(int argc, char **argv)
{
	without_rseq(argv);
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
