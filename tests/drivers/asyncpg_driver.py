"""asyncpg against a PostgreSQL or a Drover. asyncpg speaks the extended protocol in binary throughout."""

import asyncio
import datetime
import decimal
import io
import os
import sys
import uuid

import asyncpg

TABLE = "driver_asyncpg"
URL = sys.argv[1]


async def set_up(conn):
    await conn.execute(f"DROP TABLE IF EXISTS {TABLE}")
    await conn.execute(
        f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name text, amount numeric(12,2), ratio float8, flag boolean,"
        " day date, at timestamptz, span interval, code uuid, doc jsonb, raw bytea, tags text[], numbers int[])"
    )
    if os.environ.get("DRIVER_SHARDED"):
        await conn.execute(f"SELECT drover.shard_table('{TABLE}', key => 'id')")


async def parameters(conn):
    assert await conn.fetchval("SELECT $1::int + 1", 41) == 42
    for key in range(1, 21):
        status = await conn.execute(f"INSERT INTO {TABLE} (id, name) VALUES ($1, $2)", key, f"name {key}")
        assert status == "INSERT 0 1", status
    assert await conn.fetchval(f"SELECT name FROM {TABLE} WHERE id = $1", 7) == "name 7"
    rows = await conn.fetch(f"SELECT id FROM {TABLE} WHERE id = ANY($1) ORDER BY id", [3, 5, 99])
    assert [row["id"] for row in rows] == [3, 5], rows
    row = await conn.fetchrow(f"SELECT count(*) AS n, sum(id) AS s FROM {TABLE}")
    assert (row["n"], row["s"]) == (20, 210), row
    assert await conn.fetchrow(f"SELECT * FROM {TABLE} WHERE id = $1", None) is None
    status = await conn.execute(f"UPDATE {TABLE} SET ratio = 1.5 WHERE id > $1", 10)
    assert status == "UPDATE 10", status


async def prepared(conn):
    statement = await conn.prepare(f"SELECT id, name FROM {TABLE} WHERE id = $1")
    assert [parameter.name for parameter in statement.get_parameters()] == ["int8"]
    assert [column.name for column in statement.get_attributes()] == ["id", "name"]
    for key in range(1, 21):
        assert tuple(await statement.fetchrow(key)) == (key, f"name {key}")
    ordered = await conn.prepare(f"SELECT id FROM {TABLE} WHERE id <= $1 ORDER BY id DESC LIMIT $2")
    assert [row[0] for row in await ordered.fetch(15, 3)] == [15, 14, 13]


async def transactions(conn):
    async with conn.transaction():
        await conn.executemany(f"INSERT INTO {TABLE} (id, name) VALUES ($1, 'tx')", [(key,) for key in range(200, 205)])
    try:
        async with conn.transaction():
            await conn.execute(f"DELETE FROM {TABLE}")
            raise RuntimeError("undo")
    except RuntimeError:
        pass
    assert await conn.fetchval(f"SELECT count(*) FROM {TABLE} WHERE name = 'tx'") == 5
    async with conn.transaction():
        await conn.execute(f"UPDATE {TABLE} SET name = 'outer' WHERE id = 200")
        try:
            async with conn.transaction():
                await conn.execute(f"UPDATE {TABLE} SET name = 'inner' WHERE id IN (200, 201)")
                await conn.execute(f"INSERT INTO {TABLE} (id) VALUES (202)")
        except asyncpg.UniqueViolationError:
            pass
        assert await conn.fetchval(f"SELECT name FROM {TABLE} WHERE id = 201") == "tx"
    assert await conn.fetchval(f"SELECT name FROM {TABLE} WHERE id = 200") == "outer"


async def error_classes(conn):
    cases = [
        (asyncpg.UniqueViolationError, f"INSERT INTO {TABLE} (id) VALUES (1)", ()),
        (asyncpg.UndefinedTableError, "SELECT * FROM driver_nothing", ()),
        (asyncpg.UndefinedColumnError, f"SELECT nope FROM {TABLE} WHERE id = $1", (1,)),
        (asyncpg.PostgresSyntaxError, "SELEC 1", ()),
        (asyncpg.DivisionByZeroError, f"SELECT 1 / (id - $1) FROM {TABLE} WHERE id = 1", (1,)),
        (asyncpg.InvalidTextRepresentationError, f"SELECT name::int FROM {TABLE} WHERE id = 1", ()),
    ]
    for kind, sql, values in cases:
        try:
            await conn.fetch(sql, *values)
        except kind as error:
            assert error.sqlstate == kind.sqlstate and error.message
        else:
            raise AssertionError(f"no error from {sql}")
        assert await conn.fetchval("SELECT 1") == 1


async def types(conn):
    values = {
        "name": "ünï 日本 🦀", "amount": decimal.Decimal("1234567890.12"), "ratio": 0.1, "flag": True,
        "day": datetime.date(2024, 2, 29), "span": datetime.timedelta(days=3, seconds=5),
        "at": datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc),
        "code": uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "doc": '{"a": [1, null, "x"]}',
        "raw": bytes(range(256)), "tags": ["a", 'b "c"', None, ""], "numbers": [1, None, -5],
    }
    places = ", ".join(f"${index}" for index in range(2, len(values) + 2))
    for key in (300, 301, 302):
        await conn.execute(f"INSERT INTO {TABLE} (id, {', '.join(values)}) VALUES ($1, {places})", key, *values.values())
    row = await conn.fetchrow(f"SELECT {', '.join(values)} FROM {TABLE} WHERE id = $1", 300)
    assert dict(row) == values, row
    rows = await conn.fetch(f"SELECT {', '.join(values)} FROM {TABLE} WHERE id >= 300 ORDER BY id")
    assert [dict(row) for row in rows] == [values] * 3, rows


async def copy(conn):
    records = [(key, f"copied {key}" if key % 3 else None) for key in range(1000, 3000)]
    status = await conn.copy_records_to_table(TABLE, records=records, columns=["id", "name"])
    assert status == "COPY 2000", status
    status = await conn.copy_to_table(
        TABLE, source=io.BytesIO(b'3000,"quoted, value"\n3001,\n'), columns=["id", "name"], format="csv"
    )
    assert status == "COPY 2", status
    assert await conn.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id >= 1000") == 2002
    output = io.BytesIO()
    await conn.copy_from_table(TABLE, output=output, columns=["id", "name"])
    assert b"3000\tquoted, value\n" in output.getvalue()
    output = io.BytesIO()
    await conn.copy_from_query(f"SELECT id, name FROM {TABLE} WHERE id = $1", 7, output=output)
    assert output.getvalue() == b"7\tname 7\n", output.getvalue()
    try:
        await conn.copy_records_to_table(TABLE, records=[(5000, "fine"), (1, "duplicate")], columns=["id", "name"])
    except asyncpg.UniqueViolationError:
        pass
    else:
        raise AssertionError("no error from COPY")
    assert await conn.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = 5000") == 0


async def cursors(conn):
    async with conn.transaction():
        keys = [row["id"] async for row in conn.cursor(f"SELECT id FROM {TABLE} WHERE id <= 20 ORDER BY id", prefetch=7)]
        assert keys == list(range(1, 21)), keys


async def listeners(conn):
    received = asyncio.get_running_loop().create_future()
    await conn.add_listener("driver_channel", lambda *event: received.done() or received.set_result(event[2:]))
    await conn.execute("NOTIFY driver_channel, 'hello'")
    assert await asyncio.wait_for(received, 10) == ("driver_channel", "hello")
    await conn.reset()


async def pool(_conn):
    async with asyncpg.create_pool(URL, min_size=2, max_size=6) as connections:

        async def worker(key):
            async with connections.acquire() as conn:
                return await conn.fetchval(f"SELECT name FROM {TABLE} WHERE id = $1", key)

        names = await asyncio.gather(*(worker(key) for key in range(1, 21)))
    assert names == [f"name {key}" for key in range(1, 21)], names


async def main():
    checks = [
        set_up, parameters, prepared, transactions, error_classes, types, copy, cursors, listeners, pool,
    ]
    conn = await asyncpg.connect(URL, timeout=10, command_timeout=30)
    for check in checks:
        print(check.__name__, flush=True)
        await check(conn)
    await conn.execute(f"DROP TABLE {TABLE}")
    await conn.close()
    print(f"asyncpg {asyncpg.__version__}, {len(checks)} checks")


asyncio.run(main())
