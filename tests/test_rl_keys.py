"""Keys: Threefry by its published answers, and the agreement with jax.random."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from graphray.rl import keys


def key(*words: int) -> keys.Key:
    return np.array(words, np.uint32)


@pytest.mark.parametrize(
    ("words", "counter", "answer"),
    [  # known answers of Random123, the authors' own implementation, for threefry2x32 with 20 rounds
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_published_answers(words, counter, answer):
    assert tuple(int(word) for word in keys.threefry_2x32(key(*words), *counter)) == answer


def test_a_root_key_holds_the_bits_of_the_seed():
    assert keys.root(1).tolist() == [0, 1]
    assert keys.root(2**64 - 1).tolist() == [2**32 - 1, 2**32 - 1]
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="64"):
            keys.root(seed)


@pytest.mark.parametrize("seed", [0, 7, 2**63 + 12345])
def test_folding_bits_and_numbers_are_those_of_jax(seed):
    root = keys.root(seed)
    wrapped = jax.random.wrap_key_data(root)
    for counter in (0, 1, 500, 2**32 - 1):
        folded = keys.fold_in(root, counter)
        assert np.array_equal(folded, jax.random.key_data(jax.random.fold_in(wrapped, counter)))
    assert np.array_equal(keys.bits(root, 5), jax.random.bits(wrapped, (5,)))
    assert np.array_equal(keys.uniform(root, 5), jax.random.uniform(wrapped, (5,)))
    np.testing.assert_allclose(keys.gumbel(root, 5), jax.random.gumbel(wrapped, (5,)), rtol=1e-5, atol=1e-6)


def test_a_batch_of_keys_is_each_key_by_itself():
    root = keys.root(3)
    batch = keys.fold_in(keys.fold_in(root, np.arange(3)), np.arange(4)[:, None])
    assert batch.shape == (4, 3, 2)
    assert np.array_equal(batch[2, 1], keys.fold_in(keys.fold_in(root, 1), 2))
    numbers = keys.gumbel(batch, 6)
    assert numbers.shape == (4, 3, 6)
    assert np.array_equal(numbers[2, 1], keys.gumbel(batch[2, 1], 6))
    for count in (1, 2, 5):
        numbers = keys.normal(batch, count)
        assert numbers.shape == (4, 3, count)
        assert numbers.dtype == np.float32
        assert np.array_equal(numbers[2, 1], keys.normal(batch[2, 1], count))


def test_the_numbers_are_spread_as_they_should_be():
    many = keys.fold_in(keys.root(0), np.arange(20_000))
    uniform = keys.uniform(many, 2)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts, _ = np.histogram(uniform, 20, (0, 1))
    assert np.abs(counts - 2_000).max() < 250  # 5.7 standard deviations
    gumbel = keys.gumbel(many, 1)
    assert gumbel.mean() == pytest.approx(np.euler_gamma, abs=0.05)
    assert gumbel.var() == pytest.approx(np.pi**2 / 6, rel=0.06)
    assert np.isfinite(gumbel).all()


def test_normal_numbers_are_spread_as_they_should_be():
    many = keys.fold_in(keys.root(0), np.arange(20_000))
    normal = keys.normal(many, 3)
    assert np.isfinite(normal).all()
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(normal.var(axis=0), 1, rtol=0.05)
    np.testing.assert_allclose((normal**4).mean(axis=0), 3, rtol=0.12)
    assert np.abs(np.corrcoef(normal.T) - np.eye(3)).max() < 0.03
    # Shares within one, two and three deviations.
    within = [np.mean(np.abs(normal) < n) for n in (1, 2, 3)]
    np.testing.assert_allclose(within, [0.6827, 0.9545, 0.9973], atol=0.006)


def test_of_the_largest_uniform_number_the_normal_one_is_finite(monkeypatch):
    monkeypatch.setattr(keys, "bits", lambda key, count: np.full((*key.shape[:-1], count), 0xFFFFFFFF, np.uint32))
    assert np.isfinite(keys.normal(keys.root(0), 4)).all()
    assert np.isfinite(keys.gumbel(keys.root(0), 4)).all()
