"""What a model is, as consoles and notebooks show it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from scvi.model.base import BaseModelClass

if TYPE_CHECKING:
    from collections.abc import Iterable

N_NAMED = 8


class SummaryMixin(BaseModelClass):
    """Settings of a model, its data, and how far it is trained."""

    def __repr__(self) -> str:
        lines = [f"  {name}: {text}" for name, text in self._facts().items()]
        return "\n".join([type(self).__name__, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in self._facts().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"

    def _facts(self) -> dict[str, str]:
        given, stats = self.init_params_, self.summary_stats
        settings = given["non_kwargs"] | given["kwargs"]["module_kwargs"]
        return {
            "preset": self.preset_,
            "network": ", ".join(f"{k} {v}" for k, v in settings.items() if k != "preset"),
            "data": f"{stats.n_cells:,} cells, {stats.n_vars:,} genes",
            **{name: _named(levels) for name, levels in self.factors.items()},
            "training": self._training(),
        }

    def _training(self) -> str:
        if not self.is_trained:
            return "not trained: call train()"
        epochs, best = len((self.history or {}).get("train_loss", ())), self.best_epoch_
        plural = "" if epochs == 1 else "s"
        trained = f"trained for {epochs:,} epoch{plural}" if epochs else "trained"
        return trained if best is None else f"{trained}; weights of epoch {best}, counted from 0"


def _named(levels: Iterable[object]) -> str:
    names = list(map(str, levels))
    more = ", ..." if len(names) > N_NAMED else ""
    return f"{len(names):,} levels: {', '.join(names[:N_NAMED])}{more}"
