"""Spaces as flat arrays: what is written can be read again, and every action is one that the environment takes."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from graphray.rl.spaces import (
    Choice,
    Numbers,
    action_layout,
    decoder,
    encoder,
    observation_layout,
    structure,
)

LONGEST = 3

# -- spaces at random --------------------------------------------------------------------------------------------------

SHAPES = st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 2)])
NAMES = st.text("abc", min_size=1, max_size=2)


@st.composite
def boxes(draw, kinds=("float32", "float64", "int8", "int32", "uint8")):
    shape, kind = draw(SHAPES), np.dtype(draw(st.sampled_from(kinds)))
    if kind.kind == "f":
        low = draw(st.sampled_from([-np.inf, -1.0, -2.5, 0.0]))
        high = draw(st.sampled_from([np.inf, 1.0, 3.0]))
    else:
        info = np.iinfo(kind)
        low = draw(st.sampled_from([info.min, 0, 1]))
        high = draw(st.sampled_from([info.max, 3, 7]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium warns of some infinite bounds
        return spaces.Box(low, high, shape, kind)


discrete = st.builds(spaces.Discrete, st.integers(1, 5), start=st.integers(-2, 3))
binary = st.builds(spaces.MultiBinary, st.sampled_from([1, 4, (2, 3)]))


@st.composite
def multi_discrete(draw):
    shape = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    size = int(np.prod(shape))
    numbers = np.array(draw(st.lists(st.integers(1, 4), min_size=size, max_size=size))).reshape(shape)
    starts = np.array(draw(st.lists(st.integers(-2, 3), min_size=size, max_size=size))).reshape(shape)
    return spaces.MultiDiscrete(numbers, start=starts)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
            st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(spaces.Dict),
        ),
        max_leaves=5,
    )


simple = st.one_of(boxes(), discrete, binary, multi_discrete())
action_spaces = nested(
    st.one_of(boxes(("float32", "float64", "int8", "int64", "uint64")), discrete, binary, multi_discrete())
)
observation_spaces = nested(st.one_of(simple, st.builds(spaces.Sequence, nested(simple), stack=st.booleans())))

# -- what is expected --------------------------------------------------------------------------------------------------


def expected(space, value):
    """What a network is to see of a value, by the words of the documentation."""
    match space:
        case spaces.Dict():
            return {key: expected(inner, value[key]) for key, inner in space.spaces.items()}
        case spaces.Tuple():
            return tuple(expected(inner, one) for inner, one in zip(space.spaces, value, strict=True))
        case spaces.Discrete():
            return np.eye(space.n, dtype=np.float32)[int(value) - int(space.start)]
        case spaces.MultiDiscrete():
            each = zip(np.ravel(space.nvec), np.ravel(value) - np.ravel(space.start), strict=True)
            return np.concatenate([np.eye(n, dtype=np.float32)[i] for n, i in each])
        case spaces.Sequence():
            entries = unstacked(space, value)[-LONGEST:]
            size = len(flat(space.feature_space, space.feature_space.sample()))
            rows = np.zeros((LONGEST, size), np.float32)
            for row, entry in zip(rows, entries, strict=False):
                row[:] = flat(space.feature_space, entry)
            return rows, (np.arange(LONGEST) < len(entries)).astype(np.float32)
    return np.asarray(value, np.float32)


def unstacked(space, value):
    return list(gymnasium.vector.utils.iterate(space.stacked_feature_space, value) if space.stack else value)


def flat(space, value):
    def leaves(tree):
        if isinstance(tree, dict | tuple):
            return [leaf for one in (tree.values() if isinstance(tree, dict) else tree) for leaf in leaves(one)]
        return [np.ravel(tree)]

    return np.concatenate(leaves(expected(space, value)))


def assert_same(one, other):
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        assert isinstance(other, tuple)
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_array_equal(one, other)
        assert np.shape(one) == np.shape(other)


def written(space, value):
    layout = observation_layout(space, LONGEST)
    out = np.full(layout.shape, 77, layout.dtype)  # what was there before is not to show
    encoder(space, layout)(value, out)
    return layout, out


# -- observations ------------------------------------------------------------------------------------------------------


@given(space=observation_spaces, seed=st.integers(0, 1000))
def test_what_is_written_is_what_is_read(space, seed):
    space.seed(seed)
    value = space.sample()
    layout, out = written(space, value)
    assert_same(structure(layout, out), expected(space, value))


@given(space=observation_spaces, seed=st.integers(0, 1000))
def test_a_batch_is_read_as_each_of_it(space, seed):
    space.seed(seed)
    layout = observation_layout(space, LONGEST)
    rows = [written(space, space.sample())[1] for _ in range(6)]
    batch = structure(layout, np.stack(rows).reshape(2, 3, *layout.shape))
    at_once = jax_free_map(lambda array: array[1, 2], batch)
    assert_same(at_once, structure(layout, rows[5]))


def jax_free_map(function, tree):
    if isinstance(tree, dict):
        return {key: jax_free_map(function, one) for key, one in tree.items()}
    return tuple(jax_free_map(function, one) for one in tree) if isinstance(tree, tuple) else function(tree)


@given(space=observation_spaces)
def test_layouts_are_values(space):
    layout = observation_layout(space, LONGEST)
    assert hash(layout) == hash(observation_layout(space, LONGEST))
    assert layout == observation_layout(space, LONGEST)
    stops = [0, *(part.stop for part in layout.parts)]
    assert [part.start for part in layout.parts] == stops[:-1]
    assert stops[-1] == np.prod(layout.shape)


def test_an_image_stays_one():
    image = spaces.Box(0, 255, (4, 5, 3), np.uint8)
    layout, out = written(image, image.sample())
    assert (layout.shape, layout.dtype, layout.plain) == ((4, 5, 3), "uint8", False)
    assert out.dtype == np.uint8
    with_more = spaces.Dict({"camera": image, "speed": spaces.Box(-1, 1, (2,))})
    value = with_more.sample()
    layout, out = written(with_more, value)
    assert [part.kind for part in layout.parts] == ["image", "numbers"]
    np.testing.assert_array_equal(structure(layout, out)["camera"], value["camera"])


def test_of_a_long_sequence_the_end_is_seen():
    space = spaces.Sequence(spaces.Box(-np.inf, np.inf, (1,)))
    value = tuple(np.array([i], np.float32) for i in range(5))
    layout, out = written(space, value)
    entries, there = structure(layout, out)
    assert entries[:, 0].tolist() == [2, 3, 4]
    assert there.tolist() == [1, 1, 1]
    _, out = written(space, ())
    assert not out.any()


def test_a_mask_is_found():
    space = spaces.Dict({"action_mask": spaces.MultiBinary(3), "observations": spaces.Box(-1, 1, (2,))})
    layout, out = written(space, {"action_mask": np.array([0, 1, 1]), "observations": np.zeros(2)})
    mask = layout.mask
    assert (mask.kind, mask.path) == ("mask", ("action_mask",))
    assert out[mask.start : mask.stop].tolist() == [0, 1, 1]
    assert layout.plain
    assert observation_layout(space["observations"]).mask is None


@pytest.mark.parametrize("space", [spaces.Text(5), spaces.Graph(spaces.Box(0, 1), None), None])
def test_what_has_no_layout_is_named(space):
    with pytest.raises(TypeError, match=r"made of Box, Discrete.*not"):
        observation_layout(spaces.Dict({"a": space}) if space else space)
    with pytest.raises(TypeError, match=r"made of Discrete.*not"):
        action_layout(space)


# -- actions -----------------------------------------------------------------------------------------------------------


def flat_action(layout, rng, spread):
    columns = []
    for leaf in layout.leaves:
        if isinstance(leaf, Choice):
            columns.append([rng.integers(leaf.n)])
        else:
            columns.append(rng.normal(size=leaf.size) * spread)
    return np.concatenate(columns).astype(layout.dtype)


@given(space=action_spaces, seed=st.integers(0, 1000), spread=st.sampled_from([0.3, 3.0, 1e6]))
def test_every_flat_action_is_one_of_the_space(space, seed, spread):
    layout = action_layout(space)
    flat = flat_action(layout, np.random.default_rng(seed), spread)
    before = flat.copy()
    action = decoder(layout)(flat)
    assert space.contains(action), action
    np.testing.assert_array_equal(flat, before)
    assert hash(layout) == hash(action_layout(space))


def test_every_choice_can_be_made():
    space = spaces.Dict({"a": spaces.Discrete(3, start=5), "b": spaces.MultiDiscrete([2, 3], start=[1, 0])})
    layout = action_layout(space)
    assert (layout.size, layout.discrete, layout.continuous, layout.dtype) == (3, True, False, np.int32)
    decode = decoder(layout)
    seen = {
        (int(made["a"]), *made["b"].tolist())
        for made in (decode(np.array([i, j, k], np.int32)) for i in range(3) for j in range(2) for k in range(3))
    }
    assert seen == {(a, b, c) for a in (5, 6, 7) for b in (1, 2) for c in (0, 1, 2)}


def test_numbers_are_stretched_to_their_bounds():
    decode = decoder(action_layout(spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))))
    np.testing.assert_allclose(decode(np.array([0.0, 0.0], np.float32)), [0, 5])
    np.testing.assert_allclose(decode(np.array([-1.0, 1.0], np.float32)), [-2, 10])
    np.testing.assert_allclose(decode(np.array([9.0, -9.0], np.float32)), [2, 0])
    half = decoder(action_layout(spaces.Box(0, np.inf, (1,))))
    np.testing.assert_allclose(half(np.array([3.5], np.float32)), [3.5])
    np.testing.assert_allclose(half(np.array([-3.5], np.float32)), [0])


def test_whole_numbers_are_rounded():
    decode = decoder(action_layout(spaces.Box(0, 4, (1,), np.int64)))
    assert [decode(np.array([x], np.float32)).tolist() for x in (-1, -0.3, 0.1, 0.9, 1)] == [[0], [1], [2], [4], [4]]


def test_mixed_actions():
    space = spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2)])
    layout = action_layout(space)
    assert (layout.size, layout.discrete, layout.continuous, layout.dtype) == (5, False, False, np.float32)
    assert [type(leaf) for leaf in layout.leaves] == [Choice, Numbers, Choice, Choice]
    which, where, lights = decoder(layout)(np.array([2, 0.25, -0.5, 0, 1], np.float32))
    assert (int(which), where.tolist(), lights.tolist()) == (1, [0.25, -0.5], [0, 1])
