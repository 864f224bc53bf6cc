"""A server whose system cannot confine processes that open media warns, or does not start."""

import pytest

from upres.engine.core.errors import SettingsError
from upres.service.execution.sandbox.confinement import Confinement
from upres.service.server.confinement_check import check_confinement, is_loopback

NOTHING = Confinement(network=False, files=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_it_warns(host, caplog):
    check_confinement(NOTHING, host, allow_unconfined=False)
    assert "from the network" in caplog.text and "from the server's files" in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "upscaler.example"])
def test_elsewhere_it_refuses_and_names_the_setting(host, caplog):
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match="UPRES_ALLOW_UNCONFINED=true"):
        check_confinement(NOTHING, host, allow_unconfined=False)
    check_confinement(NOTHING, host, allow_unconfined=True)
    assert "from the network" in caplog.text


def test_what_is_cut_off_is_no_line(caplog):
    check_confinement(Confinement(network=True, files=True), "0.0.0.0", allow_unconfined=False)
    assert not caplog.records
