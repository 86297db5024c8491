#!/bin/sh
# Runs unmodified drivers against a PostgreSQL or a Drover: one line per driver, exit code 1 if any failed.
#
#   tests/drivers/run.sh URL [--sharded] [--oracle URL] [driver…]
#
# --sharded: the target is a Drover; each driver's table is then sharded. --oracle: one PostgreSQL with an empty
# database, to compare with (tenants). Drivers: psql pgbench dump psycopg asyncpg
# sqlalchemy django tenants prisma node rust (dump is pg_dump and pg_restore, rust is tokio-postgres and sqlx). Pinned versions are installed below target/drivers at the first run.
set -u

here=$(cd "$(dirname "$0")" && pwd)
work=${CARGO_TARGET_DIR:-$here/../../target}/drivers
url=${1:?usage: run.sh URL [--sharded] [driver…]}
shift
DRIVER_SHARDED=
if [ "${1:-}" = --sharded ]; then
    DRIVER_SHARDED=1
    shift
fi
if [ "${1:-}" = --oracle ]; then
    export DRIVER_ORACLE="$2"
    shift 2
fi
export DRIVER_SHARDED
drivers=${*:-psql pgbench dump psycopg asyncpg sqlalchemy django tenants prisma node rust}
mkdir -p "$work"
work=$(cd "$work" && pwd)

# Runs the rest quietly; what it said is shown if it fails.
quietly() {
    "$@" >"$work/install.log" 2>&1 || {
        cat "$work/install.log" >&2
        return 1
    }
}

python() {
    if ! cmp -s "$here/requirements.txt" "$work/requirements.installed"; then
        quietly python3 -m venv "$work/venv" || return 1
        quietly "$work/venv/bin/pip" install --disable-pip-version-check -r "$here/requirements.txt" || return 1
        cp "$here/requirements.txt" "$work/requirements.installed"
    fi
    timeout 120 "$work/venv/bin/python" "$here/$1" "$url"
}

node_pg() {
    if ! cmp -s "$here/package.json" "$work/node/package.json"; then
        mkdir -p "$work/node" && cp "$here/package.json" "$work/node/" || return 1
        # Without package.json in place the next run installs again.
        quietly npm --prefix "$work/node" install --no-audit --no-fund || { rm "$work/node/package.json"; return 1; }
    fi
    cp "$here/node_pg.mjs" "$work/node/" && timeout 120 node "$work/node/node_pg.mjs" "$url"
}

rust() {
    CARGO_TARGET_DIR="$work/rust" quietly cargo build --quiet --manifest-path "$here/rust/Cargo.toml" || return 1
    timeout 120 "$work/rust/debug/drover-driver-tests" "$url"
}

failed=0
for driver in $drivers; do
    case $driver in
    psql) run="sh $here/psql.sh $url" ;;
    pgbench) run="sh $here/pgbench.sh $url" ;;
    dump) run="sh $here/dump.sh $url" ;;
    sqlalchemy) run="python sqlalchemy_driver.py" ;;
    django) run="python django_driver.py" ;;
    tenants) run="python django_tenants.py" ;;
    prisma) run="python prisma_style.py" ;;
    psycopg) run="python psycopg3.py" ;;
    asyncpg) run="python asyncpg_driver.py" ;;
    node) run=node_pg ;;
    rust) run=rust ;;
    *)
        echo "unknown driver $driver" >&2
        exit 2
        ;;
    esac
    if $run >"$work/$driver.log" 2>&1; then
        echo "$driver: ok ($(tail -n 1 "$work/$driver.log"))"
    else
        echo "$driver: FAILED"
        sed 's/^/    /' "$work/$driver.log" | tail -n 40
        failed=1
    fi
done
exit $failed
