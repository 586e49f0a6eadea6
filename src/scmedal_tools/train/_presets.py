"""Named settings of the models: the default, and the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

PAPER_DATA_SETS = ("heart", "asd", "aml")


@dataclass(frozen=True)
class Preset:
    """Arguments of the module, the training plan and ``train()`` that a preset stands for.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> preset = smt.train.get_preset("SCMEDAL_RE", "paper")
    >>> preset.plan["effects_optimizer"]
    'adam'
    """

    module: dict[str, Any]
    plan: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    def with_module(self, **module: Any) -> Preset:
        """Preset with some arguments of the module replaced.

        Parameters
        ----------
        **module
            Arguments of the module and their values; of a dictionary, such as ``effects``, those
            that it names.

        Returns
        -------
        Preset
            A new one; this one stays as it is.

        Examples
        --------
        >>> import scmedal_tools as smt
        >>> preset = smt.train.get_preset("SCMEDAL_FE", "default")
        >>> preset.with_module(adversary_weight=20.0).module["adversary_weight"]
        20.0
        """
        for name, of_group in self.module.items():
            given = module.get(name)
            if isinstance(of_group, dict) and isinstance(given, dict):
                module[name] = of_group | given
        return replace(self, module=self.module | module)


# docs/design/presets.md has the measurements behind the default's numbers.
_DEFAULT_MODULE = {
    "scaling": "centred",
    "normalization": "layer",
    "latent_activation": "linear",
    "adversarial_objective": "bounded",
    "adversary_hidden": (512, 132),
    "reconstruction_weight": 1.0,
}
_DEFAULT_TRAIN = {
    "batch_size": 256,
    "early_stopping": True,
    "early_stopping_patience": 15,
    "early_stopping_warmup_epochs": 5,
}
_PAPER_MODULE = {
    "scaling": "minmax",
    "normalization": "batch",
    "latent_activation": "selu",
    "likelihood": "mse",
    "adversarial_objective": "unbounded",
    "adversary_hidden": (512, 132),
}
_PAPER_PLAN = {"lr": 1e-4, "adversary_lr": 1e-4, "eps": 1e-7}
_PAPER_TRAIN = {"max_epochs": 500, "batch_size": 512, "early_stopping": False}

_DEFAULT_FE = Preset(
    _DEFAULT_MODULE
    | {
        "decoder": "batch",
        "likelihood": "gaussian",
        "input_dropout": 0.45,
        "adversary_dropout": 0.5,
        "adversary_weight": 20.0,
    },
    {"lr": 1e-3, "adversary_lr": 1e-3, "adversary_steps": 3},
    _DEFAULT_TRAIN,
)
_DEFAULT_FEC = _DEFAULT_FE.with_module(label_hidden=(64,), label_weight=20.0)
_DEFAULT_RE = Preset(
    _DEFAULT_MODULE
    | {
        "likelihood": "gaussian",
        "content_code": True,
        "deep_effects": False,
        "normalize_output": False,
        "decoder_dense_activation": "linear",
        "n_states": 10,
        "n_new": None,  # load_query_data sets it
        "input_dropout": 0.45,
        "adversary_dropout": 0.5,
        "effects": {
            "prior_sd": 0.1,
            "learn_prior": True,
            "posterior_sd": 0.05,
            "mean_sd": 0.0,
        },
        "kl_estimate": "closed form",
        "batch_hidden": (64,),
        "batch_weight": 0.0,
        "kl_weight": 1.0,
        "adversary_weight": 7.0,
    },
    {
        "lr": 1e-3,
        "lr_decay": 0.3,
        "adversary_lr": 1e-3,
        "adversary_steps": 3,
        "effects_optimizer": "natural",
        "effects_lr": 5e-3,
    },
    _DEFAULT_TRAIN,
)

_PAPER_FE = Preset(
    _PAPER_MODULE | {"decoder": "tied", "input_dropout": 0.0, "adversary_dropout": 0.0},
    _PAPER_PLAN,
    _PAPER_TRAIN,
)
_PAPER_FEC = _PAPER_FE.with_module(label_hidden=(2,))
_PAPER_RE = Preset(
    _PAPER_MODULE
    | {
        "content_code": False,
        "deep_effects": True,
        "normalize_output": True,
        "decoder_dense_activation": "selu",
        "n_states": 0,
        "n_new": None,  # load_query_data sets it
        "input_dropout": 0.0,
        "adversary_dropout": 0.0,
        "effects": {
            "prior_sd": 0.25,
            "learn_prior": False,
            "posterior_sd": 7e-4,
            "mean_sd": 0.1,
        },
        "kl_estimate": "single draw",
        "batch_hidden": (5,),
        "reconstruction_weight": 110.0,
        "kl_weight": 1e-5,
        "adversary_weight": 0.0,
    },
    _PAPER_PLAN | {"effects_optimizer": "adam", "effects_lr": 1e-4},
    _PAPER_TRAIN,
)

# scMEDAL, supplementary Tables S2-S4.
_FE_WEIGHTS = {
    "heart": {"reconstruction_weight": 600.0, "adversary_weight": 1.0},
    "asd": {"reconstruction_weight": 2000.0, "adversary_weight": 1.0},
    "aml": {"reconstruction_weight": 1000.0, "adversary_weight": 1.0},
}
_FEC_WEIGHTS = {
    "heart": {"reconstruction_weight": 2000.0, "label_weight": 1.0, "adversary_weight": 1.0},
    "asd": {"reconstruction_weight": 2000.0, "label_weight": 1.0, "adversary_weight": 1.0},
    "aml": {"reconstruction_weight": 2000.0, "label_weight": 3.0, "adversary_weight": 0.5},
}
_RE_WEIGHTS = {
    "heart": {"batch_weight": 0.1},
    "asd": {"batch_weight": 0.4},
    "aml": {"batch_weight": 0.1},
}


def _family(default: Preset, paper: Preset, weights: dict[str, dict]) -> dict[str, Preset]:
    by_data_set = {f"paper-{name}": paper.with_module(**weights[name]) for name in PAPER_DATA_SETS}
    return {"default": default, "paper": by_data_set["paper-aml"]} | by_data_set


PRESETS: dict[str, dict[str, Preset]] = {
    "SCMEDAL_FE": _family(_DEFAULT_FE, _PAPER_FE, _FE_WEIGHTS),
    "SCMEDAL_FEC": _family(_DEFAULT_FEC, _PAPER_FEC, _FEC_WEIGHTS),
    "SCMEDAL_RE": _family(_DEFAULT_RE, _PAPER_RE, _RE_WEIGHTS),
}


def get_preset(model: str, name: str) -> Preset:
    """Give the settings of a preset.

    Parameters
    ----------
    model
        Name of the class, for example ``"SCMEDAL_FE"``.
    name
        ``"default"``, or the paper's (supplementary Tables S2 to S4): ``"paper"`` (as for AML),
        ``"paper-aml"``, ``"paper-asd"``, ``"paper-heart"``.

    Returns
    -------
    Preset
        Arguments of the module, the training plan and ``train()``.

    Raises
    ------
    ValueError
        If the model has no preset of that name; the message lists those it has.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.train.get_preset("SCMEDAL_FE", "paper-heart").module["reconstruction_weight"]
    600.0
    """
    presets = PRESETS[model]
    if name not in presets:
        raise ValueError(f"preset={name!r} is not one of {', '.join(map(repr, presets))}.")
    return presets[name]
