"""Pretraining runs of a few milliseconds a step, and a driver that forks them, so that many can be started and killed.

`helpers.driven_runs` runs the driver in a forked copy of a process that has imported everything. What the driver forks
starts to train within a tenth of a second.
"""
import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yapf.yapflib.yapf_api
from helpers.shrink import shrink, write_coco, write_label_maps
from mmengine.config import Config
from PIL import Image

from mae_backbone.checkpoints.run_files import read_run, resume_path
from mae_backbone.cli.errors import run_cli
from mae_backbone.engine.runner import Runner

torch.set_num_threads(1)

CONFIGS = Path(__file__).parents[2] / 'configs'
SHRUNK = {'detection': 'detection/mask-rcnn_vitdet-b_100e_coco.py',
          'segmentation': 'segmentation/upernet_vit-b_160k_ade20k-512x512.py'}


def write_images(folder: Path, count: int = 23) -> Path:
    """Small color images with a smooth pattern of their own each."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(chance.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        coarse.resize((40, 30), Image.Resampling.BICUBIC).save(folder / f'{index:03}.png')
    return folder


def micro_config(work_dir: Path, images: Path, *, batch_size: int = 4, iterations: int = 40, workers: int = 0,
                 accumulate: int = 1, save_every: int = 3, launcher: str = 'none', **more: dict) -> Config:
    """A MAE of 16 channels on `images`: crops, flips, masks, dropped paths, a schedule, the hooks of a real run."""
    cfg = Config(dict(
        model=dict(type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2,
                   encoder=dict(arch=dict(width=16, depth=2, heads=2), image_size=16, patch_size=4, drop_path_rate=0.1),
                   data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=[127.5] * 3, std=[70.0] * 3)),
        train_dataloader=dict(
            dataset=dict(type='mae_backbone.UnlabeledImages', data_root=str(images), image_size=16),
            sampler=dict(type='mae_backbone.PretrainSampler'), batch_size=batch_size, num_workers=workers,
            batch_sampler=dict(type='mae_backbone.PretrainBatchSampler'), collate_fn=dict(type='mae_backbone.as_is'),
            persistent_workers=workers > 0),
        train_cfg=dict(type='mae_backbone.PretrainLoop', max_iters=iterations),
        optim_wrapper=dict(type='mae_backbone.GuardedOptimWrapper', accumulative_counts=accumulate,
                           optimizer=dict(type='AdamW', lr=1e-2, betas=(0.9, 0.95), weight_decay=0.05),
                           constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0)),
        param_scheduler=[dict(type='LinearLR', start_factor=0.01, begin=0, end=5, by_epoch=False),
                         dict(type='CosineAnnealingLR', begin=5, end=iterations, T_max=iterations, by_epoch=False)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=save_every,
                                           max_keep_ckpts=2),
                           logger=dict(type='LoggerHook', interval=7),
                           device_log=dict(type='mae_backbone.DeviceLogHook'),
                           guard=dict(type='mae_backbone.GuardHook', interval=5),
                           reconstructions=dict(type='mae_backbone.ReconstructionHook', interval=15, by_epoch=False,
                                                images=2),
                           preemption=dict(type='mae_backbone.PreemptionHook')),
        env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(timeout=60)),
        randomness=dict(seed=3, diff_rank_seed=True), work_dir=str(work_dir), launcher=launcher,
        experiment_name=f'micro-{os.getpid()}-{time.monotonic_ns()}'))
    cfg.merge_from_dict(more)
    return cfg


def write_data(task: str, folder: Path) -> Path:
    """The data of `run_config` for a task."""
    if task == 'pretraining':
        return write_images(folder)
    if task == 'detection':
        write_coco(folder)
    elif task == 'segmentation':
        write_label_maps(folder)
    else:
        for index, path in enumerate(('train/cat', 'train/dog', 'val/cat', 'val/dog')):
            write_images(folder / path, 5 + index)
    return folder


def run_config(task: str, work_dir: Path, data: Path, *, iterations: int = 40, workers: int = 0, accumulate: int = 1,
               save_every: int = 3, **more: Any) -> Config:
    """A run of `task`: 'pretraining', 'detection', 'segmentation' or 'classification', with the hooks of a real one."""
    options = dict(iterations=iterations, workers=workers, accumulate=accumulate, save_every=save_every)
    if task == 'pretraining':
        return micro_config(work_dir, data, **options, **more)
    pretraining = micro_config(work_dir, data, **options)
    if task == 'classification':
        cfg = Config(dict(
            model=dict(type='mae_backbone.ViTClassifier', num_classes=2, data_preprocessor=dict(
                type='mae_backbone.PixelPreprocessor', mean=[127.5] * 3, std=[70.0] * 3), backbone=dict(
                arch=dict(width=16, depth=2, heads=2), image_size=16, patch_size=4,
                drop_path_rate=0.1)),
            train_dataloader=dict(batch_size=3, drop_last=True, sampler=dict(type='DefaultSampler', shuffle=True),
                                  dataset=dict(type='mae_backbone.ClassFolder', data_root=str(data), split='train',
                                               image_size=16, train=True)),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=-(-iterations // 3))))
    else:
        cfg = shrink(Config.fromfile(CONFIGS / SHRUNK[task]), data)
        cfg.train_cfg.update(max_iters=iterations, val_interval=20)
        cfg.param_scheduler = pretraining.param_scheduler
    cfg.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
    cfg.optim_wrapper = dict(type='OptimWrapper', accumulative_counts=accumulate, clip_grad=dict(max_norm=1.0),
                             optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
    cfg.default_hooks = dict(checkpoint=pretraining.default_hooks.checkpoint,
                             logger=dict(type='LoggerHook', interval=7))
    cfg.vis_backends, cfg.visualizer = [], None
    cfg.merge_from_dict(dict(env_cfg=pretraining.env_cfg, randomness=dict(seed=3), work_dir=str(work_dir),
                             experiment_name=pretraining.experiment_name, **more))
    return cfg


def train(cfg: Config, *, resume: str | None = 'auto') -> Runner:
    """What tools/pretrain.py does with --resume."""
    cfg.load_from = resume_path(resume, cfg.work_dir)
    cfg.resume = cfg.load_from is not None
    runner = Runner.quietly_from_cfg(cfg)
    runner.train()
    return runner


def losses(runner: Runner) -> list[float]:
    return runner.message_hub.get_scalar('train/loss').data[0].tolist()


def saved_losses(work_dir: Path) -> list[float]:
    """Those in the last checkpoint of a run."""
    return read_run(resume_path('auto', work_dir))['message_hub']['log_scalars']['train/loss'].data[0].tolist()


def unformatted(text: str, **_: object) -> tuple[str, bool]:
    """Takes the place of yapf, which takes longer to set a config nicely than a short run does to train."""
    return text, True


def warm_up(cfg: Config) -> None:
    """Imports what a run imports, without a thread, which a fork would lose."""
    yapf.yapflib.yapf_api.FormatCode = unformatted
    runner = Runner.quietly_from_cfg(cfg)
    runner.build_train_loop(runner._train_loop)
    runner.build_optim_wrapper(runner.optim_wrapper)


def fork(cfg: Config, log: Path, *, group: bool = False, explained: bool = False) -> int:
    """Starts a run in a copy of this process and returns its id. Its losses go to `log`.json.

    With `group` it gets a process group of its own; with `explained` an error is one message, as of a command.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # The pool of threads does not survive a fork. Made again by the first thread that needs it, without a lock, it
        # is sometimes missing for a second one of autograd, which then aborts.
        torch.set_num_threads(1)
        if group:
            os.setpgid(0, 0)
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        try:
            if explained:
                code = run_cli(lambda: train(cfg))
            else:
                Path(f'{log}.json').write_text(json.dumps(losses(train(cfg))))
                code = 0
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush()
    finally:
        os._exit(code)


def finish(pid: int) -> int:
    """Exit code of a forked run, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


def fork_ranks(world: int, work_dir: Path, images: Path, **options) -> list[int]:
    """Starts `world` processes of one run, as torchrun would; their logs end in .0, .1 and so on."""
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()), WORLD_SIZE=str(world))
    pids = []
    for rank in range(world):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        cfg = micro_config(work_dir, images, launcher='pytorch' if world > 1 else 'none', **options)
        pids.append(fork(cfg, work_dir.with_suffix(f'.{rank}')))
    return pids


def ranks(folder: Path, runs: list[dict]) -> list[dict]:
    """One run after the other, each of `world` processes with the same 12 images a step: exit codes and losses.

    With `until` it stops after so many iterations, and the next run of the same `name` goes on.
    """
    images = write_images(folder / 'images')
    warm_up(micro_config(folder / 'warm', images))
    answers = []
    for run in runs:
        name, world, options = run['name'], run['world'], run.get('options', {})
        if 'until' in run:
            options = options | {'train_cfg.max_iters': run['until']}
        pids = fork_ranks(world, folder / name, images, batch_size=12 // world, **options)
        if 'signal' in run:
            _await_checkpoint(folder / name, 60)
            os.kill(pids[-1], run['signal'])
        began = time.monotonic()
        codes = [finish(pid) for pid in pids]
        if 'signal' not in run and any(codes):
            logs = [(folder / f'{name}.{rank}').read_text()[-1500:] for rank in range(world)]
            raise RuntimeError(f'run {run} ended with {codes}: {logs}')
        answers.append(dict(codes=codes, seconds=round(time.monotonic() - began, 2),
                            losses=saved_losses(folder / name)))
    return answers


def kill(folder: Path, attempts: int, *, task: str = 'pretraining', seed: int = 0, **options) -> dict:
    """Runs killed until `attempts` were, and one that was not.

    Every other one is killed within a second of its start, the rest around a checkpoint. Workers load the data of some.
    A run that comes to its end is followed by another in a new folder.
    """
    images, chance = write_data(task, folder / 'images'), random.Random(seed)
    warm_up(run_config(task, folder / 'warm', images, **options))
    began = time.monotonic()
    whole = finish(fork(run_config(task, folder / 'whole', images, **options), folder / 'whole.log'))
    codes, deaths, runs = [whole], 0, [folder / 'run0']
    while deaths < attempts:
        pid = fork(run_config(task, runs[-1], images, workers=chance.choice([0, 2]), **options), folder / 'killed.log')
        if deaths % 2:
            _await_checkpoint(runs[-1])
        time.sleep(chance.uniform(0.0, 0.1 if deaths % 2 else 1.0))
        os.kill(pid, signal.SIGKILL)
        code = finish(pid)
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f'a run ended with {code}: {_said(folder / "killed.log")[-1500:]}')
        deaths += code == -signal.SIGKILL
        if code != -signal.SIGKILL:
            codes.append(code)
            runs.append(folder / f'run{len(runs)}')
    codes.append(finish(fork(run_config(task, runs[-1], images, **options), folder / 'killed.log')))
    return dict(codes=codes, deaths=deaths, seconds=round(time.monotonic() - began, 1),
                left=sorted({path.name for run in runs for path in run.glob('*.p*') if path.suffix != '.py'}),
                losses=[saved_losses(run) for run in (folder / 'whole', *runs)])


def stop(folder: Path, signals: list[int], *, task: str = 'pretraining', **options) -> dict:
    """A run that gets each of the signals, and goes on after it; the whole group gets it, as from Slurm."""
    images = write_data(task, folder / 'images')
    warm_up(run_config(task, folder / 'warm', images, **options))
    codes, seconds = [], []
    finish(fork(run_config(task, folder / 'whole', images, **options), folder / 'whole.log'))
    for number in signals:
        before = _said(folder / 'stopped.log').count('Epoch(train)')
        cfg = run_config(task, folder / 'stopped', images, workers=2, **options)
        pid = fork(cfg, folder / 'stopped.log', group=True)
        while _said(folder / 'stopped.log').count('Epoch(train)') < before + 2:
            time.sleep(0.01)
        began = time.monotonic()
        os.killpg(pid, number)
        codes.append(finish(pid))
        seconds.append(round(time.monotonic() - began, 2))
    codes.append(finish(fork(run_config(task, folder / 'stopped', images, **options), folder / 'stopped.log')))
    return dict(codes=codes, seconds=seconds, losses=[saved_losses(folder / name) for name in ('whole', 'stopped')])


def _said(log: Path) -> str:
    return log.read_text() if log.exists() else ''


def _await_checkpoint(work_dir: Path, seconds: float = 10.0) -> None:
    before, until = _newest(work_dir), time.monotonic() + seconds
    while _newest(work_dir) == before and time.monotonic() < until:
        time.sleep(0.003)


def _newest(work_dir: Path) -> int:
    return max((int(path.name.split('_')[1].split('.')[0]) for path in work_dir.glob('iter_*')), default=0)


def answer(command: str, folder: str, options: dict) -> dict | list:
    """Runs a command of the driver."""
    return {'kill': kill, 'stop': stop, 'ranks': ranks}[command](Path(folder), **options)
