import os
import pickle
import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.model import ImgDataPreprocessor
from PIL import Image, ImageOps
from torch.utils.data import DataLoader
from torchvision.transforms import RandomResizedCrop

from mae_backbone.data import IMAGE_SUFFIXES, BadImage, ClassFolder, UnlabelledImages, list_images, read_image
from mae_backbone.registry import DATASETS


def ramp(height: int = 48, width: int = 64) -> np.ndarray:
    """Red grows to the right, green downwards: every crop, flip and turn of it looks different."""
    image = np.full((height, width, 3), 100, np.uint8)
    image[..., 0] = np.linspace(0, 255, width).round()
    image[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return image


def save(path: Path, pixels: np.ndarray | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ramp() if pixels is None else pixels).save(path, **options)
    return path


def make_classes(root: Path, **counts: int) -> Path:
    for label, (name, count) in enumerate(counts.items()):
        for i in range(count):
            save(root / name / f'{i:03}.png', np.full((8, 8, 3), 50 * label + i, np.uint8))
    return root


def difference(one: np.ndarray | torch.Tensor, two: np.ndarray | torch.Tensor) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(two).astype(int)).max())


# ---- list_images

def test_lists_images_of_all_depths_sorted_and_without_hidden_or_foreign_files(tmp_path):
    wanted = ['a.JPG', 'b/c/d.png', 'b/e.TiFF', 'z.webp', 'ünï/ç 日本.jpeg']
    for name in [*wanted, '.hidden.jpg', '._a.JPG', '.cache/f.jpg', 'b/notes.txt', 'jpg', 'g.jpg/h.csv']:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(str(tmp_path))] == wanted
    assert list_images(tmp_path) == sorted(list_images(tmp_path), key=str)


@pytest.mark.parametrize('suffix', IMAGE_SUFFIXES)
def test_every_suffix_of_the_list_is_one_that_is_read(tmp_path, suffix):
    path = tmp_path / f'image{suffix}'
    path.write_bytes(cv2.imencode(suffix, ramp()[..., 0] if suffix == '.pgm' else ramp())[1].tobytes())
    assert read_image(list_images(tmp_path)[0]).shape == (48, 64, 3)


def test_links_are_followed_once_and_pipes_are_no_images(tmp_path):
    save(tmp_path / 'elsewhere/a.png')
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere/loop').symlink_to(root)
    (root / 'broken.png').symlink_to(tmp_path / 'gone.png')
    os.mkfifo(root / 'pipe.png')
    assert list_images(root) == [root / 'broken.png', root / 'linked/a.png']


def test_what_is_no_folder_of_images_is_refused_with_advice(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone does not exist: .*--data-root DIR'):
        list_images(tmp_path / 'gone')
    with pytest.raises(NotADirectoryError, match=r'a.png is a file, wanted a folder: .*--data-root DIR'):
        list_images(save(tmp_path / 'a.png'))
    for name in ('1.txt', '2.TXT', '3.csv', 'README'):
        (tmp_path / f'texts/{name}').parent.mkdir(exist_ok=True)
        (tmp_path / f'texts/{name}').touch()
    with pytest.raises(ValueError, match=r'texts holds no images.*: 4 \(2 .txt, 1 .csv, 1 \(none\)\).*--data-root DIR'):
        list_images(tmp_path / 'texts')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match=r'empty holds no images.*: 0 \(none at all\)'):
        list_images(tmp_path / 'empty')


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    save(tmp_path / 'open/a.png')
    locked, scandir = tmp_path / 'locked', os.scandir
    locked.mkdir()

    def refuse(path):  # permissions do not bind root, who may run this
        if str(path) == str(locked):
            raise PermissionError(13, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(PermissionError, match=r'locked may not be read .*chmod u\+rx'):
        list_images(tmp_path)


# ---- read_image

@pytest.mark.parametrize(('mode', 'suffix'), [
    ('L', '.png'), ('L', '.jpg'), ('LA', '.png'), ('P', '.png'), ('P', '.tif'), ('1', '.png'), ('1', '.tif'),
    ('RGB', '.png'), ('RGB', '.bmp'), ('RGB', '.ppm'), ('RGB', '.tif'), ('RGBA', '.png'), ('RGBA', '.bmp'),
    ('CMYK', '.jpg'), ('CMYK', '.tif'),
])
def test_colour_models_become_rgb(tmp_path, mode, suffix):
    image = Image.fromarray(ramp()).convert(mode)
    if mode in ('LA', 'RGBA'):
        image.putalpha(Image.fromarray(ramp()[..., 1]))
    image.save(tmp_path / f'a{suffix}', quality=95)
    pixels = read_image(tmp_path / f'a{suffix}')
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert difference(pixels, image.convert('RGB')) <= (4 if suffix == '.jpg' else 0)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_keep_the_upper_8(tmp_path, suffix, channels):
    pixels = np.random.default_rng(0).integers(0, 2**16, (9, 7, channels), dtype=np.uint16)
    path = tmp_path / f'a{suffix}'
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    rgb = pixels[..., :3][..., ::-1] if channels > 1 else pixels.repeat(3, axis=-1)
    np.testing.assert_array_equal(read_image(path), rgb >> 8)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f'a{suffix}', exif=exif)
    with Image.open(path) as image:
        upright = np.array(ImageOps.exif_transpose(image))
    assert read_image(path).shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    assert difference(read_image(path), upright) <= 4


def test_names_may_be_unicode_and_suffixes_wrong(tmp_path):
    path = save(tmp_path / 'ünï 日本.jpg', format='PNG')
    np.testing.assert_array_equal(read_image(str(path)), ramp())


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif'])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.6, 0.97])
def test_cut_off_files_are_bad(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f'a{suffix}', noise)
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    reason = {'.jpg': 'is a JPEG cut off', '.png': 'is a PNG cut off'}.get(suffix, '')
    with pytest.raises(BadImage, match=rf'a{suffix} {reason}.*remove it'):
        read_image(path)


def jpeg_with_preview(tmp_path: Path) -> bytes:
    """A JPEG whose header holds a whole smaller JPEG, with an end marker, as cameras write it."""
    preview = save(tmp_path / 'preview.jpg', ramp(12, 16)).read_bytes()
    whole = save(tmp_path / 'whole.jpg', progressive=True).read_bytes()
    return whole[:2] + b'\xff\xff\xe1' + struct.pack('>H', 2 + len(preview)) + preview + whole[2:]


def test_a_jpeg_is_whole_by_its_own_end_and_not_by_that_of_its_preview(tmp_path, monkeypatch):
    data, path = jpeg_with_preview(tmp_path), tmp_path / 'a.jpg'
    # What phones append may look like anything.
    for tail in (b'', bytes(5000), b'\xff\xda\xff\xda'):
        path.write_bytes(data + tail)
        assert difference(read_image(path), read_image(tmp_path / 'whole.jpg')) == 0
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: ramp())  # as versions of OpenCV do that paint the rest grey
    for length in (len(data) - 1, len(data) - 300, len(data) - 900):
        path.write_bytes(data[:length])
        with pytest.raises(BadImage, match=f'is a JPEG cut off after {length} bytes'):
            read_image(path)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


@pytest.mark.parametrize(('data', 'reason'), [
    (b'', r'is empty \(0 bytes\)'),
    (b'<html>404</html>', r"no image that OpenCV can decode, it begins with b'<html>404</h'"),
    (b'\xff\xd8', 'is a JPEG cut off after 2 bytes'),
    (b'\xff\xd8\xff\xe0\0\0\xff\xe0', 'is a JPEG cut off after 8 bytes'),
    (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 40_000, 40_000, 8, 0, 0, 0, 0))
     + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b''), r'refused by OpenCV: .*PIXELS'),
    (cv2.imencode('.tif', ramp().astype(np.float32))[1].tobytes(), r'holds float32 numbers.*0\.\.255'),
], ids=['empty', 'html', 'two bytes', 'header', 'a gigapixel', 'floats'])
def test_what_is_no_image_is_bad_and_named(tmp_path, data, reason):
    path = tmp_path / 'x.jpg'
    path.write_bytes(data)
    with pytest.raises(BadImage, match=rf'x\.jpg .*{reason}'):
        read_image(path)


def test_a_missing_file_is_an_os_error_with_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        read_image(tmp_path / 'gone.jpg')


# ---- UnlabelledImages

@pytest.mark.parametrize('image_size', [16, (16, 32), [40, 96]])
@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
def test_items_are_uint8_planes_of_the_size_asked_for(tmp_path, image_size, interpolation):
    for i, size in enumerate([(48, 64), (1, 1), (1, 200), (200, 1), (16, 32)]):
        save(tmp_path / f'{i}.png', ramp(*size))
    images = UnlabelledImages(tmp_path, image_size=image_size, interpolation=interpolation)
    assert len(images) == 5
    for item in images:
        assert list(item) == ['inputs']
        assert item['inputs'].dtype == torch.uint8
        assert item['inputs'].is_contiguous()
        assert item['inputs'].shape == (3, *([image_size] * 2 if isinstance(image_size, int) else image_size))


def test_a_seed_fixes_the_items_and_only_torch_is_drawn_from(tmp_path):
    images = UnlabelledImages(save(tmp_path / 'a.png').parent, image_size=16)

    def five(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([images[0]['inputs'] for _ in range(5)])

    python, numpy = random.getstate(), np.random.get_state()[1].tolist()
    assert five(0).equal(five(0))
    assert not five(0).equal(five(1))
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy


@pytest.mark.parametrize('size', [(48, 64), (300, 200), (16, 16)])
def test_an_item_is_the_crop_that_pil_would_give(tmp_path, size):
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8), (0, 0), 1)
    images = UnlabelledImages(save(tmp_path / 'a.png', pixels).parent, image_size=(32, 40), flip=0)
    for seed in range(5):
        torch.manual_seed(seed)
        top, left, height, width = RandomResizedCrop.get_params(Image.fromarray(pixels), (0.2, 1), (3 / 4, 4 / 3))
        crop = Image.fromarray(pixels[top:top + height, left:left + width]).resize((40, 32), Image.Resampling.BICUBIC)
        torch.manual_seed(seed)
        assert difference(images[0]['inputs'].permute(1, 2, 0), crop) <= 2


def test_crops_keep_to_the_range_of_areas_and_fill_it(tmp_path):
    wide = save(tmp_path / 'a.png', ramp(256, 256)).parent
    for low, high in ((0.2, 1.0), (0.5, 0.6), (0.05, 0.1)):
        images = UnlabelledImages(wide, image_size=64, scale=(low, high), flip=0)
        torch.manual_seed(0)
        crops = torch.stack([images[0]['inputs'] for _ in range(100)]).float()
        # Red and green are ramps: what they span is the width and height of the crop, less half a pixel on each side.
        spans = (crops.amax(dim=(2, 3)) - crops.amin(dim=(2, 3)))[:, :2] / 255 * 64 / 63
        areas = spans.prod(dim=1)
        assert low - 0.03 < areas.min() <= areas.max() < high + 0.03
        assert areas.max() - areas.min() > 0.5 * (high - low)


def test_flipped_items_are_mirror_images(tmp_path):
    save(tmp_path / 'a.png')

    def items(flip: float) -> torch.Tensor:
        torch.manual_seed(0)
        images = UnlabelledImages(tmp_path, image_size=16, flip=flip)
        return torch.stack([images[0]['inputs'] for _ in range(200)])

    straight, mirrored, mixed = items(0), items(1), items(0.5)
    assert mirrored.equal(straight.flip(-1))
    is_flipped = (mixed == mirrored).flatten(1).all(dim=1)
    assert (is_flipped | (mixed == straight).flatten(1).all(dim=1)).all()
    assert 70 < is_flipped.sum() < 130  # four standard deviations


def make_set(root: Path, *, good: int, bad: int) -> Path:
    """Good images of one grey each, 100 and up, behind bad ones."""
    root.mkdir(exist_ok=True)
    for i in range(bad):
        (root / f'bad{i:03}.jpg').write_bytes(b'')
    for i in range(good):
        save(root / f'good{i:03}.png', np.full((8, 8, 3), 100 + i % 150, np.uint8))
    return root


def test_a_bad_image_is_replaced_by_another_and_logged_once(tmp_path, caplog):
    make_set(tmp_path, good=100, bad=1)
    (tmp_path / 'good050.png').unlink()
    images = UnlabelledImages(tmp_path, image_size=8)
    (tmp_path / 'good051.png').unlink()  # while training

    def epochs() -> list[int]:
        torch.manual_seed(0)
        return [int(images[i]['inputs'][0, 0, 0]) for i in [*range(100)] * 3]

    seen = epochs()
    assert [seen[1], seen[99]] == [100, 199]
    assert all(value >= 100 for value in seen)
    assert len({seen[0], seen[100], seen[200]}) > 1  # not always the same one
    assert epochs() == seen
    assert sorted(record.message.split('.')[0].split('/')[-1] for record in caplog.records) == ['bad000', 'good051']
    assert 'bad000.jpg is empty (0 bytes)' in caplog.text


@pytest.mark.parametrize(('good', 'bad', 'share'), [(97, 3, 0.01), (0, 1, 0.5), (0, 9, 1.0), (9, 1, 0.0)])
def test_too_many_bad_images_stop_the_run_with_examples(tmp_path, good, bad, share):
    images = UnlabelledImages(make_set(tmp_path, good=good, bad=bad), image_size=8, max_bad_share=share)
    for _ in range(2):  # a worker goes on after an error: it must not search for ever
        with pytest.raises(BadImage, match=rf'(?s) of \d+ images .*max_bad_share={share}.*bad000.jpg is empty.*Remove'):
            list(images)


def test_the_share_of_bad_images_holds_for_large_sets_and_spares_lucky_ones(tmp_path):
    make_set(tmp_path, good=280, bad=20)
    assert len(list(UnlabelledImages(tmp_path, image_size=8, max_bad_share=1.0))) == 300
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0)).tolist()
    enough, strict = (UnlabelledImages(tmp_path, image_size=8, max_bad_share=share) for share in (20 / 300, 0.01))
    assert len([enough[i] for i in order]) == 300
    with pytest.raises(BadImage, match=r'max_bad_share=0\.01'):
        [strict[i] for i in order]


def test_indices_choose_images_from_the_whole_list(tmp_path):
    make_set(tmp_path, good=10, bad=0)
    greys = [int(item['inputs'][0, 0, 0]) - 100 for item in UnlabelledImages(tmp_path, image_size=8, indices=4)]
    assert greys == [0, 2, 5, 7]
    for indices in (0, -1, 11):
        with pytest.raises(ValueError, match=rf'indices={indices}, but there are 10 images'):
            UnlabelledImages(tmp_path, indices=indices)


def test_the_cache_changes_nothing_but_the_reading(tmp_path, monkeypatch):
    make_set(tmp_path, good=3, bad=0)
    plain, cached = (UnlabelledImages(tmp_path, image_size=8, cache=cache) for cache in (False, True))
    first = [item['inputs'] for item in cached]
    monkeypatch.setattr('mae_backbone.data.read_image', lambda _: pytest.fail('read again'))
    assert torch.stack([item['inputs'] for item in cached]).equal(torch.stack(first))
    with pytest.raises(pytest.fail.Exception, match='read again'):
        plain[0]


@pytest.mark.parametrize('arguments', [
    {'scale': (0.5, 0.2)}, {'scale': (0.0, 1.0)}, {'scale': (0.2, 1.1)}, {'scale': (0.2,)}, {'flip': 1.5},
    {'max_bad_share': -0.1}, {'interpolation': 'nearest'}, {'image_size': 0}, {'image_size': (8, 8, 8)},
    {'image_size': (8.0, 8)},
], ids=str)
def test_arguments_out_of_range_are_named(tmp_path, arguments):
    save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=next(iter(arguments))):
        UnlabelledImages(tmp_path, **arguments)


# ---- ClassFolder

def test_items_carry_the_label_of_their_folder(tmp_path):
    make_classes(tmp_path / 'train', dog=3, cat=2)
    (tmp_path / 'train/.ipynb_checkpoints').mkdir()
    (tmp_path / 'train/list.txt').touch()
    images = ClassFolder(tmp_path, 'train', train=False, image_size=8)
    assert images.metainfo == {'classes': ('cat', 'dog')}
    assert [item['data_samples'] for item in images] == [0, 0, 1, 1, 1]
    assert [int(item['inputs'][0, 0, 0]) for item in images] == [50, 51, 0, 1, 2]
    assert type(images[0]['data_samples']) is int
    turned = ClassFolder(tmp_path, train=False, image_size=8, classes=['dog', 'cat'])
    assert turned.metainfo == {'classes': ('dog', 'cat')}
    assert [item['data_samples'] for item in turned] == [0, 0, 0, 1, 1]
    assert len(ClassFolder(tmp_path / 'train', '', train=False, image_size=8)) == 5


@pytest.mark.parametrize('image_size', [16, (16, 32), [40, 24]])
@pytest.mark.parametrize(('train', 'augment'), [
    (True, None), (True, {'auto_augment': 'rand-m9-mstd0.5-inc1', 'color_jitter': 0.4}), (True, {'no_aug': True}),
    (False, None), (False, {'crop_mode': 'squash', 'crop_pct': 0.5}),
])
def test_labelled_items_are_uint8_planes_of_the_size_asked_for(tmp_path, image_size, train, augment):
    save(tmp_path / 'val/a/1.png')
    images = ClassFolder(tmp_path, 'val', train=train, image_size=image_size, augment=augment)
    item = images[0]['inputs']
    assert item.dtype == torch.uint8
    assert item.shape == (3, *([image_size] * 2 if isinstance(image_size, int) else image_size))
    assert item.float().std() > 10  # not normalised


@pytest.mark.parametrize(('image_size', 'augment', 'side'), [
    (224, None, 256), (32, None, 32), (384, None, 384), (160, None, 182), (32, {'crop_pct': 0.5}, 64),
])
def test_evaluation_resizes_the_shorter_side_and_cuts_the_centre(tmp_path, image_size, augment, side):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    save(tmp_path / 'val/a/1.png', pixels)
    item = ClassFolder(tmp_path, 'val', train=False, image_size=image_size, augment=augment)[0]['inputs']
    resized = Image.fromarray(pixels).resize((int(side * 64 / 48), side), Image.Resampling.BICUBIC)
    left, top = (round((length - image_size) / 2) for length in resized.size)
    assert difference(item.permute(1, 2, 0), resized.crop((left, top, left + image_size, top + image_size))) <= 1


def test_training_crops_and_flips_alone_by_default_and_seeds_fix_it(tmp_path):
    pixels = ramp(64, 64)
    save(tmp_path / 'train/a/1.png', pixels)
    images = ClassFolder(tmp_path, train=True, image_size=32)
    strong = ClassFolder(tmp_path, train=True, image_size=32, augment={'auto_augment': 'rand-m9-mstd0.5-inc1'})

    def twenty(dataset: ClassFolder, seed: int) -> torch.Tensor:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return torch.stack([dataset[0]['inputs'] for _ in range(20)])

    for dataset in (images, strong):
        assert twenty(dataset, 0).equal(twenty(dataset, 0))
        assert not twenty(dataset, 0).equal(twenty(dataset, 1))
    assert twenty(images, 0)[:, 2].unique().tolist() == [100]  # blue is constant: the colours are as they were
    assert len(twenty(strong, 0)[:, 2].unique()) > 1


@pytest.mark.parametrize('policy', ['rand-m10-inc1', 'rand-m9-mstd9-inc1', 'rand-m9', 'original', 'v0', 'augmix'])
def test_no_policy_of_timm_asks_pillow_for_what_it_refuses(tmp_path, policy):
    save(tmp_path / 'train/a/1.png')
    images = ClassFolder(tmp_path, train=True, image_size=8, augment={'auto_augment': policy})
    random.seed(0)
    np.random.seed(0)
    for _ in range(100):
        assert images[0]['inputs'].shape == (3, 8, 8)


def test_unknown_options_and_erasing_are_refused_by_name(tmp_path):
    make_classes(tmp_path / 'train', a=1)
    with pytest.raises(ValueError, match=r're_prob: .*random_erasing of mae_backbone\.ViTClassifier'):
        ClassFolder(tmp_path, train=True, augment={'re_prob': 0.25})
    with pytest.raises(ValueError, match=r'augment has autoaugment; with train=True it takes .*auto_augment'):
        ClassFolder(tmp_path, train=True, augment={'autoaugment': 'rand'})
    with pytest.raises(ValueError, match=r'augment has hflip; with train=False it takes crop_pct'):
        ClassFolder(tmp_path, train=False, augment={'hflip': 0.5})


@pytest.mark.parametrize('option', [
    {'no_aug': False}, {'train_crop_mode': 'rrc'}, {'scale': (0.5, 1)}, {'ratio': (1, 1)}, {'hflip': 0}, {'vflip': 0.5},
    {'color_jitter': 0.4}, {'color_jitter_prob': 0.5}, {'grayscale_prob': 1}, {'gaussian_blur_prob': 1},
    {'auto_augment': 'augmix-m3'}, {'interpolation': 'random'}, {'crop_pct': 1}, {'crop_mode': 'border'},
    {'crop_border_pixels': 2},
], ids=str)
def test_timm_takes_every_option_that_is_let_through(tmp_path, option):
    save(tmp_path / 'train/a/1.png')
    train = not next(iter(option)).startswith('crop')
    assert ClassFolder(tmp_path, train=train, image_size=16, augment=option)[0]['inputs'].shape == (3, 16, 16)


def test_a_fraction_is_drawn_from_each_class_and_grows_by_adding(tmp_path):
    make_classes(tmp_path / 'train', a=20, b=10, c=1)

    def chosen(fraction: float, seed: int = 0) -> dict[bytes, int]:
        images = ClassFolder(tmp_path, train=False, image_size=8, fraction=fraction, seed=seed)
        return dict(zip(images.files.tolist(), images.labels.tolist(), strict=True))

    previous = set()
    for fraction, counts in ((0.01, [1, 1, 1]), (0.1, [2, 1, 1]), (0.5, [10, 5, 1]), (1.0, [20, 10, 1])):
        part = chosen(fraction)
        assert np.bincount(list(part.values())).tolist() == counts
        assert list(part) == sorted(part)
        assert all(os.fsdecode(path).split(os.sep)[-2] == 'abc'[label] for path, label in part.items())
        assert previous <= set(part)
        assert part == chosen(fraction)
        previous = set(part)
    assert chosen(0.5) != chosen(0.5, seed=1)
    for fraction in (0, 1.5, -0.1):
        with pytest.raises(ValueError, match=f'fraction={fraction}, wanted a share'):
            chosen(fraction)


def test_splits_and_classes_that_do_not_fit_are_named(tmp_path):
    make_classes(tmp_path / 'train', cat=1, dog=1)
    with pytest.raises(FileNotFoundError, match=r"no folder 'val'; folders there: train\. .*--data-root DIR"):
        ClassFolder(tmp_path, 'val', train=False)
    with pytest.raises(FileNotFoundError, match=r'gone does not exist: .*--data-root DIR'):
        ClassFolder(tmp_path / 'gone', train=False)
    make_classes(tmp_path / 'val', dog=1, emu=1)
    # Without this, dog would be label 0 in val and 1 in train.
    with pytest.raises(ValueError, match=r"val has 2 class.*2 of .*train: missing \['cat'\], not wanted \['emu'\]"):
        ClassFolder(tmp_path, 'val', train=False)
    with pytest.raises(ValueError, match=r"val has .*list classes: missing \[\], not wanted \['dog'\]"):
        ClassFolder(tmp_path, 'val', train=False, classes=['emu'])
    with pytest.raises(ValueError, match=r'the 3 of the list classes.*each once'):
        ClassFolder(tmp_path, 'val', train=False, classes=['emu', 'dog', 'emu'])
    assert len(ClassFolder(tmp_path, 'val', train=False, classes=['emu', 'dog'])) == 2
    (tmp_path / 'train/dog/000.png').rename(tmp_path / 'train/dog/000.gif')
    with pytest.raises(ValueError, match=r'dog holds no images.*1 \.gif'):
        ClassFolder(tmp_path, train=False)
    (tmp_path / 'flat').mkdir()
    save(tmp_path / 'flat/a.png')
    with pytest.raises(ValueError, match=r'flat has no class folders: .*--data-root DIR'):
        ClassFolder(tmp_path, 'flat', train=False)


def test_a_bad_labelled_image_stops_with_its_name(tmp_path):
    make_classes(tmp_path / 'train', a=1)
    (tmp_path / 'train/a/000.png').write_bytes(b'')
    with pytest.raises(BadImage, match=r'000\.png is empty'):
        ClassFolder(tmp_path, train=False)[0]


# ---- in the Runner

def test_configs_build_them_and_batches_reach_the_preprocessor(tmp_path):
    make_classes(tmp_path / 'train', a=2, b=2)
    augment = ConfigDict(auto_augment='rand-m9-mstd0.5-inc1')
    for config in ({'type': 'mae_backbone.UnlabelledImages'},
                   {'type': 'mae_backbone.ClassFolder', 'train': True, 'augment': augment}):
        dataset = DATASETS.build(ConfigDict(config, data_root=str(tmp_path), image_size=[16, 24]))
        in_worker = pickle.loads(pickle.dumps(dataset))
        batch = next(iter(DataLoader(in_worker, batch_size=4, collate_fn=pseudo_collate)))
        assert batch.get('data_samples', [0, 0, 1, 1]) == [0, 0, 1, 1]
        images = ImgDataPreprocessor(mean=[100] * 3, std=[50] * 3)(batch)['inputs']
        assert images.shape == (4, 3, 16, 24)
        assert images.dtype == torch.float32
