-- More rows, skewed and with NULLs: every answer must agree, whatever the spread.
@readonly
@setup
CREATE TABLE facts (k int NOT NULL, id int PRIMARY KEY, i2 smallint, i8 bigint, n numeric, f8 double precision, t text, d date, tz timestamptz, b boolean, u uuid);
CREATE TABLE facts_k (k int NOT NULL, id int, i2 smallint, i8 bigint, n numeric, f8 double precision, t text, d date, tz timestamptz, b boolean, u uuid, PRIMARY KEY (k, id));
CREATE TABLE dims (k int PRIMARY KEY, label text, grp int);
@load facts 500 1
@load facts_k 700 2
@load dims 200 3
@drover SELECT drover.shard_table('facts', key => 'id');
@drover SELECT drover.shard_table('facts_k', key => 'k');
@drover SELECT drover.shard_table('dims', key => 'k', colocate_with => 'facts_k');
@cases
SELECT * FROM facts;
SELECT * FROM facts_k;
SELECT count(*), count(i2), count(n), count(t), count(b) FROM facts;
SELECT sum(i2), sum(i8), sum(n), avg(i2), avg(i8), avg(n), min(n), max(n) FROM facts;
@float SELECT sum(f8), avg(f8) FROM facts;
SELECT min(t), max(t), min(d), max(d), min(tz), max(tz) FROM facts;
SELECT t, count(*), sum(n), avg(i8) FROM facts GROUP BY t;
SELECT b, d, count(*) FROM facts GROUP BY b, d;
SELECT k, count(*), sum(i8), avg(n) FROM facts_k GROUP BY k;
SELECT k % 7, count(*), max(t) FROM facts_k GROUP BY k % 7;
SELECT extract(year FROM d), count(DISTINCT t), count(*) FROM facts GROUP BY 1;
SELECT t, count(*) FROM facts GROUP BY t HAVING count(*) > 3;
SELECT lower(t), sum(n) FROM facts GROUP BY lower(t) HAVING sum(n) > 100 AND min(d) < '2015-01-01';
@ordered SELECT t, count(*) FROM facts GROUP BY t ORDER BY count(*) DESC, t NULLS FIRST LIMIT 10;
@ordered SELECT k, sum(n) FROM facts_k GROUP BY k ORDER BY sum(n) DESC NULLS LAST, k LIMIT 10 OFFSET 5;
@ordered SELECT id FROM facts ORDER BY t, id;
@ordered SELECT id FROM facts ORDER BY t DESC NULLS LAST, n, id DESC LIMIT 50;
@ordered SELECT id FROM facts ORDER BY d, b DESC, id LIMIT 100 OFFSET 100;
@ordered SELECT id FROM facts ORDER BY f8 NULLS FIRST, id LIMIT 30;
@ordered SELECT id, u FROM facts ORDER BY u, id LIMIT 30;
@ordered SELECT k, id FROM facts_k ORDER BY i8 % 5 NULLS FIRST, k, id OFFSET 650;
@ordered SELECT n FROM facts ORDER BY n DESC LIMIT 40;
@ordered SELECT n FROM facts ORDER BY n DESC NULLS LAST LIMIT 40;
@ordered SELECT n FROM facts ORDER BY n LIMIT 40;
@ordered SELECT DISTINCT t FROM facts ORDER BY t LIMIT 20;
@ordered SELECT DISTINCT b, i2 % 3 FROM facts ORDER BY 1, 2;
SELECT DISTINCT d FROM facts;
SELECT count(DISTINCT t), count(DISTINCT k), sum(DISTINCT i2) FROM facts_k;
SELECT * FROM facts_k WHERE k = 1;
SELECT count(*) FROM facts_k WHERE k IN (0, 1, 2, 3, 5, 8, 13, 21);
SELECT count(*) FROM facts WHERE id = ANY (ARRAY[1, 50, 100, 499, 501]);
SELECT count(*) FROM facts_k f JOIN dims d ON d.k = f.k;
SELECT d.label, count(*), sum(f.n) FROM facts_k f JOIN dims d ON d.k = f.k GROUP BY d.label;
SELECT d.k, count(f.id) FROM dims d LEFT JOIN facts_k f ON f.k = d.k GROUP BY d.k;
@ordered SELECT f.k, f.id, d.label FROM facts_k f LEFT JOIN dims d USING (k) ORDER BY d.label DESC NULLS LAST, f.k, f.id LIMIT 40;
SELECT count(*) FROM facts_k f WHERE NOT EXISTS (SELECT 1 FROM dims d WHERE d.k = f.k);
SELECT sum(c) FROM (SELECT k, count(*) AS c FROM facts_k GROUP BY k) x;
SELECT count(*) FILTER (WHERE b), count(*) FILTER (WHERE NOT b), count(*) FILTER (WHERE b IS NULL) FROM facts;
@params (100) SELECT count(*), sum(n) FROM facts WHERE id <= $1;
@params ('{1,2,3,4,5,6,7,8,9,10}') SELECT count(*) FROM facts WHERE id = ANY ($1);
@params (10, 20) @ordered SELECT id FROM facts ORDER BY id LIMIT $1 OFFSET $2;
@may_refuse SELECT count(*) FROM facts a JOIN facts b ON a.k = b.k AND a.id < b.id;
@may_refuse SELECT id, rank() OVER (PARTITION BY t ORDER BY n, id) FROM facts;
@may_refuse SELECT t FROM facts INTERSECT SELECT t FROM facts_k;
@may_refuse SELECT id FROM facts WHERE n > (SELECT avg(n) FROM facts);
