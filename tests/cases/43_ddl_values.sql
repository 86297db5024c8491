-- Values that DDL computes as it runs: the same for one PostgreSQL and for shards, or refused.
@setup
CREATE TABLE x (id int PRIMARY KEY, at timestamptz, v text);
INSERT INTO x SELECT g, '2024-01-01 00:00+00', 'v' || g FROM generate_series(1, 40) g;
CREATE TABLE r (id int PRIMARY KEY, v text);
INSERT INTO r VALUES (1, 'a'), (2, 'b');
CREATE TABLE u (id int, n int);
INSERT INTO u VALUES (1, 1);
CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM x';
CREATE FUNCTION counted_for(int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT count(*) FROM x';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
@drover SELECT drover.shard_table('x', key => 'id');
@drover SELECT drover.reference_table('r');
@cases
-- clocks and dice
@refused DRV6006 ALTER TABLE r ADD g uuid DEFAULT gen_random_uuid();
@refused DRV6006 ALTER TABLE r ALTER v TYPE text USING gen_random_uuid()::text;
@refused DRV6006 ALTER TABLE r ALTER v TYPE text USING now()::text;
@refused DRV6006 ALTER TABLE x ALTER v TYPE text USING CURRENT_TIMESTAMP::text;
@refused DRV6006 ALTER TABLE r ADD f timestamptz DEFAULT 'now';
@refused DRV6006 ALTER TABLE x ADD f timestamptz DEFAULT 'now';
@refused DRV6006 ALTER TABLE x ALTER at SET DEFAULT 'today';
@refused DRV6006 ALTER TABLE x ADD CHECK (at < 'tomorrow');
@refused DRV6006 ALTER TABLE x ALTER at TYPE timestamptz USING 'now';
ALTER TABLE x ALTER at SET DEFAULT now();
ALTER TABLE x ADD note text DEFAULT 'known';
ALTER TABLE x ALTER v TYPE varchar(20) USING upper(v)::varchar(20);
ALTER TABLE r ALTER v TYPE varchar(20) USING lower(v) || length(v);
SELECT id, v, note FROM x WHERE id < 4;
TABLE r;
-- functions that look at rows of the shards
@refused DRV3001 ALTER TABLE u ADD COLUMN a bigint DEFAULT counted();
@refused DRV3001 ALTER TABLE u ALTER n TYPE bigint USING counted();
@refused DRV3001 ALTER TABLE u ADD g bigint GENERATED ALWAYS AS (counted_for(id)) STORED;
@refused DRV3001 ALTER TABLE u ADD CHECK (counted() >= 40);
@refused DRV3001 ALTER TABLE x ADD CHECK (counted() >= 40);
@refused DRV3001 CREATE INDEX ON u (counted_for(id));
@refused DRV3001 CREATE INDEX ON x (counted_for(id));
ALTER TABLE u ADD t int GENERATED ALWAYS AS (twice(id)) STORED;
ALTER TABLE u ADD CHECK (twice(n) < 100);
CREATE INDEX ON u (twice(n));
CREATE INDEX ON x (twice(id));
ALTER TABLE u ALTER n SET DEFAULT twice(4);
TABLE u;
CREATE TABLE parts (k bigint) PARTITION BY RANGE (k);
@refused DRV3001 CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (counted()) TO (1000);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (twice(2)) TO (1000);
