// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel does to pages on its own account while page tables are shared:
 * swap, migration, compaction.  It edits the shared table once, for all sharers;
 * each of them keeps its data, and its numbers move like the others'.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow_pte_util.h"

#define MOVE		2	/* MPOL_MF_MOVE */
#define MOVE_ALL	4	/* MPOL_MF_MOVE_ALL */

enum { ORIGIN = 1, PARENT, CHILD, GRANDCHILD, FILE_DATA };
enum { READY, GO, DONE, LEAVE };

#define NR	3UL
#define FEW	256UL
#define AT(n)	(p + (n) * PAGE)

static void fill_blocks(char *p, unsigned int owner)
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		fill(p, b * BLOCK_PAGES, FEW, owner);
}

static void verify_blocks(char *p, unsigned int owner)
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		verify(p, b * BLOCK_PAGES, FEW, owner);
}

/* Reclaim until @kb of the memory at @p are gone from this process. */
static void reclaim(char *p, const char *field, long kb)
{
	long start = smaps_kb(0, p, field);
	int tries;

	for (tries = 0; tries < 60; tries++) {
		/* EAGAIN means that it got less than asked for. */
		cgroup_write("memory.reclaim", "4M");
		if (labs(smaps_kb(0, p, field) - start) >= kb)
			return;
	}
	skip_case("reclaim takes too little: %s is %ld kB, was %ld kB", field,
		  smaps_kb(0, p, field), start);
}

/* Two descendants that share with the caller; they wait at GO. */
static void descendants(char *p, pid_t *child, void (*fn)(char *p, unsigned int me))
{
	*child = fork_sharing(NR);
	if (!*child) {
		pid_t grandchild = fork_sharing(NR);

		slots[grandchild ? 1 : 2] = getpid();
		arrive(READY);
		fn(p, grandchild ? CHILD : GRANDCHILD);
		if (grandchild)
			join(grandchild);
		done();
	}
	slots[0] = getpid();
	await(READY, 2);
	await_asleep(slots[1]);
	await_asleep(slots[2]);
}

struct sizes {
	/* of the memory of the test, and of the whole process */
	long rss, swap, rss_anon, vm_swap;
};

static void sizes_of(pid_t pid, char *p, struct sizes *s)
{
	s->rss = smaps_kb(pid, p, "Rss");
	s->swap = smaps_kb(pid, p, "Swap");
	s->rss_anon = status_kb(pid, "RssAnon");
	s->vm_swap = status_kb(pid, "VmSwap");
}

/*
 * Pages of shared tables go to swap: their entries change in place, each sharer's
 * RssAnon and VmSwap move by the same amount, and each reads its data back and can
 * write it.
 */
static void after_swap(char *p, unsigned int me)
{
	unsigned int i;

	await(GO, 1);
	verify_blocks(p, ORIGIN);
	arrive(DONE);
	await(LEAVE, 1);
	for (i = 0; i < FEW; i += 2)
		fill(p, i, 1, me);
	fill(p, BLOCK_PAGES, FEW, me);
	barrier(READY, 2);
	for (i = 0; i < FEW; i++)
		verify(p, i, 1, i % 2 ? ORIGIN : me);
	verify(p, BLOCK_PAGES, FEW, me);
	verify(p, 2 * BLOCK_PAGES, FEW, ORIGIN);
}

static void swap_out(void)
{
	unsigned int round, i;

	if (!have_swap())
		skip_case("no swap");
	cgroup_enter();
	for (round = 0; round < rounds(2); round++) {
		const long total = NR * FEW * PAGE / 1024;
		char *p = map_blocks(NR);
		struct sizes before[3], after[3];
		struct events events;
		pid_t child;

		steps_reset();
		fill_blocks(p, ORIGIN);
		descendants(p, &child, after_swap);
		for (i = 0; i < 3; i++)
			sizes_of(slots[i], p, &before[i]);
		events_get(&events);
		reclaim(p, "Swap", total / 2);
		expect_events(&events, EV_INPLACE, >=, 1);
		for (i = 0; i < 3; i++) {
			sizes_of(slots[i], p, &after[i]);
			check(after[i].rss + after[i].swap == total,
			      "process %u: Rss %ld kB, Swap %ld kB", i,
			      after[i].rss, after[i].swap);
			check(after[i].swap == after[0].swap,
			      "process %u: Swap %ld kB, the parent's is %ld kB",
			      i, after[i].swap, after[0].swap);
			/* other pages of the process may have gone as well */
			check(before[i].rss_anon - after[i].rss_anon ==
			      after[i].vm_swap - before[i].vm_swap,
			      "process %u: RssAnon fell by %ld kB, VmSwap rose by %ld kB",
			      i, before[i].rss_anon - after[i].rss_anon,
			      after[i].vm_swap - before[i].vm_swap);
			check(before[i].rss_anon - after[i].rss_anon >= after[i].swap,
			      "process %u: RssAnon fell by %ld kB only", i,
			      before[i].rss_anon - after[i].rss_anon);
		}
		for (i = 0; i < NR * BLOCK_PAGES; i += 16)
			check((pagemap(slots[1], AT(i)) & PM_SWAP) ==
			      (pagemap(0, AT(i)) & PM_SWAP),
			      "page %u is in swap for one of them only", i);
		/* odd rounds: the parent is the first to read */
		if (round % 2)
			verify_blocks(p, ORIGIN);
		arrive(GO);
		await(DONE, 2);
		verify_blocks(p, ORIGIN);
		arrive(LEAVE);
		join(child);
		verify_blocks(p, ORIGIN);
		fill_blocks(p, PARENT);
		unmap_blocks(p, NR);
	}
}

/*
 * Swapped pages of shared tables belong to whoever stays: the sharers leave, or
 * unmap, without a read; swap space is not lost and the rest is intact.
 */
static void leave_swapped(char *p, unsigned int me)
{
	await(GO, 1);
	if (me == GRANDCHILD) {
		check(!madvise(AT(BLOCK_PAGES), BLOCK, MADV_DONTNEED), "madvise");
		check(!munmap(AT(10), 20 * PAGE), "munmap");
		verify(p, 2 * BLOCK_PAGES, FEW, ORIGIN);
	}
}

static void exit_swapped(void)
{
	unsigned int round;

	if (!have_swap())
		skip_case("no swap");
	cgroup_enter();
	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(NR);
		pid_t child;

		steps_reset();
		fill_blocks(p, ORIGIN);
		descendants(p, &child, leave_swapped);
		reclaim(p, "Swap", NR * FEW * 2);
		arrive(GO);
		join(child);
		if (round % 2) {
			/* shared once more, swap entries and all */
			pid_t pid = fork_sharing(NR);

			if (!pid) {
				verify_blocks(p, ORIGIN);
				done();
			}
			join(pid);
		}
		verify_blocks(p, ORIGIN);
		unmap_blocks(p, NR);
	}
}

/* swapoff brings every page back, to every sharer. */
static void swap_off(void)
{
	unsigned int round, i;

	if (!have_swap())
		skip_case("no swap");
	cgroup_enter();
	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(NR);
		pid_t child;
		int ret;

		steps_reset();
		fill_blocks(p, ORIGIN);
		descendants(p, &child, after_swap);
		reclaim(p, "Swap", NR * FEW * 2);
		ret = cycle_swap();
		check(!ret, "swapoff: %s", strerror(-ret));
		for (i = 0; i < 3; i++)
			check(!smaps_kb(slots[i], p, "Swap"),
			      "process %u: Swap %ld kB after swapoff", i,
			      smaps_kb(slots[i], p, "Swap"));
		arrive(GO);
		await(DONE, 2);
		verify_blocks(p, ORIGIN);
		arrive(LEAVE);
		join(child);
		verify_blocks(p, ORIGIN);
		unmap_blocks(p, NR);
	}
}

/* swapoff copies no table that has nothing in swap. */
static void swap_off_spares(void)
{
	char *p, *q;
	struct events before;
	pid_t pid;

	if (!have_swap())
		skip_case("no swap");
	p = map_blocks(NR);
	q = map_blocks(NR);
	fill_blocks(p, ORIGIN);
	fill_blocks(q, PARENT);
	check(!madvise(p, NR * BLOCK, MADV_PAGEOUT), "MADV_PAGEOUT");
	check(plain || smaps_kb(0, p, "Swap") > 0, "nothing in swap");
	steps_reset();
	pid = fork_sharing(2 * NR);
	if (!pid) {
		arrive(READY);
		await(GO, 1);
		verify_blocks(p, ORIGIN);
		verify_blocks(q, PARENT);
		done();
	}
	await(READY, 1);
	check(plain || smaps_kb(0, q, "Swap") == 0, "the second mapping is in swap too");
	events_get(&before);
	check(!cycle_swap(), "swapoff");
	check(!smaps_kb(0, p, "Swap"), "swap is off, and Swap %ld kB", smaps_kb(0, p, "Swap"));
	expect_events(&before, EV_BREAK, >=, (long)NR);
	check(plain || status_kb(getpid(), "CowPTE") >= (long)NR * 4,
	      "only %ld kB of tables are shared after swapoff",
	      status_kb(getpid(), "CowPTE"));
	arrive(GO);
	join(pid);
	verify_blocks(p, ORIGIN);
	verify_blocks(q, PARENT);
	unmap_blocks(p, NR);
	unmap_blocks(q, NR);
}

/* Bytes of page tables that the cgroup of the case is charged for. */
static long charged_tables(void)
{
	char path[128], line[128];
	long bytes = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.stat", cgroup);
	f = fopen(path, "r");
	check(f, "%s: %s", path, strerror(errno));
	while (bytes < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "pagetables %ld", &bytes);
	fclose(f);
	return bytes;
}

/*
 * A table that swapoff must copy is charged to the cgroup of the process it is for, not
 * to that of the task that said swapoff, and not to nobody.
 */
static void swap_off_charges(void)
{
	pid_t swapper, pid;
	struct events before;
	unsigned int tries;
	long start;
	char *p;

	if (!have_swap())
		skip_case("no swap");
	steps_reset();
	swapper = xfork();
	if (!swapper) {
		await(GO, 1);
		check(!cycle_swap(), "swapoff");
		done();
	}
	cgroup_enter();
	p = map_blocks(NR);
	fill_blocks(p, ORIGIN);
	check(!madvise(p, NR * BLOCK, MADV_PAGEOUT), "MADV_PAGEOUT");
	pid = fork_sharing(NR);
	if (!pid) {
		arrive(READY);
		await(LEAVE, 1);
		verify_blocks(p, ORIGIN);
		done();
	}
	await(READY, 1);
	events_get(&before);
	start = charged_tables();
	arrive(GO);
	join(swapper);
	expect_events(&before, EV_BREAK, >=, (long)NR);
	/* the kernel sums up the statistics of a cgroup every two seconds */
	for (tries = 0; !plain && tries < 100 &&
	     charged_tables() < start + (long)(NR * PAGE); tries++)
		usleep(100000);
	check(plain || charged_tables() >= start + (long)(NR * PAGE),
	      "%lu tables were copied; the cgroup was charged for %ld bytes, is for %ld",
	      NR, start, charged_tables());
	arrive(LEAVE);
	join(pid);
	verify_blocks(p, ORIGIN);
	unmap_blocks(p, NR);
}

/* Clean pages of a private file go; each sharer's size falls by the same. */
static void file_pages(void)
{
	unsigned int round, i;
	int fd;

	cgroup_enter();
	for (round = 0; round < rounds(1); round++) {
		struct sizes s[2];
		pid_t child;
		char *p;

		steps_reset();
		fd = disk_file(NR * BLOCK_PAGES, FILE_DATA);
		fsync(fd);
		p = map_file_blocks(NR, fd);
		for (i = 0; i < NR; i++) {
			fill(p, i * BLOCK_PAGES, 16, ORIGIN);
			read_pages(p, i * BLOCK_PAGES, BLOCK_PAGES);
		}
		child = fork_sharing(NR);
		if (!child) {
			arrive(READY);
			await(GO, 1);
			for (i = 0; i < NR; i++) {
				verify(p, i * BLOCK_PAGES, 16, ORIGIN);
				verify(p, i * BLOCK_PAGES + 16,
				       BLOCK_PAGES - 16, FILE_DATA);
			}
			done();
		}
		await(READY, 1);
		reclaim(p, "Rss", 64);
		sizes_of(getpid(), p, &s[0]);
		sizes_of(child, p, &s[1]);
		check(s[0].rss == s[1].rss && s[0].swap == s[1].swap,
		      "Rss %ld and %ld kB, Swap %ld and %ld kB", s[0].rss,
		      s[1].rss, s[0].swap, s[1].swap);
		check(status_kb(child, "VmRSS") >= s[1].rss,
		      "child's VmRSS %ld kB, its tables %ld kB",
		      status_kb(child, "VmRSS"), s[1].rss);
		arrive(GO);
		join(child);
		for (i = 0; i < NR; i++)
			verify(p, i * BLOCK_PAGES, 16, ORIGIN);
		unmap_blocks(p, NR);
		close(fd);
	}
}

/* Forks, writes and exits, while somebody else reclaims all the time. */
static void fork_loop(char *p, unsigned int n)
{
	unsigned int round;

	for (round = 0; round < n; round++) {
		pid_t pid = fork_sharing(1);

		if (!pid) {
			pid = round % 2 ? fork_sharing(1) : 0;
			verify_blocks(p, ORIGIN);
			fill(p, round % FEW, 20, CHILD);
			verify(p, BLOCK_PAGES, FEW, ORIGIN);
			verify(p, round % FEW, 20, CHILD);
			if (pid)
				join(pid);
			done();
		}
		if (round % 3 == 0)
			fill(p, round, 1, ORIGIN);
		join(pid);
		verify_blocks(p, ORIGIN);
	}
}

static void reclaim_against_fork(void)
{
	char *p;
	pid_t pid;

	if (!have_swap())
		skip_case("no swap");
	cgroup_enter();
	p = map_blocks(NR);
	fill_blocks(p, ORIGIN);
	pid = xfork();
	if (!pid) {
		while (!slots[10])
			cgroup_write("memory.reclaim", "2M");
		done();
	}
	fork_loop(p, rounds(10));
	slots[10] = 1;
	join(pid);
	unmap_blocks(p, NR);
}

/* A cgroup too small for all of them: reclaim happens in their own faults. */
static void pressure(void)
{
	unsigned int i;
	pid_t pid[4];
	char *p;

	if (!have_swap())
		skip_case("no swap");
	cgroup_enter();
	p = map_blocks(NR);
	fill_blocks(p, ORIGIN);
	/* each has 3 MiB */
	if (cgroup_write("memory.high", "8M"))
		skip_case("no memory.high");
	for (i = 0; i < 4; i++) {
		pid[i] = fork_sharing(NR);
		if (!pid[i]) {
			verify_blocks(p, ORIGIN);
			fill(p, 0, FEW, 10 + i);
			fill(p, BLOCK_PAGES, FEW / 2, 10 + i);
			verify(p, 2 * BLOCK_PAGES, FEW, ORIGIN);
			verify(p, 0, FEW, 10 + i);
			verify(p, BLOCK_PAGES, FEW / 2, 10 + i);
			done();
		}
	}
	verify_blocks(p, ORIGIN);
	for (i = 0; i < 4; i++)
		join(pid[i]);
	cgroup_write("memory.high", "max");
	verify_blocks(p, ORIGIN);
	unmap_blocks(p, NR);
}

/*
 * A sharer alone in a cgroup that may not use a page more than it does.  What it must
 * allocate to have a table of its own is charged to that cgroup, and when nothing is
 * left it is the one that dies, as if it had needed the table without sharing; the
 * others go on.
 */
static long full_event(const char *name)
{
	char path[128], line[64];
	long v = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.events.local", cgroup);
	f = fopen(path, "r");
	check(f, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ' ')
			v = atol(line + strlen(name));
	fclose(f);
	return v;
}

/* A call that failed for want of memory, and has changed nothing. */
static void refused(const char *what, char *p, unsigned long page)
{
	check(errno == ENOMEM || errno == EAGAIN, "%s: %s", what, strerror(errno));
	verify(p, page, 1, ORIGIN);
}

static const char *const ways_to_use_up[] = {
	"write", "mprotect", "munmap", "mremap", "MADV_FREE", "mlock", "fork",
};

static void use_up(char *p, unsigned int how)
{
	unsigned long b, n;
	pid_t pid;
	char *to;

	for (n = 0; n < FEW; n++) {
		for (b = 0; b < NR; b++) {
			char *q = p + b * BLOCK + n * PAGE;

			switch (how) {
			case 0:
				*(volatile char *)q = 1;
				break;
			case 1:
				/* fails when it is not killed; changes nothing then */
				if (mprotect(q, PAGE, PROT_READ))
					check(errno == ENOMEM && !write_faults(q),
					      "mprotect: %s", strerror(errno));
				break;
			case 2:
				if (munmap(q, PAGE))
					check(errno == ENOMEM && !read_faults(q),
					      "munmap: %s", strerror(errno));
				break;
			case 3:
				to = mremap(q, PAGE, PAGE,
					    MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
				if (to == MAP_FAILED)
					refused("mremap", p, b * BLOCK_PAGES + n);
				else
					check(page_is(to, b * BLOCK_PAGES + n, ORIGIN),
					      "mremap has moved another page");
				break;
			case 4:
				/* the pages are the others' too, and not freed */
				if (madvise(q, PAGE, MADV_FREE))
					refused("MADV_FREE", p, b * BLOCK_PAGES + n);
				break;
			case 5:
				if (mlock(q, PAGE))
					refused("mlock", p, b * BLOCK_PAGES + n);
				break;
			case 6:
				if (n % 16)
					break;
				pid = fork();
				if (!pid)
					done();
				if (pid < 0)
					refused("fork", p, b * BLOCK_PAGES + n);
				else
					join_status(pid);
				break;
			}
		}
	}
}

static void full_group(void)
{
	long killed = vmstat("oom_kill"), start, local, deaths = 0, now;
	char path[160], value[32];
	unsigned int round;

	cgroup_enter();
	/* the kernel's own, at the first OOM kill, without sharing as well */
	allow_tables(8);
	cgroup_make("cow_pte_full");
	start = local = full_event("oom_kill");
	for (round = 0; round < ARRAY_LEN(ways_to_use_up); round++) {
		const char *way = ways_to_use_up[round];
		char *p = map_blocks(NR);
		int status;
		pid_t pid;

		steps_reset();
		fill_blocks(p, ORIGIN);
		cgroup_write("memory.max", "max");
		if (cgroup_write("memory.swap.max", "0"))
			note("no memory.swap.max: %s", strerror(errno));
		pid = fork_sharing(NR);
		if (!pid) {
			check(!cgroup_write("cgroup.procs", "0"), "cgroup.procs");
			snprintf(path, sizeof(path), "%s/memory.current", cgroup);
			snprintf(value, sizeof(value), "%ld", read_long(path));
			check(!cgroup_write("memory.max", value), "memory.max");
			use_up(p, round);
			done();
		}
		status = join_status(pid);
		check((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
		      (WIFEXITED(status) && !WEXITSTATUS(status) && round),
		      "%s: status %#x", way, status);
		deaths += WIFSIGNALED(status);
		now = full_event("oom_kill");
		note("%s: %s, the cgroup killed %ld", way,
		     WIFSIGNALED(status) ? "killed" : "survived", now - local);
		/* a child of it may be the one, or another one */
		check(round == 6 ? now - local >= WIFSIGNALED(status) :
				   now - local == WIFSIGNALED(status),
		      "%s: the cgroup killed %ld", way, now - local);
		local = now;
		verify_blocks(p, ORIGIN);
		fill_blocks(p, CHILD);
		verify_blocks(p, CHILD);
		unmap_blocks(p, NR);
	}
	check(deaths >= 1, "nobody was killed");
	check(vmstat("oom_kill") - killed == local - start,
	      "%ld were killed, by the cgroup %ld", vmstat("oom_kill") - killed,
	      local - start);
}

/*
 * Make the limit of the cgroup what it uses, without the pages that the CPUs hold in
 * reserve for it: the next page that is charged is one too many.  Everything that
 * its processes need until this ends they must have touched before.
 */
static void fill_group(void)
{
	char path[160], value[32];

	cgroup_write("memory.max", "max");
	cgroup_write("memory.swap.max", "0");
	/* it is reclaim that gives back the reserve */
	cgroup_write("memory.high", "0");
	snprintf(path, sizeof(path), "%s/memory.current", cgroup);
	snprintf(value, sizeof(value), "%ld", read_long(path));
	check(!cgroup_write("memory.max", value), "memory.max");
	cgroup_write("memory.high", "max");
}

/* MADV_DONTNEED of whole blocks needs no table, and nobody is killed for one. */
static void full_group_drops(void)
{
	long oom, kill, max;
	struct events before;
	unsigned int tries;
	char *p, *own;
	int status;
	pid_t pid;

	cgroup_enter();
	cgroup_make("cow_pte_full");
	p = map_blocks(NR);
	fill_blocks(p, ORIGIN);
	steps_reset();
	slots[0] = 0;
	pid = fork_sharing(NR);
	if (!pid) {
		check(!cgroup_write("cgroup.procs", "0"), "cgroup.procs");
		/* all that is needed below, once */
		own = map_blocks(1);
		fill(own, 0, FEW, CHILD);
		slots[1] = madvise(own, BLOCK, MADV_DONTNEED);
		errno = 0;
		arrive(READY);
		await(GO, 1);
		slots[1] = madvise(p, NR * BLOCK, MADV_DONTNEED) ? errno : 0;
		slots[0] = 1;
		await(LEAVE, 1);
		check(!slots[1], "MADV_DONTNEED: %s", strerror(slots[1]));
		verify_blocks(p, OWNER_ZERO);
		fill_blocks(p, CHILD);
		verify_blocks(p, CHILD);
		done();
	}
	await(READY, 1);
	fill_group();
	oom = full_event("oom");
	kill = full_event("oom_kill");
	max = full_event("max");
	events_get(&before);
	arrive(GO);
	for (tries = 0; tries < 6000 && !slots[0]; tries++) {
		check(waitpid(pid, &status, WNOHANG) <= 0, "wait status %#x", status);
		usleep(10000);
	}
	check(slots[0], "it does not come back");
	oom = full_event("oom") - oom;
	kill = full_event("oom_kill") - kill;
	max = full_event("max") - max;
	cgroup_write("memory.max", "max");
	check(!oom && !kill, "%ld times out of memory, %ld killed", oom, kill);
	note("%ld times at the limit", max);
	check(plain || max > 0, "the cgroup was not full");
	expect_events(&before, EV_DETACH, >=, (long)NR);
	arrive(LEAVE);
	join(pid);
	verify_blocks(p, ORIGIN);
	unmap_blocks(p, NR);
}

/*
 * Nor is a process killed because KSM would like to merge its pages, and needs a table
 * of its own for it.  Three sharers: the last two of them are in the full cgroup.
 */
#define KSM	"/sys/kernel/mm/ksm/"

static void full_group_merges(void)
{
	static const char *const names[] = {
		KSM "run", KSM "sleep_millisecs", KSM "pages_to_scan", KSM "smart_scan",
	};
	static const char *const values[] = { "1", "1", "4096", "0" };
	const long same = 24;
	long saved[ARRAY_LEN(names)], oom, kill, max, scans;
	unsigned int i, tries, me;
	pid_t pid = 0;
	char *p;

	if (read_long(KSM "run") < 0)
		skip_case("no KSM");
	cgroup_enter();
	cgroup_make("cow_pte_full");
	p = map_blocks(1);
	memset(p, 0x5a, same * PAGE);
	fill(p, same, FEW, ORIGIN);
	check(!madvise(p, BLOCK, MADV_MERGEABLE), "MADV_MERGEABLE: %s", strerror(errno));
	steps_reset();
	for (me = 0; me < 2; me++) {
		pid = fork_sharing(1);
		if (pid)
			break;
	}
	if (me) {
		check(!cgroup_write("cgroup.procs", "0"), "cgroup.procs");
		arrive(READY);
		await(GO, 1);
		for (i = 0; i < same * PAGE; i += PAGE)
			check(p[i] == 0x5a && p[i + PAGE - 1] == 0x5a, "page %lu",
			      i / PAGE);
		verify(p, same, FEW, ORIGIN);
		fill(p, same, 20, CHILD + me);
		verify(p, same, 20, CHILD + me);
		if (me < 2)
			join(pid);
		done();
	}
	await(READY, 2);
	for (i = 0; i < ARRAY_LEN(names); i++)
		saved[i] = read_long(names[i]);
	fill_group();
	oom = full_event("oom");
	kill = full_event("oom_kill");
	max = full_event("max");
	scans = read_long(KSM "full_scans");
	for (i = ARRAY_LEN(names); i-- > 0; )
		write_file(names[i], "%s", values[i]);
	for (tries = 0; tries < 600 && read_long(KSM "full_scans") < scans + 3; tries++)
		usleep(100 * 1000);
	scans = read_long(KSM "full_scans") - scans;
	oom = full_event("oom") - oom;
	kill = full_event("oom_kill") - kill;
	max = full_event("max") - max;
	cgroup_write("memory.max", "max");
	/* with memory it does so */
	for (i = 0; !oom && !kill && scans >= 3 && i < 600 &&
	     read_long(KSM "pages_sharing") < 3 * same - 3; i++)
		usleep(100 * 1000);
	note("%ld scans, %ld times at the limit; then %ld pages are merged", scans, max,
	     read_long(KSM "pages_sharing"));
	for (tries = ARRAY_LEN(names); tries-- > 0; )
		if (saved[tries] >= 0)
			write_file(names[tries], "%ld", saved[tries]);
	check(scans >= 3, "KSM does not get on");
	check(!oom && !kill, "%ld times out of memory, %ld killed", oom, kill);
	check(i < 600, "nothing is merged");
	check(plain || max > 0, "the cgroup was not full");
	arrive(GO);
	join(pid);
	for (i = 0; i < same * PAGE; i += PAGE)
		check(p[i] == 0x5a && p[i + PAGE - 1] == 0x5a, "page %lu", i / PAGE);
	verify(p, same, FEW, ORIGIN);
	unmap_blocks(p, 1);
}

/*
 * Who reads the memory of a process in a full cgroup from outside pays for the table
 * that this needs: the read succeeds, and nobody is killed.
 */
static void full_group_is_read(void)
{
	long kill, max, failed = 0;
	char path[64], page[PAGE];
	unsigned long b;
	ssize_t ret;
	pid_t pid;
	char *p;
	int fd;

	cgroup_enter();
	cgroup_make("cow_pte_full");
	p = map_blocks(NR);
	fill_blocks(p, ORIGIN);
	steps_reset();
	pid = fork_sharing(NR);
	if (!pid) {
		check(!cgroup_write("cgroup.procs", "0"), "cgroup.procs");
		errno = 0;
		arrive(READY);
		await(LEAVE, 1);
		verify_blocks(p, ORIGIN);
		fill_blocks(p, CHILD);
		done();
	}
	await(READY, 1);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY);
	check(fd >= 0, "%s: %s", path, strerror(errno));
	fill_group();
	kill = full_event("oom_kill");
	max = full_event("max");
	for (b = 0; b < NR; b++) {
		ret = pread(fd, page, PAGE, (off_t)(unsigned long)(p + b * BLOCK));
		if (ret == (ssize_t)PAGE)
			check(page_is(page, b * BLOCK_PAGES, ORIGIN), "block %lu", b);
		else
			failed++;
	}
	close(fd);
	kill = full_event("oom_kill") - kill;
	max = full_event("max") - max;
	cgroup_write("memory.max", "max");
	check(!kill, "%ld were killed for a read from outside", kill);
	note("%ld of %lu reads failed, %ld times at the limit", failed, NR, max);
	check(plain || max > 0, "the cgroup was not full");
	check(!failed, "%ld reads failed", failed);
	arrive(LEAVE);
	join(pid);
	verify_blocks(p, ORIGIN);
	unmap_blocks(p, NR);
}

/* Compaction moves pages of shared tables while processes fork and write. */
static void compaction_against_fork(void)
{
	const char *path = "/proc/sys/vm/compact_memory";
	char *p, *holes;
	unsigned int i;
	pid_t pid;

	if (access(path, W_OK))
		skip_case("no %s", path);
	/* memory with holes, so that there is something to move */
	p = map_blocks(NR);
	holes = map_blocks(2);
	for (i = 0; i < 2 * BLOCK_PAGES; i++) {
		fill(holes, i, 1, PARENT);
		if (i < NR * FEW)
			fill(p, i / FEW * BLOCK_PAGES + i % FEW, 1, ORIGIN);
	}
	for (i = 0; i < 2 * BLOCK_PAGES; i += 2)
		madvise(holes + i * PAGE, PAGE, MADV_DONTNEED);
	pid = xfork();
	if (!pid) {
		for (i = 0; !slots[10] && i < 1000; i++)
			write_file(path, "1");
		done();
	}
	fork_loop(p, rounds(8));
	slots[10] = 1;
	join(pid);
	unmap_blocks(holes, 2);
	unmap_blocks(p, NR);
}

/* move_pages: what two processes map is moved with MPOL_MF_MOVE_ALL only. */
static long move_all_pages(char *p, pid_t pid, int node, int flags, int *refused)
{
	static void *addr[NR * FEW];
	static int nodes[NR * FEW], status[NR * FEW];
	unsigned long b, i, n = 0;
	long there = 0;

	for (b = 0; b < NR; b++) {
		for (i = 0; i < FEW; i++) {
			addr[n] = AT(b * BLOCK_PAGES + i);
			nodes[n++] = node;
		}
	}
	if (syscall(SYS_move_pages, pid, n, addr, nodes, status, flags) < 0)
		skip_case("move_pages: %s", strerror(errno));
	*refused = 0;
	for (i = 0; i < n; i++) {
		there += status[i] == node;
		*refused += status[i] == -EACCES;
	}
	return there;
}

static void migrate_shared(void)
{
	unsigned int round;

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node only");
	for (round = 0; round < rounds(4); round++) {
		char *p = map_blocks(NR);
		struct events before;
		int refused, node;
		pid_t pid;
		long there;

		steps_reset();
		fill_blocks(p, ORIGIN);
		move_all_pages(p, 0, 0, MOVE, &refused);
		pid = fork_sharing(NR);
		if (!pid) {
			arrive(READY);
			await(GO, 1);
			verify_blocks(p, ORIGIN);
			fill_blocks(p, CHILD);
			arrive(DONE);
			await(LEAVE, 1);
			verify_blocks(p, CHILD);
			done();
		}
		await(READY, 1);
		there = move_all_pages(p, 0, 1, MOVE, &refused);
		check(!there && refused == NR * FEW,
		      "%ld shared pages moved, %d refused", there, refused);
		events_get(&before);
		/* odd rounds: from outside, through the child's mapping */
		for (node = 1; node >= 0; node--) {
			there = move_all_pages(p, round % 2 ? pid : 0, node,
					       MOVE_ALL, &refused);
			check(there > (long)(NR * FEW / 2) && !refused,
			      "%ld of %lu pages moved to node %d, %d refused",
			      there, NR * FEW, node, refused);
		}
		expect_events(&before, EV_INPLACE, >=, 1);
		arrive(GO);
		await(DONE, 1);
		verify_blocks(p, ORIGIN);
		arrive(LEAVE);
		join(pid);
		unmap_blocks(p, NR);
	}
}

/* A thread of control that moves all pages of its own block until it is told. */
static void move_block(char *p, int stop)
{
	static void *addr[BLOCK_PAGES];
	static int nodes[BLOCK_PAGES], status[BLOCK_PAGES];
	unsigned long i, n;

	for (n = 0; !slots[stop]; n++) {
		for (i = 0; i < BLOCK_PAGES; i++) {
			addr[i] = AT(i);
			nodes[i] = n % 2;
		}
		check(syscall(SYS_move_pages, 0, BLOCK_PAGES, addr, nodes, status,
			      MOVE_ALL) >= 0, "move_pages: %s", strerror(errno));
		slots[stop + 1] = n + 1;
	}
}

/* Who reads a page that is being migrated waits for that, and copies no table. */
static void read_migrating(void)
{
	char *p = map_blocks(1);
	struct rusage start, end;
	long breaks;
	pid_t pid;

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node only");
	steps_reset();
	slots[10] = slots[11] = 0;
	fill(p, 0, BLOCK_PAGES, ORIGIN);
	pid = fork_sharing(1);
	if (!pid) {
		move_block(p, 10);
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		done();
	}
	if (!plain && !delay_windows(100, WINDOW_INPLACE | WINDOW_CLEARED))
		note("no delays, little is seen");
	breaks = own_breaks();
	getrusage(RUSAGE_SELF, &start);
	do {
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		getrusage(RUSAGE_SELF, &end);
	} while (slots[11] < rounds(20) || end.ru_minflt == start.ru_minflt);
	slots[10] = 1;
	delay_windows(0, 0);
	check(plain || own_breaks() == breaks, "%ld tables were copied",
	      own_breaks() - breaks);
	note("waited %ld times", end.ru_minflt - start.ru_minflt);
	join(pid);
	unmap_blocks(p, 1);
}

/*
 * Migration has found the table of a process, and waits for its lock until the
 * process has got another one: then it must not change the first in its name.
 */
static void break_migrating(void)
{
	unsigned int round;

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node only");
	for (round = 0; round < rounds(12); round++) {
		char *p = map_blocks(1);
		struct events before;
		pid_t pid;

		steps_reset();
		slots[10] = slots[11] = 0;
		fill(p, 0, BLOCK_PAGES, ORIGIN);
		pid = fork_sharing(1);
		if (!pid) {
			move_block(p, 10);
			verify(p, 0, BLOCK_PAGES, ORIGIN);
			fill(p, 0, BLOCK_PAGES, CHILD);
			verify(p, 0, BLOCK_PAGES, CHILD);
			done();
		}
		while (slots[11] < 1 + round % 3)
			;
		if (!plain)
			delay_windows(20000, WINDOW_COPY);
		events_get(&before);
		fill(p, 7, 1, PARENT);
		expect_events(&before, EV_BREAK, >=, 1);
		delay_windows(0, 0);
		slots[10] = 1;
		verify(p, 0, 7, ORIGIN);
		verify(p, 7, 1, PARENT);
		verify(p, 8, BLOCK_PAGES - 8, ORIGIN);
		join(pid);
		verify(p, 8, BLOCK_PAGES - 8, ORIGIN);
		unmap_blocks(p, 1);
	}
}

/* Whole processes move between nodes while they fork. */
static void migrate_against_fork(void)
{
	unsigned long nodes[2] = { 1, 2 };
	pid_t parent = getpid(), pid;
	unsigned int i;
	char *p;

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node only");
	p = map_blocks(NR);
	fill_blocks(p, ORIGIN);
	pid = xfork();
	if (!pid) {
		for (i = 0; !slots[10]; i++) {
			int refused;

			syscall(SYS_migrate_pages, parent, 64, &nodes[i % 2],
				&nodes[!(i % 2)]);
			move_all_pages(p, parent, i % 2, MOVE_ALL, &refused);
		}
		done();
	}
	fork_loop(p, rounds(8));
	slots[10] = 1;
	join(pid);
	unmap_blocks(p, NR);
}

/*
 * All pages go to swap, and are read back past the swap cache: the entries are clean
 * and the copy in swap is gone.
 */
static void clean_by_swap(char *p)
{
	const unsigned long nr = BLOCK_PAGES;
	unsigned long n, swapped = 0;

	check(!madvise(p, BLOCK, MADV_PAGEOUT), "MADV_PAGEOUT: %s", strerror(errno));
	for (n = 0; n < nr; n++)
		swapped += pagemap(0, AT(n)) >> 62 & 1;
	if (swapped < nr / 2)
		skip_case("%lu of %lu pages went to swap", swapped, nr);
	verify(p, 0, nr, ORIGIN);
}

/*
 * All pages are pinned for reading while a child has them too: each is replaced by a
 * copy with a clean entry.
 */
static void clean_by_unsharing(char *p)
{
	static char buffer[BLOCK];
	struct iovec to = { buffer, BLOCK }, from = { p, BLOCK };
	pid_t pid;

	slots[LEAVE] = 0;
	pid = xfork();
	if (!pid) {
		await(LEAVE, 1);
		done();
	}
	check(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)BLOCK,
	      "process_vm_readv: %s", strerror(errno));
	arrive(LEAVE);
	join(pid);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
}

/*
 * A page with a clean entry may still be the only one with its data.  A child that does
 * not want it, and says so with MADV_FREE, must not make reclaim believe that nobody
 * does.
 */
static void lazily_freed_after(void (*clean)(char *p))
{
	const unsigned long nr = BLOCK_PAGES;
	int mode;

	if (!have_swap())
		skip_case("no swap");
	for (mode = 0; mode < 2; mode++) {
		char *p = map_blocks(1);
		struct events events;
		pid_t pid;

		set_mode(mode);
		fill(p, 0, nr, ORIGIN);
		clean(p);
		events_get(&events);
		pid = mode ? fork_sharing(1) : xfork();
		if (!pid) {
			check(!madvise(p, BLOCK, MADV_FREE), "MADV_FREE: %s", strerror(errno));
			done();
		}
		join(pid);
		if (mode)
			expect_events(&events, EV_BREAK, >=, 1);
		check(!madvise(p, BLOCK, MADV_PAGEOUT), "MADV_PAGEOUT: %s", strerror(errno));
		verify(p, 0, nr, ORIGIN);
		unmap_blocks(p, 1);
	}
}

static void lazily_freed(void)
{
	lazily_freed_after(clean_by_swap);
}

static void lazily_freed_copies(void)
{
	lazily_freed_after(clean_by_unsharing);
}

/* How many of the caller's pages are not in memory. */
static long gone(char *p, unsigned long first, unsigned long nr)
{
	unsigned long i;
	long n = 0;

	for (i = first; i < first + nr; i++)
		n += !(pagemap(0, p + i * PAGE) & PM_PRESENT);
	return n;
}

/*
 * Two idle sharers come before the one that has copied the tables and uses the pages:
 * reclaim must look at its accessed bits, too, before it takes what is older.
 */
static void used_by_who_copied(void)
{
	const unsigned long hot = BLOCK_PAGES, nr = NR * BLOCK_PAGES;
	long hot_gone = 0, cold_gone = 0, breaks;
	unsigned int i;
	pid_t pid[2];
	char *p;

	if (!have_swap())
		skip_case("no swap");
	cgroup_enter();
	p = map_blocks(NR);
	fill(p, 0, nr, ORIGIN);
	pid[0] = fork_sharing(NR);
	if (!pid[0]) {
		await(LEAVE, 1);
		verify(p, 0, nr, ORIGIN);
		done();
	}
	pid[1] = fork_sharing(NR);
	if (!pid[1]) {
		await(GO, 1);
		/* what looking itself writes to is copied now */
		own_breaks();
		breaks = own_breaks();
		for (i = 0; i < NR; i++)
			fill(p, i * BLOCK_PAGES, 1, CHILD);
		expect_own_breaks(breaks, NR);
		check(!write_file("/proc/self/clear_refs", "1"), "clear_refs");
		/* The accessed bits may be in the TLB. */
		check(!mprotect(p, NR * BLOCK, PROT_READ) &&
		      !mprotect(p, NR * BLOCK, PROT_READ | PROT_WRITE),
		      "mprotect: %s", strerror(errno));
		for (i = 0; i < 4; i++) {
			read_pages(p, 0, hot);
			cgroup_write("memory.reclaim", "512K");
			hot_gone += gone(p, 0, hot);
			cold_gone += gone(p, hot, nr - hot);
		}
		note("of %lu pages in use %ld went to swap, of %lu others %ld",
		     hot, hot_gone, nr - hot, cold_gone);
		if (cold_gone + hot_gone < 64)
			skip_case("reclaim takes too little");
		check(hot_gone * 4 < cold_gone,
		      "%ld pages in use went to swap, and %ld others", hot_gone, cold_gone);
		for (i = 0; i < NR; i++) {
			verify(p, i * BLOCK_PAGES, 1, CHILD);
			verify(p, i * BLOCK_PAGES + 1, BLOCK_PAGES - 1, ORIGIN);
		}
		done();
	}
	check(!write_file("/proc/self/clear_refs", "1"), "clear_refs");
	arrive(GO);
	join(pid[1]);
	arrive(LEAVE);
	join(pid[0]);
	verify(p, 0, nr, ORIGIN);
	unmap_blocks(p, NR);
}

static const struct cow_case cases[] = {
	{ "swap-out in place", swap_out },
	{ "pages in use by who copied the table", used_by_who_copied },
	{ "pages that a child does not want", lazily_freed },
	{ "copies that a child does not want", lazily_freed_copies },
	{ "sharers leave with pages in swap", exit_swapped },
	{ "swapoff", swap_off },
	{ "swapoff spares what has no swap", swap_off_spares },
	{ "swapoff charges whom it copies for", swap_off_charges },
	{ "pages of a private file", file_pages },
	{ "reclaim against fork", reclaim_against_fork },
	{ "a cgroup too small", pressure },
	{ "a cgroup that is full", full_group },
	{ "a full cgroup drops blocks", full_group_drops },
	{ "a full cgroup and KSM", full_group_merges },
	{ "a full cgroup is read from outside", full_group_is_read },
	{ "compaction against fork", compaction_against_fork },
	{ "move_pages of shared pages", migrate_shared },
	{ "a read of pages that move", read_migrating },
	{ "a break under pages that move", break_migrating },
	{ "migration against fork", migrate_against_fork },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
