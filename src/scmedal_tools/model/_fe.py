"""Fixed effects: a latent space without the batch."""

from __future__ import annotations

from scmedal_tools.module import FEModule

from ._base import MedalModel
from ._correction import CorrectionMixin


class SCMEDAL_FE(CorrectionMixin, MedalModel):
    """Autoencoder for batch correction and integration (scMEDAL, section 4.2.1).

    The decoder is given the batch, so the latent need not carry it, and an adversary that
    predicts the batch from the latent removes the rest. In the paper's presets the decoder is not
    given the batch and the adversary has all layers of the encoder as input; the plain autoencoder
    (AE) is such a network with ``adversary_weight=0``, see :func:`scmedal_tools.ext.ae`.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata`, or MuData with :meth:`setup_mudata`.
    registry
        Registry of a model, or of the data module of :meth:`setup_annbatch`, to build one without
        data.
    n_hidden
        Widths of the encoder's hidden layers.
    n_latent
        Width of the latent.
    preset
        ``"default"``, or the paper's settings: ``"paper"`` (as for AML), ``"paper-aml"``,
        ``"paper-asd"``, ``"paper-heart"``.
    **module_kwargs
        Single settings that replace the preset's, for example ``adversary_weight`` (nats per
        cell by default) or ``reconstruction_weight``; see
        :class:`scmedal_tools.module.FEModule`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> adata = smt.datasets.simulated(n_donors=4, n_genes=200)
    >>> smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    >>> smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor")
    >>> model = smt.model.SCMEDAL_FE(adata, n_hidden=(32, 16), n_latent=5)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.get_latent_representation().shape == (adata.n_obs, 5)
    True
    """

    _module_cls: type[FEModule] = FEModule
