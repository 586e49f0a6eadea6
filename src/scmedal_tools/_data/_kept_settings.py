"""Settings beside results that a later call goes on with, so that those of others are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ._writing import write_whole

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = "settings.json"
"""Name of their file."""


def keep_settings(file: Path, settings: dict[str, Any]) -> None:
    """Write what the results in this folder depend on."""
    text = json.dumps(settings, indent=1, default=str)
    write_whole(file, lambda path: path.write_text(text))


def other_settings(file: Path, settings: dict[str, Any]) -> list[str]:
    """Names of those settings that are not the ones that were kept."""
    kept, asked = json.loads(file.read_text()), json.loads(json.dumps(settings, default=str))
    return [key for key in asked if kept.get(key) != asked[key]]
