"""What the content has of the batch: planted offsets and differences of composition."""

import numpy as np
import pytest

from scmedal_tools._gene_model import GroupSums, batch_share_of_content, share_of_new

N_BATCH, N_STATES, N_GENES = 4, 3, 5


def expression(means: np.ndarray, sizes: np.ndarray) -> GroupSums:
    """Sums of groups whose cells are all at the mean."""
    groups = GroupSums(*means.shape)
    groups.sizes[:] = sizes
    groups.sums[:] = sizes[:, :, None] * means
    return groups


def centred(values: np.ndarray, *axes: int) -> np.ndarray:
    for axis in axes:
        values = values - values.mean(axis, keepdims=True)
    return values


@pytest.fixture
def planted():
    """Means of the states, what a batch adds to all states, and what it adds to each."""
    rng = np.random.default_rng(0)
    of_states = rng.normal(size=(N_STATES, N_GENES))
    shared = centred(rng.normal(size=(N_BATCH, N_GENES)), 0)
    rest = centred(rng.normal(size=(N_BATCH, N_STATES, N_GENES)), 0, 1)
    return of_states, shared, rest


def levels_alone() -> np.ndarray:
    return np.arange(N_BATCH)[:, None]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_what_differs_within_a_state_is_the_batchs(planted, share):
    of_states, shared, rest = planted
    groups = expression(of_states + shared[:, None] + rest, np.full((N_BATCH, N_STATES), 50.0))
    found, (content,) = batch_share_of_content(groups, levels_alone(), [N_BATCH], share)
    np.testing.assert_allclose(found, of_states, atol=1e-8)
    np.testing.assert_allclose(content, shared[:, None] + share * rest, atol=1e-8)


def test_what_a_batch_has_in_all_states_is_not_taken_for_composition(planted):
    """With unequal numbers of cells in the states, and a state that a batch has no cells of."""
    of_states, shared, _ = planted
    sizes = np.random.default_rng(1).integers(5, 400, size=(N_BATCH, N_STATES)).astype(float)
    sizes[2, 0] = sizes[0, 1] = 0
    groups = expression(of_states + shared[:, None], sizes)
    found, (content,) = batch_share_of_content(groups, levels_alone(), [N_BATCH], 0.3)
    np.testing.assert_allclose(found, of_states, atol=1e-3)
    expected = np.broadcast_to(shared[:, None], content.shape)
    np.testing.assert_allclose(content, expected, atol=1e-3)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_group_without_cells_has_what_all_states_have(planted, share):
    of_states, shared, rest = planted
    sizes = np.full((N_BATCH, N_STATES), 50.0)
    sizes[1, 2] = 0
    groups = expression(of_states + shared[:, None] + rest, sizes)
    found, (content,) = batch_share_of_content(groups, levels_alone(), [N_BATCH], share)
    # What is shared is what is left of the other groups as the share falls to nothing.
    _, (without,) = batch_share_of_content(groups, levels_alone(), [N_BATCH], 0.0)
    np.testing.assert_allclose(content[1, 2], without[1, 0], atol=1e-8)
    here = sizes > 0
    whole = groups.means - found
    expected = without + share * (whole - without)
    np.testing.assert_allclose(content[here], expected[here], atol=1e-8)


def test_small_groups_count_less():
    """One cell far off moves what the batch has by a share of that of many cells."""
    means = np.zeros((2, 2, 1))
    means[1, 1] = 1.0
    shared = []
    for size in (1.0, 1_000.0):
        sizes = np.full((2, 2), 1_000.0)
        sizes[1, 1] = size
        _, (content,) = batch_share_of_content(
            expression(means, sizes), np.arange(2)[:, None], [2], 0.0
        )
        shared.append(content[1, 0, 0] - content[0, 0, 0])
    assert shared[1] == pytest.approx(0.5, abs=1e-3)
    assert shared[0] < 0.4 * shared[1]


def test_factors_add_up(planted):
    """Every batch with both protocols: each factor gets what is its own."""
    of_states, shared, _ = planted
    of_protocol = np.array([[-1.0], [1.0]]) * np.linspace(0.2, 1, N_GENES)
    levels = np.array([[batch, protocol] for batch in range(N_BATCH) for protocol in range(2)])
    means = of_states + (shared[levels[:, 0]] + of_protocol[levels[:, 1]])[:, None]
    groups = expression(means, np.full((len(levels), N_STATES), 30.0))
    _, (of_batches, of_protocols) = batch_share_of_content(groups, levels, [N_BATCH, 2], 0.3)
    for content, expected in ((of_batches, shared), (of_protocols, of_protocol)):
        theirs = np.broadcast_to(expected[:, None], content.shape)
        np.testing.assert_allclose(content, theirs, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_further_batches_are_counted_from_the_same_states(planted, share):
    of_states, shared, rest = planted
    rest = centred(rest, 1)
    sizes = np.full((N_BATCH, N_STATES), 50.0)
    groups = expression(of_states + shared[:, None] + 2.0 + rest, sizes)
    expected = shared[:, None] + 2.0 + share * rest
    np.testing.assert_allclose(share_of_new(groups, of_states, share), expected, atol=1e-8)


def test_further_batches_without_cells_of_a_state(planted):
    of_states, shared, _ = planted
    sizes = np.full((N_BATCH, N_STATES), 50.0)
    sizes[:, 1] = 0
    ours = share_of_new(expression(of_states + shared[:, None], sizes), of_states, 1.0)
    np.testing.assert_allclose(ours[:, 1], shared, atol=1e-8)
