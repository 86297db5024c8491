-- What must be refused, before anything runs. A case here that becomes supported moves to another file.
-- Against a plain server these run and only have to be valid SQL.
@include _schema.sql
@cases
@refused UPDATE users SET id = id + 10000 WHERE id IN (1, 2);
@count @refused SELECT id FROM users ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
@shape @refused SELECT ctid FROM users;
@shape @refused SELECT xmin FROM users;
@count @refused SELECT query_to_xml('select count(*) from users', false, false, '');
@refused DO $$ BEGIN PERFORM count(*) FROM users; END $$;
@refused CREATE UNIQUE INDEX users_email_index ON users (email);
@refused ALTER TABLE users ADD CONSTRAINT users_email UNIQUE (email);
@refused ALTER TABLE orders ADD CONSTRAINT other FOREIGN KEY (status) REFERENCES tenants NOT VALID;
-- the refused statements changed nothing
SELECT count(*) FROM users WHERE id > 1000;
SELECT id, name FROM users;
