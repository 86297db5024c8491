-- Cursors over sharded tables: their rows are those of the moment of DECLARE.
@include _schema.sql
@cases
-- one shard, several, in order and backwards
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM orders WHERE user_id = 1 ORDER BY id;
@ordered FETCH 2 FROM c;
@ordered FETCH ALL FROM c;
FETCH c;
CLOSE c;
@error 34000 FETCH c;
ROLLBACK;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, name, age FROM users ORDER BY id;
@ordered FETCH 3 FROM c;
@ordered FETCH PRIOR FROM c;
MOVE FORWARD 2 IN c;
@ordered FETCH NEXT FROM c;
@ordered FETCH ABSOLUTE 2 FROM c;
@ordered FETCH LAST FROM c;
@ordered FETCH RELATIVE -1 FROM c;
@ordered FETCH BACKWARD 2 FROM c;
@ordered FETCH FIRST FROM c;
MOVE ALL c;
FETCH c;
COMMIT;
@error 34000 @nowrap FETCH c;
-- NO SCROLL goes forwards only
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT id FROM users ORDER BY id;
@ordered FETCH 2 FROM c;
@error 55000 FETCH PRIOR FROM c;
ROLLBACK;
-- what happens later is not seen, what happened before is
BEGIN;
INSERT INTO users (id, name) VALUES (900, 'before'), (901, 'before');
DECLARE c CURSOR FOR SELECT id, name FROM users WHERE id >= 900 ORDER BY id;
INSERT INTO users (id, name) VALUES (902, 'after');
UPDATE users SET name = 'changed' WHERE id = 901;
DELETE FROM users WHERE id = 900;
@ordered FETCH ALL FROM c;
SELECT id, name FROM users WHERE id >= 900;
ROLLBACK;
-- savepoints
BEGIN;
SAVEPOINT s;
DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id;
@ordered FETCH 1 FROM c;
ROLLBACK TO s;
@error 34000 FETCH c;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id;
@ordered FETCH 1 FROM c;
SAVEPOINT s;
@error 22012 SELECT 1 / (id - id) FROM users;
ROLLBACK TO s;
@ordered FETCH 1 FROM c;
COMMIT;
-- joins, groups, subqueries, several at a time, names
BEGIN;
DECLARE a CURSOR FOR SELECT u.id, count(o.id) AS orders FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY u.id;
DECLARE "B b" CURSOR FOR SELECT name AS "a name", name AS "a name" FROM users WHERE id IN (1, 2, 3) ORDER BY name NULLS FIRST, id;
@ordered FETCH 3 FROM a;
@ordered FETCH 2 FROM "B b";
@ordered FETCH 3 FROM a;
@error 42P03 DECLARE a CURSOR FOR SELECT id FROM users;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT avg(age), max(name), min(created) IS NULL FROM users;
FETCH ALL FROM c;
CLOSE ALL;
@error 34000 FETCH c;
ROLLBACK;
-- nothing
BEGIN;
DECLARE c CURSOR FOR SELECT id, name FROM users WHERE false;
FETCH ALL FROM c;
DECLARE d CURSOR FOR SELECT id, name FROM users WHERE id = -1;
FETCH ALL FROM d;
COMMIT;
-- with unsharded and reference tables
BEGIN;
DECLARE c CURSOR FOR SELECT u.id, c.name FROM users u JOIN countries c ON true WHERE u.id < 3 ORDER BY u.id, c.code;
@ordered FETCH 4 FROM c;
DECLARE d CURSOR FOR SELECT id, body FROM notes ORDER BY id;
@ordered FETCH 1 FROM d;
@ordered FETCH 1 FROM c;
COMMIT;
-- modifiers of types
BEGIN;
DECLARE c CURSOR FOR SELECT id::numeric(10, 2), name::varchar(3), name::char(4), id::bit(8), 'x'::"char", name::text COLLATE "C" AS t, DATE '2024-02-29' AS d, interval '1 day' AS i, true AS b, feeling, score, email IS NULL AS n FROM users WHERE id < 4 ORDER BY users.id;
@ordered FETCH ALL FROM c;
COMMIT;
-- outside of blocks
@error 25P01 @nowrap DECLARE c CURSOR FOR SELECT id FROM users;
@simple @nowrap BEGIN; DECLARE c CURSOR FOR SELECT id FROM users WHERE id = 1; FETCH ALL FROM c; COMMIT;
-- refused
BEGIN;
@refused DRV7002 DECLARE c CURSOR WITH HOLD FOR SELECT id FROM users;
ROLLBACK;
BEGIN;
@refused DRV7002 DECLARE c CURSOR FOR SELECT id FROM users FOR UPDATE;
ROLLBACK;
BEGIN;
@refused DRV7002 DECLARE c CURSOR FOR SELECT id, random() FROM users;
ROLLBACK;
BEGIN;
@refused DRV7002 DECLARE c CURSOR FOR SELECT ARRAY[id] FROM users;
ROLLBACK;
-- what settings or the clock decide would be computed at FETCH
BEGIN;
@refused DRV7002
@many
DECLARE c CURSOR FOR SELECT created::text FROM users WHERE id = 1;
ROLLBACK;
BEGIN;
@refused DRV7002
@many
DECLARE c CURSOR FOR SELECT count(*) FROM users WHERE date_part('hour', created) = 10;
ROLLBACK;
BEGIN;
@refused DRV7002
@many
DECLARE c CURSOR FOR SELECT id, current_setting('TimeZone') FROM users;
ROLLBACK;
