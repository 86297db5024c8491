-- Every class of wrong write known from other systems, W1 to W13: right or refused.
@include _schema.sql
@setup
CREATE TABLE events (tenant int, id serial, what text, at timestamptz DEFAULT now(), token uuid DEFAULT gen_random_uuid());
@drover SELECT drover.shard_table('events', key => 'tenant');
CREATE TABLE counters (k bigint DEFAULT 7, n int DEFAULT 1);
@drover SELECT drover.shard_table('counters', key => 'k');
@cases
-- W1, W2: multi-row INSERT
INSERT INTO users (id, name) VALUES (1001, 'a'), (1002, 'b'), (1003, 'c'), (1004, 'd');
SELECT count(*) FROM users WHERE id > 1000;
@error 23505 INSERT INTO users (id, name) VALUES (1005, 'a'), (1006, 'b'), (1001, 'c');
SELECT count(*) FROM users WHERE id > 1000;
@params ('z', 1007, 1008) INSERT INTO users (id, name) VALUES ($2, $1), ($3, $1) ON CONFLICT (id) DO UPDATE SET name = $1 RETURNING id, name, $1::text;
-- W3: INSERT … SELECT without a literal key
@may_refuse INSERT INTO orders (user_id, id, amount) SELECT id, 500, age FROM users WHERE id < 7;
@may_refuse INSERT INTO users (id, name) SELECT id + 5000, name FROM users WHERE id < 7;
@may_refuse INSERT INTO users (id, name) SELECT g, 'gen' FROM generate_series(6000, 6010) g;
@may_refuse INSERT INTO users (id, name) SELECT n.id + 7000, n.body FROM notes n;
@error 42601 @may_refuse INSERT INTO users (id, name) TABLE notes;
@may_refuse INSERT INTO notes (user_id, body) SELECT id, name FROM users WHERE id < 3;
@may_refuse INSERT INTO countries SELECT DISTINCT name, 'from users', NULL FROM users WHERE id = 1;
-- W4: key by expression or DEFAULT
@may_refuse INSERT INTO counters DEFAULT VALUES;
@may_refuse INSERT INTO counters (n) VALUES (2);
@may_refuse INSERT INTO counters (k, n) VALUES (DEFAULT, 3);
@may_refuse INSERT INTO counters (k, n) VALUES (3 * 4, 4);
@may_refuse INSERT INTO counters (k, n) VALUES (length('abc'), 5);
@may_refuse INSERT INTO counters (k, n) VALUES ((SELECT 9), 6);
@may_refuse INSERT INTO counters (k, n) VALUES ((SELECT max(id) FROM users), 6);
@may_refuse INSERT INTO counters (k, n) VALUES (1, 7), (DEFAULT, 8), (1 + 1, 9);
@shape @may_refuse INSERT INTO counters (k, n) VALUES ((random() * 0)::bigint, 10);
SELECT k, n FROM counters;
SELECT n FROM counters WHERE k = 7;
SELECT n FROM counters WHERE k = 12;
-- W5: NULL key
@may_refuse INSERT INTO counters (k, n) VALUES (NULL, 20);
@params (NULL) @may_refuse INSERT INTO counters (k, n) VALUES ($1, 21);
@may_refuse INSERT INTO counters (k, n) VALUES (1, 22), (NULL, 23);
SELECT n FROM counters WHERE k IS NULL;
@error 23502 INSERT INTO users (id, name) VALUES (NULL, 'x');
-- W6: a number-looking literal for a text key
INSERT INTO tenants (code, seats) VALUES (555, 1);
SELECT count(*) FROM tenants WHERE code = '555';
INSERT INTO tenants (code, seats) VALUES ('556', 1), (557, 2);
SELECT code, seats FROM tenants WHERE code IN ('555', '556', '557');
@params (558) INSERT INTO tenants (code) VALUES ($1) RETURNING code;
-- W7: COPY in the extended protocol is in 11_copy.sql (all modes)
-- W8: values made once for all copies of a reference table
@may_refuse INSERT INTO countries VALUES ('t1', now()::text, NULL);
@may_refuse INSERT INTO countries VALUES ('t2', random()::text, NULL);
@may_refuse UPDATE countries SET continent = gen_random_uuid()::text WHERE code = 't2';
@may_refuse INSERT INTO events (tenant, what) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
SELECT count(DISTINCT at), count(*), count(DISTINCT token) = count(*) FROM events;
-- W9: atomicity is in the commit tests; one failing row undoes all
@error 22012 INSERT INTO users (id, age) VALUES (1100, 1), (1101, 1 / 0), (1102, 2);
SELECT count(*) FROM users WHERE id BETWEEN 1100 AND 1102;
-- W10: data-modifying statement with a CTE
@may_refuse WITH x AS (SELECT id FROM users WHERE id = 1) UPDATE orders SET amount = 1 WHERE user_id = 2;
@may_refuse WITH x AS (SELECT 1 AS one) DELETE FROM orders USING x WHERE amount = one;
@may_refuse WITH x AS (UPDATE users SET age = 1 WHERE id = 1 RETURNING id) UPDATE orders SET amount = 2 WHERE user_id = 4;
@may_refuse WITH x AS (INSERT INTO users (id) VALUES (1200), (1201) RETURNING id) SELECT count(*) FROM x;
@may_refuse WITH gone AS (DELETE FROM orders WHERE amount < 0 RETURNING *) SELECT count(*) FROM gone;
-- W11: OR with a subquery on a reference table
@may_refuse DELETE FROM users WHERE id = 1100 OR country IN (SELECT code FROM countries WHERE continent = 'Asia');
-- W12: changing the shard key
@may_refuse UPDATE users SET id = 1300 WHERE id = 5;
@may_refuse UPDATE users SET id = id + 10000 WHERE id IN (1, 2);
@may_refuse UPDATE orders SET user_id = 2 WHERE user_id = 1 AND id = 1;
@may_refuse UPDATE orders SET user_id = user_id;
@may_refuse INSERT INTO users (id) VALUES (2) ON CONFLICT (id) DO UPDATE SET id = 2000;
@may_refuse MERGE INTO users u USING (VALUES (2)) v(id) ON u.id = v.id WHEN MATCHED THEN UPDATE SET id = 3000;
@may_refuse MERGE INTO users u USING (VALUES (1::bigint, 'm1'), (77, 'm77')) v(id, name) ON u.id = v.id WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name);
SELECT id FROM users WHERE id IN (1, 2, 5, 77, 1300, 2000, 3000);
-- W13: sequences and serial columns
@may_refuse INSERT INTO events (tenant, what) VALUES (9, 'serial') RETURNING id > 0;
@may_refuse INSERT INTO events (tenant, what) VALUES (10, 'a'), (11, 'b'), (12, 'c') RETURNING id > 0;
SELECT count(DISTINCT id) = count(*) FROM events;
SELECT nextval('notes_id_seq');
SELECT nextval('notes_id_seq'), currval('notes_id_seq'), lastval();
SELECT setval('notes_id_seq', 100);
SELECT nextval('notes_id_seq');
-- DML with other tables off the key
@may_refuse UPDATE users SET age = (SELECT max(amount) FROM orders) WHERE id = 1;
@may_refuse UPDATE users SET name = n.body FROM (SELECT user_id, min(body) AS body FROM notes GROUP BY user_id) n WHERE n.user_id = users.id;
@may_refuse UPDATE notes SET body = u.name FROM users u WHERE u.id = notes.user_id;
@may_refuse DELETE FROM notes WHERE user_id IN (SELECT id FROM users WHERE age > 30);
@may_refuse DELETE FROM users WHERE age = (SELECT max(age) FROM users);
@may_refuse UPDATE users SET age = age + (SELECT count(*) FROM countries) WHERE id IN (1, 2);
@may_refuse UPDATE users a SET age = b.age FROM users b WHERE b.name <> a.name AND b.id = a.id - 1;
-- the end state, but for values that are random
SELECT id, name, age, country FROM users;
SELECT user_id, id, amount FROM orders;
SELECT code, seats FROM tenants;
SELECT tenant, what FROM events;
SELECT user_id, body FROM notes;
