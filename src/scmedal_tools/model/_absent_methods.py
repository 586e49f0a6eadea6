"""Methods that a model does not have, and what to use instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi.model.base import BaseModelClass

OF_SCVI = {
    "differential_expression": "Use smt.tl.group_effects, which compares donors by sums of their "
    "counts; get_batch_effects of SCMEDAL_RE has the effects of each batch on each gene.",
    "get_elbo": "get_reconstruction_error has the error, and history every term of the loss.",
}


class AbsentMethodsMixin(BaseModelClass):
    """The answer to methods that a model does not have, as ``hasattr`` and ``dir`` say."""

    if not TYPE_CHECKING:  # for which a model would have every name

        def __getattr__(self, name: str) -> Any:
            if not hasattr(type(self), name) and (instead := _instead_of(name)):
                raise AttributeError(f"{type(self).__name__} has no {name}. {instead}")
            return super().__getattribute__(name)  # which raises its own error again


def _instead_of(name: str) -> str:
    """What to use instead of a method; empty if there is nothing."""
    if name in OF_SCVI or name.startswith("_"):
        return OF_SCVI.get(name, "")
    bases = AbsentMethodsMixin.__subclasses__()
    models = [model for base in bases for model in base.__subclasses__()]
    others = [model.__name__ for model in models if hasattr(model, name)]
    return f"Train a model that has it: {' or '.join(others)}." if others else ""
