-- INSERT … SELECT whose rows are stored elsewhere than where they are made, in both directions and between shards.
@include _schema.sql
@setup
CREATE TABLE archive (id bigint PRIMARY KEY, name text, age smallint, feeling mood, made timestamptz DEFAULT now(), note varchar(8) DEFAULT 'none');
CREATE TABLE log (k bigint, n bigserial, what text, tags text[], token uuid DEFAULT gen_random_uuid());
@drover SELECT drover.shard_table('log', key => 'k');
CREATE TABLE ident (id bigint GENERATED ALWAYS AS IDENTITY, k int NOT NULL, twice int GENERATED ALWAYS AS (k * 2) STORED, UNIQUE (k));
@drover SELECT drover.shard_table('ident', key => 'k');
CREATE TABLE words (w varchar(6) PRIMARY KEY, n numeric(6,2));
@drover SELECT drover.shard_table('words', key => 'w');
CREATE TABLE ids (k bigint PRIMARY KEY DEFAULT nextval('notes_id_seq'), v text CHECK (v <> 'bad'));
@drover SELECT drover.shard_table('ids', key => 'k');
CREATE TABLE copies (code text PRIMARY KEY, made timestamptz DEFAULT now(), token uuid DEFAULT gen_random_uuid());
@drover SELECT drover.reference_table('copies');
CREATE TABLE days (d date DEFAULT CURRENT_DATE, at timestamptz DEFAULT now(), n int, s serial);
@drover SELECT drover.shard_table('days', key => 'd');
CREATE TABLE objects (k bigint PRIMARY KEY, c regclass, t text);
@drover SELECT drover.shard_table('objects', key => 'k');
INSERT INTO objects (k, t) VALUES (1, 'u'), (2, 'o'), (3, NULL), (4, 'i');
@cases
-- between shards: another key for each row, also into the table that is read
INSERT INTO orders (user_id, id, amount) SELECT id, 500, age FROM users WHERE id < 7;
INSERT INTO users (id, name) SELECT id + 5000, name FROM users WHERE id < 7;
INSERT INTO users SELECT id + 20000, name, email, country, age, score, created, active, feeling FROM users;
INSERT INTO users (id, name, score) SELECT user_id * 1000 + id, status, price FROM orders RETURNING id, name, score;
INSERT INTO users (id, age) SELECT 30000 + a.id, count(*) FROM users a JOIN orders o ON o.user_id = a.id GROUP BY a.id;
INSERT INTO users (id, age) SELECT 31000 + count(*), max(age) FROM users;
INSERT INTO users (id, name) SELECT 32000 + length(name), name FROM users ORDER BY name DESC NULLS LAST, id LIMIT 1;
INSERT INTO tenants (code, seats) SELECT name, max(age) FROM users WHERE name <> '' AND name <> 'Ann' GROUP BY name;
INSERT INTO items (user_id, order_id, line) SELECT o.id, o.user_id, 9 FROM orders o WHERE o.amount IS NOT NULL;
-- from unsharded tables, and into them
INSERT INTO users (id, name) SELECT n.id + 7000, n.body FROM notes n;
INSERT INTO notes (user_id, body) SELECT id, name FROM users WHERE id < 3;
INSERT INTO archive (id, name, age, feeling) SELECT id, name, age, feeling FROM users WHERE id < 5 RETURNING id, name, age, feeling, note;
INSERT INTO archive (id, note) SELECT count(*) + 900, 'all' FROM users;
@error 22001 INSERT INTO archive (id, note) SELECT id + 100, 'much too long' FROM users;
@error 23505 INSERT INTO archive (id) SELECT id FROM users;
INSERT INTO archive (id) SELECT id FROM users ON CONFLICT (id) DO UPDATE SET note = 'again' WHERE archive.note = 'none';
INSERT INTO archive (id) SELECT id FROM users ON CONFLICT DO NOTHING;
SELECT id, name, age, feeling, note, made = (SELECT max(made) FROM archive) FROM archive;
SELECT user_id, body FROM notes;
-- rows made by no table
INSERT INTO users (id, name) SELECT g, 'gen' FROM generate_series(6000, 6010) g;
INSERT INTO users (id, name) SELECT g, 'row ' || g FROM generate_series(6100, 6103) g RETURNING id, name;
@params (6200, 6203) INSERT INTO users (id, name) SELECT g, 'par' FROM generate_series($1::bigint, $2::bigint) g;
-- sequences, defaults, identity
INSERT INTO log (k, what, tags) SELECT id, name, ARRAY[name, country] FROM users WHERE id <= 6;
INSERT INTO log (k, what) SELECT user_id, body FROM notes;
SELECT count(DISTINCT n) = count(*), count(DISTINCT token) = count(*), count(*) FROM log;
SELECT k, what, tags FROM log;
INSERT INTO ident (k) SELECT id FROM users WHERE id <= 6 RETURNING k, twice;
@error 428C9 INSERT INTO ident (id, k) SELECT id, id + 50 FROM users WHERE id <= 6;
INSERT INTO ident (id, k) OVERRIDING SYSTEM VALUE SELECT id + 1000000, id + 50 FROM users WHERE id <= 6;
INSERT INTO ident (id, k) OVERRIDING USER VALUE SELECT 7, id + 90 FROM users WHERE id <= 6;
SELECT count(DISTINCT id) = count(*), count(*), sum(twice) FROM ident;
INSERT INTO ids (v) SELECT name FROM users WHERE id <= 6;
SELECT v, count(*) FROM ids GROUP BY v;
@error 23514 INSERT INTO ids (k, v) SELECT id + 70000, CASE WHEN id = 3 THEN 'bad' ELSE 'ok' END FROM users;
SELECT count(*) FROM ids;
-- conversions on the way to the key
INSERT INTO words (w, n) SELECT 'w' || id, score FROM users WHERE id <= 5;
INSERT INTO words SELECT code || '    ', 1.005 FROM countries;
@error 22001 @may_refuse DRV5009 INSERT INTO words (w) SELECT 'too long ' || id FROM users WHERE id <= 6;
@error 22003 INSERT INTO words (w, n) SELECT 'big' || id, 1e20 FROM users WHERE id <= 6;
INSERT INTO users (id, name) SELECT id + 40000.4, 'rounded' FROM users WHERE id <= 6;
SELECT w, n FROM words;
SELECT w, n FROM words WHERE w = 'w3';
SELECT id FROM users WHERE id = 40003;
-- constants and parameters as key
INSERT INTO items (user_id, order_id, line, sku) SELECT 5, id, 1, name FROM users WHERE id < 5;
@params (6) INSERT INTO items (user_id, order_id, line, sku) SELECT $1, id, 2, name FROM users WHERE id < 5;
INSERT INTO log (what) SELECT name FROM users WHERE id < 3;
SELECT what FROM log WHERE k IS NULL;
-- ON CONFLICT
INSERT INTO users (id, name) SELECT id + 1, 'conflict' FROM users WHERE id < 4 ON CONFLICT (id) DO NOTHING;
INSERT INTO users (id, name) SELECT id + 1, 'updated' FROM users WHERE id < 4 ON CONFLICT (id) DO UPDATE SET name = excluded.name || users.id RETURNING id, name;
@error 21000 INSERT INTO users (id, name) SELECT 3, body FROM notes ON CONFLICT (id) DO UPDATE SET name = excluded.name;
-- reference tables: evaluated once, the same everywhere
INSERT INTO countries SELECT 'u' || id, name, NULL FROM users WHERE id <= 3 ORDER BY id;
INSERT INTO copies (code) SELECT body FROM notes WHERE body IS NOT NULL AND id <= 2;
INSERT INTO copies (code) SELECT 'r' || code FROM countries;
INSERT INTO copies (code) SELECT DISTINCT coalesce(country, 'none') FROM users ON CONFLICT DO NOTHING;
SELECT count(*), count(DISTINCT token) = count(*) FROM copies;
SELECT code, name, continent FROM countries;
-- a literal that means the time at which the statement runs is not taken for the time at which it was planned
@refused @many INSERT INTO days (d, n) VALUES ('today', 6);
@refused @many INSERT INTO days (d, n) SELECT 'now', id FROM users WHERE id < 4;
@refused @many INSERT INTO archive (id, made) SELECT id + 500, 'now' FROM users WHERE id < 4;
-- values that are known only as the statement runs
INSERT INTO days (d, n) VALUES (now()::date, 1);
INSERT INTO days (d, n) VALUES (current_date, 2), ('2020-02-02', 3), (DEFAULT, 4) RETURNING n;
INSERT INTO days (d, at, n) VALUES (date_trunc('day', now())::date, now(), 5);
SELECT n, d = at::date, s > 0 FROM days WHERE n <> 3;
SELECT count(DISTINCT s), count(*) FROM days;
INSERT INTO users (id, name) VALUES ((SELECT 95001), 'one'), ((SELECT max(id) FROM notes) + 95100, 'two');
@may_refuse INSERT INTO notes (user_id, body) VALUES ((SELECT max(id) FROM users WHERE id < 90000), 'highest') RETURNING user_id, body;
@params (3) INSERT INTO users (id, name) VALUES ((SELECT $1::int + 96000), (SELECT name FROM countries WHERE code = 'de')) ON CONFLICT (id) DO NOTHING RETURNING id, name;
@error 23502 INSERT INTO users (id, name) VALUES ((SELECT NULL::bigint), 'none');
-- WITH, nothing at all, errors
WITH old AS (SELECT id, name FROM users WHERE id < 3) INSERT INTO users (id, name) SELECT id + 80000, name FROM old;
INSERT INTO users (id) SELECT id + 1 FROM users WHERE false;
INSERT INTO users (id) SELECT user_id + 1 FROM notes WHERE false RETURNING id;
@error 23502 INSERT INTO users (id, name) SELECT NULL, name FROM users WHERE id < 7;
@error 23505 INSERT INTO users (id) SELECT id + 1 FROM users WHERE id < 7;
@error 22012 INSERT INTO users (id, age) SELECT id + 90000, 1 / (id - 3) FROM users WHERE id < 7;
SELECT count(*) FROM users WHERE id > 90000;
SELECT * FROM users;
SELECT * FROM orders;
SELECT * FROM items;
SELECT code, plan, seats, parent FROM tenants;
-- an object's id means another object on another shard: not carried, but as text
@refused DRV7050 @many INSERT INTO objects SELECT k + 100, c, t FROM objects;
@refused DRV7050 @many UPDATE objects SET k = k + 1;
INSERT INTO objects (k, t) SELECT k + 200, c::text || t FROM objects;
SELECT k, t FROM objects;
