/* SPDX-License-Identifier: GPL-2.0 */
/* What the benchmarks have in common: clock, counters, one timed fork. */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cow_pte_util.h"

static const char *bench_name = "bench";

static inline uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static inline __attribute__((noreturn)) void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", bench_name, what, strerror(errno));
	exit(1);
}

/* The number after @key in a file of /proc, or -1. */
static inline long field(const char *path, const char *key)
{
	char line[256];
	long value = -1;
	size_t len = strlen(key);
	FILE *f = fopen(path, "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, len) &&
		    (line[len] == ':' || line[len] == ' ')) {
			value = strtol(line + len + 1, NULL, 10);
			break;
		}
	}
	fclose(f);
	return value;
}

static inline void refresh(void)
{
	FILE *f = fopen("/proc/sys/vm/stat_refresh", "w");

	if (f) {
		fputs("1", f);
		fclose(f);
	}
}

static inline unsigned long number(const char *s, unsigned long max)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(s, &end, 10);
	if (errno || end == s || *end || *s == '-' || v > max) {
		fprintf(stderr, "%s: '%s' is no number up to %lu\n", bench_name,
			s, max);
		exit(2);
	}
	return v;
}

/* Zeroed memory that begins with a block; only address space until it is touched. */
static inline char *bench_map(size_t len, int advice)
{
	char *p = mmap(NULL, len + BLOCK, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	madvise(p, len + BLOCK, advice);
	return (char *)(((uintptr_t)p + BLOCK - 1) & ~(BLOCK - 1));
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static inline double median_us(uint64_t *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), compare);
	return (n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2) / 1000.0;
}

/*
 * The mean of the middle half.  A fork takes one of a few times, by what has to be
 * refilled on its way: their median jumps from one to the other.
 */
static inline double midmean_us(uint64_t *v, unsigned int n)
{
	unsigned int i, skip = n / 4;
	double sum = 0;

	qsort(v, n, sizeof(*v), compare);
	for (i = skip; i < n - skip; i++)
		sum += v[i];
	return sum / (n - 2 * skip) / 1000.0;
}

/*
 * The new child must not run, and exit, before fork has returned to the parent, or
 * its exit would count as a part of the fork.
 */
static inline void stay_on_cpu(bool on)
{
	struct sched_param param = { .sched_priority = on };

	if (sched_setscheduler(0, on ? SCHED_FIFO | SCHED_RESET_ON_FORK :
			       SCHED_OTHER, &param) && on)
		fprintf(stderr, "%s: not SCHED_FIFO, the child may run first: %s\n",
			bench_name, strerror(errno));
}

/* A fork whose child exits at once: the time of the fork, and until it is gone. */
static inline uint64_t fork_time(uint64_t *wait_time)
{
	uint64_t start, end;
	int status;
	pid_t pid;

	stay_on_cpu(true);
	start = now();
	pid = fork();
	if (!pid)
		_exit(0);
	end = now();
	stay_on_cpu(false);
	if (pid < 0)
		die("fork");
	if (waitpid(pid, &status, 0) != pid || status)
		die("child");
	if (wait_time)
		*wait_time = now() - end;
	return end - start;
}

#endif
