"""Where nothing is there, little is found: small simulations, each with the rate it may reach.

``benchmarks/pseudo_donors.py`` and ``benchmarks/group_effects.py`` measure the rates at full size.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse, stats

import scmedal_tools as smt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The random effects have collapsed"),  # rightly
]

NETWORK = {"n_hidden": (32, 16), "n_latent": 8}
# Most that may be found of random effects, as shares of all donors and genes. Of intervals that
# are not shrunk 10% would exclude zero; of RE's up to 0.3% did in the benchmark, and 8 to 10% do
# of the effects that are simulated by default.
MOST = {"lfsr below .05": 0.01, "90% interval without zero": 0.01, "abs(z) above 3": 0.001}
INTERVAL = stats.norm.ppf(0.95)

LEVEL = 0.05  # of p-values of genes
N_STUDIES, MOST_WITH_A_FINDING = 20, 3  # one is expected; more than three once in 60 times
LEAST_SHARE = 0.02  # below it p-values would be too large to find anything
MOST_SHARE_IN_REAL_CELLS = 0.10  # .05 and three standard errors of five deals, .04 each

# Half of one is expected in a row of the table; more than three, in any of its 16 rows, once in
# 60 times, were they independent.
N_RELABELLED, MOST_PREDICTED = 10, 3


def study(rng, n_donors=12, n_genes=60, n_cells=20, effect=0.0):
    """Counts of two groups of donors: donors differ in all genes, groups by ``effect``."""
    donor = np.repeat(np.arange(n_donors), n_cells)
    is_t = rng.integers(2, size=len(donor))
    treated = rng.permutation(np.arange(n_donors) % 2)
    of_donors = rng.uniform(0.1, 0.5, n_genes) * rng.normal(size=(n_donors, n_genes))
    of_donors += effect * treated[:, None] * rng.normal(size=n_genes)
    log_mean = rng.normal(0.5, 1, (2, n_genes))[is_t] + of_donors[donor]
    log_mean += rng.normal(0, 0.3, (len(donor), 1))  # depths of cells
    counts = rng.poisson(rng.gamma(2, np.exp(log_mean) / 2))  # negative binomial
    obs = {
        "donor": [f"D{k:02d}" for k in donor],
        "group": np.where(treated[donor], "treated", "control"),
        "cell_type": np.where(is_t, "T", "B"),
    }
    names = [f"c{i}" for i in range(len(donor))]
    return ad.AnnData(counts.astype(np.float32), pd.DataFrame(obs, index=names))


def thinned_to_one_depth(adata, seed):
    """Bring all donors to the lowest depth among them: log-expression depends on depth."""
    depth = pd.Series(np.asarray(adata.X.sum(1)).ravel(), adata.obs_names)
    depth = depth.groupby(adata.obs["donor"], observed=True).transform("mean").to_numpy()
    counts, share = adata.X.toarray().astype(int), depth.min() / depth
    adata.X = np.random.default_rng(seed).binomial(counts, share[:, None]).astype(np.float32)
    return adata


def found_of_random_effects(fit, adata):
    """Train RE on raw counts, and count what it finds, as shares of all donors and genes."""
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    model = fit("SCMEDAL_RE", adata, model=NETWORK, max_epochs=10, batch_size=128)
    effects = model.get_batch_effects()
    z = effects["z"].abs()
    found = [effects["lfsr"] < 0.05, z > INTERVAL, z > 3]
    return {name: of.mean() for name, of in zip(MOST, found, strict=True)}


def check_random_effects(fit, adata):
    shares = found_of_random_effects(fit, adata)
    assert all(shares[name] <= most for name, most in MOST.items()), shares


def p_values_of_groups(adata):
    """P-values of all genes, as they are and adjusted."""
    table = smt.tl.group_effects(adata, "~ group", "donor").table
    return table["p_value"], table["adj_p_value"]


class TestRandomEffects:
    def simulated(self, **options):
        return smt.datasets.simulated(n_donors=8, n_genes=150, n_cell_types=3, **options)

    def test_donors_without_effects(self, fit):
        """All have the same composition and depth, which change expression as well."""
        adata = self.simulated(effect_scale=0, confounding=0)
        check_random_effects(fit, thinned_to_one_depth(adata, seed=0))

    def test_effects_that_are_there_are_found(self, fit):
        """By the same training: the others do not pass because it finds nothing."""
        shares = found_of_random_effects(fit, self.simulated())
        assert all(shares[name] > 2 * most for name, most in MOST.items()), shares

    def test_shuffled_donors(self, fit):
        """True donors still differ, which is no effect of the shuffled ones."""
        adata = self.simulated()
        donors = adata.obs["donor"].to_numpy()
        adata.obs["donor"] = np.random.default_rng(0).permutation(donors)
        check_random_effects(fit, adata)


def test_groups_without_effects():
    """Genes of a study may be correlated, so the standard error is taken over studies."""
    rng = np.random.default_rng(0)
    found = [p_values_of_groups(study(rng)) for _ in range(N_STUDIES)]
    shares = np.array([(p < LEVEL).mean() for p, _ in found])
    se = shares.std(ddof=1) / np.sqrt(N_STUDIES)
    assert shares.mean() >= LEAST_SHARE
    assert abs(shares.mean() - LEVEL) <= 3 * se
    assert sum((adjusted < LEVEL).any() for _, adjusted in found) <= MOST_WITH_A_FINDING


def test_relabelled_donors_are_not_predicted():
    """Groups differ, but their names are dealt anew."""
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(N_RELABELLED):
        adata = study(rng, n_donors=9, effect=1.0)
        of_donors = adata.obs.groupby("donor")["group"].first()
        of_donors[:] = rng.permutation(of_donors)
        adata.obs["group"] = adata.obs["donor"].map(of_donors)
        smt.pp.preprocess(adata, n_top_genes=None)
        keys = ("donor", "group", "cell_type")
        options = {"n_permutations": 19, "progress": False}
        tables.append(smt.bm.donor_prediction(adata, *keys, **options).table)
    table = pd.concat(tables)
    table = table[table["features"] != "number of cells"]  # which is the same in all donors
    low = table["p_value"] < 0.1
    predicted = low.groupby([table[key] for key in ("features", "method", "metric")]).sum()
    assert len(predicted) == 16
    assert predicted.max() <= MOST_PREDICTED, predicted.to_string()


def onek1k(data_dir):
    adata = ad.read_h5ad(data_dir / "onek1k_pbmc_40donors_1000genes.h5ad")
    cells = np.random.default_rng(0).choice(adata.n_obs, 1_500, replace=False)
    return adata[np.sort(cells)]


def of_scanpy():
    """Counts of the blood cells that scanpy comes with: one is the least of a cell's values."""
    logged = sc.datasets.pbmc68k_reduced().raw.to_adata()
    values = np.expm1(logged.X.toarray())
    least = np.where(values > 0, values, np.inf).min(1, keepdims=True)
    counts = np.rint(values / least)
    np.testing.assert_allclose(values / least, counts, atol=0.2)
    return ad.AnnData(sparse.csr_matrix(counts), logged.obs[[]], logged.var[[]])


class TestRealCellsOfNoDonor:
    """Real cells, dealt at random to twelve donors that are made up."""

    @pytest.fixture(
        scope="class", params=["of scanpy", pytest.param("OneK1K", marks=pytest.mark.real)]
    )
    def pbmc(self, request):
        of_scanpy_alone = request.param == "of scanpy"
        adata = of_scanpy() if of_scanpy_alone else onek1k(request.getfixturevalue("data_dir"))
        expressed = np.asarray((adata.X > 0).mean(0)).ravel()
        return adata[:, np.sort(np.argsort(-expressed)[:300])].copy()

    def dealt(self, adata, seed):
        donor = np.random.default_rng(seed).permutation(np.arange(adata.n_obs) % 12)
        adata = adata.copy()
        adata.obs["donor"] = [f"D{k:02d}" for k in donor]
        adata.obs["group"] = np.where(donor % 2, "treated", "control")
        return adata

    def test_random_effects(self, fit, pbmc):
        check_random_effects(fit, self.dealt(pbmc, seed=0))

    def test_groups(self, pbmc):
        found = [p_values_of_groups(self.dealt(pbmc, seed))[0] for seed in range(5)]
        assert np.mean([(p < LEVEL).mean() for p in found]) <= MOST_SHARE_IN_REAL_CELLS
