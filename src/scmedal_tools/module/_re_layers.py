"""Layers of the random-effects network, and which of them carry effects."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn
from torch.nn import functional as F

from ._reden import RedenBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ._reden import EffectsDraw
    from ._settings import Architecture, EffectsSettings


class RELayers(NamedTuple):
    """Layers in the order in which a cell passes them."""

    encoder: nn.ModuleList
    latent: nn.Linear
    bottleneck: RedenBlock | None
    decoder: nn.ModuleList
    output: RedenBlock


def check_architecture(
    n_hidden: Sequence[int], architecture: Architecture, adversary_weight: float
) -> None:
    """Raise a ValueError if the parts of the network do not fit each other."""
    if not n_hidden:
        raise ValueError("n_hidden is empty: name the width of one hidden layer or more.")
    if adversary_weight and not architecture.content_code:
        raise ValueError("adversary_weight needs content_code=True, the input of the adversary.")
    if architecture.n_states and not architecture.content_code:
        raise ValueError(
            "n_states and states_key need content_code=True: effects on states stand beside a "
            "content. The paper's presets have none; register without states_key for them."
        )


def build_layers(
    widths: Sequence[int],
    n_latent: int,
    n_batch: int,
    architecture: Architecture,
    effects: EffectsSettings,
    n_crossed: Sequence[int],
    n_new: Sequence[int],
) -> RELayers:
    """Build the layers; ``widths`` are those of the encoder, from the genes on."""
    identity = nn.Identity()
    shared: dict[str, Any] = {
        "n_crossed": n_crossed,
        "n_new": n_new,
        "normalization": architecture.normalization,
        "dense_activation": identity,
    }
    selu = F.selu if architecture.decoder_dense_activation == "selu" else identity
    encoder_options = shared | {"activation": F.selu}
    decoder_options = encoder_options | {"dense_activation": selu}
    last_options = shared | {"activation": identity}

    # By their distance from the latent.
    further = effects if architecture.deep_effects else None
    carried = [effects] + [further] * (len(widths) - 2)

    def stack(
        widths: Sequence[int], carried: Sequence[EffectsSettings | None], **options: Any
    ) -> nn.ModuleList:
        pairs = itertools.pairwise(widths)
        return nn.ModuleList(
            RedenBlock(n_in, n_out, n_batch, effects=own, **options)
            for (n_in, n_out), own in zip(pairs, carried, strict=True)
        )

    encoder = stack(widths, carried[::-1], **encoder_options)
    latent = nn.Linear(widths[-1], n_latent)
    bottleneck = None
    if architecture.content_code:
        options = last_options | {"normalization": "none"}
        bottleneck = RedenBlock(n_latent, n_latent, n_batch, effects=effects, **options)
    decoder = stack([n_latent, *reversed(widths[1:])], carried, **decoder_options)
    if not architecture.normalize_output:
        last_options["normalization"] = "none"
    output = RedenBlock(widths[1], widths[0], n_batch, effects=effects, **last_options)
    return RELayers(encoder, latent, bottleneck, decoder, output)


def of_block(draw: EffectsDraw | None, block: str) -> dict[str, Tensor] | None:
    """Part of a draw that is of a block, by the names within it."""
    if draw is None:
        return None
    start = f"{block}."
    return {name.removeprefix(start): x for name, x in draw.items() if name.startswith(start)}
