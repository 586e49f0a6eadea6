"""Names of the comparators in figures and sentences."""

from __future__ import annotations

import re
from typing import Final

DISPLAY_NAMES: Final = {
    "pca": "PCA",
    "ae": "AE",
    "aec": "AEC",
    "aec_batch": "AEC-batch",
    "harmony": "Harmony",
    "scanorama": "Scanorama",
    "scvi": "scVI",
    "scanvi": "scANVI",
    "saucie": "SAUCIE",
}


def display_names(text: str) -> str:
    """Write comparators by the names that readers know: ``"pca + RE"`` is ``"PCA + RE"``."""
    return re.sub(r"\w+", lambda word: DISPLAY_NAMES.get(word[0], word[0]), text)
