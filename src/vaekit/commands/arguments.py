"""Arguments that are fixed for each verb: argparse with one-sentence errors and one form of help for all.

Nothing here imports torch.
"""

from __future__ import annotations

import argparse
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from vaekit.columns import entry, screen_width
from vaekit.config import Leaf, plain
from vaekit.errors import InputError, unknown

MOST = 1_000_000  # upper end of counts: more would not fit into memory
_LARGEST = 2**63 - 1  # of a signed whole number of 64 bits


def facts(default: Any, limits: str = "") -> str:
    """What is in force and what is allowed, in brackets.

    >>> facts(0.05, "0 to 1"), facts(None, "from 1"), facts((32, 64))
    ('[0.05; 0 to 1]', '[none; from 1]', '[32,64]')
    """
    if isinstance(default, tuple):
        shown = ",".join(map(str, default))
    elif isinstance(default, bool):
        shown = "yes" if default else "no"
    else:
        shown = f"{default:.6g}" if isinstance(default, float) else str(default).lower()
    return f"[{'; '.join(part for part in (shown, limits) if part)}]"


def limits(rule: Leaf) -> str:
    """An allowed range in a few characters.

    >>> limits(Leaf("", ge=1, le=65536)), limits(Leaf("", gt=0, le=10)), limits(Leaf("", ge=0, lt=1))
    ('1 to 65536', 'above 0, up to 10', 'from 0, below 1')
    """
    if rule.ge is not None and rule.le is not None:
        return f"{plain(rule.ge)} to {plain(rule.le)}"
    ends = [("from", rule.ge), ("above", rule.gt), ("up to", rule.le), ("below", rule.lt)]
    return ", ".join(f"{word} {plain(end)}" for word, end in ends if end is not None)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence, and whose help looks the same for all verbs and Pythons.

    Args:
        verb: what follows ``vaekit`` on the command line.
        description: what it does, in a sentence.
        examples: command lines for the end of the help.
    """

    def __init__(self, verb: str, description: str = "", examples: Sequence[str] = ()):
        super().__init__(prog=f"vaekit {verb}", description=description, allow_abbrev=False)
        self.examples = tuple(examples)

    @property
    def options(self) -> list[str]:
        """Every option, such as ``--out``."""
        return [option for action in self._actions for option in action.option_strings]

    def usage_line(self) -> str:
        """How the command is written, with what it must be given."""
        parts = [self.prog]
        for action in self._actions:
            if not action.option_strings:
                parts.append(f"[{action.metavar}]" if action.nargs == "?" else str(action.metavar))
            elif action.required:
                parts.append(f"{action.option_strings[0]} {action.metavar}")
        return " ".join(parts)

    def rows(self) -> str:
        """A row of help for each argument."""
        shown = []
        for action in self._actions:
            head = ", ".join(action.option_strings) or str(action.metavar)
            if action.option_strings and action.metavar:
                head += f" {action.metavar}"
            text = "show this help and stop" if "--help" in action.option_strings else action.help or ""
            shown.append((action.option_strings == ["-h", "--help"], entry(head, text)))
        return "\n".join(row for _, row in sorted(shown, key=lambda pair: pair[0]))

    def format_help(self) -> str:
        examples = "\n".join(f"  {line}" for line in self.examples)
        parts = [
            "\n".join(textwrap.wrap(f"{self.prog}: {self.description}", screen_width(), break_on_hyphens=False)),
            f"usage: {self.usage_line()} [options]",
            self.rows(),
            f"examples:\n{examples}" if examples else "",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def read_known(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Like `parse_known_args`, but what is missing stays None: a misspelt word comes first."""
        if any(word in ("-h", "--help") for word in words):
            print(self.format_help(), end="")
            raise SystemExit(0)
        required = [action for action in self._actions if action.required]
        for action in required:
            action.required = False
        try:
            return self.parse_known_args(words)
        finally:
            for action in required:
                action.required = True

    def refuse_missing(self, options: argparse.Namespace) -> None:
        """Complain of what must be given and was not."""
        required = [action for action in self._actions if action.required]
        missing = [a for a in required if getattr(options, a.dest) in (None, "")]
        if missing:
            names = [(a.option_strings or [str(a.metavar)])[0] for a in missing]
            words = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
            raise InputError(f"{words}; write {self.usage_line()}")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The arguments of a command line.

        Raises:
            InputError: for a word that is not known, is wrong or is missing, in one sentence.
        """
        options, left = self.read_known(words)
        for word in sorted(left, key=lambda word: not word.startswith("-")):
            raise self.stray(word)
        self.refuse_missing(options)
        return options

    def error(self, message: str) -> NoReturn:
        """Raise `InputError` with argparse's message said better."""
        message = re.sub(r"^argument (-h/)?", "", message)
        flag = message.split(":")[0]
        if message.endswith(": expected one argument"):
            action = next(a for a in self._actions if flag in a.option_strings)
            raise InputError(f"{flag} has no value; write {flag} {action.metavar}")
        extra = re.fullmatch(r".*: ignored explicit argument (.*)", message, re.DOTALL)
        if extra:
            raise InputError(f"{flag}: {extra[1]} is not expected; write {flag} alone")
        raise InputError(message if ";" in message else f"{message}; see {self.prog} --help")

    def stray(self, word: str) -> InputError:
        """What to say of a word that no argument takes."""
        if word.startswith("-"):
            option = word.split("=")[0]
            of_a_run = any(action.dest == "run" for action in self._actions)
            if of_a_run and option in _training_options():
                return InputError(
                    f"option {option!r} is a setting of vaekit train, not of {self.prog}; "
                    "a run keeps those it began with"
                )
            return unknown("option", option, self.options[1:], more=f"{self.prog} --help")
        return InputError(f"argument {word!r} is one too many; write {self.usage_line()}")

    def number(
        self,
        flag: str,
        default: int | float | None,
        help: str,
        least: float = 1,
        most: float = MOST,
        unset: str = "all",
    ) -> None:
        """Add a flag that takes a number of `default`'s type (an int for None, which means `unset`) in a range."""
        kind = float if isinstance(default, float) else int
        word = "a whole number" if kind is int else "a number"
        allowed = limits(Leaf("", ge=least, lt=2**63) if most == _LARGEST else Leaf("", ge=least, le=most))

        def parse(text: str) -> int | float:
            try:
                value = kind(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise argparse.ArgumentTypeError(f"{text!r} is not {word}; give {word} ({allowed})")
            if not least <= value <= most:
                raise argparse.ArgumentTypeError(f"{text} is out of range; give {word} ({allowed})")
            return value

        shown = facts(unset if default is None else default, allowed)
        metavar = "N" if kind is int else "X"
        self.add_argument(flag, type=parse, default=default, metavar=metavar, help=f"{help} {shown}")

    def numbers(self, flag: str, default: float, help: str, least: float = 0, most: float = MOST) -> None:
        """Add a flag that takes one number or several, with commas between them, each from `least` to `most`."""
        allowed = limits(Leaf("", ge=least, le=most))

        def parse(text: str) -> list[float]:
            try:
                values = [float(part) for part in text.split(",")]
            except ValueError:
                values = []
            if not values or not all(least <= value <= most for value in values):
                raise argparse.ArgumentTypeError(
                    f"{text!r} is no list of numbers; give numbers ({allowed}), such as 1,0.8"
                )
            return values

        self.add_argument(flag, type=parse, default=[default], metavar="LIST", help=f"{help} {facts(default, allowed)}")

    def seed(self, help: str) -> None:
        """Add ``--seed``."""
        self.number("--seed", 0, help, least=0, most=_LARGEST)

    def one_of(self, flag: str, names: Iterable[str], default: str, help: str) -> None:
        """Add a flag that takes one of some names."""
        known = tuple(names)

        def parse(text: str) -> str:
            if text not in known:
                raise argparse.ArgumentTypeError(str(unknown("", text, known)).strip())
            return text

        text = f"{help}: {', '.join(known)} {facts(default)}"
        self.add_argument(flag, type=parse, default=default, metavar="NAME", help=text)

    def optional(self, flag: str) -> None:
        """Let a flag that must be given be left out."""
        self._option_string_actions[flag].required = False

    def run(self) -> None:
        """Add the run, and where its data are."""
        self.add_argument("run", metavar="RUN", help="run folder")
        self.data_dir()

    def model(self) -> None:
        """Add the model, and where its data are."""
        self.add_argument(
            "run",
            metavar="RUN",
            help="run folder, model.safetensors file, or name of a model that comes along (vaekit list shipped)",
        )

    def applied(self) -> None:
        """Add the model, own images, where the run's data are, and where to compute."""
        self.model()
        self.add_argument(
            "images", metavar="IMAGES", help="a file, folder or archive of images, .npy, .npz, or a data set's name"
        )
        self.one_of("--device", ("auto", "cpu", "cuda"), "auto", "where to compute")
        self.data_dir()

    def data_dir(self) -> None:
        """Add ``--data-dir``."""
        self.add_argument(
            "--data-dir",
            metavar="DIR",
            help="folder that holds data sets as DIR/mnist/... [variable VAEKIT_DATA, else a download]",
        )

    def json(self, what: str) -> None:
        """Add ``--json``."""
        self.add_argument("--json", action="store_true", help=f"print {what} as a JSON object")

    def split(self) -> None:
        """Add ``--split``."""
        self.one_of("--split", ("train", "val", "test"), "test", "images of the run's data to use")

    def measuring(self, samples: int) -> None:
        """Add how bounds are measured: importance samples, images, noise and device."""
        self.number("--importance-samples", samples, "importance samples for each image: more are surer")
        self.number("--limit", None, "use only N images, evenly spread", most=10**9)
        self.seed("seed of the evaluation's noise")
        self.one_of("--device", ("auto", "cpu", "cuda"), "auto", "where to compute")
        self.data_dir()

    def inputs(self, count: int, counted: str, film: str = "", folder: bool = False) -> None:
        """Add the arguments of verbs that read images and write images; for the last two see `out`."""
        self.model()
        self.out(film, folder)
        self.number("--count", count, counted)
        self.split()
        self.add_argument(
            "--images",
            metavar="PATH",
            help="own images in place of a split: a file, folder or archive of images, .npy, or .npz with labels",
        )
        self.data_dir()
        self.json("where the images are")

    def out(self, film: str = "", folder: bool = False) -> None:
        """Add ``--out`` for images; `film` says what a .gif would show, `folder` whether it may be one."""
        self.add_argument(
            "--out",
            metavar="FILE",
            required=True,
            help=f"file to write: .png, {f'.gif ({film}), ' if film else ''}"
            "or .npy (an array: images, height, width, channels; from 0 to 1)"
            + ("; or a folder, where --images is one: every image under its name, at its size" if folder else ""),
        )


def _training_options() -> set[str]:
    from vaekit.config import every_flag
    from vaekit.settings import Config

    return {"--preset", *(flag.option for flag in every_flag(Config()))}
