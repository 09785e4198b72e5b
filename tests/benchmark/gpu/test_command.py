"""`benchmark gpu`: every check gets a result, whatever happens to it, and all end in time."""
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mae_backbone.benchmark.gpu import command
from mae_backbone.benchmark.gpu.check import Check, End, Row, Settings, perform
from mae_backbone.benchmark.gpu.checks import CHECKS
from mae_backbone.benchmark.gpu.command import chosen, command_line, device_of, run_checks
from mae_backbone.benchmark.gpu.isolation import Isolated
from mae_backbone.cli.main import main

CPU = Settings('cpu', tiny=True)


def fake(name: str, seconds: int = 60) -> Check:
    return Check(name, seconds, f'helpers.gpu_checks:{name}')


def here(check: Check, settings: Settings, seconds: float) -> Iterator[Row | End]:
    """Takes the place of `Isolated.perform`: in this process."""
    return perform(check, settings)


def results_of(*names: str, **options) -> dict[str, dict]:
    results: dict[str, dict] = {}
    run_checks([fake(name) for name in names], CPU, results, lambda: None, here, **{'seconds': 600} | options)
    return results


def test_every_check_has_a_result():
    results = results_of('raising', 'skipped', 'without_package', 'wrong', 'fine')
    assert results['raising']['error'] == 'RuntimeError: no kernel for this GPU'
    assert results['raising']['rows'] == {'before': {'images/s': 1.0}}
    assert results['skipped']['skipped'] == 'not here'
    assert 'package_that_is_not_installed is not installed' in results['without_package']['skipped']
    assert results['wrong']['error'] == 'beyond the limit: false; failed: broken'
    assert set(results['fine']) == {'rows', 'seconds'}
    assert list(results['fine']['rows']) == ['first', 'second']


def test_what_a_killed_run_has_measured_is_saved():
    saved, results = [], {}
    run_checks([fake('raising'), fake('fine')], CPU, results, lambda: saved.append(json.dumps(results)), here,
               seconds=600)
    rows = [sum(len(check['rows']) for check in json.loads(text).values()) for text in saved]
    assert rows == sorted(rows)
    assert set(rows) == {1, 2, 3}  # after each row


def test_no_check_is_started_without_time():
    results = results_of('fine', 'raising', seconds=5)
    assert all('no time left' in check['skipped'] for check in results.values())


@pytest.mark.slow  # starts three processes, and one of them hangs
def test_crash_and_hang_end_only_their_check(capsys: pytest.CaptureFixture):
    isolated, results = Isolated(), {}
    try:
        checks = [fake('fine'), fake('hang', 3), fake('crash')]
        run_checks(checks, CPU, results, lambda: None, isolated.perform, seconds=600)
        first = isolated.process
        run_checks([fake('raising')], CPU, results, lambda: None, isolated.perform, seconds=600)
        assert isolated.process is not first
    finally:
        isolated.close()
    assert not isolated.process.is_alive()
    assert 'error' not in results['fine']
    assert results['hang']['error'] == 'stopped after 3 s'
    assert results['crash']['error'] == 'the process of the check ended with exit code 3'
    for name in ('hang', 'crash', 'raising'):
        assert results[name]['rows'] == {'before': {'images/s': 1.0}}
    assert capsys.readouterr().out.count('\n') == 4


def test_command_writes_json_and_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture):
    monkeypatch.setattr(Isolated, 'perform', lambda _, *args: here(*args))
    options = ['--tiny', '--device', 'cpu', '--only', 'masks', 'loader', '--json', tmp_path / 'new' / 'gpu.json']
    assert main(['benchmark', 'gpu', *options]) == 0
    result = json.loads((tmp_path / 'new' / 'gpu.json').read_text())
    assert list(result['checks']) == ['masks', 'loader']
    assert 'give --shards' in result['checks']['loader']['skipped']
    markdown = (tmp_path / 'new' / 'gpu.md').read_text()
    assert markdown.startswith("`mae-backbone benchmark gpu --minutes 9 --tiny --device cpu --only masks loader`\n")
    assert '| RandomMasking, 14 x 14 | 64 | yes |' in markdown
    assert 'masks: ok' in capsys.readouterr().out


def test_failed_checks_end_with_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(Isolated, 'perform', lambda _, *args: here(*args))
    monkeypatch.setattr(command, 'CHECKS', [fake('fine'), fake('raising'), fake('wrong')])
    assert main(['benchmark', 'gpu', '--tiny', '--device', 'cpu']) == 1
    assert '2 of 3 checks failed: raising, wrong' in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_no_gpu_is_one_message(capsys: pytest.CaptureFixture):
    assert main(['benchmark', 'gpu']) == 2
    assert capsys.readouterr().err == (
        'error: PyTorch finds no CUDA GPU. --tiny, or --device cpu, runs the checks on the CPU\n')
    assert device_of('cuda', tiny=True) == device_of('cpu', tiny=False) == 'cpu'


def test_checks_are_chosen_by_the_start_of_their_names():
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    assert [check.name for check in chosen(None, tiny=False)] == names
    assert 0 < len(chosen(None, tiny=True)) < len(names)
    assert {check.name for check in chosen(['mae large', 'ops'], tiny=False)} == {
        name for name in names if name.startswith(('mae large', 'ops'))}
    with pytest.raises(ValueError, match=r"--only nothing: no check begins with it, choose from 'machine', "):
        chosen(['nothing'], tiny=False)


def test_command_line_can_be_run_again():
    args = Namespace(minutes=2.5, tiny=True, device='cpu', shards='a b', only=['mae base'])
    assert command_line(args) == (
        "mae-backbone benchmark gpu --minutes 2.5 --tiny --device cpu --shards 'a b' --only 'mae base'")
