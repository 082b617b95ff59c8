"""Alerts and silences through the gate, by the programs that people have: Prometheus, amtool, promtool."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from tests.kit.alertmanager import Alertmanager
from tests.kit.fetch import basic, bearer, fetch
from tests.kit.process import free_port
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, deliver
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.real

USERS = ("viewer", "silencer", "notifier", "admin")
RULES = {"groups": [{"name": "always", "interval": "1s", "rules": [{"alert": "Always", "expr": "vector(1)"}]}]}


class Site(NamedTuple):
    """Both programs behind one promgate. `prometheus` sends its alerts through it, as a user and as a token."""

    directory: Path
    promgate: Promgate
    prometheus: Receiver

    def amtool(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """amtool as this user; the password is the user's name."""
        config = self.directory / f"amtool-{user}.yml"
        trust = {"ca_file": str(self.promgate.ca_file)}
        config.write_text(yaml.safe_dump({"basic_auth": {"username": user, "password": user}, "tls_config": trust}))
        url = f"--alertmanager.url={self.promgate.base}/alertmanager"
        return _run(["amtool", f"--http.config.file={config}", url, *words])

    def promtool(self, kind: str, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """`promtool query KIND`: 2.42 knows credentials of the URL alone."""
        url = self.promgate.base.replace("https://", f"https://{user}:{user}@") + "/prometheus"
        return _run(["promtool", "query", kind, *words[:-1], url, words[-1]], SSL_CERT_FILE=str(self.promgate.ca_file))


def _run(command: Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env, "NO_PROXY": "*"}
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("alerting")
    write_private(directory / "promgate" / "users", htpasswd(*USERS))
    with ExitStack() as stack:
        alertmanager = stack.enter_context(Alertmanager(directory / "alertmanager"))
        upstreams = {"alertmanager": alertmanager.port, "prometheus": free_port()}
        routes = [
            {
                "name": name,
                "path": f"/{name}",
                "upstream": f"http://127.0.0.1:{port}",
                "auth": ["basic", "bearer"],
                "allow": list(USERS),
            }
            for name, port in upstreams.items()
        ]
        roles = {user: [f"basic:{user}"] for user in USERS} | {"notifier": ["basic:notifier", "token:prometheus"]}
        config = {"htpasswd_file": "users", "roles": roles, "routes": routes}
        promgate = Promgate(directory / "promgate", config)
        deliver(promgate.token("create", "prometheus", "--kind=reader"), directory / "notifier.token")
        deliver("notifier", directory / "notifier.password")
        (directory / "rules.yml").write_text(json.dumps(RULES))
        stack.enter_context(promgate)
        alerting = {"rule_files": [str(directory / "rules.yml")], "alerting": _alerting(directory, promgate)}
        prometheus = Receiver(directory / "prometheus", upstreams["prometheus"], config=alerting)
        # The first alert comes before the notifier knows of any Alertmanager; by default it is sent again in a minute.
        prometheus.command.append("--rules.alert.resend-delay=1s")
        yield Site(directory, promgate, stack.enter_context(prometheus))


def _alerting(directory: Path, promgate: Promgate) -> dict[str, Any]:
    """The `alerting` section: the same Alertmanager twice, once for each kind of credential."""
    where = {
        "scheme": "https",
        "path_prefix": "/alertmanager",
        "tls_config": {"ca_file": str(promgate.ca_file)},
        "static_configs": [{"targets": [f"127.0.0.1:{promgate.port}"]}],
    }
    user = {"username": "notifier", "password_file": str(directory / "notifier.password")}
    token = {"credentials_file": str(directory / "notifier.token")}
    return {"alertmanagers": [{**where, "basic_auth": user}, {**where, "authorization": token}]}


def test_a_rule_that_fires_arrives_by_either_credential(site: Site) -> None:
    notifiers = {"basic:notifier", "token:prometheus"}
    wait_for(lambda: notifiers <= {line["identity"] for line in site.promgate.requests()}, "both credentials")
    listed = site.amtool("viewer", "--output=json", "alert", "query", "alertname=Always")
    assert listed.returncode == 0, listed.stderr
    (alert,) = json.loads(listed.stdout)
    assert alert["generatorURL"].startswith("http://localhost/prometheus/graph?")
    assert site.prometheus.value("ALERTS{alertstate='firing'}") == 1
    lines = [line for line in site.promgate.requests() if line["identity"] in notifiers]
    assert {(line["method"], line["path"], line["status"]) for line in lines} == {
        ("POST", "/alertmanager/api/v2/alerts", 200)
    }
    own = fetch(f"{site.prometheus.base}/metrics").body.decode()
    errors = [line for line in own.splitlines() if line.startswith("prometheus_notifications_errors_total")]
    assert [line.rpartition(" ")[2] for line in errors] == ["0"], own


@pytest.mark.parametrize("shown", ["basic", "bearer"])
def test_who_notifies_may_do_nothing_else(site: Site, shown: str) -> None:
    token = (site.directory / "notifier.token").read_text().strip()
    headers = basic("notifier", "notifier") if shown == "basic" else bearer(token)
    for method, path in [
        ("GET", "/alertmanager/api/v2/alerts"),
        ("GET", "/alertmanager/api/v2/silences"),
        ("POST", "/alertmanager/api/v2/silences"),
        ("DELETE", "/alertmanager/api/v2/silence/x"),
        ("GET", "/alertmanager/api/v2/status"),
        ("GET", "/alertmanager/"),
        ("POST", "/alertmanager/-/reload"),
        ("GET", "/alertmanager/api/v2/alerts/groups"),
        ("GET", "/prometheus/api/v1/query"),
        ("POST", "/prometheus/api/v1/query"),
        ("GET", "/prometheus/metrics"),
    ]:
        answer = fetch(
            site.promgate.base + path, method=method, body=b"[]", headers=headers, ca_file=site.promgate.ca_file
        )
        assert (method, path, answer.status) == (method, path, 403)


@pytest.mark.parametrize("user", ["silencer", "admin"])
def test_amtool_makes_lists_and_ends_a_silence(site: Site, user: str) -> None:
    added = site.amtool(user, "silence", "add", f"alertname={user}", "--comment=test", "--duration=1h")
    assert added.returncode == 0, added.stderr
    silence = added.stdout.strip()
    listed = site.amtool("viewer", "silence", "query", "--quiet", f"alertname={user}")
    assert (listed.returncode, listed.stdout.split()) == (0, [silence])
    refused = site.amtool("viewer", "silence", "expire", silence)
    assert refused.returncode == 1
    assert "403" in refused.stderr
    assert site.amtool(user, "silence", "expire", silence).returncode == 0
    assert site.amtool("viewer", "silence", "query", "--quiet", f"alertname={user}").stdout == ""
    expired = site.amtool("viewer", "silence", "query", "--quiet", "--expired", f"alertname={user}")
    assert expired.stdout.split() == [silence]


@pytest.mark.parametrize("user", ["viewer", "notifier"])
def test_amtool_of_others_is_refused(site: Site, user: str) -> None:
    added = site.amtool(user, "silence", "add", "alertname=Never", "--comment=test", "--duration=1h")
    assert (added.returncode, added.stdout) == (1, "")
    assert "403" in added.stderr
    assert site.amtool("admin", "silence", "query", "--quiet", "alertname=Never").stdout == ""


def test_amtool_adds_an_alert_as_notifier_and_shows_the_config_to_a_viewer(site: Site) -> None:
    assert site.amtool("notifier", "alert", "add", "alertname=ByHand").returncode == 0
    assert site.amtool("viewer", "alert", "add", "alertname=Never").returncode == 1
    seen = site.amtool("viewer", "--output=json", "alert", "query", "alertname=~ByHand|Never")
    assert [alert["labels"]["alertname"] for alert in json.loads(seen.stdout)] == ["ByHand"]
    assert "receiver: nobody" in site.amtool("viewer", "config", "show").stdout


def test_amtool_with_a_wrong_password(site: Site) -> None:
    refused = site.amtool("nobody", "silence", "query")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "401" in refused.stderr


@pytest.mark.parametrize("user", ["viewer", "admin"])
def test_promtool_queries(site: Site, user: str) -> None:
    wait_for(lambda: site.prometheus.value("ALERTS"), "the rule to fire")
    instant = site.promtool("instant", user, "ALERTS")
    assert (instant.returncode, instant.stderr) == (0, "")
    assert 'ALERTS{alertname="Always", alertstate="firing"} => 1 @[' in instant.stdout
    ranged = site.promtool("range", user, "--step=1s", "ALERTS")
    assert ranged.returncode == 0
    assert ranged.stdout.count(" @[") >= 1


@pytest.mark.parametrize(("user", "status"), [("notifier", "403"), ("nobody", "401")])
def test_promtool_of_others_is_refused(site: Site, user: str, status: str) -> None:
    done = site.promtool("instant", user, "vector(1)")
    assert (done.returncode, done.stdout) == (1, "")
    assert status in done.stderr
