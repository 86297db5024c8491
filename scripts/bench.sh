#!/usr/bin/env bash
# Builds the release binary and measures it next to PgBouncer; arguments go to bench/pooler.py (--quick, --only cpu …).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release -p drover >&2
target=$(cargo metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
exec bench/pooler.py --drover "$target/release/drover" "$@"
