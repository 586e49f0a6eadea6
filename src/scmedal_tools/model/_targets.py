"""Batches that a counterfactual asks for, by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pandas.api.types import is_scalar
from scvi.model.base import BaseModelClass

from scmedal_tools._find_level import find_level
from scmedal_tools.module import POPULATION_LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from typing_extensions import TypeIs

    Target = str | int | dict[str, str | int]
    Levels = dict[int, int]

ROWS = 1_024
"""About how many cells, of several targets, the network reads at once: few at a time take long."""

POPULATION = "population"
"""Name of the target in which every effect is at its mean, 0."""


class TargetsMixin(BaseModelClass):
    """Levels of the factors that the targets of a counterfactual name."""

    @property
    def _population(self) -> Levels:
        """Target in which no factor has an effect."""
        return dict.fromkeys(range(len(self.factors)), POPULATION_LEVEL)

    def _targets(self, transform_batch: Target | Sequence[Target] | None) -> dict[str, Levels]:
        """Levels that each target sets, by its name in the model."""
        if is_one_target(transform_batch):
            targets = [transform_batch]
        else:
            targets = [] if transform_batch is None else list(transform_batch)
        if not targets:
            raise ValueError(
                "transform_batch names no batch: pass one by its name, or several, for example "
                f"transform_batch={self.batch_names.tolist()[0]!r}."
            )
        batch_key = next(iter(self.factors))
        named: dict[Any, Levels] = {}  # a batch may have a number for a name
        for target in targets:
            if isinstance(target, dict):
                name = ", ".join(f"{factor}={level}" for factor, level in target.items())
                named[name] = self._levels(target)
            elif target == POPULATION and target not in self.batch_names:
                named[POPULATION] = self._population
            else:
                levels = self._levels({batch_key: target})
                named[self.batch_names[levels[0]]] = levels
        return named

    def _asked(
        self, transform_batch: Target | Sequence[Target | None] | None
    ) -> dict[Any, Levels]:
        """As :meth:`_targets`, where ``None`` stands for each cell's own batch."""
        asked: list[Any] = [transform_batch]
        if transform_batch is not None and not is_one_target(transform_batch):
            asked = list(transform_batch)
        named: dict[Any, Levels] = {}
        for target in asked:
            if target is None:
                named[None] = {}
            else:
                named |= self._targets(target)
        return named

    def _levels(self, target: dict) -> Levels:
        levels, factors = {}, list(self.factors)
        for factor, name in target.items():
            if factor not in factors:
                raise ValueError(
                    f"transform_batch: {factor!r} is not a factor of the model. Choose from "
                    f"{', '.join(map(repr, factors))}."
                )
            known = self.factors[factor]
            found = find_level(known, name)
            if found is None and name != POPULATION:
                raise ValueError(
                    f"transform_batch: {name!r} is not a level of {factor!r} in the model. Choose "
                    f"from {', '.join(map(str, known[:20]))}{', ...' if len(known) > 20 else ''}; "
                    f"or {POPULATION!r}, without effects."
                )
            levels[factors.index(factor)] = POPULATION_LEVEL if found is None else found
        return levels


def target_levels(own: Tensor, targets: Sequence[Levels]) -> Tensor:
    """Levels of cells in targets, ``(n_targets, n_cells, n_factors)``.

    If all targets name all factors, one row is for all cells.
    """
    same_for_all = all(len(target) == own.shape[1] for target in targets)
    levels = (own[:1] if same_for_all else own).repeat(len(targets), 1, 1)
    for rows, target in zip(levels, targets, strict=True):
        for factor, level in target.items():
            rows[:, factor] = level
    return levels


def is_one_target(transform_batch: Any) -> TypeIs[Target]:
    """Whether this is a target, not several."""
    if isinstance(transform_batch, dict):
        return True
    return transform_batch is not None and is_scalar(transform_batch)
