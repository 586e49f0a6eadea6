"""Steps whose kernels a GPU starts again by itself, from a recording (CUDA graph).

An experiment: ``gpu_throughput.py`` measures whether it pays, before the package has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from torch import Tensor

# Steps before the recording, in which optimisers and libraries allocate what they keep.
PLAIN_STEPS = 3


class RecordSteps(Callback):
    """Record the update of the weights; learning rates that change are not followed."""

    def on_train_start(self, trainer: Any, plan: Any) -> None:
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = True
        plan._minibatches_per_move = lambda _: 1  # all steps are alike
        plan._update = RecordedStep(plan._update, trainer.optimizers)

    def on_train_end(self, trainer: Any, plan: Any) -> None:
        del plan._update, plan._minibatches_per_move


class RecordedStep:
    """Function of a minibatch that Python runs a few times, and the GPU alone from then."""

    def __init__(self, step: Any, optimizers: list):
        self._step, self._optimizers = step, optimizers
        self._n_plain = 0
        self._sizes: dict[str, torch.Size] = {}
        self._phase: Any = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._minibatch: dict[str, Tensor] = {}
        self._result: Any = None

    def __call__(self, minibatch: dict[str, Tensor]) -> Any:
        sizes = {key: values.shape for key, values in minibatch.items()}
        self._sizes = self._sizes or sizes
        # The last minibatch of an epoch may be smaller.
        if sizes != self._sizes or self._n_plain < PLAIN_STEPS:
            self._n_plain += 1
            return self._step(minibatch)
        phase = [getattr(optimizer, "settles", None) for optimizer in self._optimizers]
        if self._graph is None or phase != self._phase:
            self._phase, self._graph = phase, torch.cuda.CUDAGraph()
            self._minibatch = {key: values.clone() for key, values in minibatch.items()}
            with torch.cuda.graph(self._graph):
                self._result = self._step(self._minibatch)
        for key, values in minibatch.items():
            self._minibatch[key].copy_(values)
        self._graph.replay()
        return self._result
