"""Images of every format that is read, and what reads them: readers of training, and the commands over a folder."""
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from fuzz.mutations import mutate_bytes, mutate_png
from fuzz.sandbox import Step
from helpers.image_files import photograph
from helpers.small_sets import coco_config
from helpers.tar_files import tar
from PIL import Image

from mae_backbone.cli.main import main
from mae_backbone.data.bit_depth import ValueRange
from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.data.decode import BadImageError
from mae_backbone.data.load_image import LoadImage
from mae_backbone.data.readers import ArrayReader, ColorReader, Reader, TiffReader
from mae_backbone.data.sources import open_source
from mae_backbone.data.unlabeled import UnlabeledImages
from mae_backbone.formats.image_headers import read_size

SEEDS_OF = ('jpeg', 'png', 'tiff', 'webp', 'bmp', 'gif', 'pnm', 'jpeg 2000', 'npy', 'bands', 'shard')
_READERS: dict[str, tuple[Reader, dict]] = {
    'npy': (ArrayReader(4, dtype='uint16'), dict(type='mae_backbone.ArrayReader', channels=4, dtype='uint16')),
    'bands': (TiffReader(5, dtype='uint16'), dict(type='mae_backbone.TiffReader', channels=5, dtype='uint16'))}
_COLOR = ColorReader(), dict(type='mae_backbone.ColorReader')
IMAGES_OF_FOLDER = 25  # that the commands read at once


def image_seeds(kind: str) -> dict[str, bytes]:
    """Small valid files of a kind, by names with their suffixes."""
    color = photograph(40, 56)
    gray, deep = color[..., 1], color.astype(np.uint16) * 200
    exif = Image.Exif()
    exif[0x0112] = 6
    bands = np.random.default_rng(0).integers(0, 4096, (5, 40, 56), dtype=np.uint16)
    return _SEEDS[kind](color, gray, deep, bands, exif.tobytes())


def _pil(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def _cv(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return data.tobytes()


def _jpeg(color: np.ndarray, gray: np.ndarray, deep: np.ndarray, bands: np.ndarray, exif: bytes) -> dict[str, bytes]:
    return {'a.jpg': _pil(color, 'JPEG'), 'b.jpg': _pil(color, 'JPEG', progressive=True), 'c.jpg': _pil(gray, 'JPEG'),
            'd.jpg': _pil(color, 'JPEG', exif=exif, subsampling=2, restart_marker_blocks=2),
            'e.jpg': _pil(Image.fromarray(color).convert('CMYK'), 'JPEG')}


def _png(color: np.ndarray, gray: np.ndarray, deep: np.ndarray, bands: np.ndarray, exif: bytes) -> dict[str, bytes]:
    palette = Image.fromarray(color).quantize(32)
    frames = [Image.fromarray(np.roll(color, shift, 1)) for shift in (3, 6)]
    return {'a.png': _pil(color, 'PNG'), 'b.png': _cv('.png', deep), 'c.png': _pil(palette, 'PNG', transparency=3),
            'd.png': _pil(gray, 'PNG', exif=exif), 'e.png': _pil(Image.fromarray(color).convert('RGBA'), 'PNG'),
            'f.png': _pil(color, 'PNG', save_all=True, append_images=frames)}


def _tiff(color: np.ndarray, gray: np.ndarray, deep: np.ndarray, bands: np.ndarray, exif: bytes) -> dict[str, bytes]:
    return {'a.tif': _tifffile(color), 'b.tif': _tifffile(deep, compression='zlib', tile=(16, 16)),
            'c.tif': _pil(gray, 'TIFF', compression='tiff_lzw'), 'd.tif': _pil(color, 'TIFF', compression='jpeg'),
            'e.tif': _tifffile(color, bigtiff=True), 'f.tif': _tifffile(deep, predictor=True, compression='zlib'),
            'g.tif': _pil(Image.fromarray(gray > 90), 'TIFF', compression='group4'),
            'h.tif': _tifffile(np.stack([gray] * 3), photometric='minisblack')}


def _tifffile(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


_SEEDS: dict[str, Callable[..., dict[str, bytes]]] = {
    'jpeg': _jpeg, 'png': _png, 'tiff': _tiff,
    'webp': lambda color, *_: {'a.webp': _pil(color, 'WEBP'), 'b.webp': _pil(color, 'WEBP', lossless=True),
                               'c.webp': _pil(Image.fromarray(color).convert('RGBA'), 'WEBP', exif=b'x' * 20)},
    'bmp': lambda color, gray, *_: {'a.bmp': _pil(color, 'BMP'), 'b.bmp': _pil(gray, 'BMP'),
                                    'c.bmp': _pil(Image.fromarray(gray > 90), 'BMP')},
    'gif': lambda color, gray, *_: {'a.png': _pil(color, 'GIF'), 'b.png': _pil(
        gray, 'GIF', save_all=True, append_images=[Image.fromarray(gray[::-1])])},
    'pnm': lambda color, gray, deep, *_: {'a.ppm': _cv('.ppm', color), 'b.pgm': _cv('.pgm', deep[..., 0]),
                                          'c.ppm': _cv('.ppm', color, cv2.IMWRITE_PXM_BINARY, 0)},
    'jpeg 2000': lambda color, gray, deep, *_: {'a.jp2': _pil(color, 'JPEG2000'), 'b.jp2': _cv('.jp2', deep)},
    'npy': lambda color, gray, deep, bands, _: {'a.npy': _npy(np.moveaxis(bands[:4], 0, -1)),
                                                'b.npy': _npy(np.asfortranarray(np.moveaxis(bands[:4], 0, -1)))},
    'bands': lambda color, gray, deep, bands, _: {
        'a.tif': _tifffile(bands, photometric='minisblack'),
        'b.tif': _tifffile(np.moveaxis(bands, 0, -1), photometric='minisblack', planarconfig='contig',
                           compression='zlib', tile=(16, 16)),
        'c.tif': _tifffile(bands, planarconfig='separate', photometric='minisblack', compression='lzma')},
    'shard': lambda color, gray, *_: {'a.tar': _shard(color, gray)}}


def _npy(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def _shard(color: np.ndarray, gray: np.ndarray) -> bytes:
    """Two images with their classes, one with a long name, and a member that is ignored."""
    small, long = color[:16, :16], 'x' * 120
    files = {'cat/1.jpg': _pil(small, 'JPEG'), 'cat/1.cls': b'0', f'{long}.png': _pil(gray[:16, :16], 'PNG'),
             f'{long}.json': b'{"label": 1}', 'n.txt': b'x'}
    with tempfile.TemporaryDirectory() as folder:
        return tar(Path(folder, 'a.tar'), files).read_bytes()


class ImageKind:
    """Mutated images of a kind.

    Args:
        kind: one of `SEEDS_OF`.
        folder: for the files.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.seeds = image_seeds(kind)
        self.reader, self.config = _READERS.get(kind, _COLOR)
        self.load = LoadImage()
        self.is_color = kind != 'shard' and self.reader is _COLOR[0]

    def write(self, index: int, rng: random.Random) -> Path:
        """Writes the mutated image of an index."""
        name, data = rng.choice(list(self.seeds.items())[:None if index else 1])
        path = self.folder / f'{index:06}{Path(name).suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((mutate_png if self.kind == 'png' else mutate_bytes)(data, rng) if index else data)
        return path

    def steps(self, path: Path, index: int) -> list[Step]:
        """Uses of a file by the readers."""
        uses: dict[str, Callable[[], object]] = {'reader': partial(self.read, path)}
        if self.kind == 'shard':
            uses = {'source': partial(read_source, path), 'labels': partial(read_labeled_shard, path)}
        elif self.is_color:
            uses |= {'pipeline': lambda: self.load.transform(dict(img_path=str(path))),
                     'header': lambda: read_size(str(path)), 'bit depth': lambda: ValueRange().add(path.read_bytes())}
        return [Step(path.name, target, use) for target, use in uses.items()]

    def read(self, path: Path) -> None:
        """What training reads: the size, then crops at several scales."""
        data = path.read_bytes()
        height, width = self.reader.size(data)
        self.reader.crop(data, (0, 0, height, width), (8, 8))
        top, left = height // 3, width // 3
        self.reader.crop(data, (top, left, max(1, height // 2), max(1, width // 2)), (32, 32))
        self.reader.crop(data, (0, 0, height, width), (height, width))

    def folder_steps(self, paths: Sequence[Path], work: Path, predict: tuple[Path, Path] | None) -> list[Step]:
        """The commands over a folder with some files, and one that is not mutated.

        Args:
            paths: the files.
            work: empty folder for the data and the results.
            predict: config and checkpoint of a trained model.
        """
        images, out = work / 'data' / 'cell', work / 'out'
        if self.kind == 'shard':
            return []
        images.mkdir(parents=True)
        name, data = next(iter(self.seeds.items()))
        (images / f'good{Path(name).suffix}').write_bytes(data)
        for path in paths:
            shutil.copy(path, images / path.name)
        reader = ['--reader', self.config['type'], *(f'{key}={value}' for key, value in self.config.items()
                                                     if key != 'type')]
        label = f'{paths[0].stem} to {paths[-1].stem}'
        uses: dict[str, Callable[[], object]] = {
            'measure': lambda: main(['measure', str(images), *(reader if not self.is_color else [])]),
            'pretraining data': lambda: self.pretraining_data(images)}
        if self.is_color:
            uses |= {'pack': lambda: main(['pack', str(images), str(out / 'shards'), '--workers', '1', '--verify',
                                           '--short-side', '16']),
                     'check': lambda: check(images, work / 'coco'),
                     'class folder': lambda: class_folder(images)}
            if predict:
                uses['predict'] = lambda: main(['predict', *map(str, predict), str(images), '-o', str(out / 'predict')])
        return [Step(label, target, use) for target, use in uses.items()]

    def pretraining_data(self, images: Path) -> None:
        """Every image as in pretraining, which replaces unreadable ones."""
        dataset = UnlabeledImages(images, image_size=16, reader=self.config, max_bad_share=1.0)
        for index in range(len(dataset)):
            assert dataset[index]['inputs'].shape[1:] == (16, 16)


def read_source(path: Path) -> None:
    """Every image of a shard, as in pretraining."""
    source = open_source(path)
    for index in range(len(source)):
        with suppress(BadImageError):
            _COLOR[0].size(source.read(index))


def read_labeled_shard(path: Path) -> None:
    """Every image of a labeled shard."""
    folder = path.with_suffix('')
    folder.mkdir()
    shutil.copy(path, folder / 'train.tar')
    dataset = ClassFolder(folder, 'train', train=False, image_size=16)
    for index in range(len(dataset)):
        with suppress(BadImageError):
            assert isinstance(dataset[index]['inputs'], torch.Tensor)


def check(images: Path, root: Path) -> int:
    """`mae-backbone check` of a detection data set with these images."""
    paths = sorted(images.iterdir())
    content = dict(
        images=[dict(id=i, file_name=path.name, width=56, height=40) for i, path in enumerate(paths, 1)],
        annotations=[dict(id=i, image_id=i, category_id=1, bbox=[2, 3, 8, 5], area=40, iscrowd=0,
                          segmentation=[[2, 3, 10, 3, 10, 8, 2, 8]]) for i in range(1, 1 + len(paths))],
        categories=[dict(id=1, name='cell')])
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        (root / 'annotations' / f'{split}.json').write_text(json.dumps(content))
        (root / split).symlink_to(images)
    coco_config(root).dump(str(root / 'config.py'))
    return main(['check', str(root / 'config.py'), '--workers', '1', '-o', str(root / 'samples.png')])


def class_folder(images: Path) -> None:
    """Every image of a class."""
    dataset = ClassFolder(images.parent, '', train=False, image_size=16)
    for index in range(len(dataset)):
        with suppress(BadImageError):
            dataset[index]
