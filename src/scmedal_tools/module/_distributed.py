"""What processes that train one network have in common; a process alone is left as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import distributed
from torch.nn.utils import parameters_to_vector, vector_to_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def n_processes() -> int:
    """Number of processes that train together."""
    together = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together else 1


def of_first_process(values: Tensor) -> Tensor:
    """Values of the first process, for all."""
    if n_processes() > 1:
        distributed.broadcast(values, src=0)
    return values


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean over the processes, with the gradient of the own value.

    The mean of what the processes derive is then the derivative of the mean.
    """
    if n_processes() == 1:
        return value
    mean = value.detach().clone()
    distributed.all_reduce(mean)
    return mean / n_processes() + (value - value.detach())


def average_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their mean over the processes, in one exchange."""
    if n_processes() > 1 and tensors:
        together = parameters_to_vector(tensors)
        distributed.all_reduce(together)
        vector_to_parameters(together / n_processes(), tensors)
