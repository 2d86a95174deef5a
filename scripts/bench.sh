#!/bin/bash
# bench.sh - every figure: unpatched, patched and unused, patched and used
#
# Usage: scripts/bench.sh [quick] [base] [off] [on]
#        scripts/bench.sh table [DIR]
#        scripts/bench.sh compare DIR DIR
#        scripts/bench.sh document [DIR]
#
# Boots the flavour "vm" of the unpatched tree (base), of the patched one with nobody
# opted in (off) and with sharing (on), all of them or the ones that are named, and
# runs the workloads of scripts/guest/bench-job.  By default instructions are counted,
# 2 ns of guest time each, on one CPU.  With ACCEL=kvm the clock counts, and
# ROUNDS (default 5) rounds of base, off and on take turns; the table has the medians
# and the spread.
#
# The results are in build/bench: bench.csv (kernel, workload, parameter, metric,
# unit, value, round), about.txt, table.txt, fork.svg, writes.svg.  "table" makes table
# and plots again; "compare" lays two such directories side by side and names what
# differs by more than half a percent.  "document" puts the figures into README.md, the
# cover letter and Documentation/benchmarks.md, with those of apps.sh.  "quick" takes a 16th of the memory.
#
# Environment: ONLY (the workloads to run: "write fork,64"), BENCH (another directory for the results), MEM (MiB, default 7168),
# ACCEL, LINUX, BUILD.  Exit status: 0; 1 a workload failed, or "compare" found
# differences; 2 set-up; others as judge.sh.

. "$(dirname "$0")/lib.sh"
want_help "$@"
out=${BENCH:-$BUILD/bench}

table() { # DIR
	awk -F, -f "$TOP/scripts/bench-table.awk" "$1/bench.csv" | tee "$1/table.txt"
	command -v gnuplot >/dev/null || { note "no gnuplot, no plots"; return; }
	for kind in base on; do
		awk -F, -v k=$kind '$1 == k && $2 == "fork" && $3 ~ /^[0-9]+$/ {
			v[$3, $4] = $6; if (!($3 in m)) { m[$3]; size[++n] = $3 } }
			END { for (i = 1; i <= n; i++) print size[i], v[size[i], "first"], v[size[i], "repeated"], v[size[i], "exit"] }' \
			"$1/bench.csv" >"$1/fork.$kind.dat"
		awk -F, -v k=$kind '$1 == k && $2 == "random" { split($3, p, " "); print p[2] / 10, $6 }' \
			"$1/bench.csv" >"$1/writes.$kind.dat"
	done
	(cd "$1" && gnuplot) <<-'END'
		set terminal svg size 720,420 font "sans,12" background rgb "white"
		set logscale xy
		set grid
		set key left top
		set output "fork.svg"
		set title "fork, 4 KiB pages"
		set xlabel "MiB"
		set ylabel "microseconds (instructions counted, 2 ns each)"
		plot "fork.base.dat" u 1:2 w lp t "plain", "fork.on.dat" u 1:2 w lp t "shared, all written since", \
			"fork.on.dat" u 1:3 w lp t "shared, nothing written since"
		set output "writes.svg"
		set title "fork of 256 MiB, the child writes, exit"
		set xlabel "pages written, percent"
		set ylabel "microseconds"
		plot "writes.base.dat" u 1:2 w lp t "plain", "writes.on.dat" u 1:2 w lp t "shared"
	END
	note "plots: $1/fork.svg $1/writes.svg"
}

# Replace what stands between the lines of FILE that match BEGIN and END by stdin.
between() { # FILE BEGIN END
	local new
	new=$(mktemp "$BUILD/between.XXXX")
	awk -v first="$2" -v last="$3" '
		FILENAME == "-" { text = text $0 "\n"; next }
		inside && $0 ~ last { inside = 0; printf "%s", text; done = 1 }
		!inside { print }
		!done && $0 ~ first { inside = 1 }
		END { exit !done }' - "$1" >"$new" || die 1 "$1 has no lines $2 and $3"
	cat "$new" >"$1"
	rm "$new"
}

document() { # DIR
	[ -f "$1/bench.csv" ] || die 2 "$1/bench.csv is not there: run 'make bench'"
	table "$1" >/dev/null
	sed -n '/^the bars/,$s/^/    /p' "$1/table.txt" |
		between "$TOP/Documentation/benchmarks.md" '^<!-- bars -->' '^<!-- end -->'
	sed -n '/^the bars/q; s/^\(.\)/    \1/p' "$1/table.txt" |
		between "$TOP/Documentation/benchmarks.md" '^<!-- figures -->' '^<!-- end -->'
	awk -F, "$cost_rows" "$1/bench.csv" |
		between "$TOP/Documentation/benchmarks.md" '^<!-- costs -->' '^<!-- end -->'
	awk -F, -v style=markdown "$fork_rows" "$1/bench.csv" | between "$TOP/README.md" '^[|]---' '^$'
	awk -F, -v style=text "$fork_rows" "$1/bench.csv" |
		between "$TOP/Documentation/cover-letter.txt" '^ +MiB ' '^$'
	cp "$1/fork.svg" "$TOP/Documentation/fork.svg"
	[ ! -f "$BUILD/apps/table.txt" ] || sed 's/^/    /' "$BUILD/apps/table.txt" |
		between "$TOP/Documentation/benchmarks.md" '^<!-- programs -->' '^<!-- end -->'
}

# shellcheck disable=SC2016 # it is awk's
fork_rows='
	$2 == "fork" { v[$1, $3, $4] = $6 }
	END {
		n = split("64 256 1024 4096", mib, " ")
		for (i = 1; i <= n; i++) {
			m = mib[i]
			first = v["base", m, "first"]; one = v["on", m, "first"]; two = v["on", m, "repeated"]
			if (style == "text")
				printf "   %4d %9.1f %9.1f %9.1f\n", m, first, one, two
			else
				printf "| %d | %.0f | %.0f | %.0fx | %.0f | %.0fx | %.0f | %.0f |\n", m, first, one, \
					first / one, two, first / two, v["base", m, "exit"], v["on", m, "exit"]
		}
	}'

# What one block costs: differences of figures, 500 instructions for a microsecond.
# shellcheck disable=SC2016
cost_rows='
	$5 == "us" { v[$1 "," $2 "," $3 "," $4] = $6 }
	function row(what, us, lines) { printf "| %s | %d | %s |\n", what, int(us * 50 + 0.5) * 10, lines }
	function block(key) { return (v[key "1024," metric] - v[key "2," metric]) / 511 }
	END {
		print "\n| | instructions | what is touched, in cache lines |\n|---|---|---|"
		metric = "first"
		row("plain fork", block("base,fork,"), "both tables (64 each), 512 struct page")
		row("share, the first time", block("on,fork,"),
			"the table (64); PMD entry, struct page, lock and struct cow_pte_table of the table, two records")
		metric = "repeated"
		row("share again", block("on,fork,"),
			"PMD entries, struct page, lock and struct cow_pte_table, the new record and its neighbour")
		metric = "exit"
		row("let go at exit", block("on,fork,"), "the same")
		row("break", v["on,write,1024,first_in_block"] - v["on,write,1024,second_in_block"],
			"both tables (64 each), 512 struct page, once")
		row("reuse, with the fault", (v["on,retouch,1024,rewrite"] - 16 * v["on,ops,64,write_again"]) / 512,
			"PMD entry, struct cow_pte_table, the record")
		print ""
	}'

case ${1:-} in
document)
	document "${2:-$out}"
	exit 0
	;;
table)
	table "${2:-$out}"
	exit 0
	;;
compare)
	[ $# -eq 3 ] || die 2 "two directories, see --help"
	[ -f "$2/bench.csv" ] || die 2 "$2/bench.csv is not there: run 'make bench'"
	[ -f "$3/bench.csv" ] || die 2 "$3/bench.csv is not there: run 'make bench'"
	awk -F, 'NR == FNR { a[$1 "," $2 "," $3 "," $4] = $6; next }
		{ k = $1 "," $2 "," $3 "," $4; if (!(k in a)) next; n++; d = a[k] ? ($6 - a[k]) / a[k] * 100 : $6 != 0
		  if (d > 0.5 || d < -0.5) { printf "%-50s %14.2f %14.2f %+8.2f %%\n", k, a[k], $6, d; bad++ } }
		END { printf "%d figures in both, %d differ by more than 0.5 %%\n", n, bad; exit bad > 0 }' "$2/bench.csv" "$3/bench.csv"
	exit
	;;
esac

quick=0 kinds=()
for a in "$@"; do
	case $a in
	quick) quick=1 ;;
	base | off | on) kinds+=("$a") ;;
	*) die 2 "'$a' is nothing to measure, see --help" ;;
	esac
done
[ ${#kinds[@]} -gt 0 ] || kinds=(base off on)
rounds=1
if [ "${ACCEL:-auto}" = kvm ]; then
	rounds=${ROUNDS:-5}
else
	ACCEL=icount
fi
export ACCEL MEM=${MEM:-7168}
"$TOP/scripts/deps.sh" gnuplot-nox
programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
mkdir -p "$out" "$BUILD/logs"
files=(-f "$programs/bench:/tests/bench")
# Small programs to start, and a compiler with its libraries.
printf 'int main(void) { return 0; }\n' | gcc -O2 -static -x c -o "$out/true_static" -
printf 'int main(void) { return 0; }\n' | gcc -O2 -x c -o "$out/true_dynamic" -
gcc -E -D_GNU_SOURCE= "$TOP/selftests/cow_pte/gup.c" -o "$out/source.i"
files+=(-f "$out/true_static:/tests/true_static" -f "$out/true_dynamic:/tests/true_dynamic" -f "$out/source.i:/tests/source.i")
libs=()
for p in "$(gcc -print-prog-name=cc1):cc1" "$(command -v as):as" "$(command -v cat):cat_dynamic"; do
	files+=(-f "${p%:*}:/tests/${p##*:}")
	mapfile -t -O ${#libs[@]} libs < <(ldd "${p%:*}" | grep -o '/[^ ]*')
done
while read -r lib; do files+=(-f "$lib:$lib"); done < <(printf '%s\n' "${libs[@]}" | sort -u)

declare -A kernel
for kind in "${kinds[@]}"; do
	case $kind in
	base) kernel[base]=${BASE_IMAGE:-$("$TOP/scripts/build.sh" vm base | tee /dev/stderr | tail -n 1)} ;;
	*) kernel[$kind]=$(image vm) ;;
	esac
	[ -f "${kernel[$kind]}" ] || die 2 "${kernel[$kind]} is not there: run 'make kernel'"
done
{
	printf 'command: scripts/bench.sh %s\n' "$*"
	printf 'acceleration: %s\n' "$ACCEL"
	for kind in "${kinds[@]}"; do
		printf '%s: %s, config %s\n' "$kind" "$(cat "${kernel[$kind]%/arch/*}/include/config/kernel.release")" \
			"$(sha256sum <"${kernel[$kind]%/arch/*}/.config" | cut -c 1-16)"
	done
} >"$out/about.txt"

status=0
[ ! -f "$out/bench.csv" ] || mv "$out/bench.csv" "$out/bench.csv.old"
for ((round = 1; round <= rounds; round++)); do
	for kind in "${kinds[@]}"; do
		logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-bench-$kind-XXXX")
		{
			printf 'KIND=%s\nQUICK=%s\nONLY="%s"\n' "$kind" "$quick" "${ONLY:-}"
			cat "$TOP/scripts/guest/bench-job"
		} >"$logs/job"
		note "kernel $kind, round $round of $rounds, $(elapsed)"
		"$TOP/scripts/vm.sh" -l "$logs" -k "${kernel[$kind]}" -b 300 -t 3400 -T 3600 "${files[@]}" run "$logs/job" >"$logs/vm.out" 2>&1 ||
			note "the VM ended with $?, see $logs"
		tr -d '\r' <"$logs/verdict.log" | sed -n "s/^bench,\(.*\)/$kind,\1,$round/p" >>"$out/bench.csv"
		"$TOP/scripts/judge.sh" "$logs" || status=$?
	done
done
# What was not measured now is kept from before.
if [ -f "$out/bench.csv.old" ]; then
	awk -F, '{ k = $1 "," $2 "," $3 "," $4 } NR == FNR { now[k]; next } !(k in now)' \
		"$out/bench.csv" "$out/bench.csv.old" >"$out/bench.csv.kept"
	cat "$out/bench.csv.kept" >>"$out/bench.csv"
	rm "$out/bench.csv.kept" "$out/bench.csv.old"
fi
cat "$out/about.txt"
table "$out"
exit $status
