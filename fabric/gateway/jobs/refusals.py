"""Every way the Jobs API says no. Where Ray says the same, it is in Ray's words."""

from __future__ import annotations

from fabric.gateway.refusals import RefusalError, duration


def bad_request(code: str, sentence: str, remedy: str = "") -> RefusalError:
    """The request is not what it should be."""
    return RefusalError(400, code, sentence, remedy)


def not_there(job: str) -> RefusalError:
    """No such job, or none that the caller may know of: both are told the same."""
    return RefusalError(404, "no_such_job", f"Job {job[:200]} does not exist", "")


def package_not_there(uri: str) -> RefusalError:
    """No such package."""
    return RefusalError(404, "no_such_package", f"Package {uri[:300]} does not exist", "")


def only_submissions(verb: str) -> RefusalError:
    """A driver that was not submitted cannot be stopped or deleted here, and has no logs."""
    return bad_request("not_a_submission", f"Can only {verb} submission type jobs")


def already_there(job: str) -> RefusalError:
    """The id has been used, by whomever."""
    return bad_request(
        "duplicate", f"Job with submission_id {job} already exists. Please use a different submission_id."
    )


def not_over(job: str, status: str) -> RefusalError:
    """Only what is over can be deleted."""
    return bad_request(
        "not_over", f"RuntimeError: Attempted to delete job '{job}', but it is in a non-terminal state {status}."
    )


def may_not(what: str, needed: str) -> RefusalError:
    """The caller's roles do not allow it."""
    return RefusalError(
        403,
        "forbidden",
        f"Your token may not {what}: that needs the role {needed}.",
        "Ask an operator for a token with it.",
    )


def too_many_waiting(team: str, limit: int) -> RefusalError:
    """The team's part of the queue is full."""
    whose = f"Team {team}" if team else "Jobs without a team"
    return RefusalError(
        429,
        "queue_full",
        f"{whose} {'has' if team else 'have'} {limit} jobs waiting, which is as many as queue.waiting allows.",
        "Submit again when some of them have started, or stop some.",
    )


def too_often(wait_s: float) -> RefusalError:
    """Over the rate limit."""
    return RefusalError(
        429,
        "too_often",
        "You ask more often than access.requests_per_second allows.",
        f"Ask again after {duration(max(wait_s, 1.0))}.",
        retry_after_s=wait_s,
    )


def body_too_large(limit: int, key: str) -> RefusalError:
    """More bytes than the configuration lets in."""
    return RefusalError(
        413,
        "too_large",
        f"The request body is larger than {limit} bytes, the limit {key} of this fabric.",
        "Leave out what the job does not need (.rayignore, runtime_env excludes), or have it fetch large data itself.",
    )


def too_slow() -> RefusalError:
    """The body did not come."""
    return RefusalError(408, "too_slow", "The request body did not arrive in time.", "Send it again.")


def unsafe_package(name: str, why: str) -> RefusalError:
    """The archive would not be safe to unpack."""
    return bad_request("unsafe_package", f"The package {name} is not accepted: {why}.", "Nothing was stored.")


def packages_full(limit: int) -> RefusalError:
    """Jobs that are not finished need everything that is stored."""
    return RefusalError(
        503,
        "packages_full",
        f"There is no room for this package: jobs that are not finished need what is stored, and all uploads together "
        f"may take {limit} bytes (access.uploads).",
        "Submit again when some jobs are done, or ask operations for more room.",
    )


def disk_full() -> RefusalError:
    """The file system would not take it."""
    return RefusalError(
        503,
        "disk_full",
        "The package cannot be stored: the disk of the gateway is full or cannot be written.",
        "Nothing was stored; tell operations, and submit again later.",
    )


def ray_silent() -> RefusalError:
    """Ray itself is needed for the answer, and does not give one."""
    return RefusalError(503, "ray_silent", "Ray's head does not answer now.", "Ask again; the queue is kept meanwhile.")
