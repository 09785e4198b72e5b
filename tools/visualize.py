"""Shows what a pretrained MAE makes of an image: original | masked | reconstruction.

    python tools/visualize.py CONFIG CHECKPOINT IMAGE -o reconstruction.png
"""
from pathlib import Path

import cv2
import torch
from mmengine.registry import MODELS

from mae_backbone.cli import common as cli
from mae_backbone.data.decode import read_image
from mae_backbone.data.files import list_images
from mae_backbone.engine.runner import load_whole, read_run
from mae_backbone.hooks.reconstruction import draw_reconstructions
from mae_backbone.utils.image_grid import save_picture


def main() -> None:
    parser = cli.run_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of tools/pretrain.py')
    parser.add_argument('image', help='an image, or a folder, of which the first 8 are shown')
    parser.add_argument('-o', '--out', default='reconstruction.png', help='the picture to write (default: %(default)s)')
    parser.add_argument('--mask-ratio', type=float, help='share of the patches that is hidden (default: as trained)')
    parser.add_argument('--seed', type=int, default=0, help='which patches are hidden (default: %(default)s)')
    args = parser.parse_args()
    cfg = cli.load_config(args)
    model = MODELS.build(cfg.model)
    if not hasattr(model, 'mae'):
        raise ValueError(f'{args.config} is no pretraining config: pass the one that the checkpoint was trained with')
    load_whole(model, read_run(args.checkpoint), args.checkpoint)
    files = list_images(args.image)[:8] if Path(args.image).is_dir() else [args.image]
    images = [_resize(read_image(file), model.mae.encoder) for file in files]
    save_picture(args.out, draw_reconstructions(model, images, seed=args.seed, mask_ratio=args.mask_ratio))
    cli.say(f'{len(images)} images, original | masked | reconstruction: {args.out}')


def _resize(image, encoder) -> torch.Tensor:
    """image (H, W, 3) uint8 -> (3, H, W) of the size that the model was pretrained at."""
    h, w = encoder.grid
    size = w * encoder.patch_size, h * encoder.patch_size
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if image.shape[0] > size[1] else cv2.INTER_CUBIC)
    return torch.from_numpy(resized).permute(2, 0, 1)


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
