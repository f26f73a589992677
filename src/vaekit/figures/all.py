"""`make_figures`: every picture that makes sense for a run."""

from __future__ import annotations

import os

from vaekit.errors import InputError
from vaekit.figures.basics import FigureFile
from vaekit.runs import Run


def make_figures(run: Run, data_dir: str | os.PathLike[str] | None = None) -> list[FigureFile]:
    """Draw a run's pictures into its folder `figures`, in the order of a report.

    The same run gives the same bytes. A figure that the model or its data cannot have is left out.

    Args:
        run: a trained run.
        data_dir: folder of local data sets; None reads the variable VAEKIT_DATA.

    Raises:
        InputError: when the run has no model yet, or its data cannot be found.
    """
    # imported late: matplotlib takes half a second, and most commands draw nothing with it
    from vaekit.figures.curves import loss_curves
    from vaekit.figures.story import STORY
    from vaekit.figures.style import save, style
    from vaekit.figures.subject import Subject

    subject = Subject.of(run, data_dir)
    run.figures.mkdir(exist_ok=True)
    files = []
    with style(subject.classes):
        if (curves := loss_curves(run)) is not None:
            files.append(save(curves, run.figures))
        for make in STORY:
            try:
                drawn = make(subject)
            except InputError:  # the model lacks what the figure needs, such as an encoder
                continue
            if drawn is not None:
                files.append(save(drawn, run.figures, subject.renamed))
    return files
