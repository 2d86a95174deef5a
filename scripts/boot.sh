#!/bin/bash
# boot.sh - a shell in the VM
#
# Usage: scripts/boot.sh [vm|debug]
#
# The test programs are in /tests.  Leave with "poweroff -f" or ^A x.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.

. "$(dirname "$0")/lib.sh"
want_help "$@"
flavour=${1:-vm}
programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
files=()
for f in "$programs"/*; do
	[ ! -x "$f" ] || files+=(-f "$f")
done
exec "$TOP/scripts/vm.sh" -k "$(image "$flavour")" "${files[@]}" shell
