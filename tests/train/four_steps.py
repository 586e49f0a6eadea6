"""Two epochs of 128 training cells in minibatches of 64."""

import numpy as np

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]
LABELS = {"labels_key": "cell_type"}
QUICK = {"max_epochs": 2, "batch_size": 64, "accelerator": "cpu", "enable_progress_bar": False}
N_STEPS = 4
SPLIT = [np.arange(128), np.arange(128, 200), np.arange(200, 240)]
