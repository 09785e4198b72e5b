"""Where bytes come from: the same images, in a fixed order, from any kind of source."""
import pickle

import pytest
from image_files import save

from mae_backbone.data.files import list_images
from mae_backbone.data.sources import open_source


def test_a_folder_gives_the_bytes_of_its_images_in_order(tmp_path):
    for name in ('b/c.png', 'a.jpg', 'ünï 日本.png'):
        save(tmp_path / name)
    source = open_source(tmp_path)
    files = list_images(tmp_path)
    assert len(source) == 3
    for one in (source, pickle.loads(pickle.dumps(source))):
        assert [one.name(i) for i in range(3)] == [str(file) for file in files]
        assert [one.read(i) for i in range(3)] == [file.read_bytes() for file in files]
    files[1].unlink()
    with pytest.raises(FileNotFoundError, match=r'c\.png'):
        source.read(1)
