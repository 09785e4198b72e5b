"""Runs ONNX files with onnxruntime. Files are untrusted and are checked before they are run."""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_backbone.checkpoints.reading import CheckpointError, existing_file
from mae_backbone.prediction.onnx.packages import require
from mae_backbone.utils.cpu import available_cpus

MAX_BYTES = 2 ** 31  # size limit of an ONNX file, set by protobuf


class OnnxSession:
    """An ONNX file that onnxruntime runs. The file is checked before it is loaded.

    Several threads may use a session at once.

    Args:
        path: path of the file.
        device: 'cpu', or 'cuda' with the index of a GPU, such as 'cuda:0'.

    Attributes:
        runtime: name of the runtime.
        metadata: metadata of the file.
        input_names, output_names: names of inputs and outputs in the order of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: onnx or onnxruntime is not installed.
        CheckpointError: the file is not an ONNX file, is damaged, or refers to files outside of its folder.
        ValueError: onnxruntime does not have the device.
    """

    runtime = 'onnxruntime'

    def __init__(self, path: str | Path, *, device: str = 'cpu') -> None:
        require('onnx', 'onnxruntime')
        self.path = existing_file(path)
        check_file(self.path)
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised
        options.intra_op_num_threads = available_cpus()
        options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(str(self.path), options,
                                                              providers=_providers(device, onnxruntime))
            self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        except _damaged() as error:
            raise CheckpointError(f'{self.path} cannot be run by onnxruntime {onnxruntime.__version__} '
                                  f'({_first_line(error)}): export the model again') from error
        self.input_names = tuple(one.name for one in inputs)
        self.output_names = tuple(one.name for one in outputs)

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Computes the outputs.

        Raises:
            CheckpointError: onnxruntime cannot compute them.
        """
        try:
            return self._session.run(None, dict(zip(self.input_names, inputs, strict=True)))
        except _damaged() as error:
            shapes = ', '.join(str(one.shape) for one in inputs)
            too_large = ': predict large images in tiles (--tile)' if 'allocate' in str(error) else ''
            raise CheckpointError(f'{self.path} cannot compute inputs of {shapes} ({_first_line(error)}){too_large}'
                                  ) from error


def check_file(path: Path) -> None:
    """Checks an ONNX file before onnxruntime reads it.

    Raises:
        CheckpointError: the file is too large, is not an ONNX file, or has weights that are missing, cut off or outside
            of its folder.
    """
    import onnx
    from google.protobuf.message import DecodeError
    if path.stat().st_size >= MAX_BYTES:
        raise CheckpointError(f'{path} has {path.stat().st_size:,} bytes, an ONNX file has less than {MAX_BYTES:,}')
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        if not model.graph.output:
            raise ValueError('it has no outputs')
        for tensor in _tensors(model):
            _check_tensor(tensor, path.parent)
    except (DecodeError, ValueError, TypeError, RecursionError, OSError) as error:
        raise CheckpointError(f'{path} is not an ONNX file, or is damaged or cut off ({_first_line(error)}): check the '
                              'path, or export the model again') from error


def read_metadata(path: Path) -> dict[str, str]:
    """Returns the metadata of an ONNX file, which `check_file` must have checked before."""
    import onnx
    return {entry.key: entry.value for entry in onnx.load_model_from_string(path.read_bytes()).metadata_props}


def _tensors(model: Any) -> Iterator[Any]:
    """Yields all tensors of a model: weights, and constants in attributes, including subgraphs and functions."""
    graphs: list[Any] = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        for graph in graphs:
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
        graphs = []
        for node in nodes:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                graphs += [graph for graph in (attribute.g, *attribute.graphs) if graph.node or graph.initializer]
        nodes = []


def _check_tensor(tensor: Any, folder: Path) -> None:
    """Raises ValueError if the data of a tensor are in a file outside of the folder, or extend beyond this file."""
    import onnx
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get('location', '')
    file = folder / location
    if not location or '/' in location or '\\' in location or location in ('.', '..') or file.is_symlink() \
            or not file.is_file():
        raise ValueError(f'its weights are in the file {location[:100]!r}, expected a file next to it')
    offset, length = (int(entries.get(key) or 0) for key in ('offset', 'length'))
    if min(offset, length) < 0 or offset + length > file.stat().st_size:
        raise ValueError(f'the weights {tensor.name[:100]!r} end behind the end of {location[:100]!r}')


def _providers(device: str, onnxruntime: Any) -> list[Any]:
    kind, _, index = device.partition(':')
    if kind == 'cpu':
        return ['CPUExecutionProvider']
    if kind != 'cuda' or not (index.isdecimal() or not index):
        raise ValueError(f"device={device!r}: an ONNX file runs on 'cpu' or 'cuda:0'")
    if 'CUDAExecutionProvider' not in onnxruntime.get_available_providers():
        raise ValueError(f'device={device!r}, but onnxruntime {onnxruntime.__version__} is built without CUDA: pip '
                         'install onnxruntime-gpu in its place')
    return [('CUDAExecutionProvider', {'device_id': int(index or 0)}), 'CPUExecutionProvider']


def _damaged() -> tuple[type[BaseException], ...]:
    """Returns the types of errors that onnxruntime raises for damaged files and wrong inputs."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state
    return (state.Fail, state.InvalidGraph, state.InvalidArgument, state.InvalidProtobuf, state.NotImplemented,
            state.NoSuchFile, state.NoModel, state.RuntimeException, state.EPFail, ValueError, RuntimeError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
