"""Reads the facts about pretrained weights on which a plan depends."""
from pathlib import Path

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.report import is_table
from mae_backbone.checkpoints.source import open_source
from mae_backbone.checkpoints.unseen import heads_of_tables, usual_heads
from mae_backbone.core.vit import ARCHS, Arch
from mae_backbone.planning.plan import WeightFacts


def read_weights(path: str | Path) -> WeightFacts:
    """Reads the architecture of a ViT and its pixel normalization from a file in any supported layout.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, has no ViT, or does not state the number of heads.
    """
    source = open_source(path, outline=True)
    steps, tensors = source.plan.encoder, source.weights
    if 'patch_embed.proj.weight' not in steps:
        raise CheckpointError(f'{path} has no patch embedding: pass a checkpoint of a ViT')
    embedding = steps['patch_embed.proj.weight'](tensors)
    depth = len({name.split('.')[1] for name in steps if name.startswith('blocks.')})
    width, patch_size = len(embedding), embedding.shape[-1]
    tables = {name: steps[name](tensors) for name in steps if is_table(name)}
    heads = heads_of_tables(tables, width) or source.facts.heads or usual_heads(width, depth)
    if heads is None:
        raise CheckpointError(f'{path} does not state the number of attention heads: convert it with '
                              '`mae-backbone convert` and --heads first')
    image_size = 224
    if 'pos_embed' in steps:
        patches = steps['pos_embed'](tensors).shape[1]
        image_size = int(patches ** 0.5) * patch_size
    arch = Arch(width, depth, heads)
    name = next((name for name, known in ARCHS.items() if known == arch), None)
    facts = source.facts
    # As the folder of the data, so that the config can be used from any folder.
    file = str(Path(path).absolute()) if Path(path).exists() else str(path)
    return WeightFacts(
        file, name or arch._asdict(), width, depth, patch_size, image_size,
        tuple(facts.mean or ()), tuple(facts.std or ()), bool(source.plan.decoder), source.layout.title,
        relative_positions=any(name.endswith('.rel_pos_h') for name in tables))
