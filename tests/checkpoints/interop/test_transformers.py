"""Folders and files of Hugging Face transformers give the features of transformers."""
import json
from pathlib import Path

import pytest
import torch
from helpers.interop import assert_agree, images, randomize, tokens_of
from helpers.small_vit import ARCH, DEPTH, HEADS, PATCH, SIZE, WIDTH, vit
from safetensors.torch import load_file, save_file

from mae_backbone.checkpoints.encoder import load_encoder, load_source
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.source import open_source, read_facts
from mae_backbone.core.mae import MAE
from mae_backbone.core.masking import mask_from_noise
from mae_backbone.models.backbone import ViTBackbone

transformers = pytest.importorskip('transformers', reason='needs transformers: pip install mae_backbone[test-interop]')
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning')
SIZES = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
             image_size=SIZE, patch_size=PATCH, layer_norm_eps=1e-6)
DECODER = dict(decoder_hidden_size=32, decoder_num_hidden_layers=2, decoder_num_attention_heads=4,
               decoder_intermediate_size=128)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.utils.logging.disable_progress_bar()


def mae(**options):
    config = transformers.ViTMAEConfig(**SIZES | DECODER | dict(mask_ratio=0.0) | options)
    return randomize(transformers.ViTMAEForPreTraining(config))


def features_of_mae(model) -> torch.Tensor:
    """Tokens in image order: without a mask, its encoder still shuffles by the noise."""
    noise = torch.arange((SIZE // PATCH)**2).expand(2, -1).float()
    return model(images(), noise=noise).last_hidden_state.detach()


def test_mae_for_pretraining(tmp_path: Path):
    model = mae()
    model.save_pretrained(tmp_path)
    assert_agree('Hugging Face ViTMAEForPreTraining', tokens_of(tmp_path), features_of_mae(model.vit))


def test_prediction_of_a_whole_mae(tmp_path: Path):
    model = mae(mask_ratio=0.75)
    model.save_pretrained(tmp_path)
    ours = MAE(vit(), decoder_width=32, decoder_depth=2, decoder_heads=4, norm_pix=False)
    source = open_source(tmp_path)
    load_source(ours.encoder, source)
    ours.decoder.load_state_dict(source.decoder())
    noise = torch.rand(2, 16)
    theirs = model(images(), noise=noise)
    with torch.no_grad():
        loss, pixels, mask = ours.eval()(images(), mask_from_noise(noise, 0.75))
    order = mask.ids_hidden[..., None].expand(-1, -1, pixels.shape[-1])
    assert_agree('Hugging Face ViTMAEForPreTraining, predicted pixels', pixels, theirs.logits.detach().gather(1, order))
    assert loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    assert source.facts.decoder_heads == 4


def test_mae_model(tmp_path: Path):
    model = randomize(transformers.ViTMAEModel(transformers.ViTMAEConfig(**SIZES, mask_ratio=0.0)))
    model.save_pretrained(tmp_path)
    assert_agree('Hugging Face ViTMAEModel', tokens_of(tmp_path), features_of_mae(model))


@pytest.mark.parametrize('form', ['folder', 'file', 'shards', 'state_dict', 'bin'])
def test_vit_model(tmp_path: Path, form: str, capsys: pytest.CaptureFixture):
    model = randomize(transformers.ViTModel(transformers.ViTConfig(**SIZES)))
    model.save_pretrained(tmp_path, max_shard_size='60KB' if form == 'shards' else '5GB')
    path, options = tmp_path, {}
    if form == 'file':  # alone, without its config
        path = tmp_path / 'other.safetensors'
        (tmp_path / 'model.safetensors').rename(path)
        options = dict(heads=HEADS)
    elif form == 'shards':
        assert len(list(tmp_path.glob('*.safetensors'))) > 2
    elif form == 'state_dict':  # the names of version 5, which its own files do not have
        path, options = tmp_path / 'vit.pth', dict(heads=HEADS)
        torch.save(model.state_dict(), path)
    elif form == 'bin':
        torch.save(load_file(tmp_path / 'model.safetensors'), tmp_path / 'pytorch_model.bin')
        (tmp_path / 'model.safetensors').unlink()
    ours = tokens_of(path, **options)
    assert_agree(f'Hugging Face ViTModel ({form})', ours, model(images()).last_hidden_state.detach())


def test_classifier_leaves_its_head_out(tmp_path: Path):
    model = randomize(transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES, num_labels=5)))
    model.save_pretrained(tmp_path)
    report = load_encoder(vit(), tmp_path)
    assert report.left_out == ['classifier.bias', 'classifier.weight']
    assert 'heads: 4 (config.json)' in report.notes
    assert_agree('Hugging Face ViTForImageClassification', tokens_of(tmp_path),
                 model.vit(images()).last_hidden_state.detach())


def test_ijepa_has_no_class_token(tmp_path: Path):
    model = randomize(transformers.IJepaModel(transformers.IJepaConfig(**SIZES)))
    model.save_pretrained(tmp_path)
    assert_agree('Hugging Face IJepaModel', tokens_of(tmp_path, vit(class_token=False)),
                 model(images()).last_hidden_state.detach())
    with pytest.raises(CheckpointError, match=r'has no class token .* set class_token=False'):
        load_encoder(vit(), tmp_path)


@pytest.mark.parametrize('shared', [False, True])
def test_beit(tmp_path: Path, shared: bool):
    config = transformers.BeitConfig(**SIZES, use_relative_position_bias=not shared,
                                     use_shared_relative_position_bias=shared, use_mean_pooling=False)
    model = randomize(transformers.BeitModel(config))
    model.save_pretrained(tmp_path)
    ours = ViTBackbone(ARCH, image_size=SIZE, patch_size=PATCH, class_token=True, final_norm=True,
                       relative_bias='shared' if shared else 'block').eval()
    load_encoder(ours, tmp_path)
    with torch.no_grad():
        found = ours(images())[0].flatten(2).transpose(1, 2)
    theirs = model(images()).last_hidden_state.detach()[:, 1:]
    assert_agree('Hugging Face BeitModel' + (' (one table)' if shared else ''), found, theirs)


def test_heads_of_the_config_are_compared(tmp_path: Path):
    """A file with 2 heads in a model with 4 has the same shapes and other features."""
    randomize(transformers.ViTModel(transformers.ViTConfig(**SIZES | dict(num_attention_heads=2)))
              ).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r'2 heads of attention \(source: config.json\), the model has 4'):
        load_encoder(vit(), tmp_path)


def test_activations_other_than_gelu_are_refused(tmp_path: Path):
    transformers.ViTModel(transformers.ViTConfig(**SIZES, hidden_act='quick_gelu')).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"activation 'quick_gelu', the model has GELU.*TimmViT"):
        load_encoder(vit(), tmp_path)


def test_normalization_and_epsilon_are_reported(tmp_path: Path):
    """facebook/vit-mae-base states an epsilon of 1e-12. The public code, which its weights come from, has 1e-6."""
    model = randomize(transformers.ViTModel(transformers.ViTConfig(**SIZES | dict(layer_norm_eps=1e-12))))
    model.save_pretrained(tmp_path)
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)))
    report = load_encoder(vit(), tmp_path)
    assert any('epsilon 1e-12 in the file' in note for note in report.notes)
    assert any('stated by preprocessor_config.json' in note and 'half' in note for note in report.notes)
    assert read_facts(tmp_path).mean == (127.5,) * 3
    assert_agree('Hugging Face ViTModel, epsilon 1e-12', tokens_of(tmp_path),
                 model(images()).last_hidden_state.detach(), limit=1e-4)


def test_half_precision(tmp_path: Path):
    model = randomize(transformers.ViTModel(transformers.ViTConfig(**SIZES)))
    save_file({name: value.half() for name, value in model.state_dict().items()}, tmp_path / 'half.safetensors')
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    assert_agree('Hugging Face ViTModel, float16', tokens_of(tmp_path / 'half.safetensors', heads=HEADS),
                 model(images()).last_hidden_state.detach())


def test_clip_is_refused_with_advice(tmp_path: Path):
    sizes = {name: value for name, value in SIZES.items() if name != 'layer_norm_eps'}
    transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"CLIP or SigLIP .* Use type='mae_backbone.TimmViT'"):
        load_encoder(vit(), tmp_path)
