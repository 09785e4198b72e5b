"""Settings that torch and MMEngine refuse end in one message that names them, in every task."""
from pathlib import Path

import pytest
import torch
import yapf.yapflib.yapf_api
from helpers.commands import run_command
from helpers.micro_runs import run_config, unformatted, write_data

from mae_backbone.cli.raw_errors import explain_raw

COMMON = {  # option -> part of the message
    'optim_wrapper.optimizer.type=AdamX': 'AdamX', 'optim_wrapper.optimizer.typ=Adam': 'typ',
    'optim_wrapper.constructor=Foo': 'Foo', 'train_cfg.type=FooLoop': 'FooLoop',
    'train_cfg.foo=1': 'foo', 'train_cfg=None': 'no train_cfg', 'default_hooks.checkpoint.foo=1': 'WholeCheckpointHook',
    'default_hooks.checkpoint.save_best=foo': 'WholeCheckpointHook', 'default_hooks.foo.type=Foo': 'Foo',
    'randomness.foo=1': 'check randomness', 'log_processor.type=Foo': 'Foo', 'visualizer.type=Foo': 'Foo',
    'env_cfg.mp_cfg.mp_start_method=foo': 'expected fork', 'activation_checkpointing=foo': 'activation_checkpointing',
    'model.type=Foo': 'Foo', 'model.foo=1': 'foo', 'model.data_preprocessor.type=Foo': 'Foo',
    'train_dataloader.dataset.type=Foo': 'Foo', 'train_dataloader.dataset.foo=1': 'foo',
    'train_dataloader.sampler.type=Foo': 'Foo', 'train_dataloader.sampler.foo=1': 'foo',
    'train_dataloader.foo=1': 'foo', 'train_dataloader.collate_fn.type=foo': 'check the dataloader',
    'train_dataloader.timeout=5': 'dataloader', 'train_dataloader.dataset=None': 'dataset',
    'load_from=/nonexistent.pth': 'does not exist'}
TASKS = {
    'pretraining': {
        'param_scheduler.9.end=2': '--cfg-options cannot be merged', 'param_scheduler.0.type=FooLR': 'FooLR',
        'param_scheduler.0.foo=2': 'foo',
        'model.encoder.arch.heads=5': 'heads', 'model.encoder.patch_size=7': 'patch_size',
        'model.encoder.image_size=33': 'patch_size', 'model.encoder.arch.width=18': 'width',
        'model.encoder.arch=huge2': 'huge2', 'model.mask_ratio=1.5': 'ratio', 'model.mask_ratio=-1': 'ratio',
        'model.masking.type=Foo': 'Foo', 'model.decoder_heads=3': 'heads',
        'train_dataloader.dataset.image_size=0': 'image_size', 'train_dataloader.dataset.scale=(2,3)': 'scale',
        'train_dataloader.dataset.scale=0.5': 'scale', 'train_dataloader.dataset.reader.type=Foo': 'Foo',
        'train_dataloader.dataset.interpolation=foo': 'interpolation', 'train_dataloader.dataset.indices=0': 'indices',
        'model.encoder.in_channels=4': 'channels', 'train_dataloader.sampler=None': 'sampler',
        'model.data_preprocessor=None': 'MAE'},
    'classification': {
        'model.backbone.arch.heads=5': 'heads', 'model.backbone.patch_size=7': 'patch_size',
        'model.backbone.frozen_stages=100': 'frozen_stages', 'model.num_classes=0': 'num_classes',
        'model.mixup=5': 'mixup', 'train_dataloader.dataset.split=foo': 'foo',
        'train_dataloader.dataset.fraction=2': 'fraction', 'train_dataloader.dataset.augment.foo=1': 'foo',
        'train_dataloader.dataset.augment=5': 'augment', 'model.backbone.init_cfg.type=Foo': 'Foo'}}
LABELED = {  # of detection and segmentation alike
    'model.backbone.init_cfg=foo': 'init_cfg', 'model.backbone.patch_size=7': 'patch_size',
    'model.data_preprocessor.mean=[1,2]': 'number for each channel', 'model.neck.type=Foo': 'Foo',
    'model.neck.foo=1': 'foo', 'train_dataloader.batch_size=foo': 'batch_size',
    'train_dataloader.dataset.data_prefix=5': 'data_prefix', 'train_dataloader.dataset.metainfo=5': 'metainfo',
    'train_dataloader.dataset.metainfo.classes=5': 'classes', 'train_dataloader.dataset.pipeline=5': 'pipeline',
    'train_dataloader.dataset.pipeline.0.type=Foo': 'Foo', 'train_dataloader.dataset.ann_file=5': 'ann_file',
    'val_evaluator=None': 'val_evaluator', 'optim_wrapper.optimizer.lr=foo': 'lr'}
TASKS['segmentation'] = LABELED | {
    'model.decode_head.in_index=[0,1]': 'UPerHead', 'model.decode_head.pool_scales=5': 'pool_scales',
    'model.decode_head.foo=1': 'foo', 'model.decode_head.loss_decode.type=Foo': 'Foo',
    'model.decode_head.loss_decode.use_sigmoid=maybe': 'True or False', 'model.neck.rescales=[3,2,1,0.5]': 'rescales',
    'model.backbone.relative_bias=foo': 'relative_bias', 'model.backbone.out_indices=[0,9]': 'out_indices',
    'train_dataloader.dataset.reduce_zero_label=foo': 'True or False',
    'train_dataloader.dataset.seg_map_suffix=.tif': 'seg_map_suffix',
    'train_dataloader.dataset.pipeline.2.scale=(0,0)': 'Resize',
    'train_dataloader.dataset.pipeline.3.crop_size=(0,0)': 'RandomCrop', 'val_evaluator.iou_metrics=[foo]': 'IoUMetric'}
TASKS['detection'] = LABELED | {
    'model.rpn_head.anchor_generator.scales=[]': 'scales', 'model.rpn_head.in_channels=8': 'in_channels',
    'model.roi_head.bbox_head.bbox_coder.target_stds=[0,0,0,0]': 'target_stds', 'model.test_cfg=None': 'test_cfg',
    'model.roi_head.bbox_roi_extractor.roi_layer.type=Foo': 'SingleRoIExtractor',
    'model.train_cfg.rcnn.assigner.type=Foo': 'Foo', 'model.backbone.global_blocks=[9]': 'global_blocks',
    'train_dataloader.dataset.ann_file=nowhere.json': 'nowhere.json', 'val_evaluator.metric=foo': 'metric',
    'train_dataloader.dataset.filter_cfg=5': 'filter_cfg',
    'train_dataloader.dataset.filter_cfg.min_size=foo': 'min_size',
    'model.roi_head.mask_head.num_classes=5': 'after reading the classes of the data',
    'train_dataloader.dataset.metainfo.classes=[foo]': 'after reading the classes of the data'}
CASES = [(task, option, message) for task, own in TASKS.items()
         for option, message in (own if own.keys() >= LABELED.keys() else COMMON | own).items()]


@pytest.fixture(scope='module')
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A config of each task that trains two steps in a tenth of a second."""
    files = {}
    for task in TASKS:
        root = tmp_path_factory.mktemp(task)
        cfg = run_config(task, root / 'work', write_data(task, root / 'data'), iterations=8)
        cfg.train_cfg.update({'max_epochs': 1} if 'max_epochs' in cfg.train_cfg else {'max_iters': 2})
        if 'val_interval' in cfg.train_cfg:
            cfg.train_cfg.val_interval = 2
        cfg.pop('work_dir')
        files[task] = root / 'config.py'
        cfg.dump(files[task])
    return files


@pytest.fixture(autouse=True)
def _quick_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yapf.yapflib.yapf_api, 'FormatCode', unformatted)


@pytest.mark.parametrize('task', TASKS)
def test_every_wrong_setting_ends_in_one_message_that_names_it(task: str, configs: dict[str, Path], tmp_path: Path):
    command, poor = {'pretraining': 'pretrain'}.get(task, 'train'), []
    for of_task, option, message in CASES:
        if of_task != task:
            continue
        try:
            printed = run_command(command, configs[task], '--work-dir', tmp_path / 'work', '--cfg-options', option,
                                  code=2)
        except AssertionError as error:  # another exit code
            poor.append((option, str(error)[-300:]))
            continue
        error = printed[printed.index('error: '):]
        if 'Traceback' in printed or message not in error or error.strip().count('\n'):
            poor.append((option, error))
    assert poor == [], '\n'.join(map(str, poor))


def test_options_that_work_are_not_refused(configs: dict[str, Path], tmp_path: Path):
    for option in ('train_dataloader.batch_size=1', 'train_dataloader.persistent_workers=True', 'param_scheduler=None',
                   'default_hooks.timer=None', 'custom_hooks=None', 'visualizer=None'):
        folder = tmp_path / option.split('=')[0]
        run_command('train', configs['classification'], '--work-dir', folder, '--cfg-options', option,
                    'train_dataloader.num_workers=0')
        assert (folder / 'last_checkpoint').is_file(), option


@pytest.mark.parametrize(('text', 'advice'), [
    ('Expected more than 1 value per channel when training, got input size [1, 8, 1, 1]', 'batch_size to 2 or more'),
    ('mat1 and mat2 shapes cannot be multiplied (2x8 and 7x3)', 'compare in_channels, out_channels'),
    ('Target 7 is out of bounds.', 'compare num_classes with the classes'),
    ('Given input size: (128x2x3). Calculated output size: (128x0x0). Output size is too small', 'input is too small'),
    ('Calculated padded input size per channel: (1 x 1). Kernel size: (3 x 3)', 'input is too small for the model')])
def test_messages_of_torch_get_advice(text: str, advice: str):
    class Part(torch.nn.Module):
        def forward(self) -> None:
            raise RuntimeError(text)

    class Whole(torch.nn.Module):
        def train_step(self) -> None:
            Part()()
    with pytest.raises(RuntimeError) as error:
        Whole().train_step()
    message = explain_raw(error.value)
    assert message.startswith('Part, a part of the model, fails in forward')
    assert advice in message


def test_errors_of_unknown_origin_and_of_the_device_are_defects():
    with pytest.raises(ZeroDivisionError) as error:
        1 / 0  # noqa: B018
    assert explain_raw(error.value) is None
    assert explain_raw(RuntimeError('CUDA error: an illegal memory access was encountered')) is None
