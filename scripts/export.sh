#!/bin/bash
# export.sh - regenerate patches/ from the branch, byte for byte reproducibly
#
# Usage: scripts/export.sh [directory]
#
# Writes one file a commit of base..cow-pte, "series", and the cover letter, whose
# text is Documentation/cover-letter.txt; the newest version of its changes ("v2:") is that
# of the subjects.
#
# Environment: LINUX (default build/linux), BRANCH (default cow-pte).
# Exit status: 0, 2 set-up: no such tree, or uncommitted changes.

. "$(dirname "$0")/lib.sh"
want_help "$@"
out=${1:-$TOP/patches}
cover=$TOP/Documentation/cover-letter.txt

[ -e "$LINUX/.git" ] || die 2 "$LINUX is not there: run 'make apply'"
[ -z "$(git_linux status --porcelain | head -n 1)" ] || die 2 "$LINUX has uncommitted changes: commit them first"
[ -f "$cover" ] || die 2 "$cover is missing: 'git checkout Documentation/cover-letter.txt' brings it back"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
range=$BASE_BRANCH..$BRANCH
n=$(git_linux rev-list --count "$range") || die 2 "$LINUX has no branches $BASE_BRANCH and $BRANCH: run 'make apply'"
version=$(series_version)
prefix="PATCH${version:+ $version}"
stable=(-c core.abbrev=12 -c diff.algorithm=histogram)
if [ "$n" -gt 0 ]; then
	git_linux "${stable[@]}" format-patch -q --no-signature --zero-commit --numbered --subject-prefix="$prefix" \
		--no-renames --stat=72 -o "$tmp" "$range"
fi
(cd "$tmp" && find . -name '*.patch' -printf '%f\n' | sort >series)
makefile_var() { git_linux show "$BASE_BRANCH:Makefile" | sed -n "s/^$1 = //p" | head -n 1; }
{
	say "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001"
	say "Subject: [$prefix 00/$n] $(head -n 1 "$cover")"
	say
	tail -n +3 "$cover"
	say
	say "base: Linux $(makefile_var VERSION).$(makefile_var PATCHLEVEL).$(makefile_var SUBLEVEL)"
	say "base-tree: $(git_linux rev-parse "$BASE_BRANCH^{tree}")"
	if [ "$n" -gt 0 ]; then
		say
		git_linux log --reverse --format='  %s' "$range"
		say
		git_linux "${stable[@]}" diff --stat=72 --no-renames "$BASE_BRANCH" "$BRANCH"
	fi
} >"$tmp/0000-cover-letter.patch"

mkdir -p "$out"
rm -f "$out"/*.patch "$out/series"
cp "$tmp"/* "$out/"
if [ "$out" = "$TOP/patches" ] && [ "$LINUX" = "$BUILD/linux" ]; then
	hash=$(cd "$out" && mapfile -t p < <(series) && cat series "${p[@]}" | sha256sum | cut -c1-40)
	printf '%s %s\n' "$hash" "$(git_linux rev-parse "$BRANCH")" >"$LINUX/.git/cow-pte-applied"
fi
note "$n patches written to $out"
