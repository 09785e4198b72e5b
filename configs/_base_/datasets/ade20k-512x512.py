"""ADE20K, 150 classes, crops of 512: the pipeline of the MAE paper's segmentation (implus/mae_segmentation)."""
_base_ = ['./segmentation-512x512.py']

data_root = 'data/ade/ADEChallengeData2016'
# The dataset sets reduce_zero_label: class 0, which means "other", becomes 255 and is ignored.
dataset = dict(type='ADE20KDataset', data_root=data_root)
train_dataloader = dict(dataset=dict(
    **dataset, data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')))
val_dataloader = dict(dataset=dict(
    **dataset, data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation')))
test_dataloader = val_dataloader
