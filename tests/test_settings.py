"""Settings come from the command line, the environment and files of secrets, and a wrong one is refused in a sentence."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.settings import (
    SECRETS_DIR,
    SettingsError,
    load_digest_settings,
    load_ingest_settings,
    load_push_settings,
    load_registry_settings,
    load_settings,
)
from streams.web.settings import load_console_settings

NOBODY = 65534


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of secrets, and no other settings."""
    for name in [name for name in os.environ if name.startswith("TIERSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(SECRETS_DIR, str(tmp_path))
    return tmp_path


def test_any_setting_may_be_a_file_that_is_named_as_its_variable(secrets: Path) -> None:
    (secrets / "tierstream_security_protocol").write_text("SASL_SSL")
    (secrets / "tierstream_sasl_username").write_text("ann")
    (secrets / "tierstream_sasl_password").write_text("  of Kafka\n")
    (secrets / "TIERSTREAM_PARTITIONS").write_text("12\n")
    (secrets / "tierstream_max_idle").write_text("7s\n")
    settings = load_settings()
    assert settings.sasl_password is not None
    assert settings.sasl_password.get_secret_value() == "of Kafka"
    assert (settings.security_protocol, settings.sasl_username) == ("SASL_SSL", "ann")
    assert (settings.partitions, settings.max_idle) == (12, 7_000)


def test_every_part_with_settings_reads_files(secrets: Path) -> None:
    written = {
        "push_url": "https://example.com/alerts",
        "push_secret": "0123456789abcdef",
        "registry_url": "http://registry:8081",
        "ingest_sources": "shop.orders=orders.toml",
        "digest_url": "https://chat.example.com/hook",
        "console_oidc_client_secret": "of the provider",
    }
    for name, value in written.items():
        (secrets / f"tierstream_{name}").write_text(f"{value}\n")
    client_secret = load_console_settings().oidc_client_secret
    assert client_secret is not None
    assert {
        "push_url": load_push_settings().url,
        "push_secret": load_push_settings().secret.get_secret_value(),
        "registry_url": load_registry_settings().url,
        "ingest_sources": load_ingest_settings().sources,
        "digest_url": load_digest_settings().url,
        "console_oidc_client_secret": client_secret.get_secret_value(),
    } == written


def test_the_command_line_goes_before_the_environment_and_the_environment_before_files(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets / "tierstream_redis_url").write_text("redis://file")
    assert load_settings().redis_url == "redis://file"
    monkeypatch.setenv("TIERSTREAM_REDIS_URL", "redis://environment")
    assert load_settings().redis_url == "redis://environment"
    assert load_settings(redis_url="redis://option").redis_url == "redis://option"


def test_a_link_within_the_folder_is_followed_as_kubernetes_makes_them(secrets: Path) -> None:
    (secrets / "..2026_01_01").mkdir()
    (secrets / "..2026_01_01" / "tierstream_redis_url").write_text("redis://kubernetes")
    (secrets / "..data").symlink_to("..2026_01_01")
    (secrets / "tierstream_redis_url").symlink_to("..data/tierstream_redis_url")
    assert load_settings().redis_url == "redis://kubernetes"


def _is_a_folder(file: Path) -> None:
    file.mkdir()


def _leads_nowhere(file: Path) -> None:
    file.symlink_to("/nowhere")


def _leads_out_of_the_folder(file: Path) -> None:
    file.symlink_to("/etc/hostname")


def _is_not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("spoil", [_is_a_folder, _leads_nowhere, _leads_out_of_the_folder, _is_not_text])
def test_a_file_of_secrets_that_cannot_be_read_is_refused_in_one_sentence(
    secrets: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(secrets / "tierstream_redis_url")
    with pytest.raises(SettingsError, match=rf"^TIERSTREAM_REDIS_URL: its file in {secrets} can't be read: [^\n]+$"):
        load_settings()


def test_a_file_of_secrets_of_somebody_else_is_refused_in_one_sentence(secrets: Path) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to the user that root becomes here
    try:
        (folder / "tierstream_redis_url").touch(mode=0o000)
        folder.chmod(0o755)
        os.environ[SECRETS_DIR] = str(folder)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
        with pytest.raises(
            SettingsError, match=r"^TIERSTREAM_REDIS_URL: .* can't be read: Permission denied\. [^\n]+$"
        ):
            load_settings()
    finally:
        os.seteuid(os.getuid())
        shutil.rmtree(folder)


def test_a_wrong_value_in_a_file_is_named_as_its_variable_and_not_shown(secrets: Path) -> None:
    (secrets / "tierstream_push_url").write_text("https://example.com/alerts")
    (secrets / "tierstream_push_secret").write_text("of me")
    with pytest.raises(SettingsError, match="TIERSTREAM_PUSH_SECRET") as refused:
        load_push_settings()
    assert "of me" not in str(refused.value)


def test_a_folder_of_secrets_that_is_named_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRETS_DIR, "/nowhere")
    with pytest.raises(SettingsError, match="TIERSTREAM_SECRETS_DIR: /nowhere is no folder"):
        load_settings()


def test_roles_that_are_no_json_are_refused_in_one_sentence(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERSTREAM_CONSOLE_OIDC_ROLES", "retention=agent")
    with pytest.raises(SettingsError, match=r"^TIERSTREAM_CONSOLE_OIDC_ROLES: this is no JSON [^\n]+$"):
        load_console_settings()
    monkeypatch.setenv("TIERSTREAM_CONSOLE_OIDC_ROLES", '{"retention": "agent"}')
    assert load_console_settings().oidc_roles == {"retention": "agent"}
