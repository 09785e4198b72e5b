"""Draws what a trained model finds in images: boxes and masks, segments, or classes.

    python tools/predict.py CONFIG CHECKPOINT IMAGE|FOLDER -o OUT
"""
from pathlib import Path

from mae_backbone import cli
from mae_backbone.data.decode import BadImage, read_image
from mae_backbone.data.files import list_images
from mae_backbone.drawing import save_picture
from mae_backbone.predict import Predictor


def main() -> None:
    parser = cli.run_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of tools/train.py')
    parser.add_argument('images', help='an image, or a folder of images')
    parser.add_argument('-o', '--out', default='predictions', help='folder for the pictures (default: %(default)s)')
    parser.add_argument('--threshold', type=float, default=0.3, help='lowest score of a box (default: %(default)s)')
    args = parser.parse_args()
    cfg = cli.load_config(args)
    root = Path(args.images)
    files = list_images(root) if root.is_dir() else [root]
    cli.fit_to_data(cfg)
    predictor = Predictor(cfg, args.checkpoint, threshold=args.threshold)
    cli.say(f'{predictor.task}: {len(files)} images, pictures go to {args.out}')
    cli.make_folder(args.out, '-o')
    bad = 0
    for number, file in enumerate(files, 1):
        try:
            image = read_image(file)
        except BadImage as error:
            bad += 1
            cli.say(f'[{number}/{len(files)}] skipped: {error}')
            continue
        result = predictor(image)
        name = file.relative_to(root) if root.is_dir() else Path(file.name)
        target = Path(args.out, name).with_suffix('.png')
        target.parent.mkdir(parents=True, exist_ok=True)
        save_picture(str(target), predictor.draw(image, result))
        cli.say(f'[{number}/{len(files)}] {name}: {predictor.describe(result)}')
    if bad == len(files):
        raise ValueError(f'none of the {bad} images could be read: see the lines above')


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
