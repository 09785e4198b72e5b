import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.small_sets import SIZES, label_map_config, write_image, write_label_maps
from mmseg.registry import DATASETS
from PIL import Image, UnidentifiedImageError

from mae_backbone.data.decode import BadImageError, read_image
from mae_backbone.data.label_colors import LabelColors
from mae_backbone.formats import label_maps
from mae_backbone.formats.dataset_spec import DataError, Source, sources
from mae_backbone.formats.label_maps import check_label_maps, image_size, pairs_of, read_colors
from mae_backbone.planning.adapt_config import fit_classes

ALL = '0..2 and 255 (ignored)'


def source_of(root: Path, **options) -> Source:
    cfg = label_map_config(root, **options)
    fit_classes(cfg)
    source, = sources(cfg, 'train')
    return source


def lines_of(root: Path, **options) -> list[str]:
    source = source_of(root, **options)
    return check_label_maps(source, pairs_of(source))


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


def test_whole_sets_pass(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    assert lines_of(tmp_path) == ['train: 3 images with label maps of 3 classes, 3 looked at']


@pytest.mark.parametrize('listed', [False, True])
def test_pairs_are_those_of_mmseg(tmp_path: Path, listed: bool) -> None:
    write_label_maps(tmp_path)
    for folder, suffix in (('images', '.jpg'), ('annotations', '.png')):
        below = tmp_path / folder / 'training' / 'below'
        below.mkdir()
        shutil.copy(tmp_path / folder / 'training' / f'a{suffix}', below / f'd{suffix}')
    (tmp_path / 'list.txt').write_text('b\nbelow/d\n', encoding='utf-8')
    source = source_of(tmp_path, **({'ann_file': 'list.txt'} if listed else {}))
    theirs = DATASETS.build({**source.cfg, 'pipeline': []})
    assert len(theirs) == (2 if listed else 4)
    assert pairs_of(source) == [(info['img_path'], info['seg_map_path']) for info in theirs]


@pytest.mark.parametrize('reduced', [False, True])
def test_what_passes_has_the_labels_that_mmseg_gives_to_the_loss(tmp_path: Path, reduced: bool) -> None:
    """Of all numbers in a map, exactly those pass that mmseg turns into a class or into ignore_index."""
    write_label_maps(tmp_path)
    source = source_of(tmp_path, reduce_zero_label=reduced)
    theirs = DATASETS.build(dict(source.cfg))
    for value in (*range(8), *range(248, 256)):
        save_map(tmp_path, labels_like(value))
        label, = np.unique(theirs[1]['gt_seg_map'])
        if label in (0, 1, 2, 255):
            lines_of(tmp_path, reduce_zero_label=reduced)
        else:
            assert f'b.png: {value})' in refused(tmp_path, reduce_zero_label=reduced)


def test_a_palette_counts_by_its_indices(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    labels = Image.fromarray(labels_like(2)).convert('P')
    labels.putpalette([90, 80, 70] * 256)
    labels.save(map_path(tmp_path))
    assert cv2.imread(str(map_path(tmp_path)), cv2.IMREAD_UNCHANGED).ndim == 3  # which is why Pillow must read it
    lines_of(tmp_path)


@pytest.mark.parametrize(('labels', 'words'), [
    (np.zeros((32, 24, 3), np.uint8), 'b.png: 3 channels): save them as PNG with one channel of 8 bits'),
    (np.zeros((32, 24, 4), np.uint8), '4 channels'),
    (labels_like(300, np.uint16), f'hold numbers outside of {ALL} ('),
    (labels_like(7), '1 of 3 label maps looked at hold numbers outside of'),
    (np.zeros((16, 12), np.uint8), 'have another size than their image ('),
    (np.zeros((24, 32), np.uint8), 'b.png: 32x24, the image is 24x32)')])
def test_maps_that_cannot_be_trained_on(tmp_path: Path, labels: np.ndarray, words: str) -> None:
    write_label_maps(tmp_path)
    save_map(tmp_path, labels)
    assert words in refused(tmp_path)


def test_numbers_with_a_fraction_are_refused(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    for path in (tmp_path / 'annotations/training').iterdir():
        path.unlink()
        width, height = SIZES[path.stem]
        Image.fromarray(np.ones((height, width), np.float32)).save(path.with_suffix('.tif'))
    assert 'a.tif: float32 numbers' in refused(tmp_path, seg_map_suffix='.tif')


@pytest.mark.parametrize('content', [b'', b'no image', None])
def test_maps_that_cannot_be_read_are_named(tmp_path: Path, content: bytes | None) -> None:
    write_label_maps(tmp_path)
    path = map_path(tmp_path)
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    assert 'b.png: ' in refused(tmp_path)


def test_one_number_too_many_suggests_that_zero_is_no_class(tmp_path: Path) -> None:
    write_label_maps(tmp_path, labels=(0, 1, 2, 3))
    assert 'if 0 stands for no class, set reduce_zero_label=True' in refused(tmp_path)
    assert lines_of(tmp_path, reduce_zero_label=True) == ['train: 3 images with label maps of 3 classes, 3 looked at']


def test_zero_ignored_by_mistake_is_said(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    assert lines_of(tmp_path, reduce_zero_label=True)[1:] == [
        'train: classes without a pixel there (car): 1',
        'train: label 0 is ignored (reduce_zero_label=True), and there is no label 3: if 0 is sky, set '
        'reduce_zero_label=False of all data sets, and none in LoadAnnotations']


@pytest.mark.parametrize('labels', [(0, 255), (0,), (255,)])
def test_maps_without_a_difference_are_refused(tmp_path: Path, labels: tuple[int, ...]) -> None:
    write_label_maps(tmp_path, labels=labels)
    assert 'masks of 0 and 255 must become 0 and 1' in refused(tmp_path)


def test_partners_that_are_missing_are_counted(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    map_path(tmp_path, 'a').unlink()
    message = refused(tmp_path)
    assert '1 of 3 images in' in message
    assert '(a.jpg); ' in message
    write_label_maps(tmp_path)
    (tmp_path / 'images/training/c.jpg').rename(tmp_path / 'images/training/c.jpeg')
    message = refused(tmp_path)
    assert '1 of 3 label maps in' in message
    assert 'holds 1 .jpeg, 2 .jpg' in message


def test_no_images_says_which_there_are(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    assert "no images that end with '_rgb.png', it holds 3 .jpg" in refused(tmp_path, img_suffix='_rgb.png')


def test_missing_folders_and_lists_are_said(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    assert 'list of images' in refused(tmp_path, ann_file='none.txt')
    (tmp_path / 'list.txt').write_text('a\nx\n', encoding='utf-8')
    assert '2 files for the 2 names in' in refused(tmp_path, ann_file='list.txt')
    shutil.rmtree(tmp_path / 'annotations')
    assert 'folder of label maps' in refused(tmp_path)


def test_two_voices_on_the_zero_label_are_refused(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True)]
    source = source_of(tmp_path)
    source.cfg.pipeline = pipeline
    with pytest.raises(DataError, match='remove it from LoadAnnotations'):
        check_label_maps(source, pairs_of(source))


def test_classes_without_names_are_asked_for(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    (tmp_path / 'classes.txt').unlink()
    assert 'classes.txt, one a line' in refused(tmp_path)


@pytest.mark.parametrize(('reduced', 'most'), [(False, 255), (True, 254)])
def test_as_many_classes_are_allowed_as_mmseg_can_tell_apart(tmp_path: Path, reduced: bool, most: int) -> None:
    write_label_maps(tmp_path)
    for count in (most, most + 1):
        (tmp_path / 'classes.txt').write_text('\n'.join(f'c{i}' for i in range(count)))
        source = source_of(tmp_path, reduce_zero_label=reduced)
        save_map(tmp_path, labels_like(count - 1 + reduced))
        label, = np.unique(DATASETS.build(dict(source.cfg))[1]['gt_seg_map'])
        assert (label == count - 1 and label != 255) == (count == most)
        if count == most:
            assert f'{most} classes, 3 looked at' in lines_of(tmp_path, reduce_zero_label=reduced)[0]
        else:
            assert f'has {most + 1} classes, wanted at most {most}' in refused(tmp_path, reduce_zero_label=reduced)


def test_of_large_sets_some_maps_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_label_maps(tmp_path)
    monkeypatch.setattr(label_maps, 'LOOKED_AT', 2)
    assert lines_of(tmp_path) == ['train: 3 images with label maps of 3 classes, 2 looked at']


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp', '.bmp', '.jp2'])
@pytest.mark.parametrize('orientation', [None, 1, 3, 6, 8])
def test_sizes_are_those_of_the_image_as_read(tmp_path: Path, suffix: str, orientation: int | None) -> None:
    path = tmp_path / f'image{suffix}'
    exif = Image.Exif()
    if orientation is not None and suffix not in ('.bmp', '.jp2'):
        exif[0x0112] = orientation
    Image.new('RGB', (40, 30)).save(path, exif=exif)
    assert image_size(str(path)) == read_image(path).shape[1::-1]


def test_sizes_without_pillow_come_from_opencv(tmp_path: Path) -> None:
    path = tmp_path / 'image.pam'
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    path.write_bytes(cv2.imencode('.pam', pixels)[1].tobytes())
    with pytest.raises(UnidentifiedImageError):
        Image.open(path)
    assert image_size(str(path)) == (40, 30)


def test_an_image_that_breaks_while_its_map_is_compared_is_named(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    write_image(tmp_path / 'images/training/b.jpg', SIZES['b'])
    (tmp_path / 'images/training/b.jpg').write_bytes(b'nothing')
    assert 'image cannot be read: ' in refused(tmp_path)


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
def test_colors_become_the_numbers_of_the_classes(tmp_path: Path, alpha: bool, reduced: bool) -> None:
    """Whether zero is reduced is a question of numbers alone."""
    labels = write_colored(tmp_path, alpha=alpha)
    source = source_of(tmp_path, reduce_zero_label=reduced)
    assert check_label_maps(source, pairs_of(source)) == [
        'train: 3 images with label maps of 3 classes, 3 looked at']
    theirs = DATASETS.build(dict(source.cfg))
    assert np.array_equal(theirs[1]['gt_seg_map'], labels)
    assert theirs.metainfo['classes'] == ('sky', 'road', 'car')
    assert [tuple(color) for color in theirs.metainfo['palette']] == [(0, 0, 255), (128, 128, 128), (200, 0, 0)]


def test_numbers_stay_numbers_beside_colors(tmp_path: Path) -> None:
    write_colored(tmp_path)
    save_map(tmp_path, labels_like(2))
    source = source_of(tmp_path)
    assert len(check_label_maps(source, pairs_of(source))) == 1
    assert np.unique(DATASETS.build(dict(source.cfg))[1]['gt_seg_map']).tolist() == [2]


def test_of_numbers_beside_colors_the_head_alone_is_read(tmp_path: Path) -> None:
    """Once, and not twice, their pixels are decoded: by whom the numbers are for."""
    write_label_maps(tmp_path)
    path = map_path(tmp_path)
    path.write_bytes(path.read_bytes()[:60])
    with Image.open(path) as file, pytest.raises(OSError, match='truncated'):
        file.load()
    assert read_colors(str(path), LabelColors([(0, 0, 255)])) is None


def test_a_color_of_no_class_is_named_with_its_file(tmp_path: Path) -> None:
    write_colored(tmp_path)
    pixels = RGB[np.zeros(SIZES['b'][::-1], int)]
    pixels[3, 4:6] = 1, 2, 3
    save_map(tmp_path, pixels)
    assert ('1 of 3 label maps looked at hold colors that no class has' in refused(tmp_path))
    assert 'b.png: 1 colors of no class: #010203 (2 pixels))' in refused(tmp_path)
    with pytest.raises(BadImageError, match=r'b\.png holds 1 colors of no class: #010203'):
        DATASETS.build(dict(source_of(tmp_path).cfg))[1]


def test_a_set_of_mmseg_with_colors_takes_the_classes_of_the_file(tmp_path: Path) -> None:
    labels = write_colored(tmp_path)
    cfg = label_map_config(tmp_path)
    cfg.train_dataloader.dataset.type = 'ADE20KDataset'
    fit_classes(cfg)
    source, = sources(cfg, 'train')
    assert np.array_equal(DATASETS.build(dict(source.cfg))[1]['gt_seg_map'], labels)
