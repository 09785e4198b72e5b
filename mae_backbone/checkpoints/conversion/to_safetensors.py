"""Safetensors under our names, and the folders of safetensors that other targets are made of."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mae_backbone.checkpoints.conversion.build import our_outputs
from mae_backbone.checkpoints.conversion.files import KEY
from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.target import Result, Target
from mae_backbone.checkpoints.layouts.ours import LAYOUT_KEY, Ours
from mae_backbone.utils.atomic_write import write_text


class SafetensorsTarget(Target):
    """The names of a run of `mae-backbone pretrain` or `mae-backbone train`, in one file; it holds everything."""

    name, title = 'safetensors', 'safetensors of this package'
    layout = Ours()
    library = package = 'mae_backbone'
    suffixes = ('.safetensors',)
    holds_decoder = holds_batch_norm = holds_relative_positions = holds_windows = holds_convolutions = True
    needs_class_token = needs_norm = needs_square = False
    pools = ('class', 'mean', 'attention')

    def problems(self, model: StoredModel) -> list[str]:
        """None."""
        return []

    def tensors(self, model: StoredModel) -> dict[str, Tensor]:
        """`mae.encoder.` and `mae.decoder.` of a MAE; `backbone.` of a classifier or a detector; else no prefix."""
        encoder = 'mae.encoder.' if model.decoder else 'backbone.' if model.head or model.others else ''
        return ({encoder + name: value for name, value in model.encoder.items()}
                | {f'mae.decoder.{name}': value for name, value in model.decoder.items()} | model.head | model.others)

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `tensors`."""
        prefixes = ('mae.encoder.', 'mae.decoder.', 'backbone.')
        return {name.removeprefix(next((prefix for prefix in prefixes if name.startswith(prefix)), '')): value
                for name, value in tensors.items()}

    def config(self, model: StoredModel) -> dict[str, Any]:
        """The architecture, which the metadata has too."""
        return model.architecture.to_dict()

    def write(self, result: Result, path: Path) -> None:
        """One file, with the metadata in its header."""
        save_tensors(result, path, self.layout.name)

    def usage(self, model: StoredModel, path: str | Path) -> str:
        """The option of every command."""
        return f'mae-backbone train CONFIG --pretrained {path}'

    def outputs(self, model: StoredModel, path: Path, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Our implementation, with the weights in the file."""
        from safetensors.torch import load_file
        weights = self.back({name: value.float() if value.is_floating_point() else value
                             for name, value in load_file(path).items()})
        stored = StoredModel({name: value for name, value in weights.items() if name in model.weights},
                             model.architecture, model.origin)
        return our_outputs(stored, images, noise)


def write_folder(result: Result, folder: Path, layout: str) -> None:
    """Writes `model.safetensors`, `config.json` with the metadata under a separate key, and the other files."""
    save_tensors(result, folder / 'model.safetensors', layout)
    for name, text in result.files.items():
        write_text(folder / name, text)
    write_text(folder / 'config.json', json.dumps(result.config | {KEY: result.metadata}, indent=2) + '\n')


def save_tensors(result: Result, path: Path, layout: str) -> None:
    """Writes safetensors, with `format` for transformers, the layout, and our metadata as JSON in the header."""
    from safetensors.torch import save_file
    # A file with two names for one storage is refused; names of our models never share one.
    save_file({name: value.contiguous() for name, value in result.tensors.items()}, path,
              metadata={'format': 'pt', LAYOUT_KEY: layout, KEY: json.dumps(result.metadata)})


def to_dtype(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Floating point tensors in `dtype`; integers stay."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
