#!/bin/sh
# Make /opt/venv from one of the locks, in the build stage of an image.
#
# Where packages come from, and whom to trust for it, is the matter of whoever builds: it
# comes in two secrets that exist during this step only, and that no layer keeps.
set -eu
lock=$1

if [ -f /run/secrets/registry ]; then
  set -a
  . /run/secrets/registry
  set +a
fi
# uv does not read pip's settings.
if [ -n "${PIP_INDEX_URL:-}" ]; then
  export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
fi
if [ -f /run/secrets/ca ]; then
  export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca
fi

python3 -m venv /opt/installer
/opt/installer/bin/pip install --quiet --disable-pip-version-check --require-hashes \
  --requirement /build/install.txt
# The image gets no installer: nobody is to add packages to a running container.
python3 -m venv --without-pip /opt/venv
# The cache is a mount of the builder's, which another file system may hold.
UV_LINK_MODE=copy /opt/installer/bin/uv pip install --quiet --python /opt/venv/bin/python \
  --compile-bytecode --require-hashes --requirement "/build/$lock"
