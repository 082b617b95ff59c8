"""Each file in config/ loads, beside a directory of certificates, as it stands and without a warning."""

from __future__ import annotations

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
