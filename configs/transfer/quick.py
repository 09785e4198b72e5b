"""Frozen features on one set of class folders: minutes on a CPU.

Run     mae-backbone transfer quick --checkpoint MAE.pth --against random --data-root cifar10
Data    {train,val}/CLASS/*.jpg
Expect  docs/benchmarks.md

`knn` uses the features without scaling, so that the neighbors depend mostly on the directions of large variance.
`knn_whitened` first scales the features to about the same variance in all directions. The linear probe trains for 30
epochs instead of the default 90. Its learning rate is selected by the default search.
"""
title = 'Frozen features'
data = dict(images='.')
tasks = dict(
    knn=dict(probe='knn', data=['images']),
    knn_whitened=dict(probe='knn', data=['images'], options=dict(whiten=True)),
    linear=dict(probe='linear', data=['images'], labels=[0.1, 1.0], seeds=[0, 1, 2], options=dict(epochs=30)))
