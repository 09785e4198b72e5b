"""Summary of an exported file on one page: task, classes, inputs and outputs, sizes, verification, and versions."""
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.reading import CheckpointError, existing_file
from mae_backbone.prediction.onnx.description import MAX_TEXT, PREFIX, PT2_METADATA, Description
from mae_backbone.prediction.onnx.packages import require
from mae_backbone.prediction.onnx.session import check_file
from mae_backbone.utils.printable import printable

SUFFIXES = ('.onnx', '.pt2')
_LISTED = 20    # largest number of classes that are listed
_WIDTH = 4000   # largest number of characters of a line, because untrusted metadata may be long
_ACTIVATIONS = {'logits': 'logits', 'softmax': 'probabilities', 'argmax': 'classes'}


@dataclass(frozen=True)
class ExportedInfo:
    """Facts about an exported file. `str(info)` is a summary as text.

    Attributes:
        path: path of the file.
        num_bytes: size in bytes of the file, including a separate file with its weights.
        kind: name of the format.
        inputs, outputs: name, type and shape of each input and output, as text; empty for a .pt2 file.
        num_parameters: number of elements of all weights; 0 for a .pt2 file.
        dtypes: number of weight tensors of each dtype.
        description: metadata of the file; None if they cannot be read, such as for files of other programs.
        fault: reason why `description` is None; otherwise ''.
        verified: error, limit, images and sizes of the verification; empty if the file was not verified.
        int8: agreement of the predictions in float32 and int8; '' if the file is not quantized.
        config: always '', because the file has no config.
    """

    path: Path
    num_bytes: int
    kind: str
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    num_parameters: int = 0
    dtypes: dict[str, int] = field(default_factory=dict)
    description: Description | None = None
    fault: str = ''
    verified: dict[str, Any] = field(default_factory=dict)
    int8: str = ''
    config: str = ''

    @property
    def task(self) -> str:
        """Task of the model; '' if the file does not state it."""
        return self.description.task if self.description else ''

    @property
    def classes(self) -> list[dict]:
        """Id, name and color of each class, as dicts."""
        return [asdict(one) for one in self.description.classes] if self.description else []

    def __str__(self) -> str:
        return '\n'.join(printable(line[:_WIDTH]) for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f'{self.path}: {self.kind}, {self.num_bytes / 1e6:,.1f} MB'
        if self.num_parameters:
            dtypes = ', '.join(f'{count} {name}' for name, count in self.dtypes.items())
            yield f'  weights   {self.num_parameters:,} numbers in tensors of {dtypes}'
        yield from (f'  input     {one}' for one in self.inputs)
        yield from (f'  output    {one}' for one in self.outputs)
        if self.description is None:
            yield f'  metadata  none that mae-backbone can use: {self.fault}'
            return
        yield from _description_lines(self.description)
        if self.verified:
            sizes = ', '.join('x'.join(map(str, size)) for size in self.verified.get('sizes', ()))
            yield (f'  verified  largest difference to PyTorch {self.verified.get("error")} (limit '
                   f'{self.verified.get("limit")}), {self.verified.get("images")} images of {sizes}')
        else:
            yield '  verified  no: export with --verify compares a file with PyTorch'
        if self.int8:
            yield f'  int8      {self.int8}'
        versions = self.description.source.get('versions')
        if isinstance(versions, dict):
            yield '  versions  ' + ', '.join(f'{name} {value}' for name, value in versions.items())
        if self.description.source.get('commit'):
            yield f'  commit    {self.description.source["commit"]}'


def exported_info(path: str | Path) -> ExportedInfo:
    """Describes an ONNX file, or the metadata of a .pt2 file. Nothing in the file is executed.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: onnx is not installed.
        CheckpointError: the file is damaged.
    """
    path = existing_file(path)
    return _onnx_info(path) if path.suffix.lower() == '.onnx' else _pt2_info(path)


def _onnx_info(path: Path) -> ExportedInfo:
    require('onnx')
    check_file(path)
    import onnx
    model = onnx.load_model_from_string(path.read_bytes())
    opset = next((one.version for one in model.opset_import if one.domain in ('', 'ai.onnx')), 0)
    weights = model.graph.initializer
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    numbers = sum(math.prod(tensor.dims) for tensor in weights)
    given = {tensor.name for tensor in weights}  # old ONNX files list their weights as inputs too
    data = path.with_name(f'{path.name}.data')
    return ExportedInfo(
        path, path.stat().st_size + (data.stat().st_size if data.is_file() else 0), f'ONNX file, opset {opset}',
        [_value(one, names) for one in model.graph.input if one.name not in given],
        [_value(one, names) for one in model.graph.output], numbers,
        dict(Counter(names.get(tensor.data_type, '?') for tensor in weights)),
        **_described({entry.key: entry.value for entry in model.metadata_props}))


def _value(value: Any, names: Mapping[int, str]) -> str:
    """Formats an input or output of a graph as text, such as 'images float (batch, 3, height, width)'."""
    tensor = value.type.tensor_type
    sides = [one.dim_param or (str(one.dim_value) if one.HasField('dim_value') else '?') for one in tensor.shape.dim]
    return f'{value.name} {names.get(tensor.elem_type, "?")} ({", ".join(sides)})'


def _pt2_info(path: Path) -> ExportedInfo:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f'/extra/{PT2_METADATA}')]
            text = b''
            if names:
                with archive.open(names[0]) as file:
                    text = file.read(2 * MAX_TEXT + 1)
        values = json.loads(text) if text else {}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RecursionError, EOFError) as error:
        raise CheckpointError(f'{path} is not a .pt2 file, or is damaged or cut off ({str(error)[:200]}): check the '
                              'path, or export the model again') from error
    metadata = {str(key): value for key, value in values.items() if isinstance(value, str)} if isinstance(
        values, dict) else {}
    return ExportedInfo(path, path.stat().st_size, 'graph of torch.export', **_described(metadata))


def _described(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns arguments of `ExportedInfo` with the content of the metadata of a file."""
    try:
        description = Description.from_metadata(metadata)
    except ValueError as error:
        return {'fault': str(error)}
    try:
        verified = json.loads(metadata.get(f'{PREFIX}verified', '{}'))
    except (ValueError, RecursionError):
        verified = {}
    return {'description': description, 'int8': metadata.get(f'{PREFIX}int8', '')[:500],
            'verified': verified if isinstance(verified, dict) and isinstance(verified.get('sizes', []), list) and all(
                isinstance(size, list) for size in verified.get('sizes', [])) else {}}


def _description_lines(description: Description) -> Iterator[str]:
    yield f'  task      {description.task}' + f', {description.part}' * (description.part != 'model')
    height, width = description.image_size
    fixed = f'{height}x{width} pixels'
    if 'size' in description.dynamic:
        multiples = f' in multiples of {description.multiple}' if description.multiple > 1 else ''
        fixed = f'any{multiples} from {description.minimum} pixels on (training: {fixed})'
    elif description.preprocessing:
        fixed = f'any, resized to {fixed} inside'
    yield f'  size      {fixed}'
    yield f'  dynamic   {", ".join(description.dynamic) or "none"}'
    channels = description.channels or (f'{description.reader.get("channels")} channels of '
                                        f'{description.reader.get("type")}' if description.reader else 'not colors')
    if description.preprocessing:
        yield f'  pixels    taken as they are ({"RGB" if description.channels else channels}), normalized inside'
    else:
        yield f'  pixels    {channels}, mean {list(description.mean)}, std {list(description.std)}'
    if description.activation and description.task != 'detection':
        yield f'  returns   {_ACTIVATIONS[description.activation]}'
    if description.source.get('half'):
        yield '  computes  in float16'
    if description.classes:
        names = [f'{one.name} ({one.id})' for one in description.classes]
        more = f' and {len(names) - _LISTED} more' * (len(names) > _LISTED)
        yield f'  classes   {len(names)}: {", ".join(names[:_LISTED])}{more}'
    if description.prepare.get('kind') == 'unknown':
        yield f'  predict   takes no image files: {description.prepare.get("reason")}'
