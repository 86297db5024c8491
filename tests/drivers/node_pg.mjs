// node-postgres against a PostgreSQL or a Drover: every check is one function, run in order.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";

const TABLE = "driver_node";
const url = process.argv[2];
const keys = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

async function setUp(client) {
  await client.query(`DROP TABLE IF EXISTS ${TABLE}`);
  await client.query(
    `CREATE TABLE ${TABLE} (id int PRIMARY KEY, name text, amount numeric(12,2), ratio float8, flag boolean,
     at timestamptz, code uuid, doc jsonb, raw bytea, tags text[], numbers int[])`,
  );
  if (process.env.DRIVER_SHARDED) await client.query(`SELECT drover.shard_table('${TABLE}', key => 'id')`);
}

async function parameters(client) {
  assert.equal((await client.query("SELECT $1::int + 1 AS n", [41])).rows[0].n, 42);
  for (const key of keys(1, 20)) {
    const done = await client.query(`INSERT INTO ${TABLE} (id, name) VALUES ($1, $2)`, [key, `name ${key}`]);
    assert.equal(done.rowCount, 1);
  }
  const one = await client.query(`SELECT name FROM ${TABLE} WHERE id = $1`, [7]);
  assert.deepEqual(one.rows, [{ name: "name 7" }]);
  assert.deepEqual(one.fields.map((field) => [field.name, field.dataTypeID]), [["name", 25]]);
  const some = await client.query(`SELECT id FROM ${TABLE} WHERE id = ANY($1) ORDER BY id`, [[3, 5, 99]]);
  assert.deepEqual(some.rows, [{ id: 3 }, { id: 5 }]);
  const all = await client.query(`SELECT count(*)::int AS n, sum(id)::int AS s FROM ${TABLE}`);
  assert.deepEqual(all.rows, [{ n: 20, s: 210 }]);
  const arrays = await client.query({ text: `SELECT id, name FROM ${TABLE} ORDER BY id LIMIT 2`, rowMode: "array" });
  assert.deepEqual(arrays.rows, [[1, "name 1"], [2, "name 2"]]);
}

async function prepared(client) {
  for (const key of keys(1, 20)) {
    const query = { name: "by-id", text: `SELECT name FROM ${TABLE} WHERE id = $1`, values: [key] };
    assert.equal((await client.query(query)).rows[0].name, `name ${key}`);
  }
  const binary = { text: `SELECT id FROM ${TABLE} WHERE id = $1`, values: [9], binary: true };
  assert.equal((await client.query(binary)).rows[0].id, 9);
}

async function simpleProtocol(client) {
  const results = await client.query(`SELECT 1 AS a; SELECT name FROM ${TABLE} WHERE id = 3; SELECT 2 AS b`);
  assert.deepEqual(results.map((result) => result.rows), [[{ a: 1 }], [{ name: "name 3" }], [{ b: 2 }]]);
}

async function transactions(client) {
  await client.query("BEGIN");
  for (const key of keys(200, 204)) await client.query(`INSERT INTO ${TABLE} (id, name) VALUES ($1, 'tx')`, [key]);
  await client.query("COMMIT");
  await client.query("BEGIN");
  await client.query(`DELETE FROM ${TABLE}`);
  await client.query("ROLLBACK");
  await client.query("BEGIN");
  await client.query("SAVEPOINT s");
  await assert.rejects(client.query(`INSERT INTO ${TABLE} (id) VALUES (200)`), { code: "23505" });
  await assert.rejects(client.query("SELECT 1"), { code: "25P02" });
  await client.query("ROLLBACK TO s");
  await client.query(`UPDATE ${TABLE} SET name = 'kept' WHERE id IN (200, 201)`);
  await client.query("COMMIT");
  const kept = await client.query(`SELECT count(*)::int AS n FROM ${TABLE} WHERE name = 'kept'`);
  assert.equal(kept.rows[0].n, 2);
}

async function errors(client) {
  const cases = [
    ["23505", `INSERT INTO ${TABLE} (id) VALUES (1)`],
    ["42P01", "SELECT * FROM driver_nothing"],
    ["42703", `SELECT nope FROM ${TABLE} WHERE id = $1`, [1]],
    ["42601", "SELEC 1"],
    ["22012", `SELECT 1 / (id - $1) FROM ${TABLE} WHERE id = 1`, [1]],
    ["22P02", `SELECT name::int FROM ${TABLE} WHERE id = 1`],
  ];
  for (const [code, text, values] of cases) {
    await assert.rejects(client.query(text, values), (error) => error instanceof pg.DatabaseError && error.code === code);
    assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
  }
}

async function types(client) {
  const row = {
    name: "ünï 日本 🦀", amount: "1234567890.12", ratio: 0.1, flag: true,
    at: new Date("2024-02-29T12:30:15.123Z"), code: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", doc: { a: [1, null, "x"] },
    raw: Buffer.from(keys(0, 255)), tags: ["a", 'b "c"', null, ""], numbers: [1, null, -5],
  };
  const names = Object.keys(row);
  const places = names.map((_, index) => `$${index + 2}`);
  for (const key of [300, 301, 302]) {
    const text = `INSERT INTO ${TABLE} (id, ${names}) VALUES ($1, ${places})`;
    await client.query(text, [key, ...Object.values(row)]);
  }
  assert.deepEqual((await client.query(`SELECT ${names} FROM ${TABLE} WHERE id = $1`, [300])).rows, [row]);
  const many = await client.query(`SELECT ${names} FROM ${TABLE} WHERE id >= 300 ORDER BY id`);
  assert.deepEqual(many.rows, [row, row, row]);
}

async function copy(client) {
  const lines = keys(1000, 2999).map((key) => `${key}\t${key % 3 ? `copied ${key}` : "\\N"}\n`);
  await pipeline(Readable.from(lines), client.query(copyFrom(`COPY ${TABLE} (id, name) FROM STDIN`)));
  const count = await client.query(`SELECT count(*)::int AS n, count(name)::int AS m FROM ${TABLE} WHERE id >= 1000`);
  assert.deepEqual(count.rows, [{ n: 2000, m: 1334 }]);
  let text = "";
  for await (const chunk of client.query(copyTo(`COPY ${TABLE} (id, name) TO STDOUT`))) text += chunk;
  assert.ok(text.includes("1001\tcopied 1001\n") && text.includes("7\tname 7\n"));
  const bad = pipeline(Readable.from(["5000\tfine\n1\tdup\n"]), client.query(copyFrom(`COPY ${TABLE} (id, name) FROM STDIN`)));
  await assert.rejects(bad, { code: "23505" });
  assert.equal((await client.query(`SELECT count(*)::int AS n FROM ${TABLE} WHERE id = 5000`)).rows[0].n, 0);
}

async function session(client) {
  await client.query("SET application_name = 'driver test'");
  assert.equal((await client.query("SHOW application_name")).rows[0].application_name, "driver test");
  const notified = new Promise((resolve) => client.once("notification", resolve));
  await client.query("LISTEN driver_channel");
  await client.query("NOTIFY driver_channel, 'hello'");
  const message = await notified;
  assert.deepEqual([message.channel, message.payload], ["driver_channel", "hello"]);
  await client.query("UNLISTEN *");
}

async function pool() {
  const connections = new pg.Pool({ connectionString: url, max: 6 });
  const name = async (key) => (await connections.query(`SELECT name FROM ${TABLE} WHERE id = $1`, [key])).rows[0].name;
  const names = await Promise.all(keys(1, 20).map(name));
  assert.deepEqual(names, keys(1, 20).map((key) => `name ${key}`));
  await connections.end();
}

const checks = [setUp, parameters, prepared, simpleProtocol, transactions, errors, types, copy, session, pool];
const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000, query_timeout: 30_000 });
await client.connect();
for (const check of checks) {
  console.log(check.name);
  await check(client);
}
await client.query(`DROP TABLE ${TABLE}`);
await client.end();
console.log(`pg ${createRequire(import.meta.url)("pg/package.json").version}, ${checks.length} checks`);
