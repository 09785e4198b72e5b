"""The reference MAE has the same loss and gradients as ours, with the same weights and mask."""
import torch
from torch.testing import assert_close

from mae_backbone.benchmark.reference_mae import ReferenceMAE
from mae_backbone.core.mae import MAE
from mae_backbone.core.masking import mask_from_noise
from mae_backbone.core.vit import Arch, ViT


def test_loss_and_gradients_equal_ours():
    arch = Arch(32, 2, 2)
    reference = ReferenceMAE(arch, image_size=(32, 48), patch_size=8, decoder_width=16, decoder_depth=2,
                             decoder_heads=2)
    ours = MAE(ViT(arch._asdict(), image_size=(32, 48), patch_size=8, fixed_positions=True), decoder_width=16,
               decoder_depth=2, decoder_heads=2)
    ours.load_state_dict({('decoder.' if name.startswith(('decoder_', 'mask_token')) else 'encoder.') + name: value
                          for name, value in reference.state_dict().items()})
    images, noise = torch.randn(3, 3, 32, 48), torch.rand(3, 24)
    losses = reference(images, noise), ours(images, mask_from_noise(noise, 0.75))[0]
    assert_close(losses[1], losses[0], atol=1e-5, rtol=0)
    for loss in losses:
        loss.backward()
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, parameter in ours.named_parameters():
        if parameter.grad is not None:
            assert_close(parameter.grad, theirs[name.split('.', 1)[1]], atol=1e-5, rtol=1e-3)
    assert sum(grad is not None for grad in theirs.values()) > 40
