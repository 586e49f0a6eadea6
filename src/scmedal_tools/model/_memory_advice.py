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
FITTING_GENE_EFFECTS = (
    "Not enough memory to fit the effects on single genes, which grows with genes x batches x "
    "states, not with cells. The network is trained: save the model, and call model.finish() on a "
    "machine with more memory; with fewer genes, pp.preprocess(n_top_genes=...), it has to be "
    "trained again."
)
INFERENCE = (
    "Not enough memory for the results: pass a smaller batch_size, or ask for fewer cells "
    "(indices=... or n_cells=...), genes (gene_list=...) or draws (n_samples=...) at a time, "
    "whichever the method takes. "
    "tl.write_counterfactuals keeps counterfactuals on disk."
)
# What PyTorch says on a processor, in a plain RuntimeError.
ON_PROCESSOR = "DefaultCPUAllocator"


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Context in which an error of too little memory says what to do about it.

    Advice on fitting gene effects stays alone; other advice of an inner context gives way to that
    of the verb which was called.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_typed = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        notes = getattr(error, "__notes__", [])
        if (is_typed or ON_PROCESSOR in str(error)) and FITTING_GENE_EFFECTS not in notes:
            error.__notes__ = [note for note in notes if note != INFERENCE] + [advice]
        raise
