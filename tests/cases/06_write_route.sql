-- Writes that one shard takes.
@include _schema.sql
@cases
INSERT INTO users (id, name) VALUES (100, 'new');
INSERT INTO users VALUES (101, 'full', 'f@example.org', 'de', 1, 2.5, '2024-05-05 05:05+00', true, 'ok');
INSERT INTO users (name, id) VALUES ('swapped', 102) RETURNING *;
INSERT INTO users (id) VALUES (103) RETURNING id, name, coalesce(name, 'none') AS n;
INSERT INTO users (id, name) VALUES ('104', 'quoted') RETURNING id;
INSERT INTO users (id, name) VALUES (100 + 5, 'computed') RETURNING id;
INSERT INTO users (id, name) VALUES (106::smallint, 'cast') RETURNING id;
INSERT INTO users (id, name) VALUES (-107, 'negative') RETURNING id;
INSERT INTO users (id, name) VALUES (108.4, 'rounded') RETURNING id;
INSERT INTO users (id, age) VALUES (109, (SELECT 5)) RETURNING age;
INSERT INTO users (id, name) VALUES (110, DEFAULT) RETURNING *;
INSERT INTO orders (id, user_id, amount) VALUES (1000, 1, 5);
INSERT INTO orders (user_id, id, amount) VALUES (100, 1, 5), (100, 2, 6), (100, 3, 7) RETURNING id;
INSERT INTO users AS u (id, name) VALUES (111, 'alias') RETURNING u.id, u.name;
@params (120, 'param') INSERT INTO users (id, name) VALUES ($1, $2);
@params (121, 'param') INSERT INTO users (id, name) VALUES ($1, $2) RETURNING *;
@params ('p', 122) INSERT INTO users (name, id) VALUES ($1, $2) RETURNING id;
@params (123, 5.5, '2024-01-01 00:00+00', true, 'sad') INSERT INTO users (id, score, created, active, feeling) VALUES ($1, $2, $3, $4, $5) RETURNING *;
@params (124) INSERT INTO users (id, age) VALUES ($1, $1::int8 + 1) RETURNING age;
@error 42P08 @params (124) INSERT INTO users (id, age) VALUES ($1, $1 + 1) RETURNING age;
@may_refuse DRV5002 @params (125) INSERT INTO users (id) VALUES ($1 + 1) RETURNING id;
@error 23505 INSERT INTO users (id, name) VALUES (1, 'again');
@error 23505 @params (1) INSERT INTO users (id) VALUES ($1);
@error 23502 INSERT INTO orders (id, user_id) VALUES (NULL, 1);
@error 22P02 INSERT INTO users (id, age) VALUES (130, 'x');
@error 22003 INSERT INTO users (id, age) VALUES (131, 99999999999);
@error 42703 INSERT INTO users (id, nope) VALUES (132, 1);
@error 42601 INSERT INTO users (id, name) VALUES (133);
@error 42804 INSERT INTO users (id, created) VALUES (134, 5);
@error 22P02 INSERT INTO users (id, feeling) VALUES (135, 'angry');
-- upsert
INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT DO NOTHING;
INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT (id) DO NOTHING RETURNING id;
INSERT INTO users (id, name) VALUES (1, 'Ann2') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *;
INSERT INTO users (id, name, age) VALUES (2, 'y', 1) ON CONFLICT (id) DO UPDATE SET age = users.age + excluded.age WHERE users.age > 0 RETURNING age;
INSERT INTO users (id, name) VALUES (140, 'z') ON CONFLICT (id) DO UPDATE SET name = 'conflict' RETURNING name;
@params (140, 'w') INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = $2 || '!' RETURNING name;
INSERT INTO orders (user_id, id, amount) VALUES (1, 1, 1) ON CONFLICT ON CONSTRAINT orders_pkey DO UPDATE SET amount = orders.amount + 1 RETURNING amount;
@error 42P10 INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT (name) DO NOTHING;
@error 21000 INSERT INTO orders (user_id, id, amount) VALUES (1, 5000, 1), (1, 5000, 2) ON CONFLICT (user_id, id) DO UPDATE SET amount = 0;
-- update
UPDATE users SET name = 'updated' WHERE id = 1;
UPDATE users SET name = 'updated2', age = age + 1 WHERE id = 1 RETURNING *;
UPDATE users u SET age = 50 WHERE u.id = 2 RETURNING u.age;
UPDATE users SET age = NULL WHERE id = 2 AND age > 1000;
UPDATE users SET (name, age) = ('multi', 7) WHERE id = 3 RETURNING name, age;
UPDATE users SET (name, age) = (SELECT 'sub', 8) WHERE id = 3 RETURNING name, age;
UPDATE users SET name = DEFAULT WHERE id = 3 RETURNING name;
UPDATE users SET id = id WHERE id = 3;
UPDATE orders o SET amount = 77 FROM users u WHERE u.id = o.user_id AND o.user_id = 1 AND o.id = 1 RETURNING o.amount, u.id;
UPDATE orders SET amount = (SELECT max(amount) FROM orders WHERE user_id = 1) WHERE user_id = 1 AND id = 2 RETURNING amount;
UPDATE orders SET status = c.name FROM countries c WHERE c.code = 'de' AND user_id = 2 RETURNING status;
@params (5, 'five') UPDATE users SET name = $2 WHERE id = $1 RETURNING name;
@params (1, 5) UPDATE users SET age = age + $1 WHERE id = $2 RETURNING age;
@params (424242) UPDATE users SET age = 1 WHERE id = $1;
@error 23505 UPDATE orders SET id = 2 WHERE user_id = 1 AND id = 1;
@error 23502 UPDATE orders SET id = NULL WHERE user_id = 1 AND id = 1;
@error 22P02 UPDATE users SET age = 'x' WHERE id = 1;
@error 42703 UPDATE users SET nope = 1 WHERE id = 1;
-- delete
DELETE FROM orders WHERE user_id = 1 AND id = 1000;
DELETE FROM orders WHERE user_id = 100 RETURNING id;
DELETE FROM users WHERE id = 100 AND name = 'nobody';
DELETE FROM users WHERE id = 100;
DELETE FROM users WHERE id = 987654;
DELETE FROM items i USING orders o WHERE o.user_id = i.user_id AND o.id = i.order_id AND i.user_id = 1 AND o.amount > 100000;
DELETE FROM items WHERE user_id = 2 RETURNING *;
@params (101) DELETE FROM users WHERE id = $1 RETURNING id;
-- CTEs that write
WITH x AS (INSERT INTO users (id, name) VALUES (150, 'cte') RETURNING *) SELECT * FROM x;
WITH x AS (DELETE FROM users WHERE id = 150 RETURNING *) SELECT name FROM x;
WITH x AS (UPDATE orders SET amount = 1 WHERE user_id = 4 RETURNING id) SELECT count(*) FROM x;
WITH x AS (DELETE FROM orders WHERE user_id = 3 RETURNING *) INSERT INTO items (user_id, order_id, line) SELECT 3, id, 1 FROM x;
INSERT INTO items SELECT user_id, id, 9, 'copy', 1 FROM orders WHERE user_id = 4;
INSERT INTO items (user_id, order_id, line) SELECT 4, 6, g FROM generate_series(20, 22) g;
-- other key types
INSERT INTO tenants (code, plan) VALUES ('new', 'gold');
INSERT INTO tenants (code, plan) VALUES ('', 'again') ON CONFLICT (code) DO UPDATE SET plan = excluded.plan RETURNING *;
INSERT INTO tenants (code) VALUES ('77') RETURNING code;
@error 23505 INSERT INTO tenants (code) VALUES (42);
INSERT INTO tenants (code) VALUES (43) RETURNING code;
INSERT INTO tenants (code) VALUES ('a' || 'b') RETURNING code;
INSERT INTO tenants (code) VALUES (E'tab\there') RETURNING code;
@error 22021 INSERT INTO tenants (code) VALUES (E'\xff');
UPDATE tenants SET seats = seats + 1 WHERE code = '日本' RETURNING seats;
DELETE FROM tenants WHERE code = 'it''s';
INSERT INTO docs (id, title) VALUES ('11111111-1111-1111-1111-111111111111', 'uuid') RETURNING id;
UPDATE docs SET tags = array_append(tags, 'new') WHERE id = 'A0EEBC999C0B4EF8BB6D6BB9BD380A11' RETURNING tags;
UPDATE docs SET meta = jsonb_set(meta, '{k}', '5') WHERE id = '00000000-0000-0000-0000-000000000001' RETURNING meta;
DELETE FROM docs WHERE id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' RETURNING title;
-- the end state
SELECT * FROM users;
SELECT * FROM orders;
SELECT * FROM items;
SELECT * FROM tenants;
SELECT * FROM docs;
