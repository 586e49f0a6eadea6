"""The evaluation: what it writes and says, and what its options change."""

from __future__ import annotations

import json
import sys

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from scmedal_tools import bm, pl, pp
from scmedal_tools.bm._cross_validation._embedders import Fold

from ..shell import refuse, succeed
from .arguments import N_CELLS, evaluate, files_in

# Numba raises the number of threads for a UMAP.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


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
        drawn_figures.add("embeddings")
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
            ("--target-key donor", "--target-key donor: that is the --batch-key."),
            ("--n-jobs 0", "Invalid value for '--n-jobs'"),
            ("--seed -1", "Invalid value for '--seed'"),
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
