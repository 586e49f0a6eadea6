"""Cross-validation: what is fitted to what, what is scored, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from scmedal_tools import pl, pp
from scmedal_tools.bm import scores
from scmedal_tools.bm._cross_validation._conclusion import conclusion_of_votes
from scmedal_tools.bm._cross_validation._embedders import WRONG
from scmedal_tools.train import cross_validation_folds

from .quick import RE_QUICK, Recorder, run


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
        assert "PCA 0.70 (p = 0.030); PCA + RE 0.90 (p < 0.001); RE 0.50 (p = 1.000)." in said

    def test_over_cells_there_are_no_votes(self, adata):
        assert run(adata, folds=[0]).votes.empty


def test_a_name_that_is_a_method_and_an_embedding_is_refused(adata):
    other = adata.copy()
    other.obsm["pca"] = other.obsm["X_mine"]
    with pytest.raises(ValueError, match=r"\['pca'\] are methods, and embeddings"):
        run(other, ["pca"])
    other.obsm["X_mine"][3] = np.nan
    with pytest.raises(ValueError, match="missing or infinite values in 1 of"):
        run(other, ["X_mine"])


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
    @pytest.mark.usefixtures("scib_metrics")
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
