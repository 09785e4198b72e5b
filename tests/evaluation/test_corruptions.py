"""Corruptions: worse with every strength, the same for the same image, at any size."""
import cv2
import numpy as np
import pytest
import torch
from helpers.image_files import photograph
from torch.utils.data import Dataset

from mae_backbone.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Corrupted, corrupt

IMAGE = photograph(96, 128)


def error(name: str, strength: int, image: np.ndarray = IMAGE) -> float:
    return float(np.abs(corrupt(image, name, strength).astype(float) - image).mean())


@pytest.mark.parametrize('name', CORRUPTIONS)
@pytest.mark.parametrize('size', [(96, 128), (32, 32), (7, 5)])
def test_it_is_an_image_and_worse_with_every_strength(name: str, size: tuple[int, int]):
    image = photograph(*size)
    before = image.copy()
    for strength in STRENGTHS:
        found = corrupt(image, name, strength)
        assert found.shape == image.shape
        assert found.dtype == np.uint8
    assert (image == before).all()
    if min(size) > 8:
        errors = [error(name, strength, image) for strength in STRENGTHS]
        assert 0 < errors[0]
        # The direction of a motion is drawn for each strength, and blocks of 2 pixels fit an image better than 1.7.
        assert sorted(errors) == errors or (name in ('motion_blur', 'pixelate') and errors[4] > max(errors[:3]))


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_the_seed_decides(name: str):
    one = corrupt(IMAGE, name, 3, seed=1)
    assert (one == corrupt(IMAGE, name, 3, seed=1)).all()
    drawn = name in ('gaussian_noise', 'shot_noise', 'impulse_noise', 'motion_blur')
    assert (one == corrupt(IMAGE, name, 3, seed=2)).all() != drawn


def test_each_does_what_its_name_says():
    gray = np.full((64, 64, 3), 100, np.uint8)
    for name in ('defocus_blur', 'motion_blur', 'contrast', 'pixelate'):
        assert (corrupt(gray, name, 5) == 100).all()  # there is nothing to lose
    assert corrupt(gray, 'gaussian_noise', 2).std() == pytest.approx(0.12 * 255, rel=0.05)
    assert corrupt(gray, 'gaussian_noise', 1).mean() == pytest.approx(100, abs=1)
    assert corrupt(gray, 'shot_noise', 1).var() == pytest.approx(100 * 255 / 60, rel=0.1)  # as Poisson's
    noisy = corrupt(gray, 'impulse_noise', 5)
    assert set(np.unique(noisy).tolist()) == {0, 100, 255}
    assert (noisy != 100).mean() == pytest.approx(0.27, abs=0.02)
    brighter = corrupt(np.full((2, 2, 3), [100, 50, 0], np.uint8), 'brightness', 2)[0, 0]
    assert brighter.tolist() == pytest.approx([151, 75.5, 0], abs=1)  # the hue stays
    halved = corrupt(IMAGE, 'contrast', 1)
    assert halved.std(axis=(0, 1)) == pytest.approx(IMAGE.std(axis=(0, 1)) / 2, rel=0.02)
    blocks = corrupt(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8), 'pixelate', 5)
    assert len(np.unique(blocks.reshape(-1, 3), axis=0)) <= 100  # 10 x 10
    quality = cv2.imencode('.jpg', IMAGE[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 6])[1]
    assert (corrupt(IMAGE, 'jpeg_compression', 5) == cv2.imdecode(quality, 1)[..., ::-1]).all()


def test_a_point_becomes_a_disc_or_a_line():
    point = np.zeros((224, 224, 3), np.uint8)
    point[112, 112] = 255
    wide = np.argwhere(corrupt(point, 'defocus_blur', 1)[..., 0]) - 112  # a radius of 2 pixels, its rim in part
    assert len(wide) == 21
    assert np.hypot(*wide.T).max() < 2.5
    line = np.argwhere(corrupt(point, 'motion_blur', 1)[..., 0] > 10) - 112
    assert 6 <= np.hypot(*np.ptp(line, axis=0)) <= 10  # 8 pixels long
    assert np.linalg.svd(line.astype(float), compute_uv=False)[1] < 3  # and thin


class Photographs(Dataset):
    labels = (3, 4)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict:
        image = photograph(32, 32)  # the same
        return {'inputs': torch.from_numpy(image).permute(2, 0, 1), 'data_samples': self.labels[index]}


def test_a_set_is_corrupted_image_by_image():
    plain, worse = Photographs(), Corrupted(Photographs(), 'gaussian_noise', 2)
    assert len(worse) == 2
    first, second = worse[0], worse[1]
    assert (first['data_samples'], second['data_samples']) == (3, 4)
    assert not torch.equal(first['inputs'], second['inputs'])
    assert torch.equal(first['inputs'], worse[0]['inputs'])
    image = plain[1]['inputs'].permute(1, 2, 0).numpy()
    assert (second['inputs'].permute(1, 2, 0).numpy() == corrupt(image, 'gaussian_noise', 2, seed=1)).all()


@pytest.mark.parametrize(('name', 'strength'), [('snow', 1), ('contrast', 0), ('contrast', 6)])
def test_what_does_not_exist_is_refused(name: str, strength: int):
    with pytest.raises(ValueError, match=rf"corruption '{name}' of strength {strength}, wanted one of gaussian_noise"):
        Corrupted(Photographs(), name, strength)
