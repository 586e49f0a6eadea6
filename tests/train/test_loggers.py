"""Lightning's loggers get every term of the loss once an epoch, as with scvi-tools' models."""

import pandas as pd
import pytest


class Csv:
    def __init__(self, folder):
        from lightning.pytorch.loggers import CSVLogger

        self.logger = CSVLogger(folder)

    def logged(self, term):
        return pd.read_csv(f"{self.logger.log_dir}/metrics.csv")[term].dropna().tolist()


class TensorBoard:
    def __init__(self, folder):
        pytest.importorskip("tensorboard")
        from lightning.pytorch.loggers import TensorBoardLogger

        self.logger = TensorBoardLogger(folder)

    def logged(self, term):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        self.logger.finalize("success")
        events = EventAccumulator(self.logger.log_dir).Reload()
        return [event.value for event in events.Scalars(term)]


class MLflow:
    def __init__(self, folder):
        pytest.importorskip("mlflow")
        from lightning.pytorch.loggers import MLFlowLogger

        self.logger = MLFlowLogger("scmedal", tracking_uri=f"sqlite:///{folder}/logs.db")

    def logged(self, term):
        history = self.logger.experiment.get_metric_history(self.logger.run_id, term)
        return [metric.value for metric in history]


@pytest.mark.parametrize("kind", [Csv, TensorBoard, MLflow])
def test_terms_are_logged_once_an_epoch(kind, fit, adata, tmp_path):
    log = kind(tmp_path)
    fit("SCMEDAL_FE", adata, max_epochs=3, logger=log.logger)
    losses = {term: log.logged(term) for term in ("train_loss", "validation_loss", "elbo_train")}
    assert [len(values) for values in losses.values()] == [3, 3, 3], losses
    assert losses["train_loss"][-1] < losses["train_loss"][0]
