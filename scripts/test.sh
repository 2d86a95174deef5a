#!/bin/bash
# test.sh - run test programs in a VM and judge the run
#
# Usage: scripts/test.sh [options] [TEST...]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#   -a ARGS     append to the kernel command line
#   -t SECONDS  limit for each test (default 1500)
#   -T SECONDS  limit for all of them (default 4000)
#
# A TEST is the name of a program of selftests/cow_pte, or the path of any program
# that speaks TAP and needs no shared library; by default all of selftests/cow_pte.
#
# Prints which test has begun, then the seeds and the amount of work, then the verdict.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh, or of what went wrong before.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
options=(-t 1500 -T 4000)
# Two nodes, so that pages can migrate.
append=numa=fake=2
while getopts k:a:t:T: opt; do
	case $opt in
	a) append+=" $OPTARG" ;;
	k | t | T) options+=("-$opt" "$OPTARG") ;;
	*) die 2 "see --help" ;;
	esac
done
shift $((OPTIND - 1))

programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
[ $# -gt 0 ] || mapfile -t all < <(make -s --no-print-directory -C "$TOP/selftests/cow_pte" list)
tests=("$programs/fork_smoke")
for t in ${all[@]+"${all[@]}"} "$@"; do
	[ "${t#*/}" != "$t" ] || t=$programs/$t
	[ -x "$t" ] || die 2 "there is no test ${t##*/}: 'make -s -C selftests/cow_pte list' names them"
	tests+=("$t")
done

mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-test-XXXX")
vm -l "$logs" "${options[@]}" -a "$append" -f "$programs/cow-pte" -f "$programs/bench_fork" \
	test "${tests[@]}" || true
amount "$logs"
"$TOP/scripts/judge.sh" "$logs"
