"""Settings > FireRed > fal > key: typed once, kept by the server, and seen nowhere afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Response, Route, expect

from doubles.fal_server import FalServer
from support.browser import RENDERERS, Editor, open_editor
from support.comfyui import ComfyUI, install_pack, running_comfyui
from support.orphans import data_folder
from support.server_fixtures import FAL_KEY, fal_environment
from support.settings_page import no_trouble, open_settings, panel

# Named first, so that a missing browser is noticed before ComfyUI is started.
pytestmark = pytest.mark.usefixtures("browser")

SECRET = FAL_KEY.partition(":")[2]


@pytest.fixture(scope="module")
def keyless(
    browser: Browser, fal_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUI]:
    """A ComfyUI that has found no key yet."""
    base = tmp_path_factory.mktemp("keyless")
    install_pack(base)
    with running_comfyui(base, environ=fal_environment(fal_port, "")) as server:
        yield server


@pytest.fixture
def keyless_editor(
    browser: Browser, keyless: ComfyUI, request: pytest.FixtureRequest
) -> Iterator[Editor]:
    """An editor of a ComfyUI without a key; parametrised indirectly with a renderer."""
    with open_editor(browser, keyless, getattr(request, "param", "classic")) as opened:
        yield opened
    _key_file(keyless).unlink(missing_ok=True)


def _key_file(comfyui: ComfyUI) -> Path:
    return data_folder(comfyui.base) / "fal_key"


def _files_with_the_key(comfyui: ComfyUI) -> list[Path]:
    """Of all that this ComfyUI has written: settings, workflows, database and log."""
    written = [file for file in comfyui.base.rglob("*") if file.is_file()]
    return [file for file in written if SECRET.encode() in file.read_bytes()]


def _open(editor: Editor) -> Locator:
    """The panel of the key in the Settings dialog."""
    editor.open("firered_edit_fal")
    return panel(open_settings(editor), "Key")


def _save(shown: Locator, key: str) -> None:
    shown.get_by_label("fal key").fill(key)
    shown.get_by_role("button", name="Save").click()
    expect(shown.get_by_role("status")).to_have_text("Saved. The next edit uses this key.")
    expect(shown.get_by_text("A key is saved on this computer.")).to_be_visible()


_KEPT_BY_THE_PAGE = """async () => {
    const databases = [];
    for (const { name, version } of await indexedDB.databases()) {
        const open = indexedDB.open(name, version);
        const database = await new Promise((done) => (open.onsuccess = () => done(open.result)));
        for (const store of database.objectStoreNames) {
            const all = database.transaction(store).objectStore(store).getAll();
            await new Promise((done) => (all.onsuccess = done));
            databases.push([name, store, all.result]);
        }
        database.close();
    }
    return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, databases,
        (await caches.keys()), location.href, await app.graphToPrompt(), app.graph.serialize()]);
}"""


@pytest.mark.parametrize("keyless_editor", RENDERERS, indirect=True)
def test_a_key_is_saved_and_seen_nowhere_afterwards(
    keyless_editor: Editor, keyless: ComfyUI
) -> None:
    editor = keyless_editor
    shown = _open(editor)
    expect(shown.get_by_text("There is no key yet.")).to_be_visible()
    field = shown.get_by_label("fal key")
    assert field.get_attribute("type") == "password"
    assert field.get_attribute("autocomplete") == "off"
    editor.screenshot("key_none")
    _save(shown, FAL_KEY)
    editor.screenshot("key_saved")

    assert _key_file(keyless).read_text().strip() == FAL_KEY
    expect(shown.get_by_label("fal key")).to_have_value("")
    kept = str(editor.page.evaluate(_KEPT_BY_THE_PAGE))
    on_page = editor.page.content() + editor.page.evaluate(
        "JSON.stringify([...document.querySelectorAll('input')].map((input) => input.value))"
    )
    told = json.dumps(keyless.get("/settings"))
    for text in (kept, on_page, told, *editor.errors):
        assert SECRET not in text
    assert _files_with_the_key(keyless) == [_key_file(keyless)]
    assert no_trouble(editor)


def test_a_saved_key_is_shown_by_no_answer_of_the_server(
    keyless_editor: Editor, keyless: ComfyUI
) -> None:
    answers: list[Response] = []
    # A plain method is no handler for playwright: it marks those it is given.
    keyless_editor.page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108
    shown = _open(keyless_editor)
    _save(shown, FAL_KEY)
    told = [answer.text() for answer in answers if "/firered/key" in answer.url]
    assert [json.loads(text)["source"] for text in told] == ["none", "file"]
    assert SECRET not in "".join(told)


def test_the_key_is_tried_out_at_fal_and_the_verdict_is_in_words(
    keyless_editor: Editor, fal: FalServer
) -> None:
    shown = _open(keyless_editor)
    expect(shown.get_by_role("button", name="Test key")).to_have_count(0)
    _save(shown, FAL_KEY)
    test = shown.get_by_role("button", name="Test key")
    test.click()
    expect(shown.get_by_role("status")).to_have_text("The key works.")
    _save(shown, "another:key")
    test.click()
    expect(shown.get_by_role("alert")).to_have_text(
        "fal refuses the key. fal does not know this key. Check the key at fal.ai/dashboard/keys."
    )
    keyless_editor.screenshot("key_refused")
    fal.close()
    test.click()
    expect(shown.get_by_role("alert")).to_contain_text("fal cannot be reached")
    expect(shown.get_by_role("status")).to_have_count(0)
    assert fal.billed == 0
    assert {request.phase for request in fal.requests} == {"history"}


def test_removing_asks_first_and_deletes_the_file(keyless_editor: Editor, keyless: ComfyUI) -> None:
    page = keyless_editor.page
    shown = _open(keyless_editor)
    _save(shown, FAL_KEY)
    remove = shown.get_by_role("button", name="Remove")
    question = page.get_by_role("dialog").filter(has_text="Remove the fal key?")
    remove.click()
    keyless_editor.screenshot("key_remove")
    question.get_by_role("button", name="Cancel").click()
    assert _key_file(keyless).exists()
    remove.click()
    question.get_by_role("button", name="Delete").click()
    expect(shown.get_by_text("There is no key yet.")).to_be_visible()
    assert not _key_file(keyless).exists()
    expect(shown.get_by_role("button", name="Remove")).to_have_count(0)


def test_what_cannot_be_a_key_is_explained_and_not_kept(
    keyless_editor: Editor, keyless: ComfyUI
) -> None:
    shown = _open(keyless_editor)
    field = shown.get_by_label("fal key")
    expect(shown.get_by_role("button", name="Save")).to_be_disabled()
    field.fill("two words")
    field.press("Enter")
    expect(shown.get_by_role("alert")).to_contain_text("one word of at most 2048 plain characters")
    expect(field).to_have_value("")
    assert not _key_file(keyless).exists()


def test_a_key_from_the_environment_comes_first_and_the_field_says_so(editor: Editor) -> None:
    shown = _open(editor)
    expect(shown.get_by_text("The key is from the environment of ComfyUI")).to_be_visible()
    field = shown.get_by_label("fal key")
    expect(field).to_be_disabled()
    hint = "Change FAL_KEY in the environment and restart ComfyUI"
    expect(field).to_have_attribute("placeholder", hint)
    expect(shown.get_by_role("button", name="Remove")).to_have_count(0)
    expect(shown.get_by_role("button", name="Test key")).to_be_enabled()
    editor.screenshot("key_environment")


def test_on_a_remote_comfyui_the_environment_is_named_and_there_is_no_field(
    editor: Editor,
) -> None:
    def answer(route: Route) -> None:
        route.fulfill(json={"source": "none", "writable": False})

    editor.page.route("**/firered/key", answer)
    shown = _open(editor)
    expect(shown.get_by_text("On a remote ComfyUI set FAL_KEY in its environment")).to_be_visible()
    expect(shown.locator("input, button")).to_have_count(0)
    editor.screenshot("key_remote")


def test_what_fal_stores_is_told(keyless_editor: Editor) -> None:
    shown = _open(keyless_editor)
    shown.get_by_text("What fal stores, and for how long").click()
    expect(shown.get_by_role("listitem")).to_have_count(4)
    expect(shown.get_by_text("30 days")).to_be_visible()
    keyless_editor.screenshot("key_stored")


def test_the_panel_speaks_chinese(keyless_editor: Editor) -> None:
    keyless_editor.prefer("zh", "light")
    shown = _open(keyless_editor)
    expect(shown.get_by_text("还没有密钥。")).to_be_visible()
    shown.get_by_text("fal 保存哪些内容、保存多久").click()
    shown.get_by_label("fal 密钥").fill(FAL_KEY)
    shown.get_by_role("button", name="保存").click()
    expect(shown.get_by_text("密钥已保存在这台电脑上。")).to_be_visible()
    keyless_editor.screenshot("key_chinese")
