"""States that the user gives: effects on genes differ by them, and new cells need them."""

import numpy as np
import pandas as pd
import pytest
import torch

import scmedal_tools as smt
from scmedal_tools.model import SCMEDAL_RE

pytestmark = pytest.mark.slow

SETUP = {"states_key": "cell_type"}
RAISED = 7
TYPES = ["type_1", "type_2"]


@pytest.fixture(scope="module")
def differing():
    """Cells of donors that differ in nothing, but that donor 2 has a gene raised in one type."""
    adata = smt.datasets.simulated(5, 60, 2, effect_scale=0.0, confounding=0.0)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    x = adata.X.toarray()
    x[((adata.obs["donor"] == "donor_02") & (adata.obs["cell_type"] == TYPES[0])), RAISED] += 1.5
    adata.X = x
    return adata


@pytest.fixture(scope="module")
def model(fit, differing):
    """Its network's effects do not move, so that those on genes have to find it."""
    plan = {"effects_lr": 0.0}
    options = {"max_epochs": 8, "batch_size": 128}
    return fit("SCMEDAL_RE", differing.copy(), SETUP, plan_kwargs=plan, **options)


def shift_of(model, adata, label, gene=RAISED):
    """Mean shift of a gene from donor 1 to donor 2, over cells of a type."""
    cells = adata[(adata.obs["donor"] == "donor_01") & (adata.obs["cell_type"] == label)].copy()
    swapped = model.get_counterfactual_expression(
        cells, transform_batch=["donor_01", "donor_02"], return_numpy=True
    )
    return (swapped["donor_02"] - swapped["donor_01"])[:, gene].mean()


def test_are_those_of_the_column(model, differing):
    assert model.has_given_states
    assert model.module.gene_effects.n_states == 2
    train = differing.obs.iloc[model.train_indices]
    expected = pd.crosstab(train["donor"], train["cell_type"])
    np.testing.assert_array_equal(model.module.gene_effects.factors[0].sizes, expected)


def test_effects_differ_by_state(model, differing):
    assert shift_of(model, differing, TYPES[0]) == pytest.approx(1.5, abs=0.4)
    assert abs(shift_of(model, differing, TYPES[1])) < 0.4


def test_the_column_of_new_cells_is_read(model, differing):
    """Whatever their content: cells of the other type, if said to be of this one, are raised."""
    renamed = differing.copy()
    renamed.obs["cell_type"] = renamed.obs["cell_type"].cat.rename_categories(
        {TYPES[0]: TYPES[1], TYPES[1]: TYPES[0]}
    )
    assert shift_of(model, renamed, TYPES[0]) == pytest.approx(1.5, abs=0.4)
    assert abs(shift_of(model, renamed, TYPES[1])) < 0.4


def test_none_without_a_column(fit, adata):
    model = fit("SCMEDAL_RE", adata)
    assert not model.has_given_states
    assert model.module.gene_effects.n_states == 10


class TestNewCells:
    @pytest.mark.parametrize(
        "method", ["get_reconstruction", "get_latent_representation", "get_swap_gap"]
    )
    def test_unknown_states_are_named(self, model, differing, method):
        cells = differing[::20].copy()
        cells.obs["cell_type"] = cells.obs["cell_type"].astype(str)
        cells.obs.loc[cells.obs_names[2], "cell_type"] = "martian"
        message = "not trained on: martian. Give these cells one of type_1, type_2"
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(cells)

    def test_the_column_is_needed(self, model, differing):
        cells = differing[::20].copy()
        del cells.obs["cell_type"]
        with pytest.raises(ValueError, match="states_key='cell_type' is not a column"):
            model.get_reconstruction(cells)

    def test_some_states_are_enough(self, model, differing):
        """Codes are those of the training, not those of the categories that are left."""
        cells = differing[differing.obs["cell_type"] == TYPES[1]].copy()
        cells.obs["cell_type"] = cells.obs["cell_type"].cat.remove_unused_categories()
        whole = model.get_reconstruction(differing.copy(), return_numpy=True)
        expected = whole[(differing.obs["cell_type"] == TYPES[1]).to_numpy()]
        np.testing.assert_allclose(
            model.get_reconstruction(cells, return_numpy=True), expected, atol=1e-5
        )

    def test_unseen_batches_have_states_too(self, model, differing):
        cells = differing[::20].copy()
        cells.obs["donor"] = "newcomer"
        options = {"unseen_batch": "population", "return_numpy": True}
        ours = model.get_reconstruction(cells, **options)
        module = model.module
        with torch.no_grad():
            nobody = torch.full((cells.n_obs, 1), -1)
            content = module.inference(torch.as_tensor(cells.X), nobody)["content"]
            state = cells.obs["cell_type"].cat.codes.to_numpy().astype(int)
            fixed = module.gene_effects.factors[0].fixed[state]
            expected = module.scaler.inverse(module.decode_in_population(content) + fixed)
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_survive_saving(model, differing, tmp_path):
    model.save(tmp_path / "model")
    for cells in (differing.copy(), False):
        loaded = SCMEDAL_RE.load(tmp_path / "model", cells, accelerator="cpu")
        assert loaded.has_given_states
        new = differing[::20].copy()
        np.testing.assert_array_equal(
            loaded.get_reconstruction(new), model.get_reconstruction(new.copy())
        )


def test_new_batches_are_learned_in_the_same_states(fit, differing):
    """The newcomer raises the gene in one type, which a found state need not be."""
    newcomer = (differing.obs["donor"] == "donor_02").to_numpy()
    options = {"max_epochs": 8, "batch_size": 128}
    reference = fit("SCMEDAL_RE", differing[~newcomer].copy(), SETUP, **options)
    cells = differing[newcomer | (differing.obs["donor"] == "donor_01").to_numpy()].copy()
    query = SCMEDAL_RE.load_query_data(cells, reference)
    query.train(max_epochs=5, accelerator="cpu", enable_progress_bar=False)
    assert query.has_given_states
    sizes = cells.obs.loc[cells.obs["donor"] == "donor_02", "cell_type"].value_counts()
    ours = query.module.gene_effects.factors[0].sizes[-1]
    assert ours.tolist() == sizes.loc[TYPES].tolist()
    raised, other = (shift_of(query, cells, label) for label in TYPES)
    assert raised > 0.7
    assert abs(other) < 0.4 * raised


def test_a_query_with_unknown_states_is_refused(model, differing):
    cells = differing[::20].copy()
    cells.obs["donor"], cells.obs["cell_type"] = "newcomer", "martian"
    with pytest.raises(ValueError, match="not trained on: martian"):
        SCMEDAL_RE.load_query_data(cells, model)


def test_the_other_models_do_not_mind(fit, adata):
    setup = SETUP | {"labels_key": "cell_type"}
    for name in ("SCMEDAL_FE", "SCMEDAL_FEC"):
        assert np.isfinite(fit(name, adata.copy(), setup).get_latent_representation()).all()


def test_categories_without_a_cell_are_no_states(build, adata):
    adata.obs["state"] = adata.obs["cell_type"].cat.add_categories("martian")
    with pytest.warns(UserWarning, match="'state' has 1 categories without a cell.*: martian"):
        model = build("SCMEDAL_RE", adata, {"states_key": "state"})
    assert model.module.gene_effects.n_states == 3


@pytest.mark.parametrize("states_key", ["no_such_column", "with_gaps"])
def test_a_column_that_will_not_do(build, adata, states_key):
    adata.obs["with_gaps"] = adata.obs["cell_type"].astype(object)
    adata.obs.loc[adata.obs_names[0], "with_gaps"] = np.nan
    with pytest.raises(ValueError, match=f"states_key='{states_key}' is "):
        build("SCMEDAL_RE", adata, {"states_key": states_key})
