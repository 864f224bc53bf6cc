#!/bin/sh
# Generate the stubs with the lowest grpcio-tools that upres promises to run with. `generate.sh --check` only compares.
set -eu
cd "$(dirname "$0")"
version=1.73.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "grpcio-tools==$version"
mkdir "$work/out"
"$work/venv/bin/python" -m grpc_tools.protoc -I . \
    --python_out="$work/out" --pyi_out="$work/out" --grpc_python_out="$work/out" upres/v2/upscale.proto
for file in "$work"/out/upres/v2/*; do
    if [ "${1:-}" = --check ]; then
        cmp "$file" "upres/v2/$(basename "$file")"
    else
        cp "$file" upres/v2/
    fi
done
