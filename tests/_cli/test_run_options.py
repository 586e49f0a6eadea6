"""What the options of a run change."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scmedal_tools import tl
from scmedal_tools._cli._run_job import Run, RunJob
from scmedal_tools.model import SCMEDAL_RE

from ..shell import succeed
from .arguments import BATCH, LABELS, N_CELLS, QUICK, files_in

# Numba raises the number of threads for a UMAP.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


class TestOptions:
    def test_without_labels_the_fixed_effects_are_fe(self, files, tmp_path):
        output = succeed("run", files["counts"], *BATCH, "--out", tmp_path, *QUICK)
        adata = ad.read_h5ad(tmp_path / "adata.h5ad")
        assert {"X_scmedal_fe", "X_scmedal_re"} <= set(adata.obsm)
        assert "X_scmedal_fec" not in adata.obsm
        assert {"models/fe/model.pt", "history/fe.csv"} <= files_in(tmp_path)
        of_fec = {"models/fec/model.pt", "history/fec.csv", "figures/training_fec.png"}
        assert not of_fec & files_in(tmp_path)
        assert not (tmp_path / "counterfactual_means.h5ad").exists()
        assert output.rstrip().endswith("or load models/re in Python.")

    def test_log_normalised_input_is_taken_as_it_is(self, expression, tmp_path):
        given = expression.copy()
        given.obsm["X_pca"] = np.ones((N_CELLS, 2))
        given.write_h5ad(tmp_path / "given.h5ad")
        arguments = [*BATCH, "--size-factor-key", "n_umi", "--out", tmp_path / "out", *QUICK]
        output = succeed("run", tmp_path / "given.h5ad", *arguments)
        assert "used as it is, with all genes" in output
        assert "size factors in 'n_umi': for --condition-key only" in output
        adata = ad.read_h5ad(tmp_path / "out" / "adata.h5ad")
        assert adata.var_names.equals(expression.var_names)
        np.testing.assert_array_equal(adata.X.toarray(), expression.X.toarray())
        np.testing.assert_array_equal(adata.obsm["X_pca"], given.obsm["X_pca"])

    def test_layer_with_counts_beside_log_normalised_x(self, expression, tmp_path):
        given = expression.copy()
        # A PCA of other expression must not stand beside the embeddings, nor its UMAP.
        given.obsm["X_pca"] = given.obsm["X_umap_pca"] = np.ones((N_CELLS, 2))
        given.write_h5ad(tmp_path / "given.h5ad")
        arguments = [*BATCH, "--layer", "raw", "--out", tmp_path / "out", *QUICK]
        assert "log-normalised" not in succeed("run", tmp_path / "given.h5ad", *arguments)
        adata = ad.read_h5ad(tmp_path / "out" / "adata.h5ad")
        counts = expression[:, adata.var_names].layers["raw"].toarray()
        np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts)
        expected = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
        np.testing.assert_allclose(adata.X.toarray(), expected, rtol=1e-5)
        assert adata.obsm["X_pca"].shape == (N_CELLS, 50)
        assert "X_umap_pca" not in adata.obsm

    def test_layer_with_log_normalised_beside_counts(self, expression, tmp_path):
        given = ad.AnnData(expression.layers["raw"], expression.obs, expression.var)
        given.layers["lognorm"] = expression.X
        given.var["highly_variable"] = np.arange(given.n_vars) < 20
        given.write_h5ad(tmp_path / "given.h5ad")
        arguments = [*BATCH, "--layer", "lognorm", "--out", tmp_path / "out", *QUICK]
        succeed("run", tmp_path / "given.h5ad", *arguments)
        adata = ad.read_h5ad(tmp_path / "out" / "adata.h5ad")
        np.testing.assert_array_equal(adata.X.toarray(), expression.X.toarray())
        # Of all genes, as the networks see them, not of 20.
        assert adata.obsm["X_pca"].shape == (N_CELLS, 50)

    def test_size_factors_are_the_divisors(self, files, counts, tmp_path):
        arguments = [*BATCH, "--size-factor-key", "n_umi", "--out", tmp_path, *QUICK]
        succeed("run", files["counts"], *arguments)
        adata = ad.read_h5ad(tmp_path / "adata.h5ad")
        original = counts[:, adata.var_names].X.toarray()
        expected = np.log1p(1e4 * original / counts.obs["n_umi"].to_numpy()[:, None])
        np.testing.assert_allclose(adata.X.toarray(), expected, rtol=1e-5)

    def test_paper_preset_reaches_the_networks_and_the_record(self, files, tmp_path):
        arguments = [*BATCH, "--preset", "paper-asd", "--seed", 5, "--out", tmp_path, *QUICK]
        succeed("run", files["counts"], *arguments)
        record = json.loads((tmp_path / "run.json").read_text())
        assert record["parameters"]["preset"] == "paper-asd"
        assert record["seed"] == 5
        assert record["models"]["re"]["best_epoch"] is None
        model = SCMEDAL_RE.load(tmp_path / "models" / "re", ad.read_h5ad(tmp_path / "adata.h5ad"))
        assert model.preset_ == "paper-asd"
        assert model.module.bottleneck is None  # the paper's network has no content code

    @pytest.mark.parametrize(
        ("preset", "n_genes"),
        [("default", 150), ("paper", 40), ("paper-heart", 50)],
        ids=["all fit", "selected", "of the heart"],
    )
    def test_number_of_genes(self, files, tmp_path, monkeypatch, preset, n_genes):
        from scmedal_tools._cli import _report, _run_job

        monkeypatch.setattr(_run_job, "DEFAULT_GENES", 150)
        monkeypatch.setattr(_run_job, "PAPER_GENES", {"paper": 40, "paper-heart": 50})
        monkeypatch.setattr(_run_job.Run, "_add", lambda *_: None)
        monkeypatch.setattr(_run_job.Run, "_draw", lambda *_: None)
        monkeypatch.setattr(_run_job, "findings", lambda _: [])
        monkeypatch.setattr(_report, "report_run", lambda *_: None)
        output = succeed("run", files["counts"], *BATCH, "--preset", preset, "--out", tmp_path)
        adata = ad.read_h5ad(tmp_path / "adata.h5ad")
        if preset == "default":
            assert 130 < adata.n_vars <= n_genes  # the filter drops genes in fewer than 3 cells
            assert "note:" not in output
        else:
            assert adata.n_vars == n_genes
            assert "note: 2 of 4 batches have fewer than 50 cells" in output

    @pytest.mark.parametrize(("key", "levels"), [("lane", [1, 2, 3, 4]), ("late", [False, True])])
    def test_batches_that_are_no_text(self, files, tmp_path, key, levels):
        swap = ["--transform-batch", levels[0], *levels[:2]]
        arguments = ["--batch-key", key, *swap, "--out", tmp_path]
        succeed("run", files["counts"], *arguments, *QUICK)
        means = ad.read_h5ad(tmp_path / "counterfactual_means.h5ad")
        pairs = [f"{source} -> {target}" for target in levels[:2] for source in levels]
        assert list(means.obs_names) == pairs
        assert (tmp_path / "report.html").is_file()


def test_effects_of_a_condition(files, counts, tmp_path, drawn_figures):
    figures = {"confounding_condition", "group_effects"}
    drawn_figures |= figures
    arguments = [*BATCH, "--condition-key", "condition", "--n-top-genes", 100]
    output = succeed("run", files["counts"], *arguments, "--out", tmp_path, "--max-epochs", 1)
    assert "Effects of condition" in output
    adata = ad.read_h5ad(tmp_path / "adata.h5ad")
    assert adata.n_vars == 100
    table = pd.read_csv(tmp_path / "group_effects.csv")
    contrast = {"disease - control": ("condition", "disease", "control")}
    totals = "total_counts_all_genes"
    of_all = pd.Series(np.asarray(counts.X.sum(1)).ravel(), counts.obs_names)[adata.obs_names]
    np.testing.assert_array_equal(adata.obs[totals], of_all)
    assert (of_all > np.asarray(adata.layers["counts"].sum(1)).ravel()).all()
    options = {"contrast": contrast, "layer": "counts", "size_factor_key": totals}
    expected = tl.group_effects(adata, "~ condition", "donor", **options).table
    pd.testing.assert_frame_equal(table, expected, rtol=1e-6, check_dtype=False)
    report = (tmp_path / "report.html").read_text()
    assert "Effects of condition" in report
    assert ">disease - control<" in report
    assert "C(`" not in report
    assert f">{table.sort_values('p_value')['variable'].iloc[0]}<" in report
    for name in figures:
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1_000


def test_the_reference_of_a_condition(files, tmp_path):
    arguments = [*BATCH, "--condition-key", "condition", "--reference", "disease", *QUICK]
    succeed("run", files["counts"], *arguments, "--out", tmp_path)
    assert set(pd.read_csv(tmp_path / "group_effects.csv")["contrast"]) == {"control - disease"}
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["parameters"]["reference"] == "disease"


def test_networks_do_not_depend_on_the_condition(expression, tmp_path):
    of_condition = {"condition_key": "condition", "reference": "disease"}
    with_condition, without = (
        Run(expression, RunJob("donor", **more), tmp_path)._settings()
        for more in (of_condition, {})
    )
    assert with_condition == without


def test_a_condition_that_cannot_be_tested(files, tmp_path):
    arguments = [*BATCH, *LABELS, "--condition-key", "condition", "--out", tmp_path]
    output = succeed("run", files["counts"], *arguments, "--max-epochs", 1)
    assert "not tested: No state has enough samples" in output
    assert "Not tested. No state has enough samples" in (tmp_path / "report.html").read_text()
