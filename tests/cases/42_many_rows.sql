-- INSERT of several rows that are literals: analysed once for each shape of row (session::alike), so every statement here comes twice.
@setup
CREATE TABLE wide (id int PRIMARY KEY, name varchar(8), price numeric(6,2), ok bool, day date, big bigint, note text DEFAULT 'none');
@drover SELECT drover.shard_table('wide', key => 'id');
CREATE TABLE names (name text PRIMARY KEY, n int CHECK (n <> 13));
@drover SELECT drover.shard_table('names', key => 'name');
CREATE TABLE pairs (a int, b text, v float8, PRIMARY KEY (a, b));
@drover SELECT drover.shard_table('pairs', key => 'a, b');
CREATE TABLE holes (k int, v int);
@drover SELECT drover.shard_table('holes', key => 'k');
CREATE TABLE amounts (k numeric(6,2) PRIMARY KEY, v text);
@drover SELECT drover.shard_table('amounts', key => 'k');
CREATE TABLE moments (k int PRIMARY KEY, at timestamptz DEFAULT now(), n serial);
@drover SELECT drover.shard_table('moments', key => 'k');
CREATE TABLE stamps (k int PRIMARY KEY, at timestamptz);
@drover SELECT drover.shard_table('stamps', key => 'k');
CREATE TABLE copies (k int PRIMARY KEY, v text);
@drover SELECT drover.reference_table('copies');
@cases
INSERT INTO wide VALUES (1, 'a', 1.5, true, '2020-01-01', 1), (2, 'b', 2.25, false, '2020-01-02', 5000000000), (3, 'c', 3, NULL, NULL, NULL);
INSERT INTO wide VALUES (4, 'a', 1.5, true, '2020-01-01', 1), (5, 'b', 2.25, false, '2020-01-02', 5000000000), (6, 'c', 3, NULL, NULL, NULL);
SELECT * FROM wide ORDER BY id;
INSERT INTO wide (name, id) VALUES ('x', 11), ('y', 12), ('z', 13), ('y', 14), ('it''s', 15), ('é;)', 16) RETURNING id, name, note;
INSERT INTO wide (name, id) VALUES ('x', 21), ('y', 22), ('z', 23), ('y', 24), ('it''s', 25), ('é;)', 26) RETURNING id, name, note;
INSERT INTO wide (id, note, name) VALUES (31, DEFAULT, 'p'), (32, 'q', DEFAULT), (33, NULL, NULL);
INSERT INTO wide (id, note, name) VALUES (34, DEFAULT, 'p'), (35, 'q', DEFAULT), (36, NULL, NULL);
INSERT INTO wide (id, big) VALUES (-1, -1), (-2, +2), (-3, -5000000000);
INSERT INTO wide (id, big) VALUES (-4, -1), (-5, +2), (-6, -5000000000);
INSERT INTO wide (id, big) VALUES ('41', '1'), ('42', ' 2'), (43, '3 ');
INSERT INTO wide (id, big) VALUES ('44', '1'), (' 45 ', ' 2'), (46, '3 ');
INSERT INTO wide (id, price) VALUES (51, 1), (52.4, 2), (52.6, 3);
INSERT INTO wide (id, name) VALUES (61, 'fits'), (62, 'blanks         '), (63, '');
INSERT INTO wide (id, name) VALUES (1, 'dup'), (71, 'new'), (2, 'dup') ON CONFLICT DO NOTHING;
INSERT INTO wide (id, name) VALUES (1, 'dup'), (72, 'new'), (2, 'dup') ON CONFLICT (id) DO UPDATE SET name = excluded.name || '!', big = 7 RETURNING *;
INSERT INTO wide AS w (id, name) VALUES (1, 'dup'), (73, 'new'), (2, 'dup') ON CONFLICT (id) DO UPDATE SET name = w.name || '?' WHERE w.id <> 2 RETURNING w.id, w.name;
@error 21000
INSERT INTO wide (id, name) VALUES (81, 'a'), (82, 'b'), (81, 'c') ON CONFLICT (id) DO UPDATE SET name = excluded.name;
@may_refuse DRV4007
INSERT INTO wide (id, name) VALUES (81, 'a'), (82, 'b'), (83, 'c') RETURNING (SELECT 1), id;
INSERT INTO wide OVERRIDING SYSTEM VALUE VALUES (91, 'a'), (92, 'b'), (93, 'c');
SELECT id, name, price, ok, day, big, note FROM wide ORDER BY id;
-- what is wrong has its place in the client's text
@error 22P02
INSERT INTO wide (id, price) VALUES (101, 1), (102, 'zwei'), (103, 3);
@error 22P02
INSERT INTO wide (name, id, price) VALUES ('é', 101, 1), ('éé', 102, 1), ('éé', 103, 'zwei'), ('é', 104, 1);
@error 22001
INSERT INTO wide (id, name) VALUES (101, 'a'), (102, 'much too long'), (103, 'b');
@error 22003
INSERT INTO wide (id, price) VALUES (101, 1), (102, 123456), (103, 1);
@error 42804
INSERT INTO wide (id, ok) VALUES (101, true), (102, 1), (103, false);
@error 42703
INSERT INTO wide (id, nope) VALUES (101, true), (102, false);
@error 42703
INSERT INTO wide (id, name) VALUES (101, 'a'), (102, 'b') ON CONFLICT (nope) DO NOTHING;
@error 42703
INSERT INTO wide (id, name) VALUES (101, 'a'), (102, 'b') RETURNING nope;
@error 42601
INSERT INTO wide (id) VALUES (101, 'a'), (102, 'b');
@error 42601
INSERT INTO wide (id, name) VALUES (101, 'a'), (102);
@error 23502
INSERT INTO wide (id, name) VALUES (101, 'a'), (NULL, 'b'), (103, 'c');
@error 23505
INSERT INTO wide (id, name) VALUES (101, 'a'), (102, 'b'), (101, 'c');
@error 22003
INSERT INTO wide (id, name) VALUES (101, 'a'), (99999999999, 'b'), (103, 'c');
@error 23514
INSERT INTO names VALUES ('a', 1), ('b', 13), ('c', 2);
SELECT count(*) FROM wide WHERE id > 100;
INSERT INTO names VALUES ('a', 1), ('Ä', 2), ('', 3), ('a b', NULL), ('now', 5), ('I know', 6);
INSERT INTO names VALUES ('aa', 1), ('ÄÄ', 2), (' ', 3), ('a  b', NULL), ('NOW', 5), ('I know it', 6);
SELECT name, n FROM names WHERE name IN ('Ä', 'now', 'NOW', 'I know it', ' ', '') ORDER BY n, name COLLATE "C";
INSERT INTO pairs VALUES (1, '1', 1), (1, '2', 1.5), (2, '1', -1), (2, '2', '1e3'), (3, '1', 'NaN');
INSERT INTO pairs VALUES (4, '1', 1), (4, '2', 1.5), (5, '4', -1), (5, '5', '1e3'), (6, '6', 'NaN');
SELECT * FROM pairs WHERE a = 4 AND b = '2';
SELECT * FROM pairs WHERE (a, b) IN ((1, '1'), (5, '5'), (6, '6')) ORDER BY 1, 2;
INSERT INTO holes VALUES (1, 1), (NULL, 2), (1, 1), (2, 2), (NULL, NULL);
INSERT INTO holes VALUES (1, 1), (NULL, 2), (1, 1), (2, 2), (NULL, NULL);
SELECT k, v, count(*) FROM holes GROUP BY k, v ORDER BY k, v;
INSERT INTO amounts VALUES ('1.25', 'a'), ('1.256', 'b'), (1.5, 'c'), (2, 'd'), ('1.277', 'e');
INSERT INTO amounts VALUES ('3.25', 'a'), ('3.256', 'b'), (3.5, 'c'), (4, 'd'), ('3.277', 'e');
SELECT v FROM amounts WHERE k = 1.26;
SELECT v FROM amounts WHERE k = 3.28;
SELECT v FROM amounts WHERE k = 3.50;
INSERT INTO moments (k) VALUES (1), (2), (3), (4), (5);
INSERT INTO moments (k) VALUES (6), (7), (8), (9);
SELECT k, n, at = (SELECT min(at) FROM moments WHERE k = 1) FROM moments WHERE k = 1;
SELECT count(DISTINCT at), count(DISTINCT n), min(n), max(n) FROM moments WHERE k < 6;
@may_refuse DRV3003
INSERT INTO stamps VALUES (1, 'now'), (2, 'now'), (3, 'now'), (4, 'NOW'), (5, 'now');
SELECT count(DISTINCT at) FROM stamps;
INSERT INTO stamps VALUES (11, '2020-01-01 10:00+02'), (12, 'epoch'), (13, 'infinity'), (14, '2020-06-01 12:00');
SELECT * FROM stamps WHERE k > 10 ORDER BY k;
INSERT INTO copies VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO copies VALUES (4, 'a'), (5, 'b'), (6, 'c');
SELECT * FROM copies ORDER BY k;
SET standard_conforming_strings = off;
@may_refuse DRV1003
INSERT INTO names VALUES ('b\\', 1), ('b''', 2), ('b\t', 3);
INSERT INTO names VALUES ('d', 1), ('d''', 2), ('e', 3);
RESET standard_conforming_strings;
SELECT name, n FROM names WHERE name LIKE 'b%' OR name LIKE 'd%' ORDER BY name COLLATE "C";
INSERT INTO names (name) VALUES ('f'), ('g'); -- a comment
INSERT INTO names (name) VALUES ('h'), /* two */ ('i');
INSERT INTO names (name) VALUES ('j'), ('k'),('l') ;
TABLE names ORDER BY name COLLATE "C";
