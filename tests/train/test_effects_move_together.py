"""Effects that move together by the gradients of several minibatches, with one draw."""

import numpy as np
import pytest
import torch

from scmedal_tools.train._natural_gradient import (
    MAX_LOG_CHANGE_OF_PRIOR,
    NEW,
    NaturalGradient,
)

from .conjugate_model import (
    CELLS_PER_BATCH,
    N_BATCH,
    N_CELLS,
    N_UNITS,
    NOISE,
    PRIOR_SD,
    close,
    with_posterior,
)

RATE = 0.004


@pytest.fixture
def minibatches():
    """Give a function that has the loss of one half of the cells, by its number."""
    torch.manual_seed(0)
    codes = torch.arange(N_BATCH).repeat_interleave(torch.tensor(CELLS_PER_BATCH))
    effects = PRIOR_SD * torch.randn(N_BATCH, N_UNITS)
    values = effects[codes] + NOISE * torch.randn(N_CELLS, N_UNITS)
    halves = torch.randperm(N_CELLS).chunk(2)

    def loss(table, number):
        cells = halves[number % 2]
        missed = values[cells] - table(codes[cells], sample=True)
        return missed.square().sum(1).mean() / (2 * NOISE**2)

    return loss


def start(sd=0.05, **changes):
    """Posterior that is the same at each call."""
    mean = torch.randn(N_BATCH, N_UNITS, generator=torch.Generator().manual_seed(2))
    return with_posterior(mean, torch.full((N_BATCH, N_UNITS), sd), **changes)


def moved(table, losses, rate=RATE, **options):
    """Keep the gradients of all losses; with that of the last the effects move."""
    torch.manual_seed(1)  # of the draw
    settles = options.pop("settles", False)
    optimizer = NaturalGradient([table], rate, N_CELLS, **options)
    optimizer.settles = settles
    for number, loss in enumerate(losses):
        optimizer.moves = number + 1 == len(losses)
        optimizer.zero_grad()
        loss(table).backward()
        optimizer.step()
    return optimizer


def test_nothing_moves_before_the_last_and_all_have_one_draw(minibatches):
    table = start()
    before = table.loc.detach().clone()
    optimizer = NaturalGradient([table], 0.01, N_CELLS)
    optimizer.moves, draws = False, []
    for number in range(3):
        optimizer.zero_grad()
        minibatches(table, number).backward()
        draws.append(table.deviation)
        optimizer.step()
    assert torch.equal(table.loc, before)
    assert all(draw is draws[0] for draw in draws)
    optimizer.moves = True
    minibatches(table, 3).backward()
    optimizer.step()
    assert not torch.equal(table.loc, before)
    assert table.deviation is None


@pytest.mark.parametrize("n", [2, 4])
def test_they_move_as_by_n_steps_along_the_mean_gradient(minibatches, n):
    several, one = start(), start()
    moved(several, [lambda table, k=k: minibatches(table, k) for k in range(n)], kl_weight=0.3)

    def mean(table):
        return sum(minibatches(table, k) for k in range(n)) / n

    moved(one, [mean], rate=1 - (1 - RATE) ** n, kl_weight=0.3)
    close(several.loc, one.loc.detach().numpy(), 1e-5)
    close(several.posterior_sd, one.posterior_sd.detach().numpy(), 1e-5)


def test_they_never_go_further_than_to_the_optimum():
    """Half of the way at each of four minibatches is 15 sixteenths of it, not twice of it."""
    table, codes = start(0.3), torch.arange(N_BATCH)
    target = table.loc.detach() + 0.1

    def loss(table):
        # Of which the posterior's variance is that of the data: the optimum is the target.
        return (target - table.loc[codes]).square().sum() / (2 * 0.3**2 * N_CELLS)

    torch.manual_seed(1)
    optimizer = NaturalGradient([table], 0.5, N_CELLS, kl_weight=0.0)
    for number in range(4):
        optimizer.moves = number == 3
        optimizer.zero_grad()
        table.draw()
        loss(table).backward()
        optimizer.step()
    close(table.loc, target.numpy() - 0.1 / 16, 1e-3)


def test_the_next_gradients_do_not_contain_those_before(minibatches):
    optimizer = moved(table := start(), [lambda table: minibatches(table, 0)] * 2)
    assert optimizer.n_kept == 0
    optimizer.zero_grad()
    assert table.loc.grad is None


@pytest.mark.parametrize("n", [1, 3])
def test_squares_and_prior_follow_as_for_n_minibatches(minibatches, n):
    table = start(learn_prior=True, prior_sd=3.0)
    losses = [lambda table: minibatches(table, 0)] * n
    optimizer = moved(table, losses, settles=True, of_genes=[table])
    weight = optimizer.state[table.loc]["weight"].item()
    assert weight == pytest.approx(1 - (1 - NEW) ** n)
    # Its scale is far too large, so that it falls as far as it may.
    change = 2 * (table.log_prior_sd.item() - np.log(3.0))
    assert change == pytest.approx(-n * MAX_LOG_CHANGE_OF_PRIOR, rel=1e-4)
