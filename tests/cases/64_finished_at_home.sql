-- What only the home shard can say, and what no shard can do for its part, where one PostgreSQL finishes.
@readonly
@include _schema.sql
@cases
-- functions that answer by the schema, the role and the search path
SELECT pg_typeof(id), pg_typeof(name), pg_typeof(feeling) FROM users;
SELECT pg_typeof(max(id)), pg_typeof(sum(age)), pg_typeof(avg(age)), count(*) FROM users;
SELECT DISTINCT pg_typeof(price), pg_typeof(at) FROM orders;
SELECT id, current_schema FROM users;
SELECT id FROM users WHERE current_schema = 'public' AND age > 20;
SELECT count(*) FROM users WHERE pg_typeof(age)::text = 'integer';
SELECT count(current_database()), count(current_catalog), count(version()) FROM users;
SELECT id, to_regclass('nothing') IS NULL, to_regtype('mood')::text FROM users;
SELECT id, has_table_privilege('notes', 'select'), has_schema_privilege('public', 'usage') FROM users WHERE id = 1;
SELECT u.id, current_schemas(false) FROM users u JOIN notes n ON n.user_id = u.id;
SET search_path = pg_catalog, public;
SELECT id, current_schema FROM users;
RESET search_path;
-- the order of a subquery, where something is made of it
SELECT array_agg(id) FROM (SELECT id FROM users ORDER BY id DESC) q;
SELECT string_agg(name, ',') FROM (SELECT name FROM users WHERE age IS NOT NULL ORDER BY age, id) q;
SELECT country, array_agg(id), count(*) FROM (SELECT country, id FROM users ORDER BY age NULLS FIRST, id) q GROUP BY country;
SELECT json_agg(q) FROM (SELECT id, amount FROM orders ORDER BY amount DESC NULLS LAST, id) q;
WITH q AS (SELECT id, user_id FROM orders ORDER BY id DESC) SELECT array_agg(id) FROM q;
WITH q AS MATERIALIZED (SELECT id, user_id FROM orders ORDER BY id DESC) SELECT array_agg(id), sum(user_id) FROM q;
SELECT id FROM (SELECT * FROM users ORDER BY age NULLS FIRST, id DESC) q;
@ordered SELECT id FROM (SELECT * FROM users ORDER BY age NULLS FIRST, id DESC) q LIMIT 3;
@ordered SELECT id, name FROM (SELECT * FROM users ORDER BY id DESC) q WHERE age > 20 OFFSET 1 LIMIT 2;
@ordered SELECT u.id FROM (SELECT id FROM users ORDER BY id DESC) u LIMIT 4;
@ordered SELECT id FROM (SELECT id FROM users WHERE id IN (1, 2, 3, 4) ORDER BY id DESC) q FETCH FIRST 2 ROWS ONLY;
SELECT count(*), max(id) FROM (SELECT id FROM users ORDER BY id) q;
-- constants of ranges
SELECT count(*), max(id) FROM users WHERE int8range(id, id + 1) && '[2,4]'::int8range;
SELECT count(*), 'empty'::int4range, '[2024-01-01,2024-02-01)'::daterange FROM orders WHERE at <@ '[2024-01-01 00:00+00,2024-01-03 00:00+00)'::tstzrange;
SELECT u.id FROM users u JOIN notes n ON n.user_id = u.id WHERE u.score <@ '(0.5,)'::numrange;
-- set-returning functions beside aggregates and groups
SELECT generate_series(1, 2), count(*) FROM users;
SELECT generate_series(1, max(id)) FROM users;
SELECT unnest(array_agg(id ORDER BY id)) FROM users;
SELECT country, generate_series(1, count(*)) FROM users GROUP BY country;
@ordered SELECT unnest(array_agg(DISTINCT age ORDER BY age)) AS a, count(*) FROM users ORDER BY 1 NULLS FIRST LIMIT 2;
SELECT country, unnest(array_agg(id ORDER BY id)), generate_series(1, 2) FROM users GROUP BY country HAVING count(*) > 0;
SELECT sum(n) FROM (SELECT generate_series(1, count(*)) AS n FROM users) x;
SELECT jsonb_object_keys(jsonb_object_agg(name, id)) FROM users WHERE name <> 'bob';
