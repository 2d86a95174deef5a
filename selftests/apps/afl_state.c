// SPDX-License-Identifier: GPL-2.0
/*
 * A target for a fork-server fuzzer: SQLite with a large database in memory, and one
 * statement from the fuzzer for each child.
 *
 * Usage: afl_state ROWS <STATEMENT
 */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Linked with afl-compiler-rt.o of AFL++, and compiled by plain gcc with
 * -fsanitize-coverage=trace-pc.  afl-fuzz looks for the string.
 */
extern uint8_t *__afl_area_ptr;
void __afl_manual_init(void);
void __sanitizer_cov_trace_pc(void);

const char *volatile afl_deferred = "##SIG_AFL_DEFER_FORKSRV##";

__attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void)
{
	__afl_area_ptr[(uintptr_t)__builtin_return_address(0) % 1021]++;
}

int main(int argc, char **argv)
{
	char sql[4096];
	sqlite3 *db;
	ssize_t n;

	if (argc != 2 || atol(argv[1]) <= 0) {
		fprintf(stderr, "Usage: afl_state ROWS <STATEMENT\n");
		return 2;
	}
	snprintf(sql, sizeof(sql),
		 "create table t (id integer primary key, a text, b blob);"
		 "with recursive r(i) as (select 1 union all select i + 1 from r where i < %ld) "
		 "insert into t select i, 'row ' || i, zeroblob(900) from r;", atol(argv[1]));
	if (sqlite3_open(":memory:", &db) || sqlite3_exec(db, sql, NULL, NULL, NULL)) {
		fprintf(stderr, "afl_state: %s\n", sqlite3_errmsg(db));
		return 1;
	}
	/* Here the fork server starts: each child has the database already. */
	__afl_manual_init();
	n = read(0, sql, sizeof(sql) - 1);
	sql[n > 0 ? n : 0] = 0;
	sqlite3_exec(db, sql, NULL, NULL, NULL);
	return 0;
}
