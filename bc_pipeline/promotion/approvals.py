"""What the audit log says of approvals: who requested a version, whether it needs one, has one."""

from __future__ import annotations

from bc_pipeline.artifacts.audit_log import AuditLine
from bc_pipeline.artifacts.signed_bundle import VersionFiles

# Between a person and the user that the person worked as, in the name of an actor.
AS_USER = ", as "
_COMMAND = "cli:"


def has_verdict(lines: list[AuditLine], version: str, requires_approval: bool) -> bool:
    """Whether the log has a verdict on a version that requires as much."""
    return any(
        line.details.get("requires_approval", False) or not requires_approval
        for line in _verdicts(lines, version)
    )


def requesters(lines: list[AuditLine], version: str) -> set[str]:
    """The persons who started the runs that judged a version; the schedule is nobody.

    A request over the API counts for its key and for the user of Airflow that the service works
    as: nobody can approve as the one what was requested as the other.
    """
    persons = set()
    for name in requests_of(lines, version):
        persons.add(person_of(name))
        if not name.startswith(_COMMAND):
            persons.add(name.rpartition(AS_USER)[2])
    return persons


def requests_of(lines: list[AuditLine], version: str) -> list[str]:
    """Who started the runs that judged a version, as the audit log names them."""
    names = (line.details.get("requested_by") for line in _verdicts(lines, version))
    return sorted({name for name in names if name})


def person_of(actor: str) -> str:
    """The person of an actor's name, whatever user the person worked as."""
    return actor.partition(AS_USER)[0]


def is_approval_required(lines: list[AuditLine], version: str) -> bool:
    """Whether a run that judged the version required an approval."""
    return any(line.details.get("requires_approval") for line in _verdicts(lines, version))


def approver(files: VersionFiles, lines: list[AuditLine]) -> str | None:
    """Who approved these very bytes; None where nobody did, or a later decision is another."""
    decisions = [
        line
        for line in lines
        if line.event == "approval" and line.version == files.manifest.version
    ]
    if not decisions:
        return None
    last = decisions[-1]
    valid = last.details["approved"] and last.details["manifest_sha256"] == files.manifest_sha256
    return last.actor if valid else None


def _verdicts(lines: list[AuditLine], version: str) -> list[AuditLine]:
    return [line for line in lines if line.event == "verdict" and line.version == version]
