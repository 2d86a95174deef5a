#!/bin/bash
# kcsan.sh - data races: races and fuzzer on the flavour kcsan
#
# Usage: scripts/kcsan.sh [-k IMAGE] [-s SEED] [PROGRAM...]
#
#   -k IMAGE    kernel image (default: build/linux/out-kcsan/arch/x86/boot/bzImage)
#   -s SEED     that an earlier run has printed
#
# Runs the named test programs (default: races fuzz fork reclaim) and sorts the reports
# of KCSAN: those with a function of mm/cow_pte.c, those with a function that the series
# changes, and others, which are of the kernel as it was.  A function counts if it is
# where one of the two accesses happens, or one of its two nearest callers.  Reports
# that configs/kcsan-known explains are printed as known.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: 0 no report of the first two kinds, 1 there is one, or a test failed;
# others as judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image kcsan) append=
while getopts k:s: opt; do
	case $opt in
	k) image=$OPTARG ;;
	s) append=" COW_PTE_TEST_SEED=$OPTARG" ;;
	*) die 2 "see --help" ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- races fuzz fork reclaim
programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
tests=()
for t; do tests+=("$programs/$t"); done
mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-kcsan-XXXX")
vm -l "$logs" -k "$image" -a "numa=fake=2 pti=on kcsan.skip_watch=500$append" -t 3000 -T 7200 test "${tests[@]}" || true
amount "$logs"

# Functions that the series changes, as hunks with and without context name them.
{ cat "$TOP"/patches/0*.patch && git_linux diff -U0 "$BASE_BRANCH" "$BRANCH"; } | grep '^@@' | sed -n 's/^@@.*@@.*[ *]\([a-z_0-9]*\)(.*/\1/p' | sort -u >"$logs/hooked"
# A line for each kind of report: its title, the accesses and the change of the value, a
# tab, the functions that count.  Offsets, which differ from build to build, do not.
tr -d '\r' <"$logs/console.log" | sed 's/^\[ *[0-9.]*\]\(\[[^]]*\]\)\? *//' | awk '
	function bare(s) { gsub(/(\.(isra|constprop|part|cold)(\.[0-9]+)?)*\+0x[0-9a-f]+\/0x[0-9a-f]+/, "", s); return s }
	function flush() { if (title != "") print title "\t" names; title = "" }
	/^BUG: KCSAN: / { flush(); sub(/^BUG: KCSAN: /, ""); title = bare($0); names = ""; frames = 3; next }
	title == "" { next }
	/^==========/ { flush(); next }
	/ by (task|interrupt)/ {
		frames = 0
		if (match($0, /(read|write)[-a-z ()]* to 0x[0-9a-f]+ of [0-9]+ bytes/)) {
			access = substr($0, RSTART, RLENGTH)
			sub(/ to 0x[0-9a-f]+/, "", access)
			title = title ", " access
		}
		next
	}
	/^value changed: / { gsub(/0x0+/, "0x"); title = title ", " $3 " -> " $5; next }
	/^[a-z_A-Z][a-z_A-Z0-9.]*\+0x/ && frames < 3 { frames++; names = names " " bare($1) }
	END { flush() }' | sort | uniq -c | sort -rn >"$logs/reports"
known=$(grep -vE '^(#|$)' "$TOP/configs/kcsan-known" | cut -f 1 || true)
# Each is a regular expression for the whole of the first part of such a line.
status=0
for kind in heart hooked other; do
	n=0
	while IFS=$'\t' read -r report names; do
		[ -n "$report" ] || continue
		read -r count report <<<"$report"
		names=$(grep -oE '[a-z_][a-z_0-9]+' <<<"$report $names" | sort -u)
		what=other
		if comm -12 <(printf '%s\n' "$names") "$logs/hooked" | grep . >/dev/null; then what=hooked; fi
		case $names in *cow_pte*) what=heart ;; esac
		[ $what = $kind ] || continue
		if [ -n "$known" ] && grep -qxE -f <(say "$known") <<<"$report"; then
			say "known $count $report"
			continue
		fi
		say "$what $count $report"
		n=$((n + 1))
	done <"$logs/reports"
	[ $kind = other ] || [ $n -eq 0 ] || status=1
done
# Silence is worth something only if somebody has looked.
grep -o 'kcsan: selftest: .*' "$logs/console.log" || true
watched=$(sed -n 's/^@kcsan setup_watchpoints: *\([0-9]*\).*/\1/p' "$logs/verdict.log")
say "${watched:-0} accesses watched"
[ "${watched:-0}" -ge 100000 ] || {
	note "too few: see $logs/console.full, and whether $image is of 'make kernel FLAVOUR=kcsan'"
	status=1
}
say "$(awk '{ n += $1 } END { print n + 0 }' "$logs/reports") reports in all, see $logs/console.full"
# The verdict on the tests, without the reports.
cp "$logs/console.log" "$logs/console.full"
sed -i -e "/BUG: KCSAN/,/=\{60,\}/d" "$logs/console.log"
"$TOP/scripts/judge.sh" "$logs" || status=$?
exit $status
