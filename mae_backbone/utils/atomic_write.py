"""Files that are written whole or not at all: whoever reads one sees the old or the new.

They need not outlast a loss of power; checkpoints, which must, are those of `mae_backbone.checkpoints.files`.
"""
import os
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file beside its name, as NAME.part, and renames it; on failure nothing is left but what was there.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(path.name + '.part')
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """The same for text, in UTF-8, with the ends of lines that it has."""
    write_bytes(path, text.encode())
