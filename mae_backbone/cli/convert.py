"""Convert a checkpoint to the layout of another library.

examples:
  mae-backbone convert work_dirs/mae/epoch_800.pth mae_hf --to hf --verify
  mae-backbone convert work_dirs/mae/epoch_800.pth mae_timm --to timm --verify
  mae-backbone convert mae_pretrain_vit_base.pth vit.pkl --to detectron2
  mae-backbone convert detector.pth encoder.safetensors --to safetensors --encoder
"""
import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mae_backbone.cli.options import positive_int

if TYPE_CHECKING:
    from mae_backbone.checkpoints.conversion.convert import Conversion

# As in checkpoints/conversion/convert.py, which is not imported here: it imports torch.
_TARGETS = ('mae', 'timm', 'hf', 'mmpretrain', 'detectron2', 'safetensors')


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    parser.add_argument('source', metavar='IN', help='checkpoint of this package, or public weights in a known layout')
    parser.add_argument('out', metavar='OUT', help='file to write; a folder for timm and hf')
    parser.add_argument('--to', required=True, choices=_TARGETS, help='layout of the result')
    parser.add_argument('--verify', action='store_true',
                        help='run the result in the library it is for, and compare the features, predicted pixels and '
                        'logits')
    parser.add_argument('--encoder', action='store_true', help='convert only the encoder, without decoder and heads')
    parser.add_argument('--half', action='store_true', help='store float16 instead of float32')
    parser.add_argument('--force', action='store_true', help='replace the result of an earlier conversion')
    group = parser.add_argument_group('properties that the file may not state')
    group.add_argument('--heads', type=positive_int, metavar='N', help='number of attention heads of the encoder')
    group.add_argument('--decoder-heads', type=positive_int, metavar='N',
                       help='number of attention heads of the decoder')
    group.add_argument('--weights-key', metavar='KEY',
                       help='which weights to take if IN has several: a key of the file, student or teacher')
    group.add_argument('--license', metavar='ID', help='license of the weights, such as cc-by-nc-4.0 or apache-2.0')


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from mae_backbone.checkpoints.conversion.convert import convert
    result = convert(args.source, args.out, args.to, verify=args.verify, half=args.half, encoder=args.encoder,
                     force=args.force, key=args.weights_key, heads=args.heads, decoder_heads=args.decoder_heads,
                     license=args.license)
    for line in _report(args, result):
        print(line)


def _report(args: argparse.Namespace, result: 'Conversion') -> list[str]:
    from mae_backbone.checkpoints.conversion.licenses import MAE_LICENSE, MAE_LICENSE_NOTE
    model = result.model
    origin, architecture = model.origin, model.architecture
    size = f'ViT-{architecture.name}' if architecture.name else f'ViT {architecture.width}x{architecture.depth}'
    parts = [f'{size}/{architecture.patch_size}, {architecture.heads} heads']
    parts += [f'decoder {architecture.decoder.width}x{architecture.decoder.depth}'] if architecture.decoder else []
    parts += [f'{model.num_classes} classes'] if model.num_classes else []
    lines = [f'read     {args.source}: layout {origin.layout}, {", ".join(parts)}',
             f'sha256   {origin.sha256}',
             *(f'note     {note}' for note in model.notes)]
    if origin.license:
        lines.append(f'license  {origin.license} ({origin.license_source})'
                     + (f': {MAE_LICENSE_NOTE}' if origin.license == MAE_LICENSE else ''))
    else:
        lines.append('license  not stated by the file, --license writes it into the result'
                     + ('' if origin.layout == 'ours' else f'; {MAE_LICENSE_NOTE}'))
    lines.append(f'written  {Path(args.out)}: {len(model.weights) + len(model.others)} tensors, '
                 f'{result.size / 1e6:,.1f} MB in {"float16" if args.half else "float32"}')
    verification = result.verification
    if verification is None:
        lines.append('verified no: pass --verify to run the result in the library it is for')
    elif verification.missing:
        lines.append(f'verified no: {verification.missing}')
    else:
        differences = ', '.join(f'{name} {value:.2g}' for name, value in verification.differences.items())
        lines.append(f'verified by {verification.library}: largest difference of {differences}')
    return [*lines, *(f'use      {line}' for line in result.usage.splitlines())]
