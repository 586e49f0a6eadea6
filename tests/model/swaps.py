"""What tests of swaps share."""

import numpy as np

SWAPS = ["content", "decoder", "encoder_decoder"]
DONORS = ["donor_01", "donor_02", "donor_03", "donor_04"]


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
