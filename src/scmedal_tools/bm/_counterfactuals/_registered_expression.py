"""The expression with which counterfactuals are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmedal_tools._data import expression_of, layer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

    from scmedal_tools.model import SCMEDAL_RE

    from ._baselines import Counterfactual


def registered_expression(models: Iterable[SCMEDAL_RE | Counterfactual], adata: AnnData) -> Any:
    """Expression that the models were registered with; ``X`` if there are functions only."""
    layers = {
        layer_of(model.registry["setup_args"]) for model in models if hasattr(model, "registry")
    }
    if len(layers) > 1:
        raise ValueError(
            f"The models were registered with different layers, {layers}: their shifts have "
            "different units. Compare those of one layer."
        )
    return expression_of(adata, next(iter(layers), None))
