"""What all comparators share: the cells they see, their random state, what they write."""

from __future__ import annotations

import json
import random
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from anndata import AnnData

from scmedal_tools._data import check_in_memory, check_key, check_labels, check_obs, expression_of
from scmedal_tools._how_to_install import how_to_install
from scmedal_tools._quiet import quietly
from scmedal_tools.tl import write_embedding
from scmedal_tools.train import check_external_indexing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from scvi.model.base import BaseModelClass

JOINT: Final[frozenset[str]] = frozenset({"harmony", "scanorama"})
"""Methods that integrate all cells at once and have no embedding for new ones."""

# scVI's own share of validation cells, by which the paper's scVI and scANVI were stopped.
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class ComparatorRun:
    """One run of a comparator: the checked arguments that all of them have.

    ``labels_key`` is ``None`` for methods that do not learn from cell types.
    """

    method: str
    adata: AnnData
    batch_key: str
    labels_key: str | None
    splits: Sequence[np.ndarray] | None
    key_added: str
    seed: int
    parts: list[np.ndarray] = field(init=False)
    """Positions of the training, validation and test cells."""

    def __post_init__(self) -> None:
        check_key(self.key_added)
        check_in_memory(self.adata)
        check_obs(self.adata, self.batch_key)
        if self.labels_key not in (None, self.batch_key):
            check_labels(self.adata, self.labels_key)
        object.__setattr__(self, "parts", _parts(self.splits, self.adata.n_obs))

    def splits_with_validation(self) -> list[np.ndarray]:
        """Splits in which a tenth of the training cells is for validation, if none is."""
        train, validation, test = self.parts
        if validation.size:
            return [train, validation, test]
        shuffled = np.random.default_rng(self.seed).permutation(train)
        n_validation = max(1, round(VALIDATION_SHARE * train.size))
        return [np.sort(shuffled[n_validation:]), np.sort(shuffled[:n_validation]), test]

    def own_cells(self, layer: str | None = None) -> AnnData:
        """Expression (shared, not copied) and columns, as text, in an object of its own.

        Registering data with scvi-tools writes into them: into this object, not the user's.
        """
        columns = list({key: None for key in (self.batch_key, self.labels_key) if key})
        obs = self.adata.obs[columns].astype(str)
        return AnnData(expression_of(self.adata, layer), obs=obs, var=self.adata.var[[]])

    def write(self, latent: np.ndarray, settings: dict[str, Any], **facts: Any) -> str:
        """Write the embedding and a record of how it was made; return its name.

        ``facts`` are what is known only afterwards, such as the number of epochs.
        """
        record = {
            "model": self.method,
            "batch_key": self.batch_key,
            "labels_key": self.labels_key or "",
            "settings": json.dumps(settings, default=str),
            "seed": self.seed,
            "joint": self.method in JOINT,
            **facts,
        }
        write_embedding(self.adata, self.key_added, latent.astype(np.float32), record)
        return self.key_added


def need_labels(method: str, labels_key: str | None) -> None:
    """Refuse to run a method that learns from cell types without them."""
    if labels_key is None:
        raise ValueError(
            f"{method} learns from cell types: pass the column of adata.obs that has them as "
            "labels_key."
        )


_GENERATORS = RLock()


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Context with seeded generators, after which the global ones are as they were before.

    They belong to all threads of a process, of which one at a time is let in.
    """
    with _GENERATORS, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)


def train(
    model: BaseModelClass, splits: Sequence[np.ndarray], *, progress: bool, **kwargs: Any
) -> None:
    """Train a model on the first part, watched on the second, and without progress in silence."""
    splitter = {"external_indexing": list(splits)} | kwargs.pop("datasplitter_kwargs", {})
    with warnings.catch_warnings(), nullcontext() if progress else quietly():
        # Held-out batches are meant, and these models have no effects of them to interpret.
        warnings.filterwarnings("ignore", message=".*batches have no training cells")
        model.train(datasplitter_kwargs=splitter, enable_progress_bar=progress, **kwargs)


def import_optional(package: str) -> ModuleType:
    """Import a comparator's package, which not everyone has."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f"{package} is not installed. {how_to_install('benchmark')}") from error


def _parts(splits: Sequence[np.ndarray] | None, n_obs: int) -> list[np.ndarray]:
    """Positions of training, validation and test cells; without splits all are for training."""
    if splits is None:
        return [np.arange(n_obs), np.arange(0), np.arange(0)]
    parts = [np.asarray(cells, dtype=int) for cells in splits]
    if len(parts) != 3:
        raise ValueError(
            f"splits has {len(parts)} parts, not three: training, validation and test cells, as "
            "from scmedal_tools.train.stratified_split."
        )
    check_external_indexing(parts, n_obs, "splits")
    if not parts[0].size:
        raise ValueError("splits: there are no training cells.")
    return parts
