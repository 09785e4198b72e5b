"""Readers travel in files as plain values, and are built again only from values that are known."""
import json

import numpy as np
import pytest

from mae_backbone.data.decode import DEFAULT
from mae_backbone.data.readers import ArrayReader, TiffReader
from mae_backbone.data.reading import build_reader, is_color, reader_settings


@pytest.mark.parametrize('reader', [
    ArrayReader(5, dtype='uint16', channels_first=True), ArrayReader([3, 1, 0], shown=[2, 1, 0], max_pixels=10 ** 6),
    TiffReader(13, dtype='uint16', shown=[3, 2, 1])])
def test_a_reader_is_built_again(reader):
    settings = json.loads(json.dumps(reader_settings(reader)))
    assert repr(build_reader(settings)) == repr(reader)
    assert type(build_reader(settings)) is type(reader)


def test_a_reader_of_the_user_has_no_settings():
    class Own(ArrayReader):
        pass
    assert reader_settings(Own(3)) is None


@pytest.mark.parametrize(('settings', 'message'), [
    ({'type': 'Own'}, "the reader 'Own' is not known"), ({}, 'is not known'),
    ({'type': 'ArrayReader', 'path': 'a'}, "has the option 'path'"),
    ({'type': 'ArrayReader', 'channels': 99}, 'channels=99'),
    ({'type': 'ArrayReader', 'channels': 'abc'}, 'another type'),
    ({'type': 'TiffReader', 'channels_first': True}, 'another type'),
    ({'type': 'ArrayReader', 'dtype': 'object'}, "dtype='object'")])
def test_other_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build_reader(settings)


def test_colors_are_three_channels_of_8_bits():
    assert is_color(DEFAULT)
    assert is_color(ArrayReader(3))
    assert not is_color(ArrayReader(3, dtype='uint16'))
    assert not is_color(ArrayReader([0, 1], dtype=np.dtype('uint8').name))
