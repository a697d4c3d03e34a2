"""The SSH engine on machines of their own, whose links are cut and slow, and which are killed in mid-run."""

from __future__ import annotations

import ssl
import time

import numpy as np
import pytest
from cluster_tasks import add, big, notes
from machines import Proxy
from test_ssh import is_refused
from waiting import until

import graphray as gr
from graphray.executors.ssh.certificates import context


def part(i, path=None):
    return big(i, path, size=50_000, seconds=0.01)


@gr.task
def where(*needed):
    time.sleep(0.05)
    return gr.context().worker.split("/")[0]


@gr.task(near="one")
def large():
    time.sleep(0.3)
    return gr.context().worker.split("/")[0], np.ones(5_000_000)


@gr.task(near="two")
def look(found):
    time.sleep(0.3)
    return (
        gr.context().worker.split("/")[0],
        found[0] if found is not None else "",
        7.0 if found is None else found[1][5],
    )


@pytest.fixture
def net(machines, monkeypatch):
    monkeypatch.setenv("GRAPHRAY_SSH", machines.client.command)
    return machines


def test_three_machines_share_the_work_and_pass_on_results(net):
    with gr.executors.SSH("m1,m2,m3", workers=1) as pool:
        assert pool.compute(add(*[part(i) for i in range(90)])) == 50_000 * sum(range(90))
        assert set(pool.compute([where() for _ in range(60)])) == {"m1", "m2", "m3"}
        pool.compute([large(), look(None)])  # they settle on different machines
        assert {pool.compute(look(large())) for _ in range(3)} <= {
            (a, b, 1.0) for a in "m1 m2 m3".split() for b in "m1 m2 m3".split()
        }


def test_on_each_machine_only_ssh_and_workers_listen_and_they_refuse_strangers(net):
    with gr.executors.SSH("m1,m2,m3", workers=2) as pool:
        pool.compute(add())
        assert until(lambda: len(pool._places) == 6)
        for machine in net:
            listeners = machine.listening()
            ours = [x for x in listeners if x.port != 22]
            assert len(ours) == 2
            for x in ours:
                assert x.address == machine.address  # not on all of its addresses
                unverified = ssl.create_default_context()
                unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
                assert is_refused(x.address, x.port, None)
                assert is_refused(x.address, x.port, unverified)
                mine = context(pool._authority.credentials("mine"), ssl.Purpose.SERVER_AUTH)
                assert not is_refused(x.address, x.port, mine)


@pytest.mark.parametrize("how", ["kill", "cut"])
def test_a_machine_is_lost_in_mid_run(net, tmp_path, how):
    """Killed, its connections end at once. With its cable pulled nobody is told: that has to be found out."""
    path = str(tmp_path / "notes")
    with gr.executors.SSH("m1,m2,m3", workers=1) as pool:
        pool.compute(add())
        assert until(lambda: len(pool._places) == 3)
        run = pool.run(add(*[part(i, path) for i in range(300)]))
        assert until(lambda: len(notes(path)) > 100)
        getattr(net["m2"], how)()
        assert run.result(timeout=90) == 50_000 * sum(range(300))
        repeated = len(notes(path)) - 300
        assert repeated <= 200
        assert set(pool.compute([where() for _ in range(40)])) == {"m1", "m3"}


def test_a_machine_that_cannot_reach_the_scheduler_does_so_through_its_connection(net):
    with gr.executors.SSH("m1,m2", workers=1, listen="127.0.0.1") as pool:
        assert pool.compute(add(*[part(i) for i in range(20)])) == 50_000 * sum(range(20))
        assert all(home.address.startswith("tls://") for home in pool._homes.values())


def test_a_connection_that_is_cut_ends_the_run_on_its_only_machine(net, monkeypatch):
    machine = net["m1"]
    with Proxy((machine.address, 22), delay=0.02) as proxy:
        monkeypatch.setenv("GRAPHRAY_SSH", machine.sshd.make_client(via=proxy).command)
        with gr.executors.SSH("m1", workers=1) as pool:
            assert pool.compute(add(part(1))) == 50_000
            run = pool.run(add(part(1), seconds=60.0))
            assert until(lambda: pool._core.units)
            proxy.cut()
            with pytest.raises(gr.HostError, match="m1"):
                run.result(timeout=30)
        assert until(lambda: not [p for p in machine.processes() if "graphray" in " ".join(p.cmdline())])


def test_a_machine_whose_disk_is_full_still_computes(net, monkeypatch):
    """Only what would be spilled there needs room."""
    fill = """
import contextlib, os
with contextlib.suppress(OSError), open(os.environ["TMPDIR"] + "/full", "wb") as file:
    file.write(bytes(1 << 20))
"""
    with net.extra(tmp="64k") as machine:
        monkeypatch.setenv("GRAPHRAY_SSH", net.client.command)  # it knows this one too
        machine.python(fill)
        with gr.executors.SSH([machine.name], workers=1) as pool:
            assert pool.compute(add(*[part(i) for i in range(20)])) == 50_000 * sum(range(20))


# ---- machines that reach the driver, and not each other


@gr.task
def both(*found):
    return {name for name, _ in found}, sum(float(array.sum()) for _, array in found)


@gr.task
def named(i):
    time.sleep(0.05)
    return gr.context().worker.split("/")[0], np.full(50_000, float(i))


@pytest.fixture
def isolated(net):
    for name in ("m1", "m2"):
        net[name].isolate()
    with gr.executors.SSH("m1,m2", workers=1) as pool:
        pool.compute(add())
        assert until(lambda: len(pool._places) == 2)
        yield pool


def test_results_for_a_machine_that_cannot_be_reached_go_through_the_driver(isolated):
    assert isolated.run(both(*[named(i) for i in range(40)])).result(30) == ({"m1", "m2"}, 50_000 * sum(range(40)))
    shared = gr.value(np.ones(100_000))
    assert isolated.run([add(shared, seconds=0.05) for _ in range(10)]).result(30) == [100_000] * 10


def test_a_machine_that_leaves_gives_its_results_to_one_that_it_cannot_reach(isolated):
    run = isolated.run(both(*[named(i) for i in range(40)]))
    assert until(lambda: run.job.done >= 30)
    isolated.remove("m2", timeout=10)
    assert run.result(30) == ({"m1", "m2"}, 50_000 * sum(range(40)))
    assert run.summary()["tasks"]["named"]["calls"] == 40


def test_machines_that_lose_sight_of_each_other_go_on_through_the_driver(net):
    with gr.executors.SSH("m1,m2", workers=1) as pool:
        pool.compute(add())
        assert until(lambda: len(pool._places) == 2)
        for name in ("m1", "m2"):
            net[name].isolate()
        assert pool.run(both(*[named(i) for i in range(40)])).result(60) == ({"m1", "m2"}, 50_000 * sum(range(40)))


def test_workers_that_the_driver_cannot_reach_are_an_error(net, monkeypatch):
    machine = net["m1"]
    monkeypatch.setenv("GRAPHRAY_SSH", machine.bastion().command)
    machine.cut()
    began = time.monotonic()
    with gr.executors.SSH("m1", workers=1) as pool, pytest.raises(gr.HostError, match="cannot connect to its workers"):
        pool.compute(add())
    assert time.monotonic() - began < 30


def test_a_gang_says_who_cannot_reach_whom(isolated):
    with pytest.raises(OSError, match=r"cannot meet: m[12] cannot connect to m[12]"):
        isolated.run(gr.gang(lambda gang: gang.rank, size=2)).result(30)
    assert isolated.run(gr.gang(lambda gang: gang.rank, size=1)).result(30) == (0,)
