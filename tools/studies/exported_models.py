"""Exports small models with random weights to ONNX, verifies each, and prints the table of the documentation.

    python tools/studies/exported_models.py [ROW ...]

Each row takes 10 s to a minute on a CPU core: torch.export and the converter to ONNX, not the models, take that time.
"""
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mae_backbone
from mae_backbone.export.target import ExportError

ARCH = dict(width=32, depth=2, heads=2)
PIXELS = dict(mean=[127.0, 120.0, 110.0], std=[60.0, 61.0, 62.0])
PLAIN = dict(arch=ARCH, image_size=64, patch_size=8)
WINDOWS = PLAIN | dict(window_size=3, global_blocks=(1,), relative_positions=True, pretrain_image_size=32)


def encoder(backbone: dict, pool: str = 'mean') -> dict:
    """Config of a classifier without classes, which is an encoder."""
    return dict(model=dict(type='mae_backbone.ViTClassifier', num_classes=0, pool=pool, backbone=backbone,
                           data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', **PIXELS)))


def timm(name: str) -> dict:
    """Config of an encoder of timm, of small width and depth."""
    size = 56 if 'patch14' in name else 64
    return encoder(dict(type='mae_backbone.TimmViT', name=name, image_size=size, embed_dim=32, depth=2, num_heads=2,
                        init_cfg=None))


def segmenter(backbone: dict, head: str, neck: bool = False, slide: bool = False) -> dict:
    """Config of a segmenter."""
    dataset = dict(type='BaseSegDataset', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')])
    heads: dict[str, Any] = {
        'FCNHead': dict(type='FCNHead', in_channels=32, in_index=0, num_convs=1),
        'LinearHead': dict(type='mae_backbone.LinearHead', in_channels=32, in_index=0),
        'UPerHead': dict(type='mae_backbone.UPerHead', in_channels=[32] * 4, in_index=[0, 1, 2, 3])}
    model = dict(
        type='mae_backbone.EncoderDecoder', backbone=dict(type='mae_backbone.ViTBackbone') | backbone,
        data_preprocessor=dict(type='SegDataPreProcessor', bgr_to_rgb=True, **PIXELS),
        decode_head=heads[head] | dict(channels=32, num_classes=4, align_corners=False,
                                       loss_decode=dict(type='CrossEntropyLoss')),
        train_cfg=dict(),
        test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(42, 42)) if slide else dict(mode='whole'))
    if neck:
        model['neck'] = dict(type='mae_backbone.SimpleFeaturePyramid', in_channels=32, out_channels=32, input_stride=8,
                             extra_levels=0)
    return dict(default_scope='mmseg', custom_imports=dict(imports=['mae_backbone.segmentation']),
                test_dataloader=dict(dataset=dataset), model=model)


CLASSIFIER = dict(
    test_dataloader=dict(dataset=dict(type='mae_backbone.ClassFolder', data_root='data', split='val', image_size=64)),
    model=dict(type='mae_backbone.ViTClassifier', num_classes=3, backbone=PLAIN,
               data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', **PIXELS)))
MAE = dict(model=dict(type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2,
                      data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', **PIXELS), encoder=PLAIN))
UPERNET = segmenter(WINDOWS, 'UPerHead', neck=True)
BOTH = 'batch,size'

# Name of the row -> config, words for the model, options of the export.
ROWS: dict[str, tuple[dict, str, dict[str, Any]]] = {
    'classifier': (CLASSIFIER, 'classifier, mean of the tokens', dict(dynamic='batch')),
    'classifier-size': (CLASSIFIER, 'classifier, mean of the tokens', dict(dynamic=BOTH, softmax=True)),
    'classifier-pixels': (CLASSIFIER, 'classifier', dict(dynamic='batch', preprocessing=True)),
    'classifier-half': (CLASSIFIER, 'classifier', dict(dynamic='batch', half=True)),
    'mae': (MAE, 'MAE encoder', dict(dynamic=BOTH)),
    'windows': (segmenter(WINDOWS, 'FCNHead'), 'backbone with windows and relative positions',
                dict(dynamic=BOTH, part='backbone')),
    'shifted': (segmenter(PLAIN | dict(window_size=4, shifted_windows=True, conv_blocks=(1,)), 'FCNHead'),
                'backbone with shifted windows and convolutions', dict(dynamic=BOTH, part='backbone')),
    'bias': (segmenter(PLAIN | dict(class_token=True, relative_bias='block'), 'FCNHead'),
             "backbone with BEiT's relative positions", dict(dynamic=BOTH, part='backbone')),
    'pyramid': (UPERNET, 'backbone with windows and SimpleFeaturePyramid', dict(dynamic=BOTH, part='pyramid')),
    'fcn': (segmenter(PLAIN, 'FCNHead'), 'segmenter, FCN', dict(dynamic=BOTH)),
    'fcn-argmax': (segmenter(PLAIN, 'FCNHead'), 'segmenter, FCN', dict(dynamic=BOTH, argmax=True, preprocessing=True)),
    'linear': (segmenter(PLAIN, 'LinearHead', slide=True), 'segmenter, linear head', dict(dynamic=BOTH, softmax=True)),
    'upernet-fixed': (UPERNET, 'segmenter, UPerNet on ViTDet', dict(dynamic='batch')),
    'upernet': (UPERNET, 'segmenter, UPerNet on ViTDet', dict(dynamic=BOTH)),
    **{f'timm-{name}': (timm(name), f'`{name}` of timm', dict(dynamic=BOTH)) for name in (
        'vit_small_patch16_224', 'vit_small_patch14_reg4_dinov2', 'vit_small_patch16_dinov3', 'beit_base_patch16_224',
        'vit_base_patch16_siglip_224', 'samvit_base_patch16', 'eva02_base_patch14_224')},
}


def checkpoint(config: dict, path: Path) -> Path:
    """Writes a checkpoint of the model of a config with random weights that differ from the initial ones."""
    cfg = Config(config)
    torch.manual_seed(0)
    if cfg.get('default_scope') == 'mmseg':
        import mmseg.models

        import mae_backbone.segmentation  # noqa: F401  registers its heads
        assert mmseg.models
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    classes = {'classes': ['a', 'b', 'c', 'd'][:config['model'].get('num_classes', 4) or None]}
    torch.save({'meta': {'cfg': cfg.pretty_text, 'dataset_meta': classes}, 'state_dict': model.state_dict()}, path)
    return path


def measure(names: list[str]) -> Iterator[str]:
    """Yields the rows of the table."""
    for name in names:
        config, words, options = ROWS[name]
        start = time.process_time()
        inside = ', '.join(key for key in ('preprocessing', 'softmax', 'argmax', 'half') if options.get(key))
        with tempfile.TemporaryDirectory() as folder:
            try:
                exported = mae_backbone.export(checkpoint(config, Path(folder, 'model.pth')),
                                               Path(folder, 'model.onnx'), verify=True, **options)
                assert exported.verification is not None
                found = f'{exported.verification.error:.0e}'
            except ExportError as error:
                found = f'refused: {error}'
        yield (f'| {words} | {options.get("part", "model")} | {options["dynamic"]} | {inside} | {found} '
               f'| `{name}`, {time.process_time() - start:.0f} s |')


if __name__ == '__main__':
    for line in measure(sys.argv[1:] or list(ROWS)):
        print(line, flush=True)
