#!/bin/bash
# userland.sh - a Debian user space in the VM, with sharing for every process
#
# Usage: scripts/userland.sh [-k IMAGE]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#
# The guest reads this machine's root directory over 9p and writes to memory.  Each
# job of selftests/userland (shell, package tools, compiler, Python, Redis, others)
# is done with vm.cow_pte=0 and with vm.cow_pte=2 and must print the same.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug)
while getopts k: opt; do
	case $opt in
	k) image=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
need python3 perl git redis-server dpkg-deb
files=()
for f in "$TOP"/selftests/userland/*.job; do files+=(-f "$f"); done
mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-userland-XXXX")
note "about 10 minutes"
vm -p '^(ok|not ok|# [a-z]+, vm)' -l "$logs" -k "$image" -t 3000 -T 3600 -v /:host "${files[@]}" \
	test "$TOP/selftests/userland/userland" || true
grep -E '^# /tmp' "$logs/verdict.log" || true
"$TOP/scripts/judge.sh" "$logs"
