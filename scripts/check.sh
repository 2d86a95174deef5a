#!/bin/bash
# check.sh - is the series fit to be sent?
#
# Usage: scripts/check.sh
#
# The branch and patches/ agree byte for byte; each patch applies without fuzz;
# checkpatch.pl --strict for each patch, but for configs/checkpatch-exceptions;
# kernel-doc of the new files; shellcheck; shfmt; codespell.  A minute.
#
# Environment: LINUX (default build/linux), BRANCH.
# Exit status: 0, 1 if something is to be mended, 2 set-up.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need perl shellcheck codespell
"$TOP/scripts/deps.sh" shfmt
[ -e "$LINUX/.git" ] || die 2 "$LINUX is not there: run 'make apply'"
bad=0 good=0
verdict() { # STATUS TEXT WHAT-TO-DO
	if [ "$1" -eq 0 ]; then
		say "ok   $2"
		good=$((good + 1))
	else
		say "BAD  $2: $3"
		bad=$((bad + 1))
	fi
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mapfile -t patches < <(series)

# Another base moves hunks and blob ids: then only the changes can be compared.
mkdir "$tmp/export" "$tmp/ids"
"$TOP/scripts/export.sh" "$tmp/export" >/dev/null
tree=$(sed -n 's/^base-tree: //p' "$TOP/patches/0000-cover-letter.patch")
s=0
if [ "$tree" = "$(git_linux rev-parse "$BASE_BRANCH^{tree}")" ]; then
	diff -rq "$TOP/patches" "$tmp/export" >"$tmp/diff" || s=1
else
	note "the base is not the one that patches/ names: comparing patch ids"
	ids() { (cd "$1" && for p in 0*.patch; do git patch-id --stable <"$p" | cut -d' ' -f1; done); }
	diff <(ids "$TOP/patches") <(ids "$tmp/export") >"$tmp/diff" || s=1
fi
verdict $s "branch $BRANCH and patches/ agree" "run 'make export', or 'make apply'"
[ $s -eq 0 ] || cat "$tmp/diff"

# git apply knows no fuzz; the index is all it needs.
s=0
export GIT_INDEX_FILE=$tmp/index
git_linux read-tree "$BASE_BRANCH"
for p in ${patches[@]+"${patches[@]}"}; do
	git_linux apply --cached "$TOP/patches/$p" || s=1
done
unset GIT_INDEX_FILE
verdict $s "${#patches[@]} patches apply without fuzz" "mend the branch, then run 'make export'"

dictionary=$(/usr/bin/python3 -c 'import codespell_lib as c; print(c.__path__[0])' 2>/dev/null || true)/data/dictionary.txt
# checkpatch-exceptions: TYPE, patch (a shell pattern), reason.
for p in ${patches[@]+"${patches[@]}"}; do
	ignore=""
	while read -r type pattern _; do
		case $type in '' | '#'*) continue ;; esac
		# shellcheck disable=SC2254
		case $p in $pattern) ignore+=,$type ;; esac
	done <"$TOP/configs/checkpatch-exceptions"
	s=0
	# Debian's python first: it has the modules of the kernel's spdxcheck.py.
	(cd "$LINUX" && PATH=/usr/bin:$PATH perl scripts/checkpatch.pl --strict --quiet --terse --show-types \
		--codespell --codespellfile "$dictionary" ${ignore:+--ignore "${ignore#,}"} "$TOP/patches/$p") >"$tmp/checkpatch" 2>&1 || s=1
	verdict $s "checkpatch $p" "mend the branch and run 'make export', or add a line to configs/checkpatch-exceptions"
	[ $s -eq 0 ] || cat "$tmp/checkpatch"
done

docs=()
for f in mm/cow_pte.c include/linux/cow_pte.h; do
	git_linux show "$BRANCH:$f" >"$tmp/$(basename $f)" 2>/dev/null && docs+=("$tmp/$(basename $f)")
done
if [ ${#docs[@]} -gt 0 ]; then
	s=0
	perl "$LINUX/scripts/kernel-doc" -none "${docs[@]}" >"$tmp/doc" 2>&1 || s=1
	[ ! -s "$tmp/doc" ] || s=1
	verdict $s "kernel-doc of ${#docs[@]} files" "mend the branch, then run 'make export'"
	[ $s -eq 0 ] || cat "$tmp/doc"
fi

cd "$TOP"
s=0
shellcheck -x scripts/*.sh .ci/run || s=1
# By their first line; what is in C has none.
mapfile -t guest < <(grep -lE -d skip '^#!/bin/sh|^# shellcheck shell=sh' scripts/guest/* selftests/*/*)
shellcheck -x -s sh "${guest[@]}" || s=1
verdict $s "shellcheck of $(($(find scripts -name '*.sh' | wc -l) + 1 + ${#guest[@]})) scripts" "mend the lines above"
s=0
if command -v shfmt >/dev/null; then
	# launcher.sh is in the style of the kernel's scripts.
	mapfile -t guest < <(printf '%s\n' "${guest[@]}" | grep -v launcher.sh)
	shfmt -d scripts/*.sh .ci/run "${guest[@]}" || s=1
	verdict $s "shfmt" "run 'shfmt -w' on the files above"
else
	note "no shfmt: run 'scripts/deps.sh shfmt'"
fi
s=0
git ls-files -z README.md Documentation scripts configs selftests patches Makefile |
	xargs -0 codespell -I configs/spelling || s=1
verdict $s "codespell" "mend the words above, or add them to configs/spelling"
s=0
! git ls-files README.md Documentation scripts configs selftests patches Makefile .ci | grep -v '^scripts/check.sh$' |
	xargs grep -nE '\b(TO''DO|FIX''ME|XX''X)\b' || s=1
verdict $s "nothing left to be done later" "do what the lines above say"
say "$good checks passed, $bad failed"
[ $bad -eq 0 ]
