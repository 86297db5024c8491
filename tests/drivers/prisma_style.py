"""What Prisma's engine and its kin do to a pooler, over libpq: named statements s0, s1, … prepared once and kept, run in
pipelines, DEALLOCATE ALL at the start of a connection, many connections that use the same names for other texts."""

import os
import sys
import threading
from select import select as wait_for

from psycopg import pq

TABLE = b"driver_prisma"
URL = sys.argv[1].encode()
ok = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


def connect():
    conn = pq.PGconn.connect(URL)
    assert conn.status == pq.ConnStatus.OK, conn.error_message
    # Prisma's pgbouncer=true does this before anything else.
    run(conn, b"DEALLOCATE ALL")
    return conn


def run(conn, sql):
    result = conn.exec_(sql)
    assert result.status in ok, (sql, result.error_message)
    return result


def prepare(conn, name, sql):
    result = conn.prepare(name, sql)
    assert result.status in ok, (name, result.error_message)


def execute(conn, name, *values):
    result = conn.exec_prepared(name, [str(value).encode() for value in values])
    assert result.status in ok, (name, result.error_message)
    return [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]


def next_result(conn):
    """PQgetResult holds Python's lock while it waits: whoever has the server that is waited for could not go on."""
    conn.flush()
    conn.consume_input()
    while conn.is_busy():
        wait_for([conn.socket], [], [])
        conn.consume_input()
    return conn.get_result()


def set_up():
    conn = connect()
    run(conn, b"DROP TABLE IF EXISTS " + TABLE)
    run(conn, b"CREATE TABLE " + TABLE + b" (id int PRIMARY KEY, owner int NOT NULL, name text NOT NULL)")
    if os.environ.get("DRIVER_SHARDED"):
        run(conn, b"SELECT drover.shard_table('" + TABLE + b"', key => 'id')")
    conn.finish()


def worker(number, failures):
    try:
        conn = connect()
        for round in range(3):
            # The same names, other texts, in another order on every connection.
            names = [f"s{(number + at) % 4}".encode() for at in range(4)]
            insert, select, update, many = names
            prepare(conn, insert, b"INSERT INTO " + TABLE + b" VALUES ($1, $2, $3) RETURNING id")
            prepare(conn, select, b"SELECT owner, name FROM " + TABLE + b" WHERE id = $1 LIMIT 1 OFFSET 0")
            prepare(conn, update, b"UPDATE " + TABLE + b" SET name = $2 WHERE id = $1 AND 1 = 1")
            prepare(conn, many, b"SELECT count(*) FROM " + TABLE + b" WHERE owner = $1")
            for at in range(10):
                key = number * 1000 + round * 100 + at
                run(conn, b"BEGIN")
                assert execute(conn, insert, key, number, f"n{key}") == [[str(key).encode()]]
                execute(conn, update, key, f"m{key}")
                run(conn, b"COMMIT" if at % 2 else b"ROLLBACK")
                wanted = [[str(number).encode(), f"m{key}".encode()]] if at % 2 else []
                assert execute(conn, select, key) == wanted
            assert execute(conn, many, number) == [[str((round + 1) * 5).encode()]]
            pipelined(conn, select, number, round)
            run(conn, b"DEALLOCATE ALL")
            result = conn.exec_prepared(select, [b"1"])
            assert result.error_field(pq.DiagnosticField.SQLSTATE) == b"26000", result.error_message
        conn.finish()
    except Exception as error:  # noqa: BLE001
        failures.append(f"{number}: {error!r}")


def pipelined(conn, select, number, round):
    keys = [number * 1000 + round * 100 + at for at in (1, 3, 5)]
    conn.enter_pipeline_mode()
    for key in keys:
        conn.send_query_prepared(select, [str(key).encode()])
    conn.pipeline_sync()
    seen = []
    for _ in keys:
        result = next_result(conn)
        assert result.status in ok, result.error_message
        seen.append(result.get_value(0, 1))
        assert next_result(conn) is None
    assert next_result(conn).status == pq.ExecStatus.PIPELINE_SYNC
    conn.exit_pipeline_mode()
    assert seen == [f"m{key}".encode() for key in keys], seen


def main():
    set_up()
    failures = []
    threads = [threading.Thread(target=worker, args=(number, failures)) for number in range(1, 31)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    conn = connect()
    run(conn, b"DROP TABLE " + TABLE)
    conn.finish()
    print(f"libpq {pq.version()}, {len(threads)} connections")


main()
