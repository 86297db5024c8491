-- What exists on every shard before tables are made: schema, types, functions.
CREATE SCHEMA app;
CREATE TYPE app.status AS ENUM ('new', 'paid');
CREATE DOMAIN app.tenant_id AS int8 CHECK (VALUE > 0);
CREATE FUNCTION app.pure_sql(int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION app.touch_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.changed := now();
  RETURN NEW;
END $$;
