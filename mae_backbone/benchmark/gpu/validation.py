"""Measures how much bfloat16 (`val_dtype`) and TF32 (`--tf32`) change the features of a model."""
from functools import partial

import torch

from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.benchmark.gpu.mae import shape_of
from mae_backbone.benchmark.gpu.measure import PRECISIONS, attempt, precision, relative_error, speed
from mae_backbone.core.vit import ViT


@torch.no_grad()
def features(settings: Settings) -> Rows:
    """Error of the normed patch features against float64, and images per second, of a ViT-B with random weights.

    `nearest` is the fraction of images whose nearest other image, by the mean of its features, is the same.
    """
    shape, batch = shape_of('base', settings), 16 if settings.tiny else 256
    torch.manual_seed(0)
    model = ViT(shape.arch._asdict(), image_size=shape.side).to(settings.device).eval()
    # Smooth images, such as photographs. With pure noise all images would have the same mean.
    coarse = torch.rand(batch, 3, 4, 4, device=settings.device)
    images = torch.nn.functional.interpolate(coarse, size=shape.side, mode='bicubic') * 2 - 1
    few = images[:16]
    exact = model.double().feature_maps(few.double())[0]
    model.float()

    def figures(name: str) -> dict[str, float]:
        with precision(name, settings.device):
            maps = model.feature_maps(few)[0]
            rate = speed(lambda: model.feature_maps(images), settings, images=batch)
        return {'relative error': relative_error(maps, exact), 'nearest': _same_nearest(maps.double(), exact),
                'images/s': rate['images/s']}
    for name in PRECISIONS:
        if settings.device == 'cpu' and name == 'tf32':
            continue
        yield name, attempt(partial(figures, name))


def _same_nearest(maps: torch.Tensor, exact: torch.Tensor) -> float:
    """maps (B, D, h, w) of two computations -> fraction of images with the same nearest neighbor."""
    nearest = []
    for values in (maps, exact):
        means = torch.nn.functional.normalize(values.mean(dim=(2, 3)), dim=1)
        nearest.append((means @ means.T).fill_diagonal_(-2).argmax(dim=1))
    return float((nearest[0] == nearest[1]).double().mean())
