/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The few functions of ../kselftest.h that the tests use, for building them
 * outside a kernel tree.
 */
#ifndef COW_PTE_TAP_H
#define COW_PTE_TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define KSFT_PASS	0
#define KSFT_FAIL	1
#define KSFT_SKIP	4

static unsigned int tap_plan, tap_pass, tap_fail, tap_skip;

static inline void ksft_print_header(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
}

static inline void ksft_set_plan(unsigned int plan)
{
	tap_plan = plan;
	printf("1..%u\n", plan);
}

static inline void tap_result(const char *result, const char *directive,
			      const char *fmt, va_list ap)
{
	printf("%s %u %s", result, tap_pass + tap_fail + tap_skip, directive);
	vprintf(fmt, ap);
}

static inline __attribute__((format(printf, 1, 2)))
void ksft_test_result_pass(const char *fmt, ...)
{
	va_list ap;

	tap_pass++;
	va_start(ap, fmt);
	tap_result("ok", "", fmt, ap);
	va_end(ap);
}

static inline __attribute__((format(printf, 1, 2)))
void ksft_test_result_fail(const char *fmt, ...)
{
	va_list ap;

	tap_fail++;
	va_start(ap, fmt);
	tap_result("not ok", "", fmt, ap);
	va_end(ap);
}

static inline __attribute__((format(printf, 1, 2)))
void ksft_test_result_skip(const char *fmt, ...)
{
	va_list ap;

	tap_skip++;
	va_start(ap, fmt);
	tap_result("ok", "# SKIP ", fmt, ap);
	va_end(ap);
}

static inline __attribute__((noreturn, format(printf, 1, 2)))
void ksft_exit_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("1..0 # SKIP ");
	vprintf(fmt, ap);
	va_end(ap);
	exit(KSFT_SKIP);
}

static inline __attribute__((noreturn)) void ksft_finished(void)
{
	printf("# Totals: pass:%u fail:%u skip:%u\n", tap_pass, tap_fail,
	       tap_skip);
	exit(tap_plan == tap_pass + tap_skip ? KSFT_PASS : KSFT_FAIL);
}

#endif /* COW_PTE_TAP_H */
