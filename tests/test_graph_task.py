"""Tasks: making them, calling them, and mistakes that are told where they are made."""

from __future__ import annotations

import functools
import inspect
import math
import pickle

import pytest

import graphray as gr
from graphray.testing import tasks as suite_tasks


@gr.task
def plain(a, b=2, *rest, key=None):
    """Docs."""
    return a, b, rest, key


@gr.task(name="called so", version="1", retries=2, near="x")
def with_options(a):
    return a


class Model:
    def __init__(self, factor):
        self.factor = factor

    @gr.task
    def times(self, x):
        return self.factor * x

    @staticmethod
    @gr.task
    def twice(x):
        return 2 * x

    def __call__(self, x):
        return self.factor + x


# ---- what a task is


def test_a_task_keeps_its_function():
    assert plain.fn(1, key=3) == (1, 2, (), 3)
    assert plain.name == plain.__name__ == "plain"
    assert plain.__doc__ == "Docs."
    assert plain.__wrapped__ is plain.fn
    assert inspect.signature(plain) == inspect.signature(plain.fn)
    assert repr(plain) == "<Task plain>"


def test_options_are_kept_and_cannot_be_changed():
    assert with_options.name == "called so"
    assert {k: with_options.options[k] for k in ("version", "retries", "near", "pure", "outputs")} == {
        "version": "1", "retries": 2, "near": "x", "pure": True, "outputs": None,
    }  # fmt: skip
    with pytest.raises(TypeError):
        with_options.options["retries"] = 3


def test_a_task_of_a_task_has_both_options():
    again = gr.task(with_options, retries=5)
    assert again.options["retries"] == 5
    assert again.options["version"] == "1"
    assert again.fn is with_options.fn
    assert with_options.options["retries"] == 2


def test_calling_always_makes_a_node():
    for node in (plain(1), plain(1, 2, 3), plain(a=1), plain(b=1, a=2), plain(1, key=[1])):
        assert type(node) is gr.Node
        assert node.task is plain


def test_decorated_methods():
    model = Model(3)
    assert model.times(5).compute() == 15
    assert Model.times(model, 5).compute() == 15
    assert Model.twice(5).compute() == 10
    assert gr.call(model, 5).compute() == 8
    assert gr.call(model.__call__, 5).compute() == 8


def test_calls_of_one_function_share_a_task():
    assert gr.call(math.sqrt, 1).task is gr.call(math.sqrt, 2).task
    assert gr.call(plain, 1).task is plain
    assert gr.map(math.sqrt, [1])[0].task is gr.call(math.sqrt, 2).task


# ---- mistakes


@pytest.mark.parametrize(
    "call",
    [
        lambda: plain(),
        lambda: plain(b=1),
        lambda: plain(1, nonsense=2),
        lambda: plain(1, a=2),
        lambda: with_options(1, 2),
        lambda: with_options(),
        lambda: gr.call(lambda x: x),
        lambda: gr.call(lambda *, x: x, 1),
        lambda: gr.call(functools.partial(plain.fn, 1), a=1),
        lambda: gr.map(with_options, [1, 2], [3, 4]),
        lambda: Model(1).times(),
    ],
)
def test_a_wrong_call_is_refused_where_it_is_written(call):
    with pytest.raises(TypeError, match="argument"):
        call()


def test_the_message_of_a_wrong_call_shows_the_signature():
    with pytest.raises(TypeError, match=r"plain\(\).*missing.*'a'.*plain\(a, b=2, \*rest, key=None\)"):
        plain()


def test_what_has_no_signature_is_called_all_the_same():
    assert gr.call(dict, [("a", 1)]).compute() == {"a": 1}
    assert gr.call(max, 1, 2).compute() == 2
    with pytest.raises(TypeError, match=r"at least 1 argument|expected at least"):
        gr.call(max).compute()


def test_a_seed_comes_from_the_run():
    with pytest.raises(TypeError, match="seed"):
        suite_tasks.draw(1, seed=3)


@pytest.mark.parametrize("nonsense", [5, "text", None, [len]])
def test_only_functions_become_tasks(nonsense):
    if nonsense is not None:
        with pytest.raises(TypeError, match="function"):
            gr.task(nonsense)
    for make in (lambda: gr.call(nonsense), lambda: gr.map(nonsense, [1]), lambda: gr.reduce(nonsense, [1])):
        with pytest.raises(TypeError, match="function"):
            make()


def test_an_unknown_option_is_named_with_those_there_are():
    with pytest.raises(TypeError, match=r"'retry'.*retries"):
        gr.task(retry=3)
    with pytest.raises(TypeError, match="'retry'"):
        gr.task(len, retry=3)


def test_resources_have_one_form():
    assert gr.task(resources={"gpu": 1, "memory": "4GB"})(plain.fn).options["resources"] == {"gpu": 1, "memory": 4e9}
    assert gr.task(resources={"gpu": 0})(plain.fn).options["resources"] is None
    needy = gr.task(resources={"licence": 0.5})(plain.fn)
    assert gr.task(needy, resources={"gpu": 2}).options["resources"] == {"gpu": 2}
    assert needy(1).digest == plain(1).digest, "what it takes does not change what it gives"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pure", "no"),
        ("pure", None),
        ("seed", 3),
        ("jit", 1),
        ("cache", "yes"),
        ("cache", 0),
        ("near", []),
        ("timeout", "1 s"),
    ],
)
def test_wrong_options_are_refused(option, value):
    with pytest.raises(ValueError, match=f"^{option}= is"):
        gr.task(**{option: value})


@pytest.mark.parametrize(
    "wrong",
    [3, "gpu", ["gpu"], {"gpu": -1}, {"gpu": 0.5}, {"gpu": "1"}, {"x": float("nan")}, {"memory": "much"}, {3: 1}],
)
def test_wrong_resources_are_refused(wrong):
    with pytest.raises(ValueError, match=r"resources=|memory=|gpu"):
        gr.task(resources=wrong)


def test_right_options_are_not():
    for near in (None, "key", ("a", 1), lambda x: x):
        assert gr.task(pure=False, seed=False, jit=False, cache=None, near=near)(abs)(-1).compute() == 1


# ---- pickling


def test_a_task_of_a_module_is_pickled_by_reference():
    data = pickle.dumps(suite_tasks.add)
    assert len(data) < 200
    assert pickle.loads(data) is suite_tasks.add


def test_a_task_inside_a_function_is_pickled_by_value():
    import cloudpickle

    offset = 10

    @gr.task(name="inner", retries=1)
    def local(x):
        return x + offset

    again = pickle.loads(cloudpickle.dumps(local))
    assert again is not local
    assert (again.name, again.options["retries"], again.fn(1)) == ("inner", 1, 11)


def test_a_task_that_refers_to_itself_by_value():
    import cloudpickle

    @gr.task
    def countdown(n):
        return countdown(n - 1) if n else "done"

    assert pickle.loads(cloudpickle.dumps(countdown))(5).compute() == "done"


# ---- jit


def test_jit_compiles_the_function():
    import jax

    traced = []

    @gr.task(jit=True)
    def square(x):
        traced.append(isinstance(x, jax.core.Tracer))
        return x * x

    results = gr.compute(*[square(float(i)) for i in range(5)])
    assert [float(r) for r in results] == [0.0, 1.0, 4.0, 9.0, 16.0]
    assert traced == [True]
    assert square.fn(3) == 9
