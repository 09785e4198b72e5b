"""Frozen features on one set of class folders: minutes on a CPU.

Run     python tools/transfer.py quick --checkpoint MAE.pth --against random --data-root cifar10
Data    {train,val}/CLASS/*.jpg
Expect  docs/benchmarks.md

The linear probe has 30 epochs where others have 90; the learning rate is searched all the same.
"""
title = 'Frozen features'
data = dict(images='.')
tasks = dict(
    knn=dict(probe='knn', data=['images']),
    linear=dict(probe='linear', data=['images'], labels=[0.1, 1.0], seeds=[0, 1, 2], options=dict(epochs=30)))
