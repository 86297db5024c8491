-- The schema most files use: sharded by users.id / orders.user_id / items.user_id (colocated), by a text key, by a
-- uuid key, one reference table, one unsharded table. Some tables are sharded while empty, some with rows in them.
@setup
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL, continent text);
INSERT INTO countries VALUES ('de', 'Germany', 'Europe'), ('fr', 'France', 'Europe'), ('jp', 'Japan', 'Asia'), ('br', 'Brazil', 'America'), ('xx', 'Nowhere', NULL);
@drover SELECT drover.reference_table('countries');

CREATE TABLE users (id bigint PRIMARY KEY, name text, email text, country text, age int, score numeric, created timestamptz, active boolean, feeling mood);
INSERT INTO users VALUES (1, 'Ann', 'ann@example.org', 'de', 31, 10.50, '2024-01-01 10:00+00', true, 'ok'), (2, 'bob', 'bob@example.org', 'fr', 25, 7.25, '2024-02-01 10:00+00', false, 'sad'), (3, 'Cid', NULL, 'jp', NULL, NULL, NULL, NULL, NULL), (4, 'Ärger', 'a@example.org', 'xx', 44, 0, '2023-12-31 23:59:59.999999+00', true, 'happy'), (5, 'bob', 'bob2@example.org', NULL, 25, -3.125, '2024-02-01 10:00+00', true, 'ok'), (6, '', '', 'de', 0, 1e20, '1999-06-01 00:00+00', false, 'happy');
@drover SELECT drover.shard_table('users', key => 'id');

CREATE TABLE orders (id bigint, user_id bigint, amount int, price numeric(12,2), ratio double precision, small smallint, status text, placed date, at timestamptz, PRIMARY KEY (user_id, id));
@drover SELECT drover.shard_table('orders', key => 'user_id', colocate_with => 'users');
INSERT INTO orders VALUES (1, 1, 10, 1.10, 0.5, 1, 'new', '2024-01-02', '2024-01-02 00:00+00');
INSERT INTO orders VALUES (2, 1, 20, 2.20, 1.5, 2, 'paid', '2024-01-03', '2024-01-03 12:00+00');
INSERT INTO orders VALUES (3, 2, 30, 3.30, 2.5, 3, 'new', '1999-12-31', '1999-12-31 23:00+00');
INSERT INTO orders VALUES (4, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO orders VALUES (5, 4, -5, 0.01, -1.25, -3, 'paid', '2024-01-02', '2024-01-02 08:00+00');
INSERT INTO orders VALUES (6, 4, 0, 100.00, 0, 0, '', '2030-01-01', '2030-01-01 00:00+00');
INSERT INTO orders VALUES (7, 99, 7, 7.70, 7.5, 7, 'lost', '2024-01-07', '2024-01-07 07:00+00');

CREATE TABLE items (user_id bigint, order_id bigint, line int, sku text, qty smallint, PRIMARY KEY (user_id, order_id, line));
@drover SELECT drover.shard_table('items', key => 'user_id', colocate_with => 'users');
COPY items FROM STDIN;
1	1	1	apple	3
1	1	2	pear	1
1	2	1	apple	\N
2	3	1	plum	9
4	5	1	pear	4
4	6	1	\N	2
77	1	1	kiwi	1
\.

CREATE TABLE tenants (code text PRIMARY KEY, plan text, seats int, parent text);
@drover SELECT drover.shard_table('tenants', key => 'code');
INSERT INTO tenants VALUES ('acme', 'gold', 10, NULL);
INSERT INTO tenants VALUES ('Acme', 'gold', 11, 'acme');
INSERT INTO tenants VALUES ('', 'free', 0, NULL);
INSERT INTO tenants VALUES ('42', 'free', 1, 'acme');
INSERT INTO tenants VALUES ('日本', 'silver', 5, '42');
INSERT INTO tenants VALUES ('it''s', NULL, NULL, NULL);

CREATE TABLE docs (id uuid PRIMARY KEY, title text, size int, tags text[], meta jsonb, raw bytea);
@drover SELECT drover.shard_table('docs', key => 'id');
INSERT INTO docs VALUES ('00000000-0000-0000-0000-000000000001', 'one', 1, '{a,b}', '{"k": 1}', '\x00ff');
INSERT INTO docs VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'two', 2, '{}', '[]', '\x');
INSERT INTO docs VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'three', NULL, NULL, NULL, NULL);

CREATE TABLE notes (id serial PRIMARY KEY, user_id bigint, body text);
INSERT INTO notes (user_id, body) VALUES (1, 'first'), (2, 'second'), (NULL, 'orphan'), (4, NULL);
