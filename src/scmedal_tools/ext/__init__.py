"""Comparators: other methods for batch correction, one function each."""

from ._autoencoders import ae, aec, aec_batch
from ._common import JOINT

# For other folders of the package.
from ._common import random_state as random_state
from ._common import train as train
from ._display_names import DISPLAY_NAMES as DISPLAY_NAMES
from ._display_names import display_names as display_names
from ._harmony import harmony
from ._pca import pca
from ._saucie import saucie
from ._scanorama import scanorama
from ._scvi import scanvi, scvi

__all__ = [
    "JOINT",
    "ae",
    "aec",
    "aec_batch",
    "harmony",
    "pca",
    "saucie",
    "scanorama",
    "scanvi",
    "scvi",
]


def __dir__() -> list[str]:
    return list(__all__)
