"""Fixed effects with a cell-type classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from scvi import REGISTRY_KEYS

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.module import FEModule

from ._base import MedalModel
from ._correction import CorrectionMixin

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from ._inference import Indices, Minibatches
    from ._unseen import UnseenBatch


class SCMEDAL_FEC(CorrectionMixin, MedalModel):
    """:class:`SCMEDAL_FE` whose latent also predicts the cell type (scMEDAL, section 4.3.2).

    The paper's autoencoder-classifier (AEC) and its AEC-batch ablation, which have no adversary,
    are :func:`scmedal_tools.ext.aec` and :func:`scmedal_tools.ext.aec_batch`.

    Parameters
    ----------
    adata, registry, n_hidden, n_latent, preset, **module_kwargs
        See :class:`SCMEDAL_FE`; the registration needs ``labels_key``. ``label_weight`` is the
        weight of the classifier.

    Raises
    ------
    ValueError
        If no ``labels_key`` was registered.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.model.SCMEDAL_FEC.setup_anndata(adata, "donor", labels_key="cell_type")
    >>> model = smt.model.SCMEDAL_FEC(adata, n_hidden=(32, 16), n_latent=5)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> list(model.label_names)
    ['type_1', 'type_2', 'type_3']
    """

    _module_cls = FEModule

    def _settings_of_data(self) -> dict[str, int]:
        return {"n_labels": len(self.label_names)}

    @property
    def label_names(self) -> pd.Index:
        """Names of the cell types, in the order of their codes, without the unlabelled."""
        state = self.get_state_registry(REGISTRY_KEYS.LABELS_KEY)
        if self.registry["setup_args"]["labels_key"] is None:
            setup = self.registry["setup_method_name"]
            raise ValueError(
                "SCMEDAL_FEC learns from cell types. Register them:\n"
                f"    SCMEDAL_FEC.{setup}(..., labels_key='cell_type')\n"
                "or use SCMEDAL_FE, which needs none."
            )
        names = pd.Index(state["categorical_mapping"])
        return names[names != state["unlabeled_category"]]

    @torch.inference_mode()
    @with_shared_parts
    def predict(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        soft: bool = False,
        batch_size: int | None = None,
        dataloader: Minibatches | None = None,
        unseen_batch: UnseenBatch = "error",
    ) -> np.ndarray | pd.DataFrame:
        """Predict the cell types.

        Parameters
        ----------
        adata, indices, batch_size, dataloader, unseen_batch
            See :meth:`get_latent_representation`.
        soft
            Return probabilities instead of the most probable type.

        Returns
        -------
        numpy.ndarray or pandas.DataFrame
            Names of shape ``(n_cells,)``; with ``soft`` a table ``(n_cells, n_labels)``.

        Raises
        ------
        %(untrained)s
        ValueError
            If the cells do not fit the training data.

        Examples
        --------
        >>> predicted = model.predict()
        >>> predicted.shape
        (240,)
        >>> probabilities = model.predict(soft=True)
        >>> list(probabilities.columns)
        ['type_1', 'type_2', 'type_3']
        """

        def probabilities(tensors: dict[str, Tensor]) -> Tensor:
            return self.module.generative(self._infer(tensors)["z"])["label_logits"].softmax(1)

        minibatches = self._minibatches(adata, indices, batch_size, dataloader, unseen_batch)
        values = self._collect(minibatches, probabilities)
        if not soft:
            return self.label_names.to_numpy()[values.argmax(1)]
        cells = None if dataloader is not None else self._cell_names(adata, indices)
        return pd.DataFrame(values, index=cells, columns=self.label_names)
