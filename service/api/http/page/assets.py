"""The page's files, served unmodified: plain JavaScript modules, under a policy that forbids loading anything else."""

from importlib.resources import files

from fastapi import FastAPI, HTTPException, Response

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob: mediastream:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=()",
    "Cache-Control": "no-cache",
}


def mount(app: FastAPI) -> None:
    """Add the page and its files, which are read once. They contain no secret, so they need no key."""
    static = files(__package__) / "static"
    known = {file.name: file.read_bytes() for file in static.iterdir() if file.name.rpartition(".")[1]}

    async def page() -> Response:
        return _answer(known, "index.html")

    async def asset(name: str) -> Response:
        return _answer(known, name)

    app.add_api_route("/", page, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/page/{name}", asset, methods=["GET", "HEAD"], include_in_schema=False)


def _answer(known: dict[str, bytes], name: str) -> Response:
    if name not in known:
        raise HTTPException(404)
    kind = TYPES["." + name.rpartition(".")[2]]
    return Response(known[name], media_type=kind, headers=HEADERS)
