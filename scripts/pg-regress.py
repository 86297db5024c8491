#!/usr/bin/env python3
"""Runs PostgreSQL's own regression suite through Drover and compares with the same server without Drover.

The suite comes from Debian's source package of the very PostgreSQL that is installed; nothing of it is kept here.

    scripts/pg-regress.py --binary target/release/drover [--work DIR] [--only join,union] [--write docs/regress.md]
    scripts/pg-regress.py --binary target/release/drover --work DIR --resume      # goes on where a run in DIR ended
    scripts/pg-regress.py --merge DIR,DIR --write docs/regress.md                # the table, from what several runs left

Two runs: `unsharded` (one shard, transaction pooling) and `sharded` (two shards; the suite's main tables are sharded when test_setup
creates them; only the files that name one of them, and those that make what others use). Each has two equal clusters: a file runs on the bare server of one, then
through the Drover of the other, and the two answers are compared before the next file, in the order of the suite's own schedule.
Needs apt (for the package), a C compiler (the suite has a library of its own) and psql.
"""
import argparse, collections, glob, json, os, re, shutil, signal, subprocess, sys, time

# Tables that test_setup creates, and what they are sharded by.
SHARDED = {"char_tbl": "f1", "int2_tbl": "f1", "int4_tbl": "f1", "int8_tbl": "q1", "text_tbl": "f1",
           "varchar_tbl": "f1", "onek": "unique1", "tenk1": "unique1"}
SETTINGS = [("lc_messages", "C"), ("lc_monetary", "C"), ("lc_numeric", "C"), ("lc_time", "C"),
            ("bytea_output", "hex"), ("timezone_abbreviations", "Default")]
FILE_SECONDS_MAX = 900
TIMED_OUT = "TIMED OUT\n"
RUNS = ("unsharded", "sharded")


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

    def __init__(self, binary, folder, shards, fresh):
        self.folder = folder
        self.log = open(folder + ".log", "w+")
        command = [binary, "dev", "--shards", str(shards), "--replicas", "0", "--dir", folder,
                   "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"] + (["--fresh"] if fresh else [])
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
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


class Side:
    """One of the two clusters that a run compares, and where its answers are kept."""

    def __init__(self, cluster, url, out, suite, shard):
        self.cluster, self.url, self.out, self.suite, self.shard = cluster, url, out, suite, shard
        os.makedirs(os.path.join(out, "results"), exist_ok=True)
        os.chmod(os.path.join(out, "results"), 0o777)

    def file(self, name):
        """Runs one file; the seconds it took. `shard`: None, as it is; else whether the main tables are sharded."""
        env = dict(os.environ, PGTZ="America/Los_Angeles", PGDATESTYLE="Postgres, MDY",
                   PGOPTIONS="-c intervalstyle=postgres_verbose", PG_ABS_SRCDIR=self.suite, PG_ABS_BUILDDIR=self.out,
                   PG_LIBDIR=self.suite, PG_DLSUFFIX=".so", LC_MESSAGES="C")
        text = open(os.path.join(self.suite, "sql", name + ".sql")).read()
        if name == "test_setup" and self.shard is not None:
            text = setup_text(text, self.suite, self.shard)
        began = time.time()
        with open(os.path.join(self.out, name + ".out"), "w") as result:
            try:
                subprocess.run(["psql", "-X", "-a", "-q", self.url, "-v", "HIDE_TABLEAM=on", "-v",
                                "HIDE_TOAST_COMPRESSION=on"], input=text.encode(), stdout=result,
                               stderr=subprocess.STDOUT, env=env, timeout=FILE_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                result.write(TIMED_OUT)
        return time.time() - began


class Results:
    """What a run has found so far, kept in its folder after every file."""

    def __init__(self, folder, keep):
        self.path = os.path.join(folder, "results.json")
        self.runs = json.load(open(self.path)) if keep and os.path.exists(self.path) else {}

    def rows(self, kind):
        files = self.runs.get(kind, {})
        return {name: collections.Counter(found["differences"]) for name, found in files.items() if "differences" in found}

    def put(self, kind, name, found):
        self.runs.setdefault(kind, {})[name] = found
        with open(self.path + ".new", "w") as out:
            json.dump(self.runs, out, indent=1)
        os.replace(self.path + ".new", self.path)


def run_files(options, suite, kind, names, results):
    """Runs the files of one kind on both sides, each compared before the next."""
    shards, shard = (1, None) if kind == "unsharded" else (2, True)
    known = results.runs.get(kind, {})
    left = [name for name in names if name not in known]
    if not left:
        return
    sides = []
    try:
        for side in ("base", "drover"):
            out = os.path.join(options.work, f"{kind}-{side}")
            if not known:
                shutil.rmtree(out, ignore_errors=True)
            cluster = Cluster(options.binary, os.path.join(options.work, f"cluster-{kind}-{side}"), shards, not known)
            url, sharding = (cluster.home, shard and False) if side == "base" else (cluster.url, shard)
            sides.append(Side(cluster, url, out, suite, sharding))
        sizes = {name: os.path.getsize(os.path.join(suite, "sql", name + ".sql")) for name in left}
        began, done = time.time(), 0
        for at, name in enumerate(left):
            # A file that is cut off is not run again: what it made is there already. It can be run by itself.
            results.put(kind, name, {"interrupted": True})
            seconds = [side.file(name) for side in sides]
            found = compare(suite, sides[0].out, sides[1].out, name, shard is not None)
            results.put(kind, name, {"differences": found, "seconds": seconds})
            done += sizes[name]
            eta = (time.time() - began) / done * (sum(sizes.values()) - done)
            print(f"  {kind} {at + 1}/{len(left)} {name}: {badge(found)} ({seconds[0]:.1f} s, {seconds[1]:.1f} s; "
                  f"about {eta / 60:.0f} min left)", flush=True)
    finally:
        for side in sides:
            side.cluster.stop()


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


def compare(suite, base, out, name, any_order):
    """How many statements of a file differ in which way; the differences are written beside the output."""
    found = differences(suite, base, out, name, any_order)
    with open(os.path.join(out, name + ".differences"), "w") as file:
        for kind, line, statement, expected, answered in found:
            file.write(f"## {kind} {name}.sql:{line}\n{statement}\n")
            file.writelines("- " + text + "\n" for text in expected)
            file.writelines("+ " + text + "\n" for text in answered)
    row = collections.Counter(kind for kind, *_ in found)
    if any(open(os.path.join(folder, name + ".out"), errors="replace").read().endswith(TIMED_OUT) for folder in (base, out)):
        row["timeout"] = 1
    return row


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
    words = {"timeout": "stopped after its time", "refused": "refused", "after": "after it in its block", "explain": "EXPLAIN", "differs": "differ"}
    return ", ".join(f"{row[kind]} {word}" if kind != "timeout" else word for kind, word in words.items() if row[kind])


def table(text):
    """The cells of the table of a page: file, then run, to what is said of it."""
    lines = text[text.index("| file |"):].splitlines() if "| file |" in text else []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {name: dict(zip(RUNS, cells)) for name, *cells in rows}


def page(cells, names, known):
    """The table for the documentation, and how many files are how."""
    out = ["| file | " + " | ".join(RUNS) + " | why |", "|---|" + "---|" * (len(RUNS) + 1)]
    count = {kind: collections.Counter() for kind in RUNS}
    for name in names:
        row = [cells.get(name, {}).get(kind, "–") for kind in RUNS]
        why = []
        for kind, cell in zip(RUNS, row):
            sort = cell if cell in ("–", "same") else "differ" if "differ" in cell or "stopped" in cell else \
                "refused" if "refused" in cell else "EXPLAIN"
            count[kind][sort] += 1
            if sort not in ("–", "same", "EXPLAIN"):
                why.append(known.get((kind, name), "**not looked at**"))
        out.append(f"| {name} | {' | '.join(row)} | {'; '.join(dict.fromkeys(why))} |")
    heads = {"same": "the same", "EXPLAIN": "only in EXPLAIN", "refused": "something is refused", "differ": "something differs", "–": "not run"}
    counts = ["| run | " + " | ".join(heads.values()) + " |", "|---|" + "---|" * len(heads)]
    counts += [f"| {kind} | " + " | ".join(str(count[kind][sort]) for sort in heads) + " |" for kind in RUNS]
    return "\n".join(counts), "\n".join(out)


def write(path, names, runs):
    """Puts what was found into the table at the end of the page; what was not run now stays as it was."""
    text = open(path).read()
    cells = table(text)
    for kind, rows in runs.items():
        for name, row in rows.items():
            cells.setdefault(name, {})[kind] = badge(row)
    counts, rows = page(cells, names, reasons())
    start = text.index("| run | the same |") if "| run | the same |" in text else text.index("| file |")
    with open(path, "w") as out:
        out.write(text[:start] + counts + "\n\n" + rows + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the drover that is tested")
    parser.add_argument("--work", default="/tmp/drover-pg-regress")
    parser.add_argument("--suite", help="where the suite is kept; as a rule in --work")
    parser.add_argument("--only", default="", help="these files; test_setup comes before them")
    parser.add_argument("--missing", help="the files without an answer in this page, behind those that make what others use")
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--resume", action="store_true", help="go on with the run in --work")
    parser.add_argument("--compare", action="store_true", help="compare once more what the run in --work left")
    parser.add_argument("--merge", default="", help="run nothing: take what was found from these folders, the last one counts")
    parser.add_argument("--write", help="the page whose table is brought up to date")
    options = parser.parse_args()
    for folder in (options.work, options.suite or options.work):
        os.makedirs(folder, exist_ok=True)
    suite = fetch(options.suite or options.work)
    names = schedule(suite)
    results = Results(options.work, options.resume or options.compare)
    for kind in [] if options.merge else options.runs.split(","):
        files = names if kind == "unsharded" else concerned(suite, names)
        if options.only:
            files = ["test_setup"] + options.only.split(",")
        elif options.missing:
            cells = table(open(options.missing).read())
            makers = ("test_setup", "create_")
            files = [name for name in files if name.startswith(makers) or cells.get(name, {}).get(kind, "–") == "–"]
        if options.compare:
            for name in results.rows(kind):
                out = [os.path.join(options.work, f"{kind}-{side}") for side in ("base", "drover")]
                found = compare(suite, *out, name, kind == "sharded")
                results.put(kind, name, dict(results.runs[kind][name], differences=found))
        else:
            run_files(options, suite, kind, files, results)
    runs = {kind: {} for kind in RUNS}
    for found in [Results(folder, True) for folder in options.merge.split(",") if folder] or [results]:
        for kind in RUNS:
            runs[kind].update(found.rows(kind))
    for kind, rows in runs.items():
        total = sum(rows.values(), collections.Counter())
        print(f"{kind}: {sum(not row for row in rows.values())} of {len(rows)} files the same; statements: {dict(total)}")
        for name, row in rows.items():
            if row:
                print(f"  {name}: {badge(row)}")
    if options.write:
        write(options.write, names, runs)


main()
