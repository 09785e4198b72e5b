"""TF32 and validation under autocast, by the settings of the config."""
import itertools
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from torch import Tensor, nn

from mae_backbone.engine.runner import Runner

COUNT = itertools.count()


class Model(BaseModel):
    """Tells the dtype of its predictions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: list[Tensor], mode: str = 'loss') -> list[dict]:
        return [dict(dtype=self.layer(torch.stack(list(inputs))).dtype)]


class Dtypes(BaseMetric):
    """Collects what the model tells."""

    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results += [sample['dtype'] for sample in data_samples]

    def compute_metrics(self, results: list) -> dict:
        return dict(bfloat16=float(all(dtype == torch.bfloat16 for dtype in results)))


def runner(work_dir: Path, **cfg: object) -> Runner:
    loader = dict(dataset=[dict(inputs=torch.ones(2))] * 4, batch_size=2, sampler=dict(type='DefaultSampler'))
    loops = {f'{name}_{key}': value for name in ('val', 'test') for key, value in (
        ('dataloader', loader), ('evaluator', Evaluator(Dtypes())), ('cfg', dict()))}
    return Runner(Model(), str(work_dir), experiment_name=f'precision-{next(COUNT)}', cfg=dict(cfg), **loops)


@pytest.mark.parametrize('dtype', [None, 'float32', 'bfloat16'])
def test_validation_and_test_run_in_val_dtype(tmp_path: Path, dtype: str | None):
    run = runner(tmp_path, **({} if dtype is None else {'val_dtype': dtype}))
    assert run.val() == dict(bfloat16=float(dtype == 'bfloat16'))
    assert run.test() == dict(bfloat16=float(dtype == 'bfloat16'))


def test_other_val_dtypes_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="val_dtype='int8', expected"):
        runner(tmp_path, val_dtype='int8').val()


@pytest.mark.parametrize('gpu', [True, False])
def test_tf32_is_set_on_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool):
    calls: list[str] = []
    monkeypatch.setattr(torch, 'set_float32_matmul_precision', calls.append)
    run = runner(tmp_path)
    assert calls == []
    run.cfg.tf32 = True
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    monkeypatch.setattr('mmengine.runner.Runner.setup_env', lambda self, env_cfg: None)
    run.setup_env({})
    assert calls == (['high'] if gpu else [])
