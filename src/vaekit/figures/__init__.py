"""Pictures of a trained model, in one visual style: curves, grids of images and maps of the latent space."""

from vaekit.figures.all import make_figures
from vaekit.figures.basics import FigureFile
from vaekit.figures.grids import image_grid, save_grid

__all__ = ["FigureFile", "image_grid", "make_figures", "save_grid"]
