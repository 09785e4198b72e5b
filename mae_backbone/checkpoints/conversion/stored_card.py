"""Model card of a `StoredModel`, the README.md of a folder that a conversion or `save_pretrained` writes."""
from collections.abc import Mapping, Sequence
from typing import Any

from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.model_card import ModelCard, license_lines, table

_PROJECT = 'mae_backbone'


def card_of(model: StoredModel, name: str, usage: str, *, library: str, versions: Mapping[str, str] | None = None,
            verified: Mapping[str, Any] | None = None) -> ModelCard:
    """Returns the model card of a folder.

    Args:
        model: model in the folder.
        name: title of the card.
        usage: code that loads the folder.
        library: library that loads the folder: 'timm', 'transformers' or 'mae_backbone'.
        versions: versions of packages by name.
        verified: verification in the metadata (`metadata_of`); None if the result was not verified.
    """
    results = table(('task', 'data', 'metric', 'labels', 'encoder', 'value', 'seeds'), model.results)
    origin = model.origin
    return ModelCard(
        name=name, task='classification' if model.num_classes else 'features', library=library, license=origin.license,
        summary=_summary(model), usage=[('python', usage)],
        sections=[('Architecture', table(('', ''), _architecture(model))),
                  ('Training', table(('', ''), model.training.items())),
                  ('Results of `mae-backbone transfer`', results and [
                      *results, '', 'Percent: mean and standard deviation over the seeds.']),
                  ('Origin', table(('', ''), _origin(model))),
                  ('License', license_lines(origin.license, origin.license_source)),
                  ('Verification', _verification(verified) if verified else []),
                  ('Versions', table(('package', 'version'), (versions or {}).items()))])


def _verification(verified: Mapping[str, Any]) -> list[str]:
    differences = ', '.join(f'{output} {value:.2g}' for output, value in verified['largest_differences'].items())
    return [f'Run by {verified["library"]} on {verified["images"]} random images. Largest difference to {_PROJECT}: '
            f'{differences}.']


def _summary(model: StoredModel) -> str:
    architecture = model.architecture
    size = f'ViT-{architecture.name.capitalize()}' if architecture.name else 'a Vision Transformer'
    what = ('a masked autoencoder (He et al., CVPR 2022) with its decoder' if architecture.decoder else
            f'a classifier of {model.num_classes} classes' if model.num_classes else 'an encoder')
    return (f'{size[0].upper()}{size[1:]} with patches of {architecture.patch_size} pixels: {what}, written by '
            f'{_PROJECT}.')


def _architecture(model: StoredModel) -> list[tuple[str, str]]:
    architecture, (height, width) = model.architecture, model.architecture.image_size
    rows = [('encoder', f'width {architecture.width}, depth {architecture.depth}, {architecture.heads} heads'),
            ('images', f'{height}x{width} pixels, {architecture.in_channels} channels'),
            ('patches', f'{architecture.patch_size}x{architecture.patch_size} pixels')]
    if architecture.decoder:
        size = architecture.decoder
        target = {True: 'pixels, normalized by patch', False: 'pixels', 'image': 'pixels, normalized by image'}
        rows += [('decoder', f'width {size.width}, depth {size.depth}, {size.heads} heads'),
                 ('target', target[architecture.norm_pix])]
    if model.num_classes:
        names = [*architecture.classes[:50], *(['...'] if len(architecture.classes) > 50 else [])]
        rows.append(('classes', ', '.join(names) or str(model.num_classes)))
    if architecture.mean:
        rows += [('mean of the pixels', _numbers(architecture.mean)), ('deviation', _numbers(architecture.std))]
    return rows


def _origin(model: StoredModel) -> list[tuple[str, str]]:
    origin = model.origin
    rows = [('source', origin.file), ('layout', origin.layout)] + [('sha256', origin.sha256)] * bool(origin.sha256)
    if origin.earlier:
        rows.append(('converted before from', f'{origin.earlier.get("file")}, sha256 {origin.earlier.get("sha256")}'))
    return [*rows, *(('note', note) for note in model.notes)]


def _numbers(values: Sequence[float]) -> str:
    return ', '.join(f'{value:.6g}' for value in values)
