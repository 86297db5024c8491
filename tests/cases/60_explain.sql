-- EXPLAIN ANALYZE over shards runs its statement once, with all its effects, and gives no rows of it.
@include _schema.sql
@setup
CREATE TABLE others (k bigint PRIMARY KEY, user_ref bigint, v text);
@drover SELECT drover.shard_table('others', key => 'k');
INSERT INTO others SELECT g, g * 3 % 20, 'v' || g FROM generate_series(1, 30) g;
CREATE TABLE plain (k bigint, n int);
INSERT INTO plain SELECT g, g FROM generate_series(1, 10) g;
@cases
-- reads: one shard, all, merged, finished, gathered
@shape EXPLAIN ANALYZE SELECT * FROM users WHERE id = 1;
@shape EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS) SELECT * FROM users WHERE id = 1;
@shape EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM users WHERE id = 1;
@shape EXPLAIN (ANALYZE, FORMAT xml) SELECT * FROM users WHERE id = 1;
@shape EXPLAIN (ANALYZE, FORMAT yaml) SELECT * FROM users WHERE id = 1;
@shape EXPLAIN (ANALYZE) SELECT * FROM users;
@shape EXPLAIN (ANALYZE, VERBOSE, SETTINGS, WAL) SELECT * FROM users ORDER BY id LIMIT 3;
@shape EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT count(*), sum(amount) FROM orders;
@shape EXPLAIN (ANALYZE, FORMAT json) SELECT status, count(*) FROM orders GROUP BY status;
@shape EXPLAIN ANALYZE SELECT u.name, o.v FROM users u JOIN others o ON o.user_ref = u.id;
@shape EXPLAIN (ANALYZE, FORMAT json, BUFFERS) SELECT u.name, p.n FROM users u JOIN plain p ON p.k = u.id;
@may_refuse DRV7172 @shape EXPLAIN (ANALYZE, FORMAT yaml) SELECT * FROM users;
@may_refuse DRV7172 @shape EXPLAIN (FORMAT xml) SELECT u.name, o.v FROM users u JOIN others o ON o.user_ref = u.id;
-- parameters
@params (3) @shape EXPLAIN ANALYZE SELECT * FROM users WHERE id = $1;
@params (3, 'b%') @shape EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM users WHERE age > $1 AND name LIKE $2;
@params (3) @shape EXPLAIN SELECT u.name, o.v FROM users u JOIN others o ON o.user_ref = u.id WHERE o.k > $1;
@params (3) @shape EXPLAIN (ANALYZE, FORMAT json) SELECT u.name, o.v FROM users u JOIN others o ON o.user_ref = u.id WHERE o.k > $1;
@params (5, 'five') @shape EXPLAIN ANALYZE UPDATE others SET v = $2 WHERE k = $1;
@params (25, 'more') @shape EXPLAIN ANALYZE UPDATE others SET v = $2 WHERE k > $1 RETURNING k;
-- without ANALYZE nothing runs
@shape EXPLAIN SELECT u.name, o.v FROM users u JOIN others o ON o.user_ref = u.id;
@shape EXPLAIN (FORMAT json, COSTS off) SELECT * FROM users;
@shape EXPLAIN (VERBOSE, COSTS off) SELECT u.name, p.n FROM users u JOIN plain p ON p.k = u.id;
@shape EXPLAIN UPDATE others SET v = 'never';
@shape EXPLAIN DELETE FROM others WHERE k = 1;
@shape EXPLAIN UPDATE others SET v = 'never' FROM plain WHERE plain.k = others.user_ref;
SELECT count(*), count(*) FILTER (WHERE v = 'never') FROM others;
-- errors are the statement's
@error 22012 EXPLAIN ANALYZE SELECT 1 / (id - id) FROM users;
@simple @error 42P01 EXPLAIN ANALYZE SELECT * FROM users, nowhere;
@error 23505 EXPLAIN ANALYZE INSERT INTO others VALUES (1, 1, 'twice'), (2, 1, 'twice');
@error 22023 @any_message EXPLAIN (TIMING) SELECT * FROM users;
@error 42601 @any_message EXPLAIN (ANALYZE, NONSENSE) SELECT * FROM users;
-- writes happen once
@shape EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) INSERT INTO others VALUES (101, 1, 'one'), (102, 2, 'two'), (103, 3, 'three');
@shape EXPLAIN ANALYZE INSERT INTO others SELECT k + 1000, user_ref, v FROM others WHERE k < 6;
@shape EXPLAIN ANALYZE INSERT INTO others SELECT o.k + 2000, count(*), min(u.name) FROM others o JOIN users u ON u.id = o.user_ref GROUP BY o.k;
@shape EXPLAIN ANALYZE UPDATE others SET v = v || '!' WHERE k < 10;
@shape EXPLAIN ANALYZE UPDATE others SET k = k + 5000 WHERE k IN (1, 2, 3, 4) RETURNING *;
@shape EXPLAIN (ANALYZE, VERBOSE) UPDATE others SET v = v || '?' FROM plain WHERE plain.k = others.user_ref;
@shape EXPLAIN (ANALYZE, FORMAT json) DELETE FROM others WHERE v LIKE 'v2%' RETURNING k;
@shape EXPLAIN ANALYZE DELETE FROM others USING users u WHERE u.id = others.user_ref AND u.name IS NULL;
@shape EXPLAIN ANALYZE UPDATE others SET v = 'one shard' WHERE k = 10;
SELECT * FROM others;
SELECT count(*) FROM others;
-- in a block with a savepoint
@nowrap BEGIN;
@nowrap @shape EXPLAIN ANALYZE DELETE FROM others;
@nowrap SELECT count(*) FROM others;
@nowrap ROLLBACK;
@simple @shape EXPLAIN ANALYZE UPDATE others SET v = 'a' WHERE k > 100; UPDATE others SET v = v || 'b' WHERE k > 100;
SELECT count(*), count(DISTINCT v) FROM others WHERE k > 100;
-- what an explained statement has changed at home is a part of the transaction
@setup
CREATE TABLE at_home (k int, n int);
CREATE TABLE deferred_one (k bigint, n int, UNIQUE (k, n) DEFERRABLE INITIALLY DEFERRED);
@drover SELECT drover.shard_table('deferred_one', key => 'k');
@cases
BEGIN;
@shape
EXPLAIN ANALYZE INSERT INTO at_home VALUES (1, 1);
INSERT INTO deferred_one VALUES (2, 1), (2, 1);
@error 23505
COMMIT;
SELECT count(*) FROM at_home;
BEGIN;
@shape
EXPLAIN ANALYZE INSERT INTO at_home VALUES (1, 1);
INSERT INTO deferred_one VALUES (3, 1), (3, 1);
@error 23505
COMMIT;
SELECT count(*) FROM at_home;
