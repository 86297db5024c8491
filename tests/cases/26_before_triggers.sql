-- BEFORE ROW triggers of sharded tables: they run where a statement runs on one shard, and never change the key.
@setup
@oracle CREATE TABLE t (k bigint PRIMARY KEY, v text, n int DEFAULT 0, at timestamptz);
@drover CREATE TABLE t (k bigint PRIMARY KEY, v text, n int DEFAULT 0, at timestamptz) WITH (drover.shard_key = 'k');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := upper(NEW.v); NEW.at := now(); IF TG_OP = 'UPDATE' THEN NEW.n := OLD.n + 1; END IF; RETURN NEW; END $$;
CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.v = 'NO' THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.k := NEW.k + 1; RETURN NEW; END $$;
INSERT INTO t (k, v) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER what BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION drop_it();
@cases
INSERT INTO t (k, v) VALUES (10, 'low') RETURNING k, v, n, at = now();
INSERT INTO t (k, v) VALUES (11, 'no') RETURNING k, v;
@params (12, 'param') INSERT INTO t (k, v) VALUES ($1, $2) RETURNING v;
INSERT INTO t (k, v) VALUES (10, 'again') ON CONFLICT (k) DO UPDATE SET v = excluded.v || '!' RETURNING v, n;
UPDATE t SET v = 'changed' WHERE k = 1 RETURNING v, n;
UPDATE t SET v = v WHERE k = 2;
@params (3, 'p') UPDATE t SET v = $2 WHERE k = $1 RETURNING v, n;
DELETE FROM t WHERE k IN (3, 4) RETURNING k;
@many @refused DRV3006 INSERT INTO t (k, v) VALUES (20, 'a'), (21, 'b'), (22, 'c'), (23, 'd'), (24, 'e'), (25, 'f'), (26, 'g'), (27, 'h');
@many @refused DRV3006 UPDATE t SET n = 5;
ALTER TABLE t DISABLE TRIGGER touch;
UPDATE t SET n = 7 WHERE k = 1 RETURNING v, n;
ALTER TABLE t ENABLE TRIGGER touch;
SELECT k, v, n FROM t;
-- a trigger that could change the key
@may_refuse DRV6011 CREATE TRIGGER moves BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.k > 1000) EXECUTE FUNCTION moves();
@may_refuse DRV3007 INSERT INTO t (k, v) VALUES (2000, 'x') RETURNING k;
@may_refuse DROP TRIGGER IF EXISTS moves ON t;
SELECT k, v FROM t WHERE k > 1000;
