-- Reference tables whose rows matter by themselves beside sharded ones: each shard answers for the rows whose value of the joined
-- column is its own. Right, where a column of the reference table meets the shard key.
@readonly
@include _schema.sql
@setup
CREATE TABLE owners (id bigint PRIMARY KEY, name text NOT NULL, buddy int, code varchar(8), ref uuid, amount numeric, note text);
INSERT INTO owners SELECT n, 'owner ' || n, CASE WHEN n % 3 > 0 THEN n / 2 END, (ARRAY['acme', 'Acme', '', '42', 'none'])[n % 6], CASE WHEN n = 2 THEN '00000000-0000-0000-0000-000000000001'::uuid WHEN n = 7 THEN 'ffffffff-ffff-ffff-ffff-ffffffffffff' END, n + 0.5, CASE WHEN n % 4 = 0 THEN 'x' END FROM generate_series(-3, 40) n;
ALTER TABLE owners DROP COLUMN note;
ALTER TABLE owners ADD COLUMN late text DEFAULT 'late';
@drover SELECT drover.reference_table('owners');
CREATE VIEW owner_names AS SELECT id, name FROM owners;
CREATE VIEW owner_orders AS SELECT w.id, w.name, count(o.id) AS n FROM owners w LEFT JOIN orders o ON o.user_id = w.id GROUP BY w.id;
@cases
SELECT w.id, w.name, o.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id;
SELECT w.id, w.name, o.id FROM orders o RIGHT JOIN owners w ON o.user_id = w.id;
SELECT w.*, o.* FROM owners w FULL JOIN orders o ON o.user_id = w.id;
SELECT w::text, w.*, o.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id WHERE w.id < 5;
SELECT * FROM owners LEFT JOIN orders ON user_id = owners.id WHERE price IS NULL;
SELECT * FROM owners AS w(a, b) LEFT JOIN orders o ON o.user_id = a;
@ordered SELECT w.id, w.name, w.late, count(o.id), sum(o.amount) FROM owners w LEFT JOIN orders o ON o.user_id = w.id GROUP BY w.id ORDER BY 4 DESC, 1;
@ordered SELECT w.name, count(*) FROM owners w LEFT JOIN orders o ON o.user_id = w.id GROUP BY w.name ORDER BY 2 DESC, 1 LIMIT 5;
@ordered SELECT w.name, count(*) AS n FROM owners w LEFT JOIN orders o ON o.user_id = w.id GROUP BY w.id HAVING count(o.id) = 0 ORDER BY w.id DESC OFFSET 3;
SELECT count(*), count(o.id), count(DISTINCT w.id), max(w.name), avg(o.price) FROM owners w LEFT JOIN orders o ON o.user_id = w.id;
SELECT w.buddy, count(*), count(u.name) FROM owners w LEFT JOIN users u ON u.id = w.buddy GROUP BY w.buddy;
SELECT w.id FROM owners w LEFT JOIN users u ON u.id = w.buddy WHERE u.id IS NULL;
SELECT DISTINCT w.code, t.plan FROM owners w LEFT JOIN tenants t ON t.code = w.code;
SELECT w.id, t.seats FROM owners w LEFT JOIN tenants t ON t.code = w.code AND t.seats > 5;
SELECT w.id, d.title FROM owners w LEFT JOIN docs d ON d.id = w.ref;
@ordered SELECT w.id, d.title, row_number() OVER (PARTITION BY w.ref ORDER BY w.id) FROM owners w LEFT JOIN docs d ON d.id = w.ref ORDER BY w.id;
SELECT w.id FROM owners w WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = w.id);
SELECT w.id FROM owners w WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = w.id AND o.amount > 5);
SELECT w.id FROM owners w WHERE w.id IN (SELECT user_id FROM orders);
@may_refuse SELECT w.id FROM owners w WHERE w.id NOT IN (SELECT user_id FROM orders);
SELECT count(*) FROM owners w WHERE w.buddy IN (SELECT id FROM users WHERE age > 20);
SELECT w.id, (SELECT count(*) FROM orders o WHERE o.user_id = w.id) FROM owners w;
SELECT w.id, EXISTS (SELECT FROM orders o WHERE o.user_id = w.id) FROM owners w;
@ordered SELECT w.id, x.n FROM owners w, LATERAL (SELECT count(*) AS n FROM orders o WHERE o.user_id = w.id) x ORDER BY w.id;
SELECT w.id, x.amount FROM owners w LEFT JOIN LATERAL (SELECT amount FROM orders o WHERE o.user_id = w.id ORDER BY amount DESC NULLS LAST LIMIT 1) x ON true;
SELECT w.id, o.id, c.name FROM owners w LEFT JOIN orders o ON o.user_id = w.id LEFT JOIN countries c ON c.code = w.code;
SELECT w.id, u.name, o.id, c.name FROM owners w LEFT JOIN users u ON u.id = w.id LEFT JOIN orders o ON o.user_id = w.id LEFT JOIN countries c ON c.code = u.country;
SELECT w.id, v.id, o.id FROM owners w JOIN owners v ON v.id = w.buddy LEFT JOIN orders o ON o.user_id = w.id;
SELECT w.id, v.id, o.id FROM owners w LEFT JOIN owners v ON v.id = w.id LEFT JOIN orders o ON o.user_id = v.id;
SELECT w.id, o.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id WHERE w.id IN (1, 2, 3, 4);
SELECT w.id, count(o.id) FROM owners w LEFT JOIN orders o ON o.user_id = w.id WHERE w.id IN (1, 2, 99) GROUP BY w.id;
@params ('{1,4,7}'::int8[]) SELECT w.id, count(o.id) FROM owners w LEFT JOIN orders o ON o.user_id = w.id WHERE w.id = ANY($1) GROUP BY w.id;
@params (3) SELECT w.id, count(o.id) FROM owners w LEFT JOIN orders o ON o.user_id = w.id WHERE w.id > $1 GROUP BY w.id;
SELECT w.id, o.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id WHERE w.id = 1;
SELECT w.id, o.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id AND w.id = 1;
SELECT w.id, o.id FROM owners w LEFT JOIN orders o ON o.user_id = 1;
WITH w AS (SELECT * FROM owners) SELECT w.id, o.id FROM w LEFT JOIN orders o ON o.user_id = w.id;
WITH w AS MATERIALIZED (SELECT id, name FROM owners WHERE id > 2) SELECT w.id, o.id FROM w LEFT JOIN orders o ON o.user_id = w.id;
@may_refuse WITH w AS (SELECT * FROM owners ORDER BY id LIMIT 5) SELECT w.id, o.id FROM w LEFT JOIN orders o ON o.user_id = w.id;
@may_refuse WITH w AS (SELECT * FROM owners) SELECT w.id, o.id, v.id FROM w LEFT JOIN orders o ON o.user_id = w.id LEFT JOIN w v ON v.id = w.buddy;
SELECT w.id, o.id FROM (SELECT id, name FROM owners WHERE name <> 'owner 3') w LEFT JOIN orders o ON o.user_id = w.id;
@may_refuse SELECT w.id, o.id FROM owner_names w LEFT JOIN orders o ON o.user_id = w.id;
@may_refuse SELECT * FROM owner_orders;
@may_refuse SELECT * FROM owner_orders WHERE n > 0;
@may_refuse SELECT w.id, o.id FROM owners w LEFT JOIN orders o ON o.amount = w.id;
@may_refuse SELECT w.id, o.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id + 0;
@may_refuse SELECT w.id, o.id FROM owners w LEFT JOIN orders o ON o.user_id = w.amount;
@may_refuse SELECT w.id, o.id, v.name FROM owners w LEFT JOIN orders o ON o.user_id = w.id LEFT JOIN owners v ON v.id = o.amount;
@may_refuse SELECT w.id, v.id, o.id, p.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id, owners v LEFT JOIN orders p ON p.user_id = v.id;
@may_refuse SELECT w.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id UNION ALL SELECT id FROM owners;
@may_refuse SELECT w.id, (SELECT count(*) FROM owners v WHERE v.buddy = w.id) FROM owners w LEFT JOIN orders o ON o.user_id = w.id;
@may_refuse SELECT w.id, o.id FROM owners w LEFT JOIN orders o ON o.user_id = w.id FOR UPDATE OF w;
@may_refuse SELECT count(*) FROM owners w LEFT JOIN orders o ON o.user_id = w.id HAVING count(*) > (SELECT count(*) FROM owners);
@may_refuse SELECT w.id, o.id FROM owners w LEFT JOIN (orders o JOIN owners v ON v.id = o.user_id) ON o.user_id = w.id;
@may_refuse SELECT w.id, o.id FROM owners w TABLESAMPLE BERNOULLI (100) LEFT JOIN orders o ON o.user_id = w.id;
