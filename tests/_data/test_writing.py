"""What a killed or failing run leaves, and names that no file can hold."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scmedal_tools as smt
from scmedal_tools import datasets, pl
from scmedal_tools._cli import _evaluate_job, _run_job
from scmedal_tools._cli._app import app
from scmedal_tools._data._writing import check_writable, make_names_writable, write_whole


@pytest.fixture(scope="module")
def simulated():
    adata = datasets.simulated(n_donors=4, n_genes=60, n_cell_types=2, seed=1)[:120].copy()
    adata.obs["lane/id"] = adata.obs["donor"].astype(str)
    return adata


@pytest.fixture
def cells(simulated):
    """A copy that the test may change."""
    return simulated.copy()


@pytest.fixture
def quick(monkeypatch):
    """Leave out the figures, which other tests look at."""
    for job in (_run_job.Run, _evaluate_job.Evaluation):
        monkeypatch.setattr(job, "_draw", lambda _: None)


OPTIONS = {
    "run": ["--max-epochs", "1"],
    "evaluate": ["--labels-key", "cell_type", "--quick", "--models", "pca"],
}


def run(adata, out, batch_key="donor", monkeypatch=None, command="run"):
    """Run the command on cells that lie in no file, as one with slashes cannot be written."""
    file = out.parent / "cells.h5ad"
    file.touch()
    monkeypatch.setattr(ad, "read_h5ad", lambda _: adata)
    arguments = [command, str(file), "--batch-key", batch_key, *OPTIONS[command]]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    monkeypatch.undo()
    return result


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_slashes_in_names_are_written_as_underscores(cells, tmp_path, monkeypatch):
    cells.obs["pct_CD4/CD8"] = np.arange(cells.n_obs) / 7
    cells.obs["pct_CD4_CD8"] = "taken"
    cells.raw = cells
    cells.raw.var["a/b"] = 1.0
    result = run(cells, tmp_path / "out", "lane/id", monkeypatch)
    assert result.exit_code == 0, result.output
    assert "obs['pct_CD4/CD8'] is renamed 'pct_CD4_CD8_'" in result.output
    assert "raw.var['a/b'] is renamed 'a_b'" in result.output
    written = ad.read_h5ad(tmp_path / "out" / "adata.h5ad")
    np.testing.assert_allclose(written.obs["pct_CD4_CD8_"], np.arange(len(written)) / 7)
    assert set(written.obs["pct_CD4_CD8"]) == {"taken"}
    assert written.uns["scmedal"]["X_scmedal_re"]["batch_key"] == "lane_id"
    # The model finds its batches in the file.
    smt.model.SCMEDAL_RE.load(tmp_path / "out" / "models" / "re", written)


@pytest.mark.parametrize("name", ["cell/id", "donor", "_index", 7])
def test_names_of_indices_that_no_file_can_hold(cells, tmp_path, name):
    cells.obs.index.name = cells.var.index.name = name
    donors = cells.obs["donor"].astype(str)
    make_names_writable(cells)
    check_writable(cells)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    written = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert list(written.obs_names) == list(cells.obs_names)
    assert list(written.obs["donor"]) == list(donors)


@pytest.mark.parametrize("place", ["obs", "uns", "obsm"])
def test_what_cannot_be_written_is_refused_before_training(cells, tmp_path, monkeypatch, place):
    del cells.obs["lane/id"]
    if place == "obs":
        cells.obs["mixed"] = pd.Series(
            [1, "a", *[None] * 118], index=cells.obs_names, dtype=object
        )
    elif place == "uns":
        cells.uns["mixed"] = {"model": object()}
    else:
        cells.obsm["mixed"] = pd.DataFrame({"a/b": np.ones(120)}, index=cells.obs_names)
    with pytest.raises(ValueError, match=rf"adata\.{place}\['mixed'\] cannot be written") as error:
        check_writable(cells)
    result = run(cells, tmp_path / "out", monkeypatch=monkeypatch)
    assert result.exit_code == 1
    assert "Train" not in result.output
    assert not (tmp_path / "out").exists()
    exec(str(error.value).splitlines()[-1], {"adata": cells})
    check_writable(cells)


def test_ordinary_data_are_left_as_they_are(cells):
    del cells.obs["lane/id"]
    cells.obsm["X_pca"] = np.ones((120, 2))
    cells.layers["counts"] = cells.X.copy()
    cells.uns["nested"] = {"list": ["a"], "none": None, "number": 1}
    columns = list(cells.obs)
    assert not any(make_names_writable(cells).values())
    check_writable(cells)
    assert list(cells.obs) == columns


@pytest.mark.slow
@pytest.mark.parametrize("output", ["adata.h5ad", "figures/embeddings.png"])
def test_one_output_that_fails_costs_no_other(cells, tmp_path, monkeypatch, output):
    del cells.obs["lane/id"]
    monkeypatch.setattr(_run_job.Run, "_draw_genomaps", lambda _: plt.figure())
    for name in ("embeddings", "batch_effects"):  # other tests look at them
        monkeypatch.setattr(pl, name, lambda *_, **__: plt.figure())

    def fail(*_, **__):
        raise OSError("No space left on device")

    if output == "adata.h5ad":
        monkeypatch.setattr(ad.AnnData, "write_h5ad", fail)
    else:
        monkeypatch.setattr(pl, "embeddings", fail)
    out = tmp_path / "out"
    result = run(cells, out, monkeypatch=monkeypatch)
    assert result.exit_code == 1
    assert f"Not written: {output}" in result.output
    assert not (out / output).exists()
    others = {"adata.h5ad", "figures/embeddings.png", "figures/batch_effects.png", "report.html"}
    others |= {"models/fe/model.pt", "models/re/model.pt", "history/re.csv", "run.json"}
    assert all((out / other).exists() for other in others - {output})
    failures = json.loads((out / "run.json").read_text())["failures"]
    assert failures == {output: "OSError: No space left on device"}
    assert "No space left on device" in (out / "report.html").read_text()


DOUBTFUL = {
    "log-counts": (
        np.log1p,
        "looks like logarithms of counts that were not normalised",
        "The sequencing depth of a cell then counts as expression",
    ),
    "even-counts": (
        lambda x: np.rint(x / x.sum(1, keepdims=True) * 500),
        "of cells that have nearly the same total",
        "SCTransform's corrected counts (the counts of Seurat's assay SCT) look like this",
    ),
    "too-few-values": (
        lambda x: np.where(x == x.max(1, keepdims=True), np.log1p(x), 0),
        "holds too few values to recognise their kind",
        "It is used as log-normalised. Make sure that it is: fewer than 100 values",
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("run", "log-counts"),
        ("run", "even-counts"),
        ("evaluate", "even-counts"),
        ("evaluate", "too-few-values"),
    ],
)
def test_what_the_values_may_be_is_written_down(cells, tmp_path, monkeypatch, command, kind):
    change, found, doubt = DOUBTFUL[kind]
    del cells.obs["lane/id"]
    cells.X = change(cells.X.toarray())
    result = run(cells, tmp_path / "out", monkeypatch=monkeypatch, command=command)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert found in record["expression"]
    assert doubt in record["doubt"]
    report = html.unescape((tmp_path / "out" / "report.html").read_text())
    for told in (result.output, report):
        assert found in told
        assert doubt in " ".join(told.split())
    if command == "run":
        written = ad.read_h5ad(tmp_path / "out" / "adata.h5ad")
        assert written.uns["scmedal_preprocess"]["taken_as"] == kind


KILLED = """
import os, signal, sys
from pathlib import Path
from scmedal_tools import datasets
from scmedal_tools._cli import _run_job

replace = Path.replace
_run_job.Run._draw = lambda _: None

def run_until(out, last):
    def replace_or_die(self, target):
        if target == out / last:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = replace_or_die
    cells = datasets.simulated(n_donors=4, n_genes=60, n_cell_types=2, seed=1)[:120].copy()
    _run_job.Run(cells, _run_job.RunJob("donor", max_epochs=1), out).execute()

folder = Path(sys.argv[1])
for last in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        run_until(folder / Path(last).stem, last)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""
LAST = {"models/re/model.pt": ["fe"], "adata.h5ad": ["fe", "re"]}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folder of runs that are killed, each in a process of its own, with one import for all."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED, str(folder), *LAST]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(("last", "trained"), LAST.items())
def test_a_killed_run_leaves_whole_files_only(cells, killed, monkeypatch, last, trained):
    out = killed / Path(last).stem
    assert not (out / last).exists()
    (unfinished,) = out.rglob("unfinished-*")
    assert unfinished.parent == (out / last).parent
    assert unfinished.name.endswith((out / last).name)
    assert {file.parent.name for file in out.rglob("model.pt")} == set(trained)
    for name in trained:
        model = getattr(smt.model, f"SCMEDAL_{name.upper()}")
        assert model.load(out / "models" / name, adata=False, accelerator="cpu").is_trained
        assert len(pd.read_csv(out / "history" / f"{name}.csv")) == 1
    del cells.obs["lane/id"]
    result = run(cells, out, monkeypatch=monkeypatch)
    assert result.exit_code == 0, result.output
    assert result.output.count("trained before: loaded") == len(trained)
    assert not list(out.rglob("unfinished-*"))
    assert ad.read_h5ad(out / "adata.h5ad").n_obs == 120


def test_a_file_is_whole_or_not_there(tmp_path):
    file = tmp_path / "new" / "table.csv"

    def stop_half_way(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(file, stop_half_way)
    assert not list(file.parent.iterdir())
    write_whole(file, lambda path: path.write_text("first"))
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, stop_half_way)
    assert file.read_text() == "first"


@pytest.mark.parametrize("key", ["X/v1", ""])
def test_names_of_embeddings_that_no_file_can_hold(cells, key):
    cells.obsm["a"] = cells.obsm["b"] = np.ones((120, 2))
    with pytest.raises(ValueError, match=r"key_added=.* cannot be written"):
        smt.tl.combine(cells, ["a", "b"], key_added=key)
    with pytest.raises(ValueError, match=r"key_added=.* cannot be written"):
        smt.ext.pca(cells, batch_key="donor", key_added=key)
    smt.pp.preprocess(cells, batch_key="donor")
    smt.model.SCMEDAL_FE.setup_anndata(cells, batch_key="donor")
    with pytest.raises(ValueError, match=r"key_added=.* cannot be written"):
        smt.tl.embed(cells, smt.model.SCMEDAL_FE(cells, n_hidden=(8,), n_latent=2), key)
