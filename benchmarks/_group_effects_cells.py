"""Data sets of ``group_effects.py``: designs, the cells of each, and effects planted in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
from _record import data_folder
from pseudo_donors import thin

ONEK1K = "onek1k_pbmc_40donors_1000genes.h5ad"
KANG = "kang2018_pbmc_ctrl_stim_2000cells.h5ad"
AML, PIG = "aml_vangalen2019_d0_hvg3000.h5ad", "cf_pig_airway_aggregatebiovar.h5ad"
# Cells that are dealt to donors that are made up: file, and values of columns.
DEALT = {
    "aml": (AML, {"cell_type": ["Mono", "ProMono"]}),
    "aml types": (AML, {"cell_type": ["Mono", "ProMono", "T", "NK", "CTL"]}),
    "pig": (PIG, {"cell_type": ["Secretory cell"], "genotype": ["WT"]}),
    "pig types": (PIG, {"genotype": ["WT"]}),
    "kang": (KANG, {"cell_type": ["CD4 T cells"], "condition": ["ctrl"]}),
}
T_CELLS, MONOCYTES = "CD4 naive/central memory T", "classical monocyte"
MORE_IN_SECOND = "mono|secretory"  # types of which the second group has more, in other proportions
DONOR_SD = 0.3  # of the log-fold changes of donors that are made up


@dataclass(frozen=True)
class Design:
    name: str
    n_donors: tuple[int, int] = (6, 6)
    n_cells: tuple[int, int] = (40, 40)
    depth: float = 1.0
    pairs: bool = False
    dealt: str = ""  # from which cells donors are made up
    of_types: bool = False
    effect: float = 0.0  # mean size of the log-fold changes
    share: float = 1.0  # of the cells that have them
    in_type: str = ""  # the only type that has them, in whose table they are judged

    @property
    def judged_in(self) -> str:
        """State of the table of effects."""
        return self.in_type or ("overall" if self.of_types else "all cells")

    @property
    def without_effects(self) -> Design:
        """The same, of any name, without what is planted."""
        return replace(self, name="", effect=0.0, share=1.0)

    @property
    def is_symmetric(self) -> bool:
        """Whether the groups differ in nothing, so that a bias of either would not be seen."""
        pairs = (self.n_donors, self.n_cells)
        return all(a == b for a, b in pairs) and self.depth == 1 and not self.of_types


NULL = [
    Design("6 and 6 donors"),
    Design("3 and 3", (3, 3)),
    Design("3 and 9", (3, 9)),
    Design("6 and 6, 10 cells each", n_cells=(10, 10)),
    Design("3 with 60 cells each, 9 with 15", (3, 9), (60, 15)),
    Design("6 and 6, depth .75 in one group", depth=0.75),
    Design("6 and 6, depth .5", depth=0.5),
    Design("3 of depth .5 and 9", (3, 9), depth=0.5),
    Design("6 pairs", n_cells=(30, 30), pairs=True),
    Design("6 pairs, depth .5 in one of each", n_cells=(30, 30), pairs=True, depth=0.5),
    Design("AML monocytes, 6 and 6", dealt="aml"),
    Design("AML monocytes, 6 and 6, depth .5", dealt="aml", depth=0.5),
    Design("all types, in other proportions in one group", of_types=True),
    Design("pig secretory cells, 6 and 6", n_cells=(30, 30), dealt="pig"),
    Design("pig secretory cells, 6 and 6, depth .5", n_cells=(30, 30), dealt="pig", depth=0.5),
    Design("Kang's CD4 T cells, 6 and 6", n_cells=(30, 30), dealt="kang"),
    Design("2 and 2", (2, 2)),
    Design("2 and 8", (2, 8)),
    Design("1 and 9", (1, 9)),
    Design("1 and 3", (1, 3)),
    Design("AML monocytes, 6 and 6, depth .75", depth=0.75, dealt="aml"),
    Design("AML monocytes, 3 and 3", (3, 3), dealt="aml"),
    Design("AML monocytes, 3 and 9", (3, 9), dealt="aml"),
    Design("AML monocytes, 3 with 60 cells each, 9 with 15", (3, 9), (60, 15), dealt="aml"),
    Design("AML monocytes, 6 pairs", n_cells=(30, 30), pairs=True, dealt="aml"),
    Design(
        "AML, five types, in other proportions",
        n_cells=(100, 100),
        dealt="aml types",
        of_types=True,
    ),
    Design("pig secretory cells, 6 and 6, depth .75", n_cells=(30, 30), depth=0.75, dealt="pig"),
    Design("pig secretory cells, 3 and 3", (3, 3), (30, 30), dealt="pig"),
    Design("pig secretory cells, 3 and 9", (3, 9), (30, 30), dealt="pig"),
    Design("pig secretory cells, 3 with 60 cells each, 9 with 15", (3, 9), (60, 15), dealt="pig"),
    Design("pig secretory cells, 6 pairs", n_cells=(30, 30), pairs=True, dealt="pig"),
    Design(
        "pig, three types, in other proportions",
        n_cells=(100, 100),
        dealt="pig types",
        of_types=True,
    ),
]
PLANTED = [
    Design("6 and 6 donors", effect=0.5),
    Design("3 and 3", (3, 3), effect=0.7),
    Design("10 and 10", (10, 10), effect=0.5),
    Design("6 and 6, 10 cells each", n_cells=(10, 10), effect=0.7),
    Design("6 and 6, in half of the cells", effect=1.0, share=0.5),
    Design("6 and 6, depth .5 in one group", effect=0.5, depth=0.5),
    Design("3 with 60 cells each, 9 with 15", (3, 9), (60, 15), effect=0.7),
    Design("6 pairs", n_cells=(30, 30), pairs=True, effect=0.5),
    Design("AML monocytes, 6 and 6", dealt="aml", effect=0.7),
    Design("all types, in other proportions in one group", of_types=True, effect=0.5),
    Design("pig secretory cells, 6 and 6", n_cells=(30, 30), dealt="pig", effect=0.7),
    Design("Kang's CD4 T cells, 6 and 6", n_cells=(30, 30), dealt="kang", effect=0.7),
    Design("2 and 2", (2, 2), effect=0.7),
    Design("in monocytes alone, of four types", n_cells=(15, 15), in_type=MONOCYTES, effect=0.7),
    Design("2 and 8", (2, 8), effect=0.7),
]


def cells_of(design: Design, rng: np.random.Generator) -> ad.AnnData:
    """Raw counts of the cells, each with a donor and a condition."""
    if design.dealt:
        return dealt_cells(design, rng)
    pool = onek1k()
    if not (design.of_types or design.in_type):
        pool = pool[pool.obs["cell_type"] == T_CELLS]
    needed = sum(design.n_cells) if design.pairs else max(design.n_cells)
    n_donors = design.n_donors[0] if design.pairs else sum(design.n_donors)
    counted = pool.obs["cell_type"] == design.in_type if design.in_type else slice(None)
    sizes = pool.obs["donor"][counted].value_counts()
    donors = rng.permutation(np.sort(sizes.index[sizes >= needed].astype(str)))[:n_donors]
    taken, condition = [], []
    for i, donor in enumerate(donors):
        cells = rng.permutation(np.flatnonzero(pool.obs["donor"] == donor))
        group = int(i >= design.n_donors[0])
        if design.pairs:
            first, second = design.n_cells
            taken += [cells[:first], cells[first : first + second]]
            condition += ["a"] * first + ["b"] * second
            continue
        if design.of_types:
            kept = in_other_shares(pool.obs["cell_type"].iloc[cells], bool(group), rng)
            cells = cells[kept]
        elif not design.in_type:
            cells = cells[: design.n_cells[group]]
        taken.append(cells)
        condition += ["ab"[group]] * len(cells)
    adata = pool[np.concatenate(taken)].copy()
    adata.obs["condition"] = pd.Categorical(condition)
    return adata


@cache
def onek1k() -> ad.AnnData:
    """Cells of 40 donors."""
    return ad.read_h5ad(data_folder() / ONEK1K)


@cache
def pool_of(name: str) -> ad.AnnData:
    """Cells that are dealt."""
    file, chosen = DEALT[name]
    adata = ad.read_h5ad(data_folder() / file)
    return adata[np.all([adata.obs[key].isin(of) for key, of in chosen.items()], axis=0)].copy()


def dealt_cells(design: Design, rng: np.random.Generator) -> ad.AnnData:
    """Cells of a type dealt to donors with log-fold changes of their own."""
    pool, (n_first, n_second) = pool_of(design.dealt), design.n_donors
    n_donors = n_first if design.pairs else n_first + n_second
    sizes = np.repeat(design.n_cells, design.n_donors)
    if design.pairs:
        sizes = np.full(n_donors, sum(design.n_cells))
    # A cell for each donor in turn, as long as it has not all of its cells.
    turns = [np.flatnonzero(sizes > turn) for turn in range(sizes.max())]
    donor = np.concatenate(turns)
    turn = np.repeat(np.arange(len(turns)), [len(donors) for donors in turns])
    n_cells = len(donor)
    if n_cells > pool.n_obs:
        raise ValueError(f"{design.name}: {n_cells} cells of {pool.n_obs}.")
    adata = pool[rng.permutation(pool.n_obs)[:n_cells]].copy()
    change = rng.normal(0, DONOR_SD, (n_donors, adata.n_vars))
    adata.X = thin(adata.X, np.exp(change - change.max(0))[donor], rng)
    adata.obs["donor"] = pd.Categorical([f"D{k:02d}" for k in donor])
    is_second = turn >= design.n_cells[0] if design.pairs else donor >= n_first
    adata.obs["condition"] = pd.Categorical(np.where(is_second, "b", "a"))
    if design.of_types:
        adata = adata[in_other_shares(adata.obs["cell_type"], is_second, rng)].copy()
    return adata


def in_other_shares(
    cell_type: pd.Series, is_second: np.ndarray | bool, rng: np.random.Generator
) -> np.ndarray:
    """Which cells are kept: a quarter of some types in one group, of the others in the other."""
    more_in_second = cell_type.str.contains(MORE_IN_SECOND, case=False).to_numpy()
    return rng.random(len(cell_type)) < np.where(more_in_second == is_second, 1.0, 0.25)


def planted(adata: ad.AnnData, design: Design, rng: np.random.Generator) -> np.ndarray:
    """Plant effects and depth; the log-fold change of each gene."""
    second = (adata.obs["condition"] == "b").to_numpy()
    effects = np.zeros(adata.n_vars)
    if design.effect:
        size = rng.gamma(4, design.effect / 4, adata.n_vars) * rng.choice([-1, 1], adata.n_vars)
        effects = size * (rng.permutation(adata.n_vars) < adata.n_vars // 2)
        has = rng.random(adata.n_obs) < design.share
        if design.in_type:
            has &= (adata.obs["cell_type"] == design.in_type).to_numpy()
        lower = np.where(second[:, None], np.minimum(effects, 0), -np.maximum(effects, 0))
        adata.X = thin(adata.X, np.exp(np.where(has[:, None], lower, 0)), rng)
    if design.depth < 1:
        adata.X = thin(adata.X, np.where(second, design.depth, 1.0), rng)
    return effects
