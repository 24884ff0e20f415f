"""The boot script of one of your own machines, with a fresh one-time ticket in it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from autoscaler.boot.script import BootSpec
from autoscaler.boot.trust import gateway_endpoint
from fabric.cli.programs import LocalNode
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.gateway.onprem import issue_onprem_ticket
from fabric.journal.base import Journal


def spec_for(
    config: Config,
    journal: Journal,
    node: LocalNode,
    *,
    clock: Callable[[], float],
    work_dir: Path | None = None,
    temp_dir: Path | None = None,
) -> BootSpec:
    """What an on-prem machine needs to know to join; issues its ticket, which voids every earlier one.

    Args:
        config: with absolute paths.
        journal: where the ticket's intent is written.
        node: the machine.
        clock: Unix seconds.
        work_dir: for a node on this very machine, which then also shares the head's address and Python; None for
            a machine of its own.
        temp_dir: with ``work_dir``, Ray's session directory; two raylets that start together in one would share a
            socket, so each has its own.
    """
    name = f"{node.site}.{node.node_type}"
    node_type = node_types(config)[name]
    token, ticket = issue_onprem_ticket(
        journal, site=node.site, node_type=name, node=node.node, clock=clock, labels=node_type.labels
    )
    endpoint = gateway_endpoint(Path(config.fabric.state), config.listen.gateway, advertise=config.ray.address)
    local = work_dir is not None
    return BootSpec(
        token=token,
        site=node.site,
        node_type=name,
        ticket=ticket.text,
        gateway=endpoint.url,
        fingerprint=endpoint.fingerprint,
        python=".".join(platform.python_version_tuple()[:2]),
        ray=version("ray"),
        resources=node_type.resources.to_dict(),
        labels=node_type.labels,
        lease_s=config.burst.lease,
        boot_deadline_s=config.burst.join_deadline,
        work_dir=str(work_dir) if local else "/var/lib/fabric",
        node_address=config.ray.address if local else "",
        object_store_bytes=config.ray.object_store if local else None,
        temp_dir=str(temp_dir) if temp_dir is not None else "",
        interpreter=sys.executable if local else "",
    )
