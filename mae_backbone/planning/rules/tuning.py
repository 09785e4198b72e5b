"""Chooses the part of the encoder that is trained: all weights, low-rank adapters, the last blocks, or none."""
from dataclasses import replace

from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.plan import OURS, Choice, Plan, PlanOptions, WeightFacts
from mae_backbone.planning.rules.encoder import LORA_RANK, Encoder, distance_from_photographs

_WIDE = 384              # smallest width of encoders of which few labels, or a CPU, allow to train only a part
_FEW, _SOME = 200, 1000  # numbers of labeled images below which no weights, or only some of the weights, are trained
_GUIDE = 'ultralytics, finetuning-guide: train no weights for few photographs, all weights for other images'
_LORA = 'rank 16: RF-DETR; on 2,160 images 1.8 points above a frozen encoder, arXiv:2603.17782; thresholds ours'
_MAE = 'MAE, figure 9: one trained block gains 7.5 points; fraction of the blocks ours'


def choose_tuning(plan: Plan, fingerprint: Fingerprint, options: PlanOptions, encoder: Encoder) -> Encoder:
    """Chooses the trained part by the number of labels, and returns the encoder with it."""
    if fingerprint.task == 'pretraining':
        return encoder
    tuned, reason, source = _choose(fingerprint, options, encoder)
    encoder = replace(encoder, tuned=tuned)
    value = {'all': 'all weights', 'none': 'none: the encoder is frozen', 'lora': f'LoRA of rank {LORA_RANK}',
             'last': f'the last {encoder.tuned_blocks} of {encoder.depth} blocks'}[tuned]
    plan.decisions.append(Choice('trained part of the encoder', value, reason, source))
    return encoder


def _choose(fingerprint: Fingerprint, options: PlanOptions, encoder: Encoder) -> tuple[str, str, str]:
    """Returns the trained part, the reason, and the source of the rule."""
    labels, weights = fingerprint.num_labeled, encoder.weights
    if weights is None or encoder.width < _WIDE:
        return 'all', ('weights of a pretraining on these data' if weights is None else
                       f'an encoder of width {encoder.width}'), 'MAE, figure 9: fine-tuning gains much'
    if encoder.tier == 'cpu':
        return 'none', f'{weights.path} has width {weights.width}, and there is no GPU', OURS
    if labels >= _SOME:
        return 'all', f'{labels:,} labeled images', _GUIDE
    far = distance_from_photographs(fingerprint)
    if labels >= _FEW or far:
        reason = f'{labels:,} labeled images' + (f'; {far}' if far else '')
        if options.has_peft:
            return 'lora', reason, _LORA
        return 'last', f"{reason}; LoRA needs peft: pip install mae_backbone[lora]", _MAE
    if _is_mae(weights):
        return 'last', f'{labels:,} labeled images; without fine-tuning, features of MAE are weak', _MAE
    return 'none', f'{labels:,} labeled images; photographs, like the images of the pretraining', _GUIDE


def _is_mae(weights: WeightFacts) -> bool:
    """True if the weights are from a masked autoencoder."""
    return weights.has_decoder or 'mae' in f'{weights.path} {weights.title}'.lower()
