"""What a node may say to the gateway. Unknown fields are ignored: a newer agent can talk to an older gateway."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fabric.gateway.refusals import malformed

LIMIT = 16 * 1024

_Word = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]
_Text = Annotated[str, Field(max_length=256, pattern=r"^[\x20-\x7e]*$")]


class Message(BaseModel):
    """Anything a node says."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class JoinRequest(Message):
    """A node asks to join: with a ticket the first time, with token and credential after a restart of its agent.

    Attributes:
        ticket: the one-time ticket from the user data.
        token, credential: what an earlier join was answered with.
        nonce: random and kept over retries: it tells a repeated request from a second machine.
        python, ray: versions on the node.
        clock: the node's Unix time.
        hostname: for people.
        report_only: the boot script has found that this machine cannot join and only says so; it is never let in.
    """

    ticket: _Word | None = None
    token: _Word | None = None
    credential: _Word | None = None
    nonce: _Word
    python: _Text
    ray: _Text
    clock: float
    hostname: _Text = ""
    report_only: bool = False

    @model_validator(mode="after")
    def _one_proof(self) -> JoinRequest:
        if self.ticket is None and (self.token is None or self.credential is None):
            raise ValueError("either ticket, or token and credential, must be given")
        return self


class Notice(Message):
    """The cloud will take the machine back at ``reclaim_at`` (Unix seconds)."""

    reclaim_at: float


class LeaseRequest(Message):
    """A node asks for more time."""

    token: _Word
    credential: _Word
    notice: Notice | None = None


M = TypeVar("M", bound=Message)


def parse(kind: type[M], body: bytes) -> M:
    """Read a request.

    Raises:
        RefusalError: it is not JSON, or not a request of that kind; the sentence names the field, never its value.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise malformed(f"The request cannot be read: {where}: {first['msg']}.") from None
