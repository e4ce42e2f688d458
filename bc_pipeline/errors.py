"""Every error that the package raises on purpose.

The tree, which each mapping (Airflow retry or fail, CLI exit code, HTTP problem) follows::

    PipelineError
    ├── ConfigError             a setting, argument or machine is not as needed
    ├── DataError               the data is not fit for the step
    │   ├── FileRefused         a file as a whole cannot be read
    │   ├── SchemaMismatch      names or values break the feature schema
    │   ├── RowsRejected        too few rows were left
    │   ├── ExpectationsFailed  an expectation suite failed
    │   ├── SuiteBroken         an expectation suite is not what it declares
    │   ├── NothingAsOf         no accepted row had arrived by the as-of time
    │   └── SplitOverlap        a row stands on both sides of the split
    ├── ModelError              the model is not fit for the step
    │   ├── ParityError         exported model and scikit-learn disagree
    │   ├── DegenerateModel     a fit gave constant or non-finite output
    │   ├── EvidenceMismatch    champion and challenger were not scored on the same rows
    │   ├── SmokeTestFailed     the real service would not answer with the artifact
    │   └── NotReproducible     the same inputs gave another model
    ├── StoreError              the shared volume does not hold what was asked for
    │   ├── NotStored           no such batch, dataset, candidate or run
    │   ├── VersionNotFound
    │   ├── VersionConflict     another release came first
    │   ├── ArtifactCorrupt     bytes differ from their digest
    │   ├── SignatureInvalid
    │   ├── NoChampion          nothing was promoted yet
    │   ├── NotReleasable       the version's verdict or approval does not allow it
    │   ├── GenerationReplayed  the registry is older than what was already served
    │   ├── DecryptionFailed    encrypted bytes do not open with the key at hand
    │   ├── AuditBroken         the hash chain of the audit log does not hold
    │   ├── BackupInvalid       a backup is damaged, cut short, or not one
    │   └── StoreUnfit          the volume is of another format, or was restored in part only
    ├── RequestRefused          a request to the service is not taken
    │   ├── BodyUnreadable      the body is not in the format that it is declared as
    │   ├── BodyTooLarge
    │   ├── BodyTooSlow         the body did not arrive in time
    │   ├── KeyRefused          no credentials, or wrong ones
    │   ├── ScopeMissing        the credentials do not allow this operation
    │   ├── AddressRefused      the client's address is not on the allow-list
    │   ├── RateLimited         too many requests
    │   ├── MediaTypeRefused    the body is declared as something that is not read here
    │   ├── HeaderRefused       a header that is needed is missing or malformed
    │   ├── KeyReused           an idempotency key came again with another request
    │   ├── NotThere            no such prediction, run, model or version
    │   ├── RecordExpired       the prediction was removed when its retention ended
    │   └── OutcomeConflict     another outcome is recorded for the prediction
    ├── StackError              a process of the embedded stack is not as it should be
    │   └── AirflowRefused      Airflow answered with an error
    └── TransientError          worth another try: a service is away, a lock is held
        ├── AirflowAway         Airflow does not answer
        └── RecordsAway         the prediction log or its database cannot be written
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong with a piece of input, and where.

    Attributes
    ----------
    reason : str
        What is wrong, in words; never the value itself, which may be a patient's.
    line : int or None
        Line of the file, the header being line 1; row number for Parquet.
    column : str or None
        Column or feature name.
    """

    reason: str
    line: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        place = [
            f"line {self.line}" if self.line is not None else "",
            f"column {self.column!r}" if self.column is not None else "",
        ]
        where = ", ".join(part for part in place if part)
        return f"{where}: {self.reason}" if where else self.reason

    def to_dict(self) -> dict[str, Any]:
        return {"line": self.line, "column": self.column, "reason": self.reason}


def _rebuild(kind: type[PipelineError], values: dict[str, Any]) -> PipelineError:
    return kind(**values)


@dataclass(eq=False)
class PipelineError(Exception):
    """The service cannot do what was asked through no fault of the request; its log says why.

    Attributes
    ----------
    message : str
        One sentence that names what is wrong.
    remedy : str
        What to do next, or an empty string.
    """

    code: ClassVar[str] = "pipeline-error"

    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions unpickle from their positional arguments; ours have keywords.
        return _rebuild, (type(self), {f.name: getattr(self, f.name) for f in fields(self)})

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain JSON values, with the error's ``code``."""
        return {"code": self.code} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def error_of(told: Mapping[str, Any]) -> PipelineError:
    """An error that another process told by `PipelineError.to_dict`, in words alone."""
    kinds, found = [PipelineError], PipelineError
    for kind in kinds:
        kinds += kind.__subclasses__()
        if kind.code == told["code"] and found is PipelineError:
            found = kind
    return found(told["message"], told["remedy"])


def _plain(value: Any) -> Any:
    if isinstance(value, Defect):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@dataclass(eq=False)
class ConfigError(PipelineError):
    """A setting, an argument or the machine is not as needed."""

    code: ClassVar[str] = "config"

    setting: str = ""


@dataclass(eq=False)
class DataError(PipelineError):
    """The data is not fit for the step."""

    code: ClassVar[str] = "data"


@dataclass(eq=False)
class _DefectiveInput(DataError):
    source: str = ""
    defects: tuple[Defect, ...] = ()

    def __str__(self) -> str:
        shown = "; ".join(str(defect) for defect in self.defects[:10])
        more = len(self.defects) - 10
        tail = f" (and {more} more)." if more > 0 else "." if shown else ""
        parts = [self.message, shown + tail, self.remedy]
        return " ".join(part for part in parts if part)


@dataclass(eq=False)
class FileRefused(_DefectiveInput):
    """A file as a whole cannot be read; nothing of it was taken."""

    code: ClassVar[str] = "file-refused"


@dataclass(eq=False)
class SchemaMismatch(_DefectiveInput):
    """Names or values break the feature schema; ``defects`` lists all of them."""

    code: ClassVar[str] = "schema-mismatch"


@dataclass(eq=False)
class RowsRejected(DataError):
    """Too few rows were left after validation."""

    code: ClassVar[str] = "rows-rejected"

    read: int = 0
    accepted: int = 0


@dataclass(eq=False)
class ExpectationsFailed(DataError):
    """An expectation suite failed; ``failed`` names every failed expectation."""

    code: ClassVar[str] = "expectations-failed"

    suite: str = ""
    failed: tuple[str, ...] = ()
    report: str = ""


@dataclass(eq=False)
class SuiteBroken(DataError):
    """A suite file does not load into the expectations that it declares."""

    code: ClassVar[str] = "suite-broken"

    suite: str = ""


@dataclass(eq=False)
class NothingAsOf(DataError):
    """No accepted row had arrived by the as-of time."""

    code: ClassVar[str] = "nothing-as-of"

    as_of: str = ""


@dataclass(eq=False)
class SplitOverlap(DataError):
    """A row stands on both sides of the split."""

    code: ClassVar[str] = "split-overlap"

    keys: tuple[str, ...] = ()


@dataclass(eq=False)
class ModelError(PipelineError):
    """The model is not fit for the step."""

    code: ClassVar[str] = "model"


@dataclass(eq=False)
class ParityError(ModelError):
    """Exported model and scikit-learn disagree."""

    code: ClassVar[str] = "parity"

    worst_difference: float = 0.0
    bound: float = 0.0


@dataclass(eq=False)
class DegenerateModel(ModelError):
    """A fit gave constant or non-finite probabilities."""

    code: ClassVar[str] = "degenerate-model"

    candidate: str = ""


@dataclass(eq=False)
class EvidenceMismatch(ModelError):
    """Champion and challenger were not scored on the same rows."""

    code: ClassVar[str] = "evidence-mismatch"

    champion: str = ""
    challenger: str = ""


@dataclass(eq=False)
class SmokeTestFailed(ModelError):
    """The real service would not answer with the artifact."""

    code: ClassVar[str] = "smoke-test"


@dataclass(eq=False)
class NotReproducible(ModelError):
    """The same inputs gave another model."""

    code: ClassVar[str] = "not-reproducible"


@dataclass(eq=False)
class StoreError(PipelineError):
    """The shared volume does not hold what was asked for."""

    code: ClassVar[str] = "store"


@dataclass(eq=False)
class NotStored(StoreError):
    """No such batch, dataset, candidate result or run on the volume."""

    code: ClassVar[str] = "not-stored"


@dataclass(eq=False)
class VersionNotFound(StoreError):
    """No such model version on the volume."""

    code: ClassVar[str] = "version-not-found"

    version: str = ""


@dataclass(eq=False)
class VersionConflict(StoreError):
    """Another release came first."""

    code: ClassVar[str] = "version-conflict"

    expected: str = ""
    found: str = ""


@dataclass(eq=False)
class ArtifactCorrupt(StoreError):
    """Bytes on the volume differ from their digest."""

    code: ClassVar[str] = "artifact-corrupt"

    path: str = ""


@dataclass(eq=False)
class SignatureInvalid(StoreError):
    """A manifest is unsigned, or signed by another key."""

    code: ClassVar[str] = "signature-invalid"

    path: str = ""


@dataclass(eq=False)
class NoChampion(StoreError):
    """Nothing was promoted yet."""

    code: ClassVar[str] = "no-champion"


@dataclass(eq=False)
class NotReleasable(StoreError):
    """The version's verdict or approval does not allow its release."""

    code: ClassVar[str] = "not-releasable"

    version: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(eq=False)
class GenerationReplayed(StoreError):
    """The registry is older than one that was already served."""

    code: ClassVar[str] = "generation-replayed"

    served: int = 0
    found: int = 0


@dataclass(eq=False)
class DecryptionFailed(StoreError):
    """Encrypted bytes do not open with the key at hand."""

    code: ClassVar[str] = "decryption-failed"

    key_id: str = ""


@dataclass(eq=False)
class AuditBroken(StoreError):
    """The hash chain of the audit log does not hold."""

    code: ClassVar[str] = "audit-broken"

    line: int = 0


@dataclass(eq=False)
class BackupInvalid(StoreError):
    """A backup is damaged, cut short, or none at all."""

    code: ClassVar[str] = "backup-invalid"

    path: str = ""


@dataclass(eq=False)
class StoreUnfit(StoreError):
    """The volume as a whole is of a format that this release does not use, or is half restored.

    Attributes
    ----------
    found, known : int
        Format of the volume, and the one of this release.
    """

    code: ClassVar[str] = "store-unfit"

    found: int = 0
    known: int = 0


@dataclass(eq=False)
class RequestRefused(PipelineError):
    """A request to the service is not taken."""

    code: ClassVar[str] = "request-refused"


@dataclass(eq=False)
class BodyUnreadable(RequestRefused):
    """The body is not in the format that it is declared as."""

    code: ClassVar[str] = "body-unreadable"


@dataclass(eq=False)
class BodyTooLarge(RequestRefused):
    """The body is larger than the service reads."""

    code: ClassVar[str] = "body-too-large"

    limit: int = 0


@dataclass(eq=False)
class BodyTooSlow(RequestRefused):
    """The body did not arrive in time."""

    code: ClassVar[str] = "body-too-slow"


@dataclass(eq=False)
class KeyRefused(RequestRefused):
    """No credentials were sent, or wrong ones.

    Attributes
    ----------
    reason : str
        A word of a fixed set, for logs and metrics; the client is not told.
    """

    code: ClassVar[str] = "key-refused"

    reason: str = ""


@dataclass(eq=False)
class ScopeMissing(RequestRefused):
    """The credentials are good, but do not allow this operation."""

    code: ClassVar[str] = "scope-missing"

    scope: str = ""


@dataclass(eq=False)
class AddressRefused(RequestRefused):
    """The client's address is not on the allow-list."""

    code: ClassVar[str] = "address-refused"


@dataclass(eq=False)
class RateLimited(RequestRefused):
    """Too many requests; Retry-After says when there is room again.

    Attributes
    ----------
    retry_after : int
        In seconds from now.
    kind : str
        What was counted, such as ``address``.
    """

    code: ClassVar[str] = "rate-limited"

    retry_after: int = 1
    kind: str = ""


@dataclass(eq=False)
class MediaTypeRefused(RequestRefused):
    """The body is declared as something that this operation does not read."""

    code: ClassVar[str] = "media-type-refused"


@dataclass(eq=False)
class HeaderRefused(RequestRefused):
    """A header or query parameter that is needed is missing or malformed."""

    code: ClassVar[str] = "header-refused"

    header: str = ""


@dataclass(eq=False)
class KeyReused(RequestRefused):
    """An idempotency key came again with another request."""

    code: ClassVar[str] = "idempotency-key-reused"


@dataclass(eq=False)
class NotThere(RequestRefused):
    """There is no such prediction, run, model or version."""

    code: ClassVar[str] = "not-there"


@dataclass(eq=False)
class RecordExpired(RequestRefused):
    """The prediction was removed when its retention ended."""

    code: ClassVar[str] = "record-expired"


@dataclass(eq=False)
class OutcomeConflict(RequestRefused):
    """Another outcome is recorded for the prediction."""

    code: ClassVar[str] = "outcome-conflict"


@dataclass(eq=False)
class StackError(PipelineError):
    """A process of the embedded stack is not as it should be."""

    code: ClassVar[str] = "stack"


@dataclass(eq=False)
class AirflowRefused(StackError):
    """Airflow answered with an error.

    Attributes
    ----------
    status : int
        Its HTTP status.
    """

    code: ClassVar[str] = "airflow-refused"

    status: int = 0


@dataclass(eq=False)
class TransientError(PipelineError):
    """Worth another try: a service is away or a lock is held."""

    code: ClassVar[str] = "transient"


@dataclass(eq=False)
class AirflowAway(TransientError):
    """Airflow does not answer."""

    code: ClassVar[str] = "airflow-away"


@dataclass(eq=False)
class RecordsAway(TransientError):
    """The prediction log, or its database, cannot be written or read just now.

    Attributes
    ----------
    reason : str
        The driver's code of it, for who runs the service; the client is not told.
    """

    code: ClassVar[str] = "records-away"

    reason: str = ""

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.reason})" if self.reason else super().__str__()
