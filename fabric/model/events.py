"""Every kind of journal entry, and the fields each carries.

Times inside the data are Unix milliseconds (``_ms``) when money depends on them and Unix seconds (``_s`` or
``at``) otherwise. A token names one launch for ever: it is the idempotency key of the cloud call, a tag on the
instance, and the key by which every fold joins these entries.
"""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """Kinds of journal entry. The comment on each lists its data fields."""

    FABRIC_STARTED = "fabric.started"  # process, pid, config_digest, rules{} (controller: where data may go)
    FABRIC_STOPPING = "fabric.stopping"  # process
    CONFIG_LOADED = "config.loaded"  # digest, path, rules{} (where data may go)
    CONFIG_REJECTED = "config.rejected"  # digest, path, problems[]
    DECISION = "decision"  # snapshot (digest and what is needed to recompute), decision, sentences
    LAUNCH_INTENDED = "launch.intended"  # token, site, node_type, offer, zone, market, per_hour, minimum_seconds,
    # ticket_sha256, ticket_expires_at, join_by, request_id, labels{}
    LAUNCH_ACCEPTED = "launch.accepted"  # token, instance, site, launched_at_ms
    LAUNCH_REFUSED = "launch.refused"  # token, offer, error, message, family (of a quota)
    LAUNCH_CANCELLED = "launch.cancelled"  # token, cause
    NODE_JOINED = "node.joined"  # token, site, node_type, python, ray, nonce_sha256, lease_until
    JOIN_REFUSED = "join.refused"  # ticket_sha256, reason, sentence, peer
    LEASE_RENEWED = "lease.renewed"  # token, until
    SPOT_NOTICE = "spot.notice"  # token, reclaim_at
    NODE_LOST = "node.lost"  # token, ray_node_id
    TERMINATE_INTENDED = "terminate.intended"  # token, instance, site, cause, by, idle_s (how long it had been idle)
    INSTANCE_ENDED = "instance.ended"  # token, instance, site, launched_at_ms, ended_at_ms, reason,
    # estimated (true where the provider no longer knew it)
    INSTANCE_ADOPTED = "instance.adopted"  # token, instance, site, launched_at_ms
    ORPHAN_FOUND = "orphan.found"  # token, instance, site, cause
    ONPREM_NODE_SEEN = "onprem.seen"  # node, node_type
    ONPREM_NODE_DEAD = "onprem.dead"  # node, node_type, since
    JOB_SUBMITTED = "job.submitted"  # job, user, team, token_id, data_class, needs{}, submission{}, code{}
    JOB_REJECTED = "job.rejected"  # job, user, team, reason, sentence
    JOB_ADMITTED = "job.admitted"  # job, attempt, ray_id, sites[], selector{}, reasons[], price_per_hour,
    # nodes{} (workers by node), driver, egress, charge, session (of the Ray cluster that is asked)
    JOB_STARTED = "job.started"  # job, attempt, ray_id, ray_job_id (hex id of its driver, where Ray has one yet)
    JOB_RAN_ON = "job.ran_on"  # job, attempt, ray_node_id, instance, site, node_type, market, first_s, last_s
    JOB_DENIED = "job.denied"  # job, ray_job_id, token, site, data_class, sentence (a guard refused a worker)
    JOB_STOP_ASKED = "job.stop_asked"  # job, by
    JOB_PREEMPTED = "job.preempted"  # job, attempt, by (the job it gives way to)
    ATTEMPT_ENDED = "job.attempt_ended"  # job, attempt, end, message, cause, retry_at (None: not tried again)
    JOB_FINISHED = "job.finished"  # job, phase, message
    JOB_DELETED = "job.deleted"  # job, by
    CLASS_WIDENED = "class.widened"  # data_class, sites[] (added), spot (added), path, digest, digest_before
    TOKEN_CREATED = "token.created"  # id, user, team, roles[], sha256, expires_at (None: never), by
    TOKEN_REVOKED = "token.revoked"  # id, by
