"""Work side by side: results in order, errors passed on, the program's threads left alone."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest
import torch

from relspace import rbf_affinity
from relspace._core.threads import side_by_side

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items(two_threads: None) -> None:
    def make():
        def slow_for_the_first(item: int) -> int:
            time.sleep(0.05 if item == 0 else 0)
            return item * item

        return slow_for_the_first

    assert side_by_side(make, range(20), CPU) == [item * item for item in range(20)]
    assert side_by_side(make, [], CPU) == []


def test_every_thread_has_a_function_of_its_own_and_one_core(two_threads: None) -> None:
    together = threading.Barrier(2, timeout=600)
    made = []

    def make():
        made.append(threading.get_ident())

        def work(item: int) -> tuple[int, bool]:
            together.wait()
            return torch.get_num_threads(), torch.is_grad_enabled()

        return work

    assert side_by_side(make, range(4), CPU) == [(1, False)] * 4
    assert len(set(made)) == 2


def test_thread_numbers_of_the_program_stay(two_threads: None) -> None:
    side_by_side(lambda: float, range(4), CPU)
    seen = []
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert torch.get_num_threads() == 2
    assert seen == [2]
    assert torch.is_grad_enabled()


def test_an_error_is_passed_on_and_the_rest_is_left(two_threads: None) -> None:
    done = []

    def work(item: int) -> None:
        if item == 3:
            raise ValueError("the third")
        time.sleep(0.001)
        done.append(item)

    with pytest.raises(ValueError, match="the third"):
        side_by_side(lambda: work, range(100_000), CPU)
    assert len(done) < 50_000


def test_results_do_not_depend_on_the_threads(two_threads: None) -> None:
    X = torch.randn(1500, 8, generator=torch.Generator().manual_seed(0))
    first = rbf_affinity(X)
    assert all(torch.equal(rbf_affinity(X), first) for _ in range(3))


def _in_child(queue, X) -> None:
    # OpenMP, which torch uses by itself, does not survive a fork with more.
    torch.set_num_threads(1)
    queue.put(float(rbf_affinity(X).sum()))


def test_a_forked_process_works(two_threads: None) -> None:
    X = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    expected = float(rbf_affinity(X).sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, X))
    child.start()
    assert queue.get(timeout=600) == pytest.approx(expected, rel=1e-6)
    child.join(timeout=600)
    assert child.exitcode == 0
