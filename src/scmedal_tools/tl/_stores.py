"""Files that hold counterfactual expression, written block by block of cells."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import zarr
from anndata import AnnData
from anndata.io import write_elem

from scmedal_tools._data import any_text, check_writable, make_names_writable

if TYPE_CHECKING:
    import pandas as pd

WRITTEN_SO_FAR = "scmedal_streaming"
UNS_KEY = "scmedal_counterfactual"
SUFFIXES = ("", "_sd", "_lower", "_upper")
"""Ends of the names of layers, in the order of the summaries of the draws."""
GENES_PER_CHUNK = 1_000


class Contents(NamedTuple):
    """What a file is going to hold."""

    obs: pd.DataFrame
    var: pd.DataFrame
    targets: list[str]
    settings: dict
    """Further settings, for the reader of the store."""
    has_summaries: bool
    """Whether there are four arrays of a target, or only the expression."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole result: (summaries,) targets, cells, genes."""
        summaries = (len(SUFFIXES),) if self.has_summaries else ()
        return (*summaries, len(self.targets), len(self.obs), len(self.var))

    @property
    def layers(self) -> list[str]:
        """A name for each array of cells x genes, in the order in which they lie in the result."""
        targets = [_layer_name(target) for target in self.targets]
        suffixes = SUFFIXES if self.has_summaries else SUFFIXES[:1]
        names = [target + suffix for suffix in suffixes for target in targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"Several layers would be called {twice}. Write these targets to stores of their "
                "own, or all to a path that ends in '.npy'."
            )
        return names


class ZarrStore:
    """Zarr store that anndata reads, with a layer for each target.

    Rows that are not written yet read as NaN.
    """

    def __init__(self, path: Path, contents: Contents):
        self.path = path
        self.contents = contents

    def read_record(self) -> dict | None:
        """Record of a store that is there; ``None`` if it was not made here."""
        try:
            record = zarr.open_group(self.path, mode="r").attrs.get(WRITTEN_SO_FAR)
        except FileNotFoundError:
            return None
        return cast("dict | None", record)

    def create(self, n_block: int, record: dict) -> None:
        """Make a store with everything but the values."""
        contents = self.contents
        layers, shape = contents.layers, contents.shape[-2:]
        about = contents.settings | {"layers": layers[: len(contents.targets)]}
        known = {key: value for key, value in about.items() if value is not None}
        cells = AnnData(obs=contents.obs, var=contents.var, uns={UNS_KEY: known})
        make_names_writable(cells)
        check_writable(cells)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Moved to its place when it is complete, so that no half of it is ever found there.
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=self.path.stem) as folder:
            made = Path(folder) / self.path.name
            with any_text():
                write_elem(zarr.open_group(made, mode="w", zarr_format=3), "/", cells)
            group = zarr.open_group(made, mode="r+")
            for layer in layers:
                group.create_array(
                    f"layers/{layer}",
                    shape=shape,
                    dtype="float32",
                    chunks=(min(n_block, shape[0]), min(GENES_PER_CHUNK, shape[1])),
                    fill_value=np.nan,
                    attributes={"encoding-type": "array", "encoding-version": "0.2.0"},
                )
            group.attrs[WRITTEN_SO_FAR] = record
            made.rename(self.path)

    def write(self, start: int, values: np.ndarray, record: dict) -> None:
        """Write the values of a block of cells, and then that they are there."""
        group = zarr.open_group(self.path, mode="r+")
        stop = start + values.shape[-2]
        values = values.reshape(-1, *values.shape[-2:])
        for layer, of_layer in zip(self.contents.layers, values, strict=True):
            array = cast("zarr.Array", group[f"layers/{layer}"])
            array[start:stop] = of_layer
        group.attrs[WRITTEN_SO_FAR] = record

    def result(self) -> Path:
        """Path of the store."""
        return self.path


class MemmapStore:
    """Array in a ``.npy`` file, with its record in a JSON file beside it."""

    def __init__(self, path: Path, contents: Contents):
        self.path = path
        self.contents = contents
        self.record_path = path.with_name(f"{path.name}.json")

    def read_record(self) -> dict | None:
        """Record of a file that is there; ``None`` if it was not made here."""
        if not self.record_path.exists():
            return None
        return json.loads(self.record_path.read_text())

    def create(self, n_block: int, record: dict) -> None:
        """Make a file of the full size."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The record first: that of a file since deleted must not be taken for that of this one.
        self._write_record(record)
        np.lib.format.open_memmap(self.path, "w+", dtype=np.float32, shape=self.contents.shape)
        try:
            # A full disk ends a process that writes to a mapped file without its space.
            with self.path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self.path.stat().st_size)
        except OSError:
            self.path.unlink()
            raise

    def write(self, start: int, values: np.ndarray, record: dict) -> None:
        """Write the values of a block of cells, and then that they are there."""
        # Opened for each block, or the pages written so far would count as memory of the process.
        array = np.load(self.path, mmap_mode="r+")
        array[..., start : start + values.shape[-2], :] = values
        array.flush()
        self._write_record(record)

    def result(self) -> np.memmap:
        """The array, to be read."""
        return np.load(self.path, mmap_mode="r")

    def _write_record(self, record: dict) -> None:
        new = self.record_path.with_name(f"{self.record_path.name}.new")
        new.write_text(json.dumps(record))
        os.replace(new, self.record_path)


STORES: dict[str, type[ZarrStore] | type[MemmapStore]] = {".zarr": ZarrStore, ".npy": MemmapStore}


def _layer_name(target: str) -> str:
    """Name of a folder in a zarr store, where slashes separate folders and dots lead up."""
    name = target.replace("/", "_").replace("\\", "_")
    return name if name.strip(".") else "_" * max(len(name), 1)


def store_at(path: Path, contents: Contents) -> ZarrStore | MemmapStore:
    """Give the store for a path, by its end."""
    if path.suffix not in STORES:
        raise ValueError(f"path={str(path)!r} ends in neither {' nor '.join(map(repr, STORES))}.")
    return STORES[path.suffix](path, contents)
