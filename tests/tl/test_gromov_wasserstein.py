"""Assignments against plain sums, brute force and POT's own losses."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from scmedal_tools.tl import _gromov_wasserstein as gw

# After torch, which aborts where POT has loaded TensorFlow before.
pytest.importorskip("ot")


def correlation_distance(n_points, seed):
    x = np.random.default_rng(seed).normal(size=(n_points, 5))
    return np.clip(1 - np.corrcoef(x), 0, 2)


def grid_distance(n_rows, n_columns):
    points = np.stack(np.divmod(np.arange(n_rows * n_columns), n_columns), axis=1)
    return pairwise_distances(points)


def total(d, w, places):
    n = range(len(d))
    return sum(d[i, j] * w[places[i], places[j]] for i in n for j in n)


def test_losses_are_those_of_pot():
    from ot.gromov import gwloss, init_matrix

    d, b = correlation_distance(6, 0), grid_distance(2, 3)
    p = np.full(6, 1 / 6)
    plan = np.eye(6) / 6
    kl = gwloss(*init_matrix(d, b, p, p, "kl_loss"), plan)
    assert gw.kl_loss(d, b) == pytest.approx(kl, rel=1e-6)
    scale = (d * b).sum() / (b**2).sum()
    square = gwloss(*init_matrix(d, scale * b, p, p, "square_loss"), plan)
    assert gw.stress(d, b) == pytest.approx(np.sqrt(square / np.mean(d**2)), rel=1e-6)


def test_losses_rank_assignments_as_the_sum_does():
    d, b, rng = correlation_distance(12, 1), grid_distance(3, 4), np.random.default_rng(0)
    places = [rng.permutation(12) for _ in range(30)]
    sums = [total(d, b, p) for p in places]
    of_logs = [total(d, np.log(b + gw.OFFSET), p) for p in places]
    moved = [b[np.ix_(p, p)] for p in places]
    assert np.corrcoef(of_logs, [gw.kl_loss(d, m) for m in moved])[0, 1] == pytest.approx(-1)
    assert (np.argsort(sums) == np.argsort([gw.stress(d, m) for m in moved])[::-1]).all()


def test_gains_of_exchanges_are_those_of_the_sum():
    d, w = correlation_distance(9, 2), np.log(grid_distance(2, 3) + 0.1)
    places = np.random.default_rng(0).permutation(np.repeat(np.arange(6), [2, 1, 3, 1, 1, 1]))
    gains, before = gw.exchange_gains(d, w, places), total(d, w, places)
    for i in range(9):
        for j in range(9):
            exchanged = places.copy()
            exchanged[[i, j]] = places[[j, i]]
            gained = total(d, w, exchanged) - before
            assert 2 * gains[i, j] == pytest.approx(gained, abs=1e-9)


def test_transport_is_the_best_of_all():
    gain, capacity = np.random.default_rng(3).normal(size=(6, 3)), np.array([1, 2, 3])
    best = max(
        gain[np.arange(6), list(places)].sum()
        for places in set(permutations(np.repeat(np.arange(3), capacity)))
    )
    places = gw.transport(gain, capacity)
    np.testing.assert_array_equal(np.bincount(places), capacity)
    assert gain[np.arange(6), places].sum() == pytest.approx(best)


@pytest.mark.parametrize("weight", ["distance", "logarithm"])
def test_small_assignments_are_the_best_or_nearly(weight):
    """Of 2 x 3 there are 720; a local optimum is among the best of them."""
    b = grid_distance(2, 3)
    w = b if weight == "distance" else np.log(b + 0.01)
    shares = []
    for seed in range(10):
        d = correlation_distance(6, seed)
        sums = [total(d, w, p) for p in permutations(range(6))]
        places = gw.assign(d, w, np.ones(6, dtype=int))
        assert sorted(places) == list(range(6))
        reached = total(d, w, places)
        assert reached <= max(sums) + 1e-9
        shares.append(np.mean(np.array(sums) > reached + 1e-6))
        assert gw.exchange_gains(d, w, places).max() < 1e-5
    assert np.median(shares) == 0
    assert max(shares) < 0.1


def test_each_part_adds_to_the_sum():
    d, b = correlation_distance(49, 4), grid_distance(7, 7)
    start, one = np.random.default_rng(0).permutation(49), np.ones(49, dtype=int)
    d32, b32 = d.astype(np.float32), b.astype(np.float32)
    moved = gw._by_transport(d32, b32, one, start, 100, False)
    exchanged = gw._by_exchanges(d32, b32, moved, 100, False)
    assert total(d, b, start) < total(d, b, moved) < total(d, b, exchanged)


def test_without_pot(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"\.\[genomap\]"):
        gw.import_ot()
