#!/bin/bash
# apps.sh - real programs, with plain fork and with shared tables
#
# Usage: scripts/apps.sh [-k IMAGE] [-m MIB]
#
#   -k IMAGE    kernel image (default: build/linux/out-vm/arch/x86/boot/bzImage)
#   -m MIB      memory of each program, about (default 512)
#
# Redis saves while a client writes, AFL++ fuzzes SQLite with a database in memory,
# and a Python program forks workers, in a guest that reads this machine's root
# directory over 9p.  By default instructions are counted, 2 ns of guest time each, on
# one CPU.  The results are in build/apps: apps.csv, about.txt, table.txt.
#
# Environment: LINUX, BUILD, MEM (MiB, default 4096), ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image vm)
mib=512
while getopts k:m: opt; do
	case $opt in
	k) image=$OPTARG ;;
	m) mib=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
case $mib in '' | *[!0-9]* | 0*) die 2 "'$mib' is no number of MiB: -m takes one, such as 512" ;; esac
need_image "$image"
"$TOP/scripts/deps.sh" redis-server python3 afl++ libsqlite3-dev
programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
out=$BUILD/apps
mkdir -p "$out" "$BUILD/logs"
gcc -O2 -fsanitize-coverage=trace-pc "$TOP/selftests/apps/afl_state.c" /usr/lib/afl/afl-compiler-rt.o -o "$out/afl_state" -lsqlite3 >"$out/build.log" 2>&1 ||
	die 125 "afl_state.c does not build, see $out/build.log"
[ "${ACCEL:-auto}" != auto ] || export ACCEL=icount
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-apps-XXXX")
note "about 20 minutes"
vm -p '^(ok|not ok) ' -l "$logs" -k "$image" -t 5000 -T 5300 -v /:host -a "APPS_MIB=$mib" \
	-f "$programs/cow-pte:/bin/cow-pte" -f "$out/afl_state" \
	-f "$TOP/selftests/apps/redis.py" -f "$TOP/selftests/apps/cpython.py" test "$TOP/selftests/apps/apps" || true
{
	printf 'command: scripts/apps.sh -m %s\nacceleration: %s\n' "$mib" "${ACCEL:-}"
	printf 'kernel: %s, config %s\n' "$(cat "${image%/arch/*}/include/config/kernel.release")" \
		"$(sha256sum <"${image%/arch/*}/.config" | cut -c 1-16)"
	redis-server --version
	dpkg-query -W -f '${Package} ${Version}\n' afl++ libsqlite3-0 python3
} >"$out/about.txt"
tr -d '\r' <"$logs/verdict.log" | sed -n 's/^app,//p' >"$out/apps.csv"
awk -F, '{ k = $1 ", " $3; if (!(k in unit)) name[++n] = k; unit[k] = $4; v[k, $2] = $5 }
	END { printf "%-50s %-9s %12s %12s %8s\n", "program", "unit", "plain", "shared", "ratio"
	for (i = 1; i <= n; i++) { k = name[i]; printf "%-50s %-9s %12s %12s %8s\n", k, unit[k], v[k, "off"], v[k, "on"],
		(v[k, "off"] > 0 ? sprintf("%.3f", v[k, "on"] / v[k, "off"]) : "-") } }' "$out/apps.csv" | tee "$out/table.txt"
"$TOP/scripts/judge.sh" "$logs"
