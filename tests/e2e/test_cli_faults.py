"""What an operator gets wrong: named in one line, exit 1, nothing started, and never a traceback."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit.process import accepts, free_port
from tests.kit.promgate import make_certificates, run, write_route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Site:
    """A directory in which all is right, until a fault is made."""

    def __init__(self, directory: Path, certificates: Path) -> None:
        self.directory = directory
        self.certificates = certificates
        self.port = free_port()
        self.taken: socket.socket | None = None
        self.config: dict[str, Any] = {
            "version": 1,
            "listen": [f"127.0.0.1:{self.port}"],
            "tls_server_config": {
                "cert_file": str(certificates / "localhost.crt"),
                "key_file": str(certificates / "localhost.key"),
            },
            "tokens": {"store": "sqlite:///promgate.db"},
            "routes": [write_route("http://127.0.0.1:9")],
        }

    @property
    def config_file(self) -> Path:
        return self.directory / "promgate.yml"

    def write(self) -> None:
        self.config_file.write_text(yaml.safe_dump(self.config))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("faults") / "certs").parent


@pytest.fixture
def site(tmp_path: Path, certificates: Path) -> Iterator[Site]:
    made = Site(tmp_path, certificates)
    yield made
    if made.taken:
        made.taken.close()


def _store_below_a_file(site: Site) -> str:
    site.config["tokens"]["store"] = "sqlite:///promgate.yml/promgate.db"
    return str(site.directory / "promgate.yml")


def _store_is_a_directory(site: Site) -> str:
    (site.directory / "promgate.db").mkdir()
    return str(site.directory / "promgate.db")


def _store_is_no_database(site: Site) -> str:
    (site.directory / "promgate.db").write_text("this is a diary\n" * 100)
    return str(site.directory / "promgate.db")


def _port_in_use(site: Site) -> str:
    site.taken = socket.create_server(("127.0.0.1", site.port))
    return f"127.0.0.1:{site.port}"


def _no_certificate(site: Site) -> str:
    site.config["tls_server_config"]["cert_file"] = "gone.crt"
    return str(site.directory / "gone.crt")


def _no_key(site: Site) -> str:
    site.config["tls_server_config"]["key_file"] = "gone.key"
    return str(site.directory / "gone.key")


def _certificate_is_no_pem(site: Site) -> str:
    (site.directory / "odd.crt").write_text("not PEM")
    site.config["tls_server_config"]["cert_file"] = "odd.crt"
    return str(site.directory / "odd.crt")


def _key_of_another(site: Site) -> str:
    other = make_certificates(site.directory / "other").parent / "localhost.key"
    site.config["tls_server_config"]["key_file"] = str(other)
    return str(other)


def _unknown_option(site: Site) -> str:
    site.config["lisen"] = site.config.pop("listen")
    return "listen"


def _no_routes(site: Site) -> str:
    del site.config["routes"]
    return "routes"


def _name(fault: Callable[[Site], str]) -> str:
    return fault.__name__.strip("_")


FAULTS = [
    _store_below_a_file,
    _store_is_a_directory,
    _store_is_no_database,
    _port_in_use,
    _no_certificate,
    _no_key,
    _certificate_is_no_pem,
    _key_of_another,
    _unknown_option,
    _no_routes,
]


@pytest.mark.parametrize("make_fault", FAULTS, ids=_name)
def test_serve_names_the_fault_and_starts_nothing(site: Site, make_fault: Callable[[Site], str]) -> None:
    named = make_fault(site)
    site.write()

    done = run("serve", f"--config.file={site.config_file}", timeout_s=20.0)

    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert site.taken is not None or not accepts(site.port)


@pytest.mark.parametrize("command", [["serve"], ["check"], ["token", "list"]], ids=" ".join)
def test_a_config_that_is_not_there_is_named(tmp_path: Path, command: list[str]) -> None:
    done = run(*command, f"--config.file={tmp_path / 'gone.yml'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert str(tmp_path / "gone.yml") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "make_fault", [_store_below_a_file, _store_is_a_directory, _store_is_no_database], ids=_name
)
@pytest.mark.parametrize("command", ["create", "rotate", "revoke", "show"])
def test_token_commands_name_a_store_that_cannot_be_opened(
    site: Site, make_fault: Callable[[Site], str], command: str
) -> None:
    named = make_fault(site)
    site.write()
    done = run("token", command, "agent", f"--config.file={site.config_file}")
    assert (done.returncode, done.stdout) == (1, "")
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], ["serv"], ["serve", "--config-file=x"], ["token", "rotate"]], ids=" ".join)
def test_wrong_usage_exits_2_with_the_usage(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: promgate")
