"""Crops for pretraining: those of PIL, by a seed, past images that cannot be read."""
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from image_files import difference, ramp, save
from PIL import Image
from torch.utils.data import DataLoader

from mae_backbone.data.batch import as_is
from mae_backbone.data.chance import uniforms
from mae_backbone.data.crops import CHANCES, random_box
from mae_backbone.data.decode import BadImage
from mae_backbone.data.sampler import Draw
from mae_backbone.data.unlabelled import UnlabelledImages


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
    images = UnlabelledImages(save(tmp_path / 'a.png', pixels).parent, image_size=(32, 40))
    for seed in range(5):
        top, left, height, width = random_box(*size, uniforms([seed], 1 + CHANCES, stream=1)[0, 1:], (0.2, 1))
        crop = Image.fromarray(pixels[top:top + height, left:left + width]).resize((40, 32), Image.Resampling.BICUBIC)
        assert difference(images.__getitems__([Draw(0, seed)])['inputs'][0], crop) <= 2


def test_a_batch_is_the_same_whoever_makes_it_in_whatever_company(tmp_path):
    for i in range(7):
        save(tmp_path / f'{i}.png', ramp(20 + i, 30))
    images = UnlabelledImages(tmp_path, image_size=(16, 24))
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


def test_a_draw_may_ask_for_another_size(tmp_path):
    images = UnlabelledImages(save(tmp_path / 'a.png').parent, image_size=16)
    assert images.__getitems__([Draw(0, 1, size=(8, 24))] * 2)['inputs'].shape == (2, 8, 24, 3)


def test_bare_indices_give_items(tmp_path):
    images = UnlabelledImages(save(tmp_path / 'a.png').parent, image_size=16)
    (items,) = DataLoader(images, batch_size=3, sampler=[0, 0, 0], collate_fn=as_is)
    assert [item['inputs'].shape for item in items] == [(3, 16, 16)] * 3


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
    monkeypatch.setattr('mae_backbone.data.unlabelled.read_image', lambda _: pytest.fail('read again'))
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
