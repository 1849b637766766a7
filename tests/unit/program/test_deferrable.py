"""Which stacks may be put off: those whose every use can do without them, and nothing else."""

from __future__ import annotations

import ast
import textwrap

import pytest

from dartvc.program.deferrable import find_uses, lendable_parameters


def function_of(text: str) -> ast.FunctionDef:
    """Parses one function."""
    node = ast.parse(textwrap.dedent(text)).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


@pytest.mark.parametrize(
    "body",
    [
        "X = np.vstack(parts); return X.T @ X",
        "X = np.vstack(parts); return [X.T @ X for _ in y]",
        "X = np.vstack(parts); n = len(X); w = X.shape[1]; return X.T @ y / n",
        "X = np.vstack(parts); y = np.vstack(targets); return solve(X, y, reg)",
        "for i in range(3):\n  X = np.vstack([p[j] for j in range(3) if j != i])\n  out = solve(X, reg=i)\n  anything(out)",
    ],
)
def test_a_stack_that_is_only_multiplied_or_handed_over_may_be_put_off(body: str) -> None:
    assert find_uses(function_of(f"def f(parts, targets, y, p, reg):\n{textwrap.indent(body, ' ')}")).deferrable


@pytest.mark.parametrize(
    "body",
    [
        "X = np.vstack(parts); return X",
        "X = np.vstack(parts); X[0] = 1; return X.T @ X",
        "X = np.vstack(parts); X += 1; return X.T @ X",
        "X = np.vstack(parts); anything(); return X.T @ X",
        "X = np.vstack(parts); parts[0][:] = 1; return X.T @ X",
        "X = np.vstack(parts); np.sqrt(y, parts[0]); return X.T @ X",
        "X = np.vstack(parts); z = np.clip(y, 0, 1, out=parts[0]); return X.T @ X",
        "X = np.vstack(parts); y.sort(); return X.T @ X",
        "X = np.vstack(parts); f = lambda: X; return X.T @ X",
        "X = np.vstack(parts); return locals(), X.T @ X",
        "X = np.vstack(parts); g = X.T @ X\nif y: X.sum()",
        "X = np.vstack(parts)\nwhile y: y = X.T @ X",
        "X = np.vstack(parts); X = X - 1; return X.T @ X",
        "X = np.vstack(parts); z = solve(X, parts.pop()); return z",
        "X = np.vstack(parts); z = solve(X, y); return X.T @ z",
        "global X; X = np.vstack(parts); return X.T @ X",
        "X = np.vstack(parts); del parts[0]; return X.T @ X",
        "X = np.vstack(parts); return (yield X.T @ X)",
        "X = np.vstack(parts); return X.T @ (z := X)",
        "X = np.vstack(parts); return solve(*y, X)",
        "X = np.vstack(parts); return solve(X, **y)",
    ],
)
def test_a_stack_that_is_used_in_any_other_way_may_not(body: str) -> None:
    uses = find_uses(function_of(f"def f(parts, y):\n{textwrap.indent(body, ' ')}"))
    assert not uses.deferrable
    assert not uses.handing


def test_a_parameter_may_be_lent_when_its_uses_come_first_and_do_without_the_array() -> None:
    found = lendable_parameters(
        function_of("""
            def f(X, y, z, w, reg):
                "What it does."
                A = X.T @ X + np.diag(np.full(X.shape[1], reg))
                b = X.T @ y
                print(z)
                w[0] = 1
                return anything(A, b)
        """)
    )
    assert found.keys() == {"X", "y"}
    assert {"np", "reg"} <= found["X"]
    assert not lendable_parameters(function_of("def f(X, *rest): return X.T @ X"))
    assert not lendable_parameters(function_of("def f(X): X = X - 1; return X.T @ X"))
    assert not lendable_parameters(function_of("def f(X):\n def g(): return X\n return X.T @ X, g"))
