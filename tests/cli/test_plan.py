"""The plan that is printed before a run."""
from helpers.pretraining_runs import runner

from mae_backbone.cli import plan


def test_plan_of_a_pretraining_has_steps_and_memory(tmp_path, capsys):
    run = runner(tmp_path, [], dict(by_epoch=True, max_epochs=3), images=22)
    plan.print_plan(run, ['a line'])
    said = capsys.readouterr().out
    assert 'a line' in said
    assert 'length: 3 epochs x 6 steps = 18 steps, on 22 images' in said
    assert 'GB expected for tensors at the peak of a step' in said


def test_failed_memory_estimate_does_not_stop_the_run(tmp_path, monkeypatch):
    run = runner(tmp_path, [], dict(by_epoch=False, max_iters=3))

    def looks_at_values(*_):
        raise RuntimeError('data-dependent')
    monkeypatch.setattr(run.model.mae, 'draw_mask', looks_at_values)
    assert plan.length_and_memory(run) == [
        'length: 3 steps, on 8 images; the remaining time is measured over the first 20 steps',
        'memory: not estimated, RuntimeError: data-dependent']
