#!/bin/bash
# fuzz.sh - the differential fuzzer in a VM, for as long as wanted
#
# Usage: scripts/fuzz.sh [-k IMAGE] [OPTION OF FUZZ...]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#
# Options of fuzz (selftests/cow_pte/fuzz --help): --seconds N for each of its two
# cases, --seed N of an earlier run, --shrink to make a run that fails smaller.
# Without any: --seconds 60.  With kmemleak, if the .config beside the image has it.  A run
# that failed is made smaller by --shrink with --seed, --ops and --depth as the failure has
# printed them.  Which seed the kernel was at when it
# reported a bug, or came to a stop, is in console.log ("fuzz: --seed ...").
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug)
if [ "${1:-}" = -k ]; then
	[ $# -ge 2 ] || die 2 "-k takes an image, see --help"
	image=$2
	shift 2
fi
[ $# -gt 0 ] || set -- --seconds 60
value=
for o; do
	case $value:$o in
	*:*[!-a-z0-9,_]*) die 2 "'$o' is no value for an option of fuzz, see --help" ;;
	yes:*) value= ;;
	:--shrink | :--thp) ;;
	:--seed | :--ops | :--depth | :--kinds | :--seconds | :--rounds | :--timeout) value=yes ;;
	*) die 2 "'$o' is no option of fuzz, see --help" ;;
	esac
done
seconds=600
for ((i = 1; i < $#; i++)); do
	next=$((i + 1))
	[ "${!i}" = --seconds ] || continue
	case ${!next} in '' | *[!0-9]*) die 2 "'${!next}' is no number of seconds: --seconds takes one, such as 600" ;; esac
	seconds=$((4 * ${!next} + 900))
done
case " $* " in *" --shrink "*) seconds=36000 ;; esac
programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-fuzz-XXXX")
# What /tests has is a script with the options.
printf '#!/bin/sh\nexec /bin/fuzz %s\n' "$*" >"$logs/fuzz"
chmod +x "$logs/fuzz"
vm -l "$logs" -k "$image" -t $seconds -T $((seconds + 300)) -a "numa=fake=2 kasan_multi_shot $(kmemleak "$image")" \
	-f "$programs/fuzz:/bin/fuzz" test "$logs/fuzz" || true
grep -E '^(# |not ok|smallest|this does)' "$logs/verdict.log" || true
"$TOP/scripts/judge.sh" "$logs"
