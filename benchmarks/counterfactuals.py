"""RE's counterfactuals against measured differences between batches, beside baselines.

python benchmarks/counterfactuals.py run aml onek1k kang glioblastoma simulated
python benchmarks/counterfactuals.py run aml:baselines   # one part only: RE, scVI, ...
python benchmarks/counterfactuals.py                     # prints the tables

With a folder named by SCMEDAL_NETWORKS trained networks of RE are kept there and taken up;
``train`` does nothing else.
``run`` writes ``results/counterfactuals_<name>.json`` after every fit, and leaves out what this
commit has saved there. Draws 0 to 6 of the AML combinations served the design.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scvi
import torch
from _counterfactual_tables import GIVEN, WITH_CONTROLS, tables
from _data_sets import DATA_SETS, DataSet, load_cells, select_genes
from _intervals import interval_scores
from _latents import (
    forest_accuracy,
    readable_within,
    same_batch_neighbours,
    silhouette_within,
)
from _networks import weights_of, with_network
from _oracle import oracle_recovery
from _record import SOURCE, save, saved
from scvi.external import MRVI
from sklearn.decomposition import PCA

import scmedal_tools as smt
from scmedal_tools.bm import per_combination

if TYPE_CHECKING:
    import anndata as ad

SEEDS = (0, 1, 2)
NETWORKS = Path(os.environ["SCMEDAL_NETWORKS"]) if "SCMEDAL_NETWORKS" in os.environ else None
CLASSIFIER_WEIGHT = 10.0  # nats per cell
N_NETWORKS = 5  # of an ensemble
ORACLE = "oracle (given all but the effects)"


class Judge:
    """One split of a data set, and what is measured on it."""

    def __init__(self, cells: ad.AnnData, data_set: DataSet, draw: int, combinations):
        self.keys = {"batch_key": data_set.batch_key, "labels_key": data_set.labels_key}
        self.parts, self.held_out = smt.train.hold_out_combinations(
            cells.obs,
            *self.keys.values(),
            combinations,
            min_cells=data_set.min_cells,
            sizes=data_set.sizes,
            seed=draw,
        )
        self.train, _, test = self.parts
        self.adata = select_genes(cells, data_set, self.train)
        pairs = pd.MultiIndex.from_frame(self.adata.obs[list(self.keys.values())].astype(str))
        self.test, self.test_seen = test, test[~pairs.isin(self.held_out)[test]]
        self.batches, self.labels = (
            self.adata.obs[key].astype(str).to_numpy() for key in self.keys.values()
        )
        expression = self.adata.X.toarray()
        components = PCA(50, random_state=0).fit(expression[self.train])
        self.pca = components.transform(expression)
        self.x_test = expression[self.test_seen]
        self.pca_variance = self.variance(components.inverse_transform(self.pca[self.test_seen]))
        self.of_pca = self.latent(self.pca)

    def with_network(self, weights: dict, **columns: str) -> smt.model.SCMEDAL_RE:
        """RE with a trained network, finished on the training cells."""
        return with_network(weights, self.adata, self.parts, self.keys["batch_key"], **columns)

    def variance(self, reconstruction: np.ndarray) -> float:
        centred = self.x_test - np.asarray(self.adata.X[self.train].mean(0)).ravel()
        return float(1 - np.square(self.x_test - reconstruction).sum() / np.square(centred).sum())

    def latent(self, latent: np.ndarray) -> dict[str, float]:
        """How well a latent predicts batch (within cell type) and type, on seen test cells."""
        of = (latent, self.batches, self.labels, self.train, self.test_seen)
        return {
            "batch_within_type": readable_within(*of),
            "type": forest_accuracy(latent, self.labels, self.train, self.test_seen),
            "silhouette": silhouette_within(*of),
        }

    def shifts(self, methods: dict, *, baselines: bool) -> list[dict]:
        """Scores of every combination held out, and medians of those seen."""
        common = {"test": self.test, "train": self.train, "progress": False}
        options = common | {"baselines": baselines}
        shifts = smt.bm.counterfactual_shift(methods, self.adata, **self.keys, **options)
        rows = per_combination(shifts)
        held_out = rows[rows["regime"] == "held out"]
        seen = rows[rows["regime"] == "seen"].groupby("method").median(numeric_only=True)
        seen = seen.reset_index().assign(regime="seen")
        return pd.concat([held_out, seen]).replace({np.nan: None}).to_dict("records")


def fit(judge: Judge, cls, seed: int, columns: dict | None = None, **settings):
    scvi.settings.seed = seed
    cls.setup_anndata(judge.adata, **{"batch_key": judge.keys["batch_key"]} | (columns or {}))
    model = cls(judge.adata, **settings)
    start = time.perf_counter()
    model.train(datasplitter_kwargs={"external_indexing": judge.parts}, enable_progress_bar=False)
    return model, round(time.perf_counter() - start)


def trained_re(judge: Judge, seed: int) -> tuple[smt.model.SCMEDAL_RE, dict]:
    """RE, whose network is taken from the folder of networks if it is there, and its facts."""
    folder = NETWORKS / f"{judge.name}_{seed}" if NETWORKS else None
    if folder is None or not folder.exists():
        model, seconds = fit(judge, smt.model.SCMEDAL_RE, seed)
        facts = {"seed": seed, "seconds": seconds, "epochs": len(model.history["train_loss"])}
        if folder is not None:
            folder.mkdir(parents=True)
            torch.save({"facts": facts, "weights": weights_of(model)}, folder / "network.pt")
        return model, facts
    kept = torch.load(folder / "network.pt")
    return judge.with_network(kept["weights"]), kept["facts"]


def judge_re(judge: Judge, seed: int) -> tuple[dict, list[dict]]:
    model, facts = trained_re(judge, seed)
    diagnostics = smt.tl.effects_diagnostics(model, indices=judge.test_seen)
    reconstruction = model.get_reconstruction(indices=judge.test_seen, return_numpy=True)
    swaps = smt.bm.swap_quality(model, judge.adata, **judge.keys, progress=False)
    per_target = swaps.groupby(["cell_type", "target"]).median(numeric_only=True)
    content = model.get_latent_representation(kind="content")
    latent = judge.latent(model.get_latent_representation())
    shares = same_batch_neighbours(content, judge.batches, judge.labels, judge.test_seen)
    facts |= {
        "variance": judge.variance(reconstruction),
        "pca_variance": judge.pca_variance,
        "swap_gap": diagnostics.swap_gap,
        "effect_sizes": {".".join(k): v for k, v in diagnostics.tables["size"].items()},
        "content": judge.latent(content),
        "latent": latent,
        "pca": judge.of_pca,
        "neighbours": dict(zip(("observed", "expected"), shares, strict=True)),
        "swaps": per_target.median().to_dict(),
        "held_out": judge.held_out,
    }
    shifts = judge.shifts({"RE": model}, baselines=False)
    columns = {"states_key": judge.keys["labels_key"]}
    given = judge.with_network(weights_of(model), **columns)
    return facts, shifts + judge.shifts({GIVEN: given}, baselines=False)


def controls(judge: Judge) -> dict:
    """RE with shuffled labels, RE with a batch classifier, and the latents of FE and AE."""
    key = judge.keys["batch_key"]
    shuffled = np.random.default_rng(0).permutation(judge.adata.obs[key].to_numpy())
    judge.adata.obs["shuffled"] = pd.Categorical(shuffled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says, rightly, that the effects have collapsed
        model, _ = fit(judge, smt.model.SCMEDAL_RE, 0, {"batch_key": "shuffled"})
    diagnostics = smt.tl.effects_diagnostics(model, indices=judge.test_seen)

    def silhouette(latent: np.ndarray, batches: np.ndarray = judge.batches) -> float:
        return silhouette_within(latent, batches, judge.labels, judge.train, judge.test_seen)

    latent = model.get_latent_representation()
    result = {
        "swap_gap": diagnostics.swap_gap,
        "effect_sizes": {".".join(k): v for k, v in diagnostics.tables["size"].items()},
        "silhouette": silhouette(latent),
        "silhouette_of_its_labels": silhouette(latent, shuffled.astype(str)),
    }
    model, _ = fit(judge, smt.model.SCMEDAL_RE, 0, batch_weight=CLASSIFIER_WEIGHT)
    result["with_classifier"] = silhouette(model.get_latent_representation())
    plain = {"adversary_weight": 0.0, "decoder": "tied", "input_dropout": 0.0}
    for name, settings in {"FE": {}, "AE": plain}.items():
        model, _ = fit(judge, smt.model.SCMEDAL_FE, 0, **settings)
        result[name] = silhouette(model.get_latent_representation())
        # In the coordinates in which RE returns its latents.
        reconstruction = model.get_corrected_expression(return_numpy=True)
        components = PCA(50, random_state=0).fit(reconstruction[judge.train])
        result[f"{name}_expression"] = silhouette(components.transform(reconstruction))
    return result


def judge_scvi(judge: Judge) -> tuple[dict, list[dict]]:
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(judge.adata, layer="counts", batch_key=judge.keys["batch_key"])
    model = scvi.model.SCVI(judge.adata, n_layers=2, gene_likelihood="nb")
    facts = train_on_counts(judge, model, max_epochs=200)
    method = smt.bm.scvi_counterfactual(model, judge.adata.obs["total_counts"].to_numpy())
    return facts, judge.shifts({"scVI": method}, baselines=False)


def judge_mrvi(judge: Judge) -> tuple[dict, list[dict]]:
    """MrVI with its authors' settings."""
    scvi.settings.seed = 0
    MRVI.setup_anndata(judge.adata, layer="counts", sample_key=judge.keys["batch_key"])
    model = MRVI(judge.adata)
    facts = train_on_counts(judge, model, max_epochs=100, batch_size=256)
    method = smt.bm.mrvi_counterfactual(model, judge.adata.obs["total_counts"].to_numpy())
    return facts, judge.shifts({"MrVI": method}, baselines=False)


def train_on_counts(judge: Judge, model, **settings) -> dict:
    start = time.perf_counter()
    model.train(
        datasplitter_kwargs={"external_indexing": judge.parts},
        early_stopping=True,
        early_stopping_patience=15,
        enable_progress_bar=False,
        **settings,
    )
    seconds = round(time.perf_counter() - start)
    return {"seconds": seconds, "epochs": len(model.history["train_loss"])}


def judge_lemur(judge: Judge) -> tuple[dict, list[dict]]:
    """LEMUR with its authors' settings, aligned to Harmony's soft clusters of its embedding.

    Its own alignment by Harmony fails with harmonypy 2 (pylemur 0.3.1).
    """
    import harmonypy
    from pylemur.tl import LEMUR

    key = judge.keys["batch_key"]
    start = time.perf_counter()
    model = LEMUR(judge.adata[judge.train], design=f"~ {key}", n_embedding=15).fit(verbose=False)
    harmony = harmonypy.run_harmony(model.embedding, model.adata.obs, key, verbose=False)
    model.align_with_grouping(harmony.R.T, verbose=False)
    facts = {"seconds": round(time.perf_counter() - start)}
    method = smt.bm.lemur_counterfactual(model, judge.adata, key)
    return facts, judge.shifts({"LEMUR": method}, baselines=False)


PARTS = {
    "RE": judge_re,
    "scVI": lambda judge, seed: judge_scvi(judge),
    "LEMUR": lambda judge, seed: judge_lemur(judge),
    "MrVI": lambda judge, seed: judge_mrvi(judge),
    "baselines": lambda judge, seed: ({}, judge.shifts({}, baselines=True)),
    "controls": lambda judge, seed: (controls(judge), []),
}
OF_ALL_SEEDS = ("RE",)


def run(name: str, parts: list[str]) -> None:
    """Do what this commit has not saved of some parts; other results are kept."""
    data_set = DATA_SETS[name]
    file = f"counterfactuals_{name}"
    results = {(row["kind"], row["draw"], row.get("seed", 0)): row for row in saved(file)}
    cells = load_cells(data_set)
    for draw, combinations in data_set.draws:
        keys = [(part, draw, seed) for part in parts
                for seed in (SEEDS if part in OF_ALL_SEEDS else (0,))]  # fmt: skip
        keys = [key for key in keys if not is_current(results.get(key))]
        judge = Judge(cells, data_set, draw, combinations) if keys else None
        if judge is not None:
            judge.name = f"{name}_{draw}"
        for part, _, seed in keys:
            facts, shifts = PARTS[part](judge, seed)
            made_by = {"kind": part, "draw": draw, "commit": SOURCE["commit"]}
            results[part, draw, seed] = made_by | facts | {"shifts": shifts}
            save(file, list(results.values()), data=data_set.file)
            print(name, draw, part, facts, flush=True)


def train(name: str) -> None:
    """Train the networks of a data set, which ``run`` finds in the folder of networks."""
    data_set = DATA_SETS[name]
    cells = load_cells(data_set)
    for seed, (draw, combinations) in product(SEEDS, data_set.draws):
        judge = Judge(cells, data_set, draw, combinations)
        judge.name = f"{name}_{draw}"
        print(name, draw, trained_re(judge, seed)[1], flush=True)


def is_current(row: dict | None) -> bool:
    """Whether a result is of the commit that runs, which has to be all that runs."""
    if row is None or SOURCE["uncommitted_changes"]:
        return False
    return row["commit"] == SOURCE["commit"]


def run_simulated(scales: list[str]) -> None:
    """Recovery of known effects, of a network and of an ensemble; the latter up to scale 1."""
    file = "counterfactuals_simulated"
    results = [row for row in saved(file) if f"{row['scale']:g}" not in scales]
    for scale, seed in product(map(float, scales), SEEDS):
        adata = smt.datasets.simulated(cell_scale=scale, seed=seed)
        smt.pp.preprocess(adata, batch_key="donor")
        made_with = {
            "scale": scale,
            "seed": seed,
            "cells": adata.n_obs,
            "commit": SOURCE["commit"],
        }
        networks = []
        for number in range(N_NETWORKS if scale <= 1 else 1):
            scvi.settings.seed = seed + 100 * number
            smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
            networks.append(smt.model.SCMEDAL_RE(adata))
            networks[-1].train(enable_progress_bar=False)
        rows = recovery_scores(networks, adata, with_oracle=scale >= 1)
        if scale <= 1:
            rows += [{"kind": "intervals"} | row for row in interval_scores(networks, adata)]
        results += [made_with | row for row in rows]
        save(file, results)
        print(scale, seed, rows, flush=True)


def recovery_scores(networks: list, adata: ad.AnnData, *, with_oracle: bool) -> list[dict]:
    """Medians over all shifts: of each network, of all together, and of what stands beside.

    The oracle takes the noise of each gene and type from the data, for which small ones are too
    small.
    """
    recovery = [smt.bm.effect_recovery(model, adata).assign(network=i)
                for i, model in enumerate(networks)]  # fmt: skip
    ours = [table[table["method"] == "RE"] for table in recovery]
    others = recovery[0][recovery[0]["method"] != "RE"]
    if len(networks) > 1:
        together = smt.bm.effect_recovery(networks, adata)
        ours.append(together[together["method"].str.endswith("RE")])
    oracle = [pd.DataFrame(oracle_recovery(adata)).assign(method=ORACLE)] if with_oracle else []
    keys = ["method", "network"]
    medians = pd.concat([*ours, others, *oracle]).groupby(keys, dropna=False, sort=False)
    rows = medians.median(numeric_only=True).reset_index().replace({np.nan: None})
    return [{"kind": "recovery"} | row for row in rows.to_dict("records")]


if __name__ == "__main__":
    smt.train.quiet()
    torch.set_num_threads(1)  # so that two data sets can run side by side
    for argument in sys.argv[2:] if sys.argv[1:2] == ["run"] else ():
        name, *parts = argument.split(":")
        if name == "simulated":
            run_simulated(parts or ["0.25", "1", "4"])
        else:
            run(name, parts or [p for p in PARTS if p != "controls" or name in WITH_CONTROLS])
    for name in sys.argv[2:] if sys.argv[1:2] == ["train"] else ():
        train(name)
    if sys.argv[1:2] not in (["run"], ["train"]):
        for text in tables().values():
            print(text, end="\n\n")
