"""Tables and figure of the saved results of ``gene_tests.py``."""

from __future__ import annotations

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _record import ROOT, load, markdown, saved
from scipy import stats

N_DONORS = 12
LEVEL, LOW = 0.05, 0.01
LEVELS = np.sort(np.append(np.round(np.geomspace(1e-3, 1, 31), 6), LEVEL))
FIGURE = ROOT / "docs" / "_static" / "gene_tests_qq.svg"
METHODS = {
    "donor": "`donor`",
    "mannwhitney": "`mannwhitney`",
    "lme": "`lme`",
    "rubin": "`donor`, Rubin's rules",
    "welch": "Welch's test in place of Student's",
    "means_by_type": "means of own cells by type, moderated t",
    "sums_by_type": "log-CPM of sums by type, moderated t",
    "group_effects": "`tl.group_effects`",
    "cells": "t-test, own cells as replicates",
}
# Donors of the smaller group, and what the groups are.
DESIGNS = {
    "random": (6, "6 and 6"),
    "unequal": (3, "3 and 9"),
    "by_size": (6, "6 smallest and 6 largest"),
    "largest": (3, "3 largest and 9 others"),
    "largest_again": (3, "3 largest and 9 others, new data sets"),
    "of_type": (3, "3 with five times the cells of the type, and 9"),
}
PARTS = {"of_type": "null_type", "largest_again": "null_again"}
# In Okabe-Ito colours, distinct with every common colour vision deficiency.
STYLES = {
    "donor": ("means of donors, t-test", "#0072B2", "o"),
    "mannwhitney": ("means of donors, Mann-Whitney's test", "#009E73", "s"),
    "lme": ("projected cells, mixed model", "#D55E00", "^"),
    "rubin": ("means of donors, Rubin's rules", "#56B4E9", "v"),
    "cells": ("own cells as replicates, t-test", "#CC79A7", "D"),
}
PANELS = {"random": "6 and 6 donors, at random", "largest": "3 largest and 9 other donors"}


# On the same data sets, without a network.
BASELINES = ("means_by_type", "sums_by_type", "group_effects")


def shares_of(design: str, method: str) -> np.ndarray:
    """Share of p-values at or below each level, simulations x levels; none if not measured."""
    part = PARTS.get(design, "null")
    of_methods = [row["shares"][design] for row in results_of(part, method)]
    return np.array([shares[method] for shares in of_methods if method in shares])


def results_of(part: str, method: str) -> list[dict]:
    if method in BASELINES:
        return [row for row in load("gene_tests_baselines")["results"] if row["part"] == part]
    return saved(f"gene_tests_{part}")


def at_level(design: str, method: str, level: float = LEVEL) -> np.ndarray:
    """Share of p-values at or below a level in each simulation."""
    return shares_of(design, method)[:, np.flatnonzero(level == LEVELS)[0]]


def attainable(n_small: int, level: float) -> float:
    """How often Mann-Whitney's p-value is at or below a level where nothing differs."""
    everyone = np.arange(N_DONORS)
    groups = [everyone[list(chosen)] for chosen in combinations(everyone, n_small)]
    others = [np.setdiff1d(everyone, group) for group in groups]
    p = stats.mannwhitneyu(groups, others, axis=1, method="exact").pvalue
    return float(np.mean(p <= level))


def tables() -> dict[str, str]:
    return {
        "calibration": calibration_table(),
        "power": power_table(),
        "aml": aml_table(),
        "aml_cells": aml_cells_table(),
        "times": times_table(),
    }


def calibration_table() -> str:
    rows = []
    for design, (n_small, groups) in DESIGNS.items():
        for method, name in METHODS.items():
            shares = shares_of(design, method)
            if not len(shares):
                continue
            row = {"groups": groups, "method": name, "n": len(shares)}
            for at, level in (("5", LEVEL), ("1", LOW)):
                of_level = at_level(design, method, level)
                row[f"mean{at}"], row[f"se{at}"] = of_level.mean(), stats.sem(of_level)
                exact = attainable(n_small, level) if method == "mannwhitney" else level
                row[f"exact{at}"] = exact
            rows.append(row)
    columns = {
        "donors": "{groups}",
        "method": "{method}",
        "p < .05": "{mean5:.3f} ± {se5:.3f}",
        "attainable": "{exact5:.3f}",
        "p < .01": "{mean1:.4f} ± {se1:.4f}",
        "attainable ": "{exact1:.4f}",
        "simulations": "{n}",
    }
    return markdown(rows, columns)


def power_table() -> str:
    of = pd.DataFrame(
        [
            {"method": method} | row["methods"][method]
            for method in METHODS
            for row in results_of("power", method)
            if method in row["methods"]
        ]
    )
    grouped = of.groupby("method")
    summary = grouped.mean().join(grouped.sem().add_suffix("_se"))
    rows = [{"name": METHODS[m], **summary.loc[m]} for m in METHODS if m in summary.index]
    columns = {
        "method": "{name}",
        "p < .05, genes with effect": "{with_effect:.3f} ± {with_effect_se:.3f}",
        "p < .05, genes without": "{without_effect:.3f} ± {without_effect_se:.3f}",
        "genes with adjusted p < .05": "{found:.1f} ± {found_se:.1f}",
        "of these without effect": "{false:.1f} ± {false_se:.1f}",
    }
    return markdown(rows, columns)


def aml_table() -> str:
    rows = [row | {"name": METHODS[row["method"]]} for row in load("gene_tests_aml")["results"]]
    columns = {
        "method": "{name}",
        "genes": "{genes:,}",
        "p < .05": "{below:,}",
        "adjusted p < .05": "{found:,}",
    }
    return markdown(rows, columns)


def aml_cells_table() -> str:
    columns = {
        "group": "{group}",
        "donors": "{donors}",
        "training cells": "{cells:,.0f}",
        "like those projected": "{like:,.0f}",
        "monocytes": "{monocytes:,.0f}",
    }
    return markdown(load("gene_tests_aml").get("training", []), columns)


def times_table() -> str:
    rows = [row | {"name": METHODS[row["method"]]} for row in load("gene_tests_times")["results"]]
    columns = {
        "method": "{name}",
        "genes": "{genes:,}",
        "donors": "{donors}",
        "cells": "{cells}",
        "seconds": "{seconds:.0f}",
    }
    return markdown(rows, columns)


def figure() -> None:
    """Share of p-values at or below each level, mean and twice its s.e. over simulations."""
    drawing, axes = plt.subplots(1, 2, figsize=(8.2, 4.3), layout="constrained", sharey=True)
    for ax, (design, title) in zip(axes, PANELS.items(), strict=True):
        for method, (label, colour, marker) in STYLES.items():
            shares = shares_of(design, method)
            if not len(shares):
                continue
            mean, se = shares.mean(0), stats.sem(shares)
            style = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 0.9}
            ax.plot(LEVELS, np.where(mean > 0, mean, np.nan), label=label, **style)
            low = np.maximum(mean - 2 * se, LEVELS[0] / 3)
            band = {"color": colour, "alpha": 0.15, "linewidth": 0}
            ax.fill_between(LEVELS, low, mean + 2 * se, where=mean > 0, **band)
        ends = [LEVELS[0], 1]
        right = {"color": "black", "linestyle": "--", "label": "p-values are right"}
        ax.plot(ends, ends, linewidth=1, zorder=5, **right)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(LEVELS[0] / 3, 1.15)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("level")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of p-values at or below the level")
    names = axes[0].get_legend_handles_labels()
    drawing.legend(*names, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    # The same bytes at every run.
    with plt.rc_context({"svg.hashsalt": FIGURE.stem}):
        drawing.savefig(FIGURE, metadata={"Date": None})
