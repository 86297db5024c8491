#!/usr/bin/env python3
"""What a transaction takes, through Drover and past it, in milliseconds.

  bench/transactions.py --drover PATH             21 repetitions, about five minutes
  bench/transactions.py --drover PATH --quick     5 repetitions

Starts `drover dev` with two shards, whose servers wait for their disks (fsync is on). One client does each kind of transaction so many times in a
row, the kinds in turns, in an order that changes; a repetition's figure is its mean, the table shows medians of the repetitions and their
quarters. A transaction *by hand* is a client with a connection to each of two servers, past Drover, which sends to both before it waits for either: BEGIN and
UPDATE, PREPARE TRANSACTION, COMMIT PREPARED. What does not depend on the machine is asserted by tests: messages and round trips (crates/drover/tests/cost.rs), and
flushes of the servers' logs (crates/drover/tests/flushes.rs).
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse

import crowd
import pooler

ROWS = 10_000


def main():
    options = arguments()
    work = pathlib.Path(tempfile.mkdtemp(prefix="drover-transactions-"))
    work.chmod(0o755)
    running = []
    try:
        bench = Bench(options, work, running)
        print(headline(options))
        kinds = bench.kinds()
        found = {name: [] for name in kinds}
        progress = pooler.Progress("transactions", options.repeats)
        order, chance = list(kinds), random.Random(1)
        for repeat in range(options.repeats + 1):
            chance.shuffle(order)
            for name in order:
                start = time.perf_counter()
                for _ in range(options.times):
                    kinds[name]()
                took = time.perf_counter() - start
                # The first one is for connections, plans and caches.
                if repeat > 0:
                    found[name].append(took * 1e3 / options.times)
            if repeat > 0:
                progress.step("")
        report(found)
    finally:
        for process in reversed(running):
            pooler.stop(process)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drover", default="target/dist/drover", help="the binary (default target/dist/drover)")
    parser.add_argument("--quick", action="store_true", help="5 repetitions instead of 21")
    parser.add_argument("--repeats", type=int, help="repetitions")
    parser.add_argument("--times", type=int, default=50, help="transactions of a kind in a row (default 50)")
    parser.add_argument("--bin", default=pooler.find_binaries(), help="folder of PostgreSQL's binaries")
    options = parser.parse_args()
    options.repeats = options.repeats or (5 if options.quick else 21)
    if not pathlib.Path(options.drover).exists():
        parser.error(f"{options.drover} is missing: cargo build --profile dist -p drover")
    return options


def headline(options):
    version = subprocess.run([f"{options.bin}/postgres", "--version"], capture_output=True, text=True).stdout.strip()
    return (
        f"{time.strftime('%Y-%m-%d')}, {version}, kernel {os.uname().release}, {os.cpu_count()} CPUs shared by the client, "
        f"PostgreSQL and Drover, load {os.getloadavg()[0]:.1f} before, fsync on; one client, {options.repeats} × {options.times} of each kind, "
        f"in turns, medians of the repetitions and their quarters."
    )


class Client:
    """A blocking session that can send before it waits."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        sock = socket.create_connection((parts.hostname, parts.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.inner = sock, crowd.Client(sock)
        self.keys = crowd.Keys(urllib.parse.unquote(parts.password or ""))
        sock.sendall(crowd.startup(parts.username, parts.path[1:]))
        self.wait()

    def send(self, sql):
        self.sock.sendall(crowd.message(b"Q", sql.encode() + b"\0"))

    def wait(self):
        """The rows up to ReadyForQuery."""
        rows, error = [], None
        while True:
            data = self.sock.recv(65536)
            if not data:
                sys.exit("a connection was closed")
            ready = False
            for tag, body in self.inner.messages(data):
                if tag == b"R":
                    self.inner.authenticate(body, self.keys)
                elif tag == b"E":
                    error = body.replace(b"\0", b" ").decode(errors="replace")
                elif tag == b"D":
                    rows.append(row_of(body))
                ready = tag == b"Z"
            if error and ready:
                sys.exit(error)
            if ready:
                return rows

    def run(self, sql):
        self.send(sql)
        return self.wait()


def row_of(body):
    count, at, row = struct.unpack("!H", body[:2])[0], 2, []
    for _ in range(count):
        length = struct.unpack("!i", body[at : at + 4])[0]
        at += 4
        row.append(body[at : at + length].decode() if length >= 0 else None)
        at += max(length, 0)
    return row


class Bench:
    """A cluster, sessions, and everything that is measured."""

    def __init__(self, options, work, running):
        port, folder = pooler.free_port(), work / "dev"
        command = [options.drover, "dev", "--shards", "2", "--replicas", "0", "--dir", folder]
        command += ["--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{pooler.free_port()}"]
        process = pooler.launch(work, running, "drover", command)
        url = f"postgresql://drover:drover@127.0.0.1:{port}/app"
        pooler.wait_for(work, "drover", process, url, 120)
        known = json.loads((folder / "drover-dev.json").read_text())["cluster"]
        login = f"{known['admin_user']}:{known['admin_password']}"
        servers = [f"postgresql://{login}@127.0.0.1:{shard['primary']['port']}" for shard in known["shards"]]
        for server in servers:
            Client(f"{server}/postgres").run("CREATE DATABASE by_hand")
        self.hands = [Client(f"{server}/by_hand") for server in servers]
        for hand in self.hands:
            if hand.run("SHOW fsync") != [["on"]]:
                sys.exit("fsync is off")
            hand.run("CREATE TABLE t (k bigint PRIMARY KEY, n int)")
            hand.run(f"INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g")
        self.client, self.loose, self.moment = Client(url), Client(url), Client(url)
        self.loose.run("SET drover.transaction_mode = 'best_effort'")
        self.moment.run("SET drover.read_snapshot = 'cluster'")
        run = self.client.run
        run("CREATE TABLE t (k bigint PRIMARY KEY, n int) WITH (drover.shard_key = 'k')")
        run("CREATE TABLE plain (k bigint PRIMARY KEY, mail text) WITH (drover.shard_key = 'k')")
        run("CREATE TABLE indexed (k bigint PRIMARY KEY, mail text) WITH (drover.shard_key = 'k')")
        run(f"INSERT INTO t SELECT g, 0 FROM generate_series(1, {ROWS}) g")
        for table in ("plain", "indexed"):
            run(f"INSERT INTO {table} SELECT g, g || '@x' FROM generate_series(1, {ROWS}) g")
            run(f"CREATE INDEX ON {table} (mail)")
        run("SELECT drover.create_global_index('indexed', 'mail', unique => true)")
        self.keys = [self.keys_of(shard) for shard in (1, 2)]
        self.next, self.named = ROWS, 0

    def keys_of(self, shard):
        """Keys of rows on this shard."""
        def is_there(key):
            route = self.client.run(f"EXPLAIN (ROUTE) SELECT n FROM t WHERE k = {key}")
            return any(f"shard_{shard}" in line for row in route for line in row)
        return [key for key in range(1, 200) if is_there(key)]

    def update(self, shard):
        return f"UPDATE t SET n = n + 1 WHERE k = {random.choice(self.keys[shard])}"

    def kinds(self):
        client, hands = self.client, self.hands
        return {
            "UPDATE on one shard": lambda: client.run(self.update(0)),
            "the same past Drover": lambda: hands[0].run(self.update(0)),
            "two of them, one on each shard": lambda: (client.run(self.update(0)), client.run(self.update(1))),
            "BEGIN, two UPDATEs, COMMIT on one shard": lambda: self.block(client, 0, 0),
            "BEGIN, two UPDATEs, COMMIT over two shards": lambda: self.block(client, 0, 1),
            "the same with best_effort": lambda: self.block(self.loose, 0, 1),
            "the same by hand, with PREPARE TRANSACTION": self.by_hand,
            "INSERT": lambda: client.run(self.insert("plain")),
            "INSERT, table with a unique global index": lambda: client.run(self.insert("indexed")),
            "SELECT by key": lambda: client.run(f"SELECT n FROM t WHERE k = {random.randint(1, ROWS)}"),
            "SELECT by the global index": lambda: client.run(self.select("indexed")),
            "SELECT by that column without it, on all shards": lambda: client.run(self.select("plain")),
            "SELECT max(k), on all shards": lambda: client.run("SELECT max(k) FROM t"),
            "the same with read_snapshot = 'cluster'": lambda: self.moment.run("SELECT max(k) FROM t"),
        }

    def block(self, client, *shards):
        client.run("BEGIN")
        for shard in shards:
            client.run(self.update(shard))
        client.run("COMMIT")

    def by_hand(self):
        self.named += 1
        for sql in ("BEGIN", None, f"PREPARE TRANSACTION 'by_hand_{self.named}'", f"COMMIT PREPARED 'by_hand_{self.named}'"):
            for shard, hand in enumerate(self.hands):
                hand.send(sql or self.update(shard))
            for hand in self.hands:
                hand.wait()

    def insert(self, table):
        self.next += 1
        return f"INSERT INTO {table} VALUES ({self.next}, '{self.next}@x')"

    def select(self, table):
        return f"SELECT k FROM {table} WHERE mail = '{random.randint(1, ROWS)}@x'"


def report(found):
    print("\n| | ms | quarters |\n|---|---|---|")
    for name, took in found.items():
        low, middle, high = statistics.quantiles(took, n=4)
        print(f"| {name} | {middle:.2f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main()
