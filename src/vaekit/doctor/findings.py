"""What the doctor says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["illness", "warning", "remark"]
SEVERITIES: tuple[Severity, ...] = ("illness", "warning", "remark")


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        name: of the rule, such as ``posterior-collapse``.
        severity: ``illness`` (the run does not do what it was made for), ``warning`` (it could do clearly better, or
            soon may fail) or ``remark`` (worth knowing, does no harm).
        headline: one sentence.
        evidence: the run's own numbers that say so, in sentences.
        remedy: what to do, with the settings to change as they are written on the command line.
        concerns: the epochs, latents or layers it is about, in words; None where it is about the whole run.
        numbers: the evidence by name, for programs.
    """

    name: str
    severity: Severity
    headline: str
    evidence: str
    remedy: str
    concerns: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Examination:
    """All that was found in a run, gravest first.

    Attributes:
        findings: what was found.
        checked: what was looked at, in words.
        unchecked: what could not be looked at, and why.
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    unchecked: tuple[str, ...] = ()

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def healthy(self) -> bool:
        """Whether there is neither an illness nor a warning."""
        return not self.of("illness") and not self.of("warning")

    def to_json(self) -> dict[str, Any]:
        """As ``vaekit doctor --json`` prints it."""
        return {"healthy": self.healthy, **asdict(self)}


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Gravest first, else in the order found."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def several(count: int, word: str, plural: str = "") -> str:
    """
    >>> several(1, "latent"), several(3, "latent"), several(2, "illness", "illnesses")
    ('1 latent', '3 latents', '2 illnesses')
    """
    return f"{count:,} {word if count == 1 else plural or word + 's'}"


def span(numbers: Sequence[int]) -> str:
    """Whole numbers in rising order, neighbours joined.

    >>> span([1, 2, 3, 7, 9, 10])
    '1-3, 7, 9-10'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def in_words(examination: Examination, name: str) -> str:
    """The examination of run `name` as ``vaekit doctor`` prints it."""
    counts = [
        several(len(examination.of(severity)), severity, plural)
        for severity, plural in zip(SEVERITIES, ("illnesses", "warnings", "remarks"), strict=True)
        if examination.of(severity)
    ]
    looked = "looked at " + ", ".join(examination.checked)
    first = f"{name}: healthy; {looked}" if examination.healthy else f"{name}: {', '.join(counts)}; {looked}"
    blocks = [first]
    for finding in examination.findings:
        about = f" [{finding.concerns}]" if finding.concerns else ""
        blocks.append(
            f"{finding.severity}: {finding.headline}{about}\n"
            f"  evidence: {finding.evidence}\n  remedy:   {finding.remedy}"
        )
    blocks += [f"not looked at: {reason}" for reason in examination.unchecked]
    return "\n\n".join(blocks)


def in_a_line(finding: Finding) -> str:
    """A finding for the log of a training."""
    return f"doctor: {finding.severity}: {finding.headline} {finding.remedy}"
