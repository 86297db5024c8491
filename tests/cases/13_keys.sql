-- Every key type, and tables without rows.
@setup
CREATE TABLE k2 (k smallint PRIMARY KEY, v text);
CREATE TABLE k4 (k int PRIMARY KEY, v text);
CREATE TABLE k8 (k bigint PRIMARY KEY, v text);
CREATE TABLE kt (k text PRIMARY KEY, v text);
CREATE TABLE kv (k varchar(20) PRIMARY KEY, v text);
CREATE TABLE kc (k char(8) PRIMARY KEY, v text);
CREATE TABLE ku (k uuid PRIMARY KEY, v text);
CREATE TABLE kn (k int, v text);
CREATE TABLE "Odd Name" ("The Key" int PRIMARY KEY, "select" text);
CREATE TABLE nothing (k bigint PRIMARY KEY, n int, t text, f float8, d date);
@drover SELECT drover.shard_table('k2', key => 'k');
@drover SELECT drover.shard_table('k4', key => 'k');
@drover SELECT drover.shard_table('k8', key => 'k');
@drover SELECT drover.shard_table('kt', key => 'k');
@drover SELECT drover.shard_table('kv', key => 'k');
@drover SELECT drover.shard_table('kc', key => 'k');
@drover SELECT drover.shard_table('ku', key => 'k');
@drover SELECT drover.shard_table('kn', key => 'k');
@drover SELECT drover.shard_table('"Odd Name"', key => '"The Key"');
@drover SELECT drover.shard_table('nothing', key => 'k');
@load k2 60 1
@load k4 60 2
@load k8 60 3
@load kt 60 4
@load kv 60 5
@load kc 60 6
@load ku 60 7
@cases
SELECT * FROM k2 WHERE k = 7;
SELECT * FROM k2 WHERE k = 7::int8;
SELECT * FROM k2 WHERE k = 70000;
SELECT * FROM k2 WHERE k IN (1, 2, 3, 40000);
SELECT * FROM k2 WHERE k = ANY ('{1,2,3}');
SELECT * FROM k2 WHERE k = ANY ('{1,2,3}'::int8[]);
@params (7) SELECT * FROM k2 WHERE k = $1;
@params (7::int8) SELECT * FROM k2 WHERE k = $1;
SELECT * FROM k4 WHERE k = 7;
SELECT * FROM k4 WHERE k = 7::int2;
SELECT * FROM k4 WHERE k = 7::int8;
SELECT * FROM k4 WHERE k = 5000000000;
SELECT * FROM k4 WHERE k = 7.0;
SELECT * FROM k4 WHERE k = 7::float8;
SELECT * FROM k4 WHERE k = '7'::text::int;
@params (7) SELECT * FROM k4 WHERE k = $1;
@params (7::int8) SELECT * FROM k4 WHERE k = $1;
@params ('{5,6,7}') SELECT * FROM k4 WHERE k = ANY ($1);
@params ('{5,6,7}'::int8[]) SELECT * FROM k4 WHERE k = ANY ($1);
SELECT * FROM k8 WHERE k = 7;
SELECT * FROM k8 WHERE k = 7::int2;
@params (7::int2) SELECT * FROM k8 WHERE k = $1;
SELECT * FROM k4 JOIN k8 ON k4.k = k8.k WHERE k4.k = 7;
@may_refuse SELECT count(*) FROM k4 JOIN k8 ON k4.k = k8.k;
@may_refuse SELECT count(*) FROM k2 JOIN k8 USING (k);
SELECT * FROM kt WHERE k = 'key-7';
SELECT * FROM kt WHERE k = 'key-7'::varchar;
SELECT * FROM kt WHERE k = 'key-7 '::char(7);
@params ('key-7') SELECT * FROM kt WHERE k = $1;
@params ('key-7'::varchar) SELECT * FROM kt WHERE k = $1;
@params ('{key-7,key-8}') SELECT * FROM kt WHERE k = ANY ($1);
SELECT * FROM kv WHERE k = 'key-7';
SELECT * FROM kv WHERE k = 'key-7'::text;
SELECT * FROM kv WHERE k = 'key-7 '::char(7);
SELECT * FROM kv WHERE k IN ('key-7', 'key-8');
@params ('key-7') SELECT * FROM kv WHERE k = $1;
@params ('key-7'::text) SELECT * FROM kv WHERE k = $1;
@params ('{key-7,key-8}'::text[]) SELECT * FROM kv WHERE k = ANY ($1);
SELECT * FROM kc WHERE k = 'key-7';
SELECT * FROM kc WHERE k = 'key-7   ';
SELECT * FROM kc WHERE k = 'key-7'::text;
SELECT * FROM kc WHERE k = 'key-7   '::text;
SELECT * FROM kc WHERE k = 'key-7   '::varchar;
SELECT * FROM kc WHERE k IN ('key-7', 'key-8 ');
@params ('key-7') SELECT * FROM kc WHERE k = $1;
@params ('key-7  '::text) SELECT * FROM kc WHERE k = $1;
SELECT * FROM ku WHERE k::text LIKE '00000007-%';
SELECT * FROM ku WHERE k = (substr(k::text, 1, 36))::uuid;
@ordered SELECT v FROM ku ORDER BY k LIMIT 5;
INSERT INTO kc (k, v) VALUES ('a', '1'), ('b ', '2'), ('', '3');
@error 23505 INSERT INTO kc (k, v) VALUES ('a  ', 'dup');
SELECT k, v, length(k) FROM kc WHERE k IN ('a', 'b', '');
-- texts with blanks at their end that become characters: the blanks mean nothing
INSERT INTO kc (k, v) VALUES ('e  '::varchar, 'varchar'), ('f  '::text, 'text'), ('g  '::varchar(4), 'limited'), ('h'::text, 'none');
INSERT INTO kc (k, v) VALUES ('i  '::varchar, 'alone');
INSERT INTO kc (k, v) VALUES ('i2  '::varchar(4), 'alone');
@params ('j  '::text) INSERT INTO kc (k, v) VALUES ($1, 'text');
@params ('j2  ') INSERT INTO kc (k, v) VALUES ($1::varchar, 'varchar');
@params ('j3  ') @may_refuse INSERT INTO kc (k, v) VALUES ($1::varchar(5), 'limited');
@error 23505 INSERT INTO kc (k, v) VALUES ('e'::varchar, 'dup');
SELECT v FROM kc WHERE k = 'e';
SELECT v FROM kc WHERE k = 'f';
SELECT v FROM kc WHERE k = 'g';
SELECT v FROM kc WHERE k = 'i';
SELECT v FROM kc WHERE k = 'i2';
SELECT v FROM kc WHERE k = 'j';
SELECT v FROM kc WHERE k = 'j2';
SELECT v FROM kc WHERE k = 'e  '::varchar::char(8);
SELECT v FROM kc WHERE k = ANY ('{"e  ","f "}'::varchar[]::bpchar[]);
INSERT INTO kv (k, v) VALUES ('l  ', 'three'), ('l', 'none');
INSERT INTO kt (k, v) VALUES ('m  ', 'three'), ('m', 'none'), ('n  '::bpchar, 'none');
SELECT v FROM kv WHERE k::bpchar = 'l';
SELECT v FROM kt WHERE k::bpchar = 'm';
SELECT v FROM kt WHERE k = 'n';
UPDATE kc SET v = v || '!' WHERE k = 'i ' RETURNING v;
DELETE FROM kc WHERE k = 'i  ' RETURNING v;
@error 22001 INSERT INTO kc (k) VALUES ('123456789');
INSERT INTO kc (k) VALUES ('12345678   ') RETURNING k;
@error 22001 INSERT INTO kv (k) VALUES ('123456789012345678901');
INSERT INTO kv (k) VALUES ('trailing ') RETURNING k;
SELECT count(*) FROM kv WHERE k = 'trailing';
@error 22003 INSERT INTO k2 (k) VALUES (40000);
@error 22003 INSERT INTO k4 (k) VALUES (5000000000);
INSERT INTO k2 (k) VALUES (-32768), (32767) RETURNING k;
INSERT INTO k4 (k) VALUES (-2147483648), (2147483647), (0), (-1) ON CONFLICT DO NOTHING RETURNING k;
INSERT INTO k8 (k) VALUES (-9223372036854775808), (9223372036854775807) RETURNING k;
SELECT k FROM k8 WHERE k = 9223372036854775807;
SELECT k FROM k4 WHERE k = -1;
-- NULL keys: kept out or placed, never lost or doubled
@may_refuse INSERT INTO kn VALUES (NULL, 'null');
@may_refuse INSERT INTO kn VALUES (1, 'a'), (NULL, 'b'), (2, 'c');
INSERT INTO kn VALUES (3, 'c'), (3, 'c'), (4, NULL);
SELECT count(*) FROM kn WHERE v IS NULL;
SELECT k, v FROM kn WHERE k IS NULL;
SELECT k, v FROM kn WHERE k IS NOT NULL;
SELECT k, count(*) FROM kn GROUP BY k;
SELECT DISTINCT k, v FROM kn;
-- odd names
INSERT INTO "Odd Name" VALUES (1, 'a'), (2, 'b'), (3, 'c');
SELECT * FROM "Odd Name" WHERE "The Key" = 2;
@ordered SELECT "select" FROM "Odd Name" ORDER BY "The Key" DESC;
UPDATE "Odd Name" o SET "select" = "select" || '!' WHERE o."The Key" IN (1, 2) RETURNING *;
SELECT count(*) AS "Count ""it""" FROM "Odd Name";
-- empty tables
SELECT * FROM nothing;
SELECT count(*), count(n), sum(n), avg(n), min(n), max(t), sum(f), min(d) FROM nothing;
SELECT n, count(*) FROM nothing GROUP BY n;
@ordered SELECT * FROM nothing ORDER BY t DESC LIMIT 5 OFFSET 2;
SELECT DISTINCT t FROM nothing;
SELECT count(*) FROM nothing HAVING count(*) > 0;
UPDATE nothing SET n = 1;
DELETE FROM nothing RETURNING *;
SELECT * FROM nothing WHERE k = 1;
-- everything, for the placement check
SELECT * FROM k2;
SELECT * FROM k4;
SELECT * FROM k8;
SELECT * FROM kt;
SELECT * FROM kv;
SELECT * FROM kc;
SELECT * FROM ku;
