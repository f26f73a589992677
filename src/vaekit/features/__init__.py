"""What two images, or two sets of images, are compared by: structural similarity, and the features of a pinned network."""
