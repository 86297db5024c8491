-- Regions: rows of a region are on its shard and nowhere else; a region that is not listed cannot be stored.
@setup
CREATE TABLE people (region text, id int, v text, PRIMARY KEY (region, id));
CREATE TABLE visits (region varchar(10) NOT NULL, id int, n int);
INSERT INTO people SELECT (ARRAY['eu', 'us', 'uk', 'it''s'])[g % 4 + 1], g, 'before' FROM generate_series(1, 60) g;
INSERT INTO visits SELECT (ARRAY['eu', 'us'])[g % 2 + 1], g, g FROM generate_series(1, 30) g;
@drover SELECT drover.shard_table('people', key => 'region', scheme => 'geo', places => '{shard:1} = eu, ''it''''s''; {shard:2} = us; {shard:3} = uk');
@drover SELECT drover.shard_table('visits', key => 'region', colocate_with => 'people');
@oracle CREATE TABLE made (region text, id bigint, v text);
@drover CREATE TABLE made (region text, id bigint, v text) WITH (drover.shard_key = 'region', drover.scheme = 'geo', drover.places = '{shard:2} = eu; {shard:1} = us, NULL');
@oracle ALTER TABLE people ADD CONSTRAINT drover_residency CHECK (region IN ('eu', 'us', 'uk', 'it''s'));
@oracle ALTER TABLE visits ADD CONSTRAINT drover_residency CHECK (region IN ('eu', 'us', 'uk', 'it''s'));
@oracle ALTER TABLE made ADD CONSTRAINT drover_residency CHECK (coalesce(region, 'eu') IN ('eu', 'us'));
CREATE TABLE regions (code text PRIMARY KEY, title text);
INSERT INTO regions VALUES ('eu', 'Europe'), ('us', 'America'), ('uk', NULL), ('fr', 'nobody may be here'), ('', 'nor here');
@drover SELECT drover.reference_table('regions');
@cases
-- a region that no shard may have is answered once all the same
SELECT r.code, count(p.id) FROM regions r LEFT JOIN people p ON p.region = r.code GROUP BY r.code;
SELECT r.code, m.id FROM regions r LEFT JOIN made m ON m.region = r.code;
SELECT r.code FROM regions r WHERE NOT EXISTS (SELECT 1 FROM people p WHERE p.region = r.code AND p.id < 5);
SELECT r.code, p.id FROM regions r LEFT JOIN people p ON p.region = r.code WHERE r.code IN ('fr', 'us');
SELECT * FROM people WHERE region = 'eu';
SELECT * FROM people WHERE region = 'it''s';
SELECT * FROM people WHERE region IN ('us', 'uk', 'zz');
SELECT * FROM people WHERE region = 'nowhere';
@params ('nowhere') SELECT * FROM people WHERE region = $1;
@params ('us') SELECT * FROM people WHERE region = $1;
SELECT region, count(*) FROM people GROUP BY region;
SELECT count(*), sum(id) FROM people;
SELECT p.id, v.n FROM people p JOIN visits v ON p.region = v.region AND p.id = v.id;
SELECT p.id, v.n FROM people p LEFT JOIN visits v USING (region, id);
INSERT INTO people VALUES ('eu', 1000, 'a'), ('us', 1001, 'b'), ('uk', 1002, 'c');
@error 23514 INSERT INTO people VALUES ('fr', 1, 'x');
@error 23514 @any_message INSERT INTO people VALUES ('eu', 2000, 'a'), ('fr', 2001, 'b');
@params ('zz', 5) @error 23514 INSERT INTO people VALUES ($1, $2, 'p');
@error 23502 INSERT INTO people (id) VALUES (1);
@error 23514 INSERT INTO visits VALUES ('EU', 1, 1);
SELECT * FROM people WHERE id >= 1000;
INSERT INTO made VALUES ('eu', 1, 'x'), ('us', 2, 'y'), (NULL, 3, 'z');
@error 23514 INSERT INTO made VALUES ('', 1, 'x');
SELECT * FROM made;
SELECT * FROM made WHERE region IS NULL;
@params (NULL, 9) INSERT INTO made VALUES ($1, $2);
UPDATE people SET v = 'changed' WHERE region = 'eu';
UPDATE people SET v = v || '!' WHERE id < 20 RETURNING id, v;
DELETE FROM people WHERE region = 'nowhere';
DELETE FROM people WHERE region = 'uk' AND id > 50;
INSERT INTO people VALUES ('eu', 1000, 'again'), ('us', 5000, 'new') ON CONFLICT (region, id) DO UPDATE SET v = excluded.v RETURNING *;
COPY people FROM STDIN;
eu	6000	a
us	6001	b
uk	6002	c
\.
@error 23514 @any_message COPY people FROM STDIN WITH (FORMAT csv);
eu,7000,a
fr,7001,b
\.
SELECT * FROM people WHERE id >= 6000;
@refused ALTER TABLE people DROP COLUMN region;
ALTER TABLE people ADD COLUMN extra int DEFAULT 3;
SELECT extra, count(*) FROM people GROUP BY extra;
TRUNCATE people;
SELECT count(*) FROM people;
