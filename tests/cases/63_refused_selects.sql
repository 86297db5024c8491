-- Each shape of SELECT that is refused over several shards, with its reason in docs/select.md: a test compares the two lists.
-- A case here that becomes supported moves to another file, and out of the page.
@readonly
@include _schema.sql
@cases
@many @refused DRV1002 SELECT count(*) FROM users TABLESAMPLE BERNOULLI (100);
@many @refused DRV1001 SELECT xmlforest(id, name) FROM users ORDER BY lower(name);
@many @refused DRV2008 WITH RECURSIVE t (id) AS (SELECT id FROM users UNION ALL SELECT u.id FROM t JOIN users u ON u.id = t.id % 3 + 1) CYCLE id SET c USING p SELECT count(*) FROM t;
@many @shape @refused DRV3001 SELECT count(query_to_xml('SELECT 1', false, false, '')) FROM users;
@many @shape @refused DRV3002 SELECT id, pg_relation_size('notes') > 0 FROM users;
@many @shape @refused DRV3002 SELECT pg_backend_pid() > 0, id FROM users;
@many @refused DRV3003 SELECT count(*) FROM users WHERE created < 'today';
@many @shape @refused DRV3004 SELECT ctid FROM users;
@many @shape @refused DRV3005 SELECT 'notes'::regclass::oid > 0, id FROM users;
@many @shape @refused DRV3008 SELECT nextval('notes_id_seq') > 0, id FROM users;
@many @shape @refused DRV3009 SELECT pg_relation_size('users');
@many @shape @refused DRV4001 SELECT xmlagg(xmlelement(name a, id)) FROM users;
@many @count @refused DRV4006 SELECT id FROM users ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;
@many @refused DRV2001 SELECT u.id FROM users u JOIN notes n ON n.user_id = u.id FOR UPDATE;
@many @refused DRV2002 SELECT u.id FROM users u JOIN tenants t ON t.seats = u.age FOR SHARE;
@many @nowrap @refused DRV4008 WITH d AS (UPDATE users SET age = age RETURNING id) SELECT count(*) FROM d;
@many @refused DRV4010 SELECT u.id FROM users u JOIN pg_class c ON c.relname = u.name;
@many @refused DRV4010 SELECT u, count(n.id) FROM users u LEFT JOIN notes n ON n.user_id = u.id GROUP BY u.id;
@many @refused DRV4010 SELECT j FROM (users u JOIN notes n ON n.user_id = u.id) j;
-- they changed nothing
SELECT id, age FROM users;
