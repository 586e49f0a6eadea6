"""Results of the parts of a long run, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scmedal_tools._data import SETTINGS, keep_settings, other_settings, write_whole

TEXT = ("embedding", "of", "metric", "batch", "truth", "vote")


class Checkpoints:
    """Folder with a file for each finished part.

    Parameters
    ----------
    folder
        Where to keep the files; made if it does not exist.
    settings
        What the results depend on. A folder with results of other settings is refused.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / SETTINGS
        if file.exists():
            other = other_settings(file, settings)
            if other:
                raise ValueError(
                    f"{self.folder} has results of a run with other settings "
                    f"({', '.join(other)}): name another folder, or remove this one."
                )
        elif any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} has files of something else: name another folder.")
        else:
            keep_settings(file, settings)

    def has(self, name: str) -> bool:
        """Whether this part is finished."""
        return self._file(name).exists()

    def save_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep the arrays of a part."""
        numbered: dict[str, Any] = {f"array_{i}": x for i, x in enumerate(arrays.values())}
        write_whole(self._file(name), lambda file: np.savez(file, names=list(arrays), **numbered))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Arrays of a finished part."""
        with np.load(self._file(name)) as saved:
            return {str(n): saved[f"array_{i}"] for i, n in enumerate(saved["names"])}

    def save_table(self, name: str, table: pd.DataFrame) -> None:
        """Keep the table of a part."""
        write_whole(self._file(name), lambda file: table.to_csv(file, index=False))

    def table(self, name: str) -> pd.DataFrame:
        """Table of a finished part."""
        # Labels are text, whatever they look like: a donor "001", a treatment "None".
        text = dict.fromkeys(TEXT, str)
        numbers = {"value": [""], "share": [""]}
        return pd.read_csv(self._file(name), dtype=text, keep_default_na=False, na_values=numbers)

    def _file(self, name: str) -> Path:
        return self.folder / name
