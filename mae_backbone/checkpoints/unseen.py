"""Checks properties of weights that shapes do not show: heads, pixel normalization, activation, pooling, epsilon."""
from collections.abc import Mapping

from torch import Tensor

from mae_backbone.checkpoints.facts import HALF, IMAGENET, Facts
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.report import LoadReport
from mae_backbone.checkpoints.source import Source
from mae_backbone.core.vit import ARCHS, ViT

# Names of the exact GELU. The approximation by tanh is not included, because it differs by up to 5e-4.
_GELU = ('gelu', 'gelu_python', 'GELU')
_EPS = 1e-6  # epsilon of the LayerNorms of `ViT`


def check_heads(model: ViT, source: Source, heads: int | None, weights: Mapping[str, Tensor],
                report: LoadReport) -> None:
    """Compares the number of attention heads of weights and model, and adds a note to the report.

    Args:
        model: model into which the weights are loaded.
        source: source of the weights.
        heads: number of heads of the weights that the user states; None if not given.
        weights: weights with our names.
        report: report to which a note is added.

    Raises:
        CheckpointError: the user or the file states another number than the model has; or the number is not stated, and
            the model does not have the usual number for its width.
    """
    width, depth, wanted = model.arch
    stated, by = heads, '--weights-heads'
    if stated is None:
        stated, by = heads_of_tables(weights, width), 'the tables of relative positions'
    if stated is None:
        stated, by = source.facts.heads, source.facts.source
    if stated is not None:
        if stated != wanted:
            raise CheckpointError(
                f'{source.path} has {stated} heads of attention (source: {by}), the model has {wanted}. The shapes are '
                f'the same, the features would be wrong: set arch=dict(width={width}, depth={depth}, heads={stated})')
        report.notes.append(f'heads: {stated} ({by})')
        return
    usual = usual_heads(width, depth)
    if usual is not None and usual != wanted:
        raise CheckpointError(
            f'{source.path} does not state its number of heads of attention, which shapes do not show. Models of width '
            f'{width} usually have {usual}, this model has {wanted}. Set arch=dict(width={width}, depth={depth}, '
            f'heads={usual}); or, if you know that the weights have {wanted}, pass --weights-heads {wanted} '
            f'(init_cfg=dict(..., heads={wanted}))')
    why = 'the usual number for this width' if usual else f'width {width} is no multiple of 64: compare it yourself'
    report.notes.append(f'heads: {wanted} of the model; the file does not state them ({why})')


def usual_heads(width: int, depth: int) -> int | None:
    """Returns the usual number of heads for a size.

    It is the number of the architecture in `ARCHS` of this size, or otherwise one head per 64 channels (ViT paper,
    table 1). None if the width is not a multiple of 64.
    """
    named = next((arch.heads for arch in ARCHS.values() if (arch.width, arch.depth) == (width, depth)), None)
    return named or (width // 64 if width % 64 == 0 else None)


def heads_of_tables(weights: Mapping[str, Tensor], width: int) -> int | None:
    """Returns the number of heads that the shape of tables of relative positions shows; None without such tables."""
    for name, table in weights.items():
        if name.endswith('.relative_position_bias_table') and table.ndim == 2:
            return table.shape[1]
        if name.endswith('.rel_pos_h') and table.ndim == 2 and table.shape[1] and width % table.shape[1] == 0:
            return width // table.shape[1]
    return None


def notes_of(model: ViT, source: Source, report: LoadReport) -> None:
    """Adds notes to the report about the properties that the file states: epsilon, pooling and pixel normalization."""
    facts = source.facts
    if source.layout.remark:
        report.notes.append(source.layout.remark)
    if facts.norm_eps is not None and facts.norm_eps != _EPS:
        report.notes.append(f'LayerNorm: epsilon {facts.norm_eps:g} in the file, {_EPS:g} here; features of trained '
                            'weights change by less than 1e-4')
    if facts.pool:
        report.notes.append(f'pooling: the classifier of the file pools by {facts.pool!r}; pool= of ViTClassifier sets '
                            'it here')
    pixels = pixels_of(facts)
    if pixels:
        report.notes.append(pixels)
    elif source.layout.name in ('timm', 'timm-beit') and model.in_channels == 3:
        report.notes.append("pixels: not stated. timm's augreg, BEiT and CLIP weights expect mean and std 127.5, its "
                            'MAE, DINO and DeiT weights the mean and deviation of ImageNet: compare data_preprocessor')


def check_activation(source: Source) -> None:
    """Raises CheckpointError if the file states another activation than the exact GELU of `ViT`."""
    activation = source.facts.activation
    if activation is not None and activation not in _GELU:
        raise CheckpointError(f'{source.path} was trained with the activation {activation!r}, the model has GELU. The '
                              "shapes are the same, the features would be wrong: use type='mae_backbone.TimmViT' with "
                              'the name of its model in timm')


def pixels_of(facts: Facts) -> str:
    """Returns a line about the normalization that the file states; '' if it states none."""
    if facts.mean is None or facts.std is None:
        return ''
    name = next((f' ({name})' for name, values in (('ImageNet', IMAGENET), ('augreg, CLIP: half', HALF))
                 if same_pixels((facts.mean, facts.std), values)), '')
    mean, std = ([round(value, 2) for value in values] for values in (facts.mean, facts.std))
    return f'pixels: mean {mean}, std {std}{name}, stated by {facts.pixels_source}'


def same_pixels(first: tuple, second: tuple) -> bool:
    """True if two pairs of mean and std are equal within half a gray level."""
    return all(len(a) == len(b) and all(abs(x - y) < 0.5 for x, y in zip(a, b, strict=True))
               for a, b in zip(first, second, strict=True))
