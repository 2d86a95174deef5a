#!/bin/bash
# load.sh - stress-ng and trinity in the VM, with sharing for every process
#
# Usage: scripts/load.sh [-k IMAGE] [-a ARGS] [-c RESULTS] [-l LINES] [-s SECONDS] [-S SEED]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage); one
#               without the series ('scripts/build.sh debug base') runs it without sharing
#   -a ARGS     append to the kernel command line
#   -c RESULTS  compare with what an earlier run had, see below
#   -l LINES    only the lines of load.list that have one of these, separated by |
#   -s SECONDS  for each line of selftests/userland/load.list (default 20)
#   -S SEED     that an earlier run has printed
#
# Writes a line for each of load.list to the file "results" in the directory of the logs:
# the line, its exit status, and the stressors that were skipped.  With -c it prints the
# differences to the file of an earlier run, of another kernel perhaps, and fails if
# there is one.
# With kmemleak, if the .config beside the image has it.
# The guest reads this machine's root directory over 9p and writes to memory.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh; 1 if only the results differ.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug)
seconds=20 seed=$((RANDOM * 32768 + RANDOM)) append='' earlier='' only=.
while getopts k:a:c:l:s:S: opt; do
	case $opt in
	k) image=$OPTARG ;;
	a) append+=" $OPTARG" ;;
	c) earlier=$OPTARG ;;
	l) only=$OPTARG ;;
	S) seed=$OPTARG ;;
	s) seconds=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
case $seconds in '' | *[!0-9]*) die 2 "'$seconds' is no number of seconds: -s takes one, such as 60" ;; esac
case $seed in '' | *[!0-9]*) die 2 "'$seed' is no seed: -S takes the number that an earlier run has printed" ;; esac
[ -z "$earlier" ] || [ -s "$earlier" ] || die 2 "$earlier is not there, or empty: -c takes the file results of an earlier run"
"$TOP/scripts/deps.sh" stress-ng trinity
mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-load-XXXX")
# What a line may skip stands before it.
awk -v only="$only" '/^(#|$)/ { next } /^may-skip / { may = $0 "\n"; next } $0 ~ only { printf "%s%s\n", may, $0 } { may = "" }' \
	"$TOP/selftests/userland/load.list" >"$logs/load.list"
lines=$(grep -cv '^may-skip ' "$logs/load.list") || die 2 "no line has '$only', see $TOP/selftests/userland/load.list"
limit=$((lines * (seconds + 60) * 2 + 3600))
note "$lines lines, about $((lines * (seconds + 25) / 60 + 1)) minutes, seed $seed"
vm -p '^(# exit|not ok)' -l "$logs" -k "$image" -t "$limit" -T $((limit + 300)) -v /:host \
	-a "numa=fake=2 LOAD_SECONDS=$seconds COW_PTE_TEST_SEED=$seed $append $(kmemleak "$image")" \
	-f "$logs/load.list" test "$TOP/selftests/userland/load" || true
tr -d '\r' <"$logs/verdict.log" | sed -n 's/^result|//p' >"$logs/results"
tr -d '\r' <"$logs/verdict.log" | grep -E '^# (without sharing|skipped):' || true
say "load: seed $seed, $seconds s a line, results in $logs/results"
same=0
if [ -n "$earlier" ] && ! diff <(grep -E -- "$only" "$earlier") "$logs/results"; then
	note "not the same as in $earlier"
	same=1
fi
"$TOP/scripts/judge.sh" "$logs"
exit $same
