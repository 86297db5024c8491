-- What SET, SET LOCAL and RESET in blocks mean on every shard, and in plans that several sessions share.
@setup
CREATE SCHEMA one;
CREATE SCHEMA two;
CREATE TABLE one.ord (k int PRIMARY KEY, v text);
CREATE TABLE two.ord (k int PRIMARY KEY, v text);
CREATE TABLE times (k int PRIMARY KEY, ts timestamptz);
@drover SELECT drover.shard_table('one.ord', key => 'k');
@drover SELECT drover.shard_table('two.ord', key => 'k');
@drover SELECT drover.shard_table('times', key => 'k');
INSERT INTO one.ord VALUES (1, 'one'), (2, 'one'), (3, 'one');
INSERT INTO two.ord VALUES (1, 'two'), (2, 'two'), (3, 'two'), (4, 'two');
INSERT INTO times VALUES (1, '2024-01-01 01:00+00'), (2, '2024-01-01 02:00+00'), (3, '2024-01-01 03:00+00'),
  (4, '2024-01-01 04:00+00'), (5, '2024-01-01 05:00+00'), (6, '2024-01-01 06:00+00'), (7, '2024-01-01 07:00+00');
@cases
-- the schema of a plan
BEGIN;
SET LOCAL search_path = one;
SELECT count(*) FROM ord;
SELECT max(v) FROM ord;
COMMIT;
BEGIN;
SET LOCAL search_path = two;
SELECT count(*) FROM ord;
SELECT max(v) FROM ord;
@ordered SELECT v FROM ord ORDER BY k;
COMMIT;
@error 42P01 SELECT max(v) FROM ord;
@session b
@error 42P01 SELECT max(v) FROM ord;
@error 42P01 SELECT count(*) FROM ord;
@session a
SELECT count(*) FROM times;
BEGIN;
SET LOCAL search_path = two;
@error 42P01 SELECT count(*) FROM times;
ROLLBACK;
BEGIN;
SELECT set_config('search_path', 'one', true);
SELECT count(*) FROM ord;
COMMIT;
SET search_path = one;
SELECT count(*) FROM ord;
BEGIN;
SAVEPOINT a;
SET LOCAL search_path = two;
SELECT count(*) FROM ord;
ROLLBACK TO a;
SELECT count(*) FROM ord;
COMMIT;
RESET search_path;
-- constants
SELECT count(*) FROM times WHERE ts < '2024-01-01 03:30';
BEGIN;
SET LOCAL timezone = 'Asia/Kolkata';
SELECT count(*) FROM times WHERE ts < '2024-01-01 03:30';
SELECT max('2024-01-01'::timestamptz::text) FROM times;
COMMIT;
SELECT count(*) FROM times WHERE ts < '2024-01-01 03:30';
@session b
SELECT max('2024-01-01'::timestamptz::text) FROM times;
SELECT count(*) FROM times WHERE (ts = NULL) IS NULL;
@session a
SET transform_null_equals = on;
SELECT count(*) FROM times WHERE (ts = NULL) IS NULL;
RESET transform_null_equals;
SET intervalstyle = 'sql_standard';
SELECT max('-1 2:03:04'::interval::text) FROM times;
@session b
SELECT max('-1 2:03:04'::interval::text) FROM times;
@session a
RESET intervalstyle;
SET array_nulls = off;
SELECT max('{NULL}'::text[]::text) FROM times;
@session b
SELECT max('{NULL}'::text[]::text) FROM times;
@session a
RESET array_nulls;
-- what comes after SET LOCAL hides it, on shards that join later too
BEGIN;
SET LOCAL timezone = 'Asia/Tokyo';
RESET timezone;
@ordered SELECT k, ts::text FROM times ORDER BY k;
COMMIT;
BEGIN;
SET LOCAL timezone = 'Asia/Tokyo';
SET timezone = 'America/New_York';
@ordered SELECT k, ts::text FROM times ORDER BY k;
COMMIT;
@ordered SELECT k, ts::text FROM times ORDER BY k;
BEGIN;
SET LOCAL timezone = 'Asia/Tokyo';
SAVEPOINT a;
RESET ALL;
SELECT k, ts::text FROM times WHERE k = 1;
ROLLBACK TO a;
@ordered SELECT k, ts::text FROM times ORDER BY k;
ROLLBACK;
RESET ALL;
-- one snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL timezone = 'Asia/Tokyo';
@ordered SELECT k, ts::text FROM times ORDER BY k;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL my.mark = '5';
@ordered SELECT k, current_setting('my.mark', true) FROM times ORDER BY k;
COMMIT;
@nowrap @simple BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL my.mark = '6';
@nowrap @simple @ordered SELECT k, current_setting('my.mark', true) FROM times ORDER BY k;
@nowrap @simple COMMIT;
SET default_transaction_isolation = 'repeatable read';
BEGIN;
SET timezone = 'Asia/Tokyo';
@ordered SELECT k, ts::text FROM times ORDER BY k;
ROLLBACK;
RESET default_transaction_isolation;
-- a failed block takes its modes along
BEGIN READ ONLY;
@error 22012 SELECT 1 / 0;
ROLLBACK AND CHAIN;
SELECT current_setting('transaction_read_only');
UPDATE times SET ts = ts WHERE k = 3;
COMMIT;
BEGIN READ ONLY;
SELECT 1;
COMMIT AND CHAIN;
@error 25006 UPDATE times SET ts = ts WHERE k = 3;
ROLLBACK;
-- letters of another encoding in a text that is written anew
SET client_encoding = 'LATIN1';
@may_refuse SELECT count(*) FROM one.ord WHERE v LIKE U&'\00e9%';
@may_refuse SELECT max(U&'\00e9') FROM one.ord;
SELECT count(*) FROM one.ord WHERE v LIKE 'o%';
RESET client_encoding;
-- modes that come too late
@nowrap @simple @error 25001 SELECT k FROM times WHERE k = 1; BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT 1;
@nowrap @simple SELECT k FROM times WHERE k = 1; BEGIN;
@nowrap @simple ROLLBACK;
-- AND CHAIN takes the modes along, wherever they come from, and no later default
BEGIN;
SET TRANSACTION READ ONLY;
SELECT count(*) FROM times;
COMMIT AND CHAIN;
@error 25006 UPDATE times SET ts = ts WHERE k = 3;
ROLLBACK;
BEGIN;
SELECT k FROM times WHERE k = 1;
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
ROLLBACK AND CHAIN;
UPDATE times SET ts = ts WHERE k = 3;
ROLLBACK;
RESET default_transaction_read_only;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT k FROM times WHERE k = 1;
COMMIT AND CHAIN;
SELECT current_setting('transaction_isolation');
COMMIT;
BEGIN;
SET transaction_read_only = on;
ROLLBACK AND CHAIN;
@error 25006 UPDATE times SET ts = ts WHERE k IN (3, 4);
ROLLBACK;
BEGIN;
SET default_transaction_isolation = 'serializable';
SELECT count(*) FROM times;
COMMIT;
RESET default_transaction_isolation;
