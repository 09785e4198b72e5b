"""Layer decay against the public MAE and ViTDet code (tests/golden/optim.json), mmengine's own rules, and mistakes."""
import json
import logging
import math
from pathlib import Path

import pytest
import timm
import torch
from mmengine.logging import MMLogger
from mmengine.optim import CosineAnnealingLR, DefaultOptimWrapperConstructor, LinearLR, build_optim_wrapper
from mmengine.optim.optimizer.base import BaseOptimWrapper
from timm.layers import LayerNorm2d
from torch import nn

from mae_backbone.engine.layer_decay import layer_id, layer_scales, parameter_table

GOLDEN = json.loads((Path(__file__).parents[1] / 'golden' / 'optim.json').read_text())
MAE_FINE_TUNING = {'layer_decay': 0.65, 'flat_decay_mult': 0.0,
                   'custom_keys': {'pos_embed': {'decay_mult': 0.0}, 'cls_token': {'decay_mult': 0.0}}}
VITDET = {'layer_decay': 0.7, 'norm_decay_mult': 0.0,
          'custom_keys': {'pos_embed': {'decay_mult': 0.0}, 'neck': {}, 'roi_head': {}}}


class ViT(nn.Module):
    """The names of a ViT, with 3 tiny blocks."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.ones(1, 5, 4))
        self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
        self.patch_embed = nn.Sequential(nn.Conv2d(3, 4, 2))
        self.blocks = nn.ModuleList(nn.ModuleDict({'norm1': nn.LayerNorm(4), 'fc1': nn.Linear(4, 4)})
                                    for _ in range(depth))
        self.norm = nn.LayerNorm(4)


class Model(nn.Module):
    """A ViT with a neck and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ViT()
        self.neck = nn.Sequential(nn.Conv2d(4, 4, 1), LayerNorm2d(4))
        self.head = nn.Linear(4, 2)


def build(model: nn.Module, paramwise: dict | None, **optimizer: object) -> BaseOptimWrapper:
    cfg = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 2e-3, 'weight_decay': 0.05} | optimizer,
           'constructor': 'mae_backbone.LayerDecayConstructor', 'paramwise_cfg': paramwise}
    return build_optim_wrapper(model, cfg)


def table(model: nn.Module, paramwise: dict | None, **optimizer: object) -> dict[str, tuple[float, float]]:
    return parameter_table(model, build(model, paramwise, **optimizer))


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'student.encoder.'])
def test_fine_tuning_groups_equal_public_mae(prefix: str):
    with torch.device('meta'):
        model = timm.create_model('vit_base_patch16_224', global_pool='avg')
    outside = {}
    for name in reversed(prefix.split('.')[:-1]):
        parent = nn.Module()
        if not outside:  # our classifier has its norm and its head beside the ViT, timm inside of it
            for part in ('fc_norm', 'head'):
                outside[part] = getattr(model, part)
                setattr(model, part, nn.Identity())
        parent.add_module(name, model)
        model = parent
    for name, part in outside.items():
        model.add_module(name, part)

    optimizer = build(model, MAE_FINE_TUNING)
    found = {name.removeprefix(prefix): setting for name, setting in parameter_table(model, optimizer).items()}
    assert found.keys() == GOLDEN['finetune_vit_b'].keys()
    for name, setting in GOLDEN['finetune_vit_b'].items():
        assert found[name] == pytest.approx(setting, rel=1e-12), name
    assert len(optimizer.optimizer.param_groups) == 14 * 2  # layers, decayed or not


def test_vitdet_lr_scales_equal_detectron2():
    with torch.device('meta'):
        model, backbone = nn.Module(), nn.Module()
        model.backbone, backbone.net = backbone, timm.create_model('vit_base_patch16_224', num_classes=0)
        backbone.net.norm = nn.Identity()
        backbone.net.blocks[3].attn.rel_pos_h = nn.Parameter(torch.zeros(27, 64))
        backbone.simfp_2 = nn.Sequential(nn.ConvTranspose2d(768, 384, 2, bias=False))
        model.roi_heads = nn.ModuleDict({'box_head': nn.ModuleDict({'conv1': nn.Conv2d(256, 256, 3, bias=False)})})
    found = {name: scale for name, (scale, _) in table(model, VITDET).items()}
    # detectron2's rule knows no class token and leaves it at 1; its ViT has none to train, so ours follows MAE's rule.
    assert found.pop('backbone.net.cls_token') == found['backbone.net.pos_embed']
    wanted = {name: scale for name, scale in GOLDEN['vitdet_b_lr_scale'].items() if not name.endswith('cls_token')}
    assert found == pytest.approx(wanted, rel=1e-12)


def test_vitdet_decays_all_but_the_norms_and_positions_of_the_vit():
    model = Model()
    decays = {name: decay for name, (_, decay) in table(model, VITDET, weight_decay=0.1).items()}
    free = {name for name, decay in decays.items() if decay == 0}
    assert free == {'backbone.pos_embed', 'backbone.norm.weight', 'backbone.norm.bias'} | {
        f'backbone.blocks.{i}.norm1.{part}' for i in range(3) for part in ('weight', 'bias')}
    assert {decay for decay in decays.values() if decay} == {0.1}


@pytest.mark.parametrize('paramwise', [
    {'flat_decay_mult': 0.0},
    {'norm_decay_mult': 0.5, 'bias_decay_mult': 0.25, 'bias_lr_mult': 2.0},
    {'custom_keys': {'blocks': {'lr_mult': 0.5}, 'blocks.1': {'decay_mult': 0.0}, 'head': {'lr_mult': 10.0}},
     'norm_decay_mult': 0.0},
])
@pytest.mark.parametrize('decay', [1.0, 0.5])
def test_other_keys_keep_meaning_of_mmengine(paramwise: dict, decay: float):
    model = Model()
    cfg = {'optimizer': {'type': 'AdamW', 'lr': 2e-3, 'weight_decay': 0.05}}
    scales = layer_scales(model, decay)
    optimizer = DefaultOptimWrapperConstructor(cfg, paramwise)(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    wanted = {names[id(group['params'][0])]: (group['lr'] / 2e-3 * scales.get(id(group['params'][0]), 1),
                                             group['weight_decay']) for group in optimizer.optimizer.param_groups}
    found = table(model, {'layer_decay': decay, **paramwise})
    assert found.keys() == wanted.keys()
    for name, setting in wanted.items():
        assert found[name] == pytest.approx(setting, rel=1e-12), name


def test_groups_hold_every_parameter_once_and_no_two_have_equal_settings():
    model = Model()
    groups = build(model, MAE_FINE_TUNING).optimizer.param_groups
    held = [id(parameter) for group in groups for parameter in group['params']]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    settings = [{key: value for key, value in group.items() if key != 'params'} for group in groups]
    assert all(one not in settings[:i] for i, one in enumerate(settings))


def test_custom_keys_apply_to_their_group_only():
    model = Model()
    custom = {'head.weight': {'betas': (0.5, 0.6), 'lr': 1.0}}
    groups = build(model, {'layer_decay': 0.5, 'custom_keys': custom}).optimizer.param_groups
    group, = (group for group in groups if group['betas'] == (0.5, 0.6))
    assert group['params'] == [model.head.weight]
    assert group['lr'] == 1.0
    assert 'lr_mult' not in group


def test_frozen_parameters_are_left_out():
    for paramwise in (None, {'layer_decay': 0.5}):
        model = Model()
        model.backbone.requires_grad_(False)
        model.backbone.blocks[2].requires_grad_(True)
        names = table(model, paramwise)
        assert names.keys() == {name for name, p in model.named_parameters() if p.requires_grad}


def test_a_data_parallel_wrapper_changes_nothing_but_the_names():
    wrapper = nn.Module()
    wrapper.module = Model()
    wrapped = table(wrapper, MAE_FINE_TUNING)
    assert {name.removeprefix('module.'): setting for name, setting in wrapped.items()} == table(
        wrapper.module, MAE_FINE_TUNING)


def test_the_table_shows_initial_rates_while_a_schedule_runs():
    model = Model()
    optimizer = build(model, MAE_FINE_TUNING)
    before = parameter_table(model, optimizer)
    LinearLR(optimizer, start_factor=0.1, end=5)
    assert optimizer.optimizer.param_groups[0]['lr'] < 2e-3 * before['backbone.pos_embed'][0]
    assert parameter_table(model, optimizer) == before


def test_layer_ids():
    ids = {'backbone.pos_embed': 0, 'backbone.cls_token': 0, 'backbone.mask_token': 0,
           'backbone.patch_embed.proj.bias': 0, 'backbone.blocks.0.norm1.weight': 1,
           'backbone.blocks.11.attn.rel_pos_h': 12, 'backbone.blocks.2.residual.conv1.weight': 13,
           'backbone.norm.weight': 13, 'backbone.head.bias': 13, 'neck.blocks.0.weight': 13, 'pos_embed': 13}
    assert {name: layer_id(name, depth=12, prefix='backbone.') for name in ids} == ids
    assert layer_id('blocks.4.mlp.fc1.bias', depth=12, prefix='') == 5


@pytest.mark.parametrize('name', ['backbone.layers.0.weight', 'backbone.blocks.12.norm1.bias', 'backbone.blocks.x.y',
                                  'backbone.rel_pos_mlp', 'backbone.normal.weight'])
def test_a_parameter_of_the_vit_that_fits_no_rule_is_refused(name: str):
    with pytest.raises(ValueError, match=f'{name} is in the ViT'):
        layer_id(name, depth=12, prefix='backbone.')


def test_no_or_several_vits_are_refused():
    with pytest.raises(ValueError, match=r'there are: none\. Leave layer_decay out'):
        build(nn.Linear(2, 2), {'layer_decay': 0.5})
    assert table(nn.Linear(2, 2), {'layer_decay': 1.0}) == {'weight': (1.0, 0.05), 'bias': (1.0, 0.05)}
    pair = nn.ModuleDict({'student': ViT(), 'teacher': ViT()})
    with pytest.raises(ValueError, match="there are: 'student', 'teacher'"):
        build(pair, {'layer_decay': 0.5})


@pytest.mark.parametrize(('paramwise', 'optimizer', 'says'), [
    ({'norm_decay_mul': 0.0}, {}, 'norm_decay_mul, which is not used'),
    ({'layer_decay': 0.0}, {}, r'layer_decay=0.0, expected a number in \(0, 1\]'),
    ({'layer_decay': 1.1}, {}, 'layer_decay=1.1'),
    ({'layer_decay': 0.5}, {'lr': None}, 'the optimizer has no lr'),
    ({'flat_decay_mult': 0.0}, {'weight_decay': None}, 'flat_decay_mult has no weight_decay'),
])
def test_invalid_options_are_refused(paramwise: dict, optimizer: dict, says: str):
    with pytest.raises(ValueError, match=says):
        build(Model(), paramwise, **optimizer)


def test_flat_decay_of_shards_is_refused():
    sharded = nn.ParameterList([torch.ones(7), torch.ones(0)])
    with pytest.raises(ValueError, match='as the shards of FSDP1 are'):
        build(sharded, {'flat_decay_mult': 0.0})


def test_shared_parameter_needs_bypass_duplicate():
    model = Model()
    model.tied = nn.Linear(4, 2, bias=False)
    model.tied.weight = model.head.weight
    with pytest.raises(ValueError, match=r'several modules share head\.weight'):
        build(model, {'layer_decay': 0.5})
    assert table(model, {'layer_decay': 0.5, 'bypass_duplicate': True})['head.weight'] == (1.0, 0.05)


def test_log_has_a_line_per_group_and_unmatched_keys():
    records: list[logging.LogRecord] = []
    logger, handler = MMLogger.get_current_instance(), logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        model = Model()
        model.neck.requires_grad_(False)
        groups = build(model, MAE_FINE_TUNING | {'custom_keys': {'pos_embd': {}}}).optimizer.param_groups
        logger.info('paramwise_options -- of another constructor')
    finally:
        logger.removeHandler(handler)
    summary, missed, other = (record.getMessage() for record in records if record.levelno >= logging.INFO)
    assert len(summary.splitlines()) == 1 + len(groups) + 1
    assert summary.count('lr x ') == len(groups)
    assert 'frozen: 4 tensors, 28 parameters' in summary
    assert '72 parameters, as backbone.pos_embed' in summary
    assert missed == "custom_keys: no parameter has 'pos_embd' in its name"
    assert other.startswith('paramwise_options')


# The schedules of our configs: settings of mmengine's schedulers that give the public code's learning rates.

def public_lr(epoch: float, *, base: float = 2.4e-3, warmup: int = 40, epochs: int = 800, lowest: float = 0.0) -> float:
    """Linear from 0 over `warmup` epochs, then half a cosine down to `lowest` (public MAE code, util/lr_sched.py)."""
    if epoch < warmup:
        return base * epoch / warmup
    return lowest + (base - lowest) * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def rates(schedulers: list, optimizer: torch.optim.Optimizer, steps: int) -> list[list[float]]:
    """The lr of every group at each of the first `steps` iterations."""
    seen = []
    for _ in range(steps):
        seen.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return seen


def sgd(*scales: float, base: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{'params': [torch.zeros(1)], 'lr': base * scale} for scale in scales], lr=base)


def test_the_reference_is_the_public_schedule():
    for epoch, lr in GOLDEN['pretrain_lr_800e']:
        assert public_lr(epoch) == pytest.approx(lr, rel=1e-9, abs=1e-18)


@pytest.mark.parametrize('length', [1, 7])
def test_schedule_in_epochs(length: int):
    """Exact from the end of the warm-up on, and too high by one part in (warm-up iterations - 1) within it."""
    optimizer = sgd(1.0, base=2.4e-3)
    schedulers = [
        LinearLR.build_iter_from_epoch(optimizer, start_factor=1e-9, begin=0, end=40, epoch_length=length),
        CosineAnnealingLR.build_iter_from_epoch(optimizer, T_max=760, begin=40, end=800, eta_min=0.0,
                                                epoch_length=length)]
    warmup = 40 * length
    for step, (lr,) in enumerate(rates(schedulers, optimizer, 800 * length)):
        factor = warmup / (warmup - 1) if step < warmup else 1.0
        assert lr == pytest.approx(factor * public_lr(step / length), rel=1e-6, abs=1e-11), step


@pytest.mark.parametrize('length', [1, 7])
def test_schedule_in_iterations_is_exact(length: int):
    """mmengine's LinearLR arrives one step before its `end`, so `end` is one iteration past the warm-up."""
    optimizer = sgd(1.0, base=2.4e-3)
    warmup, total = 40 * length, 800 * length
    schedulers = [
        LinearLR(optimizer, start_factor=1e-9, by_epoch=False, begin=0, end=warmup + 1),
        CosineAnnealingLR(optimizer, T_max=total - warmup, by_epoch=False, begin=warmup, end=total, eta_min=0.0)]
    for step, (lr,) in enumerate(rates(schedulers, optimizer, total)):
        assert lr == pytest.approx(public_lr(step / length), rel=1e-6, abs=1e-11), step


def test_the_lowest_rate_of_fine_tuning_scales_with_the_layer():
    """The public code scales its min_lr by layer too: `eta_min_ratio`, never `eta_min`, beside layer decay."""
    base, scales = 2e-3, (1.0, 0.65**13)
    optimizer = sgd(*scales, base=base)
    scheduler = CosineAnnealingLR.build_iter_from_epoch(optimizer, T_max=95, begin=5, end=100, epoch_length=3,
                                                        eta_min_ratio=1e-6 / base)
    for step, lrs in enumerate(rates([scheduler], optimizer, 300)):
        if step >= 15:
            wanted = public_lr(step / 3, base=base, warmup=5, epochs=100, lowest=1e-6)
            assert lrs == pytest.approx([wanted * scale for scale in scales], rel=1e-9), step
