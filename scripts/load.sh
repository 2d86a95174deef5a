#!/bin/bash
# load.sh - stress-ng and trinity in the VM, with sharing for every process
#
# Usage: scripts/load.sh [-k IMAGE] [-a ARGS] [-s SECONDS] [-S SEED]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#   -a ARGS     append to the kernel command line
#   -s SECONDS  for each line of selftests/userland/load.list (default 20)
#   -S SEED     that an earlier run has printed
#
# With kmemleak, if the .config beside the image has it.
# The guest reads this machine's root directory over 9p and writes to memory.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug)
seconds=20 seed=$((RANDOM * 32768 + RANDOM)) append=
while getopts k:a:s:S: opt; do
	case $opt in
	k) image=$OPTARG ;;
	a) append+=" $OPTARG" ;;
	S) seed=$OPTARG ;;
	s) seconds=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
case $seconds in '' | *[!0-9]*) die 2 "'$seconds' is no number of seconds: -s takes one, such as 60" ;; esac
case $seed in '' | *[!0-9]*) die 2 "'$seed' is no seed: -S takes the number that an earlier run has printed" ;; esac
"$TOP/scripts/deps.sh" stress-ng trinity
mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-load-XXXX")
lines=$(grep -cvE '^(#|$)' "$TOP/selftests/userland/load.list")
limit=$((lines * (seconds + 60) * 2 + 3600))
note "$lines lines, about $((lines * (seconds + 25) / 60 + 1)) minutes, seed $seed"
vm -p '^(# exit|not ok)' -l "$logs" -k "$image" -t "$limit" -T $((limit + 300)) -v /:host \
	-a "numa=fake=2 LOAD_SECONDS=$seconds COW_PTE_TEST_SEED=$seed $append $(kmemleak "$image")" \
	-f "$TOP/selftests/userland/load.list" test "$TOP/selftests/userland/load" || true
say "load: seed $seed, $seconds s a line"
"$TOP/scripts/judge.sh" "$logs"
