-- Large tables that are joined with small ones on other columns than the key: the values of the small one are asked for first.
@include _schema.sql
@setup
CREATE TABLE events (id bigint PRIMARY KEY, who bigint, code text, n int, price numeric, at date, u uuid, tag varchar(8), fixed char(4), c text COLLATE "C", w double precision);
@drover SELECT drover.shard_table('events', key => 'id');
INSERT INTO events SELECT g, CASE WHEN g % 7 = 0 THEN NULL ELSE g % 500 END, 'code ' || g % 900, g % 40, (g % 50) + 0.50, date '2024-01-01' + g % 300, ('00000000-0000-0000-0000-' || lpad((g % 1000)::text, 12, '0'))::uuid, 't' || g % 300, 'f' || g % 100, CASE g % 3 WHEN 0 THEN 'acme' WHEN 1 THEN 'Acme' END || nullif(g % 60, 0), CASE WHEN g % 100 = 0 THEN float8 'NaN' ELSE g % 100 END FROM generate_series(1, 9000) g;
CREATE TABLE few (id int PRIMARY KEY, who bigint, code text, price numeric, at date, u uuid, tag varchar(8), fixed char(4), c text COLLATE "C", w double precision, n int);
@drover SELECT drover.shard_table('few', key => 'id');
INSERT INTO few VALUES (1, 3, 'code 3', 1.5, '2024-01-05', '00000000-0000-0000-0000-000000000009', 't3', 'f1', 'acme3', 'NaN', 3), (2, 3, 'code 4', 1.500, '2024-02-01', '00000000-0000-0000-0000-000000000010', 't4', 'f2 ', 'Acme4', 5, 4), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (4, 499, 'code 899', 49.5, '2024-10-26', '00000000-0000-0000-0000-000000000999', 't299', 'f99', 'acme', 0, 39), (5, 77777, 'none', -1, '1999-01-01', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'none', 'none', 'none', -1, -1);
CREATE TABLE pages (id bigint PRIMARY KEY, event bigint, body text);
INSERT INTO pages SELECT g, g * 3, 'page ' || g FROM generate_series(1, 4000) g;
@cases
-- columns of all kinds
SELECT f.id, e.id FROM few f JOIN events e ON e.who = f.who;
SELECT f.id, e.id, e.n FROM few f, events e WHERE e.code = f.code;
SELECT f.id, e.id FROM few f, events e WHERE e.price = f.price AND e.n = 1;
SELECT f.id, e.id FROM few f, events e WHERE e.at = f.at;
SELECT f.id, e.id FROM few f, events e WHERE e.u = f.u;
SELECT f.id, e.id FROM few f, events e WHERE e.tag = f.tag;
SELECT f.id, e.id FROM few f, events e WHERE e.fixed = f.fixed AND e.n = 1;
SELECT f.id, e.id FROM few f, events e WHERE e.c = f.c;
SELECT f.id, e.id, e.w FROM few f, events e WHERE e.w = f.w AND e.n < 3;
SELECT f.id, e.id FROM few f, events e WHERE f.n = e.n AND f.who = e.who;
SELECT f.id, e.id FROM few f, events e WHERE f.id = e.who;
SELECT count(*), count(e.id), sum(e.price) FROM few f JOIN events e USING (who);
-- outer joins, on either side
SELECT f.id, e.id FROM few f LEFT JOIN events e ON e.who = f.who AND e.n = 3;
SELECT f.id, count(e.id) FROM few f LEFT JOIN events e ON e.who = f.who GROUP BY f.id;
SELECT f.id, count(*) FROM events e LEFT JOIN few f ON e.who = f.who WHERE e.n < 4 GROUP BY f.id;
SELECT f.id, count(*) FROM events e RIGHT JOIN few f ON e.who = f.who GROUP BY f.id;
SELECT f.id, count(*), count(e.id) FROM few f FULL JOIN events e ON e.who = f.who GROUP BY f.id;
SELECT f.id, count(e.id), count(p.id) FROM few f LEFT JOIN (events e JOIN pages p ON p.event = e.id) ON e.who = f.who GROUP BY f.id;
SELECT f.id, count(e.id), count(p.id) FROM few f LEFT JOIN events e ON e.who = f.who LEFT JOIN pages p ON p.event = e.id GROUP BY f.id;
-- subqueries that are conditions
SELECT count(*) FROM events WHERE who IN (SELECT who FROM few);
SELECT count(*) FROM events WHERE who NOT IN (SELECT who FROM few WHERE who IS NOT NULL);
SELECT count(*) FROM events WHERE who NOT IN (SELECT who FROM few);
SELECT count(*) FROM events e WHERE EXISTS (SELECT 1 FROM few f WHERE f.who = e.who AND f.id > 1);
SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT 1 FROM few f WHERE f.who = e.who);
SELECT count(*) FROM events e WHERE EXISTS (SELECT 1 FROM few f WHERE f.who = e.who) OR e.n = 4;
SELECT id FROM few f WHERE EXISTS (SELECT 1 FROM events e WHERE e.who = f.who AND e.n = 3);
SELECT id FROM few f WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.who = f.who);
SELECT id FROM few f WHERE f.who IN (SELECT e.who FROM events e WHERE e.n > 20);
SELECT id FROM few WHERE who IN (SELECT who FROM events GROUP BY who HAVING count(*) > 15);
SELECT count(*) FROM events WHERE who IN (SELECT max(who) FROM few) OR code IN (SELECT code FROM few);
SELECT count(*) FROM events WHERE who IN (SELECT f.who FROM few f LEFT JOIN pages p ON p.id = f.id ORDER BY 1 LIMIT 2);
SELECT count(*) FROM events WHERE who IN (SELECT who FROM few UNION SELECT 7);
SELECT count(*) FROM events WHERE (who, n) IN (SELECT who, n FROM few);
SELECT count(*) FROM events WHERE who = (SELECT who FROM few WHERE id = 1);
SELECT count(*) FROM events WHERE who = ANY (SELECT who FROM few) AND NOT (n IN (SELECT n FROM few));
SELECT count(*) FROM events e WHERE EXISTS (SELECT count(*) FROM few f WHERE f.who = e.who);
SELECT count(*) FROM events e WHERE EXISTS (SELECT 1 FROM few f WHERE f.who = e.who HAVING true);
SELECT count(*) FROM events e WHERE EXISTS (SELECT 1 FROM few f WHERE f.who = e.who GROUP BY ROLLUP (f.n));
SELECT count(*) FROM events e WHERE EXISTS (SELECT count(*) FROM few f WHERE f.who = e.who HAVING count(*) = 0);
SELECT count(*) FROM events e WHERE EXISTS (SELECT f.n FROM few f WHERE f.who = e.who GROUP BY f.n);
-- subqueries that are values, LATERAL, WITH
SELECT f.id, (SELECT sum(e.price) FROM events e WHERE e.who = f.who) FROM few f;
SELECT f.id, (SELECT count(*) FROM events e WHERE e.who = f.who AND e.code > f.code) FROM few f WHERE f.id < 4;
SELECT f.id, s.* FROM few f LEFT JOIN LATERAL (SELECT e.id, e.n FROM events e WHERE e.who = f.who ORDER BY e.id DESC LIMIT 2) s ON true;
SELECT f.id, s.total FROM few f, LATERAL (SELECT count(*) AS total FROM events e WHERE e.who = f.who) s;
WITH s AS (SELECT who FROM few WHERE id < 3) SELECT count(*) FROM events e JOIN s ON s.who = e.who;
WITH s AS (SELECT * FROM events WHERE n < 30) SELECT a.id, f.id FROM s a JOIN few f ON f.code = a.code JOIN s b ON b.id = a.id + 1;
SELECT f.id FROM few f WHERE f.price < (SELECT avg(e.price) FROM events e WHERE e.who = f.who);
SELECT f.id, (SELECT count(*) FROM events e JOIN pages p ON p.event = e.id WHERE e.who = f.who) FROM few f;
SELECT f.id, (SELECT count(*) FROM events e WHERE e.who = f.who AND EXISTS (SELECT 1 FROM pages p WHERE p.event = e.id)) FROM few f;
-- alternatives, and what they have in common
SELECT f.id, e.id FROM few f, events e WHERE (e.who = f.who AND f.id = 1 AND e.n = 3) OR (f.id > 3 AND e.n < 9 AND e.who = f.who);
SELECT f.id, e.id FROM few f, events e WHERE (e.who = f.who AND e.n = 3) OR (e.who = f.who AND f.id > 3 AND e.n < 9) OR (e.code = f.code AND e.n = 4);
SELECT f.id, e.id FROM few f, events e WHERE (f.id = 1 AND e.n = 3 AND e.who = 3) OR (f.id = 4 AND e.n = 39 AND f.who = e.who) OR (f.id = 5 AND NULL AND e.n = 7);
SELECT f.id, e.id FROM few f LEFT JOIN events e ON (e.who = f.who AND f.id = 1 AND e.n = 3) OR (f.id = 4 AND e.n < 9 AND e.who = f.who);
SELECT f.id, count(*) FROM few f JOIN events e ON (f.code IS NULL AND e.who IS NULL AND e.n < 3) OR (f.id = 2 AND e.n = 4 AND e.w < f.w + 5) GROUP BY 1;
SELECT a.name, b.name, t.code FROM users a JOIN countries c ON c.code = a.country JOIN users b ON b.age < a.age JOIN countries d ON d.code = b.country JOIN tenants t ON t.seats <> a.age WHERE (c.name = 'Germany' AND d.name = 'France') OR (c.name = 'Nowhere' AND d.name = 'Germany');
-- one after the other, with themselves, twice the same
SELECT f.id, e.id, p.body FROM few f JOIN events e ON e.code = f.code JOIN pages p ON p.event = e.id;
SELECT a.id, b.id FROM few f JOIN events a ON a.code = f.code JOIN events b ON b.code = a.code AND b.id < a.id WHERE f.id = 1;
SELECT count(*) FROM events a, events b, few f WHERE a.who = f.who AND b.code = f.code AND a.n = b.n;
SELECT u.name, e.id FROM users u JOIN orders o ON o.user_id = u.id AND o.amount > 5 JOIN events e ON e.who = o.amount WHERE u.age > 20;
SELECT c.name, count(*) FROM countries c JOIN users u ON u.country = c.code AND c.continent = 'Europe' JOIN events e ON e.who = u.id GROUP BY c.name;
SELECT count(*) FROM few f JOIN events e ON e.who = f.who JOIN countries c ON c.code = 'de' WHERE f.id = 1;
SELECT id FROM few WHERE who IN (SELECT who FROM events) UNION ALL SELECT e.id FROM events e JOIN few f ON f.who = e.who AND f.id = 2;
-- no row on the small side
SELECT count(*), sum(e.n) FROM few f JOIN events e ON e.who = f.who WHERE f.id = 999;
SELECT f.id, e.id FROM few f LEFT JOIN events e ON e.who = f.who WHERE f.code IS NULL;
-- parameters, transactions
@params (3)
SELECT f.id, count(*) FROM few f JOIN events e ON e.who = f.who WHERE e.n > $1 GROUP BY f.id;
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE few SET who = 8 WHERE id = 5;
SELECT f.id, count(*) FROM few f JOIN events e ON e.who = f.who GROUP BY f.id;
DELETE FROM events WHERE who = 8;
SELECT f.id, count(e.id) FROM few f LEFT JOIN events e ON e.who = f.who GROUP BY f.id;
ROLLBACK;
BEGIN;
UPDATE few SET who = 8 WHERE id = 5;
SELECT f.id, count(*) FROM few f JOIN events e ON e.who = f.who GROUP BY f.id;
ROLLBACK;
SELECT current_setting('transaction_isolation'), count(*) FROM few f JOIN events e ON e.who = f.who;
SELECT 1 / (e.n - 3) FROM few f JOIN events e ON e.who = f.who WHERE f.id = 4 AND e.n > 3;
@error 22012
@any_message
SELECT 1 / (e.n - 39) FROM few f JOIN events e ON e.who = f.who WHERE f.id = 4;
COPY (SELECT f.id, e.id FROM few f JOIN events e ON e.who = f.who ORDER BY 1, 2) TO STDOUT;
