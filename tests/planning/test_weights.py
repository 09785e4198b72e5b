"""Facts about pretrained weights, on which a plan depends."""
from pathlib import Path

import pytest
import timm
import torch

from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.planning.weights import read_weights


def test_path_of_a_file_is_absolute_so_that_configs_work_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = timm.create_model('vit_tiny_patch16_224', img_size=32, depth=2, num_classes=0)
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    monkeypatch.chdir(tmp_path)
    facts = read_weights('weights.pth')
    assert facts.path == str(tmp_path / 'weights.pth')
    assert (facts.width, facts.depth, facts.patch_size, facts.image_size) == (192, 2, 16, 32)


@pytest.mark.parametrize('relative_positions', [True, False])
def test_tables_of_relative_positions_are_found(relative_positions: bool, tmp_path: Path):
    model = ViTBackbone(dict(width=64, depth=1, heads=1), image_size=32, relative_positions=relative_positions)
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    assert read_weights(tmp_path / 'weights.pth').relative_positions is relative_positions


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r'weights\.pth'):
        read_weights(tmp_path / 'weights.pth')
