// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are changed in a shared table on behalf of somebody who does not share
 * it, or not for itself: KSM of one process, a device of another one, a file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, ACTOR, FILE_DATA, NEW_DATA, WRITER };	/* and WRITER + 1, + 2 */
enum { READY, MERGED, COMPARED, MOVING, MOVED, WROTE, LOOKED, LEAVE };

#define AT(n)		(p + (n) * PAGE)
#define SAME		32UL	/* pages with the same contents */
#define SAME_BYTE	0x5a
#define ALL_MOVED	SAME	/* a slot; those before are page frames */
#define KSM		"/sys/kernel/mm/ksm/"
#define MOVE		2	/* MPOL_MF_MOVE */
#define MOVE_ALL	4	/* MPOL_MF_MOVE_ALL */

/* The parent goes on, when the others are gone. */
static void join_tree(unsigned int me, pid_t pid)
{
	if (me < 2)
		join(pid);
	if (me)
		done();
}

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

/* ksmd merges the pages that are alike, of this process. */
static void merge_same(char *p)
{
	long sleep_ms = read_long(KSM "sleep_millisecs"), run = read_long(KSM "run");
	long scan = read_long(KSM "pages_to_scan");
	int tries;

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
}

/* The one whose memory ksmd scans; its child shares the table with its parent still. */
static void merger(char *p)
{
	unsigned long i;
	long breaks;
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
	merge_same(p);
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
	if (large_folios)
		skip_case("pages of large folios are not moved to a device");
	for (round = 0; round < rounds(4); round++) {
		steps_reset();
		/* who had a device once shares no more */
		pid = xfork();
		if (!pid)
			one_device(round);
		join(pid);
	}
}

/* ---- pages of a file that go ---- */

#define GONE_FIRST	64UL
#define GONE		400UL
#define GONE_END	(GONE_FIRST + GONE)
#define RSS_FUZZ_KB	(64 * 4)

/* Page cache that goes, and what a read finds in its place. */
struct invalidation {
	void (*act)(int fd);
	unsigned int owner;
};

/* In shared memory: to write from there takes no reference through a shared table. */
static char *direct_buf;

/* Which pages of the block this process maps. */
static bool present[BLOCK_PAGES];

static void look_present(char *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entries[BLOCK_PAGES];
	unsigned long i;

	check(fd >= 0, "/proc/self/pagemap: %s", strerror(errno));
	check(pread(fd, entries, sizeof(entries), (uintptr_t)p / PAGE * 8) ==
	      (ssize_t)sizeof(entries), "/proc/self/pagemap: %s", strerror(errno));
	close(fd);
	for (i = 0; i < BLOCK_PAGES; i++)
		present[i] = entries[i] & PM_PRESENT;
}

static void verify_private_file(char *p, unsigned int owner)
{
	unsigned long i;

	for (i = 0; i < BLOCK_PAGES; i++)
		verify(p, i, 1, i % 2 ? ORIGIN :
		       i >= GONE_FIRST && i < GONE_END ? owner : FILE_DATA);
}

/*
 * A private mapping of which every other page was written.  One of three who share the
 * table makes the others stale, and sees that it is the table of all that changes.
 */
static void one_invalidation(const struct invalidation *v, int fd, unsigned int actor)
{
	char *p = map_file_blocks(1, fd);
	long tables, breaks, rss[2];
	struct events before;
	unsigned long i;
	unsigned int me;
	pid_t pid;

	steps_reset();
	for (i = 0; i < BLOCK_PAGES; i++) {
		if (i % 2)
			fill(p, i, 1, ORIGIN);
		else
			read_pages(p, i, 1);
	}
	slots[0] = pfn_of(AT(GONE_FIRST + 1));
	me = fork_twice(1, &pid);
	/* what looking itself writes to is copied now */
	look_present(p);
	breaks = own_breaks();
	tables = own_tables();
	check(plain || tables >= 1, "%ld tables are shared", tables);
	for (i = 0; i < BLOCK_PAGES; i++)
		check(present[i] || (plain && !(i % 2)), "page %lu did not come along", i);
	rss[0] = status_kb(0, "RssFile");
	rss[1] = status_kb(0, "RssAnon");
	barrier(READY, 3);
	if (me == actor) {
		events_get(&before);
		v->act(fd);
		expect_events(&before, EV_INPLACE, >=, 1);
		expect_events(&before, EV_BREAK, ==, 0);
	}
	barrier(MOVED, 3);
	/*
	 * What /proc shows may be off by a batch of the per-CPU counters; when an mm
	 * goes, the kernel checks the exact sum.
	 */
	rss[0] -= status_kb(0, "RssFile");
	rss[1] -= status_kb(0, "RssAnon");
	check(plain || labs(rss[0] - (long)GONE / 2 * 4) <= RSS_FUZZ_KB,
	      "RssFile fell by %ld kB", rss[0]);
	check(labs(rss[1]) <= RSS_FUZZ_KB, "RssAnon fell by %ld kB", rss[1]);
	look_present(p);
	for (i = 0; i < BLOCK_PAGES; i++) {
		bool gone = i >= GONE_FIRST && i < GONE_END && !(i % 2);

		check(plain || !present[i] == gone, "page %lu is %s", i,
		      gone ? "still there" : "gone");
	}
	check(pfn_of(AT(GONE_FIRST + 1)) == slots[0], "a page that was written is another");
	check(own_tables() == tables, "%ld tables are shared, %ld were", own_tables(), tables);
	expect_own_breaks(breaks, 0);
	barrier(COMPARED, 3);
	verify_private_file(p, v->owner);
	barrier(LOOKED, 3);
	fill(p, GONE_FIRST + me, 20, WRITER + me);
	barrier(WROTE, 3);
	verify(p, GONE_FIRST + me, 20, WRITER + me);
	verify(p, GONE_END, 1, FILE_DATA);
	barrier(LEAVE, 3);
	join_tree(me, pid);
	unmap_blocks(p, 1);
}

static void write_past_cache(int fd)
{
	struct statfs fs;
	char path[64];
	ssize_t ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* tmpfs knows the flag, but writes to the page cache */
	fd = fstatfs(fd, &fs) || fs.f_type == TMPFS_MAGIC ? -1 : open(path, O_RDWR | O_DIRECT);
	if (fd < 0)
		skip_case("no file system with O_DIRECT, see COW_PTE_TEST_DIR");
	ret = pwrite(fd, direct_buf, GONE * PAGE, GONE_FIRST * PAGE);
	check(ret == (ssize_t)(GONE * PAGE), "pwrite: %zd, %s", ret, strerror(errno));
	close(fd);
}

/* unmap_mapping_pages(), for a range of pages, and not for those that were written */
static void pages_are_invalidated(void)
{
	static const struct invalidation v = { write_past_cache, NEW_DATA };
	unsigned int round;
	unsigned long i;

	direct_buf = mmap(NULL, GONE * PAGE, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(direct_buf != MAP_FAILED, "mmap");
	for (i = 0; i < GONE; i++)
		pattern_page(direct_buf + i * PAGE, GONE_FIRST + i, NEW_DATA);
	for (round = 0; round < rounds(3); round++) {
		int fd = disk_file(BLOCK_PAGES, FILE_DATA);

		check(!fsync(fd), "fsync: %s", strerror(errno));
		one_invalidation(&v, fd, round % 3);
		close(fd);
	}
}

static void zero_device(int fd)
{
	uint64_t range[2] = { GONE_FIRST * PAGE, GONE * PAGE };

	check(!ioctl(fd, BLKZEROOUT, range), "BLKZEROOUT: %s", strerror(errno));
}

/* unmap_mapping_folio(), page by page: nothing unmaps the range before */
static void device_is_zeroed(void)
{
	static const struct invalidation v = { zero_device, OWNER_ZERO };
	long id = read_long("/sys/class/zram-control/hot_add");
	char path[64], buf[PAGE];
	unsigned int round;
	unsigned long i;
	int fd;

	if (id < 0)
		skip_case("no zram");
	snprintf(path, sizeof(path), "/sys/block/zram%ld/disksize", id);
	check(!write_file(path, "%lu", BLOCK), "%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "/dev/zram%ld", id);
	fd = open(path, O_RDWR | O_CLOEXEC);
	check(fd >= 0, "%s: %s", path, strerror(errno));
	for (round = 0; round < rounds(3); round++) {
		for (i = 0; i < BLOCK_PAGES; i++) {
			pattern_page(buf, i, FILE_DATA);
			check(pwrite(fd, buf, PAGE, i * PAGE) == (ssize_t)PAGE, "pwrite: %s",
			      strerror(errno));
		}
		check(!fsync(fd), "fsync: %s", strerror(errno));
		one_invalidation(&v, fd, round % 3);
	}
	close(fd);
	if (write_file("/sys/class/zram-control/hot_remove", "%ld", id))
		note("%s stays: %s", path, strerror(errno));
}

/* ---- merged pages that one process wants back ---- */

/* One of three who share a table with pages of KSM gets pages of its own, in a copy. */
static void unmerge_in_one(unsigned int actor)
{
	char *p = map_blocks(1);
	struct events before;
	long tables, breaks;
	unsigned long i;
	unsigned int me;
	pid_t pid;

	steps_reset();
	fill(p, 0, BLOCK_PAGES, ORIGIN);
	memset(p, SAME_BYTE, SAME * PAGE);
	merge_same(p);
	/* ksmd does not come again and undo what is asked for */
	write_file(KSM "run", "0");
	slots[0] = pfn_of(p);
	me = fork_twice(1, &pid);
	/* what looking itself writes to is copied now */
	check(smaps_kb(0, p, "KSM") == (long)(SAME * PAGE / 1024), "%ld kB are of KSM",
	      smaps_kb(0, p, "KSM"));
	breaks = own_breaks();
	tables = own_tables();
	check(plain || tables >= 1, "%ld tables are shared", tables);
	for (i = 0; i < SAME; i++)
		check(slots[0] && pfn_of(AT(i)) == slots[0], "page %lu is not merged", i);
	barrier(READY, 3);
	if (me == actor) {
		events_get(&before);
		check(!madvise(p, BLOCK, MADV_UNMERGEABLE), "MADV_UNMERGEABLE: %s",
		      strerror(errno));
		expect_events(&before, EV_BREAK, ==, 1);
	}
	barrier(MOVED, 3);
	expect_own_breaks(breaks, me == actor);
	check(plain || own_tables() == tables - (me == actor),
	      "%ld tables are shared, %ld were", own_tables(), tables);
	for (i = 0; i < SAME; i++) {
		bool own = pagemap(0, AT(i)) & PM_EXCLUSIVE;

		check((pfn_of(AT(i)) == slots[0]) == (me != actor), "page %lu is %s", i,
		      me == actor ? "still merged" : "not the merged one any more");
		check(own == (me == actor), "page %lu is %s", i,
		      own ? "exclusive" : "not exclusive");
	}
	check(smaps_kb(0, p, "KSM") == (me == actor ? 0 : (long)(SAME * PAGE / 1024)),
	      "%ld kB are of KSM", smaps_kb(0, p, "KSM"));
	verify_block(p);
	barrier(COMPARED, 3);
	if (me == actor)
		fill(p, 0, SAME, ACTOR);
	fill(p, SAME + me, 20, WRITER + me);
	barrier(WROTE, 3);
	if (me == actor)
		verify(p, 0, SAME, ACTOR);
	else
		verify_same(p);
	verify(p, SAME + me, 20, WRITER + me);
	verify(p, SAME + 30, BLOCK_PAGES - SAME - 30, ORIGIN);
	barrier(LEAVE, 3);
	join_tree(me, pid);
	unmap_blocks(p, 1);
}

static void pages_are_unmerged(void)
{
	long run = read_long(KSM "run");
	unsigned int round;

	if (run < 0)
		skip_case("no KSM");
	for (round = 0; round < rounds(3); round++)
		unmerge_in_one(round % 3);
	write_file(KSM "run", "%ld", run);
}

/* ---- who may move what several processes map ---- */

static unsigned long pages_on(char *p, int node)
{
	int status[BLOCK_PAGES];
	void *pages[BLOCK_PAGES];
	unsigned long i, n = 0;

	for (i = 0; i < BLOCK_PAGES; i++)
		pages[i] = AT(i);
	check(!syscall(SYS_move_pages, 0, BLOCK_PAGES, pages, NULL, status, 0),
	      "move_pages: %s", strerror(errno));
	for (i = 0; i < BLOCK_PAGES; i++)
		n += status[i] == node;
	return n;
}

/* How many of the pages were refused, or -1. */
static long move_to(char *p, int node, int flags)
{
	int nodes[BLOCK_PAGES], status[BLOCK_PAGES];
	void *pages[BLOCK_PAGES];
	unsigned long i;
	long n = 0;

	for (i = 0; i < BLOCK_PAGES; i++) {
		pages[i] = AT(i);
		nodes[i] = node;
		status[i] = 0;
	}
	if (syscall(SYS_move_pages, 0, BLOCK_PAGES, pages, nodes, status, flags) < 0)
		return -1;
	for (i = 0; i < BLOCK_PAGES; i++)
		n += status[i] == -EACCES;
	return n;
}

/* A page that somebody holds for a moment is not moved the first time. */
static void move_all_to(char *p, int node)
{
	int tries;

	for (tries = 0; tries < 10 && pages_on(p, node) < BLOCK_PAGES; tries++)
		check(!move_to(p, node, MOVE), "move_pages: %s", strerror(errno));
	check(tries < 10, "%lu pages are on node %d", pages_on(p, node), node);
}

/*
 * All of @p is on node 0 and in a shared table, all of @q on node 0 and this process's
 * own.  Without CAP_SYS_NICE it can move the latter only, in each of the three ways.
 */
static void without_privilege(char *p, char *q)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };
	unsigned long node0 = 1, node1 = 2;
	struct events before;

	check(!syscall(SYS_capset, &header, none), "capset: %s", strerror(errno));
	check(plain || events_get(&before), "no events");
	check(syscall(SYS_migrate_pages, 0, 8, &node0, &node1) >= 0, "migrate_pages: %s",
	      strerror(errno));
	check(pages_on(q, 1) > BLOCK_PAGES / 2, "migrate_pages moves %lu pages of its own",
	      pages_on(q, 1));
	check(plain || pages_on(p, 0) == BLOCK_PAGES, "migrate_pages moves shared pages");

	check(!syscall(SYS_mbind, p, BLOCK, 2 /* MPOL_BIND */, &node1, 8, MOVE), "mbind: %s",
	      strerror(errno));
	check(!syscall(SYS_mbind, q, BLOCK, 2, &node0, 8, MOVE), "mbind: %s", strerror(errno));
	check(pages_on(q, 0) > BLOCK_PAGES / 2, "mbind moves %lu pages of its own",
	      pages_on(q, 0));
	check(plain || pages_on(p, 0) == BLOCK_PAGES, "mbind moves shared pages");

	check(plain || move_to(p, 1, MOVE) == (long)BLOCK_PAGES,
	      "move_pages does not refuse shared pages");
	check(!move_to(q, 1, MOVE), "move_pages refuses pages of its own");
	check(pages_on(q, 1) > BLOCK_PAGES / 2, "move_pages moves %lu pages of its own",
	      pages_on(q, 1));

	check(syscall(SYS_mbind, p, BLOCK, 2, &node1, 8, MOVE_ALL) < 0 && errno == EPERM,
	      "mbind, MPOL_MF_MOVE_ALL: %s", strerror(errno));
	check(move_to(p, 1, MOVE_ALL) < 0 && errno == EPERM,
	      "move_pages, MPOL_MF_MOVE_ALL: %s", strerror(errno));
	check(plain || pages_on(p, 0) == BLOCK_PAGES, "shared pages have moved");
	expect_events(&before, EV_BREAK, ==, 0);
}

/* migrate_pages of one who may moves them, for all. */
static void with_privilege(char *p)
{
	unsigned long node0 = 1, node1 = 2;
	struct events before;
	int tries;

	events_get(&before);
	for (tries = 0; tries < 10 && pages_on(p, 1) < BLOCK_PAGES; tries++)
		check(syscall(SYS_migrate_pages, 0, 8, &node0, &node1) >= 0,
		      "migrate_pages: %s", strerror(errno));
	check(tries < 10, "migrate_pages has moved %lu pages", pages_on(p, 1));
	expect_events(&before, EV_INPLACE, >=, large_folios ? 1 : (long)BLOCK_PAGES);
	expect_events(&before, EV_BREAK, ==, 0);
}

static void one_without_privilege(unsigned int actor)
{
	char *p = map_blocks(1), *q;
	long tables, breaks;
	unsigned int me;
	pid_t pid;

	fill(p, 0, BLOCK_PAGES, ORIGIN);
	move_all_to(p, 0);
	me = fork_twice(1, &pid);
	q = map_blocks(1);
	fill(q, 0, BLOCK_PAGES, ACTOR);
	move_all_to(q, 0);
	/* what looking itself writes to is copied now */
	breaks = own_breaks();
	tables = own_tables();
	check(plain || tables >= 1, "%ld tables are shared", tables);
	barrier(READY, 3);
	if (me == actor)
		without_privilege(p, q);
	barrier(MOVING, 3);
	check(plain || pages_on(p, 0) == BLOCK_PAGES, "shared pages have moved");
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	barrier(COMPARED, 3);
	if (me == (actor + 1) % 3)
		with_privilege(p);
	barrier(MOVED, 3);
	check(plain || pages_on(p, 1) == BLOCK_PAGES, "%lu pages are on the other node",
	      pages_on(p, 1));
	expect_own_breaks(breaks, 0);
	check(own_tables() == tables, "%ld tables are shared, %ld were", own_tables(), tables);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	verify(q, 0, BLOCK_PAGES, ACTOR);
	barrier(LOOKED, 3);
	fill(p, me, 20, WRITER + me);
	barrier(WROTE, 3);
	verify(p, me, 20, WRITER + me);
	verify(p, 30, BLOCK_PAGES - 30, ORIGIN);
	barrier(LEAVE, 3);
	join_tree(me, pid);
	done();
}

static void privilege_to_move(void)
{
	unsigned int round;
	pid_t pid;

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node only");
	if (geteuid())
		skip_case("no privilege to give up");
	for (round = 0; round < rounds(3); round++) {
		steps_reset();
		/* who has given up its privilege does not get it back */
		pid = xfork();
		if (!pid)
			one_without_privilege(round % 3);
		join(pid);
	}
}

/* ---- references that nobody keeps ---- */

#define NEW_PAGES	8UL

static void look_at_nothing(char *at)
{
	(void)at;
}

static void look_at_node(char *at)
{
	int node = -1;

	if (syscall(SYS_get_mempolicy, &node, NULL, 0, at, 3 /* MPOL_F_NODE | MPOL_F_ADDR */))
		skip_case("get_mempolicy: %s", strerror(errno));
	check(node >= 0, "the page is on node %d", node);
}

static void look_at_futex(char *at)
{
	check(!syscall(SYS_futex, at, FUTEX_WAKE, 1, NULL, NULL, 0), "who was asleep here?");
}

static void take_reference(char *at)
{
	struct iovec iov = { at, PAGE };
	int fds[2];

	check(!pipe(fds), "pipe");
	check(vmsplice(fds[1], &iov, 1, 0) == (ssize_t)PAGE, "vmsplice: %s", strerror(errno));
}

static const struct {
	const char *name;
	void (*act)(char *at);
} looks[] = {
	{ "nothing", look_at_nothing },
	{ "get_mempolicy", look_at_node },
	{ "a futex", look_at_futex },
	{ "vmsplice", take_reference },
};

#define KEEPS	(ARRAY_LEN(looks) - 1)

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check(!sched_setaffinity(0, sizeof(set), &set), "CPU %d: %s", cpu, strerror(errno));
}

/*
 * New pages wait in a list of their CPU for the LRU, which has a reference to them.  A
 * fork that looks at the references makes these pages not exclusive, and whoever writes
 * to them later, on another CPU, copies them.  A fork that does not look leaves them
 * as they are.
 */
static void look_and_fork(unsigned int look, const int *cpus)
{
	char *p = map_blocks(1);
	unsigned long i;
	uint64_t pfn;
	pid_t pid;

	run_on(cpus[0]);
	fill(p, 0, NEW_PAGES + 1, ORIGIN);
	looks[look].act(AT(NEW_PAGES));
	run_on(cpus[1]);
	pid = fork_sharing(1);
	if (!pid)
		done();
	join(pid);
	check(plain || own_tables() >= 1, "%ld tables are shared", own_tables());
	for (i = 0; i < NEW_PAGES; i++) {
		pfn = pfn_of(AT(i));
		check(pfn, "page %lu is gone", i);
		fill(p, i, 1, ACTOR);
		slots[look] += pfn_of(AT(i)) != pfn;
	}
	verify(p, 0, NEW_PAGES, ACTOR);
	verify(p, NEW_PAGES, 1, ORIGIN);
	done();
}

/* Who took a reference once is marked for ever: each in a process of its own. */
static void run_look(unsigned int look, const int *cpus)
{
	pid_t pid = xfork();

	if (!pid)
		look_and_fork(look, cpus);
	join(pid);
}

static void no_reference_is_kept(void)
{
	int cpus[2], cpu, n = 0, tries;
	unsigned int round, i;
	cpu_set_t set;

	check(!sched_getaffinity(0, sizeof(set), &set), "sched_getaffinity");
	for (cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[n++] = cpu;
	if (n < 2)
		skip_case("one CPU only");
	for (i = 0; i < KEEPS; i++)
		slots[i] = 0;
	for (round = 0; round < rounds(4); round++) {
		for (i = 0; i < KEEPS; i++) {
			run_look(i, cpus);
			check(plain || !slots[i],
			      "fork looks for references after %s: %ld pages are copied",
			      looks[i].name, (long)slots[i]);
		}
		/* where much else goes on, the list may be empty by now */
		slots[KEEPS] = 0;
		for (tries = 0; tries < 100 && !slots[KEEPS]; tries++)
			run_look(KEEPS, cpus);
		check(plain || slots[KEEPS], "fork does not look for references after %s",
		      looks[KEEPS].name);
		note("%ld pages are copied after %s, %d tries", (long)slots[KEEPS],
		     looks[KEEPS].name, tries);
	}
}

static const struct cow_case cases[] = {
	{ "KSM pages that migrate", ksm_page_moves },
	{ "pages that another process moves to a device", pages_go_to_a_device },
	{ "pages of a file are invalidated", pages_are_invalidated },
	{ "a block device is zeroed", device_is_zeroed },
	{ "KSM pages are unmerged", pages_are_unmerged },
	{ "migrate_pages with and without privilege", privilege_to_move },
	{ "get_mempolicy and futexes", no_reference_is_kept },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
