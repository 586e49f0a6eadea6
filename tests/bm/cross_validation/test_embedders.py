"""What the embeddings of a fold are fitted to, and their controls."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scmedal_tools.bm._cross_validation import _embedders
from scmedal_tools.bm._cross_validation._embedders import PERMUTED, UNSEEN, WRONG, Fold
from scmedal_tools.train import cross_validation_folds

from .quick import RE_QUICK, run


@pytest.mark.slow
class TestRandomEffects:
    """One epoch of a tiny network: what is fed to it, not what it learns."""

    @pytest.fixture(scope="class")
    def result(self, six_donors):
        return run(six_donors, ["X_mine", "RE"], settings={"RE": RE_QUICK}, folds=[0])

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

    def test_names_are_no_markup(self, result):
        """A notebook would run them."""
        hostile = "<img src=x onerror=alert(1)>"
        table = result.table.replace({"condition": hostile, "X_mine": f"mine {hostile}"})
        table["embedding"] = table["embedding"].str.replace("X_mine", f"mine {hostile}")
        named = replace(result, table=table, settings=result.settings | {"target_keys": [hostile]})
        assert hostile in named.conclusions[hostile]
        assert "<img" not in named._repr_html_()

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
