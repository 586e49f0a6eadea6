"""What a forest reads from embeddings, and what the batch label alone would give."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from scmedal_tools.bm import mixing_classifier, score_votes
from scmedal_tools.train import cross_validation_folds

N = 240


@pytest.fixture
def adata() -> AnnData:
    """Eight donors; "content" tells the type, "re" the donor, "noise" nothing."""
    rng = np.random.default_rng(0)
    donor = np.arange(N) % 8
    obs = pd.DataFrame(
        {
            "donor": [f"d{i}" for i in donor],
            "group": np.where(donor < 5, "sick", "well"),
            "type": np.where(rng.random(N) < 0.5, "T", "B"),
        },
        index=[f"cell {i}" for i in range(N)],
    )
    adata = AnnData(np.zeros((N, 1), dtype=np.float32), obs=obs)
    tells_type = (obs["type"] == "T").to_numpy()[:, None] * 5.0
    adata.obsm["content"] = np.hstack([tells_type, rng.normal(size=(N, 2))])
    adata.obsm["re"] = np.hstack([np.eye(8)[donor] * 5, rng.normal(size=(N, 2))])
    adata.obsm["noise"] = rng.normal(size=(N, 3))
    return adata


def run(adata, target="group", embeddings=("content", "noise"), scheme="cells", **options):
    splits = cross_validation_folds(
        adata, "donor", "type", scheme=scheme, n_folds=3,
        condition_keys=["group"] if scheme == "donors" else [],
    ).splits[0]  # fmt: skip
    settings = {"batch_key": "donor", "random_effects": "re", "n_trees": 20} | options
    return splits, mixing_classifier(adata, list(embeddings), target, splits, **settings)


def balanced(table):
    table = table[table["metric"] == "balanced_accuracy"]
    return table.set_index("embedding")["value"]


def test_the_batch_label_alone_predicts_what_is_constant_within_batches(adata):
    scores = balanced(run(adata)[1].table)
    assert scores["batch label"] == 1
    assert scores["re"] > 0.95
    assert scores["noise"] < 0.7
    assert scores["noise + re"] > scores["noise"] + 0.2
    assert scores["noise + batch label"] > scores["noise"] + 0.2


def test_of_new_donors_the_batch_label_tells_nothing(adata):
    scores = balanced(run(adata, scheme="donors")[1].table)
    assert scores["batch label"] == 0.5


def test_scores_are_those_of_a_forest_fitted_by_hand(adata):
    (train, _, test), mixing = run(adata, target="type")
    x, y = np.hstack([adata.obsm["noise"], adata.obsm["re"]]), adata.obs["type"].to_numpy()
    scaler = StandardScaler().fit(x[train])
    forest = RandomForestClassifier(20, random_state=0).fit(scaler.transform(x[train]), y[train])
    predicted = forest.predict(scaler.transform(x[test]))
    row = mixing.table[mixing.table["embedding"] == "noise + re"].set_index("metric")["value"]
    assert row["accuracy"] == pytest.approx(accuracy_score(y[test], predicted))
    assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y[test], predicted))


@pytest.mark.slow
def test_validation_cells_are_not_used(adata):
    (_, validation, _), before = run(adata, target="type")
    for key in ("content", "re", "noise"):
        adata.obsm[key][validation] = 99.0
    pd.testing.assert_frame_equal(run(adata, target="type")[1].table, before.table)


def test_chance_is_what_many_guesses_in_the_training_proportions_reach(adata):
    (train, _, test), mixing = run(adata, target="type")
    target = adata.obs["type"].astype(str).to_numpy()
    rng = np.random.default_rng(0)
    right = rng.choice(target[train], (2000, len(test))) == target[test]
    recalls = [right[:, target[test] == name].mean() for name in ("T", "B")]
    chance = mixing.table.query("embedding == 'chance'").set_index("metric")["value"]
    assert chance["accuracy"] == pytest.approx(right.mean(), abs=0.01)
    assert chance["balanced_accuracy"] == pytest.approx(np.mean(recalls), abs=0.01)


def test_without_random_effects_there_is_nothing_to_add(adata):
    names = set(run(adata, random_effects=None)[1].table["embedding"])
    labels = {f"{name} + batch label" for name in ("content", "noise")}
    assert names == {"chance", "batch label", "content", "noise"} | labels


@pytest.mark.slow
def test_votes_are_of_batches_with_one_label(adata):
    _, mixing = run(adata, scheme="donors")
    votes = mixing.votes[mixing.votes["embedding"] == "re"]
    tested = adata.obs.iloc[run(adata, scheme="donors")[0][2]]
    assert (
        votes.set_index("batch")["n_cells"].to_dict() == tested["donor"].value_counts().to_dict()
    )
    assert votes["share"].between(0, 1).all()
    assert run(adata, target="type")[1].votes.empty


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "absent"}, "target_key='absent' is not a column"),
        ({"batch_key": "absent"}, "batch_key='absent' is not a column"),
    ],
)
def test_unusable_arguments(adata, options, message):
    with pytest.raises(ValueError, match=message):
        run(adata, **options)


def test_embeddings_that_are_not_there(adata):
    with pytest.raises(KeyError, match=r"'absent' not in adata\.obsm"):
        run(adata, embeddings=["absent"])
    with pytest.raises(KeyError, match=r"'absent' not in adata\.obsm"):
        run(adata, random_effects="absent")


def test_cells_in_two_sets_are_refused(adata):
    cells = np.arange(N)
    with pytest.raises(ValueError, match="named more than once"):
        mixing_classifier(
            adata, ["noise"], "group", [cells, [], cells], batch_key="donor", random_effects="re"
        )


def test_one_label_in_training_is_refused(adata):
    sick = (adata.obs["group"] == "sick").to_numpy()
    split = [np.flatnonzero(sick), [], np.flatnonzero(~sick)]
    with pytest.raises(ValueError, match="nothing to learn"):
        mixing_classifier(adata, ["noise"], "group", split, batch_key="donor", random_effects=None)


class TestScoreVotes:
    def votes(self, truth, vote):
        return pd.DataFrame(
            {"embedding": "X", "of": "group", "truth": list(truth), "vote": list(vote)}
        )

    def test_p_value_of_a_perfect_prediction_is_one_over_the_number_of_arrangements(self):
        result = score_votes(self.votes("aaabbb", "aaabbb")).iloc[0]
        assert result["n_batches"] == 6
        assert result["balanced_accuracy"] == pytest.approx(1)
        # 20 arrangements of three and three, one of which is the data's.
        assert result["p_value"] == 1 / 20

    @pytest.mark.parametrize("n_permutations", [1679, 1680])
    def test_p_values_of_three_groups_by_drawing_and_by_trying_all_agree(self, n_permutations):
        # 9! / (3! 3! 3!) = 1,680 arrangements; 84 of these have seven hits or more.
        votes = self.votes("aaabbbccc", "aabbbccca")
        truth, vote = (votes[key].to_numpy() for key in ("truth", "vote"))
        hits = [sum(np.array(p) == vote) for p in set(permutations(truth))]
        expected = np.mean(np.array(hits) >= (truth == vote).sum())
        found = score_votes(votes, n_permutations)["p_value"].item()
        exact = n_permutations == 1680
        assert found == pytest.approx(expected, abs=1e-12 if exact else 0.02)

    def test_a_majority_vote_is_no_evidence(self):
        result = score_votes(self.votes("aaaaab", "aaaaaa")).iloc[0]
        assert result["accuracy"] == pytest.approx(5 / 6)
        assert result["balanced_accuracy"] == pytest.approx(0.5)
        assert result["p_value"] == 1

    def test_balanced_accuracy_is_sklearns(self):
        truth, vote = list("aabbbcc"), list("abbbcca")
        result = score_votes(self.votes(truth, vote)).iloc[0]
        assert result["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, vote))
