"""Sentences of a report say what can be computed otherwise."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from scmedal_tools._cli import _findings
from scmedal_tools._cli._findings import findings
from scmedal_tools.model import COLLAPSED


@pytest.fixture(scope="module")
def run(fit, cells):
    """A run whose corrected embedding mixes the donors of each type."""
    adata, rng = cells.copy(), np.random.default_rng(0)
    model = fit("SCMEDAL_RE", adata)
    types = adata.obs["cell_type"].cat.codes.to_numpy().astype(int)
    donors = adata.obs["donor"].cat.codes.to_numpy().astype(int)
    mixed = np.c_[100 * types, rng.normal(size=(adata.n_obs, 2))]
    adata.obsm["X_pca"] = np.c_[mixed, 1000 * donors]
    adata.obsm["X_scmedal_fe"] = mixed
    job = SimpleNamespace(
        batch_key="donor", labels_key="cell_type", condition_key="condition", seed=0
    )
    return SimpleNamespace(
        adata=adata, job=job, models={"fe": None, "re": model},
        embeddings=["X_pca", "X_scmedal_fe"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def said(run):
    return findings(run)


def test_mixing(run, said):
    own, mixed, chance = (int(x) for x in re.findall(r"(\d+)%", said[0]))
    assert own == 100
    distances = pairwise_distances(run.adata.obsm["X_scmedal_fe"])
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(1)[:, :15]
    donors = run.adata.obs["donor"].to_numpy()
    assert mixed == round(100 * np.mean(donors[nearest] == donors[:, None]))
    assert abs(mixed - chance) <= 4  # the donors are mixed


def test_chance_is_that_of_shuffled_batches_within_types():
    rng = np.random.default_rng(0)
    types = rng.choice(3, 400, p=[0.6, 0.3, 0.1])
    batch = np.array([rng.choice(4, p=np.roll([0.7, 0.1, 0.1, 0.1], t)) for t in types])
    shuffled = []
    for _ in range(50):
        other = np.array([rng.choice(np.delete(np.flatnonzero(types == types[i]),
                          np.flatnonzero(np.flatnonzero(types == types[i]) == i)))
                          for i in range(400)])  # fmt: skip
        shuffled.append(np.mean(batch[other] == batch))
    assert _findings._chance(batch, types) == pytest.approx(np.mean(shuffled), abs=0.01)


def test_cell_types(run, said):
    types = run.adata.obs["cell_type"].to_numpy()
    shares = []
    for key in run.embeddings:
        distances = pairwise_distances(run.adata.obsm[key])
        np.fill_diagonal(distances, np.inf)
        nearest = distances.argsort(1)[:, :15]
        shares.append(np.mean(types[nearest] == types[:, None]))
    before, after = shares
    expected = (
        f"{before:.0%} of the neighbours are of the cell's own cell_type in PCA, {after:.0%}"
    )
    assert expected in said[1]


def test_use_of_the_batch(run, said):
    re = run.models["re"]
    gap = re.get_swap_gap(indices=re.validation_indices)
    expected = f"{gap - 1:.1%}" if gap >= COLLAPSED else "makes no difference"
    assert expected in said[2]


def test_strongest_effects(run, said):
    effects = run.models["re"].get_batch_effects()
    certain = effects[effects["lfsr"] < 0.05]
    n = certain.index.unique("gene").size
    assert f"{n} of 60 genes" in said[3]
    donor, gene = certain["effect"].abs().idxmax()
    row = effects.loc[(donor, gene)]
    assert f"{gene} in {donor}: {row.effect:+.2f} ({row.effect - 1.645 * row.sd:+.2f}" in said[4]


def test_limits(said):
    assert any("only 4 batches" in sentence for sentence in said)
    assert any("Every donor has one condition" in sentence for sentence in said)
    assert "not causal" in said[-1]


def test_chance_of_cells_that_are_alone():
    batch, types = np.array([0, 1, 1]), np.array([0, 1, 1])
    assert _findings._chance(batch, types) == 1.0
