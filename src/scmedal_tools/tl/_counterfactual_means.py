"""Means of counterfactual expression over groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from tqdm.auto import tqdm

from scmedal_tools._checks import check_obs
from scmedal_tools.model._counterfactual import SUMMARIES, check_interval, summarise
from scmedal_tools.model._modalities import BATCH, EXPRESSION, checked_part, part_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE
    from scmedal_tools.model._counterfactual import Swap

CELLS_PER_CHUNK = 4096


def counterfactual_means(
    model: SCMEDAL_RE,
    adata: AnnData | MuData,
    transform_batch: str | Sequence[str],
    *,
    labels_key: str | None = None,
    swap: Swap | None = None,
    n_samples: int | None = None,
    interval: float = 0.9,
    progress: bool = True,
) -> AnnData:
    """Mean reconstruction and counterfactual of every batch, or batch and cell type.

    The cells are read in chunks, so that no counterfactual of all cells is ever held.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`.
    adata
        Cells to average over, in a MuData if the model was registered with one.
    transform_batch
        Target batch or batches.
    labels_key
        Column of ``adata.obs`` that divides each batch into cell types; of a MuData, of the
        modality with the expression.
    swap
        See :meth:`~scmedal_tools.model.SCMEDAL_RE.get_counterfactual_expression`.
    n_samples
        Number of posterior draws of the random effects, from which the uncertainty of the shifts
        is found: within one draw counterfactual and reconstruction have the same effects. ``None``
        for no uncertainty. The draws of all shifts are held, 4 bytes each.
    interval
        Share of the draws that an interval holds.
    progress
        Show a progress bar over the draws.

    Returns
    -------
    AnnData
        A row for each group and target, a column for each gene, in the units of the input.
        ``X`` is the shift (counterfactual minus reconstruction), ``layers["reconstruction"]`` and
        ``layers["counterfactual"]`` its two parts; ``obs`` has ``source``, ``cell_type``,
        ``target`` and ``n_cells``. With ``n_samples`` also ``layers["sd"]``, ``layers["lower"]``
        and ``layers["upper"]`` of the shift.

    Raises
    ------
    ValueError
        If a target is not a batch of the model, the column does not exist or has gaps, or
        ``interval`` is not a share.

    Examples
    --------
    >>> shifts = counterfactual_means(model, adata, ["donor_02"])  # doctest: +SKIP
    >>> shifts.to_df().T["donor_01 -> donor_02"].nlargest(10)  # doctest: +SKIP
    """
    setup = model.registry["setup_args"]
    with checked_part(adata, setup, EXPRESSION) as cells:
        if labels_key is not None:
            check_obs(cells, labels_key, what="labels_key", min_levels=1)
    if n_samples is not None:
        check_interval(interval, n_samples)
    names = [transform_batch] if np.isscalar(transform_batch) else transform_batch
    targets = list(dict.fromkeys(names))
    batches = part_of(adata, setup, BATCH).obs[setup["batch_key"]]
    groups, membership = _groups(batches, None if labels_key is None else cells.obs[labels_key])
    membership = membership / groups["n_cells"].to_numpy()[:, None]
    means = _means(model, adata, targets, membership, swap)
    result = _as_anndata(means, groups, targets, cells.var_names)
    if n_samples is not None:
        shifts = np.empty((n_samples, *result.shape), dtype=np.float32)
        draws = model._draw_effects(n_samples)
        bar = tqdm(draws, total=n_samples, disable=not progress, desc="Draws")
        for shift, draw in zip(shifts, bar, strict=True):
            with model.module.effects_fixed_at(draw):
                drawn = _means(model, adata, targets, membership, swap)
            shift[:] = np.concatenate([drawn[target] - drawn[None] for target in targets])
        _, *uncertainty = summarise(torch.from_numpy(shifts), interval).numpy()
        for name, values in zip(SUMMARIES[1:], uncertainty, strict=True):
            result.layers[name] = values
    return result


def _means(
    model: SCMEDAL_RE, adata: AnnData | MuData, targets: list, membership, swap: Swap | None
) -> dict[str | None, np.ndarray]:
    """Means over groups of each target's counterfactuals, and of the reconstruction (``None``)."""
    n_genes = part_of(adata, model.registry["setup_args"], EXPRESSION).n_vars
    means = {name: np.zeros((membership.shape[0], n_genes)) for name in (None, *targets)}
    for start in range(0, adata.n_obs, CELLS_PER_CHUNK):
        cells = np.arange(start, min(start + CELLS_PER_CHUNK, adata.n_obs))
        options = {"adata": adata, "indices": cells, "return_numpy": True}
        expression = model.get_counterfactual_expression(
            transform_batch=targets, swap=swap, **options
        )
        expression[None] = model.get_reconstruction(**options)
        for name, values in expression.items():
            means[name] += membership[:, cells] @ values
    return means


def _groups(
    batches: pd.Series, cell_types: pd.Series | None
) -> tuple[pd.DataFrame, sparse.csc_array]:
    """Find the groups of cells, and their indicator of shape ``(n_groups, n_cells)``."""
    columns = {"source": batches.astype(str)}
    if cell_types is not None:
        columns["cell_type"] = cell_types.astype(str)
    grouped = pd.DataFrame(columns).groupby(list(columns))
    codes = grouped.ngroup().to_numpy()
    groups = grouped.size().rename("n_cells").reset_index()
    indicator = (np.ones(codes.size), (codes, np.arange(codes.size)))
    return groups, sparse.csc_array(indicator, shape=(len(groups), codes.size))


def _as_anndata(
    means: dict[str | None, np.ndarray],
    groups: pd.DataFrame,
    targets: list[str],
    genes: pd.Index,
) -> AnnData:
    obs = pd.concat([groups.assign(target=str(target)) for target in targets], ignore_index=True)
    of = "" if "cell_type" not in obs else " (" + obs["cell_type"] + ")"
    obs.index = obs["source"] + " -> " + obs["target"] + of
    reconstruction = np.tile(means[None], (len(targets), 1)).astype(np.float32)
    counterfactual = np.concatenate([means[target] for target in targets]).astype(np.float32)
    return AnnData(
        counterfactual - reconstruction,
        obs=obs,
        var=pd.DataFrame(index=genes),
        layers={"reconstruction": reconstruction, "counterfactual": counterfactual},
    )
