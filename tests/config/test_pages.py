"""Each block of YAML in README.md and docs/ that is a part of promgate's configuration loads, and without a warning."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from proxy.config.read import load
from proxy.config.schema import Config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: What blocks of others begin with: Prometheus, the OpenTelemetry collector, Traefik, Envoy and amtool.
OF_OTHERS = {"remote_write", "extensions", "http", "static_resources", "basic_auth", "alerting"}
KEYS = set(Config.__annotations__)
HASH = "$2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi"
SECRETS = re.compile(r"[\w-]+\.(?:secret|password|key)\b")
#: What a block may take for granted: it is about something else.
REST = {
    "listen": "127.0.0.1:9443",
    "external_url": "https://noc.example.net",
    "basic_auth_users": dict.fromkeys(("ann", "root", "canary", "notifier"), HASH),
    "tokens": {"store": "sqlite:///promgate.db"},
    "roles": {"viewer": ["basic:ann", "basic:canary"], "admin": ["basic:root"]},
    "routes": [
        {
            "name": "remote-write",
            "path": "/prometheus/api/v1/write",
            "methods": "POST",
            "upstream": "http://127.0.0.1:9090",
            "kind": "remote_write",
            "auth": "write_token",
            "allow": "write",
        },
        {
            "name": "prometheus",
            "path": "/prometheus",
            "upstream": "http://127.0.0.1:9090",
            "auth": "basic",
            "allow": ["viewer", "admin"],
        },
    ],
}


def blocks():
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r"```ya?ml\n(.*?)```", text, re.DOTALL):
            yield pytest.param(found[1], id=f"{page.name}:{text[: found.start()].count(chr(10)) + 2}")


BLOCKS = list(blocks())


def is_ours(block):
    return not OF_OTHERS & set(yaml.safe_load(block.values[0]))


def test_the_pages_have_blocks():
    ours = [block.id.partition(":")[0] for block in BLOCKS if is_ours(block)]
    assert {"README.md", "delivery.md", "people.md", "rotation.md", "console.md", "audit.md"} <= set(ours)
    assert ours.count("README.md") >= 2


@pytest.mark.parametrize("block", [block for block in BLOCKS if is_ours(block)])
def test_a_block_of_a_page_loads(block, tmp_path, certs):
    """Beside a directory of certificates and the files that it names; what it does not speak of is added."""
    written = yaml.safe_load(block.replace("$2b$10$...", HASH).replace("/var/log/promgate/", f"{tmp_path}/"))
    assert set(written) <= KEYS, "a key that promgate does not have, or a program that this test does not know"
    (tmp_path / "certs").mkdir()
    for name in ("server.crt", "server.key", "ca.crt"):
        shutil.copy(certs / f"server.{name[-3:]}", tmp_path / "certs" / name)
    for name in SECRETS.findall(block):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("a secret of at least 24 bytes\n")
    tls = {"cert_file": "certs/server.crt", "key_file": "certs/server.key"}
    merged = {**REST, "tls_server_config": tls, **written}
    for section in ("tokens", "roles"):
        merged[section] = {**REST[section], **written.get(section, {})}
    if "oauth2" in written and "routes" not in written:
        merged["routes"] = [REST["routes"][0], {**REST["routes"][1], "auth": ["basic", "oauth2"]}]
    config = tmp_path / "promgate.yml"
    config.write_text(yaml.safe_dump(merged))
    loaded = load(config, env={})
    assert loaded.snapshot.routes
    assert loaded.warnings == []
