"""Attention of an exported graph in parts is attention."""
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mae_backbone.core import exported_attention
from mae_backbone.core.attention import Attention
from mae_backbone.core.exported_attention import attend_in_parts, num_parts


@pytest.mark.parametrize('with_bias', [False, True])
@pytest.mark.parametrize('N', [12, 13, 17])
def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch, with_bias: bool, N: int):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, N, 4, dtype=torch.double)
    bias = torch.randn(2, 3, N, N, dtype=torch.double)
    bias_of = (lambda places: bias if places is None else bias[:, :, places]) if with_bias else None
    expected = attend_in_parts(q, k, v, bias_of)
    monkeypatch.setattr(exported_attention, 'SCORE_BYTES', 4 * 3 * N ** 2 // 5)
    assert num_parts(q) > 4
    assert_close(attend_in_parts(q, k, v, bias_of), expected)


def test_scores_of_a_part_stay_below_the_limit():
    heads, sides = 12, (32, 64, 128)  # ViT-B with patches of 16 at 512, 1,024 and 2,048 pixels
    parts = [num_parts(torch.empty(1, heads, side ** 2, 64, device='meta')) for side in sides]
    assert parts[0] == 1, 'small images are not split'
    for side, number in zip(sides, parts, strict=True):
        assert 4 * heads * side ** 4 / number <= exported_attention.SCORE_BYTES or number == 32


@pytest.mark.slow  # torch.export
def test_parts_serve_any_number_of_tokens(monkeypatch: pytest.MonkeyPatch):
    class OnGrid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Attention(8, heads=2, table_size=(4, 5))

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return self.layer(maps.flatten(2).mT, (maps.shape[2], maps.shape[3]))
    monkeypatch.setattr(exported_attention, 'SCORE_BYTES', 2 ** 14)
    module = OnGrid().eval().requires_grad_(False)
    nn.init.normal_(module.layer.rel_pos_h)
    sides = {2: torch.export.Dim('h', min=2, max=64), 3: torch.export.Dim('w', min=2, max=64)}
    program = torch.export.export(module, (torch.randn(1, 8, 6, 5),), dynamic_shapes=(sides,),
                                  prefer_deferred_runtime_asserts_over_guards=True)
    calls = [node for node in program.graph.nodes if 'scaled_dot_product_attention' in str(node.target)]
    assert len(calls) == -(-4 * 2 * (4 * 30) ** 2 // 2 ** 14) > 4
    for h, w in ((6, 5), (3, 7), (9, 8), (2, 2)):
        maps = torch.randn(1, 8, h, w)
        assert_close(program.module()(maps), module(maps), atol=1e-5, rtol=0)
