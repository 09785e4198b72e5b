"""Corruptions: images of any size, a function of seed, index, name and strength, no trace in the random state."""
import imagecorruptions.corruptions
import numpy as np
import pytest
import torch
from helpers.image_files import photograph
from torch.utils.data import DataLoader, Dataset

from mae_backbone.evaluation.corruptions import CorruptedImages, corrupt
from mae_backbone.evaluation.imagenet_c import CORRUPTIONS, STRENGTHS

IMAGE = photograph(48, 64)
# Drawn from random numbers; the other corruptions depend on the image and the strength only.
RANDOM = {'gaussian_noise', 'shot_noise', 'impulse_noise', 'speckle_noise', 'glass_blur', 'motion_blur', 'snow',
          'frost', 'fog', 'elastic_transform', 'spatter'}


@pytest.fixture(autouse=True)
def interpreted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs glass_blur's loop in Python: numba takes 10 s to compile it."""
    if 'slow' not in request.keywords:
        shuffle = imagecorruptions.corruptions._shuffle_pixels_njit_glass_blur
        monkeypatch.setattr(imagecorruptions.corruptions, shuffle.__name__, shuffle.py_func)


def difference(image: np.ndarray, name: str, strength: int) -> float:
    return float(np.abs(corrupt(image, name, strength).astype(float) - image).mean())


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_image_keeps_its_shape_and_gets_worse(name: str):
    for size in ((48, 64), (32, 32), (33, 57)):
        image = photograph(*size)
        before = image.copy()
        for strength in STRENGTHS:
            corrupted = corrupt(image, name, strength)
            assert corrupted.shape == image.shape
            assert corrupted.dtype == np.uint8
        assert (image == before).all()
    differences = [difference(IMAGE, name, strength) for strength in STRENGTHS]
    assert min(differences) > 0
    if name != 'frost':  # whose strengths blend in less of the image, not more of the frost
        assert differences[4] > differences[0]


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_corruption_is_a_function_of_seed_index_and_strength(name: str):
    np.random.seed(1)
    first = corrupt(IMAGE, name, 3, seed=1, index=5)
    np.random.seed(2)
    state = np.random.get_state()
    assert (corrupt(IMAGE, name, 3, seed=1, index=5) == first).all()
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state, strict=True))
    # A seed of its own for each image: of twenty, at least one is corrupted in another way.
    for key, values in (('seed', range(2, 22)), ('index', range(6, 26))):
        options = ({'seed': 1, 'index': 5, key: value} for value in values)
        assert any((corrupt(IMAGE, name, 3, **option) != first).any() for option in options) == (name in RANDOM)


@pytest.mark.slow
def test_compiled_glass_blur_is_seeded_and_leaves_the_random_state():
    state = np.random.get_state()
    first, again, other = (corrupt(IMAGE, 'glass_blur', 3, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state, strict=True))


def test_strengths_equal_imagenet_c():
    gray = np.full((64, 64, 3), 100, np.uint8)
    assert corrupt(gray, 'gaussian_noise', 2).std() == pytest.approx(0.12 * 255, rel=0.05)
    assert corrupt(gray, 'shot_noise', 1).var() == pytest.approx(100 * 255 / 60, rel=0.1)
    assert (corrupt(gray, 'impulse_noise', 5) != 100).mean() == pytest.approx(0.27, abs=0.02)


class Photographs(Dataset):
    labels = (3, 4)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict:
        image = photograph(32, 32)  # the same for both
        return {'inputs': torch.from_numpy(image).permute(2, 0, 1), 'data_samples': self.labels[index]}


@pytest.mark.parametrize('name', ['gaussian_noise', 'glass_blur'])
def test_images_of_a_set_are_corrupted_by_their_index(name: str):
    plain, corrupted = Photographs(), CorruptedImages(Photographs(), name, 2, seed=7)
    assert len(corrupted) == 2
    first, second = corrupted[0], corrupted[1]
    assert (first['data_samples'], second['data_samples']) == (3, 4)
    assert not torch.equal(first['inputs'], second['inputs'])
    assert torch.equal(first['inputs'], corrupted[0]['inputs'])
    image = plain[1]['inputs'].permute(1, 2, 0).numpy()
    expected = corrupt(image, name, 2, seed=7, index=1)
    assert (second['inputs'].permute(1, 2, 0).numpy() == expected).all()
    batch, = DataLoader(corrupted, 2, num_workers=1)
    assert torch.equal(batch['inputs'], torch.stack([first['inputs'], second['inputs']]))


@pytest.mark.parametrize(('name', 'strength'), [('night', 1), ('contrast', 0), ('contrast', 6)])
def test_unknown_corruptions_and_strengths_are_refused(name: str, strength: int):
    with pytest.raises(ValueError, match=rf"corruption '{name}' of strength {strength}, expected one of"):
        CorruptedImages(Photographs(), name, strength)


def test_images_below_32_pixels_are_refused():
    with pytest.raises(ValueError, match=r'an image of 31x40 pixels cannot be corrupted, expected at least 32x32'):
        corrupt(photograph(31, 40), 'fog', 1)
