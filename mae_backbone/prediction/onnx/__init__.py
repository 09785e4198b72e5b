"""Prediction with exported ONNX models on onnxruntime, without PyTorch's model code."""
