"""What each mechanism of RE is worth: held-out shifts without it, on draws kept for the design.

python benchmarks/ablations.py run gene_model network shuffled   # one, or several
python benchmarks/ablations.py                          # prints the table

*gene_model*: the same networks, with another mixed model of the genes. *network*: networks
trained without a mechanism. *shuffled*: networks trained on shuffled batches, whose effects should
vanish, with and without three of the mechanisms. No draw of these is judged in
counterfactuals.py. Networks of *gene_model* are kept in the folder that SCMEDAL_NETWORKS names, if
there is one. Results: ``results/ablations.json``.
"""

from __future__ import annotations

import math
import sys
import warnings
from contextlib import ExitStack, contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import pandas as pd
import scvi
import torch
from _data_sets import DATA_SETS, KANG_TYPES, DataSet, load_cells
from _networks import weights_of
from _record import RESULTS, SOURCE, load, markdown, save, saved
from counterfactuals import Judge, trained_re

import scmedal_tools as smt
from scmedal_tools._gene_model import (
    _effects,
    _group_sums,
    _probability_of_following,
    _states,
)
from scmedal_tools.model import _fit_gene_effects
from scmedal_tools.module import REModule
from scmedal_tools.train import DivergedError, _natural_gradient, _re_plan
from scmedal_tools.train._natural_gradient import NaturalGradient

DESIGN = {
    "aml": DATA_SETS["aml"]._replace(draws=[(draw, 6) for draw in (0, 4, 5, 6)]),
    "onek1k": DATA_SETS["onek1k"]._replace(draws=[(0, 20)]),
    "kang": DATA_SETS["kang"]._replace(
        draws=[(10 + i, [("ctrl", name)]) for i, name in enumerate(KANG_TYPES)]
    ),
    "pig": DataSet(
        "cf_pig_airway_aggregatebiovar.h5ad",
        "donor",
        None,
        (0.6, 0.1, 0.3),
        [(draw, 5) for draw in (0, 1)],
        30,
    ),
    "mixology": DataSet(
        "mixology_tian2019_celllines.h5ad",
        "batch",
        2000,
        (0.6, 0.1, 0.3),
        [(draw, 3) for draw in (0, 1)],
        20,
    ),
}
FULL = "default"
MEASURES = ("correlations", "errors")
RIVAL = "mixed model (Harmony clusters)"
OF_TYPES = "mixed model (given cell types)"


@contextmanager
def constants(**values):
    """Context in which names of modules have other values, by module__name."""
    modules = {
        "finishing": _fit_gene_effects,
        "guess": _probability_of_following,
        "effects": _effects,
        "states": _states,
        "sums": _group_sums,
    }
    with ExitStack() as stack:
        for name, value in values.items():
            module, _, attribute = name.partition("__")
            stack.enter_context(patch.object(modules[module], attribute, value))
        yield


def plain_clusters(content, levels, n_clusters, seed=0):
    """k-means on the content as it is."""
    from sklearn.cluster import KMeans

    return KMeans(n_clusters, n_init=3, random_state=seed).fit_predict(content)


def always(alone, *_):
    return np.ones(alone[0].loc.shape[2])


def uncorrelated(profiles):
    return torch.eye(len(profiles), dtype=torch.double)


# The share of the network's guess is read in three modules.
GUESS = ("guess__NETWORK_SHARE", "finishing__NETWORK_SHARE", "effects__NETWORK_SHARE")
GENE_MODEL = {
    FULL: {},
    "no network's guess": dict.fromkeys(GUESS, 0.0),
    "the network's guess in full": dict.fromkeys(GUESS, 1.0),
    "every gene follows the guess": {"finishing__probability_of_following": always},
    "states by k-means, without Harmony": {"states__harmony_clusters": plain_clusters},
    "states uncorrelated": {"finishing__state_correlation": uncorrelated},
    "all differences within a state are composition": {"finishing__SHARE_IN_FOUND_STATES": 0.0},
    "all differences within a state are effects": {"finishing__SHARE_IN_FOUND_STATES": 1.0},
    "the same centres of states in all batches": {"states__PRIOR_CELLS": 1e9},
    "the same scale in all states": {"sums__PRIOR_DF": 1e9},
}
PLAIN = "one step and no dropout in the adversary, no decay"
NOT_WIDER, NOT_CENTRED = "no overdispersion of genes", "effects not centred"
NO_PRIOR = "no prior of the scales with few batches"
# Arguments of the model and of its training plan.
NETWORK = {
    FULL: ({}, {}),
    PLAIN: ({"adversary_dropout": 0.0}, {"adversary_steps": 1, "lr_decay": 0.0}),
    "no input dropout": ({"input_dropout": 0.0}, {}),
    "no adversary": ({"adversary_weight": 0.0}, {}),
    "no dropout in the adversary": ({"adversary_dropout": 0.0}, {}),
    "one step of the adversary": ({}, {"adversary_steps": 1}),
    "effects by Adam": ({}, {"effects_optimizer": "adam", "effects_lr": 1e-3}),
    "no decay of the learning rate": ({}, {"lr_decay": 0.0}),
    "scales by expectation-maximisation alone": ({}, {}),
    NOT_WIDER: ({}, {}),
    NOT_CENTRED: ({}, {}),
    NO_PRIOR: ({}, {}),
}
# What has no argument: where it is, its name, and what takes its place.
REPLACED = {
    "scales by expectation-maximisation alone": (_re_plan, "SETTLE_AFTER", math.inf),
    NOT_WIDER: (NaturalGradient, "_follow_squares", lambda *_: None),
    NOT_CENTRED: (REModule, "centre_effects", lambda *_: None),
    NO_PRIOR: (_natural_gradient, "ENOUGH_BATCHES", 0),
}
# What is trained with a second seed, too.
AGAIN = (FULL, NOT_WIDER, NO_PRIOR)
OF_NETWORK = {"kang": (10, 12), "mixology": (0, 1), "pig": (0, 1), "onek1k": (0,)}


def scores(judge: Judge, model) -> dict:
    """Of every held-out combination; variance explained, and the swap gap."""
    rows = pd.DataFrame(judge.shifts({"RE": model}, baselines=False))
    rows = rows[rows["regime"] == "held out"]
    reconstruction = model.get_reconstruction(indices=judge.test_seen, return_numpy=True)
    return {
        "correlations": rows["correlation"].tolist(),
        "errors": rows["error"].tolist(),
        "variance": judge.variance(reconstruction) / judge.pca_variance,
        "swap_gap": model.get_swap_gap(indices=judge.test_seen),
    }


def run_gene_model(judge: Judge, done: set[str], seed: int) -> list[dict]:
    missing = [variant for variant in GENE_MODEL if variant not in done]
    if not missing:
        return []
    model, _ = trained_re(judge, seed)
    weights = weights_of(model)
    rows = []
    for variant in dict.fromkeys([FULL, *missing]):  # the default of the same network
        with constants(**GENE_MODEL[variant]):
            other = judge.with_network(weights)
            rows.append({"variant": variant} | scores(judge, other))
    if done:
        return rows
    given = judge.with_network(weights, states_key=judge.keys["labels_key"])
    rows.append({"variant": "states given"} | scores(judge, given))
    baselines = pd.DataFrame(judge.shifts({}, baselines=True))
    baselines = baselines[baselines["regime"] == "held out"]
    for method in (RIVAL, OF_TYPES):
        of = baselines[baselines["method"] == method]
        found = {"correlations": of["correlation"].tolist(), "errors": of["error"].tolist()}
        rows.append({"variant": method} | found)
    return rows


def trained(judge: Judge, variant: str, batch_key: str, seed: int) -> smt.model.SCMEDAL_RE:
    """RE without a mechanism of its network."""
    settings, plan = NETWORK[variant]
    replaced = REPLACED.get(variant)
    scvi.settings.seed = seed
    with patch.object(*replaced) if replaced else nullcontext():
        smt.model.SCMEDAL_RE.setup_anndata(judge.adata, batch_key)
        model = smt.model.SCMEDAL_RE(judge.adata, **settings)
        model.train(
            datasplitter_kwargs={"external_indexing": judge.parts},
            plan_kwargs=plan,
            enable_progress_bar=False,
        )
    return model


def run_network(judge: Judge, done: set[str], seed: int) -> list[dict]:
    rows = []
    has_few = len(np.unique(judge.batches)) < _natural_gradient.ENOUGH_BATCHES
    for variant in AGAIN if seed else NETWORK:
        if variant not in done and (has_few or variant != NO_PRIOR):
            try:
                model = trained(judge, variant, judge.keys["batch_key"], seed)
            except DivergedError as error:
                rows.append({"variant": variant, "diverged": str(error)})
                continue
            content = judge.latent(model.get_latent_representation(kind="content"))
            about = {
                "variant": variant,
                "epochs": len(model.history["train_loss"]),
                "content": content,
                "of_pca": judge.of_pca,
            }
            rows.append(about | scores(judge, model))
    return rows


def run_shuffled(judge: Judge, done: set[str], seed: int) -> list[dict]:
    rows = []
    batches = judge.adata.obs[judge.keys["batch_key"]].to_numpy()
    judge.adata.obs["shuffled"] = pd.Categorical(np.random.default_rng(0).permutation(batches))
    for variant in (FULL, PLAIN, NOT_WIDER, NOT_CENTRED):
        if variant not in done:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it says, rightly, that the effects collapsed
                model = trained(judge, variant, "shuffled", seed)
            diagnostics = smt.tl.effects_diagnostics(model, indices=judge.test_seen)
            sizes = {".".join(table): size for table, size in diagnostics.tables["size"].items()}
            row = {"variant": variant, "swap_gap": diagnostics.swap_gap, "effect_sizes": sizes}
            rows.append(row)
    return rows


SEEDS = {"network": (0, 1)}
RUN = {"gene_model": run_gene_model, "network": run_network, "shuffled": run_shuffled}


def run(kinds: list[str]) -> None:
    made_by = {"commit": SOURCE["commit"]}
    results = saved("ablations")
    for kind in kinds:
        for name, data_set in DESIGN.items():
            draws = None if kind == "gene_model" else OF_NETWORK.get(name, ())
            cells = load_cells(data_set)
            for draw, combinations in data_set.draws:
                if draws is not None and draw not in draws:
                    continue
                judge = Judge(cells, data_set, draw, combinations)
                judge.name = f"design_{name}_{draw}"
                for seed in SEEDS.get(kind, (0,)):
                    key = {"kind": kind, "data": name, "draw": draw, "seed": seed}
                    # The oldest rows are of seed 0, and do not say so.
                    done = {
                        row["variant"]
                        for row in results
                        if key.items() <= ({"seed": 0} | row).items()
                    }
                    results += [key | made_by | row for row in RUN[kind](judge, done, seed)]
                    save("ablations", results)
                    print(key, flush=True)


# With fewer than five batches the default learns the scales in this way too, and does not use the
# overdispersion.
EM_ALONE, FEW_BATCHES = "scales by expectation-maximisation alone", ("kang",)


def is_default(row: dict) -> bool:
    as_default = (FULL, EM_ALONE, NOT_WIDER) if row["data"] in FEW_BATCHES else (FULL,)
    return row["variant"] in as_default


def is_new(row: dict, rows: list[dict]) -> bool:
    """Whether a network is none of some others, trained once more with the same seed."""
    return all(row["correlations"] != other["correlations"] for other in rows)


def draw_of(row: dict, kind: str) -> tuple:
    """Data and draw; of gene models also the call, in which all have the same network."""
    return row["data"], row["draw"], *([row["commit"]] if kind == "gene_model" else [])


def tables() -> dict[str, str]:
    """Changes from the default on the same draw.

    Gene models are compared on the same network. Networks are compared with the mean of all
    default networks of the draw, which were trained in several calls.
    """
    results = load("ablations")["results"]
    scored = [row for row in results if "correlations" in row]
    tables = {}
    for kind in ("gene_model", "network"):
        of_kind = [row for row in scored if row["kind"] == kind]
        defaults: dict[tuple, list[dict]] = {draw_of(row, kind): [] for row in of_kind}
        for row in scored if kind == "network" else of_kind:
            rows = defaults.get(draw_of(row, kind))
            if rows is not None and is_default(row) and is_new(row, rows):
                rows.append(row)
        names = [name for name in DESIGN if any(draw[0] == name for draw in defaults)]
        lines = [full_row(defaults, names)]
        variants = [row for row in of_kind if not is_default(row)]
        for variant in dict.fromkeys(row["variant"] for row in variants):
            rows = [row for row in variants if row["variant"] == variant]
            pairs = [(row, defaults[draw_of(row, kind)]) for row in rows]
            lines.append(changes(variant, pairs, names))
        if kind == "network":
            lines.append(seed_noise(defaults, names))
        columns = {"": "{variant}"}
        for name in names:
            columns |= {f"{name}: {key[:-1]}": f"{{{name}_{key}}}" for key in MEASURES}
        tables[kind] = markdown(lines, columns)
    return tables | {"content": of_content(results), "shuffled": of_shuffled(results)}


def of_content(results: list[dict]) -> str:
    """What else changes in a network, of those whose content was looked at; shares of PCA's."""
    lines = [
        row | {f"{key}_share": row["content"][key] / row["of_pca"][key] for key in row["content"]}
        for row in results
        if row["kind"] == "network" and "content" in row
    ]
    columns = {
        "data": "{data}",
        "draw": "{draw}",
        "variant": "{variant}",
        "batch within type from u, of PCA's excess": "{batch_within_type_share:.2f}",
        "cell type from u, of PCA's": "{type_share:.2f}",
        "variance, of PCA's": "{variance:.3f}",
        "swap gap": "{swap_gap:.3f}",
    }
    return markdown(lines, columns)


def of_shuffled(results: list[dict]) -> str:
    """Swap gap of networks that were trained on shuffled batches."""
    lines = [row for row in results if row["kind"] == "shuffled"]
    columns = {"data": "{data}", "draw": "{draw}", "variant": "{variant}"}
    return markdown(lines, columns | {"swap gap": "{swap_gap:.4f}"})


def mean_of(rows: list[dict], key: str) -> np.ndarray:
    """Score of each combination of a draw, mean over networks."""
    return np.mean([row[key] for row in rows], axis=0)


def full_row(defaults: dict[tuple, list[dict]], names: list[str]) -> dict:
    """Means over all combinations of a data set, with equal weights."""
    line = {"variant": FULL}
    for name in names:
        for key in MEASURES:
            values = [mean_of(rows, key) for draw, rows in defaults.items() if draw[0] == name]
            line[f"{name}_{key}"] = f"{np.concatenate(values).mean():.3f}"
    return line


def changes(variant: str, pairs: list[tuple[dict, list[dict]]], names: list[str]) -> dict:
    """Mean change of a variant from the defaults on the same draws."""
    line = {"variant": variant}
    for name in names:
        for key in MEASURES:
            changed = [
                np.subtract(row[key], mean_of(defaults, key))
                for row, defaults in pairs
                if row["data"] == name
            ]
            line[f"{name}_{key}"] = f"{np.concatenate(changed).mean():+.3f}" if changed else ""
    return line


def seed_noise(defaults: dict[tuple, list[dict]], names: list[str]) -> dict:
    """Standard deviation of such changes when nothing but the training differs.

    Variances are of the three seeds of counterfactuals.py where it has the data set, otherwise
    of the default networks of a draw.
    """
    line = {"variant": "*s.d. of a change by the training alone*"}
    for name in names:
        n_networks = [len(rows) for draw, rows in defaults.items() if draw[0] == name]
        of_mean = np.sum([1 + 1 / n for n in n_networks]) / len(n_networks) ** 2
        for key in MEASURES:
            variance = seed_variance(name, key) or replicate_variance(name, key, defaults)
            line[f"{name}_{key}"] = f"{(variance * of_mean) ** 0.5:.3f}"
    return line


def seed_variance(name: str, key: str) -> float | None:
    """Of a draw's mean over training seeds; none if the data set has not been trained so."""
    if not (RESULTS / f"counterfactuals_{name}.json").exists():
        return None
    fits = pd.DataFrame(
        {"draw": fit["draw"], "seed": fit.get("seed")} | shift
        for fit in load(f"counterfactuals_{name}")["results"]
        for shift in fit.get("shifts", [])
        if shift["method"] == "RE" and shift["regime"] == "held out"
    )
    of_fits = fits.groupby(["draw", "seed"])[key[:-1]].mean()
    return of_fits.groupby("draw").var().mean()


def replicate_variance(name: str, key: str, defaults: dict[tuple, list[dict]]) -> float:
    """Of a draw's mean over its default networks."""
    draws = [rows for draw, rows in defaults.items() if draw[0] == name]
    return float(np.mean([np.var([np.mean(row[key]) for row in rows], ddof=1) for rows in draws]))


if __name__ == "__main__":
    smt.train.quiet()
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run(sys.argv[2:] or list(RUN))
    else:
        for title, table in tables().items():
            print(f"{title}\n{table}\n")
