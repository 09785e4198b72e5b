"""List of all messages of errors, read from the source: fills `docs/messages.md` when the site is built."""
import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / 'mae_backbone'
MARKER = '<!-- list of messages -->'
# Folder of the package -> heading, in the order of the page. Other folders come last, under their own names.
HEADINGS = {
    'cli': 'Commands and options', 'planning': 'Config and data together', 'formats': 'Labeled data sets',
    'data': 'Images, lists and shards', 'checkpoints': 'Checkpoints', 'core': 'The model',
    'models': 'Parts of the model', 'engine': 'Training', 'hooks': 'Hooks',
    'evaluation': 'Probes and robustness', 'prediction': 'Prediction', 'export': 'Export',
    'detection': 'Detection', 'segmentation': 'Segmentation', 'transfer': 'Transfer', 'benchmark': 'Benchmarks',
    'demo': 'The page', 'quickstart': 'Quickstart', 'compat': 'Installation', 'utils': 'Files',
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Puts the list in the place of the marker. Called by mkdocs for every page."""
    return markdown.replace(MARKER, as_markdown()) if MARKER in markdown else markdown


def as_markdown() -> str:
    """All messages as a section for each folder of the package."""
    by_folder: dict[str, set[str]] = {}
    for folder, message in messages():
        by_folder.setdefault(folder, set()).add(message)
    order = [*HEADINGS, *sorted(by_folder.keys() - HEADINGS.keys())]
    sections = []
    for folder in order:
        if folder in by_folder:
            lines = '\n'.join(f'- `` {message} ``' for message in sorted(by_folder[folder], key=str.casefold))
            sections.append(f'## {HEADINGS.get(folder, folder)}\n\n{lines}\n')
    return '\n'.join(sections)


def messages() -> Iterator[tuple[str, str]]:
    """Folder of the package and text of every error that it raises, with `...` for what varies."""
    for file in sorted(PACKAGE.rglob('*.py')):
        folder = file.relative_to(PACKAGE).parts[0]
        if folder.startswith('.'):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                message = ' '.join(text_of(node.exc.args[0]).split())
                if len(message.replace('.', '').strip()) > 12:
                    yield folder.removesuffix('.py'), message


def text_of(node: ast.expr) -> str:
    """Text of an expression that makes a string, with `...` for the parts that are not known from the source."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return ''.join(text_of(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.IfExp):
        return text_of(node.body)
    return '...'
