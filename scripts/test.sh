#!/usr/bin/env bash
# Runs every test of the workspace and ends with a line that says how it went: "N passed, N failed".
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
        # What does not compile, or ends before it can say so, has failed too.
        if (status != 0 && failed == 0) failed = 1
        verdict = (status == 0) ? "ok" : "FAILED"
        printf "test run: %s in %d s, %d ignored\n", verdict, seconds, ignored
        printf "%d passed, %d failed\n", passed, failed
    }' "$log"
exit "$status"
