"""What the audit log says of approvals: who requested a version, whether it needs one, has one."""

from __future__ import annotations

from bc_pipeline.artifacts.audit_log import OUTCOMES, AuditLine
from bc_pipeline.artifacts.signed_bundle import VersionFiles
from bc_pipeline.conclusion import Conclusion

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


def objections(lines: list[AuditLine]) -> dict[str, AuditLine]:
    """The versions that a person refused or rolled back, each with the line that says so.

    A later approval or release of the version lifts it. That nobody decided in time is none.
    """
    against: dict[str, AuditLine] = {}
    for line in lines:
        if line.event in OUTCOMES or line.event == "approval":
            against.pop(line.version, None)
        replaced = line.details.get("replaces")
        if line.event == "rollback" and replaced:
            against[replaced] = line
        elif _is_refusal(line) and line.details.get("reason") != Conclusion.APPROVAL_EXPIRED:
            against[line.version] = line
    return against


def decisions_about(lines: list[AuditLine], version: str) -> list[str]:
    """Approvals and changes of the champion that a version had a part in, as sentences."""
    return [
        decision_text(line, version)
        for line in lines
        if line.event in OUTCOMES | {"approval"}
        and version in (line.version, line.details.get("replaces"))
    ]


def decision_text(line: AuditLine, version: str) -> str:
    """What a line of the audit log did with a version: who, when and why."""
    if line.event == "approval":
        done = "refused" if _is_refusal(line) else "approved"
    elif line.version == version:
        done = {"promotion": "promoted", "rollback": "brought back"}.get(line.event, "withdrawn")
    else:
        done = "rolled back" if line.event == "rollback" else f"replaced by {line.version}"
    why = line.details.get("reason")
    return f"{done} by {line.actor} at {line.at}" + (f": {why}" if why else "")


def _is_refusal(line: AuditLine) -> bool:
    return line.event == "approval" and not line.details["approved"]


def _verdicts(lines: list[AuditLine], version: str) -> list[AuditLine]:
    return [line for line in lines if line.event == "verdict" and line.version == version]
