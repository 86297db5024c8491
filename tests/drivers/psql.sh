#!/bin/sh
# psql against a PostgreSQL or a Drover: a script with variables, \copy, \gset, \if and backslash commands.
#   tests/drivers/psql.sh URL        DRIVER_SHARDED=1: shard the table
set -eu

url=$1
shard="SELECT 1 WHERE false"
part="SELECT id, name FROM driver_psql WHERE id = 1"
if [ -n "${DRIVER_SHARDED:-}" ]; then
    shard="SELECT drover.shard_table('driver_psql', key => 'id')"
    # COPY of a query is not done over sharded tables yet.
    part="SELECT 1, 'one'"
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export PAGER=cat PGCONNECT_TIMEOUT=10

printf '1\tone\n2\ttwo\n3\t\\N\n4\tfour\n' >"$dir/in.tsv"
cat >"$dir/script.sql" <<SQL
DROP TABLE IF EXISTS driver_psql;
CREATE TABLE driver_psql (id int PRIMARY KEY, name text);
$shard;
\\copy driver_psql from '$dir/in.tsv'
\\set key 2
SELECT name FROM driver_psql WHERE id = :key;
SELECT count(*) AS total, count(name) AS named FROM driver_psql \\gset
\\echo total :total named :named
\\if :{?total}
\\echo yes
\\endif
SELECT id, name FROM driver_psql ORDER BY id DESC \\g (format=unaligned tuples_only=on)
BEGIN;
DELETE FROM driver_psql;
ROLLBACK;
SELECT count(*) FROM driver_psql;
\\copy ($part) to '$dir/out.tsv'
\\copy driver_psql to '$dir/all.tsv'
UPDATE driver_psql SET name = upper(name) WHERE id IN (1, 2, 4);
SELECT name FROM driver_psql WHERE id = 4;
\\d driver_psql
\\dt driver_psql
SQL
psql -XqAt -v ON_ERROR_STOP=1 -d "$url" -f "$dir/script.sql" >"$dir/seen" 2>"$dir/noise" || { cat "$dir/noise"; exit 1; }
cat >"$dir/wanted" <<'TEXT'
two
total 4 named 3
yes
4|four
3|
2|two
1|one
4
FOUR
id|integer||not null|
name|text|||
TEXT
# The answer of shard_table and the owner column are not compared.
grep -v '^shard\|^public|driver_psql|table' "$dir/seen" | grep -v '^$' >"$dir/got" || true
diff "$dir/wanted" "$dir/got"
printf '1\tone\n' | diff - "$dir/out.tsv"
sort "$dir/all.tsv" | diff "$dir/in.tsv" -

# Errors carry their SQLSTATE, and a failed script stops.
state=$(psql -XqAt -d "$url" -c "INSERT INTO driver_psql VALUES (1)" -v VERBOSITY=sqlstate 2>&1 || true)
test "$state" = "ERROR:  23505" || { echo "unexpected: $state"; exit 1; }
psql -XqAt -d "$url" -c "DROP TABLE driver_psql"
psql --version
