"""Export a model to an ONNX or .pt2 file for other programs.

examples:
  mae-backbone export work_dirs/RUN/iter_600.pth model.onnx --verify
  mae-backbone export work_dirs/RUN/iter_600.pth model.onnx --dynamic batch,size --argmax --preprocessing
  mae-backbone export mae_pretrain_vit_base.pth encoder.pt2 --size 224
"""
import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='checkpoint of `mae-backbone train`, `pretrain` or `publish`, or public weights')
    parser.add_argument('out', metavar='OUT.onnx|OUT.pt2', help='file to write')
    group = parser.add_argument_group('model')
    group.add_argument('--config', dest='other_config', metavar='CONFIG',
                       help='config in place of the one in the checkpoint')
    group.add_argument('--part', choices=['model', 'backbone', 'pyramid'], default='model',
                       help='whole model, or feature maps of its backbone or of its neck (default: %(default)s)')
    group.add_argument('--preprocessing', action='store_true',
                       help='take pixels (0 to 255, RGB), and resize and normalize them inside of the model')
    activation = group.add_mutually_exclusive_group()
    activation.add_argument('--softmax', action='store_true', help='return probabilities in place of logits')
    activation.add_argument('--argmax', action='store_true', help='return the class of each pixel')
    group = parser.add_argument_group('file')
    group.add_argument('--dynamic', metavar='AXES',
                       help='sizes of the input that may change: batch, size (height and width), batch,size or none '
                            '(default: batch; of a segmenter batch,size)')
    group.add_argument('--size', metavar='PIXELS|H,W', help='size of the images (default: size of the training)')
    group.add_argument('--opset', type=int, default=18, metavar='N', help='ONNX opset, 18 to 23 (default: %(default)s)')
    group.add_argument('--half', action='store_true', help='compute in float16')
    group.add_argument('--int8', action='store_true',
                       help='quantize weights and activations to 8 bits; needs --calibration')
    group.add_argument('--calibration', metavar='FOLDER', help='images similar to the training images, for --int8')
    group.add_argument('--verify', action='store_true',
                       help='compare the file with PyTorch, and write it only if they agree')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.export.run import export

    if args.int8 != bool(args.calibration):
        raise ValueError('--int8 and --calibration FOLDER belong together: the ranges of activations are measured on '
                         'the images of that folder')
    exported = export(
        args.checkpoint, args.out, part=args.part, dynamic=args.dynamic, size=args.size, opset=args.opset,
        half=args.half, preprocessing=args.preprocessing, softmax=args.softmax, argmax=args.argmax, verify=args.verify,
        calibration=args.calibration,
        **({'config': args.other_config} if args.other_config else {}))
    log_rank0(str(exported))
