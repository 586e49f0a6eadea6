"""Random-effects network: a Bayesian autoencoder whose layers depend on the batch."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import LossOutput, auto_move_data
from torch import nn
from torch.nn import functional as F

from scmedal_tools._gene_model import SPREAD, GeneEffects

from ._base import MedalModule
from ._factor_levels import POPULATION_LEVEL, as_levels, levels_of
from ._layers import Classifier, Dropout
from ._random_effects import RandomEffects
from ._re_layers import build_layers, check_architecture, of_block
from ._reden import RedenBlock, factor_of
from ._settings import Architecture, EffectsSettings, ObjectiveSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scmedal_tools._gene_model import GeneEffectsDraw, LevelFreePart

    from ._reden import EffectsDraw
    from ._settings import AdversarySettings


class REModule(MedalModule):
    """Module of :class:`~scmedal_tools.model.SCMEDAL_RE` (scMEDAL, section 4.2.2, Eq. 8).

    The encoder turns a cell into its content ``u``. With ``content_code`` an adversary keeps the
    batch out of ``u`` and a REDEN block at the bottleneck turns ``u`` into the batch-explicit
    latent ``r``; without, as in the paper, ``r`` is ``u``. The decoder's REDEN blocks turn ``r``
    into expression.

    Parameters
    ----------
    n_input, n_batch, n_crossed
        Numbers of genes, of batches, and of the levels of further factors.
    n_hidden, n_latent
        Widths of the encoder, which the decoder mirrors.
    architecture, effects, objective, adversary
        See :class:`~scmedal_tools.module.Architecture`,
        :class:`~scmedal_tools.module.EffectsSettings`, which are those of every table,
        :class:`~scmedal_tools.module.ObjectiveSettings` and
        :class:`~scmedal_tools.module.AdversarySettings`.
    n_new
        For each factor (batch, and further ones), the number of its last levels that were added to
        a trained network. Only their effects are learned then.
    **kwargs
        See :class:`~scmedal_tools.module._base.MedalModule`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> import torch
    >>> settings = smt.train.get_preset("SCMEDAL_RE", "default").module
    >>> module = smt.module.REModule.from_settings(
    ...     settings, n_input=60, n_batch=4, n_hidden=(16, 8), n_latent=4
    ... )
    >>> levels = torch.randint(4, (10, 1))
    >>> outputs = module.inference(torch.rand(10, 60), levels)
    >>> outputs["content"].shape, outputs["z"].shape
    (torch.Size([10, 4]), torch.Size([10, 4]))
    """

    groups = MedalModule.groups | {
        "architecture": Architecture,
        "effects": EffectsSettings,
        "objective": ObjectiveSettings,
    }
    fitted_afterwards = ("gene_effects.",)

    def __init__(
        self,
        n_input: int,
        n_batch: int,
        n_hidden: Sequence[int] = (512, 132),
        n_latent: int = 50,
        *,
        architecture: Architecture,
        effects: EffectsSettings,
        objective: ObjectiveSettings,
        adversary: AdversarySettings,
        n_crossed: Sequence[int] = (),
        n_new: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(n_input, n_batch, n_crossed=n_crossed, adversary=adversary, **kwargs)
        self.n_new = tuple(n_new or [0] * len(self.n_levels))
        n_trained = [n - new for n, new in zip(self.n_levels, self.n_new, strict=True)]
        check_architecture(n_hidden, architecture, self.adversary_weight)
        self.kl_estimate = objective.kl_estimate
        self.dropout = Dropout(architecture.input_dropout)
        self.batch_weight = objective.batch_weight
        self.kl_weight = objective.kl_weight
        layers = build_layers(
            [n_input, *n_hidden], n_latent, n_batch, architecture, effects, n_crossed, self.n_new
        )
        self.encoder, self.latent, self.bottleneck, self.decoder, self.output = layers
        selu_latent = architecture.latent_activation == "selu"
        self.latent_activation = F.selu if selu_latent else nn.Identity()
        self.batch_classifier = (
            Classifier(n_latent, objective.batch_hidden, n_trained)
            if objective.batch_weight
            else None
        )
        n_states = architecture.n_states
        self.gene_effects = (
            GeneEffects(self.n_levels, n_input, n_latent, n_states, self.n_new)
            if n_states
            else None
        )
        self.register_buffer("expression_axes", torch.zeros(n_input, n_latent))
        self.register_buffer("expression_centre", torch.zeros(n_input))
        # The paper's networks have nothing to be fitted after the training.
        self.register_buffer("is_finished", torch.tensor(not architecture.content_code))
        if self.adversary_weight:
            hidden, dropout = adversary.adversary_hidden, adversary.adversary_dropout
            self.adversary = Classifier(n_latent, hidden, n_trained, dropout)
        if any(self.n_new):
            self._freeze()

    def encode(
        self, x_scaled: Tensor, levels: Tensor, sample: bool, draw: EffectsDraw | None = None
    ) -> Tensor:
        """Content of scaled expression, of shape ``(n_cells, n_latent)``."""
        x_scaled = self.dropout(x_scaled)
        for i, block in enumerate(self.encoder):
            x_scaled = block(x_scaled, levels, sample, draw=of_block(draw, f"encoder.{i}"))
        return self.latent_activation(self.latent(x_scaled))

    def express(
        self, content: Tensor, levels: Tensor, sample: bool, draw: EffectsDraw | None = None
    ) -> Tensor:
        """Batch-explicit latent ``r`` of a content."""
        if self.bottleneck is None:
            return content
        return self.bottleneck(content, levels, sample, draw=of_block(draw, "bottleneck"))

    def _get_inference_input(
        self, tensors: dict[str, Tensor], draw: EffectsDraw | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        return super()._get_inference_input(tensors) | {"levels": levels_of(tensors), "draw": draw}

    @auto_move_data
    def inference(
        self,
        x: Tensor,
        levels: Tensor,
        sample: bool | None = None,
        draw: EffectsDraw | None = None,
    ) -> dict[str, Tensor]:
        """Content and latent of cells.

        Parameters
        ----------
        x
            Log-expression of shape ``(n_cells, n_genes)``.
        levels
            Level of each cell of each factor, the batch first, ``(n_cells, n_factors)``, or
            ``(n_cells,)`` of the only one; -1 is the population.
        sample
            Draw the effects instead of taking their means; ``None`` to do so in training only.
        draw
            Effects to use instead; see :meth:`draw_effects`.

        Returns
        -------
        dict
            ``"content"`` and ``"z"``, of shape ``(n_cells, n_latent)``, and ``"x_scaled"``.

        Raises
        ------
        ValueError
            If the levels do not fit the factors.
        """
        sample = self.training if sample is None else sample
        x_scaled = self.scaler(x)
        content = self.encode(x_scaled, levels, sample, draw)
        z = self.express(content, levels, sample, draw)
        return {"z": z, "content": content, "x_scaled": x_scaled}

    @auto_move_data
    def generative(
        self, z: Tensor, levels: Tensor, sample: bool | None = None
    ) -> dict[str, Tensor]:
        """Scaled expression that the network alone makes of a latent, by which it is trained."""
        return {"x_hat": self.decode(z, levels, self.training if sample is None else sample)}

    @auto_move_data
    def predict(
        self,
        z: Tensor,
        levels: Tensor,
        content: Tensor,
        own: Tensor,
        *,
        state: Tensor | None = None,
        genes: Tensor | None = None,
        draw: EffectsDraw | None = None,
        cells: LevelFreePart | None = None,
    ) -> Tensor:
        """Scaled expression that the whole model makes of a latent.

        Beside what the network says it has the effects on single genes, once they are fitted.

        Parameters
        ----------
        z, content
            Latent and content, of shape ``(n_cells, n_latent)``.
        levels, own
            Levels to predict under, and those that the cells have; see :meth:`inference`.
        state
            State of each cell, if it is given; ``None`` to find it in the content.
        genes
            Positions of the genes to return; ``None`` for all.
        draw
            Effects to use instead of their means; see :meth:`draw_effects`.
        cells
            What :meth:`level_free_part` gives of content, own levels and state, if it is known.

        Returns
        -------
        torch.Tensor
            Shape ``(n_cells, n_genes)``.
        """
        x_hat = self.decode(z, levels, genes=genes, draw=draw)
        if (gene_effects := self._fitted_gene_effects) is None:
            return x_hat
        if cells is None:
            cells = self.level_free_part(content, own, state, genes, draw)
        levels = as_levels(levels, len(self.n_levels), of_targets=True)
        return gene_effects(x_hat, cells, levels, genes, (draw or {}).get("gene_effects"))

    @auto_move_data
    def level_free_part(
        self,
        content: Tensor,
        own: Tensor,
        state: Tensor | None = None,
        genes: Tensor | None = None,
        draw: EffectsDraw | None = None,
    ) -> LevelFreePart | None:
        """Part of a prediction that the levels do not change, with fitted effects on genes."""
        if (gene_effects := self._fitted_gene_effects) is None:
            return None
        population = self.decode_in_population(content, genes)
        own = as_levels(own, len(self.n_levels))
        state = gene_effects.state_of(content, own) if state is None else state
        on_genes = (draw or {}).get("gene_effects")
        return gene_effects.level_free_part(population, state, own, genes, on_genes)

    def decode(
        self,
        z: Tensor,
        levels: Tensor,
        sample: bool = False,
        genes: Tensor | None = None,
        draw: EffectsDraw | None = None,
    ) -> Tensor:
        """Scaled expression that the network alone makes of a latent."""
        for i, block in enumerate(self.decoder):
            z = block(z, levels, sample, draw=of_block(draw, f"decoder.{i}"))
        return self.output(z, levels, sample, genes, of_block(draw, "output"))

    def _freeze(self) -> None:
        """Let nothing be learned but the effects of new levels."""
        self.requires_grad_(False)
        for table in self.effect_tables.values():
            table.loc.requires_grad_(bool(table.n_new))
            table.rho.requires_grad_(bool(table.n_new))

    def start_training(self) -> None:
        """Forget what was fitted after an earlier training, if anything is."""
        if self.bottleneck is not None:
            self.is_finished.fill_(False)

    def end_training(self) -> None:
        """Set evaluation mode, and let the effects be as before the training."""
        super().end_training()
        for table in self.effect_tables.values():
            table.end_training()

    def start_new_levels(self) -> None:
        """Put the effects of new levels at their prior."""
        for table in self.effect_tables.values():
            if table.n_new:
                table.start_new()
        if self.gene_effects is not None:
            self.gene_effects.start_new_levels()

    @property
    def has_gene_effects(self) -> bool:
        """Whether effects on single genes are fitted."""
        return self._fitted_gene_effects is not None

    @property
    def _fitted_gene_effects(self) -> GeneEffects | None:
        return self.gene_effects if self.is_finished else None

    def adversary_features(self, inference_outputs: dict[str, Tensor]) -> Tensor:
        """Content, from which the batch has to go."""
        return inference_outputs["content"]

    @property
    def effect_tables(self) -> dict[str, RandomEffects]:
        """All random effects by name, in the order of the network."""
        return {k: m for k, m in self.named_modules() if isinstance(m, RandomEffects)}

    def draw_effects(
        self,
        generator: torch.Generator,
        n_unseen: Sequence[int] | None = None,
        spread: float = SPREAD,
    ) -> dict[str, Tensor | GeneEffectsDraw]:
        """One posterior draw of all random effects; of unseen levels from the prior.

        ``spread`` widens the posterior of the effects on single genes.
        """
        n_unseen = n_unseen or [0] * len(self.n_levels)
        drawn: dict[str, Tensor | GeneEffectsDraw] = {
            name: table.draw(generator, n_unseen[factor_of(name)])
            for name, table in self.effect_tables.items()
        }
        if (gene_effects := self._fitted_gene_effects) is not None:
            drawn["gene_effects"] = gene_effects.draw(generator, n_unseen, spread)
        return drawn

    def decode_in_population(self, content: Tensor, genes: Tensor | None = None) -> Tensor:
        """What the network alone makes of a content if all effects are at their mean, 0."""
        population = torch.full((1, len(self.n_levels)), POPULATION_LEVEL, device=content.device)
        z = self.express(content, population, sample=False)
        return self.decode(z, population, genes=genes)

    def centre_effects(self) -> None:
        """Move what the effects of all batches share into the fixed parameters."""
        for block in self.modules():
            if isinstance(block, RedenBlock) and block.slope is not None:
                block.centre_effects()

    def kl(self) -> Tensor:
        """KL divergence of all random effects in nats, in closed form."""
        return torch.stack([table.kl() for table in self.effect_tables.values()]).sum()

    def kl_per_table(self, noise: dict[str, Tensor] | None = None) -> Tensor:
        """Single-draw KL, averaged over the encoder's and over the decoder's tables, summed."""
        noise = noise or {}
        sides: dict[bool, list[Tensor]] = {True: [], False: []}
        for name, table in self.effect_tables.items():
            sides[name.startswith("encoder")].append(table.kl_of_draw(noise.get(name)))
        return reduce(add, (torch.stack(side).mean() for side in sides.values() if side))

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Tensor],
        n_obs: int = 1,
    ) -> LossOutput:
        """Loss of the autoencoder; ``n_obs`` is the number of training cells."""
        per_cell, metrics = self._reconstruction_loss(inference_outputs, generative_outputs)
        kl = self.kl()
        if self.kl_estimate == "closed form":
            kl_term = kl / n_obs
        else:
            kl_term = metrics["kl_per_table"] = self.kl_per_table()
        contributions = {
            "reconstruction": self.reconstruction_weight * per_cell.mean(),
            "kl": self.kl_weight * kl_term,
        }
        if self.batch_classifier is not None and not any(self.n_new):
            batch_ce = self.batch_classifier.cross_entropy(
                inference_outputs["z"], levels_of(tensors)
            )
            metrics["batch_ce"] = batch_ce.mean()
            contributions["batch"] = self.batch_weight * metrics["batch_ce"]
        if self.adversary is not None and not any(self.n_new):
            features = self.adversary_features(inference_outputs)
            metrics["adversary_ce"] = self.adversary_cross_entropy(features, tensors)
            contributions["adversary"] = self.adversarial_penalty(metrics["adversary_ce"])
        loss = self.total_of(contributions, metrics)
        return LossOutput(
            loss=loss, reconstruction_loss=per_cell, kl_global=kl, extra_metrics=metrics
        )
