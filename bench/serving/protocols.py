"""The same rows by every protocol: requests, and a table of what they cost beside bare uvicorn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from bc_pipeline.problems import get_problem
from serving.client import load, request
from serving.peers import Peer, cpu_seconds
from serving.volume import KEY, PROBLEM, SEED

MANY = 100
WARM_UP = 100
# Requests of one record by each protocol in a round.
REQUESTS = 1600
# Goals: microseconds of one record and of a hundred, where bare uvicorn takes so many.
ONE_RECORD, MANY_RECORDS, BARE = 250.0, 1200.0, 40.0
NAMED_OVER_LIST = 1.15


@dataclass
class Protocol:
    """One way of asking, and the figures of each round.

    Attributes
    ----------
    worker_us : list of float
        CPU time of the worker for each request.
    """

    name: str
    path: str
    bodies: list[bytes]
    expected: bytes
    rows: int = 1
    worker_us: list[float] = field(default_factory=list)

    def ask(self, peer: Peer, worker: int, number: int) -> None:
        requests = [request(self.path, body, key=KEY, port=peer.port) for body in self.bodies]
        before = cpu_seconds([worker])
        load(peer.port, requests, self.expected, number=number)
        self.worker_us.append((cpu_seconds([worker]) - before) / number * 1e6)


class Comparison:
    """Every protocol and bare uvicorn, asked in turn by the same client."""

    def __init__(self, version: str) -> None:
        self._compared = protocols(version)
        self._bare = Protocol("bare uvicorn", *_request_of(self._compared[0]))

    def measure(self, ours: Peer, worker: int, bare: Peer, rounds: int) -> None:
        """Measure some rounds.

        Parameters
        ----------
        worker : int
            The process of our service that answers.
        """
        for one in self._compared:
            one.ask(ours, worker, WARM_UP)
            one.worker_us.clear()
        for _ in range(rounds):
            self._bare.ask(bare, bare.process.pid, REQUESTS)
            for one in self._compared:
                one.ask(ours, worker, REQUESTS if one.rows == 1 else REQUESTS // 8)

    def figures(self) -> dict[str, dict[str, float]]:
        """Median and least of CPU microseconds a request, and the ratio to bare uvicorn."""
        return {
            one.name: {
                "worker_us": median(one.worker_us),
                "worker_us_least": min(one.worker_us),
                "over_bare": _ratio(one, self._bare),
            }
            for one in (*self._compared, self._bare)
        }

    def goals(self) -> list[tuple[str, float, float]]:
        """Each goal with its bound and what was found."""
        named, listed, *_ = self._compared
        return [
            *(
                (
                    f"{one.name}, of bare uvicorn",
                    (ONE_RECORD if one.rows == 1 else MANY_RECORDS) / BARE,
                    _ratio(one, self._bare),
                )
                for one in self._compared
            ),
            ("named over list", NAMED_OVER_LIST, _ratio(named, listed)),
        ]

    def goals_met(self) -> bool:
        return all(measured <= bound for _, bound, measured in self.goals())

    def show(self) -> None:
        print("\nCPU of the worker per request by protocol, logistic, one worker, 16 connections")
        print(f"{'protocol':28}{'us':>9}{'least':>9}{'x bare':>8}{'goal':>8}")
        bounds = {name.removesuffix(", of bare uvicorn"): bound for name, bound, _ in self.goals()}
        for name, figures in self.figures().items():
            bound = f"{bounds[name]:8.2f}" if name in bounds else ""
            print(
                f"{name:28}{figures['worker_us']:9.1f}{figures['worker_us_least']:9.1f}"
                f"{figures['over_bare']:8.2f}{bound}"
            )
        name, bound, measured = self.goals()[-1]
        print(f"{name} {measured:.2f}, goal {bound}")


def constant(version: str) -> str:
    """An answer of bare uvicorn that is as long as ours."""
    return json.dumps({"model_version": version, "padding": "x" * 400})


def protocols(version: str) -> list[Protocol]:
    """Every protocol, with one record and, where it takes several, with a hundred."""
    problem = get_problem(PROBLEM)
    rows = problem.load_reference().values
    chosen = rows[np.random.default_rng(SEED).choice(len(rows), MANY, replace=False)].tolist()
    names = list(problem.schema.names)
    named = [dict(zip(names, row, strict=True)) for row in chosen]

    def table(some: Sequence[list[float]]) -> object:
        return {"dataframe_split": {"columns": names, "data": some}}

    def tensor(some: Sequence[list[float]]) -> object:
        flat = [value for row in some for value in row]
        shape = [len(some), len(names)]
        return {"inputs": [{"name": "features", "datatype": "FP64", "shape": shape, "data": flat}]}

    def batch(some: Sequence[list[float]]) -> object:
        return named[: len(some)]

    singles: dict[str, tuple[str, list[object]]] = {
        "/predict, named": ("/predict", list(named)),
        "/predict, list": ("/predict", [{"features": row} for row in chosen]),
        "/v1/predict, named": ("/v1/predict", list(named)),
    }
    made = [
        Protocol(name, path, [_encode(one) for one in contents], version.encode())
        for name, (path, contents) in singles.items()
    ]
    for name, path, form, expected in (
        ("/v1/predict/batch", "/v1/predict/batch", batch, version),
        ("/invocations", "/invocations", table, "prediction_ids"),
        ("V2 infer", f"/v2/models/{PROBLEM}/infer", tensor, version),
    ):
        for count in (1, MANY):
            body = _encode(form(chosen[:count]))
            made.append(Protocol(f"{name}, {count}", path, [body], expected.encode(), count))
    return made


def _request_of(one: Protocol) -> tuple[str, list[bytes], bytes]:
    return one.path, one.bodies, one.expected


def _ratio(above: Protocol, below: Protocol) -> float:
    """Median of the rounds' ratios: what slows one round slows both sides."""
    pairs = zip(above.worker_us, below.worker_us, strict=True)
    return median(one / other for one, other in pairs)


def _encode(content: object) -> bytes:
    return json.dumps(content).encode()
