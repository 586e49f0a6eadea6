"""How often intervals of shifts hold the truth of simulated data, and how wide they are."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy import stats

import scmedal_tools as smt
from scmedal_tools._gene_model import GroupSums, MixedEquations, restricted_likelihoods

if TYPE_CHECKING:
    from anndata import AnnData

LEVEL = 0.9
MIN_CELLS = 10
N_DRAWS = 50  # an ensemble shares them out
RATIOS = np.r_[0, np.geomspace(1e-3, 4, 25)]


def interval_scores(networks: list, adata: AnnData) -> list[dict]:
    """Coverage and Winkler score by stratum: a network, the ensemble, a mixed model."""
    single, together = (predicted_shifts(models, adata) for models in (networks[0], networks))
    groups = together.obs
    truth = np.stack(
        [
            smt.datasets.true_shift(adata, row.cell_type, row.source, row.target)
            for row in groups.itertuples()
        ]
    )
    sizes = adata.obs["donor"].value_counts()
    size = np.minimum(*(groups[key].map(sizes).astype(int) for key in ("source", "target")))
    of_size = {
        name: np.broadcast_to(size.between(low, high, "left").to_numpy()[:, None], truth.shape)
        for name, low, high in (
            ("under 50 cells", 0, 50),
            ("50-200", 50, 201),
            ("over 200", 201, 1e9),
        )
    }
    methods = {
        "RE": (single.layers["lower"], single.layers["upper"]),
        f"{len(networks)} x RE": (together.layers["lower"], together.layers["upper"]),
        "mixed model of each gene (given cell types)": mixed_model_intervals(adata, groups),
    }
    return [
        {"method": method} | row
        for method, limits in methods.items()
        for row in of_strata(truth, *limits, of_size)
    ]


def of_strata(
    truth: np.ndarray, lower: np.ndarray, upper: np.ndarray, further: dict | None = None
) -> list[dict]:
    """Coverage and Winkler score of all shifts, of thirds by their size, and of further strata."""
    tertile = np.digitize(np.abs(truth), np.quantile(np.abs(truth), [1 / 3, 2 / 3]), right=True)
    names = ("smallest third", "middle third", "largest third")
    strata = {"all": np.ones(truth.shape, dtype=bool)}
    strata |= {name: tertile == i for i, name in enumerate(names)} | (further or {})
    missed = np.maximum(lower - truth, 0) + np.maximum(truth - upper, 0)
    winkler = upper - lower + 2 / (1 - LEVEL) * missed
    return [
        {
            "stratum": name,
            "coverage": float((missed == 0)[cells].mean()),
            "winkler": float(winkler[cells].mean()),
        }
        for name, cells in strata.items()
        if cells.any()
    ]


def predicted_shifts(models, adata: AnnData) -> AnnData:
    """Shifts between different donors, of types with enough cells, with intervals."""
    donors = list(adata.obs["donor"].cat.categories)
    shifts = smt.tl.counterfactual_means(
        models, adata, donors, labels_key="cell_type",
        n_samples=N_DRAWS, interval=LEVEL, progress=False,
    )  # fmt: skip
    obs = shifts.obs
    return shifts[(obs["n_cells"] >= MIN_CELLS) & (obs["source"] != obs["target"])].copy()


def mixed_model_intervals(adata: AnnData, groups: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of ``type + (1 | donor) + (1 | donor:type)``, scales by restricted likelihood."""
    donor, label = (adata.obs[key].cat for key in ("donor", "cell_type"))
    n_types = len(label.categories)
    sums = GroupSums(len(donor.categories), n_types, adata.n_vars)
    sums.add(adata.X.toarray(), donor.codes.to_numpy(int), label.codes.to_numpy(int))
    freedom = sums.sizes.sum() - np.count_nonzero(sums.sizes)
    means = sums.sums / np.maximum(sums.sizes, 1)[:, :, None]
    squares = sums.squares.sum(0) - (sums.sizes[:, :, None] * means**2).sum((0, 1))
    scale = np.sqrt(squares / freedom)
    sizes, means = torch.from_numpy(sums.sizes), torch.from_numpy(means / scale)
    one, own = torch.ones(n_types, n_types).double(), torch.eye(n_types).double()
    models = [MixedEquations(sizes, a * one + b * own) for a, b in product(RATIOS, repeat=2)]
    best = restricted_likelihoods(models, means).argmax(1).numpy()
    loc, variance = np.empty(means.shape), np.empty(means.shape)
    for pair in np.unique(best):
        of_genes, genes = means[:, :, best == pair], best == pair
        model = models[pair]
        loc[:, :, genes] = model.effects(of_genes, model.fixed(of_genes))
        variance[:, :, genes] = model.covariance_of_effects.diagonal(dim1=1, dim2=2)[:, :, None]
    loc, variance = scale * loc, scale**2 * variance
    source, target = (
        pd.Index(donor.categories).get_indexer(groups[k]) for k in ("source", "target")
    )
    kind = pd.Index(label.categories).get_indexer(groups["cell_type"])
    shift = loc[target, kind] - loc[source, kind]
    width = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(
        variance[target, kind] + variance[source, kind]
    )
    return shift - width, shift + width
