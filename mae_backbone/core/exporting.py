"""Conditions for code that differs in an exported graph, in which sizes may be unknown and no gradients are needed."""
import torch


def is_exporting() -> bool:
    """True while torch.export (also for ONNX) or torch.jit.trace records the operations."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def is_static(sizes: int | tuple[int, ...]) -> bool:
    """True if sizes are numbers. During an export, sizes of dynamic axes are symbols, which must not be compared."""
    return all(isinstance(size, int) for size in (sizes if isinstance(sizes, tuple) else (sizes,)))
