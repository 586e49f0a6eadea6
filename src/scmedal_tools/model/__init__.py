"""Models: fixed effects, fixed effects with cell types, random effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

# For other folders of the package.
from ._base import MedalModel as MedalModel
from ._counterfactual import SUMMARIES as SUMMARIES
from ._counterfactual import check_interval_of_draws as check_interval_of_draws
from ._counterfactual import summarise as summarise
from ._effects import blocks_at_levels as blocks_at_levels
from ._effects import drawn_effects as drawn_effects
from ._effects import network_effects as network_effects
from ._effects import position_of as position_of
from ._fe import SCMEDAL_FE
from ._fec import SCMEDAL_FEC
from ._inference import UNTRAINED as UNTRAINED
from ._re import COLLAPSED as COLLAPSED
from ._re import SCMEDAL_RE
from ._request import checked_request as checked_request
from ._save_whole import save_whole as save_whole
from ._states_of import states_of as states_of
from ._swap import Swap as Swap
from ._swap import expression_blocks as expression_blocks
from ._swap import residuals as residuals
from ._targets import is_one_target as is_one_target
from ._training_cells import training_indices as training_indices
from ._training_cells import was_trained_on as was_trained_on
from ._unseen import check_fits as check_fits
from ._unseen import in_parts as in_parts
from ._warn_of_extrapolation import LEAST_SUPPORTED as LEAST_SUPPORTED
from ._warn_of_extrapolation import warn_of_extrapolation as warn_of_extrapolation

if TYPE_CHECKING:
    from ._targets import Levels as Levels
    from ._targets import Target as Target
    from ._unseen import UnseenBatch as UnseenBatch

__all__ = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]


def __dir__() -> list[str]:
    return list(__all__)
