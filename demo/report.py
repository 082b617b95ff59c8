"""Everything that the show says: what runs, how to reach it, a line for each rotation, the table at the end.

Secrets are never printed, only the files that hold them: the lines to paste read them from there.
"""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from demo.parts import COUNTER, OVERLAP_S
from demo.screen import short

if TYPE_CHECKING:
    from demo.parts import Parts
    from demo.rotation import Count, Move
    from tests.kit.process import Process

WAITING = "\nWaiting for the first samples: an agent begins to scrape after 5 s ..."

_COLUMNS = "  {:<3} {:<22} {:<15} {:<19} {:>5} {:>7} {:>5}"


def started(name: str, program: Process) -> str:
    return f"  {name:<22} {short(program.log_file)}"


def made(parts: Parts) -> str:
    """The files that somebody wants to see, and the URLs."""
    files = {
        "password of admin": parts.password_file,
        "token of the agent": parts.token_file,
        "promgate's authority": parts.ca_file,
        "every request": parts.promgate.config_file.with_name("access.log"),
    }
    named = "\n".join(f"  {what:<22} {short(file)}" for what, file in files.items())
    return f"""
Made for this run, secrets 0600:
{named}

Open in a browser, and log in as admin with the password in {short(parts.password_file)} (the browser warns first: it
does not know promgate's authority):
  {"Prometheus, a graph":<22} {parts.url}/prometheus/classic/graph?g0.expr={COUNTER}&g0.tab=0&g0.range_input=5m
  {"Prometheus, all":<22} {parts.url}/prometheus/
  {"Alertmanager":<22} {parts.url}/alertmanager/ (Debian's has no web interface: below is amtool)"""


def heading(rotations: int, every_s: int) -> str:
    return f"""
The agent scrapes a counter each second and sends it through promgate. Its token is rotated {rotations} times,
{every_s} s apart; each old one is accepted for {OVERLAP_S} s more. Nothing is restarted or reloaded.

{_COLUMNS.format("", "token", "both accepted", "agent moved after", "sent", "stored", "lost")}"""


def line(number: str, move: Move, count: Count) -> str:
    tokens = f"{move.old_id} -> {move.new_id}"
    after = f"{move.moved_after_s:.1f} s"
    return _COLUMNS.format(number, tokens, f"{OVERLAP_S} s", after, count.sent, count.stored, count.lost)


def total(count: Count) -> str:
    under_way = f", under way {count.under_way}" if count.under_way else ""
    return f"sent {count.sent}, stored {count.stored}, lost {count.lost}{under_way}"


def by_hand(move: Move, count: Count) -> str:
    after = f"{move.moved_after_s:.1f} s"
    return f"You rotated {move.old_id} -> {move.new_id}: the agent moved after {after}; {total(count)}"


def not_taken(parts: Parts) -> str:
    return f"{short(parts.token_file)} has changed, but the agent delivers nothing with what it holds now"


def summary(count: Count, rotations: int, given_up: float) -> str:
    verdict = "Not one sample was lost" if not count.lost and not given_up else "SAMPLES WERE LOST"
    return f"""
{verdict} in {rotations} rotations: {total(count)} (given up by the agent: {given_up:.0f})"""


def lines_to_paste(parts: Parts) -> dict[str, str]:
    """What to try -> the line, for a shell in the checkout. Every one of them is run by tests/e2e/test_demo.py."""
    curl = f"curl -sS {_past_a_proxy()}--cacert {short(parts.ca_file)}"
    admin = f'{curl} -u "admin:$(cat {short(parts.password_file)})"'
    agent = f'{curl} -H "Authorization: Bearer $(cat {short(parts.token_file)})"'
    prometheus, alertmanager = f"{parts.url}/prometheus", f"{parts.url}/alertmanager"
    command = f"{short(parts.python)} -m proxy token"
    config = f"--config.file={short(parts.promgate.config_file)}"
    token = short(parts.token_file)
    return {
        "what is stored": f"{admin} '{prometheus}/api/v1/query?query={COUNTER}'",
        "raise an alert (prints nothing)": (
            f"""{admin} -H 'Content-Type: application/json' -d '[{{"labels":{{"alertname":"Demo"}}}}]' """
            f"{alertmanager}/api/v2/alerts"
        ),
        "and see it": f"{admin} {alertmanager}/api/v2/alerts",
        "silence it (prints the silence's id)": (
            f"amtool --http.config.file={short(parts.amtool_file)} --alertmanager.url={alertmanager} "
            "silence add alertname=Demo --comment=demo --author=demo"
        ),
        "no credentials (401)": f"{curl} -i {prometheus}/api/v1/labels",
        "the agent's token writes, and reads nothing (403)": f"{agent} -i {prometheus}/api/v1/labels",
        "its tokens, old and new": f"{command} show agent {config}",
        "rotate it yourself (and watch here)": (
            f"(umask 077; {command} rotate agent {config} >{token}.new && mv {token}.new {token})"
        ),
    }


def invitation(parts: Parts) -> str:
    tries = "\n".join(f"  # {what}\n  {each}" for what, each in lines_to_paste(parts).items())
    return f"""
Try it in another terminal:
  cd {Path.cwd()}
{tries}"""


def going_on(seconds: float | None) -> str:
    return "All goes on. " + ("Ctrl-C ends it." if seconds is None else f"It ends in {seconds:g} s.")


def _past_a_proxy() -> str:
    """For curl, where the environment names a proxy and does not except this machine."""
    named = urllib.request.getproxies().keys() & {"https", "all"}
    return "--noproxy localhost " if named and not urllib.request.proxy_bypass("localhost") else ""
