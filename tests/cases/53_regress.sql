-- What PostgreSQL's own regression suite (docs/regress.md) found.
@include _schema.sql
@cases

-- A range type brings functions and casts of its own. They were taken for code that may do anything, so that sessions lost the other shards.
CREATE TYPE float8range AS RANGE (subtype = float8, subtype_diff = float8mi);
SELECT id, price FROM orders WHERE user_id = 1;
SELECT id, price FROM orders WHERE user_id = 2;
SELECT id, price FROM orders WHERE user_id = 3;
SELECT id, price FROM orders WHERE user_id = 4;
SELECT float8range(1, 2) @> 1.5::float8, float8multirange(float8range(1, 2));
SELECT id FROM orders WHERE user_id = 5;
SELECT id FROM orders WHERE user_id = 6;
DROP TYPE float8range;

-- The schema has the name of its owner where it has none of its own.
CREATE ROLE regress_owner;
GRANT regress_owner TO CURRENT_USER;
CREATE SCHEMA AUTHORIZATION regress_owner CREATE TABLE regress_tab (id int) CREATE VIEW regress_view AS SELECT id FROM regress_tab;
SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'regress_owner';
SELECT * FROM regress_owner.regress_view;
DROP SCHEMA regress_owner CASCADE;
CREATE SCHEMA regress_other AUTHORIZATION regress_owner CREATE TABLE regress_tab (id int);
SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'regress_other';
@error 42P15
CREATE SCHEMA AUTHORIZATION regress_owner CREATE TABLE elsewhere.regress_tab (id int);
DROP SCHEMA regress_other CASCADE;
DROP ROLE regress_owner;

-- A failed block that is chained has the modes that were not its own: those of the block before it, and behind a savepoint also its own.
@nowrap BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE;
@nowrap COMMIT AND CHAIN;
@nowrap @error 22012 SELECT 1 / 0;
@nowrap COMMIT AND CHAIN;
@nowrap SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable');
@nowrap ROLLBACK;
@nowrap BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE;
@nowrap SAVEPOINT s;
@nowrap @error 22012 SELECT 1 / 0;
@nowrap ROLLBACK AND CHAIN;
@nowrap SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable');
@nowrap COMMIT;
@nowrap BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
@nowrap @error 22012 SELECT 1 / 0;
@nowrap COMMIT AND CHAIN;
@nowrap SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only');
@nowrap ROLLBACK;
@nowrap BEGIN;
@nowrap SET TRANSACTION READ ONLY;
@nowrap SAVEPOINT s;
@nowrap @error 22012 SELECT 1 / 0;
@nowrap @refused DRV7171 COMMIT AND CHAIN;
@nowrap ROLLBACK;

-- PREPARE TRANSACTION in a failed block is its end.
@nowrap BEGIN;
@nowrap @error 22012 SELECT 1 / 0;
@nowrap PREPARE TRANSACTION 'regress_failed';
@nowrap SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'regress_failed';
-- statements about many tables, one transaction for each
@nowrap REINDEX SCHEMA public;
@nowrap REINDEX (VERBOSE false) SCHEMA public;
@nowrap CLUSTER;
BEGIN;
@any_message @error 25001 REINDEX SCHEMA public;
ROLLBACK;
@nowrap @error 3F000 REINDEX SCHEMA nowhere;
-- and one that runs in transactions of its own
CREATE TABLE regress_parts (a int) PARTITION BY LIST (a);
CREATE TABLE regress_part_1 PARTITION OF regress_parts FOR VALUES IN (1);
CREATE TABLE regress_part_2 PARTITION OF regress_parts FOR VALUES IN (2);
@nowrap ALTER TABLE regress_parts DETACH PARTITION regress_part_1 CONCURRENTLY;
BEGIN;
@error 25001 ALTER TABLE regress_parts DETACH PARTITION regress_part_2 CONCURRENTLY;
ROLLBACK;
DROP TABLE regress_parts, regress_part_1;
