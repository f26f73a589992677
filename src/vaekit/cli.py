"""The command line: verbs that each call one function of the library.

argparse parses what is fixed; what a configuration offers is read from the configuration itself, because
choosing a network or an objective changes which flags exist. Standard output holds results, standard error
progress and problems.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from vaekit import __version__
from vaekit.commands.arguments import Parser
from vaekit.errors import InputError, RunError, unknown

_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)

VERBS = {
    "inspect": "look at a data set: sizes, values, duplicates, odd images, and what suits it",
    "train": "train a model into a new run folder",
    "sweep": "train a model for each combination of settings that are given as lists",
    "resume": "continue a run that was stopped",
    "evaluate": "measure a model on held-out images",
    "compare": "measure runs on the same images: paired differences, and pictures side by side",
    "sample": "make new images",
    "fit-sampler": "fit a density to the codes of a trained model, to sample from in the prior's place",
    "reconstruct": "send images through the model and back",
    "interpolate": "walk between images in latent space",
    "traverse": "move one latent at a time, to see what each does",
    "denoise": "restore corrupted images",
    "embed": "write down the codes of own images, with their names",
    "anomaly": "rank your images by how unlike the training images they are, with a threshold and heat maps",
    "augment": "make new labelled images, near real ones or from a class's prior",
    "impute": "fill in hidden pixels, several times over",
    "morph": "make a film that goes from image to image",
    "embeddings": "write down the vectors that a model learned for its labels",
    "doctor": "find what is wrong with a run, and the setting to change (exit code 0 for sick runs too)",
    "report": "write a run's figures and its report.html anew",
    "explore": "walk through a model's latent space in the browser, live",
    "export": "write a model for other programs (ONNX, torch.export, safetensors), or as a page to explore it",
    "push": "share a model on the Hugging Face Hub",
    "pull": "fetch a model from the Hugging Face Hub",
    "import-keras": "make a model of the weights of a Keras autoencoder",
    "list": "show presets, data sets and the other parts to choose from",
}

EXAMPLES = {
    "train": (
        "vaekit train --data digits --preset mlp --out runs/first        # needs no download",
        "vaekit train --data mnist --preset conv --latent-dim 8 --beta 2 --out runs/mnist",
        "vaekit train --data own.npz --network mlp --hidden 200,100 --out runs/own",
    ),
    "sweep": (
        "vaekit sweep runs/betas --preset mlp --data mnist --beta 0.25,0.5,1,2,4 --seed 0,1,2",
        "vaekit sweep runs/sizes --preset conv --latent-dim 2,8,32 --importance-samples 100",
        'vaekit sweep runs/layers --preset mlp --hidden "400;200,200"          # lists, between semicolons',
    ),
    "resume": ("vaekit resume runs/mnist",),
    "evaluate": ("vaekit evaluate runs/mnist", "vaekit evaluate runs/mnist --split val --limit 1000 --json"),
    "compare": (
        "vaekit compare runs/small runs/large",
        "vaekit compare runs/seed0 runs/seed1 runs/seed2 --split val --out comparison",
    ),
    "sample": (
        "vaekit sample runs/mnist --count 100 --out new.png",
        "vaekit sample runs/digits --label 7 --count 64 --out sevens.png     # a conditional model",
        "vaekit sample runs/faces --attributes Smiling=1,Male=0 --out faces.png",
        "vaekit sample runs/mnist --truncation 1 --out typical.png",
    ),
    "fit-sampler": (
        "vaekit fit-sampler runs/mnist --sampler mixture --components 20",
        "vaekit fit-sampler runs/mnist --sampler flow      # then: vaekit sample runs/mnist --sampler flow --out new.png",
    ),
    "reconstruct": (
        "vaekit reconstruct runs/mnist --out pairs.png",
        "vaekit reconstruct runs/mnist --images own.npy --out restored.npy",
        "vaekit reconstruct runs/faces --images photos/ --out again/          # every image, names and sizes kept",
    ),
    "interpolate": (
        "vaekit interpolate runs/mnist --count 5 --steps 12 --how spherical --out walk.png",
        "vaekit interpolate runs/mnist --out loop.gif",
        "vaekit interpolate runs/mnist --corners --count 1 --out square.png",
    ),
    "traverse": (
        "vaekit traverse runs/mnist --out latents.png                  # those with the highest rate",
        "vaekit traverse runs/mnist --latents 1,4 --range 3 --image-index 12 --out two.gif",
    ),
    "denoise": (
        "vaekit denoise runs/denoising --out restored.png",
        "vaekit denoise runs/denoising --images blurred.npy --out restored.npy",
        "vaekit denoise runs/denoising --images scans/ --tiles --out restored/",
    ),
    "embed": (
        "vaekit embed runs/faces photos/ --out codes.csv",
        "vaekit embed runs/faces photos.tar --scales --out codes.parquet",
    ),
    "anomaly": (
        "vaekit anomaly runs/parts line3/ --out odd                           # against the run's validation images",
        "vaekit anomaly runs/parts line3/ --normal good/ --false-alarms 0.001 --out odd",
    ),
    "augment": (
        "vaekit augment runs/digits few/ --count 1000 --out more              # folders of classes in, and out",
        "vaekit augment runs/digits few/ --count 1000 --how prior --out more  # a conditional model",
    ),
    "impute": (
        "vaekit impute runs/faces photo.jpg --mask 20,20,24,16 --out filled.png",
        "vaekit impute runs/faces photos/ --mask scratch.png --out filled/",
        "vaekit impute runs/mnist holes.npy --out filled.npy                  # NaN where pixels are hidden",
    ),
    "morph": ("vaekit morph runs/faces a.jpg b.jpg c.jpg --out morph.gif",),
    "embeddings": (
        "vaekit embeddings runs/digits --out vectors.csv",
        "vaekit embeddings runs/digits --out vectors.npy      # for vaekit train --embedding-file vectors.npy",
    ),
    "doctor": ("vaekit doctor runs/mnist", "vaekit doctor runs/mnist --json"),
    "report": ("vaekit report runs/mnist",),
    "explore": (
        "vaekit explore runs/mnist",
        "vaekit explore runs/photos --images new-photos/ --port 9000 --no-browser",
    ),
    "inspect": (
        "vaekit inspect digits",
        "vaekit inspect photos/ --image-size 64 --out looked-at",
        "vaekit inspect mnist --json",
    ),
    "export": (
        "vaekit export runs/mnist --out onnx                  # encoder.onnx, decoder.onnx, whole.onnx",
        "vaekit export runs/mnist --format torch --out programs",
    ),
    "push": ("vaekit push runs/mnist owner/digits-vae", "vaekit push runs/photos owner/photos --private --no-figures"),
    "pull": ("vaekit pull owner/digits-vae --out digits-vae      # then: vaekit sample digits-vae --out new.png",),
    "import-keras": (
        "vaekit import-keras vae.keras --preset cvae-embedding --out model.safetensors",
        "vaekit import-keras encoder.h5 decoder.h5 --latent-dim 16 --out model.safetensors",
    ),
    "list": ("vaekit list presets", "vaekit list objectives", "vaekit list --json"),
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command; exits with 0, with 2 for bad input, with 1 when a run failed midway."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
        sys.stdout.flush()
    except InputError as problem:
        _complain(problem)
        code = 2
    except RunError as problem:
        _complain(problem)
        code = 1
    except KeyboardInterrupt:
        _complain("stopped")
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as problem:
        if os.environ.get("VAEKIT_DEBUG"):
            raise
        where = f"{problem.filename}: " if problem.filename else ""
        mend = "; make room or choose another place" if problem.errno in _NO_PLACE else ""
        _complain(f"{where}{problem.strerror or problem}{mend}")
        code = 1
    except Exception as problem:
        if os.environ.get("VAEKIT_DEBUG"):
            raise
        words_of = " ".join(str(problem).split()) or "no details"
        _complain(f"{type(problem).__name__}: {words_of[:300]}; set VAEKIT_DEBUG=1 to see where")
        code = 1
    sys.exit(code)


def _complain(problem: object) -> None:
    """One line on standard error, whatever a name within it holds."""
    print(f"vaekit: {' '.join(str(problem).splitlines())}", file=sys.stderr)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        if words[1:] and words[0] == "help":
            return _run([*words[1:2], "--help"])
        print(_overview())
        return 0
    if words[0] in ("-V", "--version", "version"):
        print(f"vaekit {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        kind = "option" if verb.startswith("-") else "command"
        raise unknown(kind, verb, ("--help", "--version") if kind == "option" else VERBS)
    from vaekit.commands import verbs  # imports torch: late, so that --help answers at once

    parser = Parser(verb, VERBS[verb], EXAMPLES[verb])
    result = getattr(verbs, f"{verb.replace('-', '_')}_verb")(parser, rest)
    return int(result or 0)


def _overview() -> str:
    rows = "\n".join(f"  {verb:<12} {help}" for verb, help in VERBS.items())
    return (
        "vaekit: train, measure and explore variational autoencoders\n\n"
        "usage: vaekit COMMAND [...]\n\n"
        "commands:\n"
        f"{rows}\n\n"
        "vaekit COMMAND --help shows what a command takes, with examples; vaekit --version the version.\n\n"
        "first steps:\n"
        "  vaekit train --data digits --preset cvae-onehot --out runs/digits\n"
        "  vaekit evaluate runs/digits\n"
        "  vaekit sample runs/digits --label 7 --count 64 --out sevens.png"
    )
