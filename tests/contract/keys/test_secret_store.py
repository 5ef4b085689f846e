"""What every secret store does, and what only the one on disk has to withstand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.adapters.keys.fake import FakeSecrets
from ostler.adapters.keys.file import FileSecrets
from ostler.adapters.keys.port import MAX_VALUE, SecretStore
from ostler.adapters.keys.references import resolve
from ostler.core.errors import BadInput, NotFound, OstlerError, Permanent


@pytest.fixture(params=["fake", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SecretStore:
    return FakeSecrets() if request.param == "fake" else FileSecrets(tmp_path / "secrets")


def test_put_get_delete(store: SecretStore) -> None:
    store.put("bmc-gpu-0001", "s3cret ünicode\n")
    assert store.get("bmc-gpu-0001") == "s3cret ünicode\n"
    store.put("bmc-gpu-0001", "other")
    assert store.get("bmc-gpu-0001") == "other"
    store.delete("bmc-gpu-0001")
    store.delete("bmc-gpu-0001")
    with pytest.raises(NotFound, match="no secret 'bmc-gpu-0001'"):
        store.get("bmc-gpu-0001")


@pytest.mark.parametrize("name", ["", "../key", "a/b", ".hidden", "a b", "a\n", "x" * 129, "ü"])
def test_a_name_that_is_none(store: SecretStore, name: str) -> None:
    for use in (lambda: store.put(name, "v"), lambda: store.get(name), lambda: store.delete(name)):
        with pytest.raises(BadInput, match="no name of a secret"):
            use()


@pytest.mark.parametrize("value", ["", "x" * (MAX_VALUE + 1), "\ud800"])
def test_a_value_that_is_none(store: SecretStore, value: str) -> None:
    with pytest.raises(BadInput) as caught:
        store.put("a", value)
    assert "xxx" not in str(caught.value)


def test_the_largest_value(store: SecretStore) -> None:
    store.put("a", "x" * MAX_VALUE)
    assert store.get("a") == "x" * MAX_VALUE


# on disk


def test_survives_a_restart_and_is_sealed(tmp_path: Path) -> None:
    FileSecrets(tmp_path / "s").put("a", "hunter2-hunter2")
    assert FileSecrets(tmp_path / "s").get("a") == "hunter2-hunter2"
    files = sorted((tmp_path / "s").iterdir())
    assert [f.name for f in files] == ["a.secret", "key"]
    assert all(b"hunter2" not in f.read_bytes() and f.stat().st_mode & 0o777 == 0o600 for f in files)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


def test_what_others_may_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    FileSecrets(folder).put("a", "v")
    for path, remedy in ((folder, f"chmod 700 {folder}"), (folder / "key", f"chmod 600 {folder / 'key'}")):
        mode = path.stat().st_mode
        path.chmod(0o755)
        with pytest.raises(Permanent, match=remedy):
            FileSecrets(folder)
        path.chmod(mode)
    store = FileSecrets(folder)
    (folder / "a.secret").chmod(0o640)
    with pytest.raises(Permanent, match="Others may read this"):
        store.get("a")


def test_each_flipped_byte_is_noticed(tmp_path: Path) -> None:
    store = FileSecrets(tmp_path / "s")
    store.put("a", "value")
    path = tmp_path / "s" / "a.secret"
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(Permanent, match="damaged"):
            store.get("a")
    for bad in (b"", good[:20], good + b"x", b"x" * (MAX_VALUE * 2)):
        path.write_bytes(bad)
        with pytest.raises(Permanent, match="damaged"):
            store.get("a")


def test_swapped_files_are_noticed(tmp_path: Path) -> None:
    store = FileSecrets(tmp_path / "s")
    store.put("a", "for a")
    store.put("b", "for b")
    (tmp_path / "s" / "a.secret").write_bytes((tmp_path / "s" / "b.secret").read_bytes())
    with pytest.raises(Permanent, match="damaged"):
        store.get("a")


def test_a_lost_or_damaged_key_is_no_fresh_start(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    FileSecrets(folder).put("a", "v")
    key = (folder / "key").read_bytes()
    for bad in (b"", b"zz" * 32, key[:-3], b"\xff" * 64):
        (folder / "key").write_bytes(bad)
        with pytest.raises(Permanent, match="key of the secret store is damaged"):
            FileSecrets(folder)
    (folder / "key").unlink()
    with pytest.raises(Permanent, match="key of the secret store is missing"):
        FileSecrets(folder)
    (folder / "key").write_bytes(b"00" * 32)
    (folder / "key").chmod(0o600)
    with pytest.raises(Permanent, match="another key"):
        FileSecrets(folder).get("a")


def test_a_write_leaves_no_draft_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileSecrets(tmp_path / "s")
    store.put("a", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OstlerError, match="cannot be written: No space left on device"):
        store.put("a", "new")
    monkeypatch.undo()
    assert store.get("a") == "old"
    assert sorted(f.name for f in (tmp_path / "s").iterdir()) == ["a.secret", "key"]


# references


def test_references(tmp_path: Path) -> None:
    store = FakeSecrets()
    store.put("bmc", "kept")
    (tmp_path / "f").write_bytes(b"from file\r\n")
    assert resolve("env:PW", {"PW": "from env"}) == "from env"
    assert resolve(f"file:{tmp_path / 'f'}", {}) == "from file"
    assert resolve("store:bmc", {}, store) == "kept"


@pytest.mark.parametrize(
    ("reference", "kind", "says"),
    [
        ("hunter2", BadInput, "env:NAME, file:/path or store:NAME"),
        ("", BadInput, "by reference"),
        ("env:", BadInput, "by reference"),
        ("vault:x", BadInput, "no known kind"),
        ("hunter2:hunter2", BadInput, "no known kind"),
        ("env:NOPE", NotFound, "no variable NOPE"),
        ("store:nope", NotFound, "no secret 'nope'"),
        ("store:../x", BadInput, "no name"),
        ("file:relative", BadInput, "from the root"),
        ("file:/nonexistent/x", NotFound, "no such file"),
        ("file:/dev/null", BadInput, "1 to"),
        ("file:/", BadInput, "cannot be read"),
        ("file:/dev/zero", BadInput, "1 to"),
    ],
)
def test_a_reference_that_leads_nowhere(reference: str, kind: type[OstlerError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        resolve(reference, {}, FakeSecrets())
    assert "hunter2" not in str(caught.value)


def test_a_store_reference_without_a_store() -> None:
    with pytest.raises(BadInput, match="no secret store"):
        resolve("store:a", {})
