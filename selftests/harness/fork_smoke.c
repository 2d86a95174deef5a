// SPDX-License-Identifier: GPL-2.0
/*
 * Plain fork keeps the values of both sides apart.  Needs nothing of the series:
 * the harness can be tried with it on any kernel.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (8UL << 20)

static int all(const char *mem, char value)
{
	for (size_t i = 0; i < SIZE; i += 4096)
		if (mem[i] != value)
			return 0;
	return 1;
}

int main(void)
{
	int status = -1, seen;
	pid_t pid;
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return 1;
	memset(mem, 1, SIZE);
	printf("TAP version 13\n1..2\n");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		seen = all(mem, 1);
		memset(mem, 2, SIZE);
		_exit(seen && all(mem, 2) ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	seen = all(mem, 1);
	printf("%sok 1 the child sees the parent's values and keeps its own\n",
	       status ? "not " : "");
	printf("%sok 2 the parent does not see the child's writes\n",
	       seen ? "" : "not ");
	return !seen || status;
}
