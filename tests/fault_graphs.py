"""Random graphs for the fault tests, the same for a seed in every process; and the program that computes one.

    python fault_graphs.py SEED EXECUTOR CACHE LOG RESULT

Each call says in the log which node it is of, before it does anything; the numbers among the arguments make that plain.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time

import numpy as np

import graphray as gr

SIZES = (3, 300, 3_000, 40_000)  # the last is 320 KB: such arrays go through the store
LOG = "GRAPHRAY_FAULT_LOG"


def say() -> None:
    path = os.environ.get(LOG)
    if path:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{gr.context().node}\n".encode())
        os.close(descriptor)


def work(rng: random.Random) -> None:
    """Between 0 and 20 ms, most often little; some of it with Python's lock held."""
    seconds = rng.random() ** 3 * 0.02
    if rng.random() < 0.5:
        time.sleep(seconds)
    else:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass


@gr.task
def leaf(number: int):
    say()
    rng = random.Random(number)
    work(rng)
    return np.random.default_rng(number).standard_normal(rng.choice(SIZES))


@gr.task
def merge(number: int, *parts):
    say()
    work(random.Random(number))
    total = sum(float(np.sum(p)) for p in parts)
    return np.asarray(parts[0], dtype=float) * 0.5 + total


@gr.task
def pass_on(number: int, part):
    say()
    return {"first": part, "number": number}


@gr.task
def unpack(number: int, x):
    say()
    return x["first"] + x["number"]


@gr.task
def fan(number: int, part):
    """Returns a fan-out and a fan-in, sized by what it got."""
    say()
    return merge(number, part, *[leaf(number * 1000 + i) for i in range(1 + int(abs(float(part[0])) * 10) % 6)])


@gr.task(seed=True)
def noise(number: int, part, *, seed: int):
    say()
    return part + np.random.default_rng(seed).standard_normal()


@gr.task
def stride(state):
    say()
    k, x = state
    work(random.Random(k))
    return k + 1, x * 0.9 + k


def second(state):
    return state[1]


def graph(seed: int, size: int = 60) -> gr.Graph:
    """A graph of about `size` nodes beside those that tasks return."""
    rng = random.Random(seed)
    nodes = [leaf(seed * 10_000 + i) for i in range(max(3, size // 4))]
    while len(nodes) < size:
        number = seed * 10_000 + 5_000 + len(nodes)
        one = rng.choice(nodes[-12:])
        kind = rng.random()
        if kind < 0.5:
            nodes.append(merge(number, *rng.sample(nodes, min(len(nodes), rng.randint(1, 4)))))
        elif kind < 0.65:
            nodes.append(unpack(number, pass_on(number, one)))
        elif kind < 0.8:
            nodes.append(fan(number, one))
        elif kind < 0.9:
            nodes.append(noise(number, one))
        else:
            start = gr.call(lambda k, x: (k, x), number, one)
            nodes.append(gr.call(second, gr.iterate(stride, start, steps=rng.randint(1, 12))))
    return gr.Graph(last=nodes[-5:], some=gr.combine(digest_of_all, rng.sample(nodes, 20), arity=30))


def digest_of_all(parts) -> str:
    return hashlib.sha1(b"".join([np.asarray(p).tobytes() for p in parts])).hexdigest()


def digest(result) -> str:
    """A text for the bits of a result."""
    return digest_of_all(result["last"]) + result["some"]


if __name__ == "__main__":
    number, executor, cache, log, out = sys.argv[1:]
    os.environ[LOG] = log
    import fault_graphs  # so that tasks are found by name

    options = {"cache": cache} if cache else {}
    found = digest(fault_graphs.graph(int(number)).compute(executor, seed=int(number) % 3, **options))
    with open(out, "w") as file:
        file.write(found)
