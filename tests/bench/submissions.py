"""Submitting through the gateway against submitting straight to Ray, and with many who ask how their jobs stand.

    python -m tests.bench.submissions [--jobs 2000] [--pollers 1000] [--ray]

The gateway is the real process over a real journal; every submission it answers is on disk. With ``--ray`` a Ray head
is started beside it, and single submissions to its own Jobs API are timed after ours.

* latency: one submission after the other, with a new connection each, as the command line makes them;
* throughput: 64 clients that submit as fast as they are answered;
* pollers: both again while that many clients ask for the status of a job once a second each, as ``ray job`` does. They
  are a process of their own, and take processor time from the clients and the gateway wherever they ask. How much that
  is shows a control: the same pollers asking a bare server that has nothing to do with the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event as Flag

import aiohttp
from aiohttp import web

from tests.conftest import wait_until
from tests.fabrics import Fabric
from tests.sandboxes import unused_port

_CLIENTS = 64
_OPEN = "access: {requests_per_second: 100000, requests_burst: 100000}"
_JOB = {"entrypoint": "true"}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--pollers", type=int, default=1000)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    fabric = Fabric(more=_OPEN)
    try:
        if options.ray:
            fabric.start_head()
        fabric.start("gateway")
        ours = f"http://127.0.0.1:{fabric.ports['gateway']}"
        token = fabric.user_token.read_text().strip()
        _latency("gateway", ours, token, 200)
        if options.ray:
            _latency("Ray", f"http://127.0.0.1:{fabric.ports['dashboard']}", fabric.token_path.read_text().strip(), 20)
        alone = asyncio.run(_throughput(ours, token, options.jobs))
        print(f"throughput: {alone:.0f} durable submissions/s from {_CLIENTS} clients")
        with _bare_server() as bare, _pollers(bare, token, options.pollers, "x"):
            _beside("pollers of a bare server (control)", ours, token, options.jobs, alone)
        with _pollers(ours, token, options.pollers, _submit(ours, token)):
            _beside("pollers of the gateway", ours, token, options.jobs, alone)
    finally:
        fabric.close()
    return 0


def _latency(name: str, url: str, token: str, count: int) -> None:
    async def measure() -> list[float]:
        times: list[float] = []
        for _ in range(count):
            begun = time.perf_counter()
            async with _session(url, token) as session, session.post("/api/jobs/", json=_JOB) as answer:
                answer.raise_for_status()
                await answer.read()
            times.append(time.perf_counter() - begun)
        return times

    wait_until(lambda: _answers(url, token), 60, f"{name} to answer")
    times = sorted(asyncio.run(measure()))
    print(
        f"latency of one submission to {name}: median {statistics.median(times) * 1000:.1f} ms, "
        f"95 % within {times[len(times) * 95 // 100] * 1000:.1f} ms ({count} submissions)"
    )


def _answers(url: str, token: str) -> bool:
    async def ask() -> bool:
        try:
            async with _session(url, token) as session, session.get("/api/version") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    return asyncio.run(ask())


async def _throughput(url: str, token: str, jobs: int) -> float:
    left = jobs
    async with _session(url, token) as session:

        async def client() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                async with session.post("/api/jobs/", json=_JOB) as answer:
                    answer.raise_for_status()

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(_CLIENTS)))
        return jobs / (time.perf_counter() - begun)


def _beside(what: str, url: str, token: str, jobs: int, alone: float) -> None:
    _latency(f"gateway, {what}", url, token, 200)
    beside = asyncio.run(_throughput(url, token, jobs))
    print(f"throughput, {what}: {beside:.0f} submissions/s, {beside / alone:.0%} of that alone")


def _submit(url: str, token: str) -> str:
    async def one() -> str:
        async with _session(url, token) as session, session.post("/api/jobs/", json=_JOB) as answer:
            return (await answer.json())["submission_id"]

    return asyncio.run(one())


@contextmanager
def _pollers(url: str, token: str, count: int, job: str) -> Iterator[None]:
    """Clients that ask for a job once a second each."""
    ready, stop = multiprocessing.Event(), multiprocessing.Event()
    asked = multiprocessing.Value("l", 0)
    process = multiprocessing.Process(target=_poll, args=(url, token, count, job, ready, stop, asked))
    process.start()
    ready.wait(60)
    begun, before = time.perf_counter(), asked.value
    yield
    print(f"  answers to {count} pollers meanwhile: {(asked.value - before) / (time.perf_counter() - begun):.0f}/s")
    stop.set()
    process.join()


def _poll(url: str, token: str, count: int, job: str, ready: Flag, stop: Flag, asked: object) -> None:
    async def poller(session: aiohttp.ClientSession, first: float) -> None:
        await asyncio.sleep(first)
        while not stop.is_set():
            begun = time.perf_counter()
            async with session.get(f"/api/jobs/{job}") as answer:
                answer.raise_for_status()
                await answer.read()
            asked.value += 1  # type: ignore[attr-defined]
            await asyncio.sleep(max(0.0, 1.0 - (time.perf_counter() - begun)))

    async def run() -> None:
        async with _session(url, token) as session:
            tasks = [asyncio.create_task(poller(session, number / count)) for number in range(count)]
            await asyncio.sleep(1.5)
            ready.set()
            await asyncio.gather(*tasks)

    asyncio.run(run())


@contextmanager
def _bare_server() -> Iterator[str]:
    """A server that answers everything with an empty object."""
    port = unused_port()
    process = multiprocessing.Process(target=_serve_bare, args=(port,))
    process.start()
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: _answers(url, ""), 30, "the bare server")
    yield url
    process.terminate()
    process.join()


def _serve_bare(port: int) -> None:
    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.json_response({})

    async def run() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    asyncio.run(run())


def _session(url: str, token: str) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {token}"}
    return aiohttp.ClientSession(url, headers=headers, connector=aiohttp.TCPConnector(limit=0))


if __name__ == "__main__":
    sys.exit(main())
