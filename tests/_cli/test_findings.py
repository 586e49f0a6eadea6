"""Sentences of a report say what can be computed otherwise."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats.contingency import association
from sklearn.metrics import pairwise_distances

from scmedal_tools import bm
from scmedal_tools._cli import _findings
from scmedal_tools._cli._findings import Trained, findings
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
    return Trained(
        adata=adata, batch_key="donor", labels_key="cell_type",
        models={"fe": None, "re": model}, embeddings=["X_pca", "X_scmedal_fe"],
        confounding=bm.confounding(adata, "donor", ["cell_type", "condition"]), seed=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def said(run):
    return findings(run)


@pytest.mark.slow
def test_there_are_five_sentences_at_most(run, said):
    assert len(said) == 5
    assert len(findings(replace(run, labels_key=None, confounding=None))) == 4


def test_confounding_comes_first(run, said):
    n_cells = pd.crosstab(run.adata.obs["donor"], run.adata.obs["cell_type"]).to_numpy()
    n_empty = (n_cells == 0).sum()
    expected = f"{n_empty} of 12 combinations" if n_empty else "every donor has every cell_type"
    v = association(n_cells, method="cramer")
    assert said[0].startswith("Confounding: every donor has one condition, so")
    assert said[0].endswith(f"; {expected} (Cramér's V {v:.2f}).")


@pytest.mark.parametrize(
    ("batches", "types", "expected"),
    [
        ("AABB", "xyzw", "every cell_type is in one donor, so their effects cannot be separated"),
        ("AABB", "xxyy", "every donor has one cell_type, so"),
        ("ABCD", "xxyy", "every donor has one cell_type, so"),
        ("AABB", "xyxy", "every donor has every cell_type (Cramér's V 0.00)"),
        ("AABB", "xyxx", "1 of 4 combinations of donor and cell_type have no cells"),
    ],
)
def test_each_kind_of_confounding(run, batches, types, expected):
    columns = {"donor": list(batches * 2), "cell_type": list(types * 2)}
    adata = AnnData(obs=pd.DataFrame(columns, index=list("abcdefgh")))
    found = bm.confounding(adata, "donor", ["cell_type"])
    (sentence,) = _findings._confounded(replace(run, confounding=found))
    assert expected in sentence


def test_mixing(run, said):
    own, mixed, chance = (int(x) for x in re.findall(r"(\d+)%", said[1])[:3])
    assert own == 100
    distances = pairwise_distances(run.adata.obsm["X_scmedal_fe"])
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(1)[:, :15]
    donors = run.adata.obs["donor"].to_numpy()
    assert mixed == round(100 * np.mean(donors[nearest] == donors[:, None]))
    assert abs(mixed - chance) <= 4  # the donors are mixed


@pytest.mark.slow
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
    expected = f"In PCA {before:.0%} of these neighbours have the cell's cell_type, in FE's latent"
    assert said[1].endswith(f"{expected} {after:.0%}.")


def test_neighbours_that_are_kept_without_cell_types(run):
    unlabelled = replace(run, labels_key=None)
    donors = run.adata.obs["donor"].to_numpy()
    # Distances within a donor are the same before and after, in this embedding.
    assert "Within a donor, 100% of the cells nearest to a cell in PCA are also" in (
        _findings._mixing(unlabelled)
    )
    other = run.adata.copy()
    other.obsm["X_scmedal_fe"] = np.random.default_rng(1).normal(size=(other.n_obs, 3))
    sentence = _findings._mixing(replace(unlabelled, adata=other))
    shares, by_chance = [], []
    for donor in np.unique(donors):
        cells = donors == donor
        nearest = []
        n = min(15, (cells.sum() - 1) // 4)
        for key in run.embeddings:
            distances = pairwise_distances(other.obsm[key][cells])
            np.fill_diagonal(distances, np.inf)
            nearest.append(distances.argsort(1)[:, :n])
        pairs = zip(*nearest, strict=True)
        shares += [len(set(one) & set(two)) / n for one, two in pairs]
        by_chance += [n / (cells.sum() - 1)] * cells.sum()
    assert f"Within a donor, {np.mean(shares):.0%} of the cells nearest" in sentence
    assert f"latent; {np.mean(by_chance):.0%} would be expected by chance." in sentence
    assert abs(np.mean(shares) - np.mean(by_chance)) < 0.05


def test_donors_of_a_few_cells_have_no_neighbours_to_keep():
    batch = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    x = np.arange(8.0)[:, None]
    assert _findings._kept(batch, x, x) == (1.0, 0.25)


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
    assert f"{gene} in {donor}: {row.effect:+.2f} ({row.effect - 1.645 * row.sd:+.2f}" in said[3]


def test_limits(said):
    assert "only 4 batches" in said[-1]
    assert "not causal" in said[-1]


def test_chance_of_cells_that_are_alone():
    batch, types = np.array([0, 1, 1]), np.array([0, 1, 1])
    assert _findings._chance(batch, types) == 1.0
