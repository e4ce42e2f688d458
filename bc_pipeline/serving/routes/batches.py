"""Predict many records in one request, and accept labelled rows for the next retrain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from http import HTTPStatus
from itertools import islice

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from bc_pipeline.errors import (
    ConfigError,
    FileRefused,
    HeaderRefused,
    LabelsRefused,
    MediaTypeRefused,
    NoChampion,
    PipelineError,
    RecordsAway,
    RowsRejected,
    TransientError,
)
from bc_pipeline.label_codes import read_label_codes
from bc_pipeline.serving import error_responses
from bc_pipeline.serving.batch_answer import (
    CSV_HEADER,
    BatchEnd,
    BatchRow,
    BatchSummary,
    answer_rows,
    csv_text,
    ndjson,
)
from bc_pipeline.serving.content_negotiation import negotiate
from bc_pipeline.serving.labelled_upload import LandedRows, land
from bc_pipeline.serving.model.loaded_model import LoadedModel
from bc_pipeline.serving.pages import documentation as docs
from bc_pipeline.serving.pages import record_examples
from bc_pipeline.serving.prediction import predict_rows
from bc_pipeline.serving.request_context import RequestContext, context_of
from bc_pipeline.serving.request_parsing.batch import (
    Row,
    csv_rows,
    fast_json_rows,
    json_rows,
    read_csv,
)
from bc_pipeline.serving.request_parsing.body_stream import (
    CSV_TYPES,
    WORKBOOK,
    media_type,
    read_small,
    release_memory_after,
    require_json,
    stored_body,
)
from bc_pipeline.serving.request_parsing.fast_record import Sample
from bc_pipeline.serving.request_parsing.multipart import FORM, JSON_OR_CSV, UPLOAD, stored_csv
from bc_pipeline.serving.responses import json_response
from bc_pipeline.serving.scoped_route import ScopedRoute
from bc_pipeline.serving.services import Services, services_of

router = APIRouter(route_class=ScopedRoute, tags=["batches"])
# Rows that are predicted at once, so that a batch does not delay single records.
_CHUNK_ROWS = 200
_ERRORS = (*docs.BODY_ERRORS, FileRefused, NoChampion, TransientError)


def _csv_example(model: LoadedModel) -> str:
    cells = [f"{value:g}" for value in model.example]
    return f"{','.join(model.schema.names)}\n{','.join(cells)}\n"


def _labelled_example(model: LoadedModel) -> str:
    header, row = _csv_example(model).splitlines()
    return f"{model.labels.column},{header}\n{model.labels.negative.name},{row}\n"


@router.post(
    "/v1/predict/batch",
    **docs.operation(
        "Classify many records",
        scope="predict",
        description="A line for each row, and a last one with the summary.",
        contents={
            docs.NDJSON: docs.content(
                {"oneOf": [docs.reference(BatchRow), docs.reference(BatchEnd)]}
            ),
            docs.CSV: docs.content(docs.TEXT),
        },
        headers=docs.MODEL_HEADERS,
        body=docs.request_body(
            {
                docs.JSON: docs.content(
                    {"type": "array", "items": record_examples.RECORD},
                    two=docs.Example(
                        "Two records, one of which lacks its features",
                        lambda model: [{"features": list(model.example)}, {"features": {}}],
                    ),
                ),
                docs.CSV: docs.content(
                    docs.TEXT, one=docs.Example("A header and a row", _csv_example)
                ),
                FORM: docs.content(UPLOAD),
            }
        ),
        errors=(*_ERRORS, RecordsAway),
    ),
)
async def classify(request: Request) -> Response:
    """A JSON list of records, or CSV as the body or as the file of a form.

    The answer is streamed, a line for each row in the order they came in: its prediction, or
    what is wrong with it. One model answers the whole batch. The last line is the summary; an
    answer without it is not complete. 'Accept: text/csv' asks for CSV, without a summary.
    """
    services, context = services_of(request), context_of(request)
    model = services.loaded_model
    context.model = model.version
    rows, notices = await _rows(request, services, model)
    kind = negotiate(request, (docs.NDJSON, docs.CSV))
    as_csv = kind == docs.CSV
    response: Response
    if isinstance(rows, list):
        body = await _answer_few(services, context, model, rows, as_csv=as_csv)
        response = Response(body, media_type=kind)
    else:
        parts = _answer(services, context, model, rows, notices, as_csv=as_csv)
        # An error that prevents the whole batch from being answered still has its own status.
        first = (CSV_HEADER.encode() if as_csv else b"") + await anext(parts, b"")
        response = StreamingResponse(_prepend(first, parts), media_type=kind)
    response.raw_headers[:0] = model.headers
    return response


async def _prepend(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        yield part


async def _rows(
    request: Request, services: Services, model: LoadedModel
) -> tuple[list[Row] | Iterator[Row], list[str]]:
    """The rows of a request, a list of them where it is small, and what of it is passed over."""
    headers, limit = request.headers.raw, services.settings.upload_limit
    if media_type(headers) in (*CSV_TYPES, FORM):
        async with stored_csv(request, limit) as path, services.upload_slots:
            schema, labels = model.schema, model.labels
            blocks = await asyncio.to_thread(read_csv, path, schema, labels)
            return csv_rows(blocks), list(blocks[0].notices)
    if media_type(headers) != docs.JSON and not media_type(headers).startswith(WORKBOOK):
        raise MediaTypeRefused(JSON_OR_CSV)
    require_json(headers)
    async with stored_body(request, limit) as stored:
        body = read_small(stored)
        few = fast_json_rows(model.parser, body, _CHUNK_ROWS) if body is not None else None
        if few is not None:
            return few, []
        stored.seek(0)
        async with services.upload_slots:
            # In a thread: the defects of a small list, too, take tens of milliseconds.
            return await asyncio.to_thread(
                release_memory_after, lambda: json_rows(model.parser, stored.read())
            ), []


async def _answer_few(
    services: Services,
    context: RequestContext,
    model: LoadedModel,
    rows: list[Row],
    *,
    as_csv: bool,
) -> bytes:
    """The whole answer to rows that are predicted at once."""
    samples = [row for _, row in rows if isinstance(row, Sample)]
    predictions = await predict_rows(services, context, model, samples, "batch")
    lines = answer_rows(rows, predictions)
    if as_csv:
        return CSV_HEADER.encode() + csv_text(lines, model.labels)
    return ndjson([*lines, _end(model, len(rows), len(samples), [])])


async def _answer(
    services: Services,
    context: RequestContext,
    model: LoadedModel,
    rows: Iterator[Row],
    notices: list[str],
    *,
    as_csv: bool,
) -> AsyncGenerator[bytes, None]:
    """The answer to a batch in parts, one for each chunk of rows that is predicted at once."""
    total = answered = 0
    while chunk := await asyncio.to_thread(lambda: list(islice(rows, _CHUNK_ROWS))):
        samples = [row for _, row in chunk if isinstance(row, Sample)]
        try:
            predictions = await predict_rows(services, context, model, samples, "batch")
        except PipelineError as error:
            if as_csv or not total:
                # CSV has no line for an error: the connection is closed too early instead.
                raise
            error_responses.log_internal_error(context.id, error)
            response = error_responses.from_error(error)
            response = error_responses.complete(response, "", services.settings)
            yield bytes(response.body) + b"\n"
            return
        lines = answer_rows(chunk, predictions)
        yield csv_text(lines, model.labels) if as_csv else ndjson(lines)
        total += len(chunk)
        answered += len(samples)
    if not as_csv:
        yield ndjson([_end(model, total, answered, notices)])


def _end(model: LoadedModel, total: int, answered: int, notices: list[str]) -> BatchEnd:
    counts = total, answered, total - answered
    return BatchEnd(BatchSummary(*counts, model.version, model.manifest_sha256, notices))


_LAND = docs.operation(
    "Land labelled rows for the next retrain",
    scope="upload",
    answer=LandedRows,
    status=HTTPStatus.CREATED,
    description="The file was landed; the next retrain takes it in as a batch.",
    others={HTTPStatus.OK: docs.response("The same file was landed before.", LandedRows)},
    body=docs.request_body(
        {
            docs.CSV: docs.content(
                docs.TEXT, one=docs.Example("A header and a row", _labelled_example)
            ),
            FORM: docs.content(UPLOAD),
        }
    ),
    parameters=[
        {
            "name": "label_codes",
            "in": "query",
            "description": "What label codes in the file mean, as code=label for each label, "
            "separated by commas. "
            "Without it, codes are taken only where the rows by themselves agree with the model.",
            "required": False,
            "schema": {"type": "string"},
        }
    ],
    errors=(*_ERRORS, HeaderRefused, LabelsRefused, RowsRejected),
)


@router.post("/v1/labelled-data", **_LAND)
@router.post("/upload-data", **_LAND | {"include_in_schema": False})
async def labelled(request: Request) -> Response:
    """CSV with the features and the labels, as the body or as the file of a form.

    The report lists the rows that cannot be used, and why. The next retrain ingests the usable
    rows; it also compares them with the rows that it has already. Labels that contradict the
    model, as if they were swapped, are refused.
    """
    services = services_of(request)
    limit = services.settings.upload_limit
    model = services.loaded_model
    codes = _label_codes(request, model)
    async with stored_csv(request, limit) as path, services.upload_slots:
        report = await asyncio.to_thread(land, services.settings, model, path, codes)
    return json_response(report, HTTPStatus.OK if report.known else HTTPStatus.CREATED)


def _label_codes(request: Request, model: LoadedModel) -> dict[str, str] | None:
    """The value of ``?label_codes``.

    Raises
    ------
    HeaderRefused
    """
    values = request.query_params.getlist("label_codes")
    if not values:
        return None
    try:
        return read_label_codes(",".join(values), model.labels)
    except ConfigError as error:
        raise HeaderRefused(error.message, error.remedy, header="label_codes") from None
