#!/usr/bin/env python3
"""Runs PostgreSQL's own regression suite through Drover and compares with the same server without Drover.

The suite comes from Debian's source package of the very PostgreSQL that is installed; nothing of it is kept here.

    scripts/pg-regress.py --binary target/release/drover [--work DIR] [--only join,union] [--write docs/regress.md]

Two runs, each beside one of its own on the bare server of an equal cluster: `unsharded` (one shard, transaction pooling) and
`sharded` (two shards; the suite's main tables are sharded when test_setup creates them; only the files that name one of them, and those
that make what others use). Files run one after the other in the
order of the suite's own schedule. Needs apt (for the package), a C compiler (the suite has a library of its own) and psql.
"""
import argparse, collections, glob, json, os, re, shutil, signal, subprocess, sys, time

# Tables that test_setup creates, and what they are sharded by.
SHARDED = {"char_tbl": "f1", "int2_tbl": "f1", "int4_tbl": "f1", "int8_tbl": "q1", "text_tbl": "f1",
           "varchar_tbl": "f1", "onek": "unique1", "tenk1": "unique1"}
SETTINGS = [("lc_messages", "C"), ("lc_monetary", "C"), ("lc_numeric", "C"), ("lc_time", "C"),
            ("bytea_output", "hex"), ("timezone_abbreviations", "Default")]
FILE_SECONDS_MAX = 900


def run(*command, **more):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def fetch(work):
    """The suite's folder, with its library built."""
    suite = os.path.join(work, "src/test/regress")
    if os.path.exists(os.path.join(suite, "regress.so")):
        return suite
    version = run("dpkg-query", "-W", "-f=${Version}", "postgresql-15")
    apt = os.path.join(work, "apt")
    os.makedirs(os.path.join(apt, "lists/partial"), exist_ok=True)
    os.makedirs(os.path.join(apt, "cache/archives/partial"), exist_ok=True)
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    with open(os.path.join(apt, "sources.list"), "w") as out:
        for kind in ("deb", "deb-src"):
            for where in ("debian bookworm", "debian-security bookworm-security"):
                out.write(f"{kind} {signed} http://deb.debian.org/{where} main\n")
    options = ["-o", f"Dir::Etc::sourcelist={apt}/sources.list", "-o", "Dir::Etc::sourceparts=-",
               "-o", f"Dir::State::lists={apt}/lists", "-o", f"Dir::Cache={apt}/cache"]
    run("apt-get", *options, "update")
    run("apt-get", *options, "source", "--download-only", f"postgresql-15={version}", cwd=apt)
    run("apt-get", *options, "download", f"postgresql-server-dev-15={version}", cwd=apt)
    archive = glob.glob(os.path.join(apt, "postgresql-15_*.orig.tar.*"))[0]
    run("tar", "xf", archive, "-C", work, "--strip-components=1", "--wildcards", "*/src/test/regress/*")
    run("dpkg", "-x", glob.glob(os.path.join(apt, "postgresql-server-dev-15_*.deb"))[0], os.path.join(work, "dev"))
    headers = os.path.join(work, "dev/usr/include/postgresql/15/server")
    run("gcc", "-shared", "-fPIC", "-O1", f"-I{headers}", "-o", "regress.so", "regress.c", cwd=suite)
    return suite


def schedule(suite):
    names = []
    for line in open(os.path.join(suite, "parallel_schedule")):
        if line.startswith("test:"):
            names += line.split()[1:]
    return names


def concerned(suite, names):
    """Files that name a table which the second run shards, and those that make what others use."""
    tables = re.compile(r"\b(" + "|".join(SHARDED) + r")\b", re.I)
    def is_concerned(name):
        text = open(os.path.join(suite, "sql", name + ".sql"), errors="replace").read()
        return name.startswith("create_") or tables.search(text)
    return [name for name in names if is_concerned(name)]


class Cluster:
    """`drover dev`; its application role is a superuser, as the suite wants."""

    def __init__(self, binary, folder, shards):
        self.folder = folder
        self.log = open(folder + ".log", "w+")
        self.process = subprocess.Popen(
            [binary, "dev", "--shards", str(shards), "--replicas", "0", "--dir", folder, "--fresh",
             "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], stdout=self.log, stderr=subprocess.STDOUT)
        end = time.time() + 120
        self.url = None
        while not self.url:
            if time.time() > end or self.process.poll() is not None:
                sys.exit(f"drover dev did not start: see {folder}.log")
            time.sleep(0.2)
            found = re.search(r"postgresql://\S+", open(folder + ".log").read())
            self.url = found and found.group(0)
        cluster = json.load(open(os.path.join(folder, "drover-dev.json")))["cluster"]
        self.home = f"postgresql://drover:drover@127.0.0.1:{cluster['shards'][0]['primary']['port']}/app"
        for shard in cluster["shards"]:
            admin = (f"postgresql://{cluster['admin_user']}:{cluster['admin_password']}@127.0.0.1:"
                     f"{shard['primary']['port']}/app")
            commands = ["ALTER ROLE drover SUPERUSER"]
            commands += [f"ALTER DATABASE app SET {name} = '{value}'" for name, value in SETTINGS]
            for command in commands:
                run("psql", "-X", "-q", admin, "-c", command)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def setup_text(text, suite, shard):
    """test_setup with its data in itself, and with its main tables sharded."""
    def create(match):
        key = SHARDED.get(match.group(1).lower())
        return match.group(0)[:-1] + f" WITH (drover.shard_key = '{key}');" if key and shard else match.group(0)

    def copy(match):
        data = open(os.path.join(suite, "data", match.group(1) + ".data")).read()
        return f"COPY {match.group(2)} FROM STDIN;\n{data}\\.\n" if match.group(2).lower() in SHARDED else match.group(0)

    text = re.sub(r"CREATE TABLE (\w+) ?\([^;]*\);", create, text)
    return re.sub(r"\\set filename :abs_srcdir '/data/(\w+)\.data'\nCOPY (\w+) FROM :'filename';\n", copy, text)


def run_suite(suite, names, url, out, shard=None):
    """Runs the files; `shard`: None, as they are; else whether the main tables are sharded."""
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(os.path.join(out, "results"))
    os.chmod(os.path.join(out, "results"), 0o777)
    env = dict(os.environ, PGTZ="America/Los_Angeles", PGDATESTYLE="Postgres, MDY",
               PGOPTIONS="-c intervalstyle=postgres_verbose", PG_ABS_SRCDIR=suite, PG_ABS_BUILDDIR=out,
               PG_LIBDIR=suite, PG_DLSUFFIX=".so", LC_MESSAGES="C")
    times = {}
    for name in names:
        text = open(os.path.join(suite, "sql", name + ".sql")).read()
        if name == "test_setup" and shard is not None:
            text = setup_text(text, suite, shard)
        began = time.time()
        with open(os.path.join(out, name + ".out"), "w") as result:
            try:
                subprocess.run(["psql", "-X", "-a", "-q", url, "-v", "HIDE_TABLEAM=on", "-v",
                                "HIDE_TOAST_COMPRESSION=on"], input=text.encode(), stdout=result,
                               stderr=subprocess.STDOUT, env=env, timeout=FILE_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                result.write("TIMED OUT\n")
        times[name] = time.time() - began
        print(f"  {name} {times[name]:.1f} s", flush=True)
    return times


def segments(sql, answered):
    """What psql printed behind each line of a file that it echoed, with the statement so far. Data of COPY is not echoed."""
    found, at, said = [], 0, []
    for number, line in enumerate(sql):
        if not line.strip() or line not in answered[at:]:
            continue
        behind = answered.index(line, at)
        if found:
            found[-1][2].extend(answered[at:behind])
            if found[-1][1].rstrip().endswith(";") or found[-1][2]:
                said = []
        said.append(line)
        found.append((number, "\n".join(said), []))
        at = behind + 1
    if found:
        found[-1][2].extend(answered[at:])
    return {(number, statement): lines for number, statement, lines in found}


def unordered(lines, statement):
    """Rows of a result whose order nothing decides, in one order."""
    outer = statement
    while "(" in outer and re.search(r"\([^()]*\)", outer):
        outer = re.sub(r"\([^()]*\)", "", outer)
    if re.search(r"order\s+by", outer, re.I):
        return lines
    result, at = [], 0
    while at < len(lines):
        result.append(lines[at])
        if re.fullmatch(r"-+(\+-*)*", lines[at]):
            end = at + 1
            while end < len(lines) and not re.fullmatch(r"\(\d+ rows?\)", lines[end]):
                end += 1
            result += sorted(lines[at + 1:end]) if end < len(lines) else []
            at = end if end < len(lines) else at + 1
            continue
        at += 1
    return result


def differences(suite, base, out, name, any_order):
    """What differs, statement by statement: kind, line of the file, statement, both answers."""
    def text(folder):
        text = open(os.path.join(folder, name + ".out"), errors="replace").read()
        return re.sub(r" WITH \(drover\.shard_key = '\w+'\)", "", text.replace(folder, "OUT")).split("\n")

    ours, theirs = text(out), text(base)
    if ours == theirs:
        return []
    sql = open(os.path.join(suite, "sql", name + ".sql"), errors="replace").read().split("\n")
    one, other = segments(sql, theirs), segments(sql, ours)
    result = []
    for (number, statement), expected in one.items():
        found = other.get((number, statement), ["(not reached)"])
        if any_order:
            expected, found = (unordered(lines, statement) for lines in (expected, found))
        if expected == found:
            continue
        if re.search(r"DRV\d{4}", "\n".join(found)):
            kind = "refused"
        elif re.match(r"(\s*--.*\n|\s*\n)*\s*explain", statement, re.I):
            kind = "explain"
        elif "current transaction is aborted" in "\n".join(found):
            kind = "after"
        else:
            kind = "differs"
        result.append((kind, number + 1, statement, expected, found))
    return result


def compare(suite, base, out, names, any_order):
    """Per file, how many statements differ in which way; the differences are written beside the output."""
    rows = {}
    for name in names:
        if not all(os.path.exists(os.path.join(folder, name + ".out")) for folder in (base, out)):
            continue
        found = differences(suite, base, out, name, any_order)
        with open(os.path.join(out, name + ".differences"), "w") as file:
            for kind, line, statement, expected, answered in found:
                file.write(f"## {kind} {name}.sql:{line}\n{statement}\n")
                file.writelines("- " + text + "\n" for text in expected)
                file.writelines("+ " + text + "\n" for text in answered)
        rows[name] = collections.Counter(kind for kind, *_ in found)
    return rows


def reasons():
    """Why a file differs: `run file: reason` lines beside this script."""
    found = {}
    for line in open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "pg-regress-reasons.txt")):
        head, _, reason = line.strip().partition(": ")
        if reason and not head.startswith("#"):
            found[tuple(head.split())] = reason
    return found


def badge(row):
    if not row:
        return "same"
    if set(row) == {"refused"}:
        return f"{row['refused']} refused"
    words = {"refused": "refused", "after": "after it in its block", "explain": "EXPLAIN", "differs": "differ"}
    return ", ".join(f"{row[kind]} {word}" for kind, word in words.items() if row[kind])


def page(results, known):
    """The table for the documentation."""
    kinds = list(results)
    out = ["| file | " + " | ".join(kinds) + " | why |", "|---|" + "---|" * (len(kinds) + 1)]
    for name in next(iter(results.values())):
        cells = [badge(results[kind][name]) if name in results[kind] else "–" for kind in kinds]
        why = [known.get((kind, name), "**not looked at**") for kind, cell in zip(kinds, cells) if cell not in ("–", "same")]
        out.append(f"| {name} | {' | '.join(cells)} | {'; '.join(dict.fromkeys(why))} |")
    return "\n".join(out)


def write(path, table):
    """Replaces the table at the end of the page."""
    text = open(path).read()
    with open(path, "w") as out:
        out.write(text[:text.index("| file |")] + table + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--work", default="/tmp/drover-pg-regress")
    parser.add_argument("--only", default="")
    parser.add_argument("--runs", default="unsharded,sharded")
    parser.add_argument("--compare", action="store_true", help="compare what an earlier run left")
    parser.add_argument("--write", help="the page whose table is replaced")
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    suite = fetch(options.work)
    names = schedule(suite)
    if options.only:
        names = ["test_setup"] + [name for name in options.only.split(",")]
    results = {}
    for kind in options.runs.split(","):
        shards, shard = (1, None) if kind == "unsharded" else (2, True)
        files = names if shard is None or options.only else concerned(suite, names)
        base, out = (os.path.join(options.work, f"{kind}-{side}") for side in ("base", "drover"))
        if not options.compare:
            for side, folder in (("home", base), ("url", out)):
                print(f"{kind}: {side}", flush=True)
                cluster = Cluster(options.binary, os.path.join(options.work, f"cluster-{kind}"), shards)
                try:
                    sharding = None if shard is None else side == "url"
                    run_suite(suite, files, getattr(cluster, side), folder, sharding)
                finally:
                    cluster.stop()
        results[kind] = compare(suite, base, out, files, shard is not None)
        same = sum(not row for row in results[kind].values())
        total = sum(results[kind].values(), collections.Counter())
        print(f"{kind}: {same} of {len(results[kind])} files the same; statements: {dict(total)}")
        for name, row in results[kind].items():
            if row:
                print(f"  {name}: {badge(row)}")
    if options.write:
        write(options.write, page(results, reasons()))


main()
