"""Frozen features on one set of class folders: minutes on a CPU.

Run     python tools/transfer.py quick --checkpoint MAE.pth --against random --data-root cifar10
Data    {train,val}/CLASS/*.jpg
Expect  the table in the README
"""
title = 'Frozen features'
data = dict(images='.')
labels = [1.0]
tasks = dict(
    knn=dict(probe='knn', data=['images']),
    linear=dict(probe='linear', data=['images'], labels=[0.1, 1.0], seeds=[0, 1, 2]))
