#!/bin/bash
# programs.sh - build the test programs, static, for the VM
#
# Usage: scripts/programs.sh
#
# Builds selftests/cow_pte, selftests/harness/fork_smoke and the launcher of the kernel
# tree into build/selftests and prints that directory on its last line.
#
# Environment: BUILD, LINUX, JOBS.  Exit status: 0, 2 set-up, 125 they do not build.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need gcc make
out=$BUILD/selftests
mkdir -p "$out" 2>/dev/null || die 2 "cannot create $out: set BUILD= to a directory that you may write to"
[ -f "$LINUX/tools/mm/cow-pte.c" ] || die 2 "$LINUX has no launcher: run 'make apply'"
log=$BUILD/selftests.log
# Two runs at a time may use the same programs: one builds, and nothing is ever half there.
[ -w "$BUILD" ] || die 2 "cannot write to $BUILD: set BUILD= to another directory"
exec 8>"$BUILD/selftests.lock"
flock 8
compile() { # PROGRAM SOURCE
	gcc -O2 -Wall -Wextra -static -o "$out/.$1.new" "$2" && mv "$out/.$1.new" "$out/$1"
}
if ! { make -s -j"$JOBS" -C "$TOP/selftests/cow_pte" OUTPUT="$out" CC=gcc LDFLAGS=-static CPPFLAGS=-Werror=unused all &&
	compile fork_smoke "$TOP/selftests/harness/fork_smoke.c" &&
	compile cow-pte "$LINUX/tools/mm/cow-pte.c" &&
	cp "$TOP/selftests/cow_pte/launcher.sh" "$out/"; } >"$log" 2>&1; then
	grep -m 5 -E 'error|Error' "$log" >&2 || tail -n 5 "$log" >&2
	die 125 "the test programs do not build, see $log"
fi
say "$out"
