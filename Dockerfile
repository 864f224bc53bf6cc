# upres in a container: the server by default, or `upres IN OUT`. compose.yaml starts each of these with one command.
#
#   docker build -t upres .                                                        # cpu: any machine
#   docker build -t upres:cuda --target cuda .                                     # NVIDIA GPUs, through ONNX Runtime
#   docker build -t upres:tensorrt --target tensorrt .                             # NVIDIA GPUs, through TensorRT
#   docker build -t upres:jetson --target jetson --build-arg BASE=ubuntu:24.04 .   # Jetson Orin and Thor with JetPack 7.2
#
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8080:8080 -p 127.0.0.1:8081:8081 -v upres:/var/lib/upres upres
#   docker run --rm --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" -v "$PWD:/media" -w /media upres in.mp4 out.mp4
#
# Add `--gpus all` to use a GPU, or `--runtime nvidia` on a Jetson.
# The first start prints an API key once; `-e UPRES_API_KEY=…` sets one. Every setting of `upres serve` is a UPRES_… variable.
# Links in responses and webhooks use the address of the request. Behind a proxy, set `-e UPRES_PUBLIC_URL=https://video.example`, or
# `-e UPRES_TRUSTED_PROXIES='["172.16.0.0/12"]'` to accept its X-Forwarded-… headers.
#
# Lines marked as never run need NVIDIA's repositories. All others are run by tests/system/deployment/test_dockerfile.py.

ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
# This pip installs into the environment that is copied to the images, and is not part of it.
ENV PIP_PYTHON=/opt/upres/bin/python PIP_NO_CACHE_DIR=1
WORKDIR /source
COPY . .
# `--build-arg EXTRAS=service,otel,postgres,ray` adds the cluster (docs/kubernetes/ray.yaml).
ARG EXTRAS=service,otel,postgres
RUN python3 -m venv --without-pip /opt/upres && pip install ".[${EXTRAS}]"

FROM build AS build-gpu
RUN pip install '.[cuda]'

FROM build-gpu AS build-cuda
# The GPU wheel replaces the plain one, because both contain the same files.
RUN pip uninstall --yes onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'

FROM build-cuda AS build-tensorrt
# Never run. Installed by name, since `.[tensorrt]` would install the plain wheel again.
RUN pip install 'tensorrt-cu13>=10.14,<12'

FROM build-gpu AS build-jetson
# apt installs TensorRT's Python package outside the environment.
RUN python3 -m venv --system-site-packages --without-pip /opt/upres

FROM ${BASE} AS system
# tini reaps the processes that decode media if their worker was killed, and forwards signals.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /var/lib/upres --no-create-home --shell /usr/sbin/nologin upres \
    && install --directory --owner=upres --group=upres --mode=0700 /var/lib/upres
ENV PATH=/opt/upres/bin:/usr/local/bin:/usr/bin:/bin HOME=/var/lib/upres PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV UPRES_STATE=/var/lib/upres UPRES_HOST=0.0.0.0 UPRES_HTTP_PORT=8080 UPRES_GRPC_PORT=8081
# Engines and downloaded models, in the same volume.
ENV UPRES_CACHE=/var/lib/upres/cache
USER upres
WORKDIR /var/lib/upres
VOLUME /var/lib/upres
EXPOSE 8080 8081
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python3", "-m", "upres.service.server.health"]
ENTRYPOINT ["tini", "--", "upres"]
CMD ["serve"]

FROM system AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video

FROM gpu AS cuda
ENV UPRES_RUNTIME=cuda
COPY --from=build-cuda /opt/upres /opt/upres

FROM gpu AS tensorrt
ENV UPRES_RUNTIME=tensorrt
COPY --from=build-tensorrt /opt/upres /opt/upres

FROM gpu AS jetson
ENV UPRES_RUNTIME=tensorrt
USER root
RUN grep -q 'VERSION_ID="24.04"' /etc/os-release || { echo "jetson needs --build-arg BASE=ubuntu:24.04" >&2; exit 1; }
ADD --chmod=644 https://repo.download.nvidia.com/jetson/jetson-ota-public.asc /usr/share/keyrings/nvidia-jetson.asc
# Never run. Docker's NVIDIA runtime provides CUDA's driver from the device.
RUN echo "deb [signed-by=/usr/share/keyrings/nvidia-jetson.asc] https://repo.download.nvidia.com/jetson/common r39.2 main" \
        > /etc/apt/sources.list.d/nvidia-jetson.list \
    && apt-get update \
    && apt-get install --yes --no-install-recommends 'python3-libnvinfer=10.16.*' 'tensorrt-libs=10.16.*' \
    && rm -rf /var/lib/apt/lists/*
USER upres
COPY --from=build-jetson /opt/upres /opt/upres

FROM system AS cpu
COPY --from=build /opt/upres /opt/upres
