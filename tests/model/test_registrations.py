"""Several models of the same cells, and levels that are no text or have no cell."""

import datetime
from functools import partial

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import scvi

import scmedal_tools as smt

pytestmark = pytest.mark.slow

QUICK = {"max_epochs": 2, "batch_size": 64, "accelerator": "cpu", "enable_progress_bar": False}


def trained(model):
    """Weights after a training from the same seed always."""
    scvi.settings.seed = 0
    model.train(**QUICK)
    return {name: value.numpy() for name, value in model.module.state_dict().items()}


class TestAnotherRegistration:
    @pytest.fixture
    def adata(self, adata):
        """With a second column of batches, in which every cell is of another."""
        adata.obs["lane"] = pd.Categorical(["a", "b", "c", "d", "e", "f"] * 40)
        return adata

    @pytest.mark.parametrize("name", ["SCMEDAL_FEC", "SCMEDAL_RE"])
    def test_does_not_touch_the_training(self, build, adata, name):
        setup = {"labels_key": "cell_type"}
        expected = trained(build(name, adata.copy(), setup))
        model = build(name, adata, setup)
        other = "SCMEDAL_RE" if name == "SCMEDAL_FEC" else "SCMEDAL_FEC"
        build(other, adata, {"batch_key": "lane", "labels_key": "donor"})
        for key, value in trained(model).items():
            np.testing.assert_array_equal(value, expected[key], err_msg=key)

    def test_does_not_touch_the_codes_that_are_read(self, fit, build, adata):
        model = fit("SCMEDAL_RE", adata, model={"n_states": 0})
        expected = smt.tl._training_cells.training_cells(model)
        build("SCMEDAL_FE", adata, {"batch_key": "lane"})
        pd.testing.assert_series_equal(smt.tl._training_cells.training_cells(model), expected)

    def test_codes_come_back_as_they_were(self, fit, build, adata):
        model = fit("SCMEDAL_RE", adata)
        expected = model.get_reconstruction()
        adata.obs["donor"] = adata.obs["donor"].cat.reorder_categories(
            list(adata.obs["donor"].cat.categories[::-1])
        )
        build("SCMEDAL_FE", adata, {"batch_key": "lane"})
        pd.testing.assert_frame_equal(model.get_reconstruction(), expected)
        assert list(model.batch_names) == ["donor_01", "donor_02", "donor_03", "donor_04"]


class TestSetUp:
    """Of the object that is given, for the model that is made."""

    @pytest.mark.parametrize("change", ["copy", "selection", "another model", "nothing"])
    def test_a_missing_one_is_named(self, adata, change):
        if change != "nothing":
            smt.model.SCMEDAL_FE.setup_anndata(adata, "donor")
        given = adata[:100].copy() if change == "selection" else adata.copy()
        if change == "another model":
            given, register = adata.copy(), smt.model.SCMEDAL_RE.setup_anndata
            del given.uns["_scvi_uuid"]
            register(given, "donor")
        with pytest.raises(ValueError, match=r"Call SCMEDAL_FE\.setup_anndata\(\.\.\.\) on this"):
            smt.model.SCMEDAL_FE(given)
        smt.model.SCMEDAL_FE.setup_anndata(given, "donor")
        smt.model.SCMEDAL_FE(given)

    def test_of_a_mudata(self, adata):
        mdata = mudata.MuData({"rna": adata})
        with pytest.raises(ValueError, match=r"Call SCMEDAL_RE\.setup_mudata"):
            smt.model.SCMEDAL_RE(mdata)


class TestUnusedCategories:
    @pytest.fixture
    def adata(self, adata):
        adata.obs["donor"] = adata.obs["donor"].cat.add_categories(["donor_00", "donor_99"])
        donors = ["donor_00", "donor_01", "donor_02", "donor_03", "donor_04", "donor_99"]
        adata.obs["donor"] = adata.obs["donor"].cat.reorder_categories(donors)
        types = adata.obs["cell_type"].astype("category")
        adata.obs["cell_type"] = types.cat.add_categories(["type_9", "unlabeled"])
        adata.obs["lane"] = pd.Categorical(["b", "c"] * 120, ["a", "b", "c"])
        return adata

    @pytest.mark.parametrize("kind", ["AnnData", "MuData"])
    def test_are_left_out(self, build, adata, kind):
        setup = {"labels_key": "cell_type", "random_effect_keys": ["lane"]}
        before, data = adata.obs.filter(regex="^(?!_scvi)").copy(), adata
        if kind == "MuData":
            mudata = pytest.importorskip("mudata")
            data = mudata.MuData({"rna": adata})
            arguments = ("rna_layer", "batch_key", "labels_key", "random_effect_keys")
            setup["modalities"] = dict.fromkeys(arguments, "rna")
        with pytest.warns(UserWarning, match="categories without a cell") as caught:
            model = build("SCMEDAL_FEC", data, setup)
        messages = " ".join(str(warning.message) for warning in caught)
        assert "'donor' has 2 categories without a cell" in messages
        assert "donor_00, donor_99" in messages
        assert "'cell_type' has 1 categories" in messages
        assert list(model.batch_names) == ["donor_01", "donor_02", "donor_03", "donor_04"]
        assert list(model.label_names) == ["type_1", "type_2", "type_3"]
        assert list(model.factors["lane"]) == ["b", "c"]
        assert model.module.n_levels == (4, 2)
        pd.testing.assert_frame_equal(adata.obs[list(before)], before)
        names = model.batch_names[adata.obs["_scvi_batch"]]
        np.testing.assert_array_equal(names, adata.obs["donor"].astype(str))

    def test_make_no_difference(self, fit, build, adata, cells):
        clean = cells.copy()
        clean.obs["lane"] = adata.obs["lane"].astype(str)
        setup = {"random_effect_keys": ["lane"]}
        expected = fit("SCMEDAL_RE", clean, setup)
        with pytest.warns(UserWarning, match="4 batches are too few"):
            model = fit("SCMEDAL_RE", adata, setup)
        build("SCMEDAL_FE", adata, {"batch_key": "lane"})  # whereupon codes are renewed
        pd.testing.assert_frame_equal(model.get_reconstruction(), expected.get_reconstruction())

    def test_new_cells_may_have_them(self, fit, adata, tmp_path):
        model = fit("SCMEDAL_RE", adata)
        model.save(tmp_path / "model")
        some = adata[:40].copy()
        some.obs["donor"] = some.obs["donor"].cat.set_categories(adata.obs["donor"].cat.categories)
        expected = model.get_reconstruction(indices=np.arange(40))
        pd.testing.assert_frame_equal(model.get_reconstruction(some), expected, rtol=1e-4)
        loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", adata, accelerator="cpu")
        pd.testing.assert_frame_equal(loaded.get_reconstruction(), model.get_reconstruction())
        some.obs["donor"] = pd.Categorical(["donor_99"] * 40, adata.obs["donor"].cat.categories)
        query = smt.model.SCMEDAL_RE.load_query_data(some, model)
        assert list(query.batch_names) == [*model.batch_names, "donor_99"]


DAYS = pd.date_range("2024-01-05", periods=4)
LEVELS = {
    "boolean": [False, True, False, True],
    "float": [0.5, 1.5, 2.5, 3.5],
    "time": list(DAYS),
    "date": [day.date() for day in DAYS],
}


class TestLevelsThatAreNoText:
    @pytest.fixture(scope="class", params=LEVELS)
    def model(self, request, fit, cells):
        levels, adata = LEVELS[request.param], cells.copy()
        column = pd.Series([levels[code] for code in adata.obs["donor"].cat.codes])
        adata.obs["run"] = column.to_numpy()
        return fit("SCMEDAL_RE", adata, {"batch_key": "run"})

    def test_a_level_of_the_column_is_a_target(self, model):
        target = model.adata.obs["run"].iloc[0]
        swapped = model.get_counterfactual_expression(transform_batch=target)
        own = (model.adata.obs["run"] == target).to_numpy()
        expected = model.get_reconstruction()
        np.testing.assert_allclose(swapped[own], expected[own], atol=1e-5)
        assert np.abs(swapped[~own] - expected[~own]).to_numpy().max() > 1e-4
        several = model.get_counterfactual_expression(transform_batch=[target])
        pd.testing.assert_frame_equal(several[target], swapped)

    def test_figures_and_tables(self, model):
        n_levels = len(model.batch_names)
        assert n_levels == model.adata.obs["run"].nunique()
        figure = smt.pl.batch_effects(model, n_genes=3, n_samples=4, n_cells=20)
        assert str(model.batch_names[0]) in {t.get_text() for t in figure.findobj(_is_text)}
        smt.pl.batch_effects_heatmap(model, n_genes=3, n_samples=4, n_cells=20)
        target = model.batch_names[1]
        means = smt.tl.counterfactual_means(model, model.adata, target)
        own = means[(means.obs["source"] == means.obs["target"]).to_numpy()]
        assert own.n_obs == 1
        parts = {"train": np.arange(0, 240, 2), "test": np.arange(1, 240, 2), "progress": False}
        shifts = smt.bm.counterfactual_shift(
            model, model.adata, "run", "cell_type", min_cells=4, baselines=False, **parts
        )
        assert set(shifts["target"]) <= set(map(str, model.batch_names))
        np.testing.assert_allclose(own.X, 0, atol=1e-6)
        stack = smt.tl.projection_stack(model.adata, model, model, 4)
        assert stack.n_obs == 4 * (2 + n_levels)
        smt.tl.genomap_layout(stack, progress=False)
        figure = smt.pl.genomap_panel(stack, 2, batches=[target])
        assert f"RE: {target}" in {ax.get_title().replace("\n", " ") for ax in figure.axes}

    def test_survive_a_file(self, model, tmp_path):
        model.save(tmp_path / "model")
        loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", model.adata, accelerator="cpu")
        assert list(loaded.batch_names) == list(model.batch_names)
        pd.testing.assert_frame_equal(loaded.get_reconstruction(), model.get_reconstruction())

    def test_a_store_holds_them_or_says_why_not(self, model, tmp_path):
        ask = partial(
            smt.tl.write_counterfactuals,
            model,
            model.adata,
            model.batch_names[0],
            tmp_path / "cells.zarr",
            progress=False,
        )
        column = model.adata.obs["run"]
        if column.dtype.kind in "bf":
            np.testing.assert_array_equal(ad.read_zarr(ask()).obs["run"], column)
        else:
            with pytest.raises(ValueError, match=r"adata\.obs\['run'\] cannot be written"):
                ask()
            assert not list(tmp_path.iterdir())


def _is_text(artist):
    return hasattr(artist, "get_text")


def test_part_of_a_date_is_no_target(fit, adata):
    adata.obs["run"] = DAYS[adata.obs["donor"].cat.codes]
    model = fit("SCMEDAL_RE", adata, {"batch_key": "run"})
    with pytest.raises(ValueError, match="'2024' is not a level"):
        model.get_counterfactual_expression(transform_batch="2024")
    with pytest.raises(ValueError, match="is not a level"):
        model.get_counterfactual_expression(transform_batch=datetime.datetime(2025, 1, 1))


@pytest.mark.parametrize("kind", [object, "category"])
def test_text_and_numbers_are_refused(build, adata, kind):
    levels = [1, "b", 2, "d"]
    column = [levels[code] for code in adata.obs["donor"].cat.codes]
    adata.obs["run"] = pd.Series(column, adata.obs_names, dtype=object).astype(kind)
    with pytest.raises(
        ValueError, match=r"text \('[bd]', '[bd]'\) and others(.|\n)*astype\(str\)"
    ):
        build("SCMEDAL_RE", adata, {"batch_key": "run"})
