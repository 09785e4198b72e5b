"""Draw reconstructions of a pretrained masked autoencoder: original | masked | reconstruction.

example:
  mae-backbone visualize mae_vit-b_800e_in1k CHECKPOINT IMAGE -o reconstruction.png
"""
import argparse
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_config_options

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from mae_backbone.core.vit import ViT

MAX_IMAGES = 8  # of a folder


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_config_options(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of `mae-backbone pretrain`')
    parser.add_argument('image', metavar='IMAGE|FOLDER', help=f'an image, or a folder: its first {MAX_IMAGES} images')
    group = parser.add_argument_group('figure')
    group.add_argument('-o', '--out', default='reconstruction.png', metavar='FILE',
                       help='image file to write (default: %(default)s)')
    group.add_argument('--mask-ratio', type=float, metavar='RATIO',
                       help='fraction of the patches that is masked (default: as in pretraining)')
    group.add_argument('--seed', type=int, default=0, metavar='N', help='seed of the mask (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from pathlib import Path

    from mmengine.registry import MODELS

    from mae_backbone.checkpoints.run_files import load_model, read_run
    from mae_backbone.cli.config import load_config
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.decode import read_image
    from mae_backbone.data.files import list_images
    from mae_backbone.hooks.reconstruction import draw_reconstructions
    from mae_backbone.utils.image_grid import save_picture

    cfg = load_config(args)
    model = MODELS.build(cfg.model)
    if not hasattr(model, 'mae'):
        raise ValueError(f'{args.config} is not a pretraining config: pass the config of the checkpoint')
    load_model(model, read_run(args.checkpoint), args.checkpoint)
    files = list_images(args.image)[:MAX_IMAGES] if Path(args.image).is_dir() else [args.image]
    images = [_resize(read_image(file), model.mae.encoder) for file in files]
    save_picture(args.out, draw_reconstructions(model, images, seed=args.seed, mask_ratio=args.mask_ratio))
    log_rank0(f'{len(images)} images, original | masked | reconstruction: {args.out}')


def _resize(image: 'np.ndarray', encoder: 'ViT') -> 'Tensor':
    """image (H, W, 3) uint8 -> (3, H, W), with the image size of the pretraining."""
    import cv2
    import torch
    h, w = encoder.grid
    size = w * encoder.patch_size, h * encoder.patch_size
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if image.shape[0] > size[1] else cv2.INTER_CUBIC)
    return torch.from_numpy(resized).permute(2, 0, 1)
