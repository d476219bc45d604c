"""Work in other processes: the same results, one torch thread each, and what a fresh interpreter says."""

import os

import pytest

from experiments.training.fresh import last_line
from experiments.training.pool import results


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_has_its_result(workers):
    assert sorted(results(abs, [-3, 2, -1], workers)) == [1, 2, 3]


def test_workers_are_other_processes_of_one_thread():
    code = ["__import__('torch').get_num_threads()", "__import__('os').getpid()"]
    threads, process = sorted(results(eval, code, 1))
    assert threads == 1
    assert process != os.getpid()


def test_a_fresh_interpreter_says_numbers_and_its_failure():
    assert last_line("-c", "import os; print(0); print(os.environ['OMP_NUM_THREADS'])") == 1
    assert last_line("-c", "import experiments; print('\"found\"')") == "found"
    with pytest.raises(RuntimeError, match="-c raise SystemExit.* failed: no rows"):
        last_line("-c", "raise SystemExit('no rows')")
