#!/bin/sh
# Regenerates cascade/v1 and cascade/inference from proto/. CI runs this and fails when the result differs from what is committed.
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python}" -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. proto/cascade/*/*.proto
