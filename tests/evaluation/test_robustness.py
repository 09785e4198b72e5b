"""Rows of a robustness table: restricted predictions, kept rows, means and the mCE; and the whole command."""
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
from mae_backbone.evaluation.imagenet_c import ALEXNET_ERRORS, STRENGTHS
from mae_backbone.evaluation.robustness import Table, accuracies, as_markdown, check_names, is_imagenet

ROOT = Path(__file__).parents[2]


class Scored(Dataset):
    """Images that hold their scores."""

    def __init__(self, scores: torch.Tensor, labels: list[int]) -> None:
        self.scores, self.labels = scores, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {'inputs': self.scores[index], 'data_samples': self.labels[index]}


class Identity(nn.Module):
    def test_step(self, batch: dict) -> list[dict]:
        return [{'scores': score, 'label': label} for score, label in zip(*batch.values(), strict=True)]


def test_predictions_are_restricted_to_classes_that_occur():
    scores, labels = torch.randn(50, 9), [2, 5, 7] * 16 + [2, 5]
    result = accuracies(Identity(), Scored(scores, labels), labels, batch_size=7, workers=0)
    classes = torch.tensor([2, 5, 7])
    correct = classes[scores[:, classes].argmax(dim=1)] == torch.tensor(labels)
    assert result == {'top-1': pytest.approx(100 * correct.double().mean().item()), 'top-5': 100.0, 'images': 50,
                     'classes': 3}
    everything = [*range(9)] * 5 + [0] * 5
    guesses = scores.topk(5).indices.tolist()
    in_top5 = torch.tensor([label in row for label, row in zip(everything, guesses, strict=True)])
    result = accuracies(Identity(), Scored(scores, everything), everything, workers=0)
    assert result['top-5'] == pytest.approx(100 * in_top5.double().mean().item())


def row(top1: float, classes: int = 20) -> dict:
    return {'top-1': top1, 'top-5': top1 + 10, 'images': 1000, 'classes': classes, 'of': {}}


def summaries(rows: dict[str, dict], *, imagenet: bool = True) -> list[str]:
    lines = as_markdown(rows, imagenet=imagenet).splitlines()
    return [line.split('. ImageNet')[0] for line in lines if 'mean error' in line]


def test_strengths_become_one_row_and_corruptions_one_mean():
    rows = {'test': row(80.0), 'c/noise/shot/1': row(60.0), 'c/noise/shot/2': row(40.0), 'c/blur/zoom/1': row(30.0),
            'corrupted/contrast/5': row(20.0)}
    lines = as_markdown(rows).splitlines()
    assert '| test | 1,000 | 20 | 80.0 | 90.0 | 20.0 |' in lines
    assert '| c/noise/shot, 2 strengths | 1,000 | 20 | 50.0 | 60.0 | 50.0 |' in lines
    assert summaries(rows) == ['c: mean error 60.0 over 2 corruptions', 'corrupted: mean error 80.0 over 1 corruptions']


def test_extra_corruptions_are_not_in_the_mean():
    rows = {'c/noise/shot_noise/1': row(60.0), 'c/extra/spatter/1': row(20.0), 'c/extra/saturate/1': row(10.0),
            'extra/spatter/1': row(20.0)}
    assert '| c/extra/spatter, 1 strengths | 1,000 | 20 | 20.0 | 30.0 | 80.0 |' in as_markdown(rows)
    assert summaries(rows) == ['c: mean error 40.0 over 1 corruptions, without spatter, saturate, which are not among '
                               'the 15 of ImageNet-C']


def all_corruptions(classes: int = 1000) -> dict[str, dict]:
    """Errors half of AlexNet's, or 10 above and below it at two strengths."""
    return {f'c/{name}/{strength}': row(100 - error / 2 + {1: 10, 2: -10}.get(strength, 0), classes)
            for name, error in ALEXNET_ERRORS.items() for strength in STRENGTHS}


def test_mce_is_reported_for_all_corruptions_of_imagenet_only():
    rows = all_corruptions()
    assert summaries(rows) == ['c: mean error 39.4 over 15 corruptions; mCE 50.0 (errors divided by the errors of '
                               'AlexNet)']
    assert 'spatter' in summaries({**rows, 'c/spatter/1': row(0.0, 1000)})[0]
    assert 'mCE 50.0' in summaries({**rows, 'c/spatter/1': row(0.0, 1000)})[0]
    assert 'mCE' not in summaries(rows, imagenet=False)[0]
    assert 'mCE' not in summaries(all_corruptions(classes=999))[0]
    del rows['c/fog/3']
    assert 'mCE' not in summaries(rows)[0]


def test_imagenet_is_known_by_its_wordnet_ids():
    assert is_imagenet([f'n{i:08}' for i in range(1000)])
    assert not is_imagenet([f'n{i:08}' for i in range(999)])
    assert not is_imagenet([f'class {i}' for i in range(1000)])


def test_strength_without_corruption_is_a_separate_set():
    assert '| 1 | 1,000 | 20 | 60.0 |' in as_markdown({'1': row(60.0), '2': row(40.0)})


def test_two_sets_of_one_name_are_refused():
    check_names(['test', 'a/val', 'b/val'])
    with pytest.raises(ValueError, match='several sets are called test, val: pass the parent folder'):
        check_names(['test', 'val', 'a', 'val', 'test'])


def test_rows_are_measured_once_per_settings_and_images(tmp_path: Path):
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


def test_rows_of_changed_images_are_dropped_together(tmp_path: Path):
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
def test_command_measures_sets_and_corruptions_and_continues(tmp_path: Path, run: Callable[..., str]):
    for split in ('train', 'val'):
        make_classes(tmp_path / split, cat=2, dog=3, emu=2)
    images, data = str(tmp_path / 'sets/imagenet-r'), ('--data-root', str(tmp_path))
    assert 'imagenet-r: top-1' in run(images, *data)
    out = run(images, '--corrupt', 'contrast', 'pixelate', *data)
    assert len(run.measured) == 10  # and not what was measured before
    assert 'corrupted: mean error' in out
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
def test_command_measures_sets_without_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               run: Callable[..., str]):
    monkeypatch.chdir(tmp_path)
    out = run(str(tmp_path / 'sets/imagenet-r'), '--cfg-options', 'model.num_classes=3')
    assert 'test: data/cifar10 does not exist' in out
    assert '| imagenet-r | 5 | 2 |' in out
    assert '| test |' not in out


def save_model(path: Path, **changes: Callable) -> None:
    """Applies functions to tensors of the model, or to its classes."""
    content = torch.load(path, weights_only=True)
    for name, change in changes.items():
        part = content['meta']['dataset_meta'] if name == 'classes' else content['state_dict']
        key = name.replace('__', '.')
        part[key] = change(part[key])
    torch.save(content, path)


def test_command_matches_classes_in_another_order_by_name(tmp_path: Path, run: Callable[..., str]):
    for split in ('train', 'val'):
        make_classes(tmp_path / split, cat=5, dog=1, emu=2)
    data = ('--data-root', str(tmp_path))
    run(*data)
    expected = (tmp_path / 'out/robustness.md').read_text()
    save_model(tmp_path / 'model.pth', head__weight=lambda rows: rows.flip(0), head__bias=lambda rows: rows.flip(0),
               classes=lambda names: names[::-1])
    out = run(*data)
    assert 'labels are matched by name' in out
    assert run.measured
    assert (tmp_path / 'out/robustness.md').read_text() == expected


def test_command_refuses_other_classes_and_weights_that_are_not_finite(tmp_path: Path, run: Callable[..., str],
                                                                       capsys: pytest.CaptureFixture):
    for split in ('train', 'val'):
        make_classes(tmp_path / split, cat=1, dog=1, emu=1)
    save_model(tmp_path / 'model.pth', classes=lambda _: ('cat', 'dog', 'gnu'))
    run('--data-root', str(tmp_path))
    assert run.code == 2
    save_model(tmp_path / 'model.pth', classes=lambda _: ('cat', 'dog', 'emu'), head__bias=lambda bias: bias / 0)
    run('--data-root', str(tmp_path))
    assert run.code == 2
    assert not run.measured
