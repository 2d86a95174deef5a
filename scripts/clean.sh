#!/bin/bash
# clean.sh - remove what was built
#
# Usage: scripts/clean.sh [all]
#
# Removes the kernel's objects and the test programs.  "all" removes the whole build
# directory, if the branch has no work that is not in patches/ (or FORCE=1).
#
# Environment: BUILD, FORCE.  Exit status: 0, 2 there is such work, or another run.

. "$(dirname "$0")/lib.sh"
want_help "$@"
[ -d "$BUILD" ] || exit 0
lock_build
if [ "${1:-}" = all ]; then
	if [ -e "$LINUX/.git" ] && [ -z "${FORCE:-}" ]; then
		[ -z "$(git_linux status --porcelain | head -n 1)" ] ||
			die 2 "$LINUX has uncommitted changes: commit and export them, or set FORCE=1"
		if git_linux rev-parse -q --verify "$BRANCH" >/dev/null; then
			[ "$(git_linux rev-parse "$BRANCH")" = "$(cut -d' ' -f2 "$LINUX/.git/cow-pte-applied")" ] ||
				die 2 "branch $BRANCH has commits that are not in patches/: run 'make export', or set FORCE=1"
		fi
	fi
	rm -rf "$BUILD"
	exit 0
fi
rm -rf "$BUILD"/linux/out-* "$BUILD"/linux-base/out-* "$BUILD"/linux-each/out-* "$BUILD/docs" "$BUILD/selftests"
