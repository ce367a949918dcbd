"""What passes through the scheduler of a cluster when workers need something large?

A relay in front of the scheduler counts what the client sends to it; workers are reached directly.
`--megabytes` says how large the model is.
"""

from __future__ import annotations

import argparse
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from distributed import Client, LocalCluster

from relspace.rows.cluster import run_on_cluster

PARTS = 64


class Relay:
    """Passes bytes on to an address, and counts those that go there."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self._to = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self.sent = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client = self._listening.accept()[0]
            there = socket.create_connection(self._to)
            for source, target, counts in ((client, there, True), (there, client, False)):
                threading.Thread(
                    target=self._pass_on, args=(source, target, counts), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        try:
            while content := source.recv(2**20):
                target.sendall(content)
                self.sent += len(content) if counts else 0
        except OSError:
            # The other end was closed, which is how connections of a cluster end.
            pass
        source.close()
        target.close()


def count(model: torch.nn.Module, part: int) -> int:
    """What a task does here: hardly anything."""
    return sum(one.numel() for one in model.parameters()) + part


def in_the_graph(model: torch.nn.Module, client: Client) -> None:
    """The model as a task of its own, which the scheduler keeps."""
    held = client.submit(lambda one: one, model, pure=False)
    tasks = [client.submit(count, held, part, pure=False) for part in range(PARTS)]
    client.gather(tasks)  # type: ignore[no-untyped-call]


def sent(model: torch.nn.Module, client: Client) -> None:
    """The model as relspace sends it."""
    list(run_on_cluster(count, model, range(PARTS), client))


@contextmanager
def relayed_cluster() -> Iterator[tuple[Client, Relay]]:
    """Two workers, and a client that reaches their scheduler through a relay."""
    workers = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**workers) as cluster:  # type: ignore[no-untyped-call]
        relay = Relay(cluster.scheduler_address)
        with Client(relay.address) as client:  # type: ignore[no-untyped-call]
            yield client, relay


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what went to the scheduler, both ways."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=350, help="of the model; default: 350")
    megabytes = parser.parse_args(arguments).megabytes
    model = torch.nn.Linear(1000, megabytes * 250, bias=False)
    print(f"A model of {megabytes} MB, {PARTS} tasks, 2 workers\n")
    print("| | MB to the scheduler |\n|---|---:|")
    ways: dict[str, Callable[[torch.nn.Module, Client], None]] = {
        "in the graph": in_the_graph,
        "run_on_cluster": sent,
    }
    for name, way in ways.items():
        with relayed_cluster() as (client, relay):
            before = relay.sent
            way(model, client)
            print(f"| {name} | {(relay.sent - before) / 1e6:.2f} |", flush=True)


if __name__ == "__main__":
    main()
