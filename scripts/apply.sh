#!/bin/bash
# apply.sh - apply patches/ to build/linux as a git branch
#
# Usage: scripts/apply.sh
#
# Afterwards build/linux has the branch "base" (one commit, the unpatched
# source) and the branch "cow-pte" with one commit a patch, checked out.  Edit
# and commit there, then run export.sh.  Does nothing when the branch agrees with
# patches/; refuses when the branch has commits or changes that patches/ does not.
#
# Environment: BUILD, KERNEL_SRC as for fetch.sh; FORCE=1 drops such work.
# Exit status: 0, 2 set-up or such work, 125 the series does not apply.

. "$(dirname "$0")/lib.sh"
want_help "$@"
lock_build
"$TOP/scripts/fetch.sh"

stamp=$LINUX/.git/cow-pte-applied
mapfile -t patches < <(series)
hash=$(cd "$TOP/patches" && cat series "${patches[@]}" 2>/dev/null | sha256sum | cut -c1-40) ||
	die 125 "patches/series names a patch that is not there: put it back ('git checkout patches'), or take its line out"
head=$(git_linux rev-parse -q --verify "refs/heads/$BRANCH" || true)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash $head" ]; then
	[ "$(git_linux symbolic-ref -q --short HEAD)" = "$BRANCH" ] || git_linux checkout -q "$BRANCH"
	exit 0
fi
if [ -z "${FORCE:-}" ]; then
	[ -z "$(git_linux status --porcelain | head -n 1)" ] ||
		die 2 "$LINUX has uncommitted changes: commit and export them, or set FORCE=1"
	if [ -n "$head" ] && { [ ! -f "$stamp" ] || [ "$head" != "$(cut -d' ' -f2 "$stamp")" ]; }; then
		die 2 "branch $BRANCH has commits that are not in patches/: run 'make export', or set FORCE=1"
	fi
fi

# Apply beside the checkout, then switch: what does not change keeps its time
# stamp, and a build after it stays incremental.
tmp=$BUILD/apply.tmp
git_linux worktree remove -f "$tmp" 2>/dev/null || rm -rf "$tmp"
git_linux worktree prune
trap 'git_linux worktree remove -f "$tmp" 2>/dev/null || true' EXIT
# Only the index is filled: git am writes the files that it touches.
git_linux worktree add -q --no-checkout --detach "$tmp" "$BASE_BRANCH"
git_plain -C "$tmp" read-tree HEAD
if [ ${#patches[@]} -gt 0 ]; then
	git_plain -C "$tmp" -c user.name="COW page tables" -c user.email=cow-pte@localhost \
		am -q --no-3way --committer-date-is-author-date "${patches[@]/#/$TOP/patches/}" \
		>"$BUILD/apply.log" 2>&1 ||
		{
			cat "$BUILD/apply.log" >&2
			git_plain -C "$tmp" am --abort 2>/dev/null || true
			die 125 "the series does not apply to $(git_linux log -1 --format=%s "$BASE_BRANCH"): 'make versions' says what it applies to, set KERNEL_SRC= to such a tree"
		}
fi
new=$(git_plain -C "$tmp" rev-parse HEAD)
git_linux worktree remove -f "$tmp"
git_linux checkout -q -f -B "$BRANCH" "$new"
printf '%s %s\n' "$hash" "$new" >"$stamp"
note "${#patches[@]} patches applied, branch $BRANCH in $LINUX"
