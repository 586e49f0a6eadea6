"""Saved models: the version that wrote them, and what is wrong with a file that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import torch
from packaging.version import Version
from scvi.model.base import BaseModelClass

from scmedal_tools import __version__

if TYPE_CHECKING:
    from typing import Self

    from anndata import AnnData
    from lightning import LightningDataModule
    from mudata import MuData

PARTS = {"model_state_dict", "var_names", "attr_dict"}


class SavingMixin(BaseModelClass):
    """Saving and loading; subclasses give the model."""

    version_: str | None = None
    """Version of the package that saved the model."""

    def save(
        self,
        dir_path: str | Path,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the model to a folder, as ``model.pt``.

        Parameters
        ----------
        dir_path
            The folder, which must not exist, unless ``overwrite=True``.
        prefix
            What the names of the files begin with.
        overwrite
            Replace a model that is there.
        save_anndata
            Save the cells too.
        **kwargs
            Others of :meth:`scvi.model.SCVI.save`.

        Raises
        ------
        ValueError
            If the folder exists.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "model"
        >>> model.save(folder)
        >>> [file.name for file in folder.iterdir()]
        ['model.pt']
        """
        self.version_ = __version__
        super().save(dir_path, prefix, overwrite, save_anndata, **kwargs)

    @classmethod
    def load(
        cls,
        dir_path: str | Path,
        adata: AnnData | MuData | bool | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        datamodule: LightningDataModule | None = None,
        **kwargs: Any,
    ) -> Self:
        """Read a model from a folder.

        The file contains Python objects, which can run code: load only files that you trust.

        Parameters
        ----------
        dir_path
            Folder to which the model was saved.
        adata
            The cells that the model was trained on, or others of its genes and batches. ``None``
            for those that were saved with the model, or none if there is a ``datamodule``;
            ``False`` for none.
        accelerator, device
            Where the model is to be, as in scvi-tools.
        prefix
            What the names of the files begin with.
        datamodule
            Data module that the model was trained with, divided as it was then. It is needed by
            what is found from training cells. Its genes and levels are compared with the model's.
        **kwargs
            Others of :meth:`scvi.model.SCVI.load`.

        Returns
        -------
        SCMEDAL_FE, SCMEDAL_FEC or SCMEDAL_RE
            The trained model.

        Raises
        ------
        ValueError
            If the file is not there, not whole, of something else or of a newer version of the
            package, or the cells or the data module do not fit the model.

        Examples
        --------
        >>> import scmedal_tools as smt
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp()) / "model"
        >>> model.save(folder)
        >>> loaded = smt.model.SCMEDAL_FE.load(folder, adata)
        >>> loaded.get_latent_representation().shape
        (240, 4)
        """
        if adata is None and datamodule is not None:
            adata = False
        try:
            model = super().load(dir_path, adata, accelerator, device, prefix=prefix, **kwargs)
        except Exception as error:
            file = Path(dir_path) / f"{prefix or ''}model.pt"
            problem = _problem(file, cls.__name__, kwargs.get("allowed_classes_names_list"), error)
            if problem is None:
                raise
            raise ValueError(problem) from error
        if newer := _newer(dir_path, model.version_):
            raise ValueError(newer)
        if datamodule is not None:
            model._check_codes(datamodule)
            model._datamodule = datamodule
        return model


def _problem(file: Path, name: str, others: list[str] | None, error: Exception) -> str | None:
    """What is wrong with a file, if it is the file."""
    if not file.is_file():
        return f"There is no model in {file.parent}: it has no file {file.name}."
    again = "Copy it again from where it was saved, or train the model again."
    if not is_zipfile(file):  # as torch saves; its list of contents stands at the end
        return f"{file} is not whole, or is no saved model. {again}"
    try:
        saved = torch.load(file, map_location="cpu", weights_only=False)
    except Exception as found:  # whatever the pickled objects raise
        reason = (str(found).splitlines() or [type(found).__name__])[0]
        if isinstance(found, (AttributeError, ImportError)):
            return (
                f"{file} cannot be read: it holds objects that the packages installed here do not "
                f"know ({reason}). It was saved with other, probably newer versions of "
                "scmedal-tools, scvi-tools or pandas: install those."
            )
        return f"{file} cannot be read ({reason}). {again}"
    if not isinstance(saved, dict) or not saved.keys() >= PARTS:
        return f"{file} is no model that was saved by `model.save(folder)`. {again}"
    attributes = saved["attr_dict"]
    of = attributes.get("registry_", {}).get("model_name")
    if of not in (name, *(others or ())):
        return f"{file} is a model of the class {of}, not of {name}: load it by {of}.load."
    version = attributes.get("version_")
    if newer := _newer(file, version):
        return newer
    if isinstance(error, RuntimeError) and "loading state_dict" in str(error):
        by = "an earlier version" if version is None else version
        return (
            f"{file} was saved by scmedal-tools {by}, and its network does not fit this version, "
            f"{__version__}: use that one, or train the model again."
        )
    return None


def _newer(path: str | Path, version: str | None) -> str | None:
    """Say that a model is of a newer version than this, if it is."""
    if version is None or _series(version) <= _series(__version__):
        return None
    return (
        f"The model in {path} was saved by scmedal-tools {version}, and this is {__version__}, "
        f"which may compute something else from it: install version {version} or a newer one."
    )


def _series(version: str) -> tuple[int, ...]:
    """Major and minor version, within which models stay what they are."""
    return Version(version).release[:2]
