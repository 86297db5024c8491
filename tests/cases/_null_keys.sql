-- After _schema.sql: the same rows, but all keys are NULL.
@setup
ALTER TABLE users DROP CONSTRAINT users_pkey;
ALTER TABLE users ALTER id DROP NOT NULL;
UPDATE users SET id = NULL;
ALTER TABLE orders DROP CONSTRAINT orders_pkey;
ALTER TABLE orders ALTER user_id DROP NOT NULL;
UPDATE orders SET user_id = NULL;
ALTER TABLE items DROP CONSTRAINT items_pkey;
ALTER TABLE items ALTER user_id DROP NOT NULL;
UPDATE items SET user_id = NULL;
ALTER TABLE tenants DROP CONSTRAINT tenants_pkey;
ALTER TABLE tenants ALTER code DROP NOT NULL;
UPDATE tenants SET code = NULL;
ALTER TABLE docs DROP CONSTRAINT docs_pkey;
ALTER TABLE docs ALTER id DROP NOT NULL;
UPDATE docs SET id = NULL;
