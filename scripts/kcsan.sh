#!/bin/bash
# kcsan.sh - data races: races and fuzzer on the flavour kcsan
#
# Usage: scripts/kcsan.sh [-k IMAGE] [-r PERCENT] [-s SEED] [PROGRAM...]
#        scripts/kcsan.sh sort DIRECTORY
#
#   -k IMAGE    kernel image (default: build/linux/out-kcsan/arch/x86/boot/bzImage)
#   -r PERCENT  of the number of rounds (default 100)
#   -s SEED     that an earlier run has printed
#
# Runs the named test programs (default: races fuzz fork reclaim) and sorts the reports
# of KCSAN: those with a function of mm/cow_pte.c, those with a function that the series
# changes, and others.  A function counts if it is where one of the two accesses happens,
# or one of its two nearest callers; one that was inlined is not seen, and so a report
# of any kind fails the run, unless configs/kcsan-known explains it.
# "sort" sorts the reports of an earlier run, from its logs, once more.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: 0 no report that is not explained, 1 there is one, or a test failed;
# others as judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image kcsan) append='' percent=100
while getopts k:r:s: opt; do
	case $opt in
	k) image=$OPTARG ;;
	r) percent=$OPTARG ;;
	s) append=" COW_PTE_TEST_SEED=$OPTARG" ;;
	*) die 2 "see --help" ;;
	esac
done
shift $((OPTIND - 1))
case $percent in '' | 0* | *[!0-9]*) die 2 "'$percent' is no percentage: -r takes a number, such as 300" ;; esac
if [ "${1:-}" = sort ]; then
	logs=${2:-}
	[ -f "$logs/console.full" ] || die 2 "${logs:-(no directory)} has no logs of kcsan.sh: name a directory of $BUILD/logs"
else
	[ $# -gt 0 ] || set -- races fuzz fork reclaim
	programs=$("$TOP/scripts/programs.sh" | tail -n 1)
	[ -n "$programs" ] || exit 125
	tests=()
	for t; do tests+=("$programs/$t"); done
	mkdir -p "$BUILD/logs"
	logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-kcsan-XXXX")
	# Of a case, of a program and of all: more rounds take longer, fewer have a boot and ends, too.
	scale=$((percent > 100 ? percent : 100))
	append+=" COW_PTE_TEST_ROUNDS=$percent COW_PTE_TEST_TIMEOUT=$((4 * scale))"
	vm -l "$logs" -k "$image" -a "numa=fake=2 pti=on kcsan.skip_watch=500$append" \
		-t $((30 * scale)) -T $((72 * scale)) test "${tests[@]}" || true
	cp "$logs/console.log" "$logs/console.full"
fi
amount "$logs"

# Functions that the series changes, as hunks with and without context name them.
{ cat "$TOP"/patches/0*.patch && git_linux diff -U0 "$BASE_BRANCH" "$BRANCH"; } | grep '^@@' | sed -n 's/^@@.*@@.*[ *]\([a-z_0-9]*\)(.*/\1/p' | sort -u >"$logs/hooked"
# A line for each kind of report: its title, the accesses and the change of the value, a
# tab, the functions that count.  Offsets, which differ from build to build, do not.
tr -d '\r' <"$logs/console.full" | sed 's/^\[ *[0-9.]*\]\(\[[^]]*\]\)\? *//' | awk '
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
# Each is a regular expression for the whole of what is printed of a report.
known=$(grep -vE '^(#|$)' "$TOP/configs/kcsan-known" | cut -f 1 || true)
status=0
for kind in heart hooked other; do
	n=0
	while IFS=$'\t' read -r report functions; do
		[ -n "$report" ] || continue
		read -r count report <<<"$report"
		names=$(grep -oE '[a-z_][a-z_0-9]+' <<<"$report $functions" | sort -u)
		what=other
		if comm -12 <(printf '%s\n' "$names") "$logs/hooked" | grep . >/dev/null; then what=hooked; fi
		case $names in *cow_pte*) what=heart ;; esac
		[ $what = $kind ] || continue
		# What is explained elsewhere is not for mm/cow_pte.c.
		[ $kind != heart ] || report="$report, by$functions"
		if [ -n "$known" ] && grep -qxE -f <(say "$known") <<<"$report"; then
			say "known $count $report"
			continue
		fi
		say "$what $count $report"
		n=$((n + 1))
	done <"$logs/reports"
	[ $n -eq 0 ] || status=1
done
# Silence is worth something only if somebody has looked.
grep -o 'kcsan: selftest: .*' "$logs/console.full" || true
watched=$(sed -n 's/^@kcsan setup_watchpoints: *\([0-9]*\).*/\1/p' "$logs/verdict.log")
say "${watched:-0} accesses watched"
[ "${watched:-0}" -ge 100000 ] || {
	note "too few: see $logs/console.full, and whether $image is of 'make kernel FLAVOUR=kcsan'"
	status=1
}
say "$(awk '{ n += $1 } END { print n + 0 }' "$logs/reports") reports in all, see $logs/console.full"
# The verdict on the tests, without the reports.
sed -e "/BUG: KCSAN/,/=\{60,\}/d" "$logs/console.full" >"$logs/console.log"
"$TOP/scripts/judge.sh" "$logs" || status=$?
exit $status
