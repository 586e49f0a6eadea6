"""What a run found, in a few sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

from scmedal_tools._data import random_cells, slots
from scmedal_tools.model import COLLAPSED
from scmedal_tools.tl import held_back_cells
from scmedal_tools.train import ENOUGH_BATCHES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from anndata import AnnData

    from scmedal_tools.model import MedalModel

    from ._job import Job

N_CELLS, N_NEIGHBOURS = 3_000, 15
LEVEL = 0.05
N_STRONGEST = 3
Z_90 = 1.645


@dataclass(frozen=True)
class Trained:
    """What a run has when all networks are trained."""

    adata: AnnData
    job: Job
    models: dict[str, MedalModel]
    embeddings: list[str]


def findings(run: Trained) -> list[str]:
    """Sentences on the correction, the effects of batches, and what cannot be concluded."""
    return [*_mixing(run), _use_of_the_batch(run), *_strongest(run), *_limits(run)]


def _mixing(run: Trained) -> Iterator[str]:
    """How many neighbours of a cell are of its batch and type, before and after correction."""
    obs, fixed = run.adata.obs, run.embeddings[1]
    cells = random_cells(np.arange(run.adata.n_obs), N_CELLS, run.job.seed)
    n = min(N_NEIGHBOURS, len(cells) - 1)
    neighbours = {key: _neighbours(run.adata.obsm[key][cells], n) for key in (slots.PCA, fixed)}
    batch, name = _codes(obs[run.job.batch_key].iloc[cells]), run.job.batch_key
    labels_key = run.job.labels_key
    types = np.zeros(len(cells), dtype=int)
    if labels_key is not None:
        types = _codes(obs[labels_key].iloc[cells])
    before, after = (_share(batch, found) for found in neighbours.values())
    yield (
        f"Batch correction: of the {n} nearest neighbours of a cell, {before:.0%} are of its own "
        f"{name} in PCA and {after:.0%} in {_title(run)}'s latent; {_chance(batch, types):.0%} "
        f"would be if every {name} were mixed{' within cell types' if labels_key else ''}."
    )
    if labels_key is not None:
        before, after = (_share(types, found) for found in neighbours.values())
        given = " (which was given the labels)" if "fec" in run.models else ""
        yield (
            f"Cell types: {before:.0%} of the neighbours are of the cell's own {labels_key} in "
            f"PCA, {after:.0%} in {_title(run)}'s latent{given}."
        )


def _title(run: Trained) -> str:
    return next(iter(run.models)).upper()


def _codes(column: pd.Series) -> np.ndarray:
    return column.astype(str).astype("category").cat.codes.to_numpy()


def _neighbours(x: np.ndarray, n: int) -> np.ndarray:
    return NearestNeighbors(n_neighbors=n).fit(x).kneighbors(return_distance=False)


def _share(codes: np.ndarray, neighbours: np.ndarray) -> float:
    return float((codes[neighbours] == codes[:, None]).mean())


def _chance(batch: np.ndarray, types: np.ndarray) -> float:
    """Share of a cell's own batch among the other cells of its type."""
    counts = np.zeros((types.max() + 1, batch.max() + 1))
    np.add.at(counts, (types, batch), 1)
    others = counts.sum(1)[types] - 1
    shares = (counts[types, batch] - 1) / np.where(others, others, 1)
    return float(shares[others > 0].mean())


def _use_of_the_batch(run: Trained) -> str:
    """Of cells that RE was not fitted to."""
    name, re = run.job.batch_key, run.models["re"]
    gap = re.get_swap_gap(indices=held_back_cells(re))
    if gap < COLLAPSED:
        return (
            f"Random effects: decoding cells as of another {name} makes no difference. Either a "
            f"{name} changes nothing, or training was too short: do not interpret the effects."
        )
    return (
        f"Random effects: decoding held-out cells as of another {name} raises the "
        f"reconstruction error by {gap - 1:.1%}, so RE uses the {name}."
    )


def _strongest(run: Trained) -> Iterator[str]:
    """Genes with the largest effects among those whose sign is certain."""
    re = run.models["re"]
    if not re.module.has_gene_effects:
        return
    effects = re.get_batch_effects()
    certain = effects[effects["lfsr"] < LEVEL]
    genes = certain.index.unique("gene")
    name = run.job.batch_key
    yield (
        f"{len(genes):,} of {len(re.gene_names):,} genes have an effect of some {name} whose sign "
        f"is wrong with a probability below {LEVEL:.0%}."
    )
    order = certain["effect"].abs().sort_values(ascending=False).index
    largest = certain.loc[order].groupby(level="gene", sort=False).head(1).head(N_STRONGEST)
    if len(largest):
        listed = "; ".join(
            f"{gene} in {batch}: {row.effect:+.2f} "
            f"({row.effect - Z_90 * row.sd:+.2f}, {row.effect + Z_90 * row.sd:+.2f})"
            for (batch, gene), row in largest.iterrows()
        )
        yield f"Largest of these, in log-expression, with 90% intervals: {listed}."


def _limits(run: Trained) -> Iterator[str]:
    """What the design of the study leaves open."""
    name, n = run.job.batch_key, len(run.models["re"].batch_names)
    if n < ENOUGH_BATCHES:
        yield (
            f"There are only {n} batches: the effects describe these, and say little about how "
            "much batches vary in general."
        )
    condition = run.job.condition_key
    if condition is not None:
        nested = run.adata.obs.groupby(name, observed=True)[condition].nunique().max() == 1
        if nested:
            yield (
                f"Every {name} has one {condition}: an effect of a {name} contains that of its "
                f"{condition}, and batch correction removes both."
            )
    yield (
        f"An effect is everything that coincides with a {name}: biology, handling, sequencing. It "
        "is not causal."
    )
