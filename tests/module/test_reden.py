"""Random effects and the block that carries them, against torch's distributions and products."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from scmedal_tools.module import EffectsSettings, RandomEffects, RedenBlock

EFFECTS = EffectsSettings(prior_sd=0.3, learn_prior=True, posterior_sd=0.2, mean_sd=0.5)
BATCH = torch.tensor([0, 2, 2, 1, 0, 2, 1])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def table():
    """Table of three batches and five units, with unequal posteriors."""
    table = RandomEffects(3, 5, EFFECTS)
    nn.init.normal_(table.rho)
    return table


@pytest.fixture
def distributions(table):
    return Normal(table.loc, table.posterior_sd), Normal(0.0, table.prior_sd)


def make_block(effects=EFFECTS, **changes):
    settings = {
        "normalization": "layer",
        "activation": F.selu,
        "dense_activation": nn.Identity(),
    }
    return RedenBlock(4, 5, 3, effects=effects, **settings | changes)


class TestRandomEffects:
    def test_starts_as_told(self):
        table = RandomEffects(200, 100, EFFECTS)
        torch.testing.assert_close(table.posterior_sd, torch.full((200, 100), 0.2))
        torch.testing.assert_close(table.prior_sd, torch.tensor(0.3))
        assert table.loc.std().item() == pytest.approx(0.5, rel=0.02)

    def test_remembers_how_it_started(self, table):
        table.log_prior_sd.data.fill_(2.0)
        assert (table.start.prior_sd, table.start.posterior_sd) == (0.3, 0.2)

    def test_is_given_posterior_sds(self, table):
        loc = table.loc.detach().clone()
        sd = torch.logspace(-4, 1.5, 15).reshape(3, 5)
        table.set_posterior_sd(sd)
        torch.testing.assert_close(table.posterior_sd, sd, rtol=1e-3, atol=0)
        assert torch.equal(table.loc, loc)

    @pytest.mark.parametrize("sd", [0.0, 1e-12, 1e-5])
    def test_keeps_a_posterior_proper(self, table, sd):
        table.set_posterior_sd(torch.full((3, 5), sd))
        assert table.rho.isfinite().all()
        assert (table.posterior_sd > 0).all()
        assert table.posterior_sd.max() < 1e-4
        assert table.kl().isfinite()

    @pytest.mark.parametrize("learn_prior", [True, False])
    def test_prior_is_learned_or_not(self, learn_prior):
        table = RandomEffects(3, 5, replace(EFFECTS, learn_prior=learn_prior))
        table.kl().backward()
        assert (table.log_prior_sd.grad is not None) == learn_prior

    def test_kl(self, table, distributions):
        torch.testing.assert_close(table.kl(), kl_divergence(*distributions).sum())

    def test_learned_prior_rests_where_it_has_the_spread_of_the_effects(self, table):
        second_moment = (table.loc.square() + table.posterior_sd.square()).mean()
        table.log_prior_sd.data = second_moment.detach().sqrt().log()
        table.kl().backward()
        assert table.log_prior_sd.grad.item() == pytest.approx(0, abs=1e-4)

    def test_kl_of_one_draw(self, table, distributions):
        posterior, prior = distributions
        noise = torch.randn(3, 5)
        value = table.loc + table.posterior_sd * noise
        expected = (posterior.log_prob(value) - prior.log_prob(value)).sum()
        torch.testing.assert_close(table.kl_of_draw(noise), expected)

    @torch.no_grad()
    def test_kl_of_draws_has_the_right_mean(self, table):
        draws = torch.stack([table.kl_of_draw() for _ in range(2000)])
        standard_error = draws.std() / len(draws) ** 0.5
        assert (draws.mean() - table.kl()).abs() < 5 * standard_error

    @torch.no_grad()
    def test_draws_follow_the_posterior(self, table):
        draws = torch.stack([table.draw() for _ in range(4000)])
        sd = table.posterior_sd
        assert ((draws.mean(0) - table.loc).abs() < 5 * sd / 4000**0.5).all()
        torch.testing.assert_close(draws.std(0), sd, rtol=0.06, atol=0)

    def test_draws_of_a_generator_repeat_and_leave_the_global_one_alone(self, table):
        before = torch.get_rng_state()
        first, again, other = (table.draw(torch.Generator().manual_seed(i)) for i in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(before, torch.get_rng_state())

    def test_lookup_equals_one_hot_product(self, table):
        expected = F.one_hot(BATCH, 3).float() @ table.loc
        torch.testing.assert_close(table(BATCH, sample=False), expected)

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("sample", [True, False])
    def test_levels_that_it_does_not_have_are_without_effects(self, table, sample, training):
        effects = table.train(training)(torch.tensor([-1, 2, 3]), sample=sample)
        assert (effects == 0).all(1).tolist() == [True, False, True]
        effects.sum().backward()
        assert table.loc.grad.sum(1).tolist() == [0, 0, 5]

    def test_one_draw_serves_the_whole_minibatch(self, table):
        first, second = table(BATCH, sample=True), table(BATCH, sample=True)
        assert torch.equal(first[1], first[5])
        assert not torch.equal(first[1], first[3])
        assert not torch.equal(first, second)

    @pytest.mark.parametrize("sample", [True, False])
    def test_a_draw_is_what_is_looked_up(self, table, sample):
        draw = torch.arange(15.0).reshape(3, 5)
        assert torch.equal(table(BATCH, sample=sample, draw=draw), draw[BATCH])

    def test_only_some_batches_are_given_posterior_sds(self, table):
        before = table.posterior_sd.detach().clone()
        table.set_posterior_sd(torch.tensor(0.5), slice(1, None))
        torch.testing.assert_close(table.posterior_sd[1:], torch.full((2, 5), 0.5))
        assert torch.equal(table.posterior_sd[0], before[0])

    @pytest.mark.parametrize("is_kept", [False, True])
    @pytest.mark.parametrize("loads", [False, True])
    def test_kept_posterior_sds_are_those_of_now(self, table, is_kept, loads):
        """Also when a part is given others after all have been loaded."""
        if is_kept:
            assert torch.equal(table.kept_sd, table.posterior_sd)
        if loads:
            table.load_state_dict({k: v + 0.5 for k, v in table.state_dict().items()})
        table.set_posterior_sd(torch.tensor(0.7), slice(1, None))
        torch.testing.assert_close(table.kept_sd, table.posterior_sd)
        assert not table.kept_sd.requires_grad


class TestRedenBlock:
    def test_formula(self):
        block = make_block(dense_activation=torch.tanh)
        x, one_hot = torch.randn(len(BATCH), 4), F.one_hot(BATCH, 3).float()
        h = F.layer_norm(torch.tanh(block.dense(x)), (5,))
        expected = F.selu(h * (1 + one_hot @ block.slope.loc) + one_hot @ block.bias.loc)
        torch.testing.assert_close(block(x, BATCH, sample=False), expected)

    def test_effects_of_zero_leave_a_dense_layer(self):
        block, plain = make_block(replace(EFFECTS, mean_sd=0.0)), make_block(None)
        plain.load_state_dict(block.state_dict(), strict=False)
        x = torch.randn(len(BATCH), 4)
        ours, expected = block(x, BATCH, sample=False), plain(x, BATCH, sample=False)
        torch.testing.assert_close(ours, expected)

    def test_without_effects_the_batch_does_not_matter(self):
        block = make_block(None)
        x = torch.randn(len(BATCH), 4)
        assert not any(isinstance(m, RandomEffects) for m in block.modules())
        assert torch.equal(block(x, BATCH, sample=True), block(x, BATCH.flip(0), sample=True))

    def test_effects_of_several_factors_add_up(self):
        block = make_block(n_crossed=(2,)).eval()
        x, levels = torch.randn(len(BATCH), 4), torch.stack([BATCH, BATCH % 2], dim=1)
        levels[0, 1] = -1  # the population of the second factor
        slope, bias = (
            table.loc[BATCH] + crossed.loc[BATCH % 2] * (levels[:, 1:] >= 0)
            for table, crossed in zip(
                (block.slope, block.bias), block.crossed[0].values(), strict=True
            )
        )
        expected = F.selu(F.layer_norm(block.dense(x), (5,)) * (1 + slope) + bias)
        torch.testing.assert_close(block(x, levels, sample=False), expected)

    def test_takes_tables_of_a_draw_by_name(self):
        block, given = make_block(n_crossed=(2,)), make_block(n_crossed=(2,))
        draw = {name: table.data for name, table in given.named_parameters() if "loc" in name}
        draw = {name.removesuffix(".loc"): table for name, table in draw.items()}
        assert set(draw) == {"slope", "bias", "crossed.0.slope", "crossed.0.bias"}
        given.load_state_dict(block.state_dict() | {f"{k}.loc": v for k, v in draw.items()})
        x, levels = torch.randn(len(BATCH), 4), torch.stack([BATCH, BATCH % 2], dim=1)
        ours = block(x, levels, sample=True, draw=draw)
        assert torch.equal(ours, given(x, levels, sample=False))

    def test_a_missing_factor_is_an_error(self):
        block = make_block(n_crossed=(2,))
        with pytest.raises(ValueError, match=r"shape \(7, 1\) do not fit 2 factor"):
            block(torch.randn(len(BATCH), 4), BATCH, sample=False)

    def test_gradient_reaches_only_the_batches_that_are_there(self):
        block = make_block()
        there = torch.tensor([0, 2])
        block(torch.randn(2, 4), there, sample=True).sum().backward()
        for effects in (block.slope, block.bias):
            for parameter in (effects.loc, effects.rho):
                assert (parameter.grad[there] != 0).all()
                assert (parameter.grad[1] == 0).all()


class TestCommonEffects:
    """What all batches share, against generalised least squares."""

    @pytest.fixture
    def table(self):
        """Six batches of different precision; posteriors around a fixed effect."""
        table = RandomEffects(6, 5, EFFECTS)
        self.precision = 10.0 ** torch.linspace(0, 3, 6)[:, None].expand(6, 5)
        self.y = 0.03 + 0.05 * torch.randn(6, 5)
        total = self.precision + 1 / table.prior_sd.detach() ** 2
        table.set_posterior_sd(total.rsqrt())
        table.loc.data = self.precision * self.y / total
        return table

    def expected(self):
        """Intercept of ``y ~ N(c, prior variance + 1 / precision)`` for each unit."""
        weights = 1 / (0.3**2 + 1 / self.precision)
        return (weights * self.y).sum(0) / weights.sum(0)

    def test_is_the_intercept_of_generalised_least_squares(self, table):
        torch.testing.assert_close(table.centre(), self.expected(), rtol=1e-3, atol=1e-5)

    def test_leaves_the_predictors_of_the_rest(self, table):
        table.centre()
        shrunk = self.precision / (self.precision + 1 / 0.3**2)
        expected = shrunk * (self.y - self.expected())
        torch.testing.assert_close(table.loc.data, expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(table.loc.sum(0), torch.zeros(5), rtol=0, atol=1e-4)

    def test_moves_little_at_once(self, table):
        table.loc.data += 5
        assert torch.equal(table.centre(), torch.full((5,), 0.1))

    @pytest.mark.parametrize("normalization", ["layer", "none"])
    @pytest.mark.parametrize("kind", ["slope", "bias"])
    def test_a_block_computes_what_it_did(self, normalization, kind):
        """As far as the data determine the effects, here wholly."""
        block = make_block(normalization=normalization).eval()
        nn.init.normal_(block.dense.bias)
        for name in ("slope", "bias"):
            table = getattr(block, name)
            table.set_posterior_sd(torch.full((3, 5), 1e-5))
            table.loc.data = 0.03 * (1 + torch.randn(3, 5)) if name == kind else torch.zeros(3, 5)
        x = torch.randn(7, 4)
        before = block(x, BATCH, sample=False)
        block.centre_effects()
        torch.testing.assert_close(block(x, BATCH, sample=False), before, rtol=1e-4, atol=1e-5)
        assert getattr(block, kind).loc.sum(0).abs().max() < 1e-5

    def test_with_slopes_and_biases_too(self):
        block = make_block(normalization="none").eval()
        for table in (block.slope, block.bias):
            table.set_posterior_sd(torch.full((3, 5), 1e-5))
            table.loc.data = 0.03 * (1 + torch.randn(3, 5))
        x = torch.randn(7, 4)
        before = block(x, BATCH, sample=False)
        block.centre_effects()
        torch.testing.assert_close(block(x, BATCH, sample=False), before, rtol=1e-4, atol=1e-5)

    def test_stay_where_a_function_is_in_between(self):
        block = make_block(normalization="none", dense_activation=F.selu)
        before = {name: value.clone() for name, value in block.state_dict().items()}
        block.centre_effects()
        assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


class TestSquares:
    def test_are_those_of_the_cells_own_losses(self, table):
        table.averages_squares = True
        x = torch.randn(7, 5)
        loss = (x - table(BATCH, sample=False)).square().sum(1).mean()
        loss.backward()
        own = 2 * (x - table.loc.detach()[BATCH])  # derivative of each cell's loss, but for sign
        torch.testing.assert_close(table.mean_square, own.square().mean())

    def test_are_left_alone_without_being_asked_for(self, table):
        table(BATCH, sample=True).sum().backward()
        assert table.mean_square is None


def test_a_batch_without_cells_gives_nothing_to_the_fixed_effect():
    table = RandomEffects(3, 5, replace(EFFECTS, posterior_sd=0.05))
    table.loc.data[1] = 0
    table.centre()
    assert not table.loc[1].any()
