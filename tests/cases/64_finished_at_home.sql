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
-- set-returning functions beside aggregates and groups
SELECT generate_series(1, 2), count(*) FROM users;
SELECT generate_series(1, max(id)) FROM users;
SELECT unnest(array_agg(id ORDER BY id)) FROM users;
SELECT country, generate_series(1, count(*)) FROM users GROUP BY country;
@ordered SELECT unnest(array_agg(DISTINCT age ORDER BY age)) AS a, count(*) FROM users ORDER BY 1 NULLS FIRST LIMIT 2;
SELECT country, unnest(array_agg(id ORDER BY id)), generate_series(1, 2) FROM users GROUP BY country HAVING count(*) > 0;
SELECT sum(n) FROM (SELECT generate_series(1, count(*)) AS n FROM users) x;
SELECT jsonb_object_keys(jsonb_object_agg(name, id)) FROM users WHERE name <> 'bob';
