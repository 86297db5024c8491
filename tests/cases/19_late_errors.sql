-- Errors that come with the commit: nothing is acknowledged before them.
@setup
CREATE TABLE kinds (id int PRIMARY KEY);
CREATE TABLE things (k int, kind int REFERENCES kinds DEFERRABLE INITIALLY DEFERRED);
@drover SELECT drover.reference_table('kinds');
@drover SELECT drover.shard_table('things', key => 'k');
INSERT INTO kinds VALUES (1), (2);
INSERT INTO things VALUES (11, 1), (12, 1), (13, 2);
@cases
@error 23503 @nowrap INSERT INTO things VALUES (1, 1), (2, 9), (3, 1), (4, 1);
@error 23503 @nowrap INSERT INTO things VALUES (1, 9);
@error 23503 @nowrap UPDATE things SET kind = 9;
@error 23503 @nowrap @simple UPDATE things SET kind = 9; SELECT 1;
@error 23503 @nowrap @simple SELECT 1; UPDATE things SET kind = 9;
@error 23503 @nowrap @simple INSERT INTO things VALUES (1, 1), (2, 9), (3, 1), (4, 1); SELECT 1 AS one; SELECT count(*) FROM things;
@error 23503 @nowrap @simple BEGIN; UPDATE things SET kind = 9; COMMIT;
@error 22012 @nowrap @simple UPDATE things SET kind = 1; SELECT 1 / 0;
@error 23503 @nowrap COPY things FROM STDIN;
1	1
2	9
3	1
4	1
\.
@error 23503 @nowrap COPY things FROM STDIN;
1	9
1	1
\.
@nowrap @simple INSERT INTO things VALUES (1, 1), (2, 1), (3, 1), (4, 1); COMMIT; SELECT 1;
@nowrap @simple UPDATE things SET kind = 2 WHERE k IN (1, 2, 3); SELECT count(*) FROM things; DELETE FROM things WHERE k < 3;
SELECT count(*) FROM things;
BEGIN;
UPDATE things SET kind = 9;
@error 23503 COMMIT;
SELECT count(*), sum(kind) FROM things;
