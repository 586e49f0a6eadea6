"""The matrix that a genomap is made of: cells as measured, without batch, and in each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from scmedal_tools._data import (
    BATCH,
    EXPRESSION,
    LABELS,
    as_named,
    check_argument,
    check_obs,
    checked_part,
    expression_of,
    layer_of,
    part_of,
    rows_of,
    same_names,
    whole,
)
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.model import SCMEDAL_FEC, check_fits

from ._models import check_has_random_effects, check_is_model

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_FE, SCMEDAL_RE, Swap


@with_shared_parts
def projection_stack(
    adata: AnnData | MuData,
    fe: SCMEDAL_FE,
    re: SCMEDAL_RE,
    cells: int | Sequence[str] = 300,
    *,
    cell_type: str | Sequence[str] | None = None,
    labels_key: str | None = None,
    batches: Sequence[str] | None = None,
    swap: Swap | None = None,
    seed: int = 0,
) -> AnnData:
    """Stack cells as measured, as FE corrects them, and RE's counterfactual to each batch.

    The matrix from which the paper computes its genomaps (scMEDAL, section 4.4), each gene
    standardised over all of it.

    Parameters
    ----------
    adata
        Cells to draw from, in a MuData if the models were registered with one. Of the data that
        `re` was trained on, only its training cells are drawn.
    fe
        Trained :class:`~scmedal_tools.model.SCMEDAL_FE` or
        :class:`~scmedal_tools.model.SCMEDAL_FEC`.
    re
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`, with the same genes.
    cells
        Number of cells to draw, the same from each batch if it has enough; or the names of the
        cells.
    cell_type
        Cell type to draw from, or several; ``None`` for all.
    labels_key
        Column with the cell types; ``None`` for that of `re`, else of `fe`.
    batches
        Batches to draw from and to project to; ``None`` for all of `re`.
    %(swap)s
    seed
        Seed of the draw.

    Returns
    -------
    AnnData
        Of ``(2 + n_batches) * n_cells`` rows: all cells as measured, then FE's, then those of
        each batch. ``X`` is standardised (genes that are constant are 0),
        ``layers["expression"]`` is log-expression; ``obs`` has ``cell``, ``projection``
        (``"original"``, ``"FE"`` or ``"FEC"``, and ``"RE"``), ``target`` (the batch, only of RE),
        ``batch`` (the cell's own) and, if known, ``cell_type``; ``var`` has ``mean`` and ``sd``.

    Raises
    ------
    TypeError
        If `re` has no random effects.
    ValueError
        If the networks differ in genes, the cells do not fit `re`, none is left to draw from,
        batches, cell types or cells are unknown, or the own batch of a cell is not among the
        batches.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> stack = smt.tl.projection_stack(adata, fe, model, 3, batches=["donor_01", "donor_02"])
    >>> stack.obs["projection"].value_counts().to_dict()
    {'RE': 6, 'original': 3, 'FE': 3}
    """
    check_is_model(fe, "tl.projection_stack(adata, fe, re)")
    check_has_random_effects(re)
    if not same_names(fe.gene_names, re.gene_names):
        raise ValueError("fe and re differ in their genes: train them on the same ones.")
    check_fits(re, adata)  # or no cell to draw would be found in batches it does not know
    obs = _own(adata, fe, re, labels_key)
    targets = {str(name): name for name in re.batch_names}
    batches = _checked_names(
        list(targets) if batches is None else list(map(str, batches)), "batches", targets
    )
    if isinstance(cells, int | np.integer):
        chosen = _draw(obs, _candidates(adata, re, obs, cell_type), batches, cells, seed)
    else:
        chosen = _named(obs, cells, batches)

    setup = re.registry["setup_args"]
    expression = part_of(adata, setup, EXPRESSION)
    genes = expression.var_names.get_indexer(re.gene_names)
    measured = rows_of(expression_of(expression, layer_of(setup)), chosen)
    swapped = re.get_counterfactual_expression(
        adata,
        indices=chosen,
        transform_batch=[targets[name] for name in batches],
        swap=swap,
        return_numpy=True,
    )
    swapped = cast("dict[str, np.ndarray]", swapped)
    parts = {
        ("original", ""): measured[:, genes],
        ("FEC" if isinstance(fe, SCMEDAL_FEC) else "FE", ""): np.asarray(
            fe.get_corrected_expression(adata, indices=chosen, return_numpy=True)
        ),
        **{("RE", name): swapped[targets[name]] for name in batches},
    }
    return _stacked(parts, obs.iloc[chosen], re.gene_names)


def _own(
    adata: AnnData | MuData, fe: SCMEDAL_FE, re: SCMEDAL_RE, labels_key: str | None
) -> pd.DataFrame:
    """Own batch of each cell and, where there is a column with it, its type."""
    setups = [model.registry["setup_args"] for model in (re, fe)]
    batch_key = setups[0]["batch_key"]
    columns = {"batch": as_named(part_of(adata, setups[0], BATCH).obs[batch_key])}
    setup = next((s for s in setups if s["labels_key"] is not None), setups[0])
    labels_key = labels_key or setup["labels_key"]
    if labels_key is not None:
        with checked_part(adata, setup, LABELS) as labelled:
            check_obs(labelled, labels_key, what="labels_key", min_levels=1)
        columns["cell_type"] = labelled.obs[labels_key].astype(str)
    return pd.DataFrame(columns, index=adata.obs_names)


def _candidates(
    adata: AnnData | MuData,
    re: SCMEDAL_RE,
    obs: pd.DataFrame,
    cell_type: str | Sequence[str] | None,
) -> np.ndarray:
    """Mask of the cells to draw from, whatever their batch."""
    candidates = np.ones(len(obs), dtype=bool)
    if adata is re.adata and re.train_indices is not None:
        candidates[:] = False
        candidates[re.train_indices] = True
    if cell_type is not None:
        if "cell_type" not in obs:
            raise ValueError("cell_type needs a column with the cell types: pass labels_key.")
        types = [cell_type] if isinstance(cell_type, str) else list(cell_type)
        types = _checked_names(types, "cell_type", obs["cell_type"].unique())
        candidates &= obs["cell_type"].isin(types).to_numpy()
    return candidates


def _draw(
    obs: pd.DataFrame, candidates: np.ndarray, batches: Sequence[str], n_cells: int, seed: int
) -> np.ndarray:
    """Positions of randomly drawn cells: the batches take turns as long as they have cells."""
    check_argument("cells", n_cells, whole())
    order = np.random.default_rng(seed).permutation(len(obs))
    candidates = candidates & obs["batch"].isin(batches).to_numpy()
    order = order[candidates[order]]
    turn = obs["batch"].iloc[order].groupby(obs["batch"].iloc[order].to_numpy()).cumcount()
    drawn = order[np.argsort(turn.to_numpy(), kind="stable")[:n_cells]]
    if not drawn.size:
        raise ValueError(
            f"cells={n_cells}: there are {candidates.sum():,} cells of the cell types and batches "
            "asked for to draw from (of the model's own data only those that it was trained on)."
        )
    return np.sort(drawn)


def _named(obs: pd.DataFrame, cells: Sequence[str], batches: Sequence[str]) -> np.ndarray:
    cells = _checked_names([cells] if isinstance(cells, str) else list(cells), "cells", obs.index)
    if len(set(cells)) < len(cells):
        raise ValueError("cells names some cells twice: name each once.")
    own = obs.loc[cells, "batch"]
    if (elsewhere := ~own.isin(batches)).any():
        raise ValueError(
            f"batches has not {sorted(own[elsewhere].unique())}, from which {elsewhere.sum()} of "
            "the cells are: counterfactuals are compared with the cell in its own batch."
        )
    return obs.index.get_indexer(cells)


def _checked_names(names: list, argument: str, known: Collection) -> list:
    """Return the names, and refuse none and unknown ones."""
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        some = ", ".join(map(str, list(known)[:20]))
        raise ValueError(f"{argument}={unknown or names}: choose from {some}.")
    return names


def _stacked(
    parts: dict[tuple[str, str], np.ndarray], own: pd.DataFrame, genes: pd.Index
) -> AnnData:
    of_part = [
        own.assign(cell=own.index, projection=projection, target=target or None)
        for projection, target in parts
    ]
    obs = pd.concat(of_part)
    obs.index = (
        obs["cell"]
        + " | "
        + obs["projection"]
        + obs["target"].map(" {}".format).where(obs["target"].notna(), "")
    )
    for column in ("projection", "target", "batch", "cell_type"):
        if column in obs:
            obs[column] = pd.Categorical(obs[column], obs[column].dropna().unique())
    expression = np.concatenate(list(parts.values())).astype(np.float32)
    mean, sd = expression.mean(axis=0, dtype=np.float64), expression.std(axis=0, dtype=np.float64)
    sd[np.ptp(expression, axis=0) == 0] = 0
    standardised = np.divide(expression - mean, sd, out=np.zeros(expression.shape), where=sd > 0)
    return AnnData(
        standardised.astype(np.float32),
        obs=obs,
        var=pd.DataFrame({"mean": mean, "sd": sd}, index=genes),
        layers={"expression": expression},
    )
