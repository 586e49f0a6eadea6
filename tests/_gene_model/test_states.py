"""States of the content: the same in all batches, whatever the content still has of them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from scmedal_tools._gene_model import GeneEffects, find_states, harmony_clusters
from scmedal_tools._gene_model._states import PRIOR_CELLS, centres_of

N_STATES, N_LATENT = 3, 4
# States lie on the first axis. The offset of the second batch takes each to where the next was.
AT = np.array([0.0, 6.0, 12.0])
OFFSET = 6.0


def cells(n_cells: int = 600, offset: float = OFFSET):
    """Content, batch and state of cells of two batches."""
    rng = np.random.default_rng(0)
    batch, state = rng.integers(2, size=n_cells), rng.integers(N_STATES, size=n_cells)
    content = 0.5 * rng.normal(size=(n_cells, N_LATENT))
    content[:, 0] += AT[state] + offset * batch
    return content.astype(np.float32), batch, state


def effects_with(centres: np.ndarray, n_batch: int = 2, n_states: int = N_STATES) -> GeneEffects:
    effects = GeneEffects([n_batch], 5, N_LATENT, n_states)
    effects.set_centres(centres)
    return effects


def states_of(effects: GeneEffects, content: np.ndarray, batch: np.ndarray | int) -> np.ndarray:
    levels = np.broadcast_to(batch, len(content))[:, None].copy()
    return effects.state_of(torch.from_numpy(content), torch.from_numpy(levels)).numpy()


class TestCentres:
    @pytest.fixture
    def found(self):
        content, batch, state = cells()
        return content, batch, state, centres_of(content, state, batch, 2, N_STATES)

    def test_are_shrunk_towards_those_over_all_batches(self, found):
        content, batch, state, centres = found
        for s in range(N_STATES):
            overall = content[state == s].mean(0)
            np.testing.assert_allclose(centres[-1, s], overall, rtol=1e-4, atol=1e-5)
            for b in range(2):
                own = content[(state == s) & (batch == b)]
                expected = (own.sum(0) + PRIOR_CELLS * overall) / (len(own) + PRIOR_CELLS)
                np.testing.assert_allclose(centres[b, s], expected, rtol=1e-4, atol=1e-4)

    def test_cells_of_both_batches_find_their_state(self, found):
        content, batch, state, centres = found
        effects = effects_with(centres)
        np.testing.assert_array_equal(states_of(effects, content, batch), state)
        # The content alone does not suffice: the other batch's centres are those of other states.
        assert (states_of(effects, content, 1 - batch) == state).mean() < 0.5

    def test_a_batch_that_is_not_known_has_those_over_all(self, found):
        *_, centres = found
        effects = effects_with(centres)
        content = (centres[-1] + np.eye(N_LATENT)[0]).astype(np.float32)
        for batch in (-1, 2):
            np.testing.assert_array_equal(states_of(effects, content, batch), range(N_STATES))
        assert not np.array_equal(states_of(effects, content, 0), range(N_STATES))

    def test_a_batch_without_cells_of_a_state_has_the_overall_one(self):
        content, batch, state = cells()
        keep = (batch == 0) | (state != 1)
        centres = centres_of(content[keep], state[keep], batch[keep], 2, N_STATES)
        np.testing.assert_allclose(centres[1, 1], centres[-1, 1])

    def test_nothing_falls_into_a_state_without_cells(self):
        content, batch, state = cells()
        centres = centres_of(content, state, batch, 2, N_STATES + 1)
        assert np.isinf(centres[:, -1]).all()
        effects = effects_with(centres, n_states=N_STATES + 1)
        np.testing.assert_array_equal(states_of(effects, content, batch), state)

    def test_fewer_states_than_there_is_room_for_are_repeated(self):
        content, batch, state = cells()
        effects = effects_with(centres_of(content, state, batch, 2, N_STATES), n_states=5)
        np.testing.assert_array_equal(states_of(effects, content, batch), state)


def test_found_states_hold_cells_of_both_batches():
    """Without a word about the states, and with an offset that k-means would take for one."""
    content, batch, state = cells(offset=4.0)
    centres = find_states(content, batch[:, None], 2, N_STATES)
    assert centres.shape == (3, N_STATES, N_LATENT)
    ours = states_of(effects_with(centres), content, batch)
    assert adjusted_rand_score(state, ours) > 0.95


def test_clusters_of_few_cells_are_those_of_the_content():
    """There is nothing for Harmony to go by, and no more clusters than cells."""
    content = np.array([[0.0], [0.1], [9.0]])
    clusters = harmony_clusters(content, np.array([[0], [1], [0]]), 2)
    assert clusters[0] == clusters[1] != clusters[2]
    assert len(set(harmony_clusters(content, np.zeros((3, 1), int), 10))) == 3


def test_one_batch_needs_no_harmony():
    content, _, state = cells(offset=0.0)
    clusters = harmony_clusters(content, np.zeros((len(content), 1), int), N_STATES)
    assert adjusted_rand_score(state, clusters) == 1
