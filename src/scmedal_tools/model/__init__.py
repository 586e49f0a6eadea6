"""Models: fixed effects, fixed effects with cell types, random effects."""

from ._fe import SCMEDAL_FE
from ._fec import SCMEDAL_FEC
from ._re import SCMEDAL_RE

__all__ = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]
