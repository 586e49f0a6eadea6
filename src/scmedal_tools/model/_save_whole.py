"""Models in files that are complete or not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmedal_tools._data import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from ._base import MedalModel

FILE = "model.pt"  # as scvi-tools names it


def save_whole(model: MedalModel, folder: Path) -> None:
    """Save a model without its cells; one that is there is replaced."""

    def save(file: Path) -> None:
        model.save(file.parent, prefix=file.name.removesuffix(FILE), overwrite=True)

    write_whole(folder / FILE, save)
