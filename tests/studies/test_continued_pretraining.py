"""The script of the tables of continued pretraining: its runs exist, and its table has means and deviations."""
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config

from mae_backbone.cli.config import parse_options
from mae_backbone.utils.config_files import find_config

TOOL = Path(__file__).parents[2] / 'tools' / 'studies' / 'continued_pretraining.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('continued_pretraining', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_run_builds_its_model(tool: ModuleType, tmp_path: Path):
    from mae_backbone.models.pretrainer import MAEPretrainer
    runs = list(tool.runs(tmp_path))
    assert len(runs) == 2 + 8 * len(tool.SEEDS)
    assert len({(run.name, run.seed) for run in runs}) == len(runs)
    for run in runs[:10]:
        cfg = Config.fromfile(find_config(run.config))
        cfg.merge_from_dict(parse_options(list(run.options)))
        model = dict(cfg.model)
        assert model.pop('type') == 'mae_backbone.MAEPretrainer'
        kinds = {'features': 'FeatureDistillation', 'attention': 'AttentionDistillation'}
        assert type(MAEPretrainer(**model).distillation).__name__ == kinds.get(run.name.split(',')[0], 'NoneType')


def test_table_has_mean_and_deviation_over_seeds(tool: ModuleType, capsys: pytest.CaptureFixture[str]):
    tool.print_table({'a': {'0': {'k-NN': 1.0}, '1': {'k-NN': 3.0}}, 'b': {'0': {'k-NN': 5.0}}})
    assert capsys.readouterr().out.splitlines() == ['| run | seeds | k-NN |', '|---|---|---|', '| a | 2 | 2.0 ± 1.4 |',
                                                    '| b | 1 | 5.0 |']
