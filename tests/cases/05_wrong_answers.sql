-- Every class of silently wrong answer known from other systems, R1 to R41: right or refused, never anything else.
@readonly
@include _schema.sql
@cases
-- R1: an equality on the key that does not restrict the rows
SELECT sum(CASE WHEN user_id = 1 THEN 1 END) FROM orders;
SELECT count(*) FILTER (WHERE user_id = 1) FROM orders;
SELECT user_id = 1 FROM orders;
SELECT user_id FROM orders GROUP BY user_id HAVING user_id = 1 OR count(*) > 0;
SELECT u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id AND u.id = 1;
SELECT u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.user_id = 1;
SELECT id FROM users WHERE EXISTS (SELECT 1 FROM orders WHERE user_id = 1);
SELECT id FROM users WHERE (SELECT count(*) FROM orders WHERE user_id = 1) > 0;
SELECT id FROM users WHERE id = 1 OR true;
SELECT id FROM users WHERE NOT (id = 1);
SELECT id FROM users WHERE (id = 1) IS NOT TRUE;
SELECT id FROM users WHERE (id = 1) = false;
SELECT id FROM users WHERE coalesce(id = 1, false) OR age > 0;
SELECT id FROM users ORDER BY id = 1 DESC, id;
SELECT (SELECT name FROM users WHERE id = 1), id FROM orders;
-- R2: set operations routed by their first arm
SELECT id FROM users WHERE id = 1 UNION ALL SELECT id FROM users WHERE id = 2;
SELECT id FROM users WHERE id = 1 UNION ALL SELECT id FROM users;
SELECT id FROM users WHERE id = 1 EXCEPT SELECT user_id FROM orders;
-- R3: a member of IN that cannot be evaluated
SELECT id FROM users WHERE id IN (1, 2 + 1, length('abcd'));
SELECT id FROM users WHERE id IN (1, (SELECT 2));
SELECT id FROM users WHERE id IN (1, age - 20);
SELECT id FROM users WHERE id IN (1, NULL, 3);
SELECT id FROM users WHERE id = ANY (ARRAY[1, 2 + 1]);
SELECT id FROM users WHERE id = ANY (SELECT 2);
-- R4: the side an outer join does not preserve
SELECT v.k, u.id FROM (VALUES (1), (2)) v(k) RIGHT JOIN users u ON u.id = v.k;
SELECT v.k, u.id FROM (VALUES (1), (2)) v(k) LEFT JOIN users u ON u.id = v.k;
SELECT u.id, o.id FROM orders o RIGHT JOIN users u ON o.user_id = u.id AND o.user_id = 2;
SELECT u.id, o.id FROM (SELECT * FROM users WHERE id = 1) u FULL JOIN orders o ON o.user_id = u.id;
-- R5: reference table joined without a key
SELECT c.name, u.id FROM countries c JOIN users u ON u.country = c.code;
SELECT count(*) FROM countries c JOIN users u ON u.country = c.code;
-- R6, R7, R8, R39 and R41 are about more than one statement: docs/select.md says where they are tested
-- R9: joins off the key, self joins, cross joins
SELECT a.id, b.id FROM users a JOIN users b ON a.age = b.age;
SELECT a.user_id, b.user_id FROM items a JOIN items b ON a.sku = b.sku;
SELECT count(*) FROM users a CROSS JOIN users b;
SELECT count(*) FROM users, tenants;
-- R10: uncorrelated subquery per shard
SELECT id FROM users WHERE age = (SELECT max(age) FROM users);
SELECT id FROM orders WHERE amount > ALL (SELECT avg(amount) FROM orders);
SELECT id FROM orders WHERE amount IN (SELECT max(amount) FROM orders GROUP BY status);
SELECT id FROM users WHERE age >= (SELECT age FROM users WHERE id = 1);
-- R11: scalar subqueries on different shards
SELECT (SELECT name FROM users WHERE id = 1), (SELECT name FROM users WHERE id = 2);
SELECT (SELECT count(*) FROM users WHERE id = 1) + (SELECT count(*) FROM users WHERE id = 2);
-- R12: anti-join off the key
SELECT id FROM orders a WHERE NOT EXISTS (SELECT 1 FROM users b WHERE b.age = a.amount);
SELECT id FROM users a WHERE age NOT IN (SELECT amount FROM orders WHERE amount IS NOT NULL);
SELECT a.id FROM users a LEFT JOIN users b ON b.age = a.age AND b.id <> a.id WHERE b.id IS NULL;
-- R13: CTE per shard
WITH top AS (SELECT id FROM users ORDER BY age DESC NULLS LAST LIMIT 2) SELECT * FROM top;
WITH t AS (SELECT count(*) AS n FROM users) SELECT n FROM t;
WITH t AS (SELECT max(age) AS m FROM users) SELECT id FROM users, t WHERE age = m;
WITH t AS (SELECT country FROM users GROUP BY country) SELECT count(*) FROM t;
SELECT id FROM users WHERE age > (SELECT min(age) FROM users) AND age < (SELECT max(age) FROM users);
-- R14: outer join, EXISTS, IN over a recurring side
SELECT c.code, count(u.id) FROM countries c LEFT JOIN users u ON u.country = c.code GROUP BY c.code;
SELECT c.code FROM countries c FULL JOIN users u ON u.country = c.code;
SELECT count(*) FROM countries WHERE EXISTS (SELECT 1 FROM users);
SELECT code FROM countries WHERE code IN (SELECT country FROM users);
SELECT code FROM countries WHERE code NOT IN (SELECT country FROM users WHERE country IS NOT NULL);
SELECT n.id FROM notes n WHERE EXISTS (SELECT 1 FROM users u WHERE u.id = n.user_id);
SELECT v.x FROM (VALUES (1), (50)) v(x) WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = v.x);
SELECT c.code, u.id FROM countries c LEFT JOIN users u ON true WHERE c.code = 'de';
SELECT c.code, u.n FROM countries c, LATERAL (SELECT count(*) AS n FROM users u WHERE u.country = c.code) u;
-- R15: joins of three and more
SELECT count(*) FROM users a JOIN orders b ON b.amount = a.age - 5 JOIN items c ON c.order_id = b.id JOIN tenants t ON t.seats = c.qty;
-- R16: OR with a subquery
SELECT id FROM users WHERE id = 1 OR id IN (SELECT user_id FROM orders WHERE amount = 30);
SELECT id FROM users WHERE id = 1 OR EXISTS (SELECT 1 FROM orders o WHERE o.user_id = users.id AND o.amount = 30);
-- R17: aggregate inside an expression
SELECT count(*) + 1 FROM users;
SELECT coalesce(sum(age), 0) FROM users;
SELECT sum(amount) / sum(small) FROM orders;
SELECT 'n=' || count(*) FROM users;
SELECT ARRAY[min(id), max(id)] FROM users;
SELECT abs(min(amount)) FROM orders;
-- R18: plain aggregate
SELECT count(*) FROM users;
SELECT max(age) FROM users;
-- R19: avg
SELECT avg(age) FROM users;
SELECT avg(amount), avg(price), avg(small) FROM orders;
SELECT avg(amount)::numeric(10, 2) FROM orders;
-- R20: DISTINCT behind a cast
SELECT count(DISTINCT country)::int FROM users;
SELECT count(DISTINCT country) + 0 FROM users;
SELECT (count(DISTINCT name))::text FROM users;
-- R21: helper columns
SELECT avg(age) FROM users WHERE id = 1;
@float SELECT stddev(amount), avg(amount) FROM orders WHERE user_id = 1;
-- R22: binary results are covered by the binary modes
SELECT count(*)::int, sum(age)::int, avg(age)::float8 FROM users;
@ordered SELECT id, age FROM users ORDER BY age NULLS FIRST, id;
-- R23: HAVING on partial groups
SELECT country FROM users GROUP BY country HAVING count(*) > 1;
SELECT name, count(*) FROM users GROUP BY name HAVING count(*) = 1;
SELECT status FROM orders GROUP BY status HAVING sum(amount) < 10;
-- R24: GROUP BY expression, alias, unselected column
SELECT count(*) FROM orders GROUP BY date_trunc('day', at);
SELECT date_trunc('month', at) AS m, count(*) FROM orders GROUP BY m;
SELECT count(*) FROM users GROUP BY country, active;
-- R25: duplicates across shards
SELECT DISTINCT country FROM users;
SELECT country FROM users GROUP BY country;
SELECT DISTINCT country, count(*) FROM users GROUP BY country, name;
-- R26: DISTINCT ON
@ordered SELECT DISTINCT ON (country) country, id FROM users ORDER BY country, id DESC;
@ordered SELECT DISTINCT ON (country, active) country, active, id FROM users ORDER BY country, active, id;
@ordered SELECT DISTINCT ON (lower(name)) id FROM users ORDER BY lower(name), id;
-- R27: equal but not the same bytes
SELECT count(DISTINCT n) FROM (SELECT CASE WHEN id % 2 = 0 THEN 1.0 ELSE 1.00 END AS n FROM users) x;
SELECT count(*) FROM (SELECT DISTINCT CASE WHEN id % 2 = 0 THEN 0.0::float8 ELSE '-0'::float8 END FROM users) x;
-- R28: LIMIT without ORDER BY
@count SELECT id FROM users LIMIT 2;
@count SELECT id FROM users WHERE age > 0 LIMIT 3;
-- R29: OFFSET alone, LIMIT as an expression or a subquery, negative
@count SELECT id FROM users OFFSET 4;
@count SELECT id FROM users LIMIT 2 + 1;
@count SELECT id FROM users LIMIT (SELECT 2);
@count SELECT id FROM users LIMIT (SELECT count(*) / 2 FROM users);
@error 2201W SELECT id FROM users LIMIT -2;
@error 2201X SELECT id FROM users OFFSET -2;
@ordered SELECT id FROM users ORDER BY id LIMIT 2 OFFSET 4;
-- R30: LIMIT under an aggregate on another key
@ordered SELECT status, sum(amount) FROM orders GROUP BY status ORDER BY sum(amount) DESC NULLS LAST LIMIT 1;
@ordered SELECT country, count(*) FROM users GROUP BY country ORDER BY count(*) DESC, country LIMIT 1;
-- R31: ORDER BY an expression or unselected column
@ordered SELECT id FROM users ORDER BY lower(name), id LIMIT 3;
@ordered SELECT name FROM users ORDER BY age NULLS LAST, id LIMIT 3;
@ordered SELECT id FROM users ORDER BY age + id NULLS FIRST LIMIT 4;
-- R32: two columns of one name
@ordered SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id = u.id ORDER BY u.id, o.id;
@ordered SELECT u.id, o.id FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id DESC, u.id;
@ordered SELECT id FROM users ORDER BY age NULLS FIRST, id DESC;
-- R33: linguistic order
@ordered SELECT name FROM users ORDER BY name, id;
SELECT min(name), max(name) FROM users;
@ordered SELECT code FROM tenants ORDER BY code COLLATE "C" DESC;
@ordered SELECT code FROM tenants ORDER BY code COLLATE "und-x-icu";
-- R34: cursors are in 09_transactions.sql
-- R35: order of types by value, not by bytes
@ordered SELECT placed FROM orders ORDER BY placed, id;
@ordered SELECT feeling FROM users ORDER BY feeling, id;
@ordered SELECT code::char(8) FROM tenants ORDER BY 1, code;
@ordered SELECT at::time FROM orders ORDER BY 1 NULLS FIRST;
@ordered SELECT at - '2024-01-01 00:00+00'::timestamptz FROM orders ORDER BY 1;
@ordered SELECT raw FROM docs ORDER BY raw DESC;
@ordered SELECT meta FROM docs ORDER BY meta;
@ordered SELECT score FROM users ORDER BY score, id;
@ordered SELECT score * 1e30 FROM users ORDER BY 1, id;
@ordered SELECT CASE WHEN id = 2 THEN 'NaN' WHEN id = 3 THEN 'Infinity' WHEN id = 4 THEN '-Infinity' ELSE score END FROM users ORDER BY 1, id;
@ordered SELECT CASE WHEN id = 2 THEN 'NaN' WHEN id = 3 THEN '-0' ELSE age::float8 END FROM users ORDER BY 1, id;
-- R36: set operations
SELECT country FROM users UNION SELECT code FROM countries;
SELECT name FROM users INTERSECT SELECT code FROM tenants;
SELECT id FROM users EXCEPT SELECT user_id FROM orders;
SELECT country FROM users EXCEPT ALL SELECT country FROM users WHERE active;
SELECT id FROM users UNION ALL SELECT id FROM orders;
@ordered SELECT id FROM users UNION ALL SELECT id FROM orders ORDER BY id LIMIT 3;
SELECT code FROM countries UNION ALL SELECT code FROM countries;
SELECT id FROM users UNION ALL SELECT 1000;
-- R37: window functions
SELECT id, row_number() OVER (ORDER BY id) FROM users;
SELECT id, count(*) OVER () FROM users;
SELECT id, rank() OVER (PARTITION BY country ORDER BY age DESC NULLS LAST, id) FROM users;
SELECT user_id, id, sum(amount) OVER (PARTITION BY user_id ORDER BY id) FROM orders;
SELECT country, count(*), sum(count(*)) OVER () FROM users GROUP BY country;
@ordered SELECT id, lag(id) OVER w FROM users WINDOW w AS (ORDER BY id) ORDER BY id;
-- R38: volatile and stable functions over several shards
SELECT count(DISTINCT now()) FROM users;
SELECT count(DISTINCT transaction_timestamp()), count(*) FROM orders;
SELECT count(DISTINCT statement_timestamp()) FROM users;
SELECT count(*) FROM users WHERE created < now();
@shape SELECT id, random() FROM users;
SELECT count(*) FROM users WHERE random() < 2;
@shape SELECT id FROM users ORDER BY random();
@shape SELECT gen_random_uuid() FROM users;
@may_refuse SELECT count(DISTINCT nextval('notes_id_seq')) FROM users;
@may_refuse SELECT count(DISTINCT pg_backend_pid()) FROM users;
@may_refuse SELECT count(DISTINCT txid_current()) FROM users;
SELECT count(DISTINCT current_setting('port')) FROM users;
@may_refuse SELECT DISTINCT current_user = session_user, current_database() = current_catalog FROM users;
-- R40: errors reach the client once
@error 22012 SELECT 1 / (age - age) FROM users WHERE age IS NOT NULL;
@any_message @error 22P02 SELECT name::int FROM users WHERE name <> '';
-- system columns and other things that mean one server
@may_refuse SELECT count(DISTINCT ctid) > 0 FROM users;
@may_refuse SELECT count(xmin) FROM users;
@may_refuse SELECT DISTINCT tableoid::regclass FROM users;
SELECT id FROM users WHERE ctid = '(0,1)' AND id = 1;
@count SELECT id FROM users FOR UPDATE;
@count @may_refuse SELECT id FROM users ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
@may_refuse SELECT count(*) FROM users TABLESAMPLE BERNOULLI (100);
@may_refuse SELECT pg_relation_size('users') > 0;
@may_refuse SELECT query_to_xml('select count(*) from users', false, false, '');
