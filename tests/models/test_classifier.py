"""Classification equals timm's ViT; probes train only what they should; augmentation applies only in training."""
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import Dataset

from mae_backbone.checkpoints.run_files import read_run
from mae_backbone.engine.runner import Runner
from mae_backbone.models.classifier import ViTClassifier

TINY = dict(arch=dict(width=32, depth=2, heads=2), image_size=32, patch_size=8)


def build(backbone: dict | None = None, **options) -> ViTClassifier:
    model = MODELS.build(dict(type='mae_backbone.ViTClassifier', backbone=TINY | (backbone or {}),
                              **dict(num_classes=5) | options))
    if model.num_classes:
        nn.init.normal_(model.head.weight)  # it starts near zero, where every image looks the same
    return model


def images_and_labels() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize(('pool', 'theirs'), [('mean', 'avg'), ('class', 'token')])
def test_scores_equal_timm(pool: str, theirs: str):
    reference = VisionTransformer(32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=5,
                                  global_pool=theirs)
    nn.init.normal_(reference.head.weight)
    if pool == 'mean':
        nn.init.normal_(reference.fc_norm.weight)
    model = build(pool=pool)
    model.load_state_dict({name if name.startswith(('head.', 'fc_norm.')) else f'backbone.{name}': value
                           for name, value in reference.state_dict().items()})
    images, labels = images_and_labels()
    predictions = model(images, labels, mode='predict')
    assert_close(torch.stack([one['scores'] for one in predictions]), reference(images).softmax(1), atol=1e-5, rtol=0)
    assert [one['label'] for one in predictions] == labels.tolist()
    assert_close(model(images, labels, mode='loss')['loss'], F.cross_entropy(reference(images), labels))
    assert_close(model(images), reference.forward_head(reference.forward_features(images), pre_logits=True),
                 atol=1e-5, rtol=0)


def test_predictions_without_labels():
    assert [one['label'] for one in build()(images_and_labels()[0], mode='predict')] == [None] * 6


def test_the_head_starts_near_zero_as_in_the_public_mae():
    for probe, std in ((False, 2e-5), (True, 0.01)):
        head = ViTClassifier(TINY, num_classes=50, probe=probe).head
        assert head.weight.std().item() == pytest.approx(std, rel=0.1)
        assert not head.bias.any()


@pytest.mark.parametrize('pool', ['mean', 'class'])
def test_probe_trains_only_its_head(pool: str):
    model = build(dict(drop_path_rate=0.5), pool=pool, probe=True).train()
    assert not any(part.training for part in model.backbone.modules())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = images_and_labels()
    optimizer = OptimWrapper(torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1))
    model.train_step(dict(inputs=images, data_samples=labels), optimizer)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {'head.weight', 'head.bias', 'head_norm.running_mean', 'head_norm.running_var',
                     'head_norm.num_batches_tracked'}


@pytest.mark.parametrize('tuned', [0, 0.5, 1, 2])
def test_partial_fine_tuning_trains_the_last_blocks(tuned: float):
    model = build(dict(drop_path_rate=0.5, arch=dict(width=32, depth=3, heads=2)), tuned_blocks=tuned).train()
    wanted = {0: (), 0.5: ('blocks.2.norm2.', 'blocks.2.mlp.'), 1: ('blocks.2.',), 2: ('blocks.1.', 'blocks.2.')}[tuned]
    wanted = ('head.', *(('fc_norm.',) if tuned else ()), *(f'backbone.{name}' for name in wanted))
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(wanted)}
    assert any(block.training for block in model.backbone.blocks) == (tuned > 0)
    assert not model.backbone.blocks[0].training
    images, labels = images_and_labels()
    model.loss(images, labels).backward()
    assert all((one.grad is not None) == one.requires_grad for one in model.parameters())


@pytest.mark.parametrize('tuned', [-1, 0.25, 1.5, 3])
def test_too_many_tuned_blocks_are_refused(tuned: float):
    with pytest.raises(ValueError, match=rf'tuned_blocks={tuned}, expected 0, \.5 .* or 1 to 2'):
        build(tuned_blocks=tuned)


def test_an_attentive_probe_trains_its_query_and_head():
    model, (images, labels) = build(pool='attention', probe=True).train(), images_and_labels()
    model.loss(images, labels).backward()
    learning = {name.split('.')[0] for name, one in model.named_parameters() if one.grad is not None}
    assert learning == {'attention', 'head'}
    tokens = model.backbone.encode(model.backbone.embed(images))
    assert_close(model(images), model.attention(tokens))


def test_a_probe_normalizes_each_feature_over_the_batch():
    model, (images, labels) = build(probe=True).train(), images_and_labels()
    features = model.features(images)
    normalized = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-6).sqrt()
    logits = normalized @ model.head.weight.T
    assert_close(model.loss(images, labels), F.cross_entropy(logits, labels), atol=1e-4, rtol=0)


def test_fine_tuning_trains_everything():
    model, (images, labels) = build().train(), images_and_labels()
    model(images, labels, mode='loss')['loss'].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_without_classes_features_are_returned():
    model, (images, _) = build(num_classes=0), images_and_labels()
    tokens = model.backbone.encode(model.backbone.embed(images))
    assert_close(model(images), tokens[:, 1:].mean(1))
    assert all(name.startswith('backbone.') for name in model.state_dict())


def test_mixup_mixes_images_with_labels_and_smooths_once():
    images, labels = images_and_labels()
    plain = build(label_smoothing=0.1).train()
    mixed = build(label_smoothing=0.1, mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0)).train()
    mixed.load_state_dict(plain.state_dict())
    wanted = F.cross_entropy(plain.head(plain.features(images)), labels, label_smoothing=0.1)
    assert_close(plain.loss(images, labels), wanted)
    mixed.mixup.mixup_enabled = False
    assert_close(mixed.loss(images.clone(), labels), wanted)
    mixed.mixup.mixup_enabled = True
    assert not torch.isclose(mixed.loss(images.clone(), labels), wanted)


def test_random_erasing_applies_only_in_training():
    images, labels = images_and_labels()
    model, seen = build(random_erasing=1.0), []
    model.backbone.embed = lambda x, embed=model.backbone.embed: seen.append(x.clone()) or embed(x)
    before = images.clone()
    model.train()(images.clone(), labels, mode='loss')
    model.eval()(images.clone(), labels, mode='predict')
    assert (seen[0] != before).flatten(1).any(1).all()
    assert (seen[0] == before).flatten(1).any(1).all()  # a rectangle, not all of it
    assert torch.equal(seen[1], before)


def test_labels_may_come_as_a_list():
    model, (images, labels) = build(), images_and_labels()
    assert torch.equal(model(images, labels.tolist(), mode='loss')['loss'], model(images, labels, mode='loss')['loss'])


def test_unknown_pool_is_refused():
    with pytest.raises(ValueError, match=r"pool='max', expected 'mean'.*or 'attention'"):
        build(pool='max')


def test_a_backbone_without_class_token_is_refused():
    """The mean over all tokens but the first would lose a patch."""
    with pytest.raises(ValueError, match='class_token'):
        build(dict(class_token=False))


# ---- averaged weights

class Labeled(Dataset):
    """Eight random images of five classes."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        image = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(index))
        return {'inputs': image, 'data_samples': index % 5}


def averaging(work_dir: Path, epochs: int, **more: object) -> Runner:
    """A run with the hook of configs/classification/vit-b_scratch_300e_in1k.py, its averages of a few steps."""
    loader = {'dataset': Labeled(), 'batch_size': 4, 'num_workers': 0,
              'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    torch.manual_seed(0)
    return Runner(
        ViTClassifier(TINY, num_classes=5, data_preprocessor={'type': 'ImgDataPreprocessor'}), str(work_dir),
        train_dataloader=loader, train_cfg={'by_epoch': True, 'max_epochs': epochs, 'val_interval': 1},
        val_dataloader=loader, val_cfg={}, val_evaluator={'type': 'mae_backbone.CrossEntropy'},
        optim_wrapper={'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1}},
        custom_hooks=[{'type': 'EMAHook', 'momentum': 0.3}], experiment_name=f'{work_dir.name}-{epochs}',
        randomness={'seed': 0}, **more)


def test_averaged_weights_are_tested_saved_and_resumed(tmp_path: Path):
    run = averaging(tmp_path / 'whole', 3)
    averages, call = {}, run.call_hook

    def watch(point: str, **arguments: object) -> None:
        if point == 'after_train_iter':
            for name, value in run.model.named_parameters():
                old = averages.get(name)
                averages[name] = value.detach().clone() if old is None else old + 0.3 * (value.detach() - old)
        call(point, **arguments)

    run.call_hook = watch
    run.train()
    saved = read_run(tmp_path / 'whole/epoch_3.pth')
    for name, value in averages.items():
        assert_close(saved['state_dict'][name], value, atol=1e-6, rtol=1e-5)
    assert any(not torch.equal(saved['state_dict'][name], value) for name, value in run.model.named_parameters())

    averaging(tmp_path / 'first', 2).train()
    rest = averaging(tmp_path / 'first', 3, load_from=str(tmp_path / 'first/epoch_2.pth'), resume=True)
    rest.train()
    again = read_run(tmp_path / 'first/epoch_3.pth')
    for key in ('state_dict', 'ema_state_dict'):
        assert again[key].keys() == saved[key].keys()
        for name, value in saved[key].items():
            assert_close(again[key][name], value, atol=1e-6, rtol=1e-5)


DINO = dict(type='mae_backbone.TimmViT', name='vit_small_patch14_reg4_dinov2', embed_dim=32, depth=2, num_heads=2,
            image_size=28)
SIGLIP = DINO | dict(name='vit_base_patch16_siglip_224', image_size=32)
BEIT = DINO | dict(name='beitv2_base_patch16_224', image_size=32)
SAM = DINO | dict(name='samvit_base_patch16', image_size=32)


@pytest.mark.parametrize('backbone', [DINO, SIGLIP, BEIT, SAM])
@pytest.mark.parametrize('pool', ['mean', 'class', 'attention', 'model'])
def test_models_of_timm_classify(backbone: dict, pool: str):
    if pool == 'class' and backbone in (SIGLIP, SAM):
        with pytest.raises(ValueError, match="has no class token: set pool='model'"):
            ViTClassifier(backbone, num_classes=3, pool=pool)
        return
    model = ViTClassifier(backbone, num_classes=3, pool=pool)
    images = torch.randn(2, 3, *[backbone['image_size']] * 2)
    model(images, [0, 2], mode='loss')['loss'].backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert [sample['scores'].shape for sample in model.eval()(images, mode='predict')] == [(3,), (3,)]


@torch.no_grad()
def test_pooled_features_of_timm_are_those_of_timm():
    model = ViTClassifier(SIGLIP, num_classes=0, pool='model').eval()
    images = torch.randn(2, 3, 48, 32)
    assert_close(model(images), model.backbone.vit(images), atol=0, rtol=0)
    tokens = model(images, mode='tokens')
    assert tokens.shape == (2, 1 + 6, 32)
    assert_close(tokens[:, 0], model(images), atol=0, rtol=0)
    assert_close(ViTClassifier.features(model.requires_grad_(False), images), tokens[:, 0])


@pytest.mark.parametrize('tuned', [0, 0.5, 1, None])
def test_only_the_tuned_blocks_of_timm_are_trained(tuned: float | None):
    model = ViTClassifier(DINO, num_classes=3, pool='class', tuned_blocks=tuned)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    names = {name for name, _ in model.named_parameters()}
    last = {name for name in names if name.startswith('backbone.vit.blocks.1.')}
    norm, head = {name for name in names if 'vit.norm.' in name}, {'head.weight', 'head.bias'}
    half = {name for name in last if not name.startswith(('backbone.vit.blocks.1.norm1', 'backbone.vit.blocks.1.attn'))}
    assert trained == {0: head, 0.5: half | norm | head, 1: last | norm | head, None: names}[tuned]


def test_backbone_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"type='ResNet', expected 'mae_backbone\.ViTBackbone' or"):
        ViTClassifier(dict(type='ResNet'), num_classes=2)
    with pytest.raises(ValueError, match="pool='model' is for a backbone of timm"):
        build(pool='model')


@pytest.mark.parametrize(('backbone', 'options', 'message'), [
    ({}, dict(probe=True, tuned_blocks=1), 'tuned_blocks=1 with probe=True'),
    (dict(frozen_stages=1), dict(probe=True), 'frozen_stages=1, and probe=True freezes blocks too'),
    (dict(frozen_stages=1), dict(tuned_blocks=2), 'frozen_stages=1, and tuned_blocks=2 freezes blocks too'),
    (dict(out_indices=(0,)), {}, r'out_indices=\(0,\), but a classifier reads the last block only'),
    ({}, dict(label_smoothing=10), r'label_smoothing=10, expected a number in \[0, 1\]'),
    ({}, dict(random_erasing=25), r'random_erasing=25, expected a number in \[0, 1\]'),
    ({}, dict(mixup=dict(mixup_alpha=0.0)), 'mixes nothing')])
def test_options_that_would_be_ignored_are_refused(backbone: dict, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(backbone, **options)


def test_mixup_of_an_odd_batch_names_the_batch_size():
    model = build(mixup=dict(mixup_alpha=0.8)).train()
    with pytest.raises(ValueError, match='a batch of 5 images with mixup, which mixes pairs: set train_dataloader'):
        model.loss(torch.randn(5, 3, 32, 32), torch.arange(5))
