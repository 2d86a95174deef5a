#!/bin/bash
# endurance.sh - 10,000 forks under pressure, 1,000 sharers, 50 generations, forks that fail
#
# Usage: scripts/endurance.sh [-k IMAGE] [-a ARGS] [-c CASES] [-r PERCENT] [-s SEED]
#                             [PROGRAM...]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#   -a ARGS     append to the kernel command line
#   -c CASES    only the cases that have one of these in their names, separated by |
#   -r PERCENT  of the number of rounds (default 100)
#   -s SEED     that an earlier run has printed
#
# Without PROGRAM: endurance, and the forks of nomem if -c names no cases.  Runs other test
# programs as long, too: -r 1000 races; -c pair: -r 25000 races has a thousand rounds of
# each pair of operations that matters most.  With kmemleak, if the .config beside the image
# has it.  A case may take two hours, all together six.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug) append=COW_PTE_TEST_TIMEOUT=7000 percent=100 cases=
while getopts k:a:c:r:s: opt; do
	case $opt in
	k) image=$OPTARG ;;
	a) append+=" $OPTARG" ;;
	c) cases=$OPTARG ;;
	r) percent=$OPTARG ;;
	s) append+=" COW_PTE_TEST_SEED=$OPTARG" ;;
	*) die 2 "see --help" ;;
	esac
done
shift $((OPTIND - 1))
if [ $# -eq 0 ] && [ -z "$cases" ]; then
	programs=$("$TOP/scripts/programs.sh" | tail -n 1)
	[ -n "$programs" ] || exit 125
	cases=$("$programs/endurance" --list | paste -s -d '|')"|fork"
	set -- endurance nomem
fi
[ $# -gt 0 ] || set -- endurance
append+=" $(kmemleak "$image")"
[ -z "$cases" ] || append+=" COW_PTE_TEST_CASES=\"$cases\""
exec "$TOP/scripts/test.sh" -k "$image" -t 21000 -T 21600 -a "$append COW_PTE_TEST_ROUNDS=$percent" "$@"
