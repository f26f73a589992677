"""Images, splits, corruptions and batches; this room depends on no other room of the project."""
