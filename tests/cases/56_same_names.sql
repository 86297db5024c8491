-- Unsharded tables with the name of a sharded one in another schema.
@include _schema.sql
CREATE SCHEMA other;
CREATE TABLE other.users (id int PRIMARY KEY, note text);
INSERT INTO other.users VALUES (1, 'one'), (2, 'two');
CREATE VIEW other.orders AS SELECT id, note FROM other.users;
CREATE VIEW other.items AS SELECT id, name FROM public.users;
@cases
SELECT * FROM other.users;
SELECT * FROM other.orders;
SELECT * FROM other.items;
COPY other.users TO STDOUT;
COPY other.users (note, id) FROM STDIN;
three	3
\.
@nowrap
BEGIN;
@nowrap
LOCK TABLE other.users IN ACCESS SHARE MODE;
@nowrap
SELECT count(*) FROM other.users;
@nowrap
COMMIT;
CREATE MATERIALIZED VIEW other.kept AS SELECT note FROM other.users;
SELECT * FROM other.kept;
REFRESH MATERIALIZED VIEW other.kept;
SELECT u.name, o.note FROM public.users u JOIN other.users o ON o.id = u.id;
EXPLAIN (COSTS OFF) SELECT note FROM other.users;
UPDATE other.users SET note = upper(note) WHERE id < 3;
SELECT * FROM other.users;
TRUNCATE other.users;
SELECT count(*) FROM other.users;
SELECT count(*) FROM users;
SET search_path = other, public;
SELECT * FROM users;
INSERT INTO users VALUES (7, 'seven');
SELECT count(*) FROM public.users;
TRUNCATE users;
SELECT count(*) FROM users;
RESET search_path;
SELECT count(*) FROM users;
