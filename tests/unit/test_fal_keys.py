"""The fal key on disk: whole or not at all, its user's alone; and what fal says of it."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from doubles.fal_server import FalServer, Fault
from firered_edit.pipeline.errors import InputError, MissingKeyError, SetupError
from firered_edit.pipeline.fal import durable, trying
from firered_edit.pipeline.fal.connecting import connect
from firered_edit.pipeline.fal.keys import (
    KEY_FILE,
    MAX_LENGTH,
    find_key,
    remove_key,
    save_key,
    source_of_key,
)
from firered_edit.pipeline.fal.trying import Verdict, try_key

KEY = "an-id:and-a-secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "user" / "__firered"


def test_a_saved_key_is_found_and_its_users_alone(folder: Path) -> None:
    save_key(folder, f"\t{KEY}\r\n")
    assert find_key({}, folder) == KEY
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert os.listdir(folder) == [KEY_FILE]


def test_a_file_that_others_could_read_becomes_its_users_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / KEY_FILE).write_text("old:key")
    (folder / KEY_FILE).chmod(0o644)
    save_key(folder, KEY)
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600


def test_the_source_is_that_of_the_key_that_is_used(folder: Path) -> None:
    assert source_of_key({"FAL_KEY": " "}, folder) == "none"
    save_key(folder, KEY)
    assert source_of_key({"FAL_KEY_ID": "half a pair"}, folder) == "file"
    assert source_of_key({"FAL_KEY": "x:y"}, folder) == "environment"
    assert source_of_key({"FAL_KEY_ID": "x", "FAL_KEY_SECRET": "y"}, folder) == "environment"


def test_a_key_file_that_cannot_be_read_is_still_where_the_key_comes_from(folder: Path) -> None:
    save_key(folder, KEY)
    (folder / KEY_FILE).write_bytes(b"\xff\xfe\xff")
    assert source_of_key({}, folder) == "file"
    with pytest.raises(MissingKeyError, match="cannot be read"):
        find_key({}, folder)
    save_key(folder, KEY)
    assert find_key({}, folder) == KEY


@pytest.mark.parametrize(
    "key",
    ["", "  ", "two words", "two\nlines", "nul\0", "bell\a", "del\x7f", "sch\u00f6n", "\ud800"]
    + ["k" * (MAX_LENGTH + 1)],
    ids=lambda key: ascii(key)[:20],
)
def test_what_cannot_be_a_key_is_refused_without_being_shown(folder: Path, key: str) -> None:
    with pytest.raises(InputError, match=r"fal\.ai/dashboard/keys") as caught:
        save_key(folder, key)
    assert not key.strip() or key not in str(caught.value)
    assert not folder.exists()


def test_the_longest_key_is_taken(folder: Path) -> None:
    save_key(folder, "k" * MAX_LENGTH)
    assert find_key({}, folder) == "k" * MAX_LENGTH


def test_a_link_is_replaced_and_what_it_led_to_is_left_alone(folder: Path) -> None:
    elsewhere = folder.parent / "somebody_elses"
    folder.mkdir(parents=True)
    elsewhere.write_text("precious")
    (folder / KEY_FILE).symlink_to(elsewhere)
    save_key(folder, KEY)
    assert elsewhere.read_text() == "precious"
    assert not (folder / KEY_FILE).is_symlink()
    (folder / KEY_FILE).unlink()
    (folder / KEY_FILE).symlink_to(elsewhere)
    remove_key(folder)
    assert elsewhere.read_text() == "precious"
    assert source_of_key({}, folder) == "none"


def test_a_disk_that_fails_leaves_the_old_key_and_nothing_half_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_key(folder, KEY)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder / KEY_FILE))

    monkeypatch.setattr(durable.os, "replace", refuse)
    with pytest.raises(SetupError, match="cannot be saved: Permission denied") as caught:
        save_key(folder, "new:key")
    assert "new:key" not in str(caught.value)
    assert str(folder) not in str(caught.value)
    assert find_key({}, folder) == KEY
    assert os.listdir(folder) == [KEY_FILE]


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="Make the folder file writable"):
        save_key(tmp_path / "file", KEY)
    with pytest.raises(SetupError, match="cannot be removed"):
        remove_key(tmp_path / "file")


def test_removing_what_is_not_there_is_no_error(folder: Path) -> None:
    remove_key(folder)
    save_key(folder, KEY)
    remove_key(folder)
    remove_key(folder)
    assert source_of_key({}, folder) == "none"


def test_of_many_that_save_at_once_one_is_whole(folder: Path) -> None:
    keys = [f"{letter * 40}:{letter * 40}" for letter in "abcdefgh"]
    save_key(folder, keys[0])

    def save_and_look(key: str) -> str:
        save_key(folder, key)
        return find_key({}, folder)

    with ThreadPoolExecutor(len(keys)) as pool:
        seen = list(pool.map(save_and_look, keys * 5))
    assert set(seen) <= set(keys)
    assert os.listdir(folder) == [KEY_FILE]


def test_a_missing_key_names_both_ways_to_give_one(folder: Path) -> None:
    with pytest.raises(MissingKeyError) as caught:
        find_key({}, folder)
    assert str(caught.value) == (
        "No fal key was found. Get one at fal.ai/dashboard/keys, then put it into Settings > "
        "FireRed > fal, or set FAL_KEY on a remote ComfyUI."
    )


# What fal says of a key -----------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked for long."""
    monkeypatch.setattr(trying, "PATIENCE_S", 0.2)


def test_a_key_that_fal_knows_works_and_nothing_is_ordered(server: FalServer, data: Path) -> None:
    assert try_key(connect(data)) == Verdict("works")
    assert [request.phase for request in server.requests] == ["history"]


def test_a_key_that_fal_does_not_know_is_refused_and_not_shown(
    server: FalServer, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", KEY)
    verdict = try_key(connect(data))
    assert verdict.outcome == "refused"
    assert "Check the key" in verdict.reason
    assert KEY not in verdict.reason


def test_a_refusal_that_repeats_the_key_does_not_bring_it_on_screen(
    server: FalServer, data: Path
) -> None:
    server.fail("history", Fault.answer(403, {"detail": f"no scope for {server.key}"}))
    assert try_key(connect(data)) == Verdict(
        "refused", "fal refuses this account: no scope for (key). See fal.ai/dashboard/billing."
    )


def test_one_bad_moment_is_no_verdict(server: FalServer, data: Path) -> None:
    server.fail("history", Fault.reset())
    assert try_key(connect(data)) == Verdict("works")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "fault",
    [Fault.answer(503), Fault.answer(404), Fault.answer(302), Fault.answer(200, []), Fault.reset()],
    ids=["down", "not there", "elsewhere", "not fal", "broken"],
)
def test_what_is_no_answer_of_fals_says_nothing_of_the_key(
    server: FalServer, data: Path, fault: Any
) -> None:
    server.fail("history", fault, 999)
    verdict = try_key(connect(data))
    assert verdict.outcome == "unreachable"
    assert verdict.reason.endswith("Check the internet connection and try again.")


def test_where_there_is_nothing_free_to_ask_that_is_said(
    server: FalServer, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAL_REST_HOST")
    with pytest.raises(SetupError, match="try the key with a small edit"):
        try_key(connect(data))
    assert server.requests == []
