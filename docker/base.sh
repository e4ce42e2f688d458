#!/bin/sh
# Make an image to build on from Debian's packages, where no registry of images can be reached:
# Debian 12 with its own Python 3.11. It needs root, debootstrap, and docker or podman.
#
#   docker/base.sh localhost/python:3.11-slim-bookworm
#   make images BASE=localhost/python:3.11-slim-bookworm
set -eu
name=$1
engine=podman
if docker info >/dev/null 2>&1; then engine=docker; fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
  "$root/files" >"$root/log" || { tail -n 20 "$root/log" >&2; exit 1; }
rm -rf "$root"/files/var/cache/apt/archives/*.deb "$root"/files/var/lib/apt/lists/*
tar --directory "$root/files" --create . | "$engine" import - "$name"
