"""Image classification with a ViT: fine-tuning of all or the last blocks, and probes of frozen ones."""
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn

from mae_backbone.core.vit import find_arch
from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.models.timm_vit import TimmViT
from mae_backbone.registry import MODELS


@MODELS.register_module()
class ViTClassifier(BaseModel):
    """Image classification: `type='mae_backbone.ViTClassifier'`.

    Args:
        backbone: arguments of `ViTBackbone`, including `init_cfg` for pretrained weights; with
            type='mae_backbone.TimmViT' the arguments of `TimmViT`.
        num_classes: number of classes; 0 for a model that only computes features (nearest neighbors).
        pool: 'mean' of the patch tokens, the 'class' token, or 'attention': a trained query attends to all tokens, with
            as many heads as the backbone (attentive probing, Chen et al., Context Autoencoder, 2022). 'model' pools as
            a model of timm does by itself, see `TimmViT.pooled`.
        probe: train only a linear head on the frozen backbone, after a BatchNorm without scale and shift (MAE paper,
            appendix A.1). The pool 'attention' is trained too.
        tuned_blocks: number of last blocks that are trained with the head (partial fine-tuning, MAE paper, figure 9):
            0 for only the head, 0.5 for the MLP of the last block, 1, 2, ...; None for all weights.
        label_smoothing: in [0, 1).
        mixup: arguments of `timm.data.Mixup`, such as dict(mixup_alpha=.8, cutmix_alpha=1.); None for none.
        random_erasing: probability that a rectangle of an image is replaced by noise in training.
        data_preprocessor: config of the module that moves images to the device and normalizes them.

    Raises:
        ValueError: an unknown pool, a number out of range, options of which one would have no effect, or a backbone
            without class token.
    """

    def __init__(self, backbone: dict, *, num_classes: int, pool: str = 'mean', probe: bool = False,
                 tuned_blocks: float | None = None, label_smoothing: float = 0.0, mixup: dict | None = None,
                 random_erasing: float = 0.0, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        if pool not in ('mean', 'class', 'attention', 'model'):
            raise ValueError(f"pool={pool!r}, expected 'mean' (of the patch tokens), 'class' (token) or 'attention'; "
                             "with a model of timm also 'model', as it pools itself")
        for name, value in (('label_smoothing', label_smoothing), ('random_erasing', random_erasing)):
            if not 0 <= value <= 1:
                raise ValueError(f'{name}={value}, expected a number in [0, 1]')
        if probe and tuned_blocks:
            raise ValueError(f'tuned_blocks={tuned_blocks} with probe=True, which trains no block: leave one of the '
                             'two out')
        tuned_blocks = 0 if probe else tuned_blocks
        if tuned_blocks is not None and backbone.get('frozen_stages', -1) != -1:
            raise ValueError(f'backbone has frozen_stages={backbone["frozen_stages"]}, and '
                             f'{"probe=True" if probe else f"tuned_blocks={tuned_blocks}"} freezes blocks too: leave '
                             'one of the two out')
        # Fine-tuning with the mean normalizes after the pooling, in fc_norm (public MAE code, `models_vit.py`). A model
        # of timm keeps its norm where it was trained.
        norm_last = pool == 'mean' and not probe and num_classes > 0 and not _is_timm(backbone)
        self.backbone: ViTBackbone | TimmViT
        if _is_timm(backbone):
            self.backbone = _timm_backbone(backbone, pool=pool, features_only=not num_classes)
            if tuned_blocks is not None:
                self.backbone.freeze(_frozen_stages(tuned_blocks, self.backbone.arch.depth))
        else:
            self.backbone = _vit_backbone(backbone, pool=pool, final_norm=not norm_last, tuned_blocks=tuned_blocks)
        depth = self.backbone.arch.depth
        if {i % depth for i in self.backbone.out_indices} != {depth - 1}:
            raise ValueError(f'backbone has out_indices={self.backbone.out_indices}, but a classifier reads the last '
                             'block only: leave it out')
        self.pool, self.num_classes = pool, num_classes
        width = self.backbone.arch.width
        if isinstance(self.backbone, TimmViT) and pool != 'class':
            width = self.backbone.vit.num_features if pool == 'model' else self.backbone.out_channels
        self.attention = (AttentionPoolLatent(width, num_heads=self.backbone.arch.heads, out_features=0)
                          if pool == 'attention' else None)
        self.fc_norm = nn.LayerNorm(width, eps=1e-6) if norm_last else nn.Identity()
        self.fc_norm.requires_grad_(tuned_blocks != 0)  # 0 blocks: only the head is trained, as in linear probing
        self.head_norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if probe else nn.Identity()
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        if isinstance(self.head, nn.Linear):  # public MAE code: .01 in `main_linprobe.py`, 2e-5 in `main_finetune.py`
            nn.init.trunc_normal_(self.head.weight, std=0.01 if probe else 2e-5)
            nn.init.zeros_(self.head.bias)
        self.label_smoothing = label_smoothing
        self.mixup = Mixup(**mixup, label_smoothing=label_smoothing, num_classes=num_classes) if mixup else None
        if self.mixup is not None and not (self.mixup.mixup_alpha > 0 or self.mixup.cutmix_alpha > 0):
            raise ValueError(f'mixup={mixup} mixes nothing: set mixup_alpha or cutmix_alpha above 0, or mixup=None')
        # timm draws the noise of 'pixel' from a unit normal, which fits images that are already normalized.
        self.erase = RandomErasing(random_erasing, mode='pixel', device='cpu') if random_erasing else None

    def forward(self, inputs: Tensor, data_samples: list[int] | Tensor | None = None,
                mode: str = 'tensor') -> Tensor | dict[str, Tensor] | list[dict]:
        """inputs (B, C, H, W) -> what `mode` asks for.

        Args:
            inputs: normalized images.
            data_samples: (B,) labels, if they are known.
            mode: 'tensor' for features (B, D); 'tokens' for tokens (B, 1 + L, D); 'loss' for the loss; 'predict' for a
                dict per image of its scores (num_classes,) and its label or None.
        """
        if mode == 'tensor':
            return self.features(inputs)
        if mode == 'tokens':
            return self.backbone.tokens(inputs)
        if mode == 'loss':
            return {'loss': self.loss(inputs, torch.as_tensor(data_samples, device=inputs.device))}
        scores = self.head(self.head_norm(self.features(inputs))).float().softmax(dim=1)
        labels = [None] * len(inputs) if data_samples is None else [int(label) for label in data_samples]
        return [{'scores': score, 'label': label} for score, label in zip(scores, labels, strict=True)]

    def features(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> pooled features (B, D)."""
        if isinstance(self.backbone, TimmViT):
            if self.pool == 'model':
                return self.backbone.pooled(images)
            if self.pool == 'mean':  # also works without a class token
                return self.backbone.feature_maps(images)[0].mean(dim=(2, 3))
        tokens = self.backbone.tokens(images)
        if self.attention is not None:
            return self.attention(tokens)
        return self.fc_norm(tokens[:, 0] if self.pool == 'class' else tokens[:, 1:].mean(dim=1))

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """images (B, C, H, W), labels (B,) -> cross-entropy ()."""
        if self.erase is not None:
            self.erase.device = images.device
            images = self.erase(images)
        if self.mixup is not None:
            if len(images) % 2:
                raise ValueError(f'a batch of {len(images)} images with mixup, which mixes pairs: set '
                                 'train_dataloader.batch_size to an even number and drop_last=True, or '
                                 'model.mixup=None')
            images, labels = self.mixup(images, labels)  # labels become (B, num_classes), smoothed
        logits = self.head(self.head_norm(self.features(images)))
        return F.cross_entropy(logits, labels, label_smoothing=0.0 if self.mixup else self.label_smoothing)


def _is_timm(backbone: dict) -> bool:
    kind = backbone.get('type', 'ViTBackbone')
    if kind not in ('ViTBackbone', 'mae_backbone.ViTBackbone', 'TimmViT', 'mae_backbone.TimmViT'):
        raise ValueError(f"backbone has type={kind!r}, expected 'mae_backbone.ViTBackbone' or 'mae_backbone.TimmViT'")
    return kind.endswith('TimmViT')


def _vit_backbone(options: dict, *, pool: str, final_norm: bool, tuned_blocks: float | None) -> ViTBackbone:
    """Builds our ViT; raises ValueError if it has no class token or does not pool by itself."""
    options = {key: value for key, value in options.items() if key != 'type'}
    if pool == 'model':
        raise ValueError("pool='model' is for a backbone of timm: expected 'mean', 'class' or 'attention' for a ViT")
    if not options.get('class_token', True):
        raise ValueError('backbone has class_token=False: a classifier needs the token, leave it out')
    if tuned_blocks is not None:
        options['frozen_stages'] = _frozen_stages(tuned_blocks, find_arch(options.get('arch', 'base')).depth)
    return ViTBackbone(**{'class_token': True, 'final_norm': final_norm} | options)


def _timm_backbone(options: dict, *, pool: str, features_only: bool) -> TimmViT:
    """Builds a model of timm with its own pooling, if it is needed; raises ValueError if it has no class token."""
    options = {key: value for key, value in options.items() if key != 'type'}
    backbone = TimmViT(**{'pooling': features_only or pool in ('model', 'attention')} | options)
    if pool == 'class' and backbone.cls_token is None:
        raise ValueError(f"pool='class', but {backbone.name} has no class token: set pool='model' (as it pools itself) "
                         "or 'mean' (of the patch tokens)")
    if pool == 'attention' and backbone.cls_token is not None and not features_only:
        backbone.drop_pooling()
    return backbone


def _frozen_stages(tuned_blocks: float, depth: int) -> float:
    """Stages to freeze so that only the last blocks, and the norm after them, are trained.

    Args:
        tuned_blocks: 0 for none; 0.5 for the MLP of the last block; 1 to the depth.
        depth: number of blocks.

    Raises:
        ValueError: any other number.
    """
    if tuned_blocks not in (0, 0.5, *range(1, depth + 1)):
        raise ValueError(f'tuned_blocks={tuned_blocks}, expected 0, .5 (the MLP of the last block) or 1 to {depth}')
    return depth - tuned_blocks
