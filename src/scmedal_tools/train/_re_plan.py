"""Training plan of the random-effects network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from scvi import REGISTRY_KEYS

from scmedal_tools._data import NOT_NEGATIVE, check_argument
from scmedal_tools.module import RandomEffects, n_processes

from ._natural_gradient import NaturalGradient
from ._plans import MedalTrainingPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from scmedal_tools.module import MedalModule

    from ._epoch_means import MinibatchMeans

# Share of the steps after which the scales of random effects settle.
SETTLE_AFTER = 0.5
# Most minibatches by whose gradients the effects move at once.
MAX_MINIBATCHES_PER_MOVE = 4


class RETrainingPlan(MedalTrainingPlan):
    """Plan of the random-effects network: the effects have an optimiser of their own.

    Parameters
    ----------
    effects_optimizer
        ``"natural"``: :class:`~scmedal_tools.train._natural_gradient.NaturalGradient`;
        ``"adam"``: the network's Adam.
    effects_lr
        Step size of the posteriors: a share of the way to their optimum at each minibatch with
        ``"natural"``, a learning rate with ``"adam"``.
    module, **kwargs
        See :class:`MedalTrainingPlan`.

    Notes
    -----
    The natural gradient learns the scales of the effects for good in the second half of
    ``max_epochs``: a training that stops before, or whose best epoch lies before, leaves effects
    that the data do not support near their start.

    Examples
    --------
    Models use it by themselves; its arguments are passed through ``train``:

    >>> import scmedal_tools as smt
    >>> smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
    >>> model = smt.model.SCMEDAL_RE(adata, n_hidden=(16, 8), n_latent=4)
    >>> plan = {"effects_optimizer": "adam", "effects_lr": 1e-2}
    >>> model.train(max_epochs=1, plan_kwargs=plan, enable_progress_bar=False)
    >>> model.trainer.lightning_module.effects_optimizer
    'adam'
    """

    def __init__(
        self,
        module: MedalModule,
        *,
        effects_optimizer: Literal["natural", "adam"] = "natural",
        effects_lr: float = 5e-3,
        **kwargs: Any,
    ):
        super().__init__(module, **kwargs)
        check_argument("effects_lr", effects_lr, NOT_NEGATIVE)
        if effects_optimizer not in ("natural", "adam"):
            raise ValueError(
                f"effects_optimizer={effects_optimizer!r} is neither 'natural' nor 'adam'."
            )
        if effects_optimizer == "natural" and module.kl_estimate != "closed form":
            raise ValueError(
                f"effects_optimizer='natural' has the divergence from the prior in closed form, "
                f"not kl_estimate={module.kl_estimate!r}: use effects_optimizer='adam'."
            )
        self.effects_optimizer = effects_optimizer
        self.effects_lr = effects_lr

    def on_fit_start(self) -> None:
        """Prepare the module, and refuse a precision that is too low for the natural gradient."""
        super().on_fit_start()
        self.module.start_training()
        if self.effects_optimizer == "natural":
            _check_precision(self.trainer.precision)

    def _autoencoder_optimizers(self) -> list[torch.optim.Optimizer]:
        tables = list(self.module.effect_tables.values())
        effects = [parameter for table in tables for parameter in table.parameters()]
        ids = {id(parameter) for parameter in effects}
        rest = {"params": [p for p in self._autoencoder_parameters() if id(p) not in ids]}
        adam = self.get_optimizer_creator()
        if self.effects_optimizer == "natural":
            return [adam([rest]), self._natural_gradient(tables)]
        learned = [parameter for parameter in effects if parameter.requires_grad]
        return [adam([rest, {"params": learned, "lr": self.effects_lr}])]

    def _natural_gradient(self, tables: Sequence[RandomEffects]) -> NaturalGradient:
        on_genes = self.module.output.modules()
        assert self.n_obs_training is not None  # it is set in setup()
        return NaturalGradient(
            tables,
            self.effects_lr,
            self.n_obs_training,
            of_genes=[table for table in on_genes if isinstance(table, RandomEffects)],
            kl_weight=self.module.kl_weight,
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Step as of the other networks, with scales that settle in the second half."""
        if natural := self._natural:
            natural.settles = self._done(batch_idx) + 1 > SETTLE_AFTER * self._n_steps()
            nth = (batch_idx + 1) % self._minibatches_per_move(batch) == 0
            natural.moves = nth or self.trainer.is_last_batch
        return super().training_step(batch, batch_idx)

    def _minibatches_per_move(self, batch: dict[str, Tensor]) -> int:
        """Minibatches in which a level has one cell, on average, of the factor with most; up to 4.

        To move all effects takes long where there are more batches than cells in a minibatch.
        """
        n_cells = len(batch[REGISTRY_KEYS.BATCH_KEY]) * n_processes()
        return min(math.ceil(max(self.module.n_levels) / n_cells), MAX_MINIBATCHES_PER_MOVE)

    @property
    def _natural(self) -> NaturalGradient | None:
        """The effects' optimiser, if it is this one."""
        found = (o for o in self.trainer.optimizers if isinstance(o, NaturalGradient))
        return next(found, None)

    def _update(self, batch: dict[str, Tensor]) -> tuple[MinibatchMeans, Tensor]:
        """Step as of the other networks; once effects move, what they share becomes fixed."""
        result = super()._update(batch)
        if (natural := self._natural) and natural.moves:
            self.module.centre_effects()
        return result


def _check_precision(precision: str) -> None:
    if precision.startswith("16"):
        raise ValueError(
            "effects_optimizer='natural' needs the size of its gradients, which float16 training "
            "rescales: use precision='bf16-mixed' or '32-true'."
        )
