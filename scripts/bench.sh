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
# ROUNDS (default 5) rounds of base, off and on take turns; table and plots have the
# medians, and the table the spread.  "quick" takes a 16th of the memory.
#
# The results are in build/bench, those of "quick" and of KVM in build/bench-quick,
# build/bench-kvm, build/bench-kvm-quick: bench.csv (kernel, workload, parameter, metric,
# unit, value, round), medians.csv (value, lowest and highest), about.txt, table.txt,
# fork.svg, writes.svg.  What was not asked for is kept from the run before.
#
# "table" makes table and plots again.  "compare" lays two such directories side by side
# and names what differs by more than half a percent, and what only one has; maxima are
# left out.
# "document" puts the figures into README.md, the cover letter and
# Documentation/benchmarks.md, with those of apps.sh, if none is missing and all are of
# the same series.
#
# Environment: ONLY (the workloads to run: "write fork,64"), BENCH (another directory for
# the results), MEM (MiB, default 7168), ROUNDS, ACCEL, LINUX, BUILD.
# Exit status: 0; 1 a workload failed, a bar was missed, "compare" found differences or
# "document" something missing; 2 set-up; others as judge.sh.

. "$(dirname "$0")/lib.sh"
want_help "$@"

quick=0 kinds=()
case ${1:-} in
table | compare | document) ;;
*)
	for a in "$@"; do
		case $a in
		quick) quick=1 ;;
		base | off | on) kinds+=("$a") ;;
		*) die 2 "'$a' is nothing to measure, see --help" ;;
		esac
	done
	;;
esac
[ ${#kinds[@]} -gt 0 ] || kinds=(base off on)
rounds=1
if [ "${ACCEL:-auto}" = kvm ]; then
	rounds=${ROUNDS:-5}
else
	ACCEL=icount
fi
case $rounds in '' | *[!0-9]* | 0*) die 2 "ROUNDS=$rounds is no number of rounds: set it to 1 or more" ;; esac
out=$BUILD/bench
[ "$ACCEL" != kvm ] || out+=-kvm
[ "$quick" = 0 ] || out+=-quick
out=${BENCH:-$out}

# kernel, workload, parameter, metric, unit, median of the rounds, lowest, highest, rounds
medians() { # DIR
	awk -F, '
		{ k = $1 "," $2 "," $3 "," $4 "," $5; if (!(k in v)) order[++n] = k; v[k] = v[k] " " $6 }
		END {
			for (o = 1; o <= n; o++) {
				m = split(v[order[o]], x, " ")
				for (i = 2; i <= m; i++)
					for (j = i; j > 1 && x[j - 1] + 0 > x[j] + 0; j--) { t = x[j]; x[j] = x[j - 1]; x[j - 1] = t }
				median = m % 2 ? x[(m + 1) / 2] : (x[m / 2] + x[m / 2 + 1]) / 2
				printf "%s,%.2f,%s,%s,%d\n", order[o], median, x[1], x[m], m
			}
		}' "$1/bench.csv" >"$1/medians.csv.new"
	mv "$1/medians.csv.new" "$1/medians.csv"
}

table() { # DIR
	local strict=0 unit="instructions counted, 2 ns each" status=0 kind
	[ -f "$1/bench.csv" ] || die 2 "$1/bench.csv is not there: run 'make bench'"
	medians "$1"
	# The bars are for 1 GiB and for counted instructions.
	! grep -q '^acceleration: icount' "$1/about.txt" 2>/dev/null || strict=1
	! grep -q '^command:.* quick' "$1/about.txt" 2>/dev/null || strict=0
	! grep -q '^acceleration: kvm' "$1/about.txt" 2>/dev/null || unit="wall clock under KVM, medians"
	awk -F, -v strict=$strict -f "$TOP/scripts/bench-table.awk" "$1/medians.csv" >"$1/table.txt" || status=1
	cat "$1/table.txt"
	command -v gnuplot >/dev/null || {
		note "no gnuplot, no plots: run 'scripts/deps.sh gnuplot-nox'"
		return $status
	}
	for kind in base on; do
		awk -F, -v k=$kind '$1 == k && $2 == "fork" && $3 ~ /^[0-9]+$/ && $3 > 0 {
			v[$3, $4] = $6; if (!($3 in m)) { m[$3]; size[++n] = $3 } }
			END { for (i = 1; i <= n; i++) print size[i], v[size[i], "first"], v[size[i], "repeated"], v[size[i], "exit"] }' \
			"$1/medians.csv" | sort -n >"$1/fork.$kind.dat"
		awk -F, -v k=$kind '$1 == k && $2 == "random" { split($3, p, " "); print p[2] / 10, $6 }' \
			"$1/medians.csv" | sort -n >"$1/writes.$kind.dat"
	done
	if [ ! -s "$1/fork.base.dat" ] || [ ! -s "$1/fork.on.dat" ]; then
		note "no plots without fork on both kernels: run 'make bench ONLY=fork'"
		return $status
	fi
	(cd "$1" && gnuplot) <<-END
		set terminal svg size 720,420 font "sans,12" background rgb "white"
		set logscale xy
		set grid
		set key left top
		set output "fork.svg"
		set title "fork, 4 KiB pages"
		set xlabel "MiB"
		set ylabel "microseconds ($unit)"
		plot "fork.base.dat" u 1:2 w lp t "plain", "fork.on.dat" u 1:2 w lp t "shared, all written since", \\
			"fork.on.dat" u 1:3 w lp t "shared, nothing written since"
	END
	if [ -s "$1/writes.base.dat" ] && [ -s "$1/writes.on.dat" ]; then
		(cd "$1" && gnuplot) <<-END
			set terminal svg size 720,420 font "sans,12" background rgb "white"
			set logscale xy
			set grid
			set key left top
			set output "writes.svg"
			set title "fork, the child writes, exit"
			set xlabel "pages written, percent"
			set ylabel "microseconds ($unit)"
			plot "writes.base.dat" u 1:2 w lp t "plain", "writes.on.dat" u 1:2 w lp t "shared"
		END
	fi
	note "plots in $1"
	return $status
}

# Replace what stands between the lines of FILE that match BEGIN and END by stdin, in a
# copy below $staged.
between() { # FILE BEGIN END
	local from=$staged/$1
	[ -f "$from" ] || from=$TOP/$1
	awk -v first="$2" -v last="$3" '
		FILENAME == "-" { text = text $0 "\n"; next }
		inside && $0 ~ last { inside = 0; printf "%s", text; done = 1 }
		!inside { print }
		!done && $0 ~ first { inside = 1 }
		END { exit !done || text == "" }' - "$from" >"$staged/new" || die 1 "$1 has no lines $2 and $3: put them back; or there is nothing to put between them: run 'make bench' and 'make apps'"
	mkdir -p "$(dirname "$staged/$1")"
	mv "$staged/new" "$staged/$1"
}

document() { # DIR
	local series missing f
	[ -f "$1/bench.csv" ] || die 2 "$1/bench.csv is not there: run 'make bench'"
	table "$1" >/dev/null || true
	# Everything is looked at, and made, before a file is changed.
	! grep '  not measured$' "$1/table.txt" || die 1 "bars that were not measured: nothing was changed, run 'make bench'"
	missing=$(for kind in base on; do
		for m in 64 256 1024 4096; do
			for metric in first repeated exit; do say "$kind,fork,$m,$metric"; done
		done
		printf "%s,fork,2,%s\n" "$kind" first "$kind" repeated "$kind" exit
	done | grep -vxFf <(cut -d, -f1-4 "$1/medians.csv") || true)
	[ -z "$missing" ] || die 1 "not measured: ${missing//$'\n'/ }: nothing was changed, run 'make bench'"
	series=$(sed -n 's/.*, series \([0-9a-f]*\).*/\1/p' "$1/about.txt" | sort -u)
	[ "$series" = "$(which_series)" ] ||
		die 1 "figures of the series ${series//$'\n'/ and } (patches/ is $(which_series)), see $1/about.txt: nothing was changed, run 'make bench'"
	[ -f "$1/fork.svg" ] || die 1 "$1/fork.svg is not there: nothing was changed, run 'scripts/deps.sh gnuplot-nox'"
	staged=$(mktemp -d)
	trap 'rm -rf "$staged"' EXIT
	sed -n '/^the bars/,$s/^/    /p' "$1/table.txt" |
		between Documentation/benchmarks.md '^<!-- bars -->' '^<!-- end -->'
	sed -n '/^the bars/q; s/^\(.\)/    \1/p' "$1/table.txt" |
		between Documentation/benchmarks.md '^<!-- figures -->' '^<!-- end -->'
	awk -F, "$cost_rows" "$1/medians.csv" |
		between Documentation/benchmarks.md '^<!-- costs -->' '^<!-- end -->'
	awk -F, -v style=markdown "$fork_rows" "$1/medians.csv" | between README.md '^[|]---' '^$'
	awk -F, -v style=text "$fork_rows" "$1/medians.csv" |
		between Documentation/cover-letter.txt '^ +MiB ' '^$'
	[ ! -f "$BUILD/apps/table.txt" ] || sed 's/^/    /' "$BUILD/apps/table.txt" |
		between Documentation/benchmarks.md '^<!-- programs -->' '^<!-- end -->'
	for f in README.md Documentation/benchmarks.md Documentation/cover-letter.txt; do
		cat "$staged/$f" >"$TOP/$f"
	done
	cp "$1/fork.svg" "$TOP/Documentation/fork.svg"
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
	exit
	;;
compare)
	[ $# -eq 3 ] || die 2 "two directories, see --help"
	for d in "$2" "$3"; do
		[ -f "$d/bench.csv" ] || die 2 "$d/bench.csv is not there: run 'make bench'"
		medians "$d"
		grep -h '^[a-z]*: .*config' "$d/about.txt" 2>/dev/null | sed "s|^|$d: |" || true
	done
	awk -F, -v first="$2" -v second="$3" '
		{ k = $1 "," $2 "," $3 "," $4 }
		NR == FNR { a[k] = $6; next }
		{ seen[k] = 1 }
		!(k in a) { printf "%-50s only in %s\n", k, second; only++; next }
		# One event of all rounds: no figure to agree.
		$4 ~ /_maximum$/ { next }
		{ n++; d = a[k] != 0 ? ($6 - a[k]) / (a[k] < 0 ? -a[k] : a[k]) * 100 : ($6 != 0) * 100
		  if (d > 0.5 || d < -0.5) { printf "%-50s %14.2f %14.2f %+8.2f %%\n", k, a[k], $6, d; bad++ } }
		END {
			for (k in a) if (!(k in seen)) { printf "%-50s only in %s\n", k, first; only++ }
			printf "%d figures in both, %d differ by more than 0.5 %%, %d in only one\n", n, bad, only
			exit bad + only > 0
		}' "$2/medians.csv" "$3/medians.csv"
	exit
	;;
esac

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
	[ "$kind" != base ] || [ -f "${kernel[base]}" ] || die 2 "${kernel[base]} is not there: unset BASE_IMAGE, and it is built"
	need_image "${kernel[$kind]}"
done
# A line for each kernel; those that are not measured now keep theirs.
{
	printf 'command: scripts/bench.sh %s\n' "$*"
	printf 'acceleration: %s, %s rounds, %s MiB\n' "$ACCEL" "$rounds" "$MEM"
	for kind in base off on; do
		case " ${kinds[*]} " in
		*" $kind "*)
			# The base has no series, and is kept when there is a new one.
			series=", series $(which_series)"
			[ "$kind" != base ] || series=''
			printf '%s: %s, config %s%s%s\n' "$kind" \
				"$(cat "${kernel[$kind]%/arch/*}/include/config/kernel.release" 2>/dev/null)" \
				"$(sha256sum <"${kernel[$kind]%/arch/*}/.config" | cut -c 1-16)" "$series" "${ONLY:+, ONLY=\"$ONLY\"}"
			;;
		*) grep "^$kind: " "$out/about.txt" 2>/dev/null || true ;;
		esac
	done
} >"$out/about.txt.new"
mapfile -t several < <(sed -n 's/.*, series \([0-9a-f]*\).*/\1/p' "$out/about.txt" "$out/about.txt.new" 2>/dev/null | sort -u)
[ ${#several[@]} -le 1 ] || note "what is kept from before is of another series: ${several[*]}: 'make bench' without ARGS and ONLY measures all"

status=0
: >"$out/bench.csv.new"
for ((round = 1; round <= rounds; round++)); do
	for kind in "${kinds[@]}"; do
		logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-bench-$kind-XXXX")
		{
			printf 'KIND=%s\nQUICK=%s\nONLY="%s"\n' "$kind" "$quick" "${ONLY:-}"
			cat "$TOP/scripts/guest/bench-job"
		} >"$logs/job"
		note "kernel $kind, round $round of $rounds, $(elapsed)"
		vm -p '^# ' -l "$logs" -k "${kernel[$kind]}" -b 300 -t 3400 -T 3600 "${files[@]}" run "$logs/job" || true
		tr -d '\r' <"$logs/verdict.log" | sed -n "s/^bench,\(.*\)/$kind,\1,$round/p" >>"$out/bench.csv.new"
		s=0
		"$TOP/scripts/judge.sh" "$logs" || s=$?
		[ $s -eq 0 ] || status=$s
	done
done
# What was not asked for now is kept from before.  What was and failed has no figure.
[ ! -f "$out/bench.csv" ] ||
	awk -F, -v kinds=" ${kinds[*]} " -v only=" ${ONLY:-} " '
		{ split($3, p, " ") }
		index(kinds, " " $1 " ") && (only ~ /^ *$/ || index(only, " " $2 " ") || index(only, " " $2 "," p[1] " ")) { next }
		{ print }' "$out/bench.csv" >>"$out/bench.csv.new"
mv "$out/bench.csv.new" "$out/bench.csv"
mv "$out/about.txt.new" "$out/about.txt"
cat "$out/about.txt"
s=0
table "$out" || s=$?
[ $status -ne 0 ] || status=$s
exit $status
