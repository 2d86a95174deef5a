# shellcheck shell=bash
# Sourced by the other scripts: paths, messages, exit statuses.
#
# Exit statuses: 0 clean, 1 a test failed, 2 set-up, 3 splat or leak,
# 4 nothing ran, 5 VM lost or TAP cut short, 124 time-out, 125 cannot apply or
# build.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A make above this one must not talk to the makes below.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

BUILD=$(realpath -m "${BUILD:-$TOP/build}")
[ -z "${O:-}" ] || O=$(realpath -m "$O")
LINUX=$(realpath -m "${LINUX:-$BUILD/linux}")
JOBS=${JOBS:-$(nproc)}
export BASE_BRANCH=base
BRANCH=${BRANCH:-cow-pte}
export TOP BUILD LINUX JOBS BRANCH

say() { printf '%s\n' "$*"; }
note() { printf '[%s] %s\n' "$(basename "$0" .sh)" "$*"; }
die() {
	local status=$1
	shift
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit "$status"
}

# make and QEMU take blanks and colons for ends of names.
for dir in "the project=$TOP" "BUILD=$BUILD" "LINUX=$LINUX" "O=${O:-}"; do
	case ${dir#*=} in
	*[[:space:]:]*) die 2 "${dir%%=*} is '${dir#*=}': blanks and colons in the name of a directory do not work, choose another" ;;
	esac
done

# ^C ends the whole command, with what it started in the background.
child=
interrupted() {
	trap '' INT TERM
	[ -z "$child" ] || { kill "$child" && wait "$child"; } 2>/dev/null || true
	exit 130
}
trap interrupted INT TERM

# vm ARGUMENTS...: vm.sh.  How the job went is said by judge.sh; returns 1 if it did not
# come to its end.  Without a VM, or after ^C, nothing follows.
vm() {
	local s=0
	"$TOP/scripts/vm.sh" "$@" &
	child=$!
	wait "$child" || s=$?
	child=
	case $s in
	0) ;;
	5 | 124) return 1 ;;
	*) exit $s ;;
	esac
}

# watch_build PID OUT LOG: wait for a make in the background, and say how far it is.
watch_build() {
	local s=0 every=60 next
	child=$1
	[ ! -t 1 ] || every=2
	next=$((SECONDS + every))
	touch "$2/.cow-pte-start"
	while kill -0 "$1" 2>/dev/null; do
		sleep 0.5
		[ $SECONDS -ge $next ] || continue
		next=$((SECONDS + every))
		note "$(find "$2" -name '*.o' -newer "$2/.cow-pte-start" 2>/dev/null | wc -l) objects built after $(elapsed)"
	done
	wait "$1" || s=$?
	child=
	[ $s -eq 0 ] || grep -m 5 -E '(error|Error|undefined reference)' "$3" >&2 || tail -n 5 "$3" >&2
	return $s
}

# amount LOGS: seeds, and how much was done, as the tests have said it.
amount() {
	tr -d '\r' <"$1/verdict.log" | awk '
		# Cases that say no more than how many rounds are counted, the others printed.
		function flush(title) {
			if (said != "") print name ": " title said
			said = ""
		}
		/^@begin / { flush(""); name = $2; next }
		/^(not )?ok / { sub(/^(not )?ok [0-9]+ /, ""); flush($0 ": "); next }
		!/^# / { next }
		{ sub(/^# /, "") }
		/^seed [0-9]/ { print name ": " $0 }
		/^[0-9]+ rounds:/ { rounds[name] += $1; said = said (said == "" ? "" : "; ") $0; next }
		/^[0-9]+ rounds/ {
			rounds[name] += $1
			n = $1
			sub(/^[0-9]+ rounds/, "")
			sum[name, $0] += n
			cases[name, $0]++
			next
		}
		/^[0-9]+ ([a-z]+: .* shared|runs, )/ { print name ": " $0 }
		END {
			flush("")
			for (k in sum) {
				split(k, of, SUBSEP)
				print of[1] ": " sum[k] " rounds of " cases[k] " cases" of[2]
			}
			for (name in rounds) print name ": " rounds[name] " rounds in all"
		}' |
		sort -s -t: -k1,1
}

# --help prints the comment at the top of the script.
usage() {
	awk 'NR == 1 { next } !/^#/ { exit } { sub(/^# ?/, ""); print }' "$0"
}
want_help() {
	case ${1:-} in
	-h | --help)
		usage
		exit 0
		;;
	-*) die 2 "unknown option $1, see --help" ;;
	esac
}

elapsed() { printf '%dm%02ds' $((SECONDS / 60)) $((SECONDS % 60)); }

need() {
	local cmd
	for cmd; do
		command -v "$cmd" >/dev/null || die 2 "$cmd is not installed: run 'make deps'"
	done
}

# One run at a time in a build directory: two would spoil each other's files.
# A kernel tree elsewhere (LINUX=) has its own lock.
lock_build() {
	local dir=$BUILD
	# In a worktree .git is a file.
	if [ "$LINUX" != "$BUILD/linux" ] && [ -e "$LINUX/.git" ]; then
		dir=$(git_plain -C "$LINUX" rev-parse --absolute-git-dir) || die 2 "$LINUX has a .git, but is no git tree: set LINUX= to one with the branches"
	fi
	[ "${COW_PTE_LOCKED:-}" != "$dir" ] || return 0
	mkdir -p "$BUILD" 2>/dev/null || die 2 "cannot create $BUILD: set BUILD= to a directory that you may write to"
	exec 9>"$dir/cow-pte.lock"
	flock -n 9 || die 2 "another run uses $dir: wait for it, or set BUILD= to another directory"
	export COW_PTE_LOCKED=$dir
}

# need_space MIB: refuse to start what would fill the disk.
need_space() {
	local free
	free=$(df -Pm "$BUILD" | awk 'NR == 2 { print $4 }')
	[ "$free" -ge "$1" ] || die 2 "$BUILD has $free MiB free, $1 MiB are needed: set BUILD= to a bigger disk"
}

# No user's settings: what git writes here must not depend on them.
git_plain() {
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null git -c gc.auto=0 -c safe.directory='*' "$@"
}
# image FLAVOUR: where build.sh puts the kernel
image() { say "${O:-$LINUX/out-$1}/arch/x86/boot/bzImage"; }
# need_image IMAGE: if it is not there, say what makes it
need_image() {
	local flavour
	[ ! -f "$1" ] || return 0
	case $1 in
	"$LINUX"/out-*/arch/x86/boot/bzImage)
		flavour=${1#"$LINUX"/out-}
		die 2 "$1 is not there: run 'make kernel FLAVOUR=${flavour%%/*}'"
		;;
	esac
	die 2 "$1 is not there: run 'make kernel', or name another image with -k"
}
# kmemleak IMAGE: what switches the detector on in a kernel that has it
kmemleak() {
	! grep -qx CONFIG_DEBUG_KMEMLEAK=y "${1%/arch/*}/.config" 2>/dev/null || say kmemleak=on
}
git_linux() { git_plain -C "$LINUX" "$@"; }
# which_series: a name for what patches/ has now, without a date
which_series() {
	(cd "$TOP/patches" && mapfile -t p < <(series) && cat series ${p[@]+"${p[@]}"}) | sha256sum | cut -c1-16
}
# The newest version in the cover letter, as in "v12"
series_version() { sed -n '/^v[0-9]\+:/{s/:.*//p;q}' "$TOP/Documentation/cover-letter.txt"; }
series() { grep -vE '^[[:space:]]*(#|$)' "$TOP/patches/series" 2>/dev/null || true; }
