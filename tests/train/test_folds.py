"""Folds of a cross-validation."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmedal_tools.train import cross_validation_folds


def cells(sizes: dict, **constant) -> AnnData:
    """Cells of (donor, type) pairs, in a mixed order; a donor's first letter is its condition."""
    pairs = [pair for pair, size in sizes.items() for _ in range(size)]
    obs = pd.DataFrame(pairs, columns=["donor", "type"])
    obs = obs.sample(frac=1, random_state=0)
    obs["condition"] = obs["donor"].str[0]
    obs.index = [f"cell {i}" for i in range(len(obs))]
    return AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs.assign(**constant))


DONORS = {(f"{side}{i}", "T"): 12 + i for side in "ac" for i in range(4)}


SIZES = {("A", "T"): 50, ("A", "B"): 13, ("B", "T"): 7, ("B", "B"): 2}


class TestOverCells:
    def folds(self, **options):
        return cross_validation_folds(cells(SIZES), "donor", "type", **options)

    def test_every_cell_is_tested_once_and_in_one_set_of_each_fold(self):
        folds = self.folds().splits
        tested = np.concatenate([test for *_, test in folds])
        assert np.array_equal(np.sort(tested), np.arange(72))
        for split in folds:
            assert np.array_equal(np.sort(np.concatenate(split)), np.arange(72))

    def test_three_of_five_parts_are_for_training_and_one_each_for_the_others(self):
        for train, validation, test in self.folds().splits:
            assert 42 <= len(train) <= 44
            assert {len(validation), len(test)} <= {14, 15}

    def test_every_combination_is_spread_evenly(self):
        adata = cells(SIZES)
        for split in cross_validation_folds(adata, "donor", "type").splits:
            counts = adata.obs.iloc[split[2]].groupby(["donor", "type"]).size()
            for pair, size in SIZES.items():
                assert abs(counts.get(pair, 0) - size / 5) < 1

    def test_rare_combinations_are_reported(self):
        assert self.folds().rare.to_dict() == {("B", "B"): 2}

    def test_seed(self):
        first, again, other = (self.folds(seed=seed).splits[0][2] for seed in (0, 0, 1))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_a_batch_without_training_cells_is_named(self):
        adata = cells({("A", "T"): 50, ("tiny", "T"): 1})
        with pytest.raises(ValueError, match=r"1 batches are too small .*tiny"):
            cross_validation_folds(adata, "donor", "type")


class TestOverDonors:
    def folds(self, **options):
        settings = {"scheme": "donors", "condition_keys": ["condition"], "n_folds": 4} | options
        return cross_validation_folds(cells(DONORS), "donor", "type", **settings)

    def test_a_tested_donor_has_no_cell_in_training_or_validation(self):
        donors = cells(DONORS).obs["donor"].to_numpy()
        for train, validation, test in self.folds().splits:
            assert not set(donors[test]) & (set(donors[train]) | set(donors[validation]))
            assert set(donors[train]) == set(donors[validation])

    def test_a_donor_whose_only_cells_are_for_validation_is_named(self):
        # A quarter of these single cells goes to validation in each fold.
        adata = cells(DONORS | {(f"a-tiny{i}", "T"): 1 for i in range(12)})
        with pytest.raises(ValueError, match=r"batches are too small .*a-tiny"):
            cross_validation_folds(adata, "donor", "type", scheme="donors")

    def test_every_fold_tests_both_conditions_and_every_donor_is_tested_once(self):
        obs = cells(DONORS).obs
        tested = [obs.iloc[test]["donor"].unique() for *_, test in self.folds().splits]
        assert sorted(np.concatenate(tested)) == sorted(obs["donor"].unique())
        assert all({name[0] for name in names} == {"a", "c"} for names in tested)

    def test_too_many_folds_name_the_donors_of_the_rarest_condition(self):
        sizes = {pair: n for pair, n in DONORS.items() if pair[0] not in ("c2", "c3")}
        with pytest.raises(
            ValueError, match=r"Only 2 of the batches .*'c' \(c0, c1\).*n_folds=2 or less"
        ):
            cross_validation_folds(
                cells(sizes), "donor", "type", scheme="donors", condition_keys=["condition"]
            )

    def test_a_condition_that_varies_within_donors_is_refused(self):
        adata = cells({("A", "T"): 9, ("A", "B"): 9, ("B", "T"): 9})
        with pytest.raises(ValueError, match="vary within 1 batches"):
            cross_validation_folds(
                adata, "donor", "type", scheme="donors", condition_keys=["type"], n_folds=2
            )


def layout(seed: int) -> AnnData:
    """Cells of a random design: donors and types of any size, types absent from some donors."""
    rng = np.random.default_rng(seed)
    n_donors, n_types = rng.integers(4, 12), rng.integers(1, 7)
    sizes = rng.negative_binomial(0.5, 0.03, (n_donors, n_types)) * rng.integers(0, 2, n_types)
    sizes[:, 0] += rng.integers(6, 12, n_donors)  # enough to train on
    sides = rng.permutation(n_donors) % 2
    return cells(
        {
            (f"{'ac'[sides[i]]}{i}", f"type {j}"): size
            for (i, j), size in np.ndenumerate(sizes)
            if size
        }
    )


@pytest.mark.parametrize("seed", range(40))
class TestAnyDesign:
    """What holds whatever the design."""

    def check(self, adata, splits):
        tested = np.sort(np.concatenate([test for *_, test in splits]))
        assert np.array_equal(tested, np.arange(adata.n_obs))
        for split in splits:
            assert np.array_equal(np.sort(np.concatenate(split)), np.arange(adata.n_obs))
            assert all(len(part) for part in split)

    def test_no_fold_leaks_a_cell(self, seed):
        adata = layout(seed)
        n_folds = 3 + seed % 4
        folds = cross_validation_folds(adata, "donor", "type", n_folds=n_folds, seed=seed)
        self.check(adata, folds.splits)
        sizes = adata.obs.groupby(["donor", "type"]).size()
        for *_, test in folds.splits:
            here = adata.obs.iloc[test].groupby(["donor", "type"]).size()
            here = here.reindex(sizes.index, fill_value=0)
            assert ((here - sizes / n_folds).abs() < 1).all()
            # Only combinations that are reported may be absent.
            assert set(here.index[here == 0]) <= set(folds.rare.index)

    def test_no_fold_leaks_a_donor(self, seed):
        adata = layout(seed)
        donors = adata.obs["donor"].to_numpy()
        n_folds = 2 + seed % (len(np.unique(donors)) // 2 - 1)
        folds = cross_validation_folds(
            adata, "donor", "type", n_folds=n_folds, scheme="donors",
            condition_keys=["condition"], seed=seed,
        )  # fmt: skip
        self.check(adata, folds.splits)
        for *known, test in folds.splits:
            assert not set(donors[test]) & set(donors[np.concatenate(known)])
            assert {donor[0] for donor in donors[test]} == {"a", "c"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "rows"}, "is not one of"),
        ({"n_folds": 2}, "at least 3"),
        ({"condition_keys": ["absent"]}, "condition_keys='absent' is not a column"),
    ],
)
def test_unusable_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        cross_validation_folds(cells(DONORS), "donor", "type", **options)
