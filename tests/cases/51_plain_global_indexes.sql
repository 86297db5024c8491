-- Global indexes that are not unique: any number of rows with a value, of one key or of many. And indexes of salted tables.
@setup
CREATE TABLE towns (id int PRIMARY KEY, title text);
INSERT INTO towns SELECT g, 'town ' || g FROM generate_series(0, 6) g;
@drover SELECT drover.reference_table('towns');
CREATE TABLE people (id int PRIMARY KEY, town int, name text, nick varchar(12), code uuid, n int DEFAULT 0);
INSERT INTO people SELECT g, g % 7, 'n' || g % 9, CASE WHEN g % 3 > 0 THEN '+' || g % 4 END, NULL, g FROM generate_series(1, 60) g;
@drover SELECT drover.shard_table('people', key => 'id');
-- Many rows of one key, with and without equal values; keys that are NULL, and of several columns.
CREATE TABLE orders (tenant numeric, id int, state text, item int);
INSERT INTO orders SELECT g % 5, g, CASE g % 3 WHEN 0 THEN 'open' WHEN 1 THEN 'paid' ELSE 'sent' END, g % 2 FROM generate_series(1, 60) g;
@drover SELECT drover.shard_table('orders', key => 'tenant');
CREATE TABLE hosts (region text, id bigint, name text NOT NULL, port int, PRIMARY KEY (region, id));
INSERT INTO hosts SELECT 'r' || g % 3, g, 'h' || g % 4, g % 2 FROM generate_series(1, 24) g;
@drover SELECT drover.shard_table('hosts', key => 'region, id');
CREATE TABLE visits (page int, id int, who text, mail text, PRIMARY KEY (page, id));
INSERT INTO visits SELECT g % 3, g, 'w' || g % 4, 'm' || g FROM generate_series(1, 40) g;
@drover SELECT drover.shard_table('visits', key => 'page', salt => 8);
CREATE TABLE notes (person int NOT NULL, id int, words text, PRIMARY KEY (person, id));
INSERT INTO notes SELECT 1 + g % 20, g, 'x' || g % 5 FROM generate_series(1, 40) g;
@drover SELECT drover.shard_table('notes', key => 'person', colocate_with => 'people');
ALTER TABLE notes ADD FOREIGN KEY (person) REFERENCES people ON DELETE CASCADE ON UPDATE CASCADE;
@drover SELECT drover.create_global_index('people', 'name');
@drover SELECT drover.create_global_index('people', 'nick', unique => false, name => 'by_nick');
@drover SELECT drover.create_global_index('people', 'code', unique => true);
@oracle ALTER TABLE people ADD UNIQUE (code);
@drover SELECT drover.create_global_index('orders', 'state');
@drover SELECT drover.create_global_index('orders', 'item, state');
@drover SELECT drover.create_global_index('hosts', 'name, port');
@drover SELECT drover.create_global_index('visits', 'who');
@drover SELECT drover.create_global_index('visits', 'mail', unique => true);
@oracle ALTER TABLE visits ADD UNIQUE (mail);
@drover SELECT drover.create_global_index('notes', 'words');
@cases
SELECT id FROM people WHERE name = 'n4';
SELECT count(*), sum(n) FROM people WHERE name IN ('n4', 'n5', 'nobody', NULL);
@params ('n4') SELECT id FROM people WHERE name = $1 ORDER BY id;
SELECT t.title, p.id FROM people p JOIN towns t ON t.id = p.town WHERE p.name = 'n1';
SELECT id FROM people WHERE nick = '+2' AND name = 'n2';
SELECT count(*) FROM people WHERE name = 'nobody';
SELECT state, count(*) FROM orders WHERE state = 'open' GROUP BY state;
SELECT id FROM orders WHERE item = 1 AND state IN ('paid', 'sent') ORDER BY id LIMIT 5;
SELECT id FROM hosts WHERE name = 'h1' AND port = 1;
SELECT id FROM visits WHERE who = 'w1';
SELECT id FROM visits WHERE mail IN ('m7', 'm8');
SELECT person, id FROM notes WHERE words = 'x3';
-- INSERT: as many as one likes
INSERT INTO people (id, name) VALUES (100, 'n4'), (101, 'n4'), (102, 'new'), (103, NULL);
INSERT INTO people (id, name) VALUES (104, 'new') RETURNING id, name;
@error 23505 INSERT INTO people (id, name) VALUES (104, 'newer');
SELECT id FROM people WHERE name = 'newer';
SELECT id FROM people WHERE name = 'new';
@refused DRV7132 INSERT INTO people (id, name) VALUES (104, 'x') ON CONFLICT DO NOTHING;
INSERT INTO hosts VALUES ('r1', 1, 'h1', 1), ('r9', 1, 'h1', 1) ON CONFLICT DO NOTHING;
SELECT region, id FROM hosts WHERE (name, port) = ('h1', 1);
INSERT INTO people (id, code) VALUES (110, '6b6b6b6b-0000-4000-8000-000000000001');
@error 23505 INSERT INTO people (id, name, code) VALUES (111, 'n4', '6b6b6b6b-0000-4000-8000-000000000001');
SELECT count(*) FROM people WHERE name = 'n4';
@error 22001 INSERT INTO people (id, nick) VALUES (112, '1234567890123');
-- equal rows of one key
INSERT INTO orders VALUES (1, 100, 'lost', 1), (1, 100, 'lost', 1), (1.0, 100, 'lost', 1), (NULL, 100, 'lost', 1), (NULL, 101, 'lost', 1);
SELECT tenant, id FROM orders WHERE state = 'lost';
UPDATE orders SET state = 'found' WHERE tenant = 1 AND id = 100;
SELECT tenant, id FROM orders WHERE state = 'found';
SELECT count(*) FROM orders WHERE state = 'lost';
DELETE FROM orders WHERE state = 'lost' AND id = 101;
SELECT count(*) FROM orders WHERE state = 'lost';
DELETE FROM orders WHERE state = 'found' AND tenant = 1;
SELECT count(*) FROM orders WHERE state IN ('found', 'lost');
INSERT INTO orders SELECT 2, 7, 'many', g % 2 FROM generate_series(1, 40) g;
DELETE FROM orders WHERE state = 'many' AND item = 1;
SELECT count(*), sum(item) FROM orders WHERE state = 'many';
UPDATE orders SET item = 7 WHERE item = 0 AND state = 'many';
SELECT count(*) FROM orders WHERE item = 7 AND state = 'many';
SELECT count(*) FROM orders WHERE item = 0 AND state = 'many';
-- UPDATE, of the key, too; DELETE; upsert; cascades
UPDATE people SET name = 'n5' WHERE name = 'n4' AND id < 40 RETURNING id;
UPDATE people SET name = upper(name) WHERE name IN ('n5', 'n6');
SELECT id FROM people WHERE name = 'N5';
@may_refuse UPDATE people SET id = id + 1000 WHERE name = 'N6' AND id > 20;
SELECT id FROM people WHERE name = 'N6';
DELETE FROM people WHERE name = 'n7' RETURNING id;
SELECT id FROM people WHERE name = 'n7';
INSERT INTO people (id, name) VALUES (44, 'upserted'), (144, 'upserted') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id;
SELECT id FROM people WHERE name = 'upserted';
UPDATE people SET n = n + 1 WHERE name = 'n1';
DELETE FROM people WHERE id IN (1, 2, 3, 4);
SELECT person, id FROM notes WHERE words = 'x3';
INSERT INTO people (id, name) SELECT id + 2000, 'copy' FROM people WHERE name = 'n2';
SELECT count(*) FROM people WHERE name = 'copy';
-- COPY
COPY people (id, name, nick) FROM STDIN;
300	c300	same
301	c300	same
302	\N	same
\.
SELECT id FROM people WHERE nick = 'same';
SELECT id FROM people WHERE name = 'c300';
-- blocks and savepoints
@nowrap BEGIN;
@nowrap INSERT INTO people (id, name) VALUES (170, 'block'), (171, 'block');
@nowrap SAVEPOINT a;
@nowrap INSERT INTO people (id, name) VALUES (172, 'block');
@nowrap DELETE FROM people WHERE id = 170;
@nowrap SELECT id FROM people WHERE name = 'block';
@nowrap ROLLBACK TO a;
@nowrap SELECT id FROM people WHERE name = 'block';
@nowrap UPDATE people SET name = 'blocks' WHERE id = 171;
@nowrap UPDATE people SET name = 'block' WHERE id = 171;
@nowrap COMMIT;
SELECT id FROM people WHERE name = 'block';
@nowrap BEGIN ISOLATION LEVEL REPEATABLE READ;
@nowrap INSERT INTO people (id, name) VALUES (400, 'rr');
@nowrap UPDATE people SET name = 'rr2' WHERE id = 400;
@nowrap SELECT id FROM people WHERE name = 'rr2';
@nowrap DELETE FROM people WHERE name = 'rr2';
@nowrap COMMIT;
SELECT id FROM people WHERE name LIKE 'rr%';
-- salted
INSERT INTO visits VALUES (1, 100, 'w1', 'm100'), (1, 101, 'w1', 'm101');
@error 23505 INSERT INTO visits VALUES (2, 102, 'w1', 'm100');
@error 23505 UPDATE visits SET mail = 'm7' WHERE page = 1 AND id = 100;
UPDATE visits SET who = 'w9' WHERE who = 'w1' AND page = 1;
SELECT page, id FROM visits WHERE who = 'w9';
SELECT page, id FROM visits WHERE who = 'w1';
@may_refuse UPDATE visits SET id = id + 500 WHERE mail = 'm101';
SELECT page, id FROM visits WHERE mail = 'm101';
DELETE FROM visits WHERE mail IN ('m1', 'm2', 'm100') RETURNING id;
INSERT INTO visits VALUES (2, 102, 'w1', 'm100');
-- what an index would not follow
@refused DRV7133 ALTER TABLE people RENAME COLUMN name TO title;
@refused DRV7133 TRUNCATE visits;
DROP TABLE visits;
CREATE TABLE visits (page int, id int, who text, mail text, PRIMARY KEY (page, id));
INSERT INTO visits VALUES (1, 1, 'w1', 'm1'), (2, 1, 'w1', 'm1');
