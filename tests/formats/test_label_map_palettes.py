"""Label maps with palettes: by colors if classes have them, otherwise by indices."""
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import SIZES, label_map_config, write_label_maps
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image

from mae_backbone.formats.dataset_spec import DataError, dataset_specs
from mae_backbone.formats.import_data import import_data
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.formats.layouts.map_pairs import find_map_pairs
from mae_backbone.planning.adapt_config import adapt_classes

BLACK, RED, BLUE, GREEN = (0, 0, 0), (255, 0, 0), (0, 0, 255), (0, 255, 0)
COLORS = {BLACK: 0, RED: 1, BLUE: 2}
NAMED = 'background #000000\nred #ff0000\nblue #0000ff\n'
VOC = [BLACK, (128, 0, 0), (0, 128, 0)] + [(9, 9, 9)] * 252 + [(224, 224, 192)]
GRAY = [(level, level, level) for level in range(256)]


def save(path: Path, indices: list[int], palette: list[tuple[int, ...]]) -> None:
    image = Image.fromarray(np.resize(np.array(indices, np.uint8), np.asarray(Image.open(path)).shape[:2]))
    image.putpalette([value for color in palette for value in color])
    assert image.mode == 'P'
    image.save(path)


def write(root: Path, classes: str, *maps: tuple[list[int], list]) -> Config:
    """Three images and maps in both splits; the maps in the order a, b, c."""
    for split in ('training', 'validation'):
        write_label_maps(root, split)
        for name, (indices, palette) in zip(SIZES, maps * 3, strict=False):
            save(root / f'annotations/{split}/{name}.png', indices, palette)
    (root / 'classes.txt').unlink()
    if classes:
        (root / 'classes.txt').write_text(classes)
    cfg = label_map_config(root)
    if classes:
        adapt_classes(cfg)
    return cfg


def check(cfg: Config) -> None:
    spec, = dataset_specs(cfg, 'train')
    LabelMaps(spec).check(masks=False, labels=True)


def labels_everywhere(root: Path, cfg: Config, index: int = 0) -> list[int]:
    """Labels of a map: as checked, trained with, and imported."""
    check(cfg)
    spec, = dataset_specs(cfg, 'train')
    checked = LabelMaps(spec)._reader(str(root / 'annotations/training' / f'{"abc"[index]}.png'))
    trained = DATASETS.build(dict(spec.cfg))[index]['gt_seg_map']
    import_data(root, root.with_name('imported'), 'labelmaps')
    imported = np.asarray(Image.open(root.with_name('imported') / f'annotations/training/{"abc"[index]}.png'))
    assert np.array_equal(checked, trained)
    assert np.array_equal(checked, imported)
    return np.unique(checked).tolist()


@pytest.mark.parametrize(('indices', 'palette', 'expected'), [
    ([1, 0], [BLACK, BLUE, RED], [0, 2]),                      # the palette has another order than classes.txt
    ([1, 0], [BLACK, BLUE], [0, 2]),                           # a palette of the used colors only
    ([0, 1], [RED, BLUE], [1, 2]),
    ([0, 2], [BLACK, RED, BLUE], [0, 2]),                      # the same order
    ([0, 2, 255], [BLACK, RED, BLUE] + [BLACK] * 253, [0, 2, 255]),  # 255 has the color that fills the palette
    ([0, 2, 255], [BLACK, RED, BLUE] + [GREEN] * 253, [0, 2, 255]),  # 255 has no color of a class
    ([0, 1, 255], [BLACK, BLUE] + [GREEN] * 253 + [RED], [0, 1, 2])])
def test_palettes_are_read_by_their_colors_if_classes_have_these_colors(
        tmp_path: Path, indices: list[int], palette: list, expected: list[int]) -> None:
    cfg = write(tmp_path / 'data', NAMED, (indices, palette))
    assert labels_everywhere(tmp_path / 'data', cfg) == expected
    assert 'classes in colors' in find_map_pairs(tmp_path / 'data').lines()[0]


@pytest.mark.parametrize(('classes', 'palette'), [
    (NAMED, GRAY), (NAMED, GRAY[:3]), (NAMED, [(1, 2, 3), GREEN, (5, 5, 5)]), ('background\nred\nblue\n', VOC),
    ('background\nred\nblue\n', GRAY)])
def test_palettes_without_colors_of_classes_are_read_by_their_indices(
        tmp_path: Path, classes: str, palette: list) -> None:
    cfg = write(tmp_path / 'data', classes, ([0, 1, 2], palette))
    assert labels_everywhere(tmp_path / 'data', cfg) == [0, 1, 2]
    assert 'classes as numbers' in find_map_pairs(tmp_path / 'data').lines()[0]


def test_palettes_with_some_colors_of_classes_are_refused(tmp_path: Path) -> None:
    cfg = write(tmp_path, NAMED, ([0, 1, 2], [BLACK, GREEN, RED]))
    words = r'1 colors of no class in its palette \(index 1 #00ff00\), but other colors of classes'
    with pytest.raises(DataError, match=rf'a\.png: {words}'):
        check(cfg)
    with pytest.raises(DataError, match=words):
        import_data(tmp_path, tmp_path.with_name('imported'), 'labelmaps')


@pytest.mark.parametrize('classes', ['', 'background\nother\n'])
def test_indices_with_different_colors_in_two_maps_are_refused(tmp_path: Path, classes: str) -> None:
    """Programs that optimize the palette of each file write such maps."""
    cfg = write(tmp_path, classes, ([0, 1], [BLACK, RED]), ([0, 1], [BLACK, BLUE]))
    words = r'1 is #ff0000 in .*training/a\.png, but #0000ff in .*training/b\.png'
    with pytest.raises(DataError, match=words):
        find_map_pairs(tmp_path)
    if classes:
        with pytest.raises(DataError, match=words):
            check(cfg)


def test_map_of_ignored_pixels_has_no_colors_that_contradict_others(tmp_path: Path) -> None:
    cfg = write(tmp_path / 'data', NAMED, ([0, 2], [BLACK, RED, BLUE]), ([255], VOC))
    assert labels_everywhere(tmp_path / 'data', cfg, 1) == [255]


def test_palettes_without_colors_of_classes_next_to_palettes_with_them_are_refused(tmp_path: Path) -> None:
    cfg = write(tmp_path, NAMED, ([0, 1], [BLACK, RED]), ([0], [GREEN]))
    words = r'the palette of .*a\.png has colors of classes, but the palette of .*b\.png has none'
    with pytest.raises(DataError, match=words):
        check(cfg)
    with pytest.raises(DataError, match=words):
        find_map_pairs(tmp_path)
