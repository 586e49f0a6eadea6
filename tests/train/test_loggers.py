"""Lightning's loggers get every term of the loss once an epoch, as with scvi-tools' models."""

import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pandas as pd
import pytest


class Csv:
    def __init__(self, folder, _):
        from lightning.pytorch.loggers import CSVLogger

        self.logger = CSVLogger(folder)

    def logged(self, term):
        return pd.read_csv(f"{self.logger.log_dir}/metrics.csv")[term].dropna().tolist()


class TensorBoard:
    def __init__(self, folder, _):
        pytest.importorskip("tensorboard")
        from lightning.pytorch.loggers import TensorBoardLogger

        self.logger = TensorBoardLogger(folder)

    def logged(self, term):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        self.logger.finalize("success")
        events = EventAccumulator(self.logger.log_dir).Reload()
        return [event.value for event in events.Scalars(term)]


class MLflow:
    """With a stand-in for MLflow itself, which brings some thirty packages."""

    def __init__(self, folder, monkeypatch):
        from lightning.pytorch.loggers import MLFlowLogger, mlflow

        self.client = MagicMock()
        stand_in = {
            "mlflow": MagicMock(),
            "mlflow.entities": SimpleNamespace(Metric=SimpleNamespace, Param=SimpleNamespace),
            "mlflow.tracking": SimpleNamespace(MlflowClient=lambda _: self.client, context=None),
        }
        for name, module in stand_in.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(mlflow, "_MLFLOW_AVAILABLE", True)
        self.logger = MLFlowLogger("scmedal", tracking_uri=str(folder))

    def logged(self, term):
        calls = self.client.log_batch.call_args_list
        metrics = [metric for call in calls for metric in call.kwargs.get("metrics", ())]
        return [metric.value for metric in metrics if metric.key == term]


@pytest.mark.parametrize("kind", [Csv, TensorBoard, MLflow])
def test_terms_are_logged_once_an_epoch(kind, fit, adata, tmp_path, monkeypatch):
    log = kind(tmp_path, monkeypatch)
    fit("SCMEDAL_FE", adata, max_epochs=3, logger=log.logger)
    losses = {term: log.logged(term) for term in ("train_loss", "validation_loss", "elbo_train")}
    assert [len(values) for values in losses.values()] == [3, 3, 3], losses
    assert losses["train_loss"][-1] < losses["train_loss"][0]
