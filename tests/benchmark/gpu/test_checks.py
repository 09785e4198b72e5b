"""The checks on a CPU: numbers are right, and a wrong one is seen."""
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from mae_backbone.benchmark.gpu import attention as attention_check
from mae_backbone.benchmark.gpu import loading, mae, masks, ops, training, validation, vitdet
from mae_backbone.benchmark.gpu.check import Check, End, Settings, SkippedCheckError, perform
from mae_backbone.benchmark.gpu.checks import CHECKS
from mae_backbone.benchmark.gpu.measure import flops_of, precision, relative_error
from mae_backbone.compat import mmcv_ext
from mae_backbone.core import attention, masking
from mae_backbone.engine.optim_wrapper import GuardedOptimWrapper
from mae_backbone.utils.cpu import available_cpus

CPU = Settings('cpu', tiny=True)


def rows(check: Iterator) -> dict[str, dict]:
    return dict(check)


def all_right(figures: dict[str, dict]) -> bool:
    return all('error' not in row and row.get('ok') is not False for row in figures.values())


def test_attention_is_right_and_a_wrong_bias_is_seen(monkeypatch: pytest.MonkeyPatch):
    assert all_right(rows(attention_check.forms(CPU)))
    right = attention.relative
    monkeypatch.setattr(attention, 'relative', lambda table, size: right(table, size).flip(0))
    wrong = rows(attention_check.relative_positions(CPU))
    assert wrong
    assert not any(row['ok'] for row in wrong.values())


def test_stand_ins_are_right_and_a_rounded_box_is_seen(monkeypatch: pytest.MonkeyPatch):
    assert all_right(rows(ops.stand_ins(CPU)))
    inputs = ops.random_inputs(torch.bfloat16)
    assert ops.roi_align(inputs, 'cpu', 1e-2)['ok']
    right = mmcv_ext.roi_align_forward

    def rounded(features: Tensor, rois: Tensor, *args: object) -> None:
        right(features, rois.to(features.dtype), *args)
    monkeypatch.setattr(mmcv_ext, 'roi_align_forward', rounded)
    rois = inputs.rois + torch.tensor([0, 0.3, 0.3, 0.3, 0.3])  # which bfloat16 does not have
    assert not ops.roi_align(inputs._replace(rois=rois), 'cpu', 1e-2)['ok']


def test_masks_are_compared_bit_for_bit(monkeypatch: pytest.MonkeyPatch):
    assert all_right(rows(masks.bit_for_bit(CPU)))
    monkeypatch.setattr(masks, 'noise_from_seeds', lambda seeds, length: torch.rand(len(seeds), length))
    assert not any(row['ok'] for row in rows(masks.bit_for_bit(CPU)).values())
    assert masking.noise_from_seeds is not masks.noise_from_seeds


def test_losses_of_each_precision():
    result = rows(training.one_step(CPU))
    assert set(result) == {'float32', 'bfloat16'}
    assert all_right(result)
    row = training._losses(CPU, 'bfloat16', 'eager')
    assert row['ok']
    assert row['loss 20'] < row['loss 1']


def test_runner_takes_its_steps(monkeypatch: pytest.MonkeyPatch):
    steps, step = [], GuardedOptimWrapper.step
    monkeypatch.setattr(training, 'STEPS', 5)
    monkeypatch.setattr(GuardedOptimWrapper, 'step', lambda self, **options: steps.append(step(self, **options)))
    assert all_right(rows(training.steps_of_the_runner(CPU)))
    assert len(steps) == 2 * training.STEPS


@pytest.mark.parametrize('form', ['eager', 'reference'])
def test_speed_of_a_mae(form: str):
    (row,) = rows(mae.throughput(CPU, arch='base', batch=4, form=form, aim=3)).values()
    assert row['images/s'] == pytest.approx(4 / row['ms'] * 1e3)
    assert row['TFLOP/s'] == pytest.approx(row['images/s'] * row['GFLOP/image'] / 1e3)
    assert 'aim, H200' not in row  # it is of the large model


@pytest.mark.slow  # traces the step
def test_step_as_one_graph_has_the_same_losses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mae, 'compile_options', lambda settings: {'backend': 'eager'})
    shape, losses = mae.shape_of('base', CPU), {}
    for form in ('eager', 'whole'):
        step = mae.build(shape, CPU, form=form, batch=2, dtype='float32')
        losses[form] = [step().item() for _ in range(3)]
    assert losses['eager'][2] < losses['eager'][0]
    assert losses['whole'] == pytest.approx(losses['eager'], abs=1e-5)


@pytest.mark.parametrize('form', ['folded', 'explicit'])
def test_speed_of_a_backbone(form: str):
    (row,) = rows(vitdet.throughput(CPU, batch=8, form=form)).values()
    assert row['images/s'] > 0


def test_flops_of_a_product():
    a = torch.ones(3, 5, requires_grad=True)
    assert flops_of(lambda: (a @ torch.ones(5, 7)).sum().backward()) == 2 * 3 * 5 * 7 * 2  # no gradient of the second


def test_precisions_end_with_their_block():
    with precision('tf32', 'cpu'):
        assert torch.get_float32_matmul_precision() == 'high'
    assert torch.get_float32_matmul_precision() == 'highest'
    with precision('bfloat16', 'cpu'):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_relative_error():
    exact = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert relative_error(exact.float() + torch.tensor([0.0, 0.5]), exact) == pytest.approx(0.1)


def test_validation_in_bfloat16_has_three_digits():
    result = rows(validation.features(CPU))
    assert result['float32']['relative error'] < 1e-5 < result['bfloat16']['relative error'] < 2e-2
    assert result['float32']['nearest'] == 1


def test_decoding_without_a_gpu():
    one, several, end = perform(Check('jpeg', 9, 'mae_backbone.benchmark.gpu.jpeg:decoding'), CPU)
    assert (one.name, several.name) == ('one CPU thread', f'{available_cpus()} CPU threads')
    assert one.figures['images/s'] > 0
    assert end == End('skipped', 'nvJPEG needs a GPU')


def test_loader_asks_for_shards():
    with pytest.raises(SkippedCheckError, match='give --shards DIR'):
        list(loading.from_shards(CPU))


def test_functions_and_configs_of_all_checks_exist():
    from importlib import import_module

    from mae_backbone.utils.config_files import find_config
    for check in CHECKS:
        module, _, function = check.function.partition(':')
        assert callable(getattr(import_module(module), function))
        for key in ('config', 'tiny'):
            assert key not in check.options or find_config(check.options[key]).is_file()
