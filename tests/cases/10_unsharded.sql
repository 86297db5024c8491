-- What lives on the home shard behaves exactly as on plain PostgreSQL, whatever the statement.
@include _schema.sql
@cases
CREATE TABLE logs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT '2024-01-01', who text CHECK (who <> 'root'), n int DEFAULT 0);
CREATE INDEX logs_who ON logs (who);
CREATE UNIQUE INDEX ON logs (lower(who)) WHERE n > 100;
INSERT INTO logs (who) VALUES ('a'), ('b'), ('c') RETURNING id, who, n;
@error 23514 INSERT INTO logs (who) VALUES ('root');
@error 428C9 INSERT INTO logs (id, who) VALUES (9000, 'x');
INSERT INTO logs (id, who) OVERRIDING SYSTEM VALUE VALUES (9000, 'x') RETURNING *;
UPDATE logs SET n = n + id WHERE id > 1 RETURNING *;
INSERT INTO logs (who, n) SELECT who || '2', n * 2 FROM logs;
SELECT who, sum(n) OVER (ORDER BY id) FROM logs;
SELECT who, count(*), grouping(who) FROM logs GROUP BY ROLLUP (who);
SELECT string_agg(who, ',' ORDER BY id DESC) FROM logs;
SELECT a.who, b.who FROM logs a LEFT JOIN logs b ON b.id = a.id + 1;
SELECT who FROM logs UNION SELECT body FROM notes EXCEPT SELECT 'first';
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t;
SELECT * FROM logs l WHERE n > (SELECT avg(n) FROM logs);
SELECT l.who, x.* FROM logs l, LATERAL (SELECT count(*) AS c FROM notes WHERE notes.id <= l.id) x;
MERGE INTO logs l USING (VALUES ('a', 1), ('zz', 2)) v(w, k) ON l.who = v.w WHEN MATCHED THEN UPDATE SET n = v.k WHEN NOT MATCHED THEN INSERT (who, n) VALUES (v.w, v.k);
SELECT who, n FROM logs;
ALTER TABLE logs ADD COLUMN extra jsonb DEFAULT '{}';
ALTER TABLE logs RENAME COLUMN n TO number;
ALTER TABLE logs ALTER COLUMN number TYPE bigint;
SELECT * FROM logs;
COMMENT ON TABLE logs IS 'the logs';
SELECT obj_description('logs'::regclass);
-- foreign keys with actions
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE);
INSERT INTO parents VALUES (1), (2);
INSERT INTO children VALUES (1, 1), (2, 1), (3, 2);
@error 23503 INSERT INTO children VALUES (4, 99);
DELETE FROM parents WHERE id = 1;
SELECT * FROM children;
-- views
CREATE VIEW v_logs AS SELECT who, number FROM logs WHERE number > 0;
SELECT * FROM v_logs;
CREATE OR REPLACE VIEW v_logs AS SELECT who, number, id FROM logs;
UPDATE v_logs SET number = 5 WHERE who = 'a' RETURNING *;
CREATE MATERIALIZED VIEW m_logs AS SELECT count(*) AS n FROM logs;
REFRESH MATERIALIZED VIEW m_logs;
SELECT * FROM m_logs;
CREATE VIEW v_users AS SELECT id, name, age FROM users WHERE age IS NOT NULL;
SELECT * FROM v_users WHERE id = 1;
@may_refuse SELECT count(*) FROM v_users;
@may_refuse @ordered SELECT name FROM v_users ORDER BY age DESC, id LIMIT 2;
DROP VIEW v_users;
-- functions
CREATE FUNCTION add(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
SELECT add(1, 2);
SELECT add(number::int, 1) FROM logs;
CREATE FUNCTION log_it(w text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  result bigint;
BEGIN
  INSERT INTO logs (who) VALUES (w) RETURNING id INTO result;
  RAISE NOTICE 'logged %', w;
  RETURN result;
END;
$$;
SELECT log_it('from function') > 0;
SELECT who FROM logs WHERE who = 'from function';
CREATE FUNCTION fails() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'custom %', 7 USING ERRCODE = 'P0042', HINT = 'a hint', DETAIL = 'a detail'; END $$;
@error P0042 SELECT fails();
CREATE FUNCTION rows_of(n int) RETURNS TABLE (a int, b text) LANGUAGE sql AS 'SELECT g, g::text FROM generate_series(1, n) g';
SELECT * FROM rows_of(3);
SELECT rows_of(2);
CREATE PROCEDURE clean() LANGUAGE sql AS 'DELETE FROM logs WHERE who = ''zz''';
CALL clean();
SELECT count(*) FROM logs WHERE who = 'zz';
CREATE FUNCTION counts_users() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM users';
@may_refuse SELECT counts_users();
CREATE FUNCTION dynamic() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM ' || 'users' INTO n; RETURN n; END $$;
@may_refuse SELECT dynamic();
@may_refuse SELECT id, add(age, 1) FROM users;
@may_refuse SELECT id FROM users WHERE add(age, 1) = 26;
SELECT add(age, 1) FROM users WHERE id = 1;
DROP FUNCTION counts_users();
DROP FUNCTION dynamic();
-- triggers
CREATE TABLE audit (what text, who text);
CREATE FUNCTION audit_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (TG_OP, coalesce(NEW.who, OLD.who)); RETURN NEW; END $$;
CREATE TRIGGER audited AFTER INSERT OR UPDATE ON logs FOR EACH ROW EXECUTE FUNCTION audit_it();
INSERT INTO logs (who) VALUES ('triggered');
UPDATE logs SET number = 1 WHERE who = 'triggered';
SELECT * FROM audit;
ALTER TABLE logs DISABLE TRIGGER audited;
INSERT INTO logs (who) VALUES ('quiet');
SELECT count(*) FROM audit;
DROP TRIGGER audited ON logs;
-- DO
DO $$ BEGIN INSERT INTO logs (who) VALUES ('do'); RAISE NOTICE 'done'; END $$;
DO LANGUAGE plpgsql 'BEGIN PERFORM 1; END';
@error 22012 DO $$ BEGIN PERFORM 1 / 0; END $$;
@may_refuse DO $$ BEGIN PERFORM count(*) FROM users; END $$;
SELECT count(*) FROM logs WHERE who = 'do';
-- sequences
CREATE SEQUENCE seq START 5 INCREMENT 2;
@session drawing
SELECT nextval('seq'), nextval('seq'), currval('seq');
SELECT currval('seq'), lastval();
CREATE TABLE numbered (id serial, v text);
INSERT INTO numbered (v) VALUES ('a'), ('b');
SELECT lastval(), currval('numbered_id_seq'), currval('seq');
@session other
@error 55000 SELECT lastval();
@error 55000 SELECT currval('seq');
@session drawing
SELECT lastval();
DISCARD SEQUENCES;
@error 55000 SELECT lastval();
SELECT last_value, is_called FROM seq;
ALTER SEQUENCE seq RESTART 100;
SELECT nextval('seq');
-- partitions and inheritance
CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
INSERT INTO parts VALUES (1, 'a'), (11, 'b');
SELECT * FROM parts;
SELECT * FROM parts_2;
@error 23514 INSERT INTO parts VALUES (99, 'x');
-- types, schemas, domains
CREATE TYPE pair AS (a int, b text);
SELECT ROW(1, 'x')::pair, (ROW(1, 'x')::pair).b;
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
SELECT 5::positive;
@error 23514 SELECT (-5)::positive;
CREATE SCHEMA other;
CREATE TABLE other.logs (x int);
INSERT INTO other.logs VALUES (1);
SELECT * FROM other.logs;
DROP SCHEMA other CASCADE;
-- prepared statements in SQL
PREPARE p AS SELECT body FROM notes WHERE id = $1;
EXECUTE p(1);
EXECUTE p(2);
@error 42P05 PREPARE p AS SELECT 1;
DEALLOCATE p;
@error 26000 EXECUTE p(1);
@refused DRV7001 PREPARE q (bigint) AS SELECT name FROM users WHERE id = $1;
@error 26000 EXECUTE q(1);
@refused DRV7001 PREPARE w AS UPDATE users SET age = $2 WHERE id = $1 RETURNING age;
@error 26000 EXECUTE w(1, 33);
DEALLOCATE ALL;
-- explain, utility, functions without tables
@shape EXPLAIN SELECT * FROM notes;
@shape EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM notes;
EXPLAIN (COSTS OFF) SELECT 1;
ANALYZE notes;
@nowrap VACUUM notes;
REINDEX TABLE notes;
SELECT pg_typeof(1), version() LIKE 'PostgreSQL%', current_database() IS NOT NULL;
VALUES (1, 'a'), (2, 'b');
SELECT generate_series(1, 3);
SELECT * FROM generate_series(1, 3) WITH ORDINALITY;
SELECT * FROM (VALUES (1, 'x')) v(a, b) JOIN notes ON notes.id = v.a;
SELECT pg_advisory_xact_lock(1);
SELECT pg_try_advisory_xact_lock(2);
SELECT 1 AS one, '{"a": [1, 2]}'::jsonb -> 'a';
@error 42704 DROP TYPE nothing;
DROP TABLE IF EXISTS nothing;
DROP TABLE audit, children, parents;
