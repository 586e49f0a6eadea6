"""Reports: one self-contained HTML file of what a job found."""

from __future__ import annotations

from ._report_evaluation import report_evaluation
from ._report_reproduction import report_reproduction
from ._report_run import report_run

__all__ = ["report_evaluation", "report_reproduction", "report_run"]
