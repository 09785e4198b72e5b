"""Numbers of a config that are out of range are refused by name; the recipes pass."""
import pytest
from helpers.config_files import load
from mmengine.config import Config

from mae_backbone.cli.check_settings import check_settings
from mae_backbone.cli.config import load_config
from mae_backbone.cli.main import _parser

FILES = {'pretraining': 'configs/demo/mae_vit-micro_nuclei.py',
         'detection': 'configs/demo/mask-rcnn_vit-micro_nuclei.py',
         'segmentation': 'configs/demo/upernet_vit-micro_camvid.py',
         'classification': 'configs/demo/vit-micro_finetune_cifar10.py'}
EVERYWHERE = {
    'optim_wrapper.optimizer.lr': [0, 0.0, -1e-3, float('nan'), 'abc', None],
    'optim_wrapper.optimizer.weight_decay': [-1], 'optim_wrapper.optimizer.eps': [-1],
    'optim_wrapper.optimizer.betas': [(1.5, 0.9), (0.9,), 0.9], 'optim_wrapper.accumulative_counts': [0, -1, 1.5],
    'optim_wrapper.dtype': ['float12', 'int8'], 'optim_wrapper.clip_grad': [5, dict(foo=1)], 'sync_bn': ['foo'],
    'optim_wrapper.clip_grad.max_norm': [0, -1], 'optim_wrapper.clip_grad.norm_type': ['abc'],
    'optim_wrapper.paramwise_cfg.layer_decay': [0, 'abc'], 'train_dataloader.batch_size': [0, -3, 2.5, 'abc'],
    'train_dataloader.num_workers': [-1, 'abc', 1.5], 'auto_scale_lr.base_batch_size': [0, 'abc'],
    'train_cfg.val_interval': [0, -1, 1.5], 'train_cfg.val_begin': [-1],
    'train_cfg.max_iters': [0, -1, 1.5], 'default_hooks.logger.interval': [0, -1, 1.5],
    'default_hooks.checkpoint.interval': [0, 'abc'], 'default_hooks.checkpoint.max_keep_ckpts': [0],
    'log_processor.window_size': [0, -2], 'log_level': ['FOO'], 'randomness.seed': [-1, 'abc', 1.5, 10 ** 20],
    'tf32': ['no'], 'find_unused_parameters': ['no'],
    'auto_scale_lr.enable': ['no'], 'env_cfg': [None], 'env_cfg.foo': [1], 'custom_hooks': [5], 'param_scheduler': [5],
    'param_scheduler.0.end': [0, -5], 'param_scheduler.0.start_factor': [0, 2], 'model': [None],
    'model.data_preprocessor.mean': [[1, 2], 'abc', None], 'model.data_preprocessor.std': [[0, 0, 0], [-1, 1, 1]]}
ENCODER = {'arch.width': [0, -8, 'abc'], 'arch.depth': [0, -1, 1.5], 'arch.heads': [0], 'patch_size': [0, -8, 5.5],
           'image_size': [0, -32, 'abc'], 'in_channels': [0], 'drop_path_rate': [2, -1, 1], 'arch.mlp_ratio': [0]}
PARTS = {
    'pretraining': {'decoder_width': [0], 'decoder_heads': [0]},
    'detection': {'roi_head.bbox_head.num_classes': [-1], 'neck.out_channels': [0], 'neck.extra_levels': [-1],
                  'rpn_head.anchor_generator.scales': [[0], [-1]], 'roi_head.mask_head.num_convs': [-1]},
    'segmentation': {'decode_head.num_classes': [-1], 'decode_head.channels': [0], 'decode_head.dropout_ratio': [2]},
    'classification': {'num_classes': [-1, 3.5], 'label_smoothing': [2, -1], 'probe': ['foo']}}
CASES = [(task, key, value) for task in FILES for key, values in EVERYWHERE.items() for value in values]
for _task, _parts in PARTS.items():
    _name = 'encoder' if _task == 'pretraining' else 'backbone'
    CASES += [(_task, f'model.{_name}.{key}', value) for key, values in ENCODER.items() for value in values]
    CASES += [(_task, f'model.{key}', value) for key, values in _parts.items() for value in values]


def refusal(cfg: Config) -> str:
    try:
        check_settings(cfg)
    except ValueError as error:
        return str(error)
    return ''


@pytest.mark.parametrize('task', FILES)
def test_numbers_out_of_range_are_refused_by_name(task: str):
    accepted = []
    for of_task, key, value in CASES:
        if of_task != task:
            continue
        cfg = load(FILES[task])
        cfg.merge_from_dict({key: value})
        message = refusal(cfg)
        if key.rpartition('.')[0] not in message or 'expected' not in message:
            accepted.append((key, value, message))
    assert accepted == []


@pytest.mark.parametrize(('option', 'message'), [
    ('custom_imports.imports=[foo]', 'modules are imported when the config is read'),
    ('launcher=pytorch', 'pass --launcher instead'), ('resume=True', 'pass --resume instead'),
    ('train_dataloader.dataset.data_root=x', 'and --data-root set the same folder'),
    ('work_dir=x', 'and --work-dir set the same folder')])
def test_options_without_effect_are_refused(option: str, message: str):
    args = _parser('train').parse_args(['mask-rcnn_vit-micro_nuclei', '--data-root', 'd', '--work-dir', 'w',
                                        '--cfg-options', option])
    with pytest.raises(ValueError, match=message):
        load_config(args)


@pytest.mark.parametrize('options', [{'model.backbone.patch_size': 16}, {'model.neck.input_stride': 4}])
@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_a_pyramid_for_patches_of_another_size_is_refused(task: str, options: dict):
    cfg = load(FILES[task])
    check_settings(cfg)
    cfg.merge_from_dict(options)
    with pytest.raises(ValueError, match=r'patch_size=\d+ and model\.neck\.input_stride=\d+, expected equal'):
        check_settings(cfg)
