#!/bin/bash
# model.sh - check the model of a shared table, and that its variants fail
#
# Usage: scripts/model.sh [three]
#
# Has spin go through all states of Documentation/model/cow_pte.pml: two mms and
# GUP-fast, two mms of which one has a second thread, and three mms with the fork of a
# sharer.  Then each variant, which lacks one step, must violate the assertion that the
# model names for it.  Two minutes, and less than 1 GB of memory.  With "three" it tries
# three mms with GUP-fast and a second thread too: 7 GB of memory at most.
#
# Environment: BUILD.  Exit status: 0, 1 the model or a variant is not as it must be,
# 2 set-up.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need spin gcc
model=$TOP/Documentation/model/cow_pte.pml
dir=$BUILD/model
mkdir -p "$dir"
cd "$dir"
bad=0

# run NAME WANTED DEFINES...: "none" for no violation, or the whole assertion, without blanks
# and parentheses, of which spin adds many
run() {
	local name=$1 want=$2 line errors violated
	shift 2
	rm -f pan*
	spin -a "$@" "$model" >spin.log 2>&1 || {
		cat spin.log
		die 2 "spin cannot read the model"
	}
	gcc -O1 -w -DSAFETY -DVECTORSZ=512 -DCOLLAPSE -DMEMLIM=7000 -o pan pan.c || die 2 "the checker does not compile"
	./pan -m1000000 -w24 >pan.log 2>&1 || true
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log)
	line=$(sed -n 's/^ *\([0-9e+.]*\) states, stored$/\1 states/p; s/^pan:1: \(assertion violated.*\) (at depth.*/\1/p' pan.log | tr '\n' ' ')
	violated=$(sed -n 's/^pan:1: assertion violated \(.*\) (at depth.*/\1/p' pan.log | tr -d ' ()')
	if grep -q 'max search depth too small\|out of memory\|Search not completed' pan.log && [ "$want" = none ] ||
		[ -z "$errors" ] || [ "${violated:-none}" != "$want" ]; then
		say "BAD  $name: ${errors:-no} errors, must violate $want: $line"
		bad=1
	else
		say "ok   $name: $errors errors: $line"
	fi
}

run "two mms and GUP-fast" none -DN=2 -DGUP
run "two mms, one with two threads" none -DN=2 -DTHREAD
run "three mms, fork of a sharer" none -DN=3
n=0
while read -r v wanted; do
	with=GUP
	[ "$v" != BREAK_NO_RECHECK ] || with=THREAD
	run "variant $v" "$wanted" -DN=2 "-D$with" "-D$v"
	n=$((n + 1))
done < <(sed -n 's/^ \*   \([A-Z][A-Z_]*\)  *\([^ ]*\)  .*/\1 \2/p' "$model")
[ $n -ge 22 ] || {
	say "BAD  $n variants only"
	bad=1
}
[ "${1:-}" != three ] || run "three mms, GUP-fast and a second thread" none -DN=3 -DGUP -DTHREAD
note "took $(elapsed)"
[ $bad -ne 0 ] || say "the protocol holds, $n variants fail as they must"
exit $bad
