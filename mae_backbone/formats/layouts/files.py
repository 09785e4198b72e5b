"""Reads text, JSON, YAML and XML files of labels: of limited size, without XML entities, without objects in YAML."""
import json
import os
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import yaml

from mae_backbone.data.files import read_file
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.utils.memory import available_memory

MAX_BYTES = 2**26  # limit of a file with the labels of one image; labelme's files with images inside are smaller
_BYTES_PER_BYTE = 12  # memory that parsed XML or JSON takes, times the size of the file; measured with CVAT's XML


def read_text(path: str | Path, *, limit: int = MAX_BYTES) -> str:
    """Reads a text file in UTF-8, with or without a byte-order mark.

    Raises:
        DataError: the file is too large, cannot be read, or is not text.
    """
    return _text(path, read_limited(path, limit))


def _text(path: str | Path, content: bytes) -> str:
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is not text in UTF-8 (byte {error.start}): save it again in UTF-8') from error


def read_limited(path: str | Path, limit: int = MAX_BYTES) -> bytes:
    """Reads a regular file of at most `limit` bytes. Raises DataError if it is larger or cannot be read."""
    try:
        size = os.stat(path).st_size
        if size > limit:
            raise DataError(f'{path} has {size / 1e6:,.0f} MB, expected at most {limit / 1e6:,.0f} MB of labels')
        return read_file(path)
    except OSError as error:
        raise DataError(f'{path} cannot be read ({error.strerror or error})') from error


def large_limit() -> int:
    """Largest file with the labels of a whole set whose parsed content fits into the free memory, in bytes."""
    return max(MAX_BYTES, int(available_memory() / _BYTES_PER_BYTE))


def read_json(path: str | Path, *, limit: int = MAX_BYTES) -> Any:
    """Reads a JSON file. Raises DataError with the line of a mistake."""
    text = read_text(path, limit=limit)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f'{path}, line {error.lineno}: not JSON ({error.msg}): the file is damaged or truncated, '
                        'export it again') from error
    except RecursionError as error:
        raise DataError(f'{path} is nested too deeply for a file of labels') from error


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file of at most 4 MB without building objects. Raises DataError with the line of a mistake."""
    text = read_text(path, limit=2**22)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, 'problem_mark', None)
        line = f', line {mark.line + 1}' if mark else ''
        raise DataError(f'{path}{line}: not YAML ({getattr(error, "problem", None) or error}): correct it') from error


def read_xml(path: str | Path, *, limit: int = MAX_BYTES) -> Element:
    """Reads an XML file without document type and entities, which could expand without bounds or name other files.

    Raises:
        DataError: the file is too large, is not XML, or declares a document type.
    """
    content = read_limited(path, limit)
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise DataError(f'{path}, line {parser.CurrentLineNumber}: the file declares a document type (DOCTYPE), which '
                        'label files do not need and which could expand without bounds: remove the declaration')
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
        return builder.close()
    except expat.ExpatError as error:
        raise DataError(f'{path}, line {error.lineno}: not XML ({expat.errors.messages[error.code]}): the file is '
                        'damaged or truncated, export it again') from error


def number(text: object, place: str, what: str, expected: str = 'a number in pixels') -> float:
    """Converts a text or number of a label file. Raises DataError that names the place if it is not finite."""
    try:
        value = float(text)  # type: ignore[arg-type]
        if abs(value) < 1e9:  # False for NaN
            return value
    except (TypeError, ValueError):
        pass
    raise DataError(f'{place}: {what} is {text!r:.40}, expected {expected}')
