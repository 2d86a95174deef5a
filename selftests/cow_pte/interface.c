// SPDX-License-Identifier: GPL-2.0
/* prctl(), clone3() flag and sysctls of shared PTE tables. */
#include "util.h"
#include <linux/sched.h>

static long clone3_fork(uint64_t flags)
{
	struct clone_args args = { .flags = flags, .exit_signal = SIGCHLD };

	fflush(stdout);
	return syscall(SYS_clone3, &args, sizeof(args));
}

static int get_mode(void)
{
	return prctl(PR_GET_COW_PTE, 0, 0, 0, 0);
}

/* Tables shared by one fork of a process with one full block. */
static long fork_shares(uint64_t flags)
{
	long before = ev("share");
	long pid = clone3_fork(flags);

	EXPECT(pid >= 0, "clone3: %s", strerror(errno));
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	return ev("share") - before;
}

/* Off at first, on, off again; the getter agrees each time. */
static void t_prctl(void)
{
	EXPECT(get_mode() == 0, "mode %d", get_mode());
	EXPECT(prctl(PR_SET_COW_PTE, 1, 0, 0, 0) == 0, "set 1");
	EXPECT(get_mode() == 1, "mode %d", get_mode());
	EXPECT(prctl(PR_SET_COW_PTE, 0, 0, 0, 0) == 0, "set 0");
	EXPECT(get_mode() == 0, "mode %d", get_mode());
}

/* What is not understood is refused and changes nothing. */
static void t_prctl_invalid(void)
{
	static const unsigned long bad[][4] = {
		{ 2 }, { -1UL }, { 1UL << 32 }, { 1, 1 }, { 0, 1 }, { 1, 0, 1 },
		{ 1, 0, 0, 1 }, { 0, 0, 0, 1 },
	};

	for (int mode = 0; mode < 2; mode++) {
		SYS(prctl(PR_SET_COW_PTE, mode, 0, 0, 0));
		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			errno = 0;
			EXPECT(prctl(PR_SET_COW_PTE, bad[i][0], bad[i][1],
				     bad[i][2], bad[i][3]) == -1 && errno == EINVAL,
			       "row %zu: errno %d", i, errno);
			EXPECT(get_mode() == mode, "row %zu changed the mode", i);
		}
		EXPECT(prctl(PR_GET_COW_PTE, 1, 0, 0, 0) == -1 && errno == EINVAL, "get");
	}
}

/* Inherited by fork, and by the child of the child. */
static void t_inherit(void)
{
	int status;

	cow_on();
	if (!fork()) {
		if (!fork())
			_exit(get_mode() == 1 ? 0 : 1);
		wait(&status);
		_exit(get_mode() == 1 && !status ? 0 : 1);
	}
	wait(&status);
	EXPECT(!status, "status %x", status);
	cow_off();
	if (!fork())
		_exit(get_mode());
	wait(&status);
	EXPECT(!status, "the switched off mode is inherited as on");
}

/* Kept over exec: main() below knows the argument. */
static void t_exec(void)
{
	for (int mode = 0; mode < 2; mode++) {
		int status;

		if (!fork()) {
			SYS(prctl(PR_SET_COW_PTE, mode, 0, 0, 0));
			execl("/proc/self/exe", "interface", "--mode", NULL);
			_exit(9);
		}
		wait(&status);
		EXPECT(WEXITSTATUS(status) == mode, "mode %d after exec: %x", mode, status);
	}
}

/* The flag shares for one fork and leaves the mode of both alone. */
static void t_clone_flag(void)
{
	char *p = blocks(1);
	long pid;
	int status;

	fill(p, BLOCK_PAGES, 1);
	EXPECT(fork_shares(0) == 0, "shared without being asked");
	EXPECT(fork_shares(CLONE_COW_PTE) >= 1, "flag ignored");
	EXPECT(get_mode() == 0, "the flag changed the parent's mode");
	pid = clone3_fork(CLONE_COW_PTE);
	if (!pid)
		_exit(get_mode());
	waitpid(pid, &status, 0);
	EXPECT(!status, "the flag changed the child's mode");
	EXPECT(fork_shares(0) == 0, "the next fork shared too");
}

static void t_clone_flag_invalid(void)
{
	EXPECT(clone3_fork(CLONE_COW_PTE | CLONE_VM) == -1 && errno == EINVAL,
	       "with CLONE_VM: %s", strerror(errno));
	EXPECT(clone3_fork(CLONE_COW_PTE << 1) == -1 && errno == EINVAL,
	       "unknown flag: %s", strerror(errno));
}

/* 0: nobody shares; 1: who asked; 2: all.  Prctl and flag are not refused by 0. */
static void t_sysctl(void)
{
	char *p = blocks(1);

	fill(p, BLOCK_PAGES, 2);
	SYS(sysctl_set("cow_pte", 0));
	cow_on();
	EXPECT(get_mode() == 1, "the switch is not kept");
	EXPECT(fork_shares(0) == 0, "0: shared by prctl");
	EXPECT(fork_shares(CLONE_COW_PTE) == 0, "0: shared by flag");
	sysctl_set("cow_pte", 1);
	EXPECT(fork_shares(0) >= 1, "1: not shared");
	cow_off();
	EXPECT(fork_shares(0) == 0, "1: shared without being asked");
	sysctl_set("cow_pte", 2);
	EXPECT(fork_shares(0) >= 1, "2: not shared");
	sysctl_set("cow_pte", 1);
	CHECK(p, BLOCK_PAGES, 2);
}

static void t_sysctl_invalid(void)
{
	static const long bad[] = { -1, 3, 1000 };

	for (size_t i = 0; i < 3; i++) {
		EXPECT(sysctl_set("cow_pte", bad[i]) == -EINVAL, "%ld taken", bad[i]);
		EXPECT(sysctl_get("cow_pte") == 1, "%ld changed it", bad[i]);
	}
	EXPECT(sysctl_set("cow_pte_min_entries", 0) == -EINVAL, "0 taken");
	EXPECT(sysctl_set("cow_pte_min_entries", 513) == -EINVAL, "513 taken");
	EXPECT(sysctl_get("cow_pte_min_entries") == 1, "changed");
}

/* A block with fewer entries than the threshold is copied, and counted. */
static void t_threshold(void)
{
	char *p = blocks(1);
	long small;

	fill(p, 31, 3);
	cow_on();
	sysctl_set("cow_pte_min_entries", 512);
	small = ev("fallback_small");
	EXPECT(fork_shares(0) == 0, "shared below the threshold");
	EXPECT(ev("fallback_small") > small, "not counted");
	sysctl_set("cow_pte_min_entries", 31);
	EXPECT(fork_shares(0) >= 1, "not shared at the threshold");
	CHECK(p, 31, 3);
}

/* The stack is not shared. */
static void t_stack(void)
{
	volatile char deep[64 * PAGE];
	long vma = ev("fallback_vma");

	for (size_t i = 0; i < sizeof(deep); i += PAGE)
		deep[i] = 1;
	cow_on();
	fork_shares(0);
	EXPECT(ev("fallback_vma") > vma, "no block was refused");
}

static const struct test tests[] = {
	{ "prctl sets and gets the mode", t_prctl },
	{ "prctl refuses what it does not know", t_prctl_invalid },
	{ "the mode is inherited by fork", t_inherit },
	{ "the mode is kept over exec", t_exec },
	{ "CLONE_COW_PTE is for one fork", t_clone_flag },
	{ "CLONE_COW_PTE with CLONE_VM is refused", t_clone_flag_invalid },
	{ "vm.cow_pte: never, opt-in, always", t_sysctl },
	{ "sysctls refuse what is out of range", t_sysctl_invalid },
	{ "blocks below the threshold are copied", t_threshold },
	{ "the stack is copied", t_stack },
};

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--mode"))
		return get_mode();
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]));
}
