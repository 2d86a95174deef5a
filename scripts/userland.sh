#!/bin/bash
# userland.sh - a Debian user space in the VM, with sharing for every process
#
# Usage: scripts/userland.sh [-k IMAGE] [FILE.job|kernel...]
#
#   -k IMAGE    kernel image (default: build/linux/out-debug/arch/x86/boot/bzImage)
#   FILE.job    shell scripts to do; without any, all of selftests/userland, and kernel
#   kernel      compile files of the kernel, four at a time, as a build in out-FLAVOUR
#               has done: two of mm/, and 22 for which the compiler reads less
#
# The guest reads this machine's root directory over 9p and writes to memory.  Each
# job of selftests/userland (shell, package tools, compiler, Python, Redis, gunicorn,
# others) is done with vm.cow_pte=0 and with vm.cow_pte=2, and some by the launcher, and
# must print the same.  With kmemleak, if the .config beside the image has it.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh.

. "$(dirname "$0")/lib.sh"
case ${1:-} in --help) want_help --help ;; esac
image=$(image debug)
while getopts k: opt; do
	case $opt in
	k) image=$OPTARG ;;
	*) die 2 "see --help" ;;
	esac
done
shift $((OPTIND - 1))
"$TOP/scripts/deps.sh" gunicorn
programs=$("$TOP/scripts/programs.sh" | tail -n 1)
[ -n "$programs" ] || exit 125
mkdir -p "$BUILD/logs"
logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-userland-XXXX")
# smallest NUMBER DIRECTORY...: the objects there that are compiled soonest, of a build in
# the current directory.  Headers are mostly read, a source is compiled, too.
smallest() {
	find "${@:2}" -name '.*.o.cmd' -exec awk '
		/^source_.*\.c$/ { print FILENAME, $3, 20 }
		/^  [^$ ]*\.h( |$)/ { print FILENAME, $1, 1 }' {} + >"$logs/reads"
	cut -d ' ' -f 2 "$logs/reads" | sort -u | xargs stat -L -c '%n %s' 2>/dev/null >"$logs/sizes" || true
	awk 'NR == FNR { size[$1] = $2; next }
		{ work[$1] += size[$2] * $3; if ($3 > 1 && $2 in size) source[$1] = 1 }
		END { for (o in source) print work[o], o }' "$logs/sizes" "$logs/reads" | sort -n |
		sed -n 's/^[0-9]* \(.*\/\)\.\(.*\)\.o\.cmd$/\1\2/p' | awk -v n="$1" 'NR <= n'
}
# kernel_job: the commands that have made some smaller objects go into a makefile;
# kbuild has quoted them for make.  Objects and lists go where the job is.
kernel_job() {
	local dir object name line n=0
	# There the guest has its own.
	case $LINUX in /tmp/* | /dev/* | /proc/* | /sys/*) return 0 ;; esac
	for dir in "$LINUX"/out-debug "$LINUX"/out-vm "$LINUX"/out-*; do
		[ ! -f "$dir/mm/.mmap.o.cmd" ] || break
	done
	[ -f "$dir/mm/.mmap.o.cmd" ] || return 0
	while read -r object; do
		name=${object//\//-}
		line=$(sed -n "s#^savedcmd_$object\\.o := \\(ccache \\)\\?\\(.*\\) -c -o $object\\.o \\([^ ;]*\\).*#\\2 -c -o /tmp/work/$name.o \\3#p" \
			"$dir/${object%/*}/.${object##*/}.o.cmd")
		[ -n "$line" ] || continue
		line=${line/-Wp,-MMD,${object%\/*}\/.${object##*\/}.o.d/-Wp,-MMD,\/tmp\/work\/$name.d}
		printf '%s.o:\n\tcd %s && %s\n' "$name" "$dir" "$line"
		n=$((n + 1))
	done < <(cd "$dir" && smallest 2 mm && smallest 22 lib kernel fs block) >"$logs/rules"
	[ -s "$logs/rules" ] || return 0
	{
		say "# $n files of the kernel, as they were compiled in $dir."
		say "cat >Makefile <<'RULES'"
		cat "$logs/rules"
		say RULES
		# make and gcc start their children without fork(); a shell forks.
		say "objects='$(sed -n 's/^\(.*\.o\):$/\1/p' "$logs/rules" | tr '\n' ' ')'"
		cat <<'JOB'
n=0
for o in $objects; do
	{ make -s $o || echo "$o does not compile"; } &
	n=$((n + 1))
	[ $((n % 4)) != 0 ] || wait
done
wait
# every one of them
sha256sum -- $objects
JOB
	} >"$logs/kernel.job"
	files+=(-f "$logs/kernel.job")
	note "kernel: $n objects, twice"
}
with_kernel() {
	kernel_job
	[ -f "$logs/kernel.job" ] || note "no kernel was built in $LINUX ('make kernel'), or the guest cannot see it there (BUILD= not below /tmp): its files are not compiled"
}
files=()
if [ $# -gt 0 ]; then
	for f; do
		if [ "$f" = kernel ]; then
			with_kernel
			continue
		fi
		case $f in *.job) [ -f "$f" ] ;; *) false ;; esac || die 2 "$f is no job: name a file *.job, as in selftests/userland, or kernel"
		files+=(-f "$f")
	done
else
	for f in "$TOP"/selftests/userland/*.job; do files+=(-f "$f"); done
	with_kernel
fi
note "about 40 minutes for all"
vm -p '^(ok|not ok|# [a-z]+, vm)' -l "$logs" -k "$image" -t 10000 -T 10400 -v /:host -a "$(kmemleak "$image")" "${files[@]}" \
	-f "$programs/cow-pte:/bin/cow-pte" test "$TOP/selftests/userland/userland" || true
grep -E '^# /tmp' "$logs/verdict.log" || true
"$TOP/scripts/judge.sh" "$logs"
