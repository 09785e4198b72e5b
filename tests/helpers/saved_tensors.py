"""What the backward pass keeps."""
from collections.abc import Callable

from torch import Tensor
from torch.profiler import ProfilerActivity, profile


def held(work: Callable[[], Tensor]) -> int:
    """Bytes that are there after `work` and were not before it: its outcome, and what the backward pass needs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        out = work()
    assert out.requires_grad
    return sum(event.nbytes() for event in seen.profiler.kineto_results.events() if event.name() == '[memory]')
