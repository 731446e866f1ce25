"""NPZ and PyTorch files as other programs write them; neither is ever unpickled."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import make_multilabel_classification
from sklearn.preprocessing import MultiLabelBinarizer

from polytag.errors import PredictionsError, UsageError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.predictions.read import read_predictions

SCORES = np.array([[0.9, 0.25], [0.125, 0.75]])
TRUTH = np.array([[1, 0], [-1, 1]])
NAMES = {"ids": ["a", "b"], "classes": ["cat", "dog"]}


def check(path: Path, *, scale: str = "") -> None:
    made = read_predictions(path, scale=scale)
    assert (made.ids, made.label_set.names) == (("a", "b"), ("cat", "dog"))
    assert (made.probability_NC.tolist(), made.target_NC.tolist()) == (SCORES.tolist(), TRUTH.tolist())


# ---- NPZ


def test_npz(tmp_path: Path):
    np.savez(tmp_path / "s.npz", y_score=SCORES, y_true=TRUTH, **NAMES)
    check(tmp_path / "s.npz", scale="probability")
    np.savez_compressed(tmp_path / "s.npz", probs=SCORES, targets=TRUTH.astype(np.float32), **NAMES)
    check(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", scores=SCORES)
    with pytest.raises(UsageError, match=r"does not declare"):
        read_predictions(tmp_path / "s.npz")


def test_a_multilabel_indicator_of_scikit_learn(tmp_path: Path):
    _, y_true = make_multilabel_classification(n_samples=60, n_classes=4, random_state=0)
    y_score = np.random.default_rng(0).random((60, 4)) * 0.5 + 0.5 * y_true
    np.savez(tmp_path / "sk.npz", y_true=y_true, y_score=y_score)
    from sklearn.metrics import average_precision_score

    made = read_predictions(tmp_path / "sk.npz", scale="probability")
    assert (made.ids[:2], made.label_set.names) == (("row 1", "row 2"), ("0", "1", "2", "3"))
    assert evaluate_predictions(made, num_replicates=0).mean_ap.value == pytest.approx(
        average_precision_score(y_true, y_score), abs=1e-12
    )


def test_a_binarizer_of_scikit_learn_names_the_classes(tmp_path: Path):
    binarizer = MultiLabelBinarizer()
    y_true = binarizer.fit_transform([("cat",), ("dog", "cat")])
    classes = np.array(binarizer.classes_, dtype=str)
    np.savez(tmp_path / "s.npz", y_true=y_true, logits=np.zeros((2, 2)), classes=classes)
    made = read_predictions(tmp_path / "s.npz")
    assert (made.label_set.names, made.target_NC.tolist()) == (("cat", "dog"), [[1, 0], [1, 1]])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": SCORES},
            "no array of scores\n  where: {path}\n  got: x\n"
            "  expected: one of logit, logits, probability, probabilities, prob, probs, proba, y_prob, y_proba, score, scores, "
            "y_score, y_scores, y_pred, pred, preds, prediction, predictions, output, outputs",
        ),
        (
            {"y_score": SCORES[:, 0]},
            "the scores are not a table of numbers\n  where: {path}\n  got: y_score: float64 of shape (2,)\n"
            "  expected: numbers of shape (images, classes)",
        ),
        (
            {"y_score": SCORES, "ids": np.array(["a"])},
            "the names do not match the images\n  where: {path}\n  got: ids: <U1 of shape (1,)\n"
            "  expected: 2 names, a list of text or whole numbers",
        ),
        (
            {"y_score": SCORES, "y_true": TRUTH[:, :1]},
            "the labels do not match the scores\n  where: {path}\n  got: y_true: int64 of shape (2, 1)\n"
            "  expected: 1, 0 or -1 (unknown) in the shape of the scores, (2, 2)\n"
            "  next: scikit-learn's MultiLabelBinarizer makes such an array from lists of labels",
        ),
        (
            {"y_score": SCORES, "y_true": np.array([[1, 0], [0, 2]])},
            "a label outside 1, 0, -1\n  where: {path}, row 2\n  got: 2 in y_true, column 1\n"
            "  expected: 1 (present), 0 (absent) or -1 (unknown)\n  next: in a tuple the scores are first and the labels second",
        ),
        (
            {"y_score": SCORES, "y_true": np.array([[1, -1], [-1, 1]])},
            "no label is absent\n  where: {path}\n  got: y_true: only 1 and -1\n"
            "  expected: 0 for absent; -1 means unknown and does not count\n"
            "  next: write absent labels as 0: y_true[y_true == -1] = 0",
        ),
        (
            {"y_score": np.array([[0.5, np.inf], [0, 0]])},
            "a score is not a finite number\n  where: {path}, row 1\n  got: inf for image 'row 1', class '1'\n"
            "  expected: a finite number for every class",
        ),
        (
            {"y_score": SCORES, "ids": np.array(["a", "b"], dtype=object)},
            "arrays of Python objects are not supported\n  where: {path}\n"
            "  got: an array of dtype object, which can run any code when it is read\n"
            "  expected: arrays of numbers and of text\n  next: save names as text, with np.array(names, dtype=str)",
        ),
    ],
)
def test_what_npz_should_not_hold(tmp_path: Path, arrays: dict[str, np.ndarray], message: str):
    path = tmp_path / "s.npz"
    np.savez(path, **arrays)
    with pytest.raises(PredictionsError) as error:
        read_predictions(path, scale="logit")
    assert str(error.value) == message.format(path=path)


def test_a_broken_npz(tmp_path: Path):
    np.savez(tmp_path / "s.npz", y_score=SCORES)
    whole = (tmp_path / "s.npz").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        (tmp_path / "s.npz").write_bytes(content)
        with pytest.raises(PredictionsError, match=r"^(the NPZ file cannot be read|an array of Python objects)"):
            read_predictions(tmp_path / "s.npz", scale="logit")


# ---- PyTorch


def test_a_dict_of_tensors(tmp_path: Path):
    torch.save({"probabilities": torch.tensor(SCORES), "target": torch.tensor(TRUTH), **NAMES}, tmp_path / "s.pt")
    check(tmp_path / "s.pt")


def test_a_tuple_of_scores_and_truth_and_scores_alone(tmp_path: Path):
    half = torch.tensor(SCORES, dtype=torch.bfloat16)
    torch.save((half, torch.tensor(TRUTH == 1)), tmp_path / "s.pth")
    made = read_predictions(tmp_path / "s.pth", scale="probability")
    assert (made.ids, made.label_set.names) == (("row 1", "row 2"), ("0", "1"))
    assert made.target_NC.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_array_equal(made.probability_NC, half.double().numpy())
    torch.save(torch.tensor(SCORES), tmp_path / "s.pth")
    assert (read_predictions(tmp_path / "s.pth", scale="logit").target_NC == -1).all()


class Runs:
    """What a file must not do when it is opened."""

    def __reduce__(self):
        return sys.exit, (7,)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path):
    path = tmp_path / "s.pt"
    torch.save({"y_score": Runs()}, path)
    with pytest.raises(PredictionsError) as error:
        read_predictions(path, scale="logit")
    assert str(error.value) == (
        f"the PyTorch file holds more than tensors\n  where: {path}\n"
        "  got: Python objects, which can run any code when they are read\n"
        "  expected: tensors, and lists of text, in a dict or a tuple\n"
        '  next: save {"y_score": scores, "y_true": targets, "ids": list_of_text, "classes": list_of_text}'
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ((torch.zeros(1, 1),) * 3, "the tuple in the PyTorch file has the wrong length"),
        ({}, "no array of scores"),
        ("text", "no tensors in the PyTorch file"),
        ({"logits": torch.zeros(1, 1), "probs": torch.zeros(1, 1)}, "two arrays of scores"),
        ((torch.tensor([[1, 0]]), torch.tensor([[0.7, 0.2]])), "a label outside 1, 0, -1"),
    ],
)
def test_what_a_pytorch_file_should_not_hold(tmp_path: Path, content: object, what: str):
    torch.save(content, tmp_path / "s.pt")
    with pytest.raises(PredictionsError, match=f"^{what}\n"):
        read_predictions(tmp_path / "s.pt", scale="logit")


def test_a_broken_pytorch_file(tmp_path: Path):
    for content in (b"", b"text", b"PK\x03\x04 and no more"):
        (tmp_path / "s.pt").write_bytes(content)
        with pytest.raises(PredictionsError, match=r"^the PyTorch file"):
            read_predictions(tmp_path / "s.pt", scale="logit")
