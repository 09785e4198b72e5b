"""Reports: tables in Markdown and HTML, figures, and the HTML page that contains them.

All text is escaped. Functions that return HTML return `Markup`; a plain string among the parts of a page is escaped.
"""
import base64
from collections.abc import Iterable, Mapping, Sequence

from jinja2 import Environment
from markupsafe import Markup

_TEMPLATE = '''\
{% macro table(head, rows, wrap) -%}
<div class="wide" tabindex="0" role="region" aria-label="table: {{ head | join(', ') }}">
<table{% if wrap %} class="wrap"{% endif %}><thead><tr>
{%- for cell in head -%}<th scope="col">{{ cell }}</th>{%- endfor -%}
</tr></thead><tbody>
{%- for row in rows -%}
<tr>
{%- if row | length == 1 -%}
<th class="group" colspan="{{ head | length }}">{{ row[0] }}</th>
{%- else -%}
{% for cell in row %}<td>{{ cell }}</td>{% endfor %}
{%- endif -%}
</tr>
{%- endfor -%}
</tbody></table></div>
{%- endmacro %}

{% macro heading(text, level) -%} <h{{ level }}>{{ text }}</h{{ level }}> {%- endmacro %}

{% macro paragraph(parts) -%}
<p>{% for part in parts -%}
{% if loop.index is even %}<code>{{ part }}</code>{% else %}{{ part }}{% endif %}
{%- endfor %}</p>
{%- endmacro %}

{% macro link(address, text) -%} <p><a href="{{ address }}">{{ text }}</a></p> {%- endmacro %}

{% macro preformatted(text) -%} <pre tabindex="0">{{ text }}</pre> {%- endmacro %}

{% macro figure(source, caption) -%}
<figure><img src="{{ source }}" alt="{{ caption }}"><figcaption>{{ caption }}</figcaption></figure>
{%- endmacro %}

{% macro gallery(pictures, caption) -%}
<figure><div class="side">
{%- for name, source in pictures.items() -%} <img src="{{ source }}" alt="{{ name }}"> {%- endfor -%}
</div><figcaption>{{ caption }}</figcaption></figure>
{%- endmacro %}

{% macro page(title, parts) -%}
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>
:root { color-scheme: light dark; --line: #ccc; --muted: #555; --panel: #f4f4f4; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
body { background: #fff; color: #111; }
div.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
table.wrap td { white-space: normal; vertical-align: top; }
th.group { white-space: normal; padding-top: .9rem; color: var(--muted); }
div.side { display: flex; flex-wrap: wrap; align-items: flex-start; gap: .3rem; }
figure { margin: 2rem 0; } img { max-width: 100%; height: auto; } figcaption { color: var(--muted); }
pre { overflow-x: auto; background: var(--panel); padding: .6rem; font-size: .85rem; }
p, h2, h3, li, figcaption { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
th, td { padding: .3rem .4rem; font-size: .85rem; white-space: normal; } h1 { font-size: 1.5rem; }
}
@media (min-width: 100rem) {
body { max-width: 96rem; } p, ul, pre { max-width: 60rem; }
figure { display: inline-block; vertical-align: top; width: calc(50% - 2rem); margin: 1rem 1.5rem 1rem 0; }
figure:has(div.side) { width: 100%; }
}
@media (prefers-color-scheme: dark) {
:root { --line: #444; --muted: #aaa; --panel: #1e1e1e; }
body { background: #121212; color: #e6e6e6; } a { color: #8ab4f8; } img { background: #fff; }
}
@media print {
body { max-width: none; padding: 0; font-size: 11pt; background: #fff; color: #000; } div.wide { overflow: visible; }
figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
pre { white-space: pre-wrap; } th, td { white-space: normal; }
}
</style></head><body><h1>{{ title }}</h1>
{% for part in parts %}{{ part }}
{% endfor -%}
</body></html>
{% endmacro %}
'''
_MACROS = Environment(autoescape=True, keep_trailing_newline=True).from_string(_TEMPLATE).module


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Table in Markdown; line ends and '|' in cells are replaced or escaped."""
    def line(cells: Sequence[str]) -> str:
        return '| ' + ' | '.join(' '.join(cell.replace('|', r'\|').split()) for cell in cells) + ' |'
    return '\n'.join([line(head), line(('---',) * len(head)), *map(line, rows)])


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: bool = False) -> Markup:
    """Table in HTML, in a box that scrolls on narrow pages.

    A row of one cell is a heading of the rows below it, as wide as the table. With `wrap`, cells with sentences are
    broken into lines.
    """
    return _MACROS.table(head, rows, wrap)  # type: ignore[attr-defined]  # macros of the template


def heading(text: str, level: int = 2) -> Markup:
    """Heading of level 1 to 6."""
    return _MACROS.heading(text, level)  # type: ignore[attr-defined]


def paragraph(text: str) -> Markup:
    """Paragraph of text, in which `code` is in backticks as in Markdown."""
    return _MACROS.paragraph(text.split('`') if text.count('`') % 2 == 0 else [text])  # type: ignore[attr-defined]


def link(address: str, text: str) -> Markup:
    """Paragraph with a link to another page."""
    return _MACROS.link(address, text)  # type: ignore[attr-defined]


def preformatted(text: str) -> Markup:
    """Lines with their white space, such as the lines of a log."""
    return _MACROS.preformatted(text)  # type: ignore[attr-defined]


def figure(source: str, caption: str) -> Markup:
    """Picture with a caption; `source` is an address or a `data_uri`."""
    return _MACROS.figure(source, caption)  # type: ignore[attr-defined]


def gallery(pictures: Mapping[str, str], caption: str) -> Markup:
    """Pictures with one caption, side by side if there is room; `pictures` maps alternative texts to sources."""
    return _MACROS.gallery(pictures, caption)  # type: ignore[attr-defined]


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that contains it; `kind` is its media type, such as 'image/png'."""
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def page(title: str, parts: Iterable[str]) -> str:
    """Complete HTML page without external resources.

    Args:
        parts: results of the functions of this module; plain strings are escaped.
    """
    return str(_MACROS.page(title, parts))  # type: ignore[attr-defined]
