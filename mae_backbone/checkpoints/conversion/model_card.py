"""Model cards: Markdown with the header that the Hugging Face hub reads."""
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mae_backbone.checkpoints.conversion.licenses import MAE_LICENSE, MAE_LICENSE_NOTE

# Task of a model -> its `pipeline_tag` on the hub; other tasks are `image-feature-extraction`.
_TAGS = {'detection': 'object-detection', 'segmentation': 'image-segmentation',
         'classification': 'image-classification'}


class ModelCard(NamedTuple):
    """A model card.

    Attributes:
        name: title.
        task: 'detection', 'segmentation', 'classification', or another one for models that give features.
        library: library that loads the model: 'timm', 'transformers' or 'mae_backbone'.
        license: of the weights, as an identifier of the hub; None if it is not known.
        summary: a sentence about the model.
        usage: (language, code) of each example.
        sections: (heading, lines of Markdown) in order; sections without lines are left out.
    """

    name: str
    task: str
    library: str
    license: str | None
    summary: str
    usage: Sequence[tuple[str, str]]
    sections: Sequence[tuple[str, Sequence[str]]]

    def to_markdown(self) -> str:
        """The text of the card."""
        lines = ['---', f'license: {self.license or "unknown"}', f'library_name: {self.library}',
                 f'pipeline_tag: {_TAGS.get(self.task, "image-feature-extraction")}', 'tags:', '- vit', '- mae',
                 '- mae_backbone', '---', '', f'# {one_line(self.name)}', '', self.summary, '', '## Use', '']
        for language, code in self.usage:
            lines += [f'```{language}', code, '```', '']
        for heading, content in self.sections:
            if content:
                lines += [f'## {heading}', '', *content, '']
        return '\n'.join(lines).rstrip() + '\n'


def license_lines(license: str | None, source: str) -> list[str]:
    """Lines about a license and what states it."""
    lines = [f'{license} ({one_line(source)}).' if license else
             'Not stated. Fine-tuned public weights keep the terms of the public weights.']
    return lines + ([f'{MAE_LICENSE_NOTE[0].upper()}{MAE_LICENSE_NOTE[1:]}.'] if license == MAE_LICENSE else [])


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table of Markdown. Values are escaped; without rows there are no lines."""
    lines = [f'| {" | ".join(map(one_line, row))} |' for row in rows]
    return [f'| {" | ".join(head)} |', f'|{" --- |" * len(head)}', *lines] if lines else []


def one_line(text: object) -> str:
    """Text that a cell of a table can hold. It may come from the metadata of an untrusted file."""
    return ' '.join(str(text).split()).replace('|', '\\|').replace('<', '&lt;')
