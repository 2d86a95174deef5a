// SPDX-License-Identifier: GPL-2.0
/*
 * Other users of page tables: what moves, poisons, watches or inserts pages while
 * three processes (parent, child, grandchild) share the tables.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/hw_breakpoint.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
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
#include <sys/resource.h>
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
	struct events before;
	unsigned int me;
	pid_t pid;

	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	me = fork_twice(NR, &pid);
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
	static const struct user u = { bind_act, all_origin, all_origin, -1, 1 };

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
	static const struct user u = { migrate_act, all_origin, all_origin, -1, 1 };

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node");
	three(&u);
}

/*
 * The policy is of the process, not of the table: it changes no table, and what the
 * process then writes to is its own, on the node it asked for.
 */
static void policy_act(char *p)
{
	int here = node_of(AT(7));
	unsigned long nodes = 1UL << !here;
	struct events before;

	slots[0] = here;
	events_get(&before);
	check(!syscall(SYS_set_mempolicy, 2 /* MPOL_BIND */, &nodes, 8), "set_mempolicy: %s",
	      strerror(errno));
	expect_events(&before, EV_BREAK, ==, 0);
	fill(p, 7, 3, ACTOR);
	check(!madvise(AT(100), 3 * PAGE, MADV_DONTNEED), "MADV_DONTNEED");
	fill(p, 100, 3, ACTOR);
	check(!syscall(SYS_set_mempolicy, 0, NULL, 0), "set_mempolicy");
	check(node_of(AT(7)) == !here && node_of(AT(100)) == !here,
	      "new pages are not where the policy says");
	check(node_of(AT(6)) == here && node_of(AT(103)) == here, "old pages have moved");
}

static void policy_view(char *p)
{
	verify(p, 0, 7, ORIGIN);
	verify(p, 7, 3, ACTOR);
	verify(p, 10, 90, ORIGIN);
	verify(p, 100, 3, ACTOR);
	verify(p, 103, PAGES - 103, ORIGIN);
}

static void policy_others(char *p)
{
	all_origin(p);
	check(node_of(AT(7)) == (int)slots[0] && node_of(AT(100)) == (int)slots[0],
	      "pages of the others have moved");
}

static void policy(void)
{
	static const struct user u = { policy_act, policy_view, policy_others, 1, 0 };

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

/* lib/test_hmm_uapi.h */
struct dmirror_cmd {
	uint64_t addr, ptr, npages, cpages, faults;
};
#define DMIRROR			"/dev/hmm_dmirror0"
#define DMIRROR_EXCLUSIVE	_IOWR('H', 0x05, struct dmirror_cmd)
#define DMIRROR_CHECK_EXCLUSIVE	_IOWR('H', 0x06, struct dmirror_cmd)

#define FEW		32UL
#define FEW_AT		(BLOCK_PAGES + 70)

/* A device has some pages to itself: they are in memory, but no entry is present. */
static void to_device(char *p, int fd, char *mirror)
{
	struct dmirror_cmd cmd = {
		.addr = (uintptr_t)AT(FEW_AT), .ptr = (uintptr_t)mirror, .npages = FEW,
	};
	unsigned long i;

	check(!ioctl(fd, DMIRROR_EXCLUSIVE, &cmd), "EXCLUSIVE: %s", strerror(errno));
	for (i = 0; i < FEW; i++)
		check(page_is(mirror + i * PAGE, FEW_AT + i, ORIGIN),
		      "the device has something else, page %lu", i);
	check(ioctl(fd, DMIRROR_CHECK_EXCLUSIVE, &cmd) && errno == EPERM,
	      "the device has nothing");
	for (i = 0; i < FEW; i++)
		check(!(pagemap(0, AT(FEW_AT + i)) & PM_PRESENT),
		      "page %lu is not the device's", i);
}

/* The block is copied, and the pages are back where they were. */
static void fork_takes_back(char *p)
{
	struct events before;
	unsigned long i;
	pid_t pid;

	events_get(&before);
	pid = xfork();
	if (!pid) {
		check(!own_tables(), "%ld tables are shared", own_tables());
		verify(p, 0, PAGES, ORIGIN);
		fill(p, FEW_AT, FEW, WRITER);
		verify(p, FEW_AT, FEW, WRITER);
		done();
	}
	expect_events(&before, EV_SHARE, ==, 0);
	expect_events(&before, EV_FB_NOTIFIER, >=, (long)NR);
	for (i = 0; i < FEW; i++)
		check(pagemap(0, AT(FEW_AT + i)) & PM_PRESENT, "page %lu is not back", i);
	join(pid);
	verify(p, 0, PAGES, ORIGIN);
}

static void exclusive_act(char *p)
{
	struct dmirror_cmd cmd = { .addr = (uintptr_t)AT(FEW_AT), .npages = FEW };
	char *mirror = map_blocks(1);
	int fd = open(DMIRROR, O_RDWR | O_CLOEXEC);

	check(fd >= 0, DMIRROR ": %s", strerror(errno));
	check(!own_tables(), "%ld tables are shared", own_tables());
	to_device(p, fd, mirror);
	fork_takes_back(p);
	check(!ioctl(fd, DMIRROR_CHECK_EXCLUSIVE, &cmd), "the device has them still");
	to_device(p, fd, mirror);
	/* nobody takes them back from a device that is gone, but they may be used */
	close(fd);
	check(!(pagemap(0, AT(FEW_AT)) & PM_PRESENT), "the page is back");
	fork_takes_back(p);
	unmap_blocks(mirror, 1);
}

static void device_exclusive(void)
{
	static const struct user u = { exclusive_act, all_origin, all_origin, NR, 0 };
	unsigned int round;

	if (access(DMIRROR, R_OK | W_OK))
		skip_case("no " DMIRROR);
	if (large_folios)
		skip_case("a device can have only the first page of a large folio");
	/* who had a device once shares no more: not the parent */
	for (round = 0; round < rounds(2); round++)
		one_of_three(&u, 1 + round % 2);
}

/* ---- pages that are inserted by drivers ---- */

/*
 * A hole in the middle block of three sharers.  One of them, each in its turn, maps
 * something of the kernel's there: one table of its own, and nobody else's.
 */
struct inserter {
	int (*open)(void);
	int prot;
	unsigned long pages;
	void (*look)(char *at);
	char *(*map)(int fd, char *hole);	/* if not by MAP_FIXED */
};

#define HOLE		(BLOCK_PAGES + BLOCK_PAGES / 2)
#define HOLE_PAGES	64UL

static void into_hole(const struct inserter *ins)
{
	unsigned int round, me;

	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(NR), *hole = AT(HOLE);
		pid_t pid;

		steps_reset();
		fill(p, 0, PAGES, ORIGIN);
		check(!munmap(hole, HOLE_PAGES * PAGE), "munmap");
		me = fork_twice(NR, &pid);
		barrier(SHARED, 3);
		if (me == round % 3) {
			int fd = ins->open();
			long breaks = own_breaks();
			char *at = ins->map ? ins->map(fd, hole) :
				mmap(hole, ins->pages * PAGE, ins->prot,
				     MAP_SHARED | MAP_FIXED, fd, 0);

			check(at == hole, "mmap: %p, not %p, %s", at, hole,
			      strerror(errno));
			check(plain || own_breaks() == breaks + 1,
			      "%ld tables were copied", own_breaks() - breaks);
			if (ins->look) {
				check(!read_faults(hole) &&
				      !read_faults(hole + (ins->pages - 1) * PAGE),
				      "there is nothing");
				ins->look(hole);
			}
			close(fd);
		}
		barrier(DID, 3);
		if (me != round % 3) {
			check(read_faults(hole), "the hole is filled here too");
			check(mmap(hole, HOLE_PAGES * PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
			      hole, "mmap");
			verify(p, HOLE, HOLE_PAGES, OWNER_ZERO);
		}
		verify(p, 0, HOLE, ORIGIN);
		verify(p, HOLE + HOLE_PAGES, PAGES - HOLE - HOLE_PAGES, ORIGIN);
		barrier(SEEN, 3);
		fill(p, HOLE - 20, 20, WRITER + me);
		barrier(WROTE, 3);
		verify(p, HOLE - 20, 20, WRITER + me);
		verify(p, HOLE + HOLE_PAGES, PAGES - HOLE - HOLE_PAGES, ORIGIN);
		barrier(DONE, 3);
		if (me == 2)
			done();
		join(pid);
		if (me)
			done();
		unmap_blocks(p, NR);
	}
}

/* vm_insert_page() */
static int packet_open(void)
{
	struct tpacket_req req = {
		.tp_block_size = 4 * PAGE, .tp_block_nr = 4,
		.tp_frame_size = 2048, .tp_frame_nr = 32,
	};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));

	if (fd < 0)
		skip_case("AF_PACKET: %s", strerror(errno));
	check(!setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)),
	      "PACKET_RX_RING: %s", strerror(errno));
	return fd;
}

static void packet_look(char *at)
{
	volatile struct tpacket_hdr *frame = (void *)at;

	check(frame->tp_status == TP_STATUS_KERNEL, "the ring is not there");
}

static void packet_into_hole(void)
{
	static const struct inserter ins = {
		packet_open, PROT_READ | PROT_WRITE, 16, packet_look, NULL,
	};

	into_hole(&ins);
}

/* vm_insert_pages(): a page about the buffer, and two pages of it */
static int trace_open(void)
{
	char *p;
	int fd;

	mount("none", TRACEFS, "tracefs", 0, NULL);
	fd = open(TRACEFS "/per_cpu/cpu0/trace_pipe_raw", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		skip_case("no trace_pipe_raw: %s", strerror(errno));
	/* since Linux 6.10 */
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		skip_case("trace_pipe_raw cannot be mapped: %s", strerror(errno));
	check(!munmap(p, PAGE), "munmap");
	return fd;
}

static void trace_look(char *at)
{
	/* struct trace_buffer_meta begins with its size, rounded up */
	check(*(volatile uint32_t *)at == PAGE, "the buffer is not there");
}

static void trace_into_hole(void)
{
	static const struct inserter ins = { trace_open, PROT_READ, 3, trace_look, NULL };

	into_hole(&ins);
}

/* remap_pfn_range(): the largest memory of a device, at which nobody looks */
#define PCI_DEVICES	"/sys/bus/pci/devices"
#define PCI_PAGES	4

static int pci_open(void)
{
	unsigned long long start, end, flags, size = PCI_PAGES * PAGE - 1;
	DIR *dir = opendir(PCI_DEVICES);
	char path[384], best[384] = "";
	struct dirent *entry;
	FILE *f;
	int fd, i;

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), PCI_DEVICES "/%s/resource", entry->d_name);
		f = fopen(path, "r");
		for (i = 0; f && i < 6 && fscanf(f, "%llx %llx %llx", &start, &end,
						 &flags) == 3; i++) {
			if (!(flags & 0x200 /* IORESOURCE_MEM */) || end - start < size)
				continue;
			size = end - start;
			snprintf(best, sizeof(best), PCI_DEVICES "/%s/resource%d",
				 entry->d_name, i);
		}
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	if (!best[0])
		skip_case("no PCI device with memory");
	fd = open(best, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		skip_case("%s: %s", best, strerror(errno));
	return fd;
}

static void pci_into_hole(void)
{
	static const struct inserter ins = { pci_open, PROT_READ, PCI_PAGES, NULL, NULL };

	into_hole(&ins);
}

/*
 * vm_insert_pages() where the kernel chooses the address: io_uring refuses every other,
 * hint or not (io_uring_get_unmapped_area()).  It takes the highest gap that is large
 * enough, so all that are above the hole are filled.
 */
#define RING_ENTRIES	(HOLE_PAGES * PAGE / sizeof(struct io_uring_sqe))

static struct io_uring_params ring_params;
static int ring_fd;

static int ring_open(void)
{
	memset(&ring_params, 0, sizeof(ring_params));
	ring_fd = syscall(SYS_io_uring_setup, RING_ENTRIES, &ring_params);
	if (ring_fd < 0)
		skip_case("io_uring: %s", strerror(errno));
	return ring_fd;
}

static char *ring_map(int fd, char *hole)
{
	const unsigned long len = HOLE_PAGES * PAGE;
	const int prot = PROT_READ | PROT_WRITE;
	unsigned long size;
	char *gap;

	check(mmap(hole, len, prot, MAP_SHARED, fd, IORING_OFF_SQES) == MAP_FAILED &&
	      errno == EINVAL, "io_uring takes a hint");
	check(mmap(hole, len, prot, MAP_SHARED | MAP_FIXED, fd, IORING_OFF_SQES) ==
	      MAP_FAILED && errno == EINVAL, "io_uring takes MAP_FIXED");
	for (size = BLOCK / 2; size >= len; size /= 2) {
		do {
			gap = mmap(NULL, size, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
			check(gap != MAP_FAILED, "mmap: %s", strerror(errno));
		} while (gap > hole);
		check(!munmap(gap, size), "munmap");
	}
	check(gap == hole, "the highest gap is at %p, not at %p", gap, hole);
	return mmap(NULL, len, prot, MAP_SHARED, fd, IORING_OFF_SQES);
}

/* The kernel finds in the last of the pages what is to be done. */
static void ring_look(char *at)
{
	const struct io_uring_params *q = &ring_params;
	const size_t size = q->cq_off.cqes + q->cq_entries * sizeof(struct io_uring_cqe);
	char *ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd,
			  IORING_OFF_CQ_RING);
	char *sq = mmap(NULL, q->sq_off.array + q->sq_entries * sizeof(unsigned int),
			PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQ_RING);
	volatile struct io_uring_cqe *cqe = (void *)(ring + q->cq_off.cqes);
	struct io_uring_sqe *sqe = (void *)at;

	check(ring != MAP_FAILED && sq != MAP_FAILED, "mmap of the ring: %s",
	      strerror(errno));
	sqe += RING_ENTRIES - 1;
	sqe->opcode = IORING_OP_NOP;
	sqe->user_data = (uintptr_t)at;
	*(volatile unsigned int *)(sq + q->sq_off.array) = RING_ENTRIES - 1;
	__atomic_store_n((unsigned int *)(sq + q->sq_off.tail), 1, __ATOMIC_RELEASE);
	check(syscall(SYS_io_uring_enter, ring_fd, 1, 1, IORING_ENTER_GETEVENTS, NULL,
		      0) == 1, "io_uring_enter: %s", strerror(errno));
	check(cqe->user_data == (uintptr_t)at && !cqe->res, "the ring is not there");
}

static void ring_into_hole(void)
{
	static const struct inserter ins = {
		ring_open, PROT_READ | PROT_WRITE, HOLE_PAGES, ring_look, ring_map,
	};

	into_hole(&ins);
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
	struct events before;
	unsigned char *text;
	char *p, page[PAGE] = { };
	unsigned long i;
	unsigned int me;
	pid_t pid;

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
	me = fork_twice(1, &pid);
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

static char *watched_at;

/*
 * What runs beside the three while one reads, and leaves the tables shared.  It
 * reads on until @seen, if there is one, says that it has come by.
 */
static void watched(void (*start)(pid_t pid), void (*stop)(void), bool (*seen)(void))
{
	char *p = map_blocks(NR);
	struct events before;
	pid_t pid, third;
	unsigned int i;

	steps_reset();
	watched_at = p;
	fill(p, 0, PAGES, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		unsigned int owner;

		third = fork_sharing(NR);
		owner = third ? WRITER : WRITER + 1;
		arrive(READY);
		await(DID, 1);
		verify(p, 0, PAGES, ORIGIN);
		check(plain || own_tables() >= (long)NR, "%ld tables are shared",
		      own_tables());
		barrier(SEEN, 2);
		fill(p, 0, PAGES, owner);
		barrier(SEEN, 2);
		verify(p, 0, PAGES, owner);
		if (third)
			join(third);
		done();
	}
	await(READY, 2);
	/* page in what runs below, so that only the watcher could break */
	verify(p, 0, 1, ORIGIN);
	start(getpid());
	events_get(&before);
	for (i = 0; seen && !seen(); i++) {
		check(i < 20000, "nobody has come by");
		verify(p, 0, PAGES, ORIGIN);
	}
	for (i = 0; i < rounds(40); i++)
		verify(p, 0, PAGES, ORIGIN);
	expect_events(&before, EV_BREAK, <=, 1);
	stop();
	check(plain || own_tables() >= (long)NR, "%ld tables are shared", own_tables());
	arrive(DID);
	join(pid);
	verify(p, 0, PAGES, ORIGIN);
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
	unsigned int me;
	int tries;
	pid_t pid;

	if (run < 0)
		skip_case("no KSM");
	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	memset(p, 0x5a, same * PAGE);
	check(!madvise(p, BLOCK, MADV_MERGEABLE), "MADV_MERGEABLE: %s", strerror(errno));
	events_get(&before);
	me = fork_twice(NR, &pid);
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

#define DAMON		"/sys/kernel/mm/damon/admin/kdamonds"
#define DAMON_CTX	DAMON "/0/contexts/0/"
#define DAMON_SCHEME	DAMON_CTX "schemes/0/"

static char *damon_flush;

/* EBUSY: kdamond looks just now whether there is a command. */
static int damon_command(const char *command)
{
	unsigned int tries;

	for (tries = 0; tries < 100000; tries++) {
		if (!write_file(DAMON "/0/state", "%s", command))
			return 0;
		if (errno != EBUSY)
			break;
		sched_yield();
	}
	return -1;
}

/*
 * kdamond has found accessed regions in the blocks, more than once: so the accessed
 * bits, which it clears, are set again.  The CPU sets none while it has the
 * translation, and kdamond does not flush: a larger part of another block does.
 */
static bool damon_seen(void)
{
	memset(damon_flush, 1, 64 * PAGE);
	check(!madvise(damon_flush, 64 * PAGE, MADV_DONTNEED), "MADV_DONTNEED");
	check(!damon_command("update_schemes_stats"), "update_schemes_stats: %s",
	      strerror(errno));
	return read_long(DAMON_SCHEME "stats/nr_tried") >= 10;
}

static void damon_start(pid_t pid)
{
	static const char *const ranges[] = { "sz", "nr_accesses", "age" };
	char path[128];
	unsigned int i;

	if (write_file(DAMON "/nr_kdamonds", "1"))
		skip_case("no DAMON");
	check(!write_file(DAMON "/0/contexts/nr_contexts", "1"), "nr_contexts");
	/* the blocks and nothing else */
	if (write_file(DAMON_CTX "operations", "fvaddr")) {
		write_file(DAMON "/nr_kdamonds", "0");
		skip_case("DAMON does not know fvaddr");
	}
	check(!write_file(DAMON_CTX "monitoring_attrs/intervals/sample_us", "1000"),
	      "sample_us");
	check(!write_file(DAMON_CTX "monitoring_attrs/intervals/aggr_us", "20000"),
	      "aggr_us");
	check(!write_file(DAMON_CTX "targets/nr_targets", "1"), "nr_targets");
	check(!write_file(DAMON_CTX "targets/0/pid_target", "%d", pid), "pid_target");
	check(!write_file(DAMON_CTX "targets/0/regions/nr_regions", "1"), "nr_regions");
	check(!write_file(DAMON_CTX "targets/0/regions/0/start", "%lu",
			  (unsigned long)watched_at), "start");
	check(!write_file(DAMON_CTX "targets/0/regions/0/end", "%lu",
			  (unsigned long)watched_at + NR * BLOCK), "end");
	/* counts the regions that were accessed */
	check(!write_file(DAMON_CTX "schemes/nr_schemes", "1"), "nr_schemes");
	check(!write_file(DAMON_SCHEME "action", "stat"), "action");
	for (i = 0; i < ARRAY_LEN(ranges); i++) {
		snprintf(path, sizeof(path), DAMON_SCHEME "access_pattern/%s/max",
			 ranges[i]);
		check(!write_file(path, "%u", ~0U), "%s", path);
	}
	check(!write_file(DAMON_SCHEME "access_pattern/nr_accesses/min", "1"), "min");
	check(!damon_command("on"), "on: %s", strerror(errno));
	damon_flush = map_blocks(1);
	damon_seen();
}

static void damon_stop(void)
{
	check(!damon_command("off"), "off: %s", strerror(errno));
	write_file(DAMON "/nr_kdamonds", "0");
	unmap_blocks(damon_flush, 1);
}

static void damon(void)
{
	watched(damon_start, damon_stop, damon_seen);
}

static long numa_updates;
static char *numa_witness;

/* The scan has been at a table that is not shared. */
static bool numa_seen(void)
{
	verify(numa_witness, 0, BLOCK_PAGES, ORIGIN);
	return vmstat("numa_pte_updates") > numa_updates;
}

/* The scan comes every few milliseconds, to who is running, and has no policy of its own. */
static void numa_on(void)
{
	check(!syscall(SYS_set_mempolicy, 0, NULL, 0), "set_mempolicy");
	numa_updates = vmstat("numa_pte_updates");
	if (write_file("/proc/sys/kernel/numa_balancing", "1"))
		skip_case("no NUMA balancing");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "1");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "2");
}

static void numa_start(pid_t pid)
{
	(void)pid;
	numa_witness = map_blocks(1);
	fill(numa_witness, 0, BLOCK_PAGES, ORIGIN);
	numa_on();
}

static void numa_stop(void)
{
	write_file("/proc/sys/kernel/numa_balancing", "0");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "60000");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "1000");
	write_file("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1000");
}

/* The scan leaves pages alone that are where the only thread runs: have them elsewhere. */
static void numa_remote(void)
{
	unsigned long nodes;
	unsigned int cpu, node;
	cpu_set_t set;

	if (access("/sys/devices/system/node/node1", F_OK))
		skip_case("one NUMA node");
	check(!syscall(SYS_getcpu, &cpu, &node, NULL), "getcpu");
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
	nodes = 1UL << !node;
	check(!syscall(SYS_set_mempolicy, 2 /* MPOL_BIND */, &nodes, 8), "set_mempolicy: %s",
	      strerror(errno));
}

static void numa_balancing(void)
{
	numa_remote();
	watched(numa_start, numa_stop, numa_seen);
}

static long minor_faults(void)
{
	struct rusage usage;

	check(!getrusage(RUSAGE_SELF, &usage), "getrusage");
	return usage.ru_minflt;
}

/* A private table with hints, if the scan has come by. */
static void numa_hinted_table(char *p)
{
	unsigned int i;

	numa_remote();
	steps_reset();
	/* a round before may have brought the pages here, where the scan leaves them alone */
	check(!madvise(p, BLOCK, MADV_DONTNEED), "MADV_DONTNEED");
	fill(p, 0, BLOCK_PAGES, ORIGIN);
	numa_on();
	for (i = 0; vmstat("numa_pte_updates") < numa_updates + (long)BLOCK_PAGES; i++)
		check(i < 20000, "nobody has come by");
	numa_stop();
}

/* One fork with hints in the table, if the scan has come by; how many there were. */
static long numa_hinted_fork(char *p)
{
	struct events before;
	long breaks, faults, hints;
	pid_t pid;

	numa_hinted_table(p);
	pid = fork_sharing(1);
	if (!pid) {
		/* page in what runs below, and leave the block alone */
		verify(numa_witness, 0, 1, ORIGIN);
		own_breaks();
		minor_faults();
		breaks = own_breaks();
		events_get(&before);
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		slots[0] = event_delta(&before, EV_INPLACE);
		expect_own_breaks(breaks, 0);
		arrive(READY);
		await(DID, 1);
		verify(p, 0, BLOCK_PAGES, ORIGIN);
		fill(p, 0, BLOCK_PAGES, WRITER);
		arrive(SEEN);
		await(DID, 2);
		verify(p, 0, BLOCK_PAGES, WRITER);
		done();
	}
	verify(numa_witness, 0, 1, ORIGIN);
	await(READY, 1);
	hints = slots[0];
	faults = minor_faults();
	breaks = own_breaks();
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	expect_own_breaks(breaks, 0);
	check(plain || minor_faults() - faults < (long)BLOCK_PAGES / 4,
	      "%ld faults: the child took away %ld hints, for itself only",
	      minor_faults() - faults, hints);
	fill(p, 0, BLOCK_PAGES / 2, ACTOR);
	arrive(DID);
	await(SEEN, 1);
	verify(p, 0, BLOCK_PAGES / 2, ACTOR);
	verify(p, BLOCK_PAGES / 2, BLOCK_PAGES / 2, ORIGIN);
	arrive(DID);
	join(pid);
	return hints;
}

/*
 * Hints that a table has from before it was shared: who reads such a page takes the hint
 * away for all, and copies nothing.
 */
static void numa_hints_from_before(void)
{
	unsigned int tries = 0;
	char *p;
	long hints;

	p = map_small_pages(1);
	numa_witness = map_blocks(1);
	fill(numa_witness, 0, 1, ORIGIN);
	do {
		check(tries++ < 50, "the scan never was in the block");
		hints = numa_hinted_fork(p);
	} while (!plain && hints < (long)BLOCK_PAGES / 2);
	note("%ld hints, fork %u", hints, tries);
	unmap_blocks(numa_witness, 1);
	unmap_blocks(p, 1);
}

/* Every so many pages: a fault of each may last 20 ms. */
#define HINT_STEP	8
#define HINT_PAGES	(BLOCK_PAGES / HINT_STEP)

/* Marks each page idle at the moment when the parent reads it, on another CPU. */
static void mark_what_is_read(int fd, unsigned int cpu)
{
	cpu_set_t set;
	unsigned int i;

	memset(&set, 0xff, sizeof(set));
	CPU_CLR(cpu, &set);
	check(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
	for (i = 1; i <= HINT_PAGES; i++) {
		await(READY, i);
		mark_idle(fd, slots[0]);
		arrive(DID);
	}
	/* the last sharer would take the table back, and have its hint for itself */
	await(SEEN, 1);
	done();
}

static uint64_t pfn_here(char *at)
{
	return pagemap(0, at) & ((1ULL << 55) - 1);
}

static long read_while_marked(int fd, char *p)
{
	uint64_t pfn[HINT_PAGES];
	unsigned int cpu, i;
	struct events before;
	long breaks, faults;
	pid_t pid;

	numa_hinted_table(p);
	for (i = 0; i < HINT_PAGES; i++)
		pfn[i] = pfn_here(AT(i * HINT_STEP));
	check(!syscall(SYS_getcpu, &cpu, NULL, NULL), "getcpu");
	pid = fork_sharing(1);
	if (!pid)
		mark_what_is_read(fd, cpu);
	/* page in what runs below, and leave the block alone */
	verify(numa_witness, 0, 1, ORIGIN);
	delay_windows(20000, WINDOW_FAULT);
	own_breaks();
	minor_faults();
	breaks = own_breaks();
	events_get(&before);
	faults = minor_faults();
	for (i = 0; i < HINT_PAGES; i++) {
		slots[0] = pfn[i];
		arrive(READY);
		verify(p, i * HINT_STEP, 1, ORIGIN);
		await(DID, i + 1);
	}
	faults = minor_faults() - faults;
	delay_windows(0, 0);
	expect_own_breaks(breaks, 0);
	/* a few faults may be elsewhere */
	expect_events(&before, EV_INPLACE, >=, faults - (long)HINT_PAGES / 8);
	/* What a hint asks for, to have the page here, is not for one sharer to decide. */
	for (i = 0; !plain && i < HINT_PAGES; i++)
		check(pfn_here(AT(i * HINT_STEP)) == pfn[i], "page %u has moved",
		      i * HINT_STEP);
	arrive(SEEN);
	join(pid);
	verify(p, 0, BLOCK_PAGES, ORIGIN);
	fill(p, 0, BLOCK_PAGES, WRITER);
	return faults;
}

/*
 * The accessed bit of an entry may be cleared between the look of a fault at it and its
 * lock: the hint is a hint still, and goes for all.
 */
static void hints_of_idle_pages(void)
{
	int fd = open(IDLE_BITMAP, O_WRONLY | O_CLOEXEC);
	unsigned int tries = 0;
	char *p;
	long faults;

	if (fd < 0)
		skip_case("no " IDLE_BITMAP);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		skip_case("one CPU");
	if (!plain && !delay_windows(0, 0))
		skip_case("no delays");
	p = map_small_pages(1);
	numa_witness = map_blocks(1);
	fill(numa_witness, 0, 1, ORIGIN);
	do {
		check(tries++ < 50, "the scan never was in the block");
		faults = read_while_marked(fd, p);
	} while (!plain && faults < (long)HINT_PAGES / 2);
	note("%ld faults, fork %u", faults, tries);
	unmap_blocks(numa_witness, 1);
	unmap_blocks(p, 1);
	close(fd);
}

#define LRU_GEN		"/sys/kernel/debug/lru_gen"
#define NR_LRUVECS	64

struct lruvec {
	unsigned long memcg, node, gen;
};

/* The youngest generation of each memory cgroup on each node. */
static unsigned int lru_gen_read(struct lruvec *v)
{
	FILE *f = fopen(LRU_GEN, "r");
	unsigned long memcg = 0, n;
	unsigned int nr = 0;
	char line[256];

	if (!f)
		skip_case("no lru_gen in debugfs");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "memcg %lu", &memcg) == 1)
			continue;
		/* the root comes first; one that is dying has no number */
		if (!memcg && nr && v[0].memcg)
			continue;
		if (sscanf(line, " node %lu", &n) == 1) {
			if (nr == NR_LRUVECS)
				break;
			v[nr].memcg = memcg;
			v[nr++].node = n;
		} else if (nr && sscanf(line, " %lu", &n) == 1) {
			v[nr - 1].gen = n;
		}
	}
	fclose(f);
	return nr;
}

/* How many accessed bits the walks of page tables have found, and cleared. */
static unsigned long lru_gen_young(void)
{
	unsigned long total, young, sum = 0;
	FILE *f = fopen(LRU_GEN "_full", "r");
	char line[256];

	if (!f)
		skip_case("no lru_gen_full in debugfs");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " %luT %luY", &total, &young) == 2)
			sum += young;
	fclose(f);
	return sum;
}

/*
 * Ageing of the multi-gen LRU walks the page tables of all processes: a generation
 * more everywhere.  Returns the number of accessed bits found.
 */
static unsigned long lru_gen_age(void)
{
	static struct lruvec before[NR_LRUVECS], after[NR_LRUVECS];
	unsigned long young = lru_gen_young();
	unsigned int nr, i;

	nr = lru_gen_read(before);
	check(nr, "there is no LRU");
	for (i = 0; i < nr; i++)
		check(!write_file(LRU_GEN, "+ %lu %lu %lu 1 1", before[i].memcg,
				  before[i].node, before[i].gen),
		      "lru_gen: + %lu %lu %lu: %s", before[i].memcg, before[i].node,
		      before[i].gen, strerror(errno));
	check(lru_gen_read(after) == nr, "the memory cgroups have changed");
	for (i = 0; i < nr; i++)
		check(after[i].gen > before[i].gen, "generation %lu is still the youngest",
		      before[i].gen);
	return lru_gen_young() - young;
}

static void lru_gen_start(pid_t pid)
{
	unsigned long young;
	unsigned int i;

	(void)pid;
	if (write_file("/sys/kernel/mm/lru_gen/enabled", "y"))
		skip_case("no multi-gen LRU");
	/* all pages have just been written, and nobody touches them from here on */
	young = lru_gen_age();
	check(young >= PAGES, "only %lu accessed bits were found", young);
	young = lru_gen_age();
	check(young < PAGES, "%lu accessed bits have not been cleared", young);
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

/*
 * Evict from the generations of the case's cgroup that are old enough; but not on behalf
 * of a cgroup, for which mms that exit are nobody's.
 */
static void lru_gen_evict(unsigned int pages)
{
	static struct lruvec v[NR_LRUVECS];
	unsigned int nr = lru_gen_read(v), i;
	unsigned long memcg = 0, id;
	FILE *f = fopen(LRU_GEN, "r");
	char line[256], path[200];

	check(f, LRU_GEN ": %s", strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "memcg %lu %199s", &id, path) == 2 &&
		    strrchr(path, '/') && !strcmp(strrchr(path, '/'), strrchr(cgroup, '/')))
			memcg = id;
	fclose(f);
	check(memcg, "the LRU does not know %s", cgroup);
	for (i = 0; i < nr; i++)
		if (v[i].memcg == memcg)
			write_file(LRU_GEN, "- %lu %lu %lu 200 %u", memcg, v[i].node,
				   v[i].gen - 2, pages);
}

/*
 * Reclaim spares pages that only a process maps that is about to exit.  A page of a
 * table that this process shares is mapped once too, and is not such a page: it can
 * be reclaimed while the exit takes its time over what lies below.
 */
static void exit_keeps_nothing(void)
{
	const unsigned long below = 800, few = 40;
	struct events before;
	long gone = 0, out = 0;
	unsigned long b, i;
	pid_t parent;
	char *p;

	if (plain)
		skip_case("no tables are shared");
	if (!have_swap())
		skip_case("no swap");
	if (!delay_windows(0, 0))
		skip_case("no delays in this kernel");
	if (write_file("/sys/kernel/mm/lru_gen/enabled", "y"))
		skip_case("no multi-gen LRU");
	cgroup_enter();
	steps_reset();
	parent = xfork();
	if (!parent) {
		pid_t child;

		p = map_blocks(below + NR);
		/* pages of zeroes, which reclaim does not know */
		for (b = 0; b < below; b++)
			read_pages(p, b * BLOCK_PAGES, few);
		p += below * BLOCK;
		fill(p, 0, PAGES, ORIGIN);
		child = fork_sharing(below + NR);
		if (!child) {
			slots[0] = getpid();
			slots[1] = (unsigned long)p;
			arrive(READY);
			await(LEAVE, 1);
			verify(p, 0, PAGES, ORIGIN);
			fill(p, 0, PAGES, ACTOR);
			verify(p, 0, PAGES, ACTOR);
			arrive(WROTE);
			done();
		}
		await(DID, 1);
		done();
	}
	await(READY, 1);
	p = (char *)slots[1];
	for (i = 0; i < 5; i++)
		lru_gen_age();
	check(delay_windows(20000, WINDOW_DROP), "delays");
	events_get(&before);
	arrive(DID);
	/* it lets go in the order of addresses, and in groups */
	while (event_delta(&before, EV_DETACH) < 100)
		usleep(1000);
	while (!out && gone < (long)below) {
		lru_gen_evict(256);
		for (i = 0; i < PAGES; i += 8)
			out += !!(pagemap(slots[0], AT(i)) & PM_SWAP);
		gone = event_delta(&before, EV_DETACH);
	}
	delay_windows(0, 0);
	write_file("/sys/kernel/mm/lru_gen/enabled", "n");
	note("%ld tables let go of, %ld of %lu pages in swap", gone, out, PAGES / 8);
	check(gone < (long)below, "nothing was reclaimed as long as a sharer was leaving");
	join(parent);
	arrive(LEAVE);
	await(WROTE, 1);
	wait_gone(slots[0]);
}

/* ---- perf ---- */

#define SAMPLE_DATA_PAGE_SIZE	(1U << 22)	/* since Linux 5.11 */
#define STACK_DUMP	256

struct sample {
	struct perf_event_header header;
	uint64_t addr;
	uint64_t stack_size;
	char stack[STACK_DUMP];
	uint64_t stack_dumped;
	uint64_t phys_addr;
	uint64_t page_size;
};

/*
 * Read what is at @at, with @stack as the stack.  A breakpoint takes a sample of it, into
 * @ring.
 */
static void take_sample(char *at, char *stack, char *ring, struct sample *sample)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT, .size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_RW, .bp_addr = (uintptr_t)at,
		.bp_len = HW_BREAKPOINT_LEN_8,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_ADDR | PERF_SAMPLE_STACK_USER |
			       PERF_SAMPLE_PHYS_ADDR | SAMPLE_DATA_PAGE_SIZE,
		.sample_stack_user = STACK_DUMP,
		.disabled = 1, .exclude_kernel = 1, .exclude_hv = 1,
	};
	int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		skip_case("perf_event_open: %s", strerror(errno));
	check(mmap(ring, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	      ring, "mmap: %s", strerror(errno));
	check(!ioctl(fd, PERF_EVENT_IOC_ENABLE, 0), "ENABLE: %s", strerror(errno));
	__asm__ volatile("mov %%rsp, %%rbx\n\t"
			 "mov %1, %%rsp\n\t"
			 "mov (%0), %%rax\n\t"
			 "mov %%rbx, %%rsp"
			 : : "r" (at), "r" (stack) : "rax", "rbx", "memory");
	check(!ioctl(fd, PERF_EVENT_IOC_DISABLE, 0), "DISABLE: %s", strerror(errno));
	check(((volatile struct perf_event_mmap_page *)ring)->data_head == sizeof(*sample),
	      "%llu bytes of samples", ((struct perf_event_mmap_page *)ring)->data_head);
	memcpy(sample, ring + PAGE, sizeof(*sample));
	check(sample->header.type == PERF_RECORD_SAMPLE &&
	      sample->header.size == sizeof(*sample), "no sample, but %u",
	      sample->header.type);
	check(sample->addr == (uintptr_t)at, "a sample of %#llx",
	      (unsigned long long)sample->addr);
	check(sample->page_size == PAGE, "the page has %llu bytes",
	      (unsigned long long)sample->page_size);
	check(sample->stack_dumped == STACK_DUMP && !memcmp(sample->stack, stack, STACK_DUMP),
	      "the stack is not what is there");
	check(!munmap(ring, 2 * PAGE), "munmap");
	close(fd);
}

#define SAMPLED		(BLOCK_PAGES + 7)

/* The page is not found: that needs a reference, by way of a shared table. */
static void perf_act(char *p)
{
	char *ring = map_blocks(1);
	struct sample sample;
	long tables;

	own_tables();
	tables = own_tables();
	take_sample(AT(SAMPLED), AT(40), ring, &sample);
	check(plain ? sample.phys_addr == pfn_of(AT(SAMPLED)) * PAGE : !sample.phys_addr,
	      "the page is at %#llx", (unsigned long long)sample.phys_addr);
	check(own_tables() == tables, "%ld tables are shared, before %ld", own_tables(),
	      tables);
	unmap_blocks(ring, 1);
}

/* It is found when the table is the actor's own; the one with the stack is shared still. */
static void perf_view(char *p)
{
	char *ring = map_blocks(1);
	struct sample sample;
	long breaks = own_breaks();

	fill(p, SAMPLED + 1, 1, ORIGIN);
	expect_own_breaks(breaks, 1);
	take_sample(AT(SAMPLED), AT(40), ring, &sample);
	check(sample.phys_addr == pfn_of(AT(SAMPLED)) * PAGE, "the page is at %#llx, not %#llx",
	      (unsigned long long)sample.phys_addr,
	      (unsigned long long)pfn_of(AT(SAMPLED)) * PAGE);
	expect_own_breaks(breaks, 1);
	unmap_blocks(ring, 1);
	all_origin(p);
}

static void perf_samples(void)
{
	static const struct user u = { perf_act, perf_view, all_origin, -1, 0 };

	three(&u);
}

/* How many faults does it take to write to all of it, when all others are gone? */
static long faults_of_writes(char *p)
{
	struct rusage before, after;
	unsigned int me;
	unsigned long i;
	pid_t pid;

	me = fork_twice(NR, &pid);
	if (me) {
		verify(p, 0, PAGES, ORIGIN);
		if (me == 1)
			join(pid);
		done();
	}
	join(pid);
	getrusage(RUSAGE_SELF, &before);
	for (i = 0; i < PAGES; i++)
		*(volatile char *)AT(i) = *AT(i);
	getrusage(RUSAGE_SELF, &after);
	verify(p, 0, PAGES, ORIGIN);
	return after.ru_minflt - before.ru_minflt;
}

/* Memory in large folios that are mapped by entries, where fork can tell least. */
static char *large_blocks(void)
{
	const long all = NR * BLOCK / 1024;
	char *p = map_blocks(NR);
	unsigned long i;

	if (madvise(p, NR * BLOCK, MADV_HUGEPAGE))
		skip_case("MADV_HUGEPAGE: %s", strerror(errno));
	fill(p, 0, PAGES, ORIGIN);
	if (smaps_kb(0, p, "AnonHugePages") < all)
		skip_case("no huge pages");
	for (i = 0; i < PAGES; i += BLOCK_PAGES) {
		check(!mprotect(AT(i + 9), PAGE, PROT_READ), "mprotect");
		check(!mprotect(AT(i + 9), PAGE, PROT_READ | PROT_WRITE), "mprotect");
	}
	check(!madvise(p, NR * BLOCK, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
	check(!smaps_kb(0, p, "AnonHugePages"), "still mapped as huge pages");
	/* what mprotect() has made read-only */
	fill(p, 0, PAGES, ORIGIN);
	return p;
}

/*
 * fork() looks at the pages of a process that GUP may have taken references to, and takes
 * from the pages of large folios that they are exclusive: each costs a fault, later.  Of
 * the reference that a sample takes nothing is left, and fork() need not look.
 */
static void perf_leaves_no_mark(void)
{
	char *p, *ring = map_blocks(1);
	struct sample sample;
	struct iovec iov;
	int pipe_fd[2];
	long faults;

	if (plain)
		skip_case("no tables are shared");
	steps_reset();
	p = large_blocks();
	take_sample(AT(SAMPLED), AT(40), ring, &sample);
	check(sample.phys_addr == pfn_of(AT(SAMPLED)) * PAGE, "the page is at %#llx",
	      (unsigned long long)sample.phys_addr);
	faults = faults_of_writes(p);
	check(faults <= 2 * (long)NR, "%ld faults of %lu pages", faults, PAGES);
	unmap_blocks(p, NR);

	/* otherwise with a reference that could have been kept */
	p = large_blocks();
	iov.iov_base = AT(SAMPLED);
	iov.iov_len = PAGE;
	check(!pipe(pipe_fd), "pipe");
	check(vmsplice(pipe_fd[1], &iov, 1, 0) == (ssize_t)PAGE, "vmsplice: %s",
	      strerror(errno));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	faults = faults_of_writes(p);
	check(faults >= (long)PAGES, "%ld faults of %lu pages", faults, PAGES);
	unmap_blocks(p, NR);
	unmap_blocks(ring, 1);
}

/* ---- advice from outside, reaping, time namespaces, huge pages ---- */

/* All of it is done, or @err; exactly @breaks tables of @pid are copied for it. */
static void advise(pid_t pid, char *p, int advice, int err, long breaks)
{
	struct iovec iov = { p, NR * BLOCK };
	int fd = syscall(SYS_pidfd_open, pid, 0);
	struct events before;
	ssize_t n;

	check(fd >= 0, "pidfd_open: %s", strerror(errno));
	events_get(&before);
	breaks += status_kb(pid, "CowPTEBreaks");
	n = syscall(SYS_process_madvise, fd, &iov, 1, advice, 0);
	if (n < 0 && errno == ENOSYS)
		skip_case("no process_madvise");
	if (err)
		check(n == -1 && errno == err, "advice %d: %zd, %s", advice, n,
		      strerror(errno));
	else
		check(n == (ssize_t)iov.iov_len, "advice %d: %zd, %s", advice, n,
		      strerror(errno));
	check(status_kb(pid, "CowPTEBreaks") == breaks,
	      "advice %d: %ld tables were copied, expected %ld", advice,
	      status_kb(pid, "CowPTEBreaks"), breaks);
	expect_events(&before, EV_INPLACE, ==, 0);
	close(fd);
	verify(p, 0, PAGES, ORIGIN);
}

static void advise_other(void)
{
	char *p = map_blocks(NR);
	pid_t pid, third;
	unsigned long i;

	if (plain)
		skip_case("with ordinary forks there is nothing to count");
	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		third = fork_sharing(NR);
		arrive(SEEN);
		if (!third) {
			await(LEAVE, 1);
			verify(p, 0, PAGES, ORIGIN);
			check(own_tables() >= (long)NR, "%ld tables are shared",
			      own_tables());
			check(!smaps_kb(0, p, "AnonHugePages"),
			      "the grandchild has a huge page");
			fill(p, 9, 700, WRITER);
			verify(p, 9, 700, WRITER);
			done();
		}
		await(SHARED, 1);
		/* for MADV_COLLAPSE */
		if (madvise(p, NR * BLOCK, MADV_HUGEPAGE))
			skip_case("MADV_HUGEPAGE: %s", strerror(errno));
		arrive(READY);
		await(DID, 1);
		for (i = 0; i < NR; i++)
			fill(p, i * BLOCK_PAGES + 3, 1, ACTOR);
		arrive(WROTE);
		await(LEAVE, 1);
		for (i = 0; i < NR; i++)
			fill(p, i * BLOCK_PAGES + 3, 1, ORIGIN);
		verify(p, 0, PAGES, ORIGIN);
		fill(p, 5, 700, ACTOR);
		verify(p, 5, 700, ACTOR);
		join(third);
		done();
	}
	await(SEEN, 2);
	advise(pid, p, MADV_COLD, 0, 0);
	advise(pid, p, MADV_PAGEOUT, 0, 0);
	advise(pid, p, MADV_WILLNEED, 0, 0);
	for (i = 0; i < PAGES; i++)
		check(pagemap(pid, AT(i)) & PM_PRESENT, "page %lu has gone", i);
	arrive(SHARED);
	await(READY, 1);
	/*
	 * The child gets tables of its own, but the pages are still those of all: none
	 * is writable, and MADV_COLLAPSE wants one.
	 */
	advise(pid, p, MADV_COLLAPSE, EINVAL, NR);
	check(!smaps_kb(pid, p, "AnonHugePages"), "the child has a huge page");
	arrive(DID);
	await(WROTE, 1);
	advise(pid, p, MADV_COLLAPSE, 0, 0);
	check(smaps_kb(pid, p, "AnonHugePages") == (long)(NR * BLOCK / 1024),
	      "the child has %ld kB of huge pages", smaps_kb(pid, p, "AnonHugePages"));
	check(!smaps_kb(0, p, "AnonHugePages"), "the parent has a huge page");
	arrive(LEAVE);
	join(pid);
	verify(p, 0, PAGES, ORIGIN);
	unmap_blocks(p, NR);
}

/*
 * The OOM reaper takes the memory of a process that is being killed.  That one must
 * not be faster: it waits for the CPU, which we keep.
 */
static void reaped(void)
{
	struct sched_param first = { .sched_priority = 1 }, fair = { };
	unsigned int round, cpu, hit = 0;
	cpu_set_t set;

	check(!syscall(SYS_getcpu, &cpu, NULL, NULL), "getcpu");
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");

	for (round = 0; round < rounds(8); round++) {
		char *p = map_blocks(NR);
		struct events before;
		pid_t pid;
		int fd;

		steps_reset();
		fill(p, 0, PAGES, ORIGIN);
		/* the reaper goes from mapping to mapping, several in a block */
		check(!madvise(AT(100), 300 * PAGE, MADV_RANDOM), "MADV_RANDOM");
		pid = fork_sharing(NR);
		if (!pid) {
			if (!fork_sharing(NR)) {
				slots[0] = getpid();
				arrive(SHARED);
				await(DID, 1);
				verify(p, 0, PAGES, ORIGIN);
				check(plain || own_tables() >= (long)NR,
				      "%ld tables are shared", own_tables());
				fill(p, 0, PAGES, WRITER);
				verify(p, 0, PAGES, WRITER);
				done();
			}
			if (round % 2)
				fill(p, 0, 10, ACTOR);
			arrive(SHARED);
			for (;;)
				pause();
		}
		await(SHARED, 2);
		fd = syscall(SYS_pidfd_open, pid, 0);
		check(fd >= 0, "pidfd_open: %s", strerror(errno));
		sched_setscheduler(0, SCHED_FIFO, &first);
		events_get(&before);
		kill(pid, SIGKILL);
		if (!syscall(SYS_process_mrelease, fd, 0)) {
			long anon = status_kb(pid, "RssAnon");

			/* its memory has gone, and it has not */
			if (anon >= 0) {
				hit++;
				expect_events(&before, EV_DETACH, >=,
					      (long)NR - round % 2);
				expect_events(&before, EV_BREAK, ==, 0);
				check(anon < (long)(BLOCK / 1024), "RssAnon is %ld kB", anon);
			}
		} else if (errno == ENOSYS) {
			skip_case("no process_mrelease");
		}
		sched_setscheduler(0, SCHED_OTHER, &fair);
		close(fd);
		check(WIFSIGNALED(join_status(pid)), "not killed");
		verify(p, 0, PAGES, ORIGIN);
		arrive(DID);
		wait_gone(slots[0]);
		verify(p, 0, PAGES, ORIGIN);
		fill(p, 0, PAGES, ACTOR);
		unmap_blocks(p, NR);
	}
	note("%u of %u were reaped before they were gone", hit, round);
	if (!hit)
		skip_case("all were gone before they could be reaped");
}

/* Where the kernel's data of the clocks are, and how much of it. */
static char *vvar_map(unsigned long *len)
{
	unsigned long start = 0, end = 0;
	char line[256];
	FILE *f = fopen("/proc/self/maps", "r");

	check(f, "maps: %s", strerror(errno));
	while (!start && fgets(line, sizeof(line), f))
		if (strstr(line, "[vvar]"))
			check(sscanf(line, "%lx-%lx", &start, &end) == 2, "%s", line);
	fclose(f);
	if (!start)
		skip_case("no vvar");
	*len = end - start;
	return (char *)start;
}

/* Of the clock of the namespace, in seconds: no other number there is the same. */
#define OFFSET		1234577L

static bool vvar_is_new(char *vvar)
{
	const volatile uint64_t *word = (void *)vvar;
	unsigned int i;

	for (i = 0; i < PAGE / sizeof(*word); i++)
		if (word[i] == OFFSET)
			return true;
	return false;
}

static long faults_of_read(char *at)
{
	struct rusage before, after;

	/* both are there from now on */
	getrusage(RUSAGE_SELF, &after);
	getrusage(RUSAGE_SELF, &before);
	*(volatile char *)at;
	getrusage(RUSAGE_SELF, &after);
	return after.ru_minflt - before.ru_minflt;
}

/*
 * Is it the clock of the namespace, and the page of data too?  /proc/PID/pagemap shows
 * no entries of the kernel's memory, but without one there is a fault.
 */
static void new_clock(char *vvar)
{
	struct timespec ts;

	check(faults_of_read(vvar), "vvar was not zapped");
	check(vvar_is_new(vvar), "vvar is that of the other namespace");
	/* libc may not find it where it is now */
	check(!syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) && ts.tv_sec >= OFFSET,
	      "the time is %ld s", (long)ts.tv_sec);
}

static void old_clock(char *vvar)
{
	struct timespec ts;

	check(!faults_of_read(vvar), "vvar was zapped");
	check(!vvar_is_new(vvar), "vvar is that of the new namespace");
	check(!syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) && ts.tv_sec < OFFSET,
	      "the time is %ld s", (long)ts.tv_sec);
}

/* libc reads the data, if they are where it knows them. */
static bool libc_clock_is_new(void)
{
	struct timespec ts;

	check(!clock_gettime(CLOCK_MONOTONIC_COARSE, &ts), "clock_gettime");
	return ts.tv_sec >= OFFSET;
}

static void verify_around(char *p, unsigned long hole)
{
	verify(p, 0, HOLE, ORIGIN);
	verify(p, HOLE + hole, PAGES - HOLE - hole, ORIGIN);
}

/*
 * Parent, child and grandchild; the last two enter a time namespace, each in another
 * way.  With @moved the kernel's data are in the middle block, which is therefore
 * copied.
 */
static void enter_time_namespace(bool moved)
{
	const unsigned long nr = NR - moved;
	long background = background_shares(), tables, breaks;
	char *p = map_blocks(NR), *vvar;
	unsigned long len, hole = 0;
	struct events before;
	pid_t pid, inner;
	int ns;

	fill(p, 0, PAGES, ORIGIN);
	vvar = vvar_map(&len);
	if (moved) {
		hole = len / PAGE;
		check(mremap(vvar, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, AT(HOLE)) ==
		      AT(HOLE), "mremap of vvar: %s", strerror(errno));
		vvar = AT(HOLE);
	}
	*(volatile char *)vvar;
	old_clock(vvar);
	steps_reset();
	events_get(&before);
	pid = xfork();
	if (!pid) {
		await(SHARED, 1);
		/* so fork has copied the entry */
		old_clock(vvar);
		if (unshare(CLONE_NEWTIME))
			skip_case("no time namespaces: %s", strerror(errno));
		check(!write_file("/proc/self/timens_offsets", "monotonic %ld 0\n", OFFSET),
		      "timens_offsets: %s", strerror(errno));
		ns = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
		check(ns >= 0, "time_for_children: %s", strerror(errno));
		/* the first child of the namespace enters it */
		inner = fork_sharing(nr);
		if (!inner) {
			new_clock(vvar);
			check(moved || libc_clock_is_new(), "libc has the old clock");
			check(plain || own_tables() >= (long)nr, "%ld tables are shared",
			      own_tables());
			verify_around(p, hole);
			arrive(READY);
			await(DID, 1);
			verify_around(p, hole);
			fill(p, 0, HOLE, WRITER);
			verify(p, 0, HOLE, WRITER);
			done();
		}
		await(READY, 1);
		old_clock(vvar);
		own_tables();
		tables = own_tables();
		events_get(&before);
		check(!setns(ns, CLONE_NEWTIME), "setns: %s", strerror(errno));
		expect_events(&before, EV_BREAK, ==, 0);
		expect_events(&before, EV_REUSE, ==, 0);
		expect_events(&before, EV_DETACH, ==, 0);
		check(own_tables() == tables, "%ld tables are shared, before %ld",
		      own_tables(), tables);
		new_clock(vvar);
		check(moved || libc_clock_is_new(), "libc has the old clock");
		verify_around(p, hole);
		/* what is beside vvar is in a table of its own already */
		breaks = own_breaks();
		fill(p, HOLE - 1, 1, ACTOR);
		fill(p, HOLE + hole, 1, ACTOR);
		expect_own_breaks(breaks, moved ? 0 : 1);
		fill(p, 3, 1, ACTOR);
		expect_own_breaks(breaks, moved ? 1 : 2);
		verify(p, HOLE - 1, 1, ACTOR);
		arrive(DID);
		join(inner);
		close(ns);
		done();
	}
	expect_events(&before, EV_SHARE, ==, background + (long)nr);
	expect_events(&before, EV_FB_VMA, >=, moved);
	arrive(SHARED);
	await(DID, 1);
	old_clock(vvar);
	check(moved || !libc_clock_is_new(), "libc has the new clock");
	verify_around(p, hole);
	join(pid);
	old_clock(vvar);
	verify_around(p, hole);
	unmap_blocks(p, NR);
}

/*
 * A time namespace zaps the kernel's page of time data: beside shared blocks, and in a
 * block between them that has ordinary memory too.
 */
static void time_namespace(void)
{
	enter_time_namespace(false);
	enter_time_namespace(true);
	/* libc cannot read the clocks here any more */
	done();
}

/* exec lets go of the tables and copies none; two are left, and share on. */
static void exec_of_a_sharer(void)
{
	unsigned int round, me;

	for (round = 0; round < rounds(4); round++) {
		char *p = map_blocks(NR);
		struct events before;
		long breaks;
		pid_t pid;

		steps_reset();
		fill(p, 0, PAGES, ORIGIN);
		me = fork_twice(NR, &pid);
		if (me == 2) {
			dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
			barrier(SHARED, 3);
			execl("/proc/self/exe", "users", "--list", (char *)NULL);
			fail("exec");
		}
		events_get(&before);
		barrier(SHARED, 3);
		if (me) {
			join(pid);
			arrive(DID);
			await(SEEN, 1);
			verify(p, 0, PAGES, ORIGIN);
			done();
		}
		await(DID, 1);
		expect_events(&before, EV_DETACH, >=, (long)NR);
		verify(p, 0, PAGES, ORIGIN);
		breaks = own_breaks();
		fill(p, 0, 1, WRITER);
		check(plain || own_breaks() == breaks + 1, "%ld tables were copied",
		      own_breaks() - breaks);
		verify(p, 1, PAGES - 1, ORIGIN);
		arrive(SEEN);
		join(pid);
		unmap_blocks(p, NR);
	}
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
		/* It wants one writable page.  EAGAIN: somebody looks at one just now. */
		fill(p, BLOCK_PAGES + 400, 1, ORIGIN);
		check(!madvise(AT(BLOCK_PAGES), BLOCK, MADV_COLLAPSE) || errno == EAGAIN,
		      "MADV_COLLAPSE: %s", strerror(errno));
		join(pid);
		verify(p, BLOCK_PAGES, BLOCK_PAGES, ORIGIN);
		verify(p, 2 * BLOCK_PAGES, 5, ORIGIN);
		verify(p, 2 * BLOCK_PAGES + 5, 1, OWNER_ZERO);
		verify(p, 2 * BLOCK_PAGES + 200, 30, WRITER);
		verify(p, 0, BLOCK_PAGES, OWNER_ZERO);
		unmap_blocks(p, NR);
	}
}

#define SPLIT_HUGE_PAGES	"/sys/kernel/debug/split_huge_pages"

/*
 * A huge page that three map by a shared table is split, and its pages of zeroes are
 * replaced by the zero page: fewer pages for all three.
 */
static void split_unused(void)
{
	const long used = 400, all = NR * BLOCK / 1024;
	const long saved = NR * (BLOCK_PAGES - used) * PAGE / 1024;
	unsigned int round, me, i;

	if (access(SPLIT_HUGE_PAGES, W_OK))
		skip_case("no split_huge_pages in debugfs");
	for (round = 0; round < rounds(3); round++) {
		char *p = map_blocks(NR);
		long anon[3], rss, splits = 0;
		struct events before;
		pid_t pid;

		steps_reset();
		if (madvise(p, NR * BLOCK, MADV_HUGEPAGE))
			skip_case("MADV_HUGEPAGE: %s", strerror(errno));
		for (i = 0; i < NR; i++)
			fill(p, i * BLOCK_PAGES, used, ORIGIN);
		if (smaps_kb(0, p, "AnonHugePages") < all)
			skip_case("no huge pages");
		/* mapped by entries from now on, and yet huge */
		for (i = 0; i < NR; i++) {
			char *at = AT(i * BLOCK_PAGES + 9);

			check(!mprotect(at, PAGE, PROT_READ), "mprotect");
			check(!mprotect(at, PAGE, PROT_READ | PROT_WRITE), "mprotect");
		}
		check(!madvise(p, NR * BLOCK, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
		check(!smaps_kb(0, p, "AnonHugePages"), "still mapped as huge pages");
		me = fork_twice(NR, &pid);
		slots[me] = getpid();
		barrier(SHARED, 3);
		if (me == round % 3) {
			/* twice, for what the reading itself adds */
			for (i = 0; i < 6; i++) {
				anon[i % 3] = status_kb(slots[i % 3], "RssAnon");
				rss = smaps_kb(slots[i % 3], p, "Rss");
				check(rss == all, "sharer %u has %ld kB", i % 3, rss);
				splits = vmstat("thp_split_page");
			}
			events_get(&before);
			check(!write_file(SPLIT_HUGE_PAGES, "%d,0x%lx,0x%lx", getpid(),
					  (unsigned long)p,
					  (unsigned long)p + NR * BLOCK),
			      "split_huge_pages: %s", strerror(errno));
			expect_events(&before, EV_BREAK, ==, 0);
			expect_events(&before, EV_INPLACE, >=, (long)PAGES);
			splits = vmstat("thp_split_page") - splits;
			check(splits == (long)NR, "%ld huge pages were split", splits);
			for (i = 0; i < 3; i++) {
				rss = smaps_kb(slots[i], p, "Rss");
				anon[i] -= status_kb(slots[i], "RssAnon");
				check(rss == all - saved, "sharer %u has %ld kB", i, rss);
				check(anon[i] == saved,
				      "RssAnon of sharer %u has fallen by %ld kB, not %ld",
				      i, anon[i], saved);
			}
		}
		barrier(DID, 3);
		for (i = 0; i < NR; i++) {
			verify(p, i * BLOCK_PAGES, used, ORIGIN);
			verify(p, i * BLOCK_PAGES + used, BLOCK_PAGES - used, OWNER_ZERO);
		}
		barrier(SEEN, 3);
		fill(p, BLOCK_PAGES + used - 10, 20, WRITER + me);
		barrier(WROTE, 3);
		verify(p, BLOCK_PAGES + used - 10, 20, WRITER + me);
		verify(p, BLOCK_PAGES, used - 10, ORIGIN);
		verify(p, BLOCK_PAGES + used + 10, BLOCK_PAGES - used - 10, OWNER_ZERO);
		barrier(DONE, 3);
		if (me == 2)
			done();
		join(pid);
		if (me)
			done();
		unmap_blocks(p, NR);
	}
}

#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define KHUGEPAGED	THP "khugepaged/"

static struct {
	const char *path;
	long saved, fast;
} khugepaged_files[] = {
	{ KHUGEPAGED "pages_to_scan", 0, 65536 },
	{ KHUGEPAGED "scan_sleep_millisecs", 0, 10 },
	{ KHUGEPAGED "alloc_sleep_millisecs", 0, 10 },
	{ KHUGEPAGED "max_ptes_none", 0, 511 },
};

static char thp_enabled[32];

static void khugepaged_save(void)
{
	FILE *f = fopen(THP "enabled", "r");
	char line[64] = "", *word;
	unsigned int i;

	if (!f || !fgets(line, sizeof(line), f))
		skip_case("no huge pages");
	fclose(f);
	/* the word in brackets */
	word = strchr(line, '[');
	check(word && sscanf(word, "[%31[^]]", thp_enabled) == 1, "enabled: %s", line);
	for (i = 0; i < ARRAY_LEN(khugepaged_files); i++) {
		khugepaged_files[i].saved = read_long(khugepaged_files[i].path);
		if (khugepaged_files[i].saved < 0)
			skip_case("no %s", khugepaged_files[i].path);
	}
}

static void khugepaged_hurry(bool on)
{
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(khugepaged_files); i++)
		write_file(khugepaged_files[i].path, "%ld", on ?
			   khugepaged_files[i].fast : khugepaged_files[i].saved);
	write_file(THP "enabled", "%s", on ? "madvise" : thp_enabled);
}

/* Until the process has @kb of huge pages there, for a minute at least. */
static bool khugepaged_wait(pid_t pid, char *at, long kb)
{
	unsigned int tries;

	for (tries = 0; tries < 600; tries++) {
		if (smaps_kb(pid, at, "AnonHugePages") >= kb)
			return true;
		usleep(100 * 1000);
	}
	return false;
}

/*
 * khugepaged itself goes over blocks of three processes, each of which has a block
 * of its own beside them, as a witness.  In the end it may have those of the last one.
 */
static void khugepaged_round(bool writes)
{
	char *p = map_blocks(NR), *witness = map_blocks(1);
	const long all = NR * BLOCK / 1024;
	struct events before;
	unsigned int me, i;
	bool seen = true;
	pid_t pid;
	long scans;

	steps_reset();
	fill(p, 0, PAGES, ORIGIN);
	me = fork_twice(NR, &pid);
	fill(witness, 0, BLOCK_PAGES, WRITER + me);
	slots[me] = getpid();
	barrier(SHARED, 3);
	/* so that the waiting copies no table of its own any more */
	for (i = 0; i < 6 && !me; i++) {
		smaps_kb(slots[i % 3], witness, "AnonHugePages");
		events_get(&before);
		read_long(KHUGEPAGED "full_scans");
	}
	check(!madvise(p, NR * BLOCK, MADV_HUGEPAGE) &&
	      !madvise(witness, BLOCK, MADV_HUGEPAGE), "MADV_HUGEPAGE: %s", strerror(errno));
	barrier(READY, 3);
	if (!me) {
		events_get(&before);
		khugepaged_hurry(true);
		for (i = 0; i < 3; i++)
			seen &= khugepaged_wait(slots[i], witness, BLOCK / 1024);
		scans = read_long(KHUGEPAGED "full_scans");
		for (i = 0; i < 600 && read_long(KHUGEPAGED "full_scans") < scans + 2; i++)
			usleep(100 * 1000);
		khugepaged_hurry(false);
		check(seen && i < 600, "khugepaged has not come by");
		expect_events(&before, EV_BREAK, ==, 0);
		expect_events(&before, EV_REUSE, ==, 0);
		for (i = 0; i < 3 && !plain; i++)
			check(!smaps_kb(slots[i], p, "AnonHugePages"),
			      "sharer %u has %ld kB of huge pages", i,
			      smaps_kb(slots[i], p, "AnonHugePages"));
	}
	barrier(DID, 3);
	verify(p, 0, PAGES, ORIGIN);
	verify(witness, 0, BLOCK_PAGES, WRITER + me);
	barrier(SEEN, 3);
	if (me == 2)
		done();
	join(pid);
	if (me)
		done();
	events_get(&before);
	for (i = 0; i < NR && writes; i++)
		fill(p, i * BLOCK_PAGES + 11, 1, ACTOR);
	khugepaged_hurry(true);
	seen = khugepaged_wait(0, p, all);
	khugepaged_hurry(false);
	check(seen, "of the tables of the last one come %ld kB of huge pages, not %ld",
	      smaps_kb(0, p, "AnonHugePages"), all);
	expect_events(&before, EV_REUSE, >=, (long)NR);
	for (i = 0; i < NR && writes; i++) {
		verify(p, i * BLOCK_PAGES + 11, 1, ACTOR);
		fill(p, i * BLOCK_PAGES + 11, 1, ORIGIN);
	}
	verify(p, 0, PAGES, ORIGIN);
	verify(witness, 0, BLOCK_PAGES, WRITER);
	unmap_blocks(p, NR);
	unmap_blocks(witness, 1);
}

static void khugepaged(void)
{
	khugepaged_save();
	/* after an ordinary fork no page is writable, and khugepaged wants one */
	if (!plain)
		khugepaged_round(false);
	khugepaged_round(true);
}

/* ---- memory that is taken out of the machine ---- */

#define MEMORY		"/sys/devices/system/memory/"

/* /proc/kpageflags */
#define KPF_BUDDY	10
#define KPF_NOPAGE	20
#define KPF_RESERVED	32
#define FLAGS_AT_ONCE	1024UL

static unsigned long section_pages, hot_section;

static int section_write(unsigned long nr, const char *state)
{
	char path[64];

	snprintf(path, sizeof(path), MEMORY "memory%lu/state", nr);
	return write_file(path, "%s", state);
}

static bool section_is(unsigned long nr, const char *file, const char *word)
{
	char path[64], text[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), MEMORY "memory%lu/%s", nr, file);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (fscanf(f, "%63s", text) != 1)
		text[0] = 0;
	fclose(f);
	return !strcmp(text, word);
}

static unsigned int section_node(unsigned long nr)
{
	unsigned int node;
	char path[64];

	for (node = 0; node < 63; node++) {
		snprintf(path, sizeof(path), MEMORY "memory%lu/node%u", nr, node);
		if (!access(path, F_OK))
			return node;
	}
	return 0;
}

/*
 * Can all its pages go?  Asked before the kernel is, which prints a warning when it
 * finds one that cannot.  What is not in ZONE_MOVABLE must be free altogether.
 */
static bool section_can_go(unsigned long nr, bool movable)
{
	unsigned long i, first = nr * section_pages;
	int fd = open("/proc/kpageflags", O_RDONLY);
	uint64_t flags[FLAGS_AT_ONCE];
	bool ret = fd >= 0;

	for (i = 0; ret && i < section_pages; i++) {
		uint64_t *f = flags + i % FLAGS_AT_ONCE;

		if (f == flags)
			ret = pread(fd, flags, sizeof(flags),
				    (first + i) * sizeof(*flags)) == sizeof(flags);
		if (movable)
			ret &= !(*f & (1ULL << KPF_RESERVED | 1ULL << KPF_NOPAGE));
		else
			ret &= *f == 1ULL << KPF_BUDDY;
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

/* Some movable memory; @made says that it was not that before. */
static unsigned long movable_section(bool *made)
{
	unsigned long nr, end = 0;
	struct dirent *entry;
	char text[32] = "";
	DIR *dir;
	FILE *f;

	f = fopen(MEMORY "block_size_bytes", "r");
	if (!f || fscanf(f, "%31s", text) != 1)
		skip_case("no memory can be taken out of this machine");
	fclose(f);
	section_pages = strtoul(text, NULL, 16) / PAGE;
	dir = opendir(MEMORY);
	while (dir && (entry = readdir(dir)))
		if (sscanf(entry->d_name, "memory%lu", &nr) == 1 && nr >= end)
			end = nr + 1;
	if (dir)
		closedir(dir);
	*made = false;
	for (nr = 0; nr < end; nr++)
		if (section_is(nr, "state", "online") &&
		    section_is(nr, "valid_zones", "Movable") && section_can_go(nr, true))
			return nr;
	*made = true;
	for (nr = 0; nr < end; nr++) {
		if (!section_is(nr, "state", "online") || !section_can_go(nr, false) ||
		    section_write(nr, "offline"))
			continue;
		if (!section_write(nr, "online_movable"))
			return nr;
		section_write(nr, "online");
	}
	skip_case("all parts of the memory have pages that cannot go");
}

static bool in_hot_section(char *at)
{
	return pfn_of(at) / section_pages == hot_section;
}

/* The memory that some pages of three sharers are in goes, under all of them. */
static void unplug_act(char *p)
{
	unsigned long i, nr = 0;

	for (i = 0; i < PAGES; i++)
		nr += in_hot_section(AT(i));
	check(nr >= 64, "only %lu pages are in the memory that goes", nr);
	check(!section_write(hot_section, "offline"), "offline: %s", strerror(errno));
	for (i = 0; i < PAGES; i++)
		check(!in_hot_section(AT(i)), "page %lu is still there", i);
	slots[0] += nr;
}

static void memory_unplug(void)
{
	static const struct user u = { unplug_act, all_origin, all_origin, -1, 64 };
	unsigned int round, last = rounds(1);
	unsigned long nodes;
	bool made;

	hot_section = movable_section(&made);
	nodes = 1UL << section_node(hot_section);
	/* no more than preferred: the pages need a place to go to */
	check(!syscall(SYS_set_mempolicy, 1 /* MPOL_PREFERRED */, &nodes, 64),
	      "set_mempolicy: %s", strerror(errno));
	slots[0] = 0;
	/* each time is slow with KASAN */
	for (round = 0; round < last; round++) {
		one_of_three(&u, (seed + round) % 3);
		check(!section_write(hot_section, round == last - 1 && made ? "online" :
				     "online_movable"), "online: %s", strerror(errno));
	}
	note("memory%lu%s, %lu pages had to go", hot_section,
	     made ? ", made movable" : "", (unsigned long)slots[0]);
}

/* After a fork the entry of a huge page is read-only, as that of a shared table is. */
static void huge_beside(void)
{
	unsigned int round;
	pid_t pid, third;

	for (round = 0; round < rounds(4); round++) {
		char *p = map_blocks(NR);

		steps_reset();
		if (madvise(p, BLOCK, MADV_HUGEPAGE))
			skip_case("MADV_HUGEPAGE: %s", strerror(errno));
		fill(p, 0, PAGES, ORIGIN);
		if (smaps_kb(0, p, "AnonHugePages") < 2048)
			skip_case("no huge page");
		third = bystander(round / 2 % 2, p, NR - 1, PAGES, ORIGIN);
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
		bystander_ends(third);
		unmap_blocks(p, NR);
	}
}

static const struct cow_case cases[] = {
	{ "pkey_mprotect", pkey },
	{ "mbind", bind_pages },
	{ "move_pages", move_pages },
	{ "migrate_pages", migrate },
	{ "set_mempolicy", policy },
	{ "memory is taken out", memory_unplug },
	{ "soft offline", soft_offline },
	{ "hwpoison", hwpoison },
	{ "exclusive access of a device", device_exclusive },
	{ "AF_PACKET ring into a hole", packet_into_hole },
	{ "trace buffer into a hole", trace_into_hole },
	{ "PCI memory into a hole", pci_into_hole },
	{ "io_uring into a hole", ring_into_hole },
	{ "uprobe", uprobe },
	{ "KSM", ksm },
	{ "DAMON", damon },
	{ "NUMA balancing", numa_balancing },
	{ "NUMA hints from before", numa_hints_from_before },
	{ "hints of idle pages", hints_of_idle_pages },
	{ "multi-gen LRU", lru_gen },
	{ "a sharer that exits keeps nothing", exit_keeps_nothing },
	{ "perf samples", perf_samples },
	{ "perf samples leave no mark", perf_leaves_no_mark },
	{ "process_madvise", advise_other },
	{ "OOM reaper", reaped },
	{ "time namespace", time_namespace },
	{ "exec of a sharer", exec_of_a_sharer },
	{ "split huge pages", split_huge_page },
	{ "zero pages of a huge page that is split", split_unused },
	{ "khugepaged", khugepaged },
	{ "huge pages beside shared tables", huge_beside },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
