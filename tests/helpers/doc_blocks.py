"""Code blocks, commands, inline code and links of the Markdown pages."""
import re
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

from mae_backbone.cli.main import with_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
NEEDS = {'gpu', 'slurm', 'data'}
_BLOCK = re.compile(r'^(?:<!-- needs: (?P<needs>.*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$', re.M | re.S)


class Block(NamedTuple):
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    text: str
    needs: str  # what `<!-- needs: ... -->` before it says, '' without

    @property
    def place(self) -> str:
        return f'{self.page.relative_to(ROOT)}:{self.line}'


class Command(NamedTuple):
    """A command of this package in a block."""

    place: str
    name: str
    options: list[str]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding='utf-8')
    return [Block(page, text.count('\n', 0, match.start()) + 1, match['language'], match['text'], match['needs'] or '')
            for match in _BLOCK.finditer(text)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub('', page.read_text(encoding='utf-8'))


def inline_code(page: Path) -> list[str]:
    """All code in the prose of a page."""
    return re.findall(r'(?<!`)`([^`\n]+)`(?!`)', prose(page))


def shell_lines(block: Block) -> Iterator[list[str]]:
    """The words of each command line of a shell block, comments left out."""
    for line in block.text.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        while '&&' in words:
            cut = words.index('&&')
            yield words[:cut]
            words = words[cut + 1:]
        if words:
            yield words


def commands(page: Path) -> list[Command]:
    """Commands of this package: `mae-backbone NAME`, `python tools/FILE.py` and `-m mae_backbone NAME`."""
    found = []
    for block in blocks(page):
        if block.language == 'bash':
            for words in shell_lines(block):
                if command := _command(words):
                    found.append(Command(block.place, *command))
    return found


def _command(words: list[str]) -> tuple[str, list[str]] | None:
    for i, word in enumerate(words):
        if word in ('mae-backbone', 'mae_backbone') and (i == 0 or words[i - 1] == '-m'):
            return words[i + 1], with_config(words[i + 1], words[i + 2:])
        if match := re.fullmatch(r'tools/(\w+)\.py', word):
            name = {'check_data': 'check', 'measure_pixels': 'measure'}.get(match[1], match[1])
            return name, with_config(name, words[i + 1:])
    return None


def braces(pattern: str) -> list[str]:
    """'a_{b,c}' -> ['a_b', 'a_c'], as a shell expands it."""
    parts = [part.split(',') if i % 2 else [part] for i, part in enumerate(re.split(r'\{([^{}]*)\}', pattern))]
    return [''.join(choice) for choice in product(*parts)]


def links(page: Path) -> list[str]:
    """Targets of all links and pictures of a page."""
    return re.findall(r'\]\(([^)\s]+)\)', prose(page))


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as mkdocs and GitHub name them."""
    headings = re.findall(r'^#+ (.+)$', prose(page), re.M)
    return {re.sub(r'[\s-]+', '-', re.sub(r'[^\w\s-]', '', heading).strip().lower()) for heading in headings}
