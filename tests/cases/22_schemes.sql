-- Every scheme: rows moved, placed, read, changed, and the keys that nobody listed.
@setup
CREATE TABLE m (k int PRIMARY KEY, v text);
CREATE TABLE m8 (k bigint, id int, v text);
CREATE TABLE l (region text, id int, v text, PRIMARY KEY (region, id));
CREATE TABLE lx (region varchar(10), n int);
CREATE TABLE lc (k char(4), v text);
CREATE TABLE r (k int PRIMARY KEY, v text);
CREATE TABLE rn (k bigint, v text);
CREATE TABLE rt (k text PRIMARY KEY, v text);
CREATE TABLE ru (k uuid PRIMARY KEY, v text);
CREATE TABLE d (tenant varchar(20), id int, v text, PRIMARY KEY (tenant, id));
CREATE TABLE dn (k int, v text);
INSERT INTO m SELECT g, 'before ' || g FROM generate_series(-40, 40) g;
INSERT INTO l SELECT (ARRAY['eu', 'us', 'uk', 'zz', 'it''s', 'a, b', 'EU', ''])[g % 8 + 1], g, 'before' FROM generate_series(1, 80) g;
INSERT INTO lx VALUES (NULL, 0), ('eu', 1), ('us', 2), ('zz', 3), ('null', 4);
INSERT INTO lc VALUES (NULL, 'null'), ('a', 'a'), ('ab', 'ab'), ('b', 'b');
INSERT INTO r SELECT g, 'before ' || g FROM generate_series(-50, 250, 5) g;
INSERT INTO rn VALUES (NULL, 'null'), (-1, 'low'), (0, 'at'), (99, 'below'), (100, 'edge'), (9223372036854775807, 'top');
INSERT INTO rt SELECT chr(97 + g) || g, 'before' FROM generate_series(0, 25) g;
INSERT INTO rt VALUES ('', 'empty'), ('é', 'accent'), ('Z', 'capital'), ('m', 'edge'), ('日', 'far');
INSERT INTO ru SELECT md5(g::text)::uuid, g::text FROM generate_series(1, 50) g;
INSERT INTO d SELECT (ARRAY['acme', 'big', 'small', 'other'])[g % 4 + 1], g, 'before' FROM generate_series(1, 60) g;
INSERT INTO dn VALUES (NULL, 'null'), (1, 'one'), (2, 'two'), (3, 'three');
@drover SELECT drover.shard_table('m', key => 'k', scheme => 'modulo');
@drover SELECT drover.shard_table('m8', key => 'k', scheme => 'modulo');
@drover SELECT drover.shard_table('l', key => 'region', scheme => 'list', places => '{shard:1} = eu, ''it''''s''; {shard:2} = us, ''a, b''; {shard:3} = uk; {shard:4} = *');
@drover SELECT drover.shard_table('lx', key => 'region', colocate_with => 'l');
@drover SELECT drover.shard_table('lc', key => 'k', scheme => 'list', places => '{shard:2} = a, NULL; {shard:1} = *');
@drover SELECT drover.shard_table('r', key => 'k', scheme => 'range', places => '{shard:1} < 0; {shard:2} < 100; {shard:3} < 200; {shard:4}');
@drover SELECT drover.shard_table('rn', key => 'k', scheme => 'range', places => '{shard:1} < 0; {shard:2} < 100; {shard:3}');
@drover SELECT drover.shard_table('rt', key => 'k', scheme => 'range', places => '{shard:1} < g; {shard:2} < m; {shard:3} < ''t''; {shard:4}');
@drover SELECT drover.shard_table('ru', key => 'k', scheme => 'range', places => '{shard:2} < 80000000-0000-0000-0000-000000000000; {shard:1}');
@drover SELECT drover.shard_table('d', key => 'tenant', scheme => 'directory', places => '{shard:2} = acme; {shard:3} = big');
@drover SELECT drover.shard_table('dn', key => 'k', scheme => 'directory', places => '{shard:1} = 1, NULL; {shard:2} = 2');
@oracle CREATE TABLE made (k int PRIMARY KEY, v text DEFAULT 'x');
@drover CREATE TABLE made (k int PRIMARY KEY, v text DEFAULT 'x') WITH (drover.shard_key = 'k', drover.scheme = 'range', drover.places = '{shard:2} < 10; {shard:1}');
@oracle CREATE TABLE child (k int, id int, PRIMARY KEY (k, id), FOREIGN KEY (k) REFERENCES made (k) ON DELETE CASCADE);
@drover CREATE TABLE child (k int, id int, PRIMARY KEY (k, id), FOREIGN KEY (k) REFERENCES made (k) ON DELETE CASCADE) WITH (drover.shard_key = 'k', drover.colocate_with = 'made');
@cases
SELECT * FROM m WHERE k = 7;
SELECT * FROM m WHERE k IN (-3, 0, 5, 8, 500);
@params (-7) SELECT * FROM m WHERE k = $1;
@params ('{-1,0,1,2}') SELECT * FROM m WHERE k = ANY ($1);
@ordered SELECT * FROM m ORDER BY k LIMIT 10 OFFSET 5;
SELECT count(*), sum(k), min(k), max(v) FROM m;
INSERT INTO m VALUES (100, 'a'), (101, 'b'), (102, 'c'), (-2147483648, 'd'), (2147483647, 'e');
INSERT INTO m8 SELECT k, k % 5, v FROM m WHERE k = 7;
INSERT INTO m8 VALUES (7, 1, 'x'), (-7, 2, 'y'), (NULL, 3, 'z'), (9223372036854775807, 4, 'w');
SELECT m.k, m8.id FROM m JOIN m8 ON m.k = m8.k;
SELECT count(*) FROM m LEFT JOIN m8 USING (k);
UPDATE m SET v = v || '!' WHERE k IN (1, 2, 3, 4, 5);
DELETE FROM m WHERE k BETWEEN -5 AND 5;
INSERT INTO m VALUES (7, 'again'), (300, 'new') ON CONFLICT (k) DO UPDATE SET v = excluded.v RETURNING *;
@error 23505 INSERT INTO m VALUES (7, 'twice');
SELECT * FROM m8 WHERE k IS NULL;
COPY m (k, v) FROM STDIN;
400	copied
-400	copied
401	\N
402	x
\.
SELECT * FROM m WHERE k >= 400 OR k = -400;
SELECT * FROM l WHERE region = 'eu';
SELECT * FROM l WHERE region = 'it''s';
SELECT * FROM l WHERE region = 'a, b';
SELECT * FROM l WHERE region = 'nobody listed this';
SELECT * FROM l WHERE region IN ('eu', 'us', 'EU', '');
@params ('uk') SELECT * FROM l WHERE region = $1;
@params ('uk'::varchar) SELECT * FROM l WHERE region = $1;
SELECT region, count(*) FROM l GROUP BY region;
SELECT l.region, l.id, lx.n FROM l JOIN lx ON l.region = lx.region;
SELECT count(*) FROM lx LEFT JOIN l USING (region);
INSERT INTO l VALUES ('eu', 1000, 'a'), ('us', 1000, 'b'), ('uk', 1000, 'c'), ('fr', 1000, 'd'), ('NULL', 1000, 'e');
INSERT INTO lx VALUES ('uk', 5), (NULL, 6), ('NULL', 7);
SELECT * FROM lx WHERE region IS NULL;
UPDATE l SET v = 'changed' WHERE id = 1000;
UPDATE l SET v = v || '?' WHERE region = 'fr' RETURNING id, v;
DELETE FROM l WHERE region IN ('us', 'fr') AND id > 50;
@may_refuse UPDATE l SET region = 'us' WHERE region = 'eu' AND id = 1000;
COPY l FROM STDIN WITH (FORMAT csv);
eu,2000,x
"it's",2000,y
"a, b",2000,z
"",2000,empty
somewhere,2000,w
\.
SELECT * FROM l WHERE id = 2000;
COPY lx FROM STDIN;
\N	10
eu	11
\.
SELECT * FROM lx;
SELECT * FROM lc WHERE k = 'a';
SELECT * FROM lc WHERE k = 'a   ';
INSERT INTO lc VALUES ('a  ', 'blanks'), ('c', 'c'), (NULL, 'again');
SELECT * FROM lc WHERE k = 'a' OR k IS NULL;
SELECT * FROM r WHERE k = 0;
SELECT * FROM r WHERE k = 95;
SELECT * FROM r WHERE k IN (-5, 0, 95, 100, 195, 200);
SELECT * FROM r WHERE k BETWEEN 20 AND 60;
SELECT * FROM r WHERE k >= 190;
SELECT * FROM r WHERE k < 0;
SELECT * FROM r WHERE k > 90 AND k <= 110;
SELECT * FROM r WHERE 90 < k AND k < 105 AND v IS NOT NULL;
SELECT * FROM r WHERE k > 60 AND k < 20;
SELECT * FROM r WHERE k >= 100 AND k >= 150 AND k < 160;
SELECT * FROM r WHERE k < 10 OR k > 240;
SELECT * FROM r WHERE NOT k < 200;
SELECT * FROM r WHERE k > NULL::int;
SELECT * FROM r WHERE k > 150.5;
SELECT * FROM r WHERE k > 100::bigint AND k < 120::smallint;
SELECT count(*), sum(k), max(v) FROM r WHERE k BETWEEN 20 AND 120;
SELECT count(*) FROM r WHERE k BETWEEN 1000 AND 2000;
SELECT max(k) FROM r WHERE k < -1000;
@ordered SELECT k FROM r WHERE k > 80 ORDER BY k DESC LIMIT 7;
@params (20, 60) SELECT * FROM r WHERE k BETWEEN $1 AND $2;
@params (150) SELECT * FROM r WHERE k >= $1;
@params (150::int8) SELECT * FROM r WHERE k < $1;
@params (NULL) SELECT * FROM r WHERE k < $1;
SELECT a.k, b.k FROM r a JOIN r b ON a.k = b.k WHERE a.k BETWEEN 90 AND 110;
SELECT a.k, b.k FROM r a LEFT JOIN r b ON a.k = b.k AND b.k < 100 WHERE a.k > 80 AND a.k < 130;
SELECT a.k FROM r a LEFT JOIN r b ON a.k = b.k WHERE b.k < 20;
SELECT * FROM r WHERE EXISTS (SELECT 1 FROM r x WHERE x.k = r.k AND x.k > 215);
SELECT count(*) FROM (SELECT k FROM r WHERE k > 200) s;
WITH s AS (SELECT * FROM r WHERE k > 230) SELECT * FROM s;
UPDATE r SET v = 'low' WHERE k < 0;
UPDATE r SET v = 'middle' WHERE k BETWEEN 95 AND 105 RETURNING k, v;
DELETE FROM r WHERE k >= 245;
INSERT INTO r VALUES (-1, 'a'), (1, 'b'), (99, 'c'), (101, 'd'), (199, 'e'), (201, 'f'), (2147483647, 'g'), (-2147483648, 'h');
@ordered SELECT * FROM r ORDER BY k;
COPY r FROM STDIN;
-77	copied
77	copied
177	copied
277	copied
\.
SELECT * FROM r WHERE v = 'copied';
COPY (SELECT k FROM r WHERE k = 77) TO STDOUT;
SELECT * FROM rn;
SELECT * FROM rn WHERE k IS NULL;
SELECT * FROM rn WHERE k > 0 OR k IS NULL;
SELECT * FROM rn WHERE k >= 100;
INSERT INTO rn VALUES (NULL, 'again'), (100, 'x'), (-9223372036854775808, 'bottom');
SELECT * FROM rn WHERE k < 100;
SELECT * FROM rt WHERE k = 'm';
SELECT * FROM rt WHERE k = 'Z' OR k = 'é';
SELECT * FROM rt WHERE k > 'g';
SELECT * FROM rt WHERE k < 'm' COLLATE "C";
SELECT * FROM rt WHERE k >= 'm' COLLATE "C" AND k < 't' COLLATE "C";
INSERT INTO rt VALUES ('g', '1'), ('fz', '2'), ('zz', '3'), ('🐑', '4');
SELECT * FROM rt WHERE length(v) = 1;
SELECT * FROM ru WHERE k = md5('7')::uuid;
SELECT * FROM ru WHERE k < '80000000-0000-0000-0000-000000000000';
SELECT * FROM ru WHERE k = '80000000-0000-0000-0000-000000000000';
INSERT INTO ru VALUES ('7fffffff-ffff-ffff-ffff-ffffffffffff', 'a'), ('80000000-0000-0000-0000-000000000000', 'b');
SELECT count(*) FROM ru WHERE k >= '7fffffff-ffff-ffff-ffff-ffffffffffff';
SELECT * FROM d WHERE tenant = 'acme';
SELECT tenant, count(*) FROM d GROUP BY 1;
@params ('big') SELECT id FROM d WHERE tenant = $1;
INSERT INTO d VALUES ('acme', 1000, 'a'), ('big', 1000, 'b'), ('new', 1000, 'c');
SELECT * FROM d WHERE tenant IN ('acme', 'new') AND id >= 1000;
DELETE FROM d WHERE tenant = 'big';
SELECT * FROM dn;
SELECT * FROM dn WHERE k = 1 OR k = 3;
INSERT INTO dn VALUES (NULL, 'x'), (1, 'y'), (2, 'z'), (4, 'w');
SELECT count(*), count(k) FROM dn;
@may_refuse SELECT count(*) FROM m JOIN r ON m.k = r.k;
@may_refuse SELECT count(*) FROM l JOIN d ON l.region = d.tenant;
INSERT INTO made VALUES (1), (9), (10), (11);
INSERT INTO child VALUES (1, 1), (9, 1), (10, 1), (10, 2);
@error 23503 INSERT INTO child VALUES (12, 1);
SELECT made.*, child.id FROM made JOIN child USING (k);
DELETE FROM made WHERE k = 10;
SELECT * FROM child;
TRUNCATE made, child;
SELECT count(*) FROM made;
