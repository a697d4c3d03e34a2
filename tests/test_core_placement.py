"""Resources and gangs in the core, in virtual time; the simulator checks that nobody gets what is not there."""

from __future__ import annotations

import random

import pytest
from simulator import Simulator

import graphray as gr
from graphray.errors import ResourceError, TaskTimeout, WorkerDied
from graphray.executors import core
from graphray.executors.placement import PATIENCE


def needs(**resources):
    return {"resources": resources}


def at_once(calls):
    """The most calls that were going on at one time."""
    edges = sorted([(c.start, 1) for c in calls] + [(c.stop, -1) for c in calls], key=lambda e: (e[0], e[1]))
    now = most = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def calls_of(sim, name):
    return [c for c in sim.calls if c.name == name]


def everything_is_free(sim):
    placement = sim.core.placement
    assert not (placement.waiting or placement.seated or placement.inbox or placement.held)
    assert not any(coming.member for coming in placement.coming.values())
    for site in placement.sites.values():
        assert site.free == site.total
        assert len(site.free_accelerators) == site.total["gpu"]


# ---- where and when


def test_no_more_runs_at_a_time_than_there_is_of_it():
    sim = Simulator(8, machines={"": (8, {"licence": 2, "memory": 10})})
    tasks = [sim.task("a", 0.1, **needs(licence=1)), sim.task("b", 0.1, **needs(licence=1, memory=6))]
    sim.compute([task(i) for i in range(10) for task in tasks])
    assert at_once(sim.calls) == 2
    assert at_once(calls_of(sim, "b")) == 1, "6 and 6 are more than 10"
    everything_is_free(sim)


def test_a_node_with_resources_is_a_unit_of_its_own():
    sim = Simulator(2, machines={"": (2, {"licence": 9})})
    plain, needy = sim.task("plain", 1e-5), sim.task("needy", 1e-5, **needs(licence=1))
    sim.compute(gr.combine(lambda xs: len(xs), [plain(needy(plain(i))) for i in range(50)]))
    for unit in sim.units:
        assert len(unit.nodes) == 1 or all(n.task.name != "needy" for n in unit.nodes)


def test_others_pass_what_waits_for_its_resources():
    sim = Simulator(2, machines={"": (2, {"licence": 1})})
    needy, plain = sim.task("needy", 1.0, **needs(licence=1)), sim.task("plain", 0.1)
    sim.compute([needy(0), needy(1), [plain(i) for i in range(10)]])
    first = min(calls_of(sim, "needy"), key=lambda c: c.start)
    assert sum(c.start < first.stop for c in calls_of(sim, "plain")) >= 9
    assert sim.took == pytest.approx(2.0)


def test_work_goes_to_the_machine_that_has_what_it_needs():
    sim = Simulator(machines={"small": (2, {"memory": 4}), "big": (1, {"memory": 64, "gpu": 1})})
    places = {name: worker.machine_name for name, worker in sim.workers.items()}
    large, gpu = sim.task("large", 0.1, **needs(memory=40)), sim.task("gpu", 0.1, **needs(gpu=1))
    sim.compute([large(0), gpu(1), large(2), sim.task("plain", 0.1)(3)])
    assert {places[c.worker] for c in sim.calls if c.name != "plain"} == {"big"}


def test_it_goes_where_its_key_was_last():
    sim = Simulator(machines={"a": (2, {"licence": 4}), "b": (2, {"licence": 4})})
    task = sim.task("t", 0.1, near=lambda i: i % 4, **needs(licence=1))
    sim.compute([task(i) for i in range(4)])
    where = {i: c.worker for i, c in enumerate(sim.calls)}
    sim.compute([task(i) for i in (3, 1, 0, 2)])
    assert [c.worker for c in sim.calls[4:]] == [where[i] for i in (3, 1, 0, 2)]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_busy_pool_lets_it_in(ahead):
    """It has been given work ahead for seconds: what waits but for a worker does not wait for that."""
    sim = Simulator(2, ahead=ahead, machines={"": (2, {"licence": 1})})
    plain, needy = sim.task("plain", 1e-3), sim.task("needy", 0.1, **needs(licence=1))
    sim.compute(gr.map(plain, range(200)))
    start = sim.now
    job = sim.add(gr.Graph(gr.map(plain, range(20_000))))
    sim.run(until=start + 1.0)
    sim.add(needy(0))
    sim.run()
    assert job in sim.finished
    assert calls_of(sim, "needy")[0].start < start + 1.3


# ---- nobody starves


def test_a_large_request_gets_its_turn_among_small_ones():
    sim = Simulator(4, machines={"": (4, {"licence": 4})})
    small, large = sim.task("small", 0.1, **needs(licence=1)), sim.task("large", 0.1, **needs(licence=4))
    sim.add([small(i) for i in range(400)])
    sim.run(until=0.05)
    sim.add(large(0))
    sim.run()
    (call,) = calls_of(sim, "large")
    assert call.start < 0.05 + PATIENCE + 0.3
    assert at_once(calls_of(sim, "small")) == 4
    everything_is_free(sim)


def test_while_it_waits_for_its_turn_others_pass():
    sim = Simulator(4, machines={"": (4, {"licence": 4})})
    small, large = sim.task("small", 0.01, **needs(licence=1)), sim.task("large", 0.1, **needs(licence=4))
    sim.add(sim.task("long", 0.4, **needs(licence=1))())
    sim.add(large(0))
    sim.compute([small(i) for i in range(60)])
    assert sim.took < 0.4


@pytest.mark.parametrize("ahead", [False, True])
def test_a_gang_gets_its_turn_among_other_work(ahead):
    sim = Simulator(4, ahead=ahead)
    plain = sim.task("plain", lambda i: 0.001 + 0.0001 * (i % 7))
    job = sim.add(gr.Graph(gr.map(plain, range(20_000))))
    sim.run(until=0.5)
    member = sim.task("member", 0.2, lambda gang: gang.rank)
    assert sim.compute(gr.gang(member, size=4)) == [(0, 1, 2, 3)]
    starts = {c.start for c in calls_of(sim, "member")}
    assert len(starts) == 1, "all at the same time"
    assert starts.pop() < 0.5 + PATIENCE + 0.3
    sim.run()
    assert sim.finished[job][1] is None


@pytest.mark.parametrize("seed", range(20))
def test_everybody_gets_their_turn(seed):
    """Requests of all sizes come all the time; none waits for longer than those before it can take."""
    draw = random.Random(seed)
    machines = {"a": (3, {"licence": 4, "gpu": 2}), "b": (2, {"licence": 8, "gpu": 1, "memory": 10})}
    sim = Simulator(machines=machines, trip=draw.choice([0, 1e-3]), ahead=True, fits=draw.random() < 0.5)
    asked = {}

    def ask(i):
        kind = draw.choice(["plain", "licence", "gpu", "memory", "gang", "gpu gang"])
        resources = {
            "licence": needs(licence=draw.randint(1, 8)), "gpu": needs(gpu=draw.randint(1, 2)),
            "memory": needs(memory=draw.randint(1, 10), licence=1), "gpu gang": needs(gpu=1),
        }.get(kind, {})  # fmt: skip
        seconds = draw.choice([1e-3, 0.05, 0.1])
        task = sim.task(f"{i}", seconds, **resources)
        if "gang" in kind:
            size = draw.randint(1, 3 if kind == "gpu gang" else 5)
            task = sim.task(f"{i}", seconds, lambda gang: gang.rank, **resources)
            asked[i] = sim.now, sim.add(gr.gang(task, size=size))
        else:
            asked[i] = sim.now, sim.add(task())

    for i in range(150):
        sim.at(draw.uniform(0, 3), lambda i=i: ask(i))
    sim.run()
    assert len(asked) == 150
    for began, job in asked.values():
        at, error = sim.finished[job]
        assert error is None
        assert at - began < 15
    everything_is_free(sim)


# ---- what can never be


def test_what_no_machine_has_fails_at_once_and_says_what_there_is():
    sim = Simulator(machines={"a": (1, {"gpu": 1}), "b": (2, {"memory": 8_000_000_000, "licence": 2})})
    plain = sim.task("plain", 1.0)
    graph = gr.Graph([plain(i) for i in range(3)] + [sim.task("greedy", **needs(gpu=2))(plain(3))])
    with pytest.raises(ResourceError) as caught:
        sim.compute(graph)
    assert sim.now == 0.0
    text = str(caught.value)
    assert "greedy(…) asks for 2 gpu" in text
    assert "the machine a with 1 worker and 1 gpu" in text
    assert "the machine b with 2 workers, 0 gpu, 8 GB of memory and 2 licence" in text
    (failed,) = [node for node, _ in sim.given_up]
    assert failed.task.name == "greedy"


def test_it_fails_at_once_also_while_all_are_busy():
    sim = Simulator(2)
    sim.add([sim.task("long", 10.0)(i) for i in range(2)])
    sim.run(until=1.0)
    job = sim.add(sim.task("greedy", **needs(unicorn=1))())
    assert sim.finished[job][0] == 1.0


def test_while_workers_are_starting_it_waits_for_them():
    sim = Simulator(machines={}, expected=2)
    job = sim.add(sim.task("gpu", 0.5, **needs(gpu=1))())
    hopeless = sim.add(sim.task("greedy", **needs(gpu=8))())
    sim.run()
    assert not sim.finished
    sim.join("w0", "a", {"licence": 1})
    sim.run()
    assert not sim.finished
    sim.join("w1", "b", {"gpu": 1})
    sim.run()
    assert sim.finished[job] == (0.5, None)
    assert "greedy" in str(sim.finished[hopeless][1])


def test_when_no_more_workers_are_expected_it_fails():
    sim = Simulator(machines={"a": (1, {"gpu": 1})}, expected=2)
    job = sim.add(sim.task("two", **needs(gpu=2))())
    assert job not in sim.finished
    sim.tell(core.WorkersExpected(1))
    assert isinstance(sim.finished[job][1], ResourceError)


def test_a_machine_that_is_gone_for_good_has_nothing():
    sim = Simulator(machines={"a": (1, {"gpu": 1}), "b": (1, {})})
    gpu = sim.task("gpu", 0.1, **needs(gpu=1))
    done = sim.add([gpu(0), sim.task("plain", 5.0)(1)])
    sim.run(until=1.0)
    sim.kill("w0")
    waiting = sim.add(gpu(1))
    sim.run(until=2.0)
    assert waiting not in sim.finished, "another may come in its place"
    sim.tell(core.WorkersExpected(1))
    assert isinstance(sim.finished[waiting][1], ResourceError)
    sim.run()
    assert sim.finished[done][1] is None, "it had what it needed"


def test_what_a_task_returns_and_what_is_added_later_fails_as_well():
    sim = Simulator(2, machines={"": (2, {"gpu": 1})})
    greedy = sim.task("greedy", **needs(gpu=2))
    with pytest.raises(ResourceError, match="greedy"):
        sim.compute(sim.task("grows", 0.1, lambda: greedy(1))())
    good = sim.task("good", 0.1, **needs(gpu=1))
    bad, fine = greedy(2), good(3)
    job = sim.add(collect=True, growing=True)
    sim.tell(core.NodesAdded(job, [bad, fine]))
    assert sim.done == [bad]
    sim.run()
    assert isinstance(job.held[bad].error, ResourceError)
    assert job.held[fine] == "good"


def test_collected_the_others_are_done():
    sim = Simulator(2, machines={"": (2, {"gpu": 1})})
    greedy, good, plain = sim.task("greedy", **needs(gpu=2)), sim.task("good", **needs(gpu=1)), sim.task("plain")
    bad = greedy(plain(0))
    job = sim.add(bad, good(bad), good(1), plain(bad), collect=True)
    sim.run()
    first, second, third, fourth = [job.values[n] for n in job.roots]
    assert isinstance(first.error, ResourceError)
    assert second.skipped_because is bad
    assert fourth.skipped_because is bad
    assert third == "good"


# ---- resources come back


def once(error):
    seen = []

    def fail(*args):
        seen.append(args)
        if len(seen) == 1:
            raise error
        return len(seen)

    return fail


def test_they_come_back_from_calls_that_fail():
    sim = Simulator(2, machines={"": (2, {"gpu": 1})})
    flaky = sim.task("flaky", 0.1, once(OSError("not yet")), retries=1, **needs(gpu=1))
    job = sim.add([flaky(0), sim.task("other", 0.1, **needs(gpu=1))(1)])
    sim.run()
    assert [job.values[n] for n in job.roots] == [[2, "other"]]
    with pytest.raises(OSError, match="for good"):
        sim.compute(sim.task("bad", 0.1, once(OSError("for good")), **needs(gpu=1))())
    everything_is_free(sim)


def test_they_come_back_from_the_dead_and_the_late():
    sim = Simulator(2, machines={"": (2, {"gpu": 1})})
    task = sim.task("t", 0.1, timeout=1.0, retries=1, backoff=0.01, **needs(gpu=1))
    job = sim.add([task(i) for i in range(3)])
    sim.run(until=0.05)
    sim.replace(sim.units[0].worker, "x", exitcode=-9, signal="SIGKILL")
    sim.run(until=sim.now + 0.05)
    sim.replace(sim.units[1].worker, "y", late=True)
    sim.run()
    assert sim.finished[job][1] is None
    everything_is_free(sim)


def test_they_come_back_from_a_cancelled_run():
    sim = Simulator(2, machines={"": (2, {"gpu": 1})})
    task = sim.task("t", 5.0, **needs(gpu=1))
    job = sim.add([task(i) for i in range(3)])
    sim.run(until=1.0)
    sim.tell(core.JobClosed(job, core.cancelled()))
    sim.run()
    assert sim.now == 5.0
    assert len(sim.calls) == 1
    everything_is_free(sim)


# ---- accelerators, one each


@pytest.mark.parametrize("fits", [False, True])
def test_each_accelerator_is_one_tasks(fits):
    sim = Simulator(fits=fits, start=0.3, machines={"a": (3, {"gpu": ("0", "5")}), "b": (2, {"gpu": 1})})
    one, two = sim.task("one", 0.1, **needs(gpu=1)), sim.task("two", 0.1, **needs(gpu=2))
    sim.compute([(one if i % 3 else two)(i) for i in range(20)])
    seen = {a for unit in sim.units for a in unit.grant.accelerators}
    assert seen == {"0", "5"}
    everything_is_free(sim)


def test_a_worker_that_sees_an_accelerator_keeps_it():
    sim = Simulator(4, fits=True, start=0.3, machines={"": (4, {"gpu": 2})})
    gpu, plain = sim.task("gpu", 0.1, **needs(gpu=1)), sim.task("plain", 0.1)
    sim.compute([gpu(i) for i in range(10)] + [plain(i) for i in range(10)])
    assert len(sim.refits) == 2
    assert len({unit.worker for unit in sim.units if unit.grant is not None}) == 2
    assert sim.took < 1.0


def test_it_makes_place_where_nobody_else_can_do_the_work():
    sim = Simulator(1, fits=True, start=0.3, machines={"": (1, {"gpu": 1})})
    gpu, plain = sim.task("gpu", 0.1, **needs(gpu=1)), sim.task("plain", 0.1)
    node = plain(0)
    for i in range(3):
        node = plain(gpu(node, i))
    assert sim.compute(node) == ["plain"]
    assert [refit.accelerators for refit in sim.refits] == [("0",), ()] * 3


def test_a_wider_request_takes_accelerators_from_workers_that_see_one_each():
    sim = Simulator(3, fits=True, start=0.1, machines={"": (3, {"gpu": 2})})
    one, two = sim.task("one", 0.1, **needs(gpu=1)), sim.task("two", 0.1, **needs(gpu=2))
    sim.compute([one(0), one(1)])
    assert sim.compute(two(2)) == ["two"]
    seen = [w.accelerators for w in sim.workers.values() if w.accelerators]
    assert seen == [("0", "1")], "no other still sees them"
    sim.compute([one(3), one(4), one(5)])
    everything_is_free(sim)


def test_a_run_that_ends_while_a_worker_is_being_fitted_leaves_nothing():
    sim = Simulator(1, fits=True, start=1.0, machines={"": (1, {"gpu": 1})})
    job = sim.add(sim.task("gpu", 0.1, **needs(gpu=1))())
    sim.run(until=0.5)
    sim.tell(core.JobClosed(job, core.cancelled()))
    assert sim.compute(sim.task("plain", 0.1)()) == ["plain"]
    everything_is_free(sim)


# ---- gangs


def test_members_run_at_the_same_time_and_know_their_places():
    sim = Simulator(3)
    member = sim.task("member", lambda gang, x: 0.1 * (1 + gang.rank), lambda g, x: (g.rank, g.size, g.address, x))
    first, second = gr.gang(member, sim.task("x", 0.1, lambda: 7)(), size=2)
    assert sim.compute([second, first]) == [[(1, 2, "meeting:1", 7), (0, 2, "meeting:1", 7)]]
    a, b = calls_of(sim, "member")
    assert a.start == b.start
    assert a.worker != b.worker
    everything_is_free(sim)


def test_two_gangs_that_want_all_workers_come_one_after_the_other():
    sim = Simulator(4, trip=1e-3)
    gangs = [gr.gang(sim.task(f"g{i}", 0.1, lambda gang: gang.rank), size=4) for i in range(3)]
    jobs = [sim.add(g) for g in gangs]
    sim.run()
    assert [sim.finished[job][1] for job in jobs] == [None] * 3
    for i in range(3):
        assert len({c.start for c in calls_of(sim, f"g{i}")}) == 1
    assert at_once(sim.calls) == 4


def test_a_gang_takes_as_much_for_each_member():
    sim = Simulator(machines={"a": (2, {"gpu": 2}), "b": (2, {"gpu": 1}), "c": (2, {})}, fits=True, start=0.1)
    member = sim.task("member", 0.1, lambda gang: gang.rank, **needs(gpu=1))
    assert sim.compute(gr.gang(member, size=3)) == [(0, 1, 2)]
    where = [(u.grant.site.name, u.grant.accelerators) for u in sim.units]
    assert where == [("a", ("0",)), ("a", ("1",)), ("b", ("0",))]
    with pytest.raises(ResourceError, match=r"4 workers at the same time, each with 1 gpu"):
        sim.compute(gr.gang(member, size=4))


def test_a_gang_of_more_than_there_are_workers_fails_at_once():
    sim = Simulator(2)
    with pytest.raises(ResourceError, match=r"asks for 3 workers at the same time.*this machine with 2 workers"):
        sim.compute(gr.gang(sim.task("m", 1.0), size=3))
    assert sim.now == 0.0


def fail_in(rank, error, times=1):
    failed = []

    def member(gang):
        if gang.rank == rank and len(failed) < times:
            failed.append(gang.rank)
            raise error
        return gang.rank

    return member


def test_one_that_fails_ends_the_others_and_names_its_rank():
    sim = Simulator(3)
    seconds = lambda gang: 0.1 if gang.rank == 1 else 100.0  # noqa: E731
    task = sim.task("member", seconds, fail_in(1, OSError("no")))
    with pytest.raises(OSError, match="no") as caught:
        sim.compute(gr.gang(task, size=3))
    assert any("rank 1 of a gang of 3" in note for note in caught.value.__notes__)
    assert next(iter(sim.finished.values()))[0] < 1.0, "those that go on for ever are ended"
    everything_is_free(sim)
    assert len(sim.core.workers) == 3


def test_they_are_retried_together():
    sim = Simulator(3)
    task = sim.task("member", 0.1, fail_in(1, OSError("no"), times=2), retries=2, backoff=0.01)
    assert sim.compute(gr.gang(task, size=3)) == [(0, 1, 2)]
    assert len(calls_of(sim, "member")) == 9
    assert len(sim.retries) == 2


def test_one_that_dies_ends_the_others_and_all_begin_again():
    sim = Simulator(3)
    task = sim.task("member", 1.0, lambda gang: gang.rank)
    job = sim.add(gr.gang(task, size=3))
    sim.run(until=0.5)
    sim.replace(sim.units[2].worker, "x", exitcode=-9, signal="SIGKILL")
    sim.run()
    assert [job.values[n] for n in job.roots] == [(0, 1, 2)]
    assert [unit.grant.party.address for unit in sim.units] == ["meeting:1"] * 3 + ["meeting:2"] * 3
    (retry,) = sim.retries
    assert "rank 2 of a gang of 3" in str(retry.again.error)


def test_one_that_always_dies_fails_with_its_rank():
    sim = Simulator(2)
    job = sim.add(gr.gang(sim.task("member", 1.0, lambda gang: gang.rank), size=2), collect=True)
    for i in range(3):
        sim.run(until=sim.now + 0.5)
        unit = next(u for u in sim.units[-2:] if u.grant.rank == 1)
        sim.replace(unit.worker, f"x{i}", exitcode=-11, signal="SIGSEGV")
    sim.run()
    (failure,) = [job.values[n] for n in job.roots]
    assert isinstance(failure.error, WorkerDied)
    assert "SIGSEGV while it ran member() as rank 1 of a gang of 2" in str(failure.error)
    everything_is_free(sim)


def test_the_timeout_is_that_of_the_whole():
    sim = Simulator(2)
    job = sim.add(gr.gang(sim.task("member", 10.0, timeout=1.0), size=2))
    sim.run(until=1.0)
    sim.replace(sim.units[0].worker, "x", late=True)
    sim.run()
    assert isinstance(sim.finished[job][1], TaskTimeout)
    everything_is_free(sim)


def test_a_cancelled_gang_gives_its_workers_back():
    sim = Simulator(2)
    job = sim.add(gr.gang(sim.task("member", 100.0), size=2))
    sim.run(until=1.0)
    sim.tell(core.JobClosed(job, core.cancelled()))
    assert sim.compute(sim.task("plain", 0.1)()) == ["plain"]
    sim.run()
    everything_is_free(sim)


def test_members_wait_in_fresh_workers_and_one_may_die_there():
    sim = Simulator(3, fits=True, start=1.0)
    sim.compute([sim.task("plain", 0.1)(i) for i in range(3)])
    sim.join("spare")
    job = sim.add(gr.gang(sim.task("member", 0.1, lambda gang: gang.rank), size=3))
    sim.run(until=sim.now + 0.5)
    assert len(sim.refits) == 2, "the spare is fresh"
    sim.replace("spare", "another")
    sim.run()
    assert [job.values[n] for n in job.roots] == [(0, 1, 2)]
    everything_is_free(sim)


def test_a_worker_that_had_died_before_another_was_asked_for_is_not_waited_for():
    """The engine was about to say so when it was told to have another take its place."""
    sim = Simulator(2, fits=True, start=1.0)
    sim.compute([sim.task("plain", 0.1)(i) for i in range(2)])
    job = sim.add(gr.gang(sim.task("member", 0.1, lambda gang: gang.rank), size=2))
    assert [refit.worker for refit in sim.refits] == ["w0", "w1"]
    sim.give_up_refit("w1")
    sim.run(until=sim.now + 2.0)
    assert job not in sim.finished
    sim.join("w2")
    sim.run()
    assert [job.values[n] for n in job.roots] == [(0, 1)]
    everything_is_free(sim)


def test_a_member_may_return_nodes_but_none_that_needs_resources():
    sim = Simulator(2, machines={"": (2, {"gpu": 1})})
    plain, gpu = sim.task("plain", 0.1, lambda i: i), sim.task("gpu", **needs(gpu=1))
    assert sim.compute(gr.gang(sim.task("m", 0.1, lambda gang: plain(gang.rank)), size=2)) == [(0, 1)]
    with pytest.raises(TypeError, match="returned a node that needs resources"):
        sim.compute(gr.gang(sim.task("m", 0.1, lambda gang: gpu(gang.rank)), size=2))
    everything_is_free(sim)
