"""What tools require of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmedal_tools._data import check_argument, whole
from scmedal_tools.model import SCMEDAL_RE, UNTRAINED, MedalModel

if TYPE_CHECKING:
    import numpy as np


def check_has_draws(model: SCMEDAL_RE, n_samples: int) -> None:
    """Refuse a model of which there are no posterior draws, or a number of them below 1."""
    check_has_random_effects(model)
    check_argument("n_samples", n_samples, whole())
    if not model.is_trained:
        raise RuntimeError(UNTRAINED)


def check_has_random_effects(model: object) -> None:
    """Refuse what is no model of random effects, such as one of fixed effects, or cells."""
    if not hasattr(model, "get_counterfactual_expression"):
        raise TypeError(
            f"{type(model).__name__} has no random effects: pass a trained SCMEDAL_RE."
        )


def check_is_model(model: object, call: str) -> None:
    """Refuse what is no model, as where the arguments of a call are in the wrong order."""
    if not isinstance(model, MedalModel):
        raise TypeError(
            f"{type(model).__name__} is not a scMEDAL model. The cells come first, then the "
            f"trained model: {call}."
        )


def held_back_cells(model: MedalModel) -> np.ndarray | None:
    """Positions of the test cells, else of the validation cells; ``None`` without either."""
    candidates = (model.test_indices, model.validation_indices)
    return next((cells for cells in candidates if cells is not None and len(cells)), None)
