"""Number of images in a file."""
import pytest
from PIL import Image

from mae_backbone.data.frames import num_frames

IMAGES = [Image.new('RGB', (20, 10), color) for color in ('red', 'green', 'blue')]


@pytest.mark.parametrize('suffix', ['.gif', '.webp', '.png', '.tif'])
def test_frames_and_pages_are_counted(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    IMAGES[0].save(path, save_all=True, append_images=IMAGES[1:])
    assert num_frames(path) == 3
    IMAGES[0].save(path)
    assert num_frames(path) == 1


def test_reduced_copies_in_a_tiff_are_no_pages(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    import numpy as np
    with tifffile.TiffWriter(tmp_path / 'a.tif') as writer:
        for number, side in enumerate((64, 32, 16)):
            writer.write(np.zeros((side, side), np.uint8), subfiletype=1 if number else 0)
    assert num_frames(tmp_path / 'a.tif') == 1


def test_other_and_broken_files_have_one_image(tmp_path):
    IMAGES[0].save(tmp_path / 'a.gif', save_all=True, append_images=IMAGES[1:])
    (tmp_path / 'b.gif').write_bytes((tmp_path / 'a.gif').read_bytes()[:30])
    (tmp_path / 'c.tif').write_bytes(b'II*\0' + b'\xff' * 20)
    (tmp_path / 'd.png').write_bytes(b'')
    assert [num_frames(tmp_path / name) for name in ('b.gif', 'c.tif', 'd.png', 'gone.png')] == [1] * 4
