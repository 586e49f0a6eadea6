"""Levels of cells of each factor."""

import pytest
import torch
from scvi import REGISTRY_KEYS

from scmedal_tools._gene_model._look_up import effects_of
from scmedal_tools.module._factor_levels import POPULATION_LEVEL, as_levels, levels_of

BATCH = torch.tensor([[0.0], [2.0], [1.0]])
FURTHER = torch.tensor([[5, 1], [4, 0], [3, 1]])


def test_of_a_minibatch_the_batch_comes_first():
    tensors = {REGISTRY_KEYS.BATCH_KEY: BATCH, REGISTRY_KEYS.CAT_COVS_KEY: FURTHER}
    assert levels_of(tensors).tolist() == [[0, 5, 1], [2, 4, 0], [1, 3, 1]]
    del tensors[REGISTRY_KEYS.CAT_COVS_KEY]
    assert levels_of(tensors).tolist() == [[0], [2], [1]]
    assert levels_of(tensors).dtype == torch.long


def test_of_one_factor_they_may_have_one_axis():
    assert torch.equal(as_levels(FURTHER[:, 0], 1), FURTHER[:, :1])
    assert as_levels(FURTHER, 2) is FURTHER


@pytest.mark.parametrize(("levels", "n_factors"), [(FURTHER[:, 0], 2), (FURTHER, 3), (FURTHER, 1)])
def test_of_too_few_or_too_many_factors_are_refused(levels, n_factors):
    message = rf"do not fit {n_factors} factor.*\(n_cells, {n_factors}\)"
    with pytest.raises(ValueError, match=message):
        as_levels(levels, n_factors)


def test_those_of_several_targets_are_for_networks_that_take_them():
    levels = FURTHER.expand(4, 3, 2)
    assert as_levels(levels, 2, of_targets=True) is levels
    with pytest.raises(ValueError, match=r"shape \(4, 3, 2\) do not fit"):
        as_levels(levels, 2)


def test_levels_without_a_row_have_no_effect():
    table = torch.arange(1.0, 7.0).reshape(2, 3)
    level = torch.tensor([1, POPULATION_LEVEL, 2, 0])
    expected = torch.tensor([[4.0, 5, 6], [0, 0, 0], [0, 0, 0], [1, 2, 3]])
    assert torch.equal(effects_of(table, level), expected)
    units = torch.tensor([2, 0])
    assert torch.equal(effects_of(table, level, units=units), expected[:, units])
