"""Effects on genes of batches that were added to a fitted model."""

import numpy as np
import pytest
import torch

from scmedal_tools.module._mixed_effects import MixedEffects
from scmedal_tools.train._mixed_model import GroupSums, fit_mixed_model

N_FITTED, N_STATES, N_GENES = 8, 3, 200
RAISED = 5


@pytest.fixture(scope="module")
def grown():
    """Eight batches, in which only every second gene differs, and a ninth that raises a gene."""
    rng = np.random.default_rng(0)
    n = 2_700
    batch, state = rng.integers(N_FITTED + 1, size=n), rng.integers(N_STATES, size=n)
    effects = rng.normal(0, 0.5, size=(N_FITTED + 1, N_GENES))
    effects[:, 1::2] = 0
    effects[N_FITTED, RAISED] = 2.0
    x = (effects[batch] + rng.normal(size=(n, N_GENES))).astype(np.float32)
    likeness = torch.eye(N_STATES).double()
    known = batch < N_FITTED
    reference = GroupSums(N_FITTED, N_STATES, N_GENES)
    reference.add(x[known], batch[known], state[known])
    fitted = MixedEffects(N_FITTED, N_STATES, N_GENES)
    fitted.set_model(fit_mixed_model(reference, likeness))
    grown = MixedEffects(N_FITTED + 1, N_STATES, N_GENES, n_new=1)
    for name, values in fitted.named_buffers():
        here = getattr(grown, name)
        here[: len(values)] = values
    new = GroupSums(N_FITTED + 1, N_STATES, N_GENES)
    new.add(x[~known], batch[~known], state[~known])
    grown.learn_new(new.sizes, new.sums / np.maximum(new.sizes, 1)[:, :, None])
    return fitted, grown, effects


def test_the_others_keep_theirs(grown):
    fitted, grown, _ = grown
    for name, values in fitted.named_buffers():
        assert torch.equal(getattr(grown, name)[: len(values)], values), name


def test_genes_may_differ_that_did_not_before(grown):
    fitted, grown, _ = grown
    assert fitted.loc[:, :, RAISED].abs().max() < 0.3
    assert grown.loc[N_FITTED, :, RAISED].mean().item() == pytest.approx(2, abs=0.3)
    unchanged = np.setdiff1d(np.arange(1, N_GENES, 2), [RAISED])
    assert grown.loc[N_FITTED, :, unchanged].abs().mean() < 0.02


def test_effects_of_the_new_batch_are_found(grown):
    _, grown, effects = grown
    found = grown.loc[N_FITTED].mean(0).numpy()
    # They are counted from the mean of the batches that were fitted.
    truth = effects[N_FITTED] - effects[:N_FITTED].mean(0)
    assert np.corrcoef(found[::2], truth[::2])[0, 1] > 0.97


def test_draws_of_the_new_batch_have_its_posterior(grown):
    _, grown, _ = grown
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([grown.draw_deviation(generator)[1][N_FITTED] for _ in range(300)])
    sd = grown.sd[N_FITTED]
    large = sd > 0.5 * sd.max()
    assert drawn.mean(0)[large].abs().mean() < 0.1 * sd[large].mean()
    np.testing.assert_allclose(drawn.std(0)[large], sd[large], rtol=0.25)
