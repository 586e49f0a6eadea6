"""Intervals from some cells are those of all, around the shifts of all."""

import numpy as np
import pytest

from scmedal_tools import tl
from scmedal_tools._cli import _shifts_with_intervals
from scmedal_tools._cli._shifts_with_intervals import N_DRAWS, shifts_with_intervals
from scmedal_tools.model import _warn_of_extrapolation

TARGETS = ["donor_02", "donor_04"]


@pytest.fixture(scope="module")
def re(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


@pytest.mark.slow
@pytest.mark.parametrize("labels_key", [None, "cell_type"])
def test_of_some_cells(re, monkeypatch, labels_key):
    monkeypatch.setattr(_shifts_with_intervals, "N_DRAWS", N_DRAWS)  # all of them
    monkeypatch.setattr(_shifts_with_intervals, "N_CELLS", 60)
    monkeypatch.setattr(_shifts_with_intervals, "VALUES_HELD", 50 * 60 * 10)  # in parts
    ours = shifts_with_intervals(re, re.adata, TARGETS, labels_key, 0)
    options = {"labels_key": labels_key, "n_samples": 80, "interval": 0.9, "progress": False}
    expected = tl.counterfactual_means(re, re.adata, TARGETS, **options)
    assert ours.obs_names.equals(expected.obs_names)
    assert (ours.obs == expected.obs).all(axis=None)
    np.testing.assert_allclose(ours.X, expected.X, atol=1e-5)
    moved = (ours.obs["source"] != ours.obs["target"]).to_numpy()
    widths = [np.asarray(x.layers["upper"] - x.layers["lower"])[moved] for x in (ours, expected)]
    assert np.corrcoef(widths[0].ravel(), widths[1].ravel())[0, 1] > 0.8
    assert widths[0].mean() == pytest.approx(widths[1].mean(), rel=0.15)
    assert ours.layers["sd"][moved].mean() == pytest.approx(
        expected.layers["sd"][moved].mean(), rel=0.15
    )
    for limit in ("lower", "upper"):
        off = np.abs(ours.layers[limit] - expected.layers[limit])[moved]
        assert off.mean() < 0.2 * widths[1].mean()
        assert np.quantile(off / widths[1], 0.99) < 0.75
    np.testing.assert_allclose(ours.layers["upper"][~moved], 0, atol=1e-5)


@pytest.mark.slow
def test_more_parts_than_groups_and_one_warning(re, monkeypatch):
    monkeypatch.setattr(_shifts_with_intervals, "VALUES_HELD", 1)
    monkeypatch.setattr(_warn_of_extrapolation, "FEWEST_CELLS", 10**6)  # nothing is supported
    with pytest.warns(UserWarning, match="extrapolation") as said:
        shifts = shifts_with_intervals(re, re.adata, TARGETS, None, 0)
    assert np.isfinite(shifts.layers["sd"]).all()
    assert sum("an extrapolation" in str(warning.message) for warning in said) == 1


def test_every_group_is_there(cells, monkeypatch):
    monkeypatch.setattr(_shifts_with_intervals, "N_CELLS", 60)
    groups = _shifts_with_intervals._groups(cells, ["donor", "cell_type"])
    sizes = cells.obs.groupby(["donor", "cell_type"], observed=True).size()
    np.testing.assert_array_equal(np.bincount(groups), sizes)
    chosen = _shifts_with_intervals._some_of_each(groups, 0)
    assert len(np.unique(chosen)) == len(chosen)
    np.testing.assert_array_equal(np.bincount(groups[chosen]), np.minimum(sizes, 10))
    assert not np.array_equal(_shifts_with_intervals._some_of_each(groups, 1), chosen)
