#!/usr/bin/env python3
"""A crowd of mostly idle clients: memory per client, and whether all of them are served without an error.

    bench/crowd.py --drover target/dist/drover [--proxies 6] [--servers 32] …
    bench/crowd.py --port 6432 --user app --password secret --database app --pid PID [--pid PID …]
                   [--clients 100000] [--active 1000] [--seconds 20] [--tls]

With --drover it starts PostgreSQL and as many proxies as the limit of open files asks for, all behind one port
(`reuse_port`), with --servers server connections in total. Otherwise it uses what runs already.

Connects a quarter of the clients, lets each run one statement, and reads the resident memory of the processes given by
--pid; connects the rest, does the same: the slope between the two is the memory of one idle client. Then --active
statements are in flight at any time, each on a client chosen at random, each asking for a value only this client knows; a
wrong answer, an error or a lost connection is counted and makes the exit code 1.

Clients are spread over processes, because one process may open only so many files, and over source addresses
127.0.1.1, 127.0.1.2, …, because one address has too few ports. Needs Python 3.8, and PostgreSQL's binaries for --drover.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import pathlib
import random
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import sys
import tempfile
import time
from multiprocessing import Pipe, Process

# Logins running at once in each process: more would overflow the listen backlog and measure the kernel's retries.
LOGINS_AT_ONCE = 64
# Files a process needs besides its clients' sockets.
FILES_RESERVED = 200
STATEMENT_SECONDS_MAX = 30


def message(tag, body=b""):
    return tag + struct.pack("!I", len(body) + 4) + body


def startup(user, database):
    body = struct.pack("!I", 196608)
    for name, value in (("user", user), ("database", database), ("application_name", "crowd")):
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


class Keys:
    """SCRAM keys of the one user, derived once for each salt: a driver does that for each connection, in its own time."""

    def __init__(self, password):
        self.password = password
        self.salted = {}

    def client_key(self, salt, rounds):
        if (salt, rounds) not in self.salted:
            self.salted[salt, rounds] = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, rounds)
        return hmac.digest(self.salted[salt, rounds], b"Client Key", "sha256")


class Failed(Exception):
    pass


class Client:
    """One connection, driven by readiness. States: connecting, login, idle, busy."""

    __slots__ = ("sock", "state", "input", "nonce", "first", "since", "value")

    def __init__(self, sock):
        self.sock = sock
        self.state = "connecting"
        self.input = b""
        self.nonce = ""
        self.first = ""
        self.since = 0.0
        self.value = b""

    def messages(self, data):
        self.input += data
        while len(self.input) >= 5:
            length = struct.unpack("!I", self.input[1:5])[0] + 1
            if len(self.input) < length:
                return
            tag, body = self.input[:1], self.input[5:length]
            self.input = self.input[length:]
            yield tag, body

    def ask(self, value):
        self.value = value
        self.state = "busy"
        self.since = time.monotonic()
        self.sock.send(message(b"Q", b"SELECT '" + value + b"'\0"))

    def authenticate(self, body, keys):
        kind = struct.unpack("!I", body[:4])[0]
        if kind == 10:
            self.nonce = base64.b64encode(os.urandom(18)).decode()
            self.first = "n=,r=" + self.nonce
            data = ("n,," + self.first).encode()
            self.sock.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(data)) + data))
        elif kind == 11:
            server = body[4:].decode()
            fields = dict(part.split("=", 1) for part in server.split(","))
            key = keys.client_key(base64.b64decode(fields["s"]), int(fields["i"]))
            bare = "c=biws,r=" + fields["r"]
            signed = ",".join((self.first, server, bare)).encode()
            signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
            proof = bytes(a ^ b for a, b in zip(key, signature))
            self.sock.send(message(b"p", (bare + ",p=" + base64.b64encode(proof).decode()).encode()))
        elif kind not in (0, 12):
            raise Failed(f"authentication method {kind}")

    def handle(self, keys):
        """Reads what is there. True when the client has become idle."""
        try:
            data = self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        if not data:
            raise Failed("connection closed")
        became_idle = False
        for tag, body in self.messages(data):
            if tag == b"R":
                self.authenticate(body, keys)
            elif tag == b"E":
                raise Failed(body.replace(b"\0", b" ").decode(errors="replace"))
            elif tag == b"D":
                if body[6:] != self.value:
                    raise Failed(f"asked for {self.value}, got {body[6:]}")
                self.value = b""
            elif tag == b"Z":
                if self.value:
                    raise Failed("no row")
                self.state = "idle"
                became_idle = True
        return became_idle


class Worker:
    """One process's share of the crowd, commanded over a pipe."""

    def __init__(self, number, options, pipe):
        self.number, self.options, self.pipe = number, options, pipe
        self.keys = Keys(options.password)
        self.poll = select.epoll()
        self.clients = {}
        self.idle = []
        self.errors = []
        self.sequence = 0
        self.context = None

    def run(self):
        while True:
            command, argument = self.pipe.recv()
            if command == "end":
                return
            result = getattr(self, command)(argument)
            self.pipe.send({"errors": len(self.errors), "shown": self.errors[:3], **result})

    def fresh(self):
        self.sequence += 1
        return f"{self.number}.{self.sequence}.{random.getrandbits(32)}".encode()

    def connect(self, count):
        """Logs clients in and lets each run one statement."""
        target = len(self.idle) + count
        wanted, running, asked, finished = count, 0, set(), set()
        since = time.monotonic()
        while wanted or running:
            while wanted and running < LOGINS_AT_ONCE:
                self.open_one()
                wanted -= 1
                running += 1
            for client in self.ready():
                if client in asked or client.state == "broken":
                    running -= client not in finished
                    finished.add(client)
                else:
                    asked.add(client)
                    client.ask(self.fresh())
            if time.monotonic() - since > 60 + count / 20:
                self.errors.append(f"{wanted + running} clients could not log in in time")
                break
        self.idle = [client for client in self.clients.values() if client.state == "idle"]
        return {"connected": len(self.idle), "wanted": target, "seconds": time.monotonic() - since}

    def open_one(self):
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.options.host.startswith("127."):
            # The kernel chooses the port at connect, among those not in use towards this destination.
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            sock.bind((f"127.0.1.{1 + self.number}", 0))
        sock.connect((self.options.host, self.options.port))
        if self.options.tls:
            sock.send(struct.pack("!II", 8, 80877103))
            if sock.recv(1) != b"S":
                raise Failed("no TLS")
            if self.context is None:
                # Once: the authorities that it would load for each client cost more than the connection.
                self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
            sock = self.context.wrap_socket(sock)
        sock.setblocking(False)
        client = Client(sock)
        self.clients[sock.fileno()] = client
        self.poll.register(sock.fileno(), select.EPOLLIN)
        sock.send(startup(self.options.user, self.options.database))
        client.state = "login"

    def ready(self, wait=1.0):
        """Handles readiness; yields clients that became idle or broke."""
        for number, _ in self.poll.poll(wait):
            client = self.clients.get(number)
            if client is None:
                continue
            try:
                if client.handle(self.keys):
                    yield client
            except (Failed, OSError) as error:
                self.errors.append(str(error))
                self.poll.unregister(number)
                del self.clients[number]
                client.sock.close()
                client.state = "broken"
                yield client

    def work(self, argument):
        """Keeps so many statements in flight for so long."""
        active, seconds = argument
        end = time.monotonic() + seconds
        latencies = []
        random.shuffle(self.idle)
        waiting = self.idle
        for _ in range(min(active, len(waiting))):
            waiting.pop().ask(self.fresh())
        busy = min(active, len(self.clients))
        while busy:
            now = time.monotonic()
            if now > end + STATEMENT_SECONDS_MAX:
                self.errors.append(f"{busy} statements got no answer")
                break
            for client in self.ready():
                if client.state == "idle":
                    latencies.append(time.monotonic() - client.since)
                    at = random.randrange(len(waiting) + 1)
                    waiting.append(client)
                    waiting[at], waiting[-1] = waiting[-1], waiting[at]
                if now < end and waiting:
                    at = random.randrange(len(waiting))
                    waiting[at], waiting[-1] = waiting[-1], waiting[at]
                    waiting.pop().ask(self.fresh())
                else:
                    busy -= 1
        sample = random.sample(latencies, min(len(latencies), 20000))
        return {"statements": len(latencies), "latencies": sample}


class Own:
    """PostgreSQL and proxies for one run; removed with everything they wrote."""

    def __init__(self):
        self.running = []
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="drover-crowd-"))

    def begin(self, options, files):
        sys.path.insert(0, str(pathlib.Path(__file__).parent))
        import pooler

        self.stop_one = pooler.stop
        self.work.chmod(0o755)
        os.environ["PGPASSWORD"] = options.password
        settings = argparse.Namespace(bin=pooler.find_binaries(), drover=options.drover)
        server = pooler.start_postgres(settings, self.work, self.running, "postgres", superuser=options.user)
        # The kernel spreads clients by chance: a tenth more room than they need.
        processes = options.proxies or -(-options.clients * 11 // 10 // (files - FILES_RESERVED))
        options.port, options.database = pooler.free_port(), "plain"
        for number in range(processes):
            self.start(pooler, options, server, number, processes)

    def start(self, pooler, options, server, number, processes):
        name = f"proxy{number}"
        (self.work / f"{name}.toml").write_text(
            f'[proxy]\nlisten = "127.0.0.1:{options.port}"\nreuse_port = true\nid = "{name}"\n'
            f'http = "127.0.0.1:{pooler.free_port()}"\n[store]\npath = "{self.work}/state"\n'
            f'[admin]\nuser = "{options.user}"\npassword = "{options.password}"\n'
            f"[pool]\npool_size = {max(1, options.servers // processes)}\n"
            f"[limits]\nmax_clients = {options.clients}\n"
            f'[[databases]]\nname = "plain"\n[[users]]\nname = "{options.user}"\npassword = "{options.password}"\n'
            f'[[shards]]\nname = "shard_1"\nprimary = "127.0.0.1:{server}"\n'
        )
        command = [options.drover, "proxy", "--config", self.work / f"{name}.toml"]
        process = pooler.launch(self.work, self.running, name, command)
        options.pid.append(process.pid)
        deadline = time.monotonic() + 30
        while "listening on" not in (self.work / f"{name}.log").read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} does not start:\n{(self.work / f'{name}.log').read_text()}")
            time.sleep(0.1)

    def stop(self):
        for process in reversed(self.running):
            self.stop_one(process)
        shutil.rmtree(self.work, ignore_errors=True)


def resident(pids):
    """Resident memory of the processes together, in bytes, without what they share with others."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total * 1024


def ask_all(pipes, command, arguments):
    for pipe, argument in zip(pipes, arguments):
        pipe.send((command, argument))
    return [pipe.recv() for pipe in pipes]


def shares(total, parts):
    return [total // parts + (1 if part < total % parts else 0) for part in range(parts)]


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--drover", help="binary to start proxies of, with a PostgreSQL of their own")
    parser.add_argument("--proxies", type=int, help="how many (default: as the limit of open files asks for)")
    parser.add_argument("--servers", type=int, default=32, help="server connections of all of them together")
    parser.add_argument("--user", default="drover")
    parser.add_argument("--password", default="drover")
    parser.add_argument("--database", default="app")
    parser.add_argument("--pid", type=int, action="append", default=[], help="process whose memory is read")
    parser.add_argument("--clients", type=int, default=100000)
    parser.add_argument("--active", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    if not options.port and not options.drover:
        parser.error("--drover or --port is needed")

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    own = Own() if options.drover else None
    # What was started is stopped when this is told to end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        if own:
            own.begin(options, files)
        report = measure(options, files)
    finally:
        if own:
            own.stop()
    print(json.dumps(report, indent=2))
    sys.exit(1 if report["errors"] or report["connected"] != options.clients else 0)


def measure(options, files):
    processes = max(1, -(-options.clients // (files - FILES_RESERVED)), min(2, os.cpu_count() or 1))
    pipes, children = [], []
    for number in range(processes):
        ours, theirs = Pipe()
        child = Process(target=Worker(number, options, theirs).run, daemon=True)
        child.start()
        pipes.append(ours)
        children.append(child)

    empty = resident(options.pid)
    report = {
        "clients": options.clients, "active": options.active, "proxies": len(options.pid),
        "processes_of_clients": processes, "resident_empty": empty,
    }
    first = options.clients // 4
    errors, sizes = 0, []
    for count in (first, options.clients - first):
        results = ask_all(pipes, "connect", shares(count, processes))
        connected = sum(result["connected"] for result in results)
        seconds = max(result["seconds"] for result in results)
        sizes.append((connected, resident(options.pid)))
        print(f"{connected} clients connected, the last {count} in {seconds:.1f} s; "
              f"{sizes[-1][1] / 2**20:.1f} MiB resident", file=sys.stderr, flush=True)
    (low, low_bytes), (high, high_bytes) = sizes
    report["bytes_per_client"] = round((high_bytes - low_bytes) / max(1, high - low))
    results = ask_all(pipes, "work", [(share, options.seconds) for share in shares(options.active, processes)])
    statements = sum(result["statements"] for result in results)
    latencies = [value for result in results for value in result["latencies"]]
    report.update(
        connected=high,
        resident_full=high_bytes,
        resident_after_work=resident(options.pid),
        statements=statements,
        statements_per_second=round(statements / options.seconds),
        p50_ms=round(quantile(latencies, 0.5) * 1000, 2),
        p99_ms=round(quantile(latencies, 0.99) * 1000, 2),
        errors=sum(result["errors"] for result in results),
        errors_shown=[text for result in results for text in result["shown"]][:5],
    )
    for pipe in pipes:
        pipe.send(("end", None))
    for child in children:
        child.join(10)
    return report


if __name__ == "__main__":
    main()
