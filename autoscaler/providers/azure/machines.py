"""The calls on virtual machines that the provider makes, each with its typed errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autoscaler.providers.azure.connect import Connection, reply_time_ms
from autoscaler.providers.base import TAG_OWNER
from fabric.config.sites import AzureSite

WRITE = "Microsoft.Compute/virtualMachines/write"
READ = "Microsoft.Compute/virtualMachines/read"
DELETE = "Microsoft.Compute/virtualMachines/delete"


class Machines:
    """Virtual machines of one site's resource group.

    Args:
        site: its block.
        owner: value of the owner tag; nothing else is shown.
        connection: the way to Azure.
    """

    def __init__(self, site: AzureSite, owner: str, connection: Connection) -> None:
        self._group = site.resource_group
        self._owner = owner
        self._connection = connection
        self.clock_ms = 0

    def create(self, name: str, body: dict[str, Any]) -> Any:
        """Ask for a machine that is not there yet; a poller of the operation.

        Raises:
            ProviderError: refused. ``PreconditionFailed``: a machine of that name is there.
        """
        return self._connection.call(
            WRITE,
            lambda client: client.virtual_machines.begin_create_or_update(
                self._group, name, body, headers={"If-None-Match": "*"}
            ),
        )

    def get(self, name: str) -> Any:
        """One machine with its instance view.

        Raises:
            NotFoundError: there is none.
            ProviderError: Azure could not be asked.
        """
        return self._connection.call(
            READ,
            lambda client: client.virtual_machines.get(
                self._group, name, expand="instanceView", raw_response_hook=self._note_clock
            ),
        )

    def owned(self) -> Iterator[Any]:
        """Every machine of ours, all pages, with instance views.

        Raises:
            ProviderError: a page could not be read; a part of a listing is no listing.
        """
        everything: list[Any] = self._connection.call(
            READ,
            lambda client: list(
                client.virtual_machines.list(self._group, expand="instanceView", raw_response_hook=self._note_clock)
            ),
        )
        return (one for one in everything if one.tags and one.tags.get(TAG_OWNER) == self._owner)

    def delete(self, name: str) -> None:
        """Ask for the end of a machine; its disk, interface and address go with it. One that is gone is no error.

        Raises:
            ProviderError: refused.
        """
        self._connection.call(
            DELETE, lambda client: client.virtual_machines.begin_delete(self._group, name, polling=False)
        )

    def _note_clock(self, response: Any) -> None:
        self.clock_ms = reply_time_ms(response.http_response.headers) or self.clock_ms
