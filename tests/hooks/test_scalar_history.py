"""Scalars measured at intervals keep their iterations and reach all visualizers."""
import json
from pathlib import Path

import numpy as np
from helpers.pretraining_runs import runner
from mmengine.logging import MessageHub

from mae_backbone.hooks.scalar_history import history, record, recorded_names, step_history


def test_recorded_scalars_keep_iterations_and_reach_the_visualizer(tmp_path: Path):
    run = runner(tmp_path, [], dict(by_epoch=False, max_iters=1))
    record(run, {'rank': 3.0, 'knn/mean': 50.0}, at=10)
    record(run, {'rank': 4.5}, at=20)
    assert recorded_names(run.message_hub) == ['rank', 'knn/mean']
    at, values = history(run.message_hub, 'rank')
    assert (at.tolist(), values.tolist()) == ([10, 20], [3.0, 4.5])
    assert [len(array) for array in history(run.message_hub, 'spread')] == [0, 0]
    written = [json.loads(line) for line in next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert written == [{'rank': 3.0, 'knn/mean': 50.0, 'step': 10}, {'rank': 4.5, 'step': 20}]


def test_step_history_ends_at_the_last_iteration():
    hub = MessageHub.get_instance('curves')
    for value in (0.5, 0.25, 0.125):
        hub.update_scalar('train/loss', value)
    at, values = step_history(hub, 'loss', last=10)
    assert (at.tolist(), values.tolist()) == ([8, 9, 10], [0.5, 0.25, 0.125])
    assert not np.concatenate(step_history(hub, 'grad_norm', last=10)).size


def test_gradient_norms_of_accumulated_steps_are_at_the_iterations_of_the_steps():
    hub = MessageHub.get_instance('accumulated')
    for iteration in range(1, 14):
        hub.update_scalar('train/lr', 0.1)
        if iteration % 4 == 0 or iteration == 13:  # the last iteration always ends a step
            hub.update_scalar('train/grad_norm', float(iteration))
    at, values = step_history(hub, 'grad_norm', last=13)
    assert abs(at - values).max() <= 2
    assert at[-1] == 13
