#!/bin/bash
# boot.sh - a shell in the VM
#
# Usage: scripts/boot.sh [vm|debug|gdb|kcsan]
#
# In the guest:
#
#   /tests              the tests, and the launcher cow-pte
#   /host               SHARE (default: your home directory), for reading
#   host COMMAND        a program of this machine, in its root directory, where what is
#                       written goes to memory: host python3 /host/x.py
#   cow-pte host COMMAND  the same with shared tables: cow-pte host redis-server
#
# ^C is the guest's.  Leave with "poweroff -f" or ^A x.
#
# Environment: SHARE; LINUX, BUILD, MEM, CPUS, ACCEL, GDB as for vm.sh.
# Exit status: 0 left, 2 set-up, 5 QEMU failed, 125 the programs do not build.

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
[ -d "$share" ] || die 2 "SHARE: $share is no directory: set SHARE= to one"
note "flavour $flavour, half a minute without KVM"
exec "$TOP/scripts/vm.sh" -v "$share:home" -v /:host -k "$(image "$flavour")" "${files[@]}" shell
