"""Registration of AnnData and MuData, which have the same fields and pass the same checks."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck
from scvi.data.fields import (
    CategoricalJointObsField,
    CategoricalObsField,
    LabelsWithUnlabeledObsField,
    LayerField,
    MuDataCategoricalJointObsField,
    MuDataCategoricalObsField,
    MuDataLabelsWithUnlabeledObsField,
    MuDataLayerField,
)
from scvi.model.base import BaseModelClass
from scvi.utils import setup_anndata_dsp

from scmedal_tools._compat import keep_codes, manager_of
from scmedal_tools._data import (
    BATCH,
    CELL_STATES,
    EXPRESSION,
    FACTORS,
    LABELS,
    STATES,
    check_factors,
    check_labels,
    check_log_normalised,
    check_modalities,
    check_names,
    check_obs,
    checked_part,
    expression_of,
    layer_of,
    part_of,
    same_names,
    sample_digest,
    stays_on_disk,
    warn_of_small_batches,
)

from ._query_checks import check_query, levels_of_factors
from ._targets import POPULATION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData
    from scvi.data.fields import BaseAnnDataField

MUDATA_TWINS = {
    LayerField: MuDataLayerField,
    CategoricalObsField: MuDataCategoricalObsField,
    CategoricalJointObsField: MuDataCategoricalJointObsField,
    LabelsWithUnlabeledObsField: MuDataLabelsWithUnlabeledObsField,
}


class RegistrationMixin(BaseModelClass):
    """Registration of the data, and the names that a model keeps of them."""

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_anndata(
        cls,
        adata: AnnData,
        batch_key: str,
        labels_key: str | None = None,
        layer: str | None = None,
        unlabeled_category: str = "unlabeled",
        random_effect_keys: Sequence[str] | None = None,
        states_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register log-normalised expression, batches and cell types.

        Adds ``_scvi_batch``, ``_scvi_labels`` to ``adata.obs``, ``_scvi_extra_categorical_covs``
        to ``adata.obsm`` if there are further factors, and identifiers to ``adata.uns``.

        Parameters
        ----------
        %(param_adata)s
        batch_key
            Column of ``adata.obs`` with the batch of each cell (donor, protocol, tissue).
        labels_key
            Column of ``adata.obs`` with the cell types, which only ``SCMEDAL_FEC`` learns from.
        layer
            Layer with the log-normalised expression; ``None`` for ``adata.X``.
        unlabeled_category
            Cell type that stands for "not known".
        random_effect_keys
            One or two further columns of ``adata.obs`` that expression depends on (protocol,
            tissue). In ``SCMEDAL_RE`` their effects and those of the batch add up; the others
            hide them as they hide the batch.
        states_key
            Column of ``adata.obs`` with the states (such as cell types) on which the effects of a
            batch on genes may differ. ``None`` to find states in the content of the cells. Used
            by ``SCMEDAL_RE`` only; cells that are queried later need the column too.
        **kwargs
            Of scvi-tools, for cells of a trained model: ``source_registry``, with which
            ``extend_categories`` may stand.

        Raises
        ------
        TypeError
            If an argument is unknown.
        ValueError
            If the expression is not log-normalised, names are not unique, or a column is missing,
            incomplete or has a single level. The message has the line of code that fixes it.

        Warns
        -----
        UserWarning
            If a column has categories without a cell, which the model does without, or half of
            the batches have fewer than 10 cells.

        Examples
        --------
        >>> import scmedal_tools as smt
        >>> smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
        >>> model = smt.model.SCMEDAL_RE(adata)
        >>> list(model.batch_names)
        ['donor_01', 'donor_02', 'donor_03', 'donor_04']

        With a second factor of random effects:

        >>> adata.obs["protocol"] = ["v2", "v3"] * 120
        >>> smt.model.SCMEDAL_RE.setup_anndata(adata, "donor", random_effect_keys=["protocol"])
        >>> list(smt.model.SCMEDAL_RE(adata).factors)
        ['donor', 'protocol']
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        cls._register(adata, setup_method_args, **kwargs)

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_mudata(
        cls,
        mdata: MuData,
        batch_key: str,
        labels_key: str | None = None,
        rna_layer: str | None = None,
        modalities: dict[str, str] | None = None,
        unlabeled_category: str = "unlabeled",
        random_effect_keys: Sequence[str] | None = None,
        states_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register log-normalised expression, batches and cell types of a MuData.

        One modality is modelled; the others are neither read nor changed. Adds ``_scvi_batch``,
        ``_scvi_labels`` to ``obs`` where the columns are, and identifiers to ``mdata.uns``.

        Parameters
        ----------
        %(param_mdata)s
        batch_key, labels_key, unlabeled_category, random_effect_keys, states_key
            See :meth:`setup_anndata`.
        rna_layer
            Layer with the log-normalised expression; ``None`` for ``X`` of the modality.
        modalities
            Where each argument is found: ``"rna_layer"``, which is needed, ``"batch_key"``,
            ``"labels_key"``, ``"random_effect_keys"`` and ``"states_key"``, each with the name of
            a modality. An argument that is left out is in ``mdata.obs``.
        **kwargs
            See :meth:`setup_anndata`.

        Raises
        ------
        ValueError
            As :meth:`setup_anndata`; if ``modalities`` is missing or names what is not there, or
            the cells of a modality that it names are not those of ``mdata`` in the same order.

        Examples
        --------
        >>> import mudata
        >>> import scmedal_tools as smt
        >>> mdata = mudata.MuData({"rna": adata})
        >>> modalities = {"rna_layer": "rna", "batch_key": "rna"}
        >>> smt.model.SCMEDAL_RE.setup_mudata(mdata, "donor", modalities=modalities)
        >>> len(smt.model.SCMEDAL_RE(mdata).gene_names)
        60
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        check_modalities(mdata, modalities, labels_key)
        cls._register(mdata, setup_method_args, **kwargs)

    @classmethod
    def _register(cls, data: AnnData | MuData, setup_method_args: dict, **kwargs: Any) -> None:
        setup = setup_method_args["setup_args"]
        taken_as = None
        if "source_registry" in kwargs:
            check_query(data, kwargs["source_registry"], kwargs.get("extend_categories", False))
        else:
            _refuse_others(kwargs, list(setup))
            taken_as = _check_training_data(data, setup)
        adata_manager = AnnDataManager(
            fields=_fields(setup),
            setup_method_args=setup_method_args,
            # Modalities that are not read may lack cells; those that are read were checked.
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        if "source_registry" in kwargs:
            adata_manager.register_fields(data, **kwargs)
        else:
            with _only_used_categories(data, setup):
                adata_manager.register_fields(data, **kwargs)
            keep_codes(adata_manager)
        adata_manager.taken_as = taken_as
        adata_manager.checked_sample = _sample_of(data, setup)
        cls.register_manager(adata_manager)

    @property
    def adata_manager(self) -> AnnDataManager:
        """Manager of the model's cells, whose codes are in the data; ``None`` without cells.

        Another registration of the same cells, for example for a second model, overwrites them,
        so codes are read through this manager.
        """
        manager = manager_of(self)
        if manager is not None:
            manager.validate()
        return manager

    @property
    def batch_names(self) -> pd.Index:
        """Names of the batches, in the order of their codes."""
        return next(iter(self.factors.values()))

    @property
    def factors(self) -> dict[str, pd.Index]:
        """Levels of each factor of the random effects, in the order of their codes.

        The first is the batch, the others are the ``random_effect_keys``.
        """
        return levels_of_factors(self.registry)

    @property
    def gene_names(self) -> pd.Index:
        """Names of the modelled genes, in the order of the data."""
        return pd.Index(self.get_state_registry(REGISTRY_KEYS.X_KEY)["column_names"])

    def _check_unchanged(self) -> None:
        """Refuse the model's own data if genes or expression were changed in place for worse."""
        manager = manager_of(self)
        if manager is None:
            return
        setup = self.registry["setup_args"]
        genes = part_of(self.adata, setup, EXPRESSION).var_names
        if not same_names(genes, self.gene_names):
            raise ValueError(
                f"adata has {len(genes):,} genes now, which are not the {len(self.gene_names):,} "
                "it was set up with: it was changed in place since. Select genes first, then call "
                f"{self.registry['setup_method_name']} again and make a new model."
            )
        sample = _sample_of(self.adata, setup)
        if sample != getattr(manager, "checked_sample", None):
            with checked_part(self.adata, setup, EXPRESSION) as adata:
                check_log_normalised(adata, layer_of(setup), may_be_few=True)
            manager.checked_sample = sample


def _sample_of(data: AnnData | MuData, setup: Mapping[str, Any]) -> str | None:
    """Digest by which a change of the expression is noticed; of data on disk there is none."""
    adata = part_of(data, setup, EXPRESSION)
    return None if stays_on_disk(adata) else sample_digest(expression_of(adata, layer_of(setup)))


def _refuse_others(given: Collection[str], known: list[str]) -> None:
    """Refuse arguments that scvi-tools would name without saying what to do."""
    if not given:
        return
    message = f"Unknown: {', '.join(given)}. The arguments are {', '.join(known)}."
    if any("covariate" in name for name in given):
        message += (
            " Further columns that expression depends on, such as a protocol, are named in "
            "random_effect_keys=['protocol']. There are no continuous ones."
        )
    raise TypeError(message)


def _check_training_data(data: AnnData | MuData, setup: Mapping[str, Any]) -> str:
    """Check all that is registered; return what the expression is taken for."""
    with checked_part(data, setup, EXPRESSION) as adata:
        taken_as = check_log_normalised(adata, layer_of(setup))
        check_names(adata)
    with checked_part(data, setup, BATCH) as adata:
        check_obs(adata, setup["batch_key"])
        batch = adata.obs[setup["batch_key"]]
        warn_of_small_batches(batch, stacklevel=4)
        _warn_of_population(batch)
    if setup["random_effect_keys"] is not None:
        with checked_part(data, setup, FACTORS) as adata:
            check_factors(adata, setup["random_effect_keys"], batch)
            for key in setup["random_effect_keys"]:
                _warn_of_population(adata.obs[key])
    if setup["labels_key"] is not None:
        with checked_part(data, setup, LABELS) as adata:
            check_labels(adata, setup["labels_key"], setup["unlabeled_category"])
    if setup["states_key"] is not None:
        with checked_part(data, setup, CELL_STATES) as adata:
            check_obs(adata, setup["states_key"], what=CELL_STATES, min_levels=1)
    return taken_as


def _warn_of_population(levels: pd.Series) -> None:
    if (levels == POPULATION).any():
        warnings.warn(
            f"A level of {levels.name!r} is called {POPULATION!r}, which usually names the target "
            "without effects: `transform_batch` will mean the level, and "
            "`get_corrected_expression` gives expression without effects. Rename the level to "
            "have both.",
            UserWarning,
            stacklevel=5,
        )


@contextmanager
def _only_used_categories(data: AnnData | MuData, setup: Mapping[str, Any]) -> Iterator[None]:
    """Context in which categories without a cell are left out; says which."""
    columns = [(BATCH, setup["batch_key"]), (LABELS, setup["labels_key"])]
    columns.append((CELL_STATES, setup["states_key"]))
    columns += [(FACTORS, key) for key in setup["random_effect_keys"] or ()]
    with ExitStack() as stack:
        for argument, key in columns:
            obs = part_of(data, setup, argument).obs
            if key is None or not isinstance(obs[key].dtype, pd.CategoricalDtype):
                continue
            column, used = obs[key], obs[key].cat.remove_unused_categories()
            unused = [name for name in column.cat.categories if name not in used.cat.categories]
            if not unused:
                continue
            if named := [str(name) for name in unused if name != setup["unlabeled_category"]]:
                warnings.warn(
                    f"{key!r} has {len(named)} categories without a cell, which the model "
                    f"ignores: {', '.join(named[:5])}{', ...' if len(named) > 5 else ''}.",
                    UserWarning,
                    stacklevel=6,
                )
            obs[key] = used
            stack.callback(obs.__setitem__, key, column)
        yield


def _fields(setup: Mapping[str, Any]) -> list[BaseAnnDataField]:
    def field(kind: type, argument: str, *args: Any, **kwargs: Any) -> BaseAnnDataField:
        if "modalities" not in setup:
            return kind(*args, **kwargs)
        return MUDATA_TWINS[kind](*args, mod_key=setup["modalities"].get(argument), **kwargs)

    batch_key, labels_key = setup["batch_key"], setup["labels_key"]
    if labels_key is None:
        labels = field(CategoricalObsField, EXPRESSION, REGISTRY_KEYS.LABELS_KEY, None)
    else:
        labels = field(
            LabelsWithUnlabeledObsField,
            LABELS,
            REGISTRY_KEYS.LABELS_KEY,
            labels_key,
            setup["unlabeled_category"],
        )
    fields = [
        field(LayerField, EXPRESSION, REGISTRY_KEYS.X_KEY, layer_of(setup), is_count_data=False),
        field(CategoricalObsField, BATCH, REGISTRY_KEYS.BATCH_KEY, batch_key),
        labels,
    ]
    if setup.get("random_effect_keys"):
        keys = list(setup["random_effect_keys"])
        fields.append(field(CategoricalJointObsField, FACTORS, REGISTRY_KEYS.CAT_COVS_KEY, keys))
    if setup.get("states_key"):
        fields.append(field(CategoricalObsField, CELL_STATES, STATES, setup["states_key"]))
    return fields
