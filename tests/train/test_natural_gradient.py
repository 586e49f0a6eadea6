"""Natural gradient steps against the exact posterior of a conjugate Gaussian model."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn
from torch.distributions import Normal, kl_divergence

from scmedal_tools.train._natural_gradient import NaturalGradient, marginal_change

from .conjugate_model import (
    CELLS_PER_BATCH,
    N_BATCH,
    N_CELLS,
    N_UNITS,
    NOISE,
    PRIOR_SD,
    close,
    make_table,
    step,
    with_posterior,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def batch():
    return np.repeat(np.arange(N_BATCH), CELLS_PER_BATCH)


@pytest.fixture(scope="module")
def x(batch):
    """Cells x units: the effect of the batch and Gaussian noise."""
    rng = np.random.default_rng(0)
    effects = rng.normal(0, PRIOR_SD, (N_BATCH, N_UNITS))
    return effects[batch] + rng.normal(0, NOISE, (N_CELLS, N_UNITS))


@pytest.fixture(scope="module")
def exact(x, batch):
    """Mean and standard deviation of the posterior."""
    sums, counts = np.zeros((2, N_BATCH, N_UNITS))
    np.add.at(sums, batch, x)
    np.add.at(counts, batch, 1)
    precision = 1 / PRIOR_SD**2 + counts / NOISE**2
    return sums / NOISE**2 / precision, precision**-0.5


@pytest.fixture
def loss(x, batch):
    """Give the negative bound as a mean over all cells, without the divergence from the prior."""
    values, codes = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(batch)

    def loss(table):
        squared = (values - table.loc[codes]).square() + table.posterior_sd[codes].square()
        return squared.sum() / (2 * NOISE**2 * N_CELLS)

    return loss


class TestConjugateModel:
    @pytest.mark.parametrize("posterior_sd", [0.01, 0.2, 3.0])
    def test_goes_to_the_exact_posterior(self, loss, exact, posterior_sd):
        table = make_table(posterior_sd=posterior_sd)
        optimizer = NaturalGradient([table], 0.5, N_CELLS)
        for _ in range(200):
            step(optimizer, loss(table))
        close(table.loc, exact[0])
        close(table.posterior_sd, exact[1])

    def test_what_the_data_do_not_determine_goes_to_the_prior(self, loss):
        table = make_table()
        optimizer = NaturalGradient([table], 0.5, N_CELLS)
        for _ in range(200):
            step(optimizer, loss(table))
        without_cells = CELLS_PER_BATCH.index(0)
        close(table.loc[without_cells], np.zeros(N_UNITS))
        close(table.posterior_sd[without_cells], np.full(N_UNITS, PRIOR_SD))

    @pytest.mark.parametrize("away", [-0.99, -0.1, 0.0, 0.4, 0.99])
    def test_one_whole_step_lands_on_the_exact_mean(self, loss, exact, away):
        mean, sd = exact
        table = with_posterior(mean + away * sd, sd)
        step(NaturalGradient([table], 1.0, N_CELLS), loss(table))
        close(table.loc, mean)
        close(table.posterior_sd, sd)

    @pytest.mark.parametrize("lr", [0.05, 0.5])
    def test_the_learning_rate_is_a_share_of_the_way(self, loss, exact, lr):
        mean, sd = exact
        table = with_posterior(mean + 0.9 * sd, sd)
        step(NaturalGradient([table], lr, N_CELLS), loss(table))
        close(table.loc, mean + (1 - lr) * 0.9 * sd)

    @pytest.mark.slow
    def test_draws_and_minibatches_lead_near_it(self, x, batch, exact):
        """Gradients as in training: of one draw of the effects and some of the cells."""
        values, codes = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(batch)
        table = make_table()
        optimizer = NaturalGradient([table], 0.02, N_CELLS)
        means, sds = [], []
        for _ in range(1500):
            cells = torch.randperm(N_CELLS)[:20]
            missed = values[cells] - table(codes[cells], sample=True)
            reconstruction = missed.square().sum(1).mean() / (2 * NOISE**2)
            step(optimizer, reconstruction)
            means.append(table.loc.detach().clone())
            sds.append(table.posterior_sd.detach())
        mean, sd = (torch.stack(values[300:]).mean(0).numpy() for values in (means, sds))
        assert (np.abs(mean - exact[0]) < 0.25 * exact[1]).all()
        np.testing.assert_allclose(sd, exact[1], rtol=0.15)


class TestLimits:
    @pytest.mark.parametrize("away", [-40.0, -3.0, 3.0, 40.0])
    def test_a_mean_moves_by_one_standard_deviation_at_most(self, loss, exact, away):
        mean, sd = exact
        table = with_posterior(mean + away * sd, sd)
        step(NaturalGradient([table], 1.0, N_CELLS), loss(table))
        close(table.loc, mean + (away - np.sign(away)) * sd)

    @pytest.mark.parametrize(("factor", "moved"), [(0.01, np.exp(0.2)), (10.0, np.exp(-0.2))])
    def test_a_standard_deviation_moves_by_a_fifth_at_most(self, loss, exact, factor, moved):
        mean, sd = exact
        table = with_posterior(mean, factor * sd)
        step(NaturalGradient([table], 1.0, N_CELLS), loss(table))
        close(table.posterior_sd, moved * factor * sd)

    def test_half_the_gradient_of_the_log_standard_deviation(self, loss, exact):
        mean, sd = exact
        table = with_posterior(mean, 0.95 * sd)
        step(NaturalGradient([table], 0.3, N_CELLS), loss(table))
        # The derivative of the bound in nats by the log s.d. is its square over the exact, less 1.
        close(table.posterior_sd, 0.95 * sd * np.exp(-0.5 * 0.3 * (0.95**2 - 1)))


class TestPrior:
    @pytest.fixture
    def stepped(self):
        """Give a function that builds a table and moves it by a step."""

        def stepped(n_batch, **changes):
            table = make_table(n_batch, **{"prior_sd": 0.3, "learn_prior": True} | changes)
            nn.init.normal_(table.rho)
            towards, optimizer = torch.randn(n_batch, N_UNITS), NaturalGradient([table], 0.3, 10)
            missed = table.loc - towards + 0 * table.rho
            step(optimizer, missed.square().sum())
            return table

        return stepped

    @pytest.mark.parametrize("n_batch", [5, 6, 14])
    def test_has_the_spread_of_enough_effects(self, stepped, n_batch):
        table = stepped(n_batch)
        mean, sd = table.loc.detach().numpy(), table.posterior_sd.detach().numpy()
        close(table.prior_sd.square(), np.mean(mean**2 + sd**2))

    @pytest.mark.parametrize("n_batch", [1, 2, 3, 4])
    def test_leans_on_its_start_with_few_batches(self, stepped, n_batch):
        table = stepped(n_batch)
        mean, sd = table.loc.detach().numpy(), table.posterior_sd.detach().numpy()
        squares = list((mean**2 + sd**2).mean(1)) + (5 - n_batch) * [0.3**2]
        assert len(squares) == 5
        close(table.prior_sd.square(), np.mean(squares))

    @pytest.mark.parametrize("n_batch", [2, 5])
    def test_is_the_optimum(self, stepped, n_batch):
        """Of the divergence, and with few batches of an inverse gamma prior on the variance."""
        table = stepped(n_batch)
        best, weight = table.log_prior_sd.item(), N_UNITS * (5 - n_batch)

        def cost(log_sd):
            table.log_prior_sd.data.fill_(log_sd)
            return table.kl().item() + weight * (log_sd + 0.5 * 0.3**2 * np.exp(-2 * log_sd))

        assert cost(best) < min(cost(best - 0.02), cost(best + 0.02))

    def test_is_kept_if_it_is_not_learned(self, stepped):
        table = stepped(6, learn_prior=False)
        assert table.log_prior_sd.item() == pytest.approx(np.log(0.3))

    def test_a_later_training_leans_on_the_same_start(self, stepped):
        table = stepped(2)
        assert table.prior_sd.item() > 0.4
        step(NaturalGradient([table], 0.3, 10), 0 * (table.loc + table.rho).sum())
        mean, sd = table.loc.detach().numpy(), table.posterior_sd.detach().numpy()
        expected = (2 * np.mean(mean**2 + sd**2) + 3 * 0.3**2) / 5
        close(table.prior_sd.square(), expected)

    def test_every_table_has_its_own(self):
        tables = [make_table(learn_prior=True, mean_sd=size) for size in (0.1, 2.0)]
        optimizer = NaturalGradient(tables, 0.1, 10)
        step(optimizer, 0 * sum((table.loc + table.rho).sum() for table in tables))
        for table in tables:
            mean, sd = table.loc.detach().numpy(), table.posterior_sd.detach().numpy()
            close(table.prior_sd.square(), np.mean(mean**2 + sd**2))
        assert tables[1].prior_sd > 2 * tables[0].prior_sd


def test_a_rate_of_zero_moves_no_posterior(loss):
    table = make_table()
    before = table.loc.detach().clone(), table.posterior_sd.detach().clone()
    optimizer = NaturalGradient([table], 0.0, N_CELLS)
    for _ in range(5):
        step(optimizer, loss(table))
    assert torch.equal(table.loc, before[0])
    close(table.posterior_sd, before[1], 1e-6)


class TestMarginalLikelihood:
    """Scale of the prior, against a numerical maximum and in a conjugate model."""

    @pytest.mark.parametrize("noise", [1.0, 2.5])
    @pytest.mark.parametrize("true_sd", [0.5, 0.1])
    def test_change_leads_to_its_maximum(self, noise, true_sd):
        rng = np.random.default_rng(1)
        precision = 10 ** rng.uniform(0.5, 2.5, 400)
        y = rng.normal(0, np.sqrt(true_sd**2 + noise / precision))

        def cost(log_variance):
            variance = np.exp(log_variance) + noise / precision
            return 0.5 * (np.log(variance) + y**2 / variance).sum()

        best = minimize_scalar(cost, bounds=(-12, 3), method="bounded", options={"xatol": 1e-8}).x
        given = torch.as_tensor(precision * y), torch.as_tensor(precision)
        variance = torch.tensor(1.0, dtype=torch.float64)
        for _ in range(100):
            variance = variance * marginal_change([given], variance, noise).clamp(-2, 2).exp()
        assert variance.log().item() == pytest.approx(best, abs=1e-3)

    def test_nothing_known_changes_nothing(self):
        nothing = torch.zeros(30)
        assert marginal_change([(nothing, nothing)], torch.tensor(0.01), 1e12) == 0

    def test_effects_that_are_not_there_are_switched_off(self):
        precision = torch.full((4000,), 30.0)
        noise = torch.as_tensor(np.random.default_rng(0).normal(size=4000))
        natural_mean = precision.sqrt() * noise
        assert marginal_change([(0.9 * natural_mean, precision)], torch.tensor(0.01)) < -3

    @staticmethod
    def trained(effect_sd, n_batch=40, settle_after=150, noise_sd=NOISE, of_genes=False):
        """Effects of batches of 20 cells, learned with draws from all cells."""
        rng = np.random.default_rng(0)
        batch = np.repeat(np.arange(n_batch), 20)
        effects = rng.normal(0, 1, (n_batch, N_UNITS)) * effect_sd
        x = effects[batch] + noise_sd * rng.standard_t(3, (len(batch), N_UNITS)) / 3**0.5
        values, codes = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(batch)
        table = make_table(n_batch, learn_prior=True, prior_sd=0.3, mean_sd=0.3)
        optimizer = NaturalGradient([table], 0.1, len(x), [table] if of_genes else [])
        for i in range(400):
            optimizer.settles = i >= settle_after
            missed = values - table(codes, sample=True)
            step(optimizer, missed.square().sum(1).mean() / (2 * NOISE**2))
        return table, effects

    def test_settles_at_zero_without_effects(self):
        table, _ = self.trained(0.0)
        assert table.prior_sd < 0.02
        assert table.loc.abs().max() < 0.02

    def test_keeps_effects_that_are_there(self):
        table, effects = self.trained(0.4)
        assert table.prior_sd.item() == pytest.approx(effects.std(), rel=0.15)
        assert np.corrcoef(table.loc.detach().ravel(), effects.ravel())[0, 1] > 0.95

    def test_not_before_it_is_told_to(self):
        table, _ = self.trained(0.0, settle_after=1000)
        mean, sd = table.loc.detach().numpy(), table.posterior_sd.detach().numpy()
        close(table.prior_sd.square(), np.mean(mean**2 + sd**2))

    def test_not_with_few_batches(self):
        table, _ = self.trained(0.0, n_batch=4)
        assert table.prior_sd > 0.1

    def test_keeps_effects_on_genes_whose_noise_is_measured(self):
        table, effects = self.trained(0.3, of_genes=True)
        assert table.prior_sd.item() == pytest.approx(effects.std(), rel=0.1)

    @pytest.mark.slow
    def test_noise_beyond_the_likelihoods_is_no_effect(self):
        """Three times the s.d. that the likelihood assumes."""
        plain, _ = self.trained(0.0, noise_sd=3 * NOISE)
        guarded, _ = self.trained(0.0, noise_sd=3 * NOISE, of_genes=True)
        assert plain.prior_sd > 0.2
        assert guarded.prior_sd < 0.1


def test_step_is_that_of_the_gradients_of_the_whole_bound(x, batch):
    """With the divergence and the draw's scale in the automatic derivatives, as formerly."""
    values, codes = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(batch)
    rate, kl_weight = 0.01, 0.3
    table = with_posterior(torch.randn(N_BATCH, N_UNITS), torch.rand(N_BATCH, N_UNITS) + 0.1)
    sd, loc = table.posterior_sd.detach().requires_grad_(), table.loc.detach().requires_grad_()
    noise = torch.randn(N_BATCH, N_UNITS, generator=torch.Generator().manual_seed(1))

    def reconstruction(effects):
        return (values - effects).square().sum(1).mean() / (2 * NOISE**2)

    kl = kl_divergence(Normal(loc, sd), Normal(0.0, PRIOR_SD)).sum()
    bound = N_CELLS * reconstruction((loc + sd * noise)[codes]) + kl_weight * kl
    bound.backward()
    by_loc, by_log_sd = rate * sd**2 * loc.grad, 0.5 * rate * sd * sd.grad
    expected_loc = loc - torch.minimum(torch.maximum(by_loc, -sd), sd)
    expected_sd = sd * torch.exp(-by_log_sd.clamp(-0.2, 0.2))
    assert (by_loc.abs() < sd).float().mean() > 0.5  # most are not limited
    assert (by_log_sd.abs() < 0.2).float().mean() > 0.5

    optimizer = NaturalGradient([table], rate, N_CELLS, kl_weight=kl_weight)
    torch.manual_seed(1)
    loss = reconstruction(table(codes, sample=True)) + kl_weight * table.kl() / N_CELLS
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    close(table.loc, expected_loc.detach().numpy(), 1e-5)
    close(table.posterior_sd, expected_sd.detach().numpy(), 1e-5)
    assert table.deviation is None
