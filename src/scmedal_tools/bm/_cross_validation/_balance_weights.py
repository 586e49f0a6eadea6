"""Weights that bring the terms of the paper's losses to one order (scMEDAL, section 4.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from scmedal_tools._quiet import quietly
from scmedal_tools.model import MedalModel
from scmedal_tools.train import get_preset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

RECONSTRUCTION = "reconstruction_weight"
TERMS = {
    RECONSTRUCTION: "reconstruction_loss_train",
    "adversary_weight": "adversary_ce_train",
    "label_weight": "label_ce_train",
    "batch_weight": "batch_ce_train",
    "kl_weight": "kl_per_table_train",
}
"""What each weight multiplies, in the history of a model."""


@dataclass(frozen=True)
class BalancedWeights:
    """Weights of the terms of a loss, and the measurements behind them.

    Attributes
    ----------
    table
        A row for each weight, under its name as an argument of the model. ``size`` is its term
        without a weight, the mean over the epochs of the pilot; ``preset_weight`` the weight that
        the pilot was trained with and ``preset_contribution`` their product; ``weight`` the
        balanced weight, and ``contribution`` its product with the term in a second pilot that was
        trained with the balanced weights. Contributions are magnitudes: the adversary's is
        subtracted from the loss.

    Examples
    --------
    See :func:`balance_weights`, which makes it:

    >>> import scmedal_tools as smt
    >>> weights = smt.bm.balance_weights(
    ...     smt.model.SCMEDAL_FE, adata, batch_key="donor", epochs=1, n_hidden=(16, 8), n_latent=4
    ... )
    >>> list(weights.table.columns)
    ['size', 'preset_weight', 'preset_contribution', 'weight', 'contribution']
    """

    table: pd.DataFrame

    @property
    def settings(self) -> dict[str, float]:
        """The balanced weights as arguments of the model."""
        return self.table["weight"].to_dict()


def balance_weights(
    model_cls: type[MedalModel],
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    preset: str = "paper",
    epochs: int = 5,
    splits: Sequence[np.ndarray] | None = None,
    seed: int = 0,
    n_hidden: Sequence[int] = (512, 132),
    n_latent: int = 50,
) -> BalancedWeights:
    """Find weights that bring all terms of a paper preset's loss to one order of magnitude.

    Section 4.5 of the paper without inspecting curves: a short training run with the preset's
    weights gives the size of each term in the initial epochs. The weights of the adversary, the
    classifiers and the KL divergence are then set so that each contributes as much as the weighted
    reconstruction. The reconstruction keeps the preset's weight: only the ratios of the weights
    are balanced, and one of them has to stay fixed. A second training, with the new weights,
    measures what the terms contribute then.

    Parameters
    ----------
    model_cls
        :class:`~scmedal_tools.model.SCMEDAL_FE`, ``SCMEDAL_FEC`` or ``SCMEDAL_RE``.
    adata
        Cells with log-normalised expression in ``X``. It is registered, as by ``setup_anndata``,
        and otherwise left as it is.
    batch_key, labels_key
        Columns with the batches and the cell types; ``SCMEDAL_FEC`` needs the types.
    preset
        One of the paper's presets.
    epochs
        Epochs of each of the two trainings.
    splits
        Positions of the training, validation and test cells. Weights are chosen on the training
        cells; by default these are all cells.
    seed
        Seed of the trainings. The global generators are left alone.
    n_hidden, n_latent
        Widths of the network that is to be trained; the KL divergence grows with them.

    Returns
    -------
    BalancedWeights
        The weights, rounded to two significant digits so that they can be reported, with the sizes
        and contributions of all terms.

    Raises
    ------
    ValueError
        If the preset is not one of the paper's, or there is no epoch; and as by ``setup_anndata``
        and the model.

    Notes
    -----
    Balanced is not best. The paper then chooses among weights by the validation cells, and with
    cell types also by how well these separate: take these as the start.

    The paper's own weights of ``SCMEDAL_RE`` are not balanced in this sense: its reconstruction
    contributes far more than the batch classifier and the KL divergence. A stronger KL divergence
    pulls the random effects to zero: look at ``get_swap_gap`` after training.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> model_cls, widths = smt.model.SCMEDAL_RE, {"n_hidden": (32, 16), "n_latent": 5}
    >>> weights = smt.bm.balance_weights(model_cls, adata, batch_key="donor", epochs=1, **widths)
    >>> list(weights.settings)
    ['reconstruction_weight', 'batch_weight', 'kl_weight']
    >>> model = model_cls(adata, preset="paper", **widths, **weights.settings)
    """
    if not (isinstance(model_cls, type) and issubclass(model_cls, MedalModel)):
        raise TypeError(
            f"model_cls is {type(model_cls).__name__}: pass a class, such as smt.model.SCMEDAL_RE."
        )
    settings = get_preset(model_cls.__name__, preset).module
    if preset == "default":
        raise ValueError(
            "The default preset needs no balancing: its weights are in nats per cell. Name one of "
            "the paper's presets, such as preset='paper'."
        )
    if epochs < 1:
        raise ValueError(f"epochs={epochs}: the terms are measured in one epoch or more.")
    model_cls.setup_anndata(adata, batch_key=batch_key, labels_key=labels_key)
    none = np.arange(0)
    parts = [np.arange(adata.n_obs), none, none] if splits is None else list(splits)

    def sizes(**weights: Any) -> pd.Series:
        with torch.random.fork_rng(), quietly():
            torch.manual_seed(seed)
            model = model_cls(
                adata, preset=preset, n_hidden=n_hidden, n_latent=n_latent, **weights
            )
            model.train(
                max_epochs=epochs,
                datasplitter_kwargs={"external_indexing": parts},
                enable_progress_bar=False,
            )
        logged = {w: model.history[term] for w, term in TERMS.items() if term in model.history}
        return pd.Series({w: float(term.iloc[:, 0].mean()) for w, term in logged.items()})

    size = sizes()
    preset_weight = pd.Series({weight: settings[weight] for weight in size.index})
    contribution = size * preset_weight
    weight = (contribution[RECONSTRUCTION] / size).map(_two_digits)
    weight[RECONSTRUCTION] = preset_weight[RECONSTRUCTION]
    table = pd.DataFrame(
        {
            "size": size,
            "preset_weight": preset_weight,
            "preset_contribution": contribution,
            "weight": weight,
            "contribution": weight * sizes(**weight),
        }
    )
    return BalancedWeights(table)


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")
