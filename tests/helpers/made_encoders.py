"""A suite that makes its encoders: a MAE and its continuation, of a few steps on class folders."""
from pathlib import Path

from helpers.class_folders import write_classes

from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.run import select_encoders
from mae_backbone.transfer.suite import load_suite

_ARCH = {'width': 16, 'depth': 1, 'heads': 2}
_LOADER = {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False,
           'train_dataloader.batch_size': 4, 'train_dataloader.dataset.image_size': 16}
PRETRAIN = {**_LOADER, **{f'model.encoder.arch.{key}': value for key, value in _ARCH.items()},
            'model.encoder.image_size': 16, 'model.decoder_width': 8, 'model.decoder_depth': 1,
            'model.decoder_heads': 2, 'default_hooks.health': None, 'custom_hooks': []}
TRAIN = {**_LOADER, **{f'model.backbone.arch.{key}': value for key, value in _ARCH.items()},
         'model.backbone.image_size': 16, 'val_dataloader.num_workers': 0, 'val_dataloader.persistent_workers': False,
         'val_dataloader.dataset.image_size': 16}
MADE_SUITE = f'''
title = 'Made'
data = dict(one='one', two='two')
seeds = [0, 1]
against = ['random']
tasks = dict(
    knn=dict(probe='knn', data=['one', 'two'], options=dict(k=2), seeds=[0]),
    tune=dict(config='demo/vit-micro_finetune-iters_cifar10.py', data=['two'], length=4,
              options={{**{TRAIN!r}, 'default_hooks.checkpoint.interval': 2}}))
one = dict(pretrain='demo/mae_vit-micro_cifar10.py', data='one', folder='train', length=2, options={PRETRAIN!r})
two = dict(one, data='two')
encoders = dict(
    mae=dict(one=one, two=dict(two, line='mae')),
    continued=dict(two, start='mae/one', on=['two']),
    twice=dict(two, length=4, line='mae', on=dict(labels=[1.0])))
del one, two
'''


def made_experiment(folder: Path, text: str = MADE_SUITE, *, checkpoints: tuple[str, ...] = (),
                    length: float = 1.0, **only: list) -> Experiment:
    """An experiment with the suite in `folder`, on the data of which it may be the first user."""
    (folder / 'suite.py').write_text(text)
    for name in ('one', 'two'):
        if not (folder / 'data' / name).exists():
            write_classes(folder / 'data' / name, train=6, val=5)
    suite, encoders = select_encoders(load_suite(str(folder / 'suite.py')).only(**only), checkpoints, None,
                                      folder / 'out')
    return Experiment(suite, tuple(encoders), folder / 'data', folder / 'out', length)
