"""Latency of one image in PyTorch and in runtimes for exported models, each in its own process."""
import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from mae_backbone.benchmark.measurement import Worker, describe
from mae_backbone.benchmark.report import bytes_text
from mae_backbone.core.vit import Block
from mae_backbone.prediction.building import default_scope
from mae_backbone.utils.config_files import drop_scope, find_config

EAGER = 'eager'
RUNTIMES = (EAGER, 'compile', 'onnxruntime', 'openvino')
# Measured if no model is named: a classifier, a segmenter and a detector on ViT-B.
MODELS = (('vit-b_100e_in1k', 224), ('upernet_vit-b_160k_ade20k-512x512', 512), ('mask-rcnn_vitdet-b_100e_coco', 512))
_SECONDS = 0.3   # our choice: a faster model is repeated for this time
_DIVISOR = 32    # of the padding of a detector. Its config pads to the size of its training
_SPREAD = 2.0    # standard deviation of the class scores of random weights, so that a detector finds objects
# Our choice. Largest relative difference between the sums of the outputs of two runtimes: they must do the same work.
_TOLERANCE = 0.02

_EXPECTED = 'expected a classifier, segmenter or detector, whose prediction of an image is measured'

Outcome = tuple[float, float]  # seconds per image, sum of the outputs


class Spec(NamedTuple):
    """A model to measure."""

    name: str         # of a config, which gets random weights, or path of a checkpoint
    size: int | None  # side of the image in pixels; None: size of the training


class Timing(NamedTuple):
    """Measurement of a model in a runtime."""

    seconds: float         # per image, median of the rounds
    memory: int            # peak of the process in bytes beyond its imports
    ratios: list[float]    # of each round: seconds of eager PyTorch, measured before it, divided by these


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the benchmark. Returns the content of its JSON file, and a table."""
    runtimes = read_runtimes(args.runtime)
    specs = [Spec(name, args.size) for name in args.models] or [Spec(name, args.size or size) for name, size in MODELS]
    results = {spec.name: measure(spec, runtimes, rounds=args.rounds, warmup=args.warmup) for spec in specs}
    machine = describe(torch.device('cpu'))
    return {'benchmark': 'latency', 'machine': machine, 'rounds': args.rounds, 'models': {
        name: {runtime: timing._asdict() for runtime, timing in timings.items()}
        for name, timings in results.items()}}, table(results, machine)


def read_runtimes(text: str) -> list[str]:
    """'compile,onnxruntime' -> runtimes, eager PyTorch first.

    Raises:
        ValueError: an unknown name.
    """
    names = [name.strip() for name in text.split(',') if name.strip()]
    if unknown := [name for name in names if name not in RUNTIMES]:
        raise ValueError(f'--runtime {unknown[0]}: expected names among {",".join(RUNTIMES)}')
    return [name for name in RUNTIMES if name == EAGER or name in names]


def measure(spec: Spec, runtimes: list[str], *, rounds: int, warmup: int = 1) -> dict[str, Timing]:
    """Measures a model in each runtime, in alternation with eager PyTorch.

    Raises:
        ImportError: a runtime is not installed.
        FileNotFoundError: there is no such config or checkpoint.
        ValueError: the model cannot be exported, or two runtimes disagree.
    """
    device = torch.device('cpu')
    with tempfile.TemporaryDirectory(prefix='latency_') as folder, ExitStack() as stack:
        with Worker(prepare_files, spec, folder, runtimes, device=device) as worker:
            worker.call()
        workers = {name: stack.enter_context(Worker(PREPARE[name], folder, device=device, imports=import_task))
                   for name in runtimes}
        seconds: dict[str, list[float]] = {name: [] for name in runtimes}
        ratios: dict[str, list[float]] = {name: [] for name in runtimes}
        for i in range(warmup + rounds):
            for name in runtimes[1:] or runtimes:
                before, expected = workers[EAGER].call()
                after, total = workers[name].call() if name != EAGER else (before, expected)
                check_same(spec, name, total, expected)
                if i >= warmup:
                    seconds[EAGER].append(before)
                    ratios[name].append(before / after)
                    if name != EAGER:
                        seconds[name].append(after)
        ratios[EAGER] = [1.0] * rounds
        return {name: Timing(statistics.median(seconds[name]), workers[name].memory(), ratios[name])
                for name in runtimes}


def check_same(spec: Spec, runtime: str, total: float, expected: float) -> None:
    """Raises ValueError if the sum of the outputs of a runtime is not the sum in eager PyTorch."""
    if not abs(total - expected) <= _TOLERANCE * max(abs(expected), 1.0):
        raise ValueError(f'{spec.name}: the outputs of {runtime} have the sum {total:.4g}, outputs of eager PyTorch '
                         f'{expected:.4g}: their times cannot be compared')


def table(results: dict[str, dict[str, Timing]], machine: dict) -> str:
    """Formats results for a terminal."""
    rows = [('model', 'runtime', 'ms per image', 'times as fast as eager', 'peak memory')]
    for name, timings in results.items():
        for runtime, timing in timings.items():
            spread = f'{statistics.median(timing.ratios):.2f} ({min(timing.ratios):.2f} to {max(timing.ratios):.2f})'
            rows.append((name, runtime, f'{1e3 * timing.seconds:,.1f}', spread if runtime != EAGER else '1',
                         bytes_text(timing.memory)))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return '\n'.join(['latency: ' + ', '.join(f'{name} {value}' for name, value in machine.items()), *lines])


# ---- in the processes that are measured


def import_task() -> None:
    """Imports the packages of the models. Their memory is not counted."""
    import mae_backbone.prediction.model  # noqa: F401


def prepare_files(spec: Spec, folder: str, runtimes: list[str]) -> Callable[[], None]:
    """Returns the work that writes `model.pth`, `image.npy`, and if a runtime needs it `model.onnx` into a folder."""
    path = Path(spec.name)
    is_checkpoint = path.is_file() and path.suffix != '.py'

    def write() -> None:
        from mae_backbone.export.build import input_size
        from mae_backbone.export.run import export
        from mae_backbone.prediction.loading import load
        source = path if is_checkpoint else random_checkpoint(spec, Path(folder) / 'model.pth')
        if is_checkpoint:
            (Path(folder) / 'model.pth').symlink_to(path.resolve())
        model = load(source, device='cpu')
        if model.task not in _PREDICT:
            raise ValueError(f'{spec.name} is a model for {model.task}: {_EXPECTED}')
        size = (spec.size, spec.size) if spec.size else input_size(model)
        channels = getattr(model.encoder, 'in_channels', 3)
        image = np.random.default_rng(0).normal(size=(1, channels, *size)).astype(np.float32)
        np.save(Path(folder) / 'image.npy', image)
        if {'onnxruntime', 'openvino'} & set(runtimes):
            export(model, Path(folder) / 'model.onnx', dynamic='none', size=size, **_activation(model))
    return write


def _activation(model: Any) -> dict[str, Any]:
    return {'softmax': True} if model.task == 'classification' else {
        'argmax': True} if model.task == 'segmentation' else {}


def random_checkpoint(spec: Spec, path: Path) -> Path:
    """Writes a checkpoint of random weights for a config, and returns its path.

    Raises:
        FileNotFoundError: the config does not exist.
        ValueError: it is the config of a pretraining, or of no model.
    """
    cfg = Config.fromfile(find_config(spec.name))
    drop_scope(cfg._cfg_dict)
    if 'backbone' not in cfg.get('model', {}):
        raise ValueError(f'{spec.name} has the model {cfg.get("model", {}).get("type")}: {_EXPECTED}')
    backbone: Any = cfg.model.backbone
    preprocessor: Any = cfg.model.get('data_preprocessor') or {}
    backbone.pop('init_cfg', None)
    if spec.size:
        backbone.image_size = spec.size
        if preprocessor.get('pad_size_divisor', 1) > 1:
            preprocessor.pad_size_divisor = _DIVISOR
    from mmengine.registry import MODELS
    with default_scope(cfg.get('default_scope')):
        torch.manual_seed(0)
        net = MODELS.build(cfg.model).eval()
    if (head := getattr(getattr(net, 'roi_head', None), 'bbox_head', None)) is not None:
        spread_scores(head)
    torch.save({'meta': {'cfg': cfg.pretty_text}, 'state_dict': net.state_dict()}, path)
    return path


@torch.no_grad()
def spread_scores(heads: Any) -> None:
    """Scales the classifiers of box heads with random weights, so that boxes pass the score threshold."""
    each: list[Any] = list(heads) if isinstance(heads, nn.ModuleList) else [heads]
    for head in each:
        outputs: list[torch.Tensor] = []
        hook = head.fc_cls.register_forward_hook(lambda module, inputs, output, into=outputs: into.append(output))
        head(torch.randn(64, head.in_channels, *head.roi_feat_size))
        hook.remove()
        head.fc_cls.weight *= _SPREAD / outputs[0].std()


def prepare_torch(folder: str, *, compiled: bool) -> Callable[[], Outcome]:
    """Builds a model in PyTorch; returns the work for one image."""
    from mae_backbone.prediction.loading import load
    model = load(Path(folder) / 'model.pth', device='cpu')
    image = torch.from_numpy(np.load(Path(folder) / 'image.npy'))
    for block in model.net.modules():  # they share one graph; compiling the whole model takes minutes
        if compiled and isinstance(block, Block):
            block.compile()
    return timed(partial(_PREDICT[model.task], model.net, image))


@torch.inference_mode()
def _classify(net: Any, image: torch.Tensor) -> float:
    """Sum of the probabilities of an image (1, C, H, W)."""
    return float(net.head(net.head_norm(net.features(image))).softmax(1).double().sum())


@torch.inference_mode()
def _segment(net: Any, image: torch.Tensor) -> float:
    """Sum of the labels of all pixels of an image (1, C, H, W)."""
    meta = dict(img_shape=tuple(image.shape[2:]), ori_shape=tuple(image.shape[2:]))
    return float(net.encode_decode(image, [meta]).argmax(1).double().sum())


@torch.inference_mode()
def _detect(net: Any, image: torch.Tensor) -> float:
    """Sum of the scores that mmdet predicts for an image (1, 3, H, W), with masks of the size of the image."""
    from mmdet.structures import DetDataSample
    size, step = tuple(image.shape[2:]), net.data_preprocessor.pad_size_divisor
    padded = nn.functional.pad(image, (0, -size[1] % step, 0, -size[0] % step))
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    return float(net.predict(padded, [sample])[0].pred_instances.scores.double().sum())


def prepare_onnxruntime(folder: str) -> Callable[[], Outcome]:
    """Loads the exported file into onnxruntime; returns the work for one image."""
    from mae_backbone.prediction.onnx.session import OnnxSession
    session, image = OnnxSession(Path(folder) / 'model.onnx'), np.load(Path(folder) / 'image.npy')
    return timed(lambda: _finish(session.output_names, session([image]), image))


def prepare_openvino(folder: str) -> Callable[[], Outcome]:
    """Compiles the exported file with OpenVINO; returns the work for one image."""
    from mae_backbone.prediction.onnx.openvino_session import OpenvinoSession
    session, image = OpenvinoSession(Path(folder) / 'model.onnx'), np.load(Path(folder) / 'image.npy')
    return timed(lambda: _finish(session.output_names, session([image]), image))


def _finish(names: tuple[str, ...], outputs: list[np.ndarray], image: np.ndarray) -> float:
    """Sum of the outputs; masks are pasted into the image first, as PyTorch's prediction does."""
    from mae_backbone.prediction.onnx.paste import paste_mask
    if names[0] != 'boxes':
        return float(outputs[0].sum(dtype=np.float64))
    boxes, scores, _, _, *masks = outputs
    pasted = np.zeros((len(boxes), *image.shape[2:]), bool)
    for i, (mask, box) in enumerate(zip(masks[0] if masks else (), boxes, strict=False)):
        region, top, left = paste_mask(mask, box, pasted.shape[1:])
        pasted[i, top:top + region.shape[0], left:left + region.shape[1]] = region
    return float(scores.sum(dtype=np.float64))


def timed(predict: Callable[[], float]) -> Callable[[], Outcome]:
    """Work that predicts for at least `_SECONDS`; it returns the seconds per image, and the result of `predict`."""
    def call() -> Outcome:
        start, number = time.perf_counter(), 0
        while True:
            total, number = predict(), number + 1
            if (elapsed := time.perf_counter() - start) >= _SECONDS:
                return elapsed / number, total
    return call


_PREDICT = {'classification': _classify, 'segmentation': _segment, 'detection': _detect}
PREPARE: dict[str, Callable[..., Callable[[], object]]] = {
    EAGER: partial(prepare_torch, compiled=False), 'compile': partial(prepare_torch, compiled=True),
    'onnxruntime': prepare_onnxruntime, 'openvino': prepare_openvino}
