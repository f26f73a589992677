"""The command line: verbs that each call one function of the library.

argparse parses what is fixed; what a configuration offers is read from the configuration itself, because choosing a
network or an objective changes which flags exist. Standard output holds results, standard error progress and problems.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from vaekit import __version__
from vaekit.errors import InputError, RunError, unknown

VERBS = {
    "train": "train a model into a new run folder",
    "resume": "continue a run that was stopped",
    "evaluate": "measure a run on held-out images",
    "sample": "make new images",
    "reconstruct": "send images through the model and back",
    "interpolate": "walk between images in latent space",
    "denoise": "restore corrupted images",
    "report": "write a run's figures and its report.html anew",
    "list": "show presets, data sets and the other parts",
}


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence."""

    def __init__(self, verb: str, description: str):
        super().__init__(prog=f"vaekit {verb}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required: "):
            raise InputError(f"{message.split(': ')[1]} is missing; see {self.prog} --help")
        if message.startswith("unrecognized arguments: "):
            known = [option for action in self._actions for option in action.option_strings]
            word = message.split(": ", 1)[1].split()[0].split("=")[0]
            raise unknown("option" if word.startswith("-") else "argument", word, known)
        raise InputError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def number(self, flag: str, default: int | float | None, help: str, least: float = 1) -> None:
        """Add a flag that takes a number of `default`'s type (an int for None), at least `least`."""
        kind = float if isinstance(default, float) else int

        def parse(text: str) -> int | float:
            try:
                value = kind(text)
            except ValueError:
                word = "a whole number" if kind is int else "a number"
                raise argparse.ArgumentTypeError(f"{text!r} is not {word}; give {word} from {least:g} up") from None
            if not least <= value < 2**63:
                raise argparse.ArgumentTypeError(f"{text} is out of range; it must be at least {least:g}")
            return value

        shown = "" if default is None else f" (default {default})"
        self.add_argument(flag, type=parse, default=default, metavar="N", help=help + shown)

    def common(self, run: bool = True, split: bool = False, images: bool = False) -> None:
        """Add the arguments that verbs share."""
        if run:
            self.add_argument("run", metavar="RUN", help="run folder, or a model.safetensors")
        self.add_argument("--data-dir", metavar="DIR", help="folder of local data sets (default: $VAEKIT_DATA)")
        if split:
            self.add_argument("--split", choices=("train", "val", "test"), default="test", help="which images")
        if images:
            self.add_argument("--images", metavar="FILE", help="own images, .npy or .npz, in place of a split")
            self.number("--count", 16, "number of images")
            self.add_argument("--out", metavar="FILE", required=True, help="file to write, .png or .npy")


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
    except Exception as problem:
        if os.environ.get("VAEKIT_DEBUG"):
            raise
        words_of = " ".join(str(problem).split()) or "no details"
        _complain(f"{type(problem).__name__}: {words_of[:300]}; set VAEKIT_DEBUG=1 to see where")
        code = 1
    sys.exit(code)


def _complain(problem: object) -> None:
    print(f"vaekit: {problem}", file=sys.stderr)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] in ("--version", "version"):
        print(f"vaekit {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        raise unknown("command", verb, VERBS)
    from vaekit import verbs  # imports torch: late, so that --help answers at once

    parser = Parser(verb, VERBS[verb].capitalize() + ".")
    result = getattr(verbs, f"{verb}_verb")(parser, rest)
    return int(result or 0)


def _overview() -> str:
    rows = "\n".join(f"  {verb:<12} {help}" for verb, help in VERBS.items())
    return (
        "vaekit: train, measure and explore variational autoencoders\n\n"
        "usage: vaekit COMMAND [...]        vaekit COMMAND --help for more\n\n"
        f"{rows}\n\n"
        "first steps:\n"
        "  vaekit train --data digits --preset cvae-onehot --out runs/digits\n"
        "  vaekit evaluate runs/digits\n"
        "  vaekit sample runs/digits --label 7 --count 64 --out sevens.png\n"
    )


def print_json(record: Any) -> None:
    """One JSON object on standard output; numbers that JSON does not know are null."""
    print(json.dumps(_finite(record), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value
