"""Models from exported ONNX files, with the methods of models from checkpoints."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.data.class_folder import evaluation_transform
from mae_backbone.prediction.onnx.description import Description
from mae_backbone.prediction.onnx.detector import OnnxDetectorPredictor
from mae_backbone.prediction.onnx.openvino_session import OpenvinoSession
from mae_backbone.prediction.onnx.predictor import (
    OnnxClassifierPredictor,
    OnnxPredictor,
    OnnxSegmenterPredictor,
    normalize,
    run_batches,
)
from mae_backbone.prediction.onnx.session import OnnxSession
from mae_backbone.prediction.predicting import Images, PredictsImages, batches
from mae_backbone.prediction.typed_results import Result

PREDICTORS: dict[str, Callable[[OnnxSession, Description], OnnxPredictor]] = {
    'classification': OnnxClassifierPredictor, 'detection': OnnxDetectorPredictor,
    'segmentation': OnnxSegmenterPredictor}


class OnnxModel(PredictsImages[Result]):
    """An exported detector, segmenter or classifier. `mae_backbone.load` builds one.

    Its predictions have the types of the predictions in PyTorch. Several threads may use it at once.

    Attributes:
        task: 'detection', 'segmentation' or 'classification'.
        classes, colors, class_ids: name, color and id of each class.
        description: metadata of the file.
        path: path of the file.
    """

    def __init__(self, session: OnnxSession, description: Description) -> None:
        if description.task not in PREDICTORS:
            raise CheckpointError(f'{session.path} is exported for {description.task}, which this version does not '
                                  'predict: update mae_backbone')
        predictor = PREDICTORS[description.task](session, description)
        self.path, self.session, self.description, self.predictor = session.path, session, description, predictor
        self.task, self.classes, self.colors = predictor.task, predictor.classes, predictor.colors
        self.class_ids, self.decoding = predictor.class_ids, predictor.decoding

    def __repr__(self) -> str:
        return f'OnnxModel({self.path.name}, {self.task}, {len(self.classes)} classes)'


class OnnxEncoder:
    """An exported backbone or feature pyramid, which computes features.

    Attributes:
        description: metadata of the file.
        path: path of the file.
    """

    task = 'features'

    def __init__(self, session: OnnxSession, description: Description) -> None:
        self.path, self.session, self.description = session.path, session, description
        self.decoding = description.reading()

    def features(self, images: Images, *, pool: str | None = None, size: int | tuple[int, int] | None = None,
                 batch_size: int = 8, progress: bool = False, as_tensor: bool = False) -> 'np.ndarray | torch.Tensor':
        """Computes features of the last block, like `Model.features`.

        Args:
            images, size, batch_size, progress, as_tensor: as in `Model.features`.
            pool: None for feature maps; 'mean' for the mean of the patch tokens; 'class' for the class token.

        Raises:
            ValueError: an option is out of its range, or the file does not have the output for `pool`.
        """
        names = self.session.output_names
        wanted = {None: 'features', 'mean': 'features', 'class': 'class_token'}
        if pool not in wanted:
            raise ValueError(f"pool={pool!r}, expected None, 'mean' or 'class'")
        if wanted[pool] not in names:
            raise ValueError(f'{self.path} has the outputs {", ".join(names)}, not {wanted[pool]!r}: run it with '
                             'onnxruntime')
        prepare = self.description.prepare
        if prepare.get('kind') == 'unknown':
            raise ValueError(f'{self.path} computes no features of images ({prepare.get("reason")}): prepare inputs '
                             'yourself, and run it with onnxruntime')
        height, width = self.description.image_size if size is None else (size, size) if isinstance(size, int) else size
        transform = evaluation_transform((height, width), None, self.decoding)
        found = []
        for batch in batches(images, batch_size, progress, self.decoding):
            inputs = [normalize(self.description, transform(source.read(self.decoding)).permute(1, 2, 0).numpy())
                      for source in batch]
            found += [outputs[names.index(wanted[pool])] for outputs
                      in run_batches(self.session, self.description, inputs)]
        if not found:
            raise ValueError('there are no images to compute features of')
        features = np.stack(found)
        features = features.mean(axis=(2, 3)) if pool == 'mean' else features
        return torch.from_numpy(features) if as_tensor else features

    def predict(self, *_: object, **__: object) -> None:
        """Raises ValueError: an encoder has no classes."""
        raise ValueError(f'{self.path} contains an encoder, which does not predict classes: use '
                         '.features(images)')

    def __repr__(self) -> str:
        return f'OnnxEncoder({self.path.name}, outputs {", ".join(self.session.output_names)})'


def load_onnx(path: str | Path, *, device: Any = None) -> OnnxModel | OnnxEncoder:
    """Loads an exported ONNX file.

    Args:
        path: path of the file.
        device: 'cpu' (default) or 'cuda:0' for onnxruntime; 'openvino' for OpenVINO on the CPU.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: onnx, or the runtime, is not installed.
        CheckpointError: the file is damaged, or was not exported by this package.
    """
    session: Any = OpenvinoSession(path) if device == 'openvino' else OnnxSession(path, device=str(device or 'cpu'))
    try:
        description = Description.from_metadata(session.metadata)
        description.reading()
    except ValueError as error:
        raise CheckpointError(f'{path} cannot be used for predictions: {error}') from error
    whole = description.part == 'model' and description.task != 'features'
    return OnnxModel(session, description) if whole else OnnxEncoder(session, description)
