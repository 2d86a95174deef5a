// SPDX-License-Identifier: GPL-2.0
/*
 * A differential fuzzer.
 *
 * A tree of processes does random operations on its memory, all processes at once.
 * Each process has a model of every page: what it holds, whether it may be read or
 * written.  What an operation returns and what a page holds is compared with the
 * model; and since a process's private memory is its own affair, the same seed must
 * give the same results with shared page tables as without, however the processes
 * are scheduled.  The first case compares these, the resident pages and the size of the
 * page tables, process by process; the second adds what moves pages about: swap,
 * compaction, KSM, huge pages, other processes that look in.  It compares the results,
 * too; which pages are resident then is the weather.  Both ask whether the counters of a
 * process are what its tables have, when it is born and when it ends.
 *
 * Each process has a second thread, with pages and a model of its own: fork may come at
 * any moment of what that one does.
 *
 * Operation K of a process draws its numbers from a generator of its own, made from
 * the seed, the process's place in the tree and K.  So a run can be cut short (--ops,
 * --depth) or thinned out (--kinds) and what is left does the same: --shrink looks
 * for the smallest run that fails.
 *
 * Not here, because it needs an ordering, a device or a privilege of its own, or takes
 * memory from everybody; each has a case elsewhere:
 *   hwpoison, soft offline, memory hot-unplug, DAMON, uprobes, perf samples, time
 *   namespaces, the OOM reaper, exclusive access of a device, PCI memory, trace buffers and
 *   io_uring rings in a hole: users.c;
 *   what migrates to a device, MMU notifiers: rmap.c ("pages that another process moves to a
 *   device"), interface.c ("mmu notifiers"), nomem.c ("mmu notifier"); invalidated pages of a
 *   file and a block device: rmap.c;
 *   pins that last over a fork (io_uring buffers), core dumps: gup.c, races.c ("one mm: fork
 *   against registered buffers");
 *   hugetlb neighbours, moves of whole upper levels, shared mappings beside shared tables,
 *   events of userfaultfd that the parent answers: mm_ops.c ("hugetlb beside a shared table",
 *   "mremap of a GiB, shared again", "edges beside a shared mapping", "userfaultfd of the
 *   child"); files on a disk that are truncated: mm_ops.c ("truncate on disk");
 *   what smaps, soft-dirty bits, page_idle, oom_score and the tracepoints say, and whose
 *   cgroup pays: smaps.c (here they are read, or cleared, and not compared);
 *   VmHWM and the system's page tables: accounting.c;
 *   memory cgroups that are full: reclaim.c; allocations that fail: nomem.c;
 *   vfork: fork.c, interface.c; set-user-ID programs: interface.c.
 * apply_to_page_range() has no caller in a VM, and no test.  Page table isolation and 5-level
 * tables are ways to boot, with this as with all tests; PAE and Xen PV never share.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <linux/if_packet.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cow_pte_util.h"

#define MPOL_PREFERRED		1
#define MPOL_BIND		2
#define MPOL_INTERLEAVE		3
#define MPOL_MF_MOVE		2

/*
 * The arena.  The main thread has the first blocks, the second one the rest of the last
 * of them and a part of the next one; then come pages with a rising number,
 * and one that other processes write to.  A page between two of these is a mapping that
 * is never merged with its neighbours, so no operation depends on those.
 */
#define BASE		((char *)0x200000000000UL)
#define MAIN_PAGES	(4 * BLOCK_PAGES - 64)
#define SECOND_FIRST	(MAIN_PAGES + 1)
#define SECOND_END	(4 * BLOCK_PAGES + 200)
#define THREAD_FIRST	(SECOND_END + 1)
#define THREAD_PAGES	48UL
#define MAILBOX		(THREAD_FIRST + THREAD_PAGES)
#define PAGES		(MAILBOX + 1)
#define MAX_RANGE	(4 * BLOCK_PAGES)
/* A mapping of the file starts within the first 64 pages, and see pick_range(). */
#define FILE_PAGES	(64 + 2 * BLOCK_PAGES + 64)
#define AT(n)		(BASE + (n) * PAGE)
#define MAX_CHILDREN	2

enum page_flag {
	MAPPED = 1, READ = 2, WRITE = 4, IS_FILE = 8, DONT_FORK = 16, WIPE = 32,
	LOCKED = 64,
	/* holds its value or zero: MADV_FREE; and zero it is */
	MAYBE = 128, GONE = 256,
};

struct page {
	uint64_t val;		/* 0: nothing but zeroes */
	uint16_t file_page;
	uint16_t flags;
};

/* Private memory, so what is tested here keeps its own books too. */
static struct page model[PAGES];
/* few where nobody has asked for more: every process of a tree costs seconds with KASAN */
#define FEW_OPS		20
#define MANY_OPS	60
static unsigned int nr_ops = FEW_OPS, max_depth = 2;
/* seeds that are tried without --seconds, from --seed on; the first one when it shrinks */
static unsigned int nr_seeds = 3;
/* so many operations, and so long under pressure, and all that must happen has happened */
#define ENOUGH_OPS	300
#define ENOUGH_SECONDS	20
static uint64_t kinds = ~0ULL;
static bool pressure;
/* a kernel without huge pages */
static bool no_huge_pages;

/* This process. */
static struct sizes born;
static uint64_t path, thread_count, thread_hash;
static unsigned int depth;
static int data_fd = -1, direct_fd = -1;
static volatile bool thread_stop;
static pthread_t thread;
/* The second thread has had all its operations. */
static volatile bool second_idle;

/* This thread: its pages, its generator, its operation. */
static __thread unsigned long lo, hi = MAIN_PAGES;
static __thread uint64_t rng, hash;
static __thread unsigned int op_index;
static __thread const char *op_name = "start";
/* It has done something: the rest of it has not returned an error, or found nothing to do. */
static __thread bool did;
static __thread int pipe_fd[2];
#define is_main		(!lo)

/* Words that all processes share. */
enum slot {
	SL_OPS, SL_PROCESSES, SL_FORKS,
	/* from run to run */
	SL_KEPT, SL_MOVES = SL_KEPT, SL_STOP, SL_SWAPOFFS, SL_AGED, SL_SPLITS, SL_AGREED, SL_LOOKS,
	SL_PIDS, NR_PIDS = 20,
};

/* Per kind of operation: how often one began, and how often it did something. */
#define MAX_KINDS	64
static struct tally {
	uint64_t begun, did;
} *tally;

/* What each process of a tree had in the end, for comparison; memory that all share. */
#define MAX_RESULTS	1024
static struct result {
	uint64_t path, hash;
	/* of the main thread's pages when it was born, of the arena when it ended; kB */
	struct sizes {
		long rss, anon, swap;
	} born, ended;
	long pte;
} *results;

/* The operations of the main thread; the second one has half as many. */
static unsigned int my_ops(void)
{
	return nr_ops / (1 + depth);
}

static uint64_t mix3(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t s = a ^ (b * 0x9e3779b97f4a7c15ULL) ^ (c * 0xc2b2ae3d27d4eb4fULL);

	rnd(&s);
	return rnd(&s) ^ rnd(&s);
}

static unsigned long pick(unsigned long n)
{
	return rnd(&rng) % n;
}

static void add_hash(uint64_t v)
{
	hash = mix3(hash, v, 1);
}

/* What repeats a run, and --shrink needs. */
#define OPTIONS		"--seed %" PRIu64 " --ops %u --depth %u"
#define OPTION_VALUES	seed, nr_ops, max_depth

#define wrong(fmt, ...)							\
	fail(OPTIONS ": process %#" PRIx64 ", %s thread, operation %u (%s): " fmt, \
	     OPTION_VALUES, path, is_main ? "main" : "second", op_index, op_name, ##__VA_ARGS__)
#define must(cond, ...)							\
	do {								\
		if (!(cond))						\
			wrong(__VA_ARGS__);				\
	} while (0)

/* Pages hold their value in three places. */
static const unsigned int places[] = { 0, 2040, 4088 };

static uint64_t word_of(uint64_t val, unsigned int place)
{
	return val ? val ^ ((uint64_t)places[place] << 20) : 0;
}

static uint64_t file_val(unsigned int file_page)
{
	return 0xf11e00000000ULL + file_page;
}

static void make_page(void *buf, uint64_t val)
{
	unsigned int i;

	memset(buf, 0, PAGE);
	for (i = 0; i < ARRAY_LEN(places); i++)
		*(uint64_t *)((char *)buf + places[i]) = word_of(val, i);
}

static __thread sigjmp_buf fault_env;
static __thread volatile sig_atomic_t armed;
/* what peek() or poke() had */
static __thread struct {
	int sig, code;
	char *at;
} fault;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!armed) {
		signal(sig, SIG_DFL);
		return;
	}
	fault.sig = sig;
	fault.code = info->si_code;
	fault.at = info->si_addr;
	siglongjmp(fault_env, 1);
}

/* Reads a page's words; false if that faulted. */
static bool peek(unsigned long n, uint64_t *words)
{
	unsigned int i;

	if (sigsetjmp(fault_env, 1)) {
		armed = 0;
		return false;
	}
	armed = 1;
	for (i = 0; i < ARRAY_LEN(places); i++)
		words[i] = *(volatile uint64_t *)(AT(n) + places[i]);
	armed = 0;
	return true;
}

/* Nobody writes elsewhere in a page; false if a byte between the words is not zero. */
static bool rest_is_zero(unsigned long n)
{
	const volatile uint64_t *p = (void *)AT(n);
	uint64_t any = 0;
	unsigned int i, k;

	for (i = 0; i + 1 < ARRAY_LEN(places); i++)
		for (k = places[i] / 8 + 1; k < places[i + 1] / 8; k++)
			any |= p[k];
	return !any;
}

static bool poke(unsigned long n, uint64_t val)
{
	unsigned int i;

	if (sigsetjmp(fault_env, 1)) {
		armed = 0;
		return false;
	}
	armed = 1;
	for (i = 0; i < ARRAY_LEN(places); i++)
		*(volatile uint64_t *)(AT(n) + places[i]) = word_of(val, i);
	armed = 0;
	return true;
}

static bool can(unsigned long n, unsigned int flag)
{
	return (model[n].flags & (MAPPED | flag)) == (MAPPED | flag);
}

/* The access of page @n that has just failed had this signal. */
static void check_signal(unsigned long n, int sig, int code)
{
	must(fault.sig == sig && fault.code == code && fault.at == AT(n),
	     "page %lu (flags %#x): signal %d, code %d, at %p, must be %d, %d, at %p", n,
	     model[n].flags, fault.sig, fault.code, fault.at, sig, code, AT(n));
}

static void check_refused(unsigned long n)
{
	check_signal(n, SIGSEGV, can(n, 0) ? SEGV_ACCERR : SEGV_MAPERR);
}

static void check_words(unsigned long n, const uint64_t *words)
{
	struct page *m = &model[n];
	unsigned int i, good = 0, zero = 0;

	for (i = 0; i < ARRAY_LEN(places); i++) {
		good += words[i] == word_of(m->val, i);
		zero += !words[i];
	}
	if (good == ARRAY_LEN(places) && (!m->val || !(m->flags & GONE)))
		return;
	/* Nothing but this depends on whether it is gone: the weather decides. */
	if ((m->flags & MAYBE) && zero == ARRAY_LEN(places)) {
		m->flags |= GONE;
		return;
	}
	wrong("page %lu (flags %#x) holds %#" PRIx64 " %#" PRIx64 " %#" PRIx64 ", must hold %#" PRIx64,
	      n, m->flags, words[0], words[1], words[2], m->val);
}

static void check_page(unsigned long n)
{
	uint64_t words[ARRAY_LEN(places)];
	bool ok = peek(n, words);

	must(ok == can(n, READ), "reading page %lu (flags %#x) %s", n,
	     model[n].flags, ok ? "worked" : "faulted");
	if (ok) {
		check_words(n, words);
		must(rest_is_zero(n), "page %lu (flags %#x) has what nobody wrote", n,
		     model[n].flags);
	} else {
		check_refused(n);
	}
}

/* Of the pages that cannot be read, a sample: signals are slow. */
static void check_all(void)
{
	unsigned long n;

	for (n = lo; n < hi; n++)
		if (can(n, READ) || !(n % 32))
			check_page(n);
}

static void set_page(unsigned long n, uint64_t val)
{
	model[n].val = val;
	model[n].flags &= ~(MAYBE | GONE);
}

/* What a page holds that nobody wrote. */
static void drop_page(unsigned long n)
{
	set_page(n, model[n].flags & IS_FILE ? file_val(model[n].file_page) : 0);
}

struct range {
	unsigned long first, nr, end;
};

/*
 * What the second thread's operation works on, and which it is, for a child that is born
 * meanwhile: of all other pages the model says what they are.
 */
static volatile struct range busy[4];
static volatile unsigned int nr_busy;
static const char *volatile busy_with;

static void works_on(unsigned long first, unsigned long end)
{
	if (is_main)
		return;
	must(nr_busy < ARRAY_LEN(busy), "too many ranges");
	busy[nr_busy].first = first;
	busy[nr_busy].end = end;
	nr_busy++;
	/* before anything that the operation does */
	__asm__ volatile("" ::: "memory");
}

static bool is_busy(unsigned long n)
{
	unsigned int i;

	for (i = 0; i < nr_busy; i++)
		if (n >= busy[i].first && n < busy[i].end)
			return true;
	return false;
}

/* Mostly short, often with an end at the edge of a block, sometimes long. */
static struct range pick_range(void)
{
	struct range r;

	r.first = lo + pick(hi - lo);
	switch (pick(8)) {
	case 0:
		r.first &= ~(BLOCK_PAGES - 1);
		r.nr = BLOCK_PAGES;
		break;
	case 1:
		r.nr = 1 + pick(BLOCK_PAGES + 40);
		break;
	case 2:
		r.first = (r.first | (BLOCK_PAGES - 1)) + 1 - pick(3);
		r.nr = 1 + pick(4);
		break;
	case 3:
		r.first &= ~(BLOCK_PAGES - 1);
		r.nr = (1 + pick(2)) * BLOCK_PAGES;
		break;
	default:
		r.nr = 1 + pick(20);
		break;
	}
	if (r.first < lo || r.first >= hi)
		r.first = lo;
	if (r.first + r.nr > hi)
		r.nr = hi - r.first;
	r.end = r.first + r.nr;
	works_on(r.first, r.end);
	return r;
}

static unsigned long pick_page(void)
{
	unsigned long n = lo + pick(hi - lo);

	works_on(n, n + 1);
	return n;
}

/* The first page of the range that is not mapped, or its end. */
static unsigned long hole_in(struct range r)
{
	unsigned long n;

	for (n = r.first; n < r.end; n++)
		if (!can(n, 0))
			break;
	return n;
}

static long result(long ret)
{
	return ret < 0 ? -errno : ret;
}

/* What is compared with the run without sharing, whatever it must be. */
static void outcome(long ret)
{
	add_hash(ret);
	did |= ret >= 0;
}

static void expect(long ret, long want)
{
	must(ret == want, "returned %ld, must return %ld", ret, want);
	outcome(ret);
}

/*
 * The operations.  Each changes the model as the manual and the source of an
 * unpatched kernel say.
 */

static void op_write(void)
{
	struct range r = pick_range();
	unsigned long step = 1 + pick(3) * pick(40), n;
	uint64_t val = mix3(rng, path, op_index) | 1;

	for (n = r.first; n < r.end; n += step) {
		bool ok;

		if (!can(n, WRITE) && pick(8))
			continue;
		ok = poke(n, val + n * 2);
		must(ok == can(n, WRITE), "writing page %lu (flags %#x) %s", n,
		     model[n].flags, ok ? "worked" : "faulted");
		if (!ok) {
			check_refused(n);
			continue;
		}
		set_page(n, val + n * 2);
		did = true;
	}
}

static void op_read(void)
{
	struct range r = pick_range();
	unsigned long n;

	for (n = r.first; n < r.end; n++)
		if (can(n, READ) || !pick(8)) {
			check_page(n);
			did |= can(n, READ);
		}
}

static void op_munmap(void)
{
	struct range r = pick_range();
	unsigned long n;

	expect(result(munmap(AT(r.first), r.nr * PAGE)), 0);
	for (n = r.first; n < r.end; n++)
		model[n] = (struct page){ };
}

static void op_mmap(void)
{
	struct range r = pick_range();
	unsigned int file_page = pick(64);
	bool file = !pick(3);
	unsigned long n;
	void *p;

	p = mmap(AT(r.first), r.nr * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED | (file ? 0 : MAP_ANONYMOUS),
		 file ? data_fd : -1, file ? file_page * PAGE : 0);
	must(p == AT(r.first), "%s", strerror(errno));
	for (n = r.first; n < r.end; n++) {
		model[n] = (struct page){
			.flags = MAPPED | READ | WRITE | (file ? IS_FILE : 0),
			.file_page = file_page + n - r.first,
		};
		drop_page(n);
	}
	did = true;
}

static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
static const unsigned int prot_flags[] = { 0, READ, READ | WRITE };

static void op_mprotect(void)
{
	struct range r = pick_range();
	/* mostly back to writable */
	unsigned int i = pick(5), hole = hole_in(r);
	unsigned long n;

	if (i > 2)
		i = 2;
	expect(result(mprotect(AT(r.first), r.nr * PAGE, prots[i])),
	       hole < r.end ? -ENOMEM : 0);
	for (n = r.first; n < hole; n++)
		model[n].flags = (model[n].flags & ~(READ | WRITE)) | prot_flags[i];
}

/*
 * Protection keys: pages that the key denies cannot be reached, and are as before when
 * they have the common key again.  A signal handler starts with rights of its own and is
 * left by a jump; so no page keeps a key.
 */
static void op_pkey(void)
{
	struct range r = pick_range();
	unsigned int i = 1 + pick(2), denies = pick(2), k;
	unsigned long hole = hole_in(r), n;
	uint64_t words[ARRAY_LEN(places)];
	long want = hole < r.end ? -ENOMEM : 0;
	int key = syscall(SYS_pkey_alloc, 0, denies);

	/* without keys it is mprotect() */
	expect(result(syscall(SYS_pkey_mprotect, AT(r.first), r.nr * PAGE, prots[i], key)), want);
	for (n = r.first; n < hole; n++)
		model[n].flags = (model[n].flags & ~(READ | WRITE)) | prot_flags[i];
	for (k = 0; k < 3 && hole > r.first; k++) {
		n = r.first + pick(hole - r.first);
		if (key < 0 || !denies) {
			check_page(n);
			continue;
		}
		must(!peek(n, words), "page %lu can be read, against its key", n);
		check_signal(n, SIGSEGV, SEGV_PKUERR);
	}
	expect(result(syscall(SYS_pkey_mprotect, AT(r.first), r.nr * PAGE, prots[i],
			      key < 0 ? -1 : 0)), want);
	if (key >= 0)
		syscall(SYS_pkey_free, key);
}

static void op_dontneed(void)
{
	struct range r = pick_range();
	bool lazily = !pick(3);
	long want = 0;
	unsigned long n;

	for (n = r.first; n < r.end; n++) {
		if (!can(n, 0)) {
			want = -ENOMEM;
			continue;
		}
		if (can(n, LOCKED) || (lazily && can(n, IS_FILE))) {
			want = -EINVAL;
			break;
		}
	}
	expect(result(madvise(AT(r.first), r.nr * PAGE, lazily ? MADV_FREE : MADV_DONTNEED)),
	       want);
	r.end = n;
	for (n = r.first; n < r.end; n++) {
		if (!can(n, 0))
			continue;
		if (!lazily)
			drop_page(n);
		else if (model[n].val)
			model[n].flags |= MAYBE;
	}
}

/* Advice that says what a fork does with the pages. */
static void op_fork_advice(void)
{
	static const int advice[] = {
		MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK,
	};
	struct range r = pick_range();
	unsigned int i = pick(4);
	long want = 0;
	unsigned long n;

	for (n = r.first; n < r.end; n++) {
		if (!can(n, 0)) {
			want = -ENOMEM;
			continue;
		}
		if (i == 2 && can(n, IS_FILE)) {
			want = -EINVAL;
			break;
		}
	}
	expect(result(madvise(AT(r.first), r.nr * PAGE, advice[i])), want);
	r.end = n;
	for (n = r.first; n < r.end; n++) {
		if (!can(n, 0))
			continue;
		if (i < 2)
			model[n].flags &= ~DONT_FORK;
		else
			model[n].flags &= ~WIPE;
		if (i == 0)
			model[n].flags |= DONT_FORK;
		else if (i == 2)
			model[n].flags |= WIPE;
	}
}

/*
 * What madvise() returns for advice that stops at the first page with one of the flags in
 * @stop, saying EINVAL, and goes on over holes.
 */
static long advice_result(struct range r, unsigned int stop)
{
	long want = 0;
	unsigned long n;

	for (n = r.first; n < r.end; n++) {
		if (!can(n, 0))
			want = -ENOMEM;
		else if (model[n].flags & stop)
			return -EINVAL;
	}
	return want;
}

/* MADV_POPULATE_*, which needs the right and ends where that is missing. */
static long populate_result(struct range r, unsigned int right)
{
	unsigned long n;

	for (n = r.first; n < r.end; n++)
		if (!can(n, right))
			return can(n, 0) ? -EINVAL : -ENOMEM;
	return 0;
}

/* Advice that changes nothing that a program can see. */
static void op_advice(void)
{
	static const int advice[] = {
		MADV_WILLNEED, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM,
		MADV_NORMAL, MADV_NOHUGEPAGE,
	};
	struct range r = pick_range();
	unsigned int i = pick(ARRAY_LEN(advice));
	long ret = result(madvise(AT(r.first), r.nr * PAGE, advice[i]));

	if (advice[i] == MADV_NOHUGEPAGE && no_huge_pages) {
		expect(ret, -EINVAL);
		return;
	}
	expect(ret, i == 1 ? populate_result(r, READ) : i == 2 ? populate_result(r, WRITE) :
	       advice_result(r, 0));
}

/*
 * The same, but which pages are there depends on the weather, and what collapse and KSM
 * return.
 */
static void op_weather(void)
{
	static const int advice[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_PAGEOUT, MADV_PAGEOUT, MADV_HUGEPAGE,
		MADV_COLLAPSE, MADV_MERGEABLE, MADV_UNMERGEABLE,
	};
	struct range r = pick_range();
	unsigned int i = pick(ARRAY_LEN(advice));
	long ret;

	if (!pressure)
		return;
	ret = result(madvise(AT(r.first), r.nr * PAGE, advice[i]));
	if (i < 4)
		expect(ret, advice_result(r, LOCKED));
	else if (i == 4 && !no_huge_pages)
		expect(ret, advice_result(r, 0));
	else
		did = !ret;
}

static void op_mlock(void)
{
	struct range r = pick_range();
	unsigned int i = pick(3);
	unsigned long hole = hole_in(r), n;
	long ret, want = hole < r.end ? -ENOMEM : 0;

	switch (i) {
	case 0:
		ret = result(mlock(AT(r.first), r.nr * PAGE));
		/* nothing is put where nobody may look, and that is an error */
		for (n = r.first; n < hole; n++)
			if (!can(n, READ))
				want = -ENOMEM;
		break;
	case 1:
		ret = result(syscall(SYS_mlock2, AT(r.first), r.nr * PAGE, 1 /* ONFAULT */));
		break;
	default:
		ret = result(munlock(AT(r.first), r.nr * PAGE));
	}
	expect(ret, want);
	for (n = r.first; n < hole; n++) {
		model[n].flags &= ~LOCKED;
		if (i < 2)
			model[n].flags |= LOCKED;
	}
}

/* Which pages are there: the same without and with sharing, but for the weather. */
static void op_mincore(void)
{
	static __thread unsigned char there[MAX_RANGE];
	struct range r = pick_range();
	unsigned long n;

	expect(result(mincore(AT(r.first), r.nr * PAGE, there)),
	       hole_in(r) < r.end ? -ENOMEM : 0);
	for (n = 0; !pressure && hole_in(r) == r.end && n < r.nr; n++)
		add_hash(there[n] & 1);
}

/*
 * All of the mm, the second thread's pages too.  So that it does not depend on the moment
 * which of these are locked, and what operations say to that, those have come to an end.
 */
static void op_mlockall(void)
{
	bool future = !pick(3);
	unsigned long n;
	unsigned int i;

	if (op_index < my_ops() / 2)
		return;
	while (!second_idle)
		usleep(1000);
	expect(result(mlockall(MCL_CURRENT | (future ? MCL_FUTURE : 0) |
			       (pick(2) ? MCL_ONFAULT : 0))), 0);
	if (future)
		op_mmap();
	for (i = 0; i < 4; i++)
		check_page(pick(MAIN_PAGES));
	n = pick(MAIN_PAGES);
	if (can(n, WRITE)) {
		must(poke(n, rng | 1), "writing page %lu (flags %#x) faulted", n, model[n].flags);
		set_page(n, rng | 1);
	}
	expect(result(munlockall()), 0);
	for (n = 0; n < PAGES; n++)
		model[n].flags &= ~LOCKED;
}

/*
 * As brk does: the end of a mapping moves, downwards always, upwards if it is the end and
 * nothing is in the way.  Where the model sees one mapping there may be several.
 */
static void op_resize(void)
{
	struct range r = pick_range();
	unsigned long to = 1 + pick(r.nr + 40), n;
	bool in_the_way;
	struct page last;
	long ret;

	if (r.first + to > hi)
		to = hi - r.first;
	works_on(r.end, r.first + to);
	for (n = r.first; n < r.end; n++)
		if (!can(n, 0) || ((model[n].flags ^ model[r.first].flags) & ~(MAYBE | GONE)) ||
		    (can(n, IS_FILE) &&
		     model[n].file_page != model[r.first].file_page + n - r.first))
			return;
	/* the file is no longer than that */
	last = model[r.end - 1];
	if ((last.flags & IS_FILE) && last.file_page + 41UL > FILE_PAGES)
		return;
	for (n = r.end; n < r.first + to && !can(n, 0); n++)
		;
	in_the_way = n < r.first + to;
	ret = result((long)mremap(AT(r.first), r.nr * PAGE, to * PAGE, 0));
	outcome(ret);
	if (ret < 0) {
		/* several mappings are EFAULT, whatever comes behind them */
		must(to > r.nr && (ret == -EFAULT || (ret == -ENOMEM && in_the_way)),
		     "returned %ld, page %lu is %sin the way", ret, n, in_the_way ? "" : "not ");
		return;
	}
	must(ret == (long)AT(r.first), "moved to %#lx", ret);
	for (n = r.first + to; n < r.end; n++)
		model[n] = (struct page){ };
	for (n = r.end; n < r.first + to; n++) {
		must(!can(n, 0), "grew over page %lu", n);
		model[n] = last;
		model[n].file_page = last.file_page + n - r.end + 1;
		drop_page(n);
	}
}

/*
 * Moving succeeds within a mapping.  Where the model sees one there may be several;
 * having come to the old range, mremap has emptied the new one already.
 */
static void op_mremap(void)
{
	struct range r = pick_range();
	unsigned long to = lo + pick(hi - lo - r.nr + 1), n;
	bool keep = !pick(4), one = true, locked = false;
	static __thread struct page moved[MAX_RANGE];
	long ret;

	/* whole tables can be moved as such */
	if (pick(2))
		to = (to & ~(BLOCK_PAGES - 1)) | (r.first & (BLOCK_PAGES - 1));
	if (to < lo || to + r.nr > hi || (to < r.end && r.first < to + r.nr))
		return;
	works_on(to, to + r.nr);
	for (n = r.first; n < r.end; n++) {
		locked |= can(n, LOCKED);
		one &= can(n, 0) && !((model[n].flags ^ model[r.first].flags) & ~(MAYBE | GONE)) &&
		       (!can(n, IS_FILE) ||
			model[n].file_page == model[r.first].file_page + n - r.first);
	}
	/* kernels since 6.17 move several mappings, and the earlier ones fail halfway */
	if (!one)
		return;
	/* MREMAP_DONTUNMAP unlocks the whole mapping, however large */
	keep &= !locked;
	ret = result((long)mremap(AT(r.first), r.nr * PAGE, r.nr * PAGE,
				  MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0),
				  AT(to)));
	outcome(ret);
	if (ret < 0) {
		must(ret == -EFAULT, "returned %ld", ret);
		for (n = to; n < to + r.nr; n++)
			model[n] = (struct page){ };
		return;
	}
	must(ret == (long)AT(to), "moved to %#lx", ret);
	memcpy(moved, &model[r.first], r.nr * sizeof(*model));
	memcpy(&model[to], moved, r.nr * sizeof(*model));
	for (n = r.first; n < r.end; n++) {
		if (keep)
			drop_page(n);
		else
			model[n] = (struct page){ };
	}
}

/* The kernel as the one who reads and writes: copies, short pins, long pins. */
static void op_kernel_access(void)
{
	unsigned long n = pick_page(), i;
	unsigned int how = pick(5), file_page = pick(64);
	static __thread char buf[PAGE] __attribute__((aligned(PAGE)));
	uint64_t words[ARRAY_LEN(places)], val = mix3(rng, 2, op_index) | 1;
	struct iovec local = { buf, PAGE }, remote = { AT(n), PAGE };
	bool writes = how < 3, ok = can(n, writes ? WRITE : READ);
	long ret;

	make_page(buf, val);
	switch (how) {
	case 0:
		ret = result(process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
		break;
	case 1:
		must(write(pipe_fd[1], buf, PAGE) == PAGE, "pipe: %s", strerror(errno));
		ret = result(read(pipe_fd[0], AT(n), PAGE));
		if (ret < 0)
			must(read(pipe_fd[0], buf, PAGE) == PAGE, "pipe: %s", strerror(errno));
		break;
	case 2:
		if (direct_fd < 0)
			return;
		val = file_val(file_page);
		ret = result(pread(direct_fd, AT(n), PAGE, file_page * PAGE));
		break;
	case 3:
		ret = result(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
		break;
	default:
		ret = result(write(pipe_fd[1], AT(n), PAGE));
		if (ret > 0)
			must(read(pipe_fd[0], buf, PAGE) == PAGE, "pipe: %s", strerror(errno));
	}
	expect(ret, ok ? (long)PAGE : -EFAULT);
	if (!ok)
		return;
	if (writes) {
		set_page(n, val);
		return;
	}
	for (i = 0; i < ARRAY_LEN(places); i++)
		words[i] = *(uint64_t *)(buf + places[i]);
	check_words(n, words);
}

/*
 * A reference in a pipe.  What its owner writes meanwhile is in the pipe if the page was
 * the owner's alone, and that depends on when others end; nothing else can be in it.
 */
static void op_vmsplice(void)
{
	static __thread char buf[PAGE] __attribute__((aligned(PAGE)));
	unsigned long n = pick_page();
	struct iovec iov = { AT(n), PAGE };
	uint64_t val = mix3(rng, 4, op_index) | 1, words[ARRAY_LEN(places)], old;
	bool wrote;
	unsigned int i, is_new = 0;
	long ret;

	if (can(n, READ))
		check_page(n);
	old = model[n].flags & GONE ? 0 : model[n].val;
	ret = result(vmsplice(pipe_fd[1], &iov, 1, 0));
	expect(ret, can(n, READ) ? (long)PAGE : -EFAULT);
	if (ret < 0)
		return;
	wrote = can(n, WRITE) && pick(2);
	if (wrote)
		must(poke(n, val), "writing page %lu (flags %#x) faulted", n, model[n].flags);
	must(read(pipe_fd[0], buf, PAGE) == PAGE, "pipe: %s", strerror(errno));
	for (i = 0; i < ARRAY_LEN(places); i++) {
		words[i] = *(uint64_t *)(buf + places[i]);
		is_new += wrote && words[i] == word_of(val, i);
	}
	must(!is_new || is_new == ARRAY_LEN(places), "the pipe has a part of what was written");
	for (i = 0; !is_new && i < ARRAY_LEN(places); i++)
		must(words[i] == word_of(old, i) || ((model[n].flags & MAYBE) && !words[i]),
		     "page %lu: the pipe has %#" PRIx64 ", the page had %#" PRIx64, n, words[i],
		     old);
	if (wrote)
		set_page(n, val);
}

/* A device reads the page: O_DIRECT into a file, and the file has what the page has. */
static void op_direct_write(void)
{
	char name[] = "/mnt/disk/fuzz.XXXXXX";
	static __thread char buf[PAGE] __attribute__((aligned(PAGE)));
	unsigned long n = pick_page();
	uint64_t words[ARRAY_LEN(places)];
	unsigned int i;
	long ret;
	int fd;

	if (direct_fd < 0)
		return;
	fd = mkostemp(name, O_DIRECT | O_CLOEXEC);
	must(fd >= 0, "%s: %s", name, strerror(errno));
	unlink(name);
	ret = result(pwrite(fd, AT(n), PAGE, 0));
	expect(ret, can(n, READ) ? (long)PAGE : -EFAULT);
	if (ret > 0) {
		must(pread(fd, buf, PAGE, 0) == (long)PAGE, "%s: %s", name, strerror(errno));
		for (i = 0; i < ARRAY_LEN(places); i++)
			words[i] = *(uint64_t *)(buf + places[i]);
		check_words(n, words);
	}
	close(fd);
}

/*
 * A futex that others could see, for which the kernel takes a reference to the page; then
 * the kernel changes a word of another page, and changes it back.
 */
static void op_futex(void)
{
	unsigned long n = pick_page(), at = pick_page();
	uint64_t words[ARRAY_LEN(places)];
	unsigned int i, op = FUTEX_OP(FUTEX_OP_XOR, 1, FUTEX_OP_CMP_EQ, 0);
	uint32_t *word = (void *)AT(n);
	bool ok = can(at, WRITE);
	long ret;

	/*
	 * A page that nobody can write to makes sense if it is the file's.  It may be a copy
	 * that has what the file has.
	 */
	if (can(n, READ)) {
		bool files = model[n].flags & IS_FILE &&
			     model[n].val == file_val(model[n].file_page);

		check_page(n);
		ret = result(syscall(SYS_futex, word, FUTEX_WAIT, *word ^ 1, NULL, NULL, 0));
		must(can(n, WRITE) ? ret == -EAGAIN :
		     ret == -EFAULT || (files && ret == -EAGAIN), "returned %ld", ret);
	} else {
		ret = result(syscall(SYS_futex, word, FUTEX_WAIT, 1, NULL, NULL, 0));
		must(ret == -EFAULT, "returned %ld", ret);
	}
	/* it has looked at a word, as was asked */
	did |= ret == -EAGAIN;
	add_hash(ret);
	/* what the kernel writes to is not given up any more, and may have gone before */
	if (model[at].flags & MAYBE)
		return;
	for (i = 0; i < 2; i++) {
		uint32_t *other = (void *)(AT(at) + places[1]);

		ret = result(syscall(SYS_futex, &hash, FUTEX_WAKE_OP, 0, 0, other, op));
		expect(ret, ok ? 0 : -EFAULT);
		if (!ok)
			return;
		must(peek(at, words), "page %lu cannot be read", at);
		must(words[1] == (word_of(model[at].val, 1) ^ !i),
		     "page %lu has %#" PRIx64 " after FUTEX_WAKE_OP", at, words[1]);
	}
}

/* /proc/self/mem: whatever the protection is, and the pages are private, so for writing too. */
static void op_proc_mem(void)
{
	static __thread char buf[PAGE];
	unsigned long n = pick_page(), i;
	uint64_t words[ARRAY_LEN(places)], val = mix3(rng, 6, op_index) | 1;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	bool writes = pick(2);
	long ret;

	must(fd >= 0, "/proc/self/mem: %s", strerror(errno));
	make_page(buf, val);
	if (writes)
		ret = result(pwrite(fd, buf, PAGE, (off_t)AT(n)));
	else
		ret = result(pread(fd, buf, PAGE, (off_t)AT(n)));
	close(fd);
	expect(ret, can(n, 0) ? (long)PAGE : -EIO);
	if (ret < 0)
		return;
	if (writes) {
		set_page(n, val);
		return;
	}
	for (i = 0; i < ARRAY_LEN(places); i++)
		words[i] = *(uint64_t *)(buf + places[i]);
	check_words(n, words);
}

static int userfault(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Cut off where userfaultfd, or what is done with it here, does not work. */
static struct range plain_pages(struct range r)
{
	unsigned long n;

	for (n = r.first; n < r.end; n++)
		if (!can(n, READ) || (model[n].flags & (IS_FILE | LOCKED | MAYBE)))
			break;
	r.end = n;
	r.nr = r.end - r.first;
	/* ksmd forgets the protection when it replaces a page */
	if (pressure && r.nr)
		madvise(AT(r.first), r.nr * PAGE, MADV_UNMERGEABLE);
	return r;
}

/* Since Linux 6.8 in linux/userfaultfd.h */
struct move_arg {
	uint64_t dst, src, len, mode;
	int64_t move;
};
#define MOVE_IOCTL	_IOWR(UFFDIO, 5, struct move_arg)
#define FEATURE_MOVE	(1 << 16)

static bool can_move;

/*
 * A page moves from elsewhere into a hole.  It must be of this table alone, which it is,
 * having been written a moment ago; only the weather may be in the way, or a fork by the
 * other thread, and then it is copied, for the results are to be the same.
 */
static void move_page(int fd, unsigned long from, unsigned long to)
{
	uint64_t val = mix3(rng, 8, op_index) | 1;
	struct move_arg move = {
		.dst = (long)AT(to), .src = (long)AT(from), .len = PAGE,
	};
	long ret;

	if (!can_move || !can(to, WRITE) || !can(from, WRITE) ||
	    (model[from].flags & (IS_FILE | LOCKED)))
		return;
	op_name = "userfault, move";
	must(poke(from, val), "writing page %lu (flags %#x) faulted", from, model[from].flags);
	set_page(from, val);
	do {
		move.move = 0;
		ret = result(ioctl(fd, MOVE_IOCTL, &move));
	} while (ret == -EAGAIN);
	if (!ret)
		__atomic_add_fetch(&slots[SL_MOVES], 1, __ATOMIC_RELAXED);
	must(!ret || ((pressure || !is_main) && ret == -EBUSY), "returned %ld", ret);
	if (ret) {
		struct uffdio_copy copy = { .dst = (long)AT(to), .src = (long)AT(from), .len = PAGE };

		do {
			copy.copy = 0;
			ret = result(ioctl(fd, UFFDIO_COPY, &copy));
		} while (ret == -EAGAIN);
		must(!ret, "a copy instead: %ld", ret);
		must(!madvise(AT(from), PAGE, MADV_DONTNEED), "%s", strerror(errno));
	}
	drop_page(from);
	set_page(to, val);
}

/* Protected pages cannot be written to, and then they can. */
static void protect_pages(int fd, struct range r)
{
	struct uffdio_writeprotect wp = {
		.range = { (long)AT(r.first), r.nr * PAGE }, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	uint64_t val = mix3(rng, 9, op_index) | 1;
	unsigned long n;

	expect(result(ioctl(fd, UFFDIO_WRITEPROTECT, &wp)), 0);
	op_name = "userfault, protected";
	for (n = r.first; n < r.end; n++)
		check_page(n);
	/* Page tables that are not there are not protected. */
	n = r.first + pick(r.nr);
	if (model[n].val) {
		must(!poke(n, val), "protected page %lu was written to", n);
		if (can(n, WRITE))
			check_signal(n, SIGBUS, BUS_ADRERR);
		else
			check_refused(n);
	}
	check_page(n);
	if (!pick(2))
		return;
	wp.mode = 0;
	expect(result(ioctl(fd, UFFDIO_WRITEPROTECT, &wp)), 0);
	if (!can(n, WRITE))
		return;
	must(poke(n, val), "page %lu is still protected", n);
	set_page(n, val);
}

/* A page put into a hole, one of zeroes, one from elsewhere; protection and its end. */
static void op_userfault(void)
{
	struct range r = plain_pages(pick_range());
	struct uffdio_register reg = { };
	static __thread char buf[PAGE] __attribute__((aligned(PAGE)));
	uint64_t val = mix3(rng, 3, op_index) | 1;
	bool protect = pick(2);
	unsigned long n;
	int fd;

	if (r.nr < 3)
		return;
	/* a fault that nobody would answer is a signal */
	fd = userfault(UFFD_FEATURE_SIGBUS);
	if (fd < 0)
		return;
	if (!protect) {
		expect(result(madvise(AT(r.first), r.nr * PAGE, MADV_DONTNEED)), 0);
		for (n = r.first; n < r.end; n++)
			drop_page(n);
	}
	reg.range.start = (long)AT(r.first);
	reg.range.len = r.nr * PAGE;
	reg.mode = protect ? UFFDIO_REGISTER_MODE_WP : UFFDIO_REGISTER_MODE_MISSING;
	expect(result(ioctl(fd, UFFDIO_REGISTER, &reg)), 0);
	if (protect) {
		protect_pages(fd, r);
	} else {
		uint64_t words[ARRAY_LEN(places)];
		struct uffdio_copy copy = {
			.dst = (long)AT(r.first), .src = (long)buf, .len = PAGE,
		};
		struct uffdio_zeropage zero = {
			.range = { (long)AT(r.first + 1), PAGE },
		};
		long ret;

		must(!peek(r.first + 2, words), "a hole was filled by nobody");
		check_signal(r.first + 2, SIGBUS, BUS_ADRERR);
		make_page(buf, val);
		do {
			copy.copy = 0;
			ret = result(ioctl(fd, UFFDIO_COPY, &copy));
		} while (ret == -EAGAIN);
		expect(ret, 0);
		set_page(r.first, val);
		do {
			zero.zeropage = 0;
			ret = result(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
		} while (ret == -EAGAIN);
		expect(ret, 0);
		n = pick_page();
		if (n < r.first || n >= r.end)
			move_page(fd, n, r.first + 2);
	}
	expect(result(ioctl(fd, UFFDIO_UNREGISTER, &reg.range)), 0);
	close(fd);
}

/*
 * Pages of the file, which are in memory, and which no entry is for: a fault is a minor
 * one, and UFFDIO_CONTINUE fills the entry.
 */
static void op_continue(void)
{
	struct range r = pick_range();
	struct uffdio_register reg = { };
	struct uffdio_continue cont = { };
	uint64_t words[ARRAY_LEN(places)];
	unsigned long n;
	long ret;
	int fd;

	for (n = r.first; n < r.end; n++)
		if (!can(n, READ) || !(model[n].flags & IS_FILE) ||
		    (model[n].flags & (LOCKED | MAYBE)))
			break;
	r.nr = n - r.first;
	if (!r.nr)
		return;
	fd = userfault(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MINOR_SHMEM);
	if (fd < 0)
		return;
	reg.range.start = (long)AT(r.first);
	reg.range.len = r.nr * PAGE;
	reg.mode = UFFDIO_REGISTER_MODE_MINOR;
	expect(result(ioctl(fd, UFFDIO_REGISTER, &reg)), 0);
	expect(result(madvise(AT(r.first), r.nr * PAGE, MADV_DONTNEED)), 0);
	for (n = r.first; n < r.first + r.nr; n++)
		drop_page(n);
	n = r.first + pick(r.nr);
	must(!peek(n, words), "page %lu of the file was mapped by nobody", n);
	check_signal(n, SIGBUS, BUS_ADRERR);
	cont.range.start = (long)AT(n);
	cont.range.len = PAGE;
	do {
		cont.mapped = 0;
		ret = result(ioctl(fd, UFFDIO_CONTINUE, &cont));
	} while (ret == -EAGAIN);
	expect(ret, 0);
	check_page(n);
	expect(result(ioctl(fd, UFFDIO_UNREGISTER, &reg.range)), 0);
	close(fd);
}

/* A ring of packets that never come, mapped between the pages; its driver fills entries. */
static void op_packet(void)
{
	struct range r = pick_range();
	struct tpacket_req req = {
		.tp_block_size = PAGE, .tp_frame_size = PAGE,
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	unsigned long n;
	void *p;

	if (fd < 0)
		return;
	if (r.nr > 8)
		r.nr = 8;
	req.tp_block_nr = r.nr;
	req.tp_frame_nr = r.nr;
	must(!setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)),
	     "PACKET_RX_RING: %s", strerror(errno));
	p = mmap(AT(r.first), r.nr * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	must(p == AT(r.first), "mmap: %s", strerror(errno));
	for (n = r.first; n < r.first + r.nr; n++) {
		volatile struct tpacket_hdr *frame = (void *)AT(n);

		must(frame->tp_status == TP_STATUS_KERNEL, "page %lu of the ring is not there", n);
		model[n] = (struct page){ };
	}
	must(!munmap(p, r.nr * PAGE), "munmap: %s", strerror(errno));
	close(fd);
	did = true;
}

/* The heap, above what malloc() has of it, grows and shrinks; children have their own. */
#define HEAP_PAGES	(BLOCK_PAGES + 188)
static struct {
	char *start;
	unsigned long nr;
	uint64_t val[HEAP_PAGES];
} heap;

static void check_heap(void)
{
	unsigned long n;
	unsigned int i;

	for (n = 0; n < heap.nr; n++)
		for (i = 0; i < ARRAY_LEN(places); i++) {
			uint64_t is = *(volatile uint64_t *)(heap.start + n * PAGE + places[i]);

			must(is == word_of(heap.val[n], i),
			     "page %lu of the heap holds %#" PRIx64 ", must hold %#" PRIx64, n,
			     is, word_of(heap.val[n], i));
		}
}

static void op_brk(void)
{
	uint64_t val = mix3(rng, 15, op_index) | 1;
	unsigned long want = pick(HEAP_PAGES + 1), n;
	char *end = sbrk(0);

	check_heap();
	/* malloc() has had some, and goes on from there */
	if (!heap.start || end != heap.start + heap.nr * PAGE) {
		heap.start = (char *)(((uintptr_t)end + PAGE - 1) & ~(PAGE - 1));
		heap.nr = 0;
	}
	expect(result(brk(heap.start + want * PAGE)), 0);
	for (n = heap.nr; n < want; n++)
		heap.val[n] = 0;
	heap.nr = want;
	check_heap();
	for (n = pick(16); n < want; n += 1 + pick(16)) {
		heap.val[n] = val + n * 2;
		make_page(heap.start + n * PAGE, heap.val[n]);
	}
}

/*
 * PAGEMAP_SCAN protects pages, and tells afterwards which ones were written to.  Not under
 * pressure: Linux 6.12 marks the entry of a page that is being migrated as protected and
 * leaves it writable, so the page comes back without protection and counts as written to;
 * CONFIG_PAGE_TABLE_CHECK warns of it.
 */
static void op_scan(void)
{
	struct range r = plain_pages(pick_range());
	struct uffdio_register reg = {
		.range = { (long)AT(r.first), r.nr * PAGE }, .mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct { uint64_t start, end, categories; } regions[64];
	struct scan_arg scan = {
		.size = sizeof(scan), .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
		.start = (long)AT(r.first), .end = (long)AT(r.end),
		.category_mask = SCAN_IS_WRITTEN, .return_mask = SCAN_IS_WRITTEN,
	};
	static __thread bool wrote[MAX_RANGE];
	uint64_t val = mix3(rng, 10, op_index) | 1;
	unsigned long n, at = r.first;
	int fd, map, i, k;

	if (pressure || r.nr < 2)
		return;
	fd = userfault(UFFD_ASYNC_WP | UFFD_WP_UNPOPULATED);
	if (fd < 0)
		return;
	map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	must(map >= 0, "pagemap: %s", strerror(errno));
	expect(result(ioctl(fd, UFFDIO_REGISTER, &reg)), 0);
	must(ioctl(map, PAGEMAP_SCAN_IOCTL, &scan) >= 0, "PAGEMAP_SCAN: %s", strerror(errno));
	memset(wrote, 0, r.nr);
	for (i = 0; i < 6; i++) {
		n = r.first + pick(r.nr);
		if (!can(n, WRITE))
			continue;
		must(poke(n, val + n * 2), "writing page %lu (flags %#x) faulted", n,
		     model[n].flags);
		set_page(n, val + n * 2);
		wrote[n - r.first] = true;
	}
	scan.flags = pick(2) ? SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC : SCAN_CHECK_WPASYNC;
	scan.vec = (long)regions;
	scan.vec_len = ARRAY_LEN(regions);
	do {
		scan.start = (long)AT(at);
		k = ioctl(map, PAGEMAP_SCAN_IOCTL, &scan);
		must(k >= 0, "PAGEMAP_SCAN: %s", strerror(errno));
		for (i = 0; i < k; i++) {
			unsigned long first = ((char *)regions[i].start - BASE) / PAGE;
			unsigned long end = ((char *)regions[i].end - BASE) / PAGE;

			for (n = first; n < end; n++) {
				must(wrote[n - r.first],
				     "page %lu was not written to, and is reported", n);
				wrote[n - r.first] = false;
			}
		}
		at = ((char *)scan.walk_end - BASE) / PAGE;
	} while (at < r.end);
	for (n = r.first; n < r.end; n++)
		must(!wrote[n - r.first], "page %lu was written to, and is not reported", n);
	expect(result(ioctl(fd, UFFDIO_UNREGISTER, &reg.range)), 0);
	close(map);
	close(fd);
}

/* Pages go to another node, by policy or one by one; or they and tables begin there. */
static void op_nodes(void)
{
	static const int policies[] = { MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE };
	struct range r = pick_range();
	unsigned long mask = 1UL << pick(2), both = 3;
	void *pages[16];
	int nodes[16], status[16];
	unsigned int i;

	if (!pressure)
		return;
	if (!pick(3)) {
		bool set = !syscall(SYS_set_mempolicy, policies[pick(3)], &mask, 8);

		if (is_main)
			op_write();
		for (i = 0; i < ARRAY_LEN(pages); i++)
			check_page(r.first + pick(r.nr));
		must(!syscall(SYS_set_mempolicy, 0, NULL, 0), "set_mempolicy: %s", strerror(errno));
		did = set;
	} else if (pick(2)) {
		did = !syscall(SYS_mbind, AT(r.first), r.nr * PAGE, MPOL_BIND, &mask, 8,
			       MPOL_MF_MOVE);
		syscall(SYS_mbind, AT(r.first), r.nr * PAGE, 0, NULL, 0, 0);
	} else if (pick(4)) {
		for (i = 0; i < ARRAY_LEN(pages); i++) {
			pages[i] = AT(r.first + pick(r.nr));
			nodes[i] = pick(2);
		}
		did = syscall(SYS_move_pages, 0, ARRAY_LEN(pages), pages, nodes, status, 2) >= 0;
	} else {
		did = syscall(SYS_migrate_pages, 0, 8, &both, &mask) >= 0;
	}
}

static void read_smaps(pid_t pid)
{
	char name[40], buf[4096];
	int fd;

	snprintf(name, sizeof(name), "/proc/%d/smaps", pid);
	fd = open(name, O_RDONLY);
	if (fd < 0)
		return;
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

/* Those who look, or clear what they have seen. */
static void op_observe(void)
{
	static __thread char buf[16384];
	int fd;

	did = true;
	switch (pick(5)) {
	case 0:
		read_smaps(getpid());
		return;
	case 1:
		fd = open("/proc/self/numa_maps", O_RDONLY);
		break;
	case 2:
		fd = open("/proc/self/smaps_rollup", O_RDONLY);
		break;
	case 3:
		write_file("/proc/self/clear_refs", "%u", pick(2) ? 1 : 4);
		return;
	default:
		for (fd = 0; fd < 32; fd++)
			pagemap(getpid(), AT(lo + pick(hi - lo)));
		return;
	}
	if (fd < 0)
		return;
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

static void op_switch(void)
{
	bool on = prctl(PR_GET_COW_PTE, 0, 0, 0, 0) > 0;

	/* never on in a run without sharing: the root of the tree says */
	if (on && !pick(3)) {
		prctl(PR_SET_COW_PTE, 0, 0, 0, 0);
		op_observe();
		prctl(PR_SET_COW_PTE, 1, 0, 0, 0);
		did = true;
	}
}

/* A fork of the tree, which is counted. */
static pid_t tree_fork(void)
{
	__atomic_add_fetch(&slots[SL_FORKS], 1, __ATOMIC_RELAXED);
	did = true;
	return xfork();
}

/* The pages of the second thread that are of a file which it cuts off or punches. */
static volatile struct range second_file;

/* A page beyond the end, which is SIGBUS, or what it has. */
static void check_file_page(unsigned long n, bool beyond, uint64_t val)
{
	uint64_t words[ARRAY_LEN(places)];
	unsigned int i;
	bool ok = peek(n, words);

	must(ok != beyond, "reading page %lu of the file %s", n, ok ? "worked" : "faulted");
	if (!ok)
		check_signal(n, SIGBUS, BUS_ADRERR);
	for (i = 0; ok && i < ARRAY_LEN(places); i++)
		must(words[i] == word_of(val, i), "page %lu of the file: %#" PRIx64
		     ", must be %#" PRIx64, n, words[i], word_of(val, i));
}

/* The pages @wrote belong to the process; the others are the file's. */
static void check_file(struct range r, const bool *wrote, uint64_t val, unsigned long hole,
		       unsigned long hole_end, unsigned long size)
{
	unsigned long i;

	for (i = 0; i < r.nr; i++) {
		bool in_hole = i >= hole && i < hole_end;

		check_file_page(r.first + i, i >= size, wrote[i] ? val + i * 2 :
				in_hole ? 0 : file_val(i));
	}
}

/*
 * A file of its own, mapped privately: pages of it are written to, it gets a hole, ends
 * earlier, is long again.  A child looks on, in some of the runs.
 */
static void op_file(void)
{
	struct range r = pick_range();
	static __thread char buf[PAGE];
	static __thread bool wrote[40];
	uint64_t val = mix3(rng, 12, op_index) | 1;
	unsigned long i, hole, hole_end, size;
	bool child = is_main && pick(2), punch = pick(2);
	int fd = memfd_create("fuzz", MFD_CLOEXEC), told[2];
	pid_t pid = 0;
	void *p;

	must(fd >= 0, "memfd_create: %s", strerror(errno));
	if (r.nr > ARRAY_LEN(wrote))
		r.nr = ARRAY_LEN(wrote);
	r.end = r.first + r.nr;
	hole = pick(r.nr);
	hole_end = hole + 1 + pick(r.nr - hole);
	size = hole;
	for (i = 0; i < r.nr; i++) {
		make_page(buf, file_val(i));
		must(write(fd, buf, PAGE) == PAGE, "write: %s", strerror(errno));
	}
	if (!is_main) {
		second_file.end = r.end;
		second_file.first = r.first;
	}
	p = mmap(AT(r.first), r.nr * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
	must(p == AT(r.first), "mmap: %s", strerror(errno));
	for (i = 0; i < r.nr; i++) {
		model[r.first + i] = (struct page){ .flags = MAPPED | READ | WRITE };
		wrote[i] = pick(2);
		if (wrote[i])
			must(poke(r.first + i, val + i * 2), "writing the file's page faulted");
		else if (pick(2))
			check_file_page(r.first + i, false, file_val(i));
	}
	if (child) {
		must(!socketpair(AF_UNIX, SOCK_STREAM, 0, told), "socketpair: %s", strerror(errno));
		pid = tree_fork();
	}
	/* the child has looked before the file changes, and looks again */
	if (child && !pid) {
		check_file(r, wrote, val, 0, 0, r.nr);
		close(told[1]);
		must(write(told[0], buf, 1) == 1 && read(told[0], buf, 1) == 1, "socket: %s",
		     strerror(errno));
	} else if (child) {
		close(told[0]);
		must(read(told[1], buf, 1) == 1, "read: %s", strerror(errno));
	}
	if (!child || pid) {
		if (punch)
			must(!fallocate(fd, 3 /* PUNCH_HOLE | KEEP_SIZE */, hole * PAGE,
					(hole_end - hole) * PAGE), "fallocate: %s", strerror(errno));
		else
			must(!ftruncate(fd, size * PAGE), "ftruncate: %s", strerror(errno));
	}
	if (punch)
		check_file(r, wrote, val, hole, hole_end, r.nr);
	else
		check_file(r, wrote, val, 0, 0, size);
	/* what is cut off goes from the processes as well */
	if (!punch && !child) {
		must(!ftruncate(fd, r.nr * PAGE), "ftruncate: %s", strerror(errno));
		memset(wrote + size, 0, r.nr - size);
		check_file(r, wrote, val, size, r.nr, r.nr);
	}
	if (child && !pid)
		done();
	if (child) {
		must(write(told[1], buf, 1) == 1, "write: %s", strerror(errno));
		join(pid);
		close(told[1]);
	}
	close(fd);
	p = mmap(AT(r.first), r.nr * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
	must(p == AT(r.first), "mmap: %s", strerror(errno));
	for (i = r.first; i < r.end; i++)
		drop_page(i);
	if (!is_main)
		second_file.end = 0;
	did = true;
}

#define TINY		"--tiny"
#define TINY_STATUS	42

/* What this program is after op_exec(): a mm that is new, of which one is forked. */
static int tiny(void)
{
	volatile uint64_t *p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int i;
	int status;
	pid_t pid;

	if (p == MAP_FAILED)
		return 1;
	for (i = 0; i < 64; i++)
		p[i * PAGE / 8] = i + 1;
	pid = fork();
	for (i = 0; i < 64; i++) {
		if (p[i * PAGE / 8] != i + 1)
			return 2;
		p[i * PAGE / 8] = pid ? i + 100 : i + 200;
	}
	for (i = 0; i < 64; i++)
		if (p[i * PAGE / 8] != (pid ? i + 100 : i + 200))
			return 3;
	if (!pid)
		return 0;
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status ? TINY_STATUS : 4;
}

/*
 * By fork() or, where forks share, by clone3() with the flag and without the mode, for
 * children without threads: the C library knows nothing of that one.  The second thread
 * must not hold the locks of malloc().
 */
static pid_t fork_somehow(void)
{
	pid_t pid;

	if (pick(3) || !second_idle || prctl(PR_GET_COW_PTE, 0, 0, 0, 0) <= 0)
		return tree_fork();
	set_mode(0);
	__atomic_add_fetch(&slots[SL_FORKS], 1, __ATOMIC_RELAXED);
	did = true;
	pid = xclone3(CLONE_COW_PTE);
	must(pid >= 0, "clone3: %s", strerror(errno));
	set_mode(1);
	return pid;
}

/* A child lets go of all it has by becoming another program. */
static void op_exec(void)
{
	pid_t pid = fork_somehow();
	int status;

	if (!pid) {
		unsigned long n = pick(MAIN_PAGES);

		if (can(n, WRITE))
			poke(n, rng | 1);
		execl("/proc/self/exe", "fuzz", TINY, NULL);
		_exit(127);
	}
	status = join_status(pid);
	must(WIFEXITED(status) && WEXITSTATUS(status) == TINY_STATUS,
	     "the program ended with wait status %#x", status);
}

/* A child is killed in the midst of its writing. */
static void op_kill(void)
{
	struct range r = pick_range();
	uint64_t wait = pick(30000);
	int ready[2], status, fd = -1;
	char byte = 0;
	pid_t pid;

	must(!pipe(ready), "pipe: %s", strerror(errno));
	pid = fork_somehow();
	if (!pid) {
		unsigned long n;
		bool told = false;

		for (;;) {
			for (n = r.first; n < r.end; n++)
				if (can(n, WRITE))
					poke(n, (rng + n) | 1);
			if (!told)
				told = write(ready[1], &byte, 1) == 1;
		}
	}
	/* sometimes as soon as it is there, or not quite */
	close(ready[1]);
	if (wait % 2)
		must(read(ready[0], &byte, 1) == 1, "the child did not come to life");
	while (wait--)
		__asm__ volatile("" ::: "memory");
	if (pick(2))
		fd = syscall(SYS_pidfd_open, pid, 0);
	must(!kill(pid, SIGKILL), "kill: %s", strerror(errno));
	/* its memory is taken by others while it goes; it may be gone */
	if (fd >= 0) {
		syscall(SYS_process_mrelease, fd, 0);
		close(fd);
	}
	status = join_status(pid);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "wait status %#x", status);
	close(ready[0]);
}

/* What fork() does to pages, in the model of the child. */
static void model_after_fork(unsigned long first, unsigned long end)
{
	unsigned long n;

	for (n = first; n < end; n++) {
		model[n].flags &= ~LOCKED;
		if (can(n, DONT_FORK))
			model[n] = (struct page){ };
		else if (can(n, WIPE))
			drop_page(n);
	}
}

/*
 * A child is stopped, and a page of it is written to by ptrace(): whatever the protection
 * is, the child has that, and nobody else.
 */
static void op_ptrace(void)
{
	unsigned long n = pick(MAIN_PAGES);
	uint64_t val = mix3(rng, 16, op_index) | 1;
	bool there = can(n, 0) && !can(n, DONT_FORK);
	unsigned int i;
	int status;
	pid_t pid;
	long ret;

	pid = fork_somehow();
	if (!pid) {
		model_after_fork(0, MAIN_PAGES);
		must(!ptrace(PTRACE_TRACEME, 0, 0, 0), "PTRACE_TRACEME: %s", strerror(errno));
		raise(SIGSTOP);
		if (there)
			set_page(n, val);
		check_page(n);
		for (i = 0; i < 8; i++)
			check_page(pick(MAIN_PAGES));
		done();
	}
	status = join_status(pid);
	must(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "wait status %#x", status);
	for (i = 0; i < ARRAY_LEN(places); i++) {
		ret = result(ptrace(PTRACE_POKEDATA, pid, AT(n) + places[i], word_of(val, i)));
		expect(ret, there ? 0 : -EIO);
		errno = 0;
		ret = ptrace(PTRACE_PEEKDATA, pid, AT(n) + places[i], 0);
		must(there ? !errno && ret == (long)word_of(val, i) : errno == EIO,
		     "PTRACE_PEEKDATA: %#lx, %s", ret, strerror(errno));
	}
	must(!ptrace(PTRACE_DETACH, pid, 0, 0), "PTRACE_DETACH: %s", strerror(errno));
	join(pid);
	check_page(n);
}

struct uffd_monitor {
	int fd, stop;
	unsigned int forks;
};

/* Takes a child's userfaultfd, which is told of the fork, and lets go of it. */
static void *uffd_monitor(void *arg)
{
	struct uffd_monitor *m = arg;
	struct pollfd fds[2] = {
		{ .fd = m->fd, .events = POLLIN }, { .fd = m->stop, .events = POLLIN },
	};
	struct uffd_msg msg;

	do {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (read(m->fd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_FORK) {
			m->forks++;
			close(msg.arg.fork.ufd);
		}
	} while (!fds[1].revents);
	return NULL;
}

/*
 * A child of a process that wants to know of forks inherits that its pages are armed, and
 * the fork waits until somebody has read so.  Other blocks are shared.  When the child's
 * userfaultfd is closed its memory is as the model says.
 */
static void op_uffd_fork(void)
{
	struct range r = plain_pages(pick_range());
	struct uffdio_register reg = {
		.range = { (long)AT(r.first), r.nr * PAGE },
		.mode = pick(2) ? UFFDIO_REGISTER_MODE_WP : UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffd_monitor m = { };
	int stop[2], go[2], k;
	pthread_attr_t attr;
	pthread_t thread;
	unsigned long n;
	char byte = 0;
	pid_t pid;

	for (n = r.first; n < r.end; n++)
		if (model[n].flags & (DONT_FORK | WIPE))
			return;
	if (!r.nr)
		return;
	m.fd = userfault(UFFD_FEATURE_SIGBUS | UFFD_FEATURE_EVENT_FORK);
	if (m.fd < 0)
		return;
	must(!pipe(stop) && !pipe(go), "pipe: %s", strerror(errno));
	m.stop = stop[0];
	expect(result(ioctl(m.fd, UFFDIO_REGISTER, &reg)), 0);
	must(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, 512 << 10) &&
	     !pthread_create(&thread, &attr, uffd_monitor, &m), "pthread_create");
	pthread_attr_destroy(&attr);
	pid = tree_fork();
	if (!pid) {
		model_after_fork(0, MAIN_PAGES);
		must(read(go[0], &byte, 1) == 1, "read: %s", strerror(errno));
		for (n = r.first; n < r.end; n++)
			check_page(n);
		for (k = 0; k < 8; k++)
			check_page(pick(MAIN_PAGES));
		n = r.first + pick(r.nr);
		if (can(n, WRITE))
			must(poke(n, rng | 1), "writing page %lu (flags %#x) faulted", n,
			     model[n].flags);
		done();
	}
	must(write(stop[1], &byte, 1) == 1, "write: %s", strerror(errno));
	pthread_join(thread, NULL);
	must(m.forks == 1, "%u events of a fork", m.forks);
	must(write(go[1], &byte, 1) == 1, "write: %s", strerror(errno));
	join(pid);
	expect(result(ioctl(m.fd, UFFDIO_UNREGISTER, &reg.range)), 0);
	for (n = r.first; n < r.end; n++)
		check_page(n);
	for (k = 0; k < 2; k++) {
		close(stop[k]);
		close(go[k]);
	}
	close(m.fd);
}

static pid_t children[MAX_CHILDREN];
static unsigned int nr_children, nr_forks;

/*
 * A page of a process's that nobody writes to but its parent, from outside.  A letter has
 * the process whom it is for, and a number that rises.  Until there is one for it, a
 * process has what its parent had when it forked, perhaps a part of a letter; ancestors live
 * on, so that is for others.
 */
static uint64_t inherited[ARRAY_LEN(places)], letter_number;

static uint64_t letter_for(pid_t pid, unsigned int number)
{
	return (uint64_t)pid << 24 | number << 1 | 1;
}

/* False if word @i of the page is neither inherited nor a letter for this process. */
static bool look_at_letter(unsigned int i, uint64_t *number)
{
	uint64_t word = *(volatile uint64_t *)(AT(MAILBOX) + places[i]);
	uint64_t val = word_of(word, i);

	*number = letter_number;
	if (!letter_number && word == inherited[i])
		return true;
	*number = (val >> 1) & 0x7fffff;
	return (val & 1) && (pid_t)(val >> 24) == getpid() && *number >= letter_number;
}

/* While a letter is being written there may be a part of it only, even of a word. */
static void check_mailbox(void)
{
	uint64_t number = letter_number;
	unsigned int i, tries;

	for (i = 0; i < ARRAY_LEN(places); i++) {
		for (tries = 0; !look_at_letter(i, &number); tries++) {
			must(tries < 10000, "the mailbox has %#" PRIx64
			     ", of another process or an earlier time, must have %#" PRIx64
			     " or a letter for %d since %" PRIu64,
			     *(uint64_t *)(AT(MAILBOX) + places[i]), inherited[i], getpid(),
			     letter_number);
			usleep(1000);
		}
	}
	/* of the last word, which is written last */
	letter_number = number;
}

/* What was written from outside is there, whoever shares the table. */
static void op_post(void)
{
	static char buf[PAGE];
	static unsigned int number;
	struct iovec local = { buf, PAGE }, remote = { AT(MAILBOX), PAGE };
	unsigned int i, k;
	pid_t pid;
	long ret;

	if (!nr_children)
		return;
	pid = children[pick(nr_children)];
	for (k = 0; k < 3; k++) {
		uint64_t val = letter_for(pid, ++number);

		make_page(buf, val);
		ret = result(process_vm_writev(pid, &local, 1, &remote, 1, 0));
		if (ret == PAGE) {
			memset(buf, 0, PAGE);
			ret = result(process_vm_readv(pid, &local, 1, &remote, 1, 0));
		}
		/* it may have ended */
		if (ret == -ESRCH)
			return;
		must(ret == PAGE, "returned %ld", ret);
		for (i = 0; i < ARRAY_LEN(places); i++)
			must(*(uint64_t *)(buf + places[i]) == word_of(val, i),
			     "what was written into a child is not there");
		/* and is not here */
		check_mailbox();
		did = true;
	}
}

static void op_fork(void);

/* The second thread has those that are for one thread's pages. */
static const struct kind {
	const char *name;
	unsigned int weight;
	void (*fn)(void);
	bool main_only;
} ops[] = {
	{ "write", 20, op_write, false },
	{ "read", 8, op_read, false },
	{ "munmap", 3, op_munmap, false },
	{ "mmap", 8, op_mmap, false },
	{ "mprotect", 8, op_mprotect, false },
	{ "pkey", 3, op_pkey, false },
	{ "dontneed", 6, op_dontneed, false },
	{ "fork-advice", 3, op_fork_advice, false },
	{ "advice", 5, op_advice, false },
	{ "weather", 8, op_weather, false },
	{ "mlock", 4, op_mlock, false },
	{ "mincore", 3, op_mincore, false },
	{ "mlockall", 3, op_mlockall, true },
	{ "mremap", 6, op_mremap, false },
	{ "resize", 4, op_resize, false },
	{ "kernel-access", 8, op_kernel_access, false },
	{ "direct-write", 2, op_direct_write, false },
	{ "futex", 4, op_futex, false },
	{ "vmsplice", 4, op_vmsplice, false },
	{ "proc-mem", 4, op_proc_mem, false },
	{ "userfault", 5, op_userfault, false },
	{ "continue", 4, op_continue, false },
	{ "scan", 3, op_scan, false },
	{ "packet", 2, op_packet, false },
	{ "brk", 3, op_brk, true },
	{ "file", 2, op_file, false },
	{ "nodes", 3, op_nodes, false },
	{ "observe", 2, op_observe, false },
	{ "switch", 1, op_switch, true },
	{ "post", 4, op_post, true },
	{ "exec", 1, op_exec, true },
	{ "kill", 2, op_kill, true },
	{ "ptrace", 3, op_ptrace, true },
	{ "uffd-fork", 1, op_uffd_fork, true },
	{ "fork", 7, op_fork, true },
	/* the last two have a meaning of their own: whether the second thread has operations */
	{ "thread", 0, NULL, false },
};

#define SECOND_THREAD	(1ULL << (ARRAY_LEN(ops) - 1))
#define FORK		(1ULL << (ARRAY_LEN(ops) - 2))
#define NR_KINDS	(ARRAY_LEN(ops) - 1)

static void one_op(void)
{
	unsigned int total = 0, i, r;

	rng = mix3(seed, is_main ? path : ~path, op_index);
	for (i = 0; i < ARRAY_LEN(ops); i++)
		total += ops[i].weight;
	r = pick(total);
	for (i = 0; r >= ops[i].weight; i++)
		r -= ops[i].weight;
	op_name = ops[i].name;
	if (!(kinds & (1ULL << i)) || (!is_main && ops[i].main_only))
		return;
	__atomic_add_fetch(&tally[i].begun, 1, __ATOMIC_RELAXED);
	did = false;
	if (!is_main)
		busy_with = op_name;
	ops[i].fn();
	if (did)
		__atomic_add_fetch(&tally[i].did, 1, __ATOMIC_RELAXED);
}

static void open_pipe(void)
{
	must(!pipe(pipe_fd), "pipe: %s", strerror(errno));
}

static void rising_number(void)
{
	unsigned long n;

	thread_count++;
	for (n = THREAD_FIRST; n < THREAD_FIRST + THREAD_PAGES && !thread_stop; n++)
		*(volatile uint64_t *)AT(n) = thread_count;
}

/*
 * The second thread has half as many operations as the main one, on pages of its own.
 * Between them, and then until it is stopped, it writes a rising number to some pages,
 * from the first to the last.  A fork is one instant, so a child must see a falling
 * sequence with one step.
 */
static void *second(void *arg)
{
	unsigned int n = kinds & SECOND_THREAD ? (my_ops() + 1) / 2 : 0, i;
	unsigned char there;

	(void)arg;
	lo = SECOND_FIRST;
	hi = SECOND_END;
	hash = path;
	open_pipe();
	check_all();
	for (op_index = 0; op_index < n; op_index++) {
		one_op();
		/*
		 * A page that the kernel holds for an operation is copied by a fork at once, and
		 * what comes after is not in the child: this waits until a fork is over.
		 */
		must(!mincore(AT(THREAD_FIRST), PAGE, &there), "mincore: %s", strerror(errno));
		nr_busy = 0;
		for (i = 0; i < 2; i++)
			check_page(lo + pick(hi - lo));
		__atomic_add_fetch(&slots[SL_OPS], 1, __ATOMIC_RELAXED);
		rising_number();
	}
	second_idle = true;
	while (!thread_stop) {
		rising_number();
		usleep(500);
	}
	op_name = "last look";
	check_all();
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	thread_hash = hash;
	return NULL;
}

static void start_thread(void)
{
	pthread_attr_t attr;

	thread_stop = false;
	second_idle = false;
	/* mlockall() has all of the stack */
	must(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, 512 << 10) &&
	     !pthread_create(&thread, &attr, second, NULL), "pthread_create");
	pthread_attr_destroy(&attr);
}

static void stop_thread(void)
{
	thread_stop = true;
	pthread_join(thread, NULL);
}

static void check_thread_pages(void)
{
	uint64_t first = *(uint64_t *)AT(THREAD_FIRST), last = first, v;
	unsigned long n;

	for (n = THREAD_FIRST; n < THREAD_FIRST + THREAD_PAGES; n++) {
		v = *(uint64_t *)AT(n);
		must(v <= last && v + 1 >= first,
		     "fork was not one instant: page %lu holds %" PRIu64 ", the first %" PRIu64 ", the one before %" PRIu64,
		     n, v, first, last);
		last = v;
	}
	for (n = THREAD_FIRST; n < THREAD_FIRST + THREAD_PAGES; n++)
		*(uint64_t *)AT(n) = first;
	thread_count = first;
}

#define SECOND_PAGES	(SECOND_END - SECOND_FIRST)

/*
 * The second thread's pages in a child.  Where it was at work, they may be anything, but
 * stay as they were; not those of a file that the parent changes.
 */
static void second_look(bool again)
{
	static uint64_t was[SECOND_PAGES][ARRAY_LEN(places)];
	uint64_t is[ARRAY_LEN(places)];
	unsigned long n;

	/* after a fault there are no rights by any protection key but the common one */
	peek(PAGES, is);
	for (n = SECOND_FIRST; n < SECOND_END; n++) {
		uint64_t *old = was[n - SECOND_FIRST];

		if (!is_busy(n)) {
			/* mostly the words will do */
			if (can(n, READ) && (again || n % 4) && peek(n, is))
				check_words(n, is);
			else if (can(n, READ) || !(n % 32))
				check_page(n);
			continue;
		}
		if (n >= second_file.first && n < second_file.end)
			continue;
		if (!peek(n, is)) {
			is[0] = ~0ULL;
			is[1] = fault.sig;
			is[2] = fault.code;
		}
		if (!again) {
			memcpy(old, is, sizeof(is));
			continue;
		}
		/* reclaim takes what the thread has given up with MADV_FREE */
		if (pressure && !is[0] && !is[1] && !is[2] &&
		    ((model[n].flags & MAYBE) || !strcmp(busy_with, "dontneed")))
			continue;
		must(!memcmp(old, is, sizeof(is)),
		     "page %lu of the second thread, which was at %s, was %#" PRIx64
		     " and is %#" PRIx64 " in a child where nobody writes", n, busy_with,
		     old[0], is[0]);
	}
}

/* New pages for the second thread. */
static void second_pages(void)
{
	unsigned long n;

	second_file.end = 0;
	nr_busy = 0;
	must(!munmap(AT(SECOND_FIRST), (SECOND_END - SECOND_FIRST) * PAGE), "munmap");
	must(mmap(AT(SECOND_FIRST), (SECOND_END - SECOND_FIRST) * PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == AT(SECOND_FIRST),
	     "mmap: %s", strerror(errno));
	for (n = SECOND_FIRST; n < SECOND_END; n++) {
		model[n] = (struct page){ .flags = MAPPED | READ | WRITE };
		set_page(n, mix3(seed, n, path) | 1);
		poke(n, model[n].val);
	}
}

static void registered(bool yes)
{
	unsigned int i;

	for (i = SL_PIDS; i < SL_PIDS + NR_PIDS; i++) {
		uint64_t old = yes ? 0 : getpid();

		if (__atomic_compare_exchange_n((uint64_t *)&slots[i], &old,
						yes ? (uint64_t)getpid() : 0, false,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return;
	}
}

/*
 * What smaps finds in the tables for the pages up to @end_page.  A fault maps pages of the
 * file around it, but for those that somebody has locked at this moment.  So they count
 * only where check_all() has read them all.
 */
static struct sizes sizes_of(unsigned long end_page, bool all_read)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool in = false, files = false;
	unsigned long start, end;
	struct sizes sum = { };
	char line[256], may_read;
	long rss = 0, kb;

	check(f, "smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		/* the names of fields begin with a capital letter */
		if ((line[0] < 'A' || line[0] > 'Z') &&
		    sscanf(line, "%lx-%lx %c", &start, &end, &may_read) == 3) {
			in = start >= (unsigned long)BASE &&
			     start < (unsigned long)AT(end_page);
			files = all_read && may_read == 'r';
		} else if (!in) {
			continue;
		} else if (!strncmp(line, "Rss:", 4)) {
			rss = atol(line + 4);
		} else if (!strncmp(line, "Anonymous:", 10)) {
			kb = atol(line + 10);
			sum.rss += files ? rss : kb;
			sum.anon += kb;
		} else if (!strncmp(line, "Swap:", 5)) {
			sum.swap += atol(line + 5);
		}
	}
	fclose(f);
	return sum;
}

static struct sizes rollup(void)
{
	static const char * const names[] = { "\nRss:", "\nAnonymous:", "\nSwap:" };
	static char buf[4096];
	long kb[ARRAY_LEN(names)];
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t len = 0, n;
	unsigned int i;

	must(fd >= 0, "smaps_rollup: %s", strerror(errno));
	while ((n = read(fd, buf + len, sizeof(buf) - 1 - len)) > 0)
		len += n;
	close(fd);
	buf[len] = 0;
	for (i = 0; i < ARRAY_LEN(names); i++) {
		const char *at = strstr(buf, names[i]);

		must(at, "smaps_rollup has no %s", names[i] + 1);
		kb[i] = atol(at + strlen(names[i]));
	}
	return (struct sizes){ kb[0], kb[1], kb[2] };
}

/*
 * While no other thread runs: the counters of the process, which /proc reads exactly, say
 * what is in its tables.  The reading itself, and others under pressure, may change both
 * in between, but not each time.  Swap of smaps includes pages of files in memory.
 */
static void check_counters(void)
{
	static const char *const names[] = { "VmRSS", "RssAnon", "VmSwap" };
	long before[ARRAY_LEN(names)], after[ARRAY_LEN(names)];
	struct sizes tables;
	unsigned int tries;

	__atomic_add_fetch(&slots[SL_AGREED], 1, __ATOMIC_RELAXED);
	for (tries = 0; tries < 200; tries++) {
		__atomic_add_fetch(&slots[SL_LOOKS], 1, __ATOMIC_RELAXED);
		status_fields(getpid(), names, before, ARRAY_LEN(names));
		tables = rollup();
		status_fields(getpid(), names, after, ARRAY_LEN(names));
		if (after[0] == tables.rss && after[1] == tables.anon &&
		    (pressure ? after[2] <= tables.swap : after[2] == tables.swap))
			return;
		if (tries && memcmp(before, after, sizeof(after)))
			usleep(1000);
	}
	wrong("counters: %ld kB resident, %ld anonymous, %ld in swap; the tables: %ld, %ld, %ld",
	      after[0], after[1], after[2], tables.rss, tables.anon, tables.swap);
}

static void live(void);

static void op_fork(void)
{
	uint64_t child_path = path * 8 + 1 + nr_forks % 7;
	unsigned int i;
	pid_t pid;

	if (depth >= max_depth)
		return;
	if (nr_children == MAX_CHILDREN) {
		join(children[0]);
		children[0] = children[--nr_children];
	}
	nr_forks++;
	pid = tree_fork();
	if (pid) {
		children[nr_children++] = pid;
		return;
	}
	path = mix3(child_path, nr_forks, 7) >> 16;
	depth++;
	nr_children = 0;
	nr_forks = 0;
	hash = path;
	/*
	 * The second thread may have been in the midst of an operation.  Whatever it was, here
	 * it stands still: what there is must not change, while the parent goes on.
	 */
	model_after_fork(0, SECOND_END);
	second_look(false);
	check_counters();
	if (!pressure)
		born = sizes_of(MAIN_PAGES, false);
	check_thread_pages();
	for (i = 0; i < ARRAY_LEN(places); i++)
		inherited[i] = *(volatile uint64_t *)(AT(MAILBOX) + places[i]);
	letter_number = 0;
	check_mailbox();
	check_all();
	check_heap();
	second_look(true);
	second_pages();
	live();
	done();
}

/* What a process of the tree does from its first moment to its last. */
static void live(void)
{
	unsigned int n = my_ops(), i;
	struct result *r;

	registered(true);
	/* the parent's pipe is not ours to write to */
	if (pipe_fd[1]) {
		close(pipe_fd[0]);
		close(pipe_fd[1]);
	}
	open_pipe();
	start_thread();
	check_all();
	for (op_index = 0; op_index < n; op_index++) {
		one_op();
		/* no tree without children */
		if (op_index == n / 3 && !nr_forks && (kinds & FORK)) {
			op_name = "fork";
			op_fork();
		}
		for (i = 0; i < 4; i++)
			check_page(pick(MAIN_PAGES));
		check_mailbox();
		__atomic_add_fetch(&slots[SL_OPS], 1, __ATOMIC_RELAXED);
	}
	op_name = "last look";
	check_all();
	while (nr_children)
		join(children[--nr_children]);
	op_name = "look after the children";
	check_all();
	check_heap();
	check_mailbox();
	must(rest_is_zero(MAILBOX), "the mailbox has what nobody wrote");
	/* so that it has had all its operations: it stops only then */
	stop_thread();
	check_counters();
	i = __atomic_fetch_add(&slots[SL_PROCESSES], 1, __ATOMIC_RELAXED);
	check(i < MAX_RESULTS, "too many processes: fewer --ops or a smaller --depth");
	r = &results[i];
	r->path = path;
	r->hash = mix3(hash, thread_hash, 5);
	if (!pressure) {
		r->born = born;
		r->ended = sizes_of(PAGES, true);
		r->pte = status_kb(getpid(), "VmPTE");
	}
	registered(false);
}

static void map_arena(char *at, unsigned long nr)
{
	check(mmap(at, nr * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at,
	      "mmap: %s", strerror(errno));
}

/* Run the tree that the seed makes, with or without sharing. */
static void run_tree(bool share)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	unsigned long n;
	pid_t pid;

	for (n = 0; n < SL_PIDS + NR_PIDS; n++)
		if (n < SL_KEPT || n >= SL_PIDS)
			slots[n] = 0;
	memset(results, 0, MAX_RESULTS * sizeof(*results));
	set_mode(share);
	pid = xfork();
	if (!pid) {
		sigaction(SIGSEGV, &sa, NULL);
		sigaction(SIGBUS, &sa, NULL);
		map_arena(BASE, PAGES);
		/* other flags than any neighbour will ever have */
		check(!madvise(AT(MAIN_PAGES), PAGE, MADV_DONTDUMP) &&
		      !madvise(AT(SECOND_END), PAGE, MADV_DONTDUMP), "MADV_DONTDUMP: %s",
		      strerror(errno));
		for (n = 0; n < MAIN_PAGES; n++) {
			model[n].flags = MAPPED | READ | WRITE;
			set_page(n, mix3(seed, n, 11) | 1);
			poke(n, model[n].val);
		}
		for (n = THREAD_FIRST; n < PAGES; n++)
			*(uint64_t *)AT(n) = 0;
		path = 1;
		hash = 0;
		second_pages();
		live();
		done();
	}
	join(pid);
}

static int by_path(const void *a, const void *b)
{
	const struct result *x = a, *y = b;

	return x->path < y->path ? -1 : x->path > y->path;
}

/* What happened in the runs with sharing, and how many forks they had. */
static struct {
	struct events events;
	long forks, swapped_out, migrated;
} shared_runs;

static void run_sharing(void)
{
	long out = vmstat("pswpout"), migrated = vmstat("pgmigrate_success");
	struct events before;
	unsigned int i;

	events_get(&before);
	run_tree(true);
	for (i = 0; i < NR_EVENTS; i++)
		shared_runs.events.v[i] += event_delta(&before, i);
	shared_runs.swapped_out += vmstat("pswpout") - out;
	shared_runs.migrated += vmstat("pgmigrate_success") - migrated;
	shared_runs.forks += slots[SL_FORKS];
}

static void compare_sizes(uint64_t process, const char *when, const struct sizes *with,
			  const struct sizes *without)
{
	check(!memcmp(with, without, sizeof(*with)),
	      OPTIONS ": process %#" PRIx64 ", when it %s: Rss %ld kB, Anonymous %ld, Swap %ld, without sharing %ld, %ld, %ld",
	      OPTION_VALUES, process, when, with->rss, with->anon, with->swap, without->rss,
	      without->anon, without->swap);
}

/* Run it both ways and compare.  Returns the number of operations; *processes grows. */
static unsigned long run_both(unsigned long *processes)
{
	static struct result off[MAX_RESULTS];
	unsigned long operations, i;

	/* so that what the kernel says can be told to belong to a seed */
	write_file("/dev/kmsg", "fuzz: " OPTIONS "%s\n", OPTION_VALUES,
		   pressure ? ", under pressure" : "");
	run_tree(false);
	operations = slots[SL_OPS];
	*processes += slots[SL_PROCESSES];
	i = slots[SL_PROCESSES];
	qsort(results, i, sizeof(*results), by_path);
	memcpy(off, results, sizeof(off));
	run_sharing();
	check(slots[SL_PROCESSES] == i && slots[SL_OPS] == operations,
	      OPTIONS ": %" PRIu64 " processes and %" PRIu64 " operations, without sharing %lu and %lu",
	      OPTION_VALUES, slots[SL_PROCESSES], slots[SL_OPS], i, operations);
	*processes += i;
	qsort(results, i, sizeof(*results), by_path);
	while (i--) {
		struct result *a = &off[i], *b = &results[i];

		check(a->path == b->path, OPTIONS ": other processes than without sharing",
		      OPTION_VALUES);
		check(a->hash == b->hash,
		      OPTIONS ": process %#" PRIx64 ": an operation returned something else than without sharing",
		      OPTION_VALUES, a->path);
		compare_sizes(a->path, "was born", &b->born, &a->born);
		compare_sizes(a->path, "ended", &b->ended, &a->ended);
		check(a->pte == b->pte,
		      OPTIONS ": process %#" PRIx64 ": VmPTE %ld kB, without sharing %ld",
		      OPTION_VALUES, a->path, b->pte, a->pte);
	}
	return operations * 2;
}

static void open_files(void)
{
	static char buf[PAGE] __attribute__((aligned(PAGE)));
	char name[] = "/mnt/disk/fuzz.XXXXXX", *why = NULL;
	struct uffdio_api api = { .api = UFFD_API };
	unsigned int i;
	int fd;

	fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		note("no userfaultfd: %s", strerror(errno));
	else
		can_move = api.features & FEATURE_MOVE;
	close(fd);
	for (i = SL_KEPT; i < SL_PIDS; i++)
		slots[i] = 0;
	no_huge_pages = access("/sys/kernel/mm/transparent_hugepage", F_OK);
	data_fd = memfd_create("fuzz", 0);
	check(data_fd >= 0, "memfd_create: %s", strerror(errno));
	results = mmap(NULL, MAX_RESULTS * sizeof(*results), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	tally = mmap(NULL, MAX_KINDS * sizeof(*tally), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(results != MAP_FAILED && tally != MAP_FAILED, "mmap: %s", strerror(errno));
	for (i = 0; i < FILE_PAGES; i++) {
		make_page(buf, file_val(i));
		check(write(data_fd, buf, PAGE) == PAGE, "write: %s", strerror(errno));
	}
	fd = mkstemp(name);
	if (fd < 0) {
		why = "/mnt/disk";
	} else {
		for (i = 0; i < 64; i++) {
			make_page(buf, file_val(i));
			check(write(fd, buf, PAGE) == PAGE, "write: %s", strerror(errno));
		}
		close(fd);
		direct_fd = open(name, O_RDONLY | O_DIRECT);
		if (direct_fd < 0)
			why = "O_DIRECT";
		unlink(name);
	}
	if (why)
		note("no direct reads: %s: %s", why, strerror(errno));
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static double seconds;

/*
 * Not where the run was made smaller: all kinds of operations, and enough of them.  Then a
 * run in which hardly anything was shared, or moved about, has tested nothing.
 */
static bool whole = true;

#define happened(what, nr, min)						\
	check((nr) > (min), "%s: %ld, expected more than %ld", what, (long)(nr), (long)(min))

static void report(unsigned int runs, double since, unsigned long done_ops,
		   unsigned long processes, long background)
{
	static const enum cow_event shown[] = {
		EV_SHARE, EV_BREAK, EV_REUSE, EV_DETACH, EV_INPLACE,
	};
	long *v = shared_runs.events.v, others = background * shared_runs.forks;
	double t = now() - since;
	char line[200] = "";
	unsigned int i;
	int len = 0;

	note("%u runs, %lu processes, %lu operations, %.0f a second", runs,
	     processes, done_ops, t > 0 ? done_ops / t : 0);
	for (i = 0; i < NR_KINDS; i++) {
		len += snprintf(line + len, sizeof(line) - len, " %s %" PRIu64 "/%" PRIu64,
				ops[i].name, tally[i].did, tally[i].begun);
		if (len < 80 && i + 1 < NR_KINDS)
			continue;
		note("did something:%s", line);
		len = 0;
	}
	note("counters and tables agreed %" PRIu64 " times, after %" PRIu64 " looks in all",
	     slots[SL_AGREED], slots[SL_LOOKS]);
	note("with sharing: %ld forks, which without the tests' memory share %ld tables",
	     shared_runs.forks, others);
	for (i = 0; i < ARRAY_LEN(shown); i++)
		len += snprintf(line + len, sizeof(line) - len, " %s %ld", event_names[shown[i]],
				v[shown[i]]);
	note("with sharing:%s, pswpout %ld, pgmigrate_success %ld", line,
	     shared_runs.swapped_out, shared_runs.migrated);
	if (plain || !whole || done_ops < ENOUGH_OPS || (pressure && t < ENOUGH_SECONDS))
		return;
	happened(event_names[EV_SHARE], v[EV_SHARE], others);
	for (i = 1; i < ARRAY_LEN(shown); i++)
		if (pressure || shown[i] != EV_INPLACE)
			happened(event_names[shown[i]], v[shown[i]], 0);
	if (pressure && have_swap()) {
		happened("pswpout", shared_runs.swapped_out, 0);
		happened("swapoff", slots[SL_SWAPOFFS], 0);
	}
	if (pressure && !access("/sys/devices/system/node/node1", F_OK))
		happened("pgmigrate_success", shared_runs.migrated, 0);
}

static void same_results(void)
{
	unsigned long operations = 0, processes = 0;
	unsigned int round = 0;
	uint64_t first_seed = seed;
	long background;
	double start;

	open_files();
	background = background_shares();
	start = now();
	do {
		seed = first_seed + round++;
		operations += run_both(&processes);
	} while (seconds ? now() < start + seconds : round < rounds(nr_seeds));
	report(2 * round, start, operations, processes, background);
	note("UFFDIO_MOVE: %" PRIu64 " pages%s", slots[SL_MOVES],
	     can_move ? "" : ", not in this kernel");
	seed = first_seed;
}

/* The settings that the second case changes. */
static struct setting {
	const char *path;
	long value, saved;
} settings[] = {
	{ "/sys/kernel/mm/ksm/run", 1, -1 },
	{ "/sys/kernel/mm/ksm/sleep_millisecs", 20, -1 },
	{ "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", 20, -1 },
	{ "/sys/kernel/mm/transparent_hugepage/khugepaged/alloc_sleep_millisecs", 20, -1 },
	{ "/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan", 4096, -1 },
	/* NUMA hints, ten times as often as by default */
	{ "/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", 10, -1 },
	{ "/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", 100, -1 },
	{ "/proc/sys/kernel/numa_balancing", 1, -1 },
};

static void settings_set(bool back)
{
	struct setting *s;

	for (s = settings; s < settings + ARRAY_LEN(settings); s++) {
		if (!back)
			s->saved = read_long(s->path);
		if (s->saved >= 0)
			write_file(s->path, "%ld", back ? s->saved : s->value);
	}
}

#define LRU_GEN		"/sys/kernel/debug/lru_gen"
#define LRU_GEN_ON	"/sys/kernel/mm/lru_gen/enabled"

/* Each memory cgroup on each node gets a generation more: tables are walked for that. */
static void age(void)
{
	unsigned long memcg = 0, node = 0, gen, n;
	FILE *f = fopen(LRU_GEN, "r");
	struct { unsigned long memcg, node, gen; } v[16];
	unsigned int nr = 0, i;
	char line[256];

	if (!f)
		return;
	while (fgets(line, sizeof(line), f) && nr < ARRAY_LEN(v)) {
		if (sscanf(line, "memcg %lu", &memcg) == 1)
			continue;
		if (sscanf(line, " node %lu", &node) == 1) {
			v[nr].memcg = memcg;
			v[nr++].node = node;
		} else if (nr && sscanf(line, " %lu", &gen) == 1) {
			v[nr - 1].gen = gen;
		}
	}
	fclose(f);
	for (i = 0, n = 0; i < nr; i++)
		n += !write_file(LRU_GEN, "+ %lu %lu %lu 1 1", v[i].memcg, v[i].node, v[i].gen);
	if (n)
		__atomic_add_fetch(&slots[SL_AGED], 1, __ATOMIC_RELAXED);
}

/* Does to the processes of the tree what an administrator and a bad day can do. */
static void disturb(void)
{
	static char buf[PAGE];
	uint64_t state = mix3(seed, 77, 0);
	void *pages[32];
	int nodes[32], status[32], pidfd, idle;
	uint64_t all = ~0ULL;
	struct iovec local = { buf, sizeof(buf) }, remote;
	unsigned int i;
	pid_t pid;

	while (!slots[SL_STOP]) {
		pid = slots[SL_PIDS + rnd(&state) % NR_PIDS];
		if (!pid) {
			usleep(1000);
			continue;
		}
		switch (rnd(&state) % 15) {
		case 0:
			write_file("/proc/sys/vm/compact_memory", "1");
			break;
		case 1:
			if (!cycle_swap())
				slots[SL_SWAPOFFS]++;
			break;
		case 2:
			status_kb(getpid(), "VmRSS");
			write_file("/proc/sys/vm/drop_caches", "1");
			break;
		case 3:
		case 4:
		case 5:
		case 6:
			pidfd = syscall(SYS_pidfd_open, pid, 0);
			if (pidfd < 0)
				break;
			remote.iov_base = AT(rnd(&state) % PAGES);
			remote.iov_len = (1 + rnd(&state) % 300) * PAGE;
			syscall(SYS_process_madvise, pidfd, &remote, 1,
				rnd(&state) % 4 ? MADV_PAGEOUT : MADV_COLD, 0);
			close(pidfd);
			break;
		case 7:
		case 8:
			for (i = 0; i < ARRAY_LEN(pages); i++) {
				pages[i] = AT(rnd(&state) % PAGES);
				nodes[i] = rnd(&state) % 2;
			}
			syscall(SYS_move_pages, pid, ARRAY_LEN(pages), pages, nodes, status, 4);
			break;
		case 9:
			read_smaps(pid);
			break;
		case 10:
			/* the accessed bits of 64 pages in 8192 are cleared */
			idle = open("/sys/kernel/mm/page_idle/bitmap", O_WRONLY | O_CLOEXEC);
			for (i = rnd(&state) % 4096; idle >= 0 && i < 4096 * 32; i += 128)
				if (pwrite(idle, &all, sizeof(all), i * sizeof(all)) < 0)
					break;
			if (idle >= 0)
				close(idle);
			break;
		case 11:
			age();
			break;
		case 12:
			if (!write_file("/sys/kernel/debug/split_huge_pages", "%d,0x%lx,0x%lx",
					pid, (unsigned long)BASE, (unsigned long)AT(PAGES)))
				__atomic_add_fetch(&slots[SL_SPLITS], 1, __ATOMIC_RELAXED);
			break;
		default:
			remote.iov_base = AT(rnd(&state) % PAGES);
			remote.iov_len = PAGE;
			process_vm_readv(pid, &local, 1, &remote, 1, 0);
		}
	}
}

/* What of the multi-gen LRU is on, a number in hexadecimal; 0 without one. */
static long read_lru_gen(void)
{
	char buf[32] = "0";
	int fd = open(LRU_GEN_ON, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, buf, sizeof(buf) - 1) < 0)
		buf[0] = 0;
	close(fd);
	return strtol(buf, NULL, 16);
}

static void under_pressure(void)
{
	long lru_gen;
	unsigned long operations = 0, processes = 0;
	uint64_t first_seed = seed;
	unsigned int runs = 0;
	long background;
	double start;
	pid_t pid;

	pressure = true;
	open_files();
	lru_gen = read_lru_gen();
	background = background_shares();
	start = now();
	settings_set(false);
	pid = xfork();
	if (!pid) {
		disturb();
		done();
	}
	do {
		seed = first_seed + runs++;
		/* every other seed has the other way to find what is old */
		write_file(LRU_GEN_ON, "%ld", seed % 2 ? lru_gen ^ 7 : lru_gen);
		operations += run_both(&processes);
	} while (seconds ? now() < start + seconds : runs < rounds(nr_seeds));
	slots[SL_STOP] = 1;
	join(pid);
	settings_set(true);
	write_file(LRU_GEN_ON, "%ld", lru_gen);
	note("swapoff %" PRIu64 " times, all pages older %" PRIu64 " times, huge pages split %" PRIu64
	     " times", slots[SL_SWAPOFFS], slots[SL_AGED], slots[SL_SPLITS]);
	report(2 * runs, start, operations, processes, background);
	seed = first_seed;
}

static const struct cow_case cases[] = {
	{ "same results without and with sharing", same_results },
	{ "under pressure", under_pressure },
};

static const char fuzz_help[] =
"Options of this program, before those of all tests:\n"
"  --ops N        operations of the first process of a tree (20; 60 with --seconds)\n"
"  --depth N      generations after the first process, 0 to 3 (2)\n"
"  --kinds LIST   only these operations, separated by commas\n"
"  --seconds N    go on with new seeds for so long\n"
"  --shrink       find the smallest run that fails, or has the kernel report a bug,\n"
"                 with the --seed, --ops and --depth given\n"
"  --help\n\n"
"Operations:";

static int usage(FILE *f, int status)
{
	unsigned int i;

	fputs(fuzz_help, f);
	for (i = 0; i < ARRAY_LEN(ops); i++)
		fprintf(f, " %s", ops[i].name);
	fputs("\n\n", f);
	return status;
}

static bool parse_kinds(const char *list)
{
	char *copy = strdup(list), *save = NULL, *name;
	unsigned int i;

	kinds = 0;
	for (name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		for (i = 0; i < ARRAY_LEN(ops); i++)
			if (!strcmp(ops[i].name, name))
				break;
		if (i == ARRAY_LEN(ops)) {
			fprintf(stderr, "there is no operation '%s', see --help\n", name);
			return false;
		}
		kinds |= 1ULL << i;
	}
	free(copy);
	return kinds != 0;
}

static bool parse_number(const char *text, unsigned long min, unsigned long max,
			 unsigned long *value)
{
	char *end;

	errno = 0;
	*value = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || *value < min || *value > max) {
		fprintf(stderr, "'%s' is no number from %lu to %lu\n", text, min, max);
		return false;
	}
	return true;
}

/* Has the kernel reported a bug since @fd was at the end of its log? */
static bool kernel_complains(int fd)
{
	static const char * const reports[] = { "BUG: ", "WARNING: ", "INFO: task " };
	bool found = false;
	char line[8192];
	unsigned int i;
	ssize_t n;

	for (;;) {
		n = read(fd, line, sizeof(line) - 1);
		/* lines that were lost */
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return found;
		line[n] = 0;
		for (i = 0; i < ARRAY_LEN(reports); i++)
			found |= !!strstr(line, reports[i]);
	}
}

/*
 * One run of this program with the present limits; true if it fails, or the kernel
 * complains.  Lockdep does so once only, and KASAN without kasan_multi_shot.
 */
static bool fails(int argc, char **argv)
{
	int status, log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	bool complains;
	pid_t pid;

	write_file("/sys/kernel/debug/clear_warn_once", "1");
	lseek(log, 0, SEEK_END);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		int fd = open("/dev/null", O_WRONLY);

		dup2(fd, 1);
		dup2(fd, 2);
		exit(cow_main(argc, argv, cases, ARRAY_LEN(cases)));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("fork");
		exit(1);
	}
	complains = kernel_complains(log);
	close(log);
	return complains || WIFSIGNALED(status) || WEXITSTATUS(status) == 1;
}

static void print_kinds(void)
{
	const char *comma = "";
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(ops); i++) {
		if (kinds & (1ULL << i)) {
			printf("%s%s", comma, ops[i].name);
			comma = ",";
		}
	}
}

/* Fewer kinds, fewer generations, fewer operations: keep what still fails. */
static int shrink(int argc, char **argv)
{
	unsigned int step, i, runs = 1;

	if (!fails(argc, argv)) {
		printf("this does not fail, with --depth %u --ops %u: give --ops, --depth and --seed as the failure has printed them, or more --rounds\n",
		       max_depth, nr_ops);
		return 4;
	}
	for (i = 0; i < ARRAY_LEN(ops); i++) {
		uint64_t old = kinds;

		kinds &= ~(1ULL << i);
		runs++;
		if (kinds == old || !kinds || !fails(argc, argv))
			kinds = old;
	}
	while (max_depth) {
		max_depth--;
		runs++;
		if (!fails(argc, argv)) {
			max_depth++;
			break;
		}
	}
	for (step = nr_ops / 2; step; step /= 2) {
		while (nr_ops > step) {
			nr_ops -= step;
			runs++;
			if (!fails(argc, argv)) {
				nr_ops += step;
				break;
			}
		}
	}
	printf("smallest run that failed, of %u: --depth %u --ops %u --kinds ", runs,
	       max_depth, nr_ops);
	print_kinds();
	printf("\n");
	return 1;
}

int main(int argc, char **argv)
{
	bool want_shrink = false, ops_given = false;
	unsigned long value;
	char limit[24];
	int n = 1, i;

	if (argc == 2 && !strcmp(argv[1], TINY))
		return tiny();
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--shrink")) {
			want_shrink = true;
		} else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			usage(stdout, 0);
			argv[n++] = argv[i];
		} else if (i + 1 < argc && !strcmp(argv[i], "--ops")) {
			if (!parse_number(argv[++i], 1, 1000000, &value))
				return 2;
			nr_ops = value;
			ops_given = true;
			whole = false;
		} else if (i + 1 < argc && !strcmp(argv[i], "--depth")) {
			if (!parse_number(argv[++i], 0, 3, &value))
				return 2;
			max_depth = value;
			whole = false;
		} else if (i + 1 < argc && !strcmp(argv[i], "--seconds")) {
			if (!parse_number(argv[++i], 1, 1000000, &value))
				return 2;
			seconds = value;
			if (!ops_given)
				nr_ops = MANY_OPS;
			/* a run that has begun is brought to its end */
			snprintf(limit, sizeof(limit), "%lu", 2 * value + 300);
			setenv("COW_PTE_TEST_TIMEOUT", limit, 0);
		} else if (i + 1 < argc && !strcmp(argv[i], "--kinds")) {
			if (!parse_kinds(argv[++i]))
				return usage(stderr, 2);
			whole = false;
		} else {
			argv[n++] = argv[i];
		}
	}
	argv[n] = NULL;
	if (want_shrink) {
		nr_seeds = 1;
		whole = false;
		return shrink(n, argv);
	}
	return cow_main(n, argv, cases, ARRAY_LEN(cases));
}
