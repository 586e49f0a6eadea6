"""Effects on single genes: what is added to a cell, and how far draws spread."""

import numpy as np
import pytest
import torch
from scmedal_tools.module._gene_effects import GeneEffects
from scmedal_tools.module._mixed_equations import VARIANCES, MixedEquations, covariances
from scmedal_tools.train._mixed_model import MixedModel

from scmedal_tools.module._levels import POPULATION

N_BATCH, N_STATES, N_GENES, N_LATENT = 4, 3, 5, 2
CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], dtype=np.float32)
WEIGHT, DISPERSION = 0.3, 2.5


def mixed_model(seed: int) -> MixedModel:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 40, size=(N_BATCH, N_STATES)).astype(float)
    scale = rng.uniform(0.5, 2, size=(N_STATES, N_GENES))
    means = np.where(sizes[:, :, None], rng.normal(size=(N_BATCH, N_STATES, N_GENES)), 0.0)
    # Every gene has one of these for certain.
    chosen = [VARIANCES.index(x) for x in [(0.064, 0.016, False), (0.256, 0.064, True)]]
    probabilities = np.eye(len(VARIANCES))[np.resize(chosen, N_GENES)]
    likeness = 0.5 + 0.5 * np.eye(N_STATES)
    loc, sd = np.empty((2, *means.shape))
    common = np.empty_like(scale)
    considered = covariances(torch.from_numpy(likeness))
    for gene, point in enumerate(np.resize(chosen, N_GENES)):
        equations = MixedEquations(torch.from_numpy(sizes), considered[point])
        y = torch.from_numpy(means[:, :, [gene]])
        common[:, gene] = equations.common(y)[:, 0]
        loc[:, :, gene] = equations.effects(y, equations.common(y))[:, :, 0]
        sd[:, :, gene] = equations.variance().sqrt()
    return MixedModel(
        sizes, scale, means, probabilities, likeness, scale * common, scale * loc, scale * sd, sd
    )


MODELS = mixed_model(0), mixed_model(1)


@pytest.fixture
def effects():
    effects = GeneEffects(N_BATCH, N_GENES, N_LATENT, N_STATES)
    effects.set_centres(CENTRES)
    effects.set_models(*([model] for model in MODELS), WEIGHT, DISPERSION)
    return effects


@pytest.fixture
def cells():
    rng = np.random.default_rng(2)
    state = rng.integers(N_STATES, size=20)
    content = CENTRES[state] + rng.uniform(-1, 1, size=(20, N_LATENT))
    population, own = rng.normal(size=(2, 20, N_GENES))
    return population, own, content, rng.integers(N_BATCH, size=20), state


def as_tensors(population, own, content, batch):
    arrays = (population, own, content)
    return (*(torch.as_tensor(x, dtype=torch.float32) for x in arrays), torch.as_tensor(batch))


def test_both_models_are_averaged(effects, cells):
    *inputs, state = cells
    population, own, _, batch = inputs
    parts = [
        x + model.common[state] + model.loc[batch, state]
        for x, model in zip((population, own), MODELS, strict=True)
    ]
    expected = (1 - WEIGHT) * parts[0] + WEIGHT * parts[1]
    np.testing.assert_allclose(effects(*as_tensors(*inputs)), expected, rtol=1e-5)


def test_the_population_has_the_common_part_only(effects, cells):
    population, own, content, batch, state = cells
    common = (1 - WEIGHT) * MODELS[0].common[state] + WEIGHT * MODELS[1].common[state]
    expected = (1 - WEIGHT) * population + WEIGHT * own + common
    nobody = np.full_like(batch, POPULATION)
    inputs = as_tensors(population, own, content, nobody)
    np.testing.assert_allclose(effects(*inputs), expected, rtol=1e-4, atol=1e-6)


def test_the_population_of_a_draw_follows_its_models(effects, cells):
    """So that without effects and posterior the shift to it is 0 in every draw."""
    inputs = as_tensors(*cells[:4])
    nobody = torch.full_like(inputs[3], POPULATION)
    for model in (*effects.without_network, *effects.with_network):
        model.loc.zero_()
        model.probabilities.zero_()[:, 0] = 1
    draw = effects.draw(torch.Generator().manual_seed(0))
    population = effects(*inputs[:3], nobody, draw=draw)
    torch.testing.assert_close(effects(*inputs, draw=draw), population)


def test_a_cell_is_in_the_nearest_state(effects, cells):
    *_, content, _, state = cells
    content = torch.as_tensor(content, dtype=torch.float32)
    np.testing.assert_array_equal(effects.state_of(content), state)


def test_centres_that_are_missing_are_repeated():
    effects = GeneEffects(N_BATCH, N_GENES, N_LATENT, 5)
    effects.set_centres(CENTRES[:2])
    states = effects.state_of(torch.tensor([[0.1, 0.0], [3.9, 0.0]]))
    assert states.tolist() == [0, 1]


class TestDraws:
    """The posterior is that of a mixed model on cells of variance scale ** 2."""

    @pytest.fixture
    def draws(self, effects):
        generator = torch.Generator().manual_seed(0)
        return [effects.draw(generator) for _ in range(4_000)]

    def test_moments(self, draws):
        """Of the random effects: the mean is right, and so is the spread, times the dispersion."""
        model = MODELS[0]
        values = torch.stack([draw.effects[0] for draw in draws]).numpy()
        np.testing.assert_allclose(values.mean(0), 0, atol=0.12)
        np.testing.assert_allclose(values.std(0), DISPERSION**0.5 * model.sd, rtol=0.08)

    def test_of_the_fixed_effects_move_with_the_random_ones(self, draws):
        """Group means that are known well leave no doubt about the sum of both."""
        values = [draw.common + draw.effects[0] for draw in draws]
        both = torch.stack(values).numpy().var(0)
        apart = np.square(torch.stack([draw.common for draw in draws]).numpy()).mean(0)
        large = MODELS[0].sizes.argmax(0)
        assert np.all(both[large, range(N_STATES)] < apart)

    def test_a_gene_follows_one_of_the_models(self, draws):
        weights = torch.stack([draw.weight for draw in draws])
        assert set(weights.unique().tolist()) == {0.0, 1.0}
        assert weights.mean().item() == pytest.approx(WEIGHT, abs=0.02)

    def test_are_what_is_added(self, effects, draws, cells):
        *inputs, state = cells
        population, own, _, batch = inputs
        draw = draws[0]
        values = effects(*as_tensors(*inputs), draw=draw).numpy()
        follows = draw.weight.numpy() == 1
        deviations = (draw.common + draw.effects[0]).numpy()[batch, state]
        for x, model, genes in ((population, MODELS[0], ~follows), (own, MODELS[1], follows)):
            expected = x + model.common[state] + model.loc[batch, state] + deviations
            np.testing.assert_allclose(values[:, genes], expected[:, genes], rtol=1e-4, atol=1e-5)
        assert 0 < follows.sum() < N_GENES
