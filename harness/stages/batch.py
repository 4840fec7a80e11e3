"""A judge's questions by OpenAI's batch API: written to files, uploaded, answered within a day at half the price.

Reads and writes `RUN/round-NNN/batch/<fingerprint of the judge>/`:

    requests-001.jsonl     a request a line: {"custom_id", "method", "url", "body"}, as the API takes them
    answers-001.jsonl      what came back, refusals included
    batches.json           which files are where: written, submitted, answered

    batch = Batch(folder, BatchConfig())
    batch.send({"model": "gpt-5", "messages": [...]})     # the answer; or NotAnswered, and the request is wanted
    batch.write()                                         # what is wanted, into a file
    batch.submit(client), batch.fetch(client)             # the file to the server, the answers from it

Judging is done again from its beginning with the answers that there are, which is the same each time: a run's further
questions (its next window, what an answer missed) come into the next batch. Nothing is submitted twice: a batch bears
the hash of its file, by which one is found that was created just before a crash.
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import msgspec
import openai
from loguru import logger

from srft.agent.models.openai import NotAnswered
from srft.env.errors import InputError, ModelError
from srft.harness.config.config import MORE_THAN_0
from srft.harness.run.store import write_atomic

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
# What the next batch may answer, so often.
_PASSING = frozenset({408, 409, 425, 429})
TRIES = 3


class BatchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether and how a judge is asked by batch files."""

    enabled: bool = False
    """Ask by OpenAI's batch API in place of one request after the other."""
    until: Literal["written", "submitted", "answered"] = "answered"
    """Where the command ends: with the file written (submit it yourself, and lay the answers beside it), with the batch
    submitted, or with the answers read. Run the same command again to resume from there."""
    poll_s: Annotated[float, MORE_THAN_0] = 60.0
    """Seconds between two looks at a batch."""
    max_requests: Annotated[int, MORE_THAN_0] = 50_000
    """The most requests of a file."""
    max_mib: Annotated[float, MORE_THAN_0] = 190.0
    """The largest file."""
    price_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    """What a batch's tokens cost of the usual price."""


class _File(msgspec.Struct, kw_only=True):
    """One file of requests, and how far it is."""

    number: int
    requests: int
    key: str
    input_file_id: str | None = None
    batch_id: str | None = None
    is_answered: bool = False


class _State(msgspec.Struct, kw_only=True):
    files: list[_File] = []


class Refused(openai.APIStatusError):
    """A refusal that a batch's file holds, as the client raises it where a server answers at once."""

    def __init__(self, status: int, body: Any) -> None:
        Exception.__init__(self, f"Error code: {status} - {body}")
        self.status_code, self.body = status, body.get("error", body) if isinstance(body, dict) else body
        self.code = self.body.get("code") if isinstance(self.body, dict) else None
        self.response: Any = SimpleNamespace(headers={})  # there was none


class Batch:
    """A judge's requests and answers in files. `send` is shared by threads."""

    def __init__(self, folder: Path, config: BatchConfig) -> None:
        """Raises InputError for files that are no batch's."""
        self.folder, self.config = folder, config
        self._state = self._read_state()
        self._lock = threading.Lock()
        self._wanted: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        self._asked: Counter[str] = Counter()
        for file in self._state.files:
            self._asked.update(request["custom_id"] for request in self._lines(self._requests(file.number)))
            if file.is_answered:
                self._read_answers(file)

    def send(self, request: dict[str, Any]) -> Any:
        """The answer to a request. Raises NotAnswered, and openai's errors where it was refused."""
        name = "srft-" + hashlib.sha256(msgspec.json.encode(request, order="sorted")).hexdigest()[:24]
        with self._lock:
            answer = self._answers.get(name)
            if answer is None:
                self._wanted[name] = request
        if answer is None:
            raise NotAnswered(name)
        status, body = answer["status_code"], answer["body"]
        if status == 200:
            return body
        raise Refused(status, body)

    @property
    def wanted(self) -> list[dict[str, Any]]:
        """The requests that are to be written."""
        return list(self._wanted.values())

    @property
    def under_way(self) -> list[_File]:
        return [file for file in self._state.files if not file.is_answered]

    def write(self) -> None:
        """Put the requests that are wanted into files. Raises StorageError."""
        under_way = {name for file in self.under_way for name in self._names(file)}
        lines = {
            name: msgspec.json.encode({"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body}) + b"\n"
            for name, body in self._wanted.items()
            if name not in under_way
        }
        for part in self._parts(lines):
            content = b"".join(part.values())
            file = _File(
                number=len(self._state.files) + 1, requests=len(part), key=hashlib.sha256(content).hexdigest()[:32]
            )
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._requests(file.number), content)
            self._state.files.append(file)
            self._save()
            self._asked.update(list(part))
        self._wanted.clear()

    def submit(self, client: openai.OpenAI) -> None:
        """Upload what was written and not submitted yet. Raises ModelError."""
        for file in self.under_way:
            if file.batch_id is not None or self._found_answers(file):
                continue
            try:
                self._submit(client, file)
            except openai.OpenAIError as error:
                raise ModelError(
                    f"{self._requests(file.number)}: cannot be submitted to {client.base_url} ({error}); check that "
                    "this server has OpenAI's batch API, or ask without --batch"
                ) from error

    def _submit(self, client: openai.OpenAI, file: _File) -> None:
        if file.input_file_id is None:
            path = self._requests(file.number)
            file.input_file_id = client.files.create(file=path, purpose="batch").id
            self._save()
        else:  # an earlier command ended between the two
            known = (
                batch for batch in client.batches.list(limit=100) if (batch.metadata or {}).get("srft") == file.key
            )
            file.batch_id = next((batch.id for batch in known), None)
        if file.batch_id is None:
            made = client.batches.create(
                input_file_id=file.input_file_id,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={"srft": file.key},
            )
            file.batch_id = made.id
        self._save()
        logger.info("batch {}: {:,} requests submitted", file.batch_id, file.requests)

    def fetch(self, client: openai.OpenAI) -> bool:
        """Read what has been answered; whether nothing is under way any more. Raises ModelError."""
        for file in self.under_way:
            if self._found_answers(file):
                self._read_answers(file)
            elif file.batch_id is not None:
                try:
                    self._fetch(client, file)
                except openai.OpenAIError as error:
                    if not isinstance(
                        error, openai.APIConnectionError | openai.InternalServerError | openai.RateLimitError
                    ):
                        raise ModelError(
                            f"batch {file.batch_id} at {client.base_url}: {error}; look at it there"
                        ) from error
                    logger.warning("batch {}: {}; looking again", file.batch_id, error)
        return not self.under_way

    def _fetch(self, client: openai.OpenAI, file: _File) -> None:
        assert file.batch_id is not None
        batch = client.batches.retrieve(file.batch_id)
        if batch.status not in _OVER:
            counts = batch.request_counts
            logger.debug("batch {}: {}, {}", batch.id, batch.status, counts and counts.completed)
            return
        if batch.status == "failed":
            said = (
                "; ".join(str(one.message) for one in (batch.errors.data or [])) if batch.errors else "no reason given"
            )
            raise ModelError(
                f"batch {batch.id} failed ({said}); correct that, remove {self.folder}, and give the same command again"
            )
        parts = [client.files.content(id_).read() for id_ in (batch.output_file_id, batch.error_file_id) if id_]
        content = b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts if part)
        write_atomic(self._answers_path(file.number), content)
        self._read_answers(file)

    def _read_answers(self, file: _File) -> None:
        """Keep the answers of a file; what may pass is asked again in the next batch, a few times."""
        for line in self._lines(self._answers_path(file.number)):
            name, response = line.get("custom_id"), line.get("response") or {}
            status, body = response.get("status_code"), response.get("body")
            if not isinstance(status, int):  # expired, or cancelled
                status, body = 408, {"error": line.get("error") or {"message": "not answered"}}
            passes = status in _PASSING or status >= 500
            if isinstance(name, str) and not (passes and self._asked[name] < TRIES):
                self._answers[name] = {"status_code": status, "body": body}
        if not file.is_answered:
            file.is_answered = True
            self._save()

    def _found_answers(self, file: _File) -> bool:
        return self._answers_path(file.number).exists()

    def _parts(self, lines: dict[str, bytes]) -> Iterator[dict[str, bytes]]:
        part: dict[str, bytes] = {}
        size, most_bytes = 0, self.config.max_mib * (1 << 20)
        for name, line in lines.items():
            if part and (len(part) >= self.config.max_requests or size + len(line) > most_bytes):
                yield part
                part, size = {}, 0
            part[name] = line
            size += len(line)
        if part:
            yield part

    def _names(self, file: _File) -> Iterator[str]:
        return (line["custom_id"] for line in self._lines(self._requests(file.number)))

    def _requests(self, number: int) -> Path:
        return self.folder / f"requests-{number:03d}.jsonl"

    def _answers_path(self, number: int) -> Path:
        return self.folder / f"answers-{number:03d}.jsonl"

    def _lines(self, path: Path) -> Iterator[dict[str, Any]]:
        """Raises InputError."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); put it back, or remove {self.folder}"
            ) from None
        for number, line in enumerate(content.split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                decoded = json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"{path}:{number}: not JSON ({error}); fetch the file anew, or remove the line"
                ) from None
            if not isinstance(decoded, dict):
                raise InputError(f"{path}:{number}: expected an object, as the batch API writes them; remove the line")
            yield decoded

    def _read_state(self) -> _State:
        path = self.folder / "batches.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_State) if path.exists() else _State()
        except (msgspec.DecodeError, OSError) as error:
            raise InputError(f"{path}: cannot be read ({error}); remove {self.folder} to begin anew") from None

    def _save(self) -> None:
        write_atomic(self.folder / "batches.json", msgspec.json.encode(self._state) + b"\n")
