"""List of all messages, and the messages that the page of troubleshooting quotes."""
import importlib.util
import re

import pytest
from helpers.doc_blocks import ROOT

_spec = importlib.util.spec_from_file_location('message_list', ROOT / 'docs/hooks/message_list.py')
message_list = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(message_list)


@pytest.fixture(scope='module')
def source() -> str:
    """All strings of the package, each on a line, with `...` for what varies in them."""
    import ast
    lines = []
    for file in message_list.PACKAGE.rglob('*.py'):
        tree = ast.parse(file.read_text(encoding='utf-8'))
        lines += [' '.join(message_list.text_of(node).split()) for node in ast.walk(tree)
                  if isinstance(node, (ast.JoinedStr, ast.BinOp, ast.Constant))]
    return '\n'.join(lines)


def test_list_has_the_messages_of_all_rooms():
    text = message_list.as_markdown()
    assert text.count('\n- ') > 200
    assert '## Labeled data sets' in text
    assert '## Checkpoints' in text


def test_hook_fills_the_page_with_the_marker_only():
    page = (ROOT / 'docs/messages.md').read_text(encoding='utf-8')
    assert message_list.MARKER in page
    assert message_list.on_page_markdown(page).count('\n- ') > 200
    assert message_list.on_page_markdown('# Other') == '# Other'


def test_quoted_messages_exist_in_the_source(source):
    page = (ROOT / 'docs/troubleshooting.md').read_text(encoding='utf-8')
    quotes = re.findall(r'^\| `([^`]+)`', page, re.M)
    assert len(quotes) > 30
    missing = []
    for quote in quotes:
        pieces = [re.escape(piece.strip()) for piece in quote.split('...') if piece.strip()]
        if not re.search('.*'.join(pieces), source):
            missing.append(quote)
    assert not missing, '\n'.join(missing)
