"""A model of one modality of a MuData is the model of that AnnData."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest

import scmedal_tools as smt

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]
LABELS = {"labels_key": "partly_labelled"}
IN_RNA = {"rna_layer": "rna", "batch_key": "rna", "labels_key": "rna"}
SETUP = LABELS | {"modalities": IN_RNA}
BATCH_ONLY = {"modalities": {"rna_layer": "rna", "batch_key": "rna"}}


def with_protein(rna, names=None):
    """A MuData of expression, and of protein, by default in the same cells in another order."""
    names = rna.obs_names[::-1] if names is None else names
    x = np.random.default_rng(0).poisson(3, (len(names), 5)).astype(np.float32)
    var = pd.DataFrame(index=[f"p{i}" for i in range(5)])
    return md.MuData({"rna": rna, "protein": ad.AnnData(x, pd.DataFrame(index=names), var)})


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def mdata(labelled):
    return with_protein(labelled.copy())


@pytest.fixture
def query(fresh):
    return with_protein(fresh)


@pytest.fixture(scope="module")
def models(fit, labelled):
    """Of each class, the model of a MuData and that of the AnnData."""
    options = {"early_stopping_warmup_epochs": 0}
    return {
        name: (
            fit(name, with_protein(labelled.copy()), SETUP, **options),
            fit(name, labelled.copy(), LABELS, **options),
        )
        for name in MODELS
    }


@pytest.fixture(params=MODELS)
def pair(request, models):
    return models[request.param]


@pytest.fixture
def re(models):
    return models["SCMEDAL_RE"]


@pytest.mark.slow
class TestSameAsOfTheAnnData:
    def test_training(self, pair):
        ours, expected = pair
        assert ours.history.keys() == expected.history.keys()
        losses = (m.history["validation_loss"].to_numpy(dtype=float) for m in pair)
        close(*losses)
        np.testing.assert_array_equal(ours.train_indices, expected.train_indices)

    @pytest.mark.parametrize("indices", [None, [5, 3, 200]])
    def test_latent_and_reconstruction(self, pair, indices):
        ours, expected = (model.get_latent_representation(indices=indices) for model in pair)
        close(ours, expected)
        ours, expected = (model.get_reconstruction(indices=indices) for model in pair)
        pd.testing.assert_frame_equal(ours, expected, rtol=1e-4)

    def test_some_genes(self, pair):
        genes = list(pair[1].adata.var_names[[7, 2]])
        ours, expected = (model.get_reconstruction(gene_list=genes) for model in pair)
        pd.testing.assert_frame_equal(ours, expected, rtol=1e-4)
        with pytest.raises(ValueError, match="not in the model: p1"):
            pair[0].get_reconstruction(gene_list=["p1"])

    @pytest.mark.parametrize("form", ["whole", "view"])
    def test_new_cells(self, pair, fresh, query, form):
        whole = form == "whole"
        cells = query if whole else query[:20]
        expected = pair[1].get_reconstruction(fresh if whole else fresh[:20])
        pd.testing.assert_frame_equal(pair[0].get_reconstruction(cells), expected, rtol=1e-4)
        expected = pair[1].get_latent_representation(fresh if whole else fresh[:20])
        close(pair[0].get_latent_representation(cells), expected)

    def test_prediction(self, models, fresh, query):
        ours, expected = models["SCMEDAL_FEC"]
        expected = expected.predict(fresh, soft=True)
        pd.testing.assert_frame_equal(ours.predict(query, soft=True), expected, rtol=1e-4)

    @pytest.mark.parametrize("target", ["donor_02", "population"])
    def test_counterfactual(self, re, fresh, query, target):
        options = {"transform_batch": target, "n_samples": 3}
        ours, expected = (model.get_counterfactual_expression(**options) for model in re)
        pd.testing.assert_frame_equal(ours, expected, rtol=1e-4)
        ours = re[0].get_counterfactual_expression(query, **options)
        expected = re[1].get_counterfactual_expression(fresh, **options)
        pd.testing.assert_frame_equal(ours, expected, rtol=1e-4)

    def test_effects(self, re, fresh, query):
        ours, expected = (model.get_batch_effects(n_samples=3) for model in re)
        pd.testing.assert_frame_equal(ours, expected, rtol=1e-3, atol=1e-5)
        pd.testing.assert_frame_equal(
            re[0].get_batch_effects(layer="output"),
            re[1].get_batch_effects(layer="output"),
            rtol=1e-4,
        )
        ours = smt.tl.effects_diagnostics(re[0], query)
        assert ours.swap_gap == pytest.approx(re[1].get_swap_gap(fresh), rel=1e-4)

    @pytest.mark.parametrize("labels_key", [None, "cell_type"])
    def test_counterfactual_means(self, re, fresh, query, labels_key):
        options = {"labels_key": labels_key, "n_samples": 3, "interval": 0.5, "progress": False}
        ours = smt.tl.counterfactual_means(re[0], query, "donor_02", **options)
        expected = smt.tl.counterfactual_means(re[1], fresh, "donor_02", **options)
        pd.testing.assert_frame_equal(ours.obs, expected.obs)
        pd.testing.assert_frame_equal(ours.to_df(), expected.to_df(), rtol=1e-4, atol=1e-5)
        close(ours.layers["sd"], expected.layers["sd"])


@pytest.mark.slow
def test_given_states(fit, labelled, fresh, query):
    """In the modality, or among the cells of all modalities."""
    expected = fit("SCMEDAL_RE", labelled.copy(), {"states_key": "cell_type"})
    expected = expected.get_reconstruction(fresh)
    for modalities in ({"states_key": "rna"}, {}):
        mdata, new = with_protein(labelled.copy()), query.copy()
        for data in (mdata, new):
            data.obs["cell_type"] = data["rna"].obs["cell_type"].reindex(data.obs_names)
        setup = {"states_key": "cell_type", "modalities": BATCH_ONLY["modalities"] | modalities}
        model = fit("SCMEDAL_RE", mdata, setup)
        assert model.has_given_states
        pd.testing.assert_frame_equal(model.get_reconstruction(new), expected, rtol=1e-4)
        in_ = new["rna"] if modalities else new
        in_.obs["cell_type"] = "martian"
        with pytest.raises(ValueError, match="not trained on: martian"):
            model.get_reconstruction(new)


@pytest.mark.slow
def test_layer(fit, models, labelled):
    rna = labelled.copy()
    rna.layers["lognorm"], rna.X = rna.X, rna.layers["counts"]
    setup = SETUP | {"rna_layer": "lognorm"}
    model = fit("SCMEDAL_RE", with_protein(rna), setup, early_stopping_warmup_epochs=0)
    close(model.get_latent_representation(), models["SCMEDAL_RE"][1].get_latent_representation())


@pytest.mark.parametrize("modality", [None, "protein"])
def test_columns_elsewhere(fit, models, labelled, modality):
    rna = labelled.copy()
    mdata = with_protein(rna, rna.obs_names)
    obs = mdata.obs if modality is None else mdata[modality].obs
    for column in ("donor", "partly_labelled"):
        obs[column] = rna.obs[column]
        del rna.obs[column]
    places = {"batch_key": modality, "labels_key": modality} if modality else {}
    setup = LABELS | {"modalities": {"rna_layer": "rna"} | places}
    model = fit("SCMEDAL_FEC", mdata, setup, early_stopping_warmup_epochs=0)
    close(model.get_latent_representation(), models["SCMEDAL_FEC"][1].get_latent_representation())


class TestOtherModalities:
    def test_are_left_alone(self, fit, mdata):
        before = mdata["protein"].copy()
        fit("SCMEDAL_FE", mdata, BATCH_ONLY).get_latent_representation()
        after = mdata["protein"]
        np.testing.assert_array_equal(after.X, before.X)
        pd.testing.assert_frame_equal(after.obs, before.obs)
        assert not set(after.uns) | set(after.obsm)

    def test_may_lack_cells(self, pair, query, fresh):
        fewer = with_protein(fresh.copy(), fresh.obs_names[3:30][::-1])
        expected = pair[0].get_latent_representation(query)
        close(pair[0].get_latent_representation(fewer), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("case", ["more cells", "other order"])
    def test_the_line_that_aligns_the_cells(self, build, fit, models, labelled, case):
        names = labelled.obs_names[::-1]
        if case == "more cells":
            mdata = with_protein(labelled.copy(), names.append(pd.Index(["new_1", "new_2"])))
        else:  # the first modality gives the order
            mods = dict(with_protein(labelled.copy()).mod)
            mdata = md.MuData({"protein": mods["protein"], "rna": mods["rna"]})
        line = r"are not the 24\d of mdata(.|\n)*mdata = mdata\[mdata\['rna'\]\.obs_names\]"
        with pytest.raises(ValueError, match=line):
            build("SCMEDAL_RE", mdata, SETUP)
        with pytest.raises(ValueError, match=line):
            models["SCMEDAL_RE"][0].get_latent_representation(mdata)
        mdata = mdata[mdata["rna"].obs_names].copy()
        model = fit("SCMEDAL_RE", mdata, SETUP, early_stopping_warmup_epochs=0)
        expected = models["SCMEDAL_RE"][1].get_reconstruction()
        pd.testing.assert_frame_equal(model.get_reconstruction(), expected, rtol=1e-4)


class TestSaving:
    def test_with_the_cells(self, pair, tmp_path):
        pair[0].save(tmp_path / "model", save_anndata=True)
        for cells in (pair[0].adata, None):  # or those of the file
            loaded = type(pair[0]).load(tmp_path / "model", cells, accelerator="cpu")
            ours, expected = (m.get_reconstruction() for m in (loaded, pair[0]))
            pd.testing.assert_frame_equal(ours, expected)

    def test_without_cells(self, pair, query, tmp_path):
        pair[0].save(tmp_path / "model")
        loaded = type(pair[0]).load(tmp_path / "model", adata=False, accelerator="cpu")
        pd.testing.assert_frame_equal(
            loaded.get_reconstruction(query), pair[0].get_reconstruction(query), rtol=1e-4
        )

    def test_from_a_registry_alone(self, pair):
        sizes = {"n_hidden": (16, 8), "n_latent": 4, "adversary_hidden": (16,)}
        model = type(pair[0])(registry=pair[0].registry, **sizes)
        assert list(model.gene_names) == list(pair[1].adata.var_names)
        assert list(model.batch_names) == list(pair[1].batch_names)

    def test_cells_given_at_loading_are_checked(self, pair, query, tmp_path):
        pair[0].save(tmp_path / "model")
        query["rna"].X = query["rna"].layers["counts"]
        with pytest.raises(ValueError, match="raw counts"):
            type(pair[0]).load(tmp_path / "model", query, accelerator="cpu")


def test_embed(pair, query):
    model, _ = pair
    query["rna"].obsm["X_umap_" + type(model).__name__.lower()] = np.zeros((query.n_obs, 2))
    key = smt.tl.embed(query, model)
    rna = query["rna"]
    close(rna.obsm[key], model.get_latent_representation(query))
    assert set(rna.obsm) == {key}
    record = rna.uns["scmedal"][key]
    assert (record["model"], record["batch_key"]) == (type(model).__name__, "donor")
    assert key not in query.obsm
    assert "scmedal" not in query.uns


def without_column(rna):
    del rna.obs["donor"]


def take_the_counts(rna):
    rna.X = rna.layers["counts"]


def repeat_a_gene(rna):
    rna.var_names = [rna.var_names[1], *rna.var_names[1:]]


def number_the_types(rna):
    rna.obs["partly_labelled"] = 3


def one_new_donor(rna):
    rna.obs["donor"] = "somebody"


IN_THE_RNA = r"In adata = mdata\['rna'\]: "
PUT_BACK = r"(.|\n)*Then put it back: mdata\.mod\['rna'\] = adata; mdata\.update\(\)"
SPOILT = {
    "counts": (take_the_counts, r"adata\.X holds raw counts", r"adata\.X holds raw counts"),
    "names": (repeat_a_gene, r"2 of 60 genes share", r"2 of 60 genes share"),
    "column": (without_column, r"batch_key='donor' is not", r"adata\.obs has no column 'donor'"),
    "donor": (one_new_donor, r"batch_key='donor' has 1 level", r"not trained on 1 of the levels"),
    "types": (number_the_types, r"labels_key=.* has 1 level", r"80 cells have .* not trained on"),
}


class TestErrors:
    @pytest.mark.parametrize("case", SPOILT)
    def test_of_the_expression_and_columns(self, build, mdata, case):
        change, message, _ = SPOILT[case]
        change(mdata["rna"])
        with pytest.raises(ValueError, match=IN_THE_RNA + message + PUT_BACK):
            build("SCMEDAL_FE", mdata, SETUP)
        assert "_scvi_batch" not in mdata["rna"].obs

    @pytest.mark.parametrize("case", SPOILT)
    def test_of_new_cells(self, pair, query, case):
        change, _, message = SPOILT[case]
        change(query["rna"])
        with pytest.raises(ValueError, match=IN_THE_RNA + "(.|\n)*" + message + PUT_BACK):
            pair[0].get_latent_representation(query)

    def test_the_lines_that_mend_them(self, pair, fresh, query):
        expected = pair[0].get_latent_representation(query)
        model, mdata = pair[0], with_protein(fresh[:, ::-1].copy())
        with pytest.raises(ValueError, match=r"adata = adata\[:, model\.gene_names\]" + PUT_BACK):
            model.get_latent_representation(mdata)
        adata = mdata["rna"]
        adata = adata[:, model.gene_names].copy()
        mdata.mod["rna"] = adata
        mdata.update()
        close(model.get_latent_representation(mdata), expected)

    def test_column_of_the_whole(self, build, mdata):
        message = r"adata = mdata \(modalities has no 'batch_key'\): batch_key='donor' is not"
        with pytest.raises(ValueError, match=message):
            build("SCMEDAL_FE", mdata, {"modalities": {"rna_layer": "rna"}})

    @pytest.mark.parametrize("modalities", [None, {}, {"batch_key": "rna"}])
    def test_no_modality_of_the_expression(self, build, mdata, modalities):
        written = r"modalities=\{'rna_layer': 'rna', 'batch_key': 'rna', 'labels_key': 'rna'\}"
        with pytest.raises(ValueError, match=rf"has no 'rna_layer'(.|\n)*{written}"):
            build("SCMEDAL_FE", mdata, LABELS | {"modalities": modalities})

    def test_unknown_key(self, build, mdata):
        with pytest.raises(ValueError, match=r"unknown keys \['layer'\](.|\n)*'rna_layer': 'rna'"):
            build("SCMEDAL_FE", mdata, {"modalities": IN_RNA | {"layer": "rna"}})

    @pytest.mark.parametrize("key", ["rna_layer", "batch_key", "labels_key"])
    def test_unknown_modality(self, build, mdata, key):
        message = rf"'{key}': 'RNA', but the modalities of mdata are 'rna', 'protein'"
        with pytest.raises(ValueError, match=message):
            build("SCMEDAL_FE", mdata, LABELS | {"modalities": IN_RNA | {key: "RNA"}})

    def test_new_cells_without_the_modality(self, re, query):
        with pytest.raises(ValueError, match="'rna', but the modalities of mdata are 'protein'"):
            smt.tl.counterfactual_means(
                re[0], md.MuData({"protein": query["protein"]}), "donor_02"
            )

    def test_the_other_kind_of_object(self, build, re, adata, mdata):
        needs_mudata, needs_anndata = (
            "a MuData with the modality 'rna' is needed",
            "This is a MuDa",
        )
        with pytest.raises(ValueError, match=needs_mudata):
            smt.model.SCMEDAL_FE.setup_mudata(adata, "donor", modalities=IN_RNA)
        with pytest.raises(ValueError, match=needs_anndata):
            smt.model.SCMEDAL_FE.setup_anndata(mdata, "donor")
        with pytest.raises(ValueError, match=needs_mudata):
            smt.tl.embed(adata, re[0])
        with pytest.raises(ValueError, match=needs_anndata):
            smt.tl.counterfactual_means(re[1], mdata, "donor_02")

    def test_no_cell_types(self, build, mdata):
        with pytest.raises(ValueError, match=r"SCMEDAL_FEC\.setup_mudata\(\.\.\., labels_key="):
            build("SCMEDAL_FEC", mdata, BATCH_ONLY)
