"""Every file of configs/: what it names exists, its data, model, optimizer and schedule are those of its source."""
import ast
import inspect
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.classification_recipes import CLASSIFICATION
from helpers.config_files import (
    CONFIGS,
    DETECTION,
    FILES,
    ROOT,
    load,
    look_up,
    model_of,
    optimizer_of,
    rates,
    scope,
    settings_of,
)
from mmengine import registry
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mae_backbone.cli.config import RUN_KEYS, check_keys

GOLDEN = json.loads((Path(__file__).parents[1] / 'golden' / 'optim.json').read_text())  # from the public code

PRETRAIN, FINETUNE = 'configs/pretrain/mae_vit-b_800e_in1k.py', 'configs/classification/vit-b_100e_in1k.py'
LINEAR, KNN = 'configs/classification/vit-b_linear_90e_in1k.py', 'configs/classification/vit-b_knn_in1k.py'
SEGMENTATION = 'configs/segmentation/upernet_vit-b_160k_ade20k-512x512.py'

every_config = pytest.mark.parametrize('file', CONFIGS)












# ---- what stands in the files

@every_config
def test_the_head_is_a_recipe_card(file: str):
    card = ast.get_docstring(ast.parse((ROOT / file).read_text()))
    entries = dict(re.findall(r'^(Run|Data|Expect) +(.+(?:\n .+)*)', card, flags=re.M))
    assert entries.keys() == {'Run', 'Data', 'Expect'}
    commands = re.findall(r'(tools/\w+\.py)\s+(configs/\S+\.py)', entries['Run'])
    assert {config for _, config in commands} == {file}
    assert all((ROOT / tool).is_file() for tool, _ in commands)
    if '/demo/' not in file:
        assert 'Ours: ' in entries['Expect'], 'the card does not say whether we measured it'


def unread(source: str, elsewhere: frozenset[str] = frozenset()) -> set[str]:
    """Names at the top of a config that are no key of a run, and are used neither in it nor `elsewhere`."""
    nodes = list(ast.walk(ast.parse(source)))
    assigned = {target.id for node in ast.parse(source).body if isinstance(node, ast.Assign) for target in node.targets}
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return assigned - used - RUN_KEYS - elsewhere - {'_base_'}


@pytest.mark.parametrize('file', FILES)
def test_every_name_at_the_top_is_read(file: str):
    inherited = {name for other in FILES for name in re.findall(r'\b_base_\.(\w+)', (ROOT / other).read_text())}
    assert not unread((ROOT / file).read_text(), frozenset(inherited))


def test_a_name_that_nothing_reads_is_found():
    assert unread('size = 3\nmodel = dict(size=size)\ndefualt_hooks = dict()\nold = size') == {'defualt_hooks', 'old'}


@every_config
def test_our_tools_take_the_keys(file: str):
    check_keys(load(file), {})


# ---- what the files name

def finder(name: str) -> Callable[[str], object]:
    """Looks a type up as the Runner would, from the scope of the config on."""
    def find(key: str) -> object:
        with getattr(registry, name).switch_scope_and_registry(None) as found:
            return found.get(key)
    return find


def find_op(key: str) -> object:
    """mmdet takes NMS and RoI layers from mmcv, without a registry."""
    from mmcv import ops
    return getattr(ops, key, None)


# Key at the top of a config -> where the `type` below it is looked up, down to a key that has a place of its own.
PLACES = {
    'model': finder('MODELS'), 'train_dataloader': None, 'val_dataloader': None, 'test_dataloader': None,
    'train_cfg': finder('LOOPS'), 'val_cfg': finder('LOOPS'), 'test_cfg': finder('LOOPS'),
    'val_evaluator': finder('METRICS'), 'test_evaluator': finder('METRICS'), 'optim_wrapper': finder('OPTIM_WRAPPERS'),
    'param_scheduler': finder('PARAM_SCHEDULERS'), 'default_hooks': finder('HOOKS'), 'custom_hooks': finder('HOOKS'),
    'visualizer': finder('VISUALIZERS'), 'log_processor': finder('LOG_PROCESSORS'),
}
PLACES_BELOW = {
    'dataset': finder('DATASETS'), 'pipeline': finder('TRANSFORMS'), 'sampler': finder('DATA_SAMPLERS'),
    'batch_sampler': finder('DATA_SAMPLERS'), 'collate_fn': finder('FUNCTIONS'), 'reader': finder('TRANSFORMS'),
    'optimizer': finder('OPTIMIZERS'),
    'constructor': finder('OPTIM_WRAPPER_CONSTRUCTORS'), 'vis_backends': finder('VISBACKENDS'),
}
PLACES_IN_MODEL = {
    'assigner': finder('TASK_UTILS'), 'sampler': finder('TASK_UTILS'), 'bbox_coder': finder('TASK_UTILS'),
    'anchor_generator': finder('TASK_UTILS'), 'init_cfg': finder('WEIGHT_INITIALIZERS'), 'nms': find_op,
    'roi_layer': find_op,
}


def unresolved(value: object, find: Callable | None, places: dict, path: str = '') -> Iterator[str]:
    """Paths of all types in `value` that are not found where they are looked up."""
    if isinstance(value, dict):
        if 'type' in value and find(value['type']) is None:
            yield f'{path}.type = {value["type"]}'
        for key, part in value.items():
            below = places.get(key, find)
            if key == 'constructor' and below(part) is None:
                yield f'{path}.{key} = {part}'
            yield from unresolved(part, below, places, f'{path}.{key}')
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from unresolved(part, find, places, f'{path}.{i}')


def unresolved_types(cfg: Config) -> list[str]:
    with scope(cfg):
        return [line for key in PLACES if key in cfg
                for line in unresolved(cfg[key], PLACES[key], PLACES_IN_MODEL if key == 'model' else PLACES_BELOW, key)]


@every_config
def test_every_type_is_registered_where_it_is_looked_up(file: str):
    assert unresolved_types(load(file)) == []


@every_config
def test_a_run_killed_while_it_saves_finds_an_older_checkpoint(file: str):
    assert load(file).default_hooks.checkpoint.get('max_keep_ckpts', -1) != 1, 'deleted before the next is written'


@every_config
def test_metrics_are_logged_at_their_iteration(file: str):
    cfg = load(file)
    if (cfg.get('train_cfg') or {}).get('type') == 'IterBasedTrainLoop' and cfg.get('val_cfg') is not None:
        assert cfg.default_hooks.logger.get('log_metric_by_epoch') is False, 'all would be logged at epoch 0'


@pytest.mark.parametrize(('file', 'key'), [
    (DETECTION, 'model.roi_head.bbox_head.loss_cls.type'), (DETECTION, 'model.train_cfg.rcnn.sampler.type'),
    (DETECTION, 'model.test_cfg.rcnn.nms.type'), (DETECTION, 'train_dataloader.dataset.pipeline.4.type'),
    (SEGMENTATION, 'model.neck.norm_cfg.type'), (SEGMENTATION, 'val_evaluator.type'),
    (KNN, 'test_cfg.bank.sampler.type'), (FINETUNE, 'optim_wrapper.constructor'),
    (PRETRAIN, 'custom_hooks.0.type'), (PRETRAIN, 'param_scheduler.1.type')])
def test_a_misspelled_type_is_found(file: str, key: str):
    cfg = load(file)
    cfg.merge_from_dict({key: 'Misspelled'})
    assert f'{key} = Misspelled' in unresolved_types(cfg)


@every_config
def test_models_transforms_and_hooks_take_their_arguments(file: str):
    assert sum(p.numel() for p in model_of(file).parameters()) > 0
    cfg = load(file)
    with scope(cfg):
        for transform in pipelines(cfg):
            assert callable(registry.TRANSFORMS.build(transform))
        hooks = [hook for name, hook in cfg.default_hooks.items() if name != 'visualization']  # needs a run
        for hook in [*hooks, *cfg.get('custom_hooks', [])]:
            assert registry.HOOKS.build(hook).priority
        for key in ('train_cfg', 'val_cfg', 'test_cfg'):
            loop = cfg.get(key) or {}
            known = {'by_epoch', *inspect.signature(PLACES[key](loop.type)).parameters} if 'type' in loop else {*loop}
            assert {*loop} - {'type', '_scope_'} <= known  # the latter of configs inherited from mmdet
    loader = {*inspect.signature(DataLoader).parameters}
    assert all({*(cfg.get(f'{stage}_dataloader') or {})} <= loader for stage in ('train', 'val', 'test'))


def pipelines(value: object) -> Iterator[dict]:
    """The transforms of all `pipeline` in a config."""
    if isinstance(value, dict):
        yield from value.get('pipeline', [])
        for part in value.values():
            yield from pipelines(part)


# ---- the constants of the sources

def pretraining(epochs: int, **encoder: object) -> dict:
    """MAE paper, table 8; facebookresearch/mae PRETRAIN.md, main_pretrain.py, models_mae.py, util/lr_sched.py."""
    return {f'model.encoder.{key}': value for key, value in encoder.items()} | {
        'model.type': 'mae_backbone.MAEPretrainer', 'model.masking.type': 'mae_backbone.RandomMasking',
        'model.encoder.image_size': 224, 'model.mask_ratio': 0.75, 'model.norm_pix': True, 'model.decoder_width': 512,
        'model.decoder_depth': 8, 'model.decoder_heads': 16, 'train_dataloader.dataset.scale': (0.2, 1.0),
        'train_dataloader.dataset.interpolation': 'bicubic', 'train_dataloader.dataset.flip': 0.5,
        'train_dataloader.batch_sampler.type': 'mae_backbone.PretrainBatchSampler',
        'train_dataloader.batch_sampler.drop_last': True, 'train_dataloader.batch_sampler.repeats': None,
        'optim_wrapper.type': 'mae_backbone.GuardedOptimWrapper',
        'optim_wrapper.optimizer.type': 'AdamW', 'optim_wrapper.optimizer.lr': 2.4e-3,
        'optim_wrapper.optimizer.betas': (0.9, 0.95), 'optim_wrapper.optimizer.weight_decay': 0.05,
        'optim_wrapper.clip_grad': None, 'auto_scale_lr.base_batch_size': 4096, 'auto_scale_lr.enable': True,
        'randomness.diff_rank_seed': True, 'train_cfg.type': 'mae_backbone.PretrainLoop',
        'train_cfg.max_epochs': epochs}


def fine_tuning(epochs: int, lr: float, layer_decay: float, **backbone: object) -> dict:
    """facebookresearch/mae FINETUNE.md, main_finetune.py, util/datasets.py."""
    return {f'model.backbone.{key}': value for key, value in backbone.items()} | {
        'model.pool': 'mean', 'model.num_classes': 1000, 'model.label_smoothing': 0.1, 'model.random_erasing': 0.25,
        'model.mixup.mixup_alpha': 0.8, 'model.mixup.cutmix_alpha': 1.0, 'model.mixup.switch_prob': 0.5,
        'train_dataloader.dataset.augment.auto_augment': 'rand-m9-mstd0.5-inc1', 'val_dataloader.dataset.augment': None,
        'optim_wrapper.optimizer.type': 'AdamW', 'optim_wrapper.optimizer.lr': lr,
        'optim_wrapper.optimizer.betas': (0.9, 0.999), 'optim_wrapper.optimizer.weight_decay': 0.05,
        'optim_wrapper.paramwise_cfg.layer_decay': layer_decay, 'optim_wrapper.clip_grad': None,
        'auto_scale_lr.base_batch_size': 1024, 'auto_scale_lr.enable': True, 'train_cfg.max_epochs': epochs}


def probing(epochs: int, **backbone: object) -> dict:
    """facebookresearch/mae FINETUNE.md, main_linprobe.py; MAE paper, table 10."""
    return {f'model.backbone.{key}': value for key, value in backbone.items()} | {
        'model.pool': 'class', 'model.probe': True, 'model.mixup': None, 'model.random_erasing': None,
        'train_dataloader.dataset.augment': None, 'optim_wrapper.optimizer.lr': 6.4,
        'auto_scale_lr.base_batch_size': 16384, 'auto_scale_lr.enable': True, 'train_cfg.max_epochs': epochs}


B, L, H = {'arch': 'base', 'patch_size': 16}, {'arch': 'large'}, {'arch': 'huge', 'patch_size': 14}
RECIPES = {
    **{f'configs/pretrain/mae_vit-{size}_{epochs}e_in1k.py': pretraining(epochs, **encoder)
       for size, encoder in {'s': {'arch': 'small', 'patch_size': 16}, 'b': B, 'l': {'patch_size': 16, **L},
                             'h': H}.items() for epochs in (300, 400, 800, 1600)},
    FINETUNE: fine_tuning(100, 2e-3, 0.65, drop_path_rate=0.1, **B),
    'configs/classification/vit-l_50e_in1k.py': fine_tuning(50, 4e-3, 0.75, drop_path_rate=0.2, patch_size=16, **L),
    'configs/classification/vit-h_50e_in1k.py': fine_tuning(50, 4e-3, 0.75, drop_path_rate=0.3, **H),
    LINEAR: probing(90, **B),
    'configs/classification/vit-l_linear_50e_in1k.py': probing(50, patch_size=16, **L),
    'configs/classification/vit-h_linear_50e_in1k.py': probing(50, **H),
    **CLASSIFICATION,
    # DINO (Caron et al., ICCV 2021), section 4.1
    KNN: {'test_cfg.k': (10, 20, 100, 200), 'test_cfg.temperature': 0.07, 'test_cfg.bank.dataset.train': False,
          'test_cfg.bank.dataset.split': 'train', 'test_dataloader.dataset.split': 'val', **{
              f'model.backbone.{key}': value for key, value in B.items()}},
    # detectron2 projects/ViTDet and configs/common/models/mask_rcnn_{fpn,vitdet}.py
    DETECTION: {
        'model.backbone.arch': 'base', 'model.backbone.image_size': 1024, 'model.backbone.pretrain_image_size': 224,
        'model.backbone.patch_size': 16, 'model.backbone.window_size': 14,
        'model.backbone.global_blocks': [2, 5, 8, 11],
        'model.backbone.relative_positions': True, 'model.backbone.drop_path_rate': 0.1,
        'model.data_preprocessor.pad_size_divisor': 1024, 'model.neck.out_channels': 256, 'model.rpn_head.num_convs': 2,
        'model.rpn_head.anchor_generator.strides': [4, 8, 16, 32, 64], 'model.train_cfg.rpn.sampler.num': 256,
        'model.train_cfg.rpn_proposal.nms_pre': 2000, 'model.test_cfg.rpn.nms_pre': 1000,
        'model.train_cfg.rpn_proposal.max_per_img': 1000, 'model.test_cfg.rpn.max_per_img': 1000,
        'model.roi_head.bbox_head.type': 'Shared4Conv1FCBBoxHead', 'model.roi_head.bbox_head.fc_out_channels': 1024,
        'model.roi_head.bbox_head.norm_cfg': {'type': 'mae_backbone.LayerNorm2d', 'eps': 1e-6},
        'model.roi_head.mask_head.norm_cfg': {'type': 'mae_backbone.LayerNorm2d', 'eps': 1e-6},
        'model.roi_head.mask_head.num_convs': 4, 'model.test_cfg.rcnn.score_thr': 0.05,
        'train_dataloader.dataset.pipeline.2.type': 'RandomFlip',  # before the resizing
        'train_dataloader.dataset.pipeline.3.ratio_range': (0.1, 2.0),
        'train_dataloader.dataset.pipeline.4.recompute_bbox': True,
        'val_dataloader.dataset.pipeline.1.scale': (1024, 1024), 'optim_wrapper.optimizer.type': 'AdamW',
        'optim_wrapper.optimizer.lr': 1e-4, 'optim_wrapper.optimizer.betas': (0.9, 0.999),
        'optim_wrapper.optimizer.weight_decay': 0.1, 'optim_wrapper.clip_grad': None,
        'auto_scale_lr.base_batch_size': 64, 'train_cfg.max_iters': 184_375, 'param_scheduler.1.gamma': 0.1},
    # implus/mae_segmentation configs/mae and mmseg configs/mae
    SEGMENTATION: {
        'model.backbone.arch': 'base', 'model.backbone.image_size': 512, 'model.backbone.drop_path_rate': 0.1,
        'model.backbone.out_indices': [3, 5, 7, 11], 'model.backbone.relative_bias': 'block',
        'model.backbone.class_token': True,
        'model.neck.rescales': [4, 2, 1, 0.5], 'model.decode_head.channels': 768,
        'model.decode_head.pool_scales': (1, 2, 3, 6), 'model.auxiliary_head.in_index': 2,
        'model.auxiliary_head.channels': 256, 'model.auxiliary_head.loss_decode.loss_weight': 0.4,
        'model.test_cfg': {'mode': 'slide', 'crop_size': (512, 512), 'stride': (341, 341)},
        'train_dataloader.dataset.pipeline.2.scale': (2048, 512),
        'train_dataloader.dataset.pipeline.2.ratio_range': (0.5, 2.0),
        'train_dataloader.dataset.pipeline.3.crop_size': (512, 512),
        'train_dataloader.dataset.pipeline.3.cat_max_ratio': 0.75, 'optim_wrapper.optimizer.type': 'AdamW',
        'optim_wrapper.optimizer.lr': 1e-4, 'optim_wrapper.optimizer.betas': (0.9, 0.999),
        'optim_wrapper.optimizer.weight_decay': 0.05, 'optim_wrapper.paramwise_cfg.layer_decay': 0.65,
        'auto_scale_lr.base_batch_size': 16, 'train_cfg.max_iters': 160_000, 'param_scheduler.1.power': 1.0},
}


def test_every_recipe_is_compared():
    # Those of the demos are small runs of our own; test_configs_detection.py and test_configs_segmentation.py have the
    # variants of ViTDet and of UPerNet.
    assert {*CONFIGS} - RECIPES.keys() == {file for file in CONFIGS if '/demo/' in file
                                           or ('/detection/' in file and file != DETECTION)
                                           or ('/segmentation/' in file and file != SEGMENTATION)}


@pytest.mark.parametrize('file', RECIPES)
def test_the_constants_are_those_of_the_source(file: str):
    cfg = load(file)
    found = {key: look_up(cfg, key) for key in RECIPES[file]}
    assert found == {key: pytest.approx(value) if isinstance(value, float) else value
                     for key, value in RECIPES[file].items()}




# ---- optimizers



def test_pretraining_decays_all_but_biases_and_norms():
    settings = settings_of(PRETRAIN)
    shapes = dict(model_of(PRETRAIN).named_parameters())
    assert not any('pos_embed' in name for name in settings)  # fixed
    assert {'mae.encoder.cls_token', 'mae.decoder.mask_token'} <= settings.keys()
    assert settings == {name: (1.0, 0.0 if shapes[name].ndim == 1 else 0.05) for name in settings}


def test_fine_tuning_has_the_optimizer_of_the_public_mae():
    found = {name.removeprefix('backbone.'): setting for name, setting in settings_of(FINETUNE).items()}
    assert found.keys() == GOLDEN['finetune_vit_b'].keys()
    for name, setting in GOLDEN['finetune_vit_b'].items():
        assert found[name] == pytest.approx(setting), name


@pytest.mark.parametrize(('file', 'depth'), [('configs/classification/vit-l_50e_in1k.py', 24),
                                             ('configs/classification/vit-h_50e_in1k.py', 32)])
def test_fine_tuning_of_large_ones_scales_from_the_last_layer(file: str, depth: int):
    settings = settings_of(file)
    assert settings['head.weight'] == (1.0, 0.05)
    assert settings[f'backbone.blocks.{depth - 1}.mlp.fc1.weight'] == pytest.approx((0.75, 0.05))
    assert settings['backbone.pos_embed'] == pytest.approx((0.75 ** (depth + 1), 0.0))


def test_vitdet_has_the_optimizer_of_detectron2():
    settings = settings_of(DETECTION)
    for name, (scale, decay) in settings.items():
        there = re.sub(r'rel_pos_[hw]$', 'proj.weight', name.replace('backbone.', 'backbone.net.'))  # of the same block
        assert scale == pytest.approx(GOLDEN['vitdet_b_lr_scale'].get(there, 1.0)), name
        free = re.fullmatch(r'backbone\.(pos_embed|blocks\.\d+\.norm[12]\.(weight|bias))', name)
        assert decay == (0.0 if free else 0.1), name
    assert {'neck.simfp_4.0.norm.weight', 'roi_head.mask_head.convs.0.ln.weight', 'backbone.blocks.2.attn.rel_pos_h',
            'backbone.blocks.2.attn.qkv.bias', 'rpn_head.rpn_conv.1.conv.bias'} <= settings.keys()


def test_a_probe_trains_its_head_alone():
    assert settings_of(LINEAR).keys() == {'head.weight', 'head.bias'}


def test_probing_steps_as_the_public_mae():
    """facebookresearch/mae util/lars.py: matrices step by |w| / |gradient|, vectors by plain SGD; none decays."""
    torch.manual_seed(0)
    head = nn.Linear(5, 3)
    optimizer = optimizer_of(LINEAR, head)
    wanted = [p.detach().double().numpy().copy() for p in head.parameters()]
    momenta = [0.0, 0.0]
    for _ in range(3):
        gradients = [torch.randn_like(p) for p in head.parameters()]
        for p, gradient in zip(head.parameters(), gradients, strict=True):
            p.grad = gradient
        optimizer.step()
        for i, gradient in enumerate(gradient.double().numpy() for gradient in gradients):
            if gradient.ndim > 1:
                gradient = 0.001 * np.linalg.norm(wanted[i]) / np.linalg.norm(gradient) * gradient
            momenta[i] = 0.9 * momenta[i] + gradient
            wanted[i] = wanted[i] - 6.4 * momenta[i]
    for p, value in zip(head.parameters(), wanted, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), value, rtol=1e-5)


# ---- schedules



@pytest.mark.parametrize(('file', 'epochs', 'warmup', 'peak', 'lowest'), [
    *((file, RECIPES[file]['train_cfg.max_epochs'], 40, 2.4e-3, 0) for file in RECIPES if '/pretrain/' in file),
    (FINETUNE, 100, 5, 2e-3, 1e-6), ('configs/classification/vit-l_50e_in1k.py', 50, 5, 4e-3, 1e-6),
    (LINEAR, 90, 10, 6.4, 0), ('configs/classification/vit-l_linear_50e_in1k.py', 50, 10, 6.4, 0)])
def test_schedules_in_epochs(file: str, epochs: int, warmup: int, peak: float, lowest: float):
    """facebookresearch/mae util/lr_sched.py; mmengine is up from the warm-up one iteration earlier."""
    length = 20
    found = rates(file, epochs * length, length)
    place = np.arange(epochs * length) / length
    cosine = lowest + (peak - lowest) / 2 * (1 + np.cos(np.pi * (place - warmup) / (epochs - warmup)))
    wanted = np.where(place < warmup, peak * place / warmup, cosine)
    np.testing.assert_allclose(found, wanted, rtol=1 / (warmup * length - 2), atol=1e-8 * peak)


def test_the_pretraining_schedule_is_that_of_the_public_mae():
    found = rates(PRETRAIN, 500 * 50, epoch_length=50)
    whole = {epoch: lr for epoch, lr in GOLDEN['pretrain_lr_800e'] if epoch * 50 % 1 == 0 and epoch < 500}
    assert len(whole) >= 6
    assert [found[int(epoch * 50)] for epoch in whole] == pytest.approx([*whole.values()], rel=1e-3, abs=1e-11)


def test_the_schedule_of_vitdet_is_that_of_detectron2():
    found = rates(DETECTION, 184_375)
    np.testing.assert_allclose(found[:252], 1e-4 * np.minimum(1, 0.001 + 0.999 * np.arange(252) / 250))
    wanted = {163_888: 1e-4, 163_889: 1e-5, 177_545: 1e-5, 177_546: 1e-6, 184_374: 1e-6}
    assert {step: found[step] for step in wanted} == pytest.approx(wanted)


def test_the_schedule_of_segmentation_is_that_of_mmseg():
    found = rates(SEGMENTATION, 160_000)
    wanted = {0: 1e-10, 750: 0.5e-4, 1500: 1e-4, 80_750: 0.5e-4, 159_999: 0}
    assert {step: found[step] for step in wanted} == pytest.approx(wanted, rel=2e-3, abs=1e-9)


# ---- data

RED = np.full((80, 120, 3), (0, 0, 255), np.uint8)  # as OpenCV stores it: blue first
NORMAL_RED = (255 - 123.675) / 58.395


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders laid out as the cards say, with two red images in each."""
    root = tmp_path_factory.mktemp('world')

    def write(path: str, image: np.ndarray) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(cv2.imencode('.png', image)[1].tobytes())

    for split in ('train', 'val'):
        for name in ('n01440764', 'n01443537'):
            write(f'data/imagenet/{split}/{name}/0.JPEG', RED)
    for split in ('training', 'validation'):
        for i in range(2):
            write(f'data/ade/ADEChallengeData2016/images/{split}/{i}.jpg', RED[:20])  # flatter than any window
            write(f'data/ade/ADEChallengeData2016/annotations/{split}/{i}.png', np.full((20, 120), 7, np.uint8))
    for split in ('train2017', 'val2017'):
        for i in range(2):
            write(f'data/coco/{split}/{i}.jpg', RED)
        boxes = [{'id': i, 'image_id': i, 'category_id': 1, 'iscrowd': 0, 'bbox': [10, 10, 100, 60], 'area': 3000,
                  'segmentation': [[10, 10, 110, 10, 10, 70]]} for i in range(2)]
        images = [{'id': i, 'file_name': f'{i}.jpg', 'width': 120, 'height': 80} for i in range(2)]
        (root / 'data/coco/annotations').mkdir(exist_ok=True)
        (root / f'data/coco/annotations/instances_{split}.json').write_text(json.dumps(
            {'images': images, 'annotations': boxes, 'categories': [{'id': 1, 'name': 'person'}]}))
    return root


def batches(file: str, loader: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """What the model gets of a dataloader, from a folder with the data at its default place."""
    monkeypatch.chdir(world)
    cfg = load(file)
    options = look_up(cfg, loader) | {'batch_size': min(2, look_up(cfg, loader).batch_size), 'num_workers': 0,
                                      'persistent_workers': False}
    with scope(cfg):
        preprocess = registry.MODELS.build(cfg.model.data_preprocessor)
        dataloader = Runner.build_dataloader(options, seed=0)
    for batch in dataloader:
        yield preprocess(batch, loader == 'train_dataloader')


@pytest.mark.parametrize(('file', 'loader', 'shape'), [
    (PRETRAIN, 'train_dataloader', (2, 3, 224, 224)), (FINETUNE, 'val_dataloader', (2, 3, 224, 224)),
    (LINEAR, 'train_dataloader', (2, 3, 224, 224)), (KNN, 'test_cfg.bank', (2, 3, 224, 224)),
    (DETECTION, 'train_dataloader', (2, 3, 1024, 1024)), (DETECTION, 'val_dataloader', (1, 3, 1024, 1024)),
    (SEGMENTATION, 'val_dataloader', (1, 3, 512, 2048))])
def test_red_arrives_normalized_in_the_first_channel(file: str, loader: str, shape: tuple[int, ...], world: Path,
                                                     monkeypatch: pytest.MonkeyPatch):
    images = next(batches(file, loader, world, monkeypatch))['inputs']
    images = torch.stack(images) if isinstance(images, list) else images
    assert images.shape == shape
    red = images[:, 0]
    assert {round(value, 3) for value in red.unique().tolist()} <= {round(NORMAL_RED, 3), 0.0}  # 0 where filled up
    assert red[0, 0, 0] == pytest.approx(NORMAL_RED)
    assert (images[:, 1][red != 0] < -2).all()


@pytest.mark.parametrize(('file', 'shape'), [(FINETUNE, (2, 3, 224, 224)), (SEGMENTATION, (2, 3, 512, 512))])
def test_augmented_batches_are_of_one_size(file: str, shape: tuple[int, ...], world: Path,
                                           monkeypatch: pytest.MonkeyPatch):
    assert next(batches(file, 'train_dataloader', world, monkeypatch))['inputs'].shape == shape


def test_the_first_class_of_ade20k_is_left_out(world: Path, monkeypatch: pytest.MonkeyPatch):
    batch = next(batches(SEGMENTATION, 'train_dataloader', world, monkeypatch))
    labels = batch['data_samples'][0].gt_sem_seg.data
    assert {*labels.unique().tolist()} - {255} == {6}  # 7 in the files; 255 where filled up


def test_boxes_are_those_of_the_masks_after_the_crop(world: Path, monkeypatch: pytest.MonkeyPatch):
    np.random.seed(0)
    seen = 0
    for batch in itertools.islice(batches(DETECTION, 'train_dataloader', world, monkeypatch), 3):
        for sample in batch['data_samples']:
            objects = sample.gt_instances
            assert objects.masks.masks.shape[1:] == (1024, 1024)
            boxes = objects.masks.get_bboxes('hbox')
            torch.testing.assert_close(objects.bboxes, boxes.tensor)
            seen += len(boxes)
    assert seen > 0


def test_detection_is_judged_by_boxes_and_masks(world: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(world)
    cfg = load(DETECTION)
    with scope(cfg):
        assert registry.METRICS.build(cfg.val_evaluator).metrics == ['bbox', 'segm']
