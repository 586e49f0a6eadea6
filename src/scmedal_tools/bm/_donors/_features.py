"""Features of donors, of which everything that is learned comes from training donors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from scmedal_tools._gene_model import (
    MixedEquations,
    covariance_of,
    fit_mixed_model,
    points,
    state_correlation,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scmedal_tools._gene_model import GroupSums, MixedModel

    from ._donor_sums import DonorSums

CELLS, CELLS_AND_DEPTH = "number of cells", "number of cells and depth"
COMPOSITION = "composition"
MEAN = "mean of all cells"
BLUP = "effects adjusted for cell type"
UNSCALED = ", not standardised"


class Features(NamedTuple):
    """Features of training donors, and of the one that is left out."""

    name: str
    train: np.ndarray
    """Donors x features."""
    test: np.ndarray
    """One x features."""
    standardised: bool = True
    """Whether each feature is to have the same variance in the training donors."""

    def turned(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates in which the training donors differ, the largest differences first.

        Mean, variances and axes are those of the training donors, whose total variance is 1.
        Distances are kept, so that nothing is lost.
        """
        scaler = StandardScaler(with_std=self.standardised).fit(self.train)
        train, test = scaler.transform(self.train), scaler.transform(self.test)
        turned, sizes, axes = np.linalg.svd(train, full_matrices=False)
        total = np.sqrt(np.square(sizes).sum() / (len(train) - 1)) or 1.0
        return turned * sizes / total, test @ axes.T / total


def features_of(
    sums: DonorSums, train: Sequence[int], test: int, n_top_genes: int | None
) -> Iterator[Features]:
    """All features that need no network."""
    everyone = [*train, test]
    n_cells = sums.sizes[everyone].sum(1)
    columns = [np.log(n_cells)] + ([] if sums.depth is None else [sums.depth[everyone]])
    yield _split(CELLS if sums.depth is None else CELLS_AND_DEPTH, np.stack(columns, axis=1))

    labels = np.flatnonzero(sums.sizes[train].sum(0) > 0)
    # Square roots of shares: their noise is the same for rare and for common types.
    shares = np.sqrt(sums.sizes[everyone][:, labels] / n_cells[:, None])
    yield _split(COMPOSITION, shares)

    genes = _most_variable(sums.variance(train), n_top_genes)
    yield _split(MEAN, sums.sums[everyone][:, :, genes].sum(1) / n_cells[:, None])

    groups = (sums.groups(donors, labels, genes) for donors in (train, [test]))
    yield from in_both_scales(BLUP, *_effects(*groups))


def in_both_scales(name: str, train: np.ndarray, test: np.ndarray) -> Iterator[Features]:
    """Features standardised, and as they are.

    Of posterior means the small ones are small for a reason, which is forgotten where all are
    given the same variance; but as they are, few genes with large effects make up all distances.
    """
    yield Features(name, train, test)
    yield Features(f"{name}{UNSCALED}", train, test, standardised=False)


def _split(name: str, values: np.ndarray) -> Features:
    return Features(name, values[:-1], values[-1:])


def _most_variable(variance: np.ndarray, n_genes: int | None) -> np.ndarray:
    n_genes = len(variance) if n_genes is None else n_genes
    return np.sort(np.argsort(-variance, kind="stable")[:n_genes])


def _effects(train: GroupSums, test: GroupSums) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means of a donor's effects on genes, averaged over cell types.

    In the model ``type + (1 | donor) + (0 + type | donor)`` of each gene, in units of the standard
    deviation of its cells. Types count by their share of the training cells, the same for all
    donors, so that a donor's composition makes no difference.
    """
    profiles = train.sums.sum(0) / train.sizes.sum(0)[:, None]
    model = fit_mixed_model(train, state_correlation(torch.from_numpy(profiles)))
    shares = train.sizes.sum(0) / train.sizes.sum()
    # Of training donors as of others: the fixed effects are taken as known.
    of_train, of_test = (
        np.einsum("s,ksg->kg", shares, effects_given(model, groups)) for groups in (train, test)
    )
    return of_train, of_test


def effects_given(model: MixedModel, groups: GroupSums) -> np.ndarray:
    """Posterior means of the effects of any donors, donors x types x genes, in the model's scale.

    Variances and fixed effects are those of a fitted model.
    """
    y, sizes = torch.from_numpy(groups.means / model.scale), torch.from_numpy(groups.sizes)
    fixed = torch.from_numpy(model.fixed / model.scale)
    correlation = torch.from_numpy(model.correlation)
    total = torch.zeros(())
    for point, weight in points(torch.from_numpy(model.probabilities)):
        equations = MixedEquations(sizes, covariance_of(point, correlation))
        total = total + weight * equations.effects(y, fixed)
    return total.numpy()
