"""Settings from a file, the environment and arguments."""

import pytest
from paths import ROOT

from upres.engine.core.errors import SettingsError
from upres.service.server.settings import Settings, load, mistyped
from upres.service.server.settings_page import page


def test_the_call_goes_before_the_environment_and_that_before_the_file(tmp_path, monkeypatch):
    file = tmp_path / "upres.toml"
    file.write_text("slots = 2\nqueue = 7\nworkers = 3\n[clip_seconds]\nRealESRGAN_Vid_x4 = 60\n")
    monkeypatch.setenv("UPRES_QUEUE", "8")
    monkeypatch.setenv("UPRES_WORKERS", "4")
    settings = load(file, workers=5)
    assert (settings.slots, settings.queue, settings.workers) == (2, 8, 5)
    assert settings.policy.limits.seconds == {"RealESRGAN_Vid_x4": 60.0}


def test_every_wrong_setting_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"http_port.*slots"):
        load(slots=0, http_port=70_000)
    file = tmp_path / "upres.toml"
    file.write_text("slotss = 2\n")
    with pytest.raises(SettingsError, match="slotss"):
        load(file)


def test_a_wrong_variable_is_named_with_its_value_and_all_others(tmp_path, monkeypatch):
    file = tmp_path / "upres.toml"
    file.write_text("slots = 0\n")
    for name, value in {"QUEUE": "abc", "WORKERS": "-1", "PRELOAD": "x2", "LIVE_SOURCES": "very-secret"}.items():
        monkeypatch.setenv(f"UPRES_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load(file)
    message = str(refused.value)
    assert "UPRES_QUEUE: must be a valid integer" in message and "got 'abc'" in message
    assert "UPRES_WORKERS: must be" in message and "got '-1'" in message
    assert "UPRES_PRELOAD: must be a valid list" in message and "got 'x2'" in message
    assert f"{file}: slots: must be" in message
    assert "UPRES_LIVE_SOURCES: must be" in message and "very-secret" not in message


def test_the_value_of_an_unknown_setting_is_not_shown(tmp_path):
    file = tmp_path / "upres.toml"
    file.write_text('api_kee = "very-secret"\n')
    with pytest.raises(SettingsError, match="api_kee: is not a setting") as refused:
        load(file)
    assert "very-secret" not in str(refused.value)


def test_a_runtime_and_a_quality_are_those_of_the_engine():
    with pytest.raises(SettingsError, match=r"runtime.*auto, cuda, .*openvino, tensorrt.*quality.*exact, high"):
        load(runtime="fastest", quality="best")
    with pytest.raises(SettingsError, match=r"preload.*MODEL@WxH with one of RealESRGAN_Vid_x4, "):
        load(preload=["RealESRGAN_Vid_x2@720p"])
    assert load(preload=["RealESRGAN_Vid_x2@1280x720"]).preload == ["RealESRGAN_Vid_x2@1280x720"]
    assert (load(runtime="openvino", quality="exact").quality, load().quality) == ("exact", "high")


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("UPRES_API_KEY", "very-secret")
    monkeypatch.setenv("UPRES_LIVE_SOURCES", '{"entrance": "rtsp://me:very-secret@camera/1"}')
    assert "very-secret" not in repr(load())
    assert load().policy.limits.live_sources == ("entrance",)


@pytest.mark.parametrize(
    "url",
    [
        "srt://very-secret@h:1",
        "file:///very-secret",
        "rtsp:///very-secret",
        "tcp://very-secret@h",
        "rtsp://very-secret@h:x",
    ],
)
def test_a_stream_that_cannot_be_pulled_is_refused_without_its_address(url):
    with pytest.raises(SettingsError, match=r"live_sources\.door: must be a URL of rtsp, rtmp, tcp") as refused:
        load(live_sources={"door": url})
    assert "very-secret" not in str(refused.value)
    with pytest.raises(SettingsError, match=r"live_sources.*should match pattern"):
        load(live_sources={"a/b": "rtsp://h/x"})


def test_the_page_of_settings_is_what_the_settings_are():
    """If it is not: upres serve --list-settings > docs/settings.md."""
    assert (ROOT / "docs" / "settings.md").read_text() == page()


def test_every_setting_is_explained():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_limits_are_a_profile_that_single_settings_go_before():
    free, hosted = load(), load(limits="deapi")
    assert (free.policy.limits.seconds, free.largest_upload) == ({}, free.source_bytes)
    assert hosted.policy.limits.seconds == {"RealESRGAN_Vid_x4": 15, "RealESRGAN_Vid_x2": 30, "FlashVSR_Tiny": 10}
    assert (hosted.largest_upload, hosted.policy.wall_seconds) == (52_428_800, 3600)
    own = load(limits="deapi", clip_seconds={"RealESRGAN_Vid_x4": 60}, upload_bytes=7, job_seconds=5)
    assert own.policy.limits.seconds["RealESRGAN_Vid_x4"] == 60 and own.policy.limits.seconds["RealESRGAN_Vid_x2"] == 30
    assert (own.largest_upload, own.policy.wall_seconds) == (7, 5)
    with pytest.raises(SettingsError, match=r"limits.*must be one of none, deapi"):
        load(limits="some")


def test_a_variable_that_is_nearly_a_settings_name_is_named_and_nobody_elses_is():
    notes = mistyped(["UPRES_SLOT", "upres_slots", "UPRES_APIKEY", "UPRES_KEY", "UPRES_TCP_ADDR", "HOME"])
    assert notes == [
        "UPRES_SLOT is not a setting; did you mean UPRES_SLOTS?",
        "UPRES_APIKEY is not a setting; did you mean UPRES_API_KEY?",
    ]
