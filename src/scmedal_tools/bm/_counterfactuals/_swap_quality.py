"""How single cells look after a counterfactual, compared with cells of the target batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import cdist
from scvi import REGISTRY_KEYS
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scmedal_tools import tl
from scmedal_tools._compat import minibatches_of
from scmedal_tools._data import as_named, check_in_memory, check_obs, dense
from scmedal_tools._docs import with_shared_parts
from scmedal_tools._progress import tqdm

from ._baselines import AddedEffects, least_squares
from ._counterfactual_shift import combinations_of, known_cells
from ._registered_expression import registered_expression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scmedal_tools.model import SCMEDAL_RE

    Combinations = dict[tuple[str, str], np.ndarray]
    Minibatch = dict[str, torch.Tensor]

N_COMPONENTS = 50
NO_VARIANCE = 1e-9  # of that of the first component
MAX_CELLS = 200
QUALITY_COLUMNS = (
    *("cell_type", "source", "target"),
    *("energy_swapped", "energy_unswapped", "energy_least_squares"),
    "round_trip",
    *("type_swapped", "type_unswapped", "type_target"),
)


@with_shared_parts
def swap_quality(
    model: SCMEDAL_RE,
    adata: AnnData,
    batch_key: str,
    labels_key: str,
    *,
    train: Sequence[int] | np.ndarray | None = None,
    test: Sequence[int] | np.ndarray | None = None,
    targets: Sequence[tuple[str, str]] | None = None,
    min_cells: int = 10,
    progress: bool = True,
) -> pd.DataFrame:
    """Evaluate counterfactuals of single cells, not only their means.

    Training cells of batch A are swapped to batch B with their residuals kept
    (``keep_residual=True``) and compared with test cells of the same type in B.

    Parameters
    ----------
    model
        Trained model.
    adata
        Preprocessed cells, in memory; the expression is in ``adata.X``, or the layer with which
        the model was registered.
    %(columns)s
    train, test
        Positions of the training and the test cells; by default the model's.
    targets
        Combinations (batch, cell type) to swap to; by default those held out: without a training
        cell.
    min_cells
        Fewest training cells of A and test cells of B. At most 200 of each are used.
    %(progress)s

    Returns
    -------
    pandas.DataFrame
        A row for each (type, A, B):

        - ``energy_swapped``, ``energy_unswapped``, ``energy_least_squares``: energy distance
          between B's cells and A's cells as swapped by the model, as they are, and as shifted by
          least squares given the cell types; in the space of 50 principal components of the
          training cells.
        - ``round_trip``: mean squared change of a cell swapped to B and back, over the mean
          squared error of its reconstruction.
        - ``type_swapped``, ``type_unswapped``, ``type_target``: share of the cells in which a
          logistic regression, trained on measured training cells, sees their type.

    Raises
    ------
    ValueError
        If `adata` is backed by a file or does not fit the model, training or test cells are not
        known, or no target has enough cells.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> targets = [("donor_02", "type_1")]
    >>> swaps = smt.bm.swap_quality(
    ...     model, adata, "donor", "cell_type", targets=targets, min_cells=3, progress=False
    ... )
    >>> swaps[["cell_type", "source", "target"]]
      cell_type    source    target
    0    type_1  donor_01  donor_02
    1    type_1  donor_03  donor_02
    """
    if min_cells < 2:
        raise ValueError(f"min_cells={min_cells}: distances within a group need two cells.")
    check_in_memory(adata)
    tl.check_has_random_effects(model)
    check_obs(adata, batch_key)
    check_obs(adata, labels_key, what="labels_key")
    from_cells, on_cells = known_cells({"model": model}, adata, train, test)
    batches, labels = (as_named(adata.obs[key]).to_numpy() for key in (batch_key, labels_key))
    expression = dense(registered_expression([model], adata))
    fitted = least_squares(expression[from_cells], batches[from_cells], labels[from_cells])
    shifted = AddedEffects(expression, batches, labels, *fitted)
    space = _Space(expression[from_cells], labels[from_cells])
    sources, measured = (
        combinations_of(batches, labels, cells) for cells in (from_cells, on_cells)
    )
    if targets is None:
        targets = [key for key in measured if key not in sources]
    tasks = _tasks(sources, measured, targets, min_cells)
    rng = np.random.default_rng(0)
    rows = []
    for label, source, target in tqdm(tasks, disable=not progress, desc="Swaps"):
        own, others = (
            rng.permutation(cells)[:MAX_CELLS]
            for cells in (sources[source, label], measured[target, label])
        )
        # First of all, as it refuses cells that do not fit the model.
        reconstructed = model.get_reconstruction(adata, own, return_numpy=True)
        minibatch = _one_minibatch(model, adata, own)
        swapped = _swap(model, minibatch, expression[own], source, target)
        back = _swap(model, minibatch, swapped, target, source)
        missed, change = (np.square(x - expression[own]).mean() for x in (reconstructed, back))
        sets = {
            "swapped": swapped,
            "unswapped": expression[own],
            "least_squares": shifted(own, target),
            "target": expression[others],
        }
        facts = {"cell_type": label, "source": source, "target": target}
        rows.append(facts | space.compare(sets, label) | {"round_trip": float(change / missed)})
    return pd.DataFrame(rows, columns=QUALITY_COLUMNS)


def _tasks(
    sources: Combinations,
    measured: Combinations,
    targets: Sequence[tuple[str, str]],
    min_cells: int,
) -> list[tuple[str, str, str]]:
    """Cell type, source and target of every swap with enough cells."""
    tasks = [
        (label, source, batch)
        for batch, label in targets
        for source, other in sources
        if other == label and source != batch
        if min(len(sources[source, label]), len(measured.get((batch, label), ()))) >= min_cells
    ]
    if not tasks:
        raise ValueError("No combination to swap to has enough cells; name some as `targets`.")
    return tasks


class _Space:
    """Principal components of training cells, and a classifier of the types of cells in them."""

    def __init__(self, expression: np.ndarray, labels: np.ndarray):
        n_cells, n_genes = expression.shape
        self.components = PCA(min(N_COMPONENTS, n_cells - 1, n_genes), random_state=0)
        self.components.fit(expression)
        # Those beyond are rounding errors, which the scaler would make as large as the others.
        variances = self.components.explained_variance_
        self.n_varying = int((variances > NO_VARIANCE * variances[0]).sum())
        self.classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        self.classifier.fit(self._place(expression), labels)

    def _place(self, expression: np.ndarray) -> np.ndarray:
        return self.components.transform(expression)[:, : self.n_varying]

    def compare(self, sets: dict[str, np.ndarray], label: str) -> dict[str, float]:
        """Distances of sets of cells from the ``target``, and how many are seen as of the type."""
        places = {name: self._place(x) for name, x in sets.items()}
        energies = {
            f"energy_{name}": energy_distance(x, places["target"])
            for name, x in places.items()
            if name != "target"
        }
        shares = {
            f"type_{name}": float((self.classifier.predict(places[name]) == label).mean())
            for name in ("swapped", "unswapped", "target")
        }
        return energies | shares


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased energy distance between two samples, cells x dimensions (Székely and Rizzo 2013).

    ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, which can be slightly negative.
    """
    within = sum(cdist(z, z).sum() / (len(z) * (len(z) - 1)) for z in (x, y))
    return float(2 * cdist(x, y).mean() - within)


def _one_minibatch(model: SCMEDAL_RE, adata: AnnData, cells: np.ndarray) -> Minibatch:
    """All that a model reads of some cells."""
    # Without a generator of its own, the loader advances torch's global one.
    options = {"batch_size": len(cells), "generator": torch.Generator()}
    (minibatch,) = minibatches_of(model, cells, adata, **options)
    return minibatch


def _swap(
    model: SCMEDAL_RE, minibatch: Minibatch, expression: np.ndarray, source: str, target: str
) -> np.ndarray:
    """Counterfactual of cells with this expression, as if they came from the source."""
    names = {str(name): name for name in model.batch_names}
    # Not in an AnnData, which is checked: swapped expression may be slightly negative.
    moved = minibatch | {
        REGISTRY_KEYS.X_KEY: torch.as_tensor(expression, dtype=torch.float32),
        REGISTRY_KEYS.BATCH_KEY: torch.full(
            (len(expression), 1), model.batch_names.get_loc(names[source])
        ),
    }
    swapped = model.get_counterfactual_expression(
        dataloader=[moved],
        transform_batch=names[target],
        keep_residual=True,
        return_numpy=True,
    )
    return cast("np.ndarray", swapped)
