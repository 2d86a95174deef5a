#!/bin/bash
# fetch.sh - get the kernel source into build/linux, branch "base"
#
# Usage: scripts/fetch.sh
#
# Environment:
#   KERNEL_SRC  an unpacked 6.12.y tree or a git checkout; copied, never changed.
#               Default: Debian's linux-source-6.12, pinned in configs/source.pin
#   BUILD       build directory (default: build)
#
# An existing build/linux made from the same source is kept.
#
# Exit status: 0, 2 set-up: no package, no space, or work that would be lost, 125
# KERNEL_SRC is no clean 6.12.y tree.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need git
lock_build

# shellcheck source=/dev/null
. "$TOP/configs/source.pin"
stamp=$LINUX/.git/cow-pte-source
new=$BUILD/linux.new

check_version() {
	local v p
	[ -f "$1/Makefile" ] || die 125 "$1 is not a kernel tree, it has no Makefile: set KERNEL_SRC= to a 6.12.y tree"
	v=$(sed -n 's/^VERSION = //p' "$1/Makefile" | head -n 1)
	p=$(sed -n 's/^PATCHLEVEL = //p' "$1/Makefile" | head -n 1)
	[ "$v.$p" = 6.12 ] || die 125 "$1 is Linux ${v:-?}.${p:-?}, the series is for 6.12.y: set KERNEL_SRC= to such a tree"
}

# The base commit depends on nothing but the files.
commit_base() {
	git_plain -C "$new" init -q -b "$BASE_BRANCH"
	cat >>"$new/.git/info/exclude" <<-EX
		/out-*
	EX
	git -C "$new" config gc.auto 0
	# The kernel's .gitignore ignores everything at the top.
	git_plain -C "$new" add -A -f .
	GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' \
		git_plain -C "$new" -c user.name="COW page tables" -c user.email=cow-pte@localhost commit -q -m "Linux $1"
	printf '%s\n' "$id" >"$new/.git/cow-pte-source"
	mv "$new" "$LINUX"
	note "Linux $1 is in $LINUX ($(elapsed))"
}

kernel_version() { make -s -C "$1" kernelversion; }

if [ -n "${KERNEL_SRC:-}" ]; then
	[ -d "$KERNEL_SRC" ] || die 125 "KERNEL_SRC=$KERNEL_SRC is not a directory: set it to a 6.12.y tree, or leave it out"
	KERNEL_SRC=$(cd "$KERNEL_SRC" && pwd)
	check_version "$KERNEL_SRC"
	git_src() { git_plain --no-optional-locks -C "$KERNEL_SRC" "$@"; }
	if [ -e "$KERNEL_SRC/.git" ]; then
		git_src rev-parse -q --verify HEAD >/dev/null || die 125 "$KERNEL_SRC has a .git, but no commit: commit its files first"
		[ -z "$(git_src status --porcelain | head -n 1)" ] ||
			die 125 "$KERNEL_SRC has uncommitted changes: commit or stash them first"
		id="git $KERNEL_SRC $(git_src rev-parse HEAD)"
	else
		id="tree $KERNEL_SRC $(cd "$KERNEL_SRC" && find . -type f -printf '%P %s %T@\n' | sort | sha256sum | cut -c1-16)"
	fi
else
	tarball=/usr/src/$PIN_PACKAGE.tar.xz
	have() { dpkg-query -W -f '${Version}' "$PIN_PACKAGE" 2>/dev/null || true; }
	if [ ! -f "$tarball" ]; then
		[ "$(id -u)" -eq 0 ] || die 2 "not root: run 'apt-get install $PIN_PACKAGE' as root, or set KERNEL_SRC="
		note "installing $PIN_PACKAGE"
		export DEBIAN_FRONTEND=noninteractive
		apt-get update >/dev/null 2>&1 || true
		apt-get install -y --no-install-recommends "$PIN_PACKAGE=$PIN_VERSION" >/dev/null 2>&1 ||
			apt-get install -y --no-install-recommends "$PIN_PACKAGE" >/dev/null 2>&1 ||
			die 2 "apt-get cannot install $PIN_PACKAGE: check the network, or set KERNEL_SRC="
	fi
	[ -f "$tarball" ] || die 2 "$tarball is missing: reinstall $PIN_PACKAGE, or set KERNEL_SRC="
	sum=$(sha256sum "$tarball" | cut -d' ' -f1)
	if [ "$sum" != "$PIN_SHA256" ]; then
		say "**********************************************************************"
		say "*** $PIN_PACKAGE is $(have), not $PIN_VERSION as pinned: going on with it"
		say "**********************************************************************"
	fi
	id="debian $sum"
fi

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$id" ]; then
	exit 0
fi
if [ -d "$LINUX" ]; then
	[ -z "$(git_linux status --porcelain 2>/dev/null | head -n 1)" ] ||
		die 2 "$LINUX is made from another source and has uncommitted work: save it, then remove $LINUX"
	[ ! -f "$LINUX/.git/cow-pte-applied" ] ||
		[ "$(git_linux rev-parse "$BRANCH")" = "$(cut -d' ' -f2 "$LINUX/.git/cow-pte-applied")" ] ||
		die 2 "$LINUX is made from another source and has commits that are not in patches/: export them, then remove $LINUX"
	note "the source has changed: making $LINUX anew"
	rm -rf "$LINUX"
fi
need_space 6000
rm -rf "$new"
mkdir -p "$new"
if [ -n "${KERNEL_SRC:-}" ]; then
	case $id in
	git*) git_src archive HEAD | tar -x -C "$new" ;;
	*) tar -c -C "$KERNEL_SRC" --exclude='./out-*' . | tar -x -C "$new" ;;
	esac || die 2 "cannot copy $KERNEL_SRC: mend what the lines above say"
	# What a build left in the tree is no source.
	make -s -C "$new" mrproper >/dev/null 2>&1 || die 125 "cannot clean the copy of $KERNEL_SRC: 'make -C $new mrproper' says why"
	commit_base "$(kernel_version "$new")"
else
	note "unpacking $tarball"
	tar -x -f "$tarball" -C "$new" --strip-components=1 || die 2 "cannot unpack $tarball: reinstall $PIN_PACKAGE, or set KERNEL_SRC="
	check_version "$new"
	commit_base "$(kernel_version "$new") ($PIN_PACKAGE)"
fi
