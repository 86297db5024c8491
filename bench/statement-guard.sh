#!/usr/bin/env bash
# What the guard of statements costs a shard: CPU of the server process for one-row writes with and without it.
#
# usage: statement-guard.sh CONNECTION [ROUNDS]     a superuser on a database of a Drover shard, its server on this machine
#
# 100,000 INSERTs and UPDATEs of one row each, from a loop in the server, with the guard and without, in turns; for a session
# that states its fence and passes, and for one that states nothing (past Drover). The medians, in µs a statement.
set -euo pipefail
connection=$1
rounds=${2:-7}
statements=100000
{
    cat <<SQL
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
\pset fieldsep ' '
SET client_min_messages = error;
CREATE SCHEMA guard_bench;
SET search_path = guard_bench;
CREATE UNLOGGED TABLE plain (id bigint PRIMARY KEY, v text);
CREATE UNLOGGED TABLE guarded (id bigint PRIMARY KEY, v text);
CREATE TRIGGER drover_epoch BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON guarded FOR EACH STATEMENT
    EXECUTE FUNCTION drover_internal.stated('sharded', '0000000000000017');
CREATE FUNCTION cpu() RETURNS int LANGUAGE sql VOLATILE AS
\$\$SELECT split_part(s, ' ', 12)::int + split_part(s, ' ', 13)::int
  FROM (SELECT regexp_replace(pg_read_file('/proc/self/stat'), '^.*\) ', '')) t(s)\$\$;
SQL
    for ((round = 0; round < rounds; round++)); do
        for stated in 0000000000000017 ''; do
            for table in plain guarded; do
                cat <<SQL
SET drover_internal.epoch = '0000000000000099';
TRUNCATE $table;
SET drover_internal.epoch = '$stated';
SELECT cpu() AS began \gset
DO 'BEGIN FOR i IN 1..$statements LOOP INSERT INTO $table VALUES (i, ''v''); END LOOP; END';
SELECT 'insert', '$table', '${stated:+stated}', cpu() - :began;
SELECT cpu() AS began \gset
DO 'BEGIN FOR i IN 1..$statements LOOP UPDATE $table SET v = ''w'' WHERE id = i; END LOOP; END';
SELECT 'update', '$table', '${stated:+stated}', cpu() - :began;
SQL
            done
        done
    done
    echo "DROP SCHEMA guard_bench CASCADE;"
} | psql -X -q -d "$connection" | awk -v statements="$statements" '
    NF == 3 { $4 = $3; $3 = "nothing" }
    { values[$1 " " $3 " " $2] = values[$1 " " $3 " " $2] " " $4; kinds[$1 " " $3] }
    function median(text, list, n, i, j, v) {
        n = split(text, list)
        for (i = 2; i <= n; i++) {
            v = list[i] + 0
            for (j = i - 1; j > 0 && list[j] + 0 > v; j--) list[j + 1] = list[j]
            list[j + 1] = v
        }
        return list[int((n + 1) / 2)] * 10000 / statements
    }
    END {
        for (kind in kinds) {
            plain = median(values[kind " plain"]); guarded = median(values[kind " guarded"])
            printf "%-15s plain %5.2f µs  guarded %5.2f µs  %+.2f µs a statement\n", kind, plain, guarded, guarded - plain
        }
    }'
