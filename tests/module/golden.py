"""Reference numbers of the paper's networks, and the one mapping from their names to ours.

``golden.npz`` holds random weights, inputs and what the reference implementation computed from
them. Its kernels are stored (in, out) and are transposed for torch. Keys of the weights map as

=================================  ===========================================
reference                          here
=================================  ===========================================
``enc.dense_i``, ``enc.latent``    ``autoencoder.layers.i`` (the latent is 2)
``enc.bn_i``                       ``autoencoder.norms.i``
``dec.dense_{latent_t,1_t,out}``   ``autoencoder.decoder_biases.{0,1,2}``
``adv.i``                          ``adversary.{2i}`` (ReLU layers in between)
``clf.i`` of FEC and AEC           ``label_classifier.{2i}``
``enc.i``, ``dec.i`` of RE         ``encoder.i``, ``decoder.i``; ``dec.2`` is ``output``
``dense``, ``bn`` of RE            ``dense``, ``norm``
``re_scale``, ``re_bias``          ``slope``, ``bias`` (``loc`` and ``rho``)
``enc.latent``, ``clf.i`` of RE    ``latent``, ``batch_classifier.{2i}``
``gamma``, ``beta``                ``weight``, ``bias``
``moving_{mean,var}``              ``running_{mean,var}``
=================================  ===========================================
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

GOLDEN = dict(np.load(Path(__file__).parent / "golden.npz"))

_FE_NAMES = (
    (r"enc\.dense_(\d)\.", r"autoencoder.layers.\1."),
    (r"enc\.latent\.", r"autoencoder.layers.2."),
    (r"enc\.bn_(\d)\.", r"autoencoder.norms.\1."),
    (r"dec\.dense_latent_t\.bias", "autoencoder.decoder_biases.0"),
    (r"dec\.dense_1_t\.bias", "autoencoder.decoder_biases.1"),
    (r"dec\.dense_out\.bias", "autoencoder.decoder_biases.2"),
    (r"adv\.(\d)\.", lambda m: f"adversary.{2 * int(m[1])}."),
    (r"clf\.(\d)\.", lambda m: f"label_classifier.{2 * int(m[1])}."),
)
_RE_NAMES = (
    (r"enc\.(\d)\.", r"encoder.\1."),
    (r"dec\.2\.", "output."),
    (r"dec\.(\d)\.", r"decoder.\1."),
    (r"enc\.latent\.", "latent."),
    (r"clf\.(\d)\.", lambda m: f"batch_classifier.{2 * int(m[1])}."),
    (r"\.re_scale\b", ".slope"),
    (r"\.re_bias\b", ".bias"),
    (r"\.bn\.", ".norm."),
)
_KERAS_NAMES = (
    (r"\.kernel$", ".weight"),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
    (r"\.moving_", ".running_"),
)


def our_name(model: str, name: str) -> str:
    """Name in our module of a weight of the reference."""
    for pattern, replacement in (*(_RE_NAMES if model == "re" else _FE_NAMES), *_KERAS_NAMES):
        name = re.sub(pattern, replacement, name)
    return name


def arrays(model: str, prefix: str) -> dict[str, torch.Tensor]:
    """All arrays ``<model>.<prefix>.<weight>`` under our names, kernels transposed."""
    start = f"{model}.{prefix}."
    found = {}
    for key, value in GOLDEN.items():
        if key.startswith(start):
            name = key.removeprefix(start)
            value = value.T if name.endswith("kernel") else value
            found[our_name(model, name)] = torch.as_tensor(np.array(value, order="C"))
    return found


def load_weights(module: torch.nn.Module, model: str) -> None:
    """Load the reference's weights; every parameter of the networks must be named."""
    state = arrays(model, "w")
    missing, unexpected = module.load_state_dict(state, strict=False)
    own = {"batch_entropy", "is_fitted", "scaler.shift", "scaler.scale"}
    own |= {"expression_axes", "expression_centre", "is_finished"} if model == "re" else set()
    left = {n for n in missing if not n.endswith(("num_batches_tracked", "log_prior_sd"))}
    assert left <= own, left
    assert not unexpected


def assert_close(ours: torch.Tensor, reference, tolerance: float = 1e-5) -> None:
    """max|a - b| <= tolerance * max|b|."""
    ours, reference = np.asarray(ours.detach()), np.asarray(reference)
    assert ours.shape == reference.shape
    assert np.abs(ours - reference).max() <= tolerance * np.abs(reference).max()
