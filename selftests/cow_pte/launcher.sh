#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Tests of tools/mm/cow-pte: what it does with its arguments, which exit status
# it gives, whether the mode reaches the command and its children, and what
# --show and --system print.
#
# COW_PTE is the program; by default it is looked for in PATH, next to this
# script, in /tests and where the kernel tree has it.  Without the feature in the
# kernel only the errors are tested.  Some cases need root, for the sysctls.
#
# The cases are called by name, and numbers need no quotes:
# shellcheck disable=SC2317,SC2086

sysctl=/proc/sys/vm/cow_pte
here=$(dirname "$0")

for cow in "${COW_PTE:-cow-pte}" "$here/cow-pte" /tests/cow-pte \
	"$here/../../../mm/cow-pte"; do
	cow=$(command -v "$cow") && break
done
if [ -z "$cow" ]; then
	echo "TAP version 13"
	echo "1..0 # SKIP cow-pte is not in PATH, and COW_PTE does not name it"
	exit 4
fi

tmp=$(mktemp -d) || exit 1
before=$(cat $sysctl 2>/dev/null)
children=
clean_up() {
	[ -z "$before" ] || restore
	for child in $children; do
		stop "$child"
	done
	rm -rf "$tmp"
}
stop() {
	kill -9 "$1"
	wait "$1"
} 2>/dev/null
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# Not by way of the program under test.
feature=
! grep -q '^CowPTE:' /proc/self/status || feature=1

# Runs the program; leaves its output, its messages and its exit status.
run() {
	out=$("$cow" "$@" 2>"$tmp/err")
	rc=$?
	err=$(cat "$tmp/err")
}

note() {
	echo "$*" | sed 's/^/# /'
}

# A case fails by returning 1, and is skipped by returning 4 with a reason.
skip() {
	reason=$*
	return 4
}

expect() {
	[ "$2" = "$3" ] && return 0
	note "$1: expected '$2', got '$3'"
	note "stderr: $err"
	return 1
}

contains() {
	case $2 in *"$3"*) return 0 ;; esac
	note "$1: '$3' is not in '$2'"
	return 1
}

# An error: exit status, words of the message, arguments.  Nothing on stdout.
fails() {
	status=$1 words=$2
	shift 2
	run "$@"
	expect "exit status of cow-pte $*" "$status" $rc &&
		contains "message of cow-pte $*" "$err" "$words" &&
		expect "output of cow-pte $*" "" "$out"
}

set_sysctl() {
	echo "$1" >$sysctl || skip "needs root, to set vm.cow_pte"
} 2>/dev/null

restore() {
	echo "$before" >$sysctl
} 2>/dev/null

# Waits for a condition, 10 s at most.
wait_for() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || return 1
		sleep 0.1
	done
}

# The mode that --show has printed: on, off or unknown.
shown_mode() {
	echo "$out" | sed -n 's/^mode: *\([a-z]*\).*/\1/p'
}

# Expects a mode of what --show has printed, if the kernel tells modes.
expect_mode() {
	expect "exit status" 0 $rc || return 1
	mode=$(shown_mode)
	[ "$mode" != unknown ] ||
		{ skip "the kernel does not tell the mode of a process"; return; }
	expect mode "$1" "$mode"
}

field() {
	sed -n "s/^$2:[[:space:]]*\([0-9]*\).*/\1/p" "/proc/$1/status" 2>/dev/null
}

# --- errors, which need no feature ---

help() {
	for option in -h --help; do
		run $option
		expect "exit status" 0 $rc && contains "output" "$out" "Usage:" &&
			expect "messages" "" "$err" || return 1
	done
	lines=$(echo "$out" | wc -l)
	[ "$lines" -le 24 ] || { note "$lines lines"; return 1; }
}

no_command() {
	fails 125 "no command" && fails 125 "no command" --off &&
		fails 125 "no command" -v --
}

bad_option() {
	fails 125 "cow-pte --help" --nonsense true &&
		fails 125 "cow-pte --help" -x true &&
		fails 125 "cow-pte --help" --on=1 true &&
		fails 125 "cow-pte --help" --show &&
		fails 125 "cow-pte --help" --system --show $$ &&
		fails 125 "cow-pte --help" --system true &&
		fails 125 "cow-pte --help" --system $$ &&
		fails 125 "cow-pte --help" --off --show $$ &&
		fails 125 "cow-pte --help" --show $$ --show $$
}

bad_pid() {
	for pid in "" x 0 -1 +1 " 1" 1x 1.5 0x1 2147483648 \
		99999999999999999999; do
		fails 125 "is not a process ID" --show "$pid" || return 1
	done
	fails 125 "is not a process ID" -p -1
}

gone_pid() {
	sh -c : &
	pid=$!
	wait $pid
	fails 125 "there is no process $pid" --show $pid
}

is_sleep() {
	[ "$(cat "/proc/$1/comm" 2>/dev/null)" = sleep ]
}

is_zombie() {
	grep -qs '^State:.Z' "/proc/$1/status"
}

zombie() {
	# The exec leaves the child to a parent that never waits for it.
	sh -c 'sleep 60 & echo $! >"$1"; exec sleep 60' sh "$tmp/zombie" &
	parent=$!
	children="$children $parent"
	wait_for is_sleep $parent || { note "no parent"; return 1; }
	zombie=$(cat "$tmp/zombie")
	kill -9 "$zombie"
	wait_for is_zombie "$zombie" || { note "no zombie"; return 1; }
	fails 125 "zombie" --show "$zombie"
	result=$?
	stop $parent
	return $result
}

kernel_thread() {
	pid=$(grep -ls '^Kthread:.1' /proc/[0-9]*/status |
		sed -n '1s,[^0-9]*\([0-9]*\).*,\1,p')
	[ -n "$pid" ] || { skip "no kernel thread can be seen"; return; }
	fails 125 "kernel thread" --show "$pid"
}

full_disk() {
	[ -c /dev/full ] || { skip "no /dev/full"; return; }
	"$cow" --help >/dev/full 2>"$tmp/err"
	rc=$?
	err=$(cat "$tmp/err")
	expect "exit status" 125 $rc && contains "message" "$err" "output"
}

no_feature() {
	[ -z "$feature" ] || { skip "the kernel has the feature"; return; }
	fails 125 CONFIG_COW_PTE true && fails 125 CONFIG_COW_PTE --off true &&
		fails 125 CONFIG_COW_PTE --show $$ &&
		fails 125 CONFIG_COW_PTE --system
}

# --- running a command ---

exit_status() {
	for status in 0 1 3 125 255; do
		run sh -c "exit $status"
		expect "exit status" $status $rc || return 1
	done
}

killed() {
	run sh -c 'kill -TERM $$'
	expect "after SIGTERM" 143 $rc || return 1
	run --off sh -c 'kill -KILL $$'
	expect "after SIGKILL" 137 $rc
}

same_process() {
	"$cow" sh -c 'echo $$' >"$tmp/pid" &
	pid=$!
	wait $pid
	expect "PID" $pid "$(cat "$tmp/pid")"
}

not_executable() {
	echo "exit 0" >"$tmp/plain"
	chmod 644 "$tmp/plain"
	fails 126 "Permission denied" "$tmp/plain" &&
		fails 126 "Permission denied" "$tmp"
}

not_found() {
	fails 127 "not found" "$tmp/missing" && fails 127 "not found" "" &&
		fails 127 "PATH" cow-pte-no-such-command
}

no_interpreter() {
	printf '#!/bin/sh\nexit 0\n' >"$tmp/script"
	chmod 755 "$tmp/script"
	"$tmp/script" 2>/dev/null || { skip "cannot run scripts in $tmp"; return; }
	printf '#!%s/missing\n' "$tmp" >"$tmp/script"
	fails 127 interpreter "$tmp/script"
}

command_options() {
	# The $* is for the sh of the command.
	# shellcheck disable=SC2016
	set -- sh -c 'echo "$*"' sh --off -p 0 --system -- --nonsense
	run "$@"
	expect "arguments" "--off -p 0 --system -- --nonsense" "$out" || return 1
	run --on -- "$@"
	expect "arguments after --" "--off -p 0 --system -- --nonsense" "$out"
}

silent() {
	run sh -c 'echo out; echo err >&2'
	expect "exit status" 0 $rc && expect "output" out "$out" || return 1
	[ "$before" != 1 ] || expect "messages" err "$err"
}

verbose() {
	run -v sh -c 'echo out'
	expect "output" out "$out" && contains "messages" "$err" "mode on" ||
		return 1
	run --off --verbose sh -c 'echo out'
	expect "output" out "$out" && contains "messages" "$err" "mode off"
}

# --- the mode ---

# What these give to sh is for that sh to expand: $0 is cow-pte.
# shellcheck disable=SC2016
show_self='"$0" --show $$; exit $?'

mode_on() {
	run sh -c "$show_self" "$cow"
	expect_mode on || return
	run --on sh -c "$show_self" "$cow"
	expect_mode on || return
	run --off --on sh -c "$show_self" "$cow"
	expect_mode on
}

mode_off() {
	run --off sh -c "$show_self" "$cow"
	expect_mode off || return
	run --on --off sh -c "$show_self" "$cow"
	expect_mode off
}

off_under_on() {
	run --on "$cow" --off sh -c "$show_self" "$cow"
	expect_mode off
}

on_under_off() {
	run --off "$cow" --on sh -c "$show_self" "$cow"
	expect_mode on
}

# A fork, an exec, another fork and another exec later.
# shellcheck disable=SC2016
grandchild() {
	set -- sh -c 'sh -c "$1" "$0"; exit $?' "$cow" "$show_self"
	set -- sh -c '"$@"; exit $?' sh "$@"
	run --on "$@"
	expect_mode on || return
	run --off "$@"
	expect_mode off
}

# The mode of a command is not that of its parent.
# shellcheck disable=SC2016
parent_keeps() {
	run --on sh -c '"$0" --off true; "$0" --show $$; exit $?' "$cow"
	expect_mode on
}

# --- --show and --system ---

agrees() {
	run --show $pid
	shown=$(echo "$out" | sed -n \
		-e 's/^page tables: *\([0-9]*\) kB$/\1/p' \
		-e 's/^shared tables: *[0-9]* (\([0-9]*\) kB)$/\1/p' \
		-e 's/^saved: *at most \([0-9]*\) kB$/\1/p' \
		-e 's/^breaks: *\([0-9]*\)$/\1/p')
	# what is shared is what is saved, at most
	told=$(for f in VmPTE CowPTE CowPTE CowPTEBreaks; do field $pid $f; done)
	[ "$shown" = "$told" ]
}

show_running() {
	"$cow" sleep 60 &
	pid=$!
	children="$children $pid"
	wait_for is_sleep $pid || { note "sleep did not start"; return 1; }
	# It may still change its memory.
	wait_for agrees
	result=$?
	[ $result -eq 0 ] || note "shown: $out, the kernel's: $told"
	[ $result -ne 0 ] || { expect_mode on; result=$?; }
	stop $pid
	return $result
}

# As pidof(1) names them; one that is gone does not hide the other.
show_several() {
	sh -c : &
	gone=$!
	wait $gone
	run --show $$ $gone 1
	expect "exit status" 125 $rc &&
		contains "message" "$err" "there is no process $gone" &&
		expect "processes" "$$ 1" \
			"$(echo "$out" | sed -n 's/^process: *//p' | xargs)" &&
		expect "modes" 2 "$(echo "$out" | grep -c '^mode:')" || return 1
	run --show $$ true
	expect "exit status" 125 $rc &&
		contains "message" "$err" "'true' is not a process ID"
}

# shellcheck disable=SC2016
show_shared() {
	[ "$before" != 0 ] || { skip "vm.cow_pte is 0"; return; }
	mkfifo "$tmp/fifo"
	# A shell with some memory, whose child is a fork without exec and waits.
	"$cow" sh -c '
		memory=$(head -c 5242880 /dev/zero | tr "\0" x)
		( read line <"$1" ) &
		echo $! >"$2.new"
		mv "$2.new" "$2"
		wait
	' sh "$tmp/fifo" "$tmp/child" &
	parent=$!
	children="$children $parent"
	wait_for test -f "$tmp/child" || { note "no child"; return 1; }
	pid=$(cat "$tmp/child")
	children="$children $pid"
	run --show "$pid"
	stop "$pid"
	stop $parent
	expect "exit status" 0 $rc || return 1
	tables=$(echo "$out" | sed -n 's/^shared tables: *\([0-9]*\) .*/\1/p')
	if [ "${tables:-0}" -ne 0 ]; then
		# a bound, and never more than all its tables
		saved=$(echo "$out" | sed -n 's/^saved: *at most \([0-9]*\) kB$/\1/p')
		total=$(echo "$out" | sed -n 's/^page tables: *\([0-9]*\) kB$/\1/p')
		[ "${saved:-0}" -gt 0 ] && [ "$saved" -le "${total:-0}" ] && return 0
		note "$out"
		return 1
	fi
	if grep -qs '\[always\]' /sys/kernel/mm/transparent_hugepage/enabled; then
		skip "the memory may be mapped by huge pages"
		return
	fi
	note "$out"
	return 1
}

system() {
	run --system
	expect "exit status" 0 $rc && expect "messages" "" "$err" || return 1
	events=$(sed -n 's/^\(cow_pte_[a-z_]*\) .*/\1/p' /proc/vmstat)
	for name in $events vm.cow_pte vm.cow_pte_min_entries; do
		line=$(echo "$out" | grep "^$name ")
		expect "lines with $name" 1 "$(echo "$out" | grep -c "^$name ")" &&
			contains "$name" "$line" "  " || return 1
		case $line in
		*"new to this program"* | *[0-9])
			note "no description: $line"
			return 1
			;;
		esac
	done
	[ -n "$events" ] || { note "no events in /proc/vmstat"; return 1; }
}

sysctl_never() {
	set_sysctl 0 || return
	run true
	expect "exit status" 0 $rc &&
		contains "warning" "$err" "vm.cow_pte is 0" || return 1
	run --off true
	expect "exit status" 0 $rc && expect "messages" "" "$err" || return 1
	run --system
	contains "--system" "$out" "never" || return 1
	run sh -c "$show_self" "$cow"
	[ "$(shown_mode)" = unknown ] || contains "--show" "$out" "without effect"
}

sysctl_opt_in() {
	set_sysctl 1 || return
	for option in --on --off; do
		run $option true
		expect "exit status" 0 $rc && expect "messages" "" "$err" || return 1
	done
	run --system
	contains "--system" "$out" "opt-in"
}

sysctl_always() {
	set_sysctl 2 || return
	run --off true
	expect "exit status" 0 $rc &&
		contains "warning" "$err" "vm.cow_pte is 2" || return 1
	run true
	expect "exit status" 0 $rc && expect "messages" "" "$err" || return 1
	run --system
	contains "--system" "$out" "always"
}

errors="help no_command bad_option bad_pid gone_pid zombie kernel_thread full_disk no_feature"
cases="exit_status killed same_process not_executable not_found no_interpreter
	command_options silent verbose mode_on mode_off off_under_on on_under_off
	grandchild parent_keeps show_running show_several show_shared system sysctl_never
	sysctl_opt_in sysctl_always"

echo "TAP version 13"
# shellcheck disable=SC2086
set -- $errors $cases
echo "1..$#"

nr=0 passed=0 failed=0 skipped=0
# Not a name that a case uses.
for this; do
	nr=$((nr + 1))
	case " $errors " in
	*" $this "*) needed= ;;
	*) needed=1 ;;
	esac
	if [ -n "$needed" ] && [ -z "$feature" ]; then
		skip "the kernel has no CONFIG_COW_PTE"
	else
		$this
	fi
	result=$?
	[ -z "$before" ] || restore
	case $result in
	0)
		passed=$((passed + 1))
		echo "ok $nr $this"
		;;
	4)
		skipped=$((skipped + 1))
		echo "ok $nr # SKIP $this: $reason"
		;;
	*)
		failed=$((failed + 1))
		echo "not ok $nr $this"
		;;
	esac
done
echo "# Totals: pass:$passed fail:$failed skip:$skipped"

[ $failed -eq 0 ] || exit 1
[ $passed -gt 0 ] || exit 4
exit 0
