#!/usr/bin/env python3
"""What reads on replicas cost in Drover, next to HAProxy and PgBouncer, which send them there blindly.

  bench/replicas.py              about ten minutes
  bench/replicas.py --quick      fewer and shorter repetitions

Starts a primary with two streaming replicas, and in front of them

  drover             every statement on the primary
  drover-replica     drover.read_from = replica: reads go to the replicas and never miss what the session wrote
  drover-eventual    the same with drover.consistency = eventual: without that promise
  pgbouncer          one PgBouncer before the primary
  haproxy            HAProxy (TCP, round robin) before two PgBouncers, one before each replica: whoever connects there
                     reads what there is, and may not write

all with pools of 10 connections per server, and drives them with pgbench: one SELECT by primary key per transaction. Each
repetition measures all of them one directly after the other, in a changing order. CPU time is that of all processes
between client and server, divided by the transactions; ratios are the means of the repetitions' log ratios with their 95 %
interval. Needs what bench/pooler.py needs, and HAProxy.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

import pooler

NAMES = ["drover", "drover-replica", "drover-eventual", "pgbouncer", "haproxy"]


def main():
    options = arguments()
    os.environ["PGPASSWORD"] = pooler.PASSWORD
    work = pathlib.Path(tempfile.mkdtemp(prefix="drover-bench-"))
    work.chmod(0o755)
    running = []
    try:
        (work / "point.sql").write_text(pooler.SCRIPT)
        proxies = start_all(options, work, running)
        print(pooler.headline(options))
        report(options, measure(options, work, proxies))
    finally:
        for process in reversed(running):
            pooler.stop(process)
        shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drover", default="target/release/drover", help="the binary (default target/release/drover)")
    parser.add_argument("--quick", action="store_true", help="3 repetitions of 2 s instead of 8 of 4 s")
    parser.add_argument("--clients", default="8,64", help="client counts (default 8,64)")
    parser.add_argument("--modes", default="simple,extended,prepared", help="pgbench -M modes; haproxy leaves out prepared")
    parser.add_argument("--repeats", type=int, help="interleaved repetitions")
    parser.add_argument("--seconds", type=int, help="per measurement")
    parser.add_argument("--scale", type=int, default=1, help="pgbench scale (default 1: 100,000 rows)")
    parser.add_argument("--bin", default=pooler.find_binaries(), help="folder of PostgreSQL's binaries")
    options = parser.parse_args()
    options.repeats = options.repeats or (3 if options.quick else 8)
    options.seconds = options.seconds or (2 if options.quick else 4)
    options.clients = [int(text) for text in options.clients.split(",")]
    options.modes = options.modes.split(",")
    if not pathlib.Path(options.drover).exists():
        parser.error(f"{options.drover} is missing: cargo build --release -p drover")
    return options


def start_replica(options, work, running, name, primary):
    folder, port = pooler.own(work / name), pooler.free_port()
    url = pooler.url_of(primary, "postgres")
    backup = [f"{options.bin}/pg_basebackup", "-D", folder / "data", "-R", "-c", "fast", "-d", url]
    subprocess.run(backup, check=True, stdout=subprocess.DEVNULL, cwd=folder, **pooler.unprivileged())
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "max_connections": 300,
        "fsync": "off", "max_prepared_transactions": 50,
    }
    command = [f"{options.bin}/postgres", "-D", folder / "data"]
    for key, value in settings.items():
        command += ["-c", f"{key}={value}"]
    process = pooler.launch(work, running, name, command, cwd=folder, **pooler.unprivileged())
    pooler.wait_for(work, name, process, pooler.url_of(port, "plain"))
    return port


def start_haproxy(work, running, ports):
    folder, port = pooler.own(work / "haproxy"), pooler.free_port()
    servers = "".join(f"  server r{n} 127.0.0.1:{server} check\n" for n, server in enumerate(ports))
    (folder / "haproxy.cfg").write_text(
        "global\n  maxconn 1000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen reads\n  bind 127.0.0.1:{port}\n  balance roundrobin\n{servers}"
    )
    binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
    process = pooler.launch(work, running, "haproxy", [binary, "-db", "-f", folder / "haproxy.cfg"], **pooler.unprivileged())
    pooler.wait_for(work, "haproxy", process, pooler.url_of(port, "plain"))
    return port, process.pid


def start_drover(options, work, running, primary, replicas):
    port, folder = pooler.free_port(), work / "drover"
    folder.mkdir()
    nodes = ", ".join(f'"127.0.0.1:{replica}"' for replica in replicas)
    (folder / "drover.toml").write_text(
        f'[proxy]\nlisten = "127.0.0.1:{port}"\nhttp = "127.0.0.1:{pooler.free_port()}"\n'
        f'[store]\npath = "{folder}/state"\n[admin]\nuser = "bench"\npassword = "{pooler.PASSWORD}"\n'
        f'[pool]\npool_size = {pooler.POOL}\n[[databases]]\nname = "plain"\n'
        f'[[users]]\nname = "bench"\npassword = "{pooler.PASSWORD}"\n'
        f'[replicas]\nslow_start = "0s"\n'
        f'[[shards]]\nname = "shard_1"\nprimary = "127.0.0.1:{primary}"\nreplicas = [{nodes}]\n'
    )
    process = pooler.launch(work, running, "drover", [options.drover, "proxy", "--config", folder / "drover.toml"])
    url = pooler.url_of(port, "plain")
    pooler.wait_for(work, "drover", process, url)
    return url, process.pid


def start_all(options, work, running):
    primary = pooler.start_postgres(options, work, running, "primary")
    pooler.load(options, pooler.url_of(primary, "plain"))
    replicas = [start_replica(options, work, running, f"replica{n}", primary) for n in (1, 2)]
    bouncer = lambda name, port: pooler.start_pgbouncer(work, running, name, port, "transaction", pooler.POOL)
    first = bouncer("pgbouncer-primary", primary)
    behind = [bouncer(f"pgbouncer-replica{n}", port) for n, port in enumerate(replicas)]
    haproxy, haproxy_pid = start_haproxy(work, running, [int(proxy["url"].rpartition(":")[2].split("/")[0]) for proxy in behind])
    url, pid = start_drover(options, work, running, primary, replicas)
    option = lambda *settings: url + "?options=" + "%20".join(f"-c%20drover.{setting}".replace("=", "%3D") for setting in settings)
    proxies = {
        "drover": (url, [pid]),
        "drover-replica": (option("read_from=replica"), [pid]),
        "drover-eventual": (option("read_from=replica", "consistency=eventual"), [pid]),
        "pgbouncer": (first["url"], [first["pid"]]),
        "haproxy": (pooler.url_of(haproxy, "plain"), [haproxy_pid] + [proxy["pid"] for proxy in behind]),
    }
    for name, (target, _) in proxies.items():
        for mode in modes_of(options, name):
            # Connections, plans and caches are made before any clock runs.
            pooler.pgbench(options, work, target, mode, max(options.clients), length=("-t", "50"))
    on_replica = subprocess.run(
        ["psql", "-XAtqc", "SELECT pg_is_in_recovery()", proxies["haproxy"][0]],
        capture_output=True, text=True,
    ).stdout.strip()
    if on_replica != "t":
        sys.exit("HAProxy does not lead to a replica")
    return proxies


def modes_of(options, name):
    """Before 1.21 PgBouncer has no prepared statements in a pool of transactions."""
    return [mode for mode in options.modes if mode != "prepared" or name.startswith("drover")]


def measure(options, work, proxies):
    cells = [(mode, clients) for mode in options.modes for clients in options.clients]
    progress = pooler.Progress("replicas", options.repeats * len(cells) * len(NAMES))
    rows = []
    for repeat in range(options.repeats):
        for mode, clients in cells:
            turn = repeat % len(NAMES)
            for name in NAMES[turn:] + NAMES[:turn]:
                if mode not in modes_of(options, name):
                    progress.step(f"{name} has no {mode}")
                    continue
                url, pids = proxies[name]
                before = [sum(pooler.cpu_seconds(pid)) for pid in pids]
                count, _ = pooler.pgbench(options, work, url, mode, clients)
                took = sum(sum(pooler.cpu_seconds(pid)) for pid in pids) - sum(before)
                row = {"name": name, "mode": mode, "clients": clients, "tps": count / options.seconds, "cpu": took / count * 1e6}
                rows.append(row)
                progress.step(f"{name:16} {mode:9} {clients:3} clients {row['tps']:7.0f} tps {row['cpu']:6.2f} µs")
    return rows


def report(options, rows):
    print("\n| mode | clients | proxy | TPS median | CPU µs median (min–max) | CPU to `haproxy` (95 %) | to `drover` (95 %) |\n|---|---|---|---|---|---|---|")
    for mode in options.modes:
        for clients in options.clients:
            here = {name: [row for row in rows if (row["mode"], row["clients"], row["name"]) == (mode, clients, name)] for name in NAMES}
            for name, runs in here.items():
                if not runs:
                    continue
                cpu = [row["cpu"] for row in runs]
                against = lambda base: pooler.shown(
                    pooler.ratio(cpu, [row["cpu"] for row in here[base]]) if base != name and here[base] else None
                )
                print(
                    f"| {mode} | {clients} | {name} | {statistics.median(row['tps'] for row in runs):.0f} "
                    f"| {statistics.median(cpu):.2f} ({min(cpu):.2f}–{max(cpu):.2f}) | {against('haproxy')} | {against('drover')} |"
                )


if __name__ == "__main__":
    main()
