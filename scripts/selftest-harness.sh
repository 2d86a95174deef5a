#!/bin/bash
# selftest-harness.sh - prove that the harness sees what goes wrong
#
# Usage: scripts/selftest-harness.sh [-k IMAGE]
#
# Boots VMs whose test fails, hangs, panics, splats, leaks or stops halfway
# (selftests/harness) and compares the exit status of judge.sh with the one that it
# must be.  Needs a kernel of the debug flavour.  Prints TAP-like lines, then
# "N passed, M failed".
#
# Exit status: 0, 1 a verdict was wrong, 2 set-up.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug)
while getopts k: opt; do
	case $opt in
	k) image=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
guests=$TOP/selftests/harness
# The VMs are in the background, where ^C does not reach them.
trap 'trap "" INT TERM; kill $(jobs -p) 2>/dev/null; wait; exit 130' INT TERM
mkdir -p "$BUILD/logs"
work=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-harness-XXXX")

# Exit status expected, name of the guest, options for vm.sh.
alone='
3   panic
3   rss
3   warn
3   kasan
3   leak
3   kmemleak
3   kmemleak-off -a kmemleak=on
3   kmemleak-silent -a kmemleak=on
5   poweroff
5   garbage
124 hang     -t 3
124 loop     -t 3 -T 20
124 no-boot  -b 1
'
# These harm nothing but themselves: one VM for all of them.
together='
0 pass
1 fail
1 nested
1 status
4 skip
5 short
5 noplan
5 repeated
'

# In the background only: so that a signal reaches vm.sh it becomes the job.
boot() { # DIRECTORY OPTIONS... TEST...
	local dir=$1
	shift
	MEM=1024 CPUS=1 exec "$TOP/scripts/vm.sh" -l "$dir" -k "$image" -b 240 \
		-a initcall_blacklist=debug_vm_pgtable "$@" >"$dir.out" 2>&1
}

# Settle the acceleration before two VMs start side by side.
"$TOP/scripts/vm.sh" -k "$image" -l "$work/probe" probe
names=()
while read -r _ name; do
	[ -z "$name" ] || names+=("$guests/$name")
done <<<"$together"
boot "$work/together" test "${names[@]}" &
running=1
while read -r _ name options; do
	[ -n "$name" ] || continue
	[ $running -lt "$JOBS" ] || {
		wait -n || true
		running=$((running - 1))
	}
	program=$guests/$name
	[ -x "$program" ] || program=$guests/pass
	# shellcheck disable=SC2086
	boot "$work/$name" $options test "$program" &
	note "$name has been started after $(elapsed)"
	running=$((running + 1))
done <<<"$alone"
wait

# A directory for each test of the common VM: its lines, and what belongs to all.
while read -r _ name; do
	[ -n "$name" ] || continue
	mkdir -p "$work/$name"
	cp "$work/together/console.log" "$work/together/vm.status" "$work/$name/" || true
	say "$name" >"$work/$name/tests"
	awk -v n="$name" '/^@/ && NF > 1 && $1 != "@boot" && $1 != "@lockdep" && $1 != "@tainted" { mine = $2 == n }
		/^@(boot|lockdep|tainted|done)/ || mine' "$work/together/verdict.log" >"$work/$name/verdict.log" || true
done <<<"$together"

passed=0 failed=0
while read -r want name _; do
	[ -n "$name" ] || continue
	got=0
	"$TOP/scripts/judge.sh" "$work/$name" >"$work/$name.judge" 2>&1 || got=$?
	if [ $got -eq "$want" ]; then
		passed=$((passed + 1))
		say "ok $((passed + failed)) harness: $name gives $want"
	else
		failed=$((failed + 1))
		say "not ok $((passed + failed)) harness: $name gives $got, must be $want, see $work"
		sed 's/^/# /' "$work/$name.judge"
	fi
done <<<"$alone$together"
# KASAN's report must have been noticed by more than its text.
if grep -q 'tainted' "$work/kasan.judge" && grep -q 'lockdep' "$work/kasan.judge"; then
	passed=$((passed + 1))
	say "ok $((passed + failed)) harness: taint and the end of lockdep are noticed"
else
	failed=$((failed + 1))
	say "not ok $((passed + failed)) harness: taint or the end of lockdep went unnoticed, see $work"
fi
say "$passed passed, $failed failed"
[ $failed -eq 0 ] || exit 1
