-- Partitioned tables that are sharded: made so, sharded with their rows, their partitions made, attached, detached and
-- dropped, used by name and through the table.
@setup
@oracle CREATE TABLE events (k int NOT NULL, d date NOT NULL, kind text, n int DEFAULT 7, PRIMARY KEY (k, d)) PARTITION BY RANGE (d);
@drover CREATE TABLE events (k int NOT NULL, d date NOT NULL, kind text, n int DEFAULT 7, PRIMARY KEY (k, d)) PARTITION BY RANGE (d) WITH (drover.shard_key = 'k');
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
INSERT INTO events SELECT g, date '2024-01-01' + g * 17, 'kind ' || g % 4, g % 10 FROM generate_series(1, 60) g;
-- sharded with its rows, its partitions of two levels, and what belongs to them
CREATE TABLE visits (id bigint, at timestamp, country text, pages int, CONSTRAINT visits_key PRIMARY KEY (id, at, country)) PARTITION BY LIST (country);
CREATE TABLE visits_de (pages int CHECK (pages < 1000), country text NOT NULL, at timestamp NOT NULL, id bigint NOT NULL);
ALTER TABLE visits ATTACH PARTITION visits_de FOR VALUES IN ('de', 'at');
CREATE TABLE visits_us PARTITION OF visits FOR VALUES IN ('us') PARTITION BY HASH (id);
CREATE TABLE visits_us_0 PARTITION OF visits_us FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE visits_us_1 PARTITION OF visits_us FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE visits_other PARTITION OF visits DEFAULT;
CREATE INDEX visits_pages ON visits (pages);
CREATE INDEX ON visits_de (lower(country));
CREATE VIEW german AS SELECT id, pages FROM visits_de WHERE country = 'de';
COMMENT ON TABLE visits_us IS 'partitioned itself';
INSERT INTO visits SELECT g, timestamp '2025-01-01 00:00' + g * interval '7 hours', (ARRAY['de','us','fr','at','it'])[g % 5 + 1], g FROM generate_series(1, 100) g;
@drover SELECT drover.shard_table('visits', key => 'id');
-- the key is the column of the partitions
CREATE TABLE by_key (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
CREATE TABLE by_key_low PARTITION OF by_key FOR VALUES FROM (MINVALUE) TO (50);
CREATE TABLE by_key_high PARTITION OF by_key FOR VALUES FROM (50) TO (MAXVALUE);
INSERT INTO by_key SELECT g, 'v' || g FROM generate_series(1, 100) g;
@drover SELECT drover.shard_table('by_key', key => 'k');
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT g, 'user ' || g FROM generate_series(1, 200) g;
@drover SELECT drover.shard_table('users', key => 'id', colocate_with => 'by_key');
CREATE TABLE kinds (kind text PRIMARY KEY, label text);
INSERT INTO kinds SELECT 'kind ' || g, 'label ' || g FROM generate_series(0, 3) g;
@drover SELECT drover.reference_table('kinds');
CREATE TABLE plain (k int NOT NULL, d date NOT NULL, kind text, n int);
@cases
-- read through the table and by partition
SELECT count(*), sum(k), min(d), max(d) FROM events;
SELECT * FROM events WHERE k = 7;
SELECT * FROM events WHERE k IN (7, 8, 9) AND d > '2024-06-01';
SELECT * FROM events_2024 WHERE k = 7;
SELECT count(*) FROM events_2024;
SELECT count(*) FROM events_rest;
SELECT count(*) FROM ONLY events;
@ordered SELECT k, d FROM events ORDER BY d DESC, k LIMIT 7 OFFSET 3;
SELECT kind, count(*), sum(n) FROM events WHERE d BETWEEN '2024-03-01' AND '2025-03-01' GROUP BY kind;
SELECT country, count(*), avg(pages) FROM visits GROUP BY country;
SELECT count(*) FROM visits_us;
SELECT count(*) FROM visits_us_0;
SELECT * FROM visits_us_1 WHERE id = 3;
SELECT * FROM german;
@params (31) SELECT * FROM visits WHERE id = $1;
@params ('us', 10) SELECT id FROM visits WHERE country = $1 AND pages < $2;
SELECT tableoid::regclass, * FROM visits WHERE id = 12;
@may_refuse DRV3004 SELECT tableoid::regclass, count(*) FROM visits GROUP BY 1;
SELECT * FROM by_key WHERE k = 49;
SELECT * FROM by_key WHERE k BETWEEN 45 AND 55;
-- joins
SELECT u.name, e.d FROM users u JOIN events e ON e.k = u.id WHERE u.id < 20;
SELECT u.name, b.v FROM users u LEFT JOIN by_key_high b ON b.k = u.id WHERE u.id > 90 AND u.id < 110;
SELECT e.k, x.label FROM events e JOIN kinds x USING (kind) WHERE e.d < '2024-06-01';
SELECT a.k, b.k FROM events_2024 a JOIN events_2025 b ON a.k = b.k;
SELECT a.k, count(*) FROM events a JOIN events_2024 b ON a.k = b.k GROUP BY a.k;
@may_refuse SELECT count(*) FROM events a JOIN visits_de b ON a.n = b.pages;
SELECT k FROM events e WHERE EXISTS (SELECT FROM users u WHERE u.id = e.k AND u.name LIKE '%5');
-- written through the table and by partition
INSERT INTO events VALUES (100, '2024-05-05', 'kind 1') RETURNING *;
INSERT INTO events (d, k) VALUES ('2025-05-05', 101), ('2031-01-01', 102), ('2024-02-29', 103) RETURNING k, d, n;
INSERT INTO events_2024 VALUES (104, '2024-12-31', 'kind 2', 1);
INSERT INTO events_2024 VALUES (105, '2024-12-30', 'kind 2', 1), (106, '2024-12-29', 'kind 3', 2), (107, '2024-12-28', 'kind 0', 3);
@error 23514 INSERT INTO events_2024 VALUES (108, '2025-12-31', 'kind 2', 1);
@error 23514 @any_message INSERT INTO events_2024 VALUES (109, '2024-12-31', 'x', 1), (110, '2025-12-31', 'x', 1), (111, '2024-11-30', 'x', 1);
@error 23505 INSERT INTO events VALUES (104, '2024-12-31', 'again', 1);
INSERT INTO events VALUES (104, '2024-12-31', 'again', 1) ON CONFLICT (k, d) DO UPDATE SET kind = excluded.kind, n = events.n + 10 RETURNING *;
INSERT INTO events VALUES (104, '2024-12-31', 'x', 1), (105, '2024-12-30', 'x', 1), (112, '2024-12-30', 'x', 1) ON CONFLICT DO NOTHING;
SELECT count(*), sum(n) FROM events;
INSERT INTO events SELECT g, '2025-07-07', 'many', g FROM generate_series(200, 230) g;
INSERT INTO events SELECT id, '2025-08-08', name, id FROM users WHERE id < 15;
SELECT count(*), sum(n) FROM events_2025;
@params (300, '2024-03-03') INSERT INTO events (k, d) VALUES ($1, $2) RETURNING *;
@error 23514 INSERT INTO visits_de (id, at, country, pages) VALUES (1000, '2025-01-01', 'de', 5000);
@error 23514 INSERT INTO visits (id, at, country, pages) VALUES (1000, '2025-01-01', 'de', 5000);
@error 23514 INSERT INTO visits_us_0 (id, at, country, pages) VALUES (1000, '2025-01-01', 'de', 1);
INSERT INTO visits VALUES (1000, '2025-01-01', 'se', 5), (1001, '2025-01-01', 'us', 5), (1002, '2025-01-01', 'at', 5);
-- a row that moves to another partition stays on its shard
UPDATE events SET d = d + 366 WHERE k = 104 RETURNING *;
UPDATE events SET d = d + 365 WHERE d < '2024-04-01';
SELECT count(*) FROM events_2024;
SELECT count(*) FROM events_2025;
UPDATE visits SET country = 'us' WHERE country = 'fr' AND pages < 50;
SELECT count(*) FROM visits_us;
UPDATE events_2025 SET n = n + 1 WHERE n > 5;
@error 23514 @any_message UPDATE events_2025 SET d = '2030-01-01' WHERE kind = 'kind 1';
UPDATE events e SET kind = u.name FROM users u WHERE u.id = e.k AND u.id < 10;
DELETE FROM events_2025 e USING users u WHERE u.id = e.k AND u.id < 5;
DELETE FROM events WHERE k = 101;
DELETE FROM events WHERE n = 3 RETURNING k;
SELECT count(*), sum(n), count(DISTINCT kind) FROM events;
-- the shard key changes: to another shard, and to another partition of it
UPDATE by_key SET k = 150 WHERE k = 3 RETURNING *;
UPDATE by_key SET k = k + 1000 WHERE k > 95;
SELECT count(*), max(k) FROM by_key_high;
SELECT count(*) FROM by_key_low;
@simple MERGE INTO by_key b USING users u ON b.k = u.id WHEN MATCHED AND u.id < 10 THEN UPDATE SET v = u.name WHEN MATCHED AND u.id < 20 THEN DELETE;
SELECT count(*), min(v) FROM by_key;
-- COPY
COPY events FROM STDIN;
400	2024-01-05	copied	1
401	2025-01-05	copied	2
402	2029-01-05	copied	3
\.
COPY events_2024 (d, k) FROM STDIN (FORMAT csv);
2024-02-02,403
2024-02-03,404
\.
@error 23514 @any_message COPY events_2024 (d, k) FROM STDIN (FORMAT csv);
2024-02-02,405
2026-02-03,406
\.
SELECT * FROM events WHERE k BETWEEN 400 AND 406;
COPY events_rest TO STDOUT;
@error 42809 COPY events TO STDOUT;
COPY (SELECT k, d FROM events WHERE k > 399) TO STDOUT;
-- the schema of the table
ALTER TABLE events ADD COLUMN extra text DEFAULT 'new';
SELECT extra, count(*) FROM events_2025 GROUP BY extra;
CREATE INDEX events_kind ON events (kind);
CREATE INDEX events_2024_n ON events_2024 (n);
CREATE INDEX events_n ON ONLY events (n);
ALTER INDEX events_n ATTACH PARTITION events_2024_n;
SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid IN ('events'::regclass, 'events_2024'::regclass);
DROP INDEX events_n;
ALTER TABLE events ALTER COLUMN kind SET DEFAULT 'unknown';
ALTER TABLE events ADD CONSTRAINT n_small CHECK (n < 1000);
@error 23514 INSERT INTO events VALUES (500, '2025-01-01', 'x', 2000);
@error 23514 INSERT INTO events_2025 VALUES (500, '2025-01-01', 'x', 2000);
ALTER TABLE events RENAME COLUMN k TO key;
SELECT * FROM events_2024 WHERE key = 403;
INSERT INTO events_2024 (key, d) VALUES (410, '2024-10-10');
ALTER TABLE events RENAME COLUMN key TO k;
ALTER TABLE events_2024 RENAME TO events_old;
SELECT count(*) FROM events_old;
@error 42P01 SELECT count(*) FROM events_2024;
INSERT INTO events_old (k, d) VALUES (411, '2024-10-10');
ALTER TABLE events_old RENAME TO events_2024;
@error 42P16 ALTER TABLE events_2024 DROP COLUMN n;
@refused DRV6004 ALTER TABLE events DROP COLUMN k;
@refused ALTER TABLE events ADD CONSTRAINT d_unique UNIQUE (d);
@refused CREATE UNIQUE INDEX ON events_2024 (n);
-- foreign keys from and to it
@error 23503 ALTER TABLE events ADD CONSTRAINT of_user FOREIGN KEY (k) REFERENCES users;
DELETE FROM events WHERE k > 200;
ALTER TABLE events ADD CONSTRAINT of_user FOREIGN KEY (k) REFERENCES users;
@error 23503 INSERT INTO events_2024 (k, d) VALUES (201, '2024-10-10');
ALTER TABLE events DROP CONSTRAINT of_user;
INSERT INTO events VALUES (400, '2024-01-05', 'again', 1), (401, '2025-01-05', 'again', 2), (402, '2029-01-05', 'again', 3);
@oracle CREATE TABLE notes (k int, d date, note text, FOREIGN KEY (k, d) REFERENCES events ON DELETE CASCADE);
@drover CREATE TABLE notes (k int, d date, note text, FOREIGN KEY (k, d) REFERENCES events ON DELETE CASCADE) WITH (drover.shard_key = 'k', drover.colocate_with = 'events');
INSERT INTO notes VALUES (401, '2025-01-05', 'a'), (402, '2029-01-05', 'b');
@error 23503 INSERT INTO notes VALUES (401, '2025-01-06', 'a');
@error 23503 INSERT INTO notes VALUES (9999, '2025-01-06', 'a');
DELETE FROM events_rest WHERE k = 402;
SELECT * FROM notes;
DROP TABLE notes;
-- partitions come and go
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
INSERT INTO events SELECT g, '2027-03-03', 'late', 1 FROM generate_series(600, 620) g;
SELECT count(*) FROM events_2026;
@error 42P17 CREATE TABLE overlapping PARTITION OF events FOR VALUES FROM ('2024-05-01') TO ('2024-06-01');
CREATE TABLE IF NOT EXISTS events_2026 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
@error 42P07 CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
CREATE TABLE IF NOT EXISTS events_2028 PARTITION OF events FOR VALUES FROM ('2028-01-01') TO ('2029-01-01') PARTITION BY RANGE (k);
CREATE TABLE events_2028_a PARTITION OF events_2028 FOR VALUES FROM (0) TO (703);
CREATE TABLE events_2028_b PARTITION OF events_2028 (n DEFAULT 99, CHECK (n > 50)) FOR VALUES FROM (703) TO (710);
INSERT INTO events (k, d, kind) VALUES (700, '2028-02-02', 'a'), (701, '2028-02-02', 'a'), (702, '2028-02-02', 'a');
@error 23514 INSERT INTO events (k, d, kind) VALUES (703, '2028-02-02', 'b');
INSERT INTO events_2028_b (k, d, kind) VALUES (703, '2028-02-02', 'b'), (704, '2028-02-02', 'b');
@error 23514 INSERT INTO events (k, d, kind) VALUES (710, '2028-02-02', 'c');
SELECT * FROM events_2028;
ALTER TABLE events DETACH PARTITION events_2028;
SELECT count(*) FROM events;
SELECT * FROM events_2028 WHERE k = 703;
SELECT count(*), sum(n) FROM events_2028;
INSERT INTO events_2028 (k, d, kind) VALUES (5, '1999-01-01', 'a'), (6, '1999-01-01', 'a'), (7, '1999-01-01', 'a');
SELECT u.name FROM users u JOIN events_2028 e ON e.k = u.id;
ALTER TABLE events_2028 ADD COLUMN more int;
@error 42804 ALTER TABLE events ATTACH PARTITION events_2028 FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
ALTER TABLE events_2028 DROP COLUMN more;
@error 23514 @any_message ALTER TABLE events ATTACH PARTITION events_2028 FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
DELETE FROM events_2028 WHERE d < '2000-01-01';
ALTER TABLE events ATTACH PARTITION events_2028 FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
SELECT count(*), sum(n) FROM events;
INSERT INTO events (k, d, kind) VALUES (8, '2028-02-02', 'a') RETURNING *;
ALTER TABLE events DETACH PARTITION events_2028;
ALTER TABLE events_2028 RENAME TO far;
SELECT count(*) FROM far;
DROP TABLE far;
@error 42P01 SELECT * FROM events_2028_a;
@refused DRV7082 ALTER TABLE events DETACH PARTITION events_2026 CONCURRENTLY;
@refused DRV7081 CREATE TABLE now PARTITION OF events FOR VALUES FROM (now()) TO (now() + interval '1 day');
@refused DRV7081 CREATE TABLE now PARTITION OF events FOR VALUES FROM (CURRENT_DATE) TO ('2040-01-01');
@refused DRV7081 CREATE TABLE now PARTITION OF events FOR VALUES FROM ('today') TO ('tomorrow');
@refused DRV7080 ALTER TABLE events ATTACH PARTITION plain FOR VALUES FROM ('2050-01-01') TO ('2051-01-01');
@refused DRV2006 CREATE TABLE child () INHERITS (events);
@refused DRV2006 ALTER TABLE plain INHERIT users;
@refused CREATE SCHEMA hidden CREATE TABLE part PARTITION OF public.events FOR VALUES FROM ('2060-01-01') TO ('2061-01-01');
-- attached after it was sharded
INSERT INTO plain SELECT g, '2050-05-05', 'x', g FROM generate_series(1, 20) g;
@drover SELECT drover.shard_table('plain', key => 'k', colocate_with => 'events');
ALTER TABLE plain ADD COLUMN extra text DEFAULT 'attached', ADD CONSTRAINT n_small CHECK (n < 1000);
ALTER TABLE events ATTACH PARTITION plain FOR VALUES FROM ('2050-01-01') TO ('2051-01-01');
SELECT extra, count(*) FROM events GROUP BY extra;
SELECT * FROM events WHERE k = 11 AND d > '2049-01-01';
INSERT INTO events (k, d) VALUES (800, '2050-06-06');
SELECT count(*) FROM plain;
TRUNCATE plain;
SELECT count(*) FROM events;
DROP TABLE plain;
-- in one transaction
BEGIN;
CREATE TABLE events_2070 PARTITION OF events FOR VALUES FROM ('2070-01-01') TO ('2071-01-01');
INSERT INTO events (k, d) SELECT g, '2070-07-07' FROM generate_series(1, 20) g;
SELECT count(*) FROM events_2070;
ALTER TABLE events DETACH PARTITION events_2070;
SELECT count(*) FROM events;
UPDATE events_2070 SET n = 1 WHERE k = 3;
COMMIT;
SELECT count(*), sum(n) FROM events_2070;
BEGIN;
ALTER TABLE events ATTACH PARTITION events_2070 FOR VALUES FROM ('2070-01-01') TO ('2071-01-01');
ALTER TABLE events_2070 RENAME TO future;
SELECT count(*) FROM events;
COMMIT;
SELECT count(*) FROM future;
BEGIN;
ALTER TABLE events DETACH PARTITION future;
ROLLBACK;
SELECT count(*) FROM events;
BEGIN;
ALTER TABLE events DETACH PARTITION future;
DROP TABLE future;
COMMIT;
SELECT count(*) FROM events;
@error 42P01 SELECT count(*) FROM future;
-- the end
TRUNCATE events;
SELECT count(*) FROM events_2024;
DROP TABLE events_2024;
INSERT INTO events (k, d) VALUES (1, '2024-01-01');
SELECT count(*) FROM events_rest;
DROP TABLE events;
@error 42P01 SELECT count(*) FROM events_rest;
@drover SELECT drover.shard_table('visits', key => 'country, id');
SELECT country, count(*), sum(pages) FROM visits GROUP BY country;
SELECT * FROM visits_us WHERE id = 31 AND country = 'us';
INSERT INTO visits VALUES (2000, '2025-01-01', 'us', 5), (2001, '2025-01-01', 'de', 5), (2002, '2025-01-01', 'xx', 5);
@drover SELECT drover.unshard_table('visits');
SELECT country, count(*), sum(pages) FROM visits GROUP BY country;
SELECT count(*) FROM german;
INSERT INTO visits_de (id, at, country, pages) VALUES (2003, '2025-01-01', 'de', 6);
CREATE TABLE visits_xx PARTITION OF visits FOR VALUES IN ('yy');
@drover SELECT drover.shard_table('visits', key => 'at');
SELECT country, count(*), sum(pages) FROM visits GROUP BY country;
@may_refuse DRV2004 SELECT * FROM german WHERE pages = 6;
DROP TABLE visits CASCADE;
DROP SCHEMA IF EXISTS parts CASCADE;
CREATE SCHEMA parts;
ALTER TABLE by_key SET SCHEMA parts;
SELECT count(*) FROM parts.by_key;
SELECT count(*) FROM by_key_low;
ALTER TABLE by_key_low SET SCHEMA parts;
SELECT count(*) FROM parts.by_key_low WHERE k = 30;
DROP SCHEMA parts CASCADE;
@error 42P01 SELECT count(*) FROM by_key_high;
CREATE TABLE by_key_high (other text);
INSERT INTO by_key_high VALUES ('unsharded');
SELECT * FROM by_key_high;
