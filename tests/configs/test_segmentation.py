"""Segmentation recipes: constants are those of the sources, one recipe per structure trains and is tested."""
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.config_files import CONFIGS, assert_constants, learning_rates, load, model_of, read, settings_of
from helpers.shrink import SIDE, shrink, write_label_maps
from mmengine.config import Config
from torch import Tensor

from mae_backbone.cli import training
from mae_backbone.engine.runner import Runner

SEGMENTATION = [file for file in CONFIGS if file.startswith('configs/segmentation/')]
# The warnings come from mmseg's visualization hook and losses, and from mmdet's deformable attention.
pytestmark = pytest.mark.filterwarnings('ignore:The draw is False:UserWarning', 'ignore:Default ``avg_non_ignore``',
                                        'ignore:torch.meshgrid:UserWarning')

# One recipe per structure.
KINDS = ['upernet_vit-b_20k_folder-512x512', 'upernet_vitdet-b_160k_ade20k-640x640', 'linear_vit-b_40k_ade20k-512x512',
         'mask2former_vitdet-b_160k_ade20k-512x512']
UPERNET = 'upernet_vit-b_160k_ade20k-512x512'


def path_of(name: str) -> str:
    return f'configs/segmentation/{name}.py'


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('maps')
    write_label_maps(folder)
    return folder


def small(name: str, root: Path, work_dir: Path) -> Config:
    cfg = shrink(load(path_of(name)), root)
    cfg.work_dir = str(work_dir)
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('name', KINDS)
def test_shrunk_recipe_trains_and_is_tested(name: str, root: Path, tmp_path: Path):
    cfg = small(name, root, tmp_path)
    runner = Runner.quietly_from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.named_parameters()}
    runner.train()
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values())
    unchanged = {name for name, value in runner.model.named_parameters() if torch.equal(value, before[name])}
    frozen = {name for name, value in runner.model.named_parameters() if not value.requires_grad}
    assert frozen == {parameter for parameter in before if name.startswith('linear') and parameter[:9] == 'backbone.'}
    assert len(unchanged - frozen) < len(before) / 8, sorted(unchanged - frozen)
    scalars = runner.message_hub.log_scalars
    assert 0 <= scalars['val/mIoU'].data[0][0] <= 100
    assert torch.isfinite(torch.tensor(scalars['train/loss'].data[0])).all()


@pytest.mark.slow
def test_mixed_precision_covers_the_model_and_not_the_loss(root: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch):
    """With --amp, matrix products run in bfloat16, sums of norms and losses in float32."""
    monkeypatch.setattr(training, 'cpu_has_bfloat16', lambda: True)
    cfg = small(UPERNET, root, tmp_path)
    assert 'bfloat16' in training.enable_amp(cfg)
    runner, seen = Runner.quietly_from_cfg(cfg), {}

    def record(name: str) -> Callable:
        return lambda module, _, output: seen.setdefault(name, output.dtype) and None  # first in training, then tested
    watched = {'backbone.blocks.0.attn.qkv', 'backbone.blocks.2.mlp.fc1', 'backbone.blocks.3.attn.proj',
               'neck.upsample_4x.0', 'decode_head.fpn_bottleneck.conv', 'decode_head.conv_seg'}
    for name, module in runner.model.named_modules():
        if name in watched:
            module.register_forward_hook(record(name))
    losses = []
    runner.model.decode_head.loss_decode.register_forward_hook(lambda *args: losses.append(args[-1].dtype))
    runner.train()
    assert seen == dict.fromkeys(watched, torch.bfloat16)
    assert losses == [torch.float32]
    assert {value.dtype for value in runner.model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_deformable_attention_runs_without_compiled_ops(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The pixel decoder of Mask2Former uses mmcv's implementation in PyTorch."""
    from mmcv.ops import multi_scale_deform_attn
    calls, sample = [], multi_scale_deform_attn.multi_scale_deformable_attn_pytorch

    def counted(*args: Tensor) -> Tensor:
        calls.append(args[0].shape)
        return sample(*args)
    monkeypatch.setattr(multi_scale_deform_attn, 'multi_scale_deformable_attn_pytorch', counted)
    runner = Runner.quietly_from_cfg(small('mask2former_vitdet-b_160k_ade20k-512x512', root, tmp_path))
    out = runner.model.decode_head.pixel_decoder([torch.randn(1, 32, SIDE // s, SIDE // s) for s in (4, 8, 16, 32)])
    assert out[0].shape == (1, 32, SIDE // 4, SIDE // 4)
    assert len(calls) == 2  # layers of the shrunk encoder


# ---- the constants of the sources

WIDTHS = {'b': 768, 'l': 1024, 'h': 1280}
DEPTHS = {'b': 12, 'l': 24, 'h': 32}
ARCHS = {'b': 'base', 'l': 'large', 'h': 'huge'}
TAPS = {'b': [3, 5, 7, 11], 'l': [7, 11, 15, 23], 'h': [10, 15, 20, 31]}  # mmseg's MAE-B and BEiT-L; ours
GLOBAL = {'b': [2, 5, 8, 11], 'l': [5, 11, 17, 23], 'h': [7, 15, 23, 31]}  # detectron2 projects/ViTDet


def sizes(size: str, px: int, stride: int, iterations: int, scale: tuple[int, int]) -> dict:
    return {'model.backbone.arch': ARCHS[size], 'model.backbone.image_size': px, 'model.backbone.patch_size': 16,
            'model.data_preprocessor.size': (px, px), 'model.data_preprocessor.test_cfg.size': (px, px),
            'model.test_cfg': {'mode': 'slide', 'crop_size': (px, px), 'stride': (stride, stride)},
            'train_dataloader.dataset.pipeline.2.scale': scale, 'val_dataloader.dataset.pipeline.1.scale': scale,
            'train_dataloader.dataset.pipeline.3.crop_size': (px, px), 'train_cfg.max_iters': iterations,
            'param_scheduler.0.start_factor': 1e-6, 'param_scheduler.0.end': 1500, 'param_scheduler.1.power': 1.0,
            'param_scheduler.1.end': iterations, 'auto_scale_lr.base_batch_size': 16}


def upernet(size: str = 'b', px: int = 512, stride: int = 341, iterations: int = 160_000,
            scale: tuple[int, int] = (2048, 512), **more: object) -> dict:
    """implus/mae_segmentation and mmseg configs/mae; of L mmseg's configs/beit."""
    width = WIDTHS[size]
    return sizes(size, px, stride, iterations, scale) | {
        'model.backbone.out_indices': TAPS[size], 'model.backbone.relative_bias': 'block',
        'model.backbone.drop_path_rate': {'b': 0.1, 'l': 0.2, 'h': 0.3}[size], 'model.neck.embed_dim': width,
        'model.neck.rescales': [4, 2, 1, 0.5], 'model.decode_head.in_channels': [width] * 4,
        'model.decode_head.channels': width, 'model.auxiliary_head.in_channels': width,
        'model.auxiliary_head.loss_decode.loss_weight': 0.4, 'optim_wrapper.optimizer.weight_decay': 0.05,
        'optim_wrapper.optimizer.lr': 1e-4 if size == 'b' else 2e-5,
        'optim_wrapper.paramwise_cfg.layer_decay': 0.65 if size == 'b' else 0.95} | more


def simple_pyramid(size: str = 'b', px: int = 512, stride: int = 341, scale: tuple[int, int] = (2048, 512)) -> dict:
    return sizes(size, px, stride, 160_000, scale) | {
        'model.backbone.out_indices': [-1], 'model.backbone.relative_bias': None, 'model.backbone.class_token': False,
        'model.backbone.relative_positions': True, 'model.backbone.window_size': 14,
        'model.backbone.global_blocks': GLOBAL[size], 'model.neck.in_channels': WIDTHS[size],
        'model.neck.out_channels': 256, 'model.decode_head.in_channels': [256] * 4, 'model.decode_head.channels': 512,
        'optim_wrapper.paramwise_cfg.layer_decay': 0.65 if size == 'b' else 0.95}


def frozen(size: str, head: str) -> dict:
    return sizes(size, 512, 341, 40_000, (2048, 512)) | {
        'model.backbone.frozen_stages': DEPTHS[size], 'model.backbone.final_norm': True,
        'model.backbone.class_token': True, 'model.backbone.drop_path_rate': 0.0, 'model.neck': None,
        'model.auxiliary_head': None, 'model.decode_head.type': head, 'model.decode_head.in_channels': WIDTHS[size],
        'optim_wrapper.optimizer.lr': 1e-3, 'optim_wrapper.optimizer.weight_decay': 1e-3}


DINOV2 = sizes('b', 518, 345, 40_000, (2072, 518)) | {
    'model.backbone.arch': None, 'model.backbone.image_size': None, 'model.backbone.patch_size': None,
    'model.backbone.name': 'vit_base_patch14_reg4_dinov2.lvd142m', 'model.backbone.frozen_stages': 12,
    'model.decode_head.type': 'mae_backbone.LinearHead', 'model.decode_head.in_channels': 768}
RECIPES = {
    'linear_timm-dinov2-b_40k_ade20k-518x518': DINOV2,
    **{f'upernet_vit-{size}_160k_ade20k-512x512': upernet(size) for size in 'blh'},
    **{f'upernet_vit-{size}_160k_ade20k-640x640': upernet(size, 640, 426, scale=(2560, 640)) for size in 'blh'},
    **{f'upernet_vit-b_{k}k_ade20k-512x512': upernet(iterations=k * 1000) for k in (20, 40, 80)},
    **{f'upernet_vitdet-{size}_160k_ade20k-512x512': simple_pyramid(size) for size in 'blh'},
    'upernet_vitdet-b_160k_ade20k-640x640': simple_pyramid('b', 640, 426, scale=(2560, 640)),
    **{f'linear_vit-{size}_40k_ade20k-512x512': frozen(size, 'mae_backbone.LinearHead') for size in 'blh'},
    **{f'fcn_vit-{size}_40k_ade20k-512x512': frozen(size, 'FCNHead') for size in 'blh'},
    'upernet_vit-b_80k_cityscapes-768x768': upernet('b', 768, 512, 80_000, (2049, 1025)) | {
        'model.decode_head.num_classes': 19, 'model.auxiliary_head.num_classes': 19},
    'upernet_vit-b_80k_pascal-context-480x480': upernet('b', 480, 320, 80_000, (520, 520)) | {
        'model.decode_head.num_classes': 59, 'model.auxiliary_head.num_classes': 59},
    'upernet_vit-b_80k_coco-stuff164k-512x512': upernet(iterations=80_000) | {
        'model.decode_head.num_classes': 171, 'model.auxiliary_head.num_classes': 171},
    'upernet_vit-b_20k_folder-512x512': upernet(iterations=20_000),
    # mmseg configs/mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py
    'mask2former_vitdet-b_160k_ade20k-512x512': {
        'model.decode_head.num_queries': 100, 'model.decode_head.transformer_decoder.num_layers': 9,
        'model.decode_head.pixel_decoder.encoder.num_layers': 6, 'model.decode_head.train_cfg.num_points': 12544,
        'model.decode_head.loss_cls.class_weight': [1.0] * 150 + [0.1], 'model.decode_head.loss_mask.loss_weight': 5.0,
        'optim_wrapper.clip_grad.max_norm': 0.01, 'optim_wrapper.optimizer.lr': 1e-4, 'param_scheduler.0.power': 0.9,
        'param_scheduler.0.begin': 0, 'model.neck.strides': (4, 8, 16, 32), 'train_cfg.max_iters': 160_000},
}


def test_every_recipe_is_compared():
    assert {path_of(name) for name in RECIPES} == {*SEGMENTATION}


@pytest.mark.parametrize('name', RECIPES)
def test_constants_equal_the_source(name: str):
    assert_constants(path_of(name), RECIPES[name])


@pytest.mark.parametrize('name', RECIPES)
def test_heads_have_the_classes_of_the_data(name: str):
    from mmseg.registry import DATASETS
    cfg = read(path_of(name))
    dataset = DATASETS.get(cfg.train_dataloader.dataset.type)
    classes = dataset.METAINFO.get('classes')
    assert cfg.model.decode_head.num_classes == (len(classes) if classes else 3)


@pytest.mark.parametrize('iterations', [20_000, 40_000, 80_000])
def test_short_schedules_have_the_same_warmup_and_end_at_zero(iterations: int):
    rates = learning_rates(path_of(f'upernet_vit-b_{iterations // 1000}k_ade20k-512x512'), iterations)
    assert rates[0] == pytest.approx(1e-10)
    assert rates[1500] == pytest.approx(1e-4, rel=1e-3)
    assert rates[(iterations + 1500) // 2] == pytest.approx(0.5e-4, rel=1e-3)
    assert rates[-1] < 1e-8


# ---- parameter groups

@pytest.mark.parametrize(('name', 'decay'), [
    ('upernet_vit-b_160k_ade20k-512x512', 0.65), ('upernet_vit-l_160k_ade20k-512x512', 0.95),
    ('upernet_vit-h_160k_ade20k-640x640', 0.95), ('upernet_vitdet-b_160k_ade20k-512x512', 0.65),
    ('mask2former_vitdet-b_160k_ade20k-512x512', 0.65)])
def test_rates_decay_by_layer_and_vectors_and_positions_have_no_weight_decay(
        name: str, decay: float):
    settings, shapes = settings_of(path_of(name)), dict(model_of(path_of(name)).named_parameters())
    assert settings.keys() == shapes.keys()
    depth = len(model_of(path_of(name)).backbone.blocks)
    for parameter, (scale, weight_decay) in settings.items():
        parts = parameter.split('.')
        layer = depth + 1 if parts[0] != 'backbone' else int(parts[2]) + 1 if parts[1] == 'blocks' else 0
        assert scale == pytest.approx(decay ** (depth + 1 - layer)), parameter
        exempt = shapes[parameter].ndim == 1 or parts[-1] in {
            'pos_embed', 'cls_token', 'relative_position_bias_table', 'rel_pos_h', 'rel_pos_w'} or parts[-2] in {
            'query_embed', 'query_feat', 'level_embed'}
        assert weight_decay == (0.0 if exempt else 0.05), parameter


def test_every_block_has_its_own_rate():
    """mmseg's constructor knows `backbone.layers` and not `backbone.blocks`: it would give all blocks one rate."""
    settings = settings_of(path_of(UPERNET))
    rates_of_blocks = {name.split('.')[2]: scale for name, (scale, _) in settings.items() if '.blocks.' in name}
    assert len({round(scale, 9) for scale in rates_of_blocks.values()}) == 12


@pytest.mark.parametrize('name', [name for name in RECIPES if '_40k_' in name and not name.startswith('upernet')])
def test_probes_train_only_their_head(name: str):
    settings = settings_of(path_of(name))
    assert settings
    assert all(parameter.startswith('decode_head.') for parameter in settings)


def test_frozen_backbone_is_deterministic_in_training_mode(root: Path, tmp_path: Path):
    """No path is dropped, and no gradient is computed."""
    model = Runner.quietly_from_cfg(small('linear_vit-b_40k_ade20k-512x512', root, tmp_path)).model.train()
    images = torch.randn(1, 3, SIDE, SIDE)
    first, second = model.backbone(images)[0], model.backbone(images)[0]
    assert torch.equal(first, second)
    assert not first.requires_grad
