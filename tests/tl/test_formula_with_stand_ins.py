"""Columns with any name in a formula."""

import numpy as np
import pytest

import scmedal_tools as smt

pytestmark = pytest.mark.slow
pytest.importorskip("formulaic_contrasts")

CONTRAST = ("condition", "disease", "control")


@pytest.fixture(scope="module")
def counts():
    return smt.datasets.simulated(n_donors=8, n_genes=60, n_cell_types=2, confounding=0)


@pytest.fixture(scope="module")
def expected(counts):
    return smt.tl.group_effects(counts, "~ condition", "donor", contrast=CONTRAST).table


@pytest.mark.parametrize("verb", [smt.tl.group_effects, smt.tl.pseudobulk_de])
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("disease.state", "~ disease.state"),
        ("disease.state", "~ C(`disease.state`)"),
        ("orig.ident.2", "~ orig.ident.2"),
        ("the condition", "~ `the condition`"),
        ("<b>état</b>", "~ C(`<b>état</b>`)"),
        ("C", "~ C(C)"),
        ("log", "~ log"),
        ("if", "~ C(if)"),
        ("2nd", "~ `2nd`"),
    ],
)
def test_any_name(counts, expected, verb, name, formula):
    adata = counts.copy()
    adata.obs = adata.obs.rename(columns={"condition": name})
    found = verb(adata, formula, "donor", contrast=(name, *CONTRAST[1:]))
    found = getattr(found, "table", found)
    assert set(found["contrast"]) == {f"{name}: disease - control"}
    if verb is smt.tl.group_effects:
        np.testing.assert_allclose(found["log_fc"], expected["log_fc"])
    coefficients = verb(adata, formula, "donor")
    coefficients = getattr(coefficients, "table", coefficients)
    assert all(text in coefficients["contrast"].iloc[0] for text in (name, "[T.disease]"))
    np.testing.assert_allclose(coefficients["log_fc"], found["log_fc"], atol=1e-6)


def test_functions_stay_functions(counts):
    adata = counts.copy()
    adata.obs["log"] = 1.0 + adata.obs["donor"].cat.codes % 3
    table = smt.tl.group_effects(adata, "~ condition + log(log)", "donor").table
    assert set(table["contrast"]) == {"condition[T.disease]", "log(log)"}


def test_text_stays_text(counts):
    adata = counts.copy()
    adata.obs["C"] = adata.obs["condition"]
    adata.obs["control"] = 1.0
    formula = "~ C(condition, contr.treatment('control'))"
    table = smt.tl.group_effects(adata, formula, "donor").table
    assert set(table["contrast"]) == {f"{formula[2:]}[T.disease]"}


@pytest.mark.parametrize("formula", ["~ condition +", "~ log(condition", "~ log(condition)"])
def test_what_cannot_be_read_is_named(counts, formula):
    with pytest.raises(ValueError, match=r"formula='~ .*cannot be"):
        smt.tl.group_effects(counts, formula, "donor")


def test_an_unknown_name_with_a_dot_is_named(counts):
    with pytest.raises(ValueError, match=r"formula='~ state\.of' cannot|formula='state' is not"):
        smt.tl.group_effects(counts, "~ state.of", "donor")
