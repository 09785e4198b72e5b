"""The plot of a run shows its whole history, also after resuming, and its file is always complete."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.pretraining_runs import runner
from mmengine.logging import HistoryBuffer, MessageHub

from mae_backbone.hooks import training_plot
from mae_backbone.hooks.training_plot import PlotHook, all_panels, thinned, training_picture

HOOKS = [dict(type='mae_backbone.ThroughputHook'), dict(type='mae_backbone.PlotHook')]


def test_run_writes_its_plot(tmp_path: Path):
    runner(tmp_path, HOOKS, dict(by_epoch=True, max_epochs=2)).train()
    picture = cv2.imread(str(tmp_path / 'training.png'))
    assert min(picture.shape[:2]) > 400
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in ('.png', '.part')) == ['training.png']


def test_resumed_run_plots_the_whole_history(tmp_path: Path):
    saving = dict(type='CheckpointHook', interval=1)
    whole = runner(tmp_path / 'whole', HOOKS, dict(by_epoch=True, max_epochs=2), interval=1, checkpoint=saving)
    whole.train()
    resumed = runner(tmp_path / 'resumed', HOOKS, dict(by_epoch=True, max_epochs=2), interval=1,
                     load_from=str(tmp_path / 'whole' / 'epoch_1.pth'), resume=True)
    resumed.train()
    expected, panels = (all_panels(run.message_hub, run.iter) for run in (whole, resumed))
    assert [panel.title for panel in expected if panel.lines] == [panel.title for panel in panels if panel.lines]
    for old, new in zip(expected, panels, strict=True):
        assert [line.iterations.tolist() for line in old.lines] == [line.iterations.tolist() for line in new.lines]
    assert expected[0].lines[0].iterations.tolist() == [1, 2, 3, 4]
    assert expected[0].lines[0].values.tolist()[:2] == panels[0].lines[0].values.tolist()[:2]


def hub(name: str, **scalars: list[float]) -> MessageHub:
    instance = MessageHub.get_instance(name)
    for key, values in scalars.items():
        instance._log_scalars[key.replace('__', '/')] = HistoryBuffer(values, [1] * len(values))
    return instance


def test_only_measured_scalars_are_plotted_and_probes_share_a_panel():
    measured = hub('panels', train__loss=[1.0, 0.5], curve__rank=[3.0], curve_at__rank=[2], curve__knn_mean=[10.0],
                curve_at__knn_mean=[2], curve__linear_mean=[20.0], curve_at__linear_mean=[2])
    panels = {panel.title: [line.label for line in panel.lines] for panel in all_panels(measured, 2) if panel.lines}
    assert panels == {'loss': [''], 'probes: accuracy, %': ['knn_mean', 'linear_mean'],
                      'effective rank of the features (RankMe)': ['']}


@pytest.mark.parametrize('values', [[], [0.5], [float('nan')] * 3, [1.0, float('inf'), 0.5]])
def test_plot_works_for_all_values(values: list[float]):
    scalars = {'train__loss': values, 'train__grad_norm': values} if values else {}
    picture = training_picture(hub(f'values-{len(values)}-{values[:1]}', **scalars), len(values), title='run', epoch=2)
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.ndim == 3


def test_thinning_keeps_mean_and_extremes():
    at, values = np.arange(100_001.0), np.sin(np.arange(100_001.0))
    values[5000], values[7000] = 40.0, float('nan')
    places, low, mean, high = thinned(at, values, 200)
    assert len(places) == len(low) == len(mean) == len(high) == 200
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert high.max() == 40.0
    assert (np.diff(places) > 0).all()
    assert [len(array) for array in thinned(at[:50], values[:50], 200)] == [50] * 4


def test_plotting_takes_at_most_1_percent_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock, drawn = [100.0], []
    monkeypatch.setattr(training_plot.time, 'perf_counter', lambda: clock[0])

    def slow(*_: object, **__: object) -> bytes:
        drawn.append(clock[0])
        clock[0] += 1.0
        return b''
    monkeypatch.setattr(training_plot, 'training_picture', slow)
    run, hook = runner(tmp_path, [], dict(by_epoch=False, max_iters=1)), PlotHook()
    for moment in (100.0, 110.0, 199.0, 200.5):
        clock[0] = max(clock[0], moment)
        hook.draw(run, 1)
    assert drawn == [100.0, 200.5]
    hook.after_train(run)
    assert len(drawn) == 3, 'the last plot is always drawn'


def test_a_short_training_is_plotted_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock, drawn = [100.0], []
    monkeypatch.setattr(training_plot.time, 'perf_counter', lambda: clock[0])
    monkeypatch.setattr(training_plot, 'training_picture', lambda *_, **__: drawn.append(clock[0]) or b'')
    run, hook = runner(tmp_path, [], dict(by_epoch=False, max_iters=1)), PlotHook()
    hook.before_train(run)
    for clock[0] in (100.0, 109.0, 110.5):
        hook.draw(run, 1)
    assert drawn == [110.5]


def test_pyplot_state_is_not_touched():
    import sys
    training_picture(hub('state', train__loss=[1.0]), 1, title='run')
    assert 'matplotlib.pyplot' not in sys.modules or not sys.modules['matplotlib.pyplot'].get_fignums()
