"""Draw reconstructions of a pretrained masked autoencoder, or the attention of any ViT from a point.

examples:
  mae-backbone visualize work_dirs/mae/iter_3500.pth IMAGE -o reconstruction.png
  mae-backbone visualize work_dirs/detector/iter_600.pth IMAGE --point 120 80 -o attention.png
  mae-backbone visualize mae_vit-b_800e_in1k CHECKPOINT IMAGE    with a config in place of the one in the checkpoint
"""
import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_config_options, seed

if TYPE_CHECKING:
    from mae_backbone.prediction.model import Model

MAX_IMAGES = 8  # largest number of images of a folder that are drawn


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_config_options(parser, reads_data=False)
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint of `mae-backbone pretrain` or `mae-backbone train`')
    parser.add_argument('image', metavar='IMAGE|FOLDER', help=f'an image, or a folder: its first {MAX_IMAGES} images')
    parser.add_argument('-o', '--out', default=None, metavar='FILE',
                        help='image file to write (default: reconstruction.png or attention.png)')
    group = parser.add_argument_group('reconstruction, by a pretrained masked autoencoder')
    group.add_argument('--mask-ratio', type=float, metavar='RATIO',
                       help='fraction of the patches that is masked (default: as in pretraining)')
    group.add_argument('--seed', type=seed, default=None, metavar='N', help='seed of the mask (default: 0)')
    group.add_argument('--squeeze', action='store_true',
                       help='resize each image to the input of the model, instead of windows at the scale of the '
                            'pretraining')
    group = parser.add_argument_group('attention (our ViTs and ViTs of timm)')
    group.add_argument('--point', type=float, nargs=2, metavar=('X', 'Y'),
                       help='draw the attention of the patch at this point, in pixels (default: reconstructions; for '
                            'models without a decoder, the center of the image)')
    group.add_argument('--block', type=int, metavar='N',
                       help='index of the block (default: the last one that attends to the whole image)')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.checkpoints.published import read_checkpoint
    from mae_backbone.cli.config import load_config
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.files import list_images
    from mae_backbone.data.reading import suffixes_of
    from mae_backbone.prediction.loading import from_config
    from mae_backbone.prediction.model import MaskedAutoencoder
    from mae_backbone.prediction.typed_results import draw_reconstructions
    from mae_backbone.utils.image_grid import save_picture

    if args.data_root:
        raise ValueError(f'--data-root {args.data_root} has no effect: visualize draws the images that are passed '
                         'behind the checkpoint. Leave it out, or pass the folder there')
    cfg = load_config(args, with_data=False)
    model = from_config(cfg, read_checkpoint(args.checkpoint), Path(args.checkpoint))
    is_folder = Path(args.image).is_dir()
    images = list_images(args.image, suffixes_of(model.decoding)) if is_folder else [Path(args.image)]
    files = images[:MAX_IMAGES]
    number = f'{len(files)} images' if files == images else f'the first {len(files)} of {len(images)} images'
    attention = args.point is not None or args.block is not None
    if not attention and isinstance(model, MaskedAutoencoder):
        out = _checked_out(args.out or 'reconstruction.png', files)
        reconstruct = model.reconstruct if args.squeeze else model.reconstruct_whole
        results = reconstruct(files, mask_ratio=args.mask_ratio, seed=args.seed or 0)
        save_picture(out, draw_reconstructions(results if isinstance(results, list) else [results]))
        log_rank0(f'{number}, original | masked | reconstruction: {out}')
        return
    if args.mask_ratio is not None or args.seed is not None or args.squeeze:
        raise ValueError('--mask-ratio, --seed and --squeeze are for reconstructions: leave them out, or pass the '
                         'checkpoint of a pretraining without --point and --block')
    out = _checked_out(args.out or 'attention.png', files)
    _draw_attention(model, files, args.point, args.block, out)
    log_rank0(f'{number}, original | attention from the marked patch: {out}')


def _checked_out(out: str, files: list[Path]) -> str:
    """Returns the path of the picture. Raises ValueError if the picture would replace an image that it shows."""
    if Path(out).exists() and any(file.exists() and file.samefile(out) for file in files):
        raise ValueError(f'the picture {out} would replace the image that it shows: choose another name with -o')
    return out


def _draw_attention(model: 'Model', files: list[Path], point: list[float] | None, block: int | None, out: str) -> None:
    from mae_backbone.utils.image_grid import save_picture, side_by_side
    rows, number = [], block
    for file in files:
        result = model.attention(file, (point[0], point[1]) if point else None, block=block)
        number = result.block
        rows.append([result.pixels, result.draw()])
    save_picture(out, side_by_side(rows, ['original', f'attention in block {number}'], height=384))
