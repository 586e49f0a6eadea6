"""Columns of any type have the same results, or a message that names column and remedy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from .calls import CALLS, called, figures

pytestmark = pytest.mark.slow


def by_names(*names):
    return lambda codes: np.array(names, dtype=object)[codes]


def by_type(dtype):
    return lambda codes: pd.array([f"level {code}" for code in codes], dtype=dtype)


def days(codes):
    return pd.Timestamp("2020-01-01") + pd.to_timedelta(codes, "D")


# In all of them the levels are in the order of their codes, so that numbers stay the same.
LEVELS = [f"level {code}" for code in range(6)]
KINDS = {
    "ordered": lambda codes: pd.Categorical.from_codes(codes, LEVELS, ordered=True),
    "unused levels": lambda codes: pd.Categorical.from_codes(
        codes + 1, ["before", *LEVELS, "level 6", "level 9"]
    ),
    "string": by_type("string"),
    "integer": lambda codes: codes.astype(np.int8) + 1,
    "nullable integer": lambda codes: pd.array(codes, dtype="Int64"),
    "float": lambda codes: codes + 0.5,
    "nullable float": lambda codes: pd.array(codes + 0.5, dtype="Float64"),
    "numbers as categories": lambda codes: pd.Categorical(codes + 0.5),
    "dates": days,
    "arrow": by_type("string[pyarrow]"),
    "arrow text": by_type(pd.ArrowDtype(pa.string())),
    "arrow integer": lambda codes: pd.array(codes, dtype="int64[pyarrow]"),
    "arrow float": lambda codes: pd.array(codes + 0.5, dtype="double[pyarrow]"),
    "arrow dictionary": by_type(pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    "numbers as text": by_names("01", "1", "1.0", "10", "1e1", "9"),
    "awkward names": by_names("", " a -> b", "$x_1", "../<b>c</b>", "=1+1\n", "供体 | Zoë"),
    "words of the package": by_names("all cells", "mean", "nan", "overall", "prior", "state"),
}
DRAWN = {"unused levels", "float", "dates", "awkward names"}
TWO = {
    "boolean": lambda codes: codes == 1,
    "nullable boolean": lambda codes: pd.array(codes == 1, dtype="boolean"),
    "booleans as categories": lambda codes: pd.Categorical(codes == 1),
}
REFUSED = {
    "one level": (lambda codes: ["a"] * len(codes), r"has 1 level\(s\)"),
    "mixed types": (lambda codes: [1 if code else "b" for code in codes], r"astype\(str\)$"),
    "missing text": (lambda codes: [f"b{c}" if c else None for c in codes], "is missing in"),
    "missing number": (lambda codes: [float(c) if c else np.nan for c in codes], "is missing in"),
    "missing category": (
        lambda codes: pd.Categorical([c or None for c in codes]),
        "is missing in",
    ),
    "missing nullable": (
        lambda codes: pd.array([c or None for c in codes], dtype="Int64"),
        "is missing in",
    ),
}
# Calls that use a column, with what it is called there.
USE = {
    "kind": {
        "means": "labels_key",
        "gene test": "labels_key",
        "donors": "by",
        "distances": "by",
        "group effects": "labels_key",
        "pseudobulk": "labels_key",
        "confounding": "target_keys",
        "scores": "labels_key",
        "cross-validation": "labels_key",
        "donor prediction": "labels_key",
        "shifts": "labels_key",
        "swaps": "labels_key",
        "folds": "labels_key",
    },
    "condition": {
        "abundance": "group_key",
        "gene test": "groups",
        "group effects": "formula",
        "pseudobulk": "formula",
        "confounding": "target_keys",
        "mixing": "target_key",
        "cross-validation": "target_keys",
        "donor prediction": "target_key",
    },
}
NOT_OF_DONORS = {"effects", "similarity", "query", "prepared", "genomap", "splits"}
# What is made of donors all the same: cells of none are kept out of the draw.
OF_ANY_DONORS = {name: {"held out"} for name in REFUSED if name.startswith("missing")}
OF_ANY_DONORS |= {"one level": {"preprocessed", "folds"}, "mixed types": set()}
WITHOUT_DONOR = r"'donor'\]? is missing (in|for) 24 (.|\n)*\n *adata = .*\.notna\(\)\]\.copy\(\)$"


def codes_of(study, role):
    return pd.factorize(study.obs[role], sort=True)[0]


@pytest.mark.parametrize("name", KINDS)
def test_any_type(study, train, expected, name):
    adata = study.copy()
    for role in ("donor", *USE):
        adata.obs[role] = KINDS[name](codes_of(study, role))
    before = adata.obs.copy()
    trained, queried = train(adata), adata.copy()
    for call in CALLS:
        found = called(call, trained, queried)
        np.testing.assert_allclose(found, expected[call], rtol=1e-4, atol=1e-5, err_msg=call)
    if name in DRAWN:
        figures(trained, queried)
    for data in (adata, queried):
        pd.testing.assert_frame_equal(data.obs[list(before)], before)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("role", USE)
def test_two_levels(study, models, expected, role, name):
    adata = study.copy()
    adata.obs[role] = TWO[name](codes_of(study, role))
    for call in USE[role]:
        found = called(call, models, adata)
        np.testing.assert_allclose(found, expected[call], rtol=1e-4, atol=1e-5, err_msg=call)


# Cells of a single type are nothing special.
USELESS = [case for case in product(USE, REFUSED) if case != ("kind", "one level")]


@pytest.mark.parametrize(("role", "name"), USELESS)
def test_columns_that_cannot_be_used(study, models, role, name):
    adata = study.copy()
    make, message = REFUSED[name]
    adata.obs[role] = make(codes_of(study, role))
    for call, argument in USE[role].items():
        with pytest.raises(ValueError, match=rf"{argument}='{role}'(.|\n)*{message}"):
            called(call, models, adata)


@pytest.mark.parametrize("name", REFUSED)
def test_donors_that_cannot_be_used(study, models, name):
    adata = study.copy()
    adata.obs["donor"] = REFUSED[name][0](codes_of(study, "donor"))
    # Of a single donor it may be the groups that are at fault.
    message = WITHOUT_DONOR if name.startswith("missing") else "'(donor|condition)'"
    for call in set(CALLS) - NOT_OF_DONORS - OF_ANY_DONORS[name]:
        with pytest.raises(ValueError, match=message):
            called(call, models, adata)
