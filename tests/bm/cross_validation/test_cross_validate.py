"""Cross-validation: what is fitted to what, controls, resumption, and the sentence."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace

import anndata
import joblib
import numpy as np
import pandas as pd
import pytest

from scmedal_tools import datasets, pl, pp
from scmedal_tools.bm import cross_validate, scores, summarise_folds
from scmedal_tools.bm._cross_validation import _embedders
from scmedal_tools.bm._cross_validation._checkpoints import Checkpoints
from scmedal_tools.bm._cross_validation._conclusion import conclusion_of_votes
from scmedal_tools.bm._cross_validation._embedders import PERMUTED, UNSEEN, WRONG, Fold
from scmedal_tools.model import SCMEDAL_FE, SCMEDAL_RE
from scmedal_tools.train import cross_validation_folds

QUICK = {"n_trees": 10, "progress": False}
RE_QUICK = {"max_epochs": 1, "n_hidden": (16, 8), "n_latent": 4}


@pytest.fixture(scope="module")
def adata():
    adata = datasets.simulated(n_donors=6, n_genes=60, cell_scale=0.3, seed=0)
    pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3)).astype("f")
    return adata


class Recorder:
    """A method that remembers what it was given."""

    version = "1"

    def __init__(self):
        self.calls = []

    def __call__(self, adata, *, batch_key, labels_key, splits, seed):
        self.calls.append((adata, splits, seed))
        adata.obs["scribble"] = 1
        return np.asarray(adata.X[:, :3].todense() if hasattr(adata.X, "todense") else adata.X)[
            :, :3
        ]


TRAINED = {
    "models": ["pca", "RE"],
    "settings": {"pca": {"n_latent": 5}, "RE": RE_QUICK},
    "n_top_genes": 30,
    "folds": [0, 1],
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


def run(adata, models=("X_mine",), targets=("condition",), **options):
    options = {"n_folds": 3} | QUICK | options
    return cross_validate(adata, "donor", "cell_type", targets, models=models, **options)


class TestFit:
    @pytest.mark.slow
    def test_methods_get_the_folds_and_their_own_seeds(self, adata):
        method = Recorder()
        run(adata, {"mine": method}, seed=5)
        expected = cross_validation_folds(adata, "donor", "cell_type", n_folds=3, seed=5).splits
        assert [seed for *_, seed in method.calls] == [5, 6, 7]
        for (_, splits, _), fold in zip(method.calls, expected, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(splits, fold, strict=True))

    @pytest.mark.slow
    def test_genes_are_selected_on_the_training_cells(self, adata):
        method = Recorder()
        run(adata, {"mine": method}, n_top_genes=20, folds=[1])
        [(cells, (train, *_), _)] = method.calls
        assert cells.n_vars == 20
        expected = adata[train].copy()
        expected.X = expected.layers["counts"].copy()
        # Each cell is normalised by itself, so that the expression is the same.
        pp.preprocess(expected, batch_key="donor", n_top_genes=20, min_genes=0, min_cells=0)
        assert list(cells.var_names) == list(expected.var_names)

    def test_without_selection_expression_is_not_copied(self, adata):
        method = Recorder()
        run(adata, {"mine": method}, folds=[0])
        assert method.calls[0][0].X is adata.X

    def test_the_cells_are_not_modified(self, adata):
        before = adata.copy()
        run(adata, ["X_mine", "pca"], settings={"pca": {"n_latent": 5}}, folds=[0])
        assert list(adata.obsm) == list(before.obsm)
        assert adata.uns.keys() == before.uns.keys()
        pd.testing.assert_frame_equal(adata.obs, before.obs)


class TestTable:
    def test_scores_are_those_of_the_test_cells(self, adata):
        table = run(adata, folds=[2], seed=3).table
        test = cross_validation_folds(adata, "donor", "cell_type", n_folds=3, seed=3).splits[2][2]
        expected = scores(adata, ["X_mine"], "donor", "cell_type", indices=test, seed=3)
        ours = table[table["of"] != "condition"].set_index(["metric", "of"])["value"]
        pd.testing.assert_series_equal(ours, expected.set_index(["metric", "of"])["value"])

    def test_controls_and_joint_methods_are_marked(self, adata):
        models = {"X_mine": "X_mine", "joint": "harmony", "pca": "pca"}
        settings = {name: {"n_latent": 5} for name in ("joint", "pca")}
        table = run(adata, models, folds=[0], settings=settings).table
        marks = table.drop_duplicates("embedding").set_index("embedding")
        assert set(marks.index[marks["control"]]) == {
            "chance", "batch label", *(f"{name} + batch label" for name in models)
        }  # fmt: skip
        # Fitted together, or before.
        assert set(marks.index[~marks["joint"]]) == {
            "chance", "batch label", "pca", "pca + batch label"
        }  # fmt: skip

    def test_summary_is_over_folds(self, adata):
        result = run(adata)
        rows = result.table[result.table["metric"] == "balanced_accuracy"]
        values = rows.loc[rows["embedding"] == "X_mine", "value"]
        summary = result.summary()
        row = summary[
            (summary["metric"] == "balanced_accuracy") & (summary["embedding"] == "X_mine")
        ].iloc[0]
        assert row["mean"] == pytest.approx(values.mean())
        assert row["n"] == 3


@pytest.mark.slow
class TestRandomEffects:
    """One epoch of a tiny network: what is fed to it, not what it learns."""

    @pytest.fixture(scope="class")
    def result(self, adata):
        return run(adata, ["X_mine", "RE"], settings={"RE": RE_QUICK}, folds=[0])

    def test_the_same_table_has_the_controls(self, result):
        table = result.table
        names = set(table["embedding"])
        assert {"RE", "X_mine + RE", WRONG, PERMUTED, "RE, one epoch"} <= names
        assert f"X_mine + {PERMUTED}" in names
        assert f"{PERMUTED} + RE" not in names
        assert table[table["embedding"] == PERMUTED]["control"].all()
        assert "RE, own effects in training cells" not in names

    def test_a_sentence_for_each_target(self, result):
        assert list(result.conclusions) == ["condition"]
        assert "one fold cannot show whether" in result.conclusions["condition"]
        assert result.conclusions["condition"] in result._repr_html_()

    def test_controls_can_be_left_out(self, adata):
        result = run(adata, ["RE"], settings={"RE": RE_QUICK}, folds=[0], controls=False)
        assert PERMUTED not in set(result.table["embedding"])
        assert result.conclusions == {}

    def fold(self, adata, scheme):
        splits = cross_validation_folds(
            adata, "donor", "cell_type", n_folds=3, scheme=scheme,
            condition_keys=["condition"] if scheme == "donors" else (),
        ).splits[0]  # fmt: skip
        return Fold(adata, "donor", "cell_type", splits, seed=0)

    def test_wrong_labels_are_of_the_test_cells_only(self, adata):
        fold = self.fold(adata, "cells")
        latents = fold.embed("RE", "RE", RE_QUICK).latents
        same = (latents["RE"] == latents[WRONG]).all(1)
        train, validation, test = fold.splits
        assert same[train].all()
        assert same[validation].all()
        assert not same[test].any()

    def test_held_out_donors_are_unknown_to_the_model_and_no_cell_has_effects(
        self, adata, monkeypatch
    ):
        fold, models = self.fold(adata, "donors"), []
        fit = Fold._fit
        monkeypatch.setattr(
            Fold, "_fit", lambda *arguments: models.append(fit(*arguments)) or models[-1]
        )
        latents = fold.embed("RE", "RE", RE_QUICK).latents
        held_out = set(fold.batches[fold.splits[2]])
        assert not held_out & set(models[0].batch_names)
        cells = fold._labelled(np.full(adata.n_obs, UNSEEN))
        expected = models[0].get_latent_representation(cells, unseen_batch="population")
        np.testing.assert_array_equal(latents["RE"], expected)
        own = latents["RE, own effects in training cells"]
        test = fold.splits[2]
        np.testing.assert_allclose(own[test], expected[test], atol=1e-5)
        assert not np.allclose(own[fold.splits[0]], expected[fold.splits[0]])

    def test_permuted_labels_are_those_of_the_known_cells(self, adata, monkeypatch):
        fold, seen = self.fold(adata, "donors"), []
        fitted = SimpleNamespace(history={"train_loss": pd.DataFrame({"train_loss": [1.0]})})
        monkeypatch.setattr(
            Fold, "_fit", lambda self, cls, batches, settings: seen.append(batches) or fitted
        )
        monkeypatch.setattr(Fold, "_as_judged", lambda *_: np.zeros((adata.n_obs, 1)))
        monkeypatch.setattr(_embedders, "forget_cells", lambda _: None)
        fold.embed(PERMUTED, PERMUTED, {})
        known = fold.known
        assert (seen[0][~known] == fold.batches[~known]).all()
        assert sorted(seen[0][known]) == sorted(fold.batches[known])
        assert (seen[0][known] == fold.batches[known]).mean() < 0.5


def test_a_name_that_is_a_method_and_an_embedding_is_refused(adata):
    other = adata.copy()
    other.obsm["pca"] = other.obsm["X_mine"]
    with pytest.raises(ValueError, match=r"\['pca'\] are methods, and embeddings"):
        run(other, ["pca"])
    other.obsm["X_mine"][3] = np.nan
    with pytest.raises(ValueError, match="missing or infinite values in 1 of"):
        run(other, ["X_mine"])


class TestDonors:
    def test_labels_stay_the_text_they_are(self, adata):
        other = adata.copy()
        codes = other.obs["donor"].cat.codes.to_numpy()
        other.obs["donor"] = pd.Categorical([f"00{code}" for code in codes])
        other.obs["treatment"] = pd.Categorical(np.where(codes < 3, "None", "1"))
        result = run(other, targets="treatment", scheme="donors")
        assert set(result.votes["truth"]) == {"None", "1"}
        assert set(result.votes["batch"]) == {f"00{i}" for i in range(6)}
        assert (result.votes_summary()["n_batches"] == 6).all()

    def test_one_donor_at_a_time(self, adata):
        result = run(adata, targets=(), scheme="donors", n_folds=6)
        of_batch = result.table[result.table["of"] == "batch"]
        assert of_batch["value"].isna().all()
        assert result.table[result.table["of"] == "label"]["value"].notna().any()

    def test_votes_are_judged_over_donors(self, adata):
        result = run(adata, scheme="donors")
        votes = result.votes[result.votes["embedding"] == "X_mine"]
        assert sorted(votes["batch"]) == sorted(adata.obs["donor"].unique())
        summary = result.votes_summary().set_index("embedding")
        assert (summary["n_batches"] == 6).all()
        assert summary["p_value"].between(0, 1).all()

    def test_the_sentence_has_the_number_of_donors_and_their_p_values(self):
        rows = [
            ("pca", 0.7, 0.03),
            ("pca + RE", 0.9, 0.0001),
            ("RE", 0.5, 1.0),
            (WRONG, 0.95, 0.01),
        ]
        judged = pd.DataFrame(rows, columns=["embedding", "balanced_accuracy", "p_value"])
        said = conclusion_of_votes(judged.assign(n_batches=14))
        assert "the votes on 14 held-out batches" in said
        assert "pca 0.70 (p = 0.030); pca + RE 0.90 (p < 0.001); RE 0.50 (p = 1.000)." in said

    def test_over_cells_there_are_no_votes(self, adata):
        assert run(adata, folds=[0]).votes.empty


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ["scVI"]}, r"\['scVI'\], which are neither models .* comparators .*scvi"),
        ({"models": []}, "models is empty"),
        ({"models": {"my RE": "RE"}}, "The name 'RE' is reserved for RE"),
        ({"models": {"RE": "pca"}}, "The name 'RE' is reserved for RE"),
        ({"settings": {"pca": {}}}, r"settings has \['pca'\]"),
        ({"folds": []}, "name some of the folds 0 to 2"),
        ({"models": {"short": lambda adata, **_: np.zeros((3, 2))}}, "The function of 'short'"),
        ({"models": {"chance": "pca"}}, r"\['chance'\] are not names"),
        ({"models": {"a + b": "pca"}}, r"\['a \+ b'\] are not names"),
        ({"folds": [3]}, "name some of the folds 0 to 2"),
        ({"targets": ["absent"]}, "target_keys='absent' is not a column"),
    ],
)
def test_unusable_arguments(adata, options, message):
    with pytest.raises(ValueError, match=message):
        run(adata, **options)


def test_models_whose_umaps_would_share_a_name_are_refused(adata):
    adata.obsm["X_pca"] = adata.obsm["X_mine"]
    with pytest.raises(ValueError, match=r"both 'pca' and 'X_pca'.*another name"):
        run(adata, ["pca", "X_pca"])


def test_test_cells_are_no_more_than_are_scored(adata):
    assert run(adata, ["X_mine"], max_cells=30).test_cells.n_obs == 30


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


@pytest.mark.slow
def test_epochs_and_losses_are_kept(adata):
    settings = {"ae": {"max_epochs": 2}, "RE": RE_QUICK | {"max_epochs": 3}}
    result = run(adata, ["pca", "ae", "RE"], settings=settings, folds=[0, 1])
    epochs = result.epochs.pivot(index="embedding", columns="fold", values="epochs")
    assert epochs.loc["ae"].tolist() == [2, 2]
    assert epochs.loc["RE"].tolist() == [3, 3]
    assert "pca" not in epochs.index
    assert epochs.loc["RE, one epoch"].tolist() == [1, 1]
    figure = pl.training(result.histories["RE"])
    assert figure.axes[0].get_title() == "Does the reconstruction improve?"


class TestRefusedBeforeTraining:
    def refused(self, adata, message, **options):
        method = Recorder()
        with pytest.raises(ValueError, match=message):
            run(adata, {"mine": method}, **options)
        assert not method.calls

    def test_a_target_of_which_a_fold_has_one_class(self, adata):
        other = adata.copy()
        first = other.obs["donor"] == other.obs["donor"].unique()[0]
        other.obs["rare"] = np.where(first, "yes", "no")
        options = {"targets": ["rare"], "scheme": "donors", "stratify_keys": []}
        self.refused(other, "have the 'rare' 'no': nothing to learn", **options)

    @pytest.mark.slow
    @pytest.mark.skipif(find_spec("scib_metrics") is None, reason="needs scib-metrics")
    def test_folds_too_small_for_scib(self, adata):
        self.refused(adata[::4].copy(), "takes 90 neighbours", scib=True)

    def test_more_combinations_of_conditions_than_batches(self, adata):
        other = adata.copy()
        donors = other.obs["donor"].cat.codes.to_numpy()
        other.obs["age"] = 20 + donors
        targets = ["condition", "age"]
        self.refused(
            other, "balance the folds for fewer columns", targets=targets, scheme="donors"
        )


@pytest.mark.slow
def test_folds_can_be_balanced_for_some_of_the_targets(adata):
    other = adata.copy()
    codes = other.obs["donor"].cat.codes.to_numpy()
    other.obs["sex"] = np.where(codes < 3, "m", "f")
    result = run(other, targets=["condition", "sex"], scheme="donors", stratify_keys=["sex"])
    assert (result.votes_summary()["n_batches"] == 6).all()
    votes = result.votes.query("of == 'sex' and embedding == 'X_mine'")
    for _, of_fold in votes.groupby("fold"):
        assert sorted(of_fold["truth"]) == ["f", "m"]
