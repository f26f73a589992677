"""Trained models for other programs: ONNX, torch.export, safetensors; the Hugging Face Hub; weights from Keras."""
