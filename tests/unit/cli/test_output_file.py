"""Commands write where a user says, and nothing else is replaced or made."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bc_pipeline.artifacts.store import Store
from bc_pipeline.cli import output_file as module
from bc_pipeline.cli.output_file import output_file
from bc_pipeline.errors import ConfigError
from bc_pipeline.problems.base import Problem
from tests.unit.commands import invoke, run_command
from tests.waiting import PATIENCE

CONTENT = b"a,b\n" * 50_000


def write(named: Path, *, force: bool = False, **options: Any) -> None:
    with output_file(named, force=force, **options) as out:
        out.path.write_bytes(CONTENT)


def test_a_new_file_is_written(tmp_path: Path) -> None:
    write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == CONTENT


def test_an_existing_file_is_replaced_only_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"exists already\. Give another name, or --force"):
        write(path)
    assert path.read_bytes() == b"old"
    answers = iter([False, True])
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: next(answers))
    with pytest.raises(ConfigError, match="not replaced"):
        write(path)
    with pytest.raises(ConfigError, match="exists already"):
        write(path, ask=False)
    write(path)
    assert path.read_bytes() == CONTENT
    path.write_bytes(b"old")
    write(path, force=True)
    assert path.read_bytes() == CONTENT


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link, second = tmp_path / "out.csv", tmp_path / "second.csv"
    link.symlink_to("second.csv")
    second.symlink_to(folder / "real.csv")
    write(link)
    assert (folder / "real.csv").read_bytes() == CONTENT
    with pytest.raises(ConfigError, match=r"real\.csv exists already"):
        write(link)
    write(link, force=True)
    assert link.is_symlink()
    assert second.is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == ["real.csv"]


def test_a_named_pipe_stays_and_its_reader_gets_the_content(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    os.mkfifo(path)
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(path.read_bytes()))
    thread.start()
    write(path)
    thread.join(PATIENCE)
    assert received == [CONTENT]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_pipe_without_reader_is_refused_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READER_SECONDS", 0.1)
    path = tmp_path / "out.csv"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="Nobody read"):
        write(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ConfigError, match="Nobody read"):
            write(path)
    finally:
        os.close(descriptor)


def test_devices_stay_devices() -> None:
    before = os.stat("/dev/null")
    write(Path("/dev/null"))
    after = os.stat("/dev/null")
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)
    with pytest.raises(ConfigError, match="/dev/full cannot be written: No space left"):
        write(Path("/dev/full"))


def test_a_file_that_the_shell_opened_is_written_from_where_it_stands(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from bc_pipeline.cli.output_file import output_file\n"
        "with output_file(Path(sys.argv[1]), force=False) as out:\n"
        "    out.path.write_text('scores')\n"
        "    print('report', out.is_standard_output, file=sys.stderr)"
    )
    for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        log = tmp_path / "log"
        log.write_text("line\n")
        with log.open("a") as stream:
            done = subprocess.run(
                [sys.executable, "-c", code, name],
                stdout=stream,
                stderr=subprocess.PIPE,
                check=True,
            )
        assert log.read_text() == "line\nscores"
        assert done.stderr == b"report True\n"


def make_link_to_itself(path: Path) -> Path:
    path.symlink_to(path)
    return path


def make_link_to_nothing(path: Path) -> Path:
    path.symlink_to(path.parent / "gone" / "x.csv")
    return path


def below_a_file(path: Path) -> Path:
    path.write_bytes(b"")
    return path / "out.csv"


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "folder": (lambda path: path.parent, "is a folder"),
    "missing folder": (lambda path: path.parent / "a" / "b" / "c.csv", "There is no folder .*/a/b"),
    "link to a missing folder": (
        make_link_to_nothing,
        "There is no folder .*/gone",
    ),
    "below a file": (below_a_file, "Not a directory"),
    "loop": (make_link_to_itself, "Too many levels"),
    "long name": (lambda path: path.with_name("x" * 256), "over 255 bytes"),
    "long name in UTF-8": (lambda path: path.with_name("é" * 128), "over 255 bytes"),
    "not UTF-8": (lambda path: path.with_name(os.fsdecode(b"J\xfcrgen.csv")), "not UTF-8"),
    "nothing": (lambda path: Path(""), "is a folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_is_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    make, reason = REFUSED[name]
    path = make(tmp_path / "out.csv")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=reason):
        write(path, force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    from bc_pipeline.artifacts.files import write_atomic

    with output_file(tmp_path / ("é" * 126 + "csv"), force=False) as out:
        write_atomic(out.path, CONTENT)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [CONTENT]


def test_what_is_read_is_not_replaced(tmp_path: Path) -> None:
    source, link, same = tmp_path / "in.csv", tmp_path / "link.csv", tmp_path / "same.csv"
    source.write_bytes(b"old")
    link.symlink_to(source)
    same.hardlink_to(source)
    for path in (source, link, same):
        with pytest.raises(ConfigError, match="is what is read"):
            write(path, force=True, source=source)
    with pytest.raises(ConfigError, match=r"in\.csv is what is read"):
        write(tmp_path / "out.csv", force=True, source=source, side=lambda _: source)
    assert source.read_bytes() == b"old"


def test_a_file_beside_it_is_replaced_on_demand_too(tmp_path: Path) -> None:
    side = tmp_path / "side.csv"
    side.write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"side\.csv exists already"):
        write(tmp_path / "out.csv", side=lambda _: side)
    write(tmp_path / "out.csv", side=lambda _: side, force=True)
    side.unlink()
    side.symlink_to("elsewhere")
    with pytest.raises(ConfigError, match=r"side\.csv is no file"):
        write(tmp_path / "out.csv", side=lambda _: side, force=True)


# score ---------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path, wdbc: Problem, reference: tuple[np.ndarray, np.ndarray]) -> Path:
    """Twenty good rows and a bad one."""
    path = tmp_path / "rows.csv"
    values = reference[0][:20].tolist()
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(wdbc.schema.names)
        writer.writerows([*values, ["x", *values[0][1:]]])
    return path


@pytest.fixture
def champion(releases: Any, fitted: Any) -> None:
    releases.publish("v1", fitted[0])
    releases.promote("v1")


def scores(path: Path) -> int:
    return path.read_bytes().count(b",v1,") + path.read_bytes().count(b',"v1",')


@pytest.mark.usefixtures("champion")
def test_score_replaces_only_with_force(rows: Path, tmp_path: Path) -> None:
    out, rejected = tmp_path / "out.csv", tmp_path / "out.rejected.csv"
    run_command("score", str(rows), str(out))
    assert scores(out) == 20
    assert rejected.exists()
    before = out.stat().st_ino, rejected.stat().st_ino
    result = run_command("score", str(rows), str(out), code=3)
    assert "exists already" in result.stderr
    assert (out.stat().st_ino, rejected.stat().st_ino) == before
    run_command("score", str(rows), str(out), "--force")
    assert run_command("score", str(rows), str(rows), "--force", code=3)
    assert scores(out) == 20


@pytest.mark.usefixtures("champion")
def test_score_into_a_device_says_where_the_rejected_rows_are(rows: Path) -> None:
    result = run_command("score", str(rows), "/dev/null", "--json")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (line,) = [line for line in result.stderr.splitlines() if "rejected rows" in line]
    rejected = Path(line.removeprefix("The rejected rows are in ").removesuffix("."))
    assert b"radius" in rejected.read_bytes()
    rejected.unlink()
    rejected.parent.rmdir()


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize("named", ["out.csv", "/dev/null"])
def test_score_without_a_sound_row_lists_the_rejected_rows(
    rows: Path, tmp_path: Path, named: str
) -> None:
    header, *_, bad = rows.read_text().splitlines()
    rows.write_text(f"{header}\n{bad}\n")
    result = run_command("score", str(rows), str(tmp_path / named), "--json", code=4)
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "rows-rejected"
    assert error["message"].startswith("No row of rows.csv can be scored (1 row: ")
    rejected = tmp_path / error["fields"]["rejected_file"]
    assert b"is not a number" in rejected.read_bytes()
    if named == "/dev/null":
        assert f"The rejected rows are in {rejected}." in result.stderr
        rejected.unlink()
        rejected.parent.rmdir()


@pytest.mark.usefixtures("champion")
def test_score_reads_a_pipe(rows: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_bytes(rows.read_bytes()))
    thread.start()
    run_command("score", str(pipe), str(tmp_path / "out.csv"))
    thread.join(PATIENCE)
    assert scores(tmp_path / "out.csv") == 20


@pytest.mark.integration
@pytest.mark.usefixtures("champion")
def test_score_between_pipes_of_a_shell(rows: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'from bc_pipeline.cli import main; main()' score"
    script = f"set -o pipefail; cat {rows} | {command} /dev/stdin /dev/stdout 2> report | cat > out"
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, timeout=2 * PATIENCE)
    assert scores(tmp_path / "out") == 20
    assert "rejected" in (tmp_path / "report").read_text()


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize(
    "words",
    [
        ["score", "/dev/zero", "out.csv"],
        ["score", "{folder}", "out.csv"],
        ["score", "x" * 300, "out.csv"],
        ["score", "{rows}", "{folder}"],
        ["score", "{rows}", "{rows}/x"],
        ["score", "{rows}", "no/such/folder.csv"],
        ["score", "{rows}", "x" * 254],
        ["score", "{rows}", "x" * 300],
        ["score", os.fsdecode(b"J\xfcrgen.csv"), "out.csv"],
        ["score", "{rows}", os.fsdecode(b"J\xfcrgen.csv")],
        ["ingest", "/dev/urandom"],
        ["ingest", "{folder}"],
        ["ingest", "x" * 300],
        ["ingest", os.fsdecode(b"J\xfcrgen.csv")],
        ["batch-score", "/dev/zero"],
        ["batch-score", "x" * 300],
        ["batch-score", os.fsdecode(b"J\xfcrgen.csv")],
        ["records", "export", "no/such/folder.csv"],
        ["records", "export", "{folder}"],
        ["records", "export", "{rows}"],
        ["backup", "no/such/folder.tar.age"],
        ["backup", "{rows}"],
        ["backup", "--verify", "/dev/zero"],
        ["backup", "--verify", "{folder}"],
        ["restore", "/dev/zero"],
        ["keys", "create", "--name", "a", "--scope", "predict", "--out", "no/such/key"],
        ["keys", "create", "--name", "a", "--scope", "predict", "--out", "{rows}"],
        ["keys", "import", "--name", "a", "--scope", "predict", "--key-file", "/dev/zero"],
        ["audit", "verify", "--tip", "/dev/zero"],
        ["compose", "secrets", "--folder", "no/such/folder"],
        ["compose", "secrets", "--folder", "{rows}"],
    ],
    ids=lambda words: " ".join(words)[:50].encode("ascii", "backslashreplace").decode(),
)
def test_unusable_paths_end_a_command_with_one_line_and_3(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    arguments = [word.format(rows=rows, folder=folder) for word in words]
    before = rows.read_bytes()
    result = invoke(*arguments)
    assert result.exit_code == 3, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert rows.read_bytes() == before
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("champion")
def test_what_is_no_file_in_the_worklist_is_refused_by_name_and_stops_no_other(
    rows: Path, store: Store
) -> None:
    store.worklist.mkdir(parents=True)
    os.mkfifo(store.worklist / "a.csv")
    (store.worklist / "b.csv").symlink_to("/dev/zero")
    (store.worklist / "c.csv").write_bytes(rows.read_bytes())
    result = run_command("batch-score", code=4)
    assert "2 of 3 files could not be scored" in result.stderr
    for reason in ("a.csv: is a pipe;", "b.csv: is a device."):
        assert reason in result.stderr
    (written,) = store.scores.rglob("c.scores.csv")
    assert scores(written) == 20


@pytest.mark.usefixtures("champion")
def test_score_says_how_many_rows_were_validated_and_where_the_report_is(
    rows: Path, tmp_path: Path
) -> None:
    shown = run_command("score", str(rows), str(tmp_path / "out.csv")).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("validated")]
    assert line.split(maxsplit=1)[1] == "20 rows, passed"
    (line,) = [line for line in shown.splitlines() if line.startswith("report")]
    assert Path(line.split(maxsplit=1)[1]).is_file()
    answered = run_command("score", str(rows), str(tmp_path / "out.csv"), "--force", "--json")
    assert len(json.loads(answered.stdout)["validations"]) == 1
