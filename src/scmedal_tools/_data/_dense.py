"""Values as an array, whether or not they are stored sparsely."""

from __future__ import annotations

from typing import Any

import numpy as np


def dense(values: Any) -> np.ndarray:
    """Array of the values of a matrix, or of any other array."""
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)
