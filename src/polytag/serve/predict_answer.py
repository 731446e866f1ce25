"""The answer of /predict: for every image its labels and probabilities, or why it has none."""

from collections.abc import Sequence

import numpy as np

from polytag.serve.answer import Answer, json_answer
from polytag.serve.scoring_queue import Outcome
from polytag.serve.served_model import ServedModel


def predict_answer(model: ServedModel, names: Sequence[str], outcomes: Sequence[Outcome]) -> Answer:
    """200 where at least one image has its labels; else 422, or 500 where the model is at fault. The body is of the same form."""
    values: dict[str, object] = {
        "model": model.id,
        "images": [_image(model, name, outcome) for name, outcome in zip(names, outcomes, strict=True)],
        "thresholds": dict(zip(model.label_set, model.threshold_C.tolist(), strict=True)),
    }
    if not all(outcome.error for outcome in outcomes):
        return json_answer(values)
    status = 500 if any(outcome.is_ours for outcome in outcomes) else 422
    what = outcomes[0].error if len(outcomes) == 1 else f"none of the {len(outcomes)} images has an answer"
    return json_answer({"error": what, **values}, status=status)


def _image(model: ServedModel, name: str, outcome: Outcome) -> dict[str, object]:
    if outcome.error:
        return {"file": name, "error": outcome.error}
    names, probability_C, is_present_C = model.label_set.names, outcome.probability_C.tolist(), outcome.present_C.tolist()
    order = np.argsort(-outcome.logit_C, kind="stable").tolist()
    return {
        "file": name,
        "labels": [names[column] for column in order if is_present_C[column]],
        "probabilities": {names[column]: probability_C[column] for column in order},
    }
