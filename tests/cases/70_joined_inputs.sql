-- Tables that meet on the shards within statements that do not: they travel joined.
@include _schema.sql
@setup
CREATE DOMAIN whole AS bigint;
CREATE TABLE visits (user_id bigint, page int, drover_1 int, drover_2 text, seen timestamptz, PRIMARY KEY (user_id, page));
@drover SELECT drover.shard_table('visits', key => 'user_id', colocate_with => 'users');
INSERT INTO visits VALUES (1, 1, 10, 'a', '2024-01-01 00:00+00'), (1, 2, 20, NULL, NULL), (2, 1, 11, 'b', '2024-01-02 00:00+00'), (4, 7, NULL, 'c', NULL), (99, 1, 1, 'd', NULL);
CREATE TABLE pages (id int PRIMARY KEY, title text, owner bigint);
INSERT INTO pages VALUES (1, 'home', 1), (2, 'help', 2), (7, 'news', 4), (8, NULL, NULL);
CREATE TABLE owners (id bigint PRIMARY KEY, name text, country text);
INSERT INTO owners VALUES (1, 'Eve', 'de'), (2, 'Max', 'fr'), (4, NULL, 'jp');
CREATE TABLE profiles (id whole PRIMARY KEY, motto text COLLATE "C");
@drover SELECT drover.shard_table('profiles', key => 'id', colocate_with => 'users');
INSERT INTO profiles VALUES (1, 'b'), (2, 'A'), (4, NULL);
CREATE VIEW accounts_of AS SELECT id, name, age - 29 AS friend FROM users;
CREATE VIEW spenders AS SELECT u.id, u.name, o.amount, o.status FROM users u JOIN orders o ON o.user_id = u.id WHERE o.amount > 5;
@cases
-- two and three of them, with a table of another key, or an unsharded one
SELECT u.name, o.amount, t.code FROM users u JOIN orders o ON o.user_id = u.id JOIN tenants t ON t.seats = o.amount WHERE u.active;
SELECT u.name, o.amount, t.code FROM tenants t, orders o, users u WHERE t.seats = o.amount AND o.user_id = u.id AND u.active;
SELECT u.name, o.status, i.sku, t.code FROM users u JOIN orders o ON o.user_id = u.id JOIN items i ON i.user_id = o.user_id AND i.order_id = o.id JOIN tenants t ON t.seats = i.qty WHERE o.status = 'new';
SELECT i.sku, u.email, n.body FROM items i, users u, notes n WHERE i.user_id = u.id AND n.user_id = u.id AND u.country = 'de';
SELECT u.id, o.id, v.page, p.title FROM orders o, visits v, users u, pages p WHERE o.user_id = u.id AND v.user_id = u.id AND p.id = v.page AND u.age > 20;
-- not by the key: their rows may be anywhere
SELECT o.id, u.name, t.code FROM orders o JOIN users u ON u.id = o.id JOIN tenants t ON t.seats = o.amount WHERE u.active;
SELECT o.id, u.name, n.body FROM orders o, users u, notes n WHERE u.id = o.small AND u.age > 20 AND n.user_id = o.user_id;
SELECT a.name, b.name, n.body FROM accounts_of a JOIN users b ON b.id = a.friend JOIN notes n ON n.user_id = b.id WHERE b.age > 20;
-- equal keys by way of a third table, which is elsewhere
SELECT u.name, v.drover_2, p.title FROM pages p, users u, visits v WHERE p.owner = u.id AND p.owner = v.user_id AND u.age > 20;
SELECT u.name, r.motto, p.title FROM pages p, users u, profiles r WHERE p.owner = u.id AND p.owner = r.id AND u.age > 20;
SELECT u.name, r.motto, t.code FROM users u JOIN profiles r ON r.id = u.id JOIN tenants t ON t.seats = u.age - 21 WHERE r.motto < 'a' OR u.id = 2;
-- names that stand for others
SELECT v.drover_1, v.drover_2, u.name, n.body FROM visits v JOIN users u ON u.id = v.user_id JOIN notes n ON n.id = v.page WHERE u.active IS NOT NULL;
SELECT v.*, u.age, n.* FROM users u JOIN visits v ON u.id = v.user_id JOIN notes n ON n.id = v.page WHERE u.age > 20;
SELECT * FROM users u JOIN orders o ON o.user_id = u.id JOIN notes n ON n.id = o.small WHERE u.age > 20;
SELECT a.id, b.id, c.id, t.code FROM users a JOIN orders b ON b.user_id = a.id AND b.amount > 0 JOIN notes c ON c.user_id = a.id JOIN tenants t ON t.seats = b.amount;
-- no column of one of them, or of any
SELECT t.code FROM users u JOIN orders o ON o.user_id = u.id JOIN tenants t ON t.seats = o.amount WHERE u.age > 20;
SELECT count(*) FROM users u JOIN orders o ON o.user_id = u.id, tenants t WHERE u.age > 20;
SELECT count(*), count(n.id) FROM users u JOIN orders o ON o.user_id = u.id AND o.amount > 0 LEFT JOIN notes n ON n.user_id = 2;
-- conditions on several
SELECT u.id, o.id, t.code FROM users u JOIN orders o ON o.user_id = u.id AND o.amount < u.age JOIN tenants t ON t.seats >= o.amount WHERE u.score > o.price OR u.score IS NULL;
SELECT u.id, o.id, t.code FROM users u, orders o, tenants t WHERE o.user_id = u.id AND (u.age, o.amount) < (31, 20) AND t.seats + o.amount > u.age;
SELECT u.id, o.id FROM users u, orders o, notes n WHERE o.user_id = u.id AND u.age BETWEEN o.amount AND 50 AND n.user_id = u.id AND random() >= 0;
SELECT u.id, o.id, n.id FROM users u, orders o, notes n WHERE u.id = o.user_id AND o.placed < '2024-01-03'::date AND n.user_id = u.id AND o.amount + n.id > 5;
-- reference tables: carried along where they leave rows out
SELECT u.name, c.name, t.code FROM users u JOIN countries c ON c.code = u.country JOIN tenants t ON t.seats = u.age - 21 WHERE c.continent = 'Europe';
SELECT u.name, t.code FROM users u, countries c, tenants t WHERE c.code = u.country AND c.continent = 'Europe' AND t.seats < u.age;
SELECT u.name, o.amount, c.name, n.body FROM countries c, users u, orders o, notes n WHERE c.code = u.country AND c.continent <> 'Asia' AND o.user_id = u.id AND n.user_id = u.id;
SELECT c.name, u.name, n.body FROM countries c LEFT JOIN users u ON u.country = c.code LEFT JOIN notes n ON n.user_id = u.id WHERE c.continent = 'Europe';
SELECT u.name, a.name, b.name, n.id FROM users u, countries a, countries b, notes n WHERE a.code = u.country AND b.code = u.country AND a.continent = 'Europe' AND b.name <> 'France' AND n.user_id = u.id;
-- unsharded tables that join one another
SELECT u.name, p.title, w.name FROM users u JOIN pages p ON p.owner = u.id JOIN owners w ON w.id = p.owner WHERE w.country <> 'jp';
SELECT u.name, p.title, w.name, c.name FROM users u, pages p, owners w, countries c WHERE p.owner = u.id AND w.id = p.owner AND c.code = w.country AND c.continent = 'Europe';
-- outer joins around them, and around one of them
SELECT u.id, o.id, n.body FROM users u JOIN orders o ON o.user_id = u.id AND o.amount > 0 LEFT JOIN notes n ON n.user_id = u.id;
SELECT u.id, o.id, n.body FROM notes n LEFT JOIN (users u JOIN orders o ON o.user_id = u.id AND o.amount > 0) ON n.user_id = u.id;
SELECT u.id, o.id, n.body FROM (users u JOIN orders o ON o.user_id = u.id AND o.amount > 0) RIGHT JOIN notes n ON n.user_id = u.id;
SELECT u.id, o.id, n.body FROM (users u JOIN orders o ON o.user_id = u.id AND o.amount > 0) FULL JOIN notes n ON n.user_id = u.id;
SELECT n.id, u.id, o.id FROM notes n LEFT JOIN (users u CROSS JOIN orders o) ON u.id = o.user_id AND o.amount > 0 AND n.user_id = u.id;
SELECT u.id, o.id, n.body FROM users u LEFT JOIN notes n ON n.user_id = u.id JOIN orders o ON o.user_id = u.id AND o.amount > 0;
SELECT u.id, o.id, n.body FROM notes n RIGHT JOIN users u ON n.user_id = u.id, orders o WHERE o.user_id = u.id AND o.amount > 0;
SELECT u.id, o.id, t.code FROM tenants t JOIN (notes n RIGHT JOIN users u ON n.user_id = u.id) ON t.seats = u.age - 21 JOIN orders o ON o.user_id = u.id AND o.amount > 0;
SELECT u.id, o.id, n.id FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.amount > 0 JOIN notes n ON n.user_id = u.id;
SELECT u.id, o.id, n.id FROM users u FULL JOIN orders o ON o.user_id = u.id JOIN notes n ON n.user_id = coalesce(u.id, 1) WHERE o.amount > 0;
SELECT u.id, o.id, v.page, n.id FROM users u JOIN orders o ON o.user_id = u.id AND o.amount > 0 LEFT JOIN visits v ON v.user_id = u.id AND v.page = o.id JOIN notes n ON n.user_id = u.id;
-- in subqueries, WITH, views, and beside them
SELECT t.code FROM tenants t WHERE t.seats IN (SELECT o.amount FROM users u JOIN orders o ON o.user_id = u.id WHERE u.active);
SELECT t.code, (SELECT max(u.name) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.age > 20 AND o.amount = t.seats) FROM tenants t;
SELECT t.code, s.* FROM tenants t, LATERAL (SELECT u.id, o.amount FROM users u JOIN orders o ON o.user_id = u.id WHERE u.age > 20 AND o.amount >= t.seats ORDER BY 1, 2 LIMIT 2) s;
SELECT u.id, o.id, s.code FROM users u, LATERAL (SELECT t.code FROM tenants t WHERE t.seats = u.age - 21) s, orders o WHERE o.user_id = u.id AND o.amount > 0;
WITH w AS (SELECT u.id, o.amount FROM users u JOIN orders o ON o.user_id = u.id WHERE u.age > 20) SELECT * FROM w a JOIN w b USING (amount) JOIN tenants t ON t.seats = a.amount;
SELECT s.name, s.amount, t.code FROM spenders s JOIN tenants t ON t.seats = s.amount WHERE s.status = 'new';
SELECT id FROM users UNION SELECT o.id FROM users u JOIN orders o ON o.user_id = u.id JOIN tenants t ON t.seats = o.amount WHERE u.active;
-- grouped, with what depends on a key
SELECT u.id, u.name, count(*), sum(t.seats) FROM users u JOIN orders o ON o.user_id = u.id AND o.amount > 0 JOIN tenants t ON t.seats >= o.small GROUP BY u.id;
SELECT u.name, o.id, count(t.code) FROM users u JOIN orders o ON o.user_id = u.id AND o.amount > 0 CROSS JOIN tenants t GROUP BY o.user_id, o.id, u.name;
@ordered SELECT u.id, o.id, row_number() OVER (PARTITION BY o.status ORDER BY o.id) FROM users u JOIN orders o ON o.user_id = u.id AND o.amount > 0 JOIN countries c ON c.code = u.country JOIN notes n ON n.user_id = u.id ORDER BY 2, 1;
-- one key, parameters
SELECT u.name, o.amount, n.body FROM users u JOIN orders o ON o.user_id = u.id JOIN notes n ON n.user_id = u.id WHERE u.id = 1;
@params (1, 10)
SELECT u.name, o.amount, n.body FROM users u JOIN orders o ON o.user_id = u.id AND o.amount = $2::int JOIN notes n ON n.user_id = u.id WHERE u.id = $1::bigint;
@params ('new')
SELECT u.name, o.amount, t.code FROM users u JOIN orders o ON o.user_id = u.id JOIN tenants t ON t.seats = o.amount WHERE o.status = $1;
-- within a transaction, what it has written
BEGIN;
UPDATE orders SET status = 'new', amount = 11 WHERE user_id = 4 AND id = 5;
SELECT u.name, o.amount, t.code FROM users u JOIN orders o ON o.user_id = u.id JOIN tenants t ON t.seats = o.amount WHERE o.status = 'new';
ROLLBACK;
-- a key of two columns
@setup
CREATE TABLE accounts (region text, id int, name text, PRIMARY KEY (region, id));
@drover SELECT drover.shard_table('accounts', key => 'region, id');
CREATE TABLE bookings (region text, id int, n int, amount int, PRIMARY KEY (region, id, n));
@drover SELECT drover.shard_table('bookings', key => 'region, id', colocate_with => 'accounts');
INSERT INTO accounts SELECT chr(97 + g % 3), g, 'name ' || g FROM generate_series(1, 12) g;
INSERT INTO bookings SELECT chr(97 + g % 3), g, n, g * n FROM generate_series(1, 12) g, generate_series(1, 3) n;
@cases
SELECT a.name, b.amount, t.code FROM accounts a JOIN bookings b ON b.region = a.region AND b.id = a.id JOIN tenants t ON t.seats = b.amount WHERE a.region = 'b';
SELECT a.name, b.amount, t.code FROM accounts a JOIN bookings b ON b.id = a.id JOIN tenants t ON t.seats = b.amount WHERE a.region = 'b';
SELECT a.name, b.amount, p.title FROM accounts a, bookings b, pages p WHERE p.id = a.id AND p.id = b.id AND b.region = a.region AND a.name < 'name 5';
