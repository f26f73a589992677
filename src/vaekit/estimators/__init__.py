"""Models as scikit-learn's estimators: arrays in, arrays out."""
