// SPDX-License-Identifier: GPL-2.0
/*
 * Other users of page tables: what moves, poisons, watches or inserts pages while
 * three processes (parent, child, grandchild) share the tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cow_pte_util.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME		0x80
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease	448
#endif

enum { ORIGIN = 1, ACTOR, WRITER };	/* and WRITER + 1, WRITER + 2 */
enum { SHARED, DID, SEEN, WROTE, DONE, LEAVE, READY };

#define NR		3UL
#define PAGES		(NR * BLOCK_PAGES)
#define AT(n)		(p + (n) * PAGE)
#define TRACEFS		"/sys/kernel/tracing"

/*
 * Three processes share the tables of @p.  One of them, each in its turn, runs
 * @act.  The others must see nothing of it, @others looks; all write and look
 * again.
 */
struct user {
	void (*act)(char *p);
	void (*view)(char *p);		/* of the actor, after its act */
	void (*others)(char *p);
	long breaks;			/* at least; -1: none, the tables stay shared */
	long inplace;			/* at least */
};

static void all_origin(char *p)
{
	verify(p, 0, PAGES, ORIGIN);
}

static void one_of_three(const struct user *u, unsigned int actor)
{
	char *p = map_blocks(NR);
	unsigned int me = 0;
	struct events before;
	pid_t pid = 0;

	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	while (me < 2) {
		pid = fork_sharing(NR);
		if (pid)
			break;
		me++;
	}
	barrier(SHARED, 3);
	if (me == actor) {
		events_get(&before);
		u->act(p);
		if (u->breaks < 0)
			expect_events(&before, EV_BREAK, ==, 0);
		else
			expect_events(&before, EV_BREAK, >=, u->breaks);
		expect_events(&before, EV_INPLACE, >=, u->inplace);
		u->view(p);
	}
	barrier(DID, 3);
	if (me != actor)
		u->others(p);
	barrier(SEEN, 3);
	fill(p, BLOCK_PAGES + me, 20, WRITER + me);
	barrier(WROTE, 3);
	verify(p, BLOCK_PAGES + me, 20, WRITER + me);
	barrier(DONE, 3);
	if (me == 2)
		done();
	join(pid);
	if (me)
		done();
	unmap_blocks(p, NR);
}

static void three(const struct user *u)
{
	unsigned int round;

	for (round = 0; round < rounds(3); round++)
		one_of_three(u, round % 3);
}

static uint64_t pfn_of(char *at)
{
	uint64_t entry = pagemap(0, at);

	check(entry & PM_PRESENT, "the page is not in memory");
	return entry & ((1ULL << 55) - 1);
}

/* ---- pages that move ---- */

static void pkey_act(char *p)
{
	int key = syscall(SYS_pkey_alloc, 0, 0);

	check(!syscall(SYS_pkey_mprotect, AT(10), 2 * BLOCK, PROT_READ, key),
	      "pkey_mprotect: %s", strerror(errno));
	check(write_faults(AT(10)), "still writable");
	check(!syscall(SYS_pkey_mprotect, AT(10), 2 * BLOCK, PROT_READ | PROT_WRITE,
		       key < 0 ? -1 : 0), "pkey_mprotect: %s", strerror(errno));
	if (key >= 0)
		syscall(SYS_pkey_free, key);
}

static void pkey(void)
{
	static const struct user u = { pkey_act, all_origin, all_origin, 2, 0 };

	three(&u);
}

/* The node of a page, found without a reference to it. */
static int node_of(char *at)
{
	void *page = at;
	int node = -1;

	check(!syscall(SYS_move_pages, 0, 1, &page, NULL, &node, 0) && node >= 0,
	      "move_pages: %d, %s", node, strerror(errno));
	return node;
}

/* mbind with MPOL_MF_MOVE leaves pages of several processes where they are. */
static void bind_act(char *p)
{
	int node = plain ? 0 : node_of(AT(7));
	unsigned long nodes = 1UL << !node;

	check(!syscall(SYS_mbind, p, NR * BLOCK, 2 /* MPOL_BIND */, &nodes, 8, 2) ||
	      errno == EIO, "mbind: %s", strerror(errno));
	verify(p, 0, PAGES, ORIGIN);
	check(plain || node_of(AT(7)) == node, "a page of several processes has moved");
	/* MPOL_MF_MOVE_ALL moves them, for all */
	check(!syscall(SYS_mbind, p, NR * BLOCK, 2, &nodes, 8, 4), "mbind: %s",
	      strerror(errno));
	check(plain || node_of(AT(7)) == !node, "MPOL_MF_MOVE_ALL has moved nothing");
}

static void bind_pages(void)
{
	static const struct user u = { bind_act, all_origin, all_origin, 0, 1 };

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node");
	three(&u);
}

/* move_pages: the same, page by page; one that is where it should be stays there. */
static void move_act(char *p)
{
	int here = node_of(AT(7)), there = !here, status = 99;
	void *page = AT(7);

	check(!syscall(SYS_move_pages, 0, 1, &page, &here, &status, 2 /* MPOL_MF_MOVE */),
	      "move_pages: %s", strerror(errno));
	check(status == here, "to the node where it is: %d", status);
	check(syscall(SYS_move_pages, 0, 1, &page, &there, &status, 2) >= 0,
	      "move_pages: %s", strerror(errno));
	check(status == -EACCES, "a page of several processes: %d", status);
	check(node_of(AT(7)) == here, "a page of several processes has moved");
}

static void move_pages(void)
{
	static const struct user u = { move_act, all_origin, all_origin, -1, 0 };

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node");
	three(&u);
}

static void migrate_act(char *p)
{
	unsigned long from = 1, to = 2;

	check(syscall(SYS_migrate_pages, 0, 8, &from, &to) >= 0, "migrate_pages: %s",
	      strerror(errno));
	verify(p, 0, PAGES, ORIGIN);
	from = 2;
	to = 1;
	check(syscall(SYS_migrate_pages, 0, 8, &from, &to) >= 0, "migrate_pages: %s",
	      strerror(errno));
}

static void migrate(void)
{
	static const struct user u = { migrate_act, all_origin, all_origin, 0, 1 };

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node");
	three(&u);
}

static void unpoison(uint64_t pfn)
{
	write_file("/sys/kernel/debug/hwpoison/unpoison-pfn", "%#llx",
		   (unsigned long long)pfn);
}

/* A page of a shared table goes out of use: it moves, under all sharers. */
static uint64_t offlined;

static void offline_act(char *p)
{
	offlined = pfn_of(AT(33));
	if (write_file("/sys/devices/system/memory/soft_offline_page", "%#llx",
		       (unsigned long long)offlined * PAGE))
		skip_case("no soft_offline_page");
	check(pfn_of(AT(33)) != offlined, "the page is still there");
	unpoison(offlined);
}

static void soft_offline(void)
{
	static const struct user u = { offline_act, all_origin, all_origin, -1, 1 };

	if (access("/sys/kernel/debug/hwpoison/unpoison-pfn", W_OK))
		skip_case("no hwpoison in debugfs");
	three(&u);
}

/* A page of a shared table is lost: for all sharers, and only that one. */
static void poison_act(char *p)
{
	offlined = pfn_of(AT(33));
	if (write_file("/sys/kernel/debug/hwpoison/corrupt-pfn", "%#llx",
		       (unsigned long long)offlined))
		skip_case("corrupt-pfn: %s", strerror(errno));
}

static void poison_view(char *p)
{
	verify(p, 0, 33, ORIGIN);
	check(read_faults(AT(33)), "the lost page can be read");
	verify(p, 34, PAGES - 34, ORIGIN);
}

static void hwpoison(void)
{
	static const struct user u = { poison_act, poison_view, poison_view, -1, 1 };
	unsigned int round;

	if (access("/sys/kernel/debug/hwpoison/unpoison-pfn", W_OK))
		skip_case("no hwpoison in debugfs");
	for (round = 0; round < rounds(3); round++) {
		one_of_three(&u, 0);
		unpoison(offlined);
	}
}

/* ---- pages that are inserted by drivers ---- */

/* A hole in the middle block: @fill maps something of the kernel's there. */
static void into_hole(void (*fill_hole)(char *at))
{
	unsigned int round;

	for (round = 0; round < rounds(2); round++) {
		char *p = map_blocks(NR);
		char *hole = p + BLOCK + BLOCK / 2;
		struct events before;
		pid_t pid;

		steps_reset();
		fill(p, 0, PAGES, ORIGIN);
		check(!munmap(hole, 64 * PAGE), "munmap");
		pid = fork_sharing(NR);
		if ((pid == 0) == round % 2) {
			events_get(&before);
			fill_hole(hole);
			expect_events(&before, EV_BREAK, >=, 1);
			arrive(DID);
			await(WROTE, 1);
		} else {
			await(DID, 1);
			check(read_faults(hole), "the hole is filled here too");
			check(mmap(hole, 64 * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
			      hole, "mmap");
			verify(p, BLOCK_PAGES + BLOCK_PAGES / 2, 64, OWNER_ZERO);
			arrive(WROTE);
		}
		verify(p, 0, BLOCK_PAGES + BLOCK_PAGES / 2, ORIGIN);
		verify(p, BLOCK_PAGES + BLOCK_PAGES / 2 + 64,
		       PAGES - BLOCK_PAGES - BLOCK_PAGES / 2 - 64, ORIGIN);
		if (!pid)
			done();
		join(pid);
		unmap_blocks(p, NR);
	}
}

static void packet_at(char *at)
{
	struct tpacket_req req = {
		.tp_block_size = 4 * PAGE, .tp_block_nr = 4,
		.tp_frame_size = 2048, .tp_frame_nr = 32,
	};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	volatile struct tpacket_hdr *frame = (void *)at;

	if (fd < 0)
		skip_case("AF_PACKET: %s", strerror(errno));
	check(!setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)),
	      "PACKET_RX_RING: %s", strerror(errno));
	check(mmap(at, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		   0) == at, "mmap of the ring: %s", strerror(errno));
	check(frame->tp_status == TP_STATUS_KERNEL, "the ring is not there");
	close(fd);
}

static void packet_into_hole(void)
{
	into_hole(packet_at);
}

/* ---- uprobes ---- */

/*
 * A breakpoint goes into the private copies of all three processes, and out again.
 * The file has one "ret" at the start of each page.
 */
static void uprobe(void)
{
	char path[] = "/dev/shm/cow_pte_uprobe.XXXXXX";
	int fd = mkstemp(path), status = 0;
	unsigned int me = 0;
	struct events before;
	unsigned char *text;
	char *p, page[PAGE] = { };
	unsigned long i;
	pid_t pid = 0;

	check(fd >= 0, "%s: %s", path, strerror(errno));
	page[0] = (char)0xc3;
	for (i = 0; i < BLOCK_PAGES; i++)
		check(pwrite(fd, page, PAGE, i * PAGE) == (ssize_t)PAGE, "pwrite");
	p = map_file_blocks(1, fd);
	text = (unsigned char *)AT(100);
	read_pages(p, 0, BLOCK_PAGES);
	/* the first page is written, or fork would not copy the mapping at all */
	p[8] = 1;
	check(!mprotect(p, BLOCK, PROT_READ | PROT_EXEC), "mprotect");
	mount("none", TRACEFS, "tracefs", 0, NULL);
	if (access(TRACEFS "/uprobe_events", W_OK)) {
		unlink(path);
		skip_case("no uprobe_events");
	}
	steps_reset();
	while (me < 2) {
		pid = fork_sharing(1);
		if (pid)
			break;
		me++;
	}
	barrier(SHARED, 3);
	if (!me) {
		events_get(&before);
		status |= write_file(TRACEFS "/uprobe_events", "p:cow_pte/ret %s:%#lx",
				     path, 100 * PAGE);
		status |= write_file(TRACEFS "/events/cow_pte/ret/enable", "1");
		if (!status)
			expect_events(&before, EV_BREAK, >=, 2);
	}
	barrier(DID, 3);
	((void (*)(void))text)();
	((void (*)(void))AT(101))();
	check(text[0] == (status || plain ? text[0] : 0xcc),
	      "there is no breakpoint, but %#x", text[0]);
	barrier(SEEN, 3);
	if (!me) {
		write_file(TRACEFS "/events/cow_pte/ret/enable", "0");
		write_file(TRACEFS "/uprobe_events", "-:cow_pte/ret");
	}
	barrier(WROTE, 3);
	check(text[0] == 0xc3, "the breakpoint is still there");
	((void (*)(void))text)();
	for (i = 0; i < BLOCK_PAGES; i++)
		check((unsigned char)*AT(i) == 0xc3 && AT(i)[1] == 0, "page %lu", i);
	if (me == 2)
		done();
	join(pid);
	if (me)
		done();
	unlink(path);
	check(!status, "uprobe_events");
	close(fd);
	unmap_blocks(p, 1);
}

/* ---- those who only look ---- */

/*
 * What runs beside the three while they read, and leaves the tables shared.  They
 * read on until @seen, if there is one, says that it has come by.
 */
static void watched(void (*start)(pid_t pid), void (*stop)(void), bool (*seen)(void))
{
	char *p = map_blocks(NR);
	struct events before;
	unsigned int i;
	pid_t pid;

	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		arrive(READY);
		await(DID, 1);
		verify(p, 0, PAGES, ORIGIN);
		done();
	}
	await(READY, 1);
	/* page in what runs below, so that only the watcher could break */
	verify(p, 0, 1, ORIGIN);
	start(getpid());
	events_get(&before);
	for (i = 0; seen && !seen(); i++) {
		check(i < 2000, "nobody has come by");
		verify(p, 0, PAGES, ORIGIN);
	}
	for (i = 0; i < rounds(40); i++)
		verify(p, 0, PAGES, ORIGIN);
	expect_events(&before, EV_BREAK, <=, 1);
	stop();
	arrive(DID);
	join(pid);
	fill(p, 0, PAGES, ACTOR);
	verify(p, 0, PAGES, ACTOR);
	unmap_blocks(p, NR);
}

#define KSM	"/sys/kernel/mm/ksm/"

/* KSM merges pages of three processes that share their table. */
static void ksm(void)
{
	long sleep_ms = read_long(KSM "sleep_millisecs"), run = read_long(KSM "run");
	long scan = read_long(KSM "pages_to_scan");
	char *p = map_blocks(NR);
	unsigned long same = 128, i;
	struct events before;
	unsigned int me = 0;
	pid_t pid = 0;
	int tries;

	if (run < 0)
		skip_case("no KSM");
	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	memset(p, 0x5a, same * PAGE);
	check(!madvise(p, BLOCK, MADV_MERGEABLE), "MADV_MERGEABLE: %s", strerror(errno));
	events_get(&before);
	while (me < 2) {
		pid = fork_sharing(NR);
		if (pid)
			break;
		me++;
	}
	barrier(SHARED, 3);
	if (!me) {
		write_file(KSM "sleep_millisecs", "1");
		write_file(KSM "pages_to_scan", "4096");
		write_file(KSM "run", "1");
		/* each table has been changed for its process, not in one for all */
		for (tries = 0; tries < 600 &&
		     read_long(KSM "pages_sharing") < 3 * (long)same - 3; tries++)
			usleep(100 * 1000);
		write_file(KSM "run", "%ld", run);
		write_file(KSM "sleep_millisecs", "%ld", sleep_ms);
		write_file(KSM "pages_to_scan", "%ld", scan);
		note("%ld pages are merged", read_long(KSM "pages_sharing"));
		check(tries < 600, "nothing is merged");
		expect_events(&before, EV_BREAK, >=, 2);
	}
	barrier(DID, 3);
	for (i = 0; i < same * PAGE; i += PAGE)
		check(p[i] == 0x5a && p[i + PAGE - 1] == 0x5a, "page %lu", i / PAGE);
	verify(p, same, PAGES - same, ORIGIN);
	barrier(SEEN, 3);
	fill(p, me, 20, WRITER + me);
	barrier(WROTE, 3);
	verify(p, me, 20, WRITER + me);
	for (i = 30 * PAGE; i < same * PAGE; i += PAGE)
		check(p[i] == 0x5a && p[i + PAGE - 1] == 0x5a, "page %lu", i / PAGE);
	barrier(DONE, 3);
	if (me == 2)
		done();
	join(pid);
	if (me)
		done();
	unmap_blocks(p, NR);
}

#define DAMON	"/sys/kernel/mm/damon/admin/kdamonds"

static void damon_start(pid_t pid)
{
	if (write_file(DAMON "/nr_kdamonds", "1"))
		skip_case("no DAMON");
	check(!write_file(DAMON "/0/contexts/nr_contexts", "1"), "nr_contexts");
	check(!write_file(DAMON "/0/contexts/0/operations", "vaddr"), "operations");
	check(!write_file(DAMON "/0/contexts/0/monitoring_attrs/intervals/sample_us",
			  "1000"), "sample_us");
	check(!write_file(DAMON "/0/contexts/0/targets/nr_targets", "1"), "nr_targets");
	check(!write_file(DAMON "/0/contexts/0/targets/0/pid_target", "%d", pid),
	      "pid_target");
	check(!write_file(DAMON "/0/state", "on"), "state: %s", strerror(errno));
}

static void damon_stop(void)
{
	write_file(DAMON "/0/state", "off");
	write_file(DAMON "/nr_kdamonds", "0");
}

static void damon(void)
{
	watched(damon_start, damon_stop, NULL);
}

static long numa_updates;
static char *numa_witness;

/* The scan has been at a table that is not shared. */
static bool numa_seen(void)
{
	verify(numa_witness, 0, BLOCK_PAGES, ORIGIN);
	return vmstat("numa_pte_updates") > numa_updates;
}

static void numa_start(pid_t pid)
{
	(void)pid;
	numa_witness = map_blocks(1);
	fill(numa_witness, 0, BLOCK_PAGES, ORIGIN);
	check(!syscall(SYS_set_mempolicy, 0, NULL, 0), "set_mempolicy");
	numa_updates = vmstat("numa_pte_updates");
	if (write_file("/proc/sys/kernel/numa_balancing", "1"))
		skip_case("no NUMA balancing");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "2");
}

static void numa_stop(void)
{
	write_file("/proc/sys/kernel/numa_balancing", "0");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "60000");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "1000");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1000");
}

static void numa_balancing(void)
{
	unsigned long nodes;
	unsigned int cpu, node;
	cpu_set_t set;

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node");
	/* the scan leaves pages alone that are where the only thread runs */
	check(!syscall(SYS_getcpu, &cpu, &node, NULL), "getcpu");
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
	nodes = 1UL << !node;
	check(!syscall(SYS_set_mempolicy, 2 /* MPOL_BIND */, &nodes, 8), "set_mempolicy: %s",
	      strerror(errno));
	watched(numa_start, numa_stop, numa_seen);
}

/* Ageing of the multi-gen LRU walks the page tables of all processes. */
static void lru_gen_age(void)
{
	unsigned long memcg = 0, node = 0, gen = 0;
	char line[256], word[16];
	FILE *f = fopen("/sys/kernel/debug/lru_gen", "r");

	if (!f)
		skip_case("no lru_gen in debugfs");
	while (fgets(line, sizeof(line), f)) {
		unsigned long v;

		if (sscanf(line, " %15s %lu", word, &v) != 2)
			continue;
		if (!strcmp(word, "memcg") && gen)
			break;
		if (!strcmp(word, "memcg"))
			memcg = v;
		else if (!strcmp(word, "node") && gen)
			break;
		else if (!strcmp(word, "node"))
			node = v;
		else if (word[0] >= '0' && word[0] <= '9')
			gen = strtoul(word, NULL, 10);
	}
	fclose(f);
	check(!write_file("/sys/kernel/debug/lru_gen", "+ %lu %lu %lu 1 1", memcg, node,
			  gen), "lru_gen: + %lu %lu %lu: %s", memcg, node, gen,
	      strerror(errno));
}

static void lru_gen_start(pid_t pid)
{
	unsigned int i;

	(void)pid;
	if (write_file("/sys/kernel/mm/lru_gen/enabled", "y"))
		skip_case("no multi-gen LRU");
	for (i = 0; i < 4; i++)
		lru_gen_age();
}

static void lru_gen_stop(void)
{
	lru_gen_age();
	write_file("/sys/kernel/mm/lru_gen/enabled", "n");
}

static void lru_gen(void)
{
	watched(lru_gen_start, lru_gen_stop, NULL);
}

/* ---- advice from outside, reaping, time namespaces, huge pages ---- */

static void advise_other(void)
{
	static const int advices[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_COLLAPSE,
	};
	char *p = map_blocks(NR);
	struct iovec iov = { p, NR * BLOCK };
	unsigned int i;
	pid_t pid;

	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		await(DID, 1);
		verify(p, 0, PAGES, ORIGIN);
		fill(p, 5, 700, ACTOR);
		verify(p, 5, 700, ACTOR);
		done();
	}
	for (i = 0; i < ARRAY_LEN(advices); i++) {
		int fd = syscall(SYS_pidfd_open, pid, 0);
		ssize_t n = syscall(SYS_process_madvise, fd, &iov, 1, advices[i], 0);

		check(n >= 0 || errno == EINVAL || errno == ENOSYS,
		      "process_madvise %d: %s", advices[i], strerror(errno));
		close(fd);
		verify(p, 0, PAGES, ORIGIN);
	}
	arrive(DID);
	join(pid);
	verify(p, 0, PAGES, ORIGIN);
	unmap_blocks(p, NR);
}

/* The OOM reaper takes the memory of a process that is being killed. */
static void reaped(void)
{
	unsigned int round, hit = 0;

	for (round = 0; round < rounds(8); round++) {
		char *p = map_blocks(NR);
		pid_t pid;
		int fd;

		steps_reset();
		fill(p, 0, PAGES, ORIGIN);
		/* the reaper goes from mapping to mapping, several in a block */
		check(!madvise(AT(100), 300 * PAGE, MADV_RANDOM), "MADV_RANDOM");
		pid = fork_sharing(NR);
		if (!pid) {
			if (round % 2)
				fill(p, 0, 10, ACTOR);
			arrive(SHARED);
			for (;;)
				pause();
		}
		await(SHARED, 1);
		fd = syscall(SYS_pidfd_open, pid, 0);
		check(fd >= 0, "pidfd_open: %s", strerror(errno));
		kill(pid, SIGKILL);
		if (!syscall(SYS_process_mrelease, fd, 0))
			hit++;
		else if (errno == ENOSYS)
			skip_case("no process_mrelease");
		close(fd);
		check(WIFSIGNALED(join_status(pid)), "not killed");
		verify(p, 0, PAGES, ORIGIN);
		fill(p, 0, PAGES, ACTOR);
		unmap_blocks(p, NR);
	}
	note("%u of %u were reaped before they were gone", hit, round);
}

/* A time namespace zaps the kernel's page of time data, beside a shared block. */
static void time_namespace(void)
{
	char *p = map_blocks(NR);
	struct timespec ts;
	pid_t pid;

	fill(p, 0, PAGES, ORIGIN);
	steps_reset();
	pid = fork_sharing(NR);
	if (!pid) {
		pid_t inner;

		if (unshare(CLONE_NEWTIME)) {
			inner = 0;
			arrive(DID);
			done();
		}
		/* the first child of the namespace enters it */
		write_file("/proc/self/timens_offsets", "monotonic 1000000 0\n");
		inner = xfork();
		if (!inner) {
			check(!clock_gettime(CLOCK_MONOTONIC, &ts) &&
			      ts.tv_sec >= 1000000, "the time is %ld s",
			      (long)ts.tv_sec);
			verify(p, 0, PAGES, ORIGIN);
			done();
		}
		join(inner);
		arrive(DID);
		done();
	}
	await(DID, 1);
	join(pid);
	check(!clock_gettime(CLOCK_MONOTONIC, &ts) && ts.tv_sec < 1000000,
	      "the time is %ld s", (long)ts.tv_sec);
	verify(p, 0, PAGES, ORIGIN);
	unmap_blocks(p, NR);
}

/* Tables that came of the split of a huge page, and the huge zero page beside. */
static void split_huge_page(void)
{
	unsigned int round;
	pid_t pid, second;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(NR);

		steps_reset();
		if (madvise(p, NR * BLOCK, MADV_HUGEPAGE))
			skip_case("MADV_HUGEPAGE: %s", strerror(errno));
		read_pages(p, 0, 1);			/* the huge zero page */
		fill(p, BLOCK_PAGES, 2 * BLOCK_PAGES, ORIGIN);
		if (smaps_kb(0, p, "AnonHugePages") < 2048)
			skip_case("no huge page");
		/* split: one by protection, one by a hole */
		check(!mprotect(AT(BLOCK_PAGES + 9), PAGE, PROT_READ), "mprotect");
		check(!mprotect(AT(BLOCK_PAGES + 9), PAGE, PROT_READ | PROT_WRITE),
		      "mprotect");
		check(!madvise(AT(2 * BLOCK_PAGES + 5), PAGE, MADV_DONTNEED), "madvise");
		pid = fork_sharing(2);
		if (!pid) {
			second = fork_sharing(2);
			fill(p, BLOCK_PAGES + 100, 30, ACTOR);
			verify(p, BLOCK_PAGES + 100, 30, ACTOR);
			verify(p, BLOCK_PAGES + 130, 300, ORIGIN);
			if (second)
				join(second);
			done();
		}
		fill(p, 2 * BLOCK_PAGES + 200, 30, WRITER);
		check(!madvise(AT(BLOCK_PAGES), BLOCK, MADV_COLLAPSE) || errno,
		      "MADV_COLLAPSE");
		join(pid);
		verify(p, BLOCK_PAGES, BLOCK_PAGES, ORIGIN);
		verify(p, 2 * BLOCK_PAGES, 5, ORIGIN);
		verify(p, 2 * BLOCK_PAGES + 5, 1, OWNER_ZERO);
		verify(p, 2 * BLOCK_PAGES + 200, 30, WRITER);
		verify(p, 0, BLOCK_PAGES, OWNER_ZERO);
		unmap_blocks(p, NR);
	}
}

/* After a fork the entry of a huge page is read-only, as that of a shared table is. */
static void huge_beside(void)
{
	unsigned int round;
	pid_t pid;

	for (round = 0; round < rounds(4); round++) {
		char *p = map_blocks(NR);

		steps_reset();
		if (madvise(p, BLOCK, MADV_HUGEPAGE))
			skip_case("MADV_HUGEPAGE: %s", strerror(errno));
		fill(p, 0, PAGES, ORIGIN);
		if (smaps_kb(0, p, "AnonHugePages") < 2048)
			skip_case("no huge page");
		pid = fork_sharing(NR - 1);
		if ((round % 2) == !pid) {
			/* goes through all tables that it shares */
			check(!mprotect(p, NR * BLOCK, PROT_READ), "mprotect: %s",
			      strerror(errno));
			check(plain || smaps_kb(0, p, "AnonHugePages") >= 2048,
			      "the huge page is gone");
			verify(p, 0, PAGES, ORIGIN);
			check(!mprotect(p, NR * BLOCK, PROT_READ | PROT_WRITE),
			      "mprotect: %s", strerror(errno));
			fill(p, 7, 600, ACTOR);
			verify(p, 7, 600, ACTOR);
			arrive(DID);
		} else {
			await(DID, 1);
			verify(p, 0, PAGES, ORIGIN);
			check(!madvise(AT(3), 5 * PAGE, MADV_DONTNEED), "madvise");
			verify(p, 3, 5, OWNER_ZERO);
			verify(p, 8, PAGES - 8, ORIGIN);
		}
		if (!pid)
			done();
		join(pid);
		unmap_blocks(p, NR);
	}
}

static const struct cow_case cases[] = {
	{ "pkey_mprotect", pkey },
	{ "mbind", bind_pages },
	{ "move_pages", move_pages },
	{ "migrate_pages", migrate },
	{ "soft offline", soft_offline },
	{ "hwpoison", hwpoison },
	{ "AF_PACKET ring into a hole", packet_into_hole },
	{ "uprobe", uprobe },
	{ "KSM", ksm },
	{ "DAMON", damon },
	{ "NUMA balancing", numa_balancing },
	{ "multi-gen LRU", lru_gen },
	{ "process_madvise", advise_other },
	{ "OOM reaper", reaped },
	{ "time namespace", time_namespace },
	{ "split huge pages", split_huge_page },
	{ "huge pages beside shared tables", huge_beside },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
