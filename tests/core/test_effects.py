"""Who carries out what a session asks for."""

from typing import Any, get_args

import pytest

from edged.core import effects as fx


def test_each_effect_is_carried_out_by_the_method_of_its_name() -> None:
    """All of them, in words that are split where a capital begins; one without a method is told of at once."""
    names = ["ask", "run_pool", "run_own", "answer", "forward", "start", "control", "release", "tell", "done", "timer"]
    names += ["located", "due", "aside", "noted"]
    methods: dict[str, Any] = {f"_{name}": lambda self, seat, effect, name=name: name for name in names}
    table = fx.carried_out_by(type("Node", (), methods))
    assert list(table) == list(get_args(fx.Effect))
    assert [carry(None, None, None) for carry in table.values()] == names
    with pytest.raises(AttributeError, match="_run_own"):
        fx.carried_out_by(type("Node", (), {name: carry for name, carry in methods.items() if name != "_run_own"}))
