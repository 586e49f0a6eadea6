"""Speed of training and of what follows it, next to bare loops and to scVI.

python benchmarks/speed.py run         # writes results/speed.json
python benchmarks/speed.py run 2 aml   # the same with other numbers of rounds, and data sets
python benchmarks/speed.py             # prints the tables

One process and one thread, in seconds of the processor. In every round all cases take turns, so
that they share the load of the machine: compare within a round; the tables have medians of these
ratios. Training is timed per epoch, validation included and the first epoch left out, apart from
what comes before the first step and after the last.

The floor is the same module and the same step, cells dense in memory, in a bare PyTorch loop: no
Lightning, logging or validation. The plain autoencoder (AE) has the widths of the networks, layer
normalisation and SELU, a mean squared error and fused Adam: no batch, dropout or adversary.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _record import load, markdown, save
from aml import load_cells
from lightning.pytorch.callbacks import Callback
from scipy import sparse
from scvi import REGISTRY_KEYS
from torch import nn

import scmedal_tools as smt
from scmedal_tools.train import RETrainingPlan
from scmedal_tools.train._statistics import training_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

ROUNDS, EPOCHS, SEED, BATCH_SIZE = 3, 2, 0, 256
MANY = {"n_cells": 6_000, "n_batch": 147, "noise": 0.2}
WIDTHS, N_LATENT = (512, 132), 50
INFERENCE = ("encoder", "latents", "decoder", "one target", "five targets")
OURS = {"FE": smt.model.SCMEDAL_FE, "RE": smt.model.SCMEDAL_RE}
QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


def cells_of_aml() -> ad.AnnData:
    adata = load_cells()
    adata.obs["batch"] = adata.obs["donor"].astype(str)
    return adata


def resampled() -> ad.AnnData:
    """Cells drawn from AML, every value with noise, in batches at random."""
    source, rng = load_cells(), np.random.default_rng(SEED)
    rows = rng.integers(source.n_obs, size=MANY["n_cells"])
    layers = {}
    for name, matrix in (("X", source.X), ("counts", source.layers["counts"])):
        drawn = sparse.csr_matrix(matrix[rows])
        drawn.data *= np.exp(MANY["noise"] * rng.standard_normal(drawn.nnz)).astype("float32")
        layers[name] = drawn
    layers["counts"].data = np.maximum(1, layers["counts"].data.round())
    obs = pd.DataFrame({"batch": rng.integers(MANY["n_batch"], size=len(rows)).astype(str)})
    obs.index = obs.index.astype(str)
    return ad.AnnData(layers["X"], obs, source.var[[]], layers={"counts": layers["counts"]})


DATA = {"aml": cells_of_aml, "resampled": resampled}


class Clock(Callback):
    """Times of the first step, of the ends of the epochs and of the end of the training."""

    def __init__(self) -> None:
        self.started = time.process_time()
        self.first_step: float | None = None
        self.ends: list[float] = []

    def on_train_batch_start(self, *_) -> None:
        self.first_step = self.first_step or time.process_time()

    def on_train_epoch_start(self, *_) -> None:
        self.ends.append(time.process_time())

    def on_train_end(self, *_) -> None:
        self.ends.append(time.process_time())

    def row(self, n_cells: int) -> dict:
        # The first of the "ends" is the start of the first epoch, which warms up.
        epoch = median(stop - start for start, stop in pairwise(self.ends[1:]))
        return {
            "cells_per_s": round(n_cells / epoch),
            "epoch_s": round(epoch, 3),
            "setup_s": round(self.first_step - self.started, 3),
            "finishing_s": round(time.process_time() - self.ends[-1], 3),
        }


def ours(name: str, adata: ad.AnnData, **settings) -> dict:
    scvi.settings.seed = SEED
    OURS[name].setup_anndata(adata, batch_key="batch")
    model, clock = OURS[name](adata), Clock()
    model.train(max_epochs=EPOCHS, callbacks=[clock], **QUIET, **settings)
    return clock.row(len(model.train_indices))


def scvi_512(adata: ad.AnnData) -> dict:
    scvi.settings.seed = SEED
    scvi.model.SCVI.setup_anndata(adata, layer="counts", batch_key="batch")
    model = scvi.model.SCVI(adata, n_hidden=512, n_layers=2, n_latent=N_LATENT)
    clock = Clock()
    every = {"check_val_every_n_epoch": 1}  # as ours
    model.train(max_epochs=EPOCHS, batch_size=BATCH_SIZE, callbacks=[clock], **every, **QUIET)
    return clock.row(len(model.train_indices))


class Floor:
    """The module and the step of a model without a framework around them."""

    def __init__(self, name: str, adata: ad.AnnData):
        scvi.settings.seed = SEED
        OURS[name].setup_anndata(adata, batch_key="batch")
        model = OURS[name](adata)
        self.module = model.module.train()
        settings = model._preset()
        splitter = model._data_splitter_cls(model.adata_manager, batch_size=BATCH_SIZE)
        splitter.setup()
        self.module.fit_statistics(training_statistics(splitter, self.module.n_levels))
        self.plan = model._training_plan_cls(self.module, **settings.plan)
        self.plan.n_obs_training = splitter.n_train
        self.plan._n_steps = lambda: float("inf")
        *self.own, self.of_adversary = self.plan.configure_optimizers()

    def step(self, batch: dict[str, Tensor]) -> None:
        module = self.module
        inference = module.inference(**module._get_inference_input(batch))
        features = module.adversary_features(inference).detach()
        for _ in range(self.plan.adversary_steps):
            self.of_adversary.zero_grad()
            module.adversary_cross_entropy(features, batch).backward()
            self.of_adversary.step()
        generative = module.generative(**module._get_generative_input(batch, inference))
        module.adversary.requires_grad_(False)
        for optimizer in self.own:
            optimizer.zero_grad()
        module.loss(batch, inference, generative, **self.plan.loss_kwargs).loss.backward()
        module.adversary.requires_grad_(True)
        for optimizer in self.own:
            optimizer.step()
        if isinstance(self.plan, RETrainingPlan):
            module.centre_effects()


class PlainAE:
    """An autoencoder of the same widths, as short as it can be written."""

    def __init__(self, adata: ad.AnnData):
        torch.manual_seed(SEED)
        widths = [adata.n_vars, *WIDTHS, N_LATENT, *reversed(WIDTHS), adata.n_vars]
        layers: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            layers.append(nn.Linear(n_in, n_out))
            if i not in (len(WIDTHS), len(widths) - 2):
                layers += [nn.LayerNorm(n_out), nn.SELU()]
        self.network = nn.Sequential(*layers)
        self.optimizer = torch.optim.Adam(self.network.parameters(), fused=True)

    def step(self, batch: dict[str, Tensor]) -> None:
        x = batch[REGISTRY_KEYS.X_KEY]
        self.optimizer.zero_grad()
        (self.network(x) - x).square().mean().backward()
        self.optimizer.step()


def loop(make: Callable[[], Floor | PlainAE], adata: ad.AnnData) -> dict:
    """Time of the epochs of a bare loop; as many cells as ours are trained on."""
    worker = make()
    order = np.random.default_rng(SEED).permutation(adata.n_obs)[: int(0.9 * adata.n_obs)]
    x = torch.from_numpy(adata.X[order].toarray())
    level = torch.from_numpy(pd.factorize(adata.obs["batch"])[0][order]).reshape(-1, 1)
    seconds = []
    for _ in range(EPOCHS):
        start = time.process_time()
        for rows in torch.randperm(len(x)).split(BATCH_SIZE):
            worker.step({REGISTRY_KEYS.X_KEY: x[rows], REGISTRY_KEYS.BATCH_KEY: level[rows]})
        seconds.append(time.process_time() - start)
    epoch = median(seconds[1:])
    return {"cells_per_s": round(len(x) / epoch), "epoch_s": round(epoch, 3)}


def cases(adata: ad.AnnData) -> Iterator[tuple[str, Callable[[], dict]]]:
    yield "AE", lambda: loop(lambda: PlainAE(adata), adata)
    for name in OURS:
        yield f"{name} floor", lambda name=name: loop(lambda: Floor(name, adata), adata)
        yield name, lambda name=name: ours(name, adata)
    yield "scVI", lambda: scvi_512(adata)


def inference(adata: ad.AnnData) -> dict:
    """Latents next to the bare encoder, and counterfactuals next to the bare decoder."""
    adata = adata[::3].copy()
    scvi.settings.seed = SEED
    OURS["RE"].setup_anndata(adata, batch_key="batch")
    model = OURS["RE"](adata)
    model.train(max_epochs=1, **QUIET)
    fe = OURS["FE"]
    fe.setup_anndata(adata, batch_key="batch")
    fe = fe(adata)
    fe.train(max_epochs=1, **QUIET)
    cells = np.arange(adata.n_obs)
    x = torch.from_numpy(adata.X[cells].toarray())
    content = torch.from_numpy(model.get_latent_representation(indices=cells, kind="content"))
    one, several = list(model.batch_names)[:1], list(model.batch_names)[:5]
    level = torch.zeros(BATCH_SIZE, 1, dtype=torch.long)

    def encode() -> None:
        for some in x.split(BATCH_SIZE):
            fe.module.inference(some)

    def decode() -> None:
        for some in content.split(BATCH_SIZE):
            of_some = level[: len(some)]
            z = model.module.express(some, of_some, sample=False)
            model.module.decode(z, of_some)

    def swap(targets: list[str]) -> None:
        model.get_counterfactual_expression(
            indices=cells, transform_batch=targets, return_numpy=True
        )

    def seconds(work: Callable[[], object]) -> float:
        start = time.process_time()
        with torch.inference_mode():
            work()
        return time.process_time() - start

    times = {
        "encoder": seconds(encode),
        "latents": seconds(lambda: fe.get_latent_representation(indices=cells)),
        "decoder": seconds(decode),
        "one target": seconds(lambda: swap(one)),
        "five targets": seconds(lambda: swap(several)),
    }
    return {name: round(value, 3) for name, value in times.items()}


def run(rounds: int, names: list[str]) -> None:
    torch.set_num_threads(1)
    results = []
    for i in range(rounds):
        for name in names:
            adata = DATA[name]()
            n_batch = adata.obs["batch"].nunique()
            about = {"round": i, "data": f"{name}, {n_batch} batches", "n_cells": adata.n_obs}
            for case, work in cases(adata):
                results.append(about | {"case": case} | work())
                print(results[-1], flush=True)
            results.append(about | {"case": "inference"} | inference(adata))
            save("speed", results, epochs=EPOCHS, batch_size=BATCH_SIZE, resampled=MANY)


def tables() -> dict[str, str]:
    """Medians over the rounds, of ratios within a round."""
    results = pd.DataFrame(load("speed")["results"]).set_index(["data", "round", "case"])
    training, inferences = [], []
    for data in results.index.unique("data"):
        of = results.loc[data].unstack()

        def middle(values: pd.Series) -> str:
            return f"{values.median():.2f}"

        speed = of["cells_per_s"]
        for case in ("AE", *OURS, "scVI"):
            ours = case in OURS
            row = {"data": data, "case": case, "speed": f"{speed[case].median():,.0f}"}
            row["AE"] = middle(speed[case] / speed["AE"])
            row["scVI"] = middle(speed[case] / speed["scVI"])
            row["floor"] = middle(speed[case] / speed[f"{case} floor"]) if ours else ""
            row["step"] = middle(speed["AE"] / speed[f"{case} floor"]) if ours else ""
            row["setup"] = middle(of["setup_s"][case]) if ours else ""
            finishing = of["finishing_s"][case] / of["epoch_s"][case]
            row["finishing"] = middle(finishing) if ours else ""
            training.append(row)
        seconds = {name: of[name]["inference"] for name in INFERENCE}
        further = (seconds["five targets"] - seconds["one target"]) / 4
        inferences.append(
            {
                "data": data,
                "latents": middle(seconds["encoder"] / seconds["latents"]),
                "first": middle(seconds["one target"] / seconds["decoder"]),
                "further": middle(further / seconds["decoder"]),
            }
        )
    columns = {
        "": "{data}: {case}",
        "cells/s": "{speed}",
        "of AE": "{AE}",
        "of scVI": "{scVI}",
        "of the bare loop": "{floor}",
        "step of the bare loop, in AE's": "{step}",
        "set-up, s": "{setup}",
        "finishing, epochs": "{finishing}",
    }
    of_inference = {
        "": "{data}",
        "FE's latents, speed of the bare encoder": "{latents}",
        "RE's counterfactuals in one batch, decoder passes": "{first}",
        "in each further batch": "{further}",
    }
    return {
        "training": markdown(training, columns),
        "inference": markdown(inferences, of_inference),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")
        options = sys.argv[2:]
        run(int(options[0]) if options else ROUNDS, options[1:] or list(DATA))
    for title, table in tables().items():
        print(f"{title}\n{table}\n")
