"""Means of counterfactual expression over groups of cells."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from scmedal_tools._data import (
    BATCH,
    EXPRESSION,
    as_named,
    check_interval,
    check_obs,
    checked_part,
    part_of,
    same_names,
)
from scmedal_tools._docs import with_shared_parts
from scmedal_tools._progress import tqdm
from scmedal_tools.model import (
    SUMMARIES,
    check_interval_of_draws,
    expression_blocks,
    is_one_target,
    summarise,
    warn_of_extrapolation,
)

from ._models import check_has_random_effects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE, Swap, Target, UnseenBatch


@with_shared_parts
def counterfactual_means(
    model: SCMEDAL_RE | Sequence[SCMEDAL_RE],
    adata: AnnData | MuData,
    transform_batch: Target | Sequence[Target],
    *,
    labels_key: str | None = None,
    swap: Swap | None = None,
    n_samples: int | None = None,
    interval: float = 0.9,
    progress: bool = True,
    unseen_batch: UnseenBatch = "error",
) -> AnnData:
    """Mean reconstruction and counterfactual of every batch, or batch and cell type.

    Only sums over the groups are kept in memory: the counterfactuals of a minibatch are computed
    for one target at a time.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`, or several, trained on the same cells
        from different seeds: an ensemble, whose means are averaged and whose draws are pooled, so
        that the networks' own uncertainty counts too.
    adata
        Cells to average over, in a MuData if the model was registered with one.
    transform_batch
        Target or targets, as in
        :meth:`~scmedal_tools.model.SCMEDAL_RE.get_counterfactual_expression`.
    labels_key
        Column of ``adata.obs`` that divides each batch into cell types; of a MuData, of the
        modality with the expression.
    %(swap)s
    n_samples
        Number of posterior draws of the random effects, from which the uncertainty of the shifts
        is found: within one draw counterfactual and reconstruction have the same effects. ``None``
        for no uncertainty. An ensemble shares them out. The draws of all shifts are held, 4 bytes
        each.
    interval
        Share of the draws that an interval holds.
    progress
        Show a progress bar over the draws.
    unseen_batch
        ``"error"`` or ``"population"``, see
        :meth:`~scmedal_tools.model.SCMEDAL_RE.get_latent_representation`.

    Returns
    -------
    AnnData
        A row for each group and target, a column for each gene, in log-expression.
        ``X`` is the shift (counterfactual minus reconstruction), ``layers["reconstruction"]`` and
        ``layers["counterfactual"]`` its two parts; ``obs`` has ``source``, ``cell_type``,
        ``target`` and ``n_cells``. With ``n_samples`` also ``layers["sd"]``, ``layers["lower"]``
        and ``layers["upper"]`` of the shift.

    Raises
    ------
    ValueError
        If a target is not a batch of the model, the column does not exist or has gaps,
        ``interval`` is not a share, or the models of an ensemble differ in genes or batches.

    Warns
    -----
    UserWarning
        If most of the cells are in states of which a target had next to no training cells, as
        :meth:`~scmedal_tools.model.SCMEDAL_RE.get_counterfactual_expression`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> shifts = smt.tl.counterfactual_means(model, adata, ["donor_02"])
    >>> shifts.obs
                            source  n_cells    target
    donor_01 -> donor_02  donor_01       67  donor_02
    donor_02 -> donor_02  donor_02       43  donor_02
    donor_03 -> donor_02  donor_03       67  donor_02
    donor_04 -> donor_02  donor_04       63  donor_02
    >>> shifts.to_df().loc["donor_01 -> donor_02"].nlargest(10).shape
    (10,)
    """
    models = list(model) if isinstance(model, Sequence) else [model]
    check_alike(models)
    if unseen_batch == "prior":
        raise ValueError("unseen_batch='prior' is not offered here: pass 'population'.")
    model = models[0]
    setup = model.registry["setup_args"]
    with checked_part(adata, setup, EXPRESSION) as cells:
        if labels_key is not None:
            check_obs(cells, labels_key, what="labels_key", min_levels=1)
    check_interval(interval)
    if n_samples is not None:
        check_interval_of_draws(interval, n_samples)
        if n_samples < len(models):
            raise ValueError(f"n_samples={n_samples} is less than a draw for each of the models.")
    targets = [transform_batch] if is_one_target(transform_batch) else list(transform_batch)
    if not targets:
        raise ValueError("transform_batch names no batch: pass one by its name, or several.")
    batches = part_of(adata, setup, BATCH).obs[setup["batch_key"]]
    groups, membership = _groups(batches, None if labels_key is None else cells.obs[labels_key])
    # Before SciPy 1.16, a quotient is of a format that has no columns to take.
    membership = sparse.csc_array(membership / groups["n_cells"].to_numpy()[:, None])
    options: dict[str, Any] = {
        "adata": adata,
        "targets": targets,
        "membership": membership,
        "swap": swap,
        "unseen_batch": unseen_batch,
    }
    for of_ensemble in models:
        warn_of_extrapolation(of_ensemble, targets, adata, None, unseen_batch)
    of_models = [next(group_means(m, **options)) for m in models]
    means = {name: np.mean([of[name] for of in of_models], axis=0) for name in of_models[0]}
    result = _as_anndata(means, groups, cells.var_names)
    if n_samples is not None:
        shifts = np.empty((n_samples, *result.shape), dtype=np.float32)
        draws = draws_of(models, n_samples, **options)
        bar = tqdm(draws, total=n_samples, disable=not progress, desc="Draws")
        for shift, drawn in zip(shifts, bar, strict=True):
            own = drawn.pop(None)
            for of_target, values in zip(np.split(shift, len(drawn)), drawn.values(), strict=True):
                np.subtract(values, own, out=of_target, casting="same_kind")
        _, *uncertainty = summarise(torch.from_numpy(shifts), interval).numpy()
        for name, values in zip(SUMMARIES[1:], uncertainty, strict=True):
            result.layers[name] = values
    return result


def check_alike(models: Sequence[SCMEDAL_RE]) -> None:
    """Refuse an ensemble of models that say something about different genes or batches."""
    if not models:
        raise ValueError("There is no model: pass a trained SCMEDAL_RE, or several.")
    for model in models:
        check_has_random_effects(model)
    for other in models[1:]:
        same_genes = same_names(other.gene_names, models[0].gene_names)
        levels = [[list(names) for names in m.factors.values()] for m in (other, models[0])]
        if not same_genes or levels[0] != levels[1]:
            raise ValueError(
                "The models differ in genes or batches: those of an ensemble are trained on the "
                "same cells, from different seeds."
            )


def draws_of(
    models: Sequence[SCMEDAL_RE], n_samples: int, **options: Any
) -> Iterator[dict[str | None, np.ndarray]]:
    """Means in each posterior draw, of as many of one model as of another, give or take one."""
    shares = np.array_split(np.arange(n_samples), len(models))
    for model, share in zip(models, shares, strict=True):
        yield from group_means(model, n_samples=len(share), **options)


def group_means(
    model: SCMEDAL_RE,
    adata: AnnData | MuData,
    targets: Sequence[Target],
    membership: sparse.csc_array,
    swap: Swap | None,
    unseen_batch: UnseenBatch = "error",
    n_samples: int | None = None,
) -> Iterator[dict[str | None, np.ndarray]]:
    """Means over groups of the reconstruction (``None``) and of each target, in every draw."""
    asked = [None, *targets]
    blocks = expression_blocks(model, adata, None, asked, n_samples, swap, unseen_batch)
    shape = (membership.shape[0], len(model.gene_names))
    for _, of_draw in groupby(blocks, key=attrgetter("draw")):
        means: dict[str | None, np.ndarray] = {}
        for block in of_draw:
            of_groups = membership[:, block.cells].tocsr()
            present = np.flatnonzero(np.diff(of_groups.indptr))
            total = means.setdefault(block.target, np.zeros(shape))
            total[present] += of_groups[present] @ block.values.float().cpu().numpy()
        yield means


def _groups(
    batches: pd.Series, cell_types: pd.Series | None
) -> tuple[pd.DataFrame, sparse.csc_array]:
    """Find the groups of cells, and their indicator of shape ``(n_groups, n_cells)``."""
    columns = {"source": as_named(batches)}
    if cell_types is not None:
        columns["cell_type"] = cell_types.astype(str)
    grouped = pd.DataFrame(columns).groupby(list(columns))
    codes = grouped.ngroup().to_numpy()
    groups = grouped.size().rename("n_cells").reset_index()
    indicator = (np.ones(codes.size), (codes, np.arange(codes.size)))
    return groups, sparse.csc_array(indicator, shape=(len(groups), codes.size))


def _as_anndata(
    means: dict[str | None, np.ndarray], groups: pd.DataFrame, genes: pd.Index
) -> AnnData:
    targets = [name for name in means if name is not None]
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
