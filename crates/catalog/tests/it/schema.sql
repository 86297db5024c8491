-- What exists on every shard.
CREATE SCHEMA app;
CREATE TYPE app.status AS ENUM ('new', 'paid');
CREATE DOMAIN app.tenant_id AS int8 CHECK (VALUE > 0);
CREATE FUNCTION app.pure_sql(int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION app.touch_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.changed := now();
  RETURN NEW;
END $$;
CREATE ROLE reader;
CREATE ROLE owner_role;

-- Tables that the tests shard.
CREATE TABLE app.countries (code char(2) PRIMARY KEY, name text NOT NULL COLLATE "C" DEFAULT 'it''s');
CREATE TABLE app.orders (
  id serial, tenant app.tenant_id NOT NULL, gone int, status app.status DEFAULT 'new', country char(2),
  net numeric(10,2) NOT NULL DEFAULT 0, total numeric GENERATED ALWAYS AS (net * 1.2) STORED,
  changed timestamptz DEFAULT now(), note text, "odd Name" varchar(7)[],
  PRIMARY KEY (tenant, id), CONSTRAINT net_positive CHECK (net >= 0)
) WITH (fillfactor = 70, toast.autovacuum_enabled = off);
ALTER TABLE app.orders DROP COLUMN gone;
ALTER TABLE app.orders OWNER TO owner_role;
ALTER TABLE app.orders ALTER COLUMN note SET STORAGE EXTERNAL;
ALTER TABLE app.orders ALTER COLUMN note SET STATISTICS 500;
ALTER TABLE app.orders ALTER COLUMN tenant SET (n_distinct = 100);
ALTER TABLE app.orders ADD FOREIGN KEY (country) REFERENCES app.countries;
CREATE INDEX orders_next ON app.orders (app.pure_sql(tenant)) WHERE status = 'paid';
CREATE UNIQUE INDEX orders_note ON app.orders (tenant, note) INCLUDE (net);
CREATE STATISTICS app.orders_stats ON status, country FROM app.orders;
ALTER TABLE app.orders REPLICA IDENTITY FULL;
CREATE TRIGGER touch BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.touch_row();
ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.orders FOR SELECT TO reader USING (tenant = 1);
GRANT SELECT, INSERT ON app.orders TO reader WITH GRANT OPTION;
GRANT UPDATE (note) ON app.orders TO reader;
COMMENT ON TABLE app.orders IS 'all the orders, it''s';
COMMENT ON COLUMN app.orders.note IS 'free text';
CREATE TABLE app.lines (
  tenant int8, order_id int, position int, PRIMARY KEY (tenant, order_id, position),
  FOREIGN KEY (order_id, tenant) REFERENCES app.orders (id, tenant) ON DELETE CASCADE
);
CREATE TABLE app.events (tenant int8 NOT NULL, at date NOT NULL, PRIMARY KEY (tenant, at)) PARTITION BY RANGE (at);
CREATE TABLE app.events_a PARTITION OF app.events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE app.events_b (at date NOT NULL, tenant int8 NOT NULL, PRIMARY KEY (tenant, at));
ALTER TABLE app.events ATTACH PARTITION app.events_b DEFAULT;
CREATE INDEX events_at ON app.events (at);
CREATE FUNCTION app.move_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.tenant := 5;
  RETURN NEW;
END $$;
CREATE TABLE app.moved (tenant int4 PRIMARY KEY);
CREATE TRIGGER move BEFORE INSERT ON app.moved FOR EACH ROW EXECUTE FUNCTION app.move_row();
CREATE TABLE app.loose (id int PRIMARY KEY, tenant int2);

-- Home tables.
CREATE TABLE app.accounts (id int PRIMARY KEY, name text);
CREATE TABLE app.plain (id int GENERATED ALWAYS AS IDENTITY, name text UNIQUE);
CREATE TABLE app.parent_table (id int);
CREATE TABLE app.child_table () INHERITS (app.parent_table);

-- Functions.
CREATE FUNCTION app.pure_plpgsql(x int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE y int := x * 2;
BEGIN
  IF y > 10 THEN RAISE NOTICE 'big'; END IF;
  RETURN app.pure_sql(y);
END $$;
CREATE FUNCTION app.home_sql() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.accounts';
CREATE FUNCTION app.home_atomic() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM app.accounts; END;
CREATE FUNCTION app.home_indirect() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN app.home_sql() + 1; END';
CREATE SEQUENCE app.numbers;
CREATE FUNCTION app.home_sequence() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('app.numbers')$$;
CREATE FUNCTION app.trusted() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.orders';
CREATE FUNCTION app.bad_sql() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.orders';
CREATE FUNCTION app.bad_atomic() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM app.lines; END;
CREATE FUNCTION app.bad_indirect() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN app.bad_sql() + 1; END';
CREATE FUNCTION app.bad_dynamic(t text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE t; END';
CREATE VIEW app.order_view AS SELECT tenant, net FROM app.orders;
CREATE VIEW app.view_of_view AS SELECT sum(net) AS net FROM app.order_view;
CREATE VIEW app.account_view AS SELECT * FROM app.accounts;
CREATE VIEW app.xml_view AS SELECT query_to_xml('select 1', true, true, '') AS x;
CREATE MATERIALIZED VIEW app.order_totals AS SELECT * FROM app.view_of_view;
CREATE FUNCTION app.bad_view() RETURNS numeric LANGUAGE sql AS 'SELECT net FROM app.view_of_view';
CREATE FUNCTION app.bad_default(x bigint DEFAULT app.bad_sql()) RETURNS bigint LANGUAGE sql AS 'SELECT x';
CREATE AGGREGATE app.pure_agg(int8) (sfunc = int8pl, stype = int8, initcond = '0');
CREATE FUNCTION app.bad_state(int8, int8) RETURNS int8 LANGUAGE sql AS 'SELECT $1 + app.bad_sql()';
CREATE AGGREGATE app.bad_agg(int8) (sfunc = app.bad_state, stype = int8, initcond = '0');
CREATE OPERATOR app.<@@> (leftarg = int8, rightarg = int8, function = app.bad_state);

-- Home tables that reach sharded ones when used.
CREATE TABLE app.guarded (id int);
CREATE POLICY guard ON app.guarded USING (id IN (SELECT tenant FROM app.orders));
CREATE FUNCTION app.audit() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO app.orders (tenant) VALUES (1); RETURN NULL; END';
CREATE TABLE app.cascaded (id int PRIMARY KEY);
CREATE TABLE app.audited (id int REFERENCES app.cascaded ON DELETE CASCADE);
CREATE TRIGGER audit AFTER DELETE ON app.audited FOR EACH ROW EXECUTE FUNCTION app.audit();
CREATE TABLE app.with_default (n bigint DEFAULT app.bad_sql());
CREATE TABLE app.checked (n bigint CHECK (n < app.bad_sql()));

-- An operator used in a body, where nobody names its function.
CREATE FUNCTION app.bad_operator() RETURNS int8 LANGUAGE sql AS 'SELECT 1::int8 OPERATOR(app.<@@>) 2::int8';
CREATE FUNCTION app.bad_atomic_operator() RETURNS int8 BEGIN ATOMIC SELECT 1::int8 OPERATOR(app.<@@>) 2::int8; END;
CREATE FUNCTION app.bad_atomic_builtin() RETURNS xml BEGIN ATOMIC SELECT query_to_xml('select 1', true, true, ''); END;
CREATE FUNCTION app.pure_atomic(x int) RETURNS int RETURN x + 1;
CREATE FUNCTION app.bad_procedure_call() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL app.bad_procedure(); END';
CREATE PROCEDURE app.bad_procedure() LANGUAGE sql AS 'DELETE FROM app.events_a';
CREATE TABLE app.off (id int);
CREATE TRIGGER audit AFTER DELETE ON app.off FOR EACH ROW EXECUTE FUNCTION app.audit();
ALTER TABLE app.off DISABLE TRIGGER audit;
CREATE TABLE app.instead (id int);
CREATE RULE also AS ON INSERT TO app.instead DO ALSO INSERT INTO app.orders (tenant) VALUES (new.id);
CREATE TABLE app.ranks (id int, CONSTRAINT one_each EXCLUDE USING btree (id WITH =));

-- A unique index that calls more values equal than the hash does.
CREATE COLLATION app.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE app.folded (code text PRIMARY KEY, other text);
CREATE UNIQUE INDEX folded_code ON app.folded (code COLLATE app.blind);

-- A function spelt as a column: SELECT buyers.bad_count FROM app.buyers.
CREATE TABLE app.buyers (id int, name text);
CREATE FUNCTION app.bad_count(app.buyers) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM app.orders WHERE tenant = $1.id';
CREATE FUNCTION app.pure_title(b app.buyers) RETURNS text LANGUAGE sql STABLE AS 'SELECT upper(b.name)';
SET search_path = app;
CREATE FUNCTION app.bad_hidden(b app.buyers) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT b.bad_count';
RESET search_path;
CREATE TABLE app.nested (b app.buyers);
CREATE FUNCTION app.home_buyer() RETURNS app.buyers LANGUAGE sql STABLE AS 'SELECT * FROM app.buyers';
