#!/usr/bin/env bash
# CPU microseconds per transaction, of Drover and of PgBouncer in the same run on the same machine: a point
# SELECT by shard key (pgbench -S), simple and prepared, few and many clients. Prints a Markdown table.
#
# CPU time is utime + stime of the process, from /proc. PgBouncer stands in front of one plain server with
# the same table; Drover in front of four shards.
#
# environment: SECONDS_EACH (10), SCALE (10, of pgbench), SHARDS (4), CLIENTS ("8 64")
set -euo pipefail
cd "$(dirname "$0")/.."

seconds_each=${SECONDS_EACH:-10}
scale=${SCALE:-10}
shards=${SHARDS:-4}
clients_list=${CLIENTS:-8 64}
user=drover
export PGPASSWORD=drover

work=$(mktemp -d)
chmod 711 "$work"
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2> /dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

say() { echo "bench: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

find_pgbench() {
    local candidate
    for candidate in "$(pg_config --bindir 2> /dev/null)/pgbench" /usr/lib/postgresql/*/bin/pgbench; do
        [ -x "$candidate" ] && echo "$candidate" && return
    done
    fail "no pgbench: it comes with the PostgreSQL server"
}

start_drover() {
    cargo build --release -p drover >&2
    local target
    target=$(cargo metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
    "$target/release/drover" dev --shards "$shards" --replicas 0 --dir "$work/data" \
        --listen 127.0.0.1:0 --http 127.0.0.1:0 > "$work/drover.out" 2> "$work/drover.err" &
    drover_pid=$!
    pids+=("$drover_pid")
    wait_for 60 grep -q postgresql:// "$work/drover.out" || fail "drover did not start: $(cat "$work/drover.err")"
    drover_port=$(sed -n -E 's|^postgresql://.*:([0-9]+)/.*|\1|p' "$work/drover.out")
    # The first port in the record is that of the home shard's primary.
    server_port=$(grep -m 1 '"port"' "$work/data/drover-dev.json" | tr -dc 0-9)
}

start_pgbouncer() {
    local as_user=()
    cat > "$work/pgbouncer.ini" << INI
[databases]
plain = host=127.0.0.1 port=$server_port dbname=plain
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $1
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $work/users.txt
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 20
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
INI
    echo "\"$user\" \"$PGPASSWORD\"" > "$work/users.txt"
    chmod 644 "$work/pgbouncer.ini" "$work/users.txt"
    # PgBouncer refuses to run as root.
    [ "$(id -u)" -ne 0 ] || as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    "${as_user[@]}" "$(PATH=$PATH:/usr/sbin command -v pgbouncer)" -q "$work/pgbouncer.ini" 2> "$work/pgbouncer.err" &
    pgbouncer_pid=$!
    pids+=("$pgbouncer_pid")
    pgbouncer_port=$1
    wait_for 5 psql -q -h 127.0.0.1 -p "$1" -U "$user" -c "SELECT 1" plain
}

load() {
    say "loading pgbench tables (scale $scale) into Drover and into a plain database"
    local drover=(-q -h 127.0.0.1 -p "$drover_port" -U "$user") server=(-q -h 127.0.0.1 -p "$server_port" -U "$user")
    "$pgbench" "${drover[@]}" -i -I dt -s "$scale" app 2> /dev/null
    psql "${drover[@]}" -v ON_ERROR_STOP=1 -o /dev/null -d app << 'SQL'
SELECT drover.shard_table('pgbench_accounts', key => 'aid');
SELECT drover.shard_table('pgbench_tellers', key => 'tid');
SELECT drover.shard_table('pgbench_branches', key => 'bid');
SELECT drover.shard_table('pgbench_history', key => 'aid', colocate_with => 'pgbench_accounts');
SQL
    "$pgbench" "${drover[@]}" -i -I gvp -s "$scale" app 2> /dev/null
    psql "${server[@]}" -d postgres -c "CREATE DATABASE plain"
    "$pgbench" "${server[@]}" -i -s "$scale" plain 2> /dev/null
}

# CPU clock ticks used by a process.
ticks() { awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }

# measure PID PORT DATABASE CLIENTS MODE: "microseconds-per-transaction transactions-per-second", or "n/a n/a".
measure() {
    local pid=$1 before after output transactions tps
    local arguments=(-n -S -h 127.0.0.1 -p "$2" -U "$user" -c "$4" -j 1 -M "$5")
    # Connections, plans and caches are made before the clock runs.
    "$pgbench" "${arguments[@]}" -T 2 "$3" > /dev/null 2> "$work/pgbench.err" || { echo "n/a n/a"; return; }
    before=$(ticks "$pid")
    output=$("$pgbench" "${arguments[@]}" -T "$seconds_each" "$3" 2> "$work/pgbench.err") || { echo "n/a n/a"; return; }
    after=$(ticks "$pid")
    transactions=$(sed -n -E 's/^number of transactions actually processed: ([0-9]+).*/\1/p' <<< "$output")
    tps=$(sed -n -E 's/^tps = ([0-9]+).*/\1/p' <<< "$output")
    awk -v ticks=$((after - before)) -v hertz="$(getconf CLK_TCK)" -v transactions="$transactions" -v tps="$tps" \
        'BEGIN { printf "%.1f %d\n", ticks / hertz * 1e6 / transactions, tps }'
}

pgbench=$(find_pgbench)
start_drover
load
started=
for port in 46432 46532 46632; do
    start_pgbouncer "$port" && started=1 && break
done
[ -n "$started" ] || fail "pgbouncer did not start: $(cat "$work/pgbouncer.err")"

echo "$(date -u +%Y-%m-%d), $(nproc) cores, $shards shards, scale $scale, $seconds_each s each," \
    "$(PATH=$PATH:/usr/sbin pgbouncer --version | head -n 1)"
echo
echo "| clients | protocol | Drover µs/transaction | PgBouncer µs/transaction | ratio | Drover tps | PgBouncer tps |"
echo "|---|---|---|---|---|---|---|"
for clients in $clients_list; do
    for mode in simple prepared; do
        read -r drover_us drover_tps < <(measure "$drover_pid" "$drover_port" app "$clients" "$mode")
        read -r bouncer_us bouncer_tps < <(measure "$pgbouncer_pid" "$pgbouncer_port" plain "$clients" "$mode")
        ratio=$(awk -v a="$drover_us" -v b="$bouncer_us" 'BEGIN { if (a + 0 && b + 0) printf "%.2f", a / b; else print "n/a" }')
        echo "| $clients | $mode | $drover_us | $bouncer_us | $ratio | $drover_tps | $bouncer_tps |"
    done
done
[ "$drover_us" != n/a ] || say "the last failure: $(tail -n 2 "$work/pgbench.err")"
