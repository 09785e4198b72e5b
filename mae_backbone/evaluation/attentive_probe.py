"""Attentive probe on cached tokens: one learned query attends to all tokens of an image, before a linear classifier."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn

from mae_backbone.evaluation.feature_cache import Features
from mae_backbone.evaluation.linear_probe import (
    ProbeResult,
    Setting,
    check_features,
    evaluate_best_setting,
    iterate_batches,
)

_CHUNK = 512  # images that are predicted at a time


def attentive_probe(train: Features, test: Features, *, heads: int, lrs: Sequence[float] = (1e-3,),
                    weight_decay: float = 0.05, held_out: float = 0.1, epochs: int = 20, batch_size: int = 256,
                    seed: int = 0, num_classes: int | None = None, device: str | torch.device = 'cpu') -> ProbeResult:
    """Trains a cross-attention with one learned query, then a linear classifier, on frozen tokens, and tests it.

    Attentive probing (Chen et al., Context Autoencoder, 2022). MAE's loss does not make the mean of the patch tokens
    informative; this probe measures what the tokens contain. It is trained on cached tokens (pooling='tokens'), which
    costs a fraction of passing the images through the backbone in each epoch. The tokens of ImageNet do not fit on most
    disks (ViT-B: 390 GB): configs/classification/vit-b_attentive_90e_in1k.py trains the same head on the frozen
    backbone.

    Several learning rates are trained one after the other, and one is selected as in `linear_probe`. The number of
    epochs and the constants of AdamW are ours.

    Args:
        train, test: with values (N, 1 + L, D).
        heads: of the attention, usually as many as the backbone has.
        others: as in `linear_probe`.

    Raises:
        ValueError: features that are not tokens, heads that do not divide D, and the errors of `linear_probe`.
    """
    if train.values.ndim != 3 or test.values.ndim != 3:
        raise ValueError(f'features are {tuple(train.values.shape)} and {tuple(test.values.shape)}, expected '
                         "(N, 1 + L, D): extract them with pooling='tokens'")
    count = check_features(train, test, num_classes, shape=('N', '1 + L', 'D'))
    if train.values.shape[2] % heads:
        raise ValueError(f'heads={heads} does not divide the width {train.values.shape[2]} of the tokens: choose a '
                         'divisor, such as the number of heads of the backbone')

    def train_and_predict(settings: Sequence[Setting], rows: Tensor, values: Tensor) -> Tensor:
        predictions = []
        for setting in settings:
            head = AttentiveHead(train.values.shape[2], heads=heads, num_classes=count, seed=seed).to(device)
            _train(head, train, rows, setting, epochs=epochs, batch_size=batch_size, seed=seed)
            scores = (head(chunk.to(device).float()) for chunk in values.split(_CHUNK))
            predictions.append(torch.cat([chunk.argmax(dim=1).cpu() for chunk in scores]))
        return torch.stack(predictions, dim=1)

    settings = [Setting(lr, weight_decay) for lr in lrs]
    return evaluate_best_setting(settings, train, test, train_and_predict, held_out=held_out, seed=seed)


class AttentiveHead(nn.Module):
    """tokens (B, N, D) -> scores (B, num_classes). The same seed gives the same initial weights."""

    def __init__(self, width: int, *, heads: int, num_classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.attention = AttentionPoolLatent(width, num_heads=heads, out_features=0)
            self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
            self.head = nn.Linear(width, num_classes)
            nn.init.trunc_normal_(self.head.weight, std=0.01)
            nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.attention(tokens)))


def _train(head: AttentiveHead, train: Features, rows: Tensor, setting: Setting, *, epochs: int, batch_size: int,
           seed: int) -> None:
    """Trains with AdamW, then switches the head to evaluation mode without gradients."""
    if min(len(rows), batch_size) < 2:
        raise ValueError(f'{len(rows)} training images in batches of {batch_size}, expected batches of at least 2, '
                         'because BatchNorm cannot normalize one image: raise batch_size, or pass more images')
    device = head.head.weight.device
    optimizer = torch.optim.AdamW(head.parameters(), lr=setting.lr, weight_decay=setting.weight_decay)
    head.train()
    for lr_factor, batch in iterate_batches(rows, epochs, batch_size, torch.Generator().manual_seed(seed)):
        if len(batch) < 2:  # BatchNorm cannot normalize one image
            continue
        optimizer.param_groups[0]['lr'] = lr_factor * setting.lr
        scores = head(train.values[batch].to(device, non_blocking=True).float())
        optimizer.zero_grad()
        F.cross_entropy(scores, train.labels[batch].to(device)).backward()
        optimizer.step()
    head.eval().requires_grad_(False)
