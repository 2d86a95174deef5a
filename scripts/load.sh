#!/bin/bash
# load.sh - stress-ng and trinity in the VM, with sharing for every process
#
# Usage: scripts/load.sh [-k IMAGE] [-s SECONDS]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#   -s SECONDS  for each line of selftests/userland/load.list (default 20)
#
# The guest reads this machine's root directory over 9p and writes to memory.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug)
seconds=20
while getopts k:s: opt; do
	case $opt in
	k) image=$OPTARG ;;
	s) seconds=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
case $seconds in '' | *[!0-9]*) die 2 "'$seconds' is no number of seconds" ;; esac
"$TOP/scripts/deps.sh" stress-ng trinity
mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-load-XXXX")
lines=$(grep -cvE '^(#|$)' "$TOP/selftests/userland/load.list")
note "about $((lines * (seconds + 25) / 60 + 1)) minutes"
"$TOP/scripts/vm.sh" -l "$logs" -k "$image" -t 7200 -T 7500 -v /:host -a "numa=fake=2 LOAD_SECONDS=$seconds" \
	-f "$TOP/selftests/userland/load.list" test "$TOP/selftests/userland/load" || true
grep -E '^(# exit|ok|not ok)' "$logs/verdict.log" || true
"$TOP/scripts/judge.sh" "$logs"
