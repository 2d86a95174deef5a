#!/bin/bash
# check-each.sh - does each patch of the series build, with the feature and without?
#
# Usage: scripts/check-each.sh [FLAVOUR]
#
# Checks out one commit of the branch after the other beside build/linux and
# compiles, with W=1 and warnings as errors in what the series adds, the directories
# that the series touches, once with CONFIG_COW_PTE=y and once without.  FLAVOUR
# (default vm) gives the configuration.  About 15 minutes.
#
# Environment: BUILD, LINUX, JOBS, BRANCH.  Exit status: 0, 2 set-up, 125 a patch
# does not build.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need gcc make flex bison bc
lock_build
config=$LINUX/out-${1:-vm}/.config
[ -f "$config" ] || die 2 "$config is not there: run 'make kernel FLAVOUR=${1:-vm}'"
need_space 2000
tree=$BUILD/linux-each
[ -d "$tree" ] || git_linux worktree add -q --detach "$tree" "$BASE_BRANCH"
mapfile -t commits < <(git_linux rev-list --reverse "$BASE_BRANCH..$BRANCH")
export KBUILD_BUILD_TIMESTAMP='2026-01-01' KBUILD_BUILD_USER=cow-pte KBUILD_BUILD_HOST=cow-pte
export CCACHE_NOHASHDIR=1
cc=gcc
! command -v ccache >/dev/null || cc="ccache gcc"

n=0
for c in "${commits[@]}"; do
	n=$((n + 1))
	subject=$(git_linux log -1 --format=%s "$c")
	git_plain -C "$tree" checkout -q -f --detach "$c"
	for onoff in y n; do
		out=$tree/out-$onoff
		mkdir -p "$out"
		kbuild=(make -s -C "$tree" O="$out" CC="$cc" HOSTCC="$cc" LOCALVERSION=)
		if [ ! -f "$out/.config" ] || [ $n -le 2 ]; then
			sed '/CONFIG_COW_PTE[ =]/d' "$config" >"$out/.config"
			[ $onoff = n ] || echo CONFIG_COW_PTE=y >>"$out/.config"
			"${kbuild[@]}" olddefconfig >/dev/null
		fi
		"${kbuild[@]}" -j"$JOBS" mm/ fs/proc/ fs/userfaultfd.o kernel/fork.o kernel/sys.o \
			arch/x86/mm/ >"$BUILD/each.log" 2>&1 9>&- ||
			die 125 "patch $n does not build with CONFIG_COW_PTE=$onoff, see $BUILD/each.log: $subject"
		if [ -f "$tree/mm/cow_pte.c" ] && [ $onoff = y ]; then
			"${kbuild[@]}" W=1 KCFLAGS=-Werror mm/cow_pte.o >"$BUILD/each.log" 2>&1 9>&- ||
				die 125 "patch $n: mm/cow_pte.c has warnings, see $BUILD/each.log: $subject"
		fi
	done
	note "$n of ${#commits[@]} builds on and off after $(elapsed): $subject"
done
