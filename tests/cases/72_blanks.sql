-- Texts that are compared as characters: blanks at their end mean nothing then, but they do where rows are placed.
@include _schema.sql
@setup
CREATE TABLE va (k varchar(10) PRIMARY KEY, v int);
@drover SELECT drover.shard_table('va', key => 'k');
CREATE TABLE vb (k varchar(10) PRIMARY KEY, w int);
@drover SELECT drover.shard_table('vb', key => 'k', colocate_with => 'va');
CREATE TABLE vc (c char(6));
CREATE TABLE fixed (k char(6) PRIMARY KEY, n int);
@drover SELECT drover.shard_table('fixed', key => 'k');
INSERT INTO va SELECT 'k' || g || CASE WHEN g % 2 = 1 THEN ' ' ELSE '' END, g FROM generate_series(1, 12) g;
INSERT INTO va VALUES ('k3', 103), ('k4 ', 104);
INSERT INTO vb SELECT 'k' || g, g * 10 FROM generate_series(1, 12) g;
INSERT INTO vc SELECT 'k' || g FROM generate_series(1, 12) g;
INSERT INTO fixed SELECT 'k' || g, g FROM generate_series(1, 12) g;
CREATE DOMAIN blanked AS char(6);
CREATE TABLE parent_of (id int PRIMARY KEY, name text);
CREATE TABLE child_of () INHERITS (parent_of);
INSERT INTO parent_of VALUES (10, 'a'), (11, 'b');
INSERT INTO child_of VALUES (10, 'longer');
@cases
SELECT a.v, b.w FROM va a JOIN vb b ON a.k::bpchar = b.k::bpchar;
SELECT a.v, b.w FROM va a LEFT JOIN vb b ON a.k::bpchar = b.k::bpchar;
SELECT a.v, b.w FROM va a FULL JOIN vb b ON a.k::bpchar = b.k::bpchar;
SELECT a.v FROM va a WHERE NOT EXISTS (SELECT 1 FROM vb b WHERE a.k::bpchar = b.k::bpchar);
SELECT a.v FROM va a WHERE a.k::bpchar IN (SELECT b.k::bpchar FROM vb b);
SELECT a.v, b.w FROM va a, vb b, vc c WHERE a.k = c.c AND b.k = c.c AND a.v > 0;
SELECT a.v, b.w, t.code FROM va a JOIN vb b ON a.k::bpchar = b.k::bpchar JOIN tenants t ON t.seats = a.v - 1;
SELECT a.v, b.w FROM va a JOIN vb b ON a.k = b.k;
SELECT a.v, f.n FROM va a JOIN fixed f ON f.k = a.k;
SELECT f.n FROM fixed f WHERE f.k IN (SELECT a.k FROM va a);
SELECT f.n FROM fixed f WHERE f.k = 'k3 ' OR f.k = 'k4'::text;
SELECT f.n, g.n FROM fixed f JOIN fixed g ON f.k::blanked = g.k::blanked;
SELECT a.v, c.c FROM va a, vc c WHERE a.k = c.c AND c.c = 'k3';
SELECT a.v FROM va a WHERE a.k::bpchar = 'k3';
-- (which of equal texts a group shows is open)
SELECT length(k::bpchar), count(*) FROM va GROUP BY k::bpchar;
SELECT count(*) FROM (SELECT DISTINCT k::bpchar FROM va) s;
SELECT count(DISTINCT k::bpchar), count(DISTINCT k) FROM va;
SELECT v, count(*) OVER (PARTITION BY k::bpchar) FROM va;
SELECT count(*) FROM (SELECT k::bpchar AS x FROM va UNION SELECT k::bpchar FROM vb) s;
SELECT length(x), count(*) FROM (SELECT k::bpchar AS x FROM va) s GROUP BY x;
SELECT s.x, b.w FROM (SELECT k::bpchar AS x, v FROM va) s JOIN vb b ON s.x = b.k WHERE s.v < 100;
@may_refuse
UPDATE va a SET v = 1000 + b.w FROM vb b WHERE a.k::bpchar = b.k::bpchar AND a.v < 100;
SELECT * FROM va;
@may_refuse
DELETE FROM vb b USING va a WHERE a.k::bpchar = b.k::bpchar AND a.v > 1000;
SELECT * FROM vb;
-- rows of a child have keys of their own
@may_refuse
SELECT p.id, length(p.name), count(*) FROM parent_of p JOIN tenants t ON t.seats = p.id GROUP BY p.id;
