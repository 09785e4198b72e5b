"""Evaluation of features and predictions: metrics, probes, nearest neighbors and robustness."""
