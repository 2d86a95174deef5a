/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the COW page table tests have in common.
 *
 * A test program is a table of cases.  The runner forks one process per case, so
 * a case may simply exit when something is wrong, from whatever process of its
 * tree it is in.  The runner kills what is left, reaps it, compares the system's
 * page tables and anonymous memory with what they were before, and reports.
 */
#ifndef COW_PTE_UTIL_H
#define COW_PTE_UTIL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#ifndef PR_SET_COW_PTE
#define PR_SET_COW_PTE	0x43505445
#define PR_GET_COW_PTE	0x43505446
#endif
#ifndef CLONE_COW_PTE
#define CLONE_COW_PTE	0x800000000000ULL
#endif

/* Newer than the C library of Debian 11 */
#ifndef MADV_COLD
#define MADV_COLD		20
#define MADV_PAGEOUT		21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define PAGE		4096UL
#define BLOCK_PAGES	512UL
#define BLOCK		(PAGE * BLOCK_PAGES)

#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))

/* Where sharing is decided and counted. */
#define SYSCTL_MODE	"/proc/sys/vm/cow_pte"
#define SYSCTL_MIN	"/proc/sys/vm/cow_pte_min_entries"

struct cow_case {
	const char *name;
	void (*fn)(void);
};

/**
 * cow_main() - Run a table of cases and report in TAP
 * @argc: as given to main()
 * @argv: as given to main()
 * @cases: the cases, run in this order
 * @nr: how many
 *
 * Return: the exit status: 0 all passed, 1 one failed, 4 nothing could be run.
 */
int cow_main(int argc, char **argv, const struct cow_case *cases, size_t nr);

/* True when every fork is an ordinary one and no event is looked at. */
extern bool plain;
/* Decides the data written; printed, and settable with --seed. */
extern uint64_t seed;

/* True when blocks are made of PTE-mapped large folios, see --thp. */
extern bool large_folios;

/* Number of rounds a loop should make, scaled by --rounds. */
unsigned int rounds(unsigned int n);

/* Leaving a case early.  Both may be called by any process of the case. */
void fail_at(const char *file, int line, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 3, 4)));
void skip_case(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define fail(...)	fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define check(cond, ...)						\
	do {								\
		if (!(cond))						\
			fail_at(__FILE__, __LINE__, __VA_ARGS__);	\
	} while (0)

/* Processes. */
/*
 * For programs in which allocations fail: the kernel writes to the rseq area of a thread
 * that was preempted, and kills the thread if that fails, which it may after fork.
 */
void without_rseq(char **argv);
pid_t xfork(void);
pid_t xclone3(uint64_t flags);
/* fork, and prove that the child joined at least @blocks tables */
pid_t fork_sharing(unsigned long blocks);
unsigned int fork_twice(unsigned long blocks, pid_t *pid);
/* A third sharer, which has everything still when it is told to end; or 0 */
pid_t bystander(bool wanted, char *p, unsigned long blocks, unsigned long nr,
		unsigned int owner);
void bystander_ends(pid_t pid);
/* the tables other than the case's own that a fork of the case shares */
long background_shares(void);
void done(void) __attribute__((noreturn));
void join(pid_t pid);
int join_status(pid_t pid);
/* wait until a process, child or not, has let go of its memory */
void wait_gone(pid_t pid);
void set_mode(int mode);
/* what this case may leave of page tables that are not the processes' */
void allow_tables(long kb);

/* Events of /proc/vmstat. */
enum cow_event {
	EV_SHARE, EV_BREAK, EV_REUSE, EV_DETACH, EV_INPLACE,
	EV_FB_VMA, EV_FB_SMALL, EV_FB_PINNED, EV_FB_ENTRY, EV_FB_NOMEM,
	EV_FB_NOTIFIER,
	NR_EVENTS,
};

struct events {
	long v[NR_EVENTS];
};

extern const char *const event_names[NR_EVENTS];

bool events_get(struct events *e);
/* how often @ev happened since @since; 0 in plain mode */
long event_delta(const struct events *since, enum cow_event ev);

/* At least / exactly / at most that many.  Nothing is asserted in plain mode. */
#define expect_events(since, ev, op, nr)				\
	do {								\
		long __d = event_delta(since, ev), __n = (nr);		\
									\
		if (!plain && !(__d op __n))				\
			fail_at(__FILE__, __LINE__,			\
				"%s: %ld, expected %s %ld",		\
				event_names[ev], __d, #op, __n);	\
	} while (0)

/*
 * In a DEBUG_VM kernel: who is in one of the windows of @points (bits as in
 * mm/cow_pte.c) is held up by up to @us microseconds each time; 0 ends it.  False if
 * the kernel cannot do that.
 */
#define WINDOW_COPY	0x04	/* copy complete, not published, lock held */
#define WINDOW_LEAVE	0x08	/* PMD entry changed, TLBs not flushed */
#define WINDOW_DROP	0x10	/* TLBs flushed, sharer not dropped */
#define WINDOW_INPLACE	0x80	/* about to change an entry for all, lock held */
#define WINDOW_CLEARED	0x100	/* entry cleared for all, new one not set, lock held */
#define WINDOW_FAULT	0x200	/* entry read by a fault, without the lock */
bool delay_windows(unsigned int us, unsigned int points);

/* Ordering between the processes of a case: counters that can be waited for. */
#define NR_STEPS	32
void steps_reset(void);
void arrive(int step);
void await(int step, unsigned int value);
/*
 * A process that has arrived may still be on its way to sleep, and touch its memory.
 * Before its numbers are compared with each other: it is asleep now.
 */
void await_asleep(pid_t pid);
void barrier(int step, unsigned int n);
void spin_barrier(int step, unsigned int n);
/* words the processes of a case share */
#define NR_SLOTS	64
extern volatile uint64_t *slots;

/* Memory. */
char *map_blocks(unsigned long nr);
/* map_blocks(), where one page that is touched must be one entry, --thp or not */
char *map_small_pages(unsigned long nr);
char *map_file_blocks(unsigned long nr, int fd);
void unmap_blocks(char *p, unsigned long nr);
int test_file(unsigned long pages, unsigned int owner);
int disk_file(unsigned long pages, unsigned int owner);
int test_file_in(const char *dir, unsigned long pages, unsigned int owner);

/* @owner says who wrote a page last; 0 is a page of zeroes */
#define OWNER_ZERO	0
void fill(char *base, unsigned long first, unsigned long nr, unsigned int owner);
void verify_at(const char *file, int line, char *base, unsigned long first,
	       unsigned long nr, unsigned int owner);
#define verify(base, first, nr, owner)					\
	verify_at(__FILE__, __LINE__, base, first, nr, owner)
/* the same for data that is not mapped at its place, such as a read buffer */
void pattern_page(void *buf, unsigned long page, unsigned int owner);
bool page_is(const void *buf, unsigned long page, unsigned int owner);
void read_pages(char *base, unsigned long first, unsigned long nr);
/* true if the access raised SIGSEGV or SIGBUS */
bool read_faults(char *p);
bool write_faults(char *p);

/* What the kernel tells. */
long status_kb(pid_t pid, const char *field);
/* tables that this process had to copy because they were shared */
long own_breaks(void);
/* tables that this process shares, or shared and not yet took back */
long own_tables(void);
/* Exactly so many tables were copied since own_breaks() was @since. */
#define expect_own_breaks(since, nr)					\
	do {								\
		long __d = own_breaks() - (since), __n = (nr);		\
									\
		if (!plain && __d != __n)				\
			fail_at(__FILE__, __LINE__,			\
				"%ld tables were copied, expected %ld",	\
				__d, __n);				\
	} while (0)
void status_fields(pid_t pid, const char *const *names, long *kb, unsigned int nr);
long meminfo_kb(const char *field);
long vmstat(const char *field);
void vmstat_refresh(void);
uint64_t pagemap(pid_t pid, void *addr);
/* Idle page tracking: the bit of this page only, the others of the word are other people's */
#define IDLE_BITMAP	"/sys/kernel/mm/page_idle/bitmap"
void mark_idle(int fd, uint64_t pfn);
#define PM_PRESENT	(1ULL << 63)
#define PM_SWAP		(1ULL << 62)
#define PM_FILE		(1ULL << 61)
#define PM_EXCLUSIVE	(1ULL << 56)
#define PM_SOFT_DIRTY	(1ULL << 55)
long smaps_kb(pid_t pid, void *addr, const char *field);
int write_file(const char *path, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
long read_long(const char *path);
bool have_swap(void);
/* the swap device, "" without one; cycle_swap() turns it off and on again, 0 or -errno */
const char *swap_device(void);
int cycle_swap(void);
/*
 * A memory cgroup whose path is in @cgroup; the runner removes it.  cgroup_enter():
 * everything this process and its children allocate can be reclaimed from now.
 */
extern char cgroup[64];
void cgroup_make(const char *name);
void cgroup_enter(void);
int cgroup_write(const char *file, const char *value);
/* a number generator; each process of a case owns its state */
uint64_t rnd(uint64_t *state);
bool feature_present(void);

/* Since Linux 6.7 in linux/fs.h */
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN_IOCTL	_IOWR('f', 16, struct scan_arg)
#define SCAN_WP_MATCHING	1
#define SCAN_CHECK_WPASYNC	2
#define SCAN_IS_WRITTEN		2
#define UFFD_ASYNC_WP		(1 << 15)
#define UFFD_WP_UNPOPULATED	(1 << 13)

#endif /* COW_PTE_UTIL_H */
