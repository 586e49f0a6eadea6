"""What a run found, in a few sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    from scmedal_tools.bm import Confounding
    from scmedal_tools.model import MedalModel

N_CELLS, N_NEIGHBOURS = 3_000, 15
MAX_LFSR = 0.05
N_STRONGEST = 3
Z_90 = 1.645


@dataclass(frozen=True)
class Trained:
    """What a run has when all networks are trained."""

    adata: AnnData
    batch_key: str
    labels_key: str | None
    models: dict[str, MedalModel]
    embeddings: list[str]
    confounding: Confounding | None
    """Of the batch and the columns that the user named, if there are any."""
    seed: int


def findings(run: Trained) -> list[str]:
    """Five sentences at most: the design, the correction, the effects, and what stays open."""
    return [
        *_confounded(run),
        _mixing(run),
        _use_of_the_batch(run),
        *_strongest(run),
        _limits(run),
    ]


def _confounded(run: Trained) -> Iterator[str]:
    """Which columns are confounded with the batch, the strongest association first."""
    if run.confounding is None:
        return
    name, found = run.batch_key, run.confounding
    rows = found.summary[found.summary["group"] == name]
    rows = rows.sort_values("cramers_v", ascending=False, kind="stable").itertuples()
    clauses = [_separable(row, found.tables[name, row.target].to_numpy()) for row in rows]
    yield f"Confounding: {'; '.join(clauses)}."


def _separable(row: Any, n_cells: np.ndarray) -> str:
    """Whether the effects of two columns can be separated: a row of a table of confounding."""
    group, target = row.group, row.target
    if row.nesting in ("identical", f"{group} in {target}"):
        return (
            f"every {group} has one {target}, so an effect of a {group} contains that of its "
            f"{target}, and batch correction removes both"
        )
    if row.nesting == f"{target} in {group}":
        return f"every {target} is in one {group}, so their effects cannot be separated"
    n_empty = int((n_cells == 0).sum())
    combinations = (
        f"{n_empty:,} of {n_cells.size:,} combinations of {group} and {target} have no cells"
        if n_empty
        else f"every {group} has every {target}"
    )
    return f"{combinations} (Cramér's V {row.cramers_v:.2f})"


def _mixing(run: Trained) -> str:
    """How many neighbours of a cell are of its batch and type, before and after correction."""
    obs, fixed = run.adata.obs, run.embeddings[1]
    cells = random_cells(np.arange(run.adata.n_obs), N_CELLS, run.seed)
    n = min(N_NEIGHBOURS, len(cells) - 1)
    neighbours = {key: _neighbours(run.adata.obsm[key][cells], n) for key in (slots.PCA, fixed)}
    batch, name = _codes(obs[run.batch_key].iloc[cells]), run.batch_key
    labels_key = run.labels_key
    types = np.zeros(len(cells), dtype=int)
    if labels_key is not None:
        types = _codes(obs[labels_key].iloc[cells])
    before, after = (_share(batch, found) for found in neighbours.values())
    title = next(iter(run.models)).upper()
    of_batch = (
        f"Batch correction: of the {n} nearest neighbours of a cell, {before:.0%} are of its own "
        f"{name} in PCA and {after:.0%} in {title}'s latent; {_chance(batch, types):.0%} "
        f"would be expected with perfect mixing{' within cell types' if labels_key else ''}"
    )
    if labels_key is None:
        kept, by_chance = _kept(batch, *(run.adata.obsm[key][cells] for key in neighbours))
        return (
            f"{of_batch}. Within a {name}, {kept:.0%} of the cells nearest to a cell in PCA are "
            f"also nearest to it in {title}'s latent; {by_chance:.0%} would be expected by chance."
        )
    before, after = (_share(types, found) for found in neighbours.values())
    given = " (FEC was given the labels)" if "fec" in run.models else ""
    return (
        f"{of_batch}. In PCA {before:.0%} of these neighbours have the cell's {labels_key}, in "
        f"{title}'s latent{given} {after:.0%}."
    )


def _codes(column: pd.Series) -> np.ndarray:
    return column.astype(str).astype("category").cat.codes.to_numpy()


def _neighbours(x: np.ndarray, n: int) -> np.ndarray:
    return NearestNeighbors(n_neighbors=n).fit(x).kneighbors(return_distance=False)


def _share(codes: np.ndarray, neighbours: np.ndarray) -> float:
    return float((codes[neighbours] == codes[:, None]).mean())


def _kept(batch: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Share of a cell's neighbours within its batch that it keeps, and what chance would keep."""
    kept, by_chance = [], []
    for code in range(batch.max() + 1):
        cells = np.flatnonzero(batch == code)
        n = min(N_NEIGHBOURS, (len(cells) - 1) // 4)  # of more, chance keeps most
        if n < 1:
            continue
        pairs = zip(_neighbours(before[cells], n), _neighbours(after[cells], n), strict=True)
        kept += [np.isin(own, others).mean() for own, others in pairs]
        by_chance += [n / (len(cells) - 1)] * len(cells)
    return (float(np.mean(kept)), float(np.mean(by_chance))) if kept else (np.nan, np.nan)


def _chance(batch: np.ndarray, types: np.ndarray) -> float:
    """Share of a cell's own batch among the other cells of its type."""
    counts = np.zeros((types.max() + 1, batch.max() + 1))
    np.add.at(counts, (types, batch), 1)
    others = counts.sum(1)[types] - 1
    shares = (counts[types, batch] - 1) / np.where(others, others, 1)
    return float(shares[others > 0].mean())


def _use_of_the_batch(run: Trained) -> str:
    """Of cells that RE was not fitted to."""
    name, re = run.batch_key, run.models["re"]
    gap = re.get_swap_gap(indices=held_back_cells(re))
    if gap < COLLAPSED:
        return (
            f"Random effects: reconstructing cells with the effects of another {name} makes no "
            "difference. Either the batches do not differ, or training was too short: do not "
            "interpret the effects."
        )
    return (
        f"Random effects: reconstructing held-out cells with the effects of another {name} raises "
        f"the error by {gap - 1:.1%}, so RE uses the {name}."
    )


def _strongest(run: Trained) -> Iterator[str]:
    """Genes with the largest effects among those whose sign is certain."""
    re = run.models["re"]
    if not re.module.has_gene_effects:
        return
    effects = re.get_batch_effects()
    certain = effects[effects["lfsr"] < MAX_LFSR]
    genes = certain.index.unique("gene")
    name = run.batch_key
    said = (
        f"For {len(genes):,} of {len(re.gene_names):,} genes, the direction of the effect of at "
        f"least one {name} is clear (probability of a wrong sign below {MAX_LFSR:.0%})"
    )
    order = certain["effect"].abs().sort_values(ascending=False).index
    largest = certain.loc[order].groupby(level="gene", sort=False).head(1).head(N_STRONGEST)
    if len(largest):
        listed = "; ".join(
            f"{gene} in {batch}: {row.effect:+.2f} "
            f"({row.effect - Z_90 * row.sd:+.2f}, {row.effect + Z_90 * row.sd:+.2f})"
            for (batch, gene), row in largest.iterrows()
        )
        said += f"; the largest, in log-expression with 90% intervals, are {listed}"
    yield f"{said}."


def _limits(run: Trained) -> str:
    """What the design of the study leaves open."""
    name, n = run.batch_key, len(run.models["re"].batch_names)
    said = (
        f"What cannot be concluded: the effect of a {name} includes everything in which its cells "
        "differ from others (biology, handling, sequencing), and is not causal"
    )
    if n < ENOUGH_BATCHES:
        said += (
            f"; with only {n} batches, the effects describe these batches, and show little about "
            "how much batches vary in general"
        )
    return f"{said}."
