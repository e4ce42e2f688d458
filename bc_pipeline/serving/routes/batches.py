"""Many records at once, and labelled rows for the next retrain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from bc_pipeline.errors import (
    BodyTooLarge,
    BodyUnreadable,
    FileRefused,
    MediaTypeRefused,
    NoChampion,
    PipelineError,
    RecordsAway,
    RowsRejected,
    SchemaMismatch,
    TransientError,
)
from bc_pipeline.serving import problem_details
from bc_pipeline.serving.accept import preferred
from bc_pipeline.serving.admission import ScopedRoute
from bc_pipeline.serving.answers import json_answer
from bc_pipeline.serving.bodies.batch import (
    CSV_COLUMNS,
    BatchEnd,
    BatchRow,
    BatchSummary,
    Row,
    answered,
    csv_rows,
    csv_text,
    json_rows,
    ndjson,
    portions,
    read_csv,
    split,
)
from bc_pipeline.serving.bodies.labelled import LandedRows, land
from bc_pipeline.serving.bodies.reading import media_type, require_json, stored_body
from bc_pipeline.serving.bodies.storing import FORM, UPLOAD, stored_csv
from bc_pipeline.serving.exchange import Exchange, exchange_of, headers_of, services_of
from bc_pipeline.serving.inference.predict_rows import tidily
from bc_pipeline.serving.model.live import Live
from bc_pipeline.serving.pages.documentation import (
    CSV,
    JSON,
    MODEL_HEADERS,
    NDJSON,
    RECORD,
    Example,
    Success,
    content,
    operation,
    request_body,
)
from bc_pipeline.serving.predict import predict
from bc_pipeline.serving.services import Services

router = APIRouter(route_class=ScopedRoute, tags=["batches"])
_MIB = 1024 * 1024
_REFUSALS = (
    BodyUnreadable,
    BodyTooLarge,
    MediaTypeRefused,
    SchemaMismatch,
    FileRefused,
    NoChampion,
    TransientError,
)


def _table(live: Live, *, labelled: bool) -> str:
    """A CSV of one row, for the documentation."""
    names = list(live.manifest.feature_schema.names)
    cells = [f"{value:g}" for value in live.example]
    labels = live.labels
    head = [labels.column] if labelled else []
    return (
        ",".join(head + names)
        + "\n"
        + ",".join(([labels.negative.name] if labelled else []) + cells)
        + "\n"
    )


@router.post(
    "/v1/predict/batch",
    **operation(
        "Classify many records",
        scope="predict",
        description="A line for each row, and a last one with the summary.",
        contents={
            NDJSON: content(
                {
                    "oneOf": [
                        {"$ref": "#/components/schemas/BatchRow"},
                        {"$ref": "#/components/schemas/BatchEnd"},
                    ]
                }
            ),
            CSV: content({"type": "string"}),
        },
        headers=MODEL_HEADERS,
        body=request_body(
            {
                JSON: content(
                    {"type": "array", "items": RECORD},
                    two=Example(
                        "Two records, one of which lacks its features",
                        lambda live: [{"features": list(live.example)}, {"features": {}}],
                    ),
                ),
                CSV: content(
                    {"type": "string"},
                    one=Example("A header and a row", lambda live: _table(live, labelled=False)),
                ),
                FORM: content(UPLOAD),
            }
        ),
        refusals=(*_REFUSALS, RecordsAway),
    ),
)
async def classify(request: Request) -> Response:
    """A JSON list of records, or CSV as the body or as the file of a form.

    The answer is streamed, a line for each row in the order they came in: its prediction, or
    what is wrong with it. One model answers the whole batch. The last line is the summary; an
    answer without it is not complete. 'Accept: text/csv' asks for CSV, without a summary.
    """
    services, exchange = services_of(request), exchange_of(request)
    live = services.live
    exchange.model = live.version
    rows = await _rows(request, services, live)
    as_csv = preferred(request.headers.get("accept", ""), (NDJSON, CSV)) == CSV
    lines = _Lines(services, exchange, live, rows, as_csv=as_csv)
    # What keeps every row from being answered still has a status of its own.
    first = await lines.portion()
    response = StreamingResponse(lines.after(first), media_type=CSV if as_csv else NDJSON)
    response.raw_headers[:0] = live.headers
    return response


async def _rows(request: Request, services: Services, live: Live) -> Iterator[Row]:
    headers, limit = headers_of(request.scope), services.settings.upload_limit_mb * _MIB
    if media_type(headers) in (CSV, FORM):
        async with stored_csv(request, limit) as path, services.reading:
            return csv_rows(await asyncio.to_thread(read_csv, live, path))
    require_json(headers)
    async with stored_body(request.receive, headers, limit) as stored, services.reading:
        return await asyncio.to_thread(tidily, lambda: json_rows(live, stored.read()))


class _Lines:
    """The answer to a batch, portion by portion."""

    def __init__(
        self,
        services: Services,
        exchange: Exchange,
        live: Live,
        rows: Iterator[Row],
        *,
        as_csv: bool,
    ) -> None:
        self._services, self._exchange, self._live = services, exchange, live
        self._portions = portions(rows)
        self._as_csv = as_csv
        self._rows = self._answered = 0

    async def portion(self) -> bytes:
        """Lines of the next rows; nothing where there are no more."""
        portion: list[Row] = await asyncio.to_thread(next, self._portions, [])
        samples = split(portion)
        found = (
            predict(self._services, self._exchange, self._live, samples, "batch") if samples else []
        )
        self._rows += len(portion)
        self._answered += len(samples)
        rows = answered(portion, found)
        return csv_text(rows, self._live.labels) if self._as_csv else ndjson(rows)

    async def after(self, first: bytes) -> AsyncIterator[bytes]:
        """The whole answer, whose first portion is made already."""
        if self._as_csv:
            yield (",".join(CSV_COLUMNS) + "\n").encode()
        lines = first
        while lines:
            yield lines
            try:
                lines = await self.portion()
            except PipelineError as error:
                if self._as_csv:
                    # There is no place for it: the connection ends before the answer does.
                    raise
                problem_details.log_fault(self._exchange.id, error)
                yield bytes(problem_details.from_error(error).body) + b"\n"
                return
        if not self._as_csv:
            live = self._live
            counts = (self._rows, self._answered, self._rows - self._answered)
            summary = BatchSummary(*counts, live.version, live.manifest_sha256)
            yield ndjson([BatchEnd(summary)])


_LAND = operation(
    "Land labelled rows for the next retrain",
    scope="upload",
    answer=LandedRows,
    status=HTTPStatus.CREATED,
    description="The file was landed; the next retrain takes it in as a batch.",
    others={HTTPStatus.OK: Success("The same file was landed before.", LandedRows)},
    body=request_body(
        {
            CSV: content(
                {"type": "string"},
                one=Example("A header and a row", lambda live: _table(live, labelled=True)),
            ),
            FORM: content(UPLOAD),
        }
    ),
    refusals=(*_REFUSALS, RowsRejected),
)


@router.post("/v1/labelled-data", **_LAND)
@router.post("/upload-data", **_LAND | {"include_in_schema": False})
async def labelled(request: Request) -> Response:
    """CSV with the features and the diagnosis, as the body or as the file of a form.

    The report tells which rows cannot be used, and why. Sound rows are taken in by the next
    retrain, which also holds them against the rows that are known already.
    """
    services = services_of(request)
    limit = services.settings.upload_limit_mb * _MIB
    async with stored_csv(request, limit) as path, services.reading:
        report = await asyncio.to_thread(land, services.settings, services.live.manifest, path)
    return json_answer(report, HTTPStatus.OK if report.known else HTTPStatus.CREATED)


for _kind in (BatchRow, BatchEnd):
    content(_kind)
