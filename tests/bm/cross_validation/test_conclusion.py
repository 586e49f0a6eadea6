"""The sentence on what RE adds: its verdict, and the gains behind it."""

import pandas as pd
import pytest

from scmedal_tools.bm._cross_validation._conclusion import conclusion, gains
from scmedal_tools.bm._cross_validation._embedders import PERMUTED


class TestConclusion:
    def table(self, re, label_beside, label_alone, permuted=None, n_folds=3):
        values = {"pca": 0.5, "pca + RE": re, "pca + batch label": label_beside,
                  "batch label": label_alone, "RE": 0.9, "chance": 0.3}  # fmt: skip
        if permuted is not None:
            values[f"pca + {PERMUTED}"] = permuted
        return pd.DataFrame(
            {"fold": fold, "embedding": name, "of": "sex", "metric": "balanced_accuracy",
             "value": value + 0.01 * fold}
            for fold in range(n_folds) for name, value in values.items()
        )  # fmt: skip

    def test_the_label_counts_alone_if_that_is_better_in_the_mean(self):
        gained = gains(self.table(re=0.9, label_beside=0.7, label_alone=1.0), "sex").loc["pca"]
        assert gained["RE"].tolist() == pytest.approx([0.4] * 3)
        assert gained["batch label"].tolist() == pytest.approx([0.5] * 3)
        table = self.table(re=0.9, label_beside=0.7, label_alone=0.6)
        lucky = (table["fold"] == 0) & (table["embedding"] == "batch label")
        table.loc[lucky, "value"] += 0.2
        assert gains(table, "sex").loc["pca"]["batch label"].tolist() == pytest.approx([0.2] * 3)

    # No noise between folds, so that any difference is one.
    @pytest.mark.parametrize(
        ("values", "known", "verdict"),
        [
            ((0.9, 0.8, 0.5), True, "exceeds zero and that of the batch label"),
            ((0.6, 0.8, 0.5), True, "exceeds zero, but is below that of the batch label"),
            (
                (0.6, 0.4, 0.5, 0.7),
                True,
                "exceeds zero and that of the batch label, but is below that of RE trained on "
                "permuted labels",
            ),
            ((0.4, 0.3, 0.2), True, "exceeds that of the batch label, but is below zero"),
            # Of new batches the label tells nothing, and may harm.
            ((0.45, 0.4, 0.4), False, "is below zero"),
            ((0.7, 0.9, 0.4), False, "exceeds zero"),
        ],
    )
    def test_verdict_comes_first(self, values, known, verdict):
        said = conclusion(self.table(*values), "sex", known_batches=known)
        gain = values[0] - 0.5
        assert said.startswith(
            f"sex: RE's gain {verdict}. Adding RE to PCA changes balanced accuracy by {gain:+.3f}."
        )

    def test_embeddings_beside_which_the_label_gives_more_are_counted(self):
        table = self.table(re=0.6, label_beside=0.7, label_alone=0.5)
        twin = table[table["embedding"].str.startswith("pca")]
        better = twin.assign(embedding=twin["embedding"].str.replace("pca", "ae"))
        better["value"] += 0.3 * (better["embedding"] == "ae + RE")
        said = conclusion(pd.concat([table, better]), "sex")
        assert "Adding RE to AE and PCA changes balanced accuracy by +0.250 on average (" in said
        assert (
            "The batch label, added or alone, changes it by +0.200 (more than RE for 1 of 2 "
            "embeddings)."
        ) in said

    def test_noise_between_folds_is_no_difference(self):
        table = self.table(0.8, label_beside=0.8, label_alone=0.5)
        table.loc[(table["embedding"] == "pca + RE") & (table["fold"] == 0), "value"] += 0.1
        said = conclusion(table, "sex")
        assert "exceeds zero, but is not shown to exceed that of the batch label." in said
