"""Try a model on single images in the browser of this machine. The page listens on 127.0.0.1 only; Ctrl-C ends it.

examples:
  mae-backbone demo work_dirs/RUN/iter_600.pth
  mae-backbone demo work_dirs/MAE/iter_3500.pth --bank IMAGES --save-bank bank.safetensors
  mae-backbone demo work_dirs/MAE/iter_3500.pth --bank bank.safetensors --port 8000
  mae-backbone demo detector.onnx
"""
import argparse

from mae_backbone.cli.options import positive_float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint of `mae-backbone train`, `pretrain` or `publish`, public weights of a ViT, or '
                             'an ONNX file of `mae-backbone export`')
    group = parser.add_argument_group('page')
    group.add_argument('--port', type=_port, metavar='N', help='port (default: the first free one from 7860 on)')
    group.add_argument('--max-megabytes', type=positive_float, default=50.0, metavar='MB',
                       help='maximum size of an uploaded file (default: %(default)g); MAE_BACKBONE_MAX_PIXELS limits '
                            'its pixels')
    group = parser.add_argument_group('neighbors')
    group.add_argument('--bank', metavar='FOLDER|FILE',
                       help='images to search for the most similar ones: a folder, whose features are computed at the '
                            'start, or a file of --save-bank')
    group.add_argument('--save-bank', metavar='FILE', help='write the features of the folder to FILE.safetensors')
    group = parser.add_argument_group('computation')
    group.add_argument('--device', metavar='NAME', help='such as cpu or cuda:1 (default: a GPU if there is one)')
    group.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32',
                       help='type to compute in (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    import threading
    from pathlib import Path

    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.demo.feature_bank import build_bank, check_suffix, load_bank
    from mae_backbone.demo.server import check_installed, serve
    from mae_backbone.prediction.loading import load
    from mae_backbone.prediction.onnx.model import OnnxEncoder, OnnxModel

    check_installed()
    is_folder = args.bank is not None and Path(args.bank).is_dir()
    if args.save_bank is not None:
        if not is_folder:
            raise ValueError('--save-bank is for features of a folder: pass --bank FOLDER')
        if not check_suffix(args.save_bank).absolute().parent.is_dir():
            raise FileNotFoundError(f'--save-bank {args.save_bank}: the folder does not exist: create it first')
    model = load(args.checkpoint, device=args.device, dtype=args.dtype)
    if isinstance(model, OnnxModel) and args.bank is not None:
        raise ValueError(f'--bank needs features, and {args.checkpoint} returns predictions only: pass the checkpoint, '
                         'or a file of `mae-backbone export CHECKPOINT OUT.onnx --part backbone`')
    if isinstance(model, OnnxEncoder) and args.bank is None:
        raise ValueError(f'{args.checkpoint} holds an encoder, which the page shows only with --bank FOLDER, the '
                         'images to search: pass it, or export the whole model')
    log_rank0(str(model))
    bank = None
    if args.bank is not None:
        bank = build_bank(model, args.bank, log=log_rank0) if is_folder else load_bank(args.bank, model)
        log_rank0(f'feature bank: {len(bank):,} images of {args.bank}')
    if args.save_bank is not None and bank is not None:
        bank.save(args.save_bank)
        log_rank0(f'feature bank: {args.save_bank}')
    with serve(model, bank=bank, port=args.port, max_megabytes=args.max_megabytes) as address:
        log_rank0(f'\nopen {address} in a browser of this machine; Ctrl-C ends the page')
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            log_rank0('\nended')


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a port from 1 to 65535')
    return int(text)
