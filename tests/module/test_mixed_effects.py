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
    """Its cells leave little doubt about the sum of fixed and random effects."""
    _, grown, _ = grown
    generator = torch.Generator().manual_seed(0)
    draws = [grown.draw_deviation(generator) for _ in range(300)]
    of_sum = torch.stack([common + effects[N_FITTED] for common, effects in draws])
    sd = grown.sd[N_FITTED]
    large = sd > 0.5 * sd.max()
    assert of_sum.mean(0)[large].abs().mean() < 0.1 * sd[large].mean()
    assert (of_sum.std(0)[large] / sd[large]).mean().item() == pytest.approx(1, abs=0.15)


def test_new_and_fitted_batches_have_the_same_fixed_effects_in_a_draw(grown):
    """So that their difference is as uncertain as their groups' means are."""
    _, grown, _ = grown
    generator = torch.Generator().manual_seed(0)
    draws = [grown.draw_deviation(generator) for _ in range(300)]
    effects = torch.stack([effects for _, effects in draws])
    for batch in (0, N_FITTED):
        of_sum = torch.stack([common + x[batch] for common, x in draws]).var(0)[:, ::2]
        # The variance of a mean of about 100 cells.
        assert of_sum.mean() < 0.02
    to_new = (effects[:, N_FITTED] - effects[:, 0]).var(0)[:, ::2].mean()
    between_fitted = (effects[:, 1] - effects[:, 0]).var(0)[:, ::2].mean()
    assert to_new == pytest.approx(between_fitted.item(), rel=0.3)
