"""The pytest plugin: there when the package is installed, told nothing, and no burden for those who have no saga."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Installed:
    """A folder of tests, with the package installed as far as pytest can tell: its entry points."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]["pytest11"]
        there = folder / "site" / "saga_kafka-0.dist-info"
        there.mkdir(parents=True)
        (there / "METADATA").write_text("Metadata-Version: 2.1\nName: saga-kafka\nVersion: 0\n", encoding="utf-8")
        lines = [f"{name} = {place}" for name, place in points.items()]
        (there / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]), encoding="utf-8")
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)])}

    def pytest(self, code: str, *options: str) -> subprocess.CompletedProcess[str]:
        test = self.folder / "test_it.py"
        test.write_text(textwrap.dedent(code), encoding="utf-8")
        line = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", f"--rootdir={self.folder}"]
        return subprocess.run(
            [*line, *options, str(test)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_a_test_asks_for_a_bench_and_its_failure_tells_the_story(installed: Installed) -> None:
    done = installed.pytest(
        """
        from saga.testing import MakeBench
        from tests.ops.shop import OrderPlaced, PaymentDeclined, PaymentTaken, TakePayment, make

        def test_declined(bench: MakeBench) -> None:
            b = bench(make())
            b.refuse(TakePayment, PaymentDeclined(reason="no money"))
            assert b.start(OrderPlaced(order_id="o1", total=42)).outcome == "compensated"

        def test_two_benches_of_one_test(bench: MakeBench) -> None:
            for number, b in enumerate([bench(make()), bench(make(), seed=7)]):
                b.refuse(TakePayment, PaymentDeclined(reason="no money"))
                order = b.start(OrderPlaced(order_id=f"order-{number}", total=42))
            assert order.outcome == "completed"
        """
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    for story in ("shop order-0 · compensated", "shop order-1 · compensated", "payment says payment.declined.v1"):
        assert story in done.stdout


def test_a_pytest_without_sagas_loads_nothing_of_it(installed: Installed) -> None:
    done = installed.pytest(
        """
        import sys

        def test_nothing_is_loaded() -> None:
            ours = {name for name in sys.modules if name == "saga" or name.startswith("saga.")}
            assert ours == {"saga", "saga.lazy", "saga.testing", "saga.testing.plugin"}
            assert not {"pydantic", "sqlalchemy", "aiokafka"} & sys.modules.keys()
        """,
        "--strict-markers",
        "--strict-config",
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_fixture_of_the_project_comes_first(installed: Installed) -> None:
    done = installed.pytest(
        """
        import pytest

        @pytest.fixture
        def bench() -> str:
            return "wood"

        def test_mine(bench: str) -> None:
            assert bench == "wood"
        """
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
