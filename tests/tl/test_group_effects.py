"""Effects that were planted are found, with covariates, pairs, types, and at another depth."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scmedal_tools as smt

N_GENES = 150
UP, DOWN = "g000", "g001"


def study(n_donors=10, n_cells=40, pairs=False, depth=1.0, fold=3.0, seed=0):
    """Counts of two cell types; g000 is up and g001 down in the treated, g002 grows with age."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(n_donors), n_cells)
    treated = np.arange(len(donor)) % 4 > 1 if pairs else donor < n_donors // 2
    age = rng.permutation(n_donors)[donor] * 3.0 + 40
    kind = np.arange(len(donor)) % 2
    log_mean = rng.normal(0, 1, N_GENES) + 0.5 * kind[:, None] * rng.normal(0, 1, N_GENES)
    log_mean = log_mean + rng.normal(0, 0.2, (n_donors, N_GENES))[donor]
    log_mean[:, :3] = 1.0 + 0.5 * kind[:, None]
    log_mean[:, 0] += np.log(fold) * treated
    log_mean[:, 1] -= np.log(fold) * treated
    log_mean[:, 2] += 0.05 * age - 2
    log_mean += np.log(np.where(treated, depth, 1.0))[:, None]
    obs = {
        "donor": [f"D{k}" for k in donor],
        "condition": pd.Categorical(np.where(treated, "treated", "control")),
        "age": age,
        "cell_type": np.where(kind, "T", "B"),
    }
    names = [f"c{i}" for i in range(len(donor))]
    counts = rng.poisson(np.exp(log_mean)).astype(np.float32)
    genes = pd.DataFrame(index=[f"g{i:03d}" for i in range(N_GENES)])
    return AnnData(counts, pd.DataFrame(obs, index=names), genes)


def effects(adata, formula="~ condition", **options):
    return smt.tl.group_effects(adata, formula, "donor", **options)


def of(table, gene, state=None, contrast=None):
    rows = table[table["variable"] == gene]
    rows = rows if state is None else rows[rows["state"] == state]
    return (rows if contrast is None else rows[rows["contrast"] == contrast]).squeeze()


class TestWhatIsPlanted:
    @pytest.fixture(scope="class")
    def table(self):
        return effects(study(), labels_key="cell_type").table

    def test_a_row_for_each_gene_and_state_and_overall(self, table):
        assert set(table["state"]) == {"B", "T", "overall"}
        assert (table.groupby("state")["variable"].nunique() > 100).all()
        assert not table.duplicated(["variable", "state", "contrast"]).any()
        assert set(table["contrast"]) == {"condition[T.treated]"}

    @pytest.mark.parametrize("state", ["B", "T", "overall"])
    def test_effects_are_in_logarithms_to_base_2(self, table, state):
        for gene, sign in ((UP, 1), (DOWN, -1)):
            row = of(table, gene, state)
            assert row["log_fc"] == pytest.approx(sign * np.log2(3), abs=3 * row["se"])
            assert row["se"] < 0.5
            assert row["adj_p_value"] < 0.05
            assert row["lfsr"] < 0.05

    def test_other_genes_are_not_found(self, table):
        others = table[~table["variable"].isin([UP, DOWN])]
        assert (others["p_value"] < 0.05).mean() < 0.1
        assert (others["adj_p_value"] < 0.05).sum() <= 2

    def test_overall_is_more_precise_than_each_type(self, table):
        se = table.pivot_table(index="variable", columns="state", values="se").dropna()
        assert (se["overall"] < se[["B", "T"]].max(axis=1)).mean() > 0.95

    def test_numbers(self, table):
        first = table.groupby("state").first()
        assert (first["n_donors"] == 10).all()
        assert first.loc[["B", "T", "overall"], "n_cells"].tolist() == [200, 200, 400]
        assert (table["p_value"].between(0, 1)).all()
        assert (table["adj_p_value"] >= table["p_value"]).all()

    def test_columns_that_plots_of_pertpy_take(self, table):
        assert {"variable", "log_fc", "p_value", "adj_p_value", "contrast"} <= set(table)


def test_degrees_of_freedom_are_few_where_a_donor_is_alone():
    adata = study()
    adata.obs["lone"] = np.where(adata.obs["donor"] == adata.obs["donor"].iloc[0], "yes", "no")
    equal = effects(adata).table
    alone = effects(adata, "~ lone").table
    assert np.isposinf(equal["df"]).all()
    assert alone["df"].between(5, 10).all()


def test_a_covariate_takes_its_own_effect():
    table = effects(study(), "~ condition + age").table
    age = of(table, "g002", contrast="age")
    assert age["log_fc"] == pytest.approx(0.05 / np.log(2), abs=3 * age["se"])
    assert age["adj_p_value"] < 0.05
    assert of(table, UP, contrast="condition[T.treated]")["adj_p_value"] < 0.05
    assert of(table, UP, contrast="age")["p_value"] > 0.01


class TestPairs:
    def test_are_compared_within_donors(self):
        adata = study(n_donors=5, pairs=True)
        found = effects(adata)
        assert of(found.table, UP)["adj_p_value"] < 0.05
        assert of(found.table, UP)["n_donors"] == 5
        assert of(found.table, UP)["n_samples"] == 10
        # The same samples, as if they were of ten donors.
        adata.obs["other"] = adata.obs["donor"] + adata.obs["condition"].astype(str)
        apart = smt.tl.group_effects(adata, "~ condition", "other").table
        assert (found.table["se"] < apart["se"]).mean() > 0.8

    def test_in_several_types(self):
        found = effects(study(n_donors=5, pairs=True, n_cells=60), labels_key="cell_type")
        assert of(found.table, UP, "overall")["adj_p_value"] < 0.05
        assert of(found.table, UP, "overall")["n_samples"] == 10


class TestContrasts:
    @pytest.fixture(scope="class")
    def adata(self):
        return study()

    def test_by_levels_is_that_of_the_coefficient(self, adata):
        there = effects(adata, contrast=("condition", "treated", "control")).table
        back = effects(adata, contrast=("condition", "control", "treated")).table
        default = effects(adata).table
        np.testing.assert_allclose(there["log_fc"], default["log_fc"])
        np.testing.assert_allclose(back["log_fc"], -default["log_fc"])
        np.testing.assert_allclose(back["p_value"], default["p_value"])
        assert set(there["contrast"]) == {"condition: treated - control"}

    def test_several_by_name_and_at_once(self, adata):
        names = ["condition[T.treated]", "age"]
        contrasts = {"both": names, "weights": np.array([0, 2.0, 0])}
        table = effects(adata, "~ condition + age", contrast=contrasts).table
        assert list(table["contrast"].unique()) == ["both", "weights"]
        both = of(table, UP, contrast="both")
        assert both["p_value"] < 1e-3
        assert np.isnan(both["log_fc"])
        single = of(effects(adata, "~ condition + age").table, UP, contrast=names[0])
        weighted = of(table, UP, contrast="weights")
        assert weighted["log_fc"] == pytest.approx(2 * single["log_fc"])

    @pytest.mark.parametrize(
        ("contrast", "message"),
        [
            ("condition", "not a coefficient of the formula. Choose from 'Intercept'"),
            (np.ones(5), "weights of 5 coefficients, and the formula has 2"),
            (["condition[T.treated]"] * 2, "must differ"),
        ],
    )
    def test_that_are_none_are_refused(self, adata, contrast, message):
        with pytest.raises(ValueError, match=message):
            effects(adata, contrast=contrast)


class TestDepth:
    def test_half_the_depth_is_no_effect(self):
        adata = study(n_donors=12, depth=0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = effects(adata).table
        others = table[~table["variable"].isin([UP, DOWN])]
        assert (others["adj_p_value"] < 0.05).sum() <= 2
        assert of(table, UP)["log_fc"] == pytest.approx(np.log2(3), abs=0.6)
        assert table["depth_ratio"].iloc[0] == pytest.approx(0.5, abs=0.12)

    def test_more_than_was_measured_is_warned_of(self):
        expected = r"condition\[T.treated\] in all cells 0\.[23].*right where it was measured"
        with pytest.warns(UserWarning, match=expected):
            effects(study(depth=0.25))

    def test_of_any_gene_counts_overall(self):
        """Only one gene is measured in the cells that differ in depth."""
        adata = study()
        treated = (adata.obs["condition"] == "treated").to_numpy()
        of_t = (adata.obs["cell_type"] == "T").to_numpy()
        adata.obs["total"] = adata.X.sum(1) * np.where(treated & of_t, 8.0, 1.0)
        adata.X[of_t] *= np.arange(N_GENES) == 7
        for some in (adata, adata[:, ::-1].copy()):
            with pytest.warns(UserWarning, match="treated.* in overall"):
                effects(some, labels_key="cell_type", size_factor_key="total")

    def test_none_is_not(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", ".* of cells that have nearly the same total")
            effects(study())


class TestSamples:
    @pytest.fixture(scope="class")
    def samples(self):
        return effects(study(), labels_key="cell_type").samples

    def test_are_counts_per_million(self, samples):
        adata = study()
        own = ((adata.obs["donor"] == "D0") & (adata.obs["cell_type"] == "T")).to_numpy()
        mean = np.log2(1e6 * adata.X[own].sum(0) / adata.X[own].sum())
        found = samples["D0 | treated | T"].to_df().iloc[0]
        expected = pd.Series(mean, adata.var_names)[found.dropna().index]
        assert np.abs(found.dropna() - expected).median() < 0.2
        assert samples.obs.loc["D0 | treated | T", "n_cells"] == own.sum()

    def test_what_the_model_makes_of_them_is_closer_to_the_group(self, samples):
        of_type = samples[samples.obs["state"] == "T"]
        measured, fitted = of_type[:, UP].X, of_type[:, UP].layers["fitted"]
        treated = (of_type.obs["condition"] == "treated").to_numpy()
        assert fitted[treated].std() < measured[treated].std()
        assert np.corrcoef(measured.ravel(), fitted.ravel())[0, 1] > 0.9


class TestStates:
    def test_with_few_samples_are_left_out(self):
        adata = study()
        rare = adata.obs["donor"].isin(["D0", "D9"]) & (adata.obs["cell_type"] == "T")
        adata.obs.loc[rare, "cell_type"] = "rare"
        with pytest.warns(UserWarning, match="Too few samples .* in rare: nothing is tested"):
            table = effects(adata, labels_key="cell_type").table
        assert "rare" not in set(table["state"])
        assert of(table, UP, "T")["n_donors"] == 8

    @pytest.fixture(scope="class")
    def doses(self):
        """Three doses; donors with the highest have no T cells."""
        adata = study(n_donors=12)
        dose = np.array(["none", "low", "high"])[adata.obs["donor"].str[1:].astype(int) % 3]
        adata.obs["dose"] = pd.Categorical(dose, ["none", "low", "high"])
        return adata[(dose != "high") | (adata.obs["cell_type"] == "B")].copy()

    def test_without_a_group_tell_of_the_others(self, doses):
        with pytest.warns(UserWarning, match=r"in T \(dose\[T.high\]\): nothing is tested"):
            table = effects(doses, "~ dose", labels_key="cell_type").table
        tested = table.groupby("state")["contrast"].unique().map(set)
        assert tested["T"] == {"dose[T.low]"}
        assert tested["B"] == tested["overall"] == {"dose[T.low]", "dose[T.high]"}
        of_t = table[table["state"] == "T"]
        alone = doses[(doses.obs["cell_type"] == "T") & (doses.obs["dose"] != "high")].copy()
        expected = effects(alone, "~ dose").table
        for column in ("log_fc", "se", "p_value", "n_donors", "depth_ratio"):
            np.testing.assert_allclose(of_t[column], expected[column], rtol=1e-6)

    @pytest.mark.slow
    def test_without_a_group_tell_of_the_others_in_pydeseq2_too(self, doses):
        pytest.importorskip("pydeseq2")
        some = doses[:, :40].copy()
        with pytest.warns(UserWarning, match="nothing is tested"):
            table = smt.tl.pseudobulk_de(some, "~ dose", "donor", labels_key="cell_type")
        alone = some[(some.obs["cell_type"] == "T") & (some.obs["dose"] != "high")].copy()
        expected = smt.tl.pseudobulk_de(alone, "~ dose", "donor")
        of_t = table[table["state"] == "T"]
        np.testing.assert_allclose(of_t["log_fc"], expected["log_fc"], rtol=1e-4)

    def test_overall_counts_those_in_which_a_gene_is_measured(self):
        adata = study()
        of_t = (adata.obs["cell_type"] == "T").to_numpy()
        adata.X[of_t, 5] = 0
        overall = effects(adata, labels_key="cell_type").table.query("state == 'overall'")
        n_cells = overall.set_index("variable")["n_cells"]
        assert n_cells["g005"] == (~of_t).sum()
        assert n_cells["g000"] == adata.n_obs

    def test_a_type_without_enough_cells_anywhere(self):
        adata = study()
        adata.obs["cell_type"] = np.where(np.arange(adata.n_obs) < 5, "five", "rest")
        with pytest.warns(UserWarning, match="in five: nothing is tested"):
            table = effects(adata, labels_key="cell_type").table
        assert set(table["state"]) == {"rest"}

    @pytest.mark.slow
    def test_of_a_model(self, cells, fit):
        model = fit("SCMEDAL_RE", cells.copy(), model={"n_states": 3})
        found = effects(cells.copy(), layer="counts", model=model, min_cells=3, min_counts=0.5)
        assert found.table["state"].str.match("state_0[0-2]|overall|all cells").all()
        assert found.samples.obs["n_cells"].sum() <= cells.n_obs
        with pytest.raises(ValueError, match="pass one of them"):
            effects(cells.copy(), layer="counts", model=model, labels_key="cell_type")


class TestTotals:
    def test_of_all_genes_where_some_are_left(self):
        adata = study()
        adata.obs["total"] = adata.X.sum(1)
        some = adata[:, :80].copy()
        found = effects(some, size_factor_key="total").table
        assert found["depth_ratio"].iloc[0] == effects(adata).table["depth_ratio"].iloc[0]


class TestRefused:
    def test_log_normalised_values(self, cells):
        with pytest.raises(ValueError, match=r"raw counts .* layer=.counts.*Available layers"):
            effects(cells.copy())

    def test_a_number_that_varies_within_a_donor(self):
        adata = study()
        adata.obs["age"] = np.arange(adata.n_obs)
        with pytest.raises(ValueError, match="'age' varies within the cells of a donor"):
            effects(adata, "~ condition + age")

    def test_coefficients_that_are_one(self):
        adata = study()
        adata.obs["site"] = adata.obs["condition"].astype(str)
        with pytest.raises(ValueError, match="cannot be separated"):
            effects(adata, "~ condition + site")

    def test_one_donor_in_a_group(self):
        adata = study(n_donors=3, pairs=True)
        adata.obs["sick"] = np.where(adata.obs["donor"] == "D0", "yes", "no")
        adata = adata[adata.obs["donor"].isin(["D0", "D1"])].copy()
        with pytest.raises(ValueError, match="of 2 donors are too few"):
            effects(adata, "~ sick + condition")

    def test_genes_without_counts(self):
        with pytest.raises(ValueError, match="min_counts=1e"):
            effects(study(), min_counts=1e9)


def test_visits_are_samples_by_their_column():
    """A number that varies within a donor needs the column with its samples."""
    adata = study()
    adata.obs["visit"] = np.where(np.arange(adata.n_obs) % 4 > 1, "first", "second")
    adata.obs["age"] += (adata.obs["visit"] == "second").astype(float)
    table = effects(adata, "~ condition + age", sample_key="visit").table
    assert table["n_samples"].iloc[0] == 20
    assert table["n_donors"].iloc[0] == 10


class TestNumbers:
    def test_the_unit_of_a_covariate_makes_no_difference(self):
        adata = study()
        adata.obs["days"] = adata.obs["age"] * 365
        years, days = (effects(adata, f"~ {name}").table for name in ("age", "days"))
        np.testing.assert_allclose(days["lfsr"], years["lfsr"], rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(days["depth_ratio"], years["depth_ratio"], rtol=1e-6)

    @pytest.mark.slow
    def test_of_donors_are_names(self):
        pytest.importorskip("pydeseq2")
        adata = study(n_donors=6, pairs=True)[:, :40].copy()
        named = smt.tl.pseudobulk_de(adata, "~ donor + condition", "donor")
        adata.obs["donor"] = adata.obs["donor"].str[1:].astype(int)
        numbered = smt.tl.pseudobulk_de(adata, "~ donor + condition", "donor")
        assert set(numbered["contrast"]) == {"condition[T.treated]"}
        np.testing.assert_allclose(numbered["log_fc"], named["log_fc"])

    def test_that_stand_for_groups_are_named_as_such(self):
        adata = study(pairs=True)
        adata.obs["treated"] = (adata.obs["condition"] == "treated").astype(int)
        with pytest.raises(ValueError, match=r"adata.obs\['treated'\].astype\('category'\)"):
            effects(adata, "~ treated")


@pytest.mark.parametrize(
    "as_column",
    [
        lambda treated: np.where(treated, "yes", "no"),
        lambda treated: treated,
        lambda treated: treated + 1.0,
        lambda treated: pd.Categorical(np.where(treated, "a", "b"), ["x", "b", "a"]),
        lambda treated: pd.Categorical(treated),
    ],
    ids=["text", "boolean", "numbers", "unused category", "boolean category"],
)
def test_groups_of_any_type_have_the_names_of_the_formula(as_column):
    adata = study()
    adata.obs["group"] = as_column((adata.obs["condition"] == "treated").to_numpy())
    reference, group = smt.tl.groups_of(adata.obs["group"])
    named = {"named": ("group", group, reference)}
    table = effects(adata, "~ C(`group`)", contrast=named).table
    expected = effects(adata, "~ C(`group`)").table
    np.testing.assert_allclose(table["log_fc"], expected["log_fc"])
