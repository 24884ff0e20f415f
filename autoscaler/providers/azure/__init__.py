"""Azure as a provider, behind ``azure-mgmt-compute``; the SDK is imported with the first call."""

from autoscaler.providers.azure.provider import AzureProvider, from_site

__all__ = ["AzureProvider", "from_site"]
