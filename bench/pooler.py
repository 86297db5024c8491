#!/usr/bin/env python3
"""CPU per transaction of Drover next to PgBouncer, in one interleaved run.

Starts a PostgreSQL of its own with PgBouncer before it, takes (or starts) a Drover, and drives each with pgbench:
one SELECT by primary key per transaction, simple and prepared protocol, several client counts. What counts is the
proxy process's own CPU time (utime + stime of /proc/PID/stat) divided by the transactions pgbench completed: on a
small machine, where pgbench and PostgreSQL take most of the CPU, throughput hardly tells poolers apart.

  bench/pooler.py                                                   PgBouncer against a second PgBouncer (checks the method)
  bench/pooler.py --drover-url URL --drover-pid PID                 a running Drover
  bench/pooler.py --drover-command 'drover dev --shards 4 --dir {dir} --listen 127.0.0.1:{port} --http 127.0.0.1:{http}'
                                                                    starts it, waits for the URL it prints, stops it

Only the Python standard library, PostgreSQL's binaries and PgBouncer are needed. Works as root (the servers then run
as the unprivileged user "postgres").
"""

import argparse
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


def main():
    options = arguments()
    work = pathlib.Path(tempfile.mkdtemp(prefix="drover-bench-"))
    work.chmod(0o755)
    running = []
    try:
        (work / "point.sql").write_text(SCRIPT)
        rows = measure(options, work, running)
        print(report(options, rows))
    finally:
        for process in reversed(running):
            stop(process)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drover-url", help="URL of a running Drover")
    parser.add_argument("--drover-pid", type=int, help="its process id")
    parser.add_argument("--drover-command", help="command that starts Drover; {dir}, {port}, {http} are filled in")
    parser.add_argument("--shard", action="store_true", help="shard pgbench_accounts by aid in Drover")
    parser.add_argument("--skip-init", action="store_true", help="Drover's database already has pgbench's tables")
    parser.add_argument("--clients", default="8,64", help="client counts (default 8,64)")
    parser.add_argument("--modes", default="simple,prepared", help="pgbench -M modes (default simple,prepared)")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repetitions (default 3)")
    parser.add_argument("--seconds", type=int, default=6, help="per measurement (default 6; clock ticks are 10 ms)")
    parser.add_argument("--scale", type=int, default=1, help="pgbench scale (default 1: 100,000 rows)")
    parser.add_argument("--pool-size", type=int, default=20, help="PgBouncer's pool in transaction mode (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="pgbench threads (default 1)")
    parser.add_argument("--bin", default=find_binaries(), help="folder of PostgreSQL's binaries")
    parser.add_argument("--raw", help="append every measurement to this file as CSV")
    options = parser.parse_args()
    if bool(options.drover_url) != bool(options.drover_pid):
        parser.error("--drover-url and --drover-pid go together")
    return options


def find_binaries():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return str(found[-1].parent) if found else os.path.dirname(shutil.which("initdb") or "")


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


def wait_port(port, process, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{process.args[0]} does not listen on {port}")


def start_postgres(options, work, running):
    folder, port = own(work / "pg"), free_port()
    initdb = [f"{options.bin}/initdb", "-D", folder / "data", "-U", "bench", "--auth=trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **unprivileged())
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "max_connections": 300,
        "fsync": "off", "logging_collector": "off",
    }
    command = [f"{options.bin}/postgres", "-D", folder / "data"]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    log = open(work / "pg.log", "w")
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **unprivileged())
    running.append(process)
    wait_port(port, process)
    url = f"postgresql://bench@127.0.0.1:{port}/bench"
    administration = f"postgresql://bench@127.0.0.1:{port}/postgres"
    deadline = time.monotonic() + 20
    while subprocess.run(["psql", "-XAtqc", "SELECT 1", administration], capture_output=True).returncode:
        if time.monotonic() > deadline:
            sys.exit("PostgreSQL does not answer")
        time.sleep(0.1)
    subprocess.run(["psql", "-XAtqc", "CREATE DATABASE bench", administration], check=True)
    return port, url


def start_pgbouncer(work, running, name, server_port, mode, pool_size):
    folder, port = own(work / name), free_port()
    (folder / "users.txt").write_text('"bench" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\nbench = host=127.0.0.1 port={server_port} dbname=bench\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {folder}/users.txt\npool_mode = {mode}\ndefault_pool_size = {pool_size}\nmax_client_conn = 400\n"
        "ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n"
    )
    binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    log = open(work / f"{name}.log", "w")
    process = subprocess.Popen([binary, folder / "pgbouncer.ini"], stdout=log, stderr=log, **unprivileged())
    running.append(process)
    wait_port(port, process)
    return {"name": name, "url": f"postgresql://bench@127.0.0.1:{port}/bench", "pid": process.pid}


def start_drover(options, work, running):
    if options.drover_url:
        return {"name": "drover", "url": options.drover_url, "pid": options.drover_pid}
    fields = {"dir": work / "drover", "port": free_port(), "http": free_port()}
    log_path = work / "drover.log"
    with open(log_path, "w") as log:
        command = ["sh", "-c", "exec " + options.drover_command.format(**fields)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    running.append(process)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"postgres(?:ql)?://\S+", log_path.read_text())
        if found:
            return {"name": "drover", "url": found.group(0).rstrip(".,)"), "pid": process.pid}
        time.sleep(0.1)
    sys.exit("Drover did not print a URL:\n" + log_path.read_text())


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- measuring --------------------------------------------------------------------------------------------------


def initialise(options, target):
    command = ["pgbench", "-i", "-q", "-s", str(options.scale), target["url"]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pgbench -i on {target['name']} failed:\n{done.stderr}")
    if target["name"] == "drover" and options.shard:
        sql = "SELECT drover.shard_table('pgbench_accounts', key => 'aid')"
        subprocess.run(["psql", "-XAtqc", sql, target["url"]], check=True)


def cpu_seconds(pid):
    """User and system time of a process, all threads, in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICK, int(fields[12]) / TICK


def one(options, work, target, mode, clients):
    command = [
        "pgbench", "-n", "-M", mode, "-c", str(clients), "-j", str(min(options.threads, clients)),
        "-T", str(options.seconds), "-D", f"scale={options.scale}", "-f", work / "point.sql", target["url"],
    ]
    user, system = cpu_seconds(target["pid"])
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds + 60)
    user, system = (after - before for after, before in zip(cpu_seconds(target["pid"]), (user, system)))
    text = done.stdout + done.stderr
    counted = re.search(r"transactions actually processed: (\d+)", text)
    failed = re.search(r"number of failed transactions: (\d+)", text)
    if done.returncode or not counted or int(counted.group(1)) == 0 or (failed and int(failed.group(1))):
        sys.exit(f"pgbench through {target['name']} ({mode}, {clients} clients) failed:\n{text}")
    count = int(counted.group(1))
    latency = re.search(r"latency average = ([\d.]+)", text)
    return {
        "target": target["name"], "mode": mode, "clients": clients, "tps": count / options.seconds,
        "latency": float(latency.group(1)) if latency else 0.0,
        "user": user / count * 1e6, "system": system / count * 1e6, "cpu": (user + system) / count * 1e6,
    }


def measure(options, work, running):
    clients = [int(text) for text in options.clients.split(",")]
    modes = options.modes.split(",")
    port, url = start_postgres(options, work, running)
    initialise(options, {"name": "postgres", "url": url})

    def bouncers(name):
        # PgBouncer before 1.21 has no prepared statements in transaction mode: a session pool as large as the load.
        return {
            "prepared": start_pgbouncer(work, running, f"{name}-session", port, "session", max(clients)),
            "other": start_pgbouncer(work, running, f"{name}-transaction", port, "transaction", options.pool_size),
        }

    pick = lambda pair, mode: dict(pair.get(mode, pair["other"]))
    first = bouncers("pgbouncer")
    if options.drover_url or options.drover_command:
        drover = start_drover(options, work, running)
        if not options.skip_init:
            initialise(options, drover)
        second = {"other": drover}
    else:
        second = bouncers("pgbouncer2")
    rows = []
    for repeat in range(options.repeats):
        for mode in modes:
            for count in clients:
                pair = [pick(first, mode), pick(second, mode)]
                pair[0]["name"], pair[1]["name"] = "pgbouncer", pair[1]["name"].split("-")[0]
                if repeat % 2:
                    pair.reverse()
                for target in pair:
                    row = one(options, work, target, mode, count)
                    rows.append(row)
                    print(f"# {repeat + 1}: {row['target']:10} {mode:9} {count:3} clients: "
                          f"{row['tps']:8.0f} tps  {row['cpu']:6.2f} µs/tx", file=sys.stderr)
    if options.raw:
        save(options.raw, rows)
    return rows


def save(path, rows):
    new = not os.path.exists(path)
    with open(path, "a") as file:
        if new:
            file.write(",".join(rows[0]) + "\n")
        for row in rows:
            file.write(",".join(str(value) for value in row.values()) + "\n")


# --- reporting --------------------------------------------------------------------------------------------------


def report(options, rows):
    version = lambda *command: subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0]
    lines = [
        f"{version(options.bin + '/postgres', '--version')}, {version('pgbouncer', '--version')}, "
        f"{os.cpu_count()} CPUs, {options.repeats} × {options.seconds} s interleaved, pgbench scale {options.scale}, "
        f"pgbench -j {options.threads}; PgBouncer: transaction pool of {options.pool_size} (simple, extended), "
        "session pool (prepared).",
        "",
        "| mode | clients | proxy | CPU µs/tx median (min–max) | user / system | TPS median | ratio of CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = {}
    for row in rows:
        groups.setdefault((row["mode"], row["clients"]), {}).setdefault(row["target"], []).append(row)
    for (mode, clients), targets in groups.items():
        base = statistics.median(row["cpu"] for row in targets["pgbouncer"])
        for name, runs in targets.items() if "pgbouncer" in targets else []:
            cpu = [row["cpu"] for row in runs]
            middle = lambda key: statistics.median(row[key] for row in runs)
            lines.append(
                f"| {mode} | {clients} | {name} | {middle('cpu'):.2f} ({min(cpu):.2f}–{max(cpu):.2f}) "
                f"| {middle('user'):.2f} / {middle('system'):.2f} | {middle('tps'):.0f} | {middle('cpu') / base:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
