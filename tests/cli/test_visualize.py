"""`mae-backbone visualize`: reconstructions, or attention of any model with a ViT."""
import cv2
import numpy as np
import pytest
import torch
from helpers.commands import refused, run_command
from helpers.model_files import write_checkpoint
from helpers.small_sets import write_image
from mmengine.config import Config
from mmengine.registry import MODELS

import mae_backbone

FOREIGN = dict(type='mae_backbone.TimmViT', name='vit_tiny_patch16_224', embed_dim=32, depth=2, num_heads=2,
               image_size=32, patch_size=8)


@pytest.fixture
def image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / 'image.png', (72, 48))
    return 'image.png'


def foreign_classifier(path):
    model = dict(type='mae_backbone.ViTClassifier', num_classes=2, backbone=FOREIGN, data_preprocessor=dict(
        type='mae_backbone.PixelPreprocessor', mean=[127.0] * 3, std=[60.0] * 3))
    cfg = Config(dict(model=model, test_dataloader=dict(dataset=dict(
        type='mae_backbone.ClassFolder', data_root='data', split='val', image_size=32))))
    torch.save({'meta': {'cfg': cfg.pretty_text, 'dataset_meta': {'classes': ('a', 'b')}},
                'state_dict': MODELS.build(cfg.model).state_dict()}, path)
    return path


@pytest.mark.parametrize('kind', ['detection', 'timm'])
def test_models_without_a_decoder_show_attention_from_the_center_or_a_point(kind, image, tmp_path):
    checkpoint = foreign_classifier(tmp_path / 'a.pth') if kind == 'timm' else write_checkpoint(kind, tmp_path)
    run_command('visualize', checkpoint, image)
    run_command('visualize', checkpoint, image, '--point', 36, 24, '-o', 'center.png')
    run_command('visualize', checkpoint, image, '--point', 1, 1, '--block', 0, '-o', 'corner.png')
    seen, center, corner = (cv2.imread(name) for name in ('attention.png', 'center.png', 'corner.png'))
    assert (seen == center).all()
    assert (center != corner).any()
    assert np.abs(seen[24:408, :576].astype(int).mean((0, 1))).min() > 0  # the image is on the left


def test_a_masked_autoencoder_shows_both(image, tmp_path):
    checkpoint = write_checkpoint('pretraining', tmp_path)
    assert 'reconstruction: reconstruction.png' in run_command('visualize', checkpoint, image)
    assert 'attention from the marked patch: attention.png' in run_command('visualize', checkpoint, image, '--block', 0)


@pytest.mark.parametrize(('options', 'message'), [
    (['--point', 100, 0], r'point=(100, 0) is outside of the image of 72x48 pixels'),
    (['--block', 9], 'block=9, the 2 blocks are numbered from 0'),
    (['--point', 1, 1, '--seed', 1], '--mask-ratio, --seed and --squeeze are for reconstructions')])
def test_what_does_not_exist_is_refused(options, message, image, tmp_path):
    assert message in refused('visualize', write_checkpoint('pretraining', tmp_path), image, *options)


@pytest.mark.parametrize('options', [[], ['--block', 0]])
def test_a_picture_does_not_replace_its_image(options, image, tmp_path):
    checkpoint, before = write_checkpoint('pretraining', tmp_path), (tmp_path / image).read_bytes()
    message = refused('visualize', checkpoint, image, *options, '-o', tmp_path / image)
    assert 'image.png would replace the image that it shows: choose another name with -o' in message
    (tmp_path / image).rename(tmp_path / 'attention.png')
    (tmp_path / 'reconstruction.png').symlink_to('attention.png')
    assert 'would replace' in refused('visualize', checkpoint, 'attention.png', *options)
    assert (tmp_path / 'attention.png').read_bytes() == before


def test_images_of_a_folder_that_are_left_out_are_counted(image, tmp_path):
    checkpoint = write_checkpoint('pretraining', tmp_path)
    for number in range(9):
        write_image(tmp_path / 'images' / f'{number}.png', (72, 48))
    assert 'the first 8 of 9 images, original | masked' in run_command('visualize', checkpoint, 'images')
    (tmp_path / 'images' / '8.png').unlink()
    assert '\n8 images, original | attention' in '\n' + run_command('visualize', checkpoint, 'images', '--block', 0)


def test_attention_of_a_folder_is_refused(image, tmp_path):
    model = mae_backbone.load(write_checkpoint('pretraining', tmp_path))
    assert model.attention(image).weights.ndim == 3
    for images in ('.', [image, image]):
        with pytest.raises(ValueError, match='attention is computed for one image'):
            model.attention(images)


def test_a_data_root_is_refused_because_no_data_are_read(image, tmp_path):
    message = refused('visualize', write_checkpoint('pretraining', tmp_path), image, '--data-root', tmp_path)
    assert 'has no effect: visualize draws the images that are passed behind the checkpoint' in message
