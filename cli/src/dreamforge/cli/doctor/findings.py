"""What a check finds: a fact, whether it is a fault, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How a finding is to be taken. NOTE: right for some installations. Only a FAULT keeps something from working."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `check` groups lines; `remedy` is empty where there is nothing to do."""

    check: str
    severity: Severity
    fact: str
    remedy: str = ""


def ok(check: str, fact: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Severity.OK, fact)


def note(check: str, fact: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(check, Severity.NOTE, fact, remedy)


def warning(check: str, fact: str, remedy: str) -> Finding:
    """Works now, and may not later or not as fast as it could."""
    return Finding(check, Severity.WARNING, fact, remedy)


def fault(check: str, fact: str, remedy: str) -> Finding:
    """Keeps the installation, or a part of it, from working."""
    return Finding(check, Severity.FAULT, fact, remedy)


def has_fault(findings: Iterable[Finding]) -> bool:
    """Whether something keeps the installation from working.

    >>> has_fault([ok("disk", "100 GiB free"), fault("disk", "full", "make room")])
    True
    """
    return any(finding.severity is Severity.FAULT for finding in findings)
