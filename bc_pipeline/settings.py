"""Configuration that differs per machine: one frozen object, filled from ``BC_*``.

What changes the science belongs to the Problem; what differs per run is an argument.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bc_pipeline.encryption import Cipher, load_cipher
from bc_pipeline.errors import ConfigError

_CHECKOUT = Path(__file__).resolve().parents[1]


def _split_words(value: Any) -> Any:
    """The words of a list, which are separated by commas in the environment."""
    if isinstance(value, str):
        return tuple(word for part in value.split(",") if (word := part.strip()))
    return value


def _require_networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for word in value:
        ipaddress.ip_network(word)
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_words)]
Networks = Annotated[Words, AfterValidator(_require_networks)]
_DATABASE = r"(postgres|postgresql)(\+psycopg)?://|sqlite:////?[^/]"
_RATE = r"^([1-9][0-9]*)/(second|minute|hour)$"


def _default_home() -> Path:
    """``.bc`` in the checkout that this code runs from, else in the user's home."""
    base = _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.home()
    return base / ".bc"


class Settings(BaseSettings):
    """Every setting, its default and its meaning; ``docs/operations.md`` repeats them."""

    model_config = SettingsConfigDict(
        env_prefix="BC_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
    )

    home: Path = Field(default_factory=_default_home)
    """The shared volume: data, models, audit log, scores, keys, logs."""
    project_dir: Path = _CHECKOUT
    """Folder of dags/, plugins/ and expectations/."""
    host: str = "127.0.0.1"
    """Address that embedded servers bind."""
    airflow_port: int = Field(8080, ge=1, le=65535)
    """Airflow's web UI and API."""
    mlflow_port: int = Field(5000, ge=1, le=65535)
    """MLflow's server."""
    service_port: int = Field(8000, ge=1, le=65535)
    """The prediction service."""
    mlflow_tracking_uri: str = ""
    """MLflow to mirror to; empty: the embedded server's address."""
    signing_key_file: Path | None = None
    """Ed25519 private key (PEM); default: home/keys/signing.pem."""
    verify_key_file: Path | None = None
    """Ed25519 public key (PEM); default: home/keys/verify.pem."""
    api_key_file: Path | None = None
    """The service's API key; default: home/keys/api_key."""
    service_problem: str = "wdbc"
    """The problem the service answers for."""
    reload_seconds: float = Field(0.5, gt=0, le=60)
    """How often the service looks at the registry."""
    threads: int = Field(1, ge=1, le=64)
    """OpenMP and BLAS threads of a fit, and ONNX threads."""
    alert_webhook_url: SecretStr | None = None
    """Where the failure notifier posts; empty: it only logs."""
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Lowest level that the service logs."""

    # Airflow, as the prediction service and the commands reach it ------------------------

    airflow_url: str = ""
    """Airflow's API; empty: the embedded server's address."""
    airflow_user: str = "admin"
    """The user that triggers runs."""
    airflow_password_file: Path | None = None
    """That user's password; default: home/keys/airflow_password."""

    # The prediction service, as the commands reach it ------------------------------------

    service_url: str = ""
    """The prediction service; empty: the embedded server's address."""

    # Batch scoring on a Spark cluster ----------------------------------------------------

    spark_master: str = ""
    """Spark cluster that scores large batches; empty: there is none."""
    spark_python: Path | None = None
    """Python of the environment with pyspark; default: .venv/spark/bin/python."""
    spark_above_mb: int = Field(1024, ge=0)
    """Size of a batch, in MiB, from which the engine `auto` takes Spark."""
    spark_scores: str = ""
    """Path or URL where Spark writes scores; empty: on the volume."""

    # The prediction service: who may ask -------------------------------------------------

    service_keys_file: Path | None = None
    """API keys, hashed; default: home/keys/service_keys.json."""
    jwt_issuer: str = ""
    """Issuer of accepted bearer tokens; empty: none are accepted."""
    jwt_jwks_url: str = ""
    """URL of the issuer's public keys."""
    jwt_audience: str = ""
    """Audience that a token must name."""
    jwt_algorithms: Words = ("RS256", "ES256")
    """Signature algorithms of tokens that are accepted."""
    jwt_leeway_seconds: int = Field(30, ge=0, le=60)
    """How far the issuer's clock may be off."""
    allowed_addresses: Networks = ()
    """Networks that may ask, as CIDR; empty: every address."""
    trusted_proxies: Networks = ()
    """Networks of proxies whose X-Forwarded-For is believed, as CIDR."""
    rate_limit_key: str = Field("60000/minute", pattern=_RATE)
    """Requests of one key or token subject."""
    rate_limit_address: str = Field("120000/minute", pattern=_RATE)
    """Requests of one address."""
    rate_limit_failures: str = Field("120/minute", pattern=_RATE)
    """Requests of one address that end in 401, 403, 404 or 405."""
    redis_url: SecretStr | None = None
    """Redis that counts for all workers; empty: each counts alone."""
    root_path: str = Field("", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    """Prefix of the service's address that a proxy strips, such as /predictions; empty: none."""
    cors_origins: Words = ()
    """Origins whose pages may call the service; empty: none."""
    tls_cert_file: Path | None = None
    """Certificate chain (PEM); with its key, the service speaks TLS."""
    tls_key_file: Path | None = None
    """Private key of it (PEM)."""

    # The prediction service: how much ----------------------------------------------------

    workers: int = Field(1, ge=1, le=64)
    """Processes that answer requests."""
    upload_limit_mb: int = Field(16, ge=1, le=1024)
    """Largest batch or upload, in MiB."""
    slow_client_seconds: float = Field(20.0, gt=0, le=60)
    """How long a client may take to send or to read."""

    # The prediction log ------------------------------------------------------------------

    records_dir: Path | None = None
    """Where answered predictions are logged; default: home/records."""
    records_url: SecretStr | None = None
    """Database of predictions and outcomes, as an SQLAlchemy URL; empty: SQLite in the log's
    folder."""
    records_key_file: Path | None = None
    """AES-256 key that encrypts logged features; none: plain."""
    records_backlog_mb: int = Field(1024, ge=1)
    """Backlog at which predictions stop while the database is unavailable."""
    records_retention_days: int = Field(0, ge=0, le=36_500)
    """Age at which predictions are removed; 0: never."""
    retain_days: int = Field(730, ge=30, le=36_500)
    """Age up to which `bc-pipeline prune` keeps what it may remove."""
    retain_versions: int = Field(10, ge=1)
    """Newest versions that were in production, which `bc-pipeline prune` keeps at any age."""
    artifact_key_file: Path | None = None
    """AES-256 key that encrypts new models at rest; none: plain."""
    backup_recipients: Words = ()
    """age public keys (age1...) that backups are encrypted for."""
    backup_key_file: Path | None = None
    """age identity file, which decrypts backups: verify, restore."""
    backup_passphrase_file: Path | None = None
    """Passphrase of that identity file, where it has one."""
    otlp_endpoint: str = ""
    """OpenTelemetry collector that gets traces; empty: none are made."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        secrets = InitSettingsSource(settings_cls, _secrets_in_files(settings_cls))
        return init_settings, env_settings, secrets

    @field_validator("*", mode="after")
    @classmethod
    def _absolute(cls, value: Any) -> Any:
        """Make paths absolute: processes of the stack run in other folders than their parent."""
        if not isinstance(value, Path):
            return value
        try:
            str(value).encode()
        except UnicodeEncodeError:
            # Databases and signatures have paths as text.
            raise ValueError("the path is not UTF-8") from None
        return value.expanduser().absolute()

    @field_validator("records_url", mode="after")
    @classmethod
    def _database(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.match(_DATABASE, value.get_secret_value()):
            raise ValueError(
                "takes postgresql://user:password@host/database or sqlite:////path/to/file"
            )
        return value

    @field_validator("jwt_algorithms", mode="after")
    @classmethod
    def _asymmetric(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """With a public key set, a symmetric algorithm would take the public key as secret."""
        known = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"}
        if not value or set(value) - known:
            raise ValueError(f"takes words of {', '.join(sorted(known))}")
        return value

    @model_validator(mode="after")
    def _pairs(self) -> Settings:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("BC_TLS_CERT_FILE and BC_TLS_KEY_FILE are set together or not at all")
        if self.jwt_issuer and not (self.jwt_jwks_url and self.jwt_audience):
            raise ValueError("BC_JWT_ISSUER needs BC_JWT_JWKS_URL and BC_JWT_AUDIENCE")
        return self

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
    def service_keys(self) -> Path:
        return self.service_keys_file or self.home / "keys" / "service_keys.json"

    @property
    def airflow_password(self) -> Path:
        return self.airflow_password_file or self.home / "keys" / "airflow_password"

    @property
    def airflow_address(self) -> str:
        return self.airflow_url or f"http://{self.host}:{self.airflow_port}"

    @property
    def upload_limit(self) -> int:
        """Bytes of the largest batch or upload."""
        return self.upload_limit_mb << 20

    @property
    def records(self) -> Path:
        """Folder of one problem's prediction log."""
        return (self.records_dir or self.home / "records") / self.service_problem

    def artifact_cipher(self) -> Cipher | None:
        """Cipher that encrypts new models and decrypts encrypted ones; None if no key is set.

        Raises
        ------
        ConfigError
            Where the file that is set holds no key.
        """
        path = self.artifact_key_file
        return load_cipher(path, "BC_ARTIFACT_KEY_FILE") if path else None

    @property
    def tracking_uri(self) -> str:
        return self.mlflow_tracking_uri or f"http://{self.host}:{self.mlflow_port}"

    @property
    def spark_interpreter(self) -> Path:
        return self.spark_python or self.project_dir / ".venv" / "spark" / "bin" / "python"

    @property
    def expectations_dir(self) -> Path:
        return self.project_dir / "expectations"


def _secrets_in_files(kind: type[BaseSettings]) -> dict[str, str]:
    """Secrets from the files that ``BC_<NAME>_FILE`` names, as in ``/run/secrets``."""
    secrets = {}
    for name, field in kind.model_fields.items():
        variable = f"BC_{name.upper()}_FILE"
        path = os.environ.get(variable)
        if not path or SecretStr not in get_args(field.annotation):
            continue
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                f"The file that {variable} names cannot be read.", setting=variable
            ) from None
        if secret:
            secrets[name] = secret
    return secrets


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
