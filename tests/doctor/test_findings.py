"""What the doctor says, in words and as JSON."""

from __future__ import annotations

from vaekit.doctor.findings import Examination, Finding, in_a_line, in_words, ranked

ILL = Finding("first", "illness", "It is ill.", "Seen so.", "Set --beta 1.", "epochs 3-4", {"rate": 0.5})
WARNED = Finding("second", "warning", "It may fail.", "Seen.", "Wait.")
REMARK = Finding("third", "remark", "It is so.", "Seen.", "None.")


def test_the_gravest_come_first_and_remarks_are_healthy():
    found = Examination(ranked([REMARK, WARNED, ILL]), ("dead units",))
    assert found.findings == (ILL, WARNED, REMARK)
    assert not found.healthy
    assert not Examination((WARNED,), ()).healthy
    assert Examination((REMARK,), ()).healthy


def test_words_hold_all_of_a_finding():
    text = in_words(Examination((ILL, REMARK), ("dead units",), ("weights: none",)), "runs/a")
    first, ill, *_, last = text.split("\n\n")
    assert first == "runs/a: 1 illness, 1 remark; looked at dead units"
    assert ill == "illness: It is ill. [epochs 3-4]\n  evidence: Seen so.\n  remedy:   Set --beta 1."
    assert last == "not looked at: weights: none"


def test_a_healthy_run_is_one_line():
    assert in_words(Examination((), ("collapse", "dead units")), "a") == "a: healthy; looked at collapse, dead units"


def test_a_line_and_json():
    assert in_a_line(ILL) == "doctor: illness: It is ill. Set --beta 1."
    stored = Examination((ILL,), ("dead units",)).to_json()
    assert stored["healthy"] is False
    assert stored["findings"][0]["numbers"] == {"rate": 0.5}
