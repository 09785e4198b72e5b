"""Shards of generated images."""
import io
import tarfile
from pathlib import Path

FILES = {'n01/a.jpg': b'first', 'n01/a.cls': b'0', 'n02/b.JPEG': b'second' * 500, 'c.png': b'', '._c.png': b'mac',
         'notes.txt': b'x', '/absolute.jpg': b'third', '../up.jpg': b'fourth', 'd' * 300 + '.jpg': b'long',
         '日本.jpg': b'unicode'}


def tar(path: Path, files: dict[str, bytes] = FILES, *, style: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, 'w', format=style) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
