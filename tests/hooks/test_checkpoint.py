"""Checkpoints of a run that continues in a copy of its folder."""
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from mae_backbone.hooks.checkpoint import WholeCheckpointHook

BEST = {'top1': 'best_top1_iter_1.pth', 'top5': 'best_top5_iter_1.pth'}


@pytest.mark.parametrize('metrics', [['top1'], ['top1', 'top5']])
def test_a_new_best_checkpoint_in_a_copied_folder_leaves_the_original_alone(tmp_path: Path, metrics: list[str]):
    hub = MessageHub(f'copied-{len(metrics)}')
    for folder in ('original', 'copy'):
        (tmp_path / folder).mkdir()
        for metric in metrics:
            (tmp_path / folder / BEST[metric]).write_bytes(b'weights')
    for metric in metrics:  # as the checkpoint of the original states it
        name = '' if len(metrics) == 1 else f'_{metric}'
        hub.update_info(f'best_ckpt{name}', str(tmp_path / 'original' / BEST[metric]))
        hub.update_info(f'best_score{name}', 0.5)
    runner = SimpleNamespace(work_dir=str(tmp_path / 'copy'), logger=logging.getLogger(), message_hub=hub, epoch=0,
                             iter=2, save_checkpoint=lambda folder, filename, **_: Path(folder, filename).touch())
    hook = WholeCheckpointHook(interval=1, by_epoch=False, save_best=metrics, rule='greater')
    hook.before_train(runner)
    hook._save_best_checkpoint(runner, dict.fromkeys(metrics, 0.9))
    assert sorted(file.name for file in (tmp_path / 'original').iterdir()) == sorted(BEST[name] for name in metrics)
    assert {file.name for file in (tmp_path / 'copy').iterdir()}.isdisjoint(BEST.values())
    assert len(list((tmp_path / 'copy').iterdir())) == len(metrics)
