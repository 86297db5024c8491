-- Keys of several columns: pinned only when all columns are, colocated only when all are compared pairwise.
@setup
CREATE TABLE a (t int, u text, id int, v text, PRIMARY KEY (t, u, id));
CREATE TABLE b (n numeric, tenant bigint, usr varchar(20), PRIMARY KEY (usr, tenant));
CREATE TABLE s (t int, u text, w text);
CREATE TABLE d (t int, u text, v text, PRIMARY KEY (u, t));
CREATE TABLE m (x date, y uuid, z boolean, v int);
CREATE TABLE c3 (k1 smallint, k2 char(4), k3 numeric(10,2), v text, UNIQUE (k3, k1, k2));
CREATE TABLE countries (code text PRIMARY KEY, name text);
INSERT INTO countries VALUES ('u1', 'one'), ('u2', 'two');
INSERT INTO a SELECT g % 10, 'u' || g % 3, g, 'before' FROM generate_series(1, 120) g;
INSERT INTO a VALUES (-2147483648, '', 1, 'low'), (2147483647, 'é日', 2, 'high'), (0, 'a,b', 3, 'comma'), (0, '(x)', 4, 'paren'), (0, 'it''s "q" \', 5, 'quotes');
INSERT INTO b SELECT g / 7.0, g % 10, 'u' || g / 10 FROM generate_series(0, 29) g;
INSERT INTO s SELECT nullif(g % 5, 3), nullif('u' || g % 3, 'u1'), 'w' || g FROM generate_series(1, 40) g;
INSERT INTO d SELECT g % 10, 'u' || g % 3, 'before' FROM generate_series(1, 30) g;
INSERT INTO m SELECT date '2020-01-01' + g % 4, md5((g % 6)::text)::uuid, nullif(g % 3, 2) = 1, g FROM generate_series(1, 60) g;
INSERT INTO m VALUES ('infinity', NULL, true, -1), (NULL, NULL, NULL, -2), ('-infinity', '00000000-0000-0000-0000-000000000000', false, -3);
INSERT INTO c3 VALUES (1, 'a', 1.0, 'x'), (1, 'a', 1.01, 'y'), (-1, 'ab', 0, 'z'), (NULL, NULL, NULL, 'nulls'), (1, NULL, 1, 'one null');
@drover SELECT drover.reference_table('countries');
@drover SELECT drover.shard_table('a', key => 't, u');
@drover SELECT drover.shard_table('b', key => 'tenant,usr', colocate_with => 'a');
@drover SELECT drover.shard_table('s', key => ' t , "u" ');
@drover SELECT drover.shard_table('d', key => 't, u', scheme => 'directory', places => '{shard:2} = ''(1,u1)'', ''(2,u2)''; {shard:1} = ''(3,u0)''');
@drover SELECT drover.shard_table('m', key => 'x, y, z', scheme => 'modulo');
@drover SELECT drover.shard_table('c3', key => 'k1, k2, k3');
@oracle CREATE TABLE made (t bigint, u text DEFAULT 'u1', id serial, v text, PRIMARY KEY (t, u, id), FOREIGN KEY (u) REFERENCES countries);
@drover CREATE TABLE made (t bigint, u text DEFAULT 'u1', id serial, v text, PRIMARY KEY (t, u, id), FOREIGN KEY (u) REFERENCES countries) WITH (drover.shard_key = 't, u', drover.colocate_with = 'a');
@oracle CREATE TABLE child (t bigint, u text, id int, n int, FOREIGN KEY (id, u, t) REFERENCES made (id, u, t) ON DELETE CASCADE);
@drover CREATE TABLE child (t bigint, u text, id int, n int, FOREIGN KEY (id, u, t) REFERENCES made (id, u, t) ON DELETE CASCADE) WITH (drover.shard_key = 't, u', drover.colocate_with = 'a');
@cases
SELECT * FROM a WHERE t = 7 AND u = 'u1';
SELECT * FROM a WHERE u = 'u2' AND 3 = t AND id > 20;
SELECT * FROM a WHERE t = 7;
SELECT * FROM a WHERE u = 'u1' AND id < 30;
SELECT * FROM a WHERE (t, u) = (4, 'u1');
SELECT * FROM a WHERE (t, u) IN ((4, 'u1'), (5, 'u2'), (6, 'u0'));
SELECT * FROM a WHERE t IN (1, 2, 3) AND u IN ('u0', 'u1');
SELECT * FROM a WHERE (t = 1 AND u = 'u1') OR (t = 2 AND u = 'u2');
SELECT * FROM a WHERE t = 1 AND u = 'u1' OR t = 2;
SELECT * FROM a WHERE t = 1 AND (u = 'u1' OR id = 3);
SELECT * FROM a WHERE t = 0 AND u = 'a,b';
SELECT * FROM a WHERE t = 0 AND u = '(x)';
SELECT * FROM a WHERE t = -2147483648 AND u = '';
SELECT * FROM a WHERE t = 2147483647 AND u = 'é日';
SELECT * FROM a WHERE t = 1 AND u = NULL;
SELECT * FROM a WHERE t = 1 AND u IN ('u1', NULL);
@params (7, 'u1') SELECT * FROM a WHERE t = $1 AND u = $2;
@params (7, NULL) SELECT * FROM a WHERE t = $1 AND u = $2;
@params ('u1') SELECT * FROM a WHERE t = 7 AND u = $1;
@params ('{1,2,3}', '{u0,u1}') SELECT * FROM a WHERE t = ANY ($1) AND u = ANY ($2);
@params ('{1,NULL,3}', 'u0') SELECT * FROM a WHERE t = ANY ($1) AND u = $2;
@params ('{}', 'u0') SELECT * FROM a WHERE t = ANY ($1) AND u = $2;
@params (1, 'u1', 2, 'u2') SELECT * FROM a WHERE (t, u) IN (($1, $2), ($3, $4));
SELECT count(*), sum(id), min(u), max(t) FROM a;
SELECT t, u, count(*), sum(id) FROM a GROUP BY t, u;
SELECT t, u, count(*), sum(id) FROM a GROUP BY u, t HAVING count(*) > 3;
SELECT t, count(*), count(DISTINCT id) FROM a GROUP BY t, u;
SELECT t, count(*) FROM a GROUP BY t;
@may_refuse SELECT t, count(DISTINCT u) FROM a GROUP BY t;
@may_refuse SELECT count(DISTINCT t) FROM a;
SELECT DISTINCT t, u FROM a;
SELECT DISTINCT u FROM a;
SELECT t, u, id, row_number() OVER (PARTITION BY t, u ORDER BY id) FROM a;
@may_refuse SELECT t, u, id, row_number() OVER (PARTITION BY t ORDER BY id, u) FROM a;
@ordered SELECT * FROM a ORDER BY t, u, id LIMIT 20 OFFSET 3;
SELECT a.id, b.n FROM a JOIN b ON a.t = b.tenant AND a.u = b.usr;
SELECT a.id, b.n FROM a JOIN b ON a.u = b.usr AND a.t = b.tenant WHERE b.tenant = 3 AND a.u = 'u1';
SELECT a.id, b.n FROM a, b WHERE a.t = b.tenant AND a.u = b.usr AND a.t = 3;
SELECT a.id, s.w FROM a JOIN s USING (t, u);
SELECT a.id, s.w FROM s LEFT JOIN a USING (t, u);
SELECT a.id, s.w FROM a FULL JOIN s ON a.t = s.t AND s.u = a.u;
@may_refuse SELECT a.id, b.n FROM a JOIN b ON a.t = b.tenant;
@may_refuse SELECT a.id, s.w FROM a JOIN s ON a.t = s.t;
@may_refuse SELECT a.id, s.w FROM a JOIN s ON a.u = s.u AND a.id = s.t;
@may_refuse SELECT a.id, s.w FROM a FULL JOIN s ON a.t = s.t;
@may_refuse SELECT a.id FROM a JOIN b ON a.t = b.tenant AND a.u = b.usr JOIN s ON s.t = a.t AND s.u > b.usr;
SELECT a.id, b.n, s.w FROM a JOIN b ON a.t = b.tenant AND a.u = b.usr JOIN s ON s.t = b.tenant AND s.u = a.u;
SELECT a.id, c.name FROM a JOIN countries c ON a.u = c.code WHERE a.t = 4;
SELECT id FROM a WHERE EXISTS (SELECT FROM s WHERE s.t = a.t AND s.u = a.u);
@may_refuse SELECT id FROM a WHERE EXISTS (SELECT FROM s WHERE s.t = a.t);
SELECT id FROM a WHERE (t, u) IN (SELECT t, u FROM s);
@may_refuse SELECT id FROM a WHERE t IN (SELECT t FROM s);
SELECT x.t, x.n FROM (SELECT t, u, count(*) AS n FROM a GROUP BY t, u) x JOIN s ON s.t = x.t AND s.u = x.u;
@may_refuse SELECT x.t, x.n FROM (SELECT t, count(*) AS n FROM a GROUP BY t) x JOIN s ON s.t = x.t;
WITH x AS (SELECT t, u, id FROM a WHERE t = 5) SELECT x.id, s.w FROM x JOIN s ON s.t = x.t AND s.u = x.u;
SELECT id FROM (SELECT * FROM a) z WHERE z.t = 5 AND z.u = 'u1';
SELECT t, u, id FROM a WHERE t = 3 AND u = 'u1' UNION ALL SELECT t, u, id FROM a WHERE t = 3 AND u = 'u1';
SELECT * FROM s WHERE t IS NULL;
SELECT * FROM s WHERE t IS NULL AND u IS NULL;
SELECT t, u, count(*) FROM s GROUP BY t, u;
SELECT * FROM m WHERE x = '2020-01-02' AND y = md5('1')::uuid AND z;
SELECT * FROM m WHERE x = '2020-01-02' AND y = md5('1')::uuid AND z = true;
SELECT * FROM m WHERE x = 'infinity' AND z = true;
@params ('2020-01-02', '{c4ca4238-a0b9-2382-0dcc-509a6f75849b}', false) SELECT * FROM m WHERE x = $1 AND y = ANY ($2) AND z = $3;
SELECT * FROM c3 WHERE k1 = 1 AND k2 = 'a   ' AND k3 = 1.000;
SELECT * FROM c3 WHERE k1 = 1 AND k2 = 'a' AND k3 = 1;
SELECT * FROM c3 WHERE k1 = 1 AND k2 = 'a' AND k3 IN (1.00, 1.01, 7);
INSERT INTO c3 VALUES (2, 'b', 2.005, 'rounded'), (2, 'b  ', 2.5, 'b'), (2, NULL, NULL, 'n');
@error 23505 INSERT INTO c3 VALUES (2, 'b', 2.01, 'twice');
SELECT * FROM c3 WHERE k1 = 2 AND k2 = 'b' AND k3 = 2.01;
INSERT INTO a VALUES (50, 'new', 1, 'x');
INSERT INTO a (id, u, t) VALUES (2, 'new', 50), (3, 'newer', 51), (4, 'new', 52), (5, 'n', 53) RETURNING t, u, id;
INSERT INTO a (id, u, t, v) VALUES (1, upper('x') || lower('Y'), 1 + 60, 'computed');
@params (70, 'p', 71, 'q') INSERT INTO a VALUES ($1, $2, 1, 'p'), ($3, $4, 2, 'q'), ($1, $4, 3, 'r') RETURNING *;
@error 23505 INSERT INTO a VALUES (50, 'new', 1, 'again');
@error 23502 INSERT INTO a (t, id) VALUES (50, 1);
INSERT INTO a VALUES (50, 'new', 1, 'c'), (90, 'z', 1, 'c') ON CONFLICT (t, u, id) DO UPDATE SET v = excluded.v || '!' RETURNING *;
INSERT INTO a VALUES (50, 'new', 1, 'd'), (91, 'z', 1, 'd') ON CONFLICT DO NOTHING;
INSERT INTO a VALUES (50, 'new', 1, 'e') ON CONFLICT (t, u, id) DO UPDATE SET t = excluded.t, u = excluded.u, v = 'kept';
SELECT * FROM a WHERE t >= 50;
INSERT INTO s (t, w) VALUES (NULL, 'only w'), (1, 'no u'), (2, 'no u');
INSERT INTO s (w) VALUES ('nothing');
SELECT * FROM s WHERE u IS NULL;
@may_refuse INSERT INTO s SELECT t, u, v FROM a WHERE t = 7;
INSERT INTO s SELECT t, u, 'from a' FROM a WHERE t = 6 AND u = 'u0';
@may_refuse INSERT INTO s SELECT id, u, v FROM a WHERE id < 5;
INSERT INTO made (t, v) VALUES (1, 'def'), (2, 'def'), (3, 'def') RETURNING t, u, id;
INSERT INTO made (t, u, v) VALUES (1, 'u2', 'x'), (1, DEFAULT, 'y');
@error 23503 INSERT INTO made (t, u) VALUES (1, 'nowhere');
INSERT INTO child SELECT t, u, id, 1 FROM made WHERE t = 1 AND u = 'u1';
INSERT INTO child VALUES (2, 'u1', 2, 5);
@error 23503 INSERT INTO child VALUES (2, 'u1', 77, 5);
SELECT m.t, m.id, c.n FROM made m JOIN child c ON c.t = m.t AND c.u = m.u AND c.id = m.id;
DELETE FROM made WHERE t = 1 AND u = 'u1' RETURNING t, u;
SELECT * FROM child;
UPDATE a SET v = 'up' WHERE t = 7 AND u = 'u1';
UPDATE a SET v = 'up2' WHERE t = 7;
UPDATE a SET v = 'up3' WHERE t IN (1, 2) AND u IN ('u1', 'u2') RETURNING t, u, id;
@may_refuse UPDATE a SET u = 'moved' WHERE t = 7 AND u = 'u1' AND id = 7;
@may_refuse UPDATE a SET t = 8 WHERE t = 7 AND u = 'u1' AND id = 7;
UPDATE a SET t = t, u = u, v = 'same' WHERE t = 7;
UPDATE a SET v = s.w FROM s WHERE s.t = a.t AND s.u = a.u AND a.t = 2 AND a.u = 'u2' AND s.w = 'w2';
UPDATE a SET v = b.n::text FROM b WHERE a.t = b.tenant AND a.u = b.usr;
@may_refuse UPDATE a SET v = 'x' FROM b WHERE a.t = b.tenant AND b.usr = 'u1' AND a.id = 1;
DELETE FROM a USING b WHERE a.t = b.tenant AND a.u = b.usr AND b.tenant = 9;
DELETE FROM a WHERE t = 8 AND u = 'u2';
DELETE FROM a WHERE u = 'u0' AND id > 100 RETURNING id;
SELECT * FROM a;
SELECT * FROM d WHERE t = 1 AND u = 'u1';
SELECT * FROM d WHERE t = 3 AND u IN ('u0', 'u1', 'u2');
INSERT INTO d VALUES (1, 'u9', 'n'), (100, 'u1', 'n'), (2, 'u22', 'n');
SELECT d.v, e.v FROM d JOIN d e ON e.t = d.t AND e.u = d.u;
@may_refuse SELECT d.v, e.v FROM d JOIN d e ON e.t = d.t;
@may_refuse SELECT d.v, a.v FROM d JOIN a ON a.t = d.t AND a.u = d.u;
COPY a FROM STDIN;
200	copied	1	x
201	co\tpied	2	\N
202	é	3	y
-5		4	z
\.
SELECT * FROM a WHERE t >= 200 OR t = -5;
COPY a (v, id, u, t) FROM STDIN WITH (FORMAT csv);
v,10,"quo""ted, text",300
,11,plain,301
w,12, blank ,302
\.
SELECT * FROM a WHERE t = 300 AND u = 'quo"ted, text';
SELECT * FROM a WHERE t = 302 AND u = ' blank ';
COPY s (w, t) FROM STDIN;
copied	1
copied	\N
\.
SELECT * FROM s WHERE w = 'copied';
@error 22P02 @any_message COPY a FROM STDIN;
x	u	1	v
\.
COPY s TO STDOUT;
TRUNCATE s;
SELECT count(*) FROM s;
@refused CREATE UNIQUE INDEX ON a (t, id);
CREATE UNIQUE INDEX a_key ON a (u, id, t);
@refused ALTER TABLE a ADD UNIQUE (u, id);
ALTER TABLE a RENAME COLUMN u TO uu;
SELECT id FROM a WHERE t = 7 AND uu = 'u1';
ALTER TABLE a RENAME COLUMN uu TO u;
@refused ALTER TABLE a ALTER COLUMN u TYPE varchar(5);
@refused ALTER TABLE a DROP COLUMN t;
ALTER TABLE a ADD COLUMN extra int DEFAULT 5;
SELECT extra, count(*) FROM a GROUP BY extra;
