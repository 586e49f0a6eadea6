"""What to do where memory does not suffice."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAINING = (
    "Not enough memory to train: pass a smaller batch_size to train(), or select fewer genes with "
    "pp.preprocess(n_top_genes=...). On a GPU, close other programs that use it, or train on the "
    'processor with accelerator="cpu".'
)
FINISHING = (
    "Not enough memory to fit the effects on single genes, which takes the more the more genes, "
    "batches and states there are, whatever the number of cells: select fewer genes with "
    "pp.preprocess(n_top_genes=...). The network is trained: save the model, and call "
    "model.finish() where there is more memory."
)
INFERENCE = (
    "Not enough memory for the results: pass a smaller batch_size, or ask for fewer cells "
    "(indices=...), genes (gene_list=...) or draws (n_samples=...) at a time. "
    "tl.write_counterfactuals keeps counterfactuals on disk."
)
# What PyTorch says on a processor, in a plain RuntimeError.
ON_PROCESSOR = "DefaultCPUAllocator"


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Context in which an error of too little memory says what to do about it.

    What an inner context says is closer to the cause, and stays alone.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_typed = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        is_of_memory = is_typed or ON_PROCESSOR in str(error)
        if is_of_memory and not getattr(error, "__notes__", None):
            error.add_note(advice)
        raise
