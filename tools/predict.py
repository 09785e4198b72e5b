"""Predicts with a trained model: what it finds in images or in a video, drawn, and in files for other programs.

    python tools/predict.py CONFIG CHECKPOINT IMAGE|FOLDER|VIDEO -o OUT
"""
from mae_backbone.cli import common as cli
from mae_backbone.prediction.predictor import Predictor
from mae_backbone.prediction.results import Results
from mae_backbone.prediction.run import predict_images, predict_video, refuse_overwriting, to_predict
from mae_backbone.prediction.video import VideoReader


def main() -> None:
    parser = cli.run_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of tools/train.py')
    parser.add_argument('images', metavar='IMAGE|FOLDER|VIDEO', help='what to look at')
    parser.add_argument('-o', '--out', default='predictions', help='folder for what is written (default: %(default)s)')
    parser.add_argument('--threshold', type=float, default=0.3,
                        help='lowest score of an object, in pictures and files (default: %(default)s)')
    parser.add_argument('--tile', type=int, metavar='PIXELS', help='look at large images in tiles of that side')
    parser.add_argument('--overlap', type=float, default=0.2, metavar='SHARE',
                        help='of the side, that neighboring tiles have in common (default: %(default)s): best more '
                             'than objects measure')
    parser.add_argument('--tta', action='store_true',
                        help='test-time augmentation: mirrored, and at the sizes of the config')
    args = parser.parse_args()
    cfg = cli.load_config(args)
    files = to_predict(args.images)
    refuse_overwriting(files, args.images, args.out)
    cli.fit_to_data(cfg)
    predictor = Predictor(cfg, args.checkpoint, threshold=args.threshold, tile=args.tile, overlap=args.overlap,
                          tta=args.tta)
    cli.make_folder(args.out, '-o')
    with Results(args.out, predictor, cfg) as results:
        cli.say(f'{predictor.task}: results go to {args.out}; {results.about()}')
        if isinstance(files, VideoReader):
            predict_video(files, predictor, results, say=cli.say)
        else:
            predict_images(files, args.images, predictor, results, say=cli.say)


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
