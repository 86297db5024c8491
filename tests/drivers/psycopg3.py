"""psycopg 3 against a PostgreSQL or a Drover: every check is one function, run in order."""

import datetime
import decimal
import os
import sys
import uuid

import psycopg
from psycopg import errors, pq
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

TABLE = "driver_psycopg"
URL = sys.argv[1]


def set_up(conn):
    conn.execute(f"DROP TABLE IF EXISTS {TABLE}")
    conn.execute(
        f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name text, amount numeric(12,2), ratio float8, flag boolean,"
        " day date, at timestamptz, span interval, code uuid, doc jsonb, raw bytea, tags text[], numbers int[])"
    )
    conn.commit()
    if os.environ.get("DRIVER_SHARDED"):
        # Moving a table is no part of a transaction.
        conn.autocommit = True
        conn.execute(f"SELECT drover.shard_table('{TABLE}', key => 'id')")
        conn.autocommit = False


def parameters(conn):
    assert conn.execute("SELECT %s::int + 1, %s::text", (41, "it's")).fetchone() == (42, "it's")
    for key in range(1, 21):
        conn.execute(f"INSERT INTO {TABLE} (id, name) VALUES (%s, %s)", (key, f"name {key}"))
    conn.commit()
    for key in (1, 7, 20):
        row = conn.execute(f"SELECT name FROM {TABLE} WHERE id = %s", (key,)).fetchone()
        assert row == (f"name {key}",), row
    rows = conn.execute(f"SELECT id FROM {TABLE} WHERE id = ANY(%s) ORDER BY id", ([3, 5, 99],)).fetchall()
    assert rows == [(3,), (5,)], rows
    assert conn.execute(f"SELECT count(*), sum(id) FROM {TABLE}").fetchone() == (20, 210)
    assert conn.execute(f"SELECT name FROM {TABLE} WHERE id = %s", (None,)).fetchone() is None


def prepared(conn):
    # Prepared at the first use, then executed by name for many keys.
    for key in range(1, 21):
        sql = f"SELECT id, name FROM {TABLE} WHERE id = %s"
        assert conn.execute(sql, (key,), prepare=True).fetchone() == (key, f"name {key}")
    for binary in (False, True):
        cursor = conn.cursor(binary=binary)
        cursor.execute(f"SELECT id, name FROM {TABLE} WHERE id BETWEEN %s AND %s ORDER BY id", (4, 6), prepare=True)
        assert cursor.fetchall() == [(key, f"name {key}") for key in (4, 5, 6)]
    conn.commit()


def many(conn):
    with conn.cursor() as cursor:
        rows = [(key, f"many {key}") for key in range(100, 150)]
        cursor.executemany(f"INSERT INTO {TABLE} (id, name) VALUES (%s, %s)", rows)
        assert cursor.rowcount == 50, cursor.rowcount
        sql = f"INSERT INTO {TABLE} (id, name) VALUES (%s, 'r') RETURNING id"
        cursor.executemany(sql, [(key,) for key in range(150, 155)], returning=True)
        seen = [cursor.fetchone()[0]]
        while cursor.nextset():
            seen.append(cursor.fetchone()[0])
        assert seen == list(range(150, 155)), seen
    conn.commit()
    changed = conn.execute(f"UPDATE {TABLE} SET name = upper(name) WHERE id >= 100").rowcount
    assert changed == 55, changed
    assert conn.execute(f"DELETE FROM {TABLE} WHERE id >= 100").rowcount == 55
    conn.commit()


def transactions(conn):
    with conn.transaction():
        for key in range(200, 205):
            conn.execute(f"INSERT INTO {TABLE} (id, name) VALUES (%s, 'tx')", (key,))
    try:
        with conn.transaction():
            conn.execute(f"DELETE FROM {TABLE}")
            raise RuntimeError("undo")
    except RuntimeError:
        pass
    assert conn.execute(f"SELECT count(*) FROM {TABLE} WHERE name = 'tx'").fetchone() == (5,)
    with conn.transaction():
        conn.execute(f"UPDATE {TABLE} SET name = 'outer' WHERE id = 200")
        try:
            with conn.transaction():
                conn.execute(f"UPDATE {TABLE} SET name = 'inner' WHERE id IN (200, 201)")
                conn.execute(f"INSERT INTO {TABLE} (id) VALUES (202)")
        except errors.UniqueViolation:
            pass
        assert conn.execute(f"SELECT name FROM {TABLE} WHERE id = 201").fetchone() == ("tx",)
    assert conn.execute(f"SELECT name FROM {TABLE} WHERE id = 200").fetchone() == ("outer",)
    conn.commit()
    conn.execute(f"DELETE FROM {TABLE} WHERE id >= 200")
    conn.rollback()
    assert conn.execute(f"SELECT count(*) FROM {TABLE} WHERE id >= 200").fetchone() == (5,)
    conn.commit()


def error_classes(conn):
    cases = [
        (errors.UniqueViolation, f"INSERT INTO {TABLE} (id) VALUES (1)", None),
        (errors.UndefinedTable, "SELECT * FROM driver_nothing", None),
        (errors.UndefinedColumn, f"SELECT nope FROM {TABLE} WHERE id = %s", (1,)),
        (errors.SyntaxError, "SELEC 1", None),
        (errors.DivisionByZero, f"SELECT 1 / (id - %s) FROM {TABLE} WHERE id = 1", (1,)),
        (errors.InvalidTextRepresentation, f"SELECT name::int FROM {TABLE} WHERE id = 1", None),
    ]
    for kind, sql, values in cases:
        try:
            conn.execute(sql, values)
        except kind as error:
            assert error.diag.message_primary and error.sqlstate == kind.sqlstate
        else:
            raise AssertionError(f"no error from {sql}")
        try:
            conn.execute("SELECT 1")
        except errors.InFailedSqlTransaction:
            pass
        else:
            raise AssertionError("the transaction did not fail")
        conn.rollback()
    assert conn.execute("SELECT 1").fetchone() == (1,)
    conn.commit()


def types(conn):
    values = {
        "name": "ünï 日本 🦀", "amount": decimal.Decimal("1234567890.12"), "ratio": 0.1, "flag": True,
        "day": datetime.date(2024, 2, 29), "span": datetime.timedelta(days=3, seconds=5),
        "at": datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc),
        "code": uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "doc": {"a": [1, None, "x"]},
        "raw": bytes(range(256)), "tags": ["a", 'b "c"', None, ""], "numbers": [1, None, -5],
    }
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    bound = dict(values, doc=Jsonb(values["doc"]))
    for binary in (False, True):
        key = 301 if binary else 300
        conn.cursor().execute(
            f"INSERT INTO {TABLE} (id, {names}) VALUES (%(id)s, {places})", dict(bound, id=key), binary=binary
        )
        with conn.cursor(row_factory=dict_row, binary=binary) as cursor:
            row = cursor.execute(f"SELECT {names} FROM {TABLE} WHERE id = %s", (key,)).fetchone()
            assert row == values, row
            rows = cursor.execute(f"SELECT {names} FROM {TABLE} WHERE id >= 300 ORDER BY id").fetchall()
            assert all(row == values for row in rows), rows
    conn.commit()


def copy(conn):
    with conn.cursor() as cursor:
        with cursor.copy(f"COPY {TABLE} (id, name) FROM STDIN") as stream:
            for key in range(1000, 3000):
                stream.write_row((key, f"tab\there {key}" if key % 3 else None))
        assert cursor.rowcount == 2000, cursor.rowcount
        with cursor.copy(f"COPY {TABLE} (id, name) FROM STDIN (FORMAT csv)") as stream:
            stream.write('3000,"quoted, value"\n3001,\n')
        conn.commit()
        cursor.execute(f"SELECT count(*), count(name) FROM {TABLE} WHERE id >= 1000")
        assert cursor.fetchone() == (2002, 1335)
        with cursor.copy(f"COPY {TABLE} (id, name) TO STDOUT") as stream:
            rows = list(stream.rows())
        assert len(rows) == cursor.rowcount and ("3000", "quoted, value") in rows, len(rows)
        conn.commit()
        try:
            with cursor.copy(f"COPY {TABLE} (id, name) FROM STDIN") as stream:
                stream.write_row((5000, "fine"))
                stream.write_row((1, "duplicate"))
        except errors.UniqueViolation:
            conn.rollback()
        else:
            raise AssertionError("no error from COPY")
        assert cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 5000").fetchone() == (0,)
    conn.commit()


def pipeline(conn):
    with conn.pipeline():
        cursors = [conn.execute(f"SELECT name FROM {TABLE} WHERE id = %s", (key,)) for key in range(1, 11)]
        conn.execute(f"UPDATE {TABLE} SET name = 'piped' WHERE id = 1")
        after = conn.execute(f"SELECT name FROM {TABLE} WHERE id = 1")
    assert [cursor.fetchone()[0] for cursor in cursors] == [f"name {key}" for key in range(1, 11)]
    assert after.fetchone() == ("piped",)
    conn.rollback()
    try:
        with conn.pipeline():
            conn.execute(f"UPDATE {TABLE} SET name = 'lost' WHERE id = 2")
            conn.execute("SELECT 1 / 0")
            conn.execute(f"UPDATE {TABLE} SET name = 'lost' WHERE id = 3")
    except errors.DivisionByZero:
        pass
    else:
        raise AssertionError("no error from the pipeline")
    conn.rollback()
    assert conn.execute(f"SELECT name FROM {TABLE} WHERE id = 2").fetchone() == ("name 2",)
    conn.commit()


def session(conn):
    assert conn.info.transaction_status == pq.TransactionStatus.IDLE
    conn.autocommit = True
    conn.execute("SET application_name = 'driver test'")
    assert conn.execute("SHOW application_name").fetchone() == ("driver test",)
    assert conn.info.parameter_status("application_name") == "driver test"
    notices = []
    conn.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
    conn.execute("DROP TABLE IF EXISTS driver_nothing")
    assert notices == ['table "driver_nothing" does not exist, skipping'], notices
    conn.execute("LISTEN driver_channel")
    conn.execute("NOTIFY driver_channel, 'hello'")
    received = next(conn.notifies(timeout=10))
    assert (received.channel, received.payload) == ("driver_channel", "hello")
    conn.execute("UNLISTEN *")
    conn.autocommit = False


def server_cursor(conn):
    # A named cursor is a DECLARE, which Drover does not do over sharded tables yet.
    source = "generate_series(1, 9) id" if os.environ.get("DRIVER_SHARDED") else TABLE
    with conn.cursor(name="driver_cursor") as cursor:
        cursor.execute(f"SELECT id FROM {source} WHERE id = 7")
        assert cursor.fetchall() == [(7,)]
    conn.commit()
    rows = list(conn.cursor().stream(f"SELECT id FROM {TABLE} WHERE id <= %s ORDER BY id", (20,)))
    assert rows == [(key,) for key in range(1, 21)], rows
    conn.commit()


def main():
    checks = [
        set_up, parameters, prepared, many, transactions, error_classes, types, copy, pipeline, session, server_cursor,
    ]
    with psycopg.connect(URL, connect_timeout=10) as conn:
        for check in checks:
            print(check.__name__, flush=True)
            check(conn)
        conn.execute(f"DROP TABLE {TABLE}")
    print(f"psycopg {psycopg.__version__}, {len(checks)} checks")


main()
