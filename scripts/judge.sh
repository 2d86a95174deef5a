#!/bin/bash
# judge.sh - say how a run of vm.sh went
#
# Usage: scripts/judge.sh DIRECTORY
#
# Reads the logs that vm.sh left: the TAP of each test (plan complete, no "not
# ok", nested ones too), leaks against the baseline, kmemleak's findings if it was
# switched on, taint, lockdep still on, and the whole console against
# configs/deny-list.  Prints each finding and then
# "N passed, M failed, K skipped": cases of TAP, and findings.
#
# Exit status: 0 clean, 1 a test failed, 3 splat or leak, 4 nothing ran, 5 VM lost
# or TAP cut short, 124 time-out.  The worst finding decides: 124, 3, 5, 1, 4.

. "$(dirname "$0")/lib.sh"
want_help "$@"
logs=${1:-}
[ -f "$logs/verdict.log" ] || die 2 "${logs:-(no directory)} has no logs of vm.sh: name a directory of $BUILD/logs"
verdict=$logs/verdict.log console=$logs/console.log
vm=$(cat "$logs/vm.status" 2>/dev/null || echo 5)

# One word for the kind of finding, then the text.
report=$(tr -d '\r' <"$verdict" | awk '
	function close_test() {
		if (bad) return
		if (plan == "") { print "short " name ": no plan"; return }
		if (plan + 0 != seen || twice) print "short " name ": " seen " of " plan + 0 " cases reported" (twice ? ", some twice" : "")
		else if (status != 0 && status != 4) print "failed " name ": exit status " status
	}
	/^@begin / {
		name = $2; plan = ""; seen = bad = twice = notes = 0; open = 1; ran++
		delete number
		next
	}
	/^@end / && open && $2 == name {
		open = 0; status = $3
		if ($3 == 124 || $3 == 143 || $3 == 137) print "timeout " name " after " $4 " s, exit status " $3
		else close_test()
		next
	}
	/^@leak / { sub(/^@leak /, ""); print "leak " $0; next }
	/^@lockdep / { if ($2 != 1) print "splat lockdep has switched itself off"; next }
	/^@tainted / { if ($2 != 0) print "splat the kernel is tainted: " $2; next }
	/^@kmemleak off/ { print "leak kmemleak has switched itself off"; next }
	/^@kmemleak / { if ($2 != 0) print "leak kmemleak has found " $2 " objects, see console.log"; next }
	!open { next }
	/^1\.\.[0-9]+/ { plan = substr($1, 4); next }
	# What a test said before a case failed tells why.
	/^# / { said[++notes % 8] = $0; next }
	/^ *not ok/ {
		bad++; line = $0; sub(/^ */, "", line); print "failed " name ": " line
		for (i = notes > 7 ? notes - 7 : 1; i <= notes; i++) print "why " said[i % 8]
	}
	/^ *(not )?ok/ { notes = 0 }
	/^ *ok/ { if (/# SKIP/) { skips++; print "skipped " name ": " $0 } else oks++ }
	/^(not )?ok/ {
		seen++
		n = $1 == "ok" ? $2 : $3
		if (number[n]++) twice = 1
	}
	END {
		if (open) print "short " name ": never ended"
		print "count " oks + 0 " " ran + 0 " " skips + 0
	}')

# The console, without the time stamps, for patterns anchored to the line.  The OOM
# killer of a cgroup prints a trace that is no splat ("Out of memory" of all is one);
# so does GUP once, for who reads below a stack (gup_vma_lookup(), trinity does).
splats=$(tr -d '\r' <"$console" 2>/dev/null | sed -E 's/^(\[ *[0-9]+\.[0-9]+\](\[ *[CT][0-9]+\])? )//' |
	awk 'NR == FNR { if (!/^[[:space:]]*(#|$)/) allowed[NR] = $0; next }
		/invoked oom-killer:|^GUP no longer grows the stack in / { said = FNR }
		/^Call Trace:/ && said && FNR - said <= 4 { $0 = ""; said = 0 }
		{ for (i in allowed) if ($0 ~ allowed[i]) $0 = ""; print }' "$TOP/configs/allow-list" - |
	grep -nEf <(grep -vE '^[[:space:]]*(#|$)' "$TOP/configs/deny-list") |
	head -n 20 || true)

read -r _ passed ran skips < <(grep '^count ' <<<"$report")
grep '^skipped ' <<<"$report" || true
findings=$(grep -vE '^(count|skipped|why) ' <<<"$report" || true)
[ -z "$splats" ] || findings+=$'\n'splat\ console.log:${splats//$'\n'/$'\n'splat console.log:}
# Asked for, and the job came to its end: then it must have said something.
if [ "$vm" = 0 ] && grep -q 'kmemleak=on' "$logs/command" 2>/dev/null &&
	! tr -d '\r' <"$verdict" | awk '/^@begin /{ open = 1 } /^@end /{ open = 0 } /^@kmemleak / && !open { said = 1 } END { exit !said }'; then
	findings+=$'\n'"leak kmemleak was switched on and has reported nothing"
fi
[ "$vm" != 124 ] || findings+=$'\n'"timeout the VM reached its time limit"
[ "$vm" != 5 ] || findings+=$'\n'"short the VM was lost before the end of the job"
wanted=$(wc -w 2>/dev/null <"$logs/tests" || echo 0)
[ "$ran" -eq "$wanted" ] || findings+=$'\n'"short $ran of $wanted test programs ran"
findings=$(grep . <<<"$findings" || true)
failed=0
if [ -n "$findings" ]; then
	say "$findings"
	sed -n 's/^why /  /p' <<<"$report"
	failed=$(wc -l <<<"$findings")
	say "see $logs"
fi
say "$passed passed, $failed failed, $skips skipped"

if grep -q '^timeout' <<<"$findings"; then exit 124; fi
if grep -qE '^(splat|leak)' <<<"$findings"; then exit 3; fi
if grep -q '^short' <<<"$findings"; then exit 5; fi
if [ "$failed" -gt 0 ]; then exit 1; fi
if [ "$ran" -eq 0 ] || [ "$passed" -eq 0 ]; then exit 4; fi
exit 0
