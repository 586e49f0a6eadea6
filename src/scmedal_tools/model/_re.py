"""Random effects: what a batch does to a cell, and what another batch would do."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.decomposition import PCA

from scmedal_tools._data import STATES
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.module import REModule, levels_of
from scmedal_tools.train import ENOUGH_BATCHES, SETTLE_AFTER

from ._base import MedalModel
from ._counterfactual import CounterfactualMixin
from ._effects import BatchEffectsMixin
from ._fit_gene_effects import fit_gene_effects, learn_new_effects
from ._memory_advice import FITTING_GENE_EFFECTS, memory_advice
from ._query import QueryMixin

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from scmedal_tools.module import EffectsDraw

    from ._inference import Indices, Minibatches
    from ._unseen import UnseenBatch

# Swap gap under which the effects make no difference.
COLLAPSED = 1.002
CELLS_FOR_AXES = 5_000


class SCMEDAL_RE(BatchEffectsMixin, CounterfactualMixin, QueryMixin, MedalModel):
    r"""Bayesian autoencoder of batch effects, which predicts counterfactuals (section 4.2.2).

    Layers rescale and shift their units by the cell's batch (REDEN blocks); the effects have
    Gaussian posteriors and learned prior scales. By default the encoder gives a content :math:`u`
    from which an adversary removes the batch, a REDEN block turns it into the batch-explicit
    latent :math:`r`, and the decoder turns :math:`r` into expression. A counterfactual keeps
    :math:`u` and swaps the batch of everything after it. It is a statement of the model about
    expression, not a causal claim.

    Parameters
    ----------
    adata, registry, n_hidden, n_latent, preset
        See :class:`SCMEDAL_FE`.
    **module_kwargs
        Single settings that replace the preset's, for example ``adversary_weight`` or
        ``batch_weight``; see :class:`scmedal_tools.module.REModule`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> adata = smt.datasets.simulated(n_donors=4, n_genes=200)
    >>> smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    >>> smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
    >>> model = smt.model.SCMEDAL_RE(adata, n_hidden=(32, 16), n_latent=5)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> swapped = model.get_counterfactual_expression(transform_batch="donor_02")
    >>> swapped.shape == adata.shape
    True
    """

    _module_cls = REModule

    @property
    def has_given_states(self) -> bool:
        """Whether the states of the cells were registered, by ``states_key``."""
        return STATES in self.registry["field_registries"]

    def _settings_of_data(self) -> dict[str, int]:
        if not self.has_given_states:
            return {}
        return {"n_states": len(self.get_state_registry(STATES)["categorical_mapping"])}

    def _states(self, tensors: dict[str, Tensor]) -> Tensor | None:
        """States of the cells of a minibatch, if they are registered."""
        if not self.has_given_states:
            return None
        return tensors[STATES].long().reshape(-1).to(self.module.device)

    def _state_of(self, tensors: dict[str, Tensor], content: Tensor | None = None) -> Tensor:
        """States of the cells of a minibatch, given or found in their content."""
        state = self._states(tensors)
        if state is not None:
            return state
        content = self._infer(tensors)["content"] if content is None else content
        return self.module.gene_effects.state_of(content, levels_of(tensors).to(content.device))

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        batch_size: int | None = None,
        n_samples: int | None = None,
        dataloader: Minibatches | None = None,
        unseen_batch: UnseenBatch = "error",
        kind: Literal["latent", "content"] = "latent",
    ) -> np.ndarray:
        """Latent of each cell.

        Parameters
        ----------
        adata, indices, batch_size, n_samples, dataloader, unseen_batch
            See :meth:`SCMEDAL_FE.get_latent_representation`.
        kind
            ``"latent"``: ``r``, the cell in its batch, so the batch can be predicted from it;
            ``"content"``: ``u``, the cell as if from a batch without effects, where the batch is
            hard to predict, not impossible. In the paper's presets they are the same.

        Returns
        -------
        numpy.ndarray
            Shape ``(n_cells, n_latent)``, with ``n_samples`` ``(n_samples, n_cells, n_latent)``.

        Notes
        -----
        A network's latent has arbitrary axes, and random effects act after it too. With a content
        code both latents are therefore principal coordinates of what the decoder makes of them:
        ``r`` in the cell's own batch, ``u`` in a batch whose effects are all at their mean, 0. The
        axes are those of the training cells' reconstructions, the same for both, so that ``r - u``
        is what the batch does to the cell, and distances are differences of expression as far as
        the axes hold them. Effects on single genes, which are not the network's, are left out.

        Examples
        --------
        The two latents have the same axes: their difference is what the batch does to each cell.

        >>> r = model.get_latent_representation()
        >>> u = model.get_latent_representation(kind="content")
        >>> (r - u).shape
        (240, 4)
        """
        if kind not in ("latent", "content"):
            raise ValueError(f"kind={kind!r} is neither 'latent' nor 'content'.")
        minibatches = self._minibatches(adata, indices, batch_size, dataloader, unseen_batch)
        n_unseen = self._n_to_draw(adata, unseen_batch, n_samples)
        in_axes = bool(self.module.expression_axes.any())
        compute = partial(self._coordinates if in_axes else self._network_latent, kind=kind)
        return self._collect(minibatches, compute, n_samples, n_unseen=n_unseen)

    def _network_latent(
        self, tensors: dict[str, Tensor], kind: str, draw: EffectsDraw | None = None
    ) -> Tensor:
        return self._infer(tensors, draw)["z" if kind == "latent" else "content"]

    def _coordinates(
        self, tensors: dict[str, Tensor], kind: str, draw: EffectsDraw | None = None
    ) -> Tensor:
        module, inference = self.module, self._infer(tensors, draw)
        if kind == "latent":
            own = levels_of(tensors).to(module.device)
            x_hat = module.decode(inference["z"], own, draw=draw)
        else:
            x_hat = module.decode_in_population(inference["content"])
        expression = module.reconstruct(x_hat)
        return (expression - module.expression_centre) @ module.expression_axes

    @torch.inference_mode()
    @with_shared_parts
    def get_swap_gap(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        dataloader: Minibatches | None = None,
    ) -> float:
        """Squared error of cells reconstructed in a wrong batch, over that in their own.

        1 means that the batch makes no difference to the model: its random effects are gone.

        Parameters
        ----------
        adata, indices, batch_size, dataloader
            See :meth:`get_latent_representation`.
        seed
            Seed of the wrong batches, drawn uniformly for each cell.

        Returns
        -------
        float
            Ratio of the squared errors, summed over cells and genes.

        Raises
        ------
        %(untrained)s

        Examples
        --------
        >>> model.get_swap_gap() > 1  # the model uses the batch
        True
        """
        generator = torch.Generator().manual_seed(seed)
        n_batch, errors = self.module.n_batch, np.zeros(2)
        for tensors in self._minibatches(adata, indices, batch_size, dataloader):
            inference = self._infer(tensors)
            own, cells = levels_of(tensors), self._level_free_part(tensors, inference)
            other, step = own.clone(), torch.randint(1, n_batch, (len(own),), generator=generator)
            other[:, 0] = (own[:, 0] + step.to(own.device)) % n_batch
            for i, levels in enumerate((other, own)):
                x_hat = self._predict(tensors, inference, levels=levels, cells=cells)
                errors[i] += float((inference["x_scaled"] - x_hat).square().sum())
        return float(errors[0] / errors[1])

    @property
    def is_finished(self) -> bool:
        """Whether everything is fitted that follows the training of the network.

        A checkpoint of a running training is not; :meth:`finish` is for it. The paper's networks
        have nothing to finish.
        """
        return bool(self.module.is_finished)

    @memory_advice(FITTING_GENE_EFFECTS)
    def finish(self) -> None:
        """Fit the axes of the latents and the effects on single genes, after the network.

        :meth:`train` does it by itself. Call it for a checkpoint of
        :class:`scvi.train.SaveCheckpoint`, which holds the network as it was in the middle of the
        training. To do so again changes nothing. Cells of a data module are read once each for
        the axes, for the states and for the effects; a checkpoint needs it again:
        ``load(folder, datamodule=datamodule)``. If it is your own, its ``train_dataloader()`` is
        read as it is: with more cells than are looked at for the axes and the states, a loader
        that shuffles finds slightly different ones each time.

        Raises
        ------
        RuntimeError
            If the network is not trained.
        ValueError
            If the model has neither the cells that it was trained on nor the data module.

        Examples
        --------
        >>> model.finish()
        >>> model.is_finished
        True
        """
        self._check_if_trained(warn=False, message="Call `model.train()` first.")
        if self.module.bottleneck is None:
            return
        self._training_minibatches()
        if self.is_query:
            if self.module.gene_effects is not None:
                learn_new_effects(self)
        else:
            self.module.start_training()
            self._fit_axes()
            if self.module.gene_effects is not None:
                fit_gene_effects(self)
        self.module.is_finished.fill_(True)

    def _before_training(self, plan_kwargs: dict) -> None:
        n_batch = self.module.n_batch
        learns_scales = plan_kwargs["effects_optimizer"] == "natural" and not self.is_query
        if learns_scales and n_batch < ENOUGH_BATCHES:
            # Raised here, as a filter on Lightning would hide what its hooks raise.
            warnings.warn(
                f"{n_batch} batches are too few to estimate how much batches vary: with fewer "
                f"than {ENOUGH_BATCHES}, an informative prior holds the scale of the random "
                "effects near its start. The effects then describe these batches rather than "
                "batches in general.",
                UserWarning,
                stacklevel=2,
            )

    def _after_training(self) -> None:
        if self.module.bottleneck is None:
            return
        self.finish()
        if self.is_query:
            return
        held_back = self._validation_minibatches() or self._training_minibatches()
        gap = self.get_swap_gap(dataloader=held_back)
        if gap < COLLAPSED:
            warnings.warn(
                f"The random effects have collapsed: a wrong batch changes the reconstruction "
                f"error by a factor of {gap:.4f}. Either the batches do not differ, or training "
                "was too short. `tl.effects_diagnostics(model)` has the details.",
                UserWarning,
                stacklevel=3,
            )
        self._warn_if_unsettled()

    def _warn_if_unfinished(self) -> None:
        if not self.is_finished:
            warnings.warn(
                "The effects on single genes and the axes of the latents are not fitted: what "
                "follows is of the network alone. Call `model.finish()`, on a model that has its "
                "training cells or their data module.",
                UserWarning,
                stacklevel=4,
            )

    def _minibatches(self, *args: Any, **kwargs: Any) -> Minibatches:
        if self.is_trained:
            self._warn_if_unfinished()
        return super()._minibatches(*args, **kwargs)

    def _warn_if_unsettled(self) -> None:
        settles = self.trainer.lightning_module.effects_optimizer == "natural"
        settled_after = SETTLE_AFTER * self.trainer.max_epochs
        if settles and self.best_epoch_ is not None and self.best_epoch_ < settled_after:
            warnings.warn(
                f"The best epoch, {self.best_epoch_}, lies in the first half of the training, in "
                "which the scales of the random effects are not settled: some effects that the "
                "data do not support may remain. Train with a smaller `max_epochs`, or with "
                "`early_stopping=False`.",
                UserWarning,
                stacklevel=4,
            )

    @torch.inference_mode()
    def _fit_axes(self) -> None:
        """Find the axes, of what the network alone reconstructs, in which latents are returned."""
        expression = self._collect(self._training_minibatches(CELLS_FOR_AXES), self._reconstruct)
        axes = self.module.expression_axes
        n_axes = min(axes.shape[1], *expression.shape)
        components = PCA(n_axes, random_state=0).fit(expression)
        self.module.expression_centre.copy_(torch.from_numpy(components.mean_))
        axes.zero_()
        axes[:, :n_axes] = torch.from_numpy(components.components_.T).to(axes)
