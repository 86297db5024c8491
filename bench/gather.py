#!/usr/bin/env python3
"""What it costs to bring rows of four shards together: gathered, and in order.

  bench/gather.py --drover PATH           a million rows, nine repetitions
  bench/gather.py --drover PATH --quick   a tenth of it, three times

Starts `drover dev` with four shards. *Gather*: a statement whose million rows of (bigint, int) travel to the server that finishes it, beside
`psql -c 'COPY … TO STDOUT' | psql -c 'COPY … FROM STDIN'` of as many rows from one shard's server to another's, in turns. *Order*: `ORDER BY …
LIMIT 10` over the four shards, beside four clients that ask their shard's server directly for its ten rows, at once: the mean time of a
statement by pgbench. CPU is that of the Drover process and of all processes of the servers; memory is the largest that Drover had.
"""

import argparse
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import pooler
import servers

SHARDS = 4
GATHERED = "SELECT count(*), sum(n.k), max(t.v) FROM narrow n LEFT JOIN tiny t ON t.k = n.v"
ORDERED = "SELECT k, v FROM narrow ORDER BY k DESC LIMIT 10"


def main():
    options = arguments()
    work = pathlib.Path(tempfile.mkdtemp(prefix="drover-gather-"))
    work.chmod(0o755)
    running = []
    try:
        cluster = Cluster(options, work, running)
        print(f"{time.strftime('%Y-%m-%d')}, {options.rows:,} rows, {options.repeats} repetitions in turns, medians\n")
        gathered(options, cluster)
        ordered(options, work, cluster)
    finally:
        for process in reversed(running):
            pooler.stop(process)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drover", default="target/dist/drover", help="the binary (default target/dist/drover)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, three repetitions")
    parser.add_argument("--rows", type=int, help="rows of the table (default 1,000,000)")
    parser.add_argument("--repeats", type=int, help="interleaved repetitions (default 9)")
    parser.add_argument("--bin", default=pooler.find_binaries(), help="folder of PostgreSQL's binaries")
    options = parser.parse_args()
    options.rows = options.rows or (100_000 if options.quick else 1_000_000)
    options.repeats = options.repeats or (3 if options.quick else 9)
    if not pathlib.Path(options.drover).exists():
        parser.error(f"{options.drover} is missing: cargo build --profile dist -p drover")
    return options


class Cluster:
    """A development cluster with a table over its shards, and plain tables on their servers."""

    def __init__(self, options, work, running):
        self.bin, self.rows = options.bin, options.rows
        port, folder = pooler.free_port(), work / "dev"
        command = [options.drover, "dev", "--shards", str(SHARDS), "--replicas", "0", "--dir", folder]
        command += ["--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{pooler.free_port()}"]
        self.process = pooler.launch(work, running, "drover", command)
        self.drover = f"postgresql://drover:drover@127.0.0.1:{port}/app"
        pooler.wait_for(work, "drover", self.process, self.drover, 120)
        known = servers.of_dev(folder)
        self.postmasters = [pid for _, pid in known]
        self.shards = [f"{url}/direct" for url, _ in known]
        source = f"SELECT g, g % 1000 FROM generate_series(1, {self.rows}) g"
        self.run(self.drover, "CREATE TABLE narrow (k bigint PRIMARY KEY, v int) WITH (drover.shard_key = 'k')")
        self.run(self.drover, "CREATE TABLE tiny (k int, v int); INSERT INTO tiny VALUES (1, 10), (2, 20)")
        self.run(self.drover, f"INSERT INTO narrow {source}")
        for at, (url, _) in enumerate(known):
            self.run(f"{url}/postgres", "CREATE DATABASE direct")
            self.run(self.shards[at], f"CREATE TABLE narrow (k bigint PRIMARY KEY, v int); INSERT INTO narrow SELECT * FROM ({source}) x WHERE g % 4 = {at}; CREATE TABLE copied (k bigint, v int)")
            self.run(self.shards[at], "VACUUM ANALYZE narrow")
        self.run(self.shards[0], f"CREATE TABLE whole AS {source.replace('g,', 'g AS k,').replace('1000 FROM', '1000 AS v FROM')}")
        self.run(self.drover, "ANALYZE narrow")

    def run(self, url, sql):
        command = [f"{self.bin}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def copy(self):
        """All rows from one server to another."""
        psql = [f"{self.bin}/psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d"]
        source = subprocess.Popen([*psql, self.shards[0], "-c", "COPY whole TO STDOUT"], stdout=subprocess.PIPE)
        target = subprocess.Popen([*psql, self.shards[1], "-c", "COPY copied FROM STDIN"], stdin=source.stdout)
        source.stdout.close()
        if target.wait() or source.wait():
            sys.exit("the copy failed")


def memory(pid):
    fields = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in fields if line.startswith("VmHWM")) / 1024


def timed(cluster, work):
    used = lambda: (servers.cpu_seconds(cluster.postmasters), sum(pooler.cpu_seconds(cluster.process.pid)))
    before, started = used(), time.monotonic()
    work()
    wall, after = time.monotonic() - started, used()
    return wall, after[0] - before[0], after[1] - before[1]


def gathered(options, cluster):
    progress = pooler.Progress("gather", 2 * options.repeats)
    found = {"gather": [], "COPY | COPY": []}
    before = memory(cluster.process.pid)
    for repeat in range(options.repeats):
        for how in list(found) if repeat % 2 == 0 else list(found)[::-1]:
            if how == "gather":
                found[how].append(timed(cluster, lambda: cluster.run(cluster.drover, GATHERED)))
            else:
                found[how].append(timed(cluster, cluster.copy))
                cluster.run(cluster.shards[1], "TRUNCATE copied")
            progress.step(f"{how} {cluster.rows / found[how][-1][0] / 1e3:.0f} k rows/s")
    print("| | wall, s | rows/s | servers' CPU, s | Drover's CPU, s |\n|---|---|---|---|---|")
    middle = {how: [statistics.median(run[at] for run in runs) for at in range(3)] for how, runs in found.items()}
    for how, (wall, of_servers, drover) in middle.items():
        print(f"| {how} | {wall:.2f} | {cluster.rows / wall:,.0f} | {of_servers:.2f} | {drover:.2f} |")
    ratio = middle["COPY | COPY"][0] / middle["gather"][0]
    print(f"\nGather at {ratio:.2f} of the copy's speed (goal 0.60); memory {before:.0f} MiB before, {memory(cluster.process.pid):.0f} MiB at most.")


def ordered(options, work, cluster):
    script = work / "ordered.sql"
    script.write_text(ORDERED + ";\n")
    script.chmod(0o644)
    command = [f"{cluster.bin}/pgbench", "-n", "-c", "1", "-j", "1", "-T", "2", "-f", script]
    start = lambda url: subprocess.Popen([*command, url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = {"drover": [], "direct": []}
    for repeat in range(options.repeats):
        for how in ("drover", "direct") if repeat % 2 == 0 else ("direct", "drover"):
            urls = [cluster.drover] if how == "drover" else cluster.shards
            outputs = [process.communicate()[0] for process in [start(url) for url in urls]]
            times = [float(re.search(r"latency average = ([0-9.]+) ms", output).group(1)) for output in outputs]
            found[how].append(statistics.mean(times))
    drover, direct = (statistics.median(found[how]) for how in ("drover", "direct"))
    print(f"\n`{ORDERED}`: {drover:.3f} ms over four shards, {direct:.3f} ms by each of four clients at their own: {drover / direct:.2f} (goal 1.30)")


main()
