"""Predict with a trained model: draw the predictions and write them to files.

examples:
  mae-backbone predict mask-rcnn_vitdet-b_100e_coco CHECKPOINT IMAGE|FOLDER|VIDEO -o predictions
  mae-backbone predict work_dirs/RUN/iter_600.pth IMAGE     with the config in work_dirs/RUN
"""
import argparse

from mae_backbone.cli.options import add_config_options, positive_int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_config_options(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of `mae-backbone train`')
    parser.add_argument('images', metavar='IMAGE|FOLDER|VIDEO', help='input')
    group = parser.add_argument_group('prediction')
    group.add_argument('-o', '--out', default='predictions', metavar='DIR', help='output folder (default: %(default)s)')
    group.add_argument('--threshold', type=float, default=0.3, metavar='SCORE',
                       help='lowest score of an object, in figures and files (default: %(default)s)')
    group.add_argument('--tile', type=positive_int, metavar='PIXELS',
                       help='cut large images into tiles with this side')
    group.add_argument('--overlap', type=float, default=0.2, metavar='FRACTION',
                       help='overlap between tiles, as a fraction of the tile (default: %(default)s); choose more than '
                            'your largest object')
    group.add_argument('--tta', action='store_true',
                       help='test-time augmentation: flips, and the scales of the config (tta.ratios)')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.cli.config import adapt_classes, load_config, make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.planning.adapt_config import take_classes
    from mae_backbone.planning.match_classes import checkpoint_classes, match_classes
    from mae_backbone.prediction.predictor import Predictor
    from mae_backbone.prediction.results import Results
    from mae_backbone.prediction.run import check_output, find_inputs, predict_images, predict_video
    from mae_backbone.prediction.video import VideoReader

    cfg = load_config(args)
    files = find_inputs(args.images)
    check_output(files, args.images, args.out)
    names = checkpoint_classes(args.checkpoint)
    if args.data_root:
        adapt_classes(cfg)
        match_classes(cfg, names, args.checkpoint, with_labels=False)
    else:
        take_classes(cfg, names)
    predictor = Predictor(cfg, args.checkpoint, threshold=args.threshold, tile=args.tile, overlap=args.overlap,
                          tta=args.tta)
    make_folder(args.out, '-o')
    with Results(args.out, predictor, cfg) as results:
        log_rank0(f'{predictor.task}: results go to {args.out}; {results.summary()}')
        if isinstance(files, VideoReader):
            predict_video(files, predictor, results, log=log_rank0)
        else:
            predict_images(files, args.images, predictor, results, log=log_rank0, decoding=predictor.decoding)
