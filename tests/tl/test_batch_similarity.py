"""Distances between batches against numpy on counterfactuals and on effects set by hand."""

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from scmedal_tools import tl


@pytest.fixture(scope="module")
def trained(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


def test_is_of_differences_within_a_draw(trained):
    distances = tl.batch_similarity(trained, n_samples=5, progress=False)
    batches = list(trained.batch_names)
    assert list(distances.index) == list(distances.columns) == batches
    swapped = trained.get_counterfactual_expression(
        indices=trained.train_indices,
        transform_batch=batches,
        n_samples=5,
        return_mean=False,
        return_numpy=True,
    )
    means = {name: values.mean(1) for name, values in swapped.items()}
    for a in batches:
        for b in batches:
            expected = np.sqrt(np.square(means[a] - means[b]).mean())
            np.testing.assert_allclose(distances.loc[a, b], expected, rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_of_known_effects(known_effects):
    model, loc, sd = known_effects
    distances = tl.batch_similarity(model, n_samples=200, progress=False).to_numpy()
    squares = np.square(loc[:, None] - loc) + np.square(sd)[:, None] + np.square(sd)
    expected = np.sqrt(squares.mean(2)) * (1 - np.eye(len(loc)))
    np.testing.assert_allclose(distances, expected, rtol=0.03)


def test_batches_of_which_little_is_known_are_far_from_all(known_effects):
    """The first two have the same mean effects, but those of the second are uncertain."""
    model, *_ = known_effects
    bias = model.module.output.bias
    bias.loc.data[1] = bias.loc.data[0]
    uncertain = bias.posterior_sd.clone()
    uncertain[:], uncertain[1], uncertain[2] = 0.01, 2.0, 2.0
    bias.set_posterior_sd(uncertain)
    distances = tl.batch_similarity(model, progress=False).to_numpy()
    assert np.unravel_index(distances.argmax(), distances.shape) in [(1, 2), (2, 1)]
    assert distances[0, 1] > distances[0, 3]


def test_can_be_clustered(trained):
    distances = tl.batch_similarity(trained, n_samples=1, n_cells=20, progress=False)
    tree = linkage(squareform(distances.to_numpy()), "average")
    assert tree.shape == (3, 4)


def test_of_some_cells(trained):
    options = {"n_samples": 2, "progress": False}
    every = tl.batch_similarity(trained, **options)
    some = tl.batch_similarity(trained, n_cells=30, **options)
    other = tl.batch_similarity(trained, n_cells=30, seed=1, **options)
    assert not np.allclose(some, every, rtol=1e-4)
    assert not np.allclose(some, other, rtol=1e-4)


def test_leaves_the_model_as_it_was(trained):
    before = trained.get_reconstruction(return_numpy=True)
    state = torch.get_rng_state()
    tl.batch_similarity(trained, n_samples=2, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(trained.get_reconstruction(return_numpy=True), before)


class TestErrors:
    def test_no_draws(self, trained):
        with pytest.raises(ValueError, match="n_samples=0 has to be at least 1"):
            tl.batch_similarity(trained, n_samples=0)

    def test_untrained(self, build, adata):
        with pytest.raises(RuntimeError, match="not trained yet"):
            tl.batch_similarity(build("SCMEDAL_RE", adata))

    def test_without_random_effects(self, build, adata):
        with pytest.raises(TypeError, match="SCMEDAL_FE has no random effects"):
            tl.batch_similarity(build("SCMEDAL_FE", adata))
