"""Measurement of time and peak memory."""
import os
import signal
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest
import torch

from mae_backbone.benchmark.measurement import _serve, describe, matmul_peak, peak_memory

CPU = torch.device('cpu')


def fill(mebibytes: int):
    def work() -> torch.Tensor:
        return torch.ones(mebibytes * 2**20, dtype=torch.uint8)
    return work


def leave(code: int):
    os._exit(code)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_peak_memory_covers_only_the_work():
    held = torch.ones(200 * 2**20, dtype=torch.uint8)
    assert 64 * 2**20 <= peak_memory(fill, 64, device=CPU) < 96 * 2**20
    assert held[0] == 1


@pytest.mark.slow
def test_process_that_exits_is_reported():
    with pytest.raises(RuntimeError, match='exit code 3'):
        peak_memory(leave, 3, device=CPU)


@pytest.mark.slow
@pytest.mark.skipif(os.name == 'nt', reason='Windows has no SIGKILL')
def test_process_that_is_killed_gives_advice():
    with pytest.raises(ValueError, match='was killed, most often because memory ran out: choose a smaller --batch'):
        peak_memory(kill_itself, device=CPU)


@pytest.mark.parametrize(('error', 'kind'), [(ValueError('a mistake'), ValueError), (KeyError('a'), RuntimeError)])
def test_exceptions_of_the_work_are_raised(error: Exception, kind: type):
    """A user's mistake keeps its type, a defect becomes a RuntimeError with its traceback."""
    def prepare():
        raise error
    ours, theirs = Pipe()
    _serve(theirs, prepare, (), CPU, None, 1)
    error_received = ours.recv()
    assert type(error_received) is kind
    assert str(error) in str(error_received)


def test_matmul_peak_is_plausible_and_device_has_a_name():
    assert 1e8 < matmul_peak(torch.float32, CPU, repeats=1) < 1e14
    assert describe(CPU)['device']


def test_a_missing_package_in_the_measuring_process_is_not_a_defect():
    def prepare() -> None:
        raise ImportError('ONNX files need openvino: pip install mae_backbone[openvino]')
    sent: list[object] = []
    _serve(SimpleNamespace(send=sent.append), prepare, (), CPU, None, torch.get_num_threads())
    assert isinstance(sent[0], ImportError)
