"""Model cards: Markdown text with the metadata header of the Hugging Face hub."""
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mae_backbone.checkpoints.conversion.licenses import MAE_LICENSE, MAE_LICENSE_NOTE

# `pipeline_tag` of the hub by task. Other tasks have the tag `image-feature-extraction`.
_TAGS = {'detection': 'object-detection', 'segmentation': 'image-segmentation',
         'classification': 'image-classification'}


class ModelCard(NamedTuple):
    """A model card.

    Attributes:
        name: title of the card.
        task: 'detection', 'segmentation', 'classification', or any other string for models that compute features.
        library: library that loads the model: 'timm', 'transformers' or 'mae_backbone'.
        license: license of the weights, as an identifier of the hub; None if it is unknown.
        summary: sentence about the model.
        usage: examples as (language, code).
        sections: sections as (heading, lines of Markdown). Sections without lines are not written.
    """

    name: str
    task: str
    library: str
    license: str | None
    summary: str
    usage: Sequence[tuple[str, str]]
    sections: Sequence[tuple[str, Sequence[str]]]

    def to_markdown(self) -> str:
        """Returns the text of the card."""
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
    """Returns lines about a license and its source."""
    lines = [f'{license} ({one_line(source)}).' if license else
             'Not stated. Fine-tuned public weights keep the terms of the public weights.']
    return lines + ([f'{MAE_LICENSE_NOTE[0].upper()}{MAE_LICENSE_NOTE[1:]}.'] if license == MAE_LICENSE else [])


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a Markdown table with escaped values; no lines if there are no rows."""
    lines = [f'| {" | ".join(map(one_line, row))} |' for row in rows]
    return [f'| {" | ".join(head)} |', f'|{" --- |" * len(head)}', *lines] if lines else []


def one_line(text: object) -> str:
    """Returns text as a single escaped line, because it may come from the metadata of an untrusted file."""
    return ' '.join(str(text).split()).replace('|', '\\|').replace('<', '&lt;')
