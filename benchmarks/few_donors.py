"""Which excess kurtosis of donors ``tl.group_effects`` assumes, on data sets for this choice.

python benchmarks/few_donors.py run   # writes results/few_donors.json
python benchmarks/few_donors.py       # prints the table

The questions about a number of ``group_effects_questions.py``, with seeds that nothing else uses.
What is saved is not run again.
"""

from __future__ import annotations

import sys
import warnings
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from _group_effects_tables import judged
from _record import load, markdown, save, saved
from group_effects_questions import FIRST_SEED, QUESTIONS, cells_of, of_group_effects, plant

from scmedal_tools._sample_model import _fit

N_SETS = 60
CONSIDERED = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
ASKED = [question for question in QUESTIONS if question.has_rivals]


def run() -> None:
    assert N_SETS <= FIRST_SEED
    results = saved("few_donors")
    done = {(row["question"], row["seed"]) for row in results}
    for question in ASKED:
        for seed in range(N_SETS):
            if (question.name, seed) in done:
                continue
            rng = np.random.default_rng(seed)
            adata = cells_of(question, rng)
            planted = question.planted
            effects = plant(adata, rng) if planted else pd.Series(0.0, adata.var_names)
            for kurtosis in CONSIDERED:
                with patch.object(_fit, "KURTOSIS", max(kurtosis, 1e-9)):
                    p = of_group_effects(adata, question)
                key = {"question": question.name, "planted": planted, "seed": seed}
                results.append(key | {"kurtosis": kurtosis} | judged(p, effects))
            save("few_donors", results)
        print(question.name, flush=True)


def tables() -> dict[str, str]:
    results = pd.DataFrame(load("few_donors")["results"])
    rows = []
    for kurtosis, of in results.groupby("kurtosis"):
        null, planted = of[~of["planted"]], of[of["planted"]]
        rows.append(
            {
                "kurtosis": kurtosis,
                "with_finding": (null["false"] > 0).sum(),
                "n": len(null),
                "true": planted["true"].mean(),
                "of": planted["with_effect"].mean(),
                "fdr": planted["false"].sum() / planted[["true", "false"]].to_numpy().sum(),
            }
        )
    columns = {
        "excess kurtosis": "{kurtosis:.0f}",
        "null data sets with a false positive": "{with_finding} of {n}",
        "planted: genes found": "{true:.1f} of {of:.0f}",
        "share of false discoveries": "{fdr:.3f}",
    }
    return {"choice": markdown(rows, columns)}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    print(tables()["choice"])
