"""The dashboard: its page and files, the stream of what there is to see, the login, and what buttons do.

    GET  dashboard/            the page, which has nothing of ours in it and asks for
    GET  dashboard/session     what its browser may do
    GET  dashboard/stream      server-sent events: see middleware.web.stream
    POST dashboard/login       {"password": ..}: begins a session, by a cookie
    POST dashboard/logout
    POST dashboard/command     an Action
    POST dashboard/cancel      {"id": ..}: of one that is under way

What a browser may be misused for is in middleware.web.door, what a session is in middleware.web.sessions.
"""

import asyncio
import time
from typing import Any, Final, Literal, NoReturn, TypeVar

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from middleware import sqlstate
from middleware.errors import PointsmanError
from middleware.supervisor.console import Who
from middleware.web import door
from middleware.web.actions import Action, Desk, command_of
from middleware.web.connections import CONNECTIONS
from middleware.web.files import ROUTES_OF_FILES, is_file
from middleware.web.sessions import LIFETIME_S, Attempts, Session, Sessions, same
from middleware.web.site import Site
from middleware.web.snapshot import UnderWay
from middleware.web.stream import Broadcast

BODY_BYTES_MAX: Final = 4096
WRITE_S: Final = 10.0
"""A stream has so long to take a message."""
CSRF_HEADER: Final = "X-Pointsman-Token"

log = structlog.get_logger("web")


class Told(msgspec.Struct, frozen=True):
    """What a browser may do."""

    look: bool
    full: bool
    """There are as many who look as there may be."""
    buttons: Literal["none", "login", "here"]
    """"none" where no password is set, "login" for who has not shown it, "here" for who has."""
    csrf: str = ""
    """To be sent back in a header with all that is done."""


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the form has."""

    password: str


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a command that is under way."""

    id: int


_Body = TypeVar("_Body", Action, Cancel, Login, dict[str, str])


class Complaint(msgspec.Struct, frozen=True):
    """An error, as PostgreSQL would say it."""

    message: str
    detail: str = ""
    hint: str = ""
    sqlstate: str = ""


def application(site: Site) -> web.Application:
    """All of it, to be put under a prefix."""
    app = web.Application()
    dashboard = Dashboard(site)
    app.middlewares.append(dashboard.admit)
    app.on_response_prepare.append(_add_headers)
    app.cleanup_ctx.append(dashboard.life)
    app.on_shutdown.append(dashboard.end_streams)
    app.add_routes(
        (
            web.get("/session", dashboard.session, allow_head=False),
            web.get("/stream", dashboard.stream, allow_head=False),
            web.post("/login", dashboard.login),
            web.post("/logout", dashboard.logout),
            web.post("/command", dashboard.command),
            web.post("/cancel", dashboard.cancel),
            *ROUTES_OF_FILES,
        )
    )
    return app


async def _to_page(_request: web.Request) -> NoReturn:
    raise web.HTTPFound("dashboard/")


ROUTES: Final = (web.get("/", _to_page), web.get("/dashboard", _to_page))
"""What leads to it."""


class Dashboard:
    """One Pointsman's."""

    def __init__(self, site: Site) -> None:
        self._site: Final = site
        self._sessions: Final = Sessions()
        self._attempts: Final = Attempts()
        who = Who("admin", True, "http")
        self._desk: Final = Desk(
            lambda text, tell: site.console.run(text, who, tell), lambda outcome: self._broadcast.tell(outcome)
        )
        self._broadcast: Final = Broadcast(site, self._desk.under_way)

    async def life(self, _app: web.Application) -> Any:
        """From the server's start to its end."""
        self._broadcast.start()
        yield
        await self._desk.stop()
        await self._broadcast.stop()

    async def end_streams(self, _app: web.Application) -> None:
        """The server is to end: a stream would go on for ever."""
        self._broadcast.end_all()

    @property
    def admit(self) -> Middleware:
        """The middleware in front of all that is here."""

        @web.middleware
        async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
            settings = self._site.settings
            if settings.dashboard == "off":
                raise web.HTTPNotFound
            local = _address(request, "sockname")
            if why := door.foreign_host(request.headers.get("Host", ""), local=local, known=settings.dashboard_hosts):
                return _refusal(403, why)
            # A link to the page may stand anywhere; what it asks for is its own to ask.
            if not is_file(request.path) and (why := door.foreign_origin(request.headers)):
                return _refusal(403, why)
            return await handler(request)

        return admit

    async def session(self, request: web.Request) -> web.Response:
        """What this browser may do."""
        return _json(self._told(request))

    async def login(self, request: web.Request) -> web.Response:
        """Begin a session."""
        shown = await _body(request, Login)
        now, address = time.monotonic(), _address(request, "peername")
        password = self._password()
        if not password:
            return _refusal(403, "no password is set", hint="Set dashboard_password.")
        if wait_s := self._attempts.wait_s(address, now):
            log.warning("dashboard login refused: too many have failed", address=address)
            refusal = _refusal(429, "too many logins have failed", hint=f"Try again in {wait_s:.0f} s.")
            refusal.headers["Retry-After"] = f"{wait_s:.0f}"
            return refusal
        if not same(shown.password, password):
            self._attempts.failed(address, now)
            log.warning("dashboard login failed", address=address)
            return _refusal(403, "password authentication failed", code=sqlstate.INVALID_PASSWORD)
        self._attempts.succeeded(address)
        # A session that the browser had before is not gone on with.
        self._sessions.end(_token(request))
        token = self._sessions.begin(password, now)
        log.info("dashboard login", address=address)
        session = self._sessions.find(token, password, now)
        assert session is not None
        response = _json(Told(True, self._broadcast.full, "here", session.csrf))
        response.headers["Set-Cookie"] = _cookie(request, token, int(LIFETIME_S))
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """End the session."""
        await _body(request, dict[str, str])
        if isinstance(session := self._acting(request), web.Response):
            return session
        self._sessions.end(_token(request))
        log.info("dashboard logout", address=_address(request, "peername"))
        response = _json(self._told(request))
        response.headers["Set-Cookie"] = _cookie(request, "", 0)
        return response

    async def command(self, request: web.Request) -> web.Response:
        """Do what a button says: 200 and its Outcome, 202 and that it is under way, 409 and its error."""
        action = await _body(request, Action)
        if isinstance(session := self._acting(request), web.Response):
            return session
        try:
            command = command_of(action, lambda: {node.name for node in self._site.topology.nodes})
            outcome = await self._desk.carry_out(command)
        except PointsmanError as error:
            return _refusal(409, error.message, error.detail, error.hint, error.sqlstate)
        if isinstance(outcome, UnderWay):
            return _json(outcome, 202)
        return _json(outcome, 200 if outcome.ok else 409)

    async def cancel(self, request: web.Request) -> web.Response:
        """Take back what is under way."""
        wanted = await _body(request, Cancel)
        if isinstance(session := self._acting(request), web.Response):
            return session
        command = self._desk.cancel(wanted.id)
        if not command:
            return _refusal(409, "the command has ended already", code=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE)
        log.info("command canceled", command=command, address=_address(request, "peername"))
        return _json({})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Tell what there is to see until the page is closed, or may not look any more."""
        if not self._told(request).look:
            return _refusal(403, "log in to look", code=sqlstate.INVALID_AUTHORIZATION_SPECIFICATION)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        listener = self._broadcast.join(transport.abort)
        if listener is None:
            return _refusal(503, "too many dashboards are open", code=sqlstate.TOO_MANY_CONNECTIONS)
        request.config_dict[CONNECTIONS].keep_open(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        try:
            await response.prepare(request)
            while self._told(request).look and (data := await listener.next()):
                async with asyncio.timeout(WRITE_S):
                    await response.write(data)
        except TimeoutError:
            transport.abort()
        except ConnectionError:
            # The page was closed, which is how each stream ends.
            return response
        finally:
            self._broadcast.leave(listener)
        return response

    def _told(self, request: web.Request) -> Told:
        password, session = self._password(), self._session(request)
        if session is not None:
            return Told(True, self._broadcast.full, "here", session.csrf)
        watching = self._site.settings.dashboard
        here = door.comes_from_here(_address(request, "peername"), request.headers)
        look = watching == "on" or (watching == "local" and here)
        return Told(look, self._broadcast.full, "login" if password else "none")

    def _session(self, request: web.Request) -> Session | None:
        password, token = self._password(), _token(request)
        if not password or not token:
            return None
        return self._sessions.find(token, password, time.monotonic())

    def _acting(self, request: web.Request) -> Session | web.Response:
        """The session of a request that does something; or why it may not."""
        session = self._session(request)
        if session is None:
            return _refusal(401, "log in first", code=sqlstate.INVALID_AUTHORIZATION_SPECIFICATION)
        if not session.has(request.headers.get(CSRF_HEADER, "")):
            return _refusal(
                403,
                f"the header {CSRF_HEADER} is not this session's",
                code=sqlstate.INVALID_AUTHORIZATION_SPECIFICATION,
            )
        return session

    def _password(self) -> str:
        return self._site.settings.dashboard_password.get_secret_value()


async def _body(request: web.Request, kind: type[_Body]) -> _Body:
    """What a request brings, as that. A browser sends JSON for no page of another site without asking us first."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise web.HTTPRequestEntityTooLarge(BODY_BYTES_MAX, request.content_length or 0)
    data = await request.read()
    if len(data) > BODY_BYTES_MAX:
        raise web.HTTPRequestEntityTooLarge(BODY_BYTES_MAX, len(data))
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        # Its text may hold what was sent.
        raise web.HTTPBadRequest from None


def _json(what: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(what), status=status, content_type="application/json")


def _refusal(status: int, message: str, detail: str = "", hint: str = "", code: str = "") -> web.Response:
    return _json(Complaint(message, detail, hint, code), status)


def _address(request: web.Request, end: Literal["peername", "sockname"]) -> str:
    """Of the connection's other end, or of ours."""
    found = None if request.transport is None else request.transport.get_extra_info(end)
    return str(found[0]) if isinstance(found, tuple) else ""


def _cookie_name(request: web.Request) -> str:
    """Cookies are a host's, whatever the port: another Pointsman there has another name for its own."""
    found = None if request.transport is None else request.transport.get_extra_info("sockname")
    return f"pointsman_{found[1] if isinstance(found, tuple) else 0}"


def _token(request: web.Request) -> str:
    return request.cookies.get(_cookie_name(request), "")


def _cookie(request: web.Request, value: str, age_s: int) -> str:
    # Without a Path it is sent to the dashboard alone, also behind a proxy that has it elsewhere. Who makes up the
    # header of a proxy spoils a cookie of its own.
    secure = request.secure or request.headers.get("X-Forwarded-Proto", "") == "https"
    return f"{_cookie_name(request)}={value}; Max-Age={age_s}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(door.HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
