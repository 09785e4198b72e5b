"""Cache of features: extracted once per model and data set, resumed after a kill, and never incomplete."""
import copy
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import make_classes
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import Dataset

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.evaluation.feature_cache import cached_features, model_fingerprint
from mae_backbone.models.classifier import ViTClassifier

TINY = dict(arch=dict(width=32, depth=2, heads=2), image_size=8, patch_size=4)


def build(**options) -> ViTClassifier:
    return ViTClassifier(TINY | options, num_classes=0, data_preprocessor=dict(
        type='ImgDataPreprocessor', mean=[100.0] * 3, std=[50.0] * 3))


class Counted(Dataset):
    """Ten random images that log every access to a file."""

    def __init__(self, log: Path, *, number: int = 10, stop_at: int | None = None, labels: bool = True) -> None:
        self.log, self.stop_at, self.labels = log, stop_at, labels
        self.images = torch.randint(256, (number, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()

    def fingerprint(self) -> str:
        return 'ten'

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        if index == self.stop_at:
            os.kill(os.getpid(), signal.SIGKILL)
        with self.log.open('a') as file:
            file.write(f'{index}\n')
        return {'inputs': self.images[index], 'data_samples': index % 3 if self.labels else None}

    def taken(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []


def tokens_of(model: ViTClassifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval().backbone.encode(model.backbone.embed((images.float() - 100) / 50))


@pytest.mark.parametrize('workers', [0, 1])
def test_features_equal_the_model_and_are_extracted_once(tmp_path: Path, workers: int):
    model, images = build().train(), Counted(tmp_path / 'log')
    tokens = tokens_of(copy.deepcopy(model), images.images)
    state = torch.get_rng_state()
    for pooling, wanted in (('mean', tokens[:, 1:].mean(dim=1)), ('class', tokens[:, 0]), ('tokens', tokens)):
        found = cached_features(model, images, tmp_path, pooling=pooling, batch_size=4, workers=workers)
        assert_close(found.values.float(), wanted, atol=2e-3, rtol=1e-3)  # of float16
        assert found.values.dtype == torch.float16
        assert found.labels.tolist() == [0, 1, 2] * 3 + [0]
    assert images.taken() == [*range(10)] * 2  # mean and class in one pass
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert_close(found.select(torch.tensor([3, 1])).values, found.values[[3, 1]])


def test_features_are_extracted_again_only_if_their_inputs_change(tmp_path: Path):
    images = Counted(tmp_path / 'log')

    def extracted(model: ViTClassifier, **options) -> bool:
        before = len(images.taken())
        cached_features(model, images, tmp_path / 'kept', batch_size=4, workers=0, **options)
        return len(images.taken()) > before

    model = build()
    assert extracted(model)
    assert not extracted(copy.deepcopy(model), pooling='class')
    assert extracted(model, key='other transforms')
    assert extracted(model, dtype='bfloat16')
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.backbone.blocks[1].mlp.fc2.bias[3] += 1e-7
    assert extracted(other)
    brighter = copy.deepcopy(model)
    brighter.data_preprocessor.mean += 1  # not in the state dict
    assert extracted(brighter)
    heads = build(arch=dict(width=32, depth=2, heads=4))
    heads.load_state_dict(model.state_dict())
    assert extracted(heads)
    assert not extracted(model)


def test_fingerprint_of_a_class_folder_depends_on_files_labels_and_transform(tmp_path: Path):
    make_classes(tmp_path / 'train', a=3, b=3)

    def fingerprint(**options) -> str:
        return ClassFolder(tmp_path, train=False, **{'image_size': 8} | options).fingerprint()

    assert fingerprint() == fingerprint()
    others = [fingerprint(image_size=16), fingerprint(augment={'crop_pct': 0.5}), fingerprint(fraction=0.5),
              fingerprint(classes=['b', 'a'])]
    assert len({fingerprint(), *others}) == 5
    make_classes(tmp_path / 'train', a=4)
    assert fingerprint() != others[0]
    assert len({fingerprint(), *others}) == 5


def _extract(folder: Path, stop_at: int | None) -> None:
    torch.manual_seed(0)
    cached_features(build(), Counted(folder / 'log', stop_at=stop_at), folder / 'kept', batch_size=2, workers=0)


def test_killed_extraction_continues_and_is_never_used_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr('mae_backbone.evaluation.feature_cache._SYNC_EVERY', 0)
    fork = multiprocessing.get_context('fork')
    for stop_at, taken in ((5, 5), (8, 4)):  # batches of 2: 4 rows are kept, then 8
        log = tmp_path / 'log'
        log.unlink(missing_ok=True)
        process = fork.Process(target=_extract, args=(tmp_path, stop_at))
        process.start()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL
        assert len(log.read_text().split()) == taken
        assert not [path for path in (tmp_path / 'kept').iterdir() if path.suffix not in ('.part', '.lock')]
    torch.manual_seed(0)
    model, images = build(), Counted(tmp_path / 'rest')
    found = cached_features(model, images, tmp_path / 'kept', batch_size=2, workers=0)
    assert images.taken() == [8, 9]
    whole = cached_features(model, images, tmp_path / 'again', batch_size=2, workers=0)
    assert torch.equal(found.values, whole.values)
    assert torch.equal(found.labels, whole.labels)


def test_kill_before_the_renaming_loses_no_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_) -> None:
        raise KeyboardInterrupt

    model, images = build(), Counted(tmp_path / 'log')
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'rename', killed)
        with pytest.raises(KeyboardInterrupt):
            cached_features(model, images, tmp_path / 'kept', batch_size=4, workers=0)
    found = cached_features(model, images, tmp_path / 'kept', batch_size=4, workers=0)
    assert images.taken() == [*range(10)]
    assert found.labels.tolist() == [0, 1, 2] * 3 + [0]


@pytest.mark.parametrize('damage', [
    lambda part: (part / 'rows').write_text('x'), lambda part: (part / 'rows').write_text('999'),
    lambda part: (part / 'mean.npy').write_bytes(b''), lambda part: (part / 'labels.npy').unlink(),
    lambda part: np.save(part / 'class.npy', np.zeros((3, 32), np.float16))])
def test_damaged_partial_extraction_is_discarded(tmp_path: Path, damage):
    model, images = build(), Counted(tmp_path / 'log')
    wanted = cached_features(model, images, tmp_path / 'kept', batch_size=2, workers=0).select(torch.arange(10))
    where = next(path for path in (tmp_path / 'kept').iterdir() if path.is_dir())
    part = where.rename(where.with_suffix('.part'))
    (part / 'rows').write_text('6')
    damage(part)
    again = cached_features(model, images, tmp_path / 'kept', batch_size=2, workers=0)
    assert torch.equal(again.values, wanted.values)
    assert torch.equal(again.labels, wanted.labels)


def test_only_one_of_two_processes_extracts(tmp_path: Path):
    fork = multiprocessing.get_context('fork')
    processes = [fork.Process(target=_extract, args=(tmp_path, None)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(Counted(tmp_path / 'log').taken()) == [*range(10)]


def test_writing_to_mapped_features_does_not_change_the_file(tmp_path: Path):
    model, images = build(), Counted(tmp_path / 'log')
    found = cached_features(model, images, tmp_path, batch_size=4, workers=0)
    before = found.values.clone()
    found.values.zero_()
    assert torch.equal(cached_features(model, images, tmp_path, batch_size=4, workers=0).values, before)


@pytest.mark.parametrize(('change', 'says'), [
    (dict(pooling='max'), "pooling='max', expected one of mean, class, tokens"),
    (dict(number=0), 'the data set has no images'),
    (dict(labels=False), 'an image has no class'),
    (dict(model=torch.nn.Linear(1, 1)), 'Linear cannot extract features'),
    (dict(weights=torch.inf), 'a feature is NaN'),
])
def test_invalid_arguments_raise(tmp_path: Path, change: dict, says: str):
    images = Counted(tmp_path / 'log', number=change.get('number', 10), labels=change.get('labels', True))
    model = change.get('model') or build()
    if 'weights' in change:
        torch.nn.init.constant_(model.backbone.blocks[0].mlp.fc1.weight, change['weights'])
    with pytest.raises(ValueError, match=says):
        cached_features(model, images, tmp_path, pooling=change.get('pooling', 'mean'), workers=0)


def test_fingerprint_of_a_model_depends_on_values_only():
    model = build()
    assert model_fingerprint(model) == model_fingerprint(copy.deepcopy(model))
    assert model_fingerprint(model) != model_fingerprint(build())
