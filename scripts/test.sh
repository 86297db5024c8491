#!/usr/bin/env bash
# Runs every test of the workspace and ends with one line that says how it went.
#
# usage: test.sh [arguments for cargo test]
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$SECONDS

# All binaries run even after a failure: one run shows everything that is broken.
status=0
cargo test --workspace --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?

awk -v seconds=$((SECONDS - began)) -v status="$status" '
    /^test result: / {
        for (i = 1; i < NF; i++) {
            if ($(i + 1) == "passed;") passed += $i
            if ($(i + 1) == "failed;") failed += $i
            if ($(i + 1) == "ignored;") ignored += $i
        }
    }
    /^test .* FAILED$/ { names = names "\n  " $2 }
    END {
        if (names != "") print "failed:" names
        verdict = (status == 0) ? "ok" : "FAILED"
        printf "test run: %s. %d passed; %d failed; %d ignored; finished in %d s\n", \
            verdict, passed, failed, ignored, seconds
    }' "$log"
exit "$status"
