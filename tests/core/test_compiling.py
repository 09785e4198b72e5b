"""Compiled blocks and losses: equal to eager ones, few graphs, unchanged names, and a fallback that says why."""
import logging
from collections.abc import Callable

import pytest
import torch
import torch._dynamo
import torch._inductor.config
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from mae_backbone.core.compiling import compile_model, compile_parts, compiler_problem, compiles
from mae_backbone.core.mae import MAE
from mae_backbone.core.vit import ViT
from mae_backbone.models.backbone import ViTBackbone

# Dynamo reads `.grad` of activations.
pytestmark = pytest.mark.filterwarnings('ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning')
CPU, GPU = torch.device('cpu'), torch.device('cuda')


def mae(**options: object) -> MAE:
    torch.manual_seed(0)
    return MAE(ViT(dict(width=32, depth=3, heads=2), image_size=64, patch_size=8, **options), decoder_width=16,
               decoder_depth=3, decoder_heads=2)


def images(*size: int) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))


def loss_and_gradients(model: nn.Module, loss_of: Callable[[nn.Module], Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(2)
    loss = loss_of(model)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return {'loss': loss.detach(), **found}


def assert_equal_to_eager(model: nn.Module, loss_of: Callable[[nn.Module], Tensor], **options: object) -> None:
    names, expected = list(model.state_dict()), loss_and_gradients(model, loss_of)
    compile_parts(model, **options)
    found = loss_and_gradients(model, loss_of)
    assert list(model.state_dict()) == names
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f'{name}: {text}')


def loss_of_mae(model: nn.Module) -> Tensor:
    return model(images(64, 64), seeds=torch.arange(2), weights=torch.tensor([1.0, 0.5]))[0]


def test_compiled_mae_with_dropped_paths_equals_eager():
    counter = CompileCounterWithBackend('aot_eager')
    assert_equal_to_eager(mae(drop_path_rate=0.5), loss_of_mae, backend=counter)
    # Blocks of the encoder without and with dropped paths, of the decoder, its last one, and the loss.
    assert counter.frame_count == 5


@pytest.mark.slow  # inductor starts the C++ compiler
def test_loss_of_inductor_equals_eager():
    assert_equal_to_eager(mae(), loss_of_mae)


@pytest.mark.parametrize('options', [
    dict(window_size=4, global_blocks=(2,), relative_positions=True, drop_path_rate=0.2), dict(conv_blocks=(1,)),
    dict(checkpointing=True, drop_path_rate=0.3), dict(frozen_stages=1.5)], ids=lambda options: '-'.join(options))
def test_compiled_backbone_equals_eager(options: dict):
    torch.manual_seed(0)
    model = ViTBackbone(dict(width=32, depth=3, heads=2), image_size=64, patch_size=8, **options)
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name or 'norm3.weight' in name:  # zero at the start, so that they would prove nothing
            nn.init.normal_(parameter, std=0.1)
    counter = CompileCounterWithBackend('aot_eager')
    assert_equal_to_eager(model, lambda called: called(images(64, 64))[0].square().mean(), backend=counter)
    assert 0 < counter.frame_count <= 3


def test_a_changing_mask_ratio_and_image_size_needs_two_graphs_of_each_part(caplog: pytest.LogCaptureFixture):
    """More than torch's limit of 8 ratios: a graph for the first number of patches, then one for all others."""
    model, counter = mae(), CompileCounterWithBackend('eager')
    compile_parts(model, backend=counter)
    eager = mae()
    for step in range(12):
        size = (64, 64) if step < 10 else (48, 80)
        for each in (model, eager):
            each.mask_ratio = 0.5 + 0.03 * step
        losses = [each(images(*size), seeds=torch.arange(2))[0] for each in (model, eager)]
        losses[0].backward()
        assert_close(losses[0], losses[1])
    assert counter.frame_count <= 2 * 4
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_kinds_with_windows_are_compiled_for_few_sizes(caplog: pytest.LogCaptureFixture):
    model = ViTBackbone(dict(width=16, depth=1, heads=2), image_size=64, patch_size=8, window_size=4)
    counter = CompileCounterWithBackend('eager')
    compile_parts(model, backend=counter)
    with caplog.at_level(logging.WARNING, 'mae_backbone'):
        for size in (32, 40, 48, 56, 64, 72, 32):
            model(images(size, size))[0].sum().backward()
    assert counter.frame_count == 4
    assert [record.getMessage() for record in caplog.records] == [
        'torch.compile: a block is compiled for 4 sizes of images, others run without it']


def test_evaluation_is_not_compiled():
    model, counter = mae(), CompileCounterWithBackend('eager')
    compile_parts(model, backend=counter)
    with torch.no_grad():
        model(images(64, 64))
    assert counter.frame_count == 0


def test_training_goes_on_if_a_part_does_not_compile(caplog: pytest.LogCaptureFixture):
    def broken(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        raise RuntimeError('ptxas has no such architecture')
    model, expected = mae(), loss_and_gradients(mae(), loss_of_mae)
    compile_parts(model, backend=broken)
    with caplog.at_level(logging.WARNING, 'mae_backbone'):
        for _ in range(2):
            found = loss_and_gradients(model, loss_of_mae)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 3, 'each kind of part says so once'
    assert all('runs without it from here on' in text and 'ptxas' in text for text in texts)


# ---- the decision

def test_auto_is_off_where_it_does_not_pay_or_work(monkeypatch: pytest.MonkeyPatch):
    assert compiles('auto', CPU) == (False, 'no gain on cpu')
    assert compiles(False, GPU) == (False, 'set in the config')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert compiles('auto', GPU) == (False, 'it needs triton, which is not installed')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: name)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (6, 1))
    assert compiles('auto', GPU) == (False, 'this GPU has compute capability 6.1, it needs 7.0')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    monkeypatch.setattr('mae_backbone.core.compiling.compiler_problem', lambda device, **options: 'no Python.h')
    assert compiles('auto', GPU) == (False, 'a test does not compile: no Python.h')
    monkeypatch.setattr('mae_backbone.core.compiling.compiler_problem', lambda device, **options: None)
    assert compiles('auto', GPU) == (True, 'on CUDA with triton')


def test_a_missing_compiler_is_found_and_named():
    with torch._inductor.config.patch({'cpp.cxx': ('no-such-compiler',)}):
        problem = compiler_problem(CPU)
        assert problem is not None
        assert 'no-such-compiler' in problem or 'compiler' in problem.lower()
        with pytest.raises(ValueError, match=r"compile=True, but a test does not compile.*set compile='auto'"):
            compile_model(mae(), True, CPU)
    assert compiler_problem(CPU, backend='eager') is None


def test_line_for_the_log():
    assert compile_model(mae(), 'auto', CPU) == 'torch.compile: off (no gain on cpu)'
    assert compile_model(mae(), True, CPU, backend='eager') == 'torch.compile: on (set in the config), 3 kinds of parts'
    assert 'no blocks' in compile_model(nn.Linear(2, 2), True, CPU)
    with pytest.raises(ValueError, match="compile='always'"):
        compile_model(mae(), 'always', CPU)
