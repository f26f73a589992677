"""What a trained model is worth on held-out images; noise is fixed and independent of the batch size."""
