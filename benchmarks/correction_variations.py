"""What each mechanism of FE is worth, and what the weight of its adversary trades.

python benchmarks/correction_variations.py run mechanisms weights   # either or both
python benchmarks/correction_variations.py run mechanisms kang pig  # some data sets only
python benchmarks/correction_variations.py figure                   # draws the trade-off
python benchmarks/correction_variations.py                          # prints the table

FE is trained without a mechanism, or with another weight of the adversary, and scored as in
correction.py. Seeds of training are kept for the design: none is judged there. ``run`` writes
``results/correction_variations.json`` after every fit, and leaves out what is saved.
"""

from __future__ import annotations

import sys
import time
import warnings

import matplotlib.pyplot as plt
import pandas as pd
import scvi
import torch
from _record import ROOT, SOURCE, markdown, save, saved
from correction import DATA_SETS, TITLES, DataSet, load_cells, score

import scmedal_tools as smt

SEEDS = (10, 11)
NAMES = ("kang", "mixology", "pig", "onek1k")
FIGURE = ROOT / "docs" / "_static" / "adversary_weight.svg"
FULL = "default"
# Arguments of the model and of its training plan.
MECHANISMS = {
    FULL: ({}, {}),
    "one step of the adversary": ({}, {"adversary_steps": 1}),
    "one step, at three times the learning rate": (
        {},
        {"adversary_steps": 1, "adversary_lr": 3e-3},
    ),
    "no dropout in the adversary": ({"adversary_dropout": 0.0}, {}),
    "one step, no dropout in the adversary": ({"adversary_dropout": 0.0}, {"adversary_steps": 1}),
    "no input dropout": ({"input_dropout": 0.0}, {}),
    "decoder not given the batch": ({"decoder": "tied"}, {}),
    "no adversary": ({"adversary_weight": 0.0}, {}),
}
WEIGHTS = {
    f"weight {value}": ({"adversary_weight": float(value)}, {}) for value in (5, 10, 40, 80)
}
GROUPS = {"mechanisms": MECHANISMS, "weights": WEIGHTS}
RECORD = "correction_variations"
MEASURES = ("iLISI", "KBET", "Batch correction", "Bio conservation", "Total")
MEASURES += ("forest: batch within type, excess",)


def embed(adata, data_set: DataSet, seed: int, model_kwargs: dict, plan_kwargs: dict):
    scvi.settings.seed = seed
    smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key=data_set.batch_key)
    model = smt.model.SCMEDAL_FE(adata, **model_kwargs)
    model.train(plan_kwargs=plan_kwargs, enable_progress_bar=False)
    return model.get_latent_representation()


def run(name: str, variants: dict[str, tuple[dict, dict]], seed: int) -> None:
    """Train, embed and score what is not saved yet."""
    done = {(row["data"], row["variant"], row["seed"]) for row in saved(RECORD)}
    variants = {v: kwargs for v, kwargs in variants.items() if (name, v, seed) not in done}
    adata = load_cells(DATA_SETS[name]) if variants else None
    for variant, kwargs in variants.items():
        start = time.perf_counter()
        embedding = embed(adata, DATA_SETS[name], seed, *kwargs)
        seconds = round(time.perf_counter() - start)
        values = score(adata, DATA_SETS[name], embedding)
        row = {"data": name, "variant": variant, "seed": seed, "seconds": seconds}
        row |= {"commit": SOURCE["commit"]} | {key: values[key] for key in MEASURES}
        save(RECORD, [*saved(RECORD), row])
        print(row, flush=True)


def means() -> pd.DataFrame:
    """Means over the seeds, by data set and variant."""
    rows = pd.DataFrame(saved(RECORD))
    return rows.groupby(["data", "variant"], sort=False)[list(MEASURES)].mean()


def tables() -> dict[str, str]:
    """The default's scores, and the change of each without a mechanism."""
    found = means()
    names = [name for name in NAMES if name in found.index.get_level_values("data")]
    shown = ("iLISI", "Bio conservation", "Total")
    measures = {(name, m): f"{name}: {TITLES[m]}" for name in names for m in shown}
    lines = []
    for variant in (*MECHANISMS, *WEIGHTS):
        line = {"variant": variant}
        for number, (name, measure) in enumerate(measures):
            value = found[measure].get((name, variant))
            if variant == FULL:
                line[f"x{number}"] = f"{value:.2f}"
            else:
                change = None if value is None else value - found[measure][name, FULL]
                line[f"x{number}"] = "" if change is None else f"{change:+.2f}"
        lines.append(line)
    columns = {title: f"{{x{number}}}" for number, title in enumerate(measures.values())}
    return {"mechanisms": markdown(lines, {"": "{variant}"} | columns)}


def figure() -> None:
    """Batch correction against biology, by the weight of the adversary."""
    found = means()
    weights = {"no adversary": 0, "weight 5": 5, "weight 10": 10, FULL: 20}
    weights |= {"weight 40": 40, "weight 80": 80}
    names = [name for name in NAMES if name in found.index.get_level_values("data")]
    size, shared = (3.2 * len(names), 3.2), {"sharex": True, "sharey": True}
    figure, axes = plt.subplots(1, len(names), figsize=size, layout="constrained", **shared)
    for axis, name in zip(axes, names, strict=True):
        of_data = found.loc[name].reindex(list(weights)).dropna()
        batch, biology = of_data["Batch correction"], of_data["Bio conservation"]
        axis.plot(batch, biology, "o-", color="#0072B2")
        for variant, *point in zip(of_data.index, batch, biology, strict=True):
            text = {"xytext": (4, 4), "textcoords": "offset points", "fontsize": 8}
            axis.annotate(weights[variant], point, **text)
        axis.set(title=name.capitalize(), xlabel="batch correction", ylim=(0.6, 1.0))
    axes[0].set_ylabel("biology")
    figure.savefig(FIGURE)


if __name__ == "__main__":
    smt.train.quiet()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        names = [name for name in sys.argv[2:] if name in DATA_SETS] or NAMES
        for seed in SEEDS:
            for group in (name for name in sys.argv[2:] if name in GROUPS):
                for name in names:
                    run(name, GROUPS[group], seed)
    elif sys.argv[1:2] == ["figure"]:
        figure()
    else:
        print(tables()["mechanisms"])
