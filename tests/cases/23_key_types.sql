-- Keys of every type that has a place: as tables are moved, in statements of every form, in COPY.
@setup
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s', 'häppy', 'A B');
CREATE DOMAIN price AS numeric(8, 2) CHECK (value > -100000);
CREATE DOMAIN code AS varchar(4);
CREATE DOMAIN feeling AS mood;
CREATE DOMAIN moment AS timestamp(1);
CREATE TABLE tb (k bool, id int, v text);
CREATE TABLE td (k date PRIMARY KEY, v text);
CREATE TABLE ts (k timestamp PRIMARY KEY, v text);
CREATE TABLE ts2 (k timestamp(2) PRIMARY KEY, v text);
CREATE TABLE tz (k timestamptz PRIMARY KEY, v text);
CREATE TABLE tz0 (k timestamptz(0), v text);
CREATE TABLE ty (k bytea PRIMARY KEY, v text);
CREATE TABLE t4 (k real PRIMARY KEY, v text);
CREATE TABLE t8 (k double precision PRIMARY KEY, v text);
CREATE TABLE tn (k numeric PRIMARY KEY, v text);
CREATE TABLE tn2 (k numeric(10, 2) PRIMARY KEY, v text);
CREATE TABLE tnm (k numeric(5, -2), v text);
CREATE TABLE te (k mood, id int, v text, PRIMARY KEY (k, id));
CREATE TABLE dp (k price, v text);
CREATE TABLE dc (k code, v text);
CREATE TABLE df (k feeling, v text);
CREATE TABLE dm (k moment, v text);
INSERT INTO tb VALUES (true, 1, 'yes'), (false, 2, 'no'), (NULL, 3, 'null'), (true, 4, 'yes');
INSERT INTO td SELECT date '2020-01-01' + g * 37, g::text FROM generate_series(-40, 40) g;
INSERT INTO td VALUES ('infinity', 'i'), ('-infinity', '-i'), ('0044-03-15 BC', 'ides');
INSERT INTO ts SELECT timestamp '2020-01-01 10:00' + g * interval '1 day 1.234567 seconds', g::text FROM generate_series(-40, 40) g;
INSERT INTO ts2 SELECT timestamp '2020-01-01 10:00' + g * interval '1 day 1.234567 seconds', g::text FROM generate_series(-40, 40) g;
INSERT INTO tz SELECT timestamptz '2020-01-01 10:00+02' + g * interval '1 day 1.234567 seconds', g::text FROM generate_series(-40, 40) g;
INSERT INTO ty SELECT decode(md5(g::text), 'hex'), g::text FROM generate_series(1, 60) g;
INSERT INTO ty VALUES ('', 'empty'), ('\x00', 'zero'), ('\xdeadbeef', 'beef');
INSERT INTO t4 SELECT g / 8.0, g::text FROM generate_series(-40, 40) g WHERE g <> 0;
INSERT INTO t4 VALUES ('NaN', 'nan'), ('Infinity', 'inf'), ('-0', 'zero'), (0.1, 'tenth');
INSERT INTO t8 SELECT g / 8.0, g::text FROM generate_series(-40, 40) g WHERE g <> 0;
INSERT INTO t8 VALUES ('NaN', 'nan'), ('-Infinity', 'inf'), ('-0', 'zero'), (0.1, 'tenth'), (1e300, 'big');
INSERT INTO tn SELECT g / 8.0, g::text FROM generate_series(-40, 40) g;
INSERT INTO tn VALUES ('NaN', 'nan'), (123456789012345678901234567890.5, 'long'), (0.00001, 'small');
INSERT INTO tn2 SELECT g / 8.0, g::text FROM generate_series(-40, 40) g;
INSERT INTO tnm VALUES (12345, 'a'), (49, 'b'), (50, 'c'), (NULL, 'd');
INSERT INTO te SELECT (enum_range(NULL::mood))[g % 5 + 1], g, 'before' FROM generate_series(1, 30) g;
INSERT INTO dp VALUES (1.005, 'a'), (NULL, 'b'), (7, 'c');
INSERT INTO dc VALUES ('ab', 'a'), ('abc   ', 'b'), (NULL, 'c');
INSERT INTO df VALUES ('ok', 'a'), (NULL, 'b');
INSERT INTO dm VALUES ('2020-01-01 10:00:00.25', 'a');
@drover SELECT drover.shard_table('tb', key => 'k');
@drover SELECT drover.shard_table('td', key => 'k');
@drover SELECT drover.shard_table('ts', key => 'k');
@drover SELECT drover.shard_table('ts2', key => 'k');
@drover SELECT drover.shard_table('tz', key => 'k');
@drover SELECT drover.shard_table('tz0', key => 'k');
@drover SELECT drover.shard_table('ty', key => 'k');
@drover SELECT drover.shard_table('t4', key => 'k');
@drover SELECT drover.shard_table('t8', key => 'k');
@drover SELECT drover.shard_table('tn', key => 'k');
@drover SELECT drover.shard_table('tn2', key => 'k');
@drover SELECT drover.shard_table('tnm', key => 'k');
@drover SELECT drover.shard_table('te', key => 'k');
@drover SELECT drover.shard_table('dp', key => 'k');
@drover SELECT drover.shard_table('dc', key => 'k');
@drover SELECT drover.shard_table('df', key => 'k');
@drover SELECT drover.shard_table('dm', key => 'k');
@oracle CREATE TABLE made (k mood, n numeric(6, 1), v text DEFAULT 'x');
@drover CREATE TABLE made (k mood, n numeric(6, 1), v text DEFAULT 'x') WITH (drover.shard_key = 'n', drover.scheme = 'modulo');
@oracle CREATE TABLE listed (k mood, v text);
@drover CREATE TABLE listed (k mood, v text) WITH (drover.shard_key = 'k', drover.scheme = 'list', drover.places = '{shard:1} = sad, ''it''''s''; {shard:2} = ''A B''; {shard:3} = *');
@oracle CREATE TABLE byday (k date, v text);
@drover CREATE TABLE byday (k date, v text) WITH (drover.shard_key = 'k', drover.scheme = 'range', drover.places = '{shard:1} < 2020-01-01; {shard:2} < 2020-06-01; {shard:3}');
@oracle CREATE TABLE bytime (k timestamptz, v text);
@drover CREATE TABLE bytime (k timestamptz, v text) WITH (drover.shard_key = 'k', drover.scheme = 'range', drover.places = '{shard:1} < 2020-01-01 00:00:00+00; {shard:2}');
@cases
-- bool
SELECT * FROM tb WHERE k = true;
SELECT * FROM tb WHERE k = 't';
SELECT * FROM tb WHERE k;
SELECT * FROM tb WHERE NOT k;
SELECT * FROM tb WHERE k IN (true, false);
@params (true) SELECT * FROM tb WHERE k = $1;
@params ('off') SELECT * FROM tb WHERE k = $1;
@params ('{t,f}') SELECT * FROM tb WHERE k = ANY ($1);
INSERT INTO tb VALUES ('yes', 5, 'a'), ('0', 6, 'b'), (false, 7, 'c'), (NULL, 8, 'd');
@params ('on', 9) INSERT INTO tb VALUES ($1, $2, 'p');
@params (false::bool, 10) INSERT INTO tb VALUES ($1, $2, 'p');
UPDATE tb SET v = v || '!' WHERE k = false RETURNING *;
COPY tb FROM STDIN (FORMAT csv);
TRUE,20,x
no,21,y
,22,z
1,23,w
\.
DELETE FROM tb WHERE k = 'f' AND id > 20;
SELECT k, count(*) FROM tb GROUP BY k;
-- date
SELECT * FROM td WHERE k = '2020-01-01';
SELECT * FROM td WHERE k = date '2020-02-07';
SELECT * FROM td WHERE k = 'Feb 7, 2020';
SELECT * FROM td WHERE k = '2/7/2020';
SELECT * FROM td WHERE k = 'infinity';
SELECT * FROM td WHERE k = '0044-03-15 BC';
SELECT * FROM td WHERE k = '2020-01-01'::timestamp;
SELECT * FROM td WHERE k IN ('2020-01-01', '2020-02-07', '1999-01-01');
SELECT * FROM td WHERE k = ANY ('{2020-01-01,2020-02-07}');
SELECT * FROM td WHERE k BETWEEN '2020-01-01' AND '2020-06-01';
SELECT * FROM td WHERE k = date '2020-01-01' + 37;
@params ('2020-01-01') SELECT * FROM td WHERE k = $1;
@params ('2020-01-01'::date) SELECT * FROM td WHERE k = $1;
@params ('Feb 7, 2020') SELECT * FROM td WHERE k = $1;
@params ('0044-03-15 BC') SELECT * FROM td WHERE k = $1;
@params ('{2020-01-01,2020-02-07}') SELECT * FROM td WHERE k = ANY ($1);
@may_refuse SELECT * FROM td WHERE k = 'today';
@may_refuse SELECT * FROM td WHERE k = ANY ('{today,2020-01-01}');
INSERT INTO td VALUES ('2030-01-01', 'a'), ('2031-01-01', 'b'), ('2032-02-29', 'c'), ('5000-01-01', 'd');
INSERT INTO td VALUES ('March 3, 2033', 'e');
INSERT INTO td VALUES (date '2034-01-01' + 5, 'f');
@params ('2035-01-01', 'p') INSERT INTO td VALUES ($1, $2);
@params ('4 Jul 2035', 'p') INSERT INTO td VALUES ($1, $2);
@error 22008 SELECT * FROM td WHERE k = '2020-02-30';
@error 22008 INSERT INTO td VALUES ('2020-02-30', 'x');
COPY td FROM STDIN;
2040-01-01	a
2041-02-03	b
\.
SELECT * FROM td WHERE k >= '2030-01-01';
-- timestamp
SELECT * FROM ts WHERE k = '2020-01-01 10:00:00';
SELECT * FROM ts WHERE k = '2020-01-01T10:00:00';
SELECT * FROM ts WHERE k = '2020-01-01 10:00:00+05';
SELECT * FROM ts WHERE k = '2020-01-02 10:00:01.234567';
SELECT * FROM ts WHERE k = 'Jan 2 2020 10:00:01.234567';
SELECT * FROM ts WHERE k = '2020-01-01'::date;
SELECT * FROM ts WHERE k IN ('2020-01-01 10:00', '2020-01-02 10:00:01.234567');
@params ('2020-01-01 10:00:00') SELECT * FROM ts WHERE k = $1;
@params ('2020-01-01T10:00:00.000Z') SELECT * FROM ts WHERE k = $1;
@params ('Jan 1, 2020 10:00 AM') SELECT * FROM ts WHERE k = $1;
@params ('2020-01-02 10:00:01.234567'::timestamp) SELECT * FROM ts WHERE k = $1;
@params ('{"2020-01-01 10:00:00","2020-01-02 10:00:01.234567"}') SELECT * FROM ts WHERE k = ANY ($1);
INSERT INTO ts VALUES ('2030-01-01 00:00', 'a'), ('2030-01-01 00:00:00.5', 'b'), ('2031-01-01', 'c');
@params ('2032-01-01 00:00:00.000001', 'p') INSERT INTO ts VALUES ($1, $2);
SELECT * FROM ts2 WHERE k = '2020-01-02 10:00:01.23';
SELECT * FROM ts2 WHERE k = '2020-01-02 10:00:01.234567';
SELECT * FROM ts2 WHERE k = '2020-01-02 10:00:01.234567'::timestamp(2);
@params ('2020-01-02 10:00:01.234567') SELECT * FROM ts2 WHERE k = $1::timestamp(2);
INSERT INTO ts2 VALUES ('2030-01-01 00:00:00.005', 'a'), ('2030-01-01 00:00:00.024999', 'b'), ('1990-01-01 00:00:00.995', 'c');
@params ('2030-01-01 00:00:00.0351', 'p') INSERT INTO ts2 VALUES ($1, $2);
@params ('1990-01-01 00:00:00.0251'::timestamp, 'p') INSERT INTO ts2 VALUES ($1, $2);
@params ('2030-01-02 00:00:00.0251', '2030-01-03 00:00:00.0251') INSERT INTO ts2 VALUES ($1, 'x'), ($2, 'y');
COPY ts2 FROM STDIN;
2040-01-01 00:00:00.0251	a
1940-01-01 00:00:00.0251	b
\.
SELECT * FROM ts2 WHERE k IN ('2030-01-01 00:00:00.01', '2030-01-01 00:00:00.02', '2030-01-01 00:00:00.04', '2030-01-02 00:00:00.03', '2040-01-01 00:00:00.03', '1940-01-01 00:00:00.03');
-- timestamptz
SELECT * FROM tz WHERE k = '2020-01-01 08:00:00+00';
SELECT * FROM tz WHERE k = '2020-01-01 10:00:00+02';
SELECT * FROM tz WHERE k = '2020-01-01 08:00';
SELECT * FROM tz WHERE k = '2020-01-01 10:00:00 Europe/Berlin';
SELECT * FROM tz WHERE k = '2020-01-01 08:00'::timestamp;
SELECT * FROM tz WHERE k IN ('2020-01-01 08:00:00Z', '2020-01-02 08:00:01.234567+00');
@params ('2020-01-01 08:00:00+00') SELECT * FROM tz WHERE k = $1;
@params ('2020-01-01 08:00:00') SELECT * FROM tz WHERE k = $1;
@params ('2020-01-01 10:00:00+02'::timestamptz) SELECT * FROM tz WHERE k = $1;
INSERT INTO tz VALUES ('2030-01-01 00:00:00+00', 'a'), ('2030-01-01 00:00:00+05:30', 'b'), ('2030-06-01', 'c');
@params ('2031-01-01 00:00:00', 'p') INSERT INTO tz VALUES ($1, $2);
@params ('2031-01-01 00:00:00+07', 'p') INSERT INTO tz VALUES ($1, $2);
@may_refuse @shape INSERT INTO tz VALUES (now(), 'now');
DELETE FROM tz WHERE v = 'now';
SET timezone = 'America/New_York';
SELECT * FROM tz WHERE k = '2020-01-01 03:00';
@params ('2020-01-01 03:00:00') SELECT * FROM tz WHERE k = $1;
INSERT INTO tz VALUES ('2033-01-01 00:00', 'ny');
@params ('2033-06-01 00:00', 'ny') INSERT INTO tz VALUES ($1, $2);
SET datestyle = 'German, DMY';
SELECT * FROM tz WHERE k = '01.01.2020 03:00';
@params ('01.01.2020 03:00') SELECT * FROM tz WHERE k = $1;
SELECT * FROM td WHERE k = '7.2.2020';
@params ('7.2.2020') SELECT * FROM td WHERE k = $1;
INSERT INTO td VALUES ('2.3.2050', 'dmy');
INSERT INTO td VALUES (date '2.3.2051' + 1, 'dmy');
@params ('2.4.2050') INSERT INTO td VALUES ($1, 'dmy');
RESET datestyle;
RESET timezone;
SELECT * FROM tz WHERE k = '2033-01-01 05:00:00+00' OR k = '2033-06-01 04:00:00+00';
INSERT INTO tz0 VALUES ('2030-01-01 00:00:00.5+00', 'a'), ('2030-01-01 00:00:00.49+00', 'b'), (NULL, 'c');
@params ('1999-01-01 00:00:00.5+00') INSERT INTO tz0 VALUES ($1, 'p');
SELECT * FROM tz0 WHERE k IN ('2030-01-01 00:00:01+00', '2030-01-01 00:00:00+00', '1999-01-01 00:00:00+00', '1999-01-01 00:00:01+00');
-- bytea
SELECT * FROM ty WHERE k = '\xdeadbeef';
SELECT * FROM ty WHERE k = '\xDEADBEEF';
SELECT * FROM ty WHERE k = '\336\255\276\357';
SELECT * FROM ty WHERE k = '';
SELECT * FROM ty WHERE k = decode('3q2+7w==', 'base64');
SELECT * FROM ty WHERE k IN ('\x00', '\xdeadbeef', '\xffff');
@params ('\xdeadbeef') SELECT * FROM ty WHERE k = $1;
@params ('\336\255\276\357') SELECT * FROM ty WHERE k = $1;
@params ('\xdeadbeef'::bytea) SELECT * FROM ty WHERE k = $1;
@params ('{"\\xdeadbeef","\\x00"}') SELECT * FROM ty WHERE k = ANY ($1);
INSERT INTO ty VALUES ('abc', 'a'), ('\x616263ff', 'b'), ('a\\c', 'c');
@params ('\x01020304', 'p') INSERT INTO ty VALUES ($1, $2);
COPY ty FROM STDIN;
\\x11aa	a
\\x22bb	b
\.
SELECT * FROM ty WHERE k IN ('\x11aa', '\x22bb', 'abc');
-- float
SELECT * FROM t4 WHERE k = 1.5;
SELECT * FROM t4 WHERE k = 0.1;
SELECT * FROM t4 WHERE k = 0.1::real;
SELECT * FROM t4 WHERE k = '0.1';
SELECT * FROM t4 WHERE k = 2;
SELECT * FROM t4 WHERE k = 0;
SELECT * FROM t4 WHERE k = 'NaN';
SELECT * FROM t4 WHERE k = '-0';
SELECT * FROM t4 WHERE k IN (1, 2, 3);
SELECT * FROM t4 WHERE k IN (1.5, 2.5);
@params (1.5) SELECT * FROM t4 WHERE k = $1;
@params ('0.1'::real) SELECT * FROM t4 WHERE k = $1;
@params ('0.1'::float8) SELECT * FROM t4 WHERE k = $1;
INSERT INTO t4 VALUES (100, 'a'), (100.25, 'b'), ('1e10', 'c'), (1e20, 'd');
@params (200.1, 'p') INSERT INTO t4 VALUES ($1, $2);
@params (201::int4, 'p') INSERT INTO t4 VALUES ($1, $2);
@params ('202.7'::float8, 'p') INSERT INTO t4 VALUES ($1, $2);
SELECT * FROM t8 WHERE k = 1.5;
SELECT * FROM t8 WHERE k = 0.1;
SELECT * FROM t8 WHERE k = 0.1::real;
SELECT * FROM t8 WHERE k = 1e300;
SELECT * FROM t8 WHERE k = 0;
SELECT * FROM t8 WHERE k = 'nan';
SELECT * FROM t8 WHERE k = '-Infinity';
@params (1.5) SELECT * FROM t8 WHERE k = $1;
@params (3::int8) SELECT * FROM t8 WHERE k = $1;
@params ('{0.125,1,NaN}') SELECT * FROM t8 WHERE k = ANY ($1);
INSERT INTO t8 VALUES (100, 'a'), (100.25, 'b'), ('1e10', 'c'), (9007199254740993, 'd');
@params (200.1, 'p') INSERT INTO t8 VALUES ($1, $2);
SET extra_float_digits = -5;
@params (' 0.1 ') SELECT v FROM t8 WHERE k = $1;
@params (' 300.123456789012 ') INSERT INTO t8 VALUES ($1, 'short');
INSERT INTO t8 VALUES (300.123456789013 * 1, 'short');
RESET extra_float_digits;
SELECT * FROM t8 WHERE v = 'short';
SELECT * FROM t8 WHERE k = 300.123456789012;
COPY t8 FROM STDIN (FORMAT csv);
400,a
400.5,b
-0.5e3,c
1e-5,d
\.
SELECT t4.k, t8.v FROM t4 JOIN t8 ON t4.k = t8.k;
-- numeric
SELECT * FROM tn WHERE k = 1;
SELECT * FROM tn WHERE k = 1.0;
SELECT * FROM tn WHERE k = 1.000;
SELECT * FROM tn WHERE k = '1.50';
SELECT * FROM tn WHERE k = 12e-1;
SELECT * FROM tn WHERE k = 123456789012345678901234567890.50;
SELECT * FROM tn WHERE k = 'NaN';
SELECT * FROM tn WHERE k = 1::int8;
SELECT * FROM tn WHERE k = 1.5::float8;
SELECT * FROM tn WHERE k IN (1, 2.5, 0.125, 77);
SELECT * FROM tn WHERE k IN (1, 2, 3);
SELECT * FROM tn WHERE k = ANY ('{1.00,2.5}');
@params (1) SELECT * FROM tn WHERE k = $1;
@params ('1.50') SELECT * FROM tn WHERE k = $1;
@params (' 1.5 ') SELECT * FROM tn WHERE k = $1;
@params ('15e-1') SELECT * FROM tn WHERE k = $1;
@params (2::int4) SELECT * FROM tn WHERE k = $1;
@params ('2.50'::numeric) SELECT * FROM tn WHERE k = $1;
@params ('{1,2.50}') SELECT * FROM tn WHERE k = ANY ($1);
INSERT INTO tn VALUES (100, 'a'), (100.50, 'b'), (1e3, 'c'), ('1e4', 'd'), (-0.0001, 'e');
@error 23505 INSERT INTO tn VALUES (1.0000, 'twice');
@params (200.10, 'p') INSERT INTO tn VALUES ($1, $2);
UPDATE tn SET v = v || '!' WHERE k = 100.5;
SELECT * FROM tn2 WHERE k = 1.25;
SELECT * FROM tn2 WHERE k = 1.255;
SELECT * FROM tn2 WHERE k = 1;
INSERT INTO tn2 VALUES (100, 'a'), (100.005, 'b'), (100.0249, 'c'), (-100.005, 'd'), ('99999999.994', 'e');
@error 22003 INSERT INTO tn2 VALUES (99999999.995, 'x');
@error 22003 @any_message INSERT INTO tn2 VALUES (7777.77, 'x'), (99999999.995, 'y');
@params (200.125, 'p') INSERT INTO tn2 VALUES ($1, $2);
@params (201::int4, 'p') INSERT INTO tn2 VALUES ($1, $2);
@params (' 202.999 ', 'p') INSERT INTO tn2 VALUES ($1, $2);
@error 22003 @params (123456789012, 'p') INSERT INTO tn2 VALUES ($1, $2);
@params (300.125, 301.005) INSERT INTO tn2 VALUES ($1, 'x'), ($2, 'y') RETURNING k;
COPY tn2 FROM STDIN;
400.125	a
-400.125	b
401	c
\.
SELECT * FROM tn2 WHERE k IN (100.01, 100.02, -100.01, 200.13, 201, 203, 300.13, 301.01, 400.13, -400.13, 401);
INSERT INTO tnm VALUES (149, 'x'), (150, 'y'), (-250, 'z');
@params (5551) INSERT INTO tnm VALUES ($1, 'p');
SELECT * FROM tnm WHERE k IN (100, 200, -300, 5600, 0, 12300);
-- enum
SELECT * FROM te WHERE k = 'sad';
SELECT * FROM te WHERE k = 'it''s'::mood;
SELECT * FROM te WHERE k IN ('sad', 'häppy');
SELECT * FROM te WHERE k = ANY ('{sad,"A B"}');
SELECT * FROM te WHERE k = ANY (enum_range('ok'::mood, 'häppy'::mood));
@params ('ok') SELECT * FROM te WHERE k = $1;
@params ('häppy') SELECT * FROM te WHERE k = $1;
@params ('{sad,"A B"}') SELECT * FROM te WHERE k = ANY ($1);
@error 22P02 SELECT * FROM te WHERE k = 'angry';
@error 22P02 @params ('angry') SELECT * FROM te WHERE k = $1;
INSERT INTO te VALUES ('sad', 100, 'a'), ('ok', 101, 'b'), ('it''s', 102, 'c'), ('häppy', 103, 'd'), ('A B', 104, 'e');
@params ('ok', 105) INSERT INTO te VALUES ($1, $2, 'p');
@error 22P02 INSERT INTO te VALUES ('angry', 1, 'x');
UPDATE te SET v = v || '!' WHERE k = 'ok' RETURNING id;
COPY te FROM STDIN;
sad	200	a
A B	201	b
häppy	202	c
\.
SELECT k, count(*) FROM te GROUP BY k;
SELECT * FROM te WHERE k = 'A B' AND id > 100;
@refused DRV6004 ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
ALTER TYPE mood ADD VALUE 'new';
INSERT INTO te VALUES ('new', 300, 'n');
SELECT * FROM te WHERE k = 'new';
-- domains
SELECT * FROM dp WHERE k = 1.01;
SELECT * FROM dp WHERE k = 7;
SELECT * FROM dp WHERE k = 7::price;
INSERT INTO dp VALUES (2.005, 'x'), (3, 'y'), (NULL, 'z');
@params (4.005) INSERT INTO dp VALUES ($1, 'p');
@params (5.005, 6.005) INSERT INTO dp VALUES ($1, 'p'), ($2, 'q');
INSERT INTO dp VALUES (1.5 * 3, 'computed');
@error 23514 INSERT INTO dp VALUES (-200000, 'x');
@params (1.005) SELECT * FROM dp WHERE k = $1::price;
COPY dp FROM STDIN;
8.005	a
\N	b
\.
SELECT * FROM dp WHERE k IN (2.01, 3, 4.01, 5.01, 6.01, 4.5, 8.01);
INSERT INTO dc VALUES ('abcd    ', 'x'), ('e', 'y');
@error 22001 INSERT INTO dc VALUES ('abcde', 'x');
@params ('fg  ') INSERT INTO dc VALUES ($1, 'p');
@may_refuse @params ('fghi    ') INSERT INTO dc VALUES ($1, 'p');
COPY dc FROM STDIN;
jkl     	a
\.
SELECT * FROM dc WHERE k IN ('abcd', 'e', 'fg  ', 'jkl ', 'abc ');
INSERT INTO df VALUES ('sad', 'x'), ('A B', 'y');
@params ('ok') INSERT INTO df VALUES ($1, 'p');
@params ('ok') SELECT * FROM df WHERE k::mood = $1;
SELECT * FROM df WHERE k::mood IN ('sad', 'A B');
INSERT INTO dm VALUES ('2020-01-01 10:00:00.35', 'x'), ('2020-01-01 10:00:00.349', 'y');
@params ('2020-01-01 10:00:00.45') INSERT INTO dm VALUES ($1, 'p');
SELECT * FROM dm WHERE k IN ('2020-01-01 10:00:00.3', '2020-01-01 10:00:00.4', '2020-01-01 10:00:00.5');
-- other schemes
INSERT INTO made VALUES ('sad', 1.25), ('ok', -3.35), (NULL, NULL), ('ok', 1000);
@params (7.77) INSERT INTO made (n) VALUES ($1);
SELECT * FROM made WHERE n = 1.3;
SELECT * FROM made WHERE n = 7.8;
SELECT * FROM made WHERE n = -3.4;
INSERT INTO listed VALUES ('sad', 'a'), ('ok', 'b'), ('it''s', 'c'), ('A B', 'd'), (NULL, 'e'), ('häppy', 'f');
SELECT * FROM listed WHERE k = 'it''s';
SELECT * FROM listed WHERE k IN ('A B', 'ok');
@params ('A B') SELECT * FROM listed WHERE k = $1;
INSERT INTO byday VALUES ('2019-12-31', 'a'), ('2020-01-01', 'b'), ('2020-05-31', 'c'), ('2020-06-01', 'd'), (NULL, 'e'), ('infinity', 'f'), ('-infinity', 'g');
SELECT * FROM byday WHERE k = '2020-05-31';
SELECT * FROM byday WHERE k = '2020-06-01' OR k = '2019-12-31';
COPY byday FROM STDIN (FORMAT csv);
2020-01-01,x
2019-01-01,y
2021-01-01,z
\.
INSERT INTO bytime VALUES ('2019-12-31 23:59:59.999999+00', 'a'), ('2020-01-01 00:00:00+00', 'b'), ('2020-01-01 01:00:00+02', 'c'), (NULL, 'd');
SELECT * FROM bytime WHERE k = '2019-12-31 23:00:00Z';
SELECT * FROM bytime WHERE k >= '2020-01-01 00:00:00+00';
@may_refuse SELECT td.v, byday.v FROM td JOIN byday ON td.k = byday.k WHERE td.k = '2020-01-01';
SELECT ts.v, ts2.v FROM ts JOIN ts2 ON ts.k = ts2.k;
