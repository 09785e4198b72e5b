"""Images and label maps in folders, class names in classes.txt, crops of 512 with ADE20K's pipeline."""
_base_ = ['./segmentation-512x512.py']

data_root = 'data/segmentation'
dataset = dict(
    type='BaseSegDataset', data_root=data_root, img_suffix='.jpg', seg_map_suffix='.png', ignore_index=255,
    reduce_zero_label=False)
train_dataloader = dict(dataset=dict(
    **dataset, data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')))
val_dataloader = dict(dataset=dict(
    **dataset, data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation')))
test_dataloader = val_dataloader
