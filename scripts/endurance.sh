#!/bin/bash
# endurance.sh - 10,000 forks under pressure, 1,000 sharers, 50 generations
#
# Usage: scripts/endurance.sh [-k IMAGE] [-r PERCENT]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#   -r PERCENT  of the number of rounds (default 100)
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
options=() percent=100
while getopts k:r: opt; do
	case $opt in
	k) options=(-k "$OPTARG") ;;
	r) percent=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
exec "$TOP/scripts/test.sh" ${options[@]+"${options[@]}"} -t 7200 -T 7500 \
	-a "COW_PTE_TEST_TIMEOUT=7000 COW_PTE_TEST_ROUNDS=$percent" endurance
