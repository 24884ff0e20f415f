"""The sandbox cloud over HTTP. Every refusal is ``{"error": {"code": …, "message": …}}``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from autoscaler.sandbox.cloud import Cloud
from autoscaler.sandbox.errors import STATUS, CloudError, ErrorCode, LostReplyError
from autoscaler.sandbox.faults import Fault, FaultList, FaultView, Operation
from autoscaler.sandbox.wire import (
    PAGE_LIMIT,
    Bill,
    ErrorBody,
    ErrorDetail,
    Health,
    Identity,
    InstancePage,
    InstanceView,
    LaunchRequest,
    Offers,
    OfferView,
    PriceView,
    SpotNotice,
)

DESCRIPTION = """A pretended cloud with real processes: offers, instances, a bill, and every fault a cloud can have.
Prices are invented and nobody is charged. Times are Unix milliseconds, money is micro-USD."""

InstanceId = Annotated[str, Path(max_length=64)]


def make_app(cloud: Cloud, metadata_only_at: str | None = None) -> ASGIApp:
    """The API of one site.

    Args:
        cloud: the site.
        metadata_only_at: a listening address at which only ``/metadata`` is answered: the machines' side.
    """
    refusals: dict[int | str, dict[str, Any]] = {status: {"model": ErrorBody} for status in STATUS.values()}
    app = FastAPI(title=f"Sandbox cloud {cloud.site_name}", description=DESCRIPTION, responses=refusals)
    _add_error_replies(app)
    _add_instances(app, cloud)
    _add_money(app, cloud)
    _add_faults(app, cloud)
    _add_metadata(app, cloud)
    return _Gate(app, metadata_only_at)


def _add_instances(app: FastAPI, cloud: Cloud) -> None:
    @app.post("/v1/instances", status_code=202, tags=["instances"])
    def launch(request: LaunchRequest) -> InstanceView:
        """Ask for one instance; idempotent by token. It is pending until its boot delay is over."""
        return InstanceView.of(cloud.launch(request), cloud.site_name)

    @app.get("/v1/instances", tags=["instances"])
    def list_instances(
        owner: Annotated[str | None, Query(description="only with this `fabric-owner` tag")] = None,
        page: Annotated[str, Query(pattern=r"^\d{1,18}$", description="`next` of the page before")] = "0",
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
    ) -> InstancePage:
        """Instances in order of launch, ended ones for a day after their end."""
        records = cloud.page(owner, int(page), limit + 1)
        more = len(records) > limit
        shown = records[:limit]
        views = [InstanceView.of(record, cloud.site_name) for record in shown]
        return InstancePage(instances=views, next=str(shown[-1].seq) if more else None)

    @app.get("/v1/instances/{instance}", tags=["instances"])
    def show(instance: InstanceId) -> InstanceView:
        """One instance by id or token, however long ago it ended."""
        return InstanceView.of(cloud.get(instance), cloud.site_name)

    @app.get("/v1/instances/{instance}/console", tags=["instances"], response_class=PlainTextResponse)
    def console(instance: InstanceId, limit: Annotated[int, Query(ge=1, le=1 << 20)] = 65536) -> str:
        """The last bytes that its user data printed."""
        return cloud.console(cloud.get(instance), limit)

    @app.delete("/v1/instances/{instance}", status_code=202, tags=["instances"])
    def terminate(instance: InstanceId) -> InstanceView:
        """Ask for the end of an instance. Accepted is not ended: repeat until 404."""
        return InstanceView.of(cloud.terminate(instance), cloud.site_name)


def _add_money(app: FastAPI, cloud: Cloud) -> None:
    @app.get("/v1/offers", tags=["money"])
    def offers() -> Offers:
        """What can be bought now, and for how much; no promise of capacity."""
        cloud.faults.guard(Operation.OFFERS)
        views = [
            OfferView(
                id=offer.offer_id,
                node_type=offer.node_type,
                zone=offer.zone,
                market=offer.market,  # pyright: ignore[reportArgumentType] - only sold markets are offered
                per_hour_micro_usd=offer.tariff.per_hour,
                minimum_seconds=offer.tariff.minimum_seconds,
                boot_seconds=offer.boot_seconds,
                gpus=sold.gpus,
                gpu=sold.gpu,
                cpus=sold.cpus,
                memory_bytes=sold.memory,
            )
            for offer, sold in cloud.catalogue.offers()
        ]
        return Offers(site=cloud.site_name, offers=views)

    @app.get("/v1/prices", tags=["money"])
    def prices() -> list[PriceView]:
        """The price history of every offer, oldest first."""
        return [
            PriceView(
                at_ms=change.at_ms,
                node_type=change.node_type,
                zone=change.zone,
                market=change.market,  # pyright: ignore[reportArgumentType]
                per_hour_micro_usd=change.per_hour,
                cause=change.cause,
            )
            for change in cloud.store.prices()
        ]

    @app.get("/bill", tags=["money"])
    def bill(owner: str | None = None) -> Bill:
        """The meter, the ground truth about money: every instance there ever was."""
        return cloud.bill(owner)


def _add_faults(app: FastAPI, cloud: Cloud) -> None:
    @app.post("/v1/faults", status_code=201, tags=["faults"])
    def script(fault: Fault) -> FaultView:
        """Script a fault. `crash`, `price` and `spot_reclaim` of one instance happen at once; others stand."""
        return cloud.script(fault)

    @app.get("/v1/faults", tags=["faults"])
    def standing() -> FaultList:
        """Every fault that may still strike."""
        return FaultList(faults=cloud.faults.standing())

    @app.delete("/v1/faults", status_code=204, tags=["faults"])
    def clear_all() -> None:
        """Clear every fault."""
        cloud.faults.clear()

    @app.delete("/v1/faults/{number}", status_code=204, tags=["faults"])
    def clear(number: int) -> None:
        """Clear one fault."""
        if not cloud.faults.clear(number):
            raise CloudError(ErrorCode.FAULT_NOT_FOUND, f"no fault {number} stands")


def _add_metadata(app: FastAPI, cloud: Cloud) -> None:
    @app.get("/healthz", tags=["health"])
    def health() -> Health:
        """The server is up."""
        return Health(ok=True, site=cloud.site_name, live_instances=len(cloud.store.live()))

    @app.get("/metadata/{instance}", tags=["metadata"])
    def identity(instance: InstanceId) -> Identity:
        """What a machine can read about itself."""
        record = cloud.get(instance)
        return Identity(
            instance_id=record.id,
            site=cloud.site_name,
            node_type=record.node_type,
            zone=record.zone,
            market=record.market,  # pyright: ignore[reportArgumentType]
            address=record.address,
            launched_at_ms=record.launched_at_ms,
        )

    @app.get("/metadata/{instance}/spot", tags=["metadata"])
    def spot(instance: InstanceId) -> SpotNotice:
        """The spot notice; 404 until there is one."""
        reclaim_at_ms = cloud.get(instance).reclaim_at_ms
        if reclaim_at_ms is None:
            raise CloudError(ErrorCode.INSTANCE_NOT_FOUND, f"no notice for {instance}")
        return SpotNotice(reclaim_at=reclaim_at_ms / 1000, reclaim_at_ms=reclaim_at_ms)


def _add_error_replies(app: FastAPI) -> None:
    @app.exception_handler(CloudError)
    def refused(_request: Request, error: CloudError) -> Response:
        headers = {} if error.retry_after_s is None else {"retry-after": f"{error.retry_after_s:g}"}
        return _error(error.code, error.message, headers=headers)

    @app.exception_handler(LostReplyError)
    def lost(_request: Request, _error: LostReplyError) -> Response:
        return _BrokenOff()

    @app.exception_handler(RequestValidationError)
    def malformed(_request: Request, error: RequestValidationError) -> Response:
        problems = [f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in error.errors()]
        return _error(ErrorCode.INVALID_REQUEST, "; ".join(problems))

    @app.exception_handler(HTTPException)
    def no_such_page(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return _error(ErrorCode.INVALID_REQUEST, message, status=error.status_code)

    @app.exception_handler(Exception)
    def broken(_request: Request, error: Exception) -> Response:
        return _error(ErrorCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}")


def _error(code: ErrorCode, message: str, status: int | None = None, headers: dict[str, str] | None = None) -> Response:
    body = ErrorBody(error=ErrorDetail(code=code, message=message)).model_dump(mode="json")
    return JSONResponse(body, STATUS[code] if status is None else status, headers)


class _Gate:
    """Turns away what has no business here.

    Machines, on their side of the network, may ask for their metadata and nothing else. Elsewhere the request must
    name the address it came in at: a web page can make a browser call this server under a name of its own.
    """

    def __init__(self, app: ASGIApp, machines_side: str | None) -> None:
        self._app = app
        self._machines_side = machines_side

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await _error(ErrorCode.INVALID_REQUEST, problem)(scope, receive, send)

    def _problem(self, scope: Scope) -> str | None:
        address: str = scope["server"][0]
        if address == self._machines_side:
            return None if scope["path"].startswith("/metadata/") else "only /metadata is answered here"
        host = URL(scope=scope).hostname
        return None if host in (address, "localhost") else f"this is not {host}, it is {address}"


class _BrokenOff(Response):
    """A reply that stops in the middle: the server closes the connection, the caller never learns what it said."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
