-- MERGE from tables that do not meet the one that is merged into: their rows are carried to it.
@include _schema.sql
@setup
CREATE TABLE stock (sku text PRIMARY KEY, n int DEFAULT 7, feeling mood DEFAULT 'ok', twice int GENERATED ALWAYS AS (n * 2) STORED, note varchar(6));
@drover SELECT drover.shard_table('stock', key => 'sku');
INSERT INTO stock (sku, n) VALUES ('apple', 10), ('pear', 5), ('plum', 0);
CREATE TABLE pairs (a bigint, b text, n int, PRIMARY KEY (a, b));
@drover SELECT drover.shard_table('pairs', key => 'a, b');
INSERT INTO pairs VALUES (1, 'de', 1), (2, 'fr', 2), (50, 'de', 3);
CREATE TABLE incoming (k bigint, name varchar(20), n int);
INSERT INTO incoming VALUES (1, 'one', 1), (2, 'two', 2), (60, 'sixty', 60), (61, NULL, 61), (NULL, 'nobody', 0);
CREATE TABLE counts (id serial PRIMARY KEY, who bigint, n numeric, at timestamptz);
INSERT INTO counts (who, n) VALUES (1, 1), (3, 3), (98, 98);
CREATE TABLE regions (code text PRIMARY KEY, n bigint);
@drover SELECT drover.reference_table('regions');
INSERT INTO regions VALUES ('de', 0), ('zz', 0);
CREATE TABLE loose (k bigint, label text);
@drover SELECT drover.shard_table('loose', key => 'k');
INSERT INTO loose VALUES (1, 'a'), (NULL, 'b'), (60, 'c');
@cases
-- from an unsharded table, by the key
MERGE INTO users u USING incoming i ON u.id = i.k WHEN MATCHED AND i.n > 1 THEN UPDATE SET name = i.name, age = i.n WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND i.name IS NOT NULL AND i.k IS NOT NULL THEN INSERT (id, name) VALUES (i.k, i.name) WHEN NOT MATCHED THEN DO NOTHING;
SELECT id, name, age FROM users;
MERGE INTO loose l USING incoming i ON i.k = l.k WHEN MATCHED THEN UPDATE SET label = l.label || i.name WHEN NOT MATCHED THEN INSERT VALUES (i.k, 'new ' || i.n);
SELECT * FROM loose;
SELECT * FROM loose WHERE k = 61;
-- from a table sharded by something else, grouped by the key
MERGE INTO stock s USING (SELECT sku, sum(qty) AS qty, array_agg(user_id) FROM items WHERE sku IS NOT NULL GROUP BY sku) i ON s.sku = i.sku WHEN MATCHED AND s.n < 3 THEN DELETE WHEN MATCHED THEN UPDATE SET n = s.n - i.qty, note = 'less' WHEN NOT MATCHED THEN INSERT (sku, n) VALUES (i.sku, -i.qty);
MERGE INTO stock AS s USING tenants t ON t.code = s.sku WHEN NOT MATCHED AND t.seats > 1 THEN INSERT (sku, n) VALUES (t.code, t.seats) WHEN NOT MATCHED AND t.seats = 1 THEN INSERT (sku) VALUES (t.code);
SELECT * FROM stock;
MERGE INTO stock s USING (SELECT code, seats FROM tenants UNION ALL SELECT 'x' || body, id FROM notes WHERE body IS NOT NULL) t ON t.code = s.sku WHEN MATCHED THEN UPDATE SET n = s.n + 1;
-- joined with others, of several columns
MERGE INTO pairs p USING (SELECT u.id, u.country, c.continent FROM users u JOIN countries c ON c.code = u.country) s ON p.a = s.id AND p.b = s.country WHEN MATCHED THEN UPDATE SET n = p.n + 100 WHEN NOT MATCHED AND s.continent <> 'Asia' THEN INSERT VALUES (s.id, s.country, length(s.continent));
SELECT * FROM pairs;
MERGE INTO pairs p USING users u ON u.age = p.n WHEN MATCHED THEN UPDATE SET n = -p.n;
-- only rows that match: joined by anything
MERGE INTO users u USING orders o ON u.age = o.amount + 1 WHEN MATCHED THEN DELETE;
MERGE INTO users u USING notes n ON u.id = n.user_id AND n.body LIKE 's%' WHEN MATCHED AND u.active THEN UPDATE SET email = n.body WHEN MATCHED THEN UPDATE SET email = 'not ' || n.body;
MERGE INTO users u USING tenants t ON t.seats = u.age - 20 WHEN MATCHED AND EXISTS (SELECT 1 FROM notes n WHERE n.user_id = u.id) THEN UPDATE SET name = t.code WHEN MATCHED THEN DO NOTHING;
SELECT * FROM users;
-- into an unsharded table
MERGE INTO counts c USING (SELECT user_id, sum(amount) AS total FROM orders GROUP BY user_id) o ON c.who = o.user_id WHEN MATCHED THEN UPDATE SET n = o.total WHEN NOT MATCHED THEN INSERT (who, n, at) VALUES (o.user_id, o.total, '2024-01-01 00:00+00');
MERGE INTO counts c USING users u ON u.id = c.who WHEN MATCHED AND u.age IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET at = u.created;
SELECT who, n, at FROM counts;
SELECT count(DISTINCT id) = count(*) FROM counts;
-- into a reference table
MERGE INTO regions r USING (SELECT country, count(*) AS n FROM users WHERE country IS NOT NULL GROUP BY country) u ON u.country = r.code WHEN MATCHED THEN UPDATE SET n = u.n WHEN NOT MATCHED THEN INSERT VALUES (u.country, u.n);
SELECT * FROM regions;
MERGE INTO regions r USING incoming i ON i.name = r.code WHEN NOT MATCHED AND i.name IS NOT NULL THEN INSERT VALUES (i.name, i.n);
SELECT u.id, r.n FROM users u JOIN regions r ON r.code = u.name;
-- parameters, the clock
@params (5, 'p') MERGE INTO users u USING incoming i ON u.id = i.k WHEN MATCHED AND i.n < $1 THEN UPDATE SET name = $2 || i.n WHEN NOT MATCHED AND i.k > 60 THEN INSERT (id, name) VALUES (i.k, $2);
MERGE INTO users u USING incoming i ON u.id = i.k WHEN MATCHED AND u.created < now() THEN UPDATE SET created = now();
SELECT id, name FROM users;
-- refused: a new row would belong to another shard than its row of the source was looked at on
@refused @many MERGE INTO users u USING incoming i ON u.id = i.k WHEN NOT MATCHED THEN INSERT (id) VALUES (i.n + 70000);
@refused @many MERGE INTO users u USING incoming i ON u.age = i.n WHEN NOT MATCHED THEN INSERT (id) VALUES (i.k + 80000);
@refused @many MERGE INTO users u USING incoming i ON u.id = i.k WHEN MATCHED THEN UPDATE SET id = i.n;
@refused @many MERGE INTO stock s USING users u ON u.name = s.sku WHEN NOT MATCHED THEN INSERT (sku, n) VALUES (u.name, random() * 10);
@refused @many MERGE INTO users u USING (SELECT code, seats FROM tenants ORDER BY seats LIMIT 3) t ON t.seats = u.age - 20 WHEN MATCHED THEN DELETE;
-- errors, and nothing is changed
@error 21000 MERGE INTO users u USING orders o ON u.age < o.amount + 100 WHEN MATCHED THEN UPDATE SET name = o.status;
@error 22001 MERGE INTO stock s USING tenants t ON t.code = s.sku WHEN MATCHED THEN UPDATE SET note = 'far too long' WHEN NOT MATCHED THEN INSERT (sku, note) VALUES (t.code, 'also too long');
@refused @many MERGE INTO users u USING (SELECT i.k, t.seats FROM incoming i, tenants t WHERE i.k = 60) i ON u.id = i.k + 5 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (i.k + 5);
SELECT id, name FROM users;
SELECT sku, note FROM stock;
BEGIN;
INSERT INTO incoming VALUES (900, 'own', 9);
MERGE INTO users u USING incoming i ON u.id = i.k WHEN NOT MATCHED AND i.k = 900 THEN INSERT (id, name) VALUES (i.k, i.name);
SELECT name FROM users WHERE id = 900;
ROLLBACK;
SELECT count(*) FROM users;
