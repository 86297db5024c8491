#!/usr/bin/env python3
"""User-side instructions per transaction, by function, counted by callgrind: exact where a clock only guesses.

  bench/instructions.py --drover target/dist/drover
  bench/instructions.py --proxies drover --modes simple --clients 8 --top 60 --keep /var/tmp/profile

Starts PostgreSQL, and under valgrind PgBouncer and Drovers with one worker, all with a pool of 10, and drives them with
pgbench as bench/pooler.py does. Each cell is a short run and one three times as long; what both have in common (logging in,
filling caches) is gone from the difference. `connect` is pgbench -C: instructions per connection, SCRAM, one statement each.

Counts do not depend on how busy the machine is, but a proxy under valgrind is slow, so it finds more work each time it
looks and waits less often than at full speed.
What the kernel does is not in here at all. Needs valgrind, PostgreSQL's binaries and PgBouncer.
"""

import argparse
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import pooler

SHORT, LONG = 1000, 3000  # transactions per run, all clients together
LOGINS = 200
TOTAL = ("", "")


def main():
    options = arguments()
    os.environ["PGPASSWORD"] = pooler.PASSWORD
    work = pathlib.Path(tempfile.mkdtemp(prefix="drover-bench-"))
    work.chmod(0o755)
    running = []
    try:
        (work / "point.sql").write_text(pooler.SCRIPT)
        proxies = start_all(options, work, running)
        totals = {}
        for mode in options.modes:
            for clients in [8] if mode == "connect" else options.clients:
                for name, proxy in proxies.items():
                    if name == "pgbouncer" and mode == "prepared":
                        continue  # 1.18 has none in transaction mode
                    functions = measure(options, work, proxy, mode, clients)
                    total = totals[mode, clients, name] = functions.pop(TOTAL)
                    print(f"\n## {name}, {mode}, {clients} clients: {total:,.0f} instructions\n", flush=True)
                    show(functions, options)
        print("\n| mode | clients | " + " | ".join(proxies) + " |\n|---|---|" + "---|" * len(proxies))
        for mode, clients in dict.fromkeys((mode, clients) for mode, clients, _ in totals):
            cells = (totals.get((mode, clients, name)) for name in proxies)
            print(f"| {mode} | {clients} | " + " | ".join(f"{cell:,.0f}" if cell else "" for cell in cells) + " |")
    finally:
        for process in reversed(running):
            pooler.stop(process)
        if options.keep:
            shutil.copytree(work, options.keep, ignore=shutil.ignore_patterns("postgres*"), dirs_exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drover", default="target/dist/drover", help="the binary (default target/dist/drover)")
    parser.add_argument("--proxies", default="pgbouncer,drover,drover-sharded", help="which to measure")
    parser.add_argument("--modes", default="simple,extended,prepared,connect", help="pgbench -M modes, and connect")
    parser.add_argument("--clients", default="8,64", help="client counts (default 8,64)")
    parser.add_argument("--top", type=int, default=25, help="functions to list (default 25)")
    parser.add_argument("--files", action="store_true", help="list inlined code by the file it comes from")
    parser.add_argument("--keep", help="copy callgrind's files to this folder")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--bin", default=pooler.find_binaries(), help="folder of PostgreSQL's binaries")
    options = parser.parse_args()
    options.proxies, options.modes = options.proxies.split(","), options.modes.split(",")
    options.clients = [int(text) for text in options.clients.split(",")]
    if not pathlib.Path(options.drover).exists():
        parser.error(f"{options.drover} is missing: cargo build --profile dist -p drover")
    return options


def start_all(options, work, running):
    first, second = (pooler.start_postgres(options, work, running, f"postgres{n}") for n in (1, 2))
    direct = pooler.url_of(first, "plain")
    pooler.load(options, direct)
    verifier = pooler.scram_verifier(direct)
    valgrind = work / "callgrind"
    valgrind.mkdir()
    valgrind.chmod(0o777)
    pooler.launch = under_callgrind(pooler.launch, valgrind)
    proxies = {}
    if "pgbouncer" in options.proxies:
        proxies["pgbouncer"] = pooler.start_pgbouncer(work, running, "pgbouncer", first, "transaction", pooler.POOL, verifier)
    if "drover" in options.proxies:
        proxies["drover"] = pooler.start_drover(options, work, running, "drover", [first], "plain", 1)
    if "drover-sharded" in options.proxies:
        proxy = pooler.start_drover(options, work, running, "drover-sharded", [first, second], "sharded", 1)
        pooler.load(options, proxy["url"])
        pooler.psql(proxy["url"], "SELECT drover.shard_table('pgbench_accounts', key => 'aid')")
        proxies["drover-sharded"] = proxy
    return proxies


def under_callgrind(launch, folder):
    def launched(work, running, name, command, **how):
        # Named at each dump by the process and the number of the dump.
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out.%p", "--separate-threads=yes"]
        return launch(work, running, name, tool + [str(word) for word in command], **how)
    return launched


def measure(options, work, proxy, mode, clients):
    """Instructions per transaction by (file, function)."""
    if mode == "connect":
        count, spent = run(options, work, proxy, "simple", clients, LOGINS, "-C")
        return {where: value / count for where, value in spent.items()}
    run(options, work, proxy, mode, clients, SHORT // 2)
    short, less = run(options, work, proxy, mode, clients, SHORT)
    long, more = run(options, work, proxy, mode, clients, LONG)
    return {where: (more[where] - less[where]) / (long - short) for where in more.keys() | less.keys()}


def run(options, work, proxy, mode, clients, transactions, *more):
    control(proxy, "--zero")
    per_client = max(transactions // clients, 1)
    count, _ = pooler.pgbench(options, work, proxy["url"], mode, clients, *more, seconds=600, length=("-t", str(per_client)))
    before = dumps(work, proxy)
    control(proxy, "--dump")
    # What other threads do now and then has nothing to do with the load.
    return count, max(map(annotated, dumps(work, proxy) - before), key=lambda thread: thread[TOTAL])


def control(proxy, what):
    # Valgrind answers to the user it runs as, and to nobody else.
    who = pooler.unprivileged() if proxy["name"] == "pgbouncer" else {}
    command = ["callgrind_control", what, str(proxy["pid"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", **who)
    if done.returncode or "OK" not in done.stdout:
        sys.exit(f"callgrind_control {what}: {done.stdout}{done.stderr}")


def dumps(work, proxy):
    return set((work / "callgrind").glob(f"out.{proxy['pid']}.*-*"))


def annotated(path):
    """Instructions of one dump by (file, function), their callees not included, and TOTAL."""
    found = collections.Counter()
    command = ["callgrind_annotate", "--auto=no", "--threshold=100", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        if match := re.match(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(?:PROGRAM TOTALS|([^:]*):(.+?)(?: \[[^]]*\])?)$", line):
            found[(match[2], match[3]) if match[3] else TOTAL] += int(match[1].replace(",", ""))
    # What was running when counting began is given the cost of everything it called.
    return collections.Counter({where: value for where, value in found.items() if where == TOTAL or value < found[TOTAL] * 0.4})


def show(functions, options):
    """The largest parts: by function, or also by the file that inlined code comes from."""
    parts = collections.Counter()
    for (file, function), value in functions.items():
        parts["/".join(pathlib.PurePath(file).parts[-3:]) if options.files else "", function] += value
    print("| instructions | function | file |\n|---|---|---|" if options.files else "| instructions | function |\n|---|---|")
    for (file, function), value in parts.most_common(options.top):
        print(f"| {value:.0f} | `{function[:120]}` |" + (f" {file} |" if options.files else ""))


if __name__ == "__main__":
    main()
