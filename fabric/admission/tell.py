"""Why a job starts, waits, gives way or cannot run, each as one plain sentence."""

from __future__ import annotations

from fabric.admission.values import Admission, Doomed, Preemption, Waiting


def admission_sentence(admission: Admission) -> str:
    """Why a job starts."""
    return f"{admission.job} starts ({admission.reason.value})."


def waiting_sentence(waiting: Waiting, now: float) -> str:
    """Place in the line, what it waits for, when it would start at home, when and for how much it may burst."""
    del now
    return f"{waiting.job} waits ({waiting.reason.value})."


def preemption_sentence(preemption: Preemption) -> str:
    """Why a running attempt is stopped."""
    return f"{preemption.job} gives way to {preemption.for_job}, which has a higher priority."


def doomed_sentence(doomed: Doomed) -> str:
    """Why a waiting job is failed."""
    return f"{doomed.job} cannot run ({doomed.reason.value})."
