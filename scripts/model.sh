#!/bin/bash
# model.sh - check the model of a shared table, and that its variants fail
#
# Usage: scripts/model.sh
#
# Has spin go through all states of Documentation/model/cow_pte.pml: two mms and
# GUP-fast.  Then each variant, which lacks one step, must violate an assertion.
# A minute.
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

# run NAME WANTED-ERRORS DEFINES...
run() {
	local name=$1 want=$2 line errors
	shift 2
	rm -f pan*
	spin -a "$@" "$model" >spin.log 2>&1 || {
		cat spin.log
		die 2 "spin cannot read the model"
	}
	gcc -O2 -w -DSAFETY -DVECTORSZ=512 -o pan pan.c || die 2 "the checker does not compile"
	./pan -m1000000 >pan.log 2>&1 || true
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log)
	line=$(sed -n 's/^ *\([0-9e+.]*\) states, stored$/\1 states/p; s/^pan:1: \(assertion violated.*\) (at depth.*/\1/p' pan.log | tr '\n' ' ')
	if grep -q 'max search depth too small\|out of memory' pan.log || [ "${errors:-none}" != "$want" ]; then
		say "BAD  $name: ${errors:-no} errors, must be $want: $line"
		bad=1
	else
		say "ok   $name: $errors errors: $line"
	fi
}

run "the protocol" 0 -DN=2 -DGUP
mapfile -t variants < <(sed -n 's/^ \*   \([A-Z_]*\)  .*/\1/p' "$model")
for v in "${variants[@]}"; do
	run "variant $v" 1 -DN=2 -DGUP "-D$v"
done
note "took $(elapsed)"
[ $bad -ne 0 ] || say "the protocol holds, ${#variants[@]} variants fail as they must"
exit $bad
