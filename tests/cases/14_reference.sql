-- Reference tables: read anywhere, written everywhere.
@include _schema.sql
@cases
INSERT INTO countries VALUES ('n1', 'New One', 'Asia');
INSERT INTO countries VALUES ('n2', 'New Two', NULL), ('n3', 'New Three', 'Europe') RETURNING *;
INSERT INTO countries VALUES ('n1', 'x', NULL) ON CONFLICT (code) DO UPDATE SET name = excluded.name RETURNING name;
INSERT INTO countries VALUES ('n1', 'y', NULL) ON CONFLICT DO NOTHING;
@error 23505 INSERT INTO countries VALUES ('de', 'again', NULL);
@error 23502 INSERT INTO countries VALUES ('zz', NULL, NULL);
UPDATE countries SET continent = 'Moon' WHERE code LIKE 'n%' RETURNING code;
UPDATE countries SET name = upper(name);
@params ('n1', 'Param') UPDATE countries SET name = $2 WHERE code = $1 RETURNING name;
DELETE FROM countries WHERE code = 'n2';
DELETE FROM countries WHERE code = 'n3' RETURNING *;
DELETE FROM countries WHERE code = 'none';
@ordered SELECT * FROM countries ORDER BY code;
SELECT count(*), min(name) FROM countries;
SELECT * FROM countries WHERE code = 'de' FOR UPDATE;
SELECT a.code, b.code FROM countries a JOIN countries b ON a.continent = b.continent AND a.code < b.code;
SELECT c.name, n.body FROM countries c JOIN notes n ON n.id = length(c.code) - 1;
SELECT code FROM countries UNION SELECT body FROM notes;
@may_refuse UPDATE countries SET name = u.name FROM users u WHERE u.id = 1 AND countries.code = 'de';
@may_refuse DELETE FROM countries WHERE code NOT IN (SELECT country FROM users WHERE country IS NOT NULL) AND code = 'n1';
@may_refuse INSERT INTO countries SELECT 'u' || id, name, NULL FROM users WHERE id < 3;
@may_refuse INSERT INTO countries SELECT 'm' || id, coalesce(body, ''), NULL FROM notes;
BEGIN;
INSERT INTO countries VALUES ('tx', 'In Tx', NULL);
SELECT count(*) FROM users u JOIN countries c ON c.code = u.country;
SELECT name FROM countries WHERE code = 'tx';
ROLLBACK;
SELECT count(*) FROM countries WHERE code = 'tx';
BEGIN;
UPDATE countries SET continent = 'x' WHERE code = 'de';
UPDATE users SET name = 'with ref' WHERE id IN (1, 2, 3, 4);
COMMIT;
SELECT u.id, c.continent FROM users u JOIN countries c ON c.code = u.country;
-- a table with a foreign key to a reference table
CREATE TABLE cities (id int PRIMARY KEY, country text REFERENCES countries);
INSERT INTO cities VALUES (1, 'de');
@error 23503 INSERT INTO cities VALUES (2, 'nowhere');
DROP TABLE cities;
TRUNCATE countries;
SELECT count(*) FROM countries;
