"""Dashboard and alert rules use metrics, labels and label values that a real server reports for real jobs."""

import importlib
import json
import os
import re
import time

import httpx
import media
import pytest
import yaml
from paths import ROOT
from prometheus_client.parser import text_string_to_metric_families
from serving import Rpc, ServerProcess

from upres.v2 import upscale_pb2 as pb

FOLDER = ROOT / "docs" / "observability"
PANELS = json.loads((FOLDER / "grafana-dashboard.json").read_text())["panels"]
GROUPS = yaml.safe_load((FOLDER / "prometheus-rules.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
SCRAPED = {"job", "instance"}  # labels that Prometheus adds
QUESTIONS = ["Is it healthy?", "Is anybody waiting?", "What is slow?", "What is full?"]
EXPRESSIONS = [target["expr"].replace("$job", ".+") for panel in PANELS for target in panel.get("targets", ())]
EXPRESSIONS += [rule["expr"] for rule in RULES]
SELDOM = {"upres_dropped_frames_total": {"model"}}  # if no job is too slow


@pytest.fixture(scope="module")
def labels(tmp_path_factory, clips):
    """Return label values by label name, for each sample name of a server that has run a job and a live job."""
    seen = {"up": {}, **{name: {label: set() for label in names} for name, names in SELDOM.items()}}
    with ServerProcess(tmp_path_factory.mktemp("seen") / "state") as server, Rpc(server.ready().target) as rpc:
        clip = media.clip(clips / "seen.ts", "-c:v", "libx264").read_bytes()
        done = rpc.create(clip, pb.UpscaleConfig(model="RealESRGAN_Vid_x2", preset="ultrafast"))
        assert [event.job.status for event in rpc.watch(done.request_id)][-1] == pb.Job.STATUS_DONE
        config, source = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", live=True), pb.SourceChunk(data=clip)
        parts = [pb.UpscaleRequest(config=config), pb.UpscaleRequest(chunk=source), pb.UpscaleRequest(end=True)]
        assert [*rpc.call(rpc.upscale.Upscale, iter(parts))][-1].job.status == pb.Job.STATUS_DONE
        while not {"upres_frames_total", "upres_http_requests_total"} <= seen.keys():
            time.sleep(0.05)  # devices report once per second
            for family in text_string_to_metric_families(httpx.get(f"{server.base}/metrics").text):
                for sample in family.samples:
                    values = seen.setdefault(sample.name, {})
                    for name, value in sample.labels.items():
                        values.setdefault(name, set()).add(value)
    return seen


def parsed(expression):
    """Return an expression's selectors and grouping labels; ValueError if Prometheus would reject it."""
    promql = importlib.import_module("promql_parser") if os.environ.get("CI") else pytest.importorskip("promql_parser")
    selectors, grouped = [], set()

    def visit(node):
        if isinstance(node, promql.VectorSelector):
            selectors.append((node.name, {each.name: each.value for each in node.matchers.matchers}))
        elif isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)

    promql.walk(promql.parse(expression), visit)
    return selectors, grouped


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_is_there(expression, labels):
    selectors, grouped = parsed(expression)
    assert selectors
    for name, matchers in selectors:
        known = labels[name]
        assert matchers.keys() <= known.keys() | SCRAPED
        assert grouped - SCRAPED <= known.keys()
        for label in matchers.keys() - SCRAPED - {"code"}:
            assert {*matchers[label].split("|")} <= known[label]


def test_every_metric_is_shown_or_watched(labels):
    """Every metric is used, unless its parts are."""
    used = {name for expression in EXPRESSIONS for name in re.findall(r"\bupres_\w+", expression)}
    listed = {
        name for name in labels if name.startswith("upres_") and not name.endswith(("_created", "_count", "_sum"))
    }
    assert listed - used == {"upres_free_slots", "upres_free_live_slots", "upres_device_attempts"}


def test_the_dashboard_asks_an_operators_questions_in_order():
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == QUESTIONS
    assert all(panel["title"] and panel["fieldConfig"] for panel in PANELS if panel["type"] != "row")
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_means_and_what_to_do(rule, labels):
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "action"} and rule["annotations"]["action"].endswith(".")
    selectors, grouped = parsed(rule["expr"])
    known = set.intersection(*({*labels[name]} | SCRAPED for name, _ in selectors))
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert named <= (grouped or known)
