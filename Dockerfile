# The server, for CPUs. State is in the volume /var/lib/upres; the root can be read-only:
#   docker run --read-only --tmpfs /tmp -v upres:/var/lib/upres -p 8080:8080 -p 8081:8081 upres
FROM python:3.12-slim AS build
COPY . /src
RUN python3 -m venv /opt/upres && /opt/upres/bin/pip install --no-cache-dir '/src[service]'

FROM python:3.12-slim
COPY --from=build /opt/upres /opt/upres
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/upres upres && install -d -m 700 -o upres /var/lib/upres
USER upres
ENV PATH=/opt/upres/bin:$PATH UPRES_STATE=/var/lib/upres UPRES_HOST=0.0.0.0 PYTHONUNBUFFERED=1
VOLUME /var/lib/upres
EXPOSE 8080 8081
HEALTHCHECK --start-period=60s CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz', timeout=3)"]
CMD ["upres", "serve"]
