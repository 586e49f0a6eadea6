"""The paper's analyses, from the shell, on miniatures of the published files."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from scmedal_tools import bm, datasets, pl
from scmedal_tools._cli import (
    _check_published,
    _draw_and_save,
    _folder,
    _paper_data,
    _reproduce_job,
)
from scmedal_tools._cli._check_published import check_published
from scmedal_tools._cli._paper_data import PAPER_DATA
from scmedal_tools._cli._reproduce_job import paper_job, shown_batches
from scmedal_tools._data import SETTINGS
from scmedal_tools.bm._cross_validation import COMPARATORS, OWN_MODELS
from scmedal_tools.bm._cross_validation._embedders import Fold
from scmedal_tools.train import PRESETS

from .. import shell
from ..published import N_GENES, heart_cells, write_aml, write_asd, write_heart

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*batches, where the paper has 19"),
]

OPTIONS = ["--folds", 1, "--max-epochs", 2, "--seed", 3]
succeed = partial(shell.succeed, "reproduce")
refuse = partial(shell.refuse, "reproduce")
WRITERS = {"aml": write_aml, "asd": write_asd, "heart": write_heart}
IN_GENOMAPS = {
    "aml": ["MUTZ3", "AML420B", "BM5"],
    "asd": ["5242", "6032", "5976", "5419", "5403", "5978"],
    "heart": ["HCA0", "HCA1", "HCA2", "HCA3"],
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folders with the miniatures, by data set."""
    folders = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    for name, folder in folders.items():
        WRITERS[name](folder)
    return folders


@pytest.fixture(scope="module")
def quick():
    """No UMAPs, and not most comparators, which the tests of evaluate look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl, "embeddings", lambda *_, **__: plt.figure())
        patch.setattr(_reproduce_job, "MODELS", ("pca", "ae", "FE", "FEC", "RE"))
        yield


@pytest.fixture(scope="module", params=list(WRITERS))
def reproduced(request, published, tmp_path_factory, quick, write_blank):
    """Name, folder and output of one fold of each data set, of which one has its pictures."""
    out = tmp_path_factory.mktemp("results") / request.param
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "aml":  # the figures are made, and written as blank pictures
            patch.setattr(pl, "genomap_panel", lambda *_, **__: plt.figure())
            patch.setattr(
                _draw_and_save, "save_figure", lambda _, file: write_blank(file, [file.suffix])
            )
        output = succeed(request.param, published[request.param], "--out", out, *OPTIONS)
    return request.param, out, output


class TestReproduction:
    def test_every_counterpart_is_there_and_named(self, reproduced):
        name, out, output = reproduced
        counterparts = PAPER_DATA[name].counterparts
        assert [file for file in counterparts if not (out / file).is_file()] == []
        record = json.loads((out / "run.json").read_text())
        assert record["counterparts"] == counterparts
        assert record["failures"] == {}
        report = (out / "report.html").read_text()
        assert all(file in report for file in counterparts)
        listing = output.split("Written to")[1]
        for file in (*counterparts, "genomaps.h5ad"):
            path, ending = file.rsplit(".", 1)
            assert any(path in line and ending in line for line in listing.splitlines())

    def test_settings_are_the_papers(self, reproduced):
        name, out, _ = reproduced
        paper, settings = PAPER_DATA[name], json.loads((out / "folds/settings.json").read_text())
        given = {"preset": f"paper-{name}", "max_epochs": 2}
        assert settings["settings"] == dict.fromkeys(("ae", "FE", "FEC", "RE"), given)
        assert settings["n_top_genes"] == paper.n_top_genes
        assert settings["n_folds"] == 5
        assert settings["target_keys"] == [paper.target, "cell_type"]

    def test_sizes_stand_beside_the_papers(self, reproduced):
        name, out, output = reproduced
        table = pd.read_csv(out / "tables" / "data.csv", index_col="what")
        assert table["paper"].to_dict() == PAPER_DATA[name].sizes
        expected = {"aml": (147, 7, 3), "asd": (120, 6, 2), "heart": (160, 5, 2)}[name]
        assert tuple(table.loc[["cells", "batches", "cell types"], "here"]) == expected
        assert f"  {expected[0]} cells, in the paper {PAPER_DATA[name].sizes['cells']:,}" in output

    def test_genomaps_are_of_training_cells_in_the_papers_batches(self, reproduced, published):
        name, out, _ = reproduced
        stack = ad.read_h5ad(out / "genomaps.h5ad")
        assert list(stack.obs["target"].cat.categories) == IN_GENOMAPS[name]
        assert set(stack.obs["cell_type"]) == set(PAPER_DATA[name].cell_types)
        assert tuple(stack.uns["genomap"]["shape"]) == (8, 8)
        assert stack.uns["genomap"]["layout"] == "rings"
        path = check_published(name, published[name])
        cells = _reproduce_job.read_published(name, path).obs_names
        model = OWN_MODELS["RE"].load(out / "folds" / "fold 1" / "model RE", False)
        assert set(stack.obs["cell"]) <= set(cells[model.train_indices_])

    def test_a_second_call_trains_nothing(self, reproduced, published, monkeypatch):
        name, out, _ = reproduced

        def train(*_, **__):
            raise AssertionError("trained again")

        monkeypatch.setattr(Fold, "embed", train)
        for model in OWN_MODELS.values():
            monkeypatch.setattr(model, "train", train)
        before = ad.read_h5ad(out / "genomaps.h5ad")
        succeed(name, published[name], "--out", out, *OPTIONS)
        again = ad.read_h5ad(out / "genomaps.h5ad")
        np.testing.assert_allclose(again.X, before.X, atol=1e-5)

    def test_genes(self, reproduced):
        name, out, output = reproduced
        if name == "heart":
            assert not (out / "tables" / "genes.csv").exists()
            return
        genes = pd.read_csv(out / "tables" / "genes.csv", index_col="gene")
        test = PAPER_DATA[name].test
        assert set(genes["group"]) == {test.group}
        assert set(genes["n_group"]) == {3}
        assert set(genes["n_reference"]) == {3}
        assert {"row", "column", "adj_p_value"} <= set(genes)
        assert ("rank_biserial" in genes) == (name == "aml")
        assert len(genes) == N_GENES
        n = (genes["p_value"] < 0.05).sum()
        assert f"  {n} of {N_GENES} genes have p < 0.05" in output
        assert test.found in output


@pytest.mark.parametrize("reproduced", ["aml"], indirect=True)
def test_numbers_are_those_of_python(reproduced, published):
    from scmedal_tools import pp

    _, out, _ = reproduced
    adata = datasets.aml(published["aml"], progress=False)
    pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    given = {"preset": "paper-aml", "max_epochs": 2}
    result = bm.cross_validate(
        adata, "donor", "cell_type", ["patient_group", "cell_type"], models=["pca", "FE"],
        settings={"FE": given}, folds=[1], seed=3, progress=False,
    )  # fmt: skip
    scores = pd.read_csv(out / "tables" / "scores.csv").set_index(["embedding", "of"])
    expected = result.summary().set_index(["embedding", "of"])
    for name in ("pca", "FE"):
        np.testing.assert_allclose(
            scores.loc[(name, "batch"), "mean"], expected.loc[(name, "batch"), "mean"], rtol=1e-4
        )


class TestRefusals:
    @pytest.mark.parametrize("name", list(WRITERS))
    def test_missing_files_are_named(self, published, tmp_path, name):
        message = refuse(name, tmp_path, "--out", tmp_path / "out")
        files = {
            "aml": "GSM*_<sample>.dem.txt.gz",
            "asd": "exprMatrix.tsv.gz, meta.tsv",
            "heart": "global_raw.h5ad",
        }
        assert f"lacks {files[name]}." in message
        page, section = re.search(r'(docs/\S+\.md),\s+"(.+?)"', message).groups()
        assert f"\n## {section}\n" in (Path(__file__).parents[2] / page).read_text()
        assert not (tmp_path / "out").exists()

    def test_missing_annotation(self, tmp_path):
        write_aml(tmp_path)
        next(tmp_path.glob("*_BM1.anno.txt.gz")).unlink()
        message = refuse("aml", tmp_path, "--out", tmp_path / "out")
        assert "lacks GSM*_BM1.anno.txt.gz." in message

    def test_column_of_the_heart(self, tmp_path):
        heart_cells().write_h5ad(tmp_path / "of_figshare.h5ad")
        cells = ad.read_h5ad(tmp_path / "of_figshare.h5ad")
        cells.obs = cells.obs.rename(columns={"sample": "samples"})
        cells.write_h5ad(tmp_path / "of_figshare.h5ad")
        message = refuse("heart", tmp_path, "--out", tmp_path / "out")
        assert "of_figshare.h5ad sample: there is no such column of obs" in message
        assert "Did you mean samples?" in message

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["amll"], "reproduce amll: there is no such data set of the paper. Did you mean aml"),
            (["aml", "--folds", 5], "--folds 5: there is no such fold. There are: 0, 1, 2, 3, 4."),
            (["aml", "--folds", 0, "x"], "--folds x: there is no such fold."),
            (["aml", "more"], "unexpected arguments: more"),
        ],
    )  # fmt: skip
    def test_message_names_the_choices(self, published, tmp_path, arguments, message):
        name, *options = arguments
        found = refuse(name, published["aml"], "--out", tmp_path / "out", *options)
        assert message in found
        assert not (tmp_path / "out").exists()

    def test_files_are_never_touched(self, published, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        assert "Choose another --out" in refuse("aml", published["aml"], "--out", tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]

    def test_nothing_large_is_imported_for_a_refusal(self, tmp_path):
        error = shell.refuse_at_once("reproduce", "asd", tmp_path, "--out", "out")
        assert "lacks exprMatrix.tsv.gz" in error


class TestFacts:
    def test_names_are_those_of_the_package(self):
        assert set(_paper_data.MODELS) <= {*OWN_MODELS, *COMPARATORS}
        assert set(_reproduce_job.READERS) == set(PAPER_DATA) == set(_check_published.MISSING)
        assert all(paper.preset in PRESETS["SCMEDAL_RE"] for paper in PAPER_DATA.values())
        assert f"{_folder.FOLDS}/{SETTINGS}" == _folder.KEPT_OF_FOLDS
        assert _folder.KEPT.endswith(f"/{SETTINGS}")
        columns = datasets._healthy_heart.SOURCE_COLUMNS
        assert set(_check_published.HEART_COLUMNS) == set(columns.values())

    def test_settings_are_those_of_the_supplement(self, monkeypatch):
        monkeypatch.setattr(_reproduce_job, "MODELS", _paper_data.MODELS)
        job = paper_job(PAPER_DATA["heart"])
        assert set(job.models) == set(_paper_data.MODELS)
        settings = job.settings()
        assert settings["saucie"]["mmd_weight"] == 0.0005
        assert settings["RE"]["preset"] == settings["ae"]["preset"] == "paper-heart"
        assert "scvi" not in settings

    def test_batches_are_the_named_ones_then_the_largest(self):
        donors = {"b": 4, "a": 3, "c": 2, "5419": 1, "5242": 1}
        obs = pd.DataFrame({"donor": np.repeat(list(donors), list(donors.values()))})
        obs["diagnosis"] = np.where(obs["donor"] == "5242", "Control", "ASD")
        obs["cell_type"] = "L2/3"
        others = pd.DataFrame({"donor": ["z"] * 9, "diagnosis": "ASD", "cell_type": "L4"})
        obs = pd.concat([obs, others])
        assert list(shown_batches(obs, PAPER_DATA["asd"])) == ["5242", "5419", "b", "a"]

    def test_batches_of_the_heart_are_of_one_protocol(self):
        rows = [
            ("SP", "v2", "a", 3),
            ("SP", "v3", "b", 9),
            ("LV", "v2", "c", 8),
            ("LV", "v2", "d", 1),
        ]
        obs = pd.DataFrame(
            [row[:3] for row in rows for _ in range(row[3])],
            columns=["tissue", "protocol", "batch"],
        ).assign(cell_type="Myeloid")
        assert list(shown_batches(obs, PAPER_DATA["heart"])) == ["a", "c", "d"]

    @pytest.mark.parametrize("name", list(PAPER_DATA))
    def test_sizes_are_in_the_documentation(self, name):
        sizes = PAPER_DATA[name].sizes
        root = Path(__file__).parents[2]
        page = (root / "docs" / "user_guide" / "published_data.md").read_text()
        assert f"{sizes['cells']:,}" in page
        assert re.search(rf"\b{sizes['batches']}\b", page)
