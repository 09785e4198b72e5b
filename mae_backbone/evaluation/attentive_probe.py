"""Attentive probe on kept tokens: one query looks at all tokens of an image before a linear classifier does."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn

from mae_backbone.evaluation.feature_cache import Features
from mae_backbone.evaluation.linear_probe import ProbeResult, Setting, check_features, chosen_by_held_out, steps

_CHUNK = 512  # images that are judged at a time


def attentive_probe(train: Features, test: Features, *, heads: int, lrs: Sequence[float] = (1e-3,),
                    weight_decay: float = 0.05, held_out: float = 0.1, epochs: int = 20, batch_size: int = 256,
                    seed: int = 0, classes: int | None = None, device: str | torch.device = 'cpu') -> ProbeResult:
    """A cross-attention with one learned query, then a linear classifier (Chen et al., Context Autoencoder, 2022).

    MAE gives its patch tokens no reason to have a mean that says much; this probe finds what lies in them. It is
    trained on kept tokens (pooling='tokens'), which costs a fraction of passing the images through the backbone in
    each epoch. Tokens of ImageNet do not fit a disk (ViT-B: 390 GB): for that there is
    configs/classification/vit-b_attentive_90e_in1k.py, on the frozen backbone.

    Several learning rates are trained one after the other, and one is chosen as in `linear_probe`. The length and the
    constants of AdamW are ours.

    Args:
        train, test: with values (N, 1 + L, D).
        heads: of the attention, such as those of the backbone.
        others: as in `linear_probe`.

    Raises:
        ValueError: features that are no tokens, heads that do not divide D, and what `linear_probe` refuses.
    """
    if train.values.ndim != 3 or test.values.ndim != 3:
        raise ValueError(f'features are {tuple(train.values.shape)} and {tuple(test.values.shape)}, wanted '
                         "(N, 1 + L, D): extract them with pooling='tokens'")
    classes = check_features(train, test, classes, shape=('N', '1 + L', 'D'))
    if train.values.shape[2] % heads:
        raise ValueError(f'heads={heads} do not divide the width {train.values.shape[2]} of the tokens')

    def answers(settings: Sequence[Setting], rows: Tensor, values: Tensor) -> Tensor:
        """(N, K) answers for values of classifiers that learn from some rows."""
        found = []
        for setting in settings:
            head = AttentiveHead(train.values.shape[2], heads=heads, classes=classes, seed=seed).to(device)
            _train(head, train, rows, setting, epochs=epochs, batch_size=batch_size, seed=seed)
            scores = (head(part.to(device).float()) for part in values.split(_CHUNK))
            found.append(torch.cat([part.argmax(dim=1).cpu() for part in scores]))
        return torch.stack(found, dim=1)

    settings = [Setting(lr, weight_decay) for lr in lrs]
    return chosen_by_held_out(settings, train, test, answers, held_out=held_out, seed=seed)


class AttentiveHead(nn.Module):
    """tokens (B, N, D) -> scores (B, classes). The same seed gives the same first weights."""

    def __init__(self, width: int, *, heads: int, classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.attention = AttentionPoolLatent(width, num_heads=heads, out_features=0)
            self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
            self.head = nn.Linear(width, classes)
            nn.init.trunc_normal_(self.head.weight, std=0.01)
            nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.attention(tokens)))


def _train(head: AttentiveHead, train: Features, rows: Tensor, setting: Setting, *, epochs: int, batch_size: int,
           seed: int) -> None:
    """Trains by AdamW, and leaves in evaluation mode without gradients."""
    device = head.head.weight.device
    optimizer = torch.optim.AdamW(head.parameters(), lr=setting.lr, weight_decay=setting.weight_decay)
    head.train()
    for rate, batch in steps(rows, epochs, batch_size, torch.Generator().manual_seed(seed)):
        if len(batch) < 2:  # a BatchNorm has nothing to normalize
            continue
        optimizer.param_groups[0]['lr'] = rate * setting.lr
        scores = head(train.values[batch].to(device, non_blocking=True).float())
        optimizer.zero_grad()
        F.cross_entropy(scores, train.labels[batch].to(device)).backward()
        optimizer.step()
    head.eval().requires_grad_(False)
