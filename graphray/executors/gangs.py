"""Gangs in the scheduling core: what becomes of a call that several workers make together.

All or nothing: the first member that fails, dies or is late decides for all. The others are recalled as cancelled,
which ends them where they do not end themselves; and once all are through, the call as a whole has failed, is made
again, or has its value, as if one worker had made it.
"""

from __future__ import annotations

from graphray.errors import Failure
from graphray.executors.protocol import Again, Recall, UnitDone, WorkerLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.executors.core import Core
    from graphray.executors.job import Unit
    from graphray.executors.placement import Member, Party


def member_done(core: Core, member: Member, event: UnitDone) -> None:
    """A member has ended its unit."""
    party = member.party
    value = event.values.get(party.node)
    if event.failed is not None:
        _decide(core, member, event.failed[1])
    elif event.again is not None:
        _decide(core, member, event.again)
    elif type(value) is Failure:
        _decide(core, member, value.error)
    elif party.node in event.values and not event.left:
        member.value = value
    elif party.verdict is None:
        problem = "returned a node that needs resources, or a worker, of its own: return the values that it is made of"
        _decide(core, member, TypeError(f"{party.node.label}: rank {member.rank} of a gang {problem}"))
    _end_if_all_are_through(core, party)


def member_gone(core: Core, member: Member, event: WorkerLost | None) -> None:
    """A member's worker has died of its unit, or (None) the unit was not begun."""
    if event is None:
        _decide(core, member, None)
    elif not event.recalled:
        _decide(core, member, event)
    _end_if_all_are_through(core, member.party)


def _decide(core: Core, member: Member, why: Again | WorkerLost | BaseException | None) -> None:
    """A member cannot go on, and so none can."""
    party = member.party
    first = party.verdict is None
    # Where one dies, others often fail for it, and may say so first.
    died_instead = (
        isinstance(why, WorkerLost) and party.verdict is not None and type(party.verdict[1]) is not WorkerLost
    )
    if not first and not died_instead:
        return
    assert member.unit is not None
    party.verdict = member.unit, why
    if first:
        for other in party.members:
            if not other.over and other.unit is not None:
                core._out.append(Recall(other.unit, cancelled=True))


def _end_if_all_are_through(core: Core, party: Party) -> None:
    if not all([member.over for member in party.members]):
        return
    job, node = party.job, party.node
    unit = party.members[0].unit
    assert unit is not None
    if party.verdict is None:
        unit.inputs = party.inputs
        job.finish_unit(unit, {node: tuple([member.value for member in party.members])})
        if job.cache is not None:  # no member has all of it
            if any([job.marks.get(d, 0) & 1 for d in node._deps]):
                job.marks[node] = job.marks.get(node, 0) | 1
            job.settled.append((node, node))
        unit.inputs = party.inputs = {}
        core._check_finished(job)
        return
    unit, why = party.verdict
    unit.inputs = party.inputs
    if isinstance(why, WorkerLost):
        core._judge(why, unit, node, [node])
    elif isinstance(why, BaseException):
        core._give_up(job, node, why)
    else:
        if why is not None:
            core._delay(job, why)
        job.wait_again([node])
    unit.inputs = party.inputs = {}


def describe(unit: Unit | None, what: str) -> str:
    """A call, and which member of a gang it is that made it."""
    member = unit.grant if unit is not None else None
    if member is None or member.party.request.gang is None:
        return what
    return f"{what} as rank {member.rank} of a gang of {member.party.request.gang}"
