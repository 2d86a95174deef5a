#!/bin/bash
# endurance.sh - 10,000 forks under pressure, 1,000 sharers, 50 generations
#
# Usage: scripts/endurance.sh [-k IMAGE] [-a ARGS] [-r PERCENT] [-s SEED] [PROGRAM...]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#   -a ARGS     append to the kernel command line
#   -r PERCENT  of the number of rounds (default 100)
#   -s SEED     that an earlier run has printed
#
# Runs other test programs as long, too: -r 1000 races.  With kmemleak, if the .config
# beside the image has it.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug) append=COW_PTE_TEST_TIMEOUT=7000 percent=100
while getopts k:a:r:s: opt; do
	case $opt in
	k) image=$OPTARG ;;
	a) append+=" $OPTARG" ;;
	r) percent=$OPTARG ;;
	s) append+=" COW_PTE_TEST_SEED=$OPTARG" ;;
	*) die 2 "see --help" ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- endurance
append+=" $(kmemleak "$image")"
exec "$TOP/scripts/test.sh" -k "$image" -t 7200 -T 7500 -a "$append COW_PTE_TEST_ROUNDS=$percent" "$@"
