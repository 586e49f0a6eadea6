"""A run that was interrupted goes on in its folder, which is left alone unless asked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import typer

from scmedal_tools import datasets, pl
from scmedal_tools._cli import _run_job
from scmedal_tools._cli._folder import KEPT, REPORT, check_folder
from scmedal_tools._cli._run_job import Run, RunJob
from scmedal_tools.model import SCMEDAL_FE, SCMEDAL_RE

from ..shell import refuse, succeed
from .arguments import BATCH, QUICK, files_in

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

JOB = RunJob("donor", transform_batch=("donor_01",), max_epochs=1)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(_run_job.Run, "_draw_genomaps", lambda _: plt.figure())
    for name in ("embeddings", "batch_effects"):
        monkeypatch.setattr(pl, name, lambda *_, **__: plt.figure())


@pytest.fixture(scope="module")
def cells():
    return datasets.simulated(n_donors=4, n_genes=60, n_cell_types=2, seed=1)[:120].copy()


def execute(cells, out, job=JOB, overwrite=False):
    """Do the job; return what it announced."""
    said: list[str] = []
    done = Run(cells.copy(), job, out, said.append, overwrite)
    done.execute()
    done.conclude()
    return said


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def first_half(cells, tmp_path_factory):
    """Folder of a run that ended between the two networks."""
    out = tmp_path_factory.mktemp("first_half") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SCMEDAL_RE, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            execute(cells, out)
    return out


@pytest.fixture
def interrupted(first_half, tmp_path):
    """A copy of the folder, which a test may write to."""
    return shutil.copytree(first_half, tmp_path / "out")


def test_what_was_trained_is_loaded_and_the_results_are_the_same(
    cells, interrupted, tmp_path, monkeypatch
):
    trained = (interrupted / "models" / "fe" / "model.pt").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(SCMEDAL_FE, "train", interrupt)
        said = execute(cells, interrupted)
    assert said.count("  trained before: loaded") == 1
    assert (interrupted / "models" / "fe" / "model.pt").stat().st_mtime_ns == trained
    execute(cells, tmp_path / "whole")
    ours, expected = (
        ad.read_h5ad(folder / "adata.h5ad") for folder in (interrupted, tmp_path / "whole")
    )
    assert set(ours.obsm) == set(expected.obsm) >= {"X_scmedal_fe", "X_scmedal_re"}
    for key in expected.obsm:
        np.testing.assert_array_equal(ours.obsm[key], expected.obsm[key])
    for name in ("fe", "re"):
        table, other = (
            pd.read_csv(folder / "history" / f"{name}.csv")
            for folder in (interrupted, tmp_path / "whole")
        )
        pd.testing.assert_frame_equal(table, other)
    means, other = (
        ad.read_h5ad(folder / "counterfactual_means.h5ad").layers["counterfactual"]
        for folder in (interrupted, tmp_path / "whole")
    )
    np.testing.assert_array_equal(means, other)
    record, other = (
        json.loads((folder / "run.json").read_text())
        for folder in (interrupted, tmp_path / "whole")
    )
    assert record["findings"] == other["findings"]
    assert record["models"] == other["models"]


def without_a_gene(cells):
    return cells[:, 1:].copy()


def with_another_donor(cells):
    moved = cells.copy()
    moved.obs["donor"] = moved.obs["donor"].cat.codes.astype(str).to_numpy()[::-1]
    return moved


def same(cells):
    return cells


@pytest.mark.parametrize(
    ("job", "change", "named"),
    [
        (replace(JOB, seed=1), same, "seed"),
        (replace(JOB, max_epochs=2), same, "max_epochs"),
        (replace(JOB, preset="paper"), same, "preset"),
        (JOB, without_a_gene, "data"),
        (replace(JOB, transform_batch=("0",)), with_another_donor, "data"),
    ],
    ids=["seed", "epochs", "preset", "genes", "donors"],
)
def test_other_settings_are_refused(cells, interrupted, job, change, named):
    before = {path: path.stat().st_mtime_ns for path in interrupted.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"with other settings \({named}\)\. .*--overwrite"):
        execute(change(cells), interrupted, job)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_versions_are_refused(cells, interrupted, monkeypatch):
    monkeypatch.setattr(_run_job, "versions", lambda: {"scmedal-tools": "99"})
    with pytest.raises(ValueError, match=r"with other settings \(versions\)"):
        execute(cells, interrupted)


def test_other_targets_need_no_other_models(cells, interrupted):
    execute(cells, interrupted, replace(JOB, transform_batch=("donor_02",)))
    means = ad.read_h5ad(interrupted / "counterfactual_means.h5ad")
    assert set(means.obs["target"]) == {"donor_02"}


class TestCheck:
    """Whether a command may write to a folder."""

    @pytest.fixture
    def out(self, tmp_path):
        (tmp_path / "models").mkdir()
        return tmp_path

    def test_an_interrupted_run_resumes(self, out):
        (out / KEPT).touch()
        check_folder(out, overwrite=False)

    @pytest.mark.parametrize(
        ("files", "reason"),
        [
            ([KEPT, REPORT], "a run that is complete"),
            (["notes.txt"], "no run that can be resumed"),
        ],
        ids=["complete", "other"],
    )
    def test_anything_else_is_kept_unless_the_user_insists(self, out, files, reason, capsys):
        for name in files:
            (out / name).touch()
        with pytest.raises(typer.Exit):
            check_folder(out, overwrite=False)
        said = capsys.readouterr().err
        assert reason in said
        assert "--overwrite" in said
        check_folder(out, overwrite=True)


def test_overwriting_trains_again(cells, interrupted):
    trained = (interrupted / "models" / "fe" / "model.pt").stat().st_mtime_ns
    said = execute(cells, interrupted, replace(JOB, seed=1), overwrite=True)
    assert "  trained before: loaded" not in said
    assert (interrupted / "models" / "fe" / "model.pt").stat().st_mtime_ns > trained
    said = execute(cells, interrupted, replace(JOB, seed=1))
    assert said.count("  trained before: loaded") == 2


class TestFilesOfOthers:
    """In the folder of a command."""

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
        output = succeed("run", files["counts"], *BATCH, "--out", tmp_path, "--overwrite", *QUICK)
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

    def test_a_file_is_no_folder(self, files, tmp_path):
        (tmp_path / "file").touch()
        arguments = ["--out", tmp_path / "file", "--overwrite"]
        assert "is a file" in refuse("run", files["counts"], *BATCH, *arguments)
