// SPDX-License-Identifier: GPL-2.0
/*
 * Sharing is invisible to accounting: a tree of processes is taken through the
 * same steps twice, with ordinary forks and with shared tables, and the numbers in
 * each member's status are equal after every step.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sched.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, PARENT, CHILD, GRANDCHILD };
enum { GO, DONE, READY };
enum { MEMBERS = 3, MAX_STEPS = 24 };

static const char *const fields[] = {
	"VmRSS", "RssAnon", "RssFile", "RssShmem", "VmSwap", "VmPTE", "VmHWM",
};

/* the last is taken apart */
#define NR_EXACT	(ARRAY_LEN(fields) - 1)

struct numbers {
	bool alive;
	long v[ARRAY_LEN(fields)];
	long hwm;
	long oom_score;
};

static struct numbers (*table)[MAX_STEPS][MEMBERS];

/* One step: what @member does; the others wait. */
struct step {
	const char *name;
	int member;
	void (*op)(char *p);
	/* pages may move between VmRSS and VmSwap as the kernel likes */
	bool moves;
};

#define NR	8UL

/*
 * Bring the code, the stack and the shared page into a state that does not depend
 * on timing, by touching all of it.
 */
static void settle(void)
{
	static char maps[1 << 14];
	unsigned long start, end;
	volatile char stack[32 * PAGE];
	size_t n = 0, i;
	ssize_t ret;
	char *line;
	int fd;

	for (i = 0; i < sizeof(stack); i += PAGE)
		stack[i] = 1;
	slots[NR_SLOTS - 1] = stack[0];
	fd = open("/proc/self/maps", O_RDONLY);
	while ((ret = read(fd, maps + n, sizeof(maps) - 1 - n)) > 0)
		n += ret;
	close(fd);
	maps[n] = '\0';
	for (line = maps; line && *line; line = strchr(line, '\n')) {
		char perms[5], path[256] = "";

		line += *line == '\n';
		if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %255s", &start, &end,
			   perms, path) < 3 || path[0] != '/')
			continue;
		if (perms[0] == 'r' && perms[3] == 'p' && !strstr(path, "cow_pte."))
			madvise((void *)start, end - start,
				MADV_POPULATE_READ);
	}
}

static void read_numbers(pid_t pid, struct numbers *n)
{
	char path[64];

	n->alive = true;
	status_fields(pid, fields, n->v, ARRAY_LEN(fields));
	n->hwm = n->v[NR_EXACT];
	snprintf(path, sizeof(path), "/proc/%d/oom_score", pid);
	n->oom_score = read_long(path);
}

static void member(char *p, const struct step *steps, unsigned int nr,
		   unsigned int from, int me)
{
	unsigned int s;

	for (s = from; s < nr; s++) {
		await(GO, s + 1);
		if (steps[s].member != me)
			continue;
		if (!steps[s].op)
			done();
		slots[MEMBERS] = s;
		steps[s].op(p);
		arrive(DONE);
	}
	await(GO, nr + 1);
	done();
}

static const struct step *all_steps;
static unsigned int nr_steps;
static bool sharing;

/* The next member of the tree. */
static void fork_member(char *p, int me)
{
	unsigned int s = slots[MEMBERS], settled = me;
	struct events before, after;
	pid_t pid;

	events_get(&before);
	pid = xfork();
	if (!pid) {
		settle();
		slots[me] = getpid();
		arrive(READY);
		member(p, all_steps, nr_steps, s + 1, me);
	}
	events_get(&after);
	if (sharing && !plain)
		check(after.v[EV_SHARE] - before.v[EV_SHARE] >= (long)NR,
		      "%ld tables shared",
		      after.v[EV_SHARE] - before.v[EV_SHARE]);
	await(READY, settled);
}

static void fork_child(char *p)
{
	fork_member(p, 1);
}

static void fork_grandchild(char *p)
{
	fork_member(p, 2);
}

static void run_tree(const struct step *steps, unsigned int nr, char *(*setup)(void),
		     bool share)
{
	unsigned int s;
	pid_t pid;
	int m;

	check(nr <= MAX_STEPS, "too many steps");
	steps_reset();
	all_steps = steps;
	nr_steps = nr;
	sharing = share;
	set_mode(0);
	pid = xfork();
	if (!pid) {
		char *p;

		set_mode(share);
		p = setup();
		settle();
		slots[0] = getpid();
		arrive(DONE);
		member(p, steps, nr, 0, 0);
	}
	await(DONE, 1);
	for (s = 0; s < nr; s++) {
		arrive(GO);
		if (!steps[s].op) {
			wait_gone(slots[steps[s].member]);
			slots[steps[s].member] = 0;
			arrive(DONE);
		}
		await(DONE, s + 2);
		for (m = 0; m < MEMBERS; m++)
			if (slots[m])
				read_numbers(slots[m], &table[share][s][m]);
	}
	arrive(GO);
	join(pid);
	while (waitpid(-1, NULL, 0) > 0)
		;
	for (m = 0; m <= MEMBERS; m++)
		slots[m] = 0;
}

static void compare(const struct step *steps, unsigned int nr, char *(*setup)(void))
{
	unsigned int s, i;
	cpu_set_t one;
	int m;

	table = mmap(NULL, 2 * sizeof(*table), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(table != MAP_FAILED, "mmap");
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	run_tree(steps, nr, setup, false);
	run_tree(steps, nr, setup, true);
	for (s = 0; s < nr; s++) {
		for (m = 0; m < MEMBERS; m++) {
			const struct numbers *a = &table[0][s][m];
			const struct numbers *b = &table[1][s][m];
			bool moves = steps[s].moves;

			check(a->alive == b->alive, "step '%s'", steps[s].name);
			if (!a->alive)
				continue;
			for (i = 0; i < NR_EXACT; i++) {
				if (moves && i != NR_EXACT - 1)
					continue;
				check(a->v[i] == b->v[i],
				      "after '%s', member %d: %s is %ld kB, with ordinary forks %ld kB",
				      steps[s].name, m, fields[i], b->v[i],
				      a->v[i]);
			}
			check(a->v[0] + a->v[4] == b->v[0] + b->v[4],
			      "after '%s', member %d: VmRSS + VmSwap is %ld kB, with ordinary forks %ld kB",
			      steps[s].name, m, b->v[0] + b->v[4],
			      a->v[0] + a->v[4]);
			/*
			 * The high-water mark is taken from counters that may
			 * lag by a batch on each CPU.
			 */
			check(b->hwm >= b->v[0] && labs(a->hwm - b->hwm) <= 1024,
			      "after '%s', member %d: VmHWM is %ld kB, with ordinary forks %ld kB",
			      steps[s].name, m, b->hwm, a->hwm);
			check(labs(a->oom_score - b->oom_score) <= 1,
			      "after '%s', member %d: oom_score is %ld, with ordinary forks %ld",
			      steps[s].name, m, b->oom_score, a->oom_score);
		}
	}
	munmap(table, 2 * sizeof(*table));
}

/* The steps */

/* Full, half full, zero pages, and one page. */
static char *setup_anon(void)
{
	char *p = map_blocks(NR);
	unsigned int i;

	fill(p, 0, 3 * BLOCK_PAGES, ORIGIN);
	fill(p, 3 * BLOCK_PAGES, BLOCK_PAGES / 2, ORIGIN);
	read_pages(p, 4 * BLOCK_PAGES, BLOCK_PAGES / 2);
	fill(p, 4 * BLOCK_PAGES + 400, 50, ORIGIN);
	fill(p, 5 * BLOCK_PAGES + 77, 1, ORIGIN);
	for (i = 0; i < BLOCK_PAGES; i += 2)
		fill(p, 6 * BLOCK_PAGES + i, 1, ORIGIN);
	fill(p, 7 * BLOCK_PAGES, BLOCK_PAGES, ORIGIN);
	return p;
}

static void write_one(char *p)
{
	fill(p, 5, 1, CHILD);
}

static void write_200(char *p)
{
	fill(p, BLOCK_PAGES + 100, 200, PARENT);
}

static void fill_holes(char *p)
{
	fill(p, 3 * BLOCK_PAGES + 300, 50, GRANDCHILD);
	read_pages(p, 3 * BLOCK_PAGES + 400, 50);
	fill(p, 4 * BLOCK_PAGES, 10, GRANDCHILD);
	read_pages(p, 5 * BLOCK_PAGES, 10);
}

static void drop_one(char *p)
{
	check(!madvise(p + 7 * PAGE, PAGE, MADV_DONTNEED), "madvise");
}

static void drop_some(char *p)
{
	check(!madvise(p + (2 * BLOCK_PAGES + 100) * PAGE, 200 * PAGE,
		       MADV_DONTNEED), "madvise");
}

static void drop_block(char *p)
{
	check(!madvise(p + 2 * BLOCK, BLOCK, MADV_DONTNEED), "madvise");
}

static void drop_unaligned(char *p)
{
	check(!madvise(p + (5 * BLOCK_PAGES + 50) * PAGE, BLOCK + 100 * PAGE,
		       MADV_DONTNEED), "madvise");
}

static void unmap_half(char *p)
{
	check(!munmap(p + 7 * BLOCK, BLOCK / 2), "munmap");
}

static void unmap_block(char *p)
{
	check(!munmap(p + 6 * BLOCK, BLOCK), "munmap");
}

static void protect_some(char *p)
{
	check(!mprotect(p + (6 * BLOCK_PAGES + 10) * PAGE, 20 * PAGE, PROT_READ),
	      "mprotect");
}

static void move_some(char *p)
{
	void *to = p + (BLOCK_PAGES + 10) * PAGE;
	void *ret = mremap(p + 20 * PAGE, 30 * PAGE, 30 * PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED, to);

	check(ret == to, "mremap");
}

static void write_all(char *p)
{
	fill(p, 0, BLOCK_PAGES, PARENT);
	fill(p, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES, PARENT);
}

static void page_out(char *p)
{
	madvise(p, NR * BLOCK, MADV_PAGEOUT);
}

static void nothing(char *p)
{
	(void)p;
}

static const struct step anon_steps[] = {
	{ "start", 0, nothing, false },
	{ "fork of the child", 0, fork_child, false },
	{ "fork of the grandchild", 1, fork_grandchild, false },
	{ "child writes a page", 1, write_one, false },
	{ "parent writes 200 pages", 0, write_200, false },
	{ "grandchild fills holes", 2, fill_holes, false },
	{ "parent drops a page", 0, drop_one, false },
	{ "child drops 200 pages", 1, drop_some, false },
	{ "grandchild drops a block", 2, drop_block, false },
	{ "parent drops an unaligned range", 0, drop_unaligned, false },
	{ "grandchild unmaps half a block", 2, unmap_half, false },
	{ "child unmaps a block", 1, unmap_block, false },
	{ "parent protects pages", 0, protect_some, false },
	{ "child moves pages", 1, move_some, false },
	{ "grandchild exits", 2, NULL, false },
	{ "parent writes much", 0, write_all, false },
	{ "child pages out", 1, page_out, true },
	{ "child exits", 1, NULL, true },
	{ "parent pages out", 0, page_out, true },
};

/* The parent leaves first, the last one in the middle of the tree. */
static const struct step exit_steps[] = {
	{ "start", 0, nothing, false },
	{ "fork of the child", 0, fork_child, false },
	{ "fork of the grandchild", 1, fork_grandchild, false },
	{ "parent exits", 0, NULL, false },
	{ "child writes a page", 1, write_one, false },
	{ "grandchild writes 200 pages", 2, write_200, false },
	{ "grandchild exits", 2, NULL, false },
	{ "child drops 200 pages", 1, drop_some, false },
	{ "child writes much", 1, write_all, false },
};

/* Private anonymous memory: every number of every member, step by step. */
static void anonymous(void)
{
	compare(anon_steps, ARRAY_LEN(anon_steps), setup_anon);
}

/* The same when the members leave in another order. */
static void parent_first(void)
{
	compare(exit_steps, ARRAY_LEN(exit_steps), setup_anon);
}

static int file_fd;

/* Written, read and untouched pages of a file: RssFile or RssShmem move too. */
static char *setup_file(void)
{
	char *p = map_file_blocks(NR, file_fd);
	unsigned int i, b;

	for (b = 0; b < NR; b++) {
		for (i = 0; i < 400; i += 4)
			fill(p, b * BLOCK_PAGES + i, 1, ORIGIN);
		read_pages(p, b * BLOCK_PAGES, 300);
	}
	return p;
}

static const struct step file_steps[] = {
	{ "start", 0, nothing, false },
	{ "fork of the child", 0, fork_child, false },
	{ "fork of the grandchild", 1, fork_grandchild, false },
	{ "child writes a page", 1, write_one, false },
	{ "parent writes 200 pages", 0, write_200, false },
	{ "parent drops a page", 0, drop_one, false },
	{ "child drops 200 pages", 1, drop_some, false },
	{ "grandchild drops a block", 2, drop_block, false },
	{ "parent drops an unaligned range", 0, drop_unaligned, false },
	{ "grandchild unmaps half a block", 2, unmap_half, false },
	{ "child unmaps a block", 1, unmap_block, false },
	{ "child exits", 1, NULL, false },
	{ "parent writes much", 0, write_all, false },
	{ "grandchild exits", 2, NULL, false },
};

static void file_on_disk(void)
{
	file_fd = disk_file(NR * BLOCK_PAGES, GRANDCHILD);
	compare(file_steps, ARRAY_LEN(file_steps), setup_file);
	close(file_fd);
}

static void file_in_memory(void)
{
	file_fd = test_file_in("/dev/shm", NR * BLOCK_PAGES, GRANDCHILD);
	if (file_fd < 0)
		file_fd = test_file(NR * BLOCK_PAGES, GRANDCHILD);
	compare(file_steps, ARRAY_LEN(file_steps), setup_file);
	close(file_fd);
}

/* Swap entries that the fork takes over count for the child as for the parent. */
static char *setup_swap(void)
{
	char *p = setup_anon();
	int i;

	for (i = 0; i < 8 && smaps_kb(0, p, "Swap") < (long)(BLOCK / 1024); i++)
		madvise(p, NR * BLOCK, MADV_PAGEOUT);
	return p;
}

static void read_back(char *p)
{
	read_pages(p, 0, 100);
}

static const struct step swap_steps[] = {
	{ "start", 0, nothing, true },
	{ "fork of the child", 0, fork_child, true },
	{ "fork of the grandchild", 1, fork_grandchild, true },
	{ "child reads 100 pages", 1, read_back, true },
	{ "child writes a page", 1, write_one, true },
	{ "parent writes 200 pages", 0, write_200, true },
	{ "grandchild drops a block", 2, drop_block, true },
	{ "child drops 200 pages", 1, drop_some, true },
	{ "parent drops an unaligned range", 0, drop_unaligned, true },
	{ "parent exits", 0, NULL, true },
	{ "grandchild pages out", 2, page_out, true },
	{ "grandchild exits", 2, NULL, true },
};

static void swap_entries(void)
{
	if (!have_swap())
		skip_case("no swap");
	compare(swap_steps, ARRAY_LEN(swap_steps), setup_swap);
}

/*
 * A child's numbers are its parent's right after the fork, and counters and tables
 * agree: VmRSS is what smaps_rollup finds by looking at each entry.
 */
static long rollup(pid_t pid, const char *field)
{
	char path[64], line[256];
	long v = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	f = fopen(path, "r");
	check(f, "%s", path);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)) &&
		    line[strlen(field)] == ':')
			v = strtol(line + strlen(field) + 1, NULL, 10);
	fclose(f);
	return v;
}

static void counters_match_tables(void)
{
	unsigned int round;

	for (round = 0; round < rounds(3); round++) {
		char *p = setup_anon();
		pid_t pid;

		steps_reset();
		pid = fork_sharing(NR - 1);
		if (!pid) {
			arrive(READY);
			await(GO, 1);
			fill(p, round * 64, 700, CHILD);
			madvise(p + 2 * BLOCK, BLOCK, MADV_DONTNEED);
			munmap(p + 7 * BLOCK + BLOCK / 4, BLOCK / 4);
			arrive(DONE);
			await(GO, 2);
			done();
		}
		await(READY, 1);
		check(status_kb(pid, "RssAnon") == rollup(pid, "Anonymous"),
		      "child's RssAnon %ld kB, its tables %ld kB",
		      status_kb(pid, "RssAnon"), rollup(pid, "Anonymous"));
		check(status_kb(pid, "VmRSS") == rollup(pid, "Rss"),
		      "child's VmRSS %ld kB, its tables %ld kB",
		      status_kb(pid, "VmRSS"), rollup(pid, "Rss"));
		arrive(GO);
		await(DONE, 1);
		check(status_kb(pid, "RssAnon") == rollup(pid, "Anonymous"),
		      "child's RssAnon %ld kB, its tables %ld kB after writes",
		      status_kb(pid, "RssAnon"), rollup(pid, "Anonymous"));
		check(status_kb(pid, "VmSwap") == rollup(pid, "Swap"),
		      "child's VmSwap %ld kB, its tables %ld kB",
		      status_kb(pid, "VmSwap"), rollup(pid, "Swap"));
		arrive(GO);
		join(pid);
		check(status_kb(0, "RssAnon") == rollup(getpid(), "Anonymous"),
		      "RssAnon %ld kB, the tables %ld kB",
		      status_kb(0, "RssAnon"), rollup(getpid(), "Anonymous"));
		unmap_blocks(p, NR);
	}
}

/*
 * The saving is real: the system's PageTables hardly grow with children that
 * share, each of whose VmPTE is that of an ordinary child.
 */
static long tables_of_children(bool share, long *vmpte)
{
	enum { CHILDREN = 4, BLOCKS = 64 };
	long before, during;
	pid_t pid[CHILDREN];
	unsigned long b;
	char *p;
	int i;

	set_mode(share);
	steps_reset();
	p = map_blocks(BLOCKS);
	for (b = 0; b < BLOCKS; b++)
		fill(p, b * BLOCK_PAGES, 8, ORIGIN);
	vmstat_refresh();
	before = meminfo_kb("PageTables");
	for (i = 0; i < CHILDREN; i++) {
		pid[i] = xfork();
		if (!pid[i]) {
			arrive(READY);
			await(GO, 1);
			verify(p, 0, 8, ORIGIN);
			done();
		}
	}
	await(READY, CHILDREN);
	vmstat_refresh();
	during = meminfo_kb("PageTables");
	*vmpte = status_kb(pid[0], "VmPTE");
	arrive(GO);
	for (i = 0; i < CHILDREN; i++)
		join(pid[i]);
	unmap_blocks(p, BLOCKS);
	return during - before;
}

static void page_tables_are_saved(void)
{
	long plain_pte, cow_pte;
	long plain_kb = tables_of_children(false, &plain_pte);
	long cow_kb = tables_of_children(true, &cow_pte);

	note("PageTables for four children: %ld kB ordinary, %ld kB shared",
	     plain_kb, cow_kb);
	check(cow_pte == plain_pte, "VmPTE %ld kB, with ordinary forks %ld kB",
	      cow_pte, plain_pte);
	if (!plain)
		check(cow_kb <= plain_kb / 2 && plain_kb >= 1024 &&
		      plain_kb - cow_kb >= 900,
		      "not saved: %ld kB instead of %ld kB", cow_kb, plain_kb);
}

/*
 * The peak of RSS, which the kernel notes only when RSS is about to fall, survives
 * the fall by whole tables.
 */
static void peak(void)
{
	static const char *const names[] = { "VmHWM", "VmRSS" };
	const unsigned long nr = 8;
	/*
	 * /proc reads the counters exactly, the kernel notes the peak from
	 * what the CPUs have folded: of three counters each may hold back
	 * percpu_counter_batch - 1 pages.
	 */
	const long cpus = sysconf(_SC_NPROCESSORS_CONF);
	const long slack = 3 * cpus * ((cpus > 16 ? 2 * cpus : 32) - 1) * 4;
	const unsigned long fresh = 2 + slack / 2048;
	char *p = map_blocks(nr), *q = map_blocks(fresh);
	long before[2], after[2];
	pid_t pid;

	fill(p, 0, nr * BLOCK_PAGES, 1);
	steps_reset();
	pid = fork_sharing(nr);
	if (!pid) {
		await(0, 1);
		done();
	}
	/* a peak that nobody has noted yet */
	fill(q, 0, fresh * BLOCK_PAGES, 1);
	status_fields(0, names, before, 2);
	check(!madvise(p, nr * BLOCK, MADV_DONTNEED), "MADV_DONTNEED");
	status_fields(0, names, after, 2);
	check(after[1] < before[1] - (long)(nr - 1) * 2048, "VmRSS %ld kB, was %ld",
	      after[1], before[1]);
	check(after[0] >= before[0] - slack, "VmHWM %ld kB, was %ld, of which %ld may be missing",
	      after[0], before[0], slack);
	arrive(0);
	join(pid);
	unmap_blocks(q, fresh);
	unmap_blocks(p, nr);
}

/*
 * What would be lost a little each time: many rounds of forks, of what makes a table
 * private, of swap, and of exits in between.
 */
#define LOOP_BLOCKS	2UL
#define LOOP_PAGES	48UL

/*
 * In each fourth round, blocks of which one member does something to each while the others
 * have it too.  All of it is counted: a table is copied, or it is not.
 */
enum { CUT, GONE, READ_ONLY, FREED, ARMED, PINNED, ADVISED, MOVED, EXTRA };

static const unsigned char actors[EXTRA] = {
	[CUT] = 1, [GONE] = 1, [READ_ONLY] = 2, [FREED] = 0, [ARMED] = 1, [PINNED] = 2,
	[ADVISED] = 1, [MOVED] = 0,
};

#define EXTRA_PAGES	8UL
#define EXTRA_HOLE	40UL
/* the tables of EXTRA that the last member has in common with others, to its end */
#define LAST_HAS	(EXTRA - 2)

#define EXTRA_AT(r, b, n)	((r) + ((b) * BLOCK_PAGES + (n)) * PAGE)

static void cut_and_unmap(char *r)
{
	long breaks = own_breaks(), tables;

	check(!munmap(EXTRA_AT(r, CUT, 2), 2 * PAGE), "munmap: %s", strerror(errno));
	expect_own_breaks(breaks, 1);
	tables = own_tables();
	check(!munmap(EXTRA_AT(r, GONE, 0), BLOCK), "munmap: %s", strerror(errno));
	expect_own_breaks(breaks, 1);
	check(plain || own_tables() == tables - 1, "%ld shared tables, were %ld",
	      own_tables(), tables);
}

static void use_userfaultfd(char *r, bool leave)
{
	static char page[PAGE];
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)EXTRA_AT(r, ARMED, 0), 64 * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_copy copy = {
		.dst = (uintptr_t)EXTRA_AT(r, ARMED, EXTRA_HOLE),
		.src = (uintptr_t)page, .len = PAGE,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)EXTRA_AT(r, ARMED, 0), EXTRA_PAGES * PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	long breaks;

	if (fd < 0)
		return;
	pattern_page(page, ARMED * BLOCK_PAGES + EXTRA_HOLE, CHILD);
	breaks = own_breaks();
	check(!ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg),
	      "UFFDIO_REGISTER: %s", strerror(errno));
	check(!ioctl(fd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s", strerror(errno));
	check(!ioctl(fd, UFFDIO_WRITEPROTECT, &wp), "UFFDIO_WRITEPROTECT: %s",
	      strerror(errno));
	expect_own_breaks(breaks, 1);
	verify(r, ARMED * BLOCK_PAGES + EXTRA_HOLE, 1, CHILD);
	/* or exit does it */
	if (!leave)
		close(fd);
}

/* The pipe has its page until the process is gone. */
static void use_references(char *r)
{
	static char page[PAGE];
	char *at = EXTRA_AT(r, PINNED, 0);
	struct iovec local = { page, PAGE }, remote = { at, PAGE };
	long breaks;
	int fds[2];

	memset(page, 0, PAGE);
	check(!pipe2(fds, O_CLOEXEC), "pipe: %s", strerror(errno));
	breaks = own_breaks();
	check(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)PAGE,
	      "process_vm_readv: %s", strerror(errno));
	check(page_is(page, PINNED * BLOCK_PAGES, ORIGIN), "another page was read");
	check(vmsplice(fds[1], &remote, 1, 0) == (ssize_t)PAGE, "vmsplice: %s",
	      strerror(errno));
	expect_own_breaks(breaks, 1);
}

static void advise_merging(char *r, bool leave)
{
	long breaks = own_breaks();

	/* without KSM the kernel does not know the advice */
	if (!madvise(EXTRA_AT(r, ADVISED, 0), BLOCK, MADV_MERGEABLE) && !leave)
		check(!madvise(EXTRA_AT(r, ADVISED, 0), BLOCK, MADV_UNMERGEABLE),
		      "MADV_UNMERGEABLE: %s", strerror(errno));
	expect_own_breaks(breaks, 0);
}

/* A page goes to the other node, for all three at once. */
static void migrate(char *r)
{
	enum { MOVE_ALL = 4 };
	void *addr = EXTRA_AT(r, MOVED, 0);
	int node = -1, to, status = -1, tries;
	long breaks = own_breaks();
	struct events before;

	if (access("/sys/devices/system/node/node1", F_OK))
		return;
	check(!syscall(SYS_move_pages, 0, 1, &addr, NULL, &node, 0) && node >= 0,
	      "the page is on node %d", node);
	to = !node;
	events_get(&before);
	for (tries = 0; tries < 10 && status != to; tries++)
		check(syscall(SYS_move_pages, 0, 1, &addr, &to, &status, MOVE_ALL) >= 0,
		      "move_pages: %s", strerror(errno));
	check(status == to, "the page stays on node %d: %d", node, status);
	expect_events(&before, EV_INPLACE, >=, 1);
	expect_own_breaks(breaks, 0);
}

static void use_extra(char *r, unsigned int me, unsigned int n)
{
	long breaks;

	switch (me) {
	case 0:
		migrate(r);
		breaks = own_breaks();
		check(!madvise(EXTRA_AT(r, FREED, 1), 4 * PAGE, MADV_FREE), "MADV_FREE: %s",
		      strerror(errno));
		expect_own_breaks(breaks, 1);
		break;
	case 1:
		cut_and_unmap(r);
		use_userfaultfd(r, n / 4 % 2);
		advise_merging(r, n / 8 % 2);
		break;
	case 2:
		breaks = own_breaks();
		check(!mprotect(EXTRA_AT(r, READ_ONLY, 2), 2 * PAGE, PROT_READ),
		      "mprotect: %s", strerror(errno));
		expect_own_breaks(breaks, 1);
		use_references(r);
		break;
	}
}

static void verify_extra(char *r, unsigned int me)
{
	unsigned int b;

	for (b = 0; b < EXTRA; b++)
		if (actors[b] != me || (b != CUT && b != GONE && b != FREED))
			verify(r, b * BLOCK_PAGES, EXTRA_PAGES, ORIGIN);
}

static void one_loop(char *p, unsigned int n)
{
	char *q = map_blocks(1), *to = p + (BLOCK_PAGES + 200) * PAGE;
	const unsigned int extra = n % 4 ? 0 : EXTRA;
	char *r = extra ? map_blocks(extra) : NULL;
	struct events before;
	unsigned int me;
	pid_t pid = 0;

	steps_reset();
	fill(q, 0, LOOP_PAGES, PARENT);
	for (me = 0; me < extra; me++)
		fill(r, me * BLOCK_PAGES, EXTRA_PAGES, ORIGIN);
	/* swap entries among those that are shared */
	madvise(p + 8 * PAGE, 8 * PAGE, MADV_PAGEOUT);
	for (me = 0; me < 2; me++) {
		pid = fork_sharing(LOOP_BLOCKS + 1 + extra);
		if (pid)
			break;
	}
	barrier(READY, MEMBERS);
	if (extra)
		use_extra(r, me, n);
	switch (me) {
	case 0:
		fill(p, n % 8, 1, PARENT);
		break;
	case 1:
		check(mremap(p + 20 * PAGE, 4 * PAGE, 4 * PAGE,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to) == to, "mremap: %s",
		      strerror(errno));
		/* two of them until exit */
		check(!mlock(p + 30 * PAGE, 4 * PAGE) && !munlock(p + 30 * PAGE, 2 * PAGE),
		      "mlock: %s", strerror(errno));
		verify(p, 8, 2, ORIGIN);
		fill(q, 0, 1, CHILD);
		break;
	case 2:
		/* refused or not, it must not lose anything */
		if (!madvise(q, BLOCK, MADV_HUGEPAGE))
			madvise(q, BLOCK, MADV_COLLAPSE);
		check(!madvise(p + BLOCK, BLOCK, MADV_DONTNEED), "MADV_DONTNEED");
		fill(p, 40, 4, GRANDCHILD);
		break;
	}
	barrier(READY, MEMBERS);
	verify(p, 16, 4, ORIGIN);
	verify(q, 1, LOOP_PAGES - 1, PARENT);
	if (extra) {
		verify_extra(r, me);
		barrier(READY, MEMBERS);
	}
	if (me == 2) {
		static char *const argv[] = { "accounting", "--nothing", NULL };

		await(GO, 1);
		if (n % 8)
			done();
		execv("/proc/self/exe", argv);
		fail("exec: %s", strerror(errno));
	}
	if (me == 1) {
		events_get(&before);
		arrive(GO);
	}
	join(pid);
	if (me) {
		expect_events(&before, EV_DETACH, >=, extra ? LAST_HAS : 0);
		done();
	}
	verify(p, BLOCK_PAGES, LOOP_PAGES, ORIGIN);
	/* to write it all takes the tables back, and the pages from swap */
	fill(p, 0, LOOP_PAGES, ORIGIN);
	fill(p, BLOCK_PAGES, LOOP_PAGES, ORIGIN);
	if (n % 16 == 0 && !madvise(q, BLOCK, MADV_HUGEPAGE))
		madvise(q, BLOCK, MADV_COLLAPSE);
	unmap_blocks(q, 1);
	if (extra)
		unmap_blocks(r, extra);
}

enum { TABLES = 5, LEVELS = 8 };

static const struct {
	const char *name;
	long tolerance;
} levels[LEVELS] = {
	/* kB; what other processes of the system have varies a little */
	{ "AnonPages", 256 }, { "PageTables", 32 }, { "swap", 0 },
	/* pages; each CPU forgets late about those it has munlocked */
	{ "nr_mlock", 64 },
	/*
	 * kB.  What the whole system has of slabs varies by some tens, and by what is
	 * freed late.  In the 180 rounds between 1800 tables are shared: an object of 300
	 * bytes that is lost for each is more than this, and so is one task a round.
	 */
	{ "SUnreclaim", 512 },
	{ "cow_pte_table", 0 }, { "cow_pte_chunk", 0 }, { "cow_pte_records", 0 },
};

/* Free what the caches hold in reserve, and KASAN in quarantine. */
static void shrink_caches(void)
{
	DIR *caches = opendir("/sys/kernel/slab");
	struct dirent *entry;
	char path[320];

	while (caches && (entry = readdir(caches))) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", entry->d_name);
		write_file(path, "1");
	}
	if (caches)
		closedir(caches);
}

static void levels_get(long *v)
{
	char path[96], target[96];
	int i;

	if (!plain)
		shrink_caches();
	for (i = TABLES; i < LEVELS; i++) {
		/* a link is a cache that others use too */
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s", levels[i].name);
		if (readlink(path, target, sizeof(target)) >= 0) {
			v[i] = 0;
			continue;
		}
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/objects", levels[i].name);
		v[i] = read_long(path);
	}
	vmstat_refresh();
	v[0] = meminfo_kb("AnonPages");
	v[1] = meminfo_kb("PageTables");
	v[2] = meminfo_kb("SwapTotal") - meminfo_kb("SwapFree");
	v[3] = vmstat("nr_mlock");
	v[4] = meminfo_kb("SUnreclaim");
}

/* Whatever is in swap comes back; who waits for a lost entry waits forever. */
static void empty_swap(void)
{
	pid_t pid;
	int status;

	if (plain || !have_swap())
		return;
	pid = xfork();
	if (!pid) {
		signal(SIGALRM, SIG_DFL);
		alarm(60);
		check(!cycle_swap(), "swapoff");
		done();
	}
	status = join_status(pid);
	check(WIFEXITED(status) && !WEXITSTATUS(status), "swapoff: wait status %#x",
	      status);
}

static void many_loops(void)
{
	const unsigned int last = rounds(200), first = (last + 9) / 10;
	char *p = map_blocks(LOOP_BLOCKS);
	long early[LEVELS], late[LEVELS];
	int i, tries, bad = -1;
	static const char *const vm_pte[] = { "VmPTE" };
	long tolerance, own;
	unsigned int n;

	fill(p, 0, LOOP_PAGES, ORIGIN);
	fill(p, BLOCK_PAGES, LOOP_PAGES, ORIGIN);
	for (n = 1; n <= last; n++) {
		one_loop(p, n);
		if (n != first)
			continue;
		empty_swap();
		levels_get(early);
	}
	empty_swap();
	/* tables are freed late, see __cow_pte_free_deferred() */
	for (tries = 0; tries < 50; tries++) {
		levels_get(late);
		/*
		 * Data, heap and stack have tables too.  Each has its
		 * cow_pte_table if the child wrote there before us, and none if
		 * we did: then we have the copy.
		 */
		status_fields(0, vm_pte, &own, 1);
		for (i = 0, bad = -1; i < LEVELS; i++) {
			tolerance = levels[i].tolerance;
			if (i == TABLES)
				tolerance = own / 4 - (long)LOOP_BLOCKS;
			if (late[i] > early[i] + tolerance)
				bad = i;
		}
		if (bad < 0 || plain)
			break;
		usleep(100 * 1000);
	}
	for (i = 0; i < LEVELS; i++)
		note("%s: %ld after %u rounds, %ld after %u", levels[i].name, early[i],
		     first, late[i], last);
	check(bad < 0 || plain, "%s has grown", levels[bad].name);
	unmap_blocks(p, LOOP_BLOCKS);
}

static const struct cow_case cases[] = {
	{ "anonymous memory, step by step", anonymous },
	{ "the parent exits first", parent_first },
	{ "private file on disk", file_on_disk },
	{ "private file in memory", file_in_memory },
	{ "swap entries", swap_entries },
	{ "counters agree with the tables", counters_match_tables },
	{ "page tables are saved", page_tables_are_saved },
	{ "peak of RSS", peak },
	{ "nothing is lost in 200 rounds", many_loops },
};

int main(int argc, char **argv)
{
	/* what one_loop() runs */
	if (argc == 2 && !strcmp(argv[1], "--nothing"))
		return 0;
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
