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
# Environment: BUILD, LINUX, JOBS.  Exit status: 0 all caught, 1 one was missed, 2
# set-up, 125 one does not apply or build.

. "$(dirname "$0")/lib.sh"
want_help "$@"
dir=$TOP/selftests/breakages
lock_build
[ -z "$(git_linux status --porcelain | head -n 1)" ] || die 2 "$LINUX has uncommitted changes: commit them first"
[ $# -gt 0 ] || mapfile -t all < <(cd "$dir" && ls -- *.patch)
names=(${all[@]+"${all[@]}"} "$@")
for n in "${names[@]}"; do
	[ -f "$dir/${n%.patch}.patch" ] || die 2 "there is no $dir/${n%.patch}.patch"
	git_linux apply --check "$dir/${n%.patch}.patch" || die 125 "$n does not apply any more: mend it"
done
now=''
image=$BUILD/break.bzImage log=$BUILD/break-test.log
mend() {
	[ -z "$now" ] || git_linux apply -R "$now"
	now=
}
trap 'mend; [ -z "$child" ] || kill "$child" 2>/dev/null || true; rm -f "$image"' EXIT

# result: wait for the tests that run, and say whether they have noticed.
caught=0 missed=0 tested=''
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
		;;
	esac
	tested=
}

nth=0
for n in "${names[@]}"; do
	n=${n%.patch}
	nth=$((nth + 1))
	note "$n: $nth of ${#names[@]}, after $(elapsed)"
	read -ra tests < <(sed -n 's/^Tests: //p' "$dir/$n.patch")
	cases=$(sed -n 's/^Case: //p' "$dir/$n.patch")
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
say "$caught caught, $missed missed in $(elapsed)"
[ $missed -eq 0 ]
