-- State that belongs to a session: temporary tables, settings, locks, LISTEN. Not wrapped into transactions.
@include _schema.sql
@setup
CREATE SCHEMA side;
CREATE TABLE side.users (id bigint PRIMARY KEY, name text);
INSERT INTO side.users VALUES (1, 'from side');
@cases
-- temporary tables, one of them shadowing a sharded table
CREATE TEMP TABLE scratch (a int, b text);
INSERT INTO scratch VALUES (1, 'x'), (2, 'y');
SELECT * FROM scratch;
UPDATE scratch SET b = 'z' WHERE a = 1 RETURNING *;
SELECT s.b, n.body FROM scratch s JOIN notes n ON n.id = s.a;
@may_refuse SELECT s.b, u.name FROM scratch s JOIN users u ON u.id = s.a;
CREATE TEMP TABLE users (id int, name text);
INSERT INTO users VALUES (1, 'temporary');
SELECT * FROM users;
SELECT * FROM users WHERE id = 1;
SELECT name FROM public.users WHERE id = 1;
SELECT name FROM pg_temp.users;
DROP TABLE pg_temp.users;
SELECT name FROM users WHERE id = 1;
CREATE TEMP TABLE copied AS SELECT * FROM notes;
SELECT count(*) FROM copied;
@may_refuse CREATE TEMP TABLE from_sharded AS SELECT * FROM users;
SELECT * INTO TEMP from_sharded2 FROM users;
BEGIN;
CREATE TEMP TABLE dropped (a int) ON COMMIT DROP;
INSERT INTO dropped VALUES (1);
SELECT * FROM dropped;
COMMIT;
@error 42P01 SELECT * FROM dropped;
-- another session does not see them
@session b
@error 42P01 SELECT * FROM scratch;
SELECT name FROM users WHERE id = 1;
@session a
SELECT count(*) FROM pg_tables WHERE tablename = 'scratch';
DISCARD TEMP;
@session main
-- settings
SHOW work_mem;
SET work_mem = '9MB';
SHOW work_mem;
SELECT current_setting('work_mem');
RESET work_mem;
SHOW work_mem;
SET LOCAL work_mem = '8MB';
SHOW work_mem;
BEGIN;
SET LOCAL work_mem = '7MB';
SHOW work_mem;
COMMIT;
SHOW work_mem;
BEGIN;
SET work_mem = '6MB';
ROLLBACK;
SHOW work_mem;
BEGIN;
SET work_mem = '6MB';
SAVEPOINT s;
SET work_mem = '5MB';
ROLLBACK TO s;
SHOW work_mem;
COMMIT;
SHOW work_mem;
RESET ALL;
SELECT set_config('work_mem', '5MB', false);
SHOW work_mem;
SELECT set_config('work_mem', '4MB', true);
SHOW work_mem;
RESET work_mem;
@error 22023 SET work_mem = 'plenty';
@error 42704 SET no_such_setting = 1;
SET my.setting = 'custom';
SHOW my.setting;
SELECT current_setting('my.other', true);
SET TimeZone = 'Asia/Tokyo';
SELECT created FROM public.users WHERE id = 1;
@ordered SELECT id, created FROM users WHERE created IS NOT NULL ORDER BY created, id;
SELECT date_trunc('day', created), count(*) FROM users GROUP BY 1;
SELECT min(created) FROM users;
SELECT * FROM users WHERE created < '2024-01-01 08:59:59';
SHOW TimeZone;
SET TIME ZONE 'UTC';
SET DateStyle = 'German';
SELECT placed FROM orders WHERE user_id = 1;
@ordered SELECT placed FROM orders ORDER BY placed, id;
SELECT count(*) FROM orders WHERE placed = '02.01.2024';
SET DateStyle = 'SQL, DMY';
SELECT count(*) FROM orders WHERE placed = '02/01/2024';
SELECT max(placed) FROM orders;
RESET DateStyle;
SET IntervalStyle = 'iso_8601';
SELECT '1 day'::interval;
RESET IntervalStyle;
SET extra_float_digits = 0;
SELECT ratio / 3 FROM orders WHERE user_id = 1;
SELECT ratio / 3 FROM orders;
RESET extra_float_digits;
SET bytea_output = 'escape';
SELECT raw FROM docs;
RESET bytea_output;
SET application_name = 'oracle test';
SHOW application_name;
SET client_min_messages = 'error';
DROP TABLE IF EXISTS nothing;
RESET client_min_messages;
SET statement_timeout = '5s';
SELECT 1;
RESET statement_timeout;
SET default_transaction_read_only = on;
@error 25006 INSERT INTO notes (body) VALUES ('x');
@error 25006 UPDATE users SET age = 1 WHERE id = 1;
SET default_transaction_read_only = off;
SET standard_conforming_strings = off;
@may_refuse DRV1003 SELECT 'a\\b';
@may_refuse DRV1003 SELECT code FROM tenants WHERE code = 'ac\155e';
SET standard_conforming_strings = on;
-- search_path: the same text means other tables (R7)
SELECT name FROM users WHERE id = 1;
SET search_path = side, public;
SELECT name FROM users WHERE id = 1;
@params (1) SELECT name FROM users WHERE id = $1;
SELECT count(*) FROM users;
SET search_path = public;
SELECT name FROM users WHERE id = 1;
@params (1) SELECT name FROM users WHERE id = $1;
SET search_path = '';
@error 42P01 SELECT name FROM users WHERE id = 1;
SELECT name FROM public.users WHERE id = 1;
SELECT count(*) FROM public.users;
@ordered SELECT name FROM public.users ORDER BY lower(name), id;
RESET search_path;
SELECT count(*) FROM users;
SELECT current_schema, current_schemas(true);
-- roles
SELECT current_user = session_user;
RESET ROLE;
@error 22023 SET ROLE no_such_role;
-- advisory locks
SELECT pg_advisory_lock(42);
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
@session b
SELECT pg_try_advisory_lock(42);
@session main
SELECT pg_advisory_unlock(42);
@session b
SELECT pg_try_advisory_lock(42);
SELECT pg_advisory_unlock_all();
@session main
-- cursors that outlive their transaction
BEGIN;
DECLARE h CURSOR WITH HOLD FOR SELECT id FROM notes ORDER BY id;
COMMIT;
@ordered FETCH 2 FROM h;
CLOSE h;
@error 34000 FETCH 1 FROM h;
-- LISTEN, NOTIFY
LISTEN news;
@nowrap SELECT pg_listening_channels();
UNLISTEN news;
NOTIFY news, 'payload';
SELECT pg_notify('news', 'again');
UNLISTEN *;
-- DISCARD
SET work_mem = '3MB';
PREPARE d AS SELECT 1;
@nowrap DISCARD ALL;
SHOW work_mem;
@error 26000 EXECUTE d;
@error 25001 @simple @nowrap BEGIN; DISCARD ALL;
ROLLBACK;
