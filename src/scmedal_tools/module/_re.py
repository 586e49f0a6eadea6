"""Random-effects network: a Bayesian autoencoder whose layers depend on the batch."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi.module.base import LossOutput, auto_move_data
from torch import nn
from torch.nn import functional as F

from ._base import MedalModule, batch_of
from ._gene_effects import GeneEffects
from ._layers import Classifier, Normalization
from ._levels import POPULATION
from ._reden import RandomEffects, RedenBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from ._gene_effects import Draw


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
    content_code
        Whether there is a content before the bottleneck's random effects, from which an adversary
        drives the batch.
    deep_effects
        Whether all hidden layers carry random effects, or only those next to the latent. The
        layer of the genes always does.
    normalization, normalize_output
        Normalisation inside the hidden blocks, and whether the block of the genes has it too.
    decoder_dense_activation
        Activation of the decoder's dense layers before the random effects.
    latent_activation
        Activation of the latent layer.
    effects
        Keyword arguments of every :class:`RandomEffects` table but its shape.
    kl_estimate
        ``"closed form"``, divided by the number of training cells, or ``"single draw"``, averaged
        over the encoder's and over the decoder's tables as the paper's networks were trained.
    n_states
        Number of states of the content for which the effects on single genes differ; 0 for no
        effects but the network's. See :class:`~scmedal_tools.module._gene_effects.GeneEffects`.
    n_new
        For each factor (batch, and further ones), the number of its last levels that were added to
        a trained network. Only their effects are learned then.
    input_dropout
        Share of the genes that the encoder does not see of a cell in training; the cell is
        reconstructed whole.
    batch_hidden, adversary_hidden
        Hidden widths of the classifier that reads the batch from ``r`` and of the adversary that
        reads it from ``u``.
    adversary_dropout
        Share of the adversary's hidden units that is left out in training, so that it learns what
        holds for other cells too.
    batch_weight, kl_weight
        Weights of the batch classifier's cross-entropy (0 for no classifier) and of the KL
        divergence.
    **kwargs
        See :class:`~scmedal_tools.module._base.MedalModule`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> import torch
    >>> settings = smt.train.get_preset("SCMEDAL_RE", "default").module
    >>> module = smt.module.REModule(
    ...     n_input=60, n_batch=4, n_hidden=(16, 8), n_latent=4, **settings
    ... )
    >>> batch_index = torch.randint(4, (10,))
    >>> outputs = module.inference(torch.rand(10, 60), batch_index)
    >>> outputs["content"].shape, outputs["z"].shape
    (torch.Size([10, 4]), torch.Size([10, 4]))
    """

    def __init__(
        self,
        n_input: int,
        n_batch: int,
        n_hidden: Sequence[int] = (512, 132),
        n_latent: int = 50,
        *,
        content_code: bool,
        deep_effects: bool,
        normalization: Normalization,
        normalize_output: bool,
        decoder_dense_activation: Literal["linear", "selu"],
        latent_activation: Literal["linear", "selu"],
        effects: dict,
        kl_estimate: Literal["closed form", "single draw"],
        n_states: int,
        input_dropout: float,
        batch_hidden: Sequence[int],
        adversary_hidden: Sequence[int],
        adversary_dropout: float,
        batch_weight: float,
        kl_weight: float,
        n_crossed: Sequence[int] = (),
        n_new: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(n_input, n_batch, n_crossed=n_crossed, **kwargs)
        self.n_new = tuple(n_new or [0] * len(self.n_levels))
        n_trained = [n - new for n, new in zip(self.n_levels, self.n_new, strict=True)]
        if not n_hidden:
            raise ValueError("n_hidden is empty: name the width of one hidden layer or more.")
        if self.adversary_weight and not content_code:
            raise ValueError("adversary_weight needs content_code=True: the adversary reads it.")
        if n_states and not content_code:
            raise ValueError("n_states needs content_code=True: they are states of the content.")
        self.kl_estimate = kl_estimate
        self.input_dropout = input_dropout
        self.batch_weight = batch_weight
        self.kl_weight = kl_weight

        def block(
            n_in: int,
            n_out: int,
            activation: Callable[[Tensor], Tensor] = F.selu,
            dense_activation: str = "linear",
            **options: Any,
        ) -> RedenBlock:
            return RedenBlock(
                n_in,
                n_out,
                n_batch,
                activation=activation,
                dense_activation=F.selu if dense_activation == "selu" else nn.Identity(),
                n_crossed=n_crossed,
                n_new=self.n_new,
                **{"normalization": normalization, "effects": effects} | options,
            )

        # By their distance from the latent.
        next_to_latent: dict[str, Any] = {}
        further: dict[str, Any] = {} if deep_effects else {"effects": None}
        carries = [next_to_latent] + [further] * (len(n_hidden) - 1)
        widths = [n_input, *n_hidden]
        self.encoder = nn.ModuleList(
            block(n_in, n_out, **tables)
            for (n_in, n_out), tables in zip(
                itertools.pairwise(widths), reversed(carries), strict=True
            )
        )
        self.latent = nn.Linear(n_hidden[-1], n_latent)
        self.latent_activation = F.selu if latent_activation == "selu" else nn.Identity()
        self.bottleneck = (
            block(n_latent, n_latent, nn.Identity(), normalization="none")
            if content_code
            else None
        )
        widths = [n_latent, *reversed(n_hidden)]
        self.decoder = nn.ModuleList(
            block(n_in, n_out, dense_activation=decoder_dense_activation, **tables)
            for (n_in, n_out), tables in zip(itertools.pairwise(widths), carries, strict=True)
        )
        self.output = block(
            n_hidden[0],
            n_input,
            nn.Identity(),
            normalization=normalization if normalize_output else "none",
        )
        self.batch_classifier = (
            Classifier(n_latent, batch_hidden, n_trained) if batch_weight else None
        )
        sizes = (n_batch, n_input, n_latent, n_states, n_crossed, self.n_new)
        self.gene_effects = GeneEffects(*sizes) if n_states else None
        self.register_buffer("expression_axes", torch.zeros(n_input, n_latent))
        self.register_buffer("expression_centre", torch.zeros(n_input))
        if self.adversary_weight:
            self.adversary = Classifier(n_latent, adversary_hidden, n_trained, adversary_dropout)
        self.learns_new_levels = False
        if any(self.n_new):
            self._freeze()

    def encode(self, x_scaled: Tensor, batch_index: Tensor, sample: bool) -> Tensor:
        """Content of scaled expression, of shape ``(n_cells, n_latent)``."""
        # Contiguous, as the mask is drawn in the order of memory, which follows the storage.
        x_scaled = F.dropout(x_scaled.contiguous(), self.input_dropout, self.training)
        for block in self.encoder:
            x_scaled = block(x_scaled, batch_index, sample)
        return self.latent_activation(self.latent(x_scaled))

    def express(self, content: Tensor, batch_index: Tensor, sample: bool) -> Tensor:
        """Batch-explicit latent ``r`` of a content."""
        if self.bottleneck is None:
            return content
        return self.bottleneck(content, batch_index, sample)

    @auto_move_data
    def inference(
        self, x: Tensor, batch_index: Tensor, sample: bool | None = None
    ) -> dict[str, Tensor]:
        """Content and latent; ``sample`` draws the effects instead of taking their means."""
        sample = self.training if sample is None else sample
        x_scaled = self.scaler(x)
        content = self.encode(x_scaled, batch_index, sample)
        z = self.express(content, batch_index, sample)
        return {"z": z, "content": content, "x_scaled": x_scaled}

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **kwargs: Any
    ) -> dict[str, Tensor]:
        return {
            "z": inference_outputs["z"],
            "batch_index": batch_of(tensors),
            "content": inference_outputs["content"],
        }

    @auto_move_data
    def generative(
        self,
        z: Tensor,
        batch_index: Tensor,
        content: Tensor,
        sample: bool | None = None,
        genes: Tensor | None = None,
        population: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Scaled expression of a latent under a batch, of all genes or those at some positions.

        Once the effects on single genes are fitted, they are part of it. ``population`` is what
        :meth:`decode_in_population` makes of the content, if it is known already.
        """
        sample = self.training if sample is None else sample
        x_hat = self.decode(z, batch_index, sample, genes)
        if (gene_effects := self._fitted_gene_effects) is not None:
            if population is None:
                population = self.decode_in_population(content, genes)
            x_hat = gene_effects(population, x_hat, content, batch_index, genes)
        return {"x_hat": x_hat}

    def decode(
        self, z: Tensor, batch_index: Tensor, sample: bool = False, genes: Tensor | None = None
    ) -> Tensor:
        """Scaled expression that the network alone makes of a latent."""
        for block in self.decoder:
            z = block(z, batch_index, sample)
        return self.output(z, batch_index, sample, genes)

    def _freeze(self) -> None:
        """Let nothing be learned but the effects of new levels."""
        self.requires_grad_(False)
        for table in self.effect_tables.values():
            table.loc.requires_grad_(bool(table.n_new))
            table.rho.requires_grad_(bool(table.n_new))

    def start_new_levels(self) -> None:
        """Put the effects of new levels at their prior."""
        for table in self.effect_tables.values():
            if table.n_new:
                table.start_new()

    @property
    def has_gene_effects(self) -> bool:
        """Whether effects on single genes are fitted; the network is trained without them."""
        return self._fitted_gene_effects is not None

    @property
    def _fitted_gene_effects(self) -> GeneEffects | None:
        if self.gene_effects is None or self.training or self.learns_new_levels:
            return None
        return self.gene_effects if self.gene_effects.is_fitted else None

    def adversary_features(self, inference_outputs: dict[str, Tensor]) -> Tensor:
        """Content, from which the batch has to go."""
        return inference_outputs["content"]

    @property
    def effect_tables(self) -> dict[str, RandomEffects]:
        """All random effects by name, in the order of the network."""
        return {k: m for k, m in self.named_modules() if isinstance(m, RandomEffects)}

    @property
    def random_effects(self) -> dict[str, RandomEffects | GeneEffects]:
        """All random effects by name, the network's tables and those on single genes."""
        gene_effects = self._fitted_gene_effects
        on_genes = {} if gene_effects is None else {"gene_effects": gene_effects}
        return {**self.effect_tables, **on_genes}

    def draw_effects(
        self, generator: torch.Generator, n_unseen: Sequence[int] | None = None
    ) -> dict[str, Tensor | Draw]:
        """One posterior draw of all random effects; of unseen levels from the prior."""
        n_unseen = n_unseen or [0] * len(self.n_levels)
        drawn: dict[str, Tensor | Draw] = {
            name: table.draw(generator, n_unseen[factor_of(name)])
            for name, table in self.effect_tables.items()
        }
        if (gene_effects := self._fitted_gene_effects) is not None:
            drawn["gene_effects"] = gene_effects.draw(generator, n_unseen)
        return drawn

    @contextmanager
    def effects_fixed_at(self, draw: dict[str, Tensor | Draw]) -> Iterator[None]:
        """Context in which the effects named are one draw, the same for all minibatches."""
        random_effects = self.random_effects
        tables = {name: random_effects[name] for name in draw}
        before = {name: table.fixed for name, table in tables.items()}
        try:
            for name, table in tables.items():
                table.fixed = draw[name]
            yield
        finally:
            for name, table in tables.items():
                table.fixed = before[name]

    def decode_in_population(self, content: Tensor, genes: Tensor | None = None) -> Tensor:
        """What the network alone makes of a content if all effects are at their mean, 0."""
        population = torch.full(content.shape[:1], POPULATION, device=content.device)
        z = self.express(content, population, sample=False)
        return self.decode(z, population, genes=genes)

    def absorb_common_effects(self) -> None:
        """Move what the effects of all batches share into the fixed parameters."""
        for block in self.modules():
            if isinstance(block, RedenBlock) and block.slope is not None:
                block.absorb_common_effects()

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
                inference_outputs["z"], batch_of(tensors)
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


def factor_of(table: str) -> int:
    """Factor that a table of random effects belongs to, from its name; 0 is the batch."""
    _, crossed, rest = table.partition(".crossed.")
    return int(rest.partition(".")[0]) + 1 if crossed else 0
