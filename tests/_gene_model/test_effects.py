"""Effects on single genes: what is predicted for a cell under some levels."""

import numpy as np
import pytest
import torch

from scmedal_tools._gene_model import NETWORK_SHARE, GeneEffects, GeneEffectsDraw
from scmedal_tools.module._levels import POPULATION

N_LEVELS, N_STATES, N_GENES, N_LATENT, N_CELLS = (4, 2), 3, 5, 2, 20
CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], dtype=np.float32)


@pytest.fixture(params=[1, 2], ids=["one factor", "two factors"])
def effects(request):
    """Effects in which no two numbers agree by chance; the first genes follow the guess."""
    n_levels = N_LEVELS[: request.param]
    effects = GeneEffects(n_levels, N_GENES, N_LATENT, N_STATES)
    effects.set_centres(np.tile(CENTRES, (n_levels[0] + 1, 1, 1)))
    generator = torch.Generator().manual_seed(0)
    for factor in effects.factors:
        for table in (factor.fixed, factor.loc, factor.content):
            table.copy_(torch.randn(table.shape, generator=generator))
        half = factor.probabilities.shape[1] // 2
        share = torch.linspace(1, 0, N_GENES)
        factor.probabilities[:, 1], factor.probabilities[:, half + 1] = 1 - share, share
        factor.sizes.fill_(10)
        factor.scale.fill_(1)
        factor.means.copy_(torch.randn(factor.means.shape, generator=generator))
    return effects


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
    for i in range(len(values)):
        value = population[i] + NETWORK_SHARE * follows[i] * (network[i] - population[i])
        value = value + fixed[state[i]]
        for factor, table in enumerate(tables):
            if 0 <= levels[i, factor] < len(table):
                value = value + table[levels[i, factor], state[i]]
            if 0 <= own[i, factor] < len(effects.factors[factor].content):
                value = value - effects.factors[factor].content[own[i, factor], state[i]].numpy()
        values[i] = value
    return values


def by_means(effects, cells):
    follows = np.tile(np.linspace(1, 0, N_GENES), (N_CELLS, 1))
    tables = [factor.loc.numpy() for factor in effects.factors]
    return predicted(effects, cells, follows, effects.factors[0].fixed.numpy(), tables)


def test_by_the_means(effects, cells):
    np.testing.assert_allclose(effects(*cells), by_means(effects, cells), rtol=1e-4, atol=1e-5)


def test_of_some_genes(effects, cells):
    population, network, *rest = cells
    genes = torch.tensor([3, 1])
    ours = effects(population[:, genes], network[:, genes], *rest, genes=genes)
    torch.testing.assert_close(ours, effects(*cells)[:, genes])


@pytest.mark.parametrize("level", [POPULATION, 4, 7])
def test_in_the_population_and_in_levels_that_are_not_known(effects, cells, level):
    """Genes follow what the network says there, as in any level; the tables have nothing."""
    cells[3][::2, 0] = level
    np.testing.assert_allclose(effects(*cells), by_means(effects, cells), rtol=1e-4, atol=1e-5)


def test_cells_of_unknown_levels_keep_what_their_content_has(effects, cells):
    cells[4][::3] = POPULATION
    np.testing.assert_allclose(effects(*cells), by_means(effects, cells), rtol=1e-4, atol=1e-5)


class TestDraws:
    @pytest.fixture
    def draw(self, effects):
        """One in which every level has its own genes that follow, with one unseen level each."""
        generator = torch.Generator().manual_seed(2)
        tables = [
            torch.randn(len(f.loc) + 1, N_STATES, N_GENES, generator=generator)
            for f in effects.factors
        ]
        follows = torch.randint(2, (len(tables[0]), N_GENES), generator=generator).float()
        fixed = torch.randn(N_STATES, N_GENES, generator=generator)
        return GeneEffectsDraw(follows, fixed, tables)

    def by_draw(self, effects, cells, draw):
        batch = cells[3][:, 0]
        # The population follows as the first batch.
        rows = torch.where((batch >= 0) & (batch < len(draw.follows)), batch, 0)
        tables = [table.numpy() for table in draw.effects]
        follows = draw.follows[rows].numpy()
        return predicted(effects, cells, follows, draw.fixed.numpy(), tables)

    def test_are_what_is_added(self, effects, cells, draw):
        ours = effects(*cells, draw=draw)
        expected = self.by_draw(effects, cells, draw)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(ours - effects(*cells)).max() > 0.1

    def test_unseen_levels_have_their_own(self, effects, cells, draw):
        population, network, *_ = cells
        cells[3][:, 0] = 4
        ours = effects(*cells, draw=draw)
        expected = self.by_draw(effects, cells, draw)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
        # Where its genes follow, the network is in it, and else it is not.
        moved = effects(population, network + 1, *cells[2:], draw=draw) - ours
        expected = (NETWORK_SHARE * draw.follows[4]).expand(N_CELLS, -1)
        torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)

    def test_the_population_follows(self, effects, cells, draw):
        """With a swap of the decoder alone the network has effects there too."""
        cells[3][:, 0] = POPULATION
        ours = effects(*cells, draw=draw)
        expected = self.by_draw(effects, cells, draw)
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)

    def test_are_of_all_factors(self, effects):
        n_unseen = [3, 1][: len(effects.factors)]
        draw = effects.draw(torch.Generator().manual_seed(0), n_unseen)
        n_rows = [n + new for n, new in zip(N_LEVELS, n_unseen, strict=False)]
        assert [len(table) for table in draw.effects] == n_rows
        assert draw.follows.shape == (7, N_GENES)
        assert set(draw.follows.unique().tolist()) == {0.0, 1.0}
        # The first gene follows for certain and the last does not, in all levels.
        assert (draw.follows[:, 0] == 1).all()
        assert (draw.follows[:, -1] == 0).all()
        again = effects.draw(torch.Generator().manual_seed(0), n_unseen)
        assert torch.equal(again.fixed, draw.fixed)


def test_averages_of_further_factors_count_what_the_batch_follows():
    """Their own models have no guess: it is the batch's that has weighed it."""
    effects = GeneEffects((4, 2), N_GENES, N_LATENT, N_STATES)
    half = effects.factors[0].probabilities.shape[1] // 2
    effects.factors[0].probabilities[:, half + 1] = torch.linspace(1, 0, N_GENES)
    effects.factors[0].probabilities[:, 1] = torch.linspace(0, 1, N_GENES)
    effects.factors[1].probabilities[:, 0] = 1
    for factor in effects.factors:
        factor.sizes.fill_(10)
        factor.scale.fill_(1)
    weights = torch.full((N_STATES,), 1 / N_STATES)
    of_network = torch.tensor([[2.0], [-2.0]]).expand(2, N_GENES)
    ours = effects.averages(1, weights, of_network)
    expected = NETWORK_SHARE * of_network * torch.linspace(1, 0, N_GENES)
    torch.testing.assert_close(ours.mean, expected.double(), rtol=1e-5, atol=1e-6)


def test_new_batches_start_with_the_centres_over_all():
    effects = GeneEffects((4,), N_GENES, N_LATENT, N_STATES, n_new=(1,))
    effects.set_centres(np.random.default_rng(0).normal(size=(5, N_STATES, N_LATENT)))
    before = effects.batch_centres.clone()
    effects.start_new_levels()
    assert torch.equal(effects.batch_centres[3], effects.centres)
    assert torch.equal(effects.batch_centres[:3], before[:3])
