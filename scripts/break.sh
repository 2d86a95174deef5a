#!/bin/bash
# break.sh - break the kernel on purpose, and see that the tests notice
#
# Usage: scripts/break.sh [NAME...]
#
# Each patch in selftests/breakages/ takes one necessary step out of the series and
# names the tests that must notice, or the case (COW_PTE_TEST_CASES).  One after the
# other (all of them by default) is applied to build/linux, built as flavour "debug",
# taken out again, and tested while the next one is built.
# Prints what noticed, and at the end a line "N caught, M missed".  A test notices by
# any status of judge.sh but 0, 2 and 4.  A minute each.
#
# What is caught is recorded in build/break, a file each.  Without names, what was caught
# before is printed from there and not run again, as long as the series, the tree that it
# gives, the breakage and the sources of its tests are the same: a run that was
# interrupted goes on where it was.  Names that are given always run.
#
# Environment: FORCE=1 forgets the record and runs all; BUILD, LINUX, JOBS.
# Exit status: 0 all caught, 1 one was missed, 2 set-up, 125 one does not apply or build.

. "$(dirname "$0")/lib.sh"
want_help "$@"
dir=$TOP/selftests/breakages
lock_build
again=${FORCE:-}
# To apply.sh and clean.sh it means something else.
unset FORCE
[ -z "$(git_linux status --porcelain | head -n 1)" ] ||
	die 2 "$LINUX has uncommitted changes: commit them first; a breakage that was left goes with 'git -C $LINUX checkout .'"
[ $# -gt 0 ] || mapfile -t all < <(cd "$dir" && ls -- *.patch)
names=(${all[@]+"${all[@]}"} "$@")
names=("${names[@]%.patch}")
for n in "${names[@]}"; do
	[ -f "$dir/$n.patch" ] || die 2 "there is no $dir/$n.patch: NAME is one of the files there"
	git_linux apply --check "$dir/$n.patch" || die 125 "$n does not apply any more: mend $dir/$n.patch"
done

# NAME.result: series, key, exit status, what was said
record=$BUILD/break
[ $# -gt 0 ] || [ -z "$again" ] || rm -rf "$record"
mkdir -p "$record"
series_now=$(which_series)
tree=$(git_linux rev-parse 'HEAD^{tree}')
header() { sed -n "s/^$2: //p" "$dir/$1.patch"; }
# What a verdict depends on, but for the series.
key() { # NAME
	local t src=$TOP/selftests/cow_pte files=()
	for t in $(header "$1" Tests); do
		[ ! -f "$src/$t.c" ] || t+=.c
		[ -f "$src/$t" ] || die 2 "there is no test $t: mend 'Tests:' in $dir/$1.patch"
		files+=("$src/$t")
	done
	{
		say "$tree"
		cat "$dir/$1.patch" "${files[@]}" "$src"/*.h "$src/cow_pte_util.c" "$TOP/selftests/harness/fork_smoke.c"
	} | sha256sum | cut -c1-16
}
declare -A keys
todo=() known=()
for n in "${names[@]}"; do
	keys[$n]=$(key "$n")
	series='' k='' status='' what=''
	[ $# -gt 0 ] || [ ! -f "$record/$n.result" ] || read -r series k status what <"$record/$n.result" || true
	if [ "$series $k" = "$series_now ${keys[$n]}" ]; then
		known+=("caught $n ($status): $what")
	else
		todo+=("$n")
	fi
done
before=${#known[@]}
if [ "$before" -gt 0 ]; then
	note "$before of ${#names[@]} already noticed for this series, FORCE=1 runs them again"
	printf '%s\n' "${known[@]}"
fi

now=''
image=$BUILD/break.bzImage log=$BUILD/break-test.log
mend() {
	[ -z "$now" ] || git_linux apply -R "$now"
	now=
}
trap 'mend; [ -z "$child" ] || kill "$child" 2>/dev/null || true; rm -f "$image"' EXIT

# result: wait for the tests that run, and say whether they have noticed.
caught=$before missed=0 tested=''
result() {
	local status=0 what
	[ -n "$tested" ] || return 0
	wait "$child" || status=$?
	child=
	[ $status -ne 130 ] || exit 130
	what=$(grep -vE '^(\[|qemu-system|$)' "$log" | grep -vE '^[0-9]+ passed|^# ' | head -n 1 | cut -c1-90 || true)
	case $status in
	0 | 2 | 4 | 125)
		missed=$((missed + 1))
		say "MISSED $tested ($status): $what"
		;;
	*)
		caught=$((caught + 1))
		say "caught $tested ($status): $what"
		printf '%s %s %s %s\n' "$series_now" "${keys[$tested]}" $status "$what" >"$record/$tested.result"
		;;
	esac
	tested=
}

nth=$before
for n in ${todo[@]+"${todo[@]}"}; do
	nth=$((nth + 1))
	note "$n: $nth of ${#names[@]}, after $(elapsed)"
	rm -f "$record/$n.result"
	read -ra tests < <(header "$n" Tests)
	cases=$(header "$n" Case)
	now=$dir/$n.patch
	git_linux apply "$now"
	built=$("$TOP/scripts/build.sh" debug 2>"$BUILD/break.log") || die 125 "$n does not build, see $BUILD/break.log"
	mend
	result
	cp "$(tail -n 1 <<<"$built")" "$image"
	"$TOP/scripts/test.sh" -k "$image" ${cases:+-a "COW_PTE_TEST_CASES=\"$cases\""} "${tests[@]}" >"$log" 2>&1 &
	child=$! tested=$n
done
result
# Who tests next finds a kernel that is whole.
"$TOP/scripts/build.sh" debug >"$BUILD/break.log" 2>&1 || die 125 "the kernel does not build, see $BUILD/break.log"
earlier=
[ "$before" -eq 0 ] || earlier=", $before of them before"
say "$caught caught, $missed missed in $(elapsed)$earlier"
[ $missed -eq 0 ]
