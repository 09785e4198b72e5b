"""Weights of every origin load or are refused with the reason; no file runs code."""
import argparse
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.checkpoints.architecture import read_architecture
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.checkpoints.source import source_in
from mae_backbone.checkpoints.state_dicts import read_weights
from mae_backbone.core.mae import MAE
from mae_backbone.core.vit import ViT
from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.models.pretrainer import MAEPretrainer

TINY = dict(arch=dict(width=32, depth=2, heads=2), image_size=32, patch_size=8)
# Damaged bytes can look like a protocol of pickle that torch knows little of.
pytestmark = pytest.mark.filterwarnings('ignore:Detected pickle protocol:UserWarning')


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What the package logs, also where a Runner has taken its logger over."""
    monkeypatch.setattr(logging.getLogger('mae_backbone'), 'propagate', True)
    caplog.set_level(logging.INFO, logger='mae_backbone')
    return caplog


def tiny(**options) -> ViT:
    return ViT(**TINY | options)


def stored(path: Path, content: object, **options) -> Path:
    torch.save(content, path, **options)
    return path


def public_mae() -> dict[str, Tensor]:
    """The names of a pretraining checkpoint of the public MAE code."""
    model = MAE(tiny(), decoder_width=16, decoder_depth=1, decoder_heads=2)
    return {name.split('.', 1)[1]: value for name, value in model.state_dict().items()}


def assert_loaded(model: ViT, weights: dict[str, Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name


# ---- files of every origin

def test_tables_of_some_blocks_are_refused(tmp_path: Path):
    """Files have tables in all blocks or in none, which is a pretraining without them."""
    options = dict(relative_positions=True, class_token=False)
    weights = {name: value for name, value in tiny(**options).state_dict().items() if 'blocks.1.attn.rel' not in name}
    with pytest.raises(CheckpointError, match=r'2 in the model, not in the file: blocks\.1\.attn\.rel_pos_h'):
        load_encoder(tiny(**options), stored(tmp_path / 'a.pth', weights))


@pytest.mark.parametrize('read', [lambda path: load_encoder(tiny(), path), read_architecture])
def test_patch_embedding_without_a_shape_is_refused(tmp_path: Path, read: Callable):
    weights = dict(tiny().state_dict()) | {'patch_embed.proj.weight': torch.tensor(1.0)}
    with pytest.raises(CheckpointError, match='patch embedding without a shape'):
        read(stored(tmp_path / 'a.pth', weights))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_layer_scale_in_half_precision_is_multiplied_in_float32(tmp_path: Path, dtype: torch.dtype):
    """The products of small scales and weights are smaller than the smallest numbers in half precision."""
    source = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, init_values=0.01)
    weights = {name: value.to(dtype) for name, value in source.state_dict().items()}
    models = tiny(), tiny()
    for model, content in zip(models, (weights, {name: value.float() for name, value in weights.items()}), strict=True):
        load_encoder(model, stored(tmp_path / 'timm.pth', content))
    assert_loaded(models[0], models[1].state_dict())


@pytest.mark.parametrize('options', [dict(relative_positions=True, class_token=False), dict(relative_bias='block'), {}])
def test_float8_is_resized_in_float32(tmp_path: Path, options: dict):
    weights = {name: value.to(torch.float8_e4m3fn) for name, value in tiny(**options).state_dict().items()}
    models = tiny(**options, image_size=64, in_channels=5), tiny(**options, image_size=64, in_channels=5)
    for model, content in zip(models, (weights, {name: value.float() for name, value in weights.items()}), strict=True):
        load_encoder(model, stored(tmp_path / 'half.pth', content), adapt_channels=True)
    assert_loaded(models[0], models[1].state_dict())


@pytest.mark.parametrize('save', [torch.save, save_file])
def test_positions_of_as_many_patches_in_another_grid_are_interpolated(tmp_path: Path, save: Callable):
    """16 positions are stored for 4x4 or 2x8 patches: the number does not show the grid."""
    source, target = tiny(), tiny(image_size=(16, 64))
    save(dict(source.state_dict()), tmp_path / 'square.safetensors' if save is save_file else tmp_path / 'square.pth')
    report = load_encoder(target, next(tmp_path.iterdir()))
    assert_close(target.pos_embed, source.positions((2, 8)))
    assert 'from 4x4 to 2x8 patches' in report.resized['pos_embed']
    assert 'a square is assumed' in report.warnings[0]


def test_pretraining_checkpoint_loads(tmp_path: Path):
    pretrainer = MAEPretrainer(TINY, decoder_width=16, decoder_depth=1, decoder_heads=2)
    history = HistoryBuffer()
    history.update(1.5)
    path = stored(tmp_path / 'epoch_1.pth', dict(
        meta=dict(epoch=1, cfg='model = dict()'), state_dict=pretrainer.state_dict(),
        message_hub=dict(log_scalars={'train/loss': history}), optimizer=dict(state={}, param_groups=[{'lr': 1e-3}])))
    model = tiny()
    load_encoder(model, path)
    assert_loaded(model, pretrainer.mae.encoder.state_dict())


@pytest.mark.parametrize('legacy', [False, True])
def test_public_mae_file_loads(tmp_path: Path, legacy: bool):
    weights = public_mae()
    path = stored(tmp_path / 'mae.pth', dict(model=weights, epoch=799, args=argparse.Namespace(lr=1e-3, device='cuda')),
                  _use_new_zipfile_serialization=not legacy)
    backbone = ViTBackbone(**TINY, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    backbone.init_weights()
    assert_loaded(backbone, weights)
    fine_tuned = ViTClassifier(TINY | dict(init_cfg=dict(type='Pretrained', checkpoint=str(path))), num_classes=5)
    fine_tuned.init_weights()
    assert_loaded(fine_tuned.backbone, weights)
    assert 'norm.weight' not in fine_tuned.backbone.state_dict()  # it normalizes after the pooling, in fc_norm
    probe = ViTClassifier(TINY | dict(init_cfg=dict(type='Pretrained', checkpoint=path)), num_classes=5, probe=True)
    probe.init_weights()
    assert_loaded(probe.backbone, weights)


def test_fine_tuned_weights_of_the_public_mae(tmp_path: Path):
    weights = tiny(final_norm=False).state_dict() | {'fc_norm.weight': torch.ones(32), 'fc_norm.bias': torch.ones(32),
                                                     'head.weight': torch.ones(5, 32), 'head.bias': torch.ones(5)}
    backbone = ViTBackbone(**TINY)
    load_encoder(backbone, stored(tmp_path / 'tuned.pth', dict(model=weights)))
    assert_loaded(backbone, weights)


@pytest.mark.parametrize('ours', [False, True])
def test_fc_norm_of_classifier_becomes_norm_of_encoder(tmp_path: Path, ours: bool):
    classifier = ViTClassifier(dict(TINY), num_classes=5)
    torch.nn.init.normal_(classifier.fc_norm.weight)
    weights = classifier.state_dict()
    if not ours:  # as the public MAE code names them
        weights = {name.removeprefix('backbone.'): value for name, value in weights.items()}
    model = tiny(final_norm=True)
    load_encoder(model, stored(tmp_path / 'tuned.pth', dict(model=weights)))
    assert_close(model.norm.weight, classifier.fc_norm.weight)
    assert_close(model.blocks[0].attn.qkv.weight, classifier.backbone.blocks[0].attn.qkv.weight)


def test_timm_weights_give_same_features(tmp_path: Path):
    reference = VisionTransformer(32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=7)
    model, images = tiny(), torch.randn(2, 3, 32, 32)
    load_encoder(model, stored(tmp_path / 'timm.pth', reference.state_dict()))
    assert_close(model.encode(model.embed(images)), reference.forward_features(images), atol=1e-5, rtol=0)


def test_timm_default_loads(tmp_path: Path):
    weights = timm.create_model('vit_tiny_patch16_224').state_dict()
    model = ViT('tiny')
    load_encoder(model, stored(tmp_path / 'timm.pth', weights))
    assert_loaded(model, weights)


@pytest.mark.parametrize('prefix', ['module.', 'backbone.', 'module.backbone.', 'student.mae.encoder.'])
def test_any_prefix_loads(tmp_path: Path, prefix: str):
    weights = tiny().state_dict()
    content = {prefix + name: value for name, value in weights.items()} | {'head.fc.weight': torch.ones(3, 3)}
    if prefix == 'module.':
        del content['head.fc.weight']  # beside a ViT without a prefix it would be an unknown name
    model = tiny()
    load_encoder(model, stored(tmp_path / 'prefixed.pth', dict(state_dict=content)))
    assert_loaded(model, weights)


def test_safetensors_load(tmp_path: Path):
    weights, model = tiny().state_dict(), tiny()
    save_file(weights, tmp_path / 'weights.safetensors')
    load_encoder(model, tmp_path / 'weights.safetensors')
    assert_loaded(model, weights)


def test_half_precision_loads(tmp_path: Path):
    weights, model = tiny().half().state_dict(), tiny()
    load_encoder(model, stored(tmp_path / 'half.pth', weights))
    assert_loaded(model, {name: value.float() for name, value in weights.items()})


# ---- other sizes

def test_positions_are_resized_and_that_is_logged(tmp_path: Path, log: pytest.LogCaptureFixture):
    weights = public_mae()
    weights['pos_embed'] = torch.randn(1, 1 + 16, 32)
    model = ViTBackbone(**TINY | dict(image_size=(56, 40)))
    load_encoder(model, stored(tmp_path / 'mae.pth', dict(model=weights)))
    grid = weights['pos_embed'][:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    wanted = F.interpolate(grid, size=(7, 5), mode='bicubic', align_corners=False).flatten(2).transpose(1, 2)
    assert_close(model.pos_embed[:, 1:], wanted, atol=1e-6, rtol=0)
    assert torch.equal(model.pos_embed[:, 0], weights['pos_embed'][:, 0])
    assert 'pos_embed from 4x4 to 7x5 patches' in log.text


def test_relative_tables_are_resized_or_start_at_zero_and_that_is_logged(tmp_path: Path, log: pytest.LogCaptureFixture):
    options = dict(relative_positions=True, pretrain_image_size=32)
    trained, model, fresh = (ViTBackbone(**TINY | dict(image_size=size) | options) for size in (32, 48, 48))
    for name, parameter in trained.named_parameters():
        if 'rel_pos' in name:
            torch.nn.init.normal_(parameter)
    load_encoder(model, stored(tmp_path / 'detector.pth', trained.state_dict()))
    load_encoder(fresh, stored(tmp_path / 'mae.pth', dict(model=public_mae())))
    table = trained.blocks[0].attn.rel_pos_h
    assert_close(model.blocks[0].attn.rel_pos_h, F.interpolate(table.T[None], size=11, mode='linear')[0].T)
    assert not fresh.blocks[0].attn.rel_pos_h.any()
    assert '4 tables of relative positions from 7 to 11 distances' in log.text
    assert '4 tables of relative positions start at zero' in log.text


def test_patches_of_another_size_give_the_tokens_of_the_enlarged_image(tmp_path: Path, log: pytest.LogCaptureFixture):
    source = ViT(dict(width=32, depth=2, heads=2), image_size=56, patch_size=14)
    model = ViT(dict(width=32, depth=2, heads=2), image_size=64, patch_size=16)
    load_encoder(model, stored(tmp_path / 'mae.pth', source.state_dict()))
    assert 'patch_embed.proj.weight from 14 to 16 pixels' in log.text
    patch = torch.randn(5, 3, 14, 14)
    larger = F.interpolate(patch, size=16, mode='bicubic', align_corners=False)
    assert_close(model.patch_embed(larger), source.patch_embed(patch), atol=1e-4, rtol=0)


def test_convolutions_in_blocks_start_as_the_identity(tmp_path: Path):
    source, model = tiny(class_token=False), tiny(class_token=False, conv_blocks=[1])
    load_encoder(model, stored(tmp_path / 'mae.pth', source.state_dict()))
    images = torch.randn(1, 3, 32, 32)
    assert_close(model.feature_maps(images)[0], source.feature_maps(images)[0])


# ---- refused

@pytest.mark.parametrize(('other', 'says'), [
    (dict(arch=dict(width=48, depth=2, heads=2)), r'width 48 \(the model has 32\), blocks 2, channels 3, patch size 8'),
    (dict(arch=dict(width=32, depth=3, heads=2)), r'blocks 3 \(the model has 2\)'),
    (dict(patch_size=16), r'patch size 16 \(the model has 8\)'),
    (dict(in_channels=1), r'channels 1 \(the model has 3\).*set arch, patch_size and in_channels'),
])
def test_another_architecture_is_named(tmp_path: Path, other: dict, says: str):
    with pytest.raises(CheckpointError, match=says):
        load_encoder(tiny(), stored(tmp_path / 'other.pth', tiny(**other).state_dict()))


def without(name: str) -> Callable[[dict], dict]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(('change', 'says'), [
    (without('blocks.1.mlp.fc2.bias'), '1 in the model, not in the file: blocks.1.mlp.fc2.bias'),
    (without('cls_token'), '1 in the model, not in the file: cls_token'),
    (without('pos_embed'), '1 in the model, not in the file: pos_embed'),
    (without('norm.weight'), '1 in the model, not in the file: norm.weight'),
    (lambda weights: weights | {'reg_token': torch.zeros(1, 4, 32)}, 'of another kind .registers, .*TimmViT'),
    (lambda weights: weights | {'extra_token': torch.zeros(1, 4, 32)}, '1 in the file, not in the model: extra_token'),
    (lambda weights: weights | {f'blocks.0.scale{i}': torch.zeros(32) for i in range(12)},
     '12 in the file, not in the model: blocks.0.scale0.* and 4 more'),
    (lambda weights: weights | {'norm.bias': torch.zeros(31)},
     r'1 of another shape: norm.bias: \(31,\) in the file, \(32,\) in the model'),
    (lambda weights: weights | {'pos_embed': torch.zeros(1, 16, 32)},
     r'pos_embed: \(1, 16, 32\) in the file, \(1, 17, 32\) in the model'),
    (lambda weights: weights | {f'other.{name}': value for name, value in weights.items()},
     r"2 ViTs, under \['', 'other.'\]; expected exactly one: choose one with --weights-key"),
    (without('patch_embed.proj.weight'), 'no ViT of a known layout: its tensors are '),
    (lambda weights: weights | {'patch_embed.proj.weight': torch.zeros(32, 3, 2, 8, 8)}, 'patch_embed.proj.weight'),
    (lambda weights: weights | {'patch_embed.proj.weight': torch.zeros(32, 192)}, 'patch_embed.proj.weight'),
    (lambda weights: weights | {'patch_embed.proj.weight': torch.zeros(32, 3, 8, 16)}, 'patch_embed.proj.weight'),
])
def test_names_and_shapes_that_do_not_fit_are_listed_and_nothing_is_loaded(tmp_path: Path, change: Callable, says: str):
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=says):
        load_encoder(model, stored(tmp_path / 'file.pth', change(tiny().state_dict())))
    assert_loaded(model, before)


@pytest.mark.parametrize('content', [[1, 2], 'words', torch.zeros(3), {}, {'model': {}}, {'epoch': 3},
                                     {0: torch.zeros(1)}], ids=repr)
def test_files_without_weights_are_refused(tmp_path: Path, content: object):
    with pytest.raises(CheckpointError, match=r'file\.pth holds no'):
        load_encoder(tiny(), stored(tmp_path / 'file.pth', content))


def test_a_missing_file_names_its_neighbors(tmp_path: Path):
    for name in ('epoch_1.pth', 'epoch_2.pth', 'log.txt'):
        (tmp_path / name).touch()
    for missing in ('epoch_3.pth', 'epoch_3.safetensors'):
        with pytest.raises(FileNotFoundError, match=r'check the path; .* holds epoch_1.pth, epoch_2.pth$'):
            load_encoder(tiny(), tmp_path / missing)
    with pytest.raises(FileNotFoundError, match=r'is a folder.* contains epoch_1.pth, epoch_2.pth: pass one of them$'):
        load_encoder(tiny(), tmp_path)
    with pytest.raises(FileNotFoundError, match=r'check the path$'):
        load_encoder(tiny(), tmp_path / 'no' / 'epoch_1.pth')


# ---- damaged files

def serialized(**options) -> bytes:
    buffer = io.BytesIO()
    torch.save(public_mae(), buffer, **options)
    return buffer.getvalue()


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as refused:
        load_encoder(tiny(), path)
    text = str(refused.value)
    assert path.name in text
    assert 'weights_only' not in text  # torch advises to switch the protection off
    return text


NO_CHECKPOINTS = {
    'empty': b'',
    'html': b'<!DOCTYPE html><html><body>404</body></html>',
    'json': b'{"message": "not found"}',
    'pointer': b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n',
    'png': b'\x89PNG\r\n\x1a\n' + bytes(60),
    'zeros': bytes(1000),
    'bytes': bytes(range(256)),
    'zip': b'PK\x03\x04' + bytes(60),
    'pickle': b'\x80\x02',
    'text': 'grüße'.encode(),
}


@pytest.mark.parametrize('data', NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, data: bytes, suffix: str):
    refusal(tmp_path / f'file.{suffix}', data)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, legacy: bool):
    data = serialized(_use_new_zipfile_serialization=not legacy)
    for length in [*range(0, 120, 7), *range(120, len(data) - 1, len(data) // 30), len(data) - 1]:
        assert refusal(tmp_path / 'cut.pth', data[:length]), f'cut off after {length} bytes'


def test_a_file_with_a_wrong_byte_is_refused_or_read_and_nothing_else(tmp_path: Path):
    data, path = serialized(_use_new_zipfile_serialization=False), tmp_path / 'file.pth'
    for place in torch.randint(0, 2000, (150,)).tolist():
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1:])
        weights, message = {}, path.name
        try:
            weights = read_weights(path)
        except CheckpointError as error:
            message = str(error)
        assert path.name in message
        assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_safetensors_that_are_cut_off_are_refused(tmp_path: Path):
    save_file(tiny().state_dict(), tmp_path / 'whole.safetensors')
    data = (tmp_path / 'whole.safetensors').read_bytes()
    for length in (4, 100, len(data) // 2, len(data) - 1):
        assert 'cannot be read as safetensors' in refusal(tmp_path / 'cut.safetensors', data[:length])


# ---- files that run code

class Command:
    """Runs a command where pickle rebuilds it."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __call__(self) -> None:
        """pickle wants a function that can be called."""

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('inside', [False, True])
def test_a_file_that_runs_a_command_is_refused(tmp_path: Path, legacy: bool, inside: bool):
    witness = tmp_path / 'ran'
    for bad in (Command(os.system, f'touch {witness}'), Command(exec, f'open({str(witness)!r}, "w")'),
                Command(os.mkdir, str(witness))):
        path = stored(tmp_path / 'bad.pth', dict(model=public_mae(), args=bad) if inside else bad,
                      _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError, match=r'names code to run \([\w.]+\), which this program refuses'):
            load_encoder(tiny(), path)
        assert not witness.exists()
    torch.load(path, weights_only=False)  # on purpose: the proof that the file is a trap
    assert witness.exists()  # the file would have done it


def test_getattr_is_refused(tmp_path: Path):
    """MMEngine's log history names `getattr`, which leads from a harmless class to any function."""
    asked = Command(getattr, argparse.Namespace, '__subclasses__')
    for content in (asked, Command(asked)):
        with pytest.raises(CheckpointError, match=r'names code to run \(builtins\.getattr\)'):
            read_content(stored(tmp_path / 'asked.pth', dict(args=content)))


def test_log_histories_are_read_as_numbers(tmp_path: Path):
    history = HistoryBuffer()
    history.update(2.0)
    content = read_content(stored(tmp_path / 'run.pth', dict(history=history, args=argparse.Namespace(lr=3))))
    assert not isinstance(content['history'], HistoryBuffer)
    assert content['history'].values.tolist() == [2.0]
    assert content['args'].lr == 3


def test_prefix_is_found():
    weights = tiny().state_dict()
    source = source_in({f'a.b.{name}': value for name, value in weights.items()} | {'c': torch.ones(1)}, 'file.pth')
    assert source.prefix == 'a.b.'
    assert source.encoder().keys() == weights.keys()
