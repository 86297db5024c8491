-- What a value means does not depend on the settings of whoever reads it on its way, nor a column's type on what the
-- transaction has changed.
@include _schema.sql
@setup
CREATE TABLE papers (id int PRIMARY KEY, x xml, marks int[], names text[]);
@drover SELECT drover.shard_table('papers', key => 'id');
INSERT INTO papers VALUES (1, 'just text', '{1,NULL}', '{q,NULL,"NULL"}'), (2, '<a/>', '{}', NULL), (3, NULL, NULL, '{}');
CREATE TABLE things (id int PRIMARY KEY, at timestamp, r numeric(4,1), n int, t varchar(5));
INSERT INTO things VALUES (1, '2024-01-01 10:00', 1.4, 7, 'abc'), (2, '2024-02-01 23:59:59', 2.6, -1, '12'), (3, NULL, NULL, NULL, NULL);
CREATE TABLE parts (id int PRIMARY KEY, at timestamp, r numeric(4,1), n int, t varchar(5));
@drover SELECT drover.shard_table('parts', key => 'id');
INSERT INTO parts SELECT * FROM things;
@cases
SELECT p.id, p.names, p.marks, n.id FROM papers p LEFT JOIN notes n ON n.id = p.id;
SELECT p.x::text, n.id FROM papers p LEFT JOIN notes n ON n.id = p.id;
SET array_nulls = off;
@may_refuse DRV7050 SELECT p.id, p.names, n.id FROM papers p LEFT JOIN notes n ON n.id = p.id;
@may_refuse DRV7050 SELECT DISTINCT names FROM papers;
@may_refuse DRV7050 SELECT names, count(*) FROM papers GROUP BY names;
@may_refuse DRV7050 SELECT max(marks) FROM papers;
@may_refuse DRV7050 UPDATE papers SET id = id + 100 WHERE id = 1;
@may_refuse DRV7050 INSERT INTO papers SELECT id + 1000, x, marks, names FROM papers;
RESET array_nulls;
SELECT id % 100, names, marks FROM papers WHERE id < 1000;
SET xmloption = document;
@may_refuse DRV7050 SELECT p.x::text, n.id FROM papers p LEFT JOIN notes n ON n.id = p.id;
RESET xmloption;
-- types that the transaction has changed
BEGIN;
ALTER TABLE things ALTER COLUMN at TYPE date;
ALTER TABLE parts ALTER COLUMN at TYPE date;
SELECT a.at::text, b.at::text FROM things a JOIN parts b ON b.id = a.id;
ALTER TABLE things ALTER COLUMN r TYPE int;
SELECT a.r / 2 * 2.0, b.r FROM things a JOIN parts b ON b.id = a.id;
ALTER TABLE parts ALTER COLUMN n TYPE bigint;
SELECT a.n, b.n + 3000000000 FROM things a JOIN parts b ON b.id = a.id;
ALTER TABLE parts ALTER COLUMN t TYPE text USING t || '!?!?!?';
SELECT a.t, b.t FROM things a JOIN parts b ON b.id = a.id;
ROLLBACK;
SELECT a.at, b.at, a.r, b.r, b.n, b.t FROM things a JOIN parts b ON b.id = a.id;
