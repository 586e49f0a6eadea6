"""Counterfactuals that no training cell of the target supports are warned of."""

import warnings

import numpy as np
import pytest

import scmedal_tools as smt
from scmedal_tools.model._warn_of_extrapolation import N_CELLS

# Training cells of a type in a donor, the others having more.
FEW = {("donor_02", "type_2"): 0, ("donor_03", "type_2"): 4, ("donor_04", "type_2"): 5}


@pytest.fixture(scope="module")
def train(fit):
    """Give a function that trains with types as states, of which some donors have few cells."""

    def train(cells, model=None, **kwargs):
        rng, kept = np.random.default_rng(0), np.ones(cells.n_obs, dtype=bool)
        for (donor, kind), n_cells in FEW.items():
            of_pair = (cells.obs["donor"] == donor) & (cells.obs["cell_type"] == kind)
            kept[rng.permutation(np.flatnonzero(of_pair))[n_cells:]] = False
        parts = [np.flatnonzero(kept), np.flatnonzero(~kept), np.empty(0, dtype=int)]
        kwargs |= {"datasplitter_kwargs": {"external_indexing": parts}, "early_stopping": False}
        return fit("SCMEDAL_RE", cells, {"states_key": "cell_type"}, model, **kwargs)

    return train


@pytest.fixture(scope="module")
def model(train, cells):
    return train(cells.copy())


@pytest.fixture(scope="module")
def separated(train):
    """So many cells of a type apart that their neighbours in the content are of their type."""
    cells = smt.datasets.simulated(
        n_donors=4, n_genes=100, n_cell_types=3, confounding=0, cell_scale=2
    )
    counts = cells.X.toarray()
    counts[cells.obs["cell_type"] == "type_2", :20] *= 20
    cells.X = counts
    smt.pp.preprocess(cells, n_top_genes=None)
    return train(cells, {"n_hidden": (64, 32), "n_latent": 20}, max_epochs=5)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "target", "is_warned_of"),
    [("type_2", "donor_02", True), ("type_2", "donor_01", False), ("type_1", "donor_02", False)],
)
def test_agrees_with_the_mask_in_clear_cases(separated, kind, target, is_warned_of):
    """Of a type the target has no training cell, or many."""
    model = separated
    cells = cells_of(model, **{kind: 20})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.get_counterfactual_expression(indices=cells, transform_batch=target)
    assert any("extrapolation" in str(w.message) for w in caught) == is_warned_of
    share = smt.tl.admissibility(model, model.adata[cells].copy())[target].mean()
    assert (share < 0.5) == is_warned_of, share


def iterated(model, cells, targets, _):
    list(model.iter_expression(cells, transform_batch=[None, *targets]))


def in_means(model, cells, targets, _):
    smt.tl.counterfactual_means(
        model, cells, targets, labels_key="cell_type", n_samples=20, progress=False
    )


def of_groups(method):
    def tested(model, cells, *_):
        cells.obs["group"] = np.where(cells.obs["donor"].isin(["donor_01", "donor_02"]), "a", "b")
        smt.tl.counterfactual_de(
            model, cells, "group", 10, method, n_samples=2, n_jobs=1, labels_key="cell_type",
            label=cells.obs["cell_type"].iloc[0], progress=False,
        )  # fmt: skip

    return tested


def written(model, cells, targets, folder):
    smt.tl.write_counterfactuals(
        model, cells, targets, folder / "cells.npy", n_samples=2, progress=False
    )


# Of the groups' tests all donors are targets; donor_04 has three cells of type_1.
ASKED = {"type_1": "", "type_2": "donor_02, donor_03"}
ALL = {"type_1": "donor_04", "type_2": "donor_02, donor_03"}
VERBS = [
    pytest.param(iterated, ASKED, id="iter_expression"),
    pytest.param(in_means, ASKED, id="means"),
    pytest.param(of_groups("donor"), ALL, id="de"),
    pytest.param(of_groups("lme"), ALL, id="de of cells"),
    pytest.param(written, ASKED, id="write"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "named"), VERBS)
@pytest.mark.parametrize("kind", ["type_1", "type_2"])
def test_every_verb_warns_once(model, verb, named, kind, tmp_path):
    cells = model.adata[model.adata.obs["cell_type"] == kind].copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        verb(model, cells, ["donor_02", "donor_03"], tmp_path)
    of_support = [w for w in caught if "extrapolation" in str(w.message)]
    assert len(of_support) == bool(named[kind])
    for warning in of_support:
        assert f": {named[kind]}. " in str(warning.message)
        assert warning.filename == __file__


def test_of_many_cells_some_are_looked_at(model, monkeypatch):
    many = np.resize(cells_of(model, type_2=20), 3 * N_CELLS)
    seen = []
    state_of = model._state_of
    monkeypatch.setattr(model, "_state_of", lambda x: seen.append(state_of(x)) or seen[-1])
    with pytest.warns(UserWarning, match="extrapolation"):
        next(model.iter_expression(indices=many, transform_batch="donor_02"))
    assert sum(map(len, seen)) == N_CELLS
