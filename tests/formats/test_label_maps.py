import shutil
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.small_sets import SIZES, label_map_config, write_image, write_label_maps
from mmseg.registry import DATASETS
from PIL import Image

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.label_colors import LabelColors
from mae_backbone.formats import label_maps
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec, dataset_specs
from mae_backbone.formats.label_map_files import image_label_pairs, read_colors
from mae_backbone.formats.label_maps import LabelMaps, class_weights
from mae_backbone.planning.adapt_config import adapt_classes

ALL = '0..2 and 255 (ignored)'
LINE = 'train: 3 images with label maps of 3 classes, 3 inspected, 25.0% of the pixels ignored'


def spec_of(root: Path, **options) -> DatasetSpec:
    cfg = label_map_config(root, **options)
    adapt_classes(cfg)
    spec, = dataset_specs(cfg, 'train')
    return spec


def lines_of(root: Path, **options) -> list[str]:
    spec = spec_of(root, **options)
    return LabelMaps(spec).check(masks=False, labels=True)


def refused(root: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        lines_of(root, **options)
    assert len(str(caught.value)) < 900
    return str(caught.value)


def map_path(root: Path, name: str = 'b') -> Path:
    return root / 'annotations' / 'training' / f'{name}.png'


def save_map(root: Path, labels: np.ndarray, name: str = 'b') -> None:
    Image.fromarray(labels).save(map_path(root, name))


def labels_like(value: int, dtype: type = np.uint8, name: str = 'b') -> np.ndarray:
    width, height = SIZES[name]
    return np.full((height, width), value, dtype)


def test_valid_data_pass(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    assert lines_of(tmp_path) == [LINE]


@pytest.mark.parametrize('listed', [False, True])
def test_pairs_equal_mmsegs(tmp_path: Path, listed: bool) -> None:
    write_label_maps(tmp_path)
    for folder, suffix in (('images', '.jpg'), ('annotations', '.png')):
        below = tmp_path / folder / 'training' / 'below'
        below.mkdir()
        shutil.copy(tmp_path / folder / 'training' / f'a{suffix}', below / f'd{suffix}')
    (tmp_path / 'list.txt').write_text('b\nbelow/d\n', encoding='utf-8')
    spec = spec_of(tmp_path, **({'ann_file': 'list.txt'} if listed else {}))
    theirs = DATASETS.build({**spec.cfg, 'pipeline': []})
    assert len(theirs) == (2 if listed else 4)
    assert image_label_pairs(spec) == [(info['img_path'], info['seg_map_path']) for info in theirs]


@pytest.mark.parametrize('reduced', [False, True])
def test_accepted_labels_equal_the_labels_that_mmseg_passes_to_the_loss(tmp_path: Path, reduced: bool) -> None:
    """Of all numbers in a map, exactly those pass that mmseg turns into a class or into ignore_index."""
    write_label_maps(tmp_path)
    spec = spec_of(tmp_path, reduce_zero_label=reduced)
    theirs = DATASETS.build(dict(spec.cfg))
    for value in (*range(8), *range(248, 256)):
        save_map(tmp_path, labels_like(value))
        label, = np.unique(theirs[1]['gt_seg_map'])
        ours = LabelMaps(replace(spec, split='val'))  # in training, 255 in the other maps would be suspicious
        if label in (0, 1, 2, 255):
            ours.check(masks=False, labels=True)
        else:
            with pytest.raises(DataError, match=rf'b\.png: {value}\)'):
                ours.check(masks=False, labels=True)


def test_palette_images_are_read_by_their_indices(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    labels = Image.fromarray(labels_like(2)).convert('P')
    labels.putpalette([90, 80, 70] * 256)
    labels.save(map_path(tmp_path))
    assert cv2.imread(str(map_path(tmp_path)), cv2.IMREAD_UNCHANGED).ndim == 3  # which is why Pillow must read it
    lines_of(tmp_path)


@pytest.mark.parametrize(('labels', 'words'), [
    (np.zeros((32, 24, 3), np.uint8), 'b.png: 3 channels): save them as 8-bit PNG with one channel'),
    (np.zeros((32, 24, 4), np.uint8), '4 channels'),
    (labels_like(300, np.uint16), f'have labels outside of {ALL} ('),
    (labels_like(7), '1 of 3 inspected label maps have labels outside of'),
    (np.zeros((16, 12), np.uint8), 'have another size than their image ('),
    (np.zeros((24, 32), np.uint8), 'b.png: 32x24, the image is 24x32)')])
def test_unusable_maps_are_refused(tmp_path: Path, labels: np.ndarray, words: str) -> None:
    write_label_maps(tmp_path)
    save_map(tmp_path, labels)
    assert words in refused(tmp_path)


def test_floating_point_maps_are_refused(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    for path in (tmp_path / 'annotations/training').iterdir():
        path.unlink()
        width, height = SIZES[path.stem]
        Image.fromarray(np.ones((height, width), np.float32)).save(path.with_suffix('.tif'))
    assert 'a.tif: float32 numbers' in refused(tmp_path, seg_map_suffix='.tif')


@pytest.mark.parametrize('content', [b'', b'no image', None])
def test_unreadable_maps_are_named(tmp_path: Path, content: bytes | None) -> None:
    write_label_maps(tmp_path)
    path = map_path(tmp_path)
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    assert 'b.png: ' in refused(tmp_path)


def test_one_label_too_many_suggests_reduce_zero_label(tmp_path: Path) -> None:
    write_label_maps(tmp_path, labels=(0, 1, 2, 3))
    assert 'if 0 marks pixels of no class, set reduce_zero_label=True' in refused(tmp_path)
    assert lines_of(tmp_path, reduce_zero_label=True) == [LINE]


def test_ignored_label_zero_is_reported(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    assert lines_of(tmp_path, reduce_zero_label=True)[1:] == [
        'train: classes without a pixel (car): 1',
        'train: label 0 is ignored (reduce_zero_label=True), and no pixel has label 3: if 0 is sky, set '
        'reduce_zero_label=False in all data sets, and remove it from LoadAnnotations']


@pytest.mark.parametrize('labels', [(0, 255), (0,), (255,)])
def test_maps_of_one_class_are_refused(tmp_path: Path, labels: tuple[int, ...]) -> None:
    write_label_maps(tmp_path, labels=labels)
    assert 'in masks of 0 and 255, replace 255 by 1' in refused(tmp_path)


def test_single_class_is_refused(tmp_path: Path) -> None:
    write_label_maps(tmp_path, labels=(0, 255))
    (tmp_path / 'classes.txt').write_text('cell\n')
    assert 'have the single class cell, and a segmenter needs two or more' in refused(tmp_path)


def test_missing_partners_are_counted(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    map_path(tmp_path, 'a').unlink()
    message = refused(tmp_path)
    assert '1 of 3 images in' in message
    assert '(a.jpg); ' in message
    write_label_maps(tmp_path)
    (tmp_path / 'images/training/c.jpg').rename(tmp_path / 'images/training/c.jpeg')
    message = refused(tmp_path)
    assert '1 of 3 label maps in' in message
    assert 'contains 1 .jpeg, 2 .jpg' in message


def test_wrong_suffix_names_the_suffixes_present(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    assert "no images that end with '_rgb.png', it contains 3 .jpg" in refused(tmp_path, img_suffix='_rgb.png')


def test_missing_folders_and_lists_are_refused(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    assert 'list of images' in refused(tmp_path, ann_file='none.txt')
    (tmp_path / 'list.txt').write_text('a\nx\n', encoding='utf-8')
    assert '2 files of the 2 names in' in refused(tmp_path, ann_file='list.txt')
    shutil.rmtree(tmp_path / 'annotations')
    assert 'label map folder' in refused(tmp_path)


def test_contradicting_reduce_zero_label_is_refused(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True)]
    spec = spec_of(tmp_path)
    spec.cfg.pipeline = pipeline
    with pytest.raises(DataError, match='remove it from LoadAnnotations'):
        LabelMaps(spec).check(masks=False, labels=True)


def test_classes_without_names_are_refused(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    (tmp_path / 'classes.txt').unlink()
    assert 'classes.txt, one per line' in refused(tmp_path)


@pytest.mark.parametrize(('reduced', 'most'), [(False, 255), (True, 254)])
def test_num_classes_is_limited_by_8_bits(tmp_path: Path, reduced: bool, most: int) -> None:
    write_label_maps(tmp_path)
    (tmp_path / 'classes.txt').unlink()
    for count in (most, most + 1):
        options = dict(metainfo=dict(classes=[f'c{i}' for i in range(count)]), reduce_zero_label=reduced)
        spec = spec_of(tmp_path, **options)
        save_map(tmp_path, labels_like(count - 1 + reduced))
        label, = np.unique(DATASETS.build(dict(spec.cfg))[1]['gt_seg_map'])
        assert (label == count - 1 and label != 255) == (count == most)
        if count == most:
            assert f'{most} classes, 3 inspected' in lines_of(tmp_path, **options)[0]
        else:
            assert f'has {most + 1} classes, expected at most {most}' in refused(tmp_path, **options)


def test_only_a_part_of_a_large_set_is_inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_label_maps(tmp_path)
    monkeypatch.setattr(label_maps, 'NUM_INSPECTED', 2)
    assert lines_of(tmp_path) == [LINE.replace('3 inspected', '2 inspected')]


def test_image_that_breaks_during_the_comparison_is_named(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    write_image(tmp_path / 'images/training/b.jpg', SIZES['b'])
    (tmp_path / 'images/training/b.jpg').write_bytes(b'nothing')
    with pytest.raises(DataError, match='image cannot be read: '):
        LabelMaps(spec_of(tmp_path))._summaries()


def test_200_000_names_are_refused_in_a_second(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    (tmp_path / 'classes.txt').write_text('\n'.join(f'class number {i}' for i in range(200_000)))
    start = time.process_time()
    assert 'has 200000 classes, expected at most 255' in refused(tmp_path)
    assert time.process_time() - start < 1


# ---- colors

COLORS = 'sky #0000ff\nroad\t#808080\ncar #C80000\n- #000000\n- #ffffff\n'
RGB = np.array([(0, 0, 255), (128, 128, 128), (200, 0, 0), (0, 0, 0), (255, 255, 255)], np.uint8)
LABELS = np.array([0, 1, 2, 255, 255], np.uint8)


def write_colored(root: Path, *, alpha: bool = False) -> np.ndarray:
    """The street scenes with maps in colors; returns the labels of b."""
    write_label_maps(root)
    (root / 'classes.txt').write_text(COLORS, encoding='utf-8')
    for name, (width, height) in SIZES.items():
        which = np.arange(height * width).reshape(height, width) % 5
        pixels = RGB[which]
        save_map(root, np.dstack([pixels, np.full_like(pixels[..., :1], 9)]) if alpha else pixels, name)
    width, height = SIZES['b']
    return LABELS[np.arange(height * width).reshape(height, width) % 5]


@pytest.mark.parametrize('reduced', [False, True])
@pytest.mark.parametrize('alpha', [False, True])
def test_colors_become_labels(tmp_path: Path, alpha: bool, reduced: bool) -> None:
    """`reduce_zero_label` applies only to numbers."""
    labels = write_colored(tmp_path, alpha=alpha)
    spec = spec_of(tmp_path, reduce_zero_label=reduced)
    assert LabelMaps(spec).check(masks=False, labels=True) == [
        'train: 3 images with label maps of 3 classes, 3 inspected, 39.9% of the pixels ignored']
    theirs = DATASETS.build(dict(spec.cfg))
    assert np.array_equal(theirs[1]['gt_seg_map'], labels)
    assert theirs.metainfo['classes'] == ('sky', 'road', 'car')
    assert [tuple(color) for color in theirs.metainfo['palette']] == [(0, 0, 255), (128, 128, 128), (200, 0, 0)]


def test_maps_in_numbers_are_read_next_to_maps_in_colors(tmp_path: Path) -> None:
    write_colored(tmp_path)
    save_map(tmp_path, labels_like(2))
    spec = spec_of(tmp_path)
    assert len(LabelMaps(spec).check(masks=False, labels=True)) == 1
    assert np.unique(DATASETS.build(dict(spec.cfg))[1]['gt_seg_map']).tolist() == [2]


def test_read_colors_reads_only_the_header_of_maps_in_numbers(tmp_path: Path) -> None:
    """Once, and not twice, their pixels are decoded: by whom the numbers are for."""
    write_label_maps(tmp_path)
    path = map_path(tmp_path)
    path.write_bytes(path.read_bytes()[:60])
    with Image.open(path) as file, pytest.raises(OSError, match='truncated'):
        file.load()
    assert read_colors(str(path), LabelColors([(0, 0, 255)])) is None


def test_unknown_color_is_named_with_its_file(tmp_path: Path) -> None:
    write_colored(tmp_path)
    pixels = RGB[np.zeros(SIZES['b'][::-1], int)]
    pixels[3, 4:6] = 1, 2, 3
    save_map(tmp_path, pixels)
    assert ('1 of 3 inspected label maps have colors that no class has' in refused(tmp_path))
    assert 'b.png: 1 colors of no class: #010203 (2 pixels))' in refused(tmp_path)
    with pytest.raises(BadImageError, match=r'b\.png has 1 colors of no class: #010203'):
        DATASETS.build(dict(spec_of(tmp_path).cfg))[1]


def test_ade20k_data_set_with_colors_takes_the_classes_of_the_file(tmp_path: Path) -> None:
    labels = write_colored(tmp_path)
    cfg = label_map_config(tmp_path)
    cfg.train_dataloader.dataset.type = 'ADE20KDataset'
    adapt_classes(cfg)
    spec, = dataset_specs(cfg, 'train')
    assert np.array_equal(DATASETS.build(dict(spec.cfg))[1]['gt_seg_map'], labels)


def test_class_weights_are_square_roots_of_inverse_frequencies():
    weights = class_weights(np.array([400, 100, 25, 0]))
    assert weights == pytest.approx([0.5, 1, 2, 1])
    assert class_weights(np.array([400, 100, 25, 0]) * 7) == weights
    assert class_weights(np.zeros(2)) == [1.0, 1.0]


# ---- 255

def write_maps_of(root: Path, labels: dict[str, tuple[int, ...]], classes: tuple[str, ...]) -> None:
    write_label_maps(root)
    (root / 'classes.txt').write_text('\n'.join(classes), encoding='utf-8')
    for name, values in labels.items():
        width, height = SIZES[name]
        save_map(root, np.resize(np.array(values, np.uint8), (height, width)), name)


def test_class_that_is_255_in_some_maps_is_refused(tmp_path: Path) -> None:
    write_maps_of(tmp_path, {'a': (0, 1), 'b': (0, 255), 'c': (0, 255)}, ('background', 'thing'))
    assert '255, which marks pixels of no class, seems to stand for thing there' in refused(tmp_path)


def test_last_class_as_255_is_refused(tmp_path: Path) -> None:
    write_maps_of(tmp_path, dict.fromkeys('abc', (0, 1, 255)), ('left', 'right', 'thing'))
    assert 'no label map of training has label 2 (thing), but 3 of 3 have 255' in refused(tmp_path)


@pytest.mark.parametrize('labels', [
    {'a': (0, 1, 255), 'b': (0, 255), 'c': (0, 1)}, {'a': (0, 1, 255), 'b': (0, 1, 255), 'c': (0,)},
    {'a': (0, 1), 'b': (0, 1), 'c': (0,)}])
def test_ignored_pixels_next_to_a_class_are_accepted(tmp_path: Path, labels: dict[str, tuple[int, ...]]) -> None:
    write_maps_of(tmp_path, labels, ('background', 'thing'))
    assert 'of the pixels ignored' in lines_of(tmp_path)[0]


def test_validation_without_a_labeled_pixel_is_refused(tmp_path: Path) -> None:
    write_label_maps(tmp_path, labels=(255,))
    spec = replace(spec_of(tmp_path), split='val')
    with pytest.raises(DataError, match=r'val: the 3 inspected label maps contain only \[255\]'):
        LabelMaps(spec).check(masks=False, labels=True)
