#!/bin/bash
# mmtests.sh - the kernel's own mm selftests, without the series and with sharing for all
#
# Usage: scripts/mmtests.sh [FLAVOUR]
#        scripts/mmtests.sh compare [DIR]
#
# Builds tools/testing/selftests/mm of the patched tree, boots the unpatched kernel of
# FLAVOUR (default vm), twice, and then the patched one with vm.cow_pte=2 and
# vm.cow_pte_min_entries=1, runs the programs of selftests/userland/mm.list in each,
# and compares exit statuses, failures and the number of what passed.  What a program
# gives on the patched kernel it must have given in one of the runs without.  The
# lists (results.base1, .base2, .patched) are in build/mmtests then, or in build/mmtests/FLAVOUR
# if that is not vm; those of the run that Documentation/testing.md tells of are kept in
# selftests/userland/mm-results.
# "compare" compares the lists of DIR (default: those that are kept) once more, without
# a VM.
# With kmemleak, if the .config beside an image has it.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh; RUNS="patched" leaves out
# what has been run before, and takes the lists of the flavour vm where there are none;
# PROGRAMS="cow soft-dirty" runs and compares these, and leaves what the lists have of
# the others.
# Exit status: 0 the same, 1 not the same, 2 set-up or no lists, 3 the patched kernel has
# reported a bug or a leak, 5 a VM was lost, 125 a build failed.

. "$(dirname "$0")/lib.sh"
want_help "$@"
programs=$TOP/selftests/userland/mm.list
only=
for p in ${PROGRAMS:-}; do
	grep -qE "^(race |nobody )?$p( |\$)" "$programs" || die 2 "there is no program '$p', see $programs"
	only=$only${only:+|}$p
done
[ -z "$only" ] || only="^(race |nobody )?($only)( |\$)"
# What a program gives with the series it must have given without it.
compare() { # DIR
	local f
	for f in base1 base2 patched; do
		[ -s "$1/results.$f" ] || die 2 "$1/results.$f is not there: run 'make mmtests'"
	done
	say "$(wc -l <"$1/results.patched") lines of results, $(grep -c 'exit status 0$' "$1/results.patched") programs without a failure"
	only=$only awk -F'|' -v base1="$1/results.base1" -v base2="$1/results.base2" -v patched="$1/results.patched" '
		function slurp(file, of,   line, f) {
			while ((getline line < file) > 0) {
				split(line, f, "|")
				of[f[1]] = of[f[1]] substr(line, length(f[1]) + 2) "\n"
				known[f[1]] = 1
			}
		}
		BEGIN {
			slurp(base1, b1); slurp(base2, b2); slurp(patched, p)
			for (k in known) {
				if (k !~ ENVIRON["only"])
					continue
				if (b1[k] != b2[k])
					printf "not the same twice without the series: %s\n", k
				if (p[k] != b1[k] && p[k] != b2[k]) {
					print k
					printf "without the series:\n%s", b1[k]
					print "with it:"
					printf "%s", p[k]
					bad = 1
				}
			}
			exit bad
		}' || die 1 "not the same, see above and $1/results.*: RUNS=patched make mmtests tries it once more"
	say "the same without the series and with it"
}

if [ "${1:-}" = compare ]; then
	compare "${2:-$TOP/selftests/userland/mm-results}"
	exit
fi
flavour=${1:-vm}
"$TOP/scripts/deps.sh" libcap-dev libnuma-dev liburing-dev
lock_build
out=$BUILD/mmtests
mkdir -p "$out/bin"
declare -A kernel
runs=${RUNS:-base1 base2 patched}
lists=$out
[ "$flavour" = vm ] || lists=$out/$flavour
mkdir -p "$lists"
# Seconds for each program, for all of them, and what to expect.  soft-dirty clears the
# bits 50,000 times, and each time walks all mappings.
limits=(900 5400 "about 10")
[ "$flavour" = vm ] || limits=(3600 18000 "more than 65")
case $runs in *base*)
	kernel[base]=$("$TOP/scripts/build.sh" "$flavour" base | tee /dev/stderr | tail -n 1)
	;;
esac
kernel[patched]=$("$TOP/scripts/build.sh" "$flavour" | tee /dev/stderr | tail -n 1)
note "building the programs, log in $out/build.log"
{
	make -s -C "$LINUX" O="$out/headers" headers
	# khugepaged.c of 6.12 wants a header that it does not include; -k makes the others.
	mm=$LINUX/tools/testing/selftests/mm
	make -s -k -j"$JOBS" -C "$mm" OUTPUT="$out/bin" \
		KHDR_INCLUDES="-isystem $out/headers/usr/include" || true
	gcc -w -O2 -D_GNU_SOURCE -isystem "$out/headers/usr/include" -I"$mm/.." -include "$mm/../kselftest.h" \
		-o "$out/bin/khugepaged" "$mm/khugepaged.c" "$mm/vm_util.c" "$mm/thp_settings.c" || true
	git_linux clean -qfdX tools/testing/selftests
} >"$out/build.log" 2>&1
for program in cow khugepaged; do
	[ -x "$out/bin/$program" ] || die 125 "$program does not build, see $out/build.log"
done
printf '%s\n' "$out/bin" >"$out/programs"
grep -E "${only:-.}" "$programs" >"$out/mm.list"

reported=0
for what in $runs; do
	logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-mm-$what-XXXX")
	note "${limits[2]} minutes: $what"
	vm -p '^# [a-z]' -l "$logs" -k "${kernel[${what%[12]}]}" -t "${limits[1]}" -T $((limits[1] + 600)) -v /:host \
		-a "numa=fake=2 SECONDS_EACH=${limits[0]} $(kmemleak "${kernel[${what%[12]}]}")" \
		-f "$out/programs:/programs" -f "$out/mm.list:/mm.list" \
		run "$TOP/scripts/guest/mm-job" || true
	s=0
	"$TOP/scripts/judge.sh" "$logs" || s=$?
	grep -q '^@done' "$logs/verdict.log" || die 5 "the $what kernel did not come to the end, see $logs"
	case $what:$s in
	*:0) ;;
	base*:3) note "the kernel without the series has reported a bug or a leak, see $logs" ;;
	*:3) reported=3 ;;
	*) die 5 "the run of the $what kernel is not complete, see $logs" ;;
	esac
	# Of what was not run now, the list keeps what it has.
	kept=
	if [ -n "$only" ] && [ -f "$lists/results.$what" ]; then
		kept=$(only=$only awk -F'|' '$1 !~ ENVIRON["only"]' "$lists/results.$what")
	fi
	{
		tr -d '\r' <"$logs/verdict.log" | sed -n 's/^result|//p'
		[ -z "$kept" ] || printf '%s\n' "$kept"
	} >"$lists/results.$what"
	tr -d '\r' <"$logs/verdict.log" | grep -E '^# (share|break)' | tail -n 1 || true
done
for what in base1 base2; do
	if [ ! -s "$lists/results.$what" ] && [ -s "$out/results.$what" ]; then
		note "what the unpatched kernel gives is of the flavour vm: $what"
		cp "$out/results.$what" "$lists/"
	fi
done
compare "$lists"
[ $reported -eq 0 ] || die 3 "the patched kernel has reported a bug or a leak, see above"
