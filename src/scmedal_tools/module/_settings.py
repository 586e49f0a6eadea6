"""Settings of the networks in groups. Users give them to the models by their names alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from scmedal_tools._data import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Allowed,
    check_argument,
    check_settings_by_name,
    one_of,
    whole,
)

from ._layers import Normalization
from ._likelihood import Likelihood
from ._scaler import Scaling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Activation = Literal["linear", "selu"]
AdversarialObjective = Literal["bounded", "unbounded"]
Decoder = Literal["batch", "tied"]
KlEstimate = Literal["closed form", "single draw"]

_FLAG = one_of(Literal[True, False])
_WIDTHS = Allowed(
    lambda x: isinstance(x, Collection) and all(map(whole().holds, x)),
    "has to be the widths of hidden layers, whole numbers of at least 1, such as (512, 132)",
)
ALLOWED = {
    "adversarial_objective": one_of(AdversarialObjective),
    "adversary_dropout": SHARE,
    "adversary_hidden": _WIDTHS,
    "adversary_weight": NOT_NEGATIVE,
    "batch_hidden": _WIDTHS,
    "batch_weight": NOT_NEGATIVE,
    "content_code": _FLAG,
    "decoder": one_of(Decoder),
    "decoder_dense_activation": one_of(Activation),
    "deep_effects": _FLAG,
    "input_dropout": SHARE,
    "kl_estimate": one_of(KlEstimate),
    "kl_weight": NOT_NEGATIVE,
    "label_hidden": _WIDTHS,
    "label_weight": NOT_NEGATIVE,
    "latent_activation": one_of(Activation),
    "learn_prior": _FLAG,
    "likelihood": one_of(Likelihood),
    "mean_sd": NOT_NEGATIVE,
    "n_hidden": _WIDTHS,
    "n_latent": whole(),
    "n_states": whole(0),
    "normalization": one_of(Normalization),
    "normalize_output": _FLAG,
    "posterior_sd": POSITIVE,
    "prior_sd": POSITIVE,
    "reconstruction_weight": NOT_NEGATIVE,
    "scaling": one_of(Scaling),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse values that no network can have; a misspelt word would else be as another."""
    for name, value in settings.items():
        if name in ALLOWED:
            check_argument(name, value, ALLOWED[name])


@dataclass(frozen=True)
class ReconstructionSettings:
    """Scaling of the expression, and the likelihood and weight of its reconstruction.

    Parameters
    ----------
    scaling
        How the input is scaled; see :class:`~scmedal_tools.module._scaler.ExpressionScaler`.
    likelihood
        ``"gaussian"``: nats per cell with one learned noise for all genes; ``"mse"``: mean squared
        error over genes.
    reconstruction_weight
        Weight of the term.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.module.ReconstructionSettings("centred", "gaussian", reconstruction_weight=1.0)
    ReconstructionSettings(scaling='centred', likelihood='gaussian', reconstruction_weight=1.0)
    """

    scaling: Scaling
    likelihood: Likelihood
    reconstruction_weight: float

    def __post_init__(self) -> None:
        check_settings(vars(self))


@dataclass(frozen=True)
class AdversarySettings:
    """The adversary that predicts the batch, and its weight in the loss of the autoencoder.

    Parameters
    ----------
    adversarial_objective
        ``"bounded"``: the autoencoder pays for what the adversary knows beyond the frequencies of
        the batches and gains nothing by misleading it further; ``"unbounded"``: the adversary's
        negative cross-entropy (scMEDAL, Eq. 2).
    adversary_hidden
        Widths of its hidden layers.
    adversary_weight
        Weight of the term; 0 for no adversary.
    adversary_dropout
        Share of its hidden units that is left out in training, so that it learns what holds for
        other cells too.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> settings = smt.module.AdversarySettings("bounded", (512, 132), adversary_weight=7.0)
    >>> settings.adversary_dropout
    0.0
    """

    adversarial_objective: AdversarialObjective
    adversary_hidden: Sequence[int]
    adversary_weight: float
    adversary_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_settings(vars(self))


@dataclass(frozen=True)
class EffectsSettings:
    """Prior of random effects, and starting values of their posteriors.

    Parameters
    ----------
    prior_sd
        Standard deviation of the prior; the starting value if it is learned.
    learn_prior
        Whether the prior's standard deviation is learned, one for each table of effects.
    posterior_sd
        Standard deviation of every posterior at the start.
    mean_sd
        Standard deviation of the normal distribution that the posterior means start from.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.module.EffectsSettings(prior_sd=0.1, learn_prior=True, posterior_sd=0.05, mean_sd=0.0)
    EffectsSettings(prior_sd=0.1, learn_prior=True, posterior_sd=0.05, mean_sd=0.0)
    """

    prior_sd: float
    learn_prior: bool
    posterior_sd: float
    mean_sd: float

    def __post_init__(self) -> None:
        check_settings(vars(self))


@dataclass(frozen=True)
class Architecture:
    """Layers of the random-effects network.

    Parameters
    ----------
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
    input_dropout
        Share of the genes that the encoder does not see of a cell in training; the cell is
        reconstructed whole.
    n_states
        Number of states of the content for which the effects on single genes differ; 0 for no
        effects but the network's. See :class:`~scmedal_tools._gene_model.GeneEffects`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> settings = smt.module.Architecture(
    ...     content_code=True,
    ...     deep_effects=False,
    ...     normalization="layer",
    ...     normalize_output=False,
    ...     decoder_dense_activation="linear",
    ...     latent_activation="linear",
    ...     input_dropout=0.45,
    ...     n_states=10,
    ... )
    >>> settings.n_states
    10
    """

    content_code: bool
    deep_effects: bool
    normalization: Normalization
    normalize_output: bool
    decoder_dense_activation: Activation
    latent_activation: Activation
    input_dropout: float
    n_states: int

    def __post_init__(self) -> None:
        check_settings(vars(self))


@dataclass(frozen=True)
class ObjectiveSettings:
    """Weight of the effects' KL divergence, and a classifier that keeps the batch in the latent.

    Parameters
    ----------
    kl_estimate
        ``"closed form"``, divided by the number of training cells, or ``"single draw"``, averaged
        over the encoder's and over the decoder's tables as the paper's networks were trained.
    kl_weight
        Weight of the KL divergence.
    batch_hidden
        Hidden widths of the classifier that predicts the batch from the latent.
    batch_weight
        Weight of its cross-entropy; 0 for no classifier.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.module.ObjectiveSettings("closed form", kl_weight=1.0, batch_hidden=(), batch_weight=0)
    ObjectiveSettings(kl_estimate='closed form', kl_weight=1.0, batch_hidden=(), batch_weight=0)
    """

    kl_estimate: KlEstimate
    kl_weight: float
    batch_hidden: Sequence[int]
    batch_weight: float

    def __post_init__(self) -> None:
        check_settings(vars(self))


def grouped(settings: Mapping[str, Any], groups: Mapping[str, type]) -> dict[str, Any]:
    """Arguments of a module: settings in the groups that have their names, the others as is.

    Settings of a group may also be together in a dictionary of its name, as ``effects`` are.
    """
    rest, of_groups = dict(settings), {}
    for name, group in groups.items():
        given, names = rest.pop(name, {}), [field.name for field in fields(group)]
        check_settings_by_name(name, given, names)
        alone = {name: rest.pop(name) for name in names if name in rest}
        of_groups[name] = group(**given, **alone)
    check_settings(rest)
    return of_groups | rest
