# upres on a CPU: the server by default, `upres IN OUT` on request.
#
#   docker build -t upres .
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8080:8080 -p 127.0.0.1:8081:8081 -v upres:/var/lib/upres upres
#   docker run --rm --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" -v "$PWD:/media" -w /media upres in.mp4 out.mp4
#
# The first start prints an API key once; `-e UPRES_API_KEY=…` sets one. Every setting of `upres serve` is a UPRES_… variable.
# Links in answers and webhooks lead where the request came to. Behind a proxy: `-e UPRES_PUBLIC_URL=https://video.example`, or
# `-e UPRES_TRUSTED_PROXIES='["172.16.0.0/12"]'` to take its X-Forwarded-… headers.

FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN python3 -m venv /opt/upres \
    && /opt/upres/bin/pip install --no-cache-dir '.[service]' \
    && /opt/upres/bin/pip uninstall --yes pip

FROM debian:trixie-slim
# tini reaps the processes that media is decoded in when their worker was killed, and passes signals on.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /var/lib/upres --no-create-home --shell /usr/sbin/nologin upres \
    && install --directory --owner=upres --group=upres --mode=0700 /var/lib/upres
COPY --from=build /opt/upres /opt/upres
ENV PATH=/opt/upres/bin:/usr/local/bin:/usr/bin:/bin HOME=/var/lib/upres PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV UPRES_STATE=/var/lib/upres UPRES_HOST=0.0.0.0 UPRES_HTTP_PORT=8080 UPRES_GRPC_PORT=8081
USER upres
WORKDIR /var/lib/upres
VOLUME /var/lib/upres
EXPOSE 8080 8081
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python3", "-m", "upres.service.server.health"]
ENTRYPOINT ["tini", "--", "upres"]
CMD ["serve"]
