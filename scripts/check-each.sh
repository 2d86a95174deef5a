#!/bin/bash
# check-each.sh - does each patch of the series build, and work, alone?
#
# Usage: scripts/check-each.sh
#        scripts/check-each.sh build [FLAVOUR]
#        scripts/check-each.sh test [TEST...]
#
# Checks out one commit of the branch after the other beside build/linux and
# compiles what the series touches, once with CONFIG_COW_PTE=y, from the patch on that
# brings it, and once without.  What a patch touches is compiled with W=1 and looked at
# by sparse before and after, both ways: there must be no new warning.  tools/mm is
# built too, and at the end a whole kernel without CONFIG_COW_PTE; one with it is what
# "make kernel" builds.  FLAVOUR (default vm) gives the configuration.  About 40 minutes.
# "build" does no more than this.
#
# "test" builds the flavour debug of each commit from the one on in which fork shares
# tables, and runs selftests on it (default: fork interface).  About 30 minutes more.
#
# What has passed is noted in build/each.passed, and not done again for the same commit,
# configuration and tests; FORCE=1 does it again.
#
# Environment: BUILD, LINUX, JOBS, BRANCH, FORCE.  Exit status: 0, 1 a test failed or there
# are new warnings, 2 set-up, 4 nothing was tested, 125 a patch does not build.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need gcc make flex bison bc
"$TOP/scripts/deps.sh" sparse
[ -e "$LINUX/.git" ] || die 2 "$LINUX is not there: run 'make apply'"
lock_build
tree=$BUILD/linux-each
git_linux worktree prune
[ -d "$tree" ] || git_linux worktree add -q --detach "$tree" "$BASE_BRANCH"
mapfile -t commits < <(git_linux rev-list --reverse "$BASE_BRANCH..$BRANCH")
[ ${#commits[@]} -gt 0 ] || die 2 "there is nothing between $BASE_BRANCH and $BRANCH"
again=${FORCE:-}
# It would drop work in build/linux.
unset FORCE
list=$BUILD/each.passed
touch "$list"
passed() { # WHAT...
	[ -z "$again" ] && grep -qxF "$*" "$list"
}

case ${1:-} in
'')
	"$0" build
	exec "$0" test
	;;
build) shift ;;
test) ;;
*) die 2 "'$1' is not 'build' or 'test', see --help" ;;
esac
if [ "${1:-}" = test ]; then
	shift
	[ $# -gt 0 ] || set -- fork interface
	tests=$(cat "$TOP"/selftests/cow_pte/*.[ch] "$TOP/configs/debug.config" | cksum)
	n=0 bad=0 tested=0 failed=0
	for c in "${commits[@]}"; do
		n=$((n + 1))
		subject=$(git_linux log -1 --format=%s "$c")
		if ! git_linux grep -q 'cow_pte_fork(' "$c" -- mm/memory.c; then
			note "$n of ${#commits[@]}: fork shares nothing yet: $subject"
			continue
		fi
		tested=$((tested + 1))
		what="test $c $tests $*"
		if passed "$what"; then
			note "$n of ${#commits[@]} has passed before: $subject"
			continue
		fi
		git_plain -C "$tree" checkout -q -f --detach "$c"
		note "$n of ${#commits[@]}: building after $(elapsed): $subject"
		LINUX=$tree O=$tree/out-debug "$TOP/scripts/build.sh" debug >"$BUILD/each.log" 2>&1 ||
			die 125 "patch $n does not build, see $BUILD/each.log"
		s=0
		"$TOP/scripts/test.sh" -k "$tree/out-debug/arch/x86/boot/bzImage" "$@" >"$BUILD/each.log" 2>&1 || s=$?
		case $s in
		0) echo "$what" >>"$list" ;;
		2 | 125 | 130) die $s "patch $n: $(tail -n 1 "$BUILD/each.log")" ;;
		*) bad=1 failed=$((failed + 1)) ;;
		esac
		note "$n of ${#commits[@]}: $(tail -n 1 "$BUILD/each.log") after $(elapsed): $subject"
	done
	[ $tested -gt 0 ] || die 4 "no patch of the series lets fork share tables"
	say "$tested patches tested, $((tested - failed)) without a failure"
	exit $bad
fi

config=$LINUX/out-${1:-vm}/.config
[ -f "$config" ] || die 2 "$config is not there: run 'make kernel FLAVOUR=${1:-vm}'"
need_space 2000
export KBUILD_BUILD_TIMESTAMP='2026-01-01' KBUILD_BUILD_USER=cow-pte KBUILD_BUILD_HOST=cow-pte
export CCACHE_NOHASHDIR=1
cc=gcc
! command -v ccache >/dev/null || cc="ccache gcc"
# kbuild OUT TARGET...
kbuild() {
	local out=$1
	shift
	make -s -C "$tree" O="$out" CC="$cc" HOSTCC="$cc" LOCALVERSION= -j"$JOBS" "$@" </dev/null 9>&-
}
# With the configuration of an older patch a new symbol would be asked for, or left out.
configure() { # y|n
	local out=$tree/out-$1
	mkdir -p "$out"
	sed '/CONFIG_COW_PTE[ =]/d' "$config" >"$out/.config.new"
	[ "$1" = n ] || echo CONFIG_COW_PTE=y >>"$out/.config.new"
	mv "$out/.config.new" "$out/.config"
	kbuild "$out" olddefconfig >"$BUILD/each.log" 2>&1 || die 125 "patch $n: olddefconfig fails, see $BUILD/each.log"
	has=
	! grep -qx 'config COW_PTE' "$tree/mm/Kconfig" || has=1
	if [ "$1" = y ] && [ -n "$has" ]; then
		grep -qx CONFIG_COW_PTE=y "$out/.config" ||
			die 125 "patch $n has the symbol COW_PTE, but CONFIG_COW_PTE=y did not stick: $subject"
	elif grep -qx CONFIG_COW_PTE=y "$out/.config"; then
		die 125 "patch $n: CONFIG_COW_PTE=y where it must not be: $subject"
	fi
}
# Warnings of gcc (W=1) and sparse for some files of the tree as it is, without the
# numbers of the lines.
warnings() { # y|n FILE...
	local f objects=() out=$tree/out-$1 with=${has:+$1}
	shift
	for f; do
		[ -f "$tree/$f" ] || continue
		# What is not configured, or not yet, has no object.
		case $f in mm/cow_pte.c) [ "$with" = y ] || continue ;; esac
		touch "$tree/$f"
		objects+=("${f%.c}.o")
	done
	# sparse fails when it says "error", which is compared; anything else is no answer.
	[ ${#objects[@]} -eq 0 ] || kbuild "$out" W=1 C=1 "${objects[@]}" >"$BUILD/each.warnings" 2>&1 ||
		grep -q 'error:' "$BUILD/each.warnings" ||
		die 125 "patch $n: ${objects[*]} do not build with W=1 C=1, see $BUILD/each.warnings"
	# sparse does not know that pte_offset_map() has taken the RCU read lock, and blames
	# whoever says pte_unmap().
	[ ${#objects[@]} -eq 0 ] || grep -E '(warning|error):' "$BUILD/each.warnings" |
		grep -vE "rcupdate.h:[0-9:]* warning: context imbalance in '.*' - unexpected unlock" |
		sed -E 's/:[0-9]+:([0-9]+:)?/:/; s/^\.\.\///' | sort -u || true
}

n=0 bad=0 on=0 at=
for c in "${commits[@]}"; do
	n=$((n + 1))
	subject=$(git_linux log -1 --format=%s "$c")
	# The configuration: what it says, without the version in its head.
	what="build $c $(grep -v '^#' "$config" | cksum)"
	if passed "$what"; then
		note "$n of ${#commits[@]} has passed before: $subject"
		! git_linux grep -qE '^config COW_PTE$' "$c" -- mm/Kconfig || on=$((on + 1))
		continue
	fi
	mapfile -t touched < <(git_linux diff --name-only "$c^" "$c" -- 'mm/*.c' 'fs/*.c' 'kernel/*.c' 'arch/x86/mm/*.c')
	if [ -z "$at" ] || [ "$(git_linux rev-parse "$c^")" != "$at" ]; then
		git_plain -C "$tree" checkout -q -f --detach "$c^"
		configure n
		configure y
	fi
	at=$c
	# shellcheck disable=SC2034 # by name, below
	before_y=$(warnings y "${touched[@]}")
	# shellcheck disable=SC2034
	before_n=$(warnings n "${touched[@]}")
	git_plain -C "$tree" checkout -q -f --detach "$c"
	for onoff in n y; do
		configure $onoff
		kbuild "$tree/out-$onoff" mm/ fs/proc/ fs/userfaultfd.o kernel/fork.o kernel/sys.o \
			kernel/events/core.o kernel/futex/ arch/x86/mm/ >"$BUILD/each.log" 2>&1 ||
			die 125 "patch $n does not build with CONFIG_COW_PTE=$onoff, see $BUILD/each.log: $subject"
	done
	make -s -C "$tree/tools/mm" CC="$cc" </dev/null >"$BUILD/each.log" 2>&1 9>&- ||
		die 125 "patch $n: tools/mm does not build, see $BUILD/each.log: $subject"
	git_plain -C "$tree" clean -qfdx tools
	worse=
	for onoff in y n; do
		before=before_$onoff
		after=$(warnings $onoff "${touched[@]}")
		new=$(comm -13 <(grep . <<<"${!before}" || true) <(grep . <<<"$after" || true))
		[ -n "$new" ] || continue
		say "patch $n has new warnings with CONFIG_COW_PTE=$onoff:" "$new"
		bad=1 worse=1
	done
	with="off, there is no CONFIG_COW_PTE yet,"
	if [ -n "$has" ]; then
		with="on and off"
		on=$((on + 1))
	fi
	[ -n "$worse" ] || echo "$what" >>"$list"
	note "$n of ${#commits[@]} builds $with after $(elapsed): $subject"
done
note "a whole kernel without CONFIG_COW_PTE"
kbuild "$tree/out-n" vmlinux >"$BUILD/each.log" 2>&1 || die 125 "it does not build, see $BUILD/each.log"
[ $on -gt 0 ] || die 4 "no patch of the series brings CONFIG_COW_PTE: nothing of it was built"
say "${#commits[@]} patches build, $on of them with the feature on"
exit $bad
