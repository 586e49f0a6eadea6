"""Does anything break, change the user's data or hold memory, whatever the order of the steps?

python benchmarks/soak.py run --minutes 30   # writes results/soak.json
python benchmarks/soak.py                    # prints the table

Random sequences of steps (`_soak.py`) on 150 simulated cells, drawn by hypothesis from a seed for
each round; memory is what the process holds after a round.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from _record import load, markdown, save
from _soak import Soak
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

SEQUENCES, STEPS = 2, 15  # of a round
SETTINGS = settings(
    max_examples=SEQUENCES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def held() -> float:
    """MB that the process holds, without what is free but not yet given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def counting(steps: Counter) -> type[Soak]:
    """The machine, with a count of its steps."""

    class Counting(Soak):
        def check_invariants(self, *args, **kwargs):
            steps["all"] += 1
            super().check_invariants(*args, **kwargs)

    return Counting


def run(minutes: float) -> None:
    steps: Counter = Counter()
    rounds: list[dict] = []
    start = time.monotonic()
    while time.monotonic() - start < 60 * minutes:
        number = len(rounds)
        try:
            run_state_machine_as_test(seed(number)(counting(steps)), settings=SETTINGS)
        except Exception:
            save("soak", rounds, sequences=SEQUENCES, steps=STEPS, failures=1)
            raise
        elapsed = (time.monotonic() - start) / 60
        rounds.append({"round": number, "minutes": round(elapsed, 2), "megabytes": round(held())})
        rounds[-1]["steps"] = steps["all"]
        print(rounds[-1], flush=True)
        save("soak", rounds, sequences=SEQUENCES, steps=STEPS, failures=0)


def tables() -> dict[str, str]:
    rounds = load("soak")["results"]
    halves = np.array_split(rounds[1:], 2)  # in the first round libraries are loaded
    row = {
        "minutes": rounds[-1]["minutes"],
        "rounds": len(rounds),
        "steps": rounds[-1]["steps"],
        **{
            f"half {i}": np.mean([r["megabytes"] for r in half])
            for i, half in enumerate(halves, start=1)
        },
    }
    columns = {
        "minutes": "{minutes:.0f}",
        "rounds": "{rounds}",
        "steps": "{steps:,}",
        "MB held, first half": "{half 1:.0f}",
        "second half": "{half 2:.0f}",
    }
    return {"summary": markdown([row], columns)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("command", nargs="?", choices=["run"])
    parser.add_argument("--minutes", type=float, default=30)
    arguments = parser.parse_args()
    if arguments.command == "run":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(arguments.minutes)
    else:
        for text in tables().values():
            print(text)
