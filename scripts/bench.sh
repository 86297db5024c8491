#!/usr/bin/env bash
# Builds the release binary and measures it next to PgBouncer; arguments go to bench/pooler.py (--quick, --only cpu …),
# after the word "crowd" to bench/crowd.py.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --profile dist -p drover >&2
target=$(cargo metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
script=pooler.py
if [ "${1:-}" = crowd ]; then
    script=crowd.py
    shift
fi
exec "bench/$script" --drover "$target/dist/drover" "$@"
