"""Reconstruction terms against torch's normal distribution."""

import math

import pytest
import torch
from torch.distributions import Normal

from scmedal_tools.module._likelihood import MIN_LOG_SD, reconstruction_term

N_CELLS, N_GENES = 6, 4


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, N_CELLS, N_GENES, generator=generator)


def with_noise(log_sd):
    term = reconstruction_term("gaussian")
    term.log_sd.data = torch.as_tensor(log_sd).expand_as(term.log_sd).clone()
    return term


@pytest.mark.parametrize("log_sd", [-0.7, 0.4])
def test_nats_of_a_normal_distribution_up_to_its_constant(pair, log_sd):
    x, x_hat = pair
    normal = Normal(x_hat, torch.tensor(log_sd).exp())
    expected = -normal.log_prob(x).sum(1) - N_GENES * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(with_noise(log_sd)(x, x_hat), expected)


def test_noise_rests_at_the_size_of_the_residuals(pair):
    x, x_hat = pair
    term = with_noise((x - x_hat).square().mean().sqrt().log())
    term(x, x_hat).mean().backward()
    torch.testing.assert_close(term.log_sd.grad, torch.zeros_like(term.log_sd), atol=1e-5, rtol=0)


def test_noise_has_a_floor(pair):
    x, _ = pair
    below, floor = with_noise(-50.0), with_noise(MIN_LOG_SD)
    torch.testing.assert_close(below(x, x), floor(x, x))
    torch.testing.assert_close(floor(x, x), torch.full((N_CELLS,), N_GENES * MIN_LOG_SD))


def test_mean_squared_error_has_no_noise(pair):
    x, x_hat = pair
    term = reconstruction_term("mse")
    assert not list(term.parameters())
    torch.testing.assert_close(term(x, x_hat), ((x - x_hat) ** 2).sum(1) / N_GENES)
