import io
import logging
from contextlib import redirect_stderr, redirect_stdout

import pytest

from mae_backbone.cli.errors import log_rank0, run_cli
from mae_backbone.data.index import say
from mae_backbone.utils.printable import escape_record, printable, printable_lines

HOSTILE = 'a\x1b[2J\x07\r\x9b\udcff\u202eb'
ESCAPED = r'a\x1b[2J\x07\r\x9b\udcff\u202eb'


@pytest.mark.parametrize('text', ['', 'cat', 'Straße 日本 naïve', "it's", 'a b'])
def test_names_of_any_language_are_unchanged(text: str):
    assert printable(text) == printable_lines(text) == text


def test_control_characters_and_invalid_bytes_are_escaped():
    assert printable(HOSTILE) == ESCAPED
    assert printable('a\nb\tc') == r'a\nb\tc'
    assert printable_lines('a\nb\tc') == 'a\nb\tc'
    printable(HOSTILE).encode()


@pytest.mark.parametrize('write', [log_rank0, say])
def test_lines_of_commands_are_escaped(write):
    printed = io.StringIO()
    with redirect_stdout(printed):
        write(HOSTILE)
    assert printed.getvalue() == ESCAPED + '\n'


def test_errors_are_escaped():
    def fail() -> None:
        raise ValueError(HOSTILE)
    printed = io.StringIO()
    with redirect_stderr(printed):
        assert run_cli(fail) == 2
    assert printed.getvalue() == f'error: {ESCAPED}\n'


def test_records_of_a_logger_are_escaped():
    stream, logger = io.StringIO(), logging.getLogger('test_printable')
    handler = logging.StreamHandler(stream)
    handler.addFilter(escape_record)
    logger.addHandler(handler)
    logger.warning('skipped: %s %d', HOSTILE, 3)
    logger.removeHandler(handler)
    assert stream.getvalue() == f'skipped: {ESCAPED} 3\n'
