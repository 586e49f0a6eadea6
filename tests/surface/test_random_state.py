"""Only training draws from the generators that users seed for work of their own."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from .calls import CALLS, called

pytestmark = pytest.mark.slow

TRAIN = {"query"}  # from the global generators, as all models of scvi-tools do


def states():
    """State of each global generator."""
    _, numbers, *position = np.random.get_state()
    return numbers.tolist(), position, random.getstate(), torch.get_rng_state().tolist()


@pytest.mark.parametrize("name", sorted(set(CALLS) - TRAIN))
def test_left_as_it_was(study, models, name):
    adata = study.copy()
    # Away from the seed of the models, or a call that sets it again would go unnoticed.
    np.random.random(), random.random(), torch.rand(1)
    before = states()
    called(name, models, adata)
    for found, expected in zip(states(), before, strict=True):
        assert found == expected
