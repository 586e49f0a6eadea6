"""Splits of cells, and the splitter that the models train with."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scmedal_tools.train import (
    MedalDataSplitter,
    _splits,
    hold_out_combinations,
    stratified_split,
)

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
        with pytest.raises(KeyError, match=r"\['plate'\] not in obs; its columns are") as error:
            stratified_split(obs.assign(_scvi_batch=0), ["donor", "plate"])
        assert "_scvi" not in str(error.value)


class TestHoldOutCombinations:
    """Types x and y are in all donors, z in two of them; D has few cells."""

    @pytest.fixture
    def obs(self):
        rng = np.random.default_rng(0)
        donor = rng.choice(list("ABCD"), 900, p=[0.4, 0.3, 0.24, 0.06])
        cell_type = rng.choice(["x", "y"], 900)
        cell_type[(rng.random(900) < 0.4) & np.isin(donor, ["A", "B"])] = "z"
        order = rng.permutation(900) + 100  # the index is not the position
        return pd.DataFrame({"donor": donor, "cell_type": cell_type}, index=order)

    def hold_out(self, obs, combinations, **kwargs):
        return hold_out_combinations(obs, "donor", "cell_type", combinations, **kwargs)

    def test_cells_without_a_type_are_no_combination(self):
        types = ["x"] * 60 + ["y"] * 60 + [None] * 60
        obs = pd.DataFrame({"donor": list("ABC") * 60, "cell_type": types})
        drawn = {self.hold_out(obs, 1, min_cells=5, seed=seed)[1][0][1] for seed in range(20)}
        assert drawn == {"x", "y"}

    def test_columns_that_do_not_exist(self):
        obs = pd.DataFrame({"donor": ["A"], "type": ["x"]})
        with pytest.raises(KeyError, match=r"cell_type.*its columns are.*'type'"):
            self.hold_out(obs, 1)

    @pytest.mark.parametrize(
        "combinations", [2, np.int64(1), [("A", "x"), ("D", "y")], (("A", "x"),)]
    )
    @pytest.mark.parametrize("as_category", [True, False])
    def test_only_the_test_set_has_their_cells(self, obs, combinations, as_category):
        obs = obs.astype("category") if as_category else obs
        parts, held_out = self.hold_out(obs, combinations)
        if np.ndim(combinations):
            assert held_out == list(combinations)
        else:
            assert len(held_out) == combinations
        assert sorted(np.concatenate(parts)) == list(range(900))
        assert all((np.diff(part) > 0).all() for part in parts)
        for donor, cell_type in held_out:
            cells = np.flatnonzero((obs["donor"] == donor) & (obs["cell_type"] == cell_type))
            assert len(cells) > 0
            assert set(cells) <= set(parts[2])

    def test_other_cells_are_split_as_without(self, obs):
        sizes = (0.5, 0.3, 0.2)
        parts, _ = self.hold_out(obs, [("A", "x")], sizes=sizes, seed=3)
        expected = stratified_split(obs, ["donor", "cell_type"], sizes, seed=3)
        others = np.flatnonzero((obs["donor"] != "A") | (obs["cell_type"] != "x"))
        for part, without in zip(parts, expected, strict=True):
            np.testing.assert_array_equal(
                np.intersect1d(part, others), np.intersect1d(without, others)
            )
        assert len(parts[0]) == pytest.approx(0.5 * len(others), abs=8)

    def test_draws_large_combinations_of_common_types_and_other_batches(self, obs):
        drawn = [self.hold_out(obs, 2, seed=seed)[1] for seed in range(30)]
        assert all(len({donor for donor, _ in pairs}) == 2 for pairs in drawn)
        # D's combinations have fewer than 50 cells, and only A and B have type z.
        expected = {(donor, cell_type) for donor in "ABC" for cell_type in "xy"}
        assert {pair for pairs in drawn for pair in pairs} == expected

    def test_min_cells_decides_what_is_large(self, obs):
        drawn = {self.hold_out(obs, 1, min_cells=15, seed=seed)[1][0][0] for seed in range(30)}
        assert drawn == set("ABCD")

    def test_seed_decides(self, obs):
        parts, held_out = self.hold_out(obs, 2, seed=1)
        again, again_held_out = self.hold_out(obs, 2, seed=1)
        assert held_out == again_held_out
        for part, same in zip(parts, again, strict=True):
            np.testing.assert_array_equal(part, same)
        assert any(self.hold_out(obs, 2, seed=seed)[1] != held_out for seed in (2, 3, 4))

    def test_too_many_are_asked_for(self, obs):
        with pytest.raises(ValueError, match=r"only 2 batches.*50 cells.*not 3\. Lower"):
            self.hold_out(obs, 3)

    def test_one_that_has_no_cell(self, obs):
        with pytest.raises(ValueError, match=r"No cell is of the combinations \[\('C', 'z'\)\]"):
            self.hold_out(obs, [("A", "x"), ("C", "z")])

    @pytest.fixture
    def three(self):
        """Type x is large in three donors, which have some cells of another type."""
        cells = [(donor, "x" if i < 100 else "y") for donor in "ABC" for i in range(110)]
        return pd.DataFrame(cells, columns=["donor", "cell_type"])

    def test_a_type_of_three_batches_is_left_in_two(self, three):
        parts, ((donor, _),) = self.hold_out(three, 1)
        train = three.iloc[parts[0]]
        assert set(train["donor"][train["cell_type"] == "x"]) == set("ABC") - {donor}
        with pytest.raises(ValueError, match="only 0 batches"):
            self.hold_out(three[three["donor"] != "A"], 1)

    def test_combinations_drawn_before_count_as_held_out(self, three):
        with pytest.raises(ValueError, match="only 1 batches"):
            self.hold_out(three, 2)
        four = pd.concat([three, three[three["donor"] == "A"].assign(donor="D")])
        parts, held_out = self.hold_out(four, 2)
        train = four.iloc[parts[0]]
        left = set(train["donor"][train["cell_type"] == "x"])
        assert left == set("ABCD") - {donor for donor, _ in held_out}
        assert len(left) == 2

    @pytest.mark.slow
    def test_an_order_that_gets_stuck_is_tried_anew(self):
        """Type y is large in A, B and C: if they all give their x, no batch is left to give y."""
        sizes = {donor: {"x": 60, "y": 60 if donor in "ABC" else 5} for donor in "ABCDE"}
        cells = [(d, t) for d, types in sizes.items() for t, n in types.items() for _ in range(n)]
        obs = pd.DataFrame(cells, columns=["donor", "cell_type"])
        for seed in range(300):
            held_out = self.hold_out(obs, 4, seed=seed)[1]
            assert sorted(label for _, label in held_out) == ["x", "x", "x", "y"]
            assert len({donor for donor, _ in held_out}) == 4

    def test_pairs_may_be_lists(self, obs):
        assert self.hold_out(obs, [["A", "x"]])[1] == [("A", "x")]

    def test_a_batch_keeps_training_cells(self, three):
        alone = pd.DataFrame({"donor": "D", "cell_type": "x"}, index=range(100))
        obs = pd.concat([three, alone])
        drawn = {self.hold_out(obs, 1, seed=seed)[1][0] for seed in range(30)}
        assert drawn == {("A", "x"), ("B", "x"), ("C", "x")}


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


class TestSeveralProcesses:
    @pytest.fixture(autouse=True)
    def two_processes(self, monkeypatch):
        monkeypatch.setattr(_splits, "n_processes", lambda: 2)

    # 192 cells, 96 in each process: in one process a minibatch of 191 would leave one cell.
    @pytest.mark.parametrize(("batch_size", "leaves_out"), [(48, False), (95, True), (191, False)])
    def test_a_minibatch_of_one_cell_is_left_out(self, manager, batch_size, leaves_out):
        splitter = MedalDataSplitter(
            manager, batch_size=batch_size, train_size=0.8, distributed_sampler=True
        )
        splitter.trainer = SimpleNamespace(strategy=SimpleNamespace(broadcast=lambda parts: parts))
        splitter.setup()
        assert splitter.n_train == 2 * 96
        assert splitter.drop_last == leaves_out

    def test_a_strategy_that_gives_all_cells_to_each_is_refused(self, manager):
        splitter = MedalDataSplitter(manager, batch_size=64)
        with pytest.raises(ValueError, match="strategy='ddp'"):
            splitter.setup()
