"""Google Cloud as a provider, behind ``google-cloud-compute``; the SDK is imported with the first call."""

from autoscaler.providers.gcp.provider import GcpProvider, from_site

__all__ = ["GcpProvider", "from_site"]
