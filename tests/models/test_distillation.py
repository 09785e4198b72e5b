"""Distillation: losses equal a few independent lines, and the teacher is neither trained nor saved."""
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.crashed_runs import crash
from helpers.micro_runs import losses, micro_config, train, write_images
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.cli import run_plan
from mae_backbone.core.vit import ViT
from mae_backbone.engine.runner import Runner
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.utils import device_scalars

STUDENT = dict(arch=dict(width=16, depth=4, heads=2), image_size=32, patch_size=8)
TEACHER = dict(arch=dict(width=32, depth=8, heads=4))
KINDS = ['FeatureDistillation', 'AttentionDistillation']


def vit_file(path: Path, **options) -> Path:
    torch.manual_seed(5)
    torch.save(ViT(**dict(image_size=32, patch_size=8) | options).state_dict(), path)
    return path


def pretrainer(teacher: dict | None, **options) -> MAEPretrainer:
    torch.manual_seed(1)
    return MAEPretrainer(STUDENT, decoder_width=16, decoder_depth=1, decoder_heads=2, teacher=teacher, **options,
                         data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=[120.0] * 3,
                                                std=[60.0] * 3)).train()


def taught(path: Path, kind: str = KINDS[0], **options) -> MAEPretrainer:
    model = pretrainer(dict(dict(type=f'mae_backbone.{kind}', encoder=TEACHER,
                                 checkpoint=str(vit_file(path / 'teacher.pth', **TEACHER))), **options))
    model.init_weights()
    return model


def inputs(count: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, 32, 32), torch.arange(count)


# ---- the losses

def states_of(vit: ViT, images: Tensor, mask) -> list[Tensor]:
    states: list[Tensor] = []
    vit.encode(mask.take_visible(vit.embed(images)), states=states)
    return states


def test_feature_loss_is_mean_absolute_difference_of_unit_tokens(tmp_path: Path):
    model = taught(tmp_path)
    images, seeds = inputs()
    loss = model(images, seeds=seeds)
    mask = model.mae(images, seeds=seeds)[2]
    student = states_of(model.mae.encoder, images, mask)[3]                 # 3/4 of 4 blocks
    teacher = states_of(model.distillation.teacher, images, mask)[6]        # 3/4 of 8 blocks
    projected = student @ model.distillation.projector.weight.T + model.distillation.projector.bias
    total = 0.0
    for mine, wanted in zip(projected.flatten(0, 1).double(), teacher.flatten(0, 1).double(), strict=True):
        total += (mine / mine.norm() - wanted / wanted.norm()).abs().mean().item()
    assert loss['loss_teacher'].item() == pytest.approx(total / (3 * 5), abs=1e-6)
    assert torch.equal(loss['loss_pixels'], model.mae(images, seeds=seeds)[0])
    assert_close(loss['loss'], loss['loss_pixels'] + loss['loss_teacher'])


def test_attention_loss_is_mean_squared_difference_of_mapped_maps(tmp_path: Path):
    model = taught(tmp_path, KINDS[1], weight=3.0)
    images, seeds = inputs()
    loss = model(images, seeds=seeds)
    mask = model.mae(images, seeds=seeds)[2]
    maps = []
    for vit in (model.mae.encoder, model.distillation.teacher):
        block, tokens = vit.blocks[-1], states_of(vit, images, mask)[-2]
        q, k, _ = block.attn.qkv(block.norm1(tokens)).chunk(3, dim=-1)
        q, k = (x.unflatten(-1, (block.attn.heads, -1)).transpose(1, 2) for x in (q, k))
        maps.append((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1))
    mapped = sum(model.distillation.projector.weight[:, h, None, None] * maps[0][:, h, None] for h in range(2))
    assert mapped.shape == maps[1].shape == (3, 4, 5, 5)
    assert_close(loss['loss_teacher'], (mapped - maps[1]).square().mean(), atol=1e-6, rtol=0)
    assert_close(loss['loss'], loss['loss_pixels'] + 3 * loss['loss_teacher'])


@pytest.mark.parametrize('kind', KINDS)
def test_a_teacher_with_the_weights_of_the_student_has_no_loss(kind: str, tmp_path: Path):
    teacher = dict(type=f'mae_backbone.{kind}', encoder=dict(arch=STUDENT['arch']), projector='identity',
                   checkpoint=str(tmp_path / 'own.pth'))
    torch.save(pretrainer(None).mae.encoder.state_dict(), tmp_path / 'own.pth')
    model = pretrainer(teacher)
    model.init_weights()
    images, seeds = inputs()
    assert model(images, seeds=seeds)['loss_teacher'] < 1e-6
    model.distillation.student_blocks = 1
    assert model(images, seeds=seeds)['loss_teacher'] > 1e-6


@pytest.mark.parametrize('kind', KINDS)
def test_weights_of_images_count(kind: str, tmp_path: Path):
    model = taught(tmp_path, kind)
    images, seeds = inputs(4)
    mask = model.mae(images, seeds=seeds)[2]
    weighted = model(images, mask=mask, weights=torch.tensor([2.0, 2, 0, 0]))['loss_teacher']
    alone = model(images[:2], seeds=seeds[:2])['loss_teacher']
    assert_close(weighted, alone, atol=1e-6, rtol=0)


def test_pixels_are_normalized_as_the_teacher_expects(tmp_path: Path):
    model = taught(tmp_path, mean=[10.0, 20, 30], std=[2.0, 4, 5])
    pixels = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    given = model.data_preprocessor(dict(inputs=pixels))['inputs']
    wanted = (pixels.permute(0, 3, 1, 2) - torch.tensor([10.0, 20, 30])[:, None, None]) / torch.tensor(
        [2.0, 4, 5])[:, None, None]
    assert_close(model._for_teacher(given), wanted, atol=1e-4, rtol=1e-5)
    assert model._for_teacher(given) is not given
    assert taught(tmp_path)._for_teacher(given) is given


def test_a_teacher_with_other_patches_sees_the_same_grid(tmp_path: Path):
    path = vit_file(tmp_path / 'teacher.pth', **TEACHER | dict(patch_size=4, image_size=16))
    model = pretrainer(dict(checkpoint=str(path), encoder=TEACHER | dict(patch_size=4)))
    model.init_weights()
    images, seeds = inputs()
    found = model(images, seeds=seeds)['loss_teacher']
    shrunk = F.interpolate(images, (16, 16), mode='bicubic', antialias=True)
    mask = model.mae(images, seeds=seeds)[2]
    wanted = model.distillation(model.mae.encoder, states_of(model.mae.encoder, images, mask), images, mask)
    assert torch.equal(found, wanted)
    assert model.distillation._resized(images, model.mae.encoder).shape == shrunk.shape
    assert_close(model.distillation._resized(images, model.mae.encoder), shrunk)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', ['vit_small_patch14_reg4_dinov2', 'vit_base_patch16_siglip_224'])
def test_a_timm_vit_teaches_with_registers_or_without_class_token(kind: str, name: str, tmp_path: Path):
    small = dict(embed_dim=32, depth=2, num_heads=4, patch_size=8, img_size=32)
    from mae_backbone.models.timm_vit import TimmViT
    torch.save(TimmViT(name, pooling=True, **small).vit.state_dict(), tmp_path / 'timm.pth')
    model = pretrainer(dict(type=f'mae_backbone.{kind}', checkpoint=str(tmp_path / 'timm.pth'),
                            encoder=dict(type='mae_backbone.TimmViT', name=name, **small)))
    model.init_weights()
    images, seeds = inputs()
    loss = model(images, seeds=seeds)
    loss['loss'].backward()
    assert 0 < loss['loss_teacher'] < 1
    assert model.distillation.mean == model.distillation.teacher.mean, 'pixels as the weights were trained with'
    assert model.distillation.projector.weight.grad.any()


# ---- the teacher stays as it is

@pytest.mark.parametrize('kind', KINDS)
def test_gradients_reach_student_and_projector_but_not_the_teacher(kind: str, tmp_path: Path):
    model = taught(tmp_path, kind)
    before = {name: value.clone() for name, value in model.distillation.teacher.state_dict().items()}
    assert len(model.distillation.teacher.blocks) == model.distillation.teacher_blocks, 'later ones are not needed'
    model.train()
    assert not model.distillation.teacher.training
    images = [torch.randint(256, (3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    model.train_step(dict(inputs=images), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    assert set(device_scalars.drain()) == {'loss', 'loss_pixels', 'loss_teacher'}
    model(torch.randn(2, 3, 32, 32))['loss'].backward()
    assert all(p.grad is None for p in model.distillation.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.distillation.teacher.state_dict().items())
    assert model.distillation.projector.weight.grad.any()
    assert model.mae.encoder.patch_embed.proj.weight.grad.any()
    teacher = {id(p) for p in model.distillation.teacher.parameters()}
    assert not teacher & {id(p) for p in model.parameters()}


@pytest.mark.parametrize('kind', KINDS)
def test_checkpoint_holds_student_and_projector_only(kind: str, tmp_path: Path):
    model, plain = taught(tmp_path, kind), pretrainer(None)
    added = model.state_dict().keys() - plain.state_dict().keys()
    assert {name.rpartition('.')[0] for name in added} == {'distillation.projector'}
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'student.pth')
    encoder = ViT(**STUDENT)
    load_encoder(encoder, tmp_path / 'student.pth')
    assert all(torch.equal(value, model.mae.encoder.state_dict()[name])
               for name, value in encoder.state_dict().items())


def test_without_its_file_a_model_with_a_teacher_still_evaluates(tmp_path: Path):
    model = pretrainer(dict(checkpoint=str(tmp_path / 'none.pth'), encoder=TEACHER))
    images, seeds = inputs()
    with pytest.raises(RuntimeError, match='call init_weights'):
        model(images, seeds=seeds)
    model.eval()
    assert set(model(images, seeds=seeds)) == {'loss'}
    assert model(images, mode='tensor').shape == (3, 16)
    with pytest.raises(FileNotFoundError, match=r'model\.teacher: .* does not exist'):
        model.init_weights()
    model.distillation.checkpoint = str(vit_file(tmp_path / 'wide.pth', arch=dict(width=64, depth=8, heads=1)))
    with pytest.raises(CheckpointError, match=r'model\.teacher: .*width 64'):
        model.init_weights()


def test_the_teacher_moves_with_the_student(tmp_path: Path):
    model = taught(tmp_path)
    model.double()
    assert next(model.distillation.teacher.parameters()).dtype == torch.float64


def test_initial_weights_of_the_student_do_not_depend_on_the_teacher(tmp_path: Path):
    ours, plain = taught(tmp_path).mae.state_dict(), pretrainer(None).mae.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in plain.items())


@pytest.mark.parametrize(('options', 'message'), [
    (dict(projector='mlp'), "projector='mlp'"), (dict(projector='identity'), 'the student has 16 channels'),
    (dict(type='mae_backbone.AttentionDistillation', projector='identity'), 'the student has 2 heads'),
    (dict(student_blocks=5), 'student_blocks=5 of the teacher, expected 1 to 4'),
    (dict(teacher_blocks=0), 'teacher_blocks=0 of the teacher, expected 1 to 8'),
    (dict(mean=[1.0]), 'expected both, or neither')])
def test_options_out_of_range_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        pretrainer(dict(dict(checkpoint='x', encoder=TEACHER), **options))


# ---- a run

def options_of(folder: Path, kind: str) -> dict:
    path = vit_file(folder / 'teacher.pth', arch=TEACHER['arch'], image_size=16, patch_size=4)
    return {'iterations': 8, 'save_every': 3, 'model.encoder.drop_path_rate': 0.0,
            'default_hooks.reconstructions': None,
            'model.teacher': dict(type=f'mae_backbone.{kind}', checkpoint=str(path), encoder=TEACHER)}


@pytest.mark.parametrize('kind', KINDS)
def test_crashed_run_resumes_bit_for_bit(kind: str, tmp_path: Path):
    images, options = write_images(tmp_path / 'images'), options_of(tmp_path, kind)
    whole = train(micro_config(tmp_path / 'whole', images, **options))
    crash(tmp_path / 'crashed', images, 5, **options)
    resumed = train(micro_config(tmp_path / 'crashed', images, **options))
    assert losses(resumed) == losses(whole)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_plan_names_the_teacher_and_counts_its_memory(tmp_path: Path):
    images, options = write_images(tmp_path / 'images'), options_of(tmp_path, KINDS[0])
    runner = Runner.quietly_from_cfg(micro_config(tmp_path / 'run', images, **options))
    runner.model.load_teacher()
    lines = run_plan.length_and_memory(runner)
    assert any(line.startswith('teacher: 0.08 M parameters of') and 'block 6 of 8' in line for line in lines)
    assert 'GB expected' in lines[-1]


# ---- options of the teacher

TIMM = dict(type='mae_backbone.TimmViT', name='vit_tiny_patch16_224', depth=4, embed_dim=32, num_heads=2,
            image_size=32, patch_size=8, init_cfg=None)


def timm_file(path: Path, **others: float) -> str:
    import timm
    weights = timm.create_model('vit_tiny_patch16_224', depth=4, embed_dim=32, num_heads=2, img_size=32, patch_size=8,
                                num_classes=0).state_dict()
    torch.save({key: {name: torch.full_like(tensor, value) for name, tensor in weights.items()}
                for key, value in others.items()}, path)
    return str(path)


@pytest.mark.parametrize(('key', 'value'), [('student', 2.0), ('teacher', 3.0)])
def test_the_key_selects_the_weights_of_a_teacher_of_timm_too(tmp_path: Path, key: str, value: float):
    model = pretrainer(dict(checkpoint=timm_file(tmp_path / 'two.pth', student=2.0, teacher=3.0), encoder=TIMM,
                            weights_key=key))
    model.init_weights()
    assert model.distillation.teacher.vit.cls_token.mean() == value


def test_other_heads_than_those_of_a_teacher_of_timm_are_refused(tmp_path: Path):
    model = pretrainer(dict(checkpoint=timm_file(tmp_path / 'a.pth', model=1.0), encoder=TIMM, heads=7))
    with pytest.raises(CheckpointError, match='the weights have 7 heads of attention, vit_tiny_patch16_224 has 2'):
        model.init_weights()


@pytest.mark.parametrize(('channels', 'teacher'), [
    (4, dict(encoder=TIMM)), (4, dict(encoder=TEACHER | dict(in_channels=3))),
    (3, dict(encoder=TEACHER, mean=[120.0] * 2, std=[60.0] * 2))])
def test_a_teacher_of_other_channels_is_refused_before_the_training(channels: int, teacher: dict):
    with pytest.raises(ValueError, match='choose a teacher for these channels'):
        MAEPretrainer(STUDENT | dict(in_channels=channels), decoder_width=16, decoder_depth=1, decoder_heads=2,
                      teacher=dict(checkpoint='a.pth', **teacher))


def test_a_teacher_of_color_images_takes_gray_ones():
    MAEPretrainer(STUDENT | dict(in_channels=1), decoder_width=16, decoder_depth=1, decoder_heads=2,
                  teacher=dict(checkpoint='a.pth', encoder=TIMM))
