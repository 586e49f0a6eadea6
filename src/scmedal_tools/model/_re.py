"""Random effects: what a batch does to a cell, and what another batch would do."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from scvi import settings
from sklearn.decomposition import PCA

from scmedal_tools.module import REModule
from scmedal_tools.train import RETrainingPlan
from scmedal_tools.train._plans import SETTLE_AFTER

from ._base import MedalModel
from ._finishing import fit_gene_effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from torch import Tensor

    from ._inference import Minibatches

Swap = Literal["content", "decoder", "encoder_decoder"]

# Swap gap under which the effects make no difference.
COLLAPSED = 1.002
CELLS_FOR_AXES = 5_000


class SCMEDAL_RE(MedalModel):
    r"""Bayesian autoencoder with batch-specific random slopes and biases (section 4.2.2).

    Layers rescale and shift their units by the cell's batch (REDEN blocks); the effects have
    Gaussian posteriors and learned prior scales. By default the encoder gives a content :math:`u`
    from which an adversary drives the batch, a REDEN block turns it into the batch-explicit latent
    :math:`r`, and the decoder turns :math:`r` into expression. A counterfactual holds :math:`u`
    and swaps the batch of everything after it. It is a statement of the model about expression,
    not a causal claim.

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
    _training_plan_cls = RETrainingPlan

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        n_samples: int | None = None,
        dataloader: Minibatches | None = None,
        kind: Literal["latent", "content"] = "latent",
    ) -> np.ndarray:
        """Latent of each cell.

        Parameters
        ----------
        adata, indices, batch_size, n_samples, dataloader
            See :meth:`SCMEDAL_FE.get_latent_representation`.
        kind
            ``"latent"``: ``r``, the cell in its batch, so that the batch can be read from it;
            ``"content"``: ``u``, the cell as in a batch without effects, where the batch is hard
            to read, not impossible. In the paper's presets they are the same.

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
        After training with a data module of your own there are no axes, and the network's latents
        are returned.
        """
        if kind not in ("latent", "content"):
            raise ValueError(f"kind={kind!r} is neither 'latent' nor 'content'.")
        minibatches = self._minibatches(adata, indices, batch_size, dataloader)
        in_axes = bool(self.module.expression_axes.any())
        compute = self._coordinates if in_axes else self._network_latent
        return self._collect(minibatches, lambda tensors: compute(tensors, kind), n_samples)

    def _network_latent(self, tensors: dict[str, Tensor], kind: str) -> Tensor:
        return self._infer(tensors)["z" if kind == "latent" else "content"]

    def _coordinates(self, tensors: dict[str, Tensor], kind: str) -> Tensor:
        module, inference = self.module, self._infer(tensors)
        if kind == "latent":
            batch = module._get_generative_input(tensors, inference)["batch_index"]
            x_hat = module.decode(inference["z"], batch.to(inference["z"].device))
        else:
            x_hat = module.decode_in_population(inference["content"])
        expression = module.reconstruct({"x_hat": x_hat}, slice(None))
        return (expression - module.expression_centre) @ module.expression_axes

    @torch.inference_mode()
    def get_counterfactual_expression(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        transform_batch: str | Sequence[str] | None = None,
        gene_list: Sequence[str] | None = None,
        n_samples: int | None = None,
        return_mean: bool = True,
        return_numpy: bool = False,
        batch_size: int | None = None,
        swap: Swap | None = None,
        aggregate: Literal["mean"] | None = None,
        keep_residual: bool = False,
        dataloader: Minibatches | None = None,
    ) -> pd.DataFrame | np.ndarray | dict[str, pd.DataFrame] | dict[str, np.ndarray]:
        """Expression of each cell as the model predicts it for another batch.

        In the units of the input. With a cell's own batch as the target this is
        :meth:`get_reconstruction`, so that differences between targets are effects of the batch
        alone: compare a counterfactual with the reconstruction, not with the measured cell.

        Parameters
        ----------
        adata, indices, batch_size, dataloader
            See :meth:`get_latent_representation`.
        transform_batch
            Name of the target batch, or several; needed.
        gene_list
            Genes to return; ``None`` for all.
        n_samples
            Number of posterior draws of the random effects; ``None`` for their means. The draws
            are seeded by ``scvi.settings.seed``, the same for all cells and targets.
        return_mean
            Average the draws.
        return_numpy
            Return arrays instead of tables.
        swap
            What gets the target batch. ``"content"``: all that follows the content;
            ``"decoder"``: the decoder, with the latent of the own batch (scMEDAL, section 4.2.2);
            ``"encoder_decoder"``: encoder and decoder. ``None`` for the preset's: content by
            default, encoder and decoder in the paper's presets.
        aggregate
            ``"mean"`` averages over the targets, as scvi-tools does for a list.
        keep_residual
            Add what the reconstruction misses of each measured cell: the result is the measured
            cell plus the shift, counterfactual minus reconstruction. Swapped cells then vary as
            measured cells do.

        Returns
        -------
        pandas.DataFrame, numpy.ndarray or dict
            Shape ``(n_cells, n_genes)``, or an array ``(n_samples, n_cells, n_genes)`` with
            ``return_mean=False``. For several targets a dictionary from target to result.

        Raises
        ------
        ValueError
            If a target is unknown or missing, or the network has no content to hold.
        """
        if aggregate not in (None, "mean"):
            raise ValueError(f"aggregate={aggregate!r} is neither None nor 'mean'.")
        targets = self._targets(transform_batch)
        swap = self._check_swap(swap)
        genes = self._gene_positions(gene_list)
        if dataloader is not None and len(targets) > 1:
            dataloader = list(dataloader)
        cells = None if dataloader is not None else self._cell_names(adata, indices)
        results = {}
        for name, code in targets.items():
            minibatches = self._minibatches(adata, indices, batch_size, dataloader)
            values = self._collect(
                minibatches,
                lambda tensors, code=code: self._swap(tensors, code, swap, genes, keep_residual),
                n_samples,
                return_mean,
            )
            results[name] = values if return_numpy else self._as_table(values, cells, genes)
        if aggregate == "mean":
            return sum(results.values()) / len(results)
        return next(iter(results.values())) if _is_name(transform_batch) else results

    @torch.inference_mode()
    def get_swap_gap(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> float:
        """Squared error of cells reconstructed in a wrong batch, over that in their own.

        1 means that the batch makes no difference to the model: its random effects are gone.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_latent_representation`.
        seed
            Seed of the wrong batches, drawn uniformly for each cell.

        Returns
        -------
        float
            Ratio of the squared errors, summed over cells and genes.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        generator = torch.Generator().manual_seed(seed)
        n_batch, errors = self.module.n_batch, np.zeros(2)
        for tensors in self._minibatches(adata, indices, batch_size, None):
            inference = self._infer(tensors)
            own = self.module._get_generative_input(tensors, inference)["batch_index"]
            other = torch.randint(1, n_batch, own.shape, generator=generator).to(own.device)
            for i, batch in enumerate(((own + other) % n_batch, own)):
                z = self._latent_in(inference, batch)
                x_hat = self.module.generative(z, batch, inference["content"])["x_hat"]
                errors[i] += float((inference["x_scaled"] - x_hat).square().sum())
        return float(errors[0] / errors[1])

    def _latent_in(self, inference: dict[str, Tensor], batch: Tensor) -> Tensor:
        """Latent ``r`` of inferred cells as it is in a batch."""
        if self.module.bottleneck is None:
            return inference["z"]
        content = inference["content"]
        return self.module.express(content, batch.to(content.device), sample=False)

    def _after_training(self) -> None:
        own_minibatches = self.adata is None or self.train_indices is None
        if self.module.bottleneck is None or own_minibatches:
            return
        self._fit_axes()
        if self.module.gene_effects is not None:
            fit_gene_effects(self)
        held_back = self.validation_indices
        held_back = held_back if held_back is not None and len(held_back) else self.train_indices
        gap = self.get_swap_gap(indices=held_back)
        if gap < COLLAPSED:
            warnings.warn(
                f"The random effects have collapsed: a wrong batch changes the reconstruction "
                f"error by a factor of {gap:.4f}. Either the batches do not differ, or training "
                "was too short. `tl.effects_diagnostics(model)` has the details.",
                UserWarning,
                stacklevel=3,
            )
        self._warn_if_unsettled()

    def _warn_if_unsettled(self) -> None:
        settled_after = SETTLE_AFTER * self.trainer.max_epochs
        if self.best_epoch_ is not None and self.best_epoch_ < settled_after:
            warnings.warn(
                f"The best epoch, {self.best_epoch_}, lies in the first half of the training, in "
                "which the scales of the random effects are not settled: effects that the data do "
                "not support may be left. Train with a smaller `max_epochs`, or with "
                "`early_stopping=False`.",
                UserWarning,
                stacklevel=4,
            )

    @torch.inference_mode()
    def _fit_axes(self) -> None:
        """Find the axes, of what the network alone reconstructs, in which latents are returned."""
        rng = np.random.default_rng(0)
        cells = np.sort(rng.permutation(self.train_indices)[:CELLS_FOR_AXES])
        expression = self.get_reconstruction(indices=cells, return_numpy=True)
        axes = self.module.expression_axes
        n_axes = min(axes.shape[1], *expression.shape)
        components = PCA(n_axes, random_state=0).fit(expression)
        self.module.expression_centre.copy_(torch.from_numpy(components.mean_))
        axes.zero_()
        axes[:, :n_axes] = torch.from_numpy(components.components_.T).to(axes)

    def _swap(
        self,
        tensors: dict[str, Tensor],
        code: int,
        swap: Swap,
        genes: np.ndarray,
        keep_residual: bool,
    ) -> Tensor:
        inputs = self.module._get_inference_input(tensors)
        target = torch.full_like(inputs["batch_index"], code)
        if swap == "encoder_decoder":
            inputs = inputs | {"batch_index": target}
        outputs = self.module.inference(**inputs)
        z = self._latent_in(outputs, target) if swap == "content" else outputs["z"]
        swapped = self.module.generative(z, target, outputs["content"])
        swapped = self.module.reconstruct(swapped, genes)
        return swapped + self._residual(tensors, genes) if keep_residual else swapped

    def _residual(self, tensors: dict[str, Tensor], genes: np.ndarray) -> Tensor:
        inference = self._infer(tensors)
        generative_inputs = self.module._get_generative_input(tensors, inference)
        missed = inference["x_scaled"] - self.module.generative(**generative_inputs)["x_hat"]
        return (missed * self.module.scaler.scale)[:, genes]

    def _targets(self, transform_batch) -> dict[str, int]:
        names = [transform_batch] if _is_name(transform_batch) else list(transform_batch or ())
        known = self.batch_names
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            problem = f"{unknown} are not batches of the model" if unknown else "it names no batch"
            raise ValueError(
                f"transform_batch: {problem}. Choose from "
                f"{', '.join(map(str, known[:20]))}{', ...' if len(known) > 20 else ''}."
            )
        return {name: known.get_loc(name) for name in names}

    def _check_swap(self, swap: Swap | None) -> Swap:
        has_content = self.module.bottleneck is not None
        swap = swap or ("content" if has_content else "encoder_decoder")
        if swap not in get_args(Swap):
            raise ValueError(f"swap={swap!r} is not one of {get_args(Swap)}.")
        if swap == "content" and not has_content:
            raise ValueError(
                "swap='content' needs a content code, which the paper's presets do not have. Use "
                "'decoder' or 'encoder_decoder', or train with preset='default'."
            )
        return swap

    def _draw_effects(self, n_samples: int) -> list[dict[str, Tensor]]:
        seed = settings.seed if settings.seed is not None else 0
        generator = torch.Generator().manual_seed(seed)
        return [self.module.draw_effects(generator) for _ in range(n_samples)]


def _is_name(transform_batch) -> bool:
    return isinstance(transform_batch, str | int | np.integer)
