"""Pixel statistics equal those of all pixels, and the command prints config lines."""
import numpy as np
import pytest
from helpers.image_files import photograph, save

from mae_backbone.cli.main import main
from mae_backbone.data.mean_std import measure
from mae_backbone.data.readers import ArrayReader, ColorReader
from mae_backbone.data.sources import open_source


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_statistics_equal_all_pixels(tmp_path, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 20, 30, 4), dtype=dtype)
    pixels[..., 3] = 7
    for i, image in enumerate(pixels):
        np.save(tmp_path / f'{i}.npy', image)
    found = measure(open_source(tmp_path, suffixes=('.npy',)), ArrayReader(4, dtype=dtype))
    np.testing.assert_allclose(found.mean, pixels.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(found.std, pixels.std(axis=(0, 1, 2)), atol=1e-3)
    assert (found.images, found.bad) == (5, [])


def test_sample_is_evenly_spaced_and_names_bad_images(tmp_path):
    for i in range(10):
        save(tmp_path / f'{i}.png', np.full((4, 4, 3), 10 * i, np.uint8))
    source = open_source(tmp_path)
    assert measure(source, ColorReader(), images=2).mean.tolist() == [45] * 3
    (tmp_path / '0.png').write_bytes(b'')
    found = measure(source, ColorReader(), images=2)
    assert found.mean.tolist() == [90] * 3
    assert len(found.bad) == 1
    assert '0.png is empty' in found.bad[0]
    (tmp_path / '9.png').unlink()
    with pytest.raises(ValueError, match=r'none of 2 images could be read. .*0\.png is empty'):
        measure(source, ColorReader(), images=2)


def test_command_prints_lines_for_the_config(tmp_path, capsys):
    np.save(tmp_path / 'a.npy', np.stack([photograph(20, 30)[..., 0].astype(np.uint16)] * 5, axis=-1))
    assert main(['measure', tmp_path, '--reader', 'mae_backbone.ArrayReader', 'channels=[4, 0]', 'dtype=uint16']) == 0
    said = capsys.readouterr().out
    lines = {}
    exec(said[said.index('\n\n'):], {}, lines)
    assert lines['model']['encoder'] == dict(in_channels=2)
    assert {name: len(values) for name, values in lines['model']['data_preprocessor'].items()} == dict(mean=2, std=2)
    assert lines['train_dataloader']['dataset']['reader'] == dict(type='mae_backbone.ArrayReader', channels=[4, 0],
                                                                  dtype='uint16')
    assert main(['measure', tmp_path, '--reader', 'mae_backbone.ArrayReader', 'x']) == 2
    assert 'expected KEY=VALUE, such as channels=4' in capsys.readouterr().err
