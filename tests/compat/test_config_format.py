"""Text of a whole config."""
from mmengine.config import Config

from mae_backbone.compat import config_format


def test_a_dumped_config_is_read_again_with_the_same_values(tmp_path):
    config_format.install()
    names = dict(data_root='/data/{{ fileDirname }}', classes=('{{ _base_.x }}', 'a \'b\' "c" %'))
    Config(names).dump(tmp_path / 'config.py')
    assert Config.fromfile(tmp_path / 'config.py').to_dict() == names
