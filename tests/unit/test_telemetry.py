"""Logs say where it broke and never what was in it."""

import io
import json

import structlog

from srm_dicom import telemetry

SECRET = "CANARY^ALICE"


def logged(call):
    stream = io.StringIO()
    before = structlog.get_config()
    telemetry.configure("test", stream=stream)
    try:
        call(telemetry.logger("here"))
    finally:
        structlog.configure(**before)
    return json.loads(stream.getvalue())


def test_a_key_that_is_not_on_the_list_is_dropped_and_its_name_is_told():
    line = logged(lambda log: log.info("event", path="/vo", patient=SECRET))
    assert line["path"] == "/vo"
    assert line["dropped_keys"] == ["patient"]
    assert SECRET not in json.dumps(line)


def test_an_exception_leaves_its_place_and_not_its_text():
    def break_something(log):
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            log.exception("it_broke", error=type(error).__name__)

    line = logged(break_something)
    assert line["error"] == "ValueError"
    assert line["where"][-1].startswith("test_telemetry.py:")
    assert SECRET not in json.dumps(line)
    assert "dropped_keys" not in line
