"""Conversions: every target holds what it says, gives it back bit for bit, and refuses the rest by name."""
import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers import stored_models
from helpers.stored_models import TINY, WINDOWED, print_rows
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.checkpoints.conversion.build import build_encoder, our_outputs
from mae_backbone.checkpoints.conversion.convert import TARGETS, Conversion, convert
from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.source import read_model
from mae_backbone.checkpoints.conversion.target import ConversionError, random_inputs
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.layouts.registry import layout
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.source import read_facts
from mae_backbone.core.vit import ViT
from mae_backbone.models.backbone import ViTBackbone

MODELS: dict[str, Callable[[Path], Path]] = {
    'mae': stored_models.mae,
    'mean': stored_models.classifier,
    'class': lambda path: stored_models.classifier(path, pool='class'),
    'probe': lambda path: stored_models.classifier(path, probe=True),
    'plain': lambda path: stored_models.backbone(path),
    'windowed': lambda path: stored_models.backbone(path, **WINDOWED),
}
# Model -> the targets that hold all of it, or its encoder.
HELD = {'mae': TARGETS.keys(), 'mean': TARGETS.keys() - {'hf'}, 'class': TARGETS.keys(),
        'probe': {'mae', 'detectron2', 'safetensors'}, 'plain': {'timm', 'detectron2', 'safetensors'},
        'windowed': {'detectron2', 'safetensors'}}
PAIRS = [(model, target) for model, targets in HELD.items() for target in sorted(targets)]


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('models')
    return {name: make(folder / f'{name}.pth') for name, make in MODELS.items()}


def written(source: Path, folder: Path, target: str, **options) -> Conversion:
    suffixes = TARGETS[target].suffixes
    return convert(source, folder / f'out{suffixes[0] if suffixes else ""}', target, **options)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


# ---- round trips

@pytest.mark.parametrize(('model', 'target'), PAIRS)
def test_round_trip_is_bit_for_bit(files: dict[str, Path], tmp_path: Path, model: str, target: str):
    conversion = written(files[model], tmp_path, target)
    back = read_model(conversion.path)
    assert_same(back.weights, conversion.model.weights)
    assert back.architecture == conversion.model.architecture
    assert back.notes == []


@pytest.mark.parametrize(('model', 'target'), [pair for pair in PAIRS if pair[0] in ('mae', 'class', 'windowed')])
def test_encoder_loads_from_every_result(files: dict[str, Path], tmp_path: Path, model: str, target: str):
    conversion = written(files[model], tmp_path, target)
    options = WINDOWED if model == 'windowed' else TINY
    first, second = (ViTBackbone(**options) for _ in range(2))
    load_encoder(first, files[model])
    load_encoder(second, conversion.path)
    assert_same(first.state_dict(), second.state_dict())


def test_two_conversions_give_the_first_file_back(files: dict[str, Path], tmp_path: Path):
    source = files['mae']
    for target in ('mmpretrain', 'mae', 'hf', 'safetensors'):
        (tmp_path / target).mkdir()
        conversion = written(source, tmp_path / target, target)
        source = conversion.path
    assert_same(load_file(conversion.path), torch.load(files['mae'], weights_only=True)['state_dict'])
    metadata = json.loads(safe_open(conversion.path, 'pt').metadata()['mae_backbone_conversion'])
    assert metadata['origin']['file'] == 'mae.pth'
    assert metadata['source']['layout'] == 'hf'


def test_golden_mae_keeps_the_names_and_numbers_of_the_public_code(golden_mae: dict[str, Tensor], tmp_path: Path):
    weights = {name.removeprefix('model.'): value for name, value in golden_mae.items() if name.startswith('model.')}
    torch.save({'model': weights}, tmp_path / 'public.pth')
    options = dict(heads=3, decoder_heads=2)
    written(tmp_path / 'public.pth', tmp_path, 'safetensors', **options)
    conversion = convert(tmp_path / 'out.safetensors', tmp_path / 'again.pth', 'mae')
    assert_same(torch.load(conversion.path, weights_only=True)['model'], weights)
    pixels = our_outputs(conversion.model, golden_mae['images'], golden_mae['noise'])['pixels']
    assert_close(pixels, golden_mae['pred'], atol=1e-5, rtol=0)


def test_golden_vitdet_keeps_the_names_and_numbers_of_detectron2(golden_vitdet: dict[str, Tensor], tmp_path: Path):
    names = {name.removeprefix('model.net.'): value for name, value in golden_vitdet.items()
             if name.startswith('model.net.')}
    content = {'model': {f'backbone.net.{name}': value.numpy() for name, value in names.items()}, '__author__': 'd2'}
    (tmp_path / 'vitdet.pkl').write_bytes(pickle.dumps(content))
    conversion = written(tmp_path / 'vitdet.pkl', tmp_path, 'detectron2', heads=2)
    stored = pickle.loads(conversion.path.read_bytes())['model']
    assert stored.keys() == content['model'].keys()
    assert all(np.array_equal(value, content['model'][name]) for name, value in stored.items())
    encoder = build_encoder(read_model(conversion.path))
    assert (encoder.blocks[0].window_size, encoder.blocks[2].window_size) == (3, 0)
    with torch.no_grad():
        assert_close(encoder.feature_maps(golden_vitdet['images'])[0], golden_vitdet['last_feat'], atol=1e-5, rtol=0)


def test_a_whole_detector_goes_to_detectron2_and_back(tmp_path: Path):
    heads = {'neck.simfp_2.0.weight': torch.randn(2, 2), 'rpn_head.rpn_conv.0.conv.weight': torch.randn(2),
             'rpn_head.rpn_cls.bias': torch.randn(2), 'roi_head.bbox_head.shared_convs.0.ln.weight': torch.randn(2),
             'roi_head.bbox_head.fc_cls.weight': torch.randn(2), 'roi_head.mask_head.conv_logits.bias': torch.randn(2)}
    source = stored_models.backbone(tmp_path / 'detector.pth', others=heads, **WINDOWED)
    conversion = written(source, tmp_path, 'detectron2')
    names = pickle.loads(conversion.path.read_bytes())['model'].keys()
    assert {'backbone.net.pos_embed', 'backbone.simfp_2.0.weight', 'proposal_generator.rpn_head.conv.conv0.weight',
            'roi_heads.box_head.conv1.norm.weight', 'roi_heads.mask_head.predictor.bias'} <= names
    assert_same(conversion.model.others, heads)
    again = convert(conversion.path, tmp_path / 'again.safetensors', 'safetensors', heads=2)
    assert_same(load_file(again.path), torch.load(source, weights_only=True)['state_dict'])
    from mae_backbone.checkpoints.run_files import read_run
    assert_same(read_run(conversion.path)['state_dict'], torch.load(source, weights_only=True)['state_dict'])


# ---- what the libraries make of it

@pytest.mark.parametrize('model', ['mae', 'mean', 'class', 'plain'])
def test_timm_creates_the_model_of_the_folder(files: dict[str, Path], tmp_path: Path, model: str):
    conversion = written(files[model], tmp_path, 'timm')
    images, noise = random_inputs(conversion.model)
    vit = timm.create_model(f'local-dir:{conversion.path}', pretrained=True).eval()
    ours = our_outputs(conversion.model, images, noise)
    with torch.no_grad():
        tokens = vit.forward_features(images)
        features = ours['features'] if model != 'plain' else ours['features'].flatten(2).transpose(1, 2)
        assert_close(tokens, features, atol=1e-5, rtol=0)
        if model in ('mean', 'class'):
            assert_close(vit(images), ours['logits'], atol=1e-5, rtol=0)
    config = json.loads((conversion.path / 'config.json').read_text())
    other = timm.create_model(config['architecture'], pretrained=True, **config['model_args'], pretrained_cfg=config[
        'pretrained_cfg'] | dict(file=str(conversion.path / 'model.safetensors')))
    assert_same(other.state_dict(), vit.state_dict())
    if model == 'mae':
        assert vit.pretrained_cfg['mean'] == pytest.approx((0.485, 0.456, 0.406))


@pytest.mark.parametrize(('model', 'target', 'outputs'), [
    ('mae', 'mae', {'features'}), ('mae', 'timm', {'features'}),
    ('class', 'mae', {'features', 'logits'}), ('mean', 'timm', {'features', 'logits'}),
    ('plain', 'timm', {'features'}), ('mae', 'safetensors', {'features', 'pixels'}),
    ('windowed', 'safetensors', {'features'}), ('probe', 'safetensors', {'features', 'logits'})])
def test_verification_is_written_into_the_metadata(files: dict[str, Path], tmp_path: Path, model: str, target: str,
                                                   outputs: set[str]):
    conversion = written(files[model], tmp_path, target, verify=True)
    assert conversion.verification is not None
    assert conversion.verification.differences.keys() == outputs
    assert conversion.verification.largest < 1e-5
    print_rows(target, model, conversion)
    metadata = metadata_of(conversion)
    assert metadata['verified']['largest_differences'] == conversion.verification.differences
    assert metadata['verified']['library'].split()[0] == TARGETS[target].package
    assert len(metadata['source']['sha256']) == 64


def metadata_of(conversion: Conversion) -> dict:
    if conversion.path.is_dir():
        return json.loads((conversion.path / 'config.json').read_text())['mae_backbone_conversion']
    if conversion.path.suffix == '.safetensors':
        return json.loads(safe_open(conversion.path, 'pt').metadata()['mae_backbone_conversion'])
    return torch.load(conversion.path, weights_only=True)['mae_backbone_conversion']


def test_verification_finds_another_model_and_writes_nothing(files: dict[str, Path], tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch):
    from mae_backbone.checkpoints.conversion.to_timm import TimmTarget
    original = TimmTarget.config

    def other_heads(self: TimmTarget, model: StoredModel) -> dict:
        config = original(self, model)
        config['model_args']['num_heads'] = 2
        return config
    monkeypatch.setattr(TimmTarget, 'config', other_heads)
    with pytest.raises(ConversionError, match=r'timm .* computes other features .* differ by'):
        written(files['mae'], tmp_path, 'timm', verify=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('target', ['mmpretrain', 'detectron2'])
def test_a_library_that_is_not_installed_is_said(files: dict[str, Path], tmp_path: Path, target: str):
    if importlib.util.find_spec(target):
        pytest.skip(f'{target} is installed')
    conversion = written(files['mae'], tmp_path, target, verify=True)
    assert conversion.verification is not None
    assert f'{target} is not installed' in conversion.verification.missing
    assert 'verified' not in metadata_of_pickle(conversion)


def metadata_of_pickle(conversion: Conversion) -> dict:
    return (pickle.loads(conversion.path.read_bytes()) if conversion.path.suffix == '.pkl' else
            torch.load(conversion.path, weights_only=True))['mae_backbone_conversion']


def test_mmpretrain_computes_the_same(files: dict[str, Path], tmp_path: Path):
    pytest.importorskip('mmpretrain', reason='needs mmpretrain, whose last release is of 2024')
    for model in ('mae', 'mean', 'class'):
        (tmp_path / model).mkdir()
        conversion = written(files[model], tmp_path / model, 'mmpretrain', verify=True)
        assert conversion.verification is not None
        assert conversion.verification.largest < 1e-5
        print_rows('mmpretrain', model, conversion)


def test_detectron2_computes_the_same(files: dict[str, Path], tmp_path: Path):
    pytest.importorskip('detectron2', reason='needs detectron2, which the registry does not have')
    verification = written(files['windowed'], tmp_path, 'detectron2', verify=True).verification
    assert verification is not None
    assert verification.largest < 1e-5


# ---- half precision

def test_half_precision_rounds_each_weight(files: dict[str, Path], tmp_path: Path):
    conversion = written(files['class'], tmp_path, 'timm', half=True, verify=True)
    stored = load_file(conversion.path / 'model.safetensors')
    assert all(torch.equal(stored[name], value.half()) for name, value in conversion.model.weights.items())
    assert conversion.verification is not None
    assert conversion.verification.largest < 1e-5  # to the rounded weights in float32


def test_a_half_precision_source_becomes_float32_exactly(files: dict[str, Path], tmp_path: Path):
    half = written(files['mae'], tmp_path, 'safetensors', half=True)
    again = convert(half.path, tmp_path / 'again.safetensors', 'safetensors')
    assert_same(load_file(again.path), {name: value.float() for name, value in load_file(half.path).items()})


def test_values_beyond_float16_are_refused(tmp_path: Path):
    source = stored_models.mae(tmp_path / 'mae.pth')
    content = torch.load(source, weights_only=True)
    content['state_dict']['mae.encoder.norm.weight'][0] = 1e6
    torch.save(content, source)
    with pytest.raises(ConversionError, match=r'norm\.weight has values beyond 65504.*leave --half out'):
        written(source, tmp_path, 'timm', half=True)


# ---- what a target cannot hold

@pytest.mark.parametrize(('model', 'target', 'message'), [
    ('windowed', 'timm', r'relative positions \(blocks.0.attn.rel_pos_h\): use --to detectron2'),
    ('windowed', 'timm', r'attention in windows of 3 patches: use --to detectron2'),
    ('windowed', 'hf', 'no class token'),
    ('plain', 'mae', 'no class token: use --to timm'),
    ('mean', 'hf', r'pooling by the mean of the patch tokens \(it can hold: the class token\): pass --encoder'),
    ('probe', 'timm', 'the BatchNorm of a linear probe: pass --encoder'),
])
def test_refused_by_name(files: dict[str, Path], tmp_path: Path, model: str, target: str, message: str):
    with pytest.raises(ConversionError, match=message) as error:
        written(files[model], tmp_path, target)
    assert str(error.value).startswith(f'{model}.pth does not fit into ')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(('options', 'target', 'message'), [
    (dict(encoder=dict(in_channels=7)), 'mae', '7 channels, as its patchify has 3: pass --encoder'),
    (dict(norm_pix='image'), 'mae', "norm_pix='image'"),
    (dict(norm_pix='image'), 'hf', "norm_pix='image'"),
    (dict(norm_pix='image'), 'mmpretrain', "norm_pix='image'"),
    (dict(encoder=dict(image_size=(32, 64))), 'mae', '4x8 patches, which are not square'),
    (dict(encoder=dict(image_size=(32, 64))), 'hf', 'a MAE of 4x8 patches, as ViTMAE takes square images only'),
])
def test_maes_that_do_not_fit_are_refused(tmp_path: Path, options: dict, target: str, message: str):
    source = stored_models.mae(tmp_path / 'mae.pth', **options)
    with pytest.raises(ConversionError, match=message):
        written(source, tmp_path, target)


@pytest.mark.parametrize('options', [dict(in_channels=7), dict(image_size=(32, 64))])
def test_channels_and_sizes_that_timm_holds(tmp_path: Path, options: dict):
    source = stored_models.mae(tmp_path / 'mae.pth', encoder=options)
    verification = written(source, tmp_path, 'timm', verify=True).verification
    assert verification is not None
    assert verification.largest < 1e-5
    assert_same(read_model(tmp_path / 'out').weights, read_model(source).encoder)


def test_a_detector_goes_to_timm_only_as_an_encoder(tmp_path: Path):
    others = {'neck.a': torch.zeros(2), 'bbox_head.b': torch.ones(2)}
    source = stored_models.backbone(tmp_path / 'detector.pth', others=others)
    with pytest.raises(ConversionError, match='bbox_head, neck, which are no parts of a ViT'):
        written(source, tmp_path, 'timm')
    with pytest.raises(ConversionError, match=r'bbox_head.b, neck.a: pass --encoder to convert only the encoder'):
        written(source, tmp_path, 'detectron2')
    conversion = written(source, tmp_path, 'timm', encoder=True)
    assert conversion.model.notes[0] == 'left out: bbox_head, neck'
    state_dict = torch.load(source, weights_only=True)['state_dict']
    assert_same(load_file(written(source, tmp_path, 'safetensors').path), state_dict)


def test_encoder_of_a_classifier_keeps_its_last_norm(files: dict[str, Path], tmp_path: Path):
    conversion = written(files['mean'], tmp_path, 'timm', encoder=True)
    model = ViT(**TINY)
    load_encoder(model, files['mean'])
    assert_same(conversion.model.weights, model.state_dict())
    assert any('fc_norm' in note for note in conversion.model.notes)


# ---- what shapes do not show

def test_heads_are_asked_for(tmp_path: Path):
    weights = ViT(**TINY).state_dict()
    torch.save(weights, tmp_path / 'vit.pth')
    with pytest.raises(ValueError, match=r'does not say how many heads .* no multiple of 64: pass --heads'):
        written(tmp_path / 'vit.pth', tmp_path, 'timm')
    with pytest.raises(ValueError, match='cannot be split over 5 heads'):
        written(tmp_path / 'vit.pth', tmp_path, 'timm', heads=5)
    conversion = written(tmp_path / 'vit.pth', tmp_path, 'timm', heads=4)
    assert conversion.model.architecture.heads == 4
    with pytest.raises(ValueError, match=r'--heads 2, but .* says that it has 4'):
        convert(conversion.path, tmp_path / 'other', 'timm', heads=2)


@pytest.mark.parametrize(('arch', 'config'), [
    (dict(width=48, depth=2, heads=6), dict(type='VisionTransformer', embed_dims=48, num_heads=6)),  # of mmseg
    (dict(width=768, depth=1, heads=8), dict(type='VisionTransformer', arch='small'))])  # of mmpretrain
def test_heads_in_a_config_of_another_library_are_not_the_heads_of_our_names(tmp_path: Path, arch: dict, config: dict):
    """The config of mmseg names no architecture, whose default here is ViT-B with 12 heads."""
    vit = ViT(arch, image_size=16, patch_size=8)
    weights = layout('mmpretrain').from_ours(vit.state_dict())
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in weights.items()},
                    meta=dict(cfg=f'model = dict(type="ImageClassifier", backbone={config!r})')), tmp_path / 'a.pth')
    assert read_model(tmp_path / 'a.pth').architecture.heads == arch['heads']


@pytest.mark.parametrize('target', ['timm', 'hf'])
def test_pixels_of_16_bits_keep_their_scale(tmp_path: Path, target: str):
    mean, std = (3000.0, 4000.0, 5000.0), (1500.0, 1600.0, 1700.0)
    config = dict(type='mae_backbone.ViTClassifier', data_preprocessor=dict(mean=mean, std=std), backbone=TINY)
    weights = {f'backbone.{name}': value for name, value in ViT(**TINY).state_dict().items()}
    torch.save(dict(state_dict=weights, meta=dict(cfg=f'model = {config!r}')), tmp_path / 'a.pth')
    facts = read_facts(written(tmp_path / 'a.pth', tmp_path, target).path)
    assert facts.mean == pytest.approx(mean, abs=0.01)
    assert facts.std == pytest.approx(std, abs=0.01)


def test_classes_of_transformers_have_the_order_of_their_indices(tmp_path: Path):
    """JSON with sorted keys has the order 0, 1, 10, 2."""
    names = [f'class {i}' for i in range(11)]
    weights = dict(ViT(**TINY).state_dict()) | {'head.weight': torch.ones(11, 32), 'head.bias': torch.ones(11)}
    save_file({name: value.contiguous() for name, value in layout('hf').from_ours(weights).items()},
              tmp_path / 'model.safetensors')
    config = dict(num_attention_heads=4, hidden_act='gelu', id2label={str(i): name for i, name in enumerate(names)})
    (tmp_path / 'config.json').write_text(json.dumps(config, sort_keys=True))
    assert read_model(tmp_path).architecture.classes == tuple(names)


def test_tensors_that_share_memory_are_written_separately(tmp_path: Path):
    weights = dict(ViT(**TINY).state_dict())
    weights['blocks.1.attn.qkv.weight'] = weights['blocks.0.attn.qkv.weight']
    torch.save(dict(model=weights), tmp_path / 'a.pth')
    result = load_file(written(tmp_path / 'a.pth', tmp_path, 'safetensors', heads=4).path)
    assert torch.equal(result['blocks.1.attn.qkv.weight'], result['blocks.0.attn.qkv.weight'])


def test_decoder_heads_are_asked_for(golden_mae: dict[str, Tensor], tmp_path: Path):
    weights = {name.removeprefix('model.'): value for name, value in golden_mae.items() if name.startswith('model.')}
    torch.save({'model': weights}, tmp_path / 'public.pth')
    with pytest.raises(ValueError, match='heads its decoder of 1 blocks and a width of 32 has: pass --decoder-heads'):
        written(tmp_path / 'public.pth', tmp_path, 'hf', heads=3)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda weights: weights.pop('blocks.1.mlp.fc2.weight'), 'in the model, not in the file: blocks.1.mlp.fc2.weight'),
    (lambda weights: weights.update(extra=torch.ones(2)), 'in the file, not in the model: extra'),
    (lambda weights: weights.update({'blocks.1.mlp.fc1.bias': torch.ones(9)}), 'of another shape: blocks.1.mlp.fc1'),
])
def test_incomplete_and_other_weights_are_refused(tmp_path: Path, change: Callable, message: str):
    weights = ViT(**TINY).state_dict()
    change(weights)
    torch.save(weights, tmp_path / 'vit.pth')
    with pytest.raises(CheckpointError, match=f'holds no complete ViT.*\n.*{message}'):
        written(tmp_path / 'vit.pth', tmp_path, 'timm', heads=4)


@pytest.mark.parametrize('change', [
    dict(heads='x'), dict(grid=['a', 'b']), dict(decoder=[1]), dict(mean=['x']), dict(norm_pix={}), dict(pool=[1]),
    dict(mask_ratio='x'), dict(global_blocks='abc'), dict(window_size='q'), dict(classes=[1])])
def test_changed_metadata_is_refused(files: dict[str, Path], tmp_path: Path, change: dict):
    folder = written(files['mae'], tmp_path, 'hf').path
    config = json.loads((folder / 'config.json').read_text())
    config['mae_backbone_conversion']['architecture'] |= change
    (folder / 'config.json').write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match='has metadata of a conversion that was changed'):
        read_model(folder)


def test_text_of_metadata_cannot_break_the_card(files: dict[str, Path], tmp_path: Path):
    folder = written(files['mae'], tmp_path, 'hf').path
    config = json.loads((folder / 'config.json').read_text())
    config['mae_backbone_conversion'] |= dict(license='mit\nmalicious: 1', training={'a': '<script>|\n'}, source=1)
    (folder / 'config.json').write_text(json.dumps(config))
    card = (convert(folder, tmp_path / 'again', 'timm').path / 'README.md').read_text()
    assert card.startswith('---\nlicense: unknown\n')
    assert '| a | &lt;script>\\| |' in card


# ---- where it comes from

def test_license_of_public_weights_is_known_by_their_name_and_carried_over(tmp_path: Path):
    source = tmp_path / 'mae_pretrain_vit_base.pth'
    torch.save({'model': ViT(**TINY).state_dict()}, source)
    conversion = written(source, tmp_path, 'timm', heads=4)
    assert conversion.model.origin.license == 'cc-by-nc-4.0'
    again = convert(conversion.path, tmp_path / 'again.pth', 'mae')
    assert again.model.origin.license == 'cc-by-nc-4.0'
    assert metadata_of(again)['license'] == 'cc-by-nc-4.0'
    assert metadata_of(again)['origin'] == metadata_of(conversion)['source']
    card = (conversion.path / 'README.md').read_text()
    assert card.startswith('---\nlicense: cc-by-nc-4.0\n')
    assert 'no commercial use' in card


def test_license_of_a_model_that_was_trained_from_public_weights(tmp_path: Path):
    for start in ('/weights/mae_pretrain_vit_base.pth', 'mae_vit_base'):
        init = dict(type='Pretrained', checkpoint=start)
        source = stored_models.backbone(tmp_path / 'tuned.pth', init_cfg=init)
        origin = read_model(source).origin
        assert origin.license == 'cc-by-nc-4.0'
        assert origin.license_source.startswith(f'the training started from {Path(start).name}, public weights')
    assert read_model(source, license='mit').origin.license == 'mit'
    assert read_model(stored_models.mae(tmp_path / 'own.pth')).origin.license is None


def test_public_weights_are_found_by_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('MAE_BACKBONE_WEIGHTS', str(tmp_path))
    with pytest.raises(FileNotFoundError, match='mae_vit_base_finetuned is not on this machine'):
        read_model('mae_vit_base_finetuned')
    torch.save({'model': ViT(**TINY).state_dict()}, tmp_path / 'dino_deitsmall16_pretrain.pth')
    origin = read_model(tmp_path / 'dino_deitsmall16_pretrain.pth', heads=4).origin
    assert (origin.file, origin.license) == ('dino_deitsmall16_pretrain.pth', 'apache-2.0')


def test_license_of_a_folder_is_that_of_its_card(files: dict[str, Path], tmp_path: Path):
    folder = written(files['mae'], tmp_path, 'hf', license='apache-2.0').path
    config = json.loads((folder / 'config.json').read_text())
    del config['mae_backbone_conversion']
    (folder / 'config.json').write_text(json.dumps(config))
    origin = read_model(folder, heads=4).origin
    assert (origin.license, origin.license_source) == ('apache-2.0', 'its README.md')


def test_model_card_has_the_training_and_no_paths(files: dict[str, Path], tmp_path: Path):
    results = dict(encoders=[dict(name='mine', checkpoint='/elsewhere/models/mae.pth'),
                             dict(name='random', checkpoint=None, reference=True)],
                   table=[dict(task='knn', data='x', metric='top-1', labels=1.0, model=name,
                               summary=dict(mean=mean, std=None, seeds=1)) for name, mean in (
                                   ('mine', 54.321), ('random', 9.0), ('another', 1.0))])
    folder = tmp_path / 'models'
    folder.mkdir()
    source = Path(folder / 'mae.pth')
    source.write_bytes(files['mae'].read_bytes())
    (tmp_path / 'transfer_quick').mkdir()
    (tmp_path / 'transfer_quick' / 'results.json').write_text(json.dumps(results))
    card = (written(source, tmp_path, 'timm').path / 'README.md').read_text()
    for line in ('| recipe | mae_tiny |', '| data | plants |', '| images per step | 8 |',
                 '| knn | x | top-1 | 100 % | mine | 54.3 | 1 |', '| knn | x | top-1 | 100 % | random | 9.0 | 1 |'):
        assert line in card
    assert '/private' not in card
    assert 'another' not in card
