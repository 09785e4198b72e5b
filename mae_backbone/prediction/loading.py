"""`mae_backbone.load`: loads a model from a checkpoint, public weights or an ONNX file."""
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mae_backbone.checkpoints.architecture import read_architecture
from mae_backbone.checkpoints.config_text import config_in
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.published import read_checkpoint
from mae_backbone.checkpoints.run_files import load_model, run_in
from mae_backbone.data.reading import reading_in
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.prediction.building import build_model, default_scope
from mae_backbone.prediction.embedded_config import EmbeddedConfigError, safe_config
from mae_backbone.prediction.model import (
    KINDS,
    Classifier,
    Detector,
    Encoder,
    MaskedAutoencoder,
    Model,
    Segmenter,
)
from mae_backbone.prediction.onnx.model import OnnxEncoder, OnnxModel, load_onnx
from mae_backbone.prediction.predictor import DTYPES, Predictor
from mae_backbone.utils.devices import select_device

# Errors that modules of a model raise for wrong arguments.
_UNBUILDABLE = (TypeError, KeyError, AttributeError, IndexError, AssertionError, RuntimeError, ZeroDivisionError)


def load(path: str | Path, *, config: str | Path | Config | None = None, device: str | torch.device | None = None,
         dtype: str = 'float32') -> Any:
    """Loads a checkpoint with the config and the classes in it. Nothing in the file is executed.

    The state of the process does not change (random numbers, threads, logging, MMEngine's default scope).

    Args:
        path: checkpoint of `mae-backbone train`, `pretrain` or `publish`; or public weights of a ViT, a file or a
            folder with a `config.json`; or an ONNX file of `mae-backbone export`.
        config: config to use instead of the config in the file: a path, the name of one of our configs, or a `Config`.
            A config file is Python code and is executed.
        device: device of the model, such as 'cpu' or 'cuda:0'; by default a GPU if there is one. For an ONNX file also
            'openvino': OpenVINO on the CPU.
        dtype: dtype of the computation: 'float32', 'bfloat16' or 'float16'. Weights stay float32.

    Returns:
        A `Detector`, `Segmenter`, `Classifier` or `MaskedAutoencoder`, depending on the task of the training. For
        public weights, an `Encoder`. For an ONNX file, an `OnnxModel` or `OnnxEncoder`.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, its config has a type or value that is not allowed, or weights do not
            fit.
        ValueError: the dtype is unknown.
    """
    if dtype not in DTYPES:
        raise ValueError(f'dtype={dtype!r}, expected one of {", ".join(DTYPES)}')
    path = Path(path)
    if path.suffix.lower() in ('.onnx', '.pt2'):
        return _exported(path, config, device, dtype)
    if path.is_dir():
        return _public_encoder(path, device, dtype)
    content = read_checkpoint(path)
    if config is None and not isinstance(config_in(content).get('model'), dict):
        return _public_encoder(path, device, dtype)
    if config is not None:
        return from_config(_read_config(config), content, path, device=device, dtype=dtype)
    cfg = safe_config(content, path)
    try:
        return from_config(cfg, content, path, device=device, dtype=dtype)
    except _UNBUILDABLE as error:
        raise EmbeddedConfigError(f'{path}: the model of its config cannot be built ({type(error).__name__}: {error}): '
                                  'the file was changed, or written by another version; pass the config of its '
                                  'training') from error


def from_config(cfg: Config, content: object, path: Path, *, device: str | torch.device | None = None,
                dtype: str = 'float32') -> 'Detector | Segmenter | Classifier | MaskedAutoencoder | Encoder':
    """Builds the model of a config with the weights in the content of a checkpoint. Raises the errors of `load`."""
    run = run_in(content, path)
    kind = str(cfg.model.get('type')).rpartition('.')[2]
    if kind not in ('MAEPretrainer', 'ViTClassifier') or (kind == 'ViTClassifier' and cfg.model.get('num_classes')):
        predictor = Predictor(cfg, path, device=device, dtype=dtype, run=run)
        return KINDS[predictor.task](predictor, path, cfg)
    # `safe_config` removes the teacher of a distillation, because only training needs it. Remove its weights too.
    if 'teacher' not in cfg.model:
        run['state_dict'] = {name: value for name, value in run['state_dict'].items()
                             if not name.startswith('distillation.')}
    net = build_model(cfg, run['state_dict'])
    load_model(net, run, path)
    net.to(select_device(device)).eval()
    with default_scope(cfg.get('default_scope')):
        reading = reading_in(cfg.get('test_dataloader') or cfg.get('train_dataloader') or {})
    if isinstance(net, MAEPretrainer):
        return MaskedAutoencoder(path, net, net.mae.encoder, config=cfg, dtype=dtype, decoding=reading)
    assert isinstance(net, ViTClassifier)
    return Encoder(path, net, net.backbone, config=cfg, dtype=dtype, decoding=reading)


def _exported(path: Path, config: object, device: str | torch.device | None, dtype: str) -> OnnxModel | OnnxEncoder:
    if path.suffix.lower() == '.pt2':
        raise ValueError(f'{path} holds a graph of torch.export: read it with torch.export.load, or export to .onnx')
    if config is not None or dtype != 'float32':
        raise ValueError(f'{path} is an exported model with a fixed config and precision: remove config and dtype (for '
                         'float16, export with --half)')
    return load_onnx(path, device=device)


def _public_encoder(path: Path, device: str | torch.device | None, dtype: str) -> Encoder:
    architecture = read_architecture(path)
    cfg = Config(dict(model=dict(
        type='mae_backbone.ViTClassifier', num_classes=0, backbone=architecture.backbone, data_preprocessor=dict(
            type='mae_backbone.PixelPreprocessor', mean=architecture.mean, std=architecture.std))))
    net: Any = build_model(cfg, {'weights': torch.empty(0)})
    load_encoder(net.backbone, path)
    net.to(select_device(device)).eval()
    return Encoder(path, net, net.backbone, config=None, dtype=dtype, decoding=reading_in({}))


def _read_config(config: str | Path | Config) -> Config:
    if isinstance(config, Config):
        return config
    from mae_backbone.utils.config_files import drop_scope, find_config
    cfg = Config.fromfile(find_config(config))
    drop_scope(cfg._cfg_dict)
    return cfg


__all__ = ['Model', 'load']
