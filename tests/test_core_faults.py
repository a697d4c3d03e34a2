"""The scheduling core where things go wrong: random graphs on the simulator, whose workers die all the time.

Some nodes kill whoever runs them, some fail every other time and are called again, some return nodes, some ask for
resources or are gangs; and workers die of themselves, at any moment, with the message that they were about to send, or
before they are there. Each value must be right, each node that could not be had must say why, and the books must be
empty in the end: what is left in them is memory never given back, or a run that never ends. That no more is given out
than there is, the simulator looks to itself.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from simulator import Simulator

import graphray as gr
from graphray.executors import core

SECONDS = (0.0, 0.0005, 0.002, 0.01, 0.06)


class Faulty(Simulator):
    """Workers die: of running a node of the task "deadly", and by chance."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.chance = rng.choice([0.0, 0.005, 0.03, 0.1])  # that a busy worker dies, at each look
        self.deaths = 0
        resources = {"gpu": rng.choice([2, ("5", "7", "9")]), "licence": 3, "memory": 10}
        machines = {"a": (rng.randint(2, 4), resources)}
        if rng.random() < 0.3:
            machines["b"] = (rng.randint(1, 2), {"memory": 4, "gpu": 1})
        super().__init__(
            trip=rng.choice([0, 0.0003, 0.003]),
            ahead=rng.random() < 0.5,
            machines=machines,
            fits=rng.random() < 0.7,
            start=rng.choice([0, 0.002, 0.05]),
        )

    def tell(self, event: core.Event) -> None:
        kind = type(event)
        sender = event.worker if kind is core.UnitDone else event.unit.worker if kind is core.UnitRecalled else None
        if sender is None or sender in self.workers:  # else it died before its message had come
            super().tell(event)

    def go_on(self) -> None:
        """Up to the next thing that happens, and who dies of it."""
        self.run(until=(max(self.now, self._agenda[0][0]) if self._agenda else self.now) + 0.0005)
        for name, worker in list(self.workers.items()):
            if self.workers.get(name) is not worker:  # another has its place by now
                continue
            if worker.unit is None or worker.machine is None or not worker.busy:
                dies = self.rng.random() < self.chance / 20  # it may be waiting for the rest of a gang
            else:
                node = worker.machine.node
                dies = (node is not None and node._task.name == "deadly") or self.rng.random() < self.chance
            if dies:
                self.deaths += 1
                self.replace(name, f"another {self.deaths}", exitcode=-9, signal="SIGKILL")


class Drawn:
    """A random graph, and what its nodes are to give.

    Attributes:
        nodes: all, each after what it needs.
        values: what each is to give.
        doomed: those that cannot be had: deadly ones, and what needs them.
    """

    def __init__(self, sim: Faulty, rng: random.Random, size: int) -> None:
        self.nodes: list[gr.Node] = []
        self.values: dict[gr.Node, int] = {}
        self.doomed: set[gr.Node] = set()
        fails: dict[int, int] = {}

        def fail_every_other_time(i: int, *xs: int) -> int:
            fails[i] = fails.get(i, 0) + 1
            if fails[i] % 2:
                raise OSError("not yet")
            return 1 + sum(xs)

        def grow(i: int, *xs: int) -> Any:
            if i % 4 == 0:
                return leaf(i)
            return plain[0](leaf(i), *[plain[1](leaf(j), *xs) for j in range(i % 4)])

        def grown(i: int, *xs: int) -> int:
            return i if i % 4 == 0 else 1 + i + sum([1 + j + sum(xs) for j in range(i % 4)])

        def seconds() -> float:
            return rng.choice(SECONDS)

        def member(gang: gr.Gang, i: int, *xs: int) -> int:
            fails[i] = fails.get(i, 0) + 1
            if i % 5 == 0 and fails[i] == 1:
                raise OSError("not yet")
            return gang.rank + sum(xs)

        def wants() -> dict[str, Any]:
            names = rng.sample(["gpu", "licence", "memory"], rng.choice([1, 1, 2]))
            return {name: rng.randint(1, 2) for name in names}

        plain = [sim.task(f"plain {k}", seconds(), lambda *xs: 1 + sum(xs)) for k in range(4)]
        leaf = sim.task("leaf", seconds(), lambda i: i)
        flaky = sim.task("flaky", seconds(), fail_every_other_time, retries=1000, backoff=0.01)
        growing = sim.task("growing", seconds(), grow)
        deadly = sim.task("deadly", 0.003)
        needy = [sim.task(f"needy {k}", seconds(), lambda *xs: 1 + sum(xs), resources=wants()) for k in range(3)]
        gangs = [
            sim.task("gang", seconds(), member, retries=1, backoff=0.01, resources=resources)
            for resources in (None, {"gpu": 1}, {"memory": 2})
        ]
        share_deadly, share_growing = rng.choice([0.0, 0.06]), rng.choice([0.0, 0.15])
        for i in range(size):
            needs = rng.sample(self.nodes[-8:], min(len(self.nodes), 8, rng.choice([0, 1, 1, 2, 3])))
            given = [self.values[d] for d in needs]
            kind = rng.random()
            value = 1 + sum(given)
            if kind < share_deadly:
                node = deadly(*needs)
            elif kind < share_deadly + share_growing:
                node, value = growing(i, *needs), grown(i, *given)
            elif kind < share_deadly + share_growing + 0.1:
                node = flaky(i, *needs)
            elif kind < share_deadly + share_growing + 0.2:
                node = rng.choice(needy)(*needs)
            elif kind < share_deadly + share_growing + 0.25:
                node, value = gr.gang(rng.choice(gangs), i, *needs, size=2)[1], 1 + sum(given)
            else:
                node = rng.choice(plain)(*needs)
            if kind < share_deadly or self.doomed.intersection(needs):
                self.doomed.add(node)
            self.nodes.append(node)
            self.values[node] = value

    def check(self, node: gr.Node, value: Any, chance: float) -> None:
        """Whether this is what the node is to give; where workers die by chance, one may be met three times."""
        if type(value) is gr.Failure:
            assert isinstance(value.error, gr.WorkerDied)
            assert node in self.doomed or chance
        else:
            assert node not in self.doomed
            assert value == self.values[node]


@pytest.mark.parametrize("part", range(4))
def test_a_run_ends_with_all_that_could_be_had(rng, part):
    deaths = 0
    for _ in range(200):
        number = rng.randrange(10**9)
        print(f"graph {number}")
        draw = random.Random(number)
        sim = Faulty(draw)
        drawn = Drawn(sim, draw, draw.randint(3, 60))
        roots = draw.sample(drawn.nodes, draw.randint(1, min(8, len(drawn.nodes))))
        job = sim.add(*roots, collect=True)
        while job not in sim.finished:
            assert sim._agenda, f"nothing goes on any more; {job.waiting} wait"
            sim.go_on()
        assert sim.finished[job][1] is None
        assert job.missing == 0
        assert set(job.values) == set(roots)
        for node in roots:
            drawn.check(node, job.values[node], sim.chance)
        deaths += sim.deaths
    assert deaths > 40


@pytest.mark.parametrize("part", range(4))
def test_a_growing_run_tells_of_each_node_once_and_keeps_nothing(rng, part):
    """Nodes are wanted at any moment: also such as are done already, for the sake of others, or are being computed."""
    deaths = 0
    for _ in range(200):
        number = rng.randrange(10**9)
        print(f"graph {number}")
        draw = random.Random(number)
        sim = Faulty(draw)
        drawn = Drawn(sim, draw, draw.randint(3, 60))
        wanted = draw.sample(drawn.nodes, draw.randint(1, min(12, len(drawn.nodes))))
        to_come = list(wanted)
        job = sim.add(collect=True, growing=True)
        while to_come or len(sim.done) < len(wanted):
            if to_come and draw.random() < 0.05:
                some = [to_come.pop() for _ in range(draw.randint(1, len(to_come)))]
                sim.tell(core.NodesAdded(job, some))
            assert sim._agenda or to_come or len(sim.done) == len(wanted), f"nothing goes on; {job.waiting} wait"
            sim.go_on()
        sim.run()
        assert sorted(map(id, sim.done)) == sorted(map(id, wanted))
        for node in wanted:
            drawn.check(node, job.held[node], sim.chance)
        assert job.done == job.total
        books = (job.values, job.uses, job.planned, job.waiting, job.ready, job.consumers, job.awaiting, job.ran)
        assert not any(books)
        assert not job.heights
        placement = sim.core.placement
        assert not (placement.waiting or placement.seated or placement.inbox or placement.held)
        assert not any(coming.member for coming in placement.coming.values())
        assert all(site.free == site.total for site in placement.sites.values())
        deaths += sim.deaths
    assert deaths > 40
