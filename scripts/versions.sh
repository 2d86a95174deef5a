#!/bin/bash
# versions.sh - to which 6.12.y trees does the series apply, without fuzz?
#
# Usage: scripts/versions.sh [TREE...]
#
# Tries each version of linux-source-6.12 that the Debian archive has, and the unpacked
# kernel trees that are named.  Downloads 150 MB a version and unpacks the files that
# the series changes.  Prints a table.
#
# Environment: BUILD.  Exit status: 0 it applies to all, 1 not to all, 2 set-up, 4 there
# was nothing to try.

. "$(dirname "$0")/lib.sh"
want_help "$@"
need git xz tar dpkg-deb
mapfile -t patches < <(series)
[ ${#patches[@]} -gt 0 ] || die 2 "patches/series is empty: run 'make export'"
mapfile -t touched < <(cd "$TOP/patches" && sed -n 's#^--- a/##p' "${patches[@]}" | sort -u)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
status=0 tried=0

# try NAME DIRECTORY
try() {
	local index=$tmp/index.git p offsets=0 result=applies
	rm -rf "$index" "$2/.git"
	git_plain -C "$2" init -q
	for p in "${patches[@]}"; do
		if ! git_plain -C "$2" apply -v "$TOP/patches/$p" >"$tmp/log" 2>&1; then
			result="does not: ${p%.patch}"
			status=1
			break
		fi
		offsets=$((offsets + $(grep -c 'offset' "$tmp/log" || true)))
	done
	[ "$result" != applies ] || [ $offsets -eq 0 ] || result="applies, $offsets hunks at an offset"
	[ $tried -gt 0 ] || printf '%-32s %s\n' "tree" "the ${#patches[@]} patches"
	tried=$((tried + 1))
	printf '%-32s %s\n' "$1" "$result"
}
# The files that matter, from a copy: a tree is never changed.
pick() { # FROM TO
	local f
	for f in "${touched[@]}" Makefile; do
		[ ! -f "$1/$f" ] || install -D -m 644 "$1/$f" "$2/$f"
	done
}

for tree; do
	[ -f "$tree/Makefile" ] || die 2 "$tree is not a kernel tree: name the top of an unpacked one"
	mkdir "$tmp/tree"
	pick "$tree" "$tmp/tree"
	try "$tree" "$tmp/tree"
	rm -rf "$tmp/tree"
done
mapfile -t versions < <(apt-cache madison linux-source-6.12 | awk '{ print $3 }' | sort -uV)
for v in "${versions[@]}"; do
	mkdir "$tmp/deb" "$tmp/tree"
	(cd "$tmp/deb" && apt-get download -q "linux-source-6.12=$v" >"$tmp/log" 2>&1) || die 2 "cannot download linux-source-6.12 $v: $(tail -n 1 "$tmp/log"): check the network, run 'apt-get update'"
	dpkg-deb -x "$tmp"/deb/*.deb "$tmp/deb/x"
	wanted=()
	for f in "${touched[@]}" Makefile; do wanted+=("linux-source-6.12/$f"); done
	# New files of the series are in no tarball.
	tar -C "$tmp/tree" --strip-components=1 -xJf "$tmp"/deb/x/usr/src/linux-source-6.12.tar.xz "${wanted[@]}" 2>/dev/null || true
	[ -f "$tmp/tree/Makefile" ] || die 2 "linux-source-6.12 $v has no kernel tree, or ${TMPDIR:-/tmp} is full: set TMPDIR= to a bigger disk"
	try "Debian $v" "$tmp/tree"
	rm -rf "$tmp/deb" "$tmp/tree"
done
[ $tried -gt 0 ] || die 4 "apt knows no linux-source-6.12 and no tree was named: run 'apt-get update', or name one with ARGS="
exit $status
