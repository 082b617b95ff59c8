"""Each file in config/ loads, beside a directory of certificates, as it stands and without a warning."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from proxy.config.read import load

EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.yml"))


def test_there_are_examples():
    assert {path.name for path in EXAMPLES} >= {"promgate.yml", "minimal.yml", "plaintext-loopback.yml"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example(example, tmp_path, certs):
    shutil.copytree(certs, tmp_path / "certs")
    directory = tmp_path / "config"
    directory.mkdir()
    shutil.copy(example, directory)
    (directory / "id.example.net.jwks.json").write_text('{"keys": [{"kty": "EC", "crv": "P-256"}]}')
    (directory / "users.htpasswd").write_text("eve:$2y$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi\n")
    for name in ("ca.crt", "promgate.crt", "promgate.key", "alerts.crt", "alerts.key"):
        shutil.copy(certs / f"server.{name[-3:]}", tmp_path / "certs" / name)
    (tmp_path / "certs" / "ca.crl").write_text("-----BEGIN X509 CRL-----\n")
    for name in ("alertmanager.password", "mimir.token", "introspection.secret", "webhook.key", "oncall.password",
                 "oidc.secret", "github.secret"):
        (directory / name).write_text("secret\n")
        (directory / name).chmod(0o600)
    (directory / "users.htpasswd").chmod(0o600)
    loaded = load(directory / example.name)
    assert loaded.snapshot.routes
    assert loaded.warnings == []


PAGE = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()
LOGINS = re.findall(r"### (\S+)[^\n]*\n\n```yaml\n(oauth2:\n.*?)```", PAGE, re.DOTALL)


def test_there_is_a_login_for_each_provider():
    assert [name for name, _ in LOGINS] == ["Google", "Keycloak", "Entra", "Okta", "Dex", "GitHub"]


@pytest.mark.parametrize("block", [block for _, block in LOGINS], ids=[name for name, _ in LOGINS])
def test_login_of_the_documentation(block, tmp_path):
    """What the page has ready for a provider loads, and without a warning."""
    (secret,) = re.findall(r"client_secret_file: (\S+)", block)
    (tmp_path / secret).write_text("secret\n")
    (tmp_path / secret).chmod(0o600)
    rest = """external_url: https://noc.example.net
listen: 127.0.0.1:9443
trusted_proxies: 127.0.0.1
routes: [{name: r, path: /, upstream: "http://127.0.0.1:9090", auth: oauth2, allow: admin}]
"""
    (tmp_path / "promgate.yml").write_text(block + rest)
    loaded = load(tmp_path / "promgate.yml", env={})
    assert loaded.warnings == []
    (provider,) = loaded.snapshot.people
    assert provider.client_secret == "secret"
    assert provider.known == loaded.snapshot.roles.keys()
