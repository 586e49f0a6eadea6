"""Embeddings that a cross-validation compares: own models, comparators, controls of RE."""

from __future__ import annotations

import warnings
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from scmedal_tools import ext
from scmedal_tools._compat import forget_cells
from scmedal_tools._data import embedding_of, slots
from scmedal_tools._quiet import quietly
from scmedal_tools.ext import random_state, train
from scmedal_tools.model import SCMEDAL_FE, SCMEDAL_FEC, SCMEDAL_RE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scmedal_tools.model import MedalModel

    Latents = dict[str, np.ndarray]

RE: Final = "RE"
WRONG: Final = "RE, wrong labels at test"
OWN_EFFECTS: Final = "RE, own effects in training cells"
PERMUTED: Final = "RE, permuted labels"
ONE_EPOCH: Final = "RE, one epoch"
RE_CONTROLS: Final = frozenset({WRONG, OWN_EFFECTS, PERMUTED, ONE_EPOCH})
"""Variants of RE with which its gain is compared."""

OWN_MODELS: Final = {"FE": SCMEDAL_FE, "FEC": SCMEDAL_FEC, RE: SCMEDAL_RE}
COMPARATORS: Final = {name: getattr(ext, name) for name in ext.__all__ if name.islower()}
# Name under which cells of held-out batches are shown to a model.
UNSEEN: Final = "(not seen in training)"


class Embedded(NamedTuple):
    """What a method made of a fold."""

    latents: Latents
    epochs: int | None = None
    """Epochs of training; ``None`` of what is not trained."""
    history: dict[str, np.ndarray] | None = None
    """Losses by epoch, of the package's own models."""
    model: MedalModel | None = None
    """The model, if it is one of the package's own and not a control."""


class Fold:
    """Cells, columns and split of one fold, and the embeddings that are made of them.

    Parameters
    ----------
    cells
        Cells with the genes selected in this fold.
    batch_key, labels_key
        Columns with the batches and the cell types.
    splits
        Positions of the training, validation and test cells.
    seed
        Seed of all that is trained.
    """

    def __init__(
        self,
        cells: AnnData,
        batch_key: str,
        labels_key: str,
        splits: Sequence[np.ndarray],
        seed: int,
    ):
        self.cells, self.splits, self.seed = cells, splits, seed
        self.keys = {"batch_key": batch_key, "labels_key": labels_key}
        self.batches = cells.obs[batch_key].astype(str).to_numpy()
        self.known = np.isin(self.batches, self.batches[splits[0]])

    def embed(self, name: str, method: str | Callable, settings: dict[str, Any]) -> Embedded:
        """Embeddings that a method gives, by name; RE gives variants of itself too."""
        if callable(method):
            return Embedded({name: self._function(name, method, settings)})
        if method in self.cells.obsm:
            return Embedded({name: embedding_of(self.cells, method).astype(np.float32)})
        if method in COMPARATORS:
            latent, epochs = self._comparator(method, settings)
            return Embedded({name: latent}, epochs)
        if method == RE:
            model = self._fit(SCMEDAL_RE, self.batches, settings)
            latents = self._variants(name, model)
        elif method == PERMUTED:
            shuffled = np.random.default_rng(self.seed).permutation(self.batches[self.known])
            batches = self.batches.copy()
            batches[self.known] = shuffled
            model = self._fit(SCMEDAL_RE, batches, settings)
            latents = {name: self._as_judged(model, batches)}
        elif method == ONE_EPOCH:
            model = self._fit(SCMEDAL_RE, self.batches, settings | {"max_epochs": 1})
            latents = {name: self._as_judged(model, self.batches)}
        else:
            model = self._fit(OWN_MODELS[method], self.batches, settings)
            latents = {name: model.get_latent_representation()}
        forget_cells(model)  # or those of every fold would stay in memory
        history = {term: curve.iloc[:, 0].to_numpy(float) for term, curve in model.history.items()}
        kept = model if method in OWN_MODELS else None
        return Embedded(latents, len(history["train_loss"]), history, kept)

    def _function(self, name: str, method: Callable, settings: dict[str, Any]) -> np.ndarray:
        cells = self._shared()
        latent = method(cells, splits=self.splits, seed=self.seed, **self.keys, **settings)
        latent = np.asarray(latent, dtype=np.float32)
        if latent.ndim != 2 or len(latent) != cells.n_obs:
            raise ValueError(
                f"The function of {name!r} returned the shape {latent.shape}, not ({cells.n_obs}, "
                "number of dimensions)."
            )
        return latent

    def _comparator(self, method: str, settings: dict[str, Any]) -> tuple[np.ndarray, int | None]:
        cells = self._shared()
        key = COMPARATORS[method](
            cells, splits=self.splits, seed=self.seed, **self.keys, **_quiet(method), **settings
        )
        return cells.obsm[key], cells.uns[slots.PROVENANCE][key].get("epochs")

    def _shared(self) -> AnnData:
        """The cells in an object of its own, which shares the expression but not the columns."""
        obs = self.cells.obs[list(self.keys.values())].astype(str)
        return AnnData(self.cells.X, obs=obs, var=self.cells.var, layers=dict(self.cells.layers))

    def _variants(self, name: str, model: SCMEDAL_RE) -> Latents:
        names = np.unique(self.batches[self.known])
        wrong, test = self.batches.copy(), self.splits[2]
        rng = np.random.default_rng(self.seed)
        # Of the known batches any but the cell's own, which comes after it by 1 to n - 1.
        own = np.searchsorted(names, wrong[test])
        wrong[test] = names[(own + rng.integers(1, len(names), test.size)) % len(names)]
        latents = {name: self._as_judged(model, self.batches), WRONG: self._latent(model, wrong)}
        if not self.known.all():
            latents[OWN_EFFECTS] = self._latent(model, self.batches)
        return latents

    def _fit(
        self, cls: type[MedalModel], batches: np.ndarray, settings: dict[str, Any]
    ) -> MedalModel:
        """Train one of the package's models, which never sees the name of a held-out batch."""
        settings = dict(settings)
        options = {"max_epochs": settings.pop("max_epochs", None)}
        registered = np.where(self.known, batches, batches[self.splits[0][0]])
        cells = self._labelled(registered)
        needs_labels = cls is SCMEDAL_FEC
        cls.setup_anndata(
            cells,
            batch_key=self.keys["batch_key"],
            labels_key=self.keys["labels_key"] if needs_labels else None,
        )
        with random_state(self.seed), warnings.catch_warnings():
            # Controls collapse, as they should; the table shows what that does.
            warnings.filterwarnings("ignore", message="The random effects have collapsed")
            warnings.filterwarnings("ignore", message="The best epoch")
            model = cls(cells, **settings)
            train(model, self.splits, progress=False, **options)
        return model

    def _as_judged(self, model: SCMEDAL_RE, batches: np.ndarray) -> np.ndarray:
        """Latent in these batches; if some are held out, without effects for all cells.

        With the effects of the training cells only, these would differ from the test cells.
        """
        unseen = np.full(batches.shape, UNSEEN, dtype=object)
        return self._latent(model, batches if self.known.all() else unseen)

    def _latent(self, model: SCMEDAL_RE, batches: np.ndarray) -> np.ndarray:
        """Latent of all cells as cells of these batches; of unknown ones without effects."""
        known = np.isin(batches, model.batch_names.astype(str))
        cells = self._labelled(np.where(known, batches, UNSEEN))
        with quietly():
            return model.get_latent_representation(cells, unseen_batch="population")

    def _labelled(self, batches: np.ndarray) -> AnnData:
        """The cells, whose expression is shared and not copied, with these batches."""
        columns = {
            self.keys["batch_key"]: pd.Categorical(batches.astype(str)),
            self.keys["labels_key"]: self.cells.obs[self.keys["labels_key"]]
            .astype(str)
            .to_numpy(),
        }
        obs = pd.DataFrame(columns, index=self.cells.obs_names)
        return AnnData(self.cells.X, obs=obs, var=self.cells.var[[]])


def _quiet(method: str) -> dict[str, bool]:
    """Of comparators that show their own progress, the argument against it."""
    return {"progress": False} if "progress" in signature(COMPARATORS[method]).parameters else {}
