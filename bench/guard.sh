#!/usr/bin/env bash
# What the ownership guard costs a shard: CPU of the server process for a million rows with and without it.
#
# usage: guard.sh CONNECTION [ROUNDS]     a superuser on a database of a Drover shard, its server on this machine
#
# COPY, INSERT … SELECT and UPDATE, interleaved; the medians, in ms.
set -euo pipefail
connection=$1
rounds=${2:-9}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 777 "$work"

{
    cat <<SQL
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
\pset fieldsep ' '
SET client_min_messages = error;
CREATE SCHEMA guard_bench;
SET search_path = guard_bench;
CREATE UNLOGGED TABLE keys AS SELECT id, 'the text of a row' AS v FROM generate_series(1, 4000000) id
    WHERE hashint8extended(id, 0) < -4611686018427387904;
COPY keys TO '$work/rows';
CREATE UNLOGGED TABLE plain (id bigint, v text);
CREATE UNLOGGED TABLE guarded (id bigint, v text);
CREATE TRIGGER drover_guard AFTER INSERT OR UPDATE ON guarded FOR EACH ROW
    WHEN (NOT (coalesce(pg_catalog.hashint8extended((NEW.id)::pg_catalog.int8, 0), '0'::pg_catalog.int8)
               BETWEEN '-9223372036854775808'::pg_catalog.int8 AND '-4611686018427387905'::pg_catalog.int8))
    EXECUTE FUNCTION drover_internal.misplaced();
SELECT 'rows', count(*) FROM keys;
CREATE FUNCTION cpu() RETURNS int LANGUAGE sql VOLATILE AS
\$\$SELECT split_part(s, ' ', 12)::int + split_part(s, ' ', 13)::int
  FROM (SELECT regexp_replace(pg_read_file('/proc/self/stat'), '^.*\) ', '')) t(s)\$\$;
SQL
    for ((round = 0; round < rounds; round++)); do
        for table in plain guarded; do
            for statement in "copy:COPY $table FROM '$work/rows'" "update:UPDATE $table SET v = 'another'" \
                "insert:INSERT INTO $table SELECT * FROM keys"; do
                [[ $statement == update:* ]] || echo "TRUNCATE $table;"
                echo "SELECT cpu() AS began \gset"
                echo "${statement#*:};"
                echo "SELECT '${statement%%:*}', '$table', (cpu() - :began) * 10;"
            done
        done
    done
    echo "DROP SCHEMA guard_bench CASCADE;"
} | psql -X -q -d "$connection" | awk '
    $1 == "rows" { print; next }
    { values[$1 " " $2] = values[$1 " " $2] " " $3; kinds[$1] }
    function median(text, list, n, i, j, v) {
        n = split(text, list)
        for (i = 2; i <= n; i++) {
            v = list[i] + 0
            for (j = i - 1; j > 0 && list[j] + 0 > v; j--) list[j + 1] = list[j]
            list[j + 1] = v
        }
        return list[int((n + 1) / 2)]
    }
    END {
        for (kind in kinds) {
            plain = median(values[kind " plain"]); guarded = median(values[kind " guarded"])
            printf "%-6s plain %5d ms  guarded %5d ms  +%.1f %%  %+.0f ns a row\n", kind, plain, guarded,
                100 * (guarded / plain - 1), guarded - plain
        }
    }'
