"""Which sets a folder holds, and which classes their folders stand for."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import ramp, save

from mae_backbone.data.files import packed
from mae_backbone.evaluation.imagenet_variants import SetImages, find_sets, fingerprint, unless_cut_out

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


def test_images_of_the_right_size_are_taken_as_they_are():
    image = ramp(24, 24)
    prepare = unless_cut_out(lambda image: torch.zeros(3, 24, 24), (24, 24))
    assert torch.equal(prepare(image), torch.from_numpy(image).permute(2, 0, 1))
    assert not prepare(ramp(24, 25)).any()


def test_a_set_is_corrupted_where_its_folder_is_a_strength(tmp_path: Path):
    folders(tmp_path, f'c/shot_noise/3/{CLASSES[0]}', f'imagenet-r/{CLASSES[0]}')
    assert [one.is_corrupted for one in find_sets(tmp_path, CLASSES)] == [True, False]
    assert find_sets(tmp_path / 'c/shot_noise/3', CLASSES)[0].is_corrupted


def test_files_and_labels_are_told_from_others(tmp_path: Path):
    paths = [save(tmp_path / f'{i}.png') for i in range(2)]
    files, labels = packed([*paths, 'in-a-shard.png']), np.array([0, 1, 1])
    prints = [fingerprint(files, labels), fingerprint(files[:2], labels[:2]), fingerprint(files, labels[::-1])]
    os.utime(paths[0], ns=(0, 1))
    prints.append(fingerprint(files, labels))
    save(paths[1], ramp(9, 9))
    prints.append(fingerprint(files, labels))
    assert len({*prints}) == 5
    assert fingerprint(files, labels) == prints[-1]


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
