#!/bin/sh
# System calls per transaction of a running proxy: immune to the noise of a small machine, and most of a pooler's cost.
#
#   bench/syscalls.sh URL PID [clients] [seconds] [pgbench -M mode]
#
# URL leads through the proxy to a database with pgbench's tables, PID is the proxy's process. Needs strace and the
# right to trace PID. strace slows the proxy down a lot: only the counts mean something, not the times.
set -eu

usage='usage: syscalls.sh URL PID [clients] [seconds] [mode]'
url=${1:?$usage}
pid=${2:?$usage}
clients=${3:-8}
seconds=${4:-5}
mode=${5:-simple}
command -v strace >/dev/null || { echo "strace is not installed" >&2; exit 1; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/point.sql" <<'SQL'
\set aid random(1, 100000 * :scale)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SQL
: >"$dir/strace"
strace -c -f -p "$pid" -o "$dir/counts" 2>"$dir/strace" &
tracer=$!
# strace says so once it is attached.
tries=0
until grep -q attached "$dir/strace"; do
    kill -0 "$tracer" 2>/dev/null || { cat "$dir/strace" >&2; exit 1; }
    tries=$((tries + 1))
    test "$tries" -lt 100 || { echo "strace did not attach" >&2; exit 1; }
    sleep 0.05
done
pgbench -n -M "$mode" -c "$clients" -j 1 -T "$seconds" -D scale=1 -f "$dir/point.sql" "$url" >"$dir/pgbench" 2>&1 ||
    { cat "$dir/pgbench" >&2; kill "$tracer"; exit 1; }
kill -INT "$tracer"
wait "$tracer" 2>/dev/null || true
transactions=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$dir/pgbench")
test "${transactions:-0}" -gt 0 || { cat "$dir/pgbench" >&2; exit 1; }

echo "$transactions transactions, $clients clients, -M $mode"
echo
echo "| system call | per transaction |"
echo "|---|---|"
# The column before an optional error count is the number of calls; the name comes last.
awk -v n="$transactions" '
    $1 ~ /^[0-9.]+$/ && NF >= 5 && $NF != "total" { calls[$NF] = $4; all += $4 }
    END { for (name in calls) if (calls[name] / n >= 0.005) printf "%.2f %s\n", calls[name] / n, name; printf "%.2f all\n", all / n }
' "$dir/counts" | sort -rn | awk '{ printf "| %s | %s |\n", $2, $1 }'
