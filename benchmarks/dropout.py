"""What dropout costs a training step on a CPU: PyTorch's, and that of the package.

python benchmarks/dropout.py run   # writes results/dropout.json
python benchmarks/dropout.py       # prints the table

The two take turns from minibatch to minibatch of one training, so that both meet the same load of
the machine; processor time of one thread.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
import warnings

import scvi
import torch
from _record import load, markdown, save
from lightning.pytorch.callbacks import Callback
from speed import OURS, QUIET, SEED, cells_of_aml
from torch.nn import functional as F

from scmedal_tools.module._layers import Dropout

EPOCHS = 3


def of_pytorch(layer: Dropout, x: torch.Tensor) -> torch.Tensor:
    return F.dropout(x, layer.share, layer.training)


WAYS = {"PyTorch": of_pytorch, "ours": Dropout.forward}


class Clock(Callback):
    """Seconds of the steps of each way."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {way: [] for way in WAYS}

    def on_train_batch_start(self, _, __, ___, i: int) -> None:
        self.way = list(WAYS)[i % 2]
        Dropout.forward = WAYS[self.way]
        self.start = time.process_time()

    def on_train_batch_end(self, *_) -> None:
        self.seconds[self.way].append(time.process_time() - self.start)

    def on_train_end(self, *_) -> None:
        Dropout.forward = WAYS["ours"]


def run() -> None:
    torch.set_num_threads(1)
    adata, results = cells_of_aml(), []
    for name, model_class in OURS.items():
        scvi.settings.seed = SEED
        model_class.setup_anndata(adata, batch_key="batch")
        clock = Clock()
        model = model_class(adata)
        model.train(max_epochs=EPOCHS, early_stopping=False, callbacks=[clock], **QUIET)
        steps = {way: 1e3 * statistics.median(s) for way, s in clock.seconds.items()}
        results.append({"network": name, "ms": {way: round(ms, 2) for way, ms in steps.items()}})
        print(results[-1], flush=True)
    save("dropout", results, n_cells=adata.n_obs, n_genes=adata.n_vars, epochs=EPOCHS)


def tables() -> dict[str, str]:
    rows = [
        {"network": row["network"], "saved": 1 - row["ms"]["ours"] / row["ms"]["PyTorch"]}
        for row in load("dropout")["results"]
    ]
    columns = {"network": "{network}", "time of a step that is saved": "{saved:.0%}"}
    return {"steps": markdown(rows, columns)}


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    if sys.argv[1:2] == ["run"]:
        run()
    print(tables()["steps"])
