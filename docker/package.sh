#!/bin/sh
# Build the package from /build/source, for a copy over /opt/venv.
#
# It stands in a folder of its own, so that a release that changes no dependency shares the
# large layer of them with the one before.
set -eu
/opt/installer/bin/python -m hatchling build --target wheel --directory /build/wheels
/opt/installer/bin/uv pip install --quiet --offline --python /opt/venv/bin/python --no-deps \
  --compile-bytecode --prefix /opt/package /build/wheels/*.whl
