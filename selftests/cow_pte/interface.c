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
	char *p = map_blocks(BLOCKS);
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
	if (access("/dev/hmm_dmirror0", R_OK | W_OK))
		skip_case("no /dev/hmm_dmirror0");
	fill_blocks(p, ORIGIN);
	pid = fork_sharing(NR);
	if (!pid) {
		await(0, 1);
		verify_blocks(p, ORIGIN);
		done();
	}
	events_get(&before);
	fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	check(fd >= 0, "hmm_dmirror0: %s", strerror(errno));
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
	{ "the mode is one for all threads", one_mode_for_all_threads },
	{ "the prctl needs no privilege, the sysctl does", needs_no_privilege },
	{ "vm.cow_pte refuses what it does not know", bad_sysctl },
	{ "vm.cow_pte=0 never shares", sysctl_never },
	{ "vm.cow_pte=1 shares for those who ask", sysctl_opt_in },
	{ "vm.cow_pte=2 shares for all", sysctl_always },
	{ "the clone3 flag is for one fork", flag_is_for_one_fork },
	{ "the clone3 flag refuses what makes no sense", bad_flags },
	{ "clone ignores the flag", clone_ignores_the_flag },
	{ "switched off while tables are shared", off_while_shared },
	{ "kill switch while tables are shared", kill_switch_while_shared },
	{ "vm.cow_pte_min_entries", min_entries },
	{ "mmu notifiers", notifiers },
	{ "all counters exist", counters_exist },
};

int main(int argc, char **argv)
{
	/* what kept_over_exec() runs */
	if (argc == 2 && !strcmp(argv[1], "--mode-as-status"))
		return 40 + get_mode();
	return cow_main(argc, argv, cases, ARRAY_LEN(cases));
}
