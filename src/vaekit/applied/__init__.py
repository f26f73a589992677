"""A trained model put to work on one's own images: codes, restored folders, anomalies, new images, hidden pixels, films."""
