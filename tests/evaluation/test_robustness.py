"""Rows of a robustness table: restricted guesses, kept rows, the mean over strengths; and the tool as a whole."""
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from helpers.image_files import make_classes
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn
from torch.utils.data import Dataset

from mae_backbone.cli.main import main
from mae_backbone.evaluation import robustness
from mae_backbone.evaluation.robustness import Table, accuracies, as_markdown, check_names

ROOT = Path(__file__).parents[2]


class Scored(Dataset):
    """Images that are their scores."""

    def __init__(self, scores: torch.Tensor, labels: list[int]) -> None:
        self.scores, self.labels = scores, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {'inputs': self.scores[index], 'data_samples': self.labels[index]}


class AsItIs(nn.Module):
    def test_step(self, batch: dict) -> list[dict]:
        return [{'scores': score, 'label': label} for score, label in zip(*batch.values(), strict=True)]


def test_guesses_are_among_the_classes_that_occur():
    scores, labels = torch.randn(50, 9), [2, 5, 7] * 16 + [2, 5]
    found = accuracies(AsItIs(), Scored(scores, labels), labels, batch_size=7, workers=0)
    among = torch.tensor([2, 5, 7])
    right = among[scores[:, among].argmax(dim=1)] == torch.tensor(labels)
    assert found == {'top-1': pytest.approx(100 * right.double().mean().item()), 'top-5': 100.0, 'images': 50,
                     'classes': 3}
    everything = [*range(9)] * 5 + [0] * 5
    best = torch.tensor([label in row for label, row in zip(everything, scores.topk(5).indices.tolist(), strict=True)])
    found = accuracies(AsItIs(), Scored(scores, everything), everything, workers=0)
    assert found['top-5'] == pytest.approx(100 * best.double().mean().item())


def row(top1: float) -> dict:
    return {'top-1': top1, 'top-5': top1 + 10, 'images': 1000, 'classes': 20, 'of': {}}


def test_strengths_are_one_row_and_corruptions_one_mean():
    rows = {'test': row(80.0), 'c/noise/shot/1': row(60.0), 'c/noise/shot/2': row(40.0), 'c/blur/zoom/1': row(30.0),
            'corrupted/contrast/5': row(20.0)}
    lines = as_markdown(rows).splitlines()
    assert '| test | 1,000 | 20 | 80.0 | 90.0 | 20.0 |' in lines
    assert '| c/noise/shot, 2 strengths | 1,000 | 20 | 50.0 | 60.0 | 50.0 |' in lines
    assert [line.split('. It')[0] for line in lines if 'mean error' in line] == [
        'c: mean error over 2 corruptions 60.0', 'corrupted: mean error over 1 corruptions 80.0']


def test_the_extra_corruptions_of_imagenet_c_are_not_in_its_mean():
    rows = {'c/noise/shot_noise/1': row(60.0), 'c/extra/spatter/1': row(20.0), 'c/extra/saturate/1': row(10.0),
            'extra/spatter/1': row(20.0)}
    lines = as_markdown(rows).splitlines()
    assert '| c/extra/spatter, 1 strengths | 1,000 | 20 | 20.0 | 30.0 | 80.0 |' in lines
    assert [line.split('. It')[0] for line in lines if 'mean error' in line] == [
        'c: mean error over 1 corruptions 40.0, without spatter, saturate, which are none of the 15 of ImageNet-C']


def test_a_strength_without_its_corruption_is_a_set_of_its_own():
    assert '| 1 | 1,000 | 20 | 60.0 |' in as_markdown({'1': row(60.0), '2': row(40.0)})


def test_two_sets_of_one_name_are_refused():
    check_names(['test', 'a/val', 'b/val'])
    with pytest.raises(ValueError, match='several sets are called test, val: pass the folder above'):
        check_names(['test', 'val', 'a', 'val', 'test'])


def test_rows_are_measured_once_for_what_they_depend_on(tmp_path: Path):
    measured = []

    def measure() -> dict:
        measured.append(1)
        return {'top-1': float(len(measured))}

    def top1(about: str = 'a', files: str = '') -> float:
        return Table(tmp_path / 'rows.json', {'weights': about}).add('test', {'files': files}, measure)['top-1']

    assert [top1(), top1(), top1(files='other'), top1(files='other'), top1('b', 'other'), top1('b', 'other')] == [
        1, 1, 2, 2, 3, 3]
    (tmp_path / 'rows.json').write_text('{"rows"')
    assert top1('b') == 4


def test_rows_of_images_that_are_no_more_go_together(tmp_path: Path):
    table = Table(tmp_path / 'rows.json', {})
    for name, files in (('test', '1'), ('corrupted/contrast/1', '1'), ('sketch', '2'), ('test', '3')):
        table.add(name, {'files': files}, dict)
    assert [*Table(tmp_path / 'rows.json', {}).rows] == ['sketch', 'test']


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """The tool with a model of three classes and a set of two; `run.measured` grows with each measurement."""
    make_classes(tmp_path / 'sets/imagenet-r', emu=4, cat=1)
    config = str(ROOT / 'configs/demo/vit-micro_finetune_cifar10.py')
    model = MODELS.build({**Config.fromfile(config).model, 'num_classes': 3})
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': {'classes': ('cat', 'dog', 'emu')}}},
               tmp_path / 'model.pth')

    def run(*more: str) -> str:
        run.measured = []
        run.code = main(['robustness', config, tmp_path / 'model.pth', *more, '--workers', '0', '--work-dir',
                         tmp_path / 'out'])
        return capsys.readouterr().out
    monkeypatch.setattr(robustness, 'accuracies', lambda *arguments, **options: run.measured.append(1) or accuracies(
        *arguments, **options))
    return run


@pytest.mark.slow
def test_the_tool_measures_sets_and_corruptions_and_goes_on(tmp_path: Path, run: Callable[..., str]):
    for split in ('train', 'val'):
        make_classes(tmp_path / split, cat=2, dog=3, emu=2)
    images, data = str(tmp_path / 'sets/imagenet-r'), ('--data-root', str(tmp_path))
    assert 'imagenet-r: top-1' in run(images, *data)
    out = run(images, '--corrupt', 'contrast', 'pixelate', *data)
    assert len(run.measured) == 10  # and not what was measured before
    assert 'corrupted: mean error over 2 corruptions' in out
    written = (tmp_path / 'out/robustness.md').read_text()
    assert '| imagenet-r | 5 | 2 |' in written
    assert '| corrupted/contrast, 5 strengths | 7 | 3 |' in written
    picture = cv2.imread(str(tmp_path / 'out/corruptions.png'))
    assert picture.shape[0] > 2 * 192
    run('--corrupt', 'dust', *data)
    assert run.code == 2
    for changed in ('sets/imagenet-r/emu', 'val/emu'):  # under the same name
        (tmp_path / changed / '000.png').write_bytes((tmp_path / 'train/dog/001.png').read_bytes())
    run(images, *data)
    assert len(run.measured) == 2
    assert 'corrupted' not in (tmp_path / 'out/robustness.md').read_text()


@pytest.mark.slow
def test_sets_are_measured_without_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               run: Callable[..., str]):
    monkeypatch.chdir(tmp_path)
    out = run(str(tmp_path / 'sets/imagenet-r'), '--cfg-options', 'model.num_classes=3')
    assert 'test: data/cifar10 does not exist' in out
    assert '| imagenet-r | 5 | 2 |' in out
    assert '| test |' not in out
