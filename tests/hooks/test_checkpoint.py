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


def test_checkpoint_after_the_best_validation_waits_for_the_step_of_accumulated_gradients(tmp_path: Path):
    due, saved = [False], []
    wrapper = SimpleNamespace(should_update=lambda: due[0])
    runner = SimpleNamespace(work_dir=str(tmp_path), logger=logging.getLogger(), message_hub=MessageHub('accumulating'),
                             epoch=0, iter=2, max_iters=9, optim_wrapper=wrapper, note_checkpoint=lambda path: None,
                             save_checkpoint=lambda folder, filename, **_: saved.append(filename))
    hook = WholeCheckpointHook(interval=9, by_epoch=False, save_best='top1', rule='greater')
    hook.before_train(runner)
    hook.last_ckpt = 'iter_1.pth'
    hook.after_val_epoch(runner, {'top1': 0.5})
    assert saved == ['best_top1_iter_2.pth']
    due[0] = True
    hook.after_train_iter(runner, 2)
    assert saved == ['best_top1_iter_2.pth', 'iter_3.pth']


def test_unknown_metric_of_the_best_checkpoint_is_refused_with_the_computed_ones(tmp_path: Path):
    runner = SimpleNamespace(work_dir=str(tmp_path), logger=logging.getLogger(), message_hub=MessageHub('misspelled'),
                             epoch=0, iter=2)
    hook = WholeCheckpointHook(interval=1, by_epoch=False, save_best='accuracy/top_1')
    hook.before_train(runner)
    with pytest.raises(ValueError, match=r'accuracy/top_1, but the validation has computed accuracy/top1: set'):
        hook.after_val_epoch(runner, {'accuracy/top1': 50.0})
