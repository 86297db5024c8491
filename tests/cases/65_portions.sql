-- INSERT … SELECT of more rows than a statement may hold: they are stored in portions while others are read.
@setup
CREATE TABLE wide (k bigint PRIMARY KEY, other int, label text, at timestamptz);
@drover SELECT drover.shard_table('wide', key => 'k');
INSERT INTO wide SELECT g, (g * 7919) % 1000, 'label ' || g, timestamptz '2026-01-01 00:00+00' + g * interval '1 minute' FROM generate_series(1, 3000) g;
CREATE TABLE narrow (other int, label text, k bigint, at timestamptz, PRIMARY KEY (other, k));
@drover SELECT drover.shard_table('narrow', key => 'other');
CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY, k bigint, made timestamptz DEFAULT now(), twice bigint GENERATED ALWAYS AS (k * 2) STORED, note text DEFAULT 'none', PRIMARY KEY (id));
@drover SELECT drover.shard_table('numbered', key => 'id');
CREATE TABLE plain (n serial, k bigint, label text, CHECK (k <> 2999));
CREATE TABLE copied (k bigint PRIMARY KEY, label varchar(20));
@drover SELECT drover.reference_table('copied');
CREATE TABLE doubled (k bigint PRIMARY KEY, n int);
@drover SELECT drover.shard_table('doubled', key => 'k');
INSERT INTO doubled VALUES (1, 0);
CREATE TABLE tree (k bigint PRIMARY KEY, parent bigint);
@drover SELECT drover.shard_table('tree', key => 'k');
@cases
SET drover.gather_max_bytes = '16kB';
-- sharded by another key, whatever the shards give first
INSERT INTO narrow (other, k, label, at) SELECT other, k, label, at FROM wide;
SELECT count(*), sum(k), min(label), max(at), count(DISTINCT other) FROM narrow;
SELECT other, k, label FROM narrow WHERE other IN (1, 500, 999);
-- the rows that come back, in any order
INSERT INTO narrow (other, k, label) SELECT other + 1000, k, upper(label) FROM wide WHERE k % 20 = 0 RETURNING other, k, label, at;
DELETE FROM narrow WHERE other >= 1000;
-- the table that is read: none of the new rows is among those that are read
INSERT INTO wide SELECT k + 3000, other, label || '!', at FROM wide;
SELECT count(*), sum(k), count(*) FILTER (WHERE label LIKE '%!') FROM wide;
INSERT INTO narrow (other, k, label) SELECT other + 1, k + 5000, 'again' FROM narrow;
SELECT count(*), max(k) FROM narrow;
DELETE FROM narrow;
DELETE FROM wide WHERE k > 3000;
-- numbers in the order of the query, over portions
INSERT INTO numbered (k) SELECT k FROM wide ORDER BY k;
SELECT count(*), sum(id - k) - count(*) * (min(id) - 1), max(made) = min(made), sum(twice), min(note) FROM numbered;
DELETE FROM numbered;
INSERT INTO numbered (k, note) SELECT k, label FROM wide ORDER BY other DESC, k LIMIT 1700 OFFSET 40;
@ordered SELECT k, note, twice FROM numbered ORDER BY id LIMIT 200;
@ordered SELECT k, note, twice FROM numbered ORDER BY id LIMIT 200 OFFSET 1480;
DELETE FROM numbered;
INSERT INTO numbered (k) SELECT k FROM wide ORDER BY k DESC LIMIT 0;
INSERT INTO numbered (k, note) SELECT k, label FROM wide WHERE label = 'nobody';
SELECT count(*) FROM numbered;
-- to one server, and from it
INSERT INTO plain (k, label) SELECT k, label FROM wide WHERE k < 2900 ORDER BY k;
SELECT count(*), sum(k), sum(n - k) - count(*) * (min(n) - 1) FROM plain;
INSERT INTO wide (k, label) SELECT k + 10000, label FROM plain;
SELECT count(*), sum(k) FROM wide;
DELETE FROM wide WHERE k > 10000;
-- to all of them
INSERT INTO copied SELECT k, label FROM wide;
SELECT count(*), sum(k), max(label) FROM copied;
INSERT INTO copied SELECT k, label FROM wide WHERE k > 1000 ON CONFLICT DO NOTHING;
INSERT INTO copied SELECT k + 2000, label FROM wide ON CONFLICT (k) DO NOTHING;
SELECT count(*), sum(k), max(label) FROM copied;
DELETE FROM copied;
-- an error in any portion leaves nothing of the others
@error 23505 INSERT INTO copied SELECT nullif(least(k, 2990), 0), label FROM wide ORDER BY k;
@error 23514 INSERT INTO plain (k, label) SELECT k, label FROM wide WHERE k > 10;
@error 22012 INSERT INTO narrow (other, k) SELECT other, k + 0 / (k - 2950) FROM wide;
@error 22001 INSERT INTO copied SELECT k, repeat('x', (k / 140)::int) FROM wide;
@error 23502 INSERT INTO narrow (other, k) SELECT nullif(other, 999), k FROM wide;
SELECT count(*) FROM copied;
SELECT count(*) FROM narrow;
SELECT count(*), max(k) FROM plain;
DELETE FROM plain;
-- again and again in one transaction, with other changes of the same tables
@nowrap BEGIN;
INSERT INTO narrow (other, k, label) SELECT other, k, label FROM wide WHERE k <= 1500;
SAVEPOINT s;
INSERT INTO narrow (other, k, label) SELECT other, k, label FROM wide WHERE k > 1500;
SELECT count(*), sum(k) FROM narrow;
ROLLBACK TO s;
INSERT INTO narrow (other, k, label) SELECT other, k, 'second' FROM wide WHERE k > 2000;
ALTER TABLE wide ADD COLUMN extra int;
INSERT INTO narrow (other, k, label) SELECT other, k + 10000, upper(label) FROM wide;
TRUNCATE wide;
SELECT count(*), sum(k), count(label) FROM narrow;
@nowrap ROLLBACK;
SELECT count(*), sum(k) FROM wide;
SELECT count(*) FROM narrow;
@simple INSERT INTO narrow (other, k) SELECT other, k FROM wide; ALTER TABLE wide ADD COLUMN more int; INSERT INTO narrow (other, k) SELECT other, k + 5000 FROM wide; SELECT count(*) FROM narrow;
ALTER TABLE wide DROP COLUMN IF EXISTS more;
DELETE FROM narrow;
-- a table over and over, doubled by its own rows
INSERT INTO doubled SELECT k + 1, n + 1 FROM doubled;
INSERT INTO doubled SELECT k + 2, n + 1 FROM doubled;
INSERT INTO doubled SELECT k + 4, n + 1 FROM doubled;
INSERT INTO doubled SELECT k + 8 * s, n + 1 FROM doubled, generate_series(1, 200) s;
INSERT INTO doubled SELECT k + 1608, n + 1 FROM doubled;
SELECT count(*), sum(k), sum(n), max(n) FROM doubled;
-- parameters
@params (100) INSERT INTO narrow (other, k) SELECT other, k FROM wide WHERE k > $1;
@params (7, 'x') INSERT INTO narrow (other, k, label) SELECT other + $1::int, k + 20000, $2 FROM wide WHERE k < 300 RETURNING k;
SELECT count(*), sum(other), max(label) FROM narrow;
-- rows of the whole statement are looked at together: they have to fit
INSERT INTO tree SELECT k, nullif(k - 1, 0) FROM wide WHERE k <= 40;
INSERT INTO doubled SELECT k % 50 + 10000, 1 FROM wide WHERE k <= 40 ON CONFLICT (k) DO UPDATE SET n = doubled.n + 1;
@error 21000 INSERT INTO doubled SELECT k % 20 + 10000, 1 FROM wide WHERE k <= 40 ON CONFLICT (k) DO UPDATE SET n = doubled.n + 1;
SELECT count(*) FROM tree;
RESET drover.gather_max_bytes;
