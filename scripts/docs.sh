#!/bin/bash
# docs.sh - do the documents of the series build, without a new warning?
#
# Usage: scripts/docs.sh
#
# Has sphinx make html of the directories of Documentation in which the series changes
# something, of the branch "base" and of the patched one, and compares the warnings
# without their line numbers.  The pages are in build/docs.  About 5 minutes.
#
# Environment: BUILD, LINUX, BRANCH, JOBS.  Exit status: 0, 1 there are new warnings, 2
# set-up, 125 the documents do not build.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need make perl
[ -e "$LINUX/.git" ] || die 2 "$LINUX is not there: run 'make apply'"
"$TOP/scripts/deps.sh" python3-sphinx graphviz
lock_build
tree=$BUILD/linux-docs out=$BUILD/docs
git_linux worktree prune
[ -d "$tree" ] || git_linux worktree add -q --detach "$tree" "$BASE_BRANCH"
mkdir -p "$out"
# A document that is new has its directory in both, for the index is there.
mapfile -t changed < <(git_linux diff --name-only "$BASE_BRANCH" "$BRANCH" -- 'Documentation/*.rst')
[ ${#changed[@]} -gt 0 ] || die 2 "the branch $BRANCH changes no document: run 'make apply'"
dirs=()
for f in "${changed[@]}"; do
	d=${f%/*}
	while ! git_linux cat-file -e "$BRANCH:$d/index.rst" 2>/dev/null; do d=${d%/*}; done
	dirs+=("${d#Documentation/}")
done
mapfile -t dirs < <(printf '%s\n' "${dirs[@]}" | sort -u)

for what in base patched; do
	branch=$BASE_BRANCH
	[ $what = base ] || branch=$BRANCH
	git_plain -C "$tree" checkout -q -f --detach "$branch"
	rm -rf "${out:?}/$what"
	mkdir -p "$out/$what"
	: >"$out/$what.log"
	for d in "${dirs[@]}"; do
		note "$what: $d, after $(elapsed)"
		# Debian's python has Debian's sphinx.
		PATH=/usr/bin:$PATH make -C "$tree" O="$out/$what" htmldocs SPHINXDIRS="$d" </dev/null >>"$out/$what.log" 2>&1 9>&- ||
			die 125 "Documentation/$d does not build, see $out/$what.log"
	done
	grep -E '(WARNING|ERROR|warning|error):' "$out/$what.log" | sed -E "s|$tree/||g; s|^\.\./||; s/:[0-9]+:/:/g" | sort -u >"$out/$what.warnings" || true
done
for f in "${changed[@]}"; do
	for d in "${dirs[@]}"; do
		case $f in Documentation/$d/*) page=$out/patched/Documentation/output/$d/${f#Documentation/"$d"/} ;; *) continue ;; esac
		[ -s "${page%.rst}.html" ] || die 125 "$f gave no page ${page%.rst}.html, see $out/patched.log"
	done
done
new=$(comm -13 "$out/base.warnings" "$out/patched.warnings")
if [ -n "$new" ]; then
	say "new warnings, to be mended in $BRANCH (see $out/patched.log):" "$new"
	exit 1
fi
say "${#changed[@]} changed documents, $(wc -l <"$out/patched.warnings") warnings as before, none new, after $(elapsed)"
