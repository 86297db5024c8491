-- Statements whose tables do not meet on the shards: one PostgreSQL finishes them over the rows that they need.
@include _schema.sql
@setup
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE places (id int PRIMARY KEY, name text COLLATE "C", label varchar(5), fixed char(4), rank positive, feeling mood, tags text[], grid int[], spot pair, during tstzrange, doc json, gone int, price numeric(10,3), w double precision, d date, t time, i interval, u uuid, b bytea, net inet);
ALTER TABLE places DROP COLUMN gone;
@drover SELECT drover.shard_table('places', key => 'id');
INSERT INTO places (id, name, label, fixed, rank, feeling, tags, grid, spot, during, doc, price, w, d, t, i, u, b, net) VALUES (1, 'Zoo', 'abcde', 'ab', 3, 'happy', '{x,"y z"}', '{{1,2},{3,4}}', '(1,one)', '[2024-01-01 00:00+00,2024-02-01 00:00+00)', '{"a": 1}', 1.500, 0.1, '2024-02-29', '10:00', '1 mon 2 days', '00000000-0000-0000-0000-000000000001', '\x00', '10.0.0.1'), (2, 'apple', 'ab', 'a', 1, 'sad', '{}', NULL, '(2,)', 'empty', NULL, 100, 'NaN', 'infinity', '23:59:59.999999', '-1 year', NULL, '\xff', '::1'), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE edges (src int, dst int, PRIMARY KEY (src, dst));
@drover SELECT drover.shard_table('edges', key => 'src');
INSERT INTO edges VALUES (1, 2), (2, 3), (3, 4), (4, 1), (2, 5), (5, 6), (7, 8);
CREATE VIEW grown AS SELECT id, name, age FROM users WHERE age > 20;
CREATE VIEW by_country AS SELECT country, count(*) AS n, max(age) AS oldest FROM users GROUP BY country;
CREATE VIEW named_rows AS SELECT p.id AS place, g.id AS who, g.name FROM places p JOIN grown g ON g.age = p.rank + 24;
@cases
-- sharded differently, unsharded, reference
SELECT u.name, t.code FROM users u JOIN tenants t ON t.seats = u.age - 20;
SELECT u.name, n.body FROM users u JOIN notes n ON n.user_id = u.id;
SELECT u.name, n.body FROM users u LEFT JOIN notes n ON n.user_id = u.id;
SELECT u.name, n.body FROM users u RIGHT JOIN notes n ON n.user_id = u.id;
SELECT u.name, n.body FROM users u FULL JOIN notes n ON n.user_id = u.id;
SELECT c.name, u.name, n.body, t.plan FROM countries c JOIN users u ON u.country = c.code LEFT JOIN notes n ON n.user_id = u.id LEFT JOIN tenants t ON t.seats = n.id;
SELECT count(*) FROM users, notes, countries, tenants;
SELECT a.id, b.id FROM users a, users b WHERE a.age = b.age AND a.id < b.id;
SELECT n.id FROM notes n WHERE n.user_id IN (SELECT id FROM users WHERE age > 24);
SELECT n.id, (SELECT name FROM users u WHERE u.id = n.user_id) FROM notes n;
SELECT id, (SELECT count(*) FROM notes n WHERE n.user_id = u.id) FROM users u;
SELECT id FROM users u WHERE NOT EXISTS (SELECT 1 FROM notes n WHERE n.user_id = u.id AND n.body IS NOT NULL);
SELECT u.id FROM users u WHERE (u.id, u.age) IN (SELECT user_id, amount + 21 FROM orders);
SELECT DISTINCT o.status FROM orders o JOIN docs d ON d.size = o.small;
-- outer joins: which conditions may be applied before
SELECT u.id, t.code FROM users u LEFT JOIN tenants t ON t.seats = u.age - 20 WHERE t.code IS NULL;
SELECT u.id, t.code FROM users u LEFT JOIN tenants t ON t.seats = u.age - 20 AND t.plan = 'gold' WHERE u.active;
SELECT u.id, t.code FROM users u LEFT JOIN tenants t ON t.seats = u.age - 20 AND u.active WHERE t.plan IS DISTINCT FROM 'gold';
SELECT u.id, t.code FROM tenants t RIGHT JOIN users u ON t.seats = u.age - 20 AND t.plan = 'gold' WHERE coalesce(t.plan, 'none') = 'none';
SELECT u.id, t.code FROM users u FULL JOIN tenants t ON t.seats = u.age - 20 AND u.active AND t.plan = 'free' WHERE u.id IS NULL OR t.code IS NULL;
SELECT u.id, n.id, t.code FROM users u LEFT JOIN (notes n JOIN tenants t ON t.seats = n.id AND t.plan <> 'gold') ON n.user_id = u.id WHERE t.code IS NULL OR u.id > 0;
SELECT u.id, n.id, t.code FROM (users u LEFT JOIN notes n ON n.user_id = u.id AND n.body = 'first') LEFT JOIN tenants t ON t.seats = n.id + 9 WHERE n.body IS NULL OR t.code = 'acme';
SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code AND u.age > 20 WHERE c.continent = 'Europe';
-- grouping, windows, sorting over everything
SELECT c.continent, count(*), sum(u.score), avg(u.age), max(n.body) FROM users u LEFT JOIN countries c ON c.code = u.country LEFT JOIN notes n ON n.user_id = u.id GROUP BY c.continent;
SELECT status, small, sum(amount), grouping(status, small) FROM orders GROUP BY ROLLUP (status, small);
SELECT status, small, count(*) FROM orders GROUP BY CUBE (status, small) HAVING count(*) > 1;
SELECT status, count(*) FROM orders GROUP BY GROUPING SETS ((status), ());
@ordered SELECT id, amount, rank() OVER (ORDER BY amount DESC NULLS LAST, id) FROM orders ORDER BY id;
@ordered SELECT id, sum(amount) OVER (PARTITION BY status ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), lag(price) OVER w, first_value(id) OVER w FROM orders WINDOW w AS (PARTITION BY status ORDER BY id DESC) ORDER BY id;
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY amount), mode() WITHIN GROUP (ORDER BY status) FROM orders;
SELECT array_agg(id ORDER BY id DESC), string_agg(status, ',' ORDER BY id) FROM orders;
SELECT count(DISTINCT u.country), count(DISTINCT n.user_id) FROM users u FULL JOIN notes n ON n.user_id = u.id;
@ordered SELECT DISTINCT ON (u.country) u.country, u.id, n.body FROM users u LEFT JOIN notes n ON n.user_id = u.id ORDER BY u.country, u.id DESC, n.body;
@ordered SELECT u.name, t.code FROM users u, tenants t ORDER BY t.code COLLATE "C", u.id LIMIT 5 OFFSET 3;
SELECT t.seats, u.id FROM users u, tenants t WHERE u.id < 3 ORDER BY t.seats FETCH FIRST 3 ROWS WITH TIES;
-- set operations
SELECT id FROM users UNION SELECT user_id FROM orders UNION ALL SELECT id FROM notes;
SELECT user_id FROM items INTERSECT ALL SELECT user_id FROM orders;
(SELECT id FROM users ORDER BY id LIMIT 2) EXCEPT (SELECT user_id FROM notes);
@ordered SELECT name FROM users UNION SELECT code FROM tenants ORDER BY 1;
SELECT * FROM (SELECT id, 'u' AS k FROM users UNION ALL SELECT id, 'n' FROM notes) x WHERE id > 2;
SELECT 1 UNION ALL SELECT id FROM users WHERE false;
-- WITH, also recursive and unused
WITH RECURSIVE reach(n) AS (SELECT 1 UNION SELECT e.dst FROM edges e JOIN reach r ON e.src = r.n) SELECT n FROM reach;
WITH RECURSIVE up(code, parent, depth) AS (SELECT code, parent, 0 FROM tenants WHERE code = '日本' UNION ALL SELECT t.code, t.parent, depth + 1 FROM tenants t JOIN up ON t.code = up.parent) SELECT * FROM up;
WITH a AS (SELECT user_id, sum(amount) AS s FROM orders GROUP BY user_id), b AS (SELECT max(s) AS m FROM a) SELECT a.user_id FROM a, b WHERE a.s = b.m;
WITH a AS MATERIALIZED (SELECT * FROM users) SELECT x.id, y.id FROM a x JOIN a y ON x.age = y.age AND x.id <> y.id;
WITH one AS (SELECT * FROM users WHERE id = 1), two AS (SELECT * FROM users WHERE id = 2) SELECT one.name, two.name FROM one, two;
WITH a AS (SELECT * FROM orders) SELECT (SELECT count(*) FROM a WHERE user_id = 1), (SELECT count(*) FROM a WHERE user_id = 4), (SELECT count(*) FROM a);
WITH unused AS (SELECT * FROM docs) SELECT u.id FROM users u JOIN notes n ON n.user_id = u.id;
-- lateral, correlated, nested
SELECT u.id, x.id FROM users u, LATERAL (SELECT id FROM notes n WHERE n.user_id >= u.id ORDER BY id LIMIT 1) x;
SELECT u.id, x.n FROM users u CROSS JOIN LATERAL (SELECT count(*) AS n FROM tenants t WHERE t.seats > u.age) x;
SELECT u.id, g FROM users u JOIN notes n ON n.user_id = u.id, generate_series(1, n.id) g;
SELECT t.code FROM tenants t WHERE t.seats > (SELECT avg(o.amount) FROM orders o WHERE o.user_id IN (SELECT n.user_id FROM notes n WHERE n.id < t.seats));
SELECT (SELECT (SELECT max(id) FROM notes n WHERE n.user_id = u.id) FROM users u WHERE u.age = t.seats + 21) FROM tenants t;
SELECT id FROM users u WHERE age = ANY (SELECT seats + 15 FROM tenants) OR id = ALL (SELECT user_id FROM notes WHERE body = 'none');
SELECT id FROM users u WHERE age > (SELECT avg(age) FROM users v WHERE v.country IS NOT DISTINCT FROM u.country);
SELECT EXISTS (SELECT 1 FROM users u JOIN tenants t ON t.code = u.name), ARRAY(SELECT id FROM users ORDER BY id), (SELECT min(id) FROM notes);
-- constants and keys
SELECT u.id, n.id FROM users u, notes n WHERE u.id = 1 AND n.user_id = 1;
SELECT u.id, t.code FROM users u, tenants t WHERE u.id = 2 AND t.code = 'acme';
SELECT u.id, t.code FROM users u, tenants t WHERE u.id IN (1, 2, 3) AND t.code IN ('acme', '');
SELECT count(*) FROM users u, tenants t WHERE u.id = NULL AND t.code = 'acme';
@params (2, 'acme') SELECT u.id, t.code FROM users u, tenants t WHERE u.id = $1 AND t.code = $2;
@params (24, '{acme,42}'::text[]) SELECT u.id, t.code FROM users u JOIN tenants t ON t.seats <> u.age WHERE u.age > $1 AND t.code = ANY ($2);
@params (NULL::int) SELECT u.id, n.id FROM users u JOIN notes n ON n.id <> u.id WHERE u.age > $1;
@params (3) SELECT u.id + $1 AS more, n.id FROM users u JOIN notes n ON n.user_id = u.id WHERE n.id < $1;
@ordered @params (2::bigint) SELECT u.id, n.id FROM users u, notes n ORDER BY u.id, n.id LIMIT $1;
-- types on their way
SELECT p.*, n.id FROM places p LEFT JOIN notes n ON n.id = p.id;
SELECT p.name, p.label, p.fixed, length(p.fixed), p.fixed || '|', p.rank + 1, p.feeling > 'sad', p.tags[1], p.grid[2][1], lower(p.during), p.price, p.w, p.d, p.t, p.i, p.u, p.b, p.net FROM places p JOIN users u ON u.id = p.id;
@ordered SELECT p.name, t.code FROM places p, tenants t WHERE t.code = 'acme' ORDER BY p.name, p.id;
SELECT p.feeling, count(*) FROM places p JOIN users u ON u.feeling = p.feeling GROUP BY p.feeling;
SELECT p.id FROM places p JOIN docs d ON d.tags = p.tags OR d.id = p.u;
SELECT (p.spot).b, n.id FROM places p LEFT JOIN notes n ON n.id = p.id;
@may_refuse SELECT p FROM places p JOIN notes n ON n.id = p.id;
@may_refuse SELECT to_jsonb(u), n.id FROM users u JOIN notes n ON n.user_id = u.id;
@may_refuse SELECT count(u), count(n) FROM users u FULL JOIN notes n ON n.user_id = u.id;
SELECT u.id, u.name, count(n.id) FROM users u LEFT JOIN notes n ON n.user_id = u.id GROUP BY u.id;
SELECT u.*, count(n.id) FROM users u LEFT JOIN notes n ON n.user_id = u.id GROUP BY u.id HAVING u.age > 20;
-- views
SELECT g.id, n.id FROM grown g JOIN notes n ON n.user_id = g.id;
SELECT b.country, b.n, c.name FROM by_country b LEFT JOIN countries c ON c.code = b.country;
SELECT count(*), max(name) FROM named_rows;
-- functions
SELECT now() = now() AS same, u.id FROM users u JOIN notes n ON n.user_id = u.id WHERE u.created < now();
@shape SELECT random(), u.id FROM users u JOIN notes n ON n.user_id = u.id;
@shape SELECT gen_random_uuid(), clock_timestamp() FROM users u, tenants t;
SELECT count(*) FROM users u JOIN tenants t ON random() >= 0;
SELECT upper(u.name), coalesce(n.body, 'none'), CASE WHEN n.id IS NULL THEN 0 ELSE 1 END FROM users u LEFT JOIN notes n ON n.user_id = u.id;
SELECT to_char(o.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), d.meta ->> 'k' FROM orders o, docs d WHERE d.size = 1;
-- errors are the same
@error 22012 SELECT 1 / (u.id - u.id) FROM users u JOIN notes n ON n.user_id = u.id;
@error 21000 SELECT id, (SELECT user_id FROM orders o WHERE o.amount < u.age) FROM users u;
@any_message @error 22P02 SELECT u.name::int FROM users u JOIN notes n ON n.user_id = u.id;
@error 42703 SELECT u.nothing FROM users u JOIN notes n ON n.user_id = u.id;
-- inside a transaction, with its own writes
BEGIN;
INSERT INTO users (id, name, age) VALUES (700, 'own', 33), (701, 'own', 34);
INSERT INTO notes (id, user_id, body) VALUES (900, 700, 'mine'), (901, 701, 'mine');
SELECT u.id, n.body FROM users u JOIN notes n ON n.user_id = u.id;
SAVEPOINT a;
DELETE FROM notes WHERE id = 900;
UPDATE users SET name = 'later' WHERE id >= 700;
SELECT u.id, u.name, n.body FROM users u JOIN notes n ON n.user_id = u.id WHERE n.id >= 900;
ROLLBACK TO a;
SELECT u.id, u.name, n.body FROM users u JOIN notes n ON n.user_id = u.id WHERE n.id >= 900;
ROLLBACK;
SELECT u.id, n.body FROM users u JOIN notes n ON n.user_id = u.id;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM users u JOIN notes n ON n.user_id = u.id;
SELECT u.id, t.code FROM users u, tenants t WHERE t.seats > 9;
COMMIT;
-- what is made of them
INSERT INTO notes (id, user_id, body) SELECT 800 + n.id, u.id, u.name FROM users u JOIN notes n ON n.user_id = u.id;
INSERT INTO docs (id, title) SELECT gen_random_uuid(), 'copy of ' || t.code FROM tenants t JOIN users u ON u.age = t.seats + 21;
SELECT id, user_id, body FROM notes;
SELECT title FROM docs;
@ordered COPY (SELECT u.id, n.body FROM users u JOIN notes n ON n.user_id = u.id ORDER BY u.id, n.id) TO STDOUT;
-- columns that depend on a primary key
SELECT u.name, u.age + 1, count(n.id) FROM users u LEFT JOIN notes n ON n.user_id = u.id GROUP BY u.id ORDER BY u.country;
SELECT (SELECT max(c.name) FROM countries c WHERE c.code = u.country), u.email FROM users u JOIN notes n ON n.user_id = u.id GROUP BY u.id;
SELECT o.user_id, o.id, o.price, u.name, count(*) FROM orders o JOIN users u ON u.age > o.amount GROUP BY o.user_id, o.id, u.id;
@may_refuse SELECT p.id, p.doc, count(n.id) FROM places p LEFT JOIN notes n ON n.id = p.id GROUP BY p.id HAVING p.name IS NOT NULL;
