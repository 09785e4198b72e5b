"""Conditions for code that has another form in an exported graph: sizes may be unknown, and no gradient is needed."""
import torch


def is_exporting() -> bool:
    """True if torch.export, and with it the export to ONNX, or torch.jit.trace records the operations."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def is_static(sizes: int | tuple[int, ...]) -> bool:
    """True if sizes are numbers. Sizes of dynamic axes are symbols during an export, and must not be compared."""
    return all(isinstance(size, int) for size in (sizes if isinstance(sizes, tuple) else (sizes,)))
