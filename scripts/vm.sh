#!/bin/bash
# vm.sh - boot a kernel in QEMU, run a job in it, leave the logs for judge.sh
#
# Usage: scripts/vm.sh [options] test PROGRAM...    run TAP programs
#        scripts/vm.sh [options] run SCRIPT         run a shell script that speaks TAP
#        scripts/vm.sh [options] shell              a shell on the terminal
#        scripts/vm.sh [options] probe              settle the acceleration only
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#   -l DIR      directory for the logs (default: a new one in build/logs)
#   -f FILE     put FILE into the guest too; SRC:DEST to choose where (repeatable)
#   -v DIR:TAG  let the guest read DIR over 9p, as TAG
#   -a ARGS     append to the kernel command line (repeatable)
#   -t SECONDS  limit for each test (default 300)
#   -T SECONDS  limit for everything after the boot (default 3000)
#   -b SECONDS  limit for the boot (default 300)
#   -p REGEX    show the lines of verdict.log that match as they come
#
# Prints which test begins, and after what time.  In the shell ^C is the guest's; ^A x
# ends the VM, ^A c is QEMU's monitor.
#
# The limits are for TCG; KVM keeps them with ease.
#
# Environment: MEM (MiB, default 4096), CPUS (default 2), QEMU (program), CPU (for its
# -cpu, default max,la57=off), GDB (a port on which to wait for a debugger),
# ACCEL=auto|kvm|tcg|icount.
# auto boots the kernel under KVM first, because a readable /dev/kvm proves
# nothing, and remembers the answer in build/accel.  icount counts instructions:
# one CPU, 2 ns of guest time each.
#
# Exit status: 0 the VM ran to the end of the job (judge.sh tells how it went), 2
# set-up, 5 the VM was lost, 124 a time limit, 130 interrupted.

. "$(dirname "$0")/lib.sh"
case ${1:-} in -h | --help) want_help --help ;; esac
image=$(image debug)
logs='' append='' files=() shares=() pattern=''
test_limit=300 limit=3000 boot_limit=300
while getopts k:l:f:v:a:t:T:b:p: opt; do
	case $opt in
	k) image=$OPTARG ;;
	l) logs=$OPTARG ;;
	f) files+=("$OPTARG") ;;
	v) shares+=("$OPTARG") ;;
	a) append+=" $OPTARG" ;;
	t) test_limit=$OPTARG ;;
	T) limit=$OPTARG ;;
	b) boot_limit=$OPTARG ;;
	p) pattern=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
shift $((OPTIND - 1))
kind=${1:-}
shift || true
qemu_bin=${QEMU:-qemu-system-x86_64}
[ -z "${QEMU:-}" ] || command -v "$QEMU" >/dev/null || die 2 "QEMU=$QEMU is not there: set it to a program, or leave it out"
need "$qemu_bin" cpio gzip
busybox=/bin/busybox
[ -x $busybox ] || die 2 "busybox-static is not installed: run 'make deps'"
need_image "$image"
mem=${MEM:-4096} cpus=${CPUS:-2} accel=${ACCEL:-auto}

if [ -z "$logs" ]; then
	mkdir -p "$BUILD/logs"
	logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-XXXX")
else
	[ ! -e "$logs/console.log" ] || die 2 "$logs has logs already: name another directory with -l"
	mkdir -p "$logs"
fi

# The initramfs: busybox, init, the job, the programs.
root=$(mktemp -d)
pid=
# shellcheck disable=SC2317 # the trap
clean_up() {
	[ -z "$pid" ] || { kill -9 "$pid" && wait "$pid"; } 2>/dev/null || true
	rm -rf "$root" "$logs/initramfs.gz"
	[ "$kind" != shell ] || { rm -f "$logs/verdict.log" && rmdir "$logs"; } 2>/dev/null || true
}
trap clean_up EXIT
for d in bin tests etc root proc sys dev tmp run mnt/disk var/tmp; do mkdir -p "$root/$d"; done
cp $busybox "$root/bin/busybox"
# Its shell runs all applets without these; programs may want some.
for p in sh cat sleep true false poweroff chroot env; do ln -s busybox "$root/bin/$p"; done
cp "$TOP/scripts/guest/init" "$root/init"
cp "$TOP/scripts/guest/host-root" "$TOP/scripts/guest/host" "$root/bin/"
case $kind in
test)
	[ $# -gt 0 ] || die 2 "no test programs given, see --help"
	{
		say test
		say "$test_limit"
		for p; do
			[ -x "$p" ] || die 2 "$p is not there or not executable: scripts/programs.sh builds the tests, chmod +x makes a script one"
			cp "$p" "$root/tests/"
			basename "$p"
		done
	} >"$root/job"
	sed 1,2d "$root/job" >"$logs/tests"
	;;
run)
	[ -f "${1:-}" ] || die 2 "'${1:-}' is no script: name a file, see --help"
	cp "$1" "$root/run-job"
	printf 'run\n0\n' >"$root/job"
	say run >"$logs/tests"
	;;
probe) ;;
shell) printf 'shell\n0\n' >"$root/job" ;;
*) die 2 "usage: vm.sh [options] test|run|shell ..., see --help" ;;
esac
for f in ${files[@]+"${files[@]}"}; do
	src=${f%%:*} dest=${f#*:}
	[ "$dest" != "$f" ] || dest=/tests/$(basename "$src")
	mkdir -p "$root$(dirname "$dest")"
	cp -L "$src" "$root$dest" || die 2 "cannot copy $src into the guest: -f takes a file that you may read"
done
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$logs/initramfs.gz"

qemu() {
	local acc=$1
	shift
	cmd=("$qemu_bin" -machine pc -m "$mem" -no-reboot -display none
		-kernel "$image" -initrd "$logs/initramfs.gz"
		-device virtio-serial-pci -chardev "file,id=verdict,path=$logs/verdict.log"
		-device "virtserialport,chardev=verdict,name=verdict")
	case $acc in
	kvm) cmd+=(-accel kvm -cpu "${KVM_CPU:-host}" -smp "$cpus") ;;
	icount) cmd+=(-accel tcg -icount "shift=1,sleep=off" -cpu "${CPU:-max,la57=off}" -smp 1) ;;
	tcg) cmd+=(-accel "tcg,thread=multi" -cpu "${CPU:-max,la57=off}" -smp "$cpus") ;;
	*) die 2 "ACCEL=$acc is not known: set it to auto, kvm, tcg or icount" ;;
	esac
	local share
	for share in ${shares[@]+"${shares[@]}"}; do
		cmd+=(-virtfs "local,path=${share%:*},mount_tag=${share##*:},security_model=none,readonly=on,multidevs=remap")
	done
	cmd+=("$@")
}
# A busy host stops a virtual CPU for seconds: no timer check, patient watchdogs, no
# interpreted ACPI tables for the interrupts, which have a time limit.
cmdline="panic=-1 oops=panic slab_nomerge pci=noacpi no_timer_check watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 ramdisk_size=65536 brd.rd_nr=1 printk.time=1 $append"

# While instructions are counted, nothing may vary from run to run.
[ "$accel" != icount ] || cmdline+=" norandmaps"
if [ "$accel" = auto ]; then
	boot_id=$(cat /proc/sys/kernel/random/boot_id)
	if read -r accel KVM_CPU id 2>/dev/null <"$BUILD/accel" && [ "$id" = "$boot_id" ]; then
		:
	else
		accel=tcg KVM_CPU=none
		probe=$(mktemp -d)
		for c in host host,-arch-capabilities; do
			if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then break; fi
			KVM_CPU=$c
			qemu kvm -monitor none -serial "file:$probe/log" -append "console=ttyS0 $cmdline"
			timeout -s KILL 10 "${cmd[@]}" >/dev/null 2>&1 || true
			if grep -q 'Linux version' "$probe/log" 2>/dev/null; then
				accel=kvm
				break
			fi
		done
		rm -rf "$probe" "$logs/verdict.log"
		mkdir -p "$BUILD"
		printf '%s %s %s\n' "$accel" "$KVM_CPU" "$boot_id" >"$BUILD/accel"
		if [ "$accel" = kvm ]; then
			note "KVM boots a kernel here: using it"
		else
			note "KVM does not boot a kernel here: using TCG"
		fi
	fi
fi

[ "$kind" != probe ] || exit 0
debugger=()
if [ -n "${GDB:-}" ]; then
	debugger=(-S -gdb "tcp:127.0.0.1:$GDB")
	cmdline+=" nokaslr"
	note "waiting: gdb ${image%/arch/*}/vmlinux -ex 'target remote :$GDB'"
fi
if [ "$kind" = shell ]; then
	# Not -nographic: with it ^C would end QEMU.
	qemu "$accel" -serial mon:stdio ${debugger[@]+"${debugger[@]}"} -append "console=ttyS0 quiet $cmdline"
	say "${cmd[*]}"
	status=0
	"${cmd[@]}" || status=5
	exit $status
fi

qemu "$accel" -monitor none ${debugger[@]+"${debugger[@]}"} -serial "file:$logs/console.log" -append "console=ttyS0 $cmdline"
printf '%q ' "${cmd[@]}" >"$logs/command"
say "${cmd[*]}"
: >"$logs/verdict.log"
"${cmd[@]}" >"$logs/qemu.log" 2>&1 9>&- &
pid=$!
# What has come since: tests that begin, and what -p asks for.
total=$(wc -l <"$logs/tests") shown=0 nth=0
progress() {
	local lines line
	lines=$(wc -l <"$logs/verdict.log")
	[ "$lines" -gt "$shown" ] || return 0
	while read -r line; do
		case $line in
		"@begin run") ;;
		"@begin "*)
			nth=$((nth + 1))
			note "${line#@begin }: $nth of $total, after $(elapsed)"
			;;
		*) [ -z "$pattern" ] || [[ ! $line =~ $pattern ]] || note "after $(elapsed) $line" ;;
		esac
	done < <(tail -n +$((shown + 1)) "$logs/verdict.log" | head -n $((lines - shown)) | tr -d '\r')
	shown=$lines
}
began=$SECONDS start=$SECONDS booted=''
status=0
while kill -0 $pid 2>/dev/null; do
	sleep 0.5
	progress
	now=$((SECONDS - start))
	if [ -z "$booted" ]; then
		if grep -q '^@boot' "$logs/verdict.log"; then
			booted=1
			start=$SECONDS
		elif [ $now -ge "$boot_limit" ] && [ -z "${GDB:-}" ]; then
			note "no life after $boot_limit s: see $logs/console.log, -b gives it more"
			status=124
		fi
	fi
	# A debugger may stop the guest for as long as it likes.
	if [ -n "$booted" ] && [ -z "${GDB:-}" ] && [ $((SECONDS - start)) -ge "$limit" ]; then
		note "not done $limit s after the boot: see $logs/console.log, -T gives it more"
		status=124
	fi
	if [ $status -ne 0 ]; then
		kill -9 $pid 2>/dev/null || true
		break
	fi
done
wait $pid 2>/dev/null || true
pid=
progress
if [ $status -eq 0 ] && ! grep -q '^@done' "$logs/verdict.log"; then
	status=5
	note "the VM was lost: see $logs/qemu.log and $logs/console.log"
fi
printf '%s\n' $status >"$logs/vm.status"
note "$kind took $((SECONDS - began)) s, logs in $logs"
exit $status
