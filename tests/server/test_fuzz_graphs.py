"""Random graphs of the pack's nodes, most of them unsound, given to a real ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from support.fuzz_graphs import picture_defects, weave
from support.graph_trials import NAMED, PICTURES, REFUSED, Stage, staged

GRAPHS = 24
SEED = 8


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("graphs"), SEED) as found:
        yield found


def test_any_graph_ends_in_pictures_or_in_an_error_with_a_name(stage: Stage) -> None:
    before = stage.good_edit()
    met = [stage.meet(number) for number in range(GRAPHS)]
    assert [str(each) for each in met if each.broken] == []
    assert {PICTURES, REFUSED, NAMED} <= {each.outcome for each in met}
    assert np.array_equal(stage.good_edit(), before)


def test_a_graph_is_decided_by_its_number_and_every_third_is_sound() -> None:
    assert weave(SEED, 4).body == weave(SEED, 4).body != weave(SEED + 1, 4).body
    assert [weave(SEED, number).wild for number in range(3)] == [False, True, True]


def test_a_picture_that_is_not_as_promised_is_noticed() -> None:
    told = {"shape": [1, 48, 64, 3], "finite": True, "least": 0.0, "most": 1.0}
    promised = '{"size": "64x48", "edited": false}'
    assert picture_defects({**told, "promised": promised}, wild=False) == []
    for wrong in ({"shape": [1, 64, 48, 3]}, {"finite": False}, {"most": 1.01}, {"least": -0.01}):
        assert picture_defects({**told, "promised": promised, **wrong}, wild=False)
