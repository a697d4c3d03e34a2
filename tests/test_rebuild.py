"""Results lost with their workers are made again: random graphs on a simulator that keeps values at its workers."""

from __future__ import annotations

import random
from typing import Any

import pytest
from simulator import Worker
from test_core_faults import Drawn, Faulty

import graphray as gr
from graphray.executors import core
from graphray.graph.containers import rewrite


class Kept:
    """A value at a worker."""

    def __init__(self, value: Any, worker: str) -> None:
        self.value = value
        self.worker = worker
        self.lost = False


class Scattered(Faulty):
    """Its workers keep what they make, or most of it; what one has is lost with it."""

    def __init__(self, rng: random.Random) -> None:
        self.kept: list[Kept] = []
        self.lost = 0
        super().__init__(rng)
        self.share = rng.choice([0.3, 1.0])
        self.core.locate = lambda v: (1, v.worker) if type(v) is Kept else (0, "")
        self.core.seats = {name: name for name in self.workers}

    def tell(self, event: core.Event) -> None:
        if type(event) is core.UnitDone and event.failed is None:
            event.values = {n: self._keep(v, event.worker) for n, v in event.values.items()}
        super().tell(event)

    def _keep(self, value: Any, worker: str) -> Any:
        if type(value) in (Kept, gr.Failure) or self.rng.random() > self.share:
            return value
        self.kept.append(Kept(value, worker))
        return self.kept[-1]

    def _next(self, worker: Worker) -> None:
        if worker.unit is None and worker.queue and not worker.lost:
            unit = worker.queue[0]
            if any(_lost(v) for v in unit.inputs.values()):
                worker.queue.pop(0)
                self._later(self.tell, core.UnitDone(worker.name, unit, {}, unit.nodes))
                return self._next(worker)
            here = {n: _fetched(v) for n, v in unit.inputs.items()}
            before, unit.inputs = unit.inputs, here
            super()._next(worker)
            unit.inputs = before
        return None

    def kill(self, name: str, **how: Any) -> None:
        super().kill(name, **how)
        gone = [k for k in self.kept if k.worker == name and not k.lost]
        for k in gone:
            k.lost = True
        self.lost += len(gone)
        if gone:
            self.tell(core.ValuesLost(lambda v: type(v) is Kept and v.lost))


def _fetched(value: Any) -> Any:
    """A value, what is at workers in its place; that of a gang is a tuple of its members'."""
    return rewrite(value, lambda x: x.value if type(x) is Kept else x)


def _lost(value: Any) -> bool:
    found = []
    rewrite(value, lambda x: found.append(x) if type(x) is Kept and x.lost else x)
    return bool(found)


@pytest.mark.parametrize("part", range(4))
def test_each_value_is_right_however_many_are_lost(rng, part):
    lost = 0
    for _ in range(200):
        number = rng.randrange(10**9)
        print(f"graph {number}")
        draw = random.Random(number)
        sim = Scattered(draw)
        drawn = Drawn(sim, draw, draw.randint(3, 60))
        roots = draw.sample(drawn.nodes, draw.randint(1, min(8, len(drawn.nodes))))
        job = sim.add(*roots, collect=True)
        looks = 0
        while job not in sim.finished:
            looks += 1
            if looks == 20_000:
                sim.chance = 0.0  # it gets further than it is thrown back, some time
            assert looks < 200_000
            assert sim._agenda, f"nothing goes on any more; {job.waiting} wait"
            sim.go_on()
        assert sim.finished[job][1] is None
        assert job.missing == 0
        assert set(job.values) == set(roots)
        assert not job.uses
        assert not job.waiting
        for node in roots:
            value = job.values[node]
            drawn.check(node, _fetched(value), sim.chance)
        lost += sim.lost
    assert lost > 40


def test_only_what_was_lost_and_is_needed_is_made_again():
    sim = Scattered(random.Random(1))
    sim.chance, sim.share, sim.rng = 0.0, 1.0, random.Random(2)
    for name in list(sim.workers):
        sim.kill(name)
    for name in ("a", "b"):
        sim.workers[name] = Worker(name)
        sim.core.seats[name] = name
        sim.tell(core.WorkerJoined(name))
    part = sim.task("part", 0.06, lambda i: i)
    total = sim.task("total", 10.0, lambda *xs: sum(xs))
    job = sim.add(total(*[part(i) for i in range(20)]))
    sim.run(until=1.0)  # the parts are made, and the last is at work
    made = {k.worker for k in sim.kept}
    assert made == {"a", "b"}
    busy = next(name for name, w in sim.workers.items() if w.unit is not None)
    other = "b" if busy == "a" else "a"
    share = len([k for k in sim.kept if k.worker == other])
    sim.kill(other)
    sim.run()
    assert sim.finished[job][1] is None
    value = job.values[job.roots[0]]
    assert _fetched(value) == sum(range(20))
    assert sim.names().count("part") <= 20 + share
