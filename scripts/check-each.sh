#!/bin/bash
# check-each.sh - does each patch of the series build, and work, alone?
#
# Usage: scripts/check-each.sh [FLAVOUR]
#        scripts/check-each.sh test [TEST...]
#
# Checks out one commit of the branch after the other beside build/linux and
# compiles the directories that the series touches, once with CONFIG_COW_PTE=y and
# once without.  What a patch touches is compiled with W=1 and looked at by sparse
# before and after: there must be no new warning.  FLAVOUR (default vm) gives the
# configuration.  About 30 minutes.
#
# "test" builds the flavour debug of each commit from the one on in which fork shares
# tables, and runs selftests on it (default: fork interface).  About 30 minutes more.
#
# Environment: BUILD, LINUX, JOBS, BRANCH.  Exit status: 0, 1 a test failed or there
# are new warnings, 2 set-up, 125 a patch does not build.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need gcc make flex bison bc
"$TOP/scripts/deps.sh" sparse
lock_build
tree=$BUILD/linux-each
[ -d "$tree" ] || git_linux worktree add -q --detach "$tree" "$BASE_BRANCH"
mapfile -t commits < <(git_linux rev-list --reverse "$BASE_BRANCH..$BRANCH")

if [ "${1:-}" = test ]; then
	shift
	[ $# -gt 0 ] || set -- fork interface
	n=0 bad=0
	for c in "${commits[@]}"; do
		n=$((n + 1))
		git_linux grep -q 'cow_pte_fork(' "$c" -- mm/memory.c || continue
		git_plain -C "$tree" checkout -q -f --detach "$c"
		LINUX=$tree O=$tree/out-debug COW_PTE_LOCKED=1 "$TOP/scripts/build.sh" debug >"$BUILD/each.log" 2>&1 ||
			die 125 "patch $n does not build, see $BUILD/each.log"
		s=0
		"$TOP/scripts/test.sh" -k "$tree/out-debug/arch/x86/boot/bzImage" "$@" >"$BUILD/each.log" 2>&1 || s=$?
		[ $s -eq 0 ] || bad=1
		note "patch $n of ${#commits[@]}: $(tail -n 1 "$BUILD/each.log"), $(git_linux log -1 --format=%s "$c")"
	done
	exit $bad
fi

config=$LINUX/out-${1:-vm}/.config
[ -f "$config" ] || die 2 "$config is not there: run 'make kernel FLAVOUR=${1:-vm}'"
need_space 2000
export KBUILD_BUILD_TIMESTAMP='2026-01-01' KBUILD_BUILD_USER=cow-pte KBUILD_BUILD_HOST=cow-pte
export CCACHE_NOHASHDIR=1
cc=gcc
! command -v ccache >/dev/null || cc="ccache gcc"

# Warnings of gcc (W=1) and sparse for some files of the tree as it is, without the
# numbers of the lines.
warnings() { # FILE...
	local f objects=()
	for f; do
		[ -f "$tree/$f" ] || continue
		touch "$tree/$f"
		objects+=("${f%.c}.o")
	done
	[ ${#objects[@]} -eq 0 ] ||
		make -s -C "$tree" O="$tree/out-y" CC="$cc" HOSTCC="$cc" LOCALVERSION= -j"$JOBS" W=1 C=1 "${objects[@]}" 2>&1 9>&- |
		grep -E '(warning|error):' | sed -E 's/:[0-9]+:([0-9]+:)?/:/; s/^\.\.\///' | sort -u || true
}

n=0 bad=0
for c in "${commits[@]}"; do
	n=$((n + 1))
	mapfile -t touched < <(git_linux diff --name-only "$c^" "$c" -- 'mm/*.c' 'fs/*.c' 'kernel/*.c' 'arch/x86/mm/*.c')
	before=
	[ $n -eq 1 ] || before=$(warnings "${touched[@]}")
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
	done
	after=$(warnings "${touched[@]}")
	if [ $n -eq 1 ]; then
		# Nothing was built of the tree before.
		git_plain -C "$tree" checkout -q -f --detach "$c^"
		before=$(warnings "${touched[@]}")
		git_plain -C "$tree" checkout -q -f --detach "$c"
	fi
	new=$(comm -13 <(grep . <<<"$before" || true) <(grep . <<<"$after" || true))
	if [ -n "$new" ]; then
		say "patch $n has new warnings:" "$new"
		bad=1
	fi
	note "$n of ${#commits[@]} builds on and off after $(elapsed): $subject"
done
exit $bad
