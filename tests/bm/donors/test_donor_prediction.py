"""Donors predicted from their cells: what is found, what is not, and that nothing leaks."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import NearestCentroid

from scmedal_tools._gene_model import fit_mixed_model
from scmedal_tools.bm import donor_prediction
from scmedal_tools.bm._donors._donor_sums import DonorSums
from scmedal_tools.bm._donors._features import (
    BLUP,
    CELLS,
    CELLS_AND_DEPTH,
    COMPOSITION,
    MEAN,
    effects_given,
    features_of,
)
from scmedal_tools.bm._donors._learners import (
    CENTROID,
    LDA,
    RIDGE,
    class_metrics,
    class_scores,
    number_metrics,
    predicted_numbers,
)

# Simulated without counts.
pytestmark = pytest.mark.filterwarnings("ignore:adata.X holds values of a kind")

N_DONORS, N_GENES = 9, 30
KEYS = ("donor", "group", "cell_type")


def simulate(seed=0, effect=0.0, shares=0.0, cells=60):
    """Cells of nine donors, five of them sick: ``effect`` on ten genes, ``shares`` on the types.

    Types differ in all genes.
    """
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(N_DONORS), cells)
    sick = donor % 2 == 0
    is_t = rng.random(len(donor)) < 0.5 + np.where(sick, shares, -shares)
    of_types, of_donors = rng.uniform(0, 2, (2, N_GENES)), rng.normal(0, 0.2, (N_DONORS, N_GENES))
    x = of_types[is_t.astype(int)] + of_donors[donor] + rng.normal(0, 0.5, (len(donor), N_GENES))
    x[:, :10] += effect * sick[:, None]
    x = np.log1p(np.expm1(np.clip(x, 0, None)) * 0.999)  # as logarithms of fractions of counts
    obs = pd.DataFrame(
        {
            "donor": [f"d{i}" for i in donor],
            "group": np.where(sick, "sick", "well"),
            "cell_type": np.where(is_t, "T", "B"),
            "age": 20.0 + 5 * donor,
            "total": rng.integers(500, 1500, len(donor)),
        },
        index=[f"cell{i}" for i in range(len(donor))],
    )
    return AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=obs)


def predict(adata, keys=KEYS, **kwargs):
    return donor_prediction(adata, *keys, progress=False, **{"n_permutations": 10} | kwargs)


def value(table, features, method=CENTROID, metric="auc", column="value"):
    rows = table.set_index(["features", "method", "metric"])
    return rows.loc[(features, method, metric), column]


@pytest.mark.slow
class TestWhatIsFound:
    def test_an_effect_on_genes_is_in_effects_and_not_in_composition(self):
        table = predict(simulate(effect=0.8), n_permutations=126).table
        for method in (CENTROID, LDA):
            assert value(table, BLUP, method) == 1
            assert value(table, BLUP, method, column="p_value") == pytest.approx(1 / 126)
        assert value(table, COMPOSITION, column="p_value") > 0.05

    def test_a_difference_of_composition_is_not_in_effects_given_types(self):
        table = predict(simulate(shares=0.3), n_permutations=99).table
        assert value(table, COMPOSITION) == value(table, MEAN) == 1
        assert value(table, BLUP, column="p_value") > 0.05

    def test_age(self):
        adata = simulate()
        x = adata.X.toarray()
        x[:, :10] *= 1 + 0.02 * (adata.obs["age"].to_numpy()[:, None] - 20)
        adata.X = x
        table, predictions = predict(adata, ("donor", "age", "cell_type"), n_permutations=99)
        assert value(table, BLUP, RIDGE, "r2") > 0.5
        assert value(table, BLUP, RIDGE, "r2", "p_value") == 0.01
        of_blup = predictions[predictions["features"] == BLUP]
        truth = of_blup["truth"].to_numpy()
        beyond = of_blup["predicted"] - (truth.sum() - truth) / 8
        expected = spearmanr(truth, beyond).statistic
        assert value(table, BLUP, RIDGE, "spearman") == pytest.approx(expected)


class TestNothingLeaks:
    def test_features_of_training_donors_do_not_depend_on_the_one_left_out(self):
        adata = simulate()
        changed = adata.copy()
        of_last = (adata.obs["donor"] == "d8").to_numpy()
        x = changed.X.toarray()
        x[of_last] = np.random.default_rng(1).gamma(1, 3, x[of_last].shape)
        changed.X = x
        train = list(range(8))
        features = []
        for cells in (adata, changed):
            sums = DonorSums.of(cells.X, cells.obs["donor"], cells.obs["cell_type"], None)
            features.append(list(features_of(sums, train, 8, 9)))
        for before, after in zip(*features, strict=True):
            np.testing.assert_allclose(before.train, after.train, atol=1e-12)
            products = [train @ train.T for train, _ in (before.turned(), after.turned())]
            np.testing.assert_allclose(*products, atol=1e-6)  # axes may point the other way
        assert not np.allclose(features[0][2].test, features[1][2].test)

    def test_a_type_of_the_left_out_donor_alone_is_no_feature(self):
        adata = simulate()
        types = adata.obs["cell_type"].astype(object)
        types[adata.obs["donor"] == "d8"] = "rare"
        sums = DonorSums.of(adata.X, adata.obs["donor"], types, None)
        for features in features_of(sums, list(range(8)), 8, None):
            assert np.isfinite(features.test).all()
            if features.name == COMPOSITION:
                assert features.train.shape == (8, 2)
                assert (features.test == 0).all()

    @pytest.mark.slow
    def test_an_embedding_is_made_without_the_donor_left_out(self):
        adata, seen = simulate(), []

        def embedding(cells, train):
            seen.append(set(train))
            return pd.DataFrame({"x": np.arange(9.0)}, [f"d{i}" for i in range(9)])

        embeddings = {"made": embedding, "given": embedding(adata, [])}
        table = predict(adata, embeddings=embeddings, n_permutations=1).table
        everyone = {f"d{i}" for i in range(9)}
        assert [everyone - train for train in seen[1:]] == [{f"d{i}"} for i in range(9)]
        saw = table.groupby("features")["saw_all_donors"].first()
        assert saw[saw].index.tolist() == ["given", "given, not standardised"]


class TestFeatures:
    @pytest.fixture
    def sums(self):
        adata = simulate()
        columns = (adata.obs["donor"], adata.obs["cell_type"], adata.obs["total"])
        return adata, DonorSums.of(adata.X, *columns[:2], columns[2].to_numpy())

    def test_are_those_of_the_cells(self, sums):
        adata, summed = sums
        features = {f.name: f for f in features_of(summed, list(range(8)), 8, None)}
        x, donors = adata.to_df(), adata.obs["donor"]
        np.testing.assert_allclose(features[MEAN].train, x.groupby(donors).mean()[:8], rtol=1e-5)
        shares = pd.crosstab(donors, adata.obs["cell_type"], normalize="index")
        np.testing.assert_allclose(features[COMPOSITION].test[0] ** 2, shares.loc["d8"])
        depth = np.log(adata.obs["total"]).groupby(donors).mean()
        expected = [np.log(60), depth["d8"]]
        np.testing.assert_allclose(features[CELLS_AND_DEPTH].test[0], expected)

    def test_variance_and_noise_are_those_of_the_cells(self, sums):
        adata, summed = sums
        x = adata.to_df().to_numpy(dtype=float)
        np.testing.assert_allclose(summed.variance(list(range(9))), x.var(0), rtol=1e-4)
        noise = summed.groups([0], np.array([0, 1]), slice(None)).noise()
        of_first = (adata.obs["donor"] == "d0").to_numpy()
        own = x[of_first & (adata.obs["cell_type"] == "B").to_numpy()]
        assert noise[0].mean() == pytest.approx(own.var(0, ddof=1).mean(), rel=0.1)

    def test_effects_of_the_fitted_donors_are_those_of_the_model(self, sums):
        """But for the fixed effects, of which the model takes those of each variance."""
        groups = sums[1].groups(list(range(9)), np.array([0, 1]), slice(None))
        model = fit_mixed_model(groups, torch.eye(2, dtype=torch.double))
        np.testing.assert_allclose(
            model.scale * effects_given(model, groups), model.loc, atol=0.01
        )

    def test_turning_keeps_distances_but_for_their_unit(self, sums):
        for features in features_of(sums[1], list(range(8)), 8, None):
            if not features.standardised:
                train, test = features.turned()
                expected = np.square(features.train[0] - features.train).sum(1)
                found = np.square(train[0] - train).sum(1)
                np.testing.assert_allclose(found / found[1], expected / expected[1], rtol=1e-6)
                assert train.var(0, ddof=1).sum() == pytest.approx(1)
                assert test.shape == (1, 8)


class TestLearners:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(12, 6)), rng.normal(size=(1, 6))
    codes = rng.permuted(np.tile([0] * 4 + [1] * 5 + [2] * 3, (7, 1)), axis=1)

    def test_nearest_centroid_is_that_of_scikit_learn(self):
        scores = class_scores(self.train, self.test, self.codes, 3)[CENTROID]
        for of_classes, codes in zip(scores, self.codes, strict=True):
            expected = NearestCentroid().fit(self.train, codes).predict(self.test)
            assert of_classes.argmax() == expected[0]

    def test_discriminant_has_the_pooled_shrunken_covariance(self):
        scores = class_scores(self.train, self.test, self.codes, 3)[LDA]
        for of_classes, codes in zip(scores, self.codes, strict=True):
            centres = np.array([self.train[codes == c].mean(0) for c in range(3)])
            shrunken = LedoitWolf(assume_centered=True).fit(self.train - centres[codes])
            for c in range(3):
                shrunken.location_ = centres[c]
                assert -of_classes[c] == pytest.approx(shrunken.mahalanobis(self.test)[0])

    def test_features_without_any_difference(self):
        scores = class_scores(np.zeros((12, 1)), np.zeros((1, 1)), self.codes, 3)
        assert not any(values.any() for values in scores.values())

    def test_numbers_do_not_see_other_relabellings(self):
        values = self.rng.normal(size=(4, 12))
        together = predicted_numbers(self.train, self.test, values)
        alone = [predicted_numbers(self.train, self.test, v[None])[0] for v in values]
        np.testing.assert_allclose(together, alone)

    def test_metrics_of_labels(self):
        codes = (self.codes > 0).astype(int)
        scores = self.rng.normal(size=(*codes.shape, 2)).round(1)
        found = class_metrics(scores, codes)
        for i, truth in enumerate(codes):
            predicted, margin = scores[i].argmax(1), scores[i, :, 1] - scores[i, :, 0]
            expected = balanced_accuracy_score(truth, predicted)
            assert found["balanced_accuracy"][i] == pytest.approx(expected)
            assert found["auc"][i] == pytest.approx(roc_auc_score(truth, margin))

    def test_metrics_of_numbers(self):
        values = np.array([[1.0, 2.0, 4.0]])
        of_others = (7 - values) / 2
        assert list(number_metrics(of_others, values).values()) == [0, 0]
        perfect = number_metrics(values, values)
        np.testing.assert_allclose(list(perfect.values()), 1)


class TestTable:
    @pytest.mark.slow
    def test_p_value_is_the_share_of_relabellings_that_were_fitted_again(self):
        """By hand, with one feature: the donor's number of cells."""
        adata = simulate()
        keep = np.concatenate([np.arange(60 * i, 60 * i + 10 + 5 * i) for i in range(9)])
        adata = adata[keep].copy()
        adata.obs["group"] = np.where(adata.obs["donor"].isin(["d0", "d1", "d3"]), "few", "many")
        table = predict(adata, n_permutations=84).table
        x = np.log(adata.obs["donor"].value_counts().sort_index().to_numpy())
        found = []
        for few in combinations(range(9), 3):
            is_few = np.isin(np.arange(9), few)
            hit = np.zeros(9, dtype=bool)
            for i in range(9):
                rest = np.arange(9) != i
                near = [abs(x[rest & of].mean() - x[i]) for of in (is_few, ~is_few)]
                hit[i] = (near[0] < near[1]) == is_few[i]
            found.append((hit[is_few].mean() + hit[~is_few].mean()) / 2)
            if set(few) == {0, 1, 3}:
                observed = found[-1]
        options = (CENTROID, "balanced_accuracy")
        assert value(table, CELLS, *options) == pytest.approx(observed)
        expected = np.mean(np.array(found) >= observed - 1e-9)
        assert value(table, CELLS, *options, column="p_value") == pytest.approx(expected)
        assert value(table, CELLS, *options, column="n_relabellings") == 84

    @pytest.mark.slow
    def test_predictions_are_of_every_donor(self):
        table, predictions = predict(simulate(effect=0.8), n_permutations=5)
        assert (predictions.groupby(["features", "method"])["donor"].nunique() == 9).all()
        of_blup = predictions[(predictions["features"] == BLUP) & (predictions["method"] == LDA)]
        assert (of_blup["predicted"] == of_blup["truth"]).all()
        assert ((of_blup["score"] > 0) == (of_blup["truth"] == "well")).all()
        assert (table["n_relabellings"] == 6).all()

    @pytest.mark.slow
    def test_two_numbers_are_labels(self):
        adata = simulate(effect=0.8)
        named = predict(adata, n_permutations=5).table
        adata.obs["group"] = (adata.obs["group"] == "well").astype(int)
        coded = predict(adata, n_permutations=5).table
        pd.testing.assert_frame_equal(coded, named)


class TestErrors:
    def test_too_few_donors_of_a_label(self):
        adata = simulate()
        adata.obs["group"] = np.where(adata.obs["donor"].isin(["d0", "d1"]), "few", "many")
        with pytest.raises(ValueError, match="each with at least 3 donors"):
            predict(adata)

    def test_a_donor_with_two_labels(self):
        with pytest.raises(ValueError, match="has several values in 'd0'"):
            predict(simulate(), ("donor", "cell_type", "cell_type"))

    def test_counts(self):
        adata = simulate()
        adata.X = np.ceil(adata.X.toarray())
        with pytest.raises(ValueError, match="log-normalised expression is needed"):
            predict(adata)

    def test_an_embedding_without_a_donor(self):
        table = pd.DataFrame({"x": np.arange(8.0)}, [f"d{i}" for i in range(8)])
        with pytest.raises(ValueError, match=r"no row for \['d8'\]"):
            predict(simulate(), embeddings={"x": table})

    def test_unknown_columns(self):
        with pytest.raises(ValueError, match="target_key='disease' is not a column"):
            predict(simulate(), ("donor", "disease", "cell_type"))
        with pytest.raises(ValueError, match="total_counts_key='depth' is not a column"):
            predict(simulate(), total_counts_key="depth")
