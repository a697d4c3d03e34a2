"""History: what ran with a cache, and how long it took, for whoever asks why something will run again.

One SQLite file beside the results. It is a help, never a need: nothing that a run gives depends on it. A database that
is damaged is set aside and begun anew; one that is locked, or cannot be written, is left alone. Only a warning tells.

    tasks   a row per task: how long a call takes
    codes   a row per version of a task's code: what that was made of
    nodes   a row per key: the node's label, its code and arguments, when it ran last
    failures  a row per key that has failed since, or never had a value: the error

Written by drivers only, a transaction per batch; several may do so at once. Nothing is unpickled when it is read.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings

from graphray.executors.cache.rules import is_own, module_name, name_of, rule_of
from graphray.graph.digest import arguments_of, cache_key, code_of, file_digest, parts_of
from graphray.graph.iterate import ITERATE
from graphray.graph.node import Node, short
from graphray.graph.sources import FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, TypeAlias, TypeVar

    from graphray.graph.task import Task

    # Of one argument: its place or keyword, a short text, and a short digest in hex.
    Argument: TypeAlias = tuple[str, str, str]
    _T = TypeVar("_T")

NAME = "history.sqlite"
VERSION = 2  # of the tables
MOST_NODES = 200_000  # rows that are kept; the oldest go first
MOST_CODES = 50  # versions of one task's code that are kept
MOST_FAILURES = 1_000  # the same of failures
LONGEST = 200  # characters of an error that are kept
PER_RUN = 20_000  # nodes of one call of `note` that get a row
PATIENCE = 2.0  # seconds to wait for another process that writes
FILES = 64  # files inside one node's arguments that are remembered one by one

_TABLES = """
CREATE TABLE tasks (name TEXT PRIMARY KEY, calls INTEGER, seconds REAL, latest REAL, time REAL) WITHOUT ROWID;
CREATE TABLE codes (id INTEGER PRIMARY KEY, task TEXT, code BLOB, parts TEXT, time REAL, UNIQUE (task, code));
CREATE TABLE nodes (id INTEGER PRIMARY KEY, key BLOB UNIQUE, task TEXT, label TEXT, code BLOB, seed TEXT,
                    arguments TEXT, seconds REAL, time REAL);
CREATE TABLE failures (id INTEGER PRIMARY KEY, key BLOB UNIQUE, error TEXT, time REAL);
CREATE INDEX by_task ON nodes (task, label);
"""


class Record:
    """A node that ran.

    Attributes:
        key: what its result was stored under.
        task: its task, `module.qualname`.
        label: the node in short.
        code: digest of the task's code.
        seed: the run's root seed.
        arguments: of each argument its place or keyword, a short text and a short digest; files anywhere in them too,
            by path, under the name "file".
        seconds: how long it took; None if that is not known.
        time: when it ended, in seconds since the epoch.
    """

    __slots__ = ("arguments", "code", "key", "label", "seconds", "seed", "task", "time")

    def __init__(
        self,
        key: bytes,
        task: str,
        label: str,
        code: bytes,
        seed: int,
        arguments: list[Argument],
        seconds: float | None,
        time: float,
    ) -> None:
        self.key = key
        self.task = task
        self.label = label
        self.code = code
        self.seed = seed
        self.arguments = arguments
        self.seconds = seconds
        self.time = time


class History:
    """What ran with the cache in a directory.

    Cheap to make: nothing is opened before something is asked. Within `with history:` one connection serves all
    questions; without, each opens its own. Safe to use from several threads.

    Args:
        directory: that of the cache. It is not made: without it there is no history, and nothing is written.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = os.path.join(os.fspath(directory), NAME)
        self._db: sqlite3.Connection | None = None
        self._inode: int | None = None  # of the file that is open
        self._lock = threading.RLock()
        self._inside = 0

    def __enter__(self) -> History:
        with self._lock:
            self._inside += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._close()

    # ---- writing

    def note(
        self,
        nodes: Iterable[Node],
        spent: Mapping[Task, Sequence[float]],
        seed: int,
        seconds: Mapping[Node, float] | None = None,
        failed: Mapping[Node, str] | None = None,
    ) -> None:
        """Remember what ran, at the end of a run or now and then.

        Args:
            nodes: those that ran and have a value, after `digest_all`. Nodes without digest and graphray's own are left
                out; beyond `PER_RUN` nodes, evenly chosen ones stand for all.
            spent: of each task, how many calls were made and how many seconds they took together, since the last time.
            seed: the run's root seed.
            seconds: how long single nodes took, where that is known.
            failed: those that have failed, and the errors.
        """
        durations: dict[str, tuple[float, float]] = {}
        for task, (calls, total) in spent.items():
            if calls and task.kind == "call" and not is_own(task):
                before = durations.get(name_of(task), (0, 0.0))
                durations[name_of(task)] = (before[0] + calls, before[1] + total)
        ran = list(nodes)
        if len(ran) > PER_RUN:
            ran = [ran[i * len(ran) // PER_RUN] for i in range(PER_RUN)]
        errors = {}
        for node, text in list((failed or {}).items())[-MOST_FAILURES:]:
            errors.update({r.key: text[:LONGEST] for r in records([node], seed, {})})
        self.note_ran(records(ran, seed, seconds or {}), durations, versions([*ran, *(failed or ())]), errors)

    def note_ran(
        self,
        rows: Iterable[Record],
        durations: Mapping[str, tuple[float, float]] | None = None,
        codes: Mapping[tuple[str, bytes], Mapping[str, str]] | None = None,
        failed: Mapping[bytes, str] | None = None,
    ) -> None:
        """Remember records, in one transaction.

        Args:
            rows: the nodes that ran.
            durations: by task, how many calls were made and how many seconds they took together.
            codes: by task and digest of its code, what that was made of.
            failed: the errors of others, by key.
        """
        import json

        batch = [
            (r.key, r.task, r.label, r.code, str(r.seed), _compact(json, r.arguments), r.seconds, r.time) for r in rows
        ]
        if not batch and not durations and not failed:
            return

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.execute("BEGIN IMMEDIATE")
                self._put(db, batch, durations or {}, codes or {}, failed or {}, json)

        self._with(write, None, makes=True)

    def _put(
        self,
        db: sqlite3.Connection,
        batch: list[tuple[Any, ...]],
        durations: Mapping[str, tuple[float, float]],
        codes: Mapping[tuple[str, bytes], Mapping[str, str]],
        failed: Mapping[bytes, str],
        json: Any,
    ) -> None:
        from time import time

        now = time()
        db.executemany(
            # A mean in which each run counts half as much as the next: the machine and the data change.
            "INSERT INTO tasks VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT (name) DO UPDATE SET calls = calls + ?2, "
            "seconds = (seconds + ?3) / 2, latest = ?3, time = ?4",
            [(name, calls, total / calls, now) for name, (calls, total) in durations.items()],
        )
        for (name, code), parts in codes.items():
            db.execute(
                "INSERT INTO codes (task, code, parts, time) VALUES (?1, ?2, ?3, ?4) "
                "ON CONFLICT (task, code) DO UPDATE SET time = ?4",
                (name, code, json.dumps(dict(parts)), now),
            )
            db.execute(
                "DELETE FROM codes WHERE task = ?1 AND id NOT IN "
                "(SELECT id FROM codes WHERE task = ?1 ORDER BY time DESC, id DESC LIMIT ?2)",
                (name, MOST_CODES),
            )
        db.executemany(
            "INSERT OR REPLACE INTO nodes (key, task, label, code, seed, arguments, seconds, time) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            batch,
        )
        # A row that is replaced gets a new number, so the lowest numbers are the oldest rows.
        db.execute("DELETE FROM nodes WHERE id <= (SELECT max(id) FROM nodes) - ?", (MOST_NODES,))
        db.executemany("DELETE FROM failures WHERE key = ?", [(key,) for key, *_ in batch])
        db.executemany(
            "INSERT OR REPLACE INTO failures (key, error, time) VALUES (?, ?, ?)",
            [(key, text, now) for key, text in failed.items()],
        )
        db.execute("DELETE FROM failures WHERE id <= (SELECT max(id) FROM failures) - ?", (MOST_FAILURES,))

    # ---- asking

    def seconds(self, task: str) -> float | None:
        """How long a call of a task takes, in seconds: a mean in which later runs count more. None: never ran."""
        rows = self._ask("SELECT seconds FROM tasks WHERE name = ?", (task,))
        return float(rows[0][0]) if rows and isinstance(rows[0][0], (int, float)) else None

    def seen(self, key: bytes) -> Record | None:
        """The node of this key, if it ran."""
        found = self._records("WHERE key = ?", (key,))
        return found[0] if found else None

    def failure(self, key: bytes) -> str | None:
        """The error of the node of this key, if it has failed and had no value since."""
        rows = self._ask("SELECT error FROM failures WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def latest(self, task: str, label: str | None = None, limit: int = 1) -> list[Record]:
        """The nodes of a task, or of these those of one label, that ran last; the latest first."""
        if label is None:
            return self._records("WHERE task = ? ORDER BY id DESC LIMIT ?", (task, limit))
        return self._records("WHERE task = ? AND label = ? ORDER BY id DESC LIMIT ?", (task, label, limit))

    def codes(self, task: str) -> list[tuple[bytes, dict[str, str], float]]:
        """The versions of a task's code that ran, the latest first: digest, what it was made of, and when it ran."""
        import json

        found = []
        rows = self._ask("SELECT code, parts, time FROM codes WHERE task = ? ORDER BY time DESC, id DESC", (task,))
        for code, parts, time in rows:
            with contextlib.suppress(*_NONSENSE):
                known = {str(name): str(digest) for name, digest in json.loads(parts).items()}
                found.append((_bytes(code), known, float(time)))
        return found

    def _records(self, where: str, values: tuple[Any, ...]) -> list[Record]:
        columns = "key, task, label, code, seed, arguments, seconds, time"
        rows = self._ask(f"SELECT {columns} FROM nodes {where}", values)
        return [record for record in map(_record, rows) if record is not None]

    def _ask(self, question: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._with(lambda db: db.execute(question, values).fetchall(), [])

    # ---- the database

    def _with(self, use: Callable[[sqlite3.Connection], _T], otherwise: _T, makes: bool = False) -> _T:
        """What `use` makes of the database; `otherwise` where there is none or something is wrong with it."""
        import sqlite3

        with self._lock:
            try:
                if self._db is None:
                    self._inode = _inode(self.path)
                    self._db = self._open(makes)
                return otherwise if self._db is None else use(self._db)
            except sqlite3.Error as error:
                self._close()
                # Something else in its place: pages that make no sense, no database at all, or not these tables.
                kind = getattr(error, "sqlite_errorname", "")
                if kind.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or kind == "SQLITE_ERROR":
                    self._set_aside(error)
                else:  # locked, full, read-only: may be better next time
                    _warn(self.path, f"is left out: {error}")
            except ValueError as error:  # a text that is none
                self._close()
                self._set_aside(error)
            except OSError as error:
                self._close()
                _warn(self.path, f"is left out: {error.strerror or error}")
            finally:
                if not self._inside:
                    self._close()
            return otherwise

    def _open(self, write: bool) -> sqlite3.Connection | None:
        import sqlite3
        from urllib.parse import quote

        exists = os.path.exists(self.path)
        if not exists:
            if not write or not os.path.isdir(os.path.dirname(self.path) or "."):
                return None
            # Before SQLite does: it would make it readable for others.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        readable = "rw" if os.access(self.path, os.W_OK) else "ro"
        place = f"file:{quote(os.path.abspath(self.path))}?mode={readable}"
        db = sqlite3.connect(place, PATIENCE, uri=True, isolation_level=None, check_same_thread=False)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                db.close()
                _warn(self.path, f"is left out: a later version of graphray wrote it (format {version})")
                return None
            if version < VERSION:
                if not write:
                    db.close()
                    return None
                self._make_tables(db)
        except BaseException:
            db.close()
            raise
        return db

    def _make_tables(self, db: sqlite3.Connection) -> None:
        with db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return  # somebody else was faster
            for name in ("tasks", "codes", "nodes", "failures"):
                db.execute(f"DROP TABLE IF EXISTS {name}")
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _set_aside(self, error: Exception) -> None:
        """Have the next one begin anew. Not where somebody else has done so since."""
        if self._inode is None or _inode(self.path) != self._inode:
            return
        with contextlib.suppress(OSError):
            os.replace(self.path, f"{self.path}.damaged")
        for leftover in ("-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(self.path + leftover)
        _warn(self.path, f"is damaged ({error}): it was set aside as {NAME}.damaged, and a new one begins")


# ---- from rows to records, and from nodes

_NONSENSE = (ValueError, TypeError, AttributeError, RecursionError)  # what reading a damaged row may raise


def _record(row: tuple[Any, ...]) -> Record | None:
    """A row as a record; None where it makes no sense."""
    import json

    key, task, label, code, seed, arguments, seconds, time = row
    try:
        known = [(str(name), str(text), str(digest)) for name, text, digest in json.loads(arguments)]
        took = None if seconds is None else float(seconds)
        return Record(_bytes(key), str(task), str(label), _bytes(code), int(seed), known, took, float(time))
    except _NONSENSE:
        return None


def _bytes(x: Any) -> bytes:
    if type(x) is not bytes:
        raise TypeError("not bytes")
    return x


def records(nodes: Iterable[Node], seed: int, seconds: Mapping[Node, float]) -> Iterator[Record]:
    """What is to be remembered of nodes that ran, those left out that have no digest or are graphray's own."""
    from time import time

    now = time()
    tasks: dict[Task, tuple[str, bytes] | None] = {}
    for node in nodes:
        task = rule_of(node)
        if task not in tasks:
            code = code_of(task)
            tasks[task] = None if code is None or task.kind != "call" or is_own(task) else (name_of(task), code)
        known = tasks[task]
        digest = getattr(node, "_digest", (0, None))[1]
        if known is not None and type(digest) is bytes:
            key = cache_key(digest, seed)
            label, took = node.label, seconds.get(node)
            yield Record(key, name_in_nodes(node, known[0]), label, known[1], seed, described(node), took, now)


def name_in_nodes(node: Node, task: str) -> str:
    """The name under which a node is remembered: an iteration is no call of its step."""
    return task if node._task is not ITERATE else f"{task} iterated"


def versions(nodes: Iterable[Node]) -> dict[tuple[str, bytes], dict[str, str]]:
    """What the code of the nodes' tasks is made of, by the task's name and the digest of its code."""
    found = {}
    for task in dict.fromkeys([rule_of(node) for node in nodes]):
        code = code_of(task)
        if code is not None and task.kind == "call" and not is_own(task):
            found[name_of(task), code] = named_parts(task)
    return found


def named_parts(task: Task) -> dict[str, str]:
    """What a task's code is made of, modules under the names that they have here (`module_name`)."""
    found = {}
    for name, digest in parts_of(task).items():
        module, dot, rest = name.partition(".")
        found[module_name(module) + dot + rest if dot else name] = digest
    return found


def described(node: Node) -> list[Argument]:
    """What a node was called with, in short."""
    found = [(name, _text(x), digest.hex()) for name, x, digest in arguments_of(node)]
    if node._deps:
        found += [("file", file._args[0], file_digest(file).hex()) for file in files_of(node)]
    return found


def files_of(node: Node) -> list[Node]:
    """The files among a node's arguments, also those inside gathered structures; not all if there are very many."""
    found: dict[Node, None] = {}
    todo = list(node._deps)
    looked = 0
    while todo and len(found) < FILES and looked < 10 * FILES:
        looked += 1
        dep = todo.pop()
        if dep._task is FILE:
            found[dep] = None
        elif dep._deps and is_own(dep._task) and dep._task.kind == "inline":
            todo += dep._deps
    return list(found)


def _text(x: Any) -> str:
    return x.label if type(x) is Node else short(x)


def _compact(json: Any, arguments: list[Argument]) -> str:
    return json.dumps(arguments, separators=(",", ":"))  # type: ignore[no-any-return]


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


_warned: set[str] = set()  # paths of which something was said: once is enough


def _warn(path: str, what: str) -> None:
    if path not in _warned:
        _warned.add(path)
        with contextlib.suppress(Warning):  # where warnings are errors: a run does not end for this
            warnings.warn(f"the cache's history {path} {what}. Results are not affected.", stacklevel=4)
