"""Finds the ViT in a file of any public layout, and returns its weights with our names."""
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mae_backbone.checkpoints.facts import Facts, facts_of
from mae_backbone.checkpoints.layouts.layout import Layout, Names, Plan, prefixes_of
from mae_backbone.checkpoints.layouts.registry import find_layouts
from mae_backbone.checkpoints.layouts.rules import Step
from mae_backbone.checkpoints.positions import Grid, stored_grid
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.selection import choose_prefix, is_asked_for
from mae_backbone.checkpoints.state_dicts import check_finite, few
from mae_backbone.checkpoints.weight_files import LazyTensors, WeightFile, open_weights, weights_in_content


@dataclass
class Source:
    """A ViT that was found in a file. Its tensors are read on access.

    Attributes:
        path: path of the file or folder.
        layout: layout of the file.
        prefix: prefix of the names of the ViT in the file.
        plan: steps that convert the tensors of the file to tensors with our names.
        weights: all named tensors of the file.
        facts: other facts that the file states.
        patch_size: height and width of a patch in pixels; None without a patch embedding of two dimensions.
        choice: text about the selected weights, if the file has several sets of weights; otherwise ''.
    """

    path: Path
    layout: Layout
    prefix: str
    plan: Plan
    weights: LazyTensors
    facts: Facts
    patch_size: int | None = None
    choice: str = ''

    def encoder(self, *, check: bool = True) -> dict[str, Tensor]:
        """Returns the weights of the encoder with our names.

        Args:
            check: raise CheckpointError if a value is not finite.
        """
        return self._read(self.plan.encoder, check=check)

    def decoder(self) -> dict[str, Tensor]:
        """Returns the weights of the decoder of a MAE with our names; empty if the file has no decoder.

        Raises:
            CheckpointError: a value is not finite.
        """
        return self._read(self.plan.decoder)

    def grid(self, number: int) -> Grid | None:
        """Returns the grid (h, w) for which the positions of `number` patches are stored, see `stored_grid`."""
        return stored_grid(number, self.facts.image_size, self.patch_size)

    def _read(self, steps: Mapping[str, Step], *, check: bool = True) -> dict[str, Tensor]:
        tensors = {name: step(self.weights) for name, step in steps.items()}
        if check:
            check_finite(tensors, self.path)
        return tensors


def open_source(path: str | Path, key: str | None = None, *, outline: bool = False) -> Source:
    """Finds the ViT in a file or a folder.

    Args:
        path: as for `open_weights`.
        key: selects a ViT if there are several: a top-level key of the file, a part of the prefix, 'student' or
            'teacher'. None selects the averaged weights, or the weights that the code of the layout evaluates.
        outline: do not read the tensors in zip archives of torch. They are on the device `meta` and have only a shape.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, has no ViT in a known layout, or has several ViTs.
    """
    return find_vit(open_weights(path, key, outline=outline), key)


def source_in(content: object, path: str | Path, key: str | None = None) -> Source:
    """Finds the ViT in the content of the file at `path`, see `open_source`."""
    return find_vit(weights_in_content(content, path, key), key)


def read_facts(path: str | Path, key: str | None = None) -> Facts:
    """Returns the facts that a file or folder states about its model, without reading its tensors.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read.
    """
    file = open_weights(path, key, outline=True)
    layouts = [layout.name for layout in find_layouts(file.weights, file.content).values()]
    return facts_of(file.content, file.config, file.preprocessor, layout=layouts[0] if layouts else '')


def find_vit(file: WeightFile, key: str | None = None) -> Source:
    """Finds the ViT in a file that is already open. `key` and errors are as in `open_source`."""
    path = file.path
    found = find_layouts(file.weights, file.content)
    if not found:
        raise CheckpointError(f'{path} holds no ViT of a known layout: its tensors are {few(file.weights)}. Pass '
                              'weights of a ViT from mae-backbone, the public MAE code, timm, Hugging Face or another '
                              'of the layouts that docs/weights.md lists')
    prefixes = list(found)
    named = key is None or is_asked_for(file.key, key)
    prefix = prefixes[0] if len(prefixes) == 1 and named else choose_prefix(prefixes, None if named else key, path)
    layout = found[prefix]
    if layout.refused:
        raise CheckpointError(f'{path} holds a ViT of {layout.title}: {layout.refused}. Use '
                              "type='mae_backbone.TimmViT' as backbone instead, with the name of the model in timm")
    decoders = prefixes_of(layout.decoder_anchor, file.weights) if layout.decoder else []
    plan = layout.plan(Names.split(file.weights, prefix), decoders[0] if len(decoders) == 1 else None)
    embedding = plan.encoder.get('patch_embed.proj.weight')
    shape = () if embedding is None else embedding(file.weights).shape
    if embedding is not None and not shape:
        raise CheckpointError(f'{path} has a patch embedding without a shape: copy the file again')
    width, patch_size = shape[0] if shape else None, shape[3] if len(shape) == 4 else None
    facts = facts_of(file.content, file.config, file.preprocessor, layout=layout.name, width=width)
    return Source(path, layout, prefix, plan, file.weights, facts, patch_size,
                  _choice(file.key, file.other_keys, prefix, prefixes))


def _choice(key: str, other_keys: list[str], prefix: str, prefixes: list[str]) -> str:
    other_prefixes = [name for name in prefixes if name != prefix]
    others = [repr(name) for name in [*other_keys, *other_prefixes]]
    if not others:
        return ''
    return f'{(prefix if other_prefixes else key)!r} taken, not {", ".join(others)} (--weights-key chooses)'
