"""A whole run: what it writes, says and records."""

from __future__ import annotations

import json
import logging

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from scmedal_tools.model import SCMEDAL_FEC, SCMEDAL_RE

from ..shell import succeed
from .arguments import BATCH, CHATTY, LABELS, N_CELLS, QUICK, files_in

# Numba raises the number of threads for a UMAP.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
N_EPOCHS = 7


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
        assert output.count(f"\n  all {N_EPOCHS} epochs\n") == 2
        record = json.loads((labelled[0] / "run.json").read_text())
        improving = [m["still_improving"] for m in record["models"].values()]
        assert output.count("still improving in the last of its 7 epochs") == sum(improving) > 0
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


def test_same_seed_gives_the_same_whatever_the_form_of_the_option(labelled, files, tmp_path):
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


@pytest.mark.real
def test_real_counts_of_some_genes(data_dir, tmp_path):
    """The 3,000 genes in the file are no library: the sizes come from obs."""
    adata = ad.read_h5ad(data_dir / "aml_vangalen2019_d0_hvg3000.h5ad", backed="r")
    cells = np.flatnonzero(adata.obs["donor"].isin(["BM2", "BM3", "AML328"]))[::4]
    with ad.settings.override(allow_write_nullable_strings=True):  # with pandas 2
        adata[cells].to_memory().write_h5ad(tmp_path / "aml.h5ad")
    arguments = [*BATCH, *LABELS, "--size-factor-key", "n_umi_total", "--transform-batch", "BM2"]
    arguments += ["--n-top-genes", 500]
    output = succeed("run", tmp_path / "aml.h5ad", *arguments, "--out", tmp_path / "out", *QUICK)
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
