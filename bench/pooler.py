#!/usr/bin/env python3
"""What a transaction costs in Drover, next to PgBouncer, in one interleaved run.

  bench/pooler.py                everything, about 45 minutes
  bench/pooler.py --quick        the same cells, few and short repetitions: a few minutes, wide intervals
  bench/pooler.py --only cpu     one part (cpu, calls, connect, latency; several with commas)

Starts PostgreSQL, PgBouncer and several Drovers of its own, all with pools of 10 connections to the same server, and
drives them with pgbench: one SELECT by primary key per transaction.

cpu       the proxy's CPU time divided by the transactions, per protocol mode and number of clients. Each repetition
          measures every proxy directly after the other, in a changing order; a ratio is the mean of the repetitions' log
          ratios with its 95 % interval (Student's t).
calls     system calls per transaction: the hard gate, because counts do not depend on how noisy the machine is.
connect   CPU time of a transaction with a connection of its own (pgbench -C), both proxies asking for SCRAM.
latency   pgbench at a fixed rate of half the load: p50 and p99 through each proxy, less those without any.

What is compared: `drover` has its default number of workers and an unsharded database; `drover-1` has one worker;
`drover-sharded` routes by the key of a sharded table over two servers; `pgbouncer` pools transactions, for `prepared` it
has a session pool as large as the load (before 1.21 it has no prepared statements in transaction mode).

Needs Python's standard library, PostgreSQL's binaries, PgBouncer, and perf or strace for the system calls. Works as root
(the servers then run as the unprivileged user "postgres"). The exit status is 1 when a limit is not met.
"""

import argparse
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")
SCRIPT = "\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
POOL = 10
PASSWORD = "bench"
# Upper ends of the intervals: (proxy, clients) -> CPU relative to PgBouncer's.
CPU_LIMITS = {("drover", 8): 1.0, ("drover", 64): 0.9, ("drover-sharded", 8): 1.15, ("drover-sharded", 64): 1.15}
CALL_LIMITS = {8: 4.3, 64: 4.5}
# Two-sided 95 % quantiles of Student's t by degrees of freedom.
STUDENT = [0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09]


def main():
    options = arguments()
    os.environ["PGPASSWORD"] = PASSWORD
    work = pathlib.Path(tempfile.mkdtemp(prefix="drover-bench-"))
    work.chmod(0o755)
    running = []
    try:
        (work / "point.sql").write_text(SCRIPT)
        proxies = start_all(options, work, running)
        parts = {"cpu": cpu_part, "calls": calls_part, "connect": connect_part, "latency": latency_part}
        print(headline(options))
        missed = [line for name in options.only for line in parts[name](options, work, proxies)]
        print("\n" + ("\n".join(f"MISSED: {line}" for line in missed) or "Every limit is met."))
        return 1 if missed else 0
    finally:
        for process in reversed(running):
            stop(process)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drover", default="target/release/drover", help="the binary (default target/release/drover)")
    parser.add_argument("--quick", action="store_true", help="3 repetitions of 2 s instead of 12 of 5 s")
    parser.add_argument("--only", default="cpu,calls,connect,latency", help="parts (default all)")
    parser.add_argument("--proxies", default="pgbouncer,drover,drover-1,drover-sharded", help="which to measure")
    parser.add_argument("--clients", default="8,64", help="client counts (default 8,64)")
    parser.add_argument("--modes", default="simple,extended,prepared", help="pgbench -M modes (default all three)")
    parser.add_argument("--repeats", type=int, help="interleaved repetitions")
    parser.add_argument("--seconds", type=int, help="per measurement (CPU clocks tick every 10 ms)")
    parser.add_argument("--scale", type=int, default=1, help="pgbench scale (default 1: 100,000 rows)")
    parser.add_argument("--rate", type=int, help="transactions per second for latency (default: half of the slowest)")
    parser.add_argument("--bin", default=find_binaries(), help="folder of PostgreSQL's binaries")
    parser.add_argument("--raw", help="append every measurement of CPU time to this file as CSV")
    options = parser.parse_args()
    options.repeats = options.repeats or (3 if options.quick else 12)
    options.seconds = options.seconds or (2 if options.quick else 5)
    options.clients = [int(text) for text in options.clients.split(",")]
    for name in ("only", "proxies", "modes"):
        setattr(options, name, getattr(options, name).split(","))
    if not pathlib.Path(options.drover).exists():
        parser.error(f"{options.drover} is missing: cargo build --release -p drover")
    return options


def find_binaries():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return str(found[-1].parent) if found else os.path.dirname(shutil.which("initdb") or "")


def headline(options):
    version = lambda *command: subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0]
    return (
        f"{time.strftime('%Y-%m-%d')}, {version(options.bin + '/postgres', '--version')}, "
        f"{version(pgbouncer_binary(), '--version')}, kernel {os.uname().release}, {os.cpu_count()} CPUs shared by "
        f"pgbench, PostgreSQL and the proxy, load {os.getloadavg()[0]:.1f} before; {options.repeats} × {options.seconds} s "
        f"interleaved, pool of {POOL}, pgbench scale {options.scale}, -j 1."
    )


class Progress:
    """Says on standard error how far a part is and when it will be done."""

    def __init__(self, part, total):
        self.part, self.total, self.done, self.start = part, total, 0, time.monotonic()

    def step(self, text):
        self.done += 1
        left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
        print(f"# {self.part} {self.done}/{self.total}, {left / 60:.1f} min left: {text}", file=sys.stderr, flush=True)


# --- servers ----------------------------------------------------------------------------------------------------


def unprivileged():
    """Keyword arguments that make a child run as "postgres" when this runs as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def own(path):
    path.mkdir()
    if os.geteuid() == 0:
        shutil.chown(path, "postgres", "postgres")
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(work, running, name, command, **how):
    """Starts a server in a session of its own, as a service manager does. Linux gives each session a fair share of a
    CPU (autogroups): in one session with pgbench a proxy is woken for every single event, and the counts of one proxy differ
    by half from run to run."""
    with open(work / f"{name}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **how)
    running.append(process)
    return process


def wait_for(work, name, process, url, seconds=30):
    deadline = time.monotonic() + seconds
    while subprocess.run(["psql", "-XAtqc", "SELECT 1", url], capture_output=True).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{name} does not answer:\n{(work / f'{name}.log').read_text()}")
        time.sleep(0.1)


def url_of(port, database, user="bench"):
    return f"postgresql://{user}@127.0.0.1:{port}/{database}"


def start_postgres(options, work, running, name, superuser="bench"):
    folder, port = own(work / name), free_port()
    initdb = [f"{options.bin}/initdb", "-D", folder / "data", "-U", superuser, "--auth=trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **unprivileged())
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "max_connections": 300,
        "fsync": "off", "logging_collector": "off", "max_prepared_transactions": 50,
    }
    command = [f"{options.bin}/postgres", "-D", folder / "data"]
    for key, value in settings.items():
        command += ["-c", f"{key}={value}"]
    process = launch(work, running, name, command, cwd=folder, **unprivileged())
    url = url_of(port, "postgres", superuser)
    wait_for(work, name, process, url)
    for database in ("plain", "sharded"):
        psql(url, f"CREATE DATABASE {database}")
    return port


def psql(url, sql):
    subprocess.run(["psql", "-XAtqc", sql, url], check=True, stdout=subprocess.DEVNULL)


def scram_verifier(url):
    psql(url, f"SET password_encryption = 'scram-sha-256'; ALTER ROLE bench PASSWORD '{PASSWORD}'")
    query = ["psql", "-XAtqc", "SELECT rolpassword FROM pg_authid WHERE rolname = 'bench'", url]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()


def pgbouncer_binary():
    return shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


def start_pgbouncer(work, running, name, server_port, mode, pool_size, verifier=None):
    """`verifier`: what it keeps of the one user's password; without one it believes everybody."""
    folder, port = own(work / name), free_port()
    (folder / "users.txt").write_text(f'"bench" "{verifier or ""}"\n')
    auth = "scram-sha-256" if verifier else "trust"
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\nplain = host=127.0.0.1 port={server_port} dbname=plain\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = {auth}\n"
        f"auth_file = {folder}/users.txt\npool_mode = {mode}\ndefault_pool_size = {pool_size}\nmax_client_conn = 400\n"
        "ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n"
    )
    process = launch(work, running, name, [pgbouncer_binary(), folder / "pgbouncer.ini"], **unprivileged())
    wait_for(work, name, process, url_of(port, "plain"))
    return {"name": "pgbouncer", "url": url_of(port, "plain"), "pid": process.pid}


def start_drover(options, work, running, name, server_ports, database, workers):
    port, folder = free_port(), work / name
    folder.mkdir()
    shards = "".join(
        f'[[shards]]\nname = "shard_{n + 1}"\nprimary = "127.0.0.1:{server}"\n' for n, server in enumerate(server_ports)
    )
    (folder / "drover.toml").write_text(
        f'[proxy]\nlisten = "127.0.0.1:{port}"\nhttp = "127.0.0.1:{free_port()}"\nworkers = {workers}\n'
        f'[store]\npath = "{folder}/state"\n[admin]\nuser = "bench"\npassword = "{PASSWORD}"\n'
        f'[pool]\npool_size = {POOL}\n[[databases]]\nname = "{database}"\n'
        f'[[users]]\nname = "bench"\npassword = "{PASSWORD}"\n{shards}'
    )
    process = launch(work, running, name, [options.drover, "proxy", "--config", folder / "drover.toml"])
    wait_for(work, name, process, url_of(port, database))
    return {"name": name, "url": url_of(port, database), "pid": process.pid}


def start_all(options, work, running):
    """All proxies by name; a proxy may differ by mode."""
    first, second = (start_postgres(options, work, running, f"postgres{n}") for n in (1, 2))
    direct = {"name": "direct", "url": url_of(first, "plain"), "pid": None}
    load(options, direct["url"])
    pgbouncer = start_pgbouncer(work, running, "pgbouncer-transaction", first, "transaction", POOL)
    session = start_pgbouncer(work, running, "pgbouncer-session", first, "session", max(options.clients))
    bouncers = {"prepared": session}
    if "connect" in options.only:
        verifier = scram_verifier(direct["url"])
        bouncers["connect"] = start_pgbouncer(work, running, "pgbouncer-scram", first, "transaction", POOL, verifier)
    proxies = {"direct": lambda mode: direct, "pgbouncer": lambda mode: bouncers.get(mode, pgbouncer)}
    for name, ports, database, workers in (
        ("drover", [first], "plain", 0), ("drover-1", [first], "plain", 1), ("drover-sharded", [first, second], "sharded", 0),
    ):
        if name in options.proxies:
            proxy = start_drover(options, work, running, name, ports, database, workers)
            proxies[name] = lambda mode, proxy=proxy: proxy
            if database == "sharded":
                load(options, proxy["url"])
                psql(proxy["url"], "SELECT drover.shard_table('pgbench_accounts', key => 'aid')")
    for proxy in proxies.values():
        for mode in options.modes:
            # Connections, plans and caches are made before any clock runs.
            pgbench(options, work, proxy(mode)["url"], mode, max(options.clients), length=("-t", "20"))
    return proxies


def load(options, url):
    done = subprocess.run(["pgbench", "-i", "-q", "-s", str(options.scale), url], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pgbench -i failed:\n{done.stderr}")


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- measuring --------------------------------------------------------------------------------------------------


def cpu_seconds(pid):
    """User and system time of a process, all threads, in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICK, int(fields[12]) / TICK


def pgbench(options, work, url, mode, clients, *more, seconds=None, before=(), length=None):
    """Runs pgbench; the number of its transactions and what it said."""
    seconds = seconds or options.seconds
    command = [
        *before, "pgbench", "-n", "-M", mode, "-c", str(clients), "-j", "1", *(length or ("-T", str(seconds))),
        "-D", f"scale={options.scale}", "-f", work / "point.sql", *more, url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, cwd=work)
    text = done.stdout + done.stderr
    counted = re.search(r"transactions actually processed: (\d+)", text)
    failed = re.search(r"number of failed transactions: (\d+)", text)
    if done.returncode or not counted or int(counted.group(1)) == 0 or (failed and int(failed.group(1))):
        sys.exit(f"pgbench -M {mode} -c {clients} {url} failed:\n{text}")
    return int(counted.group(1)), text


def one(options, work, proxy, mode, clients, *more):
    user, system = cpu_seconds(proxy["pid"])
    count, _ = pgbench(options, work, proxy["url"], mode, clients, *more)
    user, system = (after - before for after, before in zip(cpu_seconds(proxy["pid"]), (user, system)))
    return {
        "proxy": proxy["name"], "mode": mode, "clients": clients, "tps": count / options.seconds,
        "user": user / count * 1e6, "system": system / count * 1e6, "cpu": (user + system) / count * 1e6,
    }


def cells(options):
    return [(mode, clients) for mode in options.modes for clients in options.clients]


def cpu_part(options, work, proxies):
    names = [name for name in options.proxies if name in proxies]
    progress = Progress("cpu", options.repeats * len(cells(options)) * len(names))
    rows = []
    for repeat in range(options.repeats):
        for mode, clients in cells(options):
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:
                row = one(options, work, proxies[name](mode), mode, clients)
                rows.append({"repeat": repeat, **row})
                progress.step(f"{name:14} {mode:9} {clients:3} clients {row['tps']:7.0f} tps {row['cpu']:6.2f} µs")
    if options.raw:
        save(options.raw, rows)
    return report_cpu(options, names, rows)


def report_cpu(options, names, rows):
    print("\n## CPU per transaction\n")
    print("| mode | clients | proxy | CPU µs median (min–max) | user / system | TPS | ratio to PgBouncer (95 %) | to one worker (95 %) |")
    print("|---|---|---|---|---|---|---|---|")
    missed = []
    for mode, clients in cells(options):
        here = {name: [row for row in rows if (row["mode"], row["clients"], row["proxy"]) == (mode, clients, name)] for name in names}
        for name, runs in here.items():
            middle = lambda key: statistics.median(row[key] for row in runs)
            cpu = [row["cpu"] for row in runs]
            against = {}
            for base in ("pgbouncer", "drover-1"):
                if base in here and base != name and not (base == "drover-1" and name != "drover"):
                    against[base] = ratio(cpu, [row["cpu"] for row in here[base]])
            limit = CPU_LIMITS.get((name, clients))
            if limit and "pgbouncer" in against and against["pgbouncer"][2] > limit:
                missed.append(f"CPU of {name}, {mode}, {clients} clients: up to {against['pgbouncer'][2]:.2f} × PgBouncer's, limit {limit}")
            print(
                f"| {mode} | {clients} | {name} | {middle('cpu'):.2f} ({min(cpu):.2f}–{max(cpu):.2f}) "
                f"| {middle('user'):.2f} / {middle('system'):.2f} | {middle('tps'):.0f} "
                f"| {shown(against.get('pgbouncer'))} | {shown(against.get('drover-1'))} |"
            )
    return missed


def ratio(ours, theirs):
    """Mean of the pairwise ratios (of their logarithms) with its 95 % interval."""
    logs = [math.log(a / b) for a, b in zip(ours, theirs)]
    middle = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(middle), 0.0, math.inf
    half = STUDENT[min(len(logs) - 1, len(STUDENT) - 1)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return tuple(math.exp(value) for value in (middle, middle - half, middle + half))


def shown(found):
    return f"{found[0]:.2f} ({found[1]:.2f}–{found[2]:.2f})" if found else ""


def save(path, rows):
    new = not os.path.exists(path)
    with open(path, "a") as file:
        if new:
            file.write(",".join(rows[0]) + "\n")
        for row in rows:
            file.write(",".join(str(value) for value in row.values()) + "\n")


# --- system calls -----------------------------------------------------------------------------------------------

# The calls a proxy lives on; the rest is only in the sum.
NAMED = ["recvfrom", "sendto", "epoll_wait", "epoll_ctl", "read", "write", "futex"]


def counter(pid, work):
    """How to count: a command that goes before another one and counts while it runs, and a reader of what it wrote.

    perf only counts; strace stops the proxy at every call, which makes it find more work each time it looks.
    """
    events = ["raw_syscalls:sys_enter"] + [f"syscalls:sys_enter_{name}" for name in NAMED]
    perf = ["perf", "stat", "-x,", "-o", str(work / "perf"), "-e", ",".join(events), "-p", str(pid), "--"]
    if shutil.which("perf") and subprocess.run([*perf, "true"], capture_output=True).returncode == 0:
        return perf, lambda: read_perf(work / "perf")
    sys.exit("counting system calls needs perf with tracepoints (perf_event_paranoid, tracefs); see bench/syscalls.sh for strace")


def read_perf(path):
    counts = {}
    for line in path.read_text().splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit():
            counts[fields[2].split("sys_enter")[-1].lstrip("_") or "all"] = int(fields[0])
    return counts


def calls_part(options, work, proxies):
    names = [name for name in options.proxies if name in proxies]
    progress = Progress("calls", len(cells(options)) * len(names))
    print("\n## System calls per transaction\n")
    print("| mode | clients | proxy | all | " + " | ".join(NAMED) + " |")
    print("|---|---|---|---|" + "---|" * len(NAMED))
    missed = []
    for mode, clients in cells(options):
        for name in names:
            proxy = proxies[name](mode)
            before, read = counter(proxy["pid"], work)
            # Connecting and logging in is counted too: long enough to make it small.
            count, _ = pgbench(options, work, proxy["url"], mode, clients, seconds=max(options.seconds, 4), before=before)
            calls = {key: value / count for key, value in read().items()}
            progress.step(f"{name:14} {mode:9} {clients:3} clients {calls['all']:.2f}")
            print(f"| {mode} | {clients} | {name} | {calls['all']:.2f} | " + " | ".join(f"{calls.get(call, 0):.2f}" for call in NAMED) + " |")
            limit = CALL_LIMITS.get(clients)
            if limit and name == "drover" and calls["all"] > limit:
                missed.append(f"system calls of {name}, {mode}, {clients} clients: {calls['all']:.2f}, limit {limit}")
    return missed


# --- connecting -------------------------------------------------------------------------------------------------


def connect_part(options, work, proxies):
    """A login and a logout for each transaction. PgBouncer has the verifier, so it derives no keys either."""
    if not {"pgbouncer", "drover"} <= set(proxies):
        return []
    progress = Progress("connect", options.repeats * 2)
    rows = {"pgbouncer": [], "drover": []}
    for repeat in range(options.repeats):
        for name in sorted(rows, reverse=repeat % 2 == 1):
            rows[name].append(one(options, work, proxies[name]("connect"), "simple", 8, "-C"))
            progress.step(f"{name:10} {rows[name][-1]['cpu']:.1f} µs, {rows[name][-1]['tps']:.0f} connections/s")
    print("\n## CPU per connection (pgbench -C, 8 clients, SCRAM-SHA-256)\n")
    print("| proxy | CPU µs median (min–max) | user / system | connections/s | ratio to PgBouncer (95 %) |")
    print("|---|---|---|---|---|")
    found = ratio(*([row["cpu"] for row in rows[name]] for name in ("drover", "pgbouncer")))
    for name, runs in rows.items():
        middle = lambda key: statistics.median(row[key] for row in runs)
        cpu = [row["cpu"] for row in runs]
        print(
            f"| {name} | {middle('cpu'):.1f} ({min(cpu):.1f}–{max(cpu):.1f}) | {middle('user'):.1f} / {middle('system'):.1f} "
            f"| {middle('tps'):.0f} | {shown(found) if name == 'drover' else ''} |"
        )
    return [f"CPU of pgbench -C: up to {found[2]:.2f} × PgBouncer's, limit 1.0"] if found[2] > 1.0 else []


# --- latency ----------------------------------------------------------------------------------------------------


def latency_part(options, work, proxies):
    names = ["direct"] + [name for name in options.proxies if name in ("pgbouncer", "drover")]
    clients, mode = 8, "simple"
    rate = options.rate or int(min(one_rate(options, work, proxies[name](mode), mode, clients) for name in names) / 2)
    progress = Progress("latency", options.repeats * len(names))
    seen = {name: {"p50": [], "p99": []} for name in names}
    for repeat in range(options.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            times = latencies(options, work, proxies[name](mode)["url"], mode, clients, rate)
            for key, at in (("p50", 0.50), ("p99", 0.99)):
                seen[name][key].append(times[int(len(times) * at)])
            progress.step(f"{name:10} p50 {seen[name]['p50'][-1]:.0f} µs, p99 {seen[name]['p99'][-1]:.0f} µs")
    return report_latency(names, seen, mode, clients, rate)


def one_rate(options, work, proxy, mode, clients):
    return pgbench(options, work, proxy["url"], mode, clients, seconds=2)[0] / 2


def latencies(options, work, url, mode, clients, rate):
    """Microseconds from the scheduled start of each transaction to its end, ascending."""
    pgbench(options, work, url, mode, clients, "-R", str(rate), "-l", "--log-prefix=latency")
    times = []
    for path in work.glob("latency.*"):
        times += [int(line.split()[2]) for line in path.read_text().splitlines()]
        path.unlink()
    return sorted(times)


def report_latency(names, seen, mode, clients, rate):
    print(f"\n## Latency at {rate} transactions/s ({mode}, {clients} clients), µs, medians\n")
    print("| | p50 | p99 | added p50 | added p99 |")
    print("|---|---|---|---|---|")
    added = {}
    for name in names:
        middle = {key: statistics.median(values) for key, values in seen[name].items()}
        # The same repetition's direct run is what is subtracted.
        added[name] = {
            key: statistics.median(a - b for a, b in zip(seen[name][key], seen["direct"][key])) for key in ("p50", "p99")
        }
        print(f"| {name} | {middle['p50']:.0f} | {middle['p99']:.0f} | {added[name]['p50']:.0f} | {added[name]['p99']:.0f} |")
    if not {"pgbouncer", "drover"} <= set(names):
        return []
    worse = [key for key in ("p50", "p99") if added["drover"][key] > added["pgbouncer"][key]]
    return [f"added {key}: {added['drover'][key]:.0f} µs, PgBouncer {added['pgbouncer'][key]:.0f} µs" for key in worse]


if __name__ == "__main__":
    sys.exit(main())
