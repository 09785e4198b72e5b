"""Writes safetensors files with our names, and the safetensors folders of other targets."""
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
from mae_backbone.checkpoints.safetensors_file import save_safetensors
from mae_backbone.utils.atomic_write import write_text


class SafetensorsTarget(Target):
    """A file with the names of `mae-backbone pretrain` and `mae-backbone train`. It can store all parts of a model."""

    name, title = 'safetensors', 'safetensors of this package'
    layout = Ours()
    library = package = 'mae_backbone'
    suffixes = ('.safetensors',)
    holds_decoder = holds_batch_norm = holds_relative_positions = holds_windows = holds_convolutions = True
    needs_class_token = needs_norm = needs_square = False
    pools = ('class', 'mean', 'attention')

    def problems(self, model: StoredModel) -> list[str]:
        """Returns no problems, because this layout can store all models."""
        return []

    def tensors(self, model: StoredModel) -> dict[str, Tensor]:
        """Returns the weights with the prefixes of a run.

        These are `mae.encoder.` and `mae.decoder.` for a MAE, `backbone.` for the encoder of a classifier or detector,
        and none for an encoder without a head.
        """
        encoder = 'mae.encoder.' if model.decoder else 'backbone.' if model.head or model.others else ''
        return ({encoder + name: value for name, value in model.encoder.items()}
                | {f'mae.decoder.{name}': value for name, value in model.decoder.items()} | model.head | model.others)

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of `tensors`."""
        prefixes = ('mae.encoder.', 'mae.decoder.', 'backbone.')
        return {name.removeprefix(next((prefix for prefix in prefixes if name.startswith(prefix)), '')): value
                for name, value in tensors.items()}

    def config(self, model: StoredModel) -> dict[str, Any]:
        """Returns the architecture, which is also part of the metadata."""
        return model.architecture.to_dict()

    def write(self, result: Result, path: Path) -> None:
        """Writes the file, with the metadata in its header."""
        save_tensors(result, path, self.layout.name)

    def usage(self, model: StoredModel, path: str | Path) -> str:
        """Returns a command that loads the file."""
        return f'mae-backbone train CONFIG --pretrained {path}'

    def outputs(self, model: StoredModel, path: Path, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Computes the outputs of our implementation with the weights in the file."""
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
    """Writes a safetensors file. Its header has the layout, our metadata as JSON, and `format` for transformers."""
    tensors, memory = {}, set[int]()
    for name, value in result.tensors.items():
        value = value.contiguous()
        # safetensors refuses tensors that share memory, as tensors do that the source file stores once.
        start = value.untyped_storage().data_ptr()
        tensors[name] = value.clone() if start in memory else value
        memory.add(start)
    save_safetensors(tensors, path, {'format': 'pt', LAYOUT_KEY: layout, KEY: json.dumps(result.metadata)})


def to_dtype(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Converts floating-point tensors to `dtype`. Integer tensors are not changed."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
