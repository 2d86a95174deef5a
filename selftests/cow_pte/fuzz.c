// SPDX-License-Identifier: GPL-2.0
/*
 * A differential fuzzer.
 *
 * A tree of processes does random operations on its memory, all processes at once.
 * Each process has a model of every page: what it holds, whether it may be read or
 * written.  What an operation returns and what a page holds is compared with the
 * model; and since a process's private memory is its own affair, the same seed must
 * give the same results with shared page tables as without, however the processes
 * are scheduled.  The first case compares these, and the resident pages; the second
 * adds what moves pages about: swap, compaction, KSM, huge pages, other processes
 * that look in.
 *
 * Operation K of a process draws its numbers from a generator of its own, made from
 * the seed, the process's place in the tree and K.  So a run can be cut short (--ops,
 * --depth) or thinned out (--kinds) and what is left does the same: --shrink looks
 * for the smallest run that fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cow_pte_util.h"

#define MPOL_BIND		2
#define MPOL_MF_MOVE		2

/* The arena; its last pages belong to the second thread. */
#define BASE		((char *)0x200000000000UL)
#define NR		4UL
#define PAGES		(NR * BLOCK_PAGES)
#define THREAD_PAGES	48UL
#define MAIN_PAGES	(PAGES - THREAD_PAGES)
#define AT(n)		(BASE + (n) * PAGE)
#define MAX_CHILDREN	2

enum page_flag {
	MAPPED = 1, READ = 2, WRITE = 4, IS_FILE = 8, DONT_FORK = 16, WIPE = 32,
	LOCKED = 64,
	/* holds its value or zero: MADV_FREE */
	MAYBE = 128,
};

struct page {
	uint64_t val;		/* 0: nothing but zeroes */
	uint16_t file_page;
	uint16_t flags;
};

/* Private memory, so what is tested here keeps its own books too. */
static struct page model[PAGES];
static unsigned int nr_ops = 60, max_depth = 2;
static uint64_t kinds = ~0ULL;
static bool pressure;

/* This process. */
static uint64_t path, rng, hash, thread_count;
static unsigned int depth, op_index;
static const char *op_name = "start";
static int data_fd = -1, direct_fd = -1, pipe_fd[2];
static volatile bool thread_stop;
static pthread_t thread;

/* Words that all processes share. */
enum slot {
	SL_HASH, SL_OPS, SL_PROCESSES, SL_RSS, SL_PTE, SL_STOP, SL_SWAPOFFS, SL_PIDS,
	NR_PIDS = 20,
};

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

#define wrong(fmt, ...)							\
	fail("seed %" PRIu64 ", process %#" PRIx64 ", operation %u (%s): " fmt,	\
	     seed, path, op_index, op_name, ##__VA_ARGS__)
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

static sigjmp_buf fault_env;
static volatile sig_atomic_t armed;

static void on_fault(int sig)
{
	if (!armed) {
		signal(sig, SIG_DFL);
		return;
	}
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

static void check_words(unsigned long n, const uint64_t *words)
{
	struct page *m = &model[n];
	unsigned int i, good = 0, zero = 0;

	for (i = 0; i < ARRAY_LEN(places); i++) {
		good += words[i] == word_of(m->val, i);
		zero += !words[i];
	}
	if (good == ARRAY_LEN(places))
		return;
	if ((m->flags & MAYBE) && zero == ARRAY_LEN(places)) {
		m->flags &= ~MAYBE;
		m->val = 0;
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
	if (ok)
		check_words(n, words);
}

/* Of the pages that cannot be read, a sample: signals are slow. */
static void check_all(void)
{
	unsigned long n;

	for (n = 0; n < MAIN_PAGES; n++)
		if (can(n, READ) || !(n % 32))
			check_page(n);
}

static void set_page(unsigned long n, uint64_t val)
{
	model[n].val = val;
	model[n].flags &= ~MAYBE;
}

/* What a page holds that nobody wrote. */
static void drop_page(unsigned long n)
{
	set_page(n, model[n].flags & IS_FILE ? file_val(model[n].file_page) : 0);
}

struct range {
	unsigned long first, nr, end;
};

/* Mostly short, often with an end at the edge of a block, sometimes long. */
static struct range pick_range(void)
{
	struct range r;

	r.first = pick(MAIN_PAGES);
	switch (pick(8)) {
	case 0:
		r.first &= ~(BLOCK_PAGES - 1);
		r.nr = BLOCK_PAGES;
		break;
	case 1:
		r.nr = 1 + pick(BLOCK_PAGES + 40);
		break;
	case 2:
		r.first = (1 + pick(NR - 1)) * BLOCK_PAGES - pick(3);
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
	if (r.first + r.nr > MAIN_PAGES)
		r.nr = MAIN_PAGES - r.first;
	r.end = r.first + r.nr;
	return r;
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

static void expect(long ret, long want)
{
	must(ret == want, "returned %ld, must return %ld", ret, want);
	add_hash(ret);
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
		if (ok)
			set_page(n, val + n * 2);
	}
}

static void op_read(void)
{
	struct range r = pick_range();
	unsigned long n;

	for (n = r.first; n < r.end; n++)
		if (can(n, READ) || !pick(8))
			check_page(n);
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
}

static void op_mprotect(void)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	static const unsigned int flags[] = { 0, READ, READ | WRITE };
	struct range r = pick_range();
	/* mostly back to writable */
	unsigned int i = pick(5), hole = hole_in(r);
	unsigned long n;

	if (i > 2)
		i = 2;
	expect(result(mprotect(AT(r.first), r.nr * PAGE, prots[i])),
	       hole < r.end ? -ENOMEM : 0);
	for (n = r.first; n < hole; n++)
		model[n].flags = (model[n].flags & ~(READ | WRITE)) | flags[i];
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

/* Advice that changes nothing that a program can see; what it returns is compared. */
static void op_advice(void)
{
	static const int advice[] = {
		MADV_WILLNEED, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM,
		MADV_NORMAL, MADV_NOHUGEPAGE,
	};
	struct range r = pick_range();

	add_hash(result(madvise(AT(r.first), r.nr * PAGE, advice[pick(ARRAY_LEN(advice))])));
}

/* The same, but what it returns, or which pages are there, depends on the weather. */
static void op_weather(void)
{
	static const int advice[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_PAGEOUT, MADV_PAGEOUT, MADV_HUGEPAGE,
		MADV_COLLAPSE, MADV_MERGEABLE, MADV_UNMERGEABLE,
	};
	struct range r = pick_range();

	if (pressure)
		madvise(AT(r.first), r.nr * PAGE, advice[pick(ARRAY_LEN(advice))]);
}

static void op_mlock(void)
{
	struct range r = pick_range();
	unsigned int i = pick(3);
	unsigned long hole = hole_in(r), n;
	long ret;

	switch (i) {
	case 0:
		ret = result(mlock(AT(r.first), r.nr * PAGE));
		break;
	case 1:
		ret = result(syscall(SYS_mlock2, AT(r.first), r.nr * PAGE, 1 /* ONFAULT */));
		break;
	default:
		ret = result(munlock(AT(r.first), r.nr * PAGE));
	}
	must(hole == r.end || ret == -ENOMEM, "returned %ld over a hole", ret);
	add_hash(ret);
	for (n = r.first; n < hole; n++) {
		model[n].flags &= ~LOCKED;
		if (i < 2)
			model[n].flags |= LOCKED;
	}
}

/*
 * Moving succeeds within a mapping.  Where the model sees one there may be several;
 * having come to the old range, mremap has emptied the new one already.
 */
static void op_mremap(void)
{
	struct range r = pick_range();
	unsigned long to = pick(MAIN_PAGES - r.nr + 1), n;
	bool keep = !pick(4), one = true, locked = false;
	static struct page moved[PAGES];
	long ret;

	/* whole tables can be moved as such */
	if (pick(2))
		to = (to & ~(BLOCK_PAGES - 1)) | (r.first & (BLOCK_PAGES - 1));
	if (to + r.nr > MAIN_PAGES || (to < r.end && r.first < to + r.nr))
		return;
	for (n = r.first; n < r.end; n++) {
		locked |= can(n, LOCKED);
		one &= can(n, 0) && !((model[n].flags ^ model[r.first].flags) & ~MAYBE) &&
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
	add_hash(ret);
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
	unsigned long n = pick(MAIN_PAGES), i;
	unsigned int how = pick(5), file_page = pick(64);
	static char buf[PAGE] __attribute__((aligned(PAGE)));
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

static int userfault(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* A page put into a hole, one of zeroes, protection and its end. */
static void op_userfault(void)
{
	struct range r = pick_range();
	struct uffdio_register reg = { };
	struct uffdio_writeprotect wp = { };
	static char buf[PAGE] __attribute__((aligned(PAGE)));
	uint64_t val = mix3(rng, 3, op_index) | 1;
	bool protect = pick(2);
	unsigned long n;
	int fd;

	for (n = r.first; n < r.end; n++)
		if (!can(n, READ) || (model[n].flags & (IS_FILE | LOCKED | MAYBE)))
			break;
	r.end = n;
	r.nr = r.end - r.first;
	if (r.nr < 2)
		return;
	fd = userfault();
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
		wp.range = reg.range;
		wp.mode = UFFDIO_WRITEPROTECT_MODE_WP;
		expect(result(ioctl(fd, UFFDIO_WRITEPROTECT, &wp)), 0);
		op_name = "userfault, protected";
		for (n = r.first; n < r.end; n++)
			check_page(n);
		if (pick(2)) {
			wp.mode = 0;
			expect(result(ioctl(fd, UFFDIO_WRITEPROTECT, &wp)), 0);
		}
	} else {
		struct uffdio_copy copy = {
			.dst = (long)AT(r.first), .src = (long)buf, .len = PAGE,
		};
		struct uffdio_zeropage zero = {
			.range = { (long)AT(r.first + 1), PAGE },
		};
		long ret;

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
	}
	expect(result(ioctl(fd, UFFDIO_UNREGISTER, &reg.range)), 0);
	close(fd);
}

/* Pages go to another node, by policy or one by one. */
static void op_nodes(void)
{
	struct range r = pick_range();
	unsigned long mask = 1UL << pick(2), both = 3;
	void *pages[16];
	int nodes[16], status[16];
	unsigned int i;

	if (!pressure)
		return;
	if (pick(2)) {
		syscall(SYS_mbind, AT(r.first), r.nr * PAGE, MPOL_BIND, &mask, 8, MPOL_MF_MOVE);
		syscall(SYS_mbind, AT(r.first), r.nr * PAGE, 0, NULL, 0, 0);
	} else if (pick(4)) {
		for (i = 0; i < ARRAY_LEN(pages); i++) {
			pages[i] = AT(r.first + pick(r.nr));
			nodes[i] = pick(2);
		}
		syscall(SYS_move_pages, 0, ARRAY_LEN(pages), pages, nodes, status, 2);
	} else {
		syscall(SYS_migrate_pages, 0, 8, &both, &mask);
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
	static char buf[16384];
	int fd;

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
			pagemap(getpid(), AT(pick(MAIN_PAGES)));
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
	}
}

static void op_fork(void);

static const struct kind {
	const char *name;
	unsigned int weight;
	void (*fn)(void);
} ops[] = {
	{ "write", 20, op_write },
	{ "read", 8, op_read },
	{ "munmap", 3, op_munmap },
	{ "mmap", 8, op_mmap },
	{ "mprotect", 8, op_mprotect },
	{ "dontneed", 6, op_dontneed },
	{ "fork-advice", 3, op_fork_advice },
	{ "advice", 5, op_advice },
	{ "weather", 8, op_weather },
	{ "mlock", 4, op_mlock },
	{ "mremap", 6, op_mremap },
	{ "kernel-access", 8, op_kernel_access },
	{ "userfault", 3, op_userfault },
	{ "nodes", 3, op_nodes },
	{ "observe", 2, op_observe },
	{ "switch", 1, op_switch },
	{ "fork", 6, op_fork },
};

/*
 * The second thread writes a rising number to its pages, from the first to the last.
 * A fork is one instant, so a child must see a falling sequence with one step.
 */
static void *writer(void *arg)
{
	unsigned long n;

	(void)arg;
	while (!thread_stop) {
		thread_count++;
		for (n = MAIN_PAGES; n < PAGES && !thread_stop; n++)
			*(volatile uint64_t *)AT(n) = thread_count;
		if (n == PAGES)
			usleep(500);
	}
	return NULL;
}

static void start_thread(void)
{
	thread_stop = false;
	must(!pthread_create(&thread, NULL, writer, NULL), "pthread_create");
}

static void stop_thread(void)
{
	thread_stop = true;
	pthread_join(thread, NULL);
}

static void check_thread_pages(void)
{
	uint64_t first = *(uint64_t *)AT(MAIN_PAGES), last = first, v;
	unsigned long n;

	for (n = MAIN_PAGES; n < PAGES; n++) {
		v = *(uint64_t *)AT(n);
		must(v <= last && v + 1 >= first,
		     "fork was not one instant: page %lu holds %" PRIu64 ", the first %" PRIu64 ", the one before %" PRIu64,
		     n, v, first, last);
		last = v;
	}
	for (n = MAIN_PAGES; n < PAGES; n++)
		*(uint64_t *)AT(n) = first;
	thread_count = first;
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

static void live(void);

static pid_t children[MAX_CHILDREN];
static unsigned int nr_children, nr_forks;

static void op_fork(void)
{
	uint64_t child_path = path * 8 + 1 + nr_forks % 7;
	unsigned long n;
	pid_t pid;

	if (depth >= max_depth)
		return;
	if (nr_children == MAX_CHILDREN) {
		join(children[0]);
		children[0] = children[--nr_children];
	}
	nr_forks++;
	pid = xfork();
	if (pid) {
		children[nr_children++] = pid;
		return;
	}
	path = mix3(child_path, nr_forks, 7) >> 16;
	depth++;
	nr_children = 0;
	nr_forks = 0;
	hash = path;
	check_thread_pages();
	for (n = 0; n < MAIN_PAGES; n++) {
		model[n].flags &= ~LOCKED;
		if (can(n, DONT_FORK))
			model[n] = (struct page){ };
		else if (can(n, WIPE))
			drop_page(n);
	}
	live();
	done();
}

static void one_op(void)
{
	unsigned int total = 0, i, r;

	rng = mix3(seed, path, op_index);
	for (i = 0; i < ARRAY_LEN(ops); i++)
		total += ops[i].weight;
	r = pick(total);
	for (i = 0; r >= ops[i].weight; i++)
		r -= ops[i].weight;
	op_name = ops[i].name;
	if (kinds & (1ULL << i))
		ops[i].fn();
}

/* The arena's resident pages, in kB. */
static long arena_rss(void)
{
	unsigned long start, end;
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[256];
	long sum = 0, kb;
	bool in = false;

	check(f, "smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start >= (unsigned long)BASE &&
			     start < (unsigned long)AT(PAGES);
		else if (in && sscanf(line, "Rss: %ld", &kb) == 1)
			sum += kb;
	}
	fclose(f);
	return sum;
}

/* What a process of the tree does from its first moment to its last. */
static void live(void)
{
	unsigned int n = nr_ops / (1 + depth), i;

	registered(true);
	/* the parent's pipe is not ours to write to */
	if (pipe_fd[1]) {
		close(pipe_fd[0]);
		close(pipe_fd[1]);
	}
	must(!pipe(pipe_fd), "pipe: %s", strerror(errno));
	start_thread();
	check_all();
	for (op_index = 0; op_index < n; op_index++) {
		one_op();
		for (i = 0; i < 4; i++)
			check_page(pick(MAIN_PAGES));
		__atomic_add_fetch(&slots[SL_OPS], 1, __ATOMIC_RELAXED);
	}
	op_name = "last look";
	check_all();
	stop_thread();
	while (nr_children)
		join(children[--nr_children]);
	op_name = "look after the children";
	check_all();
	if (!pressure) {
		long rss = arena_rss();

		add_hash(rss);
		__atomic_add_fetch(&slots[SL_RSS], rss, __ATOMIC_RELAXED);
		__atomic_add_fetch(&slots[SL_PTE], status_kb(getpid(), "VmPTE"), __ATOMIC_RELAXED);
	}
	__atomic_add_fetch(&slots[SL_HASH], mix3(hash, path, 5), __ATOMIC_RELAXED);
	__atomic_add_fetch(&slots[SL_PROCESSES], 1, __ATOMIC_RELAXED);
	registered(false);
}

/* Run the tree that the seed makes, with or without sharing. */
static void run_tree(bool share)
{
	struct sigaction sa = { .sa_handler = on_fault };
	unsigned long n;
	pid_t pid;

	for (n = 0; n < SL_PIDS + NR_PIDS; n++)
		if (n != SL_STOP && n != SL_SWAPOFFS)
			slots[n] = 0;
	set_mode(share);
	pid = xfork();
	if (!pid) {
		sigaction(SIGSEGV, &sa, NULL);
		sigaction(SIGBUS, &sa, NULL);
		check(mmap(BASE, NR * BLOCK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == BASE,
		      "mmap: %s", strerror(errno));
		for (n = 0; n < PAGES; n++) {
			model[n].flags = MAPPED | READ | WRITE;
			set_page(n, mix3(seed, n, 11) | 1);
			if (n < MAIN_PAGES)
				poke(n, model[n].val);
			else
				*(uint64_t *)AT(n) = 0;
		}
		path = 1;
		hash = 0;
		live();
		done();
	}
	join(pid);
}

static void open_files(void)
{
	static char buf[PAGE] __attribute__((aligned(PAGE)));
	char name[] = "/mnt/disk/fuzz.XXXXXX", *why = NULL;
	unsigned int i;
	int fd;

	/* a mapping starts within the first 64 pages and is never larger than the arena */
	data_fd = memfd_create("fuzz", 0);
	check(data_fd >= 0, "memfd_create: %s", strerror(errno));
	for (i = 0; i < 64 + PAGES; i++) {
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

static void report(unsigned int runs, double since, unsigned long done_ops,
		   unsigned long processes)
{
	double t = now() - since;

	note("%u runs, %lu processes, %lu operations, %.0f a second", runs,
	     processes, done_ops, t > 0 ? done_ops / t : 0);
}

static void same_results(void)
{
	unsigned long operations = 0, processes = 0;
	unsigned int round = 0, runs = 0;
	uint64_t first_seed = seed;
	struct events before;
	double start = now();

	open_files();
	events_get(&before);
	do {
		uint64_t want[SL_STOP];
		int share;

		seed = first_seed + round;
		for (share = 0; share < 2; share++) {
			run_tree(share);
			runs++;
			operations += slots[SL_OPS];
			processes += slots[SL_PROCESSES];
			if (!share)
				memcpy(want, (void *)slots, sizeof(want));
		}
		check(slots[SL_PROCESSES] == want[SL_PROCESSES] && slots[SL_OPS] == want[SL_OPS],
		      "seed %" PRIu64 ": %" PRIu64 " processes and %" PRIu64 " operations, without sharing %" PRIu64 " and %" PRIu64,
		      seed, slots[SL_PROCESSES], slots[SL_OPS], want[SL_PROCESSES], want[SL_OPS]);
		check(slots[SL_RSS] == want[SL_RSS],
		      "seed %" PRIu64 ": Rss of all processes %" PRIu64 " kB, without sharing %" PRIu64,
		      seed, slots[SL_RSS], want[SL_RSS]);
		check(slots[SL_PTE] <= want[SL_PTE],
		      "seed %" PRIu64 ": VmPTE of all processes %" PRIu64 " kB, without sharing %" PRIu64,
		      seed, slots[SL_PTE], want[SL_PTE]);
		check(slots[SL_HASH] == want[SL_HASH],
		      "seed %" PRIu64 ": an operation returned something else than without sharing",
		      seed);
		round++;
	} while (seconds ? now() < start + seconds : round < rounds(1));
	report(runs, start, operations, processes);
	expect_events(&before, EV_SHARE, >=, 1);
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

/* Does to the processes of the tree what an administrator and a bad day can do. */
static void disturb(void)
{
	static char buf[PAGE];
	uint64_t state = mix3(seed, 77, 0);
	void *pages[32];
	int nodes[32], status[32], pidfd;
	struct iovec local = { buf, sizeof(buf) }, remote;
	unsigned int i;
	pid_t pid;

	while (!slots[SL_STOP]) {
		pid = slots[SL_PIDS + rnd(&state) % NR_PIDS];
		if (!pid) {
			usleep(1000);
			continue;
		}
		switch (rnd(&state) % 12) {
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
		default:
			remote.iov_base = AT(rnd(&state) % PAGES);
			remote.iov_len = PAGE;
			process_vm_readv(pid, &local, 1, &remote, 1, 0);
		}
	}
}

static void under_pressure(void)
{
	unsigned long operations = 0, processes = 0;
	uint64_t first_seed = seed;
	unsigned int runs = 0;
	struct events before;
	double start = now();
	pid_t pid;

	pressure = true;
	open_files();
	events_get(&before);
	settings_set(false);
	slots[SL_STOP] = 0;
	slots[SL_SWAPOFFS] = 0;
	pid = xfork();
	if (!pid) {
		disturb();
		done();
	}
	do {
		seed = first_seed + runs++;
		run_tree(true);
		operations += slots[SL_OPS];
		processes += slots[SL_PROCESSES];
	} while (seconds ? now() < start + seconds : runs < rounds(2));
	slots[SL_STOP] = 1;
	join(pid);
	settings_set(true);
	report(runs, start, operations, processes);
	note("swapoff %" PRIu64 " times", slots[SL_SWAPOFFS]);
	expect_events(&before, EV_SHARE, >=, 1);
	seed = first_seed;
}

static const struct cow_case cases[] = {
	{ "same results without and with sharing", same_results },
	{ "under pressure", under_pressure },
};

static const char fuzz_help[] =
"Options of this program, before those of all tests:\n"
"  --ops N        operations of the first process of a tree (60)\n"
"  --depth N      generations after the first process, 0 to 3 (2)\n"
"  --kinds LIST   only these operations, separated by commas\n"
"  --seconds N    go on with new seeds for so long\n"
"  --shrink       find the smallest run that fails with the --seed given\n"
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

/* One run of this program with the present limits; true if it fails. */
static bool fails(int argc, char **argv)
{
	int status;
	pid_t pid;

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
	return WIFSIGNALED(status) || WEXITSTATUS(status) == 1;
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
		printf("this does not fail: try another --seed or more --rounds\n");
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
	bool want_shrink = false;
	unsigned long value;
	char limit[24];
	int n = 1, i;

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
		} else if (i + 1 < argc && !strcmp(argv[i], "--depth")) {
			if (!parse_number(argv[++i], 0, 3, &value))
				return 2;
			max_depth = value;
		} else if (i + 1 < argc && !strcmp(argv[i], "--seconds")) {
			if (!parse_number(argv[++i], 1, 1000000, &value))
				return 2;
			seconds = value;
			/* a run that has begun is brought to its end */
			snprintf(limit, sizeof(limit), "%lu", 2 * value + 300);
			setenv("COW_PTE_TEST_TIMEOUT", limit, 0);
		} else if (i + 1 < argc && !strcmp(argv[i], "--kinds")) {
			if (!parse_kinds(argv[++i]))
				return usage(stderr, 2);
		} else {
			argv[n++] = argv[i];
		}
	}
	argv[n] = NULL;
	if (want_shrink)
		return shrink(n, argv);
	return cow_main(n, argv, cases, ARRAY_LEN(cases));
}
