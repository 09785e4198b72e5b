"""Detection recipes: each structure trains and is tested on a tiny set, constants are those of the sources."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.config_files import CONFIGS, assert_constants, learning_rates, load, read, scope, settings_of
from helpers.config_files import DETECTION as BASE
from helpers.shrink import coco_content, shrink, small, write_coco
from helpers.small_sets import write_image
from mmengine import registry
from mmengine.config import Config

from mae_backbone.cli.main import main
from mae_backbone.cli.training import set_batch_and_lr
from mae_backbone.engine.runner import Runner
from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root

DETECTION = [file for file in CONFIGS if file.startswith('configs/detection/')]
# Recipe with a short schedule -> the recipe it otherwise equals.
SHORT = {file: full for file in DETECTION for epochs in (100, 75)
         if (full := re.sub(r'_(25|50)e_coco\.py', f'_{epochs}e_coco.py', file)) != file and full in DETECTION}
# Recipe of ViT-L or ViT-H -> the recipe of ViT-B, which has the same structure.
LARGE = {file: base for file in DETECTION
         if (base := re.sub('vitdet-[lh]_(100|75)e', 'vitdet-b_100e', file)) != file and base in DETECTION}


@pytest.fixture(scope='module')
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Roots of a tiny COCO (False) and a tiny LVIS (True)."""
    roots = {lvis: tmp_path_factory.mktemp('lvis' if lvis else 'coco') for lvis in (False, True)}
    for lvis, root in roots.items():
        write_coco(root, lvis=lvis)
    return roots


# The warnings come from mmdet's FCOS, and from MMEngine, which steps schedulers while gradients are accumulated.
@pytest.mark.filterwarnings('ignore:torch.meshgrid:UserWarning',
                            'ignore:Detected call of `scheduler.step:UserWarning')
@pytest.mark.slow
@pytest.mark.parametrize('file', [file for file in DETECTION if file not in SHORT and file not in LARGE])
def test_shrunk_recipe_trains_and_is_tested(file: str, sets: dict[bool, Path], tmp_path: Path):
    lvis = file.endswith('_lvis.py')
    cfg = shrink(load(file), sets[lvis])
    cfg.work_dir = str(tmp_path)
    runner = Runner.quietly_from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.named_parameters()}
    runner.train()
    unchanged = {name for name, value in runner.model.named_parameters() if torch.equal(value, before[name])}
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values())
    unchanged = {name for name in unchanged if '.residual.' not in name}  # followed by a norm that starts at zero
    assert len(unchanged) < len(before) / 8, sorted(unchanged)
    scalars = runner.message_hub.log_scalars
    assert f'val/{"lvis/bbox_APr" if lvis else "coco/bbox_mAP"}' in scalars
    assert torch.isfinite(torch.tensor(scalars['train/loss'].data[0])).all()


@pytest.mark.parametrize('file', SHORT)
def test_short_schedules_change_nothing_else(file: str):
    short, full = read(file), read(SHORT[file])
    schedule = {'max_iters', 'milestones', 'param_scheduler', 'train_cfg'}
    assert {key for key in short.keys() | full.keys() if short.get(key) != full.get(key)} <= schedule
    assert short.train_cfg == full.train_cfg | {'max_iters': short.max_iters}


@pytest.mark.parametrize('file', LARGE)
def test_large_models_have_the_structure_of_the_base_model(file: str):
    """Only the recipe of ViT-B is trained here: shrunk, the others are the same model."""
    large, base = (small(read(name).model.to_dict()) for name in (file, LARGE[file]))
    for model in (large, base):
        model['backbone'].pop('drop_path_rate')
    assert large == base


# ---- background images

DEMOS = [f'configs/demo/{name}_vit-micro_nuclei.py' for name in ('faster-rcnn', 'mask-rcnn')]
BACKGROUND = [*DEMOS, *(f'configs/detection/{name}.py' for name in (
    'faster-rcnn_vitdet-b_100e_coco', 'mask-rcnn_vitdet-b_100e_coco', 'mask-rcnn_vitdet-b_100e_lvis',
    'mask-rcnn_vit-fpn-b_100e_coco', 'cascade-mask-rcnn_vitdet-b_100e_coco', 'fcos_vitdet-b_25e_coco',
    'dino_vitdet-b_12e_coco'))]


def background_images(cfg: Config) -> list[dict]:
    """Training samples of the images without annotations, several draws of each."""
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
    with scope(cfg):
        dataset = registry.DATASETS.build(cfg.train_dataloader.dataset)
    empty = [i for i in range(len(dataset)) if not dataset.get_data_info(i)['instances']]
    assert empty
    return [dataset.prepare_data(i) for i in empty for _ in range(4)]


@pytest.mark.parametrize('file', [*DETECTION, *DEMOS, 'configs/demo/quickstart_detection.py'])
def test_background_images_are_trained_on_when_asked(file: str, sets: dict[bool, Path]):
    """No transform replaces them with another image."""
    samples = background_images(on_tiny_set(file, sets))
    assert all(sample is not None and len(sample['data_samples'].gt_instances) == 0 for sample in samples)


@pytest.mark.filterwarnings('ignore:torch.meshgrid:UserWarning')
@pytest.mark.parametrize('file', BACKGROUND)
def test_losses_of_background_images_are_finite(file: str, sets: dict[bool, Path]):
    cfg = on_tiny_set(file, sets)
    samples = background_images(cfg)[:2]
    with scope(cfg):
        model = registry.MODELS.build(cfg.model)
    model.init_weights()
    for module in model.modules():
        if hasattr(module, 'image_counts'):  # set by ClassFrequencyHook in a run
            module.image_counts = torch.tensor([1.0, 2.0])
    batch = {key: [sample[key] for sample in samples] for key in ('inputs', 'data_samples')}
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss > 0  # the background is to be learned
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.slow
def test_demo_config_for_boxes_trains_without_masks(tmp_path: Path):
    """The answer to annotations without segmentation, which the config with masks refuses."""
    for split in ('train', 'val'):
        content = coco_content(split)
        for annotation in content['annotations']:
            del annotation['segmentation']
        content['annotations'] = [annotation for annotation in content['annotations'] if not annotation['iscrowd']]
        path = tmp_path / 'data' / 'annotations' / f'instances_{split}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        for image in content['images']:
            write_image(tmp_path / 'data' / split / image['file_name'], (80, 64))
    options = ['--data-root', tmp_path / 'data', '--work-dir', tmp_path / 'run', '--iters', '2', '--cfg-options',
               *(f'{part}_dataloader.{setting}' for part in ('train', 'val')
                 for setting in ('num_workers=0', 'persistent_workers=False'))]
    assert main(['train', 'mask-rcnn_vit-micro_nuclei', *options]) == 2
    assert main(['train', 'faster-rcnn_vit-micro_nuclei', *options]) == 0
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()


def on_tiny_set(file: str, sets: dict[bool, Path]) -> Config:
    """A config with the tiny set in place of its data, shrunk unless it is small."""
    cfg = load(file)
    if '/demo/' not in file:
        return shrink(cfg, sets[file.endswith('_lvis.py')])
    cfg.train_dataloader.dataset.update(
        ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017/'))
    replace_data_root(cfg, str(sets[False]))
    adapt_classes(cfg)
    return cfg


# ---- the constants of the sources

SIZES = {  # detectron2 projects/ViTDet/configs/COCO
    'b': {'backbone.arch': 'base', 'backbone.drop_path_rate': 0.1, 'backbone.global_blocks': [2, 5, 8, 11],
          'neck.in_channels': 768},
    'l': {'backbone.arch': 'large', 'backbone.drop_path_rate': 0.4, 'backbone.global_blocks': [5, 11, 17, 23],
          'neck.in_channels': 1024},
    'h': {'backbone.arch': 'huge', 'backbone.drop_path_rate': 0.5, 'backbone.global_blocks': [7, 15, 23, 31],
          'neck.in_channels': 1280}}
DECAY = {'b': 0.7, 'l': 0.8, 'h': 0.9}
MILESTONES = {  # iterations -> 8/9 and 26/27 of them
    184_375: [163_889, 177_546], 138_281: [122_916, 133_159], 92_187: [81_944, 88_773], 46_093: [40_972, 44_386],
    156_250: [138_889, 150_463]}


def vitdet(size: str, iterations: int, lr: float = 1e-4, **more: object) -> dict:
    """Constants that all sizes share, and those of a size."""
    return {f'model.{key}': value for key, value in SIZES[size].items()} | {
        'model.backbone.window_size': 14, 'model.backbone.relative_positions': True, 'model.backbone.image_size': 1024,
        'model.backbone.patch_size': 16, 'model.data_preprocessor.pad_size_divisor': 1024,
        'optim_wrapper.optimizer.lr': lr, 'optim_wrapper.optimizer.weight_decay': 0.1,
        'optim_wrapper.paramwise_cfg.layer_decay': DECAY[size], 'optim_wrapper.clip_grad': None,
        'auto_scale_lr.base_batch_size': 64, 'train_cfg.max_iters': iterations,
        'param_scheduler.1.milestones': MILESTONES[iterations]} | more


# Crops without objects are trained on: `allow_negative_crop`, and, despite its name, `keep_empty=False`.
LSJ = {'train_dataloader.dataset.pipeline.2.type': 'RandomFlip',
       'train_dataloader.dataset.pipeline.3.ratio_range': (0.1, 2.0),
       'train_dataloader.dataset.pipeline.4.crop_size': (1024, 1024),
       'train_dataloader.dataset.pipeline.4.allow_negative_crop': True,
       'train_dataloader.dataset.pipeline.5.keep_empty': False,
       'val_dataloader.dataset.pipeline.1.scale': (1024, 1024)}
TWO_STAGES = LSJ | {
    'model.rpn_head.num_convs': 2, 'model.rpn_head.loss_bbox.type': 'L1Loss', 'model.train_cfg.rpn.allowed_border': -1,
    'model.train_cfg.rpn_proposal.max_per_img': 1000, 'model.test_cfg.rpn.max_per_img': 1000,
    'model.test_cfg.rcnn.score_thr': 0.05, 'model.test_cfg.rcnn.max_per_img': 100}
FASTER = TWO_STAGES | {'model.type': 'FasterRCNN', 'model.train_cfg.rcnn.assigner.match_low_quality': False}
MASK = FASTER | {'model.type': 'MaskRCNN', 'train_dataloader.dataset.pipeline.4.recompute_bbox': True}
CASCADE = TWO_STAGES | {
    'model.type': 'CascadeRCNN', 'train_dataloader.dataset.pipeline.4.recompute_bbox': True} | {
    f'model.roi_head.bbox_head.{i}.{key}': value for i, deviation in enumerate((10, 20, 30)) for key, value in {
        'type': 'Shared4Conv1FCBBoxHead', 'reg_class_agnostic': True,
        'norm_cfg': {'type': 'mae_backbone.LayerNorm2d', 'eps': 1e-6}, 'loss_bbox.type': 'L1Loss',
        'bbox_coder.target_stds.0': 1 / deviation, 'bbox_coder.target_stds.3': 2 / deviation}.items()} | {
    f'model.train_cfg.rcnn.{i}.assigner.{key}': iou for i, iou in enumerate((0.5, 0.6, 0.7))
    for key in ('pos_iou_thr', 'neg_iou_thr')}
LVIS = {'model.roi_head.mask_head.num_classes': 1203, 'model.test_cfg.rcnn.score_thr': 0.02,
        'model.test_cfg.rcnn.max_per_img': 300, 'train_dataloader.sampler.type': 'mae_backbone.RepeatFactorSampler',
        'train_dataloader.sampler.threshold': 0.001, 'train_dataloader.dataset.type': 'mae_backbone.LVISDataset',
        'custom_hooks.0.type': 'mae_backbone.ClassFrequencyHook'}
FEDERATED = {'num_classes': 1203, 'loss_cls.type': 'mae_backbone.FederatedLoss'}
MASK_LVIS = MASK | LVIS | {f'model.roi_head.bbox_head.{key}': value for key, value in FEDERATED.items()}
CASCADE_LVIS = CASCADE | LVIS | {
    f'model.roi_head.bbox_head.{i}.{key}': value for i in range(3) for key, value in FEDERATED.items()}
HUGE_LVIS = {'model.backbone.drop_path_rate': 0.4}
# Benchmarking Detection Transfer Learning with Vision Transformers; MIMDet configs/benchmarking
MAE_PAPER = {'model.backbone.window_size': 16, 'model.backbone.out_indices': [2, 5, 8, 11],
             'model.neck.1.norm_cfg.type': 'SyncBN', 'model.roi_head.bbox_head.norm_cfg.type': 'SyncBN',
             'optim_wrapper.optimizer.lr': 8e-5, 'optim_wrapper.optimizer.weight_decay': 0.1,
             'optim_wrapper.paramwise_cfg.layer_decay': None, 'param_scheduler.1.type': 'CosineAnnealingLR',
             'model.backbone.drop_path_rate': 0.1}
FPN = {key: value for key, value in vitdet('b', 184_375, **MASK).items() if key != 'model.neck.in_channels'} | {
    'model.neck.0.type': 'mae_backbone.Rescale', 'model.neck.1.type': 'FPN',
    'model.neck.1.in_channels': [192, 384, 768, 768], 'model.neck.1.num_outs': 5}
SIMPLE = {'type': 'mae_backbone.SimpleFeaturePyramid', 'in_channels': 768, 'out_channels': 256}
RECIPES = {
    'faster-rcnn_vitdet-b_100e_coco': vitdet('b', 184_375, **FASTER) | {
        'model.roi_head.mask_head': None, 'val_evaluator.metric': ['bbox']},
    'mask-rcnn_vitdet-b-fpn_100e_coco': FPN | {'model.backbone.out_indices': [2, 5, 8, 11]},
    'mask-rcnn_vitdet-b-fpn-last_100e_coco': FPN | {'model.backbone.out_indices': [-1]},
    'mask-rcnn_vitdet-b-single_100e_coco': vitdet('b', 184_375, **MASK) | {
        'model.neck': SIMPLE | {'strides': [16], 'extra_levels': 0},
        'model.rpn_head.anchor_generator.strides': [16],
        'model.rpn_head.anchor_generator.scales': [2, 4, 8, 16, 32]},
    'mask-rcnn_vitdet-l-windows_100e_coco': vitdet('l', 184_375, **MASK) | {'model.backbone.global_blocks': []},
    'mask-rcnn_vitdet-l-shifted_100e_coco': vitdet('l', 184_375, **MASK) | {
        'model.backbone.global_blocks': [], 'model.backbone.shifted_windows': True},
    'mask-rcnn_vitdet-l-conv_100e_coco': vitdet('l', 184_375, **MASK) | {
        'model.backbone.global_blocks': [], 'model.backbone.conv_blocks': [5, 11, 17, 23]},
    'mask-rcnn_vitdet-l-global_100e_coco': vitdet('l', 184_375, **MASK) | {
        'model.backbone.global_blocks': [], 'model.backbone.window_size': 0},
    'mask-rcnn_vitdet-l_100e_coco': vitdet('l', 184_375, **MASK),
    'mask-rcnn_vitdet-h_75e_coco': vitdet('h', 138_281, **MASK),
    'cascade-mask-rcnn_vitdet-b_100e_coco': vitdet('b', 184_375, **CASCADE),
    'cascade-mask-rcnn_vitdet-l_100e_coco': vitdet('l', 184_375, **CASCADE),
    'cascade-mask-rcnn_vitdet-h_75e_coco': vitdet('h', 138_281, **CASCADE),
    'mask-rcnn_vitdet-b_50e_coco': vitdet('b', 92_187, **MASK),
    'mask-rcnn_vitdet-b_25e_coco': vitdet('b', 46_093, **MASK),
    'mask-rcnn_vitdet-l_50e_coco': vitdet('l', 92_187, **MASK),
    'mask-rcnn_vitdet-l_25e_coco': vitdet('l', 46_093, **MASK),
    'mask-rcnn_vitdet-h_50e_coco': vitdet('h', 92_187, **MASK),
    'mask-rcnn_vitdet-h_25e_coco': vitdet('h', 46_093, **MASK),
    'cascade-mask-rcnn_vitdet-b_50e_coco': vitdet('b', 92_187, **CASCADE),
    'cascade-mask-rcnn_vitdet-b_25e_coco': vitdet('b', 46_093, **CASCADE),
    'mask-rcnn_vitdet-b_100e_lvis': vitdet('b', 156_250, 2e-4, **MASK_LVIS),
    'mask-rcnn_vitdet-l_100e_lvis': vitdet('l', 156_250, 2e-4, **MASK_LVIS),
    'mask-rcnn_vitdet-h_100e_lvis': vitdet('h', 156_250, **MASK_LVIS) | HUGE_LVIS,
    'cascade-mask-rcnn_vitdet-b_100e_lvis': vitdet('b', 156_250, 2e-4, **CASCADE_LVIS),
    'cascade-mask-rcnn_vitdet-l_100e_lvis': vitdet('l', 156_250, 2e-4, **CASCADE_LVIS),
    'cascade-mask-rcnn_vitdet-h_100e_lvis': vitdet('h', 156_250, **CASCADE_LVIS) | HUGE_LVIS,
    'mask-rcnn_vit-fpn-b_100e_coco': MAE_PAPER | {'train_cfg.max_iters': 184_375},
    'mask-rcnn_vit-fpn-b_50e_coco': MAE_PAPER | {'train_cfg.max_iters': 92_187},
    'mask-rcnn_vit-fpn-b_25e_coco': MAE_PAPER | {'train_cfg.max_iters': 46_093},
    'mask-rcnn_vitdet-b_25e_coco-640px': {
        'train_dataloader.batch_size': 4, 'optim_wrapper.accumulative_counts': 4, 'train_cfg.max_iters': 737_500,
        'train_dataloader.dataset.pipeline.4.allow_negative_crop': True,
        'train_dataloader.dataset.pipeline.5.keep_empty': False,
        'model.backbone.checkpointing': True, 'model.data_preprocessor.pad_size_divisor': 640},
    # as mask-rcnn_vitdet-b_25e_coco, with a backbone of timm
    'mask-rcnn_timm-dinov2-b_25e_coco': {
        'model.backbone.name': 'vit_base_patch14_reg4_dinov2.lvd142m', 'model.backbone.patch_size': 16,
        'model.neck': SIMPLE, 'optim_wrapper.paramwise_cfg.no_decay_of_model': True,
        'optim_wrapper.paramwise_cfg.layer_decay': 0.7, 'train_cfg.max_iters': 46_093},
    # mmdet fcos_r50-caffe_fpn_gn-head and dino-4scale_r50_8xb2-12e
    'fcos_vitdet-b_25e_coco': vitdet('b', 46_093, **LSJ) | {
        'model.type': 'FCOS', 'model.neck': SIMPLE | {'strides': (8, 16, 32, 64), 'extra_levels': 1},
        'model.bbox_head.strides': [8, 16, 32, 64, 128], 'model.bbox_head.stacked_convs': 4,
        'model.bbox_head.loss_bbox.type': 'IoULoss', 'model.test_cfg.score_thr': 0.05},
    'dino_vitdet-b_12e_coco': {f'model.{key}': value for key, value in SIZES['b'].items()} | {
        'model.type': 'DINO', 'model.num_queries': 900, 'model.backbone.window_size': 14,
        'model.neck': SIMPLE | {'strides': (8, 16, 32, 64), 'extra_levels': 0},
        'optim_wrapper.optimizer.lr': 1e-4, 'optim_wrapper.optimizer.weight_decay': 1e-4,
        'optim_wrapper.clip_grad': {'max_norm': 0.1, 'norm_type': 2},
        'optim_wrapper.paramwise_cfg.layer_decay': 0.7,
        'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult': 0.1, 'auto_scale_lr.base_batch_size': 16,
        'train_cfg.max_epochs': 12},
}


def test_every_recipe_is_compared():
    assert {f'configs/detection/{name}.py' for name in RECIPES} == {*DETECTION} - {BASE}  # see test_constants.py


@pytest.mark.parametrize('name', RECIPES)
def test_constants_equal_the_source(name: str):
    assert_constants(f'configs/detection/{name}.py', RECIPES[name])


@pytest.mark.parametrize(('name', 'iterations'), [
    ('mask-rcnn_vitdet-b_50e_coco', 92_187), ('mask-rcnn_vitdet-b_25e_coco', 46_093),
    ('mask-rcnn_vitdet-h_75e_coco', 138_281), ('mask-rcnn_vitdet-b_100e_lvis', 156_250)])
def test_rate_drops_at_the_same_fractions_of_every_schedule(name: str, iterations: int):
    rates = learning_rates(f'configs/detection/{name}.py', iterations)
    peak = 2e-4 if 'lvis' in name else 1e-4
    assert rates[0] == pytest.approx(peak / 1000)
    assert rates[250] == pytest.approx(peak)
    drops = [i for i in range(300, iterations) if rates[i] < 0.5 * rates[i - 1]]
    assert [step / iterations for step in drops] == pytest.approx([8 / 9, 26 / 27], abs=2e-5)
    assert rates[-1] == pytest.approx(peak / 100)


@pytest.mark.parametrize(('name', 'iterations'), [('mask-rcnn_vit-fpn-b_100e_coco', 184_375),
                                                  ('mask-rcnn_vit-fpn-b_25e_coco', 46_093)])
def test_detector_of_the_mae_paper_matches_the_schedule_of_mimdet(name: str, iterations: int):
    """As in detectron2: a cosine over the whole training, a line to its value at the end of the warm-up."""
    warmup, step = 0.25 * 118_000 / 64, np.arange(2000)
    cosine = 8e-5 / 2 * (1 + np.cos(np.pi * np.maximum(step, warmup) / iterations))
    expected = cosine * np.minimum(1, 0.001 + 0.999 * step / warmup)
    np.testing.assert_allclose(learning_rates(f'configs/detection/{name}.py', 2000), expected, rtol=4e-4)


def test_learning_rate_for_a_small_gpu_is_the_one_on_its_card():
    cfg = load('configs/detection/mask-rcnn_vitdet-b_25e_coco-640px.py')
    cfg.launcher = 'none'
    assert 'effective batch 16' in (line := set_batch_and_lr(cfg))
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2.5e-5), line
    assert cfg.train_cfg.max_iters % cfg.optim_wrapper.accumulative_counts == 0


@pytest.mark.parametrize('name', ['mask-rcnn_vitdet-h_75e_coco', 'cascade-mask-rcnn_vitdet-h_100e_lvis'])
def test_all_parameters_of_vit_h_decay(name: str):
    settings = settings_of(f'configs/detection/{name}.py')
    assert {decay for _, decay in settings.values()} == {0.1}
    assert settings['backbone.pos_embed'][0] == pytest.approx(0.9 ** 33)
    assert settings['backbone.blocks.31.norm1.weight'][0] == pytest.approx(0.9)


@pytest.mark.parametrize('name', ['mask-rcnn_vitdet-l_100e_coco', 'cascade-mask-rcnn_vitdet-l_100e_coco',
                                  'mask-rcnn_vitdet-l-conv_100e_coco', 'mask-rcnn_vitdet-l_100e_lvis'])
def test_norms_and_positions_of_vit_l_do_not_decay(name: str):
    settings = settings_of(f'configs/detection/{name}.py')
    exempt = {parameter for parameter, (_, decay) in settings.items() if decay == 0}
    norms = {f'backbone.blocks.{i}.norm{k}.{kind}' for i in range(24) for k in (1, 2) for kind in ('weight', 'bias')}
    assert exempt == norms | {'backbone.pos_embed'}
    assert settings['backbone.blocks.0.attn.qkv.weight'][0] == pytest.approx(0.8 ** 24)
    if 'conv' in name:
        assert settings['backbone.blocks.5.residual.norm3.weight'] == (1.0, 0.1)  # as in detectron2
