"""Pretraining crops equal those of PIL, follow seeds, and skip unreadable images."""
import os
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.image_files import difference, photograph, ramp, save
from mmengine.config import ConfigDict
from mmengine.registry import TRANSFORMS
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from mae_backbone.data.batch import as_is
from mae_backbone.data.counter_rng import uniforms
from mae_backbone.data.crops import NUM_UNIFORMS, random_box
from mae_backbone.data.decode import BadImageError, read_image
from mae_backbone.data.readers import ColorReader
from mae_backbone.data.resize import resize
from mae_backbone.data.sampler import Draw, PretrainBatchSampler, PretrainSampler
from mae_backbone.data.sources import FileSource
from mae_backbone.data.unlabeled import UnlabeledImages


@pytest.mark.parametrize('image_size', [16, (16, 32), [40, 96]])
@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
def test_item_is_uint8_planes_of_the_requested_size(tmp_path, image_size, interpolation):
    for i, size in enumerate([(48, 64), (1, 1), (1, 200), (200, 1), (16, 32)]):
        save(tmp_path / f'{i}.png', ramp(*size))
    images = UnlabeledImages(tmp_path, image_size=image_size, interpolation=interpolation)
    assert len(images) == 5
    for item in images:
        assert list(item) == ['inputs']
        assert item['inputs'].dtype == torch.uint8
        assert item['inputs'].is_contiguous()
        assert item['inputs'].shape == (3, *([image_size] * 2 if isinstance(image_size, int) else image_size))


def test_seed_of_torch_determines_the_items(tmp_path):
    images = UnlabeledImages(save(tmp_path / 'a.png').parent, image_size=16)

    def five(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([images[0]['inputs'] for _ in range(5)])

    python, numpy = random.getstate(), np.random.get_state()[1].tolist()
    assert five(0).equal(five(0))
    assert not five(0).equal(five(1))
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy


@pytest.mark.parametrize('size', [(48, 64), (300, 200), (16, 16)])
def test_item_equals_the_crop_of_pil(tmp_path, size):
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8), (0, 0), 1)
    images = UnlabeledImages(save(tmp_path / 'a.png', pixels).parent, image_size=(32, 40))
    for seed in range(5):
        top, left, height, width = random_box(*size, uniforms([seed], 1 + NUM_UNIFORMS, stream=1)[0, 1:], (0.2, 1))
        crop = Image.fromarray(pixels[top:top + height, left:left + width]).resize((40, 32), Image.Resampling.BICUBIC)
        assert difference(images.__getitems__([Draw(0, seed)])['inputs'][0], crop) <= 2


def test_item_does_not_depend_on_batch_or_worker(tmp_path):
    for i in range(7):
        save(tmp_path / f'{i}.png', ramp(20 + i, 30))
    images = UnlabeledImages(tmp_path, image_size=(16, 24))
    draws = [Draw(i % 7, 1000 + i, i / 4) for i in range(12)]
    batch = images.__getitems__(draws)
    assert list(batch) == ['inputs', 'seeds', 'flips', 'weights']
    assert [(value.shape, value.dtype) for value in batch.values()] == [
        ((12, 16, 24, 3), torch.uint8), ((12,), torch.int64), ((12,), torch.bool), ((12,), torch.float32)]
    assert batch['seeds'].tolist() == [draw.seed for draw in draws]
    assert batch['weights'].tolist() == [draw.weight for draw in draws]
    assert 0 < batch['flips'].sum() < 12
    loaders = [DataLoader(images, batch_sampler=[draws[i:i + size] for i in range(0, 12, size)], collate_fn=as_is,
                          num_workers=workers) for size, workers in ((1, 0), (3, 2))]
    torch.manual_seed(1)
    random.seed(1)
    for loader in loaders:
        parts = list(loader)
        assert all(torch.cat([part[key] for part in parts]).equal(batch[key]) for key in batch)
        assert all(part['inputs'].is_shared() == (loader.num_workers > 0) for part in parts)


def test_draw_can_request_another_size(tmp_path):
    images = UnlabeledImages(save(tmp_path / 'a.png').parent, image_size=16)
    assert images.__getitems__([Draw(0, 1, size=(8, 24))] * 2)['inputs'].shape == (2, 8, 24, 3)


def test_plain_indices_give_items(tmp_path):
    images = UnlabeledImages(save(tmp_path / 'a.png').parent, image_size=16)
    (items,) = DataLoader(images, batch_size=3, sampler=[0, 0, 0], collate_fn=as_is)
    assert [item['inputs'].shape for item in items] == [(3, 16, 16)] * 3


def test_crops_fill_the_range_of_areas(tmp_path):
    wide = save(tmp_path / 'a.png', ramp(256, 256)).parent
    for low, high in ((0.2, 1.0), (0.5, 0.6), (0.05, 0.1)):
        images = UnlabeledImages(wide, image_size=64, scale=(low, high), flip=0)
        torch.manual_seed(0)
        crops = torch.stack([images[0]['inputs'] for _ in range(100)]).float()
        # Red and green are ramps: what they span is the width and height of the crop, less half a pixel on each side.
        spans = (crops.amax(dim=(2, 3)) - crops.amin(dim=(2, 3)))[:, :2] / 255 * 64 / 63
        areas = spans.prod(dim=1)
        assert low - 0.03 < areas.min() <= areas.max() < high + 0.03
        assert areas.max() - areas.min() > 0.5 * (high - low)


def test_flipped_items_are_mirrored(tmp_path):
    save(tmp_path / 'a.png')

    def items(flip: float) -> torch.Tensor:
        torch.manual_seed(0)
        images = UnlabeledImages(tmp_path, image_size=16, flip=flip)
        return torch.stack([images[0]['inputs'] for _ in range(200)])

    straight, mirrored, mixed = items(0), items(1), items(0.5)
    assert mirrored.equal(straight.flip(-1))
    is_flipped = (mixed == mirrored).flatten(1).all(dim=1)
    assert (is_flipped | (mixed == straight).flatten(1).all(dim=1)).all()
    assert 70 < is_flipped.sum() < 130  # four standard deviations


def make_set(root: Path, *, good: int, bad: int) -> Path:
    """Good images of one gray each, 100 and up, behind bad ones."""
    root.mkdir(exist_ok=True)
    for i in range(bad):
        (root / f'bad{i:03}.jpg').write_bytes(b'')
    for i in range(good):
        save(root / f'good{i:03}.png', np.full((8, 8, 3), 100 + i % 150, np.uint8))
    return root


def test_unreadable_image_is_replaced_and_logged_once(tmp_path, caplog):
    make_set(tmp_path, good=100, bad=1)
    (tmp_path / 'good050.png').unlink()
    images = UnlabeledImages(tmp_path, image_size=8)
    (tmp_path / 'good051.png').unlink()  # while training

    def epochs() -> list[int]:
        torch.manual_seed(0)
        return [int(images[i]['inputs'][0, 0, 0]) for i in [*range(100)] * 3]

    seen = epochs()
    assert [seen[1], seen[99]] == [100, 199]
    assert all(value >= 100 for value in seen)
    assert len({seen[0], seen[100], seen[200]}) > 1  # not always the same one
    assert epochs() == seen
    ours = [record.message for record in caplog.records if record.name.startswith('mae_backbone')]
    assert sorted(line.split('.')[0].split('/')[-1] for line in ours) == ['bad000', 'good051']
    assert 'bad000.jpg is empty (0 bytes)' in caplog.text


@pytest.mark.parametrize(('good', 'bad', 'share'), [(97, 3, 0.01), (0, 1, 0.5), (0, 9, 1.0), (9, 1, 0.0)])
def test_too_many_unreadable_images_raise_with_examples(tmp_path, good, bad, share):
    images = UnlabeledImages(make_set(tmp_path, good=good, bad=bad), image_size=8, max_bad_share=share)
    for _ in range(2):  # a worker goes on after an error: it must not search for ever
        with pytest.raises(BadImageError, match=rf'(?s) of \d+ drawn images .*max_bad_share={share}.*bad000.jpg is '
                                                r'empty.*Remove'):
            list(images)


def test_allowed_fraction_has_a_margin_for_small_counts(tmp_path):
    make_set(tmp_path, good=280, bad=20)
    assert len(list(UnlabeledImages(tmp_path, image_size=8, max_bad_share=1.0))) == 300
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0)).tolist()
    enough, strict = (UnlabeledImages(tmp_path, image_size=8, max_bad_share=share) for share in (20 / 300, 0.01))
    assert len([enough[i] for i in order]) == 300
    with pytest.raises(BadImageError, match=r'max_bad_share=0\.01'):
        [strict[i] for i in order]


def test_indices_are_evenly_spaced_images(tmp_path):
    make_set(tmp_path, good=10, bad=0)
    grays = [int(item['inputs'][0, 0, 0]) - 100 for item in UnlabeledImages(tmp_path, image_size=8, indices=4)]
    assert grays == [0, 2, 5, 7]
    for indices in (0, -1, 11):
        with pytest.raises(ValueError, match=rf'indices={indices}, but there are 10 images'):
            UnlabeledImages(tmp_path, indices=indices)


def test_cache_only_avoids_reading(tmp_path, monkeypatch):
    make_set(tmp_path, good=3, bad=0)
    plain, cached = (UnlabeledImages(tmp_path, image_size=8, cache=cache) for cache in (False, True))
    first = [item['inputs'] for item in cached]
    monkeypatch.setattr(FileSource, 'read', lambda *_: pytest.fail('read again'))
    assert torch.stack([item['inputs'] for item in cached]).equal(torch.stack(first))
    with pytest.raises(pytest.fail.Exception, match='read again'):
        plain[0]


@pytest.mark.parametrize('arguments', [
    {'scale': (0.5, 0.2)}, {'scale': (0.0, 1.0)}, {'scale': (0.2, 1.1)}, {'scale': (0.2,)}, {'flip': 1.5},
    {'max_bad_share': -0.1}, {'interpolation': 'nearest'}, {'image_size': 0}, {'image_size': (8, 8, 8)},
    {'image_size': (8.0, 8)},
], ids=str)
def test_argument_out_of_range_raises(tmp_path, arguments):
    save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=next(iter(arguments))):
        UnlabeledImages(tmp_path, **arguments)


@TRANSFORMS.register_module()
class FiveBands:
    """A reader of somebody's own: the first bytes say how large the image of 5 bands of 16 bits is."""

    channels, dtype, suffixes = 5, np.dtype(np.uint16), ('.bands',)

    def size(self, data: bytes) -> tuple[int, int]:
        return data[0], data[1]

    def crop(self, data, box, size, out=None, *, interpolation='bicubic'):
        pixels = np.frombuffer(data[2:], np.uint16).reshape(data[0], data[1], 5)
        return resize(pixels, box, size, interpolation=interpolation, out=out)


def test_custom_reader_gives_other_channels_and_depths(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (30, 40, 5), dtype=np.uint16)
    (tmp_path / 'a.bands').write_bytes(bytes([30, 40]) + pixels.tobytes())
    (tmp_path / 'b.bands').write_bytes(b'')
    (tmp_path / 'c.png').write_bytes(b'not looked at')
    reader = ConfigDict(type='FiveBands')
    images = UnlabeledImages(tmp_path, image_size=8, scale=(1, 1), reader=reader, max_bad_share=1)
    assert len(images) == 2
    batch = images.__getitems__([Draw(0, seed) for seed in range(4)] + [Draw(1, 4)])['inputs']
    assert batch.shape == (5, 8, 8, 5)
    assert batch.dtype == torch.uint16
    assert images[0]['inputs'].dtype == torch.uint16
    assert images.bad.examples == [f'{tmp_path}/b.bands: IndexError: index out of range']
    boxes = [random_box(30, 40, numbers, (1, 1)) for numbers in uniforms(range(4), 1 + NUM_UNIFORMS, stream=1)[:, 1:]]
    assert (batch[:4].numpy() == [resize(pixels, box, (8, 8)) for box in boxes]).all()


def test_crops_of_one_image_are_decoded_once(tmp_path, monkeypatch):
    pixels = photograph(90, 120)
    for name in 'ab':
        save(tmp_path / f'{name}.jpg', pixels, quality=95)
    images = UnlabeledImages(tmp_path, image_size=24, scale=(0.2, 0.5))
    draws = [Draw(index, 10 * index + i) for index in (0, 1) for i in range(4)]
    reads = count_calls(monkeypatch, FileSource, 'read')
    decodes = count_calls(monkeypatch, ColorReader, 'crop')
    batch = images.__getitems__(draws)['inputs']
    assert (len(reads), len(decodes)) == (2, 2)
    whole = read_image(tmp_path / 'a.jpg')
    for crop, numbers in zip(batch, uniforms([draw.seed for draw in draws], 1 + NUM_UNIFORMS, stream=1), strict=True):
        wanted = resize(whole, random_box(90, 120, numbers[1:], (0.2, 0.5)), (24, 24))
        assert difference(crop, wanted) <= 2
    # What fills a batch up is not decoded with its neighbor: its own crop would depend on the company.
    decodes.clear()
    images.__getitems__([Draw(0, 0), Draw(0, 1, 0.0), Draw(0, 2, 0.0)])
    assert len(decodes) == 3


def count_calls(monkeypatch, owner: type, method: str) -> list[None]:
    calls, original = [], getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda *args, **options: calls.append(None) or original(*args, **options))
    return calls


def make_one_of_each(root: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """A file of each kind: those that can be read, with their pixels as viewers show them, and those that cannot."""
    pixels = cv2.GaussianBlur(photograph(40, 56), (0, 0), 1)
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6  # its top is on the right
    good = {
        'plain.jpg': (image, {'quality': 100, 'subsampling': 0}), 'gray.png': (image.convert('L'), {}),
        'palette.png': (image.quantize(256), {}), 'alpha.png': (image.convert('RGBA'), {}),
        'turned.jpg': (image, {'quality': 100, 'subsampling': 0, 'exif': turned}),
        'cmyk.jpg': (image.convert('CMYK'), {'quality': 100, 'subsampling': 0}),
        'ünï/ç 日本語 Ωж العربية.png': (image, {}),
        'animated.webp': (image, {'save_all': True, 'append_images': [Image.new('RGB', image.size)], 'lossless': True}),
        'really_a_png.jpg': (image, {'format': 'PNG'}),
    }
    wanted = {}
    for name, (file, options) in good.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        file.save(root / name, **options)
        wanted[name] = np.asarray(ImageOps.exif_transpose(Image.open(root / name)).convert('RGB'))
    deep = pixels.astype(np.uint16) * 257
    cv2.imwrite(str(root / 'deep.png'), deep[..., ::-1])
    wide = np.broadcast_to(np.uint8(77), (4, 30_000, 3))
    wanted |= {'deep.png': pixels, 'wide.png': wide}
    save(root / 'wide.png', wide)
    whole = (root / 'plain.jpg').read_bytes()
    bad = {'cut.jpg': whole[:len(whole) // 2], 'cut.png': (root / 'gray.png').read_bytes()[:600], 'empty.jpg': b'',
           'page.jpg': b'<html>404</html>', 'noise.png': bytes(range(256)) * 4}
    for name, data in bad.items():
        (root / name).write_bytes(data)
    (root / 'gone.png').symlink_to(root / 'nowhere.png')
    return wanted, sorted([*bad, 'gone.png'])


def test_every_kind_of_file_is_decoded_or_skipped_and_listed_once(tmp_path):
    root = tmp_path / 'images'
    wanted, bad = make_one_of_each(root)
    images = UnlabeledImages(root, image_size=(40, 56), scale=(1, 1), max_bad_share=1.0)
    images.bad.list_file = tmp_path / 'bad_images.txt'
    names = [os.path.relpath(images.source.name(i), root) for i in range(len(images))]
    assert sorted(names) == sorted([*wanted, *bad])
    loader = DataLoader(images, batch_sampler=PretrainBatchSampler(PretrainSampler(images, seed=0), 3),
                        collate_fn=as_is, num_workers=2, persistent_workers=True)
    epochs = [list(loader) for _ in range(3)]  # the same one each time
    assert len(images) == len(wanted) + len(bad) == 17
    for batches in epochs[1:]:  # whether a bad one is known already or not
        assert all(one[key].equal(two[key]) for one, two in zip(batches, epochs[0], strict=True) for key in one)
    draws = [draw for batch in loader.batch_sampler for draw in batch]
    crops = torch.cat([batch['inputs'] for batch in epochs[0]])
    replaced = 0
    for draw, crop, numbers in zip(draws, crops, uniforms([draw.seed for draw in draws], 1 + NUM_UNIFORMS, stream=1),
                                   strict=True):
        candidates = wanted.values() if names[draw.index] in bad else [wanted[names[draw.index]]]
        replaced += names[draw.index] in bad
        assert any(difference(crop, crop_of(pixels, numbers[1:])) <= 6 for pixels in candidates), names[draw.index]
    seen, met = images.bad.counts
    assert met >= 3 * len(bad)
    assert seen - met == 3 * len(draws)
    assert replaced == sum(names[draw.index] in bad for draw in draws)
    lines = images.bad.list_file.read_text('utf-8').splitlines()
    assert sorted(os.path.relpath(line.split('\t')[0], root) for line in lines) == bad
    assert all(reason in '\n'.join(lines) for reason in (
        'empty.jpg is empty (0 bytes)', 'cut.jpg is a JPEG truncated', 'page.jpg is not an image', 'No such file'))


def crop_of(pixels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return resize(pixels, random_box(*pixels.shape[:2], numbers, (1, 1)), (40, 56))
