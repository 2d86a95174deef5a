#!/bin/bash
# boot.sh - a shell in the VM
#
# Usage: scripts/boot.sh [vm|debug|gdb]
#
# The tests and the launcher cow-pte are in /tests; SHARE (default: your home) can be
# read in /host.  Leave with "poweroff -f" or ^A x.
#
# Environment: SHARE; LINUX, BUILD, MEM, CPUS, ACCEL, GDB as for vm.sh.

. "$(dirname "$0")/lib.sh"
want_help "$@"
flavour=${1:-vm}
programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
files=()
for f in "$programs"/*; do
	[ ! -x "$f" ] || files+=(-f "$f")
done
share=${SHARE:-${HOME:-/}}
[ -d "$share" ] || die 2 "SHARE: $share is no directory"
exec "$TOP/scripts/vm.sh" -v "$share:home" -k "$(image "$flavour")" "${files[@]}" shell
