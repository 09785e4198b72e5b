"""Teachers of a MAE pretraining: a larger encoder sees the same visible patches, and the student follows it.

`FeatureDistillation` aligns the tokens of one depth, as DMAE does. `AttentionDistillation` aligns attention maps, as
MAE-Lite does. The teacher is frozen, and its weights are not saved with the student.
"""
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.core.masking import Mask
from mae_backbone.core.vit import Arch, ViT
from mae_backbone.models.teacher import (
    attention_scores,
    block_of,
    build_encoder,
    drop_blocks,
    encode_visible,
    has_class_token,
    load_weights,
)
from mae_backbone.registry import MODELS

if TYPE_CHECKING:
    from mae_backbone.models.timm_vit import TimmViT


class Distillation(nn.Module):
    """Base of the kinds of distillation: it holds the teacher, and averages the loss over a batch.

    Args:
        student: encoder of the MAE.
        checkpoint: file of the teacher's weights.
        encoder: config of the teacher: arguments of `ViT`, or with `type='mae_backbone.TimmViT'` of `TimmViT`.
            A `ViT` has the patch size and the channels of the student unless they are given. With another patch size
            the teacher gets the images resized, so that both see the same grid of patches.
        student_blocks, teacher_blocks: number of blocks after which, or of the block in which, both are compared,
            counted from 1; None for the default of the class.
        weight: factor of the loss, relative to the loss of the pixels.
        projector: 'linear' maps the student to the size of the teacher by a layer that is trained with it; 'identity'
            compares both as they are.
        mean, std: normalization of the pixels that the teacher expects, for each channel on the scale of the pixels.
            None: a `ViT` gets the pixels as the student does, and a `TimmViT` as the weights of its name were trained.
        weights_key, heads: of the file, the `key` and `heads` of `load_encoder`.

    Raises:
        ValueError: an option is out of its range, or student and teacher have different sizes and no projector.
    """

    def __init__(self, student: ViT, *, checkpoint: str, encoder: dict, student_blocks: int | None = None,
                 teacher_blocks: int | None = None, weight: float = 1.0, projector: str = 'linear',
                 mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
                 weights_key: str | None = None, heads: int | None = None) -> None:
        super().__init__()
        if projector not in ('linear', 'identity'):
            raise ValueError(f"projector={projector!r} of the teacher, expected 'linear' or 'identity'")
        if (mean is None) != (std is None):
            raise ValueError(f'mean={mean} and std={std} of the teacher: expected both, or neither')
        self.checkpoint, self.config, self.weight = checkpoint, dict(encoder), weight
        self.weights_key, self.heads = weights_key, heads
        self.mean, self.std, self.grid = mean, std, student.grid
        if 'type' not in self.config:
            self.config = dict(patch_size=student.patch_size, in_channels=student.in_channels) | self.config
        with torch.device('meta'):
            teacher = self._build()
        self.arch: Arch = teacher.arch
        if mean is None and not isinstance(teacher, ViT):
            self.mean, self.std = teacher.mean, teacher.std
        normalized = () if self.mean is None or self.std is None else (len(self.mean), len(self.std))
        # A gray image is repeated for a teacher of color images by its mean and std.
        channels = max(student.in_channels, *normalized) if normalized and student.in_channels == 1 else (
            student.in_channels)
        if teacher.in_channels != channels or not {1, channels} >= {*normalized}:
            raise ValueError(f'the teacher takes {teacher.in_channels} channels, with a mean and std of '
                             f'{normalized or "the student"}, and the images of the student have '
                             f'{student.in_channels}: choose a teacher for these channels, and a number for each')
        self.student_blocks = self._position('student_blocks', student_blocks, student.arch.depth)
        self.teacher_blocks = self._position('teacher_blocks', teacher_blocks, self.arch.depth)
        sizes = self.sizes(student.arch), self.sizes(self.arch)
        if projector == 'identity' and sizes[0] != sizes[1]:
            raise ValueError(f"projector='identity', but the student has {sizes[0]} {self.unit} and the teacher "
                             f"{sizes[1]}: set projector='linear'")
        self.projector = nn.Identity() if projector == 'identity' else nn.Linear(*sizes, bias=self.unit == 'channels')
        # In a list, so that it is no part of the state_dict, of the optimizer, or of a distributed wrapper.
        self._teacher: list[ViT | TimmViT] = []

    unit: str               # what the projector maps: 'channels' or 'heads'
    default_depth: float    # fraction of the blocks at which student and teacher are compared

    @abstractmethod
    def sizes(self, arch: Arch) -> int:
        """Number of channels or heads of an encoder, which the projector maps."""

    @abstractmethod
    def errors(self, student: ViT, states: list[Tensor], images: Tensor, mask: Mask) -> Tensor:
        """Error (B,) of each image, from the student's tokens between its blocks and the images of the teacher."""

    def forward(self, student: ViT, states: list[Tensor], images: Tensor, mask: Mask,
                weights: Tensor | None = None) -> Tensor:
        """Loss () of the student.

        Args:
            student: the encoder.
            states: its tokens (B, 1 + K, D) before each block and after the last one, see `ViT.encode`.
            images: (B, C, H, W), normalized as the teacher expects them.
            mask: of the images.
            weights: (B,), weight of each image, as in `MAE.forward`.
        """
        errors = self.errors(student, states, self._resized(images, student), mask)
        return errors.mean() if weights is None else (errors * weights).mean()

    @property
    def teacher(self) -> 'ViT | TimmViT':
        """The teacher, after `load`. Raises RuntimeError before."""
        if not self._teacher:
            raise RuntimeError('the teacher is not loaded: call init_weights() of the pretrainer before training')
        return self._teacher[0]

    def load(self) -> None:
        """Builds the teacher, loads its weights, and drops the blocks that are not needed; once.

        Raises:
            FileNotFoundError: the file does not exist.
            CheckpointError: the file does not fit the config of the teacher.
        """
        if not self._teacher:
            teacher = self._build()
            try:
                load_weights(teacher, self.checkpoint, key=self.weights_key, heads=self.heads)
            except (CheckpointError, FileNotFoundError) as error:
                raise type(error)(f'model.teacher: {error}') from error
            drop_blocks(teacher, self.teacher_blocks)
            self._teacher.append(teacher)

    def _apply(self, fn: Callable, recurse: bool = True) -> 'Distillation':
        """Moves the teacher together with the student."""
        for teacher in self._teacher:
            teacher._apply(fn)
        return super()._apply(fn, recurse)

    def _build(self) -> 'ViT | TimmViT':
        patch_size = self.config.get('patch_size', 16)
        return build_encoder(self.config, image_size=(self.grid[0] * patch_size, self.grid[1] * patch_size))

    def _position(self, name: str, value: int | None, depth: int) -> int:
        if value is None:
            value = max(1, round(self.default_depth * depth))
        if not 1 <= value <= depth:
            raise ValueError(f'{name}={value} of the teacher, expected 1 to {depth}, the number of blocks')
        return value

    def _resized(self, images: Tensor, student: ViT) -> Tensor:
        """images (B, C, H, W) of the student -> images with the same grid of patches for the teacher."""
        size = self.teacher.patch_size
        if size == student.patch_size:
            return images
        h, w = (side // student.patch_size * size for side in images.shape[2:])
        return F.interpolate(images, (h, w), mode='bicubic', antialias=True)


@MODELS.register_module()
class FeatureDistillation(Distillation):
    """Aligns the tokens of one depth: DMAE (Bai et al., CVPR 2023), `teacher=dict(checkpoint=..., encoder=...)`.

    The loss is the mean absolute difference between the tokens of the student, after a linear layer, and the tokens of
    the teacher, both of length 1. Class token and visible patches count. By default both are compared after three
    quarters of their blocks, so that the last quarter of the teacher is not computed. These and the weight of 1 are the
    choices of the public code (UCSC-VLAA/DMAE, pretrain.sh: blocks 9 of 12 and 18 of 24).

    Args:
        options: as in `Distillation`.
    """

    unit, default_depth = 'channels', 0.75

    def sizes(self, arch: Arch) -> int:
        """The width."""
        return arch.width

    def errors(self, student: ViT, states: list[Tensor], images: Tensor, mask: Mask) -> Tensor:
        """Mean absolute difference (B,) of tokens of length 1."""
        with torch.no_grad():
            wanted = encode_visible(self.teacher, images, mask, self.teacher_blocks)
        first = int(not has_class_token(self.teacher))
        wanted = _shared(wanted, mask, class_token=not first)
        tokens = self.projector(states[self.student_blocks][:, first:])
        return (_unit(tokens) - _unit(wanted)).abs().mean(dim=(1, 2))


@MODELS.register_module()
class AttentionDistillation(Distillation):
    """Aligns the attention maps of one block: MAE-Lite (Wang et al., ICML 2023, section 5).

    The loss is the mean squared difference between the maps softmax(q k^T / sqrt(d)) of the teacher and the maps of the
    student after a linear layer over the heads, without bias. By default both are the last blocks, and the weight is 1,
    as in the public code (wangsr126/MAE-Lite, mae_lite_distill_exp.py). Its tiny student has 12 heads, as its teacher.

    Args:
        options: as in `Distillation`.
    """

    unit, default_depth = 'heads', 1.0

    def sizes(self, arch: Arch) -> int:
        """The number of heads."""
        return arch.heads

    def errors(self, student: ViT, states: list[Tensor], images: Tensor, mask: Mask) -> Tensor:
        """Mean squared difference (B,) of attention maps among class token and visible patches."""
        with torch.no_grad():
            tokens = encode_visible(self.teacher, images, mask, self.teacher_blocks - 1)
            scores = attention_scores(block_of(self.teacher, self.teacher_blocks - 1), tokens)
        first = int(not has_class_token(self.teacher))
        for dim in (1, 2):  # register tokens are not compared
            scores = _shared(scores.flatten(0, 1), mask, class_token=not first, dim=dim).unflatten(0, scores.shape[:2])
        own = attention_scores(student.blocks[self.student_blocks - 1], states[self.student_blocks - 1])
        maps = own[..., first:, first:].float().softmax(-1)                       # (B, heads, N, N)
        maps = self.projector(maps.movedim(1, -1)).movedim(-1, 1)
        return (maps.float() - scores.float().softmax(-1)).square().mean(dim=(1, 2, 3))


def _shared(tokens: Tensor, mask: Mask, *, class_token: bool, dim: int = 1) -> Tensor:
    """The class token and the visible patches, along `dim`, of tokens that may have others between them."""
    K = mask.ids_visible.shape[1]
    patches = tokens.narrow(dim, tokens.shape[dim] - K, K)
    return torch.cat([tokens.narrow(dim, 0, 1), patches], dim=dim) if class_token else patches


def _unit(tokens: Tensor) -> Tensor:
    """Tokens (B, N, D) of length 1, in float32."""
    return F.normalize(tokens.float(), dim=-1)
