// SPDX-License-Identifier: GPL-2.0
/*
 * cow_pte_run - run a program with COW page tables on or off
 *
 * The mode is inherited by the program's children and kept over exec, so the
 * program need not know of it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cow_pte_util.h"

static const char help[] =
"Usage: cow_pte_run on|off command [argument...]\n"
"\n"
"Runs the command with COW page tables on or off for its forks.\n"
"\n"
"  -h, --help   this text\n"
"\n"
"Exit status: that of the command; 125 the kernel lacks the feature or the usage\n"
"was wrong, 126 the command cannot be run, 127 it was not found.\n";

int main(int argc, char **argv)
{
	int mode;

	if (argc > 1 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
		fputs(help, stdout);
		return 0;
	}
	if (argc < 3 || (strcmp(argv[1], "on") && strcmp(argv[1], "off"))) {
		fputs(help, stderr);
		return 125;
	}
	mode = !strcmp(argv[1], "on");
	if (prctl(PR_SET_COW_PTE, mode, 0, 0, 0)) {
		if (errno == EINVAL)
			fprintf(stderr, "cow_pte_run: this kernel has no COW page tables (CONFIG_COW_PTE)\n");
		else
			fprintf(stderr, "cow_pte_run: prctl: %s\n",
				strerror(errno));
		return 125;
	}
	execvp(argv[2], argv + 2);
	fprintf(stderr, "cow_pte_run: %s: %s\n", argv[2], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
