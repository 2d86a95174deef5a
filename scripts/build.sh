#!/bin/bash
# build.sh - build a kernel of one flavour
#
# Usage: scripts/build.sh vm|debug|kcsan|gdb [base]
#
#   vm     no debugging, for figures
#   debug  lockdep, KASAN, DEBUG_VM, PAGE_TABLE_CHECK, fault injection
#   kcsan  the data race detector
#   gdb    with line numbers and types, for a debugger
#          (configs/flavours lists the fragments of each)
#   base   build the branch "base" (without the series) instead
#
# The objects are in build/linux/out-FLAVOUR: inside the tree, so that no absolute
# path is on a command line and ccache works across directories.  Prints the path
# of the kernel image on its last line.
#
# Environment: BUILD, LINUX, JOBS, O (object directory; that of "base" is O-base).
# Exit status: 0, 2 set-up, 125 it cannot be configured or built, 130 interrupted.

. "$(dirname "$0")/lib.sh"
want_help "$@"
flavour=${1:-}
read -ra fragments < <(sed -n "s/^$flavour: *//p" "$TOP/configs/flavours") || true
[ ${#fragments[@]} -gt 0 ] ||
	die 2 "no flavour '$flavour': $(sed -n 's/^\([a-z]*\):.*/\1/p' "$TOP/configs/flavours" | paste -s -d ' '), see --help"
need gcc make flex bison bc
lock_build
[ -f "$LINUX/Makefile" ] || die 2 "$LINUX is not there: run 'make apply'"

tree=$LINUX
out=${O:-$LINUX/out-$flavour}
if [ "${2:-}" = base ]; then
	# A worktree beside the branch, so that neither build disturbs the other.
	tree=$BUILD/linux-base
	[ -d "$tree" ] || git_linux worktree add -q --detach "$tree" "$BASE_BRANCH"
	git_plain -C "$tree" checkout -q -f --detach "$BASE_BRANCH"
	# Two trees, two directories for their objects.
	out=${O:+$O-base}
	out=${out:-$tree/out-$flavour}
fi
need_space 3000
mkdir -p "$out"

cc=gcc
if command -v ccache >/dev/null; then
	cc="ccache gcc"
	export CCACHE_NOHASHDIR=1
	export CCACHE_COMPRESS=1
fi
export KBUILD_BUILD_TIMESTAMP='2026-01-01' KBUILD_BUILD_USER=cow-pte KBUILD_BUILD_HOST=cow-pte
# LOCALVERSION= keeps the state of git out of the version.
kbuild=(make -s -C "$tree" O="$out" CC="$cc" HOSTCC="$cc" LOCALVERSION=)

files=()
for f in "${fragments[@]}"; do files+=("$TOP/configs/$f.config"); done
grep -q '^config COW_PTE$' "$tree/mm/Kconfig" && files+=("$TOP/configs/cow-pte.config")

# A new .config only if the fragments or the Kconfig files have changed.
key=$( (
	cat "${files[@]}"
	cd "$tree" && git ls-files -z '*Kconfig*' | xargs -0 cat
) | sha256sum | cut -c1-16)
if [ ! -f "$out/.config" ] || [ "$(cat "$out/.cow-pte-config" 2>/dev/null)" != "$key" ]; then
	log=$out/config.log
	{
		"${kbuild[@]}" tinyconfig
		(cd "$tree" && scripts/kconfig/merge_config.sh -m -O "$out" "$out/.config" "${files[@]}")
		"${kbuild[@]}" olddefconfig
	} >"$log" 2>&1 || {
		tail -n 5 "$log" >&2
		die 125 "cannot configure, see $log"
	}
	# merge_config.sh only warns of what did not stick.
	missing=$(cat "${files[@]}" | grep -E '^(CONFIG_|# CONFIG_.* is not set)' | sort -u |
		grep -vxFf "$out/.config" || true)
	[ -z "$missing" ] || die 125 "not in the resulting .config: ${missing//$'\n'/, }: give it in configs/ what it depends on, or take it out there"
	printf '%s\n' "$key" >"$out/.cow-pte-config"
fi

log=$out/build.log
note "building flavour $flavour with $JOBS jobs, log in $log"
"${kbuild[@]}" -j"$JOBS" bzImage >"$log" 2>&1 9>&- </dev/null &
watch_build $! "$out" "$log" ||
	die 125 "the build failed, see $log; after a build that was killed run 'make clean' first"
note "flavour $flavour built in $(elapsed)"
say "$out/arch/x86/boot/bzImage"
