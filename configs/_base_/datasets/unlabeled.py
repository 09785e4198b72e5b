"""Any folder of images without labels, for the small pretraining runs of configs/demo."""
train_dataloader = dict(
    num_workers=1, persistent_workers=True,
    sampler=dict(type='mae_backbone.PretrainSampler'),
    # The last batch of an epoch is filled with images that do not count, so that sets of any size work.
    batch_sampler=dict(type='mae_backbone.PretrainBatchSampler'),
    collate_fn=dict(type='mae_backbone.as_is'),
    dataset=dict(type='mae_backbone.UnlabeledImages'))
