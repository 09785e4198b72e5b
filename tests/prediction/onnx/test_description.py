"""Metadata of exported files are read back as written, and damaged ones are refused."""
import json

import pytest
from helpers.onnx_files import describe

from mae_backbone.data.decode import Decoding
from mae_backbone.prediction.onnx.description import PREFIX, Description


@pytest.mark.parametrize('description', [
    describe('classification', decoding={'value_range': (0, 4095)}, dynamic=()),
    describe('segmentation', settings={'slide': {'crop': [64, 64], 'stride': [42, 42]}}, channels='BGR', minimum=32),
    Description('features', part='backbone', image_size=(224, 224), multiple=16),
    describe('detection', channels='', mean=(1, 2), std=(3, 4), reader={'type': 'ArrayReader', 'channels': 2}),
])
def test_a_description_is_read_as_it_was_written(description: Description):
    metadata = description.to_metadata()
    assert all(isinstance(value, str) for value in metadata.values())
    found = Description.from_metadata({**metadata, 'author': 'another program'})
    assert found.to_metadata() == metadata
    assert found.names == description.names
    assert found.colors == description.colors


def test_images_are_read_as_in_the_training():
    assert describe('classification', decoding={'value_range': [0, 4095]}).reading() == Decoding((0, 4095))
    assert describe('classification', decoding={'ignore_orientation': True}).reading().ignore_orientation
    bands = describe('classification', mean=(), std=(), reader={'type': 'ArrayReader', 'channels': [4, 2]})
    assert bands.reading().taken == (4, 2)
    assert bands.to_metadata()[f'{PREFIX}format'] == '2', 'older versions would read color images'
    assert describe('classification').to_metadata()[f'{PREFIX}format'] == '1'


@pytest.mark.parametrize(('key', 'value', 'message'), [
    ('task', 'captions', 'task is captions'), ('classes', '[', 'Expecting value'), ('classes', '[{"id": 1}]', 'color'),
    ('classes', '[{"id": 1, "name": "a", "color": [1, 2, 999]}]', 'color is'), ('classes', '7', 'not iterable'),
    ('image_size', '[0, 16]', 'sizes'), ('image_size', '[16]', 'sizes'), ('image_size', '[16, 1e9]', 'sizes'),
    ('std', '[1, 0, 1]', 'mean and std'), ('mean', '[1, NaN, 1]', 'mean and std'), ('mean', '[1]', 'mean and std'),
    ('preprocessing', '"yes"', 'preprocessing'), ('dynamic', '["depth"]', 'dynamic'), ('settings', '[]', 'settings'),
    ('decoding', '{"value_range": [9, 1]}', 'value_range'), ('decoding', '{"code": 1}', 'code'),
    ('reader', '[]', 'reader'), ('reader', '{"channels": 4}', 'mean of the reader'),
    ('multiple', '[' * 100_000, 'recursion'), ('minimum', 'true', 'sizes'),
])
def test_damaged_metadata_are_refused(key: str, value: str, message: str):
    metadata = describe('classification').to_metadata() | {f'{PREFIX}{key}': value}
    with pytest.raises(ValueError, match=f'its metadata are damaged.*{message}'):
        Description.from_metadata(metadata)


@pytest.mark.parametrize(('metadata', 'message'), [
    ({}, 'was not written by `mae-backbone export`'), ({'task': 'detection'}, 'was not written by'),
    ({f'{PREFIX}format': '3'}, 'have the format .3., this version reads up to 2: update'),
    ({f'{PREFIX}format': '1', f'{PREFIX}task': 'x' * 5_000_000}, 'more than 4,194,304 characters'),
    ({f'{PREFIX}format': '1'}, 'damaged'),
])
def test_metadata_of_other_programs_and_versions_are_refused(metadata: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        Description.from_metadata(metadata)


def test_values_are_json_for_other_programs():
    metadata = describe('classification').to_metadata()
    assert json.loads(metadata[f'{PREFIX}classes'])[1] == {'id': 5, 'name': 'dog', 'color': [0, 255, 0]}
