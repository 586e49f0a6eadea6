"""Effects on single genes: what is predicted for a cell under some levels."""

import numpy as np
import pytest
import torch

from scmedal_tools._gene_model import NETWORK_SHARE, GeneEffects, GeneEffectsDraw
from scmedal_tools.module._factor_levels import POPULATION_LEVEL

N_LEVELS, N_STATES, N_GENES, N_LATENT, N_CELLS = (4, 2), 3, 5, 2, 20
CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], dtype=np.float32)


N_COPIES = 100
FOLLOWS = torch.linspace(1, 0, N_GENES)


@pytest.fixture(params=[1, 2], ids=["one factor", "two factors"])
def effects(request):
    """Effects in which no two numbers agree by chance; the first genes follow the guess."""
    n_levels = N_LEVELS[: request.param]
    effects = GeneEffects(n_levels, N_GENES, N_LATENT, N_STATES)
    effects.set_centres(np.tile(CENTRES, (n_levels[0] + 1, 1, 1)))
    effects.follows.copy_(FOLLOWS)
    generator = torch.Generator().manual_seed(0)
    tables = "fixed", "loc", "content", "correction", "fixed_correction"
    for factor in effects.factors:
        for name in tables:
            table = getattr(factor, name)
            table.copy_(torch.randn(table.shape, generator=generator))
        factor.probabilities.copy_(torch.rand(factor.probabilities.shape, generator=generator))
        factor.probabilities /= factor.probabilities.sum(1, keepdim=True)
        factor.sizes.copy_(torch.randint(1, 20, factor.sizes.shape, generator=generator))
        factor.scale.copy_(0.5 + torch.rand(factor.scale.shape, generator=generator))
        factor.means.copy_(torch.randn(factor.means.shape, generator=generator))
    return effects


@pytest.fixture
def many(effects, repeat_genes):
    """The effects with copies of every gene, which are drawn independently of each other."""
    n_levels = [len(factor.loc) for factor in effects.factors]
    many = GeneEffects(n_levels, N_COPIES * N_GENES, N_LATENT, N_STATES)
    repeat_genes(effects, many)
    return many


@pytest.fixture
def cells(effects):
    """Population, network, state, levels to predict under, and the cells' own ones."""
    generator = torch.Generator().manual_seed(1)
    population, network = torch.randn(2, N_CELLS, N_GENES, generator=generator)
    state = torch.randint(N_STATES, (N_CELLS,), generator=generator)
    levels, own = (
        torch.stack(
            [torch.randint(len(f.loc), (N_CELLS,), generator=generator) for f in effects.factors],
            dim=1,
        )
        for _ in range(2)
    )
    return population, network, state, levels, own


def predicted(effects, cells, follows, fixed, tables):
    """Cell by cell, as the formula has it; levels that a table does not have do nothing."""
    population, network, state, levels, own = (x.numpy() for x in cells)
    values = np.empty_like(population)
    first = effects.factors[0]
    for i in range(len(values)):
        guessed = NETWORK_SHARE * (network[i] - population[i])
        guessed = guessed + first.fixed_correction[state[i]].numpy()
        value = population[i] + fixed[state[i]]
        of_factors = zip(effects.factors, tables, levels[i], own[i], strict=True)
        for factor, table, level, before in of_factors:
            if 0 <= level < len(table):
                value = value + table[level, state[i]]
            if 0 <= level < len(factor.correction):
                guessed = guessed + factor.correction[level, state[i]].numpy()
            if 0 <= before < len(factor.content):
                value = value - factor.content[before, state[i]].numpy()
        values[i] = value + follows * guessed
    return values


def expected_by(effects, cells, **options):
    """What the effects say of the cells."""
    population, network, state, levels, own = cells
    start = effects.level_free_part(population, state, own, **options)
    return effects(network, start, levels, **options)


def by_means(effects, cells):
    tables = [factor.loc.numpy() for factor in effects.factors]
    return predicted(effects, cells, FOLLOWS.numpy(), effects.factors[0].fixed.numpy(), tables)


def test_by_the_means(effects, cells):
    np.testing.assert_allclose(
        expected_by(effects, cells), by_means(effects, cells), rtol=1e-4, atol=1e-5
    )


def test_of_some_genes(effects, cells):
    population, network, *rest = cells
    genes = torch.tensor([3, 1])
    of_genes = (population[:, genes], network[:, genes], *rest)
    ours = expected_by(effects, of_genes, genes=genes)
    torch.testing.assert_close(ours, expected_by(effects, cells)[:, genes])


@pytest.mark.parametrize("genes", [None, torch.tensor([3, 1])])
def test_levels_of_all_cells_may_be_given_once(effects, cells, genes):
    """For several targets, some of which may not be known."""
    population, network, state, _, own = cells
    if genes is not None:
        population, network = population[:, genes], network[:, genes]
    start = effects.level_free_part(population, state, own, genes)
    targets = torch.tensor([[1, 1], [POPULATION_LEVEL, 0], [7, 1]])[:, None, : own.shape[1]]
    ours = effects(network.expand(3, -1, -1), start, targets, genes)
    for values, levels in zip(ours, targets, strict=True):
        alone = effects(network, start, levels.expand(N_CELLS, -1), genes)
        torch.testing.assert_close(values, alone)


@pytest.mark.parametrize("level", [POPULATION_LEVEL, 4, 7])
def test_in_the_population_and_in_levels_that_are_not_known(effects, cells, level):
    """Genes follow what the network says there, as in any level; the tables have nothing."""
    cells[3][::2, 0] = level
    np.testing.assert_allclose(
        expected_by(effects, cells), by_means(effects, cells), rtol=1e-4, atol=1e-5
    )


def test_cells_of_unknown_levels_keep_what_their_content_has(effects, cells):
    cells[4][::3] = POPULATION_LEVEL
    np.testing.assert_allclose(
        expected_by(effects, cells), by_means(effects, cells), rtol=1e-4, atol=1e-5
    )


class TestDraws:
    @pytest.fixture
    def draw(self, effects):
        """One with an unseen level of each factor; some genes follow."""
        generator = torch.Generator().manual_seed(2)
        tables = [
            torch.randn(len(f.loc) + 1, N_STATES, N_GENES, generator=generator)
            for f in effects.factors
        ]
        follows = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
        fixed = torch.randn(N_STATES, N_GENES, generator=generator)
        return GeneEffectsDraw(follows, fixed, tables)

    def by_draw(self, effects, cells, draw):
        tables = [table.numpy() for table in draw.effects]
        return predicted(effects, cells, draw.follows.numpy(), draw.fixed.numpy(), tables)

    def test_are_what_is_added(self, effects, cells, draw):
        ours = expected_by(effects, cells, draw=draw)
        expected = self.by_draw(effects, cells, draw)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(ours - expected_by(effects, cells)).max() > 0.1

    def test_unseen_levels_have_their_own(self, effects, cells, draw):
        population, network, *_ = cells
        cells[3][:, 0] = 4
        ours = expected_by(effects, cells, draw=draw)
        expected = self.by_draw(effects, cells, draw)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
        # Where genes follow, the network is in it, and else it is not.
        moved = expected_by(effects, (population, network + 1, *cells[2:]), draw=draw) - ours
        expected = (NETWORK_SHARE * draw.follows).expand(N_CELLS, -1)
        torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)

    def test_the_population_follows(self, effects, cells, draw):
        """With a swap of the decoder alone the network has effects there too."""
        cells[3][:, 0] = POPULATION_LEVEL
        ours = expected_by(effects, cells, draw=draw)
        expected = self.by_draw(effects, cells, draw)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)

    def test_are_of_all_factors(self, effects):
        n_unseen = [3, 1][: len(effects.factors)]
        draw = effects.draw(torch.Generator().manual_seed(0), n_unseen)
        n_rows = [n + new for n, new in zip(N_LEVELS, n_unseen, strict=False)]
        assert [len(table) for table in draw.effects] == n_rows
        assert draw.follows.shape == (N_GENES,)
        assert set(draw.follows.unique().tolist()) == {0.0, 1.0}
        # The first gene follows for certain and the last does not.
        assert draw.follows[0] == 1
        assert draw.follows[-1] == 0
        again = effects.draw(torch.Generator().manual_seed(0), n_unseen)
        assert torch.equal(again.fixed, draw.fixed)

    @pytest.mark.slow
    def test_follow_as_often_as_is_probable(self, many):
        generator = torch.Generator().manual_seed(0)
        follows = torch.stack([many.draw(generator).follows for _ in range(4)])
        often = follows.unflatten(1, (N_GENES, N_COPIES)).mean((0, 2))
        torch.testing.assert_close(often, FOLLOWS, atol=0.1, rtol=0)


@pytest.mark.slow
def test_averages_are_those_of_draws(effects, many):
    """Moments and chances of either sign, with genes that follow, may follow and do not."""
    n_calls, weights = 10, torch.tensor([0.5, 0.3, 0.2])
    n_draws = N_COPIES * n_calls
    generator = torch.Generator().manual_seed(3)
    draws = [many.draw(generator) for _ in range(n_calls)]
    assert not torch.equal(draws[0].fixed, draws[1].fixed)
    for i, factor in enumerate(effects.factors):
        of_network = torch.randn(len(factor.loc), N_GENES, generator=generator)
        ours = effects.averages(i, weights, of_network)
        values = []
        for draw in draws:
            of_states = draw.effects[i] + draw.follows * many.factors[i].correction
            mean = torch.einsum("s,ksg->kg", weights, of_states)
            guess = NETWORK_SHARE * of_network.repeat_interleave(N_COPIES, 1)
            of_copies = (mean + draw.follows * guess).unflatten(1, (N_GENES, N_COPIES))
            values.append(of_copies.movedim(2, 0))
        drawn = torch.cat(values).numpy()
        error = 5 * drawn.std(0) / n_draws**0.5
        assert np.all(np.abs(ours.mean.numpy() - drawn.mean(0)) < error)
        np.testing.assert_allclose(ours.sd, drawn.std(0), rtol=0.15)
        np.testing.assert_allclose(ours.negative, (drawn < -1e-6).mean(0), atol=0.08)
        np.testing.assert_allclose(ours.positive, (drawn > 1e-6).mean(0), atol=0.08)


def test_new_batches_start_with_the_centres_over_all():
    effects = GeneEffects((4,), N_GENES, N_LATENT, N_STATES, n_new=(1,))
    effects.set_centres(np.random.default_rng(0).normal(size=(5, N_STATES, N_LATENT)))
    before = effects.batch_centres.clone()
    effects.start_new_levels()
    assert torch.equal(effects.batch_centres[3], effects.centres)
    assert torch.equal(effects.batch_centres[:3], before[:3])
