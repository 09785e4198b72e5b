"""Formats each config once.

`Config.pretty_text` of MMEngine formats the config with yapf, which takes a second or more for a detector. MMEngine
asks for it four times when a run starts and once for every checkpoint, of the same config. It keeps no result, and it
imports `FormatCode` from yapf inside of the property. Therefore the result is kept in yapf.

The text is also the file in the work directory, which is read again. MMEngine would replace templates in it, such as
`{{ fileDirname }}` in the name of a folder.
"""
from functools import lru_cache

import yapf.yapflib.yapf_api

from mae_backbone.compat.config_templates import without_templates

_format_code = yapf.yapflib.yapf_api.FormatCode


def install() -> None:
    """Replaces yapf's function by one that keeps its last results."""
    yapf.yapflib.yapf_api.FormatCode = lambda text, style_config, **_: _format_once(
        text, tuple(sorted(style_config.items())))


@lru_cache(maxsize=4)
def _format_once(text: str, style: tuple) -> tuple[str, bool]:
    formatted, changed = _format_code(text, style_config=dict(style))
    return without_templates(formatted), changed
