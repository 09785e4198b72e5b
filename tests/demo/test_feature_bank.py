"""Feature bank: nearest images, files that come back as they were, and damaged ones that are refused."""
import json

import cv2
import numpy as np
import pytest
import torch
from helpers.encoder_files import save
from safetensors.torch import load_file, save_file

import mae_backbone
from mae_backbone.data.decode import DEFAULT
from mae_backbone.demo.feature_bank import FeatureBank, build_bank, load_bank, thumbnail, unit
from mae_backbone.prediction.onnx.model import OnnxEncoder


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return mae_backbone.load(save(tmp_path_factory.mktemp('weights') / 'a.pth', prefix=''), device='cpu')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    (folder / 'inner').mkdir()
    random = np.random.default_rng(0)
    for name in ('a.png', 'inner/b.png', 'c.png'):
        cv2.imwrite(str(folder / name), random.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    (folder / 'broken.png').write_bytes(b'no image')
    return folder


@pytest.fixture(scope='module')
def bank(model, folder):
    return build_bank(model, folder, log=lambda line: None)


def test_each_image_is_its_own_nearest_neighbor(model, folder, bank):
    assert bank.names == ['a.png', 'c.png', 'inner/b.png']
    for name in bank.names:
        found = bank.nearest(model.features(folder / name, pool='mean')[0], 2)
        assert found[0].name == name
        assert found[0].similarity == pytest.approx(1, abs=1e-5)
        assert found[1].similarity < found[0].similarity
        assert cv2.imdecode(np.frombuffer(found[0].thumbnail, np.uint8), cv2.IMREAD_COLOR).shape == (40, 60, 3)


def test_similarity_is_the_cosine():
    features = np.float32([[3, 4], [0, 2], [-1, 0]])
    bank = FeatureBank(['a', 'b', 'c'], unit(features), [b''] * 3, '')
    found = bank.nearest(np.float32([0, 7]))
    assert [one.name for one in found] == ['b', 'a', 'c']
    assert [one.similarity for one in found] == pytest.approx([1, 0.8, 0])


def test_images_that_cannot_be_read_are_left_out_by_name(model, folder):
    lines = []
    build_bank(model, folder, log=lines.append)
    assert len(lines) == 1
    assert 'broken.png is not an image' in lines[0]


def test_thumbnails_keep_the_ratio_and_enlarge_nothing():
    def size(height: int, width: int) -> tuple[int, ...]:
        data = thumbnail(np.zeros((height, width, 3), np.uint8))
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert [size(256, 512), size(10, 5), size(1, 4000)] == [(64, 128), (10, 5), (1, 128)]


def test_a_saved_bank_comes_back_as_it_was(model, bank, tmp_path):
    bank.save(tmp_path / 'bank.safetensors')
    loaded = load_bank(tmp_path / 'bank.safetensors', model)
    assert (loaded.names, loaded.thumbnails, loaded.model) == (bank.names, bank.thumbnails, bank.model)
    assert (loaded.features == bank.features).all()


@pytest.mark.parametrize(('change', 'message'), [
    (lambda tensors, meta: meta.update(format='another'), 'is no feature bank'),
    (lambda tensors, meta: tensors.pop('offsets'), 'is no feature bank'),
    (lambda tensors, meta: meta.update(names='[1, 2, 3]'), 'has no features, or names of other images'),
    (lambda tensors, meta: meta.update(names=json.dumps(['a'])), 'has no features, or names of other images'),
    (lambda tensors, meta: meta.update(names='no json'), 'bank.safetensors'),
    (lambda tensors, meta: meta.update(names='[' * 100_000), 'bank.safetensors'),
    (lambda tensors, meta: tensors['features'].fill_(float('nan')), 'not finite'),
    (lambda tensors, meta: tensors['offsets'].copy_(torch.tensor([0, 9, 5, 10**6])), 'has no complete thumbnails'),
    (lambda tensors, meta: meta.update(model='0' * 64), 'was computed by another model than .*a.pth'),
])
def test_damaged_files_and_those_of_other_models_are_refused(change, message, model, bank, tmp_path):
    path = tmp_path / 'bank.safetensors'
    bank.save(path)
    tensors = load_file(path)
    metadata = {'format': 'mae_backbone.feature_bank.1', 'model': bank.model, 'names': json.dumps(bank.names)}
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=message):
        load_bank(path, model)


def test_a_file_of_another_kind_and_none_are_refused(model, tmp_path):
    (tmp_path / 'a.safetensors').write_bytes(b'no bank')
    with pytest.raises(ValueError, match=r'a\.safetensors cannot be read as safetensors'):
        load_bank(tmp_path / 'a.safetensors', model)
    with pytest.raises(FileNotFoundError, match='does not exist: pass a folder of images, or a file of --save-bank'):
        load_bank(tmp_path / 'b.safetensors', model)
    with pytest.raises(ValueError, match=r'ends in \.safetensors'):
        load_bank(tmp_path / 'b.npz', model)


def test_a_folder_without_readable_images_is_refused(model, tmp_path):
    (tmp_path / 'a.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match='holds no image that can be read'):
        build_bank(model, tmp_path, log=lambda line: None)


def test_banks_of_exported_encoders_belong_to_their_file(folder, tmp_path):
    class Encoder(OnnxEncoder):
        decoding = DEFAULT

        def __init__(self, path):
            self.path = path

        def features(self, pixels, **options):
            return np.stack([one.mean((0, 1)) for one in pixels])
    for name in ('a.onnx', 'b.onnx'):
        (tmp_path / name).write_bytes(name.encode())
    bank = build_bank(Encoder(tmp_path / 'a.onnx'), folder, log=lambda line: None)
    bank.save(tmp_path / 'bank.safetensors')
    assert load_bank(tmp_path / 'bank.safetensors', Encoder(tmp_path / 'a.onnx')).names == bank.names
    with pytest.raises(ValueError, match='was computed by another model'):
        load_bank(tmp_path / 'bank.safetensors', Encoder(tmp_path / 'b.onnx'))
    (tmp_path / 'a.onnx.data').write_bytes(b'other weights')
    with pytest.raises(ValueError, match='was computed by another model'):
        load_bank(tmp_path / 'bank.safetensors', Encoder(tmp_path / 'a.onnx'))
