#!/bin/bash
# bench.sh - the fork figures of run.sh, without redis
#
# Usage: scripts/bench.sh
#
# Environment: as for run.sh; SIZES chooses the sizes in MiB.

. "$(dirname "$0")/lib.sh"
want_help "$@"
exec "$TOP/scripts/run.sh" no-redis
