#!/usr/bin/env python3
"""Bulk loads through Drover beside loads straight into the shards.

  bench/bulk.py --drover PATH             10 million rows by COPY, 1 million by INSERT, three times each
  bench/bulk.py --drover PATH --quick     a tenth of it, once
  bench/bulk.py --drover PATH --only carried --rows 10000000      rows from a query, stored on other shards

Starts `drover dev` with four shards. *Through Drover*, one psql (or four at once) loads all rows into a sharded table. *Direct*,
four psql at once load a quarter each into a plain table of every shard's server, past Drover: nobody has to find out which row
belongs where, and no guard looks at them. *Carried*: INSERT … SELECT from a table sharded by one column into one sharded by
another; direct, the servers copy a quarter each from table to table. The two are measured in turns. CPU is that of the Drover process and of all processes of the four
servers; memory is the largest that Drover had while it loaded.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import pooler

SHARDS = 4

# Kind, rows as a part of --rows, rows of a statement, clients of Drover.
LOADS = {
    "copy": ("COPY", 1, 0, 1),
    "insert": ("INSERT", 10, 1000, 1),
    "long": ("INSERT", 10, 10_000, 1),
    "clients": ("INSERT", 10, 1000, SHARDS),
    "carried": ("CARRIED", 1, 0, 1),
}


def main():
    options = arguments()
    work = pathlib.Path(tempfile.mkdtemp(prefix="drover-bulk-"))
    work.chmod(0o755)
    running = []
    try:
        cluster = Cluster(options, work, running)
        print(headline(options))
        for load in options.only:
            kind, part, of_statement, clients = LOADS[load]
            rows = options.rows // part
            found = measure(options, work, cluster, (kind, of_statement, clients), rows)
            title = kind + (f", {of_statement:,} rows each" if of_statement else "")
            report(title + (f", {clients} clients" if clients > 1 else ""), rows, found)
    finally:
        for process in reversed(running):
            pooler.stop(process)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drover", default="target/dist/drover", help="the binary (default target/dist/drover)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, once")
    parser.add_argument("--rows", type=int, help="rows by COPY; a tenth of them by INSERT (default 10,000,000)")
    parser.add_argument("--only", default="copy,insert,long,clients", help="loads, of " + ", ".join(LOADS))
    parser.add_argument("--repeats", type=int, help="interleaved repetitions (default 3)")
    parser.add_argument("--bin", default=pooler.find_binaries(), help="folder of PostgreSQL's binaries")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if not set(options.only) <= set(LOADS):
        parser.error(f"--only: {', '.join(LOADS)}")
    options.rows = options.rows or (1_000_000 if options.quick else 10_000_000)
    options.repeats = options.repeats or (1 if options.quick else 3)
    if not pathlib.Path(options.drover).exists():
        parser.error(f"{options.drover} is missing: cargo build --profile dist -p drover")
    return options


def headline(options):
    version = subprocess.run([f"{options.bin}/postgres", "--version"], capture_output=True, text=True).stdout.strip()
    return (
        f"{time.strftime('%Y-%m-%d')}, {version}, kernel {os.uname().release}, {os.cpu_count()} CPUs shared by psql, "
        f"PostgreSQL and Drover, load {os.getloadavg()[0]:.1f} before; {options.repeats} repetitions in turns, medians."
    )


class Cluster:
    """A development cluster, with a sharded table behind Drover and a plain one on each server."""

    def __init__(self, options, work, running):
        self.psql = f"{options.bin}/psql"
        port, folder = pooler.free_port(), work / "dev"
        command = [options.drover, "dev", "--shards", str(SHARDS), "--replicas", "0", "--dir", folder]
        command += ["--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{pooler.free_port()}"]
        self.process = pooler.launch(work, running, "drover", command)
        self.drover = f"postgresql://drover:drover@127.0.0.1:{port}/app"
        pooler.wait_for(work, "drover", self.process, self.drover, 120)
        known = json.loads((folder / "drover-dev.json").read_text())["cluster"]
        admin = f"postgresql://{known['admin_user']}:{known['admin_password']}@127.0.0.1"
        servers = [shard["primary"] for shard in known["shards"]]
        self.postmasters = [
            int((pathlib.Path(server["data_dir"]) / "postmaster.pid").read_text().split()[0]) for server in servers
        ]
        self.shards = []
        for server in servers:
            self.run(f"{admin}:{server['port']}/postgres", "CREATE DATABASE direct")
            self.shards.append(f"{admin}:{server['port']}/direct")
            self.run(self.shards[-1], "CREATE TABLE narrow (k bigint, v int); CREATE TABLE source (k bigint, v int)")
        self.run(self.drover, "CREATE TABLE narrow (k bigint, v int) WITH (drover.shard_key = 'k')")
        self.run(self.drover, "CREATE TABLE source (k bigint, v int) WITH (drover.shard_key = 'v')")

    def run(self, url, sql):
        command = [self.psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def load(self, url, kind, path):
        """A psql that loads a file."""
        carried = "INSERT INTO narrow SELECT k, v FROM source"
        how = {"COPY": ["-c", f"\\copy narrow from '{path}'"], "CARRIED": ["-c", carried], "INSERT": ["-f", path]}[kind]
        command = [self.psql, "-Xq", "-v", "ON_ERROR_STOP=1", "-d", url, *how]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def servers_cpu(self):
        """CPU seconds of all processes of all servers, those that ended included."""
        total = 0.0
        parents = {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = (int(fields[1]), sum(int(field) for field in fields[11:13]), fields)
        for pid, (parent, ticks, fields) in parents.items():
            if pid in self.postmasters:
                ticks += int(fields[13]) + int(fields[14])
            elif parent not in self.postmasters:
                continue
            total += ticks / pooler.TICK
        return total


def write_rows(path, kind, of_statement, numbers):
    of_statement = of_statement or 1000
    with open(path, "w") as out:
        for start in range(numbers.start, numbers.stop, of_statement):
            out.write(block(kind, range(start, min(start + of_statement, numbers.stop))))


def block(kind, numbers):
    if kind == "INSERT":
        rows = ",".join(f"({number},{number % 1000})" for number in numbers)
        return f"INSERT INTO narrow VALUES {rows};\n"
    return "".join(f"{number}\t{number % 1000}\n" for number in numbers)


def measure(options, work, cluster, load, rows):
    kind, of_statement, clients = load
    if kind == "CARRIED":
        # Twice one thousand values of the key: every shard has some.
        for url, most in [(cluster.drover, rows)] + [(url, rows // SHARDS) for url in cluster.shards]:
            cluster.run(url, f"INSERT INTO source SELECT g, g % 2000 FROM generate_series(1, {most}) g")
    paths = {}
    for how, parts in (("drover", clients), ("direct", SHARDS)):
        paths[how] = [work / f"{kind}.{how}.{at}" for at in range(parts)]
        for at, path in enumerate(paths[how]):
            if kind != "CARRIED":
                write_rows(path, kind, of_statement, range(rows * at // parts, rows * (at + 1) // parts))
    progress = pooler.Progress(kind, 2 * options.repeats)
    found = {"drover": [], "direct": []}
    for repeat in range(options.repeats):
        for how in ("drover", "direct") if repeat % 2 == 0 else ("direct", "drover"):
            urls = [cluster.drover] * clients if how == "drover" else cluster.shards
            row = one(cluster, kind, list(zip(urls, paths[how])))
            found[how].append(row)
            check(cluster, how, rows)
            progress.step(f"{how} {rows / row['wall'] / 1e3:.0f} k rows/s")
    for path in paths["drover"] + paths["direct"]:
        path.unlink(missing_ok=True)
    return found


def one(cluster, kind, loads):
    peak = Peak(cluster.process.pid)
    before, servers = pooler.cpu_seconds(cluster.process.pid), cluster.servers_cpu()
    start = time.monotonic()
    processes = [cluster.load(url, kind, path) for url, path in loads]
    if any([process.wait() for process in processes]):
        sys.exit(f"{kind}: a load failed")
    wall = time.monotonic() - start
    after = pooler.cpu_seconds(cluster.process.pid)
    return {
        "wall": wall, "drover": sum(after) - sum(before), "servers": cluster.servers_cpu() - servers, "memory": peak.stop(),
    }


class Peak:
    """The largest resident memory of a process while this lives, less what it had before."""

    def __init__(self, pid):
        self.pid, self.ended = pid, threading.Event()
        self.before = self.most = self.now()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def now(self):
        fields = pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in fields if line.startswith("VmRSS")) / 1024

    def watch(self):
        while not self.ended.wait(0.05):
            self.most = max(self.most, self.now())

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.before, self.most


def check(cluster, how, rows):
    urls = [cluster.drover] if how == "drover" else cluster.shards
    found = sum(int(cluster.run(url, "SELECT count(*) FROM narrow")) for url in urls)
    if found != rows:
        sys.exit(f"{how}: {found} rows of {rows}")
    for url in urls:
        cluster.run(url, "TRUNCATE narrow")


def report(kind, rows, found):
    million = rows / 1e6
    middle = lambda how, field: statistics.median(row[field] for row in found[how])
    ratio = middle("direct", "wall") / middle("drover", "wall")
    print(f"\n**{kind}, {rows:,} rows** of (bigint, int)\n")
    print("| | wall, s | rows/s | Drover's CPU, s per million rows | servers' CPU, s per million rows |\n|---|---|---|---|---|")
    for how in ("drover", "direct"):
        wall = middle(how, "wall")
        own = f"{middle(how, 'drover') / million:.2f}" if how == "drover" else ""
        print(f"| {how} | {wall:.1f} | {rows / wall:,.0f} | {own} | {middle(how, 'servers') / million:.2f} |")
    before, most = max((row["memory"] for row in found["drover"]), key=lambda pair: pair[1] - pair[0])
    share = middle("drover", "drover") / middle("drover", "servers")
    print(
        f"\nSpeed {ratio:.2f} of direct (goal 0.60); Drover's CPU {share:.2f} of the servers' (goal 0.50); "
        f"memory {before:.0f} MiB before, {most:.0f} MiB at most."
    )


main()
