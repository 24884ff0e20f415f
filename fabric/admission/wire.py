"""Needs and admissions as the journal keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fabric.admission.tell import admission_sentence
from fabric.admission.values import Admission
from fabric.model.jobs import Needs
from fabric.model.resources import Resources


def needs_data(needs: Needs) -> dict[str, Any]:
    """``needs`` as a JSON object; ``needs_of`` reads it back."""
    data = asdict(needs)
    return {**data, "bundle": needs.bundle.to_dict(), "entrypoint": needs.entrypoint.to_dict()}


def needs_of(data: Mapping[str, Any]) -> Needs:
    """The inverse of ``needs_data``; keys that an older program did not write have their defaults."""
    known = {key: value for key, value in data.items() if key in Needs.__dataclass_fields__}
    for key in ("bundle", "entrypoint"):
        if key in known:
            known[key] = Resources.of(known[key])
    for key in ("datasets", "after"):
        if key in known:
            known[key] = tuple(known[key])
    return Needs(**known)


def admission_data(admission: Admission) -> dict[str, Any]:
    """The data of the ``job.admitted`` entry; the fold in ``records`` reads it back."""
    return {
        "job": admission.job,
        "attempt": admission.attempt,
        "ray_id": admission.ray_id,
        "sites": list(admission.sites),
        "selector": dict(admission.selector),
        "reasons": [admission_sentence(admission)],
        "price_per_hour": admission.price_per_hour,
        "nodes": dict(admission.nodes),
        "driver": admission.driver,
        "egress": admission.egress,
        "charge": admission.charge,
    }
