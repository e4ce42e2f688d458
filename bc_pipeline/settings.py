"""Configuration that differs per machine: one frozen object, filled from ``BC_*``.

What changes the science belongs to the Problem; what differs per run is an argument.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bc_pipeline.errors import ConfigError

_CHECKOUT = Path(__file__).resolve().parents[1]


def _default_home() -> Path:
    """``.bc`` in the checkout that this code runs from, else in the user's home."""
    base = _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.home()
    return base / ".bc"


class Settings(BaseSettings):
    """Every setting, its default and its meaning; ``docs/operations.md`` repeats them."""

    model_config = SettingsConfigDict(
        env_prefix="BC_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    home: Path = Field(
        default_factory=_default_home,
        description="The shared volume: data, models, audit log, scores, keys, logs.",
    )
    project_dir: Path = Field(
        default=_CHECKOUT,
        description="Where dags/, plugins/ and expectations/ stand.",
    )
    host: str = Field(default="127.0.0.1", description="Address that embedded servers bind.")
    airflow_port: int = Field(default=8080, ge=1, le=65535, description="Airflow's web UI and API.")
    mlflow_port: int = Field(default=5000, ge=1, le=65535, description="MLflow's server.")
    service_port: int = Field(default=8000, ge=1, le=65535, description="The prediction service.")
    mlflow_tracking_uri: str = Field(
        default="", description="MLflow to mirror to; empty: the embedded server's address."
    )
    signing_key_file: Path | None = Field(
        default=None, description="Ed25519 private key (PEM); default: home/keys/signing.pem."
    )
    verify_key_file: Path | None = Field(
        default=None, description="Ed25519 public key (PEM); default: home/keys/verify.pem."
    )
    api_key_file: Path | None = Field(
        default=None, description="The service's API key; default: home/keys/api_key."
    )
    service_problem: str = Field(default="wdbc", description="The problem the service answers for.")
    reload_seconds: float = Field(
        default=0.5, gt=0, le=60, description="How often the service looks at the registry."
    )
    threads: int = Field(
        default=1, ge=1, le=64, description="OpenMP and BLAS threads of a fit, and ONNX threads."
    )
    alert_webhook_url: SecretStr | None = Field(
        default=None, description="Where the failure notifier posts; empty: it only logs."
    )
    log_level: str = Field(
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="Lowest level that the service logs.",
    )

    @field_validator(
        "home", "project_dir", "signing_key_file", "verify_key_file", "api_key_file", mode="after"
    )
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Processes of the stack run in other folders than the one that started them."""
        return None if path is None else path.expanduser().absolute()

    @property
    def signing_key(self) -> Path:
        return self.signing_key_file or self.home / "keys" / "signing.pem"

    @property
    def verify_key(self) -> Path:
        return self.verify_key_file or self.home / "keys" / "verify.pem"

    @property
    def api_key(self) -> Path:
        return self.api_key_file or self.home / "keys" / "api_key"

    @property
    def tracking_uri(self) -> str:
        return self.mlflow_tracking_uri or f"http://{self.host}:{self.mlflow_port}"

    @property
    def expectations_dir(self) -> Path:
        return self.project_dir / "expectations"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment.

    Raises
    ------
    ConfigError
        Naming every setting that is wrong, as its environment variable.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong = [
            f"BC_{str(item['loc'][0]).upper()}: {item['msg']}" if item["loc"] else item["msg"]
            for item in error.errors()
        ]
        raise ConfigError(
            "Settings are wrong: " + "; ".join(wrong) + ".",
            remedy="Correct the environment variables named.",
            setting=", ".join(entry.split(":")[0] for entry in wrong),
        ) from None
