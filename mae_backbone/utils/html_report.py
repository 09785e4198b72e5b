"""Reports: tables in Markdown and HTML, figures, and the page around them."""
import base64
import html
from collections.abc import Iterable, Mapping, Sequence

_STYLE = '''
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
div.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: left; white-space: nowrap; }
th.group { white-space: normal; padding-top: .9rem; color: #555; }
div.side { display: flex; flex-wrap: wrap; align-items: flex-start; }
figure { margin: 2rem 0; } img { max-width: 100%; height: auto; } figcaption { color: #555; }
pre { overflow-x: auto; background: #f4f4f4; padding: .6rem; font-size: .85rem; }
p, h2, h3, li, figcaption { overflow-wrap: anywhere; }
@media (max-width: 40rem) { th, td { padding: .3rem .4rem; font-size: .85rem; } h1 { font-size: 1.5rem; } }
'''


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; what would end a cell is written so that it does not."""
    def line(cells: Sequence[str]) -> str:
        return '| ' + ' | '.join(' '.join(cell.replace('|', r'\|').split()) for cell in cells) + ' |'
    return '\n'.join([line(head), line(('---',) * len(head)), *map(line, rows)])


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same for a page, in a box of its own that scrolls where the page is narrow.

    A row of one cell is the headline of those below it, as wide as the table.
    """
    cells = ''.join(f'<th>{html.escape(cell)}</th>' for cell in head)
    body = ''.join('<tr>' + (f'<th class="group" colspan="{len(head)}">{html.escape(row[0])}</th>' if len(row) == 1 else
                             ''.join(f'<td>{html.escape(cell)}</td>' for cell in row)) + '</tr>' for row in rows)
    return (f'<div class="wide"><table><thead><tr>{cells}</tr></thead>'
            f'<tbody>{body}</tbody></table></div>')


def heading(words: str, level: int = 2) -> str:
    return f'<h{level}>{html.escape(words)}</h{level}>'


def paragraph(words: str) -> str:
    return f'<p>{html.escape(words)}</p>'


def link(address: str, words: str) -> str:
    """A paragraph that leads to another page."""
    return f'<p><a href="{html.escape(address)}">{html.escape(words)}</a></p>'


def preformatted(text: str) -> str:
    """Lines as they are, such as those of a log."""
    return f'<pre>{html.escape(text)}</pre>'


def figure(source: str, words: str) -> str:
    """A picture, by its address or as `data_uri`, with a caption."""
    return (f'<figure><img src="{html.escape(source)}" alt="{html.escape(words)}">'
            f'<figcaption>{html.escape(words)}</figcaption></figure>')


def gallery(pictures: Mapping[str, str], words: str) -> str:
    """Pictures, their addresses by what they show, with one caption: side by side where there is room for that."""
    images = ''.join(f'<img src="{html.escape(source)}" alt="{html.escape(shown)}">'
                     for shown, source in pictures.items())
    return f'<figure><div class="side">{images}</div><figcaption>{html.escape(words)}</figcaption></figure>'


def data_uri(content: bytes, kind: str) -> str:
    """A file as part of the page; `kind` is such as 'image/png'."""
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page of HTML that needs nothing from elsewhere; `parts` are HTML, what is in them escaped already."""
    return f'''<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>
{chr(10).join(parts)}
</body></html>
'''
