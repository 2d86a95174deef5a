#!/bin/bash
# mbox.sh - the series as one mailbox for git am
#
# Usage: scripts/mbox.sh [--selftests] [FILE]
#
# Writes FILE (default build/cow-pte.mbox), the patches without the cover letter, and
# proves with "git am" on the branch "base" that it gives the branch "cow-pte".  With
# --selftests one more patch comes last: selftests/cow_pte as
# tools/testing/selftests/cow_pte.
#
#	cd ~/linux-6.12.y && git am ~/cow-pte/build/cow-pte.mbox
#
# Environment: LINUX, BUILD.  Exit status: 0, 2 set-up, 125 it does not apply.

. "$(dirname "$0")/lib.sh"
selftests=0
if [ "${1:-}" = --selftests ]; then
	selftests=1
	shift
fi
want_help "$@"
[ $# -le 1 ] || die 2 "one FILE, and --selftests before it, see --help"
out=${1:-$BUILD/cow-pte.mbox}
version=$(series_version)
mapfile -t patches < <(series)
[ ${#patches[@]} -gt 0 ] || die 2 "patches/series is empty: run 'make export'"
[ -e "$LINUX/.git" ] || die 2 "$LINUX is not there: run 'make apply'"
if ! { mkdir -p "$(dirname "$out")" && : >"$out"; } 2>/dev/null; then die 2 "cannot write $out: name another FILE"; fi
for p in "${patches[@]}"; do
	cat "$TOP/patches/$p"
	echo
done >"$out"

tmp=$(mktemp -d)
trap 'git_linux worktree remove -f "$tmp/tree" 2>/dev/null; rm -rf "$tmp"' EXIT
tree=$tmp/tree
dir=tools/testing/selftests
git_linux worktree add -q --detach --no-checkout "$tree" "$BASE_BRANCH"
# An index, and only the files that the patches touch, are all that git am needs.
git_plain -C "$tree" sparse-checkout set --no-cone /MAINTAINERS /$dir/Makefile /$dir/cow_pte/ 2>/dev/null || true
git_plain -C "$tree" checkout -q --detach "$BASE_BRANCH"
git_am() {
	git_plain -C "$tree" -c user.name=cow-pte -c user.email=cow-pte@localhost -c advice.mergeConflict=false am -q "$1"
}
git_am "$(realpath "$out")" || die 125 "git am fails: 'make check' says which patch"
[ "$(git_plain -C "$tree" rev-parse 'HEAD^{tree}')" = "$(git_linux rev-parse "$BRANCH^{tree}")" ] ||
	die 125 "git am gives another tree than the branch $BRANCH: run 'make export'"
note "${#patches[@]} patches; git am gives the tree of the branch $BRANCH"

if [ $selftests -eq 1 ]; then
	cp -r "$TOP/selftests/cow_pte" "$tree/$dir/"
	sed -i 's/^TARGETS += core$/&\nTARGETS += cow_pte/' "$tree/$dir/Makefile"
	sed -i "s,^F:\ttools/mm/cow-pte\*$,F:\t$dir/cow_pte/\n&," "$tree/MAINTAINERS"
	author=$(git_linux log -1 --format='%an <%ae>' "$BRANCH")
	date=$(git_linux log -1 --format=%aI "$BRANCH")
	cat >"$tmp/message" <<-END
		selftests: add cow_pte

		Each program takes one kind of users of page tables: fork, system calls on
		memory, GUP, reclaim, walkers, /proc, failures for want of memory, races.  They
		compare the bytes of all sharers after each step, and see by the counters in
		/proc/vmstat and /proc/PID/status that tables were shared.  "fuzz" does random
		operations in a tree of processes, without and with sharing, and compares.

		make TARGETS=cow_pte run_tests takes about ten minutes on a kernel with lockdep
		and KASAN; config has the options that no test is skipped with.

		Signed-off-by: $author
	END
	git_plain -C "$tree" add --sparse -f -A $dir/cow_pte $dir/Makefile MAINTAINERS
	git_plain -C "$tree" -c user.name=cow-pte -c user.email=cow-pte@localhost \
		commit -q --author="$author" --date="$date" -F "$tmp/message"
	[ "$(git_plain -C "$tree" diff --name-only "$BRANCH" HEAD -- MAINTAINERS $dir/Makefile | wc -l)" -eq 2 ] ||
		die 125 "this tree's MAINTAINERS or $dir/Makefile is not as expected: run 'make apply' without KERNEL_SRC="
	git_plain -C "$tree" -c core.abbrev=12 format-patch -q --no-signature --zero-commit --stdout \
		--subject-prefix="PATCH${version:+ $version} $((${#patches[@]} + 1))/$((${#patches[@]} + 1))" -1 >"$tmp/last"
	{ cat "$tmp/last" && echo; } >>"$out"
	git_plain -C "$tree" reset -q --hard "$BRANCH"
	git_am "$tmp/last" || die 125 "git am fails on the patch of the selftests: leave --selftests out, or copy selftests/cow_pte by hand"
	note "and one with $(git_plain -C "$tree" diff --name-only "$BRANCH" HEAD -- $dir/cow_pte | wc -l) files in $dir/cow_pte"
fi
say "$out"
