#!/bin/bash
# full.sh - everything that takes long, one after the other, and a table of verdicts
#
# Usage: scripts/full.sh [NAME...]
#        scripts/full.sh list
#
# Runs the named steps, by default all of them, builds what they need, and goes on when
# one fails.  What has passed for the series as it is now is not run again; a step that
# failed, or was interrupted, is.  "list" prints the names and what each runs.
#
# The table is in build/full.txt, without dates; the logs are in build/full.
#
# Environment: FORCE=1 runs again what has passed, and all breakages; BUILD, LINUX, MEM,
# CPUS, ACCEL, JOBS.
# Exit status: 0 all have passed, 1 one has not, 2 set-up, 125 the series does not
# apply, 130 interrupted.

. "$(dirname "$0")/lib.sh"
want_help "$@"
# name, kernels to build before, script and arguments
steps="
check             -          check.sh
docs              -          docs.sh
model             -          model.sh
test              -          suite.sh
thp               debug      test.sh -T 7200 -a COW_PTE_TEST_THP=1
kselftest         debug      kselftest.sh
check-each        vm         check-each.sh build
check-each-test   -          check-each.sh test
userland          debug      userland.sh
mmtests           -          mmtests.sh
mmtests-debug     -          mmtests.sh debug
load              debug      load.sh
endurance         debug      endurance.sh
races             debug      endurance.sh -r 1000 races
pairs             debug      endurance.sh -c pair: -r 25000 races
fuzz              debug      fuzz.sh --seconds 3600
kcsan             kcsan      kcsan.sh
breakages         -          break.sh
"
if [ "${1:-}" = list ]; then
	awk 'NF { name = $1; $1 = $2 = ""; printf "%-16s scripts/%s\n", name, substr($0, 3) }' <<<"$steps"
	exit 0
fi
for want; do
	grep -q "^$want " <<<"$steps" || die 2 "there is no step '$want', see full.sh list"
done
lock_build
again=${FORCE:-}
# It would drop work in build/linux.
unset FORCE
"$TOP/scripts/deps.sh"
"$TOP/scripts/apply.sh"
dir=$BUILD/full
mkdir -p "$dir"
now=$(which_series)

# NAME.result: series, exit status, minutes, last line of the log
table() {
	local name command series status minutes verdict
	say "series $now, Linux $(make -s -C "$LINUX" kernelversion </dev/null 2>/dev/null), $(git_linux rev-list --count "$BASE_BRANCH..$BRANCH") patches"
	say
	printf '%-16s %-28s %6s %8s  %s\n' step command status minutes verdict
	while read -r name _ command; do
		[ -n "$name" ] || continue
		series='' status=- minutes=- verdict="not run"
		[ ! -f "$dir/$name.result" ] || read -r series status minutes verdict <"$dir/$name.result" || true
		[ "$series" = "$now" ] || { status=- minutes=- verdict="not run"; }
		printf '%-16s %-28s %6s %8s  %s\n' "$name" "$command" "$status" "$minutes" "$verdict"
	done <<<"$steps"
}

bad=0 n=0
total=$(grep -c . <<<"$steps")
[ $# -eq 0 ] || total=$#
# Not from stdin: a step could read it.
while read -r -u 3 name flavour command; do
	[ -n "$name" ] || continue
	[ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
	n=$((n + 1))
	if [ -z "$again" ] && [ -f "$dir/$name.result" ]; then
		read -r series status _ <"$dir/$name.result" || true
		if [ "$series $status" = "$now 0" ]; then
			note "$name: $n of $total, has passed before"
			continue
		fi
	fi
	note "$name: $n of $total, after $(elapsed), log in $dir/$name.log"
	rm -f "$dir/$name.result"
	began=$SECONDS s=0
	: >"$dir/$name.log"
	[ "$flavour" = - ] || "$TOP/scripts/build.sh" "$flavour" >"$dir/$name.log" 2>&1 || s=$?
	if [ $s -eq 0 ]; then
		read -ra words <<<"$command"
		# These have a record of their own.
		force=
		case $name in breakages | check-each*) force=$again ;; esac
		FORCE=$force "$TOP/scripts/${words[0]}" "${words[@]:1}" </dev/null 2>&1 3<&- | tee -a "$dir/$name.log" || s=$?
	fi
	[ $s -ne 130 ] || exit 130
	verdict=$(grep -vE '^(see |$)' "$dir/$name.log" | tail -n 1 | sed -E 's/^\[[a-z-]*\] //; s/ (after|in) [0-9]+m[0-9]+s//' | cut -c1-100)
	printf '%s %s %s %s\n' "$now" $s $(((SECONDS - began + 59) / 60)) "${verdict:-no words}" >"$dir/$name.result"
	[ $s -eq 0 ] || bad=1
	table >"$BUILD/full.txt"
done 3<<<"$steps"
table | tee "$BUILD/full.txt"
exit $bad
