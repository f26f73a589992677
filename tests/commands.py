"""Commands run in this process, as the tests of the command line see them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from vaekit.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command gave back.

    Attributes:
        code: exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """Standard output as strict JSON: one object and nothing else."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        found = json.loads(self.out, parse_constant=refuse)
        assert isinstance(found, dict)
        return found


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Answer:
    """Run ``vaekit words...``."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return Answer(int(ended.value.code or 0), out, err)


def good(capsys: pytest.CaptureFixture[str], *words: object) -> Answer:
    """Run a command that must succeed."""
    answer = run(capsys, *words)
    assert answer.code == 0, answer.err
    return answer


def refused(capsys: pytest.CaptureFixture[str], *words: object, code: int = 2) -> str:
    """Run a command that must end with `code` and one sentence, which is returned."""
    answer = run(capsys, *words)
    assert answer.code == code, (words, answer)
    assert answer.out == ""
    last = answer.err.splitlines()[-1]
    if code == 2:
        assert answer.err == last + "\n", f"more than one line: {answer.err!r}"
    assert last.startswith("vaekit: ")
    sentence = last.removeprefix("vaekit: ")
    assert "Traceback" not in answer.err
    assert "VAEKIT_DEBUG" not in sentence, f"an error that nobody foresaw: {sentence}"
    assert len(sentence) < 400
    assert not sentence.endswith(".")
    return sentence
