-- Functional split: tables whose rows are all on one shard, another than home. Made so, moved with their rows, made in a
-- schema of a shard; read, written, copied, changed, joined with each other and with reference tables; what joins two
-- placements is refused.
@setup
CREATE TABLE settings (name text PRIMARY KEY, value text);
INSERT INTO settings VALUES ('vat', '19'), ('currency', 'EUR');
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL);
INSERT INTO countries VALUES ('de', 'Germany'), ('fr', 'France'), ('jp', 'Japan');
@drover SELECT drover.reference_table('countries');
CREATE TABLE users (id int PRIMARY KEY, name text, country text);
INSERT INTO users SELECT g, 'user ' || g, (ARRAY['de', 'fr', 'jp', NULL])[g % 4 + 1] FROM generate_series(1, 40) g;
@drover SELECT drover.shard_table('users', key => 'id');
CREATE TYPE state AS ENUM ('open', 'paid', 'late');
-- moved with its rows, and with what belongs to it
CREATE TABLE invoices (id serial PRIMARY KEY, user_id int, total numeric(10,2) CHECK (total >= 0), state state DEFAULT 'open', country text REFERENCES countries, made timestamptz DEFAULT '2025-01-01 00:00+00', UNIQUE (user_id, total));
CREATE INDEX invoices_state ON invoices (state) WHERE state <> 'paid';
COMMENT ON TABLE invoices IS 'what is owed';
INSERT INTO invoices (user_id, total, state, country) SELECT g, g * 10.5, (ARRAY['open', 'paid', 'late'])[g % 3 + 1]::state, (ARRAY['de', 'fr', NULL])[g % 3 + 1] FROM generate_series(1, 30) g;
CREATE VIEW open_invoices AS SELECT id, user_id, total FROM invoices WHERE state = 'open';
@drover SELECT drover.place_table('invoices', shard => '{shard:2}');
-- made so
@oracle CREATE TABLE lines (invoice int NOT NULL REFERENCES invoices ON DELETE CASCADE, line int GENERATED ALWAYS AS IDENTITY, what text, n int DEFAULT 1, PRIMARY KEY (invoice, line));
@drover CREATE TABLE lines (invoice int NOT NULL REFERENCES invoices ON DELETE CASCADE, line int GENERATED ALWAYS AS IDENTITY, what text, n int DEFAULT 1, PRIMARY KEY (invoice, line)) WITH (drover.place = '{shard:2}');
INSERT INTO lines (invoice, what) SELECT id, 'line of ' || id FROM invoices WHERE id % 2 = 0;
INSERT INTO lines (invoice, what, n) VALUES (1, 'a', 2), (1, 'b', 3), (3, 'c', 4);
@oracle CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree, label text);
@drover CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree, label text) WITH (drover.place = '{shard:2}');
INSERT INTO tree VALUES (1, NULL, 'root'), (2, 1, 'left'), (3, 1, 'right'), (4, 2, 'leaf');
-- on the other shard of two, the home shard: an unsharded table
@oracle CREATE TABLE notes (id int PRIMARY KEY, body text);
@drover CREATE TABLE notes (id int PRIMARY KEY, body text) WITH (drover.place = '{shard:1}');
INSERT INTO notes VALUES (1, 'at home');
-- away and home again
CREATE TABLE went (id int PRIMARY KEY, v text);
INSERT INTO went SELECT g, 'went ' || g FROM generate_series(1, 50) g;
@drover SELECT drover.place_table('went', shard => '{shard:2}');
INSERT INTO went VALUES (51, 'there');
@drover SELECT drover.place_table('went', shard => '{shard:1}');
INSERT INTO went VALUES (52, 'back');
-- sharded by a key, and then placed; placed, and then sharded
CREATE TABLE folded (id int PRIMARY KEY, v text);
INSERT INTO folded SELECT g, 'v' || g FROM generate_series(1, 50) g;
@drover SELECT drover.shard_table('folded', key => 'id');
@drover SELECT drover.place_table('folded', shard => '{shard:2}');
CREATE TABLE spread (id int PRIMARY KEY, v text);
INSERT INTO spread SELECT g, 'v' || g FROM generate_series(1, 50) g;
@drover SELECT drover.place_table('spread', shard => '{shard:2}');
@drover SELECT drover.shard_table('spread', key => 'id');
-- of a schema
CREATE SCHEMA billing;
@drover SELECT drover.place_schema('billing', shard => '{shard:2}');
CREATE TABLE billing.accounts (id bigserial PRIMARY KEY, owner text UNIQUE, balance int NOT NULL DEFAULT 0, EXCLUDE USING btree (owner WITH =));
INSERT INTO billing.accounts (owner, balance) VALUES ('ann', 10), ('bob', 20), ('cid', 30);
CREATE TABLE billing.entries (account bigint REFERENCES billing.accounts ON UPDATE CASCADE, amount int, at date) PARTITION BY RANGE (at);
CREATE TABLE billing.entries_2025 PARTITION OF billing.entries FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE billing.entries_rest PARTITION OF billing.entries DEFAULT;
INSERT INTO billing.entries SELECT g % 3 + 1, g, date '2025-06-01' + g * 30 FROM generate_series(1, 20) g;
@cases
SELECT * FROM invoices;
SELECT * FROM invoices WHERE id = 7;
SELECT count(*), sum(total), max(state), min(made) FROM invoices;
@ordered SELECT state, count(*), avg(total) FROM invoices GROUP BY state ORDER BY state DESC;
SELECT * FROM open_invoices;
@params (5) SELECT total FROM invoices WHERE user_id = $1;
@params ('{1,2,3}'::int4[]) SELECT total FROM invoices WHERE user_id = ANY ($1);
SELECT went.v, settings.value FROM went, settings WHERE went.id > 50;
SELECT count(*), max(folded.v) FROM folded JOIN invoices USING (id);
SELECT count(*), max(spread.v) FROM spread JOIN users USING (id);
-- everything one PostgreSQL can do
@ordered SELECT id, rank() OVER (PARTITION BY state ORDER BY total DESC), lag(total) OVER (ORDER BY id) FROM invoices ORDER BY id LIMIT 12 OFFSET 3;
SELECT i.id, l.line, l.what FROM invoices i LEFT JOIN lines l ON l.invoice = i.id;
SELECT i.id, l.what FROM invoices i FULL JOIN lines l ON l.invoice = i.id AND l.n > 1;
SELECT id FROM invoices WHERE total > (SELECT avg(total) FROM invoices) AND NOT EXISTS (SELECT FROM lines WHERE invoice = id);
SELECT id FROM invoices UNION ALL SELECT line FROM lines;
SELECT id FROM invoices EXCEPT SELECT invoice FROM lines;
WITH RECURSIVE below AS (SELECT id, label, 0 AS depth FROM tree WHERE parent IS NULL UNION ALL SELECT t.id, t.label, depth + 1 FROM tree t JOIN below b ON t.parent = b.id) SELECT * FROM below;
SELECT * FROM invoices i, LATERAL (SELECT count(*) FROM lines WHERE invoice = i.id) c;
@ordered SELECT DISTINCT ON (country) country, id FROM invoices ORDER BY country, id;
SELECT string_agg(what, ',' ORDER BY line) FROM lines GROUP BY GROUPING SETS ((invoice), ());
SELECT c.name, count(*) FROM invoices i RIGHT JOIN countries c ON c.code = i.country GROUP BY c.name;
SELECT i.id, a.owner, e.amount FROM invoices i JOIN billing.accounts a ON a.id = i.id LEFT JOIN billing.entries e ON e.account = a.id;
SELECT count(*), sum(amount) FROM billing.entries_2025;
SELECT 1 WHERE EXISTS (SELECT FROM invoices);
SELECT id FROM invoices WHERE id = 2 FOR UPDATE;
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM invoices;
@ordered SELECT id FROM invoices ORDER BY state, id FETCH FIRST 3 ROWS WITH TIES;
SELECT * FROM invoices WHERE random() < 2;
SELECT id, ctid IS NOT NULL FROM tree;
-- writes
INSERT INTO invoices (user_id, total) VALUES (100, 1) RETURNING id, user_id, state;
INSERT INTO invoices (user_id, total) VALUES (101, 1), (102, 2), (103, 3) RETURNING id, total;
INSERT INTO invoices (user_id, total) SELECT 200 + id, total FROM invoices WHERE id < 4 RETURNING id;
INSERT INTO invoices (id, user_id, total) VALUES (7, 1, 1) ON CONFLICT (id) DO UPDATE SET total = excluded.total + invoices.total RETURNING *;
INSERT INTO invoices (user_id, total) VALUES (5, 52.5) ON CONFLICT DO NOTHING;
@params (300, 7.5) INSERT INTO invoices (user_id, total) VALUES ($1, $2) RETURNING user_id, total;
INSERT INTO invoices DEFAULT VALUES;
INSERT INTO tree VALUES (5, 4, 'deeper'), (6, (SELECT max(id) FROM tree), 'by subquery');
@error 23503 INSERT INTO lines (invoice, what) VALUES (9999, 'x');
@error 23505 INSERT INTO tree VALUES (1, NULL, 'x');
@error 23514 INSERT INTO invoices (user_id, total) VALUES (1, -1);
@error 428C9 INSERT INTO lines (invoice, line) VALUES (1, 1);
INSERT INTO lines (invoice, line, what) OVERRIDING SYSTEM VALUE VALUES (1, 1000, 'forced');
UPDATE invoices SET total = total + 1 WHERE state = 'late';
UPDATE invoices SET state = 'paid' FROM lines WHERE lines.invoice = invoices.id AND lines.n > 2 RETURNING invoices.id, what;
UPDATE invoices SET id = id + 1000 WHERE id = 29;
@error 23503 UPDATE invoices SET id = id + 1000 WHERE id = 30;
UPDATE invoices i SET country = c.code FROM countries c WHERE c.name = 'Japan' AND i.id < 3;
UPDATE tree SET label = upper(label) WHERE id IN (SELECT parent FROM tree);
DELETE FROM lines USING invoices WHERE invoices.id = lines.invoice AND invoices.total > 250;
DELETE FROM invoices WHERE id = 1;
SELECT * FROM lines;
WITH gone AS (DELETE FROM tree WHERE id = 4 AND NOT EXISTS (SELECT FROM tree t WHERE t.parent = 4) RETURNING *), kept AS (INSERT INTO tree SELECT id + 50, parent, label FROM gone RETURNING id) SELECT * FROM kept;
MERGE INTO tree t USING (SELECT id, what FROM invoices JOIN lines ON invoice = id WHERE id < 9) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET label = s.what WHEN NOT MATCHED THEN INSERT VALUES (s.id, NULL, s.what);
INSERT INTO billing.accounts (owner) VALUES ('dora') RETURNING id, owner, balance;
UPDATE billing.accounts SET id = 50 WHERE owner = 'ann';
SELECT account, count(*) FROM billing.entries GROUP BY account;
@error 23505 INSERT INTO billing.accounts (owner) VALUES ('bob');
INSERT INTO billing.entries VALUES (2, 7, '2025-03-01'), (2, 8, '2031-01-01') RETURNING tableoid IS NOT NULL, amount;
-- from one placement to another: rows are carried
INSERT INTO settings SELECT 'invoice ' || id, total::text FROM invoices WHERE id < 5;
INSERT INTO tree SELECT id + 500, 1, name FROM users WHERE id < 10;
INSERT INTO users SELECT id + 1000, 'from tree', NULL FROM tree WHERE id < 4;
INSERT INTO invoices (user_id, total) SELECT id + 5000, 1 FROM users WHERE id < 6;
INSERT INTO countries SELECT 'x' || id, label FROM tree WHERE id < 3;
-- transactions over placements
BEGIN;
UPDATE invoices SET total = 0 WHERE id = 3;
UPDATE settings SET value = '20' WHERE name = 'vat';
UPDATE users SET name = 'both' WHERE id IN (1, 2, 3);
INSERT INTO notes VALUES (2, 'in between');
COMMIT;
SELECT total FROM invoices WHERE id = 3;
SELECT * FROM settings WHERE name = 'vat';
BEGIN;
DELETE FROM lines;
SAVEPOINT a;
INSERT INTO tree VALUES (90, NULL, 'lost');
ROLLBACK TO a;
INSERT INTO tree VALUES (91, NULL, 'kept');
@error 23505 INSERT INTO tree VALUES (91, NULL, 'twice');
ROLLBACK;
SELECT count(*) FROM lines;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM invoices;
SELECT count(*) FROM settings;
COMMIT;
-- COPY
COPY tree (id, parent, label) FROM STDIN;
700	1	copied
701	700	\N
\.
COPY tree FROM STDIN (FORMAT csv, HEADER);
id,parent,label
702,700,"a, b"
703,,
\.
@error 23503 COPY tree FROM STDIN;
800	801	nowhere
\.
-- on one shard: an unsharded table that refers to a reference table
@may_refuse COPY invoices (user_id, total) FROM STDIN;
900	1.5
901	2.5
\.
SELECT user_id, total, state FROM invoices WHERE user_id BETWEEN 900 AND 901;
COPY tree TO STDOUT;
COPY (SELECT label, count(*) FROM tree GROUP BY label) TO STDOUT;
COPY billing.entries_rest TO STDOUT (FORMAT csv);
-- what is changed
ALTER TABLE tree ADD COLUMN depth int DEFAULT 7 NOT NULL;
ALTER TABLE tree ADD COLUMN at timestamptz DEFAULT now();
SELECT id, depth, at IS NOT NULL FROM tree;
@error 23514 ALTER TABLE tree ADD CONSTRAINT shallow CHECK (id < 3);
ALTER TABLE tree ADD CONSTRAINT positive CHECK (id > 0);
@error 23514 INSERT INTO tree VALUES (-1, NULL, 'x', 7, NULL);
CREATE UNIQUE INDEX tree_label ON tree (label, id);
ALTER TABLE tree ALTER COLUMN depth TYPE bigint;
ALTER TABLE tree RENAME TO forest;
SELECT count(*) FROM forest;
ALTER TABLE forest RENAME COLUMN label TO title;
SELECT title FROM forest WHERE id = 1;
ALTER TABLE forest SET SCHEMA billing;
SELECT count(*) FROM billing.forest;
CREATE VIEW rich AS SELECT a.owner, f.title FROM billing.accounts a JOIN billing.forest f USING (id);
SELECT * FROM rich;
DROP VIEW rich;
ALTER TABLE lines ADD CONSTRAINT of_forest FOREIGN KEY (invoice) REFERENCES billing.forest NOT VALID;
ALTER TABLE lines DROP CONSTRAINT of_forest;
CREATE TABLE billing.more (id int PRIMARY KEY, forest int REFERENCES billing.forest);
INSERT INTO billing.more VALUES (1, 1);
SELECT more.id, title FROM billing.more JOIN billing.forest ON forest.id = more.forest;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.what := coalesce(NEW.what, 'stamped'); RETURN NEW; END $$;
CREATE TRIGGER stamps BEFORE INSERT OR UPDATE ON lines FOR EACH ROW EXECUTE FUNCTION stamp();
INSERT INTO lines (invoice) VALUES (2), (3) RETURNING what;
UPDATE lines SET what = NULL WHERE what = 'stamped';
SELECT count(*) FROM lines WHERE what IS NULL;
@may_refuse TRUNCATE lines;
SELECT count(*) FROM lines;
INSERT INTO lines (invoice, what) VALUES (2, 'after');
ALTER TABLE billing.entries DETACH PARTITION billing.entries_rest;
SELECT count(*) FROM billing.entries_rest;
INSERT INTO billing.entries_rest VALUES (2, 1, '1999-01-01');
ALTER TABLE billing.entries ATTACH PARTITION billing.entries_rest DEFAULT;
SELECT count(*) FROM billing.entries;
ALTER SCHEMA billing RENAME TO bills;
CREATE TABLE bills.again (id int REFERENCES bills.more);
SELECT * FROM bills.again JOIN bills.more USING (id);
DROP TABLE bills.again, bills.more;
VACUUM invoices;
ANALYZE invoices;
BEGIN;
@may_refuse LOCK TABLE invoices, users IN SHARE MODE;
COMMIT;
-- refused
SELECT count(*), sum(i.total), max(s.name) FROM invoices i, settings s;
SELECT i.state, u.id FROM invoices i JOIN users u ON u.id = i.user_id;
SELECT count(*) FROM users WHERE id IN (SELECT user_id FROM invoices);
BEGIN;
UPDATE invoices SET total = 1 FROM settings;
UPDATE invoices SET total = random() * 0 FROM users u WHERE u.id = invoices.user_id;
DELETE FROM settings USING invoices;
ROLLBACK;
@many @refused DRV6003 ALTER TABLE invoices ADD FOREIGN KEY (user_id) REFERENCES users;
@many @refused DRV6003 ALTER TABLE notes ADD FOREIGN KEY (id) REFERENCES invoices NOT VALID;
@many @refused DRV6003 ALTER TABLE invoices ADD FOREIGN KEY (user_id) REFERENCES notes NOT VALID;
@many @refused DRV6003 CREATE TABLE of_invoices (id int REFERENCES invoices);
@many @refused DRV6003 CREATE TABLE bills.of_notes (id int REFERENCES notes);
@many @refused DRV7112 CREATE TABLE bills.query AS SELECT 1 AS a;
@many @refused DRV7112 SELECT 1 AS a INTO bills.into_query;
@many @refused DRV7112 CREATE TABLE bills.copy (LIKE settings);
@many @refused DRV6008 CREATE VIEW mixed AS SELECT * FROM invoices, settings;
@refused DRV7111 CREATE TABLE nowhere (id int) WITH (drover.place = 'nowhere');
-- home again, while it is used
CREATE TABLE wander (id int PRIMARY KEY, w text);
@drover SELECT drover.place_table('wander', shard => '{shard:2}');
INSERT INTO wander SELECT g, 'x' || g FROM generate_series(1, 100) g;
@drover SELECT drover.place_table('wander', shard => '{shard:1}', online => true);
SELECT count(*), sum(id), max(w) FROM wander;
UPDATE wander SET w = 'y' WHERE id > 90;
