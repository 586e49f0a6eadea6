"""Scaling of the input, fitted on the training cells and inverted on output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy import sparse
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

Scaling = Literal["standard", "minmax"]
