"""The badge of an attempt: proof that a Ray job is the one that was admitted, which no other job can make."""

from __future__ import annotations

import hashlib
import hmac

JOB, ATTEMPT, BADGE = "FABRIC_JOB", "FABRIC_ATTEMPT", "FABRIC_BADGE"
DATA_CLASS, SITES = "FABRIC_DATA_CLASS", "FABRIC_SITES"


def badge(key: bytes, job: str, attempt: int) -> str:
    """Make the badge of one attempt: HMAC-SHA256 (RFC 2104) over job and attempt, in hex.

    Args:
        key: the secret of ``autoscaler.boot.trust.guard_key_file``; only gateway and controller can read it.
        job: the user's submission id.
        attempt: the attempt's number, from 1.

    Raises:
        ValueError: the key is too short to be one; a badge made with it would prove nothing.
    """
    if len(key) < 32:
        raise ValueError(
            f"the guard key has {len(key)} bytes, at least 32 are needed; remove guard.key to make a new one"
        )
    # Length first, so that no other pair of job and attempt gives the same text.
    text = f"fabric badge 1\n{len(job.encode())}:{job}\n{attempt}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def badge_is_good(key: bytes, job: str, attempt: int, shown: str) -> bool:
    """Whether ``shown`` is the badge of this attempt; takes as long for a good one as for a bad one."""
    return hmac.compare_digest(badge(key, job, attempt).encode(), shown.encode(errors="replace"))
