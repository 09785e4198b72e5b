"""torch.export: a target as a graph, and as a .pt2 file."""
import io
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from mae_backbone.export.target import Axis, ExportError, ExportTarget
from mae_backbone.prediction.onnx.description import PT2_METADATA
from mae_backbone.utils.atomic_write import atomic_path


def trace(target: ExportTarget) -> ExportedProgram:
    """Records the operations of a target.

    Raises:
        ExportError: the module cannot be recorded with these dynamic axes.
    """
    dims: dict[Axis, object] = {}
    shapes = tuple({axis: _dim(spec, dims) for axis, spec in target.dynamic.get(name, {}).items()} or None
                   for name in target.input_names)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        try:
            program = torch.export.export(target.module, target.inputs, dynamic_shapes=shapes, strict=False,
                                          prefer_deferred_runtime_asserts_over_guards=True)
            _check_another_size(program, target)
            return program
        except Exception as error:  # of torch.export, dynamo or the module
            axes = sorted({spec.name for axes in target.dynamic.values() for spec in axes.values()})
            raise ExportError(f'torch.export cannot record the model with the dynamic axes {", ".join(axes) or "none"} '
                              f'({reason(error)}): try fewer of them, --dynamic batch or --dynamic none') from error


def save(program: ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Writes a graph to a .pt2 file. `torch.export.load` reads it; the metadata are its extra file `PT2_METADATA`.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()  # on a full disk, torch's writer of files ends the process
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.export.save(program, buffer, extra_files={PT2_METADATA: json.dumps(dict(metadata))})
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def reason(error: BaseException) -> str:
    """Type and cause of an error of a library, without colors. torch.onnx lists all causes, the first one on top."""
    lines = [line.strip() for line in re.sub(r'\x1b\[[\d;]*m', '', str(error)).splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith('<class ')]
    return f'{type(error).__name__}: {causes[0] if causes else " ".join(lines[:2])}'[:300]


def _check_another_size(program: ExportedProgram, target: ExportTarget) -> None:
    """Runs a graph at another size, where torch checks assumptions that it did not prove. ONNX does not check them.

    A size that torch treats as a special case (`Ne`, such as a single window) is no reason to refuse: only .pt2 files
    refuse it, when they run.
    """
    inputs = []
    for name, example in zip(target.input_names, target.inputs, strict=True):
        for axis, spec in target.dynamic.get(name, {}).items():
            if spec.name != 'batch':
                half = example.shape[axis] // 2 // spec.multiple * spec.multiple
                example = example.narrow(axis, 0, min(max(half, spec.minimum), example.shape[axis]))
        inputs.append(example)
    try:
        program.module()(*inputs)
    except RuntimeError as error:
        if 'Runtime assertion failed for expression Ne(' not in str(error):
            raise


def _dim(spec: Axis, dims: dict[Axis, object]) -> object:
    """Dimension of torch.export; axes that are equal share one."""
    if spec not in dims:
        low, high = -(-spec.minimum // spec.multiple), spec.maximum // spec.multiple
        dim = Dim(f'{spec.name}_in_{spec.multiple}' if spec.multiple > 1 else spec.name, min=low, max=high)
        dims[spec] = spec.multiple * dim if spec.multiple > 1 else dim
    return dims[spec]
