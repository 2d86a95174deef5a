#!/bin/bash
# mbox.sh - the series as one mailbox for git am
#
# Usage: scripts/mbox.sh [FILE]
#
# Writes FILE (default build/cow-pte.mbox), the patches without the cover letter, and
# proves with "git am" on the branch "base" that it gives the branch "cow-pte".
#
#	cd ~/linux-6.12.y && git am ~/cow-pte/build/cow-pte.mbox
#
# Environment: LINUX, BUILD.  Exit status: 0, 2 set-up, 125 it does not apply.

. "$(dirname "$0")/lib.sh"
want_help "$@"
out=${1:-$BUILD/cow-pte.mbox}
mapfile -t patches < <(series)
[ ${#patches[@]} -gt 0 ] || die 2 "patches/series is empty: run 'make export'"
[ -e "$LINUX/.git" ] || die 2 "$LINUX is not there: run 'make apply'"
mkdir -p "$(dirname "$out")"
for p in "${patches[@]}"; do
	cat "$TOP/patches/$p"
	echo
done >"$out"

tmp=$(mktemp -d)
trap 'git_linux worktree remove -f "$tmp/tree" 2>/dev/null; rm -rf "$tmp"' EXIT
git_linux worktree add -q --detach --no-checkout "$tmp/tree" "$BASE_BRANCH"
# An index, and only the files that the patches touch, are all that git am needs.
git_plain -C "$tmp/tree" sparse-checkout set --no-cone /MAINTAINERS 2>/dev/null || true
git_plain -C "$tmp/tree" checkout -q --detach "$BASE_BRANCH"
git_plain -C "$tmp/tree" -c user.name=cow-pte -c user.email=cow-pte@localhost -c advice.mergeConflict=false am -q "$(realpath "$out")" ||
	die 125 "git am fails: 'make check' says which patch"
[ "$(git_plain -C "$tmp/tree" rev-parse 'HEAD^{tree}')" = "$(git_linux rev-parse "$BRANCH^{tree}")" ] ||
	die 125 "git am gives another tree than the branch $BRANCH: run 'make export'"
note "${#patches[@]} patches; git am gives the tree of the branch $BRANCH"
say "$out"
