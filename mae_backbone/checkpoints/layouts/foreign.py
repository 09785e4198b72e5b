"""Layouts of ViTs that our models cannot compute. They are recognized only to refuse them with a reason."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.layout import Layout, Names


class OpenCLIP(Layout):
    """OpenAI's CLIP and open_clip."""

    name, title = 'open_clip', 'CLIP (OpenAI, open_clip)'
    anchor = 'conv1.weight'
    refused = 'it has a norm before the blocks, and in some models quick_gelu'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there are its class token and its norm before the blocks."""
        return names.has('class_embedding') and names.has('ln_pre.weight')


class HuggingFaceCLIP(Layout):
    """CLIP and SigLIP of transformers."""

    name, title = 'hf-clip', 'CLIP or SigLIP (Hugging Face)'
    anchor = 'embeddings.patch_embedding.weight'
    refused = 'it has a norm before the blocks (CLIP) or no class token (SigLIP), and in some models quick_gelu'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """Always True: the anchor is sufficient."""
        return True


class HuggingFaceDINO(Layout):
    """DINOv2 and DINOv3 of transformers."""

    name, title = 'hf-dino', 'DINOv2 or DINOv3 (Hugging Face)'
    anchor = 'embeddings.patch_embeddings.projection.weight'
    refused = 'it has LayerScale, and in some models registers or SwiGLU'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if LayerScale has the name of these models."""
        return names.has('{rest}.lambda1')


class Registers(Layout):
    """ViTs of timm with registers, rotary positions, SwiGLU, or norms before the blocks or in the attention."""

    name, title = 'timm-other', 'another kind (registers, rotary positions, SwiGLU or more norms)'
    refused = 'our ViT has no such parts'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if one of these parts is present."""
        return names.has('reg_token', 'register_tokens', 'norm_pre.weight', 'rope.{rest}', 'rope_embed.{rest}',
                         'blocks.0.mlp.w12.weight', 'blocks.0.mlp.fc1_g.weight', 'blocks.0.attn.q_norm.weight')
