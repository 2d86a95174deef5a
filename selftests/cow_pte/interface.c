// SPDX-License-Identifier: GPL-2.0
/*
 * The prctl, the clone3 flag, the sysctls and the counters: what is accepted, what
 * it means, what is inherited, and that a refused call changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow_pte_util.h"

enum { ORIGIN = 1, PARENT, CHILD };

#define NR	4UL
/* pages written in each block, to be quick */
#define FEW	24UL

static void fill_blocks(char *p, unsigned int owner)
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		fill(p, b * BLOCK_PAGES, FEW, owner);
}

static void verify_blocks(char *p, unsigned int owner)
{
	unsigned long b;

	for (b = 0; b < NR; b++)
		verify(p, b * BLOCK_PAGES, FEW, owner);
}

static int get_mode(void)
{
	return prctl(PR_GET_COW_PTE, 0, 0, 0, 0);
}

static int set_raw(unsigned long mode)
{
	return prctl(PR_SET_COW_PTE, mode, 0, 0, 0);
}

/* Nothing here can be looked at without the feature. */
static void needs_feature(void)
{
	if (plain)
		skip_case("nothing to see with plain forks");
}

#define FORK	((uint64_t)-1)

/* Tables shared by one fork, or clone3 with flags. */
static long shares_of_one(uint64_t flags, char *p, unsigned int owner)
{
	struct events before;
	pid_t pid;

	events_get(&before);
	pid = flags == FORK ? xfork() : xclone3(flags);
	check(pid >= 0, "clone3 %#llx", (unsigned long long)flags);
	if (!pid) {
		verify_blocks(p, owner);
		fill(p, 3, 1, CHILD);
		done();
	}
	join(pid);
	return event_delta(&before, EV_SHARE);
}

/* The same for a process that has NR blocks more than it needs. */
static void expect(uint64_t flags, bool shared)
{
	char *p = map_blocks(NR);
	long without, with;

	without = shares_of_one(flags, p, OWNER_ZERO);
	fill_blocks(p, ORIGIN);
	with = shares_of_one(flags, p, ORIGIN);
	verify_blocks(p, ORIGIN);
	fill(p, 0, 1, PARENT);
	unmap_blocks(p, NR);
	if (shared)
		check(with - without >= (long)NR,
		      "%ld tables shared, %ld without the memory of the test",
		      with, without);
	else
		check(!with && !without, "%ld tables shared, expected none",
		      with);
}

#define expect_shared(flags)	expect(flags, true)
#define expect_copied(flags)	expect(flags, false)

/* Setting 1 and 0 works any number of times, and is what PR_GET tells. */
static void set_and_get(void)
{
	int i;

	needs_feature();
	for (i = 0; i < 3; i++) {
		check(!set_raw(1) && get_mode() == 1, "on");
		check(!set_raw(1) && get_mode() == 1, "on again");
		check(!set_raw(0) && get_mode() == 0, "off");
		check(!set_raw(0) && get_mode() == 0, "off again");
	}
}

/* Unknown modes and arguments that must be zero: EINVAL, nothing changed. */
static void bad_prctl(void)
{
	static const unsigned long modes[] = {
		2, 3, 4, 256, 1UL << 31, 1UL << 32, (1UL << 32) | 1, -1UL, -2UL,
	};
	unsigned int mode, i;

	needs_feature();
	for (mode = 0; mode < 2; mode++) {
		check(!set_raw(mode), "mode %u", mode);
		for (i = 0; i < ARRAY_LEN(modes); i++) {
			check(set_raw(modes[i]) == -1 && errno == EINVAL,
			      "mode %#lx accepted", modes[i]);
			check(get_mode() == (int)mode, "mode %#lx changed it",
			      modes[i]);
		}
		for (i = 0; i < 3; i++) {
			check(prctl(PR_SET_COW_PTE, !mode, i == 0, i == 1,
				    i == 2) == -1 && errno == EINVAL,
			      "argument %u accepted", i + 3);
			check(get_mode() == (int)mode, "argument %u changed it",
			      i + 3);
		}
		for (i = 0; i < 4; i++)
			check(prctl(PR_GET_COW_PTE, i == 0, i == 1, i == 2,
				    i == 3) == -1 && errno == EINVAL,
			      "PR_GET: argument %u accepted", i + 2);
	}
}

/* The child has the parent's mode, and its own from then on. */
static void inherited_by_fork(void)
{
	unsigned int mode;

	needs_feature();
	for (mode = 0; mode < 2; mode++) {
		pid_t pid;

		check(!set_raw(mode), "mode %u", mode);
		pid = xfork();
		if (!pid) {
			check(get_mode() == (int)mode, "not inherited");
			check(!set_raw(!mode), "mode %u", !mode);
			pid = xfork();
			if (!pid) {
				check(get_mode() == !mode, "not inherited");
				done();
			}
			join(pid);
			done();
		}
		join(pid);
		check(get_mode() == (int)mode, "changed by the child");
	}
}

/* The mode stays over exec, so that a launcher can start any program with it. */
static void kept_over_exec(void)
{
	unsigned int mode;

	needs_feature();
	for (mode = 0; mode < 2; mode++) {
		pid_t pid;
		int status;

		check(!set_raw(mode), "mode %u", mode);
		pid = xfork();
		if (!pid) {
			execl("/proc/self/exe", "interface", "--mode-as-status",
			      (char *)NULL);
			fail("exec");
		}
		status = join_status(pid);
		check(WIFEXITED(status) && WEXITSTATUS(status) == 40 + (int)mode,
		      "wait status %#x after exec with mode %u", status, mode);
	}
}

/* The mode is that of the memory: all threads have the same. */
static void *set_on(void *arg)
{
	(void)arg;
	return set_raw(1) ? "failed" : NULL;
}

static void one_mode_for_all_threads(void)
{
	pthread_t thread;
	void *ret;

	needs_feature();
	check(!set_raw(0), "off");
	check(!pthread_create(&thread, NULL, set_on, NULL), "pthread_create");
	pthread_join(thread, &ret);
	check(!ret && get_mode() == 1, "set by a thread, mode is %d",
	      get_mode());
}

/* A thread forks for the whole memory: as the mode of the memory says. */
static char *thread_blocks;

static void *fork_in_thread(void *arg)
{
	struct events before;
	bool on = *(int *)arg;
	pid_t pid;

	events_get(&before);
	pid = xfork();
	if (!pid) {
		check(get_mode() == on, "the mode of the child is %d", get_mode());
		verify_blocks(thread_blocks, ORIGIN);
		fill_blocks(thread_blocks, CHILD);
		done();
	}
	join(pid);
	if (on)
		expect_events(&before, EV_SHARE, >=, (long)NR);
	else
		expect_events(&before, EV_SHARE, ==, 0);
	return NULL;
}

static void fork_by_a_thread(void)
{
	pthread_t thread;
	int mode;

	needs_feature();
	thread_blocks = map_blocks(NR);
	fill_blocks(thread_blocks, ORIGIN);
	for (mode = 0; mode < 2; mode++) {
		check(!set_raw(mode), "mode %d", mode);
		check(!pthread_create(&thread, NULL, fork_in_thread, &mode),
		      "pthread_create");
		pthread_join(thread, NULL);
		verify_blocks(thread_blocks, ORIGIN);
	}
	unmap_blocks(thread_blocks, NR);
}

/*
 * A child of vfork() runs in the memory of the parent.  So it has the parent's mode,
 * and what it sets is set for both; a launcher that wants to leave its own mode alone
 * must fork.  There is nothing to share, whatever the mode is.
 */
static void vfork_child(void)
{
	char *p = map_blocks(NR);
	struct events before;
	unsigned int mode;
	int status;
	pid_t pid;

	needs_feature();
	fill_blocks(p, ORIGIN);
	for (mode = 0; mode < 2; mode++) {
		check(!set_raw(mode), "mode %u", mode);
		events_get(&before);
		pid = vfork();
		if (!pid)
			_exit(get_mode() != (int)mode || set_raw(!mode));
		check(pid > 0, "vfork");
		status = join_status(pid);
		check(!status, "wait status %#x of the child", status);
		check(get_mode() == !mode, "set by a vfork child, mode is %d",
		      get_mode());
		/* and what it executes has the mode of both */
		pid = vfork();
		if (!pid) {
			execl("/proc/self/exe", "interface", "--mode-as-status",
			      (char *)NULL);
			_exit(1);
		}
		status = join_status(pid);
		check(WIFEXITED(status) && WEXITSTATUS(status) == 40 + !mode,
		      "wait status %#x after vfork and exec with mode %u", status,
		      !mode);
		expect_events(&before, EV_SHARE, ==, 0);
		verify_blocks(p, ORIGIN);
	}
	unmap_blocks(p, NR);
}

/*
 * A copy of this program that belongs to root and is set-user-ID, to be executed by its
 * descriptor: others may not get at the file by its path.
 */
static int make_setuid(void)
{
	char path[] = "/tmp/cow_pte_setuid.XXXXXX", buf[PAGE];
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int out = mkostemp(path, O_CLOEXEC), fd;
	bool written = true;
	ssize_t n;

	check(in >= 0, "/proc/self/exe");
	if (out < 0)
		skip_case("cannot write to /tmp: %s", strerror(errno));
	while (written && (n = read(in, buf, sizeof(buf))) > 0)
		written = write(out, buf, n) == n;
	written &= !fchmod(out, 04755);
	close(in);
	close(out);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	unlink(path);
	if (!written || fd < 0)
		skip_case("cannot write to /tmp");
	return fd;
}

/*
 * A set-user-ID program is nothing special: it starts with the mode of who starts it,
 * as with any other exec.  The mode changes no result, only what a fork costs and
 * who pays for a table; the program may set its own.
 */
static void kept_over_setuid_exec(void)
{
	static char *const args[] = { "interface", "--mode-as-status", NULL };
	static char *const env[] = { NULL };
	int fd = make_setuid(), status;
	unsigned int mode;
	pid_t pid;

	needs_feature();
	for (mode = 0; mode < 2; mode++) {
		pid = xfork();
		if (!pid) {
			check(!setgid(65534) && !setuid(65534), "setuid");
			check(!set_raw(mode), "mode %u", mode);
			fexecve(fd, args, env);
			fail("fexecve");
		}
		status = join_status(pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) >= 40 &&
		    WEXITSTATUS(status) < 50)
			skip_case("no set-user-ID programs in /tmp");
		check(WIFEXITED(status) && WEXITSTATUS(status) == 50 + (int)mode,
		      "wait status %#x of a set-user-ID program with mode %u", status,
		      mode);
	}
	close(fd);
}

/* Anybody may set the mode, only root the sysctl. */
static void needs_no_privilege(void)
{
	struct events before;
	struct stat st;
	long background;
	pid_t pid;

	needs_feature();
	check(!stat(SYSCTL_MODE, &st), SYSCTL_MODE);
	check((st.st_mode & 07777) == 0644, "mode %o", st.st_mode);
	background = background_shares();
	events_get(&before);
	pid = xfork();
	if (!pid) {
		char *p = map_blocks(NR);

		check(!setgid(65534) && !setuid(65534), "setuid");
		check(!set_raw(0) && !set_raw(1) && get_mode() == 1, "prctl");
		check(write_file(SYSCTL_MODE, "2") && errno == EACCES,
		      "the sysctl was writable");
		check(write_file(SYSCTL_MIN, "1") && errno == EACCES,
		      "the sysctl of the threshold was writable");
		fill_blocks(p, ORIGIN);
		pid = xfork();
		if (!pid)
			done();
		join(pid);
		done();
	}
	join(pid);
	expect_events(&before, EV_SHARE, >=, background + (long)NR);
}

/* Values of vm.cow_pte outside 0 to 2, or no numbers: EINVAL, nothing changed. */
static void bad_sysctl(void)
{
	static const char *const values[] = {
		"3", "-1", "100", "x", "4294967296", "4294967297",
		"99999999999999999999",
	};
	unsigned int mode, i;

	needs_feature();
	for (mode = 0; mode <= 2; mode++) {
		check(!write_file(SYSCTL_MODE, "%u", mode), "%u", mode);
		check(read_long(SYSCTL_MODE) == mode, "%u", mode);
		for (i = 0; i < ARRAY_LEN(values); i++) {
			check(write_file(SYSCTL_MODE, "%s", values[i]) &&
			      errno == EINVAL, "'%s' accepted", values[i]);
			check(read_long(SYSCTL_MODE) == mode, "'%s' changed it",
			      values[i]);
		}
	}
}

/* The same for the threshold: 1 to 512. */
static void bad_min_entries(void)
{
	static const char *const values[] = {
		"0", "-1", "513", "512x", "x", "4294967297", "-4294967295",
		"99999999999999999999",
	};
	static const unsigned int good[] = { 1, 32, 512 };
	unsigned int i, g;

	needs_feature();
	for (g = 0; g < ARRAY_LEN(good); g++) {
		check(!write_file(SYSCTL_MIN, "%u", good[g]), "%u", good[g]);
		check(read_long(SYSCTL_MIN) == good[g], "%u", good[g]);
		for (i = 0; i < ARRAY_LEN(values); i++) {
			check(write_file(SYSCTL_MIN, "%s", values[i]) &&
			      errno == EINVAL, "'%s' accepted", values[i]);
			check(read_long(SYSCTL_MIN) == good[g], "'%s' changed it",
			      values[i]);
		}
	}
}

/* With 512, a table is shared when it is full. */
static void only_full_tables(void)
{
	enum { BLOCKS = 6 };
	char *p = map_small_pages(BLOCKS);
	struct events before;
	unsigned long i;
	pid_t pid;

	needs_feature();
	check(!write_file(SYSCTL_MIN, "512"), "512");
	for (i = 0; i < BLOCKS; i++)
		fill(p, i * BLOCK_PAGES, BLOCK_PAGES - i % 2, ORIGIN);
	events_get(&before);
	pid = xfork();
	if (!pid) {
		for (i = 0; i < BLOCKS; i++) {
			verify(p, i * BLOCK_PAGES, BLOCK_PAGES - i % 2, ORIGIN);
			fill(p, i * BLOCK_PAGES + 7, 1, CHILD);
		}
		done();
	}
	join(pid);
	/* the program itself may have a full table, but not many */
	expect_events(&before, EV_SHARE, >=, BLOCKS / 2);
	expect_events(&before, EV_SHARE, <, BLOCKS);
	expect_events(&before, EV_FB_SMALL, >=, BLOCKS / 2);
	for (i = 0; i < BLOCKS; i++)
		verify(p, i * BLOCK_PAGES, BLOCK_PAGES - i % 2, ORIGIN);
	unmap_blocks(p, BLOCKS);
}

/* 0: the mode and the flag are accepted, and every fork is an ordinary one. */
static void sysctl_never(void)
{
	needs_feature();
	check(!write_file(SYSCTL_MODE, "0"), "0");
	check(!set_raw(1) && get_mode() == 1, "prctl");
	expect_copied(FORK);
	expect_copied(CLONE_COW_PTE);
	check(get_mode() == 1, "mode forgotten");
	check(!write_file(SYSCTL_MODE, "1"), "1");
	expect_shared(FORK);
}

/* 1: those who asked share. */
static void sysctl_opt_in(void)
{
	needs_feature();
	check(!write_file(SYSCTL_MODE, "1"), "1");
	check(!set_raw(0), "off");
	expect_copied(FORK);
	expect_copied(0);
	expect_shared(CLONE_COW_PTE);
	check(!set_raw(1), "on");
	expect_shared(FORK);
	expect_shared(0);
	expect_shared(CLONE_COW_PTE);
	check(!set_raw(0), "off");
	expect_copied(FORK);
}

/* 2: all share, whatever their mode. */
static void sysctl_always(void)
{
	needs_feature();
	check(!write_file(SYSCTL_MODE, "2"), "2");
	check(!set_raw(0), "off");
	expect_shared(FORK);
	check(get_mode() == 0, "mode changed");
	check(!set_raw(1), "on");
	expect_shared(FORK);
	check(!write_file(SYSCTL_MODE, "1"), "1");
	check(!set_raw(0), "off");
	expect_copied(FORK);
}

/*
 * The flag is for one fork: the child's mode is off, and with the mode off the next
 * fork copies, even of tables that are shared at that moment.
 */
static void flag_is_for_one_fork(void)
{
	char *p = map_blocks(NR);
	struct events before;
	pid_t first, second;

	needs_feature();
	check(!set_raw(0), "off");
	fill_blocks(p, ORIGIN);
	events_get(&before);
	first = xclone3(CLONE_COW_PTE);
	check(first >= 0, "clone3");
	if (!first) {
		check(get_mode() == 0, "the flag has set the mode");
		await(0, 1);
		verify_blocks(p, ORIGIN);
		events_get(&before);
		second = xfork();
		if (!second) {
			verify_blocks(p, ORIGIN);
			fill_blocks(p, CHILD);
			done();
		}
		expect_events(&before, EV_SHARE, ==, 0);
		join(second);
		verify_blocks(p, ORIGIN);
		done();
	}
	expect_events(&before, EV_SHARE, >=, (long)NR);
	check(get_mode() == 0, "the flag has set the mode");
	events_get(&before);
	second = xfork();
	if (!second) {
		verify_blocks(p, ORIGIN);
		done();
	}
	expect_events(&before, EV_SHARE, ==, 0);
	fill(p, 0, FEW, PARENT);
	join(second);
	arrive(0);
	join(first);
	verify(p, 0, FEW, PARENT);
	verify(p, BLOCK_PAGES, FEW, ORIGIN);
	unmap_blocks(p, NR);
}

/* The flag makes no sense with CLONE_VM; unknown neighbours stay refused. */
static void bad_flags(void)
{
	static const uint64_t flags[] = {
		CLONE_COW_PTE | CLONE_VM,
		CLONE_COW_PTE | CLONE_VM | CLONE_VFORK,
		CLONE_COW_PTE | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
		/* these need CLONE_VM, which does not go with the flag */
		CLONE_COW_PTE | CLONE_SIGHAND,
		CLONE_COW_PTE | CLONE_SIGHAND | CLONE_THREAD,
		CLONE_COW_PTE | CLONE_THREAD,
		CLONE_COW_PTE | CLONE_COW_PTE << 1,
		CLONE_COW_PTE | CLONE_COW_PTE >> 1,
		CLONE_COW_PTE << 1,
		CLONE_COW_PTE >> 1,
		1ULL << 63 | CLONE_COW_PTE,
	};
	struct events before;
	unsigned int i;

	needs_feature();
	events_get(&before);
	for (i = 0; i < ARRAY_LEN(flags); i++) {
		pid_t pid = xclone3(flags[i]);

		if (!pid)
			_exit(1);
		check(pid < 0 && errno == EINVAL, "flags %#llx accepted",
		      (unsigned long long)flags[i]);
	}
	expect_events(&before, EV_SHARE, ==, 0);
}

/* CLONE_VFORK alone makes the parent wait, for a child with memory of its own. */
static void flag_with_vfork(void)
{
	needs_feature();
	check(!set_raw(0), "off");
	expect_shared(CLONE_COW_PTE | CLONE_VFORK);
	expect_copied(CLONE_VFORK);
	check(get_mode() == 0, "the flag has set the mode");
}

/* clone() looks at the lower half of its flags only, as for all newer ones. */
static void clone_ignores_the_flag(void)
{
	struct events before;
	pid_t pid;

	needs_feature();
	check(!set_raw(0), "off");
	events_get(&before);
	pid = syscall(SYS_clone, CLONE_COW_PTE | SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		done();
	check(pid > 0, "clone");
	join(pid);
	expect_events(&before, EV_SHARE, ==, 0);
}

/* So garbage in the upper half asks for nothing, and takes nothing away. */
static void clone_ignores_garbage(void)
{
	static const uint64_t garbage[] = {
		0xffffffff00000000ULL, 0xffff800000000000ULL, 0x7fff00000000ULL,
		CLONE_COW_PTE << 1, CLONE_COW_PTE >> 1, 1ULL << 63,
	};
	char *p = map_blocks(NR);
	unsigned int i, mode;

	needs_feature();
	fill_blocks(p, ORIGIN);
	for (i = 0; i < ARRAY_LEN(garbage); i++) {
		for (mode = 0; mode < 2; mode++) {
			struct events before;
			pid_t pid;

			check(!set_raw(mode), "mode %u", mode);
			events_get(&before);
			pid = syscall(SYS_clone, garbage[i] | SIGCHLD, 0, 0, 0, 0);
			if (!pid) {
				check(get_mode() == (int)mode, "mode not inherited");
				verify_blocks(p, ORIGIN);
				fill(p, 3, 1, CHILD);
				done();
			}
			check(pid > 0, "clone %#llx", (unsigned long long)garbage[i]);
			join(pid);
			if (mode)
				expect_events(&before, EV_SHARE, >=, (long)NR);
			else
				expect_events(&before, EV_SHARE, ==, 0);
			verify_blocks(p, ORIGIN);
		}
	}
	unmap_blocks(p, NR);
}

/* Switching off while tables are shared leaves them shared, and correct. */
static void off_while_shared(void)
{
	unsigned int round;

	for (round = 0; round < rounds(8); round++) {
		char *p = map_blocks(NR);
		struct events before;
		pid_t pid;

		steps_reset();
		set_mode(1);
		fill_blocks(p, ORIGIN);
		pid = fork_sharing(NR);
		if (!pid) {
			set_mode(0);
			await(0, 1);
			verify_blocks(p, ORIGIN);
			fill(p, 0, 200, CHILD);
			verify(p, BLOCK_PAGES, FEW, ORIGIN);
			done();
		}
		set_mode(0);
		events_get(&before);
		fill_blocks(p, PARENT);
		expect_events(&before, EV_BREAK, >=, (long)NR);
		arrive(0);
		join(pid);
		verify_blocks(p, PARENT);
		unmap_blocks(p, NR);
	}
	set_mode(1);
}

/* The same for the kill switch, pulled by somebody else. */
static void kill_switch_while_shared(void)
{
	char *p = map_blocks(NR);
	pid_t pid;

	needs_feature();
	fill_blocks(p, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		await(0, 1);
		verify_blocks(p, ORIGIN);
		fill(p, 0, BLOCK_PAGES, CHILD);
		/* a fork of a sharer is an ordinary one now */
		expect_copied(FORK);
		verify(p, BLOCK_PAGES, FEW, ORIGIN);
		done();
	}
	check(!write_file(SYSCTL_MODE, "0"), "0");
	arrive(0);
	join(pid);
	verify_blocks(p, ORIGIN);
	fill_blocks(p, PARENT);
	unmap_blocks(p, NR);
}

/*
 * Blocks with fewer entries than vm.cow_pte_min_entries are copied, and counted as
 * too small; others are shared.
 */
static void min_entries(void)
{
	enum { BLOCKS = 32 };
	char *p = map_small_pages(BLOCKS);
	struct events before;
	unsigned long i;
	pid_t pid;

	needs_feature();
	if (write_file(SYSCTL_MIN, "10"))
		skip_case("no %s", SYSCTL_MIN);
	for (i = 0; i < BLOCKS; i++)
		fill(p, i * BLOCK_PAGES, i % 2 ? 9 : 10, ORIGIN);
	events_get(&before);
	pid = xfork();
	if (!pid)
		done();
	join(pid);
	expect_events(&before, EV_FB_SMALL, >=, BLOCKS / 2);
	expect_events(&before, EV_SHARE, >=, BLOCKS / 2);
	expect_events(&before, EV_SHARE, <, BLOCKS);
	unmap_blocks(p, BLOCKS);
}

#define MIRROR	"/dev/hmm_dmirror0"

/*
 * A process that gets an MMU notifier shares no tables any more.  The mirror of the
 * kernel's HMM test stands for a device.
 */
static void notifiers(void)
{
	char *p = map_blocks(NR);
	struct events before;
	pid_t pid;
	int fd;

	needs_feature();
	if (access(MIRROR, R_OK | W_OK))
		skip_case("no " MIRROR);
	fill_blocks(p, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		await(0, 1);
		verify_blocks(p, ORIGIN);
		done();
	}
	events_get(&before);
	fd = open(MIRROR, O_RDWR | O_CLOEXEC);
	check(fd >= 0, MIRROR ": %s", strerror(errno));
	expect_events(&before, EV_BREAK, >=, (long)NR);
	arrive(0);
	join(pid);

	events_get(&before);
	pid = xfork();
	if (!pid) {
		verify_blocks(p, ORIGIN);
		fill_blocks(p, CHILD);
		done();
	}
	join(pid);
	expect_events(&before, EV_FB_NOTIFIER, >=, (long)NR);
	expect_events(&before, EV_SHARE, ==, 0);
	verify_blocks(p, ORIGIN);
	close(fd);
	unmap_blocks(p, NR);
}

/*
 * The notifier is of one process.  Its child has none, and what the child's fork finds
 * are ordinary tables again.
 */
static void child_of_a_notified(void)
{
	char *p = map_blocks(NR);
	struct events before;
	pid_t pid;
	int fd;

	needs_feature();
	fd = open(MIRROR, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		skip_case("no " MIRROR);
	fill_blocks(p, ORIGIN);
	pid = xfork();
	if (!pid) {
		events_get(&before);
		pid = xfork();
		if (!pid) {
			verify_blocks(p, ORIGIN);
			fill_blocks(p, CHILD);
			done();
		}
		expect_events(&before, EV_SHARE, >=, (long)NR);
		expect_events(&before, EV_FB_NOTIFIER, ==, 0);
		join(pid);
		verify_blocks(p, ORIGIN);
		fill_blocks(p, PARENT);
		done();
	}
	join(pid);
	verify_blocks(p, ORIGIN);
	close(fd);
	unmap_blocks(p, NR);
}

/* What became of one attempt to register a notifier, and in slot 1 how many tables it broke */
enum { DONE_WITHOUT_FAILURE, DONE_DESPITE_FAILURE, REFUSED };

/*
 * A sharer of all tables whose @nth allocation fails while it gets a notifier.  If it is
 * refused, it has no notifier: but for the tables that were copied before that, all are
 * shared as before, and its forks share.  Then it tries again.
 */
static void notified_sharer(char *p, unsigned int nth, int nth_fd)
{
	long shared, breaks, reuses;
	struct events before;
	char text[16];
	int fd, err;
	pid_t pid;
	bool hit;

	/* on its way to sleep the parent may take back a table of its own */
	await_asleep(getppid());
	breaks = own_breaks();
	shared = status_kb(0, "CowPTE");
	check(shared >= (long)NR * 4, "CowPTE %ld kB", shared);
	events_get(&before);
	snprintf(text, sizeof(text), "%u", nth);
	check(pwrite(nth_fd, text, strlen(text), 0) > 0, "fail-nth");
	fd = open(MIRROR, O_RDWR | O_CLOEXEC);
	err = errno;
	memset(text, 0, sizeof(text));
	check(pread(nth_fd, text, sizeof(text) - 1, 0) > 0, "fail-nth");
	check(pwrite(nth_fd, "0", 1, 0) == 1, "fail-nth");
	hit = !atoi(text);
	slots[0] = fd < 0 ? REFUSED : hit ? DONE_DESPITE_FAILURE : DONE_WITHOUT_FAILURE;
	slots[1] = 0;
	verify_blocks(p, ORIGIN);
	if (fd < 0) {
		check(hit && err == ENOMEM, MIRROR ": %s", strerror(err));
		breaks = own_breaks() - breaks;
		slots[1] = breaks;
		/* to take a table back needs no memory */
		reuses = event_delta(&before, EV_REUSE);
		check(status_kb(0, "CowPTE") == shared - 4 * (breaks + reuses),
		      "CowPTE %ld kB after %ld breaks and %ld reuses, was %ld kB",
		      status_kb(0, "CowPTE"), breaks, reuses, shared);
		pid = fork_sharing(NR);
		if (!pid) {
			verify_blocks(p, ORIGIN);
			done();
		}
		join(pid);
		fd = open(MIRROR, O_RDWR | O_CLOEXEC);
		check(fd >= 0, "second attempt: %s", strerror(errno));
	}
	check(status_kb(0, "CowPTE") == 0, "CowPTE %ld kB with a notifier",
	      status_kb(0, "CowPTE"));
	events_get(&before);
	pid = xfork();
	if (!pid) {
		verify_blocks(p, ORIGIN);
		fill_blocks(p, CHILD);
		done();
	}
	join(pid);
	expect_events(&before, EV_FB_NOTIFIER, >=, (long)NR);
	expect_events(&before, EV_SHARE, ==, 0);
	verify_blocks(p, ORIGIN);
	fill_blocks(p, CHILD);
	verify_blocks(p, CHILD);
	done();
}

/*
 * There is no memory to copy a table for who registers a notifier: each allocation fails
 * once, in a new process, until there is none left that could.
 */
static void notifier_without_memory(void)
{
	unsigned int nth, refused = 0, halfway = 0;
	char *p = map_blocks(NR);
	int nth_fd;
	pid_t pid;

	needs_feature();
	if (access(MIRROR, R_OK | W_OK))
		skip_case("no " MIRROR);
	if (write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N") ||
	    write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N"))
		skip_case("no fault injection");
	write_file("/sys/kernel/debug/failslab/verbose", "0");
	write_file("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	write_file("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	if (access("/proc/thread-self/fail-nth", W_OK))
		skip_case("no fail-nth");
	fill_blocks(p, ORIGIN);
	for (nth = 1; ; nth++) {
		check(nth < 200, "no end of failures");
		pid = fork_sharing(NR);
		if (!pid) {
			nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
			check(nth_fd >= 0, "fail-nth");
			notified_sharer(p, nth, nth_fd);
		}
		join(pid);
		verify_blocks(p, ORIGIN);
		if (slots[0] == DONE_WITHOUT_FAILURE)
			break;
		refused += slots[0] == REFUSED;
		halfway += slots[1] > 0;
	}
	note("%u failures, %u refused, %u of them after a table was copied", nth - 1,
	     refused, halfway);
	check(halfway, "no attempt failed at a table but the first");
	fill_blocks(p, PARENT);
	verify_blocks(p, PARENT);
	unmap_blocks(p, NR);
}

/* Every event is in /proc/vmstat. */
static void counters_exist(void)
{
	struct events e;
	unsigned int i;

	needs_feature();
	check(events_get(&e), "/proc/vmstat");
	for (i = 0; i < NR_EVENTS; i++)
		check(e.v[i] >= 0, "no %s in /proc/vmstat", event_names[i]);
}

static const struct cow_case cases[] = {
	{ "prctl sets and gets", set_and_get },
	{ "prctl refuses what it does not know", bad_prctl },
	{ "the mode is inherited by fork", inherited_by_fork },
	{ "the mode is kept over exec", kept_over_exec },
	{ "the mode is kept over exec of a set-user-ID program", kept_over_setuid_exec },
	{ "the mode is one for all threads", one_mode_for_all_threads },
	{ "the mode is that of a fork by a thread", fork_by_a_thread },
	{ "the mode is one for vfork and its parent", vfork_child },
	{ "the prctl needs no privilege, the sysctl does", needs_no_privilege },
	{ "vm.cow_pte refuses what it does not know", bad_sysctl },
	{ "vm.cow_pte_min_entries refuses what it does not know", bad_min_entries },
	{ "vm.cow_pte=0 never shares", sysctl_never },
	{ "vm.cow_pte=1 shares for those who ask", sysctl_opt_in },
	{ "vm.cow_pte=2 shares for all", sysctl_always },
	{ "the clone3 flag is for one fork", flag_is_for_one_fork },
	{ "the clone3 flag refuses what makes no sense", bad_flags },
	{ "the clone3 flag goes with CLONE_VFORK", flag_with_vfork },
	{ "clone ignores the flag", clone_ignores_the_flag },
	{ "clone ignores garbage in the upper half", clone_ignores_garbage },
	{ "switched off while tables are shared", off_while_shared },
	{ "kill switch while tables are shared", kill_switch_while_shared },
	{ "vm.cow_pte_min_entries", min_entries },
	{ "vm.cow_pte_min_entries of a full table", only_full_tables },
	{ "mmu notifiers", notifiers },
	{ "mmu notifiers of the parent", child_of_a_notified },
	{ "mmu notifiers without memory", notifier_without_memory },
	{ "all counters exist", counters_exist },
};

int main(int argc, char **argv)
{
	/* what kept_over_exec() runs; ten more for a set-user-ID program */
	if (argc == 2 && !strcmp(argv[1], "--mode-as-status"))
		return 40 + (geteuid() != getuid()) * 10 + get_mode();
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
