"""UPerNet on ViTDet's backbone for 160,000 iterations: its relative positions do not decay."""
_base_ = ['./upernet_160k.py']

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(
    _delete_=True, pos_embed=dict(decay_mult=0.0), rel_pos_=dict(decay_mult=0.0))))
