"""What operators written in C++ share: which tensors they take, how many threads work on them, and gradients of their gradients."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

PLAIN = (Tensor, nn.Parameter)  # not shards, and not tensors that only have a shape
# Types of numbers that code may be compiled for, and what the compiler is told (element.h).
DEFINES: dict[torch.dtype, tuple[str, ...]] = {torch.float32: (), torch.bfloat16: ("-DBFLOAT16",)}
# Below this many values, waking the threads takes longer than the work.
FEW = 2**15


def takes(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether C++ code can take these tensors of `dtype` in the CPU's memory, and nobody watches torch's operators.

    Their layout is for the operator to check.
    """
    return (
        not torch.compiler.is_compiling()  # must come first: the other conditions would break the graph
        and not _watched()
        and all(type(tensor) in PLAIN and tensor.is_cpu and tensor.dtype == dtype for tensor in tensors)
    )


def takes_either(*tensors: Tensor) -> bool:
    """Whether code that is compiled for their type can take these tensors: float32 or bfloat16, all of one."""
    dtype = tensors[0].dtype
    return dtype in DEFINES and takes(*tensors, dtype=dtype)


def learned(*tensors: Tensor) -> bool:
    """Whether a gradient for one of the tensors may be asked for."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def threads_for(values: int) -> int:
    """Return how many threads work on so many values."""
    return torch.get_num_threads() if values > FEW else 1


def differentiable(
    by_torch: Callable[..., Tensor], inputs: Sequence[Tensor | None], gradient: Tensor
) -> list[Tensor | None]:
    """Return the gradients for inputs by torch's operators, whose own derivatives it knows; None where none is wanted."""
    # Views of their own: an input may have been computed from another, which is another path to it.
    views = [tensor if tensor is None else tensor.view_as(tensor) for tensor in inputs]
    wanted = [tensor for tensor in views if tensor is not None and tensor.requires_grad]
    found = iter(torch.autograd.grad(by_torch(*views), wanted, gradient, create_graph=True))
    return [next(found) if tensor is not None and tensor.requires_grad else None for tensor in views]


def _watched() -> bool:
    """Whether torch transforms, traces or records operators, which it cannot do with ours."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()
    )
