"""Request bodies: bounded in size and in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request

from fabric.gateway.jobs.packages import PackageStore
from fabric.gateway.jobs.refusals import bad_request, body_too_large, too_slow

BODY_TIMEOUT_S = 30.0
_BATCH = 1024**2
# An upload that is slower than this on average, after a first minute, gives its place to others.
_SLOWEST_BYTES_PER_S = 16 * 1024
_FIRST_S = 60.0


async def read_body(request: Request, limit: int, key: str) -> bytes:
    """All of a small body.

    Raises:
        RefusalError: 413 for more than ``limit`` bytes, which the configuration calls ``key``; 408 for too slow.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise body_too_large(limit, key)
    except TimeoutError:
        raise too_slow() from None
    except ClientDisconnect:
        raise bad_request("malformed", "The request ended before its body.") from None
    return bytes(body)


InThread = Callable[..., Awaitable[Any]]


async def read_upload(request: Request, packages: PackageStore, team: str, name: str, in_thread: InThread) -> None:
    """A package, from the connection to the store, never all of it in memory. ``in_thread`` calls what blocks.

    Raises:
        RefusalError: it is not accepted; nothing of it is left.
    """
    length = request.headers.get("content-length", "")
    upload = await in_thread(packages.receive, team, name, int(length) if length.isdigit() else None)
    begun, batch = time.monotonic(), bytearray()
    try:
        chunks = request.stream()
        while True:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            batch += chunk
            if len(batch) >= _BATCH:
                await in_thread(upload.write, bytes(batch))
                batch.clear()
            if time.monotonic() - begun > _FIRST_S + upload.size / _SLOWEST_BYTES_PER_S:
                raise too_slow()
        await in_thread(upload.write, bytes(batch))
        await in_thread(upload.keep)
    except TimeoutError:
        raise too_slow() from None
    except ClientDisconnect:
        raise bad_request("malformed", "The upload ended before its body did.") from None
    finally:
        await in_thread(upload.drop)
