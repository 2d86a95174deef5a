// SPDX-License-Identifier: GPL-2.0
/*
 * Every operation against every other one: two sharers of the same blocks start
 * theirs at the same moment, a third one looks on.  Afterwards each of them must hold
 * what its own operation left, byte for byte.
 *
 * Where the kernel has /sys/kernel/debug/cow_pte/delay_us, the windows between the
 * steps of share, break, reuse and detach are stretched.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow_pte_util.h"

#define NR		2UL
#define FEW		24UL
#define AT(n)		(p + (n) * PAGE)
#define DELAY		"/sys/kernel/debug/cow_pte/delay_us"
#define POINTS		"/sys/kernel/debug/cow_pte/delay_points"
/* COW_PTE_WINDOW_LEAVE in mm/cow_pte.c: no entry points to the table, no TLB is flushed */
#define WINDOW_LEAVE	"0x8"

enum { ORIGIN = 1, MINE = 5, LATER = 7 };
enum { START, ACTED, LOOKED, LEAVE };

/* What an operation leaves of the pages of each block; the others are ORIGIN. */
struct action {
	const char *name;
	void (*fn)(char *p, unsigned int who);
	/* pages [first, end) of each block belong to @owner + who, or are zero or gone */
	unsigned int first, end;
	enum { KEEPS, WRITES, ZEROES, UNMAPS, EXITS } leaves;
};

static void each_block(char *p, unsigned int who, void (*fn)(char *block, unsigned int who))
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		fn(p + (who % 2 ? NR - 1 - b : b) * BLOCK, who);
}

static void act_write(char *p, unsigned int who)
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		fill(p, b * BLOCK_PAGES + 3, 4, MINE + who);
}

static void act_exit(char *p, unsigned int who)
{
	(void)p;
	(void)who;
	_exit(0);
}

/* Forks; the grandchild writes, so that its table is new again. */
static void act_fork(char *p, unsigned int who)
{
	unsigned long b;
	pid_t pid = xfork();

	if (!pid) {
		for (b = 0; b < NR; b++) {
			verify(p, b * BLOCK_PAGES, FEW, ORIGIN);
			fill(p, b * BLOCK_PAGES + who, 2, LATER);
			verify(p, b * BLOCK_PAGES + 8, FEW - 8, ORIGIN);
		}
		done();
	}
	join(pid);
}

static void act_dontneed(char *p, unsigned int who)
{
	unsigned long b;

	(void)who;
	for (b = 0; b < NR; b++)
		check(!madvise(AT(b * BLOCK_PAGES + 5), 3 * PAGE, MADV_DONTNEED),
		      "MADV_DONTNEED: %s", strerror(errno));
}

/* Have the translations in the TLB. */
static void touch(char *p)
{
	unsigned long b, i;

	for (b = 0; b < NR; b++)
		for (i = 0; i < FEW; i++)
			*(volatile char *)AT(b * BLOCK_PAGES + i);
}

static void act_munmap(char *p, unsigned int who)
{
	unsigned long b;

	(void)who;
	for (b = 0; b < NR; b++)
		check(!munmap(AT(b * BLOCK_PAGES + 6), 3 * PAGE), "munmap: %s",
		      strerror(errno));
}

/* All of it: the tables are detached as a whole. */
static void act_munmap_all(char *p, unsigned int who)
{
	(void)who;
	touch(p);
	check(!munmap(p, NR * BLOCK), "munmap: %s", strerror(errno));
}

static void act_mprotect(char *p, unsigned int who)
{
	unsigned long b;

	(void)who;
	for (b = 0; b < NR; b++) {
		check(!mprotect(AT(b * BLOCK_PAGES + 2), 4 * PAGE, PROT_READ),
		      "mprotect: %s", strerror(errno));
		check(!mprotect(AT(b * BLOCK_PAGES + 2), 4 * PAGE,
				PROT_READ | PROT_WRITE), "mprotect: %s",
		      strerror(errno));
	}
}

static void move_block(char *block, unsigned int who)
{
	char *to = mmap(NULL, 2 * BLOCK, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *there;

	(void)who;
	check(to != MAP_FAILED, "mmap: %s", strerror(errno));
	there = (char *)(((uintptr_t)to + BLOCK - 1) & ~(BLOCK - 1));
	check(mremap(block, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there,
	      "mremap: %s", strerror(errno));
	check(mremap(there, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, block) == block,
	      "mremap back: %s", strerror(errno));
	munmap(to, 2 * BLOCK);
}

static void act_mremap(char *p, unsigned int who)
{
	each_block(p, who, move_block);
}

static void act_reclaim(char *p, unsigned int who)
{
	unsigned int i;

	(void)p;
	(void)who;
	for (i = 0; i < 3; i++)
		cgroup_write("memory.reclaim", "1M");
}

static void act_compact(char *p, unsigned int who)
{
	(void)p;
	(void)who;
	write_file("/proc/sys/vm/compact_memory", "1");
}

static void act_migrate(char *p, unsigned int who)
{
	void *pages[2 * NR];
	int nodes[2 * NR], status[2 * NR];
	unsigned int i, k;

	for (k = 0; k < 2; k++) {
		for (i = 0; i < 2 * NR; i++) {
			pages[i] = AT((i / 2) * BLOCK_PAGES + i % 2 * 9);
			nodes[i] = (who + k) % 2;
		}
		syscall(SYS_move_pages, 0, 2 * NR, pages, nodes, status, 4);
	}
}

static void act_collapse(char *p, unsigned int who)
{
	(void)who;
	madvise(p, NR * BLOCK, MADV_HUGEPAGE);
	madvise(p + BLOCK, BLOCK, MADV_COLLAPSE);
	madvise(p, NR * BLOCK, MADV_NOHUGEPAGE);
}

static void act_merge(char *p, unsigned int who)
{
	(void)who;
	madvise(p, BLOCK, MADV_MERGEABLE);
	write_file("/sys/kernel/mm/ksm/run", "1");
	madvise(p, BLOCK, MADV_UNMERGEABLE);
}

static void act_swapoff(char *p, unsigned int who)
{
	(void)p;
	(void)who;
	cycle_swap();
}

/* References of GUP, taken for reading and for writing. */
static void act_gup(char *p, unsigned int who)
{
	static char buf[PAGE] __attribute__((aligned(PAGE)));
	struct iovec local = { buf, PAGE }, remote;
	unsigned long b;
	int fds[2];

	check(!pipe(fds), "pipe: %s", strerror(errno));
	for (b = 0; b < NR; b++) {
		remote = (struct iovec){ AT(b * BLOCK_PAGES + 12), PAGE };
		check(vmsplice(fds[1], &remote, 1, 0) == (long)PAGE, "vmsplice: %s",
		      strerror(errno));
		check(read(fds[0], buf, PAGE) == (long)PAGE, "read: %s", strerror(errno));
		check(page_is(buf, b * BLOCK_PAGES + 12, ORIGIN), "read through the pipe");
		pattern_page(buf, b * BLOCK_PAGES + 3, MINE + who);
		remote.iov_base = AT(b * BLOCK_PAGES + 3);
		check(process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == (long)PAGE,
		      "process_vm_writev: %s", strerror(errno));
	}
	close(fds[0]);
	close(fds[1]);
}

static const struct action actions[] = {
	{ "write", act_write, 3, 7, WRITES },
	{ "exit", act_exit, 0, 0, EXITS },
	{ "fork", act_fork, 0, 0, KEEPS },
	{ "dontneed", act_dontneed, 5, 8, ZEROES },
	{ "munmap", act_munmap, 6, 9, UNMAPS },
	{ "munmap-all", act_munmap_all, 0, FEW, UNMAPS },
	{ "mprotect", act_mprotect, 0, 0, KEEPS },
	{ "mremap", act_mremap, 0, 0, KEEPS },
	{ "reclaim", act_reclaim, 0, 0, KEEPS },
	{ "compaction", act_compact, 0, 0, KEEPS },
	{ "migration", act_migrate, 0, 0, KEEPS },
	{ "collapse", act_collapse, 0, 0, KEEPS },
	{ "ksm", act_merge, 0, 0, KEEPS },
	{ "swapoff", act_swapoff, 0, 0, KEEPS },
	{ "gup", act_gup, 3, 4, WRITES },
};

static void verify_after(const struct action *a, char *p, unsigned int who)
{
	unsigned long b, first, i;

	for (b = 0; b < NR; b++) {
		first = b * BLOCK_PAGES;
		verify(p, first, a->first, ORIGIN);
		if (a->end < FEW)
			verify(p, first + a->end, FEW - a->end, ORIGIN);
		if (a->leaves == WRITES)
			verify(p, first + a->first, a->end - a->first, MINE + who);
		else if (a->leaves == ZEROES)
			verify(p, first + a->first, a->end - a->first, OWNER_ZERO);
		else if (a->leaves == UNMAPS)
			for (i = a->first; i < a->end; i++)
				check(read_faults(AT(first + i)), "page %lu is mapped",
				      first + i);
	}
}

static void spin(uint64_t n)
{
	while (n--)
		__asm__ volatile("" ::: "memory");
}

static pid_t start_actor(const struct action *a, char *p, unsigned int who,
			 uint64_t wait)
{
	pid_t pid = fork_sharing(NR);

	if (pid)
		return pid;
	spin_barrier(START, 3);
	spin(wait);
	a->fn(p, who);
	arrive(ACTED);
	verify_after(a, p, who);
	await(LOOKED, 1);
	verify_after(a, p, who);
	done();
}

static void one_round(const struct action *a, const struct action *b, uint64_t *state)
{
	uint64_t wait_a = rnd(state) % 20000, wait_b = rnd(state) % 20000;
	unsigned int acted = (a->leaves != EXITS) + (b->leaves != EXITS);
	pid_t first, second, looker;
	unsigned long i, looks;
	char *p;

	steps_reset();
	p = map_blocks(NR);
	for (i = 0; i < NR; i++)
		fill(p, i * BLOCK_PAGES, FEW, ORIGIN);
	looker = fork_sharing(NR);
	if (!looker) {
		spin_barrier(START, 3);
		for (looks = 0; looks < 3; looks++)
			for (i = 0; i < NR; i++)
				verify(p, i * BLOCK_PAGES, FEW, ORIGIN);
		await(ACTED, acted);
		for (i = 0; i < NR; i++) {
			verify(p, i * BLOCK_PAGES, FEW, ORIGIN);
			fill(p, i * BLOCK_PAGES, FEW, LATER);
		}
		arrive(LOOKED);
		for (i = 0; i < NR; i++)
			verify(p, i * BLOCK_PAGES, FEW, LATER);
		done();
	}
	first = start_actor(a, p, 0, wait_a);
	/* it waits for the third one, so three share when the race begins */
	second = start_actor(b, p, 1, wait_b);
	unmap_blocks(p, NR);
	join(first);
	join(second);
	join(looker);
}

static void against_all(const struct action *a)
{
	long delay = read_long(DELAY), ksm = read_long("/sys/kernel/mm/ksm/run");
	const struct action *b;
	unsigned int round, n = 0;
	uint64_t state = seed;

	if (!plain)
		cgroup_enter();
	if (delay >= 0)
		write_file(DELAY, "%d", 300);
	for (round = 0; round < rounds(1); round++)
		for (b = actions; b < actions + ARRAY_LEN(actions); b++, n++)
			one_round(a, b, &state);
	if (delay >= 0)
		write_file(DELAY, "%ld", delay);
	if (ksm >= 0)
		write_file("/sys/kernel/mm/ksm/run", "%ld", ksm);
	note("%u rounds%s", n, delay >= 0 ? ", with delays" : "");
}

/*
 * A thread reads, another one of the same process lets go of the tables; and the
 * other sharer, now the last one, frees the pages and has others put into their place.
 * The reader sees the old bytes, or a fault, and never a page that is somebody else's.
 * It has a CPU to itself, as its TLB is what this is about; the other two share one, so
 * the last sharer runs while the leaver is held up before its flush.
 */
static __thread sigjmp_buf gone;
static volatile uint64_t strange;

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(gone, 1);
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	/* one CPU only: the race cannot happen */
	if (sched_setaffinity(0, sizeof(set), &set))
		note("CPU %d: %s", cpu, strerror(errno));
}

static void *reader(void *arg)
{
	uint64_t want[FEW];
	char *p = arg;
	unsigned long i;

	run_on(1);
	if (sigsetjmp(gone, 1))
		return NULL;
	/* so few that the simplest of TLBs has room for all */
	for (i = 0; i < FEW; i++)
		want[i] = *(volatile uint64_t *)AT(i);
	arrive(LOOKED);
	for (i = 0; !strange; i = (i + 1) % FEW) {
		uint64_t v = *(volatile uint64_t *)AT(i);

		if (v != want[i])
			strange = v;
	}
	return NULL;
}

static void freed_under_reader(void)
{
	struct sigaction sa = { .sa_handler = on_fault };
	long delay = read_long(DELAY);
	uint64_t state = seed;
	unsigned int round;
	unsigned long i;

	sigaction(SIGSEGV, &sa, NULL);
	run_on(0);
	if (delay >= 0)
		write_file(DELAY, "%d", 20000);
	write_file(POINTS, WINDOW_LEAVE);
	for (round = 0; round < rounds(40); round++) {
		uint64_t wait_b = rnd(&state) % 100000;
		char *p = map_blocks(NR), *q = map_blocks(NR);
		pid_t pid;

		steps_reset();
		for (i = 0; i < NR; i++)
			fill(p, i * BLOCK_PAGES, FEW, ORIGIN);
		pid = fork_sharing(NR);
		if (!pid) {
			pthread_t thread;

			check(!pthread_create(&thread, NULL, reader, p), "pthread_create");
			await(LOOKED, 1);
			barrier(START, 2);
			munmap(p, NR * BLOCK);
			pthread_join(thread, NULL);
			check(!strange, "a page that was freed was read: %#llx",
			      (unsigned long long)strange);
			done();
		}
		barrier(START, 2);
		spin(wait_b);
		munmap(p, NR * BLOCK);
		for (i = 0; i < NR; i++)
			fill(q, i * BLOCK_PAGES, FEW, LATER);
		join(pid);
		unmap_blocks(q, NR);
	}
	if (delay >= 0)
		write_file(DELAY, "%ld", delay);
	write_file(POINTS, "0xffffffff");
	signal(SIGSEGV, SIG_DFL);
}

/* Read pages that are about to go until that faults; it must, once @slot is set. */
static void read_until_fault(char *p, int slot)
{
	uint64_t want = *(volatile uint64_t *)AT(0);
	volatile bool told = false;	/* kept over siglongjmp() */
	unsigned long i;

	run_on(1);
	for (i = 0; i < FEW; i++)
		(void)*(volatile uint64_t *)AT(i);
	arrive(LOOKED);
	if (sigsetjmp(gone, 1))
		return;
	for (i = 0; ; i = (i + 1) % FEW) {
		uint64_t v = *(volatile uint64_t *)AT(i);

		check(i || v == want, "a page that was freed was read: %#llx",
		      (unsigned long long)v);
		check(!told || i, "truncated pages can be read");
		if (!i)
			told = slots[slot];
	}
}

/*
 * A file is truncated while another sharer reads it, each time from its TLB if it can.
 * Three share: the one who is visited first, the one at the head of the list, and one
 * who is neither.
 */
static void truncated_under_reader(void)
{
	struct sigaction sa = { .sa_handler = on_fault };
	unsigned int round, i;

	sigaction(SIGBUS, &sa, NULL);
	for (round = 0; round < rounds(12); round++) {
		unsigned int me, reads = round % 3, truncates = !reads;
		int fd = test_file(BLOCK_PAGES, ORIGIN);
		char *p = map_file_blocks(1, fd), *q;
		pid_t pids[2] = { 0 };
		struct events before;

		steps_reset();
		slots[20] = 0;
		/* fork copies a private mapping only if it has pages of its own */
		fill(p, BLOCK_PAGES - 1, 1, ORIGIN);
		read_pages(p, 0, FEW);
		events_get(&before);
		for (me = 2; me > 0; me--) {
			pids[me - 1] = fork_sharing(1);
			if (!pids[me - 1])
				break;
		}
		if (me == reads) {
			read_until_fault(p, 20);
		} else if (me == truncates) {
			run_on(0);
			await(LOOKED, 1);
			check(!ftruncate(fd, 0), "ftruncate: %s", strerror(errno));
			q = map_blocks(NR);
			for (i = 0; i < NR; i++)
				fill(q, i * BLOCK_PAGES, FEW, LATER);
			slots[20] = 1;
			unmap_blocks(q, NR);
		} else {
			await(LOOKED, 1);
			while (!slots[20])
				usleep(1000);
		}
		if (me)
			done();
		join(pids[0]);
		join(pids[1]);
		expect_events(&before, EV_INPLACE, >=, 1);
		unmap_blocks(p, 1);
		close(fd);
	}
	signal(SIGBUS, SIG_DFL);
}

#define CASE(i) static void case_##i(void) { against_all(&actions[i]); }
CASE(0) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)

static const struct cow_case cases[] = {
	{ "write against all", case_0 },
	{ "exit against all", case_1 },
	{ "fork against all", case_2 },
	{ "MADV_DONTNEED against all", case_3 },
	{ "munmap of pages against all", case_4 },
	{ "munmap of blocks against all", case_5 },
	{ "mprotect against all", case_6 },
	{ "mremap against all", case_7 },
	{ "reclaim against all", case_8 },
	{ "compaction against all", case_9 },
	{ "migration against all", case_10 },
	{ "collapse against all", case_11 },
	{ "KSM against all", case_12 },
	{ "swapoff against all", case_13 },
	{ "GUP against all", case_14 },
	{ "pages freed under a reader", freed_under_reader },
	{ "pages truncated under a reader", truncated_under_reader },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
