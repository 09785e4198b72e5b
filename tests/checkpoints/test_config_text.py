"""The config in a checkpoint is parsed and never executed."""
from helpers.encoder_files import CONFIG, save

from mae_backbone.checkpoints.config_text import config_in, parse_config
from mae_backbone.checkpoints.reading import read_content


def test_a_config_is_parsed_and_never_executed(tmp_path):
    values = parse_config(CONFIG)
    assert values['model']['encoder'] == {'arch': {'depth': 2, 'heads': 4, 'width': 16}}
    assert values['negative'] == -1.5
    assert 'bad' not in values
    assert parse_config('a = [') == {}
    assert parse_config('(' * 5000) == {}
    assert config_in(read_content(save(tmp_path / 'a.pth'))) == {}
