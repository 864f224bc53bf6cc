#!/bin/sh
# The stubs are those of the contract; the contract is lint-free, and its last change broke no client that knew it before.
set -eu
cd "$(dirname "$0")"
version=1.75.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
./generate.sh --check
echo "the stubs are those of the contract"
timeout 180 npm install --silent --no-fund --no-audit --prefix "$work" "@bufbuild/buf@$version"
buf="$work/node_modules/.bin/buf"
"$buf" lint
echo "buf lint: nothing to say"

# What it was before: as committed, if it was changed since; else as the commit before the last that changed it left it.
before=""
if git rev-parse --quiet --verify HEAD >/dev/null 2>&1; then
    if git diff --quiet HEAD -- '*.proto'; then
        last=$(git log -1 --format=%H -- '*.proto')
        if git rev-parse --quiet --verify "$last^" >/dev/null && [ -n "$(git ls-tree -r "$last^" -- upres/v2/upscale.proto)" ]; then
            before=$last^
        fi
    else
        before=HEAD
    fi
fi
if [ -z "$before" ]; then
    echo "buf breaking: skipped; this clone holds no earlier contract"
    exit 0
fi
mkdir "$work/before"
git archive --format=tar "$before" . | tar -x -C "$work/before"
"$buf" breaking --against "$work/before"
echo "buf breaking: nothing broken since $(git rev-parse --short "$before")"
