"""`mae_backbone.export`: a checkpoint or a loaded model -> an ONNX or .pt2 file."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from mae_backbone.export import int8, onnx_file, torch_export
from mae_backbone.export.build import build_target
from mae_backbone.export.options import PARTS, ExportOptions, read_dynamic, read_size
from mae_backbone.export.target import ExportTarget
from mae_backbone.export.verify import Run, Verification, verify
from mae_backbone.prediction.loading import load
from mae_backbone.prediction.model import Model
from mae_backbone.prediction.onnx.description import Description
from mae_backbone.prediction.onnx.packages import require
from mae_backbone.prediction.onnx.session import OnnxSession

SUFFIXES = ('.onnx', '.pt2')


@dataclass(frozen=True)
class ExportedFile:
    """An exported file.

    Attributes:
        path: of the file.
        target: exported part of the model.
        verification: result of the comparison with PyTorch; None if it was not asked for.
        agreement: of predictions in float32 and int8; '' if the file is not quantized.
    """

    path: Path
    target: ExportTarget
    verification: Verification | None
    agreement: str = ''

    def __str__(self) -> str:
        axes = [f'{name}[{axis}] {spec.name}' for name, axes in self.target.dynamic.items()
                for axis, spec in axes.items()]
        lines = [f'{self.path}: {self.path.stat().st_size / 1e6:,.1f} MB',
                 f'  inputs    {", ".join(self.target.input_names)}; dynamic: {", ".join(axes) or "none"}',
                 f'  outputs   {", ".join(self.target.output_names)}']
        description = Description.from_metadata(self.target.metadata)
        if 'size' in description.dynamic:
            multiples = f', multiples of {description.multiple}' * (description.multiple > 1)
            lines.append(f'  images    sides of {description.minimum} pixels or more{multiples}')
        lines += [f'  verified  {self.verification}'] if self.verification else []
        return '\n'.join([*lines, *([f'  int8      {self.agreement}'] if self.agreement else [])])


def export(model: str | Path | Model, out: str | Path, *, part: str = 'model',
           dynamic: str | Sequence[str] | None = None, size: int | str | Sequence[int] | None = None,
           opset: int = onnx_file.OPSETS[0], half: bool = False, preprocessing: bool = False, softmax: bool = False,
           argmax: bool = False, verify: bool = False, calibration: str | Path | None = None,
           **options: Any) -> ExportedFile:
    """Writes a model to a file for other programs, as `mae-backbone export` does.

    The input is `images` (B, C, H, W) float32, normalized with the mean and std in the metadata of the file.

    Args:
        model: a checkpoint, or a model of `mae_backbone.load`.
        out: file that ends in .onnx or .pt2 (`torch.export.load` reads that one).
        part: 'model'; 'backbone' for its maps; or 'pyramid' for the maps behind the neck of a detector or segmenter.
        dynamic: axes whose size may change: 'batch', 'size' (height and width), 'batch,size' or 'none'. By default the
            batch, and of a segmenter also the size.
        size: side of the images in pixels, or height and width; by default the size of the training.
        opset: version of ONNX's operators.
        half: compute in float16.
        preprocessing: take pixels (B, 3, H, W) uint8 in RGB order, and normalize them inside. Without a dynamic size,
            images of any size are resized inside, without keeping the ratio of their sides.
        softmax: return probabilities in place of logits.
        argmax: return the class of each pixel of a segmenter.
        verify: compare the file with PyTorch on five images, at three sizes if the size is dynamic.
        calibration: folder of images similar to the training images; the file is quantized to int8 with them, see
            `mae_backbone.export.int8`. Verification is of the file before.
        options: of `mae_backbone.load`, such as `config`.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
        ImportError: a package of ONNX is not installed.
        ValueError: an option is out of its range, the model cannot be exported so, or verification fails.
    """
    path = Path(out)
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{out}: expected a name that ends in {" or ".join(SUFFIXES)}')
    if isinstance(model, (str, Path)) and Path(model).suffix.lower() in SUFFIXES:
        raise ValueError(f'{model} is an exported file: pass the checkpoint that it was exported from')
    if part not in PARTS:
        raise ValueError(f'part={part!r}, expected one of {", ".join(PARTS)}')
    if softmax and argmax:
        raise ValueError('softmax and argmax: choose one of them')
    if not path.parent.is_dir():
        raise FileNotFoundError(f'the folder {path.parent} does not exist: create it first')
    if path.is_dir():
        raise ValueError(f'{out} is a folder: choose another name for the file')
    if calibration is not None and (path.suffix != '.onnx' or half):
        raise ValueError('int8 is for ONNX files in float32: leave half out, and end the name with .onnx')
    chosen = ExportOptions(part=part, dynamic=read_dynamic(dynamic), size=read_size(size), preprocessing=preprocessing,
                           activation='softmax' if softmax else 'argmax' if argmax else 'logits', half=half)
    if path.suffix == '.onnx':
        require('onnx', 'onnxscript', *(['onnxruntime'] if verify else []))
    loaded: Any = model if isinstance(model, Model) else load(model, device='cpu', **options)
    target = build_target(loaded, chosen)
    return write_target(target, path, opset=opset, check=verify, calibration=calibration)


def write_target(target: ExportTarget, path: Path, *, opset: int = onnx_file.OPSETS[0],
                 check: bool = False, calibration: str | Path | None = None) -> ExportedFile:
    """Writes a target to a file, and first verifies and quantizes it if asked for.

    Raises:
        ImportError, ValueError, OSError: as `export`.
    """
    if path.suffix == '.pt2':
        program = torch_export.trace(target)
        result = verify(target, _run_program(program)) if check else None
        torch_export.save(program, _described(target, result), path)
        return ExportedFile(path, target, result)
    converted = onnx_file.convert(target, opset=opset)
    with onnx_file.files(path) as temporary:
        onnx_file.save(converted, target.metadata, temporary)
        result = verify(target, OnnxSession(temporary)) if check else None
        if result is not None:
            onnx_file.save(converted, _described(target, result), temporary)
        agreement = int8.quantize(temporary, calibration) if calibration is not None else ''
    return ExportedFile(path, target, result, agreement)


def _described(target: ExportTarget, result: Verification | None) -> dict[str, str]:
    return {**target.metadata, **(result.metadata() if result is not None else {})}


def _run_program(program: ExportedProgram) -> Run:
    module = program.module()

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = module(*map(torch.from_numpy, inputs))
        return [one.numpy() for one in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]
    return run
