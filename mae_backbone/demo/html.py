"""HTML of the page: legend, neighbors and messages. All text from files is escaped."""
import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from mae_backbone.demo.answers import Row
from mae_backbone.demo.feature_bank import Neighbor
from mae_backbone.utils.printable import printable

# Gradio's variables follow its light and its dark theme.
CSS = """
.gradio-container { width: 100% !important; max-width: 1200px !important; margin: 0 auto !important; }
.html-container { padding: 0 !important; }
.page-head h1 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 .25rem; overflow-wrap: anywhere; }
.page-head p { margin: 0; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.message { border-radius: 8px; padding: .65rem .9rem; line-height: 1.45; overflow-wrap: anywhere; }
.message.note { background: var(--background-fill-secondary); color: var(--body-text-color);
                border: 1px solid var(--border-color-primary); }
.message.error { background: #fdecea; color: #7a1410; border: 1px solid #d9534f; }
.dark .message.error { background: #3d1513; color: #ffd9d6; }
.summary { margin: .5rem 0; color: var(--body-text-color); overflow-wrap: anywhere; }
.legend { display: grid; grid-template-columns: 16px minmax(5rem, auto) minmax(3rem, 1fr) auto; gap: .35rem .65rem;
          align-items: center; margin: 0; color: var(--body-text-color); }
.legend.plain { grid-template-columns: minmax(5rem, auto) minmax(3rem, 1fr) auto; }
#image .download { display: none; }  /* of a file that is deleted once it is read */
.legend .swatch { display: block; width: 16px; height: 16px; border-radius: 4px;
                  border: 1px solid rgba(128, 128, 128, .6); }
.legend .name { overflow-wrap: anywhere; }
.legend .bar { height: 8px; border-radius: 4px; background: var(--background-fill-secondary); overflow: hidden;
               border: 1px solid var(--border-color-primary); }
.legend .bar i { display: block; height: 100%; background: var(--body-text-color-subdued); }
.legend .value { text-align: right; font-variant-numeric: tabular-nums; }
.pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .75rem; }
@media (max-width: 600px) { .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
.pictures figure { margin: 0; min-width: 0; }
.pictures img { width: 100%; border-radius: 6px; }
.pictures figcaption { margin-bottom: .25rem; line-height: 1.35; color: var(--body-text-color); }
.neighbors { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: .75rem; }
.neighbors figure { margin: 0; min-width: 0; }
.neighbors img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px;
                 background: var(--background-fill-secondary); }
.neighbors figcaption { font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; color: var(--body-text-color); }
.neighbors b { font-variant-numeric: tabular-nums; }
"""


def head(title: str, text: str) -> str:
    """Title of the page, and a line about the model."""
    return f'<div class="page-head"><h1>{_text(title)}</h1><p>{_text(text)}</p></div>'


def message(text: str, *, error: bool = False) -> str:
    """A note, or an error; empty for an empty text."""
    kind, role = ('error', 'alert') if error else ('note', 'status')
    return f'<div class="message {kind}" role="{role}">{_text(text)}</div>' if text else ''


def legend(summary: str, rows: Sequence[Row]) -> str:
    """A summary, and below it a line with color (if any row has one), name, bar and value for each row."""
    lines, has_colors = [], any(row.color is not None for row in rows)
    for row in rows:
        swatch = '' if row.color is None else f'<span class="swatch" style="background: rgb{tuple(row.color)}"></span>'
        swatch = f'<span>{swatch}</span>' if has_colors else ''
        bar = f'<span class="bar"><i style="width: {100 * min(max(row.fraction, 0.0), 1.0):.1f}%"></i></span>'
        lines.append(f'{swatch}<span class="name">{_text(row.name)}</span>'
                     f'{bar if row.value else "<span></span>"}<span class="value">{_text(row.value)}</span>')
    kind = 'legend' if has_colors else 'legend plain'
    return f'<p class="summary">{_text(summary)}</p><div class="{kind}">{"".join(lines)}</div>'


def pictures(titled: Sequence[tuple[str, np.ndarray]], summary: str) -> str:
    """Pictures (H, W, 3) uint8 RGB with titles next to each other, and a summary."""
    figures = []
    for title, picture in titled:
        data = base64.b64encode(cv2.imencode('.png', picture[..., ::-1])[1].tobytes()).decode()
        figures.append(f'<figure><figcaption>{_text(title)}</figcaption>'
                       f'<img src="data:image/png;base64,{data}" alt="{_text(title)}"></figure>')
    return f'<div class="pictures">{"".join(figures)}</div><p class="summary">{_text(summary)}</p>'


def neighbors(found: Sequence[Neighbor]) -> str:
    """Thumbnails with similarities and names."""
    figures = []
    for neighbor in found:
        data = base64.b64encode(neighbor.thumbnail).decode()
        name = _text(neighbor.name)
        figures.append(f'<figure><img src="data:image/jpeg;base64,{data}" alt="{name}">'
                       f'<figcaption><b>{neighbor.similarity:.3f}</b> {name}</figcaption></figure>')
    return f'<div class="neighbors">{"".join(figures)}</div>'


def _text(text: str) -> str:
    return escape(printable(text))
