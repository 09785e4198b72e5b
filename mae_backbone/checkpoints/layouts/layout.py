"""Base class of layouts."""
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from mae_backbone.checkpoints.layouts.rules import Rule, Rules, Step, inward, match, outward


@dataclass(frozen=True)
class Names:
    """Names of the tensors of a file, split by the prefix of a ViT in the file.

    Attributes:
        prefix: prefix of the names of the ViT, such as 'module.backbone.'.
        inside: names with this prefix, without the prefix.
        outside: all other names.
    """

    prefix: str
    inside: frozenset[str]
    outside: frozenset[str]

    @classmethod
    def split(cls, names: Iterable[str], prefix: str) -> 'Names':
        """Splits the names of a file by a prefix."""
        names = list(names)
        inside = frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))
        return cls(prefix, inside, frozenset(name for name in names if not name.startswith(prefix)))

    def has(self, *templates: str) -> bool:
        """True if a name in `inside` matches one of the templates."""
        return any(match(template, name) is not None for template in templates for name in self.inside)


@dataclass
class Plan:
    """Steps that convert the weights of a file to our names and shapes.

    Attributes:
        encoder: steps for tensors of `ViT`, by our name. Names without a rule are not changed, so that they are
            reported when the weights are loaded.
        decoder: steps for tensors of `MAEDecoder`, by our name; empty if there is no decoder.
        head: steps for `head` and `fc_norm` of a classifier, by our name; empty if the layout finds no head.
        ignored: names of tensors of the ViT that our models do not have, such as other heads.
    """

    encoder: dict[str, Step]
    decoder: dict[str, Step]
    head: dict[str, Step] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


class Layout:
    """Base class of public layouts of ViT weights. A subclass defines rename tables, and has no state.

    Our names are the names of the public MAE code, without a prefix. Encoder: `patch_embed`, `blocks`, `norm`,
    `cls_token` and `pos_embed`. Decoder: `decoder_embed`, `mask_token`, `decoder_pos_embed`, `decoder_blocks`,
    `decoder_norm` and `decoder_pred`. Classifier: `fc_norm` and `head`.

    Attributes:
        name: short unique name.
        title: name for the report.
        anchor: name of the weight of the patch embedding. The text before it in the names of a file is the prefix of
            the ViT.
        decoder_anchor: name of the weight of the first layer of the decoder, which determines its prefix.
        encoder, decoder: rename tables without prefixes.
        aliases: additional rules from other names of the same tensors to our names.
        head: rename table of the head, with the prefix that it has in a whole classifier.
        encoder_prefix, decoder_prefix: prefixes in a whole MAE of this layout.
        classifier_prefix: prefix of the encoder in a classifier of this layout.
        ignored: templates of names of the ViT that our models do not need.
        remark: text for the report about how the original model computes differently from ours; '' if it does not.
        refused: reason why weights of this layout cannot be loaded into our models; '' if they can.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    anchor: ClassVar[str] = 'patch_embed.proj.weight'
    decoder_anchor: ClassVar[str] = 'decoder_embed.weight'
    encoder: ClassVar[Rules] = (Rule('{rest}', '{rest}'),)
    decoder: ClassVar[Rules] = ()
    aliases: ClassVar[Rules] = ()
    head: ClassVar[Rules] = ()
    encoder_prefix: ClassVar[str] = ''
    decoder_prefix: ClassVar[str] = ''
    classifier_prefix: ClassVar[str] = ''
    ignored: ClassVar[tuple[str, ...]] = ('head.{rest}', 'fc_norm.{rest}', 'mask_token', 'decoder_{rest}',
                                          '{rest}.relative_position_index')

    remark: ClassVar[str] = ''
    refused: ClassVar[str] = ''

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if a ViT has this layout. It is called only if the file has the anchor. The first match is used.

        Args:
            names: names of the tensors of the file.
            content: top level of the file.
        """
        raise NotImplementedError

    def plan(self, names: Names, decoder_prefix: str | None = None) -> Plan:
        """Returns the conversion of weights with these names. `decoder_prefix` is None if there is no decoder."""
        everything = [names.prefix + name for name in names.inside] + list(names.outside)
        decoder: dict[str, Step] = {}
        if decoder_prefix is not None:
            decoder = _under(self.decoder, everything, decoder_prefix)
        root = names.prefix.removesuffix(self.classifier_prefix)
        head = _under(self.head, everything, root) if root + self.classifier_prefix == names.prefix else {}
        taken = {name for step in (decoder | head).values() for name in step.names}
        inside = sorted(name for name in names.inside if names.prefix + name not in taken)
        ignored = {name for name in inside if any(match(template, name) is not None for template in self.ignored)}
        inside = [name for name in inside if name not in ignored]
        encoder = inward((*self.encoder, *self.aliases), inside, names.prefix)
        used = {name for step in encoder.values() for name in step.names}
        encoder |= {name: Step((names.prefix + name,)) for name in inside if names.prefix + name not in used}
        return Plan(encoder, decoder, head, sorted(ignored))

    def to_ours(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Converts the weights of a file in this layout to encoder, decoder and head with our names, without prefix.

        Raises:
            ValueError: the file does not have exactly one ViT of this layout.
        """
        prefixes = prefixes_of(self.anchor, weights)
        if len(prefixes) != 1:
            raise ValueError(f'{len(prefixes)} ViTs in the layout of {self.title}, under {prefixes}; expected one')
        decoders = prefixes_of(self.decoder_anchor, weights)
        plan = self.plan(Names.split(weights, prefixes[0]), decoders[0] if len(decoders) == 1 else None)
        return {name: step(weights) for name, step in (plan.encoder | plan.decoder | plan.head).items()}

    def from_ours(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Converts weights with our names to the names of this layout. It is the inverse of `to_ours`.

        If there is a decoder, encoder and decoder get the prefixes of a whole MAE. If there is a head, the encoder gets
        the prefix of a classifier. Otherwise there is no prefix. Weights that the layout does not have are removed.
        """
        decoder = {name: tensor for name, tensor in weights.items() if is_decoder(name)}
        head = {name: tensor for name, tensor in weights.items() if is_head(name)}
        encoder = {name: tensor for name, tensor in weights.items() if name not in decoder and name not in head}
        prefix = self.encoder_prefix if decoder else self.classifier_prefix if head else ''
        return ({prefix + name: tensor for name, tensor in outward(self.encoder, encoder).items()}
                | {self.decoder_prefix + name: tensor for name, tensor in outward(self.decoder, decoder).items()}
                | outward(self.head, head))


def _under(rules: Rules, names: Iterable[str], prefix: str) -> dict[str, Step]:
    """Returns the steps (`inward`) for the names that begin with a prefix."""
    return inward(rules, sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix)), prefix)


def is_decoder(name: str) -> bool:
    """True if one of our names, without prefix, belongs to the decoder."""
    return name.startswith('decoder_') or name == 'mask_token'


def is_head(name: str) -> bool:
    """True if one of our names, without prefix, belongs to the head of a classifier."""
    return name.startswith(('head.', 'fc_norm.'))


def prefixes_of(anchor: str, names: Iterable[str]) -> list[str]:
    """Returns the prefixes of an anchor in the names of a file, one for each occurrence."""
    return [name.removesuffix(anchor) for name in names if name == anchor or name.endswith('.' + anchor)]
