"""Mixed-effects autoencoders for single-cell expression, on scvi-tools."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from . import bm, datasets, ext, model, module, pl, pp, tl, train

__version__ = version("scmedal-tools")

__all__ = ["bm", "datasets", "ext", "model", "module", "pl", "pp", "tl", "train"]


def __getattr__(name: str) -> ModuleType:
    # Submodules load when they are first used, so that the import stays fast.
    if name in __all__:
        from . import _progress  # noqa: F401  # before scvi-tools imports bars that warn

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
