"""Codes that name a level of each factor."""

import numpy as np
import pytest
import torch

from scmedal_tools.module._levels import POPULATION, level_of, pack, with_level


@pytest.fixture
def levels():
    rng = np.random.default_rng(0)
    return [torch.as_tensor(rng.integers(-1, n, size=200)) for n in (7, 100_000, 3)]


def test_a_code_holds_the_level_of_every_factor(levels):
    code = pack(levels)
    for factor, level in enumerate(levels):
        assert torch.equal(level_of(code, factor), level)


def test_with_one_factor_the_code_is_the_batch(levels):
    assert torch.equal(pack(levels[:1]), levels[0])


def test_without_any_level_it_is_the_population():
    nothing = torch.full((3,), POPULATION)
    assert pack([nothing, nothing, nothing]).tolist() == [POPULATION] * 3


@pytest.mark.parametrize("factor", [0, 1, 2])
@pytest.mark.parametrize("level", [POPULATION, 0, 5])
def test_one_level_is_replaced_and_the_others_stay(levels, factor, level):
    code = with_level(pack(levels), factor, level)
    for other, before in enumerate(levels):
        expected = torch.full_like(before, level) if other == factor else before
        assert torch.equal(level_of(code, other), expected)
