-- Defaults that draw from a sequence that was made by itself: pg_dump writes serial columns this way.
@setup
CREATE SEQUENCE numbers START 10;
CREATE TABLE plain (k int, a int, b text);
INSERT INTO plain SELECT g, g * 2, 'b' || g FROM generate_series(1, 5) g;
@oracle CREATE TABLE drawn (k int PRIMARY KEY, id int DEFAULT nextval('numbers') NOT NULL, v text);
@drover CREATE TABLE drawn (k int PRIMARY KEY, id int DEFAULT nextval('numbers') NOT NULL, v text) WITH (drover.shard_key = 'k');
@oracle CREATE TABLE dumped (k bigint NOT NULL, id integer NOT NULL, v text);
@drover CREATE TABLE dumped (k bigint NOT NULL, id integer NOT NULL, v text) WITH (drover.shard_key = 'k');
@oracle CREATE TABLE copied (id integer DEFAULT pg_catalog.nextval('numbers'::regclass) PRIMARY KEY, v text);
@drover CREATE TABLE copied (id integer DEFAULT pg_catalog.nextval('numbers'::regclass) PRIMARY KEY, v text) WITH (drover.reference);
CREATE SEQUENCE dumped_id_seq AS integer START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1;
ALTER SEQUENCE dumped_id_seq OWNED BY dumped.id;
ALTER TABLE ONLY dumped ALTER COLUMN id SET DEFAULT nextval('dumped_id_seq'::regclass);
ALTER TABLE ONLY dumped ADD CONSTRAINT dumped_pkey PRIMARY KEY (k, id);
SELECT setval('dumped_id_seq', 50, true);
@cases
INSERT INTO drawn (k, v) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, NULL), (5, 'e') RETURNING *;
SELECT * FROM drawn;
INSERT INTO drawn VALUES (6, DEFAULT, 'f') RETURNING id;
INSERT INTO drawn (k) VALUES (7) RETURNING id;
SELECT nextval('numbers');
INSERT INTO dumped (k, v) VALUES (1, 'a'), (1, 'b'), (2, 'c') RETURNING k, v, id;
INSERT INTO dumped (k, v) SELECT k, b FROM plain ORDER BY k;
SELECT count(DISTINCT id), min(id), max(id), count(*) FROM dumped;
COPY dumped (k, v) FROM STDIN;
10	x
11	y
12	z
\.
SELECT count(DISTINCT id), min(id), max(id), count(*) FROM dumped;
INSERT INTO copied (v) VALUES ('a'), ('b');
INSERT INTO copied (v) SELECT b FROM plain ORDER BY k;
SELECT * FROM copied;
-- A row whose column gets its default by an UPDATE.
@may_refuse
UPDATE drawn SET id = DEFAULT WHERE k = 6;
@may_refuse
UPDATE drawn SET id = DEFAULT;
SELECT count(*) FROM drawn WHERE id IS NULL;
-- Other defaults of the same statement are every shard's.
ALTER TABLE drawn ALTER v SET DEFAULT 'none', ALTER id DROP DEFAULT, ALTER id SET DEFAULT nextval('numbers');
INSERT INTO drawn (k) VALUES (20), (21), (22), (23), (24) RETURNING k, id, v;
ALTER TABLE drawn ALTER id DROP DEFAULT;
@error 23502
INSERT INTO drawn (k) VALUES (30);
-- Nothing is left where the sequence is gone.
ALTER TABLE drawn ALTER id SET DEFAULT nextval('numbers');
@error 2BP01
DROP SEQUENCE numbers;
DROP SEQUENCE numbers CASCADE;
@error 23502
INSERT INTO drawn (k) VALUES (31);
CREATE SEQUENCE numbers START 1000;
-- Within a larger expression.
@refused DRV6006
ALTER TABLE drawn ALTER id SET DEFAULT nextval('numbers') + 1;
@refused DRV6006
ALTER TABLE drawn ALTER v SET DEFAULT 'n' || nextval('numbers');
@refused
ALTER TABLE drawn ADD COLUMN more int DEFAULT nextval('numbers');
@error 42P01
ALTER TABLE drawn ALTER id SET DEFAULT nextval('no_such');
DROP SEQUENCE dumped_id_seq CASCADE;
@error 23502
INSERT INTO dumped (k, v) VALUES (1, 'a');
DROP TABLE dumped;
