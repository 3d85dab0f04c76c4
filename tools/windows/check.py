#!/usr/bin/env python3
"""Runs the Windows build under Wine: recorded migrations, kills, undo, locks, and logs of Linux.

    check.py GROUNDSKEEPER.exe REPLAY.exe REPLAY [WORD ...]

Each recorded case must come out as the original's. After a kill at any point the database is the
whole old or the whole new one, and the next run ends as an uninterrupted one does. Prints a table;
exit code 1 when a line of it is red. Needs WINE and WINEPREFIX, as `setup` writes them to a file.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures"
# Longest run of one program, in seconds. Wine starts slowly on a busy machine.
LIMIT = 120
# Kills at random instants, with a fixed seed so that a red run can be repeated.
RANDOM_KILLS = 20
SEED = 1
# Points that a migration passes outside the keychain, which the cases of the kills do not use.
POINTS = [
    "migrate.marked", "migrate.secrets_kept", "migrate.copied", "migrate.normalised",
    "migrate.built", "migrate.secrets_written", "migrate.stamped", "migrate.settled",
    "migrate.verified", "flip.backed_up", "flip.installed", "migrate.copies_gone",
    "migrate.secrets_settled", "migrate.performed",
]
# The case of the kills: several plug-ins and a file with secrets.
KILLED_CASE = "02-plugin-mix"
# The original asks a real keychain there, which a file cannot imitate.
NEEDS_KEYCHAIN = {"26-keychain-unreachable", "97-fail-keychain-set"}


def windows(path):
    """Returns a path as Windows programs see it: Wine shows the whole system as drive Z."""
    return "Z:" + str(path).replace("/", "\\")


class Program:
    """A Windows program."""

    def __init__(self, path):
        self.path = path

    def start(self, *args, **env):
        command = [os.environ["WINE"], str(self.path), *map(str, args)]
        environment = dict(os.environ, GROUNDSKEEPER_OFFLINE="1", **env)
        # Files and no pipes: Wine's own server inherits them, and a pipe would end with it only.
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=err)
        process.printed = (out, err)
        return process

    def run(self, *args, **env):
        """Returns exit code, stdout and stderr."""
        return ended(self.start(*args, **env))


def ended(process):
    """Waits for a program; returns exit code, stdout and stderr."""
    try:
        process.wait(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    printed = []
    for file in process.printed:
        file.seek(0)
        printed.append(file.read())
        file.close()
    return process.returncode, printed[0], printed[1].decode(errors="replace")


class Place:
    """A folder with the files of a recorded case."""

    def __init__(self, program, case):
        self.program = program
        self.dir = Path(tempfile.mkdtemp(prefix="windows-"))
        self.tenant = "workspace-1a2b3c4d"
        self.database, self.auth = self.dir / "data.db", self.dir / "auth.json"
        if case is not None:
            self.tenant = read(case / "result.json")["tenant"]
            for source in sorted((case / "v1").iterdir()):
                shutil.copyfile(source, self.dir / source.name)

    def migrate(self, *args, **env):
        keychain = windows(self.dir / "keyring.json")
        args = ("migrate", windows(self.database), "--recipe", "executor", "--tenant", self.tenant,
                "--auth", windows(self.auth), "--data-dir", windows(self.dir / "home"),
                "--json", "--progress", "none", *args)
        return self.program.run(*args, GROUNDSKEEPER_KEYCHAIN_FILE=keychain, **env)

    def start(self, **env):
        keychain = windows(self.dir / "keyring.json")
        args = ("migrate", windows(self.database), "--recipe", "executor", "--tenant", self.tenant,
                "--auth", windows(self.auth), "--data-dir", windows(self.dir / "home"),
                "--json", "--progress", "none")
        return self.program.start(*args, GROUNDSKEEPER_KEYCHAIN_FILE=keychain, **env)

    def undo(self):
        args = ("migrate", "undo", windows(self.database), "--data-dir",
                windows(self.dir / "home"), "--json")
        return self.program.run(*args)

    def files(self):
        return {path.name: path.read_bytes() for path in self.dir.iterdir() if path.is_file()}

    def leftovers(self):
        """Returns what a migration should have removed."""
        marks = (".source-", ".building-", ".migration.json", ".v1-v2-migration.json", ".tmp")
        return [name for name in self.files() if any(mark in name for mark in marks)]

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def read(path):
    return json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))


def cell(value):
    if isinstance(value, float):
        return {"$real": repr(value)}
    if isinstance(value, bytes):
        return {"$blob": value.hex()}
    return value


def rows(database):
    """Returns all rows by table. A copy is read, so that the files stay as they are."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            source = Path(str(database) + suffix)
            if source.exists():
                shutil.copyfile(source, str(copy) + suffix)
        connection = sqlite3.connect(copy)
        connection.text_factory = lambda text: text.decode(errors="surrogateescape")
        named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        tables = {}
        for (table,) in connection.execute(named).fetchall():
            found = connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid')
            names = [column[0] for column in found.description]
            tables[table] = [dict(zip(names, map(cell, row))) for row in found]
        connection.close()
        return tables


def same(found, recorded):
    if recorded == "<NOW>":
        return isinstance(found, int)
    if recorded == "<NOW+3600000>":
        return isinstance(found, str) and found.isdigit()
    if recorded == "<ROWID>":
        return isinstance(found, str) and found != ""
    return type(found) is type(recorded) and found == recorded


def difference(database, recorded):
    """Returns the first difference between a database and recorded rows; None for none."""
    tables = rows(database)
    for table, expected in recorded.items():
        if table not in tables:
            return f"no table {table}"
        if len(tables[table]) != len(expected["rows"]):
            return f"{table}: {len(tables[table])} rows, not {len(expected['rows'])}"
        for at, (found, wanted) in enumerate(zip(tables[table], expected["rows"])):
            for name in wanted:
                if name not in found or not same(found[name], wanted[name]):
                    return f"{table}[{at}].{name}: {found.get(name)!r}, not {wanted[name]!r}"
    return None


def recorded_case(program, case):
    """Migrates one case; returns what is wrong, or None."""
    place = Place(program, case)
    try:
        result, before = read(case / "result.json"), place.files()
        code, _, err = place.migrate()
        if not result["ok"]:
            after = {name: place.files().get(name) for name in before}
            if code == 0:
                return "it was migrated, and the original refuses it"
            return None if after == before else "refused, and files were changed"
        if code != 0:
            return f"exit code {code}: {err.strip()[-300:]}"
        if not result["migrated"]:
            return None if place.files()["data.db"] == before["data.db"] else "it was changed"
        return difference(place.database, read(case / "v2.json")) or left(place)
    finally:
        place.remove()


def left(place):
    return f"left behind: {place.leftovers()}" if place.leftovers() else None


def crash_state(program, archive):
    """Takes over what the original left when it was killed."""
    place = Place(program, None)
    try:
        with tarfile.open(archive) as state:
            state.extractall(place.dir, filter="data")
        manifest = place.dir / "data/data.db.v1-v2-migration.json"
        if manifest.exists():
            root = json.dumps(windows(place.dir))[1:-1]
            text = manifest.read_text().replace("@ROOT@/", root + "\\\\")
            manifest.write_text(text)
        place.database = place.dir / "data/data.db"
        place.auth = place.dir / "xdg/executor/auth.json"
        code, _, err = place.migrate()
        if code == 0:
            code, _, err = place.migrate()
        if code != 0:
            return f"exit code {code}: {err.strip()[-300:]}"
        wanted = read(FIXTURES / "executor/crash/uninterrupted.v2.json")
        wrong = difference(place.database, wanted)
        auth = read(FIXTURES / "executor/crash/uninterrupted.auth.json")
        return wrong or (None if read(place.auth) == auth else "the secrets differ")
    finally:
        place.remove()


def whole(place, old, wanted):
    """Returns what is wrong with a database after a kill; old or new, it must be complete."""
    if not place.database.exists():
        return None if list(place.dir.glob("data.db.v1-v2-*")) else "there is no database"
    if rows(place.database) == old:
        return None
    return difference(place.database, wanted)


def killed(program, kill):
    """Kills a migration, then runs it to its end."""
    case = FIXTURES / "executor/cases" / KILLED_CASE
    place, wanted = Place(program, case), read(case / "v2.json")
    try:
        old = rows(place.database)
        wrong = kill(place) or whole(place, old, wanted)
        if wrong:
            return wrong
        code, _, err = place.migrate()
        if code != 0:
            return f"exit code {code} afterwards: {err.strip()[-300:]}"
        return difference(place.database, wanted) or left(place)
    finally:
        place.remove()


def kill_at(point):
    def kill(place):
        code, _, _ = place.migrate(GROUNDSKEEPER_KILL_AT=point)
        return f"{point} was not reached" if code == 0 else None
    return kill


def kill_after(seconds):
    def kill(place):
        process = place.start()
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        ended(process)
        return None
    return kill


def undone(program):
    """An undo leads back to the old bytes; a write to the new database refuses it."""
    case = FIXTURES / "executor/cases" / KILLED_CASE
    for writes in (False, True):
        place = Place(program, case)
        try:
            before = place.files()
            code, _, err = place.migrate()
            if code != 0:
                return f"exit code {code}: {err.strip()[-300:]}"
            if writes:
                connection = sqlite3.connect(place.database)
                connection.execute("CREATE TABLE later (a)")
                connection.close()
            code, _, err = place.undo()
            after = {name: place.files().get(name) for name in before}
            if writes and code == 0:
                return "an undo lost a write"
            if not writes and (code != 0 or after != before):
                return f"exit code {code}, not the old files: {err.strip()[-300:]}"
        finally:
            place.remove()
    return None


def excluded(program):
    """Two processes with logs of their own: the second one is refused, the first one ends."""
    case = FIXTURES / "executor/cases" / KILLED_CASE
    first = Place(program, case)
    second = Place(program, None)
    second.database, second.auth = first.database, first.auth
    second.tenant = first.tenant
    try:
        process = first.start(GROUNDSKEEPER_FAULT="sync:700ms:1")
        until = time.monotonic() + LIMIT
        while not list(first.dir.glob("data.db.source-*")) and time.monotonic() < until:
            time.sleep(0.02)
        code, out, _ = second.migrate()
        ended(process)
        if code == 0 or b"database_in_use" not in out:
            return f"the second process was not refused: {code} {out[-200:]!r}"
        return difference(first.database, read(case / "v2.json"))
    finally:
        first.remove()
        second.remove()


def private(program):
    """Secrets, their kept copies and the directories of a migration are the owner's alone.

    Wine shows an access list as the mode of the file: everyone's entry becomes the last three bits.
    It inherits no list, so the log in the private directory is not looked at. SQLite itself creates
    the sidecars of a copy. The control is the database, which everyone could read before.
    """
    case = FIXTURES / "executor/cases" / KILLED_CASE
    place = Place(program, case)
    try:
        place.database.chmod(0o644)
        place.auth.unlink(missing_ok=True)
        shutil.copyfile(case / "v1/auth.json", place.auth)
        place.auth.chmod(0o644)
        process = place.start(GROUNDSKEEPER_FAULT="sync:300ms:1")
        seen = {}
        until = time.monotonic() + LIMIT
        while process.poll() is None and time.monotonic() < until:
            for path in place.dir.rglob("*"):
                if ".source-" in path.name or ".building-" in path.name:
                    try:
                        seen.setdefault(path.name, path.stat().st_mode & 0o077)
                    except FileNotFoundError:
                        pass
            time.sleep(0.01)
        code, _, err = ended(process)
        if code != 0:
            return f"exit code {code}: {err.strip()[-300:]}"
        # Wine turns "read" into "read and execute", so only these two bits are compared.
        if place.database.stat().st_mode & 0o006 != 0o004:
            return f"the new database has the mode {place.database.stat().st_mode:o}"
        copies = [name for name in seen if ".source-" in name]
        if not copies:
            return "the private copy was not seen"
        found = [path for path in (place.dir / "home").rglob("*")]
        kept = [path for path in found if path.name == "secrets"]
        if not kept:
            return "no secrets were kept"
        wrong = [f"{path.name} {path.stat().st_mode:o}" for path in [place.dir / "home", *found]
                 if path.stat().st_mode & 0o007 and path.name != "log.redb"]
        wrong += [f"{name} {seen[name]:o}" for name in copies
                  if seen[name] & 0o007 and not name.endswith(("-wal", "-shm"))]
        return f"others can access {', '.join(wrong)}" if wrong else None
    finally:
        place.remove()


def logs(replay_exe, replay):
    """Logs that Linux made are read to the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(FIXTURES / "data" / "generation-1.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        found = sorted(Path(folder).rglob("log.redb"))
        if not found:
            return "the fixture holds no log"
        cut = Path(folder) / "cut.redb"
        cut.write_bytes(found[0].read_bytes()[:-5000])
        for log in [*found, cut]:
            for verb in (["list", "--json"], ["verify", "--json"], ["stats", "--json"]):
                ours = subprocess.run([replay, *verb, log], capture_output=True, timeout=LIMIT)
                theirs = Program(replay_exe).run(*verb, windows(log))
                expected = ours.stdout.replace(json.dumps(str(log))[1:-1].encode(),
                                               json.dumps(windows(log))[1:-1].encode())
                if (ours.returncode, expected) != (theirs[0], theirs[1]):
                    return f"{' '.join(verb)} of {log.name} differs"
    return None


def main():
    exe, replay_exe, replay, *words = sys.argv[1:]
    program, began, red = Program(exe), time.monotonic(), 0
    checks = []
    for case in sorted((FIXTURES / "executor/cases").iterdir()):
        if case.name not in NEEDS_KEYCHAIN:
            checks.append((f"case {case.name}", lambda c=case: recorded_case(program, c)))
    for archive in sorted((FIXTURES / "executor/crash").glob("*.state.tar.gz")):
        name = archive.name.split(".")[0]
        checks.append((f"taken over: {name}", lambda a=archive: crash_state(program, a)))
    for point in POINTS:
        checks.append((f"killed at {point}", lambda p=point: killed(program, kill_at(p))))
    chance = random.Random(SEED)
    for number in range(RANDOM_KILLS):
        after = chance.uniform(0.05, 2.5)
        label = f"killed after {after:.2f} s ({number + 1})"
        checks.append((label, lambda s=after: killed(program, kill_after(s))))
    checks.append(("undo", lambda: undone(program)))
    checks.append(("two processes", lambda: excluded(program)))
    checks.append(("private files", lambda: private(program)))
    checks.append(("logs of Linux", lambda: logs(replay_exe, replay)))
    # With words, only the checks whose names have one of them.
    checks = [c for c in checks if not words or any(word in c[0] for word in words)]
    for name, check in checks:
        start = time.monotonic()
        try:
            wrong = check()
        except (OSError, subprocess.TimeoutExpired, sqlite3.Error) as error:
            wrong = f"{type(error).__name__}: {error}"
        red += wrong is not None
        took = time.monotonic() - start
        print(f"{'ok ' if wrong is None else 'RED'} {took:6.1f} s  {name}"
              + ("" if wrong is None else f"\n      {wrong}"), flush=True)
    print(f"{len(checks) - red} of {len(checks)} in {time.monotonic() - began:.0f} s")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
