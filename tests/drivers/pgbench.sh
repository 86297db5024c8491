#!/bin/sh
# Unmodified pgbench (TPC-B) against a PostgreSQL or a Drover: no errors, and afterwards four sums that agree exactly.
#   tests/drivers/pgbench.sh URL     DRIVER_SHARDED=1: shard the tables, once before and once after loading
#   PGBENCH_CLIENTS, PGBENCH_SECONDS, PGBENCH_SCALE change the defaults 20, 3, 2
set -eu

url=$1
clients=${PGBENCH_CLIENTS:-20}
seconds=${PGBENCH_SECONDS:-3}
scale=${PGBENCH_SCALE:-2}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export PGCONNECT_TIMEOUT=10

quietly() {
    "$@" >"$dir/log" 2>&1 || {
        cat "$dir/log"
        return 1
    }
}

shard() {
    test -n "${DRIVER_SHARDED:-}" || return 0
    quietly psql -XqAt -v ON_ERROR_STOP=1 -d "$url" \
        -c "SELECT drover.shard_table('pgbench_accounts', key => 'aid')" \
        -c "SELECT drover.shard_table('pgbench_tellers', key => 'tid')" \
        -c "SELECT drover.shard_table('pgbench_branches', key => 'bid')" \
        -c "SELECT drover.shard_table('pgbench_history', key => 'aid')"
}

total=0
run() {
    for mode in simple extended prepared; do
        quietly pgbench -n -M "$mode" -c "$clients" -j 2 -T "$seconds" "$url"
        failed=$(sed -n 's/^number of failed transactions: \([0-9]*\).*/\1/p' "$dir/log")
        count=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$dir/log")
        if [ "${failed:-0}" -ne 0 ] || [ "${count:-0}" -eq 0 ] || grep -qi 'error\|aborted' "$dir/log"; then
            cat "$dir/log"
            return 1
        fi
        total=$((total + count))
        echo "$1 $mode: $count transactions"
    done
    for question in "sum(abalance) FROM pgbench_accounts" "sum(tbalance) FROM pgbench_tellers" \
        "sum(bbalance) FROM pgbench_branches" "sum(delta) FROM pgbench_history"; do
        psql -XqAt -d "$url" -c "SELECT $question"
    done >"$dir/sums"
    if [ "$(sort -u "$dir/sums" | wc -l)" -ne 1 ]; then
        echo "the sums differ:"
        cat "$dir/sums"
        return 1
    fi
    rows=$(psql -XqAt -d "$url" -c "SELECT count(*) FROM pgbench_history")
    test "$rows" = "$total" || { echo "$rows rows of history for $total transactions"; return 1; }
}

# Sharded while empty, then loaded.
quietly pgbench -i -I dt -s "$scale" "$url"
shard
quietly pgbench -i -I gvp -s "$scale" "$url"
run before
# Loaded, then sharded.
quietly pgbench -i -s "$scale" "$url"
shard
total=0
run after
quietly pgbench -i -I d "$url"
echo "$(pgbench --version), $total transactions, sums agree"
