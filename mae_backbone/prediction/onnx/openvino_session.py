"""Runs ONNX files with OpenVINO on CPUs of Intel and ARM."""
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_backbone.checkpoints.reading import CheckpointError, existing_file
from mae_backbone.prediction.onnx.packages import require
from mae_backbone.prediction.onnx.session import check_file, read_metadata
from mae_backbone.utils.cpu import available_cpus


class OpenvinoSession:
    """An ONNX file that OpenVINO runs on the CPU. It has the interface of `OnnxSession`.

    Several threads may use a session at once. Their inputs are computed one after another.

    Args:
        path: path of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: onnx or openvino is not installed.
        CheckpointError: the file is not an ONNX file, is damaged, or cannot be compiled by OpenVINO.
    """

    runtime = 'OpenVINO'

    def __init__(self, path: str | Path) -> None:
        require('onnx', 'openvino')
        self.path = existing_file(path)
        check_file(self.path)
        import openvino
        try:
            core = openvino.Core()
            # Compute in float32 like PyTorch. The default of OpenVINO is bfloat16 on CPUs that support it.
            self._model: Any = core.compile_model(str(self.path), 'CPU', {
                'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32',
                'INFERENCE_NUM_THREADS': available_cpus()})
        except RuntimeError as error:
            raise CheckpointError(f'{self.path} cannot be compiled by OpenVINO {openvino.__version__} '
                                  f'({_last_line(error)}): run it with onnxruntime') from error
        self.metadata = read_metadata(self.path)
        self.input_names = tuple(one.any_name for one in self._model.inputs)
        self.output_names = tuple(one.any_name for one in self._model.outputs)
        self._request, self._lock = self._model.create_infer_request(), threading.Lock()

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Computes the outputs.

        Raises:
            CheckpointError: OpenVINO cannot compute them.
        """
        try:
            with self._lock:
                results = self._request.infer(dict(zip(self.input_names, inputs, strict=True)))
                return [np.array(results[one]) for one in self._model.outputs]
        except RuntimeError as error:
            shapes = ', '.join(str(one.shape) for one in inputs)
            raise CheckpointError(f'{self.path} cannot compute inputs of {shapes} ({_last_line(error)})') from error


def _last_line(error: BaseException) -> str:
    """Returns the last line of an error of OpenVINO, which states the reason. The other lines are source locations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:200]
