"""Expression without what the batch adds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from scmedal_tools._docs import with_shared_parts

from ._inference import InferenceMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from ._inference import Indices, Minibatches
    from ._unseen import UnseenBatch


class CorrectionMixin(InferenceMixin):
    """Corrected expression; a model of its own kind says how a minibatch is corrected."""

    @torch.inference_mode()
    @with_shared_parts
    def get_corrected_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Indices | None = None,
        gene_list: Sequence[str] | None = None,
        return_numpy: bool = False,
        batch_size: int | None = None,
        dataloader: Minibatches | None = None,
        unseen_batch: UnseenBatch = "error",
    ) -> pd.DataFrame | np.ndarray:
        """Batch-corrected expression: every cell as with all effects of the batch at zero.

        In log-expression. It is for pictures and for methods that take no embedding.
        ``SCMEDAL_FE`` and ``SCMEDAL_FEC`` set the batch terms in every layer of the decoder to
        their average over the batches, which is zero; ``SCMEDAL_RE`` sets all random effects to
        their mean, 0, as ``transform_batch="population"`` does. Effects of further factors are
        removed too. In the paper's presets FE has no batch terms, and this is
        :meth:`get_reconstruction`.

        Parameters
        ----------
        adata, indices, gene_list, return_numpy, batch_size, dataloader, unseen_batch
            See :meth:`get_reconstruction`.

        Returns
        -------
        pandas.DataFrame or numpy.ndarray
            Shape ``(n_cells, n_genes)``.

        Raises
        ------
        %(untrained)s
        ValueError
            If a gene is not in the model, or the cells do not fit the training data.

        Notes
        -----
        It is what the decoder makes of the latent, smoothed over similar cells, and not a table of
        counts. Do not test it for differential expression: neighbouring cells share their noise,
        and the corrected cells vary less than measured ones. Whatever coincides with the batch,
        for example a condition, is removed too.

        Examples
        --------
        >>> adata.layers["corrected"] = model.get_corrected_expression(return_numpy=True)
        >>> adata.layers["corrected"].shape
        (240, 60)
        """
        genes = self._gene_positions(gene_list)
        minibatches = self._minibatches(adata, indices, batch_size, dataloader, unseen_batch)
        values = self._collect(minibatches, partial(self._correct, genes=genes))
        cells = None if dataloader is not None else self._cell_names(adata, indices)
        return values if return_numpy else self._as_table(values, cells, genes)

    def _correct(self, tensors: dict[str, Tensor], genes: np.ndarray) -> Tensor:
        """Corrected log-expression of a minibatch."""
        outputs = self.module.generative(self._infer(tensors)["z"])
        return self.module.reconstruct(outputs["x_hat"], genes)
