"""Image sets under a folder, and the classes that their folders are named after."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import ramp, save

from mae_backbone.data.files import packed
from mae_backbone.evaluation.imagenet_variants import SetImages, files_fingerprint, find_sets, skip_if_cropped

CLASSES = [f'n{i:08}' for i in range(12)]


def folders(root: Path, *names: str) -> Path:
    for name in names:
        save(root / name / 'image.png')
    return root


def labels(root: Path) -> dict[str, dict[str, int]]:
    return {image_set.name: image_set.labels for image_set in find_sets(root, CLASSES)}


def test_folders_named_after_some_of_the_classes(tmp_path: Path):
    folders(tmp_path / 'imagenet-a', 'n00000007', 'n00000002')
    (tmp_path / 'imagenet-a/README.txt').touch()
    assert labels(tmp_path / 'imagenet-a') == {'imagenet-a': {'n00000002': 2, 'n00000007': 7}}


def test_folders_named_by_indices(tmp_path: Path):
    folders(tmp_path / 'v2', *(str(i) for i in range(12)))
    assert labels(tmp_path / 'v2') == {'v2': {str(i): i for i in range(12)}}  # 10 is not the second


def test_strengths_of_corruptions_are_sets(tmp_path: Path):
    for strength in '12':
        folders(tmp_path / 'c/noise/shot_noise' / strength, CLASSES[3])
    folders(tmp_path / 'c/blur/zoom_blur/5', CLASSES[4])
    assert labels(tmp_path / 'c') == {'c/blur/zoom_blur/5': {CLASSES[4]: 4}, 'c/noise/shot_noise/1': {CLASSES[3]: 3},
                                      'c/noise/shot_noise/2': {CLASSES[3]: 3}}
    assert [*labels(tmp_path / 'c/noise/shot_noise')] == ['shot_noise/1', 'shot_noise/2']


def test_several_sets_in_one_folder(tmp_path: Path):
    folders(tmp_path, f'a/{CLASSES[0]}', 'v2/0', 'v2/11')
    assert [*find_sets(tmp_path, CLASSES)][1].labels == {'0': 0, '11': 11}
    assert len(find_sets(tmp_path, CLASSES)) == 2


def test_numeric_class_names_are_names_first(tmp_path: Path):
    folders(tmp_path / 'digits', '0', '1')
    assert find_sets(tmp_path / 'digits', ['1', '0'])[0].labels == {'0': 1, '1': 0}


def test_images_have_the_label_of_their_folder(tmp_path: Path):
    folders(tmp_path / 'set', CLASSES[5], CLASSES[1])
    save(tmp_path / 'set' / CLASSES[5] / 'deeper/2.png')
    images = SetImages(find_sets(tmp_path / 'set', CLASSES)[0], lambda image: torch.tensor(image.shape))
    assert [item['data_samples'] for item in images] == images.labels.tolist() == [1, 5, 5]
    assert images[0]['inputs'].tolist() == [48, 64, 3]


def test_images_of_the_right_size_are_not_transformed():
    image = ramp(24, 24)
    prepare = skip_if_cropped(lambda image: torch.zeros(3, 24, 24), (24, 24))
    assert torch.equal(prepare(image), torch.from_numpy(image).permute(2, 0, 1))
    assert not prepare(ramp(24, 25)).any()


def test_set_is_corrupted_if_its_folder_is_a_strength(tmp_path: Path):
    folders(tmp_path, f'c/shot_noise/3/{CLASSES[0]}', f'imagenet-r/{CLASSES[0]}')
    assert [image_set.is_corrupted for image_set in find_sets(tmp_path, CLASSES)] == [True, False]
    assert find_sets(tmp_path / 'c/shot_noise/3', CLASSES)[0].is_corrupted


def test_fingerprint_depends_on_names_times_sizes_and_labels(tmp_path: Path):
    paths = [save(tmp_path / f'{i}.png') for i in range(2)]
    files, labels = packed([*paths, 'in-a-shard.png']), np.array([0, 1, 1])
    prints = [files_fingerprint(files, labels), files_fingerprint(files[:2], labels[:2]),
              files_fingerprint(files, labels[::-1])]
    os.utime(paths[0], ns=(0, 1))
    prints.append(files_fingerprint(files, labels))
    save(paths[1], ramp(9, 9))
    prints.append(files_fingerprint(files, labels))
    assert len({*prints}) == 5
    assert files_fingerprint(files, labels) == prints[-1]


def test_folders_without_classes_are_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match='nowhere is not a folder'):
        find_sets(tmp_path / 'nowhere', CLASSES)
    folders(tmp_path / 'x', 'cat', 'dog')
    with pytest.raises(ValueError, match=r'x has no class folders: expected some of n00000000.*0 to 11.*cat, dog'):
        find_sets(tmp_path / 'x', CLASSES)
    folders(tmp_path / 'y', CLASSES[0], 'dog')
    with pytest.raises(ValueError, match=r'y has 1 folders that are not among the 12 classes of the model \(dog\)'):
        find_sets(tmp_path / 'y', CLASSES)
    folders(tmp_path / 'z', '0', '12')
    with pytest.raises(ValueError, match='z has no class folders'):
        find_sets(tmp_path / 'z', CLASSES)
