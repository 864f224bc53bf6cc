#!/bin/sh
# Generate the stubs with the lowest grpcio-tools that upres promises to run with. `generate.sh --check` only compares.
set -eu
cd "$(dirname "$0")/.."
version=1.73.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "grpcio-tools==$version"
protoc() {
    out=$work/$1
    shift
    mkdir "$out"
    "$work/venv/bin/python" -m grpc_tools.protoc --python_out="$out" --pyi_out="$out" "$@"
}
# The contract, and the schema of ONNX: that is registered by a name that no other package's file has.
protoc contract -I proto --grpc_python_out="$work/contract" upres/v2/upscale.proto
protoc schema -I upres/engine/graphs=engine/graphs upres/engine/graphs/onnx.proto
place() {
    for file in "$1"/*; do
        if [ "$3" = --check ]; then
            cmp "$file" "$2/$(basename "$file")"
        else
            cp "$file" "$2/"
        fi
    done
}
place "$work/contract/upres/v2" proto/upres/v2 "${1:-}"
place "$work/schema/upres/engine/graphs" engine/graphs "${1:-}"
