"""The cache's directory: what is stored is found as it was or not at all, whatever happens to files and processes."""

from __future__ import annotations

import errno
import os
import pickle
import random
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import graphray as gr
from graphray.executors import wire
from graphray.executors.cache import Cache, default_directory
from graphray.executors.cache import entry as entry_module
from graphray.graph.containers import freeze

INFO = {"task": "flow.f", "label": "f(1)", "seconds": 0.25}


def key_of(x: object) -> bytes:
    return random.Random(repr(x)).randbytes(20)


def put(cache: Cache, x: object, value: object, **info: object) -> Path:
    """Store a value under a key that follows from `x`; gives the file."""
    cache.store(key_of(x), wire.dumps(value), {**INFO, **info})
    return file_of(cache, x)


def file_of(cache: Cache, x: object) -> Path:
    name = key_of(x).hex()
    return Path(cache.directory, "objects", name[:2], name)


def get(cache: Cache, x: object) -> object:
    found = cache.find(key_of(x))
    assert found is not None
    return found.load()


def unfinished(cache: Cache) -> list[Path]:
    return [path for path in Path(cache.directory, "parts").rglob("*") if path.is_file()]


def same(a: object, b: object) -> bool:
    """Equal to the bit, and of the same types."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return a == b


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path / "cache")
    yield cache
    cache.close()


# ---- what is stored is found


def arrays() -> st.SearchStrategy[np.ndarray]:
    def make(dtype: str, shape: list[int], seed: int, fixed: bool) -> np.ndarray:
        count = int(np.prod(shape))
        raw = np.random.default_rng(seed).bytes(count * np.dtype(dtype).itemsize)
        array = np.frombuffer(bytearray(raw), dtype).reshape(shape)
        return freeze(array) if fixed else array

    shapes = st.lists(st.sampled_from([0, 1, 3, 40, 300]), min_size=1, max_size=2)
    return st.builds(make, st.sampled_from(["u1", "<i4", "<u8"]), shapes, st.integers(0, 99), st.booleans())


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.binary(max_size=9000) | arrays(),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=5), x, max_size=4) | st.tuples(x, x),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    """A cache for the examples of one property."""
    cache = Cache(tmp_path_factory.mktemp("common") / "cache")
    put(cache, "first", 1)  # it has its folder from here on
    yield cache
    cache.close()


@hypothesis.given(value=VALUES, info=st.dictionaries(st.text(max_size=9), st.text(max_size=300), max_size=3))
def test_what_is_stored_is_found_to_the_bit(common, value, info):
    key = key_of("round trip")
    size = common.store(key, wire.dumps(value), info)
    entry = common.find(key)
    assert same(entry.load(), value)
    assert entry.info == info
    assert entry.key == key
    assert entry.size == size == os.path.getsize(entry.path)
    assert [start % 64 for start, _, _ in entry.table] == [0] * len(entry.table)


@pytest.mark.parametrize("chunk", [64, 1000])
def test_an_entry_of_many_checksums_is_found(cache, monkeypatch, rng, chunk):
    monkeypatch.setattr(entry_module, "CHUNK", chunk)
    value = [freeze(np.frombuffer(rng.randbytes(n), "u1")) for n in (5000, 4096, 12_345, 128_000)]
    path = put(cache, 1, value)
    assert same(get(cache, 1), value)
    damage(path, path.stat().st_size - 1)
    with pytest.warns(UserWarning, match="its content has changed"):
        assert cache.find(key_of(1)) is None


def test_read_only_arrays_are_views_and_writable_ones_are_private(cache):
    fixed, free = freeze(np.arange(100_000)), np.arange(100_000)
    put(cache, 1, {"fixed": fixed, "free": free})
    found = get(cache, 1)
    assert not found["fixed"].flags.writeable
    assert found["fixed"].base is not None

    class Holder:
        def __init__(self, array):
            self.array = array

    put(cache, 2, Holder(free))
    first = get(cache, 2)
    first.array[:] = -1
    assert same(get(cache, 2).array, free)


def test_what_is_found_stays_when_its_file_is_removed_or_replaced(cache):
    for n in (10, 20_000, 500_000):  # read at once; read whole; mapped
        old, new = freeze(np.arange(n)), freeze(np.arange(2 * n))
        put(cache, 1, old)
        removed = cache.find(key_of(1))
        assert cache.remove(key_of(1))
        assert same(removed.load(), old)
        put(cache, 1, old)
        replaced = cache.find(key_of(1))
        put(cache, 1, [new, "another layout"], more="x" * 500)
        value = replaced.load()
        assert same(value, old)
        del replaced, removed
        assert same(value, old)


def test_nothing_is_found_where_nothing_is(cache):
    assert cache.find(key_of(1)) is None
    assert not cache.contains(key_of(1))
    assert not cache.remove(key_of(1))
    assert not cache.link(key_of(2), key_of(1))
    assert list(cache.entries()) == []
    put(cache, 1, 1)
    assert cache.contains(key_of(1))
    assert cache.remove(key_of(1))
    assert cache.find(key_of(1)) is None


def test_another_process_finds_it_and_the_cache_can_be_sent_there(cache, tmp_path):
    put(cache, 1, freeze(np.arange(100_000)))
    sent = tmp_path / "sent"
    sent.write_bytes(pickle.dumps(Cache(cache.directory, "3MB")))
    code = f"""
        import pickle, random
        cache = pickle.load(open({str(sent)!r}, "rb"))
        print(cache.limit, cache.find(random.Random("1").randbytes(20)).load().sum())
    """
    assert python(code) == "3000000 4999950000"


def test_threads_store_and_find_the_same_keys(cache):
    problems: list[object] = []

    def work(number: int) -> None:
        rng = random.Random(number)
        try:
            for _ in range(150):
                x = rng.randrange(5)
                put(cache, x, [x] * 2000)
                found = cache.find(key_of(x))
                if found is None or found.load() != [x] * 2000:
                    problems.append((number, x))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert unfinished(cache) == []
    cache.close()
    assert os.listdir(os.path.join(cache.directory, "parts")) == []


def test_it_is_checked_once_and_again_when_it_has_changed(cache, monkeypatch):
    checks = []
    monkeypatch.setattr(entry_module.Entry, "check", lambda self: checks.append(self.key))
    path = put(cache, 1, 1)
    for _ in range(3):
        get(cache, 1)
    assert len(checks) == 1
    os.utime(path, ns=(0, 10**18))
    get(cache, 1)
    get(cache, 1)
    assert len(checks) == 2
    put(cache, 1, 1)
    get(cache, 1)
    assert len(checks) == 3


# ---- damage


def damage(path: Path, place: int, flip: int = 1) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ flip]))


def is_dropped_or(cache: Cache, x: object, value: object) -> bool:
    """Whether a damaged entry was dropped; else it gives the value."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, again = cache.find(key_of(x)), cache.find(key_of(x))
    if found is not None:
        assert same(found.load(), value)
        assert caught == []
        return False
    assert [("damaged" in str(w.message), file_of(cache, x).name in str(w.message)) for w in caught] == [(True, True)]
    assert not file_of(cache, x).exists()
    assert again is None
    return True


def test_any_flipped_bit_is_noticed(cache, rng):
    value = {"a": freeze(np.arange(600)), "b": [1, "two"]}
    path = put(cache, 1, value)
    whole = path.read_bytes()
    header = whole.index(b"\0\0", len(entry_module.MAGIC) + 8)
    entry = cache.find(key_of(1))
    start = entry.table[0][0]
    for place in range(len(whole)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole)
        damage(path, place, 1 << rng.randrange(8))
        # Only what lies between the header and the frames means nothing.
        assert is_dropped_or(cache, 1, value) or header <= place < start, place


@pytest.mark.parametrize("count", [1, 20_000, 500_000])
def test_what_was_cut_short_or_grew_is_dropped(cache, rng, count):
    value = freeze(np.arange(count))
    whole = put(cache, 1, value).read_bytes()
    path = file_of(cache, 1)
    for length in [0, 1, 16, 17, 25, 26, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(30))]:
        path.write_bytes(whole[:length])
        assert is_dropped_or(cache, 1, value), length
        path.write_bytes(whole[:length] + bytes(len(whole) - length))  # as after a power failure
        assert whole.count(0, length) == len(whole) - length or is_dropped_or(cache, 1, value), length
    path.write_bytes(whole + b"\0")
    assert is_dropped_or(cache, 1, value)


def test_what_is_no_entry_is_dropped(cache, rng):
    path = put(cache, 1, 1)
    magic = entry_module.MAGIC
    header = b'{"info": {}}'
    for content in [
        rng.randbytes(5000),
        pickle.dumps(1),
        magic,
        magic + b"\xff" * 8,
        magic + b"\xff" * 100_000,
        magic + len(header).to_bytes(4, "little") + zlib.crc32(header).to_bytes(4, "little") + header,
        magic.replace(b"1", b"2") + path.read_bytes()[len(magic) :],
    ]:
        path.write_bytes(content)
        assert is_dropped_or(cache, 1, None)


def test_damage_that_kept_the_time_of_the_file_is_noticed_by_another_process(cache):
    path = put(cache, 1, freeze(np.arange(1000)))
    get(cache, 1)
    before = path.stat()
    damage(path, before.st_size - 1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    code = f"""
        import random, warnings
        from graphray.executors.cache import Cache
        with warnings.catch_warnings(record=True, action="always") as caught:
            print(Cache({cache.directory!r}).find(random.Random("1").randbytes(20)), len(caught))
    """
    assert python(code) == "None 1"


def test_verify_finds_all_that_is_damaged_and_only_that(cache, rng):
    for x in range(40):
        put(cache, x, [x] * 5000)
    broken = rng.sample(range(40), 7)
    for x in broken:
        entry = next(cache.entries([key_of(x)]))
        damage(file_of(cache, x), rng.randrange(entry.table[0][0], entry.size))
    whole, damaged = cache.verify()
    assert whole == 33
    assert {key for key, _ in damaged} == {key_of(x) for x in broken}
    assert all(why for _, why in damaged)
    assert cache.verify() == (33, [])
    assert {e.key for e in cache.entries()} == {key_of(x) for x in range(40) if x not in broken}


# ---- two names


def test_an_entry_under_a_second_key_takes_no_more_room(cache):
    value = freeze(np.arange(10_000))
    first = put(cache, 1, value)
    size = cache.size()
    assert cache.link(key_of(2), key_of(1))
    assert cache.link(key_of(2), key_of(1))  # again
    assert os.path.samefile(first, file_of(cache, 2))
    assert cache.size() == size
    assert cache.remove(key_of(1))
    assert same(get(cache, 2), value)
    assert unfinished(cache) == []


def test_where_there_are_no_hard_links_it_is_copied(cache, monkeypatch):
    def refuse(*names):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    put(cache, 1, [1] * 5000)
    fresh = Cache(cache.directory)  # has not written yet
    assert fresh.link(key_of(2), key_of(1))
    assert not os.path.samefile(file_of(cache, 1), file_of(cache, 2))
    assert stat.S_IMODE(file_of(cache, 2).stat().st_mode) == 0o600
    assert get(cache, 2) == [1] * 5000
    assert unfinished(cache) == []
    assert not fresh.link(key_of(3), key_of(9))


def test_what_is_held_stays_until_it_is_released(cache):
    value = freeze(np.arange(50_000))
    path = put(cache, 1, value)
    entry = cache.find(key_of(1))
    held = Path(entry.hold())
    content = path.read_bytes()
    put(cache, 1, "another value")
    assert held.read_bytes() == content
    with pytest.raises(FileNotFoundError, match="another file"):
        cache.hold(entry)
    cache.remove(key_of(1))
    with pytest.raises(FileNotFoundError):
        cache.hold(entry)
    cache.prune(0)
    assert held.read_bytes() == content
    cache.release(str(held))
    cache.release(str(held))  # again
    assert os.listdir(os.path.join(cache.directory, "parts")) == []
    put(cache, 2, 2)
    with pytest.raises(FileNotFoundError, match="not found in a cache"):
        next(cache.entries()).hold()


# ---- room


def use(cache: Cache, x: object, moment: float) -> None:
    """Have an entry look as if it was last used then."""
    os.utime(file_of(cache, x), (moment, moment))


def test_what_was_used_longest_ago_goes_first(cache, rng):
    order = rng.sample(range(20), 20)
    for x in range(20):
        size = put(cache, x, "x" * 1000).stat().st_size
    for i, x in enumerate(order):
        use(cache, x, 1e9 + i)
    saved = order[3]
    get(cache, saved)  # is a use
    assert cache.prune(10 * size) == (10, 10 * size)
    left = {x for x in range(20) if cache.contains(key_of(x))}
    assert left == {saved, *order[11:]}
    assert cache.size() == 10 * size


def test_a_use_is_noted_and_a_look_is_not(cache):
    path = put(cache, 1, 1)
    use(cache, 1, 1e9)
    list(cache.entries())
    cache.verify()
    assert cache.contains(key_of(1))
    assert path.stat().st_atime == 1e9 or not hasattr(os, "O_NOATIME")
    began = time.time() - 0.01
    get(cache, 1)
    assert path.stat().st_atime >= began
    assert path.stat().st_mtime == 1e9


def test_what_was_not_used_for_long_goes(cache):
    for x in range(5):
        put(cache, x, x)
        use(cache, x, time.time() - 86400 * x - 60)
    assert cache.prune(older_than=2.5 * 86400)[0] == 2
    assert [cache.contains(key_of(x)) for x in range(5)] == [True, True, True, False, False]
    assert cache.prune() == (0, 0)


def test_a_file_of_two_keys_goes_at_once(cache):
    put(cache, 1, "x" * 5000)
    cache.link(key_of(2), key_of(1))
    size = put(cache, 3, "x" * 5000).stat().st_size
    use(cache, 1, 1e9)
    assert cache.prune(size) == (2, file_of(cache, 3).stat().st_size)
    assert cache.contains(key_of(3))


def test_a_cache_stays_within_its_limit_while_it_is_written(tmp_path):
    cache = Cache(tmp_path / "cache", limit=200_000)
    most = 0
    for x in range(300):
        put(cache, x, "x" * 5000)
        most = max(most, cache.size())
    assert 150_000 < most <= 200_000 * 1.05 + 5500
    assert cache.contains(key_of(299))
    assert not cache.contains(key_of(0))


def test_processes_that_write_little_keep_it_within_its_limit_too(tmp_path):
    """A short process that writes less than is written between two looks has a look all the same, now and then."""
    from graphray.executors.cache import eviction

    for x in range(400):
        eviction._allowed.clear()  # as in a new process
        put(Cache(tmp_path / "cache", limit=200_000), x, "x" * 2000)
    assert Cache(tmp_path / "cache").size() < 200_000 * 1.3


def test_limits(tmp_path, monkeypatch):
    assert Cache(tmp_path, limit="3GB").limit == 3 * 10**9
    assert Cache(tmp_path, limit=12345).limit == 12345
    assert 0 < Cache(tmp_path).limit <= 20 * 10**9
    monkeypatch.setenv("GRAPHRAY_CACHE_SIZE", "7 MiB")
    assert Cache(tmp_path).limit == 7 << 20
    assert Cache(tmp_path, limit=1).limit == 1
    monkeypatch.setenv("GRAPHRAY_CACHE_SIZE", "much")
    with pytest.raises(ValueError, match=r"GRAPHRAY_CACHE_SIZE= is a number of bytes or a text .* not 'much'"):
        Cache(tmp_path)
    for wrong in ("lots", 0, -1, 1.5):
        with pytest.raises(ValueError, match="limit= is a number of bytes"):
            Cache(tmp_path, limit=wrong)


def test_a_result_that_would_fill_the_cache_is_refused_and_the_others_stay(tmp_path):
    cache = Cache(tmp_path / "cache", limit=100_000)
    for x in range(10):
        put(cache, x, "x" * 5000)
    for size in (95_000, 10_000_000):
        with pytest.raises(
            OSError, match=r"it has [\d,]+ bytes, and the cache's limit is 100,000 \(.*GRAPHRAY_CACHE_SIZE"
        ):
            put(cache, "large", b"x" * size)
    assert [cache.contains(key_of(x)) for x in range(10)] == [True] * 10
    assert unfinished(cache) == []
    put(cache, "large", b"x" * 85_000)
    put(cache, "small", b"x" * 20_000)
    assert cache.contains(key_of("small"))


@pytest.mark.parametrize("count", [100, 100_000])
def test_on_a_full_disk_the_oldest_make_room(cache, monkeypatch, count):
    for x in range(20):
        put(cache, x, np.arange(20_000).tobytes())
        use(cache, x, 1e9 + x)
    room = cache.size() + 1000
    full_disk(monkeypatch, cache, room)
    value = freeze(np.arange(count))
    put(cache, "new", value)
    assert same(get(cache, "new"), value)
    gone = [x for x in range(20) if not cache.contains(key_of(x))]
    assert gone == list(range(len(gone)))
    assert 1 <= len(gone) <= 12  # not more than it takes and some
    assert unfinished(cache) == []


def test_where_no_room_can_be_made_there_is_an_error_and_nothing_left(cache, monkeypatch):
    put(cache, 1, 1)
    full_disk(monkeypatch, cache, 2000)
    for value in ("x" * 3000, freeze(np.arange(100_000))):
        with pytest.raises(OSError, match="No space left"):
            put(cache, "new", value)
        assert not cache.contains(key_of("new"))
        assert unfinished(cache) == []


def full_disk(monkeypatch: pytest.MonkeyPatch, cache: Cache, room: int) -> None:
    """From now on the cache's file system has room for so many bytes."""
    write, pwrite = os.write, os.pwrite

    def left() -> int:
        used = sum(path.stat().st_size for path in Path(cache.directory).rglob("*") if path.is_file())
        return room - used

    def limited(fd: int, data: object, *place: int) -> int:
        view = memoryview(data).cast("B")
        free = left()
        if free <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return (pwrite if place else write)(fd, view[:free], *place)  # as much as there is room for

    monkeypatch.setattr(os, "write", limited)
    monkeypatch.setattr(os, "pwrite", limited)


def test_a_file_that_may_not_become_so_large_is_an_error_and_leaves_nothing(cache):
    code = f"""
        import random, resource, signal
        import numpy as np
        from graphray.executors import wire
        from graphray.executors.cache import Cache
        cache = Cache({cache.directory!r})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        for count in (7_000, 100_000):
            try:
                cache.store(random.Random("1").randbytes(20), wire.dumps(np.arange(count)), {{}})
            except OSError as error:
                print("error")
        cache.store(random.Random("2").randbytes(20), wire.dumps(2), {{}})
    """
    assert python(code) == "error\nerror"
    assert not cache.contains(key_of(1))
    assert get(cache, 2) == 2
    assert unfinished(cache) == []


# ---- several processes, and sudden ends


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=100, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WORK = """
    import random, sys, time
    import numpy as np
    from graphray.executors import wire
    from graphray.executors.cache import Cache
    from graphray.graph.containers import freeze

    def value(x):
        return freeze(np.full(2000 * (x % 5) ** 3 + 3, x))

    directory, seed, seconds, keeps = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), "keeps" in sys.argv
    rng, cache = random.Random(seed), Cache(directory, limit=2_000_000)
    end = time.monotonic() + seconds
    done = {"found": 0, "missed": 0, "stored": 0, "linked": 0, "pruned": 0}
    cache.store(random.Random("0").randbytes(20), wire.dumps(value(0)), {})
    print("ready", flush=True)
    while time.monotonic() < end:
        x = rng.randrange(20)
        key, copy = random.Random(repr(x)).randbytes(20), random.Random(repr(-x)).randbytes(20)
        what = rng.random()
        if what < 0.5:
            entry = cache.find(rng.choice([key, copy]))
            done["missed" if entry is None else "found"] += 1
            if entry is not None:
                if rng.random() < 0.2 and not keeps:
                    cache.remove(key)
                assert np.array_equal(entry.load(), value(x)), x
        elif what < 0.85:
            cache.store(key, wire.dumps(value(x)), {"label": "l" * rng.randrange(200), "seconds": rng.random()})
            done["stored"] += 1
        elif what < 0.95:
            done["linked"] += cache.link(copy, key)
        elif what < 0.98 and not keeps:
            cache.prune(rng.randrange(2_000_000))
            done["pruned"] += 1
        else:
            assert all(e.key and e.size for e in cache.entries())
    cache.close()
    print(*done.values())
"""


def workers(directory: str, seeds: list[int], seconds: float, *more: str) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "always", "-c", textwrap.dedent(WORK), directory]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([*command, str(seed), str(seconds), *more], **pipes) for seed in seeds]


def test_processes_that_store_find_link_and_prune_at_once_do_no_harm(cache, rng):
    processes = workers(cache.directory, [rng.randrange(10**6) for _ in range(4)], 2.0)
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")  # not a word of damage
        assert all(int(n) > 0 for n in out.split()[1:]), out
    assert cache.verify()[1] == []
    assert unfinished(cache) == []
    assert os.listdir(os.path.join(cache.directory, "parts")) == []


def test_a_writer_killed_at_any_moment_leaves_nothing_but_whole_entries(cache, rng):
    for _ in range(3):
        killed = workers(cache.directory, [rng.randrange(10**6) for _ in range(3)], 60, "keeps")
        for process in killed:
            assert process.stdout.readline() == "ready\n"
        for process in killed:
            time.sleep(rng.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            _, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (-signal.SIGKILL, "")
        whole, damaged = cache.verify()
        assert whole > 0
        assert damaged == []
    # What they left is swept by whoever writes next, a while later.
    parts = Path(cache.directory, "parts")
    assert len(list(parts.iterdir())) == 9
    put(Cache(cache.directory), 1, 1)
    assert len(list(parts.iterdir())) == 10  # it might be a process elsewhere that has only just begun
    for path in parts.iterdir():
        os.utime(path, (1e9, time.time() - 120))
    own = Cache(cache.directory)
    put(own, 1, 1)
    assert len(list(parts.iterdir())) == 1  # of this process, which lives
    assert unfinished(cache) == []


def test_what_a_process_writes_stays_while_it_lives_though_nobody_here_can_see_it(cache):
    """As in another container: its number means nothing here."""
    code = f"""
        import os, random, sys
        os.getpid = lambda: 2**30
        from graphray.executors import wire
        from graphray.executors.cache import Cache
        cache = Cache({cache.directory!r})
        cache.store(random.Random("1").randbytes(20), wire.dumps(1), {{}})
        print(cache.hold(cache.find(random.Random("1").randbytes(20))), flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        held = Path(process.stdout.readline().strip())
        assert held.parent.name.startswith(f"{2**30}.")
        for _ in range(2):
            os.utime(held.parent, (1e9, time.time() - 8 * 86400))
            cache.prune()
            assert held.exists()
        process.kill()
        process.wait()
    cache.prune()
    assert not held.parent.exists()


def test_what_is_held_is_not_swept_by_others_in_the_same_process(cache):
    put(cache, 1, 1)
    held = Path(cache.hold(cache.find(key_of(1))))
    os.utime(held.parent, (1e9, 1e9))
    Cache(cache.directory).prune()
    assert held.exists()
    cache.close()  # something is left in it
    os.utime(held.parent, (1e9, 1e9))
    Cache(cache.directory).prune()
    assert held.exists()
    cache.release(str(held))
    assert not held.parent.exists()


def test_where_files_cannot_be_locked_only_what_is_very_old_is_swept(cache, monkeypatch):
    import fcntl

    def refuse(*args):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    put(cache, 1, 1)
    folder = next(Path(cache.directory, "parts").iterdir())
    os.utime(folder, (1e9, time.time() - 86400))
    cache.prune()
    assert folder.exists()
    os.utime(folder, (1e9, time.time() - 8 * 86400))
    cache.prune()
    assert not folder.exists()
    put(cache, 2, 2)
    assert get(cache, 2) == 2


def test_the_directory_may_go_while_it_is_used(cache):
    import shutil

    put(cache, 1, 1)
    shutil.rmtree(cache.directory)
    assert cache.find(key_of(1)) is None
    assert list(cache.entries()) == []
    assert cache.prune() == (0, 0)
    put(cache, 1, 2)
    assert get(cache, 1) == 2
    assert stat.S_IMODE(os.stat(cache.directory).st_mode) == 0o700


# ---- where it is, and whose


def test_the_default_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GRAPHRAY_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_directory() == str(tmp_path / ".cache" / "graphray")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/to/be/ignored")
    assert default_directory() == str(tmp_path / ".cache" / "graphray")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == str(tmp_path / "xdg" / "graphray")
    monkeypatch.setenv("GRAPHRAY_CACHE", "~/mine")
    assert default_directory() == str(tmp_path / "mine")
    cache = Cache()
    assert cache.directory == str(tmp_path / "mine")
    assert os.path.isdir(tmp_path / "mine" / "objects")


def test_it_is_the_users_alone(tmp_path):
    before = os.umask(0)
    try:
        cache = Cache(tmp_path / "cache")
        put(cache, 1, "x" * 100_000)
        cache.link(key_of(2), key_of(1))
    finally:
        os.umask(before)
    for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert (tmp_path / "cache" / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


def test_an_empty_directory_becomes_the_users_alone(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o755)
    put(Cache(tmp_path / "cache"), 1, 1)
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722, 0o777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path, mode):
    put(Cache(tmp_path / "cache"), 1, 1)
    (tmp_path / "cache").chmod(mode)
    with pytest.raises(PermissionError, match=r"others can write to the cache .* chmod go-w"):
        Cache(tmp_path / "cache")
    (tmp_path / "cache").chmod(0o700)
    assert get(Cache(tmp_path / "cache"), 1) == 1


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    Cache(tmp_path / "cache")
    (tmp_path / "new").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        Cache(tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []


def test_what_is_no_cache_is_refused_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"file is a file: name another directory"):
        Cache(tmp_path / "file")
    with pytest.raises(ValueError, match=r"cannot be made below a file"):
        Cache(tmp_path / "file" / "cache")
    with pytest.raises(ValueError, match=r"full is no cache of graphray, and has other files in it \(thesis.tex\)"):
        Cache(tmp_path / "full")
    assert os.listdir(tmp_path / "full") == ["thesis.tex"]
    assert stat.S_IMODE((tmp_path / "full").stat().st_mode) != 0o700 or os.umask(0) == 0o077


@pytest.mark.parametrize("version", ["2\n", "\xff\xfe", "1.5"])
def test_a_cache_of_another_version_is_refused(tmp_path, version):
    path = tmp_path / "cache"
    path.mkdir(mode=0o700)
    (path / "version").write_text(version, "latin-1")
    with pytest.raises(ValueError, match=r"is of version .*, and not 1: name another directory"):
        Cache(path)
    assert os.listdir(path) == ["version"]


@pytest.mark.parametrize("left", [b"", b"\0\0"])
def test_a_version_that_a_power_failure_has_emptied_is_written_again(tmp_path, left):
    put(Cache(tmp_path / "cache"), 1, 1)
    (tmp_path / "cache" / "version").write_bytes(left)
    path = str(tmp_path / "cache")
    code = f"import random; from graphray.executors.cache import Cache; c = Cache({path!r}); "
    assert python(code + 'print(c.find(random.Random("1").randbytes(20)).load())') == "1"
    assert (tmp_path / "cache" / "version").read_text() == "1\n"
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "other" / "version").write_bytes(left)
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"other files in it \(thesis.tex\)"):
        Cache(tmp_path / "other")


@pytest.mark.parametrize("how", [gr.task(abs)(-1).compute, gr.Graph(gr.task(abs)(-1)).explain, Cache])
def test_an_empty_text_is_no_directory(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="a cache has a directory, not an empty text"):
        how("") if how is Cache else how(cache="")
    assert os.listdir(tmp_path) == []


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    """The disk is full."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"the cache cannot be made: No space left on device: '.*/cache'") as caught:
        Cache(tmp_path / "cache")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    put(Cache(tmp_path / "cache"), 1, 1)


def test_a_directory_that_was_never_finished_is_finished(tmp_path):
    """The process that made it was killed at any point of that."""
    put(Cache(tmp_path / "whole"), 1, 1)
    made = ["objects", "parts", "CACHEDIR.TAG", "version"]
    for count in range(len(made)):
        path = tmp_path / f"cache-{count}"
        path.mkdir(mode=0o700)
        (path / ".version-0123abcd").write_text("half")
        for name in made[:count]:
            (path / name).mkdir() if "." not in name else (path / name).write_text("")
        put(Cache(path), 1, 1)
        assert set(made) <= set(os.listdir(path))
        assert get(Cache(path), 1) == 1
        assert (path / "version").read_text() == "1\n"
        assert (path / "CACHEDIR.TAG").read_bytes() == (tmp_path / "whole" / "CACHEDIR.TAG").read_bytes()


def test_processes_that_make_the_same_cache_at_once_agree(tmp_path):
    code = f"""
        import random
        from graphray.executors import wire
        from graphray.executors.cache import Cache
        for i in range(40):
            cache = Cache({str(tmp_path)!r} + f"/cache-{{i}}")
            cache.store(random.Random("1").randbytes(20), wire.dumps(i), {{}})
            cache.close()
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert [get(Cache(tmp_path / f"cache-{i}"), 1) for i in range(40)] == list(range(40))
