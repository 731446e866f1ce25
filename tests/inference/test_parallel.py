"""Batches in parallel: in order, one core each, the same bits with any number of them, and nothing left behind."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.inference.parallel import in_parallel
from polytag.inference.predictor import Predictor, apply, one_core_each, run
from polytag.models.device import Arithmetic


def test_results_come_in_order_and_each_from_one_thread_of_arithmetic():
    before = torch.get_num_threads()
    seen: set[int] = set()

    def work(number: int) -> int:
        seen.add(torch.get_num_threads())
        threading.Event().wait(0.02 if number % 3 == 0 else 0)
        return number * number

    assert list(one_core_each(work, iter(range(20)), num_workers=3)) == [number * number for number in range(20)]
    assert seen == {1}
    assert torch.get_num_threads() == before
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before]


def test_few_batches_are_taken_ahead():
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    results = in_parallel(lambda number: number, source(), num_workers=2)
    next(results)
    assert len(taken) == 3
    results.close()  # whoever stops early leaves no thread behind
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("polytag-forward")]


def test_an_error_is_raised_where_its_result_would_be():
    def work(number: int) -> int:
        if number == 2:
            raise ValueError("the third")
        return number

    results = in_parallel(work, iter(range(5)), num_workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_number_of_streams_changes_no_bit(checkpoint, images, precision: str):
    predictor = Predictor.load(checkpoint, device="cpu", precision=precision)
    before = torch.get_num_threads()

    def scores() -> bytes:
        return b"".join(scored.output_ND.tobytes() for scored in predictor.score_files(images))

    several = scores()
    torch.set_num_threads(1)
    try:
        assert scores() == several
    finally:
        torch.set_num_threads(before)


def test_the_fast_path_gives_what_the_plain_one_gives(checkpoint, images):
    """Plain: the model as it was loaded, one batch after the other, in the calling thread."""
    chosen = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, crops="flip"))
    predictor = Predictor.load(chosen, device="cpu", precision="fp32")
    plain_NC = np.concatenate(
        [
            apply(
                predictor.model,
                np.stack([views(read_image(path), chosen.preprocessing)]),
                preprocessing=chosen.preprocessing,
                arithmetic=predictor.arithmetic,
            )
            for path in images
        ]
    )
    fast_NC = np.concatenate([scored.output_ND for scored in predictor.score_files(images)])
    assert predictor.frozen.how == ("fused" if torch.backends.mkldnn.is_available() else "plain")
    np.testing.assert_allclose(fast_NC, plain_NC, atol=2e-5, rtol=1e-4)
    frozen = run(
        predictor.frozen.logits, images, preprocessing=chosen.preprocessing, arithmetic=Arithmetic(device="cpu", precision="fp32")
    )
    assert b"".join(scored.output_ND.tobytes() for scored in frozen) == fast_NC.tobytes()
