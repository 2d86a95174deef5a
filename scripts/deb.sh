#!/bin/bash
# deb.sh - Debian packages of a patched kernel, to install on a real machine
#
# Usage: scripts/deb.sh [config]
#
# Takes the configuration named by CONFIG=, else that of the running kernel
# (/boot/config-*) if it is a 6.12, else Debian's amd64 configuration of the package
# linux-config-6.12; adds configs/cow-pte.config; builds with the kernel's own bindeb-pkg
# and leaves the packages in build/deb.  A configuration of a distribution takes hours
# on two cores: LOCALMOD=1 builds the modules that are loaded now, and no others.
# With "config" it stops before it builds.
#
#	apt install ./build/deb/linux-image-*.deb ./build/deb/cow-pte_*.deb && reboot
#
# Environment: CONFIG, LOCALMOD, BUILD, LINUX, JOBS.  Exit status: 0, 2 set-up, 125 the
# kernel cannot be configured or built.

. "$(dirname "$0")/lib.sh"
want_help "$@"
case ${1:-} in '' | config) ;; *) die 2 "'$1' is not 'config', see --help" ;; esac
[ -f "$LINUX/Makefile" ] || die 2 "$LINUX is not there: run 'make apply'"
"$TOP/scripts/deps.sh" rsync debhelper libelf-dev libssl-dev kmod cpio dwarves
need gcc make flex bison bc
lock_build
config=${CONFIG:-}
if [ -z "$config" ]; then
	running=/boot/config-$(uname -r)
	case $(uname -r) in 6.12.*) [ ! -f "$running" ] || config=$running ;; esac
fi
out=$LINUX/out-deb
mkdir -p "$out" "$BUILD/deb"
if [ -z "$config" ]; then
	"$TOP/scripts/deps.sh" linux-config-6.12
	config=/usr/src/linux-config-6.12/config.amd64_none_amd64
	[ -f "$config.xz" ] || die 2 "$config.xz is not there: name a configuration with CONFIG="
	xz -dc "$config.xz" >"$out/.config.base"
	config=$out/.config.base
fi
[ -f "$config" ] || die 2 "$config is not there: name a configuration with CONFIG="
config=$(realpath "$config")
note "configuration: $config"
cc=gcc
! command -v ccache >/dev/null || cc="ccache gcc"
kbuild=(make -s -C "$LINUX" O="$out" CC="$cc" HOSTCC="$cc" LOCALVERSION=-cow-pte)
# Keys and certificates of the distribution are not here, and debug information takes
# most of the space.
cat >"$out/.fragment" <<'END'
CONFIG_SYSTEM_TRUSTED_KEYS=""
CONFIG_SYSTEM_REVOCATION_KEYS=""
CONFIG_DEBUG_INFO_NONE=y
# CONFIG_DEBUG_INFO_BTF is not set
# CONFIG_LOCALVERSION_AUTO is not set
END
make_config=olddefconfig
[ "${LOCALMOD:-0}" != 1 ] || make_config=localmodconfig
rm -f "$out/.config"
{
	(cd "$LINUX" && scripts/kconfig/merge_config.sh -m -O "$out" "$config" "$out/.fragment" "$TOP/configs/cow-pte.config") &&
		{ yes '' || true; } | "${kbuild[@]}" $make_config
} >"$out/config.log" 2>&1 || die 125 "cannot configure, see $out/config.log"
grep -qx 'CONFIG_COW_PTE=y' "$out/.config" ||
	die 125 "CONFIG_COW_PTE did not stick: it needs x86-64 and a page table lock for each table, see $out/config.log"
note "$(grep -c '=m$' "$out/.config" || true) modules, CONFIG_COW_PTE=y: $out/.config"
[ "${1:-}" != config ] || exit 0
need_space 20000
version=$("${kbuild[@]}" kernelversion)-cowpte1
note "building; log in $out/build.log"
# dpkg-buildpackage leaves its results one level above the objects.
"${kbuild[@]}" -j"$JOBS" bindeb-pkg KDEB_PKGVERSION="$version" >"$out/build.log" 2>&1 9>&- </dev/null &
watch_build $! "$out" "$out/build.log" ||
	die 125 "the build failed, see $out/build.log"
mv "$LINUX"/linux-*cowpte1* "$BUILD/deb/"

# The launcher and its man page are a package of their own: any kernel may be running.
pkg=$out/cow-pte-package
rm -rf "$pkg"
mkdir -p "$pkg/DEBIAN" "$pkg/usr/bin" "$pkg/usr/share/man/man1" "$pkg/usr/share/doc/cow-pte"
gcc -O2 -Wall -Wextra -o "$pkg/usr/bin/cow-pte" "$LINUX/tools/mm/cow-pte.c"
strip "$pkg/usr/bin/cow-pte"
gzip -9n <"$LINUX/tools/mm/cow-pte.1" >"$pkg/usr/share/man/man1/cow-pte.1.gz"
cp "$LINUX/Documentation/admin-guide/mm/cow_pte.rst" "$pkg/usr/share/doc/cow-pte/"
cat >"$pkg/DEBIAN/control" <<END
Package: cow-pte
Version: $version
Architecture: amd64
Maintainer: $(git_linux log -1 --format='%an <%ae>' "$BRANCH")
Depends: libc6
Section: admin
Priority: optional
Description: start programs whose forks share page tables
 cow-pte switches copy-on-write page tables on or off for a program and what it
 starts, and shows what a process shares.  It needs a kernel with CONFIG_COW_PTE.
END
dpkg-deb --root-owner-group --build "$pkg" "$BUILD/deb/cow-pte_${version}_amd64.deb" >/dev/null
note "done after $(elapsed)"
ls "$BUILD"/deb/*.deb
