"""The machine on its own: stopped, and going on."""

from __future__ import annotations

import graphray as gr
from graphray.executors.machine import Machine


def test_what_was_recalled_is_left_to_others_when_the_rest_goes_on():
    """As in a worker that cannot send what a task returned, and runs that itself."""
    machine = Machine("w")
    called = []

    def returns_a_node():
        machine.halt = True  # a recall, from another thread
        machine.recalled = machine.not_begun()
        return gr.call(called.append, "inner")

    given = gr.call(int)
    dynamic = gr.call(returns_a_node)
    recalled = gr.call(called.append, given)
    order = [given, dynamic, recalled]
    machine.load(order, [dynamic, recalled], {})
    assert not machine.run()
    assert machine.recalled == [recalled]
    assert machine.left()[-1] is recalled
    assert len(machine.left()) == 2, "the node that was returned, and the one that was recalled"
    machine.go_on()
    assert machine.run()
    assert called == ["inner"]
    assert machine.left() == [recalled]
    assert machine.exported([dynamic, recalled], machine.left()) == {dynamic: None, given: 0}, "also what it needs"
