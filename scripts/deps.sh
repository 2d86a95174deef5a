#!/bin/bash
# deps.sh - install the Debian packages that the other scripts need
#
# Usage: scripts/deps.sh [PACKAGE...]
#
# Does nothing when all are there.  Must run as root otherwise.  The kernel
# source itself is fetch.sh's business.
#
# Exit status: 0 they are there, 2 they are not and cannot be installed.

. "$(dirname "$0")/lib.sh"
want_help "$@"

packages=(gcc libc6-dev make flex bison bc libelf-dev libssl-dev ccache git
	qemu-system-x86 busybox-static cpio gzip xz-utils perl python3
	redis-server redis-tools shellcheck codespell patch python3-ply python3-git spin "$@")

missing=()
for p in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(id -u)" -eq 0 ] || die 2 "not root: run 'apt-get install ${missing[*]}' as root"
command -v apt-get >/dev/null || die 2 "no apt-get: install ${missing[*]} by hand"
note "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Debian starts a server when it installs it; only the program is wanted.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
	made=1
fi
trap '[ -z "$made" ] || rm -f $policy' EXIT
log=$(mktemp)
{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
	{
		tail -n 5 "$log" >&2
		die 2 "apt-get failed, see $log"
	}
rm -f "$log"
