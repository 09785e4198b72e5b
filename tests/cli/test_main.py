"""The command line as a whole: its commands, their help, and its exit codes."""
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mae_backbone
from mae_backbone.cli import benchmark
from mae_backbone.cli.errors import is_rank0
from mae_backbone.cli.main import COMMANDS, main, set_rank, with_config
from mae_backbone.core.vit import ARCHS

ROOT = Path(__file__).parents[2]
HEAVY = {'torch', 'mmengine', 'mmdet', 'mmseg', 'timm', 'cv2', 'numpy', 'scipy', 'matplotlib'}


def run_python(code: str) -> str:
    """What `code` prints in a new interpreter."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_of_every_command_imports_nothing_heavy():
    """An import of torch takes 3 s, of mmdet 7 s; with neither, help is printed in a tenth of a second."""
    benchmarks = [['benchmark', kind] for kind in benchmark._KINDS]
    assert run_python(f'''
import sys
from contextlib import redirect_stdout
from io import StringIO
from mae_backbone.cli.errors import is_rank0
from mae_backbone.cli.main import COMMANDS, main, set_rank, with_config
for arguments in [[], *([name] for name in COMMANDS), *{benchmarks}]:
    with redirect_stdout(StringIO()) as printed:
        code = main([*arguments, '--help'])
    assert code == 0 and 'usage: mae-backbone' in printed.getvalue(), arguments
    heavy = {HEAVY} & sys.modules.keys()
    assert not heavy, (arguments, heavy)
print('light')
''') == 'light\n'


@pytest.mark.parametrize('name', COMMANDS)
def test_help_ends_with_an_example(name: str, capsys):
    assert main([name, '--help']) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert f'  mae-backbone {name}' in lines[-1]
    assert any(line in ('example:', 'examples:') for line in lines)


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_has_a_file_in_tools(name: str):
    files = {'check': 'check_data', 'measure': 'measure_pixels', 'import': 'import_data'}
    text = (ROOT / 'tools' / f'{files.get(name, name)}.py').read_text(encoding='utf-8')
    assert f"console('{name}')" in text
    assert (import_module(f'mae_backbone.cli.{name}').__doc__ or '')[0].isupper()


def test_without_a_command_the_commands_are_listed(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f'\n  {name} ' in printed for name in COMMANDS)


def test_version_is_printed(capsys):
    assert main(['--version']) == 0
    assert capsys.readouterr().out == f'mae_backbone {mae_backbone.__version__}\n'


@pytest.mark.parametrize(('arguments', 'message'), [
    (['pretrian'], "unknown command 'pretrian': did you mean 'pretrain'?"),
    (['xyz'], "unknown command 'xyz': choose from quickstart"),
    (['train'], 'arguments are required: CONFIG'),
    (['train', 'x', '--cfg-options', 'lr'], 'expected KEY=VALUE'),
    (['predict', 'x', 'y', 'z', '--tile', '0'], 'expected an integer of 1 or more'),
    (['train', 'x', '--seed', '-1'], 'expected an integer from 0 to 4294967295'),
    (['visualize', 'x', 'y', 'z', '--seed', '4294967296'], 'expected an integer from 0 to 4294967295'),
])
def test_mistake_in_the_command_is_one_message_and_exit_code_2(arguments: list[str], message: str, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert 'Traceback' not in printed


def test_architectures_of_the_benchmarks_equal_the_encoder():
    assert benchmark.ARCHS == tuple(ARCHS)


def test_config_is_taken_from_the_checkpoint_and_never_from_its_folder(tmp_path: Path, capsys):
    checkpoint = tmp_path / 'iter_1.pth'
    checkpoint.write_bytes(b'x')
    (tmp_path / 'run.py').write_text(f'open({str(tmp_path / "touched")!r}, "w")')
    assert main(['predict', str(checkpoint), str(tmp_path)]) == 2
    assert 'iter_1.pth is not a checkpoint' in capsys.readouterr().err
    assert not (tmp_path / 'touched').exists()
    assert main(['predict', str(tmp_path / 'iter_2.pth'), str(tmp_path)]) == 2
    assert 'iter_2.pth does not exist: check the path; ' in capsys.readouterr().err


@pytest.mark.parametrize(('options', 'expected'), [
    (['a.pth', 'x.png'], ['a.pth', 'a.pth', 'x.png']),
    (['--threshold', '0.5', 'a.pth', 'x.png'], ['--threshold', '0.5', 'a.pth', 'a.pth', 'x.png']),
    (['--tta', '-o', 'out', 'a.pth', 'x'], ['--tta', '-o', 'out', 'a.pth', 'a.pth', 'x']),
    (['--out=o', 'a.onnx', 'x.png'], ['--out=o', 'a.onnx', 'a.onnx', 'x.png']),
    (['--tta', '--', 'a.pth', 'x.png'], ['--tta', '--', 'a.pth', 'a.pth', 'x.png']),
    (['--cfg-options', 'load_from=x.pth', '--tta', 'a.pth', 'x'],
     ['--cfg-options', 'load_from=x.pth', '--tta', 'a.pth', 'a.pth', 'x'])])
def test_config_may_be_left_out_after_options(options: list[str], expected: list[str]):
    assert with_config('predict', options) == expected
    assert with_config('predict', ['run.py', 'a.pth', 'x.png']) == ['run.py', 'a.pth', 'x.png']
    assert with_config('predict', ['--tta', 'run.py', 'a.pth', 'x']) == ['--tta', 'run.py', 'a.pth', 'x']
    assert with_config('predict', ['a.pth', 'b.pth', 'x']) == ['a.pth', 'b.pth', 'x']
    assert with_config('train', ['a.pth']) == ['a.pth']


def test_folder_of_a_run_in_place_of_a_checkpoint_is_refused_with_the_names_in_it(tmp_path: Path, capsys):
    for name in ('best_top1_iter_1.pth', 'iter_1.pth', 'iter_2.pth'):
        (tmp_path / name).write_bytes(b'x')
    assert main(['predict', str(tmp_path), str(tmp_path)]) == 2
    message = f'{tmp_path} is the folder of a run: pass one of its checkpoints, such as '
    assert message + str(tmp_path / 'best_top1_iter_1.pth') in capsys.readouterr().err


@pytest.mark.parametrize(('launcher', 'name'), [('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')])
def test_processes_know_their_rank_before_they_join(monkeypatch: pytest.MonkeyPatch, launcher: str, name: str):
    """Otherwise all of them would lock the work directory and print."""
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setenv(name, '1')
    set_rank('none')
    assert is_rank0()
    set_rank(launcher)
    assert not is_rank0()
