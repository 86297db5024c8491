"""The servers of a development cluster, and what they use."""

import json
import pathlib

import pooler


def of_dev(folder):
    """Address and process of the primary of each shard: (URL without a database, PID)."""
    known = json.loads((folder / "drover-dev.json").read_text())["cluster"]
    admin = f"postgresql://{known['admin_user']}:{known['admin_password']}@127.0.0.1"
    servers = [shard["primary"] for shard in known["shards"]]
    return [(f"{admin}:{server['port']}", postmaster(server["data_dir"])) for server in servers]


def postmaster(data_dir):
    """The first process of a server."""
    return int((pathlib.Path(data_dir) / "postmaster.pid").read_text().split()[0])


def cpu_seconds(postmasters):
    """CPU of all processes of these servers, those that ended included."""
    total = 0.0
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks = sum(int(field) for field in fields[11:13])
        if int(entry.name) in postmasters:
            ticks += int(fields[13]) + int(fields[14])
        elif int(fields[1]) not in postmasters:
            continue
        total += ticks / pooler.TICK
    return total
