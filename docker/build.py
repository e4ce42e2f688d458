"""Build the images with the container engine that is there, and say how large they are.

``make images`` calls it; it needs nothing but Python. Where packages come from is read from
the caller's environment, and handed to the build as secrets, which no layer and no image keeps.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "python:3.11-slim-bookworm"
NAMES = tuple(sorted(path.stem for path in (ROOT / "docker").glob("*.Dockerfile")))
# Settings of pip and uv: addresses of indexes, certificates and proxies.
_REGISTRY = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
_AUTHORITIES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def main(arguments: list[str] | None = None) -> int:
    """Build what is asked for; the exit code is the engine's where a build fails."""
    options = _parser().parse_args(arguments)
    engine = options.engine or find_engine()
    if engine is None:
        sys.stderr.write(
            "No container engine answers. Start Docker, or install podman "
            "(Debian: apt-get install podman runc), and call this again.\n"
        )
        return 3
    labels = {"VERSION": _version(), "REVISION": _revision()}
    for name in options.names:
        with tempfile.TemporaryDirectory(prefix="bc-build-") as folder:
            secrets = write_secrets(Path(folder), os.environ)
            command = [
                *build_command(engine, name, options.base, options.tag, labels, secrets),
                *options.argument,
                str(ROOT),
            ]
            print(f"Building {image(name, options.tag)} from {options.base}", flush=True)
            done = subprocess.run(command, env=os.environ | {"DOCKER_BUILDKIT": "1"}, check=False)
        if done.returncode:
            return done.returncode
    print(_table(engine, options.names, options.base, options.tag))
    return 0


def find_engine() -> str | None:
    """The program that builds: Docker where its engine answers, else podman."""
    if shutil.which("docker"):
        info = subprocess.run(["docker", "info"], capture_output=True, check=False)
        if info.returncode == 0:
            return "docker"
    return "podman" if shutil.which("podman") else None


def image(name: str, tag: str) -> str:
    return f"bc-pipeline-{name}:{tag}"


def write_secrets(folder: Path, environment: Mapping[str, str]) -> dict[str, Path]:
    """Write what the build must know of this machine.

    Returns
    -------
    dict[str, Path]
        ``registry``, lines for a shell, always; ``ca``, a bundle of certificates, where the
        environment names one.
    """
    lines = [
        f"{name}={shlex.quote(environment[name])}" for name in _REGISTRY if environment.get(name)
    ]
    registry = folder / "registry"
    registry.write_text("".join(f"{line}\n" for line in lines))
    secrets = {"registry": registry}
    for name in _AUTHORITIES:
        bundle = Path(environment.get(name) or os.devnull)
        if bundle.is_file():
            return secrets | {"ca": bundle}
    return secrets


def build_command(
    engine: str,
    name: str,
    base: str,
    tag: str,
    labels: Mapping[str, str],
    secrets: Mapping[str, Path],
) -> list[str]:
    """The engine's command line, without the folder that it builds from."""
    command = [engine, "build", "--file", str(ROOT / "docker" / f"{name}.Dockerfile")]
    if engine == "podman":
        # Its own format of images has no health checks.
        command += ["--format", "docker"]
    for variable, value in {"BASE": base, **labels}.items():
        command += ["--build-arg", f"{variable}={value}"]
    for secret, path in secrets.items():
        command += ["--secret", f"id={secret},src={path}"]
    return [*command, "--tag", image(name, tag)]


def _version() -> str:
    match = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def _revision() -> str:
    """The commit that is checked out; an archive of the sources has none."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.decode().strip() + ("-changed" if changed.stdout else "")


def _table(engine: str, names: list[str], base: str, tag: str) -> str:
    underneath = _megabytes(engine, base)
    lines = [f"{'image':40} {'MB':>6}  {'above its base':>14}"]
    for name in names:
        size = _megabytes(engine, image(name, tag))
        lines.append(f"{image(name, tag):40} {size:6.0f}  {size - underneath:14.0f}")
    return "\n".join(lines)


def _megabytes(engine: str, reference: str) -> float:
    command = [engine, "image", "inspect", "--format", "{{.Size}}", reference]
    return int(subprocess.run(command, capture_output=True, check=True).stdout) / 1e6


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), help=f"of {', '.join(NAMES)}")
    parser.add_argument("--base", default=BASE, help="image to build on; default: %(default)s")
    parser.add_argument("--tag", default="dev", help="tag of the images; default: %(default)s")
    parser.add_argument("--engine", choices=("docker", "podman"), help="default: which answers")
    parser.add_argument(
        "--argument",
        action="append",
        default=[],
        help="handed to the engine as it is, such as --argument=--network=host; may be repeated",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
