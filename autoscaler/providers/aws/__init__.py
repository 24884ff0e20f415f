"""AWS: EC2 instances of a site, through boto3's core, which is imported when such a site makes its first call.

``provider.py`` is the contract; ``requests.py`` and ``replies.py`` are pure translation; ``client.py`` is the only door
to the SDK; ``errors.py`` and ``quotas.py`` are tables; ``preflight.py`` is ``check``.
"""

from __future__ import annotations

from autoscaler.providers.aws.provider import AwsProvider, from_site

__all__ = ["AwsProvider", "from_site"]
