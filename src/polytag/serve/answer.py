"""Whole answers, and the one form of an error: `{"error": "a sentence"}`, as the Open Inference Protocol has it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

Headers = Sequence[tuple[bytes, bytes]]

JSON = b"application/json"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Status, body and headers of an answer."""

    status: int = 200
    body: bytes = b""
    kind: bytes = JSON
    headers: Headers = ()


class Refused(Exception):
    """A request that is not answered as asked: its status and a sentence for the client."""

    def __init__(self, status: int, sentence: str, *, headers: Headers = ()):
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers

    def answer(self) -> Answer:
        """The answer that says so."""
        return json_answer({"error": self.sentence}, status=self.status, headers=self.headers)


def json_answer(values: object, *, status: int = 200, headers: Headers = ()) -> Answer:
    """Values as strict JSON."""
    body = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    return Answer(status=status, body=body, headers=headers)
