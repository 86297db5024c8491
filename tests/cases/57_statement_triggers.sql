-- Triggers that see all rows of a statement: of a sharded table no shard has them.
@setup
CREATE FUNCTION few() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF (SELECT count(*) FROM new_rows) > 8 THEN RAISE EXCEPTION 'too many'; END IF; RETURN NULL; END$$;
@drover SELECT drover.declare_local('few()');
@oracle CREATE TABLE spread (k int PRIMARY KEY, v text);
@drover CREATE TABLE spread (k int PRIMARY KEY, v text) WITH (drover.shard_key = 'k');
@oracle CREATE TABLE copied (k int PRIMARY KEY, v text);
@drover CREATE TABLE copied (k int PRIMARY KEY, v text) WITH (drover.reference);
CREATE TABLE plain (k int PRIMARY KEY, v text);
CREATE TABLE later (k int PRIMARY KEY, v text);
CREATE TRIGGER few AFTER UPDATE ON later REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION few();
CREATE TRIGGER few AFTER UPDATE ON copied REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION few();
CREATE TRIGGER few AFTER UPDATE ON plain REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION few();
INSERT INTO spread SELECT g, 'v' FROM generate_series(1, 9) g;
INSERT INTO copied SELECT g, 'v' FROM generate_series(1, 9) g;
INSERT INTO plain SELECT g, 'v' FROM generate_series(1, 9) g;
INSERT INTO later SELECT g, 'v' FROM generate_series(1, 9) g;
@cases
@many @refused DRV6011 CREATE TRIGGER few AFTER UPDATE ON spread REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION few();
UPDATE spread SET v = 'w';
@error P0001 UPDATE copied SET v = 'w';
UPDATE copied SET v = 'w' WHERE k < 9;
@error P0001 UPDATE plain SET v = 'w';
UPDATE plain SET v = 'w' WHERE k < 9;
SELECT count(*) FROM spread WHERE v = 'w';
SELECT count(*) FROM copied WHERE v = 'w';
SELECT count(*) FROM plain WHERE v = 'w';
-- sharded with its trigger
@simple @nowrap @refused SELECT drover.shard_table('later', key => 'k');
@error P0001 UPDATE later SET v = 'w';
