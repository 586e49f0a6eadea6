"""Reduced bars on real data; docs/design/presets.md has the full ones."""

import anndata as ad
import numpy as np
import pytest
import scvi
from sklearn.decomposition import PCA
from typer.testing import CliRunner

import scmedal_tools as smt
from scmedal_tools._cli import _run_job
from scmedal_tools._cli._app import app

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

EPOCHS = {"SCMEDAL_FE": 12, "SCMEDAL_RE": 25}


def some_of_each_donor(adata, n_cells):
    """Random cells, the same number of each donor that has them."""
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)]
    return adata[adata.obs.groupby("donor", observed=True).cumcount() < n_cells].copy()


@pytest.fixture(scope="module")
def all_of_aml(data_dir):
    return ad.read_h5ad(data_dir / "aml_vangalen2019_d0_hvg3000.h5ad")


@pytest.fixture(scope="module")
def aml(all_of_aml):
    adata = all_of_aml
    adata = adata[adata.obs["donor"].isin(["AML707B", "AML1012", "AML328", "BM3", "AML210A"])]
    adata = some_of_each_donor(adata, 500)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=1000, size_factor_key="n_umi_total")
    parts = smt.train.stratified_split(adata.obs, ["donor", "cell_type"])
    train, test = (adata.X[cells].toarray() for cells in (parts[0], parts[2]))
    pca = PCA(50, random_state=0).fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).sum()
    total = np.square(test - train.mean(0)).sum()
    return adata, parts, test, total, 1 - error / total


def trained(cls, adata, parts):
    scvi.settings.seed = 0
    cls.setup_anndata(adata, batch_key="donor")
    model = cls(adata)
    model.train(
        max_epochs=EPOCHS[cls.__name__],
        batch_size=128,
        enable_progress_bar=False,
        datasplitter_kwargs={"external_indexing": parts},
    )
    return model


@pytest.fixture(scope="module")
def fe(aml):
    adata, parts, *_ = aml
    return trained(smt.model.SCMEDAL_FE, adata.copy(), parts)


@pytest.fixture(scope="module")
def re(aml):
    adata, parts, *_ = aml
    return trained(smt.model.SCMEDAL_RE, adata.copy(), parts)


@pytest.mark.parametrize(("name", "bar"), [("fe", 0.5), ("re", 0.7)])
def test_variance_explained_of_aml_test_cells(aml, name, bar, request):
    _, parts, test, total, of_pca = aml
    model = request.getfixturevalue(name)
    reconstruction = model.get_reconstruction(indices=parts[2], return_numpy=True)
    explained = 1 - np.square(test - reconstruction).sum() / total
    assert explained >= bar * of_pca


def test_a_wrong_donor_reconstructs_aml_worse(aml, re):
    adata, parts, test, _, _ = aml
    own = adata.obs["donor"].to_numpy()[parts[2]]
    names = list(re.batch_names)
    swapped = re.get_counterfactual_expression(
        indices=parts[2], transform_batch=names, return_numpy=True
    )
    error = {name: np.square(test - x).sum(1) for name, x in swapped.items()}
    right = np.choose([names.index(name) for name in own], [error[name] for name in names])
    wrong = (sum(error.values()) - right) / (len(names) - 1)
    assert wrong.sum() > 1.02 * right.sum()


def test_shuffled_donors_have_no_effects(aml, re):
    adata, parts, *_ = aml
    shuffled = adata.copy()
    rng = np.random.default_rng(0)
    shuffled.obs["donor"] = rng.permutation(adata.obs["donor"].to_numpy())
    with pytest.warns(UserWarning, match="collapsed"):
        model = trained(smt.model.SCMEDAL_RE, shuffled, parts)
    assert abs(model.get_swap_gap(indices=parts[2]) - 1) < 0.005
    true = smt.tl.effects_diagnostics(re).tables["size"]
    sizes = smt.tl.effects_diagnostics(model).tables["size"]
    is_on = true > 1e-4  # some tables are off under the true donors too
    assert is_on.sum() >= 4
    assert (sizes[is_on] < 0.1 * true[is_on]).all()
    assert (sizes[~is_on] < 1e-4).all()


def test_stimulation_of_a_held_out_type_is_predicted_better_than_by_least_squares(data_dir):
    adata = ad.read_h5ad(data_dir / "kang2018_pbmc_ctrl_stim_2000cells.h5ad")
    smt.pp.preprocess(adata, batch_key="condition", n_top_genes=1000)
    parts, _ = smt.train.hold_out_combinations(
        adata.obs, "condition", "cell_type", [("stim", "CD14+ Monocytes")]
    )
    scvi.settings.seed = 0
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="condition")
    model = smt.model.SCMEDAL_RE(adata)
    model.train(
        max_epochs=30,
        enable_progress_bar=False,
        datasplitter_kwargs={"external_indexing": parts},
    )
    options = {"held_out_only": True, "progress": False}
    shifts = smt.bm.counterfactual_shift(model, adata, "condition", "cell_type", **options)
    scores = smt.bm.shift_summary(shifts).loc["held out"]
    ours, least_squares = scores.loc["RE"], scores.loc["least squares (given cell types)"]
    assert ours["correlation"] > least_squares["correlation"] + 0.05
    assert ours["error"] < 0.8 * least_squares["error"]


def test_the_command_line_on_pig_airway(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(_run_job.Run, "_draw", lambda _: None)  # other tests look at figures
    adata = ad.read_h5ad(data_dir / "cf_pig_airway_aggregatebiovar.h5ad")
    some = np.random.default_rng(0).permutation(adata.n_obs)[:1_500]
    with ad.settings.override(allow_write_nullable_strings=True):  # with pandas 2
        adata[some].write_h5ad(tmp_path / "cells.h5ad")
    arguments = [
        "run", str(tmp_path / "cells.h5ad"), "--batch-key", "donor",
        "--labels-key", "cell_type", "--max-epochs", "5", "--n-top-genes", "500",
        "--transform-batch", "SWT1", "--out", str(tmp_path / "pig"),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    adata = ad.read_h5ad(tmp_path / "pig" / "adata.h5ad")
    assert {"X_pca", "X_scmedal_fec", "X_scmedal_re"} <= set(adata.obsm)
    means = ad.read_h5ad(tmp_path / "pig" / "counterfactual_means.h5ad")
    # Shifts of a donor to itself are nothing, those of the other genotype are something.
    to_itself = means[means.obs["source"] == "SWT1"].X
    assert np.abs(to_itself).max() < 1e-5
    assert np.abs(means[means.obs["source"] == "SCF3"].X).max() > 0.05


@pytest.mark.parametrize(("scheme", "of_label"), [("cells", 1.0), ("donors", 0.5)])
def test_the_batch_label_predicts_the_patient_group_of_known_donors_only(
    all_of_aml, scheme, of_label
):
    adata = some_of_each_donor(all_of_aml, 200)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None, size_factor_key="n_umi_total")
    result = smt.bm.cross_validate(
        adata, "donor", "cell_type", ["patient_group"], models=["pca"], n_folds=3,
        scheme=scheme, n_top_genes=500, n_trees=20, progress=False,
    )  # fmt: skip
    accuracy = result.table[result.table["metric"] == "balanced_accuracy"]
    accuracy = accuracy.groupby("embedding")["value"].mean()
    assert accuracy["batch label"] == of_label
    assert accuracy["pca"] > 0.55
    if scheme == "donors":
        assert (result.votes_summary()["n_batches"] == 18).all()
