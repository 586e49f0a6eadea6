"""Counterfactuals that no training cell of the target supports are warned of."""

import warnings

import numpy as np
import pytest

# Training cells of a type in a donor, the others having more.
FEW = {("donor_02", "type_2"): 0, ("donor_03", "type_2"): 4, ("donor_04", "type_2"): 5}


@pytest.fixture(scope="module")
def model(fit, cells):
    """States are the types, of which some donors have few training cells."""
    rng, train = np.random.default_rng(0), np.ones(cells.n_obs, dtype=bool)
    for (donor, kind), n_cells in FEW.items():
        of_pair = (cells.obs["donor"] == donor) & (cells.obs["cell_type"] == kind)
        train[rng.permutation(np.flatnonzero(of_pair))[n_cells:]] = False
    parts = [np.flatnonzero(train), np.flatnonzero(~train), np.empty(0, dtype=int)]
    options = {"datasplitter_kwargs": {"external_indexing": parts}, "early_stopping": False}
    return fit("SCMEDAL_RE", cells.copy(), {"states_key": "cell_type"}, **options)


def cells_of(model, **numbers):
    """Positions of as many cells of each type."""
    types = model.adata.obs["cell_type"].to_numpy()
    return np.concatenate([np.flatnonzero(types == kind)[:n] for kind, n in numbers.items()])


def test_a_type_with_next_to_no_cells_in_the_target(model):
    targets = ["donor_01", "donor_02", "donor_03", "donor_04", "population"]
    with pytest.warns(
        UserWarning, match=r"fewer than 5 .*: donor_02, donor_03\. .* extra"
    ) as caught:
        model.get_counterfactual_expression(
            indices=cells_of(model, type_2=20), transform_batch=targets
        )
    (warning,) = (w for w in caught if "extrapolation" in str(w.message))
    assert warning.filename == __file__


@pytest.mark.parametrize(("n_without", "is_warned_of"), [(4, False), (6, True)])
def test_if_most_of_the_cells_are_such(model, n_without, is_warned_of):
    cells = cells_of(model, type_2=n_without, type_1=10 - n_without)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.get_counterfactual_expression(indices=cells, transform_batch="donor_02")
    assert any("extrapolation" in str(w.message) for w in caught) == is_warned_of


@pytest.mark.parametrize(
    ("kind", "target"), [("type_1", "donor_02"), ("type_2", "donor_01"), ("type_2", "population")]
)
def test_what_is_supported_is_not_warned_of(model, kind, target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells = cells_of(model, **{kind: 10})
        model.get_counterfactual_expression(indices=cells, transform_batch=target)
