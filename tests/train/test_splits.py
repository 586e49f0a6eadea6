"""Splits of cells, and the splitter that the models train with."""

import numpy as np
import pandas as pd
import pytest

from scmedal_tools.train import MedalDataSplitter, stratified_split

SIZES = (0.6, 0.2, 0.2)


@pytest.fixture
def obs():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"donor": rng.choice(list("ABCD"), 500, p=[0.6, 0.2, 0.15, 0.05])})
    obs["cell_type"] = pd.Categorical(rng.choice(["x", "y", None], 500))
    return obs


class TestStratifiedSplit:
    def test_every_cell_once_and_sorted(self, obs):
        parts = stratified_split(obs, ["donor", "cell_type"], SIZES)
        assert sorted(np.concatenate(parts)) == list(range(500))
        assert all((np.diff(part) > 0).all() for part in parts)

    def test_every_combination_is_divided_alike(self, obs):
        parts = stratified_split(obs, ["donor", "cell_type"], SIZES)
        part = np.empty(500, dtype=int)
        for i, part_cells in enumerate(parts):
            part[part_cells] = i
        obs["cell_type"] = obs["cell_type"].astype(object).fillna("missing")
        counts = pd.crosstab([obs["donor"], obs["cell_type"]], part).to_numpy()
        assert len(counts) == 12
        assert (abs(counts - counts.sum(1, keepdims=True) * np.array(SIZES)) < 1).all()

    def test_combinations_of_one_cell_share_out_in_expectation(self):
        obs = pd.DataFrame({"donor": range(5000)})
        sizes = [len(part) for part in stratified_split(obs, ["donor"], SIZES)]
        np.testing.assert_allclose(np.array(sizes) / 5000, SIZES, atol=0.03)

    def test_seed_decides(self, obs):
        def split(seed):
            return np.concatenate(stratified_split(obs, ["donor"], seed=seed))

        np.testing.assert_array_equal(split(1), split(1))
        assert (split(1) != split(2)).any()

    def test_a_share_of_zero_gives_no_cells(self, obs):
        train, validation, test = stratified_split(obs, ["donor"], (0.8, 0.2, 0.0))
        assert len(test) == 0
        assert len(train) + len(validation) == 500

    @pytest.mark.parametrize("sizes", [(0.6, 0.2, 0.1), (1.2, -0.1, -0.1)])
    def test_sizes_that_are_no_shares(self, obs, sizes):
        with pytest.raises(ValueError, match="three shares that sum to 1"):
            stratified_split(obs, ["donor"], sizes)

    def test_missing_column(self, obs):
        with pytest.raises(KeyError, match=r"\['plate'\] not in obs; its columns are"):
            stratified_split(obs, ["donor", "plate"])


@pytest.fixture(scope="module")
def manager(build, cells):
    return build("SCMEDAL_FE", cells.copy()).adata_manager


class TestSplitter:
    @pytest.mark.parametrize("external", [True, False])
    @pytest.mark.parametrize(("batch_size", "n_train"), [(64, 192), (32, 192), (191, 191)])
    def test_a_minibatch_of_one_cell_is_left_out(self, manager, external, batch_size, n_train):
        order = np.arange(240)
        split = (
            {"external_indexing": [order[:192], order[192:], []]}
            if external
            else {"train_size": 0.8}
        )
        splitter = MedalDataSplitter(manager, batch_size=batch_size, **split)
        splitter.setup()
        sizes = [len(tensors["X"]) for tensors in splitter.train_dataloader()]
        assert sum(sizes) == n_train
        assert min(sizes) > 1

    def test_parts_may_be_lists(self, manager):
        parts = [list(range(100)), list(range(100, 200)), list(range(200, 240))]
        splitter = MedalDataSplitter(manager, batch_size=64, external_indexing=parts)
        splitter.setup()
        for ours, expected in zip(
            [splitter.train_idx, splitter.val_idx, splitter.test_idx], parts, strict=True
        ):
            np.testing.assert_array_equal(ours, expected)

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ([range(100), range(100, 200), []], "40 of 240 cells are in no part.*the third"),
            ([range(200), range(190, 240), []], "10 of 240 cells are named more than once"),
            ([range(200), range(200, 241), []], "names cell 240; there are 240"),
        ],
    )
    def test_parts_that_do_not_divide_the_cells(self, manager, parts, message):
        with pytest.raises(ValueError, match=message):
            MedalDataSplitter(manager, batch_size=64, external_indexing=parts)
