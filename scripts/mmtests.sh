#!/bin/bash
# mmtests.sh - the kernel's own mm selftests, without the series and with sharing for all
#
# Usage: scripts/mmtests.sh [FLAVOUR]
#
# Builds tools/testing/selftests/mm of the patched tree, boots the unpatched kernel of
# FLAVOUR (default vm) and then the patched one with vm.cow_pte=2 and
# vm.cow_pte_min_entries=1, runs the programs of selftests/userland/mm.list in both,
# and compares exit statuses, failures and the number of what passed.  The two lists
# stay in build/mmtests.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: 0 the same, 1 not the same, 2 set-up, 5 a VM was lost, 125 a build failed.

. "$(dirname "$0")/lib.sh"
want_help "$@"
flavour=${1:-vm}
"$TOP/scripts/deps.sh" libcap-dev libnuma-dev liburing-dev
lock_build
out=$BUILD/mmtests
mkdir -p "$out/bin"
declare -A kernel
kernel[base]=$("$TOP/scripts/build.sh" "$flavour" base | tee /dev/stderr | tail -n 1)
kernel[patched]=$("$TOP/scripts/build.sh" "$flavour" | tee /dev/stderr | tail -n 1)
note "building the programs, log in $out/build.log"
{
	make -s -C "$LINUX" O="$out/headers" headers
	# khugepaged.c of 6.12 does not compile; -k makes the others.
	make -s -k -j"$JOBS" -C "$LINUX/tools/testing/selftests/mm" OUTPUT="$out/bin" \
		KHDR_INCLUDES="-isystem $out/headers/usr/include" || true
	git_linux clean -qfdX tools/testing/selftests
} >"$out/build.log" 2>&1
[ -x "$out/bin/cow" ] || die 125 "the programs do not build, see $out/build.log"
printf '%s\n' "$out/bin" >"$out/programs"

for what in base patched; do
	logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-mm-$what-XXXX")
	note "about 15 minutes: $what"
	"$TOP/scripts/vm.sh" -l "$logs" -k "${kernel[$what]}" -t 3000 -T 5400 -v /:host -a numa=fake=2 \
		-f "$out/programs:/programs" -f "$TOP/selftests/userland/mm.list:/mm.list" \
		run "$TOP/scripts/guest/mm-job" || true
	"$TOP/scripts/judge.sh" "$logs" || die 5 "the $what kernel did not come to the end, see $logs"
	tr -d '\r' <"$logs/verdict.log" | sed -n 's/^result|//p' >"$out/results.$what"
	tr -d '\r' <"$logs/verdict.log" | grep -E '^# (share|break)' | tail -n 1 || true
done
say "$(wc -l <"$out/results.patched") lines of results, $(grep -c 'exit status 0$' "$out/results.patched") programs without a failure"
if ! diff "$out/results.base" "$out/results.patched"; then
	die 1 "not the same"
fi
say "the same without the series and with it"
