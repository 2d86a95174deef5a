// SPDX-License-Identifier: GPL-2.0
/*
 * What the COW page table tests have in common, see cow_pte_util.h.
 */
#include "cow_pte_util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if __has_include("../kselftest.h")
#include "../kselftest.h"
#else
#include "tap.h"
#endif

bool plain;
bool large_folios;
uint64_t seed;
volatile uint64_t *slots;

static unsigned int rounds_percent = 100;
static unsigned int timeout_s = 400;
static long background;

/* One page that all processes of a case share. */
static struct shared {
	long tables_kb;
	unsigned int failed;
	unsigned int skipped;
	unsigned int step[NR_STEPS];
	uint64_t slot[NR_SLOTS];
	char reason[512];
} *shared;

unsigned int rounds(unsigned int n)
{
	n = n * rounds_percent / 100;
	return n ? n : 1;
}

/* One write a line: several processes may complain at once. */
static void say(const char *prefix, const char *fmt, va_list ap)
{
	char buf[1024];
	int n;

	n = snprintf(buf, sizeof(buf), "# %s", prefix);
	n += vsnprintf(buf + n, sizeof(buf) - n - 1, fmt, ap);
	if (n > (int)sizeof(buf) - 2)
		n = sizeof(buf) - 2;
	buf[n++] = '\n';
	if (write(STDOUT_FILENO, buf, n) != n)
		_exit(KSFT_FAIL);
}

void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("", fmt, ap);
	va_end(ap);
}

/* A step that ends all waiting; nobody waits for that many. */
#define STEP_OVER	(1U << 20)

/*
 * Let all know that the case has ended.  The steps change, so that nobody goes to sleep
 * who has looked at @ended just before.
 */
static void end_case(unsigned int *ended)
{
	int i;

	__atomic_store_n(ended, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < NR_STEPS; i++) {
		__atomic_add_fetch(&shared->step[i], STEP_OVER, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &shared->step[i], FUTEX_WAKE, INT_MAX, NULL,
			NULL, 0);
	}
}

/* Leaves if some process of the case has failed or skipped it. */
static void leave_ended(void)
{
	if (__atomic_load_n(&shared->failed, __ATOMIC_SEQ_CST))
		_exit(KSFT_FAIL);
	if (__atomic_load_n(&shared->skipped, __ATOMIC_SEQ_CST))
		_exit(KSFT_SKIP);
}

void fail_at(const char *file, int line, const char *fmt, ...)
{
	int err = errno;
	char where[256];
	va_list ap;

	snprintf(where, sizeof(where), "%s:%d pid %d (errno %d, %s): ", file,
		 line, getpid(), err, strerror(err));
	va_start(ap, fmt);
	say(where, fmt, ap);
	va_end(ap);
	end_case(&shared->failed);
	_exit(KSFT_FAIL);
}

void skip_case(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(shared->reason, sizeof(shared->reason), fmt, ap);
	va_end(ap);
	end_case(&shared->skipped);
	_exit(KSFT_SKIP);
}

void done(void)
{
	_exit(0);
}

/* Processes */

void without_rseq(char **argv)
{
	if (getenv("GLIBC_TUNABLES"))
		return;
	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	execv("/proc/self/exe", argv);
}

/*
 * The table with the thread's own data (errno, and the area of rseq, where the kernel
 * writes whenever it has moved or preempted a thread) is shared by a fork too.  Parent
 * and child write there at once, so that this break and this reuse do not come while a
 * case counts.
 */
pid_t xfork(void)
{
	pid_t pid = fork();

	check(pid >= 0, "fork");
	__atomic_store_n(&errno, 0, __ATOMIC_RELAXED);
	return pid;
}

pid_t xclone3(uint64_t flags)
{
	struct clone_args args = {
		.flags = flags,
		.exit_signal = SIGCHLD,
	};

	return syscall(SYS_clone3, &args, sizeof(args));
}

/*
 * The counters are the whole system's, and a fork of the case shares tables of
 * its data and heap as well.  Their number was found before the case began.
 */
pid_t fork_sharing(unsigned long blocks)
{
	struct events before;
	pid_t pid;

	events_get(&before);
	pid = xfork();
	if (pid)
		expect_events(&before, EV_SHARE, >=,
			      background + (long)blocks);
	return pid;
}

/* Parent 0, child 1, grandchild 2; @pid is whom this one has to join, if any. */
unsigned int fork_twice(unsigned long blocks, pid_t *pid)
{
	unsigned int me = 0;

	*pid = 0;
	while (me < 2) {
		*pid = fork_sharing(blocks);
		if (*pid)
			break;
		me++;
	}
	return me;
}

pid_t bystander(bool wanted, char *p, unsigned long blocks, unsigned long nr,
		unsigned int owner)
{
	pid_t pid;

	if (!wanted)
		return 0;
	pid = fork_sharing(blocks);
	if (!pid) {
		await(NR_STEPS - 1, 1);
		verify(p, 0, nr, owner);
		done();
	}
	return pid;
}

void bystander_ends(pid_t pid)
{
	if (!pid)
		return;
	arrive(NR_STEPS - 1);
	join(pid);
}

long background_shares(void)
{
	struct events before;
	pid_t pid;

	if (plain)
		return 0;
	events_get(&before);
	pid = xfork();
	if (!pid)
		done();
	join(pid);
	return event_delta(&before, EV_SHARE);
}

int join_status(pid_t pid)
{
	int status;
	pid_t ret;

	do {
		ret = waitpid(pid, &status, 0);
	} while (ret < 0 && errno == EINTR);
	check(ret == pid, "waitpid(%d)", pid);
	return status;
}

void join(pid_t pid)
{
	int status = join_status(pid);

	leave_ended();
	check(WIFEXITED(status) && !WEXITSTATUS(status),
	      "child %d: wait status %#x", pid, status);
}

void wait_gone(pid_t pid)
{
	struct pollfd p = { .events = POLLIN };
	int fd = syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0) {
		check(errno == ESRCH, "pidfd_open");
		return;
	}
	p.fd = fd;
	while (poll(&p, 1, 100) != 1)
		leave_ended();
	close(fd);
}

void set_mode(int mode)
{
	if (plain)
		mode = 0;
	if (!feature_present())
		return;
	check(!prctl(PR_SET_COW_PTE, mode, 0, 0, 0), "PR_SET_COW_PTE %d", mode);
}

bool delay_windows(unsigned int us, unsigned int points)
{
	return !write_file("/sys/kernel/debug/cow_pte/delay_points", "%#x",
			   us ? points : ~0U) &&
	       !write_file("/sys/kernel/debug/cow_pte/delay_us", "%u", us);
}

bool feature_present(void)
{
	struct events e;

	return prctl(PR_GET_COW_PTE, 0, 0, 0, 0) >= 0 && events_get(&e);
}

/* Events */

const char *const event_names[NR_EVENTS] = {
	"cow_pte_share", "cow_pte_break", "cow_pte_reuse", "cow_pte_detach",
	"cow_pte_inplace", "cow_pte_fallback_vma", "cow_pte_fallback_small",
	"cow_pte_fallback_pinned", "cow_pte_fallback_entry",
	"cow_pte_fallback_nomem", "cow_pte_fallback_notifier",
};

/* Read a whole file of /proc without touching the heap. */
static ssize_t slurp(const char *path, char *buf, size_t size)
{
	size_t n = 0;
	ssize_t ret;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return -1;
	while ((ret = read(fd, buf + n, size - 1 - n)) > 0)
		n += ret;
	close(fd);
	buf[n] = '\0';
	return n;
}

/* The number that follows @key at the start of a line, or -1. */
static long find_value(const char *text, const char *key)
{
	size_t len = strlen(key);
	const char *p = text;

	while (p) {
		if (!strncmp(p, key, len) &&
		    (p[len] == ' ' || p[len] == '\t' || p[len] == ':'))
			return strtol(p + len + (p[len] == ':'), NULL, 10);
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	return -1;
}

static char text[1 << 16];

bool events_get(struct events *e)
{
	int i;

	memset(e, 0, sizeof(*e));
	if (slurp("/proc/vmstat", text, sizeof(text)) < 0)
		return false;
	for (i = 0; i < NR_EVENTS; i++)
		e->v[i] = find_value(text, event_names[i]);
	return e->v[EV_SHARE] >= 0;
}

long event_delta(const struct events *since, enum cow_event ev)
{
	struct events now;

	if (plain)
		return 0;
	events_get(&now);
	return now.v[ev] - since->v[ev];
}

/* Ordering */

void steps_reset(void)
{
	memset(shared->step, 0, sizeof(shared->step));
}

void arrive(int step)
{
	__atomic_add_fetch(&shared->step[step], 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &shared->step[step], FUTEX_WAKE, INT_MAX, NULL, NULL,
		0);
}

/*
 * Without a time-out: who wakes to look writes to its stack, which may have gone to
 * swap, while another process reads its numbers.  The limit of the case is for a peer
 * that died without a word.
 */
void await(int step, unsigned int value)
{
	unsigned int now;

	for (;;) {
		now = __atomic_load_n(&shared->step[step], __ATOMIC_SEQ_CST);
		leave_ended();
		if (now >= value)
			return;
		syscall(SYS_futex, &shared->step[step], FUTEX_WAIT, now, NULL,
			NULL, 0);
	}
}

void barrier(int step, unsigned int n)
{
	unsigned int t = __atomic_fetch_add(&shared->step[step], 1,
					    __ATOMIC_SEQ_CST);

	syscall(SYS_futex, &shared->step[step], FUTEX_WAKE, INT_MAX, NULL, NULL,
		0);
	await(step, (t / n + 1) * n);
}

/* Leaves all at almost the same instant, for races. */
void spin_barrier(int step, unsigned int n)
{
	unsigned int t = __atomic_fetch_add(&shared->step[step], 1,
					    __ATOMIC_SEQ_CST);
	unsigned int target = (t / n + 1) * n, spins = 0;

	while (__atomic_load_n(&shared->step[step], __ATOMIC_SEQ_CST) < target) {
		if (++spins % 512)
			continue;
		leave_ended();
		sched_yield();
	}
	leave_ended();
}

/* Memory */

/*
 * Whole, aligned blocks of their own: a block of inaccessible memory on either
 * side keeps every other mapping out of the neighbouring tables.
 */
static char *reserve_blocks(unsigned long nr)
{
	size_t len = (nr + 3) * BLOCK;
	char *p, *start, *end;

	p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(p != MAP_FAILED, "mmap of %zu", len);
	start = (char *)(((uintptr_t)p + BLOCK - 1) & ~(BLOCK - 1));
	end = start + (nr + 2) * BLOCK;
	if (start > p)
		munmap(p, start - p);
	if (p + len > end)
		munmap(end, p + len - end);
	return start + BLOCK;
}

static char *map_at(char *p, unsigned long nr, int flags, int fd)
{
	void *ret;

	ret = mmap(p, nr * BLOCK, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_FIXED | flags, fd, 0);
	check(ret == p, "mmap of %lu blocks", nr);
	/* A kernel without huge pages does not know the advice. */
	if (!large_folios)
		madvise(p, nr * BLOCK, MADV_NOHUGEPAGE);
	return p;
}

char *map_blocks(unsigned long nr)
{
	return map_at(reserve_blocks(nr), nr, MAP_ANONYMOUS, -1);
}

char *map_file_blocks(unsigned long nr, int fd)
{
	return map_at(reserve_blocks(nr), nr, 0, fd);
}

char *map_small_pages(unsigned long nr)
{
	char *p = map_blocks(nr);

	check(!large_folios || !madvise(p, nr * BLOCK, MADV_NOHUGEPAGE),
	      "MADV_NOHUGEPAGE: %s", strerror(errno));
	return p;
}

void unmap_blocks(char *p, unsigned long nr)
{
	check(!munmap(p - BLOCK, (nr + 2) * BLOCK), "munmap");
}

int test_file_in(const char *dir, unsigned long pages, unsigned int owner)
{
	char path[PATH_MAX], buf[PAGE];
	unsigned long i;
	int fd;

	snprintf(path, sizeof(path), "%s/cow_pte.XXXXXX", dir);
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	unlink(path);
	for (i = 0; i < pages; i++) {
		pattern_page(buf, i, owner);
		if (pwrite(fd, buf, PAGE, i * PAGE) != PAGE) {
			close(fd);
			return -1;
		}
	}
	return fd;
}

int test_file(unsigned long pages, unsigned int owner)
{
	const char *dir = getenv("COW_PTE_TEST_DIR");
	int fd = test_file_in(dir ? dir : "/tmp", pages, owner);

	if (fd < 0 && !dir)
		fd = test_file_in(".", pages, owner);
	if (fd < 0)
		skip_case("no directory to write a file of %lu pages: %s",
			  pages, strerror(errno));
	return fd;
}

/* A file on a real file system if there is one with enough room. */
int disk_file(unsigned long pages, unsigned int owner)
{
	const char *dirs[] = {
		getenv("COW_PTE_TEST_DIR"), "/mnt/disk", ".", "/tmp",
	};
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_LEN(dirs); i++) {
		if (!dirs[i])
			continue;
		fd = test_file_in(dirs[i], pages, owner);
		if (fd >= 0)
			return fd;
	}
	skip_case("no directory to write a file of %lu pages: %s", pages,
		  strerror(errno));
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	x ^= x >> 33;
	return x;
}

uint64_t rnd(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ULL;
	return mix(*state);
}

/* Seven words of each page, the first and the last among them. */
#define WORDS		(PAGE / sizeof(uint64_t))
#define STRIDE		73

static uint64_t word(unsigned long page, unsigned int owner, unsigned int i)
{
	if (owner == OWNER_ZERO)
		return 0;
	return mix(seed ^ ((uint64_t)owner << 48) ^ (page << 12) ^ i) | 1;
}

void pattern_page(void *buf, unsigned long page, unsigned int owner)
{
	uint64_t *w = buf;
	unsigned int i;

	memset(buf, 0, PAGE);
	for (i = 0; i < WORDS; i += STRIDE)
		w[i] = word(page, owner, i);
	w[WORDS - 1] = word(page, owner, WORDS - 1);
}

bool page_is(const void *buf, unsigned long page, unsigned int owner)
{
	const volatile uint64_t *w = buf;
	unsigned int i;

	for (i = 0; i < WORDS; i += STRIDE)
		if (w[i] != word(page, owner, i))
			return false;
	return w[WORDS - 1] == word(page, owner, WORDS - 1);
}

void fill(char *base, unsigned long first, unsigned long nr, unsigned int owner)
{
	unsigned long page;
	unsigned int i;

	for (page = first; page < first + nr; page++) {
		volatile uint64_t *w = (uint64_t *)(base + page * PAGE);

		for (i = 0; i < WORDS; i += STRIDE)
			w[i] = word(page, owner, i);
		w[WORDS - 1] = word(page, owner, WORDS - 1);
	}
}

void verify_at(const char *file, int line, char *base, unsigned long first,
	       unsigned long nr, unsigned int owner)
{
	unsigned long page;
	unsigned int o;

	for (page = first; page < first + nr; page++) {
		if (page_is(base + page * PAGE, page, owner))
			continue;
		for (o = 0; o < 64; o++)
			if (page_is(base + page * PAGE, page, o))
				break;
		errno = 0;
		if (o < 64)
			fail_at(file, line,
				"page %lu at %p is of owner %u, expected %u",
				page, base + page * PAGE, o, owner);
		fail_at(file, line,
			"page %lu at %p: %#llx, nobody's; expected owner %u",
			page, base + page * PAGE,
			(unsigned long long)*(uint64_t *)(base + page * PAGE),
			owner);
	}
}

void read_pages(char *base, unsigned long first, unsigned long nr)
{
	unsigned long i;

	for (i = first; i < first + nr; i++)
		(void)*(volatile char *)(base + i * PAGE);
}

static sigjmp_buf fault_env;

static void on_fault(int sig)
{
	siglongjmp(fault_env, sig);
}

static bool access_faults(char *p, bool write)
{
	struct sigaction sa = { .sa_handler = on_fault }, segv, bus;
	bool faulted = true;

	sigaction(SIGSEGV, &sa, &segv);
	sigaction(SIGBUS, &sa, &bus);
	if (!sigsetjmp(fault_env, 1)) {
		if (write)
			*(volatile char *)p = *(volatile char *)p;
		else
			(void)*(volatile char *)p;
		faulted = false;
	}
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return faulted;
}

bool read_faults(char *p)
{
	return access_faults(p, false);
}

bool write_faults(char *p)
{
	return access_faults(p, true);
}

/* What the kernel tells */

static const char *proc_path(char *path, size_t size, pid_t pid,
			     const char *name)
{
	if (pid)
		snprintf(path, size, "/proc/%d/%s", pid, name);
	else
		snprintf(path, size, "/proc/self/%s", name);
	return path;
}

void await_asleep(pid_t pid)
{
	char path[64], stat[512], *state;

	do {
		sched_yield();
		check(slurp(proc_path(path, sizeof(path), pid, "stat"), stat,
			    sizeof(stat)) > 0, "%s", path);
		/* the state is behind the name, which may have parentheses of its own */
		state = strrchr(stat, ')');
		leave_ended();
	} while (!state || state[2] != 'S');
}

long status_kb(pid_t pid, const char *field)
{
	char path[64];

	check(slurp(proc_path(path, sizeof(path), pid, "status"), text,
		    sizeof(text)) > 0, "%s", path);
	return find_value(text, field);
}

/* Several fields at once, of one moment. */
void status_fields(pid_t pid, const char *const *names, long *kb, unsigned int nr)
{
	char path[64];
	unsigned int i;

	check(slurp(proc_path(path, sizeof(path), pid, "status"), text,
		    sizeof(text)) > 0, "%s", path);
	for (i = 0; i < nr; i++)
		kb[i] = find_value(text, names[i]);
}

long meminfo_kb(const char *field)
{
	check(slurp("/proc/meminfo", text, sizeof(text)) > 0, "meminfo");
	return find_value(text, field);
}

long vmstat(const char *field)
{
	check(slurp("/proc/vmstat", text, sizeof(text)) > 0, "vmstat");
	return find_value(text, field);
}

/*
 * How many tables this process has had to copy.  Once more for those that the
 * reading itself makes it copy.
 */
long own_breaks(void)
{
	if (plain)
		return 0;
	status_kb(0, "CowPTEBreaks");
	return status_kb(0, "CowPTEBreaks");
}

long own_tables(void)
{
	return plain ? 0 : status_kb(0, "CowPTE") / (long)(PAGE / 1024);
}

/* Fold the per-CPU differences, so that the totals are exact. */
void vmstat_refresh(void)
{
	write_file("/proc/sys/vm/stat_refresh", "1");
}

uint64_t pagemap(pid_t pid, void *addr)
{
	uint64_t entry;
	char path[64];
	int fd;

	fd = open(proc_path(path, sizeof(path), pid, "pagemap"), O_RDONLY);
	check(fd >= 0, "%s", path);
	check(pread(fd, &entry, sizeof(entry),
		    (uintptr_t)addr / PAGE * sizeof(entry)) == sizeof(entry),
	      "%s", path);
	close(fd);
	return entry;
}

void mark_idle(int fd, uint64_t pfn)
{
	uint64_t word = 1ULL << pfn % 64;
	ssize_t ret = pwrite(fd, &word, sizeof(word), pfn / 64 * 8);

	check(ret == sizeof(word), IDLE_BITMAP ": wrote %zd bytes for page %#llx", ret,
	      (unsigned long long)pfn);
}

long smaps_kb(pid_t pid, void *addr, const char *field)
{
	static char smaps[1 << 18];
	char path[64];
	char *p = smaps;

	check(slurp(proc_path(path, sizeof(path), pid, "smaps"), smaps,
		    sizeof(smaps)) > 0, "%s", path);
	while (p) {
		unsigned long start, end;

		if (sscanf(p, "%lx-%lx ", &start, &end) == 2 &&
		    start <= (uintptr_t)addr && (uintptr_t)addr < end)
			return find_value(p, field);
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	return -1;
}

int write_file(const char *path, const char *fmt, ...)
{
	char buf[256];
	ssize_t ret;
	va_list ap;
	int fd, err, n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = write(fd, buf, n);
	err = errno;
	close(fd);
	errno = err;
	return ret == n ? 0 : -1;
}

long read_long(const char *path)
{
	char buf[64];

	if (slurp(path, buf, sizeof(buf)) <= 0)
		return -1;
	return strtol(buf, NULL, 10);
}

bool have_swap(void)
{
	return meminfo_kb("SwapFree") > 64 * 1024;
}

const char *swap_device(void)
{
	static char device[64];
	FILE *f = fopen("/proc/swaps", "r");

	device[0] = 0;
	if (f) {
		if (fscanf(f, "%*[^\n] %63s", device) != 1)
			device[0] = 0;
		fclose(f);
	}
	return device;
}

int cycle_swap(void)
{
	char device[64];

	strcpy(device, swap_device());
	if (!device[0])
		return -ENODEV;
	if (swapoff(device))
		return -errno;
	check(!swapon(device, 0), "swapon %s: %s", device, strerror(errno));
	return 0;
}

/* The runner */

static struct sysctl {
	const char *path;
	long saved;
	long wanted;
} sysctls[] = {
	{ SYSCTL_MODE, -1, 1 },
	{ SYSCTL_MIN, -1, 1 },
};

static pid_t runner;

static void restore_sysctls(void)
{
	size_t i;

	if (getpid() != runner)
		return;
	for (i = 0; i < ARRAY_LEN(sysctls); i++)
		if (sysctls[i].saved >= 0)
			write_file(sysctls[i].path, "%ld", sysctls[i].saved);
}

static void apply_sysctls(bool first)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(sysctls); i++) {
		if (first)
			sysctls[i].saved = read_long(sysctls[i].path);
		if (sysctls[i].saved >= 0 &&
		    write_file(sysctls[i].path, "%ld", sysctls[i].wanted))
			note("cannot set %s: %s", sysctls[i].path,
			     strerror(errno));
	}
}

/* ---- large folios ---- */

#define FOLIO_SETTING	"/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled"

/* The word in brackets: "always inherit [madvise] never" */
static char folio_saved[16];

static void folios_restore(void)
{
	if (getpid() == runner && folio_saved[0])
		write_file(FOLIO_SETTING, "%s", folio_saved);
}

/* Faults of anonymous memory map 16 pages of one folio where there is room. */
static bool folios_on(void)
{
	char buf[128], *word, *p;
	bool large;
	size_t len;

	if (slurp(FOLIO_SETTING, buf, sizeof(buf)) <= 0)
		return false;
	word = strchr(buf, '[');
	len = word ? strcspn(++word, "]") : 0;
	if (!len || len >= sizeof(folio_saved))
		return false;
	memcpy(folio_saved, word, len);
	atexit(folios_restore);
	if (write_file(FOLIO_SETTING, "always"))
		return false;
	p = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	*(volatile char *)(p + BLOCK / 2) = 1;
	/* one of the two is of the same folio, wherever that begins */
	large = pagemap(0, p + BLOCK / 2 + PAGE) & PM_PRESENT ||
		pagemap(0, p + BLOCK / 2 - PAGE) & PM_PRESENT;
	munmap(p, BLOCK);
	return large;
}

/* ---- a memory cgroup of our own ---- */

char cgroup[64];

static char cgroup_mount[] = "/tmp/cow_pte_cgroup";
static const char *const cgroup_names[] = { "cow_pte_test", "cow_pte_full" };
static pid_t cgroup_owner;

static void cgroup_cleanup(void)
{
	size_t i;

	if (getpid() != cgroup_owner)
		return;
	for (i = 0; i < ARRAY_LEN(cgroup_names); i++) {
		snprintf(cgroup, sizeof(cgroup), "%s/%s", cgroup_mount, cgroup_names[i]);
		rmdir(cgroup);
	}
	umount2(cgroup_mount, MNT_DETACH);
	rmdir(cgroup_mount);
}

int cgroup_write(const char *file, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	return write_file(path, "%s", value);
}

void cgroup_make(const char *name)
{
	snprintf(cgroup, sizeof(cgroup), "%s/%s", cgroup_mount, name);
	if (mkdir(cgroup, 0755) && errno != EEXIST)
		skip_case("cannot make %s: %s", cgroup, strerror(errno));
	cgroup_write("memory.max", "max");
}

void cgroup_enter(void)
{
	char path[128];

	mkdir(cgroup_mount, 0755);
	snprintf(path, sizeof(path), "%s/cgroup.controllers", cgroup_mount);
	if (access(path, R_OK) &&
	    mount("none", cgroup_mount, "cgroup2", 0, NULL))
		skip_case("cannot mount cgroup2: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", cgroup_mount);
	if (write_file(path, "+memory"))
		skip_case("no memory controller for cgroup2");
	cgroup_make(cgroup_names[0]);
	check(!cgroup_write("cgroup.procs", "0"), "cgroup.procs");
	snprintf(path, sizeof(path), "%s/memory.reclaim", cgroup);
	if (access(path, W_OK))
		skip_case("no memory.reclaim");
}

static volatile sig_atomic_t case_pid;

static void on_quit(int sig)
{
	if (case_pid > 0)
		kill(-case_pid, SIGKILL);
	restore_sysctls();
	folios_restore();
	_exit(128 + sig);
}

static volatile sig_atomic_t timed_out;

static void on_alarm(int sig)
{
	(void)sig;
	timed_out = 1;
	if (case_pid > 0)
		kill(-case_pid, SIGKILL);
}

/*
 * What a case may leave behind.  Freed pages wait in per-CPU lists and RCU
 * callbacks for a moment, so allow it time before calling it a leak.
 */
#define TABLES_TOLERANCE_KB	4
#define ANON_TOLERANCE_KB	256

struct baseline {
	long tables;
	long anon;
	/* of these, other processes have, on a machine that is not ours alone */
	long tables_of_others;
	long anon_of_others;
};

static void count_others(struct baseline *b)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	char path[64];
	pid_t pid;

	b->tables_of_others = 0;
	b->anon_of_others = 0;
	while (proc && (entry = readdir(proc))) {
		pid = atoi(entry->d_name);
		if (pid <= 0 || pid == getpid())
			continue;
		/* "0 0 ..." are the sizes of a kernel thread */
		if (slurp(proc_path(path, sizeof(path), pid, "statm"), text,
			  sizeof(text)) <= 0 || text[0] == '0')
			continue;
		if (slurp(proc_path(path, sizeof(path), pid, "status"), text,
			  sizeof(text)) <= 0 || !strstr(text, "RssAnon:"))
			continue;
		b->anon_of_others += find_value(text, "RssAnon");
		/* VmPTE does not count the top level, which may be two pages */
		b->tables_of_others += find_value(text, "VmPTE") + 8;
	}
	if (proc)
		closedir(proc);
}

static void baseline_get(struct baseline *b)
{
	vmstat_refresh();
	b->tables = meminfo_kb("PageTables");
	b->anon = meminfo_kb("AnonPages");
	count_others(b);
}

static long growth(long before, long after)
{
	return after > before ? after - before : 0;
}

void allow_tables(long kb)
{
	shared->tables_kb = kb;
}

static bool leaked(const struct baseline *before, struct baseline *after)
{
	int tries;

	/* Elsewhere others are at work. */
	if (plain)
		return false;
	for (tries = 0; tries < 50; tries++) {
		baseline_get(after);
		if (after->tables <= before->tables + TABLES_TOLERANCE_KB +
				     shared->tables_kb +
				     growth(before->tables_of_others,
					    after->tables_of_others) &&
		    after->anon <= before->anon + ANON_TOLERANCE_KB +
				   growth(before->anon_of_others,
					  after->anon_of_others))
			return false;
		usleep(100 * 1000);
	}
	return true;
}

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void run_case(const struct cow_case *c)
{
	struct baseline before = { 0 }, after = { 0 };
	long start = now_ms();
	int status = 0;
	pid_t pid, ret;

	memset(shared, 0, sizeof(*shared));
	apply_sysctls(false);
	if (!plain)
		baseline_get(&before);
	timed_out = 0;
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		note("fork: %s", strerror(errno));
		ksft_test_result_fail("%s\n", c->name);
		return;
	}
	if (!pid) {
		setpgid(0, 0);
		signal(SIGALRM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
		set_mode(1);
		background = background_shares();
		c->fn();
		done();
	}
	setpgid(pid, pid);
	case_pid = pid;
	alarm(timeout_s);
	do {
		ret = waitpid(pid, &status, 0);
	} while (ret < 0 && errno == EINTR);
	alarm(0);
	kill(-pid, SIGKILL);
	case_pid = 0;
	if (!plain)
		delay_windows(0, 0);
	/* The runner is the reaper of all that the case left. */
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	note("%s: %ld ms", c->name, now_ms() - start);

	if (timed_out) {
		note("still running after %u s, killed", timeout_s);
		ksft_test_result_fail("%s\n", c->name);
	} else if (shared->failed ||
		   (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_FAIL)) {
		ksft_test_result_fail("%s\n", c->name);
	} else if (shared->skipped) {
		ksft_test_result_skip("%s: %s\n", c->name, shared->reason);
	} else if (status) {
		note("the case ended with wait status %#x", status);
		ksft_test_result_fail("%s\n", c->name);
	} else if (leaked(&before, &after)) {
		note("left behind: PageTables %ld kB, was %ld; AnonPages %ld kB, was %ld",
		     after.tables, before.tables, after.anon, before.anon);
		ksft_test_result_fail("%s\n", c->name);
	} else {
		ksft_test_result_pass("%s\n", c->name);
	}
}

static const char help[] =
"Usage: %s [options] [case...]\n"
"\n"
"Runs the cases whose name contains one of the given words, or all, and reports\n"
"in TAP.  Exit status: 0 passed, 1 failed, 4 nothing could be run.\n"
"\n"
"  -p, --plain         ordinary forks, events not looked at: checks the test\n"
"                      itself, on any kernel (or COW_PTE_TEST_PLAIN=1)\n"
"  -s, --seed N        the seed of an earlier run (or COW_PTE_TEST_SEED)\n"
"  -r, --rounds PCT    percentage of the usual number of rounds\n"
"                      (or COW_PTE_TEST_ROUNDS)\n"
"      --thp           blocks of 64 kB folios, each mapped by 16 entries\n"
"                      (or COW_PTE_TEST_THP=1)\n"
"  -t, --timeout S     limit for one case (or COW_PTE_TEST_TIMEOUT)\n"
"  -l, --list          print the names of the cases\n"
"  -h, --help          this text\n"
"\n"
"COW_PTE_TEST_CASES is a part of the name that all cases must have, or several\n"
"with | between them, one of which they must have.\n"
"COW_PTE_TEST_DIR is a directory for files, best on a file system that knows\n"
"O_DIRECT.\n";

static unsigned long long number(const char *s, const char *what)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(s, &end, 0);
	if (errno || end == s || *end) {
		fprintf(stderr, "%s: '%s' is not a number\n", what, s);
		exit(2);
	}
	return v;
}

/* Is one of the words of @list, which has | between them, a part of @name? */
static bool listed(const char *name, const char *list)
{
	char part[128];
	size_t len;

	for (;; list += len + 1) {
		len = strcspn(list, "|");
		if (len < sizeof(part)) {
			memcpy(part, list, len);
			part[len] = '\0';
			if (strstr(name, part))
				return true;
		}
		if (!list[len])
			return false;
	}
}

static bool wanted(const struct cow_case *c, int argc, char **argv)
{
	const char *env = getenv("COW_PTE_TEST_CASES");
	int i;

	if (env && *env && !listed(c->name, env))
		return false;
	for (i = optind; i < argc; i++)
		if (strstr(c->name, argv[i]))
			return true;
	return optind == argc;
}

int cow_main(int argc, char **argv, const struct cow_case *cases, size_t nr)
{
	static const struct option options[] = {
		{ "plain", no_argument, NULL, 'p' },
		{ "seed", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "timeout", required_argument, NULL, 't' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "thp", no_argument, NULL, 'T' },
		{ }
	};
	struct sigaction sa = { .sa_handler = on_alarm };
	const char *env;
	struct timespec ts;
	size_t i, n = 0;
	int opt;

	clock_gettime(CLOCK_REALTIME, &ts);
	seed = mix(ts.tv_sec * 1000000000ULL + ts.tv_nsec) >> 32;
	env = getenv("COW_PTE_TEST_SEED");
	if (env)
		seed = number(env, "COW_PTE_TEST_SEED");
	env = getenv("COW_PTE_TEST_ROUNDS");
	if (env)
		rounds_percent = number(env, "COW_PTE_TEST_ROUNDS");
	env = getenv("COW_PTE_TEST_TIMEOUT");
	if (env)
		timeout_s = number(env, "COW_PTE_TEST_TIMEOUT");
	env = getenv("COW_PTE_TEST_PLAIN");
	plain = env && *env && strcmp(env, "0");
	env = getenv("COW_PTE_TEST_THP");
	large_folios = env && *env && strcmp(env, "0");

	while ((opt = getopt_long(argc, argv, "ps:r:t:lh", options, NULL)) != -1) {
		switch (opt) {
		case 'p':
			plain = true;
			break;
		case 's':
			seed = number(optarg, "--seed");
			break;
		case 'r':
			rounds_percent = number(optarg, "--rounds");
			break;
		case 't':
			timeout_s = number(optarg, "--timeout");
			break;
		case 'l':
			for (i = 0; i < nr; i++)
				puts(cases[i].name);
			return 0;
		case 'T':
			large_folios = true;
			break;
		case 'h':
			printf(help, argv[0]);
			return 0;
		default:
			fprintf(stderr, help, argv[0]);
			return 2;
		}
	}

	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		return KSFT_FAIL;
	}
	slots = shared->slot;

	ksft_print_header();
	if (!plain && !feature_present())
		ksft_exit_skip("this kernel cannot share page tables at fork (CONFIG_COW_PTE)\n");
	if (!plain && geteuid())
		ksft_exit_skip("needs root, to set the sysctls\n");

	runner = getpid();
	cgroup_owner = runner;
	if (large_folios && !folios_on())
		ksft_exit_skip("no 64 kB folios: %s\n", FOLIO_SETTING);

	for (i = 0; i < nr; i++)
		n += wanted(&cases[i], argc, argv);
	if (!n) {
		fprintf(stderr, "no case has such a name, see --list\n");
		return 2;
	}
	ksft_set_plan(n);
	note("seed %llu%s%s", (unsigned long long)seed, plain ? ", plain forks" : "",
	     large_folios ? ", 64 kB folios" : "");

	atexit(cgroup_cleanup);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sigaction(SIGALRM, &sa, NULL);
	signal(SIGINT, on_quit);
	signal(SIGTERM, on_quit);
	signal(SIGHUP, on_quit);
	if (!plain) {
		apply_sysctls(true);
		atexit(restore_sysctls);
		/* The runner's own forks are ordinary ones. */
		prctl(PR_SET_COW_PTE, 0, 0, 0, 0);
	}
	for (i = 0; i < nr; i++)
		if (wanted(&cases[i], argc, argv))
			run_case(&cases[i]);
	ksft_finished();
}
