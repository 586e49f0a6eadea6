"""The commands, on files of a few hundred simulated cells."""

from __future__ import annotations

import functools
import json
import logging
import sys

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch

from scmedal_tools import bm, datasets, pl, pp, tl
from scmedal_tools.bm._cross_validation._embedders import Fold
from scmedal_tools.model import SCMEDAL_FEC, SCMEDAL_RE

from ..shell import refuse, succeed

# Numba raises the number of threads for a UMAP.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

BATCH, LABELS = ["--batch-key", "donor"], ["--labels-key", "cell_type"]
N_CELLS, N_EPOCHS = 250, 7
CHATTY = ("lightning.pytorch", "lightning.fabric", "scvi")


def files_in(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def counts():
    adata = datasets.simulated(n_donors=4, n_genes=150, n_cell_types=3, seed=3)[:N_CELLS].copy()
    adata.obs["n_umi"] = 2.0 * np.asarray(adata.X.sum(axis=1)).ravel()
    adata.obs["lane"] = adata.obs["donor"].cat.codes.astype(int) + 1
    adata.obs["late"] = adata.obs["lane"] > 2
    return adata


@pytest.fixture(scope="module")
def expression(counts):
    """Log-normalised to another total than the package would choose."""
    adata = counts.copy()
    adata.layers["raw"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=500)
    sc.pp.log1p(adata)
    return adata


@pytest.fixture(scope="module")
def files(counts, expression, tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    paths = {"counts": folder / "counts.h5ad", "expression": folder / "expression.h5ad"}
    counts.write_h5ad(paths["counts"])
    expression.write_h5ad(paths["expression"])
    return paths


@pytest.fixture(scope="module")
def labelled(files, tmp_path_factory):
    """Folder, output and the libraries' log of one whole run."""
    out = tmp_path_factory.mktemp("results") / "new" / "folder"
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    for name in CHATTY:
        logging.getLogger(name).addHandler(handler)
    torch.set_num_threads(1)
    swap = ["--transform-batch", "donor_01", "donor_03", "--max-epochs"]
    output = succeed("run", files["counts"], *BATCH, *LABELS, "--out", out, *swap, N_EPOCHS)
    for name in CHATTY:
        logging.getLogger(name).removeHandler(handler)
    return out, output, records


class TestRun:
    def test_writes_what_it_promises_and_says_so(self, labelled):
        out, output, _ = labelled
        expected = {
            "adata.h5ad",
            "counterfactual_means.h5ad",
            "run.json",
            "report.html",
            "models/settings.json",
        }
        figures = ["counterfactuals", "embeddings", "batch_effects", "genomaps", "confounding"]
        for name in ("fec", "re"):
            figures.append(f"training_{name}")
            expected |= {f"models/{name}/model.pt", f"history/{name}.csv"}
        files = {f"figures/{name}.{kind}" for name in figures for kind in ("png", "pdf")}
        assert files_in(out) == expected | files
        listing = output.split("Written to")[1]
        assert str(out) in listing
        expected |= {f"figures/{name}.png, .pdf" for name in figures}
        assert all(name in listing for name in expected)
        assert "Open report.html first" in listing
        assert "For counterfactuals" not in listing
        assert listing.split()[1] == "report.html"

    def test_shows_progress_and_no_chatter(self, labelled):
        _, output, records = labelled
        assert output.count(f"Epoch {N_EPOCHS}/{N_EPOCHS}: 100%") >= 2
        assert [record.getMessage() for record in records] == []
        # So short a training leaves the effects where they started, and some of these donors have
        # next to no cells of some states: both have to be said.
        notes = [line for line in output.splitlines() if "note:" in line]
        few, *others = notes
        assert "4 batches are too few" in few
        expected = ("random effects have collapsed", "fewer than 5 training cells")
        assert all(any(text in note for text in expected) for note in others)
        assert "Warning" not in output
        steps = (
            "Preprocess",
            "Train SCMEDAL_FEC",
            "Train SCMEDAL_RE",
            "Counterfactual",
            "Figures",
            "  UMAPs",
            "  effects of batches",
            "  genomaps",
        )
        positions = [output.index(step) for step in steps]
        assert positions == sorted(positions)

    def test_says_how_many_genes_were_left_out(self, labelled, counts):
        out, output, _ = labelled
        n_genes = ad.read_h5ad(out / "adata.h5ad").n_vars
        assert n_genes < counts.n_vars
        assert f"  {N_CELLS} cells x {n_genes} of {counts.n_vars} genes, 4 batches" in output

    def test_cells_have_their_embeddings(self, labelled, counts):
        adata = ad.read_h5ad(labelled[0] / "adata.h5ad")
        assert adata.obs_names.equals(counts.obs_names)
        for key in ("X_pca", "X_scmedal_fec", "X_scmedal_re"):
            assert adata.obsm[key].shape == (N_CELLS, 50)
            assert adata.obsm[key].std() > 0
            assert adata.obsm[f"X_umap_{key.removeprefix('X_')}"].shape == (N_CELLS, 2)
        assert "X_scmedal_fe" not in adata.obsm
        assert adata.uns["scmedal"]["X_scmedal_re"]["batch_key"] == "donor"

    def test_counts_are_normalised_and_kept(self, labelled, counts):
        adata = ad.read_h5ad(labelled[0] / "adata.h5ad")
        original = counts[:, adata.var_names].X.toarray()
        np.testing.assert_array_equal(adata.layers["counts"].toarray(), original)
        expected = np.log1p(1e4 * original / original.sum(axis=1, keepdims=True))
        np.testing.assert_allclose(adata.X.toarray(), expected, rtol=1e-5)

    @pytest.mark.parametrize("model", [SCMEDAL_FEC, SCMEDAL_RE])
    def test_models_are_those_behind_the_embeddings(self, labelled, model):
        out, *_ = labelled
        name = model.__name__.removeprefix("SCMEDAL_").lower()
        alone = model.load(out / "models" / name, adata=False)
        assert list(alone.batch_names) == [f"donor_{i:02d}" for i in range(1, 5)]
        adata = ad.read_h5ad(out / "adata.h5ad")
        latent = model.load(out / "models" / name, adata).get_latent_representation()
        np.testing.assert_allclose(latent, adata.obsm[f"X_scmedal_{name}"], atol=1e-4)

    @pytest.mark.parametrize(
        ("name", "own_terms"),
        [("fec", {"label_ce"}), ("re", {"adversary_ce", "kl_global"})],
    )
    def test_history_has_every_term_for_both_parts(self, labelled, name, own_terms):
        history = pd.read_csv(labelled[0] / "history" / f"{name}.csv", index_col="epoch")
        assert list(history.index) == list(range(N_EPOCHS))
        terms = {"reconstruction_loss", "mse", "adversary_ce"} | own_terms
        columns = {f"{term}_{part}" for term in terms for part in ("train", "validation")}
        assert columns | {"train_loss", "validation_loss"} <= set(history)
        assert np.isfinite(history.to_numpy()).all()
        assert (history[list(columns)].std() > 0).all()

    def test_figures_show_something(self, labelled):
        for path in (labelled[0] / "figures").glob("*.png"):
            image = plt.imread(path)
            assert min(image.shape[:2]) > 100
            assert image.std() > 0.05

    def test_counterfactual_means_are_those_of_the_saved_model(self, labelled):
        out, *_ = labelled
        means = ad.read_h5ad(out / "counterfactual_means.h5ad")
        assert set(means.obs["target"]) == {"donor_01", "donor_03"}
        assert set(means.obs["source"]) == {f"donor_{i:02d}" for i in range(1, 5)}
        adata = ad.read_h5ad(out / "adata.h5ad")
        cells = ((adata.obs["donor"] == "donor_01") & (adata.obs["cell_type"] == "type_3")).values
        model = SCMEDAL_RE.load(out / "models" / "re", adata)
        expected = model.get_counterfactual_expression(indices=cells, transform_batch="donor_03")
        row = means["donor_01 -> donor_03 (type_3)"]
        assert row.obs["n_cells"].item() == cells.sum()
        np.testing.assert_allclose(row.layers["counterfactual"][0], expected.mean(), atol=1e-4)
        lower, upper = means.layers["lower"], means.layers["upper"]
        assert (lower <= upper).all()
        names = means.obs[["source", "target"]].astype(str)
        assert (upper - lower)[(names["source"] != names["target"]).to_numpy()].mean() > 0.01

    def test_record(self, labelled, files):
        record = json.loads((labelled[0] / "run.json").read_text())
        assert record["input"] == str(files["counts"])
        assert record["seed"] == record["parameters"]["seed"] == 0
        assert record["parameters"]["transform_batch"] == ["donor_01", "donor_03"]
        assert record["parameters"]["preset"] == "default"
        assert record["versions"]["torch"] == torch.__version__.split("+")[0]
        assert {"scmedal-tools", "scvi-tools", "anndata", "python"} <= set(record["versions"])
        assert {"preprocess", "train_fec", "train_re", "figures"} <= set(record["seconds"])
        for name in ("fec", "re"):
            model = record["models"][name]
            history = pd.read_csv(labelled[0] / "history" / f"{name}.csv", index_col="epoch")
            after_warmup = history["selection_validation"].iloc[5:]
            assert model["best_epoch"] == after_warmup.idxmin()
            assert model["epochs"] == N_EPOCHS


class TestOptions:
    def test_same_seed_gives_the_same_whatever_the_form_of_the_option(
        self, labelled, files, tmp_path
    ):
        swap = ["--transform-batch", "donor_01", "--transform-batch", "donor_03", "--max-epochs"]
        succeed("run", files["counts"], *BATCH, *LABELS, "--out", tmp_path, *swap, N_EPOCHS)
        one, two = (ad.read_h5ad(folder / "adata.h5ad") for folder in (labelled[0], tmp_path))
        for key in ("X_scmedal_fec", "X_scmedal_re"):
            np.testing.assert_allclose(one.obsm[key], two.obsm[key], atol=1e-4)
        names = [
            ad.read_h5ad(folder / "counterfactual_means.h5ad").obs_names
            for folder in (labelled[0], tmp_path)
        ]
        assert names[0].equals(names[1])

    def test_without_labels_the_fixed_effects_are_fe(self, files, tmp_path):
        output = succeed("run", files["counts"], *BATCH, "--out", tmp_path, *_quick())
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
        arguments = [*BATCH, "--size-factor-key", "n_umi", "--out", tmp_path / "out", *_quick()]
        output = succeed("run", tmp_path / "given.h5ad", *arguments)
        assert "used as it is, with all genes" in output
        assert "size factors in 'n_umi' are not needed" in output
        adata = ad.read_h5ad(tmp_path / "out" / "adata.h5ad")
        assert adata.var_names.equals(expression.var_names)
        np.testing.assert_array_equal(adata.X.toarray(), expression.X.toarray())
        np.testing.assert_array_equal(adata.obsm["X_pca"], given.obsm["X_pca"])

    def test_layer_with_counts_beside_log_normalised_x(self, expression, tmp_path):
        given = expression.copy()
        # A PCA of other expression must not stand beside the embeddings, nor its UMAP.
        given.obsm["X_pca"] = given.obsm["X_umap_pca"] = np.ones((N_CELLS, 2))
        given.write_h5ad(tmp_path / "given.h5ad")
        arguments = [*BATCH, "--layer", "raw", "--out", tmp_path / "out", *_quick()]
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
        arguments = [*BATCH, "--layer", "lognorm", "--out", tmp_path / "out", *_quick()]
        succeed("run", tmp_path / "given.h5ad", *arguments)
        adata = ad.read_h5ad(tmp_path / "out" / "adata.h5ad")
        np.testing.assert_array_equal(adata.X.toarray(), expression.X.toarray())
        # Of all genes, as the networks see them, not of 20.
        assert adata.obsm["X_pca"].shape == (N_CELLS, 50)

    def test_size_factors_are_the_divisors(self, files, counts, tmp_path):
        arguments = [*BATCH, "--size-factor-key", "n_umi", "--out", tmp_path, *_quick()]
        succeed("run", files["counts"], *arguments)
        adata = ad.read_h5ad(tmp_path / "adata.h5ad")
        original = counts[:, adata.var_names].X.toarray()
        expected = np.log1p(1e4 * original / counts.obs["n_umi"].to_numpy()[:, None])
        np.testing.assert_allclose(adata.X.toarray(), expected, rtol=1e-5)

    def test_paper_preset_reaches_the_networks_and_the_record(self, files, tmp_path):
        arguments = [*BATCH, "--preset", "paper-asd", "--seed", 5, "--out", tmp_path, *_quick()]
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
        succeed("run", files["counts"], *arguments, *_quick())
        means = ad.read_h5ad(tmp_path / "counterfactual_means.h5ad")
        pairs = [f"{source} -> {target}" for target in levels[:2] for source in levels]
        assert list(means.obs_names) == pairs
        assert (tmp_path / "report.html").is_file()


def _quick():
    return "--max-epochs", 1


class TestFolder:
    def test_files_are_never_touched_uninvited(self, files, tmp_path):
        (tmp_path / "run.json").write_text("mine")
        message = refuse("run", files["counts"], *BATCH, "--out", tmp_path)
        assert "--overwrite" in message
        assert files_in(tmp_path) == {"run.json"}
        assert (tmp_path / "run.json").read_text() == "mine"

    def test_overwrite_replaces_its_own_files_and_keeps_others(self, files, tmp_path):
        earlier = {"run.json", "models/fec/model.pt", "history/fec.csv", "effect_recovery.csv"}
        earlier |= {"figures/true_shifts.png", "figures/true_shifts.pdf"}
        foreign = {"notes.txt", "figures/mine.png", "models/fec/notes.txt"}
        for name in earlier | foreign:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("old")
        output = succeed(
            "run", files["counts"], *BATCH, "--out", tmp_path, "--overwrite", *_quick()
        )
        left = files_in(tmp_path)
        assert foreign <= left
        assert all((tmp_path / name).read_text() == "old" for name in foreign)
        assert left & earlier == {"run.json"}
        assert json.loads((tmp_path / "run.json").read_text())["parameters"]["max_epochs"] == 1
        assert not (tmp_path / "history" / "fec.csv").exists()
        assert "notes.txt" not in output

    def test_a_refused_job_leaves_the_results_of_the_last(self, files, tmp_path):
        (tmp_path / "run.json").write_text("old")
        refuse("run", files["counts"], "--batch-key", "x", "--out", tmp_path, "--overwrite")
        assert (tmp_path / "run.json").read_text() == "old"
        refuse("run", files["counts"], "--batch-key", "x", "--out", tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_a_condition_that_no_formula_can_name(self, files, tmp_path):
        adata = ad.read_h5ad(files["counts"])
        adata.obs["a`b"] = adata.obs["condition"]
        adata.write_h5ad(tmp_path / "cells.h5ad")
        arguments = [*BATCH, "--condition-key", "a`b", "--out", tmp_path / "out"]
        output = refuse("run", tmp_path / "cells.h5ad", *arguments)
        assert "Rename the column" in " ".join(output.split())
        assert not (tmp_path / "out").exists()

    def test_a_file_is_no_folder(self, files, tmp_path):
        (tmp_path / "file").touch()
        arguments = ["--out", tmp_path / "file", "--overwrite"]
        assert "is a file" in refuse("run", files["counts"], *BATCH, *arguments)


def test_effects_of_a_condition(files, tmp_path, drawn_figures):
    arguments = [*BATCH, "--condition-key", "condition", "--n-top-genes", 100]
    output = succeed("run", files["counts"], *arguments, "--out", tmp_path, "--max-epochs", 1)
    assert "Effects of condition" in output
    adata = ad.read_h5ad(tmp_path / "adata.h5ad")
    assert adata.n_vars == 100
    table = pd.read_csv(tmp_path / "group_effects.csv")
    contrast = {"disease - control": ("condition", "disease", "control")}
    options = {"contrast": contrast, "layer": "counts"}
    expected = tl.group_effects(adata, "~ condition", "donor", **options).table
    pd.testing.assert_frame_equal(table, expected, rtol=1e-6, check_dtype=False)
    report = (tmp_path / "report.html").read_text()
    assert "Effects of condition" in report
    assert ">disease - control<" in report
    assert "C(`" not in report
    assert f">{table.sort_values('p_value')['variable'].iloc[0]}<" in report
    for name in ("confounding_condition", "group_effects"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1_000


def test_a_condition_that_cannot_be_tested(files, tmp_path):
    arguments = [*BATCH, *LABELS, "--condition-key", "condition", "--out", tmp_path]
    output = succeed("run", files["counts"], *arguments, "--max-epochs", 1)
    assert "not tested: No state has enough samples" in output
    assert "Not tested. No state has enough samples" in (tmp_path / "report.html").read_text()


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "mend"),
        [
            (
                "--batch-key donr",
                "--batch-key donr: there is no such column of obs. Did you mean donor? There",
            ),
            (
                "--batch-key donor --labels-key x",
                "--labels-key x: there is no such column of obs. There are: ",
            ),
            ("--batch-key donor --layer x", "--layer x: there is no such layer"),
            (
                "--batch-key donor --transform-batch donor_01 donor_9",
                "--transform-batch donor_9: there is no such batch in obs['donor']. Did you mean ",
            ),
            (
                "--batch-key donor --preset papers",
                "--preset papers: there is no such choice. Did you mean paper? There are: ",
            ),
            ("--batch-key donor --size-factor-key donor", "Numeric columns: 'n_umi', 'lane'"),
            ("--batch-key donor donor_01", "unexpected arguments: donor_01"),
            ("--batch-key donor --no-such-option", "No such option"),
            ("--labels-key cell_type", "--batch-key"),
        ],
    )
    def test_message_names_the_mend(self, files, tmp_path, arguments, mend):
        message = refuse("run", files["counts"], *arguments.split(), "--out", tmp_path / "out")
        assert mend in message
        assert not (tmp_path / "out").exists()

    def test_missing_file(self, tmp_path):
        message = refuse("run", tmp_path / "no.h5ad", *BATCH, "--out", tmp_path / "out")
        assert "There is no file" in message

    def test_file_of_another_kind(self, tmp_path):
        (tmp_path / "text[red].h5ad").write_text("cell,gene")
        message = refuse("run", tmp_path / "text[red].h5ad", *BATCH, "--out", tmp_path / "out")
        assert message.count("text[red].h5ad") == 2  # brackets are not taken for a colour
        assert "cannot be read as an .h5ad file" in message
        assert "write_h5ad" in message

    @pytest.mark.parametrize("has_counts", [False, True])
    def test_scaled_expression(self, expression, tmp_path, has_counts):
        scaled = expression.copy()
        if has_counts:
            scaled.layers["counts"] = scaled.layers["raw"]
        sc.pp.scale(scaled, zero_center=True)
        scaled.write_h5ad(tmp_path / "scaled.h5ad")
        message = refuse("run", tmp_path / "scaled.h5ad", *BATCH, "--out", tmp_path / "out")
        assert "negative values (scaled data?)" in message
        assert ("Pass --layer counts." in message) == has_counts

    @pytest.mark.parametrize(
        ("transform", "found"),
        [
            (np.log1p, "Undo one logarithm"),
            (lambda x: np.sqrt(np.expm1(x)), "square roots"),
            (lambda x: np.floor(np.expm1(x)) * 1.5 + 0.25 * (x > 0), "whole"),
        ],
        ids=["logged twice", "square roots", "fractions"],
    )
    @pytest.mark.parametrize("command", ["run", "evaluate"])
    def test_other_values(self, expression, tmp_path, command, transform, found):
        other = expression.copy()
        other.X.data = transform(other.X.data)
        other.write_h5ad(tmp_path / "other.h5ad")
        arguments = [*BATCH, *LABELS, "--out", tmp_path / "out"]
        arguments += TARGET if command == "evaluate" else []
        message = refuse(command, tmp_path / "other.h5ad", *arguments)
        assert found in message
        assert not (tmp_path / "out").exists()

    def test_missing_values_of_expression(self, expression, tmp_path):
        broken = expression.copy()
        broken.X.data[3] = np.nan
        broken.write_h5ad(tmp_path / "broken.h5ad")
        message = refuse("run", tmp_path / "broken.h5ad", *BATCH, "--out", tmp_path / "out")
        assert "NaN or infinite values in 1 of 250 cells" in message

    def test_levels_of_the_loggers_come_back(self, files, tmp_path):
        before = [logging.getLogger(name).level for name in CHATTY]
        refuse("run", files["counts"], "--batch-key", "x", "--out", tmp_path)
        assert [logging.getLogger(name).level for name in CHATTY] == before


def test_demo_compares_with_the_truth(tmp_path, monkeypatch, drawn_figures):
    small = functools.partial(datasets.simulated, n_donors=4, n_genes=60, n_cell_types=2)
    monkeypatch.setattr(datasets, "simulated", small)
    output = succeed("demo", "--out", tmp_path, "--max-epochs", 2)
    table = pd.read_csv(tmp_path / "effect_recovery.csv")
    methods = {"RE", "additive", "least squares (given cell types)"}
    assert set(table["method"]) == methods
    assert len(table) == 3 * len(table[["cell_type", "source", "target"]].drop_duplicates())
    medians = table.groupby("method")["correlation"].median()
    printed = output.split("Effect of moving")[1]
    for method in methods:
        line = next(line for line in printed.splitlines() if method in line)
        assert f"{medians[method]:.2f}" in line
    assert output.index("Written to") < output.index("Effect of moving")
    assert "effect_recovery.csv" in output
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["effect_recovery"]["additive"]["correlation"] == pytest.approx(
        medians["additive"]
    )
    order = list(medians.sort_values().index)
    assert sorted(order, key=printed.index) == list(record["effect_recovery"]) == order
    report = (tmp_path / "report.html").read_text()
    assert f'<th scope="row">additive</th><td>{medians["additive"]:.3g}</td>' in report
    assert plt.imread(tmp_path / "figures" / "true_shifts.png").std() > 0.02
    assert 'href="figures/true_shifts.pdf"' in report


TARGET, THREE_FOLDS = ["--target-key", "condition"], ["--n-folds", 3]


def evaluate(file, out, *options):
    return ["evaluate", file, *BATCH, *LABELS, *TARGET, "--out", out, *THREE_FOLDS, *options]


class TestEvaluate:
    @pytest.fixture(scope="class")
    def judged(self, files, tmp_path_factory):
        """Folder and output of an evaluation of both networks in one fold."""
        out = tmp_path_factory.mktemp("results") / "new" / "folder"
        torch.set_num_threads(1)
        options = [
            "--models",
            "pca",
            "FE",
            "RE",
            "--quick",
            "--max-epochs",
            2,
            "--n-top-genes",
            60,
        ]
        return out, succeed(*evaluate(files["counts"], out, *options))

    def test_writes_what_it_promises_and_says_so(self, judged):
        out, output = judged
        names = ["clustering", "classification_condition"]
        expected = {f"tables/{name}.{ending}" for name in names for ending in ("csv", "md", "tex")}
        names += ["embeddings", *(f"confounding_{name}" for name in ("cell_type", "condition"))]
        names += ["training_FE", "training_RE"]
        expected |= {f"figures/{name}.{kind}" for name in names for kind in ("png", "pdf")}
        expected |= {f"tables/{name}.csv" for name in ("confounding", "scores", "epochs")}
        expected |= {"run.json", "report.html"}
        assert {name for name in files_in(out) if not name.startswith("folds/")} == expected
        listing = output.split("Written to")[1]
        for name in expected:
            path, ending = name.rsplit(".", 1)
            assert any(path in line and ending in line for line in listing.splitlines())
        assert "folds/" in listing
        assert listing.split()[1] == "report.html"

    def test_confounding_comes_first_and_the_conclusion_last(self, judged, counts):
        out, output = judged
        steps = ["Confounding", "Preprocess", "Cross-validation", "Conclusions", "Figures"]
        positions = [output.index(step) for step in steps]
        assert positions == sorted(positions)
        found = bm.confounding(counts, "donor", ["cell_type", "condition"])
        for line in str(found).splitlines():
            assert positions[0] < output.index(line) < positions[1]
        sentence = json.loads((out / "run.json").read_text())["conclusions"]["condition"]
        assert positions[3] < output.index(sentence) < positions[4]
        assert "one fold cannot show whether" in sentence
        assert "Embeddings: 100%" in output
        assert "Scores: 100%" in output

    def test_notes_are_said_once_and_there_is_no_chatter(self, judged):
        notes = [line for line in judged[1].splitlines() if "note:" in line]
        # In three networks and a PCA the same genes are selected.
        assert sum("not used to select" in note or "over all cells" in note for note in notes) == 1
        assert "Warning" not in judged[1]
        assert "GPU" not in judged[1]

    def test_options_reach_the_cross_validation_and_the_record(self, judged, files):
        record = json.loads((judged[0] / "run.json").read_text())
        settings = record["cross_validation"]
        given = {"preset": "default", "max_epochs": 2}
        assert settings["settings"] == {"FE": given, "RE": given}
        epochs = pd.read_csv(judged[0] / "tables" / "epochs.csv").set_index("embedding")["epochs"]
        assert epochs["FE"] == epochs["RE"] == 2
        assert settings["folds"] == [0]
        assert settings["n_top_genes"] == record["parameters"]["n_top_genes"] == 60
        assert record["input"] == str(files["counts"])
        assert record["seconds"]["cross_validate"] > 0
        table = pd.read_csv(judged[0] / "tables" / "classification_condition.csv")
        assert set(table["kind"]) == {"embedding", "control", "chance"}
        assert table["accuracy lower"].isna().all()

    def test_figures_show_something(self, judged):
        for path in (judged[0] / "figures").glob("*.png"):
            image = plt.imread(path)
            assert min(image.shape[:2]) > 200
            assert image.std() > 0.05

    @pytest.fixture(scope="class")
    def mine(self, expression, tmp_path_factory):
        """File of log-normalised cells with an embedding, which costs no training."""
        adata = expression.copy()
        adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(N_CELLS, 3)).astype("f")
        path = tmp_path_factory.mktemp("mine") / "mine.h5ad"
        adata.write_h5ad(path)
        return path

    @pytest.mark.parametrize("layer", [None, "raw"])
    def test_is_the_cross_validation_of_python(self, mine, tmp_path, layer):
        options = ["--models", "X_mine", "pca", "--seed", 4]
        options += ["--layer", layer, "--size-factor-key", "n_umi"] if layer else []
        output = succeed(*evaluate(mine, tmp_path / "out", *options))
        assert ("used as it is, with all genes" in output) == (layer is None)
        adata = ad.read_h5ad(mine)
        if layer:
            pp.preprocess(adata, layer=layer, size_factor_key="n_umi", n_top_genes=None)
        result = bm.cross_validate(
            adata, "donor", "cell_type", ["condition"], models=["X_mine", "pca"], n_folds=3,
            seed=4, progress=False,
        )  # fmt: skip
        bm.write_tables(bm.paper_tables(result), tmp_path / "expected")
        for path in (tmp_path / "expected").iterdir():
            assert (tmp_path / "out" / "tables" / path.name).read_text() == path.read_text()

    def test_number_of_genes_of_raw_counts(self, files, tmp_path, monkeypatch):
        from scmedal_tools._cli import _evaluate_job

        monkeypatch.setattr(_evaluate_job, "DEFAULT_GENES", 70)
        arguments = evaluate(files["counts"], tmp_path, "--models", "pca", "--quick")
        assert "the 70 most variable genes are selected" in succeed(*arguments)
        settings = json.loads((tmp_path / "folds" / "settings.json").read_text())
        assert settings["n_top_genes"] == 70

    def test_whole_donors(self, mine, tmp_path):
        options = ["--models", "X_mine", "--scheme", "donors", "--n-folds", 2]
        options += ["--stratify-key", "condition"]
        output = succeed(*evaluate(mine, tmp_path, *options))
        votes = pd.read_csv(tmp_path / "tables" / "votes.csv")
        assert set(votes["n_batches"]) == {4}
        assert "tables/votes.csv" in output

    def test_what_was_interrupted_goes_on(self, mine, tmp_path, monkeypatch):
        arguments = evaluate(mine, tmp_path, "--models", "X_mine", "pca")
        embed = Fold.embed

        def interrupt(fold, name, *rest):
            if name == "pca":
                raise ValueError("out of power")
            return embed(fold, name, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Fold, "embed", interrupt)
            assert refuse(*arguments).endswith("Error: out of power")
        done = tmp_path / "folds" / "fold 0" / "embedding X_mine.npz"
        written = done.stat().st_mtime_ns
        succeed(*arguments)
        assert done.stat().st_mtime_ns == written
        assert (tmp_path / "tables" / "clustering.csv").is_file()
        message = refuse(*arguments, "--seed", 1)
        assert "results of a run with other settings (seed)" in message

    def test_tables_come_before_figures(self, mine, tmp_path, monkeypatch, drawn_figures):
        def fail(*_, **__):
            raise ValueError("no colours left")

        monkeypatch.setattr(pl, "embeddings", fail)
        message = refuse(*evaluate(mine, tmp_path, "--models", "X_mine"))
        assert "no colours left" in message
        assert (tmp_path / "tables" / "clustering.csv").is_file()

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_files_are_never_touched(self, mine, tmp_path, kind):
        (tmp_path / "notes.txt").write_text("mine")
        out = tmp_path if kind == "folder" else tmp_path / "notes.txt"
        assert "Choose another --out" in refuse(*evaluate(mine, out, "--models", "X_mine"))
        assert files_in(tmp_path) == {"notes.txt"}
        assert (tmp_path / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize(
        ("options", "mend"),
        [
            (
                "--models pca scVI",
                "--models scVI: there is no such model, comparator or name in obsm. Did you mean ",
            ),
            ("--target-key diagnosis", "--target-key diagnosis: there is no such column of obs."),
            ("--target-key donor", "name one column or more other than batch_key"),
            (
                "--scheme patients",
                "--scheme patients: there is no such choice. There are: cells, donors.",
            ),
            ("--n-folds 1", "--n-folds 1: --scheme cells needs at least 3"),
            ("--layer x", "--layer x: there is no such layer"),
            ("--batch-key donor pca", "unexpected arguments: pca"),
        ],
    )
    def test_message_names_the_mend(self, files, tmp_path, options, mend):
        arguments = evaluate(files["counts"], tmp_path / "out", *options.split())
        assert mend in refuse(*arguments)
        assert not (tmp_path / "out").exists()

    def test_missing_package_is_named(self, mine, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "harmonypy", None)
        message = refuse(*evaluate(mine, tmp_path, "--models", "harmony"))
        assert "Error: " in message
        assert 'pip install ".[benchmark]"' in message


def test_help_names_all_commands():
    output = succeed("--help")
    assert all(name in output for name in ("run", "evaluate", "demo"))


@pytest.mark.real
def test_real_counts_of_some_genes(data_dir, tmp_path):
    """The 3,000 genes in the file are no library: the sizes come from obs."""
    adata = ad.read_h5ad(data_dir / "aml_vangalen2019_d0_hvg3000.h5ad", backed="r")
    cells = np.flatnonzero(adata.obs["donor"].isin(["BM2", "BM3", "AML328"]))[::4]
    adata[cells].to_memory().write_h5ad(tmp_path / "aml.h5ad")
    arguments = [*BATCH, *LABELS, "--size-factor-key", "n_umi_total", "--transform-batch", "BM2"]
    arguments += ["--n-top-genes", 500]
    output = succeed(
        "run", tmp_path / "aml.h5ad", *arguments, "--out", tmp_path / "out", *_quick()
    )
    assert "is it the total over all genes" not in output
    result = ad.read_h5ad(tmp_path / "out" / "adata.h5ad")
    shares = result.layers["counts"].sum(axis=1).A1 / result.obs["n_umi_total"]
    totals = np.expm1(result.X.toarray()).sum(axis=1)
    np.testing.assert_allclose(totals, 1e4 * shares, rtol=1e-4)
    assert shares.max() < 0.9
    shifts = ad.read_h5ad(tmp_path / "out" / "counterfactual_means.h5ad")
    own = shifts.obs["source"] == "BM2"
    np.testing.assert_allclose(shifts[own].X, 0, atol=1e-5)
    assert np.abs(shifts[~own].X).max() > 0.01


def test_no_epoch_is_refused(tmp_path):
    message = refuse("demo", "--out", tmp_path, "--max-epochs", 0)
    assert "greater than or equal to 1" in message or "x>=1" in message  # by version of typer
