"""Every error that the package raises on purpose.

The tree, which each mapping (Airflow retry or fail, CLI exit code, HTTP problem) follows::

    PipelineError
    ├── ConfigError             a setting, argument or machine is not as needed
    ├── DataError               the data is not fit for the step
    │   ├── FileRefused         a file as a whole cannot be read
    │   ├── SchemaMismatch      names, values or options are not valid
    │   ├── LabelsRefused       labels contradict the class profile, or codes are not declared
    │   ├── RowsRejected        too few rows were left
    │   ├── ExpectationsFailed  an expectation suite failed
    │   ├── SuiteBroken         an expectation suite is not what it declares
    │   ├── NothingAsOf         no accepted row had arrived by the as-of time
    │   ├── TooFewRows          a class has too few rows for cross-validation
    │   └── SplitOverlap        a row stands on both sides of the split
    ├── ModelError              the model is not fit for the step
    │   ├── DegenerateModel     a fit gave constant or non-finite output
    │   ├── EvidenceMismatch    champion and challenger were not scored on the same rows
    │   │   └── SplitChanged    champion and challenger have different holdouts
    │   ├── SmokeTestFailed     the real service would not answer with the artifact
    │   └── NotReproducible     the same inputs gave another model
    ├── StoreError              the shared volume does not contain what was requested
    │   ├── NotStored           no such batch, dataset, candidate or run
    │   ├── VersionNotFound
    │   │   └── VersionAmbiguous    a short name stands for several versions
    │   ├── VersionConflict     another release came first
    │   ├── RowsErased          rows of the dataset were erased: it is not what was trained on
    │   ├── BatchConflict       rows of a withdrawn batch contradict batches that count
    │   ├── ArtifactCorrupt     bytes differ from their digest
    │   ├── SignatureInvalid
    │   ├── NoChampion          nothing was promoted yet
    │   ├── NotReleasable       the version's verdict or approval does not allow it
    │   ├── GenerationReplayed  the registry is older than what was already served
    │   ├── DecryptionFailed    encrypted bytes do not open with the key at hand
    │   ├── AuditBroken         the hash chain of the audit log does not hold
    │   ├── BackupInvalid       a backup is damaged, cut short, or not one
    │   └── StoreUnfit          the volume is of another format, or was restored in part only
    ├── RequestRefused          a request to the service is refused
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
    └── TransientError          worth another try: a service does not answer, a lock is held
        ├── AirflowAway         Airflow does not answer
        └── RecordsAway         the prediction log or its database cannot be written
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, ClassVar, dataclass_transform

_KINDS_LISTED = 3


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
        location = [
            f"line {self.line}" if self.line is not None else "",
            f"column {self.column!r}" if self.column is not None else "",
        ]
        where = ", ".join(part for part in location if part)
        return f"{where}: {self.reason}" if where else self.reason

    @property
    def kind(self) -> str:
        """Column and reason, which defects of several rows have in common."""
        return f"{self.column}: {self.reason}" if self.column else self.reason


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun, such as ``1 row`` or ``2 rows``; `many` where ``s`` is not enough."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def list_kinds(kinds: Counter[str]) -> str:
    """The most frequent kinds of defects, such as ``"3 x id: is empty; 1 x is no row"``."""
    return "; ".join(f"{count} x {kind}" for kind, count in kinds.most_common(_KINDS_LISTED))


@dataclass_transform(eq_default=False)
class _CodedError(Exception):
    """Makes each subclass a dataclass with the code of its class statement."""

    code: ClassVar[str]
    by_code: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, code: str = "") -> None:
        dataclass(eq=False)(cls)
        if code:
            cls.code = code
            cls.by_code[code] = cls


class PipelineError(_CodedError, code="pipeline-error"):
    """The request is valid, but the service cannot fulfil it; its log says why.

    Attributes
    ----------
    message : str
        One sentence that names what is wrong.
    remedy : str
        What to do next, or an empty string.
    """

    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions unpickle from their positional arguments; ours have keywords.
        return partial(type(self), **{f.name: getattr(self, f.name) for f in fields(self)}), ()

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain JSON values, with the error's ``code``."""
        # Unlike msgspec, the json module keeps names of files that are not text.
        return {"code": self.code, **json.loads(json.dumps(asdict(self)))}


def error_from_dict(content: Mapping[str, Any]) -> PipelineError:
    """Rebuild an error from `PipelineError.to_dict` of another process, without its fields."""
    kind: type[PipelineError] = PipelineError.by_code.get(content["code"], PipelineError)
    return kind(content["message"], content["remedy"])


class ConfigError(PipelineError, code="config"):
    """A setting, an argument or the machine is not as needed."""

    setting: str = ""


class DataError(PipelineError, code="data"):
    """The data is not fit for the step."""


class _DefectiveInput(DataError):
    source: str = ""
    defects: tuple[Defect, ...] = ()

    def __str__(self) -> str:
        shown = "; ".join(str(defect) for defect in self.defects[:10])
        more = len(self.defects) - 10
        tail = f" (and {more} more)." if more > 0 else "." if shown else ""
        message = f"{self.message.removesuffix('.')}:" if shown else self.message
        parts = [message, shown + tail, self.remedy]
        return " ".join(part for part in parts if part)


class FileRefused(_DefectiveInput, code="file-refused"):
    """A file as a whole cannot be read; none of its rows was ingested or scored."""


class SchemaMismatch(_DefectiveInput, code="schema-mismatch"):
    """Names, values or options are not valid; ``defects`` lists all of them."""


class LabelsRefused(DataError, code="labels-refused"):
    """Labels contradict what is known of the classes, or their codes are not declared.

    Attributes
    ----------
    rows, against : int
        Rows whose labels were compared, and how many of them contradict.
    """

    source: str = ""
    rows: int = 0
    against: int = 0


class RowsRejected(DataError, code="rows-rejected"):
    """Too few rows were left after validation."""

    read: int = 0
    accepted: int = 0
    # The table of the others, where one was written.
    rejected_file: str = ""


class ExpectationsFailed(DataError, code="expectations-failed"):
    """An expectation suite failed; ``failed`` names every failed expectation."""

    suite: str = ""
    failed: tuple[str, ...] = ()
    report: str = ""


class SuiteBroken(DataError, code="suite-broken"):
    """A suite file does not load into the expectations that it declares."""

    suite: str = ""


class NothingAsOf(DataError, code="nothing-as-of"):
    """No accepted row had arrived by the as-of time."""

    as_of: str = ""


class TooFewRows(DataError, code="too-few-rows"):
    """A class has fewer train rows than cross-validation needs."""

    rows: int = 0
    needed: int = 0


class SplitOverlap(DataError, code="split-overlap"):
    """A row stands on both sides of the split."""

    keys: tuple[str, ...] = ()


class ModelError(PipelineError, code="model"):
    """The model is not fit for the step."""


class DegenerateModel(ModelError, code="degenerate-model"):
    """A fit gave constant or non-finite probabilities."""

    candidate: str = ""


class EvidenceMismatch(ModelError, code="evidence-mismatch"):
    """Champion and challenger were not scored on the same rows."""

    champion: str = ""
    challenger: str = ""


class SplitChanged(EvidenceMismatch, code="split-changed"):
    """Champion and challenger have different splits; ``differing`` names the fields."""

    differing: tuple[str, ...] = ()


class SmokeTestFailed(ModelError, code="smoke-test"):
    """The real service would not answer with the artifact."""


class NotReproducible(ModelError, code="not-reproducible"):
    """The same inputs gave another model."""


class StoreError(PipelineError, code="store"):
    """The shared volume does not contain what was requested."""


class NotStored(StoreError, code="not-stored"):
    """No such batch, dataset, candidate result or run on the volume."""


class VersionNotFound(StoreError, code="version-not-found"):
    """No such model version on the volume."""

    version: str = ""


class VersionAmbiguous(VersionNotFound, code="version-ambiguous"):
    """The beginning of a name stands for several versions, the ``candidates``."""

    candidates: tuple[str, ...] = ()


class VersionConflict(StoreError, code="version-conflict"):
    """Another release came first."""

    expected: str = ""
    found: str = ""


class RowsErased(StoreError, code="rows-erased"):
    """Rows of a dataset were erased at a person's request; ``erasures`` names the notes."""

    dataset: str = ""
    erasures: tuple[str, ...] = ()


class BatchConflict(StoreError, code="batch-conflict"):
    """Rows of a withdrawn batch contradict rows of batches that count; they are named."""

    batch: str = ""
    conflicts: tuple[str, ...] = ()


class ArtifactCorrupt(StoreError, code="artifact-corrupt"):
    """Bytes on the volume differ from their digest."""

    path: str = ""


class SignatureInvalid(StoreError, code="signature-invalid"):
    """A file is unsigned, was changed after it was signed, or is signed by another key."""

    path: str = ""


class NoChampion(StoreError, code="no-champion"):
    """Nothing was promoted yet."""


class NotReleasable(StoreError, code="not-releasable"):
    """The version's verdict or approval does not allow its release."""

    version: str = ""
    reasons: tuple[str, ...] = ()


class GenerationReplayed(StoreError, code="generation-replayed"):
    """The registry is older than one that was already served."""

    served: int = 0
    found: int = 0


class DecryptionFailed(StoreError, code="decryption-failed"):
    """Encrypted bytes do not open with the key at hand."""

    key_id: str = ""


class AuditBroken(StoreError, code="audit-broken"):
    """The hash chain of the audit log does not hold."""

    line: int = 0


class BackupInvalid(StoreError, code="backup-invalid"):
    """A backup is damaged, cut short, or none at all."""

    path: str = ""


class StoreUnfit(StoreError, code="store-unfit"):
    """The volume as a whole is of a format that this release does not use, or is half restored.

    Attributes
    ----------
    found, known : int
        Format of the volume, and the one of this release.
    """

    found: int = 0
    known: int = 0


class RequestRefused(PipelineError, code="request-refused"):
    """A request to the service is refused."""


class BodyUnreadable(RequestRefused, code="body-unreadable"):
    """The body is not in the format that it is declared as."""


class BodyTooLarge(RequestRefused, code="body-too-large"):
    """The body is larger than the service reads."""

    limit: int = 0


class BodyTooSlow(RequestRefused, code="body-too-slow"):
    """The body did not arrive in time."""


class KeyRefused(RequestRefused, code="key-refused"):
    """No credentials were sent, or wrong ones.

    Attributes
    ----------
    reason : str
        A word of a fixed set, for logs and metrics; it is not sent to the client.
    """

    reason: str = ""


class ScopeMissing(RequestRefused, code="scope-missing"):
    """The credentials are good, but do not allow this operation."""

    scope: str = ""


class AddressRefused(RequestRefused, code="address-refused"):
    """The client's address is not on the allow-list."""


class RateLimited(RequestRefused, code="rate-limited"):
    """Too many requests; Retry-After says when there is room again.

    Attributes
    ----------
    retry_after : int
        In seconds from now.
    kind : str
        What was counted, such as ``address``.
    """

    retry_after: int = 1
    kind: str = ""


class MediaTypeRefused(RequestRefused, code="media-type-refused"):
    """The body is declared as something that this operation does not read."""


class HeaderRefused(RequestRefused, code="header-refused"):
    """A header or query parameter that is needed is missing or malformed."""

    header: str = ""


class KeyReused(RequestRefused, code="idempotency-key-reused"):
    """An idempotency key came again with another request."""


class NotThere(RequestRefused, code="not-there"):
    """There is no such prediction, run, model or version."""


class RecordExpired(RequestRefused, code="record-expired"):
    """The prediction was removed when its retention ended."""


class OutcomeConflict(RequestRefused, code="outcome-conflict"):
    """Another outcome is recorded for the prediction."""


class StackError(PipelineError, code="stack"):
    """A process of the embedded stack is not as it should be."""


class AirflowRefused(StackError, code="airflow-refused"):
    """Airflow answered with an error.

    Attributes
    ----------
    status : int
        Its HTTP status.
    """

    status: int = 0


class TransientError(PipelineError, code="transient"):
    """Worth another try: a service does not answer, or a lock is held."""


class AirflowAway(TransientError, code="airflow-away"):
    """Airflow does not answer."""


class RecordsAway(TransientError, code="records-away"):
    """The prediction log, or its database, cannot be written or read just now.

    Attributes
    ----------
    reason : str
        The driver's code of it, for operators; it is not sent to the client.
    """

    reason: str = ""

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.reason})" if self.reason else super().__str__()
