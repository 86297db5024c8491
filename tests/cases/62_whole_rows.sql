-- Rows of tables and of subqueries as values, where one PostgreSQL finishes over the rows that were gathered.
@readonly
@include _schema.sql
@setup
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE places (gone int, id int PRIMARY KEY, name text COLLATE "C", label varchar(5), fixed char(4), "whole row" int, rank positive, feeling mood, tags text[], spot pair, price numeric(10,3), d date);
ALTER TABLE places DROP COLUMN gone;
@drover SELECT drover.shard_table('places', key => 'id');
INSERT INTO places VALUES (1, 'Zoo', 'abcde', 'ab', 7, 3, 'happy', '{x,"y z"}', '(,)', 1.500, '2024-02-29'), (2, 'apple', 'ab', 'a', NULL, 1, 'sad', '{}', '(2,)', 100, 'infinity'), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
@cases
-- rows of tables
SELECT to_jsonb(u), n.id FROM users u JOIN notes n ON n.user_id = u.id;
SELECT row_to_json(n), u.id FROM users u JOIN notes n ON n.user_id = u.id;
SELECT u, n.id FROM notes n JOIN orders u ON u.user_id = n.user_id;
SELECT p.id, p.spot IS NULL, p.spot IS DISTINCT FROM NULL, ROW(NULL, NULL) IS NOT DISTINCT FROM NULL, n.id FROM places p LEFT JOIN notes n ON n.id = p.id;
SELECT p, n.id FROM places p LEFT JOIN notes n ON n.id = p.id;
SELECT to_jsonb(p), (p).name, (p).spot FROM places p JOIN notes n ON n.id = p.id;
SELECT n, u.id FROM users u LEFT JOIN notes n ON n.user_id = u.id;
-- NULL for the whole row where an outer join has none, and only there
SELECT count(u), count(n), count(*) FROM users u FULL JOIN notes n ON n.user_id = u.id;
SELECT u.id, n IS NULL, n IS NOT NULL, to_jsonb(n) FROM users u LEFT JOIN notes n ON n.user_id = u.id;
SELECT p IS NULL, p IS NOT NULL, p IS DISTINCT FROM NULL FROM places p LEFT JOIN notes n ON n.id = p.id;
SELECT u.id FROM users u LEFT JOIN notes n ON n.user_id = u.id WHERE NOT (n IS NULL);
SELECT coalesce(n, m)::text FROM users u LEFT JOIN notes n ON n.user_id = u.id AND n.body IS NULL LEFT JOIN notes m ON m.user_id = u.id;
-- compared, grouped, counted, sorted, collected
SELECT count(*) FROM notes a JOIN notes b ON a = b JOIN users u ON u.id = a.user_id;
SELECT DISTINCT n FROM notes n, users u WHERE n.user_id <= u.id;
SELECT n, count(*) FROM notes n, users u WHERE n.user_id <= u.id GROUP BY n;
SELECT count(DISTINCT n) FROM notes n, users u;
@ordered SELECT u.id FROM users u JOIN orders o ON o.amount > u.age ORDER BY o, u.id;
SELECT u.id, json_agg(n ORDER BY n.id) FROM users u LEFT JOIN notes n ON n.user_id = u.id GROUP BY u.id;
SELECT u.id, array_agg(n ORDER BY n.id) FROM users u JOIN notes n ON n.user_id = u.id GROUP BY u.id;
SELECT u.country, jsonb_object_agg(u.id, n) FROM users u JOIN notes n ON n.user_id = u.id GROUP BY u.country;
SELECT max(n.id), count(u) FROM users u JOIN notes n ON n.user_id = u.id;
SELECT first_value(n) OVER (ORDER BY n.id), lag(n) OVER (ORDER BY n.id) FROM notes n JOIN users u ON u.id = n.user_id;
-- the same table whole and in part
SELECT a.body, b FROM notes a JOIN notes b ON b.id = a.id + 1 JOIN users u ON u.id = a.user_id;
SELECT a.id, a.user_id, a.body, b FROM notes a JOIN notes b ON b.id = a.id JOIN users u ON u.id = a.user_id;
-- from outside
SELECT u.id, (SELECT to_jsonb(n) FROM notes n WHERE n.user_id = u.id ORDER BY n.id LIMIT 1) FROM users u;
SELECT n.id, (SELECT jsonb_agg(u ORDER BY u.id) FROM users u WHERE u.id <= n.user_id AND n IS NOT NULL) FROM notes n;
SELECT u.id, x.r FROM users u, LATERAL (SELECT n AS r FROM notes n WHERE n.user_id >= u.id ORDER BY n.id LIMIT 1) x;
SELECT EXISTS (SELECT n FROM notes n JOIN users u ON u.id = n.user_id), ARRAY(SELECT n FROM notes n WHERE n.user_id IN (SELECT id FROM users) ORDER BY n.id);
SELECT n FROM notes n WHERE n IN (SELECT m FROM notes m JOIN users u ON u.id = m.user_id);
SELECT n FROM notes n WHERE n.id = 1 UNION ALL SELECT n FROM notes n JOIN users u ON u.id = n.user_id;
-- in a key's GROUP BY they depend on it; a row as a value would have to be compared
@may_refuse DRV4010 SELECT u, count(n.id) FROM users u LEFT JOIN notes n ON n.user_id = u.id GROUP BY u.id;
SELECT u.id, u.name, count(n) FROM users u LEFT JOIN notes n ON n.user_id = u.id GROUP BY u.id;
-- rows of subqueries, values and common table expressions
SELECT json_agg(q ORDER BY q.id) FROM (SELECT u.id, u.name, n.body FROM users u JOIN notes n ON n.user_id = u.id) q;
SELECT row_to_json(q) FROM (SELECT u.country, count(n.id) AS notes FROM users u LEFT JOIN notes n ON n.user_id = u.id GROUP BY u.country) q;
SELECT count(q), count(*) FROM users u LEFT JOIN (SELECT n.user_id, n.body FROM notes n) q ON q.user_id = u.id;
WITH q AS (SELECT n.id, u.name FROM users u JOIN notes n ON n.user_id = u.id) SELECT to_jsonb(q), q FROM q;
SELECT v, u.id FROM (VALUES (1, 'a'), (2, 'b')) v (n, s) JOIN users u ON u.id = v.n JOIN notes n ON n.user_id = u.id;
SELECT to_jsonb(v) FROM (VALUES (1, 'a'), (2, 'b')) v (n, s) LEFT JOIN notes n ON n.user_id = v.n AND n.id IN (SELECT id FROM users);
SELECT json_agg(r) FROM (SELECT a.id, (SELECT json_agg(b ORDER BY b.id) FROM (SELECT n.id, n.body FROM notes n WHERE n.user_id = a.id) b) AS notes FROM users a ORDER BY a.id) r;
SELECT count(DISTINCT q.*) FROM (SELECT id FROM users UNION ALL SELECT id FROM notes) q;
-- of one shard, and of several that each do their part
SELECT to_jsonb(u), u FROM users u WHERE u.id = 1;
@may_refuse DRV4005 SELECT o FROM orders o;
SELECT to_jsonb(o) FROM orders o;
SELECT json_agg(o ORDER BY o.id) FROM orders o;
SELECT row_to_json(q) FROM (SELECT o.id, o.status, count(i.line) AS lines FROM orders o LEFT JOIN items i ON i.user_id = o.user_id AND i.order_id = o.id GROUP BY o.id, o.status, o.user_id) q;
@ordered SELECT json_agg(q) FROM (SELECT o.status, sum(o.amount) AS total FROM orders o GROUP BY o.status ORDER BY o.status) q;
SELECT count(q) FROM (SELECT status, amount FROM orders) q;
