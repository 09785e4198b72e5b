"""Architecture of an encoder: read from its weights and the config in the file."""
from pathlib import Path

import pytest
import torch
from helpers.encoder_files import CONFIG, save

from mae_backbone.checkpoints.architecture import read_architecture
from mae_backbone.checkpoints.config_text import config_in, parse_config
from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.core.vit import ViT


def test_an_architecture_is_read_from_the_weights_and_the_config_of_a_file(tmp_path):
    found = read_architecture(save(tmp_path / 'a.pth', config=CONFIG))
    assert found[:7] == (None, 16, 2, 4, 4, 16, 3)
    assert (found.mean, found.std) == ((1.0, 2, 3), (4.0, 5, 6))
    assert not Path('ran').exists()
    state_dict = torch.load(tmp_path / 'a.pth', weights_only=True)['state_dict']
    ViT(**found.backbone).load_state_dict({
        name.removeprefix('mae.encoder.'): value for name, value in state_dict.items()})


def test_without_a_config_the_number_of_heads_is_assumed_and_logged(tmp_path, caplog):
    assert read_architecture(save(tmp_path / 'a.pth')).heads == 1
    assert 'does not state the number of attention heads' in caplog.text


def test_named_architectures_are_recognized_by_their_size(tmp_path):
    vit = ViT('tiny', patch_size=16)
    torch.save(dict(model=vit.state_dict()), tmp_path / 'public.pth')
    found = read_architecture(tmp_path / 'public.pth')
    assert found[:7] == ('tiny', 192, 12, 3, 16, 224, 3)
    assert found.mean[0] == pytest.approx(255 * 0.485)


def test_a_file_without_a_vit_is_refused(tmp_path):
    torch.save(dict(model=dict(conv=torch.zeros(3))), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='no ViT'):
        read_architecture(tmp_path / 'a.pth')


def test_a_config_is_parsed_and_never_executed(tmp_path):
    values = parse_config(CONFIG)
    assert values['model']['encoder'] == {'arch': {'depth': 2, 'heads': 4, 'width': 16}}
    assert values['negative'] == -1.5
    assert 'bad' not in values
    assert parse_config('a = [') == {}
    assert parse_config('(' * 5000) == {}
    assert config_in(read_content(save(tmp_path / 'a.pth'))) == {}
