"""Print, as JSON, the constants of ``scmedal_tools.datasets.simulated``, measured on real data.

Needs ``aml_vangalen2019_d0_hvg3000.h5ad`` and ``onek1k_pbmc_40donors_1000genes.h5ad`` in the
folder named by ``SCMEDAL_DATA`` (otherwise ``shared/data`` next to the repository). Run it with
``python benchmarks/simulation_constants.py``; it takes a few seconds.

A *group* is the cells of one donor and one type. All effect sizes are standard deviations on the
natural log scale of the rate (count / depth); products of two random halves of the cells take the
sampling noise out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

SETS = {
    "aml": "aml_vangalen2019_d0_hvg3000.h5ad",
    "onek1k": "onek1k_pbmc_40donors_1000genes.h5ad",
}
MIN_CELLS = 30  # smaller groups say nothing about a donor
MIN_MEAN = 0.1  # mean count below which a gene's variance is all Poisson noise
MIN_COUNTS = 5  # expected counts in half a group for which a log rate is nearly unbiased
MIN_PAIRS = 10  # pairs of types of one donor for a gene's donor effect
N_PROGRAMMES = 3


def data_folder() -> Path:
    """Folder of the real data sets."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("SCMEDAL_DATA", default))


def group_rows(obs: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Row numbers of each sufficiently large group, keyed by (donor, cell type)."""
    groups = obs.groupby(["donor", "cell_type"], observed=True).indices
    return {key: rows for key, rows in groups.items() if len(rows) >= MIN_CELLS}


def gene_summary(
    counts: np.ndarray, depth: np.ndarray, cell_types: np.ndarray
) -> dict[str, float]:
    """Spread of abundance over genes and of types around it; correlation of neighbour types."""
    abundance = counts.sum(axis=0) / depth.sum()
    common = abundance * np.median(depth) > MIN_MEAN
    halves = []
    order = np.random.default_rng(0).permutation(len(depth))
    for rows in np.array_split(order, 2):
        rate = np.stack(
            [
                (counts[part].sum(axis=0) + 0.5) / depth[part].sum()
                for name in np.unique(cell_types)
                for part in [rows[cell_types[rows] == name]]
            ]
        )
        log_rate = np.log(rate[:, common])
        halves.append(log_rate - log_rate.mean(axis=0))
    product = halves[0] @ halves[1].T / common.sum()  # between types, without sampling noise
    own = np.diag(product)
    correlation = (product + product.T) / 2 / np.sqrt(np.outer(own, own))
    np.fill_diagonal(correlation, -1)
    return {
        "log_abundance_sd": float(np.log(abundance[abundance > 0]).std()),
        "type_sd": float(np.sqrt(own.sum() / (len(own) - 1))),
        "type_correlation": float(np.median(correlation.max(axis=0))),
    }


def dispersion_summary(
    counts: np.ndarray, depth: np.ndarray, groups: dict[tuple[str, str], np.ndarray]
) -> dict[str, float]:
    """Log-normal summary of ``phi = 1 / theta``, by moments within groups.

    Under a negative binomial ``Var(y) = mu + phi * mu**2``, with ``mu`` proportional to depth.
    """
    excess = np.zeros(counts.shape[1])
    squares = np.zeros(counts.shape[1])
    cells = 0
    for rows in groups.values():
        expected = np.outer(depth[rows], counts[rows].sum(axis=0) / depth[rows].sum())
        excess += (((counts[rows] - expected) ** 2) - expected).sum(axis=0)
        squares += (expected**2).sum(axis=0)
        cells += len(rows)
    usable = (squares / cells) > MIN_MEAN**2
    phi = np.maximum(excess[usable] / squares[usable], 0.01)
    return {"log_phi_mean": float(np.log(phi).mean()), "log_phi_sd": float(np.log(phi).std())}


def programme_variance(
    counts: np.ndarray, depth: np.ndarray, groups: dict[tuple[str, str], np.ndarray]
) -> float:
    """Variance per gene of the leading directions in which cells of one group differ.

    Directions come from one half of the cells and their variance from the other half; diagonals
    (each gene's own noise) are left out, so only co-variation of genes counts.
    """
    rng = np.random.default_rng(0)
    values = []
    for rows in groups.values():
        if len(rows) < 5 * MIN_CELLS:
            continue
        expected = np.outer(depth[rows], counts[rows].sum(axis=0) / depth[rows].sum())
        genes = expected.mean(axis=0) > 2 * MIN_MEAN
        residual = counts[rows][:, genes] / expected[:, genes] - 1
        # a cell's weight is its depth: shallow cells have noisy relative rates
        residual *= np.sqrt(depth[rows] / depth[rows].mean())[:, None]
        order = rng.permutation(len(rows))
        first, second = (np.cov(part, rowvar=False) for part in np.array_split(residual[order], 2))
        np.fill_diagonal(first, 0)
        np.fill_diagonal(second, 0)
        directions = np.linalg.eigh(first)[1][:, -N_PROGRAMMES:]
        explained = np.einsum("gk,gh,hk->k", directions, second, directions)
        values.append(explained.sum() / genes.sum())
    return float(np.median(values))


def log_halves(
    counts: np.ndarray, depth: np.ndarray, groups: dict[tuple[str, str], np.ndarray], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log rates of two random halves of every group, centred over the donors of each type.

    Returns an array (2, groups, genes) and which (group, gene) pairs have counts enough for a log.
    """
    rng = np.random.default_rng(seed)
    log_rate = np.empty((2, len(groups), counts.shape[1]))
    expected = np.empty_like(log_rate)
    types = np.array([cell_type for _, cell_type in groups])
    for i, rows in enumerate(groups.values()):
        for half, part in enumerate(np.array_split(rng.permutation(rows), 2)):
            log_rate[half, i] = np.log(counts[part].sum(axis=0) + 0.5) - np.log(depth[part].sum())
            expected[half, i] = depth[part].sum()
    usable = np.zeros(log_rate.shape[1:], dtype=bool)
    for name in np.unique(types):
        of_type = types == name
        # expected, not observed, counts: selecting on the noise would bias the variance
        expected[:, of_type] *= np.exp(log_rate[:, of_type]).mean(axis=(0, 1))
        enough = (expected[:, of_type] >= MIN_COUNTS).all(axis=0)
        usable[of_type] = enough & (enough.sum(axis=0) >= 3)
        n = np.maximum(enough.sum(axis=0), 2)
        centre = (log_rate[:, of_type] * enough).sum(axis=1, keepdims=True) / n
        # one mean was removed from n donors: n / (n - 1) as for any variance
        log_rate[:, of_type] = (log_rate[:, of_type] - centre) * np.sqrt(n / (n - 1))
    return np.where(usable, log_rate, 0.0), usable


def effect_summary(
    counts: np.ndarray, depth: np.ndarray, groups: dict[tuple[str, str], np.ndarray]
) -> dict[str, float]:
    """Spread of donor and donor x type effects over genes, free of sampling noise."""
    donors = np.array([donor for donor, _ in groups])
    sibling = np.equal.outer(donors, donors) & ~np.eye(len(donors), dtype=bool)
    total, main = [], []
    for seed in range(5):
        (first, second), usable = log_halves(counts, depth, groups, seed)
        partners = usable * (sibling @ usable.astype(float))
        kept = partners.sum(axis=0) >= MIN_PAIRS
        pairs = partners[:, kept].sum(axis=0)
        total.append((first * second * partners).sum(axis=0)[kept] / pairs)
        main.append((first * (sibling @ second)).sum(axis=0)[kept] / pairs)
    total_v, main_v = np.concatenate(total), np.concatenate(main)
    # of a log-normal spread s over genes, mean square / squared median is exp(2 s**2)
    spread = np.log(total_v.mean() / np.median(total_v)) / 2
    return {
        "donor_sd": float(np.sqrt(main_v.mean())),
        "interaction_sd": float(np.sqrt(total_v.mean() - main_v.mean())),
        "log_effect_spread": float(np.sqrt(spread)),
    }


def condition_sd(
    counts: np.ndarray,
    depth: np.ndarray,
    groups: dict[tuple[str, str], np.ndarray],
    condition: dict[str, str],
) -> float:
    """Spread over genes of the difference of two conditions, less what donors explain of it."""
    differences, donors = [], []
    of_group = np.array([condition[donor] for donor, _ in groups])
    types = np.array([cell_type for _, cell_type in groups])
    for seed in range(5):
        halves, usable = log_halves(counts, depth, groups, seed)
        for name in np.unique(types):
            sides = [
                (types == name) & (of_group == level) for level in sorted(set(condition.values()))
            ]
            genes = usable[types == name].all(axis=0)
            if min(side.sum() for side in sides) < 2 or not genes.any():
                continue
            means = [halves[:, side][:, :, genes].mean(axis=1) for side in sides]
            differences.append(np.prod(means[0] - means[1], axis=0).mean())
            spread = 0.0
            for side, mean in zip(sides, means, strict=True):
                centred = halves[:, side][:, :, genes] - mean[:, None]
                n = side.sum()
                spread += np.prod(centred, axis=0).sum(axis=0).mean() / (n - 1) / n
            donors.append(spread)
    return float(np.sqrt(max(np.mean(differences) - np.mean(donors), 0.0)))


def composition_sd(obs: pd.DataFrame) -> float:
    """Spread between donors of the log share of a type."""
    table = pd.crosstab(obs["donor"], obs["cell_type"]).to_numpy() + 0.5
    log_share = np.log(table)
    log_share -= log_share.mean(axis=1, keepdims=True)
    return float(log_share.std(axis=0, ddof=1).mean())


def measure(adata: ad.AnnData) -> dict[str, float]:
    """All summaries of one data set."""
    counts = adata.X.toarray().astype(float)
    depth = counts.sum(axis=1)
    obs = adata.obs
    groups = group_rows(obs)
    donor = obs["donor"].to_numpy()
    log_depth = pd.Series(np.log(depth)).groupby(donor).agg(["mean", "std"])
    log_cells = np.log(obs["donor"].value_counts())
    type_share = obs["cell_type"].value_counts(normalize=True)
    summary = {
        "log_cells_mean": float(log_cells.mean()),
        "log_cells_sd": float(log_cells.std()),
        "log_type_share_sd": float(np.log(type_share).std()),
        "composition_sd": composition_sd(obs),
        "log_depth_mean": float(log_depth["mean"].mean()),
        "log_depth_sd_donors": float(log_depth["mean"].std()),
        "log_depth_sd_cells": float(log_depth["std"].mean()),
        **gene_summary(counts, depth, obs["cell_type"].to_numpy().astype(str)),
        **dispersion_summary(counts, depth, groups),
        "programme_sd": float(np.sqrt(programme_variance(counts, depth, groups))),
        **effect_summary(counts, depth, groups),
    }
    if "patient_group" in obs:
        condition = dict(zip(obs["donor"], obs["patient_group"], strict=True))
        summary["condition_sd"] = condition_sd(counts, depth, groups, condition)
    return summary


def between(sets: list[dict[str, float]]) -> dict[str, float]:
    """Half-way between the sets: means of log parameters, geometric means of spreads."""
    result = {}
    for key in sets[0]:
        values = [one[key] for one in sets if key in one]
        logged = key.endswith("_mean")
        result[key] = float(np.mean(values) if logged else np.exp(np.mean(np.log(values))))
    # only the AML set has conditions: its effect shrinks as much as its donor effect does
    result["condition_sd"] *= result["donor_sd"] / sets[0]["donor_sd"]
    return result


def main() -> None:
    """Measure both sets and print them with the constants half-way between."""
    measured = {name: measure(ad.read_h5ad(data_folder() / file)) for name, file in SETS.items()}
    measured["simulated"] = between(list(measured.values()))
    rounded = {
        name: {key: round(value, 3) for key, value in values.items()}
        for name, values in measured.items()
    }
    print(json.dumps(rounded, indent=2))


if __name__ == "__main__":
    main()
