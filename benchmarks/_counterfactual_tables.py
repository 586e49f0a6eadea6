"""Tables of the saved results of ``counterfactuals.py``."""

from __future__ import annotations

import numpy as np
import pandas as pd
from _record import load, markdown, saved
from scipy import stats

NAMES = {"aml": "AML", "onek1k": "OneK1K", "kang": "Kang", "glioblastoma": "Glioblastoma"}
WITH_CONTROLS = ("aml", "onek1k")
OURS, GIVEN = "RE", "RE with states given"
KINDS = (OURS, "scVI", "LEMUR", "MrVI", "baselines")  # in the order of the tables
SCORES = ["correlation", "slope", "error", "noise", "ceiling"]
INTERVALS = {
    "RE": "RE",
    "5 x RE": "5 RE",
    "mixed model of each gene (given cell types)": "MM",
}
OFF = 1e-4  # median absolute effect of a table whose prior has gone to its smallest scale


def tables() -> dict[str, str]:
    return {
        "held_out": scores("held out"),
        "seen": scores("seen"),
        "differences": differences(OURS),
        "differences_given": differences(GIVEN, ["mixed model (given cell types)"]),
        "fits": fits(),
        "swaps": swaps(),
        "controls": controls(),
        "silhouettes": silhouettes(),
    } | ({"simulated": simulated(), "intervals": intervals()} if _has_simulated() else {})


def results(name: str, kind: str) -> list[dict]:
    """What is saved of a part of a data set."""
    return [row for row in saved(f"counterfactuals_{name}") if row["kind"] == kind]


def with_results(*kinds: str) -> dict[str, str]:
    """Data sets of which at least one of these parts is saved, with their titles."""
    return {
        name: title for name, title in NAMES.items() if any(results(name, kind) for kind in kinds)
    }


def shifts(name: str) -> pd.DataFrame:
    """A row for each draw, seed, method and combination."""
    rows = [
        {"draw": result["draw"], "seed": result.get("seed", 0)} | shift
        for kind in KINDS
        for result in results(name, kind)
        for shift in result["shifts"]
    ]
    return pd.DataFrame(rows)


def per_combination(name: str) -> pd.DataFrame:
    """Scores of the combinations held out, averaged over the training seeds."""
    frame = shifts(name).query("regime == 'held out'")
    keys = ["draw", "cell_type", "target", "method"]
    return frame.groupby(keys, sort=False)[SCORES].mean().reset_index()


def scores(regime: str) -> str:
    rows = []
    for name, title in with_results(*KINDS).items():
        if regime == "seen":
            keys, frame = ["draw"], shifts(name).query("regime == 'seen'")
            frame = frame.groupby(["draw", "method"], sort=False)[SCORES].mean().reset_index()
        else:
            keys, frame = ["draw", "cell_type", "target"], per_combination(name)
        medians = frame.groupby("method", sort=False)[SCORES].median()
        n = len(frame.drop_duplicates(keys))
        for method, values in medians.iterrows():
            rows.append({"data": f"{title} ({n})", "method": method} | values.to_dict())
    title = "data (draws)" if regime == "seen" else "data (combinations)"
    columns = {title: "{data}", "method": "{method}"}
    columns |= {score: f"{{{score}:.2f}}" for score in SCORES}
    return markdown(rows, columns)


def differences(ours: str, others: list[str] | None = None) -> str:
    """One method minus each other, paired by combination, with 95% t intervals."""
    rows = []
    for name, title in with_results(OURS).items():
        frame = per_combination(name).set_index(["draw", "cell_type", "target", "method"])
        for method in others or frame.index.unique("method").drop([OURS, GIVEN]):
            row = {"data": title, "method": method}
            for score, sign in (("correlation", 1), ("error", -1)):
                values = frame[score].unstack("method")
                gain = (values[ours] - values[method]).dropna()
                low, high = interval(gain.to_numpy())
                by_draw = sign * gain.groupby("draw").mean() > 0
                row[score] = f"{gain.mean():+.3f} ({low:+.3f}, {high:+.3f})"
                row[f"{score}_draws"] = f"{by_draw.sum()} of {len(by_draw)}"
            rows.append(row)
    return markdown(
        rows,
        {
            "data": "{data}",
            f"{ours} minus": "{method}",
            "correlation (95%)": "{correlation}",
            "better draws": "{correlation_draws}",
            "error (95%)": "{error}",
            "better draws ": "{error_draws}",
        },
    )


def interval(values: np.ndarray) -> tuple[float, float]:
    """95% t interval of the mean over combinations."""
    return stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))


def fits() -> str:
    rows = []
    for name, title in with_results(OURS).items():
        fitted = results(name, OURS)
        content, pca = (pd.DataFrame([fit[key] for fit in fitted]) for key in ("content", "pca"))
        near = pd.DataFrame([fit["neighbours"] for fit in fitted])
        values = {
            "variance": [fit["variance"] / fit["pca_variance"] for fit in fitted],
            "gap": [fit["swap_gap"] for fit in fitted],
            "batch": content["batch_within_type"] / pca["batch_within_type"],
            "type": content["type"] / pca["type"],
            "near": near["observed"],
            "expected": near["expected"],
            "seconds": [fit["seconds"] for fit in fitted],
        }
        rows.append(
            {"data": f"{title} ({len(fitted)})"} | {k: _range(v) for k, v in values.items()}
        )
    return markdown(
        rows,
        {
            "data (fits)": "{data}",
            "variance, of PCA's": "{variance}",
            "swap gap": "{gap}",
            "batch within type from u, of PCA's excess": "{batch}",
            "cell type from u, of PCA's": "{type}",
            "same-batch neighbours in u": "{near}",
            "expected": "{expected}",
            "seconds": "{seconds}",
        },
    )


def swaps() -> str:
    rows = []
    for name, title in with_results(OURS).items():
        means = pd.DataFrame([fit["swaps"] for fit in results(name, OURS)]).mean()
        rows.append({"data": title} | means.to_dict())
    return markdown(
        rows,
        {
            "data": "{data}",
            "energy distance: swapped": "{energy_swapped:.2f}",
            "least squares": "{energy_least_squares:.2f}",
            "unswapped": "{energy_unswapped:.2f}",
            "round trip / reconstruction error": "{round_trip:.4f}",
            "type predicted: swapped": "{type_swapped:.2f}",
            "unswapped ": "{type_unswapped:.2f}",
            "cells of the target": "{type_target:.2f}",
        },
    )


def _controls() -> list[dict]:
    rows = []
    for name in WITH_CONTROLS:
        fitted = results(name, OURS)
        for control in results(name, "controls"):
            true = [fit for fit in fitted if fit["draw"] == control["draw"]]
            size = pd.DataFrame([fit["effect_sizes"] for fit in true]).mean()
            shuffled = pd.Series(control["effect_sizes"])
            off = (size < OFF) & (shuffled < OFF)
            rows.append(
                {
                    "data": NAMES[name],
                    **control,
                    "largest": (shuffled / size)[~off].max(),
                    "off": f"{off.sum()} of {len(off)}",
                    "re": np.mean([fit["latent"]["silhouette"] for fit in true]),
                    "pca": true[0]["pca"]["silhouette"],
                }
            )
    return rows


def controls() -> str:
    return markdown(
        _controls(),
        {
            "data": "{data}",
            "draw": "{draw}",
            "swap gap, shuffled labels": "{swap_gap:.4f}",
            "effects, of those under true labels: largest table": "{largest:.3f}",
            "tables off under both": "{off}",
        },
    )


def silhouettes() -> str:
    return markdown(
        _controls(),
        {
            "data": "{data}",
            "draw": "{draw}",
            "RE": "{re:.3f}",
            "RE with classifier": "{with_classifier:.3f}",
            "RE, shuffled labels": "{silhouette:.3f}",
            "the same, by the shuffled labels": "{silhouette_of_its_labels:.3f}",
            "PCA": "{pca:.3f}",
            "AE": "{AE:.3f}",
            "AE, axes of the expression": "{AE_expression:.3f}",
            "FE": "{FE:.3f}",
            "FE, axes of the expression": "{FE_expression:.3f}",
        },
    )


def simulated() -> str:
    frame = _simulated("recovery")
    means = frame.groupby(["scale", "method"], sort=False).mean(numeric_only=True).reset_index()
    return markdown(
        means.sort_values("scale", kind="stable").to_dict("records"),
        {
            "cells": "{cells:,.0f}",
            "method": "{method}",
            "correlation": "{correlation:.2f}",
            "slope": "{slope:.2f}",
            "relative error": "{relative_error:.2f}",
        },
    )


def _has_simulated() -> bool:
    return bool(saved("counterfactuals_simulated"))


def _simulated(kind: str) -> pd.DataFrame:
    frame = pd.DataFrame(load("counterfactuals_simulated")["results"])
    return frame[frame["kind"] == kind]


def intervals() -> str:
    frame = _simulated("intervals")
    cells = frame.groupby("scale")["cells"].mean()
    grouped = frame.groupby(["scale", "stratum", "method"], sort=False)[["coverage", "winkler"]]
    table = grouped.mean().unstack("method")
    rows = [
        {"cells": cells[scale], "stratum": stratum}
        | {f"{score} of {INTERVALS[method]}": row[score, method] for score, method in table}
        for (scale, stratum), row in table.sort_index(
            level="scale", sort_remaining=False
        ).iterrows()
    ]
    return markdown(
        rows,
        {
            "cells": "{cells:,.0f}",
            "shifts": "{stratum}",
            "coverage: RE": "{coverage of RE:.2f}",
            "5 RE": "{coverage of 5 RE:.2f}",
            "mixed model": "{coverage of MM:.2f}",
            "Winkler score: RE": "{winkler of RE:.3f}",
            "5 RE ": "{winkler of 5 RE:.3f}",
            "mixed model ": "{winkler of MM:.3f}",
        },
    )


def _range(values) -> str:
    low, high = min(values), max(values)
    digits = 0 if low > 10 else 2
    return f"{low:.{digits}f}-{high:.{digits}f}"
