"""Whether the notes of erasures on the volume agree with the audit log and with the rows."""

from __future__ import annotations

from bc_pipeline.artifacts.audit_log import read_audit_log
from bc_pipeline.artifacts.files import sha256_file
from bc_pipeline.artifacts.store import Store
from bc_pipeline.data.erasure_notes import ErasureNote, list_notes
from bc_pipeline.errors import ArtifactCorrupt, counted

_AGAIN = (
    "Erase them again, by the request that the erasure was made for: `bc-pipeline erase --list` "
    "gives its time and reason."
)


def recorded_erasures(store: Store) -> dict[str, str]:
    """Time of each erasure that the audit log has, by its name.

    Raises
    ------
    AuditBroken
    """
    return {
        line.details["erasure"]: line.at
        for line in read_audit_log(store).trusted
        if line.event == "erasure"
    }


def check_erasures(store: Store) -> str:
    """Count the erasures, and require that each is finished and holds.

    Raises
    ------
    ArtifactCorrupt
        Naming every erasure that is unfinished, has no note, or whose rows are back.
    AuditBroken, SignatureInvalid
    """
    notes = list_notes(store)
    wrong = [f"erasure {note.erasure} is unfinished" for note in notes if note.state == "started"]
    missing = recorded_erasures(store).keys() - {note.erasure for note in notes}
    wrong += [f"erasure {name} of the audit log has no note" for name in sorted(missing)]
    for path, sha256 in _last_digests(notes).items():
        file = store.home / path
        if file.is_file() and sha256_file(file) != sha256:
            wrong.append(f"{path} is not what the last erasure left")
    if wrong:
        raise ArtifactCorrupt(f"{'; '.join(wrong)}.", _AGAIN, path=str(store.erasures))
    return f"{counted(len(notes), 'erasure')}, all finished"


def _last_digests(notes: list[ErasureNote]) -> dict[str, str]:
    return {
        rows.path: rows.sha256 for note in notes if note.state == "finished" for rows in note.rows
    }
