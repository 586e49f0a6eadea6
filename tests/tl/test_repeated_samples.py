"""Donors with several samples: what is a replicate of a donor is none of its response."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scmedal_tools as smt

N_GENES = 200


def study(samples, own_response=0.0, seed=0, sample_sd=0.1):
    """Counts of samples, each a donor and a number by which donors' genes change differently."""
    rng = np.random.default_rng(seed)
    donor, x = np.array(samples).T
    n_donors = donor.astype(int).max() + 1
    response = rng.normal(0, own_response, (n_donors, N_GENES))
    log_mean = rng.normal(0, 0.7, N_GENES) + rng.normal(0, sample_sd, (len(x), N_GENES))
    log_mean += rng.normal(0, 0.2, (n_donors, N_GENES))[donor.astype(int)]
    log_mean += response[donor.astype(int)] * x[:, None]
    cell = np.repeat(np.arange(len(x)), 20)
    counts = rng.poisson(np.exp(log_mean)[cell]).astype(np.float32)
    obs = pd.DataFrame(
        {
            "donor": [f"D{k:02.0f}" for k in donor[cell]],
            "treatment": np.where(x[cell] > 0, "yes", "no"),
            "time": x[cell],
            "sample": [f"s{k:02d}" for k in cell],
        },
        [f"c{i}" for i in range(len(cell))],
    )
    return AnnData(counts, obs, pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]))


def pairs(n_samples, n_donors=6):
    return [(k, t) for k in range(n_donors) for t in (0, 1) for _ in range(n_samples)]


def p_values(adata, formula="~ treatment", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = smt.tl.group_effects(adata, formula, "donor", sample_key="sample", **options)
    return found.table["p_value"]


def test_samples_are_no_replicates_of_a_donors_response():
    found = [p_values(study(pairs(4), own_response=0.4, seed=seed)) for seed in range(3)]
    assert (np.concatenate(found) < 0.05).mean() < 0.08


def test_where_a_donor_has_several_for_each_treatment_they_are_summed():
    adata = study(pairs(2))
    found = smt.tl.group_effects(adata, "~ treatment", "donor", sample_key="sample")
    without = smt.tl.group_effects(adata, "~ treatment", "donor")
    pd.testing.assert_frame_equal(found.table, without.table)
    assert found.samples.obs_names[0] == "D00 | s00+s01 | all cells"
    assert list(found.samples.obs["treatment"].cat.categories) == ["no", "yes"]
    np.testing.assert_allclose(found.samples.X, without.samples.X)


def test_numbers_that_the_formula_does_not_distinguish_are_averaged():
    adata = study([(k, t) for k in range(6) for t in (0, 1, 2)])
    found = smt.tl.group_effects(adata, "~ I(time > 0)", "donor", sample_key="sample")
    assert found.samples.obs["time"].tolist() == [0, 1.5] * 6


def test_of_all_types_together_too():
    adata = study(pairs(2))
    adata.obs["cell_type"] = np.where(np.arange(adata.n_obs) % 2, "T", "B")
    options = {"labels_key": "cell_type", "min_cells": 5}
    found = smt.tl.group_effects(adata, "~ treatment", "donor", sample_key="sample", **options)
    without = smt.tl.group_effects(adata, "~ treatment", "donor", **options)
    pd.testing.assert_frame_equal(found.table, without.table)
    assert set(found.table["state"]) == {"T", "B", "overall"}


def test_between_donors_those_with_one_sample_are_less_precise():
    """Three donors with one sample, nine with five, which differ more than donors do."""
    samples = [(k, int(k >= 3)) for k in range(12) for _ in range(1 if k < 3 else 5)]
    sets = [study(samples, seed=seed, sample_sd=0.4) for seed in range(3)]
    apart = np.concatenate([p_values(adata) for adata in sets])
    assert (apart < 0.05).mean() < 0.08
    found = smt.tl.group_effects(sets[0], "~ treatment", "donor", sample_key="sample").table
    assert found["n_samples"].iloc[0] == 48
    assert found["n_donors"].iloc[0] == 12


@pytest.mark.slow
def test_pydeseq2_takes_the_same_sums():
    adata = study(pairs(2))[:, :60].copy()
    options = {"formula": "~ donor + treatment", "donor_key": "donor"}
    found = smt.tl.pseudobulk_de(adata, sample_key="sample", **options)
    without = smt.tl.pseudobulk_de(adata, **options)
    pd.testing.assert_frame_equal(found, without)


class TestResponsesThatAreNotInTheModel:
    def messages(self, samples, formula):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            smt.tl.group_effects(study(samples), formula, "donor", sample_key="sample")
        return [w for w in caught if "If donors respond differently" in str(w.message)]

    def test_over_three_visits(self):
        (warned,) = self.messages([(k, t) for k in range(8) for t in range(3)], "~ time")
        assert "to see what time changes in each of them" in str(warned.message)
        assert "keep two samples of each donor" in str(warned.message)
        assert warned.filename == __file__

    @pytest.mark.parametrize(
        ("samples", "formula"),
        [
            ([(k, t) for k in range(8) for t in (0, 2)], "~ time"),
            (pairs(3), "~ treatment"),
            ([(k, t) for k in range(8) for t in range(3)], "~ C(time)"),
            ([(k, k % 2) for k in range(8) for _ in range(3)], "~ treatment"),
        ],
        ids=["two visits", "samples that are summed", "three groups", "between donors"],
    )
    def test_no_others(self, samples, formula):
        assert not self.messages(samples, formula)
