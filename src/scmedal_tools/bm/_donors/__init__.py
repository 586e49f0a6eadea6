"""Prediction of properties of donors that are left out."""

from ._donor_prediction import DonorPrediction, donor_prediction

__all__ = [
    "DonorPrediction",
    "donor_prediction",
]
