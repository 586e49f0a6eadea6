"""Counterfactuals against measured differences between batches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scmedal_tools._data import as_named, check_in_memory, check_obs, dense
from scmedal_tools._docs import with_shared_parts
from scmedal_tools._progress import tqdm
from scmedal_tools.model import (
    SCMEDAL_RE,
    check_fits,
    expression_blocks,
    in_parts,
    was_trained_on,
)

from ._baselines import baselines as fit_baselines
from ._effect_recovery import agreement, name_of
from ._registered_expression import registered_expression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from scipy import sparse

    from ._baselines import Counterfactual

N_HALVES = 10


@with_shared_parts
def counterfactual_shift(
    model: SCMEDAL_RE | Counterfactual | Mapping[str, SCMEDAL_RE | Counterfactual],
    adata: AnnData,
    batch_key: str,
    labels_key: str,
    *,
    train: Sequence[int] | np.ndarray | None = None,
    test: Sequence[int] | np.ndarray | None = None,
    min_cells: int = 10,
    held_out_only: bool = False,
    baselines: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare predicted shifts between batches with shifts measured on cells not used for them.

    For batches A, B and a cell type, the predicted shift is the mean over A's training cells of
    the counterfactual to B minus that to A (a model's reconstruction). The measured shift is
    mean(B) - mean(A) over test cells of the type. A combination of batch and type without a
    training cell is *held out*: its shift is predicted from other types of the batch. A batch
    without any training cell cannot be predicted and is left out.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`; or a function ``(cells, target)`` that
        returns the expression, of shape ``(n_cells, n_genes)``, of the cells at some positions as
        it would be in a batch; or a dictionary of several of them by name.
    adata
        Preprocessed cells, in memory; the expression is in ``adata.X``, or the layer with which
        the models were registered.
    %(columns)s
    train, test
        Positions of the cells to predict from and of those to measure on; by default the model's.
    min_cells
        Fewest training cells and test cells of each combination, at least 2.
    held_out_only
        Leave out the combinations that have training cells, which are many.
    baselines
        Add the baselines: *additive*, mean(B) - mean(A) over all cells; *mean of other contexts*,
        the mean shift from A to B of the other types with training cells in both, nothing if
        there are none; *least squares* on batch + type; and a *mixed model* of each gene,
        ``type + (1 | batch) + (0 + type | batch)``. The last two also on clusters of a Harmony
        space instead of types (with the ``benchmark`` extra).
    %(progress)s

    Returns
    -------
    pandas.DataFrame
        A row for each method and (type, A, B): ``regime`` ("seen" or "held out"),
        ``correlation`` and calibration ``slope`` (measured on predicted) over genes; ``error``,
        the squared error over the squared norm of the shift, sampling noise (:math:`s^2 / n` of
        both means) removed from both; ``noise``, the share of that noise in the measured
        squared norm; ``ceiling``, the correlation that the true shift would reach, from split
        halves of the test cells.

    Raises
    ------
    ValueError
        If `adata` is backed by a file or does not fit a model, training or test cells are not
        known, the models were registered with different layers, `min_cells` is below 2, or no
        combination has enough cells.

    See Also
    --------
    shift_summary : Medians over the combinations.
    swap_quality : How single cells look after the swap.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> shifts = smt.bm.counterfactual_shift(
    ...     model, adata, "donor", "cell_type", min_cells=5, progress=False
    ... )
    >>> shifts["method"].unique().tolist()[:3]
    ['RE', 'additive', 'mean of other contexts']
    """
    if min_cells < 2:
        raise ValueError(f"min_cells={min_cells}: the noise of a mean needs two cells or more.")
    check_in_memory(adata)
    check_obs(adata, batch_key)
    check_obs(adata, labels_key, what="labels_key", min_levels=1)
    models = dict(model) if isinstance(model, Mapping) else {name_of(model): model}
    expression = registered_expression(models.values(), adata)
    methods = {name: as_counterfactual(method, adata) for name, method in models.items()}
    from_cells, on_cells = known_cells(models, adata, train, test)
    batches, labels = (as_named(adata.obs[key]).to_numpy() for key in (batch_key, labels_key))
    if baselines:
        methods |= fit_baselines(expression, batches, labels, from_cells)
    sources = combinations_of(batches, labels, from_cells)
    measured = _Measured(expression, combinations_of(batches, labels, on_cells), min_cells)
    trained = set(batches[from_cells])
    tasks = [
        (label, source, target)
        for source, label in sorted(measured.means)
        for target, other in sorted(measured.means)
        if other == label and target != source and target in trained
        if len(sources.get((source, label), ())) >= min_cells
        if (target, label) not in sources
        or (not held_out_only and len(sources[target, label]) >= min_cells)
    ]
    if not tasks:
        held_out = " held out" if held_out_only else ""
        raise ValueError(
            f"No combination{held_out} has {min_cells} test cells of a type of which another "
            f"batch has {min_cells} training and test cells. Lower `min_cells`, or give more "
            "cells to the test set."
        )

    @cache
    def mean_of(method: str, source: str, label: str, target: str) -> np.ndarray:
        return methods[method](sources[source, label], target).mean(0)

    rows = []
    for label, source, target in tqdm(tasks, disable=not progress, desc="Shifts"):
        regime = "seen" if (target, label) in sources else "held out"
        facts = {"regime": regime, "cell_type": label, "source": source, "target": target}
        truth = measured.shift(label, source, target)
        for name in methods:
            shift = mean_of(name, source, label, target) - mean_of(name, source, label, source)
            rows.append({"method": name, **facts, **_score(shift, *truth)})
    return pd.DataFrame(rows)


def shift_summary(shifts: pd.DataFrame) -> pd.DataFrame:
    """Medians over combinations of target batch and cell type, of medians over sources.

    Parameters
    ----------
    shifts
        Result of :func:`counterfactual_shift`.

    Returns
    -------
    pandas.DataFrame
        A row for each regime and method, in the order of ``shifts``, with the number of
        combinations.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> shifts = smt.bm.counterfactual_shift(
    ...     model, adata, "donor", "cell_type", min_cells=5, baselines=False, progress=False
    ... )
    >>> smt.bm.shift_summary(shifts)["n_combinations"]
    regime  method
    seen    RE        4
    Name: n_combinations, dtype: int64
    """
    combined = per_combination(shifts).groupby(["regime", "method"], sort=False)
    return combined.median(numeric_only=True).assign(n_combinations=combined.size())


def per_combination(shifts: pd.DataFrame) -> pd.DataFrame:
    """Median over sources for each method and combination of target batch and cell type."""
    keys = ["regime", "method", "cell_type", "target"]
    return shifts.groupby(keys, sort=False).median(numeric_only=True).reset_index()


def as_counterfactual(model: SCMEDAL_RE | Counterfactual, adata: AnnData) -> Counterfactual:
    """Make a model a function of cells and target; functions stay what they are."""
    if not isinstance(model, SCMEDAL_RE):
        if not callable(model):
            raise TypeError(
                f"{type(model).__name__} is neither a SCMEDAL_RE nor a function of cells and "
                "target: check the order of the arguments."
            )
        return model
    names = {str(name): name for name in model.batch_names}
    check_fits(model, adata)

    def counterfactual(cells: np.ndarray, target: str) -> np.ndarray:
        with in_parts(model, adata):
            # Types that a donor lacks are asked for on purpose.
            blocks = expression_blocks(model, adata, cells, [names[target]])
            return np.concatenate([block.values.cpu().numpy() for block in blocks])

    return counterfactual


def known_cells(
    models: Mapping[str, SCMEDAL_RE | Counterfactual],
    adata: AnnData,
    train: Sequence[int] | np.ndarray | None,
    test: Sequence[int] | np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and test cells, given or known to one of the models."""
    parts = {}
    # Positions among other cells, as of a selection, would be those of any cells.
    holders = [model for model in models.values() if _holds(model, adata)]
    for part, cells in (("train", train), ("test", test)):
        if cells is None:
            found = (getattr(model, f"{part}_indices", None) for model in holders)
            known = [np.sort(of_model) for of_model in found if of_model is not None]
            if any(not np.array_equal(of_model, known[0]) for of_model in known[1:]):
                raise ValueError(
                    f"The models have different {part} cells: train them on one split, or pass "
                    f"`{part}`."
                )
            cells = next(iter(known), None)
        if cells is None or not len(cells):
            raise ValueError(
                f"Which cells are the {part} cells? Pass their positions as `{part}`, or a model "
                "that holds these cells and was trained with "
                "`datasplitter_kwargs={'external_indexing': [...]}`."
            )
        parts[part] = np.asarray(cells)
    if np.intersect1d(parts["train"], parts["test"]).size:
        raise ValueError(
            "Some cells are both training and test cells: the comparison needs separate sets."
        )
    return parts["train"], parts["test"]


def _holds(model: SCMEDAL_RE | Counterfactual, adata: AnnData) -> bool:
    # A function has positions as it is.
    return not isinstance(model, SCMEDAL_RE) or was_trained_on(model, adata)


class _Measured:
    """Mean expression and its sampling variance in every combination with enough test cells."""

    def __init__(
        self,
        expression: np.ndarray | sparse.csr_matrix,
        combinations: dict[tuple[str, str], np.ndarray],
        min_cells: int,
    ):
        self.means, self.variances, self.halves = {}, {}, {}
        rng = np.random.default_rng(0)
        for key, cells in combinations.items():
            if len(cells) < min_cells:
                continue
            x = dense(expression[cells])
            self.means[key] = x.mean(0)
            self.variances[key] = x.var(0, ddof=1) / len(x)
            orders = [rng.permutation(len(x)) for _ in range(N_HALVES)]
            self.halves[key] = np.stack(
                [[x[half].mean(0) for half in np.array_split(order, 2)] for order in orders]
            )

    def shift(self, label: str, source: str, target: str) -> tuple[np.ndarray, float, float]:
        """Shift per gene, its summed sampling variance, and the split-half ceiling."""
        a, b = (source, label), (target, label)
        halves = self.halves[b] - self.halves[a]
        reliability = np.mean([np.corrcoef(*pair)[0, 1] for pair in halves])
        # Spearman-Brown, from half the cells to all of them; noise alone gives no ceiling.
        ceiling = np.sqrt(max(2 * reliability / (1 + reliability), 0.0))
        noise = (self.variances[a] + self.variances[b]).sum()
        return self.means[b] - self.means[a], float(noise), float(ceiling)


def _score(shift: np.ndarray, truth: np.ndarray, noise: float, ceiling: float) -> dict[str, float]:
    size = np.square(truth).sum()
    values = agreement(shift, truth)
    missed = values.pop("relative_error") * size - noise
    return values | {
        "error": missed / (size - noise) if size > noise else np.nan,
        "noise": noise / size if size else np.nan,
        "ceiling": ceiling,
    }


def combinations_of(
    batches: np.ndarray, labels: np.ndarray, cells: np.ndarray
) -> dict[tuple[str, str], np.ndarray]:
    """Positions of the cells of every batch and type."""
    frame = pd.DataFrame({"batch": batches[cells], "label": labels[cells]})
    return {key: cells[rows] for key, rows in frame.groupby(["batch", "label"]).indices.items()}
