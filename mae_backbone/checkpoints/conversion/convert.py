"""Converts a checkpoint to the layout of another library, verifies the result, and writes it atomically."""
import contextlib
import importlib.metadata
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import mae_backbone
from mae_backbone.checkpoints.conversion.build import our_outputs
from mae_backbone.checkpoints.conversion.files import atomic_folder, check_output, check_space, disk_full
from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.source import read_model
from mae_backbone.checkpoints.conversion.stored_card import card_of
from mae_backbone.checkpoints.conversion.target import ConversionError, NotInstalledError, Result, Target, random_inputs
from mae_backbone.checkpoints.conversion.to_detectron2 import Detectron2Target
from mae_backbone.checkpoints.conversion.to_huggingface import HuggingFaceTarget
from mae_backbone.checkpoints.conversion.to_mae import MAETarget
from mae_backbone.checkpoints.conversion.to_mmpretrain import MmpretrainTarget
from mae_backbone.checkpoints.conversion.to_safetensors import SafetensorsTarget, to_dtype
from mae_backbone.checkpoints.conversion.to_timm import TimmTarget
from mae_backbone.utils.atomic_write import FULL_DISK, atomic_path

TARGETS: dict[str, Target] = {target.name: target for target in (
    MAETarget(), TimmTarget(), HuggingFaceTarget(), MmpretrainTarget(), Detectron2Target(), SafetensorsTarget())}

# Largest allowed difference, relative to the largest output. Rounding in float32 typically causes 1e-5, and more in the
# deepest models.
_TOLERANCE = 1e-3


class Verification(NamedTuple):
    """Comparison of the outputs of a result with the outputs of the source.

    Attributes:
        library: name and version of the package that computed the outputs of the result.
        differences: largest absolute difference of each output ('features', 'pixels', 'logits').
        missing: reason why nothing was compared; otherwise ''.
    """

    library: str
    differences: dict[str, float]
    missing: str = ''

    @property
    def largest(self) -> float:
        """Largest difference of all outputs; nan if nothing was compared."""
        return max(self.differences.values(), default=float('nan'))


class Conversion(NamedTuple):
    """A finished conversion.

    Attributes:
        model: model that was written.
        path: path of the result.
        usage: code that loads the result.
        size: number of bytes of the weights.
        verification: verification of the result; None if it was not requested.
    """

    model: StoredModel
    path: Path
    usage: str
    size: int
    verification: Verification | None


def convert(source: str | Path, path: str | Path, target: str, *, verify: bool = False, half: bool = False,
            encoder: bool = False, force: bool = False, heads: int | None = None, decoder_heads: int | None = None,
            license: str | None = None, key: str | None = None) -> Conversion:
    """Converts the checkpoint at `source` and writes it to `path`.

    Args:
        source: file or folder in any layout that `load_encoder` reads.
        path: path of the result: a folder for 'timm' and 'hf', otherwise a file.
        target: name in `TARGETS`.
        verify: run the result in the library of the target, and compare its outputs with the source.
        half: store float16 instead of float32.
        encoder: convert only the encoder.
        force: replace the result of an earlier conversion.
        heads, decoder_heads, license, key: as in `read_model`.

    Raises:
        FileNotFoundError, FileExistsError: as in `check_output`.
        CheckpointError: the source cannot be read.
        ConversionError: the target cannot store the model, or the verification found different outputs.
        DiskFullError: the disk is full. Nothing was written.
    """
    path, writer = Path(path), TARGETS[target]
    if writer.suffixes and path.suffix not in writer.suffixes:
        raise ValueError(f'{path}: {writer.title} reads files that end in {" or ".join(writer.suffixes)}: name OUT so')
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise ValueError(f'{path} is IN and OUT: name another OUT')
    check_output(path, folder=not writer.suffixes, force=force)
    stored = read_model(source, key=key, heads=heads, decoder_heads=decoder_heads, license=license)
    model = prepared(stored, writer, encoder=encoder)
    result = make_result(model, writer, half=half)
    check_space(path, result.size)
    try:
        verification = _write(writer, model, result, path, verify=verify)
    except (OSError, RuntimeError) as error:  # torch and safetensors do not raise ENOSPC if the disk is full
        full = getattr(error, 'errno', None) in FULL_DISK
        if full or 'No space left' in str(error):
            raise disk_full(path, result.size) from error
        raise
    return Conversion(model, path, writer.usage(model, path), result.size, verification)


def prepared(stored: StoredModel, target: Target, *, encoder: bool = False) -> StoredModel:
    """Returns a model without the parts that are not written to a target.

    Raises:
        ConversionError: the target cannot store one of the other parts.
    """
    model = target.reduced(stored.only_encoder() if encoder else stored)
    problems = target.problems(model)
    if problems:
        lines = ''.join(f'\n  {problem}' for problem in problems)
        raise ConversionError(f'{stored.origin.file} does not fit into {target.title}, which has no place for{lines}')
    return model


def make_result(model: StoredModel, target: Target, *, half: bool = False) -> Result:
    """Returns the files of a target for a model, and checks that the conversion is exactly reversible.

    Raises:
        ConversionError: a weight does not fit into float16.
    """
    weights = to_dtype(model.weights, torch.float32)
    exact = replace(model, weights=weights, others=to_dtype(model.others, torch.float32))
    tensors = target.tensors(exact)
    _check_inverse(target.back(tensors), weights | exact.others, target)
    if half:
        tensors = to_dtype(tensors, torch.float16)
        infinite = sorted(name for name, value in tensors.items() if not torch.isfinite(value).all())
        if infinite:
            raise ConversionError(f'{infinite[0]} has values beyond 65504, which float16 cannot hold: leave --half out')
    return Result(tensors, target.config(model), metadata_of(model), target.files(model))


def metadata_of(model: StoredModel, verification: Verification | None = None) -> dict[str, Any]:
    """Returns the metadata of a result: origin, license, architecture, training and verification."""
    origin = model.origin
    metadata: dict[str, Any] = dict(
        version=mae_backbone.__version__, source=dict(file=origin.file, sha256=origin.sha256, layout=origin.layout),
        license=origin.license, license_source=origin.license_source, architecture=model.architecture.to_dict())
    if origin.earlier:
        metadata['origin'] = origin.earlier
    if model.training:
        metadata['training'] = model.training
    if verification is not None and not verification.missing:
        metadata['verified'] = dict(library=verification.library, images=2,
                                    largest_differences=verification.differences)
    return metadata


def _write(target: Target, model: StoredModel, result: Result, path: Path, *, verify: bool) -> Verification | None:
    with atomic_folder(path) if not target.suffixes else atomic_path(path, keep_suffix=True) as temporary:
        target.write(_with_card(target, model, result, path), temporary)
        if not verify:
            return None
        verification = verify_result(target, model, result, temporary)
        # Write the result again, because its metadata contain the differences, which are known only now.
        if temporary.is_dir():
            shutil.rmtree(temporary)
            temporary.mkdir()
        result = result._replace(metadata=metadata_of(model, verification))
        target.write(_with_card(target, model, result, path), temporary)
    return verification


def _with_card(target: Target, model: StoredModel, result: Result, path: Path) -> Result:
    """Adds a model card to the files of a result that is a folder."""
    if target.suffixes:
        return result
    card = card_of(model, path.name, target.usage(model, path.name), library=target.library, versions=versions(),
                   verified=result.metadata.get('verified'))
    return result._replace(files={**result.files, 'README.md': card.to_markdown()})


def versions() -> dict[str, str]:
    """Returns the versions of the packages that a result depends on, by name."""
    packages = {'mae_backbone': mae_backbone.__version__, 'torch': torch.__version__}
    for package in ('timm', 'transformers', 'safetensors'):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[package] = importlib.metadata.version(package)
    return packages


def verify_result(target: Target, model: StoredModel, result: Result, path: Path) -> Verification:
    """Runs a result in the library of its target on random images, and compares the outputs with our implementation.

    Both use the weights of the result, so that rounding by `half` is not part of the difference.
    """
    if model.others:
        return Verification('', {}, 'only models without the parts of a detector are run')
    images, noise = random_inputs(model)
    weights = to_dtype(target.back(to_dtype(result.tensors, torch.float32)), torch.float32)
    rounded = replace(model, weights=weights)
    try:
        library = target.version()
        expected = target.outputs(model, path, images, noise)
    except NotInstalledError as error:
        return Verification('', {}, f'{error}: pip install {target.package}')
    outputs = our_outputs(rounded, images, noise)
    differences = {}
    for name, value in expected.items():
        differences[name] = _difference(outputs[name], value)
        largest = outputs[name].abs().max().item()
        if not differences[name] <= _TOLERANCE * max(1.0, largest):
            raise ConversionError(f'{library} computes other {name} with the result: they differ by '
                                  f'{differences[name]:.3g}, at values up to {largest:.3g}. Nothing was written. '
                                  'Check --heads and --decoder-heads; with the right ones this is a defect of the '
                                  'conversion, please report it')
    return Verification(library, differences)


def _difference(first: Tensor, second: Tensor) -> float:
    if first.shape != second.shape:
        return float('inf')
    return (first - second).abs().max().item()


def _check_inverse(back: Mapping[str, Tensor], weights: Mapping[str, Tensor], target: Target) -> None:
    """Raises RuntimeError if the inverse conversion does not return all weights, which is a bug in a rename table."""
    lost = sorted(name for name in weights.keys() ^ back.keys())
    lost += sorted(name for name in weights.keys() & back.keys() if not torch.equal(weights[name], back[name]))
    if lost:
        raise RuntimeError(f'{target.name}: the names of {lost[:5]} do not come back')
