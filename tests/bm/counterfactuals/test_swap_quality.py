"""The judgement of swapped cells, by models made up and by a tiny one that is trained."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

from scmedal_tools import bm
from scmedal_tools.bm._counterfactuals import _swap_quality
from scmedal_tools.bm._counterfactuals._swap_quality import energy_distance
from scmedal_tools.train import hold_out_combinations

BATCHES, TYPES = list("ABC"), ["x", "y"]
SCENARIO = ["cell_type", "source", "target"]
ENERGIES = ["energy_swapped", "energy_unswapped", "energy_least_squares"]
SHARES = ["type_swapped", "type_unswapped", "type_target"]


def energy_by_pairs(x, y):
    """Definition of the energy distance, pair by pair of different cells."""

    def mean_distance(a, b, leave_out_itself):
        return np.mean(
            [
                np.linalg.norm(p - q)
                for i, p in enumerate(a)
                for j, q in enumerate(b)
                if not (leave_out_itself and i == j)
            ]
        )

    between = mean_distance(x, y, leave_out_itself=False)
    return 2 * between - sum(mean_distance(z, z, leave_out_itself=True) for z in (x, y))


class TestEnergyDistance:
    def test_of_four_points_by_hand(self):
        # Distances between the samples: 2, 3, 1, 2; inside each of them: 1.
        distance = energy_distance(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]))
        assert distance == pytest.approx(2 * 2 - 1 - 1)

    def test_is_that_of_all_pairs(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(13, 4)), 0.5 + 2 * rng.normal(size=(9, 4))
        assert energy_distance(x, y) == pytest.approx(energy_by_pairs(x, y))
        assert energy_distance(x, y) == pytest.approx(energy_distance(y, x))

    def test_cells_of_one_distribution_have_none(self):
        rng = np.random.default_rng(0)
        distances = [energy_distance(*rng.normal(size=(2, 30, 5))) for _ in range(100)]
        assert min(distances) < 0 < max(distances)
        assert abs(np.mean(distances)) < 3 * np.std(distances) / 10

    @pytest.mark.parametrize("change", [lambda x: x + 0.5, lambda x: 2 * x])
    def test_another_mean_or_spread_is_a_distance(self, change):
        x, y = np.random.default_rng(0).normal(size=(2, 200, 5))
        assert energy_distance(x, change(y)) > 0.2 > 10 * abs(energy_distance(x, y))


def draw(n_cells=30, n_genes=8, noise=0.4, seed=0):
    """Cells of three batches and two types; those of B and x are held out."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        [(batch, label) for batch in BATCHES for label in TYPES for _ in range(n_cells)],
        columns=["donor", "type"],
    )
    obs.index = obs.index.astype(str)
    effects = pd.DataFrame(rng.normal(size=(3, n_genes)), index=BATCHES)
    types = pd.DataFrame(4 + 2 * rng.normal(size=(2, n_genes)), index=TYPES)
    means = effects.loc[obs["donor"]].to_numpy() + types.loc[obs["type"]].to_numpy()
    cells = np.arange(len(obs))
    held_out = ((obs["donor"] == "B") & (obs["type"] == "x")).to_numpy()
    train = cells[(cells % 2 == 0) & ~held_out]
    return SimpleNamespace(
        adata=AnnData(means + noise * rng.normal(size=means.shape), obs=obs),
        effects=effects.to_numpy(),
        types=types,
        parts={"train": train, "test": np.setdiff1d(cells, train)},
    )


class MadeUpModel:
    """Adds a multiple of the difference of the true effects, and something more."""

    def __init__(self, world, factor=1.0, drift=0.0, missed=0.5):
        self.world, self.factor, self.drift, self.missed = world, factor, drift, missed
        self.batch_names = pd.Index(BATCHES)
        self.train_indices, self.test_indices = world.parts["train"], world.parts["test"]
        self.sizes, self.further = [], []

    def get_reconstruction(self, adata, indices, **_):
        return self.world.adata.X[indices] - self.missed

    def _make_data_loader(self, adata, indices, **_):
        batch = self.batch_names.get_indexer(adata.obs["donor"].iloc[indices])
        fields = {"batch": batch, "something else": indices}
        return [{name: torch.as_tensor(codes)[:, None] for name, codes in fields.items()}]

    def get_counterfactual_expression(self, dataloader, transform_batch, keep_residual, **_):
        assert keep_residual
        (minibatch,) = dataloader
        expression, own = minibatch["X"].numpy(), minibatch["batch"].numpy().ravel()
        self.sizes.append(len(expression))
        self.further.append(minibatch["something else"].numpy().ravel())
        effects = self.world.effects
        shift = effects[self.batch_names.get_loc(transform_batch)] - effects[own]
        return expression + self.factor * shift + self.drift


def judge(model, **kwargs):
    kwargs = {"progress": False} | kwargs
    return bm.swap_quality(model, model.world.adata, "donor", "type", **kwargs)


def scenarios(table):
    return list(table[SCENARIO].itertuples(index=False, name=None))


@pytest.fixture(scope="module")
def world():
    return draw()


class TestMadeUpModels:
    def test_a_right_swap_leaves_no_distance(self, world):
        table = judge(MadeUpModel(world))
        assert (table["energy_unswapped"] > 1).all()
        # Least squares is right too, as there are no interactions.
        np.testing.assert_allclose(table[ENERGIES[::2]], 0, atol=0.15)

    def test_half_a_swap_is_between(self, world):
        whole, half, none = (judge(MadeUpModel(world, f))["energy_swapped"] for f in (1, 0.5, 0))
        assert (whole < half).all()
        assert (half < none).all()
        np.testing.assert_allclose(none, judge(MadeUpModel(world))["energy_unswapped"], atol=1e-5)

    def test_the_way_there_and_back(self, world):
        np.testing.assert_allclose(judge(MadeUpModel(world))["round_trip"], 0, atol=1e-10)
        # Twice a drift of 0.3, against a reconstruction that misses 0.5.
        table = judge(MadeUpModel(world, drift=0.3))
        np.testing.assert_allclose(table["round_trip"], 0.6**2 / 0.5**2, rtol=1e-4)

    def test_types_that_stay_and_types_that_do_not(self, world):
        assert (judge(MadeUpModel(world))[SHARES] == 1).all(axis=None)
        to_y = (world.types.loc["y"] - world.types.loc["x"]).to_numpy()
        table = judge(MadeUpModel(world, drift=to_y))
        assert (table["type_swapped"] == 0).all()
        assert (table[SHARES[1:]] == 1).all(axis=None)

    def test_sparse_expression_is_the_same(self, world):
        adata = AnnData(sparse.csr_matrix(world.adata.X), obs=world.adata.obs)
        model = MadeUpModel(world, factor=0.5)
        table = bm.swap_quality(model, adata, "donor", "type", progress=False)
        pd.testing.assert_frame_equal(table, judge(model))


def test_what_else_a_model_reads_of_cells_stays_as_it_is(world):
    model = MadeUpModel(world)
    sources = judge(model)["source"]
    train = world.parts["train"]
    obs = world.adata.obs.iloc[train]
    for source, there, back in zip(sources, model.further[::2], model.further[1::2], strict=True):
        own = train[(obs["donor"] == source) & (obs["type"] == "x")]
        assert set(there) == set(own)
        np.testing.assert_array_equal(back, there)


class TestWhichCells:
    def test_held_out_combinations_are_the_targets(self, world):
        assert scenarios(judge(MadeUpModel(world))) == [("x", "A", "B"), ("x", "C", "B")]

    def test_others_can_be_named(self, world):
        table = judge(MadeUpModel(world), targets=[("C", "x"), ("A", "y")])
        # Nothing is swapped from B and x, which have no training cell.
        assert scenarios(table) == [("x", "A", "C"), ("y", "B", "A"), ("y", "C", "A")]

    def test_given_cells_replace_the_models(self, world):
        train = np.flatnonzero(
            (world.adata.obs["type"] == "y") | (world.adata.obs["donor"] != "A")
        )
        test = np.setdiff1d(np.arange(world.adata.n_obs), train)
        table = judge(MadeUpModel(world), train=list(train), test=list(test))
        assert scenarios(table) == [("x", "B", "A"), ("x", "C", "A")]

    @pytest.mark.parametrize(("part", "n_left"), [("train", 15), ("test", 30)])
    def test_few_cells_are_left_out(self, world, part, n_left):
        parts = dict(world.parts)
        batch = {"train": "A", "test": "B"}[part]
        of = ((world.adata.obs["donor"] == batch) & (world.adata.obs["type"] == "x")).to_numpy()
        few = parts[part][of[parts[part]]]
        assert len(few) == n_left
        parts[part] = np.setdiff1d(parts[part], few[12:])
        assert len(judge(MadeUpModel(world), min_cells=12, **parts)) == 2
        if part == "train":
            table = judge(MadeUpModel(world), min_cells=13, **parts)
            assert scenarios(table) == [("x", "C", "B")]
        else:
            with pytest.raises(ValueError, match=r"No combination.*enough cells.*`targets`"):
                judge(MadeUpModel(world), min_cells=13, **parts)

    def test_no_target(self, world):
        seen = np.arange(world.adata.n_obs)
        with pytest.raises(ValueError, match=r"No combination.*enough cells.*`targets`"):
            judge(MadeUpModel(world), train=seen[::2], test=seen[1::2])

    @pytest.mark.parametrize("part", ["train", "test"])
    def test_unknown_ones_are_asked_for(self, world, part):
        model = MadeUpModel(world)
        setattr(model, f"{part}_indices", None)
        with pytest.raises(ValueError, match=f"Which cells are the {part} cells"):
            judge(model)

    def test_no_more_than_the_limit_are_used(self, world, monkeypatch):
        model = MadeUpModel(world)
        judge(model)
        assert set(model.sizes) == {15}
        seen = []
        monkeypatch.setattr(_swap_quality, "MAX_CELLS", 7)
        monkeypatch.setattr(
            _swap_quality, "energy_distance", lambda x, y: seen.append((len(x), len(y))) or 0.0
        )
        few = MadeUpModel(world)
        judge(few)
        assert set(few.sizes) == {7}
        assert set(seen) == {(7, 7)}


@pytest.mark.slow
class TestTrainedModel:
    """With no more genes than principal components, distances are those of the expression."""

    @pytest.fixture(scope="class")
    def parts(self, cells):
        parts, held_out = hold_out_combinations(cells.obs, "donor", "cell_type", 2, min_cells=10)
        return parts, held_out

    @pytest.fixture(scope="class")
    def model(self, cells, fit, parts):
        split = {"external_indexing": parts[0]}
        return fit("SCMEDAL_RE", cells[:, :40].copy(), max_epochs=10, datasplitter_kwargs=split)

    @pytest.fixture(scope="class")
    def table(self, model):
        return bm.swap_quality(
            model, model.adata, "donor", "cell_type", min_cells=3, progress=False
        )

    @pytest.fixture(scope="class")
    def members(self, model, parts):
        """Positions of the cells of a part, a batch and a type."""
        obs = model.adata.obs

        def members(part, batch, label):
            chosen = parts[0][part]
            return chosen[((obs["donor"] == batch) & (obs["cell_type"] == label)).iloc[chosen]]

        return members

    def test_table(self, table, parts):
        assert list(table) == [*SCENARIO, *ENERGIES, "round_trip", *SHARES]
        targets = set(zip(table["target"], table["cell_type"], strict=True))
        assert targets == set(parts[1])
        assert np.isfinite(table.drop(columns=SCENARIO)).all(axis=None)
        assert (table["round_trip"] > 0).all()
        assert table[SHARES].stack().between(0, 1).all()

    def test_energies(self, model, table, members):
        x = model.adata.X.toarray()
        for row in table.itertuples():
            own = members(0, row.source, row.cell_type)
            others = x[members(2, row.target, row.cell_type)]
            swapped = model.get_counterfactual_expression(
                indices=own, transform_batch=row.target, keep_residual=True, return_numpy=True
            )
            assert row.energy_unswapped == pytest.approx(energy_by_pairs(x[own], others), abs=1e-3)
            assert row.energy_swapped == pytest.approx(energy_by_pairs(swapped, others), abs=1e-3)
            assert row.energy_swapped != pytest.approx(row.energy_unswapped, abs=1e-3)

    @pytest.mark.parametrize(
        "setup", [{"random_effect_keys": ["protocol"]}, {"states_key": "cell_type"}], ids=list
    )
    def test_swaps_are_the_models_with_what_else_it_knows(self, cells, fit, parts, setup):
        adata = cells[:, :40].copy()
        v3 = np.random.default_rng(0).random(adata.n_obs) < 0.5
        x = adata.X.toarray()
        x[v3] += np.random.default_rng(1).exponential(size=40)
        adata.X, adata.obs["protocol"] = x, np.where(v3, "v3", "v2")
        split = {"external_indexing": parts[0]}
        model = fit("SCMEDAL_RE", adata, setup, max_epochs=10, datasplitter_kwargs=split)
        for table in (*model.module.effect_tables.values(), *model.module.gene_effects.factors):
            table.loc.data += 0.2 * torch.randn(table.loc.shape)
        found = bm.swap_quality(model, adata, "donor", "cell_type", min_cells=3, progress=False)
        for row in found.itertuples():
            of_type = adata.obs["cell_type"] == row.cell_type
            own, others = (
                part[((adata.obs["donor"] == donor) & of_type).iloc[part]]
                for part, donor in ((parts[0][0], row.source), (parts[0][2], row.target))
            )
            swapped = model.get_counterfactual_expression(
                indices=own, transform_batch=row.target, keep_residual=True, return_numpy=True
            )
            expected = energy_by_pairs(swapped, x[others])
            assert row.energy_swapped == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize(
        ("setup", "message"),
        [
            ({"states_key": "state"}, "states that the model was not trained on: martian"),
            ({"random_effect_keys": ["state"]}, "martian"),
        ],
        ids=["state", "factor"],
    )
    def test_what_the_model_does_not_know(self, cells, fit, parts, setup, message):
        adata = cells[:, :40].copy()
        adata.obs["state"] = adata.obs["cell_type"].astype(str)
        split = {"external_indexing": parts[0]}
        model = fit("SCMEDAL_RE", adata, setup, datasplitter_kwargs=split)
        other = adata.copy()
        other.obs.loc[other.obs_names[3], "state"] = "martian"
        with pytest.raises(ValueError, match=message):
            bm.swap_quality(model, other, "donor", "cell_type", min_cells=3, progress=False)

    def test_energy_of_least_squares(self, model, table, members, parts):
        x, obs = model.adata.X.toarray(), model.adata.obs[["donor", "cell_type"]]
        design = pd.get_dummies(obs, drop_first=True, dtype=float)
        train = parts[0][0]
        fitted = LinearRegression().fit(design.iloc[train], x[train])
        effects = dict(zip(design, fitted.coef_.T, strict=True))
        for row in table.itertuples():
            own = members(0, row.source, row.cell_type)
            target, source = (
                effects.get(f"donor_{donor}", np.zeros(40)) for donor in (row.target, row.source)
            )
            others = x[members(2, row.target, row.cell_type)]
            expected = energy_by_pairs(x[own] + target - source, others)
            assert row.energy_least_squares == pytest.approx(expected, abs=1e-3)

    def test_types_that_are_seen(self, model, table, members, parts):
        x, labels = model.adata.X.toarray(), model.adata.obs["cell_type"].to_numpy()
        train = parts[0][0]
        space = PCA().fit(x[train])
        scaler = StandardScaler().fit(space.transform(x[train]))
        classifier = LogisticRegression(max_iter=500)
        classifier.fit(scaler.transform(space.transform(x[train])), labels[train])

        def share(expression, label):
            seen = classifier.predict(scaler.transform(space.transform(expression)))
            return (seen == label).mean()

        for row in table.itertuples():
            own = members(0, row.source, row.cell_type)
            swapped = model.get_counterfactual_expression(
                indices=own, transform_batch=row.target, keep_residual=True, return_numpy=True
            )
            others = members(2, row.target, row.cell_type)
            assert row.type_target == pytest.approx(share(x[others], row.cell_type))
            assert row.type_unswapped == pytest.approx(share(x[own], row.cell_type))
            assert row.type_swapped == pytest.approx(share(swapped, row.cell_type))


def test_two_cells_are_the_fewest(world):
    with pytest.raises(ValueError, match="min_cells=1: distances within a group need two cells"):
        judge(MadeUpModel(world), min_cells=1)
