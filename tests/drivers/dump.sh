#!/bin/sh
# pg_dump and pg_restore, unmodified, through a PostgreSQL or a Drover: what is restored dumps as the original did.
#   tests/drivers/dump.sh URL
set -eu

url=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export PGCONNECT_TIMEOUT=10

sql() {
    psql -XqAt -v ON_ERROR_STOP=1 -d "$url" "$@"
}

sql <<'SQL'
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS driver_dump CASCADE;
CREATE SCHEMA driver_dump;
SET search_path = driver_dump;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN short AS text CHECK (length(VALUE) < 20);
CREATE TABLE parent (id serial PRIMARY KEY, name short NOT NULL, feels mood DEFAULT 'happy', doc jsonb);
CREATE TABLE child (id bigint GENERATED ALWAYS AS IDENTITY, parent int REFERENCES parent ON DELETE CASCADE, raw bytea, at timestamptz);
CREATE INDEX ON child (parent) WHERE raw IS NOT NULL;
CREATE VIEW both_of_them AS SELECT p.name, count(c.id) FROM parent p LEFT JOIN child c ON c.parent = p.id GROUP BY p.name;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM parent;
CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a * 2';
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := coalesce(NEW.at, '2026-01-01'); RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION stamp();
COMMENT ON TABLE parent IS 'it''s a table';
INSERT INTO parent (name, doc) SELECT 'name ' || g, jsonb_build_object('g', g) FROM generate_series(1, 500) g;
INSERT INTO child (parent, raw) SELECT 1 + g % 500, decode(lpad(to_hex(g), 8, '0'), 'hex') FROM generate_series(1, 2000) g;
REFRESH MATERIALIZED VIEW counted;
SQL

pg_dump --no-owner -n driver_dump -d "$url" >"$dir/before.sql"
pg_dump --no-owner -Fc -n driver_dump -d "$url" -f "$dir/dump.custom"
pg_dump --no-owner -Fd -j 2 -n driver_dump -d "$url" -f "$dir/dump.dir"
count=0
for from in custom dir; do
    sql -c 'SET client_min_messages = warning' -c 'DROP SCHEMA driver_dump CASCADE'
    jobs=1
    [ "$from" = dir ] && jobs=2
    pg_restore --no-owner --exit-on-error -j "$jobs" -d "$url" "$dir/dump.$from"
    pg_dump --no-owner -n driver_dump -d "$url" >"$dir/after.sql"
    # The key of newer versions' \restrict is another each time.
    sed -i '/^\\\(un\)\?restrict /d' "$dir/before.sql" "$dir/after.sql"
    diff "$dir/before.sql" "$dir/after.sql"
    count=$((count + 1))
done
sql -c 'SET client_min_messages = warning' -c 'DROP SCHEMA driver_dump CASCADE'
echo "$(pg_dump --version), $count round trips"
