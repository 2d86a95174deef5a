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
	[ "$status" -ne 0 ] || status=$s
	[ "$status" -eq 0 ] || [ $failed -ne 0 ] || failed=1
	note "took $(elapsed)"
	say "$passed passed, $failed failed" | tee "$BUILD/summary" 2>/dev/null || true
	exit "$status"
}
trap summary EXIT
trap 'exit 130' INT TERM

lock_build
rm -f "$BUILD/summary"
note "about 50 minutes the first time, 22 when the kernel is built"
"$TOP/scripts/deps.sh"
"$TOP/scripts/apply.sh"
"$TOP/scripts/build.sh" debug
# Add what the last line of a log says to the sums; $2 is the exit status.
count() {
	local line
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$1" | tail -n 1 || true)
	if [ -n "$line" ]; then
		passed=$((passed + ${line%% *}))
		line=${line#*, }
		failed=$((failed + ${line%% *}))
	fi
	[ "$2" -eq 0 ] || [ "$status" -ne 0 ] || status=$2
	[ "$2" -eq 0 ] || [ $failed -ne 0 ] || failed=1
}

note "the harness proves itself, after $(elapsed)"
s=0
"$TOP/scripts/selftest-harness.sh" 2>&1 | tee "$BUILD/part.log" || s=$?
count "$BUILD/part.log" $s

# Two VMs side by side, as a test seldom keeps two CPUs busy.
"$TOP/scripts/programs.sh" >/dev/null
mapfile -t tests < <(make -s --no-print-directory -C "$TOP/selftests/cow_pte" list)
note "${#tests[@]} test programs, after $(elapsed)"
half=() other=()
for i in "${!tests[@]}"; do
	if [ $((i % 2)) -eq 0 ]; then half+=("${tests[i]}"); else other+=("${tests[i]}"); fi
done
"$TOP/scripts/test.sh" "${other[@]}" >"$BUILD/other.log" 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null; exit 130' INT TERM
{ tail -q --pid=$pid -n +1 -f "$BUILD/other.log" | sed -u -n 's/^\[vm\].* of /&/p'; } 9>&- &
s=0
"$TOP/scripts/test.sh" "${half[@]}" 2>&1 | tee "$BUILD/part.log" || s=$?
count "$BUILD/part.log" $s
s=0
wait $pid || s=$?
grep -vE '^(\[vm\]|qemu-system)' "$BUILD/other.log" || true
count "$BUILD/other.log" $s
