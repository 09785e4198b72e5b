"""ONNX files: a target, converted by torch.onnx, with its metadata inside."""
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from mae_backbone.export.nms import onnx_translations
from mae_backbone.export.target import ExportError, ExportTarget
from mae_backbone.export.torch_export import reason, trace
from mae_backbone.prediction.onnx.packages import require

OPSETS = (18, 23)  # the first one with the antialiased Resize and LayerNormalization; the last one of torch 2.14
# A file of protobuf has at most 2 GiB. Weights of larger models are in a file next to it.
MAX_INLINE_BYTES = 2 ** 31 - 2 ** 24


def convert(target: ExportTarget, *, opset: int = OPSETS[0]) -> Any:
    """Converts a target; returns the `torch.onnx.ONNXProgram`.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ExportError: the model cannot be converted.
        ValueError: an opset that is not supported.
    """
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ValueError(f'opset={opset}, expected {OPSETS[0]} to {OPSETS[1]}')
    require('onnx', 'onnxscript')
    program = trace(target)
    with warnings.catch_warnings(), open(os.devnull, 'w') as devnull, redirect_stdout(devnull):
        warnings.simplefilter('ignore')
        try:
            converted: Any = torch.onnx.export(
                program, dynamo=True, input_names=list(target.input_names), output_names=list(target.output_names),
                opset_version=opset, verbose=False, custom_translation_table=onnx_translations())
        except Exception as error:  # of torch.onnx or onnxscript
            raise ExportError(f'torch.onnx cannot convert the model to opset {opset} ({reason(error)}): try another '
                              '--opset, or write a .pt2 file') from error
    _name_axes(converted.model, target)
    _drop_notes(converted.model)
    return converted


def save(converted: Any, metadata: Mapping[str, str], path: Path) -> None:
    """Writes a converted target to an ONNX file; weights of more than 2 GB to a second file, `NAME.onnx.data`.

    Raises:
        OSError: the file cannot be written.
    """
    model = converted.model
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    converted.save(str(path), external_data=size > MAX_INLINE_BYTES)


@contextmanager
def files(path: Path) -> Iterator[Path]:
    """Yields a path in a temporary folder, and moves the files there next to `path` once complete, `path` last.

    The name of a file with weights is written inside of the other file.
    """
    folder = Path(tempfile.mkdtemp(prefix=f'.{path.name[:100]}.', suffix='.part', dir=path.parent))
    try:
        yield folder / path.name
        for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
            os.replace(file, path.with_name(file.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name_axes(model: Any, target: ExportTarget) -> None:
    """Gives dynamic axes of inputs and outputs their names, in place of symbols such as s34."""
    import onnx_ir
    named: dict[str, Mapping[int, str]] = {name: {axis: spec.name for axis, spec in axes.items()}
                                           for name, axes in target.dynamic.items()}
    named |= dict(target.output_axes)
    for value in [*model.graph.inputs, *model.graph.outputs]:
        if value.shape is None:
            continue
        axes = named.get(value.name, {})
        for axis, size in enumerate(value.shape):
            if not isinstance(size, int):
                value.shape[axis] = onnx_ir.SymbolicDim(axes.get(axis))


def _drop_notes(model: Any) -> None:
    """Removes the source information of torch at each node: paths of this machine, and half of a small file."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()
