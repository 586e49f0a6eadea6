"""Methods that a model does not have, and what to use instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi.model.base import BaseModelClass

NO_TEST = (
    "Models here have no differential_expression: it would take cells for independent. Use "
    "smt.tl.group_effects, which compares donors by sums of their counts; of a trained "
    "SCMEDAL_RE, get_batch_effects has the effects of each batch on each gene."
)


class AbsentMethodsMixin(BaseModelClass):
    """The answer to methods that a model does not have, as ``hasattr`` and ``dir`` say."""

    if not TYPE_CHECKING:  # for which a model would have every name

        def __getattr__(self, name: str) -> Any:
            if name == "differential_expression":
                raise AttributeError(NO_TEST)
            if not hasattr(type(self), name) and (others := _classes_with(name)):
                raise AttributeError(
                    f"{type(self).__name__} has no {name}: train {' or '.join(others)}, which has "
                    "it."
                )
            return super().__getattribute__(name)  # which raises its own error again


def _classes_with(name: str) -> list[str]:
    """Models of this package that have a public method."""
    bases = AbsentMethodsMixin.__subclasses__()
    models = [model for base in bases for model in base.__subclasses__()]
    return [m.__name__ for m in models if not name.startswith("_") and hasattr(m, name)]
