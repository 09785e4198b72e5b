"""The fingerprint of data sets equals what NumPy says of all their images and labels."""
import shutil
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from helpers.fingerprints import LAPTOP
from helpers.own_sets import save, textured, write_boxes, write_classes, write_images, write_maps

from mae_backbone.data.decode import Decoding, read_image
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.planning import image_scan
from mae_backbone.planning.find_data import find_data
from mae_backbone.planning.fingerprint import Fingerprint, take_fingerprint
from mae_backbone.planning.make_plan import make_plan


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))


def fingerprint_of(root, task=None, **options) -> Fingerprint:
    return take_fingerprint(find_data(root, task), **options)


def test_pixels_and_sizes_are_those_of_all_images(tmp_path):
    paths = write_images(tmp_path / 'data', 5, (64, 48)) + write_images(tmp_path / 'data/wide', 4, (90, 20), seed=1)
    fingerprint = fingerprint_of(tmp_path / 'data')
    images = [cv2.imread(str(path))[..., ::-1].reshape(-1, 3).astype(float) for path in paths]
    mean = np.mean([image.mean(0) for image in images], axis=0)
    square = np.mean([(image ** 2).mean(0) for image in images], axis=0)
    assert fingerprint.task == 'pretraining'
    assert fingerprint.images == {'train': 9}
    assert fingerprint.mean == pytest.approx(mean, abs=0.01)
    assert fingerprint.std == pytest.approx(np.sqrt(square - mean ** 2), abs=0.01)
    assert (fingerprint.width['50'], fingerprint.short_side['1'], fingerprint.long_side['99']) == (64, 20, 90)
    assert (fingerprint.channels, fingerprint.bits, fingerprint.gray, fingerprint.mixed) == (3, 8, False, 0)


def test_objects_and_classes_of_a_detection_set(tmp_path):
    write_boxes(tmp_path, train=10, val=2, per_image=4, side=12)
    fingerprint = fingerprint_of(tmp_path)
    objects = fingerprint.objects
    assert (fingerprint.task, fingerprint.images, fingerprint.num_labeled) == ('detection', {'train': 10, 'val': 2}, 10)
    assert (objects.count, objects.has_masks, sum(fingerprint.class_counts)) == (40, True, 40)
    assert 9 <= objects.sides['1'] <= objects.sides['50'] <= objects.sides['99'] <= 15
    assert objects.ratios == dict.fromkeys(objects.ratios, 1.0)
    assert objects.per_image == {'50': 4, '99': 4, '99.9': 4, 'max': 4}
    assert objects.relative_sides['50'] == pytest.approx(objects.sides['50'] / 64, abs=1e-3)


def test_boxes_without_masks_are_told_from_boxes_with_masks(tmp_path):
    assert not fingerprint_of(write_boxes(tmp_path, masks=False)).objects.has_masks


def test_pixels_of_the_classes_of_label_maps(tmp_path):
    fingerprint = fingerprint_of(write_maps(tmp_path, train=6, size=(64, 40), rare=0.1))
    assert fingerprint.task == 'segmentation'
    assert fingerprint.class_counts == [6 * 64 * 16, 6 * 64 * 20, 6 * 64 * 4]
    assert fingerprint.imbalance == 5
    assert fingerprint.foreground == pytest.approx(0.5, abs=0.01)


def test_label_maps_without_labeled_pixels_do_not_count_as_images_of_rare_classes(tmp_path):
    write_maps(tmp_path, train=6, size=(64, 40), rare=0.1)
    for path in sorted(tmp_path.glob('annotations/training/*.png'))[:4]:
        save(path, np.full((40, 64), 255, np.uint8))
    assert fingerprint_of(tmp_path).foreground == pytest.approx(0.5, abs=0.01)


def test_pixels_of_label_maps_in_colors_follow_classes_txt(tmp_path):
    colors = {'sky': (0, 0, 0), 'road': (0, 99, 0), 'sign': (200, 0, 0)}
    write_maps(tmp_path, train=6, size=(64, 40), rare=0.1)
    for path in tmp_path.glob('annotations/*/*.png'):
        save(path, np.array([color[::-1] for color in colors.values()], np.uint8)[cv2.imread(str(path), -1)])
    for names in (['sky', 'road', 'sign'], ['sign', 'sky', 'road']):
        lines = ['{} #{:02x}{:02x}{:02x}\n'.format(name, *colors[name]) for name in names]
        (tmp_path / 'classes.txt').write_text(''.join(lines), encoding='utf-8')
        fingerprint = fingerprint_of(tmp_path)
        assert dict(zip(names, fingerprint.class_counts, strict=True)) == {
            'sky': 6 * 64 * 16, 'road': 6 * 64 * 20, 'sign': 6 * 64 * 4}


def test_images_of_class_folders(tmp_path):
    write_classes(tmp_path, train=5, val=2)
    shutil.rmtree(tmp_path / 'train/fox')
    write_images(tmp_path / 'train/fox', 2, seed=9)
    fingerprint = fingerprint_of(tmp_path)
    assert (fingerprint.task, fingerprint.classes, fingerprint.class_counts) == (
        'classification', ['cat', 'dog', 'fox'], [5, 5, 2])


def test_equal_files_and_similar_pictures_are_found(tmp_path):
    first, second, *_ = write_images(tmp_path / 'data', 6, (128, 96))
    shutil.copy(first, tmp_path / 'data/copy.png')
    picture = cv2.imread(str(second))
    save(tmp_path / 'data/small.jpg', cv2.resize(picture, (96, 72)))
    fingerprint = fingerprint_of(tmp_path / 'data')
    assert fingerprint.equal_images == 1
    assert fingerprint.similar_images == 2  # the copy looks like its original, too
    assert any('0000.png and copy.png' in note for note in fingerprint.notes)


def test_images_of_validation_in_training_are_leaks(tmp_path):
    write_classes(tmp_path, train=4, val=3)
    assert fingerprint_of(tmp_path).leaks == 0
    shutil.copy(tmp_path / 'train/cat/0000.png', tmp_path / 'val/cat/again.png')
    save(tmp_path / 'val/dog/jpeg.jpg', cv2.imread(str(tmp_path / 'train/dog/0001.png')))
    assert fingerprint_of(tmp_path).leaks == 2


def test_files_that_cannot_be_read_are_counted_and_named(tmp_path):
    write_images(tmp_path / 'data', 3)
    (tmp_path / 'data/broken.jpg').write_bytes(b'no image')
    (tmp_path / 'data/empty.png').write_bytes(b'')
    fingerprint = fingerprint_of(tmp_path / 'data')
    assert (fingerprint.unreadable, fingerprint.images) == (2, {'train': 3})
    assert any('broken.jpg' in note and 'empty.png' in note for note in fingerprint.notes)


def test_files_that_could_not_be_read_are_read_again(tmp_path, monkeypatch):
    write_images(tmp_path / 'data', 3)
    with monkeypatch.context() as patch:
        patch.setattr(image_scan, 'read_size', Mock(side_effect=PermissionError(13, 'Permission denied')))
        with pytest.raises(DataError, match=r'none of the 3 images can be read .*Permission denied'):
            fingerprint_of(tmp_path / 'data')
    assert fingerprint_of(tmp_path / 'data').images == {'train': 3}


def test_a_folder_without_a_readable_image_is_refused(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/broken.jpg').write_bytes(b'no image')
    with pytest.raises(DataError, match=r'none of the 1 images can be read for the training: .*broken\.jpg'):
        fingerprint_of(tmp_path / 'data')


@pytest.mark.parametrize('content', [b'no image', b'', b'\x80\x04N.'])
def test_a_file_that_is_no_numpy_file_is_not_to_be_unpickled(tmp_path, content: bytes):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/broken.npy').write_bytes(content)
    with pytest.raises(DataError, match=r'broken\.npy is not a NumPy file \(\.npy\) of numbers: replace'):
        fingerprint_of(tmp_path / 'data')


@pytest.mark.parametrize('kind', ['int16', 'uint32', 'float32'])
@pytest.mark.parametrize('file', ['scan.npy', 'bands.tif', 'gray.tif'])
def test_numbers_that_no_reader_reads_are_refused(tmp_path, kind: str, file: str):
    """Elevations and measurements of satellites have such numbers. They were to be copied again."""
    tifffile = pytest.importorskip('tifffile')
    (tmp_path / 'data').mkdir()
    pixels = np.zeros((16, 12) if file == 'gray.tif' else (16, 12, 6), kind)
    if file == 'scan.npy':
        np.save(tmp_path / 'data' / file, pixels)
    else:
        tifffile.imwrite(tmp_path / 'data' / file, pixels, photometric='minisblack')
    with pytest.raises(DataError, match=f'holds {kind} numbers, expected uint8 or uint16: scale them'):
        fingerprint_of(tmp_path / 'data')


def test_images_that_have_only_a_header_are_refused(tmp_path):
    write_images(tmp_path / 'data', 3)
    for path in (tmp_path / 'data').iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match='none of 3 sampled images can be decoded, such as'):
        fingerprint_of(tmp_path / 'data')


def test_unlabeled_images_count_once(tmp_path):
    write_boxes(tmp_path / 'data', train=5)
    write_images(tmp_path / 'more', 7, seed=4)
    assert fingerprint_of(tmp_path / 'data', unlabeled=tmp_path / 'more').num_pretraining == 12
    assert fingerprint_of(tmp_path / 'data', unlabeled=tmp_path / 'data/train').num_pretraining == 5


def test_channels_and_bits(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(3):
        save(tmp_path / f'deep/{index}.png', rng.integers(0, 4096, (20, 20, 3)).astype(np.uint16))
        save(tmp_path / f'gray/{index}.png', textured(rng, (24, 24))[..., 0])
        (tmp_path / 'bands').mkdir(exist_ok=True)
        np.save(tmp_path / f'bands/{index}.npy', rng.integers(0, 9000, (16, 12, 6)).astype(np.uint16))
    deep, gray, bands = (fingerprint_of(tmp_path / name) for name in ('deep', 'gray', 'bands'))
    assert (deep.channels, deep.bits, deep.value_range[1] > 255) == (3, 16, True)
    assert (gray.channels, gray.bits, gray.gray) == (1, 8, True)
    assert (bands.channels, bands.bits, len(bands.mean), bands.width['50']) == (6, 16, 6, 12)


@pytest.mark.parametrize('spread', [0.0, 4.0])
def test_normalization_of_16_bits_is_that_of_the_scaled_images(tmp_path, spread):
    rng = np.random.default_rng(0)
    for index in range(12):
        image = textured(rng, (64, 48))[..., 0] * 8.0 * 2 ** (spread * (index % 3 - 1))
        image[rng.random(image.shape) < 0.003] = 65535  # hot pixels
        save(tmp_path / f'data/{index}.png', image.astype(np.uint16))
    fingerprint = fingerprint_of(tmp_path / 'data')
    stage = make_plan(fingerprint, LAPTOP).training
    decoding = Decoding(**{option: tuple(stage.value('scaling of 16 bits')) for option in (
        ['percentiles'] if spread else ['value_range'])})
    pixels = np.stack([read_image(path, decoding) for path in (tmp_path / 'data').iterdir()])
    mean, std = stage.value('mean and std')
    assert mean == pytest.approx(3 * [pixels.mean()], abs=3)
    assert std == pytest.approx(3 * [pixels.std()], abs=3)


def test_flat_patches_and_borders(tmp_path):
    rng = np.random.default_rng(0)
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = rng.integers(0, 256, (64, 32, 3))
    save(tmp_path / 'a.png', image)
    fingerprint = fingerprint_of(tmp_path)
    assert fingerprint.flat == pytest.approx(0.5)
    assert fingerprint.border == pytest.approx(0.5)


def test_json_gives_the_same_fingerprint(tmp_path):
    fingerprint = fingerprint_of(write_boxes(tmp_path))
    assert Fingerprint.from_json(fingerprint.to_json()) == fingerprint
    with pytest.raises(ValueError, match='expected the JSON of a fingerprint'):
        Fingerprint.from_json('{"model": 3}')
