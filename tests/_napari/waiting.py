"""Waiting for the work of a panel or a session."""


def settle(qtbot, owner):
    """Wait until the jobs of a panel or a session are done."""
    runner = owner.jobs  # the owner may be gone by then
    qtbot.waitUntil(lambda: not runner.busy, timeout=60_000)
