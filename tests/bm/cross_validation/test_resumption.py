"""A cross-validation that was stopped goes on, and its results are files."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial

import anndata
import joblib
import numpy as np
import pandas as pd
import pytest

from scmedal_tools.bm import summarise_folds
from scmedal_tools.bm._cross_validation._checkpoints import Checkpoints
from scmedal_tools.bm._cross_validation._embedders import Fold
from scmedal_tools.model import SCMEDAL_FE, SCMEDAL_RE
from scmedal_tools.train import cross_validation_folds

from .quick import QUICK, RE_QUICK, Recorder, run

TRAINED = {
    "models": ["pca", "RE"],
    "settings": {"pca": {"n_latent": 5}, "RE": RE_QUICK},
    "n_top_genes": 30,
    "folds": [0],
}


KILLED = f"""
import os, signal, sys
from pathlib import Path
import anndata
from scmedal_tools.bm import cross_validate

written, replace = [], Path.replace

def replace_or_die(self, target):
    written.append(target)
    if len(written) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = replace_or_die
folder = Path(sys.argv[1])
cross_validate(
    anndata.read_h5ad(folder / "cells.h5ad"), "donor", "cell_type", ["condition"],
    **{TRAINED | QUICK | {"n_folds": 3}}, out=folder / "out",
)
"""


def _stop_at_third(function):
    calls = []

    def call(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return function(*arguments)

    return call


class TestResumption:
    @pytest.mark.slow
    def test_parts_that_are_done_are_not_done_again(self, adata, tmp_path, monkeypatch):
        first, second = Recorder(), Recorder()
        with monkeypatch.context() as patch:
            patch.setattr(Fold, "_function", _stop_at_third(Fold._function))
            with pytest.raises(KeyboardInterrupt):
                run(adata, {"mine": first}, out=tmp_path / "out")
        result = run(adata, {"mine": second}, out=tmp_path / "out")
        assert len(first.calls) == 2
        assert [seed for *_, seed in second.calls] == [2]
        expected = run(adata, {"mine": first})
        pd.testing.assert_frame_equal(result.table, expected.table)

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
    def test_a_killed_process_loses_only_the_part_it_was_writing(self, adata, tmp_path):
        """Killed between writing the sixth file and giving it its name; the models are trained."""
        adata.write_h5ad(tmp_path / "cells.h5ad")
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        left = [file.name for file in (tmp_path / "out").rglob("*.npz")]
        finished = {name for name in left if not name.startswith("unfinished")}
        parts = {"genes.npz", "embedding pca.npz", "training RE.npz", "embedding RE.npz"}
        assert finished == parts
        assert len(left) == len(finished) + 1

        cells = anndata.read_h5ad(tmp_path / "cells.h5ad")
        resumed = run(cells, **TRAINED, out=tmp_path / "out")
        whole = run(cells, **TRAINED, out=tmp_path / "whole")
        pd.testing.assert_frame_equal(resumed.table, whole.table)
        assert resumed.conclusions == whole.conclusions

    @pytest.mark.slow
    def test_test_cells_have_the_embeddings_of_their_fold(self, adata, tmp_path):
        options = {"settings": {"RE": RE_QUICK}, "folds": [1], "out": tmp_path / "out"}
        cells = run(adata, ["X_mine", "RE"], **options).test_cells
        folds = cross_validation_folds(adata, "donor", "cell_type", n_folds=3)
        test = folds.splits[1][2]
        pd.testing.assert_frame_equal(cells.obs, adata.obs.iloc[test])
        assert set(cells.obsm) == {"X_mine", "RE"}  # not the controls
        assert np.array_equal(cells.obsm["X_mine"], adata.obsm["X_mine"][test])
        saved = np.load(tmp_path / "out" / "fold 1" / "embedding RE.npz")
        re = saved["array_" + str(list(saved["names"]).index("RE"))]
        assert np.array_equal(cells.obsm["RE"], re[test])

    @pytest.mark.slow
    def test_models_are_saved_beside_their_embeddings(self, adata, tmp_path):
        settings = {"FE": RE_QUICK, "RE": RE_QUICK}
        options = {"n_top_genes": 30, "settings": settings, "folds": [1], "out": tmp_path / "out"}
        run(adata, ["FE", "RE"], **options, save_models=True)
        folder = tmp_path / "out" / "fold 1"
        assert {f.name for f in folder.glob("model *")} == {"model FE", "model RE"}  # no controls
        for cls, name in ((SCMEDAL_FE, "FE"), (SCMEDAL_RE, "RE")):
            genes = cls.load(folder / f"model {name}", False).gene_names
            assert len(genes) == 30
            model = cls.load(folder / f"model {name}", adata[:, genes].copy())
            kept = Checkpoints(tmp_path / "out", {}).arrays(f"fold 1/embedding {name}.npz")[name]
            np.testing.assert_allclose(model.get_latent_representation(), kept, atol=1e-5)
        run(adata, ["FE", "RE"], **options)  # without them what is there is as good

    def test_models_of_parts_that_are_done_cannot_be_saved_afterwards(self, adata, tmp_path):
        run(adata, out=tmp_path / "out")
        with pytest.raises(ValueError, match="save_models"):
            run(adata, out=tmp_path / "out", save_models=True)
        with pytest.raises(ValueError, match="pass out"):
            run(adata, save_models=True)

    def test_results_are_written(self, adata, tmp_path):
        result = run(adata, folds=[0, 1], out=tmp_path / "out")
        table = pd.read_csv(tmp_path / "out" / "table.csv")
        pd.testing.assert_frame_equal(table, result.table)
        summary = pd.read_csv(tmp_path / "out" / "summary.csv")
        pd.testing.assert_frame_equal(summary, summarise_folds(table.drop(columns="seed")))

    @pytest.mark.parametrize("target", ["x/../../../mine", "a/b", "x:y?"])
    def test_no_column_names_a_file_elsewhere(self, adata, tmp_path, target):
        adata.obs[target] = adata.obs["condition"]
        result = run(adata, targets=[target], folds=[0], out=tmp_path / "deep" / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["deep"]
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
        assert set(result.table["of"].dropna()) >= {target}

    def test_folds_can_be_added(self, adata, tmp_path):
        first, second = Recorder(), Recorder()
        run(adata, {"mine": first}, folds=[0], out=tmp_path / "out")
        result = run(adata, {"mine": second}, folds=[0, 2], out=tmp_path / "out")
        assert [seed for *_, seed in second.calls] == [2]
        assert set(result.table["fold"]) == {0, 2}

    def test_results_of_other_settings_are_refused(self, adata, tmp_path):
        run(adata, folds=[0], out=tmp_path / "out")
        with pytest.raises(ValueError, match=r"other settings \(seed\)"):
            run(adata, folds=[0], out=tmp_path / "out", seed=1)
        with pytest.raises(ValueError, match=r"other settings \(data\)"):
            run(adata[:, :50].copy(), folds=[0], out=tmp_path / "out")
        other = adata.copy()
        other.obsm["X_mine"] = other.obsm["X_mine"] + 1
        relabelled = adata.copy()
        relabelled.obs["condition"] = relabelled.obs["condition"].to_numpy()[::-1]
        for changed in (other, relabelled):
            with pytest.raises(ValueError, match=r"other settings \(data\)"):
                run(changed, folds=[0], out=tmp_path / "out")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("mine")
        with pytest.raises(ValueError, match="files of something else"):
            run(adata, folds=[0], out=tmp_path / "full")

    @pytest.mark.slow
    def test_side_by_side_gives_the_same(self, adata):
        alone, together = (run(adata, ["X_mine"], n_jobs=n) for n in (1, 2))
        pd.testing.assert_frame_equal(alone.table, together.table)

    @pytest.mark.slow
    def test_the_workers_of_a_dask_cluster_do_the_work(self, adata, tmp_path):
        distributed = pytest.importorskip("distributed")

        def traced(adata, **_):
            (tmp_path / str(os.getpid())).touch()
            return adata.X[:, :3].toarray()

        cluster = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.Client(**cluster), joblib.parallel_config("dask"):
            there = run(adata, {"mine": traced}, n_jobs=2)
        assert str(os.getpid()) not in {file.name for file in tmp_path.iterdir()}
        here = run(adata, {"mine": traced})
        pd.testing.assert_frame_equal(there.table, here.table)
        assert str(os.getpid()) in {file.name for file in tmp_path.iterdir()}


def test_results_of_another_function_are_refused(adata, tmp_path):
    for column, message in ((0, None), (0, None), (1, r"other settings \(models\)")):
        method = partial(lambda adata, column, **_: adata.X[:, [column]].toarray(), column=column)
        method.version = str(column)
        with pytest.raises(ValueError, match=message) if message else nullcontext():
            run(adata, {"mine": method}, folds=[0], out=tmp_path / "out")


def test_results_of_other_layers_that_a_function_may_read_are_refused(adata, tmp_path):
    other = adata.copy()
    run(other, {"mine": Recorder()}, folds=[0], out=tmp_path / "out")
    other.layers["raw"] = other.layers["counts"] * 2
    with pytest.raises(ValueError, match=r"other settings \(data\)"):
        run(other, {"mine": Recorder()}, folds=[0], out=tmp_path / "out")


def test_counts_are_those_of_the_layer_that_is_named(adata, tmp_path):
    other = adata.copy()
    other.layers["raw"] = other.layers.pop("counts")
    settings = {"scvi": {"layer": "raw", "max_epochs": 1, "n_latent": 3}}
    options = {"settings": settings, "folds": [0], "out": tmp_path / "out"}
    assert set(run(other, ["scvi"], **options).epochs["epochs"]) == {1}
    other.layers["raw"] = other.layers["raw"] * 2
    with pytest.raises(ValueError, match=r"other settings \(data\)"):
        run(other, ["scvi"], **options)
