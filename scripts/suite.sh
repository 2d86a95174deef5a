#!/bin/bash
# suite.sh - everything from source to verdict: what "make test" runs
#
# Usage: scripts/suite.sh
#
# Installs the packages, applies the series, builds the debug flavour, has the
# harness prove itself, runs all selftests.  The last line is "N passed, M failed"
# whatever happens.
#
# Environment: BUILD, KERNEL_SRC, ACCEL, JOBS, MEM, CPUS.
# Exit status: 0, or the first bad one: 2, 125, or that of judge.sh.

. "$(dirname "$0")/lib.sh"
want_help "$@"

passed=0 failed=0 status=0
summary() {
	local s=$?
	[ $status -ne 0 ] || status=$s
	[ $status -eq 0 ] || [ $failed -ne 0 ] || failed=1
	note "took $(elapsed)"
	say "$passed passed, $failed failed" | tee "$BUILD/summary" 2>/dev/null || true
	exit $status
}
trap summary EXIT
trap 'exit 130' INT TERM

lock_build
rm -f "$BUILD/summary"
note "about 45 minutes the first time, under 10 when ccache knows the kernel"
"$TOP/scripts/deps.sh"
"$TOP/scripts/apply.sh"
"$TOP/scripts/build.sh" debug
part() {
	local s=0 line
	"$@" 2>&1 | tee "$BUILD/part.log" || s=$?
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$BUILD/part.log" | tail -n 1 || true)
	if [ -n "$line" ]; then
		passed=$((passed + ${line%% *}))
		line=${line#*, }
		failed=$((failed + ${line%% *}))
	fi
	[ $s -eq 0 ] || [ $status -ne 0 ] || status=$s
	[ $s -eq 0 ] || [ $failed -ne 0 ] || failed=1
}
part "$TOP/scripts/selftest-harness.sh"
part "$TOP/scripts/test.sh"
