"""Dropout from the bits of random numbers."""

import pytest
import torch
from torch.nn import functional as F

from scmedal_tools.module._dropout import Dropout, dropout


@pytest.fixture
def ones():
    torch.manual_seed(0)
    return torch.ones(401, 503)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.45, 0.5, 0.9])
def test_share_that_is_dropped_and_scale_of_the_rest(ones, share):
    dropped = dropout(ones, share, training=True)
    n = ones.numel()
    tolerance = 4 * (share * (1 - share) / n) ** 0.5
    assert (dropped == 0).float().mean().item() == pytest.approx(share, abs=tolerance)
    torch.testing.assert_close(dropped.max().item(), 1 / (1 - share))
    assert len(dropped.unique()) == 2
    assert torch.equal(ones, torch.ones_like(ones))


def test_values_of_one_random_number_are_independent():
    torch.manual_seed(0)
    kept = dropout(torch.ones(40_000, 4), 0.45, training=True) > 0
    correlation = torch.corrcoef(kept.float().T)
    assert (correlation - torch.eye(4)).abs().max() < 4 / 40_000**0.5


def test_all_and_none(ones):
    assert not dropout(ones, 1.0, training=True).any()
    assert dropout(ones, 0.0, training=True) is ones
    assert dropout(ones, 0.45, training=False) is ones
    assert not torch.equal(dropout(ones, 0.45, True), dropout(ones, 0.45, True))


def test_same_seed_same_mask_in_any_layout(ones):
    columns = ones.T.contiguous().T
    torch.manual_seed(1)
    first = dropout(ones, 0.45, training=True)
    torch.manual_seed(1)
    assert torch.equal(dropout(columns, 0.45, training=True), first)


def test_derivative_is_the_mask(ones):
    x = ones.requires_grad_()
    dropped = dropout(x, 0.3, training=True)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())


def test_precision_is_kept(ones):
    assert dropout(ones.bfloat16(), 0.3, training=True).dtype == torch.bfloat16


def test_layer_is_torchs_but_for_its_numbers(ones):
    layer = Dropout(0.25)
    assert torch.equal(layer.eval()(ones), F.dropout(ones, 0.25, training=False))
    assert (layer.train()(ones) == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
