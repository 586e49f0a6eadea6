"""Counterfactuals that no training cell of the target supports are warned of."""

import warnings

import numpy as np
import pytest


@pytest.fixture(scope="module")
def model(fit, cells):
    """Trained without cells of one type in one donor; states are the types."""
    pair = (cells.obs["donor"] == "donor_02") & (cells.obs["cell_type"] == "type_2")
    return fit("SCMEDAL_RE", cells[~pair].copy(), {"states_key": "cell_type"})


@pytest.fixture
def of_types(model):
    types = model.adata.obs["cell_type"].to_numpy()
    return {name: np.flatnonzero(types == name) for name in np.unique(types)}


def test_a_type_without_cells_in_the_target(model, of_types):
    with pytest.warns(UserWarning, match=r"fewer than 5 .*: donor_02\. .* extrapolation"):
        model.get_counterfactual_expression(
            indices=of_types["type_2"], transform_batch=["donor_01", "donor_02", "population"]
        )


@pytest.mark.parametrize(
    ("name", "target"), [("type_1", "donor_02"), ("type_2", "donor_01"), ("type_2", "population")]
)
def test_what_is_supported_is_not_warned_of(model, of_types, name, target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.get_counterfactual_expression(indices=of_types[name], transform_batch=target)
