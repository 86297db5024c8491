-- COPY in and out, text, CSV and binary.
@include _schema.sql
@cases
COPY users (id, name, age) FROM STDIN;
300	plain	1
301	tab\there	2
302	\N	\N
303	back\\slash	3
304		4
305	日本	5
306	new\nline	6
307	x	7
\.
SELECT id, name, age FROM users WHERE id >= 300;
COPY users (id, name) FROM STDIN WITH (FORMAT csv);
310,"quoted, comma"
311,"with ""quotes"""
312,
313,""
314," spaces "
315,"new
line"
\.
SELECT id, name FROM users WHERE id >= 310;
COPY users (id, name) FROM STDIN CSV HEADER;
id,name
320,a
321,b
\.
COPY users (name, id) FROM STDIN WITH (DELIMITER '|', NULL 'nix');
a|330
nix|331
a\|b|332
\.
SELECT id, name FROM users WHERE id BETWEEN 320 AND 340;
COPY users (id, name) FROM STDIN WITH (FORMAT csv, FORCE_NULL (name), QUOTE '''', ESCAPE '\');
340,'it\'s'
341,''
\.
SELECT id, name FROM users WHERE id BETWEEN 340 AND 350;
COPY orders FROM STDIN;
1	500	1	1.50	0.5	1	s	2024-01-01	2024-01-01 00:00:00+00
2	500	\N	\N	\N	\N	\N	\N	\N
1	501	3	2.50	NaN	\N		2024-01-01	infinity
1	502	3	2.50	-Infinity	\N	x	0044-03-15 BC	-infinity
\.
SELECT * FROM orders WHERE user_id >= 500;
COPY tenants (code, seats) FROM STDIN;
c1	1
C1	2
7	3
c\\4	4
\.
SELECT code, seats FROM tenants;
COPY docs (id, title, tags, raw) FROM STDIN;
00000000-0000-0000-0000-0000000000b1	t	{a,"b c"}	\\x00
00000000-0000-0000-0000-0000000000b2	\N	{}	\\xff
\.
SELECT id, title, tags, raw FROM docs;
COPY items FROM STDIN;
\.
COPY countries FROM STDIN;
c1	Copy One	\N
c2	Copy Two	Asia
\.
SELECT * FROM countries;
COPY notes (user_id, body) FROM STDIN;
7	copied
\N	\N
\.
SELECT user_id, body FROM notes;
-- errors undo everything
@error 23505 COPY users (id, name) FROM STDIN;
400	a
401	b
1	dup
402	c
\.
SELECT count(*) FROM users WHERE id BETWEEN 400 AND 402;
@error 22P02 COPY users (id, age) FROM STDIN;
400	1
401	x
\.
@error 22P04 COPY users (id, name) FROM STDIN;
400	a	extra
\.
@error 22P04 COPY users (id, name) FROM STDIN;
400
\.
@error 22P02 COPY users (id, name) FROM STDIN;
x	a
\.
@error 23502 COPY users (id, name) FROM STDIN;
\N	a
\.
SELECT count(*) FROM users WHERE id = 400;
@error 42703 COPY users (nope) FROM STDIN;
1
\.
@error 42P01 COPY nothing FROM STDIN;
1
\.
-- out
COPY users TO STDOUT;
COPY users (id, name) TO STDOUT;
COPY users (name, id) TO STDOUT WITH (FORMAT csv);
COPY users (id, name) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (name), NULL '-');
COPY orders TO STDOUT;
COPY tenants TO STDOUT (DELIMITER ';');
COPY countries TO STDOUT;
COPY notes (body) TO STDOUT;
COPY items TO STDOUT;
COPY (SELECT body FROM notes WHERE id = 1) TO STDOUT;
@ordered COPY (SELECT id, name FROM users WHERE id = 1) TO STDOUT;
@ordered COPY (SELECT id, name FROM users ORDER BY id) TO STDOUT;
COPY (SELECT count(*) FROM users) TO STDOUT;
COPY users (id) TO STDOUT WITH (FORMAT csv, HEADER);
@ordered COPY (SELECT 1, 2.5::float8, 'x'::text) TO STDOUT WITH (FORMAT binary);
@ordered COPY (SELECT id, name FROM users WHERE id = 1) TO STDOUT WITH (FORMAT binary);
-- inside a transaction
BEGIN;
COPY users (id, name) FROM STDIN;
500	tx
501	tx
502	tx
\.
SELECT count(*) FROM users WHERE name = 'tx';
ROLLBACK;
SELECT count(*) FROM users WHERE name = 'tx';
BEGIN;
INSERT INTO users (id, name) VALUES (500, 'tx');
COPY users (id, name) FROM STDIN;
501	tx
502	tx
\.
COMMIT;
SELECT id FROM users WHERE name = 'tx';
BEGIN;
@error 23505 COPY users (id, name) FROM STDIN;
510	a
1	dup
\.
@error 25P02 SELECT 1;
ROLLBACK;
@load items 300 11
SELECT count(*), sum(qty), count(sku) FROM items;
SELECT * FROM items;
