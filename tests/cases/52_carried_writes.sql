-- UPDATE … FROM and DELETE … USING over tables that do not meet the one that is changed: their rows are carried to it.
@include _schema.sql
@setup
CREATE TABLE stock (sku text PRIMARY KEY, left_over int, price numeric(10,2), tags text[], feeling mood, changed timestamptz, note varchar(8) DEFAULT 'none', twice int GENERATED ALWAYS AS (left_over * 2) STORED);
@drover SELECT drover.shard_table('stock', key => 'sku');
INSERT INTO stock VALUES ('apple', 10, 1.10, '{red,green}', 'happy'), ('pear', 5, 0.90, '{}', 'ok'), ('plum', 0, 2.50, NULL, NULL), ('kiwi', 7, 0.30, '{"a b"}', 'sad'), ('fig', NULL, NULL, NULL, 'ok');
CREATE TABLE regions (code text PRIMARY KEY, head bigint, total numeric, names text);
@drover SELECT drover.reference_table('regions');
INSERT INTO regions VALUES ('de', 1, 0, NULL), ('fr', 2, 0, NULL), ('jp', 3, 0, NULL), ('xx', 4, 0, NULL);
CREATE TABLE ranks (id bigint, sub int, n int, what char(6), PRIMARY KEY (id, sub));
@drover SELECT drover.shard_table('ranks', key => 'id, sub');
INSERT INTO ranks SELECT g, g % 3, g * 10, 'r' || g FROM generate_series(1, 12) g;
CREATE TABLE loose (k bigint, label text);
@drover SELECT drover.shard_table('loose', key => 'k');
INSERT INTO loose SELECT nullif(g, 3), 'l' || g FROM generate_series(1, 9) g;
CREATE TABLE log (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text, n numeric);
CREATE TABLE big (k bigint PRIMARY KEY, n int, wide text);
@drover SELECT drover.shard_table('big', key => 'k');
INSERT INTO big SELECT g, g % 40, repeat('w', 200) FROM generate_series(1, 400) g;
CREATE VIEW grown AS SELECT id, name, age FROM users WHERE age > 20;
CREATE VIEW few AS SELECT sku, left_over FROM stock WHERE left_over < 8 WITH CHECK OPTION;
CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log (what) VALUES (TG_OP || ' ' || coalesce(NEW.body, OLD.body)); RETURN coalesce(NEW, OLD); END$$;
CREATE TRIGGER n AFTER UPDATE OR DELETE ON notes FOR EACH ROW EXECUTE FUNCTION note_it();
CREATE TABLE mails (k bigint PRIMARY KEY, address text, n int);
@drover SELECT drover.shard_table('mails', key => 'k');
INSERT INTO mails SELECT g, 'm' || g, g FROM generate_series(1, 20) g;
@oracle ALTER TABLE mails ADD UNIQUE (address);
@drover SELECT drover.create_global_index('mails', 'address', unique => true);
@cases
-- sharded by something else, joined on its key, on the target's key, on neither
UPDATE stock s SET left_over = s.left_over - i.qty FROM (SELECT sku, sum(qty) AS qty FROM items GROUP BY sku) i WHERE i.sku = s.sku;
SELECT * FROM stock;
UPDATE orders o SET status = u.name FROM users u WHERE u.id = o.id RETURNING o.user_id, o.id, o.status, u.name, u.feeling;
UPDATE stock SET note = t.plan FROM tenants t WHERE t.seats = stock.left_over RETURNING *;
UPDATE users u SET score = u.score + s.price, email = s.tags[1] FROM stock s, items i WHERE i.sku = s.sku AND i.user_id = u.id AND i.line = 1 AND i.order_id = 1 RETURNING u.id, u.score, s.sku, s.price, s.tags, u.email;
UPDATE stock s SET feeling = u.feeling, changed = u.created FROM users u WHERE u.age = s.left_over + 24 AND u.active;
UPDATE stock s SET left_over = s.left_over + 1 FROM users u, orders o WHERE o.user_id = u.id AND o.amount > 1000;
SELECT sku, left_over, feeling, changed, twice, note FROM stock;
UPDATE tenants t SET parent = p.code FROM tenants p WHERE p.seats = t.seats + 1 RETURNING t.code, t.parent, p.plan;
UPDATE users a SET name = a.name || b.id FROM users b WHERE b.id = a.age - 22 AND b.id IN (2, 3);
DELETE FROM orders o USING tenants t WHERE t.seats = o.amount RETURNING o.user_id, o.id, o.amount, t.code, t.plan;
DELETE FROM items i USING users u WHERE u.id = i.order_id AND u.country = 'jp';
SELECT * FROM items;
-- unsharded and reference tables
UPDATE users u SET email = n.body FROM notes n WHERE n.user_id = u.id RETURNING u.id, u.email, n.id;
UPDATE stock SET note = n.body FROM notes n WHERE n.id = stock.left_over;
UPDATE notes n SET body = u.name FROM users u WHERE u.id = n.user_id RETURNING n.id, n.body, u.age;
UPDATE notes SET body = (SELECT max(sku) FROM stock WHERE left_over > notes.id);
UPDATE notes SET user_id = (SELECT id FROM users WHERE users.name = 'Cid') WHERE user_id IS NULL;
DELETE FROM notes USING users u WHERE u.id = notes.user_id AND u.age < 26 RETURNING *;
SELECT what FROM log ORDER BY id;
SELECT user_id, body FROM notes;
UPDATE stock s SET note = left(c.name, 8) FROM countries c, users u WHERE u.country = c.code AND u.age = s.left_over + 24;
UPDATE users u SET name = c.name FROM countries c LEFT JOIN notes n ON n.body = c.code WHERE c.code = u.country AND n.id IS NULL;
DELETE FROM users u USING countries c LEFT JOIN stock s ON s.sku = c.name WHERE c.code = u.country AND c.continent = 'Africa';
-- into a reference table
UPDATE regions SET total = (SELECT coalesce(sum(score), 0) FROM users WHERE country = regions.code);
UPDATE regions SET total = total + 1 WHERE head IN (SELECT user_id FROM orders) RETURNING code, total;
UPDATE regions r SET names = (SELECT string_agg(name, ',' ORDER BY name COLLATE "C", id) FROM users u WHERE u.country = r.code);
SELECT * FROM regions;
DELETE FROM regions r USING notes n WHERE n.user_id = r.head RETURNING r.code;
DELETE FROM regions WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.country = regions.code) RETURNING *;
SELECT u.id, r.code FROM users u JOIN regions r ON r.code = u.country;
@refused DRV5007 @many UPDATE regions r SET total = u.score FROM users u WHERE u.country = r.code;
-- subqueries everywhere
UPDATE users u SET age = (SELECT count(*) FROM tenants t WHERE t.seats > u.id), email = (SELECT min(sku) FROM stock) WHERE EXISTS (SELECT 1 FROM stock s WHERE s.left_over > u.id);
UPDATE users SET score = (SELECT avg(n) FROM ranks) WHERE id NOT IN (SELECT user_id FROM orders);
UPDATE orders o SET status = (SELECT t.code FROM tenants t WHERE t.seats <= o.id ORDER BY t.seats DESC, t.code LIMIT 1) RETURNING user_id, id, status;
UPDATE stock s SET left_over = x.n FROM (SELECT sku, qty, row_number() OVER (PARTITION BY sku ORDER BY user_id, order_id, line) AS n FROM items) x WHERE x.sku = s.sku AND x.n = 1;
@many @refused DRV4009 UPDATE users SET age = 1 WHERE name = (SELECT code FROM tenants ORDER BY seats LIMIT 1);
@many @refused DRV4009 UPDATE users u SET age = x.n FROM (SELECT seats, row_number() OVER (ORDER BY seats) AS n FROM tenants) x WHERE x.seats = u.age;
WITH best AS (SELECT user_id, max(amount) AS most FROM orders GROUP BY user_id) UPDATE stock s SET left_over = b.most FROM best b WHERE b.user_id = length(s.sku) - 3 RETURNING s.sku, s.left_over;
WITH dear AS (SELECT sku FROM stock WHERE price > 1), who AS (SELECT DISTINCT user_id FROM items JOIN dear USING (sku)) DELETE FROM loose USING who WHERE loose.k = who.user_id RETURNING loose.label;
UPDATE users u SET name = g.name || '+' FROM grown g, stock s WHERE g.id = u.id AND s.left_over = g.age;
UPDATE users SET name = CASE WHEN id IN (SELECT user_id FROM notes) THEN 'noted' WHEN age > ALL (SELECT left_over FROM stock WHERE left_over IS NOT NULL) THEN 'old' ELSE name END;
SELECT * FROM users;
SELECT * FROM stock;
SELECT * FROM loose;
-- keys: pinned, of several columns, NULL, as parameters
UPDATE users u SET name = t.plan FROM tenants t WHERE u.id = 1 AND t.code = 'acme';
UPDATE users u SET name = t.plan || 's' FROM tenants t WHERE u.id IN (1, 2, 6) AND t.code IN ('acme', '42') AND t.seats > u.id;
@params (2, 'acme') UPDATE users u SET name = $2 || t.seats FROM tenants t WHERE u.id = $1 AND t.code = $2 RETURNING u.name;
@params ('{1,4,99}'::bigint[], 10) UPDATE users u SET age = u.age + $2 FROM stock s WHERE u.id = ANY ($1) AND s.left_over < $2 AND s.sku = 'pear';
UPDATE users u SET name = 'never' FROM stock s WHERE u.id = NULL AND s.left_over = u.age;
DELETE FROM users u USING stock s WHERE u.id = NULL AND s.left_over = u.age RETURNING u.*;
UPDATE ranks r SET n = r.n + l.k, what = l.label FROM loose l WHERE l.k = r.id AND r.sub = l.k % 3;
UPDATE ranks r SET n = 0 FROM ranks q WHERE q.id = r.id + 1 AND q.sub = r.sub + 1 RETURNING r.id, r.sub, q.n;
UPDATE loose SET label = r.what || '|' FROM ranks r WHERE r.id = loose.k AND r.n > 20;
DELETE FROM loose USING orders o WHERE o.user_id IS NOT DISTINCT FROM loose.k OR loose.k IS NULL;
SELECT * FROM ranks;
SELECT * FROM loose;
-- many rows: those of a key go to its shard only
UPDATE big b SET n = b.n + x.n FROM (SELECT n AS k, count(*) AS n FROM big GROUP BY n) x WHERE x.k = b.k;
UPDATE big b SET wide = 'w' || c.n FROM big c WHERE c.n = b.k AND c.k % 7 = 0 AND length(c.wide) > 100 RETURNING b.k;
DELETE FROM big b USING big c WHERE c.k = b.k + 200 AND c.n % 2 = 0;
SELECT count(*), sum(k), sum(n), sum(length(wide)) FROM big;
-- a global index follows
UPDATE mails m SET address = 'new ' || t.code FROM tenants t WHERE t.seats = m.n;
SELECT k FROM mails WHERE address = 'new acme';
@any_message @error 23505 UPDATE mails m SET address = 'm2' FROM stock s WHERE s.sku = 'pear' AND m.k = 7;
DELETE FROM mails USING users u WHERE u.id = mails.n;
SELECT k, address, n FROM mails;
-- the clock and constants of the session
UPDATE stock s SET changed = now() FROM users u WHERE u.age = s.left_over + 24;
@may_refuse UPDATE stock s SET changed = statement_timestamp() FROM tenants t WHERE t.seats = s.left_over;
SELECT count(DISTINCT changed) < 3 FROM stock;
@refused @many UPDATE stock s SET price = random() FROM users u WHERE u.age = s.left_over;
@shape UPDATE notes n SET body = random()::text FROM users u WHERE u.id = n.user_id;
-- a new key, a view: not here
@refused @many UPDATE stock s SET sku = u.name FROM users u WHERE u.age = s.left_over;
@refused @many UPDATE few SET left_over = 1 FROM users u WHERE u.age = few.left_over;
@may_refuse UPDATE stock s SET tags[1] = u.name FROM users u WHERE u.age = s.left_over;
@may_refuse UPDATE stock s SET (note, left_over) = (SELECT t.plan, t.seats FROM tenants t WHERE t.code = s.sku);
-- errors are the same, and nothing is changed
@error 22012 UPDATE stock s SET left_over = 1 / (u.id - u.id) FROM users u WHERE u.id = length(s.sku);
@error 22001 UPDATE stock s SET note = 'far too long for this' FROM users u WHERE u.id = length(s.sku);
@error 21000 UPDATE users u SET name = (SELECT code FROM tenants t WHERE t.seats <> u.id);
@error 42703 UPDATE users u SET nothing = 1 FROM tenants t WHERE t.seats = u.id;
SELECT sku, note, left_over FROM stock;
-- inside a transaction, with its own writes
BEGIN;
INSERT INTO users (id, name, age) VALUES (700, 'own', 33), (701, 'own', 34);
INSERT INTO stock (sku, left_over) VALUES ('new one', 33), ('other', 34);
UPDATE stock s SET note = u.name FROM users u WHERE u.age = s.left_over AND u.id >= 700 RETURNING s.sku, s.note;
SAVEPOINT a;
DELETE FROM users u USING stock s WHERE s.left_over = u.age AND s.note = 'own';
SELECT count(*) FROM users WHERE id >= 700;
ROLLBACK TO a;
UPDATE users u SET email = s.sku FROM stock s WHERE s.note = 'own' AND s.left_over = u.age;
SELECT id, email FROM users WHERE id >= 700;
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE users u SET email = s.sku FROM stock s WHERE s.left_over = u.id;
SELECT id, email FROM users;
COMMIT;
SELECT id, email FROM users;
