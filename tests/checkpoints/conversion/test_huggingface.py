"""Folders for transformers: its own classes load them and compute the same. All tests that import it are here."""
import json
import logging
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers import stored_models
from helpers.stored_models import TINY, print_rows
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.checkpoints.conversion.build import our_outputs
from mae_backbone.checkpoints.conversion.convert import Conversion, convert
from mae_backbone.checkpoints.conversion.source import read_model
from mae_backbone.checkpoints.conversion.target import random_inputs

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::FutureWarning', 'ignore::UserWarning')


@pytest.fixture(scope='module')
def transformers() -> ModuleType:
    """The library, without its progress bars; its import takes seconds."""
    library = pytest.importorskip('transformers', reason='transformers is not installed')
    library.utils.logging.disable_progress_bar()
    return library


@pytest.fixture(scope='module')
def conversions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Conversion]:
    folder = tmp_path_factory.mktemp('hf')
    mae = stored_models.mae(folder / 'mae.pth')
    classifier = stored_models.classifier(folder / 'class.pth', pool='class')
    return {'mae': convert(mae, folder / 'whole', 'hf'),
            'encoder': convert(mae, folder / 'encoder', 'hf', encoder=True),
            'class': convert(classifier, folder / 'classifier', 'hf')}


def outputs(conversion: Conversion) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    images, noise = random_inputs(conversion.model)
    return images, noise, our_outputs(conversion.model, images, noise)


@torch.no_grad()
def test_vitmae_predicts_the_same_pixels(transformers: ModuleType, conversions: dict[str, Conversion],
                                         caplog: pytest.LogCaptureFixture):
    images, noise, ours = outputs(conversions['mae'])
    with caplog.at_level(logging.WARNING):
        model, info = transformers.ViTMAEForPreTraining.from_pretrained(conversions['mae'].path,
                                                                        output_loading_info=True)
    assert not any(info[key] for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    assert caplog.text == ''
    found = model.eval()(images, noise=noise)
    assert_close(found.logits, ours['pixels'], atol=1e-5, rtol=0)
    mae = read_model(conversions['mae'].path).architecture
    assert (model.config.mask_ratio, model.config.norm_pix_loss) == (mae.mask_ratio, mae.norm_pix)
    from mae_backbone.checkpoints.conversion.build import build_mae
    from mae_backbone.core.masking import mask_from_noise
    loss, _, _ = build_mae(conversions['mae'].model)(images, mask_from_noise(noise, mae.mask_ratio))
    assert_close(found.loss, loss, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize('which', ['ViTModel', 'AutoModel'])
def test_vit_computes_the_same_features(transformers: ModuleType, conversions: dict[str, Conversion], which: str):
    images, _, ours = outputs(conversions['encoder'])
    model = getattr(transformers, which).from_pretrained(conversions['encoder'].path, add_pooling_layer=False)
    assert_close(model.eval()(images).last_hidden_state, ours['features'], atol=1e-5, rtol=0)


@torch.no_grad()
def test_classifier_computes_the_same_logits(transformers: ModuleType, conversions: dict[str, Conversion]):
    images, _, ours = outputs(conversions['class'])
    model = transformers.AutoModelForImageClassification.from_pretrained(conversions['class'].path).eval()
    assert_close(model(images).logits, ours['logits'], atol=1e-5, rtol=0)
    assert model.config.id2label == {0: 'oak', 1: 'fir', 2: 'ash', 3: 'elm', 4: 'yew'}


def test_image_processor_has_our_pixel_statistics(transformers: ModuleType, conversions: dict[str, Conversion]):
    processor = transformers.AutoImageProcessor.from_pretrained(conversions['mae'].path)
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    found = processor(image, return_tensors='pt')['pixel_values'][0]
    mean, std = (torch.tensor(stored_models.PIXELS[name])[:, None, None] for name in ('mean', 'std'))
    assert_close(found, (image - mean) / std, atol=1e-4, rtol=0)


def test_what_transformers_saves_comes_back(transformers: ModuleType, conversions: dict[str, Conversion],
                                            tmp_path: Path):
    for kind, name in (('ViTMAEForPreTraining', 'mae'), ('ViTForImageClassification', 'class')):
        getattr(transformers, kind).from_pretrained(conversions[name].path).save_pretrained(tmp_path / name)
        back = read_model(tmp_path / name)
        assert back.weights.keys() == conversions[name].model.weights.keys()
        for key, value in conversions[name].model.weights.items():
            assert torch.equal(back.weights[key], value), key
        assert back.architecture.heads == TINY['arch']['heads']


def test_half_precision_folder_says_its_dtype(transformers: ModuleType, tmp_path: Path):
    folder = convert(stored_models.mae(tmp_path / 'mae.pth'), tmp_path / 'half', 'hf', half=True).path
    assert json.loads((folder / 'config.json').read_text())['dtype'] == 'float16'
    assert transformers.ViTMAEModel.from_pretrained(folder, dtype='auto').dtype == torch.float16


@pytest.mark.parametrize('options', [dict(in_channels=5), dict(image_size=(32, 64))])
def test_channels_and_sizes_that_vit_holds(transformers: ModuleType, tmp_path: Path, options: dict):
    source = stored_models.mae(tmp_path / 'mae.pth', encoder=options)
    verification = convert(source, tmp_path / 'out', 'hf', encoder=True, verify=True).verification
    assert verification is not None
    assert verification.differences.keys() == {'features'}
    assert verification.largest < 1e-5


@pytest.mark.parametrize('name', ['mae', 'class'])
def test_verification(transformers: ModuleType, conversions: dict[str, Conversion], tmp_path: Path, name: str):
    again = convert(conversions[name].path, tmp_path / 'again', 'hf', verify=True)
    assert again.verification is not None
    assert again.verification.library == f'transformers {transformers.__version__}'
    assert again.verification.differences.keys() == {'features', 'pixels' if name == 'mae' else 'logits'}
    print_rows('hf', name, again)
    assert again.verification.largest < 1e-5
