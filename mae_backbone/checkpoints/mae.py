"""Loads a MAE from a file: the encoder, and the decoder if the file has one that fits."""
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mae_backbone.checkpoints.channels import adapt_pixels
from mae_backbone.checkpoints.encoder import load_source, resize_text
from mae_backbone.checkpoints.layouts.rules import wide
from mae_backbone.checkpoints.positions import resize_positions
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.report import say
from mae_backbone.checkpoints.source import Source, open_source
from mae_backbone.checkpoints.state_dicts import mismatches
from mae_backbone.core.mae import MAE

_ADVICE = 'model.freeze_encoder_iters=N trains only the decoder in the first N iterations'


def load_mae(model: MAE, path: str | Path, *, key: str | None = None, heads: int | None = None) -> bool:
    """Loads the encoder in a file or a folder into `model`, and the decoder if there is one that fits.

    If the file has no decoder, or a decoder of another size, the decoder of the model keeps its random weights, and the
    report states the reason. Position embeddings are interpolated to the image size of the model, and channels are
    adapted (`channels`).

    Args:
        model: model, changed in place. It is not changed if an error is raised.
        path, key, heads: as in `load_encoder`.

    Returns:
        True if the decoder was loaded.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: as in `load_encoder`, or the decoder in the file has another number of attention heads. The
            model is not changed.
    """
    source = open_source(path, key)
    resized: dict[str, str] = {}
    decoder, notes, warnings = _decoder(model, source, resized)
    report = load_source(model.encoder, source, heads=heads, adapt_channels=True)
    if decoder:
        model.decoder.load_state_dict(decoder)
        used = {name for step in source.plan.decoder.values() for name in step.names}
        report.left_out = [name for name in report.left_out if name not in used]
        report.num_mapped, report.num_read = report.num_mapped + len(decoder), report.num_read + len(used)
    report.resized |= resized
    report.notes += notes
    report.warnings += warnings
    say(report)
    return bool(decoder)


def _decoder(model: MAE, source: Source, resized: dict[str, str]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Returns the weights of the decoder in the file, resized for the model, with notes and warnings for the report.

    The weights are empty if the file has no decoder, or none that fits.

    Args:
        model: model.
        source: ViT that was found in the file.
        resized: receives texts about resized tensors, by name of the tensor.
    """
    stored, expected = source.decoder(), model.decoder.state_dict()
    if not stored:
        return {}, [], [f'the file has no decoder: it starts from random weights; {_ADVICE}']
    weights = {name: _fitted(name, value, expected, model, source, resized) for name, value in stored.items()}
    if mismatches(weights, expected):
        resized.clear()
        return {}, [], [f'the decoder of the file has another size ({_size(weights)}; in the model {_size(expected)}): '
                        'it starts from random weights. Set decoder_width and decoder_depth as in the file to continue '
                        f'with its decoder; or {_ADVICE}']
    notes = [f'decoder: {_heads(model, source)}']
    if source.facts.norm_pix is None:
        notes.append(f'target: norm_pix={model.norm_pix} of the model; the file does not state it')
    return weights, notes, _target(model, source)


def _heads(model: MAE, source: Source) -> str:
    """Returns a note about the number of heads of the decoder, which cannot be determined from shapes.

    Raises:
        CheckpointError: the file states another number than the model has.
    """
    heads, stated = model.decoder.decoder_blocks[0].get_submodule('attn').heads, source.facts.decoder_heads
    if stated is not None and stated != heads:
        raise CheckpointError(f'{source.path} has {stated} heads of attention in its decoder, the model has {heads}. '
                              f'The shapes are the same, the predictions would be wrong: set decoder_heads={stated}')
    return (f'{heads} heads of attention' if stated is not None else
            f'{heads} heads of attention of the model; the file does not state them (public MAE code: 16)')


def _target(model: MAE, source: Source) -> list[str]:
    """Returns a warning if the target of the decoder in the file differs from the target of the model."""
    stated = source.facts.norm_pix
    if stated is None or stated == model.norm_pix:
        return []
    return [f'norm_pix={stated} in the file, {model.norm_pix} in the model: the decoder has learned to predict other '
            'targets, so the first losses are high']


def _fitted(name: str, stored: Tensor, expected: Mapping[str, Tensor], model: MAE, source: Source,
            resized: dict[str, str]) -> Tensor:
    """Interpolates position embeddings to the grid of the model, and adapts predicted pixels to its channels.

    A tensor that cannot be resized is returned unchanged. Its shape is then reported.
    """
    if name not in expected or not stored.is_floating_point():
        return stored
    if name == 'decoder_pos_embed' and stored.ndim == 3 and stored.shape[2] == expected[name].shape[2]:
        grid = source.grid(stored.shape[1] - 1)  # positions of the same number may be stored for another grid
        if grid is None or grid == model.decoder.grid:
            return stored
        resized[name] = resize_text(grid, model.decoder.grid)
        return resize_positions(wide(stored), grid, model.decoder.grid)
    if stored.shape == expected[name].shape:
        return stored
    pixels, channels = model.encoder.patch_size**2, model.encoder.in_channels
    if (name.startswith('decoder_pred.') and stored.ndim and stored.shape[1:] == expected[name].shape[1:]
            and not len(stored) % pixels and source.patch_size == model.encoder.patch_size):
        resized[name] = f'from {len(stored) // pixels} to {channels} channels'
        return adapt_pixels(wide(stored), model.encoder.patch_size, channels)
    return stored


def _size(weights: Mapping[str, Tensor]) -> str:
    """Returns width, number of blocks and number of predicted pixels of a decoder, for a message."""
    blocks = {name.split('.')[1] for name in weights if name.startswith('decoder_blocks.')}
    width, pixels = (len(weights[name]) if name in weights and weights[name].ndim else 'unknown'
                     for name in ('decoder_embed.weight', 'decoder_pred.weight'))
    return f'width {width}, {len(blocks)} blocks, {pixels} pixels of a patch'
