"""Messages that tell a user nothing are dropped by name; everything else is kept."""
import logging
import subprocess
import sys
import warnings

import mmengine.logging
import pycocotools.coco
import pytest

from mae_backbone.compat import quiet_logs

NOISE = ['Could not import OneDL. Skipping OneDL datasets.', 'Exp name: mae_20260101_000000',
         '"FileClient" will be deprecated in future. Please use io functions in https://x',
         '"HardDiskBackend" is the alias of "LocalBackend" and the former will be deprecated in future.',
         'Dataset UnlabeledImages has no metainfo. ``dataset_meta`` in visualizer will be None.']
NEWS = ['Iter(train) [ 50/100]  loss: 0.5', 'Checkpoints will be saved to x', 'weights loaded from x']


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmengine.logging, 'print_log', mmengine.logging.print_log)
    with warnings.catch_warnings():
        quiet_logs.install()


@pytest.mark.parametrize(('message', 'kept'), [*((text, False) for text in NOISE), *((text, True) for text in NEWS)])
def test_known_noise_is_dropped_and_everything_else_kept(message: str, kept: bool, capsys):
    logger = logging.Logger('test')
    assert quiet_logs.keep_record(logger.makeRecord('test', logging.INFO, 'f', 1, message, (), None)) is kept
    mmengine.logging.print_log(message)
    assert capsys.readouterr().out == (message + '\n') * kept


def test_progress_of_pycocotools_is_dropped_and_its_results_kept(capsys):
    pycocotools.coco.COCO().createIndex()
    vars(pycocotools.coco)['print'](' Average Precision  (AP) = 0.500')
    assert capsys.readouterr().out == ' Average Precision  (AP) = 0.500\n'


def test_modules_that_are_imported_later_are_filtered_too():
    code = ('import sys; from mae_backbone.compat import quiet_logs; quiet_logs.install(); '
            'assert not {"mmengine", "pycocotools"} & set(sys.modules); '
            'import pycocotools.coco; pycocotools.coco.COCO().createIndex(); print("end")')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == 'end\n'


def test_imports_in_a_python_program_are_quiet_and_change_nothing():
    code = ('import mmengine.logging; before = mmengine.logging.print_log; import mae_backbone, mmdet.datasets, '
            'mmseg.datasets; assert mmengine.logging.print_log is before')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == ''


def test_a_second_call_wraps_nothing_twice():
    before = mmengine.logging.print_log
    with warnings.catch_warnings():
        quiet_logs.install()
    assert mmengine.logging.print_log is before
