"""Products of matrices under reuse: of whatever numpy stacks, and whichever of its functions multiplies."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.integration.reused_scripts import plain_and_reused, sites

DATA = """
    import numpy as np
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 60))
    for k in range(6):
        extra = X[:, k : k + 1] ** 2
        {stack}
        print(f"{{np.linalg.norm({product}):.8g}}")
"""
STACKS = {
    "append": "Z = np.append(X, extra, axis=1)",
    "append rows": "Z = np.append(X, X[k * 100 : k * 100 + 50], axis=0)",
    "insert": "Z = np.insert(X, 0, extra[:, 0], axis=1)",
    "insert in the middle": "Z = np.insert(X, 7, extra[:, 0], axis=1)",
    "insert at the end": "Z = np.insert(X, -1, 1.0, axis=1)",
    "insert a row": "Z = np.insert(X, 10_000, X[k], axis=0)",
}
PRODUCTS = {"operator": "Z.T @ Z", "dot": "np.dot(Z.T, Z)", "method": "Z.T.dot(Z)", "matmul": "np.matmul(Z.T, Z)"}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("stack", ["append", "insert"])
def test_products_of_appended_and_inserted_columns_are_assembled_from_parts(stack: str, product: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    text = textwrap.dedent(DATA).format(stack=STACKS[stack], product=PRODUCTS[product])
    plain, reused = plain_and_reused(tmp_path, text, mode="--partial-reuse", times=1)
    assert reused == [plain]
    name = {"operator": "@", "method": "dot"}.get(product, product)
    assert sites(tmp_path)[name]["partial"] == 5  # all but the first


@pytest.mark.parametrize("mode", ["--reuse", "--partial-reuse"])
@pytest.mark.parametrize("stack", STACKS)
def test_products_of_stacks_of_every_kind_are_what_plain_python_gives(stack: str, mode: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    text = textwrap.dedent(DATA).format(stack=STACKS[stack], product="Z.T @ Z")
    plain, reused = plain_and_reused(tmp_path, text, mode=mode, times=1)
    assert reused == [plain]


def test_folds_stacked_of_two_slices_are_multiplied_once(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    text = textwrap.dedent("""
        import numpy as np
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((30_000, 24)), rng.standard_normal(30_000)

        def ridge(X, y, reg):
            A = X.T @ X + reg * np.eye(X.shape[1])
            return np.linalg.solve(A, X.T @ y)

        def loss(reg, size=5_000):
            total = 0.0
            for low in range(0, len(X), size):
                rows = np.concatenate([X[:low], X[low + size :]])
                target = np.concatenate([y[:low], y[low + size :]])
                weights = ridge(rows, target, reg)
                total += float(np.sum((y[low : low + size] - X[low : low + size] @ weights) ** 2))
            return total

        for reg in (0.1, 1.0, 10.0, 100.0, 1000.0):
            print(f"{loss(reg):.9g}")
    """)
    plain, reused = plain_and_reused(tmp_path, text, times=1)
    assert reused == [plain]
    assert sites(tmp_path)["@"]["reused"] >= 18  # the third time and later, at least: 30 products of six folds
    plain, reused = plain_and_reused(tmp_path, text, mode="--partial-reuse", times=1)
    assert reused == [plain]


def test_a_program_that_hears_what_the_interpreter_does_is_left_alone(tmp_path: Path) -> None:
    text = textwrap.dedent("""
        import sys
        opened = []

        def hook(event, arguments):
            if event == "open" and str(arguments[0]).endswith("data.txt"):
                opened.append(event)

        def burn(path):
            with open(path) as file:
                return len(file.read()) + sum(i % 7 for i in range(60_000))

        open("data.txt", "w").close()
        print([burn("data.txt") for _ in range(3)])
        sys.addaudithook(hook)
        print([burn("data.txt") for _ in range(3)], len(opened))
    """)
    plain, reused = plain_and_reused(tmp_path, text)
    assert reused == [plain, plain]
