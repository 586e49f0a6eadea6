r"""Gromov-Wasserstein assignment of points to places: similar points to nearby places.

Points have a dissimilarity :math:`d_{ij}`, places a weight :math:`w_{kl}` that grows with their
distance, and each place takes a number of points. Both losses that genomaps use,

- the square loss with :math:`w` the distance, and
- the KL loss :math:`d \log(d / b) - d + b` with :math:`w` the logarithm of the distance :math:`b`
  (Peyre, Cuturi and Solomon 2016),

differ from :math:`-\sum_{ij} d_{ij} w_{p_i p_j}` only by a factor and what no assignment
:math:`p` changes, so that the sum is what is made large here.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from scmedal_tools._how_to_install import how_to_install
from scmedal_tools._progress import tqdm

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Places = NDArray[np.integer]

OFFSET = 1e-15
"""Added to what a logarithm is taken of: distances within a ring are 0."""
MAX_PIVOTS = 50_000_000  # POT's own limit, 100,000, ends before the optimum at 54 x 54
N_PARTNERS = 8
ENOUGH = 5e-3
"""Exchanges end with the sweep that adds less than this share of what all have added."""


def import_ot() -> ModuleType:
    """Import POT, or say how to get it."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            # Of its docstrings, when Python compiles them for the first time.
            warnings.simplefilter("ignore", SyntaxWarning)
            import ot
        # JAX, which POT imports where it is installed, has drawn a number.
        np.random.set_state(state)  # noqa: NPY002
    except ImportError as error:
        raise ImportError(f"Layouts of genomaps need POT. {how_to_install('genomap')}") from error
    return ot


def kl_loss(dissimilarity: Floats, distance: Floats) -> float:
    r"""Mean over all pairs of :math:`d \log(d / b) - d + b`, with 1e-15 added in logarithms."""
    logs = np.log(dissimilarity + OFFSET) - np.log(distance + OFFSET)
    return float(np.mean(dissimilarity * logs - dissimilarity + distance))


def stress(dissimilarity: Floats, distance: Floats) -> float:
    """Kruskal's stress-1 of distances at the scale that suits the dissimilarities best."""
    norms = float(np.linalg.norm(dissimilarity) * np.linalg.norm(distance))
    cosine = float(np.vdot(dissimilarity, distance)) / (norms or 1.0)
    return math.sqrt(max(0.0, 1 - cosine**2))


def transport(gain: Floats, capacity: Places) -> Places:
    """Place of each point such that their gains, points x places, have the largest sum."""
    cost = np.ascontiguousarray(gain.max() - gain, dtype=np.float64)
    mass = np.ones(len(gain)), np.asarray(capacity, dtype=np.float64)
    plan = import_ot().emd(*mass, cost, numItermax=MAX_PIVOTS)
    # Masses are whole numbers: so is an optimal plan, which leaves each point undivided.
    return plan.argmax(axis=1)


def assign(
    dissimilarity: Floats,
    weight: Floats,
    capacity: Places,
    *,
    start: Places | None = None,
    max_iter: int = 100,
    progress: bool = False,
) -> Places:
    """Assign points to places, by exact transport first and then by exchanges.

    The negative sum is concave over the couplings for weights such as distances and their
    logarithms: a step to the coupling that is best for its linear approximation is never too
    long, each is a permutation, and the steps end when an assignment repeats. Exchanges of two
    points go on where this gets stuck.

    Parameters
    ----------
    dissimilarity
        Symmetric, of shape ``(n_points, n_points)``, 0 on the diagonal.
    weight
        Symmetric, of shape ``(n_places, n_places)``.
    capacity
        Number of points that each place takes, ``n_points`` in all.
    start
        Place of each point to start from; ``None`` for the product coupling.
    max_iter
        Largest number of transport problems, and of sweeps of exchanges.
    progress
        Show a bar for each of the two.

    Returns
    -------
    numpy.ndarray
        Place of each point.
    """
    # Single precision suffices to propose; what is taken is computed again in double.
    d, w = (np.ascontiguousarray(x, dtype=np.float32) for x in (dissimilarity, weight))
    places = _by_transport(d, w, capacity, start, max_iter, progress)
    return _by_exchanges(d, w, places, max_iter, progress)


def _by_transport(
    d: Floats, w: Floats, capacity: Places, start: Places | None, max_iter: int, progress: bool
) -> Places:
    # Of the product coupling every point is in equal parts at all places.
    at = w[start] if start is not None else np.tile(capacity @ w / len(d), (len(d), 1))
    places = transport(d @ at, capacity)
    total = _total(d, w, places)
    for _ in tqdm(range(max_iter - 1), disable=not progress, desc="Transport", leave=False):
        proposed = transport(d @ w[places], capacity)
        reached = _total(d, w, proposed)
        if reached <= total:
            break
        places, total = proposed, reached
    return places


def _by_exchanges(d: Floats, w: Floats, places: Places, max_iter: int, progress: bool) -> Places:
    places, added, noise = places.copy(), 0.0, 1e-9 * _total(d, np.abs(w), places) / len(d)
    for _ in tqdm(range(max_iter), disable=not progress, desc="Exchanges", leave=False):
        of_sweep = _sweep(d, w, places, noise)
        added += of_sweep
        if of_sweep <= ENOUGH * added:
            break
    return places


def _sweep(d: Floats, w: Floats, places: Places, noise: float) -> float:
    """Exchange pairs of points, the best first and each point once; how much the sum grew."""
    n_points = len(d)
    gains = exchange_gains(d, w, places)
    n_partners = min(N_PARTNERS, n_points)
    partners = np.argpartition(gains, n_points - n_partners, axis=1)[:, -n_partners:]
    gains = np.take_along_axis(gains, partners, axis=1)
    moved, added = np.zeros(n_points, dtype=bool), 0.0
    for pair in np.argsort(gains, axis=None)[::-1]:
        i, j = pair // n_partners, partners.flat[pair]
        if gains.flat[pair] <= noise:
            break
        if moved[i] or moved[j]:
            continue
        others = d[i].astype(np.float64) - d[j]
        others[[i, j]] = 0
        gain = others @ (w[places[j], places].astype(np.float64) - w[places[i], places])
        if gain > noise:  # others have moved since it was proposed
            places[[i, j]] = places[[j, i]]
            moved[[i, j]] = True
            added += 2 * gain
    return added


def exchange_gains(d: Floats, w: Floats, places: Places) -> Floats:
    """Half of what the sum gains by an exchange of two points, of shape (n_points, n_points)."""
    gains = (d @ w[places])[:, places]
    gains -= gains.diagonal()[:, None].copy()
    gains = gains + gains.T
    own = w.diagonal()[places]
    gains -= d * (own[:, None] + own - 2 * w[places][:, places])
    return gains


def _total(d: Floats, w: Floats, places: Places) -> float:
    return float(np.einsum("ij,ij->", d, w[np.ix_(places, places)], dtype=np.float64))
