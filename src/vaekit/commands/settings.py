"""Settings of a configuration on the command line, for the verbs that train."""

from __future__ import annotations

from typing import Any

from vaekit.commands.arguments import Parser
from vaekit.config import every_flag
from vaekit.errors import InputError, unknown
from vaekit.settings import Config


def settings_given(parser: Parser, base: Config, words: list[str], form: str) -> dict[str, Any]:
    """Flat settings from ``--flag value``, ``--flag=value``, ``--flag`` and ``--no-flag``; their values stay texts.

    Args:
        parser: of the verb, whose own options are suggested too.
        base: has the settings that there are.
        words: what the parser left over.
        form: how the verb says where to write, for messages.

    Raises:
        InputError: for an unknown option, or one without its value.
    """
    kinds = {flag.name: flag.type for flag in every_flag(base)}
    known = [*parser.options, *(flag.option for flag in every_flag(base))]
    given: dict[str, Any] = {}
    help = f"{parser.prog} --help"
    position, last = 0, ""
    while position < len(words):
        word = words[position]
        position += 1
        option, equals, value = word.partition("=")
        name = option[2:].replace("-", "_")
        positive = name.removeprefix("no_")
        if not word.startswith("--"):
            raise _not_a_setting(word, last, known, help, form)
        if name not in kinds and kinds.get(positive) is bool:
            if equals or (position < len(words) and not words[position].startswith("-")):
                stray = value if equals else words[position]
                raise InputError(f"{option}: {stray!r} is not expected; write {option} alone")
            given[positive] = False
        elif name not in kinds:
            raise unknown("option", option, known, more=help)
        elif equals:
            given[name] = value
        elif position < len(words) and not words[position].startswith("--"):
            given[name], last = words[position], f"{option} {words[position]}"
            position += 1
        elif kinds[name] is bool:
            given[name] = True
        else:
            raise InputError(f"{option} has no value; write {option} VALUE")
    return given


def _not_a_setting(word: str, last: str, known: list[str], help: str, form: str) -> InputError:
    if word.startswith("-"):
        return unknown("option", word, known, more=help)
    if last:
        return InputError(f"argument {word!r} is not expected after {last}; write a list as {last},{word}")
    return InputError(f"argument {word!r} is not expected; write {form}, and settings as --name value")
