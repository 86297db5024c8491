-- What must be refused, before anything runs. A case here that becomes supported moves to another file.
-- Against a plain server these run and only have to be valid SQL.
@include _schema.sql
@cases
@refused DRV7051 UPDATE users SET id = o.id + 1000 FROM orders o WHERE o.user_id = users.id;
@many @count @refused DRV4006 SELECT id FROM users ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
@many @shape @refused DRV3004 SELECT ctid FROM users;
@many @shape @refused DRV3004 SELECT xmin FROM users;
@count @refused DRV3001 SELECT query_to_xml('select count(*) from users', false, false, '');
@refused DRV7003 DO $$ BEGIN PERFORM count(*) FROM users; END $$;
@refused DRV6001 CREATE UNIQUE INDEX users_email_index ON users (email);
@refused DRV6001 ALTER TABLE users ADD CONSTRAINT users_email UNIQUE (email);
@refused DRV6003 ALTER TABLE orders ADD CONSTRAINT other FOREIGN KEY (status) REFERENCES tenants NOT VALID;
-- the refused statements changed nothing
SELECT count(*) FROM users WHERE id > 1000;
SELECT id, name FROM users;
