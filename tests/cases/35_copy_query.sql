-- COPY of a query over shards: rows come from several servers, and Drover writes them as PostgreSQL would.
@readonly
@include _schema.sql
@setup
CREATE TABLE odd (k int PRIMARY KEY, v text, w text, b bytea, n numeric, d date);
@drover SELECT drover.shard_table('odd', key => 'k');
INSERT INTO odd VALUES (1, E'tab\there', E'line\nfeed', '\x0001', 1.50, '2024-02-29'), (2, E'back\\slash', E'\\.', NULL, 'NaN', 'infinity'), (3, '', NULL, '\x', NULL, NULL), (4, 'a,b', 'say "hi"', '\xff', 0, '0044-03-15 BC'), (5, E'\\N', 'NULL', '\x22', -1, NULL), (6, E'\b\f\v\r', 'it''s', NULL, 1e30, NULL), (7, 'ünï', '日本', NULL, 7, NULL), (8, ' x ', E'\\.', NULL, 8, NULL);
@cases
@ordered COPY (SELECT * FROM odd ORDER BY k) TO STDOUT;
COPY (SELECT v, w FROM odd) TO STDOUT;
COPY (SELECT * FROM odd WHERE k = 3) TO STDOUT;
COPY (SELECT * FROM odd WHERE k IN (1, 2, 4)) TO STDOUT;
@ordered COPY (SELECT k, v, w FROM odd ORDER BY k) TO STDOUT (FORMAT csv);
@ordered COPY (SELECT w FROM odd ORDER BY k) TO STDOUT (FORMAT csv);
@ordered COPY (SELECT w, k FROM odd ORDER BY k) TO STDOUT WITH CSV HEADER;
@ordered COPY (SELECT w AS "a ""b"" c", k FROM odd ORDER BY k) TO STDOUT WITH CSV HEADER;
@ordered COPY (SELECT v, k AS "tab	name" FROM odd ORDER BY k) TO STDOUT (HEADER);
@ordered COPY (SELECT v, w FROM odd ORDER BY k) TO STDOUT (DELIMITER '|', NULL 'nothing');
@ordered COPY (SELECT v, w FROM odd ORDER BY k) TO STDOUT (FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '\', NULL 'NULL');
@ordered COPY (SELECT v, w FROM odd ORDER BY k) TO STDOUT (FORMAT csv, QUOTE 'x');
@ordered COPY (SELECT * FROM odd ORDER BY k) TO STDOUT (FORMAT binary);
COPY (SELECT * FROM odd WHERE false) TO STDOUT (FORMAT binary);
COPY (SELECT * FROM odd WHERE k > 100) TO STDOUT (FORMAT csv, HEADER);
@ordered COPY (SELECT status, count(*), sum(amount), avg(price) FROM orders GROUP BY status ORDER BY status) TO STDOUT;
COPY (SELECT count(*), min(v) FROM odd) TO STDOUT (FORMAT csv);
COPY (SELECT count(*), max(k) FROM odd) TO STDOUT (FORMAT binary);
@ordered COPY (SELECT DISTINCT country FROM users ORDER BY country DESC LIMIT 3) TO STDOUT;
@ordered COPY (SELECT id FROM users ORDER BY id LIMIT 3 OFFSET 1) TO STDOUT;
COPY (SELECT u.name, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id) TO STDOUT;
COPY (WITH x AS (SELECT * FROM users WHERE active) SELECT id, name FROM x) TO STDOUT;
COPY (SELECT * FROM users WHERE id = 1) TO STDOUT (FORMAT csv, HEADER);
COPY (SELECT * FROM countries) TO STDOUT;
COPY (TABLE countries) TO STDOUT (FORMAT csv);
@error 22012 COPY (SELECT 1 / (k - k) FROM odd) TO STDOUT;
@error 42703 COPY (SELECT nothing FROM odd) TO STDOUT;
@error 42P01 COPY (SELECT * FROM nowhere) TO STDOUT;
@may_refuse COPY (SELECT * FROM odd ORDER BY k) TO STDOUT (FORMAT csv, FORCE_QUOTE *);
@may_refuse COPY (SELECT v FROM odd WHERE k < 5 ORDER BY k) TO STDOUT (ENCODING 'LATIN1');
@may_refuse COPY (SELECT a.k, b.k FROM odd a, odd b) TO STDOUT;
@may_refuse COPY (UPDATE odd SET v = v RETURNING k) TO STDOUT;
@may_refuse COPY (SELECT k, now() > '2020-01-01' FROM odd) TO STDOUT;
@refused COPY (SELECT * FROM odd) TO '/tmp/nowhere';
