"""Hosts from texts, lists, files and named clusters; and what is refused, by a message that names the place."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphray.executors.ssh import Host, parse_hosts


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The file of named clusters of this test, which is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "graphray").mkdir()
    return tmp_path / "graphray" / "cluster.yaml"


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    path.chmod(0o644)
    return path


# ---- what is read


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("a", Host("a")),
        ("alice@a", Host("a", user="alice")),
        ("a:2222", Host("a", port=2222)),
        ("ssh://alice@a.example.org:22", Host("a.example.org", user="alice", port=22)),
        ("10.0.0.1", Host("10.0.0.1")),
        ("[::1]:22", Host("::1", port=22)),
        ("bob@[fe80::1%eth0]", Host("fe80::1%eth0", user="bob")),
        ("alice@corp@a", Host("a", user="alice@corp")),
        ("a?workers=4&python=/opt/py", Host("a", workers=4, python="/opt/py")),
        ("a?memory=64GB&threads=2", Host("a", memory=64 * 10**9, threads=2)),
        ("a?env.LANG=C&env.X=1%2C2%20%26", Host("a", env={"LANG": "C", "X": "1,2 &"})),
        ("a?resources.gpu=2&resources.disk=0.5", Host("a", resources={"gpu": 2, "disk": 0.5})),
        ("a?directory=/scratch/my%20runs", Host("a", directory="/scratch/my runs")),
    ],
)  # fmt: skip
def test_one_host_as_text(text, host):
    assert parse_hosts(text) == [host]
    assert parse_hosts([text]) == [host]


def test_several_in_a_text_each_with_what_stands_at_it():
    assert parse_hosts("ssh://alice@a:22,b?workers=2") == [Host("a", "alice", 22), Host("b", workers=2)]
    assert parse_hosts("alice@a, b") == [Host("a", "alice"), Host("b")]


def test_a_list_of_texts_dicts_and_hosts():
    found = parse_hosts(["a", {"name": "b:22", "workers": "3", "env": {"N": 1}}, Host("c", threads=2)])
    assert found == [Host("a"), Host("b", port=22, workers=3, env={"N": "1"}), Host("c", threads=2)]
    assert parse_hosts(Host("c")) == [Host("c")]
    assert parse_hosts({"name": "c"}) == [Host("c")]


def test_options_for_all_give_way_to_a_hosts_own():
    a, b = parse_hosts(["a?workers=1&env.X=own", "b"], workers=4, user="alice", env={"X": "all", "Y": "all"}, port=None)
    assert (a.workers, a.user, dict(a.env)) == (1, "alice", {"X": "own", "Y": "all"})
    assert (b.workers, b.user, dict(b.env)) == (4, "alice", {"X": "all", "Y": "all"})


def test_the_default_interpreter_is_this_one():
    import sys

    assert Host("a").interpreter == sys.executable
    assert Host("a", python="python3").interpreter == "python3"


def test_a_host_is_a_value():
    host = Host("a", user="alice", port=2222, env={"SECRET": "xyzzy"}, resources={"gpu": 1})
    assert host.label == "alice@a:2222"
    assert pickle.loads(pickle.dumps(host)) == host
    assert hash(host) == hash(Host("a", user="alice", port=2222, env={"SECRET": "xyzzy"}, resources={"gpu": 1}))
    assert "xyzzy" not in repr(host)
    with pytest.raises(AttributeError):
        host.name = "b"
    with pytest.raises(TypeError):
        host.env["SECRET"] = "other"


PLAIN = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20)
HOSTS = st.builds(
    Host,
    name=st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,10}", fullmatch=True) | st.ip_addresses(v=6).map(str),
    user=st.none() | st.from_regex(r"[a-z][a-z0-9@._-]{0,8}", fullmatch=True),
    port=st.none() | st.integers(1, 65535),
    workers=st.none() | st.integers(1, 99),
    memory=st.none() | st.integers(1, 10**15),
    python=st.none() | PLAIN.map(lambda text: f"/{text}").map(str.strip),
    env=st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), PLAIN, max_size=3),
    resources=st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.floats(0.01, 1e6), max_size=3),
)


@given(HOSTS)
def test_the_text_of_a_host_is_read_as_that_host(host):
    assert parse_hosts(host.text) == [host]


# ---- what is refused


@pytest.mark.parametrize(
    "name",
    [
        *(
            "-oProxyCommand=touch x",
            "-",
            "a b",
            "a\tb",
            "a\nb",
            "a\0b",
            "a;b",
            "a|b",
            "a&b",
            "$(id)",
            "`id`",
            "${HOME}",
        ),
        *("a'b", 'a"b', "a\\b", "a>b", "a*", "a!", "#a", "a(b)", "%h", "a\x1b[31m", "ä", "a" * 300, "", "."),
    ],
)
def test_a_hostile_name_is_no_host(name):
    with pytest.raises(ValueError, match=r"name"):
        Host(name)
    with pytest.raises(ValueError, match=r"^hosts\[1\]: ") as caught:
        parse_hosts(["good", f"alice@{name}"])
    assert not any(ord(character) < 32 for character in str(caught.value))


@pytest.mark.parametrize("user", ["-oProxyCommand=x", "a b", "$(id)", "a;b", "a\nb", "a:pw"])
def test_a_hostile_user_is_none(user):
    with pytest.raises(ValueError, match=r"name of a user|password"):
        parse_hosts(f"{user}@a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:0", "no port"),
        ("a:65536", "no port"),
        ("a:", "no port"),
        ("a:ssh", "no port"),
        ("::1", "brackets"),
        ("[::1", "brackets"),
        ("[a]", "no IPv6 address"),
        ("a?wrkers=4", "no option 'wrkers'.*there are user, port"),
        ("a?workers=0", "workers= is a number of 1 or more"),
        ("a?workers=many", "workers= is a number of 1 or more"),
        ("a?memory=much", "memory= is a number of bytes"),
        ("a?workers", "NAME=VALUE"),
        ("a?workers=1&workers=2", "twice"),
        ("a?env.A=1&env.A=2", "twice"),
        ("a?env.1=x", "environment variable"),
        ("a?env=x", "env.NAME=VALUE"),
        ("a?resources.gpu=none", "above 0"),
        ("a?resources.gpu=nan", "above 0"),
        ("a?python=~/py", "whole path"),
        ("a?python=-c", "path"),
        ("a?python=a%0Ab", "path"),
        ("a?name=b", "before the question mark"),
        ("alice:secret@a", "password"),
        ("a,,b", "missing"),
        ("a,A", "'A': A is there twice"),
        ("alice@a:22,b,alice@a:22", "twice"),
    ],
)
def test_what_is_wrong_with_a_text(text, said):
    with pytest.raises(ValueError, match=said):
        parse_hosts(text)


@pytest.mark.parametrize("hosts", [None, 3, b"a", [], [3], [None], [["a"]], {"workers": 4}])
def test_what_is_no_host_at_all(hosts):
    with pytest.raises(ValueError, match="host"):
        parse_hosts(hosts)


@pytest.mark.parametrize("options", [{"wrkers": 4}, {"workers": 0}, {"name": "b"}, {"env": {"A": None}}])
def test_wrong_options_for_all_say_so(options):
    with pytest.raises(ValueError, match=r"^options for all: "):
        parse_hosts("a", **options)


# ---- files


def test_a_file_with_a_host_a_line(tmp_path):
    path = write(tmp_path / "hosts.txt", "# the lab\nalice@a:22?workers=2  # fast\n\n  b\n")
    want = [Host("a", "alice", 22, workers=2, threads=3), Host("b", threads=3)]
    assert parse_hosts(f"@{path}", threads=3) == want
    assert parse_hosts(str(path), threads=3) == want
    assert parse_hosts(path, threads=3) == want


def test_a_yaml_file_has_options_for_all_and_for_each(tmp_path):
    text = """
        user: alice
        workers: 4
        env: {LANG: C, X: all}
        hosts:
          - a
          - bob@b:2222?workers=2
          - name: c
            memory: 64GB
            env: {X: own}
    """
    found = parse_hosts(write(tmp_path / "lab.yaml", text), workers=8)
    assert found == [
        Host("a", "alice", workers=8, env={"LANG": "C", "X": "all"}),
        Host("b", "bob", 2222, workers=2, env={"LANG": "C", "X": "all"}),
        Host("c", "alice", workers=8, memory=64 * 10**9, env={"LANG": "C", "X": "own"}),
    ]


def test_a_yaml_file_may_have_hosts_by_name_or_be_a_list(tmp_path):
    by_name = write(tmp_path / "a.yml", "hosts: {a: {workers: 2}, 'b:22': }")
    assert parse_hosts(by_name) == [Host("a", workers=2), Host("b", port=22)]
    assert parse_hosts(write(tmp_path / "b.yaml", "[a, b]")) == [Host("a"), Host("b")]


def test_a_cluster_by_its_name(config):
    write(config, "lab: {workers: 2, hosts: [a, b]}\nother: {hosts: [c]}\n")
    assert parse_hosts("lab") == [Host("a", workers=2), Host("b", workers=2)]
    assert parse_hosts("lab2") == [Host("lab2")]  # not a cluster: a host
    assert parse_hosts("lab,other") == [Host("lab"), Host("other")]


def test_without_a_file_of_clusters_a_name_is_a_host(config):
    assert parse_hosts("lab") == [Host("lab")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("hosts.txt", "a\nb c\n", r"hosts\.txt:2: 'b c' is no name"),
        ("hosts.txt", "a\n# b\na\n", r"hosts\.txt:3: a is there twice \(first as .*hosts\.txt:1\)"),
        ("hosts.txt", "# none\n", "no hosts"),
        ("hosts.txt", "a?wrkers=1\n", r"hosts\.txt:1: there is no option 'wrkers'"),
        ("lab.yaml", "hosts: [a]\nhosts: [b]\n", r"lab\.yaml:2: 'hosts' is there twice"),
        ("lab.yaml", "hosts: [a\n", r"lab\.yaml:2: "),
        ("lab.yaml", "hosts: [a, {name: b, wrkers: 1}]\n", r"lab\.yaml: hosts\[1\]: there is no option 'wrkers'"),
        ("lab.yaml", "hosts: [a, true]\n", r"lab\.yaml: hosts\[1\]: "),
        ("lab.yaml", "hosts: [{name: 10}]\n", r"lab\.yaml: hosts\[0\]: 10 is no name.*quotes"),
        ("lab.yaml", "hosts: {a: 3}\n", "options of 'a' are a dict"),
        ("lab.yaml", "workers: 4\n", "hosts is a list"),
        ("lab.yaml", "workrs: 4\nhosts: [a]\n", r"lab\.yaml: there is no option 'workrs'"),
        ("lab.yaml", "hosts: []\n", "no hosts"),
        ("lab.yaml", "", "hosts is a list"),
        ("lab.yaml", "hosts: [!!python/object/apply:os.system [id]]\n", r"lab\.yaml"),
        ("lab.yaml", "env: {A: yes}\nhosts: [a]\n", "quotes"),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path, name, text, said):
    with pytest.raises(ValueError, match=said):
        parse_hosts(write(tmp_path / name, text))


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "hosts.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        parse_hosts(tmp_path / "hosts.txt")
    (tmp_path / "hosts.txt").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ValueError, match="too large"):
        parse_hosts(tmp_path / "hosts.txt")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        parse_hosts(f"@{tmp_path}/none.txt")
    with pytest.raises(IsADirectoryError):
        parse_hosts(f"@{tmp_path}")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_to_is_refused(tmp_path, config, mode):
    path = write(tmp_path / "hosts.txt", "a\n")
    write(config, "lab: [a]\n")
    assert parse_hosts(path) == parse_hosts("lab") == [Host("a")]
    os.chmod(path, mode)
    os.chmod(config, mode)
    for hosts in (path, "lab"):
        with pytest.raises(PermissionError, match=r"others can write to .*chmod go-w"):
            parse_hosts(hosts)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(tmp_path):
    path = write(tmp_path / "hosts.txt", "a\n")
    os.chown(path, 12345, -1)
    with pytest.raises(PermissionError, match="another user"):
        parse_hosts(path)


def test_without_pyyaml_the_error_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"pip install 'graphray\[cluster\]'"):
        parse_hosts(write(tmp_path / "lab.yaml", "hosts: [a]"))
    assert parse_hosts(write(tmp_path / "hosts.txt", "a")) == [Host("a")]
