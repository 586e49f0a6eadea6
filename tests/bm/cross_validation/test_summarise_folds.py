"""Means and intervals over folds, against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scmedal_tools import bm


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = [
        {"fold": fold, "embedding": name, "metric": metric, "value": rng.normal()}
        for fold in range(5)
        for name in ("X_pca", "X_fe")
        for metric in ("CH", "ASW")
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_limits_are_those_of_scipy(table, level):
    summary = bm.summarise_folds(table, level)
    assert list(summary) == ["embedding", "metric", "mean", "lower", "upper", "n"]
    assert len(summary) == 4
    for row in summary.itertuples():
        own = (table["embedding"] == row.embedding) & (table["metric"] == row.metric)
        values = table.loc[own, "value"]
        limits = stats.t.interval(level, 4, values.mean(), stats.sem(values))
        assert (row.mean, row.lower, row.upper) == pytest.approx((values.mean(), *limits))
        assert row.n == 5


def test_order_of_the_rows_is_kept(table):
    before = table.copy()
    summary = bm.summarise_folds(table)
    assert summary["embedding"].tolist() == ["X_pca", "X_pca", "X_fe", "X_fe"]
    assert summary["metric"].tolist() == ["CH", "ASW"] * 2
    pd.testing.assert_frame_equal(table, before)


def test_folds_without_a_value_do_not_count(table):
    table.loc[0, "value"] = np.nan
    first = bm.summarise_folds(table).iloc[0]
    expected = bm.summarise_folds(table.drop(index=0)).query("metric == 'CH'").iloc[-1]
    assert first["n"] == 4
    pd.testing.assert_series_equal(first, expected, check_names=False)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_one_fold_has_no_limits(table):
    summary = bm.summarise_folds(table.query("fold == 0"))
    assert summary["mean"].notna().all()
    assert summary[["lower", "upper"]].isna().all(axis=None)


def test_a_fold_that_counts_twice_is_refused(table):
    twice = pd.concat([table, table])
    with pytest.raises(ValueError, match=r"several values of the same thing.*X_pca"):
        bm.summarise_folds(twice)
    twice["seed"] = np.repeat([0, 1], len(table))
    assert (bm.summarise_folds(twice)["n"] == 5).all()


def test_missing_columns(table):
    with pytest.raises(KeyError, match=r"\['fold'\] not in the table"):
        bm.summarise_folds(table.drop(columns="fold"))
    with pytest.raises(ValueError, match="what was measured"):
        bm.summarise_folds(table[["fold", "value"]].drop_duplicates("fold"))
