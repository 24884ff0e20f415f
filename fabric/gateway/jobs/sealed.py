"""Values of environment variables, sealed: users put passwords there, and others read the journal and evidence.

Each value is a Fernet token (https://github.com/fernet/spec: AES-128-CBC and HMAC-SHA256) under a key that only the
gateway and the controller read, ``secrets/submissions.key`` in the state directory. Names stay readable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from cryptography.fernet import Fernet, InvalidToken

from autoscaler.boot.trust import secret_file

_MARK = "sealed:"


class SealBrokenError(ValueError):
    """A sealed value cannot be opened: the key is another one, or the value was changed."""


class Seal:
    """Seals and opens submissions.

    Args:
        state: the state directory; the key is made there if missing.
    """

    def __init__(self, state: Path) -> None:
        self._fernet = Fernet(secret_file(state, "submissions.key", Fernet.generate_key).read_bytes())

    def close(self, submission: Mapping[str, Any]) -> dict[str, Any]:
        """``submission`` with every value of ``runtime_env.env_vars`` sealed."""
        return _each_value(submission, lambda value: _MARK + self._fernet.encrypt(value.encode()).decode())

    def open(self, submission: Mapping[str, Any]) -> dict[str, Any]:
        """The submission as the user sent it.

        Raises:
            SealBrokenError: a value was sealed with another key, or changed since.
        """
        return _each_value(submission, self._opened)

    def _opened(self, value: str) -> str:
        # What an older gateway wrote is in the clear.
        if not value.startswith(_MARK):
            return value
        try:
            return self._fernet.decrypt(value.removeprefix(_MARK)).decode()
        except InvalidToken as error:
            what = "an environment variable of the job was sealed with another key"
            raise SealBrokenError(f"{what}; put secrets/submissions.key back, or submit the job again") from error


def _each_value(submission: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    env = submission.get("runtime_env")
    variables = cast("Mapping[str, Any]", env).get("env_vars") if isinstance(env, Mapping) else None
    if not isinstance(variables, Mapping):
        return dict(submission)
    changed = {name: change(value) for name, value in cast("Mapping[str, str]", variables).items()}
    return {**submission, "runtime_env": {**cast("Mapping[str, Any]", env), "env_vars": changed}}
