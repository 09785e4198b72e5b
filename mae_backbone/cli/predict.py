"""Predict with a trained model: draw the predictions and write them to files.

examples:
  mae-backbone predict work_dirs/RUN/iter_600.pth IMAGE|FOLDER|VIDEO -o predictions
  mae-backbone predict model.onnx images/a*.jpg    on onnxruntime, with a file of `mae-backbone export`
  mae-backbone predict CONFIG CHECKPOINT IMAGE     with a config in place of the one in the checkpoint
"""
import argparse
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_config_options, positive_int

if TYPE_CHECKING:
    from mmengine.config import Config

_OVERLAP = 0.2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_config_options(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint of `mae-backbone train` or `mae-backbone publish`, or an exported ONNX file')
    parser.add_argument('images', nargs='+', metavar='IMAGE|FOLDER|VIDEO', help='input: images, a folder or a video')
    group = parser.add_argument_group('prediction')
    group.add_argument('-o', '--out', default='predictions', metavar='DIR', help='output folder (default: %(default)s)')
    group.add_argument('--threshold', type=float, default=0.3, metavar='SCORE',
                       help='lowest score of an object, in figures and files (default: %(default)s)')
    group.add_argument('--tile', type=positive_int, metavar='PIXELS',
                       help='cut large images into tiles with this side')
    group.add_argument('--overlap', type=float, metavar='FRACTION',
                       help=f'overlap between tiles, as a fraction of the tile (default: {_OVERLAP}); choose more than '
                            'your largest object')
    group.add_argument('--tta', action='store_true',
                       help='test-time augmentation: flips, and the scales of the config (tta.ratios)')
    group = parser.add_argument_group('computation')
    group.add_argument('--batch-size', type=positive_int, default=1, metavar='N',
                       help='images in a forward pass (default: %(default)s)')
    group.add_argument('--device', metavar='NAME',
                       help='such as cpu or cuda:1 (default: a GPU if there is one); openvino for an ONNX file')
    group.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32',
                       help='type to compute in (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from pathlib import Path

    from mae_backbone.checkpoints.published import read_checkpoint
    from mae_backbone.cli.config import adapt_classes, load_config, make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.reading import reading_in, suffixes_of
    from mae_backbone.planning.adapt_config import take_classes
    from mae_backbone.planning.match_classes import checkpoint_classes, match_classes
    from mae_backbone.prediction.loading import from_config
    from mae_backbone.prediction.model import TaskModel
    from mae_backbone.prediction.run import check_output, find_inputs

    if args.overlap is not None and args.tile is None:
        raise ValueError(f'--overlap {args.overlap:g} has no effect without --tile: pass the side of the tiles, too')
    args.overlap = _OVERLAP if args.overlap is None else args.overlap
    if Path(args.checkpoint).suffix.lower() == '.onnx':
        _run_onnx(args)
        return
    cfg = load_config(args, with_data=bool(args.data_root))
    reading = reading_in(cfg.get('test_dataloader') or {})
    check_output(find_inputs(args.images, suffixes_of(reading)), args.out)
    names = checkpoint_classes(args.checkpoint)
    if args.data_root:
        adapt_classes(cfg)
        _check_data(cfg, args.data_root)
        match_classes(cfg, names, args.checkpoint, with_labels=False)
    else:
        take_classes(cfg, names)
    model = from_config(cfg, read_checkpoint(args.checkpoint), Path(args.checkpoint), device=args.device,
                        dtype=args.dtype)
    if not isinstance(model, TaskModel):
        raise ValueError(f'{args.checkpoint} predicts nothing for an image: pass the checkpoint of a detector, a '
                         'segmenter or a classifier; for a pretrained MAE use `mae-backbone visualize`')
    make_folder(args.out, '-o')
    model.write_predictions(args.images, args.out, batch_size=args.batch_size, threshold=args.threshold,
                            tile=args.tile, overlap=args.overlap, tta=args.tta, log=log_rank0)


def _check_data(cfg: 'Config', data_root: str) -> None:
    """Raises ValueError if the file or folder that states ids and classes of the test data does not exist."""
    from pathlib import Path

    from mae_backbone.formats.registry import formats_in
    for spec in (data_format.spec for data_format in formats_in(cfg, ['test'])):
        path = spec.annotations or spec.root
        if spec.is_local and path and not Path(path).exists():
            raise ValueError(f'--data-root {data_root}: {path} does not exist, which states ids and classes: pass the '
                             'folder of the data, or leave --data-root out, because the checkpoint has the classes')


def _run_onnx(args: argparse.Namespace) -> None:
    """Predicts with an exported file, which has no config."""
    from mae_backbone.cli.config import make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.reading import suffixes_of
    from mae_backbone.prediction.loading import load
    from mae_backbone.prediction.onnx.model import OnnxModel
    from mae_backbone.prediction.run import check_output, find_inputs

    given = {'CONFIG': args.config != args.checkpoint, '--data-root': args.data_root, '--cfg-options': args.cfg_options}
    unused = [name for name, value in given.items() if value]
    if unused:
        raise ValueError(f'{", ".join(unused)}: an exported file has its classes and its preparation of images inside, '
                         'and no config: remove it')
    model = load(args.checkpoint, device=args.device, dtype=args.dtype)
    if not isinstance(model, OnnxModel):
        raise ValueError(f'{args.checkpoint} predicts nothing for an image: it holds a backbone, export the whole '
                         'model')
    check_output(find_inputs(args.images, suffixes_of(model.decoding)), args.out)
    make_folder(args.out, '-o')
    model.write_predictions(args.images, args.out, batch_size=args.batch_size, threshold=args.threshold,
                            tile=args.tile, overlap=args.overlap, tta=args.tta, log=log_rank0)
