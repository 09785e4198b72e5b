"""An image is the same in every form: file, array, PIL image, tensor. Other forms are refused with advice."""
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import videos
from PIL import Image

from mae_backbone.data.decode import Decoding
from mae_backbone.prediction.inputs import count, is_single, sources, to_pixels

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
CHANNELS_FIRST = torch.from_numpy(IMAGE).permute(2, 0, 1)


def test_all_forms_of_an_image_are_the_same_pixels(tmp_path: Path):
    path = tmp_path / 'a.png'
    Image.fromarray(IMAGE).save(path)
    forms = [path, str(path), IMAGE, IMAGE[:, ::-1][:, ::-1], Image.fromarray(IMAGE), CHANNELS_FIRST,
             CHANNELS_FIRST / 255, (CHANNELS_FIRST / 255).double(), Image.open(path)]
    for form in forms:
        assert (to_pixels(form) == IMAGE).all()
        assert to_pixels(form).flags.c_contiguous
        assert is_single(form)


def test_gray_images_get_three_channels():
    gray = IMAGE[..., 0]
    for form in (gray, Image.fromarray(gray)):
        assert (to_pixels(form) == gray[..., None]).all()


def test_a_pil_image_is_turned_as_its_file_is(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(IMAGE).save(tmp_path / 'a.png', exif=exif)
    assert to_pixels(tmp_path / 'a.png').shape == (9, 6, 3)
    with Image.open(tmp_path / 'a.png') as image:
        assert (to_pixels(image) == to_pixels(tmp_path / 'a.png')).all()
        stored = Decoding(ignore_orientation=True)
        assert (to_pixels(image, stored) == IMAGE).all()
        assert (to_pixels(tmp_path / 'a.png', stored) == IMAGE).all()


def test_sixteen_bits_of_a_pil_image_become_eight_as_those_of_a_file(tmp_path: Path):
    Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257).save(tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as image:
        assert (to_pixels(image) == to_pixels(tmp_path / 'a.png')).all()


@pytest.mark.parametrize(('image', 'message'), [
    (IMAGE / 255, 'scale it to 0..255'),
    (IMAGE.transpose(2, 0, 1), r'transpose\(1, 2, 0\)'),
    (np.zeros((4, 4, 4), np.uint8), 'alpha channel'),
    (np.zeros((0, 4, 3), np.uint8), 'expected'),
    (torch.from_numpy(IMAGE), r'permute\(2, 0, 1\)'),
    (CHANNELS_FIRST.float(), 'divide 0..255 by 255'),
    (CHANNELS_FIRST / 255 - 0.5, 'do not normalize'),
    (CHANNELS_FIRST / 255 * float('nan'), 'values from nan'),
    (CHANNELS_FIRST.int(), 'int32'),
    (Image.fromarray(IMAGE[..., 0].astype(np.float32)), 'mode F'),
    (3, 'is a int'),
    (None, 'is a NoneType'),
])
def test_other_forms_are_refused_with_advice(image: object, message: str):
    with pytest.raises(ValueError, match=message):
        to_pixels(image)


def test_folders_videos_batches_and_iterators_are_several_images(tmp_path: Path):
    for name in ('b.png', 'a.png', 'inner/c.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(IMAGE).save(tmp_path / name)
    assert [source.path.name for source in sources(tmp_path)] == ['a.png', 'b.png', 'c.png']
    assert count(tmp_path) == 3
    batch = np.stack([IMAGE, IMAGE])
    several = [batch, torch.from_numpy(batch).permute(0, 3, 1, 2), [IMAGE, tmp_path / 'a.png'], (IMAGE, IMAGE)]
    for images in several:
        assert not is_single(images)
        assert count(images) == 2
        assert [source.read().tolist() for source in sources(images)] == [IMAGE.tolist()] * 2
    assert len(list(sources(iter([IMAGE, IMAGE, IMAGE])))) == 3
    with pytest.raises(FileNotFoundError, match='no_such'):
        list(sources('no_such.png'))


def test_frames_of_a_video_know_their_time(tmp_path: Path):
    path = tmp_path / 'a.mp4'
    videos.write(path, videos.frames(3))
    frames = list(sources(path))
    assert not is_single(path)
    assert [frame.frame for frame in frames] == [0, 1, 2]
    assert frames[2].seconds == pytest.approx(2 * frames[1].seconds)
    assert frames[0].read().dtype == np.uint8
