#!/usr/bin/env python3
"""TPC-H on four shards beside one PostgreSQL: the same rows, and what it costs.

  bench/tpch.py --drover PATH [--scale 0.01] [--repeats 3] [--only 2,17]

Starts `drover dev` with four shards and one plain PostgreSQL. lineitem and orders are sharded by order, part and partsupp by part, customer and
supplier by their own keys, nation and region are reference tables. Data and queries come from the generator in DuckDB's Python
package (`pip install duckdb==0.9.2`, which has it built in); nothing of them is in this repository. Tables have their primary keys on both sides.
Each query runs on both; rows are compared in order, text for text. CPU is that of the Drover process and of all server processes, rows and
bytes are those that moved between servers through Drover. Exit status 1 if a query is refused or differs.
"""

import argparse
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import pooler
import servers

KEYS = {
    "lineitem": ("l_orderkey", None),
    "orders": ("o_orderkey", "lineitem"),
    "partsupp": ("ps_partkey", None),
    "part": ("p_partkey", "partsupp"),
    "customer": ("c_custkey", None),
    "supplier": ("s_suppkey", None),
}
REFERENCE = ("nation", "region")
PRIMARY = {
    "lineitem": "l_orderkey, l_linenumber",
    "orders": "o_orderkey",
    "partsupp": "ps_partkey, ps_suppkey",
    "part": "p_partkey",
    "customer": "c_custkey",
    "supplier": "s_suppkey",
    "nation": "n_nationkey",
    "region": "r_regionkey",
}
# Columns of drover.queries.
MOVED = (15, 16)
TYPES = {"BIGINT": "bigint", "INTEGER": "integer", "VARCHAR": "text", "DATE": "date"}


def main():
    options = arguments()
    work = pathlib.Path(tempfile.mkdtemp(prefix="drover-tpch-"))
    work.chmod(0o755)
    running = []
    try:
        tables, queries = generate(options, work)
        pair = Pair(options, work, running)
        pair.load(tables)
        return report(options, pair, queries)
    finally:
        for process in reversed(running):
            pooler.stop(process)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drover", default="target/dist/drover", help="the binary (default target/dist/drover)")
    parser.add_argument("--scale", type=float, default=0.01, help="scale factor (default 0.01: 60,000 lines)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each query on each side, in turns (default 3)")
    parser.add_argument("--only", help="numbers of queries, separated by commas")
    parser.add_argument("--bin", default=pooler.find_binaries(), help="folder of PostgreSQL's binaries")
    options = parser.parse_args()
    if not pathlib.Path(options.drover).exists():
        parser.error(f"{options.drover} is missing: cargo build --profile dist -p drover")
    return options


def generate(options, work):
    """Tables as (name, columns, file), and the queries."""
    try:
        import duckdb
    except ImportError:
        sys.exit("the generator is missing: pip install duckdb==0.9.2")
    generator = duckdb.connect()
    generator.execute("LOAD tpch")
    generator.execute(f"CALL dbgen(sf={options.scale})")
    tables = []
    for name in (*REFERENCE, *KEYS):
        columns = generator.execute(f"DESCRIBE {name}").fetchall()
        path = work / f"{name}.csv"
        generator.execute(f"COPY {name} TO '{path}' (HEADER false)")
        path.chmod(0o644)
        tables.append((name, [(column[0], postgres_type(column[1])) for column in columns], path))
    queries = generator.execute("SELECT query_nr, query FROM tpch_queries()").fetchall()
    wanted = options.only and {int(number) for number in options.only.split(",")}
    return tables, [(number, text) for number, text in queries if not wanted or number in wanted]


def postgres_type(name):
    return TYPES.get(name, name.lower().replace("decimal", "numeric"))


class Pair:
    """A cluster and a plain server with the same tables."""

    def __init__(self, options, work, running):
        self.psql = f"{options.bin}/psql"
        self.servers = []
        port = pooler.free_port()
        folder = work / "dev"
        command = [options.drover, "dev", "--shards", "4", "--replicas", "0", "--dir", folder]
        command += ["--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{pooler.free_port()}"]
        self.drover = pooler.launch(work, running, "drover", command)
        self.through = f"postgresql://drover:drover@127.0.0.1:{port}/app"
        pooler.wait_for(work, "drover", self.drover, self.through, 120)
        self.plain = pooler.url_of(pooler.start_postgres(options, work, running, "plain"), "plain")
        self.postmasters = {
            self.through: [pid for _, pid in servers.of_dev(folder)],
            self.plain: [servers.postmaster(work / "plain" / "data")],
        }

    def run(self, url, sql, **more):
        command = [self.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url]
        return subprocess.run(command, input=sql, capture_output=True, text=True, **more)

    def must(self, url, sql):
        done = self.run(url, sql)
        if done.returncode != 0:
            sys.exit(f"{sql[:200]}: {done.stderr}")

    def moved(self):
        """Rows and bytes that moved since this was asked last."""
        found = self.run(self.through, "SELECT * FROM drover.queries").stdout
        self.must(self.through, "SELECT drover.queries_reset()")
        rows = [line.split("|") for line in found.splitlines()]
        return [sum(int(row[at]) for row in rows if len(row) > at) for at in MOVED]

    def load(self, tables):
        for name, columns, path in tables:
            started = time.monotonic()
            listed = ", ".join(f"{column} {kind} NOT NULL" for column, kind in columns)
            listed += f", PRIMARY KEY ({PRIMARY[name]})"
            for url in (self.plain, self.through):
                self.must(url, f"CREATE TABLE {name} ({listed})")
            if name in REFERENCE:
                self.must(self.through, f"SELECT drover.reference_table('{name}')")
            else:
                key, beside = KEYS[name]
                beside = f", colocate_with => '{beside}'" if beside else ""
                self.must(self.through, f"SELECT drover.shard_table('{name}', key => '{key}'{beside})")
            for url in (self.plain, self.through):
                self.must(url, f"\\copy {name} FROM '{path}' (FORMAT csv)")
                self.must(url, f"ANALYZE {name}")
            self.must(self.through, "SELECT drover.queries_reset()")
            print(f"loaded {name} in {time.monotonic() - started:.1f} s", file=sys.stderr)


def report(options, pair, queries):
    print(f"{time.strftime('%Y-%m-%d')}, scale {options.scale}, {options.repeats} runs of each in turns, medians")
    print("| query | rows | one PostgreSQL: ms | its CPU, ms | four shards: ms | their CPU, ms | Drover's CPU, ms | rows moved | KiB moved | tier | |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    failed = 0
    for number, text in queries:
        plain, through = [], []
        for _ in range(options.repeats):
            plain.append(timed(pair, pair.plain, text))
            through.append(timed(pair, pair.through, text))
        expected, found = plain[0]["answer"], through[0]["answer"]
        same = expected.returncode == 0 and found.returncode == 0 and expected.stdout == found.stdout
        verdict = "same" if same else found.stderr.strip().split("\n")[0] or "DIFFERS"
        failed += not same
        tier = pair.run(pair.through, f"EXPLAIN (ROUTE) {text}").stdout.split("\n")[0].removeprefix("Tier: ")
        middle = lambda side, field: f"{statistics.median(run[field] for run in side) * 1000:.0f}"
        moved = pair.moved()
        cells = [number, expected.stdout.count("\n"), middle(plain, "wall"), middle(plain, "servers")]
        cells += [middle(through, "wall"), middle(through, "servers"), middle(through, "drover")]
        cells += [f"{moved[0] / options.repeats:.0f}", f"{moved[1] / options.repeats / 1024:.0f}", tier, verdict]
        print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)
    print(f"\n{len(queries) - failed} of {len(queries)} the same")
    return 1 if failed else 0


def timed(pair, url, text):
    used = lambda: (servers.cpu_seconds(pair.postmasters[url]), sum(pooler.cpu_seconds(pair.drover.pid)))
    before, started = used(), time.monotonic()
    done = pair.run(url, text)
    wall, after = time.monotonic() - started, used()
    return {"wall": wall, "servers": after[0] - before[0], "drover": after[1] - before[1], "answer": done}


if __name__ == "__main__":
    sys.exit(main())
