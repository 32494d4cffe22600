"""Average precision of boxes: by hand, and against pycocotools."""

import contextlib
import io

import numpy as np
import pytest

from stages.algorithms.detection import (
    FALSE_ALARM,
    HIT,
    SPARED,
    Ranked,
    average_precision,
    match_boxes,
)


def test_matching_by_hand() -> None:
    objects = np.array([[0, 0, 10, 10], [0, 20, 10, 30], [20, 0, 30, 10.0]])
    difficult = np.array([False, False, True])
    boxes = np.array(
        [
            [0, 0, 10, 9],  # IoU 0.9 with the first
            [0, 0, 10, 10],  # better, but later: it is taken
            [0, 20, 5, 30],  # 50 of 100 pixels of the second: not above a half
            [20, 0, 30, 10],  # a difficult one
            [20, 0, 30, 9],  # and again: no mistake either
            [0, 20, 6, 30],  # 0.6
            [50, 50, 60, 60],  # of nothing
        ]
    )
    expected = [HIT, FALSE_ALARM, FALSE_ALARM, SPARED, SPARED, HIT, FALSE_ALARM]
    assert match_boxes(boxes, objects, difficult).tolist() == expected
    assert match_boxes(boxes[:2], objects[:0], difficult[:0]).tolist() == [FALSE_ALARM] * 2
    assert match_boxes(boxes[:0], objects, difficult).shape == (0,)
    at_95 = match_boxes(boxes, objects, difficult, least_iou=0.95)
    assert at_95.tolist() == [0, HIT, 0, SPARED, 0, 0, 0]


@pytest.mark.parametrize(
    ("outcomes", "objects", "expected"),
    [
        # precision 1 and 2 / 3 at the two hits, the third object is missed: (1 + 2 / 3 + 0) / 3
        ([HIT, FALSE_ALARM, HIT, SPARED, FALSE_ALARM], 3, Ranked(5 / 9, 2 / 3, 2 / 3)),
        # precision 1 / 2, then 2 / 3: recall 1 / 2 is had at 2 / 3, too
        ([FALSE_ALARM, HIT, HIT], 2, Ranked(2 / 3, 1, 2 / 3)),
        ([SPARED, HIT, SPARED], 1, Ranked(1, 1, 1)),
        ([FALSE_ALARM], 2, Ranked(0, 0, 0)),
        ([], 2, Ranked(0, 0, 0)),
    ],
)
def test_average_precision_by_hand(outcomes: list[int], objects: int, expected: Ranked) -> None:
    what = np.array(outcomes, np.int8)
    scores = np.linspace(0.9, 0.1, len(what))
    assert average_precision(scores, what, objects) == pytest.approx(expected)
    mixed = np.random.default_rng(0).permutation(len(what))
    assert average_precision(scores[mixed], what[mixed], objects) == pytest.approx(expected)
    level = average_precision(np.ones(len(what)), what, objects)
    assert level == pytest.approx(expected), "of equal scores the first ranks first"


def test_without_objects_there_is_nothing_to_say() -> None:
    assert np.isnan(average_precision(np.ones(1), np.zeros(1, np.int8), 0)).all()
    with pytest.raises(ValueError, match="scores"):
        average_precision(np.ones(2), np.zeros(1, np.int8), 1)
    with pytest.raises(ValueError, match="flags"):
        match_boxes(np.zeros((0, 4)), np.zeros((1, 4)), np.zeros(0, bool))


def test_against_pycocotools() -> None:
    """100 objects that do not touch, of which COCO's matching makes the same as VOC's."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(3)
    annotations, results, scores, outcomes = [], [], [], []
    for image in range(1, 26):
        corners = np.array([[0, 0], [0, 50], [50, 0], [50, 50]], float)
        objects = np.concatenate([corners, corners + 30], axis=1)
        boxes = objects[rng.integers(0, 4, 8)] + rng.integers(-6, 7, (8, 4))
        mine = np.sort(rng.random(8))[::-1]
        outcomes.append(match_boxes(boxes, objects, np.zeros(4, bool)))
        scores.append(mine)
        xywh = [[left, top, right - left, bottom - top] for top, left, bottom, right in objects]
        annotations += [{"image_id": image, "bbox": box} for box in xywh]
        results += [
            {"image_id": image, "category_id": 1, "score": float(score),
             "bbox": [left, top, right - left, bottom - top]}
            for score, (top, left, bottom, right) in zip(mine, boxes.tolist(), strict=True)
        ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(1, 26)],
            "categories": [{"id": 1}],
            "annotations": [
                one | {"id": i, "category_id": 1, "area": 900.0, "iscrowd": 0}
                for i, one in enumerate(annotations, start=1)
            ],
        }
        truth.createIndex()
        theirs = COCOeval(truth, truth.loadRes(results), "bbox")
        theirs.params.iouThrs = np.array([0.5 + 1e-9])  # theirs is "at least"
        theirs.params.recThrs = np.arange(101) / 100
        theirs.evaluate()
        theirs.accumulate()
    curve = theirs.eval["precision"][0, 1:, 0, 0, -1]  # at recall 1 %, 2 %, ... of 100 objects
    ours = average_precision(np.concatenate(scores), np.concatenate(outcomes), 100)
    assert 0.3 < ours.ap < 0.9
    assert ours.ap == pytest.approx(curve.mean(), abs=1e-12)
    assert ours.recall == pytest.approx(theirs.eval["recall"][0, 0, 0, -1])
