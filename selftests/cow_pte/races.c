// SPDX-License-Identifier: GPL-2.0
/*
 * Every operation against every other one: two sharers of the same blocks start
 * theirs at the same moment, a third one looks on.  Afterwards each of them must hold
 * what its own operation left, byte for byte.
 *
 * And one mm against its own fork: a thread pins, writes, unmaps, or the kernel's own
 * threads are at work, while another thread forks.
 *
 * Where the kernel has /sys/kernel/debug/cow_pte/delay_us, the windows between the
 * steps of share, break, reuse and detach are stretched.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cow_pte_util.h"

#define NR		2UL
#define FEW		24UL
/* pages behind these that are alike in groups of four, for KSM */
#define ALIKE		8UL
#define AT(n)		(p + (n) * PAGE)
#define PM_PFN(entry)	((entry) & ((1ULL << 55) - 1))
#define DELAY		"/sys/kernel/debug/cow_pte/delay_us"
#define POINTS		"/sys/kernel/debug/cow_pte/delay_points"

/* Memory before a round of one mm is of ORIGIN or OTHER in turn. */
enum { ORIGIN = 1, OTHER, MINE = 5, LATER = 7, FILE_DATA = 9, FIRST_WRITE = 10 };
enum { START, ACTED, LOOKED, LEAVE, STABLE, OVER, GATHERED, READY };

/*
 * Words of slots: what the operations did, not only tried, in all rounds of a case; when
 * the two of this round were at it; and how long each operation took the last time.
 */
enum {
	DID_RECLAIM = 20, DID_COMPACT, DID_MIGRATE, DID_COLLAPSE, DID_MERGE, DID_SWAPOFF,
	SWAPOFF_FAILED, ROUNDS_IN_SWAP, INPLACE, MET,
	BEGUN, ENDED = BEGUN + 2, CPU_BEGUN = ENDED + 2, TOOK = CPU_BEGUN + 2,
};

static void did(unsigned int what, uint64_t n)
{
	__atomic_add_fetch(&((uint64_t *)slots)[what], n, __ATOMIC_RELAXED);
}

/* What an operation leaves of the pages of each block; the others are ORIGIN. */
struct action {
	const char *name;
	void (*fn)(char *p, unsigned int who);
	/* pages [first, end) of each block belong to @owner + who, or are zero or gone */
	unsigned int first, end;
	enum { KEEPS, WRITES, ZEROES, UNMAPS, EXITS } leaves;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void spin_ns(uint64_t ns)
{
	uint64_t end = now_ns() + ns;

	while (now_ns() < end)
		;
}

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

/* The entries of the pages of all blocks, of this process. */
struct entries {
	uint64_t v[NR * FEW];
};

static void entries_get(struct entries *e, char *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	unsigned long b;

	check(fd >= 0, "pagemap: %s", strerror(errno));
	for (b = 0; b < NR; b++)
		check(pread(fd, e->v + b * FEW, sizeof(e->v) / NR,
			    (uintptr_t)(p + b * BLOCK) / PAGE * sizeof(e->v[0])) ==
		      sizeof(e->v) / NR, "pagemap: %s", strerror(errno));
	close(fd);
}

static unsigned int in_swap(char *p)
{
	unsigned int out = 0, i;
	struct entries e;

	entries_get(&e, p);
	for (i = 0; i < NR * FEW; i++)
		out += !!(e.v[i] & PM_SWAP);
	return out;
}

/* How many of them are in memory, and elsewhere than before.  Without privileges, none. */
static unsigned int elsewhere(const struct entries *before, char *p)
{
	unsigned int nr = 0, i;
	struct entries e;

	entries_get(&e, p);
	for (i = 0; i < NR * FEW; i++)
		nr += e.v[i] & before->v[i] & PM_PRESENT &&
		      PM_PFN(e.v[i]) != PM_PFN(before->v[i]);
	return nr;
}

/*
 * As much as the pages of a round.  The kernel may find less, and says EAGAIN when it has
 * tried 16 times: to ask for more makes this slow, and frees nothing more.
 */
static void reclaim(void)
{
	if (!plain && cgroup_write("memory.reclaim", "256K"))
		check(errno == EAGAIN || errno == EINTR, "memory.reclaim: %s", strerror(errno));
}

static void act_reclaim(char *p, unsigned int who)
{
	unsigned int before = in_swap(p), i;

	(void)who;
	for (i = 0; i < 3; i++)
		reclaim();
	did(DID_RECLAIM, in_swap(p) > before);
}

static void act_compact(char *p, unsigned int who)
{
	struct entries before;

	(void)who;
	entries_get(&before, p);
	/* in plain mode this may run without being root, here and below */
	check(!write_file("/proc/sys/vm/compact_memory", "1") || plain, "compact_memory: %s",
	      strerror(errno));
	did(DID_COMPACT, elsewhere(&before, p));
}

static void act_migrate(char *p, unsigned int who)
{
	void *pages[2 * NR];
	int nodes[2 * NR], status[2 * NR], before[2 * NR];
	unsigned int i, k;

	memset(before, 0xff, sizeof(before));
	for (k = 0; k < 2; k++) {
		for (i = 0; i < 2 * NR; i++) {
			pages[i] = AT((i / 2) * BLOCK_PAGES + i % 2 * 9);
			nodes[i] = (who + k) % 2;
		}
		if (syscall(SYS_move_pages, 0, 2 * NR, pages, nodes, status, 4) < 0) {
			check(plain || errno == ENODEV || errno == ENOMEM, "move_pages: %s",
			      strerror(errno));
			continue;
		}
		/* where it was is known from the first time only */
		for (i = 0; i < 2 * NR; i++)
			did(DID_MIGRATE, before[i] >= 0 && before[i] != nodes[i] &&
					 status[i] == nodes[i]);
		memcpy(before, status, sizeof(before));
	}
}

static bool collapse(char *block)
{
	if (!madvise(block, BLOCK, MADV_COLLAPSE))
		return true;
	/* EINVAL: no entry that may be written to, or one that is not there for the moment */
	check(errno == EINVAL || errno == EAGAIN || errno == ENOMEM || errno == EBUSY,
	      "MADV_COLLAPSE: %s", strerror(errno));
	return false;
}

/* First what has no entry that may be written to, and then what has one. */
static void act_collapse(char *p, unsigned int who)
{
	unsigned long b;

	madvise(p, NR * BLOCK, MADV_HUGEPAGE);
	collapse(p + BLOCK);
	for (b = 0; b < NR; b++) {
		fill(p, b * BLOCK_PAGES + 20, 1, MINE + who);
		did(DID_COLLAPSE, collapse(p + b * BLOCK));
	}
	madvise(p, NR * BLOCK, MADV_NOHUGEPAGE);
}

#define KSM	"/sys/kernel/mm/ksm/"

/* Scans that have ended, or -1 without KSM.  A page is merged in the second one it is in. */
static long ksm_scans(void)
{
	return read_long(KSM "full_scans");
}

/* rounds_begin() has made ksmd run all the time */
static bool ksm_runs;

/* The settings that a case changes; they are put back at its end. */
static struct setting {
	const char *path;
	long value, saved;
} settings[] = {
	{ KSM "run", 1, -1 },
	{ KSM "sleep_millisecs", 0, -1 },
	{ KSM "pages_to_scan", 1000, -1 },
#define NR_KSM_SETTINGS	3
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"
	{ KHUGEPAGED "scan_sleep_millisecs", 0, -1 },
	{ KHUGEPAGED "alloc_sleep_millisecs", 0, -1 },
	{ KHUGEPAGED "pages_to_scan", 4096, -1 },
	{ KHUGEPAGED "max_ptes_none", 511, -1 },
};

static bool settings_set(unsigned int first, unsigned int end)
{
	unsigned int i;

	for (i = first; i < end; i++) {
		settings[i].saved = read_long(settings[i].path);
		if (settings[i].saved < 0 ||
		    write_file(settings[i].path, "%ld", settings[i].value))
			return false;
	}
	return true;
}

static void settings_back(unsigned int first, unsigned int end)
{
	while (end-- > first)
		if (settings[end].saved >= 0)
			write_file(settings[end].path, "%ld", settings[end].saved);
}

/*
 * ksmd has merged something, or has had the time to look at each page twice; and then that
 * is undone.  It has a low priority, so a busy machine may need long for that; one that is
 * not ours alone has other memory to look at, and is not waited for.
 */
static void act_merge(char *p, unsigned int who)
{
	long scans = ksm_scans(), merged = 0;
	int tries, most = plain ? 100 : 2000;

	(void)who;
	check(!madvise(p, BLOCK, MADV_MERGEABLE) || scans < 0, "MADV_MERGEABLE: %s",
	      strerror(errno));
	for (tries = 0; ksm_runs && tries < most && ksm_scans() < scans + 3; tries++) {
		merged = read_long("/proc/self/ksm_merging_pages");
		if (merged > 0)
			break;
		usleep(1000);
	}
	did(DID_MERGE, merged > 0);
	check(!madvise(p, BLOCK, MADV_UNMERGEABLE) || scans < 0, "MADV_UNMERGEABLE: %s",
	      strerror(errno));
}

/* Both may be at it: then there is no swap, or not the one, for a while. */
static void act_swapoff(char *p, unsigned int who)
{
	unsigned int out = in_swap(p);
	int ret = cycle_swap();

	(void)who;
	check(plain || !ret || ret == -ENOMEM || ret == -EINTR || ret == -EBUSY ||
	      ret == -EINVAL || ret == -ENODEV, "swapoff: %s", strerror(-ret));
	did(SWAPOFF_FAILED, ret != 0);
	did(DID_SWAPOFF, !ret && out);
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
	{ "collapse", act_collapse, 20, 21, WRITES },
	{ "ksm", act_merge, 0, 0, KEEPS },
	{ "swapoff", act_swapoff, 0, 0, KEEPS },
	{ "gup", act_gup, 3, 4, WRITES },
};

/* Pages that are alike in groups of four. */
static void fill_alike(char *p, unsigned long first, unsigned long nr, unsigned int owner)
{
	unsigned long n;

	for (n = first; n < first + nr; n++)
		pattern_page(AT(n), n / 4, owner);
}

static void verify_alike(char *p, unsigned long first, unsigned long nr, unsigned int owner)
{
	unsigned long n;

	for (n = first; n < first + nr; n++)
		check(page_is(AT(n), n / 4, owner), "page %lu is not of owner %u", n, owner);
}

static void verify_after(const struct action *a, char *p, unsigned int who)
{
	unsigned long b, first, i;

	for (b = 0; b < NR; b++) {
		first = b * BLOCK_PAGES;
		if (a->fn != act_munmap_all)
			verify_alike(p, first + FEW, ALIKE, ORIGIN);
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

/*
 * When one of the two begins.  At once, or almost, in one round of two; in the others at
 * any moment while the other one is at it, if that takes as long as it took last.
 */
struct turn {
	const struct action *a;
	uint64_t spins, ns;
};

#define LONGEST_TURN	200000000ULL

static uint64_t took(const struct action *a)
{
	uint64_t ns = slots[TOOK + (a - actions)];

	return ns < LONGEST_TURN ? ns : LONGEST_TURN;
}

static struct turn turn_of(const struct action *a, const struct action *other, uint64_t *state)
{
	struct turn t = { .a = a, .spins = rnd(state) % 20000 };

	if (rnd(state) % 2)
		t.ns = rnd(state) % (took(other) + 1);
	return t;
}

static pid_t start_actor(const struct turn *t, char *p, unsigned int who)
{
	pid_t pid = fork_sharing(NR);

	if (pid)
		return pid;
	await(READY, 1);
	spin_barrier(START, 3);
	/* the other one needs the CPU */
	if (t->ns)
		usleep(t->ns / 1000);
	spin(t->spins);
	slots[CPU_BEGUN + who] = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	slots[BEGUN + who] = now_ns();
	t->a->fn(p, who);
	slots[ENDED + who] = now_ns();
	arrive(ACTED);
	verify_after(t->a, p, who);
	await(LOOKED, 1);
	verify_after(t->a, p, who);
	done();
}

static uint64_t children_cpu_ns(void)
{
	struct rusage r;

	getrusage(RUSAGE_CHILDREN, &r);
	return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000ULL +
	       (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000ULL;
}

/* Who exits does not say when that was over, but has used so much CPU time for it at least. */
static void join_actor(pid_t pid, const struct action *a, unsigned int who)
{
	uint64_t cpu = children_cpu_ns();

	join(pid);
	if (a->leaves == EXITS) {
		cpu = children_cpu_ns() - cpu;
		if (cpu < slots[CPU_BEGUN + who])
			cpu = slots[CPU_BEGUN + who];
		slots[ENDED + who] = slots[BEGUN + who] + cpu - slots[CPU_BEGUN + who];
	}
	slots[TOOK + (a - actions)] = slots[ENDED + who] - slots[BEGUN + who];
}

/*
 * Have pages of the tables that all of them share in swap.  Without the delays, which are
 * for the race and not for what comes before it.
 */
static void swap_out(char *p)
{
	long delay = read_long(DELAY);
	unsigned int tries;

	if (delay >= 0)
		write_file(DELAY, "0");
	for (tries = 0; tries < 5 && !in_swap(p); tries++)
		reclaim();
	slots[ROUNDS_IN_SWAP] += in_swap(p) > 0;
	if (delay >= 0)
		write_file(DELAY, "%ld", delay);
}

static void one_round(const struct action *a, const struct action *b, uint64_t *state)
{
	struct turn turn_a = turn_of(a, b, state), turn_b = turn_of(b, a, state);
	unsigned int acted = (a->leaves != EXITS) + (b->leaves != EXITS);
	pid_t first, second, looker;
	struct events before;
	unsigned long i, looks;
	char *p;

	steps_reset();
	p = map_blocks(NR);
	for (i = 0; i < NR; i++) {
		fill(p, i * BLOCK_PAGES, FEW, ORIGIN);
		fill_alike(p, i * BLOCK_PAGES + FEW, ALIKE, ORIGIN);
	}
	looker = fork_sharing(NR);
	if (!looker) {
		await(READY, 1);
		spin_barrier(START, 3);
		for (looks = 0; looks < 3; looks++)
			for (i = 0; i < NR; i++)
				verify(p, i * BLOCK_PAGES, FEW, ORIGIN);
		await(ACTED, acted);
		for (i = 0; i < NR; i++) {
			verify(p, i * BLOCK_PAGES, FEW, ORIGIN);
			verify_alike(p, i * BLOCK_PAGES + FEW, ALIKE, ORIGIN);
			fill(p, i * BLOCK_PAGES, FEW, LATER);
		}
		arrive(LOOKED);
		for (i = 0; i < NR; i++)
			verify(p, i * BLOCK_PAGES, FEW, LATER);
		done();
	}
	first = start_actor(&turn_a, p, 0);
	second = start_actor(&turn_b, p, 1);
	if (!plain && (a->fn == act_swapoff || b->fn == act_swapoff))
		swap_out(p);
	/* without what swap_out() has changed */
	events_get(&before);
	/* three share when the race begins, and this one is leaving or has left */
	arrive(READY);
	unmap_blocks(p, NR);
	join_actor(first, a, 0);
	join_actor(second, b, 1);
	join(looker);
	slots[INPLACE] += event_delta(&before, EV_INPLACE);
	slots[MET] += slots[BEGUN] < slots[ENDED + 1] && slots[BEGUN + 1] < slots[ENDED];
}

/* Rounds that are added, at most, until the operations of a case have done something. */
#define MORE		20

/* Skips the case if @a could do nothing here. */
static void need(const struct action *a)
{
	if ((a->fn == act_reclaim || a->fn == act_swapoff) && !have_swap())
		skip_case("no swap");
	if (a->fn == act_migrate && access("/sys/devices/system/node/node1", F_OK))
		skip_case("one node only");
	if (a->fn == act_collapse && access("/sys/kernel/mm/transparent_hugepage", F_OK))
		skip_case("no huge pages");
	if (a->fn == act_merge && ksm_scans() < 0)
		skip_case("no KSM");
}

static void rounds_begin(const struct action *a, const struct action *b)
{
	if (!plain) {
		need(a);
		need(b);
		cgroup_enter();
	}
	ksm_runs = settings_set(0, NR_KSM_SETTINGS);
}

/* What the case is about and has not happened in it yet, or NULL. */
static const char *missing(const struct action *a)
{
	if (plain)
		return NULL;
	if (a->fn == act_reclaim && !slots[DID_RECLAIM])
		return "nothing was reclaimed";
	if (a->fn == act_migrate && !slots[DID_MIGRATE])
		return "no page has moved";
	if ((a->fn == act_reclaim || a->fn == act_migrate) && !slots[INPLACE])
		return "no entry was changed for all";
	if (a->fn == act_collapse && !slots[DID_COLLAPSE])
		return "nothing was collapsed";
	if (a->fn == act_merge && !slots[DID_MERGE])
		return "KSM has merged nothing";
	if (a->fn == act_swapoff && !slots[ROUNDS_IN_SWAP])
		return "nothing was swapped out";
	if (a->fn == act_swapoff && !slots[DID_SWAPOFF])
		return "swapoff never had a page to read";
	return NULL;
}

static void rounds_end(unsigned int n, const char *delays, const struct action *a,
		       const struct action *b)
{
	unsigned long long v[MET + 1];
	unsigned int i;

	for (i = DID_RECLAIM; i <= MET; i++)
		v[i] = slots[i];
	note("%u rounds%s: both at once in %llu; reclaimed %llu times, compaction moved %llu pages and move_pages %llu, %llu blocks collapsed, merged %llu times, pages in swap in %llu, swapoff read some %llu times and failed %llu times, %llu changes in place",
	     n, delays, v[MET], v[DID_RECLAIM], v[DID_COMPACT], v[DID_MIGRATE], v[DID_COLLAPSE],
	     v[DID_MERGE], v[ROUNDS_IN_SWAP], v[DID_SWAPOFF], v[SWAPOFF_FAILED],
	     v[INPLACE]);
	settings_back(0, NR_KSM_SETTINGS);
	check(!missing(a), "%s", missing(a));
	check(!missing(b), "%s", missing(b));
}

static void against_all(const struct action *a)
{
	long delay = read_long(DELAY);
	const struct action *b;
	unsigned int round, more, n = 0;
	uint64_t state = seed;

	rounds_begin(a, a);
	for (round = 0; round < rounds(1); round++) {
		/* a delay per page of a table: the long ones are not for every round */
		if (delay >= 0)
			write_file(DELAY, "%d", round % 4 == 3 ? 5000 : 300);
		for (b = actions; b < actions + ARRAY_LEN(actions); b++, n++)
			one_round(a, b, &state);
	}
	for (more = 0; more < MORE && missing(a); more++, n++)
		one_round(a, &actions[more % ARRAY_LEN(actions)], &state);
	if (delay >= 0)
		write_file(DELAY, "%ld", delay);
	rounds_end(n, delay >= 0 ? ", with delays" : "", a, a);
}

static const struct action *action_of(const char *name)
{
	const struct action *a = actions;

	while (a < actions + ARRAY_LEN(actions) && strcmp(a->name, name))
		a++;
	check(a < actions + ARRAY_LEN(actions), "there is no action '%s'", name);
	return a;
}

/*
 * The pairs that meet most often, or that a design of this kind has most to fear from,
 * for as many rounds as wanted.  Half of them without delays, as the windows are then.
 */
static void one_pair(const char *first, const char *second)
{
	static const int delays[] = { 0, 300, 0, 2000 };
	const struct action *pair[] = { action_of(first), action_of(second) };
	long delay = read_long(DELAY);
	uint64_t state = seed;
	unsigned int round, nr = rounds(4);

	rounds_begin(pair[0], pair[1]);
	for (round = 0; round < nr || (round < nr + MORE && (missing(pair[0]) || missing(pair[1])));
	     round++) {
		if (delay >= 0)
			write_file(DELAY, "%d", delays[round % 4]);
		/* who forks first, and has the first block first */
		one_round(pair[round / 4 % 2], pair[!(round / 4 % 2)], &state);
	}
	if (delay >= 0)
		write_file(DELAY, "%ld", delay);
	rounds_end(round, delay >= 0 ? ", half of them with delays" : "", pair[0], pair[1]);
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
	write_file(POINTS, "%#x", WINDOW_LEAVE);
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

/*
 * One mm against its own fork.  A thread acts, the main thread forks, both at a moment
 * chosen anew each round.  The child looks at once, again when the thread has acted, and
 * a last time when it has written itself: memory that is its own never changes under it.
 */
struct duel {
	void (*act)(void);
	char *p;
	/* what act() is to work on; set before each round */
	unsigned int round, what, owner;
	unsigned long first;
	/* the blocks may be gone before they can be shared */
	bool may_be_gone;
	/* a fork must meet a pinned page; act() pins for good, so its moment can be sought */
	bool pins, stays_pinned;
	uint64_t later_ns;
	/* act() begins early, and goes on until the fork is over */
	bool goes_on, forked;
	long background, shared, fallbacks, delay;
	uint64_t state, fork_ns;
	bool stop;
	pthread_t thread;
};

static struct duel duel;

static void *duel_thread(void *arg)
{
	(void)arg;
	for (;;) {
		uint64_t state;

		barrier(GATHERED, 2);
		spin_barrier(START, 2);
		if (duel.stop)
			return NULL;
		/* from before the fork to its end */
		state = seed ^ duel.round;
		spin_ns(rnd(&state) % (duel.goes_on ? duel.fork_ns / 8 + 1 : duel.fork_ns));
		duel.act();
		spin_barrier(ACTED, 2);
	}
}

/* The blocks, and before there are any, what a fork without them shares. */
static char *duel_map(void)
{
	unsigned long b;
	char *p;

	memset(&duel, 0, sizeof(duel));
	duel.state = seed;
	duel.background = background_shares();
	p = map_blocks(NR);
	for (b = 0; b < NR; b++)
		fill(p, b * BLOCK_PAGES, FEW, ORIGIN);
	return p;
}

static void duel_begin(void (*act)(void), char *p)
{
	unsigned int i;
	uint64_t start;

	steps_reset();
	duel.act = act;
	duel.delay = read_long(DELAY);
	duel.p = p;
	start = now_ns();
	for (i = 0; i < 4; i++) {
		pid_t pid = xfork();

		if (!pid)
			done();
		join(pid);
	}
	/* with the exit, which makes up for the delays */
	duel.fork_ns = (now_ns() - start) / 4 + 1;
	check(!pthread_create(&duel.thread, NULL, duel_thread, NULL), "pthread_create");
}

/*
 * One fork beside one act().  Most rounds have short delays between the steps of the
 * kernel, a few long ones.  Returns as fork(); in the parent when both are over.
 */
static pid_t duel_round(unsigned int round)
{
	struct events before, after;
	bool shared, pinned;
	pid_t pid;

	duel.round = round;
	if (duel.delay >= 0)
		write_file(DELAY, "%d", round % 16 == 7 ? 5000 : round % 4 == 3 ? 300 : 20);
	duel.forked = false;
	events_get(&before);
	/* first without, then with all its CPU time */
	barrier(GATHERED, 2);
	spin_barrier(START, 2);
	spin_ns(duel.later_ns + rnd(&duel.state) % (duel.fork_ns / 2 + 1));
	pid = xfork();
	if (!pid)
		return 0;
	__atomic_store_n(&duel.forked, true, __ATOMIC_RELAXED);
	spin_barrier(ACTED, 2);
	arrive(OVER);
	/* the tables of the pages, or a reason why not */
	events_get(&after);
	shared = after.v[EV_SHARE] - before.v[EV_SHARE] >= duel.background + (long)NR;
	pinned = after.v[EV_FB_PINNED] > before.v[EV_FB_PINNED];
	check(plain || shared || pinned || duel.may_be_gone,
	      "round %u: not shared, and nothing was pinned", round);
	duel.shared += !plain && shared;
	duel.fallbacks += pinned;
	/* where the one is as likely as the other they meet most often */
	if (duel.stays_pinned && pinned)
		duel.later_ns /= 2;
	else if (duel.stays_pinned && duel.later_ns < 2 * duel.fork_ns)
		duel.later_ns += duel.fork_ns / 8;
	return pid;
}

/* In the child: the thread of the parent has acted. */
static void await_act(void)
{
	await(OVER, duel.round + 1);
}

/* In the child, which says so to slots: nothing, a part, or all. */
static void saw(unsigned int how_much)
{
	__atomic_add_fetch(&((uint64_t *)slots)[how_much], 1, __ATOMIC_RELAXED);
}

static void duel_end(void)
{
	duel.stop = true;
	barrier(GATHERED, 2);
	spin_barrier(START, 2);
	pthread_join(duel.thread, NULL);
	if (duel.delay >= 0)
		write_file(DELAY, "%ld", duel.delay);
	note("%u rounds: %ld with shared tables, %ld with pinned pages; seen by the child: nothing %llu, a part %llu, all %llu",
	     duel.round + 1, duel.shared, duel.fallbacks, (unsigned long long)slots[0],
	     (unsigned long long)slots[1], (unsigned long long)slots[2]);
	check(plain || duel.shared, "the tables were never shared");
	check(plain || !duel.pins || duel.fallbacks, "no fork has met a pinned page");
}

/* As many rounds as wanted; and more, but not for ever, until a page was pinned. */
static bool duel_goes_on(unsigned int round, unsigned int nr)
{
	return round < nr ||
	       (!plain && duel.pins && !duel.fallbacks && round < nr + 200);
}

#define TESTED	4UL
static char snapshot[TESTED * PAGE], direct[TESTED * PAGE] __attribute__((aligned(PAGE)));

/* The pages at duel.first are @owner's, all others as before. */
static void verify_tested(char *p, unsigned int owner)
{
	unsigned long b, n;

	for (b = 0; b < NR; b++)
		for (n = b * BLOCK_PAGES; n < b * BLOCK_PAGES + FEW; n++)
			if (n < duel.first || n >= duel.first + TESTED)
				verify(p, n, 1, ORIGIN);
	verify(p, duel.first, TESTED, owner);
}

/* Other pages each time, and always other bytes than in the round before. */
static void next_pages(char *p, unsigned int round, bool only_one)
{
	fill(p, duel.first, TESTED, ORIGIN);
	duel.first = rnd(&duel.state) % NR * BLOCK_PAGES + rnd(&duel.state) % (FEW - TESTED);
	duel.owner = round % 2 ? ORIGIN : OTHER;
	fill(p, duel.first, only_one ? 1 : TESTED, duel.owner);
}

static void make_pages(char *buf, unsigned long first, unsigned int owner)
{
	unsigned long i;

	for (i = 0; i < TESTED; i++)
		pattern_page(buf + i * PAGE, first + i, owner);
}

/* A file past the page cache: MANY times the same TESTED pages of FILE_DATA, and room. */
#define MANY	32UL
static int direct_fd;

static void open_direct(void)
{
	int fd = disk_file(2 * MANY * TESTED, FILE_DATA);
	unsigned long i;
	char path[64];

	make_pages(direct, 0, FILE_DATA);
	for (i = 0; i < MANY; i++)
		check(pwrite(fd, direct, TESTED * PAGE, i * TESTED * PAGE) == TESTED * PAGE,
		      "pwrite: %s", strerror(errno));
	fsync(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	direct_fd = open(path, O_RDWR | O_DIRECT);
	if (direct_fd < 0)
		skip_case("no file system with O_DIRECT, see COW_PTE_TEST_DIR");
	close(fd);
}

/*
 * The first pages of the file are read, others are written.  In every other pair of rounds
 * it is the same memory many times over in one call, and call after call until the fork is
 * over, so that it is pinned for most of that time.
 */
static void act_direct(void)
{
	unsigned int n = duel.goes_on ? MANY : 1, i;
	struct iovec iov[MANY];
	char *p = duel.p;
	ssize_t ret;

	for (i = 0; i < n; i++)
		iov[i] = (struct iovec){ AT(duel.first), TESTED * PAGE };
	do {
		if (duel.what == 1)
			ret = preadv(direct_fd, iov, n, 0);
		else
			ret = pwritev(direct_fd, iov, n, MANY * TESTED * PAGE);
		check(ret == (ssize_t)(n * TESTED * PAGE), "%s: %s",
		      duel.what == 1 ? "preadv" : "pwritev", strerror(errno));
	} while (duel.goes_on && !__atomic_load_n(&duel.forked, __ATOMIC_RELAXED));
}

/* Each word is of before or of the file, for a copy may be made in the midst of a transfer. */
static void look_at_read(char *p)
{
	static uint64_t before[TESTED * PAGE / 8], after[TESTED * PAGE / 8];
	uint64_t *got = (uint64_t *)snapshot;
	unsigned int old = 0, new = 0, i;

	memcpy(snapshot, AT(duel.first), TESTED * PAGE);
	make_pages((char *)before, duel.first, duel.owner);
	make_pages((char *)after, 0, FILE_DATA);
	for (i = 0; i < TESTED * PAGE / 8; i++) {
		check(got[i] == before[i] || got[i] == after[i],
		      "word %u is %#llx, neither of before nor of the file", i,
		      (unsigned long long)got[i]);
		old += got[i] != after[i];
		new += got[i] != before[i];
	}
	saw(!new ? 0 : old ? 1 : 2);
	await_act();
	check(!memcmp(snapshot, AT(duel.first), TESTED * PAGE),
	      "a read into the parent has changed the child's pages");
}

/*
 * fork against pins: the disk writes into pages of the parent, and reads from them,
 * while they are being shared.
 */
static void fork_against_direct(void)
{
	unsigned int round, nr = rounds(24);
	char *p;

	open_direct();
	p = duel_map();
	duel.pins = true;
	duel_begin(act_direct, p);
	for (round = 0; duel_goes_on(round, nr); round++) {
		unsigned long b, n;
		pid_t pid;

		next_pages(p, round / 2, false);
		duel.what = 1 + round % 2;
		duel.goes_on = round / 2 % 2;
		pid = duel_round(round);
		if (!pid) {
			if (duel.what == 1) {
				look_at_read(p);
			} else {
				verify_tested(p, duel.owner);
				fill(p, duel.first, TESTED, LATER);
				await_act();
				verify_tested(p, LATER);
			}
			fill(p, duel.first, TESTED, LATER);
			verify_tested(p, LATER);
			done();
		}
		if (duel.what == 1) {
			make_pages(direct, 0, FILE_DATA);
			check(!memcmp(direct, AT(duel.first), TESTED * PAGE),
			      "the parent has not got what was read");
			for (b = 0; b < NR; b++)
				for (n = b * BLOCK_PAGES; n < b * BLOCK_PAGES + FEW; n++)
					if (n < duel.first || n >= duel.first + TESTED)
						verify(p, n, 1, ORIGIN);
			join(pid);
			check(!memcmp(direct, AT(duel.first), TESTED * PAGE),
			      "the child has changed the parent's pages");
		} else {
			verify_tested(p, duel.owner);
			check(pread(direct_fd, direct, TESTED * PAGE, MANY * TESTED * PAGE) ==
			      TESTED * PAGE, "pread: %s", strerror(errno));
			make_pages(snapshot, duel.first, duel.owner);
			check(!memcmp(direct, snapshot, TESTED * PAGE),
			      "what was written is not what the parent has");
			join(pid);
			verify_tested(p, duel.owner);
		}
	}
	duel_end();
	unmap_blocks(p, NR);
}

/* A minimal io_uring: one submission at a time. */
static struct {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
} ring;

static void *ring_map(size_t size, off_t what)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		       ring.fd, what);

	check(p != MAP_FAILED, "mmap of the ring: %s", strerror(errno));
	return p;
}

static void ring_open(void)
{
	struct io_uring_params params = { 0 };
	char *sq, *cq;

	ring.fd = syscall(SYS_io_uring_setup, 4, &params);
	if (ring.fd < 0)
		skip_case("io_uring: %s", strerror(errno));
	sq = ring_map(params.sq_off.array + params.sq_entries * sizeof(unsigned int),
		      IORING_OFF_SQ_RING);
	cq = ring_map(params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe),
		      IORING_OFF_CQ_RING);
	ring.sqes = ring_map(params.sq_entries * sizeof(*ring.sqes), IORING_OFF_SQES);
	ring.sq_tail = (unsigned int *)(sq + params.sq_off.tail);
	ring.sq_mask = (unsigned int *)(sq + params.sq_off.ring_mask);
	ring.sq_array = (unsigned int *)(sq + params.sq_off.array);
	ring.cq_head = (unsigned int *)(cq + params.cq_off.head);
	ring.cq_tail = (unsigned int *)(cq + params.cq_off.tail);
	ring.cq_mask = (unsigned int *)(cq + params.cq_off.ring_mask);
	ring.cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
}

static void ring_rw(int op, int fd, void *buf, off_t offset)
{
	unsigned int tail = *ring.sq_tail, i = tail & *ring.sq_mask;
	struct io_uring_sqe *sqe = &ring.sqes[i];
	struct io_uring_cqe *cqe;

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = op;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)buf;
	sqe->len = PAGE;
	sqe->off = offset;
	ring.sq_array[i] = i;
	__atomic_store_n(ring.sq_tail, tail + 1, __ATOMIC_RELEASE);
	check(syscall(SYS_io_uring_enter, ring.fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1,
	      "io_uring_enter: %s", strerror(errno));
	check(__atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE) != *ring.cq_head,
	      "no completion");
	cqe = &ring.cqes[*ring.cq_head & *ring.cq_mask];
	check(cqe->res == (int)PAGE, "operation %d: %d", op, cqe->res);
	__atomic_store_n(ring.cq_head, *ring.cq_head + 1, __ATOMIC_RELEASE);
}

static void act_register(void)
{
	struct iovec iov = { duel.p + duel.first * PAGE, TESTED * PAGE };

	check(!syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &iov, 1),
	      "IORING_REGISTER_BUFFERS: %s", strerror(errno));
}

/*
 * fork against buffers that are registered for good.  Whatever the order, the ring and
 * the parent mean the same pages afterwards, and the child has others.
 */
static void fork_against_ring(void)
{
	unsigned int round, nr = rounds(14);
	int fd = test_file(2 * FEW, FILE_DATA);
	struct iovec iov;
	char *p, *buf;

	ring_open();
	p = duel_map();
	iov = (struct iovec){ p, PAGE };
	if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &iov, 1))
		skip_case("IORING_REGISTER_BUFFERS: %s", strerror(errno));
	syscall(SYS_io_uring_register, ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
	duel.pins = true;
	duel.stays_pinned = true;
	duel_begin(act_register, p);
	for (round = 0; duel_goes_on(round, nr); round++) {
		pid_t pid;

		next_pages(p, round, false);
		buf = AT(duel.first);
		pid = duel_round(round);
		if (!pid) {
			verify_tested(p, duel.owner);
			await_act();
			await(LOOKED, round + 1);
			verify_tested(p, duel.owner);
			fill(p, duel.first, TESTED, LATER);
			verify_tested(p, LATER);
			done();
		}
		/* the CPU writes, the ring reads; and the other way round */
		verify_tested(p, duel.owner);
		fill(p, duel.first + 1, 1, MINE);
		ring_rw(IORING_OP_WRITE_FIXED, fd, buf + PAGE, FEW * PAGE);
		check(pread(fd, direct, PAGE, FEW * PAGE) == (long)PAGE, "pread: %s",
		      strerror(errno));
		check(page_is(direct, duel.first + 1, MINE),
		      "the ring has not written what the parent has");
		ring_rw(IORING_OP_READ_FIXED, fd, buf + 2 * PAGE, 5 * PAGE);
		check(page_is(buf + 2 * PAGE, 5, FILE_DATA),
		      "the parent does not see what the ring has read");
		arrive(LOOKED);
		join(pid);
		verify(p, duel.first, 1, duel.owner);
		verify(p, duel.first + 1, 1, MINE);
		check(page_is(buf + 2 * PAGE, 5, FILE_DATA), "the child has changed the buffer");
		verify(p, duel.first + 3, 1, duel.owner);
		check(!syscall(SYS_io_uring_register, ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0),
		      "IORING_UNREGISTER_BUFFERS: %s", strerror(errno));
	}
	duel_end();
	unmap_blocks(p, NR);
}

static int splice_fds[2];

static void act_vmsplice(void)
{
	struct iovec iov = { duel.p + duel.first * PAGE, PAGE };

	check(vmsplice(splice_fds[1], &iov, 1, 0) == (long)PAGE, "vmsplice: %s",
	      strerror(errno));
}

/*
 * fork against references that are no pins.  The pipe has the page of the parent; the
 * child writes when the parent has it no more, or still has it, and that must not be in
 * the pipe.
 */
static void fork_against_vmsplice(void)
{
	unsigned int round, nr = rounds(24);
	char *p;

	p = duel_map();
	duel_begin(act_vmsplice, p);
	for (round = 0; round < nr; round++) {
		unsigned long in_block;
		pid_t pid;

		check(!pipe(splice_fds), "pipe: %s", strerror(errno));
		next_pages(p, round, true);
		in_block = duel.first / BLOCK_PAGES * BLOCK_PAGES;
		pid = duel_round(round);
		if (!pid) {
			verify(p, duel.first, 1, duel.owner);
			await(LOOKED, round + 1);
			verify(p, duel.first, 1, duel.owner);
			fill(p, duel.first, 1, LATER);
			verify(p, duel.first, 1, LATER);
			verify(p, duel.first + 1, TESTED - 1, ORIGIN);
			arrive(STABLE);
			await(LEAVE, round + 1);
			verify(p, duel.first, 1, LATER);
			done();
		}
		verify(p, duel.first, 1, duel.owner);
		if (round % 3 == 1)
			check(!madvise(AT(duel.first), PAGE, MADV_DONTNEED),
			      "MADV_DONTNEED: %s", strerror(errno));
		else if (round % 3 == 2)
			check(!madvise(AT(in_block), BLOCK, MADV_DONTNEED), "MADV_DONTNEED: %s",
			      strerror(errno));
		arrive(LOOKED);
		await(STABLE, round + 1);
		check(read(splice_fds[0], direct, PAGE) == (long)PAGE, "read: %s",
		      strerror(errno));
		check(page_is(direct, duel.first, duel.owner),
		      "round %u: the pipe has %s", round,
		      page_is(direct, duel.first, LATER) ? "what the child has written" :
							   "something else");
		arrive(LEAVE);
		join(pid);
		verify(p, duel.first, 1, round % 3 ? OWNER_ZERO : duel.owner);
		if (round % 3 == 2)
			fill(p, in_block, FEW, ORIGIN);
		close(splice_fds[0]);
		close(splice_fds[1]);
	}
	duel_end();
	unmap_blocks(p, NR);
}

/* Pages in the order in which the thread writes them: from block to block, and holes. */
#define HOLES		8UL
#define WRITTEN		(NR * (FEW + HOLES))
#define IN_ORDER(i)	((i) % NR * BLOCK_PAGES + (i) / NR)

static void act_write_all(void)
{
	unsigned long i;

	for (i = 0; i < WRITTEN; i++)
		fill(duel.p, IN_ORDER(i), 1, duel.owner);
}

/*
 * What the thread had written when the parent forked: all pages up to one, a part of that
 * one in the order of fill(), and none after it.
 */
static unsigned int written_pages(char *p, unsigned int before)
{
	static uint64_t old[PAGE / 8], new[PAGE / 8];
	unsigned long i, w, all = 0, none = 0;
	bool ended = false;

	for (i = 0; i < WRITTEN; i++) {
		uint64_t *got = (uint64_t *)AT(IN_ORDER(i));

		pattern_page(new, IN_ORDER(i), duel.owner);
		if (!ended && !memcmp(got, new, PAGE)) {
			all++;
			continue;
		}
		pattern_page(old, IN_ORDER(i), i / NR < FEW ? before : OWNER_ZERO);
		if (!memcmp(got, old, PAGE)) {
			ended = true;
			none++;
			continue;
		}
		for (w = 0; w < PAGE / 8; w++) {
			check(got[w] == old[w] || got[w] == new[w], "page %lu, word %lu: %#llx",
			      IN_ORDER(i), w, (unsigned long long)got[w]);
			check(!ended || got[w] == old[w],
			      "page %lu, word %lu was written, an earlier one was not",
			      IN_ORDER(i), w);
			ended |= got[w] != new[w];
		}
	}
	return all == WRITTEN ? 2 : none == WRITTEN ? 0 : 1;
}

/* fork against faults, of pages that are there and of holes. */
static void fork_against_writes(void)
{
	unsigned int round, nr = rounds(12), first, again, before;
	unsigned long b;
	char *p;

	p = duel_map();
	for (b = 0; b < NR; b++)
		fill(p, b * BLOCK_PAGES, FEW, FIRST_WRITE + 1);
	duel_begin(act_write_all, p);
	for (round = 0; round < nr; round++) {
		pid_t pid;

		duel.owner = FIRST_WRITE + round % 2;
		before = FIRST_WRITE + (round + 1) % 2;
		for (b = 0; b < NR; b++)
			check(!madvise(AT(b * BLOCK_PAGES + FEW), HOLES * PAGE, MADV_DONTNEED),
			      "MADV_DONTNEED: %s", strerror(errno));
		pid = duel_round(round);
		if (!pid) {
			first = written_pages(p, before);
			saw(first);
			await_act();
			again = written_pages(p, before);
			check(first == again, "the parent's writes appear in the child");
			fill(p, IN_ORDER(round % WRITTEN), 1, LATER);
			verify(p, IN_ORDER(round % WRITTEN), 1, LATER);
			done();
		}
		for (b = 0; b < NR; b++)
			verify(p, b * BLOCK_PAGES, FEW + HOLES, duel.owner);
		join(pid);
		for (b = 0; b < NR; b++)
			verify(p, b * BLOCK_PAGES, FEW + HOLES, duel.owner);
	}
	duel_end();
	unmap_blocks(p, NR);
}

enum { PART_UNMAP, PART_PROTECT, PART_DROP, WHOLE_UNMAP, WHOLE_DROP, NR_UNMAPS };

/* One system call a block, the second block first. */
static void act_unmap(void)
{
	long b;

	for (b = NR - 1; b >= 0; b--) {
		char *block = duel.p + b * BLOCK, *part = block + 6 * PAGE;
		int ret = -1;

		switch (duel.owner) {
		case PART_UNMAP:
			ret = munmap(part, 3 * PAGE);
			break;
		case PART_PROTECT:
			ret = mprotect(part, 3 * PAGE, PROT_NONE);
			break;
		case PART_DROP:
			ret = madvise(part, 3 * PAGE, MADV_DONTNEED);
			break;
		case WHOLE_UNMAP:
			ret = munmap(block, BLOCK);
			break;
		case WHOLE_DROP:
			ret = madvise(block, BLOCK, MADV_DONTNEED);
		}
		check(!ret, "operation %u: %s", duel.owner, strerror(errno));
	}
}

/* Has the operation been done on @block?  All of its pages must say the same. */
static bool unmapped(char *p, unsigned long b)
{
	unsigned long first = b * BLOCK_PAGES, i, n = FEW, at = 0;
	bool acted, faults;

	if (duel.owner <= PART_DROP) {
		at = 6;
		n = 3;
	}
	faults = duel.owner != PART_DROP && duel.owner != WHOLE_DROP;
	acted = faults ? read_faults(AT(first + at)) :
			 page_is(AT(first + at), first + at, OWNER_ZERO);
	verify(p, first, at, ORIGIN);
	if (at)
		verify(p, first + at + n, FEW - at - n, ORIGIN);
	if (!acted)
		verify(p, first + at, n, ORIGIN);
	else if (!faults)
		verify(p, first + at, n, OWNER_ZERO);
	else
		/* signals are slow: the ends, and one between them */
		for (i = 1; i <= 2; i++)
			check(read_faults(AT(first + at + i * (n - 1) / 2)),
			      "page %lu can be read", first + at + i * (n - 1) / 2);
	return acted;
}

/* What the child may still write to, it writes to. */
static void write_the_rest(char *p, const bool *acted)
{
	unsigned long b;

	for (b = 0; b < NR; b++) {
		if (acted[b] && duel.owner == WHOLE_UNMAP)
			continue;
		fill(p, b * BLOCK_PAGES + 2, 2, LATER);
		verify(p, b * BLOCK_PAGES + 2, 2, LATER);
		verify(p, b * BLOCK_PAGES + 4, 2,
		       acted[b] && duel.owner == WHOLE_DROP ? OWNER_ZERO : ORIGIN);
	}
}

/*
 * fork against those that change mappings and take pages away.  Each call is done before
 * the fork or after it, and if the second one was, so was the first.
 */
static void fork_against_unmap(void)
{
	unsigned int round, nr = rounds(15);
	unsigned long b;
	char *p;

	p = duel_map();
	duel_begin(act_unmap, p);
	unmap_blocks(p, NR);
	for (round = 0; round < nr; round++) {
		bool first[NR];
		pid_t pid;

		p = map_blocks(NR);
		duel.p = p;
		duel.owner = round % NR_UNMAPS;
		duel.may_be_gone = duel.owner >= WHOLE_UNMAP;
		for (b = 0; b < NR; b++)
			fill(p, b * BLOCK_PAGES, FEW, ORIGIN);
		pid = duel_round(round);
		if (!pid) {
			for (b = 0; b < NR; b++)
				first[b] = unmapped(p, b);
			check(first[1] || !first[0], "the second call is seen, the first not");
			saw(first[0] + first[1]);
			await_act();
			for (b = 0; b < NR; b++)
				check(unmapped(p, b) == first[b],
				      "what the parent unmaps goes in the child");
			write_the_rest(p, first);
			done();
		}
		for (b = 0; b < NR; b++)
			check(unmapped(p, b), "block %lu: the call has no effect", b);
		join(pid);
		for (b = 0; b < NR; b++)
			check(unmapped(p, b), "block %lu: the child changed it", b);
		unmap_blocks(p, NR);
	}
	duel_end();
}

/* As in a duel, but the other side is a thread of the kernel. */
static void set_delay(long delay, unsigned int round)
{
	if (delay >= 0)
		write_file(DELAY, "%d", round % 16 == 7 ? 5000 : round % 4 == 3 ? 300 : 20);
}

/*
 * fork against khugepaged, which takes the tables of one mm away while its fork shares
 * them.  It leaves shared ones alone, so the parent writes to have them for itself.
 */
static void fork_against_khugepaged(void)
{
	const unsigned int end = ARRAY_LEN(settings);
	unsigned int round, nr = rounds(16), huge = 0, shared = 0, most = nr + 100, tries;
	long delay = read_long(DELAY), base = background_shares();
	uint64_t state = seed;
	unsigned long b;
	char *p;

	if (!settings_set(NR_KSM_SETTINGS, end)) {
		settings_back(NR_KSM_SETTINGS, end);
		skip_case("no khugepaged to set");
	}
	p = map_blocks(NR);
	for (b = 0; b < NR; b++)
		fill(p, b * BLOCK_PAGES, FEW, ORIGIN);
	/* as many rounds as wanted; and more, but not for ever, until it has done something */
	for (round = 0; round < nr || (huge < 2 && round < most); round++) {
		struct events before;
		pid_t pid;

		steps_reset();
		set_delay(delay, round);
		events_get(&before);
		/*
		 * Only now, when there are small pages: the first fault would bring a huge one.
		 * khugepaged comes within milliseconds, before, while or after this forks.
		 */
		check(!madvise(p, NR * BLOCK, MADV_HUGEPAGE), "MADV_HUGEPAGE: %s",
		      strerror(errno));
		spin_ns(rnd(&state) % 8 * 2000000);
		pid = xfork();
		if (!pid) {
			for (b = 0; b < NR; b++)
				verify(p, b * BLOCK_PAGES, FEW, ORIGIN);
			await(START, 1);
			for (b = 0; b < NR; b++) {
				verify(p, b * BLOCK_PAGES, FEW, ORIGIN);
				fill(p, b * BLOCK_PAGES + 3, 2, LATER);
				verify(p, b * BLOCK_PAGES, 3, ORIGIN);
				verify(p, b * BLOCK_PAGES + 3, 2, LATER);
				verify(p, b * BLOCK_PAGES + 5, FEW - 5, ORIGIN);
				verify(p, b * BLOCK_PAGES + FEW, 8, OWNER_ZERO);
			}
			done();
		}
		/* one block at least, if khugepaged has been quick with the other */
		shared += event_delta(&before, EV_SHARE) > base;
		for (b = 0; b < NR; b++)
			fill(p, b * BLOCK_PAGES + 8, 2, MINE);
		arrive(START);
		for (b = 0; b < NR; b++) {
			verify(p, b * BLOCK_PAGES, 8, ORIGIN);
			verify(p, b * BLOCK_PAGES + 8, 2, MINE);
			verify(p, b * BLOCK_PAGES + 10, FEW - 10, ORIGIN);
		}
		join(pid);
		/* the tables are private now, and the pages have been used */
		for (b = 0; b < NR; b++) {
			fill(p, b * BLOCK_PAGES, FEW, ORIGIN);
			verify(p, b * BLOCK_PAGES + FEW, 8, OWNER_ZERO);
		}
		/* it has the lowest priority, and other memory to look at: wait for it at last */
		for (tries = 0; round >= nr && tries < 300; tries++) {
			if (smaps_kb(0, p, "AnonHugePages") > 0)
				break;
			usleep(1000);
		}
		if (smaps_kb(0, p, "AnonHugePages") <= 0) {
			madvise(p, NR * BLOCK, MADV_NOHUGEPAGE);
			continue;
		}
		huge++;
		for (b = 0; b < NR; b++) {
			verify(p, b * BLOCK_PAGES, FEW, ORIGIN);
			verify(p, b * BLOCK_PAGES + FEW, BLOCK_PAGES - FEW, OWNER_ZERO);
		}
		/* small pages once more */
		check(!munmap(p, NR * BLOCK), "munmap: %s", strerror(errno));
		check(mmap(p, NR * BLOCK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p, "mmap: %s",
		      strerror(errno));
		madvise(p, NR * BLOCK, MADV_NOHUGEPAGE);
		for (b = 0; b < NR; b++)
			fill(p, b * BLOCK_PAGES, FEW, ORIGIN);
	}
	if (delay >= 0)
		write_file(DELAY, "%ld", delay);
	settings_back(NR_KSM_SETTINGS, end);
	note("%u rounds: %u with shared tables, khugepaged has collapsed %u times", round, shared,
	     huge);
	check(huge, "khugepaged did nothing");
	check(plain || shared, "the tables were never shared");
	unmap_blocks(p, NR);
}

/*
 * fork against ksmd: pages that are alike are merged, in tables that are about to be
 * shared, shared, or have just been copied.  A child lives until ksmd has looked at its
 * pages twice, in some rounds.
 */
static void fork_against_ksmd(void)
{
	unsigned int round, nr = rounds(10), shared = 0, merged = 0, tries, most = nr + 200;
	long delay = read_long(DELAY), base = background_shares(), scans;
	uint64_t state = seed;
	unsigned long b;
	char *p;

	if (!settings_set(0, NR_KSM_SETTINGS)) {
		settings_back(0, NR_KSM_SETTINGS);
		skip_case("no KSM to set");
	}
	p = map_blocks(NR);
	if (madvise(p, NR * BLOCK, MADV_MERGEABLE))
		skip_case("MADV_MERGEABLE: %s", strerror(errno));
	for (round = 0; round < nr || (merged < 2 && round < most); round++) {
		bool was_shared, waits = !(round % 3);
		struct events before;
		pid_t pid;

		steps_reset();
		set_delay(delay, round);
		/* unmerged each time, by writes */
		for (b = 0; b < NR; b++)
			fill_alike(p, b * BLOCK_PAGES, FEW, ORIGIN);
		scans = ksm_scans();
		if (round % 3 == 1)
			for (tries = 0; tries < 300 && ksm_scans() < scans + 2; tries++)
				usleep(1000);
		spin(rnd(&state) % 100000);
		events_get(&before);
		pid = xfork();
		if (!pid) {
			for (b = 0; b < NR; b++)
				verify_alike(p, b * BLOCK_PAGES, FEW, ORIGIN);
			await(START, 1);
			for (b = 0; b < NR; b++) {
				verify_alike(p, b * BLOCK_PAGES, FEW, ORIGIN);
				fill_alike(p, b * BLOCK_PAGES + 3, 3, LATER);
				verify_alike(p, b * BLOCK_PAGES, 3, ORIGIN);
				verify_alike(p, b * BLOCK_PAGES + 3, 3, LATER);
				verify_alike(p, b * BLOCK_PAGES + 6, FEW - 6, ORIGIN);
			}
			done();
		}
		was_shared = event_delta(&before, EV_SHARE) >= base + (long)NR;
		shared += was_shared;
		for (tries = 0; waits && tries < 300 && ksm_scans() < scans + 3; tries++)
			usleep(1000);
		if (read_long(KSM "pages_sharing") > 0)
			merged++;
		for (b = 0; b < NR; b++)
			fill_alike(p, b * BLOCK_PAGES + 8, 3, MINE);
		arrive(START);
		for (b = 0; b < NR; b++) {
			verify_alike(p, b * BLOCK_PAGES, 8, ORIGIN);
			verify_alike(p, b * BLOCK_PAGES + 8, 3, MINE);
			verify_alike(p, b * BLOCK_PAGES + 11, FEW - 11, ORIGIN);
		}
		join(pid);
		for (b = 0; b < NR; b++) {
			verify_alike(p, b * BLOCK_PAGES, 8, ORIGIN);
			verify_alike(p, b * BLOCK_PAGES + 8, 3, MINE);
		}
	}
	if (delay >= 0)
		write_file(DELAY, "%ld", delay);
	check(!madvise(p, NR * BLOCK, MADV_UNMERGEABLE), "MADV_UNMERGEABLE: %s", strerror(errno));
	for (b = 0; b < NR; b++) {
		verify_alike(p, b * BLOCK_PAGES, 8, ORIGIN);
		verify_alike(p, b * BLOCK_PAGES + 8, 3, MINE);
	}
	settings_back(0, NR_KSM_SETTINGS);
	note("%u rounds: %u with shared tables, merged pages in %u", round, shared, merged);
	check(merged, "ksmd did nothing");
	check(plain || shared, "the tables were never shared");
	unmap_blocks(p, NR);
}

#define CASE(i) static void case_##i(void) { against_all(&actions[i]); }
CASE(0) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)

/* "pair:" in a name is for the choice of cases. */
#define PAIRS(PAIR)							\
	PAIR(write, write) PAIR(write, exit) PAIR(exit, exit) PAIR(fork, write)	\
	PAIR(fork, reclaim) PAIR(fork, compaction) PAIR(fork, collapse)	\
	PAIR(fork, gup) PAIR(fork, swapoff) PAIR(fork, ksm) PAIR(munmap, reclaim)
#define PAIR_FN(a, b)	static void a##_##b(void) { one_pair(#a, #b); }
#define PAIR_CASE(a, b)	{ "pair: " #a " and " #b, a##_##b },
PAIRS(PAIR_FN)

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
	PAIRS(PAIR_CASE)
	{ "pages freed under a reader", freed_under_reader },
	{ "pages truncated under a reader", truncated_under_reader },
	{ "one mm: fork against O_DIRECT", fork_against_direct },
	{ "one mm: fork against registered buffers", fork_against_ring },
	{ "one mm: fork against vmsplice", fork_against_vmsplice },
	{ "one mm: fork against write faults", fork_against_writes },
	{ "one mm: fork against munmap, mprotect and MADV_DONTNEED", fork_against_unmap },
	{ "one mm: fork against khugepaged", fork_against_khugepaged },
	{ "one mm: fork against KSM", fork_against_ksmd },
};

int main(int argc, char **argv)
{
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
