"""Measure speed and memory against another implementation of the same work, in the same run.

examples:
  mae-backbone benchmark step                      a step of MAE pretraining, against a plain form on timm's blocks
  mae-backbone benchmark step --against mae --peer-root DIR   against facebookresearch/mae in a checkout
  mae-backbone benchmark step --against transformers          against ViTMAE of transformers
  mae-backbone benchmark backbone --against detectron2 --peer-root DIR   the ViTDet backbone, against detectron2
  mae-backbone benchmark train CONFIG --against CONFIG   a training step of one config, against another
  mae-backbone benchmark train mask-rcnn_vitdet-b_100e_coco --against detectron2 --peer-root DIR
  mae-backbone benchmark loader --data-root DIR    decoding and cropping, against torchvision and PIL
  mae-backbone benchmark flops CONFIG --against CONFIG   the arithmetic of two pretraining recipes, without running them
  mae-backbone benchmark features                  frozen features to disk, against bare forward passes
  mae-backbone benchmark gpu --json gpu.json       numbers, speed and memory of every path on this GPU, in 9 minutes
  mae-backbone benchmark latency                   one image, in PyTorch and in runtimes for exported models
"""
import argparse
from importlib import import_module

from mae_backbone.benchmark.peers.registry import PEERS
from mae_backbone.cli.options import natural, positive_float, positive_int

ARCHS = ('tiny', 'small', 'base', 'large', 'huge')  # as in core/vit.py, which is not imported here: it imports torch
DTYPES = ('float32', 'bfloat16')


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='|'.join(_KINDS))
    for kind, (text, add) in _KINDS.items():
        subparser = kinds.add_parser(kind, help=text, description=f'Measure {text}.')
        add(subparser)
        subparser.add_argument('--json', metavar='FILE', help='also write the result to this file')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    import torch

    from mae_backbone.benchmark.report import check_json, write_json
    from mae_backbone.cli.errors import log_rank0

    sizes = getattr(args, 'image_size', None)
    if isinstance(sizes, list) and len(sizes) > 2:
        raise ValueError(f'--image-size {" ".join(map(str, sizes))}: expected height and width, or one number for both')
    if getattr(args, 'baseline_root', None) and not args.data_root:
        raise ValueError('--baseline-root has the images of --data-root for the reference: pass --data-root too')
    if args.json:
        check_json(args.json)
    if getattr(args, 'threads', None):
        torch.set_num_threads(args.threads)
    if getattr(args, 'device', '') is None:
        args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    module = 'gpu.command' if args.kind == 'gpu' else args.kind
    result, text = import_module(f'mae_backbone.benchmark.{module}').run(args)
    log_rank0(text)
    if args.json:
        write_json(result, args.json)
        log_rank0(f'written: {args.json}')
    if failed := [name for name, check in result.get('checks', {}).items() if 'error' in check]:
        raise SystemExit(f'{len(failed)} of {len(result["checks"])} checks failed: {", ".join(failed)}')


def _add_step(parser: argparse.ArgumentParser) -> None:
    _add_peer(parser, 'step')
    group = parser.add_argument_group('model')
    _add_arch(group, 'base')
    group.add_argument('--patch-size', type=positive_int, default=16, metavar='PIXELS', help='default: %(default)s')
    group.add_argument('--mask-ratio', type=float, default=0.75, metavar='RATIO',
                       help='fraction of the patches that is masked (default: %(default)s)')
    group.add_argument('--decoder', type=positive_int, nargs=3, default=[512, 8, 16],
                       metavar=('WIDTH', 'DEPTH', 'HEADS'), help='size of the decoder (default: 512 8 16)')
    group = parser.add_argument_group('step')
    _add_batch(group, 16)
    group.add_argument('--image-size', type=positive_int, nargs='+', default=[224], metavar='PIXELS',
                       help='height and width, or one number for both (default: 224)')
    group.add_argument('--dtype', choices=DTYPES, default='float32', help='type of our side (default: %(default)s)')
    group.add_argument('--baseline-dtype', choices=DTYPES, default='float32',
                       help='type of the reference (default: %(default)s)')
    group.add_argument('--compile', choices=('auto', 'yes', 'no'), default='auto',
                       help='torch.compile on our side; auto: as in pretraining (default: %(default)s)')
    _add_measurement(parser, rounds=5)


def _add_backbone(parser: argparse.ArgumentParser) -> None:
    _add_peer(parser, 'backbone')
    group = parser.add_argument_group('model')
    _add_arch(group, 'base')
    group.add_argument('--sizes', '--image-size', type=positive_int, nargs='+', default=[512, 1024, 1536, 2048],
                       metavar='PIXELS', help='sides of square images (default: 512 1024 1536 2048)')
    _add_batch(group, 1)
    _add_measurement(parser, rounds=2)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', metavar='CONFIG', help='name or path of a config')
    parser.add_argument('--against', metavar='CONFIG|mmseg|detectron2', required=True,
                        help='the reference: a file; mmdet::PATH or mmseg::PATH for one that comes with them; mmseg '
                             'for its MAE with UPerNet on ADE20K, the peer of upernet_vit-b_160k_ade20k-512x512; or '
                             'detectron2 for its Mask R-CNN with ViTDet-B, the peer of mask-rcnn_vitdet-b_100e_coco')
    parser.add_argument('--peer-root', metavar='DIR', help='checkout of detectron2; its code is run')
    group = parser.add_argument_group('step')
    group.add_argument('--batch', type=positive_int, metavar='N',
                       help='images per step (default: as in the first config)')
    group.add_argument('--image-size', type=positive_int, nargs='+', metavar='PIXELS',
                       help='height and width, or one number for both (default: the crops of the first config)')
    group.add_argument('--num-classes', type=positive_int, metavar='N',
                       help='classes of the labels (default: the smaller number of the two models)')
    _add_measurement(parser, rounds=5)


def _add_flops(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', metavar='CONFIG', help='name or path of a pretraining config')
    parser.add_argument('--against', metavar='CONFIG', required=True, help='another one')


def _add_loader(parser: argparse.ArgumentParser) -> None:
    _add_peer(parser, 'loader')
    group = parser.add_argument_group('data')
    group.add_argument('--data-root', metavar='DIR', help='folder, list or shards (default: synthetic images)')
    group.add_argument('--baseline-root', metavar='DIR',
                       help='images for the reference if --data-root holds shards of them (default: the same)')
    group.add_argument('--generate', type=positive_int, default=256, metavar='N',
                       help='synthetic images of 500x375 without --data-root (default: %(default)s)')
    group.add_argument('--image-size', type=positive_int, default=224, metavar='PIXELS',
                       help='side of the crops (default: %(default)s)')
    _add_batch(group, 64)
    group = parser.add_argument_group('measurement')
    group.add_argument('--images', type=positive_int, default=512, metavar='N',
                       help='images per round, at most (default: %(default)s)')
    group.add_argument('--rounds', type=positive_int, default=5, metavar='N',
                       help='each round measures both sides (default: %(default)s)')


def _add_features(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('data')
    group.add_argument('--data-root', metavar='DIR', help='train/CLASS/*.jpg (default: synthetic images)')
    group.add_argument('--images', type=positive_int, default=2048, metavar='N',
                       help='images per round (default: %(default)s)')
    group.add_argument('--image-size', type=positive_int, default=32, metavar='PIXELS',
                       help='side of the images (default: %(default)s)')
    _add_batch(group, 256)
    group.add_argument('--workers', type=natural, default=1, metavar='N',
                       help='processes that decode (default: %(default)s)')
    group = parser.add_argument_group('model')
    _add_arch(group, 'tiny')
    group.add_argument('--patch-size', type=positive_int, default=4, metavar='PIXELS', help='default: %(default)s')
    _add_measurement(parser, rounds=3)


def _add_peer(parser: argparse.ArgumentParser, benchmark: str) -> None:
    group = parser.add_argument_group('reference')
    group.add_argument('--against', choices=tuple(PEERS[benchmark]), default='plain',
                       help='code to compare with; plain is a plain form of the same work (default: %(default)s)')
    group.add_argument('--peer-root', metavar='DIR',
                       help="checkout of the peer's repository if it is not installed; its code is run")


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--minutes', type=positive_float, default=9, metavar='N',
                        help='time limit; checks for which no time is left are skipped (default: %(default)s)')
    parser.add_argument('--tiny', action='store_true',
                        help='small models and images, to test the checks and not the device')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda',
                        help='default: cuda; the CPU with --tiny and no GPU')
    parser.add_argument('--shards', metavar='DIR', help='also time loading from these shards, see mae-backbone pack')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='run only the checks whose names begin with these')


def _add_latency(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('models', nargs='*', metavar='CONFIG|CHECKPOINT',
                        help='a config is measured with random weights (default: ViT-B classifier at 224 pixels, '
                             'UPerNet and Mask R-CNN on ViT-B at 512)')
    parser.add_argument('--size', type=positive_int, metavar='PIXELS',
                        help='side of the image (default: size of the training)')
    parser.add_argument('--runtime', default='eager,compile,onnxruntime', metavar='NAMES',
                        help='among eager,compile,onnxruntime,openvino (default: %(default)s)')
    parser.add_argument('--rounds', type=positive_int, default=3, metavar='N',
                        help='each round measures all runtimes, in turns with eager PyTorch (default: %(default)s)')
    parser.add_argument('--warmup', type=natural, default=1, metavar='N',
                        help='rounds before the measurement (default: %(default)s)')


def _add_arch(group: argparse._ActionsContainer, default: str) -> None:
    group.add_argument('--arch', choices=ARCHS, default=default, help='size of the encoder (default: %(default)s)')


def _add_batch(group: argparse._ActionsContainer, default: int) -> None:
    group.add_argument('--batch', type=positive_int, default=default, metavar='N',
                       help='images per batch (default: %(default)s)')


def _add_measurement(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    group = parser.add_argument_group('measurement')
    group.add_argument('--device', metavar='cpu|cuda', help='default: cuda if there is a GPU')
    group.add_argument('--threads', type=positive_int, metavar='N', help="PyTorch's threads (default: as PyTorch sets)")
    group.add_argument('--rounds', type=positive_int, default=rounds, metavar='N',
                       help='each round measures both sides (default: %(default)s)')
    group.add_argument('--warmup', type=natural, default=1, metavar='N',
                       help='rounds before the measurement (default: %(default)s)')


# Kind -> its description and its options.
_KINDS = {
    'step': ('a step of MAE pretraining', _add_step),
    'backbone': ('the forward and backward pass of the ViTDet backbone', _add_backbone),
    'train': ('a training step of two configs, or of a config and another code', _add_train),
    'loader': ('loading: from image files or shards to batches', _add_loader),
    'flops': ('the FLOPs per image of two pretraining configs', _add_flops),
    'gpu': ('numbers, speed and memory of every path on a GPU; most checks need torch and timm only', _add_gpu),
    'features': ('feature extraction: from image files to features on disk', _add_features),
    'latency': ('the latency of one image in PyTorch, onnxruntime and OpenVINO', _add_latency),
}
