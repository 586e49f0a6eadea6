"""Cells a second in training on a GPU: cells resident there or not, steps recorded or not.

python benchmarks/gpu_throughput.py run   # needs a GPU; writes results/gpu_throughput.json
python benchmarks/gpu_throughput.py       # prints the table

Simulated cells of ``growth.py``. Each round runs all cases in turn. Set-up before the first epoch
and finishing after the last are apart; an epoch includes its validation.
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _record import load, markdown, save
from _recorded_step import RecordSteps
from growth import MANY, N_GENES, NETWORKS, SEED, cells
from lightning.pytorch.callbacks import Callback
from scipy import sparse

from scmedal_tools.train import MedalDataSplitter

N_CELLS, EPOCHS, ROUNDS = 50_000, 4, 2
BATCH_SIZES = (256, 1024)
HOST, RESIDENT, RECORDED = "from the processor", "resident", "resident, recorded"
CASES = list(itertools.product(NETWORKS, (HOST, RESIDENT, RECORDED), BATCH_SIZES))


class Clock(Callback):
    """When epochs began, and when the last one ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_epoch_start(self, *_) -> None:
        torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    on_train_end = on_train_epoch_start


def prepare() -> ad.AnnData:
    parts, batches = zip(*cells(N_CELLS, MANY), strict=True)
    names = np.char.add("batch_", np.concatenate(batches).astype(str))
    obs = pd.DataFrame({"batch": pd.Categorical(names)}, index=np.arange(N_CELLS).astype(str))
    return ad.AnnData(sparse.csr_matrix(sparse.vstack(parts)), obs)


def measure(adata: ad.AnnData, network: str, way: str, batch_size: int) -> dict:
    scvi.settings.seed = SEED
    clock, device_for_cells = Clock(), MedalDataSplitter._device_for_cells
    start = time.perf_counter()
    NETWORKS[network].setup_anndata(adata, batch_key="batch")
    model = NETWORKS[network](adata)
    if way == HOST:
        MedalDataSplitter._device_for_cells = lambda _: None
    try:
        model.train(
            max_epochs=EPOCHS,
            batch_size=batch_size,
            accelerator="gpu",
            devices=1,
            early_stopping=False,
            callbacks=[clock, *([RecordSteps()] if way == RECORDED else [])],
            # A recording has the learning rate that it was made with.
            plan_kwargs={"lr_decay": 0.0},
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    finally:
        MedalDataSplitter._device_for_cells = device_for_cells
    torch.cuda.synchronize()
    epochs = np.diff(clock.times)
    return {
        "cells_per_s": round(len(model.train_indices) / float(np.median(epochs[1:]))),
        "set_up_s": round(clock.times[0] - start, 2),
        "first_epoch_s": round(float(epochs[0]), 2),
        "finishing_s": round(time.perf_counter() - clock.times[-1], 2),
        "loss": float(model.history["train_loss"].iloc[-1, 0]),
    }


def run() -> None:
    adata, results = prepare(), []
    for i, case in itertools.product(range(ROUNDS), CASES):
        key = dict(zip(("network", "way", "batch_size"), case, strict=True))
        results.append(key | {"round": i} | measure(adata, *case))
        print(results[-1], flush=True)
        save(
            "gpu_throughput",
            results,
            gpu=torch.cuda.get_device_name(),
            n_cells=N_CELLS,
            n_genes=N_GENES,
            n_batches=MANY,
            epochs=EPOCHS,
        )


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("gpu_throughput")["results"])
    rows = []
    for (network, way, size), of in results.groupby(["network", "way", "batch_size"], sort=False):
        row = {"title": f"{network}, {way}", "size": size}
        for column in ("cells_per_s", "set_up_s", "finishing_s"):
            row[column] = f"{of[column].min():,}–{of[column].max():,}"
        rows.append(row)
    columns = {
        "": "{title}",
        "minibatch": "{size}",
        "cells/s": "{cells_per_s}",
        "set-up, s": "{set_up_s}",
        "finishing, s": "{finishing_s}",
    }
    return {"throughput": markdown(rows, columns)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")
        run()
    else:
        print(tables()["throughput"])
