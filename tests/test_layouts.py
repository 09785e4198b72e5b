"""Which sets a folder holds, and which classes their folders stand for."""
from pathlib import Path

import pytest
import torch
from image_files import save

from mae_backbone.robustness.layouts import SetImages, find_sets

CLASSES = [f'n{i:08}' for i in range(12)]


def folders(root: Path, *names: str) -> Path:
    for name in names:
        save(root / name / 'image.png')
    return root


def labels(root: Path) -> dict[str, dict[str, int]]:
    return {one.name: one.labels for one in find_sets(root, CLASSES)}


def test_some_of_the_classes_by_their_names(tmp_path: Path):
    folders(tmp_path / 'imagenet-a', 'n00000007', 'n00000002')
    (tmp_path / 'imagenet-a/README.txt').touch()
    assert labels(tmp_path / 'imagenet-a') == {'imagenet-a': {'n00000002': 2, 'n00000007': 7}}


def test_all_classes_by_their_numbers(tmp_path: Path):
    folders(tmp_path / 'v2', *(str(i) for i in range(12)))
    assert labels(tmp_path / 'v2') == {'v2': {str(i): i for i in range(12)}}  # 10 is not the second


def test_corruptions_and_strengths(tmp_path: Path):
    for strength in '12':
        folders(tmp_path / 'c/noise/shot_noise' / strength, CLASSES[3])
    folders(tmp_path / 'c/blur/zoom_blur/5', CLASSES[4])
    assert labels(tmp_path / 'c') == {'c/blur/zoom_blur/5': {CLASSES[4]: 4}, 'c/noise/shot_noise/1': {CLASSES[3]: 3},
                                      'c/noise/shot_noise/2': {CLASSES[3]: 3}}
    assert [*labels(tmp_path / 'c/noise/shot_noise')] == ['shot_noise/1', 'shot_noise/2']


def test_several_sets_in_a_folder(tmp_path: Path):
    folders(tmp_path, f'a/{CLASSES[0]}', 'v2/0', 'v2/11')
    assert [*find_sets(tmp_path, CLASSES)][1].labels == {'0': 0, '11': 11}
    assert len(find_sets(tmp_path, CLASSES)) == 2


def test_classes_that_are_numbers_are_names(tmp_path: Path):
    folders(tmp_path / 'digits', '0', '1')
    assert find_sets(tmp_path / 'digits', ['1', '0'])[0].labels == {'0': 1, '1': 0}


def test_images_carry_their_labels(tmp_path: Path):
    folders(tmp_path / 'set', CLASSES[5], CLASSES[1])
    save(tmp_path / 'set' / CLASSES[5] / 'deeper/2.png')
    images = SetImages(find_sets(tmp_path / 'set', CLASSES)[0], lambda image: torch.tensor(image.shape))
    assert [item['data_samples'] for item in images] == images.labels.tolist() == [1, 5, 5]
    assert images[0]['inputs'].tolist() == [48, 64, 3]


def test_what_is_no_set_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
        find_sets(tmp_path / 'nowhere', CLASSES)
    folders(tmp_path / 'x', 'cat', 'dog')
    with pytest.raises(ValueError, match=r'x holds no folders of classes: wanted some of n00000000.*0 to 11.*cat, dog'):
        find_sets(tmp_path / 'x', CLASSES)
    folders(tmp_path / 'y', CLASSES[0], 'dog')
    with pytest.raises(ValueError, match=r'y has 1 folders that are none of the 12 classes of the model \(dog\)'):
        find_sets(tmp_path / 'y', CLASSES)
    folders(tmp_path / 'z', '0', '12')
    with pytest.raises(ValueError, match='z holds no folders of classes'):
        find_sets(tmp_path / 'z', CLASSES)
