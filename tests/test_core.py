"""The scheduling core, in virtual time: what runs where and when, without threads, processes or clocks.

Each test draws the graph that it is about; the numbers of nodes are the order in which they are made.
"""

from __future__ import annotations

import itertools
import random

import pytest
from simulator import TICK, Simulator, makespan

import graphray as gr
from graphray.errors import WorkerDied
from graphray.executors import core
from graphray.executors.core import BUDGET, LARGEST, OVERDUE, PROBE

SEEDS = range(8)


def lognormal(number, seed, total=None, shortest=1e-3, longest=0.5):
    """Durations of independent tasks: log-normal, cut off on both sides, some seconds in all."""
    draw = random.Random(seed)
    times = [min(max(draw.lognormvariate(-4.0, 1.2), shortest), longest) for _ in range(number)]
    return times if total is None else [t * total / sum(times) for t in times]


def random_graph(sim, seed, size=120, seconds=None):
    """Nodes with up to four needs among those made before; all of them are wanted by the last."""
    draw = random.Random(seed)
    tasks = [sim.task(f"t{i}", seconds or draw.choice([0.0, 1e-5, 1e-3, 0.02, 0.2])) for i in range(6)]
    nodes = []
    for i in range(size):
        needs = [draw.choice(nodes) for _ in range(draw.randrange(min(i, 4) + 1))]
        nodes.append(draw.choice(tasks)(i, *needs))
    return nodes


# ---- everything runs, once, after what it needs


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_node_runs_exactly_once_and_after_what_it_needs(workers, seed, ahead):
    sim = Simulator(workers, trip=random.Random(seed).choice([0.0, 1e-4, 0.01]), ahead=ahead)
    finished = {}
    order = []

    def note(i, *needs):
        assert all(j in finished for j in needs), "a need was not there"
        finished[i] = True
        order.append(i)
        return i

    draw = random.Random(seed)
    tasks = [sim.task(f"t{k}", draw.choice([0.0, 1e-5, 1e-3, 0.02, 0.2]), note) for k in range(6)]
    nodes = []
    for i in range(120):
        nodes.append(draw.choice(tasks)(i, *[draw.choice(nodes) for _ in range(draw.randrange(min(i, 4) + 1))]))
    assert sim.compute(nodes[-1], *nodes[:20], nodes) == [119, *range(20), list(range(120))]
    assert sorted(order) == list(range(120))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_finished_job_leaves_nothing_behind_in_the_core(seed):
    sim = Simulator(3, trip=1e-4, ahead=True)
    job = sim.add(random_graph(sim, seed))
    sim.run()
    assert job.over
    assert (job.done, job.missing) == (job.total, 0)
    assert not (job.ready or job.waiting or job.consumers or job.awaiting or job.ran)
    assert set(job.values) == set(job.roots), "values that nobody needs are dropped"
    assert not (sim.core.jobs or sim.core.units or sim.core.queued)
    assert sorted(sim.core.idle) == ["w0", "w1", "w2"]


def test_a_job_without_work_is_finished_at_once():
    sim = Simulator(2)
    assert sim.compute(gr.value(3), [gr.value(4), {"k": gr.value(5)}]) == [3, [4, {"k": 5}]]
    assert sim.units == []


def test_work_waits_for_a_worker():
    sim = Simulator(0)
    job = sim.add(sim.task("a", 1.0)())
    sim.run()
    assert job not in sim.finished
    sim.workers["late"] = type(next(iter(Simulator(1).workers.values())))("late")
    sim.tell(core.WorkerJoined("late"))
    sim.run()
    assert sim.finished[job] == (1.0, None)


def test_the_same_events_give_the_same_instructions():
    def story():
        sim = Simulator(3, trip=1e-4)
        sim.compute(random_graph(sim, 5))
        return [(c.worker, c.name, c.start, c.stop) for c in sim.calls]

    assert story() == story()


# ---- units: how much is handed out at a time
#
#     0   1   2   3  …      independent nodes of one task


def test_a_task_never_seen_is_probed_with_a_few_nodes():
    sim = Simulator(2)
    sim.add(gr.map(sim.task("a", 1e-4), range(1000)))
    assert len(sim.units) == 2
    assert all(n <= PROBE + 1 for n in sim.handed)


def test_what_is_scarce_is_probed_one_by_one():
    """25 tasks that take a second each: a probe must not put several of them behind one another."""
    sim = Simulator(8)
    sim.compute(gr.map(sim.task("a", 1.0), range(8)))
    assert sim.handed == [1] * 8
    assert sim.took == pytest.approx(1.0)


def test_the_first_worker_leaves_the_others_their_share():
    engine = core.Core(expected=4)
    engine.handle(core.JobAdded(core.Job(gr.map(abs, range(8)))), 0.0)
    (unit,) = runs(engine.handle(core.WorkerJoined("w"), 0.0))
    assert len(unit.nodes) == 2


@pytest.mark.parametrize("seconds", [1e-6, 1e-5, 1e-4, 1e-3, 0.01])
def test_units_grow_to_the_budget_once_durations_are_known(seconds):
    sim = Simulator(2)
    sim.compute(gr.map(sim.task("a", seconds), range(40_000 if seconds < 1e-4 else 8000)))
    work = [n * seconds for n in sim.handed[4:]]  # the first are probes
    assert max(work) <= BUDGET * 1.2
    assert max(work) >= min(BUDGET / 3, LARGEST * seconds, sum(work) / 10)
    assert len(sim.units) <= sum(work) / (BUDGET / 3) + 60, "few units: each is a trip"


def test_units_shrink_towards_the_end():
    sim = Simulator(4)
    sim.compute(gr.map(sim.task("a", 1e-3), range(4000)))
    assert sim.handed[-1] < max(sim.handed) / 4
    assert sim.took < 1.0 * 1.02


def test_a_unit_hands_back_what_it_has_not_begun_when_its_budget_is_spent():
    """A task that was quick so far turns slow: an optimistic unit never hides ten long nodes."""
    sim = Simulator(2)
    slow = [False]
    task = sim.task("a", lambda i: 1.0 if slow[0] else 1e-4)
    sim.compute(gr.map(task, range(500)))
    assert max(sim.handed) > 50
    slow[0] = True
    sim.compute(gr.map(task, range(500, 520)))
    assert sim.took < 10 + 1.0 + 0.1
    assert len(sim.calls) == 520


def test_what_an_overdue_unit_has_not_begun_is_recalled_when_somebody_is_idle():
    """One long node at the head of a unit: the others go to the idle worker long before it is done."""
    sim = Simulator(2)
    task = sim.task("a", lambda i: 5.0 if i == 1000 else 1e-4)
    sim.compute(gr.map(task, range(1000)))
    start = sim.now
    sim.compute(gr.map(task, [1000, *range(1001, 1100)]))
    others = [c.stop - start for c in sim.calls[1000:] if c.stop - c.start < 1]
    assert len(others) == 99
    assert max(others) < 0.2 + BUDGET + OVERDUE + 3 * TICK
    assert sim.took < 5.1


#          0 (long) ─ … ┐
#          1 ─ 2 ─ 3 ───┴─ last      one unit: while 0 runs, 1, 2 and 3 are given back, also where 3 needs 0


@pytest.mark.parametrize("needs_the_long_one", [False, True])
def test_what_is_given_back_may_feed_one_another(needs_the_long_one):
    sim = Simulator(2, trip=1e-4)
    first = sim.task("first", lambda i: 5.0 if i == 1000 else 1e-4)
    second = sim.task("second", 1e-4)
    sim.compute([second(first(i)) for i in range(1000)])
    long = first(1000)
    nodes = [second(second(first(i)), *([long] if needs_the_long_one else [])) for i in range(40)]
    way = second(second(second(second(long))))
    before = len(sim.calls)
    assert sim.compute(sim.task("last", 1e-4)(way, nodes)) == ["last"]
    assert len(sim.calls) - before == 1 + 4 + 120 + 1
    assert len(sim.recalls) > 0
    times = [c.start for c in sim.calls[before:] if c.name == "first" and c.stop - c.start < 1]
    assert max(times) - min(times) < 0.5, "what does not need the long one does not wait for it"


def test_time_is_asked_for_only_where_it_may_call_for_something():
    sim = Simulator(2)
    assert not sim.core.watchful
    sim.add(gr.map(sim.task("a", 1.0), range(2)))
    assert not sim.core.watchful, "both are busy with one node each"


# ---- chains and fans
#
#     0 ─ 1 ─ 2 ─ … ─ 999


def test_a_chain_is_cut_into_few_units():
    sim = Simulator(3, trip=1e-3)
    task = sim.task("a", 1e-4, lambda x: x)
    node = gr.value(0)
    for _ in range(1000):
        node = task(node)
    sim.compute(node)
    assert len(sim.units) <= 4, "0.1 s of work that nobody could share: a probe, and units of the budget"
    assert sim.took < 0.1 + 4 * 2e-3 + 1e-6


@pytest.mark.parametrize("trip", [1e-3, 0.2])
def test_a_long_chain_is_never_recalled_however_slow_the_messages(trip):
    sim = Simulator(2, trip=trip)
    task = sim.task("a", 1e-6, lambda x: x)
    node = gr.value(0)
    for _ in range(50_000):
        node = task(node)
    assert sim.compute(node) == [0]
    assert not sim.recalls, "an idle worker could not help with it"
    assert len(sim.units) <= 5
    assert max(sim.handed) <= 20_000


@pytest.mark.parametrize("trip", [0.2, 2.0])
def test_a_unit_that_is_slow_to_arrive_has_its_time_all_the_same(trip):
    sim = Simulator(2, trip=trip)
    task = sim.task("a", 1e-5, lambda x: x)
    for _ in range(5):  # each a probe, then less than a unit: the other worker is idle
        assert sim.compute(*gr.map(task, range(50))) == list(range(50))
    assert not sim.recalls


#     0 ─ 1 ─ … ─ 99 ┐
#     0 ─ 1 ─ … ─ 99 ┼─ last
#     0 ─ 1 ─ … ─ 99 ┘


def test_several_chains_run_side_by_side_each_on_its_worker():
    sim = Simulator(3, trip=1e-4)
    task = sim.task("a", 1e-3, lambda x: x)
    chains = []
    for k in range(3):
        node = gr.value(k)
        for _ in range(100):
            node = task(node)
        chains.append(node)
    assert sim.compute(gr.call(list, chains)) == [[0, 1, 2]]
    assert sim.took < 0.1 * 1.25


#              ┌─ 1
#          0 ──┼─ …       a fan-out from one node: what it feeds is for everybody
#              └─ 64


def test_a_fan_out_is_shared_when_others_are_idle():
    sim = Simulator(4, trip=1e-4)
    first = sim.task("first", 1e-3)()
    task = sim.task("a", 0.01)
    sim.compute([task(first, i) for i in range(64)])
    assert {c.worker for c in sim.calls} == set(sim.workers)
    assert sim.took < 64 * 0.01 / 4 * 1.2 + 0.01


#          0 ─ 1 ┐
#          2 ─ 3 ┼─ 6 …   what only a unit's own nodes feed stays in it: the values never leave the worker
#          4 ─ 5 ┘


def test_what_only_a_unit_feeds_stays_in_it():
    sim = Simulator(2)
    load, clean = sim.task("load", 1e-4), sim.task("clean", 1e-4)
    nodes = [clean(load(i)) for i in range(2000)]
    sim.compute(gr.combine(sim.task("sum", 0.0), nodes))
    assert sum([n.task is load for u in sim.units for n in u.exports]) <= 2, "probes may be cut anywhere"


# ---- order
#
#          0 ─ 1 ─ 2 ─ 3 ─ 4 ┐
#          5 ────────────────┼─ 15      the long way first: while it is walked, the short ones fill the other worker
#          6 ────────────────┤
#          …  (10 short ones)┘


def test_the_longest_way_to_an_output_goes_first():
    sim = Simulator(2)
    long, short = sim.task("long", 0.1, lambda x: x), sim.task("short", 0.05)
    node = gr.value(0)
    for _ in range(5):
        node = long(node)
    others = [short(i) for i in range(10)]
    sim.compute(sim.task("last")(others, node))
    assert sim.names()[0] == "long"
    assert sim.took == pytest.approx(0.5, abs=0.06)


#          0   1   2   …   9        first in, first out among equals: results come in the order they were asked for


def test_equal_nodes_go_in_order():
    sim = Simulator(1)
    seen = []
    sim.compute(gr.map(sim.task("a", 0.1, seen.append), range(10)))
    assert seen == list(range(10))


#      load 0 ─ sum 0 ┐
#      load 1 ─ sum 1 ┼─ tree …         loads are heavy, sums are light: no more than a few loads may live at once
#      …              ┘


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("seconds", [1e-4, 0.01, 0.2])
def test_a_map_reduce_keeps_few_values_alive(workers, seconds):
    sim = Simulator(workers)
    load, add = sim.task("load", seconds), sim.task("add", seconds / 10, lambda a, b: 0)
    number = 1024
    sim.compute(gr.reduce(add, [sim_light(sim, seconds)(load(i)) for i in range(number)], arity=2))
    alive = sim.most_values
    assert alive <= 2 * workers * 10 + 4, f"{alive} values of {number} were alive at once"


def sim_light(sim, seconds, made={}):  # noqa: B006 (one task per simulator)
    return made.setdefault(sim, sim.task("light", seconds / 100))


#      0 ┐
#      1 ┴─ a ┐
#      2 ┐    ├─ c              depth first: a pair is folded before the next is loaded
#      3 ┴─ b ┘


def test_what_became_ready_last_goes_first():
    sim = Simulator(1)
    load, fold = sim.task("load", 0.06), sim.task("fold", 0.06)
    leaves = [load(i) for i in range(8)]
    while len(leaves) > 1:
        leaves = [fold(a, b) for a, b in zip(leaves[::2], leaves[1::2], strict=True)]
    sim.compute(leaves[0])
    names = sim.names()
    assert names[:7] == ["load", "load", "fold", "load", "load", "fold", "fold"]
    assert sim.most_values <= 4


def test_of_too_many_homes_the_one_used_longest_ago_is_forgotten(monkeypatch):
    monkeypatch.setattr(core, "HOMES", 3)
    sim = Simulator(2)
    near, anywhere = sim.task("near", 0.01, near=lambda key: key), sim.task("anywhere", 0.01)

    def run(node):
        sim.compute(node)
        return sim.calls[-1].worker

    home = run(near("a"))
    other = run(near("b"))
    assert other != home
    assert [run(near(key)) for key in "ca"] == [home, home]
    assert run(near("d")) == other  # the fourth: it is "b" that goes
    assert run(anywhere()) == home  # the one that has been idle longest; now it is the other
    assert run(near("a")) == home


# ---- how long it takes


@pytest.mark.parametrize("seed", SEEDS)
def test_independent_tasks_of_unknown_durations_end_near_the_ideal(seed):
    """2,000 log-normal durations of 1 to 500 ms, 60 s in all, two workers, random order, nothing said about them."""
    times = lognormal(2000, seed, total=60.0)
    sim = Simulator(2, trip=1e-4, ahead=True)
    sim.compute(gr.map(sim.task("a", lambda t: t), times))
    assert sim.took <= makespan(times, 2) * 1.012


@pytest.mark.parametrize("workers", [3, 8, 32])
def test_many_workers_end_near_the_ideal(workers):
    times = lognormal(200 * workers, workers)
    sim = Simulator(workers, trip=1e-4, ahead=True)
    sim.compute(gr.map(sim.task("a", lambda t: t), times))
    assert sim.took <= makespan(times, workers) + max(times) + 0.1


@pytest.mark.parametrize("seconds", [1e-6, 1e-5, 1e-4])
def test_small_tasks_are_not_slowed_down_by_trips(seconds):
    """A round trip takes a hundred times as long as a task, and yet the workers are busy."""
    sim = Simulator(2, trip=50 * seconds, ahead=True)
    sim.compute(gr.map(sim.task("a", seconds), range(50_000)))
    assert sim.took < 50_000 * seconds / 2 * 1.25


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_take_at_most_twice_the_lower_bound(seed):
    """Graham's bound for any greedy schedule is 2 − 1/m of the optimum; units may not lose more than that."""
    sim = Simulator(4)
    task = sim.task("a", 0.03)
    draw = random.Random(seed)
    nodes, heights = [], []
    for i in range(400):
        needs = [draw.randrange(max(0, i - 60), i) for _ in range(draw.randrange(3))] if i else []
        nodes.append(task(i, *[nodes[j] for j in needs]))
        heights.append(1 + max([heights[j] for j in needs], default=0))
    sim.compute(nodes)
    assert sim.took <= 2 * max(sum([0.03] * 400) / 4, 0.03 * max(heights))


# ---- nodes that return nodes
#
#          0 ⟹ fan(1 … 64)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_wide_expansion_is_shared_when_others_are_idle(workers):
    sim = Simulator(workers, trip=1e-4)
    leaf = sim.task("leaf", 0.01, lambda i: i)
    root = sim.task("root", 1e-3, lambda: gr.combine(sum, gr.map(leaf, range(64))))()
    assert sim.compute(root) == [sum(range(64))]
    assert {c.worker for c in sim.calls} == set(sim.workers)
    assert sim.took < 64 * 0.01 / workers * 1.25 + 0.02


#          f(20) ⟹ f(19) + f(18), each of which ⟹ …


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("seconds", [0.0, 1e-4, 0.01])
def test_recursion_gives_the_right_value_whoever_runs_it(workers, seconds):
    sim = Simulator(workers, trip=1e-4, ahead=True)
    fib = sim.task("fib", seconds, lambda n: n if n < 2 else fib(n - 1) + fib(n - 2))
    job = sim.add(fib(11))
    sim.run()
    assert job.values[job.roots[0]] == 89
    assert len(sim.calls) == 287
    assert job.done == job.total


#          0 ⟹ 1 ⟹ 2 ⟹ … ⟹ 1000


def test_what_a_task_returned_may_need_what_only_that_task_was_given():
    given = gr.call(int)
    outer = gr.call(float, given)
    inner = gr.call(abs, given)  # what `outer` returns
    engine = core.Core()
    engine.handle(core.WorkerJoined("w"), 0.0)
    job = core.Job([outer])
    (first,) = runs(engine.handle(core.JobAdded(job), 0.0))
    (second,) = runs(engine.handle(core.UnitDone("w", first, {given: 0}), 0.0))
    assert second.inputs == {given: 0}
    (third,) = runs(engine.handle(core.UnitDone("w", second, {}, left=[inner], awaiting=[(outer, inner)]), 0.0))
    assert third.nodes == [inner]
    assert third.inputs == {given: 0}
    engine.handle(core.UnitDone("w", third, {inner: 0}), 0.0)
    assert job.over
    assert job.values == {outer: 0}


def runs(instructions):
    """The units that are to be run."""
    return [i.unit for i in instructions if type(i) is core.Run]


@pytest.mark.parametrize("seconds", [1e-6, 0.002, 0.03])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_task_may_return_nodes_of_its_own_run(workers, seconds):
    sim = Simulator(workers)
    leaves = gr.map(sim.task("leaf", 1e-3, lambda i: i), range(12))
    outers = gr.map(sim.task("outer", seconds, lambda i: leaves[i]), range(12))
    job = core.Job([*outers, *leaves])
    job.shared = True
    sim.tell(core.JobAdded(job))
    sim.run()
    assert sim.finished[job][1] is None
    assert [job.values[n] for n in job.roots] == [*range(12)] * 2


@pytest.mark.parametrize("seconds", [0.0, 1e-3, 0.1])
def test_a_loop_of_returned_nodes_stays_where_it_is(seconds):
    sim = Simulator(3, trip=1e-3)
    loop = sim.task("loop", seconds, lambda n: loop(n - 1) if n else "end")
    assert sim.compute(loop(300)) == ["end"]
    assert len({c.worker for c in sim.calls}) == 1
    assert sim.most_values <= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_random_dynamic_graphs(seed):
    """Nodes that return trees of nodes that return trees, on three workers with slow trips."""
    draw = random.Random(seed)
    sim = Simulator(3, trip=1e-3, ahead=True)
    times = [draw.choice([0.0, 1e-4, 0.01, 0.1]) for _ in range(50)]

    def branch(again, n, depth):
        return [again(n + i, depth - 1) for i in range((n * 7 + depth) % 4) if depth] or n

    def plain(n, depth):
        return branch(plain, n, depth)

    grow = sim.task("grow", lambda n, depth: times[n % 50], lambda n, depth: branch(grow, n, depth))
    roots = [grow(i, 4) for i in range(12)]
    assert sim.compute(*roots) == [plain(i, 4) for i in range(12)]


# ---- all of it together


class Bad:
    """In plain Python: what stands in the place of a value that could not be had."""

    def __init__(self, cause):
        self.cause = cause


def expand(i, leaf, dynamic, *needs):
    """What a dynamic node returns: a fan, a chain, a node that expands again, or a plain value."""
    kind = i % 4
    if kind == 0:
        return leaf(i * 10 + 1, *[leaf(i * 10 + j, *needs) for j in (2, 4, 5, 6)])
    if kind == 1:
        return leaf(i * 10 + 1, leaf(i * 10 + 2, leaf(i * 10 + 4, *needs)))
    if kind == 2 and i < 100_000:
        return dynamic(i * 10 + 4, *needs)
    return leaf(i * 10 + 7, *needs)


def story(seed, failures):
    """A random graph whose durations nobody could guess, beside what plain Python gives for it."""
    draw = random.Random(seed)
    sim = Simulator(draw.choice([1, 2, 3, 5]), trip=draw.choice([0.0, 1e-4, 0.01]), ahead=draw.random() < 0.5)
    span = draw.choice([1e-5, 1e-3, 0.05])

    def duration(i, *needs):
        return span * random.Random(f"{seed} {i}").choice([0.1, 1, 1, 2, 300 if span < 0.05 else 20])

    def value(i, *needs):
        if failures and i % 23 == 3:
            raise ValueError(i)
        return (i, *[n[0] for n in needs])

    def plain_leaf(i, *needs):
        bad = next((n for n in needs if type(n) is Bad), None)
        return bad or (Bad(i) if failures and i % 23 == 3 else value(i, *needs))

    def plain_dynamic(i, *needs):
        bad = next((n for n in needs if type(n) is Bad), None)
        return bad or expand(i, plain_leaf, plain_dynamic, *needs)

    tasks = [sim.task(f"leaf {k}", duration, value) for k in range(3)]
    dynamic = sim.task("dynamic", duration, lambda i, *needs: expand(i, tasks[i % 3], dynamic, *needs))
    nodes, values = [], []
    for i in range(draw.choice([20, 80])):
        needs = [draw.randrange(max(0, i - 10), i) for _ in range(draw.randrange(4))] if i else []
        if draw.random() < 0.2:
            nodes.append(dynamic(i, *[nodes[j] for j in needs]))
            values.append(plain_dynamic(i, *[values[j] for j in needs]))
        else:
            nodes.append(tasks[i % 3](i, *[nodes[j] for j in needs]))
            values.append(plain_leaf(i, *[values[j] for j in needs]))
    return sim, nodes, values


@pytest.mark.parametrize("failures", [False, True], ids=["", "failures"])
@pytest.mark.parametrize("seed", range(60))
def test_random_stories(seed, failures):
    sim, nodes, values = story(seed, failures)
    job = sim.add(*nodes, collect=failures)
    sim.run()
    assert job in sim.finished, "it does not end"
    for node, expected in zip(nodes, values, strict=True):
        got = job.values[node]
        if type(expected) is Bad:
            assert type(got) is gr.Failure
            assert got.node is node
            assert got.error.args == (expected.cause,)
        else:
            assert got == expected
    assert (job.done, job.missing) == (job.total, 0)
    assert set(job.values) == set(nodes), "nothing else is kept"
    assert not (job.ready or job.waiting or job.consumers or job.awaiting or job.ran or job.uses)


# ---- several jobs


def test_jobs_share_the_workers_fairly():
    """A short job that comes late does not wait for a long one to end."""
    sim = Simulator(2)
    task = sim.task("a", 0.01)
    long = sim.add(gr.map(task, range(1000)))
    sim.run(until=0.5)
    short = sim.add(gr.map(task, range(20)))
    sim.run()
    assert sim.finished[short][0] < 1.0
    assert sim.finished[long][0] == pytest.approx(1020 * 0.01 / 2, rel=0.05)


def test_one_jobs_failure_is_not_anothers():
    sim = Simulator(2)

    def fail():
        raise ValueError("no")

    bad, good = sim.add(sim.task("bad", 0.1, fail)()), sim.add(gr.map(sim.task("a", 0.05), range(20)))
    sim.run()
    assert isinstance(sim.finished[bad][1], ValueError)
    assert sim.finished[good][1] is None


def test_a_failed_job_begins_nothing_more():
    sim = Simulator(2)

    def fail(*needs):
        raise ValueError("no")

    task = sim.task("a", 0.05)
    after = sim.task("after")(sim.task("bad", 0.2, fail)())
    job = sim.add([*gr.map(task, range(100)), after])
    sim.run()
    assert isinstance(sim.finished[job][1], ValueError)
    assert "after" not in sim.names()
    assert sim.names().count("a") < 100
    assert sorted(sim.core.idle) == ["w0", "w1"]


def test_a_cancelled_job_ends_at_once_and_what_runs_is_told():
    sim = Simulator(2, trip=1e-3)
    job = sim.add(gr.map(sim.task("a", 0.5), range(20)))
    sim.run(until=0.7)
    sim.tell(core.JobClosed(job, core.cancelled()))
    assert isinstance(sim.finished[job][1], gr.Cancelled)
    assert len(sim.recalls) == 2
    sim.run()
    assert len(sim.calls) == 4, "what was running came to its end"
    other = sim.add(gr.map(sim.task("b", 0.1), range(4)))
    sim.run()
    assert sim.finished[other][1] is None


# ---- on_error="collect"
#
#          bad ─ 1 ─ 2 ┐
#          good ───────┴─ 3


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_failures_are_values_where_they_are_collected(workers, seconds):
    sim = Simulator(workers)

    def fail():
        raise ValueError("no")

    bad, good = sim.task("bad", seconds, fail)(), sim.task("good", seconds)()
    pass_on = sim.task("pass on", seconds, lambda *xs: xs)
    one = pass_on(bad)
    two = pass_on(one)
    job = sim.add(two, pass_on(good, two), good, collect=True)
    sim.run()
    values = [job.values[n] for n in job.roots]
    assert values[2] == "good"
    for value, node in zip(values[:2], job.roots[:2], strict=True):
        assert type(value) is gr.Failure
        assert value.node is node
        assert value.skipped_because is bad
    assert "pass on" not in sim.names()
    assert (job.missing, job.done) == (0, job.total)


# ---- workers that go


def kill_who_runs(sim, job, times):
    """Kill each worker that comes to run a job of one node; others take their places."""
    for i in range(times):
        sim.run(until=sim.now + 0.5)
        (name,) = [n for n, w in sim.workers.items() if w.unit is not None and w.unit.job is job]
        sim.replace(name, f"another {i}", exitcode=-9, signal="SIGKILL", memory=5 << 20)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_node_that_kills_its_workers_ends_its_job_and_no_other(ahead):
    sim = Simulator(2, ahead=ahead)
    bad = sim.add(sim.task("deadly", 10.0)())
    good = sim.add(gr.map(sim.task("a", 0.02), range(100)))
    kill_who_runs(sim, bad, 3)
    error = sim.finished[bad][1]
    assert isinstance(error, WorkerDied)
    assert (error.signal, error.exitcode, error.node) == ("SIGKILL", -9, bad.roots[0])
    assert "deadly" in str(error)
    assert "SIGKILL" in str(error)
    assert "5 MiB" in str(error)
    assert error.memory == 5 << 20
    assert [(r.again.node, r.died) for r in sim.retries] == [(bad.roots[0], True)] * 2
    assert sim.given_up == [(bad.roots[0], error)]
    sim.run()
    assert sim.finished[good][1] is None


@pytest.mark.parametrize("ahead", [False, True])
def test_a_lost_worker_costs_no_more_than_what_it_was_running(ahead, rng):
    sim = Simulator(3, ahead=ahead)
    leaf = sim.task("leaf", 0.01, lambda i: i)
    add = sim.task("add", 0.02, lambda *xs: sum(xs))
    level = [leaf(i) for i in range(300)]
    while len(level) > 1:
        level = [add(*level[i : i + 3]) for i in range(0, len(level), 3)]
    job = sim.add(level[0])
    for i in range(12):
        sim.run(until=sim.now + rng.uniform(0.01, 0.15))
        name = rng.choice(sorted(sim.workers))
        sim.replace(name, f"w{10 + i}", exitcode=-9, signal="SIGKILL")
    sim.run()
    assert sim.finished[job][1] is None
    assert job.values[level[0]] == sum(range(300))
    assert not job.uses
    assert set(job.values) == {level[0]}
    assert len(sim.calls) <= 450 + 12 * 20  # a unit holds few nodes here


def test_the_suspects_run_alone_where_nobody_knows_which_it_was():
    sim = Simulator(1)
    deadly = sim.task("deadly", 0.01, lambda i: i)
    job = sim.add(gr.map(deadly, range(8)))
    sim.run(until=0.005)
    sim.workers["w0"].machine.node = None
    sim.replace("w0", "w1", exitcode=1)
    sim.run()
    assert sim.finished[job][1] is None
    assert sim.handed[1:] == [1] * 8


def test_what_does_not_need_the_deadly_node_is_done_under_collect():
    sim = Simulator(1)
    deadly, good = sim.task("deadly", 10.0), sim.task("good", 0.01, lambda *xs: len(xs))
    bad = deadly()
    job = sim.add(bad, good(bad), *[good(i) for i in range(50)], collect=True)
    for i in range(3):
        while not any(w.machine is not None and w.machine.node is bad for w in sim.workers.values()):
            sim.run(until=sim.now + 0.01)
        (name,) = sim.workers
        sim.replace(name, f"another {i}", exitcode=-11, signal="SIGSEGV")
    sim.run()
    values = [job.values[n] for n in job.roots]
    assert [type(v) for v in values[:2]] == [gr.Failure] * 2
    assert isinstance(values[0].error, WorkerDied)
    assert values[1].skipped_because is bad
    assert values[2:] == [1] * 50
    assert (job.missing, job.done) == (0, job.total)


# ---- calls that are made again


def failing(times, value="there"):
    """A function that raises so many times, and then gives a value."""
    left = [times]

    def call(*args):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("not yet")
        return value

    return call


def test_a_failed_call_waits_longer_each_time_and_holds_no_worker_meanwhile():
    sim = Simulator(1)
    flaky = sim.task("flaky", 0.001, failing(3), retries=3, backoff=1.0)
    other = sim.task("other", 0.1)
    job = sim.add(flaky(), *[other() for _ in range(30)])
    sim.run()
    assert sim.finished[job][1] is None
    starts = [c.start for c in sim.calls if c.name == "flaky"]
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    for gap, least in zip(gaps, (0.75, 1.5, 3.0), strict=True):
        assert least <= gap <= least / 0.75 * 1.25 + 0.3  # and what was running then
    assert len([c for c in sim.calls if c.name == "other" and c.start < starts[1]]) >= 5
    assert [r.again.failures for r in sim.retries] == [1, 2, 3]


@pytest.mark.parametrize(("retries", "retry_on", "calls"), [(2, Exception, 3), (2, ValueError, 1), (0, OSError, 1)])
def test_a_call_is_made_again_only_so_often_and_for_such_errors(retries, retry_on, calls):
    sim = Simulator(1)
    flaky = sim.task("flaky", 0.001, failing(10), retries=retries, retry_on=retry_on)
    job = sim.add(flaky())
    sim.run()
    assert isinstance(sim.finished[job][1], OSError)
    assert len(sim.calls) == calls


def test_a_returned_node_is_called_again_as_well():
    sim = Simulator(1)
    flaky = sim.task("flaky", 0.001, failing(2, 5), retries=2)
    plus = sim.task("plus", 0.001, lambda x: x + 1)
    outer = sim.task("outer", 0.001, lambda: plus(flaky()))
    (value,) = sim.compute(plus(outer()))
    assert value == 7
    assert sim.names() == ["outer", "flaky", "flaky", "flaky", "plus", "plus"]


def test_a_late_call_counts_as_an_attempt():
    sim = Simulator(1)
    slow = sim.task("slow", 100.0, retries=1, timeout=1.0)
    job = sim.add(slow())
    for i in range(2):
        sim.run(until=sim.now + 2.0)
        (name,) = sim.workers
        sim.replace(name, f"another {i}", exitcode=-9, signal="SIGKILL", late=True)
    error = sim.finished[job][1]
    assert isinstance(error, gr.TaskTimeout)
    assert "1.0 s" in str(error)


def test_a_call_with_a_timeout_is_a_unit_of_its_own():
    sim = Simulator(2)
    free, timed = sim.task("free", 0.001, lambda *xs: len(xs)), sim.task("timed", 0.001, lambda *xs: 1, timeout=5.0)
    inner = sim.task("inner", 0.001, lambda: timed(free()))
    outputs = [timed(free(i)) for i in range(20)] + [free(timed(i), free(i)) for i in range(20)] + [inner()]
    assert sim.compute(*outputs) == [1] * 20 + [2] * 20 + [1]
    for unit in sim.units:
        assert len(unit.nodes) == 1 or not any(n.task.alone for n in unit.nodes)


def test_an_idle_worker_that_goes_is_not_missed():
    sim = Simulator(2)
    job = sim.add(sim.task("a", 1.0)(), sim.task("a", 1.0)())
    sim.run()
    sim.kill("w1", exitcode=1)
    again = sim.add(sim.task("b", 1.0)(), sim.task("b", 1.0)())
    sim.run()
    assert (sim.finished[job][1], sim.finished[again][1]) == (None, None)
    assert sim.names("w0").count("b") == 2


# ---- growing jobs


def grown(sim, job, *nodes):
    from graphray.graph.sources import gather

    handles = [gather(n, (n,)) for n in nodes]
    sim.tell(core.NodesAdded(job, handles))
    return handles


def test_a_growing_job_tells_each_node_and_goes_on_until_it_is_closed():
    sim = Simulator(2)
    job = core.Job((), growing=True)
    sim.tell(core.JobAdded(job))
    task = sim.task("a", 0.1, lambda x: x + 1)
    first = grown(sim, job, task(1), task(10))
    sim.run()
    assert set(sim.done) == set(first)
    assert [job.held[h] for h in first] == [2, 11]
    assert job not in sim.finished
    second = grown(sim, job, task(first[0]))
    sim.run()
    assert job.held[second[0]] == 3
    sim.tell(core.JobClosed(job, core.cancelled()))
    assert job in sim.finished
    assert len(sim.calls) == 3


@pytest.mark.parametrize("in_order", [False, True])
def test_what_is_added_later_goes_later_where_that_is_asked_for(in_order):
    sim = Simulator(1)
    job = core.Job((), growing=True, in_order=in_order)
    sim.tell(core.JobAdded(job))
    order = []
    task = sim.task("a", 0.1, order.append)
    handles = grown(sim, job, *[task(i) for i in range(20)])
    sim.run(until=sim.now + 0.05)
    handles += grown(sim, job, *[task(i) for i in range(20, 40)])
    sim.run()
    assert sorted(order) == list(range(40))
    assert (order == list(range(40))) == in_order


def test_a_growing_job_drops_what_nobody_holds():
    sim = Simulator(2)
    job = core.Job((), growing=True)
    sim.tell(core.JobAdded(job))
    task = sim.task("a", 0.1, lambda x: x + 1)
    handle = grown(sim, job, task(task(task(1))))[0]
    sim.run()
    assert job.held[handle] == 4
    assert not job.values
    sim.tell(core.Released(job, handle))
    assert len(job.held) == 0


#          a ─ handle            the unit that runs `a` was to give the handle's value only; now another needs `a`
#          └ ─ ─ another


@pytest.mark.parametrize("known", [False, True], ids=["probe", "known"])
def test_a_node_added_again_while_it_runs_is_computed_for_both(known):
    sim = Simulator(2, trip=1e-3)
    task = sim.task("a", 0.01, lambda i: i)
    if known:
        sim.compute(gr.map(task, range(20)))
    start = sim.now
    job = core.Job((), growing=True)
    sim.tell(core.JobAdded(job))
    node = task(5)
    one = grown(sim, job, node)
    sim.run(until=start + 0.005)
    two = grown(sim, job, node)
    three = grown(sim, job, task(node))
    sim.run()
    assert [job.held.get(h) for h in one + two + three] == [5, 5, 5]


def test_a_node_given_up_with_its_needs_is_not_counted_twice_when_it_is_wanted_again():
    """It died in a unit with what it needs, which nobody has then; wanted again, it waits for all of that."""
    sim = Simulator(1)
    slow, quick = sim.task("slow", 1.0, timeout=9.0), sim.task("quick", 0.0)
    deadly = sim.task("deadly", 1.0)
    first, other = quick(), slow()
    node = deadly(first, other)
    job = sim.add(collect=True, growing=True)
    job.attempts[node] = (0, 2)
    sim.core.costs.update({quick: [1, 1e-5], deadly: [1, 1e-5]})
    sim.tell(core.NodesAdded(job, [other]))
    sim.run()
    sim.tell(core.NodesAdded(job, [node]))
    sim.run(until=sim.now + 0.5)
    assert sim.units[-1].nodes == [first, node]
    sim.kill("w0", exitcode=-9, signal="SIGKILL")
    assert sim.done == [other, node]
    sim.tell(core.Released(job, other))
    sim.tell(core.Released(job, node))
    sim.tell(core.NodesAdded(job, [node]))
    sim.join("w1")
    sim.run()
    assert job.held[node] == "deadly"
