"""Whether a folder has the published files of a data set, before anything large is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._check_header import check_choice
from ._console import fail

if TYPE_CHECKING:
    from pathlib import Path

DESCRIBED = (
    "What to download, and how the folder looks then: docs/user_guide/published_data.md, "
    '"What to download".'
)
HEART_FILE = "global_raw.h5ad"
HEART_COLUMNS = ("sample", "donor", "region", "version", "cell_type")
AUTISM_FILES = (("exprMatrix.tsv.gz", "exprMatrix.tsv"), ("meta.tsv", "meta.txt", "meta.tsv.gz"))


def check_published(data_set: str, folder: Path) -> Path:
    """End the command if files are missing; return what the reader of the data set takes.

    Parameters
    ----------
    data_set
        Name of one of the paper's data sets.
    folder
        Folder with the files that were downloaded.
    """
    if not folder.is_dir():
        fail(f"There is no folder {folder}. {DESCRIBED}")
    if missing := MISSING[data_set](folder):
        fail(f"{folder} lacks {', '.join(missing)}. {DESCRIBED}")
    if data_set != "heart":
        return folder
    file = _heart_file(folder)
    from ._header import Header  # not for --help: it imports h5py

    header = Header.of(file)
    if header is not None:  # a file of another kind is refused when it is read
        for column in HEART_COLUMNS:
            check_choice(file.name, column, header.obs, "column of obs")
    return file


def _missing_aml(folder: Path) -> list[str]:
    samples = sorted(
        file.name.partition(".dem.txt")[0].partition("_")[2]
        for ending in ("dem.txt.gz", "dem.txt")
        for file in folder.glob(f"GSM*_*.{ending}")
    )
    if not samples:
        return ["GSM*_<sample>.dem.txt.gz"]
    return [
        f"GSM*_{sample}.anno.txt.gz"
        for sample in samples
        if not any(folder.glob(f"*_{sample}.anno.txt*"))
    ]


def _missing_asd(folder: Path) -> list[str]:
    return [
        names[0] for names in AUTISM_FILES if not any((folder / name).is_file() for name in names)
    ]


def _missing_heart(folder: Path) -> list[str]:
    return [] if _heart_file(folder).is_file() else [HEART_FILE]


def _heart_file(folder: Path) -> Path:
    """The file of the atlas, else the only h5ad file, as the copy at figshare has another name."""
    files = list(folder.glob("*.h5ad"))
    return files[0] if len(files) == 1 else folder / HEART_FILE


MISSING = {"aml": _missing_aml, "asd": _missing_asd, "heart": _missing_heart}
