"""Unusual input works or is refused with a message that says what to do."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scmedal_tools as smt

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]


def with_value(value):
    def change(adata):
        adata.X = adata.X.toarray()
        adata.X[3, 5] = value

    return change


def in_obs(column, value, rows=slice(None)):
    def change(adata):
        values = adata.obs[column].to_numpy(dtype=object, copy=True)
        values[rows] = value
        adata.obs[column] = values

    return change


def repeat_a_gene(adata):
    adata.var_names = [adata.var_names[1], *adata.var_names[1:]]


def take_the_counts(adata):
    adata.X = adata.layers["counts"]


def drop_the_batch(adata):
    del adata.obs["donor"]


REFUSED = {
    "no batch column": (drop_the_batch, r"batch_key='donor' is not a column.*'cell_type'"),
    "one batch": (in_obs("donor", "A"), r"batch_key='donor' has 1 level.*at least 2"),
    "batch missing": (in_obs("donor", np.nan, [0, 7]), r"missing in 2 of 240 cells(.|\n)*notna"),
    "type missing": (in_obs("cell_type", np.nan, [0]), r"labels_key='cell_type' is missing in 1"),
    "NaN": (with_value(np.nan), r"NaN or infinite values in 1 of 240 cells(.|\n)*isfinite"),
    "infinite": (with_value(np.inf), "NaN or infinite values in 1 of 240 cells"),
    "negative": (with_value(-1.0), "negative values .* in 1 of 240 cells"),
    "counts": (take_the_counts, r"raw counts(.|\n)*smt\.pp\.preprocess\(adata\)"),
    "equal names": (repeat_a_gene, r"2 of 60 genes share their name(.|\n)*make_unique"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("name", MODELS)
def test_refused_at_registration(build, adata, name, case):
    change, message = REFUSED[case]
    change(adata)
    with pytest.raises(ValueError, match=message):
        build(name, adata, {"labels_key": "cell_type"})
    assert "_scvi_batch" not in adata.obs


@pytest.mark.slow
def test_counts_are_refused_before_their_genes_are_selected(fit, adata):
    """Of the model's genes alone the total would be another."""
    model = fit("SCMEDAL_RE", adata[:, ::2].copy())
    take_the_counts(adata)
    with pytest.raises(ValueError, match="raw counts"):
        model.get_latent_representation(adata)


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("categorical_covariate_keys", r"random_effect_keys=\['protocol'\]"),
        ("label_key", "The arguments are batch_key, labels_key, layer"),
    ],
)
def test_unknown_arguments_are_refused(adata, argument, hint):
    with pytest.raises(TypeError, match=f"Unknown: {argument}.*{hint}"):
        smt.model.SCMEDAL_RE.setup_anndata(adata, "donor", **{argument: ["cell_type"]})
    assert "_scvi_batch" not in adata.obs


@pytest.mark.parametrize(("shape", "what"), [((0, 60), "0 cells"), ((240, 0), "0 genes")])
def test_nothing_there(build, adata, shape, what):
    with pytest.raises(ValueError, match=f"{what}.*filter"):
        build("SCMEDAL_FE", adata[: shape[0], : shape[1]].copy())


class TestForms:
    """CSR, CSC and dense matrices and layers: see ``TestStorage`` in ``test_base.py``."""

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["tocsr", "tocsc", "toarray"])
    def test_backed(self, fit, adata, tmp_path, form):
        adata.X = getattr(adata.X, form)()
        adata.write_h5ad(tmp_path / "cells.h5ad")
        # A file gives the cells of a minibatch in its order, so that dropout meets others.
        changes = {"input_dropout": 0.0, "adversary_dropout": 0.0}
        expected = fit("SCMEDAL_RE", adata, model=changes).get_latent_representation()
        backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        latent = fit("SCMEDAL_RE", backed, model=changes).get_latent_representation()
        np.testing.assert_allclose(latent, expected, rtol=1e-4, atol=1e-5)
        backed.file.close()

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["tocsr", "tocsc", "toarray"])
    def test_backed_with_dropout(self, fit, adata, tmp_path, form):
        adata.X = getattr(adata.X, form)()
        adata.write_h5ad(tmp_path / "cells.h5ad")
        backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        model = fit("SCMEDAL_RE", backed)
        latent = model.get_latent_representation()
        in_memory = model.get_latent_representation(adata)
        np.testing.assert_allclose(latent, in_memory, rtol=1e-4, atol=1e-5)
        backed.file.close()

    def test_coo_is_refused_by_anndata(self, adata):
        with pytest.raises(ValueError, match="Only CSR and CSC"):
            adata.X = adata.X.tocoo()

    def test_view(self, build, adata):
        with pytest.raises(ValueError, match=r"adata = adata\.copy\(\)"):
            build("SCMEDAL_FE", adata[:100])


class TestBatches:
    @pytest.mark.parametrize("name", MODELS)
    def test_a_batch_of_one_cell(self, fit, adata, name):
        in_obs("donor", "lonely", [17])(adata)
        parts = [np.arange(100), np.arange(100, 180), np.arange(180, 240)]
        split = {"datasplitter_kwargs": {"external_indexing": parts}}
        model = fit(name, adata, {"labels_key": "cell_type"}, **split)
        assert np.isfinite(model.get_reconstruction(return_numpy=True)).all()
        assert model.get_latent_representation(indices=[17]).shape == (1, 4)

    @pytest.mark.slow
    def test_a_batch_without_training_cells(self, fit, adata):
        in_obs("donor", "late", slice(200, 240))(adata)
        parts = [np.arange(150), np.arange(150, 200), np.arange(200, 240)]
        with pytest.warns(UserWarning, match=r"1 of 5 batches have no training cells: late\. "):
            model = fit("SCMEDAL_RE", adata, datasplitter_kwargs={"external_indexing": parts})
        code = model.batch_names.get_loc("late")
        for table in model.module.effect_tables.values():
            effects = table.loc.detach().abs().amax(dim=1)
            assert effects[code] == 0
            assert effects.sum() > 0
        assert np.isfinite(model.get_latent_representation(indices=parts[2])).all()


class TestGenesWithoutVariance:
    @pytest.mark.slow
    @pytest.mark.parametrize("preset", ["default", "paper"])
    @pytest.mark.parametrize("name", MODELS)
    def test_warn_and_stay_finite(self, fit, adata, name, preset):
        adata.X = adata.X.toarray()
        adata.X[:, 3] = 0.5
        setup, model = {"labels_key": "cell_type"}, {"preset": preset}
        with pytest.warns(UserWarning, match=r"1 of 60 genes do not vary.*filter_genes"):
            model = fit(name, adata, setup, model)
        assert np.isfinite(model.get_reconstruction(return_numpy=True)).all()
        assert np.isfinite(model.history["train_loss"].to_numpy(dtype=float)).all()

    @pytest.mark.slow
    def test_all_of_them(self, fit, adata):
        adata.X = np.full(adata.shape, np.log1p(3), dtype=np.float32)
        with pytest.raises(ValueError, match=r"No gene varies over the training cells"):
            fit("SCMEDAL_FE", adata)


def drop_genes(adata):
    return adata[:, 2:].copy()


def reverse_genes(adata):
    return adata[:, ::-1].copy()


QUERIES = {
    "genes missing": (drop_genes, r"2 of the 60 genes .* missing(.|\n)*model\.gene_names"),
    "genes reordered": (reverse_genes, r"another order(.|\n)*model\.gene_names"),
    "genes repeated": (repeat_a_gene, r"2 of 60 genes share their name"),
    "no batch column": (drop_the_batch, r"has no column 'donor'"),
    "batch missing": (in_obs("donor", np.nan, [0]), r"obs\['donor'\] is missing for 1 cells"),
    "batch unseen": (in_obs("donor", "new", [0]), r"1 of the levels.*: new\..*It knows: donor_01"),
    "no type column": (
        lambda adata: adata.obs.pop("partly_labelled"),
        r"no column 'partly_labelled'(.|\n)*obs\['partly_labelled'\] = 'unlabeled'",
    ),
    "type unseen": (
        in_obs("partly_labelled", "new", [0, 1]),
        r"2 cells have .* not trained on: new\.(.|\n)*= 'unlabeled'",
    ),
    "type missing": (
        in_obs("partly_labelled", np.nan, [0]),
        r"1 cells have .* not trained on: nan",
    ),
    "counts": (take_the_counts, "raw counts"),
    "NaN": (with_value(np.nan), "NaN or infinite"),
}


@pytest.mark.parametrize("case", QUERIES)
def test_cells_that_do_not_fit_the_model(trained, fresh, case):
    change, message = QUERIES[case]
    changed = change(fresh)
    query = changed if isinstance(changed, ad.AnnData) else fresh
    with pytest.raises(ValueError, match=message):
        trained.get_latent_representation(query)


def test_the_line_that_orders_the_genes(trained, fresh):
    expected = trained.get_latent_representation(fresh)
    x = fresh.X.toarray()
    more = ad.AnnData(np.hstack([x, x[:, :3]])[:, ::-1], obs=fresh.obs)
    more.var_names = [*fresh.var_names, "x", "y", "z"][::-1]
    with pytest.raises(ValueError, match="another order or with others"):
        trained.get_latent_representation(more)
    mended = more[:, trained.gene_names].copy()
    np.testing.assert_array_equal(trained.get_latent_representation(mended), expected)


def test_too_few_values_to_recognise_are_said_of_training_cells_only(trained, fresh):
    few = "holds too few values to recognise their kind"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", f".*{few}")
        trained.get_latent_representation(fresh[:1].copy())
    with pytest.warns(UserWarning, match=few):
        type(trained).setup_anndata(fresh[:, :2].copy(), "donor", labels_key="partly_labelled")


def test_layer_that_is_not_there(adata):
    with pytest.raises(ValueError, match=r"layer='scaled' is not in adata\.layers.*'counts'"):
        smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor", layer="scaled")


def test_cell_types_that_are_numbers(build, adata):
    adata.obs["cluster"] = adata.obs["cell_type"].cat.codes
    with pytest.raises(ValueError, match=r"labels_key='cluster' has levels that are not text"):
        build("SCMEDAL_FEC", adata, {"labels_key": "cluster"})


def test_missing_cell_types_are_to_be_marked_as_unlabeled(build, adata):
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs.loc[adata.obs_names[:3], "cell_type"] = None
    setup = {"labels_key": "cell_type", "unlabeled_category": "not known"}
    with pytest.raises(ValueError, match=r"fillna\('not known'\)"):
        build("SCMEDAL_FEC", adata, setup)


def test_no_cells_selected(fit, adata):
    with pytest.raises(ValueError, match="selects no cell"):
        fit("SCMEDAL_FE", adata).get_latent_representation(indices=[])


def test_settings_without_effect_are_refused(build, adata):
    with pytest.raises(TypeError, match="label_weight"):
        build("SCMEDAL_FE", adata, label_weight=5.0)
    with pytest.raises(ValueError, match="needs content_code"):
        build("SCMEDAL_RE", adata, preset="paper", adversary_weight=5.0)
    for plan in ({"reduce_lr_on_plateau": True}, {"on_step": True}, {"on_epoch": False}):
        with pytest.raises(ValueError, match="not offered"):
            build("SCMEDAL_FE", adata).train(plan_kwargs=plan)


@pytest.mark.slow
def test_counterfactual_without_a_target(fit, adata):
    model = fit("SCMEDAL_RE", adata)
    with pytest.raises(ValueError, match=r"names no batch.*transform_batch='donor_01'\.$"):
        model.get_counterfactual_expression(transform_batch=None)
    with pytest.raises(ValueError, match="aggregate"):
        model.get_counterfactual_expression(transform_batch="donor_01", aggregate="avg")


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (np.ones(10, bool), "A mask of 10 values does not fit 240 cells"),
        ([0, 240], "not positions in 240 cells.*240 is out of bounds"),
        ([0.5], "not positions in 240 cells"),
    ],
)
def test_indices_that_do_not_fit_the_cells(fe, indices, message):
    with pytest.raises(IndexError, match=message):
        fe.get_latent_representation(indices=indices)


def test_negative_indices_count_from_the_end(fe):
    table = fe.get_reconstruction(indices=[-1, -240])
    assert table.equals(fe.get_reconstruction(indices=[239, 0]))


@pytest.mark.parametrize("container", [pd.Index, pd.Series, np.asarray])
def test_targets_in_any_container(re, container):
    targets = ["donor_02", "donor_03"]
    options = {"indices": [0, 5]}
    ours = re.get_counterfactual_expression(transform_batch=container(targets), **options)
    expected = re.get_counterfactual_expression(transform_batch=targets, **options)
    assert list(ours) == targets
    for target in targets:
        assert ours[target].equals(expected[target])


def test_no_target_is_told_of_a_batch_as_it_is_written(fit, adata):
    adata.obs["donor"] = adata.obs["donor"].cat.codes.astype(np.int64) + 10
    model = fit("SCMEDAL_RE", adata)
    with pytest.raises(ValueError, match=r"transform_batch=10\.$"):
        model.get_counterfactual_expression()


def test_donors_that_became_fractions(fit, adata):
    adata.obs["donor"] = adata.obs["donor"].cat.codes.astype(float) + 1
    model = fit("SCMEDAL_RE", adata)
    options = {"indices": [0, 5], "return_numpy": True}
    expected = model.get_counterfactual_expression(transform_batch=[2.0, 3.0], **options)
    for targets in ([2, 3], ["2", "3"], ["2.0", "3.0"]):
        found = model.get_counterfactual_expression(transform_batch=targets, **options)
        assert list(found) == [2.0, 3.0]
        for target in expected:
            np.testing.assert_array_equal(found[target], expected[target])
    with pytest.raises(ValueError, match=r"'7' is not a level of 'donor'.*Choose from 1\.0, 2\.0"):
        model.get_counterfactual_expression(transform_batch="7")
    means = smt.tl.counterfactual_means(model, adata, "2")
    assert "2.0 -> 2.0" in means.obs_names


def test_a_batch_in_the_place_of_the_cells(re):
    with pytest.raises(TypeError, match=r"adata is of type str.*transform_batch="):
        re.get_counterfactual_expression("donor_01")


@pytest.mark.parametrize("argument", ["max_epochs", "batch_size"])
def test_no_training_is_not_the_default(fit, adata, argument):
    with pytest.raises(ValueError, match=f"{argument}=0 has to be at least 1"):
        fit("SCMEDAL_FE", adata, **{argument: 0})


def test_one_width_in_place_of_several(build, adata):
    with pytest.raises(TypeError, match=r"n_hidden=64 is one number.*n_hidden=\(64,\)"):
        build("SCMEDAL_FE", adata, n_hidden=64)


def test_counts_beside_log_normalised_expression(adata):
    with pytest.raises(ValueError, match=r"raw counts.*adata\.X has it: leave out layer='counts'"):
        smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor", layer="counts")
