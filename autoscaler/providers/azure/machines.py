"""The calls on virtual machines that the provider makes, each with its typed errors."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autoscaler.providers.azure.connect import Connection, reply_time_ms
from autoscaler.providers.azure.permissions import DELETE, READ, WRITE
from autoscaler.providers.azure.reply import is_running
from autoscaler.providers.base import TAG_OWNER, NotFoundError, ProviderError
from fabric.config.sites import AzureSite

# A machine that ran is looked at again only after so long: whether it stopped by itself is in no listing.
VIEW_EVERY_S = 60.0
_AT_ONCE = 16
# States in which a machine has no power state that matters.
_ON_ITS_WAY = ("Creating", "Deleting")


class Machines:
    """Virtual machines of one site's resource group; safe to use from several threads.

    Args:
        site: its block.
        owner: value of the owner tag; nothing else is shown.
        connection: the way to Azure.
        view_every_s: seconds between two looks at whether a running machine still runs.
    """

    def __init__(self, site: AzureSite, owner: str, connection: Connection, view_every_s: float = VIEW_EVERY_S) -> None:
        self._group = site.resource_group
        self._owner = owner
        self._connection = connection
        self._view_every_s = view_every_s
        self._ran: dict[str, float] = {}
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

    def owned(self) -> list[Any]:
        """Every machine of ours, all pages; with an instance view where it was time to look.

        Raises:
            ProviderError: a page could not be read; a part of a listing is no listing.
        """
        # A listing takes $expand with a filter by scale set only, so the views are read one by one.
        everything: list[Any] = self._connection.call(
            READ,
            lambda client: list(client.virtual_machines.list(self._group, raw_response_hook=self._note_clock)),
        )
        ours = [one for one in everything if one.tags and one.tags.get(TAG_OWNER) == self._owner]
        for gone in self._ran.keys() - {str(one.name) for one in ours}:
            self._ran.pop(gone, None)
        if not ours:
            return []
        with ThreadPoolExecutor(min(_AT_ONCE, len(ours)), thread_name_prefix="azure-view") as pool:
            return [one for one in pool.map(self._looked_at, ours) if one is not None]

    def delete(self, name: str) -> None:
        """Ask for the end of a machine; its disk, interface and address go with it. One that is gone is no error.

        Raises:
            ProviderError: refused.
        """
        self._connection.call(
            DELETE, lambda client: client.virtual_machines.begin_delete(self._group, name, polling=False)
        )

    def _looked_at(self, listed: Any) -> Any:
        """The machine with its view, or as it was listed; None if it is gone."""
        name = str(listed.name)
        recently = time.monotonic() - self._ran.get(name, float("-inf")) < self._view_every_s
        if listed.provisioning_state in _ON_ITS_WAY or recently:
            return listed
        self._ran.pop(name, None)
        try:
            found = self.get(name)
        except NotFoundError:
            return None
        except ProviderError:
            # It is there; whether it runs is asked with the next listing.
            return listed
        if is_running(found):
            self._ran[name] = time.monotonic()
        return found

    def _note_clock(self, response: Any) -> None:
        self.clock_ms = reply_time_ms(response.http_response.headers) or self.clock_ms
