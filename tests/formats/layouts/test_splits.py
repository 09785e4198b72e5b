"""Validation splits that are made."""
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import splits
from mae_backbone.formats.layouts.labeled_set import LabeledImage, LabeledObject, LabeledSet
from mae_backbone.formats.layouts.splits import choose, make_validation, match_all


def labeled_set(num_images: int = 20, split: str = '') -> LabeledSet:
    box = (0, 0, 5, 5)
    images = [LabeledImage(f'patient{i // 4}_{i}.png', (20, 20), [LabeledObject('ab'[i % 2], box)], split)
              for i in range(num_images)]
    return LabeledSet(Path('x'), 'test', ['a', 'b'], images)


def test_each_class_has_its_fraction_and_the_choice_depends_on_the_seed_only() -> None:
    rng = np.random.default_rng(0)
    classes = [frozenset(np.array(['a', 'b', 'c'])[rng.random(3) < (0.9, 0.3, 0.05)].tolist()) for _ in range(400)]
    groups = [str(i) for i in range(400)]
    chosen = choose(classes, groups, 0.2, 0)
    assert chosen == choose(classes, groups, 0.2, 0) != choose(classes, groups, 0.2, 1)
    assert abs(len(chosen) - 80) <= 2
    total, held_out = (Counter(name for i in indices for name in classes[i]) for indices in (range(400), chosen))
    for name in 'abc':
        assert abs(held_out[name] - 0.2 * total[name]) <= 1.5


def test_class_of_one_image_stays_in_training_and_groups_stay_together() -> None:
    classes = [frozenset('a')] * 19 + [frozenset('rare')]
    groups = [str(i // 3) for i in range(20)]
    chosen = set(choose(classes, groups, 0.25, 0))
    assert 19 not in chosen
    assert 3 <= len(chosen) <= 7
    assert all(len({i in chosen for i in range(20) if groups[i] == group}) == 1 for group in groups)


def test_set_without_validation_gets_one_that_is_written_down() -> None:
    labeled = labeled_set()
    made = make_validation(labeled)
    assert made is not None
    assert '4 of 20 images are held out, stratified by class (seed 0)' in made.line
    assert labeled.splits == {'train', 'val'}
    assert sorted(made.record['train'] + made.record['val']) == sorted(image.file_name for image in labeled.images)
    assert make_validation(labeled) is None


def test_pattern_keeps_patients_together() -> None:
    labeled = labeled_set()
    made = make_validation(labeled, pattern=r'^(patient\d+)_')
    assert 'by 5 groups' in made.line
    by_split = {split: {image.file_name.split('_')[0] for image in labeled.images if image.split == split}
                for split in ('train', 'val')}
    assert not by_split['train'] & by_split['val']


@pytest.mark.parametrize(('pattern', 'message'), [
    ('(', 'is no regular expression'), ('nothing', 'matches none of the 20'), ('x' * 300, '300 characters'),
    ('patient', 'all 20 training images are in one group')])
def test_useless_patterns_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_validation(labeled_set(), pattern=pattern)


def test_pattern_of_exponential_time_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, '_SECONDS', 0.5)
    with pytest.raises(DataError, match='did not match 1 names within'):
        match_all('^(a+)+$', ['a' * 60 + 'b'])


def test_single_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match='has 1 images to train on and no validation split'):
        make_validation(labeled_set(1))
