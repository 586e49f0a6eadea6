"""States of the content: the same in all batches, whatever the content still has of them."""

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score

from scmedal_tools._gene_model import GeneEffects, find_states, harmony_clusters

N_STATES, N_LATENT = 3, 4
# States lie on the first axis. The offset of the second batch is too small to reach the next one.
AT = np.array([0.0, 6.0, 12.0])
OFFSET = 4.0


def cells(n_cells: int = 600, offset: float = OFFSET):
    """Content, batch and state of cells of two batches."""
    rng = np.random.default_rng(0)
    batch, state = rng.integers(2, size=n_cells), rng.integers(N_STATES, size=n_cells)
    content = 0.2 * rng.normal(size=(n_cells, N_LATENT))
    content[:, 0] += AT[state] + offset * batch
    return content.astype(np.float32), batch, state


def states_of(content: np.ndarray, centres: np.ndarray, n_states: int = N_STATES) -> np.ndarray:
    effects = GeneEffects([2], 5, N_LATENT, n_states)
    effects.set_centres(centres)
    return effects.state_of(torch.from_numpy(content)).numpy()


def centres_of(content: np.ndarray, state: np.ndarray) -> np.ndarray:
    return np.stack([content[state == s].mean(0) for s in range(N_STATES)])


def test_a_cell_is_in_the_state_with_the_nearest_centre():
    content, _, state = cells()
    np.testing.assert_array_equal(states_of(content, centres_of(content, state)), state)


def test_fewer_states_than_there_is_room_for_are_repeated():
    content, _, state = cells()
    ours = states_of(content, centres_of(content, state), n_states=5)
    np.testing.assert_array_equal(ours, state)


def test_found_states_hold_cells_of_both_batches():
    """Without a word about the states, and with an offset that k-means would take for one."""
    content, batch, state = cells()
    centres = find_states(content, batch[:, None], N_STATES)
    assert centres.shape == (N_STATES, N_LATENT)
    assert adjusted_rand_score(state, states_of(content, centres)) > 0.95
    nearest = np.abs(centres[:, None] - centres_of(content, state)).max(2).min(1)
    np.testing.assert_array_less(nearest, 0.5)


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
