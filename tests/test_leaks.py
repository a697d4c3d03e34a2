"""The leak checks notice each kind of thing that can be left behind, and let go of what goes in time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading

import leaks
import pytest
from leaks import Holdings


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(leaks, "PATIENCE", 0.0)


def kinds(before):
    return {text.partition(":")[0] for text in before.left_over()}


def test_nothing_left_over_when_nothing_happened(hurried):
    assert Holdings.now().left_over() == []


def test_a_child_process_is_noticed_until_it_was_waited_for(hurried):
    before = Holdings.now()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert kinds(before) == {"processes", "descriptors"}
    child.communicate(b"\n")
    assert kinds(before) == set()


def test_a_thread_is_noticed(hurried):
    before, end = Holdings.now(), threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    assert kinds(before) == {"threads"}
    end.set()
    thread.join()
    assert kinds(before) == set()


def test_a_descriptor_is_noticed(hurried):
    before = Holdings.now()
    read, write = os.pipe()
    assert len(before.left_over()) == 2
    os.close(read)
    os.close(write)
    assert kinds(before) == set()


@pytest.mark.parametrize("directory", leaks.DIRECTORIES)
def test_a_file_of_graphrays_is_noticed(hurried, directory):
    before = Holdings.now()
    handle, path = tempfile.mkstemp(prefix=f"graphray-{os.getpid()}-", dir=directory)
    os.close(handle)
    assert kinds(before) == {"files"}
    os.unlink(path)
    assert kinds(before) == set()


def test_a_file_of_another_living_process_is_not_ours(hurried):
    before = Holdings.now()
    path = os.path.join(tempfile.gettempdir(), f"graphray-{os.getppid()}-test")
    with open(path, "w"):
        pass
    try:
        assert kinds(before) == set()
    finally:
        os.unlink(path)


def test_what_goes_in_time_has_not_leaked():
    before = Holdings.now()
    threading.Timer(0.2, lambda: None).start()
    assert before.left_over() == []
