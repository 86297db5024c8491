-- A unique index over all shards: columns that do not contain the shard key. Every statement that changes rows carries it along.
@setup
CREATE TABLE teams (id int PRIMARY KEY, title text);
INSERT INTO teams SELECT g, 'team ' || g FROM generate_series(0, 6) g;
@drover SELECT drover.reference_table('teams');
CREATE TABLE users (id int PRIMARY KEY, team int, email text, phone varchar(12), code uuid, n int DEFAULT 0, nick text);
INSERT INTO users SELECT g, g % 7, 'u' || g || '@x', CASE WHEN g % 3 > 0 THEN '+' || g END, NULL, g FROM generate_series(1, 60) g;
CREATE TABLE mails (user_id int NOT NULL, box bigint, flag bool, message text, PRIMARY KEY (user_id, box));
@drover SELECT drover.shard_table('users', key => 'id');
@drover SELECT drover.shard_table('mails', key => 'user_id', colocate_with => 'users');
ALTER TABLE mails ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE;
CREATE TABLE hosts (region text, id bigint, name text NOT NULL, port int, PRIMARY KEY (region, id));
@drover SELECT drover.shard_table('hosts', key => 'region, id');
@oracle ALTER TABLE users ADD UNIQUE (email);
@drover SELECT drover.create_global_index('users', 'email', unique => true);
@oracle ALTER TABLE users ADD CONSTRAINT one_phone UNIQUE (phone);
@drover SELECT drover.create_global_index('users', 'phone', unique => true, name => 'one_phone');
@oracle ALTER TABLE users ADD UNIQUE (code);
@drover SELECT drover.create_global_index('users', 'code', unique => true);
@oracle ALTER TABLE mails ADD UNIQUE (message);
@drover SELECT drover.create_global_index('mails', 'message', unique => true);
@oracle ALTER TABLE hosts ADD UNIQUE (name, port);
@drover SELECT drover.create_global_index('hosts', 'name, port', unique => true);
@cases
-- INSERT
INSERT INTO users (id, email) VALUES (100, 'new@x');
@error 23505 INSERT INTO users (id, email) VALUES (101, 'new@x');
@error 23505 INSERT INTO users (id, email) VALUES (101, 'u1@x');
@error 23505 INSERT INTO users (id, email) VALUES (1, 'fresh@x');
@params (102, 'para@x') INSERT INTO users (id, email) VALUES ($1, $2) RETURNING id, email;
@params (103, 'para@x') @error 23505 INSERT INTO users (id, email) VALUES ($1, $2);
INSERT INTO users (id, email) VALUES (104, NULL), (105, NULL), (106, 'six@x'), (107, 'seven@x') RETURNING id;
@error 23505 INSERT INTO users (id, email) VALUES (110, 'a@x'), (111, 'b@x'), (112, 'a@x'), (113, 'c@x');
@error 23505 INSERT INTO users (id, email) VALUES (110, 'a@x'), (111, 'u2@x'), (112, 'd@x');
INSERT INTO users (id, email) VALUES (110, 'a@x'), (111, 'b@x'), (112, 'd@x');
INSERT INTO users (id, email, phone) VALUES (113, E'quote''s\\back"slash\n', ' blanks ');
@error 23505 INSERT INTO users (id, email) VALUES (114, E'quote''s\\back"slash\n');
@error 23505 INSERT INTO users (id, phone) VALUES (114, ' blanks ');
INSERT INTO users (id, phone) VALUES (114, ' blanks');
@error 22001 INSERT INTO users (id, phone) VALUES (1140, '1234567890123');
INSERT INTO users (id, email) VALUES (115, ''), (116, ' '), (117, 'É@x'), (118, 'é@x');
@error 23505 INSERT INTO users (id, email) VALUES (119, 'é@x');
INSERT INTO users (id, code) VALUES (120, '6b6b6b6b-0000-4000-8000-000000000001');
@error 23505 INSERT INTO users (id, code) VALUES (121, '{6B6B6B6B-0000-4000-8000-000000000001}');
SELECT id, email, phone FROM users WHERE id >= 100;
@error 23505 INSERT INTO users (id, email) VALUES (122, 'r1@x'), (123, 'u2@x') RETURNING id;
@error 23505 UPDATE users SET email = 'u2@x' WHERE id IN (1, 3) RETURNING *;
-- UPDATE
UPDATE users SET email = 'changed@x' WHERE id = 1;
INSERT INTO users (id, email) VALUES (130, 'u1@x');
@error 23505 UPDATE users SET email = 'changed@x' WHERE id = 2;
@error 23505 UPDATE users SET email = 'u3@x' WHERE email = 'u4@x';
UPDATE users SET n = n + 1 WHERE id < 10;
UPDATE users SET n = n + 1, email = email WHERE id = 3;
UPDATE users SET email = upper(email) WHERE id BETWEEN 10 AND 20 RETURNING id, email;
INSERT INTO users (id, email) VALUES (131, 'u10@x'), (132, 'u11@x');
@error 23505 INSERT INTO users (id, email) VALUES (133, 'U10@X');
@error 23505 UPDATE users SET phone = 'same' WHERE id IN (21, 22, 23);
UPDATE users SET phone = NULL WHERE id > 50;
INSERT INTO users (id, phone) VALUES (134, '+55'), (135, '+58');
@params ('para2@x', 21) UPDATE users SET email = $1 WHERE id = $2;
UPDATE users SET email = 'moved@x', phone = 'moved' WHERE email = 'u22@x' RETURNING id, phone;
@error 23505 UPDATE users SET email = 'moved@x' WHERE id = 25;
UPDATE users u SET email = 'joined' || m.box FROM mails m WHERE m.user_id = u.id;
-- the shard key changes, too
@may_refuse UPDATE users SET id = 200 WHERE id = 30;
@may_refuse UPDATE users SET id = id + 1000, email = email || '!' WHERE id IN (31, 32, 33, 34);
@error 23505 INSERT INTO users (id, email) VALUES (140, 'u35@x');
-- DELETE
DELETE FROM users WHERE id = 40;
INSERT INTO users (id, email) VALUES (140, 'u40@x');
DELETE FROM users WHERE email IN ('u41@x', 'u42@x', 'u43@x') RETURNING id;
INSERT INTO users (id, email) VALUES (141, 'u41@x'), (142, 'u42@x'), (143, 'u43@x');
-- upsert
INSERT INTO users (id, email) VALUES (44, 'other@x') ON CONFLICT (id) DO UPDATE SET email = excluded.email RETURNING id, email;
INSERT INTO users (id, email) VALUES (144, 'u44@x') ON CONFLICT (id) DO NOTHING;
@error 23505 INSERT INTO users (id, email) VALUES (45, 'u46@x') ON CONFLICT (id) DO UPDATE SET email = excluded.email;
INSERT INTO users (id, email) VALUES (46, 'up46@x'), (47, 'up47@x'), (150, 'up150@x') ON CONFLICT (id) DO UPDATE SET email = excluded.email, n = 7;
INSERT INTO users (id, email) VALUES (151, 'u46@x'), (152, 'u47@x');
@refused DRV7132 INSERT INTO users (id, email) VALUES (153, 'u48@x') ON CONFLICT DO NOTHING;
-- cascades
INSERT INTO mails SELECT g, 1, true, 'm' || g FROM generate_series(2, 9) g;
@error 23505 INSERT INTO mails VALUES (10, 1, true, 'm9');
DELETE FROM users WHERE id = 9;
INSERT INTO mails VALUES (10, 1, true, 'm9');
DELETE FROM users WHERE id IN (6, 7, 8);
INSERT INTO mails VALUES (11, 1, true, 'm6'), (12, 1, true, 'm7'), (13, 1, true, 'm8');
DELETE FROM mails WHERE flag;
SELECT count(*) FROM mails;
-- INSERT ... SELECT
INSERT INTO users (id, email) SELECT id + 2000, 'copy-' || email FROM users WHERE email IS NOT NULL;
@error 23505 INSERT INTO users (id, email) SELECT id + 4000, lower(email) FROM users WHERE id < 60;
INSERT INTO hosts SELECT 'eu', id, 'h' || id, id % 5 FROM users WHERE id < 30;
INSERT INTO hosts VALUES ('us', 1, 'h2', 7), ('us', 2, 'h3', NULL), ('eu', 100, 'h3', NULL);
@error 23505 INSERT INTO hosts VALUES ('us', 3, 'h2', 7);
@error 23505 UPDATE hosts SET region = 'ap', name = 'h2', port = 2 WHERE region = 'us' AND id = 1;
@error 23505 UPDATE hosts SET port = 99 WHERE name = 'h2';
UPDATE hosts SET port = 99 WHERE name = 'h4';
-- WITH
WITH gone AS (DELETE FROM users WHERE id = 131 RETURNING email) SELECT email FROM gone;
INSERT INTO users (id, email) VALUES (160, 'u10@x');
-- COPY
COPY users (id, email, phone) FROM STDIN;
300	c300@x	c300
301	c301@x	\N
302	\N	c302
303	c303@x	c303
\.
@error 23505 INSERT INTO users (id, email) VALUES (310, 'c303@x');
@error 23505 @any_message COPY users (id, email) FROM STDIN;
304	c304@x
305	u50@x
306	c306@x
\.
COPY users (id, email) FROM STDIN WITH (FORMAT csv);
304,c304@x
305,"c,305"
\.
SELECT id, email, phone FROM users WHERE id BETWEEN 300 AND 400;
-- transactions
@nowrap BEGIN;
@nowrap INSERT INTO users (id, email) VALUES (170, 't170@x');
@nowrap SAVEPOINT a;
@nowrap INSERT INTO users (id, email) VALUES (171, 't171@x');
@nowrap @error 23505 INSERT INTO users (id, email) VALUES (172, 't170@x');
@nowrap ROLLBACK TO a;
@nowrap INSERT INTO users (id, email) VALUES (173, 't171@x');
@nowrap UPDATE users SET email = 't170b@x' WHERE id = 170;
@nowrap INSERT INTO users (id, email) VALUES (174, 't170@x');
@nowrap DELETE FROM users WHERE id = 174;
@nowrap INSERT INTO users (id, email) VALUES (175, 't170@x');
@nowrap COMMIT;
@nowrap BEGIN;
@nowrap DELETE FROM users WHERE id = 175;
@nowrap INSERT INTO users (id, email) VALUES (176, 't170@x');
@nowrap ROLLBACK;
@error 23505 INSERT INTO users (id, email) VALUES (177, 't170@x');
SELECT id, email FROM users WHERE id BETWEEN 170 AND 180;
-- reading by it
SELECT id FROM users WHERE email = 't170@x';
SELECT id FROM users WHERE email IN ('t170@x', 'a@x', 'nobody@x', NULL);
@params ('b@x') SELECT id, n FROM users WHERE email = $1;
@params ('b@x') UPDATE users SET n = 77 WHERE email = $1 RETURNING id;
SELECT count(*), count(email), count(DISTINCT email), count(phone), count(DISTINCT phone) FROM users;
-- MERGE
MERGE INTO users u USING (VALUES (170, 'merged@x')) v(id, email) ON u.id = v.id AND u.id = 170 WHEN MATCHED THEN UPDATE SET email = v.email;
@error 23505 INSERT INTO users (id, email) VALUES (179, 'merged@x');
-- isolation
@nowrap BEGIN ISOLATION LEVEL REPEATABLE READ;
@nowrap INSERT INTO users (id, email) VALUES (400, 'rr@x');
@nowrap UPDATE users SET email = 'rr2@x' WHERE id = 400;
@nowrap SELECT id FROM users WHERE email = 'rr2@x';
@nowrap COMMIT;
@error 23505 INSERT INTO users (id, email) VALUES (401, 'rr2@x');
-- prepared in SQL, explained, in functions and cursors
@refused DRV7001 PREPARE make (int, text) AS INSERT INTO users (id, email) VALUES ($1, $2) RETURNING id;
@may_refuse @shape EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) INSERT INTO users (id, email) VALUES (420, 'explained@x');
@may_refuse DO $$ BEGIN INSERT INTO users (id, email) VALUES (421, 'done@x'); END $$;
@may_refuse WITH made AS (INSERT INTO users (id, email) VALUES (430, 'with@x') RETURNING id) UPDATE users SET email = 'by with@x' WHERE id = 430 RETURNING id;
@error 23505 WITH made AS (INSERT INTO users (id, email) VALUES (431, 'u50@x') RETURNING id) SELECT * FROM made;
@simple INSERT INTO users (id, email) VALUES (440, 'two@x'); INSERT INTO users (id, email) VALUES (441, 'three@x');
@simple @error 23505 INSERT INTO users (id, email) VALUES (442, 'four@x'); INSERT INTO users (id, email) VALUES (443, 'two@x');
INSERT INTO users (id, email) VALUES (443, 'four@x');
SELECT id, email FROM users WHERE id BETWEEN 400 AND 500;
-- reading by it, in more than one way
SELECT t.title, u.id FROM users u LEFT JOIN teams t ON t.id = u.team WHERE u.email = 'u50@x';
@may_refuse SELECT t.title, u.id FROM teams t LEFT JOIN users u ON u.email = 'u50@x' AND u.team = t.id;
SELECT count(*), max(n) FROM users WHERE email = 'nobody@x';
SELECT count(*) FROM users WHERE email = 'u50@x' AND phone = '+50';
SELECT count(*) FROM users WHERE email = 'u50@x' OR phone = '+49';
SELECT count(*) FROM users WHERE email = NULL;
SELECT count(*) FROM users WHERE NOT email = 'u50@x';
SELECT count(*) FROM users WHERE email = 'u50@x' COLLATE "C";
SELECT count(*) FROM users WHERE lower(email) = 'u50@x';
SELECT count(*) FROM users WHERE email = ANY ('{u50@x,u49@x,nobody@x}');
@params ('{u50@x,u49@x}'::text[]) SELECT id FROM users WHERE email = ANY ($1);
@params (NULL) SELECT id FROM users WHERE email = $1;
@params ('+50') SELECT id FROM users WHERE phone = $1::varchar;
SELECT id FROM users WHERE code = '6B6B6B6B-0000-4000-8000-000000000001';
@params ('6b6b6b6b-0000-4000-8000-000000000001'::uuid) SELECT id FROM users WHERE code = $1;
SELECT email FROM users WHERE email = 'u50@x' ORDER BY n LIMIT 1;
SELECT email FROM users WHERE email IN ('u50@x', 'u49@x') ORDER BY email DESC LIMIT 1;
SELECT max(email) FROM users WHERE email IN ('u50@x', 'u49@x') GROUP BY n % 2;
SELECT id FROM hosts WHERE name = 'h4' AND port IN (99, 4);
SELECT id FROM hosts WHERE name = 'h4';
SELECT id FROM hosts WHERE (name, port) = ('h4', 99);
DELETE FROM users WHERE email = 'u49@x' RETURNING id;
DELETE FROM users WHERE email = 'u49@x' RETURNING id;
@error 22P02 SELECT id FROM users WHERE code = 'no uuid';
-- what an index would not follow
@refused DRV7133 ALTER TABLE users RENAME TO people;
@refused DRV7133 ALTER TABLE users RENAME COLUMN email TO mail;
@refused DRV7133 ALTER TABLE users DROP COLUMN email;
@refused DRV7133 ALTER TABLE users ALTER COLUMN phone TYPE text;
@refused DRV7133 TRUNCATE users CASCADE;
ALTER TABLE users ADD COLUMN extra int;
ALTER TABLE users DROP COLUMN extra;
ALTER TABLE users RENAME COLUMN nick TO nickname;
ALTER TABLE users RENAME COLUMN nickname TO nick;
CREATE INDEX users_team ON users (team);
DROP INDEX users_team;
-- it goes with its table
@nowrap BEGIN;
@nowrap DROP TABLE hosts;
@nowrap ROLLBACK;
@error 23505 INSERT INTO hosts VALUES ('us', 1000, 'h5', 0);
DROP TABLE hosts;
CREATE TABLE hosts (region text, id bigint, name text NOT NULL, port int, PRIMARY KEY (region, id));
INSERT INTO hosts VALUES ('us', 1000, 'h5', 0), ('eu', 1001, 'h5', 0);
