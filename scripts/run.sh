#!/bin/bash
# run.sh - the main job: fork with and without shared page tables, side by side
#
# Usage: scripts/run.sh [no-redis]
#
# Boots the flavour "vm" and prints a table of fork times, page tables and RSS, then
# what redis-server's BGSAVE gains.  By default instructions are counted (2 ns of
# guest time each, QEMU's icount): the same figure on any machine.  They do not see
# cache misses; with ACCEL=kvm on real hardware the clock counts.
#
# Environment: SIZES (MiB, default "64 256 1024 2048"), REDIS_MIB (default 512), MEM
# (default 5120), ACCEL, LINUX, BUILD.  Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
want_help "$@"
SIZES=${SIZES:-64 256 1024 2048}
REDIS_MIB=${REDIS_MIB:-512}
case ${1:-} in
'') ;;
no-redis) REDIS_MIB=0 ;;
*) die 2 "'$1' is not 'no-redis', see --help" ;;
esac
[ "${ACCEL:-auto}" = kvm ] || ACCEL=icount
export ACCEL MEM=${MEM:-5120}

programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
files=(-f "$programs/bench_fork" -f "$programs/cow-pte")
if [ "$REDIS_MIB" -gt 0 ]; then
	# Debian's programs as they are, and the libraries that they need.
	for p in redis-server redis-cli; do
		need $p
		path=$(command -v $p)
		files+=(-f "$path:/bin/$p")
		while read -r lib; do files+=(-f "$lib:$lib"); done < <(ldd "$path" | grep -o '/[^ ]*' | sort -u)
	done
fi

note "about 10 minutes, of which redis-server takes 7"
mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-run-XXXX")
{
	printf 'SIZES="%s"\nREDIS_MIB=%s\n' "$SIZES" "$REDIS_MIB"
	cat "$TOP/scripts/guest/main-job"
} >"$logs/job"
vm -p '^# ' -l "$logs" -k "$(image vm)" -b 300 -T 3000 "${files[@]}" run "$logs/job" || true

unit="instructions counted, 2 ns each"
[ "$ACCEL" != kvm ] || unit="KVM, wall clock"
grep '^csv,\|^redis,' "$logs/verdict.log" | tr -d '\r' | awk -F, -v unit="$unit" '
	# csv,mode,size,runs,first,second,wait,rewrite,worst,rss,parent_rss,vmpte,tables,shares
	$1 == "csv" && NF >= 14 {
		k = $2 "," $3
		if (!($3 in known)) { known[$3] = 1; size[++sizes] = $3 }
		first[k] = $5; second[k] = $6; rss[k] = $10; pte[k] = $12; tables[k] = $13
	}
	$1 == "redis" { r[$2] = 1; rr[$2] = $3; r1[$2] = $4; r2[$2] = $5; rs[$2] = $6 }
	function ratio(a, b) { return b > 0 ? sprintf("%.0fx", a / b) : "-" }
	END {
		if (sizes) {
			printf "\nTime of fork in us (%s); memory of the child in kB.\n\n", unit
			printf "%6s %10s %10s %6s %10s %6s | %8s %8s | %8s %8s | %9s %9s\n", "MiB", "plain", "COW 1st", "", "COW 2nd", "", \
				"VmPTE", "COW", "tables", "COW", "VmRSS", "COW"
			for (i = 1; i <= sizes; i++) {
				s = size[i]; p = "plain," s; c = "cow," s
				printf "%6d %10.1f %10.1f %6s %10.1f %6s | %8d %8d | %8d %8d | %9d %9d\n", s, first[p], first[c], \
					ratio(first[p], first[c]), second[c], ratio(first[p], second[c]), \
					pte[p], pte[c], tables[p], tables[c], rss[p], rss[c]
				if (rss[p] != rss[c]) differs = 1
				last = s
			}
			p = "plain," last; c = "cow," last
			printf "\n\"tables\" is what the child adds to PageTables of the whole system.\n"
			printf "A process of %d MiB forks %s faster the first time and %s the second time; its child costs\n", \
				last, ratio(first[p], first[c]), ratio(first[p], second[c])
			same = differs ? "NOT THE SAME in both modes" : "the same in both modes"
			printf "%d kB of page tables instead of %d kB, and its VmRSS is %s.\n", tables[c], tables[p], same
		}
		if (("on" in r) && ("off" in r)) {
			printf "\nredis-server, unmodified, VmRSS %d MiB: latest_fork_usec of BGSAVE\n\n", rr["off"] / 1024
			printf "%10s %10s %10s %14s\n", "mode", "first", "second", "tables shared"
			printf "%10s %10d %10d %14d\n", "off", r1["off"], r2["off"], rs["off"]
			printf "%10s %10d %10d %14d\n", "on", r1["on"], r2["on"], rs["on"]
			printf "%10s %10s %10s\n\n", "", ratio(r1["off"], r1["on"]), ratio(r2["off"], r2["on"])
		}
	}'
grep '^ok.*the data loaded' "$logs/verdict.log" >/dev/null && say "The RDB file written with sharing was loaded by a second redis-server: equal digests."
say
"$TOP/scripts/judge.sh" "$logs"
