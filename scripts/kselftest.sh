#!/bin/bash
# kselftest.sh - do the tests work as tools/testing/selftests/cow_pte of a kernel tree?
#
# Usage: scripts/kselftest.sh [TEST]
#
# Copies selftests/cow_pte to tools/testing/selftests of build/linux, has the kernel's
# own makefiles build, install and pack it, runs run_kselftest.sh with TEST (default
# interface) from what was installed, in the VM with this machine's programs, and
# takes the copy away.  "make run_tests" is for the kernel that is running: on this
# machine each test must say that there is nothing to test; where the kernel has
# vm.cow_pte this is left out.
#
# Environment: LINUX, BUILD, MEM, CPUS, ACCEL as for vm.sh.
# Exit status: that of judge.sh, or 125 if something does not build.

. "$(dirname "$0")/lib.sh"
want_help "$@"
test=${1:-interface}
[ -f "$TOP/selftests/cow_pte/$test.c" ] || die 2 "there is no test $test: 'make -s -C selftests/cow_pte list' names them"
image=$(image debug)
"$TOP/scripts/deps.sh" rsync perl
lock_build
copy=$LINUX/tools/testing/selftests/cow_pte
[ ! -e "$copy" ] || die 2 "$copy exists already: remove it first"
out=$BUILD/kselftest
rm -rf "$out"
mkdir -p "$out" "$BUILD/logs"
trap 'rm -rf "$copy"' EXIT
cp -r "$TOP/selftests/cow_pte" "$copy"
{
	make -s -C "$LINUX" O="$out/headers" headers
	for what in install gen_tar; do
		make -C "$LINUX/tools/testing/selftests" TARGETS=cow_pte OUTPUT="$out/obj" INSTALL_PATH="$out/install" \
			KHDR_INCLUDES="-isystem $out/headers/usr/include" $what
	done
	if [ ! -e /proc/sys/vm/cow_pte ]; then
		make -C "$LINUX/tools/testing/selftests" TARGETS=cow_pte OUTPUT="$out/obj" \
			KHDR_INCLUDES="-isystem $out/headers/usr/include" run_tests | tee "$out/run_tests"
	fi
	git_linux status --porcelain --untracked-files=all >"$out/status"
} >"$out/log" 2>&1 9>&- || die 125 "it does not build, see $out/log"
tar=$(find "$out" "$copy/.." -maxdepth 3 -name 'kselftest.tar*' | head -n 1)
[ -n "$tar" ] || die 125 "gen_tar has packed nothing, see $out/log"
[[ $(tar tf "$tar") == *cow_pte/$test* ]] || die 125 "$tar has no $test, see $out/log"
mv "$tar" "$out/" 2>/dev/null || true
if [ -f "$out/run_tests" ]; then
	tests=$(make -s --no-print-directory -C "$TOP/selftests/cow_pte" list | wc -l)
	skipped=$(grep -c '^ok [0-9]* selftests: cow_pte: .* # SKIP' "$out/run_tests" || true)
	{ [ "$skipped" -ge "$tests" ] && ! grep -q '^not ok' "$out/run_tests"; } ||
		die 125 "run_tests: $skipped of $tests tests were skipped on this machine, see $out/log"
	note "run_tests: $skipped tests, all skipped without vm.cow_pte"
fi
# What .gitignore of the tests forgets would show up here.
if grep -v '^?? tools/testing/selftests/cow_pte/[^/]*\.[ch]$' "$out/status" | grep -vE '/(\.gitignore|Makefile|config|settings|launcher\.sh)$'; then
	die 125 "the build leaves files behind that .gitignore does not name: add them to selftests/cow_pte/.gitignore"
fi

logs=$(mktemp -d "$BUILD/logs/$(date +%Y%m%d-%H%M%S)-kselftest-XXXX")
cat >"$logs/kselftest" <<-END
	#!/bin/sh
	. /bin/host-root
	host_root || exit 1
	chroot \$root /bin/bash -c 'cd $out/install && ./run_kselftest.sh -t cow_pte:$test | cat'
	host_root_leave
END
chmod +x "$logs/kselftest"
vm -p '^(ok|not ok) ' -l "$logs" -k "$image" -t 900 -v /:host test "$logs/kselftest" || true
"$TOP/scripts/judge.sh" "$logs"
