"""Tables of the saved results of ``group_effects.py``."""

from __future__ import annotations

import numpy as np
import pandas as pd
from _group_effects_cells import NULL, PLANTED
from _record import load, markdown
from scipy import stats

LEVEL = 0.05
METHODS = {
    "group_effects": "`tl.group_effects`",
    "uncorrected": "the same without the correction of few donors",
    "moderated_t": "log-CPM, moderated t",
    "voom": "log-CPM with precision weights, moderated t",
    "deseq": "`tl.pseudobulk_de` (PyDESeq2)",
    "types_t": "log-CPM by type, donors' means, moderated t",
    "types_voom": "the same with precision weights",
    "pooled": "log-CPM of all cells, moderated t",
}


def judged(p: pd.Series, effects: pd.Series) -> dict[str, float]:
    """What p-values of genes find, for a row of the results; ``effects`` are the planted ones."""
    has_effect = effects[p.index].to_numpy() != 0
    found = stats.false_discovery_control(p) < LEVEL
    return {
        "genes": len(p),
        "with_effect": int(has_effect.sum()),
        "below_05": float((p[~has_effect] < LEVEL).mean()),
        "below_01": float((p[~has_effect] < LEVEL / 5).mean()),
        "true": int(found[has_effect].sum()),
        "false": int(found[~has_effect].sum()),
        "true_of_best": true_of_best(p.to_numpy(), has_effect),
    }


def true_of_best(p: np.ndarray, has_effect: np.ndarray) -> int:
    """Genes with an effect among the most that can be named with 5% of false ones, ordered by p.

    It does not depend on whether p-values are right, but on their order alone.
    """
    ordered = has_effect[p.argsort(kind="stable")]
    allowed = np.cumsum(~ordered) <= LEVEL * np.arange(1, len(p) + 1)
    return int(ordered[: allowed.nonzero()[0].max(initial=-1) + 1].sum())


def tables() -> dict[str, str]:
    """Tables of the documentation."""
    return {
        "null": markdown(
            summary("null"),
            {
                "design": "{design}",
                "method": "{method}",
                "p < .05": "{below_05:.3f} ± {below_05_se:.3f}",
                "p < .01": "{below_01:.4f} ± {below_01_se:.4f}",
                "genes found per data set": "{false:.2f}",
                "genes": "{genes:.0f}",
                "data sets with a false positive": "{with_finding} of {n}",
            },
        ),
        "planted": markdown(
            summary("planted"),
            {
                "design": "{design}",
                "method": "{method}",
                "genes found, of those with an effect": "{true:.1f} of {with_effect:.0f}",
                "fewer than `tl.group_effects`": "{fewer}",
                "found without an effect": "{false:.1f}",
                "share of false discoveries": "{fdr:.3f}",
                "with an effect, of the best by p with 5% false": "{of_best}",
                "data sets": "{n}",
            },
        ),
        "findings": markdown(
            findings(),
            {
                "method": "{method}",
                "data sets with a false positive": "{all_designs}",
                "`tl.group_effects` on the same": "{ours}",
                "of these in designs with unequal groups": "{unequal}",
                "unequal designs in which p < .05 is above its limit": "{above_05}",
                "the same for p < .01": "{above_01}",
            },
        ),
        "better": markdown(
            better(),
            {
                "design": "{design}",
                "method": "{method}",
                "finds more than `tl.group_effects`": "{more}",
                "without effects: p < .05": "{below_05:.3f} ± {below_05_se:.3f}",
                "without effects: data sets with a false positive": "{with_finding} of {n}",
            },
        ),
        "depth": depth_table(),
        "glioblastoma": markdown(
            of_real("glioblastoma"),
            {
                "gene": "{symbol}",
                "log2 fold change": "{log_fc:.2f} ± {se:.2f}",
                "adjusted p": "{adj_p_value:.4f}",
                "lfsr": "{lfsr:.4f}",
                "patients of 5 with this sign": "{agree}",
            },
        ),
        "targets": markdown(
            of_real("targets"),
            {
                "gene": "{symbol}",
                "place by p": "{rank}",
                "log2 fold change": "{log_fc:.2f} ± {se:.2f}",
                "adjusted p": "{adj_p_value:.4f}",
                "patients of 5 with this sign": "{agree}",
            },
        ),
        "memory": markdown(
            load("group_effects_memory")["results"],
            {
                "cells": "{cells:,}",
                "file, MiB": "{file:,.0f}",
                "memory before, MiB": "{before:,.0f}",
                "peak, MiB": "{peak:,.0f}",
                "seconds of one core": "{seconds:.0f}",
            },
        ),
        "interferon": markdown(
            load("group_effects_interferon")["results"],
            {
                "type": "{state}",
                "donors": "{n_donors}",
                "with stimulated cells": "{stimulated}",
                "cells": "{n_cells}",
                "genes": "{genes:,}",
                "adjusted p < .05": "{found}",
                "of these all stimulated donors agree": "{agree}",
                "known ones among these": "{known_found} of {known}",
                "known ones among the first 20": "{known_of_20}",
                "first five": "{first}",
            },
        ),
        "aml": markdown(
            of_real("aml"),
            {
                "cells": "{state}",
                "donors": "{n_donors:.0f}",
                "depth ratio": "{depth_ratio:.2f}",
                "genes": "{genes:,}",
                "p < .05": "{below_05:.3f}",
                "adjusted p < .05": "{found}",
            },
        ),
    }


def of_real(data: str) -> list[dict]:
    return [row for row in load("group_effects_real")["results"] if row["data"] == data]


def summary(part: str) -> list[dict]:
    """Means over data sets, with standard errors, by design and method."""
    record = load(f"group_effects_{part}")
    results = pd.DataFrame(record["results"]).set_index("seed")
    rows = []
    for design in (design["name"] for design in record["designs"]):
        if design not in set(results["design"]):
            continue  # yet to run
        of_design = dict(iter(results[results["design"] == design].groupby("method")))
        ours = of_design["group_effects"]["true"]
        for method, name in METHODS.items():
            if method not in of_design:
                continue
            of = of_design[method]
            numbers = of[["below_05", "below_01", "true", "false", "genes", "with_effect"]]
            found = of["true"].sum() + of["false"].sum()
            fewer = (ours - of["true"]).dropna()
            paired = f"{fewer.mean():.1f} ± {fewer.sem():.1f}"
            best = of["true_of_best"]
            rows.append(
                {"design": design, "method": name, "n": len(of)}
                | numbers.mean().to_dict()
                | numbers.sem().add_suffix("_se").to_dict()
                | {"fdr": of["false"].sum() / max(found, 1)}
                | {"with_finding": int((of["false"] > 0).sum())}
                | {"fewer": "" if method == "group_effects" else paired}
                | {"more": f"{-fewer.mean():.1f} ± {fewer.sem():.1f}"}
                | {"finds_more": fewer.mean() < 0}
                | {"of_best": "" if best.isna().any() else f"{best.mean():.1f}"}
            )
    return rows


def better() -> list[dict]:
    """Methods that find more than ours, and what they find in the same design without effects."""
    without = {design.without_effects: design.name for design in NULL}
    null = {(row["design"], row["method"]): row for row in summary("null")}
    planted, found = pd.DataFrame(summary("planted")), []
    for design in PLANTED:
        of_design = planted[planted["design"] == design.name].set_index("method")
        for method, row in of_design[of_design["finds_more"]].iterrows():
            numbers = null[without[design.without_effects], method]
            found.append(numbers | {"design": design.name, "more": row["more"]})
    return found


def findings() -> list[dict]:
    """Null data sets with a false positive: in all designs, and in the unsymmetric ones."""
    results = pd.DataFrame(load("group_effects_null")["results"])
    symmetric = {design.name for design in NULL if design.is_symmetric}
    results["unequal"] = ~results["design"].isin(symmetric)
    keys, rows = ["design", "seed"], []
    ours = results[results["method"] == "group_effects"].set_index(keys)
    for method, name in METHODS.items():
        of_method = results[results["method"] == method]
        if of_method.empty:
            continue
        unequal = of_method[of_method["unequal"]]
        grouped = unequal.groupby("design")[["below_05", "below_01"]]
        above = grouped.mean() - 2 * grouped.sem() > [LEVEL, LEVEL / 5]
        rows.append(
            {
                "method": name,
                "all_designs": _share(of_method),
                "ours": _share(ours.loc[pd.MultiIndex.from_frame(of_method[keys])]),
                "unequal": _share(unequal),
            }
            | {f"above_{key[-2:]}": f"{of.sum()} of {len(of)}" for key, of in above.items()}
        )
    return rows


def _share(results: pd.DataFrame) -> str:
    found = results["false"] > 0
    return f"{found.sum()} of {len(found)} ({found.mean():.1%})"


def depth_table() -> str:
    results = pd.DataFrame(load("group_effects_depth")["results"])
    grouped = results.groupby(["method", "depth"], sort=False)
    rows = grouped[["below_05", "found", "genes"]].mean().reset_index().to_dict("records")
    return markdown(
        rows,
        {
            "method": "`tl.{method}`",
            "depth of one group": "{depth:g}",
            "p < .05": "{below_05:.3f}",
            "genes found per data set": "{found:.1f} of {genes:.0f}",
        },
    )
