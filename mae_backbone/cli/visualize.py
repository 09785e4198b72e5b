"""Draw reconstructions of a pretrained masked autoencoder: original | masked | reconstruction.

examples:
  mae-backbone visualize work_dirs/mae/iter_3500.pth IMAGE -o reconstruction.png
  mae-backbone visualize mae_vit-b_800e_in1k CHECKPOINT IMAGE    with a config in place of the one in the checkpoint
"""
import argparse

from mae_backbone.cli.options import add_config_options

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

    from mae_backbone.checkpoints.published import read_checkpoint
    from mae_backbone.cli.config import load_config
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.files import list_images
    from mae_backbone.data.reading import suffixes_of
    from mae_backbone.prediction.loading import from_config
    from mae_backbone.prediction.model import MaskedAutoencoder
    from mae_backbone.prediction.typed_results import draw_reconstructions
    from mae_backbone.utils.image_grid import save_picture

    cfg = load_config(args, with_data=False)
    if str(cfg.model.get('type')).rpartition('.')[2] != 'MAEPretrainer':
        raise ValueError(f'{args.config} is not a pretraining config: pass the config of the checkpoint')
    model = from_config(cfg, read_checkpoint(args.checkpoint), Path(args.checkpoint))
    assert isinstance(model, MaskedAutoencoder)
    is_folder = Path(args.image).is_dir()
    files = list_images(args.image, suffixes_of(model.decoding))[:MAX_IMAGES] if is_folder else [args.image]
    results = model.reconstruct(list(files), mask_ratio=args.mask_ratio, seed=args.seed)
    save_picture(args.out, draw_reconstructions(results if isinstance(results, list) else [results]))
    log_rank0(f'{len(files)} images, original | masked | reconstruction: {args.out}')
