"""scripts/gpu_check.sh where its benchmarks cannot run: it says so, and ends with a failure."""
import os
import shutil
import subprocess

import pytest
from daemon import ROOT


@pytest.fixture
def machine(tmp_path):
    """PATH of a machine whose nvidia-smi lists a GPU, and which has no PyTorch."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("nvidia-smi", "#!/bin/sh\nexit 0\n"),
                       ("python3", f'#!/bin/sh\ncase "$1" in -c) exit 1;; esac\nexec {shutil.which("python3")} "$@"\n')):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "GPU_CHECK_SECONDS": "60"}


def bench(machine, tmp_path, root):
    done = subprocess.run([os.path.join(root, "scripts", "gpu_check.sh"), "--part", "bench", "--out", str(tmp_path / "out")],
                          env=machine, capture_output=True, text=True, timeout=120, check=False)
    return done, (tmp_path / "out" / "measured.md").read_text()


def copy_with_program(tmp_path, program):
    """The scripts, beside a build whose bench_gpu is `program`."""
    root = tmp_path / "root"
    shutil.copytree(os.path.join(ROOT, "scripts"), root / "scripts")
    (root / "build-dev").mkdir()
    (root / "build-dev" / "bench_gpu").write_text("#!/bin/sh\n" + program)
    (root / "build-dev" / "bench_gpu").chmod(0o755)
    return root


CASE = 'echo \'{"kernel": "copy", "shape": "8", "us": 2.0, "gb_s": 4.0, "tflop_s": 0.0}\'\n'


def test_a_failed_benchmark_stands_in_the_table_and_fails_the_part(machine, tmp_path):
    done, page = bench(machine, tmp_path, copy_with_program(tmp_path, CASE + "exit 9\n"))
    assert done.returncode == 1, done.stderr
    assert "**bench_gpu: FAILED with 9**" in page and "| copy | 8 | 2.0 | 4 |" in page
    assert "**no PyTorch that finds the GPU: nothing to compare with**" in page


def test_what_is_optional_is_said_and_fails_nothing(machine, tmp_path):
    done, page = bench(machine, tmp_path, copy_with_program(tmp_path, CASE))
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in page and "nothing to compare with" in page and "| copy | 8 |" in page


def test_a_benchmark_that_is_not_there_fails_the_part(machine, tmp_path):
    root = copy_with_program(tmp_path, "")
    (root / "build-dev" / "bench_gpu").unlink()
    done, page = bench(machine, tmp_path, root)
    assert done.returncode == 1 and "**bench_gpu: FAILED with 127**" in page
