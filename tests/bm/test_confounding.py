"""What goes together in a study, of designs that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import stats

from scmedal_tools import bm, datasets

DONOR = np.repeat(list("abcd"), [40, 30, 20, 10])
ROTATE = np.arange(100) % 3


def study(**columns):
    obs = pd.DataFrame({"donor": DONOR, **columns}, index=[f"c{i}" for i in range(100)])
    return AnnData(obs=obs)


def row_of(adata, target):
    return bm.confounding(adata, "donor", [target]).summary.iloc[0]


class TestNesting:
    def test_donors_in_a_condition(self):
        adata = study(condition=np.where(DONOR == "a", "sick", "healthy"))
        row = row_of(adata, "condition")
        assert row["nesting"] == "donor in condition"
        assert row["cramers_v"] == pytest.approx(1)
        assert (row["n_groups"], row["n_targets"], row["fewest_groups"]) == (4, 2, 1)
        assert row["conclusion"] == (
            "Every donor has one condition. The donor alone predicts it, so a high accuracy over "
            "cells is no evidence: hold out all cells of a donor together. Counted by donor, "
            "condition 'sick' occurs in 1 of 4."
        )

    def test_samples_of_a_donor(self):
        sample = np.char.add(DONOR, (ROTATE % 2).astype(str))
        row = row_of(study(sample=sample), "sample")
        assert row["nesting"] == "sample in donor"
        assert row["cramers_v"] == pytest.approx(1)
        assert "correcting for donor removes both" in row["conclusion"]

    def test_another_name_of_the_donor(self):
        row = row_of(study(patient=np.char.add("P", DONOR)), "patient")
        assert row["nesting"] == "identical"
        assert "separate their effects" in row["conclusion"]

    def test_every_donor_has_every_type(self):
        row = row_of(study(cell_type=np.array(["T", "B", "NK"])[ROTATE]), "cell_type")
        assert row["nesting"] == "crossed"
        assert row["cramers_v"] < 0.1
        assert row["fewest_groups"] == 4
        assert "with 3 cells or more" in row["conclusion"]

    def test_a_type_of_one_donor(self):
        cell_type = np.array(["T", "B", "NK"])[ROTATE]
        cell_type[(DONOR == "a") & (cell_type == "NK")] = "X"
        row = row_of(study(cell_type=cell_type), "cell_type")
        assert row["nesting"] == "partly crossed"
        assert row["fewest_groups"] == 1
        assert row["conclusion"].startswith("4 of 16 combinations have no cells. In one donor")
        assert "cell_type 'X' (1 in all)" in row["conclusion"]

    def test_a_type_that_some_donors_lack(self):
        cell_type = np.where(np.isin(DONOR, ["a", "b"]) & (ROTATE == 0), "NK", "T")
        row = row_of(study(cell_type=cell_type), "cell_type")
        assert (row["nesting"], row["fewest_groups"]) == ("partly crossed", 2)
        assert "2 of 8 combinations have no cells" in row["conclusion"]
        assert "a score for donor also reflects cell_type" in row["conclusion"]


class TestNumbers:
    @pytest.fixture
    def adata(self):
        rng = np.random.default_rng(0)
        cell_type = np.where(rng.random(100) < (DONOR == "a") * 0.6 + 0.2, "T", "B")
        return study(cell_type=cell_type, batch_of_day=rng.choice(["x", "y", "z"], 100))

    def test_cramers_v_from_its_definition(self, adata):
        result = bm.confounding(adata, "donor", ["cell_type", "batch_of_day"])
        for row in result.summary.itertuples():
            table = pd.crosstab(adata.obs[row.group], adata.obs[row.target]).to_numpy()
            expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
            chi2 = ((table - expected) ** 2 / expected).sum()
            v = np.sqrt(chi2 / 100 / (min(table.shape) - 1))
            assert row.cramers_v == pytest.approx(v)

    def test_every_pair_has_a_row_and_a_table(self, adata):
        before = adata.obs.copy()
        result = bm.confounding(adata, "donor", ["cell_type", "batch_of_day"])
        pairs = [
            ("donor", "cell_type"),
            ("donor", "batch_of_day"),
            ("cell_type", "batch_of_day"),
        ]
        assert list(result.tables) == pairs
        assert list(zip(result.summary["group"], result.summary["target"], strict=True)) == pairs
        cells = (adata.obs["donor"] == "b") & (adata.obs["cell_type"] == "T")
        assert result.tables["donor", "cell_type"].loc["b", "T"] == cells.sum()
        pd.testing.assert_frame_equal(adata.obs, before)

    def test_order_of_cells_and_empty_categories_do_not_matter(self, adata):
        shuffled = adata[np.random.default_rng(1).permutation(100)].copy()
        shuffled.obs["donor"] = pd.Categorical(shuffled.obs["donor"], list("zdcba"))
        first, second = (
            bm.confounding(cells, "donor", ["cell_type"]).summary for cells in (adata, shuffled)
        )
        pd.testing.assert_frame_equal(first, second)

    def test_shown(self, adata):
        result = bm.confounding(adata, "donor", ["cell_type", "batch_of_day"])
        lines = str(result).splitlines()
        assert len(lines) == 3
        assert lines[0].startswith("donor, cell_type: crossed, Cramér's V 0.")
        assert lines[0].endswith(result.summary["conclusion"].iloc[0])
        assert "<table" in result._repr_html_()


def test_simulated_donors_are_nested_in_the_condition():
    adata = datasets.simulated(n_donors=4, n_genes=20)
    assert row_of(adata, "condition")["nesting"] == "donor in condition"


class TestErrors:
    @pytest.mark.parametrize(
        ("targets", "message"),
        [
            ("day", r"write \['day'\]"),
            ([], "one column or more"),
            (["donor"], "other than batch_key"),
            (["day", "day"], "each once"),
            (["nothing"], r"target_keys='nothing' is not a column.*'day'"),
            (["same"], r"'same' has 1 level\(s\)"),
            (["gaps"], "missing in 50 of 100 cells"),
        ],
    )
    def test_columns_that_cannot_be_used(self, targets, message):
        gaps = np.where(np.arange(100) < 50, "x", None)
        adata = study(day=ROTATE.astype(str), same="x", gaps=gaps)
        with pytest.raises(ValueError, match=message):
            bm.confounding(adata, "donor", targets)


class TestDepth:
    @pytest.fixture
    def adata(self):
        """Ten times as many cells: of few a depth is not known."""
        donor = np.repeat(DONOR, 10)
        condition = np.where(donor < "c", "sick", "healthy")
        cell_type = np.array(["T", "B"])[np.arange(1_000) % 2]
        # Half the depth in the healthy, but not of their B cells.
        shallow = (condition == "healthy") & (cell_type == "T")
        depth = np.where(shallow, 400.0, 1_000.0) + np.arange(1_000) % 3
        obs = {"donor": donor, "condition": condition, "cell_type": cell_type, "depth": depth}
        return AnnData(obs=pd.DataFrame(obs, index=np.arange(1_000).astype(str)))

    def test_by_group_and_type(self, adata):
        found = bm.confounding(adata, "donor", ["condition", "cell_type"], depth_key="depth")
        depth = found.depth.set_index(["target", "within", "level"])
        in_t = depth.loc["condition", "cell_type T"]
        assert in_t.loc["healthy", "counts"] == pytest.approx(401, abs=1)
        assert in_t.loc["healthy", "ratio"] == pytest.approx(0.4, abs=0.01)
        assert in_t.loc["sick", "ratio"] == 1
        assert depth.loc["condition", "cell_type B"]["ratio"].min() > 0.99
        assert depth.loc["condition", "all cells"].loc["healthy", "ratio"] == pytest.approx(
            0.7, abs=0.01
        )
        assert (
            "condition: cells of 'healthy' have 701 counts, those of 'sick' 1,001; in cell_type T "
            "cells of 'healthy' have 401 counts, those of 'sick' 1,001. Log"
        ) in str(found)

    def test_types_in_which_groups_differ_though_not_over_all_cells(self, adata):
        of_type = adata.obs["cell_type"] == "T"
        shallow = of_type == (adata.obs["condition"] == "healthy")
        adata.obs["depth"] = np.where(shallow, 500.0, 1_000.0)
        found = str(bm.confounding(adata, "donor", ["condition", "cell_type"], depth_key="depth"))
        assert (
            "condition: in cell_type B cells of 'sick' have 500 counts, those of 'healthy' 1,000; "
            "in cell_type T cells of 'healthy' have 500 counts, those of 'sick' 1,000. Log"
        ) in found

    def test_a_type_that_differs_as_all_cells_do_is_not_named(self, adata):
        adata.obs["depth"] = np.where(adata.obs["condition"] == "sick", 500.0, 1_000.0)
        found = str(bm.confounding(adata, "donor", ["condition", "cell_type"], depth_key="depth"))
        assert "condition: cells of 'sick' have 500 counts, those of 'healthy' 1,000. Log" in found
        assert "in cell_type" not in found

    def test_a_type_in_which_it_is_the_other_way_round_is_named(self, adata):
        sick, of_type = adata.obs["condition"] == "sick", adata.obs["cell_type"] == "T"
        adata.obs["depth"] = np.where(sick, np.where(of_type, 1_000.0, 100.0), 780.0)
        found = str(bm.confounding(adata, "donor", ["condition", "cell_type"], depth_key="depth"))
        assert (
            "condition: cells of 'sick' have 550 counts, those of 'healthy' 780; in cell_type B "
            "cells of 'sick' have 100 counts, those of 'healthy' 780; in cell_type T cells of "
            "'healthy' have 780 counts, those of 'sick' 1,000. Log"
        ) in found

    @pytest.mark.slow
    @pytest.mark.parametrize("n_cells", [3, 10])
    def test_noise_is_not_named(self, n_cells):
        """Of 20 studies without a difference, 6 donors in each group and ten types, 2 at most."""
        obs = pd.DataFrame(index=np.arange(120 * n_cells).astype(str))
        code = np.arange(len(obs))
        obs["donor"] = [f"donor_{i}" for i in code % 12]
        obs["condition"] = np.where(code % 12 < 6, "sick", "healthy")
        obs["cell_type"] = [f"type_{i}" for i in code // 12 % 10]
        named, rng = 0, np.random.default_rng(0)
        for _ in range(20):
            of_donor = rng.normal(0, 0.1, 12)[code % 12]
            obs["depth"] = 1_000 * np.exp(of_donor + rng.normal(0, 0.5, len(obs)))
            found = bm.confounding(
                AnnData(obs=obs), "donor", ["condition", "cell_type"], depth_key="depth"
            )
            named += "in cell_type" in str(found)
        assert named <= 2

    def test_few_cells_do_not_count(self, adata):
        """Neither those of a rare type in its donors, nor a donor with few of them."""
        adata.obs["cell_type"] = adata.obs["cell_type"].where(np.arange(1_000) % 50 > 0, "rare")
        adata.obs.loc[adata.obs["cell_type"] == "rare", "depth"] = 1.0
        found = bm.confounding(adata, "donor", ["condition", "cell_type"], depth_key="depth")
        assert "rare" not in str(found).partition("condition: cells")[2]
        depth = found.depth.set_index(["target", "within", "level"])
        assert depth.loc["cell_type", "all cells"].loc["rare"].drop("p_value").isna().all()

    def test_p_value_is_that_of_an_analysis_of_variance_over_donors(self, adata):
        adata.obs["depth"] = np.random.default_rng(0).gamma(5, 200, adata.n_obs)
        depth = bm.confounding(adata, "donor", ["condition"], depth_key="depth").depth
        logs = np.log(adata.obs.groupby("donor")["depth"].mean())
        expected = stats.f_oneway(logs[["a", "b"]], logs[["c", "d"]]).pvalue
        np.testing.assert_allclose(depth["p_value"], expected)

    def test_of_many_types_those_that_differ_most_are_named(self, adata):
        kind = np.arange(1_000) % 5
        adata.obs["cell_type"] = [f"type_{k}" for k in kind]
        is_sick = adata.obs["condition"] == "sick"
        adata.obs["depth"] = 1_000.0 * np.where(is_sick, 1 + kind, 5 - kind)
        found = str(bm.confounding(adata, "donor", ["condition", "cell_type"], depth_key="depth"))
        (line,) = (line for line in found.splitlines() if line.startswith("condition: "))
        assert line.index("type_0") < line.index("type_4") < line.index("type_1")
        assert "type_3" not in line
        assert "; and in 1 more. Log" in line

    def test_unit_is_the_batch(self, adata):
        """One donor with many deep cells does not make the depth of its group."""
        adata.obs.loc[adata.obs["donor"] == "a", "depth"] = 9_000
        adata.obs.loc[adata.obs["donor"] != "a", "depth"] = 1_000
        depth = bm.confounding(adata, "donor", ["condition"], depth_key="depth").depth
        assert depth.set_index("level").loc["sick", "counts"] == 5_000

    def test_alike_is_not_mentioned(self, adata):
        adata.obs["depth"] = 1_000 + np.arange(1_000) % 9
        found = bm.confounding(adata, "donor", ["condition"], depth_key="depth")
        assert "depth" not in str(found)
        assert "counts" not in str(found)

    @pytest.mark.parametrize("value", [0, "many"])
    def test_what_is_no_depth_is_refused(self, adata, value):
        adata.obs["depth"] = value
        with pytest.raises(ValueError, match="total counts of each cell"):
            bm.confounding(adata, "donor", ["condition"], depth_key="depth")
